/* stage.h - one stage of a model on a device with memory of its own.
 *
 * The stage's code runs on the count device first: then its activations and its weights
 * are known, and it gets exactly as much memory, with all weights resident. */
#ifndef SLUICE_GPU_STAGE_H
#define SLUICE_GPU_STAGE_H

#include "kernels/device.h"

typedef void stage_fn(struct device *d, const void *user);

enum { STAGE_RUNS_MAX = 4 };

struct stage_cost {
    size_t activations, weights;    /* bytes */
    uint64_t flops;
    double seconds[STAGE_RUNS_MAX]; /* the first brings the weights */
};

/* Runs it `runs` times. cost may be NULL. False: e, and the device can be used again. */
bool stage_run(struct device *d, stage_fn *run, const void *user, int runs, struct stage_cost *cost, struct err *e);

#endif
