/* cpu_conv.c - convolution on the processor: oneDNN on [height, width,
 * channels] pictures. The weights lie in the file as [O, I, kh, kw]; for each
 * call they are copied into the layout that oneDNN likes, in scratch: a few
 * percent of the time of the smallest picture, and no second copy is kept. A
 * picture is worked through in pieces of some rows; its result does not depend on
 * them, nor on the number of threads. What oneDNN cannot multiply (cpu_product_type)
 * is widened to F32, pieces and weights. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <omp.h>
#include <string.h>

/* Weights that must be converted to the type in which x is multiplied first. */
static bool widens(struct tensor w)
{
    return cpu_product_type(w.dtype) != w.dtype;
}

/* Always with a bias, of zeros where there is none: half as many plans, which take a fifth of a millisecond each. */
static struct cpu_primitive *plan(struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w,
                                  const struct conv2d *v, bool compile)
{
    struct cpu_key key;
    memset(&key, 0, sizeof key);
    key.kind = CPU_CONV;
    key.src = cpu_dnnl_type(cpu_product_type(x.dtype));
    key.weights = cpu_dnnl_type(widens(w) ? cpu_product_type(x.dtype) : w.dtype);
    key.dst = cpu_dnnl_type(cpu_product_type(y.dtype));
    key.bias = true;
    key.accumulate = v->accumulate;
    key.threads = c->gemm_conv ? 1 : c->threads;
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
    return widens(w) ? cpu_round((size_t)tensor_count(w) * dtype_bytes(cpu_product_type(x.dtype))) : 0;
}

/* A convolution goes some rows at a time: the kernels chosen (cpu_device.c) are up to a tenth
 * faster where a piece stays in the cache, and their sums do not depend on its height. */
enum { PIECE_BYTES = 512 * 1024 }; /* of x, for each thread; a row at least */

static int64_t piece_rows(const struct cpu_device *c, struct tensor x, const struct conv2d *v)
{
    int64_t rows = PIECE_BYTES / (int64_t)tensor_bytes(tensor_rows(x, 0, 1)) / v->stride;
    return c->gemm_conv ? 1 : (rows > 1 ? rows : 1) * c->threads;
}

/* The largest that any piece wants, of oneDNN and of x and y widened; 0 where they need not be:
 * the first, one from the middle and the last tell. */
struct wants { size_t weights, pad, x, y; };

static size_t wide_bytes(struct tensor t)
{
    return cpu_product_type(t.dtype) != t.dtype ? cpu_round((size_t)tensor_count(t) * sizeof(float)) : 0;
}

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static struct wants wants_of(struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w,
                             const struct conv2d *v)
{
    int64_t rows = piece_rows(c, x, v), last = (y.shape[0] - 1) / rows;
    const int64_t at[] = { 0, last > 1, last };
    struct wants most = { 0 };
    for (int i = 0; i < 3; i++) {
        struct conv2d_rows piece = conv2d_rows(y, x, w, v, at[i] * rows, rows);
        const struct cpu_primitive *p = plan(c, piece.y, piece.x, w, &piece.v, false);
        if (!p)
            break;
        most.weights = larger(most.weights, cpu_round(p->weights_bytes));
        most.pad = larger(most.pad, cpu_round(p->scratch_bytes));
        most.x = larger(most.x, wide_bytes(piece.x));
        most.y = larger(most.y, wide_bytes(piece.y));
    }
    return most;
}

size_t cpu_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w, const struct conv2d *v)
{
    cpu_cache_trim(cpu_of(d));
    struct wants most = wants_of(cpu_of(d), y, x, w, v);
    return cpu_round((size_t)w.shape[0] * sizeof(float)) + widened_bytes(x, w) + most.weights + most.pad +
           most.x + most.y;
}

static void convert(struct tensor y, struct tensor x)
{
    int64_t row = x.shape[1] * x.shape[2];
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.shape[0]; i++)
        vec_convert(tensor_rows(y, i, 1).data, y.dtype, tensor_rows(x, i, 1).data, x.dtype, row);
}

/* t, or where it needs to be the same view of F32, dense at `room`. */
static struct tensor widen(struct tensor t, void *room)
{
    return wide_bytes(t) ? tensor_3d(room, DT_F32, t.shape[0], t.shape[1], t.shape[2]) : t;
}

void cpu_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                const struct conv2d *v, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
    float *bias = scratch;
    char *widened = (char *)scratch + cpu_round((size_t)w.shape[0] * sizeof(float));
    char *weights = widened + widened_bytes(x, w);
    struct wants most = wants_of(c, y, x, w, v);
    char *pad = weights + most.weights, *wide_x = pad + most.pad, *wide_y = wide_x + most.x;
    if (tensor_present(b))
        vec_load(bias, b.data, b.dtype, b.shape[0]);
    else
        memset(bias, 0, (size_t)w.shape[0] * sizeof *bias);
    void *plain = w.data;
    if (widens(w)) {
        vec_convert(widened, cpu_product_type(x.dtype), w.data, w.dtype, tensor_count(w));
        plain = widened;
    }
    const dnnl_memory_desc_t *packed = NULL;
    int64_t rows = piece_rows(c, x, v);
    for (int64_t from = 0; device_ok(d) && from < y.shape[0]; from += rows) {
        struct conv2d_rows piece = conv2d_rows(y, x, w, v, from, rows);
        struct cpu_primitive *p = plan(c, piece.y, piece.x, w, &piece.v, true);
        if (!p)
            return;
        const dnnl_memory_desc_t *md[5] = {
            dnnl_primitive_desc_query_md(p->desc, dnnl_query_src_md, 0),
            dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0),
            dnnl_primitive_desc_query_md(p->desc, dnnl_query_dst_md, 0),
            dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0),
            dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 1),
        };
        if (!packed || !dnnl_memory_desc_equal(packed, md[1]))
            cpu_pack_weights(c, p, weights, plain);
        packed = md[1];
        struct tensor px = widen(piece.x, wide_x), py = widen(piece.y, wide_y);
        if (px.data != piece.x.data)
            convert(px, piece.x);
        if (py.data != piece.y.data && v->accumulate)
            convert(py, piece.y);
        omp_set_num_threads(p->key.threads);
        cpu_execute(c, p->primitive, 5,
            (const int[]){ DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS },
            md, (void *const[]){ px.data, weights, py.data, pad, bias }, "convolution");
        omp_set_num_threads(c->threads);
        if (py.data != piece.y.data)
            convert(piece.y, py);
    }
}
