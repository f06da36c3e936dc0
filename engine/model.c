/* model.c - see model.h. Reads configs only; no weights are opened here. */
#include "engine/model.h"

#include "engine/config.h"
#include "engine/file.h"

#include <dirent.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beyond any real model, and low enough that no product of four overflows. */
enum { WIDTH_MAX = 65536, LAYERS_MAX = 1024, VOCAB_MAX = 1 << 22, CONFIG_MAX = 1 << 20,
       TOKENIZER_MAX = 64 << 20 };

_Static_assert((int)MODEL_PATH_MAX == (int)FILE_PATH_MAX, "paths are passed between the two");

/* The folder of each part, its config, and the data files of which one must be
 * there (NULL: any .safetensors). */
static const struct {
    const char *name, *config, *data[3];
} parts[MODEL_PART_COUNT] = {
    [MODEL_CLIP] = { "text_encoder", "config.json", { NULL } },
    [MODEL_T5] = { "text_encoder_2", "config.json", { NULL } },
    [MODEL_FLUX] = { "transformer", "config.json", { NULL } },
    [MODEL_VAE] = { "vae", "config.json", { NULL } },
    [MODEL_TOK_CLIP] = { "tokenizer", NULL, { "vocab.json", "tokenizer.json" } },
    [MODEL_TOK_T5] = { "tokenizer_2", NULL, { "tokenizer.json", "spiece.model" } },
    [MODEL_SCHEDULER] = { "scheduler", "scheduler_config.json", { "scheduler_config.json" } },
};

/* ComfyUI latent_formats.Flux: rows are latent channels, columns R G B. */
static const float flux_rgb[16][3] = {
    { -.0346f, .0244f, .0681f },  { .0034f, .0210f, .0687f },   { .0275f, -.0668f, -.0433f },
    { -.0174f, .0160f, .0617f },  { .0859f, .0721f, .0329f },   { .0004f, .0383f, .0115f },
    { .0405f, .0861f, .0915f },   { -.0236f, -.0185f, -.0259f }, { -.0245f, .0250f, .1180f },
    { .1008f, .0755f, -.0421f },  { -.0515f, .0201f, .0011f },  { .0428f, -.0012f, -.0036f },
    { .0817f, .0765f, .0749f },   { -.1264f, -.0522f, -.1103f }, { -.0280f, -.0881f, -.0499f },
    { -.1262f, -.0982f, -.0778f },
};
static const float flux_rgb_bias[3] = { -.0329f, -.0718f, -.0851f };

const char *model_part_name(enum model_part p)
{
    return (unsigned)p < MODEL_PART_COUNT ? parts[p].name : "?";
}

const char *model_part_dir(const struct model *m, enum model_part p, char buf[MODEL_PATH_MAX])
{
    /* cannot fail: model_open has left room for this and a file name in it */
    file_join(buf, m->path, model_part_name(p), NULL);
    return buf;
}

/* "path/part/file" into buf. */
static void part_file(const struct model *m, enum model_part p, const char *file,
                      char buf[MODEL_PATH_MAX])
{
    char dir[MODEL_PATH_MAX];
    model_part_dir(m, p, dir);
    file_join(buf, dir, file, NULL);
}

static bool text_is(struct config *c, const char *key, const char *want, const char *otherwise)
{
    const char *s = config_text_or(c, key, otherwise);
    if (s && !strcmp(s, want))
        return true;
    char what[128];
    snprintf(what, sizeof what, "\"%s\", the only one sluice knows", want);
    return config_expected(c, key, what);
}

static void must_be_false(struct config *c, const char *key)
{
    if (config_bool_or(c, key, false))
        config_expected(c, key, "false, the only one sluice knows");
}

/* --- the parts -------------------------------------------------------------- */

/* transformers' old CLIP configs, FLUX.1's among them, say eos_token_id 2, which
 * is wrong, and mean "where the highest id is"; bos and pad are wrong as well. */
static void clip_legacy_ids(const struct model *m, struct clip_config *k, struct err *e)
{
    char path[MODEL_PATH_MAX];
    k->eos_id = k->vocab - 1;
    part_file(m, MODEL_TOK_CLIP, "vocab.json", path);
    if (file_exists(path)) {
        json_t *vocab = config_read(path, TOKENIZER_MAX, 0, e);
        json_int_t highest = 0;
        const char *word;
        json_t *id;
        json_object_foreach(vocab, word, id) {
            if (json_integer_value(id) > highest)
                highest = json_integer_value(id);
        }
        if (highest >= k->vocab)
            err_set(e, ERR_INPUT, "%s: expected ids below vocab_size %d of text_encoder/config.json, "
                    "found %lld; the two do not belong together", path, k->vocab, (long long)highest);
        else if (highest > 0)
            k->eos_id = (int)highest;
        json_decref(vocab);
    }
    k->bos_id = k->eos_id - 1;
    k->pad_id = k->eos_id;
}

static void clip_read(struct model *m, struct config *c)
{
    struct clip_config *k = &m->clip;
    k->vocab = config_int(c, "vocab_size", 2, VOCAB_MAX);
    k->tokens = config_int(c, "max_position_embeddings", 2, 4096);
    k->width = config_int(c, "hidden_size", 1, WIDTH_MAX);
    k->heads = config_int(c, "num_attention_heads", 1, 1024);
    k->layers = config_int(c, "num_hidden_layers", 1, LAYERS_MAX);
    k->mlp = config_int(c, "intermediate_size", 1, WIDTH_MAX);
    k->eps = (float)config_real_or(c, "layer_norm_eps", 1e-12, 0.1, 1e-5);
    const char *act = config_text_or(c, "hidden_act", "quick_gelu");
    if (act && !strcmp(act, "gelu"))
        k->act = CLIP_GELU;
    else if (!act || strcmp(act, "quick_gelu"))
        config_expected(c, "hidden_act", "\"quick_gelu\" or \"gelu\"");
    if (k->width % k->heads)
        config_expected(c, "num_attention_heads", "a divisor of hidden_size");
    if (c->e->kind)
        return;
    if (config_int_or(c, "eos_token_id", 0, VOCAB_MAX, 49407) == 2) {
        clip_legacy_ids(m, k, c->e);
    } else {
        k->eos_id = config_int_or(c, "eos_token_id", 0, k->vocab - 1, k->vocab - 1);
        k->bos_id = config_int_or(c, "bos_token_id", 0, k->vocab - 1, k->vocab - 2);
        k->pad_id = config_int_or(c, "pad_token_id", 0, k->vocab - 1, k->eos_id);
    }
}

static void t5_read(struct model *m, struct config *c)
{
    struct t5_config *k = &m->t5;
    k->vocab = config_int(c, "vocab_size", 2, VOCAB_MAX);
    k->width = config_int(c, "d_model", 1, WIDTH_MAX);
    k->heads = config_int(c, "num_heads", 1, 1024);
    k->head_dim = config_int(c, "d_kv", 1, 1024);
    k->layers = config_int(c, "num_layers", 1, LAYERS_MAX);
    k->ff = config_int(c, "d_ff", 1, WIDTH_MAX);
    k->buckets = config_int_or(c, "relative_attention_num_buckets", 4, 4096, 32);
    k->max_distance = config_int_or(c, "relative_attention_max_distance", 2, 65536, 128);
    k->eps = (float)config_real_or(c, "layer_norm_epsilon", 1e-12, 0.1, 1e-6);
    k->pad_id = config_int_or(c, "pad_token_id", 0, k->vocab - 1, 0);
    k->eos_id = config_int_or(c, "eos_token_id", 0, k->vocab - 1, 1);
    text_is(c, "feed_forward_proj", "gated-gelu", "relu");
    /* half the buckets are for each direction and half of those are exact: the
     * logarithmic rest needs a distance beyond them */
    if (k->buckets % 4)
        config_expected(c, "relative_attention_num_buckets", "a multiple of 4");
    if (k->max_distance <= k->buckets / 4)
        config_expected(c, "relative_attention_max_distance",
                        "more than a quarter of relative_attention_num_buckets");
}

static void flux_read(struct model *m, struct config *c)
{
    static const int default_axes[] = { 16, 56, 56 };
    struct flux_config *k = &m->flux;
    text_is(c, "_class_name", "FluxTransformer2DModel", "FluxTransformer2DModel");
    if (config_int_or(c, "patch_size", 1, 1, 1) != 1)
        return;
    k->in_channels = config_int(c, "in_channels", 4, 4096);
    k->out_channels = config_int_or(c, "out_channels", 4, 4096, k->in_channels);
    k->heads = config_int(c, "num_attention_heads", 1, 1024);
    k->head_dim = config_int(c, "attention_head_dim", 2, 1024);
    k->hidden = k->heads * k->head_dim;
    k->doubles = config_int(c, "num_layers", 0, LAYERS_MAX);
    k->singles = config_int(c, "num_single_layers", 0, LAYERS_MAX);
    k->context = config_int(c, "joint_attention_dim", 1, WIDTH_MAX);
    k->pooled = config_int(c, "pooled_projection_dim", 1, WIDTH_MAX);
    k->guidance = config_bool_or(c, "guidance_embeds", false);
    k->theta = (float)config_real_or(c, "theta", 1, 1e9, 10000);
    if (k->hidden > WIDTH_MAX)
        config_expected(c, "num_attention_heads", "x attention_head_dim at most 65536");

    const json_t *axes = config_array(c, "axes_dims_rope", MODEL_MAX_AXES);
    k->axes = axes ? (int)json_array_size(axes) : 3;
    int sum = 0;
    for (int i = 0; i < k->axes; i++) {
        json_int_t n = axes ? json_integer_value(json_array_get(axes, (size_t)i)) : default_axes[i];
        if (n < 2 || n > 1024 || n % 2)
            config_expected(c, "axes_dims_rope", "even whole numbers from 2");
        k->axes_dim[i] = n < 1024 ? (int)n : 1024;
        sum += k->axes_dim[i];
    }
    if (k->axes != 3)
        config_expected(c, "axes_dims_rope", "three numbers (reference, row, column)");
    if (sum != k->head_dim)
        config_expected(c, "axes_dims_rope", "numbers whose sum is attention_head_dim");
}

static void blocks_are(struct config *c, const char *key, const char *want)
{
    const json_t *blocks = config_array(c, key, MODEL_MAX_VAE_LEVELS);
    size_t i;
    json_t *v;
    json_array_foreach(blocks, i, v) {
        const char *s = json_string_value(v);
        char what[80];
        snprintf(what, sizeof what, "only \"%s\"", want);
        if (!s || strcmp(s, want))
            config_expected(c, key, what);
    }
}

static void rgb_row(struct config *c, const char *key, const json_t *row, float out[3])
{
    for (size_t i = 0; i < 3; i++) {
        const json_t *v = json_array_get(row, i);
        double x = json_number_value(v);
        if (!json_is_number(v) || json_array_size(row) != 3 || !(fabs(x) <= 100))
            config_expected(c, key, "rows of three numbers, one for each latent channel");
        out[i] = (float)x;
    }
}

static void vae_read(struct model *m, struct config *c)
{
    struct vae_config *k = &m->vae;
    text_is(c, "_class_name", "AutoencoderKL", "AutoencoderKL");
    text_is(c, "act_fn", "silu", "silu");
    config_int_or(c, "in_channels", 3, 3, 3);
    config_int_or(c, "out_channels", 3, 3, 3);
    blocks_are(c, "down_block_types", "DownEncoderBlock2D");
    blocks_are(c, "up_block_types", "UpDecoderBlock2D");
    k->latent_channels = config_int(c, "latent_channels", 1, MODEL_LATENT_MAX);
    k->layers_per_block = config_int(c, "layers_per_block", 1, 16);
    k->groups = config_int_or(c, "norm_num_groups", 1, 1024, 32);
    k->mid_attention = config_bool_or(c, "mid_block_add_attention", true);
    k->quant_conv = config_bool_or(c, "use_quant_conv", true);
    k->post_quant_conv = config_bool_or(c, "use_post_quant_conv", true);
    k->scaling = (float)config_real(c, "scaling_factor", 1e-6, 1e6);
    k->shift = (float)config_real_or(c, "shift_factor", -1e6, 1e6, 0);
    k->eps = 1e-6f; /* fixed in diffusers' code */
    const char *const means[] = { "latents_mean", "latents_std" };
    for (int i = 0; i < 2; i++)
        if (!json_is_null(json_object_get(c->root, means[i])) && json_object_get(c->root, means[i]))
            config_expected(c, means[i], "null, the only one sluice knows");

    const json_t *channels = config_array(c, "block_out_channels", MODEL_MAX_VAE_LEVELS);
    k->levels = (int)json_array_size(channels);
    if (k->levels < 1)
        config_expected(c, "block_out_channels", "a list of 1 to 8 widths");
    for (int i = 0; i < k->levels; i++) {
        json_int_t n = json_integer_value(json_array_get(channels, (size_t)i));
        if (n < 1 || n > WIDTH_MAX || n % k->groups)
            config_expected(c, "block_out_channels", "multiples of norm_num_groups, at most 65536");
        k->channels[i] = n < 1 || n > WIDTH_MAX ? 1 : (int)n;
    }
    k->factor = 1 << (k->levels > 0 ? k->levels - 1 : 0);

    const json_t *rgb = config_array(c, "latent_rgb_factors", MODEL_LATENT_MAX);
    if (rgb) {
        k->has_rgb = true;
        if (json_array_size(rgb) != (size_t)k->latent_channels)
            config_expected(c, "latent_rgb_factors", "one row for each of latent_channels");
        for (size_t i = 0; i < json_array_size(rgb); i++)
            rgb_row(c, "latent_rgb_factors", json_array_get(rgb, i), k->rgb[i]);
        const json_t *bias = config_array(c, "latent_rgb_factors_bias", 3);
        if (bias)
            rgb_row(c, "latent_rgb_factors_bias", bias, k->rgb_bias);
    } else if (k->latent_channels == 16) {
        k->has_rgb = true;
        memcpy(k->rgb, flux_rgb, sizeof flux_rgb);
        memcpy(k->rgb_bias, flux_rgb_bias, sizeof flux_rgb_bias);
        k->flux_latents = true;
    }
}

static void scheduler_read(struct model *m, struct config *c)
{
    struct scheduler_config *k = &m->scheduler;
    static const char *const unknown[] = { "use_karras_sigmas", "use_exponential_sigmas",
                                           "use_beta_sigmas", "invert_sigmas", "stochastic_sampling" };
    text_is(c, "_class_name", "FlowMatchEulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler");
    config_int_or(c, "num_train_timesteps", 1000, 1000, 1000);
    k->dynamic_shifting = config_bool_or(c, "use_dynamic_shifting", false);
    k->base_shift = (float)config_real_or(c, "base_shift", -100, 100, 0.5);
    k->max_shift = (float)config_real_or(c, "max_shift", -100, 100, 1.15);
    k->shift = (float)config_real_or(c, "shift", 1e-3, 1e3, 1);
    k->base_seq = config_int_or(c, "base_image_seq_len", 1, 1 << 24, 256);
    k->max_seq = config_int_or(c, "max_image_seq_len", 1, 1 << 24, 4096);
    if (k->base_seq == k->max_seq)
        config_expected(c, "max_image_seq_len", "another number than base_image_seq_len");
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        must_be_false(c, unknown[i]);
    text_is(c, "time_shift_type", "exponential", "exponential");
    if (config_real_or(c, "shift_terminal", 0, 1, 0) != 0)
        config_expected(c, "shift_terminal", "null, the only one sluice knows");
}

static void (*const readers[MODEL_PART_COUNT])(struct model *, struct config *) = {
    [MODEL_CLIP] = clip_read, [MODEL_T5] = t5_read,   [MODEL_FLUX] = flux_read,
    [MODEL_VAE] = vae_read,   [MODEL_SCHEDULER] = scheduler_read,
};

/* --- the whole -------------------------------------------------------------- */

static bool has_safetensors(const char *dir)
{
    DIR *d = opendir(dir);
    bool found = false;
    for (const struct dirent *f; d && !found && (f = readdir(d));) {
        size_t n = strlen(f->d_name);
        found = n > 12 && f->d_name[0] != '.' && !strcmp(f->d_name + n - 12, ".safetensors");
    }
    if (d)
        closedir(d);
    return found;
}

static bool part_open(struct model *m, enum model_part p, bool require, struct err *e)
{
    char dir[MODEL_PATH_MAX], path[MODEL_PATH_MAX] = "";
    const char *what = parts[p].config;
    model_part_dir(m, p, dir);
    bool there = true;
    if (parts[p].config) {
        part_file(m, p, parts[p].config, path);
        there = file_exists(path);
    }
    if (there && !parts[p].data[0]) {
        what = "*.safetensors";
        there = has_safetensors(dir);
    } else if (there) {
        what = parts[p].data[0];
        there = false;
        for (int i = 0; !there && parts[p].data[i]; i++) {
            char data[MODEL_PATH_MAX];
            part_file(m, p, parts[p].data[i], data);
            there = file_exists(data);
        }
    }
    if (!there)
        return !require || err_set(e, ERR_MISSING, "%s is missing: no %s in %s; download this folder "
                                   "of the model", model_part_name(p), what, dir);
    if (parts[p].config) {
        struct config c = { config_read(path, CONFIG_MAX, 0, e), path, e };
        if (!c.root)
            return false;
        readers[p](m, &c);
        json_decref(c.root);
        if (e->kind)
            return false;
    }
    m->present[p] = true;
    return true;
}

/* The padded length of T5's input. FLUX.1 [dev] was made with 512 tokens and
 * [schnell], which has no guidance, with 256. */
static bool t5_tokens(struct model *m, struct err *e)
{
    char path[MODEL_PATH_MAX];
    int most = m->present[MODEL_FLUX] && !m->flux.guidance ? 256 : 512;
    m->t5.tokens = most;
    part_file(m, MODEL_TOK_T5, "tokenizer_config.json", path);
    if (!m->present[MODEL_TOK_T5] || !file_exists(path))
        return true;
    /* "no limit" is written there as 1000000000000000019884624838656 */
    struct config c = { config_read(path, TOKENIZER_MAX, JSON_DECODE_INT_AS_REAL, e), path, e };
    if (!c.root)
        return false;
    double n = config_real_or(&c, "model_max_length", 1, 1e300, 512);
    m->t5.tokens = n < most ? (int)n : most;
    json_decref(c.root);
    return e->kind == ERR_NONE;
}

static bool is_taef1(const char *path)
{
    size_t n = strlen(path);
    return has_safetensors(path) || (n > 12 && !strcmp(path + n - 12, ".safetensors") && file_exists(path));
}

/* As sluice.json names it. */
static bool taef1_named(struct model *m, struct config *c)
{
    const char *name = config_text_or(c, "taef1", NULL);
    if (!name)
        return c->e->kind == ERR_NONE;
    if (name[0] == '/' ? strlen(name) >= MODEL_PATH_MAX : !file_join(m->taef1, m->path, name, c->e))
        return config_expected(c, "taef1", "a shorter path");
    if (name[0] == '/')
        strcpy(m->taef1, name);
    return is_taef1(m->taef1) ||
           config_expected(c, "taef1", "the path of a .safetensors file, or of a folder with one, that exists");
}

static void taef1_find(struct model *m)
{
    static const char *const names[] = { "taef1", "taef1_decoder.safetensors", "vae_approx/taef1_decoder.safetensors" };
    char dir[4][MODEL_PATH_MAX];
    strcpy(dir[0], m->path);
    file_join(dir[1], m->path, "..", NULL);
    file_join(dir[2], m->path, "../..", NULL); /* ComfyUI's models/diffusers/NAME and models/vae_approx */
    model_folder(dir[3]);
    for (int i = 0; i < (m->vae.flux_latents ? 4 : 1) && !m->taef1[0]; i++)
        for (size_t k = 0; k < sizeof names / sizeof *names && !m->taef1[0]; k++)
            if (!*dir[i] || !file_join(m->taef1, dir[i], names[k], NULL) || !is_taef1(m->taef1))
                m->taef1[0] = '\0';
}

static bool defaults_read(struct model *m, struct err *e)
{
    struct model_defaults *d = &m->defaults;
    bool dev = !m->present[MODEL_FLUX] || m->flux.guidance;
    *d = (struct model_defaults){ 1024, 1024, dev ? 28 : 4, dev ? 3.5f : 0 };
    char path[MODEL_PATH_MAX];
    if (!file_join(path, m->path, "sluice.json", e))
        return false;
    if (!file_exists(path))
        return true;
    struct config c = { config_read(path, CONFIG_MAX, 0, e), path, e };
    if (!c.root)
        return false;
    d->width = config_int_or(&c, "width", 16, 16384, d->width);
    d->height = config_int_or(&c, "height", 16, 16384, d->height);
    d->steps = config_int_or(&c, "steps", 1, 1000, d->steps);
    d->guidance = (float)config_real_or(&c, "guidance", 0, 100, d->guidance);
    m->t5.tokens = config_int_or(&c, "max_sequence_length", 1, 512, m->t5.tokens);
    const json_t *examples = config_array(&c, "prompts", 10000);
    for (size_t i = 0; i < json_array_size(examples) && m->examples < MODEL_EXAMPLES_MAX; i++) {
        const char *s = json_string_value(json_array_get(examples, i));
        if (!s || strlen(s) >= MODEL_EXAMPLE_BYTES) {
            config_expected(&c, "prompts", "prompts of at most 127 bytes");
            break;
        }
        strcpy(m->example[m->examples++], s);
    }
    if (e->kind == ERR_NONE)
        taef1_named(m, &c);
    json_decref(c.root);
    return e->kind == ERR_NONE;
}

static void name_set(struct model *m)
{
    char full[PATH_MAX];
    const char *path = realpath(m->path, full) ? full : m->path;
    const char *slash = strrchr(path, '/');
    snprintf(m->name, sizeof m->name, "%.*s", (int)sizeof m->name - 1,
             slash && slash[1] ? slash + 1 : path);
}

bool model_consistent(const struct model *m, struct err *e)
{
    const struct flux_config *f = &m->flux;
    const struct {
        enum model_part part;
        const char *key;
        int have, want;
        const char *source;
    } rules[] = {
        { MODEL_VAE, "out_channels", f->out_channels, 4 * m->vae.latent_channels,
          "4 x latent_channels of vae" },
        { MODEL_VAE, "in_channels", f->in_channels, f->out_channels,
          "its out_channels; fill, control and depth models are not supported" },
        { MODEL_T5, "joint_attention_dim", f->context, m->t5.width, "d_model of text_encoder_2" },
        { MODEL_CLIP, "pooled_projection_dim", f->pooled, m->clip.width,
          "hidden_size of text_encoder" },
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (m->present[MODEL_FLUX] && m->present[rules[i].part] && rules[i].have != rules[i].want)
            return err_set(e, ERR_INPUT, "%s/transformer/config.json: key \"%s\": expected %d (%s), "
                           "found %d; the parts do not belong together", m->path, rules[i].key,
                           rules[i].want, rules[i].source, rules[i].have);
    return true;
}

bool model_open(struct model *m, const char *path, bool require_all, struct err *e)
{
    *m = (struct model){ 0 };
    struct err own = { 0 };
    e = e ? e : &own;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    /* so that every file of a model fits a buffer and needs no check below */
    if (n == 0 || n > MODEL_PATH_MAX - 512)
        return err_set(e, ERR_INPUT, "%.100s: expected a path of 1 to %d bytes", path,
                       MODEL_PATH_MAX - 512);
    memcpy(m->path, path, n);
    name_set(m);

    if (!folder_exists(m->path))
        return err_set(e, ERR_INPUT, "%s: %s; expected a folder with model_index.json (the diffusers "
                       "layout)", m->path, file_exists(m->path) ? "is a file" : "no such folder");
    char index[MODEL_PATH_MAX];
    if (!file_join(index, m->path, "model_index.json", e))
        return false;
    if (!file_exists(index))
        return err_set(e, ERR_INPUT, "%s: no model_index.json in it; expected a model in the "
                       "diffusers layout (model_index.json beside transformer/, vae/, ...)", m->path);
    struct config c = { config_read(index, CONFIG_MAX, 0, e), index, e };
    if (!c.root)
        return false;
    const char *class = config_text(&c, "_class_name");
    if (class && strncmp(class, "Flux", 4))
        config_expected(&c, "_class_name", "a FLUX.1 pipeline (\"FluxPipeline\")");
    json_decref(c.root);
    if (e->kind)
        return false;

    for (int p = 0; p < MODEL_PART_COUNT; p++)
        if (!part_open(m, (enum model_part)p, require_all, e))
            return false;
    if (!t5_tokens(m, e) || !defaults_read(m, e) || (require_all && !model_consistent(m, e)))
        return false;
    if (!m->taef1[0])
        taef1_find(m);
    return true;
}

/* --- where models are ------------------------------------------------------- */

/* The i-th place where `name` may be; false after the last. An empty buf: skip. */
static bool place(int i, const char *name, char buf[MODEL_PATH_MAX])
{
    char exe[MODEL_PATH_MAX] = "";
    char own[FILE_PATH_MAX];
    int n = 0;
    buf[0] = '\0';
    switch (i) {
    case 0:
        n = file_xdg(own, "XDG_DATA_HOME", ".local/share", "models");
        if (n && n < FILE_PATH_MAX)
            n = snprintf(buf, MODEL_PATH_MAX, "%s/%s", own, name);
        break;
    case 1: /* PREFIX/bin/sluice */
    case 2: /* build/sluice in the source tree */
    case 3: /* build/tests/test_x in the source tree */
        if (readlink("/proc/self/exe", exe, sizeof exe - 1) < 0)
            break;
        for (int up = 0; up < (i == 3 ? 3 : 2); up++) {
            char *slash = strrchr(exe, '/');
            if (slash)
                *slash = '\0';
        }
        n = snprintf(buf, MODEL_PATH_MAX, "%s/%s/%s", exe, i == 1 ? "share/sluice" : "assets", name);
        break;
    default:
        return false;
    }
    if (n >= MODEL_PATH_MAX)
        buf[0] = '\0';
    return true;
}

bool model_folder(char path[MODEL_PATH_MAX])
{
    place(0, "", path);
    if (*path)
        path[strlen(path) - 1] = '\0'; /* the slash before no name */
    return *path != '\0';
}

bool model_find(char path[MODEL_PATH_MAX], const char *name, struct err *e)
{
    if (name && (strchr(name, '/') || folder_exists(name) || file_exists(name))) {
        if (strlen(name) >= MODEL_PATH_MAX)
            return err_set(e, ERR_INPUT, "%.100s...: the path is too long", name);
        strcpy(path, name);
        return true;
    }
    const char *wanted = name ? name : "demo";
    for (int i = 0; *wanted && place(i, wanted, path); i++)
        if (*path && folder_exists(path))
            return true;
    char first[MODEL_PATH_MAX], second[MODEL_PATH_MAX];
    place(0, wanted, first);
    place(1, wanted, second);
    return err_set(e, ERR_INPUT, "no model \"%.100s\": it is no folder here, and neither %.120s nor "
                   "%.120s exists; give the path of a model folder", wanted, first, second);
}
