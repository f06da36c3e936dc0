/* cpu_linear.c - y = act(x w^T + b) on the processor.
 *
 * The product is cut into tiles, some rows of x by some outputs; a tile is one
 * thread's and sums over all of k in one order. So a row's result depends
 * neither on how many rows are asked for, nor on the number of threads: oneDNN
 * left to itself would share k among threads when there are few rows, and
 * changes its algorithm with the strides (tests/bench/NOTES.md). It is given dense
 * operands only, which lead to the same algorithm for any number of rows:
 * x is used where it lies if it is dense and of a type that oneDNN multiplies,
 * else it is copied to scratch, some rows at a time; likewise w, some outputs
 * at a time; a tile of y is made in scratch and copied while it is in the cache. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <omp.h>
#include <string.h>

enum {
    TILE_ROWS = 256,             /* fewer: reading w costs more than multiplying it */
    STEP_ROWS = 240,             /* a multiple of GEMM_STEP */
    GEMM_STEP = 48,
    TILE_OUTPUTS = 512,
    PART_ROWS = 1536,            /* more of x falls out of the cache between two tiles of outputs */
    OUTPUTS_STEP = 64,           /* oneDNN's own block */
    W_BYTES = 16 * 1024 * 1024,  /* of copied weights, all threads together */
    X_BYTES = 8 * 1024 * 1024,   /* of copied rows */
};

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

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
    key.threads = 1;
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
    /* The older GEMM asks how many threads there are when it runs, and shares k among them. */
    omp_set_num_threads(1);
    cpu_execute(c, p->primitive, b ? 5 : 4,
                (const int[]){ DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD, DNNL_ARG_BIAS }, md,
                (void *const[]){ (void *)(uintptr_t)x, (void *)(uintptr_t)w, y, scratch, (void *)(uintptr_t)b },
                "matmul");
    omp_set_num_threads(c->threads);
}

int64_t cpu_row_step(struct cpu_device *c, struct cpu_gemm g)
{
    const char *name = "";
    g.m = TILE_ROWS;
    const struct cpu_primitive *p = cpu_gemm_plan(c, &g, false);
    if (p)
        dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &name);
    return strncmp(name, "brg", 3) ? GEMM_STEP : 1;
}

/* How one linear is cut; what its scratch holds, in this order. */
struct cut {
    enum dtype type, y_type; /* of the product (cpu_product_type) */
    bool copy_x, copy_w;
    int64_t rows, outputs;   /* of a tile */
    int64_t step;            /* rows are filled up to a multiple of it */
    int64_t part;            /* rows of x that all outputs pass over at once */
    struct cpu_primitive *product[2][2]; /* [last rows][last outputs] */
    size_t bias_bytes, x_bytes;          /* shared */
    size_t w_bytes, y_bytes, library_bytes, thread_bytes;
};

static int64_t tail(int64_t n, int64_t piece) { return n % piece ? n % piece : piece; }

static bool cut_make(struct cut *t, struct cpu_device *c, struct tensor y, struct tensor x, struct tensor w, bool bias,
                     enum act act, bool compile)
{
    int64_t m = x.shape[0], n = w.shape[0], k = x.shape[1];
    *t = (struct cut){ .type = cpu_product_type(x.dtype), .y_type = cpu_product_type(y.dtype) };
    size_t row_bytes = (size_t)k * dtype_bytes(t->type);
    t->copy_x = x.dtype != t->type || (m > 1 && x.stride[0] != k);
    t->copy_w = w.dtype != t->type || (n > 1 && w.stride[0] != k);
    t->outputs = TILE_OUTPUTS;
    if (t->copy_w) {
        int64_t wide = (int64_t)(W_BYTES / (size_t)c->threads / row_bytes) / OUTPUTS_STEP * OUTPUTS_STEP;
        t->outputs = max64(OUTPUTS_STEP, min64(wide, TILE_OUTPUTS));
    }
    t->outputs = min64(t->outputs, n);
    struct cpu_gemm g = { .n = t->outputs, .k = k, .type = t->type, .y_type = t->y_type, .x_stride = k, .w_stride = k,
                          .w_step = 1, .y_stride = t->outputs, .act = act, .bias = bias };
    t->step = cpu_row_step(c, g);
    t->copy_x |= m % t->step != 0;
    t->rows = min64(cpu_up(m, t->step), t->step > 1 ? STEP_ROWS : TILE_ROWS);
    int64_t fit = t->copy_x ? (int64_t)(X_BYTES / row_bytes) : PART_ROWS;
    t->part = min64(cpu_up(m, t->step), max64(1, fit / t->rows) * t->rows);
    for (int i = 0; i < 4; i++) {
        g.m = i & 2 ? cpu_up(tail(m, t->rows), t->step) : t->rows;
        g.n = i & 1 ? tail(n, t->outputs) : t->outputs;
        g.y_stride = g.n;
        struct cpu_primitive *p = t->product[i >> 1][i & 1] = cpu_gemm_plan(c, &g, compile);
        if (!p)
            return false;
        t->library_bytes = p->scratch_bytes > t->library_bytes ? p->scratch_bytes : t->library_bytes;
    }
    t->library_bytes = cpu_round(t->library_bytes);
    t->bias_bytes = cpu_round((size_t)n * sizeof(float));
    t->x_bytes = t->copy_x ? cpu_round((size_t)t->part * row_bytes) : 0;
    t->w_bytes = t->copy_w ? cpu_round((size_t)t->outputs * row_bytes) : 0;
    t->y_bytes = cpu_round((size_t)(t->rows * t->outputs) * dtype_bytes(t->y_type));
    t->thread_bytes = t->w_bytes + t->y_bytes + t->library_bytes;
    return true;
}

size_t cpu_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    size_t most = 0;
    for (int bias = 0; bias < 2; bias++) {
        struct cut t;
        if (!cut_make(&t, cpu_of(d), y, x, w, bias, ACT_NONE, false))
            return 0;
        size_t bytes = t.bias_bytes + t.x_bytes + t.thread_bytes * (size_t)cpu_of(d)->threads;
        most = bytes > most ? bytes : most;
    }
    return most;
}

/* Row i of a matrix, from column j on. */
static char *at(struct tensor t, int64_t i, int64_t j)
{
    return (char *)t.data + (size_t)(i * t.stride[0] + j) * dtype_bytes(t.dtype);
}

void cpu_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                enum act act, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    struct cut t;
    cpu_cache_trim(c);
    if (!cut_make(&t, c, y, x, w, tensor_present(b), act, true))
        return;
    int64_t m = x.shape[0], n = w.shape[0], k = x.shape[1], tiles = (n + t.outputs - 1) / t.outputs;
    float *bias = scratch;
    char *copied_x = (char *)scratch + t.bias_bytes, *threads = copied_x + t.x_bytes;
    if (tensor_present(b))
        vec_load(bias, b.data, b.dtype, n);
#pragma omp parallel num_threads(c->threads)
    {
        char *copied_w = threads + t.thread_bytes * (size_t)omp_get_thread_num();
        char *tile = copied_w + t.w_bytes, *library = tile + t.y_bytes;
        for (int64_t part = 0; part < m; part += t.part) {
            int64_t end = min64(part + t.part, m);
            if (t.copy_x) {
#pragma omp for schedule(static)
                for (int64_t i = part; i < cpu_up(end, t.step); i++) {
                    char *to = copied_x + (size_t)((i - part) * k) * dtype_bytes(t.type);
                    if (i < m)
                        vec_convert(to, t.type, at(x, i, 0), x.dtype, k);
                    else
                        memset(to, 0, (size_t)k * dtype_bytes(t.type));
                }
            }
#pragma omp for schedule(dynamic)
            for (int64_t j = 0; j < tiles; j++) {
                int64_t first = j * t.outputs, outputs = min64(t.outputs, n - first);
                const char *weights = at(w, first, 0);
                for (int64_t o = 0; t.copy_w && o < outputs; o++)
                    vec_convert(copied_w + (size_t)(o * k) * dtype_bytes(t.type), t.type, at(w, first + o, 0),
                                w.dtype, k);
                for (int64_t i = part; i < end; i += t.rows) {
                    int64_t rows = min64(t.rows, end - i);
                    const char *in = t.copy_x ? copied_x + (size_t)((i - part) * k) * dtype_bytes(t.type) : at(x, i, 0);
                    cpu_gemm_run(c, t.product[rows < t.rows][outputs < t.outputs], tile, in,
                                 t.copy_w ? copied_w : weights,
                                 tensor_present(b) ? bias + first : NULL, library);
                    for (int64_t r = 0; r < rows; r++)
                        vec_convert(at(y, i + r, first), y.dtype, tile + (size_t)(r * outputs) * dtype_bytes(t.y_type),
                                    t.y_type, outputs);
                }
            }
        }
    }
}
