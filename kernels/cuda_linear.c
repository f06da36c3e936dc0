/* cuda_linear.c - y = act(x w^T + b) on the card: operands are brought to where cuda_gemm.h
 * takes them, and the product is cut where one has to be copied.
 *
 * Used where they lie are operands of x's type with aligned rows whose length is a multiple
 * of GEMM_STEP: all that models have. Else x and w are copied to scratch, longer rows filled
 * with zeros, some rows at a time; w also if it is stored in another type. y is made in
 * scratch, in F32, if it is not aligned, and if it is narrower than F32 and the activation is
 * not one of cuBLASLt's, or b has digits that y's type has not (cuBLASLt wants b to be of that
 * type): so that it is rounded once. How weights are cut follows from the weight and
 * not from the rows of x: pieces of them have algorithms of their own. */
#include "kernels/cuda_gemm.h"

enum {
    CONVERTED_BYTES = 32 << 20, /* of weights in another type: enough outputs for every multiprocessor */
    COPIED_BYTES = 1 << 20,     /* of what is badly aligned, which nothing large is. Every linear's scratch has
                                   room for it, as alignment is not known then */
    MADE_BYTES = 8 << 20,       /* of y in F32, likewise: that can be large, and stays in the cache */
    OUTPUTS_STEP = 64,          /* pieces of weights: a tile's edge */
};

static int64_t up(int64_t n) { return (n + GEMM_STEP - 1) / GEMM_STEP * GEMM_STEP; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows of a piece of at most so many bytes: a multiple of step, but for the last piece; one step at least. */
static int64_t piece_rows(size_t bytes, int64_t cols, enum dtype t, int64_t step, int64_t rows)
{
    int64_t fit = (int64_t)(bytes / ((size_t)cols * dtype_bytes(t))) / step * step;
    return min64(fit > step ? fit : step, rows);
}

/* By shapes and types alone; what scratch holds, in this order. */
struct cut {
    int64_t n, k;                  /* up to GEMM_STEP */
    int64_t rows, y_rows, outputs; /* of a piece of x, y, w */
    size_t b_bytes, x_bytes, w_bytes, y_bytes;
};

static struct cut cut_of(struct tensor x, struct tensor w)
{
    int64_t m = x.shape[0];
    struct cut t = { .n = up(w.shape[0]), .k = up(w.shape[1]) };
    size_t w_most = w.dtype != x.dtype ? CONVERTED_BYTES : COPIED_BYTES;
    t.outputs = piece_rows(w_most, t.k, x.dtype, OUTPUTS_STEP, t.n);
    t.rows = piece_rows(COPIED_BYTES, t.k, x.dtype, 1, m);
    t.y_rows = piece_rows(MADE_BYTES, t.n, DT_F32, 1, m);
    t.b_bytes = cuda_round((size_t)t.n * sizeof(float));
    t.x_bytes = cuda_round((size_t)(t.rows * t.k) * dtype_bytes(x.dtype));
    t.w_bytes = cuda_round((size_t)(t.outputs * t.k) * dtype_bytes(x.dtype));
    t.y_bytes = cuda_round((size_t)(t.y_rows * t.n) * sizeof(float));
    return t;
}

size_t cuda_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    (void)d, (void)y;
    struct cut t = cut_of(x, w);
    return t.b_bytes + t.x_bytes + t.w_bytes + t.y_bytes;
}

/* Also of a lone row: it may be a piece of more, and has to go the way that they go. */
static bool aligned(struct tensor t)
{
    bool rows = t.ndim == 1 || (size_t)t.stride[0] * dtype_bytes(t.dtype) % GEMM_ALIGN == 0;
    return rows && (uintptr_t)t.data % GEMM_ALIGN == 0 && t.shape[t.ndim - 1] % GEMM_STEP == 0;
}

/* t as `type`, in [rows, cols] at `to`; what is beyond t in its rows is zero, rows beyond t are not written. */
static struct tensor copied(struct device *d, void *to, enum dtype type, struct tensor t, int64_t rows, int64_t cols)
{
    struct cuda_device *c = cuda_of(d);
    struct tensor r = tensor_2d(to, type, rows, cols);
    if (cols != t.shape[1])
        cuda_check(d, cudaMemsetAsync(to, 0, tensor_bytes(r), c->compute), "filling with zeros");
    cuda_check(d, cuda_k_copy(c->compute, tensor_cols(tensor_rows(r, 0, t.shape[0]), 0, t.shape[1]), t), "copying");
    return r;
}

/* Whether b can be of y's type. A BF16 number beyond F16's range makes a result that is beyond it as well. */
static bool keeps(enum dtype y, struct tensor b)
{
    return !tensor_present(b) || y == DT_F32 || b.dtype == y || b.dtype == DT_F8_E4M3 ||
           (b.dtype == DT_BF16 && y == DT_F16);
}

/* b[from, from + n) as `type`, in the first n of `room` places at `to` if it has to be copied. */
static struct tensor bias_at(struct device *d, void *to, enum dtype type, struct tensor b, int64_t from, int64_t n)
{
    if (!tensor_present(b))
        return b;
    b = tensor_cols(b, from, n);
    if (b.dtype == type && aligned(b))
        return b;
    struct tensor r = tensor_1d(to, type, n);
    cuda_check(d, cuda_k_copy(cuda_of(d)->compute, r, b), "copying");
    return r;
}

void cuda_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, enum act act,
                 void *scratch)
{
    struct cuda_device *c = cuda_of(d);
    struct cut t = cut_of(x, w);
    char *b_to = scratch, *x_to = b_to + t.b_bytes, *w_to = x_to + t.x_bytes, *y_to = w_to + t.w_bytes;
    int64_t m = x.shape[0], n = w.shape[0];
    bool copy_x = !aligned(x), copy_w = w.dtype != x.dtype || !aligned(w) || n % GEMM_STEP, wide = y.dtype == DT_F32;
    int64_t outputs = copy_w ? t.outputs : n;
    for (int64_t first = 0; first < n && device_ok(d); first += outputs) {
        int64_t some = min64(outputs, n - first);
        struct tensor part = tensor_rows(w, first, some);
        if (copy_w)
            part = copied(d, w_to, x.dtype, part, up(some), t.k);
        bool direct = aligned(y) && keeps(y.dtype, b);
        bool fused = direct && !wide && act == ACT_GELU_TANH &&
                     cuda_gemm_gelu(c, y.dtype, part, tensor_present(b));
        bool make = !direct || !(wide || fused || act == ACT_NONE); /* y in scratch, then stored */
        struct tensor bias = bias_at(d, b_to, make ? DT_F32 : y.dtype, b, first, some);
        int64_t rows = min64(copy_x ? t.rows : m, make ? t.y_rows : m);
        for (int64_t i = 0; i < m && device_ok(d); i += rows) {
            int64_t r = min64(rows, m - i);
            struct tensor to = tensor_cols(tensor_rows(y, i, r), first, some), from = tensor_rows(x, i, r);
            if (copy_x)
                from = copied(d, x_to, x.dtype, from, r, t.k);
            struct tensor made = make ? tensor_2d(y_to, DT_F32, r, part.shape[0]) : to;
            cuda_gemm(c, made, from, part, bias, fused ? act : ACT_NONE);
            if (!device_ok(d))
                return;
            if (make || (wide && act != ACT_NONE))
                cuda_check(d, cuda_k_activate(c->compute, to, tensor_cols(made, 0, some), act), "activating");
            else if (y.dtype == DT_F16)
                cuda_check(d, cuda_k_saturate(c->compute, to, ACT_NONE), "saturating");
        }
    }
}
