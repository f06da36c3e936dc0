/* pager.c - see pager.h.
 *
 * Two threads. The device's thread calls serve() for each page in order; the
 * reader walks the same order ahead of it. `arrived` counts pages that have been
 * passed, `given` those handed out, `used` those whose group is done with; all grow
 * over all repetitions, and page n is trace page n mod count. Where each streamed
 * page lies is decided by the reader alone and kept per trace page; a page lies in the
 * ring only between its passing and its group's end, so a slot of that table is never needed
 * twice at once unless the whole trace fits the ring, and then the reader waits.
 *
 * On a device that queues, passed is not yet there and done with is only queued. So every
 * page has two marks: operations that use it wait on the device for its arrival, and
 * what takes its place waits there for its release. Neither thread waits for the device.
 *
 * Places follow from the order of groups alone, never from what is done: a group takes one
 * piece of the ring, and waits for the groups that lay there. */
#include "engine/pager.h"

#include "engine/clock.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

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

static bool same_weight(struct tensor asked, struct tensor planned)
{
    return asked.data == planned.data && tensor_same_shape(asked, planned);
}

/* The page at or after `from` with this weight; t->count: none. */
static size_t find_page(const struct trace *t, size_t from, size_t to, struct tensor w)
{
    for (size_t i = from; i < to; i++)
        if (same_weight(w, t->page[i].w))
            return i;
    return t->count;
}

/* Where the index has this weight, or would have it: open addressing, `slots` being a power of two. */
static size_t *slot_of(const struct trace *t, struct tensor w)
{
    size_t i = (uintptr_t)w.data / ARENA_ALIGN * 0x9e3779b1u & (t->slots - 1);
    while (t->index[i] && !same_weight(w, t->page[t->index[i] - 1].w))
        i = (i + 1) & (t->slots - 1);
    return &t->index[i];
}

static bool more_room(struct trace *t)
{
    size_t room = t->room ? 2 * t->room : 256;
    struct page *grown = realloc(t->page, room * sizeof *grown);
    if (grown)
        t->page = grown;
    size_t *index = grown ? calloc(2 * room, sizeof *index) : NULL;
    if (!index)
        return false;
    free(t->index);
    t->index = index;
    t->slots = 2 * room;
    t->room = room;
    for (size_t i = 0; i < t->count; i++)
        *slot_of(t, t->page[i].w) = i + 1;
    return true;
}

static bool add_page(struct trace *t, struct tensor w, struct tensor b)
{
    if (t->count == t->room && !more_room(t))
        return false;
    size_t *newest = slot_of(t, w);
    struct page *p = &t->page[t->count];
    *p = (struct page){ .w = w, .b = b, .bytes = aligned(tensor_bytes(w)), .ends = !t->holding,
                        .first = *newest ? t->page[*newest - 1].first : t->count };
    if (tensor_present(b))
        p->bytes += aligned(tensor_bytes(b));
    *newest = ++t->count;
    return true;
}

static void record(struct device *d, struct tensor *w, struct tensor *b)
{
    struct trace *t = d->weights_user;
    bool held = t->holding && t->slots && *slot_of(t, *w) > t->held;
    if (!held && !add_page(t, *w, b ? *b : (struct tensor){ 0 })) {
        err_set(&d->err, ERR_MEMORY, "out of memory");
        return;
    }
    *w = dense(*w, w->data);
    if (b && tensor_present(*b))
        *b = dense(*b, b->data);
}

static void record_hold(struct device *d, bool begin)
{
    struct trace *t = d->weights_user;
    if (!begin && t->count > t->held)
        t->page[t->count - 1].ends = true;
    t->holding = begin;
    t->held = t->count;
}

void trace_record(struct trace *t, struct device *d)
{
    d->weights = record;
    d->hold = record_hold;
    d->weights_user = t;
}

bool trace_copy(struct trace *to, const struct trace *t)
{
    *to = (struct trace){ .page = malloc((t->count + 1) * sizeof *to->page), .count = t->count, .room = t->count + 1 };
    if (!to->page) {
        memset(to, 0, sizeof *to);
        return false;
    }
    memcpy(to->page, t->page, t->count * sizeof *to->page);
    return true;
}

void trace_free(struct trace *t)
{
    free(t->page);
    free(t->index);
    memset(t, 0, sizeof *t);
}

size_t trace_bytes(const struct trace *t)
{
    size_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->page[i].first == i ? t->page[i].bytes : 0;
    return bytes;
}

size_t trace_each(const struct trace *t)
{
    size_t bytes = 0;
    for (size_t i = 0; i < t->count; i++)
        bytes += t->page[i].bytes;
    return bytes;
}

/* Bytes of the group that starts at page i, and in *next where the following one does. */
static size_t group_bytes(const struct trace *t, size_t i, size_t *next)
{
    size_t bytes = t->page[i].bytes;
    while (!t->page[i].ends)
        bytes += t->page[++i].bytes;
    *next = i + 1;
    return bytes;
}

size_t trace_widest(const struct trace *t)
{
    size_t widest = 0;
    for (size_t i = 0; i < t->count;) {
        size_t bytes = group_bytes(t, i, &i);
        widest = bytes > widest ? bytes : widest;
    }
    return widest;
}

size_t trace_pair(const struct trace *t)
{
    size_t most = 0, before = 0, first = 0;
    for (size_t i = 0; i < t->count;) {
        bool head = i == 0;
        size_t bytes = group_bytes(t, i, &i);
        first = head ? bytes : first;
        most = before + bytes > most ? before + bytes : most;
        before = bytes;
    }
    return before + first > most ? before + first : most;
}

/* --- the placement ----------------------------------------------------------------- */

size_t ring_bytes(const struct trace *t, enum ring ring)
{
    size_t all = trace_each(t);
    /* Two in a row and the gap that one leaves at the ring's end are at most three of the widest. */
    size_t bytes = ring == RING_SINGLE ? trace_widest(t) : ring == RING_DOUBLE ? trace_pair(t)
                   : ring == RING_FULL ? 3 * trace_widest(t) : 0;
    return bytes < all ? bytes : all;
}

size_t placement_bytes(const struct placement *l)
{
    return l->resident_bytes + l->ring_bytes;
}

void placement_free(struct placement *l)
{
    free(l->resident);
    memset(l, 0, sizeof *l);
}

/* A page and all that have the same weights. */
static void make_resident(struct placement *l, const struct trace *t, size_t first)
{
    l->resident_bytes += t->page[first].bytes;
    for (size_t i = first; i < t->count; i++)
        if (t->page[i].first == first)
            l->resident[i] = true;
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
        if (i >= t->count || t->page[i].first != i)
            continue;
        if (l->resident_bytes + t->page[i].bytes > room)
            return;
        make_resident(l, t, i);
    }
}

bool placement_make(struct placement *l, const struct trace *t, enum ring ring, size_t room, struct err *e)
{
    memset(l, 0, sizeof *l);
    l->resident = calloc(t->count + 1, sizeof *l->resident);
    if (!l->resident)
        return err_set(e, ERR_MEMORY, "out of memory");
    l->ring_bytes = ring_bytes(t, ring);
    spread(l, t, ring == RING_NONE ? SIZE_MAX : room);
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
    struct pager_options options;
    unsigned char **place;    /* [trace count]: where the page is, or will be */
    uint64_t *arrival, *release; /* [trace count]: marks of the link and of the device's work */
    bool *there;              /* [trace count]: resident, and the device has waited for it */
    unsigned char *ring;      /* behind the resident pages */
    size_t total;             /* pages over all repetitions */
    size_t widest;            /* bytes of the largest group */
    uint64_t begun;           /* the device's work that was queued before */
    pthread_t reader;
    pthread_mutex_t lock;
    pthread_cond_t moved;     /* arrived, used or stop changed */
    size_t arrived, given, used; /* pages; used <= given <= arrived + 1 */
    bool holding;             /* device's thread only */
    _Atomic bool stop;        /* written under lock */
    struct err err;           /* of the reader, which then has ended */
    struct pager_stats stats;
};

/* --- the reader ------------------------------------------------------------------ */

/* Bytes passed at once, before a stop is looked at; while throttled also the length of a wait. */
enum { SLICE = 32 << 20, SLICE_THROTTLED = 4 << 20 };

struct link {
    struct pager *pager;
    double due;    /* when the throttled link will be free again */
    struct err err;
};

static bool pass(struct link *k, unsigned char *to, const unsigned char *from, size_t bytes)
{
    double rate = k->pager->options.bytes_per_second;
    size_t slice = rate > 0 ? SLICE_THROTTLED : SLICE;
    for (size_t at = 0; at < bytes && !k->pager->stop; at += slice) {
        size_t n = bytes - at < slice ? bytes - at : slice;
        double start = rate > 0 ? clock_now() : 0;
        if (!device_link_pass(k->pager->device, to + at, from + at, n, &k->err))
            return false;
        if (rate <= 0)
            continue;
        k->due = (k->due > start ? k->due : start) + (double)n / rate;
        double left = k->due - clock_now();
        if (left > 0)
            nanosleep(&(struct timespec){ (time_t)left, (long)((left - (double)(time_t)left) * 1e9) }, NULL);
    }
    return true;
}

/* A view's elements, row by row if it is strided, to dense memory. */
static bool pass_tensor(struct link *k, unsigned char *to, struct tensor t)
{
    if (tensor_dense(t))
        return pass(k, to, t.data, tensor_bytes(t));
    assert(t.ndim == 2);
    size_t row = (size_t)t.shape[1] * dtype_bytes(t.dtype);
    bool ok = true;
    for (int64_t i = 0; ok && i < t.shape[0]; i++)
        ok = pass(k, to + (size_t)i * row, tensor_rows(t, i, 1).data, row);
    return ok;
}

static bool transfer(struct link *k, const struct page *page, unsigned char *to, uint64_t *arrival)
{
    return pass_tensor(k, to, page->w) &&
           (!tensor_present(page->b) || pass_tensor(k, to + aligned(tensor_bytes(page->w)), page->b)) &&
           device_link_mark(k->pager->device, arrival, &k->err);
}

/* Asks the kernel to read what will be copied next while this page is copied. */
static void announce(const struct page *page)
{
    if (!tensor_dense(page->w))
        return;
    uintptr_t unit = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)page->w.data / unit * unit;
    madvise((void *)from, (uintptr_t)page->w.data + tensor_bytes(page->w) - from, MADV_WILLNEED);
}

/* What was put into the ring and has not been covered since, oldest first. Pieces never overlap,
 * so there are no more of them than groups in a ring that holds the whole trace. */
struct occupant {
    size_t offset, bytes;
    size_t end; /* behind its last page, of all repetitions */
};

struct ring_state {
    struct occupant *occupant; /* [room], a queue that goes round */
    size_t room, first, count;
    size_t head;               /* offset behind the newest group */
    bool high;                 /* the next group goes to the ring's end */
};

/* A full ring goes round: behind the newest, or at the start. A smaller one is filled from its
 * two ends in turn, so that any two groups in a row fit without a gap. */
static size_t next_place(const struct pager *p, struct ring_state *r, size_t bytes)
{
    size_t room = p->placement->ring_bytes, offset;
    if (room >= 3 * p->widest) {
        offset = r->head + bytes <= room ? r->head : 0;
        r->head = offset + bytes;
        return offset;
    }
    offset = r->high ? room - bytes : 0;
    r->high = !r->high;
    return offset;
}

/* How many of the oldest occupants must have gone before the piece may be filled: all up to the
 * newest that lies there, since they go in order. */
static size_t covered(const struct ring_state *r, size_t offset, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct occupant *o = &r->occupant[(r->first + i) % r->room];
        if (o->offset < offset + bytes && offset < o->offset + o->bytes)
            n = i + 1;
    }
    return n;
}

/* Places for the streamed pages of the group that begins at page n, when those that lay
 * there have been given up. False: to be stopped, or an error in k. */
static bool place_group(struct pager *p, size_t n, struct ring_state *r, struct link *k)
{
    const struct trace *t = p->trace;
    size_t first = n % t->count, end = first, bytes = 0, gone = 0;
    for (bool last = false; !last; end++) {
        bytes += p->placement->resident[end] ? 0 : t->page[end].bytes;
        last = t->page[end].ends;
    }
    if (!bytes)
        return true;
    struct occupant here = { next_place(p, r, bytes), bytes, n + end - first };
    size_t leaves = covered(r, here.offset, bytes);
    if (leaves)
        gone = r->occupant[(r->first + leaves - 1) % r->room].end;
    /* Also not before the entries of `place` are free, should the whole trace fit the ring. */
    while (!p->stop && (p->used < gone || here.end - p->used > t->count))
        pthread_cond_wait(&p->moved, &p->lock);
    if (p->stop || (gone && !device_link_after(p->device, p->release[(gone - 1) % t->count], &k->err)))
        return false;
    r->first = (r->first + leaves) % r->room;
    r->count -= leaves;
    r->occupant[(r->first + r->count++) % r->room] = here;
    for (size_t i = first; i < end; i++)
        if (!p->placement->resident[i]) {
            p->place[i] = p->ring + here.offset;
            here.offset += t->page[i].bytes;
        }
    return true;
}

/* Page n to its place, the lock released meanwhile. */
static bool bring(struct pager *p, size_t n, struct link *k)
{
    const struct trace *t = p->trace;
    size_t i = n % t->count;
    pthread_mutex_unlock(&p->lock);
    announce(&t->page[(i + 1) % t->count]);
    double began = clock_now();
    bool ok = transfer(k, &t->page[i], p->place[i], &p->arrival[i]);
    double seconds = clock_now() - began;
    pthread_mutex_lock(&p->lock);
    p->stats.link_bytes += t->page[i].bytes;
    p->stats.copy_seconds += seconds;
    return ok;
}

static void *read_ahead(void *user)
{
    struct pager *p = user;
    const struct trace *t = p->trace;
    struct link link = { .pager = p };
    struct ring_state ring = { .room = t->count + 1 };
    bool begins = true;
    ring.occupant = calloc(ring.room, sizeof *ring.occupant);
    bool ok = ring.occupant ? true : err_set(&link.err, ERR_MEMORY, "out of memory");
    pthread_mutex_lock(&p->lock);
    /* Whatever the memory was used for before is done with first. */
    ok = ok && device_link_after(p->device, p->begun, &link.err);
    for (size_t n = 0; ok && n < p->total && !p->stop; n++) {
        size_t i = n % t->count, first = t->page[i].first;
        bool brought = n >= t->count || p->options.loaded || first != i;
        if (begins && !place_group(p, n, &ring, &link))
            break;
        begins = t->page[i].ends;
        if (!p->placement->resident[i] || !brought)
            ok = bring(p, n, &link);
        else
            p->arrival[i] = p->arrival[first];
        p->arrived = n + ok;
        pthread_cond_broadcast(&p->moved);
    }
    p->err = link.err;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
    free(ring.occupant);
    return NULL;
}

/* --- the device's side ------------------------------------------------------------- */

/* Everything handed out is done with: the operations that use it have been queued. Under the lock. */
static void give_up(struct pager *p)
{
    uint64_t mark = p->used < p->given ? device_work_mark(p->device) : 0;
    for (; p->used < p->given; p->used++)
        p->release[p->used % p->trace->count] = mark;
    pthread_cond_broadcast(&p->moved);
}

/* The page of the weight, one that the current group has already or the next, into *which.
 * False: the reader has failed. */
static bool next_page(struct pager *p, struct tensor w, size_t *which)
{
    const struct trace *t = p->trace;
    if (p->holding && p->given > p->used) {
        size_t to = (p->given - 1) % t->count + 1, found = find_page(t, to - (p->given - p->used), to, w);
        *which = found;
        if (found < t->count)
            return true;
    }
    if (!p->holding)
        give_up(p);
    size_t n = p->given++;
    assert(n < p->total);
    assert(same_weight(w, t->page[n % t->count].w));
    if (p->arrived <= n) {
        double began = clock_now();
        while (p->arrived <= n && p->err.kind == ERR_NONE)
            pthread_cond_wait(&p->moved, &p->lock);
        p->stats.wait_seconds += clock_now() - began;
    }
    *which = n % t->count;
    return p->arrived > n;
}

static void serve(struct device *d, struct tensor *w, struct tensor *b)
{
    struct pager *p = d->weights_user;
    size_t i;
    pthread_mutex_lock(&p->lock);
    bool ok = next_page(p, *w, &i);
    uint64_t arrival = ok ? p->arrival[i] : 0;
    if (!ok)
        err_set(&d->err, p->err.kind, "%s", p->err.text);
    pthread_mutex_unlock(&p->lock);
    if (!ok)
        return;
    if (!p->there[i])
        device_link_wait(d, arrival);
    p->there[i] = p->placement->resident[i];
    *w = dense(*w, p->place[i]);
    if (b && tensor_present(*b))
        *b = dense(*b, p->place[i] + aligned(tensor_bytes(p->trace->page[i].w)));
}

static void hold(struct device *d, bool begin)
{
    struct pager *p = d->weights_user;
    pthread_mutex_lock(&p->lock);
    give_up(p);
    p->holding = begin;
    pthread_mutex_unlock(&p->lock);
}

static void pager_free(struct pager *p)
{
    free(p->place);
    free(p->arrival);
    free(p->release);
    free(p->there);
    free(p);
}

bool pager_begin(struct pager **out, struct device *d, void *memory, const struct trace *t,
                 const struct placement *l, const struct pager_options *o, struct err *e)
{
    *out = NULL;
    if (!t->count)
        return true;
    struct pager *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "out of memory");
    *p = (struct pager){ .device = d, .trace = t, .placement = l, .options = *o, .total = o->repeats * t->count,
                         .widest = trace_widest(t), .begun = device_work_mark(d),
                         .place = calloc(t->count, sizeof *p->place), .there = calloc(t->count, sizeof *p->there),
                         .arrival = calloc(t->count, sizeof *p->arrival),
                         .release = calloc(t->count, sizeof *p->release) };
    if (!p->place || !p->there || !p->arrival || !p->release) {
        pager_free(p);
        return err_set(e, ERR_MEMORY, "out of memory");
    }
    unsigned char *next = memory;
    for (size_t i = 0; i < t->count; i++)
        if (l->resident[i]) {
            bool first = t->page[i].first == i;
            p->place[i] = first ? next : p->place[t->page[i].first];
            next += first ? t->page[i].bytes : 0;
        }
    p->ring = next;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->moved, NULL);
    int rc = pthread_create(&p->reader, NULL, read_ahead, p);
    if (rc) {
        pthread_cond_destroy(&p->moved);
        pthread_mutex_destroy(&p->lock);
        pager_free(p);
        return err_errno(e, rc, "the pager's thread could not be started");
    }
    d->weights = serve;
    d->hold = hold;
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
    /* What is still on its way arrives before anything else is put there. */
    uint64_t mark;
    struct err ignored = { 0 };
    if (device_link_mark(p->device, &mark, &ignored))
        device_link_wait(p->device, mark);
    p->device->weights = NULL;
    p->device->hold = NULL;
    p->device->weights_user = NULL;
    pthread_cond_destroy(&p->moved);
    pthread_mutex_destroy(&p->lock);
    pager_free(p);
}

struct pager_stats pager_stats(struct pager *p)
{
    pthread_mutex_lock(&p->lock);
    struct pager_stats stats = p->stats;
    pthread_mutex_unlock(&p->lock);
    return stats;
}
