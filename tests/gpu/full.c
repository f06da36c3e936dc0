/* full.c - FLUX.1-dev's own shapes on the card, with made-up weights, timed.
 *
 * The model folder has true headers and holes for data; over the mapped holes go pages of
 * a small normal pattern, one gigabyte of them again and again. So a 33 GB model takes
 * neither a disk nor 33 GB of memory, and what the card multiplies are numbers like any.
 *
 * Goals are issue 4's. "resident" is the step with all weights on the card. */
#include "engine/synth.h"
#include "tests/gpu/ceiling.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/link.h"
#include "tests/gpu/picture.h"
#include "tests/gpu/watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const double GOAL_RESIDENT = 1.12, GOAL_STREAMED = 1.05, GOAL_13GB = 1.05, GOAL_PEAK = 1.2e9;

/* --- weights out of nothing -------------------------------------------------------------- */
struct range { uintptr_t from, to; };

static int by_address(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->from < y->from ? -1 : x->from > y->from;
}

/* Numbers of either sign, 2^-6 to 2^-5 as BF16 and near them as F16: no sum of FLUX's leaves its type. */
static int make_pattern(size_t bytes, struct err *e)
{
    int fd = memfd_create("weights", MFD_CLOEXEC);
    uint64_t *p = MAP_FAILED, bits = 1;
    if (fd >= 0 && !ftruncate(fd, (off_t)bytes))
        p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        err_set(e, ERR_MEMORY, "%zu MB for the pattern of weights were refused", bytes / 1000000);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    for (size_t i = 0; i < bytes / sizeof *p; i++) {
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        p[i] = (bits & 0x807f807f807f807fu) | 0x3c803c803c803c80u;
    }
    munmap(p, bytes);
    return fd;
}

/* Whole pages of the data that w maps become the pattern's; what lies between stays a hole, zeros. */
static bool cover(const struct weights *w, int pattern, size_t bytes, struct err *e)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    size_t n = weights_count(w), merged = 0;
    struct range *r = malloc((n + 1) * sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < n; i++) {
        struct tensor t = weights_tensor(w, i);
        r[i] = (struct range){ (uintptr_t)t.data, (uintptr_t)t.data + tensor_bytes(t) };
    }
    qsort(r, n, sizeof *r, by_address);
    for (size_t i = 1; i < n; i++)
        if (r[i].from <= r[merged].to)
            r[merged].to = r[i].to;
        else
            r[++merged] = r[i];
    bool ok = true;
    for (size_t i = 0; i <= merged && n && ok; i++)
        for (uintptr_t at = (r[i].from + page - 1) / page * page, end = r[i].to / page * page; at < end && ok;) {
            size_t length = end - at < bytes ? end - at : bytes;
            ok = mmap((void *)at, length, PROT_READ, MAP_SHARED | MAP_FIXED, pattern, 0) != MAP_FAILED ||
                 err_set(e, ERR_MEMORY, "weights cannot be mapped");
            at += length;
        }
    free(r);
    return ok;
}

/* --- the model ------------------------------------------------------------------------------ */
struct full {
    struct picture_model model;
    struct device *device;
    int sizes[3];
    double link;      /* bytes per second, as the pager brings weights, */
    double pinned;    /* and as the driver copies pinned memory; 0: unknown */
    double opening;   /* seconds */
    const struct gpu *g;
};

static bool full_open(struct full *k, struct err *e)
{
    const struct gpu *g = k->g;
    size_t pattern_bytes = g->small ? (size_t)4 << 20 : (size_t)1 << 30;
    char folder[FILE_PATH_MAX];
    struct synth_options o = { .arch = "flux-dev", .doubles = -1, .singles = -1, .t5_layers = -1, .clip_layers = -1,
                               .dtype = DT_BF16, .seed = 1, .headers_only = true };
    /* The narrowest that synth makes is FLUX's own width: too much for a processor. */
    bool ok = file_join(folder, g->small ? "assets" : g->scratch, g->small ? "demo" : "flux-dev", e) &&
              (g->small || synth_write(folder, &o, "assets/demo", NULL, NULL, e));
    double began = seconds_now();
    ok = ok && picture_open(&k->model, folder, e);
    k->opening = seconds_now() - began;
    int pattern = ok ? make_pattern(pattern_bytes, e) : -1;
    ok = pattern >= 0 && cover(flux_weights(k->model.flux), pattern, pattern_bytes, e) &&
         cover(t5_weights(k->model.t5), pattern, pattern_bytes, e) &&
         cover(clip_weights(k->model.clip), pattern, pattern_bytes, e) &&
         cover(vae_weights(k->model.vae), pattern, pattern_bytes, e);
    if (pattern >= 0)
        close(pattern);
    return ok;
}

/* --- what is timed alone ---------------------------------------------------------------------- */
/* The link as the pager uses it: mapped weights through the device's ring. */
static bool measure_link(struct full *k, struct err *e)
{
    const struct weights *w = flux_weights(k->model.flux);
    size_t bytes = 0, room = k->g->small ? (size_t)1 << 20 : (size_t)1 << 30;
    void *memory;
    uint64_t mark;
    if (!device_take(k->device, &memory, room, e))
        return false;
    bool ok = true;
    double began = 0;
    for (int pass = 0; pass < 2 && ok; pass++) { /* the first faults pages in */
        bytes = 0;
        began = seconds_now();
        for (size_t i = 0; i < weights_count(w) && bytes < 4 * room && ok; i++) {
            struct tensor t = weights_tensor(w, i);
            size_t n = tensor_bytes(t) < room ? tensor_bytes(t) : room;
            ok = device_link_pass(k->device, memory, t.data, n, e);
            bytes += n;
        }
        ok = ok && device_link_mark(k->device, &mark, e);
        if (ok)
            device_link_wait(k->device, mark);
        ok = device_sync(k->device, e) && ok;
    }
    k->link = (double)bytes / (seconds_now() - began);
    device_give(k->device, memory);
    return ok;
}

struct step { const struct full *full; int rows, cols; };

static void one_step(struct device *d, const void *user)
{
    const struct step *s = user;
    const struct model *m = &s->full->model.model;
    static const float sigmas[2] = { 1, 0 };
    struct flux_tables tables;
    struct flux_inputs in = { .text = m->t5.tokens, .rows = s->rows, .cols = s->cols, .steps = 1, .conditions = 1,
                              .sigmas = sigmas, .guidance = 3.5f };
    flux_begin(s->full->model.flux, d, &tables, &in);
    ceiling_begin(d);
    flux_step(s->full->model.flux, d, &tables, 0, 0, NULL, NULL);
}

static double measure_ceiling(struct full *k, int size, struct err *e)
{
    int packed = 2 * k->model.model.vae.factor;
    struct step s = { k, size / packed, size / packed };
    struct ceiling c;
    char row[96];
    if (!ceiling_measure(&c, k->device, one_step, &s, e))
        return NAN;
    snprintf(row, sizeof row, "%d px: products and attentions alone", size);
    tell_value(k->g, row, c.linear + c.attention, "s", "%d linears %.4f s, %d attentions %.4f s, %d shapes", c.linears,
               c.linear, c.attentions, c.attention, c.shapes);
    return c.linear + c.attention;
}

struct encode { const struct full *full; int32_t *ids; float *hidden; };

static void run_t5(struct device *d, const void *user)
{
    const struct encode *c = user;
    t5_encode(c->full->model.t5, d, c->ids, c->full->model.model.t5.tokens, &(struct t5_pieces){ 0 }, c->hidden);
}

struct decode { const struct full *full; int rows, cols; float *latent, *image; };

static void run_vae(struct device *d, const void *user)
{
    const struct decode *c = user;
    vae_decode(c->full->model.vae, d, &(struct vae_options){ 0 }, c->rows, c->cols, c->latent, c->image);
}

static void tell_stage(const struct gpu *g, const char *row, const struct stage_cost *cost, bool ok,
                       const struct err *e)
{
    if (ok)
        tell_value(g, row, cost->seconds[1], "s",
                   "%.1f TFLOP/s; weights %.2f GB brought in %.2f s, activations %.2f GB",
                   (double)cost->flops / cost->seconds[1] * 1e-12, (double)cost->weights * 1e-9,
                   cost->seconds[0] - cost->seconds[1], (double)cost->activations * 1e-9);
    else
        tell(g, NOT_POSSIBLE, row, "%s", e->text);
}

static void measure_t5(struct full *k)
{
    const struct t5_config *t = &k->model.model.t5;
    struct stage_cost cost;
    struct err e = { 0 };
    struct encode c = { k, calloc((size_t)t->tokens, sizeof *c.ids),
                        calloc((size_t)t->tokens * (size_t)t->width, sizeof *c.hidden) };
    bool ok = c.ids && c.hidden && stage_run(k->device, run_t5, &c, 2, &cost, &e);
    tell_stage(k->g, "T5", &cost, ok, &e);
    free(c.ids);
    free(c.hidden);
}

static void measure_vae(struct full *k, int size)
{
    struct stage_cost cost;
    struct err e = { 0 };
    char row[96];
    const struct vae_config *v = &k->model.model.vae;
    int side = size / v->factor;
    struct decode c = { k, side, side, calloc((size_t)(v->latent_channels * side * side), sizeof *c.latent),
                        calloc((size_t)(3 * size) * (size_t)size, sizeof *c.image) };
    bool ok = c.latent && c.image;
    if (ok)
        rng_normal(RNG_PHILOX, 1, c.latent, (size_t)(v->latent_channels * side * side));
    ok = ok && stage_run(k->device, run_vae, &c, 2, &cost, &e);
    snprintf(row, sizeof row, "%d px: VAE decoder", size);
    tell_stage(k->g, row, &cost, ok, &e);
    free(c.latent);
    free(c.image);
}

/* --- steps under budgets ------------------------------------------------------------------------- */
struct times { double resident, compute; struct picture whole; };

static void tell_goal(const struct gpu *g, const char *row, double ratio, double goal, const char *of)
{
    tell_value(g, row, ratio, "", "%s; goal %.2f: %s", of, goal, ratio <= goal ? "met" : "MISSED");
}

/* Bytes of the card at the fullest moment, context and libraries included: by NVML this process's, else by
 * the runtime all that is used. 0: unknown. */
static size_t card_peak(const struct picture *p, size_t total)
{
    return p->watched ? p->watched : p->least_free ? total - p->least_free : 0;
}

static void tell_step(const struct full *k, const char *row, const struct picture *p, size_t total)
{
    tell_value(k->g, row, p->step, "s",
               "%.1f TFLOP/s, %.2f GB a step over the link; arena %.2f GB, on the card %.2f GB by %s; plan %.2f s, "
               "modulation %.2f s, first step %.2f s, to the first preview %.2f s",
               (double)p->step_flops / p->step * 1e-12, (double)p->link_each * 1e-9, (double)p->arena * 1e-9,
               (double)card_peak(p, total) * 1e-9, p->watched ? "NVML" : "the runtime", p->plan, p->modulation,
               p->first_step, p->preview);
}

/* budget 0: all resident, which is measured first and what the others are compared with. */
static bool measure_budget(struct full *k, int size, size_t budget, const char *name, struct times *t, struct err *e)
{
    struct picture_wish wish = { .width = size, .height = size, .steps = 4, .seed = 1, .guidance = 3.5f,
                                 .budget = budget ? budget : (size_t)1 << 45 };
    struct picture p;
    char row[96];
    size_t total = device_memory(k->device).total;
    if (!picture_make(&p, &k->model, k->device, &wish, e)) {
        picture_free(&p);
        return false;
    }
    snprintf(row, sizeof row, "%d px: step, %s", size, name);
    tell_step(k, row, &p, total);
    if (!budget) {
        t->resident = p.step;
        t->whole = p;
        snprintf(row, sizeof row, "%d px: resident step over products and attentions", size);
        if (t->compute > 0)
            tell_goal(k->g, row, p.step / t->compute, GOAL_RESIDENT, "ratio");
        return true;
    }
    double floor = fmax(t->resident, (double)p.link_each / fmax(k->link, k->pinned));
    snprintf(row, sizeof row, "%d px: %s over its floor", size, name);
    tell_goal(k->g, row, p.step / floor, GOAL_STREAMED, "of the larger of the resident step and bytes over the link");
    snprintf(row, sizeof row, "%d px: %s over resident", size, name);
    if (!strcmp(name, "13 GB"))
        tell_goal(k->g, row, p.step / t->resident, GOAL_13GB, "ratio");
    if (budget == JOB_BUDGET_LEAST && card_peak(&p, total)) {
        snprintf(row, sizeof row, "%d px: peak on the card, all streamed", size);
        tell_goal(k->g, row, (double)card_peak(&p, total) * 1e-9, GOAL_PEAK * 1e-9,
                  p.watched ? "GB by NVML, context and libraries included"
                            : "GB by the runtime, context, libraries and other programs included");
    }
    bool same = !memcmp(p.latent, t->whole.latent, p.latent_count * sizeof *p.latent);
    snprintf(row, sizeof row, "%d px: latent, %s", size, name);
    tell(k->g, same ? PASSED : FAILED, row, "%s bytes as with all resident", same ? "the same" : "not the same");
    picture_free(&p);
    return true;
}

static void measure_size(struct full *k, int size)
{
    static const struct { const char *name; size_t bytes; } budgets[] = {
        { "13 GB", 13000000000 }, { "8 GB", 8000000000 }, { "4 GB", 4000000000 }, { "2 GB", 2000000000 },
        { "the least", JOB_BUDGET_LEAST }
    };
    struct times t = { 0 };
    struct err e = { 0 };
    char row[96];
    t.compute = measure_ceiling(k, size, &e);
    err_clear(&e);
    snprintf(row, sizeof row, "%d px: step", size);
    if (!measure_budget(k, size, 0, "resident", &t, &e)) {
        tell(k->g, NOT_POSSIBLE, row, "all resident: %s", e.text);
        return;
    }
    for (size_t i = k->g->small ? 4 : 0; i < sizeof budgets / sizeof *budgets; i++) {
        err_clear(&e);
        if (!measure_budget(k, size, budgets[i].bytes, budgets[i].name, &t, &e))
            tell(k->g, NOT_POSSIBLE, row, "%s: %s", budgets[i].name, e.text);
    }
    measure_vae(k, size);
    picture_free(&t.whole);
}

/* From token ids to a picture, as a user meets it after the model was opened. */
static void measure_whole(struct full *k, int size, size_t budget, const char *name)
{
    const struct model *m = &k->model.model;
    struct err e = { 0 };
    struct picture p = { 0 };
    char row[96];
    int32_t *clip_ids = calloc((size_t)m->clip.tokens, sizeof *clip_ids);
    int32_t *t5_ids = calloc((size_t)m->t5.tokens, sizeof *t5_ids);
    struct picture_wish wish = { .width = size, .height = size, .steps = 4, .seed = 1, .guidance = 3.5f,
                                 .budget = budget, .clip_ids = clip_ids, .t5_ids = t5_ids };
    snprintf(row, sizeof row, "%d px: from opening to the first preview, %s", size, name);
    bool ok = (clip_ids && t5_ids) || err_set(&e, ERR_MEMORY, "out of memory");
    if (ok)
        clip_ids[m->clip.tokens - 1] = m->clip.eos_id;
    ok = ok && picture_make(&p, &k->model, k->device, &wish, &e);
    if (ok)
        tell_value(k->g, row, k->opening + p.preview, "s",
                   "opening %.2f s, plan %.2f s, CLIP %.2f s, T5 %.2f s, modulation %.2f s, step 1 %.2f s; then "
                   "%.3f s a step, VAE %.2f s", k->opening, p.plan, p.clip, p.t5, p.modulation, p.first_step,
                   p.step, p.vae);
    else
        tell(k->g, NOT_POSSIBLE, row, "%s", e.text);
    picture_free(&p);
    free(clip_ids);
    free(t5_ids);
}

/* The demo model, whose step is hundreds of short kernels: recorded as one, and started one by one. */
static void measure_recording(struct full *k)
{
    struct picture_model demo;
    struct err e = { 0 };
    double step[2] = { 0 };
    bool ok = picture_open(&demo, "assets/demo", &e);
    for (int plain = 0; plain < 2 && ok; plain++) {
        struct picture_wish wish = { .width = 128, .height = 128, .steps = k->g->small ? 3 : 20, .seed = 1,
                                     .guidance = 3.5f, .budget = (size_t)1 << 30, .no_repeat = plain };
        struct picture p;
        if (k->g->small)
            wish.width = wish.height = 32;
        ok = picture_make(&p, &demo, k->device, &wish, &e);
        step[plain] = p.step;
        picture_free(&p);
    }
    if (ok)
        tell_value(k->g, "a small model's step recorded as one", step[0] * 1e3, "ms",
                   "%.3f ms with every kernel started alone", step[1] * 1e3);
    else
        tell(k->g, NOT_POSSIBLE, "a small model's step recorded as one", "%s", e.text);
    picture_close(&demo);
}

void part_full(const struct gpu *g)
{
    struct full k = { .g = g };
    struct cuda_card card;
    struct err e = { 0 };
    bool opened = open_card(&card, &e);
    enum dtype type = opened && card_has(&card, DT_BF16) ? DT_BF16 : DT_F16;
    if (opened && !watch_begin(&card, &e))
        tell(g, NOT_POSSIBLE, "peaks by NVML", "%s", e.text);
    if (opened)
        err_clear(&e);
    if (opened && link_pinned(card.ordinal, &k.pinned, &e))
        tell_value(g, "link, pinned memory", k.pinned * 1e-9, "GB/s", "the driver's own copy");
    else if (opened)
        tell(g, NOT_POSSIBLE, "link, pinned memory", "%s", e.text);
    if (opened)
        err_clear(&e);
    if (!opened || !open_device(&k.device, type, &e) || !full_open(&k, &e) || !measure_link(&k, &e)) {
        tell(g, NOT_POSSIBLE, "FLUX.1-dev's shapes", "%s", e.text);
        device_free(k.device);
        return;
    }
    tell_value(g, "link, mapped weights", k.link * 1e-9, "GB/s", "as the pager brings them");
    tell(g, NOT_POSSIBLE, "modulation in every step", "the engine always hoists it: there is no switch");
    static const int sizes[] = { 1024, 768, 512 }, small[] = { 32 };
    measure_recording(&k);
    measure_whole(&k, g->small ? small[0] : sizes[0], (size_t)1 << 45, "resident");
    measure_whole(&k, g->small ? small[0] : sizes[0], g->small ? JOB_BUDGET_LEAST : 8000000000, "8 GB");
    for (int i = 0; i < (g->small ? 1 : 3); i++)
        measure_size(&k, g->small ? small[i] : sizes[i]);
    measure_t5(&k);
    picture_close(&k.model);
    device_free(k.device);
}
