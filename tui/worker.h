/* worker.h - the one thread that does the studio's slow work: files copied,
 * thumbnails made, a plan, a search. So typing never waits for a disk.
 *
 * A job is a struct that begins with struct worker_job. It belongs to whoever
 * submits it until then, to the worker until it comes back by worker_take, and
 * then again to the caller, also if it was never run. All functions are for the
 * loop's thread but `run`, which has the worker's. */
#ifndef SLUICE_WORKER_H
#define SLUICE_WORKER_H

#include "kernels/err.h"

struct worker;

/* Kinds are the caller's: 0 for what must be done each time; of any other only the
 * newest is worth doing, and takes the place of one that still waits. */
struct worker_job {
    struct worker_job *next;          /* the worker's */
    int kind;
    bool ran;                         /* false when it comes back: it was replaced, or the end came first */
    void (*run)(struct worker_job *); /* on the worker's thread */
    void (*done)(struct worker_job *, void *owner); /* called by worker_take's caller: uses the result, frees the job */
};

bool worker_start(struct worker **out, struct err *e);
/* In the order they came. */
void worker_submit(struct worker *w, struct worker_job *j);
/* A job that is done, replaced or dropped; NULL: none now. */
struct worker_job *worker_take(struct worker *w);
/* poll() this for POLLIN: worker_take has something. */
int worker_fd(const struct worker *w);
/* The job that runs is waited for, those that wait are not run; all of them come
 * back by worker_take. Then no more can be submitted. */
void worker_stop(struct worker *w);
void worker_free(struct worker *w); /* after worker_stop and the last worker_take; NULL is fine */

#endif
