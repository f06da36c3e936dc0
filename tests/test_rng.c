/* test_rng.c - the noise is torch's, bit for bit.
 *
 * Compares with tests/golden/noise.safetensors and noise_early.safetensors
 * (make_noise.py): every value by the checksum of all, the first and last 32
 * by themselves. Does not test whether the numbers are normal: torch's are. */
#include "engine/rng.h"
#include "engine/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef GOLDEN_DIR
#define GOLDEN_DIR "tests/golden"
#endif

static uint64_t fnv1a(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

/* libm's double functions decide the last bit of these two, so they may be off
 * by one place of fp32 with another C library. */
static bool through_libm(enum rng_kind k, size_t n)
{
    return k == RNG_PHILOX || n < 16;
}

static void compare(const char *name, struct tensor want, const char *sum)
{
    char kind[64];
    uint64_t seed;
    size_t n;
    enum rng_kind k;
    assert_int_equal(sscanf(name, "%63[^/]/%" SCNu64 "/%zu", kind, &seed, &n), 3);
    assert_true(rng_from_name(&k, kind));
    assert_int_equal(want.dtype, DT_F32);
    assert_int_equal(tensor_count(want), n <= 64 ? n : 64);

    float *got = malloc((n + 2) * sizeof *got);
    assert_non_null(got);
    got[0] = got[n + 1] = 12345.0f;
    rng_normal(k, seed, got + 1, n);
    assert_true(got[0] == 12345.0f && got[n + 1] == 12345.0f);
    const float *expected = want.data;
    for (size_t i = 0; i < n; i++) {
        if (n > 64 && i == 32)
            i = n - 32;
        float e = expected[n <= 64 || i < 32 ? i : i - (n - 64)], g = got[1 + i];
        bool same = through_libm(k, n) ? fabsf(g - e) <= 1.2e-7f * fabsf(e) : f32_bits(g) == f32_bits(e);
        if (!same)
            fail_msg("%s: value %zu is %.9g (%08x), torch's is %.9g (%08x)", name, i, (double)g, f32_bits(g),
                     (double)e, f32_bits(e));
    }
    assert_non_null(sum);
    if (!through_libm(k, n) && fnv1a(got + 1, n * sizeof *got) != strtoull(sum, NULL, 16))
        fail_msg("%s: a value between the first and the last 32 differs from torch's", name);
    free(got);
}

static void compare_file(const char *path, size_t at_least)
{
    struct err e = { 0 };
    struct safetensors *s;
    if (!safetensors_open(&s, path, &e))
        fail_msg("%s", e.text);
    assert_true(safetensors_count(s) >= at_least);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const char *name = safetensors_name(s, i);
        compare(name, safetensors_tensor(s, i), safetensors_metadata(s, name));
    }
    safetensors_close(s);
}

static void matches_torch(void **state)
{
    (void)state;
    compare_file(GOLDEN_DIR "/noise.safetensors", 300);
}

static void matches_early_torch(void **state)
{
    (void)state;
    compare_file(GOLDEN_DIR "/noise_early.safetensors", 100);
}

static void starts_as_known(void **state)
{
    (void)state;
    static const float torch_seed_0[4] = { -1.1258f, -1.1524f, -0.2506f, -0.4339f };
    static const float philox_seed_0[4] = { -0.92466259f, -0.42534415f, -2.6438457f, 0.14518388f };
    float v[16];
    rng_normal(RNG_TORCH_CPU, 0, v, 16);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(v[i] - torch_seed_0[i]) <= 5e-5f);
    rng_normal(RNG_PHILOX, 0, v, 4);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(v[i] - philox_seed_0[i]) <= 1e-6f);
    rng_normal(RNG_PHILOX, 0, v, 0);
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int i = 0; i < RNG_KIND_COUNT_; i++) {
        enum rng_kind k;
        assert_true(rng_from_name(&k, rng_name((enum rng_kind)i)));
        assert_int_equal(k, i);
    }
    enum rng_kind k;
    assert_false(rng_from_name(&k, "torch"));
    assert_false(rng_from_name(&k, ""));
}

static uint16_t near_bf16(double value, int ulps)
{
    return bf16_from_f32((float)(value * (1.0 + ulps * 0x1p-24)));
}

/* Two places of fp32 either way, more than any libm is wrong by, leave every
 * bf16 that torch-cpu-bf16-early can meet as it is. */
static void early_does_not_depend_on_libm(void **state)
{
    (void)state;
    for (int i = 0; i < 256; i++) {
        double u = i / 256.0;
        float theta = f32_from_bf16(bf16_from_f32((float)(6.283185307179586 * u)));
        const double values[] = { log(1.0 - u), cos((double)theta), sin((double)theta) };
        for (int f = 0; f < 3; f++) {
            for (int ulps = -4; ulps <= 4; ulps++)
                assert_int_equal(near_bf16(values[f], ulps), near_bf16(values[f], 0));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_as_known),
        cmocka_unit_test(matches_torch),
        cmocka_unit_test(matches_early_torch),
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(early_does_not_depend_on_libm),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
