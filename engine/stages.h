/* stages.h - what --dump-stages writes: every stage's result, for comparison
 * with any other implementation.
 *
 * One safetensors file: clip_ids, t5_ids (I32), clip_pooled [width], t5_hidden
 * [tokens, width], sigmas [steps+1], latent_00..latent_NN [C,h,w] (00 the
 * noise, then after each step), velocity_01.. [C,h,w], image [3,H,W] (-1..1,
 * before rounding to bytes); F32. A recorder that is not open records nothing. */
#ifndef SLUICE_STAGES_H
#define SLUICE_STAGES_H

#include "engine/safetensors.h"

struct stages {
    bool open;
    struct safetensors_entry *entry;
    size_t count, room;
};

/* Copies a dense tensor under a printf-formatted name. False: out of memory. */
bool stages_add(struct stages *s, struct tensor t, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool stages_write(const struct stages *s, const char *path, struct err *e);
void stages_free(struct stages *s);

#endif
