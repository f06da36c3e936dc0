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

/* Bytes in pieces, between which other things may be written. Zeroed is empty. */
struct chunks { struct bytes b; size_t *end; int count, cap; };
void pieces_cut(struct chunks *p); /* a piece ends here */
void pieces_clear(struct chunks *p);
void pieces_free(struct chunks *p);

/* How a picture is to be made into pieces. Each begins with an address of its own. */
struct graphics_how {
    struct rect at;       /* cells */
    int cell_w, cell_h;   /* px */
    bool strips;          /* sixel: the cell's size is certain, strips of cells meet */
    size_t piece_bytes;   /* about; 0: one piece */
    size_t max_bytes;     /* 0: no limit; else it is made coarser until it fits, or is as coarse as it gets */
    size_t limit_bytes;   /* sixel: rather none than one that is larger; 0: no limit */
    bool fine;            /* a finished picture: as good as max_bytes allows */
    int colours;          /* sixel: registers, 2 to 256 */
    int height;           /* sixel: px, if not all of `at`; 0: all */
    int id, old_id;       /* kitty: this picture's; the one it takes the place of, 0: none */
    int *level;           /* how coarse the last one had to be: begun with, and left for the next; NULL: begin anew */
};

/* One or more sixel strings. At most 1000x996 px (xterm draws no more than 1000x1000), in at
 * most GRAPHICS_STRIPS strips (xterm keeps 16 pictures). Bands are 6 px high; what a last
 * band has too much is left transparent. False: not even the coarsest is within limit_bytes. */
enum { GRAPHICS_STRIPS = 12, GRAPHICS_LEVELS = 11 };
bool graphics_sixel(struct chunks *out, const struct image *im, const struct graphics_how *how, struct err *e);

/* Transmits in chunks of at most 4096 bytes, then places it, then deletes the old one. No
 * more pixels than it takes up. The terminal scales. */
bool graphics_kitty(struct chunks *out, const struct image *im, const struct graphics_how *how, struct err *e);
void graphics_kitty_delete(struct bytes *out, int id);
/* After some of its pieces, the rest will not come. */
void graphics_kitty_abandon(struct bytes *out);

/* The picture cells of g inside how->at, in 24-bit colour; leaves the colours reset. */
void graphics_blocks(struct chunks *out, const struct grid *g, const struct graphics_how *how);

#endif
