/* fake_engine.c - see fake_engine.h. */
#include "tests/fake_engine.h"

#include "engine/queue.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { JOBS = 64 };

struct fake_job { uint64_t id; struct job job; int index; /* of its pictures */ };

struct fake {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct fake_job jobs[JOBS];
    int count;
    uint64_t next_id, running;
    bool cancel, quit, paused;
    struct event_queue *events;
    struct model model;
};

static struct fake *of(const struct engine *g)
{
    return (struct fake *)(void *)(uintptr_t)g;
}

const struct model *fake_model(void)
{
    static struct model m = {
        .name = "fake-model", .defaults = { 256, 256, 20, 3.5f }, .flux = { .guidance = true },
        .examples = 2, .example = { "a red apple on a blue background", "a small octopus on a yellow background" },
    };
    return &m;
}

struct image *fake_image(int width, int height, uint64_t seed)
{
    struct image *im = image_new(width, height, NULL);
    double hue = (double)(seed % 7) / 7;

    for (int y = 0; im && y < height; y++)
        for (int x = 0; x < width; x++) {
            double u = (x + 0.5) / width, v = (y + 0.5) / height, d = hypot(u - 0.5, v - 0.5);
            unsigned char *p = im->rgb + ((size_t)y * (size_t)width + (size_t)x) * 3;
            p[0] = (unsigned char)(d < 0.3 ? 220 - 160 * d : 40 + 60 * hue);
            p[1] = (unsigned char)(d < 0.3 ? 60 + 300 * (0.3 - d) : 90 + 120 * v);
            p[2] = (unsigned char)(d < 0.3 ? 50 : 120 + 120 * u);
        }
    return im;
}

static int step_ms(void)
{
    const char *s = getenv("FAKE_ENGINE_STEP_MS");

    return s ? atoi(s) : FAKE_STEP_MS;
}

static void push(struct fake *f, struct event ev)
{
    event_push(f->events, &ev);
}

static bool cancelled(struct fake *f)
{
    bool c;

    pthread_mutex_lock(&f->lock);
    if (f->paused && !f->cancel && !f->quit) {
        push(f, (struct event){ .kind = EVENT_PAUSED, .job = f->running });
        while (f->paused && !f->cancel && !f->quit) pthread_cond_wait(&f->wake, &f->lock);
        push(f, (struct event){ .kind = EVENT_RESUMED, .job = f->running });
    }
    c = f->cancel || f->quit;
    pthread_mutex_unlock(&f->lock);
    return c;
}

static void pause_ms(int ms)
{
    nanosleep(&(struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 }, NULL);
}

static struct event about(const struct fake_job *j, enum event_kind kind, enum stage stage)
{
    return (struct event){ .kind = kind, .job = j->id, .index = j->index, .count = j->job.count, .stage = stage,
                           .width = j->job.width, .height = j->job.height, .steps = j->job.steps,
                           .seed = j->job.seed + (uint64_t)j->index, .eta_seconds = -1 };
}

static void finish(struct fake *f, const struct fake_job *j, enum event_kind kind, enum err_kind fault,
                   const char *text,
                   bool image, double seconds)
{
    struct event ev = about(j, kind, STAGE_SAVE);

    ev.fault = fault;
    if (image) ev.image = fake_image(j->job.width, j->job.height, ev.seed);
    ev.seconds = seconds;
    snprintf(ev.text, sizeof ev.text, "%s", text);
    push(f, ev);
}

/* One picture; false: no more of the job. */
static bool run_job(struct fake *f, const struct fake_job *j)
{
    char path[4096];
    int ms = step_ms();
    struct event ev = about(j, EVENT_MEMORY, STAGE_LOAD);
    const struct job *job = &j->job;
    struct err e = { 0 };
    struct image *done;

    if (!j->index) push(f, about(j, EVENT_STARTED, STAGE_LOAD));
    ev.memory = (struct event_memory){
        .arena_bytes = 14200000, .used_bytes = 9100000, .rss = 61000000, .rss_anonymous = 31000000,
        .rss_file = 30000000,
        .activations = { 0, 300000, 1200000, 9100000, 14200000, 0 },
        .weights = { 0, 1700000, 4100000, 12600000, 3300000, 0 },
    };
    push(f, ev);
    for (enum stage s = STAGE_LOAD; s <= STAGE_T5; s++) {
        push(f, about(j, EVENT_STAGE, s));
        pause_ms(ms);
        if (cancelled(f)) goto stopped;
        if (s == STAGE_T5 && !strcmp(job->prompt, "crash")) raise(SIGSEGV);
        if (s == STAGE_T5 && !strcmp(job->prompt, "fail")) {
            ev = about(j, EVENT_FAILED, STAGE_T5);
            ev.fault = ERR_DAMAGED;
            snprintf(ev.text, sizeof ev.text, "T5: text_encoder_2/model.safetensors: tensor shared.weight is missing");
            push(f, ev);
            return false;
        }
    }
    push(f, about(j, EVENT_STAGE, STAGE_FLUX));
    for (int i = 1; i <= job->steps; i++) {
        for (int b = 1; b <= 4; b++) {
            pause_ms(ms / 4);
            if (cancelled(f)) goto stopped;
            ev = about(j, EVENT_PROGRESS, STAGE_FLUX);
            ev.step = i;
            ev.block = b;
            ev.blocks = 4;
            ev.seconds = (i - 1 + b / 4.0) * ms / 1000;
            ev.eta_seconds = (job->steps - i + (4 - b) / 4.0) * ms / 1000;
            push(f, ev);
        }
        if (job->preview) {
            ev = about(j, EVENT_PREVIEW, STAGE_FLUX);
            ev.step = i;
            ev.image = fake_image(job->width / 8, job->height / 8, job->seed + (uint64_t)i); /* each one is another */
            push(f, ev);
        }
    }
    push(f, about(j, EVENT_STAGE, STAGE_VAE));
    pause_ms(ms);
    if (cancelled(f)) goto stopped;
    if (!strcmp(job->prompt, "nosave")) {
        char text[512];
        snprintf(text, sizeof text, "save: cannot write %.400s: No space left on device", job->out);
        finish(f, j, EVENT_FAILED, ERR_DISK_FULL, text, true, 1);
        return false;
    }
    if (j->index) snprintf(path, sizeof path, "%s_%d.png", job->out, j->index);
    else snprintf(path, sizeof path, "%s", job->out);
    done = fake_image(job->width, job->height, job->seed + (uint64_t)j->index);
    if (done && image_write_png(done, path, NULL, 0, &e))
        finish(f, j, EVENT_DONE, ERR_NONE, path, true, job->steps * ms / 1000.0);
    else finish(f, j, EVENT_FAILED, e.kind, e.text, true, 0);
    image_free(done);
    return true;
stopped:
    finish(f, j, EVENT_CANCELLED, ERR_NONE, "", false, 0);
    return false;
}

static void *thread(void *arg)
{
    struct fake *f = arg;

    for (;;) {
        struct fake_job j;
        pthread_mutex_lock(&f->lock);
        if (!f->count && !f->quit) push(f, (struct event){ .kind = EVENT_IDLE });
        while (!f->count && !f->quit) pthread_cond_wait(&f->wake, &f->lock);
        if (f->quit) {
            pthread_mutex_unlock(&f->lock);
            return NULL;
        }
        j = f->jobs[0];
        memmove(f->jobs, f->jobs + 1, sizeof f->jobs - sizeof *f->jobs);
        f->count--;
        f->running = j.id;
        f->cancel = false;
        pthread_mutex_unlock(&f->lock);
        while (run_job(f, &j) && ++j.index < j.job.count) {}
        job_free(&j.job);
    }
}

struct engine *fake_engine_start(void)
{
    struct fake *f = calloc(1, sizeof *f);

    if (!f || !event_queue_new(&f->events, NULL)) abort();
    f->model = *fake_model();
    f->next_id = 1;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->wake, NULL);
    pthread_create(&f->thread, NULL, thread, f);
    return (struct engine *)(void *)f;
}

static void stop(struct engine *g)
{
    struct fake *f = of(g);

    pthread_mutex_lock(&f->lock);
    f->quit = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    for (int i = 0; i < f->count; i++) job_free(&f->jobs[i].job);
    event_queue_free(f->events);
    free(f);
}

static const struct model *model(const struct engine *g)
{
    return &of(g)->model;
}

static bool submit(struct engine *g, const struct job *j, uint64_t *id, struct err *e)
{
    struct fake *f = of(g);
    bool ok = false;

    pthread_mutex_lock(&f->lock);
    if (f->count == JOBS) {
        err_set(e, ERR_INPUT, "the queue is full");
    } else if (job_copy(&f->jobs[f->count].job, j, e)) {
        *id = f->jobs[f->count++].id = f->next_id++;
        pthread_cond_signal(&f->wake);
        ok = true;
    }
    pthread_mutex_unlock(&f->lock);
    return ok;
}

static void cancel(struct engine *g, uint64_t id)
{
    struct fake *f = of(g);

    pthread_mutex_lock(&f->lock);
    if (!id || id == f->running) f->cancel = true;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static void set_paused(struct engine *g, bool paused)
{
    struct fake *f = of(g);

    pthread_mutex_lock(&f->lock);
    f->paused = paused;
    pthread_cond_signal(&f->wake);
    pthread_mutex_unlock(&f->lock);
}

static void pause_job(struct engine *g)
{
    set_paused(g, true);
}

static void resume_job(struct engine *g)
{
    set_paused(g, false);
}

static bool poll_event(struct engine *g, struct event *out)
{
    return event_pop(of(g)->events, out);
}

static int fd(const struct engine *g)
{
    return event_queue_fd(of(g)->events);
}

const struct studio_engine fake_engine = {
    .stop = stop, .model = model, .submit = submit, .cancel = cancel, .pause = pause_job, .resume = resume_job,
    .poll = poll_event, .fd = fd,
};
