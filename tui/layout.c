/* layout.c - see layout.h. */
#include "tui/layout.h"
#include "tui/scale.h"

#include <string.h>

/* With border. Settings: five rows of two, or nine of one with a hint and the button. */
enum { PAIRS_ROWS = 7, SINGLES_ROWS = 13, MEMORY_ROWS = 8, RECENT_COLS_LEAST = 20, RECENT_COLS_MOST = 66 };

static struct rect inner(struct rect r)
{
    return (struct rect){ r.x + 1, r.y + 1, r.w - 2, r.h - 2 };
}

static enum layout_shape shape_of(int cols, int rows)
{
    if (cols < LAYOUT_MIN_COLS || rows < LAYOUT_MIN_ROWS) return LAYOUT_TOO_SMALL;
    if (cols < LAYOUT_PANELS_COLS || rows < LAYOUT_PANELS_ROWS) return LAYOUT_COMPACT;
    return LAYOUT_PANELS;
}

int layout_prompt_width(int cols, int rows)
{
    int w = shape_of(cols, rows) == LAYOUT_PANELS ? cols - 5 : cols - 3;

    return w > 1 ? w : 1;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The text inside a box has a blank column on either side. */
static struct rect text_in(struct rect box)
{
    struct rect r = inner(box);

    r.x++;
    r.w -= 2;
    return r;
}

/* Beside a square picture of the body's height; cells are taken to be twice as tall as wide. */
static int recent_cols(int cols, int body)
{
    int spare = cols - (2 * (body - 2) + 6);

    return spare < RECENT_COLS_LEAST ? 0 : least(spare, RECENT_COLS_MOST);
}

static void panels(struct layout *l, int cols, int rows, const struct layout_want *want)
{
    int side = cols >= 160 ? 48 : cols >= 120 ? 44 : 42;
    int spare = rows - LAYOUT_PANELS_ROWS; /* rows beyond the least */
    int p = least(want->prompt_rows < 1 ? 1 : want->prompt_rows, 1 + (spare + 1) / 3), n = 0, y = 1, body, strip;

    if (spare >= 4 && p < 2) p = 2; /* room to see that it wraps */
    p = least(p, rows >= 50 ? 12 : 8);
    if (want->negative_rows) {
        n = least(want->negative_rows, 1 + spare / 8);
        p = p > 2 ? p - 1 : p;
    }
    l->prompt_box = (struct rect){ 0, y, cols, p + 2 };
    l->prompt = (struct rect){ 2, y + 1, cols - 4, p };
    y += p + 2;
    if (n) {
        l->negative_box = (struct rect){ 0, y, cols, n + 1 };
        l->negative = (struct rect){ 2, y, cols - 4, n };
        y += n + 1;
    }
    body = rows - y - 4;
    strip = want->recent ? recent_cols(cols - side, body) : 0;
    l->picture_box = (struct rect){ 0, y, cols - side - strip, body };
    l->picture = inner(l->picture_box);
    if (strip) {
        l->recent_box = (struct rect){ cols - side - strip, y, strip, body };
        l->recent = inner(l->recent_box);
    }
    /* On a low screen the memory panel gives way first. */
    l->settings_pairs = body < SINGLES_ROWS + MEMORY_ROWS;
    l->settings_box = (struct rect){ cols - side, y, side, least(l->settings_pairs ? PAIRS_ROWS : SINGLES_ROWS, body) };
    y += l->settings_box.h;
    body -= l->settings_box.h;
    if (body >= 3) {
        l->memory_box = (struct rect){ cols - side, y, side, body };
        l->memory = text_in(l->memory_box);
    } else {
        l->settings_box.h += body;
    }
    l->settings = text_in(l->settings_box);
    l->queue = (struct rect){ 1, rows - 4, cols - 2, 1 };
    l->progress = (struct rect){ 1, rows - 3, cols - 2, 1 };
    l->message = (struct rect){ 1, rows - 2, cols - 2, 1 };
    l->hints = (struct rect){ 1, rows - 1, cols - 2, 1 };
}

static void compact(struct layout *l, int cols, int rows, const struct layout_want *want)
{
    int p = least(want->prompt_rows < 1 ? 1 : want->prompt_rows, rows >= 20 ? 4 : rows >= 14 ? 3 : 1);
    int memory = rows >= 14, y = 1;

    l->prompt_box = (struct rect){ 0, y, cols, p };
    l->prompt = (struct rect){ 2, y, cols - 2, p };
    y += p;
    l->settings_box = l->settings = (struct rect){ 0, y, cols, 2 };
    y += 2;
    l->picture_box = l->picture = (struct rect){ 0, y, cols, rows - y - 3 - memory };
    y += l->picture.h;
    if (memory) l->memory_box = l->memory = (struct rect){ 0, y, cols, 1 };
    l->progress = (struct rect){ 0, rows - 3, cols, 1 };
    l->message = (struct rect){ 0, rows - 2, cols, 1 };
    l->hints = (struct rect){ 0, rows - 1, cols, 1 };
}

void layout_make(struct layout *l, int cols, int rows, const struct layout_want *want)
{
    memset(l, 0, sizeof *l);
    l->shape = shape_of(cols, rows);
    if (l->shape == LAYOUT_TOO_SMALL) return;
    l->title = (struct rect){ 0, 0, cols, 1 };
    if (l->shape == LAYOUT_PANELS) panels(l, cols, rows, want);
    else compact(l, cols, rows, want);
}

struct rect layout_picture(struct rect room, int width, int height, int cell_w, int cell_h)
{
    struct rect r = room;

    if (room.w < 1 || room.h < 1 || width < 1 || height < 1) return (struct rect){ room.x, room.y, 0, 0 };
    scale_fit(width, height, (double)cell_h / cell_w, room.w, room.h, &r.w, &r.h);
    r.x += (room.w - r.w) / 2;
    r.y += (room.h - r.h) / 2;
    return r;
}
