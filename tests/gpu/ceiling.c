/* ceiling.c - see ceiling.h. */
#include "tests/gpu/ceiling.h"

#include "engine/rng.h"
#include "kernels/count.h"
#include "tests/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

enum { SHAPES_MAX = 256, WARM = 2, TIMES = 8 };

struct shape {
    bool attends;
    struct tensor y, x, w, b; /* of attention: o, q, k, v; data unused */
    enum act act;
    struct attention attention;
    int count;
};

struct recorder {
    struct shape shape[SHAPES_MAX];
    int shapes;
    bool full;
};

static bool alike(struct tensor a, struct tensor b)
{
    return a.ndim == b.ndim && a.dtype == b.dtype && !memcmp(a.shape, b.shape, (size_t)a.ndim * sizeof *a.shape) &&
           !memcmp(a.stride, b.stride, (size_t)a.ndim * sizeof *a.stride);
}

static bool same_call(const struct shape *a, const struct shape *b)
{
    return a->attends == b->attends && a->act == b->act && alike(a->y, b->y) && alike(a->x, b->x) &&
           alike(a->w, b->w) && alike(a->b, b->b);
}

static void record(struct device *d, struct shape s)
{
    struct recorder *r = d->user;
    int i = 0;
    while (i < r->shapes && !same_call(&r->shape[i], &s))
        i++;
    r->full = r->full || i == SHAPES_MAX;
    if (r->full)
        return;
    if (i == r->shapes)
        r->shape[r->shapes++] = s;
    r->shape[i].count++;
}

static void record_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                          enum act act, void *scratch)
{
    (void)scratch;
    record(d, (struct shape){ .y = y, .x = x, .w = w, .b = b, .act = act });
}

static void record_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                             const struct attention *a, void *scratch)
{
    (void)scratch;
    record(d, (struct shape){ .attends = true, .y = o, .x = q, .w = k, .b = v, .attention = *a });
}

/* Memory for a tensor of these strides; with values if `values` has as many bytes, over and over. */
static bool place(struct device *d, struct tensor *t, const void *values, size_t bytes, struct err *e)
{
    if (!tensor_present(*t))
        return true;
    size_t extent = 1, at = 0;
    for (int a = 0; a < t->ndim; a++)
        extent += (size_t)((t->shape[a] - 1) * t->stride[a]);
    extent *= dtype_bytes(t->dtype);
    if (!device_take(d, &t->data, extent, e))
        return false;
    for (; at < extent; at += bytes)
        device_upload(d, tensor_1d((unsigned char *)t->data + at, DT_U8,
                                   (int64_t)(extent - at < bytes ? extent - at : bytes)), values);
    return true;
}

static void issue(struct device *d, const struct shape *s)
{
    if (s->attends)
        device_attention(d, s->y, s->x, s->w, s->b, &s->attention);
    else
        device_linear(d, s->y, s->x, s->w, s->b, s->act);
}

static bool time_shape(struct device *d, struct shape s, const void *values, size_t bytes, double *seconds,
                       struct err *e)
{
    struct tensor *operand[] = { &s.y, &s.x, &s.w, &s.b };
    struct count_device count;
    void *scratch = NULL;
    bool ok = true;
    for (int i = 0; i < 4; i++)
        operand[i]->data = NULL;
    for (int i = 0; i < 4 && ok; i++)
        ok = place(d, operand[i], values, bytes, e);
    s.attention.bias = (struct tensor){ 0 };
    count_device_init(&count, d);
    issue(&count.device, &s);
    size_t needed = count.device.arena.peak + ARENA_ALIGN;
    ok = ok && device_take(d, &scratch, needed, e);
    if (ok) {
        d->arena = arena_over(scratch, needed);
        for (int i = 0; i < WARM; i++)
            issue(d, &s);
        ok = device_sync(d, e);
        double began = seconds_now();
        for (int i = 0; i < TIMES; i++)
            issue(d, &s);
        ok = device_sync(d, e) && ok;
        *seconds = (seconds_now() - began) / TIMES;
    }
    device_sync(d, NULL);
    d->arena = arena_over(NULL, 0);
    device_give(d, scratch);
    for (int i = 0; i < 4; i++)
        device_give(d, operand[i]->data);
    return ok;
}

void ceiling_begin(struct device *d)
{
    struct recorder *r = d->ops->linear == record_linear ? d->user : NULL;
    if (r)
        r->shapes = 0;
}

bool ceiling_measure(struct ceiling *c, struct device *d, stage_fn *run, const void *user, struct err *e)
{
    enum { VALUES = 1 << 20 };
    struct recorder *r = calloc(1, sizeof *r);
    float *wide = malloc(VALUES * sizeof *wide);
    uint16_t *narrow = malloc(VALUES * sizeof *narrow);
    struct count_device count;
    memset(c, 0, sizeof *c);
    count_device_init(&count, d);
    struct device_ops ops = *count.device.ops;
    ops.linear = record_linear;
    ops.attention = record_attention;
    count.device.ops = &ops;
    count.device.user = r;
    bool ok = (r && wide && narrow) || err_set(e, ERR_MEMORY, "out of memory");
    if (ok) {
        run(&count.device, user);
        ok = device_sync(&count.device, e) && (!r->full || err_set(e, ERR_INPUT, "more than %d shapes", SHAPES_MAX));
        rng_normal(RNG_PHILOX, 1, wide, VALUES);
    }
    for (int i = 0; i < VALUES && ok; i++)
        narrow[i] = d->compute == DT_F16 ? f16_from_f32(0.05f * wide[i]) : bf16_from_f32(0.05f * wide[i]);
    for (int i = 0; ok && i < r->shapes; i++) {
        struct shape *s = &r->shape[i];
        double seconds = 0;
        /* Vectors of F32 are few and small: whatever they are filled with is a number. */
        ok = time_shape(d, *s, d->compute == DT_F32 ? (void *)wide : (void *)narrow,
                        VALUES * (d->compute == DT_F32 ? sizeof *wide : sizeof *narrow), &seconds, e);
        *(s->attends ? &c->attention : &c->linear) += seconds * s->count;
        *(s->attends ? &c->attentions : &c->linears) += s->count;
    }
    c->shapes = ok ? r->shapes : 0;
    free(r);
    free(wide);
    free(narrow);
    return ok;
}
