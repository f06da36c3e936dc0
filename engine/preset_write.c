/* preset_write.c - see preset_write.h. */
#include "engine/preset_write.h"

#include "engine/hash.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { LINE_WIDTH = 100 };

static bool no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "out of memory");
}

/* --- text ---------------------------------------------------------------------------------- */

/* Needs no quotes: nothing in it means anything to YAML. */
static bool is_plain(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+ ");
    return *text && !text[n] && isalnum((unsigned char)text[0]) && isalnum((unsigned char)text[n - 1]) &&
        strcmp(text, "null");
}

/* key: text. Long texts are folded at single blanks, which a reader makes of a line's end again. */
static void put(FILE *f, int indent, const char *key, const char *text)
{
    char *clean = yaml_clean(text, strlen(text));
    fprintf(f, "%*s", indent, "");
    if (is_plain(key))
        fprintf(f, "%s: ", key);
    else
        fprintf(f, "\"%s\": ", key); /* a path: read_hash has seen to it that it is harmless */
    int column = LINE_WIDTH;
    if (clean && is_plain(clean)) {
        fprintf(f, "%s\n", clean);
    } else {
        fputc('"', f);
        for (const char *s = clean ? clean : ""; *s; s++) {
            bool blank = *s == ' ' && s[1] && s[1] != ' ' && s > clean && s[-1] != ' ' && s[-1] != '\\' && s[1] != '\\';
            if (blank && column - (int)strcspn(s + 1, " ") <= 0) {
                fprintf(f, "\n%*s", indent + 2, "");
                column = LINE_WIDTH;
                continue;
            }
            if (*s == '"' || *s == '\\')
                fputc('\\', f);
            fputc(*s == '\n' || *s == '\t' ? ' ' : *s, f);
            column--;
        }
        fputs("\"\n", f);
    }
    free(clean);
}

/* How a preset in its folder would name the profile. */
static void profile_word(const struct preset *p, char word[FILE_PATH_MAX])
{
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], name[SHELF_NAME_MAX];
    const char *slash = strrchr(p->profile.path, '/'), *file = slash ? slash + 1 : p->profile.path;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(file, "."), file);
    if (shelf_named(path, SHELF_PROFILES, name, NULL) && !strcmp(path, p->profile.path)) {
        strcpy(word, name);
        return;
    }
    file_folder(p->path, folder);
    size_t n = strlen(folder);
    bool within = !strncmp(p->profile.path, folder, n) && p->profile.path[n] == '/';
    strcpy(word, within ? p->profile.path + n + 1 : file);
}

/* The setting with its own names for values: "euler", which may be written "Euler". */
static bool put_row(FILE *f, const struct sheet_row *r, struct err *e)
{
    struct job j = { 0 };
    char *own = NULL;
    if (r->setting->kind != SETTING_TEXT && setting_set(&j, r->setting, r->text, NULL) == SETTING_SET)
        own = setting_text(&j, r->setting);
    put(f, 0, r->setting->name, own ? own : r->text);
    bool ok = own || r->setting->kind == SETTING_TEXT || no_memory(e);
    free(own);
    return ok;
}

char *preset_text(const struct preset *p, struct err *e)
{
    char *text = NULL, word[FILE_PATH_MAX];
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    bool ok = f || no_memory(e);
    if (!ok)
        return NULL;
    fputs("sluice: 1\n", f);
    put(f, 0, "name", p->name);
    if (*p->about)
        put(f, 0, "about", p->about);
    if (*p->model) {
        fputs("model:\n", f);
        put(f, 2, "name", p->model);
        if (p->hash_count)
            fputs("  sha256:\n", f);
        for (int i = 0; i < p->hash_count; i++)
            put(f, 4, p->hash[i].file, p->hash[i].sha256);
    }
    if (p->has_profile) {
        profile_word(p, word);
        put(f, 0, "profile", word);
    }
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct sheet_row *r = sheet_find(&p->rows, setting_at(i));
        ok = !r || put_row(f, r, e);
    }
    if (fclose(f) || !text)
        ok = no_memory(e);
    if (ok && bytes > YAML_BYTES_MAX)
        ok = err_set(e, ERR_INPUT, "%s: with so long a prompt the preset is %zu bytes: %d at most", p->name, bytes,
                     YAML_BYTES_MAX);
    if (ok)
        return text;
    free(text);
    return NULL;
}

/* --- from a job ------------------------------------------------------------------------------ */

static bool take(struct preset *p, const struct setting *s, const char *text, struct err *e)
{
    struct yaml_faults none = { 0 };
    struct sheet_source source = { p->name, SETTING_PRESET, NULL, &none };
    char *key = strdup(s->name), *value = strdup(text);
    struct yaml_entry entry = { .kind = YAML_TEXT, .key = key, .text = value };
    bool ok = (key && value) || no_memory(e);
    ok = ok && sheet_take_as(&p->rows, &source, &entry, s, text, NULL, e) && yaml_faultless(&none, e);
    free(key);
    free(value);
    return ok;
}

static void put_doubled(FILE *f, const char *text)
{
    for (const char *s = text; *s; s++) {
        fputc(*s, f);
        if (*s == '{' || *s == '}')
            fputc(*s, f);
    }
}

/* The first brace of this kind that is not written twice; the text's end where there is none. */
static const char *single(const char *s, char brace)
{
    for (; *s && (*s != brace || s[1] == brace); s++)
        s += (*s == '{' || *s == '}') && s[1] == *s;
    return s;
}

/* The prompt with its braces written twice; where it is old's with other words, those in old's place for them.
 * malloc'd. */
static char *prompt_text(const char *prompt, const struct preset *old)
{
    const struct sheet_row *row = old ? sheet_find(&old->rows, setting_find("prompt")) : NULL;
    char *words = row ? preset_words(old, prompt, NULL) : NULL, *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (f && words) {
        const char *place = single(row->text, '{');
        fprintf(f, "%.*s{", (int)(place - row->text), row->text);
        put_doubled(f, words);
        fputs(single(place + 1, '}'), f);
    } else if (f) {
        put_doubled(f, prompt);
    }
    free(words);
    return f && !fclose(f) ? text : NULL;
}

static bool always(const struct setting *s)
{
    static const char *const names[] = { "prompt", "size", "steps", "guidance", "sampler", "schedule", NULL };
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], s->name))
            return true;
    return false;
}

static bool take_old(struct preset *p, const struct preset *old, struct err *e)
{
    memcpy(p->path, old->path, sizeof p->path);
    memcpy(p->model, old->model, sizeof p->model);
    memcpy(p->about, old->about, sizeof p->about);
    p->hash = old->hash_count ? calloc((size_t)old->hash_count, sizeof *p->hash) : NULL;
    for (int i = 0; p->hash && i < old->hash_count; i++) {
        p->hash[i] = old->hash[i];
        p->hash[i].file = strdup(old->hash[i].file);
        if (!p->hash[i].file)
            return no_memory(e);
        p->hash_count++;
    }
    if (old->has_profile) { /* only its place is written */
        p->has_profile = true;
        memcpy(p->profile.path, old->profile.path, sizeof p->profile.path);
    }
    return p->hash_count == old->hash_count || no_memory(e);
}

bool preset_from_job(struct preset *p, const struct job *j, const struct preset *old, const char *name, struct err *e)
{
    struct job usual = { 0 };
    *p = (struct preset){ 0 };
    snprintf(p->name, sizeof p->name, "%s", name);
    bool ok = sheet_job(&usual, e) && (!old || take_old(p, old, e));
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (!(s->scope & SETTING_PRESET) || (!always(s) && setting_same(j, &usual, s)))
            continue;
        char *text = strcmp(s->name, "prompt") ? setting_text(j, s) : prompt_text(j->prompt, old);
        ok = text ? !*text || take(p, s, text, e) : no_memory(e);
        free(text);
    }
    job_free(&usual);
    return ok;
}

char *preset_retitled(const char *text, const char *name, struct err *e)
{
    const char *line = text;
    while (line && strncmp(line, "name:", 5))
        line = (line = strchr(line, '\n')) ? line + 1 : NULL;
    const char *after = line ? strchr(line, '\n') : NULL;
    if (!after || after[1] == ' ' || after[1] == '\t') /* JSON, or a name of several lines */
        return NULL;
    char *whole = NULL;
    size_t bytes;
    FILE *f = open_memstream(&whole, &bytes);
    if (!f) {
        no_memory(e);
        return NULL;
    }
    fwrite(text, 1, (size_t)(line - text), f);
    put(f, 0, "name", name);
    fputs(after + 1, f);
    if (fclose(f))
        no_memory(e);
    return whole;
}

/* --- the model's files ----------------------------------------------------------------------- */

static bool add_file(struct preset_files *f, const char *part, const char *name, uint64_t bytes, struct err *e)
{
    struct preset_file *grown = realloc(f->at, (size_t)(f->count + 1) * sizeof *grown);
    if (!grown)
        return no_memory(e);
    f->at = grown;
    if (asprintf(&f->at[f->count].path, "%s/%s", part, name) < 0)
        return no_memory(e);
    f->at[f->count++].bytes = bytes;
    f->bytes += bytes;
    return true;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct preset_file *)a)->path, ((const struct preset_file *)b)->path);
}

bool preset_files(struct preset_files *f, const struct model *m, struct err *e)
{
    bool ok = true;
    *f = (struct preset_files){ 0 };
    for (int part = 0; ok && part < MODEL_PART_COUNT; part++) {
        char folder[MODEL_PATH_MAX], path[FILE_PATH_MAX];
        DIR *d = opendir(model_part_dir(m, (enum model_part)part, folder));
        for (const struct dirent *entry; ok && d && (entry = readdir(d));) {
            const char *dot = strrchr(entry->d_name, '.');
            struct stat st;
            if (dot && (!strcmp(dot, ".safetensors") || !strcmp(entry->d_name, "config.json")) &&
                file_join(path, folder, entry->d_name, NULL) && !stat(path, &st) && S_ISREG(st.st_mode))
                ok = add_file(f, model_part_name((enum model_part)part), entry->d_name, (uint64_t)st.st_size, e);
        }
        if (d)
            closedir(d);
    }
    if (ok && !f->count)
        ok = err_set(e, ERR_INPUT, "%.200s: no files of weights to be named by a preset", m->path);
    if (f->count)
        qsort(f->at, (size_t)f->count, sizeof *f->at, by_path);
    return ok;
}

void preset_files_free(struct preset_files *f)
{
    for (int i = 0; i < f->count; i++)
        free(f->at[i].path);
    free(f->at);
    *f = (struct preset_files){ 0 };
}

bool preset_hash(struct preset *p, const struct model *m, const struct preset_files *f, struct err *e)
{
    for (int i = 0; i < p->hash_count; i++)
        free(p->hash[i].file);
    free(p->hash);
    p->hash_count = 0;
    p->hash = calloc((size_t)f->count + 1, sizeof *p->hash);
    if (!p->hash)
        return no_memory(e);
    for (int i = 0; i < f->count; i++) {
        char path[FILE_PATH_MAX], hex[HASH_HEX];
        struct sha256 sum;
        struct preset_hash *to = &p->hash[i];
        if (!file_join(path, m->path, f->at[i].path, e) || !hash_file(&sum, path, NULL, NULL, e))
            return false;
        if (!(to->file = strdup(f->at[i].path)))
            return no_memory(e);
        p->hash_count++;
        memcpy(to->sha256, hash_hex(&sum, hex), sizeof to->sha256);
    }
    if (!p->model[0] && shelf_is_name(m->name))
        snprintf(p->model, sizeof p->model, "%.63s", m->name);
    return true;
}

bool preset_profile_along(const struct preset *p, const char *to, struct err *e)
{
    char word[FILE_PATH_MAX], path[FILE_PATH_MAX];
    size_t bytes, there;
    if (!p->has_profile)
        return true;
    profile_word(p, word);
    if (!strpbrk(word, "./")) /* on the shelf */
        return true;
    if (strchr(word, '/'))
        return err_set(e, ERR_INPUT, "the profile %.200s lies in a folder of its own: move it beside the preset first",
                       word);
    char *text = file_join(path, to, word, e) ? file_read(p->profile.path, YAML_BYTES_MAX, &bytes, e) : NULL;
    char *other = text && file_exists(path) ? file_read(path, YAML_BYTES_MAX, &there, e) : NULL;
    bool ok = text != NULL;
    if (ok && other && (bytes != there || memcmp(text, other, bytes)))
        ok = err_set(e, ERR_INPUT, "another %.200s is there already: it would have to go along with the preset", path);
    else if (ok && !file_exists(path))
        ok = file_write(path, text, bytes, e);
    free(text);
    free(other);
    return ok;
}
