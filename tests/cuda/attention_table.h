/* attention_table.h - the CUDA device's attention kernels and what they are made of one by one, for tests:
 * build/fake/libsluice-cuda.so exports `fake_cuda_attention` (dlsym). Data may be any memory of the process. Each
 * has done its work when it returns; 0 is success. C and C++. */
#ifndef FAKE_CUDA_ATTENTION_TABLE_H
#define FAKE_CUDA_ATTENTION_TABLE_H

#include "kernels/tensor.h"

struct fake_cuda_attention {
    /* As in kernels/cuda_kernels.h. */
    bool (*flash_can)(int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v);
    int (*flash)(int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale);
    int (*attention)(struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale, bool causal,
                     struct tensor bias);
    /* kernels/cuda_mma.h, its fragments spelt out as in the PTX manual. c[16,8] += a[16,16] b[16,8]; type: F16 or
     * BF16. Then: four matrices of [8,8], each transposed or not. */
    int (*product)(enum dtype type, float *c, const void *a, const void *b);
    int (*load)(bool transposed, uint16_t *to, const uint16_t *from);
};

#endif
