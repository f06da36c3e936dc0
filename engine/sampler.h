/* sampler.h - noise schedules and samplers for a flow-matching model, on host floats.
 *
 * A flow model gives the velocity v at x and sigma; sigma runs from 1 (noise) to
 * 0 (picture) and x0 = x - sigma * v is where the straight line from x ends. A
 * schedule is a list of sigmas, a sampler a rule for going from one to the next.
 * Neither calls the model: the caller does, so it can stop between evaluations.
 * No I/O and no threads; nothing here is shared between two samplers.
 *
 * Names and behaviour are ComfyUI's (its `comfy` folder: samplers.py,
 * model_sampling.py, k_diffusion/sampling.py, as of 2026), but for what is said below. */
#ifndef SLUICE_SAMPLER_H
#define SLUICE_SAMPLER_H

#include "engine/model.h"
#include "engine/rng.h"
#include "kernels/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- schedules ---------------------------------------------------------------
 * Times t in (0, 1] are shifted to sigma(t) = s / (s + 1/t - 1). s = e^mu, with mu
 * linear in the image tokens (dev; an |mu| beyond any model's is bounded), or
 * the constant `shift` (schnell: 1, none). This is BFL's and diffusers' s;
 * ComfyUI's is e^1.15 at every size, which is ours at 4096 tokens (1024 x 1024
 * px) and for a config of base_shift = max_shift = 1.15.
 *
 * ComfyUI's schedules know the model by a table sigma(1/T), ..., sigma(T/T) = 1,
 * T = 10000 (dev) or 1000 (schnell); least = sigma(1/T). With n = steps and
 * i = 0..n-1, sigmas[i] is
 *   simple       sigma(1 - i/n): diffusers' FluxPipeline and BFL. ComfyUI's reads
 *                its table at 1 - floor(iT/n)/T instead: the same where n divides
 *                T, else up to 0.0003 higher (1024 x 1024 px).
 *   normal       sigma(t), t from 1 to `least` in n even steps, ends included.
 *                As in ComfyUI `least` is used as a time though it is a sigma, so
 *                the last but one value is sigma(least), 0.001 for dev.
 *                If that is below 1e-5 (s < 0.3, for schnell 0.1): as sgm_uniform.
 *   sgm_uniform  the same in n + 1 steps, the last of which is left out
 *   beta         the table's entry nearest to the quantile 1 - i/n of the beta
 *                distribution with alpha = beta = 0.6 (arXiv 2407.12173): many
 *                steps at both ends. Where two steps would meet in one entry
 *                (first at n = 552 for dev, 139 for schnell) ComfyUI makes fewer
 *                steps; here the later one takes the next lower free entry, and n
 *                steps remain n.
 *   karras       from 1 to `least`, even in the 7th root (Karras et al. 2022)
 *   exponential  from 1 to `least`, even in the logarithm
 * diffusers' use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas are
 * others: they run between simple's own first and last value (1 to 0.105 for dev
 * at 28 steps), and differ from these by up to 0.35, 0.44 and 0.24 there. */
enum schedule_kind {
    SCHEDULE_SIMPLE,
    SCHEDULE_NORMAL,
    SCHEDULE_BETA,
    SCHEDULE_SGM_UNIFORM,
    SCHEDULE_KARRAS,
    SCHEDULE_EXPONENTIAL,
    SCHEDULE_COUNT_,
};

/* "simple", "normal", "beta", "sgm_uniform", "karras", "exponential". */
const char *schedule_name(enum schedule_kind k);
/* The inverse; false if the name is not known. Capitals do not count, nor do
 * spaces, '_', '-' and '.': "SGM Uniform". */
bool schedule_from_name(enum schedule_kind *k, const char *name);

/* sigmas[steps + 1], steps >= 1: 1 first (at most), strictly falling, 0 last and
 * only there. Computed in double. Values that fp32 cannot tell apart (an extreme
 * shift) are set one place of fp32 apart. */
void schedule_sigmas(enum schedule_kind k, const struct scheduler_config *c, int image_tokens, int steps,
                     float *sigmas);

/* --- samplers ----------------------------------------------------------------
 * In a step from sigma s to t, with D = x0 at s:
 *   euler     x += (t - s) v. One evaluation a step.
 *   heun      k-diffusion's sample_heun without churn: Euler's step is a trial, its
 *             end is evaluated too, and x goes along the mean of both velocities.
 *             The last step, to 0, is Euler's: 2 steps - 1 evaluations.
 *   dpmpp_2m  k-diffusion's and ComfyUI's sample_dpmpp_2m: x = t/s x + (1 - t/s) D',
 *             D' = D + h / (2 h_last) (D - D_last), h = log(s/t); D' = D in the
 *             first and the last step. So ComfyUI runs it on FLUX: with lambda =
 *             -log sigma, as for any other model, and not with the flow's own half
 *             log-SNR, log((1 - sigma) / sigma), which its SDE variants use.
 *   lcm       ComfyUI's sample_lcm on a flow: x = t noise + (1 - t) D with fresh
 *             noise each step; x = D at the end.
 * lcm's noise depends on `rng` and `seed`, those of the starting noise:
 *   the torch kinds  draw 0, 1, ... of one generator of that kind seeded with
 *                    seed + 1: ComfyUI's own where the latent is on the CPU
 *                    (torch-cpu; the 1 keeps it from repeating the starting noise)
 *   philox           draw 1, 2, ... of the generator that made the starting noise
 *                    as draw 0: A1111, Forge and sd.cpp
 * ComfyUI on a CUDA card takes draw 0, 1, ... of the card's philox with the seed
 * itself; large latents in an order that depends on the card. That is not offered. */
enum sampler_kind { SAMPLER_EULER, SAMPLER_HEUN, SAMPLER_DPMPP_2M, SAMPLER_LCM, SAMPLER_COUNT_ };

/* "euler", "heun", "dpmpp_2m", "lcm". */
const char *sampler_name(enum sampler_kind k);
/* The inverse, as forgiving as schedule_from_name and with '+' for 'p': "DPM++ 2M",
 * "dpm++", "dpmpp", "Euler". */
bool sampler_from_name(enum sampler_kind *k, const char *name);

/* Evaluations of the model that a job of `steps` steps takes. */
int sampler_evaluations(enum sampler_kind k, int steps);

/* One picture on its way (x, with step, trial and kept, is the whole of its state: what is copied
 * into a sampler of the same beginning goes on the same way):
 *
 *     sampler_begin(&s, ...);
 *     while (s.step < s.steps) {
 *         v = the model at x and s.sigmas[sampler_at(&s)];
 *         if (sampler_advance(&s, x, v, x0))
 *             a whole step is done, s.step of them so far;
 *     }
 *     sampler_end(&s);
 *
 * It may be left after any evaluation: x is then a latent at
 * s.sigmas[sampler_at(&s)], in the middle of Heun's step the trial's. */
struct sampler {
    enum sampler_kind kind;
    const float *sigmas; /* [steps + 1], the caller's, to outlive the sampler */
    int steps;
    size_t n;            /* values of x */
    enum rng_kind rng;
    uint64_t seed;

    int step;            /* whole steps done */
    bool trial;          /* Heun: x is at the end of the trial */
    float *kept;         /* [n], owned; NULL for Euler. Heun: v at the step's start;
                            DPM++ 2M: x0 of the step before; LCM: the noise */
};

/* Allocates; false only when memory is refused. sampler_end frees, and is fine
 * on an all-zero sampler and after a failed begin. */
bool sampler_begin(struct sampler *s, enum sampler_kind kind, const float *sigmas, int steps, size_t n,
                   enum rng_kind rng, uint64_t seed, struct err *e);
void sampler_end(struct sampler *s);

/* Index in sigmas of the next evaluation, 0..steps-1 (sigma is never 0 there);
 * steps when none is left. */
int sampler_at(const struct sampler *s);

/* Evaluations that are behind. */
int sampler_behind(const struct sampler *s);

/* Takes v[n], the model's answer at x[n] and sigmas[sampler_at(s)], and moves x.
 * x0[n] receives this evaluation's x0. True if that ends a step. */
bool sampler_advance(struct sampler *s, float *x, const float *v, float *x0);

/* x += (next - sigma) * v */
void sampler_euler(float *x, const float *v, float sigma, float next, size_t n);

/* x0 = x - sigma * v */
void sampler_x0(float *x0, const float *x, const float *v, float sigma, size_t n);

#endif
