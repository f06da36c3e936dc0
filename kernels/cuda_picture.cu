/* cuda_picture.cu - the cuda device's operations on pictures [height, width, channels]:
 * group norm, upsampling, and what a convolution by matrix product needs around it.
 *
 * Group norm works on slabs: whole groups of together SLAB channels or a little more, so
 * that neighbouring threads read neighbouring memory though a group may be only 4 channels
 * wide. A thread keeps to one chunk of channels and goes from pixel to pixel. */
#include "kernels/cuda_types.h"

enum { SLAB = 64 }; /* channels: 128 bytes of F16, what a warp best reads at once; and the most groups of a slab */

struct slabs {
    int64_t groups, size;          /* of the picture: groups, and channels of one */
    int64_t of_slab;               /* groups of a slab; the last may have fewer */
    int64_t width, height;
};

static struct slabs slabs_of(struct tensor x, int64_t groups)
{
    struct slabs a = {};
    a.groups = groups;
    a.size = x.shape[2] / groups;
    a.of_slab = min(ceil_div(SLAB, a.size), groups);
    a.height = x.shape[0];
    a.width = x.shape[1];
    return a;
}

static unsigned slabs_count(struct slabs a) { return (unsigned)ceil_div(a.groups, a.of_slab); }

/* Whether a slab's first channel is where a chunk may begin, if a row's is. */
static bool slabs_whole(struct slabs a) { return a.of_slab == a.groups || a.of_slab * a.size % CHUNK == 0; }

/* --- moments: a block for a row of the picture and a slab ------------------------------------- */
enum { MOMENTS_BLOCK = 1024 };

/* total[g] = sum over `width` pixels and the channels of group g of x, or of (x - mean[g])^2.
 * part: CHUNK floats for each thread, [CHUNK][threads], so that neighbours write neighbours. */
template <bool SQUARES, class X>
static __device__ inline void group_sums(float *total, const float *mean, const X *x, int64_t stride, int64_t width,
                                         int groups, int size, bool wide, float *part)
{
    int threads = (int)blockDim.x, self = (int)threadIdx.x, channels = groups * size;
    if (self < groups)
        total[self] = 0.0f;
    for (int from = 0; from < channels; from += threads * CHUNK) { /* once, but for enormous groups */
        int there = min(channels - from, threads * CHUNK), chunks = (there + CHUNK - 1) / CHUNK;
        int lanes = threads / chunks, lane = self / chunks, c = from + self % chunks * CHUNK;
        float sum[CHUNK] = { 0 }, centre[CHUNK] = { 0 };
        if (SQUARES) {
#pragma unroll
            for (int k = 0; k < CHUNK; k++)
                centre[k] = mean[min(c + k, channels - 1) / size];
        }
        if (lane < lanes) {
#pragma unroll 4
            for (int64_t p = lane; p < width; p += lanes) {
                float v[CHUNK];
                load_chunk(v, x + p * stride + c, channels - c, wide);
#pragma unroll
                for (int k = 0; k < CHUNK; k++) {
                    float away = v[k] - centre[k];
                    sum[k] += SQUARES ? away * away : away;
                }
            }
        }
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            part[k * threads + self] = sum[k];
        __syncthreads();
        for (int j = self; j < there; j += threads) { /* a channel: its lanes in order, into the first's place */
            float *of_channel = part + j % CHUNK * threads + j / CHUNK, s = 0.0f;
            for (int l = 0; l < lanes; l++)
                s += of_channel[l * chunks];
            of_channel[0] = s;
        }
        __syncthreads();
        if (self < groups)
            for (int j = max(self * size - from, 0); j < min((self + 1) * size - from, there); j++)
                total[self] += part[j % CHUNK * threads + j / CHUNK];
        __syncthreads();
    }
}

template <class X>
static __global__ void __launch_bounds__(MOMENTS_BLOCK)
    row_moments(struct slabs a, float *moments, int64_t m_row, int64_t m_group, const X *x, int64_t x_row,
                int64_t x_pixel, bool wide)
{
    SHARED(bytes);
    __shared__ float mean[SLAB], total[SLAB];
    int64_t first = blockIdx.y * a.of_slab;
    int groups = (int)min(a.of_slab, a.groups - first), size = (int)a.size, self = (int)threadIdx.x;
    float *part = reinterpret_cast<float *>(bytes), *m = moments + blockIdx.x * m_row + (first + self) * m_group;
    x += blockIdx.x * x_row + first * size;
    group_sums<false>(total, mean, x, x_pixel, a.width, groups, size, wide, part);
    if (self < groups)
        mean[self] = total[self] / (float)(a.width * size);
    __syncthreads();
    group_sums<true>(total, mean, x, x_pixel, a.width, groups, size, wide, part); /* from the L2 cache, mostly */
    if (self < groups) {
        m[0] = mean[self];
        m[1] = total[self];
    }
}

cudaError_t cuda_k_group_moments(cudaStream_t s, struct tensor moments, struct tensor x)
{
    struct slabs a = slabs_of(x, moments.shape[1]);
    /* Four pixels a thread, if there are as many; at least a thread for each group. */
    int64_t chunks = ceil_div(a.of_slab * a.size, CHUNK);
    int64_t threads = ceil_div(ceil_div(chunks * a.width, 4), WARP) * WARP;
    threads = min(max(threads, (int64_t)SLAB), (int64_t)MOMENTS_BLOCK);
    dim3 grid(grid_x(a.height), slabs_count(a)), block((unsigned)threads);
    return by_type(x.dtype, [&](auto type) {
        typedef decltype(type) X;
        return LAUNCH((row_moments<X>), grid, block, (size_t)threads * CHUNK * sizeof(float), s, a,
                      (float *)moments.data, moments.stride[0], moments.stride[1], (const X *)x.data, x.stride[0],
                      x.stride[1], rows_wide<X>(x) && slabs_whole(a));
    });
}

/* --- group norm: a block for some pixels and a slab ------------------------------------------------ */
/* Each block merges the moments of the whole picture's rows for its groups, which is little beside
 * its pixels when there are no more than APPLY_PIECES blocks along the picture. */
enum { APPLY_BLOCK = 512, APPLY_PIECES = 256 };

/* A sum that keeps what its rounding loses (Knuth): as good as double, where a card has few units for that. */
struct kept_sum { float sum, lost; };

static __device__ inline void keep_add(struct kept_sum &s, float v)
{
    float t = s.sum + v, part = t - s.sum;
    s.lost += (s.sum - (t - part)) + (v - part);
    s.sum = t;
}

/* total[g] of each group over the lanes that summed it, in order. */
static __device__ inline void merge_lanes(double *total, struct kept_sum s, int groups, int lanes, double *part)
{
    int self = (int)threadIdx.x;
    part[self] = (double)s.sum + (double)s.lost;
    __syncthreads();
    if (self < groups) {
        double t = 0.0;
        for (int l = 0; l < lanes; l++)
            t += part[l * groups + self];
        total[self] = t;
    }
    __syncthreads();
}

/* All rows are of one length, so the mean is the mean of their means; the deviations are those within the
 * rows and those of the rows' means. m: of the slab's first group. */
static __device__ inline void picture_moments(float *mean, float *variance, const float *m, int64_t m_row,
                                              int64_t m_group, int64_t rows, int groups, float n)
{
    __shared__ double part[APPLY_BLOCK], total[SLAB];
    int self = (int)threadIdx.x, lanes = APPLY_BLOCK / groups, lane = self / groups, group = self % groups;
    int64_t end = lane < lanes ? rows : 0;
    m += group * m_group;
    struct kept_sum s = { 0.0f, 0.0f };
#pragma unroll 4
    for (int64_t r = lane; r < end; r += lanes)
        keep_add(s, m[r * m_row]);
    merge_lanes(total, s, groups, lanes, part);
    if (self < groups)
        mean[self] = (float)(total[self] / (double)rows);
    __syncthreads();
    float centre = mean[group];
    s = { 0.0f, 0.0f };
#pragma unroll 4
    for (int64_t r = lane; r < end; r += lanes) {
        float away = m[r * m_row] - centre;
        keep_add(s, m[r * m_row + 1] + n * (away * away));
    }
    merge_lanes(total, s, groups, lanes, part);
    if (self < groups)
        variance[self] = (float)(total[self] / ((double)n * (double)rows));
    __syncthreads();
}

struct group_norm {
    struct slabs a;
    const float *moments;
    int64_t m_row, m_group, m_rows;
    int64_t y_row, y_pixel, x_row, x_pixel;
    int64_t piece; /* pixels of a block */
    bool y_wide, x_wide;
    struct vector w, b;
    float eps;
    enum act act;
};

template <class Y, class X>
static __global__ void __launch_bounds__(APPLY_BLOCK) group_apply(struct group_norm n, Y *y, const X *x)
{
    __shared__ float mean[SLAB], variance[SLAB];
    const struct slabs &a = n.a;
    int64_t first = blockIdx.y * a.of_slab, begin = blockIdx.x * n.piece;
    int64_t end = min(begin + n.piece, a.height * a.width);
    int groups = (int)min(a.of_slab, a.groups - first), size = (int)a.size, channels = groups * size;
    int self = (int)threadIdx.x;
    picture_moments(mean, variance, n.moments + first * n.m_group, n.m_row, n.m_group, n.m_rows, groups,
                    (float)(a.width * size));
    for (int from = 0; from < channels; from += APPLY_BLOCK * CHUNK) { /* once, but for enormous groups */
        int chunks = (min(channels - from, APPLY_BLOCK * CHUNK) + CHUNK - 1) / CHUNK, lanes = APPLY_BLOCK / chunks;
        int lane = self / chunks, c = from + self % chunks * CHUNK;
        int64_t left = channels - c, channel = first * size + c;
        if (lane >= lanes)
            continue;
        float centre[CHUNK], gain[CHUNK], offset[CHUNK];
        load_chunk(gain, n.w, channel, left);
        load_chunk(offset, n.b, channel, left);
#pragma unroll
        for (int k = 0; k < CHUNK; k++) {
            int group = min(c + k, channels - 1) / size;
            centre[k] = mean[group];
            gain[k] *= 1.0f / sqrtf(variance[group] + n.eps);
        }
        for (int64_t p = begin + lane; p < end; p += lanes) {
            int64_t row = divide(p, a.width), col = p - row * a.width;
            float v[CHUNK];
            load_chunk(v, x + row * n.x_row + col * n.x_pixel + channel, left, n.x_wide);
#pragma unroll
            for (int k = 0; k < CHUNK; k++)
                v[k] = (v[k] - centre[k]) * gain[k] + offset[k];
            act_chunk(n.act, v);
            store_chunk(y + row * n.y_row + col * n.y_pixel + channel, v, left, n.y_wide);
        }
    }
}

cudaError_t cuda_k_group_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor moments,
                              struct tensor w, struct tensor b, float eps, enum act act)
{
    struct group_norm n = {};
    n.a = slabs_of(x, moments.shape[1]);
    n.moments = (const float *)moments.data;
    n.m_row = moments.stride[0];
    n.m_group = moments.stride[1];
    n.m_rows = moments.shape[0];
    n.y_row = y.stride[0];
    n.y_pixel = y.stride[1];
    n.x_row = x.stride[0];
    n.x_pixel = x.stride[1];
    bool whole = slabs_whole(n.a);
    n.w = vector_of(w);
    n.b = vector_of(b);
    n.w.wide &= whole;
    n.b.wide &= whole;
    n.eps = eps;
    n.act = act;
    int64_t pixels = n.a.height * n.a.width, chunks = ceil_div(n.a.of_slab * n.a.size, CHUNK);
    int64_t at_once = ceil_div(APPLY_BLOCK, chunks); /* pixels */
    n.piece = max(ceil_div(pixels, APPLY_PIECES), at_once);
    dim3 grid((unsigned)ceil_div(pixels, n.piece), slabs_count(n.a)), block(APPLY_BLOCK);
    return by_types(y.dtype, x.dtype, [&](auto to, auto from) {
        typedef decltype(to) Y;
        typedef decltype(from) X;
        n.y_wide = rows_wide<Y>(y) && whole;
        n.x_wide = rows_wide<X>(x) && whole;
        return LAUNCH((group_apply<Y, X>), grid, block, 0, s, n, (Y *)y.data, (const X *)x.data);
    });
}

/* --- pixels to places: a thread a chunk ------------------------------------------------------------- */
enum { PIXEL_BLOCK = 256 };

struct upsample {
    int64_t width, chunks, channels, total; /* of x; total: of chunks in all */
    int64_t y_row, y_pixel, x_row, x_pixel;
    bool y_wide, x_wide;
};

template <class Y, class X> static __global__ void upsample(struct upsample a, Y *y, const X *x)
{
    int64_t i = (int64_t)blockIdx.x * PIXEL_BLOCK + threadIdx.x;
    if (i >= a.total)
        return;
    int64_t pixel = divide(i, a.chunks), c = (i - pixel * a.chunks) * CHUNK, left = a.channels - c;
    int64_t row = divide(pixel, a.width), col = pixel - row * a.width;
    float v[CHUNK];
    load_chunk(v, x + row * a.x_row + col * a.x_pixel + c, left, a.x_wide);
    y += 2 * row * a.y_row + 2 * col * a.y_pixel + c;
    store_chunk(y, v, left, a.y_wide);
    store_chunk(y + a.y_pixel, v, left, a.y_wide);
    store_chunk(y + a.y_row, v, left, a.y_wide);
    store_chunk(y + a.y_row + a.y_pixel, v, left, a.y_wide);
}

cudaError_t cuda_k_upsample2x(cudaStream_t s, struct tensor y, struct tensor x)
{
    struct upsample a = {};
    a.width = x.shape[1];
    a.channels = x.shape[2];
    a.chunks = ceil_div(a.channels, CHUNK);
    a.total = x.shape[0] * a.width * a.chunks;
    a.y_row = y.stride[0];
    a.y_pixel = y.stride[1];
    a.x_row = x.stride[0];
    a.x_pixel = x.stride[1];
    return by_types(y.dtype, x.dtype, [&](auto to, auto from) {
        typedef decltype(to) Y;
        typedef decltype(from) X;
        a.y_wide = rows_wide<Y>(y);
        a.x_wide = rows_wide<X>(x);
        return LAUNCH((upsample<Y, X>), dim3(grid_x(ceil_div(a.total, PIXEL_BLOCK))), dim3(PIXEL_BLOCK), 0, s, a,
                      (Y *)y.data, (const X *)x.data);
    });
}

/* A thread reads the kernel of one output and input channel, which is dense; neighbours write neighbours. */
template <class Y, class W>
static __global__ void conv_weights(int64_t total, int64_t inputs, int taps, Y *y, const W *w)
{
    int64_t i = (int64_t)blockIdx.x * PIXEL_BLOCK + threadIdx.x;
    if (i >= total)
        return;
    int64_t output = divide(i, inputs), input = i - output * inputs;
    y += output * taps * inputs + input;
    w += i * taps;
    for (int t = 0; t < taps; t++)
        y[t * inputs] = from_float<Y>(to_float(w[t]));
}

cudaError_t cuda_k_conv_weights(cudaStream_t s, struct tensor y, struct tensor w)
{
    int64_t inputs = w.shape[1], total = w.shape[0] * inputs;
    return by_types(y.dtype, w.dtype, [&](auto to, auto from) {
        typedef decltype(to) Y;
        typedef decltype(from) W;
        return LAUNCH((conv_weights<Y, W>), dim3(grid_x(ceil_div(total, PIXEL_BLOCK))), dim3(PIXEL_BLOCK), 0, s, total,
                      inputs, (int)(w.shape[2] * w.shape[3]), (Y *)y.data, (const W *)w.data);
    });
}

struct im2col {
    int64_t total, chunks, channels, y_row, x_row, x_pixel, height, width; /* of x; total: of chunks in all */
    int64_t from, out_width;
    int taps, kw, stride, top, left;
    bool y_wide, x_wide;
};

template <class Y, class X> static __global__ void im2col(struct im2col a, Y *y, const X *x)
{
    int64_t i = (int64_t)blockIdx.x * PIXEL_BLOCK + threadIdx.x;
    if (i >= a.total)
        return;
    int64_t at = divide(i, a.chunks), c = (i - at * a.chunks) * CHUNK, p = divide(at, a.taps);
    int tap = (int)(at - p * a.taps), down = tap / a.kw, right = tap - down * a.kw;
    int64_t out_row = divide(a.from + p, a.out_width), out_col = a.from + p - out_row * a.out_width;
    int64_t row = out_row * a.stride - a.top + down, col = out_col * a.stride - a.left + right;
    float v[CHUNK] = { 0 };
    if (row >= 0 && row < a.height && col >= 0 && col < a.width)
        load_chunk(v, x + row * a.x_row + col * a.x_pixel + c, a.channels - c, a.x_wide);
    store_chunk(y + p * a.y_row + tap * a.channels + c, v, a.channels - c, a.y_wide);
}

cudaError_t cuda_k_im2col(cudaStream_t s, struct tensor y, struct tensor x, int64_t from, int64_t width, int kh, int kw,
                          int stride, int top, int left)
{
    struct im2col a = {};
    a.channels = x.shape[2];
    a.chunks = ceil_div(a.channels, CHUNK);
    a.y_row = y.stride[0];
    a.taps = kh * kw;
    a.total = y.shape[0] * a.taps * a.chunks;
    a.x_row = x.stride[0];
    a.x_pixel = x.stride[1];
    a.height = x.shape[0];
    a.width = x.shape[1];
    a.from = from;
    a.out_width = width;
    a.kw = kw;
    a.stride = stride;
    a.top = top;
    a.left = left;
    const int64_t steps[] = { y.stride[0], a.channels }; /* every tap begins a row of its own */
    return by_types(y.dtype, x.dtype, [&](auto to, auto of) {
        typedef decltype(to) Y;
        typedef decltype(of) X;
        a.y_wide = wide_at<Y>(y.data, steps, 2);
        a.x_wide = rows_wide<X>(x);
        return LAUNCH((im2col<Y, X>), dim3(grid_x(ceil_div(a.total, PIXEL_BLOCK))), dim3(PIXEL_BLOCK), 0, s, a,
                      (Y *)y.data, (const X *)x.data);
    });
}
