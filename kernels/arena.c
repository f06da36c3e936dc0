/* arena.c - see arena.h. */
#include "kernels/arena.h"

#include <assert.h>
#include <stdint.h>

struct arena arena_measure(void)
{
    return (struct arena){ .base = NULL, .capacity = SIZE_MAX };
}

struct arena arena_over(void *memory, size_t capacity)
{
    assert((uintptr_t)memory % ARENA_ALIGN == 0);
    return (struct arena){ .base = memory, .capacity = capacity };
}

bool arena_take(struct arena *a, size_t bytes, void **out)
{
    *out = NULL;
    if (bytes > SIZE_MAX - ARENA_ALIGN)
        return false;
    size_t rounded = (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    if (rounded > a->capacity - a->used)
        return false;
    /* The first offset of a measuring arena would be NULL: start at one line. */
    *out = a->base ? a->base + a->used : (void *)(uintptr_t)(a->used + ARENA_ALIGN);
    a->used += rounded;
    if (a->used > a->peak)
        a->peak = a->used;
    return true;
}

void arena_release(struct arena *a, size_t mark)
{
    assert(mark <= a->used);
    a->used = mark;
}
