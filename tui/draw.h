/* draw.h - a grid of cells, and the few strokes that fill it.
 *
 * Pure: no curses, no terminal. Colours are roles; the terminal decides what
 * they look like (256 colours, 8, or bold and reverse only). Only a picture's
 * cells carry RGB: each shows two pixels, one above the other. Everything is
 * clipped to the rectangle given and to the grid; nothing here can fail but
 * grid_resize. Text is UTF-8, of any origin; a newline shows
 * as a blank, other control characters as '?', those that change the direction of
 * reading or are invisible as U+FFFD. */
#ifndef SLUICE_DRAW_H
#define SLUICE_DRAW_H

#include "engine/image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum colour {
    COLOUR_TEXT,     /* the terminal's own foreground */
    COLOUR_DIM,      /* labels, help, what is not in use */
    COLOUR_BORDER,
    COLOUR_ACCENT,   /* the focus, the name, keys */
    COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD,
    COLOUR_BAR,      /* filled part of a bar; weights in the memory bars */
    COLOUR_BAR_ALSO, /* second part: activations */
    COLOUR_TRACK,    /* its empty part */
    COLOUR_COUNT
};

enum { CELL_BOLD = 1, CELL_REVERSE = 2, CELL_UNDERLINE = 4, CELL_PICTURE = 8 };

struct rect { int x, y, w, h; };

static inline bool rect_has(struct rect r, int x, int y)
{
    return x >= r.x && x < r.x + r.w && y >= r.y && y < r.y + r.h;
}

struct cell {
    char text[18];         /* one base character and its combining marks; "" = blank */
    uint8_t width;         /* 1, 2, or 0: right half of the wide one before */
    uint8_t attr;          /* CELL_* */
    uint8_t colour;        /* enum colour */
    uint32_t top, bottom;  /* CELL_PICTURE: 0xRRGGBB */
};

/* Where a terminal with pixels may paint over the picture cells. */
enum { GRID_PICTURES_MAX = 64 };
struct grid_picture {
    const struct image *image; /* borrowed from the view until its next event */
    struct rect at;
    uint64_t serial;           /* the image's own; changes with it */
    bool fine;                 /* a finished image, worth good dithering */
};

struct grid {
    int cols, rows;
    struct cell *cells;    /* rows * cols, owned */
    bool cursor_shown;
    int cursor_x, cursor_y;
    struct grid_picture picture[GRID_PICTURES_MAX]; /* apart from each other, the most wanted first */
    int pictures;
};

bool grid_resize(struct grid *g, int cols, int rows, struct err *e); /* also the first time, from {0} */
void grid_free(struct grid *g);
void grid_clear(struct grid *g);
/* Rows as text, trailing blanks cut, '\n' after each; picture cells as
 * U+2580. malloc'd; NULL when memory is refused. For tests. */
char *grid_text(const struct grid *g);

/* Writes text from (x, y) inside clip; returns the columns it took. */
int draw_text(struct grid *g, struct rect clip, int x, int y, enum colour c, int attr, const char *utf8);
int draw_bytes(struct grid *g, struct rect clip, int x, int y, enum colour c, int attr, const char *utf8,
               size_t n);
/* As draw_text; what does not fit in `width` columns ends in an ellipsis.
 * With `keep_end` the beginning is cut instead (for paths). */
int draw_fit(struct grid *g, struct rect clip, int x, int y, int width, enum colour c, int attr,
             const char *utf8, bool keep_end);
/* Ends at the right edge of clip. */
int draw_right(struct grid *g, struct rect clip, int y, enum colour c, int attr, const char *utf8);
/* Words wrapped into clip from row y on, at most max rows; returns the rows used. */
int draw_wrapped(struct grid *g, struct rect clip, int y, int max, enum colour c, int attr, const char *utf8);

/* A border with a title on its upper edge and a note at that edge's right end
 * (either may be NULL). */
void draw_box(struct grid *g, struct rect r, const char *title, const char *note, bool focused);
/* Over all that is there: pictures that it meets are offered no more. */
void draw_fill(struct grid *g, struct rect r, const char *utf8, enum colour c, int attr);
/* One row: `part` and then `also` of the width (0..1 each). Only characters that
 * xterm draws itself where the font lacks them, here and in draw_box. */
void draw_bar(struct grid *g, struct rect clip, int x, int y, int width, double part, double also);
/* Fills r with the image, two pixels a cell, area-averaged. */
bool draw_picture(struct grid *g, struct rect r, const struct image *im, struct err *e);
/* What is drawn so at r may be painted in pixels, too; beyond GRID_PICTURES_MAX it stays cells. */
void grid_offer(struct grid *g, struct rect r, const struct image *im, uint64_t serial, bool fine);

/* "812 B", "12.3 MB", "23.8 GB" (powers of 1000, as everywhere in sluice); "-"
 * for 0, which here always means unknown. */
const char *draw_size(size_t bytes, char buf[16]);
/* "0:04", "12:31", "1:02:03"; "-" for a negative (unknown). */
const char *draw_time(double seconds, char buf[16]);

#endif
