/* test_vae.c - a picture in bands is the same picture, and in tiles nearly so.
 *
 * The goldens' small VAEs, one with all that a config may ask for, and one as
 * wide as FLUX.1's, with random weights, on the cpu device: whole and in bands, in
 * exactly as much arena as the count device says, asking for weights in exactly
 * the order that it recorded. That the whole picture is right is test_golden's. */
#include "engine/pager.h"
#include "engine/rng.h"
#include "engine/shapes.h"
#include "engine/synth.h"
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
#include <sys/stat.h>

#include <cmocka.h>

static char scratch[FILE_PATH_MAX];
static uint64_t seed = 1;

/* splitmix64 */
static uint64_t next_random(void)
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int below(int n) { return (int)(next_random() % (uint64_t)n); }

/* --- models ------------------------------------------------------------------------ */
struct subject {
    const char *name;
    struct model model;
    struct vae *vae;
};

static struct subject flux, odd, goldens[3];

static bool header_line(void *user, const char *name, int ndim, const int64_t *shape)
{
    FILE *f = user;
    fprintf(f, "%c\"%s\":{\"dtype\":\"BF16\",\"shape\":[", ftell(f) ? ',' : '{', name);
    for (int i = 0; i < ndim; i++)
        fprintf(f, "%s%lld", i ? "," : "", (long long)shape[i]);
    fputs("]}", f);
    return true;
}

/* A folder with nothing but a VAE. */
static void make_subject(struct subject *s, const char *name, const struct vae_config *c)
{
    char dir[FILE_PATH_MAX], header[FILE_PATH_MAX], weights[FILE_PATH_MAX];
    struct err e = { 0 };
    s->name = name;
    s->model.vae = *c;
    path_in(scratch, name, s->model.path);
    model_part_dir(&s->model, MODEL_VAE, dir);
    path_in(scratch, "header.json", header);
    FILE *f = fopen(header, "w");
    if (!f || mkdir(s->model.path, 0777) || mkdir(dir, 0777))
        fail_msg("cannot write %s", dir);
    shapes_visit(&s->model, MODEL_VAE, header_line, f);
    fputs("}", f);
    if (fclose(f) || !synth_from_header(header, path_in(dir, "model.safetensors", weights), 7, &e) ||
        !vae_open(&s->vae, &s->model, true, &e))
        fail_msg("%s", e.text);
}

static int make_subjects(void **state)
{
    (void)state;
    static const char *const names[] = { "dev96", "odd320", "wide256" };
    static const struct vae_config flux_config = {
        .latent_channels = 16, .levels = 4, .channels = { 128, 256, 512, 512 }, .layers_per_block = 2, .groups = 32,
        .mid_attention = true, .scaling = 0.3611f, .shift = 0.1159f, .eps = 1e-6f, .factor = 8,
    }, odd_config = {
        .latent_channels = 5, .levels = 3, .channels = { 12, 6, 15 }, .layers_per_block = 1, .groups = 3,
        .quant_conv = true, .post_quant_conv = true, .scaling = 1.5f, .shift = 0.1f, .eps = 1e-6f, .factor = 4,
    };
    scratch_make(scratch);
    make_subject(&flux, "flux", &flux_config);
    make_subject(&odd, "odd", &odd_config);
    for (int i = 0; i < 3; i++) {
        char path[FILE_PATH_MAX];
        struct err e = { 0 };
        goldens[i].name = names[i];
        golden_make(names[i], path_in(scratch, names[i], path));
        if (!model_open(&goldens[i].model, path, true, &e) || !vae_open(&goldens[i].vae, &goldens[i].model, true, &e))
            fail_msg("%s", e.text);
    }
    return 0;
}

static int remove_subjects(void **state)
{
    (void)state;
    vae_close(flux.vae);
    vae_close(odd.vae);
    for (int i = 0; i < 3; i++)
        vae_close(goldens[i].vae);
    scratch_remove(scratch);
    return 0;
}

/* --- one decoding or encoding --------------------------------------------------------- */
struct call {
    const struct subject *s;
    enum dtype compute;
    int threads;
    bool encode;
    int h, w;             /* latents */
    struct vae_options o;
    const float *in;      /* of random values if absent */
};

static size_t size_of(const struct call *c, bool latent)
{
    size_t factor = (size_t)c->s->model.vae.factor, n = (size_t)c->h * (size_t)c->w;
    return latent ? n * (size_t)c->s->model.vae.latent_channels : n * factor * factor * 3;
}

static void issue(struct device *d, const struct call *c, const float *in, float *out)
{
    int factor = c->s->model.vae.factor;
    if (c->encode)
        vae_encode(c->s->vae, d, &c->o, c->h * factor, c->w * factor, in, out);
    else
        vae_decode(c->s->vae, d, &c->o, c->h, c->w, in, out);
}

static struct device *cpu(const struct call *c)
{
    struct err e = { 0 };
    struct device *d;
    if (!cpu_device_new(&d, c->compute, c->threads, &e))
        fail_msg("%s", e.text);
    return d;
}

static size_t count_peak(const struct call *c)
{
    struct err e = { 0 };
    struct device *d = cpu(c);
    struct count_device count;
    count_device_init(&count, d);
    issue(&count.device, c, NULL, NULL);
    if (!device_sync(&count.device, &e) || !device_sync(d, &e))
        fail_msg("%s", e.text);
    cpu_device_free(d);
    return count.device.arena.peak;
}

static void same_trace(const struct trace *a, const struct trace *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++)
        assert_true(a->page[i].w.data == b->page[i].w.data && a->page[i].bytes == b->page[i].bytes);
}

struct ticks { int last, total, n; };

static void on_tick(void *user, int done, int total)
{
    struct ticks *t = user;
    assert_int_equal(done, t->last + 1);
    assert_true(t->n == 0 || total == t->total);
    t->last = done;
    t->total = total;
    t->n++;
}

/* The result, for the caller to free; *peak (may be NULL): of the arena. */
static float *result(const struct call *c, size_t *peak)
{
    struct err e = { 0 };
    struct device *d = cpu(c);
    struct count_device count;
    struct trace recorded = { 0 }, asked = { 0 };
    count_device_init(&count, d);
    trace_record(&recorded, &count.device);
    issue(&count.device, c, NULL, NULL);
    size_t bytes = count.device.arena.peak, n = size_of(c, !c->encode);
    float *in = malloc(n * sizeof *in), *out = malloc(size_of(c, c->encode) * sizeof *out);
    void *memory = aligned_alloc(ARENA_ALIGN, bytes);
    assert_true(in && out && memory);
    memset(memory, 0xff, bytes); /* NaN: nothing may be read before it is written */
    rng_normal(RNG_PHILOX, 3, in, n);
    d->arena = arena_over(memory, bytes);
    trace_record(&asked, d);
    struct ticks ticks = { 0 };
    d->tick = on_tick;
    d->user = &ticks;
    issue(d, c, c->in ? c->in : in, out);
    if (!device_sync(d, &e))
        fail_msg("%s: %s", c->s->name, e.text);
    assert_int_equal(d->arena.peak, bytes);
    assert_int_equal(d->arena.used, 0);
    assert_int_equal(ticks.last, ticks.total);
    same_trace(&recorded, &asked);
    trace_free(&recorded);
    trace_free(&asked);
    cpu_device_free(d);
    free(memory);
    free(in);
    if (peak)
        *peak = bytes;
    return out;
}

/* --- bands ------------------------------------------------------------------------------- */
static void check_bands(struct call c, const int *band, int n)
{
    c.o = (struct vae_options){ 0 };
    float *want = result(&c, NULL);
    size_t size = size_of(&c, c.encode);
    for (size_t i = 0; i < size; i++)
        assert_true(isfinite(want[i]));
    for (int i = 0; i < n; i++) {
        c.o.band = band[i];
        float *got = result(&c, NULL);
        for (size_t k = 0; k < size; k++)
            if (memcmp(&got[k], &want[k], sizeof *got))
                fail_msg("%s, %s, %s %dx%d latents in bands of %d: value %zu of %zu is %.9g, whole %.9g", c.s->name,
                         dtype_name(c.compute), c.encode ? "encode" : "decode", c.h, c.w, band[i], k, size,
                         (double)got[k],
                         (double)want[k]);
        free(got);
    }
    free(want);
}

static const enum dtype computes[] = { DT_BF16, DT_F32, DT_F16 };

static void small_bands_give_the_same_bytes(void **state)
{
    (void)state;
    for (int round = 0; round < 24; round++) {
        struct call c = { .s = round % 4 == 3 ? &odd : &goldens[round % 4], .compute = computes[round / 4 % 3],
                          .threads = 1 + below(3), .encode = round / 12 % 2, .h = 1 + below(12), .w = 1 + below(12) };
        int band[] = { 1, 2 + below(6), 8 + below(60), 1000 };
        check_bands(c, band, 4);
    }
}

static void bands_at_full_width_give_the_same_bytes(void **state)
{
    (void)state;
    for (int encode = 0; encode < 2; encode++) {
        check_bands((struct call){ &flux, DT_BF16, 2, encode, 11, 18, { 0 }, NULL }, (const int[]){ 16, 29 }, 2);
        check_bands((struct call){ &flux, DT_F32, 2, encode, 5, 9, { 0 }, NULL }, (const int[]){ 7, 16 }, 2);
        check_bands((struct call){ &flux, DT_F16, 2, encode, 5, 18, { 0 }, NULL }, (const int[]){ 16 }, 1);
    }
}

static void threads_do_not_change_the_bytes(void **state)
{
    (void)state;
    for (int t = 0; t < 3; t++) {
        struct call c = { .s = &flux, .compute = computes[t], .threads = 1, .h = 3, .w = 5 };
        float *one = result(&c, NULL);
        c.threads = 16;
        float *many = result(&c, NULL);
        assert_memory_equal(one, many, size_of(&c, false) * sizeof *one);
        free(one);
        free(many);
    }
}

/* A megapixel through FLUX.1's VAE, in no more than 400 MB, and 10 MB where pieces of BF16 pictures are
 * widened to F32 (no AVX-512); smaller bands in less. */
static void a_megapixel_fits(void **state)
{
    (void)state;
    size_t most = strncmp(cpu_arithmetic(), "avx512", 6) ? 410000000 : 400000000;
    for (int encode = 0; encode < 2; encode++) {
        struct call c = { .s = &flux, .compute = DT_BF16, .threads = 2, .encode = encode, .h = 128, .w = 128 };
        size_t before = SIZE_MAX;
        do {
            size_t peak = count_peak(&c);
            if (peak >= before)
                fail_msg("bands of %d take %zu bytes, larger ones %zu", c.o.band, peak, before);
            assert_true(c.o.band == 0 || c.o.band > 64 || peak <= most);
            before = peak;
        } while (vae_smaller_band(&c.o.band));
        assert_int_equal(c.o.band, VAE_BAND_LEAST);
    }
}

static struct trace traced(const struct call *c)
{
    struct err e = { 0 };
    struct device *d = cpu(c);
    struct count_device count;
    struct trace t = { 0 };
    count_device_init(&count, d);
    trace_record(&t, &count.device);
    issue(&count.device, c, NULL, NULL);
    if (!device_sync(&count.device, &e))
        fail_msg("%s", e.text);
    cpu_device_free(d);
    return t;
}

/* However low the bands, as many bytes travel as with one band to a pass, and few at a time. */
static void a_pass_brings_its_weights_once(void **state)
{
    (void)state;
    for (int encode = 0; encode < 2; encode++) {
        struct call c = { .s = &flux, .compute = DT_BF16, .threads = 2, .encode = encode, .h = 128, .w = 128 };
        c.o.band = 1024;
        struct trace one = traced(&c);
        while (vae_smaller_band(&c.o.band)) {
            struct trace t = traced(&c);
            assert_int_equal(trace_each(&t), trace_each(&one));
            assert_true(trace_widest(&t) <= 10000000);
            trace_free(&t);
        }
        trace_free(&one);
    }
}

/* In no more memory for weights than the widest pass takes, the same bytes. */
static void streamed_weights_give_the_same_bytes(void **state)
{
    (void)state;
    for (int encode = 0; encode < 2; encode++) {
        struct call c = { .s = &flux, .compute = DT_BF16, .threads = 2, .encode = encode, .h = 3, .w = 5 };
        struct err e = { 0 };
        size_t size = size_of(&c, encode), from = size_of(&c, !encode);
        float *want = result(&c, NULL), *in = malloc(from * sizeof *in), *got = malloc(size * sizeof *got);
        c.o.band = 8;
        size_t bytes = count_peak(&c);
        struct trace t = traced(&c);
        struct placement l;
        assert_true(placement_make(&l, &t, RING_SINGLE, 0, &e));
        void *memory = aligned_alloc(ARENA_ALIGN, bytes), *weights = aligned_alloc(ARENA_ALIGN, placement_bytes(&l));
        assert_true(in && got && memory && weights);
        rng_normal(RNG_PHILOX, 3, in, from);
        struct device *d = cpu(&c);
        struct pager *p;
        d->arena = arena_over(memory, bytes);
        assert_true(pager_begin(&p, d, weights, &t, &l, &(struct pager_options){ .repeats = 1 }, &e));
        issue(d, &c, in, got);
        if (!device_sync(d, &e))
            fail_msg("%s", e.text);
        assert_int_equal(pager_stats(p).link_bytes, trace_each(&t));
        assert_memory_equal(got, want, size * sizeof *got);
        pager_end(p);
        placement_free(&l);
        trace_free(&t);
        cpu_device_free(d);
        free(memory);
        free(weights);
        free(want);
        free(got);
        free(in);
    }
}

struct stopper { int asked, stop_at; };

static bool stop(void *user)
{
    struct stopper *s = user;
    return s->asked++ >= s->stop_at;
}

static void a_cancel_ends_in_the_middle_of_a_band(void **state)
{
    (void)state;
    struct call c = { .s = &goldens[0], .compute = DT_BF16, .threads = 2, .h = 6, .w = 7, .o = { .band = 5 } };
    size_t bytes = count_peak(&c);
    void *memory = aligned_alloc(ARENA_ALIGN, bytes);
    float *in = calloc(size_of(&c, true), sizeof *in), *out = calloc(size_of(&c, false), sizeof *out);
    assert_true(memory && in && out);
    struct device *d = cpu(&c);
    struct stopper all = { 0, INT32_MAX };
    d->arena = arena_over(memory, bytes);
    d->interrupted = stop;
    d->user = &all;
    issue(d, &c, in, out);
    struct err e = { 0 };
    assert_true(device_sync(d, &e));
    for (int i = 0; i < 40; i++) {
        struct stopper s = { 0, below(all.asked) };
        d->user = &s;
        issue(d, &c, in, out);
        err_clear(&e);
        assert_false(device_sync(d, &e));
        assert_int_equal(e.kind, ERR_CANCELLED);
        assert_int_equal(d->arena.used, 0);
        assert_int_equal(s.asked, s.stop_at + 1); /* nothing is asked after the refusal: nothing is done */
    }
    cpu_device_free(d);
    free(memory);
    free(in);
    free(out);
}

/* --- tiles ------------------------------------------------------------------------------- */
static void one_tile_is_the_whole(void **state)
{
    (void)state;
    for (int encode = 0; encode < 2; encode++) {
        struct call c = { .s = &goldens[1], .compute = DT_BF16, .threads = 2, .encode = encode, .h = 13, .w = 16 };
        float *want = result(&c, NULL);
        c.o = (struct vae_options){ .tile = 16, .overlap = 4 };
        float *got = result(&c, NULL);
        assert_memory_equal(got, want, size_of(&c, encode) * sizeof *got);
        free(want);
        free(got);
    }
}

/* Two tiles of 16 latents that share 4: where tiles meet, neighbours differ no more
 * than elsewhere; without an overlap they do. Bands within tiles change nothing. */
enum { SIDE = 16, SHARED = 4 };

/* The largest difference between neighbours along the longer side, within and outside of [from, to). */
struct contrast { double within, outside; };

static struct contrast contrast(const struct call *c, const float *v, int from, int to)
{
    int unit = c->encode ? 1 : c->s->model.vae.factor, channels = c->encode ? 1 : 3;
    int w = c->w * unit, h = c->h * unit, planes = c->encode ? c->s->model.vae.latent_channels : 1;
    bool across = c->w > c->h;
    struct contrast r = { 0 };
    for (int y = 0; y < h * planes; y++)
        for (int x = 0; x < w; x++)
            for (int k = 0; k < channels; k++) {
                int at = (y * w + x) * channels + k, along = across ? x : y % h;
                if (along + 1 == (across ? w : h))
                    continue;
                double step = fabs((double)(v[at + (across ? channels : w * channels)] - v[at]));
                double *most = along >= from * unit - 1 && along < to * unit ? &r.within : &r.outside;
                *most = fmax(*most, step);
            }
    return r;
}

static void tiles_show_no_seams(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        bool across = i & 1;
        struct call c = { .s = &goldens[i % 3], .compute = i & 2 ? DT_F32 : DT_BF16, .threads = 2, .encode = i >= 3 };
        int factor = c.encode ? c.s->model.vae.factor : 1;
        double blended = 0;
        for (int overlap = SHARED; overlap >= 0; overlap -= SHARED) {
            int length = 2 * SIDE - overlap;
            c.h = across ? SIDE : length;
            c.w = across ? length : SIDE;
            int w = c.w * factor, h = c.h * factor;
            size_t n = size_of(&c, !c.encode), plane = (size_t)(h * w);
            float *in = malloc(n * sizeof *in);
            assert_non_null(in);
            for (size_t k = 0; k < n; k++) {
                size_t at = c.encode ? k / 3 : k % plane, channel = c.encode ? k % 3 : k / plane;
                double x = (double)(at % (size_t)w) / w, y = (double)(at / (size_t)w) / h;
                in[k] = (float)(sin(3 * x + (double)channel) + cos(4 * y - (double)channel));
            }
            c.in = in;
            c.o = (struct vae_options){ .tile = SIDE, .overlap = overlap };
            float *tiles = result(&c, NULL);
            c.o.band = 9;
            float *banded = result(&c, NULL);
            assert_memory_equal(tiles, banded, size_of(&c, c.encode) * sizeof *tiles);
            struct contrast k = contrast(&c, tiles, SIDE - overlap, SIDE);
            if (overlap ? !(k.within <= 1.25 * k.outside) : !(k.within > blended))
                fail_msg("%s %s, overlap %d: steps of %g where tiles meet, of %g elsewhere, of %g blended", c.s->name,
                         c.encode ? "encode" : "decode", overlap, k.within, k.outside, blended);
            blended = k.within;
            free(tiles);
            free(banded);
            free(in);
        }
    }
}

static int tile_start(int length, int n, int i) { return n == 1 ? 0 : i * (length - SIDE) / (n - 1); }

/* Of a constant latent every tile is the same picture: where only one lies, the
 * result is that tile's; where several meet, between theirs. */
static void tiles_blend_what_they_share(void **state)
{
    (void)state;
    static const struct { int h, w, overlap, down, across; } sizes[] = { { 17, 30, 5, 2, 3 }, { 41, 27, 7, 4, 3 } };
    for (int i = 0; i < 2; i++) {
        struct call c = { .s = &goldens[0], .compute = DT_BF16, .threads = 2, .h = SIDE, .w = SIDE };
        float *in = calloc((size_t)(16 * sizes[i].h * sizes[i].w), sizeof *in);
        assert_non_null(in);
        c.in = in;
        int factor = c.s->model.vae.factor, covered = 0;
        float *tile = result(&c, NULL);
        c.h = sizes[i].h;
        c.w = sizes[i].w;
        c.o = (struct vae_options){ .tile = SIDE, .overlap = sizes[i].overlap };
        float *all = result(&c, NULL);
        for (int at = 0; at < c.h * c.w * factor * factor * 3; at++) {
            int y = at / (c.w * factor * 3), x = at / 3 % (c.w * factor), n = 0;
            float least = INFINITY, most = -INFINITY;
            for (int t = 0; t < sizes[i].down * sizes[i].across; t++) {
                int row = y - tile_start(c.h, sizes[i].down, t / sizes[i].across) * factor;
                int col = x - tile_start(c.w, sizes[i].across, t % sizes[i].across) * factor;
                if (row < 0 || col < 0 || row >= SIDE * factor || col >= SIDE * factor)
                    continue;
                float v = tile[(row * SIDE * factor + col) * 3 + at % 3];
                least = fminf(least, v);
                most = fmaxf(most, v);
                n++;
            }
            float room = n > 1 ? 1e-5f : 0;
            if (!(all[at] >= least - room && all[at] <= most + room))
                fail_msg("row %d, column %d of %d tiles: %g, theirs are %g to %g", y, x, n, (double)all[at],
                         (double)least, (double)most);
            covered = n > covered ? n : covered;
        }
        assert_true(covered >= 6); /* three across at a place, and two down */
        free(tile);
        free(all);
        free(in);
    }
}

static void tiles_take_the_memory_of_one(void **state)
{
    (void)state;
    struct call c = { .s = &flux, .compute = DT_BF16, .threads = 2, .h = 64, .w = 64 };
    size_t one = count_peak(&c);
    c.o = (struct vae_options){ .tile = VAE_TILE, .overlap = VAE_OVERLAP };
    c.h = c.w = 256;
    assert_int_equal(count_peak(&c), one);
}

int main(void)
{
    const char *given = getenv("SLUICE_SEED");
    seed = given ? strtoull(given, NULL, 0) : 1;
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_bands_give_the_same_bytes),
        cmocka_unit_test(bands_at_full_width_give_the_same_bytes),
        cmocka_unit_test(threads_do_not_change_the_bytes),
        cmocka_unit_test(a_megapixel_fits),
        cmocka_unit_test(a_pass_brings_its_weights_once),
        cmocka_unit_test(streamed_weights_give_the_same_bytes),
        cmocka_unit_test(a_cancel_ends_in_the_middle_of_a_band),
        cmocka_unit_test(one_tile_is_the_whole),
        cmocka_unit_test(tiles_show_no_seams),
        cmocka_unit_test(tiles_blend_what_they_share),
        cmocka_unit_test(tiles_take_the_memory_of_one),
    };
    return cmocka_run_group_tests(tests, make_subjects, remove_subjects);
}
