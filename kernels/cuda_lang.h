/* cuda_lang.h - what every .cu file of the cuda device begins with.
 *
 * The kernels are C with a few words of CUDA, and templates for the element
 * types. They compile with nvcc for a card, and with g++ and the headers of
 * tests/cuda/include for the processor, where tests run them. So:
 *   a kernel is started by LAUNCH, which is a cudaError_t;
 *   dynamic shared memory is named by SHARED, in bytes, 16-byte aligned;
 *   nothing is used that those headers lack: see tests/cuda/include/cuda_runtime.h. */
#ifndef SLUICE_CUDA_LANG_H
#define SLUICE_CUDA_LANG_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "kernels/cuda_kernels.h"

#ifdef __CUDACC__
/* A kernel template with several arguments stands in parentheses: LAUNCH((k<T, 8>), ...). */
#define LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    (kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__), cudaGetLastError())
#define SHARED(name) extern __shared__ __align__(16) unsigned char name[]
#endif

#endif
