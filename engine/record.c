/* record.c - see record.h. */
#include "engine/record.h"

#include "engine/safetensors.h"
#include "engine/setting.h"
#include "engine/tok_text.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As A1111 spells them. */
static const char *const a1111_sampler[SAMPLER_COUNT_] = { "Euler", "Heun", "DPM++ 2M", "LCM" };
static const char *const a1111_schedule[SCHEDULE_COUNT_] = {
    [SCHEDULE_SIMPLE] = "Simple", [SCHEDULE_NORMAL] = "Normal", [SCHEDULE_BETA] = "Beta",
    [SCHEDULE_SGM_UNIFORM] = "SGM Uniform", [SCHEDULE_KARRAS] = "Karras", [SCHEDULE_EXPONENTIAL] = "Exponential",
};

/* A malloc'd copy as valid UTF-8, for names and prompts of any bytes; NULL: out of memory. */
static char *utf8_copy(const char *text)
{
    struct tok_buf clean = { 0 };
    if (tok_text_clean(&clean, text, strlen(text)) && tok_buf_add(&clean, "", 1))
        return clean.data;
    tok_buf_free(&clean);
    return NULL;
}

static bool put(json_t *o, const char *key, json_t *value)
{
    return value && !json_object_set_new(o, key, value);
}

static bool put_text(json_t *o, const char *key, const char *text)
{
    char *clean = utf8_copy(text);
    bool ok = clean && put(o, key, json_string(clean));
    free(clean);
    return ok;
}

/* Settings of a profile that change the picture, where they are not the usual
 * ones: the same picture has the same bytes, whatever memory it was made in. */
static bool put_unusual(json_t *o, const struct job *j)
{
    struct job usual = { 0 };
    struct model none = { 0 };
    bool ok = job_init(&usual, &none, NULL);
    if (j->vae != VAE_TILES) { /* exact, whole as in bands */
        usual.vae = j->vae;
        usual.vae_tile = j->vae_tile;
        usual.vae_overlap = j->vae_overlap;
    }
    if (j->vae_precision == (int)j->precision)
        usual.vae_precision = j->vae_precision;
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (s->scope != (SETTING_PROFILE | SETTING_PICTURE) || setting_same(j, &usual, s))
            continue;
        char *text = setting_text(j, s);
        ok = text && put_text(o, s->name, text);
        free(text);
    }
    job_free(&usual);
    return ok;
}

static char *make_json(const struct job *j, int index, const char *model, int steps_done)
{
    uint64_t seed = job_seed(j, index);
    char digits[32];
    json_t *o = json_object();
    /* Seeds go to 2^64 - 1, JSON's integers here to 2^63 - 1. */
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)seed);
    bool ok = o && put_text(o, "program", "sluice " SLUICE_VERSION) && put_text(o, "model", model) &&
              put_text(o, "prompt", job_prompt(j, index)) && put(o, "width", json_integer(j->width)) &&
              put(o, "height", json_integer(j->height)) && put(o, "steps", json_integer(j->steps)) &&
              put(o, "guidance", json_real((double)j->guidance)) &&
              (j->cfg == 1 || (put(o, "cfg", json_real((double)j->cfg)) && put_text(o, "negative", j->negative))) &&
              put_text(o, "sampler", sampler_name(j->sampler)) && put_text(o, "schedule", schedule_name(j->schedule)) &&
              put_text(o, "rng", rng_name(j->rng)) && put_text(o, "precision", precision_name(j->precision)) &&
              put(o, "seed", seed <= INT64_MAX ? json_integer((json_int_t)seed) : json_string(digits)) &&
              put_unusual(o, j) && (steps_done == j->steps || put(o, "steps_done", json_integer(steps_done))) &&
              (!j->init_latents || put_text(o, "init_latents", j->init_latents));
    char *text = ok ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    return text;
}

static char *make_parameters(const struct job *j, int index, const char *model_name)
{
    char *prompt = utf8_copy(job_prompt(j, index)), *negative = utf8_copy(j->negative), *model = utf8_copy(model_name);
    char *text = NULL;
    bool cfg = j->cfg != 1;
    if (prompt && negative && model &&
        asprintf(&text, "%s%s%s\nSteps: %d, Sampler: %s, Schedule type: %s, CFG scale: %g, Distilled CFG Scale: %g, "
                 "Seed: %llu, Size: %dx%d, Model: %s, RNG: %s, Version: sluice " SLUICE_VERSION, prompt,
                 cfg ? "\nNegative prompt: " : "", cfg ? negative : "", j->steps, a1111_sampler[j->sampler],
                 a1111_schedule[j->schedule], (double)j->cfg, (double)j->guidance,
                 (unsigned long long)job_seed(j, index), j->width, j->height, model, rng_name(j->rng)) < 0)
        text = NULL;
    free(prompt);
    free(negative);
    free(model);
    return text;
}

bool record_make(struct record *r, const struct job *j, int index, const char *model, int steps_done, struct err *e)
{
    *r = (struct record){ make_json(j, index, model, steps_done), make_parameters(j, index, model) };
    if (r->json && r->parameters)
        return true;
    record_free(r);
    return err_set(e, ERR_MEMORY, "out of memory");
}

void record_free(struct record *r)
{
    free(r->json);
    free(r->parameters);
    memset(r, 0, sizeof *r);
}

char *record_text(const struct record *r, const char *key)
{
    json_t *o = json_loads(r->json, 0, NULL);
    const char *text = json_string_value(json_object_get(o, key));
    char *copy = text ? strdup(text) : NULL;
    json_decref(o);
    return copy;
}

bool record_write_png(const struct record *r, const struct image *im, const char *path, struct err *e)
{
    struct image_text texts[] = { { "parameters", r->parameters }, { "sluice", r->json } };
    return image_write_png(im, path, texts, 2, e);
}

static struct tensor text_tensor(char *text)
{
    return tensor_1d(text, DT_U8, (int64_t)strlen(text) + 1);
}

bool record_write_latent(const struct record *r, struct tensor latent, const char *path, struct err *e)
{
    const struct safetensors_entry entries[] = {
        { "latent", latent }, { "sluice", text_tensor(r->json) }, { "parameters", text_tensor(r->parameters) },
    };
    return safetensors_write(path, entries, 3, e);
}

/* A malloc'd copy; "" where the file has no such text. NULL: out of memory. */
static char *read_text(const struct safetensors *s, const char *name)
{
    struct tensor t;
    if (!safetensors_find(s, name, &t) || t.dtype != DT_U8 || !tensor_present(t))
        return strdup("");
    return strndup(t.data, tensor_bytes(t));
}

/* A malloc'd copy of the F32 [C,h,w] of that name, every value finite. */
static bool read_floats(const struct safetensors *s, const char *name, struct tensor *out, struct err *e)
{
    const char *path = safetensors_path(s);
    struct tensor t;
    char found[96];
    if (!safetensors_find(s, name, &t))
        return err_set(e, ERR_INPUT, "%s: no tensor named \"%s\"", path, name);
    if (t.dtype != DT_F32 || t.ndim != 3)
        return err_set(e, ERR_INPUT, "%s: %s is %s, not F32 [channels, height, width]", path, name,
                       tensor_describe(t, found, sizeof found));
    for (int64_t i = 0; i < tensor_count(t); i++)
        if (!isfinite(((const float *)t.data)[i]))
            return err_set(e, ERR_INPUT, "%s: %s holds a value that is not finite at %lld", path, name, (long long)i);
    *out = t;
    out->data = malloc(tensor_bytes(t));
    if (!out->data)
        return err_set(e, ERR_MEMORY, "%s: out of memory", path);
    memcpy(out->data, t.data, tensor_bytes(t));
    return true;
}

static bool read_record(const struct safetensors *s, struct record *r, struct err *e)
{
    *r = (struct record){ read_text(s, "sluice"), read_text(s, "parameters") };
    return (r->json && r->parameters) || err_set(e, ERR_MEMORY, "%s: out of memory", safetensors_path(s));
}

bool record_read_latent(struct record *r, struct tensor *latent, const char *path, struct err *e)
{
    struct safetensors *s;
    memset(r, 0, sizeof *r);
    memset(latent, 0, sizeof *latent);
    if (!safetensors_open(&s, path, e))
        return false;
    bool ok = read_floats(s, "latent", latent, e) && read_record(s, r, e);
    if (!ok) {
        free(latent->data);
        latent->data = NULL;
        record_free(r);
    }
    safetensors_close(s);
    return ok;
}

bool record_write_checkpoint(const struct record *r, const struct checkpoint *c, const char *path, struct err *e)
{
    char state[96];
    struct safetensors_entry entry[6];
    size_t n = 0;
    snprintf(state, sizeof state, "{\"index\":%d,\"step\":%d,\"trial\":%s}", c->index, c->step,
             c->trial ? "true" : "false");
    entry[n++] = (struct safetensors_entry){ "latent", c->latent };
    entry[n++] = (struct safetensors_entry){ "x0", c->x0 };
    if (c->kept.data)
        entry[n++] = (struct safetensors_entry){ "kept", c->kept };
    entry[n++] = (struct safetensors_entry){ "checkpoint", text_tensor(state) };
    entry[n++] = (struct safetensors_entry){ "sluice", text_tensor(r->json) };
    entry[n++] = (struct safetensors_entry){ "parameters", text_tensor(r->parameters) };
    return safetensors_write(path, entry, n, e);
}

static bool read_state(const struct safetensors *s, struct checkpoint *c, struct err *e)
{
    char *text = read_text(s, "checkpoint");
    int trial;
    json_t *o = text ? json_loads(text, 0, NULL) : NULL;
    bool ok = o && !json_unpack(o, "{s:i, s:i, s:b}", "index", &c->index, "step", &c->step, "trial", &trial);
    c->trial = ok && trial;
    json_decref(o);
    free(text);
    return ok || err_set(e, ERR_INPUT, "%s: it does not say where it stands: not a checkpoint", safetensors_path(s));
}

bool record_read_checkpoint(struct record *r, struct checkpoint *c, const char *path, struct err *e)
{
    struct safetensors *s;
    struct tensor kept;
    memset(r, 0, sizeof *r);
    memset(c, 0, sizeof *c);
    if (!safetensors_open(&s, path, e))
        return false;
    bool ok = read_state(s, c, e) && read_floats(s, "latent", &c->latent, e) && read_floats(s, "x0", &c->x0, e) &&
              (!safetensors_find(s, "kept", &kept) || read_floats(s, "kept", &c->kept, e)) && read_record(s, r, e);
    if (ok && (!tensor_same_shape(c->latent, c->x0) || (c->kept.data && !tensor_same_shape(c->latent, c->kept))))
        ok = err_set(e, ERR_INPUT, "%s: its tensors have not all one shape", path);
    if (!ok) {
        checkpoint_free(c);
        record_free(r);
    }
    safetensors_close(s);
    return ok;
}

void checkpoint_free(struct checkpoint *c)
{
    free(c->latent.data);
    free(c->x0.data);
    free(c->kept.data);
    memset(c, 0, sizeof *c);
}
