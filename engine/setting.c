/* setting.c - see setting.h. */
#include "engine/setting.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CHOICES(...) (const struct setting_choice[]){ __VA_ARGS__, { NULL, 0 } }
#define AT(member) offsetof(struct job, member)

static const struct setting settings[] = {
    { "prompt", SETTING_TEXT, SETTING_PRESET | SETTING_PICTURE, AT(prompt), NULL, 0, 0, "TEXT", "what to draw" },
    { "negative", SETTING_TEXT, SETTING_PRESET | SETTING_PICTURE, AT(negative), NULL, 0, 0, "TEXT",
      "what cfg steers away from; no effect while cfg is 1" },
    { "size", SETTING_SIZE, SETTING_PRESET | SETTING_PICTURE, AT(width), NULL, 1, JOB_SIZE_MAX, "WxH",
      "pixels, rounded to 16 (default: the model's)" },
    { "steps", SETTING_INT, SETTING_PRESET | SETTING_PICTURE, AT(steps), NULL, 1, JOB_STEPS_MAX, "N",
      "1 to 1000 (default: the model's)" },
    { "guidance", SETTING_FLOAT, SETTING_PRESET | SETTING_PICTURE, AT(guidance), NULL, 0, JOB_GUIDANCE_MAX, "G",
      "distilled guidance, 0 to 100 (default: the model's)" },
    { "cfg", SETTING_FLOAT, SETTING_PRESET | SETTING_PICTURE, AT(cfg), NULL, 0, JOB_GUIDANCE_MAX, "G",
      "true guidance against the negative prompt, twice the time; 1: off" },
    { "sampler", SETTING_CHOICE, SETTING_PRESET | SETTING_PICTURE, AT(sampler),
      CHOICES({ "euler", SAMPLER_EULER }, { "heun", SAMPLER_HEUN }, { "dpmpp_2m", SAMPLER_DPMPP_2M },
              { "dpm++ 2m", SAMPLER_DPMPP_2M }, { "dpm++", SAMPLER_DPMPP_2M }, { "dpmpp", SAMPLER_DPMPP_2M },
              { "lcm", SAMPLER_LCM }), 0, 0, "NAME", "euler, heun, dpmpp_2m, lcm" },
    { "schedule", SETTING_CHOICE, SETTING_PRESET | SETTING_PICTURE, AT(schedule),
      CHOICES({ "simple", SCHEDULE_SIMPLE }, { "normal", SCHEDULE_NORMAL }, { "beta", SCHEDULE_BETA },
              { "sgm_uniform", SCHEDULE_SGM_UNIFORM }, { "sgm uniform", SCHEDULE_SGM_UNIFORM },
              { "karras", SCHEDULE_KARRAS }, { "exponential", SCHEDULE_EXPONENTIAL }), 0, 0, "NAME",
      "simple, normal, beta, sgm_uniform, karras, exponential" },
    { "seed", SETTING_SEED, SETTING_PRESET | SETTING_PICTURE, AT(seed), NULL, 0, 0, "N",
      "0 to 2^64-1, or random (default: random, and printed)" },
    { "count", SETTING_INT, SETTING_PRESET | SETTING_PROFILE, AT(count), NULL, 1, JOB_COUNT_MAX, "N",
      "pictures of each prompt, with seeds N, N+1, ..." },
    { "rng", SETTING_CHOICE, SETTING_PRESET | SETTING_PICTURE, AT(rng),
      CHOICES({ "torch-cpu", RNG_TORCH_CPU }, { "torch-cpu-bf16", RNG_TORCH_CPU_BF16 },
              { "torch-cpu-bf16-early", RNG_TORCH_CPU_BF16_EARLY }, { "philox", RNG_PHILOX }), 0, 0, "NAME",
      "torch-cpu, torch-cpu-bf16, torch-cpu-bf16-early, philox" },
    { "precision", SETTING_CHOICE, SETTING_PRESET | SETTING_PROFILE | SETTING_PICTURE, AT(precision),
      CHOICES({ "bf16", PRECISION_BF16 }, { "bfloat16", PRECISION_BF16 }, { "mixed", PRECISION_BF16 },
              { "fp16", PRECISION_FP16 }, { "float16", PRECISION_FP16 }, { "half", PRECISION_FP16 },
              { "fp32", PRECISION_FP32 }, { "float32", PRECISION_FP32 }), 0, 0, "P",
      "bf16 (default), fp16 or fp32; norms and sums are fp32 in each" },

    { "budget", SETTING_BYTES, SETTING_PROFILE, AT(budget),
      CHOICES({ "none", 0 }, { "auto", -2 }, { "min", -1 }, { "minimum", -1 }), 0, 0, "BYTES",
      "device memory for everything: 600M, 8G, 8GiB, auto (what is free), min, none" },
    { "memory_fraction", SETTING_FLOAT, SETTING_PROFILE, AT(memory_fraction), NULL, 0.01, 1, "F",
      "of the free device memory, at most this much (default: 0.92)" },
    { "text_encoders", SETTING_CHOICE, SETTING_PROFILE, AT(text_encoders),
      CHOICES({ "auto", TEXT_ENCODERS_AUTO }, { "resident", TEXT_ENCODERS_RESIDENT },
              { "alternate", TEXT_ENCODERS_ALTERNATE }, { "alternating", TEXT_ENCODERS_ALTERNATE },
              { "sequential", TEXT_ENCODERS_SEQUENTIAL }), 0, 0, "MODE",
      "auto, resident, alternate (never both), sequential (layer by layer)" },
    { "transformer", SETTING_CHOICE, SETTING_PROFILE, AT(transformer),
      CHOICES({ "auto", TRANSFORMER_AUTO }, { "resident", TRANSFORMER_RESIDENT }, { "offload", TRANSFORMER_OFFLOAD },
              { "cpu", TRANSFORMER_OFFLOAD }), 0, 0, "MODE",
      "auto (as many blocks resident as fit), resident, offload (all streamed)" },
    { "recompute", SETTING_INT, SETTING_PROFILE, AT(recompute),
      CHOICES({ "auto", JOB_AUTO }, { "off", JOB_OFF }), 16, 65536, "N",
      "tokens the MLP and attention take at a time: auto, off, 16 to 65536" },
    { "attention", SETTING_CHOICE, SETTING_PROFILE, AT(attention),
      CHOICES({ "auto", ATTENTION_AUTO }, { "flash", ATTENTION_FLASH }, { "flash_attention", ATTENTION_FLASH },
              { "flash_attention_2", ATTENTION_FLASH }, { "sdp", ATTENTION_FLASH }, { "sdpa", ATTENTION_FLASH },
              { "efficient", ATTENTION_EFFICIENT }, { "xformers", ATTENTION_EFFICIENT }, { "math", ATTENTION_MATH },
              { "cpu", ATTENTION_CPU }), 0, 0, "MODE",
      "auto, flash, efficient, math, cpu; the processor has one of its own" },
    { "pin_weights", SETTING_BOOL, SETTING_PROFILE, AT(pin_weights), NULL, 0, 0, "on|off",
      "a card fetches weights straight from their files: quicker, but they stay in memory (default: off)" },
    { "vae", SETTING_CHOICE, SETTING_PROFILE | SETTING_PICTURE, AT(vae),
      CHOICES({ "auto", VAE_AUTO }, { "whole", VAE_WHOLE }, { "bands", VAE_BANDS }, { "tiles", VAE_TILES },
              { "tiled", VAE_TILES }), 0, 0, "MODE",
      "auto, whole, bands (exact), tiles (blended: changes the picture)" },
    { "vae_band", SETTING_INT, SETTING_PROFILE, AT(vae_band), CHOICES({ "auto", JOB_AUTO }), 8, JOB_SIZE_MAX, "N",
      "pixel rows of a band: auto, or 8 to 8192" },
    { "vae_tile", SETTING_INT, SETTING_PROFILE | SETTING_PICTURE, AT(vae_tile), NULL, 16, 1024, "N",
      "a tile's side in latent pixels (8 pixels each), 16 to 1024 (default: 64)" },
    { "vae_overlap", SETTING_INT, SETTING_PROFILE | SETTING_PICTURE, AT(vae_overlap), NULL, 0, 511, "N",
      "latent pixels that tiles share, less than half a tile (default: 8)" },
    { "vae_precision", SETTING_CHOICE, SETTING_PROFILE | SETTING_PICTURE, AT(vae_precision),
      CHOICES({ "auto", JOB_AUTO_PRECISION }, { "bf16", PRECISION_BF16 }, { "fp16", PRECISION_FP16 },
              { "fp32", PRECISION_FP32 }), 0, 0, "P",
      "auto (as precision), bf16, fp16 (colours may shift a little), fp32" },
    { "t5_chunk", SETTING_INT, SETTING_PROFILE, AT(t5_chunk), CHOICES({ "auto", JOB_AUTO }, { "off", JOB_OFF }), 8,
      4096, "N", "tokens T5 takes at a time: auto, off, 8 to 4096" },
    { "t5_chunk_mode", SETTING_CHOICE, SETTING_PROFILE | SETTING_PICTURE, AT(t5_chunk_mode),
      CHOICES({ "exact", T5_CHUNK_EXACT }, { "independent", T5_CHUNK_INDEPENDENT }), 0, 0, "MODE",
      "exact, or independent (each chunk alone: changes the picture)" },
    { "decode", SETTING_CHOICE, SETTING_PROFILE, AT(decode),
      CHOICES({ "immediate", DECODE_IMMEDIATE }, { "deferred", DECODE_DEFERRED }), 0, 0, "WHEN",
      "immediate, or deferred: all latents of a batch first, saved, then decoded" },
    { "preview", SETTING_CHOICE, SETTING_PROFILE, AT(preview),
      CHOICES({ "auto", PREVIEW_AUTO }, { "latent", PREVIEW_LATENT }, { "taef1", PREVIEW_TAEF1 },
              { "none", PREVIEW_NONE }, { "on", PREVIEW_AUTO }, { "true", PREVIEW_AUTO }, { "yes", PREVIEW_AUTO },
              { "off", PREVIEW_NONE }, { "false", PREVIEW_NONE }, { "no", PREVIEW_NONE }), 0, 0, "MODE",
      "the picture forming: auto (by TAEF1 if it is there), latent, taef1, none" },
    { "embedding_cache", SETTING_BOOL, SETTING_PROFILE, AT(embedding_cache), NULL, 0, 0, "on|off",
      "keep encoded prompts on disk, so that a known one loads no text encoder" },
    { "history", SETTING_BOOL, SETTING_PROFILE, AT(history), NULL, 0, 0, "on|off",
      "note the pictures in the history: sluice history" },

    { "device", SETTING_CHOICE, SETTING_RUN, AT(device),
      CHOICES({ "auto", DEVICE_AUTO }, { "cuda", DEVICE_CUDA }, { "gpu", DEVICE_CUDA }, { "cpu", DEVICE_CPU }), 0,
      0, "NAME",
      "auto (a card if there is one), cuda, cpu" },
    { "threads", SETTING_INT, SETTING_RUN, AT(threads), CHOICES({ "auto", 0 }), 0, JOB_THREADS_MAX, "N",
      "of the processor (default: all cores)" },
    { "link", SETTING_RATE, SETTING_RUN, AT(link), CHOICES({ "none", 0 }), 0, 0, "BYTES",
      "with a budget: bring weights at this many bytes a second at most, to try a slower link" },
    { "inject_oom", SETTING_INT, SETTING_RUN, AT(inject_oom), CHOICES({ "off", 0 }), 0, 1000000, "N",
      "run out of memory once, at evaluation N of the model, to see the job go on" },
};

int setting_count(void)
{
    return (int)(sizeof settings / sizeof *settings);
}

const struct setting *setting_at(int i)
{
    return &settings[i];
}

static bool same_name(const char *a, const char *b)
{
    while (*a && (*a == *b || (*a == '-' && *b == '_') || (*a == '_' && *b == '-')))
        a++, b++;
    return !*a && !*b;
}

const struct setting *setting_find(const char *name)
{
    for (int i = 0; i < setting_count(); i++)
        if (same_name(settings[i].name, name))
            return &settings[i];
    return NULL;
}

static const struct setting_choice *choice_of(const struct setting *s, const char *text)
{
    for (const struct setting_choice *c = s->choices; c && c->name; c++)
        if (!strcasecmp(c->name, text))
            return c;
    return NULL;
}

const char *setting_choice_name(const struct setting *s, long value)
{
    for (const struct setting_choice *c = s->choices; c && c->name; c++)
        if (c->value == value)
            return c->name;
    return "?";
}

/* What is expected of a value that could not be read. */
static enum setting_result malformed(const struct setting *s, const char *text, struct err *e, const char *expected)
{
    char names[256] = "";
    for (const struct setting_choice *c = s->choices; c && c->name; c++) {
        size_t n = strlen(names);
        snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", c->name);
    }
    err_set(e, ERR_INPUT, "%s \"%.64s\": %s%s%s", s->name, text, *expected ? expected : "use one of ",
            *expected && *names ? ", or " : "", names);
    return SETTING_MALFORMED;
}

static enum setting_result out_of_range(const struct setting *s, double value, struct err *e)
{
    err_set(e, ERR_INPUT, "%s is %.15g: give %g to %g", s->name, value, s->low, s->high);
    return SETTING_OUT_OF_RANGE;
}

/* strtol and strtof also take blanks, hexadecimal, "inf" and "nan". */
static bool decimal(const char *text)
{
    return text[strspn(text, "+-.0123456789eE")] == '\0';
}

static enum setting_result set_int(int *field, const struct setting *s, const char *text, struct err *e)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (end == text || *end || errno || !decimal(text) || n < INT32_MIN || n > INT32_MAX)
        return malformed(s, text, e, "not a whole number");
    if ((double)n < s->low || (double)n > s->high)
        return out_of_range(s, (double)n, e);
    *field = (int)n;
    return SETTING_SET;
}

static enum setting_result set_float(float *field, const struct setting *s, const char *text, struct err *e)
{
    char *end;
    float v = strtof(text, &end);
    if (end == text || *end || !decimal(text) || !isfinite(v))
        return malformed(s, text, e, "not a number");
    if (v < (float)s->low || v > (float)s->high)
        return out_of_range(s, v, e);
    *field = v;
    return SETTING_SET;
}

static enum setting_result set_bool(bool *field, const struct setting *s, const char *text, struct err *e)
{
    static const struct setting_choice words[] = { { "true", 1 }, { "false", 0 }, { "on", 1 }, { "off", 0 },
                                                   { "yes", 1 },  { "no", 0 },    { NULL, 0 } };
    const struct setting_choice *c = choice_of(&(struct setting){ .choices = words }, text);
    if (!c)
        return malformed(s, text, e, "not true or false");
    *field = c->value;
    return SETTING_SET;
}

static enum setting_result set_seed(struct job *j, const struct setting *s, const char *text, struct err *e)
{
    bool random = !strcmp(text, "random");
    char *end;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (!random && (!isdigit((unsigned char)text[0]) || errno || *end))
        return malformed(s, text, e, "not 0 to 2^64-1 or random");
    j->random_seed = random;
    if (!random)
        j->seed = n;
    return SETTING_SET;
}

static enum setting_result set_size(struct job *j, const struct setting *s, const char *text, struct err *e)
{
    int width, height;
    if (!job_parse_size(text, &width, &height, NULL))
        return malformed(s, text, e, "not WIDTHxHEIGHT: write it as 1024x768");
    if (width < s->low || width > s->high || height < s->low || height > s->high) {
        err_set(e, ERR_INPUT, "size: %s is %d: give %g to %g", width < s->low || width > s->high ? "width" : "height",
                width < s->low || width > s->high ? width : height, s->low, s->high);
        return SETTING_OUT_OF_RANGE;
    }
    j->width = width;
    j->height = height;
    return SETTING_SET;
}

static enum setting_result set_bytes(size_t *bytes, const struct setting *s, const char *text, struct err *e)
{
    size_t n;
    if (!job_parse_bytes(text, &n, NULL))
        return malformed(s, text, e, "no number of bytes: write it as 600M, 8G or 8GiB");
    if (n == 0) {
        err_set(e, ERR_INPUT, "%s of 0 bytes: give one like 600M, or none", s->name);
        return SETTING_OUT_OF_RANGE;
    }
    *bytes = n;
    return SETTING_SET;
}

enum setting_result setting_set(struct job *j, const struct setting *s, const char *text, struct err *e)
{
    void *field = (char *)j + s->offset;
    const struct setting_choice *c = choice_of(s, text);
    size_t bytes;
    switch (s->kind) {
    case SETTING_TEXT: return job_set_string(field, text, e) ? SETTING_SET : SETTING_NO_MEMORY;
    case SETTING_SIZE: return set_size(j, s, text, e);
    case SETTING_SEED: return set_seed(j, s, text, e);
    case SETTING_FLOAT: return set_float(field, s, text, e);
    case SETTING_BOOL:
        if (c)
            *(bool *)field = c->value;
        return c ? SETTING_SET : set_bool(field, s, text, e);
    case SETTING_INT:
    case SETTING_CHOICE:
        if (c)
            *(int *)field = (int)c->value;
        return c ? SETTING_SET : s->kind == SETTING_INT ? set_int(field, s, text, e) : malformed(s, text, e, "");
    case SETTING_BYTES:
        if (c)
            *(size_t *)field = (size_t)c->value; /* -1, -2: JOB_BUDGET_LEAST, JOB_BUDGET_AUTO */
        return c ? SETTING_SET : set_bytes(field, s, text, e);
    case SETTING_RATE: {
        enum setting_result r = SETTING_SET;
        bytes = 0;
        if (!c && (r = set_bytes(&bytes, s, text, e)) != SETTING_SET)
            return r;
        *(double *)field = (double)bytes;
        return r;
    }
    }
    return SETTING_MALFORMED;
}

enum setting_result setting_try(const struct setting *s, const char *text, struct err *e)
{
    struct job none = { 0 };
    return s->kind == SETTING_TEXT ? SETTING_SET : setting_set(&none, s, text, e);
}

static char *format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *format(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return text;
}

/* The fewest digits that give the same float again; fewer than three would write 100 as 1e+02. */
static char *format_float(float v)
{
    char text[32];
    for (int digits = 3; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v)
            break;
    }
    return format("%s", text);
}

char *setting_text(const struct job *j, const struct setting *s)
{
    const void *field = (const char *)j + s->offset;
    switch (s->kind) {
    case SETTING_TEXT: return format("%s", *(char *const *)field);
    case SETTING_SIZE: return format("%dx%d", j->width, j->height);
    case SETTING_SEED: return j->random_seed ? format("random") : format("%llu", (unsigned long long)j->seed);
    case SETTING_FLOAT: return format_float(*(const float *)field);
    case SETTING_BOOL: return format("%s", *(const bool *)field ? "true" : "false");
    case SETTING_CHOICE: return format("%s", setting_choice_name(s, *(const int *)field));
    case SETTING_INT: {
        int n = *(const int *)field;
        const char *name = s->choices ? setting_choice_name(s, n) : "?";
        return strcmp(name, "?") ? format("%s", name) : format("%d", n);
    }
    case SETTING_BYTES: {
        size_t n = *(const size_t *)field;
        const char *name = setting_choice_name(s, (long)n);
        return strcmp(name, "?") ? format("%s", name) : format("%zu", n);
    }
    case SETTING_RATE: return *(const double *)field > 0 ? format("%.0f", *(const double *)field) : format("none");
    }
    return NULL;
}

bool setting_same(const struct job *a, const struct job *b, const struct setting *s)
{
    const void *x = (const char *)a + s->offset, *y = (const char *)b + s->offset;
    switch (s->kind) {
    case SETTING_TEXT: return !strcmp(*(char *const *)x, *(char *const *)y);
    case SETTING_SIZE: return a->width == b->width && a->height == b->height;
    case SETTING_SEED: return a->random_seed == b->random_seed && (a->random_seed || a->seed == b->seed);
    case SETTING_FLOAT: return *(const float *)x == *(const float *)y;
    case SETTING_BOOL: return *(const bool *)x == *(const bool *)y;
    case SETTING_CHOICE:
    case SETTING_INT: return *(const int *)x == *(const int *)y;
    case SETTING_BYTES: return *(const size_t *)x == *(const size_t *)y;
    case SETTING_RATE: return *(const double *)x == *(const double *)y;
    }
    return false;
}
