/* test_cuda_shim.c - the fake CUDA runtime that the cuda device is tested with (tests/cuda):
 * that kernels run as on a card, that streams keep what they promise and no more, that what
 * is wrong with a program shows. Not the cuda device itself. */
#include "kernels/err.h"
#include "tests/cuda/fake.h"
#include "tests/cuda/shim_kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEEDS = 24, BLOCK = 256 };

static void *module;

/* The function of that name in the fake module. */
#define F(name) ((__typeof__(name) *)(uintptr_t)function(#name))
static void *function(const char *name)
{
    void *f = dlsym(module, name);
    if (!f)
        fail_msg("%s", dlerror());
    return f;
}

#define OK(call) assert_cuda(call, cudaSuccess, #call, __LINE__)
#define IS(call, error) assert_cuda(call, error, #call, __LINE__)
static void assert_cuda(cudaError_t rc, cudaError_t want, const char *call, int line)
{
    if (rc != want)
        fail_msg("line %d: %s: %s, expected %s", line, call, F(cudaGetErrorName)(rc), F(cudaGetErrorName)(want));
}

static int open_module(void **state)
{
    (void)state;
    char path[PATH_MAX];
    const char *build = getenv("SLUICE_BUILD");
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        fprintf(stderr, "%s\n", dlerror());
    return module ? 0 : -1;
}

static int fresh(void **state)
{
    (void)state;
    F(fake_cuda_reset)();
    F(cudaGetLastError)();
    return 0;
}

static int nothing_lives(void **state)
{
    (void)state;
    F(fake_cuda_reset)();
    for (int kind = 0; kind < FAKE_CUDA_KINDS; kind++)
        if (F(fake_cuda_live)(kind) != 0) {
            fprintf(stderr, "%d objects of kind %d are left\n", F(fake_cuda_live)(kind), kind);
            return -1;
        }
    return 0;
}

/* --- kernels ----------------------------------------------------------------------------------------- */
struct buffers {
    cudaStream_t s;
    float *x, *y;          /* on the card */
    float *host_x, *host_y;
    int n;
};

/* n floats each; x is 0, 1, 2, ... */
static struct buffers buffers_new(int n)
{
    struct buffers b = { .n = n };
    size_t bytes = (size_t)n * sizeof(float);
    OK(F(cudaStreamCreateWithFlags)(&b.s, cudaStreamNonBlocking));
    OK(F(cudaMalloc)((void **)&b.x, bytes));
    OK(F(cudaMalloc)((void **)&b.y, bytes));
    OK(F(cudaMallocHost)((void **)&b.host_x, bytes));
    OK(F(cudaMallocHost)((void **)&b.host_y, bytes));
    for (int i = 0; i < n; i++)
        b.host_x[i] = (float)i;
    OK(F(cudaMemcpyAsync)(b.x, b.host_x, bytes, cudaMemcpyHostToDevice, b.s));
    return b;
}

static void buffers_read(struct buffers *b)
{
    OK(F(cudaMemcpyAsync)(b->host_y, b->y, (size_t)b->n * sizeof(float), cudaMemcpyDeviceToHost, b->s));
    OK(F(cudaStreamSynchronize)(b->s));
}

static void buffers_free(struct buffers *b)
{
    OK(F(cudaFree)(b->x));
    OK(F(cudaFree)(b->y));
    OK(F(cudaFreeHost)(b->host_x));
    OK(F(cudaFreeHost)(b->host_y));
    OK(F(cudaStreamDestroy)(b->s));
}

static void assert_all(const struct buffers *b, float (*want)(int i, int argument), int argument)
{
    for (int i = 0; i < b->n; i++)
        if (b->host_y[i] != want(i, argument))
            fail_msg("element %d: %g, expected %g", i, (double)b->host_y[i], (double)want(i, argument));
}

static float same(int i, int unused) { (void)unused; return (float)i; }
static float plus(int i, int k) { return (float)(i + k); }
static float reversed(int i, int block) { return (float)(i / block * block + block - 1 - i % block); }
static float moved(int i, int n) { return (float)(i / BLOCK * BLOCK + (i + n) % BLOCK); }
static float number(int i, int n) { (void)i; return (float)n; }

static void test_indices(void **state)
{
    (void)state;
    struct buffers b = buffers_new(3 * 5 * 2 * 24);
    OK(F(shim_where)(b.s, 3, 5, 2, b.y));
    buffers_read(&b);
    assert_all(&b, same, 0);
    buffers_free(&b);
}

static void test_grid_stride(void **state)
{
    (void)state;
    struct buffers b = buffers_new(10007);
    OK(F(shim_kernel)(SHIM_ADD_ONE, b.s, 7, 96, 0, b.y, b.x, b.n));
    buffers_read(&b);
    assert_all(&b, plus, 1);
    buffers_free(&b);
}

static void test_block_sum(void **state)
{
    (void)state;
    struct buffers b = buffers_new(1031);
    for (unsigned block = 32; block <= 1024; block += 96) {
        OK(F(shim_kernel)(SHIM_BLOCK_SUM, b.s, 3, block, 0, b.y, b.x, b.n));
        buffers_read(&b);
        for (int i = 0; i < 3; i++)
            assert_true(b.host_y[i] == 1031.0f * 1030 / 2);
    }
    buffers_free(&b);
}

static void test_shared_memory(void **state)
{
    (void)state;
    struct buffers b = buffers_new(4096);
    for (unsigned block = 1; block <= 1024; block *= 4) {
        OK(F(shim_kernel)(SHIM_REVERSE, b.s, 4096 / block, block, block * sizeof(float), b.y, b.x, b.n));
        buffers_read(&b);
        assert_all(&b, reversed, (int)block);
    }
    OK(F(shim_kernel)(SHIM_ROUNDS, b.s, 4096 / BLOCK, BLOCK, BLOCK * sizeof(float), b.y, b.x, 37));
    buffers_read(&b);
    assert_all(&b, moved, 37);
    OK(F(shim_kernel)(SHIM_UNWRITTEN, b.s, 1, BLOCK, BLOCK * sizeof(float), b.y, b.x, 0));
    buffers_read(&b);
    for (int i = 0; i < BLOCK; i++)
        assert_true(isnan(b.host_y[i]));
    buffers_free(&b);
}

/* Right with some orders of the threads, wrong with others. */
static void test_a_forgotten_barrier_shows(void **state)
{
    (void)state;
    int wrong = 0;
    struct buffers b = buffers_new(BLOCK);
    for (int seed = 0; seed < SEEDS; seed++) {
        F(fake_cuda_seed)((uint64_t)seed);
        OK(F(shim_kernel)(SHIM_REVERSE_RACE, b.s, 1, BLOCK, BLOCK * sizeof(float), b.y, b.x, b.n));
        buffers_read(&b);
        for (int i = 0; i < BLOCK; i++)
            if (b.host_y[i] != reversed(i, BLOCK)) {
                wrong++;
                break;
            }
    }
    assert_true(wrong >= SEEDS / 2);
    buffers_free(&b);
}

static void test_early_exit(void **state)
{
    (void)state;
    for (int n = 1; n <= 32; n += 5) {
        struct buffers b = buffers_new(n);
        OK(F(shim_kernel)(SHIM_EARLY_EXIT, b.s, 1, 192, 0, b.y, b.x, n));
        buffers_read(&b);
        assert_all(&b, number, n);
        buffers_free(&b);
    }
}

static float lanes_want(int row, int lane, float v[32])
{
    switch (row) {
    case 0: return v[3];
    case 1: return v[lane / 8 * 8 + 3];
    case 2: return v[lane ^ 5];
    case 3: return v[lane + 7 < 32 ? lane + 7 : lane];
    case 4: return v[lane % 16 >= 2 ? lane - 2 : lane];
    case 5: return (float)0x80808080u;
    case 6: return 1;
    case 7: return 0;
    case 8: return v[lane ^ 15];
    case 9: return -4;
    case 10: return 0x1p33f;
    case 11: return 1;
    case 12: return lane < 3 ? v[lane + 1] : v[lane];
    case 13: return 0.25f;
    case 14: return (float)((lane + 1) % 32);
    default: return 32;
    }
}

static void test_lanes(void **state)
{
    (void)state;
    enum { THREADS = 96, ROWS = 16 };
    struct buffers b = buffers_new(THREADS * ROWS);
    for (int seed = 0; seed < SEEDS; seed++) {
        F(fake_cuda_seed)((uint64_t)seed);
        OK(F(shim_kernel)(SHIM_LANES, b.s, 1, THREADS, 0, b.y, b.x, 0));
        buffers_read(&b);
        for (int row = 0; row < ROWS; row++)
            for (int t = 0; t < THREADS; t++) {
                float v[32], want = (float)0, found = b.host_y[row * THREADS + t];
                for (int i = 0; i < 32; i++)
                    v[i] = (float)(t / 32 * 32 + i);
                want = lanes_want(row, t % 32, v);
                if (found != want)
                    fail_msg("seed %d, row %d, thread %d: %g, expected %g", seed, row, t, (double)found, (double)want);
            }
    }
    buffers_free(&b);
}

static void test_launch_configurations(void **state)
{
    (void)state;
    struct buffers b = buffers_new(4);
    static const struct { unsigned grid, block; size_t shared; cudaError_t want; } cases[] = {
        { 1, 1025, 0, cudaErrorInvalidConfiguration }, { 0, 32, 0, cudaErrorInvalidConfiguration },
        { 1, 0, 0, cudaErrorInvalidConfiguration },    { 0x80000000u, 32, 0, cudaErrorInvalidConfiguration },
        { 1, 32, 48 * 1024, cudaSuccess },             { 1, 32, 48 * 1024 + 1, cudaErrorInvalidValue },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        IS(F(shim_kernel)(SHIM_ADD_ONE, b.s, cases[i].grid, cases[i].block, cases[i].shared, b.y, b.x, b.n), cases[i].want);
        OK(F(cudaGetLastError)()); /* a launch has taken it */
    }
    IS(F(shim_where)(b.s, 1, 65536, 1, b.y), cudaErrorInvalidConfiguration);
    F(fake_cuda_set_sm)(75);
    IS(F(shim_kernel_allow)(SHIM_UNWRITTEN, 64 * 1024 + 1), cudaErrorInvalidValue);
    IS(F(shim_kernel)(SHIM_ADD_ONE, b.s, 1, 32, 0, b.y, b.x, b.n), cudaErrorInvalidValue); /* the error before it */
    F(fake_cuda_set_sm)(90);
    OK(F(shim_kernel_allow)(SHIM_UNWRITTEN, 227 * 1024));
    OK(F(shim_kernel)(SHIM_UNWRITTEN, b.s, 1, 4, 227 * 1024, b.y, b.x, 0));
    buffers_read(&b);
    buffers_free(&b);
}

/* --- what ends the process ------------------------------------------------------------------------------ */
/* Runs f in a child, which has to die of that signal. */
static void assert_dies(const char *name, void (*f)(void), int signal_number)
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        signal(SIGSEGV, SIG_DFL);
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDERR_FILENO);
        f();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != signal_number)
        fail_msg("%s: status %x, expected signal %d", name, (unsigned)status, signal_number);
}

static void run_wrong(enum shim_kernel which)
{
    struct buffers b = buffers_new(64);
    F(shim_kernel)(which, b.s, 1, 64, 64 * sizeof(float), b.y, b.x, b.n);
    F(cudaStreamSynchronize)(b.s);
}

static void split_barrier(void) { run_wrong(SHIM_SPLIT_BARRIER); }
static void lost_lane(void) { run_wrong(SHIM_LOST_LANE); }
static void masks(void) { run_wrong(SHIM_MASKS); }
static void beyond_shared(void) { run_wrong(SHIM_BEYOND_SHARED); }

static void touch_device_memory(void)
{
    float *p;
    F(cudaMalloc)((void **)&p, 64);
    *(volatile float *)p = 1;
}

/* The kernel writes one float too many. */
static void write_beyond(void)
{
    float *p;
    F(cudaMalloc)((void **)&p, 64);
    F(shim_kernel)(SHIM_UNWRITTEN, NULL, 1, 17, 17 * sizeof(float), p, p, 0);
    F(cudaFree)(p);
}

static void dead_stream(void)
{
    cudaStream_t s;
    F(cudaStreamCreate)(&s);
    F(cudaStreamDestroy)(s);
    F(cudaStreamSynchronize)(s);
}

static void dead_event(void)
{
    cudaEvent_t e;
    F(cudaEventCreate)(&e);
    F(cudaEventDestroy)(e);
    F(cudaEventQuery)(e);
}

static void test_wrong_programs_die(void **state)
{
    (void)state;
#define PROGRAM(f) { #f, f }
    static const struct { const char *name; void (*f)(void); } wrong[] = {
        PROGRAM(split_barrier), PROGRAM(lost_lane), PROGRAM(masks), PROGRAM(beyond_shared), PROGRAM(write_beyond),
        PROGRAM(dead_stream), PROGRAM(dead_event),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_dies(wrong[i].name, wrong[i].f, SIGABRT);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ /* they make another end of it */
    assert_dies("touch_device_memory", touch_device_memory, SIGSEGV);
#else
    (void)touch_device_memory;
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_indices, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_grid_stride, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_block_sum, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_shared_memory, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_a_forgotten_barrier_shows, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_early_exit, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_lanes, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_launch_configurations, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_wrong_programs_die, fresh, nothing_lives),
    };
    return cmocka_run_group_tests_name("cuda_shim", tests, open_module, NULL);
}
