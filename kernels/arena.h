/* arena.h - the one allocation of a job, used as a stack.
 *
 * Everything a stage needs on the device (activations, tables, scratch of the
 * operations) is taken from here, so there is no fragmentation and one place
 * where memory can run out. An arena without memory (base NULL, made by
 * arena_measure) hands out offsets and records the peak: running a stage's own
 * code on it gives the exact size to allocate. Not thread-safe. */
#ifndef SLUICE_ARENA_H
#define SLUICE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

enum { ARENA_ALIGN = 64 }; /* bytes; every piece starts on it and is rounded up to it */

struct arena {
    unsigned char *base; /* NULL: measuring */
    size_t capacity;     /* bytes; SIZE_MAX while measuring */
    size_t used, peak;
};

struct arena arena_measure(void);
/* memory: ARENA_ALIGN aligned, owned by the caller, at least capacity bytes. */
struct arena arena_over(void *memory, size_t capacity);

/* Takes bytes (0 is fine). *out is an offset cast to a pointer when measuring,
 * never NULL. False, and *out NULL, if they do not fit. */
bool arena_take(struct arena *a, size_t bytes, void **out);

/* Everything taken after the mark is given back by arena_release. */
static inline size_t arena_mark(const struct arena *a) { return a->used; }
void arena_release(struct arena *a, size_t mark);

#endif
