/* screen_main.c - the main screen: prompt, form, picture, memory, progress.
 *
 * In this order: the state; the form; what keys do; drawing, one function for
 * each rectangle of the layout. */
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/view_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum focus { FOCUS_PROMPT, FOCUS_SIZE, FOCUS_STEPS, FOCUS_GUIDANCE, FOCUS_SEED, FOCUS_GENERATE, FOCUS_COUNT };
enum { FIELD_COUNT = 4, FIELD_BYTES = 64 };

struct main_state {
    enum focus focus;
    struct edit prompt, field[FIELD_COUNT];
    char field_error[FIELD_COUNT][160];
    int prompt_scroll, example;
};

static bool main_init(struct view *v, struct err *e)
{
    struct main_state *m = v->main = calloc(1, sizeof *m);
    bool ok = m && edit_init(&m->prompt, VIEW_PROMPT_MAX);
    char text[64];

    for (int i = 0; ok && i < FIELD_COUNT; i++) ok = edit_init(&m->field[i], FIELD_BYTES);
    if (!ok) return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    m->example = -1;
    edit_set(&m->prompt, v->start.prompt);
    snprintf(text, sizeof text, "%dx%d", v->start.width, v->start.height);
    edit_set(&m->field[0], text);
    snprintf(text, sizeof text, "%d", v->start.steps);
    edit_set(&m->field[1], text);
    snprintf(text, sizeof text, "%g", (double)v->start.guidance);
    edit_set(&m->field[2], text);
    snprintf(text, sizeof text, "%" PRIu64, v->start.seed);
    edit_set(&m->field[3], v->start.random_seed ? "random" : text);
    return true;
}

static void main_free(struct view *v)
{
    struct main_state *m = v->main;

    if (!m) return;
    edit_free(&m->prompt);
    for (int i = 0; i < FIELD_COUNT; i++) edit_free(&m->field[i]);
    free(m);
}

/* --- the form --------------------------------------------------------------- */

static bool parse_size(const char *text, struct job *j, struct err *e)
{
    return job_parse_size(text, &j->width, &j->height, e);
}

static bool parse_steps(const char *text, struct job *j, struct err *e)
{
    char *end;
    long n;

    errno = 0;
    n = strtol(text, &end, 10);
    if (end == text || *end || errno || n < -1000000 || n > 1000000)
        return err_set(e, ERR_INPUT, "steps \"%s\" is not a whole number from 1 to %d", text, JOB_STEPS_MAX);
    j->steps = (int)n;
    return true;
}

static bool parse_guidance(const char *text, struct job *j, struct err *e)
{
    char *end;
    float g = strtof(text, &end);

    if (end == text || *end)
        return err_set(e, ERR_INPUT, "guidance \"%s\" is not a number from 0 to %g", text, (double)JOB_GUIDANCE_MAX);
    j->guidance = g;
    return true;
}

static bool is_random(const char *text)
{
    return *text == 0 || !strcasecmp(text, "random");
}

static bool parse_seed(const char *text, struct job *j, struct err *e)
{
    char *end;
    unsigned long long n;

    if (is_random(text)) return true;
    errno = 0;
    n = strtoull(text, &end, 0);
    if (end == text || *end || errno || strchr(text, '-'))
        return err_set(e, ERR_INPUT, "seed \"%s\" is neither \"random\" nor a number from 0 to %" PRIu64, text,
                       UINT64_MAX);
    j->seed = n;
    return true;
}

static const struct {
    const char *label, *brief;
    const char *range; /* beside a wrong value */
    const char *hint;  /* below, while the field has the focus */
    bool (*parse)(const char *text, struct job *j, struct err *e);
} fields[FIELD_COUNT] = {
    { "Size", "Size", "16x16 to 8192x8192", "in steps of 16", parse_size },
    { "Steps", "Steps", "1 to 1000", "more: finer and slower", parse_steps },
    { "Guidance", "Guid.", "0 to 100", "how closely to follow", parse_guidance },
    { "Seed", "Seed", "a number or random", "a number, or random", parse_seed },
};

static bool field_used(const struct view *v, int i)
{
    return i != FOCUS_GUIDANCE - 1 || v->model.flux.guidance;
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
    return buf;
}

/* Each field is checked alone in a job of defaults, so that job_check's
 * complaint is about this field. */
static bool field_check(struct view *v, int i, struct err *e)
{
    char prompt[] = "", out[] = "x.png", notice[256] = "", text[FIELD_BYTES + 1];
    struct job j = { .prompt = prompt, .out = out, .width = 256, .height = 256, .steps = 1, .count = 1 };

    v->main->field_error[i][0] = 0;
    if (!field_used(v, i)) return true;
    if (fields[i].parse(field_text(v, i, text), &j, e) && job_check(&j, notice, e)) return true;
    snprintf(v->main->field_error[i], sizeof v->main->field_error[i], "%s", fields[i].range);
    return false;
}

bool main_wrong(const struct view *v)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (v->main->field_error[i][0]) return true;
    return false;
}

/* The field is being put right. */
static void field_forgive(struct view *v, int i)
{
    if (!v->main->field_error[i][0]) return;
    v->main->field_error[i][0] = 0;
    if (v->mood == VIEW_BAD && !main_wrong(v)) view_say(v, v->result_mood, v->result);
}

bool main_request(struct view *v, struct job *out, bool *random_seed, struct err *e)
{
    char text[FIELD_BYTES + 1], notice[256] = "";

    if (!job_copy(out, &v->start, e)) return false;
    if (!job_set_string(&out->prompt, v->main->prompt.text, e)) goto failed;
    for (int i = 0; i < FIELD_COUNT; i++)
        if (field_used(v, i) && !fields[i].parse(field_text(v, i, text), out, e)) goto failed;
    out->random_seed = false;
    out->preview = out->preview && v->pictures;
    if (!job_check(out, notice, e)) goto failed;
    if (notice[0]) view_say(v, VIEW_WARN, notice);
    *random_seed = is_random(field_text(v, FOCUS_SEED - 1, text));
    return true;
failed:
    job_free(out);
    return false;
}

/* --- keys -------------------------------------------------------------------- */

static void set_focus(struct view *v, enum focus f)
{
    struct err e = { 0 };
    int left = (int)v->main->focus - 1;

    /* A field is checked when it is left; its complaint stays beside it. */
    if (f != v->main->focus && left >= 0 && left < FIELD_COUNT && !field_check(v, left, &e)) view_say(v, VIEW_BAD, e.text);
    v->main->focus = f;
    if (f > FOCUS_PROMPT && f < FOCUS_GENERATE) v->main->field[f - 1].cursor = v->main->field[f - 1].bytes;
}

static void step_focus(struct view *v, int by)
{
    int f = (int)v->main->focus;

    do {
        f = (f + by + FOCUS_COUNT) % FOCUS_COUNT;
    } while (f > 0 && f < FOCUS_GENERATE && !field_used(v, f - 1));
    set_focus(v, (enum focus)f);
}

static struct wish do_generate(struct view *v)
{
    struct err e = { 0 };

    for (int i = 0; i < FIELD_COUNT; i++)
        if (!field_check(v, i, &e)) {
            v->main->focus = (enum focus)(i + 1);
            v->main->field[i].cursor = v->main->field[i].bytes;
            view_say(v, VIEW_BAD, e.text);
            return view_wish(WISH_NONE);
        }
    view_say(v, VIEW_INFO, "");
    return view_wish(WISH_GENERATE);
}

static struct wish do_seed(struct view *v)
{
    char text[32];

    if (is_random(field_text(v, FOCUS_SEED - 1, (char[FIELD_BYTES + 1]){ 0 })) && v->last_seed_known) {
        snprintf(text, sizeof text, "%" PRIu64, v->last_seed);
        edit_set(&v->main->field[FOCUS_SEED - 1], text);
        view_say(v, VIEW_INFO, "Keeping the last seed");
    } else {
        edit_set(&v->main->field[FOCUS_SEED - 1], "random");
        view_say(v, VIEW_INFO, "A new seed for each picture");
    }
    field_forgive(v, FOCUS_SEED - 1);
    return view_wish(WISH_NONE);
}

static struct wish do_example(struct view *v)
{
    if (v->model.examples < 1) {
        view_say(v, VIEW_INFO, "This model brings no example prompts");
        return view_wish(WISH_NONE);
    }
    v->main->example = (v->main->example + 1) % v->model.examples;
    edit_set(&v->main->prompt, v->model.example[v->main->example]);
    set_focus(v, FOCUS_PROMPT);
    return view_wish(WISH_NONE);
}

/* Page keys turn a field's number. */
static void nudge(struct view *v, int by)
{
    int i = (int)v->main->focus - 1, w, h;
    char text[FIELD_BYTES + 1], now[FIELD_BYTES + 1];
    struct job j = { 0 };

    field_text(v, i, now);
    switch (v->main->focus) {
    case FOCUS_SIZE:
        if (!job_parse_size(now, &w, &h, NULL)) return;
        w += 16 * by;
        h += 16 * by;
        if (w < JOB_SIZE_MIN || h < JOB_SIZE_MIN || w > JOB_SIZE_MAX || h > JOB_SIZE_MAX) return;
        snprintf(text, sizeof text, "%dx%d", w, h);
        break;
    case FOCUS_STEPS:
        if (!parse_steps(now, &j, NULL) || j.steps + by < 1 || j.steps + by > JOB_STEPS_MAX) return;
        snprintf(text, sizeof text, "%d", j.steps + by);
        break;
    case FOCUS_GUIDANCE:
        if (!parse_guidance(now, &j, NULL) || !(j.guidance + 0.5f * (float)by >= 0) ||
            !(j.guidance + 0.5f * (float)by <= JOB_GUIDANCE_MAX))
            return;
        snprintf(text, sizeof text, "%g", (double)(j.guidance + 0.5f * (float)by));
        break;
    case FOCUS_SEED:
        if (is_random(now) ? !v->last_seed_known : !parse_seed(now, &j, NULL)) return;
        if (is_random(now)) j.seed = v->last_seed;
        else if ((by < 0 && j.seed == 0) || (by > 0 && j.seed == UINT64_MAX)) return;
        else j.seed += (uint64_t)(int64_t)by;
        snprintf(text, sizeof text, "%" PRIu64, j.seed);
        break;
    default: return;
    }
    edit_set(&v->main->field[i], text);
    field_forgive(v, i);
}

static enum keys_context main_context(const struct view *v)
{
    return v->main->focus == FOCUS_PROMPT ? KEYS_PROMPT : v->main->focus == FOCUS_GENERATE ? KEYS_BUTTON : KEYS_FIELD;
}

static struct wish main_act(struct view *v, enum action a)
{
    switch (a) {
    case ACTION_GENERATE:
    case ACTION_PUSH: return do_generate(v);
    case ACTION_CANCEL: return view_cancel(v);
    case ACTION_LEAVE: set_focus(v, FOCUS_GENERATE); break;
    case ACTION_ENTER: set_focus(v, FOCUS_PROMPT); break;
    case ACTION_NEXT:
    case ACTION_DOWN: step_focus(v, 1); break;
    case ACTION_PREVIOUS:
    case ACTION_UP: step_focus(v, -1); break;
    case ACTION_EXAMPLE: return do_example(v);
    case ACTION_SEED: return do_seed(v);
    case ACTION_MORE: nudge(v, 1); break;
    case ACTION_LESS: nudge(v, -1); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish type_prompt(struct view *v, const struct key *k)
{
    struct edit *prompt = &v->main->prompt;
    int width = layout_prompt_width(v->cols, v->rows);

    if (k->kind == K_UP) {
        if (!edit_move_row(prompt, width, -1)) prompt->cursor = 0;
    } else if (k->kind == K_DOWN) {
        if (!edit_move_row(prompt, width, 1)) step_focus(v, 1);
    } else if (edit_key(prompt, k) && prompt->full) {
        view_say(v, VIEW_WARN, "The prompt is full; the rest was left out");
    }
    return view_wish(WISH_NONE);
}

static struct wish main_type(struct view *v, const struct key *k)
{
    struct main_state *m = v->main;
    struct key newline = { .kind = K_PASTE, .text = " ", .bytes = 1 };

    if (k->kind == K_CHAR && k->mods == K_CTRL && k->ch == 'j') k = &newline;
    if (m->focus == FOCUS_PROMPT) return type_prompt(v, k);
    if (m->focus == FOCUS_GENERATE) return view_wish(WISH_NONE);
    /* The first letter typed over "random" replaces it. */
    if (m->focus == FOCUS_SEED && k->kind == K_CHAR && !k->mods && k->ch >= '0' && k->ch <= '9' &&
        !strcasecmp(m->field[FOCUS_SEED - 1].text, "random"))
        edit_set(&m->field[FOCUS_SEED - 1], "");
    if (edit_key(&m->field[m->focus - 1], k)) field_forgive(v, (int)m->focus - 1);
    return view_wish(WISH_NONE);
}

static const char *main_hint(const struct view *v, enum action a)
{
    const char *label = keys_action(a)->label;
    bool unsaved = v->shown == SHOWN_UNSAVED;

    switch (a) {
    case ACTION_GENERATE: return view_busy(v) ? "Queue" : label;
    case ACTION_CANCEL: return view_busy(v) ? label : NULL;
    case ACTION_EXAMPLE: return v->model.examples > 0 && v->main->prompt.bytes == 0 ? label : NULL;
    case ACTION_NEXT: return unsaved ? NULL : label; /* leaves its room to what is urgent */
    case ACTION_SEED: return unsaved || view_busy(v) ? NULL : label;
    case ACTION_SAVE: return unsaved ? "Save elsewhere" : v->shown >= SHOWN_PARTIAL ? label : NULL;
    default: return label;
    }
}

/* --- drawing --------------------------------------------------------------------- */

static void draw_title(const struct view *v, struct grid *g, struct rect r)
{
    char right[160] = "";
    int n = 0, x = r.x + 1;

    if (v->threads > 0) n = snprintf(right, sizeof right, "%s, %d thread%s", v->device, v->threads, v->threads == 1 ? "" : "s");
    else n = snprintf(right, sizeof right, "%s", v->device);
    if (r.w >= 60 && n >= 0 && (size_t)n < sizeof right)
        snprintf(right + n, sizeof right - (size_t)n, ", %s", precision_name(v->start.precision));
    x += draw_text(g, r, x, r.y, COLOUR_ACCENT, CELL_BOLD, "sluice");
    x += draw_text(g, r, x, r.y, COLOUR_BORDER, 0, " │ ");
    draw_fit(g, r, x, r.y, r.x + r.w - x - (int)strlen(right) - 3, COLOUR_TEXT, 0, v->model.name, false);
    r.w--;
    draw_right(g, r, r.y, COLOUR_DIM, 0, right);
}

/* Also finds where the cursor is, and scrolls to it. */
static void draw_prompt(struct view *v, struct grid *g, const struct layout *l)
{
    struct rect r = l->prompt;
    int width = layout_prompt_width(v->cols, v->rows), row = 0, col = 0, total, y = 0;
    bool focused = v->main->focus == FOCUS_PROMPT && view_top(v, &screen_main);
    struct edit_row at;
    size_t from = 0;
    char note[64] = "";

    total = edit_rows(&v->main->prompt, width, &row, &col);
    if (v->main->prompt_scroll > total - r.h) v->main->prompt_scroll = total - r.h;
    if (row >= v->main->prompt_scroll + r.h) v->main->prompt_scroll = row - r.h + 1;
    if (row < v->main->prompt_scroll) v->main->prompt_scroll = row;
    if (v->main->prompt_scroll < 0) v->main->prompt_scroll = 0;
    if (total > r.h) snprintf(note, sizeof note, "row %d of %d", row + 1, total);
    if (l->shape == LAYOUT_WIDE) draw_box(g, l->prompt_box, "Prompt", note, focused);
    else draw_text(g, l->prompt_box, 0, r.y, focused ? COLOUR_ACCENT : COLOUR_BORDER, CELL_BOLD, "»");
    for (; edit_row(&v->main->prompt, from, width, &at) && y < v->main->prompt_scroll + r.h; y++) {
        size_t n = at.to - at.from;
        if (n && v->main->prompt.text[at.to - 1] == ' ' && at.cols >= width) n--; /* the hanging space */
        if (y >= v->main->prompt_scroll)
            draw_bytes(g, r, r.x, r.y + y - v->main->prompt_scroll, COLOUR_TEXT, 0, v->main->prompt.text + at.from, n);
        if ((from = at.to) == 0) break;
    }
    if (v->main->prompt.bytes == 0)
        draw_fit(g, r, r.x, r.y, r.w, COLOUR_DIM, 0,
                 v->model.examples ? "Describe a picture, or press ^T for an example" : "Describe a picture", false);
    if (focused) {
        g->cursor_shown = true;
        g->cursor_x = r.x + col;
        g->cursor_y = r.y + row - v->main->prompt_scroll;
    }
}

/* One field's value in w columns, scrolled so that the cursor shows. */
static void draw_value(struct view *v, struct grid *g, int i, int x, int y, int w)
{
    struct rect r = { x, y, w, 1 };
    bool focused = v->main->focus == (enum focus)(i + 1) && view_top(v, &screen_main);
    const struct edit *e = &v->main->field[i];
    enum colour c = v->main->field_error[i][0] ? COLOUR_BAD : COLOUR_TEXT;

    if (!field_used(v, i)) draw_text(g, r, x, y, COLOUR_DIM, 0, w >= 8 ? "not used" : "-");
    else view_draw_line(g, r, e, c, focused ? CELL_UNDERLINE : 0, focused);
}

static const char *button_text(const struct view *v)
{
    return view_busy(v) ? "Queue another" : "Generate";
}

static void draw_settings(struct view *v, struct grid *g, const struct layout *l)
{
    struct rect r = l->settings;
    bool in_form = v->main->focus >= FOCUS_SIZE && view_top(v, &screen_main);
    int i = (int)v->main->focus - 1, x;
    char button[32];

    snprintf(button, sizeof button, "[ %s ]", button_text(v));
    if (l->shape == LAYOUT_COMPACT) {
        const int at[3] = { 1, r.w * 17 / 40, r.w * 28 / 40 };
        for (i = 0; i < FIELD_COUNT; i++) {
            int y = r.y + i / 3, end = i == 3 ? r.x + at[1] + 6 : i == 2 ? r.w : r.x + at[i + 1] - 1;
            bool on = v->main->focus == (enum focus)(i + 1) && view_top(v, &screen_main);
            x = r.x + at[i % 3];
            x += draw_text(g, r, x, y, on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_BOLD : 0, fields[i].brief) + 1;
            draw_value(v, g, i, x, y, end - x);
        }
        draw_text(g, r, r.x + r.w - edit_width(button, strlen(button)) - 1, r.y + 1, COLOUR_ACCENT,
                  v->main->focus == FOCUS_GENERATE ? CELL_REVERSE | CELL_BOLD : CELL_BOLD, button);
        return;
    }
    draw_box(g, l->settings_box, "Settings", NULL, in_form);
    for (int f = 0; f < FIELD_COUNT && f < r.h; f++) {
        bool on = v->main->focus == (enum focus)(f + 1) && view_top(v, &screen_main);
        int value_w = r.w - 10;
        draw_text(g, r, r.x, r.y + f, on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_BOLD : 0, fields[f].label);
        /* The complaint stands beside the value, which it leaves enough room. */
        if (v->main->field_error[f][0]) {
            int w = edit_width(v->main->field_error[f], strlen(v->main->field_error[f]));
            if (w > value_w - 6) w = value_w - 6;
            value_w -= w + 1;
            draw_fit(g, r, r.x + 10 + value_w + 1, r.y + f, w, COLOUR_BAD, 0, v->main->field_error[f], false);
        }
        draw_value(v, g, f, r.x + 10, r.y + f, value_w);
    }
    if (r.h > FIELD_COUNT) {
        int y = r.y + r.h - 1;
        if (in_form && i < FIELD_COUNT)
            draw_fit(g, r, r.x, y - 1, r.w, COLOUR_DIM, 0, fields[i].hint, false);
        draw_text(g, r, r.x + (r.w - edit_width(button, strlen(button))) / 2, y, COLOUR_ACCENT,
                  CELL_BOLD | (v->main->focus == FOCUS_GENERATE && view_top(v, &screen_main) ? CELL_REVERSE : 0), button);
    }
}

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

static void draw_memory(const struct view *v, struct grid *g, const struct layout *l)
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

static bool draw_picture_panel(const struct view *v, struct grid *g, const struct layout *l, struct err *e)
{
    struct rect r, room;
    char note[96];

    picture_note(v, note);
    if (l->shape == LAYOUT_WIDE) draw_box(g, l->picture_box, "Picture", note, false);
    if (!v->image || !v->pictures) {
        draw_invitation(v, g, l->picture);
        return true;
    }
    room = l->picture;
    if (v->picture_w && room.w > v->picture_w / v->cell_w) {
        room.w = v->picture_w / v->cell_w;
        room.x += (l->picture.w - room.w) / 2;
    }
    if (v->picture_h && room.h > v->picture_h / v->cell_h) {
        room.h = v->picture_h / v->cell_h;
        room.y += (l->picture.h - room.h) / 2;
    }
    r = layout_picture(room, v->image->width, v->image->height, v->cell_w, v->cell_h);
    if (r.w < 1 || r.h < 1) return true;
    if (!draw_picture(g, r, v->image, e)) return false;
    g->picture = v->image;
    g->picture_at = r;
    g->picture_serial = v->serial;
    g->picture_fine = v->shown != SHOWN_PREVIEW;
    return true;
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
    snprintf(left, sizeof left, "%s%s", v->cancelling ? "cancelling" : stage_name(v->stage), part);
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

static bool main_draw(struct view *v, struct grid *g, struct err *e)
{
    struct layout l;
    int width = layout_prompt_width(v->cols, v->rows);

    layout_make(&l, v->cols, v->rows, edit_rows(&v->main->prompt, width, NULL, NULL));
    draw_title(v, g, l.title);
    draw_prompt(v, g, &l);
    if (!draw_picture_panel(v, g, &l, e)) return false;
    draw_settings(v, g, &l);
    draw_memory(v, g, &l);
    draw_progress(v, g, l.progress);
    view_draw_message(v, g, l.message, !view_busy(v));
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
    .hint = main_hint,
    .draw = main_draw,
};
