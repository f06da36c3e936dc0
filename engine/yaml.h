/* yaml.h - small YAML files from strangers, read strictly.
 *
 * A file becomes a tree of texts, maps and lists in which every key and value
 * knows its line and column. Nothing is interpreted: "1", "true" and "on" are
 * texts. JSON is YAML and reads the same way. Refused, each with its place:
 * aliases, anchors and tags (nothing is ever expanded), duplicate keys, keys
 * that are no text, more than one document, control characters, characters
 * that reverse the reading direction, text that is not UTF-8, files that are
 * too long, too deep or no regular file. What the keys mean is the caller's
 * (sheet.h).
 *
 * libyaml exports yaml_free, yaml_malloc, yaml_realloc and yaml_strdup for
 * itself: a function of these names here would take their place. */
#ifndef SLUICE_YAML_H
#define SLUICE_YAML_H

#include "kernels/err.h"

enum { YAML_BYTES_MAX = 64 * 1024, YAML_DEPTH_MAX = 3, YAML_ENTRIES_MAX = 256, YAML_FAULTS_MAX = 32,
       YAML_FAULT_BYTES = 512 };

/* What is wrong with a file: all of it, not only the first thing. */
struct yaml_faults {
    int count; /* of those kept; further ones are not */
    struct yaml_fault {
        int line, column;            /* from 1; 0: the file as a whole */
        char text[YAML_FAULT_BYTES]; /* "file:line:column: reason" or "file: reason", without control characters */
    } at[YAML_FAULTS_MAX];
};

/* One more, in its place among those of the same file. Always returns false. */
bool yaml_fault(struct yaml_faults *f, const char *file, int line, int column, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* The first fault into e, with the number of the others. Returns whether there is none. */
bool yaml_faultless(const struct yaml_faults *f, struct err *e);

enum yaml_kind { YAML_TEXT, YAML_MAP, YAML_LIST, YAML_REFUSED /* told already: to be passed over */ };

struct yaml_entry {
    enum yaml_kind kind;
    int line, column;         /* of the value */
    char *text;               /* of a YAML_TEXT; NULL: nothing was written ("key:", ~ or null) */
    char *key;                /* within a map */
    int key_line, key_column;
    struct yaml_entry *first; /* of a map or list, in the order of the file */
    struct yaml_entry *next;  /* within the map or list that this is in */
};

/* Any bytes as a text that yaml_read would take: what it refuses is left out, what is not UTF-8
 * becomes U+FFFD. malloc'd; NULL: no memory. */
char *yaml_clean(const char *text, size_t bytes);

/* The file's one document, which must be a map. NULL if there is none to be had;
 * otherwise what could be read, for yaml_entry_free, even if there are faults. Only a
 * refusal of memory sets e; all else is in f. */
struct yaml_entry *yaml_read(const char *path, struct yaml_faults *f, struct err *e);
/* The same of bytes in memory; `file` is for the faults. */
struct yaml_entry *yaml_parse(const char *file, const char *data, size_t bytes, struct yaml_faults *f, struct err *e);
void yaml_entry_free(struct yaml_entry *root); /* NULL is fine */

#endif
