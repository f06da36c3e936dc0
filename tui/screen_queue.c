/* screen_queue.c - the jobs on disk: the one at work, those that wait, those that have ended. */
#include "engine/job_text.h"
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct queue_state {
    struct store_queue list;
    int *order;      /* [list.count]: as they are shown; NULL: as they are in the list */
    int64_t at_work; /* of the job that the engine has; 0: none */
    int chosen, scroll;
    int rows;        /* as last drawn */
    struct rect at;
};

static bool queue_init(struct view *v, struct err *e)
{
    v->queue = calloc(1, sizeof *v->queue);
    return v->queue || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void queue_free(struct view *v)
{
    if (!v->queue) return;
    store_queue_free(&v->queue->list);
    free(v->queue->order);
    free(v->queue);
}

/* --- the rows -------------------------------------------------------------------- */

static const struct store_job *row_at(const struct queue_state *q, int i)
{
    if (i < 0 || i >= q->list.count) return NULL;
    return &q->list.at[q->order ? q->order[i] : i];
}

static const struct store_job *chosen(const struct view *v)
{
    return row_at(v->queue, v->queue->chosen);
}

static bool has_ended(const struct store_job *r)
{
    return r->state >= STORE_DONE;
}

static bool can_retry(const struct store_job *r)
{
    return r->state == STORE_FAILED || r->state == STORE_CANCELLED;
}

/* It waits for its turn here. */
static bool is_next(const struct queue_state *q, const struct store_job *r)
{
    return !r->foreign && (r->state == STORE_WAITING || r->state == STORE_INTERRUPTED) && r->id != q->at_work;
}

/* At work, to come, ended; of those that have ended the latest first. */
static bool before(const struct queue_state *q, int a, int b)
{
    const struct store_job *x = &q->list.at[a], *y = &q->list.at[b];
    int x_is = x->id == q->at_work ? 0 : has_ended(x) ? 2 : 1, y_is = y->id == q->at_work ? 0 : has_ended(y) ? 2 : 1;

    if (x_is != y_is) return x_is < y_is;
    if (x_is == 2 && x->ended != y->ended) return x->ended > y->ended;
    return x_is == 2 ? x->id > y->id : a < b;
}

/* By insertion: mostly they are in order already. */
static void put_in_order(struct queue_state *q)
{
    free(q->order);
    q->order = malloc(((size_t)q->list.count + 1) * sizeof *q->order);
    for (int i = 0; q->order && i < q->list.count; i++) {
        int to = i;
        for (; to > 0 && before(q, i, q->order[to - 1]); to--) q->order[to] = q->order[to - 1];
        q->order[to] = i;
    }
}

void view_queue(struct view *v, struct store_queue *list, int64_t at_work)
{
    struct queue_state *q = v->queue;
    int64_t id = chosen(v) ? chosen(v)->id : 0;

    store_queue_free(&q->list);
    q->list = *list;
    *list = (struct store_queue){ 0 };
    q->at_work = at_work;
    put_in_order(q);
    for (int i = 0; i < q->list.count; i++)
        if (row_at(q, i)->id == id) q->chosen = i;
    if (q->chosen >= q->list.count) q->chosen = q->list.count ? q->list.count - 1 : 0;
}

const struct store_job *queue_waiting(const struct view *v, int i)
{
    const struct queue_state *q = v->queue;

    for (int k = 0; k < q->list.count; k++) {
        const struct store_job *r = row_at(q, k);
        if (is_next(q, r) && i-- == 0) return r;
    }
    return NULL;
}

int queue_count(const struct view *v)
{
    const struct queue_state *q = v->queue;
    int n = 0;

    for (int i = 0; i < q->list.count; i++) n += is_next(q, &q->list.at[i]);
    return n;
}

/* --- what the service asks and says ------------------------------------------------ */

void view_queued(struct view *v, int jobs, uint64_t seed)
{
    char text[96];
    int waiting = view_waiting(v);

    if (jobs > 1) snprintf(text, sizeof text, "Queued %d jobs: %d waiting", jobs, waiting);
    else snprintf(text, sizeof text, "Queued with seed %" PRIu64 ": %d waiting", seed, waiting);
    if (jobs > 1 || view_busy(v)) view_say(v, VIEW_INFO, text);
}

static struct wish queue_wish(enum queue_wish what, int64_t id)
{
    return (struct wish){ .kind = WISH_QUEUE, .queue = { .what = what, .id = id } };
}

static struct wish resume_answer(struct view *v, char answer)
{
    (void)v;
    return queue_wish(answer == 'y' ? QUEUE_GO_ON : answer == 'n' ? QUEUE_GIVE_UP : QUEUE_SET_ASIDE, 0);
}

void view_ask_resume(struct view *v, int interrupted, int waiting, int step, int steps)
{
    static const struct ask_answer answers[] = {
        { 'y', "yes, go on where they stopped" },
        { 'l', "later: they stay in the queue, paused" },
        { 'n', "no, cancel them" },
    };
    const char *were = interrupted == 1 ? "job was" : "jobs were";
    char text[256], part[64] = "";

    if (interrupted && step > 0) snprintf(part, sizeof part, " (step %d of %d)", step, steps);
    if (interrupted && waiting)
        snprintf(text, sizeof text, "%d %s interrupted%s and %d more %s. Go on?", interrupted, were, part, waiting,
                 waiting == 1 ? "waits" : "wait");
    else if (interrupted)
        snprintf(text, sizeof text, "%d %s interrupted%s. Go on?", interrupted, were, part);
    else
        snprintf(text, sizeof text, "%d %s left in the queue. Go on?", waiting, waiting == 1 ? "job is" : "jobs are");
    view_ask(v, "From the last time", text, answers, 3, resume_answer);
}

static struct wish many_answer(struct view *v, char answer)
{
    if (answer != 'y') view_say(v, VIEW_INFO, "Nothing was queued");
    return queue_wish(answer == 'y' ? QUEUE_CONFIRM : QUEUE_DROP_MANY, 0);
}

void view_ask_many(struct view *v, int jobs)
{
    static const struct ask_answer answers[] = { { 'n', "no, back to the prompt" }, { 'y', "yes, queue them all" } };
    char text[128];

    snprintf(text, sizeof text, "The choices in this prompt make %d jobs. Queue them?", jobs);
    view_ask(v, "Many jobs", text, answers, 2, many_answer);
}

bool view_edit(struct view *v, int64_t id, const struct job *j, const char *preset, struct err *e)
{
    char text[128], key[KEYS_NAME_MAX], cancel[KEYS_NAME_MAX], profile[VIEW_NAME_BYTES];

    snprintf(profile, sizeof profile, "%s", v->profile);
    if (!view_load(v, j, preset, profile, e)) return false;
    v->editing = id;
    while (v->depth > 1) view_close(v);
    if (id)
        snprintf(text, sizeof text, "Job %" PRId64 ": %s puts it back as it is now; %s leaves it", id,
                 keys_name(&v->keys, ACTION_GENERATE, KEYS_MAIN, key),
                 keys_name(&v->keys, ACTION_CANCEL, KEYS_MAIN, cancel));
    else
        snprintf(text, sizeof text, "Its settings are in the form");
    view_say(v, VIEW_INFO, text);
    return true;
}

int64_t view_editing(const struct view *v)
{
    return v->editing;
}

void view_edited_job(struct view *v)
{
    v->editing = 0;
}

/* --- keys -------------------------------------------------------------------------- */

static bool queue_open(struct view *v)
{
    v->queue->chosen = v->queue->scroll = 0;
    return true;
}

static enum keys_context queue_context(const struct view *v)
{
    (void)v;
    return KEYS_QUEUE;
}

static struct wish repeat(struct view *v, const char *text)
{
    const struct store_job *r = chosen(v);
    char *end;
    long n = strtol(text, &end, 10);

    if (!r) return view_wish(WISH_NONE);
    if (end == text || *end || n < 1 || n > 1000) {
        view_say(v, VIEW_BAD, "How many times: a number from 1 to 1000");
        return view_wish(WISH_NONE);
    }
    struct wish w = queue_wish(QUEUE_REPEAT, r->id);
    w.queue.number = (int)n;
    return w;
}

static struct wish move(struct view *v, const struct store_job *r, int by)
{
    struct wish w = queue_wish(QUEUE_MOVE, r->id);

    if (has_ended(r) || r->id == v->queue->at_work) {
        view_say(v, VIEW_INFO, "Only jobs that have not begun have an order");
        return view_wish(WISH_NONE);
    }
    w.queue.number = by;
    return w;
}

static struct wish complain(struct view *v, const char *what, const struct store_job *r)
{
    char text[128];

    snprintf(text, sizeof text, "%s: this job is %s", what,
             r->foreign ? "another sluice's" : store_state_name(r->state));
    view_say(v, VIEW_INFO, text);
    return view_wish(WISH_NONE);
}

static struct wish on_row(struct view *v, const struct store_job *r, enum action a)
{
    bool working = r->id == v->queue->at_work;

    view_say(v, VIEW_INFO, "");
    if (r->foreign && a != ACTION_QUEUE_REPEAT) return complain(v, "It has to be changed there", r);
    switch (a) {
    case ACTION_QUEUE_EARLIER: return move(v, r, -1);
    case ACTION_QUEUE_LATER: return move(v, r, 1);
    case ACTION_QUEUE_PAUSE:
        return has_ended(r) ? complain(v, "There is nothing to pause", r) : queue_wish(QUEUE_PAUSE, r->id);
    case ACTION_QUEUE_CANCEL:
        return has_ended(r) ? complain(v, "There is nothing to cancel", r) : queue_wish(QUEUE_CANCEL, r->id);
    case ACTION_QUEUE_EDIT:
        return working ? complain(v, "It has begun", r) : queue_wish(has_ended(r) ? QUEUE_LOAD : QUEUE_EDIT, r->id);
    case ACTION_QUEUE_RETRY:
        return can_retry(r) ? queue_wish(QUEUE_RETRY, r->id) : complain(v, "There is nothing to try again", r);
    case ACTION_QUEUE_REMOVE: return working ? complain(v, "Cancel it first", r) : queue_wish(QUEUE_REMOVE, r->id);
    case ACTION_QUEUE_REPEAT: view_ask_line(v, "Repeat with new seeds, how many times:", "1", repeat); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

const struct store_job *queue_failed(const struct view *v)
{
    const struct store_job *r = view_top(v, &screen_queue) ? chosen(v) : NULL;

    return r && r->state == STORE_FAILED && !r->foreign ? r : NULL;
}

static struct wish queue_act(struct view *v, enum action a)
{
    struct queue_state *q = v->queue;
    const struct store_job *r = chosen(v);

    switch (a) {
    case ACTION_UP: q->chosen--; break;
    case ACTION_DOWN: q->chosen++; break;
    case ACTION_PAGE_UP: q->chosen -= q->rows; break;
    case ACTION_PAGE_DOWN: q->chosen += q->rows; break;
    case ACTION_FIRST: q->chosen = 0; break;
    case ACTION_LAST: q->chosen = q->list.count - 1; break;
    case ACTION_BACK: view_close(v); break;
    case ACTION_QUEUE_CLEAR: return queue_wish(QUEUE_CLEAR, 0);
    case ACTION_OK:
        if (queue_failed(v)) view_open(v, &screen_trouble);
        else if (r && r->state == STORE_DONE)
            return (struct wish){ .kind = WISH_HISTORY, .history = { .what = HISTORY_OPEN_JOB, .id = r->id } };
        else if (r) return on_row(v, r, ACTION_QUEUE_EDIT);
        break;
    default:
        if (r) return on_row(v, r, a);
    }
    if (q->chosen >= q->list.count) q->chosen = q->list.count - 1;
    if (q->chosen < 0) q->chosen = 0;
    return view_wish(WISH_NONE);
}

static struct wish queue_mouse(struct view *v, const struct key *k)
{
    if (k->ch == MOUSE_UP) return queue_act(v, ACTION_UP);
    if (k->ch == MOUSE_DOWN) return queue_act(v, ACTION_DOWN);
    if (k->ch == MOUSE_LEFT && rect_has(v->queue->at, k->x, k->y)) {
        int i = v->queue->scroll + k->y - v->queue->at.y;
        if (i < v->queue->list.count) v->queue->chosen = i;
    }
    return view_wish(WISH_NONE);
}

static const char *queue_hint(const struct view *v, enum action a)
{
    const struct store_job *r = chosen(v);
    const char *label = keys_action(a)->label;
    bool ended = r && has_ended(r), working = r && r->id == v->queue->at_work;

    if (a == ACTION_HELP || a == ACTION_BACK || a == ACTION_TROUBLE) return label;
    if (!r || (r->foreign && a != ACTION_QUEUE_REPEAT)) return NULL;
    switch (a) {
    case ACTION_OK: return r->state == STORE_DONE ? "Picture" : NULL;
    case ACTION_QUEUE_PAUSE: return ended ? NULL : r->state == STORE_PAUSED ? "Go on" : label;
    case ACTION_QUEUE_CANCEL: return ended ? NULL : label;
    case ACTION_QUEUE_EDIT: return working ? NULL : ended ? "Reuse" : label;
    case ACTION_QUEUE_RETRY: return can_retry(r) ? label : NULL;
    case ACTION_QUEUE_REPEAT: return label;
    case ACTION_QUEUE_EARLIER:
    case ACTION_QUEUE_LATER: return ended || working ? NULL : label;
    case ACTION_QUEUE_REMOVE: return working ? NULL : label;
    default: return NULL;
    }
}

/* --- drawing ------------------------------------------------------------------------- */

static const char *far(const struct view *v, const struct store_job *r, char buf[64])
{
    bool working = r->id == v->queue->at_work && v->running;
    int step = working ? v->step : r->step, at = r->made < r->pictures ? r->made + 1 : r->made, n = 0;

    buf[0] = 0;
    if (r->pictures > 1 && !has_ended(r)) n = snprintf(buf, 64, "picture %d/%d", at, r->pictures);
    else if (r->pictures > 1) n = snprintf(buf, 64, "%d pictures", r->made);
    if (step > 0 && r->state != STORE_DONE)
        snprintf(buf + n, 64 - (size_t)n, "%sstep %d/%d", n ? ", " : "", step, r->steps);
    else if (!has_ended(r) && !n) snprintf(buf, 64, "%d steps", r->steps);
    return buf;
}

static void draw_row(const struct view *v, struct grid *g, struct rect r, const struct store_job *j, bool on)
{
    static const enum colour colours[STORE_STATE_COUNT_] = {
        [STORE_RUNNING] = COLOUR_ACCENT, [STORE_PAUSED] = COLOUR_WARN, [STORE_INTERRUPTED] = COLOUR_WARN,
        [STORE_DONE] = COLOUR_GOOD,      [STORE_FAILED] = COLOUR_BAD,  [STORE_CANCELLED] = COLOUR_DIM,
    };
    const char *name = j->foreign ? "elsewhere" : store_state_name(j->state),
        *prompt = *j->prompt ? j->prompt : "(no prompt)";
    enum colour c = j->foreign || has_ended(j) ? COLOUR_DIM : COLOUR_TEXT;
    char right[64];
    int w = (int)strlen(far(v, j, right)), attr = on ? CELL_BOLD : 0;

    draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, on ? "»" : " ");
    draw_fit(g, r, r.x + 2, r.y, 11, colours[j->state], attr, name, false);
    draw_fit(g, r, r.x + 15, r.y, r.w - 15 - (w ? w + 2 : 0), on ? COLOUR_TEXT : c, attr, prompt, false);
    draw_right(g, r, r.y, COLOUR_DIM, 0, right);
}

/* Of the job at work. */
static void draw_work(const struct view *v, struct grid *g, struct rect r)
{
    char left[64], right[64], time[16];
    double gone = (double)(v->now_ms - v->progress_ms) / 1000, eta = v->eta_seconds;
    int x, end, w;

    if (!v->running) return;
    if (v->cancelling || v->paused) snprintf(left, sizeof left, "%s", v->cancelling ? "cancelling" : "paused");
    else if (v->stage != STAGE_FLUX || !v->step) snprintf(left, sizeof left, "%s", stage_name(v->stage));
    else snprintf(left, sizeof left, "%s step %d/%d", stage_name(v->stage), v->step, v->steps);
    if (eta >= 0) eta = eta > gone ? eta - gone : 0;
    w = snprintf(right, sizeof right, "%3.0f %%", v->fraction * 100);
    if (eta >= 0 && !v->paused) snprintf(right + w, sizeof right - (size_t)w, "  %s left", draw_time(eta, time));
    x = r.x + 2 + draw_fit(g, r, r.x + 2, r.y, 24, COLOUR_ACCENT, 0, left, false) + 2;
    if (x < r.x + 26) x = r.x + 26;
    end = r.x + r.w - (int)strlen(right) - 2;
    if (end - x >= 6) draw_bar(g, r, x, r.y, end - x, v->fraction, 0);
    draw_right(g, r, r.y, COLOUR_TEXT, 0, right);
}

/* "768x768, 20 steps, guidance 3.5, euler, simple, seed 42". */
static void told(const struct store_job *r, char buf[192])
{
    struct job j = { 0 };

    buf[0] = 0;
    if (*r->text && job_from_text(&j, r->text, NULL))
        snprintf(buf, 192, "%dx%d, %d steps, guidance %g, %s, %s, seed %" PRIu64, j.width, j.height, j.steps,
                 (double)j.guidance, sampler_name(j.sampler), schedule_name(j.schedule), j.seed);
    job_free(&j);
}

/* The chosen job, in words. */
static void draw_details(struct grid *g, struct rect r, const struct store_job *j)
{
    char line[512];
    const char *folder = strrchr(j->model, '/'), *model = folder ? folder + 1 : j->model;
    int y;

    snprintf(line, sizeof line, "%" PRId64 "  %s%s%s%s%s", j->id, store_state_name(j->state), *model ? "  " : "", model,
             *j->preset ? "  preset " : "", j->preset);
    draw_box(g, r, "Job", NULL, false);
    r = (struct rect){ r.x + 2, r.y + 1, r.w - 4, r.h - 2 };
    y = r.y;
    draw_fit(g, r, r.x, y++, r.w, COLOUR_DIM, 0, line, false);
    told(j, line);
    if (*line) draw_fit(g, r, r.x, y++, r.w, COLOUR_DIM, 0, line, false);
    if (*j->error) y += draw_wrapped(g, r, y, y + 2 < r.y + r.h ? 2 : 1, COLOUR_BAD, 0, j->error);
    draw_wrapped(g, r, y, r.y + r.h - y, COLOUR_TEXT, 0, *j->prompt ? j->prompt : "(no prompt)");
}

static void title(const struct view *v, char buf[128])
{
    const struct queue_state *q = v->queue;
    int running = 0, waiting = 0, ended = 0;

    for (int i = 0; i < q->list.count; i++) {
        const struct store_job *r = &q->list.at[i];
        if (has_ended(r)) ended++;
        else if (r->id == q->at_work || r->state == STORE_RUNNING) running++;
        else waiting++;
    }
    snprintf(buf, 128, "Queue: %d running, %d waiting, %d ended", running, waiting, ended);
}

static bool queue_draw(struct view *v, struct grid *g, struct err *e)
{
    struct queue_state *q = v->queue;
    char text[128], key[KEYS_NAME_MAX];
    struct rect r, list;
    int details, y;

    (void)e;
    title(v, text);
    r = view_draw_frame(v, g, text);
    r.x++;
    r.w -= 2;
    g->cursor_shown = false;
    if (!q->list.count) {
        snprintf(text, sizeof text,
                 "Nothing waits. %s on the main screen starts a picture, and while one runs, queues another.",
                 keys_name(&v->keys, ACTION_GENERATE, KEYS_MAIN, key));
        draw_wrapped(g, r, r.y + r.h / 3, 3, COLOUR_DIM, 0, text);
        q->at = (struct rect){ 0 };
        return true;
    }
    details = r.h >= 14 ? 7 : r.h >= 10 ? 5 : 0;
    list = (struct rect){ r.x, r.y, r.w, r.h - details };
    if (v->running && q->at_work) draw_work(v, g, (struct rect){ list.x, list.y, list.w, 1 }), list.y++, list.h--;
    q->rows = list.h;
    q->at = list;
    if (q->scroll > q->list.count - list.h) q->scroll = q->list.count - list.h;
    if (q->chosen >= q->scroll + list.h) q->scroll = q->chosen - list.h + 1;
    if (q->chosen < q->scroll) q->scroll = q->chosen;
    if (q->scroll < 0) q->scroll = 0;
    for (y = 0; y < list.h && row_at(q, q->scroll + y); y++) {
        struct rect at = { list.x, list.y + y, list.w, 1 };
        draw_row(v, g, at, row_at(q, q->scroll + y), q->scroll + y == q->chosen);
    }
    if (details && chosen(v)) draw_details(g, (struct rect){ r.x, r.y + r.h - details, r.w, details }, chosen(v));
    return true;
}

const struct screen screen_queue = {
    .name = "queue",
    .opened_by = ACTION_QUEUE,
    .init = queue_init,
    .free = queue_free,
    .open = queue_open,
    .context = queue_context,
    .act = queue_act,
    .mouse = queue_mouse,
    .hint = queue_hint,
    .draw = queue_draw,
};
