/* attention_table.cpp - see attention_table.h. */
#include "tests/cuda/attention_table.h"

#include "kernels/cuda_mma.h"

/* --- fragments, spelt out as the manual does -------------------------------------------------- */
template <class T> static void put(uint32_t *r, int i, T value)
{
    memcpy((uint16_t *)r + i, (const void *)&value, sizeof value);
}

template <class T> static __global__ void product_kernel(float *c, const T *a, const T *b)
{
    int lane = (int)threadIdx.x, group = lane >> 2, thread = lane % 4;
    uint32_t ra[4], rb[2];
    float rc[4];
    for (int i = 0; i < 8; i++) {
        int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8, column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
        put(ra, i, a[row * 16 + column]);
    }
    for (int i = 0; i < 4; i++)
        put(rb, i, b[(thread * 2 + (i & 1) + (i < 2 ? 0 : 8)) * 8 + group]);
    for (int i = 0; i < 4; i++)
        rc[i] = c[(i < 2 ? group : group + 8) * 8 + thread * 2 + (i & 1)];
    mma<T>(rc, ra, rb[0], rb[1]);
    for (int i = 0; i < 4; i++)
        c[(i < 2 ? group : group + 8) * 8 + thread * 2 + (i & 1)] = rc[i];
}

static __global__ void load_kernel(bool transposed, uint16_t *to, const uint16_t *from)
{
    SHARED(shared);
    int lane = (int)threadIdx.x;
    copy_async(shared + lane * 16, from + lane * 8, true);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint32_t r[4];
    if (transposed)
        mma_load_transposed(r, shared + lane * 16);
    else
        mma_load(r, shared + lane * 16);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
            to[i * 64 + lane / 4 * 8 + lane % 4 * 2 + j] = (uint16_t)(r[i] >> 16 * j);
}

/* --- the table ----------------------------------------------------------------------------------- */
static int finished(cudaError_t rc)
{
    cudaError_t later = cudaDeviceSynchronize();
    return rc != cudaSuccess ? rc : later;
}

static int flash(int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale)
{
    return finished(cuda_k_flash(nullptr, sm, o, q, k, v, scale));
}

static int attention(struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale, bool causal,
                     struct tensor bias)
{
    return finished(cuda_k_attention(nullptr, o, q, k, v, scale, causal, bias));
}

static int product(enum dtype type, float *c, const void *a, const void *b)
{
    if (type == DT_F16)
        return finished(LAUNCH(product_kernel<__half>, 1, 32, 0, nullptr, c, (const __half *)a, (const __half *)b));
    return finished(LAUNCH(product_kernel<__nv_bfloat16>, 1, 32, 0, nullptr, c, (const __nv_bfloat16 *)a,
                           (const __nv_bfloat16 *)b));
}

static int load(bool transposed, uint16_t *to, const uint16_t *from)
{
    return finished(LAUNCH(load_kernel, 1, 32, 32 * 16, nullptr, transposed, to, from));
}

extern "C" __attribute__((visibility("default"))) const struct fake_cuda_attention fake_cuda_attention = {
    .flash_can = cuda_k_flash_can, .flash = flash, .attention = attention, .product = product, .load = load,
};
