/* flux.c - see flux.h. */
#include "engine/flux.h"

#include "engine/layer.h"

#include <math.h>
#include <stdlib.h>

enum { SINUSOID = 256 };      /* width of the time and guidance embedding, BFL layers.py */
static const float NORM_EPS = 1e-6f;

/* One stream (image or text) of a double block. */
struct flux_stream {
    struct linear modulation; /* [6h, h]: shift, scale, gate of attention, then of mlp */
    struct linear q, k, v, out, mlp_in, mlp_out;
    struct norm norm_q, norm_k;
};

struct flux_double {
    struct flux_stream image, text;
};

struct flux_single {
    struct linear modulation; /* [3h, h]: shift, scale, gate */
    struct linear q, k, v, mlp, out;
    struct norm norm_q, norm_k;
};

struct embedder {
    struct linear in, out;
};

struct flux {
    const struct flux_config *config;
    struct weights *weights;
    int64_t mlp;              /* width inside the feed-forward, from the tensors */
    struct linear image_in, text_in;
    struct embedder time, guidance, pooled;
    struct linear final_modulation; /* [2h, h]: scale, shift - diffusers' order */
    struct linear final;
    struct flux_double *doubles;
    struct flux_single *singles;
};

static struct flux_stream load_stream(struct layer_loader *l, const struct flux *f, int i, bool image)
{
    int64_t h = f->config->hidden, head = f->config->head_dim;
    const char *norm = image ? "norm1" : "norm1_context", *ff = image ? "ff" : "ff_context";
    const char *q = image ? "to_q" : "add_q_proj", *k = image ? "to_k" : "add_k_proj";
    const char *v = image ? "to_v" : "add_v_proj", *out = image ? "to_out.0" : "to_add_out";
    const char *nq = image ? "norm_q" : "norm_added_q", *nk = image ? "norm_k" : "norm_added_k";
    const char *at = "transformer_blocks";
    return (struct flux_stream){
        .modulation = layer_linear(l, 6 * h, h, true, "%s.%d.%s.linear", at, i, norm),
        .q = layer_linear(l, h, h, true, "%s.%d.attn.%s", at, i, q),
        .k = layer_linear(l, h, h, true, "%s.%d.attn.%s", at, i, k),
        .v = layer_linear(l, h, h, true, "%s.%d.attn.%s", at, i, v),
        .out = layer_linear(l, h, h, true, "%s.%d.attn.%s", at, i, out),
        .norm_q = layer_norm(l, head, false, "%s.%d.attn.%s", at, i, nq),
        .norm_k = layer_norm(l, head, false, "%s.%d.attn.%s", at, i, nk),
        .mlp_in = layer_linear(l, f->mlp, h, true, "%s.%d.%s.net.0.proj", at, i, ff),
        .mlp_out = layer_linear(l, h, f->mlp, true, "%s.%d.%s.net.2", at, i, ff),
    };
}

static struct flux_single load_single(struct layer_loader *l, const struct flux *f, int i)
{
    int64_t h = f->config->hidden, head = f->config->head_dim;
    const char *at = "single_transformer_blocks";
    return (struct flux_single){
        .modulation = layer_linear(l, 3 * h, h, true, "%s.%d.norm.linear", at, i),
        .q = layer_linear(l, h, h, true, "%s.%d.attn.to_q", at, i),
        .k = layer_linear(l, h, h, true, "%s.%d.attn.to_k", at, i),
        .v = layer_linear(l, h, h, true, "%s.%d.attn.to_v", at, i),
        .norm_q = layer_norm(l, head, false, "%s.%d.attn.norm_q", at, i),
        .norm_k = layer_norm(l, head, false, "%s.%d.attn.norm_k", at, i),
        .mlp = layer_linear(l, f->mlp, h, true, "%s.%d.proj_mlp", at, i),
        .out = layer_linear(l, h, h + f->mlp, true, "%s.%d.proj_out", at, i),
    };
}

static struct embedder load_embedder(struct layer_loader *l, int64_t in, int64_t h, const char *name)
{
    return (struct embedder){
        .in = layer_linear(l, h, in, true, "time_text_embed.%s.linear_1", name),
        .out = layer_linear(l, h, h, true, "time_text_embed.%s.linear_2", name),
    };
}

/* The feed-forward's width is in no config: any block's first projection tells. */
static int64_t mlp_width(const struct flux *f)
{
    struct tensor t;
    const char *name = f->config->doubles ? "transformer_blocks.0.ff.net.0.proj.weight"
                                          : "single_transformer_blocks.0.proj_mlp.weight";
    if (weights_get(f->weights, &t, name, WEIGHTS_SHAPE(-1, f->config->hidden), NULL))
        return t.shape[0];
    return 4 * (int64_t)f->config->hidden; /* then the loader says what is missing */
}

bool flux_open(struct flux **out, const struct model *m, struct err *e)
{
    const struct flux_config *c = &m->flux;
    char dir[MODEL_PATH_MAX];
    *out = NULL;
    struct flux *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(e, ERR_MEMORY, "transformer: out of memory");
    f->config = c;
    f->doubles = calloc((size_t)c->doubles + 1, sizeof f->doubles[0]);
    f->singles = calloc((size_t)c->singles + 1, sizeof f->singles[0]);
    bool ok = f->doubles && f->singles ? true : err_set(e, ERR_MEMORY, "transformer: out of memory");
    ok = ok && weights_open_dir(&f->weights, model_part_dir(m, MODEL_FLUX, dir), model_part_name(MODEL_FLUX), e);
    if (ok) {
        struct layer_loader l = { f->weights, e, false };
        f->mlp = mlp_width(f);
        f->image_in = layer_linear(&l, c->hidden, c->in_channels, true, "x_embedder");
        f->text_in = layer_linear(&l, c->hidden, c->context, true, "context_embedder");
        f->time = load_embedder(&l, SINUSOID, c->hidden, "timestep_embedder");
        if (c->guidance)
            f->guidance = load_embedder(&l, SINUSOID, c->hidden, "guidance_embedder");
        f->pooled = load_embedder(&l, c->pooled, c->hidden, "text_embedder");
        for (int i = 0; i < c->doubles; i++)
            f->doubles[i] = (struct flux_double){ load_stream(&l, f, i, true), load_stream(&l, f, i, false) };
        for (int i = 0; i < c->singles; i++)
            f->singles[i] = load_single(&l, f, i);
        f->final_modulation = layer_linear(&l, 2 * c->hidden, c->hidden, true, "norm_out.linear");
        f->final = layer_linear(&l, c->out_channels, c->hidden, true, "proj_out");
        ok = !l.failed;
    }
    if (!ok) {
        flux_close(f);
        return false;
    }
    *out = f;
    return true;
}

void flux_close(struct flux *f)
{
    if (!f)
        return;
    weights_close(f->weights);
    free(f->doubles);
    free(f->singles);
    free(f);
}

const struct weights *flux_weights(const struct flux *f)
{
    return f->weights;
}

int flux_blocks(const struct flux *f)
{
    return f->config->doubles + f->config->singles;
}

/* --- before sampling ---------------------------------------------------------- */

/* cos, then sin, of t * theta^(-i/128): [SINUSOID] */
static void sinusoid(float *out, float t)
{
    int half = SINUSOID / 2;
    for (int i = 0; i < half; i++) {
        float frequency = expf(-logf(10000.0f) * (float)i / (float)half);
        out[i] = cosf(t * frequency);
        out[half + i] = sinf(t * frequency);
    }
}

/* BFL and diffusers round times to the model's type before and after x1000. */
static float thousandfold(float t, enum dtype compute)
{
    float value = t * 1000.0f;
    if (compute == DT_BF16)
        value = f32_from_bf16(bf16_from_f32(f32_from_bf16(bf16_from_f32(t)) * 1000.0f));
    if (compute == DT_F16)
        value = f32_from_f16(f16_from_f32(fminf(f32_from_f16(f16_from_f32(t)) * 1000.0f, 65504.0f)));
    return value;
}

/* y = out(silu(in(x))) */
static void embed(struct device *d, struct tensor y, struct tensor x, const struct embedder *m)
{
    size_t mark = device_mark(d);
    struct tensor h = device_matrix(d, d->compute, x.shape[0], y.shape[1]);
    apply_linear(d, h, x, &m->in, ACT_SILU);
    apply_linear(d, y, h, &m->out, ACT_NONE);
    device_release(d, mark);
}

/* Host F32 rows to the device in its compute type. */
static struct tensor upload(struct device *d, const float *host, int64_t rows, int64_t cols)
{
    struct tensor y = device_matrix(d, d->compute, rows, cols);
    if (d->compute == DT_F32) {
        device_upload(d, y, host);
        return y;
    }
    size_t mark = device_mark(d);
    struct tensor wide = device_matrix(d, DT_F32, rows, cols);
    device_upload(d, wide, host);
    device_copy(d, y, wide);
    device_release(d, mark);
    return y;
}

/* Every chunk of h that some block wants, side by side in a row of
 * flux_tables.modulation: doubles (image 6, text 6), singles (3), final (2). */
static int64_t double_chunk(int i) { return 12 * (int64_t)i; }
static int64_t single_chunk(const struct flux *f, int i) { return 12 * (int64_t)f->config->doubles + 3 * (int64_t)i; }
static int64_t final_chunk(const struct flux *f) { return single_chunk(f, f->config->singles); }
static int64_t all_chunks(const struct flux *f) { return final_chunk(f) + 2; }

static float *host_floats(struct device *d, int64_t n)
{
    float *host = malloc((size_t)n * sizeof *host);
    if (!host)
        err_set(&d->err, ERR_MEMORY, "transformer: out of memory");
    return host;
}

/* rows[i] += one, for all rows. */
static void add_to_rows(struct device *d, struct tensor rows, struct tensor one)
{
    for (int64_t i = 0; i < rows.shape[0]; i++)
        device_add(d, tensor_rows(rows, i, 1), one);
}

/* vec[conditions * steps, h] = time + guidance + pooled */
static void embed_all(const struct flux *f, struct device *d, struct tensor vec, const struct flux_inputs *in)
{
    int64_t h = f->config->hidden;
    size_t mark = device_mark(d);
    float *host = host_floats(d, (int64_t)in->steps * SINUSOID);
    if (!host)
        return;
    for (int s = 0; in->sigmas && s < in->steps; s++)
        sinusoid(host + (size_t)s * SINUSOID, thousandfold(in->sigmas[s], d->compute));
    struct tensor one = device_matrix(d, d->compute, 1, h);
    struct tensor steps = tensor_rows(vec, 0, in->steps);
    embed(d, steps, upload(d, host, in->steps, SINUSOID), &f->time);
    if (f->config->guidance) {
        sinusoid(host, thousandfold(in->guidance, d->compute));
        embed(d, one, upload(d, host, 1, SINUSOID), &f->guidance);
        add_to_rows(d, steps, one);
    }
    free(host);
    struct tensor pooled = device_matrix(d, d->compute, in->conditions, h);
    device_hold(d);
    for (int c = 0; c < in->conditions; c++)
        embed(d, tensor_rows(pooled, c, 1), upload(d, in->pooled[c], 1, f->config->pooled), &f->pooled);
    device_unhold(d);
    for (int c = in->conditions - 1; c >= 0; c--) {
        struct tensor rows = tensor_rows(vec, (int64_t)c * in->steps, in->steps);
        if (c)
            device_copy(d, rows, steps);
        add_to_rows(d, rows, tensor_rows(pooled, c, 1));
    }
    device_release(d, mark);
}

/* Every projection of silu(vec). */
static void modulation(const struct flux *f, struct device *d, struct tensor table, const struct flux_inputs *in)
{
    const struct flux_config *c = f->config;
    int64_t h = c->hidden;
    size_t mark = device_mark(d);
    struct tensor vec = device_matrix(d, d->compute, table.shape[0], h);
    embed_all(f, d, vec, in);
    device_activate(d, vec, vec, ACT_SILU);
    for (int i = 0; i < c->doubles; i++) {
        apply_linear(d, tensor_cols(table, double_chunk(i) * h, 6 * h), vec, &f->doubles[i].image.modulation, ACT_NONE);
        apply_linear(d, tensor_cols(table, (double_chunk(i) + 6) * h, 6 * h), vec, &f->doubles[i].text.modulation,
                     ACT_NONE);
    }
    for (int i = 0; i < c->singles; i++)
        apply_linear(d, tensor_cols(table, single_chunk(f, i) * h, 3 * h), vec, &f->singles[i].modulation, ACT_NONE);
    apply_linear(d, tensor_cols(table, final_chunk(f) * h, 2 * h), vec, &f->final_modulation, ACT_NONE);
    device_release(d, mark);
}

/* Text stands at (0,0,0), the image at (0,row,col); angles in double, as
 * diffusers computes them. */
static void rope_table(const struct flux *f, struct device *d, struct tensor table, const struct flux_inputs *in)
{
    const struct flux_config *c = f->config;
    float *host = malloc(tensor_bytes(table));
    if (!host) {
        err_set(&d->err, ERR_MEMORY, "transformer: out of memory");
        return;
    }
    for (int64_t l = 0; l < table.shape[0]; l++) {
        int64_t pixel = l - in->text;
        int64_t id[MODEL_MAX_AXES] = { 0, pixel < 0 ? 0 : pixel / in->cols, pixel < 0 ? 0 : pixel % in->cols };
        float *row = host + l * c->head_dim;
        for (int a = 0; a < c->axes; a++)
            for (int i = 0; i < c->axes_dim[a] / 2; i++) {
                double angle = (double)id[a] * pow(c->theta, -2.0 * i / c->axes_dim[a]);
                *row++ = (float)cos(angle);
                *row++ = (float)sin(angle);
            }
    }
    device_upload(d, table, host);
    free(host);
}

void flux_begin(const struct flux *f, struct device *d, struct flux_tables *t, const struct flux_inputs *in)
{
    const struct flux_config *c = f->config;
    int64_t tokens = in->text + (int64_t)in->rows * in->cols;
    *t = (struct flux_tables){
        .text = in->text,
        .tokens = (int)tokens,
        .steps = in->steps,
        .chunk = in->chunk,
        .context = device_matrix(d, d->compute, (int64_t)in->conditions * in->text, c->hidden),
        .rope = device_matrix(d, DT_F32, tokens, c->head_dim),
        .modulation = device_matrix(d, d->compute, (int64_t)in->conditions * in->steps, all_chunks(f) * c->hidden),
    };
    if (!device_ok(d))
        return;
    device_hold(d);
    for (int i = 0; i < in->conditions; i++) {
        size_t mark = device_mark(d);
        apply_linear(d, tensor_rows(t->context, (int64_t)i * in->text, in->text),
                     upload(d, in->hidden[i], in->text, c->context), &f->text_in, ACT_NONE);
        device_release(d, mark);
    }
    device_unhold(d);
    if (d->arena.base)
        rope_table(f, d, t->rope, in);
    modulation(f, d, t->modulation, in);
}

/* --- one step ------------------------------------------------------------------ */

/* Chunk `i` (of h values) of a step's row of the modulation table. */
static struct tensor chunk(const struct flux *f, struct tensor row, int64_t i)
{
    return tensor_1d(tensor_cols(row, i * f->config->hidden, f->config->hidden).data, row.dtype, f->config->hidden);
}

/* A run of tokens that one block works on at a time. */
struct span {
    int64_t from, n;
};

/* The pieces of [from, from + n), in order; *at starts as 0. False: no more. */
static bool next_span(const struct flux_tables *t, int64_t from, int64_t n, int64_t *at, struct span *s)
{
    int64_t most = t->chunk > 0 ? t->chunk : n;
    *s = (struct span){ from + *at, n - *at < most ? n - *at : most };
    *at += s->n;
    return s->n > 0;
}

static struct tensor span_rows(struct tensor t, struct span s)
{
    return tensor_rows(t, s.from, s.n);
}

/* Weights are held only for a second piece: held together, they take more room than one by one. */
static void hold(struct device *d, const struct flux_tables *t, int64_t n)
{
    if (t->chunk > 0 && t->chunk < n)
        device_hold(d);
}

static void unhold(struct device *d, const struct flux_tables *t, int64_t n)
{
    if (t->chunk > 0 && t->chunk < n)
        device_unhold(d);
}

struct attention_weights {
    const struct linear *q, *k, *v;
    const struct norm *norm_q, *norm_k;
};

/* q, k, v of the rows [from, from + n) of x: normed with chunk `first` (shift,
 * scale) of mod, projected, normed per head and turned, into the same rows of qkv. */
static void project(const struct flux *f, struct device *d, const struct flux_tables *t, struct tensor x,
                    struct tensor qkv, int64_t from, int64_t n, const struct attention_weights *w, struct tensor mod,
                    int64_t first)
{
    int64_t h = f->config->hidden, at = 0;
    struct span s;
    hold(d, t, n);
    while (next_span(t, from, n, &at, &s)) {
        size_t mark = device_mark(d);
        struct tensor y = device_matrix(d, d->compute, s.n, h), rows = span_rows(qkv, s), rope = span_rows(t->rope, s);
        struct tensor q = tensor_cols(rows, 0, h), k = tensor_cols(rows, h, h), v = tensor_cols(rows, 2 * h, h);
        device_norm_modulate(d, y, span_rows(x, s), chunk(f, mod, first + 1), chunk(f, mod, first), NORM_EPS);
        apply_linear(d, q, y, w->q, ACT_NONE);
        apply_linear(d, k, y, w->k, ACT_NONE);
        apply_linear(d, v, y, w->v, ACT_NONE);
        device_qk_norm_rope(d, tensor_split(q, f->config->heads, f->config->head_dim), w->norm_q->w, rope, NORM_EPS);
        device_qk_norm_rope(d, tensor_split(k, f->config->heads, f->config->head_dim), w->norm_k->w, rope, NORM_EPS);
        device_release(d, mark);
    }
    unhold(d, t, n);
}

/* o[s.n, h]: what the queries of the span find in all keys. */
static void attend(const struct flux *f, struct device *d, struct tensor o, struct tensor qkv, struct span s)
{
    int64_t h = f->config->hidden, heads = f->config->heads, head = f->config->head_dim;
    device_attention(d, tensor_split(o, heads, head), tensor_split(tensor_cols(span_rows(qkv, s), 0, h), heads, head),
                     tensor_split(tensor_cols(qkv, h, h), heads, head),
                     tensor_split(tensor_cols(qkv, 2 * h, h), heads, head),
                     &(struct attention){ .scale = 1.0f / sqrtf((float)head) });
}

/* x += gate * out(attention) on the rows of one stream. */
static void add_attention(const struct flux *f, struct device *d, const struct flux_tables *t, struct tensor x,
                          struct tensor qkv, int64_t from, int64_t n, const struct linear *out, struct tensor gate)
{
    int64_t h = f->config->hidden, at = 0;
    struct span s;
    hold(d, t, n);
    while (next_span(t, from, n, &at, &s)) {
        size_t mark = device_mark(d);
        struct tensor o = device_matrix(d, d->compute, s.n, h), y = device_matrix(d, d->compute, s.n, h);
        attend(f, d, o, qkv, s);
        apply_linear(d, y, o, out, ACT_NONE);
        device_gated_add(d, span_rows(x, s), y, gate);
        device_release(d, mark);
    }
    unhold(d, t, n);
}

/* x += gate * mlp(norm(x)) on the rows of one stream; chunks of mod: shift, scale, gate. */
static void add_mlp(const struct flux *f, struct device *d, const struct flux_tables *t, struct tensor x, int64_t from,
                    int64_t n, const struct flux_stream *w, struct tensor mod, int64_t first)
{
    int64_t at = 0;
    struct span s;
    hold(d, t, n);
    while (next_span(t, from, n, &at, &s)) {
        size_t mark = device_mark(d);
        struct tensor y = device_matrix(d, d->compute, s.n, f->config->hidden);
        struct tensor wide = device_matrix(d, d->compute, s.n, f->mlp);
        device_norm_modulate(d, y, span_rows(x, s), chunk(f, mod, first + 1), chunk(f, mod, first), NORM_EPS);
        apply_linear(d, wide, y, &w->mlp_in, ACT_GELU_TANH);
        apply_linear(d, y, wide, &w->mlp_out, ACT_NONE);
        device_gated_add(d, span_rows(x, s), y, chunk(f, mod, first + 2));
        device_release(d, mark);
    }
    unhold(d, t, n);
}

/* x[L, h]: text rows, then image rows; mod: this step's row of the table. */
static void double_block(const struct flux *f, struct device *d, const struct flux_double *b, struct tensor x,
                         const struct flux_tables *t, struct tensor mod, int64_t first)
{
    const struct {
        const struct flux_stream *w;
        int64_t from, n, chunk;
    } stream[2] = { { &b->text, 0, t->text, first + 6 }, { &b->image, t->text, t->tokens - t->text, first } };
    size_t mark = device_mark(d);
    struct tensor qkv = device_matrix(d, d->compute, t->tokens, 3 * (int64_t)f->config->hidden);
    for (int i = 0; i < 2; i++) {
        const struct flux_stream *w = stream[i].w;
        project(f, d, t, x, qkv, stream[i].from, stream[i].n,
                &(struct attention_weights){ &w->q, &w->k, &w->v, &w->norm_q, &w->norm_k }, mod, stream[i].chunk);
    }
    for (int i = 0; i < 2; i++)
        add_attention(f, d, t, x, qkv, stream[i].from, stream[i].n, &stream[i].w->out,
                      chunk(f, mod, stream[i].chunk + 2));
    device_release(d, mark);
    for (int i = 0; i < 2; i++)
        add_mlp(f, d, t, x, stream[i].from, stream[i].n, stream[i].w, mod, stream[i].chunk + 3);
}

static void single_block(const struct flux *f, struct device *d, const struct flux_single *b, struct tensor x,
                         const struct flux_tables *t, struct tensor mod, int64_t first)
{
    int64_t h = f->config->hidden, at = 0;
    struct span s;
    size_t mark = device_mark(d);
    struct tensor qkv = device_matrix(d, d->compute, t->tokens, 3 * h);
    project(f, d, t, x, qkv, 0, t->tokens, &(struct attention_weights){ &b->q, &b->k, &b->v, &b->norm_q, &b->norm_k },
            mod, first);
    hold(d, t, t->tokens);
    while (next_span(t, 0, t->tokens, &at, &s)) {
        size_t piece = device_mark(d);
        struct tensor y = device_matrix(d, d->compute, s.n, h);
        struct tensor both = device_matrix(d, d->compute, s.n, h + f->mlp); /* attention, mlp */
        attend(f, d, tensor_cols(both, 0, h), qkv, s);
        device_norm_modulate(d, y, span_rows(x, s), chunk(f, mod, first + 1), chunk(f, mod, first), NORM_EPS);
        apply_linear(d, tensor_cols(both, h, f->mlp), y, &b->mlp, ACT_GELU_TANH);
        apply_linear(d, y, both, &b->out, ACT_NONE);
        device_gated_add(d, span_rows(x, s), y, chunk(f, mod, first + 2));
        device_release(d, piece);
    }
    unhold(d, t, t->tokens);
    device_release(d, mark);
}

void flux_step(const struct flux *f, struct device *d, const struct flux_tables *t, int condition, int step,
               const float *latent, float *velocity)
{
    const struct flux_config *c = f->config;
    int64_t image = t->tokens - t->text;
    size_t mark = device_mark(d);
    struct tensor x = device_matrix(d, d->compute, t->tokens, c->hidden);
    if (!device_ok(d))
        return;
    struct tensor mod = tensor_rows(t->modulation, (int64_t)condition * t->steps + step, 1);
    device_copy(d, tensor_rows(x, 0, t->text), tensor_rows(t->context, (int64_t)condition * t->text, t->text));
    size_t input = device_mark(d);
    apply_linear(d, tensor_rows(x, t->text, image), upload(d, latent, image, c->in_channels), &f->image_in, ACT_NONE);
    device_release(d, input);
    for (int i = 0; i < c->doubles; i++) {
        double_block(f, d, &f->doubles[i], x, t, mod, double_chunk(i));
        device_tick(d, i + 1, flux_blocks(f));
    }
    for (int i = 0; i < c->singles; i++) {
        single_block(f, d, &f->singles[i], x, t, mod, single_chunk(f, i));
        device_tick(d, c->doubles + i + 1, flux_blocks(f));
    }
    struct tensor result = device_matrix(d, DT_F32, image, c->out_channels);
    struct tensor out = tensor_rows(x, t->text, image);
    device_norm_modulate(d, out, out, chunk(f, mod, final_chunk(f)), chunk(f, mod, final_chunk(f) + 1), NORM_EPS);
    apply_linear(d, result, out, &f->final, ACT_NONE);
    device_download(d, velocity, result);
    device_release(d, mark);
}

void flux_pack(float *packed, const float *latent, int channels, int h, int w)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++) {
                size_t token = (size_t)(y / 2) * (size_t)(w / 2) + (size_t)(x / 2);
                packed[(token * (size_t)channels + (size_t)c) * 4 + (size_t)(y % 2 * 2 + x % 2)] =
                    latent[((size_t)c * (size_t)h + (size_t)y) * (size_t)w + (size_t)x];
            }
}

void flux_unpack(float *latent, const float *packed, int channels, int h, int w)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++) {
                size_t token = (size_t)(y / 2) * (size_t)(w / 2) + (size_t)(x / 2);
                latent[((size_t)c * (size_t)h + (size_t)y) * (size_t)w + (size_t)x] =
                    packed[(token * (size_t)channels + (size_t)c) * 4 + (size_t)(y % 2 * 2 + x % 2)];
            }
}
