/* service_store.c - see service_store.h, and service_store_internal.h for how it works. */
#include "tui/service_store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- tasks ------------------------------------------------------------------------ */

void batch_free(struct batch *b)
{
    for (int i = 0; i < b->count; i++) job_free(&b->at[i]);
    free(b->at);
    *b = (struct batch){ 0 };
}

void task_free(struct task *t)
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
    prompts_free(&t->prompts);
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

static bool may_begin(const struct store_job *r)
{
    return r->state == STORE_WAITING || r->state == STORE_INTERRUPTED;
}

void service_show_queue(struct service_store *s, struct store_queue *q)
{
    int n = 0;

    memset(s->next, 0, sizeof s->next);
    for (int i = 0; i < q->count && n < 2; i++)
        if (service_ours(s, &q->at[i]) && may_begin(&q->at[i])) s->next[n++] = q->at[i].id;
    view_queue(s->o.view, q, s->work.id);
}

static void done(struct worker_job *j, void *owner)
{
    struct task *t = (struct task *)j;
    struct service_store *s = owner;

    if (j->ran && t->then) t->then(t);
    else if (j->ran && !t->ok) view_refused(s->o.view, t->e.text);
    if (t->queue.at || (t->lists && j->ran && t->ok)) service_show_queue(s, &t->queue);
    task_free(t);
    s->changed = true;
    advance(s);
}

/* NULL: memory is refused, and that has been said. */
struct task *task_new(struct service_store *s, bool (*work)(struct task *, struct err *), void (*then)(struct task *))
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

void task_start(struct task *t, int kind)
{
    t->job.kind = kind;
    worker_submit(t->s->worker, &t->job);
}

/* One that changes the queue. */
struct task *task_of_queue(struct service_store *s, int64_t id, bool (*work)(struct task *, struct err *),
                               void (*then)(struct task *))
{
    struct task *t = task_new(s, work, then);

    if (!t) return NULL;
    t->lists = true;
    t->id = id;
    return t;
}

/* --- the store is opened ---------------------------------------------------------- */

bool service_ours(const struct service_store *s, const struct store_job *r)
{
    return !r->foreign && !strcmp(r->model, s->model);
}

bool service_left(const struct service_store *s, const struct store_job *r)
{
    return service_ours(s, r) && (may_begin(r) || r->state == STORE_PAUSED);
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
        if (!service_left(s, r)) continue;
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
    service_show_queue(s, &t->queue);
    t->lists = false; /* shown */
    s->asking = t->interrupted + t->waiting > 0;
    if (s->asking) view_ask_resume(s->o.view, t->interrupted, t->waiting, t->offset, t->limit);
    if (s->store) service_prompts(s);
}

/* --- a job's turn ----------------------------------------------------------------- */

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
        if (!service_ours(s, r) || !may_begin(r) || r->id == t->id) continue;
        if (store_queue_claim(s->store, r->id, &t->row, &t->j, &why) && job_check(&t->j, notice, &why)) break;
        store_job_free(&t->row);
        job_free(&t->j);
        if (why.kind == ERR_INPUT) ok = store_queue_fail(s->store, r->id, why.kind, STAGE_LOAD, why.text, e);
        else if (why.kind != ERR_AGAIN) ok = err_set(e, why.kind, "%s", why.text);
    }
    store_queue_free(&q);
    return ok;
}

static bool set_state(struct task *t, struct err *e)
{
    return store_queue_state(t->s->store, t->id, (enum store_state)t->number, e);
}

static void state(struct service_store *s, int64_t id, enum store_state to)
{
    struct task *t = task_of_queue(s, id, set_state, NULL);

    if (!t) return;
    t->number = to;
    task_start(t, 0);
}

static bool set_failed(struct task *t, struct err *e)
{
    return store_queue_fail(t->s->store, t->id, t->event.fault, t->event.stage, t->event.text, e);
}

/* ev: an EVENT_FAILED. */
static void failed(struct service_store *s, int64_t id, const struct event *ev)
{
    struct task *t = task_of_queue(s, id, set_failed, NULL);

    if (!t) return;
    t->event = *ev;
    t->event.image = NULL; /* stays the caller's */
    task_start(t, 0);
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
        struct event refused = { .fault = e.kind, .stage = STAGE_LOAD };
        snprintf(refused.text, sizeof refused.text, "%s", e.text);
        failed(s, t->row.id, &refused);
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

    if (s->stopping || s->asking || s->held || s->claiming || s->work.engine_id || s->sheet.engine_id) return;
    if (!s->next[0] || (s->next[0] == view_editing(s->o.view) && !s->next[1])) return;
    if (!(t = task_of_queue(s, view_editing(s->o.view), claim, claimed))) return;
    s->claiming = true;
    task_start(t, 0);
}

/* --- what the engine tells -------------------------------------------------------- */

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
    struct task *t = task_of_queue(s, s->work.id, keep, kept);

    if (!t) return;
    if (!job_copy(&t->j, &s->work.job, &t->e)) {
        view_refused(s->o.view, t->e.text);
        task_free(t);
        return;
    }
    t->event = *ev;
    t->event.image = ev->image ? image_copy(ev->image, NULL) : NULL;
    snprintf(t->preset, sizeof t->preset, "%s", s->work.preset);
    task_start(t, 0);
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
    bool last = ev->kind == EVENT_CANCELLED || ev->kind == EVENT_FAILED ||
                (ev->kind == EVENT_DONE && ev->index + 1 >= ev->count);
    const char *file = ev->kind == EVENT_FAILED || !ev->text[0] ? s->sheet.job.out : ev->text;
    struct task *t = ev->kind == EVENT_DONE || last ? task_new(s, remove_file, NULL) : NULL;

    if (t) {
        t->text = strdup(file);
        t->number = last;
        if (t->text) task_start(t, 0);
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
            task_start(t, KIND_STEP);
            break;
        case EVENT_PAUSED: state(s, w->id, STORE_PAUSED); break;
        case EVENT_RESUMED: state(s, w->id, STORE_RUNNING); break;
        case EVENT_DONE:
            keep_picture(s, ev);
            if (ev->index + 1 >= ev->count) work_ended(s);
            break;
        case EVENT_CANCELLED:
            state(s, w->id, STORE_CANCELLED);
            work_ended(s);
            break;
        case EVENT_FAILED:
            failed(s, w->id, ev);
            view_trouble(s->o.view, w->id, &w->job, ev->fault, ev->stage, ev->text);
            work_ended(s);
            break;
        default: break;
        }
    advance(s);
}

/* --- the whole -------------------------------------------------------------------- */

bool service_store_grant(struct service_store *s, const struct wish *w)
{
    switch (w->kind) {
    case WISH_GENERATE: service_generate(s); break;
    case WISH_QUEUE: service_queue(s, w); break;
    case WISH_SHEET: service_sheet(s, w->sheet); break;
    case WISH_FINISH: service_finish_sheet(s); break;
    case WISH_HISTORY: service_history(s, w); break;
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
    s->asking = true; /* until the store has been seen */
    if ((t = task_new(s, NULL, opened))) {
        t->job.run = open_run;
        task_start(t, 0);
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
        task_start(t, 0);
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
