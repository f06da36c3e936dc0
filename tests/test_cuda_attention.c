/* test_cuda_attention.c - the attention kernels of the cuda device against ref, on the
 * processor: head dimensions, lengths around the tiles, strides, types, adversarial values,
 * NaN, and that pieces of the queries give the bytes of the whole. The same of the tensor
 * core wrappers they stand on, against a plain matrix product.
 *
 * Operands lie in one block of memory that is NaN all around them: what is read there shows
 * in the result, what is written there shows in the block. Which kernel a device
 * takes is tested in test_cuda_ops.c. SLUICE_SEED replays a run. */
#include "kernels/ref.h"
#include "tests/cuda/attention_table.h"

#include <dlfcn.h>
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct fake_cuda_attention *table;
static uint64_t seed = 1;

static uint64_t random_next(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int random_below(int n) { return (int)(random_next() % (uint64_t)n); }

static double random_normal(void)
{
    double a = (double)(random_next() >> 11) * 0x1p-53, b = (double)(random_next() >> 11) * 0x1p-53;
    return sqrt(-2 * log(1 - a)) * cos(2 * M_PI * b);
}

/* --- a case ------------------------------------------------------------------------ */
enum values {
    NORMAL,
    SPIKE,     /* one logit stands far above all */
    EQUAL,     /* all keys are alike, logits are large */
    HUGE_ALL,  /* logits and values near the end of the range */
    LATE,      /* logits grow with the key: each group of keys scales down what came before */
    FALLING,   /* the first key weighs most; the rest would vanish in F16, and has great values */
    OVERSHOOT, /* probabilities that F16 rounds up by nearly as much as it can, of values that are F16's greatest */
};

enum slot { O, Q, K, V, SLOTS };

enum { ALIGNED = 64, MOST = 1 << 22 }; /* bytes */

struct problem {
    bool flash;
    int sm;
    enum dtype type[SLOTS];
    int lq, lk, heads, dim;
    bool causal, biased, strided;
    enum values values;
};

/* All of a case's operands, views of one block, of which each run works on a copy. */
struct setting {
    struct problem p;
    size_t bytes;
    unsigned char *block;
    struct tensor t[SLOTS], bias;
    float scale;
};

static struct tensor place(struct setting *s, enum dtype t, int64_t a, int64_t b, int64_t c)
{
    bool strided = s->p.strided;
    int64_t size = (int64_t)dtype_bytes(t), step = s->p.flash ? 16 / size : 1;
    struct tensor x = tensor_3d(NULL, t, a, b, c);
    if (strided) {
        x.stride[1] += step * random_below(4);
        x.stride[0] = x.stride[1] * b + step * random_below(4);
    }
    s->bytes = (s->bytes + ALIGNED - 1) / ALIGNED * ALIGNED + (size_t)(strided ? step * random_below(8) * size : 0);
    x.data = s->block + s->bytes;
    s->bytes += (size_t)(x.stride[0] * a * size) + ALIGNED;
    return x;
}

static int64_t at(struct tensor x, int64_t i, int64_t h, int64_t d) { return i * x.stride[0] + h * x.stride[1] + d; }

static void fill(struct setting *s, enum slot slot)
{
    struct tensor x = s->t[slot];
    enum values values = s->p.values;
    double top = x.dtype == DT_F16 ? 6e4 : 1e15, greatest = x.dtype == DT_F16 ? 65504 : 1e35;
    for (int64_t h = 0; h < x.shape[1]; h++) {
        int64_t special = random_below((int)x.shape[0]);
        for (int64_t i = 0; i < x.shape[0]; i++)
            for (int64_t d = 0; d < x.shape[2]; d++) {
                double r = random_normal();
                switch (values) {
                case NORMAL: break;
                case SPIKE: r = slot == K && i == special ? 200 : slot == Q ? fabs(r) : r; break;
                case EQUAL: r = slot == V ? 65504 : slot == K ? 30 + (double)(d % 5) : r; break;
                case HUGE_ALL: r = slot == V ? (r > 0 ? greatest : -greatest) : r * top / 5; break;
                case LATE: r = slot == Q ? fabs(r) : slot == K ? (double)i / 8 : r; break;
                case FALLING: r = slot == Q ? 1 : slot == K ? (i ? -15.0 / (double)x.shape[2] : 0) : i ? 6e4 : 0; break;
                case OVERSHOOT: r = slot == Q ? 1 : slot == V ? 65504 : !i || d > 1 ? 0 : d ? -0.5 : -0.192627; break;
                }
                dtype_store(x.data, x.dtype, at(x, i, h, d), r);
            }
    }
}

static struct setting prepare(struct problem p)
{
    struct setting s = { .p = p };
    s.scale = p.values >= LATE ? 1 : 1 / sqrtf((float)p.dim);
    s.block = aligned_alloc(ALIGNED, MOST);
    assert_non_null(s.block);
    memset(s.block, 0xff, MOST);
    s.bytes = ALIGNED;
    for (int i = 0; i < SLOTS; i++)
        s.t[i] = place(&s, p.type[i], i == O || i == Q ? p.lq : p.lk, p.heads, p.dim);
    if (p.biased) {
        struct tensor b = place(&s, DT_F32, p.heads, 1, p.lq + p.lk - 1);
        s.bias = (struct tensor){ b.data, DT_F32, 2, { b.shape[0], b.shape[2] }, { b.stride[0], 1 } };
        for (int64_t h = 0; h < p.heads; h++)
            for (int64_t i = 0; i < s.bias.shape[1]; i++)
                ((float *)s.bias.data)[h * s.bias.stride[0] + i] = (float)(3 * random_normal());
    }
    assert_true(s.bytes <= MOST);
    for (int i = Q; i < SLOTS; i++)
        fill(&s, i);
    return s;
}

/* The same tensor in a copy of the block. */
static struct tensor in_copy(const struct setting *s, unsigned char *copy, struct tensor x)
{
    if (tensor_present(x))
        x.data = copy + ((unsigned char *)x.data - s->block);
    return x;
}

/* Queries [from, from + rows). */
static void attend(const struct setting *s, unsigned char *copy, int64_t from, int64_t rows)
{
    struct tensor o = tensor_rows(in_copy(s, copy, s->t[O]), from, rows);
    struct tensor q = tensor_rows(in_copy(s, copy, s->t[Q]), from, rows);
    struct tensor k = in_copy(s, copy, s->t[K]), v = in_copy(s, copy, s->t[V]), bias = in_copy(s, copy, s->bias);
    if (tensor_present(bias))
        bias = tensor_cols(bias, s->p.lq - from - rows, rows + s->p.lk - 1);
    if (s->p.flash) {
        assert_true(table->flash_can(s->p.sm, o, q, k, v));
        assert_int_equal(table->flash(s->p.sm, o, q, k, v, s->scale), 0);
    } else {
        assert_int_equal(table->attention(o, q, k, v, s->scale, s->p.causal, bias), 0);
    }
}

/* The block as the kernel leaves it, with the queries asked for `chunk` at a time. */
static unsigned char *result(const struct setting *s, int64_t chunk)
{
    unsigned char *copy = aligned_alloc(ALIGNED, MOST);
    assert_non_null(copy);
    memcpy(copy, s->block, s->bytes);
    for (int64_t from = 0; from < s->p.lq; from += chunk)
        attend(s, copy, from, chunk < s->p.lq - from ? chunk : s->p.lq - from);
    return copy;
}

/* --- what it should be --------------------------------------------------------------- */
static struct tensor widened(struct tensor x)
{
    void *data = malloc((size_t)tensor_count(x) * sizeof(double));
    assert_non_null(data);
    struct tensor w = tensor_3d(data, DT_F64, x.shape[0], x.shape[1], x.shape[2]);
    for (int64_t i = 0; i < x.shape[0]; i++)
        for (int64_t h = 0; h < x.shape[1]; h++)
            for (int64_t d = 0; d < x.shape[2]; d++)
                ((double *)w.data)[at(w, i, h, d)] = dtype_load(x.data, x.dtype, at(x, i, h, d));
    return w;
}

static double unit(enum dtype t) { return t == DT_F32 ? 0x1p-24 : t == DT_BF16 ? 0x1p-8 : 0x1p-11; }
static double tiny(enum dtype t) { return t == DT_F32 ? 0x1p-149 : t == DT_BF16 ? 0x1p-133 : 0x1p-24; }

/* How far o may be from want, as in check_ops: a logit is off by E, so a probability by exp(2E); sums are
 * F32's; the flash kernel rounds probabilities to the operands' type, which in F16 loses up to 2^-40 of one. */
static void bound(const struct setting *s, const double *q, const double *k, const double *v, const double *want,
                  double *limit)
{
    const struct problem *p = &s->p;
    const double u = 0x1p-24, scale = (double)s->scale;
    double pu = p->flash ? unit(p->type[V]) : u, lost = p->flash && p->type[V] == DT_F16 ? 0x1p-40 : 0;
    double *logit = malloc((size_t)p->lk * sizeof *logit);
    assert_non_null(logit);
    for (int i = 0; i < p->lq; i++)
        for (int h = 0; h < p->heads; h++) {
            int columns = p->causal ? i + 1 : p->lk;
            double max = -INFINITY, total = 0, error = 0;
            for (int j = 0; j < columns; j++) {
                double dot = 0, sum = 0, added = 0;
                for (int d = 0; d < p->dim; d++) {
                    double x = q[(i * p->heads + h) * p->dim + d] * k[(j * p->heads + h) * p->dim + d];
                    dot += x;
                    sum += fabs(x);
                }
                if (tensor_present(s->bias))
                    added = (double)((float *)s->bias.data)[h * s->bias.stride[0] + j - i + p->lq - 1];
                logit[j] = scale * dot + added;
                error = fmax(error, scale * (p->dim + 4) * u * sum + 8 * u * (fabs(scale * dot) + fabs(added)));
                max = fmax(max, logit[j]);
            }
            for (int j = 0; j < columns; j++)
                total += exp(logit[j] - max);
            for (int d = 0; d < p->dim; d++) {
                int64_t n = ((int64_t)i * p->heads + h) * p->dim + d;
                double spread = 0, sum = 0, all = 0, most = 0;
                for (int j = 0; j < columns; j++) {
                    double value = v[(j * p->heads + h) * p->dim + d], share = exp(logit[j] - max) / total;
                    double off = 2 * error > 1 ? exp(fmin(logit[j] - max + 2 * error, 0)) : share * expm1(2 * error);
                    spread += value == want[n] ? 0 : fabs(value - want[n]) * off;
                    sum += share * fabs(value);
                    all += fabs(value);
                    most = fmax(most, fabs(value));
                }
                double e = fmin(spread, 2 * most) + sum * ((columns + 16) * u + 1.01 * pu) + lost * all / total +
                           (double)FLT_MIN * (columns * most + 1);
                limit[n] = e + unit(p->type[O]) * (fabs(want[n]) + e) * 1.01 + tiny(p->type[O]);
            }
        }
    free(logit);
}

static void explain(const struct problem *p, char *text, size_t size)
{
    snprintf(text, size, "%s sm_%d %s %d queries, %d keys, %d heads of %d%s%s%s, values %d",
             p->flash ? "flash" : "plain", p->sm, dtype_name(p->type[Q]), p->lq, p->lk, p->heads, p->dim,
             p->causal ? ", causal" : "", p->biased ? ", bias" : "", p->strided ? ", strided" : "", (int)p->values);
}

static void compare(const struct setting *s)
{
    static _Alignas(ARENA_ALIGN) unsigned char scratch[64 * 1024];
    struct tensor q = widened(s->t[Q]), k = widened(s->t[K]), v = widened(s->t[V]), want = widened(s->t[O]);
    double *limit = calloc((size_t)tensor_count(want), sizeof *limit);
    char text[160];
    assert_non_null(limit);
    struct device ref;
    struct err e = { 0 };
    ref_device_init(&ref, DT_F64);
    ref.arena = arena_over(scratch, sizeof scratch);
    struct attention a = { .scale = s->scale, .causal = s->p.causal, .bias = s->bias };
    device_attention(&ref, want, q, k, v, &a);
    assert_true(device_sync(&ref, &e));
    bound(s, q.data, k.data, v.data, want.data, limit);
    unsigned char *got = result(s, s->p.lq);
    struct tensor o = s->t[O];
    explain(&s->p, text, sizeof text);
    for (int64_t i = 0; i < o.shape[0]; i++)
        for (int64_t h = 0; h < o.shape[1]; h++)
            for (int64_t d = 0; d < o.shape[2]; d++) {
                void *p = got + ((unsigned char *)o.data - s->block) + (size_t)at(o, i, h, d) * dtype_bytes(o.dtype);
                double x = dtype_load(p, o.dtype, 0), w = ((double *)want.data)[at(want, i, h, d)];
                double l = limit[at(want, i, h, d)];
                if (isnan(w) ? !isnan(x) : !(fabs(x - w) <= l))
                    fail_msg("%s: o[%d,%d,%d] is %.9g, should be %.9g within %.3g", text, (int)i, (int)h, (int)d, x, w,
                             l);
                memset(p, 0xff, dtype_bytes(o.dtype));
            }
    if (memcmp(got, s->block, s->bytes) != 0)
        fail_msg("%s: something beside the result was written", text);
    free(got), free(limit);
    free(q.data), free(k.data), free(v.data), free(want.data);
}

static void check(struct problem p)
{
    struct setting s = prepare(p);
    compare(&s);
    free(s.block);
}

static struct problem flash_of(int sm, enum dtype t, int dim, int lq, int lk, int heads)
{
    return (struct problem){ .flash = true, .sm = sm, .type = { t, t, t, t }, .lq = lq, .lk = lk, .heads = heads,
                             .dim = dim };
}

static struct problem plain_of(enum dtype t, int dim, int lq, int lk, int heads)
{
    return (struct problem){ .type = { t, t, t, t }, .lq = lq, .lk = lk, .heads = heads, .dim = dim };
}

/* --- tests ------------------------------------------------------------------------------ */
static void tensor_cores_multiply(void **state)
{
    (void)state;
    enum { SMALL_INTEGERS = 1, ONE_NAN, KINDS };
    for (int round = 0; round < 2 * KINDS; round++) {
        enum dtype t = round % 2 ? DT_BF16 : DT_F16;
        int kind = round / 2;
        float c[16 * 8], before[16 * 8];
        uint16_t a[16 * 16], b[16 * 8];
        for (int i = 0; i < 16 * 16; i++)
            dtype_store(a, t, i, kind == SMALL_INTEGERS ? (double)(random_below(61) - 30) : random_normal());
        for (int i = 0; i < 16 * 8; i++) {
            dtype_store(b, t, i, kind == SMALL_INTEGERS ? (double)(random_below(61) - 30) : random_normal());
            c[i] = before[i] = (float)(random_below(2001) - 1000);
        }
        if (kind == ONE_NAN)
            dtype_store(a, t, 5 * 16 + 11, NAN);
        assert_int_equal(table->product(t, c, a, b), 0);
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 8; j++) {
                double x = (double)c[i * 8 + j], sum = (double)before[i * 8 + j], size = fabs(sum);
                for (int n = 0; n < 16; n++) {
                    double p = dtype_load(a, t, i * 16 + n) * dtype_load(b, t, n * 8 + j);
                    sum += p;
                    size += fabs(p);
                }
                assert_int_equal(isnan(x), kind == ONE_NAN && i == 5);
                assert_true(isnan(x) || fabs(x - sum) <= 16 * 0x1p-24 * size);
            }
    }
}

static void matrices_come_from_shared_memory(void **state)
{
    (void)state;
    uint16_t from[4][8][8], to[4][8][8];
    for (int i = 0; i < 4 * 8 * 8; i++)
        (&from[0][0][0])[i] = (uint16_t)i;
    for (int transposed = 0; transposed < 2; transposed++) {
        assert_int_equal(table->load(transposed, &to[0][0][0], &from[0][0][0]), 0);
        for (int m = 0; m < 4; m++)
            for (int i = 0; i < 8; i++)
                for (int j = 0; j < 8; j++)
                    assert_int_equal(to[m][i][j], transposed ? from[m][j][i] : from[m][i][j]);
    }
}

/* Lengths around the tiles of 128 queries (64, 32 for heads of 512) and 64 keys, in turn. */
static void flash_tiles(void **state)
{
    (void)state;
    static const int queries[] = { 1, 2, 17, 31, 33, 63, 64, 65, 127, 128, 129, 131, 257 };
    static const int keys[] = { 1, 2, 7, 8, 9, 16, 17, 61, 63, 64, 65, 97, 127, 128, 129, 193 };
    enum { QUERIES = sizeof queries / sizeof *queries, KEYS = sizeof keys / sizeof *keys };
    static const struct { int sm, dim; enum dtype t; } kinds[] = {
        { 75, 64, DT_F16 },  { 80, 64, DT_BF16 },  { 80, 128, DT_F16 }, { 90, 128, DT_BF16 },
        { 75, 512, DT_F16 }, { 80, 512, DT_BF16 }, { 86, 512, DT_F16 },
    };
    for (size_t n = 0; n < sizeof kinds / sizeof *kinds; n++) {
        bool wide = kinds[n].dim == 512;
        for (int i = (int)n % 2; i < QUERIES; i += 2) {
            struct problem p = flash_of(kinds[n].sm, kinds[n].t, kinds[n].dim, queries[i], 3 + i, wide ? 1 : 2);
            if (wide && queries[i] > 65)
                continue;
            p.strided = i % 3 == 0;
            check(p);
        }
        for (int i = (int)n % 2; i < KEYS; i += wide ? 4 : 2) {
            struct problem p = flash_of(kinds[n].sm, kinds[n].t, kinds[n].dim, 2 + i, keys[i], 1 + i % 2);
            p.strided = i % 3 == 1;
            check(p);
        }
    }
}

static void flash_values(void **state)
{
    (void)state;
    static const int dims[] = { 64, 128, 512 };
    for (int values = SPIKE; values <= OVERSHOOT; values++)
        for (int i = 0; i < 3; i++)
            for (int t = 0; t < 2; t++) {
                int keys = dims[i] == 512 ? 70 : 131;
                struct problem p = flash_of(t ? 80 : 75, t ? DT_BF16 : DT_F16, dims[i], 19, keys, 1);
                p.values = (enum values)values;
                check(p);
            }
}

/* A NaN in one row of q touches that row alone; one in k or v touches all. What is not there is NaN in every case. */
static void flash_nan(void **state)
{
    (void)state;
    static const int dims[] = { 64, 128, 512 };
    for (int i = 0; i < 3; i++)
        for (int slot = Q; slot <= V; slot++) {
            struct setting s = prepare(flash_of(80, slot == K ? DT_F16 : DT_BF16, dims[i], 21, 67, 1));
            struct tensor x = s.t[slot];
            dtype_store(x.data, x.dtype, at(x, random_below((int)x.shape[0]), 0, random_below(dims[i])), NAN);
            compare(&s);
            free(s.block);
        }
}

static void flash_refuses(void **state)
{
    (void)state;
    struct tensor q = tensor_3d((void *)(uintptr_t)4096, DT_F16, 20, 2, 64), x = q;
    assert_true(table->flash_can(75, q, q, q, q));
    x.dtype = DT_BF16;
    assert_false(table->flash_can(80, q, q, q, x));
    assert_false(table->flash_can(75, x, x, x, x));
    assert_true(table->flash_can(80, x, x, x, x));
    x = q, x.data = (void *)(uintptr_t)4104;
    assert_false(table->flash_can(80, q, q, x, q));
    x = q, x.stride[0] += 4;
    assert_false(table->flash_can(80, x, q, q, q));
    assert_false(table->flash_can(80, tensor_rows(x, 0, 1), q, q, q)); /* not by the number of queries */
    x = q, x.stride[1] += 4;
    assert_false(table->flash_can(80, q, x, q, q));
    x = q, x.dtype = DT_F32;
    assert_false(table->flash_can(90, x, x, x, x));
    x = tensor_3d(q.data, DT_F16, 20, 2, 72);
    assert_false(table->flash_can(90, x, x, x, x));
}

static void plain_tiles(void **state)
{
    (void)state;
    static const int dims[] = { 1, 2, 7, 8, 33, 40, 63, 64, 65, 127, 128, 129, 257, 512, 513, 1024 };
    static const int lengths[] = { 1, 2, 5, 31, 32, 33, 47, 63, 64, 65, 97 };
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    for (int i = 0; i < 60; i++) {
        int lq = lengths[random_below(11)], lk = lengths[random_below(11)];
        struct problem p = plain_of(DT_F32, dims[i % 16], lq, lk, 1 + i % 3);
        for (int s = 0; s < SLOTS; s++)
            p.type[s] = types[i % 4 == 3 ? random_below(3) : i % 3];
        p.strided = i % 2;
        p.causal = i % 4 == 1;
        p.biased = i % 4 == 2 || i % 16 == 1;
        if (p.causal)
            p.lk = p.lq;
        while (p.lq * p.lk * p.dim * p.heads > 400000 && p.lq > 1)
            p.lq = p.lq / 2, p.lk = p.causal ? p.lq : p.lk;
        check(p);
    }
}

static void plain_values(void **state)
{
    (void)state;
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    for (int values = SPIKE; values <= OVERSHOOT; values++)
        for (int t = 0; t < 3; t++) {
            struct problem p = plain_of(types[t], 40 + 64 * (values % 2), 35, 35, 1);
            p.values = (enum values)values;
            p.causal = t == 1;
            check(p);
        }
}

/* Under a causal mask a key's NaN touches the rows that see it alone. */
static void plain_nan(void **state)
{
    (void)state;
    for (int causal = 0; causal < 2; causal++)
        for (int slot = Q; slot <= V; slot++) {
            struct problem p = plain_of(slot == K ? DT_F16 : DT_F32, 64 + slot, 41, 41, 1);
            p.causal = causal;
            struct setting s = prepare(p);
            struct tensor x = s.t[slot];
            dtype_store(x.data, x.dtype, at(x, 5 + random_below(30), 0, random_below(60)), NAN);
            compare(&s);
            free(s.block);
        }
}

static void pieces_are_the_whole(void **state)
{
    (void)state;
    static const int chunks[] = { 1, 16, 33, 100 };
    for (int i = 0; i < 7; i++) {
        static const int dims[] = { 64, 128, 512, 64, 300 };
        struct problem p = i < 3 ? flash_of(i ? 80 : 75, i ? DT_BF16 : DT_F16, dims[i], i == 2 ? 39 : 135, 70, 1) :
                           i < 5 ? plain_of(DT_F32, dims[i], 67, 35, 2) : flash_of(75, DT_F16, 512, 35, 66, 1);
        p.biased = i == 4;
        if (i == 6)
            p = plain_of(DT_BF16, 128, 40, 33, 1);
        struct setting s = prepare(p);
        unsigned char *whole = result(&s, p.lq);
        for (int j = p.lq > 100 || p.dim == 512 ? 1 : 0; j < 4; j++) {
            unsigned char *pieces = result(&s, chunks[j]);
            if (memcmp(whole, pieces, s.bytes) != 0) {
                char text[160];
                explain(&p, text, sizeof text);
                fail_msg("%s: not the same bytes by %d queries at a time", text, chunks[j]);
            }
            free(pieces);
        }
        free(whole);
        free(s.block);
    }
}

int main(void)
{
    const char *from = getenv("SLUICE_SEED"), *build = getenv("SLUICE_BUILD");
    char path[512];
    if (from)
        seed = strtoull(from, NULL, 0);
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    void *module = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (module)
        table = (const struct fake_cuda_attention *)dlsym(module, "fake_cuda_attention");
    if (!table) {
        print_error("%s\n", dlerror());
        return 1;
    }
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensor_cores_multiply), cmocka_unit_test(matrices_come_from_shared_memory),
        cmocka_unit_test(flash_tiles), cmocka_unit_test(flash_values), cmocka_unit_test(flash_nan),
        cmocka_unit_test(flash_refuses), cmocka_unit_test(plain_tiles), cmocka_unit_test(plain_values),
        cmocka_unit_test(plain_nan), cmocka_unit_test(pieces_are_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
