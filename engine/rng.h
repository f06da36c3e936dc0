/* rng.h - the starting noise: the same seed gives the same picture as elsewhere.
 *
 * Each kind is another program's generator, replicated bit for bit (philox, and
 * fewer than 16 values of any kind, up to the last place of fp32, which there
 * depends on the C library):
 *   torch-cpu       torch.randn(n, generator=torch.Generator().manual_seed(seed))
 *                   in fp32 on x86 with AVX2. ComfyUI, and sd.cpp with --rng cpu.
 *   torch-cpu-bf16  the same with dtype=torch.bfloat16: since torch computes it
 *                   in fp32, the same values rounded (the last 16 differ if n is
 *                   no multiple of 16)
 *   torch-cpu-bf16-early  as torch computed it in bf16 itself, 2.5 and 2.7 among
 *                   them: another sequence, within +-3.34, in which diffusers
 *                   with a CPU generator made its FLUX pictures until then
 *   philox          torch's CUDA generator as A1111, Forge and sd.cpp rebuild it
 * Values only: no state is kept between calls, no I/O, any thread. */
#ifndef SLUICE_RNG_H
#define SLUICE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rng_kind {
    RNG_TORCH_CPU,
    RNG_TORCH_CPU_BF16,
    RNG_TORCH_CPU_BF16_EARLY,
    RNG_PHILOX,
    RNG_KIND_COUNT_,
};

/* "torch-cpu", "torch-cpu-bf16", "torch-cpu-bf16-early", "philox". */
const char *rng_name(enum rng_kind k);
/* The inverse; false if the name is not known. */
bool rng_from_name(enum rng_kind *k, const char *name);

/* n standard normal values to out, the first drawn from a generator freshly
 * seeded. As torch seeds it, torch-cpu sees only the low 32 bits of the seed. */
void rng_normal(enum rng_kind k, uint64_t seed, float *out, size_t n);

/* The same for draw `draw` (0, 1, ...) of n values each from one generator, as
 * it goes on when torch.randn(n, generator=g) is called again; draw 0 is
 * rng_normal. The torch kinds draw and drop what comes before: some
 * milliseconds per million values. As A1111 and sd.cpp count them, philox takes
 * one counter per draw. */
void rng_draw(enum rng_kind k, uint64_t seed, size_t draw, float *out, size_t n);

#endif
