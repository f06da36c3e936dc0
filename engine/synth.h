/* synth.h - random-weight checkpoints, real in everything but knowledge.
 *
 * Element i of tensor `name` is a pure function of (seed, name, i), so the
 * same checkpoint can be made by any other program (tests/golden/synth.py):
 *   key  = FNV-1a 64 of the name's bytes, xor seed * 0x9e3779b97f4a7c15
 *   bits = splitmix64 finaliser of (key + (i + 1) * 0x9e3779b97f4a7c15)
 *   u    = (bits >> 40) * 2^-24                      in [0, 1)
 *   w    = center + (2u - 1) * half_width, each product and sum in double,
 *          then rounded once to the tensor's dtype
 * The law of a tensor, the first that fits (`norm1.linear.weight` is a matrix):
 *   name ends in ".bias"                     center 0, half_width 0.02 * sqrt(3)
 *   name ends in "token_embedding.weight", "position_embedding.weight",
 *     "shared.weight", "embed_tokens.weight" or
 *     "relative_attention_bias.weight"       center 0, half_width 0.5
 *   one dimension (norm weights)             center 1, half_width 0.1 * sqrt(3)
 *   else (unit gain)                         center 0, half_width sqrt(3 / fan_in),
 *     fan_in = the product of all lengths but the first
 * Rounded once: to BF16 from the double itself, not by way of F32. */
#ifndef SLUICE_SYNTH_H
#define SLUICE_SYNTH_H

#include "kernels/err.h"
#include "kernels/tensor.h"

#include <stdint.h>

struct synth_law { double center, half_width; };

/* The law for tensor `name` of this shape (data unused). */
struct synth_law synth_law(const char *name, struct tensor shape);

/* Writes elements [from, from + n) of the tensor to dst in dtype t (F32, BF16, F16). */
void synth_fill(void *dst, enum dtype t, const char *name, uint64_t seed, struct synth_law law,
                int64_t from, int64_t n);

struct synth_options {
    const char *arch;    /* "flux-dev" or "flux-schnell" */
    int doubles, singles, t5_layers, clip_layers; /* -1: full depth (19, 38, 24, 12) */
    enum dtype dtype;    /* F32, BF16, F16 */
    uint64_t seed;
    bool headers_only;   /* files with the true size, data left as a hole (sparse zeros) */
};

/* Writes a diffusers folder with full-width components; tokenizers come from
 * the model folder `tokenizers_from` (their vocabulary is smaller than the embedding
 * tables', which is allowed). dir must not exist or be empty. progress may be
 * NULL; returning false from it stops and removes what was written. */
bool synth_write(const char *dir, const struct synth_options *o, const char *tokenizers_from,
                 bool (*progress)(void *user, double fraction), void *user, struct err *e);

/* Fills a checkpoint from a header: writes to out_path a file with the tensors
 * (names, dtypes, shapes) of the JSON text `header` ({"name": {"dtype", "shape"}}),
 * filled by synth_fill. For tests. */
bool synth_from_header(const char *header_path, const char *out_path, uint64_t seed, struct err *e);

#endif
