/* jansson.h - as much of jansson's interface as the model code uses, for gpu-check alone:
 * a machine with a card often has a compiler and nothing else.
 *
 * Names, arguments and ownership are jansson's own (see its manual); what is left out
 * is left out. Objects are searched from end to end: for headers and configs, not for more.
 * Strings are taken as they come: UTF-8 is not checked. */
#ifndef SLUICE_STANDIN_JANSSON_H
#define SLUICE_STANDIN_JANSSON_H

#include <stdbool.h>
#include <stddef.h>

typedef long long json_int_t;
typedef enum {
    JSON_OBJECT, JSON_ARRAY, JSON_STRING, JSON_INTEGER, JSON_REAL, JSON_TRUE, JSON_FALSE, JSON_NULL
} json_type;
typedef struct json_t {
    json_type type;
    size_t references;
    struct json_t **item; /* of an object or array */
    char **key;           /* of an object, as many as items */
    size_t count, room;
    char *text;
    json_int_t integer;
    double real;
} json_t;
typedef struct { int line; char text[160]; } json_error_t;
enum json_error_code { json_error_unknown, json_error_out_of_memory };

enum { JSON_REJECT_DUPLICATES = 1, JSON_DECODE_INT_AS_REAL = 2, JSON_ENCODE_ANY = 4, JSON_COMPACT = 8 };
#define JSON_INDENT(n) 0

json_t *json_loadb(const char *text, size_t bytes, size_t flags, json_error_t *fault);
char *json_dumps(const json_t *v, size_t flags); /* compact, whatever the flags */
enum json_error_code json_error_code(const json_error_t *fault);
void json_decref(json_t *v);

/* Formats of s, i, I, O in { } and [ ]. */
json_t *json_pack(const char *format, ...);
json_t *json_object(void);
json_t *json_array(void);
json_t *json_string(const char *text);
json_t *json_integer(json_int_t n);
int json_object_set_new(json_t *object, const char *key, json_t *v);
int json_array_append_new(json_t *array, json_t *v);

json_t *json_object_get(const json_t *object, const char *key);
size_t json_object_size(const json_t *object);
const char *json_object_key_at(const json_t *object, size_t i); /* this header's own: NULL at the end */
json_t *json_array_get(const json_t *array, size_t i);
size_t json_array_size(const json_t *array);
const char *json_string_value(const json_t *v);
json_int_t json_integer_value(const json_t *v);
double json_number_value(const json_t *v);

#define json_typeof(v) ((v)->type)
#define json_is_object(v) ((v) && json_typeof(v) == JSON_OBJECT)
#define json_is_array(v) ((v) && json_typeof(v) == JSON_ARRAY)
#define json_is_integer(v) ((v) && json_typeof(v) == JSON_INTEGER)
#define json_is_number(v) ((v) && (json_typeof(v) == JSON_INTEGER || json_typeof(v) == JSON_REAL))
#define json_is_true(v) ((v) && json_typeof(v) == JSON_TRUE)
#define json_is_boolean(v) ((v) && (json_typeof(v) == JSON_TRUE || json_typeof(v) == JSON_FALSE))
#define json_is_null(v) ((v) && json_typeof(v) == JSON_NULL)

#define json_object_foreach(object, name, v) \
    for (size_t at_ = 0; ((name) = json_object_key_at(object, at_)) && ((v) = (object)->item[at_], (name)); at_++)
#define json_array_foreach(array, i, v) \
    for ((i) = 0; (i) < json_array_size(array) && ((v) = json_array_get(array, i), true); (i)++)

#endif
