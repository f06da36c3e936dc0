/* tensor.c - see tensor.h. */
#include "kernels/tensor.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[DT_COUNT_] = {
    [DT_NONE] = { "none", 0 },   [DT_F32] = { "F32", 4 },        [DT_BF16] = { "BF16", 2 },
    [DT_F16] = { "F16", 2 },     [DT_F64] = { "F64", 8 },        [DT_I32] = { "I32", 4 },
    [DT_I64] = { "I64", 8 },     [DT_U8] = { "U8", 1 },          [DT_I8] = { "I8", 1 },
    [DT_F8_E4M3] = { "F8_E4M3", 1 }, [DT_F8_E5M2] = { "F8_E5M2", 1 }, [DT_BOOL] = { "BOOL", 1 },
    [DT_I16] = { "I16", 2 },
};

size_t dtype_bytes(enum dtype t)
{
    return (unsigned)t < DT_COUNT_ ? dtypes[t].bytes : 0;
}

const char *dtype_name(enum dtype t)
{
    return (unsigned)t < DT_COUNT_ ? dtypes[t].name : "?";
}

enum dtype dtype_from_name(const char *name)
{
    for (int t = DT_NONE + 1; t < DT_COUNT_; t++)
        if (!strcmp(dtypes[t].name, name))
            return (enum dtype)t;
    return DT_NONE;
}

static struct tensor dense(void *data, enum dtype t, int ndim, const int64_t *shape)
{
    struct tensor r = { .data = data, .dtype = t, .ndim = ndim };
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        assert(shape[i] >= 1);
        r.shape[i] = shape[i];
        r.stride[i] = step;
        step *= shape[i];
    }
    return r;
}

struct tensor tensor_1d(void *data, enum dtype t, int64_t n)
{
    return dense(data, t, 1, (int64_t[]){ n });
}

struct tensor tensor_2d(void *data, enum dtype t, int64_t rows, int64_t cols)
{
    return dense(data, t, 2, (int64_t[]){ rows, cols });
}

struct tensor tensor_3d(void *data, enum dtype t, int64_t a, int64_t b, int64_t c)
{
    return dense(data, t, 3, (int64_t[]){ a, b, c });
}

struct tensor tensor_4d(void *data, enum dtype t, int64_t a, int64_t b, int64_t c, int64_t d)
{
    return dense(data, t, 4, (int64_t[]){ a, b, c, d });
}

static void *offset(struct tensor t, int64_t elements)
{
    return (void *)((uintptr_t)t.data + (size_t)elements * dtype_bytes(t.dtype));
}

struct tensor tensor_rows(struct tensor t, int64_t from, int64_t n)
{
    assert(from >= 0 && n >= 1 && from + n <= t.shape[0]);
    t.data = offset(t, from * t.stride[0]);
    t.shape[0] = n;
    return t;
}

struct tensor tensor_cols(struct tensor t, int64_t from, int64_t n)
{
    assert(from >= 0 && n >= 1 && from + n <= t.shape[t.ndim - 1]);
    t.data = offset(t, from);
    t.shape[t.ndim - 1] = n;
    return t;
}

struct tensor tensor_split(struct tensor t, int64_t a, int64_t b)
{
    assert(t.ndim == 2 && a * b == t.shape[1]);
    t.ndim = 3;
    t.shape[1] = a;
    t.shape[2] = b;
    t.stride[1] = b;
    t.stride[2] = 1;
    return t;
}

struct tensor tensor_as_2d(struct tensor t, int64_t rows, int64_t cols)
{
    assert(tensor_dense(t) && rows * cols == tensor_count(t));
    return tensor_2d(t.data, t.dtype, rows, cols);
}

int64_t tensor_count(struct tensor t)
{
    if (t.ndim == 0)
        return 0;
    int64_t n = 1;
    for (int i = 0; i < t.ndim; i++)
        n *= t.shape[i];
    return n;
}

size_t tensor_bytes(struct tensor t)
{
    return (size_t)tensor_count(t) * dtype_bytes(t.dtype);
}

bool tensor_dense(struct tensor t)
{
    int64_t step = 1;
    for (int i = t.ndim - 1; i >= 0; i--) {
        if (t.shape[i] != 1 && t.stride[i] != step)
            return false;
        step *= t.shape[i];
    }
    return true;
}

bool tensor_same_shape(struct tensor a, struct tensor b)
{
    return a.ndim == b.ndim && !memcmp(a.shape, b.shape, (size_t)a.ndim * sizeof a.shape[0]);
}

const char *tensor_describe(struct tensor t, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, "%s [", dtype_name(t.dtype));
    for (int i = 0; i < t.ndim && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, "%s%lld", i ? ", " : "", (long long)t.shape[i]);
    if (n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}

float f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0x1f)
        return f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent)
        return f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    float tiny = (float)mantissa * 0x1p-24f;
    return sign ? -tiny : tiny;
}

uint16_t f16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    uint16_t sign = (uint16_t)((u >> 16) & 0x8000u);
    float a = fabsf(f);
    if (isnan(f))
        return (uint16_t)(sign | 0x7e00u);
    if (a >= 65520.0f)
        return (uint16_t)(sign | 0x7c00u);
    if (a < 0x1p-14f)
        return (uint16_t)(sign | (uint16_t)(uint32_t)nearbyintf(a * 0x1p24f));
    uint32_t m = f32_bits(a);
    m += 0xfffu + ((m >> 13) & 1u);
    return (uint16_t)(sign | ((m >> 13) - (112u << 10)));
}

float f32_from_f8e4m3(uint8_t b)
{
    uint32_t sign = (uint32_t)(b & 0x80u) << 24;
    uint32_t exponent = (b >> 3) & 0xfu;
    uint32_t mantissa = b & 7u;
    if (exponent == 0xf && mantissa == 7)
        return f32_from_bits(sign | 0x7fc00000u);
    if (exponent)
        return f32_from_bits(sign | (exponent + 120) << 23 | mantissa << 20);
    float tiny = (float)mantissa * 0x1p-9f;
    return sign ? -tiny : tiny;
}

float f32_from_f8e5m2(uint8_t b)
{
    return f32_from_f16((uint16_t)(b << 8));
}

double dtype_load(const void *data, enum dtype t, int64_t i)
{
    switch (t) {
    case DT_F32: return ((const float *)data)[i];
    case DT_BF16: return f32_from_bf16(((const uint16_t *)data)[i]);
    case DT_F16: return f32_from_f16(((const uint16_t *)data)[i]);
    case DT_F64: return ((const double *)data)[i];
    case DT_I32: return ((const int32_t *)data)[i];
    case DT_I64: return (double)((const int64_t *)data)[i];
    case DT_I16: return ((const int16_t *)data)[i];
    case DT_F8_E4M3: return f32_from_f8e4m3(((const uint8_t *)data)[i]);
    case DT_F8_E5M2: return f32_from_f8e5m2(((const uint8_t *)data)[i]);
    case DT_U8:
    case DT_BOOL: return ((const uint8_t *)data)[i];
    case DT_I8: return ((const int8_t *)data)[i];
    case DT_NONE:
    case DT_COUNT_: break;
    }
    assert(!"dtype_load: no such type");
    return NAN;
}

void dtype_store(void *data, enum dtype t, int64_t i, double v)
{
    switch (t) {
    case DT_F32: ((float *)data)[i] = (float)v; break;
    case DT_BF16: ((uint16_t *)data)[i] = bf16_from_f32((float)v); break;
    case DT_F16: ((uint16_t *)data)[i] = f16_from_f32((float)v); break;
    case DT_F64: ((double *)data)[i] = v; break;
    default: assert(!"dtype_store: not a floating type");
    }
}
