/* screen_presets.c - the presets: what there is, what each would change in the form,
 * and what somebody else's file would, before it does.
 *
 * Four modes: the list; a search above it; a line being typed (a name, a path); a
 * file being looked at. Files are the service's (presets.h); here are only the
 * values that it has read. Nothing is put into the form but by Enter. */
#include "tui/presets.h"

#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum mode { MODE_LIST, MODE_SEARCH, MODE_LINE, MODE_LOOK };
enum { LIST_COLS = 30, TEXT_MAX = 64, FOUND_MAX = 4096 };

struct presets_state {
    enum mode mode;
    struct edit search, line;
    int count;
    struct presets_item *item;  /* owned */
    bool known, asked;          /* the list; a list is on its way */
    char at[SHELF_NAME_MAX];    /* the one that is chosen */
    int scroll, page;
    struct rect rows;           /* as last drawn, for the mouse */

    enum presets_op doing;      /* MODE_LINE: what the line is for */
    bool over;                  /* the name is another preset's, and Enter was pressed once */
    char looking[FILE_PATH_MAX]; /* a file that is being read; "": none */
    bool own;                   /* ... which is a preset of the list */
    struct import *import;      /* MODE_LOOK, owned */
    struct presets_hashes hashes;
    int look_scroll;

    char picture_of[SHELF_NAME_MAX];
    struct image *picture;      /* owned; NULL: it has none */
    uint64_t picture_serial;
    char deleted[SHELF_NAME_MAX];
    char *words;                /* the user's own, that a preset was filled with last; owned */

    struct job wished;          /* of the last wish, and its texts */
    struct presets_ask ask;
    char name[SHELF_NAME_MAX], to[VIEW_PATH_BYTES], path[VIEW_PATH_BYTES];
};

static bool presets_init(struct view *v, struct err *e)
{
    struct presets_state *s = v->presets = calloc(1, sizeof *s);

    return (s && edit_init(&s->search, TEXT_MAX) && edit_init(&s->line, VIEW_PATH_BYTES - 1)) ||
           err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void forget_import(struct presets_state *s)
{
    if (s->import) import_free(s->import);
    free(s->import);
    s->import = NULL;
    s->hashes = (struct presets_hashes){ 0 };
}

static void presets_free(struct view *v)
{
    struct presets_state *s = v->presets;

    if (!s) return;
    edit_free(&s->search);
    edit_free(&s->line);
    free(s->words);
    presets_items_free(s->item, s->count);
    forget_import(s);
    image_free(s->picture);
    job_free(&s->wished);
    free(s);
}

static bool presets_open(struct view *v)
{
    struct presets_state *s = v->presets;

    s->mode = MODE_LIST;
    s->known = s->asked = false; /* files may have changed */
    s->picture_of[0] = s->looking[0] = 0;
    edit_set(&s->search, "");
    return true;
}

static void presets_close(struct view *v)
{
    v->presets->looking[0] = 0;
    forget_import(v->presets);
}

/* --- what is in the list ------------------------------------------------------------------ */

static bool found(const struct presets_state *s, const struct presets_item *i)
{
    const char *of[] = { i->name, i->preset.name, i->preset.about, i->preset.model };

    for (size_t k = 0; k < sizeof of / sizeof *of; k++)
        if (strcasestr(of[k], s->search.text)) return true;
    return !s->search.bytes;
}

/* Those that the search finds, by their places in the list. Returns how many; *at: which is chosen, of these. */
static int visible(const struct presets_state *s, int places[FOUND_MAX], int *at)
{
    int n = 0;

    *at = 0;
    for (int i = 0; i < s->count && n < FOUND_MAX; i++) {
        if (!found(s, &s->item[i])) continue;
        if (!strcmp(s->item[i].name, s->at)) *at = n;
        places[n++] = i;
    }
    return n;
}

static struct presets_item *chosen(const struct presets_state *s)
{
    int places[FOUND_MAX], at, n = visible(s, places, &at);

    return n ? &s->item[places[at]] : NULL;
}

static void choose(struct presets_state *s, int to)
{
    int places[FOUND_MAX], at, n = visible(s, places, &at);

    if (!n) return;
    to = to < 0 ? 0 : to >= n ? n - 1 : to;
    snprintf(s->at, sizeof s->at, "%s", s->item[places[to]].name);
}

static void step(struct presets_state *s, int by)
{
    int places[FOUND_MAX], at;

    visible(s, places, &at);
    choose(s, at + by);
}

/* --- what a preset would make of the form --------------------------------------------------- */

/* The form's job as typed, or, where a field cannot be read, as it was before. */
static bool form_job(const struct view *v, struct job *j, struct err *e)
{
    return view_job(v, j, NULL) || job_copy(j, &v->job, e);
}

static bool set_from(struct job *to, const struct job *from, const struct setting *s, struct err *e)
{
    char *text = setting_text(from, s);
    bool ok = text ? setting_set(to, s, text, e) == SETTING_SET : err_set(e, ERR_MEMORY, "no memory");

    free(text);
    return ok;
}

/* What the user wrote in the prompt: all of it, or what stands in a preset's place for words. NULL: nothing.
 * malloc'd. */
static char *own_words(const struct presets_state *s, const char *prompt)
{
    char *words = NULL, *usual = NULL;

    for (int i = 0; i < s->count && !words; i++) {
        words = preset_words(&s->item[i].preset, prompt, NULL);
        if (words) usual = preset_prompt(&s->item[i].preset, NULL, NULL);
    }
    if (!words) words = strdup(prompt);
    bool came = usual && !strcmp(prompt, usual) && !(words && s->words && !strcmp(words, s->words));
    if (words && (came || !words[strspn(words, " \n")])) {
        free(words);
        words = NULL;
    }
    free(usual);
    return words;
}

/* As sluice --preset would: the model's defaults, the preset, its profile. Without a profile of its own memory is
 * used as it is now, and what is of this run stays in any case; so do the user's words, negative prompt and seed
 * where the preset says how a picture is made but not which. *words (it may be NULL): the user's, malloc'd, or NULL. */
static bool preset_job(const struct view *v, const struct preset *p, struct job *out, char **words, struct err *e)
{
    struct job usual = { 0 };
    bool ok = form_job(v, out, e) && job_init(&usual, &v->model, e);
    bool silent = !sheet_find(&p->rows, setting_find("prompt")), all = !silent && !preset_has_place(p);
    char *own = ok ? own_words(v->presets, out->prompt) : NULL, *prompt = NULL;

    if (ok && silent) ok = (prompt = strdup(out->prompt)) || err_set(e, ERR_MEMORY, "no memory");
    else if (ok && !all && own) ok = (prompt = preset_prompt(p, own, e));
    usual.random_seed = true;
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        bool picture = s->scope & SETTING_PRESET, memory = s->scope & SETTING_PROFILE;
        if (!all && (!strcmp(s->name, "negative") || !strcmp(s->name, "seed"))) continue;
        if (picture && memory ? p->has_profile || sheet_find(&p->rows, s) : picture || (memory && p->has_profile))
            ok = set_from(out, &usual, s, e);
    }
    for (; ok && out->more_count; out->more_count--) free(out->more[out->more_count - 1]);
    ok = ok && preset_apply(p, out, e) && (!p->has_profile || profile_apply(&p->profile, out, e)) &&
         (!prompt || job_set_string(&out->prompt, prompt, e));
    free(prompt);
    job_free(&usual);
    if (!ok) job_free(out);
    if (words) *words = own;
    else free(own);
    return ok;
}

/* A profile's name: its file's, without folder and ending. */
static const char *profile_name(const struct preset *p, char buf[VIEW_NAME_BYTES])
{
    const char *slash = strrchr(p->profile.path, '/'), *name = slash ? slash + 1 : p->profile.path;
    const char *dot = strrchr(name, '.');

    if (!p->has_profile) return NULL;
    snprintf(buf, VIEW_NAME_BYTES, "%.*s", (int)(dot ? dot - name : (long)strlen(name)), name);
    return buf;
}

/* Model names people write as they like. */
static bool other_model(const struct view *v, const struct preset *p)
{
    return p->model[0] && strcasecmp(p->model, v->model.name);
}

/* Into the form, and back to it. */
static void apply(struct view *v, const struct preset *p)
{
    struct job j = { 0 };
    struct err e = { 0 };
    char name[PRESET_NAME_MAX], profile[VIEW_NAME_BYTES], text[256];
    const char *its = profile_name(p, profile);
    bool other = other_model(v, p);
    char *words = NULL;

    snprintf(name, sizeof name, "%s", p->name);
    snprintf(text, sizeof text, "%s is made for %s, and this is %.64s", name, p->model, v->model.name);
    if (!preset_job(v, p, &j, &words, &e) || !view_load_preset(v, &j, name, its, &e)) {
        view_say(v, VIEW_BAD, e.text);
    } else {
        free(v->presets->words);
        v->presets->words = words;
        words = NULL;
        if (view_top(v, &screen_presets)) view_close(v); /* p may be gone now */
        if (other) view_say(v, VIEW_WARN, text);
        else view_say_two(v, VIEW_INFO, "Loaded ", name);
    }
    free(words);
    job_free(&j);
}

/* --- wishes ----------------------------------------------------------------------------------- */

static struct wish ask(struct presets_state *s, enum presets_op op, const char *name)
{
    if (name) snprintf(s->name, sizeof s->name, "%.63s", name);
    s->ask = (struct presets_ask){ .op = op, .name = name ? s->name : NULL };
    return (struct wish){ .kind = WISH_PRESETS, .presets = &s->ask };
}

/* "~/x", with blanks around it, as a path. */
static void expand(const struct view *v, const char *text, char path[VIEW_PATH_BYTES])
{
    const char *home = "";

    while (*text == ' ') text++;
    if (text[0] == '~' && (text[1] == '/' || !text[1]) && v->home[0]) home = v->home, text++;
    if (snprintf(path, VIEW_PATH_BYTES, "%s%s", home, text) >= VIEW_PATH_BYTES) path[0] = 0;
    for (size_t n = strlen(path); n && path[n - 1] == ' ';) path[--n] = 0;
}

static struct wish look_at(struct view *v, const char *path, bool own)
{
    struct presets_state *s = v->presets;

    snprintf(s->path, sizeof s->path, "%s", path);
    snprintf(s->looking, sizeof s->looking, "%s", path);
    s->own = own;
    view_say(v, VIEW_INFO, "Reading");
    struct wish w = ask(s, PRESETS_LOOK, NULL);
    s->ask.path = s->path;
    return w;
}

static int hex_of(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;

    return at ? (int)(at - digits) : -1;
}

/* What terminals paste for a file dropped on them: in quotes, with backslashes, or as file://. False: it is no path. */
static bool dropped_path(const struct view *v, const struct key *k, char path[VIEW_PATH_BYTES])
{
    const char *s = k->text, *end = k->text + k->bytes;
    char text[VIEW_PATH_BYTES], quote = 0;
    size_t n = 0;
    bool url;

    while (s < end && (*s == ' ' || *s == '\n' || *s == '\r')) s++;
    while (end > s && (end[-1] == ' ' || end[-1] == '\n' || end[-1] == '\r')) end--;
    if (end > s + 1 && (*s == '\'' || *s == '"') && end[-1] == *s) quote = *s++, end--;
    url = end - s > 7 && !strncasecmp(s, "file://", 7);
    if (url) s += 7;
    for (; s < end && n < sizeof text - 1; s++) {
        if (*s == '\n' || *s == '\r' || *s == 0) return false; /* several of them, or a text */
        if (*s == '\\' && !quote && s + 1 < end) text[n++] = *++s;
        else if (url && *s == '%' && end - s > 2 && hex_of(s[1]) >= 0 && hex_of(s[2]) >= 0)
            text[n++] = (char)(hex_of(s[1]) * 16 + hex_of(s[2])), s += 2;
        else text[n++] = *s;
    }
    text[n] = 0;
    if (s < end || memchr(text, 0, n) || (text[0] != '/' && strncmp(text, "~/", 2))) return false;
    expand(v, text, path);
    return true;
}

/* --- the line --------------------------------------------------------------------------------- */

static const char *prompt_of(enum presets_op op)
{
    switch (op) {
    case PRESETS_LOOK: return "Import the file: ";
    case PRESETS_COPY: return "Duplicate as: ";
    case PRESETS_RENAME: return "Rename to: ";
    case PRESETS_EXPORT: return "Export to: ";
    default: return "Save as: ";
    }
}

static void begin_line(struct view *v, enum presets_op op, const char *text)
{
    struct presets_state *s = v->presets;

    s->mode = MODE_LINE;
    s->doing = op;
    s->over = false;
    edit_set(&s->line, text);
    if (op != PRESETS_LOOK && op != PRESETS_EXPORT) edit_offer(&s->line); /* a path is gone on with */
    view_say(v, VIEW_INFO, "");
}

static void end_line(struct presets_state *s)
{
    s->mode = s->import ? MODE_LOOK : MODE_LIST;
}

/* Is one of the user's own found by what was typed? By the letters that shelf_slug keeps: the service decides. */
static bool is_own(const struct presets_state *s, const char *typed)
{
    char name[SHELF_NAME_MAX];
    size_t n = 0;

    for (const char *c = typed; *c && n < sizeof name - 1; c++) name[n++] = *c == ' ' ? '-' : *c;
    name[n] = 0;
    for (int i = 0; i < s->count; i++)
        if (s->item[i].own && !strcasecmp(s->item[i].name, name)) return true;
    return false;
}

/* What the form was loaded from, if it is in the list. */
static const struct presets_item *loaded(const struct view *v)
{
    for (int i = 0; v->preset[0] && i < v->presets->count; i++) {
        const struct presets_item *item = &v->presets->item[i];
        if (!item->faults && !strcmp(item->preset.name, v->preset)) return item;
    }
    return NULL;
}

/* The picture shown, if it is one of this very job. */
static const struct image *picture_of(const struct view *v, const struct job *j)
{
    if (v->shown != SHOWN_DONE || !v->image_job_known) return NULL;
    for (int i = 0; i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (s->scope & SETTING_PICTURE && s->kind != SETTING_SEED && !setting_same(j, &v->image_job, s)) return NULL;
    }
    return v->image;
}

static struct wish save_form(struct view *v)
{
    struct presets_state *s = v->presets;
    const struct presets_item *from = loaded(v);
    struct err e = { 0 };
    struct wish w;

    if (!s->over && is_own(s, s->to)) {
        s->over = true;
        view_say(v, VIEW_WARN, "There is a preset of yours by that name: Enter writes over it");
        return view_wish(WISH_NONE);
    }
    job_free(&s->wished);
    if (!view_job(v, &s->wished, &e)) {
        view_say(v, VIEW_BAD, e.text);
        return view_wish(WISH_NONE);
    }
    w = ask(s, PRESETS_SAVE, NULL);
    s->ask.job = &s->wished;
    s->ask.old = from ? &from->preset : NULL;
    s->ask.picture = picture_of(v, &s->wished);
    s->ask.over = s->over;
    return w;
}

static struct wish take_line(struct view *v)
{
    struct presets_state *s = v->presets;
    const struct presets_item *of = chosen(s);
    bool path = s->doing == PRESETS_LOOK || s->doing == PRESETS_EXPORT;
    struct wish w;

    expand(v, s->line.text, s->to);
    if (!s->to[0]) return view_wish(WISH_NONE);
    if (!path && strlen(s->to) >= PRESET_NAME_MAX) {
        view_say(v, VIEW_WARN, "A preset's name has 63 bytes at most");
        return view_wish(WISH_NONE);
    }
    if (s->doing == PRESETS_LOOK) return look_at(v, s->to, false);
    if (s->doing == PRESETS_SAVE) {
        w = save_form(v);
    } else if (s->doing == PRESETS_KEEP) {
        w = ask(s, PRESETS_KEEP, NULL);
        s->ask.path = s->import->path;
    } else if (of) {
        w = ask(s, s->doing, of->name);
        s->ask.path = path ? s->to : NULL;
    } else {
        w = view_wish(WISH_NONE);
    }
    s->ask.to = s->to;
    if (w.kind) view_say(v, VIEW_INFO, "Writing");
    return w;
}

static struct wish complete_line(struct view *v)
{
    struct presets_state *s = v->presets;
    struct wish w;

    if (s->doing != PRESETS_LOOK && s->doing != PRESETS_EXPORT) return view_wish(WISH_NONE);
    expand(v, s->line.text, s->path);
    w = ask(s, PRESETS_COMPLETE, NULL);
    s->ask.path = s->path;
    return w;
}

/* --- keys ------------------------------------------------------------------------------------- */

static enum keys_context presets_context(const struct view *v)
{
    enum mode m = v->presets->mode;

    return m == MODE_LIST || m == MODE_LOOK ? KEYS_PRESETS : KEYS_DIALOG;
}

static struct wish load_chosen(struct view *v)
{
    const struct presets_item *i = chosen(v->presets);

    if (!i) return view_wish(WISH_NONE);
    if (i->faults) {
        view_say_two(v, VIEW_BAD, i->name, " cannot be loaded: what is wrong stands beside it");
        return view_wish(WISH_NONE);
    }
    if (i->preset.hash_count) return look_at(v, i->preset.path, true); /* is it made for this very model? */
    apply(v, &i->preset);
    return view_wish(WISH_NONE);
}

/* Those that are not the user's own stay as they are. */
static bool may_change(struct view *v, const struct presets_item *i)
{
    if (i && !i->own)
        view_say_two(v, VIEW_WARN, i->name, " came with the program and stays as it is: duplicate it first");
    return i && i->own;
}

static struct wish act_on(struct view *v, enum action a, const struct presets_item *i)
{
    struct presets_state *s = v->presets;
    char text[VIEW_PATH_BYTES + 80];

    switch (a) {
    case ACTION_PRESET_COPY:
        snprintf(text, sizeof text, "%.56s-2", i->name);
        begin_line(v, PRESETS_COPY, text);
        break;
    case ACTION_PRESET_RENAME:
        if (may_change(v, i)) begin_line(v, PRESETS_RENAME, i->name);
        break;
    case ACTION_PRESET_EXPORT:
        snprintf(text, sizeof text, "%s%s.yaml", v->home[0] ? "~/" : "", i->name);
        begin_line(v, PRESETS_EXPORT, text);
        break;
    case ACTION_PRESET_DELETE:
        if (may_change(v, i)) return ask(s, PRESETS_DELETE, i->name);
        break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish act_in_list(struct view *v, enum action a)
{
    struct presets_state *s = v->presets;
    const struct presets_item *i = chosen(s);

    switch (a) {
    case ACTION_UP: step(s, -1); break;
    case ACTION_DOWN: step(s, 1); break;
    case ACTION_PAGE_UP: step(s, -s->page); break;
    case ACTION_PAGE_DOWN: step(s, s->page); break;
    case ACTION_FIRST: choose(s, 0); break;
    case ACTION_LAST: choose(s, s->count); break;
    case ACTION_OK: return load_chosen(v);
    case ACTION_BACK:
        if (s->looking[0]) s->looking[0] = 0, view_say(v, VIEW_INFO, "");
        else if (s->search.bytes) edit_set(&s->search, "");
        else view_close(v);
        break;
    case ACTION_PRESET_SEARCH: s->mode = MODE_SEARCH; break;
    case ACTION_PRESET_IMPORT: begin_line(v, PRESETS_LOOK, v->home[0] ? "~/" : ""); break;
    case ACTION_PRESET_SAVE: begin_line(v, PRESETS_SAVE, v->preset); break;
    case ACTION_PRESET_UNDO:
        if (s->deleted[0]) return ask(s, PRESETS_RESTORE, s->deleted);
        view_say(v, VIEW_INFO, "Nothing has been deleted");
        break;
    default: return i ? act_on(v, a, i) : view_wish(WISH_NONE);
    }
    return view_wish(WISH_NONE);
}

static struct wish act_in_look(struct view *v, enum action a)
{
    struct presets_state *s = v->presets;

    switch (a) {
    case ACTION_UP: s->look_scroll--; break;
    case ACTION_DOWN: s->look_scroll++; break;
    case ACTION_PAGE_UP: s->look_scroll -= s->page; break;
    case ACTION_PAGE_DOWN: s->look_scroll += s->page; break;
    case ACTION_FIRST: s->look_scroll = 0; break;
    case ACTION_LAST: s->look_scroll = 100000; break; /* drawing knows where the end is */
    case ACTION_OK: apply(v, &s->import->preset); break;
    case ACTION_BACK:
        forget_import(s);
        s->mode = MODE_LIST;
        view_say(v, VIEW_INFO, "Nothing was changed");
        break;
    case ACTION_PRESET_SAVE: begin_line(v, PRESETS_KEEP, s->import->stem); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish presets_act(struct view *v, enum action a)
{
    struct presets_state *s = v->presets;

    if (s->mode == MODE_LIST) return act_in_list(v, a);
    if (s->mode == MODE_LOOK) return act_in_look(v, a);
    if (s->mode == MODE_SEARCH) {
        if (a == ACTION_ABORT) edit_set(&s->search, "");
        if (a == ACTION_ABORT || a == ACTION_OK) s->mode = MODE_LIST;
        return view_wish(WISH_NONE);
    }
    if (a == ACTION_OK) return take_line(v);
    if (a == ACTION_ABORT) {
        s->looking[0] = 0;
        view_say(v, VIEW_INFO, "");
        end_line(s);
    }
    return view_wish(WISH_NONE);
}

static struct wish presets_type(struct view *v, const struct key *k)
{
    struct presets_state *s = v->presets;
    char path[VIEW_PATH_BYTES];

    if (k->kind == K_PASTE && (s->mode == MODE_LIST || (s->mode == MODE_LINE && s->doing == PRESETS_LOOK))) {
        if (dropped_path(v, k, path)) return look_at(v, path, false);
        if (s->mode == MODE_LIST) view_say(v, VIEW_INFO, "That is no path of a file");
    }
    if (s->mode == MODE_SEARCH && (k->kind == K_UP || k->kind == K_DOWN)) step(s, k->kind == K_UP ? -1 : 1);
    else if (s->mode == MODE_SEARCH && edit_key(&s->search, k)) choose(s, 0);
    else if (s->mode == MODE_LINE && k->kind == K_TAB) return complete_line(v);
    else if (s->mode == MODE_LINE && edit_key(&s->line, k)) s->over = false;
    return view_wish(WISH_NONE);
}

static struct wish presets_mouse(struct view *v, const struct key *k)
{
    struct presets_state *s = v->presets;
    int places[FOUND_MAX], at, n;

    if (k->ch == MOUSE_UP || k->ch == MOUSE_DOWN) {
        if (s->mode == MODE_LOOK) s->look_scroll += k->ch == MOUSE_UP ? -3 : 3;
        else if (s->mode != MODE_LINE) step(s, k->ch == MOUSE_UP ? -1 : 1);
        return view_wish(WISH_NONE);
    }
    if (k->ch != MOUSE_LEFT || s->mode == MODE_LOOK || s->mode == MODE_LINE || !rect_has(s->rows, k->x, k->y))
        return view_wish(WISH_NONE);
    n = visible(s, places, &at);
    if (s->scroll + k->y - s->rows.y >= n) return view_wish(WISH_NONE);
    if (s->scroll + k->y - s->rows.y == at) return load_chosen(v); /* the second click */
    choose(s, s->scroll + k->y - s->rows.y);
    return view_wish(WISH_NONE);
}

static const char *presets_hint(const struct view *v, enum action a)
{
    const struct presets_state *s = v->presets;
    const struct presets_item *i = chosen(s);
    const char *label = keys_action(a)->label;

    switch (a) {
    case ACTION_OK:
        if (s->mode == MODE_LINE) return s->over ? "Write over it" : s->doing == PRESETS_LOOK ? "Look" : "OK";
        return s->mode == MODE_LOOK ? "Apply" : s->mode == MODE_SEARCH ? "Done" : i && !i->faults ? "Load" : NULL;
    case ACTION_BACK: return s->mode == MODE_LOOK ? "Cancel" : s->search.bytes ? "All" : "Back";
    case ACTION_ABORT: return s->mode == MODE_SEARCH ? "All" : "Back";
    case ACTION_PRESET_SAVE: return s->mode == MODE_LOOK ? "Keep as preset" : label;
    case ACTION_PRESET_UNDO: return s->mode == MODE_LIST && s->deleted[0] ? label : NULL;
    case ACTION_PRESET_RENAME:
    case ACTION_PRESET_DELETE: return s->mode == MODE_LIST && i && i->own ? label : NULL;
    case ACTION_PRESET_COPY:
    case ACTION_PRESET_EXPORT: return s->mode == MODE_LIST && i && !i->faults ? label : NULL;
    case ACTION_PRESET_SEARCH:
    case ACTION_PRESET_IMPORT: return s->mode == MODE_LIST ? label : NULL;
    default: return label;
    }
}

/* --- answers ---------------------------------------------------------------------------------- */

static struct wish presets_needs(struct view *v)
{
    struct presets_state *s = v->presets;
    const struct presets_item *i = chosen(s);

    if (!s->known && !s->asked) {
        s->asked = true;
        return ask(s, PRESETS_LIST, NULL);
    }
    if (!s->known || !i || !v->pictures || !strcmp(i->name, s->picture_of)) return view_wish(WISH_NONE);
    snprintf(s->picture_of, sizeof s->picture_of, "%s", i->name);
    image_free(s->picture);
    s->picture = NULL;
    return ask(s, PRESETS_PICTURE, i->name);
}

static void take_list(struct presets_state *s, struct presets_answer *a)
{
    s->known = true;
    presets_items_free(s->item, s->count);
    s->item = a->item;
    s->count = a->count;
    a->item = NULL;
    a->count = 0;
    s->picture_of[0] = 0; /* it may have changed, too */
    if (!s->at[0]) choose(s, 0);
}

static void take_look(struct view *v, struct presets_answer *a)
{
    struct presets_state *s = v->presets;
    bool here = s->mode == MODE_LIST || (s->mode == MODE_LINE && s->doing == PRESETS_LOOK);

    if (!here || strcmp(a->path, s->looking)) return; /* it is not wanted any more */
    s->looking[0] = 0;
    if (!a->ok) {
        view_say(v, VIEW_BAD, a->text);
        return;
    }
    if (s->own && !a->hashes.different && !a->hashes.missing) { /* the user's, and made for this very model */
        apply(v, &a->import->preset);
        return;
    }
    forget_import(s);
    s->import = a->import;
    s->hashes = a->hashes;
    a->import = NULL;
    s->mode = MODE_LOOK;
    s->look_scroll = 0;
    view_say(v, VIEW_INFO, "Nothing is changed until you apply it");
}

static void take_completed(struct view *v, const struct presets_answer *a)
{
    struct presets_state *s = v->presets;
    char now[VIEW_PATH_BYTES], buf[VIEW_PATH_BYTES];

    expand(v, s->line.text, now);
    if (s->mode != MODE_LINE || strcmp(now, a->path)) return; /* typed on since then */
    if (a->ok) edit_set(&s->line, view_friendly(v, a->completed, buf));
    view_say(v, a->ok ? VIEW_INFO : VIEW_WARN, a->text);
}

static void take_change(struct view *v, const struct presets_answer *a)
{
    struct presets_state *s = v->presets;
    struct err e = { 0 };
    char text[sizeof v->message], buf[VIEW_PATH_BYTES];

    if (!a->ok) {
        view_say(v, VIEW_BAD, a->text);
        return;
    }
    s->known = s->asked = false; /* to be listed again */
    if (s->mode == MODE_LINE && s->doing == a->op) end_line(s);
    switch (a->op) {
    case PRESETS_SAVE:
        if (!view_keep_preset(v, &s->wished, a->title, &e)) view_say(v, VIEW_BAD, e.text);
        else view_say_two(v, VIEW_INFO, "The form is now the preset ", a->name);
        break;
    case PRESETS_KEEP: view_say_two(v, VIEW_INFO, "It is now your preset ", a->name); break;
    case PRESETS_DELETE:
        if (!strcmp(s->at, a->name)) step(s, 1); /* the next takes its place, or the one before */
        if (!strcmp(s->at, a->name)) step(s, -1);
        snprintf(s->deleted, sizeof s->deleted, "%s", a->name);
        snprintf(text, sizeof text, "%s is in the trash; %s brings it back", a->name,
                 keys_name(&v->keys, ACTION_PRESET_UNDO, KEYS_PRESETS, buf));
        view_say(v, VIEW_INFO, text);
        return;
    case PRESETS_RESTORE:
        s->deleted[0] = 0;
        view_say_two(v, VIEW_INFO, "It is back: ", a->name);
        break;
    case PRESETS_EXPORT:
        snprintf(text, sizeof text, "Written to %s%.200s", view_friendly(v, a->path, buf), a->text);
        view_say(v, VIEW_INFO, text);
        return; /* the name is of what was exported: the choice stays */
    default: view_say(v, VIEW_INFO, ""); break;
    }
    snprintf(s->at, sizeof s->at, "%s", a->name);
}

void view_presets(struct view *v, struct presets_answer *a)
{
    struct presets_state *s = v->presets;
    bool open = false;

    for (int i = 0; i < v->depth; i++) open |= v->stack[i] == &screen_presets;
    if (a->op == PRESETS_LIST) {
        if (a->ok) take_list(s, a);
        else s->known = true, view_say(v, VIEW_BAD, a->text);
    } else if (a->op == PRESETS_PICTURE) {
        if (a->ok && !strcmp(a->name, s->picture_of)) {
            image_free(s->picture);
            s->picture = a->picture;
            s->picture_serial = ++v->serials;
            a->picture = NULL;
        }
    } else if (a->op == PRESETS_LOOK) {
        if (open) take_look(v, a);
    } else if (a->op == PRESETS_COMPLETE) {
        if (open) take_completed(v, a);
    } else {
        take_change(v, a);
    }
    presets_answer_free(a);
}

/* --- lines of text, wrapped: counted first with g NULL, drawn afterwards ------------------------ */

struct lines {
    struct grid *g;
    struct rect r;
    int at, scroll;
};

/* How much of the text goes on a line of so many columns: whole words, if there are any. */
static size_t piece(const char *text, int width)
{
    size_t bytes = strlen(text), end = 0, word = 0;

    while (end < bytes && text[end] != '\n') {
        size_t next = edit_next(text, bytes, end);
        if (edit_width(text, next) > width) return word ? word : end ? end : next;
        if (text[end] == ' ') word = next;
        end = next;
    }
    return end;
}

static void put(struct lines *l, int x, int width, enum colour c, int attr, const char *text)
{
    if (width < 1) width = 1;
    do {
        size_t n = piece(text, width);
        int y = l->r.y + l->at++ - l->scroll;
        if (l->g && y >= l->r.y && y < l->r.y + l->r.h) draw_bytes(l->g, l->r, l->r.x + x, y, c, attr, text, n);
        text += n;
        if (*text == '\n') text++;
    } while (*text);
}

static void head(struct lines *l, enum colour c, const char *text)
{
    if (l->at) l->at++;
    put(l, 0, l->r.w, c, CELL_BOLD, text);
}

/* One setting, now and then: side by side, but texts, which may be long, one below the other. */
static void difference(struct lines *l, const struct setting *s, const char *old, const char *new)
{
    int name = 16, half = (l->r.w - name) / 2, from = l->at, left;

    if (s->kind == SETTING_TEXT) {
        put(l, 0, l->r.w, COLOUR_ACCENT, 0, s->name);
        from = l->at;
        put(l, 2, 4, COLOUR_DIM, 0, "now");
        l->at = from;
        put(l, 7, l->r.w - 7, COLOUR_DIM, 0, old);
        from = l->at;
        put(l, 2, 4, COLOUR_DIM, 0, "then");
        l->at = from;
        put(l, 7, l->r.w - 7, COLOUR_TEXT, 0, new);
        return;
    }
    put(l, 0, name - 1, COLOUR_ACCENT, 0, s->name);
    l->at = from;
    put(l, name, half - 1, COLOUR_DIM, 0, old);
    left = l->at;
    l->at = from;
    put(l, name + half, half, COLOUR_TEXT, 0, new);
    if (l->at < left) l->at = left;
}

/* The settings in which a preset's job differs from the form: numbers and names first, then texts. */
static void differences(const struct view *v, const struct preset *p, struct lines *l)
{
    struct job form = { 0 }, then = { 0 };
    int begin = l->at;
    bool ok = form_job(v, &form, NULL) && preset_job(v, p, &then, NULL, NULL);

    for (int texts = 0; ok && texts < 2; texts++)
        for (int i = 0; i < setting_count(); i++) {
            const struct setting *s = setting_at(i);
            if ((s->kind == SETTING_TEXT) != texts || setting_same(&form, &then, s)) continue;
            char *old = setting_text(&form, s), *new = setting_text(&then, s);
            if (!texts && l->at == begin) { /* the table's head */
                put(l, 16, 8, COLOUR_DIM, 0, "now");
                l->at--;
                put(l, 16 + (l->r.w - 16) / 2, 8, COLOUR_DIM, 0, "then");
            }
            if (old && new) difference(l, s, *old ? old : "(none)", *new ? new : "(none)");
            free(old);
            free(new);
        }
    if (ok && l->at == begin) put(l, 0, l->r.w, COLOUR_DIM, 0, "Nothing: the form says the same.");
    if (!ok) put(l, 0, l->r.w, COLOUR_BAD, 0, "(no memory to tell)");
    job_free(&form);
    job_free(&then);
}

static void wants(const struct view *v, const struct preset *p, struct lines *l)
{
    char text[256], profile[VIEW_NAME_BYTES];

    if (other_model(v, p)) {
        snprintf(text, sizeof text, "Made for the model %s; this one is %.64s.", p->model, v->model.name);
        put(l, 0, l->r.w, COLOUR_WARN, 0, text);
    } else if (p->model[0]) {
        snprintf(text, sizeof text, "Made for this model, %s.", p->model);
        put(l, 0, l->r.w, COLOUR_DIM, 0, text);
    }
    if (profile_name(p, profile)) {
        snprintf(text, sizeof text, "Brings the profile %.200s.", profile);
        put(l, 0, l->r.w, COLOUR_DIM, 0, text);
    }
}

/* --- drawing ---------------------------------------------------------------------------------- */

static void draw_detail(const struct view *v, struct grid *g, struct rect r, const struct presets_item *i)
{
    struct lines l = { .g = g, .r = r };

    if (i->preset.name[0]) put(&l, 0, r.w, COLOUR_TEXT, CELL_BOLD, i->preset.name);
    if (i->preset.about[0]) put(&l, 0, r.w, COLOUR_DIM, 0, i->preset.about);
    if (i->faults) {
        head(&l, COLOUR_BAD, "It cannot be loaded:");
        put(&l, 0, r.w, COLOUR_TEXT, 0, i->faults);
        return;
    }
    wants(v, &i->preset, &l);
    if (i->preset.hash_count) put(&l, 0, r.w, COLOUR_DIM, 0, "Names the model's files by their SHA-256.");
    head(&l, COLOUR_ACCENT, "It would change");
    differences(v, &i->preset, &l);
}

/* The thumbnail at the top right of the details; what is left for them. */
static bool draw_thumbnail(const struct view *v, struct grid *g, struct rect *r, const struct presets_item *i,
                           struct err *e)
{
    const struct image *im = v->presets->picture;
    struct rect room = { r->x, r->y, r->w, r->h / 2 < 16 ? r->h / 2 : 16 };

    if (!im || strcmp(i->name, v->presets->picture_of) || room.h < 4 || !v->pictures) return true;
    room = layout_picture(room, im->width, im->height, v->cell_w, v->cell_h);
    if (room.w < 4) return true;
    room.x = r->x;
    r->y += room.h + 1;
    r->h -= room.h + 1;
    if (!draw_picture(g, room, im, e)) return false;
    if (v->pixels) grid_offer(g, room, im, v->presets->picture_serial, true);
    return true;
}

static void draw_row(struct grid *g, struct rect r, int y, const struct presets_item *i, bool on)
{
    struct rect row = { r.x, y, r.w, 1 };
    const char *mark = i->faults ? "broken" : i->own ? "yours" : "";
    int w = r.w - (int)strlen(mark) - 3;

    if (on) draw_fill(g, row, " ", COLOUR_ACCENT, CELL_REVERSE);
    draw_fit(g, row, r.x + 1, y, w, i->faults ? COLOUR_BAD : on ? COLOUR_ACCENT : COLOUR_TEXT, on ? CELL_REVERSE : 0,
             i->name, false);
    row.w--;
    draw_right(g, row, y, i->faults ? COLOUR_BAD : on ? COLOUR_ACCENT : COLOUR_DIM, on ? CELL_REVERSE : 0, mark);
}

static void draw_list(struct view *v, struct grid *g, struct rect r)
{
    struct presets_state *s = v->presets;
    int places[FOUND_MAX], at, n = visible(s, places, &at);
    struct rect top = { r.x + 1, r.y, r.w - 2, 1 };
    char text[64];

    if (s->mode == MODE_SEARCH || s->search.bytes) {
        int w = draw_text(g, top, top.x, top.y, COLOUR_ACCENT, CELL_BOLD, "/");
        view_draw_line(g, (struct rect){ top.x + w, top.y, top.w - w, 1 }, &s->search, COLOUR_TEXT, 0,
                       s->mode == MODE_SEARCH && view_top(v, &screen_presets));
    } else {
        snprintf(text, sizeof text, s->known ? "%d preset%s" : "reading the presets", n, n == 1 ? "" : "s");
        draw_fit(g, top, top.x, top.y, top.w, COLOUR_DIM, 0, text, false);
    }
    s->rows = (struct rect){ r.x, r.y + 1, r.w, r.h - 1 };
    s->page = s->rows.h > 1 ? s->rows.h - 1 : 1;
    if (s->scroll > n - s->rows.h) s->scroll = n - s->rows.h;
    if (at >= s->scroll + s->rows.h) s->scroll = at - s->rows.h + 1;
    if (at < s->scroll) s->scroll = at;
    if (s->scroll < 0) s->scroll = 0;
    for (int i = s->scroll; i < n && i < s->scroll + s->rows.h; i++)
        draw_row(g, s->rows, s->rows.y + i - s->scroll, &s->item[places[i]], i == at);
    if (!n && s->known)
        draw_fit(g, s->rows, s->rows.x + 1, s->rows.y, s->rows.w - 1, COLOUR_DIM, 0,
                 s->count ? "none like that" : "there are none", false);
}

/* What a file is, what it would change, what it cannot. */
static void look_lines(const struct view *v, struct lines *l)
{
    const struct presets_state *s = v->presets;
    const struct import *im = s->import;
    const struct presets_hashes *h = &s->hashes;
    char text[1024];

    l->at = 0;
    snprintf(text, sizeof text, "%s%s%s", im->preset.name, im->preset.about[0] ? ": " : "", im->preset.about);
    put(l, 0, l->r.w, COLOUR_TEXT, CELL_BOLD, text);
    wants(v, &im->preset, l);
    if (h->different + h->missing) {
        snprintf(text, sizeof text, "%d of the model's %d files that it names are others here, or missing: %s",
                 h->different + h->missing, im->preset.hash_count, h->first);
        put(l, 0, l->r.w, COLOUR_WARN, 0, text);
    } else if (h->unread) {
        snprintf(text, sizeof text,
                 "%d files of the model are too large to be compared in passing: sluice preset verify does.",
                 h->unread);
        put(l, 0, l->r.w, COLOUR_DIM, 0, text);
    } else if (h->same) {
        put(l, 0, l->r.w, COLOUR_GOOD, 0, "The model's files are those that it was made with.");
    }
    head(l, COLOUR_ACCENT, "It would change");
    differences(v, &im->preset, l);
    if (!im->left_count) return;
    head(l, COLOUR_WARN, "It cannot take along");
    for (int i = 0; i < im->left_count; i++) {
        const struct import_left *left = &im->left[i];
        snprintf(text, sizeof text, "%s%s%s: %s", left->key, left->value[0] ? " " : "", left->value, left->why);
        put(l, 0, l->r.w, COLOUR_TEXT, 0, text);
    }
    if (im->left_more) {
        snprintf(text, sizeof text, "and %d more", im->left_more);
        put(l, 0, l->r.w, COLOUR_DIM, 0, text);
    }
}

static void draw_look(struct view *v, struct grid *g, struct rect r)
{
    struct presets_state *s = v->presets;
    struct lines l = { .r = { r.x + 1, r.y, r.w - 2, r.h } };
    char note[64];

    look_lines(v, &l);
    s->page = r.h > 1 ? r.h - 1 : 1;
    if (s->look_scroll > l.at - r.h) s->look_scroll = l.at - r.h;
    if (s->look_scroll < 0) s->look_scroll = 0;
    l.scroll = s->look_scroll;
    l.g = g;
    if (l.at > r.h) {
        snprintf(note, sizeof note, "%d to %d of %d", s->look_scroll + 1, s->look_scroll + r.h, l.at);
        draw_right(g, (struct rect){ r.x, 0, r.w - 1, 1 }, 0, COLOUR_DIM, 0, note);
    }
    look_lines(v, &l);
}

static void draw_line(struct view *v, struct grid *g)
{
    struct presets_state *s = v->presets;
    struct rect r = { 1, v->rows - 2, v->cols - 2, 1 };
    int w;

    draw_fill(g, (struct rect){ 0, r.y, v->cols, 1 }, " ", COLOUR_TEXT, 0);
    w = draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, prompt_of(s->doing));
    view_draw_line(g, (struct rect){ r.x + w, r.y, r.w - w, 1 }, &s->line, COLOUR_TEXT, 0,
                   view_top(v, &screen_presets));
}

static bool presets_draw(struct view *v, struct grid *g, struct err *e)
{
    struct presets_state *s = v->presets;
    const struct presets_item *i = chosen(s);
    char title[VIEW_PATH_BYTES + 64] = "Presets", buf[VIEW_PATH_BYTES];
    bool look = s->import && (s->mode == MODE_LOOK || s->mode == MODE_LINE);
    int cols = v->cols >= 160 ? LIST_COLS + 20 : LIST_COLS;
    struct rect r, list, detail;

    if (look) snprintf(title, sizeof title, "Presets │ %s", view_friendly(v, s->import->path, buf));
    r = view_draw_frame(v, g, title);
    if (s->mode == MODE_LINE) r.h--;
    if (look) {
        draw_look(v, g, r);
    } else if (v->cols < LAYOUT_PANELS_COLS) { /* one above the other */
        list = (struct rect){ r.x, r.y, r.w, r.h < 12 ? r.h : r.h / 2 };
        detail = (struct rect){ r.x + 1, r.y + list.h, r.w - 2, r.h - list.h };
        draw_list(v, g, list);
        if (i && detail.h > 1) draw_detail(v, g, detail, i);
    } else {
        list = (struct rect){ r.x, r.y, cols, r.h };
        detail = (struct rect){ r.x + cols + 2, r.y, r.w - cols - 3, r.h };
        draw_list(v, g, list);
        draw_fill(g, (struct rect){ r.x + cols, r.y, 1, r.h }, "│", COLOUR_BORDER, 0);
        if (i && !draw_thumbnail(v, g, &detail, i, e)) return false;
        if (i) draw_detail(v, g, detail, i);
    }
    /* Above the line there is what Tab has found; a long complaint covers what was drawn there. */
    view_draw_message(v, g, (struct rect){ 1, v->rows - (s->mode == MODE_LINE ? 3 : 2), v->cols - 2, 1 }, false);
    if (s->mode == MODE_LINE) draw_line(v, g);
    return true;
}

const struct screen screen_presets = {
    .name = "presets",
    .opened_by = ACTION_PRESETS,
    .init = presets_init,
    .free = presets_free,
    .open = presets_open,
    .close = presets_close,
    .context = presets_context,
    .act = presets_act,
    .type = presets_type,
    .mouse = presets_mouse,
    .hint = presets_hint,
    .draw = presets_draw,
    .needs = presets_needs,
};
