/* cuda_attention.c - which kernel does an attention: cuDNN's, the own one on tensor
 * cores, or the plain one.
 *
 * It follows from what the device was asked for, the card, types, alignment, and the shapes of
 * a head and of the keys. It never follows from the number of queries: all pieces of an attention
 * are done by the same kernel. */
#include "kernels/cuda_internal.h"

static bool library_wanted(const struct cuda_device *c)
{
    return c->attention == CUDA_ATTENTION_AUTO || c->attention == CUDA_ATTENTION_FLASH;
}

size_t cuda_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    const struct cuda_device *c = cuda_of(d);
    return library_wanted(c) ? cuda_sdpa_scratch(c, o, q, k) : 0;
}

void cuda_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                    const struct attention *a, void *scratch)
{
    struct cuda_device *c = cuda_of(d);
    if (library_wanted(c) && cuda_sdpa_can(c, o, q, k, v, a) &&
        (cuda_sdpa(d, o, q, k, v, a->scale, scratch) || !device_ok(d)))
        return;
    bool plain = c->attention == CUDA_ATTENTION_MATH || a->causal || tensor_present(a->bias) || !(a->scale > 0);
    if (!plain && cuda_k_flash_can(c->sm, o, q, k, v))
        cuda_check(d, cuda_k_flash(c->compute, c->sm, o, q, k, v, a->scale), "attention");
    else
        cuda_check(d, cuda_k_attention(c->compute, o, q, k, v, a->scale, a->causal, a->bias), "attention");
}
