/* model.h - what a model on disk is: its parts, their shapes, their files.
 *
 * model_open recognises a diffusers folder (model_index.json beside
 * transformer/, vae/, text_encoder/, text_encoder_2/, tokenizer/,
 * tokenizer_2/, scheduler/). Every depth, width, head count and axis is read
 * from the config files and checked against the tensors when a stage loads
 * them; nothing is compiled in. Values only: weights are opened per component
 * by the stages (weights_open_dir) so that one stage's files need not be
 * mapped while another runs. */
#ifndef SLUICE_MODEL_H
#define SLUICE_MODEL_H

#include "kernels/err.h"

#include <stdbool.h>

enum { MODEL_PATH_MAX = 4096, MODEL_MAX_AXES = 3, MODEL_MAX_VAE_LEVELS = 8,
       MODEL_LATENT_MAX = 64, MODEL_EXAMPLES_MAX = 16, MODEL_EXAMPLE_BYTES = 128 };

enum model_part { MODEL_CLIP, MODEL_T5, MODEL_FLUX, MODEL_VAE, MODEL_TOK_CLIP, MODEL_TOK_T5,
                  MODEL_SCHEDULER, MODEL_PART_COUNT };
/* "text_encoder", "text_encoder_2", "transformer", "vae", "tokenizer",
 * "tokenizer_2", "scheduler": folder names, used in every message. */
const char *model_part_name(enum model_part p);

enum clip_act { CLIP_QUICK_GELU, CLIP_GELU };

struct clip_config {   /* text_encoder/config.json, CLIPTextModel */
    int vocab, tokens /* max_position_embeddings */, width, heads, layers, mlp;
    enum clip_act act;
    float eps;
    /* As in the config; where that says eos 2, transformers' sign for "pooled
     * at the highest id" (FLUX.1's own file does): the highest id in
     * tokenizer/vocab.json (vocab - 1 without it), bos before it, pad the same. */
    int eos_id, bos_id, pad_id;
};

struct t5_config {     /* text_encoder_2/config.json, T5EncoderModel; gated gelu only */
    int vocab, width /* d_model */, heads, head_dim /* d_kv */, layers, ff, buckets, max_distance;
    float eps;
    int tokens;        /* padded length: tokenizer_2's model_max_length, at most 512 (256 without guidance) */
    int pad_id, eos_id;
};

struct flux_config {   /* transformer/config.json, FluxTransformer2DModel */
    int in_channels;   /* 64 = latent channels x 2 x 2 */
    int out_channels;  /* = in_channels when null */
    int heads, head_dim, hidden /* heads*head_dim */, doubles, singles, context /* T5 width */, pooled /* CLIP width */;
    int axes, axes_dim[MODEL_MAX_AXES]; /* sum = head_dim, each even */
    float theta;       /* 10000 */
    bool guidance;     /* guidance_embeds: dev true, schnell false */
};

struct vae_config {    /* vae/config.json, AutoencoderKL */
    int latent_channels, levels, channels[MODEL_MAX_VAE_LEVELS], layers_per_block, groups;
    bool mid_attention;
    bool quant_conv, post_quant_conv; /* FLUX: false; accepted when present */
    float scaling, shift;
    float eps;         /* group norm, 1e-6 */
    int factor;        /* 2^(levels-1) */
    /* preview: rgb = (M^T x0 + bias + 1) / 2, x0 in model space. From the
     * config keys latent_rgb_factors / latent_rgb_factors_bias if present,
     * else, for 16 channels, the matrix ComfyUI uses for FLUX. */
    bool has_rgb;
    bool flux_latents; /* the latter: its latents are FLUX.1's own */
    float rgb[MODEL_LATENT_MAX][3], rgb_bias[3];
};

struct scheduler_config { /* FlowMatchEulerDiscreteScheduler */
    bool dynamic_shifting;
    float base_shift, max_shift, shift;
    int base_seq, max_seq;
};

struct model_defaults { int width, height, steps; float guidance; };

struct model {
    char path[MODEL_PATH_MAX];   /* the folder as given */
    char name[256];              /* its last component, for people */
    bool present[MODEL_PART_COUNT]; /* config and at least one data file found */
    struct clip_config clip;
    struct t5_config t5;
    struct flux_config flux;
    struct vae_config vae;
    struct scheduler_config scheduler;
    /* TAEF1's decoder for previews (taef1.h), a file or a folder; "": not found. It is no part of a pipeline: one
     * serves every model with FLUX.1's latents. Looked for as MODEL_TAEF1_PLACES says. */
    char taef1[MODEL_PATH_MAX];
    /* sluice.json beside model_index.json, all keys optional: {"width",
     * "height", "steps", "guidance", "max_sequence_length" (T5's padded length),
     * "taef1": "its file or folder, from this folder or absolute",
     * "prompts": ["example", ...]} */
    struct model_defaults defaults; /* sluice.json, else dev: 1024x1024, 28, 3.5; schnell: 4 steps, 0 */
    int examples;                /* prompts to show in the studio, from sluice.json */
    char example[MODEL_EXAMPLES_MAX][MODEL_EXAMPLE_BYTES];
};

/* Reads every config. With `require_all`, a missing part is an error that
 * names the part and the path where it was looked for; without (inspect), it
 * is left with present[part] false. */
bool model_open(struct model *m, const char *path, bool require_all, struct err *e);

/* Where TAEF1 is looked for, in words: what sluice.json says; else the first of taef1/ (as diffusers has it),
 * taef1_decoder.safetensors and vae_approx/taef1_decoder.safetensors (ComfyUI) that is in the model's folder or, where
 * its latents are FLUX.1's own, in one of the two folders above it or in the user's folder of models. */
#define MODEL_TAEF1_PLACES "taef1_decoder.safetensors, or the folder taef1, in the model's folder, beside it, or in " \
                           "~/.local/share/sluice/models"

/* True if the parts present fit each other (widths, channels) and make a
 * text-to-image model; part of model_open with require_all. */
bool model_consistent(const struct model *m, struct err *e);

/* Where the model `name` is: `name` itself if it is a path (has a '/' or
 * exists), else sluice/models/<name> under $XDG_DATA_HOME (~/.local/share),
 * or beside the running program: ../share/sluice/<name> where it is installed,
 * assets/<name> of the source tree that it was built in. NULL: the shipped
 * "demo". Says only where; open it to know whether it is a model. */
bool model_find(char path[MODEL_PATH_MAX], const char *name, struct err *e);

/* The user's folder of models, whether it exists or not; false: there is no place for one (no HOME). */
bool model_folder(char path[MODEL_PATH_MAX]);

/* path/part into buf. */
const char *model_part_dir(const struct model *m, enum model_part p, char buf[MODEL_PATH_MAX]);

#endif
