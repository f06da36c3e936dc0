/* plan.c - see plan.h.
 *
 * A phase has choices: in pieces of what size, over which ring. Every choice has a need in bytes
 * and a predicted time, and of those that fit the quickest is taken; so more room is never slower.
 * Weights are made resident only beside the quickest choice of all: a slower one that left
 * room for some would give them up again at a larger budget. */
#include "engine/plan.h"

#include "kernels/count.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    enum stage stage;
} phases[PHASE_COUNT] = {
    [PHASE_CLIP] = { "CLIP", STAGE_CLIP },
    [PHASE_T5] = { "T5", STAGE_T5 },
    [PHASE_MODULATION] = { "modulation", STAGE_FLUX },
    [PHASE_STEP] = { "step", STAGE_FLUX },
    [PHASE_VAE] = { "VAE", STAGE_VAE },
};

const char *phase_name(enum phase p)
{
    return phases[p].name;
}

enum stage phase_stage(enum phase p)
{
    return phases[p].stage;
}

int plan_evaluations(const struct job *j)
{
    return job_conditions(j) * sampler_evaluations(j->sampler, j->steps);
}

/* --- measuring ------------------------------------------------------------------ */

enum { CHOICES_MAX = 8 };

/* The pieces that a phase may work in, quickest first, each measured when it is
 * first asked for. */
struct choices {
    struct pieces pieces[CHOICES_MAX];
    struct plan_phase made[CHOICES_MAX];
    int count, measured;
};

struct maker {
    struct plan *plan;
    const struct models *models;
    const struct job *job;
    const struct plan_devices *devices;
    struct plan_rates rates;
    struct choices choices[PHASE_COUNT];
    struct err *err;
};

static struct flux_inputs inputs_of(const struct maker *k, int chunk)
{
    int factor = 2 * k->models->model->vae.factor;
    return (struct flux_inputs){ .text = k->models->model->t5.tokens, .rows = k->job->height / factor,
                                 .cols = k->job->width / factor, .steps = k->job->steps,
                                 .conditions = job_conditions(k->job), .guidance = k->job->guidance, .chunk = chunk };
}

/* Runs one phase on the count device. The steps stand on what the modulation
 * phase leaves in the arena, so that runs first, unrecorded. */
static void run_phase(const struct maker *k, enum phase phase, const struct pieces *pieces, struct count_device *c,
                      struct trace *t)
{
    const struct models *m = k->models;
    struct device *d = &c->device;
    int h = k->job->height / m->model->vae.factor, w = k->job->width / m->model->vae.factor;
    struct flux_tables tables;
    struct flux_inputs in = inputs_of(k, pieces->flux_chunk);
    if (phase != PHASE_STEP)
        trace_record(t, d);
    switch (phase) {
    case PHASE_CLIP: clip_encode(m->clip, d, NULL, NULL); break;
    case PHASE_T5: t5_encode(m->t5, d, NULL, m->model->t5.tokens, &pieces->t5, NULL); break;
    case PHASE_MODULATION: flux_begin(m->flux, d, &tables, &in); break;
    case PHASE_STEP:
        flux_begin(m->flux, d, &tables, &in);
        d->arena.peak = d->arena.used;
        memset(c->op, 0, sizeof c->op);
        trace_record(t, d);
        flux_step(m->flux, d, &tables, 0, 0, NULL, NULL);
        break;
    case PHASE_VAE: vae_decode(m->vae, d, &pieces->vae, h, w, NULL, NULL); break;
    case PHASE_COUNT: break;
    }
}

static bool measure(const struct maker *k, enum phase phase, const struct pieces *pieces, struct plan_phase *q)
{
    struct device *target = phase == PHASE_VAE ? k->devices->vae : k->devices->main;
    struct count_device c;
    *q = (struct plan_phase){ .pieces = *pieces, .repeats = 1 };
    count_device_init(&c, target);
    run_phase(k, phase, pieces, &c, &q->trace);
    bool counted = device_sync(&c.device, k->err);
    if (!device_sync(target, k->err) || !counted) { /* the target, too, must be clean for the next job */
        trace_free(&q->trace);
        return err_prefix(k->err, "%s", phase_name(phase));
    }
    q->activations = c.device.arena.peak;
    q->flops = count_sum(&c).flops;
    if (phase == PHASE_STEP)
        q->repeats = (size_t)plan_evaluations(k->job);
    else if (phase == PHASE_CLIP || phase == PHASE_T5)
        q->repeats = (size_t)job_conditions(k->job);
    return true;
}

/* A preview of the latent at that scale: it stands on what steps stand on. */
static bool measure_preview(const struct maker *k, int scale, struct plan_preview *v)
{
    const struct models *m = k->models;
    struct device *target = k->devices->main;
    struct count_device c;
    struct flux_tables tables;
    struct flux_inputs in = inputs_of(k, 0);
    count_device_init(&c, target);
    flux_begin(m->flux, &c.device, &tables, &in);
    c.device.arena.peak = c.device.arena.used;
    memset(c.op, 0, sizeof c.op);
    taef1_decode(m->taef1, &c.device, scale, 2 * in.rows, 2 * in.cols, NULL, NULL);
    bool counted = device_sync(&c.device, k->err);
    if (!device_sync(target, k->err) || !counted)
        return err_prefix(k->err, "preview");
    *v = (struct plan_preview){ .scale = scale, .weights = taef1_bytes(m->taef1), .activations = c.device.arena.peak,
                                .repeats = (size_t)k->job->steps, .flops = count_sum(&c).flops };
    return true;
}

/* --- predicting --------------------------------------------------------------------- */

/* Rates that only serve to order choices where none have been measured: those of
 * a card of 30 TFLOP/s on a link of 12 GB/s. */
static const struct plan_rates nominal = { 30e12, 30e12, 12e9, 0 };

/* Work in pieces is slower: every piece goes through the weights again. This
 * many rows more would have cost as much (measured: tests/bench/NOTES.md). */
enum { PIECE_ROWS = 10 };

static double compute_seconds(const struct plan_rates *r, enum phase phase, const struct plan_phase *q)
{
    double rate = phase == PHASE_VAE ? r->vae_flops : r->flops, seconds = (double)q->flops / rate;
    int rows = phase == PHASE_STEP ? q->pieces.flux_chunk : phase == PHASE_T5 ? q->pieces.t5.chunk : 0;
    return rows ? seconds * (1 + (double)PIECE_ROWS / rows) : seconds;
}

/* Of all repetitions. A full ring hides the shorter of computing and
 * transfer behind the longer; one for two groups most of it; a single place
 * nothing. Resident weights arrive during the first repetition. */
static double phase_seconds(const struct plan_rates *r, enum phase phase, const struct plan_phase *q, enum ring ring,
                            struct link_bytes bytes)
{
    double compute = compute_seconds(r, phase, q), link = (double)bytes.each / r->link;
    double shorter = compute < link ? compute : link, longer = compute < link ? link : compute;
    double exposed = ring == RING_SINGLE ? 1 : ring == RING_DOUBLE ? 0.15 : 0;
    double first = (double)(bytes.once + bytes.each) / r->link;
    double rest = (double)(q->repeats - 1) * (longer + exposed * shorter);
    return rest + (first > longer ? first : longer) + exposed * shorter;
}

/* --- choosing ------------------------------------------------------------------------- */

/* Whole, then bands of falling height; each of them unless the job says which. */
static int vae_choices(const struct maker *k, struct pieces out[CHOICES_MAX])
{
    const struct job *j = k->job;
    int n = 0, band = 0;
    if (j->vae == VAE_TILES) {
        out[0].vae = (struct vae_options){ .tile = j->vae_tile, .overlap = j->vae_overlap };
        return 1;
    }
    if (j->vae != VAE_BANDS)
        out[n++].vae.band = 0;
    if (j->vae != VAE_WHOLE && j->vae_band != JOB_AUTO)
        out[n++].vae.band = j->vae_band;
    while (j->vae != VAE_WHOLE && j->vae_band == JOB_AUTO && n < CHOICES_MAX && vae_smaller_band(&band))
        out[n++].vae.band = band;
    return n;
}

/* All T5 tokens at once, then fewer. Alone, each chunk is what CLIP's window holds: the article's 77. */
static int t5_choices(const struct maker *k, struct pieces out[CHOICES_MAX])
{
    static const int chunks[] = { 0, 256, 128, 64 };
    const struct job *j = k->job;
    bool independent = j->t5_chunk_mode == T5_CHUNK_INDEPENDENT;
    int n = 0, given = j->t5_chunk == JOB_OFF ? 0 : j->t5_chunk;
    if (j->t5_chunk != JOB_AUTO || independent) {
        out[0].t5 = (struct t5_pieces){ j->t5_chunk == JOB_AUTO ? 77 : given, independent };
        return 1;
    }
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        if (chunks[i] < k->models->model->t5.tokens)
            out[n++].t5.chunk = chunks[i];
    return n;
}

static int flux_choices(const struct maker *k, struct pieces out[CHOICES_MAX])
{
    static const int chunks[] = { 0, 2048, 1024, 512, 256, 128 };
    const struct job *j = k->job;
    int factor = 2 * k->models->model->vae.factor, n = 0;
    int tokens = k->models->model->t5.tokens + j->height / factor * (j->width / factor);
    if (j->recompute != JOB_AUTO) {
        out[0].flux_chunk = j->recompute == JOB_OFF ? 0 : j->recompute;
        return 1;
    }
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        if (chunks[i] < tokens)
            out[n++].flux_chunk = chunks[i];
    return n;
}

static int list_choices(const struct maker *k, enum phase phase, struct pieces out[CHOICES_MAX])
{
    switch (phase) {
    case PHASE_STEP: return flux_choices(k, out);
    case PHASE_T5: return t5_choices(k, out);
    case PHASE_VAE: return vae_choices(k, out);
    default: return 1;
    }
}

static void list_all(struct maker *k)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        k->choices[i].count = list_choices(k, i, k->choices[i].pieces);
}

/* Choice i of the phase, measured. NULL: a failure. */
static const struct plan_phase *choice_at(struct maker *k, enum phase phase, int i)
{
    struct choices *c = &k->choices[phase];
    for (; c->measured <= i; c->measured++)
        if (!measure(k, phase, &c->pieces[c->measured], &c->made[c->measured]))
            return NULL;
    return &c->made[i];
}

static void choices_free(struct maker *k)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        for (int n = 0; n < k->choices[i].measured; n++)
            trace_free(&k->choices[i].made[n].trace);
}

/* What a phase may take, and what is asked of it. */
struct room {
    size_t bytes;       /* of the arena */
    size_t activations; /* at least this much: what the stage's other phase, at another time, needs of the same place */
    size_t weights;     /* the same, of its smallest ring */
    bool all_resident;  /* the job wants all weights on the device while the phase runs */
    bool may_keep;      /* weights may stay: they are used again */
};

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* With nothing resident, or with everything (RING_NONE). */
static size_t need_of(const struct room *r, const struct plan_phase *q, enum ring ring)
{
    size_t weights = ring == RING_NONE ? trace_bytes(&q->trace) : ring_bytes(&q->trace, ring);
    return larger(q->activations, r->activations) + larger(weights, r->weights);
}

static double seconds_of(const struct maker *k, enum phase phase, const struct plan_phase *q, enum ring ring)
{
    struct link_bytes all = { .each = trace_each(&q->trace) }, once = { .once = trace_bytes(&q->trace) };
    return phase_seconds(&k->rates, phase, q, ring, ring == RING_NONE ? once : all);
}

/* Weights beside the quickest choice, as many as there is room for. */
static bool place(const struct maker *k, const struct room *r, struct plan_phase *q, bool quickest)
{
    size_t left = 0;
    if (q->ring != RING_NONE && quickest && r->may_keep) {
        if (need_of(r, q, RING_NONE) <= r->bytes)
            q->ring = RING_NONE;
        else
            left = r->bytes - need_of(r, q, q->ring);
    }
    return placement_make(&q->placement, &q->trace, q->ring, left, k->err);
}

/* A choice into the plan, with a trace of its own. */
static bool adopt(const struct maker *k, struct plan_phase *q, const struct plan_phase *choice, enum ring ring)
{
    trace_free(&q->trace);
    placement_free(&q->placement);
    *q = *choice;
    q->ring = ring;
    if (trace_copy(&q->trace, &choice->trace))
        return true;
    return err_set(k->err, ERR_MEMORY, "out of memory");
}

/* The quickest choice that fits, or with all else the same the smallest, into
 * *q. False: out of memory, or nothing fits: then *least is what would. */
static bool choose(struct maker *k, enum phase phase, const struct room *r, struct plan_phase *q, size_t *least)
{
    enum ring widest = r->all_resident ? RING_NONE : RING_FULL, least_ring = r->all_resident ? RING_NONE : RING_SINGLE;
    enum ring best_ring = widest;
    const struct plan_phase *best = NULL;
    double best_seconds = 0;
    bool quickest = false;
    *least = SIZE_MAX;
    for (int i = 0; i < k->choices[phase].count && !quickest; i++) {
        const struct plan_phase *t = choice_at(k, phase, i);
        if (!t)
            return false;
        if (need_of(r, t, least_ring) < *least)
            *least = need_of(r, t, least_ring);
        for (enum ring ring = least_ring; ring <= widest; ring++) {
            double seconds = seconds_of(k, phase, t, ring);
            if (need_of(r, t, ring) > r->bytes || (best && seconds >= best_seconds))
                continue;
            best = t;
            best_ring = ring;
            best_seconds = seconds;
            quickest = i == 0 && ring == widest;
        }
    }
    return best && adopt(k, q, best, best_ring) && place(k, r, q, quickest);
}

/* --- previews ------------------------------------------------------------------------------ */

enum { PREVIEW_SCALE_MOST = 4, PREVIEW_SHARE = 10 }; /* of a step's work, for `auto`: one part in that many */

/* Scales that TAEF1 may work at: those that divide the latent. */
static bool preview_divides(const struct maker *k, int scale)
{
    int side = k->models->model->vae.factor * scale;
    return k->job->height % side == 0 && k->job->width % side == 0;
}

static bool may_preview(const struct maker *k)
{
    return k->models->taef1 && (k->job->preview == PREVIEW_AUTO || k->job->preview == PREVIEW_TAEF1);
}

/* What the smallest preview needs beside the transformer's weights, if the job insists on it; else 0. */
static bool preview_least(const struct maker *k, size_t *bytes)
{
    struct plan_preview v = { 0 };
    int scale = PREVIEW_SCALE_MOST;
    while (!preview_divides(k, scale))
        scale /= 2;
    bool ok = !may_preview(k) || k->job->preview != PREVIEW_TAEF1 || measure_preview(k, scale, &v);
    *bytes = v.activations;
    return ok;
}

/* The largest for which there is room, and unless it is insisted on time, beside weights of that many bytes. */
static bool choose_preview(const struct maker *k, size_t weights)
{
    struct plan *p = k->plan;
    size_t room = larger(p->budget, p->arena_bytes);
    for (int scale = 1; may_preview(k) && scale <= PREVIEW_SCALE_MOST && preview_divides(k, scale); scale *= 2) {
        struct plan_preview v;
        if (!measure_preview(k, scale, &v))
            return false;
        v.peak = p->kept_bytes + weights + v.activations;
        bool cheap = v.flops * v.repeats * PREVIEW_SHARE <= p->phase[PHASE_STEP].flops * p->phase[PHASE_STEP].repeats;
        if ((v.peak > room || !cheap) && k->job->preview == PREVIEW_AUTO)
            continue;
        p->preview = v; /* insisted on without a budget: the smallest, whatever it takes */
        if (v.peak <= room)
            break;
    }
    p->arena_bytes = larger(p->arena_bytes, p->preview.peak);
    return true;
}

/* --- the whole job ------------------------------------------------------------------------ */

/* The setting that asks for so much, if there is one. */
static const char *less_with(const struct job *j, enum phase where)
{
    if (j->text_encoders == TEXT_ENCODERS_RESIDENT)
        return "; text_encoders: auto may do with less";
    if (phase_stage(where) == STAGE_FLUX && j->preview == PREVIEW_TAEF1)
        return "; preview: auto may do with less";
    if (phase_stage(where) == STAGE_FLUX && j->transformer == TRANSFORMER_RESIDENT)
        return "; transformer: auto may do with less";
    if (where == PHASE_VAE && j->vae == VAE_WHOLE)
        return "; vae: auto may do with less";
    return "";
}

static bool out_of_budget(const struct maker *k, size_t budget, size_t least, enum phase where)
{
    return err_set(k->err, ERR_BUDGET, "a budget of %zu bytes does not do: %dx%d needs at least %zu (%.1f MB), in %s%s",
                   budget, k->job->width, k->job->height, least, (double)least * 1e-6, stage_name(phase_stage(where)),
                   less_with(k->job, where));
}

/* Where weights lie does not matter: the first choice of everything. */
static bool plan_in_place(struct maker *k)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *first = choice_at(k, i, 0);
        if (!first || !adopt(k, &k->plan->phase[i], first, RING_NONE))
            return false;
    }
    return true;
}

/* All phases within `budget` bytes, the text encoders' weights kept aside or not. On
 * failure for want of room *least and *where say what would do: of all phases the most. */
static bool plan_within(struct maker *k, size_t budget, bool keep_encoders, size_t *least, enum phase *where)
{
    const struct job *j = k->job;
    struct plan_phase *q = k->plan->phase;
    const struct plan_phase *clip = choice_at(k, PHASE_CLIP, 0), *t5 = choice_at(k, PHASE_T5, 0);
    const struct plan_phase *modulation = choice_at(k, PHASE_MODULATION, 0);
    bool fits = true;
    size_t preview;
    *least = 0;
    if (!clip || !t5 || !modulation || !preview_least(k, &preview))
        return false;
    size_t kept[PHASE_COUNT] = { 0 };
    if (keep_encoders) {
        kept[PHASE_CLIP] = trace_bytes(&clip->trace);
        kept[PHASE_T5] = trace_bytes(&t5->trace);
    }
    size_t all_kept = k->plan->kept_bytes = kept[PHASE_CLIP] + kept[PHASE_T5];
    struct room room[PHASE_COUNT] = {
        [PHASE_CLIP] = { .all_resident = keep_encoders || j->text_encoders == TEXT_ENCODERS_ALTERNATE },
        [PHASE_STEP] = { .activations = larger(modulation->activations, preview),
                         .weights = trace_widest(&modulation->trace),
                         .all_resident = j->transformer == TRANSFORMER_RESIDENT,
                         .may_keep = j->transformer != TRANSFORMER_OFFLOAD },
    };
    room[PHASE_T5] = room[PHASE_CLIP];
    static const enum phase order[PHASE_COUNT] = { PHASE_CLIP, PHASE_T5, PHASE_STEP, PHASE_MODULATION, PHASE_VAE };
    for (int i = 0; i < PHASE_COUNT; i++) {
        enum phase phase = order[i];
        size_t need, beside = all_kept - kept[phase]; /* its own weights lie among the kept */
        room[phase].bytes = budget > beside ? budget - beside : 0;
        if (phase == PHASE_MODULATION)
            room[phase].activations = larger(q[PHASE_STEP].activations, preview);
        if (choose(k, phase, &room[phase], &q[phase], &need))
            continue;
        if (k->err->kind != ERR_NONE)
            return false;
        fits = false;
        if (need + beside > *least) {
            *least = need + beside;
            *where = phase;
        }
    }
    return fits;
}

/* Keeping the text encoders costs nothing: everything else is as with all the memory there is. */
static bool unhindered(const struct plan *p)
{
    bool all = p->phase[PHASE_STEP].ring == RING_NONE;
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        all = all && p->phase[i].ring >= RING_FULL && !p->phase[i].pieces.vae.band && !p->phase[i].pieces.flux_chunk;
    return all;
}

static bool finish(const struct maker *k)
{
    struct plan *p = k->plan;
    size_t transformer = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        /* The two phases of the transformer share one region for weights. */
        if (phase_stage(i) == STAGE_FLUX)
            transformer = larger(transformer, placement_bytes(&p->phase[i].placement));
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct plan_phase *q = &p->phase[i];
        bool kept = p->kept_bytes && i <= PHASE_T5;
        size_t weights = phase_stage(i) == STAGE_FLUX ? transformer : kept ? 0 : placement_bytes(&q->placement);
        q->peak = p->kept_bytes + weights + q->activations;
        p->arena_bytes = larger(p->arena_bytes, q->peak);
    }
    return choose_preview(k, transformer);
}

/* Seconds, from measured rates only. */
static void predict(struct plan *p, const struct plan_rates *r)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct plan_phase *q = &p->phase[i];
        struct link_bytes bytes = placement_link_bytes(&q->placement, &q->trace);
        double rate = i == PHASE_VAE ? r->vae_flops : r->flops;
        bool known = rate > 0 && (r->link > 0 || bytes.once + bytes.each == 0);
        q->seconds = known ? phase_seconds(r, i, q, q->ring, bytes) : 0;
        p->disk_seconds += r->disk > 0 ? (double)trace_bytes(&q->trace) / r->disk : 0;
    }
    if (r->flops > 0)
        p->preview.seconds = (double)(p->preview.flops * p->preview.repeats) / r->flops;
}

static bool make(struct maker *k, size_t budget)
{
    struct plan *p = k->plan;
    const struct job *j = k->job;
    enum phase where = PHASE_CLIP;
    bool resident = j->text_encoders == TEXT_ENCODERS_RESIDENT;
    size_t least;
    if (budget == JOB_BUDGET_LEAST) {
        if (!plan_within(k, 0, resident, &least, &where) && k->err->kind != ERR_NONE)
            return false;
        budget = least;
    }
    p->budget = budget;
    if (!budget)
        return plan_in_place(k);
    /* Several prompts: encoders that stay are not brought again, if nothing has to go for them. */
    bool keep = resident || (j->text_encoders == TEXT_ENCODERS_AUTO && j->more_count > 0);
    bool ok = plan_within(k, budget, keep, &least, &where);
    if (k->err->kind == ERR_NONE && keep && !resident && !(ok && unhindered(p)))
        ok = plan_within(k, budget, false, &least, &where);
    return ok || (k->err->kind == ERR_NONE && out_of_budget(k, budget, least, where));
}

bool plan_make(struct plan *p, const struct models *m, const struct job *j, const struct plan_devices *d,
               const struct plan_rates *rates, size_t budget, struct err *e)
{
    memset(p, 0, sizeof *p);
    struct maker k = { .plan = p, .models = m, .job = j, .devices = d, .rates = *rates, .err = e };
    if (!(rates->flops > 0 && rates->vae_flops > 0 && rates->link > 0))
        k.rates = nominal;
    list_all(&k);
    bool ok = make(&k, budget);
    ok = ok && finish(&k);
    choices_free(&k);
    if (ok)
        predict(p, rates);
    return ok;
}

void plan_free(struct plan *p)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        trace_free(&p->phase[i].trace);
        placement_free(&p->phase[i].placement);
    }
    memset(p, 0, sizeof *p);
}

size_t plan_link_bytes(const struct plan *p)
{
    size_t bytes = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct link_bytes n = placement_link_bytes(&p->phase[i].placement, &p->phase[i].trace);
        bytes += n.once + n.each * p->phase[i].repeats;
    }
    return bytes;
}

double plan_seconds(const struct plan *p)
{
    double seconds = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        if (p->phase[i].seconds <= 0)
            return 0;
        seconds += p->phase[i].seconds;
    }
    return seconds;
}

enum phase plan_top(const struct plan *p)
{
    enum phase top = PHASE_CLIP;
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        if (p->phase[i].peak > p->phase[top].peak)
            top = i;
    return p->preview.peak > p->phase[top].peak ? PHASE_STEP : top;
}

void plan_pieces_text(const struct pieces *c, char text[48])
{
    text[0] = '\0';
    if (c->flux_chunk)
        snprintf(text, 48, "%d tokens at a time", c->flux_chunk);
    else if (c->t5.chunk)
        snprintf(text, 48, "%d tokens %s", c->t5.chunk, c->t5.independent ? "alone: another picture" : "at a time");
    else if (c->vae.band)
        snprintf(text, 48, "bands of %d px", c->vae.band);
    else if (c->vae.tile)
        snprintf(text, 48, "tiles of %d px: another picture", c->vae.tile * 8);
}

void plan_summarise(const struct plan *p, struct plan_summary *s)
{
    *s = (struct plan_summary){ .ok = true, .budget = p->budget, .arena = p->arena_bytes, .kept = p->kept_bytes,
                                .link = plan_link_bytes(p), .seconds = plan_seconds(p), .disk_seconds = p->disk_seconds,
                                .top = plan_top(p), .preview_scale = p->preview.scale,
                                .preview_peak = p->preview.peak };
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *q = &p->phase[i];
        struct link_bytes n = placement_link_bytes(&q->placement, &q->trace);
        s->phase[i] = (struct plan_part){
            .weights = trace_bytes(&q->trace), .resident = q->placement.resident_bytes, .ring = q->placement.ring_bytes,
            .activations = q->activations, .peak = q->peak, .link = n.once + n.each * q->repeats, .seconds = q->seconds,
        };
        plan_pieces_text(&q->pieces, s->phase[i].how);
    }
}
