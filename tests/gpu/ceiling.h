/* ceiling.h - the matrix products and attentions of a piece of work, each timed alone.
 *
 * Their sum is what the work would take if everything else cost nothing. */
#ifndef SLUICE_GPU_CEILING_H
#define SLUICE_GPU_CEILING_H

#include "tests/gpu/stage.h"

struct ceiling {
    double linear, attention; /* seconds */
    int linears, attentions;  /* how many there are of them, */
    int shapes;               /* and how many different ones */
};

/* For `run`: what it has asked for so far does not count. On a device that computes: nothing. */
void ceiling_begin(struct device *d);

/* What `run` asks for on d is recorded without being done, then timed on made-up values. */
bool ceiling_measure(struct ceiling *c, struct device *d, stage_fn *run, const void *user, struct err *e);

#endif
