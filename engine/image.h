/* image.h - 8-bit RGB pictures: in memory, to PNG, from a file.
 *
 * An image is owned by whoever holds the pointer; sending it in an event hands
 * it over. */
#ifndef SLUICE_IMAGE_H
#define SLUICE_IMAGE_H

#include "kernels/err.h"
#include "kernels/tensor.h"

struct image {
    int width, height;
    unsigned char rgb[]; /* height * width * 3, rows from the top */
};

struct image *image_new(int width, int height, struct err *e); /* zeroed */
void image_free(struct image *im);                             /* NULL is fine */
struct image *image_copy(const struct image *im, struct err *e);

/* From [height, width, 3] F32 in -1..1; clamps, rounds to nearest as
 * diffusers' VaeImageProcessor does ((x/2+0.5) clamped, x255, round). NaN
 * becomes 0. */
struct image *image_from_tensor(struct tensor hwc, struct err *e);

/* Box-filter down or nearest up to width x height. */
struct image *image_resize(const struct image *im, int width, int height, struct err *e);

struct image_text { const char *key, *value; }; /* key: 1-79 Latin-1 letters; value: UTF-8 */

/* PNG with iTXt chunks (UTF-8; tEXt when the value is ASCII), written to a
 * temporary name in the same folder, synced, renamed. A full disk or an
 * unwritable folder leaves nothing behind. */
bool image_write_png(const struct image *im, const char *path, const struct image_text *texts,
                     size_t count, struct err *e);

/* PNG, JPEG, BMP through stb_image; at most 16384 px a side. */
struct image *image_read(const char *path, struct err *e);

/* The same of a file's bytes in memory; `name` is for the errors. */
struct image *image_read_memory(const void *data, size_t bytes, const char *name, struct err *e);

/* As JPEG: for thumbnails, a fifth of a PNG's size. malloc'd, *bytes of it; quality 1 to 100. */
unsigned char *image_jpeg(const struct image *im, int quality, size_t *bytes, struct err *e);

/* The text chunk `key` of a PNG, malloc'd, or NULL with e set. */
char *image_read_text(const char *path, const char *key, struct err *e);

/* The same of a file's bytes in memory; `name` is for the errors. *text NULL: it has none.
 * False: no PNG, damaged, or no memory. */
bool image_text_memory(const void *data, size_t bytes, const char *name, const char *key, char **text, struct err *e);

#endif
