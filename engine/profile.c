/* profile.c - see profile.h. */
#include "engine/profile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* --- other programs' words -------------------------------------------------------------- */

/* A key of the article's templates. Its values are its setting's own, but for
 * those listed; "true" stands for yes and on, "false" for no, off and none. */
struct word {
    const char *from, *to;
};
struct foreign {
    const char *key, *setting; /* no setting: nothing to do */
    const char *why;
    const struct word *words;  /* ends with a NULL; NULL: none */
};
#define WORDS(...) (const struct word[]){ __VA_ARGS__, { NULL, NULL } }

static const struct foreign foreign[] = {
    { "resolution", "size", "pixels", NULL },
    /* ComfyUI's word for true guidance. But FLUX.1-dev, which these templates are for, is distilled: what steers
     * it in one evaluation a step, as the article's times and peaks have it, is the guidance it takes as input. */
    { "cfg_scale", "guidance",
      "FLUX.1-dev is distilled: it takes guidance as an input, one evaluation a step; true guidance, two "
      "evaluations a step, is written cfg", NULL },
    { "guidance_scale", "guidance", "the guidance that a distilled model takes as an input", NULL },
    { "negative_prompt", "negative", "used while cfg is not 1", NULL },
    { "scheduler", "schedule", "how the noise is lowered from step to step", NULL },
    { "batch_size", "count", "one after the other, each with the memory of one", NULL },
    { "text_encoder_offload", "text_encoders", "they leave the device when they have done their part",
      WORDS({ "true", "sequential" }, { "cpu", "sequential" }, { "false", "resident" }, { "gpu", "resident" }) },
    { "unet_offload", "transformer", "what a U-Net was before; its blocks are brought when they are needed",
      WORDS({ "true", "offload" }, { "sequential", "offload" }, { "partial", "auto" }, { "false", "resident" },
            { "gpu", "resident" }) },
    { "gradient_checkpointing", "recompute", "in inference: the MLP and attention take 512 tokens at a time, exact",
      WORDS({ "true", "512" }, { "false", "off" }) },
    { "attention_mode", "attention", "xformers is efficient; flash_attention and sdp are flash", NULL },
    { "vae_tiling", "vae", "bands are exact; the article's blended tiles are written vae: tiles",
      WORDS({ "true", "bands" }, { "false", "whole" }) },
    { "vae_tile_size", "vae_tile", "latent pixels; used with vae: tiles, bands need none", NULL },
    { "vae_tile_overlap", "vae_overlap", "latent pixels; used with vae: tiles, bands need none", NULL },
    { "cleanup_interval", NULL, "one arena holds each job: there is nothing to clean up", NULL },
    { "torch_compile", NULL, "the kernels are compiled already", NULL },
    { "name", NULL, "for people", NULL },
    { "description", NULL, "for people", NULL },
};
enum { FOREIGN = sizeof foreign / sizeof *foreign };

/* What no profile says, and why. */
static const struct { const char *key, *why; } refused[] = {
    { "model", "a profile is for any model: choose one with -m" },
    { "checkpoint", "a profile is for any model: choose one with -m" },
    { "device", "choose it with --device" },
    { "lora", "a profile does not change the model" },
    { "loras", "a profile does not change the model" },
    { "controlnet", "a profile does not change the model" },
    { "quantization", "weights are used as their files hold them: choose another file with -m" },
    { "clip_skip", "FLUX.1 uses CLIP's last state only" },
    { "denoise", "pictures are made from noise only" },
};

static const struct foreign *foreign_of(const char *key)
{
    for (int i = 0; i < FOREIGN; i++)
        if (!strcmp(foreign[i].key, key))
            return &foreign[i];
    return NULL;
}

static const char *refusal_of(const char *key)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (!strcmp(refused[i].key, key))
            return refused[i].why;
    return NULL;
}

static const char *translate(const struct foreign *k, const char *value)
{
    static const struct setting_choice yes_no[] = { { "yes", 1 }, { "on", 1 }, { "no", 0 }, { "off", 0 },
                                                    { "none", 0 } };
    const char *word = value;
    for (size_t i = 0; i < sizeof yes_no / sizeof *yes_no; i++)
        if (!strcasecmp(value, yes_no[i].name))
            word = yes_no[i].value ? "true" : "false";
    for (const struct word *w = k->words; w && w->from; w++)
        if (!strcasecmp(word, w->from))
            return w->to;
    return value;
}

/* --- reading ------------------------------------------------------------------------------ */

static const char *const keys[] = { "sluice", "about", "large", NULL };
static const char *const large_keys[] = { "from", NULL };

static bool is_template(const struct yaml_entry *root)
{
    bool other = false;
    for (const struct yaml_entry *v = root->first; v; v = v->next) {
        if (!strcmp(v->key, "sluice"))
            return false;
        other |= foreign_of(v->key) != NULL;
    }
    return other;
}

static bool read_template(struct profile *p, const struct sheet_source *source, const struct yaml_entry *root,
                          struct err *e)
{
    const char *words[FOREIGN + 1] = { NULL };
    for (int i = 0; i < FOREIGN; i++)
        words[i] = foreign[i].key;
    const struct sheet_source *s = &(struct sheet_source){ source->file, source->scope, words, source->f };
    bool ok = true;
    for (const struct yaml_entry *v = root->first; ok && v; v = v->next) {
        const struct foreign *k = foreign_of(v->key);
        const char *why = refusal_of(v->key), *text;
        if (why)
            sheet_fault_key(s, v, "%s: %s", v->key, why);
        else if (!k)
            ok = sheet_take(&p->rows, s, v, e);
        else if ((text = sheet_text(s, v)))
            ok = sheet_take_as(&p->rows, s, v, k->setting ? setting_find(k->setting) : NULL, translate(k, text), k->why,
                               e);
    }
    return ok;
}

static bool read_large(struct profile *p, const struct sheet_source *s, const struct yaml_entry *large, struct err *e)
{
    struct sheet_source within = { s->file, s->scope, large_keys, s->f };
    const struct yaml_entry *from = sheet_entry(large, "from");
    const char *text = from ? sheet_text(s, from) : NULL;
    struct err wrong = { 0 };
    if (large->kind == YAML_MAP && !from)
        sheet_fault_key(s, large, "large has no from: the size it begins at, as 1536x1536");
    else if (large->kind == YAML_TEXT || large->kind == YAML_LIST)
        sheet_fault(s, large, "large is no map: write from and settings below it");
    if (text && !job_parse_size(text, &p->large_width, &p->large_height, &wrong))
        sheet_fault(s, from, "from: %s", wrong.text);
    else if (text && !(p->large_width && p->large_height))
        sheet_fault(s, from, "from is %.60s: it has no pixels", text);
    bool ok = true;
    for (const struct yaml_entry *v = large->kind == YAML_MAP ? large->first : NULL; ok && v; v = v->next)
        if (v != from)
            ok = sheet_take(&p->large, &within, v, e);
    return ok;
}

static bool read_own(struct profile *p, const struct sheet_source *s, const struct yaml_entry *root, struct err *e)
{
    bool ok = true;
    sheet_version(s, root);
    for (const struct yaml_entry *v = root->first; ok && v; v = v->next) {
        const struct foreign *k = foreign_of(v->key);
        if (!strcmp(v->key, "sluice") || !strcmp(v->key, "large"))
            continue;
        if (!strcmp(v->key, "about"))
            sheet_line(s, v, p->about, sizeof p->about);
        else if (k && k->setting)
            sheet_fault_key(s, v, "%s is another program's word: write %s", v->key, k->setting);
        else
            ok = sheet_take(&p->rows, s, v, e);
    }
    const struct yaml_entry *large = sheet_entry(root, "large");
    return ok && (!large || read_large(p, s, large, e));
}

bool profile_load(struct profile *p, const char *path, struct yaml_faults *f, struct err *e)
{
    *p = (struct profile){ 0 };
    snprintf(p->path, sizeof p->path, "%s", path);
    struct yaml_entry *root = yaml_read(path, f, e);
    bool ok = root != NULL;
    if (ok) {
        p->foreign = is_template(root);
        struct sheet_source s = { path, p->foreign ? SETTING_PROFILE | SETTING_PRESET : SETTING_PROFILE, keys, f };
        ok = (p->foreign ? read_template : read_own)(p, &s, root, e) && sheet_check(&p->rows, NULL, &s, e) &&
             (f->count || !p->large.count || sheet_check(&p->rows, &p->large, &s, e));
    }
    yaml_entry_free(root);
    return yaml_faultless(f, e) && ok;
}

void profile_free(struct profile *p)
{
    sheet_free(&p->rows);
    sheet_free(&p->large);
}

/* --- using -------------------------------------------------------------------------------- */

bool profile_large(const struct profile *p, const struct job *j)
{
    return p->large.count && (long long)j->width * j->height >= (long long)p->large_width * p->large_height;
}

bool profile_apply(const struct profile *p, struct job *j, struct err *e)
{
    return sheet_apply(&p->rows, j, e) && (!profile_large(p, j) || sheet_apply(&p->large, j, e));
}

const struct sheet_row *profile_row(const struct profile *p, const struct job *j, const struct setting *s)
{
    const struct sheet_row *row = profile_large(p, j) ? sheet_find(&p->large, s) : NULL;
    return row ? row : sheet_find(&p->rows, s);
}

/* --- changing ----------------------------------------------------------------------------- */

bool profile_copy(struct profile *to, const struct profile *from, struct err *e)
{
    *to = *from;
    to->large = (struct sheet){ 0 };
    if (sheet_copy(&to->rows, &from->rows) && sheet_copy(&to->large, &from->large))
        return true;
    profile_free(to);
    *to = (struct profile){ 0 };
    return err_set(e, ERR_MEMORY, "out of memory");
}

bool profile_set(struct profile *p, const struct job *j, const struct setting *s, const char *text, struct err *e)
{
    bool large = profile_large(p, j) && sheet_find(&p->large, s);
    return sheet_put(large ? &p->large : &p->rows, s, text) || err_set(e, ERR_MEMORY, "out of memory");
}

static void write_rows(FILE *f, const struct sheet *rows, const char *indent)
{
    for (int i = 0; i < rows->count; i++)
        if (rows->row[i].setting && rows->row[i].setting->scope & SETTING_PROFILE)
            fprintf(f, "%s%s: %s\n", indent, rows->row[i].setting->name, rows->row[i].text);
}

char *profile_text(const struct profile *p, struct err *e)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) {
        err_set(e, ERR_MEMORY, "out of memory");
        return NULL;
    }
    fputs("sluice: 1\n", f);
    if (p->about[0]) {
        fputs("about: \"", f);
        for (const char *c = p->about; *c; c++)
            fprintf(f, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
        fputs("\"\n", f);
    }
    write_rows(f, &p->rows, "");
    if (p->large.count) {
        fprintf(f, "large:\n  from: %dx%d\n", p->large_width, p->large_height);
        write_rows(f, &p->large, "  ");
    }
    bool ok = !ferror(f);
    if (fclose(f) || !ok) {
        free(text);
        err_set(e, ERR_MEMORY, "out of memory");
        return NULL;
    }
    return text;
}
