/* device.c - the checks and the scratch handling that all devices share.
 *
 * Every operation goes: sticky failure? shapes right (assert: a programmer's
 * mistake)? scratch from the arena, the device's own function, scratch back. */
#include "kernels/device.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096 };

static bool ready(struct device *d)
{
    if (device_ok(d) && d->interrupted && d->interrupted(d->user))
        err_set(&d->err, ERR_CANCELLED, "cancelled");
    return device_ok(d);
}

static void *scratch_take(struct device *d, size_t bytes)
{
    void *p;
    if (!arena_take(&d->arena, bytes, &p))
        err_set(&d->err, ERR_DEVICE_MEMORY, "device %s: %zu bytes of scratch do not fit: %zu of %zu used",
                d->ops->name, bytes, d->arena.used, d->arena.capacity);
    return p;
}

/* The operation's weights, brought to where it may read them. */
static bool fetch(struct device *d, struct tensor *w, struct tensor *b)
{
    if (d->weights)
        d->weights(d, w, b);
    return device_ok(d);
}

static bool is_vector(struct tensor t, int64_t n)
{
    return t.ndim == 1 && t.shape[0] == n;
}

bool device_sync(struct device *d, struct err *e)
{
    d->ops->sync(d); /* also after a failure: the caller may free what queued work still uses */
    if (device_ok(d))
        return true;
    err_set(e, d->err.kind, "%s", d->err.text);
    err_clear(&d->err);
    return false;
}

void device_tick(struct device *d, int done, int total)
{
    if (!ready(d))
        return;
    if (d->ops->pace)
        d->ops->pace(d);
    if (d->tick)
        d->tick(d->user, done, total);
}

void device_free(struct device *d)
{
    if (d)
        d->ops->free(d);
}

bool device_take(struct device *d, void **memory, size_t bytes, struct err *e)
{
    if (d->ops->take)
        return d->ops->take(d, memory, bytes, e);
    if (!posix_memalign(memory, PAGE, bytes))
        return true;
    *memory = NULL;
    return err_set(e, ERR_DEVICE_MEMORY, "%zu bytes of memory were refused", bytes);
}

void device_give(struct device *d, void *memory)
{
    if (d->ops->give)
        d->ops->give(d, memory);
    else
        free(memory);
}

struct device_memory device_memory(struct device *d)
{
    return d->ops->memory ? d->ops->memory(d) : (struct device_memory){ 0 };
}

bool device_link_pass(struct device *d, void *to, const void *from, size_t bytes, struct err *e)
{
    if (d->ops->link_pass)
        return d->ops->link_pass(d, to, from, bytes, e);
    memcpy(to, from, bytes);
    return true;
}

bool device_link_mark(struct device *d, uint64_t *mark, struct err *e)
{
    *mark = 0;
    return !d->ops->link_mark || d->ops->link_mark(d, mark, e);
}

bool device_link_after(struct device *d, uint64_t mark, struct err *e)
{
    return !d->ops->link_after || d->ops->link_after(d, mark, e);
}

void device_link_wait(struct device *d, uint64_t mark)
{
    if (d->ops->link_wait && device_ok(d))
        d->ops->link_wait(d, mark);
}

uint64_t device_work_mark(struct device *d)
{
    return d->ops->work_mark && device_ok(d) ? d->ops->work_mark(d) : 0;
}

struct tensor device_tensor(struct device *d, enum dtype t, int ndim, const int64_t *shape)
{
    assert(ndim >= 1 && ndim <= TENSOR_MAX_DIMS);
    struct tensor r = { .dtype = t, .ndim = ndim };
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        assert(shape[i] >= 1);
        r.shape[i] = shape[i];
        r.stride[i] = step;
        step *= shape[i];
    }
    size_t bytes = tensor_bytes(r);
    if (device_ok(d) && !arena_take(&d->arena, bytes, &r.data))
        err_set(&d->err, ERR_DEVICE_MEMORY, "device %s: a tensor of %zu bytes does not fit: %zu of %zu used",
                d->ops->name, bytes, d->arena.used, d->arena.capacity);
    return r;
}

void device_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   enum act act)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && x.ndim == 2 && w.ndim == 2);
    assert(y.shape[0] == x.shape[0] && y.shape[1] == w.shape[0] && x.shape[1] == w.shape[1]);
    assert(!tensor_present(b) || is_vector(b, y.shape[1]));
    if (!fetch(d, &w, &b))
        return;
    size_t mark = device_mark(d);
    void *scratch = scratch_take(d, d->ops->linear_scratch(d, y, x, w));
    if (scratch)
        d->ops->linear(d, y, x, w, b, act, scratch);
    device_release(d, mark);
}

void device_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                      const struct attention *a)
{
    if (!ready(d))
        return;
    assert(q.ndim == 3 && tensor_same_shape(o, q) && tensor_same_shape(k, v));
    assert(k.ndim == 3 && k.shape[1] == q.shape[1] && k.shape[2] == q.shape[2]);
    assert(!a->causal || q.shape[0] == k.shape[0]);
    assert(!tensor_present(a->bias) ||
           (a->bias.ndim == 2 && a->bias.dtype == DT_F32 && a->bias.shape[0] == q.shape[1] &&
            a->bias.shape[1] == q.shape[0] + k.shape[0] - 1));
    size_t mark = device_mark(d);
    void *scratch = scratch_take(d, d->ops->attention_scratch(d, o, q, k));
    if (scratch)
        d->ops->attention(d, o, q, k, v, a, scratch);
    device_release(d, mark);
}

void device_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   const struct conv2d *c)
{
    if (!ready(d))
        return;
    assert(y.ndim == 3 && x.ndim == 3 && w.ndim == 4);
    assert(w.shape[1] == x.shape[2] && w.shape[0] == y.shape[2]);
    assert(tensor_dense(y) && tensor_dense(x) && tensor_dense(w));
    assert(c->top < w.shape[2] && c->bottom < w.shape[2] && c->left < w.shape[3] && c->right < w.shape[3]);
    assert(y.shape[0] == (x.shape[0] + c->top + c->bottom - w.shape[2]) / c->stride + 1);
    assert(y.shape[1] == (x.shape[1] + c->left + c->right - w.shape[3]) / c->stride + 1);
    assert(!tensor_present(b) || is_vector(b, y.shape[2]));
    if (!fetch(d, &w, &b))
        return;
    size_t mark = device_mark(d);
    void *scratch = scratch_take(d, d->ops->conv2d_scratch(d, y, x, w, c));
    if (scratch)
        d->ops->conv2d(d, y, x, w, b, c, scratch);
    device_release(d, mark);
}

struct conv2d_rows conv2d_rows(struct tensor y, struct tensor x, struct tensor w, const struct conv2d *c, int64_t from,
                               int64_t rows)
{
    int64_t to = from + rows < y.shape[0] ? from + rows : y.shape[0];
    int64_t first = from * c->stride - c->top, end = (to - 1) * c->stride - c->top + w.shape[2];
    struct conv2d_rows r = { .v = *c };
    r.v.top = first < 0 ? (int)-first : 0;
    r.v.bottom = end > x.shape[0] ? (int)(end - x.shape[0]) : 0;
    r.y = tensor_rows(y, from, to - from);
    r.x = tensor_rows(x, first + r.v.top, end - r.v.bottom - first - r.v.top);
    return r;
}

static bool are_moments(struct tensor t, struct tensor x)
{
    return t.ndim == 3 && t.shape[2] == 2 && x.shape[2] % t.shape[1] == 0;
}

void device_group_moments(struct device *d, struct tensor moments, struct tensor x)
{
    if (!ready(d))
        return;
    assert(x.ndim == 3 && are_moments(moments, x) && moments.shape[0] == x.shape[0]);
    d->ops->group_moments(d, moments, x);
}

void device_group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act)
{
    if (!ready(d))
        return;
    assert(x.ndim == 3 && tensor_same_shape(y, x));
    assert(moments.dtype == DT_F32 && are_moments(moments, x) && moments.shape[0] >= x.shape[0]);
    assert(is_vector(w, x.shape[2]) && is_vector(b, x.shape[2]));
    if (fetch(d, &w, &b))
        d->ops->group_norm(d, y, x, moments, w, b, eps, act);
}

void device_norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                          struct tensor shift, float eps)
{
    if (!ready(d))
        return;
    assert(x.ndim == 2 && tensor_same_shape(y, x));
    assert(is_vector(scale, x.shape[1]) && is_vector(shift, x.shape[1]));
    d->ops->norm_modulate(d, y, x, scale, shift, eps);
}

void device_layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                       float eps)
{
    if (!ready(d))
        return;
    assert(x.ndim == 2 && tensor_same_shape(y, x));
    assert(is_vector(w, x.shape[1]) && is_vector(b, x.shape[1]));
    if (fetch(d, &w, &b))
        d->ops->layer_norm(d, y, x, w, b, eps);
}

void device_rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    if (!ready(d))
        return;
    assert(x.ndim == 2 && tensor_same_shape(y, x) && is_vector(w, x.shape[1]));
    if (fetch(d, &w, NULL))
        d->ops->rms_norm(d, y, x, w, eps);
}

void device_qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    if (!ready(d))
        return;
    assert(x.ndim == 3 && is_vector(w, x.shape[2]) && x.shape[2] % 2 == 0);
    assert(rope.ndim == 2 && rope.dtype == DT_F32 && rope.shape[0] == x.shape[0] &&
           rope.shape[1] == x.shape[2]);
    if (fetch(d, &w, NULL))
        d->ops->qk_norm_rope(d, x, w, rope, eps);
}

void device_activate(struct device *d, struct tensor y, struct tensor x, enum act act)
{
    if (!ready(d))
        return;
    assert(x.ndim == 2 && tensor_same_shape(y, x));
    d->ops->activate(d, y, x, act);
}

void device_add(struct device *d, struct tensor y, struct tensor x)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && tensor_same_shape(y, x));
    d->ops->add(d, y, x);
}

void device_multiply(struct device *d, struct tensor y, struct tensor x)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && tensor_same_shape(y, x));
    d->ops->multiply(d, y, x);
}

void device_gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && tensor_same_shape(y, x) && is_vector(gate, y.shape[1]));
    d->ops->gated_add(d, y, x, gate);
}

void device_embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && table.ndim == 2 && y.shape[1] == table.shape[1]);
    if (ids)
        for (int64_t i = 0; i < y.shape[0]; i++)
            if (ids[i] < 0 || ids[i] >= table.shape[0]) {
                err_set(&d->err, ERR_INPUT,
                        "token id %d is outside the embedding table of %lld rows: the tokenizer "
                        "does not belong to this text encoder",
                        (int)ids[i], (long long)table.shape[0]);
                return;
            }
    d->ops->embed(d, y, table, ids);
}

void device_upsample2x(struct device *d, struct tensor y, struct tensor x)
{
    if (!ready(d))
        return;
    assert(x.ndim == 3 && y.ndim == 3 && y.shape[0] == 2 * x.shape[0] &&
           y.shape[1] == 2 * x.shape[1] && y.shape[2] == x.shape[2]);
    d->ops->upsample2x(d, y, x);
}

void device_copy(struct device *d, struct tensor y, struct tensor x)
{
    if (!ready(d))
        return;
    assert(y.ndim == 2 && tensor_same_shape(y, x));
    d->ops->copy(d, y, x);
}

void device_upload(struct device *d, struct tensor y, const void *host)
{
    if (!ready(d))
        return;
    assert(tensor_dense(y));
    d->ops->upload(d, y, host);
}

void device_download(struct device *d, void *host, struct tensor x)
{
    if (!ready(d))
        return;
    assert(tensor_dense(x));
    d->ops->download(d, host, x);
}
