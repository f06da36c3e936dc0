/* screen_help.c - the keys, by where they work; what is typed narrows them. */
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct help_state {
    struct edit filter;
    int scroll, page;
    enum keys_context from; /* where it was opened: what works there comes first */
};

static bool help_init(struct view *v, struct err *e)
{
    v->help = calloc(1, sizeof *v->help);
    return (v->help && edit_init(&v->help->filter, 64)) || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void help_free(struct view *v)
{
    if (v->help) edit_free(&v->help->filter);
    free(v->help);
}

static bool help_open(struct view *v)
{
    edit_set(&v->help->filter, "");
    v->help->scroll = 0;
    v->help->from = v->stack[v->depth - 1]->context(v);
    return true;
}

static enum keys_context help_context(const struct view *v)
{
    (void)v;
    return KEYS_HELP;
}

static struct wish help_act(struct view *v, enum action a)
{
    struct help_state *h = v->help;

    switch (a) {
    case ACTION_UP: h->scroll--; break;
    case ACTION_DOWN: h->scroll++; break;
    case ACTION_PAGE_UP: h->scroll -= h->page; break;
    case ACTION_PAGE_DOWN: h->scroll += h->page; break;
    case ACTION_FIRST: h->scroll = 0; break;
    case ACTION_LAST: h->scroll = 10000; break; /* drawing knows where the end is */
    case ACTION_OK: view_close(v); break;
    case ACTION_BACK:
        if (h->filter.bytes) edit_set(&h->filter, "");
        else view_close(v);
        break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish help_type(struct view *v, const struct key *k)
{
    if (edit_key(&v->help->filter, k)) v->help->scroll = 0;
    return view_wish(WISH_NONE);
}

static const char *help_hint(const struct view *v, enum action a)
{
    return a == ACTION_BACK ? v->help->filter.bytes ? "All keys" : "Close" : NULL;
}

/* Lines are counted first and drawn afterwards: with g NULL. */
struct lines {
    struct grid *g;
    struct rect r;
    int at, scroll;
    const char *filter;
};

static bool wanted(const struct lines *l, const char *keys, const char *text)
{
    return !*l->filter || strcasestr(text, l->filter) || strcasestr(keys, l->filter);
}

static void line(struct lines *l, const char *keys, const char *text)
{
    int y = l->r.y + l->at++ - l->scroll, column = 16, w;

    if (!l->g || y < l->r.y || y >= l->r.y + l->r.h) return;
    w = edit_width(keys, strlen(keys));
    draw_fit(l->g, l->r, l->r.x, y, l->r.w, COLOUR_ACCENT, text ? 0 : CELL_BOLD, keys, false);
    if (!text) return;
    if (w + 2 > column) column = w + 2;
    draw_fit(l->g, l->r, l->r.x + column, y, l->r.w - column, COLOUR_TEXT, 0, text, false);
}

static void group(const struct view *v, struct lines *l, int which)
{
    char names[KEYS_NAMES_MAX];
    bool titled = false;

    for (int i = 1; i < ACTION_COUNT; i++) {
        enum action a = (enum action)i;
        const char *help = keys_action(a)->help;
        if (!help || keys_group_of(a) != which || !*keys_names(&v->keys, a, names) || !wanted(l, names, help)) continue;
        if (!titled && l->at) line(l, "", NULL);
        if (!titled) line(l, keys_groups[which].title, NULL);
        titled = true;
        line(l, names, help);
    }
}

static void text_keys(struct lines *l)
{
    bool titled = false;

    for (int i = 0; edit_keys[i][0]; i++) {
        if (!wanted(l, edit_keys[i][0], edit_keys[i][1])) continue;
        if (!titled && l->at) line(l, "", NULL);
        if (!titled) line(l, "While typing", NULL);
        titled = true;
        line(l, edit_keys[i][0], edit_keys[i][1]);
    }
}

static void all(const struct view *v, struct lines *l)
{
    unsigned from = v->help->from;

    l->at = 0;
    for (int i = 0; keys_groups[i].title; i++)
        if (keys_groups[i].contexts & from) group(v, l, i);
    if (from & KEYS_TYPED) text_keys(l);
    for (int i = 0; keys_groups[i].title; i++)
        if (!(keys_groups[i].contexts & from)) group(v, l, i);
    if (!(from & KEYS_TYPED)) text_keys(l);
    if (!l->at) line(l, "", "no key for that");
}

static bool help_draw(struct view *v, struct grid *g, struct err *e)
{
    struct help_state *h = v->help;
    struct lines l = { .filter = h->filter.text };
    int w = v->cols < 84 ? v->cols : 84, rows = v->rows - 1;
    struct rect box;
    char note[64] = "type to search";

    (void)e;
    all(v, &l);
    if (l.at + 2 < rows) rows = l.at + 2;
    box = (struct rect){ (v->cols - w) / 2, (v->rows - 1 - rows) / 2, w, rows };
    l.r = (struct rect){ box.x + 2, box.y + 1, box.w - 4, box.h - 2 };
    h->page = l.r.h > 1 ? l.r.h - 1 : 1;
    if (h->scroll > l.at - l.r.h) h->scroll = l.at - l.r.h;
    if (h->scroll < 0) h->scroll = 0;
    l.scroll = h->scroll;
    l.g = g;
    draw_fill(g, box, " ", COLOUR_TEXT, 0);
    if (h->filter.bytes) snprintf(note, sizeof note, "search: %s", h->filter.text);
    draw_box(g, box, "Keys", note, true);
    all(v, &l);
    g->cursor_shown = false;
    return true;
}

const struct screen screen_help = {
    .name = "help",
    .overlay = true,
    .opened_by = ACTION_HELP,
    .init = help_init,
    .free = help_free,
    .open = help_open,
    .context = help_context,
    .act = help_act,
    .type = help_type,
    .hint = help_hint,
    .draw = help_draw,
};
