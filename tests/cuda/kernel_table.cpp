/* kernel_table.cpp - see kernel_table.h. */
#include "tests/cuda/kernel_table.h"

#include "kernels/cuda_kernels.h"

#define KERNEL(name) [](auto... a) { return (int)cuda_k_##name(nullptr, a...); }

extern "C" __attribute__((visibility("default"))) const struct fake_cuda_kernels fake_cuda_kernels = {
    .norm_modulate = KERNEL(norm_modulate),
    .layer_norm = KERNEL(layer_norm),
    .rms_norm = KERNEL(rms_norm),
    .qk_norm_rope = KERNEL(qk_norm_rope),
    .activate = KERNEL(activate),
    .add = KERNEL(add),
    .multiply = KERNEL(multiply),
    .gated_add = KERNEL(gated_add),
    .copy = KERNEL(copy),
    .saturate = KERNEL(saturate),
    .conv_finish = KERNEL(conv_finish),
    .group_moments = KERNEL(group_moments),
    .group_norm = KERNEL(group_norm),
    .upsample2x = KERNEL(upsample2x),
    .conv_weights = KERNEL(conv_weights),
    .im2col = KERNEL(im2col),
    .wait = [] { return (int)cudaDeviceSynchronize(); },
};
