/* vae.c - see vae.h.
 *
 * A coder is a list of links (a convolution, a residual block, ...), each with
 * the size of its result. It is run in one of two ways, which give the same bytes:
 *
 * Whole: link after link, in three slabs of the largest picture. The picture is
 * in one, a residual block works in the other two and adds its result where the
 * picture is (or moves the picture to another slab when the channels change).
 *
 * In bands: links are taken together in steps, and only what lies between steps
 * is stored, in one slab. A step's result is made band by band: each link asks
 * the one before for the rows it needs, down to the stored picture. A norm of
 * what is not stored first takes a pass over the bands that only keeps moments.
 * The picture lies at one end of the slab, and every step moves it to the other:
 *
 *    start to end, bands from the bottom up    [ picture ......][ result (part) ]
 *    end to start, bands from the top down     [ result (part) ][...... picture ]
 *
 * so that a result twice as large can grow over the rows it was made from, and a
 * slab need only be a band longer than the larger of the two. */
#include "engine/vae.h"

#include "engine/layer.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* --- a coder as a list of links ---------------------------------------------------- */
enum kind { INPUT, CONV, DOWN, UP, NORM, RESNET, ATTEND };

struct link {
    enum kind kind;
    const void *layer; /* struct conv (CONV, DOWN), norm, resnet, middle (ATTEND) */
    bool joined;       /* in bands, of one step with the link before: what lies between is never stored */
    int64_t h, w, c;   /* the result */
};

enum { MAX_LINKS = MODEL_MAX_VAE_LEVELS * (MAX_RESNETS + 3) + 10, MAX_STEP = 4 };

/* One decoding or encoding of one picture. */
struct run {
    struct device *d;
    const struct vae_config *config;
    struct link link[MAX_LINKS]; /* link[0] is INPUT: what the host gives */
    int links;
    const float *in;             /* host, [h,w,c]; NULL on the count device */
    float *out;
    int done, of;                /* ticks */
};

static struct run run_begin(const struct vae *v, struct device *d, int64_t h, int64_t w, int64_t c)
{
    return (struct run){ .d = d, .config = v->config, .link = { { INPUT, NULL, false, h, w, c } }, .links = 1 };
}

static void add(struct run *r, enum kind kind, const void *layer, bool joined)
{
    struct link l = r->link[r->links - 1];
    const struct conv *conv = layer;
    const struct resnet *resnet = layer;
    l.kind = kind;
    l.layer = layer;
    l.joined = joined;
    if (kind == CONV || kind == DOWN)
        l.c = conv->w.shape[0];
    if (kind == RESNET)
        l.c = resnet->conv1.w.shape[0];
    l.h = kind == UP ? 2 * l.h : kind == DOWN ? (l.h + 1 - 3) / 2 + 1 : l.h;
    l.w = kind == UP ? 2 * l.w : kind == DOWN ? (l.w + 1 - 3) / 2 + 1 : l.w;
    assert(r->links < MAX_LINKS);
    r->link[r->links++] = l;
}

static void add_middle(struct run *r, const struct middle *m)
{
    add(r, RESNET, &m->resnet[0], false);
    if (m->attends)
        add(r, ATTEND, m, false);
    add(r, RESNET, &m->resnet[1], false);
}

/* A block that makes fewer channels of an enlarged picture is joined to the
 * enlargement: the picture between, the largest of all, is never stored. */
static struct run decoder_run(const struct vae *v, struct device *d, int64_t h, int64_t w)
{
    const struct coder *u = &v->decoder;
    struct run r = run_begin(v, d, h, w, v->config->latent_channels);
    if (tensor_present(u->quant.w))
        add(&r, CONV, &u->quant, true);
    add(&r, CONV, &u->in, true);
    add_middle(&r, &u->middle);
    for (int i = 0; i < v->config->levels; i++) {
        const struct level *l = &u->level[i];
        for (int k = 0; k < l->resnets; k++)
            add(&r, RESNET, &l->resnet[k], i && !k && tensor_present(l->resnet[k].shortcut.w));
        if (i + 1 < v->config->levels) {
            add(&r, UP, NULL, false);
            add(&r, CONV, &l->resample, true);
        }
    }
    add(&r, NORM, &u->norm, false);
    add(&r, CONV, &u->out, true);
    return r;
}

static struct run encoder_run(const struct vae *v, struct device *d, int64_t h, int64_t w)
{
    const struct coder *u = &v->encoder;
    struct run r = run_begin(v, d, h, w, 3);
    add(&r, CONV, &u->in, true);
    for (int i = 0; i < v->config->levels; i++) {
        for (int k = 0; k < u->level[i].resnets; k++)
            add(&r, RESNET, &u->level[i].resnet[k], false);
        if (i + 1 < v->config->levels)
            add(&r, DOWN, &u->level[i].resample, false);
    }
    add_middle(&r, &u->middle);
    add(&r, NORM, &u->norm, false);
    add(&r, CONV, &u->out, true);
    if (tensor_present(u->quant.w))
        add(&r, CONV, &u->quant, true);
    return r;
}

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }
static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static void tick(struct run *r)
{
    device_tick(r->d, ++r->done, r->of);
}

/* --- rows of a picture --------------------------------------------------------------- */
struct strip {
    int64_t from, to;
    struct tensor t; /* [to - from, w, c], dense */
};

static struct strip strip_new(struct device *d, const struct link *l, int64_t from, int64_t to)
{
    return (struct strip){ from, to, device_image(d, d->compute, to - from, l->w, l->c) };
}

static struct strip strip_part(struct strip s, int64_t from, int64_t to)
{
    assert(s.from <= from && to <= s.to);
    return (struct strip){ from, to, tensor_rows(s.t, from - s.from, to - from) };
}

static struct tensor flat(struct strip s)
{
    return tensor_as_2d(s.t, s.to - s.from, s.t.shape[1] * s.t.shape[2]);
}

/* Between host F32 and a strip, in pieces of about a million values. */
static void transfer(struct run *r, struct strip s, bool up)
{
    int64_t row = s.t.shape[1] * s.t.shape[2], rows = max64(1, (1 << 20) / row);
    for (int64_t from = s.from; from < s.to; from += rows) {
        size_t mark = device_mark(r->d);
        struct tensor piece = flat(strip_part(s, from, min64(from + rows, s.to)));
        struct tensor wide = device_matrix(r->d, DT_F32, piece.shape[0], row);
        if (up) {
            device_upload(r->d, wide, r->in ? r->in + from * row : NULL);
            device_copy(r->d, piece, wide);
        } else {
            device_copy(r->d, wide, piece);
            device_download(r->d, r->out ? r->out + from * row : NULL, wide);
        }
        device_release(r->d, mark);
    }
}

/* Rows that the rows [from, to) of a convolution's result are made of; outside
 * the picture it is zero. DOWN is padded on the right and below only: diffusers'
 * Downsample2D with padding 0. */
struct window { int64_t from, to; };

static struct window conv_window(const struct conv *c, enum kind kind, int64_t from, int64_t to)
{
    int64_t kernel = c->w.shape[2];
    if (kind == DOWN)
        return (struct window){ 2 * from, 2 * (to - 1) + kernel };
    return (struct window){ from - kernel / 2, to + kernel / 2 };
}

static struct window clip(struct window w, int64_t height)
{
    return (struct window){ max64(w.from, 0), min64(w.to, height) };
}

/* y = conv(x), or y += conv(x); x has at least the rows of y's window, of a picture `height` rows high. */
static void convolve(struct device *d, const struct conv *c, enum kind kind, struct strip y, struct strip x,
                     int64_t height, bool accumulate)
{
    struct window w = conv_window(c, kind, y.from, y.to), in = clip(w, height);
    int side = kind == DOWN ? 0 : (int)c->w.shape[3] / 2;
    struct conv2d v = { .stride = kind == DOWN ? 2 : 1, .top = (int)(in.from - w.from), .bottom = (int)(w.to - in.to),
                        .left = side, .right = kind == DOWN ? 1 : side, .accumulate = accumulate };
    device_conv2d(d, y.t, strip_part(x, in.from, in.to).t, c->w, c->b, &v);
}

static struct tensor moments_new(struct run *r, int64_t rows)
{
    return device_image(r->d, DT_F32, rows, r->config->groups, 2);
}

static void norm_silu(struct run *r, struct tensor y, struct tensor x, struct tensor moments, const struct norm *n)
{
    device_group_norm(r->d, y, x, moments, n->w, n->b, r->config->eps, ACT_SILU);
}

/* A pass over bands: with several, its weights are brought once and not once a band. */
static void pass_begins(struct device *d, bool several)
{
    if (several)
        device_hold(d);
}

static void pass_ends(struct device *d, bool several)
{
    if (several)
        device_unhold(d);
}

/* --- attention ------------------------------------------------------------------------- */

/* x += attention(norm(x)), `rows` picture rows of queries at a time; k and v of
 * all pixels. banded: as two passes over bands, with a tick for every band. */
static void attend(struct run *r, const struct middle *m, struct strip x, int64_t rows, bool banded)
{
    struct device *d = r->d;
    bool hold = banded && rows < x.to;
    int64_t w = x.t.shape[1], c = x.t.shape[2];
    size_t mark = device_mark(d);
    struct tensor moments = moments_new(r, x.to);
    struct tensor k = device_matrix(d, d->compute, x.to * w, c), v = device_matrix(d, d->compute, x.to * w, c);
    device_group_moments(d, moments, x.t);
    for (int queries = 0; queries < 2; queries++) {
        pass_begins(d, hold);
        for (int64_t from = 0; from < x.to; from += rows) {
            struct strip part = strip_part(x, from, min64(from + rows, x.to));
            int64_t at = from * w, n = (part.to - from) * w;
            size_t inner = device_mark(d);
            struct tensor a = device_image(d, d->compute, part.to - from, w, c), y = tensor_as_2d(a, n, c);
            device_group_norm(d, a, part.t, moments, m->norm.w, m->norm.b, r->config->eps, ACT_NONE);
            if (!queries) {
                apply_linear(d, tensor_rows(k, at, n), y, &m->k, ACT_NONE);
                apply_linear(d, tensor_rows(v, at, n), y, &m->v, ACT_NONE);
            } else {
                struct tensor q = device_matrix(d, d->compute, n, c);
                apply_linear(d, q, y, &m->q, ACT_NONE);
                device_attention(d, tensor_split(y, 1, c), tensor_split(q, 1, c), tensor_split(k, 1, c),
                                 tensor_split(v, 1, c), &(struct attention){ .scale = 1.0f / sqrtf((float)c) });
                apply_linear(d, q, y, &m->out, ACT_NONE);
                device_add(d, tensor_as_2d(part.t, n, c), q);
            }
            device_release(d, inner);
            if (banded)
                tick(r);
        }
        pass_ends(d, hold);
    }
    device_release(d, mark);
}

/* --- whole ------------------------------------------------------------------------------- */
struct canvas {
    struct run *run;
    struct tensor slab[3];
    int at; /* slab of the picture */
};

/* A picture of l's size in the slab `away` from the picture's. */
static struct strip view(const struct canvas *p, int away, const struct link *l)
{
    struct tensor s = p->slab[(p->at + away) % 3];
    return (struct strip){ 0, l->h, tensor_3d(s.data, s.dtype, l->h, l->w, l->c) };
}

static void whole_norm_silu(struct canvas *p, struct tensor y, struct tensor x, const struct norm *n)
{
    size_t mark = device_mark(p->run->d);
    struct tensor moments = moments_new(p->run, x.shape[0]);
    device_group_moments(p->run->d, moments, x);
    norm_silu(p->run, y, x, moments, n);
    device_release(p->run->d, mark);
}

static void whole_resnet(struct canvas *p, const struct link *l)
{
    struct device *d = p->run->d;
    const struct resnet *r = l->layer;
    struct strip x = view(p, 0, l - 1), a = view(p, 1, l - 1), b = view(p, 2, l);
    whole_norm_silu(p, a.t, x.t, &r->norm1);
    convolve(d, &r->conv1, CONV, b, a, l->h, false);
    whole_norm_silu(p, b.t, b.t, &r->norm2);
    if (tensor_present(r->shortcut.w)) {
        struct strip y = view(p, 1, l);
        convolve(d, &r->shortcut, CONV, y, x, l->h, false);
        convolve(d, &r->conv2, CONV, y, b, l->h, true);
        p->at = (p->at + 1) % 3;
    } else {
        convolve(d, &r->conv2, CONV, x, b, l->h, true);
    }
    tick(p->run);
}

static void run_whole(struct run *r)
{
    struct device *d = r->d;
    size_t mark = device_mark(d);
    struct canvas p = { .run = r };
    int64_t most = 0;
    for (int i = 0; i < r->links; i++)
        most = max64(most, r->link[i].h * r->link[i].w * r->link[i].c);
    for (int i = 0; i < 3; i++)
        p.slab[i] = device_vector(d, d->compute, most);
    if (device_ok(d)) {
        transfer(r, view(&p, 0, &r->link[0]), true);
        for (const struct link *l = r->link + 1; l < r->link + r->links; l++) {
            struct strip x = view(&p, 0, l - 1), y = view(&p, 1, l);
            switch (l->kind) {
            case INPUT: break;
            case CONV:
            case DOWN: convolve(d, l->layer, l->kind, y, x, l[-1].h, false); break;
            case UP: device_upsample2x(d, y.t, x.t); break;
            case NORM: whole_norm_silu(&p, x.t, x.t, l->layer); break;
            case RESNET: whole_resnet(&p, l); break;
            case ATTEND: attend(r, l->layer, x, (l->h + 3) / 4, false); break;
            }
            if (l->kind == CONV || l->kind == DOWN || l->kind == UP)
                p.at = (p.at + 1) % 3;
        }
        transfer(r, view(&p, 0, &r->link[r->links - 1]), false);
    }
    device_release(d, mark);
}

static int whole_ticks(const struct run *r)
{
    int n = 0;
    for (int i = 0; i < r->links; i++)
        n += r->link[i].kind == RESNET;
    return n;
}

/* --- in bands ------------------------------------------------------------------------------ */

/* Links [first, last], evaluated together, `rows` rows of the result at a time. */
struct step {
    int first, last;
    int64_t rows;
};

struct bands {
    struct run *run;
    struct step step;
    struct strip picture;               /* the step's input, unless that is the host's */
    struct tensor moments[MAX_STEP][2]; /* of each link's norms, as far as they are known */
};

/* Values in the longest row of links [first, last] and their input. */
static int64_t longest_row(const struct run *r, int first, int last)
{
    int64_t most = 0;
    for (int i = first ? first - 1 : 0; i <= last; i++)
        most = max64(most, r->link[i].w * r->link[i].c);
    return most;
}

/* `band` rows where rows are longest, and elsewhere as many as take the same room. */
static struct step step_at(const struct run *r, int first, int band)
{
    struct step s = { first, first, 0 };
    while (s.last + 1 < r->links && r->link[s.last + 1].joined)
        s.last++;
    assert(s.last - s.first < MAX_STEP);
    s.rows = band * longest_row(r, 0, r->links - 1) / longest_row(r, s.first, s.last);
    return s;
}

static bool step_from_host(struct step s) { return s.first == 0; }
static bool step_to_host(const struct run *r, struct step s) { return s.last + 1 == r->links; }

/* Whether the picture is elsewhere in the slab after the step. */
static bool step_moves(const struct run *r, struct step s)
{
    return !step_from_host(s) && !step_to_host(r, s) && r->link[s.first].kind != ATTEND;
}

/* Rows of link l's input that rows [from, to) of its result are made of. */
static struct window reach(const struct link *l, struct window w)
{
    switch (l->kind) {
    case CONV:
    case DOWN: return clip(conv_window(l->layer, l->kind, w.from, w.to), l[-1].h);
    case UP: return (struct window){ w.from / 2, (w.to + 1) / 2 };
    case RESNET: return clip((struct window){ w.from - 2, w.to + 2 }, l->h);
    case INPUT:
    case NORM:
    case ATTEND: break;
    }
    return w;
}

static int64_t size_of(const struct link *l) { return l->h * l->w * l->c; }

/* Values of slab that the step needs; at_end: where its input lies. */
static int64_t step_room(const struct run *r, struct step s, bool at_end)
{
    const struct link *in = &r->link[step_from_host(s) ? 0 : s.first - 1], *out = &r->link[s.last];
    if (!step_moves(r, s))
        return step_from_host(s) ? size_of(out) : size_of(in);
    int64_t room = max64(size_of(in), size_of(out));
    for (int64_t from = 0; from < out->h; from += s.rows) {
        struct window made = { from, min64(from + s.rows, out->h) }, used = made;
        for (int i = s.last; i >= s.first; i--)
            used = reach(&r->link[i], used);
        int64_t results = at_end ? made.to : out->h - made.from, inputs = at_end ? in->h - used.from : used.to;
        room = max64(room, results * out->w * out->c + inputs * in->w * in->c);
    }
    return room;
}

/* Of all steps from `first` on until the picture is at the slab's start again. */
static int64_t slab_room(const struct run *r, int first, int band)
{
    int64_t room = 0;
    bool at_end = false;
    do {
        struct step s = step_at(r, first, band);
        room = max64(room, step_room(r, s, at_end));
        at_end ^= step_moves(r, s);
        first = s.last + 1;
    } while (at_end && first < r->links);
    return room;
}

static int norms_of(const struct link *l)
{
    return l->kind == NORM ? 1 : l->kind == RESNET ? 2 : 0;
}

/* Whether the input of norm n of link i is the stored picture. */
static bool norm_of_stored(struct step s, int i, int n) { return i == s.first && n == 0; }

static int band_ticks(const struct run *r, int band)
{
    int ticks = 0;
    for (struct step s = { .last = -1 }; s.last + 1 < r->links;) {
        s = step_at(r, s.last + 1, band);
        int passes = r->link[s.first].kind == ATTEND ? 2 : 1;
        for (int i = s.first; i <= s.last; i++)
            for (int n = 0; n < norms_of(&r->link[i]); n++)
                passes += !norm_of_stored(s, i, n);
        ticks += passes * (int)((r->link[s.last].h + s.rows - 1) / s.rows);
    }
    return ticks;
}

static void compute(struct bands *b, int i, struct strip y);

/* Rows of the input of link i: of the stored picture, or made now. Enlarging makes rows in pairs. */
static struct strip input(struct bands *b, int i, struct window w)
{
    if (i == b->step.first)
        return strip_part(b->picture, w.from, w.to);
    const struct link *before = &b->run->link[i - 1];
    bool pairs = before->kind == UP;
    struct strip s = strip_new(b->run->d, before, pairs ? w.from / 2 * 2 : w.from, pairs ? (w.to + 1) / 2 * 2 : w.to);
    compute(b, i - 1, s);
    return strip_part(s, w.from, w.to);
}

/* h = conv1(silu(norm1(x))) of the residual block at link i; x is overwritten unless it is stored. */
static void first_half(struct bands *b, int i, struct strip h, struct strip x)
{
    const struct link *l = &b->run->link[i];
    const struct resnet *r = l->layer;
    size_t mark = device_mark(b->run->d);
    struct strip a = i == b->step.first ? strip_new(b->run->d, l - 1, x.from, x.to) : x;
    norm_silu(b->run, a.t, x.t, b->moments[i - b->step.first][0], &r->norm1);
    convolve(b->run->d, &r->conv1, CONV, h, a, l->h, false);
    device_release(b->run->d, mark);
}

static void band_resnet(struct bands *b, int i, struct strip y)
{
    struct device *d = b->run->d;
    const struct link *l = &b->run->link[i];
    const struct resnet *r = l->layer;
    struct window half = clip((struct window){ y.from - 1, y.to + 1 }, l->h);
    struct strip x = input(b, i, reach(l, (struct window){ y.from, y.to }));
    struct strip h = strip_new(d, l, half.from, half.to);
    if (tensor_present(r->shortcut.w))
        convolve(d, &r->shortcut, CONV, y, x, l->h, false);
    else
        device_copy(d, flat(y), flat(strip_part(x, y.from, y.to)));
    first_half(b, i, h, x);
    norm_silu(b->run, h.t, h.t, b->moments[i - b->step.first][1], &r->norm2);
    convolve(d, &r->conv2, CONV, y, h, l->h, true);
}

/* Rows of the result of link i. */
static void compute(struct bands *b, int i, struct strip y)
{
    struct device *d = b->run->d;
    const struct link *l = &b->run->link[i];
    struct window rows = { y.from, y.to };
    size_t mark = device_mark(d);
    switch (l->kind) {
    case INPUT: transfer(b->run, y, true); break;
    case CONV:
    case DOWN: convolve(d, l->layer, l->kind, y, input(b, i, reach(l, rows)), l[-1].h, false); break;
    case UP: device_upsample2x(d, y.t, input(b, i, reach(l, rows)).t); break;
    case NORM: norm_silu(b->run, y.t, input(b, i, rows).t, b->moments[i - b->step.first][0], l->layer); break;
    case RESNET: band_resnet(b, i, y); break;
    case ATTEND: break;
    }
    device_release(d, mark);
}

/* The moments for norm n of link i. */
static void find_moments(struct bands *b, int i, int n)
{
    struct device *d = b->run->d;
    const struct link *l = &b->run->link[i];
    struct tensor *m = &b->moments[i - b->step.first][n];
    *m = moments_new(b->run, l->h);
    if (norm_of_stored(b->step, i, n)) {
        device_group_moments(d, *m, b->picture.t);
        return;
    }
    pass_begins(d, b->step.rows < l->h);
    for (int64_t from = 0; from < l->h; from += b->step.rows) {
        struct window w = { from, min64(from + b->step.rows, l->h) };
        size_t mark = device_mark(d);
        struct strip s = strip_new(d, n ? l : l - 1, w.from, w.to);
        if (n)
            first_half(b, i, s, input(b, i, clip((struct window){ w.from - 1, w.to + 1 }, l->h)));
        else
            compute(b, i - 1, s);
        device_group_moments(d, tensor_rows(*m, w.from, w.to - w.from), s.t);
        device_release(d, mark);
        tick(b->run);
    }
    pass_ends(d, b->step.rows < l->h);
}

/* The step's result, band by band, into `result` or, where that is absent, to the host. */
static void make_result(struct bands *b, struct strip result, bool upward)
{
    struct device *d = b->run->d;
    const struct link *l = &b->run->link[b->step.last];
    int64_t rows = b->step.rows, n = (l->h + rows - 1) / rows;
    pass_begins(d, n > 1);
    for (int64_t k = 0; k < n; k++) {
        int64_t from = (upward ? n - 1 - k : k) * rows, to = min64(from + rows, l->h);
        size_t mark = device_mark(d);
        if (tensor_present(result.t)) {
            compute(b, b->step.last, strip_part(result, from, to));
        } else {
            struct strip y = strip_new(d, l, from, to);
            compute(b, b->step.last, y);
            transfer(b->run, y, false);
        }
        device_release(d, mark);
        tick(b->run);
    }
    pass_ends(d, n > 1);
}

static struct strip in_slab(struct tensor slab, const struct link *l, bool at_end)
{
    int64_t n = size_of(l);
    return (struct strip){ 0, l->h, tensor_3d(tensor_rows(slab, at_end ? slab.shape[0] - n : 0, n).data, slab.dtype,
                                              l->h, l->w, l->c) };
}

static void run_bands(struct run *r, int band)
{
    struct device *d = r->d;
    size_t mark = device_mark(d);
    struct tensor slab = { 0 };
    bool at_end = false;
    for (struct bands b = { .run = r, .step.last = -1 }; b.step.last + 1 < r->links;) {
        int first = b.step.last + 1;
        b.step = step_at(r, first, band);
        if (!at_end) {
            /* The arena is a stack: the slab begins where it began, and the picture at its start stays. */
            device_release(d, mark);
            slab = device_vector(d, d->compute, slab_room(r, first, band));
        }
        const struct link *in = &r->link[first - !step_from_host(b.step)], *out = &r->link[b.step.last];
        size_t inner = device_mark(d);
        if (!step_from_host(b.step))
            b.picture = in_slab(slab, in, at_end);
        if (r->link[first].kind == ATTEND) {
            attend(r, r->link[first].layer, b.picture, b.step.rows, true);
            continue;
        }
        for (int i = first; i <= b.step.last; i++)
            for (int n = 0; n < norms_of(&r->link[i]); n++)
                find_moments(&b, i, n);
        bool upward = step_moves(r, b.step) && !at_end;
        make_result(&b, step_to_host(r, b.step) ? (struct strip){ 0 } : in_slab(slab, out, upward), upward);
        at_end ^= step_moves(r, b.step);
        device_release(d, inner);
    }
    device_release(d, mark);
}

/* --- tiles ---------------------------------------------------------------------------------- */

/* n pieces of `size` latents, evenly spread over the length, the same size each. */
struct axis { int length, size, n; };

static struct axis axis_make(int length, const struct vae_options *o)
{
    if (!o->tile || length <= o->tile)
        return (struct axis){ length, length, 1 };
    int step = o->tile - o->overlap;
    return (struct axis){ length, o->tile, 1 + (length - o->tile + step - 1) / step };
}

static int axis_start(const struct axis *a, int i)
{
    return a->n == 1 ? 0 : (int)((int64_t)i * (a->length - a->size) / (a->n - 1));
}

/* How far piece i has replaced the one before at place x, in units of 1/unit latents. */
static float ramp(const struct axis *a, int i, int x, int unit)
{
    if (i == 0)
        return 1;
    int from = axis_start(a, i) * unit, to = (axis_start(a, i - 1) + a->size) * unit;
    float t = ((float)(x - from) + 0.5f) / (float)(to - from);
    return t < 0 ? 0 : t > 1 ? 1 : t;
}

/* The weight of piece i; those of all pieces sum to 1. */
static float weight(const struct axis *a, int i, int x, int unit)
{
    float w = ramp(a, i, x, unit);
    for (int later = i + 1; later < a->n; later++)
        w *= 1 - ramp(a, later, x, unit);
    return w;
}

/* How a picture lies on the host: planes of [h * unit, w * unit, c], h and w in latents. */
struct layout { int planes, c, unit; };

struct tiling { struct axis y, x; };

static size_t layout_size(const struct layout *l, int h, int w)
{
    return (size_t)l->planes * (size_t)l->c * (size_t)(h * l->unit) * (size_t)(w * l->unit);
}

/* Tile (i, j) of `whole`: taken out into `tile`, or added to it with the tile's weights. */
static void tile_move(const struct tiling *t, int i, int j, const struct layout *l, float *whole, float *tile, bool out)
{
    int height = t->y.size * l->unit, width = t->x.size * l->unit;
    int top = axis_start(&t->y, i) * l->unit, left = axis_start(&t->x, j) * l->unit;
    for (int plane = 0; plane < l->planes; plane++)
        for (int y = 0; y < height; y++) {
            size_t row = (size_t)plane * (size_t)(t->y.length * l->unit) + (size_t)(top + y);
            float *at = whole + (row * (size_t)(t->x.length * l->unit) + (size_t)left) * (size_t)l->c;
            float down = weight(&t->y, i, top + y, l->unit);
            for (int x = 0; x < width; x++) {
                float w = down * weight(&t->x, j, left + x, l->unit);
                for (int k = 0; k < l->c; k++, at++, tile++) {
                    if (out)
                        *tile = *at;
                    else
                        *at += w * *tile;
                }
            }
        }
}

/* --- decoding and encoding ------------------------------------------------------------------- */
struct progress { int piece, pieces; };

static void run_all(struct run *r, int band, struct progress p)
{
    int ticks = band ? band_ticks(r, band) : whole_ticks(r);
    r->done = p.piece * ticks;
    r->of = p.pieces * ticks;
    if (band)
        run_bands(r, band);
    else
        run_whole(r);
}

static float *host_values(struct device *d, size_t n)
{
    float *p = malloc(n * sizeof *p);
    if (!p)
        err_set(&d->err, ERR_MEMORY, "VAE: out of memory");
    return p;
}

static void decode(const struct vae *v, struct device *d, int band, int h, int w, const float *latent, float *image,
                   struct progress progress)
{
    const struct vae_config *c = v->config;
    size_t n = (size_t)h * (size_t)w, channels = (size_t)c->latent_channels;
    float *z = latent && device_ok(d) ? host_values(d, n * channels) : NULL;
    for (size_t i = 0; z && i < n; i++)
        for (size_t j = 0; j < channels; j++)
            z[i * channels + j] = latent[j * n + i] / c->scaling + c->shift;
    struct run r = decoder_run(v, d, h, w);
    r.in = z;
    r.out = image;
    run_all(&r, band, progress);
    free(z);
}

static void encode(const struct vae *v, struct device *d, int band, int height, int width, const float *image,
                   float *latent, struct progress progress)
{
    const struct vae_config *c = v->config;
    struct run r = encoder_run(v, d, height, width);
    const struct link *last = &r.link[r.links - 1];
    size_t n = (size_t)(last->h * last->w), channels = (size_t)c->latent_channels;
    float *moments = latent && device_ok(d) ? host_values(d, n * 2 * channels) : NULL;
    r.in = image;
    r.out = moments;
    run_all(&r, band, progress);
    for (size_t i = 0; moments && device_ok(d) && i < n; i++)
        for (size_t j = 0; j < channels; j++)
            latent[j * n + i] = (moments[i * 2 * channels + j] - c->shift) * c->scaling;
    free(moments);
}

typedef void code(const struct vae *v, struct device *d, int band, int h, int w, const float *in, float *out,
                  struct progress p);

/* Tile after tile through `one`; h, w in latents. `in` is only read. */
static void in_tiles(const struct vae *v, struct device *d, int band, const struct tiling *t, code *one,
                     struct layout from, struct layout to, const float *in, float *out)
{
    int h = t->y.size, w = t->x.size;
    float *in_tile = NULL, *out_tile = NULL;
    if (out) {
        in_tile = host_values(d, layout_size(&from, h, w));
        out_tile = host_values(d, layout_size(&to, h, w));
        memset(out, 0, layout_size(&to, t->y.length, t->x.length) * sizeof *out);
    }
    for (int i = 0; i < t->y.n && device_ok(d); i++)
        for (int j = 0; j < t->x.n && device_ok(d); j++) {
            if (out)
                tile_move(t, i, j, &from, (float *)(uintptr_t)in, in_tile, true);
            one(v, d, band, h * from.unit, w * from.unit, in_tile, out_tile,
                (struct progress){ i * t->x.n + j, t->y.n * t->x.n });
            if (out && device_ok(d))
                tile_move(t, i, j, &to, out, out_tile, false);
        }
    free(in_tile);
    free(out_tile);
}

static struct layout latent_layout(const struct vae *v) { return (struct layout){ v->config->latent_channels, 1, 1 }; }
static struct layout image_layout(const struct vae *v) { return (struct layout){ 1, 3, v->config->factor }; }

void vae_decode(const struct vae *v, struct device *d, const struct vae_options *o, int h, int w, const float *latent,
                float *image)
{
    struct tiling t = { axis_make(h, o), axis_make(w, o) };
    if (t.y.n * t.x.n == 1)
        decode(v, d, o->band, h, w, latent, image, (struct progress){ 0, 1 });
    else
        in_tiles(v, d, o->band, &t, decode, latent_layout(v), image_layout(v), latent, image);
}

void vae_encode(const struct vae *v, struct device *d, const struct vae_options *o, int height, int width,
                const float *image, float *latent)
{
    int factor = v->config->factor;
    struct tiling t = { axis_make(height / factor, o), axis_make(width / factor, o) };
    if (t.y.n * t.x.n == 1)
        encode(v, d, o->band, height, width, image, latent, (struct progress){ 0, 1 });
    else
        in_tiles(v, d, o->band, &t, encode, image_layout(v), latent_layout(v), image, latent);
}

bool vae_smaller_band(int *band)
{
    if (*band && *band <= VAE_BAND_LEAST)
        return false;
    *band = *band ? *band / 2 : VAE_BAND_MOST;
    return true;
}
