/* config.c - see config.h. */
#include "engine/config.h"

#include "engine/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *config_parse(const char *text, size_t bytes, size_t flags, const char *path, struct err *e)
{
    json_error_t fault;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | flags, &fault);
    /* jansson gives most refused allocations neither a code nor a text. */
    if (!root && (json_error_code(&fault) == json_error_out_of_memory || !fault.text[0])) {
        err_set(e, ERR_MEMORY, "%s: no memory to read its JSON", path);
    } else if (!root) {
        err_set(e, ERR_DAMAGED, "%s: not valid JSON at line %d: %s; the file is damaged", path,
                fault.line, fault.text);
    } else if (!json_is_object(root)) {
        err_set(e, ERR_DAMAGED, "%s: expected a JSON object { ... }, found another value", path);
        json_decref(root);
        root = NULL;
    }
    return root;
}

json_t *config_read(const char *path, size_t limit, size_t flags, struct err *e)
{
    size_t bytes;
    char *text = file_read(path, limit, &bytes, e);
    if (!text)
        return NULL;
    json_t *root = config_parse(text, bytes, flags, path, e);
    free(text);
    return root;
}

bool config_expected(struct config *c, const char *key, const char *what)
{
    json_t *v = json_object_get(c->root, key);
    if (!v)
        return err_set(c->e, ERR_DAMAGED, "%s: key \"%s\": expected %s, found no such key", c->path,
                       key, what);
    char *found = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    err_set(c->e, ERR_DAMAGED, "%s: key \"%s\": expected %s, found %.80s", c->path, key, what,
            found ? found : "?");
    free(found);
    return false;
}

static bool absent(const struct config *c, const char *key)
{
    const json_t *v = json_object_get(c->root, key);
    return !v || json_is_null(v);
}

int config_int(struct config *c, const char *key, int lowest, int highest)
{
    const json_t *v = json_object_get(c->root, key);
    json_int_t n = json_integer_value(v);
    if (json_is_integer(v) && n >= lowest && n <= highest)
        return (int)n;
    char what[80];
    snprintf(what, sizeof what, "a whole number %d to %d", lowest, highest);
    config_expected(c, key, what);
    return lowest;
}

double config_real(struct config *c, const char *key, double lowest, double highest)
{
    const json_t *v = json_object_get(c->root, key);
    double x = json_number_value(v);
    if (json_is_number(v) && x >= lowest && x <= highest)
        return x;
    char what[80];
    snprintf(what, sizeof what, "a number %g to %g", lowest, highest);
    config_expected(c, key, what);
    return lowest;
}

const char *config_text(struct config *c, const char *key)
{
    const char *s = json_string_value(json_object_get(c->root, key));
    if (!s)
        config_expected(c, key, "a string");
    return s;
}

int config_int_or(struct config *c, const char *key, int lowest, int highest, int otherwise)
{
    return absent(c, key) ? otherwise : config_int(c, key, lowest, highest);
}

double config_real_or(struct config *c, const char *key, double lowest, double highest,
                    double otherwise)
{
    return absent(c, key) ? otherwise : config_real(c, key, lowest, highest);
}

bool config_bool_or(struct config *c, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(c->root, key);
    if (absent(c, key))
        return otherwise;
    if (!json_is_boolean(v)) {
        config_expected(c, key, "true or false");
        return otherwise;
    }
    return json_is_true(v);
}

const char *config_text_or(struct config *c, const char *key, const char *otherwise)
{
    return absent(c, key) ? otherwise : config_text(c, key);
}

json_t *config_array(struct config *c, const char *key, size_t most)
{
    json_t *v = json_object_get(c->root, key);
    if (absent(c, key))
        return NULL;
    if (json_is_array(v) && json_array_size(v) <= most)
        return v;
    char what[80];
    snprintf(what, sizeof what, "a list of at most %zu", most);
    config_expected(c, key, what);
    return NULL;
}
