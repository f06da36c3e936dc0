/* test_files.c - safetensors, weights, model configs, pictures, synth and the
 * two commands over them: what is right comes back as it went in, what is wrong
 * is refused by name, and a failure leaves nothing behind. */
#include "engine/config.h"
#include "engine/file.h"
#include "engine/image.h"
#include "engine/model.h"
#include "engine/safetensors.h"
#include "engine/shapes.h"
#include "engine/synth.h"
#include "engine/weights.h"
#include "tui/cmd.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <ftw.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[64];

/* scratch/fmt in one of 64 rotating buffers */
static __attribute__((format(printf, 1, 2))) const char *in(const char *fmt, ...)
{
    static char buf[64][512];
    static int turn;
    char *to = buf[turn++ % 64];
    int n = snprintf(to, sizeof buf[0], "%s/", scratch);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(to + n, sizeof buf[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return to;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int setup(void **state)
{
    (void)state;
    /* no test writes more than this: a check that fails to refuse a huge file
     * must not fill the disk (holes count too, and are made up to 12 GB) */
    struct rlimit low = { 0 };
    getrlimit(RLIMIT_FSIZE, &low);
    low.rlim_cur = 12000000000;
    signal(SIGXFSZ, SIG_IGN);
    if (low.rlim_cur > low.rlim_max || setrlimit(RLIMIT_FSIZE, &low) < 0)
        return -1;
    strcpy(scratch, "/tmp/sluice-test-XXXXXX");
    return mkdtemp(scratch) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    remove_tree(scratch);
    return 0;
}

static void folder_new(const char *path)
{
    remove_tree(path);
    assert_int_equal(mkdir(path, 0777), 0);
}

static void write_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

static char *read_text(const char *path)
{
    struct err e = { 0 };
    size_t n;
    char *text = file_read(path, 1 << 26, &n, &e);
    if (!text)
        fail_msg("%s", e.text);
    assert_non_null(text);
    return text;
}

static void assert_says(const struct err *e, const char *what)
{
    if (e->kind == ERR_NONE || !strstr(e->text, what))
        fail_msg("expected an error with \"%s\", got \"%s\"", what, e->text);
}

static void assert_fine(bool ok, const struct err *e)
{
    if (!ok)
        fail_msg("%s", e->text);
    assert_int_equal(e->kind, ERR_NONE);
}

/* A file of any header text, the length it claims, and data bytes of zeros. */
static void write_raw(const char *path, const char *header, uint64_t claim, size_t data)
{
    size_t n = strlen(header);
    char *buf = calloc(1, 8 + n + data);
    for (int i = 0; i < 8; i++)
        buf[i] = (char)(claim >> 8 * i);
    memcpy(buf + 8, header, n);
    scratch_write(path, buf, 8 + n + data);
    free(buf);
}

/* --- safetensors ---------------------------------------------------------------- */

static void test_safetensors_round_trip(void **state)
{
    (void)state;
    float a[6] = { 1, -2, 3.5f, 0, 1e30f, -0.0f };
    uint16_t b[4] = { 0x3f80, 0xbf80, 0, 0x7f7f };
    uint8_t c[3] = { 1, 2, 255 };
    struct safetensors_entry entries[] = {
        { "a \"quoted\" name", tensor_2d(a, DT_F32, 2, 3) },
        { "b", tensor_4d(b, DT_BF16, 1, 2, 2, 1) },
        { "c", tensor_1d(c, DT_U8, 3) },
        { "empty", { .dtype = DT_F32 } },
    };
    const char *path = in("round.safetensors");
    struct err e = { 0 };
    assert_fine(safetensors_write(path, entries, 4, &e), &e);

    struct safetensors *s;
    assert_fine(safetensors_open(&s, path, &e), &e);
    assert_int_equal(safetensors_count(s), 4);
    assert_string_equal(safetensors_path(s), path);
    assert_string_equal(safetensors_metadata(s, "format"), "pt");
    assert_null(safetensors_metadata(s, "other"));
    struct tensor t;
    for (int i = 0; i < 3; i++) {
        assert_string_equal(safetensors_name(s, (size_t)i), entries[i].name);
        assert_true(safetensors_find(s, entries[i].name, &t));
        assert_int_equal(t.dtype, entries[i].tensor.dtype);
        assert_true(tensor_same_shape(t, entries[i].tensor));
        assert_true(tensor_dense(t));
        assert_int_equal((uintptr_t)t.data % dtype_bytes(t.dtype), 0);
        assert_memory_equal(t.data, entries[i].tensor.data, tensor_bytes(t));
    }
    assert_true(safetensors_find(s, "empty", &t));
    assert_int_equal(t.ndim, 0);
    assert_null(t.data);
    assert_false(safetensors_find(s, "d", &t));
    assert_false(safetensors_find(s, "__metadata__", &t));
    safetensors_close(s);
    safetensors_close(NULL);
}

static void test_safetensors_accepts(void **state)
{
    (void)state;
    /* a scalar, a zero length, a hole, trailing data, spaces at the end */
    const char *h = "{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[8,12]},"
                    "\"z\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[9,9]},"
                    "\"u\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}  ";
    size_t n = strlen(h);
    char padded[512];
    snprintf(padded, sizeof padded, "%s%*s", h, (int)(8 - n % 8), "");
    write_raw(in("ok"), padded, strlen(padded), 100);
    struct err e = { 0 };
    struct safetensors *s;
    assert_fine(safetensors_open(&s, in("ok"), &e), &e);
    assert_int_equal(safetensors_count(s), 3);
    assert_string_equal(safetensors_name(s, 0), "u");
    struct tensor t;
    assert_true(safetensors_find(s, "s", &t));
    assert_int_equal(t.ndim, 1);
    assert_int_equal(t.shape[0], 1);
    assert_true(safetensors_find(s, "z", &t));
    assert_false(tensor_present(t));
    safetensors_close(s);

    write_raw(in("none"), "{}      ", 8, 0);
    assert_fine(safetensors_open(&s, in("none"), &e), &e);
    assert_int_equal(safetensors_count(s), 0);
    assert_false(safetensors_find(s, "", &t));
    safetensors_close(s);
}

#define T(name, dtype, shape, offsets)                                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void test_safetensors_refuses(void **state)
{
    (void)state;
    static const struct { const char *header; int64_t claim; size_t data; const char *says; } cases[] = {
        { "", 0, 0, "JSON" },
        { "{}", 100, 0, "truncated" },
        { "{}", 99999999, 0, "truncated" },
        { "{}", 100000001, 0, "at most 100000000" },
        { "{}", -2, 0, "at most 100000000" }, /* 2^64 - 2: must not overflow */
        { "{]", -1, 0, "JSON" },
        { "{} x", -1, 0, "JSON" },
        { "[]", -1, 0, "JSON object" },
        { "{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[8,16]") "}", -1, 16, "uplicate" },
        { "{" T("a", "F32", "[2]", "[0,8]") "}", -1, 7, "truncated" },
        { "{" T("a", "F32", "[2]", "[0,4]") "}", -1, 8, "expected 8 bytes" },
        { "{" T("a", "F32", "[3]", "[0,8]") "}", -1, 8, "expected 12 bytes" },
        { "{" T("a", "F77", "[2]", "[0,8]") "}", -1, 8, "dtype F77" },
        { "{" T("a", "F32", "[1,1,1,1,2]", "[0,8]") "}", -1, 8, "4 dimensions" },
        { "{" T("a", "F32", "[-2]", "[0,8]") "}", -1, 8, "whole number" },
        { "{" T("a", "F32", "[2.0]", "[0,8]") "}", -1, 8, "whole number" },
        { "{" T("a", "F32", "\"x\"", "[0,8]") "}", -1, 8, "dtype, shape" },
        { "{" T("a", "F32", "[4611686018427387904,4]", "[0,0]") "}", -1, 8, "overflows" },
        { "{" T("a", "F32", "[9223372036854775807]", "[0,8]") "}", -1, 8, "overflows" },
        { "{" T("a", "F32", "[99999999999999999999]", "[0,8]") "}", -1, 8, "JSON" },
        { "{" T("a", "U8", "[8]", "[8,0]") "}", -1, 8, "begin <= end" },
        { "{" T("a", "U8", "[8]", "[-8,0]") "}", -1, 8, "begin <= end" },
        { "{" T("a", "U8", "[8]", "[0]") "}", -1, 8, "dtype, shape" },
        { "{" T("a", "U8", "[1]", "[9223372036854775806,9223372036854775807]") "}", -1, 8, "truncated" },
        { "{" T("a", "U8", "[8]", "[0,8]") "," T("b", "U8", "[8]", "[7,15]") "}", -1, 16, "overlaps" },
        { "{" T("a", "U8", "[8]", "[0,8]") "," T("b", "U8", "[2]", "[2,4]") "}", -1, 16, "overlaps" },
        { "{" T("a", "U8", "[8]", "[0,8]") "," T("b", "U8", "[8]", "[0,8]") "}", -1, 16, "overlaps" },
        { "{\"a\":7}", -1, 8, "dtype, shape" },
        { "{\"__metadata__\":7}", -1, 8, "__metadata__" },
        { "{\"a\\u0000b\":{}}", -1, 8, "JSON" },
        { "{\"\xff\":{}}", -1, 8, "JSON" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = in("bad%zu", i), *h = cases[i].header;
        uint64_t claim = cases[i].claim == -1 ? strlen(h) : (uint64_t)cases[i].claim;
        write_raw(path, h, claim, cases[i].data);
        struct safetensors *s = (void *)1;
        struct err e = { 0 };
        if (safetensors_open(&s, path, &e))
            fail_msg("case %zu was accepted: %s", i, h);
        assert_null(s);
        assert_says(&e, path);
        assert_says(&e, cases[i].says);
    }
}

static void test_safetensors_misaligned(void **state)
{
    (void)state;
    char h[256];
    snprintf(h, sizeof h, "{" T("a.weight", "F32", "[2]", "[0,8]") "}");
    while (strlen(h) % 4 != 1)
        strcat(h, " ");
    write_raw(in("odd"), h, strlen(h), 8);
    struct safetensors *s;
    struct err e = { 0 };
    assert_false(safetensors_open(&s, in("odd"), &e));
    assert_says(&e, "a.weight");
    assert_says(&e, "aligned");
}

static void test_safetensors_no_file(void **state)
{
    (void)state;
    struct safetensors *s;
    struct err e = { 0 };
    assert_false(safetensors_open(&s, in("absent"), &e));
    assert_says(&e, "absent");
    err_clear(&e);
    assert_false(safetensors_open(&s, scratch, &e));
    assert_says(&e, "not a regular file");
    err_clear(&e);
    assert_int_equal(mkfifo(in("pipe"), 0666), 0);
    assert_false(safetensors_open(&s, in("pipe"), &e)); /* and does not wait */
    err_clear(&e);
    write_text(in("short"), "1234567");
    assert_false(safetensors_open(&s, in("short"), &e));
    assert_says(&e, "7 bytes");
    err_clear(&e);
    write_text(in("zero"), "");
    assert_false(safetensors_open(&s, in("zero"), &e));
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

/* Whatever becomes of the bytes of a small file, it is refused or its tensors
 * can be read. SLUICE_SEED repeats a run. */
static void test_safetensors_mutations(void **state)
{
    (void)state;
    const char *given = getenv("SLUICE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 20240801, s = seed * 2 + 1;
    const char *h = "{\"__metadata__\":{\"format\":\"pt\"}," T("a", "F32", "[2,3]", "[0,24]") ","
                    T("b.weight", "BF16", "[4]", "[24,32]") "," T("c", "U8", "[1,1,7]", "[32,39]") "}       ";
    assert_true(strlen(h) % 8 == 0 && strlen(h) < 256); /* else nothing is aligned and all is refused */
    static const char digits[] = "0123456789-+.eE,:[]{}\"\\ \0u\xff";
    size_t n = strlen(h), bytes = 8 + n + 40;
    int accepted = 0;
    const char *path = in("mutant");
    for (int round = 0; round < 6000; round++) {
        unsigned char *buf = calloc(1, bytes);
        buf[0] = (unsigned char)n;
        memcpy(buf + 8, h, n);
        size_t length = bytes;
        int edits = 1 + (int)(next_random(&s) % 4);
        for (int k = 0; k < edits; k++) {
            size_t at = next_random(&s) % (next_random(&s) % 8 ? 8 + n : bytes);
            switch (next_random(&s) % 5) {
            case 0: buf[at] ^= (unsigned char)(1u << next_random(&s) % 8); break;
            case 1: buf[at] = (unsigned char)digits[next_random(&s) % sizeof digits]; break;
            case 2: memmove(buf + at, buf + at + 1, bytes - at - 1); break;
            case 3: memmove(buf + at + 1, buf + at, bytes - at - 1); break;
            default: length = next_random(&s) % 4 ? length : next_random(&s) % (bytes + 1);
            }
        }
        scratch_write(path, buf, length);
        free(buf);
        struct safetensors *t;
        struct err e = { 0 };
        if (!safetensors_open(&t, path, &e)) {
            if (e.kind == ERR_NONE || !*e.text)
                fail_msg("seed %llu, round %d: refused without a reason", (unsigned long long)seed, round);
            continue;
        }
        accepted++;
        unsigned sum = 0;
        for (size_t i = 0; i < safetensors_count(t); i++) {
            struct tensor v = safetensors_tensor(t, i);
            for (size_t b = 0; b < tensor_bytes(v); b++)
                sum += ((const unsigned char *)v.data)[b];
        }
        safetensors_close(t);
        assert_true(sum < 6000 * 255);
    }
    assert_true(accepted > 100); /* else the mutations test nothing but JSON */
}

static void test_writer_refuses(void **state)
{
    (void)state;
    float x[2] = { 1, 2 };
    uint8_t b[3] = { 0 };
    folder_new(in("w"));
    const char *path = in("w/f.safetensors");
    struct err e = { 0 };
    struct safetensors_writer *w;

    struct safetensors_entry odd[] = { { "b", tensor_1d(b, DT_U8, 3) }, { "x", tensor_1d(x, DT_F32, 2) } };
    assert_false(safetensors_write(path, odd, 2, &e));
    assert_says(&e, "aligned");
    err_clear(&e);
    struct safetensors_entry twice[] = { { "x", tensor_1d(x, DT_F32, 2) }, { "x", tensor_1d(x, DT_F32, 2) } };
    assert_false(safetensors_write(path, twice, 2, &e));
    assert_says(&e, "two have this name");
    err_clear(&e);
    struct tensor huge = { .dtype = DT_F32, .ndim = 2, .shape = { INT64_MAX / 2, 8 } };
    struct safetensors_entry overflow[] = { { "x", huge } };
    assert_false(safetensors_create(&w, path, overflow, 1, &e));
    assert_says(&e, "make no sense");
    err_clear(&e);

    assert_fine(safetensors_create(&w, path, twice, 1, &e), &e);
    assert_false(safetensors_append(w, x, 9, &e));
    assert_says(&e, "more data");
    safetensors_abandon(w);
    err_clear(&e);
    assert_fine(safetensors_create(&w, path, twice, 1, &e), &e);
    assert_fine(safetensors_append(w, x, 4, &e), &e);
    assert_false(safetensors_commit(w, &e));
    assert_says(&e, "less data");
    err_clear(&e);
    assert_fine(safetensors_create(&w, path, twice, 1, &e), &e);
    assert_int_equal(scratch_entries(in("w")), 1); /* the temporary file */
    safetensors_abandon(w);
    safetensors_abandon(NULL);
    assert_int_equal(scratch_entries(in("w")), 0);

    /* an older file survives a failure, and is replaced by a success */
    write_text(path, "old");
    assert_false(safetensors_write(path, odd, 2, &e));
    char *text = read_text(path);
    assert_string_equal(text, "old");
    free(text);
    err_clear(&e);
    assert_fine(safetensors_write(path, twice, 1, &e), &e);
    assert_int_equal(scratch_entries(in("w")), 1);

    assert_false(safetensors_write(in("w/none/f"), twice, 1, &e));
    assert_says(&e, "w/none/f");
    err_clear(&e);
    assert_false(safetensors_write(in("w/f.safetensors/g"), twice, 1, &e));
}

static void test_disk_full(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct rlimit old, low = { 1000, 0 };
    float x[1000] = { 0 };
    struct safetensors_entry entry = { "x", tensor_1d(x, DT_F32, 1000) };
    struct image *im = image_new(64, 64, &e);
    uint32_t noise = 1; /* so that it does not compress below the limit */
    for (int i = 0; i < 64 * 64 * 3; i++)
        im->rgb[i] = (unsigned char)((noise = noise * 1664525 + 1013904223) >> 24);
    folder_new(in("full"));
    getrlimit(RLIMIT_FSIZE, &old);
    low.rlim_max = old.rlim_max;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &low);
    bool st = safetensors_write(in("full/a"), &entry, 1, &e);
    struct err e2 = { 0 }, e3 = { 0 };
    bool png = image_write_png(im, in("full/b.png"), NULL, 0, &e2);
    bool text = file_write(in("full/c"), x, sizeof x, &e3);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_false(st || png || text);
    assert_says(&e, "full/a");
    assert_says(&e, "limit");
    assert_says(&e2, "full/b.png");
    assert_says(&e2, "limit");
    assert_int_equal(e2.kind, ERR_DISK_FULL);
    assert_says(&e3, "full/c");
    assert_int_equal(scratch_entries(in("full")), 0);

    if (access("/dev/full", W_OK) == 0) {
        err_clear(&e);
        assert_false(safetensors_write("/dev/full", &entry, 1, &e));
        assert_says(&e, "disk full");
        err_clear(&e);
        assert_false(image_write_png(im, "/dev/full", NULL, 0, &e));
        assert_says(&e, "disk full");
        struct stat s;
        assert_true(stat("/dev/full", &s) == 0 && S_ISCHR(s.st_mode)); /* not replaced by a file */
    }
    err_clear(&e);
    assert_false(file_space(scratch, UINT64_MAX / 2, &e));
    assert_says(&e, "GB are free");
    image_free(im);
}

static void test_file_through_link(void **state)
{
    (void)state;
    struct err e = { 0 };
    write_text(in("target"), "1");
    assert_int_equal(symlink(in("target"), in("link")), 0);
    assert_fine(file_write(in("link"), "2", 1, &e), &e);
    char *text = read_text(in("target"));
    assert_string_equal(text, "2");
    free(text);
    struct stat s;
    assert_true(lstat(in("link"), &s) == 0 && S_ISLNK(s.st_mode));
    size_t n;
    assert_null(file_read(in("target"), 0, &n, &e));
    assert_says(&e, "at most 0");
    mode_t mask = umask(022);
    umask(mask);
    assert_true(stat(in("target"), &s) == 0);
    assert_int_equal(s.st_mode & 0777, 0666 & ~mask);
}

/* --- weights ------------------------------------------------------------------------ */

static void write_floats(const char *path, const char *name, int n, float value)
{
    float *x = malloc((size_t)n * sizeof *x);
    for (int i = 0; i < n; i++)
        x[i] = value;
    struct safetensors_entry entry = { name, tensor_1d(x, DT_F32, n) };
    struct err e = { 0 };
    assert_fine(safetensors_write(path, &entry, 1, &e), &e);
    free(x);
}

static void test_weights_shards(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct weights *w;
    struct tensor t;
    folder_new(in("p"));
    write_floats(in("p/m-1.safetensors"), "a", 3, 1);
    write_floats(in("p/m-2.safetensors"), "b", 5, 2);
    const char *index = in("p/diffusion_pytorch_model.safetensors.index.json");
    write_text(index, "{\"metadata\":{\"total_size\":32},\"weight_map\":{\"a\":\"m-1.safetensors\","
                      "\"b\":\"m-2.safetensors\"}}");
    assert_fine(weights_open_dir(&w, in("p"), "transformer", &e), &e);
    assert_int_equal(weights_count(w), 2);
    assert_int_equal(weights_files(w), 2);
    assert_int_equal(weights_bytes(w), 32);
    assert_string_equal(weights_name(w, 0), "a");
    assert_string_equal(weights_name(w, 1), "b");
    assert_int_equal(weights_tensor(w, 1).shape[0], 5);
    assert_true(weights_has(w, "b"));
    assert_false(weights_has(w, "c"));
    assert_fine(weights_get(w, &t, "b", WEIGHTS_SHAPE(5), &e), &e);
    assert_true(((float *)t.data)[4] == 2);
    weights_close(w);
    weights_close(NULL);

    static const struct { const char *map, *says; } cases[] = {
        { "{\"a\":\"m-1.safetensors\",\"b\":\"m-3.safetensors\"}", "m-3.safetensors is missing" },
        { "{\"a\":\"../p/m-1.safetensors\"}", "same folder" },
        { "{\"a\":\"/etc/passwd\"}", "same folder" },
        { "{\"a\":\"..\"}", "same folder" },
        { "{\"a\":\"\"}", "same folder" },
        { "{\"a\":7}", "same folder" },
        { "{\"a\":\"m-2.safetensors\"}", "no such tensor" },
        { "{}", "weight_map" },
        { "[]", "weight_map" },
        { "{\"a\":\"m-1.safetensors\",\"a\":\"m-1.safetensors\"}", "uplicate" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"weight_map\":%s}", cases[i].map);
        write_text(index, text);
        err_clear(&e);
        assert_false(weights_open_dir(&w, in("p"), "transformer", &e));
        assert_null(w);
        assert_says(&e, "transformer");
        assert_says(&e, cases[i].says);
    }
    write_floats(in("p/m-2.safetensors"), "a", 5, 2);
    float two[2] = { 0 };
    struct safetensors_entry both[] = { { "a", tensor_1d(two, DT_F32, 1) },
                                        { "b", tensor_1d(two, DT_F32, 1) } };
    err_clear(&e);
    assert_fine(safetensors_write(in("p/m-2.safetensors"), both, 2, &e), &e);
    write_text(index, "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}");
    assert_false(weights_open_dir(&w, in("p"), "transformer", &e));
    assert_says(&e, "in two files");
}

static void test_weights_which_file(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct weights *w;
    folder_new(in("q"));
    assert_false(weights_open_dir(&w, in("q/none"), "vae", &e));
    assert_says(&e, "q/none");
    err_clear(&e);
    assert_false(weights_open_dir(&w, in("q"), "vae", &e));
    assert_says(&e, "no .safetensors file");
    err_clear(&e);
    write_floats(in("q/ae.safetensors"), "only", 1, 1);
    write_floats(in("q/.hidden.safetensors"), "hidden", 1, 1);
    assert_fine(weights_open_dir(&w, in("q"), "vae", &e), &e);
    assert_true(weights_has(w, "only"));
    weights_close(w);
    write_floats(in("q/other.safetensors"), "other", 1, 1);
    assert_false(weights_open_dir(&w, in("q"), "vae", &e));
    assert_says(&e, "2 .safetensors files");
    err_clear(&e);
    write_floats(in("q/model.safetensors"), "text_model.x", 1, 1);
    assert_fine(weights_open_dir(&w, in("q"), "vae", &e), &e);
    assert_true(weights_has(w, "text_model.x"));
    weights_close(w);
    write_floats(in("q/diffusion_pytorch_model.safetensors"), "x", 1, 1);
    assert_fine(weights_open_dir(&w, in("q"), "vae", &e), &e);
    assert_true(weights_has(w, "text_model.x")); /* transformers 5 leaves the prefix out */
    assert_true(weights_has(w, "x"));
    weights_close(w);
    write_text(in("q/diffusion_pytorch_model.safetensors"), "garbage, long enough");
    assert_false(weights_open_dir(&w, in("q"), "vae", &e));
    assert_says(&e, "vae");
    assert_says(&e, "q/diffusion_pytorch_model.safetensors");
}

static void test_weights_get(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct weights *w;
    struct tensor t;
    int64_t ints[6] = { 0 };
    float x[6] = { 1, 2, 3, 4, NAN, INFINITY };
    uint16_t half[3] = { 0x3c00, 0x7bff, 0xfc00 }, bf[3] = { 0x3f80, 0xff80, 0x7fc0 };
    struct safetensors_entry entries[] = {
        { "ids", tensor_1d(ints, DT_I64, 6) },
        { "x.weight", tensor_2d(x, DT_F32, 2, 3) },
        { "good", tensor_1d(x, DT_F32, 4) },
        { "half", tensor_1d(half, DT_F16, 3) },
        { "bf", tensor_1d(bf, DT_BF16, 3) },
    };
    assert_fine(safetensors_write(in("get.safetensors"), entries, 5, &e), &e);
    assert_fine(weights_open_file(&w, in("get.safetensors"), "text_encoder", &e), &e);
    assert_fine(weights_get(w, &t, "x.weight", WEIGHTS_SHAPE(2, 3), &e), &e);
    assert_fine(weights_get(w, &t, "x.weight", WEIGHTS_SHAPE(-1, 3), &e), &e);

    assert_false(weights_get(w, &t, "x.weight", WEIGHTS_SHAPE(3, 2), &e));
    const char *says[] = { "text_encoder", "get.safetensors", "x.weight", "[3, 2]", "F32 [2, 3]" };
    for (int i = 0; i < 5; i++)
        assert_says(&e, says[i]);
    err_clear(&e);
    assert_false(weights_get(w, &t, "x.weight", WEIGHTS_SHAPE(-1, 2), &e));
    assert_says(&e, "[any, 2]");
    err_clear(&e);
    assert_false(weights_get(w, &t, "x.weight", WEIGHTS_SHAPE(6), &e));
    err_clear(&e);
    assert_false(weights_get(w, &t, "y", WEIGHTS_SHAPE(6), &e));
    assert_says(&e, "no such tensor");
    err_clear(&e);
    assert_false(weights_get(w, &t, "ids", WEIGHTS_SHAPE(6), &e));
    assert_says(&e, "I64");
    err_clear(&e);

    for (size_t i = 0; i < weights_count(w); i++) {
        const char *name = weights_name(w, i);
        bool ok = weights_finite(w, name, weights_tensor(w, i), &e);
        assert_int_equal(ok, !strcmp(name, "good"));
        if (!strcmp(name, "x.weight"))
            assert_says(&e, "NaN at element 4");
        if (!strcmp(name, "half"))
            assert_says(&e, "-inf at element 2");
        if (!strcmp(name, "bf"))
            assert_says(&e, "-inf at element 1");
        err_clear(&e);
    }
    weights_close(w);
}

static void test_weights_finite_large(void **state)
{
    (void)state;
    enum { N = 300001 };
    uint16_t *x = calloc(N, 2);
    struct err e = { 0 };
    struct weights *w;
    x[N - 1] = 0x7f80;
    x[131072] = 0x7fff;
    x[70000] = 0x7f7f;
    struct safetensors_entry entry = { "x", tensor_1d(x, DT_BF16, N) };
    assert_fine(safetensors_write(in("l.safetensors"), &entry, 1, &e), &e);
    assert_fine(weights_open_file(&w, in("l.safetensors"), "vae", &e), &e);
    assert_false(weights_finite(w, "x", weights_tensor(w, 0), &e));
    assert_says(&e, "element 131072;");
    weights_close(w);
    free(x);
}

/* --- model -------------------------------------------------------------------------- */

static void tokenizers_make(const char *dir)
{
    folder_new(dir);
    char path[600];
    static const char *const files[][2] = {
        { "tokenizer", NULL },
        { "tokenizer_2", NULL },
        { "tokenizer/vocab.json", "{\"a\":0,\"<|startoftext|>\":500,\"<|endoftext|>\":501}" },
        { "tokenizer/merges.txt", "#version: 0.2\n" },
        { "tokenizer/tokenizer_config.json", "{\"model_max_length\":20}" },
        { "tokenizer_2/tokenizer.json", "{}" },
        { "tokenizer_2/tokenizer_config.json", "{\"model_max_length\":20,\"extra\":[1]}" },
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i][0]);
        if (files[i][1])
            write_text(path, files[i][1]);
        else
            assert_int_equal(mkdir(path, 0777), 0);
    }
}

static void model_make(const char *dir, const char *arch)
{
    struct synth_options o = { arch, 2, 3, 1, 2, DT_BF16, 0, true };
    struct err e = { 0 };
    tokenizers_make(in("tok"));
    remove_tree(dir);
    assert_fine(synth_write(dir, &o, in("tok"), NULL, NULL, &e), &e);
}

static void test_model_open(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct model m;
    model_make(in("dev"), "flux-dev");
    assert_fine(model_open(&m, in("dev//"), true, &e), &e);
    assert_string_equal(m.path, in("dev"));
    assert_string_equal(m.name, "dev");
    assert_int_equal(m.flux.hidden, 3072);
    assert_int_equal(m.flux.doubles, 2);
    assert_int_equal(m.flux.singles, 3);
    assert_int_equal(m.flux.out_channels, 64);
    assert_int_equal(m.flux.axes, 3);
    assert_int_equal(m.flux.axes_dim[0] * 10000 + m.flux.axes_dim[2], 160056);
    assert_true(m.flux.guidance && m.flux.theta == 10000);
    assert_int_equal(m.t5.layers, 1);
    assert_int_equal(m.t5.tokens, 512);
    assert_int_equal(m.t5.max_distance, 128);
    assert_int_equal(m.clip.layers, 2);
    assert_int_equal(m.clip.act, CLIP_QUICK_GELU);
    assert_int_equal(m.clip.eos_id, 501); /* not 2, as the config says */
    assert_int_equal(m.clip.bos_id, 500);
    assert_int_equal(m.vae.factor, 8);
    assert_true(m.vae.has_rgb && m.vae.rgb[9][0] == .1008f && m.vae.rgb_bias[2] == -.0851f);
    assert_true(m.vae.scaling == 0.3611f && m.vae.shift == 0.1159f && !m.vae.quant_conv);
    assert_true(m.scheduler.dynamic_shifting && m.scheduler.max_shift == 1.15f);
    assert_int_equal(m.defaults.steps, 28);
    assert_true(m.defaults.guidance == 3.5f);
    assert_int_equal(m.examples, 0);
    char dir[MODEL_PATH_MAX];
    assert_string_equal(model_part_dir(&m, MODEL_T5, dir), in("dev/text_encoder_2"));

    write_text(in("dev/sluice.json"), "{\"width\":128,\"steps\":6,\"guidance\":2,"
                                      "\"prompts\":[\"a red circle\",\"two\"]}");
    write_text(in("dev/tokenizer_2/tokenizer_config.json"),
               "{\"model_max_length\":1000000000000000019884624838656}");
    assert_fine(model_open(&m, in("dev"), true, &e), &e);
    assert_int_equal(m.defaults.width, 128);
    assert_int_equal(m.defaults.height, 1024);
    assert_int_equal(m.defaults.steps, 6);
    assert_int_equal(m.examples, 2);
    assert_string_equal(m.example[0], "a red circle");
    assert_int_equal(m.t5.tokens, 512);

    write_text(in("dev/sluice.json"), "{\"max_sequence_length\":48}");
    assert_fine(model_open(&m, in("dev"), true, &e), &e);
    assert_int_equal(m.t5.tokens, 48);
    write_text(in("dev/sluice.json"), "{\"steps\":0}");
    assert_false(model_open(&m, in("dev"), true, &e));
    assert_says(&e, "sluice.json");
    err_clear(&e);

    model_make(in("schnell"), "flux-schnell");
    assert_fine(model_open(&m, in("schnell"), true, &e), &e);
    assert_false(m.flux.guidance || m.scheduler.dynamic_shifting);
    assert_int_equal(m.t5.tokens, 256);
    assert_int_equal(m.defaults.steps, 4);
    assert_true(m.defaults.guidance == 0);
}

static void test_model_missing(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct model m;
    assert_false(model_open(&m, in("nowhere"), false, &e));
    assert_says(&e, "no such folder");
    err_clear(&e);
    folder_new(in("empty"));
    assert_false(model_open(&m, in("empty"), false, &e));
    assert_says(&e, "model_index.json");
    err_clear(&e);
    assert_false(model_open(&m, "", false, &e));
    err_clear(&e);
    write_text(in("plain"), "x");
    assert_false(model_open(&m, in("plain"), false, &e));
    assert_says(&e, "is a file");

    model_make(in("lack"), "flux-dev");
    for (int p = 0; p < MODEL_PART_COUNT; p++) {
        const char *part = model_part_name((enum model_part)p);
        rename(in("lack/%s", part), in("aside"));
        err_clear(&e);
        assert_false(model_open(&m, in("lack"), true, &e));
        assert_says(&e, "is missing");
        assert_says(&e, in("lack/%s", part));
        err_clear(&e);
        assert_fine(model_open(&m, in("lack"), false, &e), &e);
        for (int q = 0; q < MODEL_PART_COUNT; q++)
            assert_int_equal(m.present[q], q != p);
        rename(in("aside"), in("lack/%s", part));
    }
    unlink(in("lack/vae/diffusion_pytorch_model.safetensors"));
    assert_false(model_open(&m, in("lack"), true, &e));
    assert_says(&e, "no *.safetensors in");
}

/* Every refusal names the file and the key. */
static void test_model_configs(void **state)
{
    (void)state;
    static const struct { const char *file, *old, *new, *says; } cases[] = {
        { "model_index.json", "FluxPipeline", "StableDiffusionPipeline", "_class_name" },
        { "model_index.json", "\"_class_name\"", "\"class\"", "no such key" },
        { "model_index.json", "{", "[", "JSON" },
        { "transformer/config.json", "\"num_layers\": 2,", "", "\"num_layers\": expected a whole number" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": -1", "num_layers" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": 2.5", "found 2.5" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": \"2\"", "found \"2\"" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": 1e99", "num_layers" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": 9999999999", "num_layers" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": null", "num_layers" },
        { "transformer/config.json", "\"num_layers\": 2", "\"num_layers\": 2, \"num_layers\": 2", "uplicate" },
        { "transformer/config.json", "\"num_attention_heads\": 24", "\"num_attention_heads\": 1024",
          "num_attention_heads" },
        { "transformer/config.json", "true", "1", "guidance_embeds" },
        { "transformer/config.json", "FluxTransformer2DModel", "UNet", "_class_name" },
        { "transformer/config.json", "\"in_channels\": 64", "\"in_channels\": 384, \"out_channels\": 64",
          "fill, control" },
        { "transformer/config.json", "\"in_channels\": 64", "\"in_channels\": 16", "latent_channels of vae" },
        { "transformer/config.json", "\"joint_attention_dim\": 4096", "\"joint_attention_dim\": 2048",
          "text_encoder_2" },
        { "transformer/config.json", "\"pooled_projection_dim\": 768", "\"pooled_projection_dim\": 76",
          "text_encoder" },
        { "transformer/config.json", "\"patch_size\": 1", "\"patch_size\": 2", "patch_size" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": [16, 56]", "axes_dims_rope" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": [17, 55, 56]", "axes_dims_rope" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": [16, 56, 58]", "sum" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": [\"a\", 56, 56]", "axes_dims_rope" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": [8, 8, 56, 56]", "axes_dims_rope" },
        { "transformer/config.json", "\"patch_size\": 1", "\"axes_dims_rope\": []", "axes_dims_rope" },
        { "text_encoder/config.json", "quick_gelu", "relu", "hidden_act" },
        { "text_encoder/config.json", "\"num_attention_heads\": 12", "\"num_attention_heads\": 11", "divisor" },
        { "text_encoder/config.json", "\"eos_token_id\": 2", "\"eos_token_id\": 49408", "eos_token_id" },
        { "text_encoder/config.json", "49408", "400", "vocab.json" },
        { "text_encoder_2/config.json", "gated-gelu", "relu", "feed_forward_proj" },
        { "text_encoder_2/config.json", "\"d_ff\": 10240", "\"d_ff\": 65537", "d_ff" },
        { "text_encoder_2/config.json", "\"relative_attention_max_distance\": 128",
          "\"relative_attention_max_distance\": 8", "relative_attention_max_distance" },
        { "vae/config.json", "\"act_fn\": \"silu\"", "\"act_fn\": \"relu\"", "act_fn" },
        { "vae/config.json", "DownEncoderBlock2D", "AttnDownEncoderBlock2D", "down_block_types" },
        { "vae/config.json", "128,", "129,", "block_out_channels" },
        { "vae/config.json", "128,", "0,", "block_out_channels" },
        { "vae/config.json", "128,", "128,128,128,128,128,128,128,", "block_out_channels" },
        { "vae/config.json", "\"scaling_factor\": 0.3611", "\"scaling_factor\": 0", "scaling_factor" },
        { "vae/config.json", "\"latents_mean\": null", "\"latents_mean\": [0]", "latents_mean" },
        { "vae/config.json", "\"latent_channels\": 16", "\"latent_channels\": 65", "latent_channels" },
        { "vae/config.json", "\"sample_size\": 1024", "\"latent_rgb_factors\": [[0,0,0]]", "latent_rgb_factors" },
        { "vae/config.json", "\"norm_num_groups\": 32", "\"norm_num_groups\": 0", "norm_num_groups" },
        { "scheduler/scheduler_config.json", "FlowMatch", "", "_class_name" },
        { "scheduler/scheduler_config.json", "\"base_shift\": 0.5", "\"use_karras_sigmas\": true",
          "use_karras_sigmas" },
        { "scheduler/scheduler_config.json", "4096", "256", "max_image_seq_len" },
        { "scheduler/scheduler_config.json", "\"shift\": 3.0", "\"shift\": 0", "shift" },
        { "scheduler/scheduler_config.json", "1000", "500", "num_train_timesteps" },
        { "tokenizer_2/tokenizer_config.json", "512", "\"x\"", "model_max_length" },
    };
    struct model m;
    model_make(in("cfg"), "flux-dev");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = in("cfg/%s", cases[i].file);
        char *text = read_text(path), *at = strstr(text, cases[i].old);
        if (!at)
            fail_msg("case %zu: no %s in %s", i, cases[i].old, path);
        char *changed = malloc(strlen(text) + strlen(cases[i].new) + 1);
        sprintf(changed, "%.*s%s%s", (int)(at - text), text, cases[i].new, at + strlen(cases[i].old));
        write_text(path, changed);
        struct err e = { 0 };
        if (model_open(&m, in("cfg"), true, &e))
            fail_msg("case %zu was accepted: %s in %s", i, cases[i].new, path);
        assert_says(&e, cases[i].says);
        if (!strstr(e.text, cases[i].file) && !strstr(e.text, "vocab.json"))
            fail_msg("case %zu does not name its file: %s", i, e.text);
        write_text(path, text);
        free(text);
        free(changed);
    }
    struct err e = { 0 };
    assert_fine(model_open(&m, in("cfg"), true, &e), &e);
}

static void test_model_find(void **state)
{
    (void)state;
    struct err e = { 0 };
    char path[MODEL_PATH_MAX], *old = getenv("XDG_DATA_HOME");
    char *saved = old ? strdup(old) : NULL;
    folder_new(in("data"));
    mkdir(in("data/sluice"), 0777);
    mkdir(in("data/sluice/models"), 0777);
    mkdir(in("data/sluice/models/mine-of-test"), 0777);
    setenv("XDG_DATA_HOME", in("data"), 1);
    assert_fine(model_find(path, "mine-of-test", &e), &e);
    assert_string_equal(path, in("data/sluice/models/mine-of-test"));
    assert_fine(model_find(path, "./nowhere/at/all", &e), &e);
    assert_string_equal(path, "./nowhere/at/all");
    assert_false(model_find(path, "no-model-of-this-name", &e));
    assert_says(&e, "no-model-of-this-name");
    assert_says(&e, "data/sluice/models");
    err_clear(&e);
    assert_false(model_find(path, "", &e));
    mkdir(in("data/sluice/models/demo"), 0777);
    err_clear(&e);
    assert_fine(model_find(path, NULL, &e), &e);
    assert_string_equal(path, in("data/sluice/models/demo"));
    if (saved)
        setenv("XDG_DATA_HOME", saved, 1);
    else
        unsetenv("XDG_DATA_HOME");
    free(saved);
}

/* --- pictures ----------------------------------------------------------------------- */

static struct image *picture(int w, int h)
{
    struct err e = { 0 };
    struct image *im = image_new(w, h, &e);
    assert_non_null(im);
    for (int i = 0; i < w * h * 3; i++)
        im->rgb[i] = (unsigned char)(i * 7 + i / 50);
    return im;
}

static void test_image_round_trip(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct image *im = picture(37, 19);
    char *lengthy = malloc(100001);
    memset(lengthy, 'x', 100000);
    lengthy[100000] = '\0';
    const struct image_text texts[] = {
        { "parameters", "a red circle\nSteps: 4" },
        { "Prompt \xc3\x9c", "never written" },
        { "prompt", "caf\xc3\xa9 \xe2\x86\x92 \xf0\x9f\x90\xb1\ttab" },
        { "empty", "" },
        { "long", lengthy },
    };
    assert_false(image_write_png(im, in("p.png"), texts, 2, &e));
    assert_says(&e, "text key");
    err_clear(&e);
    struct image_text good[] = { texts[0], texts[2], texts[3], texts[4] };
    assert_fine(image_write_png(im, in("p.png"), good, 4, &e), &e);
    struct image *back = image_read(in("p.png"), &e);
    assert_non_null(back);
    assert_int_equal(back->width, 37);
    assert_int_equal(back->height, 19);
    assert_memory_equal(back->rgb, im->rgb, 37 * 19 * 3);
    struct image *copy = image_copy(back, &e);
    assert_memory_equal(copy->rgb, im->rgb, 37 * 19 * 3);
    for (int i = 0; i < 4; i++) {
        char *text = image_read_text(in("p.png"), good[i].key, &e);
        if (!text)
            fail_msg("%s", e.text);
        assert_string_equal(text, good[i].value);
        free(text);
    }
    assert_null(image_read_text(in("p.png"), "nothing", &e));
    assert_says(&e, "nothing");
    image_free(im);
    image_free(back);
    image_free(copy);
    image_free(NULL);
    free(lengthy);
}

static void test_image_bad_files(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct image *im = picture(40, 40);
    assert_fine(image_write_png(im, in("t.png"), NULL, 0, &e), &e);
    size_t n;
    char *data = file_read(in("t.png"), 1 << 20, &n, &e);
    /* cut anywhere: refused, or (only the end lost) read; never a crash */
    for (size_t cut = 0; cut < n; cut += 1 + cut / 20) {
        err_clear(&e);
        scratch_write(in("cut.png"), data, cut);
        struct image *got = image_read(in("cut.png"), &e);
        assert_true(got || e.kind);
        image_free(got);
        err_clear(&e);
        char *text = image_read_text(in("cut.png"), "x", &e);
        assert_null(text);
        assert_true(e.kind != ERR_NONE);
    }
    uint64_t s = 99;
    for (int i = 0; i < 300; i++) {
        char *mutant = malloc(n);
        memcpy(mutant, data, n);
        for (int k = 0; k < 3; k++)
            mutant[next_random(&s) % n] = (char)next_random(&s);
        err_clear(&e);
        scratch_write(in("mut.png"), mutant, n);
        image_free(image_read(in("mut.png"), &e));
        free(image_read_text(in("mut.png"), "x", &e));
        free(mutant);
    }
    free(data);
    err_clear(&e);
    assert_null(image_read(in("absent.png"), &e));
    err_clear(&e);
    write_text(in("text.png"), "this is no picture");
    assert_null(image_read(in("text.png"), &e));
    assert_says(&e, "text.png");
    err_clear(&e);
    assert_false(image_write_png(im, in("nowhere/x.png"), NULL, 0, &e));
    assert_says(&e, "nowhere/x.png");
    err_clear(&e);
    assert_false(image_write_png(im, in("text.png/x.png"), NULL, 0, &e));
    err_clear(&e);
    assert_null(image_new(0, 5, &e));
    err_clear(&e);
    assert_null(image_new(16385, 5, &e));
    image_free(im);
}

static void test_image_from_tensor(void **state)
{
    (void)state;
    struct err e = { 0 };
    float x[] = { -1, 0, 1, -2, 5, NAN, 1.0f / 255, -1 + 1.0f / 255, 0.5f, INFINITY, -INFINITY, 0 };
    /* 0 -> 127.5 -> 128 and 1/255 -> 128 by rounding half to even */
    static const unsigned char want[] = { 0, 128, 255, 0, 255, 0, 128, 0, 191, 255, 0, 128 };
    struct image *im = image_from_tensor(tensor_3d(x, DT_F32, 2, 2, 3), &e);
    assert_non_null(im);
    assert_int_equal(im->width, 2);
    for (int i = 0; i < 12; i++)
        if (im->rgb[i] != want[i])
            fail_msg("%g became %d, expected %d", (double)x[i], im->rgb[i], want[i]);
    image_free(im);
    assert_null(image_from_tensor(tensor_3d(x, DT_F32, 3, 2, 2), &e));
    assert_says(&e, "[3, 2, 2]");
}

static void test_image_resize(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct image *im = picture(6, 4), *same = image_resize(im, 6, 4, &e);
    assert_memory_equal(im->rgb, same->rgb, 6 * 4 * 3);
    struct image *half = image_resize(im, 3, 2, &e);
    int sum = im->rgb[0] + im->rgb[3] + im->rgb[18] + im->rgb[21];
    assert_int_equal(half->rgb[0], (sum + 2) / 4);
    struct image *twice = image_resize(im, 12, 8, &e);
    assert_memory_equal(twice->rgb + (7 * 12 + 11) * 3, im->rgb + (3 * 6 + 5) * 3, 3);
    struct image *odd = image_resize(im, 5, 7, &e);
    assert_non_null(odd);
    assert_null(image_resize(im, 0, 7, &e));
    image_free(im), image_free(same), image_free(half), image_free(twice), image_free(odd);
}

/* --- synth -------------------------------------------------------------------------- */

static void test_synth_law(void **state)
{
    (void)state;
    const struct { const char *name; int ndim; int64_t shape[4]; double center, half; } cases[] = {
        { "a.bias", 1, { 5 }, 0, 0.02 * sqrt(3) },
        { "transformer_blocks.0.norm1.linear.bias", 1, { 5 }, 0, 0.02 * sqrt(3) },
        { "transformer_blocks.0.norm1.linear.weight", 2, { 12, 48 }, 0, 0.25 },
        { "norm1.weight", 1, { 12 }, 1, 0.1 * sqrt(3) },
        { "shared.weight", 2, { 12, 3 }, 0, 0.5 },
        { "x.relative_attention_bias.weight", 2, { 32, 4 }, 0, 0.5 },
        { "text_model.embeddings.token_embedding.weight", 2, { 3, 4 }, 0, 0.5 },
        { "context_embedder.weight", 2, { 3, 12 }, 0, 0.5 },
        { "conv.weight", 4, { 8, 3, 4, 4 }, 0, 0.25 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor t = { .dtype = DT_F32, .ndim = cases[i].ndim };
        memcpy(t.shape, cases[i].shape, sizeof t.shape);
        struct synth_law law = synth_law(cases[i].name, t);
        if (law.center != cases[i].center || fabs(law.half_width - cases[i].half) > 1e-15)
            fail_msg("%s: center %g half_width %g", cases[i].name, law.center, law.half_width);
    }
}

/* Printed by tests/golden/synth.py, the law in another language. */
static void test_synth_values(void **state)
{
    (void)state;
    static const struct { const char *name; uint64_t seed; enum dtype dtype; int ndim; int64_t shape[2], from;
                          double want[4]; } cases[] = {
        { "x.weight", 7, DT_F32, 2, { 300, 700 }, 0,
          { -0x1.f2fa0e0000000p-6, -0x1.cd4d740000000p-5, -0x1.78ade20000000p-5, -0x1.f48ea60000000p-5 } },
        { "x.weight", 7, DT_BF16, 2, { 300, 700 }, 209000,
          { -0x1.c400000000000p-6, 0x1.e200000000000p-5, 0x1.b000000000000p-6, -0x1.0c00000000000p-4 } },
        { "x.weight", 7, DT_F16, 2, { 300, 700 }, 1000,
          { 0x1.1300000000000p-10, 0x1.9bc0000000000p-6, 0x1.2b40000000000p-6, -0x1.6600000000000p-5 } },
        { "a.norm.weight", 3, DT_BF16, 1, { 50 }, 10,
          { 0x1.1a00000000000p+0, 0x1.0e00000000000p+0, 0x1.d200000000000p-1, 0x1.b600000000000p-1 } },
        { "b.bias", 123456789012, DT_F32, 1, { 50 }, 0,
          { -0x1.e4741a0000000p-10, -0x1.953efc0000000p-7, 0x1.a42c6c0000000p-6, -0x1.2275fa0000000p-7 } },
        { "shared.weight", 0, DT_BF16, 2, { 9, 9 }, 70,
          { 0x1.8c00000000000p-4, -0x1.1000000000000p-2, 0x1.3600000000000p-2, -0x1.2e00000000000p-2 } },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor t = { .dtype = cases[i].dtype, .ndim = cases[i].ndim };
        memcpy(t.shape, cases[i].shape, sizeof cases[i].shape);
        struct synth_law law = synth_law(cases[i].name, t);
        float buf[8];
        synth_fill(buf, t.dtype, cases[i].name, cases[i].seed, law, cases[i].from, 4);
        for (int k = 0; k < 4; k++)
            if (dtype_load(buf, t.dtype, k) != cases[i].want[k])
                fail_msg("%s %s[%d]: %a, expected %a", cases[i].name, dtype_name(t.dtype), k,
                         dtype_load(buf, t.dtype, k), cases[i].want[k]);
    }
}

static void test_synth_pieces(void **state)
{
    (void)state;
    enum { N = 1001 };
    uint16_t whole[N], pieces[N];
    struct synth_law law = { 0, 0.3 };
    for (int t = 0; t < 2; t++) {
        enum dtype type = t ? DT_F16 : DT_BF16;
        synth_fill(whole, type, "w", 42, law, 0, N);
        for (int64_t at = 0, n = 1; at < N; at += n, n = n % 97 + 13)
            synth_fill(pieces + at, type, "w", 42, law, at, at + n < N ? n : N - at);
        assert_memory_equal(whole, pieces, sizeof whole);
    }
    synth_fill(pieces, DT_F16, "w", 43, law, 0, N);
    assert_memory_not_equal(whole, pieces, sizeof whole);
}

static void test_synth_from_header(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct safetensors *s;
    struct tensor t;
    write_text(in("h.json"), "{\"__metadata__\":{},\"a.weight\":{\"dtype\":\"F32\",\"shape\":[3,5]},"
                             "\"big.weight\":{\"dtype\":\"BF16\",\"shape\":[1700,1300]}}");
    assert_fine(synth_from_header(in("h.json"), in("h.safetensors"), 9, &e), &e);
    assert_fine(safetensors_open(&s, in("h.safetensors"), &e), &e);
    assert_int_equal(safetensors_count(s), 2);
    assert_true(safetensors_find(s, "big.weight", &t));
    size_t bytes = tensor_bytes(t);
    uint16_t *want = malloc(bytes); /* more than one block, so the threads' order shows */
    synth_fill(want, DT_BF16, "big.weight", 9, synth_law("big.weight", t), 0, tensor_count(t));
    assert_memory_equal(want, t.data, bytes);
    free(want);
    safetensors_close(s);

    static const char *const bad[] = {
        "{\"a\":7}", "{\"a\":{\"dtype\":\"I8\",\"shape\":[3]}}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[0]}}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999]}}", "[]", "",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[16777216,16777216,16777216]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(in("h.json"), bad[i]);
        unlink(in("h.safetensors"));
        err_clear(&e);
        assert_false(synth_from_header(in("h.json"), in("h.safetensors"), 9, &e));
        assert_true(e.kind != ERR_NONE);
        assert_int_equal(access(in("h.safetensors"), F_OK), -1);
    }
}

static bool stop_half_way(void *user, double fraction)
{
    *(double *)user = fraction;
    return fraction < 0.5;
}

static void test_synth_checkpoint(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct weights *w;
    struct synth_options o = { "flux-dev", -1, -1, -1, -1, DT_BF16, 0, true };
    tokenizers_make(in("tok"));
    assert_fine(synth_write(in("big"), &o, in("tok"), NULL, NULL, &e), &e);
    assert_fine(weights_open_dir(&w, in("big/transformer"), "transformer", &e), &e);
    assert_int_equal(weights_files(w), 3);
    assert_int_equal(weights_count(w), 1160);
    assert_true(weights_bytes(w) == 2 * 11901408320u); /* FLUX.1 [dev] */
    weights_close(w);
    struct stat st;
    assert_int_equal(stat(in("big/transformer/diffusion_pytorch_model-00001-of-00003.safetensors"), &st), 0);
    assert_true(st.st_size > 9000000000 && st.st_blocks < 100000);
    char *text = read_text(in("big/tokenizer_2/tokenizer_config.json"));
    assert_non_null(strstr(text, "512"));
    assert_non_null(strstr(text, "extra"));
    free(text);

    /* not empty; no such parent; no tokenizers; stopped: nothing is left */
    assert_false(synth_write(in("big"), &o, in("tok"), NULL, NULL, &e));
    assert_says(&e, "empty folder");
    err_clear(&e);
    assert_false(synth_write(in("no/parent"), &o, in("tok"), NULL, NULL, &e));
    err_clear(&e);
    assert_false(synth_write(in("half"), &o, in("nowhere"), NULL, NULL, &e));
    assert_says(&e, "nowhere");
    assert_int_equal(access(in("half"), F_OK), -1);
    err_clear(&e);
    double reached = 0;
    assert_false(synth_write(in("half"), &o, in("tok"), stop_half_way, &reached, &e));
    assert_int_equal(e.kind, ERR_CANCELLED);
    assert_true(reached >= 0.5 && reached < 0.9);
    assert_int_equal(access(in("half"), F_OK), -1);
    folder_new(in("mine"));
    err_clear(&e);
    assert_false(synth_write(in("mine"), &o, in("tok"), stop_half_way, &reached, &e));
    assert_int_equal(scratch_entries(in("mine")), 0); /* the folder itself was the caller's */

    err_clear(&e);
    o.arch = "flux-2";
    assert_false(synth_write(in("half"), &o, in("tok"), NULL, NULL, &e));
    assert_says(&e, "flux-2");
    err_clear(&e);
    o.arch = "flux-dev";
    o.doubles = 5000;
    assert_false(synth_write(in("half"), &o, in("tok"), NULL, NULL, &e));
    o.doubles = 1000;
    o.singles = 1000;
    o.dtype = DT_F32;
    o.headers_only = false; /* 3.8 TB: refused before anything is written */
    err_clear(&e);
    assert_false(synth_write(in("half"), &o, in("tok"), NULL, NULL, &e));
    assert_says(&e, "are free");
    assert_int_equal(access(in("half"), F_OK), -1);
}

/* --- the commands ------------------------------------------------------------------- */

/* Runs a command with stdout and stderr caught in out and errors. */
static int run(int (*command)(int, char **), const char *const *args, char *out, char *errors,
               size_t size)
{
    char *argv[16] = { 0 };
    int argc = 0, keep[2] = { dup(1), dup(2) };
    char *to[2] = { out, errors };
    while (args[argc]) {
        argv[argc] = strdup(args[argc]);
        argc++;
    }
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        int fd = open(in("out%d", i), O_RDWR | O_CREAT | O_TRUNC, 0666);
        dup2(fd, i + 1);
        close(fd);
    }
    int status = command(argc, argv);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        dup2(keep[i], i + 1);
        close(keep[i]);
        FILE *f = fopen(in("out%d", i), "rb");
        assert_non_null(f);
        to[i][fread(to[i], 1, size - 1, f)] = '\0';
        fclose(f);
    }
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return status;
}

#define ARGS(...) (const char *const[]){ __VA_ARGS__, NULL }

static void assert_line(const char *errors, const char *what)
{
    const char *end = strchr(errors, '\n');
    if (strncmp(errors, "sluice", 6) || !end || end[1] || !strstr(errors, what))
        fail_msg("expected one line with \"%s\", got \"%s\"", what, errors);
}

static void test_cmd_inspect(void **state)
{
    (void)state;
    static char out[1 << 16], errors[1 << 16];
    struct err e = { 0 };
    model_make(in("seen"), "flux-dev");
    assert_int_equal(run(cmd_inspect, ARGS("inspect", in("seen")), out, errors, sizeof errors), 0);
    assert_string_equal(errors, "");
    assert_non_null(strstr(out, "2 double + 3 single"));

    rename(in("seen/vae"), in("vae-aside"));
    assert_int_equal(run(cmd_inspect, ARGS("inspect", in("seen")), out, errors, sizeof errors), 0);
    assert_non_null(strstr(out, "MISSING"));
    rename(in("vae-aside"), in("seen/vae"));
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--json", in("seen")), out, errors, sizeof errors), 0);
    json_t *o = config_parse(out, strlen(out), 0, "out", &e);
    assert_fine(o != NULL, &e);
    assert_int_equal(json_array_size(json_object_get(o, "parts")), MODEL_PART_COUNT);
    json_decref(o);

    write_text(in("seen/vae/diffusion_pytorch_model.safetensors"), "damaged");
    assert_int_equal(run(cmd_inspect, ARGS("inspect", in("seen")), out, errors, sizeof errors), 1);
    assert_non_null(strstr(out, "UNREADABLE"));
    assert_line(errors, "vae");
    assert_int_equal(run(cmd_inspect, ARGS("inspect", in("nothing")), out, errors, sizeof errors), 1);
    assert_line(errors, "no such folder");
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--what"), out, errors, sizeof errors), 2);
    assert_line(errors, "--what");
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "a", "b"), out, errors, sizeof errors), 2);
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--help"), out, errors, sizeof errors), 0);
    assert_non_null(strstr(out, "usage:"));

    /* a file with a name that would clear the terminal */
    float x[2] = { 1, NAN };
    struct safetensors_entry entry = { "single_transformer_blocks.0.\x1b[2J", tensor_1d(x, DT_F32, 2) };
    assert_fine(safetensors_write(in("one.safetensors"), &entry, 1, &e), &e);
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--tensors", in("one.safetensors")), out, errors, sizeof errors),
                     0);
    assert_non_null(strstr(out, "names of diffusers"));
    assert_non_null(strstr(out, "?[2J"));
    assert_null(strchr(out, '\x1b'));
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--check", in("one.safetensors")), out, errors, sizeof errors),
                     1);
    assert_line(errors, "NaN at element 1");
}

/* Every component made from its shapes at a small size, then damaged. */
static bool tiny_entry(void *user, const char *name, int ndim, const int64_t *shape)
{
    json_t *list = json_array();
    for (int i = 0; i < ndim; i++)
        json_array_append_new(list, json_integer(shape[i]));
    json_object_set_new(user, name, json_pack("{s:s, s:o}", "dtype", "F32", "shape", list));
    return true;
}

static void test_cmd_inspect_check(void **state)
{
    (void)state;
    static char out[1 << 16], errors[1 << 16];
    static const struct { const char *file, *text; } configs[] = {
        { "text_encoder", "{\"vocab_size\":600,\"max_position_embeddings\":8,\"hidden_size\":8,"
                          "\"num_attention_heads\":2,\"num_hidden_layers\":1,\"intermediate_size\":16,"
                          "\"eos_token_id\":501}" },
        { "text_encoder_2", "{\"vocab_size\":30,\"d_model\":8,\"num_heads\":2,\"d_kv\":6,\"num_layers\":2,"
                            "\"d_ff\":12,\"feed_forward_proj\":\"gated-gelu\"}" },
        { "transformer", "{\"in_channels\":16,\"num_attention_heads\":2,\"attention_head_dim\":8,"
                         "\"axes_dims_rope\":[2,2,4],\"num_layers\":1,\"num_single_layers\":1,"
                         "\"joint_attention_dim\":8,\"pooled_projection_dim\":8}" },
        { "vae", "{\"block_out_channels\":[4,8],\"latent_channels\":4,\"layers_per_block\":1,"
                 "\"norm_num_groups\":2,\"scaling_factor\":1.5}" },
    };
    struct err e = { 0 };
    struct model m;
    model_make(in("tiny"), "flux-schnell");
    for (int i = 0; i < 4; i++)
        write_text(in("tiny/%s/config.json", configs[i].file), configs[i].text);
    assert_fine(model_open(&m, in("tiny"), true, &e), &e);
    for (int p = MODEL_CLIP; p <= MODEL_VAE; p++) {
        json_t *header = json_object();
        assert_true(shapes_visit(&m, (enum model_part)p, tiny_entry, header));
        char *text = json_dumps(header, 0);
        write_text(in("header"), text);
        free(text);
        json_decref(header);
        const char *stem = p == MODEL_FLUX || p == MODEL_VAE ? "diffusion_pytorch_model" : "model";
        assert_fine(synth_from_header(in("header"), in("tiny/%s/%s.safetensors",
                                      model_part_name((enum model_part)p), stem), 1, &e), &e);
    }
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--check", in("tiny")), out, errors, sizeof errors), 0);
    assert_non_null(strstr(out, "checked"));

    write_floats(in("tiny/vae/diffusion_pytorch_model.safetensors"), "encoder.conv_in.bias", 4, NAN);
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--check", in("tiny")), out, errors, sizeof errors), 1);
    assert_non_null(strstr(out, "encoder.conv_in.bias: expected numbers, found NaN"));
    assert_non_null(strstr(out, "encoder.conv_in.weight: expected [4, 3, 3, 3], found no such"));
    assert_line(errors, "faults, the first");
    remove_tree(in("tiny/text_encoder_2"));
    assert_int_equal(run(cmd_inspect, ARGS("inspect", "--check", in("tiny")), out, errors, sizeof errors), 1);
    assert_non_null(strstr(out, "text_encoder_2 is missing"));
}

static void test_cmd_synth(void **state)
{
    (void)state;
    static char out[4096], errors[4096];
    tokenizers_make(in("tok"));
    assert_int_equal(run(cmd_synth, ARGS("synth", "--headers-only", "--tokenizers", in("tok"), "--double", "0",
                         "--single", "1", "--t5-layers", "1", "--dtype", "F16", in("made")), out, errors,
                         sizeof errors), 0);
    assert_string_equal(errors, "");
    struct model m;
    struct err e = { 0 };
    assert_fine(model_open(&m, in("made"), true, &e), &e);
    assert_int_equal(m.flux.doubles, 0);
    assert_int_equal(m.clip.layers, 12);
    assert_int_equal(run(cmd_synth, ARGS("synth", "--headers-only", "--tokenizers", in("tok"), in("made")), out,
                         errors, sizeof errors), 1);
    assert_line(errors, "made");
    static const char *const wrong[][3] = {
        { "--double", "x", "--double x" }, { "--double", "-1", "--double -1" },
        { "--t5-layers", "0", "1 to 1024" }, { "--dtype", "q8", "q8" }, { "--arch", "sd3", "sd3" },
        { "--seed", "-1", "--seed" }, { "--seed", "99999999999999999999", "--seed" },
        { "--nothing", "1", "--nothing" }, { "dir", "more", "one folder" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(run(cmd_synth, ARGS("synth", wrong[i][0], wrong[i][1]), out, errors, sizeof errors), 2);
        assert_line(errors, wrong[i][2]);
    }
    assert_int_equal(run(cmd_synth, ARGS("synth", "--double"), out, errors, sizeof errors), 2);
    assert_line(errors, "needs a value");
    assert_int_equal(run(cmd_synth, ARGS("synth"), out, errors, sizeof errors), 2);
    assert_int_equal(run(cmd_synth, ARGS("synth", "--help"), out, errors, sizeof errors), 0);
}

static void test_cmd_bytes(void **state)
{
    (void)state;
    static const struct { uint64_t n; const char *text; } cases[] = {
        { 0, "0 B" }, { 999, "999 B" }, { 1000, "1.00 kB" }, { 9994, "9.99 kB" }, { 9996, "10.0 kB" },
        { 246144352, "246 MB" }, { 999600, "1.00 MB" }, { 23802816640, "23.8 GB" }, { 9524621312, "9.52 GB" },
        { UINT64_MAX, "18.4 EB" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char buf[CMD_BYTES_MAX];
        assert_string_equal(cmd_bytes(cases[i].n, buf), cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_safetensors_round_trip),
        cmocka_unit_test(test_safetensors_accepts),
        cmocka_unit_test(test_safetensors_refuses),
        cmocka_unit_test(test_safetensors_misaligned),
        cmocka_unit_test(test_safetensors_no_file),
        cmocka_unit_test(test_safetensors_mutations),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_disk_full),
        cmocka_unit_test(test_file_through_link),
        cmocka_unit_test(test_weights_shards),
        cmocka_unit_test(test_weights_which_file),
        cmocka_unit_test(test_weights_get),
        cmocka_unit_test(test_weights_finite_large),
        cmocka_unit_test(test_model_open),
        cmocka_unit_test(test_model_missing),
        cmocka_unit_test(test_model_configs),
        cmocka_unit_test(test_model_find),
        cmocka_unit_test(test_image_round_trip),
        cmocka_unit_test(test_image_bad_files),
        cmocka_unit_test(test_image_from_tensor),
        cmocka_unit_test(test_image_resize),
        cmocka_unit_test(test_synth_law),
        cmocka_unit_test(test_synth_values),
        cmocka_unit_test(test_synth_pieces),
        cmocka_unit_test(test_synth_from_header),
        cmocka_unit_test(test_synth_checkpoint),
        cmocka_unit_test(test_cmd_inspect),
        cmocka_unit_test(test_cmd_inspect_check),
        cmocka_unit_test(test_cmd_synth),
        cmocka_unit_test(test_cmd_bytes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
