/* scale.c - see scale.h. */
#include "tui/scale.h"

#include <math.h>
#include <stdlib.h>

/* For each of `to` outputs: first input, and `taps` weights that sum to 1. */
struct filter { int taps, *first; float *weight; };

static float catmull_rom(float x)
{
    x = fabsf(x);
    if (x < 1) return 1 + x * x * (1.5f * x - 2.5f);
    if (x < 2) return 2 + x * (-4 + x * (2.5f - 0.5f * x));
    return 0;
}

/* `to` outputs of `from` inputs, which begin at `start`. */
static bool filter_make(struct filter *f, double start, double from, int to)
{
    double ratio = from / to;
    bool grow = to > from;

    f->taps = grow ? 4 : (int)ceil(ratio) + 1;
    f->first = malloc((size_t)to * sizeof *f->first);
    f->weight = malloc((size_t)to * (size_t)f->taps * sizeof *f->weight);
    if (!f->first || !f->weight) return false;
    for (int i = 0; i < to; i++) {
        float *w = f->weight + (size_t)i * (size_t)f->taps, sum = 0;
        double first = start + i * ratio, centre = start + (i + 0.5) * ratio - 0.5;

        f->first[i] = grow ? (int)floor(centre) - 1 : (int)floor(first);
        for (int t = 0; t < f->taps; t++) {
            int at = f->first[i] + t;
            if (grow) {
                w[t] = catmull_rom((float)(at - centre));
            } else {
                double a = fmax(at, first), b = fmin(at + 1, first + ratio);
                w[t] = b > a ? (float)(b - a) : 0;
            }
            sum += w[t];
        }
        for (int t = 0; t < f->taps; t++) w[t] /= sum;
    }
    return true;
}

static void filter_free(struct filter *f)
{
    free(f->first);
    free(f->weight);
}

static int inside(int i, int n)
{
    return i < 0 ? 0 : i >= n ? n - 1 : i;
}

struct image *scale_part(const struct image *im, double px, double py, double pw, double ph, int width, int height,
                         struct err *e)
{
    struct filter fx = { 0 }, fy = { 0 };
    struct image *out = NULL;
    float *rows = NULL; /* [bottom - top][width][3] */
    int top, bottom;

    if (width < 1 || height < 1 || im->width < 1 || im->height < 1 || !(pw > 0) || !(ph > 0)) {
        err_set(e, ERR_INPUT, "cannot scale a %dx%d picture to %dx%d", im->width, im->height, width, height);
        return NULL;
    }
    top = inside((int)floor(py) - 2, im->height);
    bottom = inside((int)ceil(py + ph) + 2, im->height) + 1;
    rows = malloc((size_t)(bottom - top) * (size_t)width * 3 * sizeof *rows);
    if (!rows || !filter_make(&fx, px, pw, width) || !filter_make(&fy, py, ph, height)) {
        err_set(e, ERR_MEMORY, "no memory to scale a picture to %dx%d", width, height);
        goto done;
    }
    out = image_new(width, height, e);
    if (!out) goto done;
    for (int y = top; y < bottom; y++)
        for (int x = 0; x < width; x++) {
            const float *w = fx.weight + (size_t)x * (size_t)fx.taps;
            float r = 0, g = 0, b = 0;
            for (int t = 0; t < fx.taps; t++) {
                const unsigned char *p =
                    im->rgb + ((size_t)y * (size_t)im->width + (size_t)inside(fx.first[x] + t, im->width)) * 3;
                r += w[t] * p[0];
                g += w[t] * p[1];
                b += w[t] * p[2];
            }
            float *o = rows + ((size_t)(y - top) * (size_t)width + (size_t)x) * 3;
            o[0] = r;
            o[1] = g;
            o[2] = b;
        }
    for (int y = 0; y < height; y++) {
        const float *w = fy.weight + (size_t)y * (size_t)fy.taps;
        for (int i = 0; i < width * 3; i++) {
            float v = 0.5f;
            for (int t = 0; t < fy.taps; t++) {
                int row = inside(inside(fy.first[y] + t, im->height) - top, bottom - top);
                v += w[t] * rows[(size_t)row * (size_t)width * 3 + (size_t)i];
            }
            out->rgb[(size_t)y * (size_t)width * 3 + (size_t)i] = (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
done:
    free(rows);
    filter_free(&fx);
    filter_free(&fy);
    return out;
}

struct image *scale_image(const struct image *im, int width, int height, struct err *e)
{
    return scale_part(im, 0, 0, im->width, im->height, width, height, e);
}

void scale_fit(int width, int height, double aspect, int max_w, int max_h, int *w, int *h)
{
    double by_w = (double)max_w / width, by_h = (double)max_h * aspect / height;
    double s = by_w < by_h ? by_w : by_h;

    *w = (int)(width * s + 0.5);
    *h = (int)(height * s / aspect + 0.5);
    if (*w > max_w) *w = max_w;
    if (*h > max_h) *h = max_h;
    if (*w < 1) *w = 1;
    if (*h < 1) *h = 1;
}
