/* bench.c - see bench.h. */
#include "engine/bench.h"

#include "engine/clock.h"
#include "engine/file.h"
#include "engine/memory.h"
#include "engine/pipeline.h"
#include "engine/setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 3, STEPS_LEAST = 2, SHORT = 20 /* of the limit: a row that takes less is run again */ };
static const double CARD_SECONDS = 0.05; /* between two looks at the card */

/* --- what is measured --------------------------------------------------------------------------- */

#define ALL_RESIDENT "text_encoders=resident transformer=resident recompute=off t5_chunk=off vae=whole"

/* With the budget `min` a job gets exactly what its other settings ask for; middle is given more. */
static const struct { const char *name, *settings; } levels[] = {
    { "none", "budget=min " ALL_RESIDENT },
    { "basic", "budget=min text_encoders=alternate transformer=resident recompute=off t5_chunk=off vae=whole" },
    { "middle", "budget=min text_encoders=alternate transformer=auto recompute=auto t5_chunk=auto vae=bands" },
    { "high", "budget=min text_encoders=sequential transformer=offload recompute=auto t5_chunk=auto vae=bands" },
};
enum { NONE, BASIC, MIDDLE, HIGH, LEVELS };

static const struct {
    const char *name, *settings; /* on top of none's */
    enum stage stage;
    bool needs_card;
} strategies[] = {
    { "text encoders alternate", "text_encoders=alternate", STAGE_T5, false },
    { "text encoders sequential", "text_encoders=sequential", STAGE_T5, false },
    { "T5 in chunks of 77", "t5_chunk=77", STAGE_T5, false },
    { "embedding cache", "embedding_cache=on", STAGE_T5, false },
    { "transformer offload", "transformer=offload", STAGE_FLUX, false },
    { "recompute 512", "recompute=512", STAGE_FLUX, false },
    { "attention flash", "attention=flash", STAGE_FLUX, true },
    { "attention efficient", "attention=efficient", STAGE_FLUX, true },
    { "attention math", "attention=math", STAGE_FLUX, true },
    { "vae bands", "vae=bands vae_band=64", STAGE_VAE, false },
    { "vae tiles", "vae=tiles", STAGE_VAE, false },
    { "vae in fp16", "vae_precision=fp16", STAGE_VAE, false },
    { "vae in fp32", "vae_precision=fp32", STAGE_VAE, false },
    { "precision bf16", "precision=bf16", STAGE_FLUX, false },
    { "precision fp16", "precision=fp16", STAGE_FLUX, false },
    { "precision fp32", "precision=fp32", STAGE_FLUX, false },
};
enum { STRATEGIES = sizeof strategies / sizeof *strategies };

static const int sizes[] = { 512, 768, 1024, 1536 };
enum { SIZES = sizeof sizes / sizeof *sizes };
_Static_assert((int)SIZES + (int)LEVELS + (int)STRATEGIES <= BENCH_ROWS_MAX, "rows");

/* "name=value name=value" into the job. */
static bool apply(struct job *j, const char *settings, struct err *e)
{
    char text[256], *rest = text, *word;
    snprintf(text, sizeof text, "%s", settings);
    while ((word = strsep(&rest, " "))) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        if (setting_set(j, setting_find(word), value, e) != SETTING_SET)
            return false;
    }
    return true;
}

/* The same as people type them. */
static void as_options(char *to, size_t room, const char *settings)
{
    size_t n = 0;
    bool begins = true, value = false;
    for (; *settings && n + 4 < room; settings++) {
        if (begins)
            n += (size_t)sprintf(to + n, "--");
        begins = *settings == ' ';
        value = begins ? false : value || *settings == '=';
        to[n++] = *settings == '=' ? ' ' : *settings == '_' && !value ? '-' : *settings;
    }
    to[n] = '\0';
}

/* --- watching a job ------------------------------------------------------------------------------- */

struct watch {
    const struct bench_options *o;
    int most_steps;      /* measure so many and stop; 0: as the limit allows */
    double began;        /* clock_now() when the stage that the limit is for began */
    bool over, stopped, cut;
    enum stage stage;
    bool encoded;        /* a text encoder was run */
    int step, steps, blocks;
    double first, latest; /* seconds of the picture when the first block of step 1, and of `step`, was done */
    double vae, vae_end, done; /* when decoding began and ended, and the picture was there; 0: not yet */
    struct event_memory memory;
    size_t card_before, card_peak;
    double looked;       /* clock_now() when the card was */
    char notice[256];
};

/* One step, from those that are whole. */
static double step_seconds(const struct watch *w)
{
    return w->step > 1 ? (w->latest - w->first) / (w->step - 1) : 0;
}

/* A step's first block is done: whether to go on to the last step. */
static void see_step(struct watch *w, const struct event *ev)
{
    if (w->step == 0)
        w->first = ev->seconds;
    w->latest = ev->seconds;
    w->step = ev->step;
    w->steps = ev->steps;
    w->blocks = ev->blocks;
    int whole = w->step - 1, left = w->steps - whole;
    bool too_long = ev->seconds + left * step_seconds(w) > w->o->limit;
    if (whole >= 1 && w->most_steps)
        w->cut = whole >= w->most_steps;
    else if (whole >= 1 && left > 1)
        w->cut = too_long && (whole >= STEPS_LEAST || ev->seconds + step_seconds(w) > w->o->limit);
}

static void look_at_card(struct watch *w)
{
    if (!w->o->card || clock_now() - w->looked < CARD_SECONDS)
        return;
    size_t used = nvml_read(w->o->nvml, w->o->card).used;
    if (used != NVML_UNKNOWN && used > w->card_before && used - w->card_before > w->card_peak)
        w->card_peak = used - w->card_before;
    w->looked = clock_now();
}

static void on_event(void *user, struct event *ev)
{
    struct watch *w = user;
    switch (ev->kind) {
    case EVENT_STAGE:
        w->stage = ev->stage;
        w->encoded |= ev->stage == STAGE_CLIP;
        if (ev->stage == STAGE_VAE) {
            w->vae = ev->seconds;
            w->began = clock_now();
        }
        if (ev->stage == STAGE_SAVE)
            w->done = ev->seconds;
        break;
    case EVENT_MEMORY:
        w->memory = ev->memory;
        if (ev->stage == STAGE_VAE)
            w->vae_end = ev->seconds;
        break;
    case EVENT_PROGRESS:
        if (ev->stage == STAGE_FLUX && ev->step != w->step)
            see_step(w, ev);
        break;
    case EVENT_NOTICE: snprintf(w->notice, sizeof w->notice, "%.255s", ev->text); break;
    default: break;
    }
    look_at_card(w);
}

static enum pipeline_stop on_stop(void *user)
{
    struct watch *w = user;
    w->stopped |= w->o->stop && w->o->stop(w->o->user);
    /* The limit is asked for what was stopped for its sake, too: its decoding. */
    w->over |= clock_now() - w->began > w->o->limit;
    return w->stopped || w->over ? PIPELINE_ABANDON : w->cut ? PIPELINE_CANCEL : PIPELINE_GO;
}

/* --- rows ------------------------------------------------------------------------------------------- */

struct session {
    struct bench *b;
    const struct bench_options *o;
    struct pipeline *p;
    size_t card_before;
    bool over[BENCH_TABLES]; /* a row was over the limit, and the next ones take no less */
};

/* The row's plan: its peak, whether it can run or not. Opens the row's devices. */
static bool plan_row(struct session *s, struct bench_row *r, const struct job *j, struct err *e)
{
    struct plan plan = { 0 };
    char notice[EVENT_TEXT_BYTES] = "";
    bool ok = pipeline_plan(s->p, j, &plan, notice, e);
    if (ok) {
        r->peak = plan.arena_bytes;
        for (enum phase i = 0; i < PHASE_COUNT; i++)
            if (plan.phase[i].peak > r->stage_peak[phase_stage(i)])
                r->stage_peak[phase_stage(i)] = plan.phase[i].peak;
    }
    plan_free(&plan);
    return ok;
}

/* Budget `min` takes what a job needs, be it there or not. */
static bool there_is_room(const struct session *s, const struct bench_row *r, const struct job *j, struct err *e)
{
    struct device_memory m = device_memory(pipeline_devices(s->p)->main);
    size_t room = m.total ? m.free : memory_free();
    if (!room || (double)r->peak <= (double)room * (double)j->memory_fraction)
        return true;
    return err_set(e, ERR_MEMORY, "needs %.2f GB; %.2f GB are free, and %.0f %% of that may be taken",
                   (double)r->peak * 1e-9, (double)room * 1e-9, (double)j->memory_fraction * 100);
}

/* The job once. Seconds of the picture into *seconds; 0 with the reason in r->why. */
static void run_once(struct session *s, struct bench_row *r, const struct job *j, int most_steps, struct watch *w,
                     double *seconds)
{
    struct err e = { 0 };
    *w = (struct watch){ .o = s->o, .most_steps = most_steps, .began = clock_now(), .card_before = s->card_before };
    struct pipeline_hooks hooks = { .emit = on_event, .stop = on_stop, .user = w };
    bool ok = pipeline_run(s->p, j, 1, &hooks, &e);
    *seconds = 0;
    snprintf(r->notice, sizeof r->notice, "%s", w->notice);
    if (w->memory.arena_bytes) {
        r->ran = true;
        r->peak = w->memory.arena_bytes;
        r->card_peak = w->card_peak > r->card_peak ? w->card_peak : r->card_peak;
    }
    if (w->stopped) {
        snprintf(r->why, sizeof r->why, "stopped");
    } else if (w->over) {
        snprintf(r->why, sizeof r->why, "over the limit of %g s, in %s", s->o->limit, stage_name(w->stage));
    } else if (ok) {
        *seconds = w->done;
        r->steps_measured = j->steps;
    } else if (w->cut && e.kind == ERR_CANCELLED && w->vae_end > w->vae) {
        double step = step_seconds(w);
        *seconds = w->first - step / w->blocks + step * j->steps + w->vae_end - w->vae;
        r->steps_measured = w->step - 1;
    } else {
        snprintf(r->why, sizeof r->why, "%.255s", e.text);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A short job is run again: the first compiled what is special to its shapes. */
static void measure_row(struct session *s, struct bench_row *r, const struct job *j)
{
    struct watch w;
    double seconds[RUNS];
    run_once(s, r, j, 0, &w, &r->seconds);
    s->over[r->table] = w.over;
    if (j->embedding_cache && r->seconds > 0) {
        run_once(s, r, j, 0, &w, &r->seconds);
        if (w.encoded) {
            r->seconds = 0;
            snprintf(r->why, sizeof r->why, "prompts are not kept here: see sluice cache");
            return;
        }
    }
    r->runs = 1;
    if (s->o->quick || !(r->seconds > 0) || r->seconds > s->o->limit / SHORT)
        return;
    for (int i = 0; i < RUNS; i++) {
        run_once(s, r, j, 0, &w, &seconds[i]);
        if (!(seconds[i] > 0)) {
            r->seconds = 0;
            return;
        }
    }
    qsort(seconds, RUNS, sizeof *seconds, by_size);
    r->seconds = seconds[RUNS / 2];
    r->runs = RUNS;
}

/* One row: planned, and run if it can be. */
static void row(struct session *s, const struct bench_row *as, const struct job *j, const char *refused)
{
    struct bench_row *r = &s->b->row[s->b->count];
    struct err e = { 0 };
    if (s->b->stopped)
        return;
    *r = *as;
    r->width = j->width;
    r->height = j->height;
    r->steps = j->steps;
    s->b->count++;
    if (s->o->begins)
        s->o->begins(s->o->user, r);
    if (!plan_row(s, r, j, &e))
        snprintf(r->why, sizeof r->why, "%.255s", e.text);
    else if (refused)
        snprintf(r->why, sizeof r->why, "%s", refused);
    else if (!there_is_room(s, r, j, &e))
        snprintf(r->why, sizeof r->why, "%.255s", e.text);
    else if (s->over[r->table])
        snprintf(r->why, sizeof r->why, "not run: one before it was over the limit of %g s", s->o->limit);
    else
        measure_row(s, r, j);
    s->b->stopped = s->o->stop && s->o->stop(s->o->user);
}

static bool size_rows(struct session *s, const struct job *base, struct err *e)
{
    for (int i = 0; i < SIZES; i++) {
        struct bench_row as = { .table = BENCH_SIZES };
        struct job j = { 0 };
        if (!job_copy(&j, base, e))
            return false;
        j.width = j.height = sizes[i];
        if (!j.budget)
            j.budget = JOB_BUDGET_AUTO;
        snprintf(as.name, sizeof as.name, "%dx%d", j.width, j.height);
        snprintf(as.settings, sizeof as.settings, "--size %s", as.name);
        row(s, &as, &j, NULL);
        job_free(&j);
    }
    return true;
}

static bool same_settings(const struct job *a, const struct job *b)
{
    for (int i = 0; i < setting_count(); i++)
        if (!setting_same(a, b, setting_at(i)))
            return false;
    return true;
}

/* A row of base with `level`, and `strategy` on top of it or NULL. None if that is the level itself. */
static bool setting_row(struct session *s, const struct job *base, struct bench_row *as, const char *level,
                        const char *strategy, const char *refused, struct err *e)
{
    struct job j = { 0 }, without = { 0 };
    bool ok = job_copy(&j, base, e) && apply(&j, level, e) && job_copy(&without, &j, e) &&
              (!strategy || apply(&j, strategy, e));
    as_options(as->settings, sizeof as->settings, strategy ? strategy : level);
    if (ok && !(strategy && same_settings(&j, &without)))
        row(s, as, &j, refused);
    job_free(&j);
    job_free(&without);
    return ok;
}

/* Half way from the least that its other settings need to basic's peak. 1 (which does not do, and its
 * row says why) where one of the two has no plan. */
static size_t middle_budget(struct session *s, const struct job *base, struct err *e)
{
    struct bench_row basic = { 0 }, least = { 0 };
    struct job j = { 0 };
    struct err unplanned = { 0 };
    bool ok = job_copy(&j, base, e) && apply(&j, levels[BASIC].settings, e) && plan_row(s, &basic, &j, &unplanned) &&
              apply(&j, levels[MIDDLE].settings, e) && plan_row(s, &least, &j, &unplanned);
    job_free(&j);
    return ok ? least.peak + (basic.peak - least.peak) / 2 : 1;
}

static bool level_rows(struct session *s, const struct job *base, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < LEVELS; i++) {
        struct bench_row as = { .table = BENCH_LEVELS };
        char settings[256];
        snprintf(as.name, sizeof as.name, "%s", levels[i].name);
        snprintf(settings, sizeof settings, "%s", levels[i].settings);
        if (i == MIDDLE)
            snprintf(settings, sizeof settings, "budget=%zu%s", middle_budget(s, base, e),
                     strchr(levels[i].settings, ' '));
        ok = setting_row(s, base, &as, settings, NULL, NULL, e);
    }
    return ok;
}

static bool strategy_rows(struct session *s, const struct job *base, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < STRATEGIES; i++) {
        struct bench_row as = { .table = BENCH_STRATEGIES, .stage = strategies[i].stage };
        snprintf(as.name, sizeof as.name, "%s", strategies[i].name);
        ok = setting_row(s, base, &as, levels[NONE].settings, strategies[i].settings,
                         strategies[i].needs_card && !s->b->on_card ? "the processor has only one" : NULL, e);
    }
    return ok;
}

/* Weights into the page cache, libraries loaded, which device it is: one step of the model's own size. */
static bool warm_up(struct session *s, const struct job *base, struct err *e)
{
    const struct devices *ds = pipeline_devices(s->p);
    struct bench_row ignored = { 0 };
    struct watch w;
    double seconds;
    struct job j = { 0 };
    if (job_copy(&j, base, e)) {
        j.budget = JOB_BUDGET_LEAST;
        run_once(s, &ignored, &j, 1, &w, &seconds);
        if (!ds->main)
            err_set(e, ERR_DEVICE, "%s", ignored.why);
    }
    if (ds->main) {
        s->b->on_card = device_memory(ds->main).total > 0;
        snprintf(s->b->device, sizeof s->b->device, "%s%s%s", s->b->on_card ? "" : ds->name, s->b->on_card ? "" : ", ",
                 ds->arithmetic);
    }
    job_free(&j);
    return ds->main != NULL;
}

bool bench_run(struct bench *b, const struct model *m, const struct job *base, const struct bench_options *o,
               struct err *e)
{
    struct session s = { .b = b, .o = o };
    struct job j = { 0 };
    char folder[FILE_PATH_MAX], out[FILE_PATH_MAX];
    *b = (struct bench){ 0 };
    if (!folder_temporary(folder, "bench", e))
        return false;
    if (o->card) {
        size_t used = nvml_read(o->nvml, o->card).used;
        s.card_before = used == NVML_UNKNOWN ? 0 : used;
    }
    bool ok = pipeline_new(&s.p, m, e) && job_copy(&j, base, e) && file_join(out, folder, "picture.png", e) &&
              job_set_string(&j.out, out, e);
    j.count = 1;
    j.random_seed = j.embedding_cache = false;
    j.preview = PREVIEW_NONE;
    ok = ok && warm_up(&s, &j, e) && size_rows(&s, &j, e) && level_rows(&s, &j, e) && strategy_rows(&s, &j, e);
    job_free(&j);
    pipeline_free(s.p);
    folder_remove(folder);
    return ok;
}

const struct bench_row *bench_none(const struct bench *b)
{
    for (int i = 0; i < b->count; i++)
        if (b->row[i].table == BENCH_LEVELS && !strcmp(b->row[i].name, levels[NONE].name))
            return &b->row[i];
    return NULL;
}
