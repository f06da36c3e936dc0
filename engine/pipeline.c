/* pipeline.c - see pipeline.h. */
#include "engine/pipeline.h"

#include "engine/clip.h"
#include "engine/file.h"
#include "engine/flux.h"
#include "engine/memory.h"
#include "engine/sampler.h"
#include "engine/stages.h"
#include "engine/t5.h"
#include "engine/tok_clip.h"
#include "engine/tok_t5.h"
#include "engine/tok_text.h"
#include "engine/vae.h"
#include "kernels/cpu.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct pipeline {
    const struct model *model;
    struct device *device;
    enum precision precision; /* of the device */
    int threads;
    struct tok_clip *tok_clip;
    struct tok_t5 *tok_t5;
    struct clip *clip;
    struct t5 *t5;
    struct flux *flux;
    struct vae *vae;
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
    enum pipeline_stop heed;  /* a stop request at least this strong stops the device */
    struct event_memory memory;
    struct plan plan;
    struct pager *pager;      /* of the phase that is running; NULL without a budget */
    void *arena;
    struct stages stages;
    int h, w;                 /* latent */
    size_t latent_count;
    int32_t *clip_ids, *t5_ids;
    float *pooled, *hidden, *sigmas, *latent, *packed, *velocity, *x0, *image;
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
    return (struct event){ .kind = kind, .job = r->id, .index = r->index, .count = r->job->count, .stage = r->stage,
                           .step = r->step, .steps = r->job->steps, .width = r->job->width,
                           .height = r->job->height, .seed = r->job->seed + (uint64_t)r->index,
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

static void tell_memory(struct run *r)
{
    struct event ev = news(r, EVENT_MEMORY);
    struct memory_use use = memory_use();
    ev.memory = r->memory;
    if (r->p->device) {
        ev.memory.used_bytes = r->p->device->arena.used;
        ev.memory.peak_bytes = r->p->device->arena.peak;
    }
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

/* Of decoding: as measured, or until then as many operations at a step's rate. */
static double vae_estimate(const struct run *r)
{
    double step = (double)r->plan.phase[PHASE_STEP].flops, vae = (double)r->plan.phase[PHASE_VAE].flops;
    return r->vae_seconds > 0 || step <= 0 ? r->vae_seconds : r->step_seconds * vae / step;
}

/* Seconds left, when `done` of the step, or of decoding, is done; -1: unknown. */
static double eta(const struct run *r, double done)
{
    if (r->step_seconds <= 0)
        return -1;
    if (r->stage == STAGE_VAE)
        return vae_estimate(r) * (1 - done);
    if (r->stage != STAGE_FLUX)
        return -1;
    return ((double)(r->job->steps - (r->step - 1)) - done) * r->step_seconds + vae_estimate(r);
}

static void on_tick(void *user, int done, int total)
{
    struct run *r = user;
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
    return true;
}

void pipeline_free(struct pipeline *p)
{
    if (!p)
        return;
    tok_clip_close(p->tok_clip);
    tok_t5_close(p->tok_t5);
    clip_close(p->clip);
    t5_close(p->t5);
    flux_close(p->flux);
    vae_close(p->vae);
    cpu_device_free(p->device);
    free(p);
}

static bool fits_table(const char *tokenizer, int ids, const char *encoder, int vocab, struct err *e)
{
    if (ids <= vocab)
        return true;
    return err_set(e, ERR_INPUT, "%s has ids up to %d, but %s has an embedding of %d rows: they do not belong together",
                   tokenizer, ids - 1, encoder, vocab);
}

static bool load(struct pipeline *p, const struct job *j, struct err *e)
{
    const struct model *m = p->model;
    char dir[MODEL_PATH_MAX];
    if ((!p->tok_clip && !tok_clip_open(&p->tok_clip, model_part_dir(m, MODEL_TOK_CLIP, dir), e)) ||
        (!p->tok_t5 && !tok_t5_open(&p->tok_t5, model_part_dir(m, MODEL_TOK_T5, dir), e)) ||
        !fits_table("tokenizer", tok_clip_id_limit(p->tok_clip), "text_encoder", m->clip.vocab, e) ||
        !fits_table("tokenizer_2", tok_t5_id_limit(p->tok_t5), "text_encoder_2", m->t5.vocab, e) ||
        (!p->clip && !clip_open(&p->clip, m, e)) || (!p->t5 && !t5_open(&p->t5, m, e)) ||
        (!p->flux && !flux_open(&p->flux, m, e)) || (!p->vae && !vae_open(&p->vae, m, false, e)))
        return false;
    if (p->device && (p->precision != j->precision || p->threads != j->threads)) {
        cpu_device_free(p->device);
        p->device = NULL;
    }
    p->precision = j->precision;
    p->threads = j->threads;
    return p->device || cpu_device_new(&p->device, precision_dtype(j->precision), j->threads, e);
}

static struct flux_inputs flux_inputs(const struct run *r)
{
    return (struct flux_inputs){
        .text = r->p->model->t5.tokens, .rows = r->h / 2, .cols = r->w / 2, .steps = r->job->steps,
        .hidden = r->hidden, .pooled = r->pooled, .sigmas = r->sigmas, .guidance = r->job->guidance,
    };
}

static bool size_fits(const struct model *m, const struct job *j, struct err *e)
{
    int step = 2 * m->vae.factor;
    if (j->width % step == 0 && j->height % step == 0)
        return true;
    return err_set(e, ERR_INPUT, "size %dx%d: this model's VAE needs multiples of %d", j->width, j->height, step);
}

bool pipeline_plan(struct pipeline *p, const struct job *j, struct plan *plan, struct err *e)
{
    memset(plan, 0, sizeof *plan);
    if (!load(p, j, e) || !size_fits(p->model, j, e))
        return false;
    struct models m = { p->model, p->clip, p->t5, p->flux, p->vae };
    return plan_make(plan, &m, j, p->device, j->budget, e);
}

/* The plan into the arena, and into what is told of the memory. */
static bool arena_open(struct run *r, struct err *e)
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
    if (posix_memalign(&r->arena, 4096, m->arena_bytes)) {
        r->arena = NULL;
        return err_set(e, ERR_MEMORY, "%zu MB for %dx%d were refused: choose a smaller size%s", m->arena_bytes / 1000000,
                       r->job->width, r->job->height, r->plan.budget ? " or budget" : "");
    }
    p->device->arena = arena_over(r->arena, m->arena_bytes);
    return true;
}

/* Room in the arena for the weights of a phase (and of the next, if it shares
 * the stage): below the stage's activations, until the caller's release. */
static void *weights_room(struct run *r, enum phase phase)
{
    size_t bytes = r->plan.phase[phase].peak - r->plan.phase[phase].activations;
    return bytes ? device_vector(r->p->device, DT_U8, (int64_t)bytes).data : NULL;
}

/* From here on the phase's weights come through the pager, if there is a budget. */
static bool weights_begin(struct run *r, enum phase phase, void *room, struct err *e)
{
    const struct plan_phase *q = &r->plan.phase[phase];
    if (!device_ok(r->p->device)) /* no room: nothing may be copied there */
        return device_sync(r->p->device, e);
    return !r->plan.budget || pager_begin(&r->pager, r->p->device, room, &q->trace, &q->placement, q->repeats,
                                          r->job->link, e);
}

static void weights_end(struct run *r)
{
    pager_end(r->pager);
    r->pager = NULL;
}

/* A stage of one phase, between phase_begin and phase_end. */
static bool phase_begin(struct run *r, enum phase phase, size_t *mark, struct err *e)
{
    begin_stage(r, phase_stage(phase));
    *mark = device_mark(r->p->device);
    return weights_begin(r, phase, weights_room(r, phase), e);
}

/* Waits for the stage; gives its memory back. */
static bool phase_end(struct run *r, enum phase phase, size_t mark, struct err *e)
{
    bool ok = device_sync(r->p->device, e);
    weights_end(r);
    device_release(r->p->device, mark);
    return ok ? true : err_prefix(e, "%s", phase_name(phase));
}

static bool buffers_open(struct run *r, struct err *e)
{
    const struct model *m = r->p->model;
    size_t channels = (size_t)m->vae.latent_channels;
    r->h = r->job->height / m->vae.factor;
    r->w = r->job->width / m->vae.factor;
    r->latent_count = channels * (size_t)r->h * (size_t)r->w;
    r->clip_ids = calloc((size_t)m->clip.tokens, sizeof *r->clip_ids);
    r->t5_ids = calloc((size_t)m->t5.tokens, sizeof *r->t5_ids);
    r->pooled = calloc((size_t)m->clip.width, sizeof *r->pooled);
    r->hidden = calloc((size_t)m->t5.tokens * (size_t)m->t5.width, sizeof *r->hidden);
    r->sigmas = calloc((size_t)r->job->steps + 1, sizeof *r->sigmas);
    r->latent = calloc(r->latent_count, sizeof *r->latent);
    r->packed = calloc(r->latent_count, sizeof *r->packed);
    r->velocity = calloc(r->latent_count, sizeof *r->velocity);
    r->x0 = calloc(r->latent_count, sizeof *r->x0);
    r->image = calloc((size_t)r->job->width * (size_t)r->job->height * 3, sizeof *r->image);
    if (r->clip_ids && r->t5_ids && r->pooled && r->hidden && r->sigmas && r->latent && r->packed && r->velocity &&
        r->x0 && r->image)
        return true;
    return err_set(e, ERR_MEMORY, "out of memory");
}

static void run_close(struct run *r)
{
    free(r->clip_ids);
    free(r->t5_ids);
    free(r->pooled);
    free(r->hidden);
    free(r->sigmas);
    free(r->latent);
    free(r->packed);
    free(r->velocity);
    free(r->x0);
    free(r->image);
    weights_end(r);
    plan_free(&r->plan);
    free(r->arena);
    stages_free(&r->stages);
    struct device *d = r->p->device;
    if (d) {
        d->arena = arena_over(NULL, 0);
        d->interrupted = NULL;
        d->tick = NULL;
    }
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
            return err_set(e, ERR_INPUT, "%s: the result is not finite%s", stage_name(r->stage),
                           r->job->precision == PRECISION_BF16 ? ": try --precision fp32" : "");
        }
    return true;
}

static bool encode_text(struct run *r, struct err *e)
{
    struct pipeline *p = r->p;
    const struct model *m = p->model;
    const char *prompt = r->job->prompt;
    int used;
    size_t mark;
    bool cut_clip, cut_t5;
    if (!tok_clip_encode(p->tok_clip, prompt, strlen(prompt), r->clip_ids, m->clip.tokens, &used, &cut_clip, e) ||
        !tok_t5_encode(p->tok_t5, prompt, strlen(prompt), r->t5_ids, m->t5.tokens, &used, &cut_t5, e))
        return false;
    if (cut_t5) {
        char text[128];
        snprintf(text, sizeof text, "the prompt is longer than the %d tokens T5 takes: its end is left out", m->t5.tokens);
        notice(r, text);
    }
    if (!phase_begin(r, PHASE_CLIP, &mark, e))
        return false;
    clip_encode(p->clip, p->device, r->clip_ids, r->pooled);
    if (!phase_end(r, PHASE_CLIP, mark, e) ||
        !all_finite(r, r->pooled, (size_t)m->clip.width, clip_weights(p->clip), e) ||
        !phase_begin(r, PHASE_T5, &mark, e))
        return false;
    t5_encode(p->t5, p->device, r->t5_ids, m->t5.tokens, r->hidden);
    if (!phase_end(r, PHASE_T5, mark, e))
        return false;
    struct tensor hidden = tensor_2d(r->hidden, DT_F32, m->t5.tokens, m->t5.width);
    return all_finite(r, r->hidden, (size_t)tensor_count(hidden), t5_weights(p->t5), e) &&
           stages_add(&r->stages, tensor_1d(r->clip_ids, DT_I32, m->clip.tokens), e, "clip_ids") &&
           stages_add(&r->stages, tensor_1d(r->t5_ids, DT_I32, m->t5.tokens), e, "t5_ids") &&
           stages_add(&r->stages, tensor_1d(r->pooled, DT_F32, m->clip.width), e, "clip_pooled") &&
           stages_add(&r->stages, hidden, e, "t5_hidden");
}

static bool read_latents(struct run *r, struct err *e)
{
    const char *path = r->job->init_latents;
    struct safetensors *s;
    if (!safetensors_open(&s, path, e))
        return false;
    struct tensor t, want = tensor_3d(NULL, DT_F32, r->p->model->vae.latent_channels, r->h, r->w);
    char found[96], expected[96];
    bool ok = true;
    if (!safetensors_find(s, "latent", &t))
        ok = err_set(e, ERR_INPUT, "%s: no tensor named \"latent\"", path);
    else if (t.dtype != DT_F32 || !tensor_same_shape(t, want))
        ok = err_set(e, ERR_INPUT, "%s: latent is %s, but %dx%d needs %s", path,
                     tensor_describe(t, found, sizeof found), r->job->width, r->job->height,
                     tensor_describe(want, expected, sizeof expected));
    else
        memcpy(r->latent, t.data, tensor_bytes(t));
    for (size_t i = 0; ok && i < r->latent_count; i++)
        if (!isfinite(r->latent[i]))
            ok = err_set(e, ERR_INPUT, "%s: latent holds a value that is not finite at %zu", path, i);
    safetensors_close(s);
    return ok;
}

static struct tensor latent_tensor(const struct run *r, float *data)
{
    return tensor_3d(data, DT_F32, r->p->model->vae.latent_channels, r->h, r->w);
}

/* x0 through the model's least-squares matrix: one pixel per latent pixel. */
static void preview(struct run *r)
{
    const struct vae_config *c = &r->p->model->vae;
    if (!r->job->preview || !c->has_rgb)
        return;
    struct event ev = news(r, EVENT_PREVIEW);
    ev.image = image_new(r->w, r->h, NULL);
    if (!ev.image)
        return;
    size_t n = (size_t)r->h * (size_t)r->w;
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++) {
            float v = c->rgb_bias[k];
            for (int ch = 0; ch < c->latent_channels; ch++)
                v += c->rgb[ch][k] * r->x0[(size_t)ch * n + i];
            float byte = (v + 1) * 127.5f;
            ev.image->rgb[3 * i + (size_t)k] = (unsigned char)(byte > 0 ? byte < 255 ? byte + 0.5f : 255 : 0);
        }
    emit(r, &ev);
}

/* Noise to latent. On a stop, r->step - 1 whole steps are done and r->x0 is of
 * the last of them. */
static bool sample(struct run *r, struct err *e)
{
    struct pipeline *p = r->p;
    struct device *d = p->device;
    int channels = p->model->vae.latent_channels, steps = r->job->steps;
    begin_stage(r, STAGE_FLUX);
    r->step = 1;
    r->step_seconds = 0;
    sampler_sigmas(&p->model->scheduler, r->h / 2 * (r->w / 2), steps, r->sigmas);
    if (!r->job->init_latents)
        rng_normal(r->job->rng, r->job->seed + (uint64_t)r->index, r->latent, r->latent_count);
    else if (!read_latents(r, e))
        return false;
    if (!stages_add(&r->stages, tensor_1d(r->sigmas, DT_F32, steps + 1), e, "sigmas") ||
        !stages_add(&r->stages, latent_tensor(r, r->latent), e, "latent_00"))
        return false;
    struct flux_inputs in = flux_inputs(r);
    struct flux_tables tables;
    size_t mark = device_mark(d);
    void *room = weights_room(r, PHASE_STEP);
    if (!weights_begin(r, PHASE_MODULATION, room, e))
        return false;
    flux_begin(p->flux, d, &tables, &in);
    bool ok = device_sync(d, e);
    weights_end(r);
    ok = ok && weights_begin(r, PHASE_STEP, room, e);
    if (ok)
        tell_memory(r);
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (r->step = 1; ok && r->step <= steps; r->step++) {
        int i = r->step - 1;
        flux_pack(r->packed, r->latent, channels, r->h, r->w);
        flux_step(p->flux, d, &tables, i, r->packed, r->packed);
        ok = device_sync(d, e) && all_finite(r, r->packed, r->latent_count, flux_weights(p->flux), e);
        if (!ok)
            break;
        flux_unpack(r->velocity, r->packed, channels, r->h, r->w);
        sampler_x0(r->x0, r->latent, r->velocity, r->sigmas[i], r->latent_count);
        sampler_euler(r->latent, r->velocity, r->sigmas[i], r->sigmas[i + 1], r->latent_count);
        r->step_seconds = since(&began) / r->step;
        preview(r);
        ok = stages_add(&r->stages, latent_tensor(r, r->velocity), e, "velocity_%02d", r->step) &&
             stages_add(&r->stages, latent_tensor(r, r->latent), e, "latent_%02d", r->step);
    }
    weights_end(r);
    device_release(d, mark);
    return ok ? true : err_prefix(e, "transformer, step %d of %d", r->step, steps);
}

static bool decode(struct run *r, const float *latent, struct err *e)
{
    struct device *d = r->p->device;
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    size_t mark;
    if (!phase_begin(r, PHASE_VAE, &mark, e))
        return false;
    vae_decode(r->p->vae, d, &(struct vae_options){ 0 }, r->h, r->w, latent, r->image);
    if (!phase_end(r, PHASE_VAE, mark, e))
        return false;
    r->vae_seconds = since(&began);
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

/* A malloc'd copy as valid UTF-8, for names and prompts of any bytes; NULL: out of memory. */
static char *utf8_copy(const char *text)
{
    struct tok_buf clean = { 0 };
    if (tok_text_clean(&clean, text, strlen(text)) && tok_buf_add(&clean, "", 1))
        return clean.data;
    tok_buf_free(&clean);
    return NULL;
}

/* Every setting, so that the picture can be made again: JSON under "sluice",
 * and the line that A1111 and its readers know under "parameters". */
static bool save(const struct run *r, const struct image *im, const char *path, int steps_done, struct err *e)
{
    const struct job *j = r->job;
    unsigned long long seed = j->seed + (uint64_t)r->index;
    char *prompt = utf8_copy(j->prompt), *model = utf8_copy(r->p->model->name);
    char *init_latents = utf8_copy(j->init_latents ? j->init_latents : "");
    json_t *all = !prompt || !model || !init_latents ? NULL : json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:f, s:s, s:s, s:s, s:s}", "program", "sluice " SLUICE_VERSION, "model",
        model, "prompt", prompt, "width", j->width, "height", j->height, "steps", j->steps, "guidance",
        (double)j->guidance, "sampler", "euler", "schedule", "simple", "rng", rng_name(j->rng), "precision",
        precision_name(j->precision));
    /* Seeds go to 2^64 - 1, JSON's integers here to 2^63 - 1. */
    char digits[32];
    snprintf(digits, sizeof digits, "%llu", seed);
    bool ok = all && !json_object_set_new(all, "seed", seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_string(digits));
    if (ok && steps_done < j->steps)
        ok = !json_object_set_new(all, "steps_done", json_integer(steps_done));
    if (ok && j->init_latents)
        ok = !json_object_set_new(all, "init_latents", json_string(init_latents));
    char *json = ok ? json_dumps(all, JSON_COMPACT) : NULL, *parameters = NULL;
    if (json && asprintf(&parameters, "%s\nSteps: %d, Sampler: Euler, Schedule type: Simple, CFG scale: 1, "
                         "Distilled CFG Scale: %g, Seed: %llu, Size: %dx%d, Model: %s, RNG: %s, Version: sluice " SLUICE_VERSION,
                         prompt, j->steps, (double)j->guidance, seed, j->width, j->height, model,
                         rng_name(j->rng)) < 0)
        parameters = NULL;
    if (parameters) {
        struct image_text texts[] = { { "parameters", parameters }, { "sluice", json } };
        ok = image_write_png(im, path, texts, 2, e);
    } else {
        ok = err_set(e, ERR_MEMORY, "%s: out of memory", path);
    }
    free(parameters);
    free(json);
    json_decref(all);
    free(prompt);
    free(model);
    free(init_latents);
    return ok;
}

static bool finish(struct run *r, struct err *e)
{
    begin_stage(r, STAGE_SAVE);
    struct event ev = news(r, EVENT_DONE);
    char *path = job_out_path(r->job, r->index, e);
    ev.image = image_from_tensor(tensor_3d(r->image, DT_F32, r->job->height, r->job->width, 3), e);
    bool ok = path && ev.image && save(r, ev.image, path, r->job->steps, e) &&
              stages_write(&r->stages, r->job->dump_stages, e);
    ev.seconds = since(&r->began);
    ev.eta_seconds = 0;
    if (!ok)
        ev.kind = EVENT_FAILED;
    snprintf(ev.text, sizeof ev.text, "%s", ok ? path : e->text);
    emit(r, &ev);
    free(path);
    return ok;
}

/* "dir/name.png" -> "dir/name-partial.png" */
static char *partial_path(const struct run *r, struct err *e)
{
    char *path = job_out_path(r->job, r->index, e), *partial = NULL;
    if (path && asprintf(&partial, "%.*s-partial.png", (int)job_stem(path), path) < 0) {
        partial = NULL;
        err_set(e, ERR_MEMORY, "out of memory");
    }
    free(path);
    return partial;
}

/* After a cancel: what the last whole step promised is decoded and kept. */
static void keep_partial(struct run *r, int steps_done)
{
    struct err ignored = { 0 };
    struct event ev = news(r, EVENT_CANCELLED);
    r->heed = PIPELINE_ABANDON;
    r->stages.open = false;
    char *path = NULL;
    if (steps_done > 0 && !on_interrupted(r) && decode(r, r->x0, &ignored) && (path = partial_path(r, &ignored))) {
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
        return err_set(e, ERR_INPUT, "%s: there is no folder %s", path, dir);
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

static bool picture(struct run *r, struct err *e)
{
    clock_gettime(CLOCK_MONOTONIC, &r->began);
    r->stage = STAGE_LOAD;
    r->step = 0;
    r->heed = PIPELINE_CANCEL;
    struct event ev = news(r, EVENT_STARTED);
    emit(r, &ev);
    /* A batch has one prompt: its text is encoded once. */
    if ((r->index == 0 && !encode_text(r, e)) || !sample(r, e))
        return false;
    /* A cancel from here on changes nothing: decoding is what it would ask for. */
    r->heed = PIPELINE_ABANDON;
    return decode(r, r->latent, e) && finish(r, e);
}

bool pipeline_run(struct pipeline *p, const struct job *j, uint64_t id, const struct pipeline_hooks *hooks,
                  struct err *e)
{
    struct run r = { .p = p, .job = j, .hooks = hooks, .id = id, .heed = PIPELINE_CANCEL,
                     .stages = { .open = j->dump_stages != NULL } };
    clock_gettime(CLOCK_MONOTONIC, &r.began);
    char *out = job_out_path(j, 0, e);
    bool ok = out && writable(out, e) && (!j->dump_stages || writable(j->dump_stages, e));
    if (ok && j->dump_stages && !strcmp(out, j->dump_stages))
        ok = err_set(e, ERR_INPUT, "%s cannot be both the picture and the stages", out);
    free(out);
    if (ok) {
        begin_stage(&r, STAGE_LOAD);
        ok = pipeline_plan(p, j, &r.plan, e) && buffers_open(&r, e) && arena_open(&r, e);
    }
    if (ok) {
        p->device->interrupted = on_interrupted;
        p->device->tick = on_tick;
        p->device->user = &r;
        if (!p->model->flux.guidance && j->guidance > 0)
            notice(&r, "this model has no guidance embedding: guidance is ignored");
    }
    for (int i = 0; ok && i < j->count; i++) {
        r.index = i;
        r.stages.open = r.stages.open && i == 0; /* only the first picture's stages */
        ok = picture(&r, e);
        if (!ok)
            break;
        if (i + 1 < j->count && hooks->stop && hooks->stop(hooks->user) != PIPELINE_GO) {
            ok = err_set(e, ERR_CANCELLED, "cancelled after %d of %d pictures", i + 1, j->count);
            r.stage = STAGE_LOAD;
        }
    }
    if (!ok && e->kind == ERR_CANCELLED) {
        keep_partial(&r, r.stage == STAGE_FLUX ? r.step - 1 : r.stage > STAGE_FLUX ? j->steps : 0);
    } else if (!ok && r.stage != STAGE_SAVE) {
        struct event ev = news(&r, EVENT_FAILED);
        snprintf(ev.text, sizeof ev.text, "%s", e->text);
        emit(&r, &ev);
    }
    run_close(&r);
    return ok;
}
