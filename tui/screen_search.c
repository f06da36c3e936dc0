/* screen_search.c - a search in the prompts used before, as shells have it on ^R:
 * what is typed is looked for at once; the one that is marked goes into the prompt. */
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct search_state {
    struct edit line;
    int at; /* the one that is marked; -1: none matches */
};

static bool search_init(struct view *v, struct err *e)
{
    v->search = calloc(1, sizeof *v->search);
    return (v->search && edit_init(&v->search->line, 256)) ||
           err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void search_free(struct view *v)
{
    if (v->search) edit_free(&v->search->line);
    free(v->search);
}

static bool search_open(struct view *v)
{
    if (!v->prompts.count) {
        view_say(v, VIEW_INFO, "No prompt has been used yet");
        return false;
    }
    edit_set(&v->search->line, "");
    v->search->at = 0;
    return true;
}

static enum keys_context search_context(const struct view *v)
{
    (void)v;
    return KEYS_SEARCH;
}

/* To the next older or newer one that matches; where there is none, it stays. */
static void go(struct view *v, int by)
{
    struct search_state *s = v->search;
    int to = prompts_find(&v->prompts, s->line.text, s->at + by, by);

    if (s->at >= 0 && to >= 0) s->at = to;
}

static struct wish search_act(struct view *v, enum action a)
{
    struct search_state *s = v->search;

    switch (a) {
    case ACTION_HISTORY_SEARCH:
    case ACTION_DOWN: go(v, 1); break;
    case ACTION_SEARCH_NEWER:
    case ACTION_UP: go(v, -1); break;
    case ACTION_OK:
        view_close(v);
        if (s->at >= 0) main_use_prompt(v, s->at);
        break;
    case ACTION_ABORT: view_close(v); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

/* What is typed narrows the search from where it is; what is taken away begins it again. */
static struct wish search_type(struct view *v, const struct key *k)
{
    struct search_state *s = v->search;
    size_t had = s->line.bytes;

    if (!edit_key(&s->line, k)) return view_wish(WISH_NONE);
    if (s->line.bytes < had || s->at < 0) s->at = 0;
    s->at = prompts_find(&v->prompts, s->line.text, s->at, 1);
    if (s->at < 0) s->at = prompts_find(&v->prompts, s->line.text, 0, 1);
    return view_wish(WISH_NONE);
}

static const char *search_hint(const struct view *v, enum action a)
{
    (void)v;
    return a == ACTION_OK ? "Take it" : a == ACTION_ABORT ? "Back" : a == ACTION_HISTORY_SEARCH ? "Older"
         : a == ACTION_SEARCH_NEWER ? "Newer" : NULL;
}

/* One prompt in one row; what was looked for stands out, and is in the row. */
static void draw_found(const struct view *v, struct grid *g, struct rect r, int i)
{
    const char *text = v->prompts.text[i], *from = text;
    int at = 0, bytes = 0, x = r.x;
    bool on = i == v->search->at;

    prompts_match(text, v->search->line.text, &at, &bytes);
    draw_text(g, r, x, r.y, COLOUR_ACCENT, CELL_BOLD, on ? "» " : "  ");
    x += 2;
    if (edit_width(text, (size_t)(at + bytes)) > r.w - 3) { /* too far behind to be seen from the beginning */
        while (from < text + at && edit_width(from, (size_t)(text + at + bytes - from)) > r.w / 2)
            from += edit_next(from, strlen(from), 0);
        x += draw_text(g, r, x, r.y, COLOUR_DIM, 0, "…");
    }
    draw_fit(g, r, x, r.y, r.x + r.w - x, on ? COLOUR_TEXT : COLOUR_DIM, on ? CELL_BOLD : 0, from, false);
    x += edit_width(from, (size_t)(text + at - from));
    if (bytes && x < r.x + r.w - 1) {
        struct rect clip = { r.x, r.y, r.w - 1, 1 };
        draw_bytes(g, clip, x, r.y, COLOUR_ACCENT, CELL_BOLD | CELL_UNDERLINE, text + at, (size_t)bytes);
    }
}

static bool search_draw(struct view *v, struct grid *g, struct err *e)
{
    struct search_state *s = v->search;
    int h = v->rows - 4 < 16 ? v->rows - 4 : 16, rows = h - 3, first = s->at, y;
    struct rect box = { 0, 1, v->cols, h }, r = { 2, 2, v->cols - 4, 1 };
    char note[64] = "no prompt has that";

    (void)e;
    if (s->at >= 0) snprintf(note, sizeof note, "%d of %d", s->at + 1, v->prompts.count);
    draw_fill(g, box, " ", COLOUR_TEXT, 0);
    draw_box(g, box, "Prompts used before", note, true);
    r.x += draw_text(g, r, r.x, r.y, COLOUR_DIM, 0, "Search: ");
    r.w = v->cols - 2 - r.x;
    view_draw_line(g, r, &s->line, COLOUR_TEXT, 0, view_top(v, &screen_search));
    /* Half a boxful of newer ones above the marked one, if there are so many. */
    for (int n = 0; first > 0 && n < rows / 2; n++) {
        int newer = prompts_find(&v->prompts, s->line.text, first - 1, -1);
        if (newer < 0) break;
        first = newer;
    }
    y = box.y + 2;
    for (int i = first; i >= 0 && y < box.y + h - 1; i = prompts_find(&v->prompts, s->line.text, i + 1, 1))
        draw_found(v, g, (struct rect){ 2, y++, v->cols - 4, 1 }, i);
    return true;
}

const struct screen screen_search = {
    .name = "search",
    .overlay = true,
    .init = search_init,
    .free = search_free,
    .open = search_open,
    .context = search_context,
    .act = search_act,
    .type = search_type,
    .hint = search_hint,
    .draw = search_draw,
};
