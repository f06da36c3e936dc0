/* tiles.c - see tiles.h. */
#include "tui/tiles.h"

#include "tui/layout.h"

enum { COLUMNS = 20, COLUMNS_FULL = 18, COLUMNS_LEAST = 12 };

static int rows_of(int w, int cell_w, int cell_h)
{
    return ((w - 1) * cell_w + cell_h - 1) / cell_h + 1;
}

static struct tiles with(struct rect r, int across, int cell_w, int cell_h)
{
    struct tiles t = { .r = r, .w = r.w / across, .cell_w = cell_w, .cell_h = cell_h };

    t.h = rows_of(t.w, cell_w, cell_h);
    while (t.h > r.h && t.w > 6) t.h = rows_of(--t.w, cell_w, cell_h);
    if (t.h > r.h) t.h = r.h > 2 ? r.h : 2;
    t.across = r.w / t.w < 1 ? 1 : r.w / t.w;
    t.down = r.h / t.h < 1 ? 1 : r.h / t.h;
    return t;
}

struct tiles tiles_in(struct rect r, int cell_w, int cell_h)
{
    int across = r.w / COLUMNS < 1 ? 1 : r.w / COLUMNS;
    struct tiles best = with(r, across, cell_w, cell_h), t;

    /* Somewhat smaller where more of r is theirs then, and small ones for a second row; those beyond what a grid offers
     * would be of another kind. */
    while (r.w / ++across >= (best.down < 2 ? COLUMNS_LEAST : COLUMNS_FULL)) {
        t = with(r, across, cell_w, cell_h);
        if (t.across * t.down <= GRID_PICTURES_MAX && t.across * t.w * t.down * t.h > best.across * best.w * best.down * best.h)
            best = t;
    }
    return best;
}

struct rect tiles_at(const struct tiles *t, int i)
{
    return (struct rect){ t->r.x + i % t->across * t->w, t->r.y + i / t->across * t->h, t->w - 1, t->h };
}

int tiles_hit(const struct tiles *t, int x, int y)
{
    if (!rect_has(t->r, x, y)) return -1;
    x = (x - t->r.x) / t->w;
    y = (y - t->r.y) / t->h;
    return x < t->across && y < t->down ? y * t->across + x : -1;
}

int tiles_scroll(const struct tiles *t, int row, int chosen, int count)
{
    int at = chosen / t->across, last = (count + t->across - 1) / t->across - t->down;

    if (row > last) row = last;
    if (at >= row + t->down) row = at - t->down + 1;
    if (at < row) row = at;
    return row < 0 ? 0 : row;
}

bool tiles_draw(const struct tiles *t, struct grid *g, int i, const struct tile *what, struct err *e)
{
    struct rect at = tiles_at(t, i), room = { at.x, at.y, at.w, at.h - 1 }, line = { at.x, at.y + at.h - 1, at.w, 1 };
    const struct image *im = what->im;

    if (im) {
        room = layout_picture(room, im->width, im->height, t->cell_w, t->cell_h);
        if (!draw_picture(g, room, im, e)) return false;
        if (what->serial) grid_offer(g, room, im, what->serial, true);
    } else {
        draw_text(g, room, room.x + room.w / 2, room.y + room.h / 2, COLOUR_DIM, 0, "·");
    }
    if (what->chosen) draw_fill(g, line, " ", COLOUR_ACCENT, CELL_REVERSE);
    draw_fit(g, line, line.x, line.y, line.w, what->chosen ? COLOUR_ACCENT : what->colour,
             what->chosen ? CELL_BOLD | CELL_REVERSE : 0, what->caption, false);
    return true;
}
