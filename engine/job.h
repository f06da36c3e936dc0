/* job.h - what a user asks for, as a value.
 *
 * A job owns its strings. It is checked once (job_check) where it enters the
 * program; behind that point its numbers are in range. */
#ifndef SLUICE_JOB_H
#define SLUICE_JOB_H

#include "engine/model.h"
#include "engine/rng.h"
#include "engine/sampler.h"
#include "kernels/err.h"
#include "kernels/tensor.h"

#include <stdint.h>

enum { JOB_SIZE_MIN = 16, JOB_SIZE_MAX = 8192, JOB_SIZE_STEP = 16,
       JOB_STEPS_MAX = 1000, JOB_COUNT_MAX = 1000, JOB_THREADS_MAX = 1024, JOB_PROMPTS_MAX = 1000 };
#define JOB_PIXELS_MAX (4096LL * 4096LL)
#define JOB_GUIDANCE_MAX 100.0f
#define JOB_BUDGET_LEAST SIZE_MAX
#define JOB_BUDGET_AUTO (SIZE_MAX - 1)
enum { JOB_AUTO = 0, JOB_OFF = -1, JOB_AUTO_PRECISION = -1 };

enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_FP16, PRECISION_COUNT_ };
const char *precision_name(enum precision p); /* "fp32", "bf16", "fp16" */
enum dtype precision_dtype(enum precision p);

/* How a job uses memory: what a profile sets. None of these changes the picture
 * but those that say so. The names people type are in setting.c. */
enum text_encoders {
    TEXT_ENCODERS_AUTO,
    TEXT_ENCODERS_RESIDENT,   /* both stay on the device for the whole job */
    TEXT_ENCODERS_ALTERNATE,  /* CLIP whole, then T5 whole, never both; given up before sampling */
    TEXT_ENCODERS_SEQUENTIAL, /* layer by layer through the ring */
};
enum transformer_weights {
    TRANSFORMER_AUTO,     /* as many blocks resident as the budget holds */
    TRANSFORMER_RESIDENT, /* all; refused if the budget does not hold them */
    TRANSFORMER_OFFLOAD,  /* none: all streamed in every step */
};
enum device_choice { DEVICE_AUTO, /* a card, else the processor */ DEVICE_CUDA, DEVICE_CPU };
/* Which attention a device with several runs. The cpu device has one of its own. */
enum attention_mode { ATTENTION_AUTO, ATTENTION_FLASH, ATTENTION_EFFICIENT, ATTENTION_MATH, ATTENTION_CPU };
enum vae_mode {
    VAE_AUTO,  /* whole if it fits the budget, else bands */
    VAE_WHOLE,
    VAE_BANDS, /* in horizontal bands, exact */
    VAE_TILES, /* independent tiles, blended: changes the picture */
};
enum t5_chunk_mode {
    T5_CHUNK_EXACT,       /* attention still sees every token */
    T5_CHUNK_INDEPENDENT, /* each chunk is encoded alone: changes the picture */
};
enum preview_mode {
    PREVIEW_NONE,
    PREVIEW_AUTO,   /* TAEF1's, if its file is there and it fits beside the rest; else as latent */
    PREVIEW_LATENT, /* one pixel for each latent pixel, by the model's matrix */
    PREVIEW_TAEF1,  /* refused without the file, and room for it is planned */
};
enum decode_order {
    DECODE_IMMEDIATE, /* each picture is decoded when it is sampled */
    DECODE_DEFERRED,  /* all latents of a batch first, each saved as it comes; then decoded one by one */
};

struct job {
    char *prompt;          /* UTF-8 by intent; may hold any bytes but NUL; never NULL after job_init */
    char *negative;        /* what cfg steers away from; used only where cfg is not 1; never NULL */
    char **more;           /* further prompts of a batch, [more_count], owned */
    int more_count;
    int width, height;     /* px, multiples of JOB_SIZE_STEP after job_check */
    int steps;
    float guidance;        /* distilled; ignored, with a notice, by a model without guidance embedding */
    float cfg;             /* true classifier-free guidance: negative + cfg (positive - negative), two
                              evaluations a step; 1: off */
    enum sampler_kind sampler;
    enum schedule_kind schedule;
    uint64_t seed;         /* picture i of a prompt uses seed + i */
    bool random_seed;      /* seed is to be drawn (job_draw_seed) where the job is submitted */
    int count;             /* pictures of each prompt */
    enum rng_kind rng;
    enum precision precision;
    enum device_choice device;
    int threads;           /* 0: all cores */
    char *out;             /* PNG path of picture 0; picture i > 0 gets "-i" before ".png" */
    char *init_latents;    /* NULL or a safetensors path: `latent` [C,h,w] replaces the noise */
    char *dump_stages;     /* NULL or a safetensors path to write every stage to */
    char *checkpoint;      /* NULL or the file (record.h) that keeps the picture at work, so that it can go on */
    int checkpoint_steps;  /* it is written every so many steps, and whenever the job stops */
    char *resume;          /* NULL or a checkpoint to go on from, with the same result */
    int first;             /* pictures before this one are made already */
    enum preview_mode preview; /* of each step's x0 */
    /* memory */
    size_t budget;         /* bytes of device memory; 0: weights are used where they lie;
                              JOB_BUDGET_LEAST: as little as will do; JOB_BUDGET_AUTO: what is free */
    float memory_fraction; /* of the free device memory that a budget may take at most */
    enum text_encoders text_encoders;
    enum transformer_weights transformer;
    int recompute;         /* tokens that the transformer's MLP and attention work on at a time;
                              JOB_AUTO, or JOB_OFF: all at once */
    enum attention_mode attention;
    bool pin_weights;      /* of a card: bring weights straight from their files, which stay in memory for that */
    enum vae_mode vae;
    int vae_band;          /* px rows of a band; JOB_AUTO */
    int vae_tile, vae_overlap; /* latent px */
    int vae_precision;     /* enum precision, or JOB_AUTO_PRECISION: as `precision` */
    int t5_chunk;          /* tokens; JOB_AUTO, or JOB_OFF: all at once */
    enum t5_chunk_mode t5_chunk_mode;
    enum decode_order decode;
    bool embedding_cache;  /* keep and use encoded prompts on disk */
    bool history;          /* its pictures are noted in the history (store.h) */
    double link;           /* bytes per second that weights are brought at most, to try a
                              slower link than this machine's; 0: no limit */
    int inject_oom;        /* for tests: evaluation N of the model fails once for want of memory; 0: none */
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

/* Prompts that a step is evaluated under: 1, or with cfg the negative one too: 2. */
int job_conditions(const struct job *j);
/* Pictures in all, prompts times count; which prompt and seed picture `index` has. */
int job_pictures(const struct job *j);
const char *job_prompt(const struct job *j, int index);
uint64_t job_seed(const struct job *j, int index);
void job_draw_seed(struct job *j); /* a seed for random_seed, short enough to be typed again */
bool job_add_prompt(struct job *j, const char *prompt, struct err *e); /* a further one */

/* Path of picture `index` (0-based), malloc'd. */
char *job_out_path(const struct job *j, int index, struct err *e);

/* "600M", "8G", "1.5GB" (powers of 1000), "8GiB" (of 1024), plain bytes. */
bool job_parse_bytes(const char *text, size_t *bytes, struct err *e);

/* "WxH" -> width and height. */
bool job_parse_size(const char *text, int *width, int *height, struct err *e);

#endif
