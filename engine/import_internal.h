/* import_internal.h - what the readers of the formats share; see import.h.
 *
 * The first refusal of memory sticks in `e`: a reader goes on and is told at its end. */
#ifndef SLUICE_IMPORT_INTERNAL_H
#define SLUICE_IMPORT_INTERNAL_H

#include "engine/import.h"

#include <jansson.h>

struct import_work {
    struct import *im;
    struct err *e; /* never NULL */
};

/* key's value as the setting of that name, given `text` to setting_set; or left, if that is refused or the
 * setting is there already. why: static, or NULL. */
void import_take(struct import_work *w, const char *setting, const char *key, const char *value, const char *text,
                 const char *why);
void import_leave(struct import_work *w, const char *key, const char *value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The name of a model, as a file's or as people write it: the preset's model, or left. */
void import_model(struct import_work *w, const char *key, const char *name);

/* Text or number of a JSON value, malloc'd; NULL: it is neither, or there is none (or no memory). */
char *import_text(const json_t *v);
/* JSON as other programs write it, with NaN (read as null) and numbers that are too long (read as texts).
 * NULL: it is none; *e is set if it is not NULL. */
json_t *import_json(const char *text, size_t bytes, const char *name, struct err *e);

bool import_is_a1111(const char *text);
void import_a1111(struct import_work *w, const char *text);

/* False: there is no sampler in it that is known. */
bool import_comfy(struct import_work *w, json_t *prompt);
bool import_workflow(struct import_work *w, const json_t *workflow);

#endif
