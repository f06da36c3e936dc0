/* shim.h - what runs a kernel on the processor (shim.cpp), as the runtime calls it. */
#ifndef FAKE_CUDA_SHIM_H
#define FAKE_CUDA_SHIM_H

#include "include/cuda_runtime.h"

namespace shim {
/* The numbers behind every random order; splitmix64. */
struct random {
    uint64_t state;
    uint64_t next();
    uint64_t below(uint64_t n) { return next() % n; }
};

/* 0..n-1 once each: upwards, downwards, or in steps from anywhere. */
struct order {
    uint64_t n = 0, at = 0, step = 0;
    order() = default;
    order(uint64_t count, random &r);
    uint64_t next();
};

struct work {
    const char *name; /* the kernel, as its LAUNCH spells it */
    dim3 grid, block;
    size_t shared_bytes;
    std::function<void()> thread; /* the kernel with its arguments */
};

constexpr unsigned max_threads = 1024;      /* of a block */
constexpr size_t max_shared = 227 * 1024;   /* bytes a block can have on any card */

/* Runs it to its end. One call at a time in the process. */
void run(const work &w, random &r);

[[noreturn]] void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
}

#endif
