/* cpu_conv.c - convolution on the processor: oneDNN on [height, width,
 * channels] pictures. The weights lie in the file as [O, I, kh, kw]; for each
 * call they are copied into the layout that oneDNN likes, in scratch: a few
 * percent of the time of the smallest picture, and no second copy is kept.
 * F16 pictures are widened to F32 in scratch, a band of rows at a time. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <string.h>

enum { BAND_BYTES = 16 * 1024 * 1024 }; /* of widened x and y */

static struct cpu_primitive *plan(struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w, bool bias,
                                  const struct conv2d *v, bool compile)
{
    struct cpu_key key;
    memset(&key, 0, sizeof key);
    key.kind = CPU_CONV;
    key.src = cpu_dnnl_type(x.dtype);
    /* F16 weights are widened to x's type first: this oneDNN has no F16. */
    key.weights = cpu_dnnl_type(w.dtype == DT_F16 ? x.dtype : w.dtype);
    key.dst = cpu_dnnl_type(y.dtype);
    key.bias = bias;
    key.accumulate = v->accumulate;
    key.threads = c->threads;
    key.m = x.shape[0];
    key.n = x.shape[1];
    key.k = x.shape[2];
    key.src_row = w.shape[0];
    key.src_col = w.shape[2];
    key.weights_row = w.shape[3];
    key.weights_col = v->stride;
    key.top = v->top;
    key.left = v->left;
    key.bottom = v->bottom;
    key.right = v->right;
    struct cpu_primitive *p = cpu_primitive(c, &key);
    return p && (!compile || cpu_compile(c, p)) ? p : NULL;
}

static size_t widened_bytes(struct tensor x, struct tensor w)
{
    return w.dtype == DT_F16 ? cpu_round((size_t)tensor_count(w) * dtype_bytes(x.dtype)) : 0;
}

static size_t plain_scratch(struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w,
                            const struct conv2d *v)
{
    size_t library = 0;
    for (int bias = 0; bias < 2; bias++) {
        const struct cpu_primitive *p = plan(c, y, x, w, bias, v, false);
        size_t bytes = p ? cpu_round(p->weights_bytes) + cpu_round(p->scratch_bytes) : 0;
        library = bytes > library ? bytes : library;
    }
    return cpu_round((size_t)w.shape[0] * sizeof(float)) + widened_bytes(x, w) + library;
}

/* Rows [from, from + n) of y as a convolution of its own: the rows of x that it
 * sees, and the padding that is left to it. */
static struct conv2d band_of(struct tensor *y, struct tensor *x, struct tensor w, const struct conv2d *v, int64_t from,
                             int64_t n)
{
    struct conv2d band = *v;
    int64_t first = from * v->stride - v->top, end = (from + n - 1) * v->stride - v->top + w.shape[2];
    band.top = first < 0 ? (int)-first : 0;
    band.bottom = end > x->shape[0] ? (int)(end - x->shape[0]) : 0;
    first += band.top;
    *x = tensor_rows(*x, first, end - band.bottom - first);
    *y = tensor_rows(*y, from, n);
    return band;
}

static int64_t band_rows(struct tensor y, struct tensor x, const struct conv2d *v)
{
    int64_t row = (int64_t)sizeof(float) * (x.shape[1] * x.shape[2] * v->stride + y.shape[1] * y.shape[2]);
    int64_t n = BAND_BYTES / row;
    return n < 1 ? 1 : n < y.shape[0] ? n : y.shape[0];
}

/* The same view of F32, dense at data. */
static struct tensor wide(struct tensor t, void *data)
{
    return tensor_3d(data, DT_F32, t.shape[0], t.shape[1], t.shape[2]);
}

size_t cpu_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w, const struct conv2d *v)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
    if (x.dtype != DT_F16)
        return plain_scratch(c, y, x, w, v);
    int64_t n = band_rows(y, x, v);
    size_t most = 0;
    for (int64_t from = 0; from < y.shape[0]; from += n) {
        struct tensor yb = y, xb = x;
        struct conv2d band = band_of(&yb, &xb, w, v, from, from + n < y.shape[0] ? n : y.shape[0] - from);
        struct tensor yw = wide(yb, NULL), xw = wide(xb, NULL);
        size_t bytes = cpu_round(tensor_bytes(xw)) + cpu_round(tensor_bytes(yw)) + plain_scratch(c, yw, xw, w, &band);
        most = bytes > most ? bytes : most;
    }
    return most;
}

static void plain_conv2d(struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                         const struct conv2d *v, void *scratch)
{
    struct cpu_primitive *p = plan(c, y, x, w, tensor_present(b), v, true);
    if (!p)
        return;
    float *bias = scratch;
    char *widened = (char *)scratch + cpu_round((size_t)w.shape[0] * sizeof(float));
    char *weights = widened + widened_bytes(x, w);
    char *pad = weights + cpu_round(p->weights_bytes);
    if (tensor_present(b))
        vec_load(bias, b.data, b.dtype, b.shape[0]);
    void *plain = w.data;
    if (w.dtype == DT_F16) {
        int64_t row = w.shape[1] * w.shape[2] * w.shape[3];
        for (int64_t o = 0; o < w.shape[0]; o++) {
            float values[row];
            vec_load(values, (const uint16_t *)w.data + o * row, DT_F16, row);
            vec_store(widened + (size_t)(o * row) * dtype_bytes(x.dtype), x.dtype, values, row);
        }
        plain = widened;
    }
    cpu_pack_weights(c, p, weights, plain);
    if (!device_ok(&c->device))
        return;
    const dnnl_memory_desc_t *md[5] = {
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_src_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_dst_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 1),
    };
    cpu_execute(c, p->primitive, tensor_present(b) ? 5 : 4,
        (const int[]){ DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS },
        md, (void *const[]){ x.data, weights, y.data, pad, bias }, "convolution");
}

static void convert(struct tensor y, struct tensor x)
{
    int64_t row = x.shape[1] * x.shape[2];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.shape[0]; i++)
        vec_convert(tensor_rows(y, i, 1).data, y.dtype, tensor_rows(x, i, 1).data, x.dtype, row);
}

void cpu_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                const struct conv2d *v, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
    if (x.dtype != DT_F16) {
        plain_conv2d(c, y, x, w, b, v, scratch);
        return;
    }
    int64_t n = band_rows(y, x, v);
    for (int64_t from = 0; from < y.shape[0] && device_ok(d); from += n) {
        struct tensor yb = y, xb = x;
        struct conv2d band = band_of(&yb, &xb, w, v, from, from + n < y.shape[0] ? n : y.shape[0] - from);
        struct tensor xw = wide(xb, scratch);
        struct tensor yw = wide(yb, (char *)scratch + cpu_round(tensor_bytes(xw)));
        convert(xw, xb);
        if (v->accumulate)
            convert(yw, yb);
        plain_conv2d(c, yw, xw, w, b, &band, (char *)yw.data + cpu_round(tensor_bytes(yw)));
        convert(yb, yw);
    }
}
