/* fake_internal.h - how the fake libraries (cuBLASLt, cuDNN) use the fake runtime. C++. */
#ifndef FAKE_CUDA_INTERNAL_H
#define FAKE_CUDA_INTERNAL_H

#include "fake.h"
#include "include/cuda_runtime_api.h"

#include <functional>

/* Every library function that can fail begins with this: counts the call, and is the error a test asked for
 * (fake_cuda_fail) or cudaSuccess. The library turns it into a status of its own. */
extern "C" cudaError_t fake_cuda_call(const char *name);

/* Queues work on a stream, or runs it at once, or notes it in the graph that is being captured. Device memory can be
 * touched only in there. NULL: the default stream. */
cudaError_t fake_cuda_enqueue(cudaStream_t stream, std::function<void()> work);

/* An object began (+1) or ended (-1) to live: what fake_cuda_live tells. */
void fake_cuda_object(enum fake_cuda_kind kind, int change);

/* Compute capability times ten of the current card. */
int fake_cuda_sm(void);

#endif
