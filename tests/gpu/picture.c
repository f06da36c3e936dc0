/* picture.c - see picture.h. */
#include "tests/gpu/picture.h"

#include "tests/gpu/gpu.h"
#include "tests/gpu/watch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool picture_open(struct picture_model *m, const char *folder, struct err *e)
{
    memset(m, 0, sizeof *m);
    return model_open(&m->model, folder, true, e) && clip_open(&m->clip, &m->model, e) &&
           t5_open(&m->t5, &m->model, e) && flux_open(&m->flux, &m->model, e) && vae_open(&m->vae, &m->model, false, e);
}

void picture_close(struct picture_model *m)
{
    clip_close(m->clip);
    t5_close(m->t5);
    flux_close(m->flux);
    vae_close(m->vae);
}

void picture_free(struct picture *p)
{
    free(p->latent);
    free(p->image);
    memset(p, 0, sizeof *p);
}

struct run {
    const struct picture_model *m;
    struct device *d;
    const struct picture_wish *wish;
    struct picture *p;
    struct job job;
    struct plan plan;
    void *memory;
    unsigned char *kept;  /* text encoders that stay, in the arena; NULL: none do */
    struct pager *pager;
    double began;
    int h, w;
    float *pooled, *hidden, *sigmas, *packed, *velocity;
};

static bool buffers(struct run *r, struct err *e)
{
    const struct model *m = &r->m->model;
    struct picture *p = r->p;
    r->h = r->wish->height / m->vae.factor;
    r->w = r->wish->width / m->vae.factor;
    p->latent_count = (size_t)(m->vae.latent_channels * r->h * r->w);
    p->image_count = r->wish->clip_ids ? (size_t)(3 * r->wish->width * r->wish->height) : 0;
    p->latent = calloc(p->latent_count, sizeof(float));
    p->image = p->image_count ? calloc(p->image_count, sizeof(float)) : NULL;
    r->pooled = calloc((size_t)m->clip.width, sizeof(float));
    r->hidden = calloc((size_t)m->t5.tokens * (size_t)m->t5.width, sizeof(float));
    r->sigmas = calloc((size_t)r->wish->steps + 1, sizeof(float));
    r->packed = calloc(p->latent_count, sizeof(float));
    r->velocity = calloc(p->latent_count, sizeof(float));
    return (p->latent && (p->image || !p->image_count) && r->pooled && r->hidden && r->sigmas && r->packed &&
            r->velocity) || err_set(e, ERR_MEMORY, "out of memory");
}

static bool plan_it(struct run *r, struct err *e)
{
    struct models models = { &r->m->model, r->m->clip, r->m->t5, r->m->flux, r->m->vae, NULL };
    struct plan_devices devices = { r->d, r->d };
    struct plan_rates unknown = { 0 };
    double began = seconds_now();
    if (!job_init(&r->job, &r->m->model, e))
        return false;
    r->job.width = r->wish->width;
    r->job.height = r->wish->height;
    r->job.steps = r->wish->steps;
    r->job.guidance = r->wish->guidance;
    r->job.seed = r->wish->seed;
    bool ok = plan_make(&r->plan, &models, &r->job, &devices, &unknown, r->wish->budget, e) &&
              device_take(r->d, &r->memory, r->plan.arena_bytes, e);
    if (!ok)
        return false;
    const struct plan_phase *step = &r->plan.phase[PHASE_STEP];
    r->d->arena = arena_over(r->memory, r->plan.arena_bytes);
    if (r->plan.kept_bytes)
        r->kept = device_vector(r->d, DT_U8, (int64_t)r->plan.kept_bytes).data;
    r->p->arena = r->plan.arena_bytes;
    r->p->step_flops = step->flops;
    r->p->link_each = placement_link_bytes(&step->placement, &step->trace).each;
    r->p->plan = seconds_now() - began;
    return true;
}

/* Room for the weights of a phase and of the next, if it shares the stage. */
static void *room(struct run *r, enum phase phase)
{
    const struct plan_phase *q = r->plan.phase;
    if (r->kept && phase <= PHASE_T5)
        return r->kept + (phase == PHASE_T5 ? placement_bytes(&q[PHASE_CLIP].placement) : 0);
    size_t bytes = q[phase].peak - q[phase].activations - r->plan.kept_bytes;
    return bytes ? device_vector(r->d, DT_U8, (int64_t)bytes).data : NULL;
}

static bool weights_begin(struct run *r, enum phase phase, void *memory, size_t repeats, struct err *e)
{
    const struct plan_phase *q = &r->plan.phase[phase];
    struct pager_options o = { .repeats = repeats };
    return pager_begin(&r->pager, r->d, memory, &q->trace, &q->placement, &o, e);
}

static bool weights_end(struct run *r, struct err *e)
{
    bool ok = device_sync(r->d, e);
    struct device_memory m = device_memory(r->d);
    if (m.total && (!r->p->least_free || m.free < r->p->least_free))
        r->p->least_free = m.free;
    size_t used = watch_used();
    r->p->watched = used > r->p->watched ? used : r->p->watched;
    pager_end(r->pager);
    r->pager = NULL;
    return ok;
}

static bool all_finite(const float *x, size_t n, const char *what, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return err_set(e, ERR_DEVICE, "%s: the result is not finite", what);
    return true;
}

static bool encode(struct run *r, struct err *e)
{
    const struct model *m = &r->m->model;
    size_t pooled = (size_t)m->clip.width, hidden = (size_t)m->t5.tokens * (size_t)m->t5.width;
    if (!r->wish->clip_ids) { /* something of the size that text has */
        rng_normal(RNG_PHILOX, 1, r->pooled, pooled);
        rng_normal(RNG_PHILOX, 2, r->hidden, hidden);
        for (size_t i = 0; i < hidden; i++)
            r->hidden[i] *= 0.1f;
        return true;
    }
    for (enum phase phase = PHASE_CLIP; phase <= PHASE_T5; phase++) {
        double began = seconds_now();
        size_t mark = device_mark(r->d);
        bool ok = weights_begin(r, phase, room(r, phase), 1, e);
        if (ok && phase == PHASE_CLIP)
            clip_encode(r->m->clip, r->d, r->wish->clip_ids, r->pooled);
        else if (ok)
            t5_encode(r->m->t5, r->d, r->wish->t5_ids, m->t5.tokens, &r->plan.phase[phase].pieces.t5, r->hidden);
        ok = weights_end(r, e) && ok;
        device_release(r->d, mark);
        *(phase == PHASE_CLIP ? &r->p->clip : &r->p->t5) = seconds_now() - began;
        if (!ok)
            return err_prefix(e, "%s", phase_name(phase));
    }
    return all_finite(r->pooled, pooled, "CLIP", e) && all_finite(r->hidden, hidden, "T5", e);
}

static bool steps(struct run *r, const struct flux_tables *tables, struct err *e)
{
    struct picture *p = r->p;
    bool recorded = r->plan.phase[PHASE_STEP].ring == RING_NONE && !r->wish->no_repeat;
    for (int i = 0; i < r->wish->steps; i++) {
        double began = seconds_now();
        flux_pack(r->packed, p->latent, r->m->model.vae.latent_channels, r->h, r->w);
        if (recorded && i)
            device_repeat(r->d);
        flux_step(r->m->flux, r->d, tables, 0, i, r->packed, r->packed);
        if (!device_sync(r->d, e))
            return err_prefix(e, "step %d", i + 1);
        flux_unpack(r->velocity, r->packed, r->m->model.vae.latent_channels, r->h, r->w);
        sampler_euler(p->latent, r->velocity, r->sigmas[i], r->sigmas[i + 1], p->latent_count);
        double seconds = seconds_now() - began;
        if (i == 0) {
            p->first_step = seconds;
            p->preview = seconds_now() - r->began;
        } else if (i == 1 || seconds < p->step) {
            p->step = seconds;
        }
    }
    return all_finite(p->latent, p->latent_count, "transformer", e);
}

static bool sample(struct run *r, struct err *e)
{
    const struct model *m = &r->m->model;
    struct flux_tables tables;
    struct flux_inputs in = { .text = m->t5.tokens, .rows = r->h / 2, .cols = r->w / 2, .steps = r->wish->steps,
                              .conditions = 1, .hidden = { r->hidden }, .pooled = { r->pooled }, .sigmas = r->sigmas,
                              .guidance = r->wish->guidance, .chunk = r->plan.phase[PHASE_STEP].pieces.flux_chunk };
    schedule_sigmas(SCHEDULE_SIMPLE, &m->scheduler, r->h / 2 * (r->w / 2), r->wish->steps, r->sigmas);
    rng_normal(RNG_TORCH_CPU, r->wish->seed, r->p->latent, r->p->latent_count);
    size_t mark = device_mark(r->d);
    void *memory = room(r, PHASE_STEP);
    double began = seconds_now();
    bool ok = weights_begin(r, PHASE_MODULATION, memory, 1, e);
    if (ok)
        flux_begin(r->m->flux, r->d, &tables, &in);
    ok = weights_end(r, e) && ok;
    r->p->modulation = seconds_now() - began;
    ok = ok && weights_begin(r, PHASE_STEP, memory, (size_t)r->wish->steps, e);
    ok = ok && steps(r, &tables, e);
    ok = weights_end(r, e) && ok;
    device_release(r->d, mark);
    return ok;
}

static bool decode(struct run *r, struct err *e)
{
    double began = seconds_now();
    if (!r->p->image)
        return true;
    size_t mark = device_mark(r->d);
    bool ok = weights_begin(r, PHASE_VAE, room(r, PHASE_VAE), 1, e);
    if (ok)
        vae_decode(r->m->vae, r->d, &r->plan.phase[PHASE_VAE].pieces.vae, r->h, r->w, r->p->latent, r->p->image);
    ok = weights_end(r, e) && ok;
    device_release(r->d, mark);
    r->p->vae = seconds_now() - began;
    return ok && all_finite(r->p->image, r->p->image_count, "VAE", e);
}

bool picture_make(struct picture *p, const struct picture_model *m, struct device *d, const struct picture_wish *wish,
                  struct err *e)
{
    memset(p, 0, sizeof *p);
    struct run r = { .m = m, .d = d, .wish = wish, .p = p, .began = seconds_now() };
    bool ok = buffers(&r, e) && plan_it(&r, e) && encode(&r, e) && sample(&r, e) && decode(&r, e);
    d->arena = arena_over(NULL, 0);
    if (r.memory)
        device_give(d, r.memory);
    plan_free(&r.plan);
    job_free(&r.job);
    free(r.pooled);
    free(r.hidden);
    free(r.sigmas);
    free(r.packed);
    free(r.velocity);
    return ok;
}
