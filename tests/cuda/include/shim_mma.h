/* shim_mma.h - what kernels/cuda_mma.h promises, on the processor.
 *
 * The lanes of a warp meet (cuda_runtime.h); the last to come takes the fragments of all
 * apart, as the PTX manual lays them out, multiplies, and puts the results where each lane
 * wants them. Sums are rounded once for 16 products: the cards' own order is not public.
 *
 * A copy may arrive at once or only when its thread waits for it, at random: what is read too
 * early, or overwritten while it is still read, is wrong in some runs. */
#ifndef SHIM_MMA_H
#define SHIM_MMA_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdio.h>
#include <stdlib.h>
#include <vector>

namespace shim {
inline void need_aligned(const void *p, const char *what)
{
    if ((uintptr_t)p % 16 == 0)
        return;
    fprintf(stderr, "cuda_mma.h: %s at %p, which is not aligned to 16 bytes\n", what, p);
    abort();
}

/* Element i of a register, widened. */
template <class T> float half_of(uint32_t r, int i)
{
    uint16_t bits = (uint16_t)(r >> 16 * i);
    T v;
    memcpy((void *)&v, &bits, sizeof v);
    return (float)v;
}

struct mma_lane { float *c; const uint32_t *a, *b; };

template <class T> void meet_mma(void *const brought[32], unsigned)
{
    double a[16][16], b[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const mma_lane *l = (const mma_lane *)brought[lane];
        int g = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; i++)
            a[g + i / 2 % 2 * 8][2 * t + i % 2 + i / 4 * 8] = half_of<T>(l->a[i / 2], i % 2);
        for (int i = 0; i < 4; i++)
            b[2 * t + i % 2 + i / 2 * 8][g] = half_of<T>(l->b[i / 2], i % 2);
    }
    for (int lane = 0; lane < 32; lane++) {
        const mma_lane *l = (const mma_lane *)brought[lane];
        for (int i = 0; i < 4; i++) {
            double sum = l->c[i];
            for (int k = 0; k < 16; k++)
                sum += a[lane / 4 + i / 2 * 8][k] * b[k][2 * (lane % 4) + i % 2];
            l->c[i] = (float)sum;
        }
    }
}

struct load_lane { uint32_t *r; const void *row; };

template <bool transposed> void meet_load(void *const brought[32], unsigned)
{
    for (int lane = 0; lane < 32; lane++)
        for (int i = 0; i < 4; i++) {
            uint16_t pair[2];
            for (int j = 0; j < 2; j++) {
                int near = 2 * (lane % 4) + j, far = lane / 4;
                int row = transposed ? near : far, column = transposed ? far : near;
                const load_lane *from = (const load_lane *)brought[i * 8 + row];
                memcpy(&pair[j], (const uint16_t *)from->row + column, sizeof pair[j]);
            }
            ((load_lane *)brought[lane])->r[i] = (uint32_t)pair[1] << 16 | pair[0];
        }
}

struct copy16 {
    void *to;
    const void *from;
    unsigned group;
};
struct copies {
    unsigned group;
    std::vector<copy16> waiting;
};
inline copies thread_copies[1024]; /* of each thread of the block: one block runs at a time */

inline copies &own_copies()
{
    return thread_copies[threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)];
}

inline void copy16_run(void *to, const void *from)
{
    if (from)
        memcpy(to, from, 16);
    else
        memset(to, 0, 16);
}

inline bool toss()
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return state >> 63;
}
}

template <class T> constexpr bool mma_has() { return true; }

template <class T> uint32_t mma_pack(float low, float high)
{
    T pair[2] = { T(low), T(high) };
    uint32_t r;
    memcpy(&r, (const void *)pair, sizeof r);
    return r;
}

template <class T> void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    uint32_t b[2] = { b0, b1 };
    shim::mma_lane lane = { c, a, b };
    shim::warp(0xffffffffu, shim::meet_mma<T>, &lane, FAKE_CUDA_WHERE);
}

inline void mma_load(uint32_t (&r)[4], const void *row)
{
    shim::need_aligned(row, "mma_load");
    shim::load_lane lane = { r, row };
    shim::warp(0xffffffffu, shim::meet_load<false>, &lane, FAKE_CUDA_WHERE);
}

inline void mma_load_transposed(uint32_t (&r)[4], const void *row)
{
    shim::need_aligned(row, "mma_load_transposed");
    shim::load_lane lane = { r, row };
    shim::warp(0xffffffffu, shim::meet_load<true>, &lane, FAKE_CUDA_WHERE);
}

inline void copy_async(void *shared, const void *from, bool there)
{
    shim::need_aligned(shared, "copy_async to");
    shim::need_aligned(from, "copy_async from");
    from = there ? from : nullptr;
    if (shim::toss())
        shim::copy16_run(shared, from);
    else
        shim::own_copies().waiting.push_back({ shared, from, shim::own_copies().group });
}

inline void copy_async_commit() { shim::own_copies().group++; }

template <int pending> void copy_async_wait()
{
    shim::copies &own = shim::own_copies();
    std::vector<shim::copy16> later;
    for (const shim::copy16 &c : own.waiting)
        if (own.group - c.group > (unsigned)pending)
            shim::copy16_run(c.to, c.from);
        else
            later.push_back(c);
    own.waiting.swap(later);
}

inline float exp2_quick(float x)
{
    float y = exp2f(x);
    return y < 0x1p-126f ? 0.0f : y; /* NaN stays */
}

#endif
