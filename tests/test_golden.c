/* test_golden.c - every stage computes what diffusers and transformers compute.
 *
 * For each pipeline of tests/golden (see make_golden.py there) the model folder
 * is made in a temporary place (golden_model.h), then the stages run on the cpu device:
 *   - each stage alone on the golden's own inputs, in exactly as much arena as
 *     the count device says that it needs;
 *   - all of them by pipeline_run from the golden's prompt and seed, to the PNG;
 *   - what make_variants.py runs another way: with a negative prompt, k-diffusion's
 *     samplers, T5 in independent chunks; and the VAE's encoder in bands;
 * in fp32 within 1e-4 of diffusers' fp32, and in bf16 and fp16 no further from the fp64
 * truth than 1.5 times what torch's is in the same type (fp16: two of the pipelines). GOLDEN_VERBOSE=1 prints every
 * error beside its bound. Does not test single operations (test_ops), speed, or
 * full-size models. */
#include "engine/clip.h"
#include "engine/config.h"
#include "engine/file.h"
#include "engine/flux.h"
#include "engine/image.h"
#include "engine/job.h"
#include "engine/model.h"
#include "engine/pipeline.h"
#include "engine/rng.h"
#include "engine/safetensors.h"
#include "engine/t5.h"
#include "engine/tok_clip.h"
#include "engine/tok_t5.h"
#include "engine/vae.h"
#include "kernels/count.h"
#include "kernels/cpu.h"
#include "tests/golden_model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

/* ||a-b||2 <= 1e-4 ||b||2. If the error is spread like a Gaussian's, its
 * largest of 100,000 values is some 4.5 times its root mean square, and max|b|
 * is above b's, so 4 times the bound on max|b| is what fits the first bound. */
static const double FP32_REL = 1e-4, FP32_MAX_FACTOR = 4;
/* Times torch's own error in the same type, in the root mean square; a largest element is
 * one draw from the tail, in torch's figure too, and scatters more. */
static const double HALF_REL_FACTOR = 1.5, HALF_MAX_FACTOR = 3;

static const char *const golden_names[] = { "dev96", "schnell128", "odd320", "wide256" };
/* Of make_variants.py: other jobs of the first. "cfg", the first, is in bf16 too. */
static const char *const variant_names[] = { "cfg", "heun", "dpmpp_2m" };
enum { GOLDEN_COUNT = sizeof golden_names / sizeof golden_names[0],
       VARIANT_COUNT = sizeof variant_names / sizeof variant_names[0], PATH_SIZE = FILE_PATH_MAX };

struct golden {
    const char *name;
    char dir[PATH_SIZE];         /* the model folder made for this run */
    struct model model;
    struct safetensors *stages;  /* diffusers in fp32 */
    struct {
        struct safetensors *exact; /* the truth; time rounded as the engine rounds it in this precision */
        json_t *errors;            /* torch's */
    } half[PRECISION_COUNT_];      /* bf16; fp16 where fp16_too */
    bool fp16_too;
    const char *prompt, *negative;
    int width, height, steps;
    float guidance, cfg;
    enum sampler_kind sampler;
    uint64_t noise_seed;
};

static char work[PATH_SIZE];
static struct golden goldens[GOLDEN_COUNT], variants[VARIANT_COUNT];

/* --- the goldens ---------------------------------------------------------------- */
static struct safetensors *open_tensors(const char *dir, const char *name)
{
    char path[PATH_SIZE];
    struct err e = { 0 };
    struct safetensors *s;
    if (!safetensors_open(&s, path_in(dir, name, path), &e))
        fail_msg("%s", e.text);
    return s;
}

static const char *meta(const struct golden *g, const char *key)
{
    const char *value = safetensors_metadata(g->stages, key);
    if (!value)
        fail_msg("%s: stages.safetensors has no metadata \"%s\"", g->name, key);
    return value;
}

/* What torch did in precision p: `exact` and `errors` are files of `from`. */
static void open_half(struct golden *g, enum precision p, const char *from, const char *exact, const char *errors)
{
    char path[PATH_SIZE];
    struct err e = { 0 };
    g->half[p].exact = open_tensors(from, exact);
    g->half[p].errors = config_read(path_in(from, errors, path), 1 << 20, 0, &e);
    if (!g->half[p].errors)
        fail_msg("%s", e.text);
}

/* The first golden's model and job, but for what the variant's file says. */
static void make_variant(struct golden *g, const char *name)
{
    char from[PATH_SIZE], file[64];
    path_in(GOLDEN_DIR, "variants", from);
    snprintf(file, sizeof file, "%s.safetensors", name);
    *g = goldens[0];
    memset(g->half, 0, sizeof g->half);
    g->name = name;
    g->stages = open_tensors(from, file);
    if (!strcmp(name, "cfg")) {
        g->cfg = strtof(meta(g, "cfg"), NULL);
        g->negative = meta(g, "negative");
        open_half(g, PRECISION_BF16, from, "cfg_f64_bf16_time.safetensors", "cfg_bf16_error.json");
    } else
        assert_true(sampler_from_name(&g->sampler, meta(g, "sampler")));
}

static int make_goldens(void **state)
{
    (void)state;
    scratch_make(work);
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct golden *g = &goldens[i];
        char from[PATH_SIZE];
        struct err e = { 0 };
        g->name = golden_names[i];
        path_in(GOLDEN_DIR, g->name, from);
        g->stages = open_tensors(from, "stages.safetensors");
        g->fp16_too = !strcmp(g->name, "dev96") || !strcmp(g->name, "wide256");
        for (enum precision p = PRECISION_BF16; p <= (g->fp16_too ? PRECISION_FP16 : PRECISION_BF16); p++) {
            char exact[64], errors[64];
            snprintf(exact, sizeof exact, "stages_f64_%s_time.safetensors", precision_name(p));
            snprintf(errors, sizeof errors, "%s_error.json", precision_name(p));
            open_half(g, p, from, exact, errors);
        }
        g->prompt = meta(g, "prompt");
        g->negative = "";
        g->cfg = 1;
        g->sampler = SAMPLER_EULER;
        g->width = atoi(meta(g, "width"));
        g->height = atoi(meta(g, "height"));
        g->steps = atoi(meta(g, "steps"));
        g->guidance = strtof(meta(g, "guidance"), NULL);
        g->noise_seed = strtoull(meta(g, "noise_seed"), NULL, 10);
        golden_make(g->name, path_in(work, g->name, g->dir));
        if (!model_open(&g->model, g->dir, true, &e))
            fail_msg("%s", e.text);
    }
    for (int i = 0; i < VARIANT_COUNT; i++)
        make_variant(&variants[i], variant_names[i]);
    return 0;
}

static void close_golden(struct golden *g)
{
    safetensors_close(g->stages);
    for (int p = 0; p < PRECISION_COUNT_; p++) {
        safetensors_close(g->half[p].exact);
        json_decref(g->half[p].errors);
    }
}

static int remove_goldens(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_COUNT; i++)
        close_golden(&goldens[i]);
    for (int i = 0; i < VARIANT_COUNT; i++)
        close_golden(&variants[i]);
    scratch_remove(work);
    return 0;
}

/* --- comparing ------------------------------------------------------------------ */
static struct tensor take(const struct golden *g, const struct safetensors *s, const char *name)
{
    struct tensor t;
    if (!safetensors_find(s, name, &t))
        fail_msg("%s: the golden has no tensor %s", g->name, name);
    return t;
}

struct diff {
    double rel, max;   /* ||a-b||2 / ||b||2; max |a-b| */
    double largest;    /* max |b| */
    size_t at;         /* of max */
};

static struct diff measure(const float *a, const float *b, size_t n)
{
    struct diff d = { 0 };
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)a[i] - (double)b[i]);
        error += off * off;
        norm += (double)b[i] * (double)b[i];
        if (!(off <= d.max)) { /* a NaN stays */
            d.max = off;
            d.at = i;
        }
        d.largest = fmax(d.largest, fabs((double)b[i]));
    }
    d.rel = sqrt(error / norm);
    return d;
}

static bool within(struct diff d, double rel, double max)
{
    return d.rel <= rel && d.max <= max;
}

static enum precision precision_of(enum dtype compute)
{
    enum precision p = PRECISION_FP32;
    while (precision_dtype(p) != compute)
        p++;
    return p;
}

/* What a result is compared with: fp32 diffusers, or the truth. */
static const struct safetensors *truth(const struct golden *g, enum dtype compute)
{
    return compute == DT_F32 ? g->stages : g->half[precision_of(compute)].exact;
}

/* Of the bf16 or fp16 tensors checked since for_all began. */
static struct { double log_ratio; int n; } half_checked;

/* a against the golden tensor `name` of the truth. kind: "stage" alone, or in the "chain". */
static void check(const struct golden *g, enum dtype compute, const char *kind, const char *name, const float *a)
{
    const char *precision = precision_name(precision_of(compute));
    struct tensor want = take(g, truth(g, compute), name);
    assert_int_equal(want.dtype, DT_F32);
    struct diff d = measure(a, want.data, (size_t)tensor_count(want));
    double rel = FP32_REL, max = FP32_REL * FP32_MAX_FACTOR * d.largest;
    if (compute != DT_F32) {
        char key[64];
        snprintf(key, sizeof key, "%s_%s_time", kind, precision);
        json_t *errors = g->half[precision_of(compute)].errors;
        json_t *torch = json_object_get(json_object_get(errors, key), name);
        json_t *torch_rel = json_object_get(torch, "rel"), *torch_max = json_object_get(torch, "max");
        if (!json_is_number(torch_rel) || !json_is_number(torch_max))
            fail_msg("%s: %s_error.json has no %s of %s", g->name, precision, key, name);
        rel = HALF_REL_FACTOR * json_number_value(torch_rel);
        max = HALF_MAX_FACTOR * json_number_value(torch_max);
        half_checked.log_ratio += log(d.rel / json_number_value(torch_rel));
        half_checked.n++;
    }
    if (getenv("GOLDEN_VERBOSE"))
        print_message("%-10s %-4s %-12s error %.2e of %.2e, largest %.2e of %.2e\n", g->name,
                      precision, name, d.rel, rel, d.max, max);
    if (!within(d, rel, max))
        fail_msg("%s, %s, %s: relative error %.3g (bound %.3g), largest error %.3g (bound %.3g) at element %zu: "
                 "%.7g instead of %.7g",
                 g->name, precision, name, d.rel, rel, d.max, max, d.at, (double)a[d.at],
                 (double)((const float *)want.data)[d.at]);
}

/* --- a stage on the cpu device ----------------------------------------------------- */
/* What a stage is given and gives; each stage uses its own few fields. */
struct call {
    const struct golden *g;
    struct clip *clip;
    struct t5 *t5;
    struct flux *flux;
    struct vae *vae;
    const int32_t *ids;
    int n, rows, cols;
    struct t5_pieces pieces;
    struct vae_options vae_options;
    const float *in;
    struct flux_inputs inputs;
    float *out;
    void (*run)(struct device *d, const struct call *c);
};

static void run_call(enum dtype compute, const struct call *c)
{
    struct err e = { 0 };
    struct device *d;
    if (!cpu_device_new(&d, compute, 0, &e))
        fail_msg("%s", e.text);
    struct count_device count;
    count_device_init(&count, d);
    c->run(&count.device, c);
    if (!device_sync(&count.device, &e))
        fail_msg("%s: counting: %s", c->g->name, e.text);
    size_t bytes = (count.device.arena.peak + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    void *memory = aligned_alloc(ARENA_ALIGN, bytes);
    assert_non_null(memory);
    memset(memory, 0xff, bytes); /* NaN: nothing may be read before it is written */
    d->arena = arena_over(memory, bytes);
    c->run(d, c);
    if (!device_sync(d, &e))
        fail_msg("%s: %s", c->g->name, e.text);
    assert_int_equal(d->arena.peak, count.device.arena.peak);
    assert_int_equal(d->arena.used, 0);
    cpu_device_free(d);
    free(memory);
}

static float *values(size_t n)
{
    float *v = malloc(n * sizeof *v);
    assert_non_null(v);
    for (size_t i = 0; i < n; i++)
        v[i] = NAN;
    return v;
}

static void run_clip(struct device *d, const struct call *c)
{
    clip_encode(c->clip, d, c->ids, c->out);
}

static void clip_once(const struct golden *g, enum dtype compute)
{
    struct err e = { 0 };
    struct tensor ids = take(g, g->stages, "clip_ids");
    struct call c = { .g = g, .ids = ids.data, .run = run_clip };
    assert_int_equal(tensor_count(ids), g->model.clip.tokens);
    if (!clip_open(&c.clip, &g->model, &e))
        fail_msg("%s", e.text);
    c.out = values((size_t)g->model.clip.width);
    run_call(compute, &c);
    check(g, compute, "stage", "clip_pooled", c.out);
    free(c.out);
    clip_close(c.clip);
}

static void run_t5(struct device *d, const struct call *c)
{
    t5_encode(c->t5, d, c->ids, c->n, &c->pieces, c->out);
}

/* [tokens, width], malloc'd. */
static float *t5_hidden(const struct golden *g, enum dtype compute, struct t5_pieces pieces)
{
    struct err e = { 0 };
    struct tensor ids = take(g, g->stages, "t5_ids");
    struct call c = { .g = g, .ids = ids.data, .n = (int)tensor_count(ids), .pieces = pieces, .run = run_t5 };
    assert_int_equal(tensor_count(ids), g->model.t5.tokens);
    if (!t5_open(&c.t5, &g->model, &e))
        fail_msg("%s", e.text);
    c.out = values((size_t)c.n * (size_t)g->model.t5.width);
    run_call(compute, &c);
    t5_close(c.t5);
    return c.out;
}

static void t5_once(const struct golden *g, enum dtype compute)
{
    float *hidden = t5_hidden(g, compute, (struct t5_pieces){ 0 });
    check(g, compute, "stage", "t5_hidden", hidden);
    free(hidden);
}

/* All steps, each from the golden's latent and not from the step before. */
static void run_flux(struct device *d, const struct call *c)
{
    struct flux_tables tables;
    size_t mark = device_mark(d), size = (size_t)c->rows * (size_t)c->cols * (size_t)c->g->model.flux.in_channels;
    flux_begin(c->flux, d, &tables, &c->inputs);
    for (int i = 0; i < c->inputs.steps; i++)
        flux_step(c->flux, d, &tables, 0, i, c->in + (size_t)i * size, c->out + (size_t)i * size);
    device_release(d, mark);
}

static void flux_once(const struct golden *g, enum dtype compute)
{
    struct err e = { 0 };
    const struct safetensors *from = truth(g, compute);
    int channels = g->model.vae.latent_channels, h = g->height / g->model.vae.factor,
        w = g->width / g->model.vae.factor;
    size_t size = (size_t)channels * (size_t)h * (size_t)w;
    float *packed = values(size * (size_t)g->steps), *unpacked = values(size);
    for (int i = 0; i < g->steps; i++) {
        char name[32];
        snprintf(name, sizeof name, "latent_%02d", i);
        /* The truth's latent_00 is the same noise and is not stored again. */
        struct tensor latent = take(g, i == 0 ? g->stages : from, name);
        assert_int_equal(tensor_count(latent), size);
        flux_pack(packed + (size_t)i * size, latent.data, channels, h, w);
    }
    struct call c = {
        .g = g, .rows = h / 2, .cols = w / 2, .in = packed, .out = values(size * (size_t)g->steps), .run = run_flux,
        .inputs = { .text = g->model.t5.tokens, .rows = h / 2, .cols = w / 2, .steps = g->steps,
                    .conditions = 1, .hidden = { take(g, from, "t5_hidden").data },
                    .pooled = { take(g, from, "clip_pooled").data },
                    .sigmas = take(g, g->stages, "sigmas").data, .guidance = g->guidance },
    };
    if (!flux_open(&c.flux, &g->model, &e))
        fail_msg("%s", e.text);
    run_call(compute, &c);
    for (int i = 0; i < g->steps; i++) {
        char name[32];
        snprintf(name, sizeof name, "velocity_%02d", i + 1);
        flux_unpack(unpacked, c.out + (size_t)i * size, channels, h, w);
        check(g, compute, "stage", name, unpacked);
    }
    flux_close(c.flux);
    free(c.out);
    free(packed);
    free(unpacked);
}

/* One step on inputs near zero: diffusers' epsilons show. */
static void flat_flux_once(const struct golden *g, enum dtype compute)
{
    struct err e = { 0 };
    int channels = g->model.vae.latent_channels, h = g->height / g->model.vae.factor,
        w = g->width / g->model.vae.factor;
    size_t size = (size_t)channels * (size_t)h * (size_t)w;
    float *packed = values(size), *unpacked = values(size);
    flux_pack(packed, take(g, g->stages, "flat_velocity_in").data, channels, h, w);
    struct call c = {
        .g = g, .rows = h / 2, .cols = w / 2, .in = packed, .out = values(size), .run = run_flux,
        .inputs = { .text = g->model.t5.tokens, .rows = h / 2, .cols = w / 2, .steps = 1,
                    .conditions = 1, .hidden = { take(g, g->stages, "flat_hidden_in").data },
                    .pooled = { take(g, g->stages, "flat_pooled_in").data },
                    .sigmas = take(g, g->stages, "sigmas").data, .guidance = g->guidance },
    };
    if (!flux_open(&c.flux, &g->model, &e))
        fail_msg("%s", e.text);
    run_call(compute, &c);
    flux_unpack(unpacked, c.out, channels, h, w);
    check(g, compute, "stage", "flat_velocity", unpacked);
    flux_close(c.flux);
    free(c.out);
    free(packed);
    free(unpacked);
}

/* [H,W,3] <-> [3,H,W] */
static void planes_from_pixels(float *planes, const float *pixels, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            planes[c * count + i] = pixels[i * 3 + c];
}

static void pixels_from_planes(float *pixels, const float *planes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t c = 0; c < 3; c++)
            pixels[i * 3 + c] = planes[c * count + i];
}

static void run_decode(struct device *d, const struct call *c)
{
    vae_decode(c->vae, d, &(struct vae_options){ 0 }, c->rows, c->cols, c->in, c->out);
}

static void decode(const struct golden *g, enum dtype compute, const float *latent, const char *expected)
{
    struct err e = { 0 };
    size_t pixels = (size_t)g->width * (size_t)g->height;
    struct call c = { .g = g, .rows = g->height / g->model.vae.factor, .cols = g->width / g->model.vae.factor,
                      .in = latent, .out = values(pixels * 3), .run = run_decode };
    if (!vae_open(&c.vae, &g->model, false, &e))
        fail_msg("%s", e.text);
    run_call(compute, &c);
    float *planes = values(pixels * 3);
    planes_from_pixels(planes, c.out, pixels);
    check(g, compute, "stage", expected, planes);
    free(planes);
    free(c.out);
    vae_close(c.vae);
}

static void decode_once(const struct golden *g, enum dtype compute)
{
    char last[32];
    snprintf(last, sizeof last, "latent_%02d", g->steps);
    decode(g, compute, take(g, truth(g, compute), last).data, "image");
}

static void flat_decode_once(const struct golden *g, enum dtype compute)
{
    decode(g, compute, take(g, g->stages, "flat_decode_in").data, "flat_image");
}

static void run_encode(struct device *d, const struct call *c)
{
    vae_encode(c->vae, d, &c->vae_options, c->rows, c->cols, c->in, c->out);
}

static void encode(const struct golden *g, enum dtype compute, int band, const char *planes, const char *expected)
{
    struct err e = { 0 };
    size_t pixels = (size_t)g->width * (size_t)g->height, factor = (size_t)g->model.vae.factor;
    float *in = values(pixels * 3);
    pixels_from_planes(in, take(g, g->stages, planes).data, pixels);
    struct call c = { .g = g, .rows = g->height, .cols = g->width, .in = in, .run = run_encode,
                      .vae_options = { .band = band },
                      .out = values(pixels / factor / factor * (size_t)g->model.vae.latent_channels) };
    if (!vae_open(&c.vae, &g->model, true, &e))
        fail_msg("%s", e.text);
    run_call(compute, &c);
    check(g, compute, "stage", expected, c.out);
    free(c.out);
    free(in);
    vae_close(c.vae);
}

static void encode_once(const struct golden *g, enum dtype compute)
{
    encode(g, compute, 0, "encode_in", "encode_mean");
}

static void encode_in_bands_once(const struct golden *g, enum dtype compute)
{
    int band = 0;
    while (vae_smaller_band(&band))
        encode(g, compute, band, "encode_in", "encode_mean");
}

static void flat_encode_once(const struct golden *g, enum dtype compute)
{
    encode(g, compute, 0, "flat_encode_in", "flat_encode_mean");
}

/* --- all stages --------------------------------------------------------------------- */
static void ignore(void *user, struct event *ev)
{
    (void)user, (void)ev;
}

static void set(char **field, const char *value)
{
    struct err e = { 0 };
    if (!job_set_string(field, value, &e))
        fail_msg("%s", e.text);
}

/* The PNG is diffusers' picture: half a level of rounding decides a few bytes. */
static void check_picture(const struct golden *g, const char *path)
{
    struct err e = { 0 };
    struct image *im = image_read(path, &e);
    if (!im)
        fail_msg("%s", e.text);
    assert_int_equal(im->width, g->width);
    assert_int_equal(im->height, g->height);
    const float *want = take(g, g->stages, "image").data;
    size_t pixels = (size_t)g->width * (size_t)g->height, other = 0;
    for (size_t i = 0; i < pixels * 3; i++) {
        double x = fmin(fmax((double)want[i % 3 * pixels + i / 3] / 2 + 0.5, 0), 1) * 255;
        if (!(fabs(x - im->rgb[i]) <= 0.51))
            fail_msg("%s: %s: byte %zu is %d, diffusers' is %.3f", g->name, path, i, im->rgb[i], x);
        other += im->rgb[i] != (unsigned char)nearbyint(x);
    }
    assert_true(other <= pixels * 3 / 500);
    image_free(im);
}

/* Leaves dump.safetensors and picture.png in the model's folder. */
static void run_pipeline(const struct golden *g, enum dtype compute)
{
    struct err e = { 0 };
    char dump[PATH_SIZE], png[PATH_SIZE], notice[256];
    struct job j;
    struct pipeline *p = NULL;
    if (!job_init(&j, &g->model, &e))
        fail_msg("%s", e.text);
    set(&j.prompt, g->prompt);
    set(&j.negative, g->negative);
    set(&j.out, path_in(g->dir, "picture.png", png));
    set(&j.dump_stages, path_in(g->dir, "dump.safetensors", dump));
    j.width = g->width;
    j.height = g->height;
    j.steps = g->steps;
    j.guidance = g->guidance;
    j.cfg = g->cfg;
    j.sampler = g->sampler;
    j.seed = g->noise_seed;
    j.rng = RNG_TORCH_CPU;
    j.precision = precision_of(compute);
    j.embedding_cache = false; /* else an earlier program's T5 might be compared */
    if (!job_check(&j, notice, &e) || !pipeline_new(&p, &g->model, &e) ||
        !pipeline_run(p, &j, 1, &(struct pipeline_hooks){ .emit = ignore }, &e))
        fail_msg("%s: %s", g->name, e.text);
    assert_string_equal(notice, "");
    pipeline_free(p);
    job_free(&j);
}

/* Every tensor of g->stages that a pipeline makes with the dump's; how many there were. */
static int compare_dump(const struct golden *g, enum dtype compute)
{
    struct safetensors *got = open_tensors(g->dir, "dump.safetensors");
    int compared = 0;
    for (size_t i = 0; i < safetensors_count(g->stages); i++) {
        const char *name = safetensors_name(g->stages, i);
        struct tensor want = safetensors_tensor(g->stages, i), t;
        char a[64], b[64];
        if (strncmp(name, "encode_", 7) == 0 || strncmp(name, "flat_", 5) == 0)
            continue;
        if (!safetensors_find(got, name, &t))
            fail_msg("%s: the dump has no tensor %s", g->name, name);
        assert_string_equal(tensor_describe(t, a, sizeof a), tensor_describe(want, b, sizeof b));
        compared++;
        if (want.dtype == DT_I32 || strcmp(name, "latent_00") == 0)
            assert_memory_equal(t.data, want.data, tensor_bytes(want));
        else if (strcmp(name, "sigmas") == 0)
            assert_true(within(measure(t.data, want.data, (size_t)tensor_count(want)), 1e-6, 1e-6));
        else
            check(g, compute, "chain", name, t.data);
    }
    safetensors_close(got);
    return compared;
}

static void pipeline_once(const struct golden *g, enum dtype compute)
{
    char png[PATH_SIZE];
    run_pipeline(g, compute);
    /* Ids, pooled, hidden, sigmas, image; the noise; velocity and latent of each step. */
    assert_int_equal(compare_dump(g, compute), 6 + 1 + 2 * g->steps);
    if (compute == DT_F32)
        check_picture(g, path_in(g->dir, "picture.png", png));
}

static void tell_half(enum dtype compute)
{
    if (getenv("GOLDEN_VERBOSE") && compute != DT_F32)
        print_message("%s error: %.2f of torch's in the geometric mean of %d tensors\n",
                      precision_name(precision_of(compute)),
                      exp(half_checked.log_ratio / half_checked.n), half_checked.n);
}

static void for_all(void (*once)(const struct golden *, enum dtype), enum dtype compute)
{
    half_checked.log_ratio = half_checked.n = 0;
    for (int i = 0; i < GOLDEN_COUNT; i++)
        if (compute != DT_F16 || goldens[i].fp16_too)
            once(&goldens[i], compute);
    tell_half(compute);
}

/* --- tests ---------------------------------------------------------------------- */
/* A difference here would make every later one; it says that synth.c and synth.py disagree. */
static void weights_are_as_python_makes_them(void **state)
{
    (void)state;
    static const enum model_part parts[] = { MODEL_CLIP, MODEL_T5, MODEL_FLUX, MODEL_VAE };
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) {
            struct err e = { 0 };
            struct weights *w;
            char dir[MODEL_PATH_MAX], key[64];
            const char *part = model_part_name(parts[p]);
            if (!weights_open_dir(&w, model_part_dir(&goldens[i].model, parts[p], dir), part, &e))
                fail_msg("%s", e.text);
            uLong sum = 0;
            for (size_t t = 0; t < weights_count(w); t++) {
                const char *name = weights_name(w, t);
                struct tensor x = weights_tensor(w, t);
                sum ^= crc32(crc32(0, (const Bytef *)name, (uInt)strlen(name)), x.data, (uInt)tensor_bytes(x));
            }
            weights_close(w);
            snprintf(key, sizeof key, "crc32 %s", part);
            assert_int_equal(sum, strtoul(meta(&goldens[i], key), NULL, 16));
        }
    }
}

static void prompts_give_the_ids(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        const struct golden *g = &goldens[i];
        struct err e = { 0 };
        char dir[MODEL_PATH_MAX];
        struct tensor want_clip = take(g, g->stages, "clip_ids"), want_t5 = take(g, g->stages, "t5_ids");
        int32_t ids[512];
        int used;
        bool truncated;
        struct tok_clip *clip;
        if (!tok_clip_open(&clip, model_part_dir(&g->model, MODEL_TOK_CLIP, dir), &e) ||
            !tok_clip_encode(clip, g->prompt, strlen(g->prompt), ids, g->model.clip.tokens, &used, &truncated, &e))
            fail_msg("%s", e.text);
        assert_memory_equal(ids, want_clip.data, tensor_bytes(want_clip));
        tok_clip_close(clip);
        struct tok_t5 *t5;
        if (!tok_t5_open(&t5, model_part_dir(&g->model, MODEL_TOK_T5, dir), &e) ||
            !tok_t5_encode(t5, g->prompt, strlen(g->prompt), ids, g->model.t5.tokens, &used, &truncated, &e))
            fail_msg("%s", e.text);
        assert_memory_equal(ids, want_t5.data, tensor_bytes(want_t5));
        tok_t5_close(t5);
    }
}

static void noise_is_the_same(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct tensor want = take(&goldens[i], goldens[i].stages, "latent_00");
        float *got = values((size_t)tensor_count(want));
        rng_normal(RNG_TORCH_CPU, goldens[i].noise_seed, got, (size_t)tensor_count(want));
        assert_memory_equal(got, want.data, tensor_bytes(want));
        free(got);
    }
}

static void clip_in_fp(void **state) { (void)state; for_all(clip_once, DT_F32); }
static void clip_in_bf(void **state) { (void)state; for_all(clip_once, DT_BF16); }
static void tfive_in_fp(void **state) { (void)state; for_all(t5_once, DT_F32); }
static void tfive_in_bf(void **state) { (void)state; for_all(t5_once, DT_BF16); }
static void flux_in_fp(void **state) { (void)state; for_all(flux_once, DT_F32); }
static void flux_in_bf(void **state) { (void)state; for_all(flux_once, DT_BF16); }
static void decode_in_fp(void **state) { (void)state; for_all(decode_once, DT_F32); }
static void decode_in_bf(void **state) { (void)state; for_all(decode_once, DT_BF16); }
static void encode_in_fp(void **state) { (void)state; for_all(encode_once, DT_F32); }
static void encode_in_bf(void **state) { (void)state; for_all(encode_once, DT_BF16); }
static void encode_in_bands_in_fp(void **state) { (void)state; for_all(encode_in_bands_once, DT_F32); }
static void stages_in_half(void **state)
{
    (void)state;
    for_all(clip_once, DT_F16);
    for_all(t5_once, DT_F16);
    for_all(flux_once, DT_F16);
    for_all(decode_once, DT_F16);
    for_all(encode_once, DT_F16);
}

/* T5's feed-forward results leave F16's range when its last weights are large: they stay finite. */
static void large_tfive_in_half(void **state)
{
    (void)state;
    struct golden g = goldens[0];
    struct err e = { 0 };
    char dir[MODEL_PATH_MAX], file[PATH_SIZE], name[96];
    golden_make(g.name, path_in(work, "large", g.dir));
    if (!model_open(&g.model, g.dir, true, &e))
        fail_msg("%s", e.text);
    path_in(model_part_dir(&g.model, MODEL_T5, dir), "model.safetensors", file);
    struct safetensors *s = open_tensors(dir, "model.safetensors");
    size_t bytes;
    char *data = file_read(file, 64 << 20, &bytes, &e);
    if (!data)
        fail_msg("%s", e.text);
    const char *end = safetensors_tensor(s, 0).data; /* of the tensor that lies last in the file */
    size_t end_bytes = tensor_bytes(safetensors_tensor(s, 0));
    for (size_t i = 0; i < safetensors_count(s); i++)
        if ((const char *)safetensors_tensor(s, i).data > end) {
            end = safetensors_tensor(s, i).data;
            end_bytes = tensor_bytes(safetensors_tensor(s, i));
        }
    for (int b = 0; b < g.model.t5.layers; b++) {
        snprintf(name, sizeof name, "encoder.block.%d.layer.1.DenseReluDense.wo.weight", b);
        struct tensor t = take(&g, s, name);
        t.data = data + bytes - end_bytes - (size_t)(end - (const char *)t.data);
        for (int64_t k = 0; k < tensor_count(t); k++)
            dtype_store(t.data, t.dtype, k, dtype_load(t.data, t.dtype, k) * 0x1p20);
    }
    safetensors_close(s);
    scratch_write(file, data, bytes);
    free(data);
    size_t n = (size_t)g.model.t5.tokens * (size_t)g.model.t5.width;
    float *wide = t5_hidden(&g, DT_F32, (struct t5_pieces){ 0 });
    float *half = t5_hidden(&g, DT_F16, (struct t5_pieces){ 0 });
    for (size_t i = 0; i < n; i++)
        assert_true(isfinite(half[i]) && isfinite(wide[i]));
    assert_true(measure(half, wide, n).rel > 0.01); /* else nothing was saturated */
    free(wide);
    free(half);
}

/* Each chunk is a text of its own: transformers has no more than one to see. */
static void tfive_in_independent_chunks(void **state)
{
    (void)state;
    char dir[PATH_SIZE];
    struct safetensors *s = open_tensors(path_in(GOLDEN_DIR, "variants", dir), "t5_independent.safetensors");
    assert_int_equal(safetensors_count(s), 2);
    for (size_t i = 0; i < safetensors_count(s); i++) {
        const char *name = safetensors_name(s, i), *chunk = strchr(name, '/');
        const struct golden *g = goldens;
        while (strncmp(g->name, name, (size_t)(chunk - name)))
            g++;
        float *hidden = t5_hidden(g, DT_F32, (struct t5_pieces){ .chunk = atoi(chunk + 1), .independent = true });
        struct golden expected = *g;
        expected.stages = s;
        check(&expected, DT_F32, "stage", name, hidden);
        free(hidden);
    }
    safetensors_close(s);
}

static void near_zero_in_fp(void **state)
{
    (void)state;
    for_all(flat_flux_once, DT_F32);
    for_all(flat_decode_once, DT_F32);
    for_all(flat_encode_once, DT_F32);
}

static void pipeline_in_fp(void **state) { (void)state; for_all(pipeline_once, DT_F32); }
static void pipeline_in_bf(void **state) { (void)state; for_all(pipeline_once, DT_BF16); }
static void pipeline_in_half(void **state) { (void)state; for_all(pipeline_once, DT_F16); }

static void variant_once(const struct golden *g, enum dtype compute)
{
    run_pipeline(g, compute);
    assert_int_equal(compare_dump(g, compute), safetensors_count(g->stages));
}

static void variants_in_fp(void **state)
{
    (void)state;
    char png[PATH_SIZE];
    for (int i = 0; i < VARIANT_COUNT; i++) {
        variant_once(&variants[i], DT_F32);
        if (variants[i].cfg != 1)
            check_picture(&variants[i], path_in(variants[i].dir, "picture.png", png));
    }
}

static void guidance_against_a_prompt_in_bf(void **state)
{
    (void)state;
    half_checked.log_ratio = half_checked.n = 0;
    variant_once(&variants[0], DT_BF16);
    tell_half(DT_BF16);
}

/* The comparison itself: a check that lets NaN or one wrong element pass proves nothing. */
static void wrong_numbers_are_seen(void **state)
{
    (void)state;
    enum { N = 4096 };
    float *a = values(N), *b = values(N);
    rng_normal(RNG_TORCH_CPU, 1, b, N);
    memcpy(a, b, N * sizeof *a);
    double max = FP32_REL * FP32_MAX_FACTOR * measure(a, b, N).largest;
    assert_true(within(measure(a, b, N), FP32_REL, max));
    a[N - 1] += 0.01f;
    assert_false(within(measure(a, b, N), FP32_REL, max));
    a[N - 1] = b[N - 1];
    a[7] = NAN;
    assert_false(within(measure(a, b, N), FP32_REL, max));
    a[7] = INFINITY;
    assert_false(within(measure(a, b, N), FP32_REL, max));
    for (int i = 0; i < N; i++)
        a[i] = b[i] * 1.0002f;
    assert_false(within(measure(a, b, N), FP32_REL, max));
    memset(b, 0, N * sizeof *b);
    assert_false(within(measure(b, b, N), FP32_REL, max)); /* a golden of zeros would prove nothing */
    free(a);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_numbers_are_seen),
        cmocka_unit_test(weights_are_as_python_makes_them),
        cmocka_unit_test(prompts_give_the_ids),
        cmocka_unit_test(noise_is_the_same),
        cmocka_unit_test(clip_in_fp),
        cmocka_unit_test(clip_in_bf),
        cmocka_unit_test(tfive_in_fp),
        cmocka_unit_test(tfive_in_bf),
        cmocka_unit_test(flux_in_fp),
        cmocka_unit_test(flux_in_bf),
        cmocka_unit_test(decode_in_fp),
        cmocka_unit_test(decode_in_bf),
        cmocka_unit_test(encode_in_fp),
        cmocka_unit_test(encode_in_bf),
        cmocka_unit_test(encode_in_bands_in_fp),
        cmocka_unit_test(stages_in_half),
        cmocka_unit_test(large_tfive_in_half),
        cmocka_unit_test(tfive_in_independent_chunks),
        cmocka_unit_test(near_zero_in_fp),
        cmocka_unit_test(pipeline_in_fp),
        cmocka_unit_test(pipeline_in_bf),
        cmocka_unit_test(pipeline_in_half),
        cmocka_unit_test(variants_in_fp),
        cmocka_unit_test(guidance_against_a_prompt_in_bf),
    };
    return cmocka_run_group_tests_name("golden", tests, make_goldens, remove_goldens);
}
