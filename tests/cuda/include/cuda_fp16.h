/* cuda_fp16.h - half precision for kernels that run on the processor: see cuda_runtime.h.
 * Storage and conversion (to nearest even; NaN stays NaN). There is no arithmetic on
 * __half, on purpose: kernels compute in float. */
#ifndef FAKE_CUDA_FP16_H
#define FAKE_CUDA_FP16_H

#include "cuda_runtime.h"

struct __half_raw { unsigned short x; };
struct __half2_raw { unsigned short x, y; };

namespace shim {
inline float half_to_float(unsigned short h)
{
    unsigned magnitude = (h & 0x7fffu) << 13;
    float f = __uint_as_float(magnitude) * 0x1p112f; /* moves the exponent's bias from 15 to 127 */
    unsigned bits = __float_as_uint(f) | ((h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0);
    return __uint_as_float(bits | (h & 0x8000u) << 16);
}

inline unsigned short half_from_float(float f)
{
    unsigned u = __float_as_uint(f), sign = u >> 16 & 0x8000u, m = u & 0x7fffffffu;
    if (m > 0x7f800000u)
        return 0x7fff; /* the one NaN that a card gives */
    if (m >= 0x47800000u) /* 65536 and more */
        return (unsigned short)(sign | 0x7c00u);
    if (m < 0x38800000u) /* below 2^-14: an addition rounds to the subnormal's last place */
        return (unsigned short)(sign | (__float_as_uint(__uint_as_float(m) + 0.5f) - 0x3f000000u));
    m += 0xfffu + (m >> 13 & 1u) - (112u << 23);
    return (unsigned short)(sign | m >> 13);
}
}

struct __half {
    unsigned short bits;
    __half() = default;
    __half(float f) : bits(shim::half_from_float(f)) { }
    __half(__half_raw r) : bits(r.x) { }
    operator float() const { return shim::half_to_float(bits); }
    operator __half_raw() const { return { bits }; }
};
struct alignas(4) __half2 {
    __half x, y;
    __half2() = default;
    __half2(__half a, __half b) : x(a), y(b) { }
};
typedef __half half;
typedef __half2 half2;

__half operator+(__half, __half) = delete;
__half operator-(__half, __half) = delete;
__half operator*(__half, __half) = delete;
__half operator/(__half, __half) = delete;

inline __half __ushort_as_half(unsigned short u) { return __half(__half_raw{ u }); }
inline unsigned short __half_as_ushort(__half h) { return h.bits; }
inline __half __short_as_half(short s) { return __ushort_as_half((unsigned short)s); }
inline short __half_as_short(__half h) { return (short)h.bits; }
inline __half __float2half(float f) { return __half(f); }
inline __half __float2half_rn(float f) { return __half(f); }
inline float __half2float(__half h) { return h; }
inline __half2 __halves2half2(__half a, __half b) { return __half2(a, b); }
inline __half2 __half2half2(__half a) { return __half2(a, a); }
inline __half2 __float2half2_rn(float f) { return __half2(f, f); }
inline __half2 __floats2half2_rn(float a, float b) { return __half2(a, b); }
inline float2 __half22float2(__half2 h) { return make_float2(h.x, h.y); }
inline float __low2float(__half2 h) { return h.x; }
inline float __high2float(__half2 h) { return h.y; }
inline __half __low2half(__half2 h) { return h.x; }
inline __half __high2half(__half2 h) { return h.y; }
inline bool __hisnan(__half h) { return (h.bits & 0x7fff) > 0x7c00; }
inline int __hisinf(__half h) { return (h.bits & 0x7fff) != 0x7c00 ? 0 : h.bits & 0x8000 ? -1 : 1; }

#endif
