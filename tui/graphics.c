/* graphics.c - see graphics.h. */
#include "tui/graphics.h"
#include "tui/scale.h"

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

/* --- sixel --------------------------------------------------------------------- */

static int sixel_write(char *data, int size, void *to)
{
    bytes_add(to, data, (size_t)size);
    return size;
}

static bool sixel_once(struct bytes *out, const struct image *im, int colours, bool fine, struct err *e)
{
    sixel_dither_t *dither = NULL;
    sixel_output_t *output = NULL;
    unsigned char *pixels = malloc((size_t)im->width * (size_t)im->height * 3);
    bool ok = false;

    /* Error diffusion writes into its input. */
    if (!pixels || SIXEL_FAILED(sixel_dither_new(&dither, colours, NULL)) ||
        SIXEL_FAILED(sixel_output_new(&output, sixel_write, out, NULL))) {
        err_set(e, ERR_MEMORY, "no memory to encode a picture of %dx%d as sixel", im->width, im->height);
        goto done;
    }
    memcpy(pixels, im->rgb, (size_t)im->width * (size_t)im->height * 3);
    if (SIXEL_FAILED(sixel_dither_initialize(dither, pixels, im->width, im->height, SIXEL_PIXELFORMAT_RGB888,
                                             SIXEL_LARGE_NORM, SIXEL_REP_CENTER_BOX,
                                             fine ? SIXEL_QUALITY_HIGH : SIXEL_QUALITY_LOW))) {
        err_set(e, ERR_DEVICE, "libsixel finds no palette for a picture of %dx%d", im->width, im->height);
        goto done;
    }
    sixel_dither_set_diffusion_type(dither, fine ? SIXEL_DIFFUSE_FS : SIXEL_DIFFUSE_NONE);
    /* P2=1: pixels that are not set stay as they are. libsixel's own envelope
     * would leave P2 out, which some terminals read as "fill with colour 0". */
    sixel_output_set_skip_dcs_envelope(output, 1);
    bytes_text(out, "\033P0;1"); /* the encoder begins with the "q" */
    if (SIXEL_FAILED(sixel_encode(pixels, im->width, im->height, 3, dither, output))) {
        err_set(e, ERR_DEVICE, "libsixel cannot encode a picture of %dx%d", im->width, im->height);
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

bool graphics_sixel(struct bytes *out, const struct image *im, int width, int height, int colours, bool fine,
                    size_t max_bytes, struct err *e)
{
    size_t start = out->count;
    struct image *scaled;
    bool ok;

    if (width > 1000) width = 1000;
    if (height > 996) height = 996; /* whole bands, whatever the terminal makes of half ones */
    if (colours > 256) colours = 256;
    if (!fine && colours > 128) colours = 128;
    if (colours < 2) colours = 2;
    scaled = scale_image(im, width, height, e);
    if (!scaled) return false;
    for (;;) {
        ok = sixel_once(out, scaled, colours, fine, e);
        if (!ok || !max_bytes || out->count - start <= max_bytes) break;
        out->count = start;
        if (fine) fine = false;
        else if (colours > 8) colours /= 2;
        else {
            ok = err_set(e, ERR_INPUT, "a picture of %dx%d needs more than %zu bytes of sixel", width, height, max_bytes);
            break;
        }
    }
    if (!ok) out->count = start;
    image_free(scaled);
    return ok;
}

/* --- kitty --------------------------------------------------------------------- */

enum { KITTY_ID = 7341, KITTY_CHUNK = 4096 };

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

bool graphics_kitty(struct bytes *out, const struct image *im, int cols, int rows, int max_px, struct err *e)
{
    struct image *small = NULL;
    struct bytes text = { 0 };
    unsigned char *png;
    size_t n = 0;
    int w, h;

    if (im->width > max_px || im->height > max_px) {
        scale_fit(im->width, im->height, 1, max_px, max_px, &w, &h);
        small = scale_image(im, w, h, e);
        if (!small) return false;
        im = small;
    }
    if (!to_png(im, &png, &n, e)) {
        image_free(small);
        return false;
    }
    image_free(small);
    base64(&text, png, n);
    free(png);
    /* The same id replaces what it showed before, without a flash. */
    for (size_t at = 0; at < text.count; at += KITTY_CHUNK) {
        size_t part = text.count - at < KITTY_CHUNK ? text.count - at : KITTY_CHUNK;
        int more = at + part < text.count;
        if (at == 0) bytes_format(out, "\033_Ga=T,f=100,i=%d,p=1,q=2,C=1,c=%d,r=%d,m=%d;", KITTY_ID, cols, rows, more);
        else bytes_format(out, "\033_Gm=%d,q=2;", more);
        bytes_add(out, text.data + at, part);
        bytes_text(out, "\033\\");
    }
    if (text.lost) out->lost = true;
    bytes_free(&text);
    return !out->lost || err_set(e, ERR_MEMORY, "no memory to send a picture");
}

void graphics_kitty_clear(struct bytes *out)
{
    bytes_format(out, "\033_Ga=d,d=I,i=%d,q=2\033\\", KITTY_ID);
}

/* --- half-blocks ----------------------------------------------------------------- */

void graphics_blocks(struct bytes *out, const struct grid *g, struct rect r)
{
    for (int y = r.y; y < r.y + r.h; y++) {
        uint32_t top = 0xffffffff, bottom = 0xffffffff;
        bool at = false;
        for (int x = r.x; x < r.x + r.w; x++) {
            const struct cell *c = &g->cells[y * g->cols + x];
            if (!(c->attr & CELL_PICTURE)) { /* something lies over the picture here */
                at = false;
                continue;
            }
            if (!at) bytes_format(out, "\033[%d;%dH", y + 1, x + 1);
            at = true;
            if (c->top != top) bytes_format(out, "\033[38;2;%u;%u;%um", c->top >> 16, c->top >> 8 & 255, c->top & 255);
            if (c->bottom != bottom)
                bytes_format(out, "\033[48;2;%u;%u;%um", c->bottom >> 16, c->bottom >> 8 & 255, c->bottom & 255);
            top = c->top;
            bottom = c->bottom;
            bytes_text(out, "▀");
        }
    }
    bytes_text(out, "\033[0m");
}
