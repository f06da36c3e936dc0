/* ref.c - see ref.h. Every operation as its definition in device.h, nothing
 * shared between elements but what the definition shares. */
#include "kernels/ref.h"

#include <math.h>
#include <string.h>

/* Elements are addressed by their indices; a missing one is 0 with stride 0,
 * so that one pair of functions serves vectors, matrices and pictures. */
static int64_t at(struct tensor t, int64_t i, int64_t j, int64_t k)
{
    const int64_t index[3] = { i, j, k };
    int64_t n = 0;
    for (int a = 0; a < t.ndim; a++)
        n += index[a] * t.stride[a];
    return n;
}

static double get(struct tensor t, int64_t i, int64_t j, int64_t k)
{
    return dtype_load(t.data, t.dtype, at(t, i, j, k));
}

static void put(struct tensor t, int64_t i, int64_t j, int64_t k, double v)
{
    if (t.dtype == DT_F16 && isfinite(v))
        v = fmax(fmin(v, 65504), -65504);
    dtype_store(t.data, t.dtype, at(t, i, j, k), v);
}

double ref_act(enum act act, double x)
{
    switch (act) {
    case ACT_NONE: return x;
    case ACT_SILU: return x / (1 + exp(-x));
    case ACT_QUICK_GELU: return x / (1 + exp(-1.702 * x));
    case ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF: return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACT_RELU: return x < 0 ? 0 : x;
    }
    return NAN;
}

static size_t no_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    (void)d, (void)y, (void)x, (void)w;
    return 0;
}

static void linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   enum act act, void *scratch)
{
    (void)d, (void)scratch;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++) {
            double sum = tensor_present(b) ? get(b, j, 0, 0) : 0;
            for (int64_t k = 0; k < x.shape[1]; k++)
                sum += get(x, i, k, 0) * get(w, j, k, 0);
            put(y, i, j, 0, ref_act(act, sum));
        }
}

static size_t attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    (void)d, (void)o, (void)q;
    return (size_t)k.shape[0] * sizeof(double);
}

static void attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                      const struct attention *a, void *scratch)
{
    (void)d;
    int64_t lq = q.shape[0], heads = q.shape[1], dim = q.shape[2];
    double *p = scratch;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < lq; i++) {
            int64_t columns = a->causal ? i + 1 : k.shape[0];
            double max = -INFINITY, total = 0;
            for (int64_t j = 0; j < columns; j++) {
                double dot = 0;
                for (int64_t c = 0; c < dim; c++)
                    dot += get(q, i, h, c) * get(k, j, h, c);
                p[j] = dot * (double)a->scale;
                if (tensor_present(a->bias))
                    p[j] += get(a->bias, h, j - i + lq - 1, 0);
                if (p[j] > max)
                    max = p[j];
            }
            for (int64_t j = 0; j < columns; j++) {
                p[j] = exp(p[j] - max);
                total += p[j];
            }
            for (int64_t c = 0; c < dim; c++) {
                double sum = 0;
                for (int64_t j = 0; j < columns; j++)
                    sum += p[j] * get(v, j, h, c);
                put(o, i, h, c, sum / total);
            }
        }
}

static size_t no_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w,
                                const struct conv2d *c)
{
    (void)d, (void)y, (void)x, (void)w, (void)c;
    return 0;
}

static void conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   const struct conv2d *c, void *scratch)
{
    (void)d, (void)scratch;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            for (int64_t o = 0; o < y.shape[2]; o++) {
                double sum = tensor_present(b) ? get(b, o, 0, 0) : 0;
                for (int64_t p = 0; p < w.shape[2]; p++)
                    for (int64_t q = 0; q < w.shape[3]; q++) {
                        int64_t r = i * c->stride - c->top + p, s = j * c->stride - c->left + q;
                        if (r < 0 || r >= x.shape[0] || s < 0 || s >= x.shape[1])
                            continue;
                        for (int64_t n = 0; n < x.shape[2]; n++) {
                            int64_t weight = o * w.stride[0] + n * w.stride[1] + p * w.stride[2] +
                                             q * w.stride[3];
                            sum += get(x, r, s, n) * dtype_load(w.data, w.dtype, weight);
                        }
                    }
                put(y, i, j, o, c->accumulate ? get(y, i, j, o) + sum : sum);
            }
}

static void group_moments(struct device *d, struct tensor moments, struct tensor x)
{
    (void)d;
    int64_t width = x.shape[1], groups = moments.shape[1], size = x.shape[2] / groups;
    double n = (double)(width * size);
    for (int64_t i = 0; i < x.shape[0]; i++)
        for (int64_t g = 0; g < groups; g++) {
            double mean = 0, square = 0;
            for (int64_t j = 0; j < width; j++)
                for (int64_t c = g * size; c < (g + 1) * size; c++)
                    mean += get(x, i, j, c) / n;
            for (int64_t j = 0; j < width; j++)
                for (int64_t c = g * size; c < (g + 1) * size; c++)
                    square += pow(get(x, i, j, c) - mean, 2);
            put(moments, i, g, 0, mean);
            put(moments, i, g, 1, square);
        }
}

/* The picture's mean is the mean of its rows' means, as all rows are of one length;
 * its deviations are those within the rows and those of the rows' means. */
static void group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act)
{
    (void)d;
    int64_t rows = moments.shape[0], groups = moments.shape[1], size = x.shape[2] / groups;
    double n = (double)(x.shape[1] * size);
    for (int64_t g = 0; g < groups; g++) {
        double mean = 0, square = 0;
        for (int64_t i = 0; i < rows; i++)
            mean += get(moments, i, g, 0) / (double)rows;
        for (int64_t i = 0; i < rows; i++)
            square += get(moments, i, g, 1) + n * pow(get(moments, i, g, 0) - mean, 2);
        double scale = 1 / sqrt(square / (n * (double)rows) + (double)eps);
        for (int64_t i = 0; i < x.shape[0]; i++)
            for (int64_t j = 0; j < x.shape[1]; j++)
                for (int64_t c = g * size; c < (g + 1) * size; c++) {
                    double normal = (get(x, i, j, c) - mean) * scale;
                    put(y, i, j, c, ref_act(act, normal * get(w, c, 0, 0) + get(b, c, 0, 0)));
                }
    }
}

/* y = layer_norm(x) * (plus + w) + b: both affine norms. */
static void affine_norm(struct tensor y, struct tensor x, double plus, struct tensor w, struct tensor b,
                        double eps)
{
    double n = (double)x.shape[1];
    for (int64_t i = 0; i < x.shape[0]; i++) {
        double mean = 0, variance = 0;
        for (int64_t j = 0; j < x.shape[1]; j++)
            mean += get(x, i, j, 0) / n;
        for (int64_t j = 0; j < x.shape[1]; j++)
            variance += pow(get(x, i, j, 0) - mean, 2) / n;
        double scale = 1 / sqrt(variance + eps);
        for (int64_t j = 0; j < x.shape[1]; j++)
            put(y, i, j, 0,
                (get(x, i, j, 0) - mean) * scale * (plus + get(w, j, 0, 0)) + get(b, j, 0, 0));
    }
}

static void norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                          struct tensor shift, float eps)
{
    (void)d;
    affine_norm(y, x, 1, scale, shift, (double)eps);
}

static void layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                       float eps)
{
    (void)d;
    affine_norm(y, x, 0, w, b, (double)eps);
}

static void rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    (void)d;
    for (int64_t i = 0; i < x.shape[0]; i++) {
        double square = 0;
        for (int64_t j = 0; j < x.shape[1]; j++)
            square += pow(get(x, i, j, 0), 2);
        double scale = 1 / sqrt(square / (double)x.shape[1] + (double)eps);
        for (int64_t j = 0; j < x.shape[1]; j++)
            put(y, i, j, 0, get(x, i, j, 0) * scale * get(w, j, 0, 0));
    }
}

static void qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    (void)d;
    int64_t dim = x.shape[2];
    for (int64_t l = 0; l < x.shape[0]; l++)
        for (int64_t h = 0; h < x.shape[1]; h++) {
            double square = 0;
            for (int64_t c = 0; c < dim; c++)
                square += pow(get(x, l, h, c), 2);
            double scale = 1 / sqrt(square / (double)dim + (double)eps);
            for (int64_t c = 0; c < dim; c += 2) {
                double re = get(x, l, h, c) * scale * get(w, c, 0, 0);
                double im = get(x, l, h, c + 1) * scale * get(w, c + 1, 0, 0);
                double cosine = get(rope, l, c, 0), sine = get(rope, l, c + 1, 0);
                put(x, l, h, c, re * cosine - im * sine);
                put(x, l, h, c + 1, re * sine + im * cosine);
            }
        }
}

static void activate(struct device *d, struct tensor y, struct tensor x, enum act act)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, ref_act(act, get(x, i, j, 0)));
}

static void add(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, get(y, i, j, 0) + get(x, i, j, 0));
}

static void multiply(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, get(y, i, j, 0) * get(x, i, j, 0));
}

static void gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, get(y, i, j, 0) + get(gate, j, 0, 0) * get(x, i, j, 0));
}

static void embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, get(table, ids[i], j, 0));
}

static void upsample2x(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            for (int64_t c = 0; c < y.shape[2]; c++)
                put(y, i, j, c, get(x, i / 2, j / 2, c));
}

static void copy(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    for (int64_t i = 0; i < y.shape[0]; i++)
        for (int64_t j = 0; j < y.shape[1]; j++)
            put(y, i, j, 0, get(x, i, j, 0));
}

static void upload(struct device *d, struct tensor y, const void *host)
{
    (void)d;
    memcpy(y.data, host, tensor_bytes(y));
}

static void download(struct device *d, void *host, struct tensor x)
{
    (void)d;
    memcpy(host, x.data, tensor_bytes(x));
}

static void sync(struct device *d)
{
    (void)d;
}

static const struct device_ops ops = {
    .name = "ref",
    .linear_scratch = no_linear_scratch,
    .linear = linear,
    .attention_scratch = attention_scratch,
    .attention = attention,
    .conv2d_scratch = no_conv2d_scratch,
    .conv2d = conv2d,
    .group_moments = group_moments,
    .group_norm = group_norm,
    .norm_modulate = norm_modulate,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .qk_norm_rope = qk_norm_rope,
    .activate = activate,
    .add = add,
    .multiply = multiply,
    .gated_add = gated_add,
    .embed = embed,
    .upsample2x = upsample2x,
    .copy = copy,
    .upload = upload,
    .download = download,
    .sync = sync,
};

void ref_device_init(struct device *d, enum dtype compute)
{
    *d = (struct device){ .ops = &ops, .compute = compute };
}
