/* view.h - the studio's screen as a value: keys and events in, cells and wishes out.
 *
 * No I/O, no clock, no curses, no engine: every screen can be tested as text.
 * What the user wants done comes back as a `struct wish`; who owns the engine
 * and the disk does it and tells the view how it went. view.c keeps what all
 * screens share (jobs, picture, message, the stack of screens); each screen is a
 * file of its own (screen.h); keys are rows of one table (keys.h).
 *
 * All functions are for one thread, and none blocks. A refusal of memory while
 * drawing or typing costs what was being drawn or typed, never the program. */
#ifndef SLUICE_VIEW_H
#define SLUICE_VIEW_H

#include "engine/event.h"
#include "engine/job.h"
#include "engine/model.h"
#include "tui/draw.h"
#include "tui/keys.h"
#include "tui/wish.h"

enum { VIEW_PROMPT_MAX = 256 * 1024, VIEW_PATH_BYTES = 4096 };

struct view_options {
    const char *device;   /* "cpu" */
    int threads;          /* as shown; 0: unknown */
    const struct job *start; /* what the form begins with, and what it does not show goes into
                                each job as it is; NULL: the model's defaults */
    const char *out_dir;  /* where results go, shown and offered for saving */
    const char *home;     /* shown as ~; NULL: none */
    bool pictures;        /* false: --graphics=none */
    const struct keys *keys; /* NULL: the emacs-like set */
    const char *preset, *profile; /* names of what `start` came from, for the title; NULL: none */
    const struct job *loaded; /* what they alone say, to tell what was edited; NULL: as start */
    bool mouse;           /* it is on */
};

struct view;

/* Copies what it needs of m and o. */
bool view_new(struct view **out, const struct model *m, const struct view_options *o, struct err *e);
void view_free(struct view *v); /* NULL is fine */

/* Cells; px of one cell, for a picture's proportions (0: unknown, 10x20 is
 * assumed); px of the largest picture the terminal draws (0: no limit). */
struct view_screen { int cols, rows, cell_w, cell_h, picture_w, picture_h; };
void view_resize(struct view *v, struct view_screen s);
/* Tells the time (monotonic). While view_busy, call it a few times a second. */
void view_tick(struct view *v, int64_t now_ms);
bool view_busy(const struct view *v); /* a job runs or waits */

struct wish view_key(struct view *v, const struct key *k);

/* Takes over ev's image and zeroes ev. */
void view_event(struct view *v, struct event *ev);

/* After WISH_GENERATE: the job as typed, checked, into *out (which the caller
 * frees) but for `out` and, when *random_seed, `seed`, which are the caller's to
 * choose. */
bool view_request(struct view *v, struct job *out, bool *random_seed, struct err *e);
/* The same while it is being typed, for a plan: nothing is checked or said. False:
 * a field cannot be read (or no memory). */
bool view_job(const struct view *v, struct job *out, struct err *e);
/* Counts up whenever that job may have changed. */
uint64_t view_changes(const struct view *v);
void view_submitted(struct view *v, uint64_t id, const struct job *j);
void view_refused(struct view *v, const char *text);

/* A preset, a profile or a picture's settings into the form. Everything is as loaded
 * then: nothing is edited. NULL names: none. False: no memory, and nothing has changed. */
bool view_load(struct view *v, const struct job *j, const char *preset, const char *profile, struct err *e);
/* One setting, wherever it is shown. False: the text is no value of it. */
struct setting;
bool view_set(struct view *v, const struct setting *s, const char *text, struct err *e);
/* Does what Enter would start differ from the preset, the profile, as loaded? */
void view_edited(const struct view *v, bool *preset, bool *profile);

/* The prompts as typed: 0 the prompt, 1 the negative one. Borrowed until the next key. */
enum { VIEW_PROMPTS = 2 };
const char *view_prompt(const struct view *v, int which);
/* How many tokens that has for either encoder, of how many that one takes, and how many of its bytes it sees. */
struct view_tokens { int clip, clip_most, t5, t5_most; size_t clip_fits, t5_fits; };
void view_tokens(struct view *v, int which, const struct view_tokens *t);

/* Prompts used before, newest first; copied. Those of this session stay before them. */
void view_prompts(struct view *v, const char *const *texts, int count);

/* The picture on screen if it is a result (not a preview); all borrowed until
 * the next event. */
struct view_result {
    const struct image *image; /* NULL: there is none */
    const struct job *job;     /* it came from; NULL: unknown */
    uint64_t seed;             /* of this picture */
    const char *path;          /* of its file; "" if it could not be saved */
};
struct view_result view_result(const struct view *v);
void view_saved(struct view *v, bool ok, const char *path_or_reason);

enum view_mood { VIEW_INFO, VIEW_GOOD, VIEW_WARN, VIEW_BAD };
void view_say(struct view *v, enum view_mood mood, const char *text);

/* Draws into g, resizing it. False only when memory is refused. */
bool view_draw(struct view *v, struct grid *g, struct err *e);

#endif
