/* engine.c - see engine.h.
 *
 * Shared between the two threads: the two queues, and three atomics that say
 * which job is to stop and how hard. The thread owns the pipeline. */
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
    uint64_t last_id;               /* UI thread only */
    _Atomic uint64_t current;       /* job being run, 0: none */
    _Atomic uint64_t stop_id;       /* job that is to stop */
    _Atomic int stop_level;         /* enum pipeline_stop for stop_id */
    _Atomic bool quitting;
};

static void emit(void *user, struct event *ev)
{
    struct engine *g = user;
    event_push(g->events, ev);
}

static enum pipeline_stop stop(void *user)
{
    struct engine *g = user;
    if (atomic_load(&g->quitting))
        return PIPELINE_ABANDON;
    return atomic_load(&g->stop_id) == atomic_load(&g->current) ? (enum pipeline_stop)atomic_load(&g->stop_level)
                                                                : PIPELINE_GO;
}

static void *engine_thread(void *user)
{
    struct engine *g = user;
    struct command c;
    for (command_wait(g->commands, &c); c.kind != COMMAND_QUIT; command_wait(g->commands, &c)) {
        struct err e = { 0 };
        struct pipeline_hooks hooks = { .emit = emit, .stop = stop, .user = g };
        atomic_store(&g->current, c.job);
        pipeline_run(g->pipeline, &c.request, c.job, &hooks, &e);
        atomic_store(&g->current, 0);
        job_free(&c.request);
        if (command_empty(g->commands))
            event_push(g->events, &(struct event){ .kind = EVENT_IDLE, .job = c.job });
    }
    return NULL;
}

bool engine_start(struct engine **out, const char *model_path, struct err *e)
{
    *out = NULL;
    struct engine *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(e, ERR_MEMORY, "out of memory");
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
        while (command_withdraw(g->commands, 0, &c))
            job_free(&c.request);
        atomic_store(&g->quitting, true);
        command_push(g->commands, &(struct command){ .kind = COMMAND_QUIT });
        pthread_join(g->thread, NULL);
    }
    pipeline_free(g->pipeline);
    command_queue_free(g->commands);
    event_queue_free(g->events);
    free(g);
}

const struct model *engine_model(const struct engine *g)
{
    return &g->model;
}

bool engine_submit(struct engine *g, const struct job *j, uint64_t *id, struct err *e)
{
    struct command c = { .kind = COMMAND_GENERATE, .job = g->last_id + 1 };
    if (command_full(g->commands))
        return err_set(e, ERR_INPUT, "the queue is full: wait for a picture to finish");
    if (!job_copy(&c.request, j, e))
        return false;
    struct event queued = { .kind = EVENT_QUEUED, .job = c.job, .count = j->count, .steps = j->steps,
                            .width = j->width, .height = j->height, .seed = j->seed };
    *id = ++g->last_id;
    event_push(g->events, &queued);
    command_push(g->commands, &c);
    return true;
}

void engine_cancel(struct engine *g, uint64_t id)
{
    struct command c;
    while (command_withdraw(g->commands, id, &c)) {
        event_push(g->events, &(struct event){ .kind = EVENT_CANCELLED, .job = c.job });
        job_free(&c.request);
    }
    uint64_t current = atomic_load(&g->current);
    if (!current || (id && id != current))
        return;
    int level = atomic_load(&g->stop_id) == current ? PIPELINE_ABANDON : PIPELINE_CANCEL;
    atomic_store(&g->stop_level, level);
    atomic_store(&g->stop_id, current);
}

bool engine_poll(struct engine *g, struct event *out)
{
    return event_pop(g->events, out);
}

int engine_fd(const struct engine *g)
{
    return event_queue_fd(g->events);
}
