/* cuda_mma.h - tensor cores, in the few words that the attention kernels use.
 *
 * A warp multiplies together: each function but the copies and `pack` is called by
 * all 32 lanes at once. T is half, or from compute capability 8.0 on __nv_bfloat16.
 * Fragments are those of the PTX manual, "Matrix fragments for mma.m16n8k16":
 * with g = lane / 4 and t = lane % 4, a register holds two neighbours of a row,
 *   a[16 rows][16]: a[0] row g, columns 2t, 2t+1; a[1] row g + 8; a[2], a[3] the same, columns + 8
 *   b[16][8 columns]: b0 rows 2t, 2t+1 of column g; b1 rows + 8
 *   c[16 rows][8]: c[0], c[1] row g, columns 2t, 2t+1; c[2], c[3] row g + 8
 * So the c of two neighbouring products, packed, is the a of a next one.
 *
 * What compute capability 7.5 lacks is done in another way, with the same result but for
 * the order of a sum: two products of half the depth, copies that wait. */
#ifndef SLUICE_CUDA_MMA_H
#define SLUICE_CUDA_MMA_H

#include "kernels/cuda_lang.h"

#ifdef __CUDACC__

/* Whether the card has these for T: a kernel that asks returns at once where it has not. */
template <class T> static __device__ constexpr bool mma_has()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
    return sizeof(T) == 0;
#else
    return true;
#endif
}
template <> __device__ constexpr bool mma_has<half>() { return true; }

/* Two numbers rounded to T, the first in the lower half. */
template <class T> static __device__ inline uint32_t mma_pack(float low, float high);
template <> __device__ inline uint32_t mma_pack<half>(float low, float high)
{
    half2 pair = __floats2half2_rn(low, high);
    return *(uint32_t *)&pair;
}
template <> __device__ inline uint32_t mma_pack<__nv_bfloat16>(float low, float high)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *(uint32_t *)&pair;
}

/* c += a b. */
template <class T>
static __device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
template <>
__device__ inline void mma<half>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}
template <>
__device__ inline void mma<__nv_bfloat16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

/* Four 8x8 matrices of 16-bit elements from shared memory: lane l names row l % 8 of matrix l / 8, 16 bytes
 * that are aligned to 16. r[i] holds elements 2t, 2t+1 of row g of matrix i. */
static __device__ inline void mma_load(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
}
/* The same, each matrix transposed: r[i] holds rows 2t, 2t+1 of column g. */
static __device__ inline void mma_load_transposed(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row)));
}

/* 16 bytes to shared memory, or as many zeros (from is not read then). Arrives when this thread has waited. */
static __device__ inline void copy_async(void *shared, const void *from, bool there)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(from)),
                     "r"(there ? 16 : 0) : "memory");
#else
    *(uint4 *)shared = there ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
#endif
}
/* Closes a group: the copies since the last one, of this thread; may be empty. */
static __device__ inline void copy_async_commit(void)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}
/* Waits until at most the `pending` newest groups of this thread are on their way. */
template <int pending> static __device__ inline void copy_async_wait(void)
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(pending) : "memory");
#endif
}

/* 2^x, off by two units in the last place at most; 0 below 2^-126. */
static __device__ inline float exp2_quick(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#else
#include <shim_mma.h>
#endif

#endif
