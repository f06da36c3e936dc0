/* pane_memory.h - where the memory of a picture goes: the plan as bars, what is
 * really in use drawn on them.
 *
 * Two jobs may be meant. The plan is that of the job that Enter would start; use is told by
 * the job that runs. They are drawn on each other where both have an arena of the same
 * bytes, which is so when nothing that counts was changed in between. Pure. */
#ifndef SLUICE_PANE_MEMORY_H
#define SLUICE_PANE_MEMORY_H

#include "engine/event.h"
#include "engine/plan.h"
#include "tui/draw.h"

enum { MEMORY_SECONDS = 60 };

/* What the last minute's EVENT_MEMORYs have told. All zero to begin with. */
struct memory_history {
    size_t used[MEMORY_SECONDS]; /* of the arena, a second each, oldest first */
    int count;
    int64_t second;              /* the newest, monotonic */
    uint64_t link_bytes;         /* at link_ms */
    int64_t link_ms;
    double link_rate;            /* bytes per second; 0: nothing is brought */
};
void memory_history_note(struct memory_history *h, int64_t now_ms, const struct event_memory *m);

struct pane_memory {
    const struct plan_summary *plan;  /* NULL: none is known yet */
    bool unreadable;                  /* ... since a field cannot be read */
    const struct event_memory *now;   /* NULL: none was told yet */
    const struct memory_history *history;
    bool running;
    enum stage stage;                 /* that runs */
    const bool *seen;                 /* [STAGE_COUNT]: stages of this picture that have begun */
    const char *remedy;               /* said below a plan that does not do; or "" */
};

/* Is what runs the job of the plan, as far as memory goes? */
bool pane_memory_same(const struct pane_memory *m);
/* Into r, the inside of a box. */
void pane_memory_draw(struct grid *g, struct rect r, const struct pane_memory *m);
/* The most important of it in one row. */
void pane_memory_line(struct grid *g, struct rect r, const struct pane_memory *m);

/* "peaks at 6.9 of 8.0 GB in T5". */
const char *plan_peak_text(const struct plan_summary *p, char buf[64]);
/* "12.6 s", "3:05"; "n/a": unknown. */
const char *plan_time_text(double seconds, char buf[16]);

#endif
