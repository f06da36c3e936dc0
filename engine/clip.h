/* clip.h - the CLIP text encoder: token ids to one pooled vector.
 *
 * As transformers' CLIPTextModel: token + position embedding, pre-norm blocks
 * with causal attention, final norm; pooled is the final state at the first
 * EOS, no projection. */
#ifndef SLUICE_CLIP_H
#define SLUICE_CLIP_H

#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/device.h"

struct clip;

/* Maps the weights and takes every tensor with its shape checked. m must outlive it. */
bool clip_open(struct clip **out, const struct model *m, struct err *e);
void clip_close(struct clip *c); /* NULL is fine */
const struct weights *clip_weights(const struct clip *c);

/* ids [config tokens]; pooled [width] on the host, valid after device_sync.
 * ids and pooled may be NULL on the count device. */
void clip_encode(const struct clip *c, struct device *d, const int32_t *ids, float *pooled);

#endif
