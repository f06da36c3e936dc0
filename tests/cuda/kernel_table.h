/* kernel_table.h - the CUDA device's row and picture kernels one by one, for tests.
 *
 * build/fake/libsluice-cuda.so exports `fake_cuda_kernels` (dlsym). Arguments and meaning are those
 * of cuda_k_* in kernels/cuda_kernels.h, on the default stream; 0 is success. Data may be any
 * memory of the process. Nothing has run before wait(). C and C++. */
#ifndef FAKE_CUDA_KERNEL_TABLE_H
#define FAKE_CUDA_KERNEL_TABLE_H

#include "kernels/act.h"
#include "kernels/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fake_cuda_kernels {
    int (*norm_modulate)(struct tensor y, struct tensor x, struct tensor scale, struct tensor shift, float eps);
    int (*layer_norm)(struct tensor y, struct tensor x, struct tensor w, struct tensor b, float eps);
    int (*rms_norm)(struct tensor y, struct tensor x, struct tensor w, float eps);
    int (*qk_norm_rope)(struct tensor x, struct tensor w, struct tensor rope, float eps);
    int (*activate)(struct tensor y, struct tensor x, enum act act);
    int (*add)(struct tensor y, struct tensor x);
    int (*multiply)(struct tensor y, struct tensor x);
    int (*gated_add)(struct tensor y, struct tensor x, struct tensor gate);
    int (*copy)(struct tensor y, struct tensor x);
    int (*saturate)(struct tensor y, enum act act);
    int (*conv_finish)(struct tensor y, struct tensor acc, struct tensor b, bool accumulate);
    int (*group_moments)(struct tensor moments, struct tensor x);
    int (*group_norm)(struct tensor y, struct tensor x, struct tensor moments, struct tensor w, struct tensor b,
                      float eps, enum act act);
    int (*upsample2x)(struct tensor y, struct tensor x);
    int (*conv_weights)(struct tensor y, struct tensor w);
    int (*im2col)(struct tensor y, struct tensor x, int64_t from, int64_t width, int kh, int kw, int stride, int top,
                  int left);
    int (*wait)(void);
};

extern const struct fake_cuda_kernels fake_cuda_kernels;

#ifdef __cplusplus
}
#endif

#endif
