/* test_engine.c - jobs from the order to the file: pipeline, engine thread,
 * queues, sampler, and what a job may ask for.
 *
 * The pipeline runs in the test's own thread where an order of events or a
 * cancel at one exact place is wanted: `record` keeps every event and can ask
 * for a stop or spoil something when a given event comes. The engine's thread
 * is tested with the same small models (tests/golden) for what is only there.
 * Does not test that the numbers are right (test_golden) or files in general
 * (test_files). Pictures go to a scratch folder. */
#include "engine/config.h"
#include "engine/engine.h"
#include "engine/file.h"
#include "engine/image.h"
#include "engine/memory.h"
#include "engine/pipeline.h"
#include "engine/queue.h"
#include "engine/sampler.h"
#include "engine/safetensors.h"
#include "tests/golden_model.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef __has_feature
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
/* A sanitizer keeps what was freed; that of threads does not see how libgomp's
 * threads wait for each other, so there is one compute thread. */
#if defined __SANITIZE_THREAD__ || HAS_FEATURE(thread_sanitizer)
enum { SANITIZED = 1, OTHER_THREADS = 1 };
#elif defined __SANITIZE_ADDRESS__ || HAS_FEATURE(address_sanitizer)
enum { SANITIZED = 1, OTHER_THREADS = 2 };
#else
enum { SANITIZED = 0, OTHER_THREADS = 2 };
#endif

enum { WIDTH = 48, HEIGHT = 32, STEPS = 3, RECORD_MAX = 4096, PATIENCE_MS = 60000 };

static char work[FILE_PATH_MAX], dev_dir[FILE_PATH_MAX], schnell_dir[FILE_PATH_MAX];
static struct model dev, schnell;

static void must(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s", e->text);
}

/* A path in the scratch folder; of the last four asked for. */
static const char *in_work(const char *name)
{
    static char buf[4][FILE_PATH_MAX];
    static int next;
    return path_in(work, name, buf[next++ % 4]);
}

static int files_in(const char *dir)
{
    DIR *d = opendir(dir);
    if (!d)
        fail_msg("%s: %s", dir, strerror(errno));
    int n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

/* --- a job ------------------------------------------------------------------------ */
static void set(char **field, const char *value)
{
    struct err e = { 0 };
    must(job_set_string(field, value, &e), &e);
}

static struct job job_named(const char *out)
{
    struct err e = { 0 };
    struct job j;
    must(job_init(&j, &dev, &e), &e);
    set(&j.prompt, "a red apple");
    set(&j.out, in_work(out));
    j.width = WIDTH;
    j.height = HEIGHT;
    j.steps = STEPS;
    j.seed = 7;
    j.threads = 1;
    return j;
}

/* --- events, kept ------------------------------------------------------------------- */
struct record {
    struct event ev[RECORD_MAX];
    int count;
    enum pipeline_stop stop;
    void (*on)(struct record *r, const struct event *ev); /* may set stop, or spoil something */
};

static struct record rec;

static void record_clear(void)
{
    for (int i = 0; i < rec.count; i++)
        event_clear(&rec.ev[i]);
    rec.count = 0;
    rec.stop = PIPELINE_GO;
    rec.on = NULL;
}

static void record_emit(void *user, struct event *ev)
{
    struct record *r = user;
    assert_true(r->count < RECORD_MAX);
    r->ev[r->count++] = *ev;
    ev->image = NULL;
    if (r->on)
        r->on(r, &r->ev[r->count - 1]);
}

static enum pipeline_stop record_stop(void *user)
{
    return ((struct record *)user)->stop;
}

static const struct pipeline_hooks hooks = { .emit = record_emit, .stop = record_stop, .user = &rec };

static int count_of(enum event_kind kind)
{
    int n = 0;
    for (int i = 0; i < rec.count; i++)
        n += rec.ev[i].kind == kind;
    return n;
}

static int count_stage(enum stage s)
{
    int n = 0;
    for (int i = 0; i < rec.count; i++)
        n += rec.ev[i].kind == EVENT_STAGE && rec.ev[i].stage == s;
    return n;
}

/* The n-th event of a kind, from 0. */
static const struct event *event_of(enum event_kind kind, int n)
{
    for (int i = 0; i < rec.count; i++)
        if (rec.ev[i].kind == kind && n-- == 0)
            return &rec.ev[i];
    fail_msg("there was no %s event (%d more)", event_kind_name(kind), n + 1);
    return NULL;
}

static struct pipeline *pipeline_of(const struct model *m)
{
    struct err e = { 0 };
    struct pipeline *p;
    must(pipeline_new(&p, m, &e), &e);
    return p;
}

/* Runs the job with `on` watching; keeps its events. */
static enum err_kind run_watched(struct pipeline *p, const struct job *j,
                                 void (*on)(struct record *, const struct event *))
{
    struct err e = { 0 };
    record_clear();
    rec.on = on;
    bool ok = pipeline_run(p, j, 1, &hooks, &e);
    assert_int_equal(ok, e.kind == ERR_NONE);
    return e.kind;
}

static void run_well(struct pipeline *p, const struct job *j)
{
    enum err_kind kind = run_watched(p, j, NULL);
    if (kind != ERR_NONE)
        fail_msg("%s", event_of(EVENT_FAILED, 0)->text);
    assert_int_equal(count_of(EVENT_DONE), j->count);
}

static void same_picture(const char *a, const char *b)
{
    struct err e = { 0 };
    struct image *x = image_read(a, &e), *y = image_read(b, &e);
    must(x && y, &e);
    assert_int_equal(x->width, y->width);
    assert_int_equal(x->height, y->height);
    assert_memory_equal(x->rgb, y->rgb, (size_t)x->width * (size_t)x->height * 3);
    image_free(x);
    image_free(y);
}

/* The JSON of a picture's text chunk "sluice". */
static json_t *settings_of(const char *path)
{
    struct err e = { 0 };
    char *text = image_read_text(path, "sluice", &e);
    must(text, &e);
    json_t *o = config_parse(text, strlen(text), 0, path, &e);
    must(o, &e);
    free(text);
    return o;
}

/* --- one job's events ---------------------------------------------------------------- */

/* One letter an event: stages in capitals, what goes with them small. */
static void letters(char *out)
{
    const char *from = out;
    static const char stage[STAGE_COUNT] = { 'L', 'C', 'T', 'F', 'V', 'S' };
    for (int i = 0; i < rec.count; i++)
        switch (rec.ev[i].kind) {
        case EVENT_STARTED: *out++ = '>'; break;
        case EVENT_STAGE: *out++ = stage[rec.ev[i].stage]; break;
        case EVENT_PROGRESS: *out++ = rec.ev[i].block == rec.ev[i].blocks ? '.' : '-'; break;
        case EVENT_PREVIEW: *out++ = 'o'; break;
        case EVENT_MEMORY: /* that of every second, where the machine is slow, is left out */
            if (out == from || !strchr("-.o", out[-1]))
                *out++ = 'm';
            break;
        case EVENT_DONE: *out++ = '!'; break;
        default: *out++ = '?'; break;
        }
    *out = '\0';
}

static void events_come_in_order(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("order.png");
    char got[RECORD_MAX + 1];
    run_well(p, &j);
    letters(got);
    /* 3 CLIP blocks, 3 of T5, 2 double and 3 single ones; the VAE's: 2 + 4 x 3 residual blocks. */
    assert_string_equal(got, "Lm>Cm--.Tm--.Fmm----.o----.o----.oVm-------------.Sm!");
    int step = 0, block = 0;
    for (int i = 0; i < rec.count; i++) {
        const struct event *ev = &rec.ev[i];
        assert_int_equal(ev->job, 1);
        assert_int_equal(ev->seed, 7);
        assert_int_equal(ev->count, 1);
        assert_int_equal(ev->steps, STEPS);
        assert_true(ev->seconds >= 0);
        if (ev->kind == EVENT_PROGRESS) {
            assert_int_equal(ev->block, ++block);
            if (ev->block == ev->blocks)
                block = 0;
        }
        if (ev->kind == EVENT_PREVIEW) {
            assert_int_equal(ev->step, ++step);
            assert_int_equal(ev->image->width, WIDTH / 8);
            assert_int_equal(ev->image->height, HEIGHT / 8);
        }
        if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX && step > 0)
            assert_true(ev->eta_seconds >= 0 && ev->eta_seconds < 60);
    }
    const struct event *done = event_of(EVENT_DONE, 0);
    assert_string_equal(done->text, j.out);
    assert_int_equal(done->image->width, WIDTH);
    assert_int_equal(done->image->height, HEIGHT);
    struct err e = { 0 };
    struct image *saved = image_read(j.out, &e);
    must(saved, &e);
    assert_memory_equal(saved->rgb, done->image->rgb, WIDTH * HEIGHT * 3);
    image_free(saved);

    j.preview = PREVIEW_NONE;
    run_well(p, &j);
    assert_int_equal(count_of(EVENT_PREVIEW), 0);
    job_free(&j);
    pipeline_free(p);
}

static void memory_is_as_planned(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    for (int size = 16; size <= 64; size += 24) {
        for (enum precision precision = PRECISION_FP32; precision < PRECISION_COUNT_; precision++) {
            struct job j = job_named("memory.png");
            j.width = size / 16 * 16;
            j.precision = precision;
            run_well(p, &j);
            const struct event_memory *m = &event_of(EVENT_MEMORY, count_of(EVENT_MEMORY) - 1)->memory;
            size_t most = 0;
            for (enum stage s = STAGE_CLIP; s <= STAGE_VAE; s++) {
                assert_true(m->activations[s] > 0);
                assert_true(m->weights[s] > 0);
                most = m->activations[s] > most ? m->activations[s] : most;
            }
            assert_int_equal(m->arena_bytes, most);
            assert_int_equal(m->peak_bytes, most);
            assert_int_equal(m->used_bytes, 0);
            assert_true(m->rss > 1 << 20 && m->rss_anonymous > 0 && m->rss_file > 0);
            assert_true(m->rss_anonymous <= m->rss && m->rss_file <= m->rss);
            /* The transformer's tables stay for all steps: told once they are there. */
            size_t held = 0;
            for (int i = 0; i < count_of(EVENT_MEMORY); i++)
                if (event_of(EVENT_MEMORY, i)->stage == STAGE_FLUX)
                    held = event_of(EVENT_MEMORY, i)->memory.used_bytes;
            assert_true(held > 0 && held < m->activations[STAGE_FLUX]);
            job_free(&j);
        }
    }
    pipeline_free(p);
}

static void memory_does_not_grow(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("grow.png");
    j.steps = 1;
    run_well(p, &j);
    run_well(p, &j);
    record_clear();
    size_t before = memory_use().anonymous;
    for (int i = 0; i < 20; i++)
        run_well(p, &j);
    record_clear();
    size_t after = memory_use().anonymous;
    assert_true(before > 0);
    if (!SANITIZED && after > before + (2u << 20))
        fail_msg("20 pictures: %zu kB more", (after - before) >> 10);
    job_free(&j);
    pipeline_free(p);
}

static void same_job_same_bytes(void **state)
{
    (void)state;
    for (enum precision precision = PRECISION_FP32; precision < PRECISION_COUNT_; precision++) {
        struct pipeline *p = pipeline_of(&dev), *q = pipeline_of(&dev);
        struct job j = job_named("same-a.png");
        j.precision = precision;
        run_well(p, &j);
        set(&j.out, in_work("same-b.png"));
        run_well(p, &j);
        same_picture(in_work("same-a.png"), in_work("same-b.png"));
        j.threads = OTHER_THREADS;
        run_well(q, &j); /* other threads, nothing kept from before */
        same_picture(in_work("same-a.png"), in_work("same-b.png"));
        j.seed++;
        run_well(q, &j);
        struct err e = { 0 };
        struct image *x = image_read(in_work("same-a.png"), &e), *y = image_read(in_work("same-b.png"), &e);
        must(x && y, &e);
        assert_memory_not_equal(x->rgb, y->rgb, WIDTH * HEIGHT * 3);
        image_free(x);
        image_free(y);
        job_free(&j);
        pipeline_free(p);
        pipeline_free(q);
    }
}

/* --- batches --------------------------------------------------------------------------- */
static void batch_counts_up(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("batch.png");
    j.count = 3;
    set(&j.dump_stages, in_work("batch.safetensors"));
    run_well(p, &j);
    assert_int_equal(count_of(EVENT_STARTED), 3);
    assert_int_equal(count_stage(STAGE_LOAD), 1);
    assert_int_equal(count_stage(STAGE_CLIP), 1);
    assert_int_equal(count_stage(STAGE_T5), 1);
    assert_int_equal(count_stage(STAGE_FLUX), 3);
    static const char *const names[] = { "batch.png", "batch-1.png", "batch-2.png" };
    for (int i = 0; i < 3; i++) {
        const struct event *ev = event_of(EVENT_DONE, i);
        assert_string_equal(ev->text, in_work(names[i]));
        assert_int_equal(ev->index, i);
        assert_int_equal(ev->count, 3);
        assert_int_equal(ev->seed, 7 + i);
        json_t *o = settings_of(in_work(names[i]));
        assert_int_equal(json_integer_value(json_object_get(o, "seed")), 7 + i);
        json_decref(o);
    }
    /* The dump is of the first picture, once. */
    struct safetensors *s;
    must(safetensors_open(&s, j.dump_stages, &e), &e);
    assert_int_equal(safetensors_count(s), 4 + 1 + 1 + 2 * STEPS + 1);
    struct tensor t;
    assert_true(safetensors_find(s, "image", &t));
    struct image *first = image_read(in_work("batch.png"), &e);
    must(first, &e);
    const float *planes = t.data;
    for (size_t i = 0; i < WIDTH * HEIGHT * 3; i++) {
        double x = fmin(fmax((double)planes[i % 3 * WIDTH * HEIGHT + i / 3] / 2 + 0.5, 0), 1) * 255;
        assert_true(fabs(x - first->rgb[i]) <= 0.51);
    }
    image_free(first);
    safetensors_close(s);

    j.count = 1;
    j.seed = 8;
    set(&j.dump_stages, NULL);
    set(&j.out, in_work("single.png"));
    run_well(p, &j);
    same_picture(in_work("single.png"), in_work("batch-1.png"));
    j.seed = UINT64_MAX;
    j.count = 2;
    run_well(p, &j);
    assert_true(event_of(EVENT_DONE, 0)->seed == UINT64_MAX);
    assert_true(event_of(EVENT_DONE, 1)->seed == 0);
    json_t *o = settings_of(in_work("single.png"));
    assert_string_equal(json_string_value(json_object_get(o, "seed")), "18446744073709551615");
    json_decref(o);
    job_free(&j);
    pipeline_free(p);
}

/* --- cancel ------------------------------------------------------------------------------ */
static void at_step2_block2(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX && ev->step == 2 && ev->block == 2)
        r->stop = PIPELINE_CANCEL;
}

static void at_step2_and_again_in_vae(struct record *r, const struct event *ev)
{
    at_step2_block2(r, ev);
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_VAE && ev->block == 3)
        r->stop = PIPELINE_ABANDON;
}

static void at_first_block(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX)
        r->stop = PIPELINE_CANCEL;
}

static void in_clip(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_CLIP)
        r->stop = PIPELINE_CANCEL;
}

static void in_t5(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_STAGE && ev->stage == STAGE_T5)
        r->stop = PIPELINE_CANCEL;
}

static void in_load(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_STAGE && ev->stage == STAGE_LOAD)
        r->stop = PIPELINE_CANCEL;
}

static void in_vae(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_STAGE && ev->stage == STAGE_VAE)
        r->stop = PIPELINE_CANCEL;
}

static void after_first(struct record *r, const struct event *ev)
{
    if (ev->kind == EVENT_DONE)
        r->stop = PIPELINE_CANCEL;
}

static void in_second(struct record *r, const struct event *ev)
{
    if (ev->index == 1)
        at_step2_block2(r, ev);
}

static void cancel_keeps_whole_steps(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("cut.png");
    set(&j.dump_stages, in_work("cut.safetensors"));
    assert_int_equal(run_watched(p, &j, at_step2_block2), ERR_CANCELLED);
    const struct event *ev = &rec.ev[rec.count - 1];
    assert_int_equal(ev->kind, EVENT_CANCELLED);
    assert_int_equal(ev->step, 1);
    assert_non_null(ev->image);
    assert_int_equal(ev->image->width, WIDTH);
    assert_string_equal(ev->text, in_work("cut-partial.png"));
    assert_false(file_exists(in_work("cut.png")));
    assert_false(file_exists(in_work("cut.safetensors")));
    assert_int_equal(count_of(EVENT_DONE) + count_of(EVENT_FAILED) + count_of(EVENT_NOTICE), 0);
    /* No block ended after the one at which it was asked for: 5 of step 1, 2 of step 2. */
    int blocks = 0;
    for (int i = 0; i < rec.count; i++)
        blocks += rec.ev[i].kind == EVENT_PROGRESS && rec.ev[i].stage == STAGE_FLUX;
    assert_int_equal(blocks, 7);
    json_t *o = settings_of(in_work("cut-partial.png"));
    assert_int_equal(json_integer_value(json_object_get(o, "steps")), STEPS);
    assert_int_equal(json_integer_value(json_object_get(o, "steps_done")), 1);
    json_decref(o);

    /* The next job is none the worse. */
    struct job k = job_named("uncut.png");
    run_well(p, &k);
    struct pipeline *q = pipeline_of(&dev);
    set(&k.out, in_work("fresh.png"));
    run_well(q, &k);
    same_picture(in_work("uncut.png"), in_work("fresh.png"));
    job_free(&j);
    job_free(&k);
    pipeline_free(p);
    pipeline_free(q);
}

static void cancel_without_a_picture(void **state)
{
    (void)state;
    static const struct { void (*on)(struct record *, const struct event *); int decodes; } cases[] = {
        { in_load, 0 }, { in_clip, 0 }, { in_t5, 0 }, { at_first_block, 0 }, { at_step2_and_again_in_vae, 1 },
    };
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("none.png");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(run_watched(p, &j, cases[i].on), ERR_CANCELLED);
        const struct event *ev = &rec.ev[rec.count - 1];
        assert_int_equal(ev->kind, EVENT_CANCELLED);
        assert_null(ev->image);
        assert_string_equal(ev->text, "");
        assert_int_equal(count_stage(STAGE_VAE), cases[i].decodes);
        assert_int_equal(count_stage(STAGE_SAVE), 0);
        assert_int_equal(count_of(EVENT_NOTICE), 0);
        assert_false(file_exists(in_work("none.png")));
        assert_false(file_exists(in_work("none-partial.png")));
    }
    run_well(p, &j);
    job_free(&j);
    pipeline_free(p);
}

static void cancel_while_decoding_finishes(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("late.png");
    assert_int_equal(run_watched(p, &j, in_vae), ERR_NONE);
    assert_int_equal(rec.ev[rec.count - 1].kind, EVENT_DONE);
    assert_true(file_exists(in_work("late.png")));
    job_free(&j);
    pipeline_free(p);
}

static void cancel_of_a_batch(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("row.png");
    j.count = 3;
    assert_int_equal(run_watched(p, &j, after_first), ERR_CANCELLED);
    assert_int_equal(count_of(EVENT_DONE), 1);
    assert_int_equal(count_of(EVENT_STARTED), 1);
    assert_int_equal(rec.ev[rec.count - 1].kind, EVENT_CANCELLED);
    assert_null(rec.ev[rec.count - 1].image);
    assert_false(file_exists(in_work("row-1.png")));
    /* In the last picture's decoding there is nothing left to cancel; before it there is. */
    assert_int_equal(run_watched(p, &j, in_second), ERR_CANCELLED);
    assert_int_equal(count_of(EVENT_DONE), 1);
    assert_string_equal(event_of(EVENT_CANCELLED, 0)->text, in_work("row-1-partial.png"));
    assert_int_equal(event_of(EVENT_CANCELLED, 0)->index, 1);
    assert_true(file_exists(in_work("row-1-partial.png")));
    assert_false(file_exists(in_work("row-1.png")));
    job_free(&j);
    pipeline_free(p);
}

/* --- failures ---------------------------------------------------------------------------- */

/* The job fails, its text has both parts, and the pipeline still works. The kind of failure. */
static enum err_kind fails_with(struct pipeline *p, const struct job *j,
                                void (*on)(struct record *, const struct event *), bool picture, const char *part,
                                const char *other)
{
    enum err_kind kind = run_watched(p, j, on);
    if (kind == ERR_NONE || kind == ERR_CANCELLED || count_of(EVENT_FAILED) != 1 || count_of(EVENT_DONE) != 0)
        fail_msg("expected a failure about %s", part);
    const struct event *ev = &rec.ev[rec.count - 1];
    assert_int_equal(ev->kind, EVENT_FAILED);
    assert_int_equal(ev->fault, kind);
    if (!strstr(ev->text, part) || !strstr(ev->text, other))
        fail_msg("\"%s\" does not say %s, %s", ev->text, part, other);
    if (getenv("ENGINE_VERBOSE"))
        print_message("%s\n", ev->text);
    if (picture) {
        assert_non_null(ev->image);
        assert_int_equal(ev->image->width, j->width);
        assert_int_equal(ev->image->height, j->height);
    } else {
        assert_null(ev->image);
    }
    return kind;
}

static rlim_t size_limit;

static void limit_file_size(rlim_t bytes)
{
    struct rlimit r;
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &r);
}

static void disk_full_on_save(struct record *r, const struct event *ev)
{
    (void)r;
    if (ev->kind == EVENT_STAGE && ev->stage == STAGE_SAVE)
        limit_file_size(size_limit);
    if (ev->kind == EVENT_FAILED || ev->kind == EVENT_DONE)
        limit_file_size(RLIM_INFINITY);
}

static void folder_goes(struct record *r, const struct event *ev)
{
    (void)r;
    if (ev->kind == EVENT_STAGE && ev->stage == STAGE_VAE)
        scratch_remove(in_work("going"));
}

static void output_that_cannot_be_written(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("no/such/picture.png");
    assert_int_equal(fails_with(p, &j, NULL, false, "no/such", "folder"), ERR_MISSING);
    assert_int_equal(rec.ev[rec.count - 1].stage, STAGE_SAVE); /* it is what cannot be done, though nothing is yet */
    assert_int_equal(count_stage(STAGE_CLIP), 0); /* said before any work */
    mkdir(in_work("afolder.png"), 0777);
    set(&j.out, in_work("afolder.png"));
    fails_with(p, &j, NULL, false, "afolder.png", "is a folder");
    set(&j.out, "");
    fails_with(p, &j, NULL, false, "", "");
    assert_int_equal(count_stage(STAGE_CLIP), 0);

    if (geteuid() != 0) {
        mkdir(in_work("sealed"), 0555);
        set(&j.out, in_work("sealed/picture.png"));
    } else {
        set(&j.out, "/proc/sluice-test.png"); /* root may write in any folder but this */
    }
    fails_with(p, &j, NULL, false, "cannot", ".png");
    assert_int_equal(count_stage(STAGE_CLIP), 0);

    set(&j.out, in_work("dumped.png"));
    set(&j.dump_stages, in_work("no/such/dump.safetensors"));
    fails_with(p, &j, NULL, false, "dump.safetensors", "folder");
    assert_int_equal(count_stage(STAGE_CLIP), 0);
    set(&j.dump_stages, NULL);

    /* Too late to be seen before: the finished picture comes with the news. */
    mkdir(in_work("going"), 0777);
    set(&j.out, in_work("going/picture.png"));
    fails_with(p, &j, folder_goes, true, "going/picture.png", "cannot");

    mkdir(in_work("full"), 0777);
    set(&j.out, in_work("full/picture.png"));
    size_limit = 700;
    assert_int_equal(fails_with(p, &j, disk_full_on_save, true, "full/picture.png", "limit"), ERR_DISK_FULL);
    assert_int_equal(rec.ev[rec.count - 1].stage, STAGE_SAVE);
    assert_int_equal(files_in(in_work("full")), 0);
    size_limit = 20000; /* enough for the picture */
    set(&j.dump_stages, in_work("full/dump.safetensors"));
    fails_with(p, &j, disk_full_on_save, true, "full/dump.safetensors", "limit");
    assert_int_equal(files_in(in_work("full")), 1);
    assert_true(file_exists(in_work("full/picture.png")));
    run_well(p, &j);
    assert_int_equal(files_in(in_work("full")), 2);
    job_free(&j);
    pipeline_free(p);
}

/* A file with one F32 tensor in it, for --init-latents. */
static void write_latents(const char *path, const char *name, int channels, enum dtype type, float value, size_t at)
{
    enum { H = HEIGHT / 8, W = WIDTH / 8 };
    struct err e = { 0 };
    static float data[32 * H * W];
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++)
        data[i] = (float)(i % 13) / 6 - 1;
    data[at] = value;
    struct safetensors_entry entry = { name, tensor_3d(data, type, channels, H, W) };
    must(safetensors_write(path, &entry, 1, &e), &e);
}

static void wrong_latents(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    struct job j = job_named("latents.png");
    set(&j.init_latents, in_work("latents.safetensors"));
    fails_with(p, &j, NULL, false, "latents.safetensors", "open");
    write_latents(j.init_latents, "noise", 16, DT_F32, 0, 0);
    fails_with(p, &j, NULL, false, "latents.safetensors", "\"latent\"");
    write_latents(j.init_latents, "latent", 15, DT_F32, 0, 0);
    fails_with(p, &j, NULL, false, "[15, 4, 6]", "needs F32 [16, 4, 6]");
    write_latents(j.init_latents, "latent", 16, DT_BF16, 0, 0);
    fails_with(p, &j, NULL, false, "BF16", "F32");
    write_latents(j.init_latents, "latent", 16, DT_F32, NAN, 77);
    fails_with(p, &j, NULL, false, "not finite", "77");
    write_latents(j.init_latents, "latent", 16, DT_F32, INFINITY, 0);
    fails_with(p, &j, NULL, false, "not finite", "latent");
    struct err e = { 0 };
    must(file_write(j.init_latents, "rubbish", 7, &e), &e);
    fails_with(p, &j, NULL, false, "latents.safetensors", "");
    write_latents(j.init_latents, "latent", 16, DT_F32, 0, 0);
    run_well(p, &j);
    json_t *o = settings_of(in_work("latents.png"));
    assert_string_equal(json_string_value(json_object_get(o, "init_latents")), j.init_latents);
    json_decref(o);
    job_free(&j);
    pipeline_free(p);
}

/* Puts `value` into the first element of a tensor in the file; returns what was there. */
static uint32_t poke(const char *path, const char *tensor, uint32_t value)
{
    struct err e = { 0 };
    size_t bytes;
    char *data = file_read(path, 64 << 20, &bytes, &e);
    must(data, &e);
    uint64_t header;
    memcpy(&header, data, 8);
    json_t *o = config_parse(data + 8, header, 0, path, &e);
    must(o, &e);
    json_t *offsets = json_object_get(json_object_get(o, tensor), "data_offsets");
    if (!offsets)
        fail_msg("%s has no tensor %s", path, tensor);
    char *at = data + 8 + header + json_integer_value(json_array_get(offsets, 0));
    uint32_t old;
    memcpy(&old, at, 4);
    memcpy(at, &value, 4);
    must(file_write(path, data, bytes, &e), &e);
    json_decref(o);
    free(data);
    return old;
}

static void broken_weights_are_named(void **state)
{
    (void)state;
    static const struct { const char *part, *file, *tensor; } cases[] = {
        { "text_encoder", "text_encoder/model.safetensors", "text_model.final_layer_norm.weight" },
        { "text_encoder_2", "text_encoder_2/model.safetensors", "encoder.final_layer_norm.weight" },
        { "transformer", "transformer/diffusion_pytorch_model.safetensors", "x_embedder.bias" },
        { "vae", "vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.bias" },
    };
    struct err e = { 0 };
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX], away[FILE_PATH_MAX];
    golden_make("dev96", path_in(work, "broken", dir));
    static struct model m;
    must(model_open(&m, dir, true, &e), &e);
    struct job j = job_named("broken.png");
    j.steps = 1;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        path_in(dir, cases[i].file, path);
        uint32_t old = poke(path, cases[i].tensor, 0x7fc07fc0); /* NaN in F32 and in BF16 */
        struct pipeline *p = pipeline_of(&m);
        j.precision = i % 2 ? PRECISION_BF16 : PRECISION_FP32;
        fails_with(p, &j, NULL, false, cases[i].file, cases[i].tensor);
        assert_int_equal(fails_with(p, &j, NULL, false, cases[i].part, "element 0"), ERR_DAMAGED);
        pipeline_free(p);
        poke(path, cases[i].tensor, old);

        /* The file goes away between opening the model and the first job. */
        p = pipeline_of(&m);
        path_in(dir, "away", away);
        assert_int_equal(rename(path, away), 0);
        assert_int_equal(fails_with(p, &j, NULL, false, cases[i].part, "broken"), ERR_MISSING);
        struct model whole;
        assert_false(model_open(&whole, dir, true, &e));
        assert_non_null(strstr(e.text, cases[i].part));
        err_clear(&e);
        struct engine *g;
        assert_false(engine_start(&g, dir, &e));
        assert_null(g);
        err_clear(&e);
        assert_int_equal(rename(away, path), 0);
        run_well(p, &j);
        pipeline_free(p);
    }
    job_free(&j);
}

/* --- prompts and what the PNG says ---------------------------------------------------------- */
static void prompt_is_kept(struct pipeline *p, const char *prompt, const char *kept)
{
    struct err e = { 0 };
    struct job j = job_named("prompt.png");
    j.steps = 1;
    set(&j.prompt, prompt);
    run_well(p, &j);
    json_t *o = settings_of(j.out);
    assert_string_equal(json_string_value(json_object_get(o, "prompt")), kept);
    json_decref(o);
    char *text = image_read_text(j.out, "parameters", &e), *want = NULL;
    must(text, &e);
    assert_true(asprintf(&want, "%s\nSteps: 1, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
                                "Distilled CFG Scale: 3.5, Seed: 7, Size: 48x32, Model: dev96, RNG: torch-cpu, "
                                "Version: sluice " SLUICE_VERSION, kept) > 0);
    assert_string_equal(text, want);
    free(want);
    free(text);
    job_free(&j);
}

static void prompts_of_all_kinds(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&dev);
    prompt_is_kept(p, "", "");
    assert_int_equal(count_of(EVENT_NOTICE), 0);
    prompt_is_kept(p, "a red apple, \"quoted\" \\ back", "a red apple, \"quoted\" \\ back");
    prompt_is_kept(p, "ein grüner Apfel 🍏 苹果", "ein grüner Apfel 🍏 苹果");
    prompt_is_kept(p, "\x01\x02\t\r\n\x1b[31mred\x7f", "\x01\x02\t\r\n\x1b[31mred\x7f");
    prompt_is_kept(p, "bad \xff\xfe \xc3( \xed\xa0\x80 end\xf0\x9f",
                   "bad \uFFFD\uFFFD \uFFFD( \uFFFD\uFFFD\uFFFD end\uFFFD");
    char *big = malloc(100 * 1024 + 1);
    assert_non_null(big);
    for (int i = 0; i < 100 * 1024; i++)
        big[i] = "apple "[i % 6];
    big[100 * 1024] = '\0';
    prompt_is_kept(p, big, big);
    assert_non_null(strstr(event_of(EVENT_NOTICE, 0)->text, "longer than"));
    free(big);
    pipeline_free(p);
}

/* Names of any bytes: the PNG's texts are UTF-8 all the same. */
static void names_of_any_bytes(void **state)
{
    (void)state;
    struct err e = { 0 };
    static struct model odd;
    odd = dev;
    strcpy(odd.name, "mod\xe8le");
    struct pipeline *p = pipeline_of(&odd);
    struct job j = job_named("\xe9t\xe9.png");
    set(&j.init_latents, in_work("l\xe0.safetensors"));
    write_latents(j.init_latents, "latent", 16, DT_F32, 0, 0);
    run_well(p, &j);
    json_t *o = settings_of(j.out);
    assert_string_equal(json_string_value(json_object_get(o, "model")), "mod\uFFFDle");
    assert_non_null(strstr(json_string_value(json_object_get(o, "init_latents")), "l\uFFFD.safetensors"));
    json_decref(o);
    char *text = image_read_text(j.out, "parameters", &e);
    must(text, &e);
    assert_non_null(strstr(text, "Model: mod\uFFFDle,"));
    free(text);
    job_free(&j);
    pipeline_free(p);
}

static void schnell_ignores_guidance(void **state)
{
    (void)state;
    struct pipeline *p = pipeline_of(&schnell);
    struct job j = job_named("schnell.png");
    j.guidance = 3.5f;
    run_well(p, &j);
    assert_non_null(strstr(event_of(EVENT_NOTICE, 0)->text, "guidance"));
    j.guidance = 0;
    set(&j.out, in_work("schnell0.png"));
    run_well(p, &j);
    assert_int_equal(count_of(EVENT_NOTICE), 0);
    same_picture(in_work("schnell.png"), in_work("schnell0.png"));
    job_free(&j);
    pipeline_free(p);
}

/* --- what may be asked for ----------------------------------------------------------------- */
static void refused(struct job j, const char *part)
{
    struct err e = { 0 };
    char notice[256];
    if (job_check(&j, notice, &e) || !strstr(e.text, part))
        fail_msg("expected a refusal about %s, not \"%s\"", part, e.text);
    assert_int_equal(e.kind, ERR_INPUT);
}

static void jobs_are_checked(void **state)
{
    (void)state;
    struct err e = { 0 };
    char notice[256];
    struct job j = job_named("checked.png"), k;
    must(job_check(&j, notice, &e), &e);
    assert_string_equal(notice, "");
#define WRONG(field, value, part) (k = j, k.field = (value), refused(k, part))
    WRONG(width, 0, "width");
    WRONG(height, -16, "height");
    WRONG(width, JOB_SIZE_MAX + 1, "width");
    WRONG(steps, 0, "steps");
    WRONG(steps, -4, "steps");
    WRONG(steps, JOB_STEPS_MAX + 1, "steps");
    WRONG(count, 0, "count");
    WRONG(count, JOB_COUNT_MAX + 1, "count");
    WRONG(threads, -1, "threads");
    WRONG(threads, JOB_THREADS_MAX + 1, "threads");
    WRONG(guidance, -0.1f, "guidance");
    WRONG(guidance, 101, "guidance");
    WRONG(guidance, NAN, "guidance");
#undef WRONG
    k = j;
    k.width = k.height = JOB_SIZE_MAX;
    refused(k, "pixels");
    static const struct { int from, to; } sizes[] = { { 1, 16 }, { 16, 16 }, { 23, 16 }, { 24, 32 }, { 100, 96 },
                                                      { 1000, 1008 }, { 1023, 1024 }, { 8192, 8192 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        k = j;
        k.width = sizes[i].from;
        must(job_check(&k, notice, &e), &e);
        assert_int_equal(k.width, sizes[i].to);
        char want[64];
        snprintf(want, sizeof want, "size %dx%d rounded to %dx%d", sizes[i].from, HEIGHT, sizes[i].to, HEIGHT);
        if (sizes[i].from == sizes[i].to)
            assert_string_equal(notice, "");
        else
            assert_ptr_equal(strstr(notice, want), notice);
    }
    job_free(&j);

    static const struct { const char *text; int width, height; } good[] = { { "1024x768", 1024, 768 },
                                                                            { "16X16", 16, 16 },
                                                                          { "0x0", 0, 0 },
                                                                          { "1000000x7", 1000000, 7 } };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        int w, h;
        must(job_parse_size(good[i].text, &w, &h, &e), &e);
        assert_int_equal(w, good[i].width);
        assert_int_equal(h, good[i].height);
    }
    static const char *const bad[] = { "", "x", "1024", "1024x", "x768", "1024*768", "10x20x30", "12x-5",
                                       "-12x5", "1e3x5",
                                       "1024 x 768", "99999999999999999999x5", "5x99999999999999999999", "5x1000001" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int w, h;
        if (job_parse_size(bad[i], &w, &h, &e))
            fail_msg("\"%s\" was taken for %dx%d", bad[i], w, h);
        err_clear(&e);
    }
}

static void paths_of_pictures(void **state)
{
    (void)state;
    static const struct { const char *out; int index; const char *path; } cases[] = {
        { "a.png", 0, "a.png" }, { "a.png", 1, "a-1.png" },     { "a.PNG", 2, "a-2.PNG" }, { "a", 0, "a" },
        { "a", 3, "a-3.png" },   { "d.png/a", 1, "d.png/a-1.png" }, { ".png", 1, ".png-1.png" },
        { "a.jpg", 10, "a.jpg-10.png" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = { 0 };
        struct job j = { .out = (char *)(uintptr_t)cases[i].out };
        char *path = job_out_path(&j, cases[i].index, &e);
        must(path, &e);
        assert_string_equal(path, cases[i].path);
        free(path);
    }
}

/* --- the schedule, by hand -------------------------------------------------------------------- */
static void sigmas_are(const struct scheduler_config *c, int tokens, int steps, const double *want)
{
    float got[16];
    schedule_sigmas(SCHEDULE_SIMPLE, c, tokens, steps, got);
    for (int i = 0; i <= steps; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-7))
            fail_msg("%d tokens, %d steps: sigma %d is %.9g, not %.9g", tokens, steps, i, (double)got[i], want[i]);
}

static void schedule_is_flux(void **state)
{
    (void)state;
    /* s t / (1 + (s - 1) t) with s = e^mu, mu 0.5 at 256 tokens to 1.15 at 4096. */
    sigmas_are(&dev.scheduler, 4096, 4, (double[]){ 1, 0.9045307667386397, 0.7595109169491111, 0.5128441015091338, 0 });
    sigmas_are(&dev.scheduler, 1024, 4,
               (double[]){ 1, 0.8492348306829303, 0.6524894621927445, 0.38494474881746926, 0 });
    sigmas_are(&dev.scheduler, 256, 2, (double[]){ 1, 0.6224593312018546, 0 });
    sigmas_are(&dev.scheduler, 6, 3, (double[]){ 1, 0.7596623908243416, 0.44140425839588027, 0 });
    sigmas_are(&dev.scheduler, 4096, 1, (double[]){ 1, 0 });
    sigmas_are(&schnell.scheduler, 4096, 4, (double[]){ 1, 0.75, 0.5, 0.25, 0 });
    sigmas_are(&schnell.scheduler, 64, 1, (double[]){ 1, 0 });
    float x[2] = { 1, -2 }, x0[2];
    const float v[2] = { 0.5f, 4 };
    sampler_x0(x0, x, v, 0.5f, 2);
    assert_true(x0[0] == 0.75f && x0[1] == -4);
    sampler_euler(x, v, 1, 0.75f, 2);
    assert_true(x[0] == 0.875f && x[1] == -3);
}

/* --- queues ----------------------------------------------------------------------------------- */
static struct event tiny(enum event_kind kind, uint64_t job, int step)
{
    struct err e = { 0 };
    struct event ev = { .kind = kind, .job = job, .step = step };
    if (kind == EVENT_PREVIEW || kind == EVENT_DONE) {
        ev.image = image_new(2, 2, &e);
        must(ev.image, &e);
    }
    return ev;
}

static bool readable(int fd)
{
    struct pollfd p = { fd, POLLIN, 0 };
    return poll(&p, 1, 0) == 1;
}

static void push(struct event_queue *q, enum event_kind kind, uint64_t job, int step, bool fits)
{
    struct event ev = tiny(kind, job, step);
    assert_int_equal(event_push(q, &ev), fits);
    assert_null(ev.image);
}

static void newest_preview_wins(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct event_queue *q;
    struct event ev;
    must(event_queue_new(&q, &e), &e);
    assert_false(readable(event_queue_fd(q)));
    assert_false(event_pop(q, &ev));
    push(q, EVENT_PREVIEW, 1, 1, true);
    push(q, EVENT_STAGE, 1, 2, true);
    push(q, EVENT_PREVIEW, 2, 3, true);
    push(q, EVENT_PREVIEW, 1, 4, true); /* takes the place of the first */
    push(q, EVENT_PROGRESS, 1, 5, true);
    push(q, EVENT_PROGRESS, 1, 6, true);
    push(q, EVENT_MEMORY, 1, 7, true);
    push(q, EVENT_MEMORY, 1, 8, true);
    push(q, EVENT_STAGE, 1, 9, true);
    static const int steps[] = { 2, 3, 4, 6, 8, 9 };
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        assert_true(readable(event_queue_fd(q)));
        assert_true(event_pop(q, &ev));
        assert_int_equal(ev.step, steps[i]);
        event_clear(&ev);
    }
    assert_false(event_pop(q, &ev));
    assert_false(readable(event_queue_fd(q)));
    push(q, EVENT_PREVIEW, 1, 1, true); /* freed with the queue */
    event_queue_free(q);
    event_queue_free(NULL);
}

static void full_queue_keeps_ends(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct event_queue *q;
    struct event ev;
    must(event_queue_new(&q, &e), &e);
    push(q, EVENT_PREVIEW, 1000, 0, true);
    for (int i = 0; i < 300; i++) {
        push(q, EVENT_STARTED, 1, i, true);
        push(q, EVENT_STAGE, 1, i, true);
        push(q, EVENT_DONE, 1, i, true);
    }
    push(q, EVENT_IDLE, 1, 300, true);
    int done = 0, others = 0;
    while (event_pop(q, &ev)) {
        if (ev.kind == EVENT_DONE)
            assert_int_equal(ev.step, done++);
        others += ev.kind != EVENT_DONE && ev.kind != EVENT_IDLE;
        event_clear(&ev);
    }
    assert_int_equal(done, 300);
    assert_true(others > 100);
    for (int i = 0; i < 512; i++)
        push(q, EVENT_DONE, 1, i, true);
    push(q, EVENT_DONE, 1, 512, false); /* its image is freed all the same */
    push(q, EVENT_PREVIEW, 1, 513, false);
    event_queue_free(q);
}

enum { PRODUCERS = 4, EACH = 2000 };
struct producer { struct event_queue *q; int id; };

static void *produce(void *user)
{
    struct producer *p = user;
    for (int i = 0; i < EACH; i++) {
        struct event ev = { .kind = i % 3 ? EVENT_PREVIEW : EVENT_NOTICE, .job = (uint64_t)p->id, .step = i };
        if (ev.kind == EVENT_PREVIEW)
            ev.image = image_new(1, 1, NULL);
        event_push(p->q, &ev);
        if (i % 50 == 0)
            nanosleep(&(struct timespec){ 0, 100000 }, NULL); /* the consumer keeps up */
    }
    event_push(p->q, &(struct event){ .kind = EVENT_DONE, .job = (uint64_t)p->id });
    return NULL;
}

static void many_producers(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct event_queue *q;
    struct event ev;
    must(event_queue_new(&q, &e), &e);
    pthread_t thread[PRODUCERS];
    struct producer p[PRODUCERS];
    int last[PRODUCERS], ended = 0;
    for (int i = 0; i < PRODUCERS; i++) {
        last[i] = -1;
        p[i] = (struct producer){ q, i };
        assert_int_equal(pthread_create(&thread[i], NULL, produce, &p[i]), 0);
    }
    while (ended < PRODUCERS) {
        struct pollfd fd = { event_queue_fd(q), POLLIN, 0 };
        if (poll(&fd, 1, PATIENCE_MS) != 1)
            fail_msg("no event came, and not all ended");
        while (event_pop(q, &ev)) {
            if (ev.kind == EVENT_DONE) {
                ended++;
            } else {
                assert_true(ev.step > last[ev.job]); /* of one producer: in order, none twice */
                last[ev.job] = ev.step;
            }
            event_clear(&ev);
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(thread[i], NULL);
    assert_false(event_pop(q, &ev));
    event_queue_free(q);
}

static void commands_wait_in_order(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct command_queue *q;
    struct command c, got;
    must(command_queue_new(&q, &e), &e);
    assert_false(command_take(q, &got));
    uint64_t fitted = 0;
    for (;;) {
        c = (struct command){ .kind = COMMAND_GENERATE, .job = fitted + 1 };
        must(job_set_string(&c.request.prompt, "p", &e), &e);
        if (!command_push(q, &c))
            break;
        assert_null(c.request.prompt);
        fitted++;
    }
    assert_int_equal(fitted, 128);
    job_free(&c.request); /* what did not fit is still the caller's */
    assert_true(command_withdraw(q, 3, &got));
    assert_int_equal(got.job, 3);
    job_free(&got.request);
    assert_false(command_withdraw(q, 3, &got));
    c = (struct command){ .kind = COMMAND_QUIT };
    assert_true(command_push(q, &c));
    command_wait(q);
    assert_true(command_take(q, &got));
    assert_int_equal(got.job, 1);
    job_free(&got.request);
    assert_true(command_withdraw(q, 0, &got));
    assert_int_equal(got.job, 2);
    job_free(&got.request);
    command_queue_free(q); /* with the rest in it */
    command_queue_free(NULL);
}

/* --- the engine thread ------------------------------------------------------------------------- */
static struct engine *start(void)
{
    struct err e = { 0 };
    struct engine *g;
    must(engine_start(&g, dev_dir, &e), &e);
    record_clear();
    return g;
}

static uint64_t submit(struct engine *g, const struct job *j)
{
    struct err e = { 0 };
    uint64_t id = 0;
    must(engine_submit(g, j, &id, &e), &e);
    return id;
}

static bool is_end(const struct event *ev)
{
    return ev->kind == EVENT_CANCELLED || ev->kind == EVENT_FAILED ||
           (ev->kind == EVENT_DONE && ev->index + 1 == ev->count);
}

/* Into rec until the first event of this kind (and job, unless 0). */
static void wait_for(struct engine *g, enum event_kind kind, uint64_t job)
{
    for (;;) {
        struct event ev;
        while (engine_poll(g, &ev)) {
            bool it = ev.kind == kind && (!job || ev.job == job);
            record_emit(&rec, &ev);
            if (it)
                return;
        }
        struct pollfd fd = { engine_fd(g), POLLIN, 0 };
        if (poll(&fd, 1, PATIENCE_MS) != 1)
            fail_msg("waited in vain for the event %s", event_kind_name(kind));
    }
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void engine_runs_jobs_in_turn(void **state)
{
    (void)state;
    struct engine *g = start();
    assert_string_equal(engine_model(g)->path, dev_dir);
    struct job a = job_named("turn-a.png"), b = job_named("no/such/turn.png"), c = job_named("turn-c.png");
    a.count = 2;
    c.seed = 8;
    assert_int_equal(submit(g, &a), 1);
    assert_int_equal(submit(g, &b), 2);
    assert_int_equal(submit(g, &c), 3);
    wait_for(g, EVENT_IDLE, 0);
    assert_int_equal(rec.ev[0].kind, EVENT_QUEUED);
    assert_int_equal(rec.ev[0].job, 1);
    assert_int_equal(count_of(EVENT_QUEUED), 3);
    assert_int_equal(count_of(EVENT_DONE), 3);
    assert_int_equal(count_of(EVENT_IDLE), 1);
    assert_int_equal(event_of(EVENT_FAILED, 0)->job, 2); /* and the third was made after it */
    assert_int_equal(rec.ev[rec.count - 2].kind, EVENT_DONE);
    assert_int_equal(rec.ev[rec.count - 2].job, 3);
    same_picture(in_work("turn-a-1.png"), in_work("turn-c.png"));
    struct event ev;
    assert_false(engine_poll(g, &ev));
    engine_stop(g);
    job_free(&a);
    job_free(&b);
    job_free(&c);
}

static void engine_cancels(void **state)
{
    (void)state;
    struct engine *g = start();
    struct job j = job_named("long.png"), k = job_named("short.png");
    j.steps = 1000;
    uint64_t first = submit(g, &j), second = submit(g, &k), third = submit(g, &k);
    wait_for(g, EVENT_PREVIEW, first);
    engine_cancel(g, third); /* waits: dropped at once */
    wait_for(g, EVENT_CANCELLED, third);
    assert_null(rec.ev[rec.count - 1].image);
    assert_int_equal(count_of(EVENT_DONE), 0);
    engine_cancel(g, 999); /* nobody */
    double asked = now();
    engine_cancel(g, first);
    wait_for(g, EVENT_CANCELLED, first);
    assert_true(now() - asked < 10);
    assert_non_null(rec.ev[rec.count - 1].image);
    assert_true(rec.ev[rec.count - 1].step >= 1);
    assert_string_equal(rec.ev[rec.count - 1].text, in_work("long-partial.png"));
    wait_for(g, EVENT_IDLE, 0);
    assert_int_equal(event_of(EVENT_DONE, 0)->job, second);

    /* All: the running one and those that wait. */
    record_clear();
    first = submit(g, &j);
    for (int i = 0; i < 5; i++)
        submit(g, &k);
    wait_for(g, EVENT_STAGE, first);
    engine_cancel(g, 0);
    wait_for(g, EVENT_IDLE, 0);
    assert_int_equal(count_of(EVENT_CANCELLED), 6);
    assert_int_equal(count_of(EVENT_DONE) + count_of(EVENT_FAILED), 0);
    for (int i = 0; i < 5; i++) /* the running one is the last to end */
        assert_null(event_of(EVENT_CANCELLED, i)->image);
    assert_int_equal(event_of(EVENT_CANCELLED, 5)->job, first);

    /* Twice: no partial picture. On a busy machine it may be decoded between the two. */
    bool abandoned = false;
    for (int i = 0; i < 10 && !abandoned; i++) {
        record_clear();
        first = submit(g, &j);
        wait_for(g, EVENT_PREVIEW, first);
        engine_cancel(g, first);
        engine_cancel(g, first);
        wait_for(g, EVENT_IDLE, 0);
        abandoned = !event_of(EVENT_CANCELLED, 0)->image;
    }
    assert_true(abandoned);
    engine_cancel(g, 0); /* nothing to cancel: must not hit the next */
    record_clear();
    submit(g, &k);
    wait_for(g, EVENT_IDLE, 0);
    assert_int_equal(count_of(EVENT_DONE), 1);
    engine_stop(g);
    job_free(&j);
    job_free(&k);
}

/* Cancels at every moment there is: each job ends once, and idle is said when all have. */
static void engine_never_loses_a_job(void **state)
{
    (void)state;
    enum { ROUNDS = 60, JOBS = 3 };
    struct engine *g = start();
    struct job j = job_named("many.png");
    j.steps = 1;
    j.width = j.height = 16;
    uint32_t dice = 12345;
    for (int round = 0; round < ROUNDS; round++) {
        record_clear();
        uint64_t id[JOBS];
        for (int i = 0; i < JOBS; i++) {
            id[i] = submit(g, &j);
            dice = dice * 1664525 + 1013904223;
            if (dice >> 30 == 0)
                nanosleep(&(struct timespec){ 0, (long)(dice >> 10 & 0xfff) * 1000 }, NULL);
            if (dice >> 30 < 3)
                engine_cancel(g, dice & 0x100000 ? 0 : id[dice >> 16 & 1 ? i : 0]);
        }
        int ends[JOBS] = { 0 }, queued = 0, ended = 0, at = 0;
        while (ended < JOBS || rec.ev[rec.count - 1].kind != EVENT_IDLE) {
            wait_for(g, EVENT_IDLE, 0);
            for (; at < rec.count; at++) {
                const struct event *ev = &rec.ev[at];
                queued += ev->kind == EVENT_QUEUED;
                if (is_end(ev)) {
                    ends[ev->job - id[0]]++;
                    ended++;
                }
                if (ev->kind == EVENT_IDLE)
                    assert_int_equal(ended, queued);
            }
        }
        for (int i = 0; i < JOBS; i++)
            assert_int_equal(ends[i], 1);
        struct event ev;
        assert_false(engine_poll(g, &ev));
    }
    engine_stop(g);
    job_free(&j);
}

static void engine_stops_in_every_state(void **state)
{
    (void)state;
    struct job j = job_named("stop.png");
    j.steps = 1000;
    for (int when = 0; when < 6; when++) {
        struct engine *g = start();
        for (int i = 0; i < (when == 0 ? 0 : when == 5 ? 100 : 2); i++)
            submit(g, &j);
        if (when == 2)
            wait_for(g, EVENT_STAGE, 0);
        else if (when == 3)
            wait_for(g, EVENT_PREVIEW, 0);
        else if (when == 4) {
            wait_for(g, EVENT_PREVIEW, 0);
            engine_cancel(g, 1);
        }
        double asked = now();
        engine_stop(g);
        assert_true(now() - asked < 10);
    }
    assert_false(file_exists(in_work("stop.png")));
    engine_stop(NULL);
    job_free(&j);
}

static void engine_refuses_a_full_queue(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct engine *g = start();
    struct job j = job_named("full.png");
    j.steps = 1000;
    uint64_t id, accepted = 0;
    while (accepted < 200 && engine_submit(g, &j, &id, &e)) {
        accepted++;
        assert_int_equal(id, accepted);
    }
    assert_true(accepted >= 128 && accepted <= 129);
    assert_non_null(strstr(e.text, "full"));
    engine_cancel(g, 0);
    engine_cancel(g, 0);
    wait_for(g, EVENT_IDLE, 0);
    assert_int_equal(count_of(EVENT_QUEUED), accepted);
    assert_int_equal(count_of(EVENT_CANCELLED), accepted);
    err_clear(&e);
    assert_true(engine_submit(g, &j, &id, &e)); /* ids go on without a gap */
    assert_int_equal(id, accepted + 1);
    engine_stop(g);
    job_free(&j);
}

/* --- the shipped model ---------------------------------------------------------------------------- */
static void shipped_model_works(void **state)
{
    (void)state;
    struct err e = { 0 };
    static struct model demo;
    if (!folder_exists("assets/demo/transformer"))
        skip();
    must(model_open(&demo, "assets/demo", true, &e), &e);
    struct pipeline *p = pipeline_of(&demo);
    struct job j = job_named("demo.png");
    j.width = demo.defaults.width;
    j.height = demo.defaults.height;
    j.steps = 2;
    set(&j.prompt, "a red apple on a blue background");
    run_well(p, &j);
    assert_int_equal(event_of(EVENT_DONE, 0)->image->width, j.width);
    assert_int_equal(count_of(EVENT_PREVIEW), 2);
    assert_int_equal(event_of(EVENT_PREVIEW, 0)->image->width, j.width / demo.vae.factor);
    const struct event_memory *m = &event_of(EVENT_MEMORY, count_of(EVENT_MEMORY) - 1)->memory;
    assert_int_equal(m->peak_bytes, m->arena_bytes);
    set(&j.out, in_work("demo-threads.png"));
    j.threads = OTHER_THREADS;
    run_well(p, &j);
    same_picture(in_work("demo.png"), in_work("demo-threads.png"));
    job_free(&j);
    pipeline_free(p);
}

/* --- all of them ------------------------------------------------------------------------------------ */
static int make_models(void **state)
{
    (void)state;
    struct err e = { 0 };
    signal(SIGXFSZ, SIG_IGN);
    scratch_make(work);
    golden_make("dev96", path_in(work, "dev96", dev_dir));
    golden_make("schnell128", path_in(work, "schnell128", schnell_dir));
    must(model_open(&dev, dev_dir, true, &e) && model_open(&schnell, schnell_dir, true, &e), &e);
    return 0;
}

static int remove_models(void **state)
{
    (void)state;
    record_clear();
    scratch_remove(work);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_order),
        cmocka_unit_test(memory_is_as_planned),
        cmocka_unit_test(memory_does_not_grow),
        cmocka_unit_test(same_job_same_bytes),
        cmocka_unit_test(batch_counts_up),
        cmocka_unit_test(cancel_keeps_whole_steps),
        cmocka_unit_test(cancel_without_a_picture),
        cmocka_unit_test(cancel_while_decoding_finishes),
        cmocka_unit_test(cancel_of_a_batch),
        cmocka_unit_test(output_that_cannot_be_written),
        cmocka_unit_test(wrong_latents),
        cmocka_unit_test(broken_weights_are_named),
        cmocka_unit_test(prompts_of_all_kinds),
        cmocka_unit_test(names_of_any_bytes),
        cmocka_unit_test(schnell_ignores_guidance),
        cmocka_unit_test(jobs_are_checked),
        cmocka_unit_test(paths_of_pictures),
        cmocka_unit_test(schedule_is_flux),
        cmocka_unit_test(newest_preview_wins),
        cmocka_unit_test(full_queue_keeps_ends),
        cmocka_unit_test(many_producers),
        cmocka_unit_test(commands_wait_in_order),
        cmocka_unit_test(engine_runs_jobs_in_turn),
        cmocka_unit_test(engine_cancels),
        cmocka_unit_test(engine_never_loses_a_job),
        cmocka_unit_test(engine_stops_in_every_state),
        cmocka_unit_test(engine_refuses_a_full_queue),
        cmocka_unit_test(shipped_model_works),
    };
    return cmocka_run_group_tests_name("engine", tests, make_models, remove_models);
}
