/* plan.c - see plan.h. */
#include "engine/plan.h"

#include "kernels/count.h"

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

/* Runs one phase on the count device. The steps stand on what the modulation
 * phase leaves in the arena, so that runs first, unrecorded. */
static void run_phase(enum phase phase, const struct models *m, const struct job *j, struct device *d, struct trace *t)
{
    int h = j->height / m->model->vae.factor, w = j->width / m->model->vae.factor;
    struct flux_tables tables;
    struct flux_inputs in = { .text = m->model->t5.tokens, .rows = h / 2, .cols = w / 2, .steps = j->steps,
                              .guidance = j->guidance };
    if (phase != PHASE_STEP)
        trace_record(t, d);
    switch (phase) {
    case PHASE_CLIP: clip_encode(m->clip, d, NULL, NULL); break;
    case PHASE_T5: t5_encode(m->t5, d, NULL, m->model->t5.tokens, NULL); break;
    case PHASE_MODULATION: flux_begin(m->flux, d, &tables, &in); break;
    case PHASE_STEP:
        flux_begin(m->flux, d, &tables, &in);
        d->arena.peak = d->arena.used;
        trace_record(t, d);
        flux_step(m->flux, d, &tables, 0, NULL, NULL);
        break;
    case PHASE_VAE: vae_decode(m->vae, d, &(struct vae_options){ 0 }, h, w, NULL, NULL); break;
    case PHASE_COUNT: break;
    }
}

static bool measure(struct plan *p, const struct models *m, const struct job *j, struct device *d, struct err *e)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct plan_phase *q = &p->phase[i];
        struct count_device c;
        count_device_init(&c, d);
        run_phase(i, m, j, &c.device, &q->trace);
        bool counted = device_sync(&c.device, e);
        if (!device_sync(d, e) || !counted) /* the target, too, must be clean for the next job */
            return err_prefix(e, "%s", phase_name(i));
        q->activations = c.device.arena.peak;
        q->repeats = i == PHASE_STEP ? (size_t)j->steps : 1;
        q->flops = count_sum(&c).flops;
    }
    p->phase[PHASE_STEP].flops -= p->phase[PHASE_MODULATION].flops;
    return true;
}

static void finish(struct plan *p)
{
    size_t transformer = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct plan_phase *q = &p->phase[i];
        size_t weights = placement_bytes(&q->placement);
        /* The two phases of the transformer share one region for weights. */
        if (phase_stage(i) == STAGE_FLUX && weights > transformer)
            transformer = weights;
        q->peak = q->activations + weights;
    }
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        struct plan_phase *q = &p->phase[i];
        if (phase_stage(i) == STAGE_FLUX)
            q->peak = q->activations + transformer;
        if (q->peak > p->arena_bytes)
            p->arena_bytes = q->peak;
    }
}

/* The larger of the transformer's two phases decides what is left for either's weights. */
static size_t stage_activations(const struct plan *p, enum phase phase)
{
    size_t most = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        if (phase_stage(i) == phase_stage(phase) && p->phase[i].activations > most)
            most = p->phase[i].activations;
    return most;
}

static size_t least_of(const struct plan *p, enum phase *where)
{
    size_t least = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        size_t need = stage_activations(p, i) + trace_largest(&p->phase[i].trace);
        if (need > least) {
            least = need;
            *where = i;
        }
    }
    return least;
}

bool plan_make(struct plan *p, const struct models *m, const struct job *j, struct device *d, size_t budget,
               struct err *e)
{
    memset(p, 0, sizeof *p);
    if (!measure(p, m, j, d, e))
        return false;
    enum phase where = PHASE_CLIP;
    size_t least = least_of(p, &where);
    if (budget == JOB_BUDGET_LEAST)
        budget = least;
    p->budget = budget;
    if (budget && budget < least)
        return err_set(e, ERR_MEMORY, "a budget of %zu bytes does not do: %dx%d needs at least %zu (%.1f MB), in %s",
                       budget, j->width, j->height, least, (double)least * 1e-6, stage_name(phase_stage(where)));
    for (enum phase i = 0; budget && i < PHASE_COUNT; i++) {
        size_t ignored;
        if (!placement_make(&p->phase[i].placement, &p->phase[i].trace, budget - stage_activations(p, i), &ignored, e))
            return err_set(e, ERR_MEMORY, "the plan: out of memory");
    }
    finish(p);
    return true;
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
