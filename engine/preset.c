/* preset.c - see preset.h. */
#include "engine/preset.h"

#include "engine/hash.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = { "sluice", "name", "about", "model", "profile", NULL };

/* --- the prompt's place for words ----------------------------------------------------------- */

struct place {
    int count;         /* 0: it has none */
    size_t begin, end; /* in the text with its place filled */
};

/* `of` with its place filled; words NULL: what stands in it. malloc'd; NULL without e set: *wrong says why the braces
 * are. */
static char *fill(const char *of, const char *words, struct place *place, const char **wrong, struct err *e)
{
    char *text = malloc(strlen(of) + (words ? strlen(words) : 0) + 1), *to = text;
    bool inside = false;
    *place = (struct place){ 0 };
    *wrong = NULL;
    if (!text) {
        err_set(e, ERR_MEMORY, "out of memory");
        return NULL;
    }
    for (const char *s = of; *s && !*wrong; s++) {
        bool twice = (*s == '{' || *s == '}') && s[1] == *s;
        s += twice;
        if (twice || (*s != '{' && *s != '}')) {
            if (!inside || !words)
                *to++ = *s;
        } else if (*s == '{' && place->count) {
            *wrong = "a second {...}: there is one place for words";
        } else if (*s == '}' && !inside) {
            *wrong = "a } without its {";
        } else {
            inside = *s == '{';
            place->count += inside;
            if (inside)
                place->begin = (size_t)(to - text);
            if (inside && words)
                to = stpcpy(to, words);
            if (!inside)
                place->end = (size_t)(to - text);
        }
    }
    *to = '\0';
    if (inside && !*wrong)
        *wrong = "a { without its }";
    if (!*wrong)
        return text;
    free(text);
    return NULL;
}

static const char *prompt_of(const struct preset *p)
{
    const struct sheet_row *row = sheet_find(&p->rows, setting_find("prompt"));
    return row ? row->text : "";
}

char *preset_prompt(const struct preset *p, const char *words, struct err *e)
{
    struct place place;
    const char *wrong;
    char *text = fill(prompt_of(p), words, &place, &wrong, e);
    if (!text || !words || place.count)
        return text;
    free(text);
    text = strdup(words);
    if (!text)
        err_set(e, ERR_MEMORY, "out of memory");
    return text;
}

bool preset_has_place(const struct preset *p)
{
    struct place place;
    const char *wrong;
    free(fill(prompt_of(p), NULL, &place, &wrong, NULL));
    return place.count;
}

char *preset_words(const struct preset *p, const char *prompt, struct err *e)
{
    struct place place;
    const char *wrong;
    char *text = fill(prompt_of(p), NULL, &place, &wrong, e), *words = NULL;
    if (text && place.count) {
        const char *tail = text + place.end;
        size_t all = strlen(prompt), after = strlen(tail);
        bool its = all >= place.begin + after && !strncmp(prompt, text, place.begin) &&
                   !strcmp(prompt + all - after, tail);
        if (its && !(words = strndup(prompt + place.begin, all - after - place.begin)))
            err_set(e, ERR_MEMORY, "out of memory");
    }
    free(text);
    return words;
}

static bool check_prompt(const struct preset *p, const struct sheet_source *s, struct err *e)
{
    struct place place;
    const char *wrong;
    char *text = fill(prompt_of(p), NULL, &place, &wrong, e);
    const struct sheet_row *row = sheet_find(&p->rows, setting_find("prompt"));
    if (wrong)
        yaml_fault(s->f, s->file, row->line, row->column, "prompt has %s; a brace of its own is written {{ or }}",
                   wrong);
    free(text);
    return text || wrong;
}

/* --- model ---------------------------------------------------------------------------------- */

/* A path that cannot leave the folder it is under. */
static bool stays_within(const char *path)
{
    for (const char *part = path; part; part = strchr(part, '/')) {
        part += *part == '/' && part != path;
        size_t n = strcspn(part, "/");
        if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && !strncmp(part, "..", 2)))
            return false;
        if (!part[n])
            return true;
    }
    return false;
}

static bool read_hash(struct preset *p, const struct sheet_source *s, const struct yaml_entry *v, struct err *e)
{
    char hex[PRESET_HASH_HEX + 1];
    if (!stays_within(v->key)) {
        sheet_fault_key(s, v, "\"%.60s\" is no path within the model's folder", v->key);
        return true;
    }
    const char *text = sheet_text(s, v);
    if (!text)
        return true;
    if (strlen(text) != PRESET_HASH_HEX || strspn(text, "0123456789abcdefABCDEF") != PRESET_HASH_HEX) {
        sheet_fault(s, v, "no SHA-256: %d hexadecimal digits are expected", PRESET_HASH_HEX);
        return true;
    }
    for (int i = 0; i <= PRESET_HASH_HEX; i++)
        hex[i] = (char)tolower((unsigned char)text[i]);
    struct preset_hash *grown = realloc(p->hash, (size_t)(p->hash_count + 1) * sizeof *grown);
    char *file = grown ? strdup(v->key) : NULL;
    if (grown)
        p->hash = grown;
    if (!file)
        return err_set(e, ERR_MEMORY, "%.200s: out of memory", s->file);
    struct preset_hash *to = &p->hash[p->hash_count++];
    to->file = file;
    memcpy(to->sha256, hex, sizeof hex);
    return true;
}

static bool read_model(struct preset *p, const struct sheet_source *s, const struct yaml_entry *model, struct err *e)
{
    const struct yaml_entry *hashes = NULL, *name = NULL;
    if (model->kind != YAML_MAP) {
        if (model->kind != YAML_REFUSED)
            sheet_fault(s, model, "model is no map: write name, and sha256 if it is to be checked, below it");
        return true;
    }
    for (const struct yaml_entry *v = model->first; v; v = v->next)
        if (!strcmp(v->key, "name"))
            name = v;
        else if (!strcmp(v->key, "sha256"))
            hashes = v;
        else
            sheet_fault_key(s, v, "model has no \"%.60s\": it has name and sha256", v->key);
    if (!name)
        sheet_fault(s, model, "model has no name");
    else if (sheet_line(s, name, p->model, sizeof p->model) && !shelf_is_name(p->model))
        sheet_fault(s, name, "\"%.64s\" is no model's name: it is made of letters, digits and -_., and is no path",
                    p->model);
    if (hashes && hashes->kind != YAML_MAP && hashes->kind != YAML_REFUSED)
        sheet_fault(s, hashes, "sha256 is no map: write \"file: hash\" lines below it");
    bool ok = true;
    for (const struct yaml_entry *v = hashes && hashes->kind == YAML_MAP ? hashes->first : NULL; ok && v; v = v->next)
        ok = read_hash(p, s, v, e);
    return ok;
}

bool preset_model_same(const struct preset *p, const char *folder, struct err *e)
{
    for (int i = 0; i < p->hash_count; i++) {
        char path[FILE_PATH_MAX], hex[HASH_HEX];
        struct sha256 found;
        if (!file_join(path, folder, p->hash[i].file, e) || !hash_file(&found, path, NULL, NULL, e))
            return false;
        if (strcmp(hash_hex(&found, hex), p->hash[i].sha256))
            return err_set(e, ERR_INPUT, "%.200s is another file than the preset %.64s was made with: its SHA-256 is "
                           "%s, expected %s", path, p->name, hex, p->hash[i].sha256);
    }
    return true;
}

/* --- profile -------------------------------------------------------------------------------- */

/* Where the profile is, with no way out of the preset's folder, links followed. */
static bool profile_path(char path[FILE_PATH_MAX], const struct sheet_source *s, const struct yaml_entry *v,
                         const char *name)
{
    char folder[FILE_PATH_MAX], real_folder[PATH_MAX], real[PATH_MAX];
    struct err e = { 0 };
    bool is_file = strchr(name, '/') || strstr(name, ".yaml") || strstr(name, ".yml") || strstr(name, ".json");
    if (!is_file)
        return shelf_named(path, SHELF_PROFILES, name, &e) || sheet_fault(s, v, "%s", e.text);
    if (!stays_within(name))
        return sheet_fault(s, v, "\"%.100s\" leaves the preset's folder: the profile has to lie beside it", name);
    file_folder(s->file, folder);
    if (!file_join(path, folder, name, &e))
        return sheet_fault(s, v, "%s", e.text);
    if (!realpath(folder, real_folder) || !realpath(path, real))
        return sheet_fault(s, v, "\"%.100s\": %s", name, strerror(errno));
    size_t n = strlen(real_folder);
    if (strncmp(real, real_folder, n) || (n > 1 && real[n] != '/'))
        return sheet_fault(s, v, "\"%.100s\" is a link out of the preset's folder", name);
    return file_exists(path) || sheet_fault(s, v, "\"%.100s\" is no regular file", name);
}

static bool read_profile(struct preset *p, const struct sheet_source *s, const struct yaml_entry *v, struct err *e)
{
    char name[256], path[FILE_PATH_MAX];
    if (!sheet_line(s, v, name, sizeof name) || !profile_path(path, s, v, name))
        return true;
    struct err wrong = { 0 };
    p->has_profile = profile_load(&p->profile, path, s->f, &wrong);
    if (wrong.kind == ERR_MEMORY)
        return err_set(e, ERR_MEMORY, "%s", wrong.text);
    if (p->has_profile && p->profile.foreign)
        sheet_fault(s, v, "%s is a template of another program and sets the picture, too: name another", name);
    return true;
}

/* --- all ------------------------------------------------------------------------------------ */

static bool read_all(struct preset *p, const struct sheet_source *s, const struct yaml_entry *root, struct err *e)
{
    bool ok = true;
    sheet_version(s, root);
    if (!sheet_entry(root, "name"))
        sheet_fault(s, root, "the preset has no name");
    for (const struct yaml_entry *v = root->first; ok && v; v = v->next) {
        if (!strcmp(v->key, "name"))
            sheet_line(s, v, p->name, sizeof p->name);
        else if (!strcmp(v->key, "about"))
            sheet_line(s, v, p->about, sizeof p->about);
        else if (!strcmp(v->key, "model"))
            ok = read_model(p, s, v, e);
        else if (!strcmp(v->key, "profile"))
            ok = read_profile(p, s, v, e);
        else if (strcmp(v->key, "sluice"))
            ok = sheet_take(&p->rows, s, v, e);
    }
    return ok && check_prompt(p, s, e) && sheet_check(&p->rows, NULL, s, e);
}

bool preset_load(struct preset *p, const char *path, struct yaml_faults *f, struct err *e)
{
    *p = (struct preset){ 0 };
    snprintf(p->path, sizeof p->path, "%s", path);
    struct yaml_entry *root = yaml_read(path, f, e);
    struct sheet_source s = { path, SETTING_PRESET, keys, f };
    bool ok = root && read_all(p, &s, root, e);
    yaml_entry_free(root);
    return yaml_faultless(f, e) && ok;
}

void preset_free(struct preset *p)
{
    for (int i = 0; i < p->hash_count; i++)
        free(p->hash[i].file);
    free(p->hash);
    p->hash = NULL;
    p->hash_count = 0;
    sheet_free(&p->rows);
    profile_free(&p->profile);
}

bool preset_apply(const struct preset *p, struct job *j, struct err *e)
{
    char *prompt = sheet_apply(&p->rows, j, e) ? preset_prompt(p, NULL, e) : NULL;
    bool ok = prompt && job_set_string(&j->prompt, prompt, e);
    free(prompt);
    return ok;
}
