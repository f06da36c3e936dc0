/* shim_kernels.cpp - see shim_kernels.h. Written as the kernels of the project are. */
#include "tests/cuda/shim_kernels.h"

#include <cuda_runtime.h>

typedef void kernel_function(float *y, const float *x, int n);

static __device__ __forceinline__ float warp_sum(float v)
{
    for (int o = warpSize / 2; o > 0; o /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}

static __global__ void add_one(float *__restrict__ y, const float *__restrict__ x, int n)
{
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < n; i += (int)(gridDim.x * blockDim.x))
        y[i] = __ldg(x + i) + 1.0f;
}

static __global__ void __launch_bounds__(1024) block_sum(float *y, const float *x, int n)
{
    __shared__ float part[32];
    float sum = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        sum += x[i];
    sum = warp_sum(sum);
    if (threadIdx.x % warpSize == 0)
        part[threadIdx.x / warpSize] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = warp_sum(threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0)
            y[blockIdx.x] = sum;
    }
}

template <bool wait> static __global__ void reverse(float *y, const float *x, int n)
{
    SHARED(bytes);
    float *part = (float *)bytes;
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    part[threadIdx.x] = i < n ? x[i] : 0.0f;
    if (wait)
        __syncthreads();
    if (i < n)
        y[i] = part[blockDim.x - 1 - threadIdx.x];
}

static __global__ void rounds(float *y, const float *x, int n)
{
    SHARED(bytes);
    float *part = (float *)bytes;
    unsigned t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
    part[t] = x[i];
    for (int round = 0; round < n; round++) {
        __syncthreads();
        float next = part[(t + 1) % blockDim.x];
        __syncthreads();
        part[t] = next;
    }
    y[i] = part[t];
}

static __global__ void early_exit(float *y, const float *, int n)
{
    __shared__ int met;
    int t = (int)threadIdx.x;
    if (t >= n)
        return;
    if (t == 0)
        met = 0;
    __syncthreads();
    met++;
    __syncwarp();
    __syncthreads();
    y[t] = (float)met;
}

static __global__ void lanes(float *y, const float *x, int)
{
    unsigned t = threadIdx.x, lane = t % 32, all = 0xffffffffu, mine = lane < 16 ? 0xffffu : 0xffff0000u;
    float v = x[t];
    float *out = y + t;
    unsigned n = blockDim.x;
    out[0 * n] = __shfl_sync(all, v, 3);
    out[1 * n] = __shfl_sync(all, v, 3, 8);
    out[2 * n] = __shfl_xor_sync(all, v, 5);
    out[3 * n] = __shfl_down_sync(all, v, 7);
    out[4 * n] = __shfl_up_sync(all, v, 2, 16);
    out[5 * n] = (float)__ballot_sync(all, lane % 8 == 7);
    out[6 * n] = (float)__any_sync(all, lane == 31);
    out[7 * n] = (float)__all_sync(all, lane != 31);
    out[8 * n] = __shfl_xor_sync(mine, v, 15);
    out[9 * n] = (float)__shfl_sync(all, (int)lane - 5, 1);
    out[10 * n] = (float)__shfl_sync(all, (long long)lane << 32, 2);
    out[11 * n] = (float)(__activemask() == all);
    if (lane < 4) { /* the other lanes go on meanwhile */
        __syncwarp(0xfu);
        v = __shfl_down_sync(0xfu, v, 1, 4);
    }
    out[12 * n] = v;
    out[13 * n] = (float)__shfl_sync(all, (double)lane / 4, 1);
    out[14 * n] = (float)__shfl_sync(all, lane, (int)lane + 33);
    out[15 * n] = warp_sum(1.0f);
}

static __global__ void unwritten(float *y, const float *, int)
{
    SHARED(bytes);
    y[threadIdx.x] = ((float *)bytes)[threadIdx.x];
}

static __global__ void split_barrier(float *y, const float *, int)
{
    if (threadIdx.x < blockDim.x / 2)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 0;
}

static __global__ void lost_lane(float *y, const float *, int)
{
    if (threadIdx.x == 0)
        __syncthreads();
    else
        __syncwarp();
    y[threadIdx.x] = 0;
}

static __global__ void masks(float *y, const float *x, int)
{
    y[threadIdx.x] = __shfl_xor_sync(threadIdx.x % 32 == 5 ? 0x7fffffffu : 0xffffffffu, x[threadIdx.x], 1);
}

static __global__ void beyond_shared(float *y, const float *, int)
{
    SHARED(bytes);
    ((float *)bytes)[threadIdx.x + 1] = 0;
    y[threadIdx.x] = 0;
}

static __global__ void where(float *y)
{
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
    y[i] = (float)i;
}

static kernel_function *const kernels[] = {
    add_one, block_sum, reverse<true>, reverse<false>, rounds, early_exit, lanes, unwritten, split_barrier, lost_lane,
    masks, beyond_shared,
};

cudaError_t shim_kernel(enum shim_kernel which, cudaStream_t s, unsigned grid, unsigned block, size_t shared_bytes,
                        float *y, const float *x, int n)
{
    return LAUNCH(kernels[which], grid, block, shared_bytes, s, y, x, n);
}

cudaError_t shim_kernel_allow(enum shim_kernel which, int shared_bytes)
{
    return cudaFuncSetAttribute(kernels[which], cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
}

cudaError_t shim_where(cudaStream_t s, unsigned gx, unsigned gy, unsigned gz, float *y)
{
    return LAUNCH(where, dim3(gx, gy, gz), dim3(4, 3, 2), 0, s, y);
}
