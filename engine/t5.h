/* t5.h - the T5 encoder: token ids to one vector per token.
 *
 * As transformers' T5EncoderModel, v1.1: RMS norms, attention without scale and
 * with a relative position bias learned in block 0 and used in all, gated GELU,
 * no biases, no mask (FLUX attends to the padding too). */
#ifndef SLUICE_T5_H
#define SLUICE_T5_H

#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/device.h"

struct t5;

bool t5_open(struct t5 **out, const struct model *m, struct err *e);
void t5_close(struct t5 *t); /* NULL is fine */
const struct weights *t5_weights(const struct t5 *t);

/* In pieces: `chunk` tokens at a time in everything but keys and values (0: all).
 * Less memory for the same values, unless `independent`: then each chunk is a
 * text of its own, whose tokens see no other chunk. */
struct t5_pieces {
    int chunk;
    bool independent;
};

/* ids [n]; hidden [n, width] F32 on the host, valid after device_sync. Both
 * may be NULL on the count device. */
void t5_encode(const struct t5 *t, struct device *d, const int32_t *ids, int n, const struct t5_pieces *pieces,
               float *hidden);

/* The row of the bias table for the distance key - query: transformers'
 * bidirectional buckets. */
int t5_bucket(int distance, int buckets, int max_distance);

#endif
