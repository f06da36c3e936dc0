/* cpu_vec.c - see cpu_vec.h. Plain loops that the compiler turns into vectors;
 * the Makefile allows it to reorder sums in this file. */
#include "kernels/cpu_vec.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Sanitizers start before the resolvers of target_clones may run. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

/* condition ? a : b without a branch; written with `?`, gcc 12 makes jumps of
 * it and leaves the whole loop scalar (ten times slower). */
static inline float choose(bool condition, float a, float b)
{
    uint32_t mask = -(uint32_t)condition;
    return f32_from_bits((f32_bits(a) & mask) | (f32_bits(b) & ~mask));
}

/* Branch-free, so that it can be done sixteen at a time. Exponent 31 is
 * infinity or NaN; below 2^-14 the multiplication normalises the subnormal. */
static inline float half_to_float(uint16_t h)
{
    float magnitude = f32_from_bits((uint32_t)(h & 0x7fffu) << 13) * 0x1p112f;
    uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u;
    return f32_from_bits(f32_bits(magnitude) | special | (uint32_t)(h & 0x8000u) << 16);
}

static inline uint16_t round_bf16(float f)
{
    uint32_t u = f32_bits(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

/* To nearest even; finite values stay finite. Below 2^-14 the sum with 0.5 rounds
 * to F16's least subnormal, 2^-24, which is the last bit of 0.5. */
static inline uint16_t round_f16(float f)
{
    uint32_t magnitude = f32_bits(f) & 0x7fffffffu, sign = (f32_bits(f) >> 16) & 0x8000u;
    uint32_t most = f32_bits(65504.0f), finite = magnitude > most ? most : magnitude;
    uint32_t normal = ((finite + 0xfffu + ((finite >> 13) & 1u)) >> 13) - (112u << 10);
    uint32_t tiny = f32_bits(f32_from_bits(magnitude) + 0.5f) - f32_bits(0.5f);
    uint32_t r = magnitude < f32_bits(0x1p-14f) ? tiny : normal;
    r = magnitude == 0x7f800000u ? 0x7c00u : r;
    r = magnitude > 0x7f800000u ? 0x7e00u : r;
    return (uint16_t)(sign | r);
}

CLONES static void load_bf16(float *restrict y, const uint16_t *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = f32_from_bits((uint32_t)x[i] << 16);
}

CLONES static void load_f16(float *restrict y, const uint16_t *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = half_to_float(x[i]);
}

CLONES static void store_bf16(uint16_t *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = round_bf16(x[i]);
}

CLONES static void store_f16(uint16_t *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = round_f16(x[i]);
}

void vec_load(float *restrict y, const void *restrict x, enum dtype t, int64_t n)
{
    if (t == DT_F32)
        memcpy(y, x, (size_t)n * sizeof *y);
    else if (t == DT_BF16)
        load_bf16(y, x, n);
    else if (t == DT_F16)
        load_f16(y, x, n);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = (float)dtype_load(x, t, i);
}

void vec_store(void *restrict y, enum dtype t, const float *restrict x, int64_t n)
{
    if (t == DT_F32)
        memcpy(y, x, (size_t)n * sizeof *x);
    else if (t == DT_BF16)
        store_bf16(y, x, n);
    else if (t == DT_F16)
        store_f16(y, x, n);
    else
        assert(!"vec_store: not a floating type");
}

void vec_convert(void *restrict y, enum dtype to, const void *restrict x, enum dtype from, int64_t n)
{
    float piece[512];
    if (to == from)
        memcpy(y, x, (size_t)n * dtype_bytes(to));
    else if (to == DT_F32)
        vec_load(y, x, from, n);
    else if (from == DT_F32)
        vec_store(y, to, x, n);
    else
        for (int64_t i = 0; i < n; i += 512) {
            int64_t m = n - i < 512 ? n - i : 512;
            vec_load(piece, (const char *)x + (size_t)i * dtype_bytes(from), from, m);
            vec_store((char *)y + (size_t)i * dtype_bytes(to), to, piece, m);
        }
}

/* A piece is read whole before it is written, and the write never overtakes the read. */
CLONES void vec_scale_to_bf16(uint16_t *y, const float *x, float a, int64_t n)
{
    float piece[64];
    for (int64_t i = 0; i < n; i += 64) {
        int64_t m = n - i < 64 ? n - i : 64;
        for (int64_t j = 0; j < m; j++)
            piece[j] = a * x[i + j];
        for (int64_t j = 0; j < m; j++)
            y[i + j] = round_bf16(piece[j]);
    }
}

/* Sixteen partial sums whatever the compiler makes of it: a serial sum of a
 * wide row would lose two digits. */
CLONES float vec_sum(const float *x, int64_t n)
{
    float lane[16] = { 0 }, s = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lane[l] += x[i + l];
    for (; i < n; i++)
        lane[i % 16] += x[i];
    for (int l = 0; l < 16; l++)
        s += lane[l];
    return s;
}

CLONES float vec_sum_square(const float *x, float mean, int64_t n)
{
    float lane[16] = { 0 }, s = 0;
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++)
            lane[l] += (x[i + l] - mean) * (x[i + l] - mean);
    for (; i < n; i++)
        lane[i % 16] += (x[i] - mean) * (x[i] - mean);
    for (int l = 0; l < 16; l++)
        s += lane[l];
    return s;
}

/* As integers: with the magnitude of negatives flipped, floats order as their
 * bits do, and an integer maximum is what the compiler can do in lanes. */
static inline int32_t ordered(int32_t bits)
{
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

CLONES float vec_max(const float *x, int64_t n)
{
    int32_t max = ordered((int32_t)f32_bits(-INFINITY));
    for (int64_t i = 0; i < n; i++) {
        int32_t v = ordered((int32_t)f32_bits(x[i]));
        max = v > max ? v : max;
    }
    return f32_from_bits((uint32_t)ordered(max));
}

CLONES void vec_affine(float *x, float a, float b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = a * x[i] + b;
}

CLONES void vec_add(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

CLONES void vec_multiply(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

CLONES void vec_add_square(float *restrict y, const float *restrict x, const float *restrict c, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += (x[i] - c[i]) * (x[i] - c[i]);
}

CLONES void vec_normalise(float *restrict x, float mean, float inv, const float *restrict w,
                          const float *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (x[i] - mean) * inv * w[i] + b[i];
}

/* exp(x) to about 1 unit in the last place: x = k ln 2 + r, |r| <= ln 2 / 2,
 * and the Taylor series of exp(r) to degree 7. Limits come first, so that what
 * follows needs no branch and can be done sixteen at a time: e^89 is infinity
 * and e^-104 is zero in float. NaN stays NaN through r. */
static inline float exp_one(float x)
{
    x = choose(x > 89.0f, 89.0f, x);
    x = choose(x < -104.0f, -104.0f, x);
    float t = x * 1.44269504f;
    int32_t k = (int32_t)(t + copysignf(0.5f, t));
    float kf = (float)k;
    float r = x - kf * 0.693359375f;
    r = r - kf * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t half = (uint32_t)(k >> 1); /* in two steps: 2^128 is no float, e^88.7 is */
    return p * f32_from_bits((half + 127) << 23) * f32_from_bits(((uint32_t)k - half + 127) << 23);
}

CLONES float vec_exp(float *x, float scale, float max, int64_t n)
{
    float s = 0;
    for (int64_t i = 0; i < n; i++) {
        float v = exp_one(scale * (x[i] - max));
        x[i] = v;
        s += v;
    }
    return s;
}

/* x * sigmoid(a x) without overflow to NaN: exp(-a x) may be infinite, x / inf is -0. */
CLONES static void act_swish(float *x, float a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = x[i] / (1.0f + exp_one(-a * x[i]));
}

/* 0.5 (1 + tanh u) is sigmoid(2u). */
CLONES static void act_gelu_tanh(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = x[i];
        float u = 1.5957691216f * (v + 0.044715f * v * v * v);
        x[i] = v / (1.0f + exp_one(-u));
    }
}

CLONES static void act_relu(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = choose(x[i] < 0.0f, 0.0f, x[i]);
}

void vec_act(float *x, enum act act, int64_t n)
{
    switch (act) {
    case ACT_NONE: break;
    case ACT_SILU: act_swish(x, 1.0f, n); break;
    case ACT_QUICK_GELU: act_swish(x, 1.702f, n); break;
    case ACT_GELU_TANH: act_gelu_tanh(x, n); break;
    case ACT_GELU_ERF:
        for (int64_t i = 0; i < n; i++)
            x[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
        break;
    case ACT_RELU: act_relu(x, n); break;
    }
}

CLONES void vec_rope(float *restrict x, const float *restrict rope, int64_t n)
{
    for (int64_t i = 0; i < n; i += 2) {
        float a = x[i], b = x[i + 1], c = rope[i], s = rope[i + 1];
        x[i] = c * a - s * b;
        x[i + 1] = s * a + c * b;
    }
}
