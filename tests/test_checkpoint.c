/* test_checkpoint.c - a job that stops and goes on: checkpoints and pauses give the
 * pixels of a job that was never disturbed, for every sampler and place; and
 * what can be done to jobs that wait in the engine. On a small random model. */
#include "engine/engine.h"
#include "engine/pipeline.h"
#include "engine/record.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PICTURES = 4, STEPS = 5 };

static char scratch[FILE_PATH_MAX], folder[FILE_PATH_MAX], out[FILE_PATH_MAX], place[FILE_PATH_MAX];
static struct model model;
static struct pipeline *pipeline;

/* What a job said, and when it is to be stopped. */
struct said {
    struct image *image[PICTURES];
    int evaluations, clips;         /* of the transformer, of CLIP */
    int stop_after;                 /* evaluations; 0: never */
    int pause_after;                /* the same, until `wait` */
    enum pipeline_stop stop;
    int paused_at, resumed_at, rests;
    size_t arena;                   /* as last told */
    size_t arena_resting;
    bool kept_resting;
    int kept_step;                  /* of the checkpoint that is there when the last step begins; 0: none */
    char notices[2048];
};

/* What a kill would leave now. */
static int kept_step(void)
{
    struct record record;
    struct checkpoint c;
    if (!record_read_checkpoint(&record, &c, place, NULL))
        return 0;
    int step = c.step;
    checkpoint_free(&c);
    record_free(&record);
    return step;
}

static void hear(void *user, struct event *ev)
{
    struct said *s = user;
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX && ev->block == 1) {
        if (++s->evaluations == STEPS)
            s->kept_step = kept_step();
        if (s->stop_after && s->evaluations > s->stop_after)
            s->stop = PIPELINE_ABANDON;
        if (s->pause_after && s->evaluations == s->pause_after)
            s->stop = PIPELINE_PAUSE;
    }
    s->clips += ev->kind == EVENT_STAGE && ev->stage == STAGE_CLIP;
    if (ev->kind == EVENT_MEMORY)
        s->arena = ev->memory.arena_bytes;
    if (ev->kind == EVENT_PAUSED)
        s->paused_at = ev->step;
    if (ev->kind == EVENT_RESUMED)
        s->resumed_at = ev->step;
    if (ev->kind == EVENT_NOTICE)
        snprintf(s->notices + strlen(s->notices), sizeof s->notices - strlen(s->notices), "%s\n", ev->text);
    if (ev->kind == EVENT_DONE) {
        s->image[ev->index] = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

static enum pipeline_stop asked(void *user)
{
    return ((struct said *)user)->stop;
}

static void wait(void *user)
{
    struct said *s = user;
    s->rests++;
    s->arena_resting = s->arena;
    s->kept_resting = file_exists(place);
    s->stop = PIPELINE_GO;
}

static bool run(const struct job *j, struct said *s, struct err *e)
{
    struct pipeline_hooks hooks = { .emit = hear, .stop = asked, .wait = wait, .user = s };
    return pipeline_run(pipeline, j, 1, &hooks, e);
}

static void run_whole(const struct job *j, struct said *s)
{
    struct err e = { 0 };
    if (!run(j, s, &e))
        fail_msg("%s", e.text);
}

static void said_free(struct said *s)
{
    for (int i = 0; i < PICTURES; i++)
        image_free(s->image[i]);
    memset(s, 0, sizeof *s);
}

static struct job make_job(const char *prompt)
{
    struct job j;
    struct err e = { 0 };
    if (!job_init(&j, &model, &e) || !job_set_string(&j.prompt, prompt, &e) || !job_set_string(&j.out, out, &e) ||
        !job_set_string(&j.negative, "not this", &e) || !job_set_string(&j.checkpoint, place, &e))
        fail_msg("%s", e.text);
    j.width = 48;
    j.height = 32;
    j.steps = STEPS;
    j.seed = 11;
    j.embedding_cache = false;
    j.preview = PREVIEW_NONE;
#ifdef __SANITIZE_THREAD__
    j.threads = 1;
#else
    j.threads = 2;
#endif
    return j;
}

static void set(char **field, const char *value)
{
    struct err e = { 0 };
    assert_true(job_set_string(field, value, &e));
}

static void assert_same(const struct image *a, const struct image *b)
{
    assert_true(a && b && a->width == b->width && a->height == b->height);
    assert_memory_equal(a->rgb, b->rgb, (size_t)a->width * (size_t)a->height * 3);
}

/* --- checkpoints ------------------------------------------------------------------- */

/* Stopped after `n` evaluations of the model (two flux passes each with cfg), then taken up again. */
static void stop_and_go_on(struct job *j, int n, const struct image *want)
{
    struct said first = { .stop_after = n * job_conditions(j) }, rest = { 0 };
    struct err e = { 0 };
    assert_false(run(j, &first, &e));
    assert_int_equal(e.kind, ERR_CANCELLED);
    assert_true(file_exists(place));
    set(&j->resume, place);
    run_whole(j, &rest);
    set(&j->resume, NULL);
    assert_string_equal(rest.notices, "");
    assert_int_equal(rest.evaluations, (sampler_evaluations(j->sampler, j->steps) - n) * job_conditions(j));
    assert_same(rest.image[0], want);
    assert_false(file_exists(place)); /* it went with the picture's end */
    said_free(&first);
    said_free(&rest);
}

static void goes_on_from_every_evaluation_of_every_sampler(void **state)
{
    (void)state;
    struct job j = make_job("goes on");
    for (enum sampler_kind k = 0; k < SAMPLER_COUNT_; k++)
        for (int cfg = 1; cfg <= 2; cfg++)
            for (int rng = 0; rng < (k == SAMPLER_LCM && cfg == 1 ? 2 : 1); rng++) {
                struct said whole = { 0 };
                j.sampler = k;
                j.cfg = (float)cfg;
                j.rng = rng ? RNG_PHILOX : RNG_TORCH_CPU;
                run_whole(&j, &whole);
                for (int n = 1; n < sampler_evaluations(k, STEPS); n += cfg)
                    stop_and_go_on(&j, n, whole.image[0]);
                said_free(&whole);
            }
    job_free(&j);
}

static void is_written_as_often_as_asked(void **state)
{
    (void)state;
    struct job j = make_job("often");
    const int expected[] = { 0, 4, 4, 3, 4, 0 };
    for (int every = 0; every <= 5; every++) {
        struct said s = { 0 };
        j.checkpoint_steps = every;
        run_whole(&j, &s);
        assert_int_equal(s.kept_step, expected[every]);
        said_free(&s);
    }
    job_free(&j);
}

static void begins_anew_where_it_does_not_fit(void **state)
{
    (void)state;
    struct job j = make_job("one"), other = make_job("other");
    struct said s = { .stop_after = 3 }, whole = { 0 }, r = { 0 };
    struct err e = { 0 };
    run_whole(&other, &whole);
    assert_false(run(&j, &s, &e));
    set(&other.resume, place);
    run_whole(&other, &r);
    assert_non_null(strstr(r.notices, "of another picture"));
    assert_int_equal(r.evaluations, STEPS);
    assert_same(r.image[0], whole.image[0]);
    said_free(&r);

    /* gone; no checkpoint at all; cut short */
    run_whole(&other, &r);
    assert_non_null(strstr(r.notices, "begins anew"));
    assert_same(r.image[0], whole.image[0]);
    said_free(&r);
    scratch_write(place, "junk", 4);
    run_whole(&other, &r);
    assert_non_null(strstr(r.notices, "begins anew"));
    said_free(&r);
    said_free(&whole);
    said_free(&s);
    job_free(&j);
    job_free(&other);
}

static void a_batch_goes_on_with_its_picture(void **state)
{
    (void)state;
    struct job j = make_job("batch");
    struct err e = { 0 };
    for (enum decode_order order = DECODE_IMMEDIATE; order <= DECODE_DEFERRED; order++) {
        struct said whole = { 0 }, first = { .stop_after = STEPS + 2 }, rest = { 0 };
        j.decode = order;
        j.count = 2;
        assert_true(job_add_prompt(&j, "second prompt", &e));
        run_whole(&j, &whole);
        assert_false(run(&j, &first, &e));
        err_clear(&e);
        /* Deferred: the first picture is a latent, which is not made again. */
        j.first = order == DECODE_IMMEDIATE;
        assert_int_equal(first.image[0] != NULL, j.first);
        set(&j.resume, place);
        run_whole(&j, &rest);
        assert_int_equal(rest.image[0] == NULL, j.first);
        for (int i = j.first; i < 4; i++)
            assert_same(rest.image[i], whole.image[i]);
        assert_int_equal(rest.evaluations, 3 * STEPS - 2);
        assert_int_equal(rest.clips, 2);
        said_free(&rest);

        /* From a later prompt, without a checkpoint. */
        j.first = 3;
        set(&j.resume, NULL);
        run_whole(&j, &rest);
        assert_same(rest.image[3], whole.image[3]);
        assert_int_equal(rest.evaluations, STEPS);
        said_free(&rest);
        said_free(&first);
        said_free(&whole);
        job_free(&j);
        j = make_job("batch");
    }
    job_free(&j);
}

/* --- pauses --------------------------------------------------------------------------- */

static void a_pause_changes_no_pixel(void **state)
{
    (void)state;
    struct job j = make_job("pause");
    for (size_t budget = 0; budget <= (size_t)1 << 30; budget += (size_t)1 << 30)
        for (enum sampler_kind k = SAMPLER_EULER; k <= SAMPLER_DPMPP_2M; k++) {
            struct said whole = { 0 }, s = { .pause_after = 2 };
            j.budget = budget;
            j.sampler = k;
            run_whole(&j, &whole);
            run_whole(&j, &s);
            assert_int_equal(s.rests, 1);
            int at = k == SAMPLER_HEUN ? 1 : 2; /* whole steps in two evaluations */
            assert_int_equal(s.paused_at, at);
            assert_int_equal(s.resumed_at, at);
            assert_int_equal(s.arena_resting, 0);
            assert_true(s.arena > 0 && s.kept_resting);
            assert_int_equal(s.evaluations, whole.evaluations);
            assert_same(s.image[0], whole.image[0]);
            said_free(&whole);
            said_free(&s);
        }
    job_free(&j);
}

/* --- the engine ------------------------------------------------------------------------ */

static void next_event(struct engine *g, struct event *ev)
{
    while (!engine_poll(g, ev)) {
        struct pollfd fd = { engine_fd(g), POLLIN, 0 };
        if (poll(&fd, 1, 60000) != 1)
            fail_msg("the engine says nothing for a minute");
    }
}

/* Until one of that kind, which is for event_clear. */
static struct event wait_for(struct engine *g, enum event_kind kind)
{
    for (;;) {
        struct event ev;
        next_event(g, &ev);
        if (ev.kind == EVENT_FAILED)
            fail_msg("%s", ev.text);
        if (ev.kind == kind)
            return ev;
        event_clear(&ev);
    }
}

static uint64_t submit(struct engine *g, const struct job *j)
{
    struct err e = { 0 };
    uint64_t id;
    if (!engine_submit(g, j, &id, &e))
        fail_msg("%s", e.text);
    return id;
}

static void the_engine_rests_and_goes_on(void **state)
{
    (void)state;
    struct engine *g;
    struct err e = { 0 };
    struct job j = make_job("engine");
    struct said whole = { 0 };
    struct event ev;
    run_whole(&j, &whole);
    assert_true(engine_start(&g, folder, &e));

    /* Between jobs: nothing begins. */
    engine_pause(g);
    ev = wait_for(g, EVENT_PAUSED);
    assert_int_equal(ev.job, 0);
    uint64_t id = submit(g, &j);
    wait_for(g, EVENT_QUEUED);
    assert_int_equal(poll(&(struct pollfd){ engine_fd(g), POLLIN, 0 }, 1, 30), 0);
    engine_resume(g);
    ev = wait_for(g, EVENT_RESUMED);
    assert_int_equal(ev.job, 0);

    /* At work: at a step's end. */
    ev = wait_for(g, EVENT_PROGRESS);
    event_clear(&ev);
    engine_pause(g);
    ev = wait_for(g, EVENT_PAUSED);
    assert_int_equal(ev.job, id);
    engine_resume(g);
    ev = wait_for(g, EVENT_RESUMED);
    assert_int_equal(ev.job, id);
    ev = wait_for(g, EVENT_DONE);
    assert_same(ev.image, whole.image[0]);
    event_clear(&ev);
    wait_for(g, EVENT_IDLE);

    /* A cancel ends the rest; the engine itself still rests, and a stop gets through. */
    id = submit(g, &j);
    ev = wait_for(g, EVENT_PROGRESS);
    engine_pause(g);
    ev = wait_for(g, EVENT_PAUSED);
    assert_int_equal(ev.job, id);
    engine_cancel(g, id);
    ev = wait_for(g, EVENT_CANCELLED);
    event_clear(&ev);
    wait_for(g, EVENT_IDLE);
    ev = wait_for(g, EVENT_PAUSED);
    assert_int_equal(ev.job, 0);
    submit(g, &j);
    engine_stop(g);
    said_free(&whole);
    job_free(&j);
}

static int begin(void **state)
{
    (void)state;
    struct err e = { 0 };
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    scratch_make_cache(scratch);
    path_in(scratch, "picture.png", out);
    path_in(scratch, "place.latent.safetensors", place);
    golden_make("dev96", path_in(scratch, "dev96", folder));
    if (!model_open(&model, folder, true, &e) || !pipeline_new(&pipeline, &model, &e))
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
        cmocka_unit_test(goes_on_from_every_evaluation_of_every_sampler),
        cmocka_unit_test(is_written_as_often_as_asked),
        cmocka_unit_test(begins_anew_where_it_does_not_fit),
        cmocka_unit_test(a_batch_goes_on_with_its_picture),
        cmocka_unit_test(a_pause_changes_no_pixel),
        cmocka_unit_test(the_engine_rests_and_goes_on),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, begin, end);
}
