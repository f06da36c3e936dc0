/* tiles.h - small pictures in a grid, each with a line below it. Pure. */
#ifndef SLUICE_TILES_H
#define SLUICE_TILES_H

#include "tui/draw.h"

/* So many fit; each has w x h cells, its caption the last of its rows, and a column free at its right. */
struct tiles { struct rect r; int across, down, w, h, cell_w, cell_h; };

/* Square ones of 20 columns or more, or of 18, for two rows 12, where they leave less of r empty. Cells of cell_w x cell_h px. At least
 * one. */
struct tiles tiles_in(struct rect r, int cell_w, int cell_h);
/* Where tile i is, counted from the first on the screen. */
struct rect tiles_at(const struct tiles *t, int i);
/* The tile at a cell; -1: none. */
int tiles_hit(const struct tiles *t, int x, int y);
/* The first row of tiles on the screen: `row`, but so that `chosen` of `count` shows and no row is wasted. */
int tiles_scroll(const struct tiles *t, int row, int chosen, int count);

struct tile {
    const struct image *im;  /* NULL: its place is marked; else borrowed as a grid's pictures are */
    uint64_t serial;         /* the image's own; 0: it is not offered in pixels */
    const char *caption;
    enum colour colour;      /* the caption's */
    bool chosen;
};
/* False only when memory is refused. */
bool tiles_draw(const struct tiles *t, struct grid *g, int i, const struct tile *what, struct err *e);

#endif
