/* service_queue.c - jobs into the queue, and what is wished of those that are there;
 * contact sheets. A part of service_store.h. */
#include "tui/service_store_internal.h"

#include "engine/contact.h"
#include "engine/job_text.h"
#include "engine/setting.h"
#include "engine/wildcard.h"
#include "tui/cmd_job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- jobs into the queue ---------------------------------------------------------- */

/* A name nobody has: the time, the seed, and a number if that is not enough.
 * Jobs of one second that still wait are counted, too. The file itself is not
 * made here: a cancelled job would leave an empty one behind. */
static bool choose_name(struct service_store *s, struct job *j, struct err *e)
{
    char path[PATH_MAX + 128], stamp[32], folder[PATH_MAX];
    time_t now = time(NULL);
    struct tm tm;

    if (!folder_make(s->o.out_dir, e)) return false;
    if (access(s->o.out_dir, W_OK)) return err_errno(e, errno, "cannot write to the folder %s", s->o.out_dir);
    if (!realpath(s->o.out_dir, folder)) return err_errno(e, errno, "cannot use the folder %s", s->o.out_dir);
    localtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &tm);
    if (strcmp(stamp, s->stamp)) s->stamp_used = 0;
    snprintf(s->stamp, sizeof s->stamp, "%s", stamp);
    for (; s->stamp_used < 10000; s->stamp_used++) {
        char more[16] = "";
        if (s->stamp_used) snprintf(more, sizeof more, "_%d", s->stamp_used + 1);
        snprintf(path, sizeof path, "%s/%s-%" PRIu64 "%s.png", folder, stamp, j->seed, more);
        if (access(path, F_OK) == 0) continue;
        s->stamp_used++;
        return job_set_string(&j->out, path, e);
    }
    return err_set(e, ERR_IO, "no free name for a picture in %s", s->o.out_dir);
}

bool batch_add(struct batch *b, const struct job *j, struct err *e)
{
    struct job *at = realloc(b->at, ((size_t)b->count + 1) * sizeof *at);

    if (!at) return err_set(e, ERR_MEMORY, "out of memory");
    b->at = at;
    return job_copy(&b->at[b->count], j, e) && ++b->count;
}

/* A job for each text that the choices in its prompt make. */
static bool expand(struct batch *b, struct job *j, struct err *e)
{
    struct cmd_job usual = { 0 };
    struct wildcard_lists lists = { cmd_job_list, &usual };

    job_draw_seed(j);
    if (!wildcard_job(j, 0, &lists, e)) return false;
    for (int i = 0; i <= j->more_count; i++) {
        struct job one = *j;
        if (i) one.prompt = j->more[i - 1];
        one.more = NULL;
        one.more_count = 0;
        if (!batch_add(b, &one, e)) return false;
    }
    return true;
}

static bool add(struct task *t, struct err *e)
{
    struct service_store *s = t->s;
    const struct batch *b = &t->batch;
    int64_t id;
    bool ok = true;

    for (int i = 0; ok && i < b->count; i++) {
        ok = choose_name(s, &b->at[i], e);
        if (ok && i == 0 && t->id) ok = store_queue_replace(s->store, t->id, b->at, s->model, b->preset, e);
        else ok = ok && store_queue_add(s->store, &b->at[i], s->model, b->preset, &id, e);
    }
    return ok;
}

static bool submit(struct task *t, struct err *e)
{
    if (!expand(&t->batch, &t->j, e)) return false;
    t->waiting = t->batch.count > MANY_JOBS;
    return t->waiting || add(t, e);
}

static void submitted(struct task *t)
{
    struct service_store *s = t->s;

    if (!t->ok) {
        view_refused(s->o.view, t->e.text);
        if (t->e.kind == ERR_AGAIN && t->id) view_edited_job(s->o.view); /* it has begun: Enter queues another */
        return;
    }
    if (t->waiting) {
        batch_free(&s->many);
        s->many = t->batch;
        t->batch = (struct batch){ 0 };
        view_ask_many(s->o.view, s->many.count);
        return;
    }
    if (t->id) view_edited_job(s->o.view);
    service_show_queue(s, &t->queue);
    t->lists = false; /* shown */
    view_queued(s->o.view, t->batch.count, t->batch.at[0].seed);
    s->held = false;
}

void service_generate(struct service_store *s)
{
    struct view *v = s->o.view;
    struct err e = { 0 };
    struct job j = { 0 };
    bool random_seed = false;
    struct task *t;

    if (!view_request(v, &j, &random_seed, &e)) {
        view_refused(v, e.text);
        return;
    }
    j.random_seed = random_seed;
    if (!(t = task_of_queue(s, view_editing(v), submit, submitted))) {
        job_free(&j);
        return;
    }
    t->j = j;
    snprintf(t->batch.preset, sizeof t->batch.preset, "%s", view_preset(v));
    task_start(t, 0);
}

static void confirm(struct service_store *s)
{
    struct task *t = s->many.count ? task_of_queue(s, view_editing(s->o.view), add, submitted) : NULL;

    if (!t) return;
    t->batch = s->many;
    s->many = (struct batch){ 0 };
    task_start(t, 0);
}

/* --- what is wished of the queue -------------------------------------------------- */

/* All of them: on, aside, or given up. */
static bool decide(struct task *t, struct err *e)
{
    struct store_queue q;
    bool ok = store_queue_list(t->s->store, &q, e);

    for (int i = 0; ok && i < q.count; i++)
        if (service_left(t->s, &q.at[i]))
            ok = store_queue_state(t->s->store, q.at[i].id, (enum store_state)t->number, e) || e->kind == ERR_AGAIN;
    store_queue_free(&q);
    return ok;
}

static void decided(struct task *t)
{
    t->s->asking = t->s->held = false;
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
}

static bool find_row(struct task *t, struct err *e)
{
    struct store_queue q;
    bool ok = store_queue_list(t->s->store, &q, e);

    for (int i = 0; ok && i < q.count; i++)
        if (q.at[i].id == t->id) {
            t->row = q.at[i];
            q.at[i] = (struct store_job){ 0 };
        }
    store_queue_free(&q);
    return ok && (t->row.id || err_set(e, ERR_INPUT, "job %lld is not in the queue any more", (long long)t->id)) &&
           job_from_text(&t->j, t->row.text, e);
}

static void to_form(struct task *t)
{
    struct err e = t->e;

    if (!t->ok || !view_edit(t->s->o.view, t->what == QUEUE_EDIT ? t->id : 0, &t->j, t->row.preset, &e))
        view_refused(t->s->o.view, e.text);
}

static bool move(struct task *t, struct err *e)
{
    struct store_queue q;
    int64_t pair[2] = { t->id, 0 };
    int at = 0;
    bool ok = store_queue_list(t->s->store, &q, e);

    while (ok && at < q.count && q.at[at].id != t->id) at++;
    for (int i = at + t->number; ok && i >= 0 && i < q.count && !pair[1]; i += t->number)
        if (service_left(t->s, &q.at[i]) && q.at[i].id != t->working) pair[1] = q.at[i].id;
    store_queue_free(&q);
    if (!ok || !pair[1]) return ok;
    /* the later of the two comes first now */
    if (t->number > 0) {
        pair[0] = pair[1];
        pair[1] = t->id;
    }
    return store_queue_reorder(t->s->store, pair, 2, e);
}

static bool repeat(struct task *t, struct err *e)
{
    bool ok = find_row(t, e);

    snprintf(t->batch.preset, sizeof t->batch.preset, "%s", ok ? t->row.preset : "");
    t->id = 0; /* to be added, not replaced */
    for (int i = 0; ok && i < t->number; i++) {
        t->j.random_seed = true;
        job_draw_seed(&t->j);
        ok = batch_add(&t->batch, &t->j, e);
    }
    t->waiting = 0;
    return ok && add(t, e);
}

static bool cancel_waiting(struct task *t, struct err *e)
{
    return store_queue_state(t->s->store, t->id, STORE_CANCELLED, e);
}

/* It may have begun in the meantime. */
static void cancelled(struct task *t)
{
    struct service_store *s = t->s;

    if (s->work.id == t->id) s->o.calls->cancel(s->o.engine, s->work.engine_id);
    else if (!t->ok) view_refused(s->o.view, t->e.text);
    else view_say(s->o.view, VIEW_INFO, "Cancelled");
}

static bool pause_waiting(struct task *t, struct err *e)
{
    return find_row(t, e) &&
           store_queue_state(t->s->store, t->id, t->row.state == STORE_PAUSED ? STORE_WAITING : STORE_PAUSED, e);
}

static bool remove_job(struct task *t, struct err *e)
{
    return store_queue_remove(t->s->store, t->id, e);
}

static bool clear(struct task *t, struct err *e)
{
    return store_queue_clear(t->s->store, false, &t->number, e);
}

static bool retry(struct task *t, struct err *e)
{
    bool ok = find_row(t, e);

    for (char *rest = t->text, *line; ok && (line = strsep(&rest, "\n"));) {
        char *value = strchr(line, '=');
        if (!value) continue;
        *value++ = 0;
        ok = setting_set(&t->j, setting_find(line), value, e) == SETTING_SET;
    }
    return ok && store_queue_amend(t->s->store, t->id, &t->j, e);
}

static void retried(struct task *t)
{
    t->s->held = false;
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
    else view_say(t->s->o.view, VIEW_INFO, "Once more, from its last step");
}

static void pause_or_go_on(struct service_store *s)
{
    s->paused = !s->paused;
    if (s->paused) s->o.calls->pause(s->o.engine);
    else s->o.calls->resume(s->o.engine);
    view_say(s->o.view, VIEW_INFO, s->paused ? "Pausing at the end of this step" : "Going on");
}

void service_queue(struct service_store *s, const struct wish *w)
{
    static bool (*const works[])(struct task *, struct err *) = {
        [QUEUE_GO_ON] = decide,    [QUEUE_SET_ASIDE] = decide, [QUEUE_GIVE_UP] = decide,
        [QUEUE_MOVE] = move,       [QUEUE_EDIT] = find_row,    [QUEUE_LOAD] = find_row,
        [QUEUE_CANCEL] = cancel_waiting, [QUEUE_PAUSE] = pause_waiting, [QUEUE_REPEAT] = repeat,
        [QUEUE_REMOVE] = remove_job, [QUEUE_CLEAR] = clear, [QUEUE_RETRY] = retry,
    };
    static void (*const thens[sizeof works / sizeof *works])(struct task *) = {
        [QUEUE_GO_ON] = decided, [QUEUE_SET_ASIDE] = decided, [QUEUE_GIVE_UP] = decided, [QUEUE_EDIT] = to_form,
        [QUEUE_LOAD] = to_form, [QUEUE_CANCEL] = cancelled, [QUEUE_REPEAT] = submitted, [QUEUE_RETRY] = retried,
    };
    enum queue_wish what = w->queue.what;
    bool working = w->queue.id && w->queue.id == s->work.id;
    struct task *t;

    if (what == QUEUE_CONFIRM) confirm(s);
    else if (what == QUEUE_DROP_MANY) batch_free(&s->many);
    else if (what == QUEUE_CANCEL && working) s->o.calls->cancel(s->o.engine, s->work.engine_id);
    else if (what == QUEUE_PAUSE && working) pause_or_go_on(s);
    else if ((t = task_of_queue(s, w->queue.id, works[what], thens[what]))) {
        t->what = what;
        t->working = s->work.id;
        t->number = what == QUEUE_GO_ON ? STORE_WAITING : what == QUEUE_SET_ASIDE ? STORE_PAUSED :
                    what == QUEUE_GIVE_UP ? STORE_CANCELLED : w->queue.number;
        t->text = w->queue.text ? strdup(w->queue.text) : NULL;
        task_start(t, 0);
    }
}

/* --- contact sheets --------------------------------------------------------------- */

/* In a folder of its own: its pictures are looked at and then gone. */
static bool make_sheet(struct task *t, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    char folder[128], path[160];
    struct job sheet = { 0 };

    snprintf(folder, sizeof folder, "%.100s/sluice-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
    if (!mkdtemp(folder)) return err_errno(e, errno, "no folder can be made as %s", folder);
    snprintf(path, sizeof path, "%s/sheet.png", folder);
    job_draw_seed(&t->j);
    bool ok = job_set_string(&t->j.out, path, e) &&
              contact_sheet(&sheet, &t->j, &(struct contact){ .seeds = t->number }, e) &&
              batch_add(&t->batch, &sheet, e);
    job_free(&sheet);
    if (!ok) rmdir(folder);
    return ok;
}

static void sheet_made(struct task *t)
{
    struct service_store *s = t->s;
    struct err e = t->e;

    if (!t->ok || !s->o.calls->submit(s->o.engine, t->batch.at, &s->sheet.engine_id, &e)) {
        s->sheet.engine_id = 0;
        view_refused(s->o.view, e.text);
        return;
    }
    s->sheet.job = t->batch.at[0];
    t->batch.count = 0;
    view_submitted(s->o.view, s->sheet.engine_id, &s->sheet.job);
    view_sheet(s->o.view, s->sheet.engine_id, &t->j, t->number);
}

void service_sheet(struct service_store *s, int seeds)
{
    struct view *v = s->o.view;
    struct err e = { 0 };
    struct job j = { 0 };
    bool random_seed = false;
    struct task *t;

    if (s->sheet.engine_id) {
        view_refused(v, "A contact sheet is being made: cancel it first");
        return;
    }
    if (!view_request(v, &j, &random_seed, &e)) {
        view_refused(v, e.text);
        return;
    }
    j.random_seed = random_seed;
    if (!(t = task_new(s, make_sheet, sheet_made))) {
        job_free(&j);
        return;
    }
    t->j = j;
    t->number = seeds;
    task_start(t, 0);
}

/* The seeds that are wanted, each a job. */
void service_finish_sheet(struct service_store *s)
{
    const struct job *base = view_sheet_base(s->o.view);
    struct task *t = base ? task_of_queue(s, 0, add, submitted) : NULL;
    bool ok = true;

    if (!t) return;
    for (int i = 0; ok && i < JOB_COUNT_MAX; i++) {
        struct job one = { 0 };
        if (!view_sheet_good(s->o.view, i)) continue;
        ok = contact_finish(&one, base, i, &t->e) && batch_add(&t->batch, &one, &t->e);
        job_free(&one);
    }
    if (ok && t->batch.count) {
        snprintf(t->batch.preset, sizeof t->batch.preset, "%s", view_preset(s->o.view));
        task_start(t, 0);
        return;
    }
    if (!ok) view_refused(s->o.view, t->e.text);
    task_free(t);
}
