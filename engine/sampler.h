/* sampler.h - the flow-matching schedule and Euler's step, on host floats. */
#ifndef SLUICE_SAMPLER_H
#define SLUICE_SAMPLER_H

#include "engine/model.h"

#include <stddef.h>

enum sampler_kind { SAMPLER_EULER, SAMPLER_HEUN, SAMPLER_DPMPP_2M, SAMPLER_LCM, SAMPLER_COUNT_ };
enum schedule_kind { SCHEDULE_SIMPLE, SCHEDULE_NORMAL, SCHEDULE_BETA, SCHEDULE_SGM_UNIFORM, SCHEDULE_KARRAS,
                     SCHEDULE_EXPONENTIAL, SCHEDULE_COUNT_ };
const char *sampler_name(enum sampler_kind k);
bool sampler_from_name(enum sampler_kind *k, const char *name);
const char *schedule_name(enum schedule_kind k);
bool schedule_from_name(enum schedule_kind *k, const char *name);

/* sigmas[steps + 1], from 1 down to 0, as diffusers' FluxPipeline with
 * FlowMatchEulerDiscreteScheduler: linspace(1, 1/steps, steps), shifted by mu,
 * linear in the number of image tokens (dev), or by the constant `shift`
 * (schnell: 1, none), then 0. */
void sampler_sigmas(const struct scheduler_config *c, int image_tokens, int steps, float *sigmas);

/* x += (next - sigma) * v */
void sampler_euler(float *x, const float *v, float sigma, float next, size_t n);

/* x0 = x - sigma * v: where the straight line from x ends. */
void sampler_x0(float *x0, const float *x, const float *v, float sigma, size_t n);

#endif
