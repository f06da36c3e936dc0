/* picture.h - the pipeline without text and files: token ids to a picture, by plan and
 * pager, on one device, with a clock.
 *
 * As pipeline.c does it, but for what a benchmark wants to leave out or see alone. */
#ifndef SLUICE_GPU_PICTURE_H
#define SLUICE_GPU_PICTURE_H

#include "engine/model.h"
#include "engine/plan.h"

/* A model's stages, opened. */
struct picture_model {
    struct model model;
    struct clip *clip;
    struct t5 *t5;
    struct flux *flux;
    struct vae *vae;
};
bool picture_open(struct picture_model *m, const char *folder, struct err *e);
void picture_close(struct picture_model *m); /* also after a failed open */

struct picture_wish {
    int width, height, steps;
    uint64_t seed;
    float guidance;
    size_t budget;       /* bytes of the arena at most, or JOB_BUDGET_LEAST */
    const int32_t *clip_ids, *t5_ids; /* NULL: all steps with made-up text; neither encoders nor VAE run */
    bool no_repeat;      /* without device_repeat */
};

struct picture {
    float *latent, *image;   /* [C,h,w], [H,W,3]; image is NULL without ids */
    size_t latent_count, image_count;
    size_t arena, least_free; /* bytes: of the arena; of the card, free at the fullest moment (0: unknown) */
    size_t watched;          /* of the card, by NVML (watch.h) at the fullest moment; 0: unknown */
    size_t link_each;        /* bytes that every step brings */
    uint64_t step_flops;
    /* Seconds. preview: from the start to the end of the first step, plan included. step: the quickest
     * but the first; they differ by what else the machine does. */
    double plan, clip, t5, modulation, first_step, step, vae, preview;
};

/* False: e, and the device can be used again. picture_free in every case. */
bool picture_make(struct picture *p, const struct picture_model *m, struct device *d, const struct picture_wish *wish,
                  struct err *e);
void picture_free(struct picture *p);

#endif
