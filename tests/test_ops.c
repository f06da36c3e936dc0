/* test_ops.c - check_ops: every operation of every device against ref, in the
 * manner of dav1d's checkasm.
 *
 * A case is made from one 64-bit seed: shapes (1, around vector and tile
 * sizes, primes), types, strides, alignment, values (ordinary, wide, subnormal,
 * near the type's maximum, zero rows, constant rows, one spike, a large mean,
 * NaN). Each case checks
 *   - the result against ref's, which is left in F64, within a bound derived
 *     from the types and the sum of |x*w| (see "Bounds" below);
 *   - that nothing but the output changed: all padding around and inside every
 *     operand is a NaN pattern, so that what is read there shows in the result
 *     and what is written there shows in the pattern;
 *   - the arena: the count device's peak is the real one, scratch full of NaN
 *     does no harm, nothing is written past it, one line less is ERR_MEMORY
 *     with the output untouched;
 *   - that an interrupted device and a failed device do nothing;
 *   - now and then, that the same call gives the same bytes again.
 *
 * A failure prints what to set to see it alone:
 *   SLUICE_SEED=cpu-f32:linear:0x123   that one case
 *   SLUICE_SEED=7                      every case, from another base
 *   SLUICE_ROUNDS=20                   twenty times as many cases
 *   SLUICE_ONLY=cpu-f32:conv2d         one operation, or one device
 *
 * It does not measure speed (tests/bench), and does not test infinite inputs
 * or sums beyond F32's range, which device.h leaves open. */
#include "kernels/count.h"
#include "kernels/cpu.h"
#include "kernels/ref.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum slot { Y, X, W, B, BIAS, SLOTS };

/* --- random numbers ----------------------------------------------------------- */
struct rng {
    uint64_t state;
};

static uint64_t rng_next(struct rng *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int rng_below(struct rng *r, int n) { return (int)(rng_next(r) % (uint64_t)n); }
static bool rng_one_in(struct rng *r, int n) { return rng_below(r, n) == 0; }
static double rng_unit(struct rng *r) { return (double)(rng_next(r) >> 11) * 0x1p-53; }

static double rng_normal(struct rng *r)
{
    return sqrt(-2 * log(1 - rng_unit(r))) * cos(2 * M_PI * rng_unit(r));
}

static int64_t rng_size(struct rng *r, int64_t max)
{
    static const int64_t sizes[] = { 1,  2,  3,  5,  7,  8,  9,  15,  16,  17,  31,  32,
                                     33, 47, 48, 63, 64, 65, 97, 127, 128, 129, 257, 263 };
    int64_t n;
    do
        n = sizes[rng_below(r, sizeof sizes / sizeof *sizes)];
    while (n > max);
    return n;
}

/* --- types -------------------------------------------------------------------- */
/* Unit roundoff, least subnormal, largest finite value. */
static double type_unit(enum dtype t) { return t == DT_F32 ? 0x1p-24 : t == DT_BF16 ? 0x1p-8 : 0x1p-11; }
static double type_tiny(enum dtype t) { return t == DT_F32 ? 0x1p-149 : t == DT_BF16 ? 0x1p-133 : 0x1p-24; }
static double type_max(enum dtype t)
{
    return t == DT_F32 ? (double)FLT_MAX : t == DT_BF16 ? 0x1.fep127 : 65504;
}
static double type_min_normal(enum dtype t) { return t == DT_F16 ? 0x1p-14 : 0x1p-126; }

static enum dtype any_float(struct rng *r)
{
    return (enum dtype[]){ DT_F32, DT_BF16, DT_F16 }[rng_below(r, 3)];
}

/* --- a case ------------------------------------------------------------------- */
struct memory {
    unsigned char *bytes, *before;
    size_t size, offset; /* of the tensor's first element, bytes */
};

struct call {
    const struct op_test *op;
    struct rng rng;
    enum dtype compute;
    bool in_place;      /* x is y itself */
    bool has_nan;       /* one input element is NaN */
    struct tensor t[SLOTS];
    struct memory memory[SLOTS];
    enum act act;
    float eps;
    struct attention attention;
    struct conv2d conv;
    int32_t *ids;
    char note[64];      /* what values were chosen */
    void *pool[64];     /* freed with the case */
    int pooled;
};

struct op_test {
    const char *name;
    int rounds;
    void (*make)(struct call *c);
    void (*issue)(struct device *d, const struct call *c, const struct tensor *t);
    /* bound[i]: how far element i may be from want[i]. NULL: not at all, but for
     * the one rounding. */
    void (*bound)(struct call *c, const double *want, double *bound);
    bool reads_y; /* the output is also an input */
};

static void *keep(struct call *c, size_t bytes)
{
    assert_true(c->pooled < (int)(sizeof c->pool / sizeof *c->pool));
    void *p = malloc(bytes ? bytes : 1);
    assert_non_null(p);
    return c->pool[c->pooled++] = p;
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

/* A NaN in every floating type, with a payload that no computation makes. */
static void fill_guard(unsigned char *p, size_t size, enum dtype t)
{
    uint32_t pattern = t == DT_F32 ? 0x7fc5a5a5u : t == DT_BF16 ? 0x7fc57fc5u : 0x7e5a7e5au;
    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)(pattern >> 8 * (i % 4));
}

/* Memory for one operand of v's type, shape and strides: aligned to its element
 * only, with guards around it half of the time; without them it ends where the
 * allocation ends, for the address sanitizer to see. */
static void operand_like(struct call *c, enum slot s, struct tensor v)
{
    struct rng *r = &c->rng;
    int64_t lead = 0, tail = 0;
    if (rng_one_in(r, 2)) {
        lead = rng_below(r, 18);
        tail = 1 + rng_below(r, 40);
    }
    size_t width = dtype_bytes(v.dtype);
    int64_t extent = index_of(v, tensor_count(v) - 1) + 1;
    struct memory *m = &c->memory[s];
    m->size = (size_t)(lead + extent + tail) * width;
    m->offset = (size_t)lead * width;
    m->bytes = keep(c, m->size);
    m->before = keep(c, m->size);
    fill_guard(m->bytes, m->size, v.dtype);
    v.data = m->bytes + m->offset;
    c->t[s] = v;
}

/* As operand_like, with strides half of the time if they are allowed. */
static void operand(struct call *c, enum slot s, enum dtype t, int ndim, const int64_t *shape, bool strides)
{
    struct rng *r = &c->rng;
    struct tensor v = { .dtype = t, .ndim = ndim };
    int64_t step = 1;
    bool strided = strides && rng_one_in(r, 2);
    for (int a = ndim - 1; a >= 0; a--) {
        v.shape[a] = shape[a];
        v.stride[a] = step;
        step *= shape[a];
        if (strided && (a == 1 || (a == 2 && rng_one_in(r, 2))))
            step += 1 + rng_below(r, 19);
    }
    operand_like(c, s, v);
}

static void operand_1d(struct call *c, enum slot s, enum dtype t, int64_t n)
{
    operand(c, s, t, 1, &n, false);
}

static void operand_2d(struct call *c, enum slot s, enum dtype t, int64_t rows, int64_t cols)
{
    operand(c, s, t, 2, (const int64_t[]){ rows, cols }, true);
}

static void operand_3d(struct call *c, enum slot s, enum dtype t, int64_t a, int64_t b, int64_t d)
{
    operand(c, s, t, 3, (const int64_t[]){ a, b, d }, true);
}

enum values { NORMAL, WIDE, SUBNORMAL, HUGE_VALUES, ZERO_ROWS, CONSTANT_ROWS, SPIKE, OFFSET, ZERO, VALUES_ };
static const char *const values_name[] = { "normal", "wide", "subnormal", "huge", "zero rows", "constant rows",
                                           "spike", "offset", "zero" };

/* Fills the elements (never the padding). huge: the greatest magnitude that the
 * operation can take, cut to what the type can hold. */
static void fill(struct call *c, enum slot s, enum values v, double scale, double huge)
{
    struct rng *r = &c->rng;
    struct tensor t = c->t[s];
    int64_t n = tensor_count(t), cols = t.shape[t.ndim - 1];
    double top = fmin(huge, type_max(t.dtype)), row = 0;
    int64_t spike = 0;
    bool zero = false;
    for (int64_t i = 0; i < n; i++) {
        if (i % cols == 0) {
            row = scale * rng_normal(r);
            zero = rng_one_in(r, 2);
            spike = rng_below(r, (int)cols);
        }
        double x = scale * rng_normal(r);
        switch (v) {
        case NORMAL: break;
        case WIDE: x *= exp2(rng_below(r, 40) - 30); break;
        case SUBNORMAL: x = type_min_normal(t.dtype) * (2 * rng_unit(r) - 1); break;
        case HUGE_VALUES: x = top * (rng_one_in(r, 4) ? 1 : 0.5 + 0.5 * rng_unit(r)) * (rng_one_in(r, 2) ? 1 : -1); break;
        case ZERO_ROWS: x = zero ? 0 : x; break;
        case CONSTANT_ROWS: x = row; break;
        case SPIKE: x = i % cols == spike ? fmin(1e4 * scale, top) : x; break;
        case OFFSET: x += 100 * scale; break;
        case ZERO:
        case VALUES_: x = 0; break;
        }
        store(t, i, x);
    }
}

/* Mostly ordinary values, the other kinds a quarter of the time each case. */
static enum values pick(struct call *c)
{
    return rng_one_in(&c->rng, 2) ? NORMAL : (enum values)rng_below(&c->rng, VALUES_);
}

static void fill_any(struct call *c, enum slot s, double scale, double huge)
{
    enum values v = pick(c);
    fill(c, s, v, scale, huge);
    size_t n = strlen(c->note);
    snprintf(c->note + n, sizeof c->note - n, "%s%s", n ? ", " : "", values_name[v]);
}

/* One NaN somewhere in an input. Payloads that truncation to BF16 would turn
 * into infinity, and that rounding would turn into zero, are among them. */
static void poke_nan(struct call *c, enum slot s)
{
    static const uint32_t payload[] = { 0x7fc00000u, 0x7f800001u, 0x7fffffffu, 0xffffffffu, 0xff812345u };
    struct tensor t = c->t[s];
    int64_t i = index_of(t, (int64_t)(rng_next(&c->rng) % (uint64_t)tensor_count(t)));
    uint32_t bits = payload[rng_below(&c->rng, 5)];
    if (t.dtype == DT_F32)
        ((uint32_t *)t.data)[i] = bits;
    else if (t.dtype == DT_BF16)
        ((uint16_t *)t.data)[i] = (uint16_t)(bits >> 16 | 1);
    else
        ((uint16_t *)t.data)[i] = (uint16_t)(0x7c01u | bits >> 31 << 15);
    snprintf(c->note + strlen(c->note), sizeof c->note - strlen(c->note), ", NaN in %d", (int)s);
}

/* An activation's type: the device's, now and then F32 on a narrower device. */
static enum dtype activation_type(struct call *c)
{
    return c->compute != DT_F32 && rng_one_in(&c->rng, 4) ? DT_F32 : c->compute;
}

static enum act any_act(struct call *c) { return (enum act)rng_below(&c->rng, ACT_GELU_ERF + 1); }

/* x, and y of the same shape: another tensor or x itself. */
static void make_xy(struct call *c, int ndim, const int64_t *shape, bool may_be_in_place, double scale, double huge)
{
    operand(c, X, activation_type(c), ndim, shape, true);
    fill_any(c, X, scale, huge);
    c->in_place = may_be_in_place && rng_one_in(&c->rng, 3);
    if (!c->in_place)
        operand(c, Y, activation_type(c), ndim, shape, true);
}

/* --- bounds -------------------------------------------------------------------
 * u is F32's unit roundoff, uy the output type's. Everything may be computed
 * in F32 in any order, so
 *   a sum of k products is off by at most (k + 2) u sum|x w|  (Higham, 3.5);
 *   a norm's mean of n by (n + 8) u mean|x|, its variance by (n + 8) u of
 *     itself and the square of the mean's error: two passes are asked for, as
 *     mean(x^2) - mean(x)^2 would lose what a large mean hides;
 *   an activation's slope is at most 1.13, its own error 8 u |x|;
 *   storing rounds by uy |result|, and subnormals by the type's least one.
 * On a BF16 activation, weights of a wider type may be rounded to BF16 first:
 *   uy(BF16) sum|x w| more.
 * A matrix product may take subnormal inputs and results for zero (AMX, DPBF16):
 * FLT_MIN times the factors' magnitudes. Where F32's range may have been left
 * on the way the bound is infinite: anything goes. */
static const double u = 0x1p-24;

static double act_bound(enum act act, double pre, double error)
{
    return act == ACT_NONE ? error : 1.13 * error + 8 * u * fabs(pre);
}

static double stored(enum dtype t, double want, double error)
{
    double e = error + type_unit(t) * (fabs(want) + error) * 1.01 + type_tiny(t);
    return t != DT_F16 && fabs(want) + e > type_max(t) * 2 ? INFINITY : e; /* F16 saturates */
}

/* |t| as dense F64. */
static struct tensor magnitude(struct call *c, struct tensor t)
{
    if (!tensor_present(t))
        return t;
    int64_t n = tensor_count(t), step = 1;
    struct tensor a = t;
    a.dtype = DT_F64;
    a.data = keep(c, (size_t)n * sizeof(double));
    for (int i = t.ndim - 1; i >= 0; i--) {
        a.stride[i] = step;
        step *= t.shape[i];
    }
    for (int64_t i = 0; i < n; i++)
        ((double *)a.data)[i] = fabs(load(t, i));
    return a;
}

static double greatest(struct tensor dense_f64)
{
    double m = 0;
    for (int64_t i = 0; i < tensor_count(dense_f64); i++)
        m = fmax(m, ((double *)dense_f64.data)[i]);
    return m;
}

static void run_ref(struct call *c, const struct tensor *t);

/* Of linear and conv2d: the operation itself on magnitudes is the sum of |x w|. */
static void bound_products(struct call *c, const double *want, double *bound)
{
    struct call sum = *c;
    struct tensor t[SLOTS] = { 0 };
    for (int s = 0; s < SLOTS; s++)
        t[s] = magnitude(c, c->t[s]);
    int64_t n = tensor_count(c->t[Y]);
    double *s = t[Y].data;
    if (!c->conv.accumulate)
        memset(s, 0, (size_t)n * sizeof *s);
    sum.act = ACT_NONE;
    run_ref(&sum, t);
    double k = (double)(tensor_count(c->t[W]) / c->t[W].shape[0]);
    double flush = (double)FLT_MIN * (1 + k * (greatest(t[X]) + greatest(t[W])));
    bool narrowed = c->t[X].dtype == DT_BF16 && c->t[W].dtype != DT_BF16;
    double relative = (k + 4) * u + (narrowed ? 1.01 * type_unit(DT_BF16) : 0);
    for (int64_t i = 0; i < n; i++) {
        double e = act_bound(c->act, s[i], relative * s[i] + flush);
        bound[i] = s[i] > (double)FLT_MAX ? INFINITY : stored(c->t[Y].dtype, want[i], e);
    }
}

/* A logit is off by at most E; then p_j by a factor within exp(2E), and the
 * output by sum p_j |v_j - o| (exp(2E) - 1), which is small where one key has
 * all the weight. Probabilities are rounded to the compute type once. */
static void bound_attention(struct call *c, const double *want, double *bound)
{
    struct tensor q = c->t[X], k = c->t[W], v = c->t[B], bias = c->t[BIAS];
    int64_t lq = q.shape[0], lk = k.shape[0], heads = q.shape[1], dim = q.shape[2];
    double *logit = keep(c, (size_t)lk * sizeof *logit);
    double scale = (double)c->attention.scale, probability_unit = type_unit(v.dtype);
    double most = greatest(magnitude(c, v));
    double flush = (double)FLT_MIN * (double)dim * (1 + greatest(magnitude(c, q)) + greatest(magnitude(c, k)));
    for (int64_t i = 0; i < lq; i++)
        for (int64_t h = 0; h < heads; h++) {
            int64_t columns = c->attention.causal ? i + 1 : lk;
            double max = -INFINITY, total = 0, error = 0;
            for (int64_t j = 0; j < columns; j++) {
                double dot = 0, sum = 0, added = 0;
                for (int64_t d = 0; d < dim; d++) {
                    double p = load(q, (i * heads + h) * dim + d) * load(k, (j * heads + h) * dim + d);
                    dot += p;
                    sum += fabs(p);
                }
                if (tensor_present(bias))
                    added = load(bias, h * bias.shape[1] + j - i + lq - 1);
                logit[j] = scale * dot + added;
                error = fmax(error, fabs(scale) * (((double)dim + 4) * u * sum + flush) +
                                        8 * u * (fabs(scale * dot) + fabs(added)));
                max = fmax(max, logit[j]);
            }
            for (int64_t j = 0; j < columns; j++)
                total += exp(logit[j] - max);
            for (int64_t d = 0; d < dim; d++) {
                int64_t at = (i * heads + h) * dim + d;
                double spread = 0, sum = 0;
                for (int64_t j = 0; j < columns; j++) {
                    double value = load(v, (j * heads + h) * dim + d), away = fabs(value - want[at]);
                    double p = exp(logit[j] - max) / total;
                    /* In one exponent: a vanishing p times an infinite factor is what it is. */
                    double off = fmin(p * expm1(fmin(2 * error, 1)) , 1);
                    if (2 * error > 1)
                        off = exp(fmin(logit[j] - max + 2 * error, 0));
                    spread += away > 0 ? away * off : 0;
                    sum += p * fabs(value);
                }
                double e = fmin(spread, 2 * most) + sum * (((double)columns + 16) * u + 1.01 * probability_unit) +
                           (double)FLT_MIN * ((double)columns * most + 1);
                bound[at] = stored(c->t[Y].dtype, want[at], e);
            }
        }
}

struct moments {
    double mean, variance, mean_error, variance_error;
};

static struct moments moments_of(const double *x, int64_t n)
{
    struct moments m = { 0 };
    double size = 0, g = (8 + (double)n) * u;
    for (int64_t i = 0; i < n; i++) {
        m.mean += x[i] / (double)n;
        size += fabs(x[i]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++)
        m.variance += (x[i] - m.mean) * (x[i] - m.mean) / (double)n;
    m.mean_error = g * size;
    m.variance_error = g * m.variance + m.mean_error * m.mean_error;
    return m;
}

/* x r (w) + b with r = 1/sqrt(variance + eps); plus: 1 in AdaLN. */
static double bound_normalised(const struct call *c, struct moments m, double x, double plus, double w, double b,
                               double want)
{
    double eps = (double)c->eps, r = 1 / sqrt(m.variance + eps);
    double largest = 1 / sqrt(fmax(m.variance - m.variance_error, 0) + eps);
    double relative = fmin(0.5 * m.variance_error / (m.variance + eps) + 4 * u, 1);
    double gain = fabs(plus) + fabs(w), normal = fabs(x - m.mean) * r;
    double e = gain * largest * (m.mean_error + 4 * u * (fabs(x) + fabs(m.mean))) + gain * normal * (relative + 8 * u) +
               8 * u * fabs(b) + type_tiny(DT_F32) * (4 + 4 * gain + fabs(x) + fabs(m.mean));
    return stored(c->t[Y].dtype, want, act_bound(c->act, gain * normal + fabs(b), e));
}

static void bound_layer_norm(struct call *c, const double *want, double *bound)
{
    int64_t rows = c->t[X].shape[0], n = c->t[X].shape[1];
    double plus = !strcmp(c->op->name, "norm_modulate") ? 1 : 0;
    double *x = keep(c, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < n; j++)
            x[j] = load(c->t[X], i * n + j);
        struct moments m = moments_of(x, n);
        for (int64_t j = 0; j < n; j++)
            bound[i * n + j] =
                bound_normalised(c, m, x[j], plus, load(c->t[W], j), load(c->t[B], j), want[i * n + j]);
    }
}

static void bound_group_moments(struct call *c, const double *want, double *bound)
{
    struct tensor x = c->t[X];
    int64_t width = x.shape[1], channels = x.shape[2], groups = c->t[Y].shape[1], size = channels / groups;
    int64_t n = width * size;
    double *values = keep(c, (size_t)n * sizeof *values);
    for (int64_t i = 0; i < x.shape[0] * groups; i++) {
        for (int64_t j = 0; j < n; j++)
            values[j] = load(x, (i / groups * width + j / size) * channels + i % groups * size + j % size);
        struct moments m = moments_of(values, n);
        double subnormal = (double)n * type_tiny(DT_F32);
        bound[2 * i] = stored(DT_F32, want[2 * i], m.mean_error + subnormal);
        bound[2 * i + 1] = stored(DT_F32, want[2 * i + 1], (double)n * m.variance_error + subnormal);
    }
}

/* The statistics are merged in double and rounded to F32 once. */
static void bound_group_norm(struct call *c, const double *want, double *bound)
{
    struct tensor x = c->t[X], moments = c->t[BIAS];
    int64_t rows = moments.shape[0], groups = moments.shape[1], channels = x.shape[2], size = channels / groups;
    double n = (double)(x.shape[1] * size);
    for (int64_t g = 0; g < groups; g++) {
        struct moments m = { 0 };
        for (int64_t r = 0; r < rows; r++)
            m.mean += load(moments, (r * groups + g) * 2) / (double)rows;
        for (int64_t r = 0; r < rows; r++) {
            double away = load(moments, (r * groups + g) * 2) - m.mean;
            m.variance += (load(moments, (r * groups + g) * 2 + 1) / n + away * away) / (double)rows;
        }
        m.mean_error = 2 * u * fabs(m.mean) + type_tiny(DT_F32);
        m.variance_error = 2 * u * m.variance;
        for (int64_t i = 0; i < x.shape[0] * x.shape[1]; i++)
            for (int64_t channel = g * size; channel < (g + 1) * size; channel++) {
                int64_t at = i * channels + channel;
                bound[at] = bound_normalised(c, m, load(x, at), 0, load(c->t[W], channel), load(c->t[B], channel),
                                             want[at]);
            }
    }
}

static double rms_relative(int64_t n) { return (0.5 * (8 + (double)n) + 12) * u; }

static void bound_rms_norm(struct call *c, const double *want, double *bound)
{
    int64_t n = c->t[X].shape[1];
    for (int64_t i = 0; i < tensor_count(c->t[X]); i++)
        bound[i] = stored(c->t[Y].dtype, want[i], rms_relative(n) * fabs(want[i]) +
                                                      type_tiny(DT_F32) * (4 + 4 * fabs(load(c->t[W], i % n))));
}

static void bound_qk_norm_rope(struct call *c, const double *want, double *bound)
{
    struct tensor x = c->t[Y];
    int64_t heads = x.shape[1], n = x.shape[2];
    for (int64_t row = 0; row < x.shape[0] * heads; row++) {
        double square = 0;
        for (int64_t j = 0; j < n; j++)
            square += load(x, row * n + j) * load(x, row * n + j);
        double r = 1 / sqrt(square / (double)n + (double)c->eps);
        for (int64_t j = 0; j < n; j++) {
            int64_t even = j & ~(int64_t)1, rope = row / heads * n;
            double re = fabs(load(x, row * n + even) * r * load(c->t[W], even));
            double im = fabs(load(x, row * n + even + 1) * r * load(c->t[W], even + 1));
            double cosine = fabs(load(c->t[B], rope + even)), sine = fabs(load(c->t[B], rope + even + 1));
            double sum = j & 1 ? re * sine + im * cosine : re * cosine + im * sine;
            double w = fabs(load(c->t[W], even)) + fabs(load(c->t[W], even + 1));
            bound[row * n + j] = stored(x.dtype, want[row * n + j],
                                        rms_relative(n) * sum + type_tiny(DT_F32) * (8 + 8 * w));
        }
    }
}

static void bound_activate(struct call *c, const double *want, double *bound)
{
    for (int64_t i = 0; i < tensor_count(c->t[X]); i++)
        bound[i] = stored(c->t[Y].dtype, want[i], act_bound(c->act, load(c->t[X], i), 0) + 4 * type_tiny(DT_F32));
}

/* add, multiply, gated_add: two roundings on the way. */
static void bound_elementwise(struct call *c, const double *want, double *bound)
{
    int64_t n = c->t[Y].shape[1];
    bool product = !strcmp(c->op->name, "multiply");
    for (int64_t i = 0; i < tensor_count(c->t[Y]); i++) {
        double x = fabs(load(c->t[X], i)), y = fabs(load(c->t[Y], i));
        double g = tensor_present(c->t[W]) ? fabs(load(c->t[W], i % n)) : 1;
        double size = product ? x * y : g * x + y;
        bound[i] = g * x > (double)FLT_MAX
                       ? INFINITY
                       : stored(c->t[Y].dtype, want[i], 2 * u * size + 4 * type_tiny(DT_F32));
    }
}

/* --- the operations -------------------------------------------------------------- */
static void make_linear(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t m, n, k;
    do {
        m = rng_size(r, 263), n = rng_size(r, 263), k = rng_size(r, 263);
    } while (m * n * k > 200000);
    if (rng_one_in(r, 12)) /* more outputs than one piece of the cpu device */
        m = 1 + rng_below(r, 3), n = 3070 + rng_below(r, 60), k = 1 + rng_below(r, 9);
    else if (rng_one_in(r, 24))
        m = 1, n = 60 + rng_below(r, 80), k = 24000 + rng_below(r, 99);
    enum dtype t = activation_type(c);
    operand_2d(c, X, t, m, k);
    operand_2d(c, W, any_float(r), n, k);
    operand_2d(c, Y, t != DT_F32 && rng_one_in(r, 3) ? DT_F32 : t, m, n);
    if (rng_one_in(r, 2))
        operand_1d(c, B, any_float(r), n);
    /* Huge against small, so that no sum leaves F32: 3e38 * 1e-7 * k. */
    fill_any(c, X, 1, 1e38);
    bool huge = strstr(c->note, "huge") != NULL;
    if (huge)
        fill(c, W, NORMAL, 1e-6, 1);
    else
        fill_any(c, W, 1 / sqrt((double)k), 1e30 / (double)k);
    if (tensor_present(c->t[B]))
        fill_any(c, B, 1, 1e30);
    c->act = any_act(c);
}

static void issue_linear(struct device *d, const struct call *c, const struct tensor *t)
{
    device_linear(d, t[Y], t[X], t[W], t[B], c->act);
}

static void make_attention(struct call *c)
{
    static const int dims[] = { 1, 2, 7, 8, 16, 33, 40, 64, 65, 128 };
    struct rng *r = &c->rng;
    int64_t lq, lk, heads, dim;
    c->attention.causal = rng_one_in(r, 4);
    do {
        lq = rng_size(r, 263), lk = c->attention.causal ? lq : rng_size(r, 263);
        heads = 1 + rng_below(r, 3), dim = dims[rng_below(r, 10)];
    } while (lq * lk * heads * dim > 150000);
    if (rng_one_in(r, 16)) /* more queries than one piece of the cpu device */
        lq = 1020 + rng_below(r, 30), lk = c->attention.causal ? lq : 1 + rng_below(r, 20), heads = dim = 1;
    enum dtype t = activation_type(c);
    operand_3d(c, X, t, lq, heads, dim);
    operand_3d(c, W, t, lk, heads, dim);
    operand_like(c, B, c->t[W]); /* v strides as k does: attention_scratch is shown only k */
    operand_3d(c, Y, t, lq, heads, dim);
    c->attention.scale = rng_one_in(r, 3) ? 1 : 1 / sqrtf((float)dim);
    if (rng_one_in(r, 3)) {
        operand_2d(c, BIAS, DT_F32, heads, lq + lk - 1);
        fill_any(c, BIAS, rng_one_in(r, 4) ? 1e9 : 3, 1e9);
    }
    fill_any(c, X, rng_one_in(r, 4) ? 30 : 1, 1e15);
    fill_any(c, W, rng_one_in(r, 4) ? 30 : 1, 1e15);
    fill_any(c, B, 1, 1e35);
}

static void issue_attention(struct device *d, const struct call *c, const struct tensor *t)
{
    struct attention a = c->attention;
    a.bias = t[BIAS];
    device_attention(d, t[Y], t[X], t[W], t[B], &a);
}

static void make_conv2d(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t h, w, in, out, kh, kw;
    struct conv2d v;
    do {
        h = rng_size(r, 65), w = rng_size(r, 65), in = rng_size(r, 65), out = rng_size(r, 65);
        kh = kw = (int64_t[]){ 1, 3, 3, 2 }[rng_below(r, 4)];
        if (rng_one_in(r, 8))
            kw = 1 + rng_below(r, 4);
        /* Less padding than kernel: no window sees padding only. */
        v = (struct conv2d){ .stride = 1 + rng_one_in(r, 4), .top = kh > 1 && rng_one_in(r, 2),
                             .left = kw > 1 && rng_one_in(r, 2), .bottom = kh > 1 && rng_one_in(r, 2),
                             .right = kw > 1 && rng_one_in(r, 2), .accumulate = rng_one_in(r, 3) };
    } while (h * w * in * out * kh * kw > 400000 || h + v.top + v.bottom < kh || w + v.left + v.right < kw);
    int64_t oh = (h + v.top + v.bottom - kh) / v.stride + 1, ow = (w + v.left + v.right - kw) / v.stride + 1;
    c->conv = v;
    operand(c, X, c->compute, 3, (const int64_t[]){ h, w, in }, false);
    operand(c, W, any_float(r), 4, (const int64_t[]){ out, in, kh, kw }, false);
    operand(c, Y, c->compute, 3, (const int64_t[]){ oh, ow, out }, false);
    if (rng_one_in(r, 2))
        operand_1d(c, B, any_float(r), out);
    fill_any(c, X, 1, 1e38);
    if (strstr(c->note, "huge"))
        fill(c, W, NORMAL, 1e-6, 1);
    else
        fill_any(c, W, 1 / sqrt((double)(in * kh * kw)), 1e30 / (double)(in * kh * kw));
    if (tensor_present(c->t[B]))
        fill_any(c, B, 1, 1e30);
    if (v.accumulate)
        fill_any(c, Y, 1, 1e37);
}

static void issue_conv2d(struct device *d, const struct call *c, const struct tensor *t)
{
    device_conv2d(d, t[Y], t[X], t[W], t[B], &c->conv);
}

/* Squares and their sum must stay in F32's range. */
static double norm_huge(int64_t n) { return 1e19 / sqrt((double)n); }

struct grouped { int64_t h, w, groups, size; };

static struct grouped any_grouped(struct rng *r)
{
    struct grouped g;
    do {
        g = (struct grouped){ rng_size(r, 65), rng_size(r, 65), (int64_t[]){ 1, 2, 5, 32 }[rng_below(r, 4)],
                              (int64_t[]){ 1, 2, 3, 4, 8, 16 }[rng_below(r, 6)] };
    } while (g.h * g.w * g.size * g.groups > 30000);
    return g;
}

static void make_group_moments(struct call *c)
{
    struct grouped g = any_grouped(&c->rng);
    operand_3d(c, X, activation_type(c), g.h, g.w, g.size * g.groups);
    operand_3d(c, Y, DT_F32, g.h, g.groups, 2);
    fill_any(c, X, 1, norm_huge(g.w * g.size));
}

static void issue_group_moments(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_group_moments(d, t[Y], t[X]);
}

/* x is some rows of a picture whose moments are in BIAS: the true ones of those
 * rows, and something like them for the rest. */
static void make_group_norm(struct call *c)
{
    struct rng *r = &c->rng;
    struct grouped g = any_grouped(r);
    int64_t rest = rng_one_in(r, 2) ? 0 : rng_size(r, 65), first = rng_below(r, (int)rest + 1), n = g.w * g.size;
    make_xy(c, 3, (const int64_t[]){ g.h, g.w, g.size * g.groups }, true, 1, norm_huge(g.h * n));
    operand_1d(c, W, any_float(r), g.size * g.groups);
    operand_1d(c, B, any_float(r), g.size * g.groups);
    operand_3d(c, BIAS, DT_F32, g.h + rest, g.groups, 2);
    fill_any(c, W, 1, 1e4);
    fill_any(c, B, 1, 1e30);
    double *x = keep(c, (size_t)n * sizeof *x);
    for (int64_t i = 0; i < (g.h + rest) * g.groups; i++) {
        int64_t row = i / g.groups - first;
        row = row < 0 || row >= g.h ? rng_below(r, (int)g.h) : row;
        for (int64_t j = 0; j < n; j++)
            x[j] = load(c->t[X], ((row * g.w + j / g.size) * g.groups + i % g.groups) * g.size + j % g.size);
        struct moments m = moments_of(x, n);
        store(c->t[BIAS], 2 * i, m.mean);
        store(c->t[BIAS], 2 * i + 1, m.variance * (double)n);
    }
    c->eps = rng_one_in(r, 2) ? 1e-6f : 1e-5f;
    c->act = any_act(c);
}

static void issue_group_norm(struct device *d, const struct call *c, const struct tensor *t)
{
    device_group_norm(d, t[Y], t[X], t[BIAS], t[W], t[B], c->eps, c->act);
}

/* Sizes of a row operation; now and then a row as long as a model's. */
static void make_rows(struct call *c, bool may_be_in_place, bool norm)
{
    struct rng *r = &c->rng;
    int64_t m = rng_size(r, 129), n = rng_size(r, 263);
    if (rng_one_in(r, 8))
        m = 1 + rng_below(r, 20), n = 3072 + rng_below(r, 20);
    make_xy(c, 2, (const int64_t[]){ m, n }, may_be_in_place, 1, norm ? norm_huge(n) : 3e38);
    c->eps = rng_one_in(r, 2) ? 1e-6f : 1e-5f;
}

static void make_norm(struct call *c)
{
    make_rows(c, true, true);
    int64_t n = c->t[X].shape[1];
    operand_1d(c, W, any_float(&c->rng), n);
    fill_any(c, W, 1, 1e4);
    if (strcmp(c->op->name, "rms_norm")) {
        operand_1d(c, B, any_float(&c->rng), n);
        fill_any(c, B, 1, 1e30);
    }
}

static void issue_norm_modulate(struct device *d, const struct call *c, const struct tensor *t)
{
    device_norm_modulate(d, t[Y], t[X], t[W], t[B], c->eps);
}

static void issue_layer_norm(struct device *d, const struct call *c, const struct tensor *t)
{
    device_layer_norm(d, t[Y], t[X], t[W], t[B], c->eps);
}

static void issue_rms_norm(struct device *d, const struct call *c, const struct tensor *t)
{
    device_rms_norm(d, t[Y], t[X], t[W], c->eps);
}

static void make_qk_norm_rope(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t l = rng_size(r, 65), heads = 1 + rng_below(r, 24), n = 2 * rng_size(r, 129);
    operand_3d(c, Y, activation_type(c), l, heads, n);
    operand_1d(c, W, any_float(r), n);
    operand_2d(c, B, DT_F32, l, n);
    fill_any(c, Y, 1, norm_huge(n));
    fill_any(c, W, 1, 1e4);
    for (int64_t i = 0; i < l * n; i += 2) {
        double angle = 2 * M_PI * rng_unit(r);
        store(c->t[B], i, cos(angle));
        store(c->t[B], i + 1, sin(angle));
    }
    c->eps = 1e-6f;
}

static void issue_qk_norm_rope(struct device *d, const struct call *c, const struct tensor *t)
{
    device_qk_norm_rope(d, t[Y], t[W], t[B], c->eps);
}

static void make_activate(struct call *c)
{
    make_rows(c, true, false);
    c->act = any_act(c);
}

static void issue_activate(struct device *d, const struct call *c, const struct tensor *t)
{
    device_activate(d, t[Y], t[X], c->act);
}

/* y += x, y *= x, y += gate x. */
static void make_onto(struct call *c)
{
    struct rng *r = &c->rng;
    make_rows(c, false, false);
    int64_t m = c->t[X].shape[0], n = c->t[X].shape[1];
    if (!strcmp(c->op->name, "add") && rng_one_in(r, 2)) {
        operand_2d(c, X, any_float(r), m, n);
        fill_any(c, X, 1, 3e38);
    }
    fill_any(c, Y, 1, strcmp(c->op->name, "multiply") ? 3e38 : 1e10);
    if (!strcmp(c->op->name, "gated_add")) {
        operand_1d(c, W, any_float(r), n);
        fill_any(c, W, 1, 1e10);
    }
}

static void issue_add(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_add(d, t[Y], t[X]);
}

static void issue_multiply(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_multiply(d, t[Y], t[X]);
}

static void issue_gated_add(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_gated_add(d, t[Y], t[X], t[W]);
}

static void make_embed(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t length = rng_size(r, 65), rows = rng_size(r, 263), n = rng_size(r, 263);
    operand_2d(c, X, any_float(r), rows, n);
    operand_2d(c, Y, activation_type(c), length, n);
    fill_any(c, X, 1, 3e38);
    c->ids = keep(c, (size_t)length * sizeof *c->ids);
    for (int64_t i = 0; i < length; i++)
        c->ids[i] = i == 0 ? 0 : i == 1 ? (int32_t)rows - 1 : rng_below(r, (int)rows);
}

static void issue_embed(struct device *d, const struct call *c, const struct tensor *t)
{
    device_embed(d, t[Y], t[X], c->ids);
}

static void make_upsample2x(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t h = rng_size(r, 33), w = rng_size(r, 33), n = rng_size(r, 33);
    enum dtype t = activation_type(c);
    operand_3d(c, X, t, h, w, n);
    operand_3d(c, Y, t, 2 * h, 2 * w, n);
    fill_any(c, X, 1, 3e38);
}

static void issue_upsample2x(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_upsample2x(d, t[Y], t[X]);
}

static void make_copy(struct call *c)
{
    struct rng *r = &c->rng;
    int64_t m = rng_size(r, 129), n = rng_size(r, 263);
    operand_2d(c, X, any_float(r), m, n);
    operand_2d(c, Y, any_float(r), m, n);
    fill_any(c, X, 1, 3e38);
}

static void issue_copy(struct device *d, const struct call *c, const struct tensor *t)
{
    (void)c;
    device_copy(d, t[Y], t[X]);
}

static const struct op_test op_tests[] = {
    { "linear", 80, make_linear, issue_linear, bound_products, false },
    { "attention", 50, make_attention, issue_attention, bound_attention, false },
    { "conv2d", 60, make_conv2d, issue_conv2d, bound_products, false },
    { "group_moments", 50, make_group_moments, issue_group_moments, bound_group_moments, false },
    { "group_norm", 50, make_group_norm, issue_group_norm, bound_group_norm, false },
    { "norm_modulate", 50, make_norm, issue_norm_modulate, bound_layer_norm, false },
    { "layer_norm", 50, make_norm, issue_layer_norm, bound_layer_norm, false },
    { "rms_norm", 50, make_norm, issue_rms_norm, bound_rms_norm, false },
    { "qk_norm_rope", 50, make_qk_norm_rope, issue_qk_norm_rope, bound_qk_norm_rope, true },
    { "activate", 80, make_activate, issue_activate, bound_activate, false },
    { "add", 50, make_onto, issue_add, bound_elementwise, true },
    { "multiply", 50, make_onto, issue_multiply, bound_elementwise, true },
    { "gated_add", 50, make_onto, issue_gated_add, bound_elementwise, true },
    { "embed", 40, make_embed, issue_embed, NULL, false },
    { "upsample2x", 40, make_upsample2x, issue_upsample2x, NULL, false },
    { "copy", 60, make_copy, issue_copy, NULL, false },
};
enum { OP_TESTS = sizeof op_tests / sizeof *op_tests };

/* --- the devices ------------------------------------------------------------------ */
struct target {
    const char *name;
    enum dtype compute;
    int threads;
    bool host; /* works on host memory: operands are used where they are; else they go through upload */
    bool (*make)(struct device **out, enum dtype compute, int threads, struct err *e);
    void (*drop)(struct device *d);
};

static bool ref_make(struct device **out, enum dtype compute, int threads, struct err *e)
{
    (void)threads;
    *out = malloc(sizeof **out);
    if (!*out)
        return err_set(e, ERR_MEMORY, "out of memory");
    ref_device_init(*out, compute);
    return true;
}

static void ref_drop(struct device *d) { free(d); }

static const struct target targets[] = {
    /* ref against itself tests the tests; apart from the host, upload and download. */
    { "ref-f32", DT_F32, 1, true, ref_make, ref_drop },
    { "ref-bf16", DT_BF16, 1, false, ref_make, ref_drop },
    { "ref-f16", DT_F16, 1, false, ref_make, ref_drop },
    { "cpu-f32", DT_F32, 2, true, cpu_device_new, cpu_device_free },
    { "cpu-bf16", DT_BF16, 3, true, cpu_device_new, cpu_device_free },
    { "cpu-f16", DT_F16, 2, true, cpu_device_new, cpu_device_free },
};
enum { TARGETS = sizeof targets / sizeof *targets };

/* --- running one case ----------------------------------------------------------------- */
struct failure {
    char text[256];
};

__attribute__((format(printf, 2, 3))) static bool fails(struct failure *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, ap);
    va_end(ap);
    return false;
}

static void run_ref(struct call *c, const struct tensor *t)
{
    struct device ref;
    ref_device_init(&ref, DT_F64);
    struct tensor k = t[W];
    size_t scratch = tensor_present(k) ? (size_t)k.shape[0] * sizeof(double) + ARENA_ALIGN : ARENA_ALIGN;
    scratch = scratch / ARENA_ALIGN * ARENA_ALIGN;
    void *memory = aligned_alloc(ARENA_ALIGN, scratch);
    assert_non_null(memory);
    ref.arena = arena_over(memory, scratch);
    c->op->issue(&ref, c, t);
    struct err e = { 0 };
    if (!device_sync(&ref, &e))
        fail_msg("ref: %s", e.text);
    free(memory);
}

static void call_free(struct call *c)
{
    while (c->pooled > 0)
        free(c->pool[--c->pooled]);
}

static void call_make(struct call *c, const struct op_test *op, enum dtype compute, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    c->op = op;
    c->compute = compute;
    c->rng.state = seed;
    op->make(c);
    if (rng_one_in(&c->rng, 8)) {
        enum slot s;
        do
            s = (enum slot)rng_below(&c->rng, SLOTS);
        while (!tensor_present(c->t[s]) || (s == Y && !op->reads_y && !c->conv.accumulate));
        /* Whether a masked key's NaN counts is open: 0 * NaN. */
        c->has_nan = !c->attention.causal || s == X;
        if (c->has_nan)
            poke_nan(c, s);
    }
    if (c->in_place) {
        c->t[Y] = c->t[X];
        c->memory[Y] = c->memory[X];
    }
    for (int s = 0; s < SLOTS; s++)
        if (tensor_present(c->t[s]))
            memcpy(c->memory[s].before, c->memory[s].bytes, c->memory[s].size);
}

static void restore(struct call *c)
{
    for (int s = 0; s < SLOTS; s++)
        if (tensor_present(c->t[s]))
            memcpy(c->memory[s].bytes, c->memory[s].before, c->memory[s].size);
}

/* Whether all memory is as it was, but for the output's elements if `but_y`. */
static bool unchanged(struct call *c, bool but_y, struct failure *f)
{
    static const char *const names[SLOTS] = { "y", "x", "w", "b", "bias" };
    for (int s = 0; s < SLOTS; s++) {
        if (!tensor_present(c->t[s]) || (c->in_place && s == X))
            continue;
        struct memory *m = &c->memory[s];
        unsigned char *expect = malloc(m->size);
        assert_non_null(expect);
        memcpy(expect, m->before, m->size);
        struct tensor t = c->t[s];
        size_t width = dtype_bytes(t.dtype);
        for (int64_t i = 0; but_y && s == Y && i < tensor_count(t); i++) {
            size_t at = m->offset + (size_t)index_of(t, i) * width;
            memcpy(expect + at, m->bytes + at, width);
        }
        bool same = !memcmp(expect, m->bytes, m->size);
        size_t at = 0;
        while (!same && expect[at] == m->bytes[at])
            at++;
        free(expect);
        if (!same)
            return fails(f, "%s of %s was written, element %lld from the tensor's start",
                         s == Y && but_y ? "the padding" : "memory", names[s],
                         ((long long)at - (long long)m->offset) / (long long)width);
    }
    return true;
}

/* Where the device sees the operands: at home, or in its arena by upload. */
static void place(struct device *d, const struct target *target, const struct call *c, struct tensor *t)
{
    struct tensor whole[SLOTS] = { 0 };
    for (int s = 0; s < SLOTS; s++) {
        t[s] = c->t[s];
        if (target->host || !tensor_present(t[s]))
            continue;
        const struct memory *m = &c->memory[s];
        if (c->in_place && s == X) {
            t[X] = t[Y];
            continue;
        }
        whole[s] = device_vector(d, t[s].dtype, (int64_t)(m->size / dtype_bytes(t[s].dtype)));
        device_upload(d, whole[s], m->bytes);
        t[s].data = (unsigned char *)whole[s].data + m->offset;
    }
}

static void fetch(struct device *d, const struct target *target, const struct call *c, const struct tensor *t)
{
    for (int s = 0; s < SLOTS && !target->host; s++) {
        if (!tensor_present(t[s]))
            continue;
        const struct memory *m = &c->memory[s];
        void *start = (unsigned char *)t[s].data - m->offset;
        device_download(d, m->bytes, tensor_1d(start, t[s].dtype, (int64_t)(m->size / dtype_bytes(t[s].dtype))));
    }
}

static bool close_enough(const struct call *c, double want, double bound, double got)
{
    enum dtype t = c->t[Y].dtype;
    if (isnan(want))
        return isnan(got);
    if (t == DT_F16)
        want = fmax(fmin(want, type_max(t)), -type_max(t));
    /* oneDNN multiplies BF16 channels in pairs: of an odd number the last meets
     * the next pixel's first, with weight 0. A NaN may spread that far. */
    if (isnan(got) && c->has_nan && !strcmp(c->op->name, "conv2d") && c->t[X].dtype == DT_BF16 &&
        c->t[X].shape[2] % 2)
        return true;
    /* By GEMM, without AVX, padding is zeros: they meet a NaN among the weights. */
    if (isnan(got) && c->has_nan && !strcmp(c->op->name, "conv2d") && !strcmp(cpu_arithmetic(), "sse4.1") &&
        c->conv.top + c->conv.left + c->conv.bottom + c->conv.right)
        return true;
    if (!c->op->bound) {
        uint64_t rounded = 0;
        dtype_store(&rounded, t, 0, want);
        double expect = dtype_load(&rounded, t, 0);
        return expect == got && signbit(expect) == signbit(got);
    }
    if (bound == INFINITY)
        return true;
    /* Just below the maximum, rounding up to infinity is within the bound. */
    if (isinf(got) && t != DT_F16)
        return signbit(got) == signbit(want) && fabs(want) + bound > type_max(t);
    return fabs(got - want) <= bound;
}

static bool compare(const struct call *c, const double *want, const double *bound, struct failure *f)
{
    struct tensor y = c->t[Y];
    for (int64_t i = 0; i < tensor_count(y); i++) {
        double got = load(y, i);
        if (!close_enough(c, want[i], bound ? bound[i] : 0, got)) {
            int64_t at[3] = { 0 }, rest = i;
            for (int a = y.ndim - 1; a >= 0; a--) {
                at[a] = rest % y.shape[a];
                rest /= y.shape[a];
            }
            return fails(f, "y[%lld,%lld,%lld] is %.9g, ref %.9g, off by %.3g, allowed %.3g", (long long)at[0],
                         (long long)at[1], (long long)at[2], got, want[i], fabs(got - want[i]),
                         bound ? bound[i] : 0);
        }
    }
    return true;
}

static bool always(void *user)
{
    (void)user;
    return true;
}

/* The device refuses: e says why, nothing was written, no scratch is held. */
static bool refuses(struct device *d, const struct target *target, struct call *c, const struct tensor *t,
                    size_t used, enum err_kind kind, const char *why, struct failure *f)
{
    if (d->arena.used != used)
        return fails(f, "%s: %zu bytes of scratch were kept", why, d->arena.used - used);
    struct err e = { 0 };
    if (device_sync(d, &e) || e.kind != kind)
        return fails(f, "%s: expected error %d, found %d %s", why, (int)kind, (int)e.kind, e.text);
    fetch(d, target, c, t);
    return unchanged(c, false, f) || fails(f, "%s, yet memory was written", why);
}

enum { GUARD = 64 * 1024 };

static bool run_on(struct device *d, const struct target *target, struct call *c, const double *want,
                   const double *bound, struct failure *f)
{
    struct tensor t[SLOTS];
    size_t held = 0;
    for (int s = 0; s < SLOTS && !target->host; s++)
        held += c->memory[s].size / ARENA_ALIGN * ARENA_ALIGN + ARENA_ALIGN;
    struct count_device count;
    count_device_init(&count, d);
    c->op->issue(&count.device, c, c->t);
    size_t scratch = count.device.arena.peak;
    if (!device_ok(d)) {
        struct err e = { 0 };
        device_sync(d, &e);
        return fails(f, "asked for its scratch: %s", e.text);
    }
    if (count_sum(&count).calls != 1 || count.device.arena.used != 0)
        return fails(f, "the count device saw %llu calls", (unsigned long long)count_sum(&count).calls);

    /* The scratch is followed by a guard, a large one: who writes past the end may write far. */
    unsigned char *memory = aligned_alloc(ARENA_ALIGN, held + scratch + GUARD);
    assert_non_null(memory);
    memset(memory, 0xff, held + scratch + GUARD);
    d->arena = arena_over(memory, held + scratch);
    place(d, target, c, t);
    size_t used = d->arena.used;
    d->arena.capacity = used + scratch;
    bool ok = true;

    d->interrupted = always;
    c->op->issue(d, c, t);
    d->interrupted = NULL;
    c->op->issue(d, c, t); /* the failure is sticky */
    ok = refuses(d, target, c, t, used, ERR_CANCELLED, "interrupted", f);
    if (ok && scratch) {
        d->arena.capacity -= ARENA_ALIGN;
        c->op->issue(d, c, t);
        ok = refuses(d, target, c, t, used, ERR_MEMORY, "scratch one line short", f);
        d->arena.capacity += ARENA_ALIGN;
    }
    int runs = rng_one_in(&c->rng, 4) ? 2 : 1;
    unsigned char *first = keep(c, c->memory[Y].size);
    for (int run = 0; ok && run < runs; run++) {
        struct err e = { 0 };
        restore(c);
        d->arena.used = 0;
        d->arena.peak = 0;
        place(d, target, c, t);
        memset(memory + used, 0xff, scratch);
        c->op->issue(d, c, t);
        if (d->arena.used != used || d->arena.peak != used + scratch)
            ok = fails(f, "the arena's peak was %zu bytes of scratch, count said %zu", d->arena.peak - used, scratch);
        if (!device_sync(d, &e))
            ok = fails(f, "failed: %s", e.text);
        fetch(d, target, c, t);
        for (size_t i = 0; i < GUARD && ok; i++)
            if (memory[used + scratch + i] != 0xff)
                ok = fails(f, "scratch was written %zu bytes past its end", i);
        ok = ok && unchanged(c, true, f) && compare(c, want, bound, f);
        if (run == 0)
            memcpy(first, c->memory[Y].bytes, c->memory[Y].size);
        else if (ok && memcmp(first, c->memory[Y].bytes, c->memory[Y].size))
            ok = fails(f, "the same call gave other bytes the second time");
    }
    d->arena = arena_over(memory, 0);
    free(memory);
    return ok;
}

static bool run_case(struct device *d, const struct target *target, const struct op_test *op, uint64_t seed)
{
    struct call c;
    struct failure f = { "" };
    call_make(&c, op, target->compute, seed);
    int64_t n = tensor_count(c.t[Y]);
    double *want = keep(&c, (size_t)n * sizeof *want), *bound = keep(&c, (size_t)n * sizeof *bound);
    struct tensor t[SLOTS];
    memcpy(t, c.t, sizeof t);
    t[Y] = magnitude(&c, c.t[Y]);
    for (int64_t i = 0; i < n; i++)
        ((double *)t[Y].data)[i] = load(c.t[Y], i);
    run_ref(&c, t);
    memcpy(want, t[Y].data, (size_t)n * sizeof *want);
    if (op->bound)
        op->bound(&c, want, bound);
    bool ok = run_on(d, target, &c, want, op->bound ? bound : NULL, &f);
    if (!ok) {
        char text[SLOTS][80];
        print_error("%s %s: %s\n  ", target->name, op->name, f.text);
        for (int s = 0; s < SLOTS; s++)
            if (tensor_present(c.t[s]))
                print_error("%s%s%s ", s ? "" : "y ", tensor_describe(c.t[s], text[s], sizeof text[s]),
                            tensor_dense(c.t[s]) ? "" : " strided");
        print_error("%s act %d%s (%s)\n", c.in_place ? "in place" : "", (int)c.act,
                    c.attention.causal ? " causal" : "", c.note);
        if (!strcmp(op->name, "conv2d"))
            print_error("  stride %d, padding %d %d %d %d, accumulate %d\n", c.conv.stride, c.conv.top, c.conv.left,
                        c.conv.bottom, c.conv.right, (int)c.conv.accumulate);
        print_error("  SLUICE_SEED=%s:%s:0x%llx build/tests/test_ops\n", target->name, op->name,
                    (unsigned long long)seed);
    }
    call_free(&c);
    return ok;
}

/* --- cmocka ------------------------------------------------------------------------------ */
struct pairing {
    const struct target *target;
    const struct op_test *op;
};

static uint64_t base_seed = 1;
static const char *replay; /* "target:op:seed" */
static int rounds_factor = 1;

static void check_op(void **state)
{
    const struct pairing *p = *state;
    struct err e = { 0 };
    struct device *d;
    if (!p->target->make(&d, p->target->compute, p->target->threads, &e))
        fail_msg("%s: %s", p->target->name, e.text);
    int failed = 0;
    if (replay) {
        failed = !run_case(d, p->target, p->op, strtoull(strrchr(replay, ':') + 1, NULL, 0));
    } else {
        struct rng seeds = { .state = base_seed };
        for (const char *s = p->op->name; *s; s++)
            seeds.state = rng_next(&seeds) ^ (unsigned char)*s;
        for (int i = 0; i < p->op->rounds * rounds_factor && failed < 3; i++)
            failed += !run_case(d, p->target, p->op, rng_next(&seeds) >> 16);
    }
    p->target->drop(d);
    assert_int_equal(failed, 0);
}

/* --- what does not come from the table ------------------------------------------------- */
/* A linear's rows and an attention's queries asked for a few at a time, by
 * another number of threads, are the same bytes as all at once: plans that cut
 * the tokens into chunks paint the same picture. */
struct halves {
    struct device *all, *some; /* the same device, with other threads */
    void *memory;
};

enum { HALVES_BYTES = 24 << 20 };

static void halves_make(struct halves *h, const struct target *target)
{
    struct err e = { 0 };
    assert_true(target->make(&h->all, target->compute, target->threads, &e));
    assert_true(target->make(&h->some, target->compute, 1, &e));
    h->memory = aligned_alloc(ARENA_ALIGN, HALVES_BYTES);
    assert_non_null(h->memory);
    h->all->arena = h->some->arena = arena_over(h->memory, HALVES_BYTES);
}

static void halves_drop(struct halves *h, const struct target *target)
{
    target->drop(h->all);
    target->drop(h->some);
    free(h->memory);
}

/* All of the output in c->t[Y], made at once, against `chunk` rows at a time. */
static void check_rows_of(struct halves *h, const struct target *target, struct call *c, int64_t chunk,
                          void (*issue)(struct device *, const struct call *, int64_t from, int64_t rows))
{
    struct err e = { 0 };
    struct tensor y = c->t[Y];
    int64_t m = y.shape[0];
    unsigned char *once = malloc(c->memory[Y].size);
    assert_non_null(once);
    issue(h->all, c, 0, m);
    assert_true(device_sync(h->all, &e));
    memcpy(once, c->memory[Y].bytes, c->memory[Y].size);
    for (int64_t from = 0; from < m; from += chunk)
        issue(h->some, c, from, m - from < chunk ? m - from : chunk);
    if (!device_sync(h->some, &e))
        fail_msg("%s", e.text);
    char text[SLOTS][64] = { 0 };
    for (int s = 0; s < SLOTS; s++)
        tensor_describe(c->t[s], text[s], sizeof text[s]);
    if (memcmp(once, c->memory[Y].bytes, c->memory[Y].size))
        fail_msg("%s: y %s of x %s, w %s: %lld rows at a time give other bytes", target->name, text[Y], text[X], text[W],
                 (long long)chunk);
    free(once);
}

static void issue_linear_rows(struct device *d, const struct call *c, int64_t from, int64_t rows)
{
    device_linear(d, tensor_rows(c->t[Y], from, rows), tensor_rows(c->t[X], from, rows), c->t[W], c->t[B],
                  ACT_GELU_TANH);
}

static void check_linear_rows(void **state)
{
    const struct target *target = *state;
    static const enum dtype weights[] = { DT_F32, DT_BF16, DT_F16 };
    /* m, n, k: odd; more than one tile of rows; FLUX's last linear; more than one piece of k; deep. */
    static const int64_t shapes[][3] = { { 67, 80, 48 }, { 67, 129, 1031 }, { 301, 600, 256 }, { 35, 64, 3072 },
                                         { 50, 200, 4096 } };
    static const int64_t chunks[] = { 1, 2, 16, 33, 260 };
    struct halves h;
    halves_make(&h, target);
    for (int i = 0; i < 15; i++) {
        const int64_t *mnk = shapes[i / 3];
        struct call c = { .rng = { base_seed + (uint64_t)i }, .compute = target->compute };
        if (target->make == ref_make && i >= 6)
            break;
        operand_2d(&c, X, target->compute, mnk[0], mnk[2]);
        operand_2d(&c, Y, target->compute, mnk[0], mnk[1]);
        operand(&c, W, weights[i % 3], 2, (const int64_t[]){ mnk[1], mnk[2] }, i % 2);
        operand_1d(&c, B, DT_F32, mnk[1]);
        for (int s = X; s <= B; s++)
            fill(&c, s, NORMAL, 1, 1);
        for (int j = 0; j < 5; j++)
            if (chunks[j] < mnk[0])
                check_rows_of(&h, target, &c, chunks[j], issue_linear_rows);
        call_free(&c);
    }
    halves_drop(&h, target);
}

/* The bias of some queries is a view of the whole one: see device.h. */
static void issue_attention_rows(struct device *d, const struct call *c, int64_t from, int64_t rows)
{
    struct attention a = { .scale = 0.3f };
    int64_t lq = c->t[X].shape[0], lk = c->t[W].shape[0];
    if (tensor_present(c->t[BIAS]))
        a.bias = tensor_cols(c->t[BIAS], lq - (from + rows), rows + lk - 1);
    device_attention(d, tensor_rows(c->t[Y], from, rows), tensor_rows(c->t[X], from, rows), c->t[W], c->t[B], &a);
}

static void check_attention_rows(void **state)
{
    const struct target *target = *state;
    /* Queries, keys, heads and their dimension; of the last shape threads share the head. */
    static const int64_t shapes[][4] = { { 67, 40, 2, 16 }, { 61, 67, 3, 33 }, { 300, 513, 2, 64 }, { 90, 1024, 1, 512 },
                                         { 301, 4099, 1, 48 } };
    static const int64_t chunks[] = { 1, 16, 33, 150 };
    struct halves h;
    halves_make(&h, target);
    for (int i = 0; i < 10; i++) {
        const int64_t *s = shapes[i / 2];
        struct call c = { .rng = { base_seed + (uint64_t)i }, .compute = target->compute };
        if (target->make == ref_make && i >= 4)
            break;
        operand_3d(&c, X, target->compute, s[0], s[2], s[3]);
        operand_3d(&c, Y, target->compute, s[0], s[2], s[3]);
        operand_3d(&c, W, target->compute, s[1], s[2], s[3]);
        operand_like(&c, B, c.t[W]);
        if (i % 2)
            operand_2d(&c, BIAS, DT_F32, s[2], s[0] + s[1] - 1);
        for (int t = X; t <= (i % 2 ? BIAS : B); t++)
            fill(&c, t, NORMAL, 1, 1);
        for (int j = 0; j < 4; j++)
            if (chunks[j] < s[0])
                check_rows_of(&h, target, &c, chunks[j], issue_attention_rows);
        call_free(&c);
    }
    halves_drop(&h, target);
}

/* A picture that the cpu device widens in several bands, against F32: the seams show. */
static void check_wide_bands(void **state)
{
    (void)state;
    enum { H = 701, WIDTH = 64, IN = 96, OUT = 3 };
    struct err e = { 0 };
    struct device *d[2];
    assert_true(cpu_device_new(&d[0], DT_F32, 2, &e) && cpu_device_new(&d[1], DT_F16, 2, &e));
    size_t arena = (size_t)32 << 20;
    void *memory = aligned_alloc(ARENA_ALIGN, arena);
    assert_non_null(memory);
    for (int stride = 1; stride <= 2; stride++) {
        struct call c = { .rng = { base_seed } };
        struct conv2d v = { .stride = stride, .top = stride == 1, .left = 1, .bottom = 1, .right = 1, .accumulate = true };
        int64_t h = (H + v.top - 2) / stride + 1, w = (WIDTH - 1) / stride + 1;
        operand(&c, X, DT_F16, 3, (const int64_t[]){ H, WIDTH, IN }, false);
        operand(&c, W, DT_F32, 4, (const int64_t[]){ OUT, IN, 3, 3 }, false);
        operand(&c, Y, DT_F16, 3, (const int64_t[]){ h, w, OUT }, false);
        for (int s = Y; s <= W; s++)
            fill(&c, s, NORMAL, s == W ? 0.03 : 1, 1);
        struct tensor y = c.t[Y], none = { 0 };
        float *wide_x = keep(&c, sizeof(float) * H * WIDTH * IN), *wide_y = keep(&c, sizeof(float) * (size_t)(h * w * OUT));
        for (int64_t i = 0; i < H * WIDTH * IN; i++)
            wide_x[i] = (float)load(c.t[X], i);
        for (int64_t i = 0; i < h * w * OUT; i++)
            wide_y[i] = (float)load(y, i);
        d[0]->arena = d[1]->arena = arena_over(memory, arena);
        device_conv2d(d[0], tensor_3d(wide_y, DT_F32, h, w, OUT), tensor_3d(wide_x, DT_F32, H, WIDTH, IN), c.t[W], none, &v);
        device_conv2d(d[1], y, c.t[X], c.t[W], none, &v);
        assert_true(device_sync(d[0], &e) && device_sync(d[1], &e));
        assert_in_range(d[1]->arena.peak, 1 << 17, 6 << 20); /* of the 17 MB that x has in F32 */
        for (int64_t i = 0; i < h * w * OUT; i++)
            if (!(fabs(load(y, i) - (double)wide_y[i]) <= 1e-5 + fabs((double)wide_y[i]) * 0x1p-11))
                fail_msg("row %lld: %g instead of %g", (long long)(i / (w * OUT)), load(y, i), (double)wide_y[i]);
        call_free(&c);
    }
    cpu_device_free(d[0]);
    cpu_device_free(d[1]);
    free(memory);
}

/* A picture normalised in bands, whose moments were written in bands, is the same
 * bytes as at once, and is what the definition says: also with a mean far above
 * the deviation, and where rows differ more than pixels do. */
static void check_norm_bands(void **state)
{
    const struct target *target = *state;
    struct err e = { 0 };
    struct device *d;
    assert_true(target->make(&d, target->compute, target->threads, &e));
    enum { H = 37, W_ = 19, GROUPS = 4, C = 24, N = W_ * C };
    struct rng r = { base_seed };
    static float x[H * N], whole[H * N], bands[H * N], w[C], b[C];
    float moments[2][H * GROUPS * 2];
    for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < H * N; i++)
            x[i] = (float)(kind == 0 ? rng_normal(&r) : kind == 1 ? 3000 + rng_normal(&r) : i / N + 0.01 * rng_normal(&r));
        for (int i = 0; i < C; i++)
            w[i] = b[i] = (float)rng_normal(&r);
        struct tensor picture = tensor_3d(x, DT_F32, H, W_, C), y = tensor_3d(whole, DT_F32, H, W_, C);
        struct tensor m = tensor_3d(moments[0], DT_F32, H, GROUPS, 2), z = tensor_3d(bands, DT_F32, H, W_, C);
        struct tensor n = tensor_3d(moments[1], DT_F32, H, GROUPS, 2);
        struct tensor gain = tensor_1d(w, DT_F32, C), offset = tensor_1d(b, DT_F32, C);
        device_group_moments(d, m, picture);
        device_group_norm(d, y, picture, m, gain, offset, 1e-6f, ACT_NONE);
        static const int64_t heights[] = { 1, 2, 5, 16, 36 };
        for (int i = 0; i < 5; i++)
            for (int pass = 0; pass < 2; pass++)
                for (int64_t from = 0; from < H; from += heights[i]) {
                    int64_t rows = H - from < heights[i] ? H - from : heights[i];
                    struct tensor part = tensor_rows(picture, from, rows);
                    if (pass)
                        device_group_norm(d, tensor_rows(z, from, rows), part, n, gain, offset, 1e-6f, ACT_NONE);
                    else
                        device_group_moments(d, tensor_rows(n, from, rows), part);
                }
        assert_true(device_sync(d, &e));
        assert_memory_equal(moments[0], moments[1], sizeof moments[0]);
        assert_memory_equal(whole, bands, sizeof whole);
        for (int c = 0; c < C; c++) {
            enum { SIZE = C / GROUPS, COUNT = H * W_ * SIZE };
            static double values[COUNT];
            for (int i = 0; i < COUNT; i++)
                values[i] = (double)x[i / SIZE * C + c / SIZE * SIZE + i % SIZE];
            struct moments want = moments_of(values, COUNT);
            double scale = 1 / sqrt(want.variance + 1e-6);
            for (int i = c; i < H * N; i += C)
                if (!(fabs((double)whole[i] - ((double)x[i] - want.mean) * scale * (double)w[c] - (double)b[c]) <=
                      1e-4 + (kind == 1 ? 6e-3 : 0))) /* x / its unit roundoff, twice */
                    fail_msg("%s: values of kind %d: element %d is %g", target->name, kind, i, (double)whole[i]);
        }
    }
    target->drop(d);
}

/* Arena exhausted in the middle of a chain: an error at sync, never a crash,
 * and the device can be used again. */
static void check_exhaustion(void **state)
{
    const struct target *target = *state;
    struct err e = { 0 };
    struct device *d;
    assert_true(target->make(&d, target->compute, target->threads, &e));
    enum { M = 33, N = 64 };
    size_t most = (size_t)1 << 20;
    void *memory = aligned_alloc(ARENA_ALIGN, most);
    float *weights = malloc(N * N * sizeof *weights);
    assert_non_null(memory);
    assert_non_null(weights);
    for (int i = 0; i < N * N; i++)
        weights[i] = 0.01f;
    size_t peak = 0;
    int refused = 0;
    for (size_t capacity = 0; capacity <= most; capacity += capacity < 65536 ? 1024 : 65536) {
        d->arena = arena_over(memory, capacity);
        size_t mark = device_mark(d);
        struct tensor w = tensor_2d(weights, DT_F32, N, N), none = { 0 };
        struct tensor x = device_matrix(d, d->compute, M, N);
        device_copy(d, x, tensor_rows(w, 0, M));
        struct tensor y = device_matrix(d, d->compute, M, N);
        device_linear(d, y, x, w, none, ACT_SILU);
        struct tensor q = tensor_split(y, 2, N / 2), o = device_image(d, d->compute, M, 2, N / 2);
        device_attention(d, o, q, q, q, &(struct attention){ .scale = 1 });
        device_add(d, y, tensor_as_2d(o, M, N));
        device_release(d, mark);
        e = (struct err){ 0 };
        if (!device_sync(d, &e)) {
            assert_int_equal(e.kind, ERR_MEMORY);
            assert_true(peak == 0);
            refused++;
        } else if (!peak) {
            peak = d->arena.peak;
        }
        assert_int_equal(d->arena.used, 0);
    }
    assert_true(refused > 0 && peak > 0);
    target->drop(d);
    free(memory);
    free(weights);
}

static void check_embed_range(void **state)
{
    const struct target *target = *state;
    struct err e = { 0 };
    struct device *d;
    assert_true(target->make(&d, target->compute, target->threads, &e));
    static const int32_t bad[] = { -1, 4, INT32_MAX, INT32_MIN };
    float y[6], table[12] = { 0 };
    for (int i = 0; i < 4; i++) {
        const int32_t ids[] = { 0, bad[i] };
        device_embed(d, tensor_2d(y, DT_F32, 2, 3), tensor_2d(table, DT_F32, 4, 3), ids);
        e = (struct err){ 0 };
        assert_false(device_sync(d, &e));
        assert_int_equal(e.kind, ERR_INPUT);
    }
    target->drop(d);
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
    for (int i = 0; i < COUNT_OPS_; i++)
        assert_true(strlen(count_op_name((enum count_op)i)) > 2);
    assert_string_equal(count_op_name(COUNT_OPS_), "?");
}

enum { EXTRA = 5 }; /* tests of a device outside the table */

int main(void)
{
    static struct pairing pairs[TARGETS * OP_TESTS];
    static char names[TARGETS * (OP_TESTS + EXTRA)][48];
    static struct CMUnitTest tests[TARGETS * (OP_TESTS + EXTRA) + 3];
    const char *seed = getenv("SLUICE_SEED"), *rounds = getenv("SLUICE_ROUNDS");
    const char *only = getenv("SLUICE_ONLY");
    if (seed && strchr(seed, ':'))
        replay = seed;
    else if (seed)
        base_seed = strtoull(seed, NULL, 0);
    if (rounds && atoi(rounds) > 0)
        rounds_factor = atoi(rounds);
    print_message("check_ops: SLUICE_SEED=%llu\n", (unsigned long long)base_seed);

    static const struct {
        const char *name;
        void (*run)(void **);
    } extra[EXTRA] = { { "linear_rows", check_linear_rows }, { "attention_rows", check_attention_rows },
                       { "norm_bands", check_norm_bands }, { "exhaustion", check_exhaustion },
                       { "embed_range", check_embed_range } };
    size_t n = 0;
    for (int t = 0; t < TARGETS; t++) {
        for (int o = 0; o < OP_TESTS; o++) {
            struct pairing *p = &pairs[t * OP_TESTS + o];
            *p = (struct pairing){ &targets[t], &op_tests[o] };
            int length = snprintf(names[n], sizeof names[n], "%s:%s", targets[t].name, op_tests[o].name);
            if (only && strncmp(names[n], only, strlen(only)))
                continue;
            if (replay && (strncmp(replay, names[n], (size_t)length) || replay[length] != ':'))
                continue;
            tests[n] = (struct CMUnitTest){ names[n], check_op, NULL, NULL, p };
            n++;
        }
        for (int i = 0; i < EXTRA && !replay && targets[t].host; i++) {
            snprintf(names[n], sizeof names[n], "%s:%s", targets[t].name, extra[i].name);
            if (only && strncmp(names[n], only, strlen(only)))
                continue;
            tests[n] = (struct CMUnitTest){ names[n], extra[i].run, NULL, NULL, (void *)(uintptr_t)&targets[t] };
            n++;
        }
    }
    if (!replay && !only) {
        tests[n++] = (struct CMUnitTest){ "wide_bands", check_wide_bands, NULL, NULL, NULL };
        tests[n++] = (struct CMUnitTest){ "ref_by_hand", check_ref_by_hand, NULL, NULL, NULL };
        tests[n++] = (struct CMUnitTest){ "count_by_hand", check_count_by_hand, NULL, NULL, NULL };
    }
    return _cmocka_run_group_tests("ops", tests, n, NULL, NULL);
}
