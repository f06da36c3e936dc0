/* count.h - the `count` device: a stage's own code run without computing.
 *
 * It knows what the code would cost another device, its target: the peak of
 * the arena to the byte (the arena measures, and scratch sizes are asked of
 * the target's own *_scratch functions), the operations, and the bytes that go
 * through memory. Tensors' data pointers are offsets or foreign and are never
 * followed; upload and embed accept NULL for host memory.
 *
 * It does not predict time: the plan does that, from these numbers. */
#ifndef SLUICE_COUNT_H
#define SLUICE_COUNT_H

#include "kernels/device.h"

enum count_op {
    COUNT_LINEAR,
    COUNT_ATTENTION,
    COUNT_CONV2D,
    COUNT_GROUP_MOMENTS,
    COUNT_GROUP_NORM,
    COUNT_NORM_MODULATE,
    COUNT_LAYER_NORM,
    COUNT_RMS_NORM,
    COUNT_QK_NORM_ROPE,
    COUNT_ACTIVATE,
    COUNT_ADD,
    COUNT_MULTIPLY,
    COUNT_GATED_ADD,
    COUNT_EMBED,
    COUNT_UPSAMPLE2X,
    COUNT_COPY,
    COUNT_UPLOAD,
    COUNT_DOWNLOAD,
    COUNT_OPS_,
};

/* What the calls of one operation come to. Every operand is counted once per
 * call: what a cache saves or a tiling reads again is the implementation's. */
struct count_total {
    uint64_t calls;
    /* Additions and multiplications: linear 2mnk; conv2d 2 H'W'O I kh kw;
     * attention 4 H Lq Lk D, half of it (and the diagonal) when causal. Of the
     * others one per element and step of the formula in device.h, an
     * activation or an exponential being one; they are bound by memory anyway. */
    uint64_t flops;
    uint64_t weight_bytes; /* read: w, b, tables, scale, shift, gate, rope, bias */
    uint64_t read_bytes;   /* activations read; of upload: host bytes */
    uint64_t write_bytes;  /* activations written; of download: host bytes */
};

/* What the target said of operands of these types, shapes and strides: blocks are alike, and asking takes longer
 * than all the rest. */
struct count_scratch {
    enum count_op op; /* COUNT_LINEAR, COUNT_ATTENTION, COUNT_CONV2D */
    struct tensor of[3];
    struct conv2d how; /* of the last, else zeros */
    size_t bytes;
};
enum { COUNT_SCRATCHES = 256 };

struct count_device {
    struct device device; /* first: pass &c->device to a stage */
    struct device *target;
    struct count_total op[COUNT_OPS_];
    struct count_scratch scratch[COUNT_SCRATCHES]; /* by a hash; of two with the same the newer. No type: empty */
};

/* Makes *c a count device for target, with target's compute type and a
 * measuring arena (c->device.arena.peak is the result). target is asked only
 * for scratch sizes and must outlive c; its arena and err are not touched.
 * Owns nothing. The hooks (interrupted, tick) start as NULL. */
void count_device_init(struct count_device *c, struct device *target);

/* All operations together. */
struct count_total count_sum(const struct count_device *c);

#endif
