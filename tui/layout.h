/* layout.h - where everything goes on the main screen of so many cells.
 *
 * Pure arithmetic. Three shapes, chosen by size:
 *
 *   panels (from 72x20)                 compact (from 40x10)
 *   title                               title
 *   +prompt-----------------------+     > prompt, or the negative
 *   +negative---------------------+     settings, two rows
 *   +picture----+recent-++settings+     picture
 *   |           |       |+memory--+     memory (from 14 rows)
 *   +-----------+-------+|        |     progress
 *   queue                               message
 *   progress                            hints
 *   message
 *   hints
 *
 * and "too small" below 40x10. The negative prompt has rows of its own only once
 * it is used; before that it is a word on the prompt's lower edge. The strip of
 * recent pictures takes what a wide screen has beside a square picture. A
 * rectangle that has no room has h 0. Property (tested for every size): the
 * rectangles lie on the screen and do not meet. */
#ifndef SLUICE_LAYOUT_H
#define SLUICE_LAYOUT_H

#include "tui/draw.h"

enum layout_shape { LAYOUT_TOO_SMALL, LAYOUT_COMPACT, LAYOUT_PANELS };
enum { LAYOUT_MIN_COLS = 40, LAYOUT_MIN_ROWS = 10, LAYOUT_PANELS_COLS = 72, LAYOUT_PANELS_ROWS = 20 };

/* What the content would like. */
struct layout_want {
    int prompt_rows;   /* 1 or more */
    int negative_rows; /* 0: not in use */
    bool recent;       /* there are recent pictures to be shown */
};

struct layout {
    enum layout_shape shape;
    struct rect title;
    struct rect prompt_box;   /* panels: with its border; compact: equal to prompt */
    struct rect prompt;       /* the text; one column is kept free for the cursor at a row's end */
    struct rect negative_box, negative; /* the box's upper border is the prompt box's lower one */
    struct rect picture_box, picture;
    struct rect recent_box, recent;
    struct rect settings_box, settings;
    bool settings_pairs;      /* two settings a row */
    struct rect memory_box, memory;
    struct rect queue, progress, message, hints;
};

void layout_make(struct layout *l, int cols, int rows, const struct layout_want *want);

/* Width in which the prompt's text wraps, needed before layout_make can know
 * how many rows that takes. */
int layout_prompt_width(int cols, int rows);

/* The cells a picture of width x height px takes inside `room`, centred, with
 * cells of cell_w x cell_h px. */
struct rect layout_picture(struct rect room, int width, int height, int cell_w, int cell_h);

#endif
