/* screen_doctor.c - what this machine and this terminal have, and what is wrong
 * with them: the report of engine/doctor.h, and lines about the terminal.
 *
 * Beside each other where there is room, else the terminal first: it is known at
 * once, the machine is looked at for a second or two. */
#include "engine/doctor.h"
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BESIDE_COLS = 120, WHAT = 9, WHAT_MOST = 22, FOUND_LEAST = 24 };

struct doctor_screen {
    struct doctor machine, terminal;
    bool known;                     /* the machine has been looked at */
    bool wanted, looking;           /* it is to be; it is being */
    int cols, rows, cell_w, cell_h; /* that the terminal's lines are of; 0: there are none */
    bool pixels;
    int scroll, page;
};

static bool doctor_init(struct view *v, struct err *e)
{
    v->doctor = calloc(1, sizeof *v->doctor);
    return v->doctor || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void doctor_end(struct view *v)
{
    if (!v->doctor) return;
    doctor_free(&v->doctor->machine);
    doctor_free(&v->doctor->terminal);
    free(v->doctor);
}

static void look_again(struct doctor_screen *d)
{
    d->wanted = !d->looking;
    d->cols = 0;
}

static bool doctor_open(struct view *v)
{
    v->doctor->scroll = 0;
    look_again(v->doctor);
    return true;
}

static enum keys_context doctor_context(const struct view *v)
{
    (void)v;
    return KEYS_DOCTOR;
}

static struct wish doctor_act(struct view *v, enum action a)
{
    struct doctor_screen *d = v->doctor;

    switch (a) {
    case ACTION_UP: d->scroll--; break;
    case ACTION_DOWN: d->scroll++; break;
    case ACTION_PAGE_UP: d->scroll -= d->page; break;
    case ACTION_PAGE_DOWN: d->scroll += d->page; break;
    case ACTION_FIRST: d->scroll = 0; break;
    case ACTION_LAST: d->scroll = 100000; break; /* drawing knows where the end is */
    case ACTION_DOCTOR_AGAIN: look_again(d); break;
    case ACTION_BACK: view_close(v); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish doctor_needs(struct view *v)
{
    struct doctor_screen *d = v->doctor;

    if (d->cols != v->cols || d->rows != v->rows || d->cell_w != v->cell_w ||
        d->cell_h != v->cell_h || d->pixels != v->pixels) {
        d->cols = v->cols;
        d->rows = v->rows;
        d->cell_w = v->cell_w;
        d->cell_h = v->cell_h;
        d->pixels = v->pixels;
        return view_wish(WISH_DOCTOR_TERMINAL);
    }
    if (!d->wanted) return view_wish(WISH_NONE);
    d->wanted = false;
    d->looking = true;
    return view_wish(WISH_DOCTOR);
}

static void take_over(struct doctor *to, struct doctor *from)
{
    doctor_free(to);
    *to = *from;
    *from = (struct doctor){ 0 };
}

void view_doctor(struct view *v, struct doctor *d)
{
    take_over(&v->doctor->machine, d);
    v->doctor->known = true;
    v->doctor->looking = false;
}

/* Which set of keys.h it is; "changed by keys.yaml": neither. */
static const char *keys_text_of(const struct keys *k)
{
    for (enum keys_set set = 0; set < KEYS_SETS; set++) {
        struct keys as_it_is;
        bool same = true;
        keys_init(&as_it_is, set);
        for (int a = 0; a < ACTION_COUNT; a++)
            for (int i = 0; i < KEYS_EACH; i++) {
                const struct keys_chord *x = &k->of[a][i], *y = &as_it_is.of[a][i];
                same &= x->kind == y->kind && x->ch == y->ch && x->mods == y->mods;
            }
        if (same) return keys_set_name[set];
    }
    return "changed by keys.yaml";
}

void view_doctor_terminal(struct view *v, struct doctor *d)
{
    struct doctor *own = &v->doctor->terminal;

    take_over(own, d);
    doctor_say(own, DOCTOR_TERMINAL, DOCTOR_OK, "keys", NULL, "%s", keys_text_of(&v->keys));
    doctor_say(own, DOCTOR_TERMINAL, DOCTOR_OK, "mouse", NULL, "%s", v->mouse ? "on" : "off");
}

/* --- drawing --------------------------------------------------------------------- */

static int longest_what(const struct doctor *d)
{
    int longest = 0;

    for (int i = 0; i < d->count; i++) {
        int w = edit_width(d->line[i].what, strlen(d->line[i].what));
        if (w > longest) longest = w;
    }
    return longest < WHAT_MOST ? longest : WHAT_MOST;
}

/* A report from row y on, which may be above r. What is found stands behind what
 * it is about, or where that is too narrow below it. Returns the row after it. */
static int draw_report(struct grid *g, struct rect r, int y, const struct doctor *d)
{
    static const enum colour colours[] = { COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD };
    int column = WHAT + longest_what(d) + 2;
    bool behind = r.w >= column + FOUND_LEAST;
    struct rect text;

    if (!behind) column = WHAT;
    text = (struct rect){ r.x + column, r.y, r.w - column, r.h };

    for (enum doctor_part part = 0; part < DOCTOR_PARTS; part++) {
        bool titled = false;
        for (int i = 0; i < d->count; i++) {
            const struct doctor_line *l = &d->line[i];
            if (l->part != part) continue;
            if (!titled) draw_text(g, r, r.x, y++, COLOUR_ACCENT, CELL_BOLD, doctor_part_name(part));
            titled = true;
            draw_text(g, r, r.x, y, colours[l->state], l->state == DOCTOR_PROBLEM ? CELL_BOLD : 0,
                      doctor_state_name(l->state));
            draw_fit(g, r, r.x + WHAT, y, (behind ? column - 1 : r.w) - WHAT, COLOUR_TEXT, 0, l->what, false);
            y += !behind;
            y += *l->found ? draw_wrapped(g, text, y, 100, COLOUR_TEXT, 0, l->found) : 1;
            if (*l->means) y += draw_wrapped(g, text, y, 100, COLOUR_DIM, 0, l->means);
        }
        y += titled;
    }
    if (!d->lost) return y;
    draw_fit(g, r, r.x, y, r.w, COLOUR_BAD, 0, "Memory was refused: some lines are missing", false);
    return y + 2;
}

static int draw_machine(const struct doctor_screen *d, struct grid *g, struct rect r, int y)
{
    if (d->known) return draw_report(g, r, y, &d->machine);
    return y + draw_wrapped(g, r, y, 100, COLOUR_DIM, 0, "Looking at card, driver, memory, disk and models ...");
}

/* From so many rows above r; returns how many it would take. */
static int draw_all(const struct doctor_screen *d, struct grid *g, struct rect r, int scroll)
{
    int top = r.y - scroll, left = (r.w - 2) * 11 / 20, a, b;
    struct rect wide = { r.x, r.y, left, r.h }, narrow = { r.x + left + 2, r.y, r.w - left - 2, r.h };

    if (r.w < BESIDE_COLS - 4) return draw_machine(d, g, r, draw_report(g, r, top, &d->terminal)) - top;
    a = draw_machine(d, g, wide, top);
    b = draw_report(g, narrow, top, &d->terminal);
    return (a > b ? a : b) - top;
}

static void title_of(const struct doctor_screen *d, char buf[128])
{
    int problems = doctor_problems(&d->machine) + doctor_problems(&d->terminal);
    const char *again = d->looking ? ", looking again" : "";

    if (!d->known) snprintf(buf, 128, "Doctor: looking at the machine");
    else if (problems) snprintf(buf, 128, "Doctor: %d problem%s%s", problems, problems == 1 ? "" : "s", again);
    else snprintf(buf, 128, "Doctor: nothing that sluice needs is missing%s", again);
}

static bool doctor_draw(struct view *v, struct grid *g, struct err *e)
{
    struct doctor_screen *d = v->doctor;
    char title[128];
    struct rect r;
    int rows;

    (void)e;
    title_of(d, title);
    r = view_draw_frame(v, g, title);
    r = (struct rect){ r.x + 2, r.y + 1, r.w - 4, r.h - 1 };
    rows = draw_all(d, g, (struct rect){ r.x, r.y, r.w, 0 }, 0) - 1; /* its last is blank */
    d->page = r.h > 1 ? r.h - 1 : 1;
    if (d->scroll > rows - r.h) d->scroll = rows - r.h;
    if (d->scroll < 0) d->scroll = 0;
    draw_all(d, g, r, d->scroll);
    if (rows > r.h) {
        snprintf(title, sizeof title, "rows %d-%d of %d", d->scroll + 1, d->scroll + r.h, rows);
        draw_right(g, (struct rect){ v->cols / 2, 0, v->cols - v->cols / 2 - 1, 1 }, 0, COLOUR_DIM, 0, title);
    }
    return true;
}

const struct screen screen_doctor = {
    .name = "doctor",
    .opened_by = ACTION_DOCTOR,
    .init = doctor_init,
    .free = doctor_end,
    .open = doctor_open,
    .context = doctor_context,
    .act = doctor_act,
    .draw = doctor_draw,
    .needs = doctor_needs,
};
