/* pager.h - a stage's weights on the device, resident or streamed.
 *
 * A stage asks for its weights one operation after the other, always in the
 * same order; running it once on the count device records that order (a
 * trace). From it and a placement the pager brings weights to the device before
 * they are asked for: a reader thread copies them from the mapped file, in
 * order, into one of two places in the device's arena:
 *   resident: copied once, at its first use, and kept;
 *   streamed: copied into a ring and given up after the operation that used it,
 *   again in every repetition (a step of sampling).
 * Models do not know: they are served through device->weights.
 *
 * The copy is the link. Results do not depend on the placement: the same bytes
 * arrive either way. */
#ifndef SLUICE_PAGER_H
#define SLUICE_PAGER_H

#include "kernels/device.h"

/* --- the trace ---------------------------------------------------------------- */

/* The weights of one operation, together: they travel as one. */
struct page {
    struct tensor w, b; /* as in the file; b may be absent */
    size_t bytes;       /* of both, each rounded up to ARENA_ALIGN */
};

struct trace {
    struct page *page;
    size_t count, room;
    struct err err; /* the first failed growth, if any */
};

/* Lets d (a count device) record into t what it is asked for. */
void trace_record(struct trace *t, struct device *d);
void trace_free(struct trace *t);
size_t trace_bytes(const struct trace *t);   /* of all pages: what all-resident needs */
size_t trace_largest(const struct trace *t); /* bytes of the largest page; 0 if empty */

/* --- the placement ----------------------------------------------------------------- */

struct placement {
    bool *resident;        /* [trace count], owned */
    size_t resident_bytes; /* of those */
    size_t ring_bytes;     /* 0: nothing is streamed */
};

/* The placement that fits into `bytes` of device memory beside the stage's
 * activations: everything resident, or a ring of three times the largest page
 * (one is used while the next arrives, and a page may leave a gap at the ring's
 * end) or of what there is, and as many resident pages as the rest holds, spread
 * evenly so that the link has something to do all the time. False, with *least set, if not even the largest page fits;
 * least is then the number of bytes that would. e only for lack of memory. */
bool placement_make(struct placement *l, const struct trace *t, size_t bytes, size_t *least, struct err *e);
void placement_free(struct placement *l);
size_t placement_bytes(const struct placement *l);

/* Bytes over the link: once, and in every repetition. An all-zero placement brings nothing. */
struct link_bytes { size_t once, each; };
struct link_bytes placement_link_bytes(const struct placement *l, const struct trace *t);

/* --- the pager ------------------------------------------------------------------- */

struct pager;

/* Starts the reader and serves d's weights from now on: the trace, `repeats`
 * times. memory: placement_bytes on the device, ARENA_ALIGN aligned, the pager's
 * until pager_end. bytes_per_second throttles the copy (0: as fast as it goes).
 * t and l must outlive the pager. *out is NULL for an empty trace. */
bool pager_begin(struct pager **out, struct device *d, void *memory, const struct trace *t,
                 const struct placement *l, size_t repeats, double bytes_per_second, struct err *e);
/* Stops the reader, wherever it is, and lets d use weights in place again. NULL is fine. */
void pager_end(struct pager *p);

struct pager_stats {
    size_t link_bytes;    /* copied */
    double wait_seconds;  /* the device waited for the link */
};
struct pager_stats pager_stats(const struct pager *p);

#endif
