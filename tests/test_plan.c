/* test_plan.c - the pager delivers, and the plan is exact.
 *
 * Random traces under random layouts: every byte arrives in order, whatever is
 * resident, streamed or stopped half-way. What is remembered while planning is
 * what would be found anew. Random jobs and budgets on the golden models' shapes:
 * a plan never exceeds its budget, one byte less than the smallest is refused
 * with the number, and pictures are the same bytes under every budget. Does not
 * measure speed (make bench does). SLUICE_SEED replays. */
#include "engine/pager.h"
#include "engine/pipeline.h"
#include "engine/setting.h"
#include "engine/synth.h"
#include "kernels/count.h"
#include "kernels/ref.h"
#include "tests/golden_model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t seed;

static uint64_t next_random(void)
{
    seed += 0x9e3779b97f4a7c15u;
    uint64_t z = seed;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(size_t n) { return (size_t)(next_random() % n); }

/* --- traces ------------------------------------------------------------------------ */

struct made {
    struct trace trace;
    unsigned char *bytes; /* the "file" */
};

/* Pages of 1 to 4000 bytes with and without a second tensor, some strided,
 * in groups of one to five; some used again in a later group. */
static struct made make_trace(size_t pages)
{
    struct made m = { .bytes = malloc(1 << 20) };
    assert_non_null(m.bytes);
    for (size_t i = 0; i < 1 << 20; i++)
        m.bytes[i] = (unsigned char)next_random();
    struct device d;
    ref_device_init(&d, DT_F32);
    trace_record(&m.trace, &d);
    size_t at = 0;
    for (size_t i = 0; i < pages;) {
        size_t group = below(3) ? 1 : 1 + below(5);
        if (group > 1)
            device_hold(&d);
        for (size_t n = 0; n < group && i < pages; n++, i++) {
            struct tensor w, b = { 0 };
            int64_t rows = 1 + (int64_t)below(20), cols = 1 + (int64_t)below(200);
            if (m.trace.count && below(5) == 0) {
                struct page again = m.trace.page[below(m.trace.count)];
                d.weights(&d, &again.w, &again.b);
                continue;
            }
            w = tensor_2d(m.bytes + at, DT_U8, rows, below(3) ? cols : cols + 3);
            if (w.shape[1] > cols)
                w = tensor_cols(w, 1, cols);
            at += (size_t)(rows * (cols + 3));
            if (below(2)) {
                b = tensor_1d(m.bytes + at, DT_U8, 1 + (int64_t)below(100));
                at += tensor_bytes(b);
            }
            d.weights(&d, &w, &b);
            assert_true(at < 1 << 20);
        }
        if (group > 1)
            device_unhold(&d);
    }
    return m;
}

static void made_free(struct made *m)
{
    trace_free(&m->trace);
    free(m->bytes);
}

static void same_bytes(struct tensor got, struct tensor want)
{
    assert_true(tensor_dense(got) && tensor_same_shape(got, want));
    for (int64_t i = 0; i < want.shape[0]; i++)
        assert_memory_equal(want.ndim == 1 ? got.data : tensor_rows(got, i, 1).data,
                            want.ndim == 1 ? want.data : tensor_rows(want, i, 1).data,
                            want.ndim == 1 ? tensor_bytes(want) : (size_t)want.shape[1]);
}

/* Asks for `uses` pages of repeats * count through device->weights as a stage
 * would: in groups, and within one some again. */
static void serve_all(struct made *m, const struct placement *l, void *memory, const struct pager_options *o,
                      size_t uses)
{
    struct device d;
    struct err e = { 0 };
    struct pager *p;
    const struct trace *t = &m->trace;
    ref_device_init(&d, DT_F32);
    assert_true(pager_begin(&p, &d, memory, t, l, o, &e));
    size_t begins = 0;
    for (size_t i = 0; i < uses; i++) {
        const struct page *page = &t->page[i % t->count];
        bool alone = page->ends && begins == i;
        if (begins == i && !alone)
            device_hold(&d);
        size_t asked[2] = { i, begins + below(i - begins + 1) };
        for (int k = 0; k < (alone ? 1 : 2); k++) {
            const struct page *want = &t->page[asked[k] % t->count];
            struct tensor w = want->w, b = want->b;
            d.weights(&d, &w, &b);
            same_bytes(w, want->w);
            if (tensor_present(b))
                same_bytes(b, want->b);
        }
        if (page->ends && !alone)
            device_unhold(&d);
        begins = page->ends ? i + 1 : begins;
    }
    if (uses == o->repeats * t->count) {
        struct link_bytes n = placement_link_bytes(l, t);
        assert_int_equal(pager_stats(p).link_bytes, (o->loaded ? 0 : n.once) + o->repeats * n.each);
    }
    pager_end(p);
    assert_null(d.weights);
    assert_null(d.hold);
}

static void pages_arrive_in_every_layout(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        struct made m = make_trace(1 + below(40));
        size_t all = trace_bytes(&m.trace), room = below(all + all / 4 + 1);
        for (enum ring ring = RING_SINGLE; ring <= RING_NONE; ring++) {
            struct err e = { 0 };
            struct placement l;
            void *memory = NULL;
            assert_true(placement_make(&l, &m.trace, ring, room, &e));
            size_t bytes = placement_bytes(&l);
            assert_true(l.resident_bytes <= (ring == RING_NONE ? all : room));
            assert_int_equal(l.ring_bytes, ring_bytes(&m.trace, ring));
            assert_int_equal(posix_memalign(&memory, 64, bytes + 64), 0);
            memset((char *)memory + bytes, 0xa5, 64);
            struct pager_options o = { .repeats = 1 + below(4) };
            size_t total = o.repeats * m.trace.count;
            serve_all(&m, &l, memory, &o, below(total + 1)); /* stopped half-way, as by a cancel */
            serve_all(&m, &l, memory, &o, total);
            o.loaded = true;
            serve_all(&m, &l, memory, &o, total);
            for (size_t i = 0; i < 64; i++)
                assert_int_equal(((unsigned char *)memory)[bytes + i], 0xa5);
            free(memory);
            placement_free(&l);
        }
        assert_true(trace_widest(&m.trace) <= trace_pair(&m.trace));
        made_free(&m);
    }
}

/* Against looking through all that was asked before: what is new, and what was there first. */
static void a_trace_finds_what_it_has(void **state)
{
    (void)state;
    enum { ASKED = 3000, WEIGHTS = 700 };
    static unsigned char file[WEIGHTS * 64];
    static struct tensor asked[ASKED];
    for (int round = 0; round < 20; round++) {
        struct trace t = { 0 };
        struct device d;
        size_t count = 0, held = 0, few = 1 + below(WEIGHTS);
        bool holding = false;
        ref_device_init(&d, DT_F32);
        trace_record(&t, &d);
        for (int i = 0; i < ASKED; i++) {
            /* of one place there may be two shapes */
            struct tensor w = tensor_1d(file + 64 * below(few), DT_U8, below(8) ? 64 : 32), none = { 0 };
            bool there = false;
            size_t first = count;
            if (below(10) == 0) {
                holding ? device_unhold(&d) : device_hold(&d);
                holding = !holding;
                held = count;
            }
            for (size_t n = count; n-- > 0;)
                if (asked[n].data == w.data && asked[n].shape[0] == w.shape[0]) {
                    there |= holding && n >= held;
                    first = n;
                }
            if (!there)
                asked[count++] = w;
            d.weights(&d, &w, &none);
            assert_int_equal(t.count, count);
            assert_true(there || t.page[count - 1].first == first);
        }
        trace_free(&t);
    }
}

/* A target whose answers depend on all that it is told. */
static size_t told(size_t sum, struct tensor t)
{
    sum = sum * 31 + (size_t)t.dtype;
    for (int i = 0; i < t.ndim; i++)
        sum = (sum * 31 + (size_t)t.shape[i]) * 31 + (size_t)t.stride[i];
    return sum;
}

static size_t scratch_bytes(size_t sum)
{
    return (1 + (sum * 0x9e3779b97f4a7c15u >> 40)) * ARENA_ALIGN;
}

static size_t linear_told(struct device *d, struct tensor y, struct tensor x, struct tensor w)
{
    (void)d;
    return scratch_bytes(told(told(told(1, y), x), w));
}

static size_t attention_told(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    (void)d;
    return scratch_bytes(told(told(told(2, o), q), k));
}

static size_t conv2d_told(struct device *d, struct tensor y, struct tensor x, struct tensor w, const struct conv2d *c)
{
    (void)d;
    size_t how = (size_t)c->stride + 7 * (size_t)c->top + 49 * (size_t)c->left + 343 * (size_t)c->bottom +
                 2401 * (size_t)c->right + 16807 * (size_t)c->accumulate;
    return scratch_bytes(told(told(told(how, y), x), w));
}

/* What the count device remembers of its target's scratch is what the target says. */
static void scratch_is_what_the_target_says(void **state)
{
    (void)state;
    static const struct device_ops ops = { .name = "told", .linear_scratch = linear_told,
                                           .attention_scratch = attention_told, .conv2d_scratch = conv2d_told };
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    struct device target = { .ops = &ops, .compute = DT_F32 };
    struct tensor none = { 0 };
    struct count_device c;
    count_device_init(&c, &target);
    for (int i = 0; i < 200000; i++) {
        size_t want = 0;
        enum dtype a = types[below(3)], b = types[below(3)];
        int64_t m = 1 + (int64_t)below(5), n = 1 + (int64_t)below(5), k = 2 + (int64_t)below(4);
        c.device.arena.peak = 0;
        if (below(3) == 0) {
            struct tensor x = tensor_cols(tensor_2d(NULL, b, m, 2 * k), 0, below(2) ? k : 2 * k);
            struct tensor y = tensor_2d(NULL, a, m, n), w = tensor_2d(NULL, types[below(3)], n, x.shape[1]);
            want = linear_told(&target, y, x, w);
            device_linear(&c.device, y, x, w, none, ACT_NONE);
        } else if (below(2)) {
            struct tensor q = tensor_split(tensor_2d(NULL, a, m, n * k), n, k),
                o = tensor_split(tensor_2d(NULL, b, m, n * k), n, k);
            struct tensor v = tensor_split(tensor_2d(NULL, a, 1 + (int64_t)below(5), n * k), n, k);
            want = attention_told(&target, o, q, v);
            device_attention(&c.device, o, q, v, v, &(struct attention){ .scale = 1 });
        } else {
            struct conv2d how = { .stride = 1 + (int)below(2), .top = (int)below(2), .left = (int)below(2),
                                  .bottom = (int)below(2), .right = (int)below(2), .accumulate = below(2) };
            struct tensor x = tensor_3d(NULL, a, 3 + m, 3 + n, k), w = tensor_4d(NULL, b, n, k, 3, 3);
            struct tensor y = tensor_3d(NULL, b, (m + how.top + how.bottom) / how.stride + 1,
                                        (n + how.left + how.right) / how.stride + 1, n);
            want = conv2d_told(&target, y, x, w, &how);
            device_conv2d(&c.device, y, x, w, none, &how);
        }
        if (c.device.arena.peak != want)
            fail_msg("call %d: %zu bytes of scratch, the target says %zu", i, c.device.arena.peak, want);
    }
}

static void an_empty_trace_is_nothing(void **state)
{
    (void)state;
    struct trace t = { 0 };
    struct placement l;
    struct device d;
    struct pager *p;
    struct err e = { 0 };
    ref_device_init(&d, DT_F32);
    assert_true(placement_make(&l, &t, RING_FULL, 0, &e));
    assert_int_equal(placement_bytes(&l), 0);
    assert_true(pager_begin(&p, &d, NULL, &t, &l, &(struct pager_options){ .repeats = 3 }, &e));
    assert_null(p);
    pager_end(p);
    placement_free(&l);
}

/* More memory never means more bytes over the link. */
static void more_memory_streams_no_more(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct made m = make_trace(2 + below(40));
        size_t all = trace_bytes(&m.trace), before = SIZE_MAX;
        for (size_t room = 0; room < all; room += all / 20 + 1) {
            struct placement l;
            struct err e = { 0 };
            assert_true(placement_make(&l, &m.trace, RING_FULL, room, &e));
            size_t each = placement_link_bytes(&l, &m.trace).each;
            if (each > before)
                fail_msg("%zu bytes stream %zu, less memory only %zu", room, each, before);
            before = each;
            placement_free(&l);
        }
        made_free(&m);
    }
}

/* --- whole jobs ---------------------------------------------------------------------- */

static const char *const goldens[] = { "dev96", "schnell128", "odd320", "wide256" };
static char scratch[FILE_PATH_MAX];

struct golden {
    struct model model;
    struct pipeline *pipeline;
    struct job job;
};

static void golden_open_path(struct golden *g, const char *path)
{
    char out[FILE_PATH_MAX];
    struct err e = { 0 };
    if (!model_open(&g->model, path, true, &e) || !pipeline_new(&g->pipeline, &g->model, &e) ||
        !job_init(&g->job, &g->model, &e) || !job_set_string(&g->job.out, path_in(scratch, "out.png", out), &e) ||
        !job_set_string(&g->job.prompt, "a plan", &e))
        fail_msg("%s", e.text);
    g->job.width = 64;
    g->job.height = 32;
    g->job.steps = 2;
    g->job.embedding_cache = false;
#ifdef __SANITIZE_THREAD__
    g->job.threads = 1; /* libgomp is not instrumented: its barriers look like races */
#else
    g->job.threads = 2;
#endif
}

static void golden_open(struct golden *g, const char *name)
{
    char path[FILE_PATH_MAX];
    golden_make(name, path_in(scratch, name, path));
    golden_open_path(g, path);
}

static void golden_close(struct golden *g)
{
    pipeline_free(g->pipeline);
    job_free(&g->job);
}

struct seen {
    struct image *image;
    struct event_memory memory;
};

static void see(void *user, struct event *ev)
{
    struct seen *s = user;
    if (ev->kind == EVENT_MEMORY)
        s->memory = ev->memory;
    if (ev->kind == EVENT_DONE) {
        s->image = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

static struct seen run(struct golden *g, size_t budget)
{
    struct seen s = { 0 };
    struct err e = { 0 };
    struct pipeline_hooks hooks = { .emit = see, .user = &s };
    g->job.budget = budget;
    if (!pipeline_run(g->pipeline, &g->job, 1, &hooks, &e))
        fail_msg("budget %zu: %s", budget, e.text);
    assert_non_null(s.image);
    return s;
}

static size_t least_budget(struct golden *g)
{
    struct plan p;
    struct err e = { 0 };
    char notice[EVENT_TEXT_BYTES];
    g->job.budget = JOB_BUDGET_LEAST;
    if (!pipeline_plan(g->pipeline, &g->job, &p, notice, &e))
        fail_msg("%s", e.text);
    size_t least = p.budget;
    plan_free(&p);
    return least;
}

static void every_budget_gives_the_same_picture(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof goldens / sizeof *goldens; n++) {
        struct golden g;
        golden_open(&g, goldens[n]);
        for (enum precision precision = PRECISION_FP32; precision < PRECISION_COUNT_; precision++) {
            g.job.precision = precision;
            struct seen want = run(&g, 0);
            size_t least = least_budget(&g);
            size_t budgets[] = { JOB_BUDGET_LEAST, least, least + 4096, 2 * least, 20 * least, (size_t)1 << 40 };
            for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
                struct seen got = run(&g, budgets[i]);
                assert_memory_equal(got.image->rgb, want.image->rgb,
                                    (size_t)want.image->width * (size_t)want.image->height * 3);
                assert_true(got.memory.arena_bytes <= (i ? budgets[i] : least));
                assert_int_equal(got.memory.peak_bytes, got.memory.arena_bytes); /* the plan is exact */
                image_free(got.image);
            }
            image_free(want.image);
        }
        golden_close(&g);
    }
}

/* However the work is cut and wherever the weights are. */
static void every_way_gives_the_same_picture(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof goldens / sizeof *goldens; n++) {
        struct golden g;
        golden_open(&g, goldens[n]);
        g.job.cfg = 1.5f;
        for (enum precision precision = PRECISION_FP32; precision <= PRECISION_BF16; precision++) {
            g.job.precision = precision;
            struct job usual = g.job;
            struct seen want = run(&g, 0);
            for (int way = 0; way < 12; way++) {
                g.job.recompute = (const int[]){ 16, 17, 32, 50, JOB_OFF, JOB_AUTO }[way % 6];
                g.job.t5_chunk = (const int[]){ 8, 13, JOB_OFF, 16 }[way % 4];
                g.job.text_encoders = (enum text_encoders)(way % 4);
                g.job.transformer = (enum transformer_weights)(way % 3);
                struct seen got = run(&g, way < 6 ? JOB_BUDGET_LEAST : way == 6 ? 0 : (size_t)1 << 40);
                if (memcmp(got.image->rgb, want.image->rgb, (size_t)want.image->width * (size_t)want.image->height * 3))
                    fail_msg("%s %s: another picture in way %d", goldens[n], precision_name(precision), way);
                assert_int_equal(got.memory.peak_bytes, got.memory.arena_bytes);
                image_free(got.image);
            }
            image_free(want.image);
            g.job = usual;
        }
        golden_close(&g);
    }
}

/* In place, with all resident, and with a half, a quarter and the least of that, each cut another way. */
static void fractions_give_the_same_picture(struct golden *g)
{
    static const struct {
        size_t part; /* of what all-resident takes; 0: the least */
        int recompute, t5_chunk;
        enum text_encoders text_encoders;
        enum vae_mode vae;
    } ways[] = {
        { 1, JOB_OFF, JOB_OFF, TEXT_ENCODERS_RESIDENT, VAE_WHOLE },
        { 2, JOB_AUTO, JOB_AUTO, TEXT_ENCODERS_AUTO, VAE_AUTO },
        { 4, 256, JOB_AUTO, TEXT_ENCODERS_SEQUENTIAL, VAE_BANDS },
        { 0, JOB_AUTO, JOB_AUTO, TEXT_ENCODERS_AUTO, VAE_AUTO },
        { 0, 32, 32, TEXT_ENCODERS_AUTO, VAE_BANDS },
        { 1, 100, 77, TEXT_ENCODERS_ALTERNATE, VAE_BANDS },
    };
    struct job usual = g->job;
    struct seen want = run(g, 0);
    size_t all = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        g->job.recompute = ways[i].recompute;
        g->job.t5_chunk = ways[i].t5_chunk;
        g->job.text_encoders = ways[i].text_encoders;
        g->job.vae = ways[i].vae;
        struct seen got = run(g, !ways[i].part ? JOB_BUDGET_LEAST : all ? all / ways[i].part : (size_t)1 << 40);
        all = all ? all : got.memory.arena_bytes;
        if (memcmp(got.image->rgb, want.image->rgb, (size_t)want.image->width * (size_t)want.image->height * 3))
            fail_msg("another picture in way %zu", i);
        assert_int_equal(got.memory.peak_bytes, got.memory.arena_bytes);
        image_free(got.image);
    }
    image_free(want.image);
    g->job = usual;
}

static void the_shipped_model_keeps_its_picture(void **state)
{
    (void)state;
    struct golden g;
    golden_open_path(&g, "assets/demo");
    g.job.width = g.job.height = 128;
    fractions_give_the_same_picture(&g);
    golden_close(&g);
}

/* FLUX.1-dev in every width, one layer deep: what the kernels choose by shape is chosen here as for the
 * real one. Also: weights are never copied into the process's own memory. */
static void full_width_keeps_its_picture(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    struct err e = { 0 };
    struct golden g;
    struct synth_options o = { .arch = "flux-dev", .doubles = 1, .singles = 1, .t5_layers = 1, .clip_layers = 1,
                               .dtype = DT_BF16 };
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    skip(); /* minutes, and the same code as the small ones' */
#endif
    if (!synth_write(path_in(scratch, "wide", path), &o, "assets/demo", NULL, NULL, &e)) {
        print_message("skipped: %s\n", e.text); /* 2 GB of disk */
        skip();
    }
    golden_open_path(&g, path);
    g.job.width = 96;
    g.job.height = 64;
    g.job.steps = 1;
    fractions_give_the_same_picture(&g);
    struct seen least = run(&g, JOB_BUDGET_LEAST);
    if (least.memory.rss_anonymous > least.memory.arena_bytes + ((size_t)256 << 20))
        fail_msg("%zu bytes of memory of its own, arena %zu", least.memory.rss_anonymous, least.memory.arena_bytes);
    image_free(least.image);
    golden_close(&g);
}

/* --- random plans ----------------------------------------------------------------------- */

static int pick(const int *from, size_t n) { return from[below(n)]; }
#define PICK(...) pick((const int[]){ __VA_ARGS__ }, sizeof((int[]){ __VA_ARGS__ }) / sizeof(int))

/* Anything a profile may say. */
static void random_job(struct job *j, const struct model *m)
{
    int side = m->flux.hidden > 1000 ? 130 : 40; /* in steps of 16 px */
    j->width = 16 * (1 + (int)below((size_t)side));
    j->height = 16 * (1 + (int)below((size_t)side));
    j->steps = 1 + (int)below(50);
    j->cfg = below(4) ? 1 : 2;
    j->sampler = (enum sampler_kind)below(SAMPLER_COUNT_);
    j->text_encoders = (enum text_encoders)PICK(TEXT_ENCODERS_AUTO, TEXT_ENCODERS_AUTO, TEXT_ENCODERS_AUTO,
                                                TEXT_ENCODERS_RESIDENT, TEXT_ENCODERS_ALTERNATE,
                                                TEXT_ENCODERS_SEQUENTIAL);
    j->transformer = (enum transformer_weights)PICK(TRANSFORMER_AUTO, TRANSFORMER_AUTO, TRANSFORMER_RESIDENT,
                                                    TRANSFORMER_OFFLOAD);
    j->recompute = PICK(JOB_AUTO, JOB_AUTO, JOB_OFF, 16, 100, 1000);
    j->t5_chunk = PICK(JOB_AUTO, JOB_AUTO, JOB_OFF, 8, 77);
    j->t5_chunk_mode = (enum t5_chunk_mode)below(2);
    j->vae = (enum vae_mode)PICK(VAE_AUTO, VAE_AUTO, VAE_WHOLE, VAE_BANDS, VAE_TILES);
    j->vae_band = PICK(JOB_AUTO, 8, 40, 500);
    j->vae_tile = PICK(16, 64);
    j->vae_overlap = 7;
    j->preview = (enum preview_mode)PICK(PREVIEW_NONE, PREVIEW_AUTO, PREVIEW_LATENT, PREVIEW_TAEF1);
}

/* The plan's own pieces once more on the count device, in the arena it asks for. */
static void runs_within(const struct plan *p)
{
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        const struct plan_phase *q = &p->phase[i];
        size_t weights = p->kept_bytes && i <= PHASE_T5 ? 0 : placement_bytes(&q->placement);
        assert_true(p->kept_bytes + weights + q->activations <= q->peak);
        assert_true(q->peak <= p->arena_bytes);
        assert_true(q->ring == RING_NONE ? q->placement.ring_bytes == 0 : q->placement.ring_bytes > 0);
    }
    size_t weights = p->phase[PHASE_STEP].peak - p->phase[PHASE_STEP].activations;
    assert_true(p->preview.scale ? p->preview.peak == weights + p->preview.activations : p->preview.peak == 0);
    assert_true(p->preview.peak <= p->arena_bytes);
}

struct case_models {
    struct model model;
    struct clip *clip;
    struct t5 *t5;
    struct flux *flux;
    struct vae *vae;
    struct taef1 *taef1; /* where the latents are such as it takes */
};

static void case_open(struct case_models *c, const char *path)
{
    struct err e = { 0 };
    if (!model_open(&c->model, path, true, &e) || !clip_open(&c->clip, &c->model, &e) ||
        !t5_open(&c->t5, &c->model, &e) || !flux_open(&c->flux, &c->model, &e) ||
        !vae_open(&c->vae, &c->model, false, &e))
        fail_msg("%s", e.text);
    c->taef1 = NULL;
    if (c->model.vae.latent_channels != 16 || c->model.vae.factor != 8)
        return;
    char decoder[FILE_PATH_MAX];
    path_in(scratch, "decoder.safetensors", decoder);
    if ((!file_exists(decoder) && !synth_from_header(GOLDEN_DIR "/taef1/sequential.json", decoder, 5, &e)) ||
        !taef1_open(&c->taef1, decoder, 16, 8, &e))
        fail_msg("%s", e.text);
}

static void case_close(struct case_models *c)
{
    clip_close(c->clip);
    t5_close(c->t5);
    flux_close(c->flux);
    vae_close(c->vae);
    taef1_close(c->taef1);
}

static size_t resident_bytes(const struct plan *p)
{
    size_t bytes = 0;
    for (enum phase i = 0; i < PHASE_COUNT; i++)
        bytes += p->phase[i].placement.resident_bytes;
    return bytes;
}

/* One job under rising budgets, from the least on. */
static void budgets_of(const struct case_models *c, const struct job *j, int budgets)
{
    struct device d;
    struct err e = { 0 };
    struct plan p;
    char number[32];
    ref_device_init(&d, DT_BF16); /* whose operations need no scratch, so that nothing is compiled */
    struct models m = { &c->model, c->clip, c->t5, c->flux, c->vae, c->taef1 };
    struct plan_devices devices = { &d, &d };
    struct plan_rates rates = { 1e9 * (double)(1 + below(100000)), 1e9 * (double)(1 + below(100000)),
                                1e6 * (double)(1 + below(100000)), 0 };
    if (!plan_make(&p, &m, j, &devices, &rates, JOB_BUDGET_LEAST, &e))
        fail_msg("%s", e.text);
    size_t least = p.budget, budget = least, resident = 0;
    double seconds = -1;
    plan_free(&p);
    for (int i = 0; i < budgets; i++, budget += 1 + below(least)) {
        if (!plan_make(&p, &m, j, &devices, &rates, budget, &e))
            fail_msg("budget %zu, least %zu: %s", budget, least, e.text);
        assert_true(p.arena_bytes <= budget);
        assert_true(j->preview != PREVIEW_TAEF1 || !c->taef1 || p.preview.scale);
        assert_true(j->preview != PREVIEW_AUTO || p.preview.flops * p.preview.repeats * 10 <=
                                                      p.phase[PHASE_STEP].flops * p.phase[PHASE_STEP].repeats);
        runs_within(&p);
        if (resident_bytes(&p) < resident)
            fail_msg("budget %zu: %zu bytes resident, with less %zu", budget, resident_bytes(&p), resident);
        if (seconds >= 0 && plan_seconds(&p) > seconds * (1 + 1e-12))
            fail_msg("budget %zu: %.17g s, with less %.17g s", budget, plan_seconds(&p), seconds);
        resident = resident_bytes(&p);
        seconds = plan_seconds(&p);
        plan_free(&p);
    }
    assert_false(plan_make(&p, &m, j, &devices, &rates, least - 1, &e));
    plan_free(&p);
    snprintf(number, sizeof number, " %zu ", least);
    if (!strstr(e.text, number))
        fail_msg("%s: no %s", e.text, number);
}

/* 10,000 plans: the small models' shapes and random depths at FLUX.1's width,
 * random jobs, random budgets. A plan keeps its budget; more is never slower by prediction and never
 * has less resident; one byte below the least is refused with the number. */
static void plans_keep_their_promises(void **state)
{
    (void)state;
    enum { MODELS = 12, JOBS = 84, BUDGETS = 10 };
    for (size_t n = 0; n < MODELS; n++) {
        char path[FILE_PATH_MAX], name[32];
        struct err e = { 0 };
        struct case_models c;
        struct job j;
        snprintf(name, sizeof name, "shape%zu", n);
        path_in(scratch, name, path);
        struct synth_options o = { .arch = below(2) ? "flux-dev" : "flux-schnell", .doubles = (int)below(4),
                                   .singles = (int)below(6), .t5_layers = 1 + (int)below(3),
                                   .clip_layers = 1 + (int)below(3),
                                   .dtype = (enum dtype)PICK(DT_F32, DT_BF16, DT_F16), .headers_only = true };
        if (n < sizeof goldens / sizeof *goldens)
            golden_make(goldens[n], path);
        else if (!synth_write(path, &o, "assets/demo", NULL, NULL, &e))
            fail_msg("%s", e.text);
        case_open(&c, path);
        assert_true(job_init(&j, &c.model, &e));
        for (int round = 0; round < JOBS; round++) {
            random_job(&j, &c.model);
            budgets_of(&c, &j, BUDGETS);
        }
        job_free(&j);
        case_close(&c);
    }
}

static void sizes_in_words(void **state)
{
    (void)state;
    static const struct { const char *text; size_t bytes; } good[] = {
        { "600M", 600000000 }, { "8G", 8000000000 }, { "8GiB", 8589934592 }, { "1.5g", 1500000000 }, { "64k", 64000 },
        { "12345", 12345 }, { "7B", 7 }, { "2KB", 2000 }, { "none", 0 }, { "min", JOB_BUDGET_LEAST },
    };
    static const char *const bad[] = { "", "0", "-1", "8Q", "G", "8 G", "8GG", "1e30", "nan", "0x10", "minimal" };
    const struct setting *budget = setting_find("budget");
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct job j = { .budget = 1 };
        struct err e = { 0 };
        if (setting_set(&j, budget, good[i].text, &e) != SETTING_SET || j.budget != good[i].bytes)
            fail_msg("%s: %zu %s", good[i].text, j.budget, e.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct job j = { 0 };
        struct err e = { 0 };
        if (setting_set(&j, budget, bad[i], &e) == SETTING_SET)
            fail_msg("\"%s\" was taken for %zu bytes", bad[i], j.budget);
        assert_true(e.text[0] != 0);
    }
}

static int make_scratch(void **state)
{
    (void)state;
    scratch_make(scratch);
    return 0;
}

static int remove_scratch(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

/* --- plans beside a job ---------------------------------------------------------------- */

static void same_as_planned(struct golden *g, const struct plan_summary *s)
{
    struct plan p;
    struct err e = { 0 };
    char notice[EVENT_TEXT_BYTES];
    if (!pipeline_plan(g->pipeline, &g->job, &p, notice, &e))
        fail_msg("%s", e.text);
    assert_true(s->ok);
    assert_false(s->card);
    assert_int_equal(s->arena, p.arena_bytes);
    assert_int_equal(s->budget, p.budget);
    assert_int_equal(s->link, plan_link_bytes(&p));
    assert_int_equal(s->top, plan_top(&p));
    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        assert_int_equal(s->phase[i].peak, p.phase[i].peak);
        assert_int_equal(s->phase[i].activations, p.phase[i].activations);
        assert_int_equal(s->phase[i].weights, trace_bytes(&p.phase[i].trace));
        assert_int_equal(s->phase[i].resident + s->phase[i].ring, placement_bytes(&p.phase[i].placement));
    }
    plan_free(&p);
}

static void what_is_foreseen_is_what_is_planned(void **state)
{
    (void)state;
    struct plan_summary s;
    for (size_t n = 0; n < sizeof goldens / sizeof *goldens; n++) {
        struct golden g;
        golden_open(&g, goldens[n]);
        for (enum precision precision = PRECISION_FP32; precision < PRECISION_COUNT_; precision++) {
            g.job.precision = precision;
            size_t least = least_budget(&g),
                budgets[] = { 0, JOB_BUDGET_LEAST, least, least + below(least), 600000000 };
            for (size_t i = 0; i < sizeof budgets / sizeof *budgets; i++) {
                g.job.budget = budgets[i];
                pipeline_foresee(g.pipeline, &g.job, &s);
                same_as_planned(&g, &s);
                assert_true(s.memory.total >= s.memory.free && s.memory.free > 0);
            }
            g.job.budget = least - 1;
            pipeline_foresee(g.pipeline, &g.job, &s);
            assert_false(s.ok);
            assert_non_null(strstr(s.text, "needs at least"));
        }
        g.job.width = 0; /* what Enter would refuse is refused here */
        pipeline_foresee(g.pipeline, &g.job, &s);
        assert_false(s.ok);
        assert_non_null(strstr(s.text, "0"));
        golden_close(&g);
    }
}

struct watcher {
    struct golden *g;
    struct job job;
    atomic_bool stop;
    atomic_int plans;
    size_t arena[PRECISION_COUNT_];
    bool ok;
};

static void *foresee_on(void *user)
{
    struct watcher *w = user;
    struct plan_summary s;
    w->ok = true;
    for (int n = 0; !atomic_load(&w->stop) && w->ok; n++) {
        w->job.precision = (enum precision)(n % PRECISION_COUNT_); /* another device than the job's, often */
        pipeline_foresee(w->g->pipeline, &w->job, &s);
        w->ok = s.ok && s.arena == w->arena[w->job.precision];
        atomic_fetch_add(&w->plans, 1);
    }
    return NULL;
}

/* A job runs as if nobody planned beside it, and plans are as if nothing ran. */
static void plans_beside_a_job(void **state)
{
    (void)state;
    struct golden g;
    struct watcher w = { .g = &g };
    struct err e = { 0 };
    struct plan_summary s;
    pthread_t thread;
    golden_open(&g, goldens[0]);
    g.job.embedding_cache = false;
    struct seen want = run(&g, 600000000);
    if (!job_copy(&w.job, &g.job, &e))
        fail_msg("%s", e.text);
    for (enum precision p = PRECISION_FP32; p < PRECISION_COUNT_; p++) {
        w.job.precision = p;
        pipeline_foresee(g.pipeline, &w.job, &s);
        assert_true(s.ok);
        w.arena[p] = s.arena;
    }
    assert_int_equal(pthread_create(&thread, NULL, foresee_on, &w), 0);
    for (int i = 0; i < 20 && (i < 2 || atomic_load(&w.plans) < 6); i++) {
        struct seen got = run(&g, 600000000);
        assert_memory_equal(got.image->rgb, want.image->rgb,
                            (size_t)want.image->width * (size_t)want.image->height * 3);
        image_free(got.image);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_true(w.ok);
    assert_true(atomic_load(&w.plans) > 0);
    image_free(want.image);
    job_free(&w.job);
    golden_close(&g);
}

/* The last that is told of the link is what the plan has said. */
static void the_link_is_told(void **state)
{
    (void)state;
    struct golden g;
    struct plan_summary s;
    golden_open(&g, goldens[0]);
    g.job.embedding_cache = false;
    g.job.budget = least_budget(&g);
    pipeline_foresee(g.pipeline, &g.job, &s);
    struct seen got = run(&g, g.job.budget);
    assert_true(s.link > 0);
    assert_int_equal(got.memory.link_bytes, s.link);
    assert_true(got.memory.host_total >= got.memory.host_free && got.memory.host_free > 0);
    image_free(got.image);
    golden_close(&g);
}

int main(void)
{
    const char *given = getenv("SLUICE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 1;
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_arrive_in_every_layout),
        cmocka_unit_test(a_trace_finds_what_it_has),
        cmocka_unit_test(scratch_is_what_the_target_says),
        cmocka_unit_test(an_empty_trace_is_nothing),
        cmocka_unit_test(more_memory_streams_no_more),
        cmocka_unit_test(every_budget_gives_the_same_picture),
        cmocka_unit_test(every_way_gives_the_same_picture),
        cmocka_unit_test(the_shipped_model_keeps_its_picture),
        cmocka_unit_test(full_width_keeps_its_picture),
        cmocka_unit_test(plans_keep_their_promises),
        cmocka_unit_test(sizes_in_words),
        cmocka_unit_test(what_is_foreseen_is_what_is_planned),
        cmocka_unit_test(plans_beside_a_job),
        cmocka_unit_test(the_link_is_told),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
