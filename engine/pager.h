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
    size_t first;       /* the first page of the trace with the same tensors: often itself */
    bool ends;          /* the last of its group */
};

/* Pages in the order of use. Consecutive pages that are held together
 * (device_hold) form a group; all others are a group each. A group is in the
 * ring as a whole, from the arrival of its first page to the end of its use. */
struct trace {
    struct page *page;
    size_t count, room;
    size_t held;    /* while a group is being recorded: its first page */
    bool holding;
    size_t *index;  /* while recording: the newest page of a weight, plus 1, by a hash of where it is; 0: none */
    size_t slots;
};

/* Lets d (a count device) record into t what it is asked for. */
void trace_record(struct trace *t, struct device *d);
bool trace_copy(struct trace *to, const struct trace *t); /* false: out of memory, and to is empty */
void trace_free(struct trace *t);
size_t trace_bytes(const struct trace *t);  /* of all different pages: what all-resident needs */
size_t trace_each(const struct trace *t);   /* of all pages: what streaming all brings each time */
size_t trace_widest(const struct trace *t); /* bytes of the largest group; 0 if empty */
size_t trace_pair(const struct trace *t);   /* of the largest two groups in a row, the last and the first included */

/* --- the placement ----------------------------------------------------------------- */

struct placement {
    bool *resident;        /* [trace count], owned */
    size_t resident_bytes; /* of those */
    size_t ring_bytes;     /* 0: nothing is streamed */
};

/* How much of a ring a group's transfer hides behind the computing of others. */
enum ring {
    RING_SINGLE, /* the widest group: each is brought when the one before is done */
    RING_DOUBLE, /* any two in a row: one arrives while the one before is used */
    RING_FULL,   /* three of the widest: always at least one on its way, wherever the gaps fall */
    RING_NONE,   /* nothing is streamed */
};
/* Its bytes; never more than all pages. */
size_t ring_bytes(const struct trace *t, enum ring ring);

/* Everything resident (RING_NONE), or a ring, and as many pages resident as
 * `room` bytes hold, spread evenly so that the link has something to do all the
 * time. More room never makes fewer pages resident. False: out of memory. */
bool placement_make(struct placement *l, const struct trace *t, enum ring ring, size_t room, struct err *e);
void placement_free(struct placement *l);
size_t placement_bytes(const struct placement *l);

/* Bytes over the link: once, and in every repetition. An all-zero placement brings nothing. */
struct link_bytes { size_t once, each; };
struct link_bytes placement_link_bytes(const struct placement *l, const struct trace *t);

/* --- the pager ------------------------------------------------------------------- */

struct pager;

struct pager_options {
    size_t repeats;          /* of the trace */
    bool loaded;             /* an earlier pager over the same memory has brought the resident pages */
    double bytes_per_second; /* throttles the copy; 0: as fast as it goes */
};

/* Starts the reader and serves d's weights from now on. memory: placement_bytes
 * on the device, ARENA_ALIGN aligned, the pager's until pager_end; resident
 * pages lie at its start. t and l must outlive the pager. *out is NULL for an empty trace. */
bool pager_begin(struct pager **out, struct device *d, void *memory, const struct trace *t,
                 const struct placement *l, const struct pager_options *o, struct err *e);
/* Stops the reader, wherever it is, and lets d use weights in place again. NULL is fine. */
void pager_end(struct pager *p);

struct pager_stats {
    size_t link_bytes;    /* copied */
    double copy_seconds;  /* it took, throttle included */
    double wait_seconds;  /* the device waited for the link */
};
struct pager_stats pager_stats(struct pager *p); /* also while the reader is at work */

#endif
