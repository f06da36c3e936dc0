/* shim_kernels.h - kernels that try the shim, for tests/test_cuda_shim.c. Only the fake module has them. C and C++. */
#ifndef FAKE_CUDA_SHIM_KERNELS_H
#define FAKE_CUDA_SHIM_KERNELS_H

#include "tests/cuda/include/cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum shim_kernel {
    SHIM_ADD_ONE,         /* y[i] = x[i] + 1, any grid */
    SHIM_BLOCK_SUM,       /* y[block] = sum of x[n], by warps, then by static shared memory; block: a multiple of 32 */
    SHIM_REVERSE,         /* each block's part of x in reverse, through dynamic shared memory; n: whole blocks */
    SHIM_REVERSE_RACE,    /* the same, but for the barrier */
    SHIM_ROUNDS,          /* y[i] = x[i] moved on by n places in its block, one place and two barriers at a time */
    SHIM_EARLY_EXIT,      /* threads from n on end at once; the others meet 3 times, in blocks and warps. y[i] = n */
    SHIM_LANES,           /* y[16][block]: what the warp functions give, in the order of test_lanes */
    SHIM_UNWRITTEN,       /* y[i] = dynamic shared memory that nobody wrote */
    SHIM_SPLIT_BARRIER,   /* wrong: two barriers, half of the block at each */
    SHIM_LOST_LANE,       /* wrong: lane 0 waits for the block, the others for the warp */
    SHIM_MASKS,           /* wrong: lanes that meet say different masks */
    SHIM_BEYOND_SHARED,   /* wrong: writes the float after the end of dynamic shared memory */
};

cudaError_t shim_kernel(enum shim_kernel which, cudaStream_t s, unsigned grid, unsigned block, size_t shared_bytes,
                        float *y, const float *x, int n);
/* Allows that kernel more than 48 KiB of dynamic shared memory. */
cudaError_t shim_kernel_allow(enum shim_kernel which, int shared_bytes);
/* y[thread]: its number in order of the grid, whose blocks are 4 x 3 x 2. */
cudaError_t shim_where(cudaStream_t s, unsigned gx, unsigned gy, unsigned gz, float *y);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
