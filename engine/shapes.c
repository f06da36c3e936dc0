/* shapes.c - see shapes.h. */
#include "engine/shapes.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

struct visit {
    shapes_fn *fn;
    void *user;
    bool going;
};

/* name is base + suffix */
static void tensor(struct visit *v, const char *base, const char *suffix, int ndim,
                   const int64_t *shape)
{
    char name[256];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    v->going = v->going && v->fn(v->user, name, ndim, shape);
}

static void vector(struct visit *v, const char *base, const char *suffix, int64_t n)
{
    tensor(v, base, suffix, 1, (int64_t[]){ n });
}

static void matrix(struct visit *v, const char *base, const char *suffix, int64_t out, int64_t in)
{
    tensor(v, base, suffix, 2, (int64_t[]){ out, in });
}

static void linear(struct visit *v, const char *base, const char *suffix, int64_t out, int64_t in)
{
    char name[240];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    matrix(v, name, ".weight", out, in);
    vector(v, name, ".bias", out);
}

static void norm(struct visit *v, const char *base, const char *suffix, int64_t n)
{
    char name[240];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    vector(v, name, ".weight", n);
    vector(v, name, ".bias", n);
}

static void conv(struct visit *v, const char *base, const char *suffix, int64_t out, int64_t in,
                 int64_t k)
{
    char name[240];
    snprintf(name, sizeof name, "%s%s", base, suffix);
    tensor(v, name, ".weight", 4, (int64_t[]){ out, in, k, k });
    vector(v, name, ".bias", out);
}

static void clip(struct visit *v, const struct clip_config *c)
{
    static const char embeddings[] = "text_model.embeddings.";
    matrix(v, embeddings, "token_embedding.weight", c->vocab, c->width);
    matrix(v, embeddings, "position_embedding.weight", c->tokens, c->width);
    for (int i = 0; i < c->layers; i++) {
        char b[64];
        snprintf(b, sizeof b, "text_model.encoder.layers.%d.", i);
        linear(v, b, "self_attn.q_proj", c->width, c->width);
        linear(v, b, "self_attn.k_proj", c->width, c->width);
        linear(v, b, "self_attn.v_proj", c->width, c->width);
        linear(v, b, "self_attn.out_proj", c->width, c->width);
        norm(v, b, "layer_norm1", c->width);
        linear(v, b, "mlp.fc1", c->mlp, c->width);
        linear(v, b, "mlp.fc2", c->width, c->mlp);
        norm(v, b, "layer_norm2", c->width);
    }
    norm(v, "text_model.final_layer_norm", "", c->width);
}

static void t5(struct visit *v, const struct t5_config *c)
{
    int64_t inner = (int64_t)c->heads * c->head_dim;
    matrix(v, "shared.weight", "", c->vocab, c->width);
    for (int i = 0; i < c->layers; i++) {
        char b[64];
        snprintf(b, sizeof b, "encoder.block.%d.layer.0.SelfAttention.", i);
        matrix(v, b, "q.weight", inner, c->width);
        matrix(v, b, "k.weight", inner, c->width);
        matrix(v, b, "v.weight", inner, c->width);
        matrix(v, b, "o.weight", c->width, inner);
        if (i == 0)
            matrix(v, b, "relative_attention_bias.weight", c->buckets, c->heads);
        snprintf(b, sizeof b, "encoder.block.%d.layer.", i);
        vector(v, b, "0.layer_norm.weight", c->width);
        matrix(v, b, "1.DenseReluDense.wi_0.weight", c->ff, c->width);
        matrix(v, b, "1.DenseReluDense.wi_1.weight", c->ff, c->width);
        matrix(v, b, "1.DenseReluDense.wo.weight", c->width, c->ff);
        vector(v, b, "1.layer_norm.weight", c->width);
    }
    vector(v, "encoder.final_layer_norm.weight", "", c->width);
}

static void flux(struct visit *v, const struct flux_config *c)
{
    int64_t d = c->hidden, mlp = 4 * d;
    static const char *const embedders[] = { "timestep", "guidance", "text" };
    for (int i = 0; i < 3; i++) {
        char b[64];
        if (i == 1 && !c->guidance)
            continue;
        snprintf(b, sizeof b, "time_text_embed.%s_embedder.", embedders[i]);
        linear(v, b, "linear_1", d, i == 2 ? c->pooled : 256);
        linear(v, b, "linear_2", d, d);
    }
    linear(v, "context_embedder", "", d, c->context);
    linear(v, "x_embedder", "", d, c->in_channels);
    for (int i = 0; i < c->doubles; i++) {
        char b[64];
        snprintf(b, sizeof b, "transformer_blocks.%d.", i);
        linear(v, b, "norm1.linear", 6 * d, d);
        linear(v, b, "norm1_context.linear", 6 * d, d);
        vector(v, b, "attn.norm_q.weight", c->head_dim);
        vector(v, b, "attn.norm_k.weight", c->head_dim);
        linear(v, b, "attn.to_q", d, d);
        linear(v, b, "attn.to_k", d, d);
        linear(v, b, "attn.to_v", d, d);
        linear(v, b, "attn.to_out.0", d, d);
        vector(v, b, "attn.norm_added_q.weight", c->head_dim);
        vector(v, b, "attn.norm_added_k.weight", c->head_dim);
        linear(v, b, "attn.add_q_proj", d, d);
        linear(v, b, "attn.add_k_proj", d, d);
        linear(v, b, "attn.add_v_proj", d, d);
        linear(v, b, "attn.to_add_out", d, d);
        linear(v, b, "ff.net.0.proj", mlp, d);
        linear(v, b, "ff.net.2", d, mlp);
        linear(v, b, "ff_context.net.0.proj", mlp, d);
        linear(v, b, "ff_context.net.2", d, mlp);
    }
    for (int i = 0; i < c->singles; i++) {
        char b[64];
        snprintf(b, sizeof b, "single_transformer_blocks.%d.", i);
        linear(v, b, "norm.linear", 3 * d, d);
        linear(v, b, "proj_mlp", mlp, d);
        linear(v, b, "proj_out", d, d + mlp);
        vector(v, b, "attn.norm_q.weight", c->head_dim);
        vector(v, b, "attn.norm_k.weight", c->head_dim);
        linear(v, b, "attn.to_q", d, d);
        linear(v, b, "attn.to_k", d, d);
        linear(v, b, "attn.to_v", d, d);
    }
    linear(v, "norm_out.linear", "", 2 * d, d);
    linear(v, "proj_out", "", c->out_channels, d);
}

static void resnet(struct visit *v, const char *base, const char *block, int number, int64_t in,
                   int64_t out)
{
    char b[192];
    snprintf(b, sizeof b, "%s%s.resnets.%d.", base, block, number);
    norm(v, b, "norm1", in);
    conv(v, b, "conv1", out, in, 3);
    norm(v, b, "norm2", out);
    conv(v, b, "conv2", out, out, 3);
    if (in != out)
        conv(v, b, "conv_shortcut", out, in, 1);
}

static void vae_middle(struct visit *v, const char *base, int64_t n, bool attention)
{
    if (attention) {
        char b[64];
        snprintf(b, sizeof b, "%smid_block.attentions.0.", base);
        norm(v, b, "group_norm", n);
        linear(v, b, "to_q", n, n);
        linear(v, b, "to_k", n, n);
        linear(v, b, "to_v", n, n);
        linear(v, b, "to_out.0", n, n);
    }
    resnet(v, base, "mid_block", 0, n, n);
    resnet(v, base, "mid_block", 1, n, n);
}

static void vae(struct visit *v, const struct vae_config *c)
{
    static const char e[] = "encoder.", d[] = "decoder.";
    int last = c->levels - 1;
    int64_t deepest = c->channels[last], latent = c->latent_channels;
    char block[64];

    conv(v, e, "conv_in", c->channels[0], 3, 3);
    for (int i = 0; i <= last; i++) {
        snprintf(block, sizeof block, "down_blocks.%d", i);
        for (int r = 0; r < c->layers_per_block; r++)
            resnet(v, e, block, r, c->channels[r || !i ? i : i - 1], c->channels[i]);
        snprintf(block, sizeof block, "down_blocks.%d.downsamplers.0.conv", i);
        if (i < last)
            conv(v, e, block, c->channels[i], c->channels[i], 3);
    }
    vae_middle(v, e, deepest, c->mid_attention);
    norm(v, e, "conv_norm_out", deepest);
    conv(v, e, "conv_out", 2 * latent, deepest, 3);

    conv(v, d, "conv_in", deepest, latent, 3);
    vae_middle(v, d, deepest, c->mid_attention);
    for (int i = 0; i <= last; i++) {
        int level = last - i;
        snprintf(block, sizeof block, "up_blocks.%d", i);
        for (int r = 0; r < c->layers_per_block + 1; r++)
            resnet(v, d, block, r, c->channels[r || !i ? level : level + 1], c->channels[level]);
        snprintf(block, sizeof block, "up_blocks.%d.upsamplers.0.conv", i);
        if (i < last)
            conv(v, d, block, c->channels[level], c->channels[level], 3);
    }
    norm(v, d, "conv_norm_out", c->channels[0]);
    conv(v, d, "conv_out", 3, c->channels[0], 3);
    if (c->quant_conv)
        conv(v, "quant_conv", "", 2 * latent, 2 * latent, 1);
    if (c->post_quant_conv)
        conv(v, "post_quant_conv", "", latent, latent, 1);
}

bool shapes_visit(const struct model *m, enum model_part part, shapes_fn *fn, void *user)
{
    struct visit v = { fn, user, true };
    switch (part) {
    case MODEL_CLIP: clip(&v, &m->clip); break;
    case MODEL_T5: t5(&v, &m->t5); break;
    case MODEL_FLUX: flux(&v, &m->flux); break;
    case MODEL_VAE: vae(&v, &m->vae); break;
    default: assert(!"shapes_visit: a part without weights");
    }
    return v.going;
}
