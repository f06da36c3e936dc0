/* check_cuda.h - the cuda device as a target of check_ops.h. Needs cuda_load. */
#ifndef SLUICE_CHECK_CUDA_H
#define SLUICE_CHECK_CUDA_H

#include "kernels/cuda.h"
#include "tests/check_ops.h"

/* name is the caller's, to live as long as the target. Which card: the first. */
struct check_target check_cuda(const char *name, enum dtype compute, enum cuda_attention attention);

/* Whether the mode of attention can make a difference to this check. */
bool check_cuda_attends(int check);

#endif
