/* flux.h - the FLUX.1 transformer: noisy latent, text and time to a velocity.
 *
 * As BFL's model and diffusers' FluxTransformer2DModel (tensor names are
 * diffusers'). The sequence is [text, image] in one buffer from the first
 * block to the last.
 *
 * The modulation hoist: every AdaLN projection depends only on timestep,
 * guidance and the pooled prompt, so flux_begin evaluates all of them for all
 * steps at once (27 % of FLUX.1's weights are read once per picture instead of
 * once per step) and the steps only look rows up. */
#ifndef SLUICE_FLUX_H
#define SLUICE_FLUX_H

#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/device.h"

struct flux;

bool flux_open(struct flux **out, const struct model *m, struct err *e);
void flux_close(struct flux *f); /* NULL is fine */
const struct weights *flux_weights(const struct flux *f);
int flux_blocks(const struct flux *f); /* double + single: ticks of one step */

/* A condition is a prompt that the picture is drawn towards, or with cfg away from. */
enum { FLUX_CONDITIONS_MAX = 2 };

/* One picture's fixed inputs. Host pointers may be NULL on the count device. */
struct flux_inputs {
    int text;                /* tokens */
    int rows, cols;          /* of the packed latent: height/16, width/16 */
    int steps;
    int conditions;          /* 1, or 2 */
    const float *hidden[FLUX_CONDITIONS_MAX]; /* [text, context] F32 */
    const float *pooled[FLUX_CONDITIONS_MAX]; /* [pooled] F32 */
    const float *sigmas;     /* [steps + 1]; step i runs at sigmas[i] */
    float guidance;          /* used only by a model with guidance embedding */
    int chunk;               /* tokens at a time in everything but keys and values; 0: all. Less
                                memory for the same values; weights are held for all chunks */
};

/* What flux_begin leaves for the steps, in the arena above the caller's mark. */
struct flux_tables {
    int text, tokens;             /* text, text + image */
    int steps, chunk;
    struct tensor context;        /* [conditions * text, hidden]: embedded text, the start of every step */
    struct tensor rope;           /* F32 [tokens, head dim]: cos, sin */
    struct tensor modulation;     /* [conditions * steps, all chunks of all blocks]: see flux.c */
};

void flux_begin(const struct flux *f, struct device *d, struct flux_tables *t, const struct flux_inputs *in);

/* velocity of step `step` (0-based) under a condition: latent and velocity are packed
 * [rows*cols, in_channels] F32 on the host, valid after device_sync. Ticks after every block. */
void flux_step(const struct flux *f, struct device *d, const struct flux_tables *t, int condition, int step,
               const float *latent, float *velocity);

/* [C,h,w] <-> [h/2*w/2, C*4], each packed row (c, dy, dx): BFL's "b c (h 2) (w 2)". */
void flux_pack(float *packed, const float *latent, int channels, int h, int w);
void flux_unpack(float *latent, const float *packed, int channels, int h, int w);

#endif
