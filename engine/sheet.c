/* sheet.c - see sheet.h. */
#include "engine/sheet.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 32 }; /* longer than any key that could be meant */

bool sheet_fault(const struct sheet_source *s, const struct yaml_entry *at, const char *fmt, ...)
{
    char text[YAML_FAULT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return yaml_fault(s->f, s->file, at->line, at->column, "%s", text);
}

bool sheet_fault_key(const struct sheet_source *s, const struct yaml_entry *at, const char *fmt, ...)
{
    char text[YAML_FAULT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return yaml_fault(s->f, s->file, at->key_line, at->key_column, "%s", text);
}

/* --- values --------------------------------------------------------------------------- */

const char *sheet_text(const struct sheet_source *s, const struct yaml_entry *v)
{
    switch (v->kind) {
    case YAML_LIST: sheet_fault(s, v, "%.60s is a list: one value is expected", v->key); break;
    case YAML_MAP: sheet_fault(s, v, "%.60s is a map: one value is expected", v->key); break;
    case YAML_REFUSED: break;
    case YAML_TEXT:
        if (v->text)
            return v->text;
        sheet_fault(s, v, "%.60s has no value: an empty text is written \"\"", v->key);
    }
    return NULL;
}

bool sheet_line(const struct sheet_source *s, const struct yaml_entry *v, char *buf, size_t room)
{
    const char *text = sheet_text(s, v);
    if (!text)
        return false;
    size_t n = strcspn(text, "\n");
    if (text[n] && text[n + 1]) /* a block ends with a new line */
        return sheet_fault(s, v, "%.60s is more than one line", v->key);
    if (n >= room)
        return sheet_fault(s, v, "%.60s is longer than %zu bytes", v->key, room - 1);
    snprintf(buf, room, "%.*s", (int)n, text);
    return true;
}

const struct yaml_entry *sheet_entry(const struct yaml_entry *map, const char *key)
{
    const struct yaml_entry *v = map->kind == YAML_MAP ? map->first : NULL; /* a list's have no keys */
    while (v && strcmp(v->key, key))
        v = v->next;
    return v;
}

bool sheet_version(const struct sheet_source *s, const struct yaml_entry *root)
{
    const struct yaml_entry *v = sheet_entry(root, "sluice");
    char version[16];
    if (!v)
        return sheet_fault(s, root, "the line \"sluice: 1\" is missing: it says how the file is to be read");
    if (!sheet_line(s, v, version, sizeof version))
        return false;
    return !strcmp(version, "1") || sheet_fault(s, v, "sluice is \"%s\": this program reads version 1", version);
}

/* --- names ---------------------------------------------------------------------------- */

/* How many letters have to be changed, put in or taken out to make b of a. */
static int distance(const char *a, const char *b)
{
    int row[KEY_MAX + 1], n = (int)strlen(b);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; *a; a++, i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int up = row[j], least = corner + (tolower((unsigned char)*a) != b[j - 1]);
            if (up + 1 < least)
                least = up + 1;
            if (row[j - 1] + 1 < least)
                least = row[j - 1] + 1;
            corner = up;
            row[j] = least;
        }
    }
    return row[n];
}

static void unknown(const struct sheet_source *s, const struct yaml_entry *v)
{
    const char *nearest = NULL;
    int least = 2 + (int)strlen(v->key) / 4; /* two letters exchanged count as two */
    for (int i = 0; strlen(v->key) <= KEY_MAX && i < setting_count(); i++) {
        const struct setting *candidate = setting_at(i);
        int d = candidate->scope & s->scope ? distance(v->key, candidate->name) : least;
        if (d < least)
            least = d, nearest = candidate->name;
    }
    for (int i = 0; strlen(v->key) <= KEY_MAX && s->keys[i]; i++) {
        int d = distance(v->key, s->keys[i]);
        if (d < least)
            least = d, nearest = s->keys[i];
    }
    if (nearest)
        sheet_fault_key(s, v, "there is no \"%.60s\": is %s meant?", v->key, nearest);
    else
        sheet_fault_key(s, v, "there is no \"%.60s\"", v->key);
}

/* A setting that must stand elsewhere. */
static void misplaced(const struct sheet_source *s, const struct yaml_entry *v, const struct setting *setting)
{
    if (setting->scope & SETTING_RUN)
        sheet_fault_key(s, v, "%s is of one run and stands in no file: give it as an option", setting->name);
    else if (setting->scope & SETTING_PRESET)
        sheet_fault_key(s, v, "%s says what a picture is: it belongs in a preset", setting->name);
    else
        sheet_fault_key(s, v, "%s says how memory is used: it belongs in a profile", setting->name);
}

/* --- rows ----------------------------------------------------------------------------- */

/* Blocks of text come with line ends; prompts have none. */
static void unfold(char *text)
{
    size_t n = strlen(text);
    while (n && text[n - 1] == '\n')
        text[--n] = '\0';
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ' ';
}

static void row_free(struct sheet_row *r)
{
    free(r->key);
    free(r->value);
    free(r->text);
}

bool sheet_take_as(struct sheet *to, const struct sheet_source *s, const struct yaml_entry *v,
                   const struct setting *setting, const char *text, const char *why, struct err *e)
{
    struct err wrong = { 0 };
    if (setting && setting_try(setting, text, &wrong) != SETTING_SET) {
        bool renamed = strcmp(setting->name, v->key) != 0;
        sheet_fault(s, v, "%.60s%s%s", renamed ? v->key : "", renamed ? ": " : "", wrong.text);
        return true;
    }
    const struct sheet_row *twin = setting ? sheet_find(to, setting) : NULL;
    if (twin) {
        sheet_fault_key(s, v, "%.60s says again what %.60s says on line %d", v->key, twin->key, twin->line);
        return true;
    }
    struct sheet_row *grown = realloc(to->row, (size_t)(to->count + 1) * sizeof *grown);
    if (grown)
        to->row = grown;
    struct sheet_row row = { setting, strdup(v->key), strdup(v->text), setting ? strdup(text) : NULL, why, v->line,
                             v->column };
    if (!grown || !row.key || !row.value || (setting && !row.text)) {
        row_free(&row);
        return err_set(e, ERR_MEMORY, "%.200s: out of memory", s->file);
    }
    unfold(row.value);
    if (row.text)
        unfold(row.text);
    to->row[to->count++] = row;
    return true;
}

bool sheet_take(struct sheet *to, const struct sheet_source *s, const struct yaml_entry *v, struct err *e)
{
    const struct setting *setting = setting_find(v->key);
    if (!setting)
        unknown(s, v);
    else if (!(setting->scope & s->scope))
        misplaced(s, v, setting);
    const char *text = setting && setting->scope & s->scope ? sheet_text(s, v) : NULL;
    return !text || sheet_take_as(to, s, v, setting, text, NULL, e);
}

bool sheet_apply(const struct sheet *rows, struct job *j, struct err *e)
{
    for (int i = 0; i < rows->count; i++)
        if (rows->row[i].setting && setting_set(j, rows->row[i].setting, rows->row[i].text, e) != SETTING_SET)
            return false;
    return true;
}

const struct sheet_row *sheet_find(const struct sheet *rows, const struct setting *s)
{
    for (int i = 0; i < rows->count; i++)
        if (rows->row[i].setting == s)
            return &rows->row[i];
    return NULL;
}

bool sheet_job(struct job *j, struct err *e)
{
    static const struct model dev = { .defaults = { 1024, 1024, 28, 3.5f } };
    bool ok = job_init(j, &dev, e);
    j->random_seed = true;
    return ok;
}

bool sheet_check(const struct sheet *rows, const struct sheet *more, const struct sheet_source *s, struct err *e)
{
    struct job j;
    struct err wrong = { 0 };
    char notice[256];
    bool ok = sheet_job(&j, e) && sheet_apply(rows, &j, e) && (!more || sheet_apply(more, &j, e));
    if (ok && !job_check(&j, notice, &wrong)) {
        /* it begins with the name of the setting that is to be changed */
        const struct sheet_row *at = NULL;
        for (int k = 0; k < 2 && (k == 0 || more); k++)
            for (int i = 0; i < (k ? more : rows)->count; i++) {
                const struct sheet_row *row = &(k ? more : rows)->row[i];
                if (row->setting && !strncmp(wrong.text, row->setting->name, strlen(row->setting->name)))
                    at = row;
            }
        yaml_fault(s->f, s->file, at ? at->line : 1, at ? at->column : 1, "%s", wrong.text);
    }
    job_free(&j);
    return ok;
}

/* --- changing ------------------------------------------------------------------------- */

static bool row_copy(struct sheet_row *to, const struct sheet_row *from)
{
    *to = *from;
    to->key = strdup(from->key);
    to->value = strdup(from->value);
    to->text = from->text ? strdup(from->text) : NULL;
    if (to->key && to->value && (to->text || !from->text))
        return true;
    row_free(to);
    return false;
}

bool sheet_copy(struct sheet *to, const struct sheet *from)
{
    *to = (struct sheet){ 0 };
    to->row = from->count ? calloc((size_t)from->count, sizeof *to->row) : NULL;
    for (int i = 0; to->row && i < from->count && row_copy(&to->row[i], &from->row[i]); i++)
        to->count++;
    return to->count == from->count;
}

void sheet_remove(struct sheet *rows, int i)
{
    row_free(&rows->row[i]);
    memmove(&rows->row[i], &rows->row[i + 1], (size_t)(--rows->count - i) * sizeof *rows->row);
}

bool sheet_put(struct sheet *rows, const struct setting *s, const char *text)
{
    struct sheet_row made = { .setting = s, .key = (char *)(uintptr_t)s->name, .value = (char *)(uintptr_t)text,
                              .text = (char *)(uintptr_t)text }, new;
    for (int i = 0; i < rows->count; i++)
        if (rows->row[i].setting == s) {
            if (!text) {
                sheet_remove(rows, i);
                return true;
            }
            if (!row_copy(&new, &made))
                return false;
            row_free(&rows->row[i]);
            rows->row[i] = new;
            return true;
        }
    if (!text)
        return true;
    struct sheet_row *grown = realloc(rows->row, (size_t)(rows->count + 1) * sizeof *grown);
    if (!grown)
        return false;
    rows->row = grown;
    if (!row_copy(&grown[rows->count], &made))
        return false;
    rows->count++;
    return true;
}

void sheet_free(struct sheet *rows)
{
    for (int i = 0; i < rows->count; i++)
        row_free(&rows->row[i]);
    free(rows->row);
    *rows = (struct sheet){ 0 };
}
