/* jansson.c - see jansson.h here. */
#include <jansson.h>

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64 };

/* --- values ------------------------------------------------------------------------ */
static json_t *value(json_type type)
{
    json_t *v = calloc(1, sizeof *v);
    if (v) {
        v->type = type;
        v->references = 1;
    }
    return v;
}

void json_decref(json_t *v)
{
    if (!v || --v->references)
        return;
    for (size_t i = 0; i < v->count; i++) {
        json_decref(v->item[i]);
        if (v->key)
            free(v->key[i]);
    }
    free(v->item);
    free(v->key);
    free(v->text);
    free(v);
}

json_t *json_object(void) { return value(JSON_OBJECT); }
json_t *json_array(void) { return value(JSON_ARRAY); }

json_t *json_integer(json_int_t n)
{
    json_t *v = value(JSON_INTEGER);
    if (v) {
        v->integer = n;
        v->real = (double)n;
    }
    return v;
}

json_t *json_string(const char *text)
{
    json_t *v = value(JSON_STRING);
    if (v && !(v->text = strdup(text))) {
        free(v);
        return NULL;
    }
    return v;
}

/* Takes over v, and key (malloc'd, or NULL in an array), in every case. */
static int append(json_t *to, char *key, json_t *v)
{
    bool ok = v && (key || to->type == JSON_ARRAY);
    if (ok && to->count == to->room) {
        size_t room = to->room ? 2 * to->room : 8;
        json_t **item = realloc(to->item, room * sizeof *item);
        to->item = item ? item : to->item;
        char **keys = to->type == JSON_OBJECT ? realloc(to->key, room * sizeof *keys) : NULL;
        to->key = keys ? keys : to->key;
        ok = item && (keys || to->type == JSON_ARRAY);
        to->room = ok ? room : to->room;
    }
    if (!ok) {
        json_decref(v);
        free(key);
        return -1;
    }
    if (key)
        to->key[to->count] = key;
    to->item[to->count++] = v;
    return 0;
}

static size_t find(const json_t *object, const char *key)
{
    size_t i = 0;
    while (i < object->count && strcmp(object->key[i], key))
        i++;
    return i;
}

int json_object_set_new(json_t *object, const char *key, json_t *v)
{
    size_t at = object ? find(object, key) : 0;
    if (!object || !v || at == object->count)
        return object ? append(object, strdup(key), v) : -1;
    json_decref(object->item[at]);
    object->item[at] = v;
    return 0;
}

int json_array_append_new(json_t *array, json_t *v) { return array ? append(array, NULL, v) : -1; }

json_t *json_object_get(const json_t *object, const char *key)
{
    if (!json_is_object(object))
        return NULL;
    size_t at = find(object, key);
    return at < object->count ? object->item[at] : NULL;
}

const char *json_object_key_at(const json_t *object, size_t i)
{
    return i < json_object_size(object) ? object->key[i] : NULL;
}

size_t json_object_size(const json_t *object) { return json_is_object(object) ? object->count : 0; }
size_t json_array_size(const json_t *array) { return json_is_array(array) ? array->count : 0; }
json_t *json_array_get(const json_t *array, size_t i) { return i < json_array_size(array) ? array->item[i] : NULL; }
const char *json_string_value(const json_t *v) { return v && v->type == JSON_STRING ? v->text : NULL; }
json_int_t json_integer_value(const json_t *v) { return json_is_integer(v) ? v->integer : 0; }
double json_number_value(const json_t *v) { return json_is_number(v) ? v->real : 0; }
enum json_error_code json_error_code(const json_error_t *fault)
{
    return fault->text[0] ? json_error_unknown : json_error_out_of_memory;
}

/* --- reading -------------------------------------------------------------------------- */
struct reader {
    const char *at, *end;
    size_t flags;
    int depth;
    const char *fault; /* NULL: none yet, or memory was refused */
};

static json_t *fails(struct reader *r, const char *why)
{
    if (!r->fault)
        r->fault = why;
    return NULL;
}

static void blank(struct reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
}

static bool next(struct reader *r, char c)
{
    blank(r);
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

static char *utf8(char *to, unsigned long c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 63));
        *to++ = (char)(0x80 | (c >> 6 & 63));
        *to++ = (char)(0x80 | (c & 63));
    }
    return to;
}

/* The four digits behind \u; > 0xffff: they are none. */
static unsigned long hex4(struct reader *r)
{
    char digits[5] = { 0 }, *stop;
    if (r->end - r->at < 4)
        return 0x10000;
    memcpy(digits, r->at, 4);
    r->at += 4;
    unsigned long c = strtoul(digits, &stop, 16);
    return *stop ? 0x10000 : c;
}

/* Behind the opening quote. */
static char *read_text(struct reader *r)
{
    const char *end = r->at;
    while (end < r->end && *end != '"')
        end += *end == '\\' && r->end - end > 1 ? 2 : 1;
    char *text = malloc((size_t)(end - r->at) + 1), *to = text;
    if (!text)
        return NULL;
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if (c != '\\' || r->at == r->end) {
            *to++ = c;
            continue;
        }
        static const char names[] = "bfnrt\"\\/", codes[] = "\b\f\n\r\t\"\\/";
        c = *r->at++;
        const char *name = strchr(names, c);
        unsigned long u = 0;
        if (c == 'u' && (u = hex4(r)) >= 0xd800 && u < 0xdc00 && r->end - r->at >= 6 && !memcmp(r->at, "\\u", 2)) {
            r->at += 2;
            u = 0x10000 + ((u - 0xd800) << 10) + (hex4(r) - 0xdc00);
        }
        if ((c == 'u' && (!u || u > 0x10ffff)) || (c != 'u' && !name)) {
            fails(r, "an escape that is none");
            break;
        }
        to = c == 'u' ? utf8(to, u) : (*to = codes[name - names], to + 1);
    }
    *to = '\0';
    if (!r->fault && r->at == r->end)
        fails(r, "a string without its end");
    if (r->fault) {
        free(text);
        return NULL;
    }
    r->at++;
    return text;
}

static json_t *read_number(struct reader *r)
{
    char text[64];
    size_t n = 0;
    bool real = r->flags & JSON_DECODE_INT_AS_REAL;
    while (r->at + n < r->end && n + 1 < sizeof text && strchr("+-.eE0123456789", r->at[n]) && r->at[n]) {
        real = real || strchr(".eE", r->at[n]);
        n++;
    }
    memcpy(text, r->at, n);
    text[n] = '\0';
    char *stop;
    double x = strtod(text, &stop);
    if (!n || *stop || !isfinite(x) || text[0] == '+')
        return fails(r, "no value");
    r->at += n;
    json_t *v = value(real ? JSON_REAL : JSON_INTEGER);
    if (v) {
        v->real = x;
        v->integer = real ? 0 : strtoll(text, NULL, 10);
    }
    return v;
}

static json_t *read_value(struct reader *r);

static json_t *read_items(struct reader *r, json_t *to, char closing)
{
    bool ok = to && ++r->depth < DEPTH;
    if (to && !ok)
        fails(r, "nested too deeply");
    if (ok && next(r, closing)) {
        r->depth--;
        return to;
    }
    while (ok) {
        char *key = NULL;
        if (to->type == JSON_OBJECT) {
            ok = next(r, '"') || fails(r, "no key");
            key = ok ? read_text(r) : NULL;
            ok = key && (next(r, ':') || fails(r, "no ':'"));
            if (ok && (r->flags & JSON_REJECT_DUPLICATES) && find(to, key) < to->count)
                ok = fails(r, "a key twice");
        }
        if (!ok)
            free(key);
        ok = ok && append(to, key, read_value(r)) == 0;
        if (ok && !next(r, ',')) {
            if (!next(r, closing))
                break;
            r->depth--;
            return to;
        }
    }
    fails(r, "no end");
    json_decref(to);
    return NULL;
}

static json_t *read_value(struct reader *r)
{
    static const struct { const char *word; json_type type; } words[] = {
        { "true", JSON_TRUE }, { "false", JSON_FALSE }, { "null", JSON_NULL }
    };
    if (next(r, '{'))
        return read_items(r, json_object(), '}');
    if (next(r, '['))
        return read_items(r, json_array(), ']');
    if (next(r, '"')) {
        char *text = read_text(r);
        json_t *v = text ? value(JSON_STRING) : NULL;
        if (v)
            v->text = text;
        else
            free(text);
        return v;
    }
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(words[i].word);
        if ((size_t)(r->end - r->at) >= n && !memcmp(r->at, words[i].word, n)) {
            r->at += n;
            return value(words[i].type);
        }
    }
    return read_number(r);
}

json_t *json_loadb(const char *text, size_t bytes, size_t flags, json_error_t *fault)
{
    struct reader r = { .at = text, .end = text + bytes, .flags = flags };
    json_t *v = read_value(&r);
    blank(&r);
    if (v && r.at < r.end) {
        json_decref(v);
        v = fails(&r, "something behind the end");
    }
    fault->line = 1;
    for (const char *p = text; p < r.at; p++)
        fault->line += *p == '\n';
    snprintf(fault->text, sizeof fault->text, "%s", v || !r.fault ? "" : r.fault);
    return v;
}

/* --- writing ------------------------------------------------------------------------------ */
static void write_text(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            fprintf(f, "\\u%04x", *text);
        else
            fprintf(f, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    putc('"', f);
}

static void write_value(FILE *f, const json_t *v)
{
    bool object = v->type == JSON_OBJECT;
    switch (v->type) {
    case JSON_OBJECT:
    case JSON_ARRAY:
        putc(object ? '{' : '[', f);
        for (size_t i = 0; i < v->count; i++) {
            if (i)
                putc(',', f);
            if (object) {
                write_text(f, v->key[i]);
                putc(':', f);
            }
            write_value(f, v->item[i]);
        }
        putc(object ? '}' : ']', f);
        break;
    case JSON_STRING: write_text(f, v->text); break;
    case JSON_INTEGER: fprintf(f, "%lld", v->integer); break;
    case JSON_REAL: fprintf(f, "%.17g", v->real); break;
    case JSON_TRUE: fputs("true", f); break;
    case JSON_FALSE: fputs("false", f); break;
    case JSON_NULL: fputs("null", f); break;
    }
}

char *json_dumps(const json_t *v, size_t flags)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = v ? open_memstream(&text, &bytes) : NULL;
    (void)flags;
    if (!f)
        return NULL;
    write_value(f, v);
    if (fclose(f)) {
        free(text);
        return NULL;
    }
    return text;
}

static json_t *pack(const char **at, va_list *ap)
{
    *at += strspn(*at, " ,:");
    char c = *(*at)++;
    if (c == 's')
        return json_string(va_arg(*ap, const char *));
    if (c == 'i')
        return json_integer(va_arg(*ap, int));
    if (c == 'I')
        return json_integer(va_arg(*ap, json_int_t));
    if (c == 'O') {
        json_t *v = va_arg(*ap, json_t *);
        if (v)
            v->references++;
        return v;
    }
    json_t *to = c == '{' ? json_object() : c == '[' ? json_array() : NULL;
    bool ok = to;
    while (to && (*at += strspn(*at, " ,:"), **at && **at != '}' && **at != ']')) {
        char *key = NULL;
        if (c == '{') {
            ++*at;
            key = strdup(va_arg(*ap, const char *));
        }
        ok = append(to, key, pack(at, ap)) == 0 && ok;
    }
    if (to && **at)
        ++*at;
    if (!ok) {
        json_decref(to);
        to = NULL;
    }
    return to;
}

json_t *json_pack(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    json_t *v = pack(&format, &ap);
    va_end(ap);
    return v;
}
