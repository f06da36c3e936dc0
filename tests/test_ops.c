/* test_ops.c - check_ops.h's cases on the cpu device, and on ref itself; what is
 * the cpu device's alone; ref and count against numbers from paper.
 *
 * How a failure is seen alone: check_ops.h, struct check_options. */
#include "kernels/count.h"
#include "kernels/cpu.h"
#include "kernels/ref.h"
#include "tests/check_ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- the devices ------------------------------------------------------------------ */
static bool ref_make(const struct check_target *t, int threads, struct device **out, struct err *e)
{
    (void)threads;
    *out = malloc(sizeof **out);
    if (!*out)
        return err_set(e, ERR_MEMORY, "out of memory");
    ref_device_init(*out, t->compute);
    return true;
}

static void ref_drop(struct device *d) { free(d); }

static bool cpu_make(const struct check_target *t, int threads, struct device **out, struct err *e)
{
    return cpu_device_new(out, t->compute, threads, e);
}

static struct check_target targets[] = {
    /* ref against itself tests the tests; where it is not F32, as a device with memory of its own. */
    { .name = "ref-f32", .compute = DT_F32, .rounds = 1, .small = true, .make = ref_make, .drop = ref_drop },
    { .name = "ref-bf16", .compute = DT_BF16, .rounds = 1, .small = true, .device_memory = true, .make = ref_make,
      .drop = ref_drop },
    { .name = "ref-f16", .compute = DT_F16, .rounds = 1, .small = true, .device_memory = true, .make = ref_make,
      .drop = ref_drop },
    /* oneDNN multiplies BF16 channels in pairs. */
    { .name = "cpu-f32", .compute = DT_F32, .rounds = 1, .threads = 2, .make = cpu_make, .drop = cpu_device_free },
    { .name = "cpu-bf16", .compute = DT_BF16, .rounds = 1, .threads = 3, .nan_meets_pairs = true, .make = cpu_make,
      .drop = cpu_device_free },
    { .name = "cpu-f16", .compute = DT_F16, .rounds = 1, .threads = 2, .make = cpu_make, .drop = cpu_device_free },
};
enum { TARGETS = sizeof targets / sizeof *targets, CHECKS_MAX = 40 };

static struct check_options options;

struct pairing {
    const struct check_target *target;
    int check;
};

static void run_check(void **state)
{
    const struct pairing *p = *state;
    struct err e = { 0 };
    if (!check_run(&options, p->target, p->check, &e))
        fail_msg("%s %s: %s", p->target->name, check_name(p->check), e.text);
}

/* --- what is the cpu device's alone ------------------------------------------------- */
/* A picture that it widens in several bands, against F32: the seams show. */
static void check_wide_bands(void **state)
{
    (void)state;
    enum { H = 701, WIDTH = 64, IN = 96, OUT = 3 };
    struct err e = { 0 };
    struct device *d[2];
    assert_true(cpu_device_new(&d[0], DT_F32, 2, &e) && cpu_device_new(&d[1], DT_F16, 2, &e));
    size_t arena = (size_t)32 << 20;
    void *memory = aligned_alloc(ARENA_ALIGN, arena);
    uint16_t *x = malloc(sizeof *x * H * WIDTH * IN), *y = malloc(sizeof *y * H * WIDTH * OUT);
    float *wide_x = malloc(sizeof *wide_x * H * WIDTH * IN), *wide_y = malloc(sizeof *wide_y * H * WIDTH * OUT);
    assert_true(memory && x && y && wide_x && wide_y);
    float w[OUT * IN * 9];
    uint32_t state_of = (uint32_t)options.seed;
#define NEXT() ((float)(int32_t)(state_of = state_of * 1664525u + 1013904223u) * 0x1p-31f)
    for (int stride = 1; stride <= 2; stride++) {
        struct conv2d v = { .stride = stride, .top = stride == 1, .left = 1, .bottom = 1, .right = 1,
                            .accumulate = true };
        int64_t h = (H + v.top - 2) / stride + 1, cols = (WIDTH - 1) / stride + 1;
        for (int i = 0; i < H * WIDTH * IN; i++)
            wide_x[i] = f32_from_f16(x[i] = f16_from_f32(2 * NEXT()));
        for (int64_t i = 0; i < h * cols * OUT; i++)
            wide_y[i] = f32_from_f16(y[i] = f16_from_f32(2 * NEXT()));
        for (int i = 0; i < OUT * IN * 9; i++)
            w[i] = 0.05f * NEXT();
        struct tensor weights = tensor_4d(w, DT_F32, OUT, IN, 3, 3), none = { 0 };
        d[0]->arena = d[1]->arena = arena_over(memory, arena);
        device_conv2d(d[0], tensor_3d(wide_y, DT_F32, h, cols, OUT), tensor_3d(wide_x, DT_F32, H, WIDTH, IN), weights,
                      none, &v);
        device_conv2d(d[1], tensor_3d(y, DT_F16, h, cols, OUT), tensor_3d(x, DT_F16, H, WIDTH, IN), weights, none, &v);
        assert_true(device_sync(d[0], &e) && device_sync(d[1], &e));
        assert_in_range(d[1]->arena.peak, 1 << 17, 6 << 20); /* of the 17 MB that x has in F32 */
        for (int64_t i = 0; i < h * cols * OUT; i++) {
            double got = (double)f32_from_f16(y[i]), want = (double)wide_y[i];
            if (!(fabs(got - want) <= 1e-5 + fabs(want) * 0x1p-11))
                fail_msg("row %lld: %g instead of %g", (long long)(i / (cols * OUT)), got, want);
        }
    }
#undef NEXT
    cpu_device_free(d[0]);
    cpu_device_free(d[1]);
    free(memory);
    free(x);
    free(y);
    free(wide_x);
    free(wide_y);
}

/* --- ref against numbers from paper --------------------------------------------------- */
static void near(double got, double want) { assert_true(fabs(got - want) <= 1e-6 * (1 + fabs(want))); }

static void check_ref_by_hand(void **state)
{
    (void)state;
    struct device d;
    _Alignas(ARENA_ALIGN) unsigned char scratch[256];
    struct err e = { 0 };
    struct tensor none = { 0 };
    ref_device_init(&d, DT_F32);
    d.arena = arena_over(scratch, sizeof scratch);

    near(ref_act(ACT_SILU, 1), 0.7310585786);
    near(ref_act(ACT_QUICK_GELU, 1), 0.8457957659);
    near(ref_act(ACT_GELU_TANH, 1), 0.8411919906);
    near(ref_act(ACT_GELU_ERF, 1), 0.8413447461);
    near(ref_act(ACT_RELU, 1), 1);
    near(ref_act(ACT_RELU, -1), 0);

    float x[] = { 1, 2, 3, 4 }, w[] = { 1, 0, -1, 2, 3, 5 }, b[] = { 10, 20, 30 }, y[48] = { 0 };
    device_linear(&d, tensor_2d(y, DT_F32, 2, 3), tensor_2d(x, DT_F32, 2, 2), tensor_2d(w, DT_F32, 3, 2),
                  tensor_1d(b, DT_F32, 3), ACT_NONE);
    static const double product[] = { 11, 23, 43, 13, 25, 59 };
    for (int i = 0; i < 6; i++)
        near(y[i], product[i]);

    /* Two keys, logits ln 3 apart: weights 1/4 and 3/4; then causal: the first query sees one. */
    float q[] = { 1, 1 }, k[] = { 0, 1.0986122887f }, v[] = { 8, 4 };
    struct attention a = { .scale = 1 };
    device_attention(&d, tensor_3d(y, DT_F32, 2, 1, 1), tensor_3d(q, DT_F32, 2, 1, 1),
                     tensor_3d(k, DT_F32, 2, 1, 1), tensor_3d(v, DT_F32, 2, 1, 1), &a);
    near(y[0], 5);
    near(y[1], 5);
    a.causal = true;
    device_attention(&d, tensor_3d(y, DT_F32, 2, 1, 1), tensor_3d(q, DT_F32, 2, 1, 1),
                     tensor_3d(k, DT_F32, 2, 1, 1), tensor_3d(v, DT_F32, 2, 1, 1), &a);
    near(y[0], 8);
    near(y[1], 5);
    /* Equal logits; the bias of distance j - i = -1, 0, 1 makes the next key three times as likely. */
    float zero[] = { 0, 0 }, bias[] = { 0, 0, 1.0986122887f };
    a = (struct attention){ .scale = 1, .bias = tensor_2d(bias, DT_F32, 1, 3) };
    device_attention(&d, tensor_3d(y, DT_F32, 2, 1, 1), tensor_3d(q, DT_F32, 2, 1, 1),
                     tensor_3d(zero, DT_F32, 2, 1, 1), tensor_3d(v, DT_F32, 2, 1, 1), &a);
    near(y[0], 5);
    near(y[1], 6);

    /* A 3x3 kernel of ones over 1 2 / 3 4, padded by one: every window sees all. */
    float ones[9] = { 1, 1, 1, 1, 1, 1, 1, 1, 1 };
    struct conv2d c = { .stride = 1, .top = 1, .left = 1, .bottom = 1, .right = 1 };
    device_conv2d(&d, tensor_3d(y, DT_F32, 2, 2, 1), tensor_3d(x, DT_F32, 2, 2, 1),
                  tensor_4d(ones, DT_F32, 1, 1, 3, 3), none, &c);
    for (int i = 0; i < 4; i++)
        near(y[i], 10);
    /* FLUX's downsampling: padded right and below only, stride 2; added to what is there. */
    c = (struct conv2d){ .stride = 2, .bottom = 1, .right = 1, .accumulate = true };
    float position[9] = { 1, 10, 0, 100, 1000 };
    device_conv2d(&d, tensor_3d(y, DT_F32, 1, 1, 1), tensor_3d(x, DT_F32, 2, 2, 1),
                  tensor_4d(position, DT_F32, 1, 1, 3, 3), none, &c);
    near(y[0], 10 + 4321);

    /* mean 2, variance 1 of (1, 3) and (3, 1). */
    float rows[] = { 1, 3, 3, 1 }, two[] = { 2, 4 }, half[] = { 0.5f, 0.25f };
    struct tensor m = tensor_2d(rows, DT_F32, 2, 2), out = tensor_2d(y, DT_F32, 2, 2);
    device_layer_norm(&d, out, m, tensor_1d(two, DT_F32, 2), tensor_1d(half, DT_F32, 2), 0);
    near(y[0], -1.5);
    near(y[1], 4.25);
    device_norm_modulate(&d, out, m, tensor_1d(two, DT_F32, 2), tensor_1d(half, DT_F32, 2), 3);
    near(y[0], -0.5 * 3 + 0.5);
    near(y[3], -0.5 * 5 + 0.25);
    float moments[4];
    device_group_moments(&d, tensor_3d(moments, DT_F32, 1, 2, 2), tensor_3d(rows, DT_F32, 1, 2, 2));
    for (int i = 0; i < 4; i++)
        near(moments[i], 2); /* mean and squares of (1, 3), then of (3, 1) */
    struct tensor picture = tensor_3d(rows, DT_F32, 2, 1, 2), of_rows = tensor_3d(y + 4, DT_F32, 2, 2, 2);
    device_group_moments(&d, of_rows, picture);
    device_group_norm(&d, tensor_3d(y, DT_F32, 2, 1, 2), picture, of_rows, tensor_1d(two, DT_F32, 2),
                      tensor_1d(half, DT_F32, 2), 0, ACT_NONE);
    near(y[0], -1.5);
    near(y[1], 4.25);
    near(y[2], 2.5);
    near(y[3], -3.75);
    float norm[] = { 3, 4 };
    device_rms_norm(&d, tensor_2d(y, DT_F32, 1, 2), tensor_2d(norm, DT_F32, 1, 2), tensor_1d(two, DT_F32, 2), 0);
    near(y[0], 6 / sqrt(12.5));
    near(y[1], 16 / sqrt(12.5));
    float quarter_turn[] = { 0, 1 }, unit[] = { 1, 1 };
    device_qk_norm_rope(&d, tensor_3d(norm, DT_F32, 1, 1, 2), tensor_1d(unit, DT_F32, 2),
                        tensor_2d(quarter_turn, DT_F32, 1, 2), 0);
    near(norm[0], -4 / sqrt(12.5));
    near(norm[1], 3 / sqrt(12.5));

    y[0] = 5, y[1] = 7;
    struct tensor pair = tensor_2d(y, DT_F32, 1, 2);
    device_add(&d, pair, tensor_2d(two, DT_F32, 1, 2));
    device_multiply(&d, pair, tensor_2d(half, DT_F32, 1, 2));
    near(y[0], 3.5);
    near(y[1], 2.75);
    device_gated_add(&d, pair, tensor_2d(two, DT_F32, 1, 2), tensor_1d(half, DT_F32, 2));
    near(y[0], 4.5);
    near(y[1], 3.75);
    const int32_t ids[] = { 2, 0 };
    device_embed(&d, tensor_2d(y, DT_F32, 2, 2), tensor_2d(w, DT_F32, 3, 2), ids);
    near(y[0], 3);
    near(y[3], 0);
    device_upsample2x(&d, tensor_3d(y, DT_F32, 2, 4, 1), tensor_3d(x, DT_F32, 1, 2, 1));
    static const double doubled[] = { 1, 1, 2, 2, 1, 1, 2, 2 };
    for (int i = 0; i < 8; i++)
        near(y[i], doubled[i]);
    assert_true(device_sync(&d, &e));
}

static void check_count_by_hand(void **state)
{
    (void)state;
    struct device ref;
    struct count_device c;
    ref_device_init(&ref, DT_BF16);
    count_device_init(&c, &ref);
    struct device *d = &c.device;
    assert_int_equal(d->compute, DT_BF16);
    struct tensor none = { 0 };
    struct tensor w = tensor_2d(NULL, DT_F16, 7, 5);
    struct tensor x = device_matrix(d, DT_BF16, 3, 5), y = device_matrix(d, DT_F32, 3, 7);
    device_linear(d, y, x, w, none, ACT_NONE);
    device_linear(d, y, x, w, tensor_1d(NULL, DT_F32, 7), ACT_SILU);
    assert_int_equal(c.op[COUNT_LINEAR].calls, 2);
    assert_int_equal(c.op[COUNT_LINEAR].flops, 2 * 2 * 3 * 7 * 5 + 2 * 3 * 7);
    assert_int_equal(c.op[COUNT_LINEAR].weight_bytes, 2 * 70 + 28);
    assert_int_equal(c.op[COUNT_LINEAR].read_bytes, 2 * 30);
    assert_int_equal(c.op[COUNT_LINEAR].write_bytes, 2 * 84);
    assert_int_equal(d->arena.peak, 64 + 128);
    size_t mark = device_mark(d);
    struct tensor q = device_image(d, DT_BF16, 4, 2, 8);
    struct attention a = { .scale = 1 };
    device_attention(d, q, q, q, q, &a);
    a.causal = true;
    device_attention(d, q, q, q, q, &a);
    assert_int_equal(c.op[COUNT_ATTENTION].flops, 4 * 2 * 8 * (16 + 10));
    device_release(d, mark);
    assert_int_equal(d->arena.used, 64 + 128);
    assert_int_equal(d->arena.peak, 64 + 128 + 128 + 64); /* ref's row of 4 doubles */
    struct conv2d v = { .stride = 2, .top = 1, .left = 1, .bottom = 1, .right = 1 };
    device_conv2d(d, tensor_3d(NULL, DT_F32, 3, 2, 6), tensor_3d(NULL, DT_F32, 5, 4, 2),
                  tensor_4d(NULL, DT_F32, 6, 2, 3, 3), none, &v);
    assert_int_equal(c.op[COUNT_CONV2D].flops, 2 * 3 * 2 * 6 * 2 * 9);
    device_upload(d, x, NULL);
    device_embed(d, x, tensor_2d(NULL, DT_BF16, 1000, 5), NULL);
    assert_int_equal(c.op[COUNT_EMBED].weight_bytes, 30);
    unsigned char host[30];
    memset(host, 7, sizeof host);
    device_download(d, host, x);
    assert_int_equal(host[0] + host[29], 0);
    device_download(d, NULL, x);
    struct err e = { 0 };
    assert_true(device_sync(d, &e));
    assert_int_equal(count_sum(&c).calls, 9);
}

int main(void)
{
    static struct pairing pairs[TARGETS * CHECKS_MAX];
    static char names[TARGETS * CHECKS_MAX][48];
    static struct CMUnitTest tests[TARGETS * CHECKS_MAX + 3];
    options = check_options_from_environment();
    print_message("check_ops: SLUICE_SEED=%llu\n", (unsigned long long)options.seed);
    assert_true(check_count() <= CHECKS_MAX);
    size_t n = 0;
    for (int t = 0; t < TARGETS; t++) {
        /* By GEMM, without AVX, padding is zeros. */
        targets[t].nan_meets_padding = targets[t].make == cpu_make && !strcmp(cpu_arithmetic(), "sse4.1");
        for (int i = 0; i < check_count(); i++) {
            if (!check_wanted(&options, &targets[t], i))
                continue;
            pairs[n] = (struct pairing){ &targets[t], i };
            snprintf(names[n], sizeof names[n], "%s:%s", targets[t].name, check_name(i));
            tests[n] = (struct CMUnitTest){ names[n], run_check, NULL, NULL, &pairs[n] };
            n++;
        }
    }
    if (!options.replay && !options.only) {
        tests[n++] = (struct CMUnitTest){ "wide_bands", check_wide_bands, NULL, NULL, NULL };
        tests[n++] = (struct CMUnitTest){ "ref_by_hand", check_ref_by_hand, NULL, NULL, NULL };
        tests[n++] = (struct CMUnitTest){ "count_by_hand", check_count_by_hand, NULL, NULL, NULL };
    }
    return _cmocka_run_group_tests("ops", tests, n, NULL, NULL);
}
