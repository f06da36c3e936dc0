/* bench.c - `make bench`: how fast and how large, on this machine, now.
 *
 * Prints one table. Every rate is effective: the operations the model asks for
 * (counted by the count device running the same code) over the time they took,
 * best of a few runs, beside oneDNN's own GEMM rate measured in the same run.
 * Full-width weights are random (sluice synth) and kept in build/bench-model.
 * `bench blocks|vae|hoist|modes|plan|cache|budgets|demo|store|studio` prints that part only. No test depends on a
 * figure printed here. */
#include "engine/embeddings.h"
#include "engine/flux.h"
#include "engine/job.h"
#include "engine/memory.h"
#include "engine/pipeline.h"
#include "engine/store.h"
#include "engine/synth.h"
#include "engine/vae.h"
#include "kernels/count.h"
#include "kernels/cpu.h"
#include "tests/bench/studio.h"

#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RUNS = 4, TEXT = 512 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const struct err *e)
{
    fprintf(stderr, "bench: %s\n", e->text);
    exit(1);
}

static double best(double a, double b) { return a == 0 || b < a ? b : a; }

/* --- oneDNN's own rate ------------------------------------------------------------------ */

/* GFLOP/s of one matmul, both sides in the layout that oneDNN itself prefers. */
static double gemm_rate(dnnl_data_type_t type, int64_t m, int64_t n, int64_t k)
{
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_memory_desc_t a, w, c;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    dnnl_primitive_t primitive;
    dnnl_memory_t ma, mw, mc;
    double seconds = 0;
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    dnnl_memory_desc_init_by_tag(&a, 2, (dnnl_dims_t){ m, k }, type, dnnl_ab);
    dnnl_memory_desc_init_by_tag(&w, 2, (dnnl_dims_t){ k, n }, type, dnnl_format_tag_any);
    dnnl_memory_desc_init_by_tag(&c, 2, (dnnl_dims_t){ m, n }, type, dnnl_ab);
    dnnl_matmul_desc_init(&desc, &a, &w, NULL, &c);
    if (dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) != dnnl_success)
        return 0;
    dnnl_primitive_create(&primitive, pd);
    dnnl_memory_create(&ma, &a, engine, DNNL_MEMORY_ALLOCATE);
    dnnl_memory_create(&mw, dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0), engine, DNNL_MEMORY_ALLOCATE);
    dnnl_memory_create(&mc, &c, engine, DNNL_MEMORY_ALLOCATE);
    dnnl_memory_t all[] = { ma, mw, mc };
    for (int i = 0; i < 3; i++) {
        const dnnl_memory_desc_t *md;
        void *p;
        dnnl_memory_get_memory_desc(all[i], &md);
        dnnl_memory_get_data_handle(all[i], &p);
        memset(p, 0x3c, dnnl_memory_desc_get_size(md)); /* an ordinary number in both types */
    }
    dnnl_exec_arg_t args[] = { { DNNL_ARG_SRC, ma }, { DNNL_ARG_WEIGHTS, mw }, { DNNL_ARG_DST, mc } };
    for (int i = 0; i < 2 * RUNS; i++) {
        double t = now();
        dnnl_primitive_execute(primitive, stream, 3, args);
        dnnl_stream_wait(stream);
        seconds = best(seconds, now() - t);
    }
    for (int i = 0; i < 3; i++)
        dnnl_memory_destroy(all[i]);
    dnnl_primitive_destroy(primitive);
    dnnl_primitive_desc_destroy(pd);
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
    return 2e-9 * (double)m * (double)n * (double)k / seconds;
}

/* The better of two of FLUX.1's shapes. Measured anew beside every figure that is
 * compared with it: a virtual machine's clock wanders by several percent. */
static double gemm_now(enum dtype type)
{
    dnnl_data_type_t t = type == DT_BF16 ? dnnl_bf16 : dnnl_f32;
    double narrow = gemm_rate(t, 1536, 3072, 3072), wide = gemm_rate(t, 1536, 3072, 12288);
    double rate = narrow > wide ? narrow : wide;
    printf("  oneDNN GEMM           %-5s %8.0f GFLOP/s\n", dtype_name(type), rate);
    return rate;
}

/* --- stages ------------------------------------------------------------------------------- */

enum { MARKS = 64 };

/* Ticks of a stage: seconds on a real device, operations on the count device. */
struct marks {
    struct count_device *count;
    double at[MARKS];
    int n;
};

static void on_tick(void *user, int done, int total)
{
    struct marks *m = user;
    (void)done, (void)total;
    if (m->n < MARKS)
        m->at[m->n++] = m->count ? (double)count_sum(m->count).flops : now();
}

static struct device *device_with_arena(enum dtype compute, size_t bytes, void **memory)
{
    struct err e = { 0 };
    struct device *d;
    if (!cpu_device_new(&d, compute, 0, &e) || posix_memalign(memory, 4096, bytes))
        fail(&e);
    d->arena = arena_over(*memory, bytes);
    return d;
}

/* One set of inputs for both devices; hidden serves as the pooled vector too. */
static struct flux_inputs flux_inputs(int side, const float *hidden)
{
    static const float sigmas[] = { 1, 0 };
    return (struct flux_inputs){ .text = TEXT, .rows = side / 16, .cols = side / 16, .steps = 1, .conditions = 1,
                                 .hidden = { hidden }, .pooled = { hidden }, .sigmas = sigmas, .guidance = 3.5f };
}

/* Operations of the double and the single block between the marks; the arena's peak. */
static size_t count_blocks(const struct flux *f, enum dtype type, int side, struct marks *work)
{
    struct err e = { 0 };
    struct device *d;
    struct count_device c;
    struct flux_tables t;
    struct flux_inputs inputs = flux_inputs(side, NULL);
    if (!cpu_device_new(&d, type, 0, &e))
        fail(&e);
    count_device_init(&c, d);
    flux_begin(f, &c.device, &t, &inputs);
    *work = (struct marks){ .count = &c, .n = 1, .at = { (double)count_sum(&c).flops } };
    c.device.tick = on_tick;
    c.device.user = work;
    flux_step(f, &c.device, &t, 0, 0, NULL, NULL);
    cpu_device_free(d);
    return c.device.arena.peak;
}

static void bench_blocks(const struct flux *f, enum dtype type)
{
    for (int side = 256; side <= 512; side *= 2) {
        struct err e = { 0 };
        struct marks work, time = { 0 };
        double gemm = gemm_now(type);
        size_t peak = count_blocks(f, type, side, &work);
        void *memory;
        struct device *d = device_with_arena(type, peak, &memory);
        size_t image = (size_t)(side / 16) * (size_t)(side / 16) * 64;
        float *in = calloc((size_t)TEXT * 4096, sizeof *in), *latent = calloc(image, sizeof *latent);
        if (!in || !latent)
            fail(&(struct err){ .text = "out of memory" });
        for (size_t i = 0; i < (size_t)TEXT * 4096; i++)
            in[i] = (float)((int)(i * 2654435761u >> 16 & 255) - 128) / 128;
        double seconds[2] = { 0 };
        struct flux_tables t;
        struct flux_inputs inputs = flux_inputs(side, in);
        flux_begin(f, d, &t, &inputs);
        d->tick = on_tick;
        d->user = &time;
        for (int i = 0; i < RUNS; i++) {
            memcpy(latent, in, image * sizeof *latent);
            time.n = 0;
            time.at[time.n++] = now();
            flux_step(f, d, &t, 0, 0, latent, latent);
            for (int b = 0; b < 2; b++)
                seconds[b] = best(seconds[b], time.at[b + 1] - time.at[b]);
        }
        if (!device_sync(d, &e))
            fail(&e);
        double total = 0, operations = 0;
        for (int b = 0; b < 2; b++) {
            double flops = work.at[b + 1] - work.at[b];
            printf("  %s block %dx%d %-5s %8.0f GFLOP/s %4.0f %% of GEMM %9.1f ms\n", b ? "single" : "double",
                   side, side,
                   dtype_name(type), flops / seconds[b] * 1e-9, flops / seconds[b] * 1e-7 / gemm, seconds[b] * 1e3);
            int blocks = b ? 38 : 19; /* FLUX.1's */
            total += blocks * seconds[b];
            operations += blocks * flops;
        }
        printf("  FLUX.1 step   %dx%d %-5s %8.0f GFLOP/s %4.0f %% of GEMM %9.1f s   (19 double + 38 single; "
               "arena %zu MB)\n",
               side, side, dtype_name(type), operations / total * 1e-9, operations / total * 1e-7 / gemm, total,
               peak >> 20);
        free(in);
        free(latent);
        free(memory);
        cpu_device_free(d);
    }
}

/* What decoding takes of the arena; *flops, if wanted, gets its operations. */
static size_t vae_peak(const struct vae *v, enum dtype type, const struct vae_options *o, int side, double *flops)
{
    struct err e = { 0 };
    struct device *d;
    struct count_device c;
    if (!cpu_device_new(&d, type, 0, &e))
        fail(&e);
    count_device_init(&c, d);
    vae_decode(v, &c.device, o, side / 8, side / 8, NULL, NULL);
    if (flops)
        *flops = (double)count_sum(&c).flops;
    cpu_device_free(d);
    return c.device.arena.peak;
}

static void bench_vae(const struct vae *v, enum dtype type)
{
    for (int side = 256; side <= 512; side *= 2) {
        struct err e = { 0 };
        double gemm = gemm_now(type), flops, seconds = 0;
        size_t peak = vae_peak(v, type, &(struct vae_options){ 0 }, side, &flops);
        void *memory;
        struct device *d = device_with_arena(type, peak, &memory);
        float *latent = malloc((size_t)side * (size_t)side / 64 * 16 * sizeof *latent);
        float *image = malloc((size_t)side * (size_t)side * 3 * sizeof *image);
        if (!latent || !image)
            fail(&(struct err){ .text = "out of memory" });
        rng_normal(RNG_PHILOX, 0, latent, (size_t)side * (size_t)side / 64 * 16);
        for (int i = 0; i < RUNS - 1; i++) {
            double t = now();
            vae_decode(v, d, &(struct vae_options){ 0 }, side / 8, side / 8, latent, image);
            seconds = best(seconds, now() - t);
        }
        if (!device_sync(d, &e))
            fail(&e);
        printf("  VAE decode    %dx%d %-5s %8.0f GFLOP/s %4.0f %% of GEMM %9.2f s   (peak %.0f MB)\n", side, side,
               dtype_name(type), flops / seconds * 1e-9, flops / seconds * 1e-7 / gemm, seconds, (double)peak * 1e-6);
        free(latent);
        free(image);
        free(memory);
        cpu_device_free(d);
    }
}

/* --- a whole picture ------------------------------------------------------------------------ */

struct last {
    double seconds;
    double first_step, step; /* when the first step ended; one of the others */
    size_t arena, anonymous;
};

static void on_event(void *user, struct event *ev)
{
    struct last *l = user;
    if (ev->kind == EVENT_DONE)
        l->seconds = best(l->seconds, ev->seconds);
    bool step_ended = ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX && ev->block == ev->blocks;
    if (step_ended && ev->step == 1)
        l->first_step = ev->seconds;
    else if (step_ended && ev->step == ev->steps)
        l->step = best(l->step, (ev->seconds - l->first_step) / (ev->steps - 1));
    if (ev->kind == EVENT_MEMORY) {
        l->arena = ev->memory.arena_bytes;
        if (ev->memory.rss_anonymous > l->anonymous)
            l->anonymous = ev->memory.rss_anonymous;
    }
    event_clear(ev);
}

static void bench_picture(const char *model_path)
{
    struct err e = { 0 };
    static struct model m;
    struct pipeline *p;
    struct job j;
    if (!model_open(&m, model_path, true, &e) || !pipeline_new(&p, &m, &e))
        fail(&e);
    for (enum precision precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
        struct last last = { 0 };
        struct pipeline_hooks hooks = { .emit = on_event, .user = &last };
        if (!job_init(&j, &m, &e) || !job_set_string(&j.prompt, "a red apple on a blue background", &e) ||
            !job_set_string(&j.out, "build/bench.png", &e))
            fail(&e);
        j.precision = precision;
        for (int i = 0; i < RUNS; i++)
            if (!pipeline_run(p, &j, 1, &hooks, &e))
                fail(&e);
        printf("  demo picture  %dx%d %-5s %d steps %28.2f s   (arena %.1f MB, anonymous memory of the process "
               "%.0f MB)\n",
               j.width, j.height, precision_name(precision), j.steps, last.seconds, (double)last.arena * 1e-6,
               (double)last.anonymous * 1e-6);
        job_free(&j);
    }
    pipeline_free(p);
}

/* The same job, at full width, with its weights in place, resident and streamed. */
enum { STEPS = 8, RING = 1 }; /* RING: a budget of a step's activations and three of its largest pages */

static void bench_budgets(const struct model *m)
{
    static const struct {
        const char *name;
        size_t budget;
        double link;
    } rows[] = {
        { "in place", 0, 0 }, { "resident", (size_t)1 << 40, 0 }, { "streamed", RING, 0 },
        { "streamed, 2 GB/s", RING, 2e9 }, { "streamed, 1 GB/s", RING, 1e9 },
        { "streamed, 500 MB/s", RING, 5e8 }, { "least", JOB_BUDGET_LEAST, 0 },
    };
    struct err e = { 0 };
    struct pipeline *p;
    struct job j;
    if (!pipeline_new(&p, m, &e) || !job_init(&j, m, &e) || !job_set_string(&j.out, "build/bench.png", &e))
        fail(&e);
    j.width = j.height = 256;
    j.steps = STEPS;
    j.preview = PREVIEW_NONE;
    double in_place = 0;
    size_t ring = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct last last = { 0 };
        struct pipeline_hooks hooks = { .emit = on_event, .user = &last };
        struct plan plan;
        char notice[EVENT_TEXT_BYTES];
        j.budget = rows[i].budget == RING ? ring : rows[i].budget;
        j.link = rows[i].link;
        if (!pipeline_plan(p, &j, &plan, notice, &e))
            fail(&e);
        const struct plan_phase *step = &plan.phase[PHASE_STEP];
        if (!i)
            ring = step->activations + ring_bytes(&step->trace, RING_FULL);
        size_t each = placement_link_bytes(&step->placement, &step->trace).each;
        plan_free(&plan);
        for (int k = 0; k < 2; k++)
            if (!pipeline_run(p, &j, 1, &hooks, &e))
                fail(&e);
        double seconds = last.step;
        in_place = i ? in_place : seconds;
        printf("  step of 1 double + 1 single block, 256x256 BF16, %-19s %7.0f ms  %.2f of in place", rows[i].name,
               seconds * 1e3, seconds / in_place);
        if (each)
            printf("   (%.0f MB each step", (double)each * 1e-6);
        if (each && rows[i].link > 0) {
            double floor = (double)each / rows[i].link > in_place ? (double)each / rows[i].link : in_place;
            printf(", %.2f of the larger of compute and link", seconds / floor);
        }
        puts(each ? ")" : "");
    }
    pipeline_free(p);
    job_free(&j);
}

/* --- the hoist ------------------------------------------------------------------------------- */

/* A step whose modulations were all evaluated before the first, against one that
 * evaluates its own: what other programs do. */
static void bench_hoist(const struct flux *f, enum dtype type)
{
    enum { SIDE = 256 };
    struct err e = { 0 };
    struct marks ignored;
    void *memory;
    struct device *d = device_with_arena(type, count_blocks(f, type, SIDE, &ignored), &memory);
    size_t image = SIDE / 16 * (SIDE / 16) * 64;
    float *in = calloc((size_t)TEXT * 4096, sizeof *in), *latent = calloc(image, sizeof *latent);
    if (!in || !latent)
        fail(&(struct err){ .text = "out of memory" });
    struct flux_inputs inputs = flux_inputs(SIDE, in);
    double with = 0, without = 0;
    for (int i = 0; i < RUNS; i++) {
        struct flux_tables t;
        size_t mark = device_mark(d);
        double began = now();
        flux_begin(f, d, &t, &inputs);
        double middle = now();
        flux_step(f, d, &t, 0, 0, latent, latent);
        with = best(with, now() - middle);
        without = best(without, now() - began);
        device_release(d, mark);
    }
    if (!device_sync(d, &e))
        fail(&e);
    printf("  modulations hoisted out of the step, %dx%d %-5s, 1 double + 1 single block: %.0f ms a step; "
           "evaluated in it: %.0f ms (%.2f times)\n", SIDE, SIDE, dtype_name(type), with * 1e3, without * 1e3,
           without / with);
    free(in);
    free(latent);
    free(memory);
    cpu_device_free(d);
}

/* --- the VAE's modes ---------------------------------------------------------------------------- */

static void bench_vae_modes(const struct vae *v, enum dtype type)
{
    enum { SIDE = 512 };
    static const struct vae_options modes[] = { { 0 }, { .band = 256 }, { .band = 64 }, { .band = 16 },
                                                { .tile = 32, .overlap = 8 } };
    float *latent = malloc(SIDE * SIDE / 64 * 16 * sizeof *latent), *image = malloc(SIDE * SIDE * 3 * sizeof *image);
    double whole = 0;
    if (!latent || !image)
        fail(&(struct err){ .text = "out of memory" });
    rng_normal(RNG_PHILOX, 0, latent, SIDE * SIDE / 64 * 16);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct err e = { 0 };
        size_t peak = vae_peak(v, type, &modes[i], SIDE, NULL);
        void *memory;
        struct device *d = device_with_arena(type, peak, &memory);
        double seconds = 0;
        for (int k = 0; k < 2; k++) {
            double began = now();
            vae_decode(v, d, &modes[i], SIDE / 8, SIDE / 8, latent, image);
            seconds = best(seconds, now() - began);
        }
        if (!device_sync(d, &e))
            fail(&e);
        whole = i ? whole : seconds;
        char name[64] = "whole";
        if (modes[i].band)
            snprintf(name, sizeof name, "bands of %d px", modes[i].band);
        if (modes[i].tile)
            snprintf(name, sizeof name, "tiles of %d px", modes[i].tile * 8);
        printf("  VAE decode    %dx%d %-5s %-16s %6.2f s  %.2f of whole   (peak %.0f MB; at 1024x1024 %.0f MB)\n",
               SIDE, SIDE,
               dtype_name(type), name, seconds, seconds / whole, (double)peak * 1e-6,
               (double)vae_peak(v, type, &modes[i], 1024, NULL) * 1e-6);
        free(memory);
        cpu_device_free(d);
    }
    free(latent);
    free(image);
}

/* --- planning ------------------------------------------------------------------------------------- */

/* FLUX.1-dev at full depth, from headers alone. The first plan of a process also
 * makes oneDNN's descriptions of every product. */
static void bench_plan(const char *demo)
{
    static const char full[] = "build/bench-full";
    static const size_t budgets[] = { (size_t)24e9, (size_t)8e9, (size_t)1e9, JOB_BUDGET_LEAST };
    struct err e = { 0 };
    struct synth_options o = { .arch = "flux-dev", .doubles = -1, .singles = -1, .t5_layers = -1, .clip_layers = -1,
                               .dtype = DT_BF16, .headers_only = true };
    static struct model m;
    struct stat st;
    struct job j;
    struct pipeline *p;
    if (stat("build/bench-full/model_index.json", &st) && !synth_write(full, &o, demo, NULL, NULL, &e))
        fail(&e);
    if (!model_open(&m, full, true, &e) || !pipeline_new(&p, &m, &e) || !job_init(&j, &m, &e))
        fail(&e);
    j.memory_fraction = 1;
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        double first = 0, again = 0;
        char notice[EVENT_TEXT_BYTES];
        struct plan plan;
        j.budget = budgets[i];
        for (int k = 0; k < RUNS; k++) {
            double began = now();
            if (!pipeline_plan(p, &j, &plan, notice, &e))
                fail(&e);
            *(k ? &again : &first) = k ? best(again, now() - began) : now() - began;
            if (k + 1 < RUNS)
                plan_free(&plan);
        }
        printf("  plan of FLUX.1-dev, 1024x1024, %5.2f GB: %6.1f ms the first time, %5.1f ms again   (peak %.2f GB)\n",
               (double)plan.budget * 1e-9, first * 1e3, again * 1e3, (double)plan.arena_bytes * 1e-9);
        plan_free(&plan);
    }
    /* As the studio asks after a key: for a size that was not planned before. */
    for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
        double least = 1e9, most = 0;
        struct plan_summary s;
        j.budget = budgets[i];
        for (int k = 0; k < 2 * RUNS; k++) {
            double began = now();
            j.width = j.width < 1536 ? j.width + 16 : 512;
            pipeline_foresee(p, &j, &s);
            if (!s.ok)
                fail(&(struct err){ .kind = ERR_INPUT, .text = "no plan" });
            double seconds = now() - began;
            if (k || i) { /* the first opens the planning's own device */
                least = seconds < least ? seconds : least;
                most = seconds > most ? seconds : most;
            }
        }
        printf("  the same for the studio, a new size each, %5.2f GB: %5.1f to %5.1f ms\n", (double)s.budget * 1e-9,
               least * 1e3, most * 1e3);
    }
    job_free(&j);
    pipeline_free(p);
}

/* --- the embedding cache --------------------------------------------------------------------------- */

static void bench_cache(void)
{
    enum { WIDTH = 768, HIDDEN = 4096 }; /* FLUX.1's */
    struct err e = { 0 };
    float *pooled = calloc(WIDTH, sizeof *pooled), *hidden = calloc((size_t)TEXT * HIDDEN, sizeof *hidden);
    if (!pooled || !hidden)
        fail(&(struct err){ .text = "out of memory" });
    setenv("XDG_CACHE_HOME", "/tmp", 1);
    struct embeddings v = { tensor_1d(pooled, DT_F32, WIDTH), tensor_2d(hidden, DT_F32, TEXT, HIDDEN) };
    struct sha256 key = { { 0 } };
    double store = 0, load = 0;
    for (int i = 0; i < RUNS; i++) {
        double began = now();
        if (!embeddings_store(&key, v, &e))
            fail(&e);
        double middle = now();
        if (!embeddings_load(&key, v))
            fail(&(struct err){ .text = "the cache has lost an entry" });
        store = best(store, middle - began);
        load = best(load, now() - middle);
    }
    struct embeddings_use use;
    embeddings_clear(&use, &e);
    printf("  embedding cache, a FLUX.1 prompt: stored in %.0f ms, found in %.0f ms\n", store * 1e3, load * 1e3);
    free(pooled);
    free(hidden);
}

/* --- the history ---------------------------------------------------------------------------- */

/* Seconds of a page of 60, the best of a few; what it finds in *total. */
static double page_seconds(struct store *s, const char *search, int offset, long *total)
{
    double seconds = 0;
    struct err e = { 0 };
    for (int i = 0; i < 2 * RUNS; i++) {
        struct store_page page;
        double began = now();
        if (!store_history_list(s, &(struct store_query){ .search = search, .offset = offset, .limit = 60 }, &page, &e))
            fail(&e);
        seconds = best(seconds, now() - began);
        *total = (long)page.total;
        store_page_free(&page);
    }
    return seconds;
}

static void bench_store(void)
{
    enum { ROWS = 20000 };
    static const char *const words[] = { "fox", "red", "a", "castle", "in", "the", "rain", "portrait", "of",
                                         "an", "old",
                                         "fisherman", "soft", "light", "photograph", "mountain", "sea", "detailed" };
    struct err e = { 0 };
    struct store *s;
    char dir[] = "/tmp/sluice-bench-XXXXXX", path[FILE_PATH_MAX], record[2048], notice[STORE_NOTICE_BYTES];
    struct image *im = image_new(256, 256, &e);
    if (!mkdtemp(dir) || !im)
        exit(1);
    for (int i = 0; i < 256 * 256 * 3; i++)
        im->rgb[i] = (unsigned char)(i / 7 + i / 768 * 3);
    snprintf(path, sizeof path, "%s/studio.db", dir);
    if (!store_open(&s, path, notice, &e))
        fail(&e);
    double began = now();
    unsigned x = 1;
    for (int i = 0; i < ROWS; i++) {
        char prompt[1024] = "";
        for (int k = 0; k < 25; k++) {
            x = x * 1664525u + 1013904223u;
            strcat(strcat(prompt, words[x >> 16 & 15]), " ");
        }
        snprintf(record, sizeof record,
                 "{\"prompt\":\"%s w%d\",\"negative\":\"blurry\",\"model\":\"FLUX.1-dev\",\"width\":"
                 "1024,\"height\":1024,\"steps\":28,\"sampler\":\"euler\",\"schedule\":\"simple\",\"seed\":%d}",
                 prompt, i, i);
        snprintf(path, sizeof path, "%s/%d.png", dir, i);
        fclose(fopen(path, "w"));
        if (!store_history_add(s, &(struct store_new){ path, record, im, "", 1, 0 }, NULL, &e))
            fail(&e);
    }
    printf("history of %d pictures: %.2f ms to add one\n", ROWS, (now() - began) * 1e3 / ROWS);
    static const struct { const char *what, *search; int offset; } asked[] = {
        { "the first page of 60", "", 0 }, { "the last", "", ROWS - 60 },
        { "a rare word", "w1234", 0 }, { "two common words", "fox castle", 0 }, { "one letter", "f", 0 },
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        long total;
        double seconds = page_seconds(s, asked[i].search, asked[i].offset, &total);
        printf("  %-22s %7.2f ms, of %ld\n", asked[i].what, seconds * 1e3, total);
    }
    began = now();
    for (int i = 1; i <= 60; i++)
        image_free(store_thumbnail(s, i, &e));
    printf("  %-22s %7.2f ms\n", "60 thumbnails", (now() - began) * 1e3);
    store_close(s);
    image_free(im);
    for (int i = 0; i < ROWS; i++) {
        snprintf(path, sizeof path, "%s/%d.png", dir, i);
        unlink(path);
    }
    static const char *const rest[] = { "studio.db", "studio.db-wal", "studio.db-shm", "latents", "running", "" };
    for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, rest[i]);
        remove(path);
    }
}

int main(int argc, char **argv)
{
    cpu_quiet_threads(argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *only = argc > 1 ? argv[1] : "";
    if (!strcmp(only, "studio")) { /* needs no model */
        bench_studio();
        return 0;
    }
    static const char full[] = "build/bench-model", demo[] = "assets/demo";
    struct err e = { 0 };
    struct synth_options o = { .arch = "flux-dev", .doubles = 1, .singles = 1, .t5_layers = 1, .clip_layers = 1,
                               .dtype = DT_BF16 };
    static struct model m;
    struct stat st;
    struct flux *f;
    struct vae *v;
    if (!*only || !strcmp(only, "store"))
        bench_store();
    if (!strcmp(only, "store"))
        return 0;
    if (stat("build/bench-model/model_index.json", &st) && !synth_write(full, &o, demo, NULL, NULL, &e))
        fail(&e);
    if (!model_open(&m, full, true, &e) || !flux_open(&f, &m, &e) || !vae_open(&v, &m, false, &e))
        fail(&e);
    puts("GEMM: 1536 rows, FLUX.1's widths, weights in oneDNN's own layout");
    for (enum dtype type = DT_BF16;; type = DT_F32) {
        if (!*only || !strcmp(only, "blocks"))
            bench_blocks(f, type);
        if (!*only || !strcmp(only, "vae"))
            bench_vae(v, type);
        if (type == DT_F32)
            break;
    }
    if (!*only || !strcmp(only, "hoist"))
        bench_hoist(f, DT_BF16);
    if (!*only || !strcmp(only, "modes"))
        bench_vae_modes(v, DT_BF16);
    flux_close(f);
    vae_close(v);
    if (!*only || !strcmp(only, "plan"))
        bench_plan(demo);
    if (!*only || !strcmp(only, "cache"))
        bench_cache();
    if (!*only || !strcmp(only, "budgets"))
        bench_budgets(&m);
    if (!*only || !strcmp(only, "demo"))
        bench_picture(demo);
    if (!*only)
        bench_studio();
    struct memory_use use = memory_use();
    printf("process: peak resident %.0f MB with mapped weights; anonymous now %.0f MB\n", (double)use.rss_peak * 1e-6,
           (double)use.anonymous * 1e-6);
    return 0;
}
