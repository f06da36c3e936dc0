/* cuda_gemm.h - products of matrices by cuBLASLt, in the one shape that it likes best.
 *
 * A row of a product has the same bytes whatever the number of rows: for the types, n, k and
 * the epilogue there is one algorithm, which takes any number of rows, does not share k
 * among blocks and needs no workspace (a sum that is shared is put together there). It is
 * looked for once:
 *   1. on record from an earlier run on such a card with this version of the library, in
 *      $XDG_CACHE_HOME/sluice (else ~/.cache/sluice);
 *   2. if c->search is set, the fastest of those that cuBLASLt proposes, measured on the operands
 *      of the first product, and put on record: what is found but cannot be put on record is
 *      not used, so that the next run computes the same;
 *   3. cuBLASLt's first proposal.
 * Not a device's operation: cuda_linear.c brings its operands here. */
#ifndef SLUICE_CUDA_GEMM_H
#define SLUICE_CUDA_GEMM_H

#include "kernels/cuda_internal.h"

enum {
    GEMM_ALIGN = 16, /* bytes: what one thread loads at once; every pointer and every row starts on it */
    GEMM_STEP = 8,   /* n and k are multiples of it: GEMM_ALIGN bytes of the narrowest type */
};

bool cuda_gemm_open(struct cuda_device *c, struct err *e);
void cuda_gemm_close(struct cuda_device *c); /* also after a failed open */

/* y[m,n] = act(x[m,k] w[n,k]^T + b[n]), queued; y is rounded once, but in F16 not saturated: what is
 * beyond 65504 is infinite. x and w are both F32, both BF16 or both F16, y of that type or F32; b is of y's
 * type, dense, GEMM_ALIGN aligned or absent. act: ACT_NONE or, if cuda_gemm_gelu, ACT_GELU_TANH. */
void cuda_gemm(struct cuda_device *c, struct tensor y, struct tensor x, struct tensor w, struct tensor b, enum act act);

/* Whether cuda_gemm can end such a product, with a result of type y, with ACT_GELU_TANH. */
bool cuda_gemm_gelu(struct cuda_device *c, enum dtype y, struct tensor w, bool bias);

#endif
