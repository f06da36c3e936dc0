/* cuda_link.c - weights on their way to the card, beside its work.
 *
 * A copy stream takes them from a small ring of pinned slots, and a few threads
 * fill the slots from the mapped file: one thread copies slower than PCIe. So the
 * model is never twice in the host's memory, and never pinned as a whole. Where pinned
 * memory is refused (WSL, a small limit) there are fewer slots, or none: then the
 * driver stages, at its own speed.
 *
 * On request (cuda_options.pin_weights) the mapped files themselves are pinned, window by
 * window as they are first read, and the card fetches from them: no copy at all, but
 * the weights then stay in the host's memory. A window that is refused (the end of a mapping, a driver
 * that does not pin read-only files) goes through the slots.
 *
 * cuda_link_pass returns when all its bytes are in slots and queued: the reader that
 * calls it is held up by the card only through slots that are still full.
 *
 * A mark is the number of an event in a ring of events. One that has been recorded
 * again since stands for a later point of the same stream: then the wait is longer
 * than it need be, and never too short. */
#include "kernels/cuda_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOTS = 8,
    SLOT_BYTES = 4 << 20, /* large enough for PCIe's full speed, small enough to begin early */
    FILLERS_MAX = 4,      /* threads beside the caller; two or three saturate PCIe 4 */
    MARKS = 64,
    WINDOW_BYTES = 64 << 20, /* pinned at once: some 10 ms */
    WINDOWS = 4096,          /* at most, half of it is used: files of 128 GB */
};

/* WINDOW_BYTES of addresses that weights were read from. */
struct window {
    uintptr_t number; /* address / WINDOW_BYTES; 0: a free place of the table */
    bool pinned;
};

struct slot {
    void *memory;          /* pinned, SLOT_BYTES */
    cudaEvent_t empty;     /* recorded behind the copy out of it */
    pthread_mutex_t lock;  /* one filler at a time */
};

struct cuda_link {
    cudaStream_t copy;
    struct slot slot[SLOTS];
    int slots;             /* that were granted */
    cudaEvent_t arrived[MARKS], worked[MARKS];
    _Atomic uint64_t marks, work_marks; /* given out so far; 0 is before everything */
    int ordinal;
    pthread_t filler[FILLERS_MAX];
    int fillers;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* The pass in hand, under lock. */
    unsigned char *to;
    const unsigned char *from;
    size_t bytes, next;    /* next: the first byte that nobody has taken on */
    int busy;              /* fillers at work on it */
    uint64_t turn;         /* slots taken over all passes */
    cudaError_t failed;
    bool stop;
    struct window *window; /* [WINDOWS], open addressing, under lock; NULL: nothing is pinned */
    int windows;
};

static bool failed(struct err *e, cudaError_t rc, const char *what)
{
    return err_set(e, cuda_error_kind(rc), "cuda: %s: %s", what, cudaGetErrorString(rc));
}

/* One slice through the slot of that turn. */
static cudaError_t send(struct cuda_link *l, uint64_t turn, unsigned char *to, const unsigned char *from, size_t n)
{
    if (!l->slots)
        return cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, l->copy);
    struct slot *s = &l->slot[turn % (uint64_t)l->slots];
    pthread_mutex_lock(&s->lock);
    cudaError_t rc = cudaEventSynchronize(s->empty);
    if (rc == cudaSuccess) {
        memcpy(s->memory, from, n);
        rc = cudaMemcpyAsync(to, s->memory, n, cudaMemcpyHostToDevice, l->copy);
    }
    if (rc == cudaSuccess)
        rc = cudaEventRecord(s->empty, l->copy);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

/* Whether the window that holds this address is pinned, or can be now. Under the lock. */
static bool pin(struct cuda_link *l, const unsigned char *from)
{
    uintptr_t number = (uintptr_t)from / WINDOW_BYTES;
    struct window *w;
    for (size_t i = number % WINDOWS;; i = (i + 1) % WINDOWS) {
        w = &l->window[i];
        if (w->number == number)
            return w->pinned;
        if (!w->number)
            break;
    }
    if (l->windows == WINDOWS / 2)
        return false;
    l->windows++;
    w->number = number;
    w->pinned = cudaHostRegister((void *)(number * WINDOW_BYTES), WINDOW_BYTES,
                                 cudaHostRegisterReadOnly) == cudaSuccess;
    if (!w->pinned)
        cudaGetLastError();
    return w->pinned;
}

/* Takes slices of the pass in hand until none is left. Under the lock. */
static void fill(struct cuda_link *l)
{
    l->busy++;
    while (l->next < l->bytes && l->failed == cudaSuccess) {
        unsigned char *to = l->to + l->next;
        const unsigned char *from = l->from + l->next;
        size_t left = l->bytes - l->next, window = WINDOW_BYTES - (uintptr_t)from % WINDOW_BYTES;
        bool direct = l->window && pin(l, from);
        size_t most = direct ? window : SLOT_BYTES, n = left < most ? left : most;
        uint64_t turn = direct ? 0 : l->turn++;
        l->next += n;
        pthread_mutex_unlock(&l->lock);
        cudaError_t rc = direct ? cudaMemcpyAsync(to, from, n, cudaMemcpyHostToDevice, l->copy)
                                : send(l, turn, to, from, n);
        pthread_mutex_lock(&l->lock);
        if (rc != cudaSuccess && l->failed == cudaSuccess)
            l->failed = rc;
    }
    if (--l->busy == 0)
        pthread_cond_broadcast(&l->changed);
}

static void *filler(void *user)
{
    struct cuda_link *l = user;
    cudaError_t rc = cudaSetDevice(l->ordinal);
    pthread_mutex_lock(&l->lock);
    while (rc == cudaSuccess && !l->stop) {
        fill(l);
        while (!l->stop && !(l->next < l->bytes && l->failed == cudaSuccess))
            pthread_cond_wait(&l->changed, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

bool cuda_link_pass(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
    struct cuda_link *l = cuda_of(d)->link;
    pthread_mutex_lock(&l->lock);
    l->to = to;
    l->from = from;
    l->bytes = bytes;
    l->next = 0;
    l->failed = cudaSetDevice(l->ordinal);
    if (bytes > SLOT_BYTES)
        pthread_cond_broadcast(&l->changed);
    fill(l);
    while (l->busy)
        pthread_cond_wait(&l->changed, &l->lock);
    l->bytes = l->next = 0;
    cudaError_t rc = l->failed;
    pthread_mutex_unlock(&l->lock);
    return rc == cudaSuccess || failed(e, rc, "bringing weights");
}

/* --- marks ---------------------------------------------------------------------------- */

bool cuda_link_mark(struct device *d, uint64_t *mark, struct err *e)
{
    struct cuda_link *l = cuda_of(d)->link;
    *mark = l->marks + 1;
    cudaError_t rc = cudaEventRecord(l->arrived[*mark % MARKS], l->copy);
    l->marks = *mark;
    return rc == cudaSuccess || failed(e, rc, "marking weights");
}

bool cuda_link_after(struct device *d, uint64_t mark, struct err *e)
{
    struct cuda_link *l = cuda_of(d)->link;
    cudaError_t rc = mark ? cudaStreamWaitEvent(l->copy, l->worked[mark % MARKS], 0) : cudaSuccess;
    return rc == cudaSuccess || failed(e, rc, "waiting for room for weights");
}

void cuda_link_wait(struct device *d, uint64_t mark)
{
    struct cuda_device *c = cuda_of(d);
    if (mark)
        cuda_check(d, cudaStreamWaitEvent(c->compute, c->link->arrived[mark % MARKS], 0), "waiting for weights");
}

uint64_t cuda_work_mark(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    uint64_t mark = c->link->work_marks + 1;
    if (cuda_graph_recording(c)) /* whatever is recorded uses only weights that stay */
        return c->link->work_marks;
    cuda_check(d, cudaEventRecord(c->link->worked[mark % MARKS], c->compute), "marking work");
    return c->link->work_marks = mark;
}

/* --- making it ------------------------------------------------------------------------------ */

static cudaError_t make_events(cudaEvent_t *event, int n)
{
    cudaError_t rc = cudaSuccess;
    for (int i = 0; i < n && rc == cudaSuccess; i++)
        rc = cudaEventCreateWithFlags(&event[i], cudaEventDisableTiming);
    return rc;
}

/* As many slots as are granted. */
static cudaError_t make_slots(struct cuda_link *l)
{
    for (; l->slots < SLOTS; l->slots++) {
        struct slot *s = &l->slot[l->slots];
        if (cudaMallocHost(&s->memory, SLOT_BYTES) != cudaSuccess) {
            s->memory = NULL;
            cudaGetLastError(); /* it is no failure, and must not look like one later */
            break;
        }
        cudaError_t rc = make_events(&s->empty, 1);
        if (rc != cudaSuccess) {
            cudaFreeHost(s->memory);
            return rc;
        }
        pthread_mutex_init(&s->lock, NULL);
    }
    return cudaSuccess;
}

static int fillers_wanted(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores / 2 - 1 < 0 ? 0 : cores / 2 - 1 > FILLERS_MAX ? FILLERS_MAX : (int)(cores / 2 - 1);
}

bool cuda_link_open(struct cuda_device *c, struct err *e)
{
    struct cuda_link *l = c->link = calloc(1, sizeof *l);
    if (!l)
        return err_set(e, ERR_MEMORY, "cuda: out of memory");
    l->ordinal = c->card.ordinal;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (c->pin_weights && !(l->window = calloc(WINDOWS, sizeof *l->window)))
        return err_set(e, ERR_MEMORY, "cuda: out of memory");
    cudaError_t rc = cudaStreamCreateWithFlags(&l->copy, cudaStreamNonBlocking);
    if (rc == cudaSuccess)
        rc = make_events(l->arrived, MARKS);
    if (rc == cudaSuccess)
        rc = make_events(l->worked, MARKS);
    if (rc == cudaSuccess)
        rc = make_slots(l);
    if (rc != cudaSuccess)
        return failed(e, rc, "the copy stream");
    /* Fewer threads than wanted are only slower. */
    for (int n = fillers_wanted(); l->slots && l->fillers < n; l->fillers++)
        if (pthread_create(&l->filler[l->fillers], NULL, filler, l))
            break;
    return true;
}

static void drop_events(cudaEvent_t *event, int n)
{
    for (int i = 0; i < n; i++)
        if (event[i])
            cudaEventDestroy(event[i]);
}

void cuda_link_close(struct cuda_device *c)
{
    struct cuda_link *l = c->link;
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->fillers; i++)
        pthread_join(l->filler[i], NULL);
    if (l->copy)
        cudaStreamSynchronize(l->copy);
    for (int i = 0; i < l->slots; i++) {
        drop_events(&l->slot[i].empty, 1);
        cudaFreeHost(l->slot[i].memory);
        pthread_mutex_destroy(&l->slot[i].lock);
    }
    for (int i = 0; l->window && i < WINDOWS; i++)
        if (l->window[i].pinned)
            cudaHostUnregister((void *)(l->window[i].number * WINDOW_BYTES));
    free(l->window);
    drop_events(l->arrived, MARKS);
    drop_events(l->worked, MARKS);
    if (l->copy)
        cudaStreamDestroy(l->copy);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
    free(l);
    c->link = NULL;
}
