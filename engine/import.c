/* import.c - see import.h. What a file is, our own pictures, presets and templates;
 * A1111's text and ComfyUI's graphs have files of their own. */
#include "engine/import_internal.h"

#include "engine/image.h"
#include "engine/preset_write.h"
#include "engine/shelf_own.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void no_memory(struct import_work *w)
{
    err_set(w->e, ERR_MEMORY, "%.200s: out of memory", w->im->path);
}

/* --- rows, and what is left --------------------------------------------------------------- */

/* Cleaned, in one line, at most `room` bytes of it. malloc'd. */
static char *line_of(struct import_work *w, const char *text, size_t room)
{
    char *clean = yaml_clean(text, strlen(text));
    if (!clean) {
        no_memory(w);
        return NULL;
    }
    for (char *c = clean; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    size_t n = strlen(clean);
    if (n > room) {
        for (n = room; n && ((unsigned char)clean[n] & 0xc0) == 0x80; n--) {}
    }
    while (n && clean[n - 1] == ' ')
        n--;
    clean[n] = '\0';
    size_t front = strspn(clean, " ");
    memmove(clean, clean + front, n - front + 1);
    return clean;
}

void import_leave(struct import_work *w, const char *key, const char *value, const char *fmt, ...)
{
    struct import *im = w->im;
    char why[YAML_FAULT_BYTES];
    va_list ap;
    if (w->e->kind)
        return;
    if (im->left_count == IMPORT_LEFT_MAX) {
        im->left_more++;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    struct import_left *grown = realloc(im->left, (size_t)(im->left_count + 1) * sizeof *grown);
    if (!grown) {
        no_memory(w);
        return;
    }
    im->left = grown;
    struct import_left *to = &im->left[im->left_count++];
    to->key = line_of(w, key, 64);
    to->value = line_of(w, value, IMPORT_VALUE_MAX);
    to->why = line_of(w, why, sizeof why);
    if (!to->key || !to->value || !to->why) {
        im->left_count--;
        free(to->key);
        free(to->value);
        free(to->why);
    }
}

/* A prompt's braces are its own here: written twice in a preset. */
static char *escape_braces(char *text)
{
    char *twice = malloc(2 * strlen(text) + 1), *to = twice;
    for (const char *s = text; twice && *s; s++) {
        *to++ = *s;
        if (*s == '{' || *s == '}')
            *to++ = *s;
    }
    if (twice)
        *to = '\0';
    free(text);
    return twice;
}

void import_take(struct import_work *w, const char *setting, const char *key, const char *value, const char *text,
                 const char *why)
{
    const struct setting *s = setting_find(setting);
    struct yaml_faults none = { 0 };
    struct sheet_source source = { w->im->path, SETTING_PRESET, NULL, &none };
    struct err wrong = { 0 };
    if (w->e->kind)
        return;
    char *label = line_of(w, key, 64), *shown = line_of(w, value, IMPORT_TEXT_MAX);
    char *clean = line_of(w, text, IMPORT_TEXT_MAX);
    if (clean && !strcmp(setting, "prompt") && !(clean = escape_braces(clean)))
        no_memory(w);
    if (!label || !shown || !clean) {
        /* told already */
    } else if (setting_try(s, clean, &wrong) != SETTING_SET) {
        import_leave(w, label, shown, "%s", wrong.text);
    } else if (sheet_find(&w->im->preset.rows, s)) {
        import_leave(w, label, shown, "%s is said by %s already", setting, sheet_find(&w->im->preset.rows, s)->key);
    } else {
        if (strlen(text) > IMPORT_TEXT_MAX)
            import_leave(w, label, "", "it is longer than %d KiB: the rest is left out", IMPORT_TEXT_MAX / 1024);
        struct yaml_entry entry = { .kind = YAML_TEXT, .key = label, .text = shown };
        sheet_take_as(&w->im->preset.rows, &source, &entry, s, clean, why, w->e);
    }
    free(label);
    free(shown);
    free(clean);
}

/* Small letters and digits of a file's name, without folder. */
static void squeeze(const char *name, char buf[64])
{
    const char *slash = strrchr(name, '/'), *back = strrchr(name, '\\');
    size_t n = 0;
    for (const char *s = back > slash ? back + 1 : slash ? slash + 1 : name; *s && n < 63; s++)
        if (isalnum((unsigned char)*s))
            buf[n++] = (char)tolower((unsigned char)*s);
    buf[n] = '\0';
}

void import_model(struct import_work *w, const char *key, const char *name)
{
    static const char *const others[] = { "kontext", "fill", "canny", "depth", "redux", "krea", NULL };
    static const char *const rounded[] = { "fp8", "nf4", "bnb", "gguf", "q2", "q3", "q4", "q5", "q6", "q8", "int8",
                                           NULL };
    char small[64];
    squeeze(name, small);
    const char *model = strstr(small, "flux1dev") || strstr(small, "fluxdev") ? "FLUX.1-dev" :
                        strstr(small, "flux1schnell") || strstr(small, "fluxschnell") ? "FLUX.1-schnell" : NULL;
    for (int i = 0; model && others[i]; i++)
        if (strstr(small, others[i]))
            model = NULL;
    if (!model && w->im->kind == IMPORT_SLUICE && shelf_is_name(name))
        model = name;
    if (!model || w->im->preset.model[0]) {
        import_leave(w, key, name, "%s", model ? "one model draws a picture here" :
                     "not a model that is known here: the picture will be another");
        return;
    }
    snprintf(w->im->preset.model, sizeof w->im->preset.model, "%s", model);
    for (int i = 0; rounded[i]; i++)
        if (strstr(small, rounded[i])) {
            import_leave(w, key, name, "taken as %s; its weights are rounded, so the picture will differ a little",
                         model);
            return;
        }
}

/* --- JSON --------------------------------------------------------------------------------- */

/* The fewest digits that make the same float: 2.4000000953674316 is 2.4. */
static char *number(double v)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtof(text, NULL) == (float)v && !strchr(text, 'e'))
            break;
    }
    return strdup(text);
}

char *import_text(const json_t *v)
{
    char *text = NULL;
    if (!v)
        return NULL;
    switch (json_typeof(v)) {
    case JSON_STRING: return strdup(json_string_value(v));
    case JSON_REAL: return number(json_real_value(v));
    case JSON_INTEGER: return asprintf(&text, "%lld", (long long)json_integer_value(v)) < 0 ? NULL : text;
    case JSON_TRUE: return strdup("true");
    case JSON_FALSE: return strdup("false");
    default: return NULL;
    }
}

/* What Python writes and JSON has not: NaN and Infinity; and whole numbers beyond 2^63. */
static char *tame(const char *text, size_t bytes)
{
    char *out = malloc(2 * bytes + 1), *to = out;
    bool inside = false;
    for (size_t i = 0, n; out && i < bytes; i += n) {
        n = 1;
        if (inside) {
            n = text[i] == '\\' && i + 1 < bytes ? 2 : 1;
            inside = text[i] != '"';
        } else if (text[i] == '"') {
            inside = true;
        } else if (text[i] == 'N' || text[i] == 'I' || (text[i] == '-' && i + 1 < bytes && text[i + 1] == 'I')) {
            while (i + n < bytes && isalpha((unsigned char)text[i + n]))
                n++;
            to = stpcpy(to, n > 2 ? "null" : "");
            continue;
        } else if (isdigit((unsigned char)text[i])) {
            bool whole = true;
            for (; i + n < bytes && (isalnum((unsigned char)text[i + n]) || strchr("+-.", text[i + n])); n++)
                whole &= isdigit((unsigned char)text[i + n]) != 0;
            if (whole && n >= 19 && (!i || text[i - 1] != '-')) {
                *to++ = '"';
                to = mempcpy(to, text + i, n);
                *to++ = '"';
                continue;
            }
        }
        to = mempcpy(to, text + i, n);
    }
    if (out)
        *to = '\0';
    return out;
}

json_t *import_json(const char *text, size_t bytes, const char *name, struct err *e)
{
    json_error_t wrong;
    char *clean = bytes <= IMPORT_JSON_MAX ? yaml_clean(text, bytes) : NULL;
    char *tamed = clean ? tame(clean, strlen(clean)) : NULL;
    json_t *o = tamed ? json_loads(tamed, 0, &wrong) : NULL;
    if (bytes > IMPORT_JSON_MAX)
        err_set(e, ERR_INPUT, "%.200s: its JSON is longer than %d MiB", name, IMPORT_JSON_MAX >> 20);
    else if (!tamed)
        err_set(e, ERR_MEMORY, "%.200s: out of memory", name);
    else if (!o)
        err_set(e, ERR_INPUT, "%.200s:%d:%d: no JSON: %.200s", name, wrong.line, wrong.column, wrong.text);
    free(clean);
    free(tamed);
    return o;
}

/* --- a picture of ours -------------------------------------------------------------------- */

static void read_record(struct import_work *w, json_t *o)
{
    const char *key;
    json_t *v;
    long long width = json_integer_value(json_object_get(o, "width"));
    long long height = json_integer_value(json_object_get(o, "height"));
    char size[48];
    w->im->kind = IMPORT_SLUICE;
    snprintf(size, sizeof size, "%lldx%lld", width, height);
    if (width && height)
        import_take(w, "size", "size", size, size, NULL);
    json_object_foreach(o, key, v) {
        const struct setting *s = setting_find(key);
        char *text = import_text(v);
        if (!text)
            import_leave(w, key, "", "it has no value");
        else if (!strcmp(key, "program"))
            snprintf(w->im->program, sizeof w->im->program, "%.60s", text);
        else if (!strcmp(key, "model"))
            import_model(w, key, text);
        else if (!strcmp(key, "steps_done"))
            import_leave(w, key, text, "the picture was stopped there: it will be finished now");
        else if (!strcmp(key, "init_latents"))
            import_leave(w, key, text, "a file that the picture began with: give it as an option");
        else if (s && s->scope & SETTING_PRESET)
            import_take(w, key, key, text, text, NULL);
        else if (s)
            import_leave(w, key, text, "it is of a profile, and changes the picture: set it there");
        else if (strcmp(key, "width") && strcmp(key, "height"))
            import_leave(w, key, text, "there is no such setting");
        free(text);
    }
}

/* --- a picture ----------------------------------------------------------------------------- */

static void read_parameters(struct import_work *w, const char *text)
{
    w->im->kind = IMPORT_A1111;
    import_a1111(w, text);
}

/* The text of that key if it is JSON. */
static json_t *png_json(struct import_work *w, const char *data, size_t bytes, const char *key)
{
    char *text;
    struct err none = { 0 };
    if (!image_text_memory(data, bytes, w->im->path, key, &text, &none) || !text)
        return NULL;
    json_t *o = import_json(text, strlen(text), w->im->path, NULL);
    free(text);
    return o;
}

static bool read_png(struct import_work *w, const char *data, size_t bytes)
{
    struct import *im = w->im;
    char *text;
    if (!image_text_memory(data, bytes, im->path, "parameters", &text, w->e))
        return false;
    json_t *ours = png_json(w, data, bytes, "sluice"), *prompt = png_json(w, data, bytes, "prompt"), *workflow = NULL;
    bool found = true;
    if (json_is_object(ours))
        read_record(w, ours);
    else if (import_comfy(w, prompt))
        im->kind = IMPORT_COMFY;
    else if (text && strlen(text) <= IMPORT_JSON_MAX && import_is_a1111(text))
        read_parameters(w, text);
    else if (import_workflow(w, workflow = png_json(w, data, bytes, "workflow")))
        im->kind = IMPORT_COMFY;
    else
        found = false;
    json_decref(ours);
    json_decref(prompt);
    json_decref(workflow);
    free(text);
    if (!found)
        err_set(w->e, ERR_INPUT, "%.200s: this picture does not say how it was made: no text of sluice, A1111, Forge "
                "or ComfyUI in it", im->path);
    return found;
}

/* --- presets and templates ------------------------------------------------------------------ */

/* An article's template: the rows of it that say what a picture is. */
static bool take_template(struct import_work *w, struct profile *p)
{
    struct yaml_faults none = { 0 };
    struct sheet_source source = { w->im->path, SETTING_PRESET, NULL, &none };
    w->im->kind = IMPORT_TEMPLATE;
    snprintf(w->im->program, sizeof w->im->program, "a template");
    for (int i = 0; i < p->rows.count; i++) {
        const struct sheet_row *r = &p->rows.row[i];
        struct yaml_entry entry = { .kind = YAML_TEXT, .key = r->key, .text = r->value, .line = r->line,
                                    .column = r->column };
        if (r->setting && r->setting->scope & SETTING_PRESET)
            sheet_take_as(&w->im->preset.rows, &source, &entry, r->setting, r->text, r->why, w->e);
        else
            import_leave(w, r->key, r->value, "%s", r->why ? r->why : "it is of a profile");
    }
    return true;
}

static bool read_yaml(struct import_work *w, const char *path, struct yaml_faults *f)
{
    struct profile p = { 0 };
    struct yaml_faults of_template = { 0 };
    struct err none = { 0 };
    bool template = profile_load(&p, path, &of_template, &none) && p.foreign;
    bool ok = template ? take_template(w, &p) : preset_load(&w->im->preset, path, f, w->e);
    if (!template && p.foreign) { /* its faults are a template's */
        *f = of_template;
        *w->e = none;
    }
    profile_free(&p);
    if (ok && !template)
        w->im->kind = IMPORT_PRESET;
    return ok;
}

/* --- all ------------------------------------------------------------------------------------ */

/* A preset is called as its file. */
static void name_it(struct import *im)
{
    const char *slash = strrchr(im->path, '/'), *name = slash ? slash + 1 : im->path;
    const char *dot = strrchr(name, '.');
    char *clean = yaml_clean(name, dot && dot != name ? (size_t)(dot - name) : strlen(name));
    size_t n = clean ? strlen(clean) : 0;
    if (n >= PRESET_NAME_MAX)
        for (n = PRESET_NAME_MAX - 1; n && ((unsigned char)clean[n] & 0xc0) == 0x80; n--) {}
    snprintf(im->stem, sizeof im->stem, "%.*s", (int)n, n ? clean : "");
    for (char *c = im->stem; *c; c++)
        if (*c == '\n' || *c == '\t')
            *c = ' ';
    free(clean);
    if (!im->stem[0])
        strcpy(im->stem, "imported");
    memcpy(im->preset.name, im->stem, sizeof im->stem);
}

/* Settings that are right alone and wrong together: a complaint begins with the name of one of them. */
static void check(struct import_work *w)
{
    struct sheet *rows = &w->im->preset.rows;
    bool good = false;
    while (!good && !w->e->kind) {
        struct job j;
        struct err wrong = { 0 };
        char notice[256];
        int at = rows->count - 1;
        if (!sheet_job(&j, w->e) || !sheet_apply(rows, &j, w->e))
            good = true;
        else
            good = job_check(&j, notice, &wrong) || !rows->count;
        job_free(&j);
        if (good)
            break;
        for (int i = 0; i < rows->count; i++)
            if (!strncmp(wrong.text, rows->row[i].setting->name, strlen(rows->row[i].setting->name)))
                at = i;
        import_leave(w, rows->row[at].key, rows->row[at].value, "%s", wrong.text);
        sheet_remove(rows, at);
    }
}

bool import_bytes(struct import *im, const char *path, const char *data, size_t bytes, struct yaml_faults *f,
                  struct err *e)
{
    struct err own = { 0 };
    struct import_work w = { im, e ? e : &own };
    size_t front = strspn(data, " \t\r\n");
    json_t *o = NULL;
    bool ok = true;
    *im = (struct import){ 0 };
    snprintf(im->path, sizeof im->path, "%s", path);
    name_it(im);
    if (bytes >= 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8)) {
        ok = read_png(&w, data, bytes);
    } else if (bytes >= 12 && (!memcmp(data, "\xff\xd8\xff", 3) || !memcmp(data + 8, "WEBP", 4))) {
        ok = err_set(w.e, ERR_INPUT, "%.200s: a JPEG or WebP picture: what it was made with is read from PNGs only",
                     path);
    } else if (data[front] == '{' && (o = import_json(data, bytes, path, NULL)) && !json_object_get(o, "sluice")) {
        const json_t *program = json_object_get(o, "program");
        if (program && !strncmp(json_string_value(program) ? json_string_value(program) : "", "sluice", 6))
            read_record(&w, o);
        else if (import_comfy(&w, json_object_get(o, "prompt")) || import_comfy(&w, o) || import_workflow(&w, o))
            im->kind = IMPORT_COMFY;
        else
            ok = read_yaml(&w, path, f);
    } else if (strlen(data) == bytes && bytes <= IMPORT_JSON_MAX && import_is_a1111(data)) {
        read_parameters(&w, data);
    } else {
        ok = read_yaml(&w, path, f);
    }
    json_decref(o);
    if (ok && im->kind != IMPORT_PRESET) {
        snprintf(im->preset.path, sizeof im->preset.path, "%s", path);
        if (!im->program[0])
            snprintf(im->program, sizeof im->program, "%s",
                     im->kind == IMPORT_COMFY ? "ComfyUI" : im->kind == IMPORT_SLUICE ? "sluice" : "A1111's kind");
        snprintf(im->preset.about, sizeof im->preset.about, "from a %s of %s",
                 im->kind == IMPORT_TEMPLATE ? "file" : "picture",
                 im->kind == IMPORT_TEMPLATE ? "another program" : im->program);
        check(&w);
        if (!w.e->kind && !im->preset.rows.count)
            err_set(w.e, ERR_INPUT, "%.200s: nothing in it could be made a setting", path);
    }
    return ok && !w.e->kind;
}

bool import_read(struct import *im, const char *path, struct yaml_faults *f, struct err *e)
{
    size_t bytes;
    *im = (struct import){ 0 };
    char *data = file_read(path, IMPORT_FILE_MAX, &bytes, e);
    bool ok = data && import_bytes(im, path, data, bytes, f, e);
    free(data);
    return ok;
}

void import_free(struct import *im)
{
    for (int i = 0; i < im->left_count; i++) {
        free(im->left[i].key);
        free(im->left[i].value);
        free(im->left[i].why);
    }
    free(im->left);
    im->left = NULL;
    im->left_count = 0;
    preset_free(&im->preset);
}

/* A preset's own text, with that name in it if it can be. */
static char *preset_copy(const struct import *im, const char *title, struct err *e)
{
    size_t bytes;
    char *text = file_read(im->path, YAML_BYTES_MAX, &bytes, e);
    char *renamed = text && title ? preset_retitled(text, title, e) : NULL;
    if (!renamed)
        return text;
    free(text);
    return renamed;
}

bool import_keep(struct import *im, const char *as, char name[SHELF_NAME_MAX], struct err *e)
{
    char folder[FILE_PATH_MAX], title[PRESET_NAME_MAX];
    if (as && strlen(as) >= sizeof title)
        return err_set(e, ERR_INPUT, "\"%.40s...\" is longer than %zu bytes", as, sizeof title - 1);
    snprintf(title, sizeof title, "%s", as ? as : im->stem);
    if (!shelf_slug(name, title))
        return err_set(e, ERR_INPUT, "\"%s\" has nothing that can stand in a file's name: choose another name", title);
    if (as && im->kind != IMPORT_PRESET)
        memcpy(im->preset.name, title, sizeof title);
    if (shelf_own_is(SHELF_PRESETS, name))
        return err_set(e, ERR_INPUT, "there is a preset %s already: choose another name", name);
    char *text = im->kind == IMPORT_PRESET ? preset_copy(im, as, e) : preset_text(&im->preset, e);
    bool ok = text && shelf_own_write(SHELF_PRESETS, name, text, false, e) && shelf_folder(folder, SHELF_PRESETS, e) &&
              preset_profile_along(&im->preset, folder, e);
    free(text);
    return ok;
}
