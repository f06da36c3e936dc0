/* test_base.c - err, tensor, arena and the shared half of device: everything
 * below the implementations. Conversions are checked for every value that the
 * small types have, against arithmetic from the formats' definitions and not
 * against the code's own tricks with bits. The operations are test_ops' business. */
#include "kernels/arena.h"
#include "kernels/device.h"
#include "kernels/err.h"
#include "kernels/ref.h"
#include "kernels/tensor.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- err ------------------------------------------------------------------------ */
static void err_first_wins(void **state)
{
    (void)state;
    struct err e = { 0 };
    assert_false(err_set(&e, ERR_INPUT, "%s: %d", "model", 7));
    assert_int_equal(e.kind, ERR_INPUT);
    assert_string_equal(e.text, "model: 7");
    assert_false(err_set(&e, ERR_IO, "later"));
    assert_false(err_errno(&e, ENOENT, "later"));
    assert_int_equal(e.kind, ERR_INPUT);
    assert_string_equal(e.text, "model: 7");
    assert_false(err_prefix(&e, "preset %s", "a"));
    assert_string_equal(e.text, "preset a: model: 7");
    err_clear(&e);
    assert_int_equal(e.kind, ERR_NONE);
    assert_string_equal(e.text, "");
    assert_false(err_prefix(&e, "nothing to prefix"));
    assert_int_equal(e.kind, ERR_NONE);
    assert_string_equal(e.text, "");
    assert_false(err_errno(&e, ENOSPC, "writing %s", "x.png"));
    assert_int_equal(e.kind, ERR_DISK_FULL);
    assert_string_equal(e.text, "writing x.png: No space left on device");
}

static void err_kinds_have_names_and_follow_from_errno(void **state)
{
    (void)state;
    static const struct { int number; enum err_kind kind; } of[] = {
        { EACCES, ERR_IO }, { ENOENT, ERR_MISSING }, { ENOMEM, ERR_MEMORY }, { EDQUOT, ERR_DISK_FULL },
        { EFBIG, ERR_DISK_FULL },
    };
    for (int k = ERR_NONE; k < ERR_KIND_COUNT; k++)
        assert_int_equal(err_kind_named(err_kind_name((enum err_kind)k)), k);
    assert_int_equal(err_kind_named("of a later version"), ERR_NONE);
    assert_string_equal(err_kind_name(ERR_KIND_COUNT), "");
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct err e = { 0 };
        err_errno(&e, of[i].number, "x");
        assert_int_equal(e.kind, of[i].kind);
    }
}

static void err_null_is_fine(void **state)
{
    (void)state;
    assert_false(err_set(NULL, ERR_IO, "nobody listens"));
    assert_false(err_errno(NULL, EIO, "nobody listens"));
    assert_false(err_prefix(NULL, "nobody listens"));
}

static void err_long_and_hostile(void **state)
{
    (void)state;
    char longest[2000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct err e = { 0 };
    err_set(&e, ERR_INPUT, "%s", longest);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_prefix(&e, "%s", "short");
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    assert_memory_equal(e.text, "short: aaa", 10);
    err_prefix(&e, "%s", longest);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_clear(&e);
    err_errno(&e, EIO, "%s", longest);
    assert_int_equal(strlen(e.text), sizeof e.text - 1);
    err_clear(&e);
    /* Every control character goes, in the text and in a prefix. */
    char all[0x21];
    for (int i = 1; i < 0x20; i++)
        all[i - 1] = (char)i;
    all[0x1f] = 0x7f;
    all[0x20] = '\0';
    err_set(&e, ERR_INPUT, "%s", all);
    err_prefix(&e, "\033[2J");
    for (const char *s = e.text; *s; s++)
        assert_true((unsigned char)*s >= 0x20 && *s != 0x7f);
    assert_int_equal(strlen(e.text), 4 + 2 + 0x20);
    err_clear(&e);
    err_set(&e, ERR_INPUT, "gr\u00fc\u00df");
    assert_string_equal(e.text, "gr\u00fc\u00df");
}

/* --- types ----------------------------------------------------------------------- */
/* A small float from its definition: bits of exponent and mantissa. */
static double decode(unsigned bits, int exponent_bits, int mantissa_bits, bool has_infinity)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    unsigned mantissa = bits & ((1u << mantissa_bits) - 1);
    int exponent = (int)(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    int top = (1 << exponent_bits) - 1;
    double sign = bits >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
    if (has_infinity && exponent == top)
        return mantissa ? (double)NAN : sign * INFINITY;
    if (!has_infinity && exponent == top && mantissa == (1u << mantissa_bits) - 1)
        return NAN;
    if (exponent == 0)
        return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp(mantissa + ldexp(1, mantissa_bits), exponent - bias - mantissa_bits);
}

static void same(double got, double want)
{
    if (isnan(want))
        assert_true(isnan(got));
    else
        assert_true(got == want && signbit(got) == signbit(want));
}

static void every_f16(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 65536; b++) {
        uint16_t h = (uint16_t)b;
        double want = decode(b, 5, 10, true);
        same((double)f32_from_f16(h), want);
        same(dtype_load(&h, DT_F16, 0), want);
        if (isnan(want)) {
            assert_true((f16_from_f32(f32_from_f16(h)) & 0x7fff) > 0x7c00);
            continue;
        }
        assert_int_equal(f16_from_f32((float)want), h);
    }
}

static void every_bf16(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 65536; b++) {
        uint16_t h = (uint16_t)b;
        double want = decode(b, 8, 7, true);
        same((double)f32_from_bf16(h), want);
        same(dtype_load(&h, DT_BF16, 0), want);
        if (isnan(want)) {
            assert_true((bf16_from_f32(f32_from_bf16(h)) & 0x7fff) > 0x7f80);
            continue;
        }
        assert_int_equal(bf16_from_f32((float)want), h);
    }
}

/* Between each two neighbours: below the middle goes down, above it up, the
 * middle itself to the even one; past the last, infinity is the next. */
static void round_between(uint16_t (*narrow)(float), double (*value)(unsigned), unsigned infinity)
{
    for (unsigned b = 0; b < infinity; b++) {
        double low = value(b), high = b + 1 < infinity ? value(b + 1) : 2 * low - value(b - 1);
        double middle = (low + high) / 2;
        float exact = (float)middle;
        assert_true((double)exact == middle);
        unsigned even = b & 1 ? b + 1 : b;
        for (unsigned sign = 0; sign < 2; sign++) {
            float s = sign ? -1.0f : 1.0f;
            assert_int_equal(narrow(s * exact), even | sign << 15);
            assert_int_equal(narrow(s * nextafterf(exact, 0)), b | sign << 15);
            assert_int_equal(narrow(s * nextafterf(exact, INFINITY)), (b + 1) | sign << 15);
        }
    }
    assert_int_equal(narrow(INFINITY), infinity);
    assert_int_equal(narrow(-INFINITY), infinity | 0x8000);
    assert_int_equal(narrow(FLT_MAX), infinity);
}

static double f16_value(unsigned b) { return decode(b, 5, 10, true); }
static double bf16_value(unsigned b) { return decode(b, 8, 7, true); }

static void rounding(void **state)
{
    (void)state;
    round_between(f16_from_f32, f16_value, 0x7c00);
    round_between(bf16_from_f32, bf16_value, 0x7f80);
}

/* Payloads that rounding would carry into infinity or zero. */
static void nan_stays(void **state)
{
    (void)state;
    static const uint32_t nan[] = { 0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0x7f80ffffu,
                                    0xff800001u, 0xffffffffu, 0xffff8000u };
    for (size_t i = 0; i < sizeof nan / sizeof *nan; i++) {
        float f = f32_from_bits(nan[i]);
        assert_true(isnan(f32_from_bf16(bf16_from_f32(f))));
        assert_true(isnan(f32_from_f16(f16_from_f32(f))));
        assert_int_equal(bf16_from_f32(f) >> 15, nan[i] >> 31);
        assert_int_equal(f16_from_f32(f) >> 15, nan[i] >> 31);
    }
}

static void every_f8(void **state)
{
    (void)state;
    for (unsigned b = 0; b < 256; b++) {
        uint8_t f = (uint8_t)b;
        same((double)f32_from_f8e4m3(f), decode(b, 4, 3, false));
        same((double)f32_from_f8e5m2(f), decode(b, 5, 2, true));
        same(dtype_load(&f, DT_F8_E4M3, 0), decode(b, 4, 3, false));
        same(dtype_load(&f, DT_F8_E5M2, 0), decode(b, 5, 2, true));
    }
    same((double)f32_from_f8e4m3(0x7e), 448);
    same((double)f32_from_f8e4m3(0x7f), NAN);
    same((double)f32_from_f8e5m2(0x7b), 57344);
}

static void type_names(void **state)
{
    (void)state;
    static const size_t bytes[DT_COUNT_] = { 0, 4, 2, 2, 8, 4, 8, 1, 1, 1, 1, 1, 2 };
    for (int t = DT_NONE; t < DT_COUNT_; t++) {
        assert_int_equal(dtype_bytes((enum dtype)t), bytes[t]);
        if (t != DT_NONE)
            assert_int_equal(dtype_from_name(dtype_name((enum dtype)t)), t);
    }
    assert_int_equal(dtype_from_name("bf16"), DT_NONE);
    assert_int_equal(dtype_from_name(""), DT_NONE);
    assert_int_equal(dtype_from_name("none"), DT_NONE);
    assert_int_equal(dtype_bytes(DT_COUNT_), 0);
    assert_string_equal(dtype_name((enum dtype)-1), "?");
}

static void load_and_store(void **state)
{
    (void)state;
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16, DT_F64 };
    for (int i = 0; i < 4; i++) {
        double room[4] = { 0 };
        for (int64_t j = 0; j < 4; j++)
            dtype_store(room, types[i], j, (double)j - 1.5);
        for (int64_t j = 0; j < 4; j++)
            same(dtype_load(room, types[i], j), (double)j - 1.5);
    }
    const int32_t i32[] = { INT32_MIN, 5 };
    const int64_t i64[] = { -((int64_t)1 << 40), 6 };
    const int16_t i16[] = { INT16_MIN, 7 };
    const int8_t i8[] = { -128, 8 };
    const uint8_t u8[] = { 255, 1 };
    same(dtype_load(i32, DT_I32, 0), INT32_MIN);
    same(dtype_load(i64, DT_I64, 0), -0x1p40);
    same(dtype_load(i16, DT_I16, 0), INT16_MIN);
    same(dtype_load(i8, DT_I8, 0), -128);
    same(dtype_load(u8, DT_U8, 0), 255);
    same(dtype_load(u8, DT_BOOL, 1), 1);
}

/* --- tensor ------------------------------------------------------------------------ */
static void tensor_views(void **state)
{
    (void)state;
    uint16_t m[6 * 8];
    struct tensor t = tensor_2d(m, DT_BF16, 6, 8);
    assert_true(tensor_dense(t));
    assert_int_equal(tensor_count(t), 48);
    assert_int_equal(tensor_bytes(t), 96);
    struct tensor rows = tensor_rows(t, 2, 3);
    assert_ptr_equal(rows.data, m + 16);
    assert_int_equal(rows.shape[0], 3);
    assert_true(tensor_dense(rows));
    struct tensor cols = tensor_cols(rows, 4, 4);
    assert_ptr_equal(cols.data, m + 20);
    assert_int_equal(cols.stride[0], 8);
    assert_false(tensor_dense(cols));
    assert_true(tensor_dense(tensor_rows(cols, 1, 1)));
    struct tensor split = tensor_split(cols, 2, 2);
    assert_int_equal(split.ndim, 3);
    assert_int_equal(split.stride[0], 8);
    assert_int_equal(split.stride[1], 2);
    assert_int_equal(split.stride[2], 1);
    assert_false(tensor_same_shape(split, cols));
    assert_true(tensor_same_shape(cols, tensor_2d(NULL, DT_F32, 3, 4)));
    struct tensor flat = tensor_as_2d(tensor_3d(m, DT_BF16, 2, 3, 8), 6, 8);
    assert_true(tensor_same_shape(flat, t));
    struct tensor four = tensor_4d(m, DT_BF16, 2, 3, 4, 2);
    assert_int_equal(four.stride[0], 24);
    assert_int_equal(four.stride[3], 1);
    assert_int_equal(tensor_1d(m, DT_BF16, 48).stride[0], 1);
    struct tensor absent = { 0 };
    assert_false(tensor_present(absent));
    assert_true(tensor_present(t));
    assert_int_equal(tensor_count(absent), 0);
    assert_int_equal(tensor_bytes(absent), 0);
    /* A view of nothing moves like a pointer: the count device's offsets. */
    assert_int_equal((uintptr_t)tensor_rows(tensor_2d(NULL, DT_F32, 4, 4), 2, 1).data, 32);
}

static void tensor_text(void **state)
{
    (void)state;
    char buf[64];
    struct tensor t = tensor_2d(NULL, DT_BF16, 3072, 64);
    assert_string_equal(tensor_describe(t, buf, sizeof buf), "BF16 [3072, 64]");
    for (size_t size = 1; size < sizeof buf; size++) {
        memset(buf, 'x', sizeof buf);
        tensor_describe(t, buf, size);
        assert_true(strlen(buf) < size);
        assert_true(!strncmp("BF16 [3072, 64]", buf, strlen(buf)));
    }
}

/* --- arena ------------------------------------------------------------------------- */
static void arena_stack(void **state)
{
    (void)state;
    static _Alignas(ARENA_ALIGN) unsigned char memory[4 * ARENA_ALIGN];
    struct arena real = arena_over(memory, sizeof memory), measure = arena_measure();
    struct arena *both[] = { &real, &measure };
    for (int i = 0; i < 2; i++) {
        struct arena *a = both[i];
        void *p, *q;
        assert_true(arena_take(a, 1, &p));
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
        size_t mark = arena_mark(a);
        assert_int_equal(mark, ARENA_ALIGN);
        assert_true(arena_take(a, ARENA_ALIGN + 1, &q));
        assert_int_equal((uintptr_t)q - (uintptr_t)p, ARENA_ALIGN);
        assert_int_equal(a->used, 3 * ARENA_ALIGN);
        arena_release(a, mark);
        assert_true(arena_take(a, 0, &q));
        assert_non_null(q);
        assert_int_equal(a->used, mark);
        assert_int_equal(a->peak, 3 * ARENA_ALIGN);
        assert_false(arena_take(a, SIZE_MAX, &q));
        assert_null(q);
        assert_false(arena_take(a, SIZE_MAX - ARENA_ALIGN + 1, &q));
        assert_int_equal(a->used, mark);
    }
    void *p;
    assert_true(arena_take(&real, 3 * ARENA_ALIGN, &p));
    assert_true(arena_take(&real, 0, &p));
    assert_false(arena_take(&real, 1, &p));
    assert_null(p);
    assert_int_equal(real.peak, sizeof memory);
}

/* --- device -------------------------------------------------------------------------- */
struct hooks {
    int asked, ticks, done, total;
    int stop_at; /* interrupts at this question; 0: never */
};

static bool interrupted(void *user)
{
    struct hooks *h = user;
    return ++h->asked == h->stop_at;
}

static void tick(void *user, int done, int total)
{
    struct hooks *h = user;
    h->ticks++;
    h->done = done;
    h->total = total;
}

static void device_sticks(void **state)
{
    (void)state;
    static _Alignas(ARENA_ALIGN) unsigned char memory[2 * ARENA_ALIGN];
    struct device d;
    struct err e = { 0 };
    ref_device_init(&d, DT_F32);
    d.arena = arena_over(memory, sizeof memory);
    assert_true(device_sync(&d, &e));
    assert_int_equal(e.kind, ERR_NONE);

    struct tensor a = device_vector(&d, DT_F32, 16), b = device_matrix(&d, DT_F32, 4, 5);
    assert_non_null(a.data);
    assert_false(device_ok(&d));
    assert_null(b.data);
    assert_int_equal(b.shape[1], 5); /* the right shape, so that code can go on to sync */
    assert_int_equal(d.err.kind, ERR_DEVICE_MEMORY);
    size_t used = d.arena.used;
    struct tensor c = device_image(&d, DT_F32, 1, 1, 1);
    assert_null(c.data);
    assert_int_equal(d.arena.used, used);
    float two[] = { 1, 2 }, three[] = { 3, 4 };
    struct tensor y = tensor_2d(two, DT_F32, 1, 2), x = tensor_2d(three, DT_F32, 1, 2);
    device_add(&d, y, x);
    assert_true(two[0] == 1.0f && two[1] == 2.0f);
    assert_false(device_sync(&d, &e));
    assert_int_equal(e.kind, ERR_DEVICE_MEMORY);
    assert_non_null(strstr(e.text, "80 bytes"));

    /* Handed over, it is gone; what the device was told before is not repeated. */
    assert_true(device_ok(&d));
    device_add(&d, y, x);
    assert_true(two[0] == 4.0f && two[1] == 6.0f);
    struct err clean = { 0 };
    assert_true(device_sync(&d, &clean));
    assert_int_equal(clean.kind, ERR_NONE);
    err_set(&d.err, ERR_DEVICE, "broken");
    assert_false(device_sync(&d, NULL));
    assert_true(device_sync(&d, &clean));
}

static void device_cancels(void **state)
{
    (void)state;
    struct device d;
    struct hooks h = { .stop_at = 3 };
    struct err e = { 0 };
    ref_device_init(&d, DT_F32);
    d.user = &h;
    d.interrupted = interrupted;
    d.tick = tick;
    float two[] = { 1, 2 }, three[] = { 3, 4 };
    struct tensor y = tensor_2d(two, DT_F32, 1, 2), x = tensor_2d(three, DT_F32, 1, 2);
    device_add(&d, y, x);
    device_tick(&d, 1, 9);
    assert_int_equal(h.ticks, 1);
    assert_int_equal(h.done, 1);
    assert_int_equal(h.total, 9);
    device_add(&d, y, x); /* the third question: cancelled */
    assert_true(two[0] == 4.0f);
    device_tick(&d, 2, 9);
    device_add(&d, y, x);
    assert_int_equal(h.ticks, 1);
    assert_int_equal(h.asked, 3); /* nobody is asked after a failure */
    assert_false(device_sync(&d, &e));
    assert_int_equal(e.kind, ERR_CANCELLED);
    h.stop_at = h.asked + 1;
    device_tick(&d, 3, 9); /* a tick asks, too */
    assert_int_equal(h.ticks, 1);
    assert_int_equal(d.err.kind, ERR_CANCELLED);
    device_sync(&d, NULL);
    d.interrupted = NULL;
    d.tick = NULL;
    device_tick(&d, 4, 9);
    device_add(&d, y, x);
    assert_true(device_sync(&d, NULL));
    assert_true(two[0] == 7.0f && two[1] == 10.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_first_wins),
        cmocka_unit_test(err_kinds_have_names_and_follow_from_errno),  cmocka_unit_test(err_null_is_fine),
        cmocka_unit_test(err_long_and_hostile),
        cmocka_unit_test(every_f16),       cmocka_unit_test(every_bf16),
        cmocka_unit_test(rounding),        cmocka_unit_test(nan_stays),
        cmocka_unit_test(every_f8),        cmocka_unit_test(type_names),
        cmocka_unit_test(load_and_store),  cmocka_unit_test(tensor_views),
        cmocka_unit_test(tensor_text),     cmocka_unit_test(arena_stack),
        cmocka_unit_test(device_sticks),   cmocka_unit_test(device_cancels),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
