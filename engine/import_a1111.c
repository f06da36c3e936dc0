/* import_a1111.c - the text that A1111, Forge and many others put into their pictures:
 *
 *   prompt, in lines
 *   Negative prompt: more lines
 *   Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 1, ...
 *
 * Reads values as they stand; emphasis in a prompt stays there as text. */
#include "engine/import_internal.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Keys that are a setting. */
static const struct { const char *key, *setting, *why; } settings[] = {
    { "Steps", "steps", NULL },
    { "CFG scale", "cfg", "the true guidance, against the negative prompt" },
    { "Distilled CFG Scale", "guidance", NULL },
    { "Seed", "seed", NULL },
    { "Size", "size", NULL },
};

/* Keys that begin with these words are none, and why; the first that fits. */
static const struct { const char *key, *why; } reasons[] = {
    { "Hires", "there is one pass here, no second one at a larger size" },
    { "Denoising strength", "it is of a second pass, or of a picture made from a picture" },
    { "Model hash", "ten digits of a SHA-256: a preset compares whole ones" },
    { "VAE", "the model's own is used" },
    { "Module", "the model's own encoders and VAE are used" },
    { "Lora", "LoRAs are not loaded" },
    { "TI", "embeddings are not loaded" },
    { "Hashes", "hashes of files that are not loaded here" },
    { "Clip skip", "FLUX uses the last layer" },
    { "Variation seed", "one seed makes the noise" },
    { "Face restoration", "nothing is done to the picture afterwards" },
    { "ADetailer", "nothing is done to the picture afterwards" },
    { "ControlNet", "pictures are made from text alone" },
    { "Mask", "pictures are made from text alone" },
    { "Refiner", "one model draws a picture" },
    { "Diffusion in Low Bits", "how that program kept the weights" },
    { "Emphasis", "words have no weights here" },
    { "Styles", "their words are in the prompt already" },
    { "Eta", "no noise is added between the steps" },
    { "ENSD", "one seed makes the noise" },
};

static bool find_last_line(const char *text, const char **prompt_end, const char **values)
{
    const char *found = NULL;
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, "Steps: ", 7) && isdigit((unsigned char)line[7]))
            found = line;
    if (!found)
        return false;
    *prompt_end = found > text ? found - 1 : found;
    *values = found;
    return true;
}

bool import_is_a1111(const char *text)
{
    const char *end, *values;
    return find_last_line(text, &end, &values);
}

/* --- prompts ------------------------------------------------------------------------------ */

/* <lora:name:0.8> is no text: it asks for a file. */
static void take_out_files(struct import_work *w, char *prompt)
{
    static const char *const kinds[] = { "<lora:", "<lyco:", "<hypernet:" };
    for (char *open = prompt; (open = strchr(open, '<'));) {
        char *close = strchr(open, '>');
        bool file = false;
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
            file |= !strncasecmp(open, kinds[i], strlen(kinds[i]));
        if (!close || !file) {
            open++;
            continue;
        }
        char *name = strndup(open + 1, (size_t)(close - open - 1));
        if (!name)
            err_set(w->e, ERR_MEMORY, "%.200s: out of memory", w->im->path);
        else
            import_leave(w, "prompt", name, "LoRAs are not loaded");
        free(name);
        memmove(open, close + 1, strlen(close + 1) + 1);
    }
}

/* "(word:1.2)" */
static bool has_weights(const char *prompt)
{
    for (const char *s = prompt; (s = strchr(s, ':')); s++) {
        size_t n = strspn(s + 1, "0123456789.");
        if (n && s[1 + n] == ')')
            return true;
    }
    return false;
}

static void read_prompts(struct import_work *w, const char *text, const char *end)
{
    char *all = strndup(text, (size_t)(end - text)), *negative = NULL;
    if (!all) {
        err_set(w->e, ERR_MEMORY, "%.200s: out of memory", w->im->path);
        return;
    }
    for (char *line = all; line && !negative; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, "Negative prompt:", 16)) {
            negative = line + 16;
            line[0] = '\0';
            if (line > all)
                line[-1] = '\0';
            break;
        }
    take_out_files(w, all);
    import_take(w, "prompt", "prompt", all, all, NULL);
    if (has_weights(all))
        import_leave(w, "prompt", "(word:1.2)", "words have no weights here: they stay in the prompt as text");
    if (negative && negative[strspn(negative, " \n")])
        import_take(w, "negative", "Negative prompt", negative, negative, NULL);
    free(all);
}

/* --- values -------------------------------------------------------------------------------- */

static void read_sampler(struct import_work *w, const char *value)
{
    static const char *const ends[] = { "Karras", "Exponential", "SGM Uniform", "Simple", "Beta", "Normal" };
    char sampler[64];
    size_t n = strlen(value);
    snprintf(sampler, sizeof sampler, "%s", value);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) { /* both in one, as it was written until 2024 */
        size_t length = strlen(ends[i]);
        if (n < sizeof sampler && n > length + 1 && !strcasecmp(value + n - length, ends[i]) &&
            value[n - length - 1] == ' ') {
            sampler[n - length - 1] = '\0';
            import_take(w, "schedule", "Sampler", value, ends[i], "its last word is the schedule");
            break;
        }
    }
    import_take(w, "sampler", "Sampler", value, sampler, NULL);
}

static void read_rng(struct import_work *w, const char *value)
{
    bool card = !strcasecmp(value, "GPU") || !strcasecmp(value, "NV"), processor = !strcasecmp(value, "CPU");
    import_take(w, "rng", "RNG", value, card ? "philox" : processor ? "torch-cpu" : value, NULL);
}

static void read_version(struct import_work *w, const char *value)
{
    bool forge = value[0] == 'f' && isdigit((unsigned char)value[1]);
    bool a1111 = value[0] == 'v' && isdigit((unsigned char)value[1]);
    size_t n = strcspn(value, "-");
    char *clean = yaml_clean(value, n < 40 ? n : 40);
    if (clean)
        snprintf(w->im->program, sizeof w->im->program, "%s%s", forge ? "Forge " : a1111 ? "A1111 " : "", clean);
    free(clean);
    if ((forge || a1111) && !sheet_find(&w->im->preset.rows, setting_find("rng")))
        import_take(w, "rng", "RNG", "not written", "philox",
                    "these programs draw noise as the card does, unless they say otherwise");
}

static void read_value(struct import_work *w, const char *key, const char *value)
{
    const char *why = NULL;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (!strcasecmp(settings[i].key, key)) {
            bool random = !strcmp(settings[i].setting, "seed") && !strcmp(value, "-1");
            import_take(w, settings[i].setting, key, value, random ? "random" : value, settings[i].why);
            return;
        }
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons && !why; i++)
        if (!strncasecmp(reasons[i].key, key, strlen(reasons[i].key)))
            why = reasons[i].why;
    if (!strcasecmp(key, "Sampler"))
        read_sampler(w, value);
    else if (!strcasecmp(key, "Schedule type") && !strcasecmp(value, "Automatic"))
        import_leave(w, key, value, "that program chooses it by the sampler");
    else if (!strcasecmp(key, "Schedule type"))
        import_take(w, "schedule", key, value, value, NULL);
    else if (!strcasecmp(key, "RNG"))
        read_rng(w, value);
    else if (!strcasecmp(key, "Model"))
        import_model(w, key, value);
    else if (!strcasecmp(key, "Version"))
        read_version(w, value);
    else
        import_leave(w, key, value, "%s", why ? why : "there is no such setting");
}

/* To the end of a value: of what stands in quotes or brackets, or before the next comma. */
static const char *value_end(const char *s)
{
    int depth = 0;
    bool quoted = false;
    for (; *s && (quoted || depth > 0 || *s != ','); s++) {
        if (quoted && *s == '\\' && s[1])
            s++;
        else if (*s == '"')
            quoted = !quoted;
        else if (!quoted && (*s == '[' || *s == '{'))
            depth++;
        else if (!quoted && (*s == ']' || *s == '}'))
            depth--;
    }
    return s;
}

/* A value in quotes is JSON's. */
static char *unquote(const char *s, size_t n)
{
    char *text = strndup(s, n);
    if (text && n >= 2 && text[0] == '"' && text[n - 1] == '"') {
        json_t *v = json_loads(text, JSON_DECODE_ANY, NULL);
        char *inside = json_is_string(v) ? strdup(json_string_value(v)) : NULL;
        json_decref(v);
        if (inside) {
            free(text);
            return inside;
        }
    }
    return text;
}

void import_a1111(struct import_work *w, const char *raw)
{
    char *text = yaml_clean(raw, strlen(raw));
    const char *end = NULL, *s = NULL;
    if (text && find_last_line(text, &end, &s)) {
        read_prompts(w, text, end);
    } else if (!text) {
        err_set(w->e, ERR_MEMORY, "%.200s: out of memory", w->im->path);
        return;
    }
    while (s && *s && !w->e->kind) {
        s += strspn(s, " ,\n");
        size_t n = strcspn(s, ":,");
        char key[64];
        snprintf(key, sizeof key, "%.*s", n < 63 ? (int)n : 63, s);
        s += n;
        if (*s != ':')
            continue; /* no value: a piece of one with a comma in it */
        s += 1 + strspn(s + 1, " ");
        const char *to = value_end(s), *last = to;
        while (last > s && (last[-1] == ' ' || last[-1] == '\n'))
            last--;
        char *value = unquote(s, (size_t)(last - s));
        if (value)
            read_value(w, key, value);
        else
            err_set(w->e, ERR_MEMORY, "%.200s: out of memory", w->im->path);
        free(value);
        s = to;
    }
    free(text);
}
