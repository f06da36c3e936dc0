/* engine.c - see engine.h.
 *
 * Shared between the two threads: the two queues, and under `lock` which job
 * runs, how many have not ended, and whether to rest. A job moves from the queue to `current`
 * under that lock, so a cancel finds it in the one place or the other. The
 * thread owns the pipeline. */
#include "engine/engine.h"

#include "engine/pipeline.h"
#include "engine/queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct engine {
    struct model model;
    struct command_queue *commands;
    struct event_queue *events;
    struct pipeline *pipeline;
    pthread_t thread;
    bool started;
    uint64_t last_id;     /* UI thread only */
    pthread_mutex_t lock; /* of current and left; event order at the end of a job */
    uint64_t current;     /* job being run, 0: none */
    int left;             /* jobs accepted that have not ended */
    _Atomic int stop;     /* enum pipeline_stop for the current job; written under lock */
    atomic_bool paused;   /* the same for all jobs */
    bool resting;         /* paused between two jobs, and that was told */
    pthread_cond_t go;    /* paused or stop has changed */
};

static void emit(void *user, struct event *ev)
{
    struct engine *g = user;
    event_push(g->events, ev);
}

static enum pipeline_stop stop(void *user)
{
    struct engine *g = user;
    enum pipeline_stop asked = (enum pipeline_stop)atomic_load(&g->stop);
    return asked == PIPELINE_GO && atomic_load(&g->paused) ? PIPELINE_PAUSE : asked;
}

/* What a job that runs tells itself is told here when none does. Under the lock. */
static void tell_rest(struct engine *g)
{
    bool rests = atomic_load(&g->paused) && !g->current;
    if (rests != g->resting)
        event_push(g->events, &(struct event){ .kind = rests ? EVENT_PAUSED : EVENT_RESUMED });
    g->resting = rests;
}

static void rest(void *user)
{
    struct engine *g = user;
    pthread_mutex_lock(&g->lock);
    while (stop(g) == PIPELINE_PAUSE)
        pthread_cond_wait(&g->go, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

/* A job is over: the last one's end is told with it. Under the lock. */
static void ended(struct engine *g, uint64_t id)
{
    if (--g->left == 0)
        event_push(g->events, &(struct event){ .kind = EVENT_IDLE, .job = id });
}

/* False: the one that was waiting has been cancelled. */
static bool begin(struct engine *g, struct command *c)
{
    pthread_mutex_lock(&g->lock);
    while (atomic_load(&g->paused))
        pthread_cond_wait(&g->go, &g->lock);
    bool any = command_take(g->commands, c);
    if (any) {
        g->current = c->job;
        atomic_store(&g->stop, PIPELINE_GO);
    }
    pthread_mutex_unlock(&g->lock);
    return any;
}

static void *engine_thread(void *user)
{
    struct engine *g = user;
    struct command c;
    for (;;) {
        struct err e = { 0 };
        struct pipeline_hooks hooks = { .emit = emit, .stop = stop, .wait = rest, .user = g };
        command_wait(g->commands);
        if (!begin(g, &c))
            continue;
        if (c.kind == COMMAND_QUIT)
            return NULL;
        pipeline_run(g->pipeline, &c.request, c.job, &hooks, &e);
        job_free(&c.request);
        pthread_mutex_lock(&g->lock);
        g->current = 0;
        ended(g, c.job);
        tell_rest(g);
        pthread_mutex_unlock(&g->lock);
    }
}

bool engine_start(struct engine **out, const char *model_path, struct err *e)
{
    *out = NULL;
    struct engine *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "out of memory");
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->go, NULL);
    bool ok = model_open(&g->model, model_path, true, e) && command_queue_new(&g->commands, e) &&
              event_queue_new(&g->events, e) && pipeline_new(&g->pipeline, &g->model, e);
    if (ok) {
        int rc = pthread_create(&g->thread, NULL, engine_thread, g);
        ok = rc == 0 ? true : err_errno(e, rc, "the engine thread could not be started");
        g->started = ok;
    }
    if (!ok) {
        engine_stop(g);
        return false;
    }
    *out = g;
    return true;
}

void engine_stop(struct engine *g)
{
    if (!g)
        return;
    if (g->started) {
        struct command c;
        pthread_mutex_lock(&g->lock);
        while (command_withdraw(g->commands, 0, &c))
            job_free(&c.request);
        atomic_store(&g->stop, PIPELINE_ABANDON);
        atomic_store(&g->paused, false);
        pthread_cond_broadcast(&g->go);
        pthread_mutex_unlock(&g->lock);
        command_push(g->commands, &(struct command){ .kind = COMMAND_QUIT });
        pthread_join(g->thread, NULL);
    }
    pipeline_free(g->pipeline);
    command_queue_free(g->commands);
    event_queue_free(g->events);
    pthread_cond_destroy(&g->go);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

const struct model *engine_model(const struct engine *g)
{
    return &g->model;
}

bool engine_submit(struct engine *g, const struct job *j, uint64_t *id, struct err *e)
{
    struct command c = { .kind = COMMAND_GENERATE, .job = g->last_id + 1 };
    if (!job_copy(&c.request, j, e))
        return false;
    struct event queued = { .kind = EVENT_QUEUED, .job = c.job, .count = j->count, .steps = j->steps,
                            .width = j->width, .height = j->height, .seed = j->seed };
    pthread_mutex_lock(&g->lock); /* the thread cannot begin it before it is told of */
    bool fits = command_push(g->commands, &c);
    if (fits) {
        *id = ++g->last_id;
        g->left++;
        event_push(g->events, &queued);
    }
    pthread_mutex_unlock(&g->lock);
    job_free(&c.request); /* empty if it was taken over */
    return fits ? true : err_set(e, ERR_INPUT, "the queue is full: wait for a picture to finish");
}

void engine_pause(struct engine *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->paused, true);
    tell_rest(g);
    pthread_mutex_unlock(&g->lock);
}

void engine_resume(struct engine *g)
{
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->paused, false);
    pthread_cond_broadcast(&g->go);
    tell_rest(g);
    pthread_mutex_unlock(&g->lock);
}

void engine_cancel(struct engine *g, uint64_t id)
{
    struct command c;
    pthread_mutex_lock(&g->lock);
    while (command_withdraw(g->commands, id, &c)) {
        event_push(g->events, &(struct event){ .kind = EVENT_CANCELLED, .job = c.job });
        job_free(&c.request);
        ended(g, c.job);
    }
    if (g->current && (!id || id == g->current))
        atomic_store(&g->stop, atomic_load(&g->stop) == PIPELINE_GO ? PIPELINE_CANCEL : PIPELINE_ABANDON);
    pthread_cond_broadcast(&g->go);
    pthread_mutex_unlock(&g->lock);
}

void engine_foresee(struct engine *g, const struct job *j, struct plan_summary *out)
{
    pipeline_foresee(g->pipeline, j, out);
}

bool engine_foresee_speed(struct engine *g, const struct job *j, struct err *e)
{
    return pipeline_foresee_speed(g->pipeline, j, e);
}

bool engine_poll(struct engine *g, struct event *out)
{
    return event_pop(g->events, out);
}

int engine_fd(const struct engine *g)
{
    return event_queue_fd(g->events);
}
