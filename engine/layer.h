/* layer.h - the weights of one layer, taken by name, and the layer applied.
 *
 * What all four models are built from. The views point into the mapped files
 * of the struct weights they came from. */
#ifndef SLUICE_LAYER_H
#define SLUICE_LAYER_H

#include "engine/weights.h"
#include "kernels/device.h"

struct linear { struct tensor w, b; };  /* [out, in], [out] or absent */
struct norm { struct tensor w, b; };    /* [n], [n] or absent */
struct conv { struct tensor w, b; };    /* [out, in, k, k], [out] */

/* Takes layers from w in turn; after the first failure the rest do nothing, so
 * a model's list of layers reads without an `if` after each line. Names are
 * printf-formatted, without ".weight". */
struct layer_loader {
    const struct weights *weights;
    struct err *err;
    bool failed;
};

struct linear layer_linear(struct layer_loader *l, int64_t out, int64_t in, bool bias, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
struct norm layer_norm(struct layer_loader *l, int64_t n, bool bias, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
struct conv layer_conv(struct layer_loader *l, int64_t out, int64_t in, int64_t kernel, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
struct tensor layer_table(struct layer_loader *l, int64_t rows, int64_t cols, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* y = act(linear(x)) */
static inline void apply_linear(struct device *d, struct tensor y, struct tensor x, const struct linear *l,
                                enum act act)
{
    device_linear(d, y, x, l->w, l->b, act);
}

/* "same" convolution, stride 1. */
static inline void apply_conv(struct device *d, struct tensor y, struct tensor x, const struct conv *c,
                              bool accumulate)
{
    int pad = (int)c->w.shape[2] / 2;
    device_conv2d(d, y, x, c->w, c->b, &(struct conv2d){ 1, pad, pad, pad, pad, accumulate });
}

#endif
