/* view.c - see view.h.
 *
 * In this order: the state; the fields of the form; the actions and the one
 * table of them; keys; events; drawing, one function for each rectangle of the
 * layout. Nothing is drawn that is not in the state. */
#include "tui/view.h"
#include "tui/edit.h"
#include "tui/layout.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum focus { FOCUS_PROMPT, FOCUS_SIZE, FOCUS_STEPS, FOCUS_GUIDANCE, FOCUS_SEED, FOCUS_GENERATE, FOCUS_COUNT };
enum { FIELD_COUNT = 4, FIELD_BYTES = 64, PATH_BYTES = 4095 };
enum overlay { OVERLAY_NONE, OVERLAY_HELP, OVERLAY_SAVE };
enum shown { SHOWN_NONE, SHOWN_PREVIEW, SHOWN_PARTIAL, SHOWN_UNSAVED, SHOWN_DONE };

/* A job that was submitted and has not ended. */
struct request {
    struct request *next;
    uint64_t id;
    struct job job;
};

struct view {
    struct model model;
    char device[64], out_dir[PATH_BYTES + 1], home[PATH_BYTES + 1];
    int threads;
    struct job start; /* each job begins as a copy of it; the form's fields come on top */
    bool pictures;

    int cols, rows, cell_w, cell_h, picture_w, picture_h;
    int64_t now_ms;

    enum focus focus;
    struct edit prompt, field[FIELD_COUNT], save;
    char field_error[FIELD_COUNT][160];
    enum overlay overlay;
    int help_scroll, prompt_scroll, example;
    int64_t interrupted_ms; /* when ^C was last pressed; 0: not lately */

    struct request *requests; /* oldest first */
    bool running, cancelling;
    uint64_t running_id;
    enum stage stage;
    int step, steps, block, blocks, index, count;
    double seconds, eta_seconds, fraction;
    int64_t progress_ms;
    bool stage_seen[STAGE_COUNT];
    bool memory_known;
    struct event_memory memory;

    struct image *image; /* what is shown, owned */
    enum shown shown;
    uint64_t serial, image_seed, last_seed;
    bool last_seed_known, image_job_known;
    struct job image_job;
    int image_step, image_steps;
    double image_seconds;

    enum view_mood mood, result_mood;
    char result[PATH_BYTES + 128]; /* what was said about the last result */
    char message[PATH_BYTES + 128], wish_path[PATH_BYTES + 1], image_path[PATH_BYTES + 1];
};

/* --- state ---------------------------------------------------------------- */

void view_say(struct view *v, enum view_mood mood, const char *text)
{
    v->mood = mood;
    snprintf(v->message, sizeof v->message, "%s", text);
}

static void say_two(struct view *v, enum view_mood mood, const char *what, const char *of)
{
    v->mood = mood;
    snprintf(v->message, sizeof v->message, "%s%s", what, of);
}

/* "/home/me/x" as "~/x". */
static const char *friendly(const struct view *v, const char *path, char *buf, size_t n)
{
    size_t home = strlen(v->home);

    if (home > 1 && !strncmp(path, v->home, home) && (path[home] == '/' || !path[home])) {
        snprintf(buf, n, "~%s", path + home);
        return buf;
    }
    return path;
}

static void request_free(struct request *r)
{
    job_free(&r->job);
    free(r);
}

static struct request *request_find(struct view *v, uint64_t id)
{
    for (struct request *r = v->requests; r; r = r->next)
        if (r->id == id) return r;
    return NULL;
}

static void request_end(struct view *v, uint64_t id)
{
    for (struct request **at = &v->requests; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            struct request *r = *at;
            *at = r->next;
            request_free(r);
            return;
        }
}

/* Jobs that wait behind the running one. */
static int waiting(const struct view *v)
{
    int n = 0;

    for (const struct request *r = v->requests; r; r = r->next)
        if (!v->running || r->id != v->running_id) n++;
    return n;
}

bool view_busy(const struct view *v)
{
    return v->running || v->requests;
}

bool view_new(struct view **out, const struct model *m, const struct view_options *o, struct err *e)
{
    struct view *v = calloc(1, sizeof *v);
    bool ok = v != NULL;
    char text[64];

    *out = NULL;
    if (ok) {
        ok = edit_init(&v->prompt, VIEW_PROMPT_MAX) && edit_init(&v->save, PATH_BYTES);
        for (int i = 0; i < FIELD_COUNT; i++) ok = edit_init(&v->field[i], FIELD_BYTES) && ok;
    }
    if (!ok) {
        view_free(v);
        return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    }
    if (!(o->start ? job_copy(&v->start, o->start, e) : job_init(&v->start, m, e))) {
        view_free(v);
        return false;
    }
    edit_set(&v->prompt, v->start.prompt);
    v->model = *m;
    snprintf(v->device, sizeof v->device, "%s", o->device ? o->device : "");
    snprintf(v->out_dir, sizeof v->out_dir, "%s", o->out_dir ? o->out_dir : "");
    snprintf(v->home, sizeof v->home, "%s", o->home ? o->home : "");
    v->threads = o->threads;
    v->pictures = o->pictures;
    v->example = -1;
    view_resize(v, (struct view_screen){ .cols = 80, .rows = 24 });
    snprintf(text, sizeof text, "%dx%d", v->start.width, v->start.height);
    edit_set(&v->field[0], text);
    snprintf(text, sizeof text, "%d", v->start.steps);
    edit_set(&v->field[1], text);
    snprintf(text, sizeof text, "%g", (double)v->start.guidance);
    edit_set(&v->field[2], text);
    snprintf(text, sizeof text, "%" PRIu64, v->start.seed);
    edit_set(&v->field[3], !o->start || v->start.random_seed ? "random" : text);
    *out = v;
    return true;
}

void view_free(struct view *v)
{
    if (!v) return;
    while (v->requests) request_end(v, v->requests->id);
    edit_free(&v->prompt);
    edit_free(&v->save);
    for (int i = 0; i < FIELD_COUNT; i++) edit_free(&v->field[i]);
    image_free(v->image);
    job_free(&v->image_job);
    job_free(&v->start);
    free(v);
}

void view_resize(struct view *v, struct view_screen s)
{
    bool told = s.cell_w > 0 && s.cell_h > 0;

    v->cols = s.cols;
    v->rows = s.rows;
    v->cell_w = told ? s.cell_w : 10;
    v->cell_h = told ? s.cell_h : 20;
    v->picture_w = s.picture_w;
    v->picture_h = s.picture_h;
}

void view_tick(struct view *v, int64_t now_ms)
{
    v->now_ms = now_ms;
}

struct view_result view_result(const struct view *v)
{
    if (v->shown < SHOWN_PARTIAL) return (struct view_result){ .path = "" };
    return (struct view_result){ v->image, v->image_job_known ? &v->image_job : NULL, v->image_seed, v->image_path };
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
    const char *s = v->field[i].text;
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

    v->field_error[i][0] = 0;
    if (!field_used(v, i)) return true;
    if (fields[i].parse(field_text(v, i, text), &j, e) && job_check(&j, notice, e)) return true;
    snprintf(v->field_error[i], sizeof v->field_error[i], "%s", fields[i].range);
    return false;
}

static bool field_wrong(const struct view *v)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (v->field_error[i][0]) return true;
    return false;
}

/* The field is being put right. */
static void field_forgive(struct view *v, int i)
{
    if (!v->field_error[i][0]) return;
    v->field_error[i][0] = 0;
    if (v->mood == VIEW_BAD && !field_wrong(v)) view_say(v, v->result_mood, v->result);
}

bool view_request(struct view *v, struct job *out, bool *random_seed, struct err *e)
{
    char text[FIELD_BYTES + 1], notice[256] = "";

    if (!job_copy(out, &v->start, e)) return false;
    if (!job_set_string(&out->prompt, v->prompt.text, e)) goto failed;
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

void view_submitted(struct view *v, uint64_t id, const struct job *j)
{
    struct request *r = calloc(1, sizeof *r), **at = &v->requests;
    char text[64];

    if (r && job_copy(&r->job, j, NULL)) {
        r->id = id;
        while (*at) at = &(*at)->next;
        *at = r;
    } else {
        free(r); /* only the record is lost; the job runs */
    }
    if (v->running || waiting(v) > 1) {
        snprintf(text, sizeof text, "Queued with seed %" PRIu64 ": %d waiting", j->seed, waiting(v));
        view_say(v, VIEW_INFO, text);
    } else if (v->mood != VIEW_WARN) {
        view_say(v, VIEW_INFO, "");
    }
}

void view_refused(struct view *v, const char *text)
{
    view_say(v, VIEW_BAD, text);
}

void view_saved(struct view *v, bool ok, const char *path_or_reason)
{
    char buf[PATH_BYTES + 1];

    if (!ok) {
        say_two(v, VIEW_BAD, "Not saved: ", path_or_reason);
        return;
    }
    if (v->shown == SHOWN_UNSAVED) {
        v->shown = SHOWN_DONE;
        snprintf(v->image_path, sizeof v->image_path, "%s", path_or_reason);
    }
    say_two(v, VIEW_GOOD, "Saved ", friendly(v, path_or_reason, buf, sizeof buf));
}

/* --- actions ---------------------------------------------------------------- */

static void set_focus(struct view *v, enum focus f)
{
    struct err e = { 0 };
    int left = (int)v->focus - 1;

    /* A field is checked when it is left; its complaint stays beside it. */
    if (f != v->focus && left >= 0 && left < FIELD_COUNT && !field_check(v, left, &e)) view_say(v, VIEW_BAD, e.text);
    v->focus = f;
    if (f > FOCUS_PROMPT && f < FOCUS_GENERATE) v->field[f - 1].cursor = v->field[f - 1].bytes;
}

static void step_focus(struct view *v, int by)
{
    int f = (int)v->focus;

    do {
        f = (f + by + FOCUS_COUNT) % FOCUS_COUNT;
    } while (f > 0 && f < FOCUS_GENERATE && !field_used(v, f - 1));
    set_focus(v, (enum focus)f);
}

static struct wish wish(enum wish_kind kind)
{
    return (struct wish){ .kind = kind };
}

static struct wish do_generate(struct view *v)
{
    struct err e = { 0 };

    for (int i = 0; i < FIELD_COUNT; i++)
        if (!field_check(v, i, &e)) {
            v->focus = (enum focus)(i + 1);
            v->field[i].cursor = v->field[i].bytes;
            view_say(v, VIEW_BAD, e.text);
            return wish(WISH_NONE);
        }
    view_say(v, VIEW_INFO, "");
    return wish(WISH_GENERATE);
}

static struct wish do_next(struct view *v)
{
    step_focus(v, 1);
    return wish(WISH_NONE);
}

static struct wish do_previous(struct view *v)
{
    step_focus(v, -1);
    return wish(WISH_NONE);
}

static struct wish do_cancel(struct view *v)
{
    struct wish w = { .kind = WISH_CANCEL };

    if (!view_busy(v)) {
        view_say(v, VIEW_INFO, "");
        return wish(WISH_NONE);
    }
    w.job = v->running ? v->running_id : v->requests->id;
    view_say(v, VIEW_INFO, v->cancelling ? "Giving the partial picture up too" : "Cancelling after this block");
    v->cancelling = true;
    return w;
}

static struct wish do_interrupt(struct view *v)
{
    bool again = v->interrupted_ms && v->now_ms - v->interrupted_ms < 2000;

    if (again) return wish(WISH_QUIT);
    v->interrupted_ms = v->now_ms ? v->now_ms : 1;
    if (view_busy(v)) {
        struct wish w = do_cancel(v);
        view_say(v, VIEW_INFO, "Cancelling; ^C again quits");
        return w;
    }
    view_say(v, VIEW_INFO, "^C again quits (^Q at once)");
    return wish(WISH_NONE);
}

static struct wish do_quit(struct view *v)
{
    (void)v;
    return wish(WISH_QUIT);
}

static struct wish do_save(struct view *v)
{
    char path[2 * PATH_BYTES];

    if (v->shown < SHOWN_PARTIAL) {
        view_say(v, VIEW_WARN, "There is no finished picture to save yet");
        return wish(WISH_NONE);
    }
    /* A copy beside a result that was saved; elsewhere, to be typed, when that
     * folder has just refused. */
    if (v->shown == SHOWN_UNSAVED)
        snprintf(path, sizeof path, "%s/sluice-%" PRIu64 ".png", v->home[0] ? v->home : ".", v->image_seed);
    else
        snprintf(path, sizeof path, "%s%ssluice-%" PRIu64 "-copy.png", v->out_dir, v->out_dir[0] ? "/" : "", v->image_seed);
    edit_set(&v->save, path);
    v->overlay = OVERLAY_SAVE;
    return wish(WISH_NONE);
}

static struct wish do_seed(struct view *v)
{
    char text[32];

    if (is_random(field_text(v, FOCUS_SEED - 1, (char[FIELD_BYTES + 1]){ 0 })) && v->last_seed_known) {
        snprintf(text, sizeof text, "%" PRIu64, v->last_seed);
        edit_set(&v->field[FOCUS_SEED - 1], text);
        view_say(v, VIEW_INFO, "Keeping the last seed");
    } else {
        edit_set(&v->field[FOCUS_SEED - 1], "random");
        view_say(v, VIEW_INFO, "A new seed for each picture");
    }
    field_forgive(v, FOCUS_SEED - 1);
    return wish(WISH_NONE);
}

static struct wish do_example(struct view *v)
{
    if (v->model.examples < 1) {
        view_say(v, VIEW_INFO, "This model brings no example prompts");
        return wish(WISH_NONE);
    }
    v->example = (v->example + 1) % v->model.examples;
    edit_set(&v->prompt, v->model.example[v->example]);
    set_focus(v, FOCUS_PROMPT);
    return wish(WISH_NONE);
}

static struct wish do_help(struct view *v)
{
    v->overlay = OVERLAY_HELP;
    v->help_scroll = 0;
    return wish(WISH_NONE);
}

static struct wish do_redraw(struct view *v)
{
    (void)v;
    return wish(WISH_REDRAW);
}

static struct wish do_suspend(struct view *v)
{
    (void)v;
    return wish(WISH_SUSPEND);
}

static bool always(const struct view *v)
{
    (void)v;
    return true;
}

static bool never(const struct view *v)
{
    (void)v;
    return false;
}

static bool is_idle(const struct view *v)
{
    return !view_busy(v);
}

static bool has_unsaved(const struct view *v)
{
    return v->shown == SHOWN_UNSAVED;
}

static bool has_result(const struct view *v)
{
    return v->shown >= SHOWN_PARTIAL && v->shown != SHOWN_UNSAVED;
}

static bool wants_example(const struct view *v)
{
    return v->model.examples > 0 && v->prompt.bytes == 0;
}

static bool in_prompt(const struct view *v)
{
    return v->focus == FOCUS_PROMPT;
}

static bool not_in_prompt(const struct view *v)
{
    return v->focus != FOCUS_PROMPT;
}

/* Everything a key can do outside the text being typed. One row can name a key
 * that another row names too, if their `works` exclude each other. `hinted`
 * says when the hint bar offers it; the first rows survive on a narrow one. */
static const struct action {
    struct { enum key_kind kind; uint32_t ch; unsigned mods; } keys[3];
    const char *name;  /* of the keys, as shown */
    const char *label; /* hint bar */
    const char *help;  /* help screen */
    bool (*works)(const struct view *v);
    bool (*hinted)(const struct view *v);
    struct wish (*run)(struct view *v);
} actions[] = {
    { { { K_ENTER, 0, 0 } }, "Enter", "Generate", "generate; while one runs, queue another", always, always, do_generate },
    { { { K_ESC, 0, 0 } }, "Esc", "Cancel", "cancel; once more: give up the partial picture", always, view_busy,
      do_cancel },
    { { { K_CHAR, 's', K_CTRL }, { K_F2, 0, 0 } }, "^S", "Save elsewhere", NULL, has_unsaved, has_unsaved, do_save },
    { { { K_F1, 0, 0 }, { K_CHAR, 'g', K_CTRL } }, "^G", "Help", "this help (also F1, and ? outside the prompt)", always,
      in_prompt, do_help },
    { { { K_CHAR, '?', 0 } }, "?", "Help", NULL, not_in_prompt, not_in_prompt, do_help },
    { { { K_CHAR, 'q', K_CTRL } }, "^Q", "Quit", "quit; finished pictures are files already", always, always, do_quit },
    { { { K_TAB, 0, 0 } }, "Tab", "Next", "next field (also Down)", always, always, do_next },
    { { { K_BACKTAB, 0, 0 } }, "Shift-Tab", "Previous", "previous field (also Up)", always, never, do_previous },
    { { { K_CHAR, 't', K_CTRL } }, "^T", "Example", "an example prompt of this model", always, wants_example, do_example },
    { { { K_CHAR, 'r', K_CTRL } }, "^R", "Seed", "keep the last seed, or random again", always, is_idle, do_seed },
    { { { K_CHAR, 's', K_CTRL }, { K_F2, 0, 0 } }, "^S", "Save a copy", "save the picture shown (also F2)", always,
      has_result, do_save },
    { { { K_CHAR, 'c', K_CTRL } }, "^C", "Cancel", "cancel; twice: quit", always, never, do_interrupt },
    { { { K_CHAR, 'l', K_CTRL } }, "^L", "Redraw", "draw the screen again", always, never, do_redraw },
    { { { K_CHAR, 'z', K_CTRL } }, "^Z", "Suspend", "back to the shell until fg", always, never, do_suspend },
};
enum { ACTIONS = sizeof actions / sizeof *actions };

/* --- keys -------------------------------------------------------------------- */

static const struct action *find_action(const struct view *v, const struct key *k)
{
    for (int i = 0; i < ACTIONS; i++)
        for (int j = 0; j < 3 && actions[i].keys[j].kind; j++)
            if (actions[i].keys[j].kind == k->kind && actions[i].keys[j].ch == k->ch &&
                actions[i].keys[j].mods == k->mods && actions[i].works(v))
                return &actions[i];
    return NULL;
}

static struct wish help_key(struct view *v, const struct key *k)
{
    switch (k->kind) {
    case K_UP: v->help_scroll--; break;
    case K_DOWN: v->help_scroll++; break;
    case K_PAGEUP: v->help_scroll -= 10; break;
    case K_PAGEDOWN: v->help_scroll += 10; break;
    case K_CHAR:
        if (k->mods == K_CTRL && k->ch == 'c') {
            v->overlay = OVERLAY_NONE;
            return do_interrupt(v);
        }
        if (k->mods == K_CTRL && (k->ch == 'q' || k->ch == 'z' || k->ch == 'l')) return find_action(v, k)->run(v);
        v->overlay = OVERLAY_NONE;
        break;
    default: v->overlay = OVERLAY_NONE; break;
    }
    if (v->help_scroll < 0) v->help_scroll = 0;
    return wish(WISH_NONE);
}

static struct wish save_key(struct view *v, const struct key *k)
{
    struct wish w = { .kind = WISH_SAVE, .path = v->wish_path };
    const char *text = v->save.text;

    if (k->kind == K_ESC || (k->kind == K_CHAR && k->mods == K_CTRL && (k->ch == 'c' || k->ch == 'g'))) {
        v->overlay = OVERLAY_NONE;
        view_say(v, v->shown == SHOWN_UNSAVED ? VIEW_WARN : VIEW_INFO,
                 v->shown == SHOWN_UNSAVED ? "Not saved yet: ^S saves the picture" : "");
        return wish(WISH_NONE);
    }
    if (k->kind == K_CHAR && k->mods == K_CTRL && (k->ch == 'q' || k->ch == 'z' || k->ch == 'l'))
        return find_action(v, k)->run(v);
    if (k->kind != K_ENTER) {
        edit_key(&v->save, k);
        return wish(WISH_NONE);
    }
    while (*text == ' ') text++;
    if (!*text) return wish(WISH_NONE);
    if (text[0] == '~' && text[1] == '/' && v->home[0])
        snprintf(v->wish_path, sizeof v->wish_path, "%s%s", v->home, text + 1);
    else
        snprintf(v->wish_path, sizeof v->wish_path, "%s", text);
    v->overlay = OVERLAY_NONE;
    view_say(v, VIEW_INFO, "Saving");
    return w;
}

/* Page keys turn a field's number. */
static void nudge(struct view *v, int by)
{
    int i = (int)v->focus - 1, w, h;
    char text[FIELD_BYTES + 1], now[FIELD_BYTES + 1];
    struct job j = { 0 };

    field_text(v, i, now);
    switch (v->focus) {
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
    edit_set(&v->field[i], text);
    field_forgive(v, i);
}

struct wish view_key(struct view *v, const struct key *k)
{
    const struct action *a;
    struct key newline = { .kind = K_PASTE, .text = " ", .bytes = 1 };
    int width = layout_prompt_width(v->cols, v->rows);

    if (!(k->kind == K_CHAR && k->mods == K_CTRL && k->ch == 'c')) v->interrupted_ms = 0;
    if (v->overlay == OVERLAY_HELP) return help_key(v, k);
    if (v->overlay == OVERLAY_SAVE) return save_key(v, k);
    a = find_action(v, k);
    if (a) return a->run(v);
    if (k->kind == K_CHAR && k->mods == K_CTRL && k->ch == 'j') k = &newline;

    if (v->focus == FOCUS_PROMPT) {
        if (k->kind == K_UP) {
            if (!edit_move_row(&v->prompt, width, -1)) v->prompt.cursor = 0;
        } else if (k->kind == K_DOWN) {
            if (!edit_move_row(&v->prompt, width, 1)) do_next(v);
        } else if (edit_key(&v->prompt, k) && v->prompt.full) {
            view_say(v, VIEW_WARN, "The prompt is full; the rest was left out");
        }
        return wish(WISH_NONE);
    }
    if (k->kind == K_UP) return do_previous(v);
    if (k->kind == K_DOWN) return do_next(v);
    if (v->focus == FOCUS_GENERATE) {
        if (k->kind == K_CHAR && k->ch == ' ' && !k->mods) return do_generate(v);
        if (k->kind == K_LEFT) return do_previous(v);
        if (k->kind == K_RIGHT) return do_next(v);
        return wish(WISH_NONE);
    }
    if (k->kind == K_PAGEUP || k->kind == K_PAGEDOWN) {
        nudge(v, k->kind == K_PAGEUP ? 1 : -1);
        return wish(WISH_NONE);
    }
    /* The first letter typed over "random" replaces it. */
    if (v->focus == FOCUS_SEED && k->kind == K_CHAR && !k->mods && k->ch >= '0' && k->ch <= '9' &&
        !strcasecmp(v->field[FOCUS_SEED - 1].text, "random"))
        edit_set(&v->field[FOCUS_SEED - 1], "");
    if (edit_key(&v->field[v->focus - 1], k)) field_forgive(v, (int)v->focus - 1);
    return wish(WISH_NONE);
}

/* --- events -------------------------------------------------------------------- */

static void show(struct view *v, struct event *ev, enum shown what)
{
    struct request *r = request_find(v, ev->job);

    if (!ev->image) return;
    image_free(v->image);
    v->image = ev->image;
    ev->image = NULL;
    v->shown = what;
    v->serial++;
    v->image_step = ev->step;
    v->image_steps = ev->steps ? ev->steps : v->steps;
    v->image_seconds = ev->seconds;
    v->image_seed = v->last_seed;
    if (what == SHOWN_PREVIEW) return;
    job_free(&v->image_job);
    v->image_job_known = r && job_copy(&v->image_job, &r->job, NULL);
    snprintf(v->image_path, sizeof v->image_path, "%s", what == SHOWN_UNSAVED ? "" : ev->text);
}

/* How far a picture is, for its bar; -1: unknown. Sampling is nearly all of a
 * picture's time, so the other stages share what is left. */
static double fraction_of(const struct event *ev)
{
    static const double begin[STAGE_COUNT + 1] = { 0, 0.01, 0.03, 0.08, 0.90, 0.99, 1 };
    double inside = 0;

    if (ev->eta_seconds >= 0 && ev->seconds + ev->eta_seconds > 0) {
        /* An estimate that leaves out a later stage must not show the end too early. */
        double f = ev->seconds / (ev->seconds + ev->eta_seconds), most = ev->stage < STAGE_VAE ? 0.95 : 0.99;
        return f < most ? f : most;
    }
    if (ev->blocks > 0) inside = (double)ev->block / ev->blocks;
    if (ev->stage == STAGE_FLUX && ev->steps > 0 && ev->step > 0)
        inside = (ev->step - 1 + inside) / ev->steps;
    if (inside > 1) inside = 1;
    return begin[ev->stage] + inside * (begin[ev->stage + 1] - begin[ev->stage]);
}

static void end_job(struct view *v, const struct event *ev)
{
    request_end(v, ev->job);
    if (v->running && v->running_id == ev->job) v->running = v->cancelling = false;
}

static void say_result(struct view *v, const struct event *ev, char buf[PATH_BYTES + 1])
{
    if (ev->kind == EVENT_CANCELLED) {
        if (ev->text[0]) say_two(v, VIEW_WARN, "Cancelled; partial picture in ", friendly(v, ev->text, buf, PATH_BYTES + 1));
        else view_say(v, VIEW_WARN, "Cancelled");
        return;
    }
    say_two(v, VIEW_GOOD, "Saved ", friendly(v, ev->text, buf, PATH_BYTES + 1));
}

/* A result's line does not push away what is said about a wrong field; it
 * comes when that is put right. */
static void say_end(struct view *v, const struct event *ev)
{
    char buf[PATH_BYTES + 1], about_field[sizeof v->message];
    bool wrong = v->mood == VIEW_BAD && field_wrong(v);

    snprintf(about_field, sizeof about_field, "%s", v->message);
    say_result(v, ev, buf);
    v->result_mood = v->mood;
    snprintf(v->result, sizeof v->result, "%s", v->message);
    if (wrong) view_say(v, VIEW_BAD, about_field);
}

void view_event(struct view *v, struct event *ev)
{
    double f;

    switch (ev->kind) {
    case EVENT_STARTED:
        v->running = true;
        v->running_id = ev->job;
        v->index = ev->index;
        v->count = ev->count;
        v->steps = ev->steps;
        v->step = v->block = v->blocks = 0;
        v->seconds = v->fraction = 0;
        v->eta_seconds = -1;
        v->progress_ms = v->now_ms;
        v->stage = STAGE_LOAD;
        v->last_seed = ev->seed;
        v->last_seed_known = true;
        memset(v->stage_seen, 0, sizeof v->stage_seen);
        break;
    case EVENT_STAGE:
        v->stage = ev->stage;
        v->stage_seen[ev->stage] = true;
        v->block = v->blocks = 0;
        if (ev->stage != STAGE_FLUX) v->step = 0;
        break;
    case EVENT_PROGRESS:
        v->stage = ev->stage;
        v->stage_seen[ev->stage] = true;
        v->step = ev->step;
        if (ev->steps) v->steps = ev->steps;
        v->block = ev->block;
        v->blocks = ev->blocks;
        v->seconds = ev->seconds;
        v->eta_seconds = ev->eta_seconds;
        v->progress_ms = v->now_ms;
        f = fraction_of(ev);
        if (f > v->fraction) v->fraction = f;
        break;
    case EVENT_PREVIEW: show(v, ev, SHOWN_PREVIEW); break;
    case EVENT_MEMORY:
        v->memory = ev->memory;
        v->memory_known = true;
        break;
    case EVENT_NOTICE: view_say(v, VIEW_WARN, ev->text); break;
    case EVENT_DONE:
        show(v, ev, SHOWN_DONE);
        say_end(v, ev);
        if (ev->index + 1 >= ev->count) end_job(v, ev);
        break;
    case EVENT_CANCELLED:
        /* A preview left on screen after a cancel is what there is to see. */
        show(v, ev, SHOWN_PARTIAL);
        say_end(v, ev);
        end_job(v, ev);
        break;
    case EVENT_FAILED:
        show(v, ev, SHOWN_UNSAVED); /* if there is one */
        view_say(v, VIEW_BAD, ev->text);
        end_job(v, ev);
        break;
    case EVENT_IDLE:
        v->running = v->cancelling = false;
        break;
    default: break;
    }
    event_clear(ev);
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
    bool focused = v->focus == FOCUS_PROMPT && v->overlay == OVERLAY_NONE;
    struct edit_row at;
    size_t from = 0;
    char note[64] = "";

    total = edit_rows(&v->prompt, width, &row, &col);
    if (v->prompt_scroll > total - r.h) v->prompt_scroll = total - r.h;
    if (row >= v->prompt_scroll + r.h) v->prompt_scroll = row - r.h + 1;
    if (row < v->prompt_scroll) v->prompt_scroll = row;
    if (v->prompt_scroll < 0) v->prompt_scroll = 0;
    if (total > r.h) snprintf(note, sizeof note, "row %d of %d", row + 1, total);
    if (l->shape == LAYOUT_WIDE) draw_box(g, l->prompt_box, "Prompt", note, focused);
    else draw_text(g, l->prompt_box, 0, r.y, focused ? COLOUR_ACCENT : COLOUR_BORDER, CELL_BOLD, "»");
    for (; edit_row(&v->prompt, from, width, &at) && y < v->prompt_scroll + r.h; y++) {
        size_t n = at.to - at.from;
        if (n && v->prompt.text[at.to - 1] == ' ' && at.cols >= width) n--; /* the hanging space */
        if (y >= v->prompt_scroll)
            draw_bytes(g, r, r.x, r.y + y - v->prompt_scroll, COLOUR_TEXT, 0, v->prompt.text + at.from, n);
        if ((from = at.to) == 0) break;
    }
    if (v->prompt.bytes == 0)
        draw_fit(g, r, r.x, r.y, r.w, COLOUR_DIM, 0,
                 v->model.examples ? "Describe a picture, or press ^T for an example" : "Describe a picture", false);
    if (focused) {
        g->cursor_shown = true;
        g->cursor_x = r.x + col;
        g->cursor_y = r.y + row - v->prompt_scroll;
    }
}

/* One field's value in w columns, scrolled so that the cursor shows. */
static void draw_value(struct view *v, struct grid *g, int i, int x, int y, int w)
{
    struct rect r = { x, y, w, 1 };
    bool focused = v->focus == (enum focus)(i + 1) && v->overlay == OVERLAY_NONE;
    const struct edit *e = &v->field[i];
    enum colour c = v->field_error[i][0] ? COLOUR_BAD : COLOUR_TEXT;
    size_t from = 0;

    if (!field_used(v, i)) {
        draw_text(g, r, x, y, COLOUR_DIM, 0, w >= 8 ? "not used" : "-");
        return;
    }
    while (edit_width(e->text + from, e->cursor - from) >= w) from = edit_next(e->text, e->bytes, from);
    if (focused) draw_fill(g, r, " ", COLOUR_ACCENT, CELL_UNDERLINE);
    draw_bytes(g, r, x, y, c, focused ? CELL_UNDERLINE : 0, e->text + from, e->bytes - from);
    if (focused) {
        g->cursor_shown = true;
        g->cursor_x = x + edit_width(e->text + from, e->cursor - from);
        g->cursor_y = y;
    }
}

static const char *button_text(const struct view *v)
{
    return view_busy(v) ? "Queue another" : "Generate";
}

static void draw_settings(struct view *v, struct grid *g, const struct layout *l)
{
    struct rect r = l->settings;
    bool in_form = v->focus >= FOCUS_SIZE && v->overlay == OVERLAY_NONE;
    int i = (int)v->focus - 1, x;
    char button[32];

    snprintf(button, sizeof button, "[ %s ]", button_text(v));
    if (l->shape == LAYOUT_COMPACT) {
        const int at[3] = { 1, r.w * 17 / 40, r.w * 28 / 40 };
        for (i = 0; i < FIELD_COUNT; i++) {
            int y = r.y + i / 3, end = i == 3 ? r.x + at[1] + 6 : i == 2 ? r.w : r.x + at[i + 1] - 1;
            bool on = v->focus == (enum focus)(i + 1) && v->overlay == OVERLAY_NONE;
            x = r.x + at[i % 3];
            x += draw_text(g, r, x, y, on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_BOLD : 0, fields[i].brief) + 1;
            draw_value(v, g, i, x, y, end - x);
        }
        draw_text(g, r, r.x + r.w - edit_width(button, strlen(button)) - 1, r.y + 1, COLOUR_ACCENT,
                  v->focus == FOCUS_GENERATE ? CELL_REVERSE | CELL_BOLD : CELL_BOLD, button);
        return;
    }
    draw_box(g, l->settings_box, "Settings", NULL, in_form);
    for (int f = 0; f < FIELD_COUNT && f < r.h; f++) {
        bool on = v->focus == (enum focus)(f + 1) && v->overlay == OVERLAY_NONE;
        int value_w = r.w - 10;
        draw_text(g, r, r.x, r.y + f, on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_BOLD : 0, fields[f].label);
        /* The complaint stands beside the value, which it leaves enough room. */
        if (v->field_error[f][0]) {
            int w = edit_width(v->field_error[f], strlen(v->field_error[f]));
            if (w > value_w - 6) w = value_w - 6;
            value_w -= w + 1;
            draw_fit(g, r, r.x + 10 + value_w + 1, r.y + f, w, COLOUR_BAD, 0, v->field_error[f], false);
        }
        draw_value(v, g, f, r.x + 10, r.y + f, value_w);
    }
    if (r.h > FIELD_COUNT) {
        int y = r.y + r.h - 1;
        if (in_form && i < FIELD_COUNT)
            draw_fit(g, r, r.x, y - 1, r.w, COLOUR_DIM, 0, fields[i].hint, false);
        draw_text(g, r, r.x + (r.w - edit_width(button, strlen(button))) / 2, y, COLOUR_ACCENT,
                  CELL_BOLD | (v->focus == FOCUS_GENERATE && v->overlay == OVERLAY_NONE ? CELL_REVERSE : 0), button);
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
    if (v->overlay == OVERLAY_HELP) return true;
    g->picture = v->image;
    g->picture_at = r;
    g->picture_serial = v->serial;
    g->picture_fine = v->shown != SHOWN_PREVIEW;
    return true;
}

static void draw_progress(const struct view *v, struct grid *g, struct rect r)
{
    char left[96], right[96] = "", time[16], part[48];
    int x = r.x, end, w, queued = waiting(v);
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

static void draw_message(struct view *v, struct grid *g, struct rect r)
{
    static const enum colour colours[] = { COLOUR_DIM, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD };
    int w;

    if (v->overlay == OVERLAY_SAVE) {
        size_t from = 0;
        w = draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, "Save as: ");
        r.x += w;
        r.w -= w;
        while (edit_width(v->save.text + from, v->save.cursor - from) >= r.w)
            from = edit_next(v->save.text, v->save.bytes, from);
        draw_bytes(g, r, r.x, r.y, COLOUR_TEXT, 0, v->save.text + from, v->save.bytes - from);
        g->cursor_shown = true;
        g->cursor_x = r.x + edit_width(v->save.text + from, v->save.cursor - from);
        g->cursor_y = r.y;
        return;
    }
    /* A long complaint takes the idle progress row, too. */
    if (v->mood >= VIEW_WARN && !view_busy(v) && edit_width(v->message, strlen(v->message)) > r.w) {
        r = (struct rect){ r.x, r.y - 1, r.w, 2 };
        draw_fill(g, r, " ", COLOUR_TEXT, 0);
        draw_wrapped(g, r, r.y, 2, colours[v->mood], v->mood == VIEW_BAD ? CELL_BOLD : 0, v->message);
        return;
    }
    if (v->mood == VIEW_GOOD) { /* "Saved" and a path, whose end says more than its beginning */
        size_t word = strcspn(v->message, " ");
        w = draw_bytes(g, r, r.x, r.y, COLOUR_GOOD, 0, v->message, word) + 1;
        if (v->message[word]) draw_fit(g, r, r.x + w, r.y, r.w - w, COLOUR_GOOD, 0, v->message + word + 1, true);
        return;
    }
    draw_fit(g, r, r.x, r.y, r.w, colours[v->mood], v->mood == VIEW_BAD ? CELL_BOLD : 0, v->message, false);
}

static int draw_hint(struct grid *g, struct rect r, int x, const char *name, const char *label)
{
    int w = edit_width(name, strlen(name)) + 1 + edit_width(label, strlen(label));

    if (x + w > r.x + r.w) return x;
    x += draw_text(g, r, x, r.y, COLOUR_ACCENT, CELL_BOLD, name) + 1;
    x += draw_text(g, r, x, r.y, COLOUR_DIM, 0, label) + 2;
    return x;
}

static void draw_hints(const struct view *v, struct grid *g, struct rect r)
{
    int x = r.x;

    if (v->overlay == OVERLAY_SAVE) {
        x = draw_hint(g, r, x, "Enter", "Save");
        draw_hint(g, r, x, "Esc", "Back");
        return;
    }
    if (v->overlay == OVERLAY_HELP) {
        x = draw_hint(g, r, x, "Up Down", "Scroll");
        draw_hint(g, r, x, "Any key", "Close");
        return;
    }
    for (int i = 0; i < ACTIONS; i++)
        if (actions[i].hinted(v))
            x = draw_hint(g, r, x, actions[i].name, actions[i].run == do_generate && view_busy(v) ? "Queue" : actions[i].label);
}

static int help_line(struct grid *g, struct rect r, int line, int scroll, const char *key, const char *text)
{
    int y = r.y + line - scroll;

    if (y >= r.y && y < r.y + r.h) {
        draw_text(g, r, r.x, y, COLOUR_ACCENT, key && !text ? CELL_BOLD : 0, key ? key : "");
        if (text) draw_fit(g, r, r.x + 14, y, r.w - 14, COLOUR_TEXT, 0, text, false);
    }
    return line + 1;
}

static void draw_help(struct view *v, struct grid *g)
{
    int lines = 1, line = 0, w = v->cols < 76 ? v->cols : 76, h;
    struct rect box, r;

    for (int i = 0; i < ACTIONS; i++) lines += actions[i].help != NULL;
    for (int i = 0; edit_keys[i][0]; i++) lines++;
    lines += 5;
    h = lines + 2 < v->rows - 1 ? lines + 2 : v->rows - 1;
    box = (struct rect){ (v->cols - w) / 2, (v->rows - 1 - h) / 2, w, h };
    r = (struct rect){ box.x + 2, box.y + 1, box.w - 4, box.h - 2 };
    if (v->help_scroll > lines - r.h) v->help_scroll = lines - r.h;
    if (v->help_scroll < 0) v->help_scroll = 0;
    draw_fill(g, box, " ", COLOUR_TEXT, 0);
    draw_box(g, box, "Keys", lines > r.h ? "more: Up Down" : NULL, true);
    for (int i = 0; i < ACTIONS; i++)
        if (actions[i].help) line = help_line(g, r, line, v->help_scroll, actions[i].name, actions[i].help);
    line = help_line(g, r, line, v->help_scroll, "PgUp PgDn", "turn the number of the field up or down");
    line = help_line(g, r, line, v->help_scroll, NULL, NULL);
    line = help_line(g, r, line, v->help_scroll, "While typing", NULL);
    for (int i = 0; edit_keys[i][0]; i++) line = help_line(g, r, line, v->help_scroll, edit_keys[i][0], edit_keys[i][1]);
    line = help_line(g, r, line, v->help_scroll, NULL, NULL);
    help_line(g, r, line, v->help_scroll, NULL, "Sizes: weights are mapped files, work is what the engine allocates.");
    g->cursor_shown = false;
}

static void draw_too_small(const struct view *v, struct grid *g)
{
    struct rect r = { 0, 0, v->cols, v->rows };
    char text[64];

    draw_wrapped(g, r, v->rows / 3, v->rows, COLOUR_TEXT, CELL_BOLD, "terminal too small");
    snprintf(text, sizeof text, "%dx%d, needs %dx%d", v->cols, v->rows, LAYOUT_MIN_COLS, LAYOUT_MIN_ROWS);
    if (v->cols >= 18) draw_wrapped(g, r, v->rows / 3 + 1, v->rows, COLOUR_DIM, 0, text);
}

bool view_draw(struct view *v, struct grid *g, struct err *e)
{
    struct layout l;
    int width = layout_prompt_width(v->cols, v->rows);

    if ((g->cols != v->cols || g->rows != v->rows || !g->cells) && !grid_resize(g, v->cols, v->rows, e)) return false;
    grid_clear(g);
    layout_make(&l, v->cols, v->rows, edit_rows(&v->prompt, width, NULL, NULL));
    if (l.shape == LAYOUT_TOO_SMALL) {
        draw_too_small(v, g);
        return true;
    }
    draw_title(v, g, l.title);
    draw_prompt(v, g, &l);
    if (!draw_picture_panel(v, g, &l, e)) return false;
    draw_settings(v, g, &l);
    draw_memory(v, g, &l);
    draw_progress(v, g, l.progress);
    draw_message(v, g, l.message);
    draw_hints(v, g, l.hints);
    if (v->overlay == OVERLAY_HELP) draw_help(v, g);
    return true;
}
