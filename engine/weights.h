/* weights.h - the named tensors of one model component, over one or more files.
 *
 * A component ("transformer", "vae", ...) is a single .safetensors file, or
 * shards listed by <stem>.safetensors.index.json ({"weight_map": {tensor name:
 * shard file name}}). Shard names that leave the folder are refused. The views
 * point into the mapped files and live as long as the weights.
 *
 * A name starting with "text_model." is also found without that prefix: CLIP's
 * tensors have it in the files people have, and lack it in what transformers 5
 * saves. */
#ifndef SLUICE_WEIGHTS_H
#define SLUICE_WEIGHTS_H

#include "kernels/err.h"
#include "kernels/tensor.h"

struct weights;

/* dir: a folder holding `stem.safetensors` or `stem.safetensors.index.json`,
 * tried for each stem in turn ("diffusion_pytorch_model", "model"); if neither
 * exists, the one *.safetensors file in it. component: the name errors use. */
bool weights_open_dir(struct weights **out, const char *dir, const char *component, struct err *e);
/* One file by its own path. */
bool weights_open_file(struct weights **out, const char *path, const char *component, struct err *e);
void weights_close(struct weights *w); /* NULL is fine */

size_t weights_count(const struct weights *w);
const char *weights_name(const struct weights *w, size_t i);
struct tensor weights_tensor(const struct weights *w, size_t i);
bool weights_has(const struct weights *w, const char *name);
/* Bytes of all tensors' data. */
size_t weights_bytes(const struct weights *w);
/* The files behind it. */
size_t weights_files(const struct weights *w);
const char *weights_path(const struct weights *w, size_t i);

/* The tensor `name` with exactly this shape (ndim lengths follow, each as int
 * cast to int64_t; -1 accepts any length) and a floating dtype (F32, BF16,
 * F16). Fails with component, file, name, expected and found. */
bool weights_get(const struct weights *w, struct tensor *out, const char *name, int ndim,
                 const int64_t *shape, struct err *e);
#define WEIGHTS_SHAPE(...)                                                                         \
    (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (const int64_t[]){ __VA_ARGS__ }

/* True if no element of t is NaN or infinite; else fails naming tensor and
 * index. Reads the whole tensor. */
bool weights_finite(const struct weights *w, const char *name, struct tensor t, struct err *e);

#endif
