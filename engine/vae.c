/* vae.c - see vae.h.
 *
 * Three slabs of the largest activation hold everything but the attention's k
 * and v: the picture is in one, a residual block works in the other two and
 * adds its result where the picture is (or moves the picture to another slab
 * when the channels change). */
#include "engine/vae.h"

#include "engine/layer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_RESNETS = 16 };

struct resnet {
    struct norm norm1, norm2;
    struct conv conv1, conv2, shortcut; /* shortcut: only where the channels change */
};

struct middle {
    struct resnet resnet[2];
    bool attends;
    struct norm norm;
    struct linear q, k, v, out;
};

struct level {
    int resnets;
    struct resnet resnet[MAX_RESNETS];
    struct conv resample; /* absent in the last level */
    int channels;
};

struct coder {
    struct conv in, out, quant; /* quant: 1x1, optional */
    struct norm norm;
    struct middle middle;
    struct level level[MODEL_MAX_VAE_LEVELS];
};

struct vae {
    const struct vae_config *config;
    struct weights *weights;
    bool has_encoder;
    struct coder decoder, encoder;
};

static struct resnet load_resnet(struct layer_loader *l, int in, int out, const char *at)
{
    struct resnet r = {
        .norm1 = layer_norm(l, in, true, "%s.norm1", at),
        .conv1 = layer_conv(l, out, in, 3, "%s.conv1", at),
        .norm2 = layer_norm(l, out, true, "%s.norm2", at),
        .conv2 = layer_conv(l, out, out, 3, "%s.conv2", at),
    };
    if (in != out)
        r.shortcut = layer_conv(l, out, in, 1, "%s.conv_shortcut", at);
    return r;
}

static struct middle load_middle(struct layer_loader *l, const struct vae_config *c, const char *side)
{
    int n = c->channels[c->levels - 1];
    char at[64];
    struct middle m = { .attends = c->mid_attention };
    for (int i = 0; i < 2; i++) {
        snprintf(at, sizeof at, "%s.mid_block.resnets.%d", side, i);
        m.resnet[i] = load_resnet(l, n, n, at);
    }
    if (m.attends) {
        snprintf(at, sizeof at, "%s.mid_block.attentions.0", side);
        m.norm = layer_norm(l, n, true, "%s.group_norm", at);
        m.q = layer_linear(l, n, n, true, "%s.to_q", at);
        m.k = layer_linear(l, n, n, true, "%s.to_k", at);
        m.v = layer_linear(l, n, n, true, "%s.to_v", at);
        m.out = layer_linear(l, n, n, true, "%s.to_out.0", at);
    }
    return m;
}

static struct coder load_decoder(struct layer_loader *l, const struct vae_config *c)
{
    int top = c->channels[c->levels - 1], at = top;
    struct coder d = { .in = layer_conv(l, top, c->latent_channels, 3, "decoder.conv_in"),
                       .middle = load_middle(l, c, "decoder") };
    if (c->post_quant_conv)
        d.quant = layer_conv(l, c->latent_channels, c->latent_channels, 1, "post_quant_conv");
    for (int i = 0; i < c->levels; i++) {
        struct level *v = &d.level[i];
        v->channels = c->channels[c->levels - 1 - i];
        v->resnets = c->layers_per_block + 1;
        for (int r = 0; r < v->resnets; r++, at = v->channels) {
            char name[64];
            snprintf(name, sizeof name, "decoder.up_blocks.%d.resnets.%d", i, r);
            v->resnet[r] = load_resnet(l, at, v->channels, name);
        }
        if (i + 1 < c->levels)
            v->resample = layer_conv(l, at, at, 3, "decoder.up_blocks.%d.upsamplers.0.conv", i);
    }
    d.norm = layer_norm(l, at, true, "decoder.conv_norm_out");
    d.out = layer_conv(l, 3, at, 3, "decoder.conv_out");
    return d;
}

static struct coder load_encoder(struct layer_loader *l, const struct vae_config *c)
{
    int at = c->channels[0], moments = 2 * c->latent_channels;
    struct coder d = { .in = layer_conv(l, at, 3, 3, "encoder.conv_in"), .middle = load_middle(l, c, "encoder") };
    for (int i = 0; i < c->levels; i++) {
        struct level *v = &d.level[i];
        v->channels = c->channels[i];
        v->resnets = c->layers_per_block;
        for (int r = 0; r < v->resnets; r++, at = v->channels) {
            char name[64];
            snprintf(name, sizeof name, "encoder.down_blocks.%d.resnets.%d", i, r);
            v->resnet[r] = load_resnet(l, at, v->channels, name);
        }
        if (i + 1 < c->levels)
            v->resample = layer_conv(l, at, at, 3, "encoder.down_blocks.%d.downsamplers.0.conv", i);
    }
    d.norm = layer_norm(l, at, true, "encoder.conv_norm_out");
    d.out = layer_conv(l, moments, at, 3, "encoder.conv_out");
    if (c->quant_conv)
        d.quant = layer_conv(l, moments, moments, 1, "quant_conv");
    return d;
}

bool vae_open(struct vae **out, const struct model *m, bool encoder, struct err *e)
{
    const struct vae_config *c = &m->vae;
    char dir[MODEL_PATH_MAX];
    *out = NULL;
    if (c->layers_per_block + 1 > MAX_RESNETS)
        return err_set(e, ERR_INPUT, "%s/vae/config.json: layers_per_block is %d, at most %d is supported", m->path,
                       c->layers_per_block, MAX_RESNETS - 1);
    struct vae *v = calloc(1, sizeof *v);
    if (!v)
        return err_set(e, ERR_MEMORY, "VAE: out of memory");
    v->config = c;
    v->has_encoder = encoder;
    if (!weights_open_dir(&v->weights, model_part_dir(m, MODEL_VAE, dir), model_part_name(MODEL_VAE), e)) {
        vae_close(v);
        return false;
    }
    struct layer_loader l = { v->weights, e, false };
    v->decoder = load_decoder(&l, c);
    if (encoder)
        v->encoder = load_encoder(&l, c);
    if (l.failed) {
        vae_close(v);
        return false;
    }
    *out = v;
    return true;
}

void vae_close(struct vae *v)
{
    if (!v)
        return;
    weights_close(v->weights);
    free(v);
}

const struct weights *vae_weights(const struct vae *v)
{
    return v->weights;
}

/* --- the picture while it is worked on -------------------------------------------- */
struct canvas {
    struct device *d;
    const struct vae_config *config;
    struct tensor slab[3];
    int at;        /* slab of the picture */
    int64_t h, w, c;
    int ticks, of; /* residual blocks done, in all */
};

static struct tensor view(const struct canvas *p, int away, int64_t h, int64_t w, int64_t c)
{
    struct tensor s = p->slab[(p->at + away) % 3];
    return tensor_3d(s.data, s.dtype, h, w, c);
}

static struct tensor picture(const struct canvas *p)
{
    return view(p, 0, p->h, p->w, p->c);
}

/* The picture becomes what was put into slab at + away. */
static void move(struct canvas *p, int away, int64_t h, int64_t w, int64_t c)
{
    p->at = (p->at + away) % 3;
    p->h = h;
    p->w = w;
    p->c = c;
}

static void normalise(struct canvas *p, struct tensor y, struct tensor x, const struct norm *n, enum act act)
{
    size_t mark = device_mark(p->d);
    struct tensor moments = device_image(p->d, DT_F32, x.shape[0], p->config->groups, 2);
    device_group_moments(p->d, moments, x);
    device_group_norm(p->d, y, x, moments, n->w, n->b, p->config->eps, act);
    device_release(p->d, mark);
}

static void norm_silu(struct canvas *p, struct tensor y, struct tensor x, const struct norm *n)
{
    normalise(p, y, x, n, ACT_SILU);
}

static void convolve(struct canvas *p, const struct conv *c)
{
    struct tensor y = view(p, 1, p->h, p->w, c->w.shape[0]);
    apply_conv(p->d, y, picture(p), c, false);
    move(p, 1, p->h, p->w, c->w.shape[0]);
}

static void resnet(struct canvas *p, const struct resnet *r)
{
    int64_t out = r->conv1.w.shape[0];
    struct tensor x = picture(p), a = view(p, 1, p->h, p->w, p->c), b = view(p, 2, p->h, p->w, out);
    norm_silu(p, a, x, &r->norm1);
    apply_conv(p->d, b, a, &r->conv1, false);
    norm_silu(p, b, b, &r->norm2);
    if (tensor_present(r->shortcut.w)) {
        struct tensor y = view(p, 1, p->h, p->w, out);
        apply_conv(p->d, y, x, &r->shortcut, false);
        apply_conv(p->d, y, b, &r->conv2, true);
        move(p, 1, p->h, p->w, out);
    } else {
        apply_conv(p->d, x, b, &r->conv2, true);
    }
    device_tick(p->d, ++p->ticks, p->of);
}

static void attend(struct canvas *p, const struct middle *m)
{
    struct device *d = p->d;
    int64_t n = p->h * p->w, c = p->c;
    struct tensor a = view(p, 1, p->h, p->w, c), x = tensor_as_2d(picture(p), n, c);
    struct tensor y = tensor_as_2d(a, n, c), q = tensor_as_2d(view(p, 2, p->h, p->w, c), n, c);
    size_t mark = device_mark(d);
    struct tensor k = device_matrix(d, d->compute, n, c), v = device_matrix(d, d->compute, n, c);
    normalise(p, a, picture(p), &m->norm, ACT_NONE);
    apply_linear(d, q, y, &m->q, ACT_NONE);
    apply_linear(d, k, y, &m->k, ACT_NONE);
    apply_linear(d, v, y, &m->v, ACT_NONE);
    device_attention(d, tensor_split(y, 1, c), tensor_split(q, 1, c), tensor_split(k, 1, c), tensor_split(v, 1, c),
                     &(struct attention){ .scale = 1.0f / sqrtf((float)c) });
    apply_linear(d, q, y, &m->out, ACT_NONE);
    device_add(d, x, q);
    device_release(d, mark);
}

static void middle(struct canvas *p, const struct middle *m)
{
    resnet(p, &m->resnet[0]);
    if (m->attends)
        attend(p, m);
    resnet(p, &m->resnet[1]);
}

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Values in the largest activation of decoding (up) or encoding; h, w of its input. */
static int64_t largest(const struct vae_config *c, bool up, int64_t h, int64_t w)
{
    int64_t most = h * w * max64(c->latent_channels, 3);
    int before = up ? c->channels[c->levels - 1] : c->channels[0];
    for (int i = 0; i < c->levels; i++) {
        int channels = up ? c->channels[c->levels - 1 - i] : c->channels[i];
        most = max64(most, h * w * max64(before, channels));
        before = channels;
        if (i + 1 == c->levels)
            break;
        h = up ? 2 * h : h / 2;
        w = up ? 2 * w : w / 2;
        if (up)
            most = max64(most, h * w * channels);
    }
    return max64(most, up ? h * w * 3 : h * w * 2 * c->latent_channels);
}

static struct canvas canvas_begin(const struct vae *v, struct device *d, const struct coder *coder, bool up,
                                  int64_t h, int64_t w, int64_t c)
{
    struct canvas p = { .d = d, .config = v->config, .h = h, .w = w, .c = c, .of = 2 };
    int64_t n = largest(v->config, up, h, w);
    for (int i = 0; i < 3; i++)
        p.slab[i] = device_vector(d, d->compute, n);
    for (int i = 0; i < v->config->levels; i++)
        p.of += coder->level[i].resnets;
    return p;
}

/* Host F32 [h*w, c] into the picture, and the other way. */
static void put(struct canvas *p, const float *host)
{
    size_t mark = device_mark(p->d);
    struct tensor wide = device_matrix(p->d, DT_F32, p->h, p->w * p->c);
    device_upload(p->d, wide, host);
    device_copy(p->d, tensor_as_2d(picture(p), p->h, p->w * p->c), wide);
    device_release(p->d, mark);
}

static void get(struct canvas *p, float *host)
{
    size_t mark = device_mark(p->d);
    struct tensor wide = device_matrix(p->d, DT_F32, p->h, p->w * p->c);
    device_copy(p->d, wide, tensor_as_2d(picture(p), p->h, p->w * p->c));
    device_download(p->d, host, wide);
    device_release(p->d, mark);
}

void vae_decode(const struct vae *v, struct device *d, int h, int w, const float *latent, float *image)
{
    const struct vae_config *c = v->config;
    const struct coder *u = &v->decoder;
    size_t mark = device_mark(d), n = (size_t)h * (size_t)w, channels = (size_t)c->latent_channels;
    float *z = latent ? malloc(n * channels * sizeof *z) : NULL;
    if (latent && !z) {
        err_set(&d->err, ERR_MEMORY, "VAE: out of memory");
        return;
    }
    for (size_t i = 0; z && i < n; i++)
        for (size_t j = 0; j < channels; j++)
            z[i * channels + j] = latent[j * n + i] / c->scaling + c->shift;
    struct canvas p = canvas_begin(v, d, u, true, h, w, c->latent_channels);
    if (device_ok(d)) {
        put(&p, z);
        if (tensor_present(u->quant.w))
            convolve(&p, &u->quant);
        convolve(&p, &u->in);
        middle(&p, &u->middle);
        for (int i = 0; i < c->levels; i++) {
            for (int r = 0; r < u->level[i].resnets; r++)
                resnet(&p, &u->level[i].resnet[r]);
            if (i + 1 == c->levels)
                break;
            device_upsample2x(d, view(&p, 1, 2 * p.h, 2 * p.w, p.c), picture(&p));
            move(&p, 1, 2 * p.h, 2 * p.w, p.c);
            convolve(&p, &u->level[i].resample);
        }
        norm_silu(&p, picture(&p), picture(&p), &u->norm);
        convolve(&p, &u->out);
        get(&p, image);
    }
    free(z);
    device_release(d, mark);
}

/* Stride 2, padded on the right and below only: diffusers' Downsample2D with padding 0. */
static void downsample(struct canvas *p, const struct conv *c)
{
    int64_t h = (p->h + 1 - 3) / 2 + 1, w = (p->w + 1 - 3) / 2 + 1;
    device_conv2d(p->d, view(p, 1, h, w, c->w.shape[0]), picture(p), c->w, c->b,
                  &(struct conv2d){ .stride = 2, .bottom = 1, .right = 1 });
    move(p, 1, h, w, c->w.shape[0]);
}

void vae_encode(const struct vae *v, struct device *d, int height, int width, const float *image, float *latent)
{
    const struct vae_config *c = v->config;
    const struct coder *u = &v->encoder;
    size_t mark = device_mark(d);
    struct canvas p = canvas_begin(v, d, u, false, height, width, 3);
    if (!device_ok(d))
        return;
    put(&p, image);
    convolve(&p, &u->in);
    for (int i = 0; i < c->levels; i++) {
        for (int r = 0; r < u->level[i].resnets; r++)
            resnet(&p, &u->level[i].resnet[r]);
        if (i + 1 < c->levels)
            downsample(&p, &u->level[i].resample);
    }
    middle(&p, &u->middle);
    norm_silu(&p, picture(&p), picture(&p), &u->norm);
    convolve(&p, &u->out);
    if (tensor_present(u->quant.w))
        convolve(&p, &u->quant);
    size_t n = (size_t)(p.h * p.w), channels = (size_t)c->latent_channels;
    float *moments = latent ? malloc(n * 2 * channels * sizeof *moments) : NULL;
    if (latent && !moments)
        err_set(&d->err, ERR_MEMORY, "VAE: out of memory");
    get(&p, moments);
    for (size_t i = 0; moments && i < n; i++)
        for (size_t j = 0; j < channels; j++)
            latent[j * n + i] = (moments[i * 2 * channels + j] - c->shift) * c->scaling;
    free(moments);
    device_release(d, mark);
}
