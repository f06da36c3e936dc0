/* cpu_vec.h - loops over dense rows of floats, compiled for several processors
 * and chosen when the program starts. No threads, no allocation. n >= 0. */
#ifndef SLUICE_CPU_VEC_H
#define SLUICE_CPU_VEC_H

#include "kernels/device.h"

void vec_load(float *restrict y, const void *restrict x, enum dtype t, int64_t n);  /* any floating type */
void vec_store(void *restrict y, enum dtype t, const float *restrict x, int64_t n); /* F32, BF16, F16 (saturating) */
void vec_convert(void *restrict y, enum dtype to, const void *restrict x, enum dtype from, int64_t n);

/* y = a*x rounded to BF16; y may begin where x does. */
void vec_scale_to_bf16(uint16_t *y, const float *x, float a, int64_t n);

float vec_sum(const float *x, int64_t n);
float vec_sum_square(const float *x, float mean, int64_t n); /* sum of (x-mean)^2 */
float vec_max(const float *x, int64_t n);                    /* a NaN may win or be passed over; -inf if n == 0 */

void vec_affine(float *x, float a, float b, int64_t n);      /* x = a*x + b */
void vec_add(float *restrict y, const float *restrict x, int64_t n);
void vec_multiply(float *restrict y, const float *restrict x, int64_t n);
void vec_add_square(float *restrict y, const float *restrict x, const float *restrict c, int64_t n); /* y += (x-c)^2 */
/* x = (x - mean) * inv * w + b */
void vec_normalise(float *restrict x, float mean, float inv, const float *restrict w,
                   const float *restrict b, int64_t n);
void vec_act(float *x, enum act act, int64_t n);
/* x = exp(scale * (x - max)); returns the sum. scale > 0. */
float vec_exp(float *x, float scale, float max, int64_t n);
/* Pairs (x[2i], x[2i+1]) turned by (cos, sin) = (rope[2i], rope[2i+1]). n even. */
void vec_rope(float *restrict x, const float *restrict rope, int64_t n);

#endif
