/* count.c - see count.h. Sizes come from shapes alone; no pointer is followed. */
#include "kernels/count.h"

#include <string.h>

/* device is the first member, so the one pointer is the other. */
static struct count_device *self(struct device *d)
{
    return (struct count_device *)d;
}

static uint64_t elements(struct tensor t)
{
    return (uint64_t)tensor_count(t);
}

static uint64_t act_flops(enum act act, struct tensor y)
{
    return act == ACT_NONE ? 0 : elements(y);
}

static void note(struct device *d, enum count_op op, uint64_t flops, uint64_t weight_bytes,
                 uint64_t read_bytes, uint64_t write_bytes)
{
    struct count_total *t = &self(d)->op[op];
    t->calls++;
    t->flops += flops;
    t->weight_bytes += weight_bytes;
    t->read_bytes += read_bytes;
    t->write_bytes += write_bytes;
}

static bool same_layout(const struct tensor *a, const struct tensor *b)
{
    bool same = a->dtype == b->dtype && a->ndim == b->ndim;
    for (int i = 0; same && i < a->ndim; i++)
        same = a->shape[i] == b->shape[i] && a->stride[i] == b->stride[i];
    return same;
}

static bool same_conv(const struct conv2d *a, const struct conv2d *b)
{
    return a->stride == b->stride && a->top == b->top && a->left == b->left && a->bottom == b->bottom &&
           a->right == b->right && a->accumulate == b->accumulate;
}

/* Where the answer about these operands is, or is to be put: then *known is false. */
static struct count_scratch *scratch_of(struct count_device *c, enum count_op op, struct tensor a, struct tensor b,
                                        struct tensor w, const struct conv2d *how, bool *known)
{
    uint64_t hash = (uint64_t)op + (uint64_t)a.dtype + (uint64_t)b.dtype * 3 + (uint64_t)w.dtype * 5;
    const int64_t lengths[] = { a.shape[0], a.shape[1], a.stride[0], b.shape[0], b.shape[1], b.stride[0], w.shape[0],
                                w.shape[w.ndim - 1], how->top + 2 * how->bottom };
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        hash = (hash ^ (uint64_t)lengths[i]) * 0x9e3779b97f4a7c15u;
    struct count_scratch *s = &c->scratch[hash >> 56];
    *known = s->of[0].dtype != DT_NONE && s->op == op && same_layout(&s->of[0], &a) && same_layout(&s->of[1], &b) &&
             same_layout(&s->of[2], &w) && same_conv(&s->how, how);
    if (!*known)
        *s = (struct count_scratch){ .op = op, .of = { a, b, w }, .how = *how };
    return s;
}

static size_t linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    struct device *target = self(d)->target;
    bool known;
    struct count_scratch *s = scratch_of(self(d), COUNT_LINEAR, y, x, w, &(struct conv2d){ 0 }, &known);
    if (!known)
        s->bytes = target->ops->linear_scratch(target, y, x, w);
    return s->bytes;
}

static void linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   enum act act, void *scratch)
{
    (void)scratch;
    uint64_t flops = 2 * elements(y) * (uint64_t)x.shape[1] + act_flops(act, y);
    note(d, COUNT_LINEAR, flops + (tensor_present(b) ? elements(y) : 0),
         tensor_bytes(w) + tensor_bytes(b), tensor_bytes(x), tensor_bytes(y));
}

static size_t attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    struct device *target = self(d)->target;
    bool known;
    struct count_scratch *s = scratch_of(self(d), COUNT_ATTENTION, o, q, k, &(struct conv2d){ 0 }, &known);
    if (!known)
        s->bytes = target->ops->attention_scratch(target, o, q, k);
    return s->bytes;
}

static void attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                      const struct attention *a, void *scratch)
{
    (void)scratch;
    uint64_t lq = (uint64_t)q.shape[0], lk = (uint64_t)k.shape[0], heads = (uint64_t)q.shape[1];
    uint64_t pairs = heads * (a->causal ? lq * (lq + 1) / 2 : lq * lk);
    note(d, COUNT_ATTENTION, 4 * pairs * (uint64_t)q.shape[2], tensor_bytes(a->bias),
         tensor_bytes(q) + tensor_bytes(k) + tensor_bytes(v), tensor_bytes(o));
}

static size_t conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w,
                             const struct conv2d *c)
{
    struct device *target = self(d)->target;
    bool known;
    struct count_scratch *s = scratch_of(self(d), COUNT_CONV2D, y, x, w, c, &known);
    if (!known)
        s->bytes = target->ops->conv2d_scratch(target, y, x, w, c);
    return s->bytes;
}

static void conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   const struct conv2d *c, void *scratch)
{
    (void)scratch;
    uint64_t taps = elements(w) / (uint64_t)w.shape[0];
    uint64_t adds = (uint64_t)tensor_present(b) + (uint64_t)c->accumulate;
    note(d, COUNT_CONV2D, elements(y) * (2 * taps + adds), tensor_bytes(w) + tensor_bytes(b),
         tensor_bytes(x) + (c->accumulate ? tensor_bytes(y) : 0), tensor_bytes(y));
}

static void group_moments(struct device *d, struct tensor moments, struct tensor x)
{
    note(d, COUNT_GROUP_MOMENTS, 4 * elements(x), 0, tensor_bytes(x), tensor_bytes(moments));
}

static void group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act)
{
    (void)eps;
    note(d, COUNT_GROUP_NORM, 4 * elements(x) + act_flops(act, y), tensor_bytes(w) + tensor_bytes(b),
         tensor_bytes(x) + tensor_bytes(moments), tensor_bytes(y));
}

static void norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                          struct tensor shift, float eps)
{
    (void)eps;
    note(d, COUNT_NORM_MODULATE, 9 * elements(x), tensor_bytes(scale) + tensor_bytes(shift),
         tensor_bytes(x), tensor_bytes(y));
}

static void layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                       float eps)
{
    (void)eps;
    note(d, COUNT_LAYER_NORM, 8 * elements(x), tensor_bytes(w) + tensor_bytes(b), tensor_bytes(x),
         tensor_bytes(y));
}

static void rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    (void)eps;
    note(d, COUNT_RMS_NORM, 4 * elements(x), tensor_bytes(w), tensor_bytes(x), tensor_bytes(y));
}

static void qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    (void)eps;
    note(d, COUNT_QK_NORM_ROPE, 7 * elements(x), tensor_bytes(w) + tensor_bytes(rope), tensor_bytes(x),
         tensor_bytes(x));
}

static void activate(struct device *d, struct tensor y, struct tensor x, enum act act)
{
    note(d, COUNT_ACTIVATE, act_flops(act, y), 0, tensor_bytes(x), tensor_bytes(y));
}

static void add(struct device *d, struct tensor y, struct tensor x)
{
    note(d, COUNT_ADD, elements(y), 0, tensor_bytes(x) + tensor_bytes(y), tensor_bytes(y));
}

static void multiply(struct device *d, struct tensor y, struct tensor x)
{
    note(d, COUNT_MULTIPLY, elements(y), 0, tensor_bytes(x) + tensor_bytes(y), tensor_bytes(y));
}

static void gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate)
{
    note(d, COUNT_GATED_ADD, 2 * elements(y), tensor_bytes(gate), tensor_bytes(x) + tensor_bytes(y),
         tensor_bytes(y));
}

static void embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids)
{
    (void)ids;
    /* Of the table only the rows that are asked for. */
    note(d, COUNT_EMBED, 0, elements(y) * dtype_bytes(table.dtype), 0, tensor_bytes(y));
}

static void upsample2x(struct device *d, struct tensor y, struct tensor x)
{
    note(d, COUNT_UPSAMPLE2X, 0, 0, tensor_bytes(x), tensor_bytes(y));
}

static void copy(struct device *d, struct tensor y, struct tensor x)
{
    note(d, COUNT_COPY, 0, 0, tensor_bytes(x), tensor_bytes(y));
}

static void upload(struct device *d, struct tensor y, const void *host)
{
    (void)host;
    note(d, COUNT_UPLOAD, 0, 0, tensor_bytes(y), tensor_bytes(y));
}

static void download(struct device *d, void *host, struct tensor x)
{
    /* Zeros, so that a stage which looks at what it fetched looks at defined values. */
    if (host)
        memset(host, 0, tensor_bytes(x));
    note(d, COUNT_DOWNLOAD, 0, 0, tensor_bytes(x), tensor_bytes(x));
}

static void sync(struct device *d)
{
    (void)d;
}

static const struct device_ops ops = {
    .name = "count",
    .linear_scratch = linear_scratch,
    .linear = linear,
    .attention_scratch = attention_scratch,
    .attention = attention,
    .conv2d_scratch = conv2d_scratch,
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

void count_device_init(struct count_device *c, struct device *target)
{
    *c = (struct count_device){
        .device = { .ops = &ops, .compute = target->compute, .arena = arena_measure() },
        .target = target,
    };
}

struct count_total count_sum(const struct count_device *c)
{
    struct count_total sum = { 0 };
    for (int i = 0; i < COUNT_OPS_; i++) {
        sum.calls += c->op[i].calls;
        sum.flops += c->op[i].flops;
        sum.weight_bytes += c->op[i].weight_bytes;
        sum.read_bytes += c->op[i].read_bytes;
        sum.write_bytes += c->op[i].write_bytes;
    }
    return sum;
}
