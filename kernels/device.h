/* device.h - the whole of what a model may ask of the machine that computes.
 *
 * A device queues work; nothing here returns a value. The first failure (or an
 * interruption) sticks: later calls do nothing, and device_sync hands it over.
 * So model code reads like the paper, with no `if` after each line. One thread
 * owns a device.
 *
 * Memory: device_tensor takes from the device's arena (arena.h), used as a
 * stack by device_mark / device_release. Operations take their own scratch
 * from the same arena and give it back before they return. Weights are views
 * of mapped files, used in place or brought by device->weights, in the dtype
 * they are stored in (F32, BF16, F16); where that is not the activations' type
 * they are converted to it, piece by piece.
 *
 * Types: "activation" tensors are F32, BF16 or F16 (device->compute) unless said
 * otherwise. Norm statistics, softmax and all accumulations are F32 at least;
 * a result is rounded once, when it is stored. Stored to F16 a finite value stays
 * finite: beyond +-65504 it becomes that. Vectors (weight, bias, scale,
 * shift, gate) may be of any floating type.
 *
 * Rows: a row's result does not depend on how many rows are asked for at once,
 * nor on the number of threads. So any row operation, linear, or attention (by
 * queries, not causal) may be asked for in pieces: the bytes are the same.
 *
 * Aliasing: outputs may not overlap inputs unless an operation says "in place
 * allowed" (then y and x are the same view exactly). Rows may be strided; the
 * last dimension is dense. Operands of conv2d are dense as a whole.
 *
 * Devices: cpu (cpu.h), cuda (cuda.h), ref (ref.h: naive, double, the truth in tests), count
 * (count.h: computes nothing, counts bytes and operations). */
#ifndef SLUICE_DEVICE_H
#define SLUICE_DEVICE_H

#include "kernels/act.h"
#include "kernels/arena.h"
#include "kernels/err.h"
#include "kernels/tensor.h"

struct attention {
    float scale;         /* of q.k: 1/sqrt(head dim); 1 in T5 */
    bool causal;         /* row i sees columns <= i; needs lq == lk */
    struct tensor bias;  /* absent, or F32 [heads, lq + lk - 1]: added to the scaled
                            product; column (j - i) + lq - 1. T5's relative position bias.
                            For queries [a, b) of lq alone: tensor_cols(bias, lq - b, b - a + lk - 1) */
};

struct conv2d {
    int stride;                  /* 1 or 2 */
    int top, left, bottom, right; /* zero padding, px */
    bool accumulate;             /* y += conv(x): the residual of a VAE block */
};

struct device;

/* What an implementation provides. Called only through the device_* functions
 * below, which have checked shapes and state, and took `scratch` (as many
 * bytes as the matching *_scratch function asked for, ARENA_ALIGN aligned). */
struct device_ops {
    const char *name;
    bool queues; /* operations return before they are done */
    size_t (*linear_scratch)(struct device *, struct tensor y, struct tensor x, struct tensor w);
    void (*linear)(struct device *, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   enum act act, void *scratch);
    size_t (*attention_scratch)(struct device *, struct tensor o, struct tensor q, struct tensor k);
    void (*attention)(struct device *, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                      const struct attention *a, void *scratch);
    size_t (*conv2d_scratch)(struct device *, struct tensor y, struct tensor x, struct tensor w,
                             const struct conv2d *c);
    void (*conv2d)(struct device *, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   const struct conv2d *c, void *scratch);
    void (*group_moments)(struct device *, struct tensor moments, struct tensor x);
    void (*group_norm)(struct device *, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act);
    void (*norm_modulate)(struct device *, struct tensor y, struct tensor x, struct tensor scale,
                          struct tensor shift, float eps);
    void (*layer_norm)(struct device *, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                       float eps);
    void (*rms_norm)(struct device *, struct tensor y, struct tensor x, struct tensor w, float eps);
    void (*qk_norm_rope)(struct device *, struct tensor x, struct tensor w, struct tensor rope, float eps);
    void (*activate)(struct device *, struct tensor y, struct tensor x, enum act act);
    void (*add)(struct device *, struct tensor y, struct tensor x);
    void (*multiply)(struct device *, struct tensor y, struct tensor x);
    void (*gated_add)(struct device *, struct tensor y, struct tensor x, struct tensor gate);
    void (*embed)(struct device *, struct tensor y, struct tensor table, const int32_t *ids);
    void (*upsample2x)(struct device *, struct tensor y, struct tensor x);
    void (*copy)(struct device *, struct tensor y, struct tensor x);
    void (*upload)(struct device *, struct tensor y, const void *host);
    void (*download)(struct device *, void *host, struct tensor x);
    void (*sync)(struct device *); /* waits; puts a late failure into device->err */

    /* The rest may be NULL: what a device on the processor's own memory has no need of. */
    void (*free)(struct device *);
    bool (*take)(struct device *, void **memory, size_t bytes, struct err *e);
    void (*give)(struct device *, void *memory);
    struct device_memory (*memory)(struct device *);
    void (*pace)(struct device *);
    void (*repeat)(struct device *);
    bool (*link_pass)(struct device *, void *to, const void *from, size_t bytes, struct err *e);
    bool (*link_mark)(struct device *, uint64_t *mark, struct err *e);
    bool (*link_after)(struct device *, uint64_t mark, struct err *e);
    void (*link_wait)(struct device *, uint64_t mark);
    uint64_t (*work_mark)(struct device *);
};

/* Of the device's own memory; bytes. */
struct device_memory {
    size_t total; /* 0: unknown, or it is the system's (memory.h) */
    size_t free;  /* what device_take could get now */
    size_t taken; /* by device_take */
    size_t held;  /* that went since the device was opened, and was not taken: by libraries, or by others */
};

struct device {
    const struct device_ops *ops;
    enum dtype compute;  /* DT_F32, DT_BF16 or DT_F16: the type of activations */
    struct arena arena;
    struct err err;      /* sticky */
    /* Asked before every operation; true: stop with ERR_CANCELLED. Cheap. May be NULL. */
    bool (*interrupted)(void *user);
    void (*tick)(void *user, int done, int total); /* a block of a model ended; may be NULL */
    void *user;
    /* Where weights come from. NULL: they are used where they lie. Otherwise
     * called once for every operation that has weights, before it is queued, with
     * its one or two weight operands (b may be absent); replaces their data and
     * strides by dense copies that stay valid until the operation is done.
     * May set d->err. Embedding tables are always read where they lie. */
    void (*weights)(struct device *d, struct tensor *w, struct tensor *b);
    /* Told where device_hold and device_unhold stand; may be NULL. */
    void (*hold)(struct device *d, bool begin);
    void *weights_user;
};

/* --- control --------------------------------------------------------------- */
static inline bool device_ok(const struct device *d) { return d->err.kind == ERR_NONE; }
/* Waits for queued work, always. False with the sticky failure moved to e (and cleared here). */
bool device_sync(struct device *d, struct err *e);
/* Block `done` of `total` has ended, or on a device that queues will soon: reports it, and stops
 * the device with ERR_CANCELLED if `interrupted` says so. Models call it after every block. */
void device_tick(struct device *d, int done, int total);

/* Between the two, weights stay where they were brought, so that a loop over
 * pieces of the activations asks for each of its weights once and not once a
 * piece. They take their memory together: keep the span short. Not nested. */
static inline void device_hold(struct device *d)
{
    if (d->hold)
        d->hold(d, true);
}
static inline void device_unhold(struct device *d)
{
    if (d->hold)
        d->hold(d, false);
}

/* The work from here to the next device_sync is like that of the times before and
 * after, and short: it may be recorded and started as one. A download in it is
 * there only after that device_sync. */
static inline void device_repeat(struct device *d)
{
    if (d->ops->repeat)
        d->ops->repeat(d);
}

void device_free(struct device *d); /* NULL is fine; not for devices that own nothing (ref, count) */

/* --- the memory behind an arena -----------------------------------------------
 * Where the operations work, ARENA_ALIGN aligned. False: *memory is NULL, and e is
 * ERR_DEVICE_MEMORY if there was not enough. Give back only when queued work is done. */
bool device_take(struct device *d, void **memory, size_t bytes, struct err *e);
void device_give(struct device *d, void *memory); /* NULL is fine */
struct device_memory device_memory(struct device *d);

/* --- the link --------------------------------------------------------------------
 * Weights come to the device beside its work. One other thread, the pager's reader,
 * passes bytes; what it passed and what was queued are put in order by marks, which
 * grow. On the processor's own memory passing is copying, and marks mean nothing.
 * The reader's functions report to e, never to d->err. */
bool device_link_pass(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
/* Reader: a mark behind all that it has passed. */
bool device_link_mark(struct device *d, uint64_t *mark, struct err *e);
/* Reader: what it passes from now on arrives after the work before this work mark is done. */
bool device_link_after(struct device *d, uint64_t mark, struct err *e);
/* Device's thread: operations queued from now on wait for what was passed before the link mark. */
void device_link_wait(struct device *d, uint64_t mark);
/* Device's thread: a mark behind all operations queued so far. */
uint64_t device_work_mark(struct device *d);

/* --- memory ------------------------------------------------------------------
 * On failure the error sticks and an unusable tensor of the right shape comes back. */
struct tensor device_tensor(struct device *d, enum dtype t, int ndim, const int64_t *shape);
static inline struct tensor device_vector(struct device *d, enum dtype t, int64_t n)
{
    return device_tensor(d, t, 1, (const int64_t[]){ n });
}
static inline struct tensor device_matrix(struct device *d, enum dtype t, int64_t rows, int64_t cols)
{
    return device_tensor(d, t, 2, (const int64_t[]){ rows, cols });
}
static inline struct tensor device_image(struct device *d, enum dtype t, int64_t h, int64_t w, int64_t c)
{
    return device_tensor(d, t, 3, (const int64_t[]){ h, w, c });
}
static inline size_t device_mark(const struct device *d) { return arena_mark(&d->arena); }
static inline void device_release(struct device *d, size_t mark) { arena_release(&d->arena, mark); }

/* --- operations --------------------------------------------------------------
 * Shapes in brackets; m, n, k: rows, outputs, inputs; L: tokens; H, D: heads
 * and their dimension; pictures are [height, width, channels]. */

/* y[m,n] = act(x[m,k] w[n,k]^T + b[n]); b may be absent. y has x's type, or F32
 * where x is narrower. w's rows may be strided. */
void device_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   enum act act);
/* o[Lq,H,D] = softmax(scale q[Lq,H,D] k[Lk,H,D]^T + bias) v[Lk,H,D] per head. */
void device_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                      const struct attention *a);
/* y[H',W',O] = conv(x[H,W,I], w[O,I,kh,kw]) + b[O], with H' = (H+top+bottom-kh)/stride+1.
 * All dense; less padding on a side than the kernel is long. */
void device_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                   const struct conv2d *c);
/* The same convolution for rows [from, from + rows) of y alone, cut at y's last: those rows, the rows
 * of x under the kernel, and what is left of the padding. For devices that work in pieces. */
struct conv2d_rows {
    struct tensor y, x;
    struct conv2d v;
};
struct conv2d_rows conv2d_rows(struct tensor y, struct tensor x, struct tensor w, const struct conv2d *c, int64_t from,
                               int64_t rows);
/* moments[H,groups,2] (F32): of each picture row of x[H,W,C] and each group of
 * C/groups channels the mean, and the sum of squared deviations from that mean.
 * A row's moments do not depend on the other rows: those of a picture may be
 * written band by band, into rows of one tensor. */
void device_group_moments(struct device *d, struct tensor moments, struct tensor x);
/* y = act(group_norm(x)*w + b); mean and (biased) variance are those of all rows
 * of moments[P,groups,2], the whole picture's, P >= H. x, y [H,W,C] are rows of that
 * picture; in place allowed. */
void device_group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act);
/* y = layer_norm(x) * (1 + scale) + shift per row, no affine: AdaLN. x, y [m,n]; in place allowed. */
void device_norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                          struct tensor shift, float eps);
/* y = layer_norm(x) * w + b per row. In place allowed. */
void device_layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                       float eps);
/* y = x / sqrt(mean(x^2) + eps) * w per row. In place allowed. */
void device_rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps);
/* In place on x[L,H,D]: RMS norm over D with weight w[D], then rotation of each
 * pair (x[2i], x[2i+1]) by rope[L, D] (F32; cos at 2i, sin at 2i+1). */
void device_qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps);
/* y = act(x). In place allowed. */
void device_activate(struct device *d, struct tensor y, struct tensor x, enum act act);
/* y += x; x may be F32, BF16 or F16. */
void device_add(struct device *d, struct tensor y, struct tensor x);
/* y *= x. */
void device_multiply(struct device *d, struct tensor y, struct tensor x);
/* y[m,n] += gate[n] * x[m,n]. */
void device_gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate);
/* y[L,n] = table[ids[l], n]; the ids (host memory) are used before the call
 * returns and must be in range: an id outside the table is an ERR_INPUT. */
void device_embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids);
/* y[2H,2W,C]: every pixel of x[H,W,C] four times (nearest). */
void device_upsample2x(struct device *d, struct tensor y, struct tensor x);
/* y = x with conversion between floating types; same shape, any strides. */
void device_copy(struct device *d, struct tensor y, struct tensor x);
/* Between host memory (dense, same dtype and shape) and a dense tensor. The host
 * memory of an upload may be reused when it returns; download waits. */
void device_upload(struct device *d, struct tensor y, const void *host);
void device_download(struct device *d, void *host, struct tensor x);

#endif
