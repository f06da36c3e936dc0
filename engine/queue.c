/* queue.c - see queue.h. */
#include "engine/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* All waiting jobs, queued and then cancelled at once, fit the event queue twice over. */
enum { EVENT_SLOTS = 512, COMMAND_SLOTS = 128 };

struct event_queue {
    pthread_mutex_t lock;
    int fd;
    int count;
    struct event slot[EVENT_SLOTS]; /* in order, oldest first */
};

bool event_queue_new(struct event_queue **out, struct err *e)
{
    *out = NULL;
    struct event_queue *q = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "out of memory");
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0) {
        free(q);
        return err_set(e, ERR_IO, "eventfd failed: too many open files?");
    }
    pthread_mutex_init(&q->lock, NULL);
    *out = q;
    return true;
}

void event_queue_free(struct event_queue *q)
{
    if (!q)
        return;
    for (int i = 0; i < q->count; i++)
        event_clear(&q->slot[i]);
    pthread_mutex_destroy(&q->lock);
    close(q->fd);
    free(q);
}

static void drop(struct event_queue *q, int i)
{
    event_clear(&q->slot[i]);
    memmove(&q->slot[i], &q->slot[i + 1], (size_t)(q->count - i - 1) * sizeof q->slot[0]);
    q->count--;
}

static bool replaceable(enum event_kind k)
{
    return k == EVENT_PREVIEW || k == EVENT_PROGRESS || k == EVENT_MEMORY;
}

static bool passing(enum event_kind k)
{
    return k == EVENT_STARTED || k == EVENT_STAGE || k == EVENT_NOTICE || k == EVENT_PAUSED || k == EVENT_RESUMED;
}

bool event_push(struct event_queue *q, struct event *ev)
{
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < q->count; i++)
        if (replaceable(q->slot[i].kind) && q->slot[i].kind == ev->kind && q->slot[i].job == ev->job) {
            drop(q, i);
            break;
        }
    for (int i = 0; q->count == EVENT_SLOTS && i < q->count; i++)
        if (replaceable(q->slot[i].kind))
            drop(q, i);
    for (int i = 0; q->count == EVENT_SLOTS && i < q->count; i++)
        if (passing(q->slot[i].kind))
            drop(q, i);
    bool fits = q->count < EVENT_SLOTS;
    if (fits) {
        q->slot[q->count++] = *ev;
        memset(ev, 0, sizeof *ev);
        uint64_t one = 1;
        if (write(q->fd, &one, sizeof one) < 0) {
            /* Only a full counter refuses, and then it is readable anyway. */
        }
    } else {
        event_clear(ev);
    }
    pthread_mutex_unlock(&q->lock);
    return fits;
}

bool event_pop(struct event_queue *q, struct event *out)
{
    pthread_mutex_lock(&q->lock);
    bool any = q->count > 0;
    if (any) {
        *out = q->slot[0];
        q->count--;
        memmove(&q->slot[0], &q->slot[1], (size_t)q->count * sizeof q->slot[0]);
    }
    if (q->count == 0) {
        uint64_t drained;
        if (read(q->fd, &drained, sizeof drained) < 0) {
            /* Nothing to drain. */
        }
    }
    pthread_mutex_unlock(&q->lock);
    return any;
}

int event_queue_fd(const struct event_queue *q)
{
    return q->fd;
}

struct command_queue {
    pthread_mutex_t lock;
    pthread_cond_t more;
    int count;
    struct command slot[COMMAND_SLOTS];
};

bool command_queue_new(struct command_queue **out, struct err *e)
{
    struct command_queue *q = *out = calloc(1, sizeof *q);
    if (!q)
        return err_set(e, ERR_MEMORY, "out of memory");
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->more, NULL);
    return true;
}

void command_queue_free(struct command_queue *q)
{
    if (!q)
        return;
    for (int i = 0; i < q->count; i++)
        job_free(&q->slot[i].request);
    pthread_cond_destroy(&q->more);
    pthread_mutex_destroy(&q->lock);
    free(q);
}

bool command_push(struct command_queue *q, struct command *c)
{
    pthread_mutex_lock(&q->lock);
    bool fits = q->count < COMMAND_SLOTS;
    if (fits) {
        q->slot[q->count++] = *c;
        memset(c, 0, sizeof *c);
        pthread_cond_signal(&q->more);
    }
    pthread_mutex_unlock(&q->lock);
    return fits;
}

static void take(struct command_queue *q, int i, struct command *out)
{
    *out = q->slot[i];
    memmove(&q->slot[i], &q->slot[i + 1], (size_t)(q->count - i - 1) * sizeof q->slot[0]);
    q->count--;
}

void command_wait(struct command_queue *q)
{
    pthread_mutex_lock(&q->lock);
    while (q->count == 0)
        pthread_cond_wait(&q->more, &q->lock);
    pthread_mutex_unlock(&q->lock);
}

bool command_take(struct command_queue *q, struct command *out)
{
    pthread_mutex_lock(&q->lock);
    bool any = q->count > 0;
    if (any)
        take(q, 0, out);
    pthread_mutex_unlock(&q->lock);
    return any;
}

bool command_withdraw(struct command_queue *q, uint64_t job, struct command *out)
{
    bool found = false;
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < q->count && !found; i++)
        if (q->slot[i].kind == COMMAND_GENERATE && (job == 0 || q->slot[i].job == job)) {
            take(q, i, out);
            found = true;
        }
    pthread_mutex_unlock(&q->lock);
    return found;
}
