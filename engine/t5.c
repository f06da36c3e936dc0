/* t5.c - see t5.h. */
#include "engine/t5.h"

#include "engine/layer.h"

#include <math.h>
#include <stdlib.h>

struct t5_block {
    struct norm norm1, norm2;
    struct linear q, k, v, o, wi_0, wi_1, wo;
};

struct t5 {
    const struct t5_config *config;
    struct weights *weights;
    struct tensor tokens;  /* [vocab, width] */
    struct tensor bias;    /* [buckets, heads] */
    struct norm final;
    struct t5_block block[];
};

bool t5_open(struct t5 **out, const struct model *m, struct err *e)
{
    const struct t5_config *f = &m->t5;
    int64_t inner = (int64_t)f->heads * f->head_dim;
    char dir[MODEL_PATH_MAX];
    *out = NULL;
    struct t5 *t = calloc(1, sizeof *t + (size_t)f->layers * sizeof t->block[0]);
    if (!t)
        return err_set(e, ERR_MEMORY, "T5: out of memory");
    t->config = f;
    if (!weights_open_dir(&t->weights, model_part_dir(m, MODEL_T5, dir), model_part_name(MODEL_T5), e)) {
        t5_close(t);
        return false;
    }
    struct layer_loader l = { t->weights, e, false };
    const char *table = weights_has(t->weights, "shared.weight") ? "shared" : "encoder.embed_tokens";
    t->tokens = layer_table(&l, f->vocab, f->width, "%s", table);
    t->bias = layer_table(&l, f->buckets, f->heads, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias");
    for (int i = 0; i < f->layers; i++) {
        struct t5_block *b = &t->block[i];
        b->norm1 = layer_norm(&l, f->width, false, "encoder.block.%d.layer.0.layer_norm", i);
        b->q = layer_linear(&l, inner, f->width, false, "encoder.block.%d.layer.0.SelfAttention.q", i);
        b->k = layer_linear(&l, inner, f->width, false, "encoder.block.%d.layer.0.SelfAttention.k", i);
        b->v = layer_linear(&l, inner, f->width, false, "encoder.block.%d.layer.0.SelfAttention.v", i);
        b->o = layer_linear(&l, f->width, inner, false, "encoder.block.%d.layer.0.SelfAttention.o", i);
        b->norm2 = layer_norm(&l, f->width, false, "encoder.block.%d.layer.1.layer_norm", i);
        b->wi_0 = layer_linear(&l, f->ff, f->width, false, "encoder.block.%d.layer.1.DenseReluDense.wi_0", i);
        b->wi_1 = layer_linear(&l, f->ff, f->width, false, "encoder.block.%d.layer.1.DenseReluDense.wi_1", i);
        b->wo = layer_linear(&l, f->width, f->ff, false, "encoder.block.%d.layer.1.DenseReluDense.wo", i);
    }
    t->final = layer_norm(&l, f->width, false, "encoder.final_layer_norm");
    if (l.failed) {
        t5_close(t);
        return false;
    }
    *out = t;
    return true;
}

void t5_close(struct t5 *t)
{
    if (!t)
        return;
    weights_close(t->weights);
    free(t);
}

const struct weights *t5_weights(const struct t5 *t)
{
    return t->weights;
}

int t5_bucket(int distance, int buckets, int max_distance)
{
    int half = buckets / 2, exact = half / 2;
    int bucket = distance > 0 ? half : 0;
    int away = abs(distance);
    if (away < exact)
        return bucket + away;
    /* In float, as torch computes it: the boundaries fall where its rounding puts them. */
    float large = logf((float)away / (float)exact) / (float)log((double)max_distance / exact) * (float)(half - exact);
    int at = exact + (int)large;
    return bucket + (at < half ? at : half - 1);
}

/* bias[h, j - i + n - 1], the form attention takes. */
static struct tensor relative_bias(const struct t5 *t, struct device *d, int n, bool compute)
{
    const struct t5_config *f = t->config;
    int64_t width = 2 * (int64_t)n - 1;
    struct tensor bias = device_matrix(d, DT_F32, f->heads, width);
    float *host = compute && device_ok(d) ? malloc(tensor_bytes(bias)) : NULL;
    if (compute && device_ok(d) && !host) {
        err_set(&d->err, ERR_MEMORY, "T5: out of memory");
        return bias;
    }
    for (int64_t i = 0; host && i < width; i++) {
        int bucket = t5_bucket((int)(i - (n - 1)), f->buckets, f->max_distance);
        for (int64_t h = 0; h < f->heads; h++)
            host[h * width + i] = (float)dtype_load(t->bias.data, t->bias.dtype, bucket * f->heads + h);
    }
    device_upload(d, bias, host);
    free(host);
    return bias;
}

/* One block at work on x[n, width]: the sum over all blocks, which is F32 in every
 * precision, since T5's grows large and rounding it to BF16 after each block is
 * most of the error of an encoder that does. */
struct block_run {
    const struct t5 *t;
    struct device *d;
    const struct t5_block *block;
    struct tensor x, q, k, v, bias;
    const struct t5_pieces *pieces;
};

static void project(const struct block_run *r, int64_t from, int64_t n)
{
    struct device *d = r->d;
    size_t mark = device_mark(d);
    struct tensor y = device_matrix(d, d->compute, n, r->t->config->width);
    device_rms_norm(d, y, tensor_rows(r->x, from, n), r->block->norm1.w, r->t->config->eps);
    apply_linear(d, tensor_rows(r->q, from, n), y, &r->block->q, ACT_NONE);
    apply_linear(d, tensor_rows(r->k, from, n), y, &r->block->k, ACT_NONE);
    apply_linear(d, tensor_rows(r->v, from, n), y, &r->block->v, ACT_NONE);
    device_release(d, mark);
}

static void attend(const struct block_run *r, int64_t from, int64_t n)
{
    const struct t5_config *f = r->t->config;
    struct device *d = r->d;
    int64_t all = r->x.shape[0], first = r->pieces->independent ? from : 0, keys = r->pieces->independent ? n : all;
    size_t mark = device_mark(d);
    struct tensor o = device_matrix(d, d->compute, n, r->q.shape[1]), y = device_matrix(d, d->compute, n, f->width);
    /* Column c of what attention wants is key - query + n - 1 from the piece's first query; of the
     * table it is key - query + all - 1, counted from the text's first. */
    struct tensor bias = tensor_cols(r->bias, all - n - (from - first), n + keys - 1);
    device_attention(d, tensor_split(o, f->heads, f->head_dim),
                     tensor_split(tensor_rows(r->q, from, n), f->heads, f->head_dim),
                     tensor_split(tensor_rows(r->k, first, keys), f->heads, f->head_dim),
                     tensor_split(tensor_rows(r->v, first, keys), f->heads, f->head_dim),
                     &(struct attention){ .scale = 1.0f, .bias = bias });
    apply_linear(d, y, o, &r->block->o, ACT_NONE);
    device_add(d, tensor_rows(r->x, from, n), y);
    device_release(d, mark);
}

static void feed_forward(const struct block_run *r, int64_t from, int64_t n)
{
    const struct t5_config *f = r->t->config;
    struct device *d = r->d;
    size_t mark = device_mark(d);
    struct tensor y = device_matrix(d, d->compute, n, f->width);
    struct tensor gate = device_matrix(d, d->compute, n, f->ff), up = device_matrix(d, d->compute, n, f->ff);
    device_rms_norm(d, y, tensor_rows(r->x, from, n), r->block->norm2.w, f->eps);
    apply_linear(d, gate, y, &r->block->wi_0, ACT_GELU_TANH);
    apply_linear(d, up, y, &r->block->wi_1, ACT_NONE);
    device_multiply(d, gate, up);
    apply_linear(d, y, gate, &r->block->wo, ACT_NONE);
    device_add(d, tensor_rows(r->x, from, n), y);
    device_release(d, mark);
}

/* A part of the block, piece by piece; its weights are held only for a second piece. */
static void each_piece(const struct block_run *r, void (*part)(const struct block_run *r, int64_t from, int64_t n))
{
    int64_t all = r->x.shape[0], piece = r->pieces->chunk > 0 && r->pieces->chunk < all ? r->pieces->chunk : all;
    if (piece < all)
        device_hold(r->d);
    for (int64_t from = 0; from < all; from += piece)
        part(r, from, all - from < piece ? all - from : piece);
    if (piece < all)
        device_unhold(r->d);
}

static void block(struct block_run *r)
{
    struct device *d = r->d;
    int64_t n = r->x.shape[0], inner = (int64_t)r->t->config->heads * r->t->config->head_dim;
    size_t mark = device_mark(d);
    r->q = device_matrix(d, d->compute, n, inner);
    r->k = device_matrix(d, d->compute, n, inner);
    r->v = device_matrix(d, d->compute, n, inner);
    each_piece(r, project);
    each_piece(r, attend);
    device_release(d, mark);
    each_piece(r, feed_forward);
}

void t5_encode(const struct t5 *t, struct device *d, const int32_t *ids, int n, const struct t5_pieces *pieces,
               float *hidden)
{
    const struct t5_config *f = t->config;
    size_t mark = device_mark(d);
    struct tensor x = device_matrix(d, DT_F32, n, f->width);
    struct block_run r = { .t = t, .d = d, .x = x, .bias = relative_bias(t, d, n, ids != NULL), .pieces = pieces };
    device_embed(d, x, t->tokens, ids);
    for (int i = 0; i < f->layers; i++) {
        r.block = &t->block[i];
        block(&r);
        device_tick(d, i + 1, f->layers);
    }
    device_rms_norm(d, x, x, t->final.w, f->eps);
    device_download(d, hidden, x);
    device_release(d, mark);
}
