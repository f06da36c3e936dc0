/* watch.h - what the whole card's use has grown by, as NVML tells it: context and libraries included. */
#ifndef SLUICE_GPU_WATCH_H
#define SLUICE_GPU_WATCH_H

#include "engine/nvml.h"
#include "kernels/cuda.h"

/* Begins, for this process, with what is used now: before the context is made. False: e says why NVML tells nothing. */
bool watch_begin(const struct cuda_card *card, struct err *e);
/* Bytes more than then; 0: none, or unknown. */
size_t watch_used(void);

#endif
