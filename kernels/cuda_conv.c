/* cuda_conv.c - convolution on the card, of pictures [height, width, channels].
 *
 * A picture is worked through in pieces; a piece's sums are made in scratch in F32, then
 * stored with bias and residual (cuda_k_conv_finish), so that a result is rounded once and
 * scratch does not grow with the picture. The sums come
 *   - from cuDNN, some rows at a time, with one engine for a kernel and its channels
 *     whatever the picture (cuda_dnn.h), if there is such an engine;
 *   - else from cuda_linear on what lies under the kernel, some pixels at a time (im2col), whose
 *     rows depend on nothing else by themselves. A kernel of one pixel needs no im2col.
 * Engines that cuDNN compiles for each shape of a piece are not used: a picture in bands has
 * many shapes, and each would wait for the compiler longer than the other way takes. */
#include "kernels/cuda_dnn.h"

#include <stdlib.h>

enum {
    SUM_BYTES = 16 << 20,    /* of a piece of rows from cuDNN: enough pixels for every multiprocessor */
    COLUMN_BYTES = 32 << 20, /* of what lies under the kernel for a piece of pixels; large caches hold it */
    PIXEL_STEP = 128,        /* pieces of pixels: a tile's edge */
    CANONICAL = 128,         /* px: the picture that cuDNN's engines are asked for */
    WIDE = 1024, LOW = 8,    /* px: and a band they must take as well */
    CHANNEL_STEP = 8,        /* in and out: cuDNN's engines load 16 bytes at once */
};

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* --- by cuDNN ------------------------------------------------------------------------------------ */
/* number[] of a problem. */
enum { TYPE, IN, OUT, KERNEL_H, KERNEL_W, STRIDE, HEIGHT, WIDTH, TOP, LEFT, BOTTOM, RIGHT };

static cudnnBackendDescriptor_t picture(struct dnn_build *b, int64_t id, enum dtype t, int64_t n, int64_t h, int64_t w,
                                        int64_t c)
{
    return dnn_tensor(b, id, t, (const int64_t[]){ n, c, h, w }, (const int64_t[]){ h * w * c, 1, w * c, c });
}

static cudnnBackendDescriptor_t make(struct dnn_build *b, const struct dnn_problem *p)
{
    static const cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    static const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    static const int64_t no_dilation[2] = { 1, 1 };
    static const float one = 1, zero = 0;
    const int64_t *n = p->number, before[2] = { n[TOP], n[LEFT] }, after[2] = { n[BOTTOM], n[RIGHT] };
    const int64_t strides[2] = { n[STRIDE], n[STRIDE] };
    int64_t h = (n[HEIGHT] + n[TOP] + n[BOTTOM] - n[KERNEL_H]) / n[STRIDE] + 1;
    int64_t w = (n[WIDTH] + n[LEFT] + n[RIGHT] - n[KERNEL_W]) / n[STRIDE] + 1;
    cudnnBackendDescriptor_t y = picture(b, 1, DT_F32, 1, h, w, n[OUT]);
    cudnnBackendDescriptor_t x = picture(b, 2, (enum dtype)n[TYPE], 1, n[HEIGHT], n[WIDTH], n[IN]);
    cudnnBackendDescriptor_t k = picture(b, 3, (enum dtype)n[TYPE], n[OUT], n[KERNEL_H], n[KERNEL_W], n[IN]);
    cudnnBackendDescriptor_t how = dnn_make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    dnn_set_int(b, how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, strides);
    dnn_set(b, how, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, no_dilation);
    dnn_finalize(b, how);
    cudnnBackendDescriptor_t d = dnn_make(b, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, how);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, k);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    dnn_set(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    dnn_set(b, d, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    dnn_finalize(b, d);
    return d;
}

static const struct dnn_operation operation = { .name = "convolution", .make = make, .tensors = 3 };

static struct dnn_problem problem_of(struct dnn_problem family, int64_t h, int64_t w, const struct conv2d *v)
{
    int64_t *n = family.number;
    n[HEIGHT] = h;
    n[WIDTH] = w;
    n[TOP] = v->top;
    n[LEFT] = v->left;
    n[BOTTOM] = v->bottom;
    n[RIGHT] = v->right;
    return family;
}

/* NULL: cuDNN has none. */
static struct dnn_plan *plan_of(struct cuda_device *c, struct tensor x, struct tensor w, const struct conv2d *v)
{
    struct dnn_problem family = { .number = { [TYPE] = x.dtype, [IN] = w.shape[1], [OUT] = w.shape[0],
                                              [KERNEL_H] = w.shape[2], [KERNEL_W] = w.shape[3],
                                              [STRIDE] = v->stride } };
    int top = (int)(w.shape[2] - 1) / 2, left = (int)(w.shape[3] - 1) / 2;
    struct conv2d all = { .top = top, .left = left, .bottom = top, .right = left };
    struct conv2d sides = { .left = left, .right = left };
    struct dnn_problem probes[] = { problem_of(family, CANONICAL, CANONICAL, &all),
                                    problem_of(family, LOW, WIDE, &sides) };
    struct dnn_problem p = problem_of(family, x.shape[0], x.shape[1], v);
    return dnn_plan(c, &operation, &family, probes, sizeof probes / sizeof *probes, &p);
}

static bool dnn_can(const struct cuda_device *c, struct tensor x, struct tensor w)
{
    return c->dnn && w.shape[0] % CHANNEL_STEP == 0 && w.shape[1] % CHANNEL_STEP == 0 && w.shape[2] * w.shape[3] > 1 &&
           w.shape[2] <= LOW && (x.dtype != DT_BF16 || c->sm >= 80);
}

static int64_t sum_rows(struct tensor y)
{
    int64_t rows = (int64_t)(SUM_BYTES / ((size_t)(y.shape[1] * y.shape[2]) * sizeof(float)));
    return min64(rows > 1 ? rows : 1, y.shape[0]);
}

/* --- by pixels -------------------------------------------------------------------------------------- */
static bool one_pixel(struct tensor w, const struct conv2d *v)
{
    return w.shape[2] == 1 && w.shape[3] == 1 && v->stride == 1; /* padding is less than the kernel: none */
}

static int64_t taps(struct tensor w) { return w.shape[1] * w.shape[2] * w.shape[3]; }

/* Pixels of a piece: by the kernel and its channels alone, and no more than there are. */
static int64_t piece_pixels(struct tensor y, struct tensor x, struct tensor w)
{
    size_t most = larger((size_t)taps(w) * dtype_bytes(x.dtype), (size_t)w.shape[0] * sizeof(float));
    int64_t pixels = (int64_t)(COLUMN_BYTES / most) / PIXEL_STEP * PIXEL_STEP;
    return min64(pixels > PIXEL_STEP ? pixels : PIXEL_STEP, y.shape[0] * y.shape[1]);
}

/* Of a piece: what lies under the kernel, the weights, the sums. data: NULL. */
struct product { struct tensor x, w, y; };

static struct product product_of(struct tensor y, struct tensor x, struct tensor w)
{
    int64_t pixels = piece_pixels(y, x, w);
    return (struct product){ tensor_2d(NULL, x.dtype, pixels, taps(w)), tensor_2d(NULL, x.dtype, w.shape[0], taps(w)),
                             tensor_2d(NULL, DT_F32, pixels, w.shape[0]) };
}

/* --- both --------------------------------------------------------------------------------------------- */
/* What scratch holds: the weights as [O,kh,kw,I]; then by cuDNN a piece's sums and its workspace, or
 * by pixels a piece's sums, columns, and cuda_linear's scratch. */
struct layout { size_t weights, sums, columns; };

static struct tensor as_rows(struct tensor t) { return tensor_as_2d(t, t.shape[0] * t.shape[1], t.shape[2]); }

static struct layout layout_of(struct tensor y, struct tensor x, struct tensor w, const struct conv2d *v)
{
    struct product p = product_of(y, x, w);
    size_t rows = (size_t)(sum_rows(y) * y.shape[1] * y.shape[2]) * sizeof(float);
    return (struct layout){
        .weights = one_pixel(w, v) ? 0 : cuda_round(tensor_bytes(p.w)),
        .sums = cuda_round(one_pixel(w, v) ? tensor_bytes(p.y) : larger(rows, tensor_bytes(p.y))),
        .columns = one_pixel(w, v) ? 0 : cuda_round(tensor_bytes(p.x)),
    };
}

size_t cuda_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w, const struct conv2d *v)
{
    struct product p = product_of(y, x, w);
    struct layout l = layout_of(y, x, w, v);
    if (one_pixel(w, v)) /* of the whole picture: enough for a piece as well */
        return l.sums + cuda_linear_scratch(d, as_rows(y), as_rows(x),
                                            tensor_2d(NULL, w.dtype, w.shape[0], w.shape[1]));
    size_t by_pixels = l.columns + cuda_linear_scratch(d, p.y, p.x, p.w);
    return l.weights + l.sums + larger(by_pixels, DNN_WORKSPACE);
}

/* False, and nothing was queued, if cuDNN has no plan for one of the pieces. */
static bool by_rows(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor weights,
                    struct tensor b, const struct conv2d *v, char *sums, void *workspace)
{
    struct cuda_device *c = cuda_of(d);
    int64_t rows = sum_rows(y), pieces = (y.shape[0] + rows - 1) / rows, planned = 0;
    struct dnn_plan **plan = malloc((size_t)pieces * sizeof(struct dnn_plan *));
    if (!plan)
        return err_set(&d->err, ERR_MEMORY, "cuda: convolution: out of memory");
    for (; planned < pieces; planned++) {
        struct conv2d_rows piece = conv2d_rows(y, x, w, v, planned * rows, rows);
        if (!(plan[planned] = plan_of(c, piece.x, w, &piece.v)))
            break;
    }
    for (int64_t i = 0; planned == pieces && i < pieces && device_ok(d); i++) {
        struct conv2d_rows piece = conv2d_rows(y, x, w, v, i * rows, rows);
        struct tensor to = as_rows(piece.y);
        dnn_run(c, &operation, plan[i], (void *[]){ sums, piece.x.data, weights.data }, workspace);
        cuda_check(d, cuda_k_conv_finish(c->compute, to, tensor_2d(sums, DT_F32, to.shape[0], to.shape[1]), b,
                                         v->accumulate), "convolution");
    }
    free(plan);
    return planned == pieces;
}

static void by_pixels(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor weights,
                      struct tensor b, const struct conv2d *v, char *sums, char *columns, void *scratch)
{
    struct cuda_device *c = cuda_of(d);
    struct tensor out = as_rows(y);
    int64_t pixels = piece_pixels(y, x, w);
    for (int64_t from = 0; from < out.shape[0] && device_ok(d); from += pixels) {
        int64_t some = min64(pixels, out.shape[0] - from);
        struct tensor to = tensor_rows(out, from, some), sum = tensor_2d(sums, DT_F32, some, to.shape[1]), under;
        if (one_pixel(w, v)) {
            under = tensor_rows(as_rows(x), from, some);
        } else {
            under = tensor_2d(columns, x.dtype, some, taps(w));
            cuda_check(d, cuda_k_im2col(c->compute, under, x, from, y.shape[1], (int)w.shape[2], (int)w.shape[3],
                                        v->stride, v->top, v->left), "convolution");
        }
        cuda_linear(d, sum, under, weights, (struct tensor){ 0 }, ACT_NONE, scratch);
        cuda_check(d, cuda_k_conv_finish(c->compute, to, sum, b, v->accumulate), "convolution");
    }
}

void cuda_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                 const struct conv2d *v, void *scratch)
{
    struct cuda_device *c = cuda_of(d);
    struct layout l = layout_of(y, x, w, v);
    char *sums = (char *)scratch + l.weights, *rest = sums + l.sums;
    int64_t out = w.shape[0], in = w.shape[1];
    if (one_pixel(w, v)) {
        struct tensor weights = tensor_2d(w.data, w.dtype, out, in);
        if (v->accumulate)
            by_pixels(d, y, x, w, weights, b, v, sums, NULL, rest);
        else
            cuda_linear(d, as_rows(y), as_rows(x), weights, b, ACT_NONE, rest);
        return;
    }
    struct tensor weights = tensor_4d(scratch, x.dtype, out, w.shape[2], w.shape[3], in);
    cuda_check(d, cuda_k_conv_weights(c->compute, weights, w), "a convolution's weights");
    if (dnn_can(c, x, w) && dnn_aligned(x) && by_rows(d, y, x, w, weights, b, v, sums, rest))
        return;
    if (device_ok(d))
        by_pixels(d, y, x, w, tensor_as_2d(weights, out, taps(w)), b, v, sums, rest, rest + l.columns);
}
