/* golden.c - every stage computes what diffusers and transformers compute: the small
 * pipelines of tests/golden, each stage alone on the golden's own inputs.
 *
 * The bounds are those of test_golden.c, where they are explained: fp32 within 1e-4, bf16 and
 * fp16 no further from the truth than torch is itself, times a small factor. */
#include "tests/golden_files.h"

#include "engine/clip.h"
#include "engine/config.h"
#include "engine/flux.h"
#include "engine/job.h"
#include "engine/safetensors.h"
#include "engine/t5.h"
#include "engine/vae.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/stage.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double FP32_REL = 1e-4, FP32_MAX_FACTOR = 4, HALF_REL_FACTOR = 1.5, HALF_MAX_FACTOR = 3;

struct golden {
    const struct gpu *g;
    const char *name;
    struct device *device;
    enum precision precision;
    struct model model;
    struct safetensors *stages, *exact; /* diffusers in fp32; the truth for this precision */
    json_t *errors;                     /* torch's; NULL in fp32 */
    int width, height, steps;
    double worst;                       /* error over its bound */
    char worst_name[64];
    int compared;
};

static struct tensor find(const struct safetensors *s, const char *name, struct err *e)
{
    struct tensor t = { 0 };
    if (!safetensors_find(s, name, &t))
        err_set(e, ERR_INPUT, "%s has no tensor %s", safetensors_path(s), name);
    return t;
}

static double torch_error(const struct golden *k, const char *name, const char *which, struct err *e)
{
    char key[64];
    snprintf(key, sizeof key, "stage_%s_time", precision_name(k->precision));
    json_t *v = json_object_get(json_object_get(json_object_get(k->errors, key), name), which);
    if (!json_is_number(v))
        err_set(e, ERR_INPUT, "%s: no %s of %s in torch's errors", k->name, which, name);
    return json_number_value(v);
}

static bool compare(struct golden *k, const char *name, const float *a, struct err *e)
{
    struct tensor want = find(k->exact, name, e);
    if (!want.data)
        return false;
    const float *b = want.data;
    double error = 0, norm = 0, largest = 0, off = 0;
    for (int64_t i = 0; i < tensor_count(want); i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        error += d * d;
        norm += (double)b[i] * (double)b[i];
        largest = fmax(largest, fabs((double)b[i]));
        if (!(d <= off)) /* a NaN stays */
            off = d;
    }
    double rel = sqrt(error / norm), rel_bound = FP32_REL, bound = FP32_REL * FP32_MAX_FACTOR * largest;
    if (k->errors) {
        rel_bound = HALF_REL_FACTOR * torch_error(k, name, "rel", e);
        bound = HALF_MAX_FACTOR * torch_error(k, name, "max", e);
    }
    if (!(rel / rel_bound <= k->worst)) {
        k->worst = rel / rel_bound;
        snprintf(k->worst_name, sizeof k->worst_name, "%s", name);
    }
    k->compared++;
    return (rel <= rel_bound && off <= bound) ||
           err_set(e, ERR_DEVICE, "%s: relative error %.3g (bound %.3g), largest %.3g (bound %.3g)", name, rel,
                   rel_bound, off, bound);
}

/* --- the stages ------------------------------------------------------------------------ */
struct call {
    const struct golden *golden;
    const struct clip *clip;
    const struct t5 *t5;
    const struct flux *flux;
    const struct vae *vae;
    const int32_t *ids;
    struct flux_inputs inputs;
    const float *in;
    float *out;
    int rows, cols;
};

static bool run(struct golden *k, stage_fn *stage, struct call *c, size_t values, struct err *e)
{
    c->golden = k;
    c->out = calloc(values, sizeof *c->out);
    return c->out ? stage_run(k->device, stage, c, 1, NULL, e) : err_set(e, ERR_MEMORY, "out of memory");
}

static void run_clip(struct device *d, const void *user)
{
    const struct call *c = user;
    clip_encode(c->clip, d, c->ids, c->out);
}

static bool check_clip(struct golden *k, struct err *e)
{
    struct clip *clip = NULL;
    struct call c = { .ids = find(k->stages, "clip_ids", e).data };
    bool ok = c.ids && clip_open(&clip, &k->model, e);
    c.clip = clip;
    ok = ok && run(k, run_clip, &c, (size_t)k->model.clip.width, e) && compare(k, "clip_pooled", c.out, e);
    clip_close(clip);
    free(c.out);
    return ok;
}

static void run_t5(struct device *d, const void *user)
{
    const struct call *c = user;
    t5_encode(c->t5, d, c->ids, c->golden->model.t5.tokens, &(struct t5_pieces){ 0 }, c->out);
}

static bool check_t5(struct golden *k, struct err *e)
{
    struct t5 *t5 = NULL;
    struct call c = { .ids = find(k->stages, "t5_ids", e).data };
    bool ok = c.ids && t5_open(&t5, &k->model, e);
    c.t5 = t5;
    ok = ok && run(k, run_t5, &c, (size_t)k->model.t5.tokens * (size_t)k->model.t5.width, e) &&
         compare(k, "t5_hidden", c.out, e);
    t5_close(t5);
    free(c.out);
    return ok;
}

/* All steps, each from the golden's latent and not from the step before. */
static void run_flux(struct device *d, const void *user)
{
    const struct call *c = user;
    struct flux_tables tables;
    size_t mark = device_mark(d), size = (size_t)(c->rows * c->cols * c->golden->model.flux.in_channels);
    flux_begin(c->flux, d, &tables, &c->inputs);
    for (int i = 0; i < c->inputs.steps; i++)
        flux_step(c->flux, d, &tables, 0, i, c->in + (size_t)i * size, c->out + (size_t)i * size);
    device_release(d, mark);
}

static bool check_flux(struct golden *k, struct err *e)
{
    const struct vae_config *v = &k->model.vae;
    int channels = v->latent_channels, h = k->height / v->factor, w = k->width / v->factor;
    size_t size = (size_t)(channels * h * w);
    float *in = calloc(size * (size_t)(k->steps + 1), sizeof *in), *unpacked = in ? in + size * (size_t)k->steps : NULL;
    struct flux *flux = NULL;
    char name[32];
    struct call c = { .in = in, .rows = h / 2, .cols = w / 2 };
    c.inputs = (struct flux_inputs){ .text = k->model.t5.tokens, .rows = h / 2, .cols = w / 2, .steps = k->steps,
                                     .conditions = 1, .hidden = { find(k->exact, "t5_hidden", e).data },
                                     .pooled = { find(k->exact, "clip_pooled", e).data },
                                     .sigmas = find(k->stages, "sigmas", e).data,
                                     .guidance = strtof(safetensors_metadata(k->stages, "guidance"), NULL) };
    bool ok = in && e->kind == ERR_NONE;
    for (int i = 0; i < k->steps && ok; i++) {
        /* The truth's latent_00 is the same noise and is not stored again. */
        snprintf(name, sizeof name, "latent_%02d", i);
        struct tensor latent = find(i ? k->exact : k->stages, name, e);
        ok = latent.data;
        if (ok)
            flux_pack(in + (size_t)i * size, latent.data, channels, h, w);
    }
    ok = ok && flux_open(&flux, &k->model, e);
    c.flux = flux;
    ok = ok && run(k, run_flux, &c, size * (size_t)k->steps, e);
    for (int i = 0; i < k->steps && ok; i++) {
        flux_unpack(unpacked, c.out + (size_t)i * size, channels, h, w);
        snprintf(name, sizeof name, "velocity_%02d", i + 1);
        ok = compare(k, name, unpacked, e);
    }
    flux_close(flux);
    free(in);
    free(c.out);
    return ok;
}

static void run_decode(struct device *d, const void *user)
{
    const struct call *c = user;
    vae_decode(c->vae, d, &(struct vae_options){ 0 }, c->rows, c->cols, c->in, c->out);
}

static bool check_decode(struct golden *k, struct err *e)
{
    char name[32];
    size_t pixels = (size_t)(k->width * k->height);
    float *planes = calloc(3 * pixels, sizeof *planes);
    struct vae *vae = NULL;
    snprintf(name, sizeof name, "latent_%02d", k->steps);
    struct call c = { .rows = k->height / k->model.vae.factor, .cols = k->width / k->model.vae.factor,
                      .in = find(k->exact, name, e).data };
    bool ok = planes && c.in && vae_open(&vae, &k->model, false, e);
    c.vae = vae;
    ok = ok && run(k, run_decode, &c, 3 * pixels, e);
    for (size_t i = 0; i < 3 * pixels && ok; i++)
        planes[i % 3 * pixels + i / 3] = c.out[i];
    ok = ok && compare(k, "image", planes, e);
    vae_close(vae);
    free(planes);
    free(c.out);
    return ok;
}

static void run_encode(struct device *d, const void *user)
{
    const struct call *c = user;
    vae_encode(c->vae, d, &(struct vae_options){ 0 }, c->rows, c->cols, c->in, c->out);
}

static bool check_encode(struct golden *k, struct err *e)
{
    size_t pixels = (size_t)(k->width * k->height), factor = (size_t)k->model.vae.factor;
    float *in = calloc(3 * pixels, sizeof *in);
    const float *planes = find(k->stages, "encode_in", e).data;
    struct vae *vae = NULL;
    struct call c = { .rows = k->height, .cols = k->width, .in = in };
    bool ok = in && planes && vae_open(&vae, &k->model, true, e);
    for (size_t i = 0; i < 3 * pixels && ok; i++)
        in[i] = planes[i % 3 * pixels + i / 3];
    c.vae = vae;
    ok = ok && run(k, run_encode, &c, pixels / factor / factor * (size_t)k->model.vae.latent_channels, e) &&
         compare(k, "encode_mean", c.out, e);
    vae_close(vae);
    free(in);
    free(c.out);
    return ok;
}

/* --- all of them --------------------------------------------------------------------------- */
/* True also if this golden has nothing for the precision: then k->exact is NULL. */
static bool open_truth(struct golden *k, struct err *e)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX], name[64];
    const char *p = precision_name(k->precision);
    if (!file_join(dir, GOLDEN_DIR, k->name, e) || !file_join(path, dir, "stages.safetensors", e) ||
        !safetensors_open(&k->stages, path, e))
        return false;
    k->width = atoi(safetensors_metadata(k->stages, "width"));
    k->height = atoi(safetensors_metadata(k->stages, "height"));
    k->steps = atoi(safetensors_metadata(k->stages, "steps"));
    k->exact = k->stages;
    if (k->precision == PRECISION_FP32)
        return true;
    snprintf(name, sizeof name, "stages_f64_%s_time.safetensors", p);
    k->exact = NULL;
    if (!file_join(path, dir, name, e))
        return false;
    if (!file_exists(path))
        return true;
    snprintf(name, sizeof name, "%s_error.json", p);
    return safetensors_open(&k->exact, path, e) && file_join(path, dir, name, e) &&
           (k->errors = config_read(path, 1 << 20, 0, e));
}

static void check_golden(const struct gpu *g, struct device *d, enum precision p, const char *name, const char *folder)
{
    static const struct { const char *name; bool (*check)(struct golden *k, struct err *e); } stages[] = {
        { "CLIP", check_clip }, { "T5", check_t5 }, { "transformer", check_flux }, { "VAE decoder", check_decode },
        { "VAE encoder", check_encode }
    };
    struct golden k = { .g = g, .name = name, .device = d, .precision = p };
    struct err e = { 0 };
    char row[96];
    bool ok = open_truth(&k, &e) && (!k.exact || model_open(&k.model, folder, true, &e));
    int failed = 0;
    for (size_t i = 0; i < sizeof stages / sizeof *stages && ok && k.exact; i++) {
        struct err why = { 0 };
        if (stages[i].check(&k, &why))
            continue;
        failed++;
        snprintf(row, sizeof row, "%s in %s: %s", name, precision_name(p), stages[i].name);
        tell(g, FAILED, row, "%s", why.text);
    }
    snprintf(row, sizeof row, "golden %s in %s", name, precision_name(p));
    if (!ok)
        tell(g, FAILED, row, "%s", e.text);
    else if (k.exact && !failed)
        tell(g, PASSED, row, "%d tensors; the furthest, %s, at %.2f of its bound", k.compared, k.worst_name, k.worst);
    if (k.exact != k.stages)
        safetensors_close(k.exact);
    safetensors_close(k.stages);
    json_decref(k.errors);
}

void part_golden(const struct gpu *g)
{
    static const char *const names[] = { "dev96", "schnell128", "odd320", "wide256" };
    struct cuda_card card;
    struct err e = { 0 };
    char folder[4][FILE_PATH_MAX];
    bool ok = open_card(&card, &e);
    if (!ok) {
        tell(g, NOT_POSSIBLE, "golden stages", "%s", e.text);
        return;
    }
    int count = g->small ? 1 : 4;
    for (int i = 0; i < count && ok; i++)
        ok = file_join(folder[i], g->scratch, names[i], &e) && golden_write(names[i], folder[i], &e);
    for (enum precision p = 0; p < PRECISION_COUNT_ && ok; p++) {
        struct device *d;
        if (!card_has(&card, precision_dtype(p)))
            continue;
        ok = open_device(&d, precision_dtype(p), &e);
        for (int i = 0; i < count && ok; i++)
            check_golden(g, d, p, names[i], folder[i]);
        if (ok)
            device_free(d);
    }
    if (!ok)
        tell(g, FAILED, "golden stages", "%s", e.text);
}
