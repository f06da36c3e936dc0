/* graphics.c - see graphics.h. */
#include "tui/graphics.h"
#include "tui/scale.h"

#include <limits.h>
#include <math.h>
#include <png.h>
#include <sixel/sixel.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[GRAPHICS_COUNT] = { "auto", "sixel", "kitty", "blocks", "none" };

const char *graphics_name(enum graphics k)
{
    return names[k];
}

bool graphics_from_name(enum graphics *out, const char *name)
{
    for (int i = 0; i < GRAPHICS_COUNT; i++)
        if (!strcmp(names[i], name)) {
            *out = (enum graphics)i;
            return true;
        }
    return false;
}

/* --- bytes ------------------------------------------------------------------- */

void bytes_add(struct bytes *b, const void *data, size_t n)
{
    if (b->lost) return;
    if (b->count + n > b->cap) {
        size_t cap = (b->count + n) * 2 + 1024;
        char *grown = realloc(b->data, cap);
        if (!grown) {
            b->lost = true;
            return;
        }
        b->data = grown;
        b->cap = cap;
    }
    memcpy(b->data + b->count, data, n);
    b->count += n;
}

void bytes_text(struct bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

void bytes_format(struct bytes *b, const char *format, ...)
{
    char text[256];
    va_list ap;
    int n;

    va_start(ap, format);
    n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n > 0) bytes_add(b, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    memset(b, 0, sizeof *b);
}

void pieces_cut(struct chunks *p)
{
    if (p->b.count == (p->count ? p->end[p->count - 1] : 0)) return;
    if (p->count == p->cap) {
        int cap = p->cap * 2 + 16;
        size_t *grown = realloc(p->end, (size_t)cap * sizeof *grown);
        if (!grown) {
            p->b.lost = true;
            return;
        }
        p->end = grown;
        p->cap = cap;
    }
    p->end[p->count++] = p->b.count;
}

void pieces_clear(struct chunks *p)
{
    p->b.count = 0;
    p->b.lost = false;
    p->count = 0;
}

void pieces_free(struct chunks *p)
{
    bytes_free(&p->b);
    free(p->end);
    memset(p, 0, sizeof *p);
}

static int less(int a, int b)
{
    return a < b ? a : b;
}

static void address(struct bytes *out, int x, int y)
{
    bytes_format(out, "\033[%d;%dH", y + 1, x + 1);
}

/* --- sixel --------------------------------------------------------------------- */

/* From the best to the coarsest: colours, error diffusion, px that are alike each way. */
static const struct { int colours; bool diffuse; int block; } levels[GRAPHICS_LEVELS] = {
    { 256, true, 1 }, { 128, true, 1 }, { 128, false, 1 }, { 64, false, 1 }, { 32, false, 1 }, { 32, false, 2 },
    { 16, false, 2 }, { 16, false, 3 }, { 12, false, 4 },  { 8, false, 6 },  { 6, false, 10 },
};

/* A picture as indices into a palette. */
struct paletted { int width, height, colours; unsigned char *index, palette[256 * 3]; };

static int nearest(const struct paletted *p, int r, int g, int b)
{
    int best = 0, least = INT_MAX;

    for (int i = 0; i < p->colours; i++) {
        int dr = r - p->palette[3 * i], dg = g - p->palette[3 * i + 1], db = b - p->palette[3 * i + 2];
        int d = 2 * dr * dr + 4 * dg * dg + 3 * db * db; /* as the eye weighs them */
        if (d < least) {
            least = d;
            best = i;
        }
    }
    return best;
}

static int byte(int v)
{
    return v < 0 ? 0 : v > 255 ? 255 : v;
}

/* Every pixel's nearest colour, with its error spread over the neighbours if `diffuse`
 * (Floyd and Steinberg). Nearest colours are looked up once for each 8x8x8 of RGB. */
static bool assign(struct paletted *p, const struct image *im, bool diffuse)
{
    int w = im->width, h = im->height;
    int16_t *known = malloc(32 * 32 * 32 * sizeof *known);
    int *error = calloc((size_t)(w + 2) * 3 * 2, sizeof *error); /* of this row and the next, 1/16ths */
    bool ok = known && error;

    for (int i = 0; ok && i < 32 * 32 * 32; i++) known[i] = -1;
    for (int y = 0; ok && y < h; y++) {
        size_t row = (size_t)(w + 2) * 3;
        int *now = error + (y & 1 ? row : 0) + 3, *next = error + (y & 1 ? 0 : row) + 3;
        memset(next - 3, 0, row * sizeof *next);
        for (int x = 0; x < w; x++) {
            const unsigned char *px = im->rgb + ((size_t)y * (size_t)w + (size_t)x) * 3;
            int v[3], at;
            for (int k = 0; k < 3; k++) v[k] = diffuse ? byte(px[k] + (now[3 * x + k] + 8) / 16) : px[k];
            at = (v[0] >> 3) << 10 | (v[1] >> 3) << 5 | v[2] >> 3;
            if (known[at] < 0) known[at] = (int16_t)nearest(p, (v[0] & ~7) + 4, (v[1] & ~7) + 4, (v[2] & ~7) + 4);
            p->index[(size_t)y * (size_t)w + (size_t)x] = (unsigned char)known[at];
            for (int k = 0; diffuse && k < 3; k++) {
                int off = v[k] - p->palette[3 * known[at] + k];
                now[3 * (x + 1) + k] += 7 * off;
                next[3 * (x - 1) + k] += 3 * off;
                next[3 * x + k] += 5 * off;
                next[3 * (x + 1) + k] += off;
            }
        }
    }
    free(known);
    free(error);
    return ok;
}

static bool to_palette(struct paletted *p, const struct image *im, int colours, bool diffuse, struct err *e)
{
    sixel_dither_t *dither = NULL;
    unsigned char *pixels = malloc((size_t)im->width * (size_t)im->height * 3); /* libsixel's are not const */
    bool ok = false;

    p->width = im->width;
    p->height = im->height;
    p->index = malloc((size_t)im->width * (size_t)im->height);
    if (!pixels || !p->index || SIXEL_FAILED(sixel_dither_new(&dither, colours, NULL))) {
        err_set(e, ERR_MEMORY, "no memory to encode a picture of %dx%d as sixel", im->width, im->height);
        goto done;
    }
    memcpy(pixels, im->rgb, (size_t)im->width * (size_t)im->height * 3);
    if (SIXEL_FAILED(sixel_dither_initialize(dither, pixels, im->width, im->height, SIXEL_PIXELFORMAT_RGB888,
                                             SIXEL_LARGE_NORM, SIXEL_REP_CENTER_BOX,
                                             diffuse ? SIXEL_QUALITY_HIGH : SIXEL_QUALITY_LOW))) {
        err_set(e, ERR_DEVICE, "libsixel finds no palette for a picture of %dx%d", im->width, im->height);
        goto done;
    }
    p->colours = sixel_dither_get_num_of_palette_colors(dither);
    memcpy(p->palette, sixel_dither_get_palette(dither), (size_t)p->colours * 3);
    ok = assign(p, im, diffuse) || err_set(e, ERR_MEMORY, "no memory to encode a picture as sixel");
done:
    if (dither) sixel_dither_unref(dither);
    free(pixels);
    return ok;
}

static int sixel_write(char *data, int size, void *to)
{
    bytes_add(to, data, (size_t)size);
    return size;
}

/* Rows [top, top + height) of a picture of `width` px, of whose pixels each is block x block
 * of them, with the colours that it uses. */
static bool strip(struct bytes *out, const struct paletted *p, int width, int top, int height, int block, struct err *e)
{
    sixel_dither_t *dither = NULL;
    sixel_output_t *output = NULL;
    unsigned char *pixels = malloc((size_t)width * (size_t)height), palette[256 * 3];
    int new_of[256], colours = 0;
    bool ok = false;

    memset(new_of, -1, sizeof new_of);
    for (int y = 0; pixels && y < height; y++)
        for (int x = 0; x < width; x++) {
            int i = p->index[(size_t)((top + y) / block) * (size_t)p->width + (size_t)(x / block)];
            if (new_of[i] < 0) {
                new_of[i] = colours;
                memcpy(palette + 3 * colours++, p->palette + 3 * i, 3);
            }
            pixels[(size_t)y * (size_t)width + (size_t)x] = (unsigned char)new_of[i];
        }
    if (!pixels || SIXEL_FAILED(sixel_dither_new(&dither, colours, NULL)) ||
        SIXEL_FAILED(sixel_output_new(&output, sixel_write, out, NULL))) {
        err_set(e, ERR_MEMORY, "no memory to encode a picture of %dx%d as sixel", width, height);
        goto done;
    }
    sixel_dither_set_palette(dither, palette);
    sixel_dither_set_pixelformat(dither, SIXEL_PIXELFORMAT_PAL8);
    sixel_dither_set_diffusion_type(dither, SIXEL_DIFFUSE_NONE);
    /* P2=1: pixels that are not set stay as they are. libsixel's own envelope
     * would leave P2 out, which some terminals read as "fill with colour 0". */
    sixel_output_set_skip_dcs_envelope(output, 1);
    bytes_text(out, "\033P0;1"); /* the encoder begins with the "q" */
    if (SIXEL_FAILED(sixel_encode(pixels, width, height, 1, dither, output))) {
        err_set(e, ERR_DEVICE, "libsixel cannot encode a picture of %dx%d", width, height);
        goto done;
    }
    bytes_text(out, "\033\\");
    ok = !out->lost || err_set(e, ERR_MEMORY, "no memory for a picture's sixel bytes");
done:
    if (output) sixel_output_unref(output);
    if (dither) sixel_dither_unref(dither);
    free(pixels);
    return ok;
}

/* All of it in strips of `rows` rows of cells. */
static bool strips(struct chunks *out, const struct paletted *p, int width, int height, int rows, int block,
                   const struct graphics_how *how, struct err *e)
{
    for (int row = 0, top = 0; top < height; row += rows, top = row * how->cell_h) {
        int h = height - top < rows * how->cell_h ? height - top : rows * how->cell_h;
        address(&out->b, how->at.x, how->at.y + row);
        if (!strip(&out->b, p, width, top, h, block, e)) return false;
        pieces_cut(out);
    }
    return true;
}

static bool sixel_at_level(struct chunks *out, const struct image *im, int width, int height, int level,
                           const struct graphics_how *how, struct err *e)
{
    int block = levels[level].block, colours = less(levels[level].colours, how->colours);
    int w = (width + block - 1) / block, h = (height + block - 1) / block, n;
    struct paletted p = { 0 };
    struct image *scaled = scale_image(im, w, h, e);
    bool ok = scaled && to_palette(&p, scaled, colours, levels[level].diffuse, e) &&
              strips(out, &p, width, height, how->at.h + 1, block, how, e);

    n = how->piece_bytes ? (int)(out->b.count / how->piece_bytes) + 1 : 1;
    if (n > GRAPHICS_STRIPS) n = GRAPHICS_STRIPS;
    if (ok && n > 1 && how->strips) {
        int rows = (how->at.h + n - 1) / n;
        pieces_clear(out);
        ok = strips(out, &p, width, height, rows, block, how, e);
    }
    image_free(scaled);
    free(p.index);
    return ok;
}

/* The best level at which a picture that took so many bytes at `level` may still fit: each
 * takes about 1.8 times what the one below it does. */
static int level_for(int level, size_t bytes, size_t most)
{
    for (double b = 1.8 * (double)bytes; level > 0 && b < 0.9 * (double)most; b *= 1.8) level--;
    return level;
}

bool graphics_sixel(struct chunks *out, const struct image *im, const struct graphics_how *how, struct err *e)
{
    int width = how->at.w * how->cell_w, height = how->height ? how->height : how->at.h * how->cell_h;
    int level = how->fine ? 0 : how->level && *how->level < GRAPHICS_LEVELS ? *how->level : 1;
    bool better = true; /* not tried yet */
    struct graphics_how h = *how;

    if (width > 1000) width = 1000;
    if (height > 996) height = 996; /* whole bands, whatever the terminal makes of half ones */
    h.colours = how->colours < 2 ? 2 : how->colours > 256 ? 256 : how->colours;
    for (;; level++) {
        pieces_clear(out);
        if (!sixel_at_level(out, im, width, height, level, &h, e)) break;
        if (level + 1 < GRAPHICS_LEVELS && how->max_bytes && out->b.count > how->max_bytes) {
            better = false;
            continue;
        }
        if (how->limit_bytes && out->b.count > how->limit_bytes) {
            if (level + 1 < GRAPHICS_LEVELS) continue;
            err_set(e, ERR_INPUT, "a picture of %dx%d needs more than %zu bytes of sixel", width, height,
                    how->limit_bytes);
            break;
        }
        if (how->level && !how->fine) {
            *how->level = level_for(level, out->b.count, how->max_bytes);
            if (better && *how->level + 1 < level) { /* much better goes: at once */
                better = false;
                level = *how->level - 1;
                continue;
            }
        }
        return true;
    }
    pieces_clear(out);
    return false;
}

/* --- kitty --------------------------------------------------------------------- */

enum { KITTY_CHUNK = 4096, KITTY_PREVIEW_PX = 512, KITTY_PX = 4096 };

static void base64(struct bytes *out, const unsigned char *p, size_t n)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char quad[4];

    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) | (i + 2 < n ? p[i + 2] : 0);
        quad[0] = digit[v >> 18];
        quad[1] = digit[v >> 12 & 63];
        quad[2] = i + 1 < n ? digit[v >> 6 & 63] : '=';
        quad[3] = i + 2 < n ? digit[v & 63] : '=';
        bytes_add(out, quad, 4);
    }
}

static bool to_png(const struct image *im, unsigned char **data, size_t *n, struct err *e)
{
    png_image p = { .version = PNG_IMAGE_VERSION, .width = (png_uint_32)im->width, .height = (png_uint_32)im->height,
                    .format = PNG_FORMAT_RGB, .flags = PNG_IMAGE_FLAG_FAST };
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(p);

    *data = malloc(size);
    if (!*data) return err_set(e, ERR_MEMORY, "no memory to send a picture of %dx%d", im->width, im->height);
    if (!png_image_write_to_memory(&p, *data, &size, 0, im->rgb, 0, NULL)) {
        free(*data);
        return err_set(e, ERR_DEVICE, "libpng cannot encode a picture: %s", p.message);
    }
    *n = size;
    return true;
}

/* As a PNG of at most max_w x max_h px. */
static bool shrunk_png(const struct image *im, int max_w, int max_h, unsigned char **data, size_t *n, struct err *e)
{
    struct image *small = NULL;
    int w, h;
    bool ok;

    if (im->width > max_w || im->height > max_h) {
        scale_fit(im->width, im->height, 1, max_w, max_h, &w, &h);
        if (!(small = scale_image(im, w, h, e))) return false;
    }
    ok = to_png(small ? small : im, data, n, e);
    image_free(small);
    return ok;
}

bool graphics_kitty(struct chunks *out, const struct image *im, const struct graphics_how *how, struct err *e)
{
    int most = how->fine ? KITTY_PX : KITTY_PREVIEW_PX;
    int w = less(less(how->at.w * how->cell_w, most), im->width);
    int h = less(less(how->at.h * how->cell_h, most), im->height);
    struct bytes text = { 0 };
    unsigned char *png = NULL;
    size_t n = 0, since = 0, chunk = KITTY_CHUNK;

    for (int tries = 0;; tries++) {
        if (!shrunk_png(im, w, h, &png, &n, e)) return false;
        if (!how->max_bytes || n * 4 / 3 <= how->max_bytes || tries == 6 || (w <= 16 && h <= 16)) break;
        double smaller = sqrt((double)how->max_bytes / ((double)n * 4 / 3)) * 0.95;
        w = w * smaller < 16 ? less(w, 16) : (int)(w * smaller);
        h = h * smaller < 16 ? less(h, 16) : (int)(h * smaller);
        free(png);
    }
    base64(&text, png, n);
    free(png);
    pieces_clear(out);
    /* A chunk ends at a whole group of four, but for the last. */
    if (how->piece_bytes && how->piece_bytes < chunk) chunk = how->piece_bytes < 256 ? 256 : how->piece_bytes / 4 * 4;
    for (size_t at = 0; at < text.count; at += chunk) {
        size_t part = text.count - at < chunk ? text.count - at : chunk;
        int more = at + part < text.count;
        if (at == 0) bytes_format(&out->b, "\033_Ga=t,f=100,i=%d,q=2,m=%d;", how->id, more);
        else bytes_format(&out->b, "\033_Gm=%d,q=2;", more);
        bytes_add(&out->b, text.data + at, part);
        bytes_text(&out->b, "\033\\");
        if (how->piece_bytes && out->b.count - since >= how->piece_bytes) {
            pieces_cut(out);
            since = out->b.count;
        }
    }
    /* Shown when it is all there, over the one before: no flash. */
    address(&out->b, how->at.x, how->at.y);
    bytes_format(&out->b, "\033_Ga=p,i=%d,p=1,q=2,C=1,c=%d,r=%d\033\\", how->id, how->at.w, how->at.h);
    if (how->old_id) graphics_kitty_delete(&out->b, how->old_id);
    pieces_cut(out);
    if (text.lost) out->b.lost = true;
    bytes_free(&text);
    return !out->b.lost || err_set(e, ERR_MEMORY, "no memory to send a picture");
}

void graphics_kitty_delete(struct bytes *out, int id)
{
    bytes_format(out, "\033_Ga=d,d=I,i=%d,q=2\033\\", id);
}

void graphics_kitty_abandon(struct bytes *out)
{
    bytes_text(out, "\033_Gm=0,q=2;\033\\");
}

/* --- half-blocks ----------------------------------------------------------------- */

/* A colour so near to the one in use that it need not be said. */
static bool near_enough(uint32_t a, uint32_t b, int off)
{
    for (int s = 0; s <= 16; s += 8)
        if (abs((int)(a >> s & 255) - (int)(b >> s & 255)) > off) return false;
    return true;
}

static void blocks(struct chunks *out, const struct grid *g, const struct graphics_how *how, int off)
{
    const uint32_t none = 0xffffffff;
    struct bytes *b = &out->b;
    struct rect r = how->at;

    for (int y = r.y; y < r.y + r.h; y++) {
        uint32_t top = none, bottom = none;
        bool at = false;
        for (int x = r.x; x < r.x + r.w; x++) {
            const struct cell *c = &g->cells[y * g->cols + x];
            if (!(c->attr & CELL_PICTURE)) { /* something lies over the picture here */
                at = false;
                continue;
            }
            if (!at) address(b, x, y);
            at = true;
            if (top == none || !near_enough(c->top, top, off)) {
                top = c->top;
                bytes_format(b, "\033[38;2;%u;%u;%um", top >> 16, top >> 8 & 255, top & 255);
            }
            if (bottom == none || !near_enough(c->bottom, bottom, off)) {
                bottom = c->bottom;
                bytes_format(b, "\033[48;2;%u;%u;%um", bottom >> 16, bottom >> 8 & 255, bottom & 255);
            }
            bytes_text(b, "▀");
            if (how->piece_bytes && b->count - (out->count ? out->end[out->count - 1] : 0) >= how->piece_bytes) {
                bytes_text(b, "\033[0m");
                pieces_cut(out);
                top = bottom = none;
                at = false;
            }
        }
    }
    bytes_text(b, "\033[0m");
    pieces_cut(out);
}

void graphics_blocks(struct chunks *out, const struct grid *g, const struct graphics_how *how)
{
    for (int off = 0; off <= 64; off += 16) {
        pieces_clear(out);
        blocks(out, g, how, off);
        if (!how->max_bytes || how->fine || out->b.count <= how->max_bytes) return;
    }
}
