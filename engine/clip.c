/* clip.c - see clip.h. */
#include "engine/clip.h"

#include "engine/layer.h"

#include <math.h>
#include <stdlib.h>

struct clip_block {
    struct norm norm1, norm2;
    struct linear q, k, v, out, fc1, fc2;
};

struct clip {
    const struct clip_config *config;
    struct weights *weights;
    struct tensor tokens, positions;
    struct norm final;
    struct clip_block block[];
};

bool clip_open(struct clip **out, const struct model *m, struct err *e)
{
    const struct clip_config *f = &m->clip;
    char dir[MODEL_PATH_MAX];
    *out = NULL;
    struct clip *c = calloc(1, sizeof *c + (size_t)f->layers * sizeof c->block[0]);
    if (!c)
        return err_set(e, ERR_MEMORY, "CLIP: out of memory");
    c->config = f;
    if (!weights_open_dir(&c->weights, model_part_dir(m, MODEL_CLIP, dir), model_part_name(MODEL_CLIP), e)) {
        clip_close(c);
        return false;
    }
    struct layer_loader l = { c->weights, e, false };
    c->tokens = layer_table(&l, f->vocab, f->width, "text_model.embeddings.token_embedding");
    c->positions = layer_table(&l, f->tokens, f->width, "text_model.embeddings.position_embedding");
    for (int i = 0; i < f->layers; i++) {
        struct clip_block *b = &c->block[i];
        const char *at = "text_model.encoder.layers";
        b->norm1 = layer_norm(&l, f->width, true, "%s.%d.layer_norm1", at, i);
        b->q = layer_linear(&l, f->width, f->width, true, "%s.%d.self_attn.q_proj", at, i);
        b->k = layer_linear(&l, f->width, f->width, true, "%s.%d.self_attn.k_proj", at, i);
        b->v = layer_linear(&l, f->width, f->width, true, "%s.%d.self_attn.v_proj", at, i);
        b->out = layer_linear(&l, f->width, f->width, true, "%s.%d.self_attn.out_proj", at, i);
        b->norm2 = layer_norm(&l, f->width, true, "%s.%d.layer_norm2", at, i);
        b->fc1 = layer_linear(&l, f->mlp, f->width, true, "%s.%d.mlp.fc1", at, i);
        b->fc2 = layer_linear(&l, f->width, f->mlp, true, "%s.%d.mlp.fc2", at, i);
    }
    c->final = layer_norm(&l, f->width, true, "text_model.final_layer_norm");
    if (l.failed) {
        clip_close(c);
        return false;
    }
    *out = c;
    return true;
}

void clip_close(struct clip *c)
{
    if (!c)
        return;
    weights_close(c->weights);
    free(c);
}

const struct weights *clip_weights(const struct clip *c)
{
    return c->weights;
}

static void block(const struct clip *c, struct device *d, const struct clip_block *b, struct tensor x)
{
    const struct clip_config *f = c->config;
    size_t mark = device_mark(d);
    struct tensor y = device_matrix(d, d->compute, f->tokens, f->width);
    struct tensor q = device_matrix(d, d->compute, f->tokens, f->width);
    struct tensor k = device_matrix(d, d->compute, f->tokens, f->width);
    struct tensor v = device_matrix(d, d->compute, f->tokens, f->width);
    struct tensor h = device_matrix(d, d->compute, f->tokens, f->mlp);
    int head = f->width / f->heads;
    enum act act = f->act == CLIP_QUICK_GELU ? ACT_QUICK_GELU : ACT_GELU_ERF;

    device_layer_norm(d, y, x, b->norm1.w, b->norm1.b, f->eps);
    apply_linear(d, q, y, &b->q, ACT_NONE);
    apply_linear(d, k, y, &b->k, ACT_NONE);
    apply_linear(d, v, y, &b->v, ACT_NONE);
    device_attention(d, tensor_split(y, f->heads, head), tensor_split(q, f->heads, head),
                     tensor_split(k, f->heads, head), tensor_split(v, f->heads, head),
                     &(struct attention){ .scale = 1.0f / sqrtf((float)head), .causal = true });
    apply_linear(d, q, y, &b->out, ACT_NONE);
    device_add(d, x, q);
    device_layer_norm(d, y, x, b->norm2.w, b->norm2.b, f->eps);
    apply_linear(d, h, y, &b->fc1, act);
    apply_linear(d, y, h, &b->fc2, ACT_NONE);
    device_add(d, x, y);
    device_release(d, mark);
}

static void add_positions(const struct clip *c, struct device *d, struct tensor x)
{
    size_t mark = device_mark(d);
    struct tensor positions = device_matrix(d, d->compute, x.shape[0], x.shape[1]);
    int32_t at[x.shape[0]];
    for (int i = 0; i < x.shape[0]; i++)
        at[i] = i;
    device_embed(d, positions, c->positions, at);
    device_add(d, x, positions);
    device_release(d, mark);
}

void clip_encode(const struct clip *c, struct device *d, const int32_t *ids, float *pooled)
{
    const struct clip_config *f = c->config;
    size_t mark = device_mark(d);
    struct tensor x = device_matrix(d, d->compute, f->tokens, f->width);
    struct tensor result = device_matrix(d, DT_F32, 1, f->width);
    device_embed(d, x, c->tokens, ids);
    add_positions(c, d, x);
    for (int i = 0; i < f->layers; i++) {
        block(c, d, &c->block[i], x);
        device_tick(d, i + 1, f->layers);
    }
    device_layer_norm(d, x, x, c->final.w, c->final.b, f->eps);
    int64_t eos = f->tokens - 1;
    for (int64_t i = f->tokens - 1; ids && i >= 0; i--)
        if (ids[i] == f->eos_id)
            eos = i;
    device_copy(d, result, tensor_rows(x, eos, 1));
    device_download(d, pooled, result);
    device_release(d, mark);
}
