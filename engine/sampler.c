/* sampler.c - see sampler.h. */
#include "engine/sampler.h"

#include <math.h>

void sampler_sigmas(const struct scheduler_config *c, int image_tokens, int steps, float *sigmas)
{
    double slope = ((double)c->max_shift - c->base_shift) / (c->max_seq - c->base_seq);
    double mu = c->base_shift + slope * (image_tokens - c->base_seq);
    double shift = c->dynamic_shifting ? exp(mu) : c->shift;
    for (int i = 0; i < steps; i++) {
        double t = steps > 1 ? 1.0 + (1.0 / steps - 1.0) * i / (steps - 1) : 1.0;
        sigmas[i] = (float)(shift / (shift + 1.0 / t - 1.0));
    }
    sigmas[steps] = 0;
}

void sampler_euler(float *x, const float *v, float sigma, float next, size_t n)
{
    float dt = next - sigma;
    for (size_t i = 0; i < n; i++)
        x[i] += dt * v[i];
}

void sampler_x0(float *x0, const float *x, const float *v, float sigma, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x0[i] = x[i] - sigma * v[i];
}

static const char *const samplers[SAMPLER_COUNT_] = { "euler", "heun", "dpmpp_2m", "lcm" };
static const char *const schedules[SCHEDULE_COUNT_] = { "simple", "normal", "beta", "sgm_uniform", "karras", "exponential" };
const char *sampler_name(enum sampler_kind k) { return samplers[k]; }
const char *schedule_name(enum schedule_kind k) { return schedules[k]; }
