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

/* --- kernels ---------------------------------------------------------------------------------- */
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
                float v[32], want, found = b.host_y[row * THREADS + t];
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
        IS(F(shim_kernel)(SHIM_ADD_ONE, b.s, cases[i].grid, cases[i].block, cases[i].shared, b.y, b.x, b.n),
           cases[i].want);
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

/* --- what ends the process -------------------------------------------------------------------- */
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
    F(fake_cuda_close_memory)(true);
    F(cudaMalloc)((void **)&p, 64);
    F(cudaMemset)(p, 0, 64);
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

/* --- streams ---------------------------------------------------------------------------------- */
/* y = x + 1 on one stream after x came on another: with an event between, or without. True: y is right. */
static bool two_streams(struct buffers *b, bool event)
{
    size_t bytes = (size_t)b->n * sizeof(float);
    cudaStream_t in;
    cudaEvent_t came;
    bool right = true;
    OK(F(cudaStreamSynchronize)(b->s));
    OK(F(cudaMemsetAsync)(b->x, 0, bytes, b->s));
    OK(F(cudaStreamSynchronize)(b->s));
    OK(F(cudaStreamCreateWithPriority)(&in, cudaStreamNonBlocking, 0));
    OK(F(cudaEventCreateWithFlags)(&came, cudaEventDisableTiming));
    OK(F(cudaMemcpyAsync)(b->x, b->host_x, bytes, cudaMemcpyHostToDevice, in));
    OK(F(cudaEventRecord)(came, in));
    if (event)
        OK(F(cudaStreamWaitEvent)(b->s, came, 0));
    OK(F(shim_kernel)(SHIM_ADD_ONE, b->s, 1, 64, 0, b->y, b->x, b->n));
    buffers_read(b);
    for (int i = 0; i < b->n; i++)
        right &= b->host_y[i] == (float)(i + 1);
    OK(F(cudaEventDestroy)(came));
    OK(F(cudaStreamDestroy)(in));
    return right;
}

static void test_a_forgotten_event_shows(void **state)
{
    (void)state;
    int wrong = 0;
    struct buffers b = buffers_new(100);
    for (int seed = 0; seed < SEEDS; seed++) {
        F(fake_cuda_seed)((uint64_t)seed);
        assert_true(two_streams(&b, true));
        wrong += !two_streams(&b, false);
    }
    assert_in_range(wrong, SEEDS / 6, SEEDS);
    F(fake_cuda_immediate)(true);
    assert_true(two_streams(&b, false));
    buffers_free(&b);
}

static void test_events(void **state)
{
    (void)state;
    struct buffers b = buffers_new(8);
    cudaStream_t other;
    cudaEvent_t e, later;
    float ms = -1;
    int not_ready = 0;
    OK(F(cudaStreamCreateWithFlags)(&other, cudaStreamNonBlocking));
    OK(F(cudaEventCreate)(&e));
    OK(F(cudaEventCreate)(&later));
    OK(F(cudaEventQuery)(e)); /* never recorded: nothing to wait for */
    OK(F(cudaStreamWaitEvent)(other, e, 0));
    for (int seed = 0; seed < SEEDS; seed++) {
        F(fake_cuda_seed)((uint64_t)seed);
        /* a wait is for the record of its time: the next, behind what waits, is no deadlock */
        OK(F(cudaEventRecord)(e, b.s));
        OK(F(cudaStreamWaitEvent)(other, e, 0));
        OK(F(cudaEventRecord)(later, other));
        OK(F(cudaStreamWaitEvent)(b.s, later, 0));
        OK(F(cudaEventRecord)(e, b.s));
        cudaError_t rc;
        while ((rc = F(cudaEventQuery)(e)) == cudaErrorNotReady)
            not_ready++;
        OK(rc);
        OK(F(cudaEventSynchronize)(later));
    }
    assert_true(not_ready > 0);
    OK(F(cudaGetLastError)()); /* not ready is no error */
    OK(F(cudaEventElapsedTime)(&ms, later, e));
    assert_true(ms >= 0);
    OK(F(cudaEventRecord)(e, b.s));
    OK(F(cudaEventDestroy)(e)); /* before it is reached */
    OK(F(cudaStreamSynchronize)(b.s));
    OK(F(cudaStreamQuery)(b.s));
    IS(F(cudaEventRecord)(NULL, b.s), cudaErrorInvalidResourceHandle);
    OK(F(cudaEventDestroy)(later));
    OK(F(cudaStreamDestroy)(other));
    buffers_free(&b);
}

static void test_copies(void **state)
{
    (void)state;
    enum { N = 64 };
    float pageable[N], back[N];
    struct buffers b = buffers_new(N);
    size_t bytes = sizeof pageable;
    for (int i = 0; i < N; i++)
        pageable[i] = (float)(i + 3);
    /* pageable: gone when the call returns; pinned: read when the copy runs */
    OK(F(cudaMemcpyAsync)(b.y, pageable, bytes, cudaMemcpyHostToDevice, b.s));
    memset(pageable, 0, bytes);
    buffers_read(&b);
    assert_all(&b, plus, 3);
    OK(F(cudaMemcpyAsync)(b.y, b.host_x, bytes, cudaMemcpyDefault, b.s));
    b.host_x[5] = -1;
    OK(F(cudaMemcpyAsync)(back, b.y, bytes, cudaMemcpyDeviceToHost, b.s)); /* waits */
    assert_true(back[4] == 4 && back[5] == -1);
    OK(F(cudaHostRegister)(pageable, bytes, cudaHostRegisterDefault));
    IS(F(cudaHostRegister)(pageable + 1, 4, cudaHostRegisterDefault), cudaErrorHostMemoryAlreadyRegistered);
    OK(F(cudaMemcpyAsync)(pageable, b.x, bytes, cudaMemcpyDeviceToHost, b.s));
    assert_true(pageable[7] == 0);
    OK(F(cudaHostUnregister)(pageable)); /* waits */
    assert_true(pageable[7] == 7);
    IS(F(cudaHostUnregister)(pageable), cudaErrorHostMemoryNotRegistered);
    /* columns 2..4 of 8 rows of 8 become dense */
    OK(F(cudaMemcpy2DAsync)(b.y, 3 * sizeof(float), b.x + 2, 8 * sizeof(float), 3 * sizeof(float), 8,
                            cudaMemcpyDeviceToDevice, b.s));
    buffers_read(&b);
    assert_true(b.host_y[0] == 2 && b.host_y[2] == 4 && b.host_y[3] == 10 && b.host_y[23] == 60);
    IS(F(cudaMemcpy2DAsync)(b.y, 8, b.x, 32, 12, 8, cudaMemcpyDeviceToDevice, b.s), cudaErrorInvalidPitchValue);
    IS(F(cudaMemcpyAsync)(b.y, b.x, bytes + 1, cudaMemcpyDeviceToDevice, b.s), cudaErrorInvalidValue);
    IS(F(cudaMemcpyAsync)(b.y, b.x, bytes, cudaMemcpyHostToDevice, b.s), cudaErrorInvalidValue);
    IS(F(cudaMemsetAsync)(b.host_x, 0, bytes, b.s), cudaErrorInvalidValue);
    struct fake_cuda_counts c = F(fake_cuda_counts)();
    assert_int_equal(c.bytes_in, 3 * bytes);
    assert_int_equal(c.bytes_out, 4 * bytes);
    assert_int_equal(c.bytes_inside, 24 * sizeof(float));
    buffers_free(&b);
}

/* It waits for streams, but not for one that was made not to block. */
static void test_default_stream(void **state)
{
    (void)state;
    static const unsigned flags[] = { cudaStreamDefault, cudaStreamNonBlocking };
    for (int i = 0; i < 2; i++) {
        int *device, *host, found;
        cudaStream_t s;
        OK(F(cudaStreamCreateWithFlags)(&s, flags[i]));
        OK(F(cudaMalloc)((void **)&device, sizeof *device));
        OK(F(cudaMallocHost)((void **)&host, sizeof *host));
        OK(F(cudaMemset)(device, 0, sizeof *device));
        *host = 7;
        OK(F(cudaMemcpyAsync)(device, host, sizeof *host, cudaMemcpyHostToDevice, s));
        OK(F(cudaMemcpy)(&found, device, sizeof found, cudaMemcpyDeviceToHost));
        assert_int_equal(found, flags[i] == cudaStreamNonBlocking ? 0 : 7);
        OK(F(cudaDeviceSynchronize)());
        OK(F(cudaMemcpy)(&found, device, sizeof found, cudaMemcpyDeviceToHost));
        assert_int_equal(found, 7);
        OK(F(cudaFree)(device));
        OK(F(cudaFreeHost)(host));
        OK(F(cudaStreamDestroy)(s));
    }
}

/* --- cards and their memory ------------------------------------------------------------------- */
static void test_memory(void **state)
{
    (void)state;
    size_t free_bytes, total;
    void *a, *b, *pinned;
    unsigned char byte;
    F(fake_cuda_set_memory)(1000);
    F(fake_cuda_set_others)(100);
    OK(F(cudaMalloc)(&a, 600));
    assert_int_equal((uintptr_t)a % 256, 0);
    OK(F(cudaMemcpy)(&byte, (char *)a + 599, 1, cudaMemcpyDeviceToHost));
    assert_int_equal(byte, 0xff);
    IS(F(cudaMalloc)(&b, 301), cudaErrorMemoryAllocation);
    assert_null(b);
    OK(F(cudaMalloc)(&b, 300));
    OK(F(cudaMemGetInfo)(&free_bytes, &total));
    assert_int_equal(free_bytes, 0);
    assert_int_equal(total, 1000);
    F(fake_cuda_set_others)(5000);
    OK(F(cudaMemGetInfo)(&free_bytes, &total));
    assert_int_equal(free_bytes, 0);
    OK(F(cudaFree)(a));
    OK(F(cudaFree)(b));
    OK(F(cudaFree)(NULL));
    IS(F(cudaFree)(&byte), cudaErrorInvalidValue);
    assert_int_equal(F(fake_cuda_peak)(), 900);
    F(fake_cuda_set_pinned_limit)(100);
    OK(F(cudaHostAlloc)(&pinned, 60, cudaHostAllocPortable));
    IS(F(cudaHostRegister)(&byte, 41, 0), cudaErrorMemoryAllocation);
    OK(F(cudaFreeHost)(pinned));
    OK(F(cudaFreeHost)(NULL));
}

static void test_cards(void **state)
{
    (void)state;
    int n = -1;
    char id[16];
    struct cudaDeviceProp p;
    cudaStream_t s;
    F(fake_cuda_set_cards)(0);
    IS(F(cudaGetDeviceCount)(&n), cudaErrorNoDevice);
    assert_int_equal(n, 0);
    IS(F(cudaStreamCreate)(&s), cudaErrorNoDevice);
    F(fake_cuda_set_cards)(-1);
    IS(F(cudaGetDeviceCount)(&n), cudaErrorInsufficientDriver);
    OK(F(cudaDriverGetVersion)(&n));
    assert_int_equal(n, 0);
    F(fake_cuda_set_cards)(2);
    F(fake_cuda_set_sm)(120);
    OK(F(cudaGetDeviceProperties)(&p, 1));
    assert_int_equal(p.major * 10 + p.minor, 120);
    OK(F(cudaDeviceGetPCIBusId)(id, sizeof id, 1));
    assert_string_equal(id, "0000:66:00.0");
    IS(F(cudaSetDevice)(2), cudaErrorInvalidDevice);
    OK(F(cudaStreamCreate)(&s));
    OK(F(cudaSetDevice)(1)); /* the stream is the other card's */
    F(cudaGetLastError)();
    IS(F(shim_where)(s, 1, 1, 1, NULL), cudaErrorInvalidResourceHandle);
    OK(F(cudaSetDevice)(0));
    OK(F(cudaStreamDestroy)(s));
    setenv("FAKE_CUDA_SM", "75", 1);
    setenv("FAKE_CUDA_FAIL", "2:46", 1);
    F(fake_cuda_reset)();
    unsetenv("FAKE_CUDA_SM");
    unsetenv("FAKE_CUDA_FAIL");
    OK(F(cudaDeviceGetAttribute)(&n, cudaDevAttrComputeCapabilityMinor, 0));
    assert_int_equal(n, 5);
    assert_int_equal(F(cudaGetDevice)(&n), 46);
}

/* --- failures --------------------------------------------------------------------------------- */
/* A program that gives everything back, whatever fails. The first error. */
static cudaError_t program(void)
{
    cudaStream_t s = NULL;
    cudaEvent_t e = NULL;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    float *device = NULL, *pinned = NULL, other[4];
    cudaError_t rc, last;
#define STEP(call) if ((rc = (call)) != cudaSuccess) goto done
    STEP(F(cudaStreamCreateWithFlags)(&s, cudaStreamNonBlocking));
    STEP(F(cudaEventCreateWithFlags)(&e, cudaEventDisableTiming));
    STEP(F(cudaMalloc)((void **)&device, 64));
    STEP(F(cudaMallocHost)((void **)&pinned, 64));
    STEP(F(cudaMemcpyAsync)(device, pinned, 64, cudaMemcpyHostToDevice, s));
    STEP(F(cudaEventRecord)(e, s));
    STEP(F(cudaStreamWaitEvent)(s, e, 0));
    STEP(F(cudaStreamBeginCapture)(s, cudaStreamCaptureModeThreadLocal));
    rc = F(shim_kernel)(SHIM_ADD_ONE, s, 1, 32, 0, device, device, 16);
    last = F(cudaStreamEndCapture)(s, &graph);
    rc = rc ? rc : last;
    STEP(rc);
    STEP(F(cudaGraphInstantiate)(&exec, graph, 0));
    STEP(F(cudaGraphLaunch)(exec, s));
    STEP(F(cudaMemcpyAsync)(other, device, sizeof other, cudaMemcpyDeviceToHost, s));
    STEP(F(cudaEventSynchronize)(e));
    STEP(F(cudaStreamSynchronize)(s));
done:
#define GIVE(object, call) if ((object) && (last = (call)) != cudaSuccess && rc == cudaSuccess) rc = last
    GIVE(exec, F(cudaGraphExecDestroy)(exec));
    GIVE(graph, F(cudaGraphDestroy)(graph));
    GIVE(device, F(cudaFree)(device));
    GIVE(pinned, F(cudaFreeHost)(pinned));
    GIVE(e, F(cudaEventDestroy)(e));
    GIVE(s, F(cudaStreamDestroy)(s));
    F(cudaGetLastError)();
    return rc;
}

static void test_every_call_fails(void **state)
{
    (void)state;
    long calls = 0, n;
    OK(program());
    calls = F(fake_cuda_calls)();
    assert_int_equal(calls, 21); /* each of the above once */
    for (n = 1; n <= calls; n++) {
        F(fake_cuda_fail)(n, n % 2 ? 0 : cudaErrorECCUncorrectable);
        cudaError_t rc = program();
        assert_non_null(F(fake_cuda_failed)());
        if (n % 2 == 0)
            IS(rc, cudaErrorECCUncorrectable);
        assert_int_not_equal(rc, cudaSuccess);
        assert_int_equal(nothing_lives(NULL), 0);
    }
    F(fake_cuda_fail)(n, 0);
    OK(program());
    assert_null(F(fake_cuda_failed)());
    F(fake_cuda_fail)(3, 0);
    IS(program(), cudaErrorMemoryAllocation);
    assert_string_equal(F(fake_cuda_failed)(), "cudaMalloc");
}

/* --- graphs ----------------------------------------------------------------------------------- */
static void test_graphs(void **state)
{
    (void)state;
    struct buffers b = buffers_new(50);
    size_t bytes = (size_t)b.n * sizeof(float);
    cudaGraph_t graph, second;
    cudaGraphExec_t exec;
    cudaGraphExecUpdateResultInfo info;
    enum cudaStreamCaptureStatus status;
    OK(F(cudaStreamSynchronize)(b.s));
    OK(F(cudaStreamBeginCapture)(b.s, cudaStreamCaptureModeThreadLocal));
    OK(F(cudaStreamIsCapturing)(b.s, &status));
    assert_int_equal(status, cudaStreamCaptureStatusActive);
    OK(F(cudaMemcpyAsync)(b.x, b.host_x, bytes, cudaMemcpyHostToDevice, b.s));
    for (int i = 0; i < 2; i++)
        OK(F(shim_kernel)(SHIM_ADD_ONE, b.s, 2, 32, 0, b.x, b.x, b.n));
    OK(F(cudaMemcpyAsync)(b.host_y, b.x, bytes, cudaMemcpyDeviceToHost, b.s));
    OK(F(cudaStreamEndCapture)(b.s, &graph));
    assert_int_equal(F(fake_cuda_counts)().launches, 0);
    OK(F(cudaGraphInstantiate)(&exec, graph, 0));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < b.n; i++)
            b.host_x[i] = (float)(i + round);
        OK(F(cudaGraphLaunch)(exec, b.s));
        OK(F(cudaStreamSynchronize)(b.s));
        assert_all(&b, plus, round + 2);
    }
    assert_int_equal(F(fake_cuda_counts)().launches, 6);
    assert_int_equal(F(fake_cuda_counts)().graph_launches, 3);
    /* the same steps with other operands; a launch that is queued keeps the old ones */
    OK(F(cudaMemsetAsync)(b.y, 0, bytes, b.s));
    OK(F(cudaStreamBeginCapture)(b.s, cudaStreamCaptureModeRelaxed));
    OK(F(cudaMemcpyAsync)(b.y, b.host_x, bytes, cudaMemcpyHostToDevice, b.s));
    for (int i = 0; i < 2; i++)
        OK(F(shim_kernel)(SHIM_ADD_ONE, b.s, 2, 32, 0, b.y, b.y, b.n));
    OK(F(cudaMemcpyAsync)(b.host_y, b.y, bytes, cudaMemcpyDeviceToHost, b.s));
    OK(F(cudaStreamEndCapture)(b.s, &second));
    OK(F(cudaGraphExecUpdate)(exec, second, &info));
    assert_int_equal(info.result, cudaGraphExecUpdateSuccess);
    OK(F(cudaGraphLaunch)(exec, b.s));
    OK(F(cudaStreamSynchronize)(b.s));
    assert_all(&b, plus, 4);
    OK(F(cudaGraphDestroy)(second));
    OK(F(cudaStreamBeginCapture)(b.s, cudaStreamCaptureModeRelaxed));
    OK(F(cudaStreamEndCapture)(b.s, &second));
    IS(F(cudaGraphExecUpdate)(exec, second, &info), cudaErrorGraphExecUpdateFailure);
    OK(F(cudaGraphDestroy)(second));
    OK(F(cudaGraphDestroy)(graph));
    OK(F(cudaGraphExecDestroy)(exec));
    buffers_free(&b);
}

static void *allocate(void *rc)
{
    void *p;
    *(cudaError_t *)rc = F(cudaMallocHost)(&p, 16);
    if (*(cudaError_t *)rc == cudaSuccess)
        F(cudaFreeHost)(p);
    return NULL;
}

/* What spoils a capture; and what another thread may do meanwhile. */
static void test_captures_that_fail(void **state)
{
    (void)state;
    struct buffers b = buffers_new(4);
    cudaGraph_t graph;
    cudaEvent_t before, inside;
    void *p;
    OK(F(cudaEventCreate)(&before));
    OK(F(cudaEventCreate)(&inside));
    OK(F(cudaEventRecord)(before, b.s));
    IS(F(cudaStreamBeginCapture)(NULL, cudaStreamCaptureModeGlobal), cudaErrorStreamCaptureUnsupported);
    for (int i = 0; i < 5; i++) {
        OK(F(cudaStreamBeginCapture)(b.s, cudaStreamCaptureModeThreadLocal));
        OK(F(cudaEventRecord)(inside, b.s));
        switch (i) {
        case 0: IS(F(cudaMalloc)(&p, 16), cudaErrorStreamCaptureUnsupported); break;
        case 1: IS(F(cudaStreamSynchronize)(b.s), cudaErrorStreamCaptureUnsupported); break;
        case 2: IS(F(cudaStreamWaitEvent)(b.s, before, 0), cudaErrorStreamCaptureIsolation); break;
        case 3: IS(F(cudaEventSynchronize)(inside), cudaErrorCapturedEvent); break;
        case 4: IS(F(cudaMemcpy)(b.x, b.y, 4, cudaMemcpyDeviceToDevice), cudaErrorStreamCaptureUnsupported); break;
        }
        IS(F(cudaMemsetAsync)(b.x, 0, 4, b.s), cudaErrorStreamCaptureInvalidated);
        IS(F(cudaStreamEndCapture)(b.s, &graph), cudaErrorStreamCaptureInvalidated);
        assert_null(graph);
    }
    static const struct { enum cudaStreamCaptureMode mode; cudaError_t want; } others[] = {
        { cudaStreamCaptureModeThreadLocal, cudaSuccess },
        { cudaStreamCaptureModeGlobal, cudaErrorStreamCaptureUnsupported },
    };
    for (int i = 0; i < 2; i++) {
        pthread_t t;
        cudaError_t rc;
        OK(F(cudaStreamBeginCapture)(b.s, others[i].mode));
        assert_int_equal(pthread_create(&t, NULL, allocate, &rc), 0);
        pthread_join(t, NULL);
        IS(rc, others[i].want);
        if (F(cudaStreamEndCapture)(b.s, &graph) == cudaSuccess)
            OK(F(cudaGraphDestroy)(graph));
    }
    OK(F(cudaEventDestroy)(before));
    OK(F(cudaEventDestroy)(inside));
    buffers_free(&b);
}

/* --- threads ---------------------------------------------------------------------------------- */
static void *sums(void *unused)
{
    (void)unused;
    struct buffers b = buffers_new(128);
    for (int i = 0; i < 50; i++) {
        OK(F(shim_kernel)(SHIM_BLOCK_SUM, b.s, 2, 64, 0, b.y, b.x, b.n));
        buffers_read(&b);
        assert_true(b.host_y[0] == 127.0f * 128 / 2 && b.host_y[1] == b.host_y[0]);
    }
    buffers_free(&b);
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, sums, NULL), 0);
    sums(NULL);
    pthread_join(t, NULL);
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
        cmocka_unit_test_setup_teardown(test_a_forgotten_event_shows, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_events, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_copies, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_default_stream, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_memory, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_cards, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_every_call_fails, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_graphs, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_captures_that_fail, fresh, nothing_lives),
        cmocka_unit_test_setup_teardown(test_two_threads, fresh, nothing_lives),
    };
    return cmocka_run_group_tests_name("cuda_shim", tests, open_module, NULL);
}
