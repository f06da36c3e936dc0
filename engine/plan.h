/* plan.h - where every byte of a job will be, before anything runs.
 *
 * The plan runs the stages' own code on the count device: their activations
 * are exact by construction, and so is the order in which they ask for weights.
 * For a budget it places each phase's weights (resident, streamed); without
 * one weights are used where they lie and only activations count. Pure but for
 * memory: reads shapes, never weights, and starts nothing. */
#ifndef SLUICE_PLAN_H
#define SLUICE_PLAN_H

#include "engine/clip.h"
#include "engine/event.h"
#include "engine/flux.h"
#include "engine/job.h"
#include "engine/pager.h"
#include "engine/t5.h"
#include "engine/vae.h"

/* The parts of a job that want weights in an order of their own. */
enum phase { PHASE_CLIP, PHASE_T5, PHASE_MODULATION, PHASE_STEP, PHASE_VAE, PHASE_COUNT };
/* "CLIP", "T5", "modulation", "step", "VAE" */
const char *phase_name(enum phase p);
enum stage phase_stage(enum phase p);

struct models { /* opened, borrowed */
    const struct model *model;
    const struct clip *clip;
    const struct t5 *t5;
    const struct flux *flux;
    const struct vae *vae;
};

struct plan_phase {
    struct trace trace;
    struct placement placement;     /* empty without a budget */
    size_t activations;       /* peak of the stage in the arena, beside the weights */
    size_t peak;              /* activations and weights on the device */
    size_t repeats;           /* steps, or 1 */
    uint64_t flops;           /* of one repetition */
};

struct plan {
    size_t budget;            /* 0: none */
    size_t arena_bytes;       /* what the job allocates on the device: the largest peak */
    struct plan_phase phase[PHASE_COUNT];
};

/* d: the device the job will run on; asked only for scratch sizes. budget may be
 * JOB_BUDGET_LEAST: the smallest that does, then found in p->budget. False with e
 * set: out of memory, or the budget does not do; then the text names the
 * smallest that would and the stage that needs it. plan_free in every case. */
bool plan_make(struct plan *p, const struct models *m, const struct job *j, struct device *d, size_t budget,
               struct err *e);
void plan_free(struct plan *p);

/* Bytes over the link for one picture. */
size_t plan_link_bytes(const struct plan *p);

#endif
