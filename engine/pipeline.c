/* pipeline.c - see pipeline.h. */
#include "engine/pipeline.h"

#include "engine/clip.h"
#include "engine/embeddings.h"
#include "engine/file.h"
#include "engine/flux.h"
#include "engine/memory.h"
#include "engine/rates.h"
#include "engine/record.h"
#include "engine/sampler.h"
#include "engine/stages.h"
#include "engine/t5.h"
#include "engine/tok_clip.h"
#include "engine/tok_t5.h"
#include "engine/vae.h"
#include "kernels/count.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct pipeline {
    const struct model *model;
    struct devices devices;
    struct rates rates;       /* of this machine with this model, as far as known */
    char rates_of[sizeof ((struct devices *)0)->name]; /* the device they are of; "": not looked up */
    struct sha256 encoders;   /* fingerprint of CLIP and T5 */
    bool has_encoders;
    struct tok_clip *tok_clip;
    struct tok_t5 *tok_t5;
    struct clip *clip;
    struct t5 *t5;
    struct flux *flux;
    struct vae *vae;
    struct taef1 *taef1;      /* NULL: no job has asked for it yet, or taef1_why says why not */
    struct err taef1_why;
    /* For pipeline_foresee. */
    pthread_mutex_t open;     /* held while models or `devices` are opened, or devices asked for sizes */
    bool working;             /* a job is; under `open` */
    pthread_mutex_t told;     /* of the next two */
    struct devices_card card; /* as last told; all zero on the processor */
    size_t taken;             /* of the arena */
    struct devices own;       /* the processor, for planning: pipeline_foresee's thread's alone */
    bool no_card;             /* the same */
};

/* A prompt as the transformer takes it. */
struct text {
    int32_t *clip_ids, *t5_ids;
    float *pooled, *hidden;
};

/* One job while it runs. Host buffers, all F32 but the ids. */
struct run {
    struct pipeline *p;
    const struct job *job;
    const struct pipeline_hooks *hooks;
    uint64_t id;
    int index;
    struct timespec began;    /* this picture */
    enum stage stage;
    int step;                 /* 1-based while sampling */
    double step_seconds;      /* mean of the steps done */
    double vae_seconds;       /* of an earlier picture; 0: unknown */
    struct rates seen;        /* what this job tells of the machine */
    enum pipeline_stop heed;  /* a stop request at least this strong stops the device */
    struct event_memory memory;
    struct plan plan;
    struct pager *pager;      /* of the phase that is running; NULL without a budget */
    void *arena;
    unsigned char *kept;      /* text encoders that stay, in the arena; NULL: none do */
    bool loaded[PHASE_COUNT]; /* of those: their weights are there */
    size_t steps_mark;        /* of the arena, above what is kept: all that steps stand on is above it */
    int evaluations;          /* of the model, so far */
    struct checkpoint from;   /* where picture from.index goes on; no data: nowhere */
    bool kept_told;           /* that a checkpoint could not be written */
    bool failure_told;        /* with the picture that could not be saved */
    bool taef1_failed;        /* and previews are made without it */
    int prompt;               /* whose text text[0] is; -1: none's yet */
    uint64_t link_bytes;      /* brought by pagers that have ended */
    struct timespec told;     /* when the memory was */
    bool recording;           /* the device may be recording the step */
    bool in_one_go;           /* all steps of this picture, in one plan, without a rest */
    struct stages stages;
    const struct record *record; /* of the latent's file that is decoded, or NULL */
    int h, w;                 /* latent */
    size_t latent_count;
    struct text text[FLUX_CONDITIONS_MAX]; /* the prompt, the negative prompt */
    float *sigmas, *latent, *packed, *velocity, *x0, *image;
    float *against;           /* velocity under the negative prompt; NULL without cfg */
};

/* --- news --------------------------------------------------------------------------- */

static double since(const struct timespec *t)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - t->tv_sec) + (double)(now.tv_nsec - t->tv_nsec) * 1e-9;
}

static struct event news(const struct run *r, enum event_kind kind)
{
    return (struct event){ .kind = kind, .job = r->id, .index = r->index, .count = job_pictures(r->job),
                           .stage = r->stage, .step = r->step, .steps = r->job->steps, .width = r->job->width,
                           .height = r->job->height, .seed = job_seed(r->job, r->index),
                           .seconds = since(&r->began), .eta_seconds = -1 };
}

static void emit(const struct run *r, struct event *ev)
{
    r->hooks->emit(r->hooks->user, ev);
    event_clear(ev);
}

static void notice(const struct run *r, const char *text)
{
    struct event ev = news(r, EVENT_NOTICE);
    snprintf(ev.text, sizeof ev.text, "%s", text);
    emit(r, &ev);
}

/* For plans beside this job. */
static struct devices_card note_memory(struct run *r)
{
    struct pipeline *p = r->p;
    struct devices_card card = p->devices.main ? devices_card(&p->devices) : (struct devices_card){ 0 };
    pthread_mutex_lock(&p->told);
    p->card = card;
    p->taken = r->arena ? r->plan.arena_bytes : 0;
    pthread_mutex_unlock(&p->told);
    return card;
}

static void tell_memory(struct run *r)
{
    struct event ev = news(r, EVENT_MEMORY);
    struct memory_use use = memory_use();
    struct devices_card card = note_memory(r);
    clock_gettime(CLOCK_MONOTONIC, &r->told);
    ev.memory = r->memory;
    if (r->p->devices.main) {
        ev.memory.used_bytes = r->p->devices.main->arena.used;
        ev.memory.peak_bytes = r->p->devices.main->arena.peak;
        ev.memory.device_total = card.total;
        ev.memory.device_free = card.free;
        ev.memory.device_others = card.others;
        ev.memory.device_held = card.held;
        for (int i = DEVICES_FACTS - 1; i >= 0; i--)
            if (card.why[i][0])
                memcpy(ev.memory.device_why, card.why[i], sizeof ev.memory.device_why);
    }
    ev.memory.host_total = memory_total();
    ev.memory.host_free = memory_free();
    ev.memory.link_bytes = r->link_bytes + (r->pager ? pager_stats(r->pager).link_bytes : 0);
    ev.memory.rss = use.rss;
    ev.memory.rss_anonymous = use.anonymous;
    ev.memory.rss_file = use.file;
    emit(r, &ev);
}

static void begin_stage(struct run *r, enum stage s)
{
    r->stage = s;
    if (s != STAGE_FLUX)
        r->step = s == STAGE_VAE || s == STAGE_SAVE ? r->job->steps : 0;
    struct event ev = news(r, EVENT_STAGE);
    emit(r, &ev);
    tell_memory(r);
}

/* Of decoding: as measured, until then as many operations at a step's rate, until then as predicted. */
static double vae_estimate(const struct run *r)
{
    double step = (double)r->plan.phase[PHASE_STEP].flops, vae = (double)r->plan.phase[PHASE_VAE].flops;
    if (r->vae_seconds > 0)
        return r->vae_seconds;
    return r->step_seconds > 0 && step > 0 ? r->step_seconds * vae / step : r->plan.phase[PHASE_VAE].seconds;
}

/* Seconds left of this picture, when `done` of the stage, or of its step, is done; -1: unknown. */
static double eta(const struct run *r, double done)
{
    const struct plan_phase *phase = r->plan.phase;
    double step = r->step_seconds > 0 ? r->step_seconds : phase[PHASE_STEP].seconds / r->job->steps;
    double left = vae_estimate(r), modulation = phase[PHASE_MODULATION].seconds;
    if (step <= 0)
        return -1;
    if (r->stage >= STAGE_VAE)
        return left * (1 - done);
    if (r->stage == STAGE_FLUX && r->step)
        return left + ((double)(r->job->steps - (r->step - 1)) - done) * step;
    left += r->job->steps * step + modulation;
    if (r->stage == STAGE_FLUX)
        return left - done * modulation;
    if (r->stage == STAGE_T5)
        return left + (1 - done) * phase[PHASE_T5].seconds;
    return left + phase[PHASE_T5].seconds + (1 - done) * phase[PHASE_CLIP].seconds;
}

/* Once a second, but not in the midst of a step that may be on its way into a recording. */
static void tell_memory_again(struct run *r)
{
    if (since(&r->told) >= 1)
        tell_memory(r);
}

static void on_tick(void *user, int done, int total)
{
    struct run *r = user;
    if (!r->recording)
        tell_memory_again(r);
    struct event ev = news(r, EVENT_PROGRESS);
    ev.block = done;
    ev.blocks = total;
    ev.eta_seconds = eta(r, (double)done / total);
    emit(r, &ev);
}

static bool on_interrupted(void *user)
{
    struct run *r = user;
    return r->hooks->stop && r->hooks->stop(r->hooks->user) >= r->heed;
}

/* --- loading ------------------------------------------------------------------------- */

bool pipeline_new(struct pipeline **out, const struct model *m, struct err *e)
{
    struct pipeline *p = *out = calloc(1, sizeof *p);
    if (!p)
        return err_set(e, ERR_MEMORY, "out of memory");
    p->model = m;
    pthread_mutex_init(&p->open, NULL);
    pthread_mutex_init(&p->told, NULL);
    return true;
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    devices_close(&p->devices); /* before the weights that they may have pinned */
    devices_close(&p->own);
    tok_clip_close(p->tok_clip);
    tok_t5_close(p->tok_t5);
    clip_close(p->clip);
    t5_close(p->t5);
    flux_close(p->flux);
    vae_close(p->vae);
    taef1_close(p->taef1);
    pthread_mutex_destroy(&p->open);
    pthread_mutex_destroy(&p->told);
    free(p);
}

static bool fits_table(const char *tokenizer, int ids, const char *encoder, int vocab, struct err *e)
{
    if (ids <= vocab)
        return true;
    return err_set(e, ERR_INPUT, "%s has ids up to %d, but %s has an embedding of %d rows: they do not belong together",
                   tokenizer, ids - 1, encoder, vocab);
}

/* TAEF1 for the job's previews, tried once. Without it, or if it cannot be read, only a job that insists on it ends. */
static bool open_taef1(struct pipeline *p, const struct job *j, struct err *e)
{
    const struct model *m = p->model;
    if (j->preview != PREVIEW_AUTO && j->preview != PREVIEW_TAEF1)
        return true;
    if (!m->taef1[0])
        err_set(&p->taef1_why, ERR_INPUT, "TAEF1 is not there: put %s", MODEL_TAEF1_PLACES);
    else if (!p->taef1 && p->taef1_why.kind == ERR_NONE)
        taef1_open(&p->taef1, m->taef1, m->vae.latent_channels, m->vae.factor, &p->taef1_why);
    return p->taef1 || j->preview == PREVIEW_AUTO ||
           err_set(e, p->taef1_why.kind, "preview: taef1: %s; preview: latent needs no file", p->taef1_why.text);
}

/* What a plan reads of the models; they are not changed afterwards. Under `open`. */
static bool open_models(struct pipeline *p, const struct job *j, struct err *e)
{
    const struct model *m = p->model;
    return (p->clip || clip_open(&p->clip, m, e)) && (p->t5 || t5_open(&p->t5, m, e)) &&
           (p->flux || flux_open(&p->flux, m, e)) && (p->vae || vae_open(&p->vae, m, false, e)) &&
           open_taef1(p, j, e);
}

static bool load(struct pipeline *p, const struct job *j, struct err *e)
{
    const struct model *m = p->model;
    char dir[MODEL_PATH_MAX];
    if ((!p->tok_clip && !tok_clip_open(&p->tok_clip, model_part_dir(m, MODEL_TOK_CLIP, dir), e)) ||
        (!p->tok_t5 && !tok_t5_open(&p->tok_t5, model_part_dir(m, MODEL_TOK_T5, dir), e)) ||
        !fits_table("tokenizer", tok_clip_id_limit(p->tok_clip), "text_encoder", m->clip.vocab, e) ||
        !fits_table("tokenizer_2", tok_t5_id_limit(p->tok_t5), "text_encoder_2", m->t5.vocab, e))
        return false;
    pthread_mutex_lock(&p->open);
    bool ok = open_models(p, j, e) && devices_open(&p->devices, j, e);
    pthread_mutex_unlock(&p->open);
    return ok;
}

static struct flux_inputs flux_inputs(const struct run *r)
{
    struct flux_inputs in = {
        .text = r->p->model->t5.tokens, .rows = r->h / 2, .cols = r->w / 2, .steps = r->job->steps,
        .conditions = job_conditions(r->job), .sigmas = r->sigmas, .guidance = r->job->guidance,
        .chunk = r->plan.phase[PHASE_STEP].pieces.flux_chunk,
    };
    for (int i = 0; i < in.conditions; i++) {
        in.hidden[i] = r->text[i].hidden;
        in.pooled[i] = r->text[i].pooled;
    }
    return in;
}

static bool size_fits(const struct model *m, const struct job *j, struct err *e)
{
    int step = 2 * m->vae.factor;
    if (j->width % step == 0 && j->height % step == 0)
        return true;
    return err_set(e, ERR_INPUT, "size %dx%d: this model's VAE needs multiples of %d", j->width, j->height, step);
}

/* --- rates ---------------------------------------------------------------------- */

static void rates_need(struct pipeline *p)
{
    if (!strcmp(p->rates_of, p->devices.name))
        return;
    p->rates = rates_load(p->devices.name, p->model->name);
    memcpy(p->rates_of, p->devices.name, sizeof p->rates_of);
}

/* What is unknown of `known`, measured, added to it and stored. */
static bool measure(struct pipeline *p, struct devices *ds, struct rates *known, struct err *e)
{
    struct err ignored = { 0 };
    bool compute = known->of[rate_of(ds->main->compute, false)] <= 0;
    unsigned want = (compute ? RATES_COMPUTE : 0) | (known->of[RATE_LINK] <= 0 ? RATES_LINK : 0) |
                    (known->of[RATE_DISK] <= 0 ? RATES_DISK : 0);
    struct rates r = { 0 };
    if (!want)
        return true;
    if (!rates_measure(&r, ds->main, weights_path(flux_weights(p->flux), 0), want, e))
        return false;
    *known = rates_learn(*known, r);
    rates_store(&r, ds->name, "", &ignored); /* a cache that cannot be written costs only time */
    return true;
}

bool pipeline_measure(struct pipeline *p, const struct job *j, struct err *e)
{
    if (!load(p, j, e))
        return false;
    rates_need(p);
    return measure(p, &p->devices, &p->rates, e);
}

/* What the job's runs at full speed have shown. */
static void rates_keep(struct run *r)
{
    struct err ignored = { 0 };
    r->p->rates = rates_learn(r->p->rates, r->seen);
    rates_store(&r->seen, r->p->devices.name, r->p->model->name, &ignored);
}

static struct plan_rates plan_rates(const struct rates *known, const struct plan_devices *d, const struct job *j)
{
    const double *of = known->of;
    double flops = of[rate_of(d->main->compute, false)], vae = of[rate_of(d->vae->compute, true)];
    double link = of[RATE_LINK];
    return (struct plan_rates){ .flops = flops, .vae_flops = vae > 0 ? vae : flops, .disk = of[RATE_DISK],
                                .link = j->link > 0 && (link <= 0 || j->link < link) ? j->link : link };
}

/* --- the plan and the arena ------------------------------------------------------ */

static bool make_plan(struct pipeline *p, const struct job *j, size_t budget, struct plan *plan, struct err *e)
{
    pthread_mutex_lock(&p->open); /* the other thread may be the one that opens TAEF1 */
    struct models m = { p->model, p->clip, p->t5, p->flux, p->vae, p->taef1 };
    pthread_mutex_unlock(&p->open);
    struct plan_devices d = { p->devices.main, p->devices.vae };
    rates_need(p);
    struct plan_rates rates = plan_rates(&p->rates, &d, j);
    plan_free(plan);
    return plan_make(plan, &m, j, &d, &rates, budget, e);
}

const struct devices *pipeline_devices(const struct pipeline *p)
{
    return &p->devices;
}

bool pipeline_plan(struct pipeline *p, const struct job *j, struct plan *plan, char notice[EVENT_TEXT_BYTES],
                   struct err *e)
{
    memset(plan, 0, sizeof *plan);
    return load(p, j, e) && size_fits(p->model, j, e) &&
           make_plan(p, j, devices_budget(&p->devices, j, notice), plan, e);
}

/* --- the plan beside a job --------------------------------------------------------- */

/* What answers for the job's devices, and what is free of their memory. */
struct foreseen {
    struct devices *devices;
    struct count_device main, vae; /* a card's scratch sizes, and nothing that would touch it */
    struct plan_devices plan;
    struct devices_card memory;
    size_t available;
};

/* The card if the job would have one; NULL, e unset: it would not. Under `open`. */
static struct devices *foresee_card(struct pipeline *p, const struct job *j, struct err *e)
{
    struct devices *ds = &p->devices;
    if (j->device == DEVICE_CPU || p->no_card)
        return NULL;
    if (p->working)
        return ds->card ? ds : NULL;
    if (j->device == DEVICE_AUTO && !devices_any_card()) {
        p->no_card = true;
        return NULL;
    }
    if (!(ds->card && ds->attention == j->attention) && !devices_open(ds, j, e))
        return NULL;
    if (ds->card)
        return ds;
    devices_close(ds); /* the processor after all: it is opened by the thread that computes */
    p->no_card = true;
    return NULL;
}

/* As the devices would have it that the job opens. */
static enum dtype foreseen_type(const struct devices *card, int precision)
{
    return precision_dtype(card->no_bf16 && precision == PRECISION_BF16 ? PRECISION_FP16 : (enum precision)precision);
}

static bool foresee_devices(struct pipeline *p, const struct job *j, struct foreseen *f, struct err *e)
{
    struct devices *card = foresee_card(p, j, e);
    struct job on_processor = *j; /* borrowed */
    on_processor.device = DEVICE_CPU;
    if (!card && (e->kind != ERR_NONE || !devices_open(&p->own, &on_processor, e)))
        return false;
    pthread_mutex_lock(&p->told);
    size_t taken = p->working ? p->taken : 0; /* given back before the job begins */
    f->memory = p->card;
    pthread_mutex_unlock(&p->told);
    if (!card) {
        f->devices = &p->own;
        f->plan = (struct plan_devices){ p->own.main, p->own.vae };
        f->memory = (struct devices_card){ 0 };
        f->available = memory_free() + taken;
        return true;
    }
    f->devices = card;
    count_device_init(&f->main, card->main);
    count_device_init(&f->vae, card->main);
    f->main.device.compute = foreseen_type(card, j->precision);
    f->vae.device.compute = j->vae_precision == JOB_AUTO_PRECISION ? f->main.device.compute
                                                                   : foreseen_type(card, j->vae_precision);
    f->plan = (struct plan_devices){ &f->main.device, &f->vae.device };
    if (!p->working)
        f->memory = devices_card(card);
    f->available = f->memory.free == DEVICES_UNKNOWN ? DEVICES_UNKNOWN : f->memory.free + taken;
    return true;
}

/* j: checked. Under `open`. */
static bool foresee(struct pipeline *p, const struct job *j, struct plan_summary *s, struct err *e)
{
    struct foreseen f = { 0 };
    struct plan plan = { 0 };
    char less[EVENT_TEXT_BYTES] = "";
    if (!open_models(p, j, e) || !size_fits(p->model, j, e) || !foresee_devices(p, j, &f, e))
        return false;
    struct models m = { p->model, p->clip, p->t5, p->flux, p->vae, p->taef1 };
    struct rates known = rates_load(f.devices->name, p->model->name);
    struct plan_rates rates = plan_rates(&known, &f.plan, j);
    bool ok = plan_make(&plan, &m, j, &f.plan, &rates, devices_budget_of(j, &f.memory, f.available, less), e);
    if (ok)
        plan_summarise(&plan, s);
    plan_free(&plan);
    s->card = f.devices->card;
    snprintf(s->device, sizeof s->device, "%.63s", s->card ? f.devices->name : "cpu");
    s->memory.total = s->card ? f.memory.total : memory_total();
    s->memory.free = f.available;
    size_t ours = f.available + memory_use().anonymous;
    s->memory.others = s->card ? f.memory.others : s->memory.total > ours ? s->memory.total - ours : 0;
    snprintf(s->text, sizeof s->text, "%.500s", less);
    return ok;
}

void pipeline_foresee(struct pipeline *p, const struct job *wanted, struct plan_summary *s)
{
    struct job j = { 0 };
    struct err e = { 0 };
    char rounded[256];
    *s = (struct plan_summary){ 0 };
    bool ok = job_copy(&j, wanted, &e) && job_check(&j, rounded, &e);
    if (ok) {
        pthread_mutex_lock(&p->open);
        ok = foresee(p, &j, s, &e);
        pthread_mutex_unlock(&p->open);
    }
    if (!ok)
        snprintf(s->text, sizeof s->text, "%s", e.text);
    job_free(&j);
}

bool pipeline_foresee_speed(struct pipeline *p, const struct job *j, struct err *e)
{
    struct foreseen f = { 0 };
    struct err why = { 0 };
    pthread_mutex_lock(&p->open);
    bool ok = !p->working && open_models(p, j, &why) && foresee_devices(p, j, &f, &why);
    if (ok) {
        struct rates known = rates_load(f.devices->name, p->model->name);
        ok = measure(p, f.devices, &known, &why);
        p->rates_of[0] = '\0'; /* no job runs: its thread looks again */
    }
    pthread_mutex_unlock(&p->open);
    if (!ok && why.kind == ERR_NONE)
        err_set(&why, ERR_INPUT, "a job is at work");
    return ok || err_set(e, why.kind, "%s", why.text);
}

/* Where a job begins and ends: a card is the other thread's only in between. */
static void set_working(struct pipeline *p, bool working)
{
    pthread_mutex_lock(&p->open);
    p->working = working;
    pthread_mutex_unlock(&p->open);
}

/* What to plan for when `had` bytes were too many: three quarters, or what is free now, if that is less. */
static size_t less_than(struct run *r, size_t had)
{
    char ignored[EVENT_TEXT_BYTES];
    size_t less = had / 4 * 3, now = devices_budget(&r->p->devices, r->job, ignored);
    return r->plan.budget && now && now != JOB_BUDGET_LEAST && now < less ? now : less;
}

static void tell_refused(struct run *r, size_t wanted)
{
    char text[256], who[96] = "by the system";
    struct devices_card card = devices_card(&r->p->devices);
    if (card.total && card.others != DEVICES_UNKNOWN)
        snprintf(who, sizeof who, "by the card, of which others hold %.0f MB", (double)card.others * 1e-6);
    else if (card.total)
        snprintf(who, sizeof who, "by the card");
    snprintf(text, sizeof text, "%zu MB were refused %s: planned again with %zu MB", wanted / 1000000, who,
             r->plan.arena_bytes / 1000000);
    notice(r, text);
}

/* The one allocation. Refused: the plan is made again for less, as long as there is one. */
static bool arena_allocate(struct run *r, struct err *e)
{
    size_t wanted = r->plan.arena_bytes;
    struct err refused = { 0 };
    while (!device_take(r->p->devices.main, &r->arena, r->plan.arena_bytes, &refused)) {
        struct err why = { 0 };
        size_t less = less_than(r, r->plan.arena_bytes);
        if (refused.kind != ERR_DEVICE_MEMORY)
            return err_set(e, refused.kind, "%s", refused.text);
        if (!make_plan(r->p, r->job, less, &r->plan, &why))
            return err_set(e, ERR_DEVICE_MEMORY,
                           "%zu MB for %dx%d were refused, and less does not do: choose a smaller size",
                           wanted / 1000000, r->job->width, r->job->height);
        err_clear(&refused);
    }
    if (r->plan.arena_bytes != wanted)
        tell_refused(r, wanted);
    return true;
}

/* Of the plan, what is told of the memory. */
static void describe_memory(struct run *r)
{
    struct event_memory *m = &r->memory;
    const struct pipeline *p = r->p;
    m->weights[STAGE_CLIP] = weights_bytes(clip_weights(p->clip));
    m->weights[STAGE_T5] = weights_bytes(t5_weights(p->t5));
    m->weights[STAGE_FLUX] = weights_bytes(flux_weights(p->flux));
    m->weights[STAGE_VAE] = weights_bytes(vae_weights(p->vae));
    m->arena_bytes = r->plan.arena_bytes;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        enum stage s = phase_stage(i);
        size_t weights = r->plan.phase[i].peak - r->plan.phase[i].activations;
        if (r->plan.phase[i].activations > m->activations[s])
            m->activations[s] = r->plan.phase[i].activations;
        if (weights > m->on_device[s])
            m->on_device[s] = weights;
    }
    if (r->plan.preview.activations > m->activations[STAGE_FLUX])
        m->activations[STAGE_FLUX] = r->plan.preview.activations;
}

static bool arena_open(struct run *r, struct err *e)
{
    if (!arena_allocate(r, e))
        return false;
    describe_memory(r);
    struct device *d = r->p->devices.main;
    devices_working(&r->p->devices, true);
    d->arena = arena_over(r->arena, r->plan.arena_bytes);
    note_memory(r);
    if (r->plan.kept_bytes)
        r->kept = device_vector(d, DT_U8, (int64_t)r->plan.kept_bytes).data;
    r->steps_mark = device_mark(d);
    return true;
}

static void arena_close(struct run *r)
{
    struct err ignored = { 0 };
    if (!r->arena)
        return;
    device_sync(r->p->devices.main, &ignored); /* nothing may be at work in it any more */
    devices_working(&r->p->devices, false);
    r->p->devices.main->arena = arena_over(NULL, 0);
    device_give(r->p->devices.main, r->arena);
    r->arena = NULL;
    note_memory(r);
    r->kept = NULL;
    r->steps_mark = 0;
    memset(r->loaded, 0, sizeof r->loaded);
}

/* Room in the arena for the weights of a phase (and of the next, if it shares
 * the stage): below the stage's activations, until the caller's release. Or
 * where the weights are kept for the whole job. */
static void *weights_room(struct run *r, enum phase phase)
{
    const struct plan_phase *q = r->plan.phase;
    if (r->kept && phase <= PHASE_T5)
        return r->kept + (phase == PHASE_T5 ? placement_bytes(&q[PHASE_CLIP].placement) : 0);
    size_t bytes = q[phase].peak - q[phase].activations - r->plan.kept_bytes;
    return bytes ? device_vector(r->p->devices.main, DT_U8, (int64_t)bytes).data : NULL;
}

/* From here on the phase's weights come through the pager, if there is a budget. */
static bool weights_begin(struct run *r, enum phase phase, struct device *d, void *room, size_t repeats, struct err *e)
{
    const struct plan_phase *q = &r->plan.phase[phase];
    if (!device_ok(r->p->devices.main)) /* no room: nothing may be copied there */
        return device_sync(r->p->devices.main, e);
    struct pager_options o = { .repeats = repeats, .loaded = r->loaded[phase], .bytes_per_second = r->job->link };
    bool ok = !r->plan.budget || pager_begin(&r->pager, d, room, &q->trace, &q->placement, &o, e);
    r->loaded[phase] = r->kept && phase <= PHASE_T5 && ok;
    return ok;
}

static void weights_end(struct run *r)
{
    if (r->pager)
        r->link_bytes += pager_stats(r->pager).link_bytes;
    pager_end(r->pager);
    r->pager = NULL;
}

/* The device of a phase. The VAE's own, where it has one, takes over the arena until phase_end. */
static struct device *phase_device(struct run *r, enum phase phase)
{
    return phase == PHASE_VAE ? r->p->devices.vae : r->p->devices.main;
}

/* A stage of one phase, between phase_begin and phase_end. */
static bool phase_begin(struct run *r, enum phase phase, size_t *mark, struct err *e)
{
    struct device *d = phase_device(r, phase);
    begin_stage(r, phase_stage(phase));
    *mark = device_mark(r->p->devices.main);
    void *room = weights_room(r, phase);
    if (d != r->p->devices.main)
        d->arena = r->p->devices.main->arena;
    return weights_begin(r, phase, d, room, 1, e);
}

/* Waits for the stage; gives its memory back. */
static bool phase_end(struct run *r, enum phase phase, size_t mark, struct err *e)
{
    struct device *d = phase_device(r, phase);
    bool ok = device_sync(d, e);
    weights_end(r);
    if (d != r->p->devices.main) {
        r->p->devices.main->arena = d->arena;
        d->arena = arena_over(NULL, 0);
    }
    device_release(r->p->devices.main, mark);
    return ok ? true : err_prefix(e, "%s", phase_name(phase));
}

static bool buffers_open(struct run *r, struct err *e)
{
    const struct model *m = r->p->model;
    size_t channels = (size_t)m->vae.latent_channels;
    r->h = r->job->height / m->vae.factor;
    r->w = r->job->width / m->vae.factor;
    r->latent_count = channels * (size_t)r->h * (size_t)r->w;
    bool texts = true;
    for (int i = 0; i < job_conditions(r->job); i++) {
        struct text *t = &r->text[i];
        t->clip_ids = calloc((size_t)m->clip.tokens, sizeof *t->clip_ids);
        t->t5_ids = calloc((size_t)m->t5.tokens, sizeof *t->t5_ids);
        t->pooled = calloc((size_t)m->clip.width, sizeof *t->pooled);
        t->hidden = calloc((size_t)m->t5.tokens * (size_t)m->t5.width, sizeof *t->hidden);
        texts = texts && t->clip_ids && t->t5_ids && t->pooled && t->hidden;
    }
    r->sigmas = calloc((size_t)r->job->steps + 1, sizeof *r->sigmas);
    r->latent = calloc(r->latent_count, sizeof *r->latent);
    r->packed = calloc(r->latent_count, sizeof *r->packed);
    r->velocity = calloc(r->latent_count, sizeof *r->velocity);
    r->x0 = calloc(r->latent_count, sizeof *r->x0);
    if (job_conditions(r->job) == 2) {
        r->against = calloc(r->latent_count, sizeof *r->against);
        texts = texts && r->against;
    }
    r->image = calloc((size_t)r->job->width * (size_t)r->job->height * 3, sizeof *r->image);
    if (texts && r->sigmas && r->latent && r->packed && r->velocity && r->x0 && r->image)
        return true;
    return err_set(e, ERR_MEMORY, "out of memory");
}

static void device_enter(struct device *d, struct run *r)
{
    d->interrupted = on_interrupted;
    d->tick = on_tick;
    d->user = r;
}

static void device_leave(struct device *d)
{
    if (!d)
        return;
    d->arena = arena_over(NULL, 0);
    d->interrupted = NULL;
    d->tick = NULL;
    d->user = NULL;
}

static void run_close(struct run *r)
{
    for (int i = 0; i < FLUX_CONDITIONS_MAX; i++) {
        free(r->text[i].clip_ids);
        free(r->text[i].t5_ids);
        free(r->text[i].pooled);
        free(r->text[i].hidden);
    }
    free(r->sigmas);
    free(r->latent);
    free(r->packed);
    free(r->velocity);
    free(r->x0);
    free(r->against);
    free(r->image);
    weights_end(r);
    arena_close(r);
    plan_free(&r->plan);
    checkpoint_free(&r->from);
    stages_free(&r->stages);
    device_leave(r->p->devices.main);
    device_leave(r->p->devices.vae);
}

/* --- stages --------------------------------------------------------------------------- */

/* A NaN or infinity in a result is a broken weight or a type too narrow: say which. */
static bool all_finite(const struct run *r, const float *x, size_t n, const struct weights *w, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) {
            for (size_t t = 0; t < weights_count(w); t++)
                if (!weights_finite(w, weights_name(w, t), weights_tensor(w, t), e))
                    return err_prefix(e, "%s", stage_name(r->stage));
            return err_set(e, ERR_OVERFLOW, "%s: the result is not finite%s", stage_name(r->stage),
                           r->job->precision != PRECISION_FP32 ? ": try --precision fp32" : "");
        }
    return true;
}

/* One prompt's ids; says where its end is left out. */
static bool tokenise(struct run *r, const char *prompt, struct text *t, struct err *e)
{
    struct pipeline *p = r->p;
    const struct model *m = p->model;
    int used;
    bool cut_clip, cut_t5;
    if (!tok_clip_encode(p->tok_clip, prompt, strlen(prompt), t->clip_ids, m->clip.tokens, &used, &cut_clip, e) ||
        !tok_t5_encode(p->tok_t5, prompt, strlen(prompt), t->t5_ids, m->t5.tokens, &used, &cut_t5, e))
        return false;
    if (cut_t5) {
        char text[128];
        snprintf(text, sizeof text, "the prompt is longer than the %d tokens T5 takes: its end is left out",
                 m->t5.tokens);
        notice(r, text);
    }
    return true;
}

static bool encode(struct run *r, struct text *t, struct err *e)
{
    struct pipeline *p = r->p;
    const struct model *m = p->model;
    size_t mark;
    if (!phase_begin(r, PHASE_CLIP, &mark, e))
        return false;
    clip_encode(p->clip, p->devices.main, t->clip_ids, t->pooled);
    if (!phase_end(r, PHASE_CLIP, mark, e) ||
        !all_finite(r, t->pooled, (size_t)m->clip.width, clip_weights(p->clip), e) ||
        !phase_begin(r, PHASE_T5, &mark, e))
        return false;
    t5_encode(p->t5, p->devices.main, t->t5_ids, m->t5.tokens, &r->plan.phase[PHASE_T5].pieces.t5, t->hidden);
    return phase_end(r, PHASE_T5, mark, e) &&
           all_finite(r, t->hidden, (size_t)m->t5.tokens * (size_t)m->t5.width, t5_weights(p->t5), e);
}

static struct sha256 embeddings_key_of(struct run *r, const struct text *t)
{
    struct pipeline *p = r->p;
    const struct t5_pieces *pieces = &r->plan.phase[PHASE_T5].pieces.t5;
    char how[256];
    if (!p->has_encoders)
        p->encoders = embeddings_fingerprint(p->model, clip_weights(p->clip), t5_weights(p->t5));
    p->has_encoders = true;
    snprintf(how, sizeof how, "%s %s %s, chunks alone: %d", p->devices.main->ops->name, p->devices.arithmetic,
             precision_name(p->devices.precision), pieces->independent ? pieces->chunk : 0);
    return embeddings_key(p->model, &p->encoders, t->clip_ids, t->t5_ids, how);
}

/* A known prompt is not encoded again: its text encoders are not even read. */
static bool encode_text(struct run *r, const char *prompt, struct text *t, struct err *e)
{
    const struct model *m = r->p->model;
    struct embeddings v = { tensor_1d(t->pooled, DT_F32, m->clip.width),
                            tensor_2d(t->hidden, DT_F32, m->t5.tokens, m->t5.width) };
    struct err why = { 0 };
    if (!tokenise(r, prompt, t, e))
        return false;
    if (!r->job->embedding_cache)
        return encode(r, t, e);
    struct sha256 key = embeddings_key_of(r, t);
    if (embeddings_load(&key, v))
        return true;
    if (!encode(r, t, e))
        return false;
    if (!embeddings_store(&key, v, &why))
        notice(r, why.text);
    return true;
}

/* What the picture's turn needs: its prompt if it is another than the one
 * before's, and the negative prompt once. */
static bool encode_texts(struct run *r, struct err *e)
{
    const struct model *m = r->p->model;
    struct text *t = &r->text[0];
    int prompt = r->index / r->job->count;
    if (prompt != r->prompt && !encode_text(r, job_prompt(r->job, r->index), t, e))
        return false;
    if (r->prompt < 0 && job_conditions(r->job) == 2 && !encode_text(r, r->job->negative, &r->text[1], e))
        return false;
    r->prompt = prompt;
    return r->index > 0 ||
           (stages_add(&r->stages, tensor_1d(t->clip_ids, DT_I32, m->clip.tokens), e, "clip_ids") &&
            stages_add(&r->stages, tensor_1d(t->t5_ids, DT_I32, m->t5.tokens), e, "t5_ids") &&
            stages_add(&r->stages, tensor_1d(t->pooled, DT_F32, m->clip.width), e, "clip_pooled") &&
            stages_add(&r->stages, tensor_2d(t->hidden, DT_F32, m->t5.tokens, m->t5.width), e, "t5_hidden"));
}

/* A latent of the job's size from a file into r->latent; *record, if wanted, as it was written. */
static bool read_latents(struct run *r, const char *path, struct record *record, struct err *e)
{
    struct record found;
    struct tensor t, want = tensor_3d(NULL, DT_F32, r->p->model->vae.latent_channels, r->h, r->w);
    char is[96], expected[96];
    if (!record_read_latent(&found, &t, path, e))
        return false;
    bool ok = tensor_same_shape(t, want);
    if (ok)
        memcpy(r->latent, t.data, tensor_bytes(t));
    else
        err_set(e, ERR_INPUT, "%s: latent is %s, but %dx%d needs %s", path, tensor_describe(t, is, sizeof is),
                r->job->width, r->job->height, tensor_describe(want, expected, sizeof expected));
    free(t.data);
    if (ok && record)
        *record = found;
    else
        record_free(&found);
    return ok;
}

static struct tensor latent_tensor(const struct run *r, float *data)
{
    return tensor_3d(data, DT_F32, r->p->model->vae.latent_channels, r->h, r->w);
}

/* x0 through the model's least-squares matrix: one pixel per latent pixel. NULL: there is none. */
static struct image *preview_latent(const struct run *r)
{
    const struct vae_config *c = &r->p->model->vae;
    struct image *im = c->has_rgb ? image_new(r->w, r->h, NULL) : NULL;
    size_t n = (size_t)r->h * (size_t)r->w;
    for (size_t i = 0; im && i < n; i++)
        for (int k = 0; k < 3; k++) {
            float v = c->rgb_bias[k];
            for (int ch = 0; ch < c->latent_channels; ch++)
                v += c->rgb[ch][k] * r->x0[(size_t)ch * n + i];
            float byte = (v + 1) * 127.5f;
            im->rgb[3 * i + (size_t)k] = (unsigned char)(byte > 0 ? byte < 255 ? byte + 0.5f : 255 : 0);
        }
    return im;
}

/* x0 by TAEF1, on the device that makes the steps. NULL: it failed, which is no reason to end the job, or a stop is
 * asked for, which the next step will hear. */
static struct image *preview_taef1(struct run *r)
{
    struct device *d = r->p->devices.main;
    struct err why = { 0 };
    int scale = r->plan.preview.scale, height = r->job->height / scale, width = r->job->width / scale;
    float *values = malloc((size_t)height * (size_t)width * 3 * sizeof *values);
    struct image *im = NULL;
    if (!values)
        return NULL;
    taef1_decode(r->p->taef1, d, scale, r->h, r->w, r->x0, values);
    if (device_sync(d, &why))
        im = image_from_tensor(tensor_3d(values, DT_F32, height, width, 3), NULL);
    else if (why.kind != ERR_CANCELLED)
        r->taef1_failed = true;
    if (r->taef1_failed) {
        err_prefix(&why, "previews go on without TAEF1");
        notice(r, why.text);
    }
    free(values);
    return im;
}

static void preview(struct run *r)
{
    struct event ev = news(r, EVENT_PREVIEW);
    if (r->job->preview == PREVIEW_NONE)
        return;
    if (r->plan.preview.scale && !r->taef1_failed)
        ev.image = preview_taef1(r);
    if (!ev.image)
        ev.image = preview_latent(r);
    if (ev.image)
        emit(r, &ev);
}

/* A step so short that starting its operations one by one would show, by what it has taken or by
 * its work, and nothing to be brought for it: it may be recorded. A longer one is not, so that a
 * cancel is heard within a block. */
static bool repeats(const struct run *r)
{
    static const double SHORT_SECONDS = 0.25, SHORT_FLOPS = 2e12;
    const struct plan_phase *q = &r->plan.phase[PHASE_STEP];
    return r->plan.budget && q->ring == RING_NONE && r->step > 1 &&
           (r->step_seconds < SHORT_SECONDS || (double)q->flops < SHORT_FLOPS);
}

/* The velocity at r->latent and sigma `at`, into r->velocity; with cfg of both
 * conditions, as diffusers' true_cfg_scale joins them. */
static bool evaluate(struct run *r, const struct flux_tables *tables, int at, struct err *e)
{
    struct pipeline *p = r->p;
    int channels = p->model->vae.latent_channels;
    for (int c = 0; c < job_conditions(r->job); c++) {
        flux_pack(r->packed, r->latent, channels, r->h, r->w);
        r->recording = repeats(r);
        if (r->recording)
            device_repeat(p->devices.main);
        flux_step(p->flux, p->devices.main, tables, c, at, r->packed, r->packed);
        bool done = device_sync(p->devices.main, e);
        r->recording = false;
        if (!done)
            return false;
        tell_memory_again(r);
        if (++r->evaluations == r->job->inject_oom)
            return err_set(e, ERR_DEVICE_MEMORY, "out of memory, as --inject-oom asks for");
        if (!all_finite(r, r->packed, r->latent_count, flux_weights(p->flux), e))
            return false;
        flux_unpack(c ? r->against : r->velocity, r->packed, channels, r->h, r->w);
    }
    for (size_t i = 0; r->against && i < r->latent_count; i++)
        r->velocity[i] = r->against[i] + r->job->cfg * (r->velocity[i] - r->against[i]);
    return true;
}

/* Everything that steps stand on in the arena: what depends on prompt and sigmas, and the
 * weights' place. `done` model evaluations are behind. */
static bool steps_begin(struct run *r, struct flux_tables *tables, size_t done, struct err *e)
{
    struct device *d = r->p->devices.main;
    struct flux_inputs in = flux_inputs(r);
    void *room = weights_room(r, PHASE_STEP);
    bool ok = weights_begin(r, PHASE_MODULATION, d, room, 1, e);
    if (!ok)
        return false;
    r->in_one_go &= done == 0;
    flux_begin(r->p->flux, d, tables, &in);
    ok = device_sync(d, e) ? true : err_prefix(e, "before step %d", r->step);
    weights_end(r);
    return ok && weights_begin(r, PHASE_STEP, d, room, r->plan.phase[PHASE_STEP].repeats - done, e);
}

/* Memory was taken away: the same job on a smaller plan. */
static bool plan_smaller(struct run *r, struct err *e)
{
    char text[EVENT_TEXT_BYTES];
    size_t had = r->plan.arena_bytes;
    weights_end(r);
    arena_close(r);
    if (!make_plan(r->p, r->job, less_than(r, had), &r->plan, e) || !arena_open(r, e))
        return false;
    snprintf(text, sizeof text,
             "memory ran out in step %d: it goes on from there, with the same result, in %.0f MB instead "
             "of %.0f MB", r->step, (double)r->plan.arena_bytes * 1e-6, (double)had * 1e-6);
    notice(r, text);
    return true;
}

/* evaluate, and where the device has not the memory any more, or asks for it, once more another way:
 * the latent is the host's, so nothing is lost. `done` evaluations are behind. */
static bool evaluate_somehow(struct run *r, struct flux_tables *tables, int at, size_t done, struct err *e)
{
    while (!evaluate(r, tables, at, e)) {
        struct err why = { 0 };
        if (e->kind != ERR_DEVICE_MEMORY && e->kind != ERR_AGAIN)
            return false;
        if (e->kind == ERR_DEVICE_MEMORY && !plan_smaller(r, &why))
            return false; /* the first reason is the one to tell */
        err_clear(e);
        weights_end(r);
        device_release(r->p->devices.main, r->steps_mark);
        if (!steps_begin(r, tables, done, e))
            return false;
    }
    return true;
}

/* --- resting, and going on ------------------------------------------------------- */

/* Of picture `index` with so many steps done: what its files say of it. */
static bool make_record(const struct run *r, struct record *record, int index, int steps_done, struct err *e)
{
    return record_make(record, r->job, index, r->p->model->name, steps_done, e);
}

static void keep_place(struct run *r, const struct sampler *s)
{
    struct record record = { 0 };
    struct err why = { 0 };
    struct checkpoint here = { .index = r->index, .step = s->step, .trial = s->trial,
                               .latent = latent_tensor(r, r->latent),
                               .x0 = latent_tensor(r, r->x0) };
    if (!r->job->checkpoint || sampler_behind(s) == 0)
        return;
    if (s->kept)
        here.kept = latent_tensor(r, s->kept);
    if ((!make_record(r, &record, r->index, s->step, &why) ||
         !record_write_checkpoint(&record, &here, r->job->checkpoint, &why)) && !r->kept_told) {
        notice(r, why.text);
        r->kept_told = true;
    }
    record_free(&record);
}

static void forget_place(struct run *r)
{
    if (r->job->checkpoint)
        unlink(r->job->checkpoint);
}

/* A record of that picture, as far as that, by the same settings. */
static bool same_picture(const struct run *r, const struct record *found, int index, int steps_done)
{
    struct record want;
    if (!make_record(r, &want, index, steps_done, NULL))
        return false;
    bool same = !strcmp(want.json, found->json);
    record_free(&want);
    return same;
}

/* Can this job go on from there? */
static bool place_fits(const struct run *r, const struct checkpoint *c, const struct record *record)
{
    const struct job *j = r->job;
    bool keeps = j->sampler != SAMPLER_EULER;
    return c->index >= j->first && c->index < job_pictures(j) && c->step >= 0 && c->step < j->steps &&
           c->step + c->trial > 0 && (!c->trial || (j->sampler == SAMPLER_HEUN && c->step < j->steps - 1)) &&
           keeps == (c->kept.data != NULL) && tensor_same_shape(c->latent, latent_tensor(r, NULL)) &&
           same_picture(r, record, c->index, c->step);
}

static void find_place(struct run *r)
{
    struct record record = { 0 };
    struct err why = { 0 };
    char text[EVENT_TEXT_BYTES];
    if (!r->job->resume)
        return;
    bool read = record_read_checkpoint(&record, &r->from, r->job->resume, &why);
    if (!read || !place_fits(r, &r->from, &record)) {
        checkpoint_free(&r->from);
        snprintf(text, sizeof text, "%.3000s: the picture begins anew",
                 read ? "what was kept is of another picture" : why.text);
        notice(r, text);
    }
    record_free(&record);
}

/* Latent and sampler as they were left, if it was this picture. */
static void take_place(struct run *r, struct sampler *s)
{
    size_t bytes = r->latent_count * sizeof *r->latent;
    if (!r->from.latent.data || r->from.index != r->index)
        return;
    memcpy(r->latent, r->from.latent.data, bytes);
    memcpy(r->x0, r->from.x0.data, bytes);
    if (s->kept)
        memcpy(s->kept, r->from.kept.data, bytes);
    s->step = r->from.step;
    s->trial = r->from.trial;
    r->step = s->step + 1;
    checkpoint_free(&r->from);
    preview(r);
}

/* Where somebody asks for a rest: the latent is the host's, so the device's memory can go back. */
static bool rest(struct run *r, const struct sampler *s, struct flux_tables *tables, struct err *e)
{
    char text[EVENT_TEXT_BYTES];
    const struct pipeline_hooks *h = r->hooks;
    if (!h->wait || !h->stop || h->stop(h->user) != PIPELINE_PAUSE)
        return true;
    keep_place(r, s);
    weights_end(r);
    arena_close(r);
    r->memory.arena_bytes = 0;
    tell_memory(r);
    struct event ev = news(r, EVENT_PAUSED);
    ev.step = s->step;
    emit(r, &ev);
    h->wait(h->user);
    ev = news(r, EVENT_RESUMED);
    ev.step = s->step;
    emit(r, &ev);
    if (!make_plan(r->p, r->job, devices_budget(&r->p->devices, r->job, text), &r->plan, e) || !arena_open(r, e))
        return false;
    r->in_one_go = false;
    tell_memory(r);
    return steps_begin(r, tables, (size_t)(sampler_behind(s) * job_conditions(r->job)), e);
}

/* --- steps ----------------------------------------------------------------------- */

static bool whole_step(struct run *r, double seconds, struct err *e)
{
    r->step_seconds = seconds;
    preview(r);
    return stages_add(&r->stages, latent_tensor(r, r->velocity), e, "velocity_%02d", r->step) &&
           stages_add(&r->stages, latent_tensor(r, r->latent), e, "latent_%02d", r->step);
}

/* From the first velocity to the last. r->step: the one at work, 1-based. */
static bool run_steps(struct run *r, struct sampler *s, struct flux_tables *tables, struct err *e)
{
    const struct job *j = r->job;
    int steps_done = 0; /* here, in `working` seconds */
    double working = 0;
    bool ok = true;
    while (ok && s->step < s->steps) {
        struct timespec began;
        r->step = s->step + 1;
        ok = s->trial || rest(r, s, tables, e);
        clock_gettime(CLOCK_MONOTONIC, &began);
        ok = ok && evaluate_somehow(r, tables, sampler_at(s), (size_t)(sampler_behind(s) * job_conditions(j)), e);
        working += since(&began);
        if (ok && sampler_advance(s, r->latent, r->velocity, r->x0)) {
            ok = whole_step(r, working / ++steps_done, e);
            if (s->step < s->steps && j->checkpoint_steps > 0 && s->step % j->checkpoint_steps == 0)
                keep_place(r, s);
        }
    }
    if (!ok)
        keep_place(r, s);
    return ok ? true : err_prefix(e, "transformer, step %d of %d", r->step, j->steps);
}

/* What the steps have shown of the machine: computing apart from waiting for the
 * link, and the link unless it was held back. */
static void see_steps(struct run *r)
{
    const struct plan_phase *q = &r->plan.phase[PHASE_STEP];
    struct pager_stats s = r->pager ? pager_stats(r->pager) : (struct pager_stats){ 0 };
    double computing = r->step_seconds * r->job->steps - s.wait_seconds;
    /* On a device that queues, the host sees neither the device wait nor the link alone. */
    if (!r->in_one_go || (r->p->devices.main->ops->queues && q->ring != RING_NONE))
        return;
    if (computing > 0)
        r->seen.of[rate_of(r->p->devices.main->compute, false)] = (double)(q->flops * q->repeats) / computing;
    if (r->job->link <= 0 && s.copy_seconds > 0.05 && !r->p->devices.main->ops->queues)
        r->seen.of[RATE_LINK] = (double)s.link_bytes / s.copy_seconds;
}

/* Noise to latent. On a stop, r->step - 1 whole steps are done and r->x0 is of
 * the last evaluation. */
static bool sample(struct run *r, struct err *e)
{
    struct pipeline *p = r->p;
    struct device *d = p->devices.main;
    const struct job *j = r->job;
    begin_stage(r, STAGE_FLUX);
    r->step = 1;
    r->step_seconds = 0;
    schedule_sigmas(j->schedule, &p->model->scheduler, r->h / 2 * (r->w / 2), j->steps, r->sigmas);
    if (!j->init_latents)
        rng_normal(j->rng, job_seed(j, r->index), r->latent, r->latent_count);
    else if (!read_latents(r, j->init_latents, NULL, e))
        return false;
    if (!stages_add(&r->stages, tensor_1d(r->sigmas, DT_F32, j->steps + 1), e, "sigmas") ||
        !stages_add(&r->stages, latent_tensor(r, r->latent), e, "latent_00"))
        return false;
    struct flux_tables tables;
    struct sampler s;
    if (!sampler_begin(&s, j->sampler, r->sigmas, j->steps, r->latent_count, j->rng, job_seed(j, r->index), e))
        return false;
    r->in_one_go = true;
    take_place(r, &s);
    bool ok = steps_begin(r, &tables, (size_t)(sampler_behind(&s) * job_conditions(j)), e);
    if (ok) {
        tell_memory(r);
        ok = run_steps(r, &s, &tables, e);
        if (ok)
            see_steps(r);
    } else {
        keep_place(r, &s);
        err_prefix(e, "transformer");
    }
    sampler_end(&s);
    weights_end(r);
    device_release(d, r->steps_mark);
    return ok;
}

static bool decode(struct run *r, const float *latent, struct err *e)
{
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    size_t mark;
    if (!phase_begin(r, PHASE_VAE, &mark, e))
        return false;
    vae_decode(r->p->vae, phase_device(r, PHASE_VAE), &r->plan.phase[PHASE_VAE].pieces.vae, r->h, r->w, latent,
               r->image);
    if (!phase_end(r, PHASE_VAE, mark, e))
        return false;
    r->vae_seconds = since(&began);
    r->seen.of[rate_of(phase_device(r, PHASE_VAE)->compute, true)] =
        (double)r->plan.phase[PHASE_VAE].flops / r->vae_seconds;
    size_t pixels = (size_t)r->job->width * (size_t)r->job->height;
    if (!all_finite(r, r->image, 3 * pixels, vae_weights(r->p->vae), e))
        return false;
    if (!r->stages.open)
        return true;
    float *planes = malloc(3 * pixels * sizeof *planes);
    if (!planes)
        return err_set(e, ERR_MEMORY, "recording the stages: out of memory");
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++)
            planes[c * pixels + i] = r->image[3 * i + c];
    bool ok = stages_add(&r->stages, tensor_3d(planes, DT_F32, 3, r->job->height, r->job->width), e, "image");
    free(planes);
    return ok;
}

/* --- the file --------------------------------------------------------------------------- */

/* With what was read beside the latent, or else what the job says. */
static bool save(const struct run *r, const struct image *im, const char *path, int steps_done, struct err *e)
{
    struct record record;
    if (r->record)
        return record_write_png(r->record, im, path, e);
    bool ok = make_record(r, &record, r->index, steps_done, e) && record_write_png(&record, im, path, e);
    record_free(&record);
    return ok;
}

/* "dir/name.png" -> "dir/name" and what, malloc'd. */
static char *path_beside(const struct run *r, const char *what, struct err *e)
{
    char *path = job_out_path(r->job, r->index, e), *beside = NULL;
    if (path && asprintf(&beside, "%.*s%s", (int)job_stem(path), path, what) < 0) {
        beside = NULL;
        err_set(e, ERR_MEMORY, "out of memory");
    }
    free(path);
    return beside;
}

static bool finish(struct run *r, struct err *e)
{
    begin_stage(r, STAGE_SAVE);
    struct event ev = news(r, EVENT_DONE);
    char *path = job_out_path(r->job, r->index, e);
    ev.image = image_from_tensor(tensor_3d(r->image, DT_F32, r->job->height, r->job->width, 3), e);
    bool ok = path && ev.image && save(r, ev.image, path, r->job->steps, e) &&
              stages_write(&r->stages, r->job->dump_stages, e);
    if (ok)
        forget_place(r);
    ev.seconds = since(&r->began);
    ev.eta_seconds = 0;
    if (!ok) {
        ev.kind = EVENT_FAILED;
        ev.fault = e->kind;
        r->failure_told = true;
    }
    snprintf(ev.text, sizeof ev.text, "%s", ok ? path : e->text);
    emit(r, &ev);
    free(path);
    return ok;
}

/* After a cancel: what the last whole step promised is decoded and kept. */
static void keep_partial(struct run *r, int steps_done)
{
    struct err ignored = { 0 };
    struct event ev = news(r, EVENT_CANCELLED);
    r->heed = PIPELINE_ABANDON;
    r->stages.open = false;
    char *path = NULL;
    bool decoded = steps_done > 0 && !on_interrupted(r) && decode(r, r->x0, &ignored);
    if (decoded)
        tell_memory(r);
    if (decoded && (path = path_beside(r, "-partial.png", &ignored))) {
        ev.image = image_from_tensor(tensor_3d(r->image, DT_F32, r->job->height, r->job->width, 3), &ignored);
        if (ev.image && save(r, ev.image, path, steps_done, &ignored))
            snprintf(ev.text, sizeof ev.text, "%s", path);
    }
    ev.step = steps_done;
    ev.seconds = since(&r->began);
    if (ignored.kind != ERR_NONE && ignored.kind != ERR_CANCELLED)
        notice(r, ignored.text);
    emit(r, &ev);
    free(path);
}

/* Better to hear it now than after the last step. */
static bool writable(const char *path, struct err *e)
{
    char dir[FILE_PATH_MAX];
    struct stat st;
    struct file_out probe;
    if (!*path)
        return err_set(e, ERR_INPUT, "the name of the file to write is empty");
    if (strlen(path) >= sizeof dir)
        return err_set(e, ERR_INPUT, "%.64s...: the path is too long", path);
    if (folder_exists(path))
        return err_set(e, ERR_INPUT, "%s is a folder: give the name of a file", path);
    file_folder(path, dir);
    if (!folder_exists(dir))
        return err_set(e, ERR_MISSING, "%s: there is no folder %s", path, dir);
    int found = stat(path, &st);
    if (found == 0 && !S_ISREG(st.st_mode)) /* a pipe's reader would see it open and close */
        return access(path, W_OK) == 0 ? true : err_errno(e, errno, "%s cannot be written", path);
    if (found < 0 && errno == ENAMETOOLONG)
        return err_errno(e, errno, "%.200s... cannot be written", path);
    if (!file_out_open(&probe, path, e))
        return false;
    file_out_abandon(&probe);
    return true;
}

/* Prompt to latent, in r->latent. */
static bool make_latent(struct run *r, struct err *e)
{
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    r->stage = STAGE_LOAD;
    r->step = 0;
    r->heed = PIPELINE_CANCEL;
    struct event ev = news(r, EVENT_STARTED);
    emit(r, &ev);
    return encode_texts(r, e) && sample(r, e);
}

/* Latent to file. A cancel from here on changes nothing: decoding is what it would ask for. */
static bool make_picture(struct run *r, struct err *e)
{
    r->heed = PIPELINE_ABANDON;
    return decode(r, r->latent, e) && finish(r, e);
}

/* --- deferred decoding ---------------------------------------------------------------------- */

static const char latent_suffix[] = ".latent.safetensors";

static bool keep_latent(struct run *r, struct err *e)
{
    struct record record = { 0 };
    char *path = path_beside(r, latent_suffix, e);
    bool ok = path && make_record(r, &record, r->index, r->job->steps, e) &&
              record_write_latent(&record, latent_tensor(r, r->latent), path, e);
    if (ok)
        forget_place(r);
    record_free(&record);
    free(path);
    return ok;
}

/* Is this picture's latent there, from before the program was stopped? */
static bool latent_kept(struct run *r)
{
    struct record record = { 0 };
    struct err none = { 0 };
    char *path = r->job->checkpoint ? path_beside(r, latent_suffix, &none) : NULL;
    bool kept = path && file_exists(path) && read_latents(r, path, &record, &none) &&
                same_picture(r, &record, r->index, r->job->steps);
    record_free(&record);
    free(path);
    return kept;
}

static bool decode_latent(struct run *r, struct err *e)
{
    char *path = path_beside(r, latent_suffix, e);
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    bool ok = path && read_latents(r, path, NULL, e) && make_picture(r, e);
    if (ok) {
        unlink(path);
    } else if (path) {
        char text[EVENT_TEXT_BYTES];
        snprintf(text, sizeof text, "what is not decoded yet is kept, from %.3900s on: see sluice decode", path);
        notice(r, text);
    }
    free(path);
    return ok;
}

/* The latents of the pictures before `end` to pictures; a latent is removed when its picture is written. */
static bool decode_kept(struct run *r, int end, struct err *e)
{
    for (int i = r->job->first; i < end; i++) {
        r->index = i;
        if (!decode_latent(r, e))
            return false;
    }
    return true;
}

/* --- the job ------------------------------------------------------------------------------------ */

/* Stage: where it would fail after all the work. */
static bool files_writable(struct run *r, struct err *e)
{
    const struct job *j = r->job;
    r->stage = STAGE_SAVE;
    char *out = job_out_path(j, 0, e);
    bool ok = out && writable(out, e) && (!j->dump_stages || writable(j->dump_stages, e));
    if (ok && j->dump_stages && !strcmp(out, j->dump_stages))
        ok = err_set(e, ERR_INPUT, "%s cannot be both the picture and the stages", out);
    free(out);
    r->stage = ok ? STAGE_LOAD : STAGE_SAVE;
    return ok;
}

static bool open_all(struct run *r, struct err *e)
{
    char text[EVENT_TEXT_BYTES] = "";
    begin_stage(r, STAGE_LOAD);
    if (!pipeline_plan(r->p, r->job, &r->plan, text, e) || !buffers_open(r, e) || !arena_open(r, e))
        return false;
    if (r->p->devices.notice[0])
        notice(r, r->p->devices.notice);
    r->p->devices.notice[0] = '\0'; /* once is enough */
    if (text[0])
        notice(r, text);
    device_enter(r->p->devices.main, r);
    device_enter(r->p->devices.vae, r);
    if (r->job->preview == PREVIEW_AUTO && r->p->model->taef1[0] && !r->p->taef1) {
        snprintf(text, sizeof text, "previews without TAEF1: %s", r->p->taef1_why.text);
        notice(r, text);
    }
    if (!r->p->model->flux.guidance && r->job->guidance > 0)
        notice(r, "this model has no guidance embedding: guidance is ignored");
    return true;
}

/* All pictures, or until one fails or a stop. Of those before *latents the latents are kept, to be decoded. */
static bool run_pictures(struct run *r, bool deferred, int *latents, struct err *e)
{
    int pictures = job_pictures(r->job);
    bool ok = true;
    find_place(r);
    for (int i = r->job->first; ok && i < pictures; i++) {
        r->index = i;
        r->stages.open = r->stages.open && i == 0; /* only the first picture's stages */
        if (deferred)
            ok = latent_kept(r) || (make_latent(r, e) && keep_latent(r, e));
        else
            ok = make_latent(r, e) && make_picture(r, e);
        *latents += ok && deferred;
        if (ok && i + 1 < pictures && r->hooks->stop && r->hooks->stop(r->hooks->user) >= PIPELINE_CANCEL) {
            ok = err_set(e, ERR_CANCELLED, "cancelled after %d of %d pictures", i + 1, pictures);
            r->stage = STAGE_LOAD;
        }
    }
    return ok;
}

/* What was left of a job that was stopped or has failed. */
static void tell_end(struct run *r, int latents, struct err *e)
{
    int steps_done = r->stage == STAGE_FLUX ? r->step - 1 : r->stage > STAGE_FLUX ? r->job->steps : 0;
    int index = r->index;
    enum stage stage = r->stage;
    struct err why = { 0 };
    decode_kept(r, latents, &why);
    r->index = index;
    r->stage = stage;
    if (e->kind == ERR_CANCELLED) {
        keep_partial(r, steps_done);
    } else if (!r->failure_told) {
        struct event ev = news(r, EVENT_FAILED);
        ev.fault = e->kind;
        snprintf(ev.text, sizeof ev.text, "%s", e->text);
        emit(r, &ev);
    }
}

bool pipeline_run(struct pipeline *p, const struct job *j, uint64_t id, const struct pipeline_hooks *hooks,
                  struct err *e)
{
    struct run r = { .p = p, .job = j, .hooks = hooks, .id = id, .index = j->first, .heed = PIPELINE_CANCEL,
                     .prompt = -1,
                     .stages = { .open = j->dump_stages != NULL } };
    bool deferred = j->decode == DECODE_DEFERRED && job_pictures(j) > 1;
    int latents = j->first;
    clock_gettime(CLOCK_MONOTONIC, &r.began);
    set_working(p, true);
    bool ok = files_writable(&r, e) && open_all(&r, e) && run_pictures(&r, deferred, &latents, e);
    if (ok && deferred) {
        ok = decode_kept(&r, latents, e);
        latents = j->first;
    }
    if (ok)
        rates_keep(&r);
    else
        tell_end(&r, latents, e);
    run_close(&r);
    set_working(p, false);
    return ok;
}

bool pipeline_decode(struct pipeline *p, struct job *j, const char *latent, const struct pipeline_hooks *hooks,
                     struct err *e)
{
    struct record record = { 0 };
    struct run r = { .p = p, .job = j, .hooks = hooks, .id = 1, .heed = PIPELINE_ABANDON, .record = &record };
    struct tensor t = { 0 };
    char ignored[256];
    clock_gettime(CLOCK_MONOTONIC, &r.began);
    set_working(p, true);
    bool ok = files_writable(&r, e) && record_read_latent(&record, &t, latent, e);
    if (ok) {
        const struct vae_config *c = &p->model->vae;
        j->height = (int)t.shape[1] * c->factor;
        j->width = (int)t.shape[2] * c->factor;
        ok = t.shape[0] == c->latent_channels && t.shape[1] < JOB_SIZE_MAX && t.shape[2] < JOB_SIZE_MAX
                 ? job_check(j, ignored, e)
                 : err_set(e, ERR_INPUT, "%s: its latent has %lld channels of %lldx%lld, this model's VAE takes %d: "
                           "give the model it was made with", latent, (long long)t.shape[0], (long long)t.shape[2],
                           (long long)t.shape[1], c->latent_channels);
    }
    ok = ok && open_all(&r, e);
    if (ok) {
        struct event ev = news(&r, EVENT_STARTED);
        emit(&r, &ev);
        r.step = j->steps;
        memcpy(r.latent, t.data, tensor_bytes(t));
        ok = make_picture(&r, e);
    }
    if (!ok)
        tell_end(&r, j->first, e);
    free(t.data);
    record_free(&record);
    run_close(&r);
    set_working(p, false);
    return ok;
}
