/* view.c - see view.h.
 *
 * What all screens share: the state, the stack of screens, what is done with a
 * key that is no screen's own, events, and the rows that every screen ends in. */
#include "engine/setting.h"
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/scale.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every screen there is. */
static const struct screen *const screens[] = {
    &screen_main, &screen_help, &screen_save, &screen_picture, &screen_profile, &screen_search,
    &screen_queue, &screen_contact, &screen_gallery, &screen_ask, &screen_trouble, &screen_presets,
    &screen_doctor,
};
enum { SCREENS = sizeof screens / sizeof *screens };

/* --- state ---------------------------------------------------------------- */

void view_say(struct view *v, enum view_mood mood, const char *text)
{
    view_say_two(v, mood, text, "");
}

void view_say_two(struct view *v, enum view_mood mood, const char *what, const char *of)
{
    v->mood = mood;
    snprintf(v->message, sizeof v->message, "%s%s", what, of);
}

const char *view_friendly(const struct view *v, const char *path, char buf[VIEW_PATH_BYTES])
{
    size_t home = strlen(v->home);

    if (home > 1 && !strncmp(path, v->home, home) && (path[home] == '/' || !path[home])) {
        snprintf(buf, VIEW_PATH_BYTES, "~%s", path + home);
        return buf;
    }
    return path;
}

static void request_free(struct request *r)
{
    job_free(&r->job);
    free(r);
}

struct request *view_find(struct view *v, uint64_t id)
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

int view_waiting(const struct view *v)
{
    int n = 0;

    for (const struct request *r = v->requests; r; r = r->next)
        if (!v->running || r->id != v->running_id) n++;
    return n + queue_count(v);
}

bool view_busy(const struct view *v)
{
    return v->running || v->requests;
}

static void set_names(struct view *v, const char *preset, const char *profile)
{
    snprintf(v->preset, sizeof v->preset, "%s", preset ? preset : "");
    snprintf(v->profile, sizeof v->profile, "%s", profile ? profile : "");
}

bool view_new(struct view **out, const struct model *m, const struct view_options *o, struct err *e)
{
    struct view *v = calloc(1, sizeof *v);
    bool ok;

    *out = NULL;
    if (!v) return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    v->model = *m;
    snprintf(v->device, sizeof v->device, "%s", o->device ? o->device : "");
    snprintf(v->out_dir, sizeof v->out_dir, "%s", o->out_dir ? o->out_dir : "");
    snprintf(v->home, sizeof v->home, "%s", o->home ? o->home : "");
    v->threads = o->threads;
    v->pictures = o->pictures;
    v->utc_offset = o->utc_offset;
    if (o->keys) v->keys = *o->keys;
    else keys_init(&v->keys, KEYS_EMACS);
    view_resize(v, (struct view_screen){ .cols = 80, .rows = 24 });
    v->stack[v->depth++] = &screen_main;
    v->mouse = o->mouse;
    v->plan_again = true;
    ok = o->start ? job_copy(&v->job, o->start, e) : job_init(&v->job, m, e);
    if (ok && !o->start) v->job.random_seed = true;
    ok = ok && job_copy(&v->loaded, o->loaded ? o->loaded : &v->job, e);
    set_names(v, o->preset, o->profile);
    ok = ok && (!o->memory || view_follow(v, o->memory, e));
    for (int i = 0; ok && i < SCREENS; i++) ok = !screens[i]->init || screens[i]->init(v, e);
    if (!ok) {
        view_free(v);
        return false;
    }
    *out = v;
    return true;
}

void view_free(struct view *v)
{
    if (!v) return;
    while (v->requests) request_end(v, v->requests->id);
    for (int i = 0; i < SCREENS; i++)
        if (screens[i]->free) screens[i]->free(v);
    image_free(v->image);
    for (int i = 0; i < v->recent_count; i++) image_free(v->recent[i].thumb);
    prompts_free(&v->prompts);
    job_free(&v->image_job);
    job_free(&v->planned);
    profile_free(&v->following);
    job_free(&v->loaded);
    job_free(&v->job);
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
    v->pixels = s.pixels;
}

void view_tick(struct view *v, int64_t now_ms)
{
    v->now_ms = now_ms;
    for (int i = 0; i < SCREENS; i++)
        if (screens[i]->tick) screens[i]->tick(v);
}

struct view_result view_result(const struct view *v)
{
    if (v->shown < SHOWN_PARTIAL) return (struct view_result){ .path = "" };
    return (struct view_result){ v->image, v->image_job_known ? &v->image_job : NULL, v->image_seed, v->image_path };
}

bool view_job(const struct view *v, struct job *out, struct err *e)
{
    return main_job(v, out, e);
}

uint64_t view_changes(const struct view *v)
{
    return v->changes;
}

bool view_request(struct view *v, struct job *out, bool *random_seed, struct err *e)
{
    char notice[256] = "";
    bool random;

    if (!main_job(v, out, e)) return false;
    if (!job_check(out, notice, e)) {
        job_free(out);
        return false;
    }
    random = out->random_seed;
    out->random_seed = false;
    *random_seed = random; /* may be the job's own */
    if (!v->pictures) out->preview = PREVIEW_NONE;
    if (notice[0]) view_say(v, VIEW_WARN, notice);
    return true;
}

bool view_load(struct view *v, const struct job *j, const char *preset, const char *profile, struct err *e)
{
    struct job job = { 0 }, loaded = { 0 };

    if (!job_copy(&job, j, e) || !job_copy(&loaded, j, e)) {
        job_free(&job);
        return false;
    }
    job_free(&v->job);
    job_free(&v->loaded);
    v->job = job;
    v->loaded = loaded;
    if (!profile || strcmp(profile, v->profile)) {
        profile_free(&v->following);
        v->following = (struct profile){ 0 };
    }
    v->following_large = profile_large(&v->following, &v->job);
    set_names(v, preset, profile);
    main_load(v);
    v->changes++;
    return true;
}

bool view_set(struct view *v, const struct setting *s, const char *text, struct err *e)
{
    if (setting_set(&v->job, s, text, e) != SETTING_SET) return false;
    main_show(v, s);
    return true;
}

void view_tokens(struct view *v, int which, const struct view_tokens *t)
{
    v->tokens[which] = *t;
}

/* --- plans ----------------------------------------------------------------------- */

/* Nothing that a plan depends on differs. */
static bool same_plan(const struct job *a, const struct job *b)
{
    for (int i = 0; i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (s->kind != SETTING_TEXT && s->kind != SETTING_SEED && !setting_same(a, b, s)) return false;
    }
    return a->more_count == b->more_count;
}

static bool main_plan_wanted(struct view *v, struct job *out)
{
    if (v->plan_changes == v->changes && !v->plan_again) return false;
    v->plan_changes = v->changes;
    v->plan_unreadable = !main_job(v, out, NULL);
    if (v->plan_unreadable) {
        job_free(&v->planned); /* whatever is typed next */
        v->plan_known = false;
        return false;
    }
    if (v->planned.prompt && !v->plan_again && same_plan(out, &v->planned)) {
        job_free(out);
        return false;
    }
    v->plan_again = false;
    job_free(&v->planned);
    job_copy(&v->planned, out, NULL); /* without memory for it the next is asked for, too */
    return true;
}

/* What the ticket is of: the lowest bit, and above it the change or the screen's own number. */
bool view_plan_wanted(struct view *v, struct job *out, uint64_t *ticket)
{
    uint64_t which = 0;

    if (main_plan_wanted(v, out)) {
        *ticket = v->changes << 1;
        return true;
    }
    if (!profile_plan_wanted(v, out, &which)) return false;
    *ticket = which << 1 | 1;
    return true;
}

/* "NVIDIA GeForce RTX 3060 Laptop GPU" as "RTX 3060 Laptop": the title has little room. */
static void set_device(struct view *v, const char *name)
{
    static const char *const left_out[] = { "NVIDIA ", "GeForce ", " GPU" };

    snprintf(v->device, sizeof v->device, "%s", name);
    for (size_t i = 0; i < sizeof left_out / sizeof *left_out; i++) {
        char *at = strstr(v->device, left_out[i]);
        if (at) memmove(at, at + strlen(left_out[i]), strlen(at + strlen(left_out[i])) + 1);
    }
}

void view_planned(struct view *v, uint64_t ticket, const struct plan_summary *s)
{
    if (ticket & 1) {
        profile_planned(v, ticket >> 1, s);
    } else if (v->planned.prompt) {
        v->plan = *s;
        v->plan_known = true;
        if (s->device[0]) set_device(v, s->device);
    }
}

void view_plan_again(struct view *v)
{
    v->plan_again = true;
}

/* --- profiles -------------------------------------------------------------------- */

/* Only a profile says it, and it is a way of using memory: what is on or off stays as the user has it. */
static bool profiles_alone(const struct setting *s)
{
    return (s->scope & (SETTING_PROFILE | SETTING_PRESET)) == SETTING_PROFILE && s->kind != SETTING_BOOL;
}

bool view_draft(const struct view *v, struct job *out, struct err *e)
{
    return main_job(v, out, NULL) || job_copy(out, &v->job, e);
}

static bool put(struct job *to, const struct job *from, const struct setting *s, struct err *e)
{
    char *text = setting_text(from, s);
    bool ok = text && setting_set(to, s, text, e) == SETTING_SET;

    free(text);
    return ok || err_set(e, ERR_MEMORY, "out of memory");
}

bool view_put_profile(const struct view *v, struct job *j, const struct profile *p, struct err *e)
{
    struct job fresh;
    bool ok = job_init(&fresh, &v->model, e);

    for (int i = 0; ok && i < setting_count(); i++)
        if (profiles_alone(setting_at(i))) ok = put(j, &fresh, setting_at(i), e);
    for (int i = 0; ok && i < setting_count(); i++) { /* another program's template may say more: what the picture is */
        const struct setting *s = setting_at(i);
        const struct sheet_row *row = s->scope & SETTING_PROFILE ? profile_row(p, j, s) : NULL;
        ok = !row || setting_set(j, s, row->text, e) == SETTING_SET;
    }
    job_free(&fresh);
    return ok;
}

bool view_follow(struct view *v, const struct profile *p, struct err *e)
{
    struct profile copy;

    if (!profile_copy(&copy, p, e)) return false;
    profile_free(&v->following);
    v->following = copy;
    v->following_large = profile_large(&copy, &v->job);
    return true;
}

bool view_take_profile(struct view *v, const char *name, const struct profile *file, const struct profile *draft,
                       struct err *e)
{
    struct job now = { 0 }, loaded = { 0 };
    bool ok = view_draft(v, &now, e) && job_copy(&loaded, &v->loaded, e);

    if (ok) {
        loaded.width = now.width; /* of this size, as far as `large` goes */
        loaded.height = now.height;
        ok = view_put_profile(v, &loaded, file, e) && view_put_profile(v, &now, draft, e) && view_follow(v, file, e);
    }
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (!(s->scope & SETTING_PROFILE)) continue;
        ok = put(&v->loaded, &loaded, s, e) && put(&v->job, &now, s, e);
        main_show(v, s);
    }
    if (ok) {
        snprintf(v->profile, sizeof v->profile, "%s", name);
        v->following_large = profile_large(file, &now);
    }
    job_free(&now);
    job_free(&loaded);
    return ok;
}

/* The size went past what the profile calls large, or back: its settings for that come or go, but
 * for those that were edited. */
static void follow_size(struct view *v)
{
    struct job now = { 0 }, loaded = { 0 };
    bool large, said = false;

    if (!v->following.large.count) return;
    now.width = v->job.width, now.height = v->job.height;
    if (!main_size(v, &now) || (large = profile_large(&v->following, &now)) == v->following_large) return;
    now = (struct job){ 0 };
    if (view_draft(v, &now, NULL) && job_copy(&loaded, &v->loaded, NULL)) {
        loaded.width = now.width;
        loaded.height = now.height;
        said = view_put_profile(v, &loaded, &v->following, NULL);
    }
    for (int i = 0; said && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (!sheet_find(&v->following.large, s) || setting_same(&loaded, &v->loaded, s)) continue;
        bool edited = !setting_same(&now, &v->loaded, s);
        put(&v->loaded, &loaded, s, NULL);
        if (edited) continue;
        put(&v->job, &loaded, s, NULL);
        main_show(v, s);
    }
    if (said) {
        char text[128];
        snprintf(text, sizeof text, "%s %dx%d: the profile's %s", large ? "From" : "Below", v->following.large_width,
                 v->following.large_height, large ? "settings for large pictures" : "usual settings");
        view_say(v, VIEW_INFO, text);
        v->following_large = large;
    }
    job_free(&now);
    job_free(&loaded);
}

void view_prompts(struct view *v, const char *const *texts, int count)
{
    for (int i = 0; i < count; i++) prompts_add(&v->prompts, texts[i]);
}

static bool copy_settings(struct job *to, const struct job *from, bool (*which)(const struct setting *), struct err *e)
{
    bool ok = true;

    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        char *text = which(s) ? setting_text(from, s) : NULL;
        if (which(s)) ok = text ? setting_set(to, s, text, e) == SETTING_SET : err_set(e, ERR_MEMORY, "no memory");
        free(text);
    }
    return ok;
}

static bool of_preset(const struct setting *s)
{
    return s->scope & SETTING_PRESET;
}

static bool of_profile_alone(const struct setting *s)
{
    return s->scope & SETTING_PROFILE && !(s->scope & SETTING_PRESET);
}

bool view_load_preset(struct view *v, const struct job *j, const char *preset, const char *profile, struct err *e)
{
    struct job was = { 0 };
    char same[VIEW_NAME_BYTES];
    bool ok = job_copy(&was, &v->loaded, e);

    snprintf(same, sizeof same, "%s", v->profile);
    ok = ok && view_load(v, j, preset, profile ? profile : same, e) &&
         (profile || copy_settings(&v->loaded, &was, of_profile_alone, e));
    job_free(&was);
    return ok;
}

bool view_keep_preset(struct view *v, const struct job *j, const char *preset, struct err *e)
{
    if (!copy_settings(&v->loaded, j, of_preset, e)) return false;
    snprintf(v->preset, sizeof v->preset, "%s", preset);
    return true;
}

void view_submitted(struct view *v, uint64_t id, const struct job *j)
{
    struct request *r = calloc(1, sizeof *r), **at = &v->requests;

    if (r && job_copy(&r->job, j, NULL)) {
        r->id = id;
        while (*at) at = &(*at)->next;
        *at = r;
    } else {
        free(r); /* only the record is lost; the job runs */
    }
}

const char *view_preset(const struct view *v)
{
    return v->preset;
}

struct wish view_needs(struct view *v)
{
    const struct screen *s = v->stack[v->depth - 1];

    for (int i = v->depth - 1; i > 0 && s->overlay; i--) s = v->stack[i - 1];
    return s->needs ? s->needs(v) : view_wish(WISH_NONE);
}

void view_refused(struct view *v, const char *text)
{
    view_say(v, VIEW_BAD, text);
}

void view_saved(struct view *v, bool ok, const char *path_or_reason)
{
    char buf[VIEW_PATH_BYTES];

    if (!ok) {
        view_say_two(v, VIEW_BAD, "Not saved: ", path_or_reason);
        return;
    }
    if (v->shown == SHOWN_UNSAVED) {
        v->shown = SHOWN_DONE;
        snprintf(v->image_path, sizeof v->image_path, "%s", path_or_reason);
    }
    view_say_two(v, VIEW_GOOD, "Saved ", view_friendly(v, path_or_reason, buf));
}

/* --- the stack of screens ---------------------------------------------------- */

static const struct screen *top(const struct view *v)
{
    return v->stack[v->depth - 1];
}

bool view_top(const struct view *v, const struct screen *s)
{
    return top(v) == s;
}

void view_close(struct view *v)
{
    const struct screen *s = top(v);

    if (v->depth == 1) return;
    v->depth--;
    if (s->close) s->close(v);
}

bool view_open(struct view *v, const struct screen *s)
{
    if (view_top(v, s)) return true;
    if (s->open && !s->open(v)) return false;
    if (!s->overlay && !s->on_top)
        while (v->depth > 1) view_close(v);
    if (v->depth == VIEW_STACK_MAX) view_close(v);
    v->stack[v->depth++] = s;
    return true;
}

/* --- keys ---------------------------------------------------------------------- */

struct wish view_cancel(struct view *v)
{
    struct wish w = { .kind = WISH_CANCEL };

    if (!view_busy(v) || v->editing) {
        view_say(v, VIEW_INFO, v->editing ? "The job is left as it was" : "");
        v->editing = 0;
        return view_wish(WISH_NONE);
    }
    w.job = v->running ? v->running_id : v->requests->id;
    view_say(v, VIEW_INFO, v->cancelling ? "Giving the partial picture up too" : "Cancelling after this block");
    v->cancelling = true;
    return w;
}

static struct wish interrupt(struct view *v)
{
    bool again = v->interrupted_ms && v->now_ms - v->interrupted_ms < 2000;
    char interrupt_key[KEYS_NAME_MAX], quit_key[KEYS_NAME_MAX], text[128];

    keys_name(&v->keys, ACTION_INTERRUPT, KEYS_ANYWHERE, interrupt_key);
    keys_name(&v->keys, ACTION_QUIT, KEYS_ANYWHERE, quit_key);
    if (again) return view_wish(WISH_QUIT);
    v->interrupted_ms = v->now_ms ? v->now_ms : 1;
    if (view_busy(v)) {
        struct wish w = view_cancel(v);
        view_say_two(v, VIEW_INFO, "Cancelling; again quits: ", interrupt_key);
        return w;
    }
    if (*quit_key) snprintf(text, sizeof text, "%s again quits (%s at once)", interrupt_key, quit_key);
    else snprintf(text, sizeof text, "%s again quits", interrupt_key);
    view_say(v, VIEW_INFO, text);
    return view_wish(WISH_NONE);
}

static struct wish act(struct view *v, enum action a)
{
    switch (a) {
    case ACTION_QUIT: return view_wish(WISH_QUIT);
    case ACTION_REDRAW: return view_wish(WISH_REDRAW);
    case ACTION_SUSPEND: return view_wish(WISH_SUSPEND);
    case ACTION_MOUSE:
        v->mouse = !v->mouse;
        view_say(v, VIEW_INFO, v->mouse ? "Mouse on" : "Mouse off: the terminal selects text again");
        return (struct wish){ .kind = WISH_MOUSE, .on = v->mouse };
    case ACTION_INTERRUPT:
        if (top(v)->overlay) view_close(v);
        return interrupt(v);
    default: break;
    }
    for (int i = 0; i < SCREENS; i++)
        if (screens[i]->opened_by == a) {
            if (view_top(v, screens[i])) view_close(v); /* the key that opened it closes it */
            else view_open(v, screens[i]);
            return view_wish(WISH_NONE);
        }
    return top(v)->act(v, a);
}

static struct wish mouse(struct view *v, const struct key *k)
{
    for (int i = 0; i < v->hints && k->ch == MOUSE_LEFT; i++)
        if (rect_has(v->hint[i].at, k->x, k->y)) return act(v, v->hint[i].action);
    if (top(v)->mouse) return top(v)->mouse(v, k);
    if (k->ch == MOUSE_UP) return top(v)->act(v, ACTION_UP);
    if (k->ch == MOUSE_DOWN) return top(v)->act(v, ACTION_DOWN);
    return view_wish(WISH_NONE);
}

static struct wish take_key(struct view *v, const struct key *k)
{
    if (k->kind == K_MOUSE) return mouse(v, k);
    enum action a = keys_find(&v->keys, top(v)->context(v), k);

    if (a != ACTION_INTERRUPT) v->interrupted_ms = 0;
    if (a) return act(v, a);
    return top(v)->type ? top(v)->type(v, k) : view_wish(WISH_NONE);
}

struct wish view_key(struct view *v, const struct key *k)
{
    uint64_t before = v->changes;
    struct wish w = take_key(v, k);

    if (v->changes != before) follow_size(v);
    return w;
}

/* --- events -------------------------------------------------------------------- */

/* A small copy of a finished picture; without memory for it, none. */
static void remember(struct view *v, const struct event *ev)
{
    struct recent new = { .serial = ++v->serials, .seed = ev->seed };
    int w, h;

    scale_fit(ev->image->width, ev->image->height, 1, VIEW_THUMB_PX, VIEW_THUMB_PX, &w, &h);
    new.thumb = scale_image(ev->image, w, h, NULL);
    if (!new.thumb) return;
    snprintf(new.path, sizeof new.path, "%s", ev->text);
    if (v->recent_count == VIEW_RECENT_MAX) image_free(v->recent[--v->recent_count].thumb);
    memmove(v->recent + 1, v->recent, (size_t)v->recent_count * sizeof *v->recent);
    v->recent[0] = new;
    v->recent_count++;
}

static void show(struct view *v, struct event *ev, enum shown what)
{
    struct request *r = view_find(v, ev->job);

    if (!ev->image) return;
    if (what == SHOWN_DONE && !contact_has(v, ev->job)) remember(v, ev);
    image_free(v->image);
    v->image = ev->image;
    ev->image = NULL;
    v->shown = what;
    v->serial = ++v->serials;
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
    if (v->running && v->running_id == ev->job) v->running = v->cancelling = v->paused = false;
}

static void say_result(struct view *v, const struct event *ev, char buf[VIEW_PATH_BYTES])
{
    if (ev->kind == EVENT_CANCELLED) {
        if (ev->text[0]) view_say_two(v, VIEW_WARN, "Cancelled; partial picture in ", view_friendly(v, ev->text, buf));
        else view_say(v, VIEW_WARN, "Cancelled");
        return;
    }
    view_say_two(v, VIEW_GOOD, "Saved ", view_friendly(v, ev->text, buf));
}

/* A result's line does not push away what is said about a wrong field; it
 * comes when that is put right. */
static void say_end(struct view *v, const struct event *ev)
{
    char buf[VIEW_PATH_BYTES], about_field[sizeof v->message];
    bool wrong = v->mood == VIEW_BAD && main_wrong(v);

    snprintf(about_field, sizeof about_field, "%s", v->message);
    say_result(v, ev, buf);
    v->result_mood = v->mood;
    snprintf(v->result, sizeof v->result, "%s", v->message);
    if (wrong) view_say(v, VIEW_BAD, about_field);
}

void view_event(struct view *v, struct event *ev)
{
    double f, before;

    switch (ev->kind) {
    case EVENT_STARTED:
        v->running = true;
        v->running_id = ev->job;
        v->index = ev->index;
        v->count = ev->count;
        v->steps = ev->steps;
        v->step = v->block = v->blocks = v->first_step = 0;
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
        if (!v->first_step && ev->stage == STAGE_FLUX) v->first_step = ev->step;
        before = v->first_step && v->steps ? (double)(v->first_step - 1) / v->steps : 0;
        f = before + (1 - before) * fraction_of(ev);
        if (f > v->fraction) v->fraction = f;
        break;
    case EVENT_PREVIEW: show(v, ev, SHOWN_PREVIEW); break;
    case EVENT_MEMORY:
        v->memory = ev->memory;
        v->memory_known = true;
        memory_history_note(&v->history, v->now_ms, &ev->memory);
        break;
    case EVENT_NOTICE: view_say(v, VIEW_WARN, ev->text); break;
    case EVENT_DONE:
        show(v, ev, SHOWN_DONE);
        if (!contact_has(v, ev->job)) say_end(v, ev);
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
    case EVENT_PAUSED:
    case EVENT_RESUMED:
        v->paused = ev->kind == EVENT_PAUSED;
        v->progress_ms = v->now_ms;
        if (v->paused) view_say(v, VIEW_INFO, "Paused");
        break;
    case EVENT_IDLE:
        v->plan_again = true; /* its speed is known, its memory free again */
        v->running = v->cancelling = v->paused = false;
        break;
    default: break;
    }
    for (int i = 0; i < SCREENS; i++)
        if (screens[i]->event) screens[i]->event(v, ev);
    event_clear(ev);
}

/* --- drawing --------------------------------------------------------------------- */

void view_draw_line(struct grid *g, struct rect r, const struct edit *e, enum colour c, int attr, bool cursor)
{
    size_t from = 0;

    if (!cursor) {
        draw_fit(g, r, r.x, r.y, r.w, c, attr, e->text, false);
        return;
    }
    while (edit_width(e->text + from, e->cursor - from) >= r.w && from < e->cursor)
        from = edit_next(e->text, e->bytes, from);
    if (attr) draw_fill(g, r, " ", COLOUR_ACCENT, attr);
    draw_bytes(g, r, r.x, r.y, c, e->offered ? CELL_REVERSE : attr, e->text + from, e->bytes - from);
    g->cursor_shown = true;
    g->cursor_x = r.x + edit_width(e->text + from, e->cursor - from);
    g->cursor_y = r.y;
}

void view_draw_message(const struct view *v, struct grid *g, struct rect r, bool tall)
{
    static const enum colour colours[] = { COLOUR_DIM, COLOUR_GOOD, COLOUR_WARN, COLOUR_BAD };
    int w;

    if (tall && v->mood >= VIEW_WARN && edit_width(v->message, strlen(v->message)) > r.w) {
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

struct rect view_picture_room(const struct view *v, struct rect room)
{
    struct rect r = room;

    if (v->picture_w && r.w > v->picture_w / v->cell_w) r.w = v->picture_w / v->cell_w;
    if (v->picture_h && r.h > v->picture_h / v->cell_h) r.h = v->picture_h / v->cell_h;
    r.x += (room.w - r.w) / 2;
    r.y += (room.h - r.h) / 2;
    return r;
}

static int draw_hint(struct grid *g, struct rect r, int x, const char *name, const char *label)
{
    int w = edit_width(name, strlen(name)) + 1 + edit_width(label, strlen(label));

    if (x + w > r.x + r.w) return x;
    x += draw_text(g, r, x, r.y, COLOUR_ACCENT, CELL_BOLD, name) + 1;
    x += draw_text(g, r, x, r.y, COLOUR_DIM, 0, label) + 2;
    return x;
}

void view_draw_hints(struct view *v, struct grid *g, struct rect r)
{
    enum keys_context at = top(v)->context(v);
    char name[KEYS_NAME_MAX];
    int x = r.x;

    v->hints = 0;
    for (int i = 1; i < ACTION_COUNT; i++) {
        enum action a = (enum action)i;
        const char *label = keys_action(a)->label;
        if (a == ACTION_TROUBLE && !trouble_job(v) && !queue_failed(v)) continue;
        if (top(v)->hint) label = top(v)->hint(v, a);
        if (!label || !*keys_name(&v->keys, a, at, name)) continue;
        int w = draw_hint(g, r, x, name, label) - x;
        if (w && v->hints < VIEW_HINTS_MAX) {
            v->hint[v->hints].at = (struct rect){ x, r.y, w - 1, 1 };
            v->hint[v->hints++].action = a;
        }
        x += w;
    }
}

struct rect view_draw_frame(struct view *v, struct grid *g, const char *title)
{
    struct rect all = { 0, 0, v->cols, v->rows };
    int x = 1;

    x += draw_text(g, all, x, 0, COLOUR_ACCENT, CELL_BOLD, "sluice");
    x += draw_text(g, all, x, 0, COLOUR_BORDER, 0, " │ ");
    draw_fit(g, all, x, 0, v->cols - x - 1, COLOUR_TEXT, 0, title, false);
    view_draw_message(v, g, (struct rect){ 1, v->rows - 2, v->cols - 2, 1 }, false);
    view_draw_hints(v, g, (struct rect){ 1, v->rows - 1, v->cols - 2, 1 });
    return (struct rect){ 0, 1, v->cols, v->rows - 3 };
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
    int first = v->depth - 1;

    if ((g->cols != v->cols || g->rows != v->rows || !g->cells) && !grid_resize(g, v->cols, v->rows, e)) return false;
    grid_clear(g);
    if (v->cols < LAYOUT_MIN_COLS || v->rows < LAYOUT_MIN_ROWS) {
        draw_too_small(v, g);
        return true;
    }
    while (first > 0 && v->stack[first]->overlay) first--;
    for (int i = first; i < v->depth; i++)
        if (!v->stack[i]->draw(v, g, e)) return false;
    return true;
}
