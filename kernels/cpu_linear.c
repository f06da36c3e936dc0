/* cpu_linear.c - y = act(x w^T + b) on the processor.
 *
 * Weights of the type that x has are multiplied where they lie (a mapped file,
 * rows of inputs: oneDNN's "ba"); repacking them first was measured and is
 * slower for the row counts of a picture (tests/bench/NOTES.md). Weights of
 * another type are converted into scratch, 1536 outputs at a time: with fewer
 * oneDNN's GEMM loses up to a third. Pieces are cut by the weight's shape only, so a
 * row's result does not depend on how many rows are asked for at once. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <string.h>

enum {
    PIECE_DIRECT = 3072,   /* outputs in one GEMM of F32 weights: more falls out of the cache */
    PIECE_CONVERTED = 1536,
};

static bool converts(struct tensor x, struct tensor w)
{
    return w.dtype != x.dtype;
}

static int64_t piece_outputs(struct tensor x, struct tensor w)
{
    int64_t n = w.shape[0];
    int64_t most = converts(x, w) ? PIECE_CONVERTED : x.dtype == DT_F32 ? PIECE_DIRECT : n;
    return most < n ? most : n;
}

struct cpu_primitive *cpu_gemm_plan(struct cpu_device *c, const struct cpu_gemm *g, bool compile)
{
    struct cpu_key key;
    memset(&key, 0, sizeof key);
    key.kind = CPU_MATMUL;
    key.src = key.weights = cpu_dnnl_type(g->type);
    key.dst = cpu_dnnl_type(g->y_type);
    key.bias = g->bias;
    key.act = g->act;
    key.packed = g->packed;
    key.threads = c->threads;
    key.m = g->m;
    key.n = g->n;
    key.k = g->k;
    key.src_row = g->x_stride;
    key.weights_row = g->w_stride;
    key.weights_col = g->w_step;
    key.dst_row = g->y_stride;
    struct cpu_primitive *p = cpu_primitive(c, &key);
    return p && (!compile || cpu_compile(c, p)) ? p : NULL;
}

void cpu_gemm_run(struct cpu_device *c, const struct cpu_primitive *p, void *y, const void *x, const void *w,
                  const float *b, void *scratch)
{
    const dnnl_memory_desc_t *md[5] = {
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_src_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_dst_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0),
        dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 1),
    };
    cpu_execute(c, p->primitive, b ? 5 : 4,
                (const int[]){ DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS }, md,
                (void *const[]){ (void *)(uintptr_t)x, (void *)(uintptr_t)w, y, scratch, (void *)(uintptr_t)b }, "matmul");
}

static struct cpu_gemm gemm_of(struct tensor y, struct tensor x, struct tensor w, int64_t outputs, bool bias,
                               enum act act)
{
    return (struct cpu_gemm){
        .m = x.shape[0], .n = outputs, .k = x.shape[1], .type = x.dtype, .y_type = y.dtype,
        .x_stride = x.stride[0], .w_stride = converts(x, w) ? x.shape[1] : w.stride[0], .w_step = 1,
        .y_stride = y.stride[0], .act = act, .bias = bias,
    };
}

/* Of the whole pieces; the last, smaller one asks for no more. */
size_t cpu_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    int64_t piece = piece_outputs(x, w);
    size_t bytes = cpu_round((size_t)w.shape[0] * sizeof(float));
    if (converts(x, w))
        bytes += cpu_round((size_t)(piece * x.shape[1]) * dtype_bytes(x.dtype));
    size_t library = 0;
    for (int last = 0; last < 2; last++) {
        int64_t outputs = last ? w.shape[0] % piece : piece;
        for (int bias = 0; outputs && bias < 2; bias++) {
            struct cpu_gemm g = gemm_of(y, x, w, outputs, bias, ACT_NONE);
            const struct cpu_primitive *p = cpu_gemm_plan(cpu_of(d), &g, false);
            if (p && p->scratch_bytes > library)
                library = p->scratch_bytes;
        }
    }
    return bytes + cpu_round(library);
}

static void widen(void *to, enum dtype t, struct tensor w, int64_t from, int64_t n)
{
    int64_t k = w.shape[1];
#pragma omp parallel
    {
        float row[512];
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; i++) {
            struct tensor source = tensor_rows(w, from + i, 1);
            const char *in = source.data;
            char *out = (char *)to + (size_t)(i * k) * dtype_bytes(t);
            if (t == DT_F32)
                vec_load((float *)(void *)out, in, w.dtype, k);
            else
                for (int64_t j = 0; j < k; j += 512) {
                    int64_t m = k - j < 512 ? k - j : 512;
                    vec_load(row, in + (size_t)j * dtype_bytes(w.dtype), w.dtype, m);
                    vec_store(out + (size_t)j * dtype_bytes(t), t, row, m);
                }
        }
    }
}

void cpu_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                enum act act, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
    int64_t piece = piece_outputs(x, w);
    float *bias = scratch;
    char *next = (char *)scratch + cpu_round((size_t)w.shape[0] * sizeof(float));
    char *converted = next;
    if (converts(x, w))
        next += cpu_round((size_t)(piece * x.shape[1]) * dtype_bytes(x.dtype));
    if (tensor_present(b))
        vec_load(bias, b.data, b.dtype, b.shape[0]);
    for (int64_t from = 0; from < w.shape[0] && device_ok(d); from += piece) {
        int64_t n = w.shape[0] - from < piece ? w.shape[0] - from : piece;
        struct cpu_gemm g = gemm_of(y, x, w, n, tensor_present(b), act);
        struct cpu_primitive *p = cpu_gemm_plan(c, &g, true);
        if (!p)
            return;
        void *weights = tensor_rows(w, from, n).data;
        if (converts(x, w)) {
            widen(converted, x.dtype, w, from, n);
            weights = converted;
        }
        cpu_gemm_run(c, p, tensor_cols(y, from, n).data, x.data, weights, tensor_present(b) ? bias + from : NULL, next);
    }
}
