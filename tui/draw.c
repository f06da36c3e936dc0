/* draw.c - see draw.h. */
#include "tui/draw.h"
#include "tui/edit.h"
#include "tui/scale.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool grid_resize(struct grid *g, int cols, int rows, struct err *e)
{
    struct cell *cells;

    if (cols < 1) cols = 1;
    if (rows < 1) rows = 1;
    cells = calloc((size_t)cols * (size_t)rows, sizeof *cells);
    if (!cells) return err_set(e, ERR_MEMORY, "no memory for a screen of %dx%d cells", cols, rows);
    free(g->cells);
    *g = (struct grid){ .cols = cols, .rows = rows, .cells = cells };
    grid_clear(g);
    return true;
}

void grid_free(struct grid *g)
{
    free(g->cells);
    memset(g, 0, sizeof *g);
}

void grid_clear(struct grid *g)
{
    memset(g->cells, 0, (size_t)g->cols * (size_t)g->rows * sizeof *g->cells);
    for (int i = 0; i < g->cols * g->rows; i++) g->cells[i].width = 1;
    g->cursor_shown = false;
    g->pictures = 0;
}

char *grid_text(const struct grid *g)
{
    char *out = malloc((size_t)g->rows * ((size_t)g->cols * sizeof g->cells->text + 1) + 1);
    size_t n = 0;

    if (!out) return NULL;
    for (int y = 0; y < g->rows; y++) {
        size_t end = n;
        for (int x = 0; x < g->cols; x++) {
            const struct cell *c = &g->cells[y * g->cols + x];
            const char *s = c->attr & CELL_PICTURE ? "▀" : c->text[0] ? c->text : c->width ? " " : "";
            size_t len = strlen(s);
            memcpy(out + n, s, len);
            n += len;
            if (*s && strcmp(s, " ")) end = n;
        }
        n = end;
        out[n++] = '\n';
    }
    out[n] = 0;
    return out;
}

static struct rect meet(struct rect a, struct rect b)
{
    int x1 = a.x + a.w < b.x + b.w ? a.x + a.w : b.x + b.w;
    int y1 = a.y + a.h < b.y + b.h ? a.y + a.h : b.y + b.h;
    struct rect r = { a.x > b.x ? a.x : b.x, a.y > b.y ? a.y : b.y, 0, 0 };

    r.w = x1 > r.x ? x1 - r.x : 0;
    r.h = y1 > r.y ? y1 - r.y : 0;
    return r;
}

static struct rect whole(const struct grid *g)
{
    return (struct rect){ 0, 0, g->cols, g->rows };
}

/* Blanks the other half of a wide character that is about to lose this one. */
static void unpair(struct grid *g, int x, int y)
{
    struct cell *c = &g->cells[y * g->cols + x];

    if (c->width == 0 && x > 0) {
        c[-1].text[0] = 0;
        c[-1].width = 1;
    }
    if (c->width == 2 && x + 1 < g->cols) c[1].width = 1;
    c->width = 1;
}

static void set_cell(struct grid *g, int x, int y, enum colour c, int attr, const char *s, size_t n, int width)
{
    struct cell *cell = &g->cells[y * g->cols + x];

    unpair(g, x, y);
    if (width == 2) unpair(g, x + 1, y);
    memset(cell, 0, sizeof *cell);
    memcpy(cell->text, s, n);
    cell->width = (uint8_t)width;
    cell->colour = (uint8_t)c;
    cell->attr = (uint8_t)attr;
    if (width == 2) {
        cell[1] = *cell;
        cell[1].text[0] = 0;
        cell[1].width = 0;
    }
}

int draw_bytes(struct grid *g, struct rect clip, int x, int y, enum colour c, int attr, const char *utf8,
               size_t n)
{
    int start = x;
    struct cell *last = NULL;
    bool clipped = y < clip.y || y >= clip.y + clip.h;

    clip = meet(clip, whole(g));
    clipped = clipped || y < clip.y || y >= clip.y + clip.h;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)utf8 + i, (utf8proc_ssize_t)(n - i), &cp);
        const char *s = utf8 + i;
        size_t bytes = len > 0 ? (size_t)len : 1;
        bool hidden = len <= 0;
        int w = hidden ? 1 : edit_columns(cp, &hidden);

        i += bytes;
        if (hidden) {
            s = len > 0 && cp == '\n' ? " " : len > 0 && cp >= 0x100 ? "\xef\xbf\xbd" : "?";
            bytes = strlen(s);
        }
        if (w == 0) { /* joins the character before; nothing to join, nothing shown */
            if (last && strlen(last->text) + bytes < sizeof last->text)
                memcpy(last->text + strlen(last->text), s, bytes);
            continue;
        }
        last = NULL;
        if (!clipped && x >= clip.x && x + w <= clip.x + clip.w) {
            set_cell(g, x, y, c, attr, s, bytes, w);
            last = &g->cells[y * g->cols + x];
        }
        x += w;
    }
    return x - start;
}

int draw_text(struct grid *g, struct rect clip, int x, int y, enum colour c, int attr, const char *utf8)
{
    return draw_bytes(g, clip, x, y, c, attr, utf8, strlen(utf8));
}

int draw_fit(struct grid *g, struct rect clip, int x, int y, int width, enum colour c, int attr,
             const char *utf8, bool keep_end)
{
    size_t n = strlen(utf8), at = 0, next;
    int cols = 0, w;

    if (width < 1) return 0;
    if (edit_width(utf8, n) <= width) return draw_bytes(g, clip, x, y, c, attr, utf8, n);
    if (keep_end) {
        cols = edit_width(utf8, n);
        while (at < n && cols > width - 1) {
            next = edit_next(utf8, n, at);
            cols -= edit_width(utf8 + at, next - at);
            at = next;
        }
        w = draw_text(g, clip, x, y, c, attr, "…");
        return w + draw_bytes(g, clip, x + w, y, c, attr, utf8 + at, n - at);
    }
    while (at < n) {
        next = edit_next(utf8, n, at);
        w = edit_width(utf8 + at, next - at);
        if (cols + w > width - 1) break;
        cols += w;
        at = next;
    }
    w = draw_bytes(g, clip, x, y, c, attr, utf8, at);
    return w + draw_text(g, clip, x + w, y, c, attr, "…");
}

int draw_right(struct grid *g, struct rect clip, int y, enum colour c, int attr, const char *utf8)
{
    int w = edit_width(utf8, strlen(utf8));

    return draw_text(g, clip, clip.x + clip.w - w, y, c, attr, utf8);
}

int draw_wrapped(struct grid *g, struct rect clip, int y, int max, enum colour c, int attr, const char *utf8)
{
    struct edit e = { .text = (char *)utf8, .bytes = strlen(utf8) };
    struct edit_row row = { .last = !*utf8 };
    int n = 0;

    while (n < max && !row.last) {
        edit_row(&e, row.to, clip.w, &row);
        if (n == max - 1 && !row.last) draw_fit(g, clip, clip.x, y + n, clip.w, c, attr, utf8 + row.from, false);
        else draw_bytes(g, clip, clip.x, y + n, c, attr, utf8 + row.from, row.end - row.from);
        n++;
    }
    return n;
}

/* Something is drawn over r: pixels would lie above it. */
static void cover(struct grid *g, struct rect r)
{
    int kept = 0;

    for (int i = 0; i < g->pictures; i++) {
        struct rect both = meet(g->picture[i].at, r);
        if (!both.w || !both.h) g->picture[kept++] = g->picture[i];
    }
    g->pictures = kept;
}

void draw_fill(struct grid *g, struct rect r, const char *utf8, enum colour c, int attr)
{
    r = meet(r, whole(g));
    cover(g, r);
    for (int y = r.y; y < r.y + r.h; y++)
        for (int x = r.x; x < r.x + r.w; x++) set_cell(g, x, y, c, attr, utf8, strlen(utf8), 1);
}

void draw_box(struct grid *g, struct rect r, const char *title, const char *note, bool focused)
{
    struct rect all = whole(g);
    enum colour c = focused ? COLOUR_ACCENT : COLOUR_BORDER;
    int right = r.x + r.w - 1, bottom = r.y + r.h - 1, taken = 0;

    if (r.w < 2 || r.h < 2) return;
    for (int x = r.x + 1; x < right; x++) {
        draw_text(g, all, x, r.y, c, 0, "─");
        draw_text(g, all, x, bottom, c, 0, "─");
    }
    for (int y = r.y + 1; y < bottom; y++) {
        draw_text(g, all, r.x, y, c, 0, "│");
        draw_text(g, all, right, y, c, 0, "│");
    }
    draw_text(g, all, r.x, r.y, c, 0, "┌");
    draw_text(g, all, right, r.y, c, 0, "┐");
    draw_text(g, all, r.x, bottom, c, 0, "└");
    draw_text(g, all, right, bottom, c, 0, "┘");
    if (title && r.w > 6) {
        int x = r.x + 2;
        x += draw_text(g, all, x, r.y, c, 0, " ");
        x += draw_fit(g, all, x, r.y, r.w - 6, focused ? COLOUR_ACCENT : COLOUR_TEXT, focused ? CELL_BOLD : 0,
                      title, false);
        x += draw_text(g, all, x, r.y, c, 0, " ");
        taken = x - r.x;
    }
    if (note && *note && r.w - taken > 8) {
        int w = edit_width(note, strlen(note)), room = r.w - taken - 5;
        int x = right - 3 - (w < room ? w : room);
        x += draw_text(g, all, x, r.y, COLOUR_DIM, 0, " ");
        x += draw_fit(g, all, x, r.y, room, COLOUR_DIM, 0, note, false);
        draw_text(g, all, x, r.y, COLOUR_DIM, 0, " ");
    }
}

void draw_bar(struct grid *g, struct rect clip, int x, int y, int width, double part, double also)
{
    int full, end;

    if (!(part >= 0)) part = 0;
    if (part > 1) part = 1;
    if (!(also >= 0)) also = 0;
    if (part + also > 1) also = 1 - part;
    full = (int)(part * width + 0.5);
    end = (int)((part + also) * width + 0.5);
    if (also > 0) { /* there is some: show some */
        if (full == width) full--;
        if (end <= full) end = full + 1;
    }
    for (int i = 0; i < width; i++)
        draw_text(g, clip, x + i, y, i < full ? COLOUR_BAR : i < end ? COLOUR_BAR_ALSO : COLOUR_TRACK, 0,
                  i < full ? "█" : i < end ? "▒" : "─");
}

bool draw_picture(struct grid *g, struct rect r, const struct image *im, struct err *e)
{
    struct image *small;

    r = meet(r, whole(g));
    if (r.w < 1 || r.h < 1) return true;
    small = scale_image(im, r.w, r.h * 2, e);
    if (!small) return false;
    for (int y = 0; y < r.h; y++)
        for (int x = 0; x < r.w; x++) {
            const unsigned char *a = small->rgb + ((size_t)(2 * y) * (size_t)r.w + (size_t)x) * 3;
            const unsigned char *b = a + (size_t)r.w * 3;
            struct cell *c;
            set_cell(g, r.x + x, r.y + y, COLOUR_TEXT, CELL_PICTURE, "", 0, 1);
            c = &g->cells[(r.y + y) * g->cols + r.x + x];
            c->top = (uint32_t)a[0] << 16 | (uint32_t)a[1] << 8 | a[2];
            c->bottom = (uint32_t)b[0] << 16 | (uint32_t)b[1] << 8 | b[2];
        }
    image_free(small);
    return true;
}

void grid_offer(struct grid *g, struct rect r, const struct image *im, uint64_t serial, bool fine)
{
    r = meet(r, whole(g));
    cover(g, r);
    if (r.w < 1 || r.h < 1 || g->pictures == GRID_PICTURES_MAX) return;
    g->picture[g->pictures++] = (struct grid_picture){ im, r, serial, fine };
}

const char *draw_size(size_t bytes, char buf[16])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
    double v = (double)bytes;
    int u = 0;

    if (bytes == 0) return "-";
    while (v >= 999.5 && u < 4) {
        v /= 1000;
        u++;
    }
    snprintf(buf, 16, u == 0 || v >= 99.95 ? "%.0f %s" : "%.1f %s", v, units[u]);
    return buf;
}

const char *draw_time(double seconds, char buf[16])
{
    unsigned s;

    if (!(seconds >= 0) || seconds > 359999) return "-";
    s = (unsigned)(seconds + 0.5) % 360000;
    if (s >= 3600) snprintf(buf, 16, "%u:%02u:%02u", s / 3600, s / 60 % 60, s % 60);
    else snprintf(buf, 16, "%u:%02u", s / 60, s % 60);
    return buf;
}
