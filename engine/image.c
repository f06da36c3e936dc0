/* image.c - see image.h. */
#include "engine/image.h"

#include "engine/file.h"

#include <limits.h>
#include <math.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define STBI_NO_STDIO
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>

enum { SIDE_MAX = 16384, FILE_MAX = 1 << 29, TEXT_MAX = 64 << 20 };

struct image *image_new(int width, int height, struct err *e)
{
    if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX) {
        err_set(e, ERR_INPUT, "an image of %d x %d pixels: expected 1 to %d a side", width, height,
                SIDE_MAX);
        return NULL;
    }
    struct image *im = calloc(1, sizeof *im + (size_t)width * (size_t)height * 3);
    if (!im) {
        err_set(e, ERR_MEMORY, "no memory for an image of %d x %d pixels", width, height);
        return NULL;
    }
    im->width = width;
    im->height = height;
    return im;
}

void image_free(struct image *im) { free(im); }

static size_t image_bytes(const struct image *im)
{
    return (size_t)im->width * (size_t)im->height * 3;
}

struct image *image_copy(const struct image *im, struct err *e)
{
    struct image *copy = image_new(im->width, im->height, e);
    if (copy)
        memcpy(copy->rgb, im->rgb, image_bytes(im));
    return copy;
}

struct image *image_from_tensor(struct tensor hwc, struct err *e)
{
    if (hwc.ndim != 3 || hwc.shape[2] != 3 || hwc.dtype != DT_F32 || hwc.shape[0] > SIDE_MAX ||
        hwc.shape[1] > SIDE_MAX) {
        char found[128];
        err_set(e, ERR_INPUT, "an image needs F32 [height, width, 3], found %s",
                tensor_describe(hwc, found, sizeof found));
        return NULL;
    }
    struct image *im = image_new((int)hwc.shape[1], (int)hwc.shape[0], e);
    if (!im)
        return NULL;
    unsigned char *out = im->rgb;
    for (int64_t y = 0; y < hwc.shape[0]; y++)
        for (int64_t x = 0; x < hwc.shape[1]; x++) {
            const float *p = (const float *)hwc.data + y * hwc.stride[0] + x * hwc.stride[1];
            for (int c = 0; c < 3; c++) {
                float v = p[c] / 2 + 0.5f;
                v = v > 0 ? v : 0; /* NaN too */
                *out++ = (unsigned char)lrintf((v < 1 ? v : 1) * 255);
            }
        }
    return im;
}

struct image *image_resize(const struct image *im, int width, int height, struct err *e)
{
    struct image *to = image_new(width, height, e);
    if (!to)
        return NULL;
    unsigned char *out = to->rgb;
    for (int y = 0; y < height; y++) {
        int64_t y0 = (int64_t)y * im->height / height, y1 = (int64_t)(y + 1) * im->height / height;
        y1 = y1 > y0 ? y1 : y0 + 1;
        for (int x = 0; x < width; x++) {
            int64_t x0 = (int64_t)x * im->width / width, x1 = (int64_t)(x + 1) * im->width / width;
            x1 = x1 > x0 ? x1 : x0 + 1;
            uint64_t sum[3] = { 0 }, n = (uint64_t)((x1 - x0) * (y1 - y0));
            for (int64_t v = y0; v < y1; v++) {
                const unsigned char *p = im->rgb + (v * im->width + x0) * 3;
                for (int64_t u = x0; u < x1; u++, p += 3)
                    for (int c = 0; c < 3; c++)
                        sum[c] += p[c];
            }
            for (int c = 0; c < 3; c++)
                *out++ = (unsigned char)((sum[c] + n / 2) / n);
        }
    }
    return to;
}

/* --- PNG -------------------------------------------------------------------- */

/* What libpng's callbacks see: where bytes go, who is told. */
struct stream {
    struct file_out out;
    const char *path;
    struct err *e;
};

static void on_error(png_structp png, png_const_charp text)
{
    struct stream *s = png_get_error_ptr(png);
    err_set(s->e, ERR_INPUT, "%s: PNG: %s", s->path, text);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void on_write(png_structp png, png_bytep data, size_t bytes)
{
    struct stream *s = png_get_io_ptr(png);
    if (!file_out_write(&s->out, data, bytes, s->e))
        png_error(png, "cannot write");
}

static void on_flush(png_structp png) { (void)png; }

static bool is_ascii(const char *s)
{
    for (; *s; s++)
        if (*s != '\n' && ((unsigned char)*s < 0x20 || (unsigned char)*s > 0x7e))
            return false;
    return true;
}

static bool texts_fit(const struct image_text *texts, size_t count, const char *path, struct err *e)
{
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(texts[i].key);
        if (n < 1 || n > 79 || !is_ascii(texts[i].key))
            return err_set(e, ERR_INPUT, "%s: text key \"%.100s\": expected 1 to 79 plain letters",
                           path, texts[i].key);
        if (strlen(texts[i].value) > INT_MAX / 2)
            return err_set(e, ERR_INPUT, "%s: text \"%s\" is too long for a PNG", path,
                           texts[i].key);
    }
    return true;
}

/* Everything that may longjmp, apart, so that no local of the caller is lost. */
static bool encode(png_structp png, png_infop info, const struct image *im, png_textp texts,
                   size_t count)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_compression_buffer_size(png, 1 << 16);
    png_set_IHDR(png, info, (png_uint_32)im->width, (png_uint_32)im->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (count)
        png_set_text(png, info, texts, (int)count);
    png_write_info(png, info);
    for (int y = 0; y < im->height; y++)
        png_write_row(png, im->rgb + (size_t)y * (size_t)im->width * 3);
    png_write_end(png, NULL);
    return true;
}

bool image_write_png(const struct image *im, const char *path, const struct image_text *texts,
                     size_t count, struct err *e)
{
    if (!texts_fit(texts, count, path, e))
        return false;
    bool ok = false;
    struct err own = { 0 };
    struct stream s = { .path = path, .e = e ? e : &own };
    png_infop info = NULL;
    png_textp list = calloc(count + 1, sizeof *list);
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    if (png)
        info = png_create_info_struct(png);
    if (!list || !info) {
        err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        list[i].key = (png_charp)(uintptr_t)texts[i].key;
        list[i].text = (png_charp)(uintptr_t)texts[i].value;
        list[i].compression = is_ascii(texts[i].value) ? PNG_TEXT_COMPRESSION_NONE
                                                       : PNG_ITXT_COMPRESSION_NONE;
    }
    if (!file_out_open(&s.out, path, e))
        goto done;
    png_set_write_fn(png, &s, on_write, on_flush);
    ok = encode(png, info, im, list, count);
    if (ok)
        ok = file_out_commit(&s.out, e);
    else
        file_out_abandon(&s.out);
done:
    png_destroy_write_struct(&png, &info);
    free(list);
    return ok;
}

struct image *image_read_memory(const void *file, size_t bytes, const char *name, struct err *e)
{
    const unsigned char *data = file;
    struct image *im = NULL;
    unsigned char *pixels = NULL;
    int width, height, channels;
    if (bytes > FILE_MAX || !stbi_info_from_memory(data, (int)bytes, &width, &height, &channels)) {
        err_set(e, ERR_INPUT, "%s: not a PNG, JPEG or BMP picture (%s)", name, stbi_failure_reason());
    } else if (width < 1 || height < 1 || width > SIDE_MAX || height > SIDE_MAX) {
        err_set(e, ERR_INPUT, "%s: %d x %d pixels, expected 1 to %d a side", name, width, height,
                SIDE_MAX);
    } else if (!(pixels = stbi_load_from_memory(data, (int)bytes, &width, &height, &channels, 3))) {
        const char *why = stbi_failure_reason();
        if (!strcmp(why, "outofmem"))
            err_set(e, ERR_MEMORY, "%s: no memory for its %d x %d pixels", name, width, height);
        else
            err_set(e, ERR_INPUT, "%s: damaged picture (%s)", name, why);
    } else if ((im = image_new(width, height, e))) {
        memcpy(im->rgb, pixels, image_bytes(im));
    }
    stbi_image_free(pixels);
    return im;
}

struct image *image_read(const char *path, struct err *e)
{
    size_t bytes;
    char *data = file_read(path, FILE_MAX, &bytes, e);
    struct image *im = data ? image_read_memory(data, bytes, path, e) : NULL;
    free(data);
    return im;
}

/* --- JPEG ------------------------------------------------------------------- */

struct growing {
    unsigned char *data;
    size_t used, room;
    bool failed;
};

static void on_jpeg(void *user, void *data, int n)
{
    struct growing *g = user;
    if (!g->failed && g->used + (size_t)n > g->room) {
        size_t room = 2 * (g->used + (size_t)n) + 4096;
        unsigned char *grown = realloc(g->data, room);
        g->failed = !grown;
        if (grown) {
            g->data = grown;
            g->room = room;
        }
    }
    if (g->failed)
        return;
    memcpy(g->data + g->used, data, (size_t)n);
    g->used += (size_t)n;
}

unsigned char *image_jpeg(const struct image *im, int quality, size_t *bytes, struct err *e)
{
    struct growing g = { 0 };
    if (stbi_write_jpg_to_func(on_jpeg, &g, im->width, im->height, 3, im->rgb, quality) && !g.failed) {
        *bytes = g.used;
        return g.data;
    }
    free(g.data);
    err_set(e, ERR_MEMORY, "no memory for a JPEG of %d x %d pixels", im->width, im->height);
    return NULL;
}

/* --- text of a PNG ---------------------------------------------------------- */

/* Text read here, chunk by chunk, and not by libpng, which gives the chunks after
 * the pixels only to those who decode them. */

/* Decompressed, malloc'd; NULL with e set. */
static unsigned char *text_inflate(const unsigned char *p, size_t bytes, size_t *length,
                                   const char *path, struct err *e)
{
    z_stream z = { .next_in = (unsigned char *)(uintptr_t)p, .avail_in = (uInt)bytes };
    size_t room = 4 * bytes + 1024;
    unsigned char *out = NULL, *more;
    int rc = inflateInit(&z);
    while (rc == Z_OK && z.total_out < TEXT_MAX && (more = realloc(out, room))) {
        out = more;
        z.next_out = out + z.total_out;
        z.avail_out = (uInt)(room - z.total_out);
        rc = inflate(&z, Z_NO_FLUSH);
        room *= 2;
    }
    *length = z.total_out;
    inflateEnd(&z);
    if (rc == Z_STREAM_END)
        return out;
    free(out);
    err_set(e, ERR_INPUT, "%s: PNG: a compressed text is damaged or longer than 64 MB", path);
    return NULL;
}

static char *text_copy(const unsigned char *p, size_t bytes, bool latin, const char *path,
                       struct err *e)
{
    unsigned char *copy = malloc(2 * bytes + 1), *to = copy;
    if (!copy) {
        err_set(e, ERR_MEMORY, "%s: no memory for its text", path);
        return NULL;
    }
    for (; bytes && *p; p++, bytes--) {
        if (latin && *p >= 0x80) {
            *to++ = (unsigned char)(0xc0 | *p >> 6);
            *to++ = 0x80 | (*p & 0x3f);
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    return (char *)copy;
}

/* After the next 0 byte of the chunk, or NULL. */
static const unsigned char *after_zero(const unsigned char *p, const unsigned char *end)
{
    p = p ? memchr(p, 0, (size_t)(end - p)) : NULL;
    return p ? p + 1 : NULL;
}

/* The text of one chunk if it is of key; NULL, with e set if it is damaged. */
static char *chunk_text(const unsigned char *chunk, size_t bytes, const char *key, const char *path,
                        struct err *e)
{
    const unsigned char *p = chunk + 8, *end = p + bytes, *text = after_zero(p, end);
    bool plain = !memcmp(chunk + 4, "tEXt", 4), packed = !memcmp(chunk + 4, "zTXt", 4);
    bool unicode = !memcmp(chunk + 4, "iTXt", 4);
    if (!(plain || packed || unicode) || !text || strcmp((const char *)p, key))
        return NULL;
    if (packed) {
        text = end - text >= 1 ? text + 1 : NULL; /* method */
    } else if (unicode && end - text >= 2) {
        packed = text[0] != 0;
        text = after_zero(after_zero(text + 2, end), end); /* language, translated key */
    } else if (unicode) {
        text = NULL;
    }
    if (!text) {
        err_set(e, ERR_INPUT, "%s: PNG: the text \"%.79s\" is damaged", path, key);
        return NULL;
    }
    if (!packed)
        return text_copy(text, (size_t)(end - text), plain, path, e);
    size_t length;
    unsigned char *whole = text_inflate(text, (size_t)(end - text), &length, path, e);
    char *copy = whole ? text_copy(whole, length, !unicode, path, e) : NULL;
    free(whole);
    return copy;
}

bool image_text_memory(const void *file, size_t bytes, const char *name, const char *key, char **text, struct err *e)
{
    struct err own = { 0 };
    const unsigned char *data = file;
    e = e ? e : &own;
    *text = NULL;
    if (bytes < 8 || memcmp(data, "\x89PNG\r\n\x1a\n", 8))
        return err_set(e, ERR_INPUT, "%s: not a PNG picture", name);
    for (size_t at = 8; !*text && !e->kind && bytes - at >= 12;) {
        const unsigned char *c = data + at; /* length, type, data, CRC of type and data */
        size_t n = (size_t)png_get_uint_32(c);
        if (n > bytes - at - 12 || crc32(0, c + 4, (uInt)n + 4) != png_get_uint_32(c + 8 + n))
            return err_set(e, ERR_INPUT, "%s: PNG: damaged or truncated after %zu bytes", name, at);
        *text = chunk_text(c, n, key, name, e);
        at += 12 + n;
    }
    return !e->kind;
}

char *image_read_text(const char *path, const char *key, struct err *e)
{
    size_t bytes;
    char *text = NULL, *data = file_read(path, FILE_MAX, &bytes, e);
    if (data && image_text_memory(data, bytes, path, key, &text, e) && !text)
        err_set(e, ERR_INPUT, "%s: no text \"%.79s\" in this PNG", path, key);
    free(data);
    return text;
}
