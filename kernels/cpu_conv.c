/* cpu_conv.c - convolution on the processor: oneDNN on [height, width,
 * channels] pictures. The weights lie in the file as [O, I, kh, kw]; for each
 * call they are copied into the layout that oneDNN likes, in scratch: a few
 * percent of the time of the smallest picture, and no second copy is kept. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <string.h>

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

size_t cpu_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w, const struct conv2d *v)
{
    size_t library = 0;
    cpu_cache_trim(cpu_of(d));
    for (int bias = 0; bias < 2; bias++) {
        const struct cpu_primitive *p = plan(cpu_of(d), y, x, w, bias, v, false);
        size_t bytes = p ? cpu_round(p->weights_bytes) + cpu_round(p->scratch_bytes) : 0;
        library = bytes > library ? bytes : library;
    }
    return cpu_round((size_t)w.shape[0] * sizeof(float)) + widened_bytes(x, w) + library;
}

void cpu_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                const struct conv2d *v, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
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
    if (!device_ok(d))
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
