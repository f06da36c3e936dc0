/* shapes.h - which tensors each component has, and their shapes, for a config.
 *
 * The one table of names: `synth` writes by it and `inspect --check` compares
 * by it. Names and shapes as diffusers and transformers save them (FLUX.1's own
 * repository: CLIP with "text_model.", T5 with shared.weight only). */
#ifndef SLUICE_SHAPES_H
#define SLUICE_SHAPES_H

#include "engine/model.h"
#include "kernels/tensor.h"

/* Called once per tensor, name valid during the call; false stops. */
typedef bool shapes_fn(void *user, const char *name, int ndim, const int64_t *shape);

/* False if fn stopped it. The part must be one with weights. */
bool shapes_visit(const struct model *m, enum model_part part, shapes_fn *fn, void *user);

#endif
