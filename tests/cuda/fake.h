/* fake.h - what a test asks of the fake CUDA runtime beside CUDA's own interface.
 *
 * build/fake/libsluice-cuda.so is the CUDA module whose runtime works on the processor. These
 * functions are exported from it: a test that has loaded it (SLUICE_CUDA, cuda.h) finds them
 * with dlsym. Any thread may call them. C and C++.
 *
 * The runtime. Device memory is the process's own, filled with NaN bytes when it is allocated,
 * with guards around it that cudaFree checks. A stream is a
 * queue of which nothing runs before somebody waits: for it, for an event, in a blocking copy.
 * Then streams run in a random order that only keeps what streams and events promise, and not
 * always everything: so a forgotten wait shows as wrong bytes, with most seeds. Copies
 * from or to pinned memory touch it when they run; one from pageable memory has taken its
 * bytes when it returns, one to pageable memory has arrived. An error is the last error until
 * cudaGetLastError takes it, and a launch returns the last error, as on a card.
 *
 * Found by the runtime and answered by abort, with a message: damage around device memory, an event
 * or stream that is no longer there, what cuda_runtime.h says of kernels.
 *
 * The environment, read once, when the module is loaded, so that a whole program can run on it:
 *   FAKE_CUDA_MEMORY=bytes  FAKE_CUDA_SM=86  FAKE_CUDA_CARDS=n  FAKE_CUDA_SEED=n
 *   FAKE_CUDA_FAIL=n or n:error   the n-th call fails (fake_cuda_fail)
 *
 * What a card can and this cannot: a capture that forks to a second stream (it is refused); kernels that
 * run side by side. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum fake_cuda_kind {
    FAKE_CUDA_MEMORY, /* cudaMalloc */
    FAKE_CUDA_PINNED, /* cudaMallocHost, cudaHostAlloc */
    FAKE_CUDA_REGISTERED,
    FAKE_CUDA_STREAM,
    FAKE_CUDA_EVENT,
    FAKE_CUDA_GRAPH,
    FAKE_CUDA_GRAPH_EXEC,
    FAKE_CUDA_BLAS,   /* handles and descriptors of cuBLASLt */
    FAKE_CUDA_DNN,    /* and of cuDNN */
    FAKE_CUDA_KINDS,
};

/* All that follows as at the start, but for objects that live. */
void fake_cuda_reset(void);

/* The cards: 0, and there is none (cudaErrorNoDevice); -1, and there is no driver; at most 8. All are alike.
 * Memory that others have is taken from each: it makes cudaMalloc refuse and cudaMemGetInfo say less. */
void fake_cuda_set_cards(int count);
void fake_cuda_set_sm(int sm);                     /* 75, 80, 86, 89, 90, 100, 120 */
void fake_cuda_set_memory(size_t bytes);           /* in all, of each card; default 8 GiB */
void fake_cuda_set_others(size_t bytes);           /* default 0 */
void fake_cuda_set_pinned_limit(size_t bytes);     /* beyond it pinning is refused; default none */
size_t fake_cuda_peak(void);                       /* most device memory at once, of all cards, since reset */

/* The n-th call from now (1: the next) fails: 0 means none does. With the error given, or, if it is 0, with one that is
 * usual for that call. A call that releases something does so all the same. What is counted: every
 * function of the runtime and the libraries that can fail, and LAUNCH. */
void fake_cuda_fail(long n, int error);
const char *fake_cuda_failed(void); /* the call that was failed since; NULL: none */
long fake_cuda_calls(void);         /* since reset */

int fake_cuda_live(enum fake_cuda_kind kind);

/* The order of streams, blocks and threads. Default: 1. */
void fake_cuda_seed(uint64_t seed);
/* On: what is queued runs at once. */
void fake_cuda_immediate(bool on);

/* On: while the runtime does not work, device memory cannot be touched: an access by the host is a SIGSEGV, as
 * with a card. Costs two system calls for every allocation at every wait, and page faults. */
void fake_cuda_close_memory(bool on);

/* Done, not only queued, since reset. */
struct fake_cuda_counts { uint64_t launches, graph_launches, bytes_in, bytes_out, bytes_inside; };
struct fake_cuda_counts fake_cuda_counts(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
