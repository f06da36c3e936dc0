/* screen_main.c - the main screen: prompts, form, picture, queue, progress. The
 * memory pane is pane_memory.c.
 *
 * In this order: the form and its state; what keys and the mouse do; drawing, one
 * function for each rectangle of the layout. */
#include "engine/setting.h"
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/scale.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The fields, in the order of Tab and of the form's rows, which hold two each where
 * the screen is low. */
static const struct {
    const char *setting; /* engine/setting.h has its kind and limits */
    const char *label, *brief;
    const char *hint;    /* while it has the focus */
    double step;         /* of a number */
} form[] = {
    { "size", "Size", "Size", "in steps of 16", 16 },
    { "steps", "Steps", "Steps", "more: finer and slower", 1 },
    { "guidance", "Guidance", "Guid.", "how closely to follow the prompt", 0.5 },
    { "seed", "Seed", "Seed", "a number, or random", 1 },
    { "count", "Count", "Count", "pictures, one seed after the other", 1 },
    { "cfg", "CFG", "CFG", "1: off; else the negative prompt counts, in twice the time", 0.5 },
    { "sampler", "Sampler", "Sampl.", "how steps are taken", 0 },
    { "schedule", "Schedule", "Sched.", "where steps are taken", 0 },
    { "precision", "Precision", "Prec.", "of weights and products", 0 },
};
enum { FIELDS = sizeof form / sizeof *form, FIELD_BYTES = 64 };
/* those with more to them than the table says */
enum { FIELD_SIZE = 0, FIELD_GUIDANCE = 2, FIELD_SEED = 3, FIELD_CFG = 5 };
enum { FOCUS_PROMPT, FOCUS_NEGATIVE, FOCUS_FIELDS, FOCUS_GENERATE = FOCUS_FIELDS + FIELDS, FOCUS_COUNT };

struct main_state {
    int focus; /* FOCUS_FIELDS + i: field i */
    struct edit prompt, negative, field[FIELDS];
    char error[FIELDS][160]; /* what is wrong with the field; "": nothing */
    int prompt_scroll, negative_scroll, example;
    int used;    /* which of v->prompts was put there last; -1: none, or it has been changed (used_prompt) */
    char *draft; /* what had been written before those were looked at; or NULL */
    struct image *fitted; /* the picture, two pixels a cell: scaling is most of a frame's time */
    uint64_t fitted_serial;
    struct rect at[FOCUS_COUNT]; /* as last drawn, for the mouse; h 0: not on the screen */
};

/* --- the form --------------------------------------------------------------- */

static const struct setting *setting_of(int field)
{
    return setting_find(form[field].setting);
}

static void fill(struct edit *to, const struct job *j, const char *name)
{
    char *text = setting_text(j, setting_find(name));

    /* Without memory the field stays as it was; so does the cursor in what is the same. */
    if (text && strcmp(text, to->text)) edit_set(to, text);
    free(text);
}

static bool main_init(struct view *v, struct err *e)
{
    struct main_state *m = v->main = calloc(1, sizeof *m);
    bool ok = m && edit_init(&m->prompt, VIEW_PROMPT_MAX) && edit_init(&m->negative, VIEW_PROMPT_MAX);

    if (ok) m->prompt.lines = m->negative.lines = true;
    for (int i = 0; ok && i < FIELDS; i++) ok = edit_init(&m->field[i], FIELD_BYTES);
    if (!ok) return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    m->example = m->used = -1;
    main_load(v);
    return true;
}

static void main_free(struct view *v)
{
    struct main_state *m = v->main;

    if (!m) return;
    edit_free(&m->prompt);
    edit_free(&m->negative);
    for (int i = 0; i < FIELDS; i++) edit_free(&m->field[i]);
    image_free(m->fitted);
    free(m->draft);
    free(m);
}

void main_load(struct view *v)
{
    struct main_state *m = v->main;

    fill(&m->prompt, &v->job, "prompt");
    fill(&m->negative, &v->job, "negative");
    for (int i = 0; i < FIELDS; i++) {
        fill(&m->field[i], &v->job, form[i].setting);
        m->error[i][0] = 0;
    }
}

/* Is it in the form? Else v->job has it. */
static bool shown(const struct setting *s)
{
    for (int i = 0; i < FIELDS; i++)
        if (setting_of(i) == s) return true;
    return !strcmp(s->name, "prompt") || !strcmp(s->name, "negative");
}

static bool field_used(const struct view *v, int i)
{
    return i != FIELD_GUIDANCE || v->model.flux.guidance;
}

/* The text without the blanks around it. */
static const char *field_text(const struct view *v, int i, char buf[FIELD_BYTES + 1])
{
    const char *s = v->main->field[i].text;
    size_t n;

    while (*s == ' ') s++;
    n = strlen(s);
    while (n && s[n - 1] == ' ') n--;
    memcpy(buf, s, n);
    buf[n] = 0;
    if (i == FIELD_SEED && (!n || !strcasecmp(buf, "random"))) strcpy(buf, "random");
    return buf;
}

static bool field_set(const struct view *v, int i, struct job *j, struct err *e)
{
    char text[FIELD_BYTES + 1];

    return setting_set(j, setting_of(i), field_text(v, i, text), e) == SETTING_SET;
}

static const char *field_range(int i, char buf[64])
{
    const struct setting *s = setting_of(i);

    if (s->kind == SETTING_SIZE)
        snprintf(buf, 64, "%dx%d to %dx%d", JOB_SIZE_MIN, JOB_SIZE_MIN, JOB_SIZE_MAX, JOB_SIZE_MAX);
    else if (s->kind == SETTING_SEED) snprintf(buf, 64, "a number or random");
    else snprintf(buf, 64, "%g to %g", s->low, s->high);
    return buf;
}

/* Each field is checked alone in a job of defaults, so that job_check's
 * complaint is about this field. */
static bool field_check(struct view *v, int i, struct err *e)
{
    char prompt[] = "", out[] = "x.png", notice[256] = "", range[64];
    struct job j = { .prompt = prompt, .negative = prompt, .out = out, .width = 256, .height = 256, .steps = 1,
                     .count = 1, .cfg = 1 };

    v->main->error[i][0] = 0;
    if (!field_used(v, i) || (field_set(v, i, &j, e) && job_check(&j, notice, e))) return true;
    snprintf(v->main->error[i], sizeof v->main->error[i], "%s", field_range(i, range));
    return false;
}

bool main_wrong(const struct view *v)
{
    for (int i = 0; i < FIELDS; i++)
        if (v->main->error[i][0]) return true;
    return false;
}

/* The field has been changed, perhaps put right. */
static void field_changed(struct view *v, int i)
{
    bool wrong = v->main->error[i][0] != 0;

    v->changes++;
    v->main->error[i][0] = 0;
    if (wrong && v->mood == VIEW_BAD && !main_wrong(v)) view_say(v, v->result_mood, v->result);
}

static void field_put(struct view *v, int i, const char *text)
{
    edit_set(&v->main->field[i], text);
    edit_offer(&v->main->field[i]);
    field_changed(v, i);
}

bool main_size(const struct view *v, struct job *j)
{
    return field_set(v, FIELD_SIZE, j, NULL);
}

bool main_job(const struct view *v, struct job *out, struct err *e)
{
    const struct main_state *m = v->main;

    if (!job_copy(out, &v->job, e)) return false;
    bool ok = job_set_string(&out->prompt, m->prompt.text, e) && job_set_string(&out->negative, m->negative.text, e);
    for (int i = 0; ok && i < FIELDS; i++) ok = !field_used(v, i) || field_set(v, i, out, e);
    if (!ok) job_free(out);
    return ok;
}

const char *view_prompt(const struct view *v, int which)
{
    return which ? v->main->negative.text : v->main->prompt.text;
}

void view_written(struct view *v, int which, const char *text)
{
    struct edit *e = which ? &v->main->negative : &v->main->prompt;

    edit_set(e, text);
    v->changes++;
    view_say(v, e->full ? VIEW_WARN : VIEW_INFO, e->full ? "The prompt is full; the rest was left out" : "");
}

void main_show(struct view *v, const struct setting *s)
{
    for (int i = 0; i < FIELDS; i++)
        if (setting_of(i) == s) fill(&v->main->field[i], &v->job, s->name), field_changed(v, i);
    if (!strcmp(s->name, "prompt")) fill(&v->main->prompt, &v->job, s->name);
    if (!strcmp(s->name, "negative")) fill(&v->main->negative, &v->job, s->name);
    v->changes++;
}

/* Does the field differ from what was loaded? What cannot be read does. */
static bool field_edited(const struct view *v, int i)
{
    struct job j = { 0 };

    return field_used(v, i) && (!field_set(v, i, &j, NULL) || !setting_same(&j, &v->loaded, setting_of(i)));
}

/* A setting that could stand in either file is the preset's, if there is one. */
static void count_edit(const struct view *v, const struct setting *s, bool *preset, bool *profile)
{
    if (s->scope & SETTING_PRESET && (v->preset[0] || !(s->scope & SETTING_PROFILE))) *preset = true;
    else if (s->scope & SETTING_PROFILE) *profile = true;
}

void view_edited(const struct view *v, bool *preset, bool *profile)
{
    *preset = strcmp(v->main->prompt.text, v->loaded.prompt) || strcmp(v->main->negative.text, v->loaded.negative);
    *profile = false;
    for (int i = 0; i < FIELDS; i++)
        if (field_edited(v, i)) count_edit(v, setting_of(i), preset, profile);
    for (int i = 0; i < setting_count(); i++)
        if (!shown(setting_at(i)) && !setting_same(&v->job, &v->loaded, setting_at(i)))
            count_edit(v, setting_at(i), preset, profile);
}

static bool negative_counts(const struct view *v)
{
    struct job j = { .cfg = 1 };

    field_set(v, FIELD_CFG, &j, NULL);
    return j.cfg != 1;
}

/* Without effect and without text it hides. */
static bool negative_used(const struct view *v)
{
    return v->main->negative.bytes || v->main->focus == FOCUS_NEGATIVE || negative_counts(v);
}

/* --- keys -------------------------------------------------------------------- */

static int field_of(int focus)
{
    return focus >= FOCUS_FIELDS && focus < FOCUS_GENERATE ? focus - FOCUS_FIELDS : -1;
}

static void set_focus(struct view *v, int f)
{
    struct main_state *m = v->main;
    struct err e = { 0 };
    int left = field_of(m->focus), to = field_of(f);

    /* A field is checked when it is left; its complaint stays beside it. */
    if (f != m->focus && left >= 0 && !field_check(v, left, &e)) view_say(v, VIEW_BAD, e.text);
    if (f != m->focus && to >= 0) edit_offer(&m->field[to]);
    m->focus = f;
}

static void step_focus(struct view *v, int by)
{
    int f = v->main->focus;

    do {
        f = (f + by + FOCUS_COUNT) % FOCUS_COUNT;
    } while ((field_of(f) >= 0 && !field_used(v, field_of(f))) || (f == FOCUS_NEGATIVE && !negative_used(v)));
    set_focus(v, f);
}

/* Which of v->prompts is shown, as it was; -1: none. */
static int used_prompt(struct view *v)
{
    struct main_state *m = v->main;

    if (m->used >= 0 && strcmp(v->prompts.text[m->used], m->prompt.text)) m->used = -1;
    return m->used;
}

void main_use_prompt(struct view *v, int i)
{
    struct main_state *m = v->main;

    if (used_prompt(v) < 0) {
        free(m->draft);
        m->draft = strdup(m->prompt.text); /* without memory for it there is undo */
    }
    m->used = i;
    edit_set(&m->prompt, v->prompts.text[i]);
    v->changes++;
}

/* To an older (1) or newer (-1) prompt, and at last to what was being written. False: there is none. */
static bool walk(struct view *v, int by)
{
    struct main_state *m = v->main;
    int to = used_prompt(v) + by;

    if (m->focus != FOCUS_PROMPT || to < -1 || to >= v->prompts.count) return false;
    if (m->used < 0 && !strcmp(v->prompts.text[to], m->prompt.text) && ++to == v->prompts.count) return false;
    if (to >= 0) {
        main_use_prompt(v, to);
        return true;
    }
    m->used = -1;
    edit_set(&m->prompt, m->draft ? m->draft : "");
    v->changes++;
    return true;
}

static struct wish generate(struct view *v)
{
    struct err e = { 0 };

    for (int i = 0; i < FIELDS; i++)
        if (!field_check(v, i, &e)) {
            v->main->focus = FOCUS_FIELDS + i;
            v->main->field[i].cursor = v->main->field[i].bytes;
            view_say(v, VIEW_BAD, e.text);
            return view_wish(WISH_NONE);
        }
    prompts_use(&v->prompts, v->main->prompt.text);
    v->main->used = -1;
    view_say(v, VIEW_INFO, "");
    return view_wish(WISH_GENERATE);
}

static void keep_seed(struct view *v)
{
    char text[FIELD_BYTES + 1];

    if (!strcmp(field_text(v, FIELD_SEED, text), "random") && v->last_seed_known) {
        snprintf(text, sizeof text, "%" PRIu64, v->last_seed);
        field_put(v, FIELD_SEED, text);
        view_say(v, VIEW_INFO, "Keeping the last seed");
    } else {
        field_put(v, FIELD_SEED, "random");
        view_say(v, VIEW_INFO, "A new seed for each picture");
    }
}

static void example(struct view *v)
{
    struct main_state *m = v->main;

    if (v->model.examples < 1) {
        view_say(v, VIEW_INFO, "This model brings no example prompts");
        return;
    }
    m->example = (m->example + 1) % v->model.examples;
    edit_set(&m->prompt, v->model.example[m->example]);
    v->changes++;
    set_focus(v, FOCUS_PROMPT);
}

/* What has the focus, as it was loaded; with the button, all of it. */
static void reset(struct view *v)
{
    struct main_state *m = v->main;
    int field = field_of(m->focus);
    bool all = m->focus == FOCUS_GENERATE;

    if (m->focus == FOCUS_PROMPT) fill(&m->prompt, &v->loaded, "prompt");
    if (m->focus == FOCUS_NEGATIVE || all) fill(&m->negative, &v->loaded, "negative");
    for (int i = 0; i < FIELDS; i++)
        if (all || i == field) {
            fill(&m->field[i], &v->loaded, form[i].setting);
            field_changed(v, i);
        }
    v->changes++;
    if (all) view_say(v, VIEW_INFO, "All settings are again as they were loaded; the prompt is as it was");
}

/* The next of a setting's own names, those that stand for a value of their own; from
 * the one that begins with `letter` if it is not 0. */
static void turn_choice(struct view *v, int i, int by, int letter)
{
    const struct setting *s = setting_of(i);
    const char *name[16];
    char text[FIELD_BYTES + 1];
    int n = 0, at = 0;

    for (const struct setting_choice *c = s->choices; c->name && n < 16; c++)
        if (!strcmp(setting_choice_name(s, c->value), c->name)) name[n++] = c->name;
    field_text(v, i, text);
    while (at < n && strcasecmp(name[at], text)) at++;
    for (int k = 1; k <= n; k++) {
        int to = (at + k * by + k * n) % n;
        if (letter && name[to][0] != letter) continue;
        field_put(v, i, name[to]);
        return;
    }
}

/* A field's number up or down, as far as its limits. */
static void turn(struct view *v, int i, int by)
{
    const struct setting *s = setting_of(i);
    char text[FIELD_BYTES + 1];
    struct job j = { 0 };

    if (s->kind == SETTING_CHOICE) {
        turn_choice(v, i, by, 0);
        return;
    }
    if (!field_set(v, i, &j, NULL)) return;
    if (s->kind == SETTING_SIZE) {
        int w = j.width + (int)form[i].step * by, h = j.height + (int)form[i].step * by;
        if (w < JOB_SIZE_MIN || h < JOB_SIZE_MIN || w > JOB_SIZE_MAX || h > JOB_SIZE_MAX) return;
        snprintf(text, sizeof text, "%dx%d", w, h);
    } else if (s->kind == SETTING_SEED) {
        if (j.random_seed && !v->last_seed_known) return;
        if (j.random_seed) j.seed = v->last_seed;
        else if (by < 0 ? j.seed > 0 : j.seed < UINT64_MAX) j.seed += (uint64_t)(int64_t)by;
        snprintf(text, sizeof text, "%" PRIu64, j.seed);
    } else {
        double now = s->kind == SETTING_INT ? *(const int *)((const char *)&j + s->offset)
                                            : (double)*(const float *)((const char *)&j + s->offset);
        double to = now + form[i].step * by;
        if (to < s->low || to > s->high) return;
        snprintf(text, sizeof text, "%g", to);
    }
    field_put(v, i, text);
}

static enum keys_context main_context(const struct view *v)
{
    int f = v->main->focus;

    return f < FOCUS_FIELDS ? KEYS_PROMPT : f == FOCUS_GENERATE ? KEYS_BUTTON : KEYS_FIELD;
}

static struct wish main_act(struct view *v, enum action a)
{
    int field = field_of(v->main->focus);

    switch (a) {
    case ACTION_GENERATE:
    case ACTION_PUSH: return generate(v);
    case ACTION_CANCEL: return view_cancel(v);
    case ACTION_LEAVE: set_focus(v, FOCUS_GENERATE); break;
    case ACTION_ENTER: set_focus(v, FOCUS_PROMPT); break;
    case ACTION_NEGATIVE: set_focus(v, v->main->focus == FOCUS_NEGATIVE ? FOCUS_PROMPT : FOCUS_NEGATIVE); break;
    case ACTION_NEXT:
    case ACTION_DOWN: step_focus(v, 1); break;
    case ACTION_PREVIOUS:
    case ACTION_UP: step_focus(v, -1); break;
    case ACTION_EXAMPLE: example(v); break;
    case ACTION_SEED: keep_seed(v); break;
    case ACTION_RESET: reset(v); break;
    case ACTION_HISTORY_SEARCH:
        if (v->main->focus == FOCUS_PROMPT) view_open(v, &screen_search);
        break;
    case ACTION_HISTORY_OLDER: walk(v, 1); break;
    case ACTION_EDITOR: return (struct wish){ .kind = WISH_EDITOR, .number = v->main->focus == FOCUS_NEGATIVE };
    case ACTION_HISTORY_NEWER: walk(v, -1); break;
    case ACTION_MORE:
    case ACTION_LESS:
        if (field >= 0) turn(v, field, a == ACTION_MORE ? 1 : -1);
        break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static void type_prompt(struct view *v, struct edit *prompt, const struct key *k)
{
    int width = layout_prompt_width(v->cols, v->rows);

    if (k->kind == K_UP) {
        if (!edit_move_row(prompt, width, -1) && !walk(v, 1)) prompt->cursor = 0;
    } else if (k->kind == K_DOWN) {
        if (!edit_move_row(prompt, width, 1) && (used_prompt(v) < 0 || !walk(v, -1))) step_focus(v, 1);
    } else if (edit_key(prompt, k)) {
        v->changes++;
        if (prompt->full) view_say(v, VIEW_WARN, "The prompt is full; the rest was left out");
    }
}

static void type_field(struct view *v, int i, const struct key *k)
{
    struct edit *e = &v->main->field[i];
    bool letter = k->kind == K_CHAR && !k->mods;

    if (setting_of(i)->kind == SETTING_CHOICE) {
        if (letter) turn_choice(v, i, 1, (int)k->ch);
        return;
    }
    /* A digit makes no seed of "random". */
    if (i == FIELD_SEED && letter && k->ch >= '0' && k->ch <= '9' && !strcasecmp(e->text, "random")) edit_offer(e);
    if (edit_key(e, k)) field_changed(v, i);
}

static struct wish main_type(struct view *v, const struct key *k)
{
    struct main_state *m = v->main;

    if (m->focus == FOCUS_PROMPT) type_prompt(v, &m->prompt, k);
    else if (m->focus == FOCUS_NEGATIVE) type_prompt(v, &m->negative, k);
    else if (field_of(m->focus) >= 0) type_field(v, field_of(m->focus), k);
    return view_wish(WISH_NONE);
}

static struct wish main_mouse(struct view *v, const struct key *k)
{
    struct main_state *m = v->main;
    int f = 0, field, width = layout_prompt_width(v->cols, v->rows), by = k->ch == MOUSE_UP ? 1 : -1;

    while (f < FOCUS_COUNT && !rect_has(m->at[f], k->x, k->y)) f++;
    if (f == FOCUS_COUNT) return view_wish(WISH_NONE);
    field = field_of(f);
    if (k->ch == MOUSE_UP || k->ch == MOUSE_DOWN) {
        if (field >= 0) turn(v, field, by);
        else if (f < FOCUS_FIELDS) edit_move_row(f == FOCUS_PROMPT ? &m->prompt : &m->negative, width, -by);
        return view_wish(WISH_NONE);
    }
    if (k->ch != MOUSE_LEFT || (field >= 0 && !field_used(v, field))) return view_wish(WISH_NONE);
    if (f == FOCUS_GENERATE) return generate(v);
    /* A choice that has the focus already goes on to the next. */
    if (field >= 0 && f == m->focus && setting_of(field)->kind == SETTING_CHOICE) turn(v, field, 1);
    set_focus(v, f);
    if (f == FOCUS_PROMPT) edit_place(&m->prompt, width, m->prompt_scroll + k->y - m->at[f].y, k->x - m->at[f].x);
    if (f == FOCUS_NEGATIVE && m->negative.bytes)
        edit_place(&m->negative, width, m->negative_scroll + k->y - m->at[f].y, k->x - m->at[f].x);
    return view_wish(WISH_NONE);
}

static const char *main_hint(const struct view *v, enum action a)
{
    const char *label = keys_action(a)->label;
    bool unsaved = v->shown == SHOWN_UNSAVED;
    int field = field_of(v->main->focus);

    switch (a) {
    case ACTION_GENERATE: return v->editing ? "Put it back" : view_busy(v) ? "Queue" : label;
    case ACTION_CANCEL: return v->editing ? "Leave the job" : view_busy(v) ? label : NULL;
    case ACTION_EXAMPLE:
        return v->model.examples > 0 && v->main->focus == FOCUS_PROMPT && v->main->prompt.bytes == 0 ? label : NULL;
    case ACTION_HISTORY_SEARCH: /* the table's is the search's own */
        return v->prompts.count && v->main->focus == FOCUS_PROMPT && !v->main->prompt.bytes ? "Used before" : NULL;
    case ACTION_NEXT: return unsaved ? NULL : label; /* leaves its room to what is urgent */
    case ACTION_SEED: return unsaved || view_busy(v) ? NULL : label;
    case ACTION_SAVE: return unsaved ? "Save elsewhere" : v->shown >= SHOWN_PARTIAL ? label : NULL;
    case ACTION_PICTURE: return v->image && !unsaved && !view_busy(v) ? label : NULL;
    case ACTION_PRESETS: return unsaved ? NULL : "Presets";
    case ACTION_QUEUE: return unsaved ? NULL : "Queue";
    case ACTION_GALLERY: return unsaved ? NULL : "Gallery";
    case ACTION_DOCTOR: return unsaved ? NULL : "Doctor";
    case ACTION_RESET: return field >= 0 && field_edited(v, field) ? label : NULL;
    default: return label;
    }
}

/* --- drawing --------------------------------------------------------------------- */

static void draw_title(const struct view *v, struct grid *g, struct rect r)
{
    const char *part[3] = { v->model.name, v->preset, v->profile };
    bool edited[3] = { false };
    char right[160] = "";
    int x = r.x + 1, end;

    view_edited(v, &edited[1], &edited[2]);
    snprintf(right, sizeof right, "%s", v->device);
    if (v->threads > 0 && !strcmp(v->device, "cpu"))
        snprintf(right, sizeof right, "%s, %d thread%s", v->device, v->threads, v->threads == 1 ? "" : "s");
    end = r.x + r.w - edit_width(right, strlen(right)) - 3;
    x += draw_text(g, r, x, r.y, COLOUR_ACCENT, CELL_BOLD, "sluice");
    for (int i = 0; i < 3; i++) {
        if (!part[i][0] || end - x < 8) continue;
        x += draw_text(g, r, x, r.y, COLOUR_BORDER, 0, " │ ");
        x += draw_fit(g, r, x, r.y, end - x - edited[i], COLOUR_TEXT, 0, part[i], false);
        if (edited[i]) x += draw_text(g, r, x, r.y, COLOUR_WARN, CELL_BOLD, "*");
    }
    r.w--;
    draw_right(g, r, r.y, COLOUR_DIM, 0, right);
}

/* A part of a row: dim what CLIP does not see, in the colour of warnings what T5 does not either. */
static void draw_seen(struct grid *g, struct rect r, int y, const struct edit *e, const struct edit_row *row,
                      const struct view_tokens *t)
{
    static const enum colour colours[3] = { COLOUR_TEXT, COLOUR_DIM, COLOUR_WARN };
    const size_t end[3] = { t->clip_most ? t->clip_fits : row->end, t->t5_most ? t->t5_fits : row->end, row->end };
    size_t at = row->from, beyond = 0;
    int x = r.x;

    for (int i = 0; i < 3; i++) { /* T5 sees more of any text than CLIP; should it not, the warning goes first */
        beyond = i == 2 || end[i] > row->end ? row->end : i == 0 && end[0] > end[1] ? end[1] : end[i];
        if (beyond <= at) continue;
        /* What was counted may be another text by now. */
        if (beyond < row->end) beyond = edit_prev(e->text, e->bytes, beyond + 1);
        x += draw_bytes(g, r, x, y, colours[i], 0, e->text + at, beyond - at);
        at = beyond;
    }
}

/* "CLIP 34/77  T5 41/512", ending at the end of r. */
static void draw_tokens(struct grid *g, struct rect r, int y, const struct edit *e, const struct view_tokens *t)
{
    char clip[48], t5[48];
    int wide;

    r = (struct rect){ r.x, y, r.w, 1 };
    if (!t->clip_most || !e->bytes) return;
    snprintf(clip, sizeof clip, " CLIP %d/%d", t->clip, t->clip_most);
    wide = snprintf(t5, sizeof t5, "  T5 %d/%d ", t->t5, t->t5_most) + (int)strlen(clip);
    if (wide > r.w) return;
    draw_text(g, r, r.x + r.w - wide, y, t->clip > t->clip_most ? COLOUR_TEXT : COLOUR_DIM, 0, clip);
    draw_right(g, r, y, t->t5 > t->t5_most ? COLOUR_WARN : COLOUR_DIM, 0, t5);
}

/* A text in its rows; also finds where the cursor is, and scrolls to it. */
static void draw_text_rows(struct view *v, struct grid *g, struct rect r, int which, bool focused,
                           const char *when_empty, char note[64])
{
    struct main_state *m = v->main;
    const struct edit *e = which ? &m->negative : &m->prompt;
    int *scroll = which ? &m->negative_scroll : &m->prompt_scroll;
    int width = layout_prompt_width(v->cols, v->rows), row = 0, col = 0, total = edit_rows(e, width, &row, &col), y = 0;
    struct edit_row at = { 0 };

    if (*scroll > total - r.h) *scroll = total - r.h;
    if (row >= *scroll + r.h) *scroll = row - r.h + 1;
    if (row < *scroll) *scroll = row;
    if (*scroll < 0) *scroll = 0;
    if (total > r.h) snprintf(note, 64, "row %d of %d", row + 1, total);
    for (; !at.last && y < *scroll + r.h; y++) {
        edit_row(e, at.to, width, &at);
        if (y >= *scroll) draw_seen(g, r, r.y + y - *scroll, e, &at, &v->tokens[which]);
    }
    if (e->bytes == 0) draw_fit(g, r, r.x, r.y, r.w, COLOUR_DIM, 0, when_empty, false);
    if (!focused) return;
    g->cursor_shown = true;
    g->cursor_x = r.x + col;
    g->cursor_y = r.y + row - *scroll;
}

static void draw_prompts(struct view *v, struct grid *g, const struct layout *l)
{
    struct main_state *m = v->main;
    bool on_top = view_top(v, &screen_main);
    bool here = on_top && m->focus == FOCUS_PROMPT, there = on_top && m->focus == FOCUS_NEGATIVE;
    char note[64] = "", note2[64] = "", invite[96], key[KEYS_NAME_MAX], edge[96];
    const char *nothing = negative_counts(v) ? "What to steer away from" : "No effect while CFG is 1";

    keys_name(&v->keys, ACTION_EXAMPLE, KEYS_PROMPT, key);
    snprintf(invite, sizeof invite, v->model.examples && *key ? "Describe a picture, or press %s for an example"
                                                              : "Describe a picture", key);
    if (l->shape == LAYOUT_COMPACT) { /* one place for both */
        bool negative = m->focus == FOCUS_NEGATIVE;
        draw_text(g, l->prompt_box, 0, l->prompt.y, here || there ? COLOUR_ACCENT : COLOUR_BORDER, CELL_BOLD,
                  negative ? "-" : "»");
        draw_text_rows(v, g, l->prompt, negative, here || there, negative ? nothing : invite, note);
        m->at[negative ? FOCUS_NEGATIVE : FOCUS_PROMPT] = l->prompt;
        return;
    }
    m->at[FOCUS_PROMPT] = l->prompt;
    draw_text_rows(v, g, l->prompt, 0, here, invite, note);
    if (l->negative.h) {
        struct rect both = l->prompt_box, lower = l->negative_box;
        both.h += lower.h;
        lower.y--;
        lower.h++;
        draw_text_rows(v, g, l->negative, 1, there, nothing, note2);
        if (m->negative.bytes && !negative_counts(v)) snprintf(note2, sizeof note2, "no effect while CFG is 1");
        draw_box(g, both, "Prompt", note, here);
        draw_box(g, lower, "Negative", note2, there);
        draw_text(g, lower, lower.x, lower.y, there ? COLOUR_ACCENT : COLOUR_BORDER, 0, "├");
        draw_text(g, lower, lower.x + lower.w - 1, lower.y, there ? COLOUR_ACCENT : COLOUR_BORDER, 0, "┤");
        m->at[FOCUS_NEGATIVE] = l->negative;
        draw_tokens(g, l->prompt, lower.y, &m->prompt, &v->tokens[0]);
        draw_tokens(g, l->negative, lower.y + lower.h - 1, &m->negative, &v->tokens[1]);
        return;
    }
    draw_box(g, l->prompt_box, "Prompt", note, here);
    keys_name(&v->keys, ACTION_NEGATIVE, KEYS_PROMPT, key);
    snprintf(edge, sizeof edge, " Negative: none%s%s ", *key ? ", " : "", key);
    m->at[FOCUS_NEGATIVE] = (struct rect){ l->prompt_box.x + 2, l->prompt_box.y + l->prompt_box.h - 1,
                                           edit_width(edge, strlen(edge)), 1 };
    draw_text(g, l->prompt_box, m->at[FOCUS_NEGATIVE].x, m->at[FOCUS_NEGATIVE].y, COLOUR_DIM, 0, edge);
    draw_tokens(g, l->prompt, m->at[FOCUS_NEGATIVE].y, &m->prompt, &v->tokens[0]);
}

/* One field: a mark if it is edited, its label, its value in w columns. */
static void draw_field(struct view *v, struct grid *g, int i, struct rect r, const char *label, int label_w)
{
    struct main_state *m = v->main;
    bool on = m->focus == FOCUS_FIELDS + i && view_top(v, &screen_main), choice = setting_of(i)->kind == SETTING_CHOICE;
    enum colour c = m->error[i][0] ? COLOUR_BAD : COLOUR_TEXT;
    struct rect value = { r.x + label_w, r.y, r.w - label_w, 1 };

    m->at[FOCUS_FIELDS + i] = r;
    draw_text(g, r, r.x, r.y, on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_BOLD : 0, label);
    if (field_edited(v, i)) draw_text(g, r, r.x + label_w - 1, r.y, COLOUR_WARN, CELL_BOLD, "*");
    if (!field_used(v, i)) {
        draw_text(g, value, value.x, r.y, COLOUR_DIM, 0, value.w >= 8 ? "not used" : "-");
        return;
    }
    view_draw_line(g, value, &m->field[i], c, on ? CELL_UNDERLINE : 0, on && !choice);
    if (on && choice) {
        g->cursor_shown = true;
        g->cursor_x = value.x;
        g->cursor_y = value.y;
    }
}

static void draw_button(struct view *v, struct grid *g, struct rect r)
{
    bool on = v->main->focus == FOCUS_GENERATE && view_top(v, &screen_main);
    char button[32];
    int w = snprintf(button, sizeof button, "[ %s ]", view_busy(v) ? "Queue another" : "Generate");

    r = (struct rect){ r.x + (r.w - w) / 2, r.y, w, 1 };
    v->main->at[FOCUS_GENERATE] = r;
    draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD | (on ? CELL_REVERSE : 0), button);
}

/* Two rows for what is used most; what else has the focus takes the seed's place. */
static void draw_settings_compact(struct view *v, struct grid *g, struct rect r)
{
    const int at[3] = { 1, r.w * 17 / 40, r.w * 28 / 40 };
    int focus = field_of(v->main->focus), last = focus > FIELD_SEED ? focus : FIELD_SEED;
    const char *button = view_busy(v) ? "Queue another" : "Generate";
    int w = (int)strlen(button) + 4;

    for (int i = 0; i < 3; i++) {
        struct rect place = { r.x + at[i], r.y, (i == 2 ? r.w : at[i + 1] - 1) - at[i], 1 };
        draw_field(v, g, i, place, form[i].brief, (int)strlen(form[i].brief) + 1);
    }
    draw_field(v, g, last, (struct rect){ r.x + 1, r.y + 1, at[1] + 5, 1 }, form[last].brief,
               (int)strlen(form[last].brief) + 1);
    draw_button(v, g, (struct rect){ r.x + r.w - w - 1, r.y + 1, w, 1 });
}

static void draw_settings(struct view *v, struct grid *g, const struct layout *l)
{
    struct main_state *m = v->main;
    struct rect r = l->settings;
    int focus = field_of(m->focus), half = r.w / 2 + 1; /* sizes are the widest values */

    if (l->shape == LAYOUT_COMPACT) {
        draw_settings_compact(v, g, r);
        return;
    }
    draw_box(g, l->settings_box, "Settings", NULL, m->focus >= FOCUS_FIELDS && view_top(v, &screen_main));
    if (l->settings_pairs) {
        for (int i = 0; i < FIELDS; i++) {
            struct rect place = { i % 2 ? r.x + half : r.x, r.y + i / 2, i % 2 ? r.w - half : half, 1 };
            draw_field(v, g, i, place, i % 2 ? form[i].brief : form[i].label, i % 2 ? 7 : 10);
        }
        draw_button(v, g, (struct rect){ r.x + half, r.y + FIELDS / 2, r.w - half, 1 });
        return;
    }
    for (int i = 0; i < FIELDS; i++) {
        struct rect place = { r.x, r.y + i, r.w, 1 };
        /* The complaint stands beside the value, which it leaves enough room. */
        if (m->error[i][0]) {
            int w = edit_width(m->error[i], strlen(m->error[i]));
            if (w > r.w - 16) w = r.w - 16;
            place.w -= w + 1;
            draw_fit(g, r, place.x + place.w + 1, place.y, w, COLOUR_BAD, 0, m->error[i], false);
        }
        draw_field(v, g, i, place, form[i].label, 10);
    }
    if (focus >= 0 && r.h > FIELDS + 1) draw_fit(g, r, r.x, r.y + r.h - 2, r.w, COLOUR_DIM, 0, form[focus].hint, false);
    if (r.h > FIELDS) draw_button(v, g, (struct rect){ r.x, r.y + r.h - 1, r.w, 1 });
}

static void draw_memory(const struct view *v, struct grid *g, const struct layout *l)
{
    char key[KEYS_NAME_MAX], remedy[96] = "";
    struct pane_memory m = {
        .plan = v->plan_known ? &v->plan : NULL, .unreadable = v->plan_unreadable,
        .now = v->memory_known ? &v->memory : NULL, .history = &v->history,
        .running = v->running, .stage = v->stage, .seen = v->stage_seen, .remedy = remedy,
    };
    bool other = v->running && m.plan && m.now && !pane_memory_same(&m);

    if (l->memory.h < 1) return;
    if (*keys_name(&v->keys, ACTION_PROFILES, KEYS_MAIN, key))
        snprintf(remedy, sizeof remedy, "%s: other profiles, and what each switch saves", key);
    if (l->shape == LAYOUT_COMPACT) {
        struct rect r = l->memory;
        pane_memory_line(g, (struct rect){ r.x + 1, r.y, r.w - 1, r.h }, &m);
        return;
    }
    draw_box(g, l->memory_box, other ? "Memory of the next" : "Memory", l->memory.w >= 34 ? "weights █ work ▒" : NULL,
             false);
    pane_memory_draw(g, l->memory, &m);
}

static void draw_invitation(const struct view *v, struct grid *g, struct rect r)
{
    int lines = v->model.examples < 5 ? v->model.examples : 5, y, widest = 0;

    if (r.h < lines + 4) lines = 0;
    y = r.y + (r.h - (lines ? lines + 3 : 1)) / 2;
    for (int i = 0; i < lines; i++) {
        int w = edit_width(v->model.example[i], strlen(v->model.example[i]));
        if (w > widest) widest = w;
    }
    if (widest > r.w - 4) widest = r.w - 4;
    const char *first = v->pictures ? "The picture appears here" : "Pictures are not shown (--graphics=none)";
    int w = edit_width(first, strlen(first));
    draw_fit(g, r, r.x + (r.w > w ? (r.w - w) / 2 : 0), y, r.w, COLOUR_DIM, 0, first, false);
    if (!lines) return;
    draw_text(g, r, r.x + (r.w - 21) / 2, y + 2, COLOUR_DIM, 0, "This model can draw:");
    for (int i = 0; i < lines; i++)
        draw_fit(g, r, r.x + (r.w - widest) / 2, y + 3 + i, widest, COLOUR_DIM, 0, v->model.example[i], false);
}

static void picture_note(const struct view *v, char note[96])
{
    note[0] = 0;
    if (v->shown == SHOWN_PREVIEW) snprintf(note, 96, "preview %d/%d", v->image_step, v->image_steps);
    else if (v->shown == SHOWN_PARTIAL) snprintf(note, 96, "partial, seed %" PRIu64, v->image_seed);
    else if (v->shown != SHOWN_NONE)
        snprintf(note, 96, "%s%dx%d, seed %" PRIu64, v->shown == SHOWN_UNSAVED ? "NOT SAVED, " : "", v->image->width,
                 v->image->height, v->image_seed);
}

/* The latest of this session, newest first, as many as there is room for. */
static bool draw_recent(const struct view *v, struct grid *g, const struct layout *l, struct err *e)
{
    struct rect r = l->recent;
    int across = r.w / 20 < 1 ? 1 : r.w / 20, w = r.w / across, h = w / 2 + 1, down = r.h / h;

    if (!r.h) return true;
    draw_box(g, l->recent_box, "Recent", NULL, false);
    for (int i = 0; i < v->recent_count && i < across * down; i++) {
        struct rect cell = { r.x + i % across * w, r.y + i / across * h, w - 1, h - 1 };
        const struct image *im = v->recent[i].thumb;
        struct rect at = layout_picture(cell, im->width, im->height, v->cell_w, v->cell_h);
        if (!draw_picture(g, at, im, e)) return false;
        if (v->pixels) grid_offer(g, at, im, v->recent[i].serial, true);
    }
    return true;
}

/* The picture in as many pixels as r has; NULL: no memory. */
static const struct image *fitted(const struct view *v, struct rect r, struct err *e)
{
    struct main_state *m = v->main;

    if (!m->fitted || m->fitted_serial != v->serial || m->fitted->width != r.w || m->fitted->height != 2 * r.h) {
        image_free(m->fitted);
        m->fitted = scale_image(v->image, r.w, 2 * r.h, e);
        m->fitted_serial = v->serial;
    }
    return m->fitted;
}

static bool draw_picture_panel(const struct view *v, struct grid *g, const struct layout *l, struct err *e)
{
    const struct image *im;
    struct rect r;
    char note[96];

    picture_note(v, note);
    if (l->shape == LAYOUT_PANELS) draw_box(g, l->picture_box, "Picture", note, false);
    if (!v->image || !v->pictures) {
        draw_invitation(v, g, l->picture);
        return true;
    }
    r = layout_picture(view_picture_room(v, l->picture), v->image->width, v->image->height, v->cell_w, v->cell_h);
    if (r.w < 1 || r.h < 1) return true;
    if (!(im = fitted(v, r, e)) || !draw_picture(g, r, im, e)) return false;
    grid_offer(g, r, v->image, v->serial, v->shown != SHOWN_PREVIEW);
    return true;
}

/* Job n of the queue's line, in at most `room` columns and what leads it; returns what it took. */
static int draw_queued(struct grid *g, struct rect r, int x, int room, int n, bool now, const char *prompt)
{
    int from = x;
    char text[16] = "» ";

    if (n > 1) x += draw_text(g, r, x, r.y, COLOUR_BORDER, 0, " │ ");
    if (!now) snprintf(text, sizeof text, "%d ", n);
    x += draw_text(g, r, x, r.y, now ? COLOUR_ACCENT : COLOUR_DIM, 0, text);
    x += draw_fit(g, r, x, r.y, room - 8 < 40 ? room - 8 : 40, now ? COLOUR_TEXT : COLOUR_DIM, 0,
                  *prompt ? prompt : "(no prompt)", false);
    return x - from;
}

/* The running job and those behind it, on one line. */
static void draw_queue(const struct view *v, struct grid *g, struct rect r)
{
    int x = r.x, end = r.x + r.w - 6, n = 0, total = view_waiting(v) + v->running;
    const struct store_job *job;
    char text[64];

    if (r.h < 1) return;
    if (!total) {
        draw_fit(g, r, x, r.y, r.w, COLOUR_DIM, 0, "Queue: empty", false);
        return;
    }
    x += draw_text(g, r, x, r.y, COLOUR_DIM, 0, "Queue:") + 1;
    for (const struct request *q = v->requests; q && end - x >= 16; q = q->next)
        x += draw_queued(g, r, x, end - x, ++n, v->running && q->id == v->running_id, q->job.prompt);
    for (int i = 0; end - x >= 16 && (job = queue_waiting(v, i)); i++)
        x += draw_queued(g, r, x, end - x, ++n, false, job->prompt);
    if (n < total) {
        snprintf(text, sizeof text, "+%d", total - n);
        draw_right(g, r, r.y, COLOUR_DIM, 0, text);
    }
}

static void draw_progress(const struct view *v, struct grid *g, struct rect r)
{
    char left[96], right[96] = "", time[16], part[48];
    int x = r.x, end, w, queued = view_waiting(v);
    double gone = (double)(v->now_ms - v->progress_ms) / 1000, eta;

    if (!view_busy(v)) {
        if (v->shown == SHOWN_DONE || v->shown == SHOWN_PARTIAL)
            snprintf(left, sizeof left, "%s in %.1f s, seed %" PRIu64, v->shown == SHOWN_DONE ? "Done" : "Stopped",
                     v->image_seconds, v->image_seed);
        else snprintf(left, sizeof left, "Ready");
        draw_fit(g, r, x, r.y, r.w, COLOUR_DIM, 0, left, false);
        return;
    }
    if (!v->running) {
        draw_fit(g, r, x, r.y, r.w, COLOUR_ACCENT, 0, "Starting", false);
        return;
    }
    if (!(gone > 0)) gone = 0;
    eta = v->eta_seconds < 0 ? -1 : v->eta_seconds > gone ? v->eta_seconds - gone : 0;
    part[0] = 0;
    if (v->stage == STAGE_FLUX && v->step > 0) snprintf(part, sizeof part, "  step %d/%d", v->step, v->steps);
    else if (v->blocks > 0) snprintf(part, sizeof part, "  block %d/%d", v->block, v->blocks);
    snprintf(left, sizeof left, "%s%s", v->cancelling ? "cancelling" : v->paused ? "paused" : stage_name(v->stage),
             part);
    if (r.w >= 64 && v->count > 1) {
        size_t n = strlen(left);
        snprintf(left + n, sizeof left - n, "  picture %d/%d", v->index + 1, v->count);
    }
    w = snprintf(right, sizeof right, "%3.0f %%", v->fraction * 100);
    if (eta >= 0) w += snprintf(right + w, sizeof right - (size_t)w, "  %s left", draw_time(eta, time));
    else w += snprintf(right + w, sizeof right - (size_t)w, "  %s", draw_time(v->seconds + gone, time));
    if (queued > 0 && r.w >= 56) snprintf(right + w, sizeof right - (size_t)w, "  +%d queued", queued);
    x += draw_fit(g, r, x, r.y, r.w, COLOUR_ACCENT, CELL_BOLD, left, false) + 2;
    if (r.w >= 64 && x < r.x + 24) x = r.x + 24; /* the bar begins at one place for all stages */
    end = r.x + r.w - (int)strlen(right) - 2;
    if (end - x >= 6) draw_bar(g, r, x, r.y, end - x, v->fraction, 0);
    draw_right(g, r, r.y, COLOUR_TEXT, 0, right);
}

/* About what has the focus, when there is nothing else to be said. */
static void draw_says(const struct view *v, struct grid *g, const struct layout *l)
{
    const struct main_state *m = v->main;
    int focus = field_of(m->focus);

    view_draw_message(v, g, l->message, !view_busy(v));
    if (!v->message[0] && focus >= 0 && (l->settings_pairs || l->shape == LAYOUT_COMPACT))
        draw_fit(g, l->message, l->message.x, l->message.y, l->message.w, COLOUR_DIM, 0, form[focus].hint, false);
    if (!v->message[0] && l->shape == LAYOUT_COMPACT && m->focus == FOCUS_PROMPT)
        draw_tokens(g, l->message, l->message.y, &m->prompt, &v->tokens[0]);
    if (!v->message[0] && l->shape == LAYOUT_COMPACT && m->focus == FOCUS_NEGATIVE)
        draw_tokens(g, l->message, l->message.y, &m->negative, &v->tokens[1]);
}

static bool main_draw(struct view *v, struct grid *g, struct err *e)
{
    struct main_state *m = v->main;
    struct layout l;
    int width = layout_prompt_width(v->cols, v->rows);

    layout_make(&l, v->cols, v->rows,
                &(struct layout_want){
                    .prompt_rows = edit_rows(&m->prompt, width, NULL, NULL),
                    .negative_rows = negative_used(v) ? edit_rows(&m->negative, width, NULL, NULL) : 0,
                    .recent = v->recent_count > 0 && v->pictures,
                });
    memset(m->at, 0, sizeof m->at);
    draw_title(v, g, l.title);
    draw_prompts(v, g, &l);
    if (!draw_picture_panel(v, g, &l, e) || !draw_recent(v, g, &l, e)) return false;
    draw_settings(v, g, &l);
    draw_memory(v, g, &l);
    draw_queue(v, g, l.queue);
    draw_progress(v, g, l.progress);
    draw_says(v, g, &l);
    view_draw_hints(v, g, l.hints);
    return true;
}

const struct screen screen_main = {
    .name = "main",
    .init = main_init,
    .free = main_free,
    .context = main_context,
    .act = main_act,
    .type = main_type,
    .mouse = main_mouse,
    .hint = main_hint,
    .draw = main_draw,
};
