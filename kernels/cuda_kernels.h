/* cuda_kernels.h - the kernels of the cuda device, as its host code calls them.
 *
 * Each queues its work on stream s and returns what starting it returned. Data
 * pointers are device memory; shapes, strides, aliasing and rounding are those
 * of the operation of the same name in device.h, which has checked them. Result and
 * activation types are F32, BF16 or F16 in any mix, vectors of any floating type.
 * Pointers are aligned to their element only: 16-byte accesses are for rows that allow
 * them. No kernel allocates; none synchronises. C and CUDA C++. */
#ifndef SLUICE_CUDA_KERNELS_H
#define SLUICE_CUDA_KERNELS_H

#include "kernels/act.h"
#include "kernels/tensor.h"

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- rows: cuda_rows.cu ------------------------------------------------------------ */
cudaError_t cuda_k_norm_modulate(cudaStream_t s, struct tensor y, struct tensor x, struct tensor scale,
                                 struct tensor shift, float eps);
cudaError_t cuda_k_layer_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                              float eps);
cudaError_t cuda_k_rms_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor w, float eps);
cudaError_t cuda_k_qk_norm_rope(cudaStream_t s, struct tensor x, struct tensor w, struct tensor rope, float eps);
cudaError_t cuda_k_activate(cudaStream_t s, struct tensor y, struct tensor x, enum act act);
cudaError_t cuda_k_add(cudaStream_t s, struct tensor y, struct tensor x);
cudaError_t cuda_k_multiply(cudaStream_t s, struct tensor y, struct tensor x);
cudaError_t cuda_k_gated_add(cudaStream_t s, struct tensor y, struct tensor x, struct tensor gate);
/* y = x, converted; 1 to 4 dimensions, any strides. x may also be F8_E4M3 (weights as stored). */
cudaError_t cuda_k_copy(cudaStream_t s, struct tensor y, struct tensor x);
/* y = act(y), where +-infinity first becomes +-65504: after a library that does not saturate. y: F16 [m,n]. */
cudaError_t cuda_k_saturate(cudaStream_t s, struct tensor y, enum act act);
/* y[m,n] = acc[m,n] (F32) + b[n] (may be absent) + (accumulate: y), rounded once. */
cudaError_t cuda_k_conv_finish(cudaStream_t s, struct tensor y, struct tensor acc, struct tensor b, bool accumulate);

/* --- pictures: cuda_picture.cu -------------------------------------------------------- */
cudaError_t cuda_k_group_moments(cudaStream_t s, struct tensor moments, struct tensor x);
cudaError_t cuda_k_group_norm(cudaStream_t s, struct tensor y, struct tensor x, struct tensor moments,
                              struct tensor w, struct tensor b, float eps, enum act act);
cudaError_t cuda_k_upsample2x(cudaStream_t s, struct tensor y, struct tensor x);
/* y[O,kh,kw,I] = w[O,I,kh,kw], converted to y's type: the order cuDNN and im2col multiply in. */
cudaError_t cuda_k_conv_weights(cudaStream_t s, struct tensor y, struct tensor w);
/* y[P, kh*kw*I]: for output pixels [from, from + P) in row order of a convolution of x[H,W,I] that gives
 * `width` pixels a row, what lies under the kernel; zeros outside the picture. */
cudaError_t cuda_k_im2col(cudaStream_t s, struct tensor y, struct tensor x, int64_t from, int64_t width, int kh, int kw,
                          int stride, int top, int left);

/* --- attention: cuda_attention.cu ------------------------------------------------------ */
/* Tensor-core flash attention: o, q, k, v all F16 or all BF16; head dimension 64, 128 or 512; no causal
 * mask, no bias; every row 16-byte aligned; scale > 0. sm: compute capability times ten; BF16 from 80 on. */
bool cuda_k_flash_can(int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v);
cudaError_t cuda_k_flash(cudaStream_t s, int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                         float scale);
/* Any types, a head dimension up to 1024, causal mask, bias as in struct attention (absent: none); F32 arithmetic. */
cudaError_t cuda_k_attention(cudaStream_t s, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                             float scale, bool causal, struct tensor bias);

#ifdef __cplusplus
}
#endif

#endif
