/* graphics.h - a picture as the bytes a terminal wants: sixel, the kitty
 * protocol, or true-colour half-blocks.
 *
 * Makes bytes; writes nothing, asks nothing. Sixel goes through libsixel's
 * encoder on paletted dithers only (its loaders and decoder are never called). */
#ifndef SLUICE_GRAPHICS_H
#define SLUICE_GRAPHICS_H

#include "engine/image.h"
#include "tui/draw.h"

enum graphics { GRAPHICS_AUTO, GRAPHICS_SIXEL, GRAPHICS_KITTY, GRAPHICS_BLOCKS, GRAPHICS_NONE, GRAPHICS_COUNT };
const char *graphics_name(enum graphics k); /* "auto", "sixel", ... */
bool graphics_from_name(enum graphics *out, const char *name);

/* Bytes on their way to the terminal. Zeroed is empty. When memory is refused
 * `lost` is set and everything further is dropped: send nothing then. */
struct bytes { char *data; size_t count, cap; bool lost; };
void bytes_add(struct bytes *b, const void *data, size_t n);
void bytes_text(struct bytes *b, const char *text);
void bytes_format(struct bytes *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void bytes_free(struct bytes *b);

/* Scales im to width x height px (capped at 1000x996; xterm draws no more
 * than 1000x1000) and appends one DCS string. Bands are 6 px high; what a last
 * band has too much is left transparent. `fine`:
 * error diffusion and all `colours` (2..256), for a finished picture; without,
 * at most 128 and no diffusion, for a preview. If it comes out larger than
 * max_bytes (0: no limit) it is made coarser; false if it still is. */
bool graphics_sixel(struct bytes *out, const struct image *im, int width, int height, int colours, bool fine,
                    size_t max_bytes, struct err *e);

/* Appends a transmit-and-place in cols x rows cells at the cursor, which does
 * not move. The terminal scales. At most max_px pixels a side are sent. */
bool graphics_kitty(struct bytes *out, const struct image *im, int cols, int rows, int max_px, struct err *e);
void graphics_kitty_clear(struct bytes *out); /* takes it off the screen */

/* The picture cells of g inside r, in 24-bit colour, each row placed by its own
 * cursor address; leaves the colours reset. */
void graphics_blocks(struct bytes *out, const struct grid *g, struct rect r);

#endif
