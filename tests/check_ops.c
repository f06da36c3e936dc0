/* check_ops.c - see check_ops.h. */
#include "tests/check_ops.h"

#include "kernels/count.h"
#include "kernels/ref.h"

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum slot { Y, X, W, B, BIAS, SLOTS };

static void *must(void *p)
{
    if (!p) {
        fputs("check_ops: out of memory\n", stderr);
        abort();
    }
    return p;
}

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
    void *device;        /* of the same size, where the device has memory of its own */
};

struct call {
    const struct check_target *target;
    const struct op_test *op;
    struct rng rng;
    enum dtype compute; /* the target's */
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
    assert(c->pooled < (int)(sizeof c->pool / sizeof *c->pool));
    return c->pool[c->pooled++] = must(malloc(bytes ? bytes : 1));
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
        case HUGE_VALUES:
            x = top * (rng_one_in(r, 4) ? 1 : 0.5 + 0.5 * rng_unit(r)) * (rng_one_in(r, 2) ? 1 : -1); break;
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

static enum act any_act(struct call *c) { return (enum act)rng_below(&c->rng, ACT_RELU + 1); }

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

/* For each result of linear or conv2d the sum of |x| over its products. t: the operands' magnitudes. */
static double *sum_of_inputs(struct call *c, const struct tensor *t)
{
    struct call sum = *c;
    struct tensor of[SLOTS];
    memcpy(of, t, sizeof of);
    int64_t n = tensor_count(t[Y]), weights = tensor_count(t[W]);
    double *s = keep(c, (size_t)n * sizeof *s), *ones = keep(c, (size_t)weights * sizeof *ones);
    for (int64_t i = 0; i < weights; i++)
        ones[i] = 1;
    memset(s, 0, (size_t)n * sizeof *s);
    of[Y].data = s;
    of[W].data = ones;
    of[B] = (struct tensor){ 0 };
    sum.act = ACT_NONE;
    run_ref(&sum, of);
    return s;
}

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
    double *inputs = c->target->rounding.weights && c->t[X].dtype == DT_F16 && c->t[W].dtype != DT_F16
                         ? sum_of_inputs(c, t) : NULL;
    double k = (double)(tensor_count(c->t[W]) / c->t[W].shape[0]);
    double flush = (double)FLT_MIN * (1 + k * (greatest(t[X]) + greatest(t[W])));
    bool narrowed = c->t[X].dtype == DT_BF16 && c->t[W].dtype != DT_BF16;
    double relative = (k + 4) * u + (narrowed ? 1.01 * type_unit(DT_BF16) : 0);
    double heaviest = greatest(t[W]);
    for (int64_t i = 0; i < n; i++) {
        double error = relative * s[i] + flush;
        if (inputs)
            error += 1.01 * type_unit(DT_F16) * s[i] + inputs[i] * fmax(type_tiny(DT_F16), heaviest - type_max(DT_F16));
        double e = act_bound(c->act, s[i], error);
        bound[i] = s[i] > (double)FLT_MAX ? INFINITY : stored(c->t[Y].dtype, want[i], e);
    }
}

/* A logit is off by at most E; then p_j by a factor within exp(2E), and the
 * output by sum p_j |v_j - o| (exp(2E) - 1), which is small where one key has
 * all the weight. Probabilities are rounded to the compute type once. Where that is
 * before they are divided by their sum, one that is subnormal is off by half the type's least. */
static void bound_attention(struct call *c, const double *want, double *bound)
{
    struct tensor q = c->t[X], k = c->t[W], v = c->t[B], bias = c->t[BIAS];
    int64_t lq = q.shape[0], lk = k.shape[0], heads = q.shape[1], dim = q.shape[2];
    double *logit = keep(c, (size_t)lk * sizeof *logit);
    double scale = (double)c->attention.scale, probability_unit = type_unit(v.dtype);
    double probability_tiny = c->target->rounding.attention ? type_tiny(v.dtype) : 0;
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
                double spread = 0, sum = 0, all = 0;
                for (int64_t j = 0; j < columns; j++) {
                    double value = load(v, (j * heads + h) * dim + d), away = fabs(value - want[at]);
                    double p = exp(logit[j] - max) / total;
                    /* In one exponent: a vanishing p times an infinite factor is what it is. */
                    double off = fmin(p * expm1(fmin(2 * error, 1)) , 1);
                    if (2 * error > 1)
                        off = exp(fmin(logit[j] - max + 2 * error, 0));
                    spread += away > 0 ? away * off : 0;
                    sum += p * fabs(value);
                    all += fabs(value);
                }
                double e = fmin(spread, 2 * most) + sum * (((double)columns + 16) * u + 1.01 * probability_unit) +
                           0.51 * probability_tiny * all / total + (double)FLT_MIN * ((double)columns * most + 1);
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
        bound[i] = (product ? size : g * x) > (double)FLT_MAX
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
    void *memory = must(aligned_alloc(ARENA_ALIGN, scratch));
    ref.arena = arena_over(memory, scratch);
    c->op->issue(&ref, c, t);
    struct err e = { 0 };
    bool ok = device_sync(&ref, &e);
    assert(ok);
    (void)ok;
    free(memory);
}

static struct call call_of(const struct check_target *target, uint64_t seed)
{
    return (struct call){ .target = target, .compute = target->compute, .rng = { seed } };
}

static void call_make(struct call *c, const struct check_target *target, const struct op_test *op, uint64_t seed)
{
    *c = call_of(target, seed);
    c->op = op;
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
        unsigned char *expect = must(malloc(m->size));
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

/* Where the device's copy of an operand is kept; NULL if it works on the operand itself. */
static struct memory *away(struct call *c, int s)
{
    if (!c->target->device_memory || !tensor_present(c->t[s]) || (s == X && c->ids))
        return NULL;
    return &c->memory[s == X && c->in_place ? Y : s];
}

static struct tensor bytes_at(void *data, size_t n) { return tensor_1d(data, DT_U8, (int64_t)n); }

/* The operands as the device sees them, in t: at home, or uploaded with all their
 * guards to a piece of memory of exactly that size. A refusal sticks in d. */
static void place(struct device *d, struct call *c, struct tensor *t)
{
    for (int s = 0; s < SLOTS; s++) {
        struct memory *m = away(c, s);
        t[s] = c->t[s];
        if (!m || (!m->device && !device_take(d, &m->device, m->size, &d->err)))
            continue;
        device_upload(d, bytes_at(m->device, m->size), m->bytes);
        t[s].data = (unsigned char *)m->device + m->offset;
    }
}

static void fetch(struct device *d, struct call *c)
{
    for (int s = 0; s < SLOTS; s++) {
        struct memory *m = away(c, s);
        if (m && m->device)
            device_download(d, m->bytes, bytes_at(m->device, m->size));
    }
}

/* Ends a case; what was queued is done. */
static void call_free(struct device *d, struct call *c)
{
    for (int s = 0; s < SLOTS; s++) {
        struct memory *m = away(c, s);
        if (m && m->device)
            device_give(d, m->device);
        if (m)
            m->device = NULL;
    }
    while (c->pooled > 0)
        free(c->pool[--c->pooled]);
}

static bool close_enough(const struct call *c, double want, double bound, double got)
{
    enum dtype t = c->t[Y].dtype;
    if (isnan(want))
        return isnan(got);
    if (t == DT_F16)
        want = fmax(fmin(want, type_max(t)), -type_max(t));
    if (isnan(got) && c->has_nan && c->op->issue == issue_conv2d &&
        ((c->target->nan_meets_pairs && c->t[X].dtype == DT_BF16 && c->t[X].shape[2] % 2) ||
         (c->target->nan_meets_padding && c->conv.top + c->conv.left + c->conv.bottom + c->conv.right)))
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
static bool refuses(struct device *d, struct call *c, enum err_kind kind, const char *why, struct failure *f)
{
    if (d->arena.used)
        return fails(f, "%s: %zu bytes of scratch were kept", why, d->arena.used);
    struct err e = { 0 };
    if (device_sync(d, &e) || e.kind != kind)
        return fails(f, "%s: expected error %d, found %d %s", why, (int)kind, (int)e.kind, e.text);
    fetch(d, c);
    return unchanged(c, false, f) || fails(f, "%s, yet memory was written", why);
}

/* The scratch is followed by a guard, a large one: who writes past the end may write far. */
enum { GUARD = 64 * 1024, GUARD_BYTE = 0xff };

static void poison(struct device *d, unsigned char *memory, size_t n)
{
    static unsigned char pattern[GUARD];
    memset(pattern, GUARD_BYTE, sizeof pattern);
    for (size_t at = 0; at < n; at += GUARD)
        device_upload(d, bytes_at(memory + at, n - at < GUARD ? n - at : GUARD), pattern);
}

static bool guard_whole(struct device *d, unsigned char *memory, struct failure *f)
{
    static unsigned char found[GUARD];
    memset(found, 0, sizeof found);
    device_download(d, found, bytes_at(memory, GUARD));
    for (size_t i = 0; i < GUARD; i++)
        if (found[i] != GUARD_BYTE)
            return fails(f, "scratch was written %zu bytes past its end", i);
    return true;
}

static bool run_on(struct device *d, struct call *c, const double *want, const double *bound, struct failure *f)
{
    struct tensor t[SLOTS];
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

    void *memory;
    struct err e = { 0 };
    if (!device_take(d, &memory, scratch + GUARD, &e))
        return fails(f, "%zu bytes for its scratch: %s", scratch + GUARD, e.text);
    poison(d, memory, scratch + GUARD);
    d->arena = arena_over(memory, scratch);
    place(d, c, t);
    bool ok = true;

    d->interrupted = always;
    c->op->issue(d, c, t);
    d->interrupted = NULL;
    c->op->issue(d, c, t); /* the failure is sticky */
    ok = refuses(d, c, ERR_CANCELLED, "interrupted", f);
    if (ok && scratch) {
        d->arena.capacity -= ARENA_ALIGN;
        c->op->issue(d, c, t);
        ok = refuses(d, c, ERR_DEVICE_MEMORY, "scratch one line short", f);
        d->arena.capacity += ARENA_ALIGN;
    }
    int runs = rng_one_in(&c->rng, 4) ? 2 : 1;
    unsigned char *first = keep(c, c->memory[Y].size);
    for (int run = 0; ok && run < runs; run++) {
        restore(c);
        d->arena.used = 0;
        d->arena.peak = 0;
        place(d, c, t);
        poison(d, memory, scratch);
        c->op->issue(d, c, t);
        if (d->arena.used != 0 || d->arena.peak != scratch)
            ok = fails(f, "the arena's peak was %zu bytes of scratch, count said %zu", d->arena.peak, scratch);
        if (!device_sync(d, &e))
            ok = fails(f, "failed: %s", e.text);
        fetch(d, c);
        ok = ok && guard_whole(d, (unsigned char *)memory + scratch, f) && unchanged(c, true, f) &&
             compare(c, want, bound, f);
        if (run == 0)
            memcpy(first, c->memory[Y].bytes, c->memory[Y].size);
        else if (ok && memcmp(first, c->memory[Y].bytes, c->memory[Y].size))
            ok = fails(f, "the same call gave other bytes the second time");
    }
    device_sync(d, NULL);
    d->arena = (struct arena){ 0 };
    device_give(d, memory);
    return ok;
}

static void describe(FILE *log, const struct call *c, const char *why, const char *replay)
{
    char text[80];
    fprintf(log, "%s %s: %s\n  ", c->target->name, c->op->name, why);
    for (int s = 0; s < SLOTS; s++)
        if (tensor_present(c->t[s]))
            fprintf(log, "%s%s%s ", s ? "" : "y ", tensor_describe(c->t[s], text, sizeof text),
                    tensor_dense(c->t[s]) ? "" : " strided");
    fprintf(log, "%s act %d%s (%s)\n", c->in_place ? "in place" : "", (int)c->act,
            c->attention.causal ? " causal" : "", c->note);
    if (c->op->issue == issue_conv2d)
        fprintf(log, "  stride %d, padding %d %d %d %d, accumulate %d\n", c->conv.stride, c->conv.top, c->conv.left,
                c->conv.bottom, c->conv.right, (int)c->conv.accumulate);
    fprintf(log, "  SLUICE_SEED=%s %s\n", replay, program_invocation_name);
}

static bool run_case(const struct check_options *o, struct device *d, const struct check_target *target,
                     const struct op_test *op, uint64_t seed, struct err *e)
{
    struct call c;
    struct failure f = { "" };
    call_make(&c, target, op, seed);
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
    bool ok = run_on(d, &c, want, op->bound ? bound : NULL, &f);
    if (!ok) {
        char replay[80];
        snprintf(replay, sizeof replay, "%s:%s:0x%llx", target->name, op->name, (unsigned long long)seed);
        if (o->log)
            describe(o->log, &c, f.text, replay);
        err_set(e, ERR_DEVICE, "%s (SLUICE_SEED=%s)", f.text, replay);
    }
    call_free(d, &c);
    return ok;
}

static bool check_op(const struct check_options *o, struct device *d, const struct check_target *target,
                     const struct op_test *op, struct err *e)
{
    if (o->replay)
        return run_case(o, d, target, op, strtoull(strrchr(o->replay, ':') + 1, NULL, 0), e);
    struct rng seeds = { .state = o->seed };
    for (const char *s = op->name; *s; s++)
        seeds.state = rng_next(&seeds) ^ (unsigned char)*s;
    int failed = 0, rounds = (int)ceilf((float)op->rounds * o->rounds * target->rounds);
    for (int i = 0; i < rounds && failed < 3; i++)
        failed += !run_case(o, d, target, op, rng_next(&seeds) >> 16, e);
    return !failed;
}

/* --- properties -------------------------------------------------------------------------- */
/* Rows, queries and bands of pixels asked for a few at a time, of another device with
 * other threads, are the same bytes as all at once: plans that cut the tokens into chunks
 * paint the same picture. */
struct halves {
    struct device *all, *some; /* the same device, with other threads */
};

static void halves_drop(struct halves *h, const struct check_target *target)
{
    if (h->some)
        target->drop(h->some);
    if (h->all)
        target->drop(h->all);
}

static bool halves_make(struct halves *h, const struct check_target *target, struct err *e)
{
    *h = (struct halves){ 0 };
    if (target->make(target, target->threads, &h->all, e) && target->make(target, 1, &h->some, e))
        return true;
    halves_drop(h, target);
    return false;
}

typedef void issue_rows(struct device *d, const struct call *c, const struct tensor *t, int64_t from, int64_t rows);

static size_t scratch_of(struct device *d, const struct call *c, int64_t rows, issue_rows *issue)
{
    struct count_device count;
    count_device_init(&count, d);
    issue(&count.device, c, c->t, 0, rows);
    return count.device.arena.peak;
}

/* What y is made of, `chunk` rows at a time, into c's host memory. */
static bool make_y(struct device *d, struct device *placer, struct call *c, int64_t chunk, issue_rows *issue,
                   struct err *e)
{
    struct tensor t[SLOTS];
    int64_t m = c->t[Y].shape[0];
    restore(c);
    place(placer, c, t);
    if (!device_sync(placer, e))
        return false;
    for (int64_t from = 0; from < m; from += chunk)
        issue(d, c, t, from, m - from < chunk ? m - from : chunk);
    if (!device_sync(d, e))
        return false;
    fetch(d, c);
    return device_sync(d, e);
}

/* All of the output in c->t[Y], made at once, against `chunk` rows at a time. */
static bool check_rows_of(struct halves *h, struct call *c, const int64_t *chunks, int n, issue_rows *issue,
                          struct err *e)
{
    struct memory *y = &c->memory[Y];
    int64_t m = c->t[Y].shape[0];
    for (int s = 0; s < SLOTS; s++)
        if (tensor_present(c->t[s]))
            memcpy(c->memory[s].before, c->memory[s].bytes, c->memory[s].size);
    size_t scratch = scratch_of(h->all, c, m, issue);
    for (int i = 0; i < n; i++) {
        size_t bytes = chunks[i] < m ? scratch_of(h->some, c, chunks[i], issue) : 0;
        scratch = bytes > scratch ? bytes : scratch;
    }
    unsigned char *once = keep(c, y->size);
    void *memory;
    if (!device_take(h->all, &memory, scratch + ARENA_ALIGN, e))
        return false;
    h->all->arena = h->some->arena = arena_over(memory, scratch);
    bool ok = make_y(h->all, h->all, c, m, issue, e);
    memcpy(once, y->bytes, y->size);
    for (int i = 0; i < n && ok; i++) {
        if (chunks[i] >= m)
            continue;
        ok = make_y(h->some, h->all, c, chunks[i], issue, e);
        if (ok && memcmp(once, y->bytes, y->size)) {
            char text[SLOTS][64] = { 0 };
            for (int s = 0; s < SLOTS; s++)
                tensor_describe(c->t[s], text[s], sizeof text[s]);
            ok = err_set(e, ERR_DEVICE, "y %s of x %s, w %s: %lld rows at a time give other bytes", text[Y], text[X],
                         text[W], (long long)chunks[i]);
        }
    }
    h->all->arena = h->some->arena = (struct arena){ 0 };
    device_give(h->all, memory);
    return ok;
}

static void issue_linear_rows(struct device *d, const struct call *c, const struct tensor *t, int64_t from,
                              int64_t rows)
{
    (void)c;
    device_linear(d, tensor_rows(t[Y], from, rows), tensor_rows(t[X], from, rows), t[W], t[B], ACT_GELU_TANH);
}

static bool check_linear_rows(const struct check_options *o, const struct check_target *target, struct err *e)
{
    static const enum dtype weights[] = { DT_F32, DT_BF16, DT_F16 };
    /* m, n, k: odd; more than one tile of rows; FLUX's last linear; more than one piece of k; deep. */
    static const int64_t shapes[][3] = { { 67, 80, 48 }, { 67, 129, 1031 }, { 301, 600, 256 }, { 35, 64, 3072 },
                                         { 50, 200, 4096 } };
    static const int64_t chunks[] = { 1, 2, 16, 33, 260 };
    struct halves h;
    bool ok = halves_make(&h, target, e);
    for (int i = 0; i < (target->small ? 6 : 15) && ok; i++) {
        const int64_t *mnk = shapes[i / 3];
        struct call c = call_of(target, o->seed + (uint64_t)i);
        operand_2d(&c, X, target->compute, mnk[0], mnk[2]);
        operand_2d(&c, Y, target->compute, mnk[0], mnk[1]);
        operand(&c, W, weights[i % 3], 2, (const int64_t[]){ mnk[1], mnk[2] }, i % 2);
        operand_1d(&c, B, DT_F32, mnk[1]);
        for (int s = X; s <= B; s++)
            fill(&c, (enum slot)s, NORMAL, 1, 1);
        ok = check_rows_of(&h, &c, chunks, 5, issue_linear_rows, e);
        call_free(h.all, &c);
    }
    halves_drop(&h, target);
    return ok;
}

/* The bias of some queries is a view of the whole one: see device.h. */
static void issue_attention_rows(struct device *d, const struct call *c, const struct tensor *t, int64_t from,
                                 int64_t rows)
{
    struct attention a = { .scale = 0.3f };
    int64_t lq = t[X].shape[0], lk = t[W].shape[0];
    (void)c;
    if (tensor_present(t[BIAS]))
        a.bias = tensor_cols(t[BIAS], lq - (from + rows), rows + lk - 1);
    device_attention(d, tensor_rows(t[Y], from, rows), tensor_rows(t[X], from, rows), t[W], t[B], &a);
}

static bool check_attention_rows(const struct check_options *o, const struct check_target *target, struct err *e)
{
    /* Queries, keys, heads and their dimension; of the last shape threads share the head. */
    static const int64_t shapes[][4] = { { 67, 40, 2, 16 }, { 61, 67, 3, 33 }, { 70, 65, 2, 64 }, { 67, 33, 1, 128 },
                                         { 300, 513, 2, 64 }, { 90, 1024, 1, 512 }, { 301, 4099, 1, 48 } };
    static const int64_t chunks[] = { 1, 16, 33, 150 };
    struct halves h;
    bool ok = halves_make(&h, target, e);
    for (int i = 0; i < (target->small ? 8 : 14) && ok; i++) {
        const int64_t *s = shapes[i / 2];
        if (target->small && i % 2 && i > 2)
            continue;
        struct call c = call_of(target, o->seed + (uint64_t)i);
        operand_3d(&c, X, target->compute, s[0], s[2], s[3]);
        operand_3d(&c, Y, target->compute, s[0], s[2], s[3]);
        operand_3d(&c, W, target->compute, s[1], s[2], s[3]);
        operand_like(&c, B, c.t[W]);
        if (i % 2)
            operand_2d(&c, BIAS, DT_F32, s[2], s[0] + s[1] - 1);
        for (int t = X; t <= (i % 2 ? BIAS : B); t++)
            fill(&c, (enum slot)t, NORMAL, 1, 1);
        ok = check_rows_of(&h, &c, chunks, 4, issue_attention_rows, e);
        call_free(h.all, &c);
    }
    halves_drop(&h, target);
    return ok;
}

enum { ROW_NORMS = 3 };

static void issue_norm_rows(struct device *d, const struct call *c, const struct tensor *t, int64_t from,
                            int64_t rows)
{
    struct tensor y = tensor_rows(t[Y], from, rows), x = tensor_rows(t[X], from, rows);
    if (c->act == 0)
        device_norm_modulate(d, y, x, t[W], t[B], c->eps);
    else if (c->act == 1)
        device_layer_norm(d, y, x, t[W], t[B], c->eps);
    else
        device_rms_norm(d, y, x, t[W], c->eps);
}

static bool check_norm_rows(const struct check_options *o, const struct check_target *target, struct err *e)
{
    static const int64_t widths[] = { 63, 256, 3072 }, chunks[] = { 1, 2, 16, 33 };
    struct halves h;
    bool ok = halves_make(&h, target, e);
    for (int i = 0; i < 3 * ROW_NORMS && ok; i++) {
        struct call c = call_of(target, o->seed + (uint64_t)i);
        operand_2d(&c, X, target->compute, 67, widths[i / ROW_NORMS]);
        operand_2d(&c, Y, target->compute, 67, widths[i / ROW_NORMS]);
        operand_1d(&c, W, DT_F32, widths[i / ROW_NORMS]);
        operand_1d(&c, B, DT_F32, widths[i / ROW_NORMS]);
        for (int s = X; s <= B; s++)
            fill(&c, (enum slot)s, NORMAL, 1, 1);
        c.act = (enum act)(i % ROW_NORMS);
        c.eps = 1e-6f;
        ok = check_rows_of(&h, &c, chunks, 4, issue_norm_rows, e);
        call_free(h.all, &c);
    }
    halves_drop(&h, target);
    return ok;
}

/* Rows of y from the rows of x that lie under the kernel, padded where the picture ends. */
static void issue_conv_rows(struct device *d, const struct call *c, const struct tensor *t, int64_t from, int64_t rows)
{
    struct conv2d v = c->conv;
    int64_t first = from * v.stride - v.top, last = (from + rows - 1) * v.stride - v.top + t[W].shape[2] - 1;
    v.top = first < 0 ? (int)-first : 0;
    v.bottom = last >= t[X].shape[0] ? (int)(last - t[X].shape[0] + 1) : 0;
    first += v.top;
    last -= v.bottom;
    device_conv2d(d, tensor_rows(t[Y], from, rows), tensor_rows(t[X], first, last - first + 1), t[W], t[B], &v);
}

static bool check_conv_bands(const struct check_options *o, const struct check_target *target, struct err *e)
{
    /* height, width, inputs, outputs, kernel, stride: the VAE's kinds, and odd ones. */
    static const int64_t shapes[][6] = { { 37, 19, 24, 16, 3, 1 }, { 33, 20, 16, 24, 3, 2 },  { 35, 17, 5, 3, 1, 1 },
                                         { 40, 33, 16, 3, 3, 1 },  { 64, 64, 64, 128, 3, 1 },
                                         { 96, 64, 128, 64, 1, 1 } };
    static const int64_t chunks[] = { 1, 2, 5, 16, 32 };
    struct halves h;
    bool ok = halves_make(&h, target, e);
    for (int i = 0; i < (target->small ? 8 : 12) && ok; i++) {
        const int64_t *s = shapes[i / 2];
        struct call c = call_of(target, o->seed + (uint64_t)i);
        bool halved = s[5] == 2, padded = s[4] == 3; /* FLUX's downsampling is padded right and below only */
        c.conv = (struct conv2d){ .stride = (int)s[5], .top = padded && !halved, .left = padded && !halved,
                                  .bottom = padded, .right = padded, .accumulate = i % 2 };
        int64_t rows = (s[0] + c.conv.top + c.conv.bottom - s[4]) / s[5] + 1;
        int64_t cols = (s[1] + c.conv.left + c.conv.right - s[4]) / s[5] + 1;
        operand(&c, X, target->compute, 3, (const int64_t[]){ s[0], s[1], s[2] }, false);
        operand(&c, W, i % 4 < 2 ? target->compute : DT_F32, 4, (const int64_t[]){ s[3], s[2], s[4], s[4] }, false);
        operand(&c, Y, target->compute, 3, (const int64_t[]){ rows, cols, s[3] }, false);
        operand_1d(&c, B, DT_F32, s[3]);
        for (int t = Y; t <= B; t++)
            fill(&c, (enum slot)t, NORMAL, t == W ? 0.1 : 1, 1);
        ok = check_rows_of(&h, &c, chunks, 5, issue_conv_rows, e);
        call_free(h.all, &c);
    }
    halves_drop(&h, target);
    return ok;
}

/* A picture normalised in bands, whose moments were written in bands, is the same
 * bytes as at once, and is what the definition says: also with a mean far above
 * the deviation, and where rows differ more than pixels do. */
enum { PICTURE_H = 37, PICTURE_W = 19, PICTURE_GROUPS = 4, PICTURE_C = 24, GROUP_SIZE = PICTURE_C / PICTURE_GROUPS };

static bool check_definition(const struct call *c, int kind, struct err *e)
{
    enum { COUNT = PICTURE_H * PICTURE_W * GROUP_SIZE };
    static double values[COUNT];
    for (int channel = 0; channel < PICTURE_C; channel++) {
        for (int i = 0; i < COUNT; i++)
            values[i] = load(c->t[X], i / GROUP_SIZE * PICTURE_C + channel / GROUP_SIZE * GROUP_SIZE + i % GROUP_SIZE);
        struct moments want = moments_of(values, COUNT);
        double scale = 1 / sqrt(want.variance + 1e-6), allowed = 1e-4 + (kind == 1 ? 6e-3 : 0);
        /* 6e-3: x / its unit roundoff, twice */
        for (int i = channel; i < PICTURE_H * PICTURE_W * PICTURE_C; i += PICTURE_C) {
            double off = load(c->t[Y], i) - (load(c->t[X], i) - want.mean) * scale * load(c->t[W], channel) -
                         load(c->t[B], channel);
            if (!(fabs(off) <= allowed))
                return err_set(e, ERR_DEVICE, "values of kind %d: element %d is %g", kind, i, load(c->t[Y], i));
        }
    }
    return true;
}

static bool norm_in_bands(struct device *d, struct call *c, int64_t rows, struct err *e)
{
    struct tensor t[SLOTS];
    restore(c);
    place(d, c, t);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t from = 0; from < PICTURE_H; from += rows) {
            int64_t n = PICTURE_H - from < rows ? PICTURE_H - from : rows;
            struct tensor part = tensor_rows(t[X], from, n);
            if (pass)
                device_group_norm(d, tensor_rows(t[Y], from, n), part, t[BIAS], t[W], t[B], 1e-6f, ACT_NONE);
            else
                device_group_moments(d, tensor_rows(t[BIAS], from, n), part);
        }
    fetch(d, c);
    return device_sync(d, e);
}

static bool check_norm_bands(const struct check_options *o, const struct check_target *target, struct err *e)
{
    static const int64_t heights[] = { 1, 2, 5, 16, 36 };
    struct device *d;
    if (!target->make(target, target->threads, &d, e))
        return false;
    bool ok = true;
    for (int kind = 0; kind < 3 && ok; kind++) {
        struct call c = call_of(target, o->seed + (uint64_t)kind);
        const int64_t shape[] = { PICTURE_H, PICTURE_W, PICTURE_C };
        operand(&c, X, DT_F32, 3, shape, false);
        operand(&c, Y, DT_F32, 3, shape, false);
        operand(&c, BIAS, DT_F32, 3, (const int64_t[]){ PICTURE_H, PICTURE_GROUPS, 2 }, false);
        operand_1d(&c, W, DT_F32, PICTURE_C);
        operand_1d(&c, B, DT_F32, PICTURE_C);
        for (int64_t i = 0; i < tensor_count(c.t[X]); i++) {
            double normal = rng_normal(&c.rng), row = (double)(i / (PICTURE_W * PICTURE_C));
            store(c.t[X], i, kind == 0 ? normal : kind == 1 ? 3000 + normal : row + 0.01 * normal);
        }
        fill(&c, W, NORMAL, 1, 1);
        fill(&c, B, NORMAL, 1, 1);
        for (int s = 0; s < SLOTS; s++)
            memcpy(c.memory[s].before, c.memory[s].bytes, c.memory[s].size);
        struct memory *y = &c.memory[Y], *moments = &c.memory[BIAS];
        unsigned char *whole = keep(&c, y->size), *whole_moments = keep(&c, moments->size);
        ok = norm_in_bands(d, &c, PICTURE_H, e) && check_definition(&c, kind, e);
        memcpy(whole, y->bytes, y->size);
        memcpy(whole_moments, moments->bytes, moments->size);
        for (int i = 0; i < 5 && ok; i++) {
            ok = norm_in_bands(d, &c, heights[i], e);
            if (ok && (memcmp(whole, y->bytes, y->size) || memcmp(whole_moments, moments->bytes, moments->size)))
                ok = err_set(e, ERR_DEVICE, "values of kind %d: bands of %lld rows give other bytes", kind,
                             (long long)heights[i]);
        }
        call_free(d, &c);
    }
    target->drop(d);
    return ok;
}

/* Arena exhausted in the middle of a chain: an error at sync, never a crash,
 * and the device can be used again. */
static void chain(struct device *d, struct tensor w)
{
    enum { M = 33 };
    int64_t n = w.shape[0];
    struct tensor none = { 0 };
    size_t mark = device_mark(d);
    struct tensor x = device_matrix(d, d->compute, M, n);
    device_copy(d, x, tensor_rows(w, 0, M));
    struct tensor y = device_matrix(d, d->compute, M, n);
    device_linear(d, y, x, w, none, ACT_SILU);
    struct tensor q = tensor_split(y, 2, n / 2), o = device_image(d, d->compute, M, 2, n / 2);
    device_attention(d, o, q, q, q, &(struct attention){ .scale = 1 });
    device_add(d, y, tensor_as_2d(o, M, n));
    device_release(d, mark);
}

static bool check_exhaustion(const struct check_options *o, const struct check_target *target, struct err *e)
{
    enum { N = 64, TRIES = 48 };
    struct device *d;
    if (!target->make(target, target->threads, &d, e))
        return false;
    struct call c = call_of(target, o->seed);
    operand(&c, W, DT_F32, 2, (const int64_t[]){ N, N }, false);
    fill(&c, W, NORMAL, 0.01, 1);
    struct count_device count;
    count_device_init(&count, d);
    chain(&count.device, c.t[W]);
    size_t peak = count.device.arena.peak;
    struct tensor t[SLOTS];
    void *memory = NULL;
    place(d, &c, t);
    bool ok = device_sync(d, e) && device_take(d, &memory, peak, e);
    for (int i = 0; i <= TRIES + 1 && ok; i++) {
        size_t capacity = i < TRIES ? peak * (size_t)i / TRIES : i == TRIES ? peak - ARENA_ALIGN : peak;
        struct err found = { 0 };
        d->arena = arena_over(memory, capacity);
        chain(d, t[W]);
        bool went = device_sync(d, &found);
        if (went != (capacity == peak) || (!went && found.kind != ERR_DEVICE_MEMORY) || d->arena.used)
            ok = err_set(e, ERR_DEVICE, "in %zu of the %zu bytes that it takes: %s, %zu kept", capacity, peak,
                         went ? "no error" : found.text, d->arena.used);
    }
    device_give(d, memory);
    call_free(d, &c);
    target->drop(d);
    return ok;
}

static bool check_embed_range(const struct check_options *o, const struct check_target *target, struct err *e)
{
    static const int32_t bad[] = { -1, 4, INT32_MAX, INT32_MIN };
    struct device *d;
    if (!target->make(target, target->threads, &d, e))
        return false;
    struct call c = call_of(target, o->seed);
    float table[12] = { 0 };
    struct tensor t[SLOTS];
    operand(&c, Y, DT_F32, 2, (const int64_t[]){ 2, 3 }, false);
    place(d, &c, t);
    bool ok = device_sync(d, e);
    for (int i = 0; i < 4 && ok; i++) {
        const int32_t ids[] = { 0, bad[i] };
        struct err found = { 0 };
        device_embed(d, t[Y], tensor_2d(table, DT_F32, 4, 3), ids);
        if (device_sync(d, &found) || found.kind != ERR_INPUT)
            ok = err_set(e, ERR_DEVICE, "token id %d of 4 was taken", (int)bad[i]);
    }
    call_free(d, &c);
    target->drop(d);
    return ok;
}

/* --- all of them ---------------------------------------------------------------------------- */
static const struct {
    const char *name;
    bool (*run)(const struct check_options *o, const struct check_target *target, struct err *e);
} properties[] = { { "linear_rows", check_linear_rows }, { "attention_rows", check_attention_rows },
                   { "norm_rows", check_norm_rows },     { "conv_bands", check_conv_bands },
                   { "norm_bands", check_norm_bands },   { "exhaustion", check_exhaustion },
                   { "embed_range", check_embed_range } };
enum { PROPERTIES = sizeof properties / sizeof *properties };

struct check_options check_options_from_environment(void)
{
    const char *seed = getenv("SLUICE_SEED"), *rounds = getenv("SLUICE_ROUNDS");
    struct check_options o = { .seed = 1, .rounds = 1, .only = getenv("SLUICE_ONLY"), .log = stderr };
    if (seed && strchr(seed, ':'))
        o.replay = seed;
    else if (seed)
        o.seed = strtoull(seed, NULL, 0);
    if (rounds && atof(rounds) > 0)
        o.rounds = (float)atof(rounds);
    return o;
}

int check_count(void) { return OP_TESTS + PROPERTIES; }

const char *check_name(int check)
{
    return check < OP_TESTS ? op_tests[check].name : properties[check - OP_TESTS].name;
}

bool check_wanted(const struct check_options *o, const struct check_target *t, int check)
{
    char name[80];
    int n = snprintf(name, sizeof name, "%s:%s", t->name, check_name(check));
    if (o->replay)
        return check < OP_TESTS && !strncmp(o->replay, name, (size_t)n) && o->replay[n] == ':';
    return !o->only || !strncmp(name, o->only, strlen(o->only));
}

bool check_run(const struct check_options *o, const struct check_target *t, int check, struct err *e)
{
    if (check >= OP_TESTS)
        return properties[check - OP_TESTS].run(o, t, e);
    struct device *d;
    if (!t->make(t, t->threads, &d, e))
        return false;
    bool ok = check_op(o, d, t, &op_tests[check], e);
    t->drop(d);
    return ok;
}
