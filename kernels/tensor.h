/* tensor.h - a view of numbers in memory: pointer, type, shape, strides.
 *
 * A tensor owns nothing and is passed by value. Whoever made the memory (a
 * mapped file, an arena) frees it. Strides are in elements; the last dimension
 * is always contiguous (stride 1), so a "row" is dense and only whole rows,
 * planes or column ranges are skipped over. */
#ifndef SLUICE_TENSOR_H
#define SLUICE_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus /* the CUDA kernels */
extern "C" {
#endif

enum dtype {
    DT_NONE = 0,
    DT_F32,
    DT_BF16,    /* upper half of an F32 */
    DT_F16,     /* IEEE 754 binary16 */
    DT_F64,
    DT_I32,
    DT_I64,
    DT_U8,
    DT_I8,
    DT_F8_E4M3, /* OCP FP8 e4m3fn: bias 7, no infinity, NaN = 0x7f and 0xff */
    DT_F8_E5M2,
    DT_BOOL,
    DT_I16,
    DT_COUNT_,
};

enum { TENSOR_MAX_DIMS = 4 };

struct tensor {
    void *data;      /* NULL: absent. On the count device: an offset, never read */
    enum dtype dtype;
    int ndim;        /* 1..TENSOR_MAX_DIMS; 0 only in an absent tensor */
    int64_t shape[TENSOR_MAX_DIMS];
    int64_t stride[TENSOR_MAX_DIMS]; /* elements; stride[ndim-1] == 1 */
};

/* Bytes of one element; 0 for DT_NONE. */
size_t dtype_bytes(enum dtype t);
/* "F32", "BF16", ... as safetensors spells them; "?" for an unknown value. */
const char *dtype_name(enum dtype t);
/* The inverse; DT_NONE if the name is not known. */
enum dtype dtype_from_name(const char *name);

/* A dense view. Each length must be >= 1. */
struct tensor tensor_1d(void *data, enum dtype t, int64_t n);
struct tensor tensor_2d(void *data, enum dtype t, int64_t rows, int64_t cols);
struct tensor tensor_3d(void *data, enum dtype t, int64_t a, int64_t b, int64_t c);
struct tensor tensor_4d(void *data, enum dtype t, int64_t a, int64_t b, int64_t c, int64_t d);

/* Rows [from, from+n) along dimension 0. */
struct tensor tensor_rows(struct tensor t, int64_t from, int64_t n);
/* Columns [from, from+n) of the last dimension. */
struct tensor tensor_cols(struct tensor t, int64_t from, int64_t n);
/* [rows, a*b] seen as [rows, a, b]: splits the last dimension of a 2-d view. */
struct tensor tensor_split(struct tensor t, int64_t a, int64_t b);
/* A dense tensor of any rank seen as [rows, cols]; rows*cols must be its count. */
struct tensor tensor_as_2d(struct tensor t, int64_t rows, int64_t cols);

int64_t tensor_count(struct tensor t);  /* elements; 0 if absent */
size_t tensor_bytes(struct tensor t);   /* of a dense tensor of this shape */
bool tensor_dense(struct tensor t);
bool tensor_same_shape(struct tensor a, struct tensor b);
static inline bool tensor_present(struct tensor t) { return t.ndim != 0; }

/* "BF16 [3072, 64]" into buf; returns buf. */
const char *tensor_describe(struct tensor t, char *buf, size_t size);

/* --- scalar conversions; round to nearest even, NaN stays NaN ------------- */
static inline float f32_from_bits(uint32_t u)
{
    union { uint32_t u; float f; } v = { u };
    return v.f;
}

static inline uint32_t f32_bits(float f)
{
    union { float f; uint32_t u; } v = { f };
    return v.u;
}

static inline float f32_from_bf16(uint16_t b) { return f32_from_bits((uint32_t)b << 16); }

static inline uint16_t bf16_from_f32(float f)
{
    uint32_t u = f32_bits(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    uint32_t quiet = (u >> 16) | 0x40u;
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

float f32_from_f16(uint16_t h);
uint16_t f16_from_f32(float f);
float f32_from_f8e4m3(uint8_t b);
float f32_from_f8e5m2(uint8_t b);

/* Element i of dense memory of a floating type as double (tests, goldens, slow paths). */
double dtype_load(const void *data, enum dtype t, int64_t i);
/* Stores v rounded to a floating type (F32, BF16, F16, F64). */
void dtype_store(void *data, enum dtype t, int64_t i, double v);

#ifdef __cplusplus
}
#endif

#endif
