/* shim.cpp - runs the blocks and threads of a kernel: see include/cuda_runtime.h.
 *
 * A block's threads share one processor thread. A thread starts on a fiber (a stack of its
 * own) and, if it never waits, the next one starts on the same fiber: a kernel without
 * barriers is a plain loop. One that waits keeps its fiber, and another goes on. So
 * there are as many stacks as threads that wait at once, kept for the next block.
 *
 * Of each thread it is known whether it has not begun, can go on, waits for the block, waits
 * for lanes of its warp, or has ended. Who is the last to come lets the others go on.
 * When nobody can go on and not all have ended, the kernel has hung: abort. */
#include "shim.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sys/mman.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif
#if !defined __x86_64__
#define SHIM_UCONTEXT
#endif
#ifdef SHIM_UCONTEXT
#include <ucontext.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace shim {

/* --- fibers ----------------------------------------------------------------------------------- */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
constexpr size_t stack_bytes = 256 * 1024;
#else
constexpr size_t stack_bytes = 64 * 1024;
#endif
constexpr size_t chunk_bytes = 2 << 20, page = 4096;
constexpr uint64_t stack_end = 0x5afe57acc0ffee00;

struct fiber {
    char *stack = nullptr; /* its lowest byte; NULL: the thread's own */
    const void *bottom = nullptr;
    size_t bytes = 0;
#ifdef SHIM_UCONTEXT
    ucontext_t context;
#else
    void *sp = nullptr;
#endif
    void *sanitizer = nullptr; /* ASan: its fake stack while it is not running; TSan: its fiber */
};

/* Neither the thread sanitizer's list of callers nor a stack protector sees a fiber begin or end. */
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))

static fiber home;
static fiber *running = &home, *left; /* left: where we came from */
static void fiber_main();

#ifndef SHIM_UCONTEXT
/* Keeps what a called function has to keep (System V AMD64: rbx, rbp, r12-r15), and changes the stack. */
extern "C" void shim_switch(void **save, void *load);
asm(".text\n.p2align 4\n.hidden shim_switch\n.globl shim_switch\n.type shim_switch,@function\nshim_switch:\n"
    "pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
    "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
    "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n"
    "popq %rcx\n jmp *%rcx\n" /* a return would be foreseen to the caller on the other stack */
    ".size shim_switch, . - shim_switch\n");
#endif

/* On the stack of a fiber that was gone to. */
UNSEEN static void arrived()
{
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(running->sanitizer, &bottom, &bytes);
    if (left == &home)
        home.bottom = bottom, home.bytes = bytes;
#endif
}

/* for_good: this fiber is not come back to. */
UNSEEN static void go(fiber *to, bool for_good)
{
    left = running;
    running = to;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(for_good ? nullptr : &left->sanitizer, to->bottom, to->bytes);
#endif
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to->sanitizer, 0);
#endif
    (void)for_good;
#ifdef SHIM_UCONTEXT
    swapcontext(&left->context, &to->context);
#else
    shim_switch(&left->sp, to->sp);
#endif
    arrived();
}

/* Stacks lie side by side in huge pages, where the system has them: a block's threads visit all in turn, and
 * small pages would cost more than the visit. So no page of guard is between two, but a number at the low end. */
static fiber *fiber_new()
{
    static char *chunk;
    static size_t used = chunk_bytes;
    if (used == chunk_bytes) {
        if (posix_memalign((void **)&chunk, chunk_bytes, chunk_bytes) != 0)
            die("no memory for the stacks of threads");
        madvise(chunk, chunk_bytes, MADV_HUGEPAGE);
        used = 0;
    }
    fiber *f = new fiber;
    f->stack = chunk + used;
    f->bottom = f->stack;
    f->bytes = stack_bytes;
    memcpy(f->stack, &stack_end, sizeof stack_end);
    used += stack_bytes;
#ifdef __SANITIZE_THREAD__
    f->sanitizer = __tsan_create_fiber(0);
#endif
    return f;
}

static void fiber_check(const fiber *f)
{
    if (memcmp(f->stack, &stack_end, sizeof stack_end) != 0)
        die("a thread of a kernel has used more than %zu bytes of stack", stack_bytes);
}

/* So that going to it enters fiber_main. colour: where in a page it begins; stacks that begin at different places
 * share no cache sets. */
static void fiber_prepare(fiber *f, unsigned colour)
{
    size_t usable = f->bytes - colour % 32 * 128;
#ifdef __SANITIZE_ADDRESS__
    f->sanitizer = nullptr;
    __asan_unpoison_memory_region(f->stack, f->bytes); /* what frames that never returned have left */
#endif
#ifdef SHIM_UCONTEXT
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = usable;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
#else
    void **top = (void **)(f->stack + usable); /* 16-byte aligned; a function begins 8 below that */
    *--top = nullptr;
    *--top = (void *)fiber_main;
    for (int i = 0; i < 6; i++)
        *--top = nullptr;
    f->sp = top;
#endif
}

/* --- the block -------------------------------------------------------------------------------- */
enum state : unsigned char { UNBORN, READY, AT_BARRIER, AT_WARP, ENDED };

struct thread {
    state at;
    uint3 index;
    fiber *on;
    const char *where;
    unsigned mask; /* AT_WARP: and what follows */
    warp_meeting meet;
    void *brought;
};

static const work *kernel;
static random *dice;
static thread threads[max_threads];
static unsigned warp_waiting[max_threads / 32], warp_living[max_threads / 32]; /* lanes */
static unsigned count, living, at_barrier, unborn;
static const char *barrier_where;
static unsigned self; /* the thread that runs */
static order beginners;
static bool beginners_first;
static unsigned ready[max_threads], ready_from, ready_count; /* a ring */
static std::vector<fiber *> idle;
static unsigned fibers;
static unsigned char *shared_memory;

void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("fake CUDA: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
    abort();
}

/* t is waiting. */
[[noreturn]] static void die_in_kernel(const char *what, unsigned t)
{
    const thread *it = &threads[t];
    die("kernel %s, block (%u, %u, %u), thread (%u, %u, %u), at %s: %s", kernel->name, blockIdx.x, blockIdx.y,
        blockIdx.z, it->index.x, it->index.y, it->index.z, it->where, what);
}

[[noreturn]] static void hang()
{
    static const char *const names[] = {
        "not begun", "ready", "waiting for the block", "waiting for the warp", "ended",
    };
    fprintf(stderr, "fake CUDA: kernel %s, block (%u, %u, %u): its threads wait for each other\n", kernel->name,
            blockIdx.x, blockIdx.y, blockIdx.z);
    for (unsigned t = 0; t < count; t++)
        if (t == 0 || threads[t].at != threads[t - 1].at || threads[t].where != threads[t - 1].where)
            fprintf(stderr, "  from thread %u on: %s, %s\n", t, names[threads[t].at],
                    threads[t].where ? threads[t].where : "-");
    abort();
}

static bool elsewhere(const char *a, const char *b) { return a != b && strcmp(a, b) != 0; }

static void make_ready(unsigned t)
{
    threads[t].at = READY;
    ready[(ready_from + ready_count++) % max_threads] = t;
}

static void run_on(unsigned t)
{
    self = t;
    threadIdx = threads[t].index;
}

static bool can_begin() { return unborn > 0 && (beginners_first || ready_count == 0); }

/* Leaves this fiber for a thread that can go on, or for a new one; the last goes home. */
UNSEEN static void leave(bool for_good)
{
    fiber *to;
    if (ready_count > 0 && !can_begin()) {
        unsigned t = ready[ready_from];
        ready_from = (ready_from + 1) % max_threads;
        ready_count--;
        run_on(t);
        to = threads[t].on;
    } else if (unborn > 0) {
        if (idle.empty()) {
            idle.push_back(fiber_new());
            fibers++;
        }
        to = idle.back();
        idle.pop_back();
        fiber_prepare(to, fibers - (unsigned)idle.size());
    } else if (living > 0) {
        hang();
    } else {
        to = &home;
    }
    if (for_good) {
        fiber_check(running);
        idle.push_back(running);
    }
    if (to != running)
        go(to, for_good);
}

static void release_block()
{
    order o(count, *dice);
    at_barrier = 0;
    for (unsigned i = 0; i < count; i++) {
        unsigned t = (unsigned)o.next();
        if (threads[t].at == AT_BARRIER)
            make_ready(t);
    }
}

/* Lets the lanes go on that meet with lane t, if all that live have come. */
static void try_warp(unsigned t)
{
    unsigned w = t / 32, needed = threads[t].mask & warp_living[w];
    if ((warp_waiting[w] & needed) != needed)
        return;
    void *brought[32] = { nullptr };
    for (unsigned lane = 0; lane < 32; lane++) {
        const thread *me = &threads[t], *other = &threads[w * 32 + lane];
        if (!(needed >> lane & 1))
            continue;
        if (other->mask != me->mask || other->meet != me->meet || elsewhere(other->where, me->where)) {
            fprintf(stderr, "fake CUDA: lane %u came to %s with mask %08x\n", lane, other->where, other->mask);
            die_in_kernel("the lanes of a warp meet at different places or with different masks", t);
        }
        brought[lane] = other->brought;
    }
    warp_waiting[w] &= ~needed;
    threads[t].meet(brought, needed);
    order o(32, *dice);
    for (unsigned i = 0; i < 32; i++) {
        unsigned lane = (unsigned)o.next();
        if (needed >> lane & 1)
            make_ready(w * 32 + lane);
    }
}

static void thread_ended(unsigned t)
{
    unsigned w = t / 32;
    threads[t].at = ENDED;
    threads[t].where = nullptr;
    living--;
    warp_living[w] &= ~(1u << t % 32);
    if (living > 0 && at_barrier == living)
        release_block();
    for (unsigned lane = 0; warp_waiting[w] && lane < 32; lane++) /* who waited for nobody but t */
        if (warp_waiting[w] >> lane & 1 && threads[w * 32 + lane].mask >> t % 32 & 1)
            try_warp(w * 32 + lane);
}

UNSEEN static void fiber_main()
{
    arrived();
    do {
        unsigned t = (unsigned)beginners.next();
        unborn--;
        threads[t].on = running;
        run_on(t);
        kernel->thread();
        thread_ended(self);
    } while (can_begin());
    leave(true);
}

/* --- what a kernel calls ---------------------------------------------------------------------- */
void barrier(const char *where)
{
    threads[self].at = AT_BARRIER;
    threads[self].where = where;
    if (at_barrier++ == 0)
        barrier_where = where;
    else if (elsewhere(barrier_where, where)) {
        fprintf(stderr, "fake CUDA: others wait at %s\n", barrier_where);
        die_in_kernel("the threads of a block meet at different barriers", self);
    }
    if (at_barrier == living)
        release_block();
    leave(false);
}

void warp(unsigned mask, warp_meeting meet, void *brought, const char *where)
{
    thread *t = &threads[self];
    t->at = AT_WARP;
    t->where = where;
    t->mask = mask;
    t->meet = meet;
    t->brought = brought;
    if (!(mask >> self % 32 & 1))
        die_in_kernel("a lane meets others with a mask that it is not in itself", self);
    warp_waiting[self / 32] |= 1u << self % 32;
    try_warp(self);
    leave(false);
}

unsigned warp_alive() { return warp_living[self / 32]; }

unsigned char *shared() { return shared_memory; }

/* --- grids ------------------------------------------------------------------------------------ */
uint64_t random::next()
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

order::order(uint64_t length, random &r) : n(length)
{
    static const unsigned primes[] = { 7, 31, 61, 127, 509, 1021, 4093, 65521, 1000003 };
    uint64_t kind = r.below(4);
    step = kind == 0 ? 1 : kind == 1 ? n - 1 : primes[r.below(sizeof primes / sizeof *primes)] % n;
    if (std::gcd(n, step) != 1)
        step = 1;
    at = kind == 0 ? 0 : kind == 1 ? n - 1 : r.below(n);
}

uint64_t order::next()
{
    uint64_t now = at;
    at += step;
    if (at >= n)
        at -= n;
    return now;
}

/* The guard is behind a block's bytes, and looked at after each block. */
constexpr size_t shared_guard = 1024, shared_pages = (max_shared + shared_guard + page - 1) / page * page;
constexpr unsigned char nan_byte = 0xff, guard_byte = 0xfd; /* a NaN in any type */

static void shared_prepare(size_t bytes)
{
    if (!shared_memory) {
        char *memory = (char *)mmap(nullptr, shared_pages + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + page, shared_pages, PROT_READ | PROT_WRITE) != 0)
            die("no memory for shared memory");
        shared_memory = (unsigned char *)memory + page;
    }
    memset(shared_memory + bytes, guard_byte, shared_guard);
}

static void shared_check(size_t bytes)
{
    for (size_t i = bytes; i < bytes + shared_guard; i += sizeof(uint64_t)) {
        uint64_t guard;
        memcpy(&guard, shared_memory + i, sizeof guard);
        if (guard != guard_byte * (~(uint64_t)0 / 0xff))
            die("kernel %s, block (%u, %u, %u) wrote beyond its %zu bytes of shared memory, within 8 of byte %zu",
                kernel->name, blockIdx.x, blockIdx.y, blockIdx.z, bytes, i);
    }
}

static void run_block()
{
    living = unborn = count;
    at_barrier = ready_from = ready_count = 0;
    for (unsigned t = 0; t < count; t++) {
        threads[t].at = UNBORN;
        threads[t].where = nullptr;
    }
    for (unsigned w = 0; w * 32 < count; w++) {
        unsigned lanes = count - w * 32;
        warp_living[w] = lanes < 32 ? (1u << lanes) - 1 : 0xffffffffu;
        warp_waiting[w] = 0;
    }
    beginners = order(count, *dice);
    beginners_first = dice->below(2);
    leave(false);
}

void run(const work &w, random &r)
{
    kernel = &w;
    dice = &r;
    gridDim = w.grid;
    blockDim = w.block;
    count = w.block.x * w.block.y * w.block.z;
#ifdef __SANITIZE_THREAD__
    home.sanitizer = __tsan_get_current_fiber();
#endif
    for (unsigned t = 0; t < count; t++)
        threads[t].index = { t % w.block.x, t / w.block.x % w.block.y, t / w.block.x / w.block.y };
    shared_prepare(w.shared_bytes);
    order blocks((uint64_t)w.grid.x * w.grid.y * w.grid.z, r);
    for (uint64_t i = 0; i < blocks.n; i++) {
        uint64_t b = blocks.next();
        blockIdx = { (unsigned)(b % w.grid.x), (unsigned)(b / w.grid.x % w.grid.y),
                     (unsigned)(b / w.grid.x / w.grid.y) };
        memset(shared_memory, nan_byte, w.shared_bytes);
        run_block();
        shared_check(w.shared_bytes);
    }
}
}
