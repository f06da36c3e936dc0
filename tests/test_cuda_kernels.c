/* test_cuda_kernels.c - the CUDA device's row and picture kernels one by one, on the fake card.
 *
 * What the device's own tests (check_ops on `cuda`) reach, numerically, is only smoked here: near
 * ref's result for every mix of types. What they do not reach is the rest: that a result's bytes do not
 * depend on where operands lie (16-byte accesses or not) nor on how many rows are asked for; the
 * kernels that only cuda_conv.c and cuda_linear.c call; F8 weights; 64-bit distances; refusals.
 *
 *   SLUICE_SEED=n   other shapes and values (printed) */
#include "kernels/ref.h"
#include "tests/cuda/kernel_table.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const struct fake_cuda_kernels *k;
static uint64_t state = 1;

static uint64_t next(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int64_t below(int64_t n) { return (int64_t)(next() % (uint64_t)n); }
static double unit(void) { return (double)(next() >> 11) * 0x1p-53; }
static double normal(void) { return sqrt(-2 * log(1 - unit())) * cos(2 * M_PI * unit()); }

static void works(int rc) { assert_int_equal(rc, 0); }

/* --- operands --------------------------------------------------------------------- */
enum layout {
    ALIGNED, /* dense, at 16 bytes */
    SPACED,  /* rows 16 bytes apart at least, and still at 16 bytes */
    LOOSE,   /* at its element only */
    LAYOUTS,
};

static void *pool[256];
static int pooled;

static void *keep(size_t bytes)
{
    assert_true(pooled < (int)(sizeof pool / sizeof *pool));
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    return pool[pooled++] = p;
}

static void drop_all(void)
{
    while (pooled > 0)
        free(pool[--pooled]);
}

static int64_t index_of(struct tensor t, int64_t i)
{
    int64_t at = 0;
    for (int a = t.ndim - 1; a >= 0; a--) {
        at += i % t.shape[a] * t.stride[a];
        i /= t.shape[a];
    }
    return at;
}

static double load(struct tensor t, int64_t i) { return dtype_load(t.data, t.dtype, index_of(t, i)); }
static void store(struct tensor t, int64_t i, double v) { dtype_store(t.data, t.dtype, index_of(t, i), v); }

/* Room for a tensor with guards of 0xff, a NaN in every type, before, behind and between its rows. */
enum { GUARD = 64 }; /* elements */

static size_t room(struct tensor t)
{
    return (size_t)(index_of(t, tensor_count(t) - 1) + 1 + 2 * GUARD) * dtype_bytes(t.dtype);
}

static unsigned char *start(struct tensor t, int64_t lead)
{
    return (unsigned char *)t.data - (size_t)(GUARD + lead) * dtype_bytes(t.dtype);
}

static struct tensor operand(enum layout layout, enum dtype type, int ndim, const int64_t *shape)
{
    struct tensor t = { .dtype = type, .ndim = ndim };
    int64_t step = 1, lead = layout == LOOSE;
    for (int a = ndim - 1; a >= 0; a--) {
        t.shape[a] = shape[a];
        t.stride[a] = step;
        step *= shape[a];
        if (a > 0 && layout == SPACED)
            step = (step + 16 + 15) / 16 * 16;
        else if (a > 0 && layout == LOOSE)
            step += 3;
    }
    size_t bytes = room(t) + dtype_bytes(type);
    unsigned char *p = keep(bytes);
    memset(p, 0xff, bytes);
    t.data = p + (size_t)(GUARD + lead) * dtype_bytes(type);
    return t;
}

static void check_guards(struct tensor t, enum layout layout)
{
    size_t width = dtype_bytes(t.dtype), bytes = room(t) + width;
    unsigned char *p = start(t, layout == LOOSE), *only = malloc(bytes);
    assert_non_null(only);
    memcpy(only, p, bytes);
    size_t first = (size_t)((unsigned char *)t.data - p);
    for (int64_t i = 0; i < tensor_count(t); i++)
        memset(only + first + (size_t)index_of(t, i) * width, 0xff, width);
    for (size_t i = 0; i < bytes; i++)
        if (only[i] != 0xff)
            fail_msg("the padding was written, byte %zu of %zu, of element %zu on", i, bytes, first);
    free(only);
}

static bool same_bits(struct tensor a, struct tensor b)
{
    size_t width = dtype_bytes(a.dtype);
    for (int64_t i = 0; i < tensor_count(a); i++) {
        const char *p = (char *)a.data + (size_t)index_of(a, i) * width;
        if (memcmp(p, (char *)b.data + (size_t)index_of(b, i) * width, width))
            return false;
    }
    return true;
}

static double type_unit(enum dtype t) { return t == DT_F32 ? 0x1p-24 : t == DT_BF16 ? 0x1p-8 : 0x1p-11; }

/* v as a store to type t leaves it. */
static double rounded(enum dtype t, double v)
{
    uint64_t bits = 0;
    if (t == DT_F16 && isfinite(v))
        v = fmax(fmin(v, 65504), -65504);
    dtype_store(&bits, t, 0, v);
    return dtype_load(&bits, t, 0);
}

static const enum dtype floats[] = { DT_F32, DT_BF16, DT_F16 };
enum { FLOATS = 3 };

/* --- every operation, every mix of types, every layout ------------------------------ */
enum op {
    NORM_MODULATE, LAYER_NORM, RMS_NORM, QK_NORM_ROPE, ACTIVATE, ADD, MULTIPLY, GATED_ADD, COPY,
    GROUP_MOMENTS, GROUP_NORM, UPSAMPLE2X, OPS
};
static const char *const op_names[OPS] = {
    "norm_modulate", "layer_norm", "rms_norm", "qk_norm_rope", "activate", "add", "multiply", "gated_add", "copy",
    "group_moments", "group_norm", "upsample2x"
};
enum slot { Y, X, W, B, M, SLOTS };

static bool reads_y(enum op op) { return op == QK_NORM_ROPE || op == ADD || op == MULTIPLY || op == GATED_ADD; }

static const float eps = 1e-6f;

static void issue(enum op op, struct device *ref, const struct tensor *t, enum act act)
{
#define DO(name, ...)                          \
    if (ref)                                   \
        device_##name(ref, __VA_ARGS__);       \
    else                                       \
        works(k->name(__VA_ARGS__));           \
    break
    switch (op) {
    case NORM_MODULATE: DO(norm_modulate, t[Y], t[X], t[W], t[B], eps);
    case LAYER_NORM: DO(layer_norm, t[Y], t[X], t[W], t[B], eps);
    case RMS_NORM: DO(rms_norm, t[Y], t[X], t[W], eps);
    case QK_NORM_ROPE: DO(qk_norm_rope, t[Y], t[W], t[M], eps);
    case ACTIVATE: DO(activate, t[Y], t[X], act);
    case ADD: DO(add, t[Y], t[X]);
    case MULTIPLY: DO(multiply, t[Y], t[X]);
    case GATED_ADD: DO(gated_add, t[Y], t[X], t[W]);
    case COPY: DO(copy, t[Y], t[X]);
    case GROUP_MOMENTS: DO(group_moments, t[Y], t[X]);
    case GROUP_NORM: DO(group_norm, t[Y], t[X], t[M], t[W], t[B], eps, act);
    case UPSAMPLE2X: DO(upsample2x, t[Y], t[X]);
    case OPS: break;
    }
#undef DO
    if (!ref)
        works(k->wait());
}

struct shape { int ndim; int64_t n[3]; };

struct problem {
    enum op op;
    enum act act;
    struct shape shape[SLOTS]; /* ndim 0: absent */
    enum dtype type[SLOTS];
};

/* Widths around a chunk, a warp's and a block's share; now and then what a model has, and more than a block holds. */
static int64_t any_width(void)
{
    static const int64_t widths[] = { 1,   2,   7,   8,   9,   15,  16,  31,   33,   64,
                                      127, 255, 256, 257, 263, 768, 1023, 1025, 3072, 4096 };
    if (below(12) == 0)
        return (int64_t[]){ 10240, 16384, 16393, 20011 }[below(4)];
    return widths[below(sizeof widths / sizeof *widths)];
}

static struct problem any_problem(enum op op, enum dtype y, enum dtype x)
{
    struct problem p = { .op = op, .act = (enum act)below(ACT_RELU + 1) };
    int64_t m = 1 + below(4), n = any_width();
    struct shape rows = { 2, { m, n } }, row = { 1, { n } };
    for (int s = 0; s < SLOTS; s++)
        p.type[s] = floats[below(FLOATS)];
    p.type[Y] = y;
    p.type[X] = x;
    if (op < GROUP_MOMENTS && op != QK_NORM_ROPE) {
        p.shape[Y] = p.shape[X] = rows;
        if (op <= RMS_NORM || op == GATED_ADD)
            p.shape[W] = row;
        if (op <= LAYER_NORM)
            p.shape[B] = row;
        return p;
    }
    if (op == QK_NORM_ROPE) {
        n = (int64_t[]){ 2, 6, 8, 64, 128, 130, 256, 258, 520 }[below(9)];
        p.shape[Y] = (struct shape){ 3, { m, (int64_t[]){ 1, 3, 17, 24 }[below(4)], n } };
        p.shape[W] = (struct shape){ 1, { n } };
        p.shape[M] = (struct shape){ 2, { m, n } };
        p.type[M] = DT_F32;
        return p;
    }
    int64_t size = (int64_t[]){ 1, 2, 3, 4, 8, 16, 70 }[below(7)], groups = (int64_t[]){ 1, 2, 5, 32 }[below(4)];
    int64_t width = 1 + below(below(3) ? 9 : 80);
    if (below(16) == 0) /* a group beyond what a block sums at once */
        size = 8200 + below(9), groups = 2, width = 1 + below(2);
    p.shape[X] = (struct shape){ 3, { m, width, groups * size } };
    p.shape[Y] = p.shape[X];
    if (op == UPSAMPLE2X)
        p.shape[Y].n[0] *= 2, p.shape[Y].n[1] *= 2;
    if (op == GROUP_MOMENTS) {
        p.shape[Y] = (struct shape){ 3, { m, groups, 2 } };
        p.type[Y] = DT_F32;
    }
    if (op == GROUP_NORM) {
        p.shape[W] = p.shape[B] = (struct shape){ 1, { groups * size } };
        p.shape[M] = (struct shape){ 3, { m + below(70), groups, 2 } };
        p.type[M] = DT_F32;
    }
    return p;
}

/* Ordinary values; one NaN in x or y if asked. The same in every layout: they come from the seed alone. */
static void fill(const struct problem *p, const struct tensor *t, uint64_t seed, double scale, double mean, bool nan)
{
    state = seed;
    for (int s = 0; s < SLOTS; s++) {
        if (!tensor_present(t[s]) || (s == Y && !reads_y(p->op)))
            continue;
        bool big = s == X || s == Y;
        for (int64_t i = 0; i < tensor_count(t[s]); i++)
            store(t[s], i, big ? rounded(t[s].dtype, mean + scale * normal()) : normal());
        /* Of a row and a group: the mean, and a sum of squares. */
        for (int64_t i = 1; s == M && p->op == GROUP_NORM && i < tensor_count(t[s]); i += 2)
            store(t[s], i, fabs(load(t[s], i)) * (double)tensor_count(t[X]));
    }
    if (nan) {
        struct tensor of = t[reads_y(p->op) ? Y : X];
        store(of, below(tensor_count(of)), NAN);
    }
}

static void make(const struct problem *p, enum layout layout, struct tensor *t)
{
    for (int s = 0; s < SLOTS; s++) {
        t[s] = (struct tensor){ 0 };
        if (p->shape[s].ndim)
            t[s] = operand(layout, p->type[s], p->shape[s].ndim, p->shape[s].n);
    }
}

static void check_near(const struct problem *p, struct tensor y, struct tensor want, double scale)
{
    double most = scale;
    for (int64_t i = 0; i < tensor_count(want); i++)
        most = isnan(load(want, i)) ? most : fmax(most, fabs(load(want, i)));
    int64_t n = p->shape[X].ndim ? p->shape[X].n[1] * (p->shape[X].ndim > 2 ? p->shape[X].n[2] : 1) : p->shape[Y].n[2];
    for (int64_t i = 0; i < tensor_count(y); i++) {
        double w = load(want, i), got = load(y, i);
        if (y.dtype == DT_F16 && isfinite(w))
            w = fmax(fmin(w, 65504), -65504);
        double bound = type_unit(y.dtype) * fabs(w) * 1.01 + (double)(n + 64) * 0x1p-23 * most + 0x1p-24;
        if (isnan(w) ? !isnan(got) : !(fabs(w - got) <= bound))
            fail_msg("%s (%s of %s), element %lld: %.9g, ref has %.9g, bound %.3g", op_names[p->op],
                     dtype_name(y.dtype), dtype_name(p->type[X]), (long long)i, got, w, bound);
    }
}

static void check_problem(struct problem *p, uint64_t seed)
{
    static const double scales[] = { 1, 1, 1, 40000, 1e-5 };
    double scale = scales[below(5)], mean = below(4) ? 0 : 100 * scale;
    bool nan = below(8) == 0;
    struct tensor t[LAYOUTS][SLOTS];
    for (int l = 0; l < LAYOUTS; l++) {
        make(p, (enum layout)l, t[l]);
        fill(p, t[l], seed, scale, mean, nan);
    }
    struct device ref;
    struct err e = { 0 };
    ref_device_init(&ref, DT_F64);
    struct tensor exact[SLOTS];
    memcpy(exact, t[ALIGNED], sizeof exact);
    exact[Y] = operand(ALIGNED, DT_F64, p->shape[Y].ndim, p->shape[Y].n);
    for (int64_t i = 0; i < tensor_count(exact[Y]); i++)
        store(exact[Y], i, load(t[ALIGNED][Y], i));
    issue(p->op, &ref, exact, p->act);
    assert_true(device_sync(&ref, &e));
    for (int l = 0; l < LAYOUTS; l++) {
        issue(p->op, NULL, t[l], p->act);
        check_guards(t[l][Y], (enum layout)l);
        if (!same_bits(t[l][Y], t[ALIGNED][Y]))
            fail_msg("%s: other bytes in layout %d", op_names[p->op], l);
    }
    check_near(p, t[ALIGNED][Y], exact[Y], p->op == MULTIPLY ? 1e-10 : fmax(scale, fabs(mean)));
    drop_all();
}

static void check_all_types(void **arg)
{
    enum op op = (enum op)(uintptr_t)*arg;
    for (int y = 0; y < FLOATS; y++)
        for (int x = 0; x < FLOATS; x++)
            for (int round = 0; round < 4; round++) {
                uint64_t seed = next();
                struct problem p = any_problem(op, floats[y], floats[x]);
                check_problem(&p, seed);
                state = seed + 1;
            }
}

/* A row alone, wherever it lies, has the bytes it has among others. */
static void check_rows_alone(void **arg)
{
    (void)arg;
    for (int op = 0; op < COPY; op++)
        for (int round = 0; round < 6; round++) {
            struct problem p = any_problem((enum op)op, floats[below(FLOATS)], floats[below(FLOATS)]);
            struct tensor all[SLOTS], one[SLOTS], again[SLOTS];
            uint64_t seed = next();
            make(&p, LOOSE, all);
            make(&p, LOOSE, again);
            fill(&p, all, seed, 1, 0.5, false);
            fill(&p, again, seed, 1, 0.5, false);
            issue(p.op, NULL, all, p.act);
            for (int64_t i = 0; i < p.shape[Y].n[0]; i++) {
                for (int s = 0; s < SLOTS; s++)
                    one[s] = p.shape[s].ndim > 1 ? tensor_rows(again[s], i, 1) : again[s];
                issue(p.op, NULL, one, p.act);
            }
            if (!same_bits(all[Y], again[Y]))
                fail_msg("%s: other bytes for rows alone", op_names[op]);
            drop_all();
        }
}

/* Bands of a picture that share the whole picture's moments; in place. */
static void check_bands(void **arg)
{
    (void)arg;
    for (int round = 0; round < 12; round++) {
        enum dtype type = floats[below(FLOATS)];
        struct problem p = any_problem(GROUP_NORM, type, type);
        p.shape[X].n[0] = p.shape[Y].n[0] = 7;
        p.shape[M].n[0] = 7;
        struct tensor t[SLOTS], band[SLOTS];
        make(&p, ALIGNED, t);
        fill(&p, t, next(), 1, 0.5, false);
        struct tensor apart = operand(LOOSE, DT_F32, 3, p.shape[M].n);
        works(k->group_moments(t[M], t[X]));
        for (int64_t i = 0; i < 7; i += 2)
            works(k->group_moments(tensor_rows(apart, i, i < 6 ? 2 : 1), tensor_rows(t[X], i, i < 6 ? 2 : 1)));
        works(k->wait());
        assert_true(same_bits(apart, t[M]));
        issue(GROUP_NORM, NULL, t, p.act);
        memcpy(band, t, sizeof band);
        for (int64_t i = 0; i < 7; i += 3) {
            band[X] = band[Y] = tensor_rows(t[X], i, i < 6 ? 3 : 1);
            issue(GROUP_NORM, NULL, band, p.act);
        }
        assert_true(same_bits(t[X], t[Y]));
        drop_all();
    }
}

/* --- copy ------------------------------------------------------------------------------- */
static void check_copy_dims(void **arg)
{
    (void)arg;
    for (int round = 0; round < 200; round++) {
        int ndim = 1 + (int)below(4);
        int64_t shape[4];
        for (int a = 0; a < ndim; a++)
            shape[a] = (int64_t[]){ 1, 2, 3, 5, 8, 16, 17 }[below(7)];
        enum dtype from = (enum dtype[]){ DT_F32, DT_BF16, DT_F16, DT_F8_E4M3 }[below(4)], to = floats[below(FLOATS)];
        enum layout x_layout = (enum layout)below(LAYOUTS), y_layout = (enum layout)below(LAYOUTS);
        struct tensor x = operand(x_layout, from, ndim, shape), y = operand(y_layout, to, ndim, shape);
        if (ndim > 1 && below(3) == 0) { /* transposed: any strides but the last's */
            int64_t n = x.shape[0], step = x.stride[0];
            x.shape[0] = x.shape[ndim - 2], x.stride[0] = x.stride[ndim - 2];
            x.shape[ndim - 2] = n, x.stride[ndim - 2] = step;
            int64_t other[4];
            memcpy(other, x.shape, sizeof other);
            y = operand(y_layout, to, ndim, other);
        }
        for (int64_t i = 0; i < tensor_count(x); i++) {
            if (from == DT_F8_E4M3)
                ((uint8_t *)x.data)[index_of(x, i)] = (uint8_t)next();
            else
                store(x, i, normal() * exp2((double)below(60) - 30));
        }
        works(k->copy(y, x));
        works(k->wait());
        check_guards(y, y_layout);
        for (int64_t i = 0; i < tensor_count(x); i++) {
            double want = rounded(to, load(x, i)), got = load(y, i);
            if (isnan(want) ? !isnan(got) : want != got || signbit(want) != signbit(got))
                fail_msg("element %lld of %s from %s: %a, not %a", (long long)i, dtype_name(to), dtype_name(from), got,
                         want);
        }
        drop_all();
    }
}

/* All F8 values; F32's at the edges of the narrower types, NaNs that truncation would lose. */
static void check_copy_values(void **arg)
{
    (void)arg;
    uint8_t f8[256];
    for (int i = 0; i < 256; i++)
        f8[i] = (uint8_t)i;
    static const uint32_t edges[] = {
        0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x00800000, 0x33000000, 0x33000001, 0x33800000,
        0x387fc000, 0x387fe000, 0x38800000, 0x3f801000, 0x3f803000, 0x3f808000, 0x3f818000, 0x477fe000, 0x477fefff,
        0x477ff000, 0x47800000, 0xc7800000, 0x7f7f7fff, 0x7f7f8000, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
        0x7f800001, 0xff800001, 0x7f80ffff, 0x7fbfffff, 0x7fc00000, 0x7fffffff, 0xffffffff };
    int64_t n = sizeof edges / sizeof *edges;
    for (int f = 0; f < FLOATS; f++) {
        struct tensor x = tensor_1d(f8, DT_F8_E4M3, 256);
        for (int from = 0; from < 2; from++) {
            float y[256];
            struct tensor to = tensor_1d(y, floats[f], tensor_count(x));
            works(k->copy(to, x));
            works(k->wait());
            for (int64_t i = 0; i < tensor_count(x); i++) {
                /* BF16's own rounding carries the greatest F32 values to infinity. */
                double want = rounded(floats[f], load(x, i)), got = load(to, i);
                if (isnan(want) ? !isnan(got) : want != got || signbit(want) != signbit(got))
                    fail_msg("%s from %s: %a gave %a, not %a", dtype_name(floats[f]), dtype_name(x.dtype), load(x, i),
                             got, want);
            }
            x = tensor_1d((void *)(uintptr_t)edges, DT_F32, n);
        }
    }
}

static void check_saturate(void **arg)
{
    (void)arg;
    for (int l = 0; l < LAYOUTS; l++)
        for (int act = ACT_NONE; act <= ACT_RELU; act++) {
            struct tensor y = operand((enum layout)l, DT_F16, 2, (const int64_t[]){ 3, 37 });
            double before[3 * 37];
            for (int64_t i = 0; i < 3 * 37; i++)
                store(y, i, i % 5 == 0 ? INFINITY : i % 5 == 1 ? -INFINITY : i % 11 == 2 ? NAN : 3 * normal());
            for (int64_t i = 0; i < 3 * 37; i++)
                before[i] = load(y, i);
            works(k->saturate(y, (enum act)act));
            works(k->wait());
            check_guards(y, (enum layout)l);
            for (int64_t i = 0; i < 3 * 37; i++) {
                double x = isinf(before[i]) ? copysign(65504, before[i]) : before[i], got = load(y, i);
                double want = ref_act((enum act)act, x);
                double bound = fabs(want) * 0x1p-11 * 1.01 + 0x1p-22 * fabs(x) + 0x1p-25;
                if (isnan(x) ? !isnan(got) : !(fabs(got - want) <= bound))
                    fail_msg("act %d of %g: %g, not %g", act, before[i], got, want);
            }
        }
    drop_all();
}

/* --- convolution's helpers ---------------------------------------------------------------- */
static void check_conv_weights(void **arg)
{
    (void)arg;
    for (int f = 0; f < FLOATS; f++)
        for (int g = 0; g < FLOATS; g++)
            for (int round = 0; round < 4; round++) {
                int64_t o = 1 + below(40), in = 1 + below(40), kh = 1 + below(3), kw = 1 + below(4);
                struct tensor w = operand(ALIGNED, floats[f], 4, (const int64_t[]){ o, in, kh, kw });
                struct tensor y = operand(ALIGNED, floats[g], 4, (const int64_t[]){ o, kh, kw, in });
                for (int64_t i = 0; i < tensor_count(w); i++)
                    store(w, i, normal());
                works(k->conv_weights(y, w));
                works(k->wait());
                check_guards(y, ALIGNED);
                for (int64_t i = 0; i < tensor_count(y); i++) {
                    int64_t c = i % in, tap = i / in % (kh * kw), output = i / in / (kh * kw);
                    assert_true(load(y, i) == rounded(floats[g], load(w, (output * in + c) * kh * kw + tap)));
                }
                drop_all();
            }
}

/* Also that it is what a convolution needs: its product with the reordered weights is ref's conv2d. */
static void check_im2col(void **arg)
{
    (void)arg;
    for (int round = 0; round < 60; round++) {
        int64_t h = 1 + below(9), w = 1 + below(9), in = (int64_t[]){ 1, 3, 8, 12, 16, 24 }[below(6)];
        int kh = 1 + (int)below(3), kw = 1 + (int)below(4);
        struct conv2d c = { .stride = 1 + (int)below(2), .top = (int)below(kh), .bottom = (int)below(kh),
                            .left = (int)below(kw), .right = (int)below(kw) };
        if (h + c.top + c.bottom < kh || w + c.left + c.right < kw)
            continue;
        int64_t oh = (h + c.top + c.bottom - kh) / c.stride + 1, ow = (w + c.left + c.right - kw) / c.stride + 1;
        int64_t from = below(oh * ow), pixels = 1 + below(oh * ow - from), taps = kh * kw;
        enum dtype type = floats[below(FLOATS)], to = below(3) ? type : floats[below(FLOATS)];
        enum layout layout = (enum layout)below(LAYOUTS);
        struct tensor x = operand(ALIGNED, type, 3, (const int64_t[]){ h, w, in });
        struct tensor y = operand(layout, to, 2, (const int64_t[]){ pixels, taps * in });
        struct tensor weight = operand(ALIGNED, DT_F32, 4, (const int64_t[]){ 1, in, kh, kw });
        struct tensor order = operand(ALIGNED, DT_F32, 4, (const int64_t[]){ 1, kh, kw, in });
        struct tensor picture = operand(ALIGNED, DT_F64, 3, (const int64_t[]){ oh, ow, 1 });
        for (int64_t i = 0; i < tensor_count(x); i++)
            store(x, i, rounded(to, normal()));
        for (int64_t i = 0; i < tensor_count(weight); i++)
            store(weight, i, normal());
        works(k->im2col(y, x, from, ow, kh, kw, c.stride, c.top, c.left));
        works(k->conv_weights(order, weight));
        works(k->wait());
        check_guards(y, layout);
        struct device ref;
        ref_device_init(&ref, DT_F64);
        device_conv2d(&ref, picture, x, weight, (struct tensor){ 0 }, &c);
        struct err e = { 0 };
        assert_true(device_sync(&ref, &e));
        for (int64_t p = 0; p < pixels; p++) {
            int64_t row = (from + p) / ow * c.stride - c.top, col = (from + p) % ow * c.stride - c.left;
            double sum = 0;
            for (int64_t j = 0; j < taps * in; j++) {
                int64_t r = row + j / in / kw, q = col + j / in % kw;
                bool inside = r >= 0 && r < h && q >= 0 && q < w;
                double want = inside ? rounded(to, load(x, (r * w + q) * in + j % in)) : 0;
                assert_true(load(y, p * taps * in + j) == want);
                sum += want * load(order, j);
            }
            if (type == to || to == DT_F32)
                assert_true(fabs(sum - load(picture, from + p)) <= 1e-9 * (double)(taps * in));
        }
        drop_all();
    }
}

static void check_conv_finish(void **arg)
{
    (void)arg;
    for (int f = 0; f < FLOATS; f++)
        for (int g = 0; g < FLOATS; g++)
            for (int round = 0; round < 12; round++) {
                bool accumulate = round & 1, biased = round & 2;
                enum layout layout = (enum layout)(round % LAYOUTS);
                double scale = round < 8 ? 1 : 60000;
                int64_t m = 1 + below(5), n = 1 + below(70);
                struct tensor acc = operand(layout, DT_F32, 2, (const int64_t[]){ m, n });
                struct tensor y = operand(layout, floats[f], 2, (const int64_t[]){ m, n }), b = { 0 };
                if (biased)
                    b = operand(layout, floats[g], 1, &n);
                double old[5 * 70];
                for (int64_t i = 0; i < m * n; i++) {
                    store(acc, i, i == 3 ? NAN : scale * normal());
                    store(y, i, rounded(floats[f], accumulate ? scale * normal() : NAN));
                    old[i] = load(y, i);
                }
                for (int64_t j = 0; j < n && biased; j++)
                    store(b, j, normal());
                works(k->conv_finish(y, acc, b, accumulate));
                works(k->wait());
                check_guards(y, layout);
                for (int64_t i = 0; i < m * n; i++) {
                    double bias = biased ? load(b, i % n) : 0, add = accumulate ? old[i] : 0;
                    double want = load(acc, i) + bias + add, got = load(y, i);
                    double error = 0x1p-23 * (fabs(load(acc, i)) + fabs(bias) + fabs(add));
                    if (floats[f] == DT_F16 && isfinite(want))
                        want = fmax(fmin(want, 65504), -65504);
                    if (isnan(want) ? !isnan(got)
                                    : !(fabs(got - want) <= error + fabs(want) * type_unit(floats[f]) * 1.01 + 0x1p-25))
                        fail_msg("%s, element %lld: %g, not %g", dtype_name(floats[f]), (long long)i, got, want);
                }
                drop_all();
            }
}

/* --- far and large ------------------------------------------------------------------------- */
/* Rows further apart than 32 bits count, on pages that are only there where they are touched. */
static void check_far(void **arg)
{
    (void)arg;
    int64_t far = ((int64_t)1 << 32) + 8, n = 40;
    size_t bytes = (size_t)(far + n) * sizeof(uint16_t);
    struct tensor t[2];
    for (int i = 0; i < 2; i++) {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            skip();
        t[i] = tensor_2d(p, DT_BF16, 2, n);
        t[i].stride[0] = far;
        for (int64_t j = 0; j < 2 * n; j++)
            store(t[i], j, (double)(j + 1));
    }
    float one[40], zero[40] = { 0 };
    for (int j = 0; j < n; j++)
        one[j] = 1;
    struct tensor w = tensor_1d(one, DT_F32, n), b = tensor_1d(zero, DT_F32, n), y = t[0], x = t[1];
    works(k->add(y, x));
    works(k->wait());
    for (int64_t j = 0; j < 2 * n; j++)
        assert_true(load(y, j) == rounded(DT_BF16, 2 * (double)(j + 1)));
    works(k->copy(y, x));
    works(k->wait());
    assert_true(same_bits(y, x));
    works(k->layer_norm(y, x, w, b, 0));
    works(k->wait());
    assert_true(fabs(load(y, n) + load(y, 2 * n - 1)) < 0.02 && load(y, 2 * n - 1) > 1.6); /* the same in both rows */
    assert_true(fabs(load(y, n) - load(y, 0)) < 0.02);
    struct tensor yp = { y.data, DT_BF16, 3, { 2, 5, 8 }, { far, 8, 1 } }, xp = yp;
    xp.data = x.data;
    float moments[2 * 2 * 2], rope[2 * 8];
    struct tensor m = tensor_3d(moments, DT_F32, 2, 2, 2);
    works(k->group_moments(m, xp));
    works(k->group_norm(yp, xp, m, tensor_1d(one, DT_F32, 8), tensor_1d(zero, DT_F32, 8), 0, ACT_NONE));
    works(k->wait());
    assert_true(fabs((double)moments[4] - (double)moments[0] - 40) < 1e-3);
    assert_true(load(yp, 0) < -1.5 && load(yp, 79) > 1.5);
    for (int j = 0; j < 16; j++)
        rope[j] = (float)(j % 2 == 0);
    works(k->qk_norm_rope(yp, tensor_1d(one, DT_F32, 8), tensor_2d(rope, DT_F32, 2, 8), 0));
    works(k->wait());
    double square = 0;
    for (int j = 40; j < 48; j++)
        square += load(yp, j) * load(yp, j);
    assert_true(fabs(square - 8) < 0.1);
    for (int i = 0; i < 2; i++)
        munmap(t[i].data, bytes);
}

/* More blocks than a grid can have, and types that there is no kernel for: refused, nothing runs. */
static void check_refused(void **arg)
{
    (void)arg;
    float f[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    struct tensor v = tensor_1d(f, DT_F32, 4), none = { 0 }, y = tensor_2d(f, DT_F32, 2, 4), wrong = y;
    struct tensor rows = y, heads = tensor_3d(f, DT_F32, 1, 1, 4);
    rows.shape[0] = heads.shape[0] = (int64_t)1 << 31;
    rows.stride[0] = heads.stride[0] = 0;
    assert_int_not_equal(k->rms_norm(rows, rows, v, eps), 0);
    assert_int_not_equal(k->layer_norm(rows, rows, v, v, eps), 0);
    assert_int_not_equal(k->qk_norm_rope(heads, v, rows, eps), 0);
    wrong.dtype = DT_I32;
    assert_int_not_equal(k->copy(y, wrong), 0);
    assert_int_not_equal(k->add(wrong, y), 0);
    assert_int_not_equal(k->saturate(y, ACT_NONE), 0);
    assert_int_not_equal(k->conv_finish(y, tensor_2d(f, DT_F16, 2, 4), none, false), 0);
    works(k->wait());
    for (int i = 0; i < 8; i++)
        assert_true(f[i] == (float)(i + 1));
}

static int open_kernels(void **arg)
{
    (void)arg;
    const char *build = getenv("SLUICE_BUILD"), *seed = getenv("SLUICE_SEED");
    char path[512];
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    k = module ? dlsym(module, "fake_cuda_kernels") : NULL;
    if (!k) {
        print_error("%s\n", dlerror());
        return -1;
    }
    if (seed)
        state = strtoull(seed, NULL, 0);
    print_message("cuda_kernels: SLUICE_SEED=%llu\n", (unsigned long long)state);
    return 0;
}

int main(void)
{
    static struct CMUnitTest tests[OPS + 16];
    static uintptr_t number[OPS];
    size_t n = 0;
    for (; n < OPS; n++) {
        number[n] = n;
        tests[n] = (struct CMUnitTest){ op_names[n], check_all_types, NULL, NULL, (void *)number[n] };
    }
    const struct CMUnitTest more[] = {
        cmocka_unit_test(check_rows_alone),  cmocka_unit_test(check_bands),
        cmocka_unit_test(check_copy_dims),   cmocka_unit_test(check_copy_values),
        cmocka_unit_test(check_saturate),    cmocka_unit_test(check_conv_weights),
        cmocka_unit_test(check_im2col),      cmocka_unit_test(check_conv_finish),
        cmocka_unit_test(check_far),         cmocka_unit_test(check_refused),
    };
    memcpy(tests + n, more, sizeof more);
    return _cmocka_run_group_tests("cuda_kernels", tests, n + sizeof more / sizeof *more, open_kernels, NULL);
}
