/* pager.c - see pager.h.
 *
 * Two threads. The device's thread calls serve() for each page in order; the
 * reader walks the same order ahead of it. `arrived` counts pages that are in
 * place, `used` those whose operation is done; both grow over all repetitions, and
 * page n is trace page n mod count. Where each streamed page lies is decided by the
 * reader alone and kept per trace page; a page lies in the ring only between its
 * arrival and its use, so a slot of the table is never needed twice at once unless
 * the whole trace fits the ring, and then its place is still being used and the
 * reader waits. */
#include "engine/pager.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- the trace ---------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

static struct tensor dense(struct tensor t, void *data)
{
    t.data = data;
    for (int64_t step = 1, i = t.ndim - 1; i >= 0; step *= t.shape[i--])
        t.stride[i] = step;
    return t;
}

static void record(struct device *d, struct tensor *w, struct tensor *b)
{
    struct trace *t = d->weights_user;
    if (t->count == t->room) {
        size_t room = t->room ? 2 * t->room : 256;
        struct page *grown = realloc(t->page, room * sizeof *grown);
        if (!grown) {
            err_set(&d->err, ERR_MEMORY, "out of memory");
            return;
        }
        t->page = grown;
        t->room = room;
    }
    struct page *p = &t->page[t->count++];
    *p = (struct page){ .w = *w, .bytes = aligned(tensor_bytes(*w)) };
    *w = dense(*w, w->data);
    if (b && tensor_present(*b)) {
        p->b = *b;
        p->bytes += aligned(tensor_bytes(*b));
        *b = dense(*b, b->data);
    }
}

void trace_record(struct trace *t, struct device *d)
{
    d->weights = record;
    d->weights_user = t;
}

void trace_free(struct trace *t)
{
    free(t->page);
    memset(t, 0, sizeof *t);
}

size_t trace_bytes(const struct trace *t)
{
    size_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->page[i].bytes;
    return bytes;
}

size_t trace_largest(const struct trace *t)
{
    size_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes = t->page[i].bytes > bytes ? t->page[i].bytes : bytes;
    return bytes;
}

/* --- the placement ----------------------------------------------------------------- */

size_t placement_bytes(const struct placement *l)
{
    return l->resident_bytes + l->ring_bytes;
}

void placement_free(struct placement *l)
{
    free(l->resident);
    memset(l, 0, sizeof *l);
}

/* Pages in an order in which every beginning is spread evenly (0, 1/2, 1/4,
 * 3/4, 1/8, ...), made resident until the next one does not fit. The order does
 * not depend on the room, so more room never makes fewer pages resident. */
static void spread(struct placement *l, const struct trace *t, size_t room)
{
    int bits = 0;
    while ((size_t)1 << bits < t->count)
        bits++;
    for (size_t k = 0; k < (size_t)1 << bits; k++) {
        size_t i = 0;
        for (int b = 0; b < bits; b++)
            i |= (k >> b & 1) << (bits - 1 - b);
        if (i >= t->count)
            continue;
        if (l->resident_bytes + t->page[i].bytes > room)
            return;
        l->resident[i] = true;
        l->resident_bytes += t->page[i].bytes;
    }
}

bool placement_make(struct placement *l, const struct trace *t, size_t bytes, size_t *least, struct err *e)
{
    size_t all = trace_bytes(t), largest = trace_largest(t);
    memset(l, 0, sizeof *l);
    bytes = bytes / ARENA_ALIGN * ARENA_ALIGN;
    *least = largest;
    if (bytes < largest)
        return false;
    l->resident = calloc(t->count + 1, sizeof *l->resident);
    if (!l->resident)
        return err_set(e, ERR_MEMORY, "out of memory");
    if (all <= bytes) {
        for (size_t i = 0; i < t->count; i++)
            l->resident[i] = true;
        l->resident_bytes = all;
        return true;
    }
    /* Page n + 1 arrives while n is used: a place for each, and the gap that a page leaves at the end. */
    l->ring_bytes = bytes >= 3 * largest ? 3 * largest : bytes;
    spread(l, t, bytes - l->ring_bytes);
    return true;
}

struct link_bytes placement_link_bytes(const struct placement *l, const struct trace *t)
{
    struct link_bytes n = { .once = l->resident_bytes };
    for (size_t i = 0; l->resident && i < t->count; i++)
        n.each += l->resident[i] ? 0 : t->page[i].bytes;
    return n;
}

/* --- the pager ------------------------------------------------------------------- */

struct pager {
    struct device *device;
    const struct trace *trace;
    const struct placement *placement;
    unsigned char **place;    /* [trace count]: where the page is, or will be */
    unsigned char *ring;      /* behind the resident pages */
    size_t total;             /* pages over all repetitions */
    double bytes_per_second;
    pthread_t reader;
    pthread_mutex_t lock;
    pthread_cond_t moved;     /* arrived, used or stop changed */
    size_t arrived, used;     /* pages; used <= arrived <= total */
    bool serving;             /* page `used` has been handed out */
    bool stop;
    struct pager_stats stats;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A view's elements, row by row if it is strided, to dense memory. */
static void copy(unsigned char *to, struct tensor t)
{
    if (tensor_dense(t)) {
        memcpy(to, t.data, tensor_bytes(t));
        return;
    }
    assert(t.ndim == 2);
    size_t row = (size_t)t.shape[1] * dtype_bytes(t.dtype);
    for (int64_t i = 0; i < t.shape[0]; i++)
        memcpy(to + (size_t)i * row, tensor_rows(t, i, 1).data, row);
}

/* Copies at the throttled rate: `due` is when the link will be free again. */
static void transfer(struct pager *p, const struct page *page, unsigned char *to, double *due)
{
    double start = now();
    copy(to, page->w);
    if (tensor_present(page->b))
        copy(to + aligned(tensor_bytes(page->w)), page->b);
    if (p->bytes_per_second <= 0)
        return;
    *due = (*due > start ? *due : start) + (double)page->bytes / p->bytes_per_second;
    double left = *due - now();
    if (left > 0)
        nanosleep(&(struct timespec){ (time_t)left, (long)((left - (double)(time_t)left) * 1e9) }, NULL);
}

/* The first page at or after n that lies in the ring, and is not yet done with. */
static bool oldest_in_ring(const struct pager *p, size_t n, size_t *which)
{
    for (size_t i = p->used; i < n; i++)
        if (!p->placement->resident[i % p->trace->count]) {
            *which = i % p->trace->count;
            return true;
        }
    return false;
}

/* Where page n (to be streamed) fits now: behind the newest, or at the start of
 * the ring, without touching what is between the oldest and the newest. */
static bool find_place(const struct pager *p, size_t n, size_t head, size_t *offset)
{
    size_t bytes = p->trace->page[n % p->trace->count].bytes, oldest;
    if (!oldest_in_ring(p, n, &oldest)) {
        *offset = 0;
        return true;
    }
    if (n - p->used >= p->trace->count)
        return false; /* its entry in `place` is still in use */
    size_t tail = (size_t)(p->place[oldest] - p->ring);
    bool wrapped = head <= tail;
    if (!wrapped && head + bytes <= p->placement->ring_bytes)
        *offset = head;
    else if (!wrapped && bytes <= tail)
        *offset = 0;
    else if (wrapped && head + bytes <= tail)
        *offset = head;
    else
        return false;
    return true;
}

static void *read_ahead(void *user)
{
    struct pager *p = user;
    size_t head = 0; /* ring offset behind the newest page */
    double due = 0;
    pthread_mutex_lock(&p->lock);
    for (size_t n = 0; n < p->total && !p->stop; n++) {
        size_t i = n % p->trace->count;
        bool resident = p->placement->resident[i];
        if (!resident) {
            size_t offset;
            while (!p->stop && !find_place(p, n, head, &offset))
                pthread_cond_wait(&p->moved, &p->lock);
            if (p->stop)
                break;
            p->place[i] = p->ring + offset;
            head = offset + p->trace->page[i].bytes;
        }
        if (!resident || n < p->trace->count) {
            pthread_mutex_unlock(&p->lock);
            transfer(p, &p->trace->page[i], p->place[i], &due);
            pthread_mutex_lock(&p->lock);
            p->stats.link_bytes += p->trace->page[i].bytes;
        }
        p->arrived = n + 1;
        pthread_cond_broadcast(&p->moved);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static bool same_weight(struct tensor asked, struct tensor planned)
{
    return asked.data == planned.data && tensor_same_shape(asked, planned);
}

/* device->weights: page `used` is asked for now, so the one before is done with
 * (the operation that used it has been queued and, on this device, has ended). */
static void serve(struct device *d, struct tensor *w, struct tensor *b)
{
    struct pager *p = d->weights_user;
    pthread_mutex_lock(&p->lock);
    if (p->serving)
        p->used++;
    p->serving = true;
    size_t n = p->used;
    pthread_cond_broadcast(&p->moved);
    assert(n < p->total);
    size_t i = n % p->trace->count;
    const struct page *page = &p->trace->page[i];
    assert(same_weight(*w, page->w));
    if (p->arrived <= n) {
        double began = now();
        while (p->arrived <= n)
            pthread_cond_wait(&p->moved, &p->lock);
        p->stats.wait_seconds += now() - began;
    }
    pthread_mutex_unlock(&p->lock);
    *w = dense(*w, p->place[i]);
    if (b && tensor_present(*b))
        *b = dense(*b, p->place[i] + aligned(tensor_bytes(page->w)));
}

bool pager_begin(struct pager **out, struct device *d, void *memory, const struct trace *t,
                 const struct placement *l, size_t repeats, double bytes_per_second, struct err *e)
{
    *out = NULL;
    if (!t->count)
        return true;
    struct pager *p = calloc(1, sizeof *p);
    unsigned char **place = calloc(t->count, sizeof *place);
    if (!p || !place) {
        free(p);
        free(place);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    unsigned char *next = memory;
    for (size_t i = 0; i < t->count; i++)
        if (l->resident[i]) {
            place[i] = next;
            next += t->page[i].bytes;
        }
    *p = (struct pager){ .device = d, .trace = t, .placement = l, .place = place, .ring = next,
                         .total = repeats * t->count, .bytes_per_second = bytes_per_second };
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
    int rc = pthread_create(&p->reader, NULL, read_ahead, p);
    if (rc) {
        pthread_cond_destroy(&p->moved);
        pthread_mutex_destroy(&p->lock);
        free(place);
        free(p);
        return err_errno(e, rc, "the pager's thread could not be started");
    }
    d->weights = serve;
    d->weights_user = p;
    *out = p;
    return true;
}

void pager_end(struct pager *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->reader, NULL);
    p->device->weights = NULL;
    p->device->weights_user = NULL;
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
    free(p->place);
    free(p);
}

struct pager_stats pager_stats(const struct pager *p)
{
    return p->stats;
}
