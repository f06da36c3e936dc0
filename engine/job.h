/* job.h - what a user asks for, as a value.
 *
 * A job owns its strings. It is checked once (job_check) where it enters the
 * program; behind that point its numbers are in range. */
#ifndef SLUICE_JOB_H
#define SLUICE_JOB_H

#include "engine/model.h"
#include "engine/rng.h"
#include "kernels/err.h"
#include "kernels/tensor.h"

#include <stdint.h>

enum { JOB_SIZE_MIN = 16, JOB_SIZE_MAX = 8192, JOB_SIZE_STEP = 16,
       JOB_STEPS_MAX = 1000, JOB_COUNT_MAX = 1000, JOB_THREADS_MAX = 1024 };
#define JOB_PIXELS_MAX (4096LL * 4096LL)
#define JOB_GUIDANCE_MAX 100.0f
#define JOB_BUDGET_LEAST SIZE_MAX

enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_FP16, PRECISION_COUNT_ };
const char *precision_name(enum precision p); /* "fp32", "bf16", "fp16" */
bool precision_from_name(enum precision *out, const char *name);
enum dtype precision_dtype(enum precision p);

struct job {
    char *prompt;          /* UTF-8 by intent; may hold any bytes but NUL; never NULL after job_init */
    int width, height;     /* px, multiples of JOB_SIZE_STEP after job_check */
    int steps;
    float guidance;        /* ignored, with a notice, by a model without guidance embedding */
    uint64_t seed;         /* picture i of a batch uses seed + i */
    int count;
    enum rng_kind rng;
    enum precision precision;
    int threads;           /* 0: all cores */
    char *out;             /* PNG path of picture 0; picture i > 0 gets "-i" before ".png" */
    char *init_latents;    /* NULL or a safetensors path: `latent` [C,h,w] replaces the noise */
    char *dump_stages;     /* NULL or a safetensors path to write every stage to */
    bool preview;          /* send x0 previews */
    size_t budget;         /* bytes of device memory; 0: weights are used where they lie;
                              JOB_BUDGET_LEAST: as little as will do */
    double link;           /* bytes per second that weights are brought at most, to try a
                              slower link than this machine's; 0: no limit */
};

/* A job with the model's defaults (size, steps, guidance), seed 0, torch-cpu
 * noise, bf16, an empty prompt. False only when memory is refused. */
bool job_init(struct job *j, const struct model *m, struct err *e);
void job_free(struct job *j);                    /* leaves an all-zero job; fine on one */
bool job_copy(struct job *to, const struct job *from, struct err *e);
bool job_set_string(char **field, const char *value, struct err *e); /* NULL clears */

/* Refuses what cannot run (size 0, negative steps, ...), naming the option and
 * the accepted range. Rounds odd sizes to the nearest multiple of 16 and says
 * so in notice (empty when there is nothing to say). */
bool job_check(struct job *j, char notice[256], struct err *e);

/* Bytes of a path before its final ".png", or all of it. */
size_t job_stem(const char *path);

/* Path of picture `index` (0-based), malloc'd. */
char *job_out_path(const struct job *j, int index, struct err *e);

/* "600M", "8G", "1.5GB" (powers of 1000), "8GiB" (of 1024), plain bytes. */
bool job_parse_bytes(const char *text, size_t *bytes, struct err *e);
/* The same, or "min": JOB_BUDGET_LEAST, or "none": 0. */
bool job_parse_budget(const char *text, size_t *bytes, struct err *e);

/* "WxH" -> width and height. */
bool job_parse_size(const char *text, int *width, int *height, struct err *e);

#endif
