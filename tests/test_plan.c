/* test_plan.c - the pager delivers, and the plan is exact.
 *
 * Random traces under random layouts: every byte arrives in order, whatever is
 * resident, streamed or stopped half-way. Random jobs and budgets on the golden
 * models' shapes: a plan never exceeds its budget, one byte less than the
 * smallest is refused with the number, and pictures are the same bytes under
 * every budget. Does not measure speed (make bench does). SLUICE_SEED replays. */
#include "engine/pager.h"
#include "engine/pipeline.h"
#include "kernels/ref.h"
#include "tests/golden_model.h"

#include <setjmp.h>
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

/* Pages of 1 to 4000 bytes with and without a second tensor, some used twice,
 * some strided. */
static struct made make_trace(size_t pages)
{
    struct made m = { .bytes = malloc(1 << 20) };
    assert_non_null(m.bytes);
    for (size_t i = 0; i < 1 << 20; i++)
        m.bytes[i] = (unsigned char)next_random();
    m.trace.page = calloc(pages, sizeof *m.trace.page);
    m.trace.count = m.trace.room = pages;
    size_t at = 0;
    for (size_t i = 0; i < pages; i++) {
        struct page *p = &m.trace.page[i];
        if (i && below(5) == 0) {
            *p = m.trace.page[below(i)];
            continue;
        }
        int64_t rows = 1 + (int64_t)below(20), cols = 1 + (int64_t)below(200);
        p->w = tensor_2d(m.bytes + at, DT_U8, rows, cols + 3);
        if (below(3))
            p->w = tensor_2d(m.bytes + at, DT_U8, rows, cols);
        else
            p->w = tensor_cols(p->w, 1, cols);
        at += (size_t)(rows * (cols + 3));
        p->bytes = (tensor_bytes(p->w) + 63) / 64 * 64;
        if (below(2)) {
            p->b = tensor_1d(m.bytes + at, DT_U8, 1 + (int64_t)below(100));
            at += tensor_bytes(p->b);
            p->bytes += (tensor_bytes(p->b) + 63) / 64 * 64;
        }
        assert_true(at < 1 << 20);
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

/* Serves `uses` pages of repeats * count through device->weights as an operation would. */
static void serve_all(struct made *m, const struct placement *l, size_t repeats, size_t uses)
{
    struct device d;
    struct err e = { 0 };
    struct pager *p;
    void *memory = NULL;
    size_t bytes = placement_bytes(l);
    ref_device_init(&d, DT_F32);
    assert_int_equal(posix_memalign(&memory, 64, bytes + 64), 0);
    memset((char *)memory + bytes, 0xa5, 64);
    assert_true(pager_begin(&p, &d, memory, &m->trace, l, repeats, 0, &e));
    for (size_t i = 0; i < uses; i++) {
        const struct page *page = &m->trace.page[i % m->trace.count];
        struct tensor w = page->w, b = page->b;
        d.weights(&d, &w, &b);
        same_bytes(w, page->w);
        if (tensor_present(b))
            same_bytes(b, page->b);
    }
    if (uses == repeats * m->trace.count) {
        struct link_bytes n = placement_link_bytes(l, &m->trace);
        assert_int_equal(pager_stats(p).link_bytes, n.once + repeats * n.each);
    }
    pager_end(p);
    assert_null(d.weights);
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(((unsigned char *)memory)[bytes + i], 0xa5);
    free(memory);
}

static void pages_arrive_in_every_layout(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        struct made m = make_trace(1 + below(40));
        size_t largest = trace_largest(&m.trace), all = trace_bytes(&m.trace), least;
        size_t bytes = largest + below(all + 2 * largest);
        struct err e = { 0 };
        struct placement l;
        assert_true(placement_make(&l, &m.trace, bytes, &least, &e));
        assert_true(placement_bytes(&l) <= bytes);
        assert_true(bytes < all || l.ring_bytes == 0);
        size_t repeats = 1 + below(4), total = repeats * m.trace.count;
        serve_all(&m, &l, repeats, total);
        serve_all(&m, &l, repeats, below(total + 1)); /* stopped half-way, as by a cancel */
        placement_free(&l);
        assert_false(placement_make(&l, &m.trace, largest - 1, &least, &e));
        assert_int_equal(least, largest);
        placement_free(&l);
        made_free(&m);
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
    size_t least;
    ref_device_init(&d, DT_F32);
    assert_true(placement_make(&l, &t, 0, &least, &e));
    assert_true(pager_begin(&p, &d, NULL, &t, &l, 3, 0, &e));
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
        size_t largest = trace_largest(&m.trace), all = trace_bytes(&m.trace), least, before = SIZE_MAX;
        for (size_t bytes = 3 * largest; bytes < all + largest; bytes += largest / 3 + 1) {
            struct placement l;
            struct err e = { 0 };
            assert_true(placement_make(&l, &m.trace, bytes, &least, &e));
            size_t each = placement_link_bytes(&l, &m.trace).each;
            if (each > before)
                fail_msg("%zu bytes stream %zu, less memory only %zu", bytes, each, before);
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

static void golden_open(struct golden *g, const char *name)
{
    char path[FILE_PATH_MAX], out[FILE_PATH_MAX];
    struct err e = { 0 };
    golden_make(name, path_in(scratch, name, path));
    if (!model_open(&g->model, path, true, &e) || !pipeline_new(&g->pipeline, &g->model, &e) ||
        !job_init(&g->job, &g->model, &e) || !job_set_string(&g->job.out, path_in(scratch, "out.png", out), &e) ||
        !job_set_string(&g->job.prompt, "a plan", &e))
        fail_msg("%s", e.text);
    g->job.width = 64;
    g->job.height = 32;
    g->job.steps = 2;
#ifdef __SANITIZE_THREAD__
    g->job.threads = 1; /* libgomp is not instrumented: its barriers look like races */
#else
    g->job.threads = 2;
#endif
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
    g->job.budget = JOB_BUDGET_LEAST;
    if (!pipeline_plan(g->pipeline, &g->job, &p, &e))
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

/* Random sizes, steps and budgets, planned for the ref device (whose operations
 * need no scratch, so that nothing is compiled): no plan exceeds its budget; more memory never
 * streams more; one byte below the least is refused with the number. */
static void plans_keep_their_budget(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof goldens / sizeof *goldens; n++) {
        struct golden g;
        struct device d;
        struct err e = { 0 };
        struct clip *clip;
        struct t5 *t5;
        struct flux *flux;
        struct vae *vae;
        golden_open(&g, goldens[n]);
        ref_device_init(&d, DT_BF16);
        assert_true(clip_open(&clip, &g.model, &e) && t5_open(&t5, &g.model, &e) && flux_open(&flux, &g.model, &e) &&
                    vae_open(&vae, &g.model, false, &e));
        struct models m = { &g.model, clip, t5, flux, vae };
        for (int round = 0; round < 250; round++) {
            struct plan p;
            char number[32];
            size_t least, link = SIZE_MAX;
            g.job.width = 16 * (1 + (int)below(100));
            g.job.height = 16 * (1 + (int)below(100));
            g.job.steps = 1 + (int)below(50);
            err_clear(&e);
            assert_true(plan_make(&p, &m, &g.job, &d, JOB_BUDGET_LEAST, &e));
            least = p.budget;
            plan_free(&p);
            size_t budget = least;
            for (int i = 0; i < 10; i++, budget += 1 + below(least)) {
                assert_true(plan_make(&p, &m, &g.job, &d, budget, &e));
                assert_true(p.arena_bytes <= budget);
                assert_true(plan_link_bytes(&p) <= link);
                link = plan_link_bytes(&p);
                plan_free(&p);
            }
            assert_false(plan_make(&p, &m, &g.job, &d, least - 1, &e));
            plan_free(&p);
            snprintf(number, sizeof number, " %zu ", least);
            if (!strstr(e.text, number))
                fail_msg("%s: no %s", e.text, number);
        }
        clip_close(clip);
        t5_close(t5);
        flux_close(flux);
        vae_close(vae);
        golden_close(&g);
    }
}

static void sizes_in_words(void **state)
{
    (void)state;
    static const struct { const char *text; size_t bytes; } good[] = {
        { "600M", 600000000 }, { "8G", 8000000000 }, { "8GiB", 8589934592 }, { "1.5g", 1500000000 }, { "64k", 64000 },
        { "12345", 12345 }, { "7B", 7 }, { "2KB", 2000 }, { "none", 0 }, { "min", JOB_BUDGET_LEAST },
    };
    static const char *const bad[] = { "", "0", "-1", "8Q", "G", "8 G", "8GG", "1e30", "nan", "0x10", "minimum" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        size_t bytes = 1;
        struct err e = { 0 };
        if (!job_parse_budget(good[i].text, &bytes, &e) || bytes != good[i].bytes)
            fail_msg("%s: %zu %s", good[i].text, bytes, e.text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        size_t bytes;
        struct err e = { 0 };
        if (job_parse_budget(bad[i], &bytes, &e))
            fail_msg("\"%s\" was taken for %zu bytes", bad[i], bytes);
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

int main(void)
{
    const char *given = getenv("SLUICE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 1;
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_arrive_in_every_layout),
        cmocka_unit_test(an_empty_trace_is_nothing),
        cmocka_unit_test(more_memory_streams_no_more),
        cmocka_unit_test(every_budget_gives_the_same_picture),
        cmocka_unit_test(plans_keep_their_budget),
        cmocka_unit_test(sizes_in_words),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
