/* link.h - the ceilings of a card, asked of the driver itself (libcuda.so.1, loaded when asked). */
#ifndef SLUICE_GPU_LINK_H
#define SLUICE_GPU_LINK_H

#include "kernels/err.h"

/* Bytes per second of copies from pinned host memory to the card: the best of a few of 256 MB. */
bool link_pinned(int ordinal, double *bytes_per_second, struct err *e);

#endif
