/* layout.h - where everything goes on a screen of so many cells.
 *
 * Pure arithmetic. Three shapes, chosen by size:
 *
 *   wide (from 72x20)             compact (from 40x10)
 *   title                         title
 *   +prompt-------------------+   > prompt
 *   +picture------++settings--+   settings, two rows
 *   |             |+memory----+   picture
 *   +-------------+|          |   memory (from 14 rows)
 *   progress                      progress
 *   message                       message
 *   hints                         hints
 *
 * and "too small" below 40x10. A rectangle that has no room has h 0. Property
 * (tested for every size): the rectangles lie on the screen and do not meet. */
#ifndef SLUICE_LAYOUT_H
#define SLUICE_LAYOUT_H

#include "tui/draw.h"

enum layout_shape { LAYOUT_TOO_SMALL, LAYOUT_COMPACT, LAYOUT_WIDE };
enum { LAYOUT_MIN_COLS = 40, LAYOUT_MIN_ROWS = 10, LAYOUT_WIDE_COLS = 72, LAYOUT_WIDE_ROWS = 20 };

struct layout {
    enum layout_shape shape;
    struct rect title;
    struct rect prompt_box;   /* wide: with its border; compact: equal to prompt */
    struct rect prompt;       /* the text; one column is kept free for the cursor at a row's end */
    struct rect picture_box, picture;
    struct rect settings_box, settings;
    struct rect memory_box, memory;
    struct rect progress, message, hints;
};

/* prompt_rows: how many rows the prompt would like (1 or more). */
void layout_make(struct layout *l, int cols, int rows, int prompt_rows);

/* Width in which the prompt's text wraps, needed before layout_make can know
 * how many rows that takes. */
int layout_prompt_width(int cols, int rows);

/* The cells a picture of width x height px takes inside `room`, centred, with
 * cells of cell_w x cell_h px. */
struct rect layout_picture(struct rect room, int width, int height, int cell_w, int cell_h);

#endif
