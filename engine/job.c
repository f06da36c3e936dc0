/* job.c - see job.h. */
#include "engine/job.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const struct {
    const char *name;
    enum dtype dtype;
} precisions[PRECISION_COUNT_] = {
    [PRECISION_FP32] = { "fp32", DT_F32 },
    [PRECISION_BF16] = { "bf16", DT_BF16 },
    [PRECISION_FP16] = { "fp16", DT_F16 },
};

const char *precision_name(enum precision p)
{
    return precisions[p].name;
}

enum dtype precision_dtype(enum precision p)
{
    return precisions[p].dtype;
}

bool job_set_string(char **field, const char *value, struct err *e)
{
    char *copy = value ? strdup(value) : NULL;
    if (value && !copy)
        return err_set(e, ERR_MEMORY, "out of memory");
    free(*field);
    *field = copy;
    return true;
}

bool job_init(struct job *j, const struct model *m, struct err *e)
{
    *j = (struct job){
        .width = m->defaults.width,
        .height = m->defaults.height,
        .steps = m->defaults.steps,
        .guidance = m->defaults.guidance,
        .count = 1,
        .rng = RNG_TORCH_CPU,
        .precision = PRECISION_BF16,
        .preview = PREVIEW_AUTO,
        .cfg = 1,
        .memory_fraction = 0.92f,
        .vae_tile = 64,
        .vae_overlap = 8,
        .vae_precision = JOB_AUTO_PRECISION,
        .embedding_cache = true,
        .history = true,
        .checkpoint_steps = 4,
    };
    return job_set_string(&j->prompt, "", e) && job_set_string(&j->negative, "", e);
}

static void free_more(struct job *j)
{
    for (int i = 0; i < j->more_count; i++)
        free(j->more[i]);
    free(j->more);
    j->more = NULL;
    j->more_count = 0;
}

void job_free(struct job *j)
{
    free(j->prompt);
    free(j->negative);
    free_more(j);
    free(j->out);
    free(j->init_latents);
    free(j->dump_stages);
    free(j->checkpoint);
    free(j->resume);
    memset(j, 0, sizeof *j);
}

bool job_copy(struct job *to, const struct job *from, struct err *e)
{
    *to = *from;
    to->prompt = to->negative = to->out = to->init_latents = to->dump_stages = to->checkpoint = to->resume = NULL;
    to->more = NULL;
    to->more_count = 0;
    bool ok = job_set_string(&to->prompt, from->prompt, e) && job_set_string(&to->negative, from->negative, e) &&
              job_set_string(&to->out, from->out, e) && job_set_string(&to->init_latents, from->init_latents, e) &&
              job_set_string(&to->dump_stages, from->dump_stages, e) &&
              job_set_string(&to->checkpoint, from->checkpoint, e) && job_set_string(&to->resume, from->resume, e);
    for (int i = 0; ok && i < from->more_count; i++)
        ok = job_add_prompt(to, from->more[i], e);
    if (!ok)
        job_free(to);
    return ok;
}

bool job_add_prompt(struct job *j, const char *prompt, struct err *e)
{
    char **grown = realloc(j->more, (size_t)(j->more_count + 1) * sizeof *grown);
    if (grown)
        j->more = grown;
    char *copy = grown ? strdup(prompt) : NULL;
    if (!copy)
        return err_set(e, ERR_MEMORY, "out of memory");
    j->more[j->more_count++] = copy;
    return true;
}

void job_draw_seed(struct job *j)
{
    if (j->random_seed && getrandom(&j->seed, sizeof j->seed, 0) != sizeof j->seed)
        j->seed = (uint64_t)time(NULL) << 32;
    if (j->random_seed)
        j->seed >>= 32; /* torch-cpu uses 32 bits anyway */
    j->random_seed = false;
}

int job_conditions(const struct job *j)
{
    return j->cfg != 1 ? 2 : 1;
}

int job_pictures(const struct job *j)
{
    return (1 + j->more_count) * j->count;
}

const char *job_prompt(const struct job *j, int index)
{
    int which = index / j->count;
    return which ? j->more[which - 1] : j->prompt;
}

uint64_t job_seed(const struct job *j, int index)
{
    return j->seed + (uint64_t)(index % j->count);
}

static int round_to_step(int px)
{
    int rounded = (px + JOB_SIZE_STEP / 2) / JOB_SIZE_STEP * JOB_SIZE_STEP;
    return rounded < JOB_SIZE_MIN ? JOB_SIZE_MIN : rounded;
}

static bool in_range(const char *what, long long value, long long low, long long high, struct err *e)
{
    if (value >= low && value <= high)
        return true;
    return err_set(e, ERR_INPUT, "%s is %lld: give %lld to %lld", what, value, low, high);
}

bool job_check(struct job *j, char notice[256], struct err *e)
{
    notice[0] = '\0';
    if (!in_range("width", j->width, 1, JOB_SIZE_MAX, e) || !in_range("height", j->height, 1, JOB_SIZE_MAX, e))
        return err_prefix(e, "size");
    int width = round_to_step(j->width), height = round_to_step(j->height);
    if ((long long)width * height > JOB_PIXELS_MAX)
        return err_set(e, ERR_INPUT, "size %dx%d has more than %lld pixels: choose a smaller one", width, height,
                       JOB_PIXELS_MAX);
    if (!in_range("steps", j->steps, 1, JOB_STEPS_MAX, e) || !in_range("count", j->count, 1, JOB_COUNT_MAX, e) ||
        !in_range("threads", j->threads, 0, JOB_THREADS_MAX, e))
        return false;
    if (!(j->guidance >= 0 && j->guidance <= JOB_GUIDANCE_MAX))
        return err_set(e, ERR_INPUT, "guidance is %g: give 0 to %g", j->guidance, JOB_GUIDANCE_MAX);
    if (j->vae == VAE_TILES && 2 * j->vae_overlap >= j->vae_tile)
        return err_set(e, ERR_INPUT, "vae_overlap is %d: less than half of vae_tile, which is %d, is expected",
                       j->vae_overlap, j->vae_tile);
    if (width != j->width || height != j->height)
        snprintf(notice, 256, "size %dx%d rounded to %dx%d: FLUX.1 works in steps of %d pixels", j->width, j->height,
                 width, height, JOB_SIZE_STEP);
    j->width = width;
    j->height = height;
    return true;
}

size_t job_stem(const char *path)
{
    size_t n = strlen(path);
    return n > 4 && !strcasecmp(path + n - 4, ".png") ? n - 4 : n;
}

char *job_out_path(const struct job *j, int index, struct err *e)
{
    const char *out = j->out ? j->out : "sluice.png";
    size_t stem = job_stem(out);
    char *path = NULL;
    int rc = index > 0 ? asprintf(&path, "%.*s-%d%s", (int)stem, out, index, out[stem] ? out + stem : ".png")
                       : asprintf(&path, "%s", out);
    if (rc < 0) {
        err_set(e, ERR_MEMORY, "out of memory");
        return NULL;
    }
    return path;
}

bool job_parse_size(const char *text, int *width, int *height, struct err *e)
{
    char *end;
    errno = 0;
    long w = strtol(text, &end, 10);
    if (end != text && (*end == 'x' || *end == 'X') && isdigit((unsigned char)end[1])) {
        long h = strtol(end + 1, &end, 10);
        if (!*end && !errno && w >= 0 && w <= 1000000 && h <= 1000000) {
            *width = (int)w;
            *height = (int)h;
            return true;
        }
    }
    return err_set(e, ERR_INPUT, "size \"%s\" is not WIDTHxHEIGHT: write it as 1024x768", text);
}

bool job_parse_bytes(const char *text, size_t *bytes, struct err *e)
{
    static const char units[] = "kmgt";
    char *end;
    double n = strtod(text, &end);
    double unit = 1;
    bool ok = isdigit((unsigned char)text[0]) && tolower((unsigned char)text[1]) != 'x';
    const char *u = ok && *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    if (u) {
        bool binary = end[1] == 'i' || end[1] == 'I';
        for (const char *k = units; k <= u; k++)
            unit *= binary ? 1024 : 1000;
        end += binary ? 2 : 1;
    }
    if (*end == 'b' || *end == 'B')
        end++;
    if (!ok || *end || !(n * unit < 1e18))
        return err_set(e, ERR_INPUT, "\"%s\" is no number of bytes: write it as 600M, 8G or 8GiB", text);
    *bytes = (size_t)(n * unit);
    return true;
}
