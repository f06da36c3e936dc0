/* synth.c - see synth.h. */
#include "engine/synth.h"

#include "engine/config.h"
#include "engine/file.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/shapes.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 4 << 20, TOKENIZER_FILE_MAX = 64 << 20, HEADER_MAX = 100000000 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

struct synth_law synth_law(const char *name, struct tensor shape)
{
    static const char *const tables[] = { "token_embedding.weight", "position_embedding.weight",
                                          "shared.weight", "embed_tokens.weight",
                                          "relative_attention_bias.weight" };
    if (ends_with(name, ".bias"))
        return (struct synth_law){ 0, 0.02 * sqrt(3) };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (ends_with(name, tables[i]))
            return (struct synth_law){ 0, 0.5 };
    if (shape.ndim == 1)
        return (struct synth_law){ 1, 0.1 * sqrt(3) };
    double fan_in = 1;
    for (int i = 1; i < shape.ndim; i++)
        fan_in *= (double)shape.shape[i];
    return (struct synth_law){ 0, sqrt(3 / fan_in) };
}

/* Element i, less its center. */
static inline double value(uint64_t key, uint64_t i, double half_width)
{
    uint64_t z = key + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (2 * ((double)(int32_t)(z >> 40) * 0x1p-24) - 1) * half_width;
}

/* x as a float whose last bit says whether anything was cut off: rounding that
 * to a narrower type gives what rounding x once would. */
static inline float to_odd(double x)
{
    union { double d; uint64_t u; } v = { x };
    uint64_t cut = v.u & 0x1fffffff;
    v.u = (v.u ^ cut) | (uint64_t)(cut != 0) << 29;
    return (float)v.d;
}

static inline uint16_t bf16_round(double x)
{
    uint32_t u = f32_bits(to_odd(x)); /* never NaN: bf16_from_f32 would cost a select */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* The loops by which 24 GB are made, in the processor's widest vectors. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDEST
#endif

WIDEST static void fill_bf16(uint16_t *dst, uint64_t key, uint64_t from, int64_t n, double half_width)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = bf16_round(value(key, from + (uint64_t)i, half_width));
}

WIDEST static void fill_f32(float *dst, uint64_t key, uint64_t from, int64_t n, double half_width)
{
    for (int64_t i = 0; i < n; i++)
        dst[i] = (float)value(key, from + (uint64_t)i, half_width);
}

void synth_fill(void *dst, enum dtype t, const char *name, uint64_t seed, struct synth_law law,
                int64_t from, int64_t n)
{
    uint64_t key = 0xcbf29ce484222325u, at = (uint64_t)from;
    for (const char *s = name; *s; s++)
        key = (key ^ (unsigned char)*s) * 0x100000001b3u;
    key ^= seed * 0x9e3779b97f4a7c15u;
    if (t == DT_BF16 && law.center == 0) {
        fill_bf16(dst, key, at, n, law.half_width);
        return;
    }
    if (t == DT_F32 && law.center == 0) {
        fill_f32(dst, key, at, n, law.half_width);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        /* volatile: a fused multiply-add would round once less */
        volatile double product = value(key, at + (uint64_t)i, law.half_width);
        double w = law.center + product;
        if (t == DT_F32)
            ((float *)dst)[i] = (float)w;
        else if (t == DT_BF16)
            ((uint16_t *)dst)[i] = bf16_round(w);
        else
            ((uint16_t *)dst)[i] = f16_from_f32(to_odd(w));
    }
}

/* Fills and writes block after block: one thread writes, in order, while the
 * others fill. */
static bool tensor_write(struct safetensors_writer *w, const char *name, struct tensor t,
                         uint64_t seed, struct err *e)
{
    struct synth_law law = synth_law(name, t);
    int64_t count = tensor_count(t), size = (int64_t)dtype_bytes(t.dtype);
    int64_t per_block = BLOCK_BYTES / size, blocks = (count + per_block - 1) / per_block;
    bool ok = true;
#pragma omp parallel if (blocks > 1)
    {
        void *buf = malloc((size_t)((count < per_block ? count : per_block) * size));
#pragma omp for ordered schedule(static, 1)
        for (int64_t b = 0; b < blocks; b++) {
            int64_t from = b * per_block, n = count - from < per_block ? count - from : per_block;
            if (buf)
                synth_fill(buf, t.dtype, name, seed, law, from, n);
#pragma omp ordered
            {
                if (!buf && ok)
                    ok = err_set(e, ERR_MEMORY, "no memory to fill tensor %s", name);
                ok = ok && safetensors_append(w, buf, (size_t)(n * size), e);
            }
        }
        free(buf);
    }
    return ok;
}

/* --- a checkpoint ----------------------------------------------------------- */

struct run {
    const struct synth_options *o;
    const char *dir;
    struct model m;         /* the configs; only what shapes and the templates use */
    char **made;            /* paths to remove on failure, in the order they were made */
    size_t made_count;
    uint64_t total, done;   /* bytes of weights */
    bool (*progress)(void *user, double fraction);
    void *user;
};

struct list {
    struct safetensors_entry *entries;
    size_t count, room;
    uint64_t bytes;
    enum dtype dtype;
};

static void list_free(struct list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free((char *)(uintptr_t)l->entries[i].name);
    free(l->entries);
    *l = (struct list){ 0 };
}

static bool list_add(void *user, const char *name, int ndim, const int64_t *shape)
{
    struct list *l = user;
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        struct safetensors_entry *more = realloc(l->entries, room * sizeof *more);
        if (!more)
            return false;
        l->entries = more;
        l->room = room;
    }
    struct tensor t = { .dtype = l->dtype, .ndim = ndim };
    memcpy(t.shape, shape, (size_t)ndim * sizeof *shape);
    char *copy = strdup(name);
    if (!copy)
        return false;
    l->bytes += tensor_bytes(t);
    l->entries[l->count++] = (struct safetensors_entry){ copy, t };
    return true;
}

static bool list_part(const struct run *r, enum model_part p, struct list *l, struct err *e)
{
    *l = (struct list){ .dtype = r->o->dtype };
    if (shapes_visit(&r->m, p, list_add, l))
        return true;
    list_free(l);
    return err_set(e, ERR_MEMORY, "no memory for the tensor names of %s", model_part_name(p));
}

/* Notes a path so that a failure later removes it. */
static bool run_made(struct run *r, const char *path, struct err *e)
{
    char **more = realloc(r->made, (r->made_count + 1) * sizeof *more);
    char *copy = strdup(path);
    if (more)
        r->made = more;
    if (!more || !copy) {
        free(copy);
        return err_set(e, ERR_MEMORY, "no memory");
    }
    r->made[r->made_count++] = copy;
    return true;
}

static bool run_folder(struct run *r, const char *name, char path[FILE_PATH_MAX], struct err *e)
{
    if (!file_join(path, r->dir, name, e))
        return false;
    if (mkdir(path, 0777) < 0)
        return err_errno(e, errno, "%s: cannot make this folder", path);
    return run_made(r, path, e);
}

static bool run_text(struct run *r, const char *folder, const char *name, const char *text,
                     struct err *e)
{
    char path[FILE_PATH_MAX];
    return file_join(path, folder, name, e) && run_made(r, path, e) &&
           file_write(path, text, strlen(text), e);
}

static bool shard_write(struct run *r, const char *path, const struct safetensors_entry *entries,
                        size_t count, struct err *e)
{
    struct safetensors_writer *w;
    if (!run_made(r, path, e) || !safetensors_create(&w, path, entries, count, e))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct tensor t = entries[i].tensor;
        bool ok = r->o->headers_only ? safetensors_skip(w, tensor_bytes(t), e)
                                     : tensor_write(w, entries[i].name, t, r->o->seed, e);
        r->done += tensor_bytes(t);
        if (ok && r->progress && !r->progress(r->user, (double)r->done / (double)r->total))
            ok = err_set(e, ERR_CANCELLED, "cancelled; what was written is removed");
        if (!ok) {
            safetensors_abandon(w);
            return false;
        }
    }
    return safetensors_commit(w, e);
}

/* Index of the first entry that no longer fits a file of `limit` bytes. */
static size_t shard_end(const struct list *l, size_t from, uint64_t limit)
{
    uint64_t bytes = 0;
    size_t i = from;
    for (; i < l->count; i++) {
        bytes += tensor_bytes(l->entries[i].tensor);
        if (bytes > limit && i > from)
            break;
    }
    return i;
}

static bool part_write(struct run *r, enum model_part p, const char *stem, uint64_t limit,
                       const char *config, struct err *e)
{
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], name[128];
    struct list l;
    if (!run_folder(r, model_part_name(p), folder, e) ||
        !run_text(r, folder, "config.json", config, e) || !list_part(r, p, &l, e))
        return false;

    int shards = 0;
    for (size_t i = 0; i < l.count; i = shard_end(&l, i, limit))
        shards++;
    bool ok = true;
    json_t *map = shards > 1 ? json_object() : NULL;
    size_t from = 0;
    for (int s = 1; ok && s <= shards; s++) {
        size_t end = shard_end(&l, from, limit);
        if (shards > 1)
            snprintf(name, sizeof name, "%s-%05d-of-%05d.safetensors", stem, s, shards);
        else
            snprintf(name, sizeof name, "%s.safetensors", stem);
        ok = file_join(path, folder, name, e) &&
             shard_write(r, path, l.entries + from, end - from, e);
        for (; from < end; from++)
            if (map)
                json_object_set_new(map, l.entries[from].name, json_string(name));
    }
    if (ok && map) {
        json_t *index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)l.bytes,
                                  "weight_map", map);
        char *text = json_dumps(index, JSON_INDENT(2));
        snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
        ok = text ? run_text(r, folder, name, text, e)
                  : err_set(e, ERR_MEMORY, "%s: no memory for its index", folder);
        free(text);
        json_decref(index);
    }
    json_decref(map);
    list_free(&l);
    return ok;
}

/* The demo's tokenizers pad to less than FLUX.1's do. */
static char *tokenizer_config(const char *path, int tokens, struct err *e)
{
    json_t *root = config_read(path, TOKENIZER_FILE_MAX, 0, e);
    if (!root)
        return NULL;
    json_object_set_new(root, "model_max_length", json_integer(tokens));
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    if (!text)
        err_set(e, ERR_MEMORY, "%s: no memory to copy it", path);
    return text;
}

static bool tokenizer_copy(struct run *r, enum model_part p, const char *source, int tokens,
                           struct err *e)
{
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX], file[FILE_PATH_MAX], target[FILE_PATH_MAX];
    if (!file_join(from, source, model_part_name(p), e) || !run_folder(r, model_part_name(p), to, e))
        return false;
    DIR *d = opendir(from);
    if (!d)
        return err_errno(e, errno, "%s: cannot copy the tokenizer", from);
    bool ok = true;
    int copied = 0;
    for (const struct dirent *f; ok && (f = readdir(d));) {
        ok = file_join(file, from, f->d_name, e);
        if (!ok || f->d_name[0] == '.' || !file_exists(file))
            continue;
        size_t bytes = 0;
        char *data = NULL;
        if (strcmp(f->d_name, "tokenizer_config.json"))
            data = file_read(file, TOKENIZER_FILE_MAX, &bytes, e);
        else if ((data = tokenizer_config(file, tokens, e)))
            bytes = strlen(data);
        ok = data && file_join(target, to, f->d_name, e) && run_made(r, target, e) &&
             file_write(target, data, bytes, e);
        free(data);
        copied++;
    }
    closedir(d);
    if (ok && !copied)
        return err_set(e, ERR_INPUT, "%s: no tokenizer files to copy", from);
    return ok;
}

/* --- FLUX.1's configs, as in its repository --------------------------------- */

static const char pipeline_json[] =
    "{\n  \"_class_name\": \"FluxPipeline\",\n  \"_diffusers_version\": \"0.30.0.dev0\",\n"
    "  \"scheduler\": [\n    \"diffusers\",\n    \"FlowMatchEulerDiscreteScheduler\"\n  ],\n"
    "  \"text_encoder\": [\n    \"transformers\",\n    \"CLIPTextModel\"\n  ],\n"
    "  \"text_encoder_2\": [\n    \"transformers\",\n    \"T5EncoderModel\"\n  ],\n"
    "  \"tokenizer\": [\n    \"transformers\",\n    \"CLIPTokenizer\"\n  ],\n"
    "  \"tokenizer_2\": [\n    \"transformers\",\n    \"T5TokenizerFast\"\n  ],\n"
    "  \"transformer\": [\n    \"diffusers\",\n    \"FluxTransformer2DModel\"\n  ],\n"
    "  \"vae\": [\n    \"diffusers\",\n    \"AutoencoderKL\"\n  ]\n}\n";

static const char scheduler_json[] =
    "{\n  \"_class_name\": \"FlowMatchEulerDiscreteScheduler\",\n"
    "  \"_diffusers_version\": \"0.30.0.dev0\",\n  \"base_image_seq_len\": 256,\n"
    "  \"base_shift\": 0.5,\n  \"max_image_seq_len\": 4096,\n  \"max_shift\": 1.15,\n"
    "  \"num_train_timesteps\": 1000,\n  \"shift\": %s,\n  \"use_dynamic_shifting\": %s\n}\n";

static const char clip_json[] =
    "{\n  \"architectures\": [\n    \"CLIPTextModel\"\n  ],\n  \"attention_dropout\": 0.0,\n"
    "  \"bos_token_id\": 0,\n  \"dropout\": 0.0,\n  \"eos_token_id\": 2,\n"
    "  \"hidden_act\": \"quick_gelu\",\n  \"hidden_size\": %d,\n  \"initializer_factor\": 1.0,\n"
    "  \"initializer_range\": 0.02,\n  \"intermediate_size\": %d,\n  \"layer_norm_eps\": 1e-05,\n"
    "  \"max_position_embeddings\": %d,\n  \"model_type\": \"clip_text_model\",\n"
    "  \"num_attention_heads\": %d,\n  \"num_hidden_layers\": %d,\n  \"pad_token_id\": 1,\n"
    "  \"projection_dim\": 768,\n  \"torch_dtype\": \"%s\",\n"
    "  \"transformers_version\": \"4.43.3\",\n  \"vocab_size\": %d\n}\n";

static const char t5_json[] =
    "{\n  \"architectures\": [\n    \"T5EncoderModel\"\n  ],\n  \"classifier_dropout\": 0.0,\n"
    "  \"d_ff\": %d,\n  \"d_kv\": %d,\n  \"d_model\": %d,\n  \"decoder_start_token_id\": 0,\n"
    "  \"dense_act_fn\": \"gelu_new\",\n  \"dropout_rate\": 0.1,\n  \"eos_token_id\": 1,\n"
    "  \"feed_forward_proj\": \"gated-gelu\",\n  \"initializer_factor\": 1.0,\n"
    "  \"is_encoder_decoder\": true,\n  \"is_gated_act\": true,\n  \"layer_norm_epsilon\": 1e-06,\n"
    "  \"model_type\": \"t5\",\n  \"num_decoder_layers\": %d,\n  \"num_heads\": %d,\n"
    "  \"num_layers\": %d,\n  \"output_past\": true,\n  \"pad_token_id\": 0,\n"
    "  \"relative_attention_max_distance\": 128,\n  \"relative_attention_num_buckets\": %d,\n"
    "  \"tie_word_embeddings\": false,\n  \"torch_dtype\": \"%s\",\n"
    "  \"transformers_version\": \"4.43.3\",\n  \"use_cache\": true,\n  \"vocab_size\": %d\n}\n";

static const char flux_json[] =
    "{\n  \"_class_name\": \"FluxTransformer2DModel\",\n"
    "  \"_diffusers_version\": \"0.30.0.dev0\",\n  \"attention_head_dim\": %d,\n"
    "  \"guidance_embeds\": %s,\n  \"in_channels\": %d,\n  \"joint_attention_dim\": %d,\n"
    "  \"num_attention_heads\": %d,\n  \"num_layers\": %d,\n  \"num_single_layers\": %d,\n"
    "  \"patch_size\": 1,\n  \"pooled_projection_dim\": %d\n}\n";

static const char vae_json[] =
    "{\n  \"_class_name\": \"AutoencoderKL\",\n  \"_diffusers_version\": \"0.30.0.dev0\",\n"
    "  \"act_fn\": \"silu\",\n  \"block_out_channels\": [\n    %d,\n    %d,\n    %d,\n    %d\n  ],\n"
    "  \"down_block_types\": [\n    \"DownEncoderBlock2D\",\n    \"DownEncoderBlock2D\",\n"
    "    \"DownEncoderBlock2D\",\n    \"DownEncoderBlock2D\"\n  ],\n  \"force_upcast\": true,\n"
    "  \"in_channels\": 3,\n  \"latent_channels\": %d,\n  \"latents_mean\": null,\n"
    "  \"latents_std\": null,\n  \"layers_per_block\": %d,\n  \"mid_block_add_attention\": true,\n"
    "  \"norm_num_groups\": 32,\n  \"out_channels\": 3,\n  \"sample_size\": 1024,\n"
    "  \"scaling_factor\": 0.3611,\n  \"shift_factor\": 0.1159,\n  \"up_block_types\": [\n"
    "    \"UpDecoderBlock2D\",\n    \"UpDecoderBlock2D\",\n    \"UpDecoderBlock2D\",\n"
    "    \"UpDecoderBlock2D\"\n  ],\n  \"use_post_quant_conv\": false,\n"
    "  \"use_quant_conv\": false\n}\n";

static bool configs_set(struct run *r, struct err *e)
{
    const struct synth_options *o = r->o;
    bool dev = !strcmp(o->arch, "flux-dev");
    if (!dev && strcmp(o->arch, "flux-schnell"))
        return err_set(e, ERR_INPUT, "architecture \"%.60s\": expected flux-dev or flux-schnell",
                       o->arch);
    if (o->dtype != DT_F32 && o->dtype != DT_BF16 && o->dtype != DT_F16)
        return err_set(e, ERR_INPUT, "dtype %s: expected F32, BF16 or F16", dtype_name(o->dtype));
    const struct { const char *what; int have, lowest, full; } depths[] = {
        { "double blocks", o->doubles, 0, 19 },
        { "single blocks", o->singles, 0, 38 },
        { "T5 layers", o->t5_layers, 1, 24 },
        { "CLIP layers", o->clip_layers, 1, 12 },
    };
    int depth[4];
    for (int i = 0; i < 4; i++) {
        if (depths[i].have != -1 && (depths[i].have < depths[i].lowest || depths[i].have > 1024))
            return err_set(e, ERR_INPUT, "%d %s: expected %d to 1024", depths[i].have,
                           depths[i].what, depths[i].lowest);
        depth[i] = depths[i].have == -1 ? depths[i].full : depths[i].have;
    }
    r->m.flux = (struct flux_config){ .in_channels = 64, .out_channels = 64, .heads = 24,
                                      .head_dim = 128, .hidden = 3072, .doubles = depth[0],
                                      .singles = depth[1], .context = 4096, .pooled = 768,
                                      .guidance = dev };
    r->m.t5 = (struct t5_config){ .vocab = 32128, .width = 4096, .heads = 64, .head_dim = 64,
                                  .layers = depth[2], .ff = 10240, .buckets = 32 };
    r->m.clip = (struct clip_config){ .vocab = 49408, .tokens = 77, .width = 768, .heads = 12,
                                      .layers = depth[3], .mlp = 3072 };
    r->m.vae = (struct vae_config){ .latent_channels = 16, .levels = 4,
                                    .channels = { 128, 256, 512, 512 }, .layers_per_block = 2,
                                    .mid_attention = true };
    return true;
}

static bool all_write(struct run *r, const char *tokenizers_from, struct err *e)
{
    const char *type = r->o->dtype == DT_F32    ? "float32"
                       : r->o->dtype == DT_BF16 ? "bfloat16"
                                                : "float16";
    const struct flux_config *f = &r->m.flux;
    const struct t5_config *t = &r->m.t5;
    const struct clip_config *c = &r->m.clip;
    const struct vae_config *v = &r->m.vae;
    char text[2048], folder[FILE_PATH_MAX];
    static const char unet[] = "diffusion_pytorch_model";

    if (!run_text(r, r->dir, "model_index.json", pipeline_json, e))
        return false;
    snprintf(text, sizeof text, scheduler_json, f->guidance ? "3.0" : "1.0",
             f->guidance ? "true" : "false");
    if (!run_folder(r, "scheduler", folder, e) ||
        !run_text(r, folder, "scheduler_config.json", text, e) ||
        !tokenizer_copy(r, MODEL_TOK_CLIP, tokenizers_from, c->tokens, e) ||
        !tokenizer_copy(r, MODEL_TOK_T5, tokenizers_from, 512, e))
        return false;
    snprintf(text, sizeof text, clip_json, c->width, c->mlp, c->tokens, c->heads, c->layers, type,
             c->vocab);
    if (!part_write(r, MODEL_CLIP, "model", UINT64_MAX, text, e))
        return false;
    snprintf(text, sizeof text, vae_json, v->channels[0], v->channels[1], v->channels[2],
             v->channels[3], v->latent_channels, v->layers_per_block);
    if (!part_write(r, MODEL_VAE, unet, UINT64_MAX, text, e))
        return false;
    snprintf(text, sizeof text, t5_json, t->ff, t->head_dim, t->width, t->layers, t->heads,
             t->layers, t->buckets, type, t->vocab);
    if (!part_write(r, MODEL_T5, "model", 5000000000, text, e))
        return false;
    snprintf(text, sizeof text, flux_json, f->head_dim, f->guidance ? "true" : "false",
             f->in_channels, f->context, f->heads, f->doubles, f->singles, f->pooled);
    return part_write(r, MODEL_FLUX, unet, 10000000000, text, e);
}

static bool folder_empty(const char *dir, struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, errno, "%s: cannot open", dir);
    bool empty = true;
    for (const struct dirent *f; empty && (f = readdir(d));)
        empty = !strcmp(f->d_name, ".") || !strcmp(f->d_name, "..");
    closedir(d);
    return empty || err_set(e, ERR_INPUT, "%s: expected a new or empty folder, found files in it; "
                            "choose another name", dir);
}

bool synth_write(const char *dir, const struct synth_options *o, const char *tokenizers_from,
                 bool (*progress)(void *user, double fraction), void *user, struct err *e)
{
    struct run r = { .o = o, .dir = dir, .progress = progress, .user = user };
    if (!configs_set(&r, e))
        return false;
    static const enum model_part weighty[] = { MODEL_CLIP, MODEL_T5, MODEL_FLUX, MODEL_VAE };
    for (int i = 0; i < 4; i++) {
        struct list l;
        if (!list_part(&r, weighty[i], &l, e))
            return false;
        r.total += l.bytes;
        list_free(&l);
    }
    bool ok = true;
    if (mkdir(dir, 0777) == 0)
        ok = run_made(&r, dir, e);
    else if (errno == EEXIST)
        ok = folder_empty(dir, e);
    else
        ok = err_errno(e, errno, "%s: cannot make this folder", dir);
    /* 64 MB: headers, tokenizers and what the file system adds */
    ok = ok && file_space(dir, (o->headers_only ? 0 : r.total) + 64000000, e) &&
         all_write(&r, tokenizers_from, e);
    while (r.made_count--) {
        if (!ok)
            (void)!remove(r.made[r.made_count]);
        free(r.made[r.made_count]);
    }
    free(r.made);
    return ok;
}

/* --- a checkpoint from a header --------------------------------------------- */

static bool header_entry(struct list *l, const char *path, const char *name, const json_t *v,
                         struct err *e)
{
    const char *type = json_string_value(json_object_get(v, "dtype"));
    const json_t *shape = json_object_get(v, "shape");
    enum dtype t = type ? dtype_from_name(type) : DT_NONE;
    size_t ndim = json_array_size(shape);
    int64_t lengths[TENSOR_MAX_DIMS], count = 1, most = (int64_t)1 << 32;
    bool fits = (t == DT_F32 || t == DT_BF16 || t == DT_F16) && ndim >= 1 && ndim <= TENSOR_MAX_DIMS;
    for (size_t i = 0; fits && i < ndim; i++) {
        lengths[i] = json_integer_value(json_array_get(shape, i));
        fits = lengths[i] >= 1 && lengths[i] <= most / count;
        count *= fits ? lengths[i] : 1;
    }
    if (!fits)
        return err_set(e, ERR_INPUT, "%s: tensor %.120s: expected dtype F32, BF16 or F16 and a shape of 1 "
                       "to 4 lengths and at most 2^32 elements", path, name);
    l->dtype = t;
    return list_add(l, name, (int)ndim, lengths) || err_set(e, ERR_MEMORY, "%s: no memory", path);
}

bool synth_from_header(const char *header_path, const char *out_path, uint64_t seed, struct err *e)
{
    json_t *root = config_read(header_path, HEADER_MAX, 0, e);
    if (!root)
        return false;
    struct list l = { 0 };
    struct safetensors_writer *w = NULL;
    bool ok = true;
    const char *name;
    json_t *v;
    json_object_foreach(root, name, v) {
        ok = ok && (!strcmp(name, "__metadata__") || header_entry(&l, header_path, name, v, e));
    }
    char folder[FILE_PATH_MAX];
    file_folder(out_path, folder);
    ok = ok && file_space(folder, l.bytes, e) && safetensors_create(&w, out_path, l.entries, l.count, e);
    for (size_t i = 0; ok && i < l.count; i++)
        ok = tensor_write(w, l.entries[i].name, l.entries[i].tensor, seed, e);
    if (ok)
        ok = safetensors_commit(w, e);
    else
        safetensors_abandon(w);
    list_free(&l);
    json_decref(root);
    return ok;
}
