/* sampler.c - see sampler.h. */
#include "engine/sampler.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- names ------------------------------------------------------------------ */
static const char *const schedule_names[SCHEDULE_COUNT_] = {
    [SCHEDULE_SIMPLE] = "simple",           [SCHEDULE_NORMAL] = "normal", [SCHEDULE_BETA] = "beta",
    [SCHEDULE_SGM_UNIFORM] = "sgm_uniform", [SCHEDULE_KARRAS] = "karras", [SCHEDULE_EXPONENTIAL] = "exponential",
};

static const char *const sampler_names[SAMPLER_COUNT_] = {
    [SAMPLER_EULER] = "euler",
    [SAMPLER_HEUN] = "heun",
    [SAMPLER_DPMPP_2M] = "dpmpp_2m",
    [SAMPLER_LCM] = "lcm",
};

/* The next character that counts, as it counts, past which *text is moved; 0 at the end. */
static char letter(const char **text)
{
    while (**text && strchr(" _-.", **text))
        ++*text;
    if (!**text)
        return 0;
    char c = *(*text)++;
    return c == '+' ? 'p' : (char)tolower((unsigned char)c);
}

static bool same_name(const char *a, const char *b)
{
    char c;
    do {
        c = letter(&a);
        if (c != letter(&b))
            return false;
    } while (c);
    return true;
}

static int find_name(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (same_name(names[i], name))
            return i;
    return -1;
}

const char *schedule_name(enum schedule_kind k)
{
    return schedule_names[k];
}

bool schedule_from_name(enum schedule_kind *k, const char *name)
{
    int i = find_name(schedule_names, SCHEDULE_COUNT_, name);
    if (i >= 0)
        *k = (enum schedule_kind)i;
    return i >= 0;
}

const char *sampler_name(enum sampler_kind k)
{
    return sampler_names[k];
}

bool sampler_from_name(enum sampler_kind *k, const char *name)
{
    int i = same_name(name, "dpm++") ? SAMPLER_DPMPP_2M : find_name(sampler_names, SAMPLER_COUNT_, name);
    if (i >= 0)
        *k = (enum sampler_kind)i;
    return i >= 0;
}

/* --- schedules -------------------------------------------------------------- */
static double shifted(double s, double t)
{
    return s / (s + 1.0 / t - 1.0);
}

static double shift_of(const struct scheduler_config *c, int image_tokens)
{
    if (!c->dynamic_shifting)
        return c->shift;
    double slope = ((double)c->max_shift - c->base_shift) / (c->max_seq - c->base_seq);
    double mu = c->base_shift + slope * (image_tokens - c->base_seq);
    /* So that a foolish config makes no infinity: real ones give 0.4 to 12. */
    return exp(fmin(fmax(mu, -6), 80));
}

/* The quantile p of the beta distribution with alpha = beta = a = 0.6.
 *
 * For x <= 1/2 (the rest is symmetric), and with y = x^a, its distribution is
 * proportional to
 *     F(y) = y * sum over k of c_k x^k,   c_k = (1-a)(2-a)...(k-a) / k! / (a + k),
 * whose terms are positive and fall faster than 2^-k. F is convex in y and above
 * c_0 y, so Newton's method from the right never passes the root, and it ends
 * when rounding stops the descent. F'(y) = (1-x)^(a-1) / a. */
static double beta_sum(double x)
{
    const double a = 0.6;
    double sum = 0, power = 1;
    for (int k = 0; k < 60; k++) {
        sum += power / (a + k);
        power *= x * (k + 1 - a) / (k + 1);
    }
    return sum;
}

static double beta_quantile(double p)
{
    const double a = 0.6;
    if (p > 0.5)
        return 1 - beta_quantile(1 - p);
    if (p == 0.5)
        return 0.5;
    double y_half = pow(0.5, a);
    double wanted = 2 * p * y_half * beta_sum(0.5);
    double y = fmin(wanted * a, y_half);
    for (int i = 0; i < 50; i++) {
        double x = pow(y, 1 / a);
        double next = y - (y * beta_sum(x) - wanted) * a * pow(1 - x, 1 - a);
        if (!(next < y))
            break;
        y = next;
    }
    return pow(y, 1 / a);
}

/* Strictly falling and above 0, if need be by the least steps of fp32. */
static void separate(float *sigmas, int steps)
{
    for (int i = 1; i < steps; i++)
        sigmas[i] = fminf(sigmas[i], nextafterf(sigmas[i - 1], 0));
    for (int i = steps - 1; i >= 0; i--)
        sigmas[i] = fmaxf(sigmas[i], nextafterf(sigmas[i + 1], 1));
}

void schedule_sigmas(enum schedule_kind k, const struct scheduler_config *c, int image_tokens, int steps,
                     float *sigmas)
{
    double s = shift_of(c, image_tokens);
    int table = c->dynamic_shifting ? 10000 : 1000, entry = table;
    double least = shifted(s, 1.0 / table);
    if (k == SCHEDULE_NORMAL && shifted(s, least) <= 1e-5)
        k = SCHEDULE_SGM_UNIFORM;
    for (int i = 0; i < steps; i++) {
        double part = (double)i / steps, ramp = steps > 1 ? (double)i / (steps - 1) : 0, sigma = 0;
        switch (k) {
        case SCHEDULE_SIMPLE:
            /* diffusers' linspace(1, 1/steps, steps), to the last bit. */
            sigma = shifted(s, steps > 1 ? 1.0 + (1.0 / steps - 1.0) * i / (steps - 1) : 1.0);
            break;
        case SCHEDULE_NORMAL: sigma = shifted(s, 1 + (least - 1) * ramp); break;
        case SCHEDULE_SGM_UNIFORM: sigma = shifted(s, 1 + (least - 1) * part); break;
        case SCHEDULE_BETA: {
            int nearest = (int)rint(beta_quantile(1 - part) * (table - 1));
            int highest = entry - 1, lowest = steps - 1 - i; /* below the last one, room for the rest */
            entry = nearest > highest ? highest : nearest < lowest ? lowest : nearest;
            sigma = shifted(s, (entry + 1.0) / table);
            break;
        }
        case SCHEDULE_KARRAS: sigma = pow(1 + (pow(least, 1 / 7.0) - 1) * ramp, 7); break;
        case SCHEDULE_EXPONENTIAL: sigma = exp(log(least) * ramp); break;
        case SCHEDULE_COUNT_: break;
        }
        sigmas[i] = (float)sigma;
    }
    sigmas[steps] = 0;
    separate(sigmas, steps);
}

/* --- samplers ---------------------------------------------------------------- */
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

static bool euler(struct sampler *s, float *x, const float *v, const float *x0)
{
    (void)x0;
    sampler_euler(x, v, s->sigmas[s->step], s->sigmas[s->step + 1], s->n);
    return true;
}

static bool heun(struct sampler *s, float *x, const float *v, const float *x0)
{
    if (!s->trial) {
        euler(s, x, v, x0);
        memcpy(s->kept, v, s->n * sizeof *v);
        return s->step == s->steps - 1;
    }
    /* From the trial's end, x + dt kept, to x + dt (kept + v) / 2. */
    float half = (s->sigmas[s->step + 1] - s->sigmas[s->step]) / 2;
    for (size_t i = 0; i < s->n; i++)
        x[i] += half * (v[i] - s->kept[i]);
    return true;
}

static bool dpmpp_2m(struct sampler *s, float *x, const float *v, const float *x0)
{
    (void)v;
    const float *at = s->sigmas + s->step;
    float ratio = at[1] / at[0], rest = (float)(1 - (double)at[1] / at[0]);
    float onward = 0;
    if (s->step > 0 && s->step < s->steps - 1)
        onward = (float)(log((double)at[0] / at[1]) / (2 * log((double)at[-1] / at[0])));
    for (size_t i = 0; i < s->n; i++) {
        float d = x0[i] + onward * (x0[i] - s->kept[i]);
        x[i] = ratio * x[i] + rest * d;
        s->kept[i] = x0[i];
    }
    return true;
}

static bool lcm(struct sampler *s, float *x, const float *v, const float *x0)
{
    (void)v;
    if (s->step == s->steps - 1) {
        memcpy(x, x0, s->n * sizeof *x);
        return true;
    }
    bool goes_on = s->rng == RNG_PHILOX;
    rng_draw(s->rng, goes_on ? s->seed : s->seed + 1, (size_t)(goes_on ? s->step + 1 : s->step), s->kept, s->n);
    float next = s->sigmas[s->step + 1], rest = 1 - next;
    for (size_t i = 0; i < s->n; i++)
        x[i] = next * s->kept[i] + rest * x0[i];
    return true;
}

static bool (*const moves[SAMPLER_COUNT_])(struct sampler *, float *, const float *, const float *) = {
    [SAMPLER_EULER] = euler,
    [SAMPLER_HEUN] = heun,
    [SAMPLER_DPMPP_2M] = dpmpp_2m,
    [SAMPLER_LCM] = lcm,
};

int sampler_evaluations(enum sampler_kind k, int steps)
{
    return k == SAMPLER_HEUN ? 2 * steps - 1 : steps;
}

bool sampler_begin(struct sampler *s, enum sampler_kind kind, const float *sigmas, int steps, size_t n,
                   enum rng_kind rng, uint64_t seed, struct err *e)
{
    *s = (struct sampler){ .kind = kind, .sigmas = sigmas, .steps = steps, .n = n, .rng = rng, .seed = seed };
    if (kind == SAMPLER_EULER)
        return true;
    s->kept = calloc(n, sizeof *s->kept);
    return s->kept ? true : err_set(e, ERR_MEMORY, "sampler %s: out of memory", sampler_name(kind));
}

void sampler_end(struct sampler *s)
{
    free(s->kept);
    s->kept = NULL;
}

int sampler_at(const struct sampler *s)
{
    return s->step + s->trial;
}

int sampler_behind(const struct sampler *s)
{
    return (s->kind == SAMPLER_HEUN ? 2 * s->step : s->step) + s->trial;
}

bool sampler_advance(struct sampler *s, float *x, const float *v, float *x0)
{
    sampler_x0(x0, x, v, s->sigmas[sampler_at(s)], s->n);
    bool whole = moves[s->kind](s, x, v, x0);
    s->trial = !whole;
    s->step += whole;
    return whole;
}
