/* config.h - JSON files through jansson, with errors that name file and key.
 *
 * Every document from outside (safetensors headers, indexes, configs) comes in
 * here: duplicate keys are refused, sizes are limited, and what has the wrong
 * type is reported with the key, what was expected and what was found. */
#ifndef SLUICE_CONFIG_H
#define SLUICE_CONFIG_H

#include "kernels/err.h"

#include <jansson.h>

/* Text of `bytes` bytes that must be one JSON object; `path` is for messages.
 * flags: further jansson decoding flags. NULL with e set. Free with json_decref. */
json_t *config_parse(const char *text, size_t bytes, size_t flags, const char *path, struct err *e);
/* The same from a file of at most `limit` bytes. */
json_t *config_read(const char *path, size_t limit, size_t flags, struct err *e);

/* A config being read. The first failure sticks in e (see err.h): read all
 * keys straight through, then look at e->kind once. */
struct config {
    json_t *root;
    const char *path;
    struct err *e;
};

/* Required keys. On failure e is set and the lower limit (or NULL) returned. */
int config_int(struct config *c, const char *key, int lowest, int highest);
double config_real(struct config *c, const char *key, double lowest, double highest);
const char *config_text(struct config *c, const char *key); /* lives as long as root */

/* Optional keys: absent or null gives `otherwise`; present must fit as above. */
int config_int_or(struct config *c, const char *key, int lowest, int highest, int otherwise);
double config_real_or(struct config *c, const char *key, double lowest, double highest,
                    double otherwise);
bool config_bool_or(struct config *c, const char *key, bool otherwise);
const char *config_text_or(struct config *c, const char *key, const char *otherwise);
/* An array of at most `most` entries; NULL if absent (no failure) or ill-typed (e set). */
json_t *config_array(struct config *c, const char *key, size_t most);

/* "file: key: expected WHAT, found ..."; returns false. */
bool config_expected(struct config *c, const char *key, const char *what);

#endif
