/* screen_memory.c - the memory pane of the main screen: what each stage takes, what
 * the engine holds, what the process has. */
#include "tui/layout.h"
#include "tui/view_internal.h"

#include <stdio.h>

/* Of weights: under a budget what the arena holds of them, else the mapped files. */
static size_t weight_bytes(const struct view *v, enum stage s)
{
    size_t on_device = 0;
    for (enum stage i = 0; i < STAGE_COUNT; i++) on_device += v->memory.on_device[i];
    return on_device ? v->memory.on_device[s] : v->memory.weights[s];
}

static size_t stage_bytes(const struct view *v, enum stage s)
{
    return v->memory.activations[s] + weight_bytes(v, s);
}

static void draw_stage(const struct view *v, struct grid *g, struct rect r, int y, enum stage s, size_t most)
{
    bool now = v->running && v->stage == s;
    bool past = v->running ? v->stage_seen[s] && s < v->stage : false;
    size_t bytes = stage_bytes(v, s);
    int bar = r.w - 13 - 10;
    char buf[16];

    draw_text(g, r, r.x, y, now ? COLOUR_ACCENT : COLOUR_DIM, 0, now ? "»" : past ? "◆" : "·");
    draw_text(g, r, r.x + 2, y, now ? COLOUR_ACCENT : COLOUR_TEXT, now ? CELL_BOLD : 0, stage_name(s));
    if (bar > 0 && bytes && most)
        draw_bar(g, r, r.x + 14, y, bar - 1, (double)weight_bytes(v, s) / (double)most,
                 (double)v->memory.activations[s] / (double)most);
    draw_right(g, r, y, bytes ? COLOUR_TEXT : COLOUR_DIM, 0, draw_size(bytes, buf));
}

/* What the engine holds: in use, if it has said so, else its whole arena. */
static const char *engine_text(const struct view *v, char buf[16])
{
    return draw_size(v->memory.used_bytes ? v->memory.used_bytes : v->memory.arena_bytes, buf);
}

void pane_memory(const struct view *v, struct grid *g, const struct layout *l)
{
    static const enum stage shown[] = { STAGE_LOAD, STAGE_CLIP, STAGE_T5, STAGE_FLUX, STAGE_VAE };
    struct rect r = l->memory;
    size_t most = 0;
    char a[16], b[16], c[16], line[96];
    int y = r.y, rows = r.h;

    if (r.h < 1) return;
    if (l->shape == LAYOUT_COMPACT) {
        enum stage s = v->running ? v->stage : STAGE_FLUX;
        snprintf(line, sizeof line, " %s %s  engine %s  process %s", stage_name(s), draw_size(stage_bytes(v, s), a),
                 engine_text(v, b), draw_size(v->memory.rss, c));
        draw_fit(g, r, r.x, y, r.w, COLOUR_DIM, 0, line, false);
        return;
    }
    draw_box(g, l->memory_box, "Memory", r.w >= 34 && r.h >= 8 ? "weights █ work ▒" : NULL, false);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (stage_bytes(v, shown[i]) > most) most = stage_bytes(v, shown[i]);
    if (rows >= 6) {
        for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) draw_stage(v, g, r, y++, shown[i], most);
        rows -= 5;
    } else if (rows >= 2) {
        draw_stage(v, g, r, y++, v->running ? v->stage : STAGE_FLUX, most);
        rows--;
    }
    if (rows == 1) {
        snprintf(line, sizeof line, "engine %s", engine_text(v, a));
        draw_text(g, r, r.x, y, COLOUR_DIM, 0, line);
        snprintf(line, sizeof line, "RSS %s", draw_size(v->memory.rss, a));
        draw_right(g, r, y, COLOUR_DIM, 0, line);
        return;
    }
    if (rows >= 4) y++;
    draw_text(g, r, r.x, y, COLOUR_DIM, 0, "engine");
    if (v->memory.arena_bytes && v->memory.used_bytes) {
        snprintf(line, sizeof line, "%s of %s", engine_text(v, a), draw_size(v->memory.arena_bytes, b));
        draw_right(g, r, y, COLOUR_TEXT, 0, line);
    } else {
        draw_right(g, r, y, v->memory.arena_bytes ? COLOUR_TEXT : COLOUR_DIM, 0, engine_text(v, a));
    }
    y++;
    draw_text(g, r, r.x, y, COLOUR_DIM, 0, "process");
    if (rows >= 3 && rows < 5 && r.w < 34) {
        draw_right(g, r, y++, COLOUR_TEXT, 0, draw_size(v->memory.rss, a));
        snprintf(line, sizeof line, "own %s  mapped %s", draw_size(v->memory.rss_anonymous, a), draw_size(v->memory.rss_file, b));
        draw_right(g, r, y, COLOUR_DIM, 0, line);
    } else if (rows >= 5) {
        draw_right(g, r, y++, COLOUR_TEXT, 0, draw_size(v->memory.rss, a));
        draw_text(g, r, r.x, y, COLOUR_DIM, 0, "  own");
        draw_right(g, r, y++, COLOUR_DIM, 0, draw_size(v->memory.rss_anonymous, a));
        draw_text(g, r, r.x, y, COLOUR_DIM, 0, "  mapped files");
        draw_right(g, r, y, COLOUR_DIM, 0, draw_size(v->memory.rss_file, a));
    } else {
        draw_right(g, r, y, COLOUR_TEXT, 0, draw_size(v->memory.rss, a));
    }
}
