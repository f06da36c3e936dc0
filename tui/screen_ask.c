/* screen_ask.c - what other screens ask: a line of text, or a question with answers
 * of one letter each. It lies over the screen that asked, and knows nothing of it. */
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWERS_MAX = 8, TEXT_BYTES = 160, QUESTION_BYTES = 1024 };

struct ask_state {
    bool is_line;
    char title[TEXT_BYTES], question[QUESTION_BYTES];
    struct edit line;
    struct { char key, text[TEXT_BYTES]; } answer[ANSWERS_MAX];
    struct rect at[ANSWERS_MAX]; /* as last drawn, for the mouse */
    int count, chosen;
    struct wish (*then_line)(struct view *v, const char *text);
    struct wish (*then)(struct view *v, char answer);
};

static bool ask_init(struct view *v, struct err *e)
{
    v->ask = calloc(1, sizeof *v->ask);
    return (v->ask && edit_init(&v->ask->line, VIEW_PATH_BYTES - 1)) ||
           err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void ask_free(struct view *v)
{
    if (v->ask) edit_free(&v->ask->line);
    free(v->ask);
}

bool view_ask_line(struct view *v, const char *label, const char *text,
                   struct wish (*then)(struct view *v, const char *text))
{
    struct ask_state *a = v->ask;

    a->is_line = true;
    a->then_line = then;
    snprintf(a->title, sizeof a->title, "%s", label);
    edit_set(&a->line, text);
    edit_offer(&a->line);
    return view_open(v, &screen_ask);
}

bool view_ask(struct view *v, const char *title, const char *question, const struct ask_answer *answers, int count,
              struct wish (*then)(struct view *v, char answer))
{
    struct ask_state *a = v->ask;

    a->is_line = false;
    a->then = then;
    a->count = count < ANSWERS_MAX ? count : ANSWERS_MAX;
    a->chosen = 0;
    snprintf(a->title, sizeof a->title, "%s", title);
    snprintf(a->question, sizeof a->question, "%s", question);
    for (int i = 0; i < a->count; i++) {
        a->answer[i].key = answers[i].key;
        snprintf(a->answer[i].text, sizeof a->answer[i].text, "%s", answers[i].text);
    }
    return view_open(v, &screen_ask);
}

static enum keys_context ask_context(const struct view *v)
{
    return v->ask->is_line ? KEYS_DIALOG : KEYS_ASK;
}

/* The answer may ask something else, so this one is closed first. */
static struct wish answered(struct view *v, char key)
{
    view_close(v);
    return v->ask->then(v, key);
}

static struct wish ask_act(struct view *v, enum action a)
{
    struct ask_state *s = v->ask;
    char text[VIEW_PATH_BYTES];

    if (a == ACTION_ABORT && s->is_line) view_close(v);
    else if (a == ACTION_ABORT) return answered(v, 0);
    if (a != ACTION_OK) return view_wish(WISH_NONE);
    if (!s->is_line) return answered(v, s->count ? s->answer[s->chosen].key : '\0');
    snprintf(text, sizeof text, "%s", s->line.text);
    view_close(v);
    return s->then_line(v, text);
}

static struct wish ask_type(struct view *v, const struct key *k)
{
    struct ask_state *s = v->ask;

    if (s->is_line) edit_key(&s->line, k);
    else if (k->kind == K_UP && s->chosen > 0) s->chosen--;
    else if (k->kind == K_DOWN && s->chosen + 1 < s->count) s->chosen++;
    for (int i = 0; !s->is_line && k->kind == K_CHAR && !k->mods && i < s->count; i++)
        if (k->ch == (uint32_t)(unsigned char)s->answer[i].key) return answered(v, s->answer[i].key);
    return view_wish(WISH_NONE);
}

static struct wish ask_mouse(struct view *v, const struct key *k)
{
    struct ask_state *s = v->ask;

    for (int i = 0; !s->is_line && k->ch == MOUSE_LEFT && i < s->count; i++)
        if (rect_has(s->at[i], k->x, k->y)) return answered(v, s->answer[i].key);
    return view_wish(WISH_NONE);
}

static const char *ask_hint(const struct view *v, enum action a)
{
    (void)v;
    return a == ACTION_OK ? "OK" : a == ACTION_ABORT ? "Back" : NULL;
}

static void draw_line(struct view *v, struct grid *g)
{
    struct rect r = { 1, v->rows - 2, v->cols - 2, 1 };
    int w;

    draw_fill(g, (struct rect){ 0, r.y, v->cols, 1 }, " ", COLOUR_TEXT, 0);
    w = draw_fit(g, r, r.x, r.y, r.w / 2, COLOUR_ACCENT, CELL_BOLD, v->ask->title, false) + 1;
    r = (struct rect){ r.x + w, r.y, r.w - w, 1 };
    view_draw_line(g, r, &v->ask->line, COLOUR_TEXT, 0, view_top(v, &screen_ask));
}

static void draw_question(struct view *v, struct grid *g)
{
    struct ask_state *s = v->ask;
    struct edit text = { .text = s->question, .bytes = strlen(s->question) };
    int w = v->cols < 72 ? v->cols : 72, most = v->rows - 1 - s->count - 3, lines = edit_rows(&text, w - 4, NULL, NULL);
    struct rect box;

    if (most < 1) most = 1;
    if (lines > most) lines = most;
    box.w = w;
    box.h = lines + s->count + 3 > v->rows - 1 ? v->rows - 1 : lines + s->count + 3;
    box.x = (v->cols - box.w) / 2;
    box.y = (v->rows - 1 - box.h) / 2;
    struct rect r = { box.x + 2, box.y + 1, box.w - 4, box.h - 2 };
    draw_fill(g, box, " ", COLOUR_TEXT, 0);
    draw_box(g, box, s->title, NULL, true);
    int y = r.y + draw_wrapped(g, r, r.y, lines, COLOUR_TEXT, 0, s->question) + 1;
    for (int i = 0; i < s->count; i++, y++) {
        char key[2] = { s->answer[i].key, 0 };
        s->at[i] = (struct rect){ r.x, y, r.w, 1 };
        draw_text(g, r, r.x, y, COLOUR_ACCENT, CELL_BOLD | (i == s->chosen ? CELL_REVERSE : 0), key);
        draw_fit(g, r, r.x + 3, y, r.w - 3, COLOUR_TEXT, i == s->chosen ? CELL_BOLD : 0, s->answer[i].text, false);
    }
    g->cursor_shown = false;
}

static bool ask_draw(struct view *v, struct grid *g, struct err *e)
{
    (void)e;
    if (v->ask->is_line) draw_line(v, g);
    else draw_question(v, g);
    return true;
}

const struct screen screen_ask = {
    .name = "ask",
    .overlay = true,
    .init = ask_init,
    .free = ask_free,
    .context = ask_context,
    .act = ask_act,
    .type = ask_type,
    .mouse = ask_mouse,
    .hint = ask_hint,
    .draw = ask_draw,
};
