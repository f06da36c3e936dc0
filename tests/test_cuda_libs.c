/* test_cuda_libs.c - what the cuda device promises of cuBLASLt and cuDNN and check_ops does not reach: one
 * algorithm whatever the piece, the record of algorithms on disk, conversions piece by piece, work
 * without cuDNN, and each of their calls failing. On libraries that do the work on the processor
 * (tests/cuda), whose proposals change with the piece. */
#include "kernels/cuda.h"
#include "tests/cuda/fake.h"
#include "tests/cuda/fake_libs.h"

#include <dirent.h>
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct {
    __typeof__(fake_cuda_set_sm) *set_sm;
    __typeof__(fake_cuda_fail) *fail_call;
    __typeof__(fake_cuda_failed) *failed;
    __typeof__(fake_cuda_live) *live;
    __typeof__(fake_cublaslt_products) *products;
    __typeof__(fake_cudnn_plans) *plans;
} fake;

static char cache[64]; /* XDG_CACHE_HOME */

/* --- a device and its memory --------------------------------------------------------------------------- */
enum { MEMORY = 10 << 20 };

static struct device *open_sized(enum dtype compute, bool search, size_t size)
{
    struct err e = { 0 };
    struct device *d;
    void *memory;
    if (!cuda_device_new(&d, compute, &(struct cuda_options){ .search = search }, &e))
        fail_msg("%s", e.text);
    assert_true(device_take(d, &memory, size, &e));
    d->arena = arena_over(memory, size);
    return d;
}

static struct device *open_device(enum dtype compute, bool search) { return open_sized(compute, search, MEMORY); }

static void close_device(struct device *d)
{
    device_give(d, d->arena.base);
    device_free(d);
}

static void finish(struct device *d)
{
    struct err e = { 0 };
    if (!device_sync(d, &e))
        fail_msg("%s", e.text);
}

/* Numbers of about the size of scale, always the same for a seed, on the device. */
static struct tensor filled(struct device *d, enum dtype t, int ndim, const int64_t *shape, unsigned seed, double scale)
{
    struct tensor r = device_tensor(d, t, ndim, shape);
    int64_t n = tensor_count(r);
    void *host = malloc(tensor_bytes(r));
    assert_non_null(host);
    uint32_t state = seed * 2654435761u + 1;
    for (int64_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        dtype_store(host, t, i, scale * ((double)(state >> 8) / (1 << 23) - 1));
    }
    device_upload(d, r, host);
    free(host);
    return r;
}

static struct tensor matrix(struct device *d, enum dtype t, int64_t rows, int64_t cols, unsigned seed)
{
    return filled(d, t, 2, (const int64_t[]){ rows, cols }, seed, 1 / sqrt((double)cols));
}

/* Its bytes; the caller frees them. */
static void *bytes_of(struct device *d, struct tensor t)
{
    void *host = malloc(tensor_bytes(t));
    assert_non_null(host);
    device_download(d, host, t);
    finish(d);
    return host;
}

static void assert_same(struct device *d, struct tensor a, struct tensor b)
{
    void *x = bytes_of(d, a), *y = bytes_of(d, b);
    assert_memory_equal(x, y, tensor_bytes(a));
    free(x);
    free(y);
}

static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };

/* --- cuBLASLt ------------------------------------------------------------------------------------------ */
static void rows_of_linear(void **state)
{
    (void)state;
    static const int64_t pieces[] = { 1, 7, 64, 130 };
    for (int t = 0; t < 3; t++) {
        struct device *d = open_device(types[t], false);
        struct tensor x = matrix(d, types[t], 200, 64, 1), w = matrix(d, types[t], 96, 64, 2);
        struct tensor b = filled(d, types[t], 1, (const int64_t[]){ 96 }, 3, 1), absent = { 0 };
        for (int act = ACT_NONE; act <= ACT_RELU; act++)
            for (int bias = 0; bias < 2; bias++) {
                size_t mark = device_mark(d);
                struct tensor whole = device_matrix(d, types[t], 200, 96), parts = device_matrix(d, types[t], 200, 96);
                device_linear(d, whole, x, w, bias ? b : absent, act);
                for (int p = 0; p < 4; p++) {
                    for (int64_t i = 0; i < 200; i += pieces[p]) {
                        int64_t n = i + pieces[p] < 200 ? pieces[p] : 200 - i;
                        device_linear(d, tensor_rows(parts, i, n), tensor_rows(x, i, n), w, bias ? b : absent, act);
                    }
                    assert_same(d, whole, parts);
                }
                device_release(d, mark);
            }
        close_device(d);
    }
}

/* Two linears write side by side, as a single block's attention and MLP do. */
static void results_side_by_side(void **state)
{
    (void)state;
    struct device *d = open_device(DT_BF16, false);
    struct tensor x = matrix(d, DT_BF16, 33, 64, 1), w = matrix(d, DT_BF16, 96, 64, 2), none = { 0 };
    struct tensor both = device_matrix(d, DT_BF16, 33, 96), left = device_matrix(d, DT_BF16, 33, 32);
    struct tensor right = device_matrix(d, DT_BF16, 33, 64);
    device_linear(d, tensor_cols(both, 0, 32), x, tensor_rows(w, 0, 32), none, ACT_NONE);
    device_linear(d, tensor_cols(both, 32, 64), x, tensor_rows(w, 32, 64), none, ACT_GELU_TANH);
    device_linear(d, left, x, tensor_rows(w, 0, 32), none, ACT_NONE);
    device_linear(d, right, x, tensor_rows(w, 32, 64), none, ACT_GELU_TANH);
    struct tensor a = device_matrix(d, DT_BF16, 33, 32), b = device_matrix(d, DT_BF16, 33, 64);
    device_copy(d, a, tensor_cols(both, 0, 32));
    device_copy(d, b, tensor_cols(both, 32, 64));
    assert_same(d, a, left);
    assert_same(d, b, right);
    close_device(d);
}

/* More weights of another type than are converted at once. */
static void weights_are_converted_in_pieces(void **state)
{
    (void)state;
    enum { N = 4104, K = 4096 };
    struct device *d = open_sized(DT_BF16, false, 160 << 20);
    struct tensor x = matrix(d, DT_BF16, 2, K, 1), none = { 0 };
    struct tensor w = matrix(d, DT_F32, N, K, 2), same = device_matrix(d, DT_BF16, N, K);
    struct tensor y = device_matrix(d, DT_BF16, 2, N), z = device_matrix(d, DT_BF16, 2, N);
    device_copy(d, same, w);
    device_linear(d, z, x, same, none, ACT_NONE);
    long before = fake.products();
    device_linear(d, y, x, w, none, ACT_NONE);
    finish(d);
    assert_int_equal(fake.products() - before, 2);
    assert_same(d, y, z);
    close_device(d);
}

/* --- the record ---------------------------------------------------------------------------------------- */
static int record_files(char path[512])
{
    char folder[128];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/sluice", cache);
    DIR *dir = opendir(folder);
    for (struct dirent *f; dir && (f = readdir(dir));)
        if (f->d_name[0] != '.') {
            snprintf(path, 512, "%s/%s", folder, f->d_name);
            n++;
        }
    if (dir)
        closedir(dir);
    return n;
}

static void forget_record(void)
{
    char path[512];
    while (record_files(path))
        assert_int_equal(unlink(path), 0);
}

enum { RECORD_BYTES = 1 << 14 };

static char *read_record(const char *path, char text[RECORD_BYTES])
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    text[fread(text, 1, RECORD_BYTES - 1, f)] = '\0';
    fclose(f);
    return text;
}

static void write_record(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int lines_in(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

enum { KINDS = 6 };

/* The results of KINDS linears of different weights, one after the other. */
static struct tensor all_kinds(struct device *d)
{
    struct tensor y = device_matrix(d, DT_F32, KINDS, 8 * KINDS), none = { 0 };
    for (int i = 0; i < KINDS; i++) {
        int64_t n = 8 * (i + 1);
        struct tensor x = matrix(d, DT_F32, 1, 512, 1), w = matrix(d, DT_F32, n, 512, 2);
        device_linear(d, tensor_cols(tensor_rows(y, i, 1), 0, n), x, w, none, ACT_NONE);
        if (n < 8 * KINDS) /* the rest of the row */
            device_copy(d, tensor_cols(tensor_rows(y, i, 1), n, 8 * KINDS - n), tensor_cols(x, 0, 8 * KINDS - n));
    }
    return y;
}

static void *run_all_kinds(bool search)
{
    struct device *d = open_device(DT_F32, search);
    void *bytes = bytes_of(d, all_kinds(d));
    close_device(d);
    return bytes;
}

enum { ALL_BYTES = KINDS * 8 * KINDS * 4 };

static void what_was_found_is_on_record(void **state)
{
    (void)state;
    char path[512], first[RECORD_BYTES], now[RECORD_BYTES];
    forget_record();
    void *found = run_all_kinds(true);
    assert_int_equal(record_files(path), 1);
    assert_int_equal(lines_in(read_record(path, first)), KINDS);
    for (int search = 0; search < 2; search++) {
        void *again = run_all_kinds(search);
        assert_memory_equal(found, again, ALL_BYTES);
        free(again);
    }
    assert_string_equal(read_record(path, now), first);
    free(found);
}

static void without_search_nothing_is_recorded(void **state)
{
    (void)state;
    char path[512];
    forget_record();
    void *a = run_all_kinds(false), *b = run_all_kinds(false);
    assert_memory_equal(a, b, ALL_BYTES);
    assert_int_equal(record_files(path), 0);
    free(a);
    free(b);
}

/* Garbage, a line cut short, bytes that are no algorithm: passed over, and what was found again follows. */
static void a_damaged_record(void **state)
{
    (void)state;
    char path[512], good[RECORD_BYTES], bad[RECORD_BYTES + 16], now[RECORD_BYTES];
    forget_record();
    free(run_all_kinds(true));
    assert_int_equal(record_files(path), 1);

    char *second = strchr(read_record(path, good), '\n') + 1;
    /* No first line, and a last one that was cut short. */
    snprintf(bad, sizeof bad, "\nnonsense %.*s", (int)(strlen(second) - 40), second);
    write_record(path, bad);
    free(run_all_kinds(true));
    assert_int_equal(lines_in(read_record(path, now)), lines_in(bad) + 1 + 3); /* it ends, and three are found again */

    snprintf(bad, sizeof bad, "%s", good);
    for (char *p = bad; (p = strchr(p, '\n')); p++)
        p[-1] = p[-1] == '0' ? '1' : '0';
    write_record(path, bad);
    void *found = run_all_kinds(true), *again = run_all_kinds(true);
    assert_memory_equal(found, again, ALL_BYTES);
    assert_int_equal(lines_in(read_record(path, now)), 2 * KINDS);
    free(found);
    free(again);
}

static void another_version_has_its_own_record(void **state)
{
    (void)state;
    char path[512];
    forget_record();
    free(run_all_kinds(true));
    setenv("FAKE_CUBLASLT_VERSION", "130100", 1);
    free(run_all_kinds(true));
    unsetenv("FAKE_CUBLASLT_VERSION");
    assert_int_equal(record_files(path), 2);
}

/* Then nothing is searched for: the next run could not know of it. */
static void no_place_for_a_record(void **state)
{
    (void)state;
    char path[512], file[80];
    forget_record();
    void *plain = run_all_kinds(false);
    snprintf(file, sizeof file, "%s/file", cache);
    write_record(file, "");
    setenv("XDG_CACHE_HOME", file, 1);
    void *found = run_all_kinds(true);
    setenv("XDG_CACHE_HOME", cache, 1);
    assert_memory_equal(plain, found, ALL_BYTES);
    assert_int_equal(record_files(path), 0);
    free(plain);
    free(found);
}

/* Whoever finds something first has found it for all. */
static void processes_agree(void **state)
{
    (void)state;
    enum { PROCESSES = 4 };
    char path[512], now[RECORD_BYTES], results[PROCESSES][ALL_BYTES];
    int out[PROCESSES][2];
    forget_record();
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(pipe(out[i]), 0);
        if (fork() == 0) {
            void *bytes = run_all_kinds(true);
            _exit(write(out[i][1], bytes, ALL_BYTES) != ALL_BYTES);
        }
        close(out[i][1]);
    }
    for (int i = 0; i < PROCESSES; i++) {
        size_t have = 0;
        for (ssize_t n; have < ALL_BYTES && (n = read(out[i][0], results[i] + have, ALL_BYTES - have)) > 0;)
            have += (size_t)n;
        assert_int_equal(have, ALL_BYTES);
        close(out[i][0]);
        assert_memory_equal(results[i], results[0], ALL_BYTES);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_int_equal(record_files(path), 1);
    assert_int_equal(lines_in(read_record(path, now)), KINDS);
}

/* --- cuDNN: attention ---------------------------------------------------------------------------------- */
enum { KEYS = 150, HEADS = 2, DIM = 64 };

struct attended { struct tensor q, k, v; };

static struct attended attended(struct device *d)
{
    const int64_t shape[] = { KEYS, HEADS, DIM };
    return (struct attended){ filled(d, d->compute, 3, shape, 1, 2), filled(d, d->compute, 3, shape, 2, 2),
                              filled(d, d->compute, 3, shape, 3, 1) };
}

static struct tensor attend(struct device *d, const struct attended *a, int64_t piece)
{
    struct tensor o = device_tensor(d, d->compute, 3, (const int64_t[]){ KEYS, HEADS, DIM });
    for (int64_t i = 0; i < KEYS; i += piece) {
        int64_t n = i + piece < KEYS ? piece : KEYS - i;
        device_attention(d, tensor_rows(o, i, n), tensor_rows(a->q, i, n), a->k, a->v,
                         &(struct attention){ .scale = 0.125f });
    }
    return o;
}

/* Whether cuDNN does it; its pieces have the same bytes, whatever it sees `first`. */
static bool attention_by_cudnn(enum dtype compute, int64_t first)
{
    struct device *d = open_device(compute, false);
    struct attended a = attended(d);
    long before = fake.plans();
    struct tensor o = attend(d, &a, first);
    finish(d);
    bool done = fake.plans() > before;
    for (int i = 0; done && i < 4; i++)
        assert_same(d, o, attend(d, &a, (const int64_t[]){ KEYS, 1, 7, 128 }[i]));
    long calls = 1 + KEYS + (KEYS + 6) / 7 + 2 + (KEYS + first - 1) / first;
    assert_int_equal(fake.plans() - before, done ? calls : 0);
    close_device(d);
    return done;
}

static void attention_in_pieces(void **state)
{
    (void)state;
    assert_true(attention_by_cudnn(DT_BF16, KEYS));
    assert_true(attention_by_cudnn(DT_F16, 7)); /* a piece is seen first */
    assert_false(attention_by_cudnn(DT_F32, KEYS));
}

static void attention_without_cudnn(void **state)
{
    (void)state;
    setenv("FAKE_CUDNN_MISSING", "1", 1);
    assert_int_equal(cuda_versions().cudnn, 0);
    assert_false(attention_by_cudnn(DT_BF16, KEYS));
    unsetenv("FAKE_CUDNN_MISSING");
    setenv("FAKE_CUDNN_VERSION", "91300", 1);
    assert_int_equal(cuda_versions().cudnn, 91300);
    assert_false(attention_by_cudnn(DT_BF16, KEYS));
    unsetenv("FAKE_CUDNN_VERSION");
    setenv("FAKE_CUDNN_BARE", "1", 1); /* no engine is of use */
    assert_false(attention_by_cudnn(DT_BF16, KEYS));
    unsetenv("FAKE_CUDNN_BARE");
    fake.set_sm(75);
    assert_false(attention_by_cudnn(DT_F16, KEYS));
    fake.set_sm(86);
}

/* --- cuDNN: convolution -------------------------------------------------------------------------------- */
struct convolved { struct tensor x, w, b, y; struct conv2d v; };

/* Of rows [from, from + n) of y alone, from the rows of x that they need. */
static void convolve_band(struct device *d, struct tensor y, const struct convolved *c, int64_t from, int64_t n)
{
    struct conv2d v = c->v;
    int64_t first = from * v.stride - v.top, end = (from + n - 1) * v.stride - v.top + c->w.shape[2];
    v.top = first < 0 ? (int)-first : 0;
    v.bottom = end > c->x.shape[0] ? (int)(end - c->x.shape[0]) : 0;
    struct tensor x = tensor_rows(c->x, first + v.top, end - v.bottom - first - v.top);
    device_conv2d(d, tensor_rows(y, from, n), x, c->w, c->b, &v);
}

struct shape { int64_t h, w, in, out; int kernel; };

/* In bands of all these heights the picture has the same bytes as whole. Returns how often cuDNN ran. */
static long bands_of_convolution(enum dtype compute, struct shape p, bool accumulate, size_t memory, int count,
                                 const int64_t *heights)
{
    struct device *d = open_sized(compute, false, memory);
    int pad = p.kernel / 2;
    struct convolved c = { .v = { .stride = 1, .top = pad, .left = pad, .bottom = pad, .right = pad } };
    c.v.accumulate = accumulate;
    const int64_t x_shape[] = { p.h, p.w, p.in }, w_shape[] = { p.out, p.in, p.kernel, p.kernel };
    const int64_t shape[] = { p.h, p.w, p.out };
    c.x = filled(d, compute, 3, x_shape, 1, 1);
    c.w = filled(d, DT_F32, 4, w_shape, 2, 1 / sqrt((double)(p.in * p.kernel * p.kernel)));
    c.b = filled(d, DT_F32, 1, &p.out, 3, 1);
    long before = fake.plans();
    struct tensor whole = filled(d, compute, 3, shape, 4, 1);
    device_conv2d(d, whole, c.x, c.w, c.b, &c.v);
    for (int i = 0; i < count; i++) {
        size_t mark = device_mark(d);
        struct tensor y = filled(d, compute, 3, shape, 4, 1);
        for (int64_t from = 0; from < p.h; from += heights[i])
            convolve_band(d, y, &c, from, from + heights[i] < p.h ? heights[i] : p.h - from);
        assert_same(d, whole, y);
        device_release(d, mark);
    }
    long plans = fake.plans() - before;
    close_device(d);
    return plans;
}

static void bands(bool cudnn)
{
    static const int64_t heights[] = { 1, 9, 64, 69 };
    for (int t = 0; t < 3; t++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            struct shape common = { 70, 20, 16, 24, 3 }, odd = { 70, 20, 5, 3, 3 }, pixel = { 70, 20, 16, 8, 1 };
            assert_int_equal(bands_of_convolution(types[t], common, accumulate, MEMORY, 4, heights) > 0, cudnn);
            assert_int_equal(bands_of_convolution(types[t], odd, accumulate, MEMORY, 4, heights), 0);
            assert_int_equal(bands_of_convolution(types[t], pixel, accumulate, MEMORY, 4, heights), 0);
        }
}

/* Pictures that are worked through in pieces by themselves, on cuDNN and by pixels. */
static void large_pictures(void **state)
{
    (void)state;
    static const struct shape many_rows = { 80, 1024, 8, 64, 3 }, many_columns = { 75, 200, 129, 3, 3 };
    static const int64_t height = 37;
    assert_int_equal(bands_of_convolution(DT_BF16, many_rows, true, 80 << 20, 1, &height), 2 + 3);
    assert_int_equal(bands_of_convolution(DT_BF16, many_columns, true, 80 << 20, 1, &height), 0);
}

static void convolution_in_bands(void **state)
{
    (void)state;
    bands(true);
}

static void convolution_without_cudnn(void **state)
{
    (void)state;
    setenv("FAKE_CUDNN_MISSING", "1", 1);
    bands(false);
    unsetenv("FAKE_CUDNN_MISSING");
    setenv("FAKE_CUDNN_BARE", "1", 1);
    bands(false);
    unsetenv("FAKE_CUDNN_BARE");
}

/* --- failures ------------------------------------------------------------------------------------------ */
/* Something of everything, on a device of its own. True: it worked, and *bytes are its results. */
static bool something(void **bytes, struct err *e)
{
    const size_t size = 5 << 20;
    struct device *d;
    void *memory;
    *bytes = NULL;
    if (!cuda_device_new(&d, DT_BF16, &(struct cuda_options){ .search = true }, e))
        return false;
    if (!device_take(d, &memory, size, e)) {
        device_free(d);
        return false;
    }
    d->arena = arena_over(memory, size);
    const int64_t shape[] = { 16, 2, 64 }, picture[] = { 8, 8, 16 }, kernel[] = { 16, 16, 3, 3 };
    struct tensor q = filled(d, DT_BF16, 3, shape, 1, 1), w = matrix(d, DT_F32, 64, 128, 2), none = { 0 };
    struct tensor o = device_tensor(d, DT_BF16, 3, shape), y = device_matrix(d, DT_BF16, 16, 64);
    device_attention(d, o, q, q, q, &(struct attention){ .scale = 1 });
    device_linear(d, y, tensor_as_2d(o, 16, 128), w, none, ACT_GELU_TANH);
    struct tensor z = device_tensor(d, DT_BF16, 3, picture);
    device_conv2d(d, z, tensor_3d(y.data, DT_BF16, 8, 8, 16), filled(d, DT_BF16, 4, kernel, 3, 1), none,
                  &(struct conv2d){ .stride = 1, .top = 1, .left = 1, .bottom = 1, .right = 1 });
    *bytes = malloc(tensor_bytes(z));
    assert_non_null(*bytes);
    device_download(d, *bytes, z);
    bool ok = device_sync(d, e);
    device_give(d, memory);
    device_free(d);
    return ok;
}

static void every_call_may_fail(void **state)
{
    (void)state;
    struct err e = { 0 };
    void *right, *bytes;
    int live[FAKE_CUDA_KINDS];
    forget_record();
    assert_true(something(&right, &e));
    for (int k = 0; k < FAKE_CUDA_KINDS; k++)
        live[k] = fake.live((enum fake_cuda_kind)k);
    for (long n = 1;; n++) {
        err_clear(&e);
        fake.fail_call(n, 0);
        bool ok = something(&bytes, &e), failed = fake.failed() != NULL;
        fake.fail_call(0, 0);
        if (!ok)
            assert_true(e.kind == ERR_DEVICE || e.kind == ERR_DEVICE_LOST || e.kind == ERR_DEVICE_MEMORY ||
                        e.kind == ERR_MEMORY);
        else if (memcmp(bytes, right, 8 * 8 * 16 * 2))
            fail_msg("call %ld failed, nobody said so, and the result is another", n);
        free(bytes);
        for (int k = 0; k < FAKE_CUDA_KINDS; k++)
            if (fake.live((enum fake_cuda_kind)k) != live[k])
                fail_msg("call %ld failed (%s): objects of kind %d are left", n, e.text, k);
        if (!failed)
            break;
    }
    free(right);
}

/* What is done about a failure depends on its kind. */
static void failures_have_their_kind(void **state)
{
    (void)state;
    static const struct { int code; enum err_kind kind; } of[] = {
        { 1, ERR_DEVICE },           /* cudaErrorInvalidValue */
        { 2, ERR_DEVICE_MEMORY },    /* cudaErrorMemoryAllocation */
        { 700, ERR_DEVICE_LOST },    /* cudaErrorIllegalAddress */
        { 719, ERR_DEVICE_LOST },    /* cudaErrorLaunchFailure */
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        enum err_kind seen = ERR_NONE;
        for (long n = 1; n < 60 && seen != of[i].kind; n++) {
            struct err e = { 0 };
            void *bytes;
            fake.fail_call(n, of[i].code);
            seen = something(&bytes, &e) ? ERR_NONE : e.kind;
            fake.fail_call(0, 0);
            free(bytes);
        }
        assert_int_equal(seen, of[i].kind);
    }
}

/* --- the module ---------------------------------------------------------------------------------------- */
static bool load(void)
{
    char path[4096];
    const char *build = getenv("SLUICE_BUILD");
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    setenv("SLUICE_CUDA", path, 1);
    snprintf(cache, sizeof cache, "/tmp/sluice-cuda-libs-%d", (int)getpid());
    setenv("XDG_CACHE_HOME", cache, 1);
    if (mkdir(cache, 0700) || !cuda_load(&e)) {
        print_error("%s\n", e.text);
        return false;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    bool all = module != NULL;
#define FIND(member, name) all = all && (fake.member = (__typeof__(fake.member))dlsym(module, #name))
    FIND(set_sm, fake_cuda_set_sm);
    FIND(fail_call, fake_cuda_fail);
    FIND(failed, fake_cuda_failed);
    FIND(live, fake_cuda_live);
    FIND(products, fake_cublaslt_products);
    FIND(plans, fake_cudnn_plans);
#undef FIND
    return all;
}

static void clean(void)
{
    char path[512];
    forget_record();
    snprintf(path, sizeof path, "%s/file", cache);
    unlink(path);
    snprintf(path, sizeof path, "%s/sluice", cache);
    rmdir(path);
    rmdir(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_linear),
        cmocka_unit_test(results_side_by_side),
        cmocka_unit_test(weights_are_converted_in_pieces),
        cmocka_unit_test(what_was_found_is_on_record),
        cmocka_unit_test(without_search_nothing_is_recorded),
        cmocka_unit_test(a_damaged_record),
        cmocka_unit_test(another_version_has_its_own_record),
        cmocka_unit_test(no_place_for_a_record),
        cmocka_unit_test(processes_agree),
        cmocka_unit_test(attention_in_pieces),
        cmocka_unit_test(attention_without_cudnn),
        cmocka_unit_test(convolution_in_bands),
        cmocka_unit_test(convolution_without_cudnn),
        cmocka_unit_test(large_pictures),
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(failures_have_their_kind),
    };
    if (!load())
        return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    clean();
    return failed;
}
