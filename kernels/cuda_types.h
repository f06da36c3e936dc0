/* cuda_types.h - what the kernels have in common: element types, chunks of a row,
 * activations, sums over a warp and a block. CUDA C++, included by .cu files only.
 *
 * All arithmetic is F32: an element is widened by to_float and rounded once by
 * from_float<T>. A row is worked on in chunks of CHUNK elements, of which a thread
 * has whole ones. How a chunk is fetched, by 16-byte accesses or one element at a
 * time, never decides who adds what to what: the bytes of a result do not depend on
 * where its operands lie. Sums have an order fixed by the number of threads alone. */
#ifndef SLUICE_CUDA_TYPES_H
#define SLUICE_CUDA_TYPES_H

#include "kernels/cuda_lang.h"

#include <math.h>

enum { CHUNK = 8, WARP = 32 };

/* --- elements ----------------------------------------------------------------------- */
struct f8_e4m3 { unsigned char bits; };

static __device__ inline float to_float(float v) { return v; }
static __device__ inline float to_float(__half v) { return __half2float(v); }
static __device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }

static __device__ inline float to_float(f8_e4m3 v)
{
    unsigned sign = (v.bits & 0x80u) << 24, rest = v.bits & 0x7fu;
    if (rest == 0x7f)
        return __uint_as_float(sign | 0x7fc00000u);
    if (rest < 8) /* subnormal: units of 2^-9 */
        return copysignf((float)rest * 0x1p-9f, __uint_as_float(sign));
    return __uint_as_float(sign | ((rest << 20) + (120u << 23)));
}

/* Rounded to nearest even. NaN stays NaN; to F16 what is finite stays finite. */
template <class T> static __device__ inline T from_float(float v);
template <> __device__ inline float from_float<float>(float v) { return v; }
template <> __device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16_rn(v); }

static const float F16_MAX = 65504.0f;

template <> __device__ inline __half from_float<__half>(float v)
{
    float finite = fminf(fmaxf(v, -F16_MAX), F16_MAX);
    return __float2half_rn(fabsf(v) < INFINITY ? finite : v); /* fminf and fmaxf lose a NaN */
}

/* --- chunks -------------------------------------------------------------------------- */
/* What one access of at most 16 bytes moves of a chunk. */
template <class T> struct access {
    static const int bytes = CHUNK * sizeof(T) < 16 ? CHUNK * (int)sizeof(T) : 16;
    static const int count = bytes / (int)sizeof(T);
    struct alignas(bytes) pack { T at[count]; };
};

/* The chunk at p, of which `left` elements are there; zeros behind them. wide: p is aligned for access<T>. */
template <class T> static __device__ inline void load_chunk(float (&v)[CHUNK], const T *p, int64_t left, bool wide)
{
    typedef typename access<T>::pack pack;
    const int count = access<T>::count;
    if (wide && left >= CHUNK) {
#pragma unroll
        for (int i = 0; i < CHUNK / count; i++) {
            pack q = reinterpret_cast<const pack *>(p)[i];
#pragma unroll
            for (int k = 0; k < count; k++)
                v[i * count + k] = to_float(q.at[k]);
        }
    } else {
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            v[k] = k < left ? to_float(p[k]) : 0.0f;
    }
}

template <class T> static __device__ inline void store_chunk(T *p, const float (&v)[CHUNK], int64_t left, bool wide)
{
    typedef typename access<T>::pack pack;
    const int count = access<T>::count;
    if (wide && left >= CHUNK) {
#pragma unroll
        for (int i = 0; i < CHUNK / count; i++) {
            pack q;
#pragma unroll
            for (int k = 0; k < count; k++)
                q.at[k] = from_float<T>(v[i * count + k]);
            reinterpret_cast<pack *>(p)[i] = q;
        }
    } else {
#pragma unroll
        for (int k = 0; k < CHUNK; k++)
            if (k < left)
                p[k] = from_float<T>(v[k]);
    }
}

/* A vector of weights, of a type that is known at run time only: all threads take the same branch. */
struct vector {
    const void *data; /* NULL: absent */
    enum dtype type;  /* F32, BF16 or F16 */
    bool wide;
};

/* Elements from j on, of which `left` are there. */
static __device__ inline void load_chunk(float (&v)[CHUNK], struct vector x, int64_t j, int64_t left)
{
    if (x.type == DT_F32)
        load_chunk(v, (const float *)x.data + j, left, x.wide);
    else if (x.type == DT_BF16)
        load_chunk(v, (const __nv_bfloat16 *)x.data + j, left, x.wide);
    else
        load_chunk(v, (const __half *)x.data + j, left, x.wide);
}

/* --- activations ----------------------------------------------------------------------- */
static __device__ inline float act_float(enum act act, float x)
{
    switch (act) {
    case ACT_NONE: break;
    case ACT_SILU: return x / (1.0f + expf(-x));
    case ACT_QUICK_GELU: return x / (1.0f + expf(-1.702f * x));
    case ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));
    case ACT_GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
    case ACT_RELU: return x < 0.0f ? 0.0f : x;
    }
    return x;
}

/* The switch outside of the loop: one branch for a chunk. */
static __device__ inline void act_chunk(enum act act, float (&v)[CHUNK])
{
    switch (act) {
    case ACT_NONE: break;
#define ACT_CASE(name)                   \
    case name:                           \
        _Pragma("unroll")                \
        for (int k = 0; k < CHUNK; k++)  \
            v[k] = act_float(name, v[k]); \
        break;
    ACT_CASE(ACT_SILU)
    ACT_CASE(ACT_QUICK_GELU)
    ACT_CASE(ACT_GELU_TANH)
    ACT_CASE(ACT_GELU_ERF)
    ACT_CASE(ACT_RELU)
#undef ACT_CASE
    }
}

/* --- sums and maxima, the same in every thread ---------------------------------------- */
static const unsigned ALL_LANES = 0xffffffffu;

/* Over groups of `lanes` (a power of two up to WARP) neighbours; the whole warp takes part. */
static __device__ inline float warp_sum(float v, int lanes = WARP)
{
    for (int step = lanes / 2; step > 0; step /= 2)
        v += __shfl_xor_sync(ALL_LANES, v, step);
    return v;
}

static __device__ inline float warp_max(float v, int lanes = WARP)
{
    for (int step = lanes / 2; step > 0; step /= 2)
        v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, step));
    return v;
}

/* Over a block of whole warps along x; all threads take part. part: shared memory. */
static __device__ inline float block_sum(float v, float (&part)[WARP])
{
    int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP, warps = (int)blockDim.x / WARP;
    v = warp_sum(v);
    if (warps == 1)
        return v;
    __syncthreads(); /* part may still be read by a sum before */
    if (lane == 0)
        part[warp] = v;
    __syncthreads();
    return warp_sum(lane < warps ? part[lane] : 0.0f);
}

/* --- indices ----------------------------------------------------------------------------- */
/* a / b of what is not negative; 64-bit division costs a card many times the 32-bit one. */
static __device__ inline int64_t divide(int64_t a, int64_t b)
{
    if (((a | b) >> 32) == 0)
        return (int64_t)((uint32_t)a / (uint32_t)b);
    return a / b;
}

/* --- on the host: choosing an instance ---------------------------------------------------- */
static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Blocks of a grid along x; more than it can have is 0, which no launch accepts. */
static inline unsigned grid_x(int64_t blocks) { return blocks <= INT32_MAX ? (unsigned)blocks : 0; }

/* f(T()) for the element type T that t names. */
template <class F> static inline cudaError_t by_type(enum dtype t, F f)
{
    switch (t) {
    case DT_F32: return f(float());
    case DT_BF16: return f(__nv_bfloat16());
    case DT_F16: return f(__half());
    default: return cudaErrorInvalidValue;
    }
}

/* f(Y(), X()) for two. */
template <class F> static inline cudaError_t by_types(enum dtype y, enum dtype x, F f)
{
    return by_type(y, [&](auto to) { return by_type(x, [&](auto from) { return f(to, from); }); });
}

/* Whether rows at these strides, in elements, may be moved by access<T>. */
template <class T> static inline bool wide_at(const void *data, const int64_t *stride, int dims)
{
    uintptr_t bits = (uintptr_t)data;
    for (int a = 0; a < dims; a++)
        bits |= (uintptr_t)stride[a] * sizeof(T);
    return bits % access<T>::bytes == 0;
}

template <class T> static inline bool rows_wide(struct tensor t) { return wide_at<T>(t.data, t.stride, t.ndim - 1); }

/* An absent tensor is an absent vector. */
static inline struct vector vector_of(struct tensor t)
{
    return (struct vector){ t.data, t.dtype, (uintptr_t)t.data % 16 == 0 };
}

#endif
