/* service_store.c - see service_store.h.
 *
 * Whatever touches the disk is a task: `work` on the worker's thread, `then` back on
 * the loop's. The store is the worker's alone, and tasks run in the order they came, so
 * nothing here needs a lock. A task that may have changed the queue brings its new
 * list back. Folders are looked through on a second thread with a store of its
 * own, since that may take minutes. */
#include "tui/service_store.h"

#include "engine/contact.h"
#include "engine/job_text.h"
#include "engine/setting.h"
#include "engine/wildcard.h"
#include "tui/cmd_job.h"
#include "tui/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Of these only the newest is worth doing (worker.h); the others are 0. */
enum { KIND_STEP = 1, KIND_LIST, KIND_THUMBS, KIND_OPEN, KIND_RECORD };
enum { ENDED_KEPT = 100, MANY_JOBS = 20, THUMBS_MAX = 256, EXPORT_BYTES_MAX = 1 << 30, NAME_BYTES = 256 };

/* Jobs that are to be queued. */
struct batch {
    int count;
    struct job *at; /* [count], owned */
    char preset[NAME_BYTES];
};

/* What the engine has: a job of the queue, or a contact sheet. */
struct at_work {
    uint64_t engine_id; /* 0: nothing */
    int64_t id;         /* in the queue; a sheet has none */
    struct job job;
    char preset[NAME_BYTES];
    int step;
};

struct service_store {
    struct service_store_options o;
    struct worker *worker, *scanner; /* scanner: NULL until a folder is looked through */
    char model[PATH_MAX];            /* as the queue knows it */
    /* the worker's */
    struct store *store;
    char why[512];       /* there is none */
    char temporary[128]; /* the folder of one that is not the user's; "": it is */
    char stamp[32];
    int stamp_used;      /* names given out with this stamp */
    /* the loop's */
    struct at_work work, sheet;
    struct batch many;   /* what view_ask_many asks about */
    char path[PATH_MAX]; /* of the database */
    int64_t next[2];     /* the first that can run, 0: none */
    bool claiming, held, paused, stopping, closed, changed;
    atomic_bool stop_scan;
};

struct task {
    struct worker_job job; /* first */
    struct service_store *s;
    bool (*work)(struct task *t, struct err *e);
    void (*then)(struct task *t); /* NULL: a failure is said */
    bool lists;                   /* the queue's list comes back with it */
    bool ok;
    struct err e;
    /* asked */
    int64_t id, working, ids[THUMBS_MAX];
    int number, what;
    char *text, preset[NAME_BYTES];
    struct job j;
    struct batch batch;
    struct event event;
    bool trash;
    int offset, limit;
    uint64_t serial;
    /* answered */
    struct store_queue queue;
    struct store_job row;
    struct store_page page;
    struct store_picture picture;
    struct store_scan found;
    struct image *image, *images[THUMBS_MAX];
    int interrupted, waiting;
};

/* --- tasks --------------------------------------------------------------------------- */

static void batch_free(struct batch *b)
{
    for (int i = 0; i < b->count; i++) job_free(&b->at[i]);
    free(b->at);
    *b = (struct batch){ 0 };
}

static void task_free(struct task *t)
{
    for (int i = 0; i < THUMBS_MAX; i++) image_free(t->images[i]);
    image_free(t->image);
    free(t->text);
    job_free(&t->j);
    batch_free(&t->batch);
    event_clear(&t->event);
    store_queue_free(&t->queue);
    store_job_free(&t->row);
    store_page_free(&t->page);
    store_picture_free(&t->picture);
    free(t);
}

/* The list, without what has ended long ago. */
static void list_queue(struct store *s, struct store_queue *q)
{
    int ended = 0;

    if (!store_queue_list(s, q, NULL)) return;
    for (int i = 0; i < q->count; i++) ended += q->at[i].state >= STORE_DONE;
    for (int i = 0; i < q->count && ended > ENDED_KEPT; i++)
        if (q->at[i].state >= STORE_DONE) ended -= store_queue_remove(s, q->at[i].id, NULL);
}

static void run(struct worker_job *j)
{
    struct task *t = (struct task *)j;
    struct service_store *s = t->s;

    t->ok = s->store ? t->work(t, &t->e) : err_set(&t->e, ERR_IO, "%s", s->why);
    if (t->lists && s->store) list_queue(s->store, &t->queue);
}

static void advance(struct service_store *s);
static bool ours(const struct service_store *s, const struct store_job *r);

static void show_queue(struct service_store *s, struct store_queue *q)
{
    int n = 0;

    memset(s->next, 0, sizeof s->next);
    for (int i = 0; i < q->count && n < 2; i++)
        if (ours(s, &q->at[i]) && (q->at[i].state == STORE_WAITING || q->at[i].state == STORE_INTERRUPTED)) s->next[n++] = q->at[i].id;
    view_queue(s->o.view, q, s->work.id);
}

static void done(struct worker_job *j, void *owner)
{
    struct task *t = (struct task *)j;
    struct service_store *s = owner;

    if (j->ran && t->then) t->then(t);
    else if (j->ran && !t->ok) view_refused(s->o.view, t->e.text);
    if (t->queue.at || (t->lists && j->ran && t->ok)) show_queue(s, &t->queue);
    task_free(t);
    s->changed = true;
    advance(s);
}

/* NULL: memory is refused, and that has been said. */
static struct task *task_new(struct service_store *s, bool (*work)(struct task *, struct err *), void (*then)(struct task *))
{
    struct task *t = calloc(1, sizeof *t);

    if (!t) {
        view_refused(s->o.view, "no memory");
        return NULL;
    }
    t->job = (struct worker_job){ .run = run, .done = done };
    t->s = s;
    t->work = work;
    t->then = then;
    return t;
}

static void start(struct task *t, int kind)
{
    t->job.kind = kind;
    worker_submit(t->s->worker, &t->job);
}

/* One that changes the queue. */
static struct task *queue_task(struct service_store *s, int64_t id, bool (*work)(struct task *, struct err *),
                               void (*then)(struct task *))
{
    struct task *t = task_new(s, work, then);

    if (!t) return NULL;
    t->lists = true;
    t->id = id;
    return t;
}

/* --- what is left from the last time ---------------------------------------------------- */

static bool ours(const struct service_store *s, const struct store_job *r)
{
    return !r->foreign && !strcmp(r->model, s->model);
}

static bool left(const struct service_store *s, const struct store_job *r)
{
    return ours(s, r) && (r->state == STORE_WAITING || r->state == STORE_PAUSED || r->state == STORE_INTERRUPTED);
}

/* For what the user's own cannot serve. */
static bool open_temporary(struct service_store *s, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    char path[sizeof s->temporary + 16], notice[STORE_NOTICE_BYTES];

    snprintf(s->temporary, sizeof s->temporary, "%.100s/sluice-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
    if (!mkdtemp(s->temporary)) {
        err_errno(e, errno, "no folder can be made in %s", s->temporary);
        s->temporary[0] = 0;
        return false;
    }
    snprintf(path, sizeof path, "%s/studio.db", s->temporary);
    return store_open(&s->store, path, notice, e);
}

static void open_run(struct worker_job *j)
{
    struct task *t = (struct task *)j;
    struct service_store *s = t->s;
    struct err why = { 0 }, none = { 0 };
    char notice[STORE_NOTICE_BYTES] = "";

    t->ok = true;
    if (!store_open(&s->store, s->o.path, notice, &why)) {
        snprintf(notice, sizeof notice, "Queue and history last until you quit: %s", why.text);
        if (!open_temporary(s, &none)) snprintf(s->why, sizeof s->why, "%s", why.text);
    }
    t->text = strdup(notice);
    if (!s->store) return;
    list_queue(s->store, &t->queue);
    for (int i = 0; i < t->queue.count; i++) {
        const struct store_job *r = &t->queue.at[i];
        if (!left(s, r)) continue;
        bool begun = r->state == STORE_INTERRUPTED || r->step > 0;
        if (begun && !t->interrupted++) t->offset = r->step, t->limit = r->steps;
        t->waiting += !begun;
    }
}

static void opened(struct task *t)
{
    struct service_store *s = t->s;

    if (s->store) snprintf(s->path, sizeof s->path, "%s", store_path(s->store));
    if (t->text && *t->text) view_say(s->o.view, VIEW_WARN, t->text);
    show_queue(s, &t->queue);
    t->lists = false; /* shown */
    s->held = t->interrupted + t->waiting > 0;
    if (s->held) view_ask_resume(s->o.view, t->interrupted, t->waiting, t->offset, t->limit);
}

/* All of them: on, aside, or given up. */
static bool decide(struct task *t, struct err *e)
{
    struct store_queue q;
    bool ok = store_queue_list(t->s->store, &q, e);

    for (int i = 0; ok && i < q.count; i++)
        if (left(t->s, &q.at[i]))
            ok = store_queue_state(t->s->store, q.at[i].id, (enum store_state)t->number, "", e) || e->kind == ERR_AGAIN;
    store_queue_free(&q);
    return ok;
}

static void decided(struct task *t)
{
    t->s->held = false;
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
}

/* --- jobs into the queue ------------------------------------------------------------------- */

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

static bool batch_add(struct batch *b, const struct job *j, struct err *e)
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
        if (t->e.kind == ERR_AGAIN && t->id) view_edited_job(s->o.view); /* it has begun, or ended: Enter queues another */
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
    show_queue(s, &t->queue);
    t->lists = false; /* shown */
    view_queued(s->o.view, t->batch.count, t->batch.at[0].seed);
    s->held = false;
}

static void generate(struct service_store *s)
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
    if (!(t = queue_task(s, view_editing(v), submit, submitted))) {
        job_free(&j);
        return;
    }
    t->j = j;
    snprintf(t->batch.preset, sizeof t->batch.preset, "%s", view_preset(v));
    start(t, 0);
}

static void confirm(struct service_store *s)
{
    struct task *t = s->many.count ? queue_task(s, view_editing(s->o.view), add, submitted) : NULL;

    if (!t) return;
    t->batch = s->many;
    s->many = (struct batch){ 0 };
    start(t, 0);
}

/* --- a job's turn --------------------------------------------------------------------------- */

/* The first that can be claimed; t->row.id 0: there is none. One that cannot be read, or cannot be run, has failed. */
static bool claim(struct task *t, struct err *e)
{
    struct service_store *s = t->s;
    struct store_queue q;
    bool ok = store_queue_list(s->store, &q, e);

    for (int i = 0; ok && i < q.count && !t->row.id; i++) {
        const struct store_job *r = &q.at[i];
        char notice[256];
        struct err why = { 0 };
        if (!ours(s, r) || (r->state != STORE_WAITING && r->state != STORE_INTERRUPTED) || r->id == t->id) continue;
        if (store_queue_claim(s->store, r->id, &t->row, &t->j, &why) && job_check(&t->j, notice, &why)) break;
        store_job_free(&t->row);
        job_free(&t->j);
        if (why.kind == ERR_INPUT) ok = store_queue_state(s->store, r->id, STORE_FAILED, why.text, e);
        else if (why.kind != ERR_AGAIN) ok = err_set(e, why.kind, "%s", why.text);
    }
    store_queue_free(&q);
    return ok;
}

static bool set_state(struct task *t, struct err *e)
{
    return store_queue_state(t->s->store, t->id, (enum store_state)t->number, t->text ? t->text : "", e);
}

static void state(struct service_store *s, int64_t id, enum store_state to, const char *error)
{
    struct task *t = queue_task(s, id, set_state, NULL);

    if (!t) return;
    t->number = to;
    t->text = strdup(error);
    start(t, 0);
}

static void claimed(struct task *t)
{
    struct service_store *s = t->s;
    struct err e = { 0 };

    s->claiming = false;
    if (!t->ok) {
        view_refused(s->o.view, t->e.text);
        s->held = true; /* until the next job is queued: it would fail again at once */
        return;
    }
    if (!t->row.id || s->stopping) return;
    if (!s->o.calls->submit(s->o.engine, &t->j, &s->work.engine_id, &e)) {
        s->work.engine_id = 0;
        view_refused(s->o.view, e.text);
        state(s, t->row.id, STORE_FAILED, e.text);
        return;
    }
    s->work.id = t->row.id;
    s->work.step = 0;
    s->work.job = t->j;
    t->j = (struct job){ 0 };
    snprintf(s->work.preset, sizeof s->work.preset, "%s", t->row.preset);
    view_submitted(s->o.view, s->work.engine_id, &s->work.job);
}

/* The next one to the engine, if it has nothing. */
static void advance(struct service_store *s)
{
    struct task *t;

    if (s->stopping || s->held || s->claiming || s->work.engine_id || s->sheet.engine_id) return;
    if (!s->next[0] || (s->next[0] == view_editing(s->o.view) && !s->next[1])) return;
    if (!(t = queue_task(s, view_editing(s->o.view), claim, claimed))) return;
    s->claiming = true;
    start(t, 0);
}

/* --- what the engine tells ------------------------------------------------------------------- */

static void work_over(struct at_work *w)
{
    job_free(&w->job);
    *w = (struct at_work){ 0 };
}

static bool set_step(struct task *t, struct err *e)
{
    return store_queue_step(t->s->store, t->id, t->number, e);
}

/* A picture is a file by now. What cannot be kept of it is said, and the job goes on. */
static bool keep(struct task *t, struct err *e)
{
    struct store *s = t->s->store;

    if (t->j.history && t->event.image &&
        store_history_keep(s, &t->j, &t->event, t->s->o.calls->model(t->s->o.engine)->name, t->preset, t->id, e))
        return true;
    return (store_queue_made(s, t->id, e) && !t->j.history) || err_prefix(e, "it is not in the gallery");
}

static void kept(struct task *t)
{
    if (t->ok) view_gallery_changed(t->s->o.view, t->j.history);
    else view_refused(t->s->o.view, t->e.text);
}

static void keep_picture(struct service_store *s, const struct event *ev)
{
    struct task *t = queue_task(s, s->work.id, keep, kept);

    if (!t) return;
    if (!job_copy(&t->j, &s->work.job, &t->e)) {
        view_refused(s->o.view, t->e.text);
        task_free(t);
        return;
    }
    t->event = *ev;
    t->event.image = ev->image ? image_copy(ev->image, NULL) : NULL;
    snprintf(t->preset, sizeof t->preset, "%s", s->work.preset);
    start(t, 0);
}

static bool remove_file(struct task *t, struct err *e)
{
    char *slash = strrchr(t->text, '/');

    (void)e;
    unlink(t->text);
    if (t->number && slash) { /* the sheet's last, and its folder */
        *slash = 0;
        rmdir(t->text);
    }
    return true;
}

static void sheet_event(struct service_store *s, const struct event *ev)
{
    bool last = ev->kind == EVENT_CANCELLED || ev->kind == EVENT_FAILED || (ev->kind == EVENT_DONE && ev->index + 1 >= ev->count);
    const char *file = ev->kind == EVENT_FAILED || !ev->text[0] ? s->sheet.job.out : ev->text;
    struct task *t = ev->kind == EVENT_DONE || last ? task_new(s, remove_file, NULL) : NULL;

    if (t) {
        t->text = strdup(file);
        t->number = last;
        if (t->text) start(t, 0);
        else task_free(t);
    }
    if (last) work_over(&s->sheet);
}

/* Paused means that job only: the next one begins as ever. */
static void work_ended(struct service_store *s)
{
    work_over(&s->work);
    if (s->paused) s->o.calls->resume(s->o.engine);
    s->paused = false;
}

void service_store_event(struct service_store *s, const struct event *ev)
{
    struct at_work *w = &s->work;
    struct task *t;

    if (s->sheet.engine_id && ev->job == s->sheet.engine_id) sheet_event(s, ev);
    if (w->engine_id && ev->job == w->engine_id) switch (ev->kind) {
        case EVENT_PROGRESS:
            if (ev->stage != STAGE_FLUX || ev->step == w->step || !(t = task_new(s, set_step, NULL))) break;
            w->step = t->number = ev->step;
            t->id = w->id;
            start(t, KIND_STEP);
            break;
        case EVENT_PAUSED: state(s, w->id, STORE_PAUSED, ""); break;
        case EVENT_RESUMED: state(s, w->id, STORE_RUNNING, ""); break;
        case EVENT_DONE:
            keep_picture(s, ev);
            if (ev->index + 1 >= ev->count) work_ended(s);
            break;
        case EVENT_CANCELLED:
            state(s, w->id, STORE_CANCELLED, "");
            work_ended(s);
            break;
        case EVENT_FAILED:
            state(s, w->id, STORE_FAILED, ev->text);
            view_trouble(s->o.view, w->id, &w->job, ev->stage, ev->text);
            work_ended(s);
            break;
        default: break;
        }
    advance(s);
}

/* --- what is wished of the queue --------------------------------------------------------------- */

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
        if (left(t->s, &q.at[i]) && q.at[i].id != t->working) pair[1] = q.at[i].id;
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
    return store_queue_state(t->s->store, t->id, STORE_CANCELLED, "", e);
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
           store_queue_state(t->s->store, t->id, t->row.state == STORE_PAUSED ? STORE_WAITING : STORE_PAUSED, "", e);
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

static void grant_queue(struct service_store *s, const struct wish *w)
{
    static bool (*const works[])(struct task *, struct err *) = {
        [QUEUE_GO_ON] = decide, [QUEUE_SET_ASIDE] = decide, [QUEUE_GIVE_UP] = decide, [QUEUE_MOVE] = move, [QUEUE_EDIT] = find_row,
        [QUEUE_LOAD] = find_row, [QUEUE_CANCEL] = cancel_waiting, [QUEUE_PAUSE] = pause_waiting, [QUEUE_REPEAT] = repeat,
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
    else if ((t = queue_task(s, w->queue.id, works[what], thens[what]))) {
        t->what = what;
        t->working = s->work.id;
        t->number = what == QUEUE_GO_ON ? STORE_WAITING : what == QUEUE_SET_ASIDE ? STORE_PAUSED :
                    what == QUEUE_GIVE_UP ? STORE_CANCELLED : w->queue.number;
        t->text = w->queue.text ? strdup(w->queue.text) : NULL;
        start(t, 0);
    }
}

/* --- contact sheets ---------------------------------------------------------------------------------- */

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
    bool ok = job_set_string(&t->j.out, path, e) && contact_sheet(&sheet, &t->j, &(struct contact){ .seeds = t->number }, e) &&
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

static void grant_sheet(struct service_store *s, int seeds)
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
    start(t, 0);
}

/* The seeds that are wanted, each a job. */
static void finish_sheet(struct service_store *s)
{
    const struct job *base = view_sheet_base(s->o.view);
    struct task *t = base ? queue_task(s, 0, add, submitted) : NULL;
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
        start(t, 0);
        return;
    }
    if (!ok) view_refused(s->o.view, t->e.text);
    task_free(t);
}

/* --- the history ---------------------------------------------------------------------------------------- */

static bool list_history(struct task *t, struct err *e)
{
    struct store_query q = { t->text, t->trash, t->offset, t->limit };

    return store_history_list(t->s->store, &q, &t->page, e);
}

static void listed(struct task *t)
{
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
    view_gallery_page(t->s->o.view, t->serial, t->offset, &t->page);
}

static bool read_thumbs(struct task *t, struct err *e)
{
    (void)e;
    for (int i = 0; i < t->number; i++) t->images[i] = store_thumbnail(t->s->store, t->ids[i], NULL);
    return true;
}

static void thumbs_read(struct task *t)
{
    for (int i = 0; i < t->number; i++) {
        view_gallery_thumb(t->s->o.view, t->ids[i], t->images[i]);
        t->images[i] = NULL;
    }
}

static bool mark(struct task *t, struct err *e)
{
    return store_history_mark(t->s->store, t->id, t->number, e);
}

static bool to_trash(struct task *t, struct err *e)
{
    return store_history_trash(t->s->store, t->id, e);
}

static bool restore(struct task *t, struct err *e)
{
    return store_history_restore(t->s->store, t->id, e);
}

static bool remove_picture(struct task *t, struct err *e)
{
    return store_history_remove(t->s->store, t->id, e);
}

static void history_changed(struct task *t)
{
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
    view_gallery_changed(t->s->o.view, 0);
}

static bool get_picture(struct task *t, struct err *e)
{
    return store_history_get(t->s->store, t->id, &t->picture, e);
}

/* Not over what is there: then with a number. */
static bool export(struct task *t, struct err *e)
{
    char to[PATH_MAX];
    size_t bytes, stem;
    char *data;
    bool ok;

    if (!get_picture(t, e) || !folder_make(t->text, e)) return false;
    const char *name = strrchr(t->picture.path, '/');
    name = name ? name + 1 : t->picture.path;
    stem = job_stem(name);
    if (snprintf(to, sizeof to, "%s/%s", t->text, name) >= (int)sizeof to) return err_set(e, ERR_INPUT, "%s: the path is too long", t->text);
    for (int i = 2; access(to, F_OK) == 0 && i < 10000; i++)
        if (snprintf(to, sizeof to, "%s/%.*s-%d%s", t->text, (int)stem, name, i, name + stem) >= (int)sizeof to)
            return err_set(e, ERR_INPUT, "%s: the path is too long", t->text);
    data = file_read(t->picture.path, EXPORT_BYTES_MAX, &bytes, e);
    ok = data && file_write(to, data, bytes, e);
    free(data);
    free(t->text);
    t->text = strdup(to);
    return ok;
}

static void exported(struct task *t)
{
    view_saved(t->s->o.view, t->ok, !t->ok ? t->e.text : t->text ? t->text : "");
}

static bool read_picture(struct task *t, struct err *e)
{
    return get_picture(t, e) && (t->image = image_read(t->picture.path, e));
}

static void picture_read(struct task *t)
{
    if (!t->ok) {
        view_refused(t->s->o.view, t->e.text);
        return;
    }
    view_show_image(t->s->o.view, t->image, t->picture.prompt, t->picture.path);
    t->image = NULL;
}

static char *value_text(const json_t *value)
{
    return json_is_string(value) ? strdup(json_string_value(value)) : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
}

/* As lines of name and value. */
static bool describe(struct task *t, struct err *e)
{
    const struct store_picture *p = &t->picture;
    char date[32], *text = NULL;
    size_t bytes = 0;
    const char *key;
    json_t *value;
    struct tm tm;
    time_t when;

    if (!get_picture(t, e)) return false;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return err_set(e, ERR_MEMORY, "out of memory");
    when = (time_t)p->time;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
    fprintf(f, "file\t%s%s\nmade\t%s\n", p->path, file_exists(p->path) ? "" : "  (gone)", date);
    if (p->seconds > 0) fprintf(f, "took\t%.1f s\n", p->seconds);
    if (*p->preset) fprintf(f, "preset\t%s\n", p->preset);
    json_t *record = json_loads(p->record, 0, NULL);
    json_object_foreach(record, key, value) {
        char *line = value_text(value);
        for (char *c = line; c && *c; c++)
            if (*c == '\n') *c = ' ';
        fprintf(f, "%s\t%s\n", key, line ? line : "?");
        free(line);
    }
    json_decref(record);
    fclose(f);
    t->text = text;
    return text != NULL;
}

static void described(struct task *t)
{
    if (t->ok) view_gallery_record(t->s->o.view, t->text);
    else view_refused(t->s->o.view, t->e.text);
}

/* The record's settings over those of the form. What this version does not know is left out. */
static bool load_picture(struct task *t, struct err *e)
{
    const char *key;
    char size[32];
    json_t *value;

    if (!get_picture(t, e)) return false;
    json_t *record = json_loads(t->picture.record, 0, NULL);
    if (!record) return err_set(e, ERR_INPUT, "picture %lld: its record cannot be read", (long long)t->id);
    t->j.cfg = 1;
    bool ok = job_set_string(&t->j.negative, "", e);
    snprintf(size, sizeof size, "%dx%d", (int)json_integer_value(json_object_get(record, "width")),
             (int)json_integer_value(json_object_get(record, "height")));
    setting_set(&t->j, setting_find("size"), size, NULL);
    json_object_foreach(record, key, value) {
        const struct setting *s = setting_find(key);
        char *text = s ? value_text(value) : NULL;
        if (text) setting_set(&t->j, s, text, NULL);
        free(text);
    }
    json_decref(record);
    t->j.count = 1;
    if (ok) t->row.preset = strdup(t->picture.preset);
    return ok;
}

static void picture_loaded(struct task *t)
{
    struct err e = t->e;

    if (!t->ok || !view_edit(t->s->o.view, 0, &t->j, t->row.preset ? t->row.preset : "", &e)) view_refused(t->s->o.view, e.text);
}

/* On the second thread. */
static bool scan_goes_on(void *of, int seen)
{
    struct service_store *s = of;

    (void)seen;
    return !atomic_load(&s->stop_scan);
}

static void scan_run(struct worker_job *j)
{
    struct task *t = (struct task *)j;
    char notice[STORE_NOTICE_BYTES];
    struct store *own;

    t->ok = store_open(&own, t->preset[0] ? t->preset : t->s->path, notice, &t->e);
    if (!t->ok) return;
    t->ok = store_history_scan(own, t->text, scan_goes_on, t->s, &t->found, &t->e);
    store_close(own);
}

static void scanned(struct task *t)
{
    char text[160];

    snprintf(text, sizeof text, "%d new pictures taken in, %d known, %d of other programs", t->found.added, t->found.known,
             t->found.others);
    if (t->ok) view_say(t->s->o.view, VIEW_GOOD, text);
    else view_refused(t->s->o.view, t->e.text);
    view_gallery_changed(t->s->o.view, 0);
}

static void grant_scan(struct service_store *s, const char *folder)
{
    struct task *t;
    struct err e = { 0 };

    if (!s->path[0] || (!s->scanner && !worker_start(&s->scanner, &e))) {
        view_refused(s->o.view, e.kind ? e.text : s->why);
        return;
    }
    if (!(t = task_new(s, NULL, scanned)) || !(t->text = strdup(folder))) {
        free(t);
        return;
    }
    t->job.run = scan_run;
    worker_submit(s->scanner, &t->job);
    view_say(s->o.view, VIEW_INFO, "Looking through the folder");
}

static void grant_history(struct service_store *s, const struct wish *w)
{
    static const struct {
        bool (*work)(struct task *, struct err *);
        void (*then)(struct task *);
        int kind;
    } row[] = {
        [HISTORY_LIST] = { list_history, listed, KIND_LIST },
        [HISTORY_THUMBS] = { read_thumbs, thumbs_read, KIND_THUMBS },
        [HISTORY_MARK] = { mark, NULL, 0 },
        [HISTORY_TRASH] = { to_trash, history_changed, 0 },
        [HISTORY_RESTORE] = { restore, history_changed, 0 },
        [HISTORY_REMOVE] = { remove_picture, history_changed, 0 },
        [HISTORY_EXPORT] = { export, exported, 0 },
        [HISTORY_RECORD] = { describe, described, KIND_RECORD },
        [HISTORY_OPEN] = { read_picture, picture_read, KIND_OPEN },
        [HISTORY_LOAD] = { load_picture, picture_loaded, 0 },
    };
    enum history_wish what = w->history.what;
    struct task *t;

    if (what == HISTORY_SCAN) {
        grant_scan(s, w->history.text);
        return;
    }
    if (!(t = task_new(s, row[what].work, row[what].then))) return;
    t->id = w->history.id;
    t->number = w->history.number;
    if (what == HISTORY_LIST) {
        t->text = strdup(w->history.query.search);
        t->trash = w->history.query.trash;
        t->offset = w->history.query.offset;
        t->limit = w->history.query.limit;
        t->serial = w->history.query.serial;
    } else if (what == HISTORY_THUMBS) {
        if (t->number > THUMBS_MAX) t->number = THUMBS_MAX;
        memcpy(t->ids, w->history.ids, (size_t)t->number * sizeof *t->ids);
    } else if (what == HISTORY_LOAD && !view_job(s->o.view, &t->j, &t->e)) {
        view_refused(s->o.view, t->e.text);
        task_free(t);
        return;
    } else if (w->history.text) {
        t->text = strdup(w->history.text);
    }
    start(t, row[what].kind);
}

/* --- the whole ---------------------------------------------------------------------------------------------- */

bool service_store_grant(struct service_store *s, const struct wish *w)
{
    switch (w->kind) {
    case WISH_GENERATE: generate(s); break;
    case WISH_QUEUE: grant_queue(s, w); break;
    case WISH_SHEET: grant_sheet(s, w->sheet); break;
    case WISH_FINISH: finish_sheet(s); break;
    case WISH_HISTORY: grant_history(s, w); break;
    default: return false;
    }
    return true;
}

bool service_store_start(struct service_store **out, const struct service_store_options *o, struct err *e)
{
    struct service_store *s = calloc(1, sizeof *s);
    const char *model = o->calls->model(o->engine)->path;
    struct task *t;

    *out = NULL;
    if (!s) return err_set(e, ERR_MEMORY, "no memory for the queue");
    s->o = *o;
    if (!realpath(model, s->model)) snprintf(s->model, sizeof s->model, "%s", model);
    if (!worker_start(&s->worker, e)) {
        free(s);
        return false;
    }
    s->held = true; /* until the store has been seen */
    if ((t = task_new(s, NULL, opened))) {
        t->job.run = open_run;
        start(t, 0);
    }
    *out = s;
    return true;
}

void service_store_fds(const struct service_store *s, struct pollfd p[SERVICE_STORE_FDS])
{
    p[0] = (struct pollfd){ .fd = worker_fd(s->worker), .events = POLLIN };
    p[1] = (struct pollfd){ .fd = s->scanner ? worker_fd(s->scanner) : -1, .events = POLLIN };
}

bool service_store_work(struct service_store *s)
{
    bool changed;

    for (struct worker_job *j; (j = worker_take(s->worker));) j->done(j, s);
    for (struct worker_job *j; s->scanner && (j = worker_take(s->scanner));) j->done(j, s);
    advance(s); /* a job that was being changed may have been left alone again */
    changed = s->changed;
    s->changed = false;
    return changed;
}

static void close_run(struct worker_job *j)
{
    struct service_store *s = ((struct task *)j)->s;

    store_close(s->store);
    s->store = NULL;
    snprintf(s->why, sizeof s->why, "the queue is closed");
}

static void closed(struct task *t)
{
    t->s->closed = true;
}

/* What a store in a temporary folder leaves. */
static void remove_temporary(const char *folder)
{
    static const char *const names[] = { "studio.db", "studio.db-wal", "studio.db-shm", "latents", "running" };
    char path[256];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (remove(path)) {} /* a latent may be in the folder: it stays, in /tmp */
    }
    rmdir(folder);
}

void service_store_stop(struct service_store *s)
{
    struct task *t;

    if (!s) return;
    s->stopping = true;
    atomic_store(&s->stop_scan, true);
    if (s->scanner) worker_stop(s->scanner);
    if ((t = task_new(s, NULL, closed))) { /* all that waits is done before it */
        t->job.run = close_run;
        start(t, 0);
        while (!s->closed) {
            poll(&(struct pollfd){ .fd = worker_fd(s->worker), .events = POLLIN }, 1, -1);
            service_store_work(s);
        }
    }
    worker_stop(s->worker);
    service_store_work(s);
    store_close(s->store); /* without memory for that task */
    worker_free(s->worker);
    worker_free(s->scanner);
    if (s->temporary[0]) remove_temporary(s->temporary);
    work_over(&s->work);
    work_over(&s->sheet);
    batch_free(&s->many);
    free(s);
}
