/* cpu_device.c - making the cpu device, its operation table, and the cache of
 * oneDNN primitives (compiling one takes milliseconds; a model needs a few
 * dozen, again and again). */
#include "kernels/cpu.h"
#include "kernels/cpu_internal.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cpu_check(struct device *d, dnnl_status_t status, const char *what)
{
    if (status == dnnl_success)
        return true;
    if (status == dnnl_out_of_memory)
        return err_set(&d->err, ERR_DEVICE_MEMORY, "cpu device: %s: out of memory", what);
    return err_set(&d->err, ERR_DEVICE, "cpu device: %s: oneDNN failed with status %d", what, (int)status);
}

static uint64_t key_hash(const struct cpu_key *key)
{
    /* Eight bytes at a time: a plan looks thousands of keys up. */
    const char *p = (const char *)key;
    uint64_t h = 14695981039346656037u;
    _Static_assert(sizeof *key % sizeof h == 0, "a key is whole words");
    for (size_t i = 0; i < sizeof *key; i += sizeof h) {
        uint64_t word;
        memcpy(&word, p + i, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

static void primitive_drop(struct cpu_primitive *p)
{
    dnnl_primitive_destroy(p->primitive);
    dnnl_primitive_destroy(p->reorder);
    dnnl_primitive_desc_destroy(p->desc);
    dnnl_primitive_desc_destroy(p->reorder_desc);
    memset(p, 0, sizeof *p);
}

static void cache_clear(struct cpu_device *c)
{
    for (int i = 0; i < CPU_CACHE_SLOTS; i++)
        if (c->cache[i].desc)
            primitive_drop(&c->cache[i]);
    c->cached = 0;
}

static bool act_post_op(dnnl_post_ops_t ops, enum act act)
{
    switch (act) {
    case ACT_NONE: return true;
    case ACT_SILU: return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_swish, 1, 0) == dnnl_success;
    case ACT_QUICK_GELU:
        return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_swish, 1.702f, 0) == dnnl_success;
    case ACT_GELU_TANH:
        return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_gelu_tanh, 0, 0) == dnnl_success;
    case ACT_GELU_ERF:
        return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_gelu_erf, 0, 0) == dnnl_success;
    case ACT_RELU: /* without a leak it is a maximum, and loses a NaN: with the least there is */
        return dnnl_post_ops_append_eltwise(ops, 1, dnnl_eltwise_relu, 0x1p-149f, 0) == dnnl_success;
    }
    return false;
}

/* Which layout the weights of p->desc are wanted in, and the way there. */
static bool weights_layout(struct cpu_device *c, struct cpu_primitive *p, const dnnl_memory_desc_t *plain)
{
    const dnnl_memory_desc_t *liked = dnnl_primitive_desc_query_md(p->desc, dnnl_query_weights_md, 0);
    p->weights_bytes = dnnl_memory_desc_get_size(liked);
    return cpu_check(&c->device, dnnl_reorder_primitive_desc_create(&p->reorder_desc, plain, c->engine, liked,
                     c->engine, NULL), "weight layout");
}

static bool matmul_desc(struct cpu_device *c, struct cpu_primitive *p, dnnl_primitive_attr_t attr)
{
    const struct cpu_key *k = &p->key;
    dnnl_memory_desc_t src, weights, any, bias, dst;
    dnnl_matmul_desc_t desc;
    struct device *d = &c->device;
    dnnl_dims_t weights_dims = { k->k, k->n };
    dnnl_data_type_t type = (dnnl_data_type_t)k->weights;
    return cpu_check(d, dnnl_memory_desc_init_by_strides(&src, 2, (dnnl_dims_t){ k->m, k->k },
                     (dnnl_data_type_t)k->src, (dnnl_dims_t){ k->src_row, 1 }), "matmul source") &&
           cpu_check(d, dnnl_memory_desc_init_by_strides(&weights, 2, weights_dims, type,
                     (dnnl_dims_t){ k->weights_col, k->weights_row }), "matmul weights") &&
           cpu_check(d, dnnl_memory_desc_init_by_tag(&any, 2, weights_dims, type, dnnl_format_tag_any),
                     "matmul weights") &&
           cpu_check(d, dnnl_memory_desc_init_by_strides(&bias, 2, (dnnl_dims_t){ 1, k->n }, dnnl_f32,
                     (dnnl_dims_t){ k->n, 1 }), "matmul bias") &&
           cpu_check(d, dnnl_memory_desc_init_by_strides(&dst, 2, (dnnl_dims_t){ k->m, k->n },
                     (dnnl_data_type_t)k->dst, (dnnl_dims_t){ k->dst_row, 1 }), "matmul result") &&
           cpu_check(d, dnnl_matmul_desc_init(&desc, &src, k->packed ? &any : &weights, k->bias ? &bias : NULL, &dst),
                     "matmul") &&
           cpu_check(d, dnnl_primitive_desc_create(&p->desc, &desc, attr, c->engine, NULL), "matmul") &&
           (!k->packed || weights_layout(c, p, &weights));
}

/* The first implementation whose order of summation depends on the channels only.
 * oneDNN's brgconv, which comes first, blocks by height and number of threads, and
 * so a picture in bands, or with more threads, would not be the same to the bit.
 * Its BF16 kernel for 1x1 wants scratch of the whole result in F32. */
static dnnl_status_t choose_conv(struct cpu_device *c, struct cpu_primitive *p, const dnnl_convolution_desc_t *desc,
                                 dnnl_primitive_attr_t attr)
{
    dnnl_primitive_desc_iterator_t all;
    dnnl_status_t status = dnnl_primitive_desc_iterator_create(&all, desc, attr, c->engine, NULL);
    while (status == dnnl_success) {
        const char *name = "";
        p->desc = dnnl_primitive_desc_iterator_fetch(all);
        dnnl_primitive_desc_query(p->desc, dnnl_query_impl_info_str, 0, &name);
        if (strncmp(name, "brg", 3) && strncmp(name, "jit_bf16_1x1", 12))
            break;
        dnnl_primitive_desc_destroy(p->desc);
        p->desc = NULL;
        status = dnnl_primitive_desc_iterator_next(all);
    }
    dnnl_primitive_desc_iterator_destroy(all);
    return status;
}

static bool conv_desc(struct cpu_device *c, struct cpu_primitive *p, dnnl_primitive_attr_t attr)
{
    const struct cpu_key *k = &p->key;
    int64_t outputs = k->src_row, kh = k->src_col, kw = k->weights_row, stride = k->weights_col;
    int64_t h = (k->m + k->top + k->bottom - kh) / stride + 1;
    int64_t w = (k->n + k->left + k->right - kw) / stride + 1;
    dnnl_memory_desc_t src, weights, plain, bias, dst;
    dnnl_convolution_desc_t desc;
    struct device *d = &c->device;
    dnnl_dims_t weights_dims = { outputs, k->k, kh, kw };
    dnnl_data_type_t type = (dnnl_data_type_t)k->src;
    if (!cpu_check(d, dnnl_memory_desc_init_by_tag(&src, 4, (dnnl_dims_t){ 1, k->k, k->m, k->n }, type, dnnl_nhwc),
                   "convolution source") ||
        !cpu_check(d, dnnl_memory_desc_init_by_tag(&weights, 4, weights_dims, type, dnnl_format_tag_any),
                   "convolution weights") ||
        !cpu_check(d, dnnl_memory_desc_init_by_tag(&plain, 4, weights_dims, (dnnl_data_type_t)k->weights, dnnl_oihw),
                   "convolution weights") ||
        !cpu_check(d, dnnl_memory_desc_init_by_tag(&bias, 1, (dnnl_dims_t){ outputs }, dnnl_f32, dnnl_a),
                   "convolution bias") ||
        !cpu_check(d, dnnl_memory_desc_init_by_tag(&dst, 4, (dnnl_dims_t){ 1, outputs, h, w },
                   (dnnl_data_type_t)k->dst, dnnl_nhwc), "convolution result") ||
        !cpu_check(d, dnnl_convolution_forward_desc_init(&desc, dnnl_forward_inference, dnnl_convolution_direct,
                   &src, &weights, k->bias ? &bias : NULL, &dst, (dnnl_dims_t){ stride, stride },
                   (dnnl_dims_t){ k->top, k->left }, (dnnl_dims_t){ k->bottom, k->right }), "convolution") ||
        !cpu_check(d, choose_conv(c, p, &desc, attr), "convolution"))
        return false;
    return weights_layout(c, p, &plain);
}

struct cpu_primitive *cpu_primitive(struct cpu_device *c, const struct cpu_key *key)
{
    uint64_t i = key_hash(key) % CPU_CACHE_SLOTS;
    for (; c->cache[i].desc; i = (i + 1) % CPU_CACHE_SLOTS)
        if (!memcmp(&c->cache[i].key, key, sizeof *key))
            return &c->cache[i];
    struct cpu_primitive *p = &c->cache[i];
    p->key = *key;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t ops = NULL;
    bool ok = cpu_check(&c->device, dnnl_primitive_attr_create(&attr), "attributes") &&
              cpu_check(&c->device, dnnl_post_ops_create(&ops), "attributes");
    if (ok) {
        dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
        if (key->accumulate)
            ok = cpu_check(&c->device, dnnl_post_ops_append_sum(ops, 1), "sum");
        if (ok && !act_post_op(ops, (enum act)key->act))
            ok = err_set(&c->device.err, ERR_DEVICE, "cpu device: oneDNN refused activation %d", (int)key->act);
        /* oneDNN plans for as many threads as OpenMP would give it now. */
        omp_set_num_threads(key->threads);
        if (ok)
            ok = cpu_check(&c->device, dnnl_primitive_attr_set_post_ops(attr, ops), "attributes") &&
                 (key->kind == CPU_MATMUL ? matmul_desc(c, p, attr) : conv_desc(c, p, attr));
        omp_set_num_threads(c->threads);
    }
    dnnl_post_ops_destroy(ops);
    dnnl_primitive_attr_destroy(attr);
    if (!ok) {
        primitive_drop(p);
        return NULL;
    }
    const dnnl_memory_desc_t *pad = dnnl_primitive_desc_query_md(p->desc, dnnl_query_scratchpad_md, 0);
    p->scratch_bytes = dnnl_memory_desc_get_size(pad);
    c->cached++;
    return p;
}

void cpu_cache_trim(struct cpu_device *c)
{
    if (c->cached >= CPU_CACHE_SLOTS / 2)
        cache_clear(c);
}

bool cpu_compile(struct cpu_device *c, struct cpu_primitive *p)
{
    omp_set_num_threads(p->key.threads);
    bool ok = (p->primitive || cpu_check(&c->device, dnnl_primitive_create(&p->primitive, p->desc), "compiling")) &&
              (!p->reorder_desc || p->reorder ||
               cpu_check(&c->device, dnnl_primitive_create(&p->reorder, p->reorder_desc), "compiling"));
    omp_set_num_threads(c->threads);
    return ok;
}

void cpu_execute(struct cpu_device *c, dnnl_primitive_t primitive, int n, const int *arg,
                 const dnnl_memory_desc_t *const *md, void *const *data, const char *what)
{
    dnnl_exec_arg_t args[5] = { 0 };
    int made = 0;
    for (; made < n; made++) {
        args[made].arg = arg[made];
        if (!cpu_check(&c->device, dnnl_memory_create(&args[made].memory, md[made], c->engine, data[made]), what))
            break;
    }
    if (made == n)
        cpu_check(&c->device, dnnl_primitive_execute(primitive, c->stream, n, args), what);
    while (made-- > 0)
        dnnl_memory_destroy(args[made].memory);
}

void cpu_pack_weights(struct cpu_device *c, const struct cpu_primitive *p, void *packed, const void *w)
{
    cpu_execute(c, p->reorder, 2, (const int[]){ DNNL_ARG_FROM, DNNL_ARG_TO },
                (const dnnl_memory_desc_t *const[]){
                    dnnl_primitive_desc_query_md(p->reorder_desc, dnnl_query_src_md, 0),
                    dnnl_primitive_desc_query_md(p->reorder_desc, dnnl_query_dst_md, 0) },
                (void *const[]){ (void *)(uintptr_t)w, packed }, "weight layout");
}

static void cpu_upload(struct device *d, struct tensor y, const void *host)
{
    (void)d;
    memcpy(y.data, host, tensor_bytes(y));
}

static void cpu_download(struct device *d, void *host, struct tensor x)
{
    (void)d;
    memcpy(host, x.data, tensor_bytes(x));
}

static void cpu_sync(struct device *d) { (void)d; }

static const struct device_ops cpu_ops = {
    .name = "cpu",
    .linear_scratch = cpu_linear_scratch,
    .linear = cpu_linear,
    .attention_scratch = cpu_attention_scratch,
    .attention = cpu_attention,
    .conv2d_scratch = cpu_conv2d_scratch,
    .conv2d = cpu_conv2d,
    .group_moments = cpu_group_moments,
    .group_norm = cpu_group_norm,
    .norm_modulate = cpu_norm_modulate,
    .layer_norm = cpu_layer_norm,
    .rms_norm = cpu_rms_norm,
    .qk_norm_rope = cpu_qk_norm_rope,
    .activate = cpu_activate,
    .add = cpu_add,
    .multiply = cpu_multiply,
    .gated_add = cpu_gated_add,
    .embed = cpu_embed,
    .upsample2x = cpu_upsample2x,
    .copy = cpu_copy,
    .upload = cpu_upload,
    .download = cpu_download,
    .sync = cpu_sync,
    .free = cpu_device_free,
};

bool cpu_device_new(struct device **out, enum dtype compute, int threads, struct err *e)
{
    *out = NULL;
    struct cpu_device *c = calloc(1, sizeof *c);
    struct cpu_primitive *cache = calloc(CPU_CACHE_SLOTS, sizeof *cache);
    if (!c || !cache) {
        free(c);
        free(cache);
        return err_set(e, ERR_MEMORY, "cpu device: out of memory");
    }
    c->cache = cache;
    c->device.ops = &cpu_ops;
    c->device.compute = compute;
    c->threads = threads > 0 ? threads : omp_get_num_procs();
    c->gemm_conv = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx) != dnnl_cpu_isa_avx;
    omp_set_num_threads(c->threads);
    bool ok = cpu_check(&c->device, dnnl_engine_create(&c->engine, dnnl_cpu, 0), "engine") &&
              cpu_check(&c->device, dnnl_stream_create(&c->stream, c->engine, dnnl_stream_default_flags), "stream");
    if (!ok) {
        err_set(e, c->device.err.kind, "%s", c->device.err.text);
        cpu_device_free(&c->device);
        return false;
    }
    *out = &c->device;
    return true;
}

void cpu_device_free(struct device *d)
{
    if (!d)
        return;
    struct cpu_device *c = cpu_of(d);
    cache_clear(c);
    dnnl_stream_destroy(c->stream);
    dnnl_engine_destroy(c->engine);
    free(c->cache);
    free(c);
}

enum dtype cpu_product_type(enum dtype t)
{
    static _Atomic int bf16; /* 0: not asked yet; asking takes as long as a look into the cache */
    if (!bf16)
        bf16 = (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) == dnnl_cpu_isa_avx512_core ? 1 : -1;
    return t == DT_BF16 && bf16 > 0 ? DT_BF16 : DT_F32;
}

const char *cpu_arithmetic(void)
{
    switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41: return "sse4.1";
    case dnnl_cpu_isa_avx: return "avx";
    case dnnl_cpu_isa_avx2: return "avx2";
    case dnnl_cpu_isa_avx2_vnni: return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core: return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni: return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16: return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx: return "avx512_core_amx";
    default: return "generic";
    }
}

void cpu_quiet_threads(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") || setenv("OMP_WAIT_POLICY", "passive", 0))
        return;
    execv("/proc/self/exe", argv);
}
