/* test_cuda_jobs.c - whole jobs on the cuda device, where there is no card: the module is the one whose
 * runtime works on the processor (tests/cuda/fake.h), which runs streams in a random order and
 * makes any call fail. On a small random model and the shipped one. What it shows: that nothing is waited for too
 * little, that the host never touches the card's memory, that a budget never changes a pixel, that every failure ends
 * in a picture or in a reason, and that nothing stays behind. The operations' numbers are test_cuda_ops'. */
#include "engine/pipeline.h"
#include "engine/synth.h"
#include "kernels/cuda.h"
#include "tests/cuda/fake.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char scratch[FILE_PATH_MAX], out[FILE_PATH_MAX];
enum { PREVIEW_BYTES = 64 * 48 * 3 }; /* of the largest picture here */

static struct model model, drawn, shipped; /* drawn: the first with a TAEF1 beside */
static const struct model *at_hand = &model;

/* The fake's controls. */
static struct {
    void (*reset)(void);
    void (*set_cards)(int);
    void (*set_sm)(int);
    void (*set_memory)(size_t);
    void (*set_others)(size_t);
    void (*set_pinned_limit)(size_t);
    void (*fail_at)(long, int);
    const char *(*failed)(void);
    long (*calls)(void);
    int (*live)(enum fake_cuda_kind);
    void (*seed)(uint64_t);
    void (*close_memory)(bool);
    size_t (*peak)(void);
    struct fake_cuda_counts (*counts)(void);
} fake;

static void find_fake(void)
{
    void *module = dlopen(getenv("SLUICE_CUDA"), RTLD_NOW | RTLD_LOCAL);
    static const struct { const char *name; void *at; } names[] = {
        { "fake_cuda_reset", &fake.reset }, { "fake_cuda_set_cards", &fake.set_cards },
        { "fake_cuda_set_sm", &fake.set_sm }, { "fake_cuda_set_memory", &fake.set_memory },
        { "fake_cuda_set_others", &fake.set_others }, { "fake_cuda_set_pinned_limit", &fake.set_pinned_limit },
        { "fake_cuda_fail", &fake.fail_at }, { "fake_cuda_failed", &fake.failed }, { "fake_cuda_calls", &fake.calls },
        { "fake_cuda_live", &fake.live }, { "fake_cuda_seed", &fake.seed }, { "fake_cuda_peak", &fake.peak },
        { "fake_cuda_counts", &fake.counts }, { "fake_cuda_close_memory", &fake.close_memory },
    };
    if (!module)
        fail_msg("%s", dlerror());
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = dlsym(module, names[i].name);
        if (!found)
            fail_msg("%s", dlerror());
        memcpy(names[i].at, &found, sizeof found);
    }
}

/* What a job said. */
struct said {
    struct image *image;
    size_t arena;
    int steps, previews, pictures;
    int preview_width;
    unsigned char preview[PREVIEW_BYTES]; /* the last */
    char notices[4096];
    int stop_in_step; /* cancel there; 0: never */
    bool stopping;
};

static void hear(void *user, struct event *ev)
{
    struct said *s = user;
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX) {
        s->steps = ev->step;
        s->stopping |= ev->step == s->stop_in_step;
    }
    if (ev->kind == EVENT_MEMORY)
        s->arena = ev->memory.arena_bytes;
    if (ev->kind == EVENT_PREVIEW) {
        s->previews++;
        s->preview_width = ev->image->width;
        size_t bytes = (size_t)ev->image->width * (size_t)ev->image->height * 3;
        memcpy(s->preview, ev->image->rgb, bytes < sizeof s->preview ? bytes : sizeof s->preview);
    }
    s->pictures += ev->kind == EVENT_DONE;
    if (ev->kind == EVENT_NOTICE) {
        size_t n = strlen(s->notices);
        snprintf(s->notices + n, sizeof s->notices - n, "%s\n", ev->text);
    }
    if (ev->kind == EVENT_DONE || ev->kind == EVENT_CANCELLED) {
        image_free(s->image);
        s->image = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

static enum pipeline_stop asked_to_stop(void *user)
{
    return ((const struct said *)user)->stopping ? PIPELINE_CANCEL : PIPELINE_GO;
}

/* A job on a pipeline of its own, so that opening and closing the device are part of it. */
static bool try(const struct job *j, struct said *s, struct err *e)
{
    struct pipeline_hooks hooks = { .emit = hear, .stop = asked_to_stop, .user = s };
    struct pipeline *p = NULL;
    bool ok = pipeline_new(&p, at_hand, e) && pipeline_run(p, j, 1, &hooks, e);
    pipeline_free(p);
    return ok;
}

static void run(const struct job *j, struct said *s)
{
    struct err e = { 0 };
    memset(s, 0, sizeof *s);
    if (!try(j, s, &e))
        fail_msg("%s", e.text);
}

static struct job make_job(enum precision precision)
{
    struct job j;
    struct err e = { 0 };
    if (!job_init(&j, at_hand, &e) || !job_set_string(&j.prompt, "a fish", &e) || !job_set_string(&j.out, out, &e))
        fail_msg("%s", e.text);
    j.width = 64;
    j.height = 48;
    j.steps = 2;
    j.seed = 5;
    j.precision = precision;
    j.device = DEVICE_CUDA;
    j.budget = JOB_BUDGET_AUTO;
    j.embedding_cache = false;
    return j;
}

/* Of the brightness, in steps of 255. */
static double mean_difference(const struct image *a, const struct image *b)
{
    double sum = 0;
    size_t n = (size_t)a->width * (size_t)a->height * 3;
    assert_true(a->width == b->width && a->height == b->height);
    for (size_t i = 0; i < n; i++)
        sum += abs(a->rgb[i] - b->rgb[i]);
    return sum / (double)n;
}

static void assert_same(const struct image *a, const struct image *b)
{
    assert_true(a && b && a->width == b->width && a->height == b->height);
    assert_memory_equal(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3);
}

static void assert_nothing_left(const char *when)
{
    static const char *const kinds[FAKE_CUDA_KINDS] = { "memory", "pinned memory", "registered memory",
                                                        "stream", "event",
                                                        "graph", "graph to start", "cuBLASLt", "cuDNN" };
    for (int k = 0; k < FAKE_CUDA_KINDS; k++)
        if (fake.live(k))
            fail_msg("%s: %d of %s left behind", when, fake.live(k), kinds[k]);
}

/* --- pictures ------------------------------------------------------------------------ */

static void a_budget_changes_no_pixel(void **state)
{
    (void)state;
    static const enum precision precisions[] = { PRECISION_FP32, PRECISION_BF16, PRECISION_FP16 };
    for (size_t p = 0; p < 3; p++) {
        struct job j = make_job(precisions[p]);
        struct said all, least, some;
        fake.seed(p);
        run(&j, &all);
        j.budget = JOB_BUDGET_LEAST;
        run(&j, &least);
        assert_true(least.arena < all.arena);
        assert_same(all.image, least.image);
        for (int part = 1; part <= 4; part++) {
            fake.seed(10 * p + (uint64_t)part);
            j.budget = least.arena + (all.arena - least.arena) * (size_t)part / 5;
            run(&j, &some);
            assert_true(some.arena <= j.budget);
            assert_same(all.image, some.image);
            image_free(some.image);
        }
        image_free(all.image);
        image_free(least.image);
        job_free(&j);
    }
    assert_nothing_left("after all budgets");
}

static void the_picture_is_the_processors(void **state)
{
    (void)state;
    static const struct { enum precision precision; double most; } cases[] = {
        { PRECISION_FP32, 0.02 }, { PRECISION_BF16, 3 }, { PRECISION_FP16, 1 },
    };
    for (size_t i = 0; i < 3; i++) {
        struct job j = make_job(cases[i].precision);
        struct said card, processor;
        run(&j, &card);
        j.device = DEVICE_CPU;
        j.threads = 2;
        run(&j, &processor);
        double is = mean_difference(card.image, processor.image);
        if (!(is <= cases[i].most))
            fail_msg("%s: a mean difference of %.3f", precision_name(cases[i].precision), is);
        image_free(card.image);
        image_free(processor.image);
        job_free(&j);
    }
}

/* Resident, short and repeated: recorded as a graph from the second step on. */
static void repeated_steps_are_recorded(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_FP32);
    struct said plain, recorded;
    j.steps = 5;
    j.transformer = TRANSFORMER_OFFLOAD;
    run(&j, &plain);
    assert_int_equal(fake.counts().graph_launches, 0); /* what is streamed is not */
    j.transformer = TRANSFORMER_AUTO;
    run(&j, &recorded);
    assert_true(fake.counts().graph_launches >= 2);
    assert_same(plain.image, recorded.image);
    image_free(plain.image);
    image_free(recorded.image);
    job_free(&j);
    assert_nothing_left("after recorded steps");
}

/* Straight from the mapped files, and the same where that is refused. */
static void weights_pinned_where_they_lie(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_BF16);
    struct said want, got;
    run(&j, &want);
    j.pin_weights = true;
    j.budget = JOB_BUDGET_LEAST;
    for (int refused = 0; refused < 2; refused++) {
        if (refused)
            fake.set_pinned_limit(0);
        run(&j, &got);
        assert_same(want.image, got.image);
        image_free(got.image);
        assert_nothing_left("after pinned weights");
    }
    image_free(want.image);
    job_free(&j);
}

static void less_pinned_memory_is_only_slower(void **state)
{
    (void)state;
    static const size_t limits[] = { 0, 5 << 20, 13 << 20 };
    struct job j = make_job(PRECISION_FP32);
    struct said want, got;
    run(&j, &want);
    j.budget = JOB_BUDGET_LEAST;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        fake.set_pinned_limit(limits[i]);
        run(&j, &got);
        assert_same(want.image, got.image);
        image_free(got.image);
    }
    image_free(want.image);
    job_free(&j);
}

/* --- the card's memory is not the host's ------------------------------------------------------ */

static void recorded(struct job *j) { j->steps = 3; }
static void pinned(struct job *j)
{
    j->budget = JOB_BUDGET_LEAST, j->pin_weights = true;
    j->attention = ATTENTION_FLASH;
}

static void against(struct job *j)
{
    struct err e = { 0 };
    j->transformer = TRANSFORMER_OFFLOAD, j->attention = ATTENTION_EFFICIENT;
    j->vae = VAE_BANDS, j->vae_band = 16;
    j->cfg = 2;
    assert_true(job_set_string(&j->negative, "a car", &e));
}

static void in_chunks(struct job *j)
{
    j->precision = PRECISION_FP16, j->vae_precision = (int)PRECISION_FP32;
    j->t5_chunk = 8, j->t5_chunk_mode = T5_CHUNK_INDEPENDENT;
    j->attention = ATTENTION_MATH;
}

static void later(struct job *j)
{
    j->count = 2, j->decode = DECODE_DEFERRED;
    j->attention = ATTENTION_CPU;
    j->vae = VAE_TILES;
    j->inject_oom = 2;
}

/* The shipped model's jobs of every kind, while the host cannot touch the card's memory: what does is a SIGSEGV.
 * And each is the processor's picture, too. */
static void the_host_never_touches_device_memory(void **state)
{
    (void)state;
    static const struct { const char *name; void (*change)(struct job *); } cases[] = {
        { "recorded", recorded }, { "pinned, flash", pinned },
        { "streamed, efficient, bands, cfg", against }, { "two precisions, math, T5 in chunks", in_chunks },
        { "decoded later, tiles, the simplest attention, memory taken away", later },
    };
    at_hand = &shipped;
    fake.close_memory(true);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = make_job(PRECISION_BF16);
        struct said card, processor;
        j.width = 32;
        j.height = 48;
        j.preview = PREVIEW_AUTO;
        cases[i].change(&j);
        fake.seed(i);
        run(&j, &card);
        assert_true(card.pictures == j.count && card.previews == j.count * j.steps);
        j.device = DEVICE_CPU;
        j.threads = 2;
        j.inject_oom = 0;
        run(&j, &processor);
        double is = mean_difference(card.image, processor.image);
        if (!(is <= 4))
            fail_msg("%s: a mean difference of %.3f", cases[i].name, is);
        image_free(card.image);
        image_free(processor.image);
        job_free(&j);
        assert_nothing_left(cases[i].name);
    }
}

/* --- memory that is not there ---------------------------------------------------------------- */

static void memory_taken_away_in_a_step(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_FP32);
    struct said want, got;
    j.steps = 4;
    run(&j, &want);
    for (int n = 1; n <= 4; n++) {
        j.inject_oom = n;
        run(&j, &got);
        assert_non_null(strstr(got.notices, "it goes on from there"));
        assert_true(got.arena < want.arena);
        assert_same(want.image, got.image);
        image_free(got.image);
    }
    image_free(want.image);
    job_free(&j);
    assert_nothing_left("after memory was taken away");
}

static void a_card_with_little_memory(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_FP32);
    struct said want, got;
    j.budget = JOB_BUDGET_LEAST;
    run(&j, &got);
    j.budget = JOB_BUDGET_AUTO;
    run(&j, &want);
    size_t between = got.arena + (want.arena - got.arena) / 2;
    image_free(got.image);
    fake.set_memory((size_t)((double)between / (double)j.memory_fraction));
    run(&j, &got); /* what is free is what is planned for */
    assert_true(got.arena <= between);
    assert_same(want.image, got.image);
    image_free(got.image);
    j.budget = 2 * want.arena;
    run(&j, &got);
    assert_non_null(strstr(got.notices, "are free: planned for"));
    assert_same(want.image, got.image);
    image_free(got.image);
    image_free(want.image);
    fake.set_memory(1 << 20);
    struct err e = { 0 };
    memset(&got, 0, sizeof got);
    assert_false(try(&j, &got, &e));
    assert_int_equal(e.kind, ERR_BUDGET);
    assert_non_null(strstr(e.text, "needs at least"));
    job_free(&j);
    assert_nothing_left("after too little memory");
}

/* --- failures ------------------------------------------------------------------------------------ */

/* Call n fails: the picture comes all the same, or there is a reason, and nothing is left behind. */
static bool one_call_fails(const struct job *j, long n, const struct image *want)
{
    struct said got = { 0 };
    struct err e = { 0 };
    fake.reset();
    fake.fail_at(n, 0);
    bool ok = try(j, &got, &e);
    char when[128];
    snprintf(when, sizeof when, "call %ld (%s) failed", n, fake.failed() ? fake.failed() : "none");
    bool reached = fake.failed() != NULL;
    fake.fail_at(0, 0);
    assert_nothing_left(when);
    if (ok)
        assert_same(want, got.image);
    else if (e.kind == ERR_NONE || !e.text[0] || e.kind == ERR_AGAIN)
        fail_msg("%s: no reason was given", when);
    image_free(got.image);
    return reached;
}

static void every_call_fails_once(void **state)
{
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        struct job j = make_job(PRECISION_BF16);
        struct said want;
        j.width = j.height = 32;
        j.steps = streamed ? 1 : 3; /* three: the third is recorded */
        j.budget = streamed ? JOB_BUDGET_LEAST : JOB_BUDGET_AUTO;
        fake.reset();
        run(&j, &want);
        long calls = fake.calls();
        /* All while the device is opened, and then one in so many, as many as there is time for. */
        enum { OPENING = 120, MORE = 60 };
        for (long n = 1; n <= calls; n += n < OPENING ? 1 : 1 + (calls - OPENING) / MORE)
            if (!one_call_fails(&j, n, want.image))
                break;
        image_free(want.image);
        job_free(&j);
    }
    fake.reset();
}

/* Between the steps, recorded or streamed, TAEF1 draws what it draws on the processor; the picture stays as it is, and
 * a call that fails ends no more than the preview. */
static void previews_by_taef1(void **state)
{
    (void)state;
    static const struct { enum precision precision; double most; } cases[] = {
        { PRECISION_FP32, 0.02 }, { PRECISION_BF16, 3 }, { PRECISION_FP16, 1 },
    };
    at_hand = &drawn;
    for (size_t i = 0; i < 6; i++) {
        struct job j = make_job(cases[i % 3].precision);
        struct said plain, card, processor;
        j.budget = i < 3 ? JOB_BUDGET_AUTO : JOB_BUDGET_LEAST;
        j.steps = 4;
        j.preview = PREVIEW_NONE;
        fake.seed(i);
        run(&j, &plain);
        j.preview = PREVIEW_TAEF1;
        fake.reset();
        fake.close_memory(true);
        run(&j, &card);
        fake.close_memory(false);
        assert_true(i >= 3 || fake.counts().graph_launches > 0);
        assert_same(plain.image, card.image);
        assert_int_equal(card.previews, j.steps);
        assert_true(card.preview_width == j.width || card.preview_width == j.width / 2);
        j.device = DEVICE_CPU;
        j.threads = 2;
        run(&j, &processor);
        bool same_size = processor.preview_width == card.preview_width;
        assert_true(i >= 3 || same_size); /* the least budget is another for each, and leaves another room */
        double sum = 0;
        size_t n = (size_t)card.preview_width * (size_t)(card.preview_width * j.height / j.width) * 3;
        for (size_t k = 0; same_size && k < n; k++)
            sum += abs(card.preview[k] - processor.preview[k]);
        if (!(sum / (double)n <= cases[i % 3].most))
            fail_msg("%s: a mean difference of %.3f", precision_name(j.precision), sum / (double)n);
        image_free(plain.image);
        image_free(card.image);
        image_free(processor.image);
        job_free(&j);
        assert_nothing_left("after previews");
    }
    struct job j = make_job(PRECISION_BF16);
    struct said want;
    j.width = j.height = 32;
    j.steps = 1;
    j.preview = PREVIEW_TAEF1;
    fake.reset();
    run(&j, &want);
    long calls = fake.calls();
    for (long n = 120; n < calls; n += 1 + calls / 10)
        assert_true(one_call_fails(&j, n, want.image));
    image_free(want.image);
    job_free(&j);
    fake.reset();
}

static void a_cancel_is_heard_within_a_step(void **state)
{
    (void)state;
    for (int streamed = 0; streamed < 2; streamed++) {
        struct job j = make_job(PRECISION_FP32);
        struct said s = { .stop_in_step = 2 };
        struct err e = { 0 };
        j.steps = 20;
        j.budget = streamed ? JOB_BUDGET_LEAST : JOB_BUDGET_AUTO;
        assert_false(try(&j, &s, &e));
        if (e.kind != ERR_CANCELLED) fail_msg("%d: %s", e.kind, e.text);
        assert_int_equal(s.steps, 2);
        assert_non_null(s.image); /* of the first step */
        image_free(s.image);
        job_free(&j);
        assert_nothing_left("after a cancel");
    }
}

/* --- which device ------------------------------------------------------------------------------------ */

static void no_card_no_driver(void **state)
{
    (void)state;
    for (int cards = -1; cards <= 0; cards++) {
        struct job j = make_job(PRECISION_FP32);
        struct said s = { 0 };
        struct err e = { 0 };
        fake.set_cards(cards);
        assert_false(try(&j, &s, &e));
        assert_non_null(strstr(e.text, cards ? "driver" : "no CUDA card was found"));
        j.device = DEVICE_AUTO;
        j.threads = 2;
        run(&j, &s);
        assert_ptr_equal(strstr(s.notices, "the processor computes: no CUDA card"), s.notices);
        image_free(s.image);
        job_free(&j);
    }
}

static void an_older_card_has_fp16(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_BF16), half = make_job(PRECISION_FP16);
    struct said want, got;
    fake.set_sm(75);
    run(&half, &want);
    assert_string_equal(want.notices, "");
    run(&j, &got);
    assert_non_null(strstr(got.notices, "no bf16 arithmetic (compute capability 7.5): fp16 is used"));
    assert_same(want.image, got.image);
    image_free(want.image);
    image_free(got.image);
    job_free(&j);
    job_free(&half);
}

static int fresh(void **state)
{
    (void)state;
    fake.reset();
    at_hand = &model;
    return 0;
}

static int begin(void **state)
{
    (void)state;
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    const char *build = getenv("SLUICE_BUILD");
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    setenv("SLUICE_CUDA", path, 1);
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    scratch_make(scratch);
    setenv("XDG_CACHE_HOME", path_in(scratch, "cache", path), 1);
    path_in(scratch, "picture.png", out);
    golden_make("dev96", path_in(scratch, "dev96", dir));
    if (!model_open(&model, dir, true, &e) ||
        !synth_from_header(GOLDEN_DIR "/taef1/sequential.json",
                           path_in(dir, "taef1_decoder.safetensors", path), 5, &e) ||
        !model_open(&drawn, dir, true, &e) || !model_open(&shipped, "assets/demo", true, &e))
        fail_msg("%s", e.text);
    find_fake();
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

/* --- plans beside a job ------------------------------------------------------------------ */

struct watcher {
    struct pipeline *p;
    struct job job;
    size_t arena[PRECISION_COUNT_];
    atomic_bool stop;
    atomic_int plans;
    bool ok;
};

static void *foresee_on(void *user)
{
    struct watcher *w = user;
    struct plan_summary s;
    w->ok = true;
    for (int n = 0; !atomic_load(&w->stop) && w->ok; n++) {
        w->job.precision = (enum precision)(n % PRECISION_COUNT_);
        pipeline_foresee(w->p, &w->job, &s);
        w->ok = s.ok && s.card && s.arena == w->arena[w->job.precision];
        atomic_fetch_add(&w->plans, 1);
    }
    return NULL;
}

/* The card is opened once, by whoever comes first, and asked for sizes beside its work: of any precision. */
static void plans_beside_a_job(void **state)
{
    (void)state;
    struct watcher w = { .job = make_job(PRECISION_BF16) };
    struct job j = make_job(PRECISION_BF16);
    struct said plain, beside = { 0 };
    struct err e = { 0 };
    pthread_t thread;
    size_t budget = 40000000;
    j.budget = w.job.budget = budget;
    run(&j, &plain);
    assert_true(pipeline_new(&w.p, &model, &e));
    for (enum precision p = PRECISION_FP32; p < PRECISION_COUNT_; p++) {
        struct plan plan;
        struct plan_summary s;
        char notice[EVENT_TEXT_BYTES];
        w.job.precision = p;
        pipeline_foresee(w.p, &w.job, &s);
        if (!s.ok)
            fail_msg("%s", s.text);
        if (!s.card || !s.memory.total || s.memory.free > s.memory.total)
            fail_msg("%d: card %d, %zu of %zu free", p, s.card, s.memory.free, s.memory.total);
        w.arena[p] = s.arena;
        /* as for a pipeline of which nothing else is asked */
        struct pipeline *alone;
        assert_true(pipeline_new(&alone, &model, &e) && pipeline_plan(alone, &w.job, &plan, notice, &e));
        assert_int_equal(s.arena, plan.arena_bytes);
        plan_free(&plan);
        pipeline_free(alone);
    }
    assert_int_equal(pthread_create(&thread, NULL, foresee_on, &w), 0);
    struct pipeline_hooks hooks = { .emit = hear, .stop = asked_to_stop, .user = &beside };
    for (int i = 0; i < 20 && (i < 2 || atomic_load(&w.plans) < 6); i++) {
        if (!pipeline_run(w.p, &j, 1, &hooks, &e))
            fail_msg("%s", e.text);
        assert_same(beside.image, plain.image);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(w.ok && atomic_load(&w.plans) > 0);
    pipeline_free(w.p);
    image_free(plain.image);
    image_free(beside.image);
    job_free(&j);
    job_free(&w.job);
    assert_nothing_left("after plans beside a job");
}

#define CASE(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_budget_changes_no_pixel),
        CASE(the_picture_is_the_processors),
        CASE(repeated_steps_are_recorded),
        CASE(weights_pinned_where_they_lie),
        CASE(less_pinned_memory_is_only_slower),
        CASE(the_host_never_touches_device_memory),
        CASE(memory_taken_away_in_a_step),
        CASE(a_card_with_little_memory),
        CASE(every_call_fails_once),
        CASE(previews_by_taef1),
        CASE(a_cancel_is_heard_within_a_step),
        CASE(no_card_no_driver),
        CASE(an_older_card_has_fp16),
        CASE(plans_beside_a_job),
    };
    return cmocka_run_group_tests_name("cuda jobs", tests, begin, end);
}
