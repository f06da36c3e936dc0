/* taef1.c - see taef1.h. */
#include "engine/taef1.h"

#include "engine/layer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINKS = 64, NAME_BYTES = 64 };

enum kind { BLOCK, UP, OUT };

struct link {
    enum kind kind;
    struct conv conv[3]; /* BLOCK: three; else one */
};

struct taef1 {
    struct weights *weights;
    int channels, width, factor, blocks, links;
    struct conv in;
    struct link link[MAX_LINKS]; /* the last is OUT */
    size_t bytes;
};

/* --- the file ---------------------------------------------------------------------- */

static bool has(const struct weights *w, const char *prefix, int at, const char *rest)
{
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s%d%s", prefix, at, rest);
    return weights_has(w, name);
}

static bool is_block(const struct weights *w, const char *prefix, int at)
{
    return has(w, prefix, at, ".conv.0.weight") || has(w, prefix, at, ".conv.2.weight") ||
           has(w, prefix, at, ".conv.4.weight");
}

static struct conv take(struct taef1 *t, struct layer_loader *l, int out, int in, bool bias, const char *prefix, int at,
                        const char *rest)
{
    char stem[NAME_BYTES], name[NAME_BYTES + 8];
    struct conv c = { 0 };
    snprintf(stem, sizeof stem, "%s%d%s", prefix, at, rest);
    snprintf(name, sizeof name, "%s.weight", stem);
    if (bias)
        c = layer_conv(l, out, in, 3, "%s", stem);
    else if (!l->failed)
        l->failed = !weights_get(l->weights, &c.w, name, WEIGHTS_SHAPE(out, in, 3, 3), l->err);
    if (!l->failed)
        t->bytes += tensor_bytes(c.w) + (bias ? tensor_bytes(c.b) : 0);
    return c;
}

static bool fault(const struct taef1 *t, struct layer_loader *l, const char *what)
{
    l->failed = true;
    return err_set(l->err, ERR_INPUT, "taef1: %.200s: %s", weights_path(t->weights, 0), what);
}

/* The link at place `at` of the list; returns where the next is. */
static int take_link(struct taef1 *t, struct layer_loader *l, const char *prefix, int at)
{
    const struct weights *w = t->weights;
    struct link *k = &t->link[t->links++];
    int n = t->width;
    char what[4 * NAME_BYTES];
    if (is_block(w, prefix, at)) {
        static const char *const names[] = { ".conv.0", ".conv.2", ".conv.4" };
        k->kind = BLOCK;
        for (int i = 0; i < 3; i++)
            k->conv[i] = take(t, l, n, n, true, prefix, at, names[i]);
        t->blocks++;
        return at + 1;
    }
    if (has(w, prefix, at, ".weight")) {
        k->kind = OUT;
        k->conv[0] = take(t, l, 3, n, true, prefix, at, "");
        return at + 1;
    }
    if (has(w, prefix, at + 1, ".weight")) { /* `at` is the enlargement, which has no weights */
        k->kind = UP;
        k->conv[0] = take(t, l, n, n, false, prefix, at + 1, "");
        t->factor *= 2;
        return at + 2;
    }
    snprintf(what, sizeof what, "expected tensor %s%d.conv.0.weight (a block), %s%d.weight (an enlargement) or "
             "%s%d.weight (the end), found none of them", prefix, at, prefix, at + 1, prefix, at);
    fault(t, l, what);
    return at;
}

static bool load(struct taef1 *t, int latent_channels, int factor, struct err *e)
{
    struct layer_loader l = { t->weights, e, false };
    /* The clamp has no weights, and a place only in the first list. */
    bool diffusers = has(t->weights, "decoder.layers.", 0, ".weight");
    const char *prefix = diffusers ? "decoder.layers." : "";
    int at = diffusers ? 0 : 1;
    char what[160];
    struct tensor first;
    if (!has(t->weights, prefix, at, ".weight"))
        return fault(t, &l, "expected TAEF1's decoder (a tensor 1.weight or decoder.layers.0.weight), found neither: an "
                     "encoder's file has no decoder");
    snprintf(what, sizeof what, "%s%d.weight", prefix, at);
    if (!weights_get(t->weights, &first, what, WEIGHTS_SHAPE(-1, latent_channels, 3, 3), e))
        return false;
    t->channels = latent_channels;
    t->width = (int)first.shape[0];
    t->factor = 1;
    t->in = take(t, &l, t->width, latent_channels, true, prefix, at, "");
    at += 2; /* behind the convolution is its ReLU */
    while (!l.failed && t->links < MAX_LINKS && !(t->links && t->link[t->links - 1].kind == OUT))
        at = take_link(t, &l, prefix, at);
    if (l.failed)
        return false;
    if (t->link[t->links - 1].kind != OUT)
        return fault(t, &l, "expected at most 64 blocks and enlargements, found more");
    if (t->factor != factor) {
        snprintf(what, sizeof what, "expected a decoder that enlarges %d times, as the model's VAE does, found %d times: "
                 "it is another model's", factor, t->factor);
        return fault(t, &l, what);
    }
    return true;
}

bool taef1_open(struct taef1 **out, const char *path, int latent_channels, int factor, struct err *e)
{
    *out = NULL;
    struct taef1 *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "taef1: out of memory");
    static const char suffix[] = ".safetensors";
    size_t n = strlen(path), s = sizeof suffix - 1;
    bool is_file = n > s && !strcmp(path + n - s, suffix);
    bool ok = is_file ? weights_open_file(&t->weights, path, "taef1", e)
                      : weights_open_dir(&t->weights, path, "taef1", e);
    if (!ok || !load(t, latent_channels, factor, e)) {
        taef1_close(t);
        return false;
    }
    *out = t;
    return true;
}

void taef1_close(struct taef1 *t)
{
    if (!t)
        return;
    weights_close(t->weights);
    free(t);
}

const struct weights *taef1_weights(const struct taef1 *t) { return t->weights; }
size_t taef1_bytes(const struct taef1 *t) { return t->bytes; }
int taef1_width(const struct taef1 *t) { return t->width; }
int taef1_blocks(const struct taef1 *t) { return t->blocks; }

/* --- decoding ------------------------------------------------------------------------ */

/* The picture is in one of three slabs, each as large as the largest. */
struct canvas {
    struct device *d;
    struct tensor slab[3];
    int at;
    int64_t h, w;
};

/* A picture of c channels in the slab `away` from the picture's. */
static struct tensor view(const struct canvas *p, int away, int64_t c)
{
    struct tensor s = p->slab[(p->at + away) % 3];
    return tensor_3d(s.data, s.dtype, p->h, p->w, c);
}

static void relu(struct device *d, struct tensor x)
{
    struct tensor rows = tensor_as_2d(x, x.shape[0], x.shape[1] * x.shape[2]);
    device_activate(d, rows, rows, ACT_RELU);
}

static struct tensor bring_tensor(struct device *d, struct tensor t)
{
    struct tensor here = device_tensor(d, t.dtype, t.ndim, t.shape);
    device_upload(d, here, t.data);
    return here;
}

static struct conv bring(struct device *d, const struct conv *c)
{
    struct conv here = { .w = bring_tensor(d, c->w) };
    if (tensor_present(c->b))
        here.b = bring_tensor(d, c->b);
    return here;
}

/* conv(x), the weights brought for it. */
static void convolve(struct device *d, struct tensor y, struct tensor x, const struct conv *c, bool accumulate)
{
    size_t mark = device_mark(d);
    struct conv here = bring(d, c);
    apply_conv(d, y, x, &here, accumulate);
    device_release(d, mark);
}

static void apply_link(struct canvas *p, const struct link *l, int64_t width)
{
    struct device *d = p->d;
    struct tensor x = view(p, 0, width), a = view(p, 1, width), b = view(p, 2, width);
    switch (l->kind) {
    case BLOCK:
        convolve(d, a, x, &l->conv[0], false);
        relu(d, a);
        convolve(d, b, a, &l->conv[1], false);
        relu(d, b);
        convolve(d, x, b, &l->conv[2], true);
        relu(d, x);
        break;
    case UP:
        p->h *= 2;
        p->w *= 2;
        device_upsample2x(d, view(p, 1, width), x);
        convolve(d, view(p, 2, width), view(p, 1, width), &l->conv[0], false);
        p->at += 2;
        break;
    case OUT:
        convolve(d, view(p, 1, 3), x, &l->conv[0], false);
        p->at += 1;
        break;
    }
}

/* Between the host's F32 and a picture, in pieces of about a quarter of a million values. */
static void transfer(struct device *d, struct tensor picture, bool up, const float *from, float *to)
{
    int64_t row = picture.shape[1] * picture.shape[2], rows = (1 << 18) / row + 1;
    for (int64_t y = 0; y < picture.shape[0]; y += rows) {
        size_t mark = device_mark(d);
        int64_t n = y + rows < picture.shape[0] ? rows : picture.shape[0] - y;
        struct tensor piece = tensor_as_2d(tensor_rows(picture, y, n), n, row), wide = device_matrix(d, DT_F32, n, row);
        if (up) {
            device_upload(d, wide, from ? from + y * row : NULL);
            device_copy(d, piece, wide);
        } else {
            device_copy(d, wide, piece);
            device_download(d, to ? to + y * row : NULL, wide);
        }
        device_release(d, mark);
    }
}

/* [h/scale, w/scale, channels]: averaged, and clamped as the decoder's first layer does. NULL: out of memory. */
static float *reduced(const struct taef1 *t, int scale, int h, int w, const float *latent)
{
    size_t rows = (size_t)(h / scale), cols = (size_t)(w / scale), channels = (size_t)t->channels, side = (size_t)scale;
    float *z = malloc(rows * cols * channels * sizeof *z), *at = z;
    for (size_t y = 0; z && y < rows; y++)
        for (size_t x = 0; x < cols; x++)
            for (size_t c = 0; c < channels; c++, at++) {
                float sum = 0;
                for (size_t i = 0; i < side * side; i++)
                    sum += latent[(c * (size_t)h + y * side + i / side) * (size_t)w + x * side + i % side];
                *at = 3 * tanhf(sum / (float)(side * side) / 3);
            }
    return z;
}

void taef1_decode(const struct taef1 *t, struct device *d, int scale, int h, int w, const float *latent, float *image)
{
    void (*served)(struct device *, struct tensor *, struct tensor *) = d->weights;
    struct canvas p = { .d = d, .h = h / scale, .w = w / scale };
    size_t mark = device_mark(d), pixels = (size_t)(p.h * p.w * t->factor * t->factor);
    float *z = latent && device_ok(d) ? reduced(t, scale, h, w, latent) : NULL;
    if (latent && device_ok(d) && !z)
        err_set(&d->err, ERR_MEMORY, "taef1: out of memory");
    d->weights = NULL;
    int64_t wide = t->width > 3 ? t->width : 3, most = p.h * p.w * (wide > t->channels ? wide : t->channels);
    if (most < (int64_t)pixels * wide)
        most = (int64_t)pixels * wide;
    for (int i = 0; i < 3; i++)
        p.slab[i] = device_vector(d, d->compute, most);
    if (device_ok(d)) {
        transfer(d, view(&p, 0, t->channels), true, z, NULL);
        convolve(d, view(&p, 1, t->width), view(&p, 0, t->channels), &t->in, false);
        p.at = 1;
        relu(d, view(&p, 0, t->width));
        for (int i = 0; i < t->links; i++)
            apply_link(&p, &t->link[i], t->width);
        transfer(d, view(&p, 0, 3), false, NULL, image);
    }
    d->weights = served;
    device_release(d, mark);
    for (size_t i = 0; image && device_ok(d) && i < 3 * pixels; i++)
        image[i] = 2 * image[i] - 1;
    free(z);
}
