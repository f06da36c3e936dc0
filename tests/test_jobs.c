/* test_jobs.c - whole jobs and what a profile does to them: prompts in a batch,
 * the embedding cache, true guidance, deferred decoding, the VAE's precision,
 * budgets that the machine does not have. On a small random model; the plan
 * itself is test_plan's, the numbers are test_golden's. */
#include "engine/memory.h"
#include "engine/pipeline.h"
#include "engine/record.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PICTURES = 8 };

static char scratch[FILE_PATH_MAX], out[FILE_PATH_MAX];
static struct model model;
static struct pipeline *pipeline;

/* What a job said. */
struct said {
    struct image *image[PICTURES];
    int stages[STAGE_COUNT]; /* how often each began */
    size_t arena, peak;
    char notices[4096];
    char failed[EVENT_TEXT_BYTES];
    enum pipeline_stop stop; /* asked for from the beginning of picture stop_at on */
    int stop_at;
    bool stopping;
};

static void hear(void *user, struct event *ev)
{
    struct said *s = user;
    s->stopping |= s->stop && ev->index >= s->stop_at;
    if (ev->kind == EVENT_STAGE)
        s->stages[ev->stage]++;
    if (ev->kind == EVENT_MEMORY) {
        s->arena = ev->memory.arena_bytes;
        s->peak = ev->memory.peak_bytes > s->peak ? ev->memory.peak_bytes : s->peak;
    }
    if (ev->kind == EVENT_NOTICE) {
        size_t n = strlen(s->notices);
        snprintf(s->notices + n, sizeof s->notices - n, "%s\n", ev->text);
    }
    if (ev->kind == EVENT_FAILED)
        snprintf(s->failed, sizeof s->failed, "%s", ev->text);
    if (ev->kind == EVENT_DONE) {
        image_free(s->image[ev->index]);
        s->image[ev->index] = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

static enum pipeline_stop asked_to_stop(void *user)
{
    const struct said *s = user;
    return s->stopping ? s->stop : PIPELINE_GO;
}

static bool try(const struct job *j, struct said *s, struct err *e)
{
    struct pipeline_hooks hooks = { .emit = hear, .stop = asked_to_stop, .user = s };
    return pipeline_run(pipeline, j, 1, &hooks, e);
}

static void run(const struct job *j, struct said *s)
{
    struct err e = { 0 };
    memset(s, 0, sizeof *s);
    if (!try(j, s, &e))
        fail_msg("%s", e.text);
    assert_int_equal(s->peak, s->arena);
}

static void said_free(struct said *s)
{
    for (int i = 0; i < PICTURES; i++)
        image_free(s->image[i]);
}

static struct job make_job(const char *prompt)
{
    struct job j;
    struct err e = { 0 };
    if (!job_init(&j, &model, &e) || !job_set_string(&j.prompt, prompt, &e) || !job_set_string(&j.out, out, &e))
        fail_msg("%s", e.text);
    j.width = 64;
    j.height = 48;
    j.steps = 3;
    j.embedding_cache = false;
#ifdef __SANITIZE_THREAD__
    j.threads = 1;
#else
    j.threads = 2;
#endif
    return j;
}

static size_t difference(const struct image *a, const struct image *b)
{
    size_t n = 0;
    assert_true(a && b && a->width == b->width && a->height == b->height);
    for (size_t i = 0; i < (size_t)a->width * (size_t)a->height * 3; i++)
        n += a->rgb[i] != b->rgb[i];
    return n;
}

static bool exists(const char *name)
{
    char path[FILE_PATH_MAX];
    return file_exists(path_in(scratch, name, path));
}

/* --- prompts -------------------------------------------------------------------- */

static void each_prompt_has_its_pictures(void **state)
{
    (void)state;
    struct err e = { 0 };
    for (enum text_encoders mode = TEXT_ENCODERS_AUTO; mode <= TEXT_ENCODERS_SEQUENTIAL; mode++)
        for (size_t budget = 0; budget <= (size_t)1 << 30; budget += (size_t)1 << 30) {
            struct job j = make_job("one"), single = make_job("two");
            struct said batch, alone;
            j.count = single.count = 2;
            j.seed = single.seed = 7;
            j.budget = budget;
            j.text_encoders = mode;
            assert_true(job_add_prompt(&j, "two", &e) && job_add_prompt(&j, "three", &e));
            run(&j, &batch);
            run(&single, &alone);
            assert_int_equal(batch.stages[STAGE_T5], 3); /* when its turn comes, and not for every picture */
            assert_int_equal(difference(batch.image[2], alone.image[0]), 0);
            assert_int_equal(difference(batch.image[3], alone.image[1]), 0);
            assert_true(difference(batch.image[0], batch.image[2]) > 0);
            assert_true(exists("picture-5.png"));
            said_free(&batch);
            said_free(&alone);
            job_free(&j);
            job_free(&single);
        }
}

static void a_known_prompt_needs_no_encoder(void **state)
{
    (void)state;
    char cache[FILE_PATH_MAX];
    setenv("XDG_CACHE_HOME", path_in(scratch, "cache", cache), 1);
    setenv("SLUICE_CACHE_BYTES", "1000000", 1);
    struct job j = make_job("known to the cache");
    struct said first, second, other;
    j.cfg = 2;
    j.embedding_cache = true;
    run(&j, &first);
    run(&j, &second);
    assert_int_equal(first.stages[STAGE_T5], 2); /* the prompt, and the empty negative one */
    assert_int_equal(second.stages[STAGE_T5], 0);
    assert_int_equal(second.stages[STAGE_CLIP], 0);
    assert_int_equal(difference(first.image[0], second.image[0]), 0);
    j.precision = PRECISION_FP32; /* other numbers: not the same entry */
    run(&j, &other);
    assert_int_equal(other.stages[STAGE_T5], 2);
    said_free(&first);
    said_free(&second);
    said_free(&other);
    job_free(&j);
    setenv("SLUICE_CACHE_BYTES", "0", 1);
}

/* --- guidance -------------------------------------------------------------------- */

static void true_guidance(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct job plain = make_job("a fish"), guided = make_job("a fish");
    struct said want, got;
    run(&plain, &want);
    guided.cfg = 0; /* only the negative prompt counts */
    assert_true(job_set_string(&guided.prompt, "a bird", &e) && job_set_string(&guided.negative, "a fish", &e));
    run(&guided, &got);
    assert_int_equal(difference(want.image[0], got.image[0]), 0);
    said_free(&got);
    guided.cfg = 3; /* towards itself, away from itself */
    assert_true(job_set_string(&guided.prompt, "a fish", &e));
    run(&guided, &got);
    assert_int_equal(difference(want.image[0], got.image[0]), 0);
    said_free(&got);
    assert_true(job_set_string(&guided.negative, "a bird", &e));
    run(&guided, &got);
    assert_true(difference(want.image[0], got.image[0]) > 100);
    said_free(&got);
    said_free(&want);
    job_free(&plain);
    job_free(&guided);
}

static void every_sampler_and_schedule_runs(void **state)
{
    (void)state;
    struct said euler = { 0 };
    for (enum sampler_kind k = 0; k < SAMPLER_COUNT_; k++)
        for (enum schedule_kind s = 0; s < SCHEDULE_COUNT_; s++) {
            struct job j = make_job("a tree");
            struct said one, least;
            j.sampler = k;
            j.schedule = s;
            run(&j, &one);
            j.budget = JOB_BUDGET_LEAST;
            run(&j, &least);
            assert_int_equal(difference(one.image[0], least.image[0]), 0);
            if (k == SAMPLER_EULER && s == SCHEDULE_SIMPLE)
                euler = one;
            else
                assert_true(difference(one.image[0], euler.image[0]) > 0);
            if (one.image[0] != euler.image[0])
                said_free(&one);
            said_free(&least);
            job_free(&j);
        }
    said_free(&euler);
}

/* --- decoding --------------------------------------------------------------------- */

static void deferred_decoding_gives_the_same_pictures(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct job j = make_job("now");
    struct said now, later;
    j.count = 2;
    assert_true(job_add_prompt(&j, "then", &e));
    run(&j, &now);
    j.decode = DECODE_DEFERRED;
    j.budget = JOB_BUDGET_LEAST;
    run(&j, &later);
    for (int i = 0; i < 4; i++)
        assert_int_equal(difference(now.image[i], later.image[i]), 0);
    assert_false(exists("picture.latent.safetensors"));
    assert_false(exists("picture-3.latent.safetensors"));
    said_free(&now);
    said_free(&later);
    job_free(&j);
}

/* Stopped twice while the third is sampled: two latents are kept, and decode to what would have been. */
static void kept_latents_are_not_lost(void **state)
{
    (void)state;
    char latent[FILE_PATH_MAX];
    struct err e = { 0 };
    struct job j = make_job("kept");
    struct said whole, stopped = { .stop = PIPELINE_ABANDON, .stop_at = 2 }, decoded = { 0 };
    j.count = 4;
    run(&j, &whole);
    j.decode = DECODE_DEFERRED;
    assert_false(try(&j, &stopped, &e));
    assert_int_equal(e.kind, ERR_CANCELLED);
    assert_non_null(strstr(stopped.notices, "picture.latent.safetensors"));
    assert_true(exists("picture.latent.safetensors") && exists("picture-1.latent.safetensors"));
    assert_false(exists("picture-2.latent.safetensors"));
    err_clear(&e);
    j.count = 1;
    j.width = j.height = 16; /* the latent knows better */
    struct pipeline_hooks hooks = { .emit = hear, .user = &decoded };
    if (!pipeline_decode(pipeline, &j, path_in(scratch, "picture-1.latent.safetensors", latent), &hooks, &e))
        fail_msg("%s", e.text);
    assert_int_equal(difference(decoded.image[0], whole.image[1]), 0);
    char *text = image_read_text(out, "parameters", &e);
    assert_non_null(text);
    assert_non_null(strstr(text, "Seed: 1, Size: 64x48"));
    free(text);
    assert_true(exists("picture-1.latent.safetensors"));
    unlink(latent);
    unlink(path_in(scratch, "picture.latent.safetensors", latent));
    assert_false(pipeline_decode(pipeline, &j, latent, &hooks, &e));
    said_free(&whole);
    said_free(&stopped);
    said_free(&decoded);
    job_free(&j);
}

/* The first stop asks for what there is: kept latents are decoded, the last picture in part. */
static void a_cancel_decodes_what_is_kept(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct job j = make_job("kept");
    struct said whole, stopped = { .stop = PIPELINE_CANCEL, .stop_at = 1 };
    j.count = 3;
    run(&j, &whole);
    j.decode = DECODE_DEFERRED;
    assert_false(try(&j, &stopped, &e));
    assert_int_equal(difference(stopped.image[0], whole.image[0]), 0);
    assert_false(exists("picture.latent.safetensors"));
    said_free(&whole);
    said_free(&stopped);
    job_free(&j);
}

static void the_vae_has_a_precision_of_its_own(void **state)
{
    (void)state;
    struct job j = make_job("precise");
    struct said bf16, mixed, fp32;
    run(&j, &bf16);
    j.vae_precision = PRECISION_FP32;
    run(&j, &mixed);
    j.budget = JOB_BUDGET_LEAST;
    run(&j, &fp32);
    assert_true(difference(bf16.image[0], mixed.image[0]) > 0);
    assert_int_equal(difference(mixed.image[0], fp32.image[0]), 0);
    said_free(&bf16);
    said_free(&mixed);
    said_free(&fp32);
    job_free(&j);
}

/* --- memory --------------------------------------------------------------------------- */

static void one_allocation_a_job(void **state)
{
    (void)state;
    struct job j = make_job("once");
    struct said s;
    j.cfg = 2;
    j.count = 2;
    for (size_t budget = 0; budget <= (size_t)1 << 30; budget += (size_t)1 << 28) {
        j.budget = budget;
        alloc_count_aligned();
        run(&j, &s);
        assert_int_equal(alloc_count_aligned(), 1);
        said_free(&s);
    }
    job_free(&j);
}

/* Each allocation of the job refused in turn: one of them is the arena, and then the job
 * goes on in less, with the same picture. */
static void a_refused_arena_is_planned_again(void **state)
{
    (void)state;
    struct job j = make_job("again");
    struct said want, got;
    int again = 0;
    j.width = j.height = 160; /* where the VAE has bands to go to */
    j.steps = 1;
    run(&j, &want);
    for (long n = 1;; n++) {
        struct err e = { 0 };
        memset(&got, 0, sizeof got);
        alloc_fail_at(n);
        bool ok = try(&j, &got, &e);
        if (!alloc_fail_done()) {
            said_free(&got);
            break;
        }
        if (ok && strstr(got.notices, "refused by the system: planned again")) {
            again++;
            assert_true(got.arena < want.arena);
            assert_int_equal(difference(want.image[0], got.image[0]), 0);
        }
        said_free(&got);
    }
    assert_int_equal(again, 1);
    said_free(&want);
    job_free(&j);
}

/* In any evaluation, of any sampler, under any budget: the job goes on, with the same picture. */
static void memory_that_runs_out_in_a_step(void **state)
{
    (void)state;
    static const size_t budgets[] = { 0, (size_t)1 << 30, JOB_BUDGET_AUTO };
    struct job j = make_job("goes on");
    struct said want, got;
    j.cfg = 2;
    j.width = j.height = 96;
    for (j.sampler = 0; j.sampler < SAMPLER_COUNT_; j.sampler++) {
        j.inject_oom = 0;
        j.budget = 0;
        run(&j, &want);
        for (j.inject_oom = 1; j.inject_oom <= plan_evaluations(&j); j.inject_oom++) {
            struct err e = { 0 };
            j.budget = budgets[j.inject_oom % 3];
            memset(&got, 0, sizeof got);
            if (!try(&j, &got, &e))
                fail_msg("%s", e.text);
            assert_non_null(strstr(got.notices, "it goes on from there"));
            assert_int_equal(difference(want.image[0], got.image[0]), 0);
            said_free(&got);
        }
        said_free(&want);
    }
    j.sampler = SAMPLER_EULER;
    j.inject_oom = 2;
    j.budget = JOB_BUDGET_LEAST; /* less does not do */
    struct err e = { 0 };
    memset(&got, 0, sizeof got);
    assert_false(try(&j, &got, &e));
    assert_int_equal(e.kind, ERR_DEVICE_MEMORY);
    assert_non_null(strstr(got.failed, "step 1 of 3: out of memory"));
    said_free(&got);
    j.text_encoders = TEXT_ENCODERS_RESIDENT; /* nor where something was kept below the steps */
    err_clear(&e);
    memset(&got, 0, sizeof got);
    assert_false(try(&j, &got, &e));
    assert_int_equal(e.kind, ERR_DEVICE_MEMORY);
    said_free(&got);
    job_free(&j);
}

static void a_budget_is_bounded_by_what_is_free(void **state)
{
    (void)state;
    struct job j = make_job("bounded");
    struct said s;
    size_t available = memory_free();
    assert_true(available > 0);
    j.memory_fraction = 0.01f;
    j.budget = (size_t)1 << 50;
    run(&j, &s);
    assert_non_null(strstr(s.notices, "are free: planned for"));
    assert_true(s.arena <= available / 50);
    said_free(&s);
    j.budget = JOB_BUDGET_AUTO;
    run(&j, &s);
    assert_string_equal(s.notices, "");
    said_free(&s);
    job_free(&j);
}

static int begin(void **state)
{
    (void)state;
    char dir[FILE_PATH_MAX];
    struct err e = { 0 };
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    signal(SIGXFSZ, SIG_IGN);
    scratch_make(scratch);
    path_in(scratch, "picture.png", out);
    golden_make("dev96", path_in(scratch, "dev96", dir));
    if (!model_open(&model, dir, true, &e) || !pipeline_new(&pipeline, &model, &e))
        fail_msg("%s", e.text);
    return 0;
}

static int end(void **state)
{
    (void)state;
    pipeline_free(pipeline);
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_prompt_has_its_pictures),
        cmocka_unit_test(a_known_prompt_needs_no_encoder),
        cmocka_unit_test(true_guidance),
        cmocka_unit_test(every_sampler_and_schedule_runs),
        cmocka_unit_test(deferred_decoding_gives_the_same_pictures),
        cmocka_unit_test(kept_latents_are_not_lost),
        cmocka_unit_test(a_cancel_decodes_what_is_kept),
        cmocka_unit_test(the_vae_has_a_precision_of_its_own),
        cmocka_unit_test(one_allocation_a_job),
        cmocka_unit_test(a_refused_arena_is_planned_again),
        cmocka_unit_test(memory_that_runs_out_in_a_step),
        cmocka_unit_test(a_budget_is_bounded_by_what_is_free),
    };
    return cmocka_run_group_tests_name("jobs", tests, begin, end);
}
