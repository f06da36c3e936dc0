/* cuda_runtime.h - CUDA C++ as far as sluice's kernels use it, for g++ and the processor.
 *
 * A kernel is an ordinary function here. LAUNCH queues it on its stream with its
 * arguments; tests/cuda/shim.cpp runs it later, block after block in a random order,
 * the threads of a block in a random order too, each until it ends or has to wait for
 * others (a barrier, a shuffle). Only one block runs at a time in the whole process: so
 * threadIdx and its like are plain globals, and __shared__ is a static.
 *
 * Caught, with the kernel's name, and the process aborted: a barrier or a warp operation
 * that a thread does not come to, or where threads meet at different places or with
 * different masks; a write past the end of dynamic shared memory. Dynamic shared memory
 * holds NaN before each block; static shared memory what the last block left. Not
 * caught: a thread that reads what another of its block wrote without a barrier between
 * is wrong here only in some orders; the rounding of the fast intrinsics (__expf) is the
 * C library's. */
#ifndef FAKE_CUDA_RUNTIME_H
#define FAKE_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

/* --- vectors: aligned as on the card, where a load of 16 bytes needs 16-byte alignment -------- */
#define FAKE_CUDA_VECTOR2(name, type) \
    struct alignas(2 * sizeof(type)) name##2 { type x, y; }; \
    inline name##2 make_##name##2(type x, type y) { return { x, y }; }
#define FAKE_CUDA_VECTOR4(name, type) \
    struct alignas(4 * sizeof(type)) name##4 { type x, y, z, w; }; \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return { x, y, z, w }; }
#define FAKE_CUDA_VECTOR(name, type) FAKE_CUDA_VECTOR2(name, type) FAKE_CUDA_VECTOR4(name, type)
FAKE_CUDA_VECTOR(char, signed char)
FAKE_CUDA_VECTOR(uchar, unsigned char)
FAKE_CUDA_VECTOR(short, short)
FAKE_CUDA_VECTOR(ushort, unsigned short)
FAKE_CUDA_VECTOR(int, int)
FAKE_CUDA_VECTOR(uint, unsigned)
FAKE_CUDA_VECTOR(float, float)
FAKE_CUDA_VECTOR2(double, double)
FAKE_CUDA_VECTOR2(longlong, long long)
FAKE_CUDA_VECTOR2(ulonglong, unsigned long long)

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) { }
};

/* --- where a thread is ------------------------------------------------------------------------ */
#define FAKE_CUDA_LOCAL __attribute__((visibility("hidden")))
extern FAKE_CUDA_LOCAL uint3 threadIdx, blockIdx;
extern FAKE_CUDA_LOCAL dim3 blockDim, gridDim;
constexpr int warpSize = 32;

namespace shim {
/* Waits for all threads of the block that have not ended. where: the place in the kernel. */
void barrier(const char *where);

/* A meeting of the lanes in mask: the last to come calls meet once, with what each lane brought (NULL: a lane
 * that is not in mask); then all go on. */
typedef void (*warp_meeting)(void *const brought[32], unsigned mask);
void warp(unsigned mask, warp_meeting meet, void *brought, const char *where);
unsigned warp_alive(); /* the lanes of this warp that have not ended */

unsigned char *shared(); /* the block's dynamic shared memory */

cudaError_t launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                   cudaStream_t stream, std::function<void()> thread);

template <class... P, class... A>
cudaError_t start(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes,
                  cudaStream_t stream, A &&...args)
{
    std::tuple<std::decay_t<P>...> values(std::forward<A>(args)...);
    return launch(name, (const void *)kernel, grid, block, shared_bytes, stream,
                  [kernel, values] { std::apply(kernel, values); });
}
}

#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    shim::start(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)
#define SHARED(name) unsigned char *const name = shim::shared()

template <class... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), enum cudaFuncAttribute attr, int value)
{
    return cudaFuncSetAttribute((const void *)kernel, attr, value);
}

/* --- barriers, warps -------------------------------------------------------------------------- */
#define FAKE_CUDA_STRING_(x) #x
#define FAKE_CUDA_STRING(x) FAKE_CUDA_STRING_(x)
#define FAKE_CUDA_WHERE __FILE__ ":" FAKE_CUDA_STRING(__LINE__)

namespace shim {
struct shuffled { uint64_t value; int lane; };

inline void meet_sync(void *const *, unsigned) { }

/* lane: whose value is wanted; all values are read before one is replaced. */
inline void meet_shuffle(void *const brought[32], unsigned mask)
{
    uint64_t given[32];
    for (int i = 0; i < 32; i++) /* of a lane that is not there: a NaN in any type */
        given[i] = mask >> i & 1 ? ((shuffled *)brought[i])->value : ~(uint64_t)0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1)
            ((shuffled *)brought[i])->value = given[((shuffled *)brought[i])->lane];
}

inline void meet_ballot(void *const brought[32], unsigned mask)
{
    unsigned votes = 0;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1 && ((shuffled *)brought[i])->value)
            votes |= 1u << i;
    for (int i = 0; i < 32; i++)
        if (mask >> i & 1)
            ((shuffled *)brought[i])->value = votes;
}

inline int lane_id() { return (int)((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32); }

template <class T> T shuffle(unsigned mask, T value, int lane, const char *where)
{
    static_assert(std::is_arithmetic<T>::value || sizeof(T) <= 4, "a shuffle moves a number, or __half2 and its like");
    shuffled s = { 0, lane };
    memcpy(&s.value, &value, sizeof value);
    warp(mask, meet_shuffle, &s, where);
    memcpy(&value, &s.value, sizeof value);
    return value;
}

/* In segments of `width` lanes: who would read beyond its own keeps its value. */
template <class T> T shuffle_xor(unsigned mask, T value, int bits, const char *where, int width = 32)
{
    int self = lane_id(), lane = self ^ bits;
    return shuffle(mask, value, lane / width > self / width ? self : lane, where);
}

template <class T> T shuffle_down(unsigned mask, T value, unsigned delta, const char *where, int width = 32)
{
    int self = lane_id(), lane = self + (int)delta;
    return shuffle(mask, value, lane / width != self / width ? self : lane, where);
}

template <class T> T shuffle_up(unsigned mask, T value, unsigned delta, const char *where, int width = 32)
{
    int self = lane_id(), lane = self - (int)delta;
    return shuffle(mask, value, lane < self / width * width ? self : lane, where);
}

template <class T> T shuffle_from(unsigned mask, T value, int from, const char *where, int width = 32)
{
    return shuffle(mask, value, lane_id() / width * width + (from & (width - 1)), where);
}

inline void sync_warp(const char *where, unsigned mask = 0xffffffffu) { warp(mask, meet_sync, nullptr, where); }

inline unsigned ballot(unsigned mask, bool vote, const char *where)
{
    shuffled s = { vote, 0 };
    warp(mask, meet_ballot, &s, where);
    return (unsigned)s.value;
}
}

#define FAKE_CUDA_SHUFFLE(f, mask, value, lane, ...) f(mask, value, lane, FAKE_CUDA_WHERE, ##__VA_ARGS__)
#define __shfl_sync(mask, value, ...) FAKE_CUDA_SHUFFLE(shim::shuffle_from, mask, value, __VA_ARGS__)
#define __shfl_xor_sync(mask, value, ...) FAKE_CUDA_SHUFFLE(shim::shuffle_xor, mask, value, __VA_ARGS__)
#define __shfl_down_sync(mask, value, ...) FAKE_CUDA_SHUFFLE(shim::shuffle_down, mask, value, __VA_ARGS__)
#define __shfl_up_sync(mask, value, ...) FAKE_CUDA_SHUFFLE(shim::shuffle_up, mask, value, __VA_ARGS__)
#define __syncthreads() shim::barrier(FAKE_CUDA_WHERE)
#define __syncwarp(...) shim::sync_warp(FAKE_CUDA_WHERE, ##__VA_ARGS__)
#define __ballot_sync(mask, vote) shim::ballot(mask, vote, FAKE_CUDA_WHERE)
#define __any_sync(mask, vote) (shim::ballot(mask, vote, FAKE_CUDA_WHERE) != 0)
#define __all_sync(mask, vote) (shim::ballot(mask, !(vote), FAKE_CUDA_WHERE) == 0)
#define __activemask() shim::warp_alive()
inline void __threadfence() { }
inline void __threadfence_block() { }

/* --- bits and numbers ------------------------------------------------------------------------- */
namespace shim {
template <class To, class From> To bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
}

inline float __int_as_float(int v) { return shim::bits<float>(v); }
inline float __uint_as_float(unsigned v) { return shim::bits<float>(v); }
inline int __float_as_int(float v) { return shim::bits<int>(v); }
inline unsigned __float_as_uint(float v) { return shim::bits<unsigned>(v); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1.0f : 0.0f; } /* NaN: 0 */
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
using std::isfinite;
using std::isinf;
using std::isnan;

template <class A, class B> constexpr std::common_type_t<A, B> min(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmin((T)a, (T)b);
    else
        return (T)a < (T)b ? (T)a : (T)b;
}

template <class A, class B> constexpr std::common_type_t<A, B> max(A a, B b)
{
    typedef std::common_type_t<A, B> T;
    if constexpr (std::is_floating_point<T>::value)
        return std::fmax((T)a, (T)b);
    else
        return (T)a < (T)b ? (T)b : (T)a;
}

/* --- memory ----------------------------------------------------------------------------------- */
template <class T> T __ldg(const T *p) { return *p; }
template <class T> T __ldcs(const T *p) { return *p; }
template <class T> T __ldcg(const T *p) { return *p; }
template <class T> void __stcs(T *p, T v) { *p = v; }
template <class T> void __stcg(T *p, T v) { *p = v; }

#endif
