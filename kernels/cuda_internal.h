/* cuda_internal.h - what the files of the cuda device share, and nobody else sees. */
#ifndef SLUICE_CUDA_INTERNAL_H
#define SLUICE_CUDA_INTERNAL_H

#include "kernels/cuda.h"
#include "kernels/cuda_kernels.h"

#include <cuda_runtime_api.h>

struct cuda_gemm; /* cuda_gemm.h */
struct cuda_dnn;  /* cuda_dnn.h */

struct cuda_device {
    struct device device; /* first: a struct device * is one of these */
    struct cuda_card card;
    int sm;               /* compute capability times ten: 75, 80, 86, 89, 90, 100, 120 */
    enum cuda_attention attention;
    bool search;          /* as in struct cuda_options */
    cudaStream_t compute; /* all operations, in order */
    struct cuda_gemm *gemm;
    struct cuda_dnn *dnn; /* NULL: cuDNN is not there; the own kernels do its work */
};

static inline struct cuda_device *cuda_of(struct device *d) { return (struct cuda_device *)d; }
static inline size_t cuda_round(size_t bytes) { return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; }

/* Sets the sticky error if rc is no success: ERR_MEMORY when memory was refused, else ERR_DEVICE. */
bool cuda_check(struct device *d, cudaError_t rc, const char *what);

/* --- cuda_linear.c: what cuda_gemm.h cannot take is brought there ----------------------------- */
size_t cuda_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w);
void cuda_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, enum act act,
                 void *scratch);

/* --- cuda_attention.c: which of the attentions ------------------------------------------------ */
size_t cuda_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k);
void cuda_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                    const struct attention *a, void *scratch);

/* --- cuda_sdpa.c: cuDNN's attention ------------------------------------------------------------- */
/* By types, shapes and the card alone, and never by the number of queries. */
bool cuda_sdpa_can(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a);
size_t cuda_sdpa_scratch(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k);
/* False, and nothing was queued, if cuDNN has no plan for it: then it has none for any number of queries. */
bool cuda_sdpa(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale,
               void *scratch);

/* --- cuda_conv.c: cuDNN's convolution, or rows of pixels through cuda_linear ----------------------- */
size_t cuda_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w,
                           const struct conv2d *c);
void cuda_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                 const struct conv2d *c, void *scratch);

#endif
