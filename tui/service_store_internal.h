/* service_store_internal.h - what the parts of the service share: service_store.c (the
 * store, tasks, the engine), service_queue.c (jobs into the queue, and what is wished of
 * them), service_history.c (the gallery).
 *
 * Whatever touches the disk is a task: `work` on the worker's thread, `then` back on
 * the loop's. The store is the worker's alone, and tasks run in the order they came, so
 * nothing here needs a lock. A task that may have changed the queue brings its new
 * list back. Folders are looked through on a second thread with a store of its
 * own, since that may take minutes. */
#ifndef SLUICE_SERVICE_STORE_INTERNAL_H
#define SLUICE_SERVICE_STORE_INTERNAL_H

#include "tui/prompts.h"
#include "tui/service_store.h"
#include "tui/worker.h"

#include <limits.h>
#include <stdatomic.h>

/* Of these only the newest is worth doing (worker.h); the others are 0. */
enum { KIND_STEP = 1, KIND_LIST, KIND_THUMBS, KIND_OPEN, KIND_RECORD };
enum { ENDED_KEPT = 100, MANY_JOBS = 20, THUMBS_MAX = 256, EXPORT_BYTES_MAX = 1 << 30, NAME_BYTES = 256 };

/* Jobs that are to be queued. */
struct batch {
    int count;
    struct job *at; /* [count], owned */
    char preset[NAME_BYTES];
};

/* What the engine has: a job of the queue, or a contact sheet. */
struct at_work {
    uint64_t engine_id; /* 0: nothing */
    int64_t id;         /* in the queue; a sheet has none */
    struct job job;
    char preset[NAME_BYTES];
    int step;
};

struct service_store {
    struct service_store_options o;
    struct worker *worker, *scanner; /* scanner: NULL until a folder is looked through */
    char model[PATH_MAX];            /* as the queue knows it */
    /* the worker's */
    struct store *store;
    char why[512];       /* there is none */
    char temporary[128]; /* the folder of one that is not the user's; "": it is */
    char stamp[32];
    int stamp_used;      /* names given out with this stamp */
    /* the loop's */
    struct at_work work, sheet;
    struct batch many;   /* what view_ask_many asks about */
    char path[PATH_MAX]; /* of the database */
    int64_t next[2];     /* the first that can run, 0: none */
    bool asking;  /* what is left from the last time waits for an answer */
    bool held;    /* nothing begins: until something is queued */
    bool claiming, paused, stopping, closed, changed;
    atomic_bool stop_scan;
};

struct task {
    struct worker_job job; /* first */
    struct service_store *s;
    bool (*work)(struct task *t, struct err *e);
    void (*then)(struct task *t); /* NULL: a failure is said */
    bool lists;                   /* the queue's list comes back with it */
    bool ok;
    struct err e;
    /* asked */
    int64_t id, working, ids[THUMBS_MAX];
    int number, what;
    char *text, preset[NAME_BYTES];
    struct job j;
    struct batch batch;
    struct event event;
    bool trash;
    int offset, limit;
    uint64_t serial;
    /* answered */
    struct store_queue queue;
    struct store_job row;
    struct store_page page;
    struct store_picture picture;
    struct store_scan found;
    struct prompts prompts;
    struct image *image, *images[THUMBS_MAX];
    int interrupted, waiting;
};

/* NULL: memory is refused, and that has been said. */
struct task *task_new(struct service_store *s, bool (*work)(struct task *, struct err *), void (*then)(struct task *));
/* One that changes the queue, about its job `id`. */
struct task *task_of_queue(struct service_store *s, int64_t id, bool (*work)(struct task *, struct err *),
                           void (*then)(struct task *));
void task_start(struct task *t, int kind);
void task_free(struct task *t); /* one that was not started */

/* A copy of j into b. */
bool batch_add(struct batch *b, const struct job *j, struct err *e);
void batch_free(struct batch *b);

/* Is it a job of this studio's model, and no other program's; and if so, can it still be run? */
bool service_ours(const struct service_store *s, const struct store_job *r);
bool service_left(const struct service_store *s, const struct store_job *r);
/* The list to the view; q is empty then. */
void service_show_queue(struct service_store *s, struct store_queue *q);

/* service_queue.c */
void service_generate(struct service_store *s);
void service_queue(struct service_store *s, const struct wish *w);
void service_sheet(struct service_store *s, int seeds);
void service_finish_sheet(struct service_store *s);
/* service_history.c */
void service_history(struct service_store *s, const struct wish *w);
void service_prompts(struct service_store *s); /* those used before, to the view */

#endif
