/* test_taef1.c - the tiny decoder computes what diffusers' computes, and a preview never changes a job.
 *
 * The decoder under both namings on the cpu device, in exactly as much arena as the count device says, against
 * tests/golden/taef1 (make_taef1.py): fp32 within 1e-4, bf16 and fp16 no further from the truth than 1.5 times torch's
 * bf16. Files that are none. Where a model's is found. Whole jobs on a small random model: the same picture whatever the
 * preview and the budget, in the memory planned. On a card: test_cuda_jobs. */
#include "engine/pipeline.h"
#include "engine/safetensors.h"
#include "engine/synth.h"
#include "engine/taef1.h"
#include "kernels/count.h"
#include "kernels/cpu.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEED = 5, CHANNELS = 16, FACTOR = 8, WIDTH = 12 };

static char scratch[FILE_PATH_MAX], model_dir[FILE_PATH_MAX], shared[FILE_PATH_MAX];
static const char *const namings[] = { "diffusers", "sequential" };

/* The golden's decoder, or one like it of another width. */
static void make_decoder(const char *naming, int width, const char *path)
{
    char header[FILE_PATH_MAX], wider[FILE_PATH_MAX];
    struct err e = { 0 };
    size_t bytes;
    snprintf(header, sizeof header, GOLDEN_DIR "/taef1/%s.json", naming);
    char *text = file_read(header, 1 << 20, &bytes, &e);
    FILE *f = fopen(path_in(scratch, "header.json", wider), "w");
    assert_true(text && f);
    bool shape = false;
    for (const char *c = text; *c; c++) {
        shape = *c == '[' || (shape && *c != ']');
        if (shape && !strncmp(c, "12", 2))
            c += fprintf(f, "%d", width) > 0;
        else
            putc(*c, f);
    }
    free(text);
    unlink(path);
    if (fclose(f) || !synth_from_header(wider, path, SEED, &e))
        fail_msg("%s", e.text);
}

/* --- as diffusers ------------------------------------------------------------------------ */

/* Weights are the decoder's own: nobody is asked for them. */
static void never(struct device *d, struct tensor *w, struct tensor *b)
{
    (void)d, (void)w, (void)b;
    fail_msg("a weight was asked for");
}

static void decode(const struct taef1 *t, enum dtype compute, int scale, struct tensor latent, float *image)
{
    struct err e = { 0 };
    struct device *d;
    struct count_device count;
    int h = (int)latent.shape[1], w = (int)latent.shape[2];
    if (!cpu_device_new(&d, compute, 2, &e))
        fail_msg("%s", e.text);
    count_device_init(&count, d);
    taef1_decode(t, &count.device, scale, h, w, NULL, NULL);
    assert_true(device_sync(&count.device, &e));
    size_t bytes = (count.device.arena.peak + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    void *memory = aligned_alloc(ARENA_ALIGN, bytes);
    assert_non_null(memory);
    memset(memory, 0xff, bytes); /* NaN: nothing may be read before it is written */
    d->arena = arena_over(memory, bytes);
    d->weights = never;
    taef1_decode(t, d, scale, h, w, latent.data, image);
    if (!device_sync(d, &e))
        fail_msg("%s", e.text);
    assert_true(d->weights == never);
    assert_int_equal(d->arena.peak, count.device.arena.peak);
    assert_int_equal(d->arena.used, 0);
    cpu_device_free(d);
    free(memory);
}

/* ||a-b|| / ||b|| */
static double error_of(const float *a, struct tensor b)
{
    double off = 0, all = 0;
    for (int64_t i = 0; i < tensor_count(b); i++) {
        double v = ((const float *)b.data)[i];
        off += (a[i] - v) * (a[i] - v);
        all += v * v;
    }
    return sqrt(off / all);
}

static struct tensor stage(const struct safetensors *s, const char *naming, const char *suffix)
{
    char name[64];
    struct tensor t;
    snprintf(name, sizeof name, "%s%s", naming, suffix);
    assert_true(safetensors_find(s, name, &t));
    return t;
}

static void it_decodes_as_diffusers(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e = { 0 };
    if (!safetensors_open(&s, GOLDEN_DIR "/taef1/stages.safetensors", &e))
        fail_msg("%s", e.text);
    assert_string_equal(safetensors_metadata(s, "seed"), "5");
    struct tensor latent = stage(s, "latent", "");
    for (size_t n = 0; n < 2; n++) {
        char path[FILE_PATH_MAX], key[64];
        struct taef1 *t;
        make_decoder(namings[n], WIDTH, path_in(scratch, "decoder.safetensors", path));
        if (!taef1_open(&t, path, CHANNELS, FACTOR, &e))
            fail_msg("%s", e.text);
        assert_int_equal(taef1_width(t), WIDTH);
        assert_int_equal(taef1_blocks(t), 10);
        size_t all = weights_bytes(taef1_weights(t)); /* in diffusers' file an encoder lies beside */
        assert_true(n ? taef1_bytes(t) == all : taef1_bytes(t) < all);
        struct tensor want = stage(s, namings[n], ""), half = stage(s, namings[n], "_half");
        struct tensor truth = stage(s, namings[n], "_f64");
        float *image = malloc(tensor_bytes(want));
        assert_non_null(image);
        decode(t, DT_F32, 1, latent, image);
        assert_true(error_of(image, want) <= 1e-4);
        decode(t, DT_F32, 2, latent, image);
        assert_true(error_of(image, half) <= 1e-4);
        snprintf(key, sizeof key, "%s bf16", namings[n]);
        double torch = atof(safetensors_metadata(s, key));
        for (enum dtype compute = DT_BF16; compute <= DT_F16; compute++) {
            decode(t, compute, 1, latent, image);
            double is = error_of(image, truth);
            if (!(is <= 1.5 * torch))
                fail_msg("%s, %s: off by %g, torch's bf16 by %g", namings[n], dtype_name(compute), is, torch);
        }
        free(image);
        taef1_close(t);
    }
    safetensors_close(s);
}

/* --- files ------------------------------------------------------------------------------------ */

static void refused(const char *path, int channels, int factor, const char *const says[3])
{
    struct taef1 *t;
    struct err e = { 0 };
    if (taef1_open(&t, path, channels, factor, &e))
        fail_msg("taken in spite of %s", says[2]);
    assert_null(t);
    for (int i = 0; i < 3; i++)
        if (!strstr(e.text, says[i]))
            fail_msg("%s: no \"%s\"", e.text, says[i]);
}

/* The decoder's file without tensor `without`, or with one in another shape. */
static void write_changed(const struct weights *from, const char *path, size_t which, bool reshaped)
{
    struct safetensors_entry entries[128];
    size_t n = 0;
    struct err e = { 0 };
    for (size_t i = 0; i < weights_count(from); i++) {
        struct tensor t = weights_tensor(from, i);
        if (i == which && !reshaped)
            continue;
        if (i == which)
            t = tensor_1d(t.data, t.dtype, 2);
        entries[n++] = (struct safetensors_entry){ weights_name(from, i), t };
    }
    unlink(path);
    if (!safetensors_write(path, entries, n, &e))
        fail_msg("%s", e.text);
}

/* Each tensor in turn is missing, or has another shape: file and key are named. */
static void a_file_that_is_not_whole_is_refused(void **state)
{
    (void)state;
    for (size_t n = 0; n < 2; n++) {
        char whole[FILE_PATH_MAX], changed[FILE_PATH_MAX];
        struct weights *w;
        struct err e = { 0 };
        make_decoder(namings[n], WIDTH, path_in(scratch, "whole.safetensors", whole));
        path_in(scratch, "changed.safetensors", changed);
        assert_true(weights_open_file(&w, whole, "taef1", &e));
        for (size_t i = 0; i < weights_count(w); i++) {
            char key[64];
            snprintf(key, sizeof key, "%s", weights_name(w, i));
            if (!strncmp(key, "encoder", 7))
                continue;
            write_changed(w, changed, i, false);
            refused(changed, CHANNELS, FACTOR, (const char *const[]){ "taef1: ", "changed.safetensors", key });
            write_changed(w, changed, i, true);
            refused(changed, CHANNELS, FACTOR, (const char *const[]){ "changed.safetensors", key, "found F32 [2]" });
        }
        refused(whole, 4, FACTOR, (const char *const[]){ n ? "1.weight" : "decoder.layers.0.weight", "[any, 4, 3, 3]",
                                                         "[12, 16, 3, 3]" });
        refused(whole, CHANNELS, 4, (const char *const[]){ "whole.safetensors", "enlarges 4 times", "found 8 times" });
        weights_close(w);
    }
    char path[FILE_PATH_MAX];
    struct tensor t = tensor_1d((float[]){ 1 }, DT_F32, 1);
    struct err e = { 0 };
    path_in(scratch, "encoder.safetensors", path);
    assert_true(safetensors_write(path, (struct safetensors_entry[]){ { "0.weight", t } }, 1, &e));
    refused(path, CHANNELS, FACTOR, (const char *const[]){ "encoder.safetensors", "1.weight", "decoder.layers.0.weight" });
    scratch_write(path, "nothing", 7);
    refused(path, CHANNELS, FACTOR, (const char *const[]){ "taef1: ", "encoder.safetensors", "" });
}

static void open_model(struct model *m)
{
    struct err e = { 0 };
    if (!model_open(m, model_dir, true, &e))
        fail_msg("%s", e.text);
}

static void it_is_found_where_people_have_it(void **state)
{
    (void)state;
    /* In the order in which they are preferred, from the last. */
    static const struct { const char *folder, *file; bool flux; } places[] = {
        { "data/sluice/models/vae_approx", "taef1_decoder.safetensors", true },
        { "data/sluice/models", "taef1_decoder.safetensors", true },
        { "models/vae_approx", "taef1_decoder.safetensors", true },
        { "models/diffusers", "taef1_decoder.safetensors", true },
        { "models/diffusers/taef1", "diffusion_pytorch_model.safetensors", true },
        { "models/diffusers/flux", "taef1_decoder.safetensors", false },
        { "models/diffusers/flux/taef1", "diffusion_pytorch_model.safetensors", false },
    };
    enum { COUNT = sizeof places / sizeof *places };
    static struct model m;
    char path[COUNT][FILE_PATH_MAX], config[FILE_PATH_MAX], text[1 << 14];
    struct err e = { 0 };
    open_model(&m);
    assert_string_equal(m.taef1, "");
    for (int i = 0; i < COUNT; i++) {
        char dir[FILE_PATH_MAX], real[2][4096];
        struct stat is, wanted;
        path_in(scratch, places[i].folder, dir);
        assert_true(folder_make(dir, &e));
        scratch_write(path_in(dir, places[i].file, path[i]), "", 0);
        open_model(&m);
        assert_non_null(realpath(m.taef1, real[0]));
        assert_non_null(realpath(strstr(places[i].file, "diffusion") ? dir : path[i], real[1]));
        assert_string_equal(real[0], real[1]);
        assert_true(stat(real[0], &is) == 0 && stat(real[1], &wanted) == 0);
    }
    for (int i = COUNT - 2; i < COUNT; i++)
        unlink(path[i]);
    /* A model with latents of its own takes none but its own. */
    size_t bytes;
    char *was = file_read(path_in(model_dir, "vae/config.json", config), sizeof text, &bytes, &e), *end;
    assert_non_null(was);
    assert_non_null(end = strrchr(was, '}'));
    int n = snprintf(text, sizeof text, "%.*s,\"latent_rgb_factors\":[", (int)(end - was), was);
    for (int i = 0; i < CHANNELS; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s[0,0,%d]", i ? "," : "", i);
    n += snprintf(text + n, sizeof text - (size_t)n, "]}");
    scratch_write(config, text, (size_t)n);
    open_model(&m);
    assert_string_equal(m.taef1, "");
    scratch_write(config, was, bytes);
    free(was);
    /* What sluice.json says goes before, and must be there. */
    char own[FILE_PATH_MAX];
    static const char *const named[] = { "../../vae_approx/taef1_decoder.safetensors", "../taef1" };
    path_in(model_dir, "sluice.json", own);
    for (int i = 0; i < 2; i++) {
        n = snprintf(text, sizeof text, "{\"taef1\": \"%s\"}", named[i]);
        scratch_write(own, text, (size_t)n);
        open_model(&m);
        assert_non_null(strstr(m.taef1, named[i]));
    }
    n = snprintf(text, sizeof text, "{\"taef1\": \"%s\"}", path[1]);
    scratch_write(own, text, (size_t)n);
    open_model(&m);
    assert_string_equal(m.taef1, path[1]);
    scratch_write(own, "{\"taef1\": \"nowhere\"}", 20);
    assert_false(model_open(&m, model_dir, true, &e));
    assert_true(strstr(e.text, "sluice.json") && strstr(e.text, "taef1") && strstr(e.text, "exists"));
    unlink(own);
    for (int i = 0; i < COUNT; i++)
        unlink(path[i]);
    open_model(&m);
    assert_string_equal(m.taef1, "");
}

/* --- jobs --------------------------------------------------------------------------------------- */

static struct model model;
static struct pipeline *pipeline;

struct said {
    struct image *image;
    int previews, width; /* of a preview */
    size_t arena, peak;
    char notices[2048];
};

static void hear(void *user, struct event *ev)
{
    struct said *s = user;
    if (ev->kind == EVENT_PREVIEW) {
        s->previews++;
        s->width = ev->image->width;
    }
    if (ev->kind == EVENT_MEMORY) {
        s->arena = ev->memory.arena_bytes;
        s->peak = ev->memory.peak_bytes > s->peak ? ev->memory.peak_bytes : s->peak;
    }
    if (ev->kind == EVENT_NOTICE) {
        size_t n = strlen(s->notices);
        snprintf(s->notices + n, sizeof s->notices - n, "%s\n", ev->text);
    }
    if (ev->kind == EVENT_DONE) {
        s->image = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

static bool try(const struct job *j, struct said *s, struct err *e)
{
    struct pipeline_hooks hooks = { .emit = hear, .user = s };
    memset(s, 0, sizeof *s);
    return pipeline_run(pipeline, j, 1, &hooks, e);
}

static struct plan plan_of(const struct job *j)
{
    struct plan p;
    struct err e = { 0 };
    char notice[EVENT_TEXT_BYTES];
    if (!pipeline_plan(pipeline, j, &p, notice, &e))
        fail_msg("%s", e.text);
    return p;
}

/* Runs the job as planned, and compares. Returns the preview's scale, 0: not by TAEF1. */
static int run(const struct job *j, const struct image *want)
{
    struct said s;
    struct err e = { 0 };
    struct plan p = plan_of(j);
    int scale = p.preview.scale;
    if (!try(j, &s, &e))
        fail_msg("%s", e.text);
    assert_string_equal(s.notices, "");
    assert_int_equal(s.arena, p.arena_bytes);
    assert_int_equal(s.peak, s.arena);
    assert_true(!p.budget || p.arena_bytes <= p.budget);
    assert_int_equal(s.previews, j->preview == PREVIEW_NONE ? 0 : j->steps);
    if (s.previews)
        assert_int_equal(s.width, scale ? j->width / scale : j->width / FACTOR);
    assert_memory_equal(s.image->rgb, want->rgb, (size_t)j->width * (size_t)j->height * 3);
    image_free(s.image);
    plan_free(&p);
    return scale;
}

static struct job make_job(enum precision precision)
{
    struct job j;
    struct err e = { 0 };
    char out[FILE_PATH_MAX];
    if (!job_init(&j, &model, &e) || !job_set_string(&j.out, path_in(scratch, "out.png", out), &e))
        fail_msg("%s", e.text);
    j.width = j.height = 64;
    j.steps = 2;
    j.threads = 2;
    j.precision = precision;
    j.embedding_cache = false;
    return j;
}

static size_t least_of(struct job j, enum preview_mode mode)
{
    j.preview = mode;
    j.budget = JOB_BUDGET_LEAST;
    struct plan p = plan_of(&j);
    size_t least = p.budget;
    plan_free(&p);
    return least;
}

static void open_pipeline(void)
{
    struct err e = { 0 };
    pipeline_free(pipeline);
    open_model(&model);
    if (!pipeline_new(&pipeline, &model, &e))
        fail_msg("%s", e.text);
}

static void no_preview_changes_the_picture_or_its_budget(void **state)
{
    (void)state;
    unsigned scales = 0;
    for (int precision = 0; precision < PRECISION_COUNT_; precision++) {
        struct job j = make_job((enum precision)precision);
        struct said plain;
        struct err e = { 0 };
        unlink(shared);
        open_pipeline();
        j.preview = PREVIEW_NONE;
        if (!try(&j, &plain, &e))
            fail_msg("%s", e.text);
        size_t whole = plain.arena;
        make_decoder("sequential", 96, shared);
        open_pipeline();
        assert_string_not_equal(model.taef1, "");
        size_t least = least_of(j, PREVIEW_NONE), insisting = least_of(j, PREVIEW_TAEF1);
        assert_int_equal(least_of(j, PREVIEW_AUTO), least); /* it is taken only from what is there */
        assert_int_equal(least_of(j, PREVIEW_LATENT), least);
        assert_true(insisting >= least);
        size_t budgets[] = { 0, JOB_BUDGET_LEAST, least + (whole - least) / 8, least + (whole - least) / 3, 2 * whole,
                             8 * whole };
        for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++)
            for (enum preview_mode mode = PREVIEW_NONE; mode <= PREVIEW_TAEF1; mode++) {
                j.budget = mode == PREVIEW_TAEF1 && budgets[b] && budgets[b] < insisting ? insisting : budgets[b];
                j.preview = mode;
                int scale = run(&j, plain.image);
                assert_true(mode == PREVIEW_TAEF1 ? scale >= 1 : mode == PREVIEW_AUTO || scale == 0);
                scales |= 1u << scale;
                if (!budgets[b] && mode == PREVIEW_AUTO) { /* nor does it make the memory of a job without a budget more */
                    struct plan p = plan_of(&j);
                    assert_int_equal(p.arena_bytes, whole);
                    plan_free(&p);
                }
            }
        image_free(plain.image);
        job_free(&j);
    }
    assert_int_equal(scales, 1u << 0 | 1u << 1 | 1u << 2 | 1u << 4);
}

/* A decoder so wide that even its smallest preview needs more than all the rest. */
static void insisting_has_a_budget_of_its_own(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_FP32);
    struct said s;
    struct err e = { 0 };
    make_decoder("diffusers", 160, shared);
    open_pipeline();
    size_t least = least_of(j, PREVIEW_NONE), insisting = least_of(j, PREVIEW_TAEF1);
    assert_int_equal(least_of(j, PREVIEW_AUTO), least);
    assert_true(insisting > least);
    j.preview = PREVIEW_TAEF1;
    j.budget = insisting;
    assert_true(try(&j, &s, &e));
    assert_true(s.width == j.width / 4 && s.peak == s.arena && s.arena == insisting);
    image_free(s.image);
    j.budget = insisting - 1;
    assert_false(try(&j, &s, &e));
    assert_true(strstr(e.text, "needs at least") && strstr(e.text, "preview: auto may do with less"));
    err_clear(&e);
    j.preview = PREVIEW_AUTO;
    assert_true(try(&j, &s, &e));
    assert_int_equal(s.width, j.width / FACTOR);
    image_free(s.image);
    j.preview = PREVIEW_TAEF1; /* without a budget the arena grows for it */
    j.budget = 0;
    assert_true(try(&j, &s, &e));
    assert_true(s.width == j.width / 4 && s.peak == s.arena);
    image_free(s.image);
    job_free(&j);
}

static void without_its_file(void **state)
{
    (void)state;
    struct job j = make_job(PRECISION_FP32);
    struct said s;
    struct err e = { 0 };
    unlink(shared);
    open_pipeline();
    j.preview = PREVIEW_TAEF1;
    assert_false(try(&j, &s, &e));
    assert_true(strstr(e.text, "preview: taef1") && strstr(e.text, "taef1_decoder.safetensors"));
    struct plan_summary foreseen;
    pipeline_foresee(pipeline, &j, &foreseen);
    assert_true(!foreseen.ok && strstr(foreseen.text, "preview: taef1"));
    err_clear(&e);
    j.preview = PREVIEW_AUTO;
    assert_true(try(&j, &s, &e));
    assert_int_equal(s.width, j.width / FACTOR);
    assert_string_equal(s.notices, "");
    image_free(s.image);
    /* One that cannot be read: a notice, or the end of a job that insists. */
    scratch_write(shared, "nothing", 7);
    open_pipeline();
    assert_true(try(&j, &s, &e));
    assert_int_equal(s.width, j.width / FACTOR);
    assert_true(strstr(s.notices, "previews without TAEF1") && strstr(s.notices, "taef1_decoder.safetensors"));
    image_free(s.image);
    j.preview = PREVIEW_TAEF1;
    assert_false(try(&j, &s, &e));
    assert_true(strstr(e.text, "preview: taef1") && strstr(e.text, "taef1_decoder.safetensors"));
    job_free(&j);
}

static int begin(void **state)
{
    (void)state;
    char dir[FILE_PATH_MAX];
    struct err e = { 0 };
    scratch_make_cache(scratch);
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    setenv("XDG_DATA_HOME", path_in(scratch, "data", dir), 1);
    if (!folder_make(path_in(scratch, "models/diffusers", dir), &e))
        fail_msg("%s", e.text);
    golden_make("dev96", path_in(dir, "flux", model_dir));
    path_in(model_dir, "taef1_decoder.safetensors", shared);
    return 0;
}

static int end(void **state)
{
    (void)state;
    pipeline_free(pipeline);
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_decodes_as_diffusers),
        cmocka_unit_test(a_file_that_is_not_whole_is_refused),
        cmocka_unit_test(it_is_found_where_people_have_it),
        cmocka_unit_test(no_preview_changes_the_picture_or_its_budget),
        cmocka_unit_test(insisting_has_a_budget_of_its_own),
        cmocka_unit_test(without_its_file),
    };
    return cmocka_run_group_tests_name("taef1", tests, begin, end);
}
