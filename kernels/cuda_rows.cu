/* cuda_rows.cu - the row-wise operations of the cuda device: norms, rope, and what is done
 * element by element. One read and one write of memory each: a row is held in registers
 * between the passes over it. No sum crosses rows, so a row's bytes do not depend on how
 * many there are. Group norm and convolution's helpers are in cuda_picture.cu. */
#include "kernels/cuda_types.h"

/* --- element by element ------------------------------------------------------------------ */
/* y = f(x, y): rows of n elements, at places that two tensors of one shape say. */
struct walk {
    int64_t n, chunks;   /* of a row: elements, chunks */
    int64_t rows;
    int dims;            /* outside of the row; the fastest first */
    int64_t count[TENSOR_MAX_DIMS - 1], y[TENSOR_MAX_DIMS - 1], x[TENSOR_MAX_DIMS - 1]; /* and strides */
    bool y_wide, x_wide;
};

enum { EACH_BLOCK = 256 };

template <class Y, class X, class F> static __global__ void each(struct walk w, Y *y, const X *x, F f)
{
    int64_t i = (int64_t)blockIdx.x * EACH_BLOCK + threadIdx.x, row = divide(i, w.chunks);
    if (row >= w.rows)
        return;
    int64_t j = (i - row * w.chunks) * CHUNK, left = w.n - j;
    y += j;
    x += j;
#pragma unroll
    for (int a = 0; a < TENSOR_MAX_DIMS - 1; a++) {
        int64_t next = a + 1 < w.dims ? divide(row, w.count[a]) : 0;
        y += (row - next * w.count[a]) * w.y[a];
        x += (row - next * w.count[a]) * w.x[a];
        row = next;
    }
    float v[CHUNK], old[CHUNK];
    load_chunk(v, x, left, w.x_wide);
    if (f.reads_y)
        load_chunk(old, y, left, w.y_wide);
    f(v, old, j, left);
    store_chunk(y, v, left, w.y_wide);
}

/* Dimensions that lie behind one another in both tensors become one; into the row itself
 * only if no vector goes along it. */
static struct walk walk_over(struct tensor y, struct tensor x, bool vector)
{
    struct walk w = {};
    w.n = y.shape[y.ndim - 1];
    w.rows = 1;
    for (int a = y.ndim - 2; a >= 0; a--) {
        int64_t count = y.shape[a], last = w.dims - 1;
        if (count == 1)
            continue;
        if (w.dims == 0 && !vector && y.stride[a] == w.n && x.stride[a] == w.n) {
            w.n *= count;
            continue;
        }
        w.rows *= count;
        if (w.dims > 0 && y.stride[a] == w.y[last] * w.count[last] && x.stride[a] == w.x[last] * w.count[last]) {
            w.count[last] *= count;
            continue;
        }
        w.count[w.dims] = count;
        w.y[w.dims] = y.stride[a];
        w.x[w.dims] = x.stride[a];
        w.dims++;
    }
    w.chunks = ceil_div(w.n, CHUNK);
    return w;
}

template <class Y, class X, class F>
static cudaError_t each_of(cudaStream_t s, struct tensor y, struct tensor x, bool vector, F f)
{
    struct walk w = walk_over(y, x, vector);
    w.y_wide = wide_at<Y>(y.data, w.y, w.dims);
    w.x_wide = wide_at<X>(x.data, w.x, w.dims);
    return LAUNCH((each<Y, X, F>), dim3(grid_x(ceil_div(w.rows * w.chunks, EACH_BLOCK))), dim3(EACH_BLOCK), 0, s, w,
                  (Y *)y.data, (const X *)x.data, f);
}

/* As each_of, for any mix of types. */
template <class F> static cudaError_t each_any(cudaStream_t s, struct tensor y, struct tensor x, bool vector, F f)
{
    return by_types(y.dtype, x.dtype, [&](auto to, auto from) {
        return each_of<decltype(to), decltype(from)>(s, y, x, vector, f);
    });
}

struct converted {
    static const bool reads_y = false;
    __device__ void operator()(float (&)[CHUNK], const float (&)[CHUNK], int64_t, int64_t) const {}
};

cudaError_t cuda_k_copy(cudaStream_t s, struct tensor y, struct tensor x)
{
    if (x.dtype != DT_F8_E4M3)
        return each_any(s, y, x, false, converted());
    return by_type(y.dtype, [&](auto to) { return each_of<decltype(to), f8_e4m3>(s, y, x, false, converted()); });
}

struct activated {
    static const bool reads_y = false;
    enum act act;
    __device__ void operator()(float (&v)[CHUNK], const float (&)[CHUNK], int64_t, int64_t) const { act_chunk(act, v); }
};

cudaError_t cuda_k_activate(cudaStream_t s, struct tensor y, struct tensor x, enum act act)
{
    return each_any(s, y, x, false, activated{ act });
}

struct saturated {
    static const bool reads_y = false;
    enum act act;
    __device__ void operator()(float (&v)[CHUNK], const float (&)[CHUNK], int64_t, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            v[k] = fabsf(v[k]) == INFINITY ? copysignf(F16_MAX, v[k]) : v[k];
        act_chunk(act, v);
    }
};

cudaError_t cuda_k_saturate(cudaStream_t s, struct tensor y, enum act act)
{
    if (y.dtype != DT_F16)
        return cudaErrorInvalidValue;
    return each_of<__half, __half>(s, y, y, false, saturated{ act });
}

struct added {
    static const bool reads_y = true;
    __device__ void operator()(float (&v)[CHUNK], const float (&old)[CHUNK], int64_t, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            v[k] += old[k];
    }
};

cudaError_t cuda_k_add(cudaStream_t s, struct tensor y, struct tensor x)
{
    return each_any(s, y, x, false, added());
}

struct multiplied {
    static const bool reads_y = true;
    __device__ void operator()(float (&v)[CHUNK], const float (&old)[CHUNK], int64_t, int64_t) const
    {
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            v[k] *= old[k];
    }
};

cudaError_t cuda_k_multiply(cudaStream_t s, struct tensor y, struct tensor x)
{
    return each_any(s, y, x, false, multiplied());
}

struct gated {
    static const bool reads_y = true;
    struct vector gate;
    __device__ void operator()(float (&v)[CHUNK], const float (&old)[CHUNK], int64_t j, int64_t left) const
    {
        float g[CHUNK];
        load_chunk(g, gate, j, left);
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            v[k] = g[k] * v[k] + old[k];
    }
};

cudaError_t cuda_k_gated_add(cudaStream_t s, struct tensor y, struct tensor x, struct tensor gate)
{
    return each_any(s, y, x, true, gated{ vector_of(gate) });
}

template <bool ACCUMULATE> struct finished {
    static const bool reads_y = ACCUMULATE;
    struct vector bias;
    __device__ void operator()(float (&v)[CHUNK], const float (&old)[CHUNK], int64_t j, int64_t left) const
    {
        if (bias.data) {
            float b[CHUNK];
            load_chunk(b, bias, j, left);
#pragma unroll
            for (int k = 0; k < CHUNK; k++)
                v[k] += b[k];
        }
        if (ACCUMULATE) {
#pragma unroll
            for (int k = 0; k < CHUNK; k++)
                v[k] += old[k];
        }
    }
};

cudaError_t cuda_k_conv_finish(cudaStream_t s, struct tensor y, struct tensor acc, struct tensor b, bool accumulate)
{
    if (acc.dtype != DT_F32)
        return cudaErrorInvalidValue;
    return by_type(y.dtype, [&](auto to) {
        typedef decltype(to) Y;
        return accumulate ? each_of<Y, float>(s, y, acc, true, finished<true>{ vector_of(b) })
                          : each_of<Y, float>(s, y, acc, true, finished<false>{ vector_of(b) });
    });
}

/* --- norms: a block a row -------------------------------------------------------------------- */
/* Chunks of a row that a thread keeps in registers from the first pass to the last: a full block
 * holds a row of 16384. What is beyond is read again. */
enum { HELD = 4, NORM_BLOCK = 512 };

struct norm {
    int64_t n, y_stride, x_stride;
    bool y_wide, x_wide;
    struct vector w, b; /* b may be absent */
    float plus, eps;    /* y = normalised x * (plus + w) + b */
};

static __device__ inline float chunk_sum(const float (&v)[CHUNK])
{
    float s = 0.0f;
#pragma unroll
    for (int k = 0; k < CHUNK; k++)
        s += v[k];
    return s;
}

/* Of the first `left` elements alone: beyond them are zeros, which are not the mean. */
static __device__ inline float chunk_squares(const float (&v)[CHUNK], float mean, int64_t left)
{
    float s = 0.0f;
#pragma unroll
    for (int k = 0; k < CHUNK; k++) {
        float away = k < left ? v[k] - mean : 0.0f;
        s += away * away;
    }
    return s;
}

template <class Y>
static __device__ inline void norm_store(const struct norm &a, Y *y, float (&v)[CHUNK], int64_t j, float mean,
                                         float scale)
{
    float w[CHUNK], b[CHUNK] = { 0 };
    load_chunk(w, a.w, j, a.n - j);
    if (a.b.data)
        load_chunk(b, a.b, j, a.n - j);
#pragma unroll
    for (int k = 0; k < CHUNK; k++)
        v[k] = (v[k] - mean) * scale * (a.plus + w[k]) + b[k];
    store_chunk(y + j, v, a.n - j, a.y_wide);
}

/* CENTRED: layer norm; else RMS norm, whose mean is taken for zero. */
template <class Y, class X, bool CENTRED>
static __global__ void __launch_bounds__(NORM_BLOCK, 1) norm_rows(struct norm a, Y *y, const X *x)
{
    __shared__ float part[WARP];
    y += blockIdx.x * a.y_stride;
    x += blockIdx.x * a.x_stride;
    int64_t first = (int64_t)threadIdx.x * CHUNK, step = (int64_t)blockDim.x * CHUNK, beyond = first + HELD * step;
    float held[HELD][CHUNK], more[CHUNK], mean = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < HELD; i++)
        load_chunk(held[i], x + first + i * step, a.n - (first + i * step), a.x_wide);
    if (CENTRED) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < HELD; i++)
            sum += chunk_sum(held[i]);
        for (int64_t j = beyond; j < a.n; j += step) {
            load_chunk(more, x + j, a.n - j, a.x_wide);
            sum += chunk_sum(more);
        }
        mean = block_sum(sum, part) / (float)a.n;
    }
#pragma unroll
    for (int i = 0; i < HELD; i++)
        squares += chunk_squares(held[i], mean, a.n - (first + i * step));
    for (int64_t j = beyond; j < a.n; j += step) {
        load_chunk(more, x + j, a.n - j, a.x_wide);
        squares += chunk_squares(more, mean, a.n - j);
    }
    float scale = 1.0f / sqrtf(block_sum(squares, part) / (float)a.n + a.eps);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (first + i * step < a.n)
            norm_store(a, y, held[i], first + i * step, mean, scale);
    for (int64_t j = beyond; j < a.n; j += step) {
        load_chunk(more, x + j, a.n - j, a.x_wide);
        norm_store(a, y, more, j, mean, scale);
    }
}

template <bool CENTRED>
static cudaError_t norm_of(cudaStream_t s, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                           float plus, float eps)
{
    struct norm a = {};
    a.n = x.shape[1];
    a.y_stride = y.stride[0];
    a.x_stride = x.stride[0];
    a.w = vector_of(w);
    a.b = vector_of(b);
    a.plus = plus;
    a.eps = eps;
    int64_t threads = ceil_div(ceil_div(a.n, CHUNK * HELD), WARP) * WARP;
    dim3 grid(grid_x(x.shape[0])), block((unsigned)min(threads, (int64_t)NORM_BLOCK));
    return by_types(y.dtype, x.dtype, [&](auto to, auto from) {
        typedef decltype(to) Y;
        typedef decltype(from) X;
        a.y_wide = rows_wide<Y>(y);
        a.x_wide = rows_wide<X>(x);
        return LAUNCH((norm_rows<Y, X, CENTRED>), grid, block, 0, s, a, (Y *)y.data, (const X *)x.data);
    });
}

cudaError_t cuda_k_norm_modulate(cudaStream_t s, struct tensor y, struct tensor x, struct tensor scale,
                                 struct tensor shift, float eps)
{
    return norm_of<true>(s, y, x, scale, shift, 1.0f, eps);
}

cudaError_t cuda_k_layer_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                              float eps)
{
    return norm_of<true>(s, y, x, w, b, 0.0f, eps);
}

cudaError_t cuda_k_rms_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    return norm_of<false>(s, y, x, w, (struct tensor){}, 0.0f, eps);
}

/* --- q and k: a block a token ------------------------------------------------------------------ */
/* `lanes` neighbours work on a head; all heads of a token share its rotation and the weight, which
 * stay in registers. Heads of 128 as 16 chunks: 128 threads do 8 heads at a time. */
struct qk {
    int64_t dim, heads, x_stride, head_stride, rope_stride;
    int lanes;
    bool x_wide, rope_wide;
    struct vector w;
    float eps;
};

enum { QK_BLOCK = 128 };

static __device__ inline void rotate_chunk(float (&v)[CHUNK], const float (&w)[CHUNK], const float (&rope)[CHUNK],
                                           float scale)
{
#pragma unroll
    for (int k = 0; k < CHUNK; k += 2) {
        float re = v[k] * scale * w[k], im = v[k + 1] * scale * w[k + 1];
        v[k] = re * rope[k] - im * rope[k + 1];
        v[k + 1] = re * rope[k + 1] + im * rope[k];
    }
}

template <class T>
static __global__ void __launch_bounds__(QK_BLOCK) norm_rope(struct qk a, T *x, const float *rope)
{
    int group = (int)threadIdx.x / a.lanes, groups = (int)blockDim.x / a.lanes;
    int64_t first = ((int)threadIdx.x % a.lanes) * CHUNK, step = a.lanes * CHUNK;
    x += blockIdx.x * a.x_stride;
    rope += blockIdx.x * a.rope_stride;
    float w[CHUNK], turn[CHUNK];
    load_chunk(w, a.w, first, a.dim - first);
    load_chunk(turn, rope + first, a.dim - first, a.rope_wide);
    for (int64_t from = 0; from < a.heads; from += groups) { /* all threads: warp_sum needs whole warps */
        bool mine = from + group < a.heads;
        int64_t dim = mine ? a.dim : 0;
        T *head = x + (from + group) * a.head_stride;
        float v[CHUNK], more[CHUNK], more_w[CHUNK], more_turn[CHUNK];
        load_chunk(v, head + first, dim - first, a.x_wide);
        float squares = chunk_squares(v, 0.0f, CHUNK);
        for (int64_t j = first + step; j < dim; j += step) { /* heads above WARP * CHUNK */
            load_chunk(more, head + j, dim - j, a.x_wide);
            squares += chunk_squares(more, 0.0f, CHUNK);
        }
        float scale = 1.0f / sqrtf(warp_sum(squares, a.lanes) / (float)a.dim + a.eps);
        rotate_chunk(v, w, turn, scale);
        store_chunk(head + first, v, dim - first, a.x_wide);
        for (int64_t j = first + step; j < dim; j += step) {
            load_chunk(more, head + j, dim - j, a.x_wide);
            load_chunk(more_w, a.w, j, dim - j);
            load_chunk(more_turn, rope + j, dim - j, a.rope_wide);
            rotate_chunk(more, more_w, more_turn, scale);
            store_chunk(head + j, more, dim - j, a.x_wide);
        }
    }
}

cudaError_t cuda_k_qk_norm_rope(cudaStream_t s, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    struct qk a = {};
    a.dim = x.shape[2];
    a.heads = x.shape[1];
    a.x_stride = x.stride[0];
    a.head_stride = x.stride[1];
    a.rope_stride = rope.stride[0];
    a.rope_wide = rows_wide<float>(rope);
    a.w = vector_of(w);
    a.eps = eps;
    a.lanes = 1;
    while (a.lanes < WARP && a.lanes * CHUNK < a.dim)
        a.lanes *= 2;
    int64_t threads = ceil_div(a.heads * a.lanes, WARP) * WARP;
    dim3 grid(grid_x(x.shape[0])), block((unsigned)min(threads, (int64_t)QK_BLOCK));
    return by_type(x.dtype, [&](auto type) {
        typedef decltype(type) T;
        a.x_wide = rows_wide<T>(x);
        return LAUNCH((norm_rope<T>), grid, block, 0, s, a, (T *)x.data, (const float *)rope.data);
    });
}
