/* studio.h - the loop between the terminal, the view and an engine.
 *
 * The engine is given as its calls, so that the tests run the whole studio
 * in a pseudo-terminal with an engine whose timing they know. */
#ifndef SLUICE_STUDIO_H
#define SLUICE_STUDIO_H

#include "engine/engine.h"
#include "tui/graphics.h"
#include "tui/keys.h"
#include "tui/theme.h"

/* As engine/engine.h has them. */
struct studio_engine {
    void (*stop)(struct engine *g);
    const struct model *(*model)(const struct engine *g);
    bool (*submit)(struct engine *g, const struct job *j, uint64_t *id, struct err *e);
    void (*cancel)(struct engine *g, uint64_t id);
    void (*pause)(struct engine *g);
    void (*resume)(struct engine *g);
    bool (*poll)(struct engine *g, struct event *out);
    int (*fd)(const struct engine *g);
    /* For the worker's thread. NULL: no plans; no prediction of time. */
    void (*foresee)(struct engine *g, const struct job *j, struct plan_summary *out);
    bool (*foresee_speed)(struct engine *g, const struct job *j, struct err *e);
};

struct studio_options {
    enum graphics graphics;
    const struct job *start; /* what the form begins with; NULL: the model's defaults */
    const struct job *loaded; /* what preset and profile alone say; NULL: as start */
    const char *preset, *profile; /* their names; NULL: none */
    const struct profile *memory; /* the profile of that name; NULL: none */
    const char *out_dir;  /* NULL: the pictures folder of the user, /sluice in it */
    const struct keys *keys;   /* NULL: the emacs-like set */
    const struct theme *theme; /* NULL: auto */
    bool mouse;
};

/* Runs until the user leaves, then stops g (which it owns from the start, also
 * on failure). The exit status; a failure is said on stderr, after the terminal
 * has been put back. */
int studio_run(const struct studio_options *o, struct engine *g, const struct studio_engine *calls);

#endif
