/* layout.c - see layout.h. */
#include "tui/layout.h"
#include "tui/scale.h"

#include <string.h>

enum { SETTINGS_ROWS = 8 /* with border: five rows and the hint */, MEMORY_ROWS = 9 };

static struct rect inner(struct rect r)
{
    return (struct rect){ r.x + 1, r.y + 1, r.w - 2, r.h - 2 };
}

static enum layout_shape shape_of(int cols, int rows)
{
    if (cols < LAYOUT_MIN_COLS || rows < LAYOUT_MIN_ROWS) return LAYOUT_TOO_SMALL;
    if (cols < LAYOUT_WIDE_COLS || rows < LAYOUT_WIDE_ROWS) return LAYOUT_COMPACT;
    return LAYOUT_WIDE;
}

int layout_prompt_width(int cols, int rows)
{
    int w = shape_of(cols, rows) == LAYOUT_WIDE ? cols - 5 : cols - 3;

    return w > 1 ? w : 1;
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

static void wide(struct layout *l, int cols, int rows, int prompt_rows)
{
    int side = cols >= 140 ? 44 : cols >= 100 ? 38 : 32;
    int spare = rows - LAYOUT_WIDE_ROWS; /* rows beyond the least wide screen */
    int p = least(prompt_rows < 1 ? 1 : prompt_rows, 1 + (spare + 1) / 3);
    int y = 1, body;

    if (spare >= 4 && p < 2) p = 2; /* room to see that it wraps */
    p = least(p, 8);
    l->prompt_box = (struct rect){ 0, y, cols, p + 2 };
    l->prompt = (struct rect){ 2, y + 1, cols - 4, p };
    y += p + 2;
    body = rows - y - 3;
    l->picture_box = (struct rect){ 0, y, cols - side, body };
    l->picture = inner(l->picture_box);
    /* On a low screen the memory panel gives way first. */
    l->settings_box = (struct rect){ cols - side, y, side, least(SETTINGS_ROWS, body) };
    l->settings = inner(l->settings_box);
    l->settings.x++;
    l->settings.w -= 2;
    y += l->settings_box.h;
    body -= l->settings_box.h;
    if (body >= 3) {
        l->memory_box = (struct rect){ cols - side, y, side, body };
        l->memory = inner(l->memory_box);
        l->memory.x++;
        l->memory.w -= 2;
    } else {
        l->settings_box.h += body;
        l->settings.h += body;
    }
    l->progress = (struct rect){ 1, rows - 3, cols - 2, 1 };
    l->message = (struct rect){ 1, rows - 2, cols - 2, 1 };
    l->hints = (struct rect){ 1, rows - 1, cols - 2, 1 };
}

static void compact(struct layout *l, int cols, int rows, int prompt_rows)
{
    int p = least(prompt_rows < 1 ? 1 : prompt_rows, rows >= 20 ? 4 : rows >= 14 ? 3 : 1);
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

void layout_make(struct layout *l, int cols, int rows, int prompt_rows)
{
    memset(l, 0, sizeof *l);
    l->shape = shape_of(cols, rows);
    if (l->shape == LAYOUT_TOO_SMALL) return;
    l->title = (struct rect){ 0, 0, cols, 1 };
    if (l->shape == LAYOUT_WIDE) wide(l, cols, rows, prompt_rows);
    else compact(l, cols, rows, prompt_rows);
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
