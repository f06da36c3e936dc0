/* cpu_internal.h - what the files of the cpu device share, and nobody else sees. */
#ifndef SLUICE_CPU_INTERNAL_H
#define SLUICE_CPU_INTERNAL_H

#include "kernels/device.h"

#include <oneapi/dnnl/dnnl.h>

enum { CPU_CACHE_SLOTS = 1024 };

/* One oneDNN primitive is wanted for one problem; all of a problem is in its
 * key, compared as bytes (so: zero it first). */
struct cpu_key {
    enum { CPU_MATMUL = 1, CPU_CONV } kind;
    int32_t src, weights, dst; /* dnnl_data_type_t */
    int32_t bias, act, accumulate, packed, threads;
    int64_t m, n, k;           /* conv: H, W, I */
    int64_t src_row, src_col, weights_row, weights_col, dst_row; /* strides, elements; conv: O, kh, kw, stride, - */
    int64_t top, left, bottom, right;
};

struct cpu_primitive {
    struct cpu_key key;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive; /* compiled on first use */
    dnnl_primitive_desc_t reorder_desc; /* conv, packed: plain weights -> the layout it likes */
    dnnl_primitive_t reorder;
    size_t scratch_bytes;       /* what oneDNN itself asks for */
    size_t weights_bytes;       /* of the reordered weights */
};

struct cpu_device {
    struct device device; /* first: a struct device * is one of these */
    int threads;
    bool gemm_conv; /* without AVX oneDNN convolves [h, w, channels] by GEMM, whose sums depend on how many
                       pixels and threads there are: a row at a time then, by one thread */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct cpu_primitive *cache; /* CPU_CACHE_SLOTS, open addressing */
    int cached;
};

static inline struct cpu_device *cpu_of(struct device *d) { return (struct cpu_device *)d; }
static inline dnnl_data_type_t cpu_dnnl_type(enum dtype t) { return t == DT_BF16 ? dnnl_bf16 : dnnl_f32; }
/* The type in which values of type t are multiplied: this oneDNN has no F16, and BF16
 * only from AVX-512 on; else it is F32. */
enum dtype cpu_product_type(enum dtype t);
static inline int64_t cpu_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
static inline size_t cpu_round(size_t bytes) { return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; }

/* Sets the sticky error if status is not success. */
bool cpu_check(struct device *d, dnnl_status_t status, const char *what);

/* The cached entry of this key (its desc is made, its primitive perhaps not
 * yet), or NULL with the error set. Valid until the next cpu_cache_trim. */
struct cpu_primitive *cpu_primitive(struct cpu_device *c, const struct cpu_key *key);
/* Compiles what is not compiled yet. */
bool cpu_compile(struct cpu_device *c, struct cpu_primitive *p);
/* Forgets all when half full; called where an operation begins. */
void cpu_cache_trim(struct cpu_device *c);

/* y = act(x w^T + b) for one piece, by one thread; b is F32 or NULL. Strides in
 * elements. Runs may go on in several threads, each with its own scratch. */
struct cpu_gemm {
    int64_t m, n, k;
    enum dtype type, y_type;
    int64_t x_stride;              /* rows of x */
    int64_t w_stride, w_step;      /* from one output to the next, from one input to the next */
    int64_t y_stride;
    enum act act;
    bool bias;
    bool packed;                   /* w was put through cpu_pack_weights: for one w and many small x */
};
struct cpu_primitive *cpu_gemm_plan(struct cpu_device *c, const struct cpu_gemm *g, bool compile);
void cpu_gemm_run(struct cpu_device *c, const struct cpu_primitive *p, void *y, const void *x, const void *w,
                  const float *b, void *scratch);
/* For a row's result not to depend on its neighbours, a product of g's strides, n
 * and k must have a multiple of this many rows (g.m is not read). 1 where oneDNN has
 * its brgemm, which sums every row alike; its older GEMM, all there is without
 * AVX-512 (in BF16: without AVX512-BF16), sums the last rows of a block in another order. */
int64_t cpu_row_step(struct cpu_device *c, struct cpu_gemm g);
/* Weights as the key describes them into p->weights_bytes at packed. */
void cpu_pack_weights(struct cpu_device *c, const struct cpu_primitive *p, void *packed, const void *w);

/* Runs a primitive on n <= 5 pieces of memory. */
void cpu_execute(struct cpu_device *c, dnnl_primitive_t primitive, int n, const int *arg,
                 const dnnl_memory_desc_t *const *md, void *const *data, const char *what);

/* The operations, one file each family. */
size_t cpu_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w);
void cpu_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                enum act act, void *scratch);
size_t cpu_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k);
void cpu_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a, void *scratch);
size_t cpu_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w,
                          const struct conv2d *c);
void cpu_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                const struct conv2d *c, void *scratch);
void cpu_group_moments(struct device *d, struct tensor moments, struct tensor x);
void cpu_group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                    struct tensor b, float eps, enum act act);
void cpu_norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                       struct tensor shift, float eps);
void cpu_layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, float eps);
void cpu_rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps);
void cpu_qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps);
void cpu_activate(struct device *d, struct tensor y, struct tensor x, enum act act);
void cpu_add(struct device *d, struct tensor y, struct tensor x);
void cpu_multiply(struct device *d, struct tensor y, struct tensor x);
void cpu_gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate);
void cpu_embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids);
void cpu_upsample2x(struct device *d, struct tensor y, struct tensor x);
void cpu_copy(struct device *d, struct tensor y, struct tensor x);

#endif
