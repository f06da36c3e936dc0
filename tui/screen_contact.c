/* screen_contact.c - the contact sheet: many seeds in few steps; the good ones are finished. */
#include "tui/scale.h"
#include "tui/tiles.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS_USUAL = 12 };

struct contact_state {
    uint64_t id;     /* of its job, while that has not ended */
    struct job base; /* what is finished of it */
    int seeds, made, chosen, row;
    bool left;       /* by Esc, or finished: the key asks for a new one */
    struct contact_tile { struct image *thumb; uint64_t serial; bool good; } *at; /* [seeds] */
    struct tiles tiles;   /* as last drawn */
};

static bool contact_init(struct view *v, struct err *e)
{
    v->contact = calloc(1, sizeof *v->contact);
    return v->contact || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void clear(struct contact_state *s)
{
    for (int i = 0; i < s->seeds; i++) image_free(s->at[i].thumb);
    free(s->at);
    job_free(&s->base);
    *s = (struct contact_state){ 0 };
}

static void contact_free(struct view *v)
{
    if (v->contact) clear(v->contact);
    free(v->contact);
}

void view_sheet(struct view *v, uint64_t id, const struct job *base, int seeds)
{
    struct contact_state *s = v->contact;

    clear(s);
    s->at = calloc((size_t)seeds, sizeof *s->at);
    if (!s->at || !job_copy(&s->base, base, NULL)) {
        clear(s);
        view_say(v, VIEW_BAD, "No memory for a contact sheet");
        return;
    }
    s->id = id;
    s->seeds = seeds;
    view_open(v, &screen_contact);
    view_say(v, VIEW_INFO, "");
}

bool contact_has(const struct view *v, uint64_t id)
{
    return v->contact->id && v->contact->id == id;
}

const struct job *view_sheet_base(const struct view *v)
{
    return v->contact->seeds ? &v->contact->base : NULL;
}

bool view_sheet_good(const struct view *v, int index)
{
    return index >= 0 && index < v->contact->seeds && v->contact->at[index].good;
}

static int good(const struct contact_state *s)
{
    int n = 0;

    for (int i = 0; i < s->seeds; i++) n += s->at[i].good;
    return n;
}

/* The picture is v's by now. */
static void contact_event(struct view *v, const struct event *ev)
{
    struct contact_state *s = v->contact;

    if (!contact_has(v, ev->job)) return;
    if (ev->kind == EVENT_DONE && v->image && ev->index >= 0 && ev->index < s->seeds && !s->at[ev->index].thumb) {
        int w, h;
        scale_fit(v->image->width, v->image->height, 1, VIEW_THUMB_PX, VIEW_THUMB_PX, &w, &h);
        s->at[ev->index].thumb = scale_image(v->image, w, h, NULL);
        s->at[ev->index].serial = ++v->serials;
        s->made++;
    }
    if (ev->kind == EVENT_CANCELLED || ev->kind == EVENT_FAILED) s->id = 0;
    if (ev->kind == EVENT_DONE && ev->index + 1 >= ev->count) s->id = 0;
}

/* --- keys ------------------------------------------------------------------------------ */

static struct wish begin(struct view *v, const char *text)
{
    char *end;
    long n = strtol(text, &end, 10);

    if (end != text && !*end && n >= 1 && n <= JOB_COUNT_MAX)
        return (struct wish){ .kind = WISH_SHEET, .sheet = (int)n };
    view_say(v, VIEW_BAD, "How many seeds: a number from 1 to 1000");
    return view_wish(WISH_NONE);
}

/* One that is there is shown again; else a number is asked for first. */
static bool contact_open(struct view *v)
{
    char text[16];

    if (v->contact->seeds && !v->contact->left) return true;
    snprintf(text, sizeof text, "%d", SEEDS_USUAL);
    view_ask_line(v, "Contact sheet of how many seeds:", text, begin);
    return false;
}

static enum keys_context contact_context(const struct view *v)
{
    (void)v;
    return KEYS_GALLERY;
}

static struct wish finish(struct view *v)
{
    struct contact_state *s = v->contact;

    if (!good(s) && s->at[s->chosen].thumb) s->at[s->chosen].good = true;
    if (!good(s)) {
        view_say(v, VIEW_INFO, "Mark the good ones first");
        return view_wish(WISH_NONE);
    }
    s->left = true;
    view_close(v);
    return view_wish(WISH_FINISH);
}

static struct wish contact_act(struct view *v, enum action a)
{
    struct contact_state *s = v->contact;
    int to = s->chosen, across = s->tiles.across ? s->tiles.across : 1;

    switch (a) {
    case ACTION_LEFT: to--; break;
    case ACTION_RIGHT: to++; break;
    case ACTION_UP: to -= across; break;
    case ACTION_DOWN: to += across; break;
    case ACTION_PAGE_UP: to -= across * s->tiles.down; break;
    case ACTION_PAGE_DOWN: to += across * s->tiles.down; break;
    case ACTION_FIRST: to = 0; break;
    case ACTION_LAST: to = s->seeds - 1; break;
    case ACTION_MARK: s->at[to].good = !s->at[to].good; break;
    case ACTION_OK: return finish(v);
    case ACTION_BACK:
        s->left = true;
        view_close(v);
        if (s->id) {
            view_say(v, VIEW_INFO, "The rest of the sheet is cancelled");
            return (struct wish){ .kind = WISH_CANCEL, .job = s->id };
        }
        break;
    default: break;
    }
    if (to >= 0 && to < s->seeds) s->chosen = to;
    return view_wish(WISH_NONE);
}

static struct wish contact_mouse(struct view *v, const struct key *k)
{
    struct contact_state *s = v->contact;
    int hit = tiles_hit(&s->tiles, k->x, k->y), at = hit + s->row * s->tiles.across;

    if (k->ch == MOUSE_UP) return contact_act(v, ACTION_UP);
    if (k->ch == MOUSE_DOWN) return contact_act(v, ACTION_DOWN);
    if (k->ch != MOUSE_LEFT || hit < 0 || at >= s->seeds) return view_wish(WISH_NONE);
    if (at == s->chosen) return contact_act(v, ACTION_MARK);
    s->chosen = at;
    return view_wish(WISH_NONE);
}

static const char *contact_hint(const struct view *v, enum action a)
{
    switch (a) {
    case ACTION_HELP: return "Help";
    case ACTION_OK: return "Finish the marked";
    case ACTION_MARK: return view_sheet_good(v, v->contact->chosen) ? "Not this" : "Mark";
    case ACTION_BACK: return v->contact->id ? "Cancel" : "Back";
    default: return NULL;
    }
}

static bool contact_draw(struct view *v, struct grid *g, struct err *e)
{
    struct contact_state *s = v->contact;
    char text[128];
    struct rect r;

    snprintf(text, sizeof text, "Contact sheet: %d of %d seeds, %d marked", s->made, s->seeds, good(s));
    r = view_draw_frame(v, g, text);
    r.x++;
    r.w -= 2;
    g->cursor_shown = false;
    s->tiles = tiles_in(r, v->cell_w, v->cell_h);
    s->row = tiles_scroll(&s->tiles, s->row, s->chosen, s->seeds);
    for (int i = 0; i < s->tiles.across * s->tiles.down; i++) {
        int at = s->row * s->tiles.across + i;
        if (at >= s->seeds) break;
        struct tile tile = { .im = v->pictures ? s->at[at].thumb : NULL, .serial = v->pixels ? s->at[at].serial : 0,
                             .caption = text, .colour = s->at[at].good ? COLOUR_GOOD : COLOUR_DIM,
                             .chosen = at == s->chosen };
        snprintf(text, sizeof text, "%s %" PRIu64, s->at[at].good ? "◆" : " ", s->base.seed + (uint64_t)at);
        if (!tiles_draw(&s->tiles, g, i, &tile, e)) return false;
    }
    return true;
}

const struct screen screen_contact = {
    .name = "contact",
    .opened_by = ACTION_SHEET,
    .init = contact_init,
    .free = contact_free,
    .open = contact_open,
    .context = contact_context,
    .act = contact_act,
    .mouse = contact_mouse,
    .hint = contact_hint,
    .event = contact_event,
    .draw = contact_draw,
};
