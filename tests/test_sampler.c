/* test_sampler.c - schedules and samplers are ComfyUI's, k-diffusion's and torch's.
 *
 * Compares with tests/golden/samplers.safetensors (make_samplers.py), then holds
 * both to what must be true of any: sigmas fall from 1 to 0, and a sampler on a
 * flow whose solution is known nears it. Runs no model. */
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/sampler.h"
#include "tests/alloc_fail.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/samplers.safetensors"

enum { STEPS_MAX = 1000, N_MAX = 64 };

/* The shifts of make_samplers.py. */
static const struct {
    const char *name;
    struct scheduler_config config;
} shifts[] = {
    { "dev", { true, 0.5f, 1.15f, 3.0f, 256, 4096 } },
    { "comfy", { true, 1.15f, 1.15f, 3.0f, 256, 4096 } },
    { "schnell", { false, 0.5f, 1.15f, 1.0f, 256, 4096 } },
    { "constant3", { false, 0.5f, 1.15f, 3.0f, 256, 4096 } },
};

static const struct scheduler_config *shift_named(const char *name)
{
    for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++)
        if (strcmp(shifts[i].name, name) == 0)
            return &shifts[i].config;
    fail_msg("no shift is named %s", name);
    return NULL;
}

static struct safetensors *golden_open(void)
{
    struct err e = { 0 };
    struct safetensors *s;
    if (!safetensors_open(&s, GOLDEN, &e))
        fail_msg("%s", e.text);
    return s;
}

/* --- the goldens ---------------------------------------------------------------- */
static void sigmas_match(void **state)
{
    (void)state;
    struct safetensors *s = golden_open();
    int compared = 0;
    for (size_t k = 0; k < safetensors_count(s); k++) {
        const char *name = safetensors_name(s, k);
        char schedule[32], shift[32];
        int tokens, steps;
        if (sscanf(name, "sigmas/%31[^/]/%31[^/]/%d/%d", schedule, shift, &tokens, &steps) != 4)
            continue;
        enum schedule_kind kind;
        assert_true(schedule_from_name(&kind, schedule));
        struct tensor t = safetensors_tensor(s, k);
        assert_int_equal(tensor_count(t), steps + 1);
        const float *want = t.data;
        float got[STEPS_MAX + 1];
        schedule_sigmas(kind, shift_named(shift), tokens, steps, got);
        for (int i = 0; i <= steps; i++)
            if (!(fabsf(got[i] - want[i]) <= 1e-6f * want[i]))
                fail_msg("%s: sigma %d is %.9g, not %.9g", name, i, (double)got[i], (double)want[i]);
        compared++;
    }
    assert_int_equal(compared, 322);
    safetensors_close(s);
}

/* make_samplers.py's model. */
static void velocity(const float *x, float sigma, float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] = 0.7f * x[i] + 0.4f * (0.5f - sigma) * x[(i + 1) % n] + 0.6f * cosf(x[i] + 0.1f * (float)i);
}

static void near(const char *name, const char *what, int row, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f))
            fail_msg("%s: %s %d, value %zu is %.9g, not %.9g", name, what, row, i, (double)got[i], (double)want[i]);
}

static void runs_match(void **state)
{
    (void)state;
    struct safetensors *s = golden_open();
    int compared = 0;
    for (size_t k = 0; k < safetensors_count(s); k++) {
        const char *name = safetensors_name(s, k);
        char sampler[32], rng_text[32], schedule[32], key[128];
        int steps;
        if (sscanf(name, "x/%31[^/]/%31[^/]/%31[^/]/%d", sampler, rng_text, schedule, &steps) != 4)
            continue;
        struct tensor points = safetensors_tensor(s, k), x0s, sigmas;
        snprintf(key, sizeof key, "x0/%s", name + 2);
        assert_true(safetensors_find(s, key, &x0s));
        snprintf(key, sizeof key, "sigmas/%s/dev/4096/%d", schedule, steps);
        assert_true(safetensors_find(s, key, &sigmas));
        enum sampler_kind kind;
        enum rng_kind rng;
        assert_true(sampler_from_name(&kind, sampler) && rng_from_name(&rng, rng_text));
        assert_int_equal(points.shape[0], steps + 1);
        assert_int_equal(x0s.shape[0], sampler_evaluations(kind, steps));
        size_t n = (size_t)points.shape[1];
        assert_true(n <= N_MAX);

        float x[N_MAX], v[N_MAX], x0[N_MAX];
        memcpy(x, points.data, n * sizeof *x);
        struct sampler run;
        struct err e = { 0 };
        uint64_t seed = strtoull(safetensors_metadata(s, "seed"), NULL, 10);
        assert_true(sampler_begin(&run, kind, sigmas.data, steps, n, rng, seed, &e));
        int evaluations = 0;
        while (run.step < run.steps) {
            int at = sampler_at(&run);
            assert_true(at >= 0 && at < steps);
            velocity(x, run.sigmas[at], v, n);
            bool whole = sampler_advance(&run, x, v, x0);
            near(name, "x0", evaluations, x0, (const float *)x0s.data + (size_t)evaluations * n, n);
            if (whole)
                near(name, "x", run.step, x, (const float *)points.data + (size_t)run.step * n, n);
            evaluations++;
        }
        assert_int_equal(sampler_at(&run), steps);
        assert_int_equal(evaluations, sampler_evaluations(kind, steps));
        sampler_end(&run);
        compared++;
    }
    assert_int_equal(compared, 30);
    safetensors_close(s);
}

static void draws_match(void **state)
{
    (void)state;
    struct safetensors *s = golden_open();
    int compared = 0;
    for (size_t k = 0; k < safetensors_count(s); k++) {
        const char *name = safetensors_name(s, k);
        char rng_text[32];
        uint64_t seed;
        size_t n, draw;
        if (sscanf(name, "draw/%31[^/]/%" SCNu64 "/%zu/%zu", rng_text, &seed, &n, &draw) != 4)
            continue;
        enum rng_kind rng;
        assert_true(rng_from_name(&rng, rng_text) && n <= N_MAX);
        float got[N_MAX];
        rng_draw(rng, seed, draw, got, n);
        const float *want = safetensors_tensor(s, k).data;
        /* As in test_rng: libm's last place in these two. */
        bool libm = rng == RNG_PHILOX || n < 16;
        for (size_t i = 0; i < n; i++)
            if (!(fabsf(got[i] - want[i]) <= (libm ? 1.2e-7f * fabsf(want[i]) : 0)))
                fail_msg("%s: value %zu is %.9g, torch's is %.9g", name, i, (double)got[i], (double)want[i]);
        compared++;
    }
    assert_int_equal(compared, 120);
    safetensors_close(s);
}

/* In whole blocks, torch's generators draw twice 32 as once 64. */
static void draws_follow_each_other(void **state)
{
    (void)state;
    for (int k = 0; k < RNG_KIND_COUNT_; k++) {
        if (k == RNG_PHILOX)
            continue;
        float all[64], second[32];
        rng_normal((enum rng_kind)k, 5, all, 64);
        rng_draw((enum rng_kind)k, 5, 1, second, 32);
        if (memcmp(all + 32, second, sizeof second) != 0)
            fail_msg("%s: the second draw is not what follows the first", rng_name((enum rng_kind)k));
    }
}

/* --- what is true of every schedule --------------------------------------------- */
static void falls(enum schedule_kind kind, const struct scheduler_config *c, int tokens, int steps)
{
    float s[STEPS_MAX + 1];
    schedule_sigmas(kind, c, tokens, steps, s);
    bool ok = s[0] <= 1 && s[steps] == 0;
    for (int i = 0; i < steps; i++)
        ok = ok && s[i] > s[i + 1];
    if (!ok)
        fail_msg("%s, %d tokens, %d steps does not fall from 1 to 0 (shifts %g to %g, %g)", schedule_name(kind), tokens,
                 steps, (double)c->base_shift, (double)c->max_shift, (double)c->shift);
}

static void every_schedule_falls(void **state)
{
    (void)state;
    for (int k = 0; k < SCHEDULE_COUNT_; k++)
        for (size_t c = 0; c < sizeof shifts / sizeof shifts[0]; c++) {
            for (int size = 256; size <= 2048; size += 256)
                for (int steps = 1; steps <= 200; steps++)
                    falls((enum schedule_kind)k, &shifts[c].config, size / 16 * (size / 16), steps);
            for (int steps = 201; steps <= STEPS_MAX; steps += 17)
                falls((enum schedule_kind)k, &shifts[c].config, 4096, steps);
            falls((enum schedule_kind)k, &shifts[c].config, 4096, STEPS_MAX);
        }
}

/* What a config may hold but no model has: fp32 cannot tell the sigmas apart. */
static void extreme_shifts_fall(void **state)
{
    (void)state;
    static const struct scheduler_config extreme[] = {
        { true, -100, 100, 1, 256, 4096 }, { true, 100, -100, 1, 256, 4096 },    { true, 100, 100, 1, 1, 2 },
        { true, -100, 100, 1, 1, 2 },      { false, 0, 0, 1e3f, 256, 4096 },     { false, 0, 0, 1e-3f, 256, 4096 },
        { true, 0.5f, 1.15f, 1, 256, 4096 },
    };
    static const int tokens[] = { 1, 4096, 65536 }, steps[] = { 1, 2, 3, 28, 999, 1000 };
    for (int k = 0; k < SCHEDULE_COUNT_; k++)
        for (size_t c = 0; c < sizeof extreme / sizeof extreme[0]; c++)
            for (size_t t = 0; t < sizeof tokens / sizeof tokens[0]; t++)
                for (size_t n = 0; n < sizeof steps / sizeof steps[0]; n++)
                    falls((enum schedule_kind)k, &extreme[c], tokens[t], steps[n]);
}

/* Where ComfyUI's beta would make 153 fewer of 1000 steps (schnell's table has
 * 1000 entries), each entry comes once. */
static void beta_keeps_its_steps(void **state)
{
    (void)state;
    float s[STEPS_MAX + 1];
    schedule_sigmas(SCHEDULE_BETA, shift_named("schnell"), 4096, STEPS_MAX, s);
    for (int i = 0; i < STEPS_MAX; i++)
        assert_true(s[i] == (float)((1000.0 - i) / 1000));
}

/* --- what is true of every sampler ----------------------------------------------- */
/* The flow from noise to pictures that are normal with deviation `spread`: known
 * by hand. Its paths are x(sigma) = x(1) sqrt((1 - sigma)^2 spread^2 + sigma^2). */
static void normal_flow(const float *x, float sigma, float spread, float *v, size_t n)
{
    double s = sigma, p = (double)spread * spread;
    double slope = (s - (1 - s) * p) / ((1 - s) * (1 - s) * p + s * s);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(slope * x[i]);
}

/* The error of a run from x = 1, whose end is `spread`. */
static double error_of(enum sampler_kind kind, enum schedule_kind schedule, int steps, float spread)
{
    float sigmas[STEPS_MAX + 1], x = 1, v, x0;
    schedule_sigmas(schedule, shift_named("dev"), 4096, steps, sigmas);
    struct sampler s;
    struct err e = { 0 };
    assert_true(sampler_begin(&s, kind, sigmas, steps, 1, RNG_TORCH_CPU, 0, &e));
    while (s.step < s.steps) {
        normal_flow(&x, sigmas[sampler_at(&s)], spread, &v, 1);
        sampler_advance(&s, &x, &v, &x0);
    }
    sampler_end(&s);
    assert_true(x == x0); /* the last step of each goes to x0 */
    return fabs((double)x - (double)spread);
}

/* The bounds hold with much to spare but for dpmpp_2m, whose extrapolation suffers
 * where a schedule's last steps are long in log sigma (normal, simple). */
static void samplers_near_the_truth(void **state)
{
    (void)state;
    static const float spreads[] = { 0.3f, 0.6f, 1.7f };
    for (int k = 0; k < SCHEDULE_COUNT_; k++)
        for (size_t p = 0; p < sizeof spreads / sizeof spreads[0]; p++) {
            double few[SAMPLER_LCM], many[SAMPLER_LCM];
            for (int m = SAMPLER_EULER; m < SAMPLER_LCM; m++) {
                few[m] = error_of((enum sampler_kind)m, (enum schedule_kind)k, 64, spreads[p]);
                many[m] = error_of((enum sampler_kind)m, (enum schedule_kind)k, 256, spreads[p]);
                if (!(many[m] < few[m] / 3) || !(many[m] <= many[SAMPLER_EULER] / (m == SAMPLER_EULER ? 1 : 1.5)))
                    fail_msg("%s, %s, spread %g: off by %g after 64 steps and %g after 256, euler by %g",
                             sampler_name((enum sampler_kind)m), schedule_name((enum schedule_kind)k),
                             (double)spreads[p], few[m], many[m], many[SAMPLER_EULER]);
            }
        }
}

/* A model that sees one picture from everywhere: every sampler arrives there. */
static void samplers_reach_the_picture(void **state)
{
    (void)state;
    enum { N = 16 };
    float sigmas[21], start[N], x[N], v[N], x0[N];
    rng_normal(RNG_TORCH_CPU, 3, start, N);
    for (int m = 0; m < SAMPLER_COUNT_; m++)
        for (int k = 0; k < SCHEDULE_COUNT_; k++)
            for (int steps = 1; steps <= 20; steps++) {
                schedule_sigmas((enum schedule_kind)k, shift_named("dev"), 1024, steps, sigmas);
                struct sampler s;
                struct err e = { 0 };
                assert_true(sampler_begin(&s, (enum sampler_kind)m, sigmas, steps, N, RNG_PHILOX, 9, &e));
                memcpy(x, start, sizeof x);
                while (s.step < s.steps) {
                    for (int i = 0; i < N; i++)
                        v[i] = (x[i] - 0.1f * (float)i) / sigmas[sampler_at(&s)];
                    sampler_advance(&s, x, v, x0);
                }
                sampler_end(&s);
                for (int i = 0; i < N; i++)
                    if (!(fabsf(x[i] - 0.1f * (float)i) <= 1e-5f))
                        fail_msg("%s, %s, %d steps: value %d is %.9g", sampler_name((enum sampler_kind)m),
                                 schedule_name((enum schedule_kind)k), steps, i, (double)x[i]);
            }
}

/* --- names and memory --------------------------------------------------------------- */
static void names_are_known(void **state)
{
    (void)state;
    static const struct { const char *name; int kind; } samplers[] = {
        { "Euler", SAMPLER_EULER },       { "HEUN", SAMPLER_HEUN },         { "dpm++ 2m", SAMPLER_DPMPP_2M },
        { "DPM++ 2M", SAMPLER_DPMPP_2M }, { "dpm++2m", SAMPLER_DPMPP_2M },  { "dpm++", SAMPLER_DPMPP_2M },
        { "dpmpp", SAMPLER_DPMPP_2M },    { "DPMPP-2M", SAMPLER_DPMPP_2M }, { "LCM", SAMPLER_LCM },
        { "", -1 },      { "eule", -1 },  { "eulers", -1 },                 { "euler a", -1 },
        { "dpm2", -1 },  { "dpm", -1 },   { "dpmpp_2m_sde", -1 },           { "_", -1 },
    };
    static const struct { const char *name; int kind; } schedules[] = {
        { "SGM Uniform", SCHEDULE_SGM_UNIFORM }, { "sgm-uniform", SCHEDULE_SGM_UNIFORM }, { "Karras", SCHEDULE_KARRAS },
        { "Simple", SCHEDULE_SIMPLE },           { "BETA", SCHEDULE_BETA },               { "uniform", -1 },
        { "", -1 },                              { "polyexponential", -1 },
    };
    for (size_t i = 0; i < sizeof samplers / sizeof samplers[0]; i++) {
        enum sampler_kind k = SAMPLER_COUNT_;
        assert_int_equal(sampler_from_name(&k, samplers[i].name), samplers[i].kind >= 0);
        assert_int_equal(k, samplers[i].kind >= 0 ? samplers[i].kind : SAMPLER_COUNT_);
    }
    for (size_t i = 0; i < sizeof schedules / sizeof schedules[0]; i++) {
        enum schedule_kind k = SCHEDULE_COUNT_;
        assert_int_equal(schedule_from_name(&k, schedules[i].name), schedules[i].kind >= 0);
        assert_int_equal(k, schedules[i].kind >= 0 ? schedules[i].kind : SCHEDULE_COUNT_);
    }
    for (int i = 0; i < SAMPLER_COUNT_; i++) {
        enum sampler_kind k;
        assert_true(sampler_from_name(&k, sampler_name((enum sampler_kind)i)) && (int)k == i);
    }
    for (int i = 0; i < SCHEDULE_COUNT_; i++) {
        enum schedule_kind k;
        assert_true(schedule_from_name(&k, schedule_name((enum schedule_kind)i)) && (int)k == i);
    }
}

static void refused_memory_is_an_error(void **state)
{
    (void)state;
    static const float sigmas[2] = { 1, 0 };
    for (int m = 0; m < SAMPLER_COUNT_; m++) {
        struct sampler s;
        struct err e = { 0 };
        alloc_fail_at(1);
        bool begun = sampler_begin(&s, (enum sampler_kind)m, sigmas, 1, 16, RNG_TORCH_CPU, 0, &e);
        assert_int_equal(begun, !alloc_fail_done());
        assert_int_equal(e.kind, begun ? ERR_NONE : ERR_MEMORY);
        sampler_end(&s);
    }
    sampler_end(&(struct sampler){ 0 });
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_match),
        cmocka_unit_test(runs_match),
        cmocka_unit_test(draws_match),
        cmocka_unit_test(draws_follow_each_other),
        cmocka_unit_test(every_schedule_falls),
        cmocka_unit_test(extreme_shifts_fall),
        cmocka_unit_test(beta_keeps_its_steps),
        cmocka_unit_test(samplers_near_the_truth),
        cmocka_unit_test(samplers_reach_the_picture),
        cmocka_unit_test(names_are_known),
        cmocka_unit_test(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
