/* yaml.c - see yaml.h. libyaml makes events; here they become a tree. */
#include "engine/yaml.h"

#include "engine/file.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <yaml.h>

/* --- faults --------------------------------------------------------------------------- */

/* Is x, a fault of the same file, further down in it than y? */
static bool is_after(const struct yaml_fault *x, const struct yaml_fault *y, const char *file)
{
    size_t n = strnlen(file, 200);
    bool same = !strncmp(x->text, file, n) && x->text[n] == ':';
    return same && y->line && (x->line > y->line || (x->line == y->line && x->column > y->column));
}

bool yaml_fault(struct yaml_faults *f, const char *file, int line, int column, const char *fmt, ...)
{
    if (f->count == YAML_FAULTS_MAX)
        return false;
    struct yaml_fault new = { .line = line, .column = column };
    struct err e = { 0 };
    char reason[YAML_FAULT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    if (line)
        err_set(&e, ERR_INPUT, "%.200s:%d:%d: %s", file, line, column, reason); /* err_set cleans */
    else
        err_set(&e, ERR_INPUT, "%.200s: %s", file, reason);
    snprintf(new.text, sizeof new.text, "%s", e.text);
    int i = f->count++;
    for (; i && is_after(&f->at[i - 1], &new, file); i--)
        f->at[i] = f->at[i - 1];
    f->at[i] = new;
    return false;
}

bool yaml_faultless(const struct yaml_faults *f, struct err *e)
{
    if (f->count > 1)
        return err_set(e, ERR_INPUT, "%.400s (and %s%d more)", f->at[0].text,
                       f->count == YAML_FAULTS_MAX ? "at least " : "", f->count - 1);
    return !f->count || err_set(e, ERR_INPUT, "%s", f->at[0].text);
}

/* --- characters ----------------------------------------------------------------------- */

/* What a character is refused as; NULL: it is fine. U+0085, U+2028 and U+2029
 * are line breaks to YAML and to hardly anything else. */
static const char *refused_as(int32_t c)
{
    if (c == 0)
        return "a 0 byte";
    if ((c < 0x20 && c != '\t' && c != '\n') || (c >= 0x7f && c < 0xa0))
        return "a control character";
    if (c == 0x2028 || c == 0x2029)
        return "a line separator: use an ordinary new line";
    if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
        return "a character that turns the direction of reading";
    if (c == 0xfeff)
        return "a byte order mark";
    return NULL;
}

/* What the first character of s is refused as; NULL: it is fine. It is *c, of *n bytes. */
static const char *check_character(const char *s, size_t bytes, size_t *n, int32_t *c)
{
    utf8proc_ssize_t length = utf8proc_iterate((const uint8_t *)s, (utf8proc_ssize_t)bytes, c);
    *n = length > 0 ? (size_t)length : 1;
    if (length <= 0)
        return "not UTF-8";
    return *c == '\r' && bytes > 1 && s[1] == '\n' ? NULL : refused_as(*c);
}

static size_t bom_bytes(const char *data, size_t bytes)
{
    return bytes >= 3 && !memcmp(data, "\xef\xbb\xbf", 3) ? 3 : 0;
}

static bool check_characters(const char *file, const char *data, size_t bytes, struct yaml_faults *f)
{
    int line = 1, column = 1, before = f->count;
    size_t n;
    int32_t c;
    for (size_t i = bom_bytes(data, bytes); i < bytes; i += n) {
        const char *why = check_character(data + i, bytes - i, &n, &c);
        if (why && c <= 0) /* a binary file has no end of them */
            return yaml_fault(f, file, line, column, "%s: this is no text file", why);
        if (why)
            yaml_fault(f, file, line, column, "%s (U+%04X)", why, (unsigned)c);
        column = data[i] == '\n' ? 1 : column + 1;
        line += data[i] == '\n';
    }
    return f->count == before;
}

char *yaml_clean(const char *text, size_t bytes)
{
    char *clean = malloc(3 * bytes + 1), *to = clean;
    size_t n;
    int32_t c;
    for (size_t i = 0; clean && i < bytes; i += n) {
        const char *why = check_character(text + i, bytes - i, &n, &c);
        if (why && c < 0)
            to = stpcpy(to, "\xef\xbf\xbd");
        else if (!why && c != '\r')
            to = mempcpy(to, text + i, n);
    }
    if (clean)
        *to = '\0';
    return clean;
}

/* --- the tree ------------------------------------------------------------------------- */

struct reader {
    yaml_parser_t parser;
    const char *file;
    struct yaml_faults *f;
    struct err *e; /* set: memory was refused */
    bool stop;     /* nothing further can be read */
};

static struct yaml_entry *read_value(struct reader *r, const yaml_event_t *ev, int depth);

void yaml_entry_free(struct yaml_entry *root)
{
    while (root) {
        struct yaml_entry *next = root->next;
        yaml_entry_free(root->first);
        free(root->key);
        free(root->text);
        free(root);
        root = next;
    }
}

static void no_memory(struct reader *r)
{
    err_set(r->e, ERR_MEMORY, "%.200s: out of memory", r->file);
    r->stop = true;
}

static void fault_at(struct reader *r, yaml_mark_t at, const char *what)
{
    yaml_fault(r->f, r->file, (int)at.line + 1, (int)at.column + 1, "%s", what);
}

static void fault_and_stop(struct reader *r, yaml_mark_t at, const char *what)
{
    fault_at(r, at, what);
    r->stop = true;
}

/* The next event, or false: the reader has stopped. Delete ev in either case. */
static bool next(struct reader *r, yaml_event_t *ev)
{
    const yaml_parser_t *p = &r->parser;
    memset(ev, 0, sizeof *ev);
    if (r->stop || yaml_parser_parse(&r->parser, ev))
        return !r->stop;
    if (p->error == YAML_MEMORY_ERROR) {
        no_memory(r);
        return false;
    }
    char what[200];
    const char *context = p->error == YAML_READER_ERROR ? NULL : p->context;
    snprintf(what, sizeof what, "%s%s%s", p->problem ? p->problem : "cannot be read", context ? " " : "",
             context ? context : "");
    fault_and_stop(r, p->error == YAML_READER_ERROR ? p->mark : p->problem_mark, what);
    return false;
}

static const char *marks_of(const yaml_event_t *ev)
{
    const yaml_char_t *anchor = NULL, *tag = NULL;
    switch (ev->type) {
    case YAML_ALIAS_EVENT: return "an alias (*name): write the value out";
    case YAML_SCALAR_EVENT: anchor = ev->data.scalar.anchor, tag = ev->data.scalar.tag; break;
    case YAML_MAPPING_START_EVENT: anchor = ev->data.mapping_start.anchor, tag = ev->data.mapping_start.tag; break;
    case YAML_SEQUENCE_START_EVENT: anchor = ev->data.sequence_start.anchor, tag = ev->data.sequence_start.tag; break;
    default: break;
    }
    return anchor ? "an anchor (&name): write the value out" : tag ? "a tag (!name): values are plain text" : NULL;
}

/* Escapes such as "\e" make what the file's own bytes did not hold. */
static const char *text_fault(const char *text, size_t bytes)
{
    size_t n;
    int32_t c;
    const char *why = NULL;
    for (size_t i = 0; i < bytes && !why; i += n)
        why = check_character(text + i, bytes - i, &n, &c);
    return why;
}

/* The scalar's text. NULL: it has none, or *why says what is wrong with it, or memory was refused. */
static char *take_text(struct reader *r, const yaml_event_t *ev, const char **why)
{
    const char *text = (const char *)ev->data.scalar.value;
    size_t bytes = ev->data.scalar.length;
    bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    *why = text_fault(text, bytes);
    if (*why || (plain && (!bytes || !strcmp(text, "~") || !strcmp(text, "null"))))
        return NULL;
    char *copy = strdup(text);
    if (!copy)
        no_memory(r);
    return copy;
}

/* A map's key from its event. NULL: the reader has stopped. */
static char *read_key(struct reader *r, const yaml_event_t *ev)
{
    const char *why = marks_of(ev);
    char *key = NULL;
    if (!why && ev->type != YAML_SCALAR_EVENT)
        why = "a key that is no text";
    if (!why)
        key = take_text(r, ev, &why);
    if (!key && !r->stop)
        fault_and_stop(r, ev->start_mark, why ? why : "an empty key");
    return key;
}

/* What ev begins, within parent. NULL: the reader has stopped. */
static struct yaml_entry *read_entry(struct reader *r, const struct yaml_entry *parent, yaml_event_t *ev, int depth)
{
    if (parent->kind == YAML_LIST)
        return read_value(r, ev, depth);
    yaml_mark_t at = ev->start_mark;
    char *key = read_key(r, ev);
    struct yaml_entry *value = NULL;
    yaml_event_delete(ev);
    if (key && next(r, ev))
        value = read_value(r, ev, depth);
    if (!value) {
        free(key);
        return NULL;
    }
    value->key = key;
    value->key_line = (int)at.line + 1;
    value->key_column = (int)at.column + 1;
    const struct yaml_entry *twin = parent->first;
    while (twin && strcmp(twin->key, key))
        twin = twin->next;
    if (twin) {
        yaml_fault(r->f, r->file, value->key_line, value->key_column, "%.60s is here a second time: see line %d", key,
                   twin->key_line);
        value->kind = YAML_REFUSED;
    }
    return value;
}

static void read_entries(struct reader *r, struct yaml_entry *parent, int depth)
{
    struct yaml_entry **end = &parent->first;
    yaml_event_t ev;
    for (int n = 0; next(r, &ev); n++) {
        bool ends = ev.type == YAML_MAPPING_END_EVENT || ev.type == YAML_SEQUENCE_END_EVENT;
        if (!ends && n == YAML_ENTRIES_MAX)
            fault_and_stop(r, ev.start_mark, "too many entries");
        else if (!ends)
            *end = read_entry(r, parent, &ev, depth);
        yaml_event_delete(&ev);
        if (ends || !*end)
            return;
        end = &(*end)->next;
    }
    yaml_event_delete(&ev);
}

/* The value that ev begins, with all that is in it. NULL: memory was refused. */
static struct yaml_entry *read_value(struct reader *r, const yaml_event_t *ev, int depth)
{
    struct yaml_entry *v = calloc(1, sizeof *v);
    const char *why = marks_of(ev), *bad = NULL;
    if (!v) {
        no_memory(r);
        return NULL;
    }
    v->line = (int)ev->start_mark.line + 1;
    v->column = (int)ev->start_mark.column + 1;
    switch (ev->type) {
    case YAML_SCALAR_EVENT: v->text = take_text(r, ev, &bad); break;
    case YAML_MAPPING_START_EVENT: v->kind = YAML_MAP; break;
    case YAML_SEQUENCE_START_EVENT: v->kind = YAML_LIST; break;
    default: break;
    }
    if (why || bad)
        fault_at(r, ev->start_mark, why ? why : bad);
    if ((v->kind == YAML_MAP || v->kind == YAML_LIST) && depth == YAML_DEPTH_MAX)
        fault_and_stop(r, ev->start_mark, "nested deeper than anything here is");
    else if (v->kind == YAML_MAP || v->kind == YAML_LIST)
        read_entries(r, v, depth + 1);
    if (why || bad)
        v->kind = YAML_REFUSED;
    return v;
}

/* Past the stream's and the document's beginning to the root's event. */
static bool find_root(struct reader *r, yaml_event_t *ev)
{
    while (next(r, ev)) {
        yaml_event_type_t type = ev->type;
        if (type == YAML_STREAM_END_EVENT)
            fault_and_stop(r, ev->start_mark, "the file is empty");
        else if (type == YAML_DOCUMENT_START_EVENT &&
                 ev->data.document_start.tag_directives.start != ev->data.document_start.tag_directives.end)
            fault_and_stop(r, ev->start_mark, "a %TAG directive: values are plain text");
        else if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT)
            return true;
        yaml_event_delete(ev);
    }
    return false;
}

static void check_end(struct reader *r)
{
    yaml_event_t ev;
    while (next(r, &ev)) {
        if (ev.type == YAML_DOCUMENT_START_EVENT)
            fault_and_stop(r, ev.start_mark, "a second document: a file holds one");
        r->stop |= ev.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&ev);
    }
}

struct yaml_entry *yaml_parse(const char *file, const char *data, size_t bytes, struct yaml_faults *f, struct err *e)
{
    struct err own = { 0 };
    struct reader r = { .file = file, .f = f, .e = e ? e : &own };
    struct yaml_entry *root = NULL;
    yaml_event_t ev;
    if (bytes > YAML_BYTES_MAX) {
        yaml_fault(f, file, 0, 0, "longer than %d KiB", YAML_BYTES_MAX / 1024);
        return NULL;
    }
    if (!check_characters(file, data, bytes, f))
        return NULL;
    if (!yaml_parser_initialize(&r.parser)) {
        no_memory(&r);
        return NULL;
    }
    /* Told the encoding, libyaml takes a byte order mark for a part of the first key. */
    size_t bom = bom_bytes(data, bytes);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)data + bom, bytes - bom);
    if (find_root(&r, &ev)) {
        if (ev.type == YAML_MAPPING_START_EVENT)
            root = read_value(&r, &ev, 0);
        else
            fault_and_stop(&r, ev.start_mark, "this is no map: write lines of \"name: value\"");
        yaml_event_delete(&ev);
        check_end(&r);
    }
    yaml_parser_delete(&r.parser);
    if (r.e->kind || (root && root->kind != YAML_MAP)) {
        yaml_entry_free(root);
        return NULL;
    }
    return root;
}

struct yaml_entry *yaml_read(const char *path, struct yaml_faults *f, struct err *e)
{
    struct err why = { 0 };
    size_t bytes;
    char *data = file_read(path, YAML_BYTES_MAX, &bytes, &why);
    struct yaml_entry *root = data ? yaml_parse(path, data, bytes, f, e) : NULL;
    if (why.kind == ERR_MEMORY) {
        err_set(e, ERR_MEMORY, "%s", why.text);
    } else if (why.kind) {
        const char *reason = why.text; /* it begins with the path, which a fault puts there itself */
        size_t n = strlen(path);
        if (!strncmp(reason, path, n) && !strncmp(reason + n, ": ", 2))
            reason += n + 2;
        yaml_fault(f, path, 0, 0, "%s", reason);
    }
    free(data);
    return root;
}
