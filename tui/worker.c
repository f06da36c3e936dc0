/* worker.c - see worker.h. Two lists under one lock; a byte in the pipe says that
 * the second is not empty. */
#include "tui/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct worker_job *waiting, *finished; /* oldest first */
    bool stop, running;
    int pipe[2];
};

static void append(struct worker_job **list, struct worker_job *j)
{
    while (*list) list = &(*list)->next;
    j->next = NULL;
    *list = j;
}

/* With the lock held. A byte is in the pipe exactly while the list is not empty. */
static void finish(struct worker *w, struct worker_job *j)
{
    bool first = !w->finished;

    append(&w->finished, j);
    if (first && write(w->pipe[1], "", 1) < 0) {} /* cannot be full: there is never more than one byte */
}

static void *work(void *of)
{
    struct worker *w = of;

    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct worker_job *j = w->waiting;
        if (!j) {
            pthread_cond_wait(&w->wake, &w->lock);
            continue;
        }
        w->waiting = j->next;
        pthread_mutex_unlock(&w->lock);
        j->run(j);
        j->ran = true;
        pthread_mutex_lock(&w->lock);
        finish(w, j);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

bool worker_start(struct worker **out, struct err *e)
{
    struct worker *w = calloc(1, sizeof *w);
    int rc;

    *out = NULL;
    if (!w) return err_set(e, ERR_MEMORY, "no memory for the worker thread");
    if (pipe2(w->pipe, O_NONBLOCK | O_CLOEXEC)) {
        err_errno(e, errno, "cannot make a pipe");
        free(w);
        return false;
    }
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->wake, NULL);
    rc = pthread_create(&w->thread, NULL, work, w);
    if (rc) {
        err_errno(e, rc, "cannot start the worker thread");
        worker_free(w);
        return false;
    }
    w->running = true;
    *out = w;
    return true;
}

void worker_submit(struct worker *w, struct worker_job *j)
{
    struct worker_job **at = &w->waiting;

    assert(w->running);
    j->ran = false;
    pthread_mutex_lock(&w->lock);
    while (*at && (!j->kind || (*at)->kind != j->kind)) at = &(*at)->next;
    if (*at) {
        struct worker_job *old = *at;
        *at = old->next;
        finish(w, old);
    }
    append(&w->waiting, j);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

struct worker_job *worker_take(struct worker *w)
{
    struct worker_job *j;
    char c;

    pthread_mutex_lock(&w->lock);
    j = w->finished;
    if (j) w->finished = j->next;
    if (j && !w->finished && read(w->pipe[0], &c, 1) < 0) {}
    pthread_mutex_unlock(&w->lock);
    return j;
}

int worker_fd(const struct worker *w)
{
    return w->pipe[0];
}

void worker_stop(struct worker *w)
{
    if (!w->running) return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    w->running = false;
    while (w->waiting) {
        struct worker_job *j = w->waiting;
        w->waiting = j->next;
        finish(w, j);
    }
}

void worker_free(struct worker *w)
{
    if (!w) return;
    assert(!w->running && !w->waiting && !w->finished);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    for (int i = 0; i < 2; i++) close(w->pipe[i]);
    free(w);
}
