/* screen_profile.c - profiles: on the left those there are, on the right the switches of
 * one, and for each what its next value would save and cost.
 *
 * Every profile has a draft, the file with what was turned since; it lasts as long as the
 * studio. Nothing is used before it is applied, nothing is written before it is saved. What a
 * switch does is a difference of two plans: the draft's, and that of the draft with the
 * switch turned once, both for the job that the form has now. */
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SWITCHES_MAX = 32, VALUE_BYTES = 64, WHICH_BITS = 6 };
enum mode { MODE_BROWSE, MODE_VALUE, MODE_NAME, MODE_ASK };
enum asked { ASKED_NOTHING, ASKED_SAVE, ASKED_COPY, ASKED_DELETE };

/* Its first is nobody's file: no profile at all, the model's defaults. */
struct item {
    struct view_profile file;
    struct profile draft;
};

struct effect {
    enum { EFFECT_WANTED, EFFECT_ASKED, EFFECT_KNOWN } state;
    struct plan_summary plan;
};

struct profile_state {
    struct item *item;
    int count;
    bool list_wanted, listed;
    int at, list_scroll; /* the chosen profile */
    int turn, scroll;    /* the chosen switch */
    bool on_switches;
    int page;
    const struct setting *of[SWITCHES_MAX];
    int switches;

    enum mode mode;
    enum asked asked;    /* what a name or an answer is for */
    struct edit line;
    char wrong[160];     /* with what is being typed */

    uint64_t serial, changes; /* of the draft and the form that the effects are of */
    struct effect effect[1 + SWITCHES_MAX]; /* [0]: the draft itself */

    char name[SHELF_NAME_MAX]; /* of the wish, and what the list comes back to */
    char *text;
};

static struct item *chosen(const struct view *v)
{
    return v->profiles->count ? &v->profiles->item[v->profiles->at] : NULL;
}

static const struct setting *switch_of(const struct view *v)
{
    return v->profiles->of[v->profiles->turn];
}

static const char *title_of(const struct item *it)
{
    return it->file.name[0] ? it->file.name : "no profile";
}

/* --- values --------------------------------------------------------------------------- */

/* What a switch steps through; those that are not here, through their own names. */
static const struct { const char *name, *steps; } ladders[] = {
    { "count", "1 2 3 4 6 8 12 16" },
    { "budget", "min 4G 6G 8G 10G 12G 16G 20G 24G 32G 48G 80G auto none" },
    { "memory_fraction", "0.5 0.6 0.7 0.8 0.85 0.9 0.92 0.95 0.98 1" },
    { "recompute", "auto off 4096 2048 1024 512 256 128" },
    { "vae_band", "auto 512 256 128 64 32 16" },
    { "vae_tile", "32 48 64 96 128" },
    { "vae_overlap", "4 8 12 16 24" },
    { "t5_chunk", "auto off 256 128 64" },
};
enum { STEPS_MAX = 24 };

/* Its steps as texts of their own; returns how many. */
static int steps_of(const struct setting *s, char step[STEPS_MAX][VALUE_BYTES])
{
    int n = 0;

    for (size_t i = 0; i < sizeof ladders / sizeof *ladders; i++)
        if (!strcmp(ladders[i].name, s->name))
            for (const char *t = ladders[i].steps; *t && n < STEPS_MAX; n++) {
                size_t w = strcspn(t, " ");
                snprintf(step[n], VALUE_BYTES, "%.*s", (int)w, t);
                t += w + (t[w] == ' ');
            }
    if (n) return n;
    if (s->kind == SETTING_BOOL) {
        strcpy(step[0], "on");
        strcpy(step[1], "off");
        return 2;
    }
    for (const struct setting_choice *c = s->choices; c && c->name && n < STEPS_MAX; c++)
        if (!strcmp(setting_choice_name(s, c->value), c->name)) snprintf(step[n++], VALUE_BYTES, "%s", c->name);
    return n;
}

static double number_of(const struct job *j, const struct setting *s)
{
    const void *at = (const char *)j + s->offset;

    if (s->kind == SETTING_BYTES) return (double)*(const size_t *)at;
    return s->kind == SETTING_FLOAT ? (double)*(const float *)at : *(const int *)at;
}

/* The step after (by 1) or before (by -1) the job's value, around the ends; one between two
 * steps goes to the next of them. */
static bool step_value(const struct job *j, const struct setting *s, int by, char value[VALUE_BYTES])
{
    char step[STEPS_MAX][VALUE_BYTES];
    int n = steps_of(s, step), at = -1, nearest = -1;

    for (int i = 0; i < n && at < 0; i++) {
        struct job other = { 0 };
        if (setting_set(&other, s, step[i], NULL) != SETTING_SET) continue;
        if (setting_same(j, &other, s)) at = i;
        else if (nearest < 0 && step[i][0] <= '9' && number_of(&other, s) > number_of(j, s)) nearest = i;
    }
    if (!n) return false;
    if (at < 0 && nearest < 0) nearest = n - 1;
    snprintf(value, VALUE_BYTES, "%s", step[at >= 0 ? (at + by + n) % n : by > 0 ? nearest : (nearest - 1 + n) % n]);
    return true;
}

/* As people read it: "8 GB", "on". */
static const char *value_text(const struct job *j, const struct setting *s, char buf[VALUE_BYTES])
{
    char *text;

    if (s->kind == SETTING_BOOL) return *(const bool *)((const char *)j + s->offset) ? "on" : "off";
    text = setting_text(j, s);
    snprintf(buf, VALUE_BYTES, "%s", text ? text : "?");
    free(text);
    if (s->kind == SETTING_BYTES && buf[0] >= '0' && buf[0] <= '9') {
        size_t bytes = *(const size_t *)((const char *)j + s->offset);
        if (bytes >= 1000000000) snprintf(buf, VALUE_BYTES, "%.4g GB", (double)bytes * 1e-9);
        else draw_size(bytes, buf);
    }
    return buf;
}

/* Would another picture come out? Bands are exact: of the ways of decoding only tiles are not. */
static bool another_picture(const struct job *a, const struct job *b, const struct setting *s)
{
    bool tiles = a->vae == VAE_TILES || b->vae == VAE_TILES;

    if (!(s->scope & SETTING_PICTURE) || setting_same(a, b, s)) return false;
    return strncmp(s->name, "vae", 3) || !strcmp(s->name, "vae_precision") || tiles;
}

/* --- drafts ----------------------------------------------------------------------------- */

/* The form's job under the draft, or under the file as it was. */
static bool job_under(const struct view *v, const struct profile *p, struct job *out, struct err *e)
{
    if (view_draft(v, out, e) && view_put_profile(v, out, p, e)) return true;
    job_free(out);
    return false;
}

static bool turned(const struct view *v, const struct item *it, const struct setting *s)
{
    const struct sheet_row *a, *b;
    struct job size = { 0 }, x = { 0 }, y = { 0 };

    size.width = v->job.width, size.height = v->job.height;
    main_size(v, &size);
    a = profile_row(&it->file.profile, &size, s);
    b = profile_row(&it->draft, &size, s);
    if (!a || !b) return a || b;
    return setting_set(&x, s, a->text, NULL) != SETTING_SET || setting_set(&y, s, b->text, NULL) != SETTING_SET ||
           !setting_same(&x, &y, s);
}

static bool turned_any(const struct view *v, const struct item *it)
{
    for (int i = 0; i < v->profiles->switches; i++)
        if (turned(v, it, v->profiles->of[i])) return true;
    return false;
}

static bool applied(const struct view *v, const struct item *it)
{
    return !strcmp(v->profile, it->file.name);
}

/* The effects are of something else now. */
static void renew(struct view *v)
{
    struct profile_state *p = v->profiles;

    p->serial++;
    p->changes = v->changes;
    for (int i = 0; i <= SWITCHES_MAX; i++) p->effect[i].state = EFFECT_WANTED;
}

static void no_memory(struct view *v)
{
    view_say(v, VIEW_BAD, "no memory for that");
}

/* The switch says text; NULL: what the file says. */
static void put_switch(struct view *v, const struct setting *s, const char *text)
{
    struct item *it = chosen(v);
    struct job j = { 0 };

    if (!it || !job_under(v, &it->draft, &j, NULL)) return;
    if (!text) {
        const struct sheet_row *row = profile_row(&it->file.profile, &j, s);
        text = row ? row->text : NULL;
    }
    if (!profile_set(&it->draft, &j, s, text, NULL)) no_memory(v);
    job_free(&j);
    renew(v);
}

static void turn(struct view *v, int by)
{
    struct item *it = chosen(v);
    struct job j = { 0 };
    char value[VALUE_BYTES];

    if (!it || it->file.wrong[0] || !job_under(v, &it->draft, &j, NULL)) return;
    if (step_value(&j, switch_of(v), by, value)) put_switch(v, switch_of(v), value);
    job_free(&j);
}

/* The draft of the profile in use is what the form has. */
static void take_form(struct view *v)
{
    struct profile_state *p = v->profiles;

    for (int k = 0; k < p->count; k++) {
        struct item *it = &p->item[k];
        struct job now = { 0 }, then = { 0 };
        if (!applied(v, it) || it->file.wrong[0]) continue;
        p->at = k;
        if (view_draft(v, &now, NULL) && job_under(v, &it->draft, &then, NULL))
            for (int i = 0; i < p->switches; i++) {
                char *text = setting_same(&now, &then, p->of[i]) ? NULL : setting_text(&now, p->of[i]);
                if (text && !profile_set(&it->draft, &now, p->of[i], text, NULL)) no_memory(v);
                free(text);
            }
        job_free(&now);
        job_free(&then);
    }
}

/* --- the list ----------------------------------------------------------------------------- */

static void item_free(struct item *it)
{
    profile_free(&it->file.profile);
    profile_free(&it->draft);
}

void view_profiles_free(struct view_profile *list, int count)
{
    for (int i = 0; i < count; i++) profile_free(&list[i].profile);
    free(list);
}

bool view_profiles_wanted(struct view *v)
{
    bool wanted = v->profiles->list_wanted;

    v->profiles->list_wanted = false;
    return wanted;
}

/* Takes the file over. What was turned stays so, unless it has just been saved. */
static void add(struct view *v, struct item *to, struct view_profile *file)
{
    struct profile_state *p = v->profiles;
    bool ok;

    *to = (struct item){ .file = *file };
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->item[i].file.name, file->name) && strcmp(p->name, file->name) && turned_any(v, &p->item[i])) {
            to->draft = p->item[i].draft;
            p->item[i].draft = (struct profile){ 0 };
            return;
        }
    ok = profile_copy(&to->draft, &file->profile, NULL);
    if (!ok) no_memory(v);
}

void view_profiles(struct view *v, struct view_profile *list, int count)
{
    struct profile_state *p = v->profiles;
    struct item *item = calloc((size_t)count + 2, sizeof *item);
    struct view_profile none = { 0 }, other = { 0 };
    char at[SHELF_NAME_MAX];
    bool known = !v->profile[0];
    int n = 0;

    if (!item) {
        view_profiles_free(list, count);
        no_memory(v);
        return;
    }
    snprintf(at, sizeof at, "%.63s", p->name[0] ? p->name : p->count ? chosen(v)->file.name : v->profile);
    add(v, &item[n++], &none);
    for (int i = 0; i < count; i++) {
        known = known || !strcmp(list[i].name, v->profile);
        add(v, &item[n++], &list[i]);
    }
    free(list);
    /* In use, and of no shelf: a file that was named. */
    if (!known && v->following.path[0] && profile_copy(&other.profile, &v->following, NULL)) {
        snprintf(other.name, sizeof other.name, "%.*s", SHELF_NAME_MAX - 1, v->profile);
        add(v, &item[n++], &other);
    }
    for (int i = 0; i < p->count; i++) item_free(&p->item[i]);
    free(p->item);
    p->item = item;
    p->count = n;
    p->at = 0;
    if (!p->listed) take_form(v);
    for (int i = 0; i < n; i++)
        if (!strcmp(item[i].file.name, at)) p->at = i;
    p->listed = true;
    p->name[0] = 0;
    renew(v);
}

/* --- plans ---------------------------------------------------------------------------------- */

static bool open_now(const struct view *v)
{
    for (int i = 0; i < v->depth; i++)
        if (v->stack[i] == &screen_profile) return true;
    return false;
}

/* The first that is wanted: the draft's own, the chosen switch, then the others. */
static int next_wanted(const struct profile_state *p)
{
    if (p->effect[0].state == EFFECT_WANTED) return 0;
    if (p->effect[1 + p->turn].state == EFFECT_WANTED) return 1 + p->turn;
    for (int i = 1; i <= p->switches; i++)
        if (p->effect[i].state == EFFECT_WANTED) return i;
    return -1;
}

bool profile_plan_wanted(struct view *v, struct job *out, uint64_t *which)
{
    struct profile_state *p = v->profiles;
    struct item *it = chosen(v);
    char value[VALUE_BYTES];
    int i;

    if (!open_now(v) || !it || it->file.wrong[0]) return false;
    if (p->changes != v->changes) renew(v);
    if ((i = next_wanted(p)) < 0 || !job_under(v, &it->draft, out, NULL)) return false;
    p->effect[i].state = EFFECT_ASKED;
    if (i > 0 && step_value(out, p->of[i - 1], 1, value)) setting_set(out, p->of[i - 1], value, NULL);
    *which = p->serial << WHICH_BITS | (uint64_t)i;
    return true;
}

void profile_planned(struct view *v, uint64_t which, const struct plan_summary *s)
{
    struct profile_state *p = v->profiles;
    uint64_t i = which & ((1 << WHICH_BITS) - 1);

    if (which >> WHICH_BITS != p->serial || i > SWITCHES_MAX) return; /* of what is there no longer */
    p->effect[i].plan = *s;
    p->effect[i].state = EFFECT_KNOWN;
}

/* --- keys ------------------------------------------------------------------------------------- */

static bool profile_init(struct view *v, struct err *e)
{
    struct profile_state *p = v->profiles = calloc(1, sizeof *p);

    if (!p || !edit_init(&p->line, VALUE_BYTES - 1)) return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    for (int i = 0; i < setting_count() && p->switches < SWITCHES_MAX; i++)
        if (setting_at(i)->scope & SETTING_PROFILE) p->of[p->switches++] = setting_at(i);
    return true;
}

static void profile_screen_free(struct view *v)
{
    struct profile_state *p = v->profiles;

    if (!p) return;
    for (int i = 0; i < p->count; i++) item_free(&p->item[i]);
    free(p->item);
    edit_free(&p->line);
    free(p->text);
    free(p);
}

static bool profile_open(struct view *v)
{
    struct profile_state *p = v->profiles;

    p->mode = MODE_BROWSE;
    p->on_switches = false;
    p->list_wanted = !p->listed;
    if (p->listed) take_form(v);
    renew(v);
    return true;
}

static enum keys_context profile_context(const struct view *v)
{
    enum mode m = v->profiles->mode;

    return m == MODE_BROWSE ? KEYS_PROFILE : m == MODE_ASK ? KEYS_ASK : KEYS_DIALOG;
}

static void apply(struct view *v)
{
    struct item *it = chosen(v);
    struct err e = { 0 };
    char text[128];

    if (!it) return;
    if (it->file.wrong[0]) {
        view_say(v, VIEW_BAD, it->file.wrong);
    } else if (!view_take_profile(v, it->file.name, &it->file.profile, &it->draft, &e)) {
        view_say(v, VIEW_BAD, e.text);
    } else {
        snprintf(text, sizeof text, "The next picture is made with %s%s", title_of(it),
                 turned_any(v, it) ? ", as changed here" : "");
        view_say(v, VIEW_INFO, text);
        renew(v);
    }
}

static void begin_line(struct view *v, enum mode mode, const char *text)
{
    struct profile_state *p = v->profiles;

    p->mode = mode;
    p->wrong[0] = 0;
    edit_set(&p->line, text);
    edit_offer(&p->line);
    view_say(v, VIEW_INFO, "");
}

static void begin_name(struct view *v, enum asked asked)
{
    struct item *it = chosen(v);
    char name[SHELF_NAME_MAX + 8];

    if (!it || it->file.wrong[0]) return;
    if (!it->file.name[0]) snprintf(name, sizeof name, "mine");
    else snprintf(name, sizeof name, "%s%s", it->file.name, asked == ASKED_COPY ? "-2" : it->file.own ? "" : "-mine");
    v->profiles->asked = asked;
    begin_line(v, MODE_NAME, name);
}

static void ask(struct view *v, enum asked asked)
{
    v->profiles->asked = asked;
    v->profiles->mode = MODE_ASK;
    view_say(v, VIEW_INFO, "");
}

static struct item *named(const struct view *v, const char *name)
{
    for (int i = 1; i < v->profiles->count; i++)
        if (!strcmp(v->profiles->item[i].file.name, name)) return &v->profiles->item[i];
    return NULL;
}

/* The draft, or the file as it is, under the name that was typed. */
static struct wish save(struct view *v, bool replace)
{
    struct profile_state *p = v->profiles;
    struct item *it = chosen(v);
    struct profile written;
    struct err e = { 0 };

    p->mode = MODE_BROWSE;
    free(p->text);
    p->text = NULL;
    if (!profile_copy(&written, p->asked == ASKED_COPY ? &it->file.profile : &it->draft, &e)) {
        view_say(v, VIEW_BAD, e.text);
        return view_wish(WISH_NONE);
    }
    if (!it->file.own && it->file.name[0] && p->asked == ASKED_SAVE)
        snprintf(written.about, sizeof written.about, "after %s", it->file.name);
    p->text = profile_text(&written, &e);
    profile_free(&written);
    if (!p->text) {
        view_say(v, VIEW_BAD, e.text);
        return view_wish(WISH_NONE);
    }
    return (struct wish){ .kind = WISH_PROFILE_SAVE, .profile = { p->name, p->text, replace } };
}

static struct wish name_typed(struct view *v)
{
    struct profile_state *p = v->profiles;
    struct item *there;

    if (!shelf_is_name(p->line.text)) {
        snprintf(p->wrong, sizeof p->wrong, "a name has letters, digits, - _ and . only");
        return view_wish(WISH_NONE);
    }
    snprintf(p->name, sizeof p->name, "%s", p->line.text);
    there = named(v, p->name);
    if (!there || !there->file.own) return save(v, false);
    ask(v, p->asked);
    return view_wish(WISH_NONE);
}

static void value_typed(struct view *v)
{
    struct profile_state *p = v->profiles;
    struct err e = { 0 };

    if (setting_try(switch_of(v), p->line.text, &e) != SETTING_SET) {
        snprintf(p->wrong, sizeof p->wrong, "%.159s", e.text);
        return;
    }
    p->mode = MODE_BROWSE;
    put_switch(v, switch_of(v), p->line.text);
}

static struct wish answer(struct view *v)
{
    struct profile_state *p = v->profiles;

    if (p->asked != ASKED_DELETE) return save(v, true);
    p->mode = MODE_BROWSE;
    snprintf(p->name, sizeof p->name, "%s", chosen(v)->file.name);
    return (struct wish){ .kind = WISH_PROFILE_DELETE, .profile = { .name = p->name } };
}

static void move(struct view *v, int by)
{
    struct profile_state *p = v->profiles;
    int *at = p->on_switches ? &p->turn : &p->at, count = p->on_switches ? p->switches : p->count, to = *at + by;

    to = to >= count ? count - 1 : to;
    to = to < 0 ? 0 : to;
    if (to == *at) return;
    *at = to;
    if (!p->on_switches) renew(v);
}

static void reset(struct view *v)
{
    struct profile_state *p = v->profiles;

    for (int i = 0; i < p->switches; i++)
        if (!p->on_switches || i == p->turn) put_switch(v, p->of[i], NULL);
}

/* Enter: in the list the profile is taken, on a switch its value is. */
static void enter(struct view *v)
{
    struct profile_state *p = v->profiles;
    const struct setting *s = switch_of(v);
    struct job j = { 0 };
    char *text;

    if (!p->on_switches) {
        apply(v);
    } else if (s->kind == SETTING_CHOICE || s->kind == SETTING_BOOL) {
        turn(v, 1);
    } else if (chosen(v) && !chosen(v)->file.wrong[0] && job_under(v, &chosen(v)->draft, &j, NULL)) {
        const struct sheet_row *row = profile_row(&chosen(v)->draft, &j, s);
        text = row ? NULL : setting_text(&j, s);
        begin_line(v, MODE_VALUE, row ? row->text : text ? text : "");
        free(text);
        job_free(&j);
    }
}

static struct wish dialog(struct view *v, enum action a)
{
    struct profile_state *p = v->profiles;

    if (a == ACTION_ABORT) {
        p->mode = MODE_BROWSE;
        p->name[0] = 0;
    }
    if (a != ACTION_OK) return view_wish(WISH_NONE);
    if (p->mode == MODE_ASK) return answer(v);
    if (p->mode == MODE_NAME) return name_typed(v);
    value_typed(v);
    return view_wish(WISH_NONE);
}

static struct wish profile_act(struct view *v, enum action a)
{
    struct profile_state *p = v->profiles;
    struct item *it = chosen(v);

    if (p->mode != MODE_BROWSE) return dialog(v, a);
    switch (a) {
    case ACTION_BACK: view_close(v); break;
    case ACTION_UP: move(v, -1); break;
    case ACTION_DOWN: move(v, 1); break;
    case ACTION_PAGE_UP: move(v, -p->page); break;
    case ACTION_PAGE_DOWN: move(v, p->page); break;
    case ACTION_FIRST: move(v, -1000); break;
    case ACTION_LAST: move(v, 1000); break;
    case ACTION_OK: enter(v); break;
    case ACTION_PROFILE_SIDE: p->on_switches = !p->on_switches; break;
    case ACTION_PROFILE_MORE:
        if (p->on_switches) turn(v, 1);
        else p->on_switches = true;
        break;
    case ACTION_PROFILE_LESS:
        if (p->on_switches) turn(v, -1);
        break;
    case ACTION_PROFILE_APPLY: apply(v); break;
    case ACTION_PROFILE_RESET: reset(v); break;
    case ACTION_PROFILE_SAVE: begin_name(v, ASKED_SAVE); break;
    case ACTION_PROFILE_COPY: begin_name(v, ASKED_COPY); break;
    case ACTION_PROFILE_DELETE:
        if (it && it->file.own) ask(v, ASKED_DELETE);
        else view_say(v, VIEW_WARN, "Only profiles of your own can be deleted");
        break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish profile_type(struct view *v, const struct key *k)
{
    struct profile_state *p = v->profiles;

    if (p->mode != MODE_VALUE && p->mode != MODE_NAME) return view_wish(WISH_NONE);
    if (edit_key(&p->line, k)) p->wrong[0] = 0;
    return view_wish(WISH_NONE);
}

static const char *profile_hint(const struct view *v, enum action a)
{
    const struct profile_state *p = v->profiles;
    const struct item *it = chosen(v);
    const struct setting *s = switch_of(v);

    switch (a) {
    case ACTION_OK:
        if (p->mode == MODE_ASK) return p->asked == ASKED_DELETE ? "Delete it" : "Replace it";
        if (p->mode == MODE_NAME) return "Save";
        if (p->mode == MODE_VALUE) return "Take it";
        return !p->on_switches ? "Apply" : s->kind == SETTING_CHOICE || s->kind == SETTING_BOOL ? NULL : "Type";
    case ACTION_ABORT: return p->mode == MODE_ASK ? "No" : "Back";
    case ACTION_PROFILES: return NULL;
    case ACTION_PROFILE_SIDE: return p->on_switches ? "Profiles" : "Switches";
    case ACTION_PROFILE_MORE: return p->on_switches ? "Turn" : NULL;
    case ACTION_PROFILE_APPLY: return p->on_switches ? "Apply" : NULL;
    case ACTION_PROFILE_RESET: return it && turned_any(v, it) && (!p->on_switches || turned(v, it, s)) ? "Reset" : NULL;
    case ACTION_PROFILE_DELETE: return it && it->file.own && !p->on_switches ? "Delete" : NULL;
    case ACTION_PROFILE_COPY: return p->on_switches ? NULL : "Duplicate";
    default: return keys_action(a)->label;
    }
}

/* --- drawing ------------------------------------------------------------------------------------ */

static void scroll_to(int *scroll, int at, int rows, int count)
{
    if (at >= *scroll + rows) *scroll = at - rows + 1;
    if (at < *scroll) *scroll = at;
    if (*scroll > count - rows) *scroll = count - rows;
    if (*scroll < 0) *scroll = 0;
}

static void draw_list(struct view *v, struct grid *g, struct rect box)
{
    struct profile_state *p = v->profiles;
    struct rect r = { box.x + 1, box.y + 1, box.w - 2, box.h - 2 };
    bool here = !p->on_switches;

    draw_box(g, box, "Profiles", NULL, here);
    if (!p->on_switches) p->page = r.h > 1 ? r.h - 1 : 1;
    if (!p->count) draw_fit(g, r, r.x + 1, r.y, r.w - 1, COLOUR_DIM, 0, "reading", false);
    scroll_to(&p->list_scroll, p->at, r.h, p->count);
    for (int i = 0; i < r.h && p->list_scroll + i < p->count; i++) {
        const struct item *it = &p->item[p->list_scroll + i];
        bool on = p->list_scroll + i == p->at, marked = turned_any(v, it);
        int y = r.y + i, w = r.w - 3 - (it->file.own ? 6 : 0);
        if (on && here) draw_fill(g, (struct rect){ r.x, y, r.w, 1 }, " ", COLOUR_ACCENT, CELL_REVERSE);
        draw_text(g, r, r.x, y, COLOUR_GOOD, on && here ? CELL_REVERSE : 0, applied(v, it) ? "◆" : " ");
        enum colour c = it->file.wrong[0] ? COLOUR_BAD : on ? COLOUR_ACCENT : COLOUR_TEXT;
        int attr = on && here ? CELL_BOLD | CELL_REVERSE : on ? CELL_BOLD : 0;
        int x = r.x + 2 + draw_fit(g, r, r.x + 2, y, w, c, attr, title_of(it), false);
        if (marked) draw_text(g, r, x, y, COLOUR_WARN, CELL_BOLD, "*");
        if (it->file.own) draw_right(g, r, y, COLOUR_DIM, on && here ? CELL_REVERSE : 0, "yours");
    }
}

/* "+1.2 GB", "-0:41", "same". */
static enum colour size_difference(size_t now, size_t then, char buf[24])
{
    char size[16];

    if (now == then) {
        strcpy(buf, "same");
        return COLOUR_DIM;
    }
    snprintf(buf, 24, "%c%s", then > now ? '+' : '-', draw_size(then > now ? then - now : now - then, size));
    return then > now ? COLOUR_WARN : COLOUR_GOOD;
}

static enum colour time_difference(double now, double then, char buf[24])
{
    double d = then - now;
    char time[16];

    if (now <= 0 || then <= 0) {
        strcpy(buf, "n/a");
        return COLOUR_DIM;
    }
    if (d > -0.05 && d < 0.05) {
        strcpy(buf, "same");
        return COLOUR_DIM;
    }
    if (d > -99.95 && d < 99.95) snprintf(buf, 24, "%+.1f s", d);
    else snprintf(buf, 24, "%c%s", d > 0 ? '+' : '-', draw_time(d > 0 ? d : -d, time));
    return d > 0 ? COLOUR_WARN : COLOUR_GOOD;
}

/* Widths of a switch's columns, 0 for those there is no room for. */
struct columns { int name, now, next, peak, time, link; };

static struct columns columns_of(int w)
{
    struct columns c = { .name = 16, .now = w >= 38 ? 12 : w - 16 };

    if (w >= 38) c.peak = 9;
    if (w >= 50) c.next = 13;
    if (w >= 58) c.time = 8;
    if (w >= 68) c.link = 10;
    return c;
}

static void draw_effect(const struct view *v, struct grid *g, struct rect r, int x, int y, const struct columns *c,
                        int i)
{
    const struct effect *base = &v->profiles->effect[0], *e = &v->profiles->effect[1 + i];
    char text[24];
    enum colour colour;

    if (base->state != EFFECT_KNOWN || e->state != EFFECT_KNOWN) {
        if (c->peak) draw_text(g, r, x, y, COLOUR_DIM, 0, "...");
        return;
    }
    if (!e->plan.ok) {
        if (c->peak) draw_text(g, r, x, y, COLOUR_BAD, 0, "no plan");
        return;
    }
    if (!base->plan.ok) {
        if (c->peak) draw_text(g, r, x, y, COLOUR_GOOD, 0, "does");
        return;
    }
    colour = size_difference(base->plan.arena, e->plan.arena, text);
    if (c->peak) draw_fit(g, r, x, y, c->peak - 1, colour, 0, text, false);
    colour = time_difference(base->plan.seconds, e->plan.seconds, text);
    if (c->time) draw_fit(g, r, x + c->peak, y, c->time - 1, colour, 0, text, false);
    colour = size_difference(base->plan.link, e->plan.link, text);
    if (c->link) draw_fit(g, r, x + c->peak + c->time, y, c->link, colour, 0, text, false);
}

static void draw_switch(struct view *v, struct grid *g, struct rect r, int y, const struct columns *c, int i,
                        const struct job *j)
{
    struct profile_state *p = v->profiles;
    const struct setting *s = p->of[i];
    bool on = p->on_switches && i == p->turn;
    char value[VALUE_BYTES], next[VALUE_BYTES];
    struct job then = { 0 };
    int x = r.x;

    draw_fit(g, r, x, y, c->name - 1, on ? COLOUR_ACCENT : COLOUR_TEXT, on ? CELL_BOLD : 0, s->name, false);
    if (turned(v, chosen(v), s)) draw_text(g, r, x + c->name - 1, y, COLOUR_WARN, CELL_BOLD, "*");
    x += c->name;
    if (on && p->mode == MODE_VALUE) { /* its complaint takes the other columns */
        int w = p->wrong[0] ? c->now : r.x + r.w - x;
        view_draw_line(g, (struct rect){ x, y, w, 1 }, &p->line, p->wrong[0] ? COLOUR_BAD : COLOUR_TEXT, CELL_UNDERLINE,
                       true);
        if (p->wrong[0]) draw_fit(g, r, x + w + 1, y, r.x + r.w - x - w - 1, COLOUR_BAD, 0, p->wrong, false);
        return;
    }
    draw_fit(g, r, x, y, c->now - 1, on ? COLOUR_ACCENT : COLOUR_TEXT, on ? CELL_REVERSE : 0, value_text(j, s, value),
             false);
    x += c->now;
    if (!step_value(j, s, 1, next) || setting_set(&then, s, next, NULL) != SETTING_SET) return;
    then.vae = strcmp(s->name, "vae") ? j->vae : then.vae;
    if (c->next) {
        if (another_picture(j, &then, s)) draw_text(g, r, x, y, COLOUR_WARN, CELL_BOLD, "!");
        draw_fit(g, r, x + 1, y, c->next - 1, COLOUR_DIM, 0, value_text(&then, s, value), false);
        x += c->next;
    }
    draw_effect(v, g, r, x, y, c, i);
}

/* What the chosen switch is for, and what its next value does, in words. */
static void draw_detail(struct view *v, struct grid *g, struct rect r, const struct job *j)
{
    const struct profile_state *p = v->profiles;
    const struct effect *base = &p->effect[0], *e = &p->effect[1 + p->turn];
    const struct setting *s = switch_of(v);
    char next[VALUE_BYTES], value[VALUE_BYTES], peak[16], now[16], time[16], then_time[16], text[320];
    struct job then = { 0 };
    int y = r.y;

    if (!p->on_switches) {
        const struct item *it = chosen(v);
        draw_wrapped(g, r, y, r.h, it->file.wrong[0] ? COLOUR_BAD : COLOUR_DIM, 0,
                     it->file.wrong[0] ? it->file.wrong : it->file.name[0] ? it->file.profile.about
                                       : "The model's defaults: without a budget, weights are used where they lie.");
        return;
    }
    draw_fit(g, r, r.x, y++, r.w, COLOUR_DIM, 0, s->help, false);
    if (!step_value(j, s, 1, next) || setting_set(&then, s, next, NULL) != SETTING_SET) return;
    then.vae = strcmp(s->name, "vae") ? j->vae : then.vae;
    if (e->state != EFFECT_KNOWN || base->state != EFFECT_KNOWN) return;
    if (!e->plan.ok) {
        snprintf(text, sizeof text, "%s: %.240s", value_text(&then, s, value), e->plan.text);
        draw_wrapped(g, r, y, r.y + r.h - y, COLOUR_BAD, 0, text);
        return;
    }
    int n = snprintf(text, sizeof text, "%s: peak %s", value_text(&then, s, value), draw_size(e->plan.arena, peak));
    if (base->plan.ok) n += snprintf(text + n, sizeof text - (size_t)n, ", now %s", draw_size(base->plan.arena, now));
    if (e->plan.seconds > 0)
        n += snprintf(text + n, sizeof text - (size_t)n, "; %s, now %s", plan_time_text(e->plan.seconds, then_time),
                      plan_time_text(base->plan.seconds, time));
    if (another_picture(j, &then, s)) snprintf(text + n, sizeof text - (size_t)n, "; changes the picture");
    draw_wrapped(g, r, y, r.y + r.h - y, another_picture(j, &then, s) ? COLOUR_WARN : COLOUR_TEXT, 0, text);
}

static void draw_base(const struct view *v, struct grid *g, struct rect r)
{
    const struct effect *base = &v->profiles->effect[0];
    char text[128], peak[64], time[16];

    if (base->state != EFFECT_KNOWN) {
        draw_text(g, r, r.x, r.y, COLOUR_DIM, 0, "planning");
    } else if (!base->plan.ok) {
        draw_fit(g, r, r.x, r.y, r.w, COLOUR_BAD, 0, base->plan.text, false);
    } else {
        int n = snprintf(text, sizeof text, "%s", plan_peak_text(&base->plan, peak));
        if (base->plan.seconds > 0)
            snprintf(text + n, sizeof text - (size_t)n, ", about %s", plan_time_text(base->plan.seconds, time));
        draw_fit(g, r, r.x, r.y, r.w, COLOUR_TEXT, CELL_BOLD, text, false);
    }
}

static void draw_switches(struct view *v, struct grid *g, struct rect box)
{
    struct profile_state *p = v->profiles;
    struct rect r = { box.x + 2, box.y + 1, box.w - 4, box.h - 2 };
    struct item *it = chosen(v);
    struct columns c = columns_of(r.w);
    struct job j = { 0 };
    int detail = r.h >= 12 ? 3 : r.h >= 8 ? 2 : 0, y = r.y, rows;

    draw_box(g, box, it ? title_of(it) : "Switches", c.next ? "! another picture" : NULL, p->on_switches);
    if (!it) return;
    if (it->file.wrong[0] || !job_under(v, &it->draft, &j, NULL)) {
        draw_wrapped(g, r, r.y, r.h, COLOUR_BAD, 0, it->file.wrong);
        return;
    }
    draw_base(v, g, (struct rect){ r.x, y++, r.w, 1 });
    if (r.h >= 8) {
        int x = r.x + c.name;
        draw_text(g, r, x, y, COLOUR_DIM, 0, "now");
        x += c.now;
        if (c.next) draw_text(g, r, x + 1, y, COLOUR_DIM, 0, "next");
        x += c.next;
        if (c.peak) draw_text(g, r, x, y, COLOUR_DIM, 0, "peak");
        if (c.time) draw_text(g, r, x + c.peak, y, COLOUR_DIM, 0, "time");
        if (c.link) draw_text(g, r, x + c.peak + c.time, y, COLOUR_DIM, 0, "over link");
        y++;
    }
    rows = r.y + r.h - y - detail;
    if (p->on_switches) p->page = rows > 1 ? rows - 1 : 1;
    scroll_to(&p->scroll, p->turn, rows, p->switches);
    for (int i = 0; i < rows && p->scroll + i < p->switches; i++) draw_switch(v, g, r, y++, &c, p->scroll + i, &j);
    rows = r.y + r.h - detail - y - 2;
    /* Room for the plan's bars. */
    if (rows > PHASE_COUNT && p->effect[0].state == EFFECT_KNOWN && p->effect[0].plan.ok) {
        struct pane_memory m = { .plan = &p->effect[0].plan };
        pane_memory_draw(g, (struct rect){ r.x, y + 1, r.w < 72 ? r.w : 72, rows }, &m);
    }
    if (detail) draw_detail(v, g, (struct rect){ r.x, r.y + r.h - detail, r.w, detail }, &j);
    job_free(&j);
}

/* On the message's row: a name that is typed, a question. */
static void draw_dialog(struct view *v, struct grid *g)
{
    struct profile_state *p = v->profiles;
    struct rect r = { 1, v->rows - 2, v->cols - 2, 1 };
    char text[160];
    int w;

    if (p->mode != MODE_NAME && p->mode != MODE_ASK) return;
    draw_fill(g, (struct rect){ 0, r.y, v->cols, 1 }, " ", COLOUR_TEXT, 0);
    if (p->mode == MODE_ASK) {
        if (p->asked == ASKED_DELETE) snprintf(text, sizeof text, "Delete the profile %s?", chosen(v)->file.name);
        else snprintf(text, sizeof text, "There is a %s of yours: replace it?", p->name);
        draw_fit(g, r, r.x, r.y, r.w, COLOUR_WARN, CELL_BOLD, text, false);
        return;
    }
    w = draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, p->asked == ASKED_COPY ? "Duplicate as: " : "Save as: ");
    int line = p->wrong[0] && r.w - w > 64 ? r.w - w - 44 : r.w - w;
    view_draw_line(g, (struct rect){ r.x + w, r.y, line, 1 }, &p->line, p->wrong[0] ? COLOUR_BAD : COLOUR_TEXT, 0,
                   view_top(v, &screen_profile));
    if (line < r.w - w) draw_fit(g, r, r.x + w + line + 1, r.y, r.w - w - line - 1, COLOUR_BAD, 0, p->wrong, false);
}

static bool profile_draw(struct view *v, struct grid *g, struct err *e)
{
    struct profile_state *p = v->profiles;
    struct rect r = view_draw_frame(v, g, "Profiles: how memory is used");
    int list = r.w >= 120 ? 30 : 18;

    (void)e;
    if (p->changes != v->changes) renew(v);
    if (r.w < 72) { /* one of the two */
        if (p->on_switches) draw_switches(v, g, r);
        else draw_list(v, g, r);
    } else {
        draw_list(v, g, (struct rect){ r.x, r.y, list, r.h });
        draw_switches(v, g, (struct rect){ r.x + list, r.y, r.w - list, r.h });
    }
    draw_dialog(v, g);
    return true;
}

const struct screen screen_profile = {
    .name = "profiles",
    .opened_by = ACTION_PROFILES,
    .init = profile_init,
    .free = profile_screen_free,
    .open = profile_open,
    .context = profile_context,
    .act = profile_act,
    .type = profile_type,
    .hint = profile_hint,
    .draw = profile_draw,
};
