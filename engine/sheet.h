/* sheet.h - settings as a file says them: the common half of presets and profiles.
 *
 * A sheet is a list of rows, each one key of the file with the setting it is and
 * the text that setting_set takes. Rows are tried when they are read, so that to
 * apply a sheet can only fail for memory. */
#ifndef SLUICE_SHEET_H
#define SLUICE_SHEET_H

#include "engine/setting.h"
#include "engine/yaml.h"

struct sheet_row {
    const struct setting *setting; /* NULL: understood, and there is nothing to do */
    char *key, *value;             /* as written; owned */
    char *text;                    /* what setting_set takes; NULL without a setting; owned */
    const char *why;               /* static; NULL: the key is the setting's own name */
    int line, column;              /* of the value */
};

struct sheet {
    int count;
    struct sheet_row *row;
};

/* Where rows come from and go wrong. */
struct sheet_source {
    const char *file;
    unsigned scope;          /* of the settings that may stand there: SETTING_... */
    const char *const *keys; /* its keys that are no settings, ends with NULL; for suggestions */
    struct yaml_faults *f;
};

/* A fault at the entry's value, and at its key. Return false. */
bool sheet_fault(const struct sheet_source *s, const struct yaml_entry *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool sheet_fault_key(const struct sheet_source *s, const struct yaml_entry *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The entry's text. NULL, with a fault: it is a list, a map, or empty. */
const char *sheet_text(const struct sheet_source *s, const struct yaml_entry *v);
/* The same into buf, one line that fits, or a fault. */
bool sheet_line(const struct sheet_source *s, const struct yaml_entry *v, char *buf, size_t room);

/* The key "sluice" has to be there and 1. */
bool sheet_version(const struct sheet_source *s, const struct yaml_entry *root);
/* NULL: there is none of that key, or it is no map. */
const struct yaml_entry *sheet_entry(const struct yaml_entry *map, const char *key);

/* The entry as the setting of its name, which has to be within the scope; a
 * fault if it is not, suggesting the nearest name. False only when memory is refused. */
bool sheet_take(struct sheet *to, const struct sheet_source *s, const struct yaml_entry *v, struct err *e);
/* The entry as `setting` (NULL: nothing to do) with that text instead of its own. */
bool sheet_take_as(struct sheet *to, const struct sheet_source *s, const struct yaml_entry *v,
                   const struct setting *setting, const char *text, const char *why, struct err *e);

/* A job with FLUX.1-dev's defaults and a random seed: what rows are tried on. job_free it in either case. */
bool sheet_job(struct job *j, struct err *e);

/* Do the rows together make a job that job_check takes? A fault if not. False only when memory is refused. */
bool sheet_check(const struct sheet *rows, const struct sheet *more, const struct sheet_source *s, struct err *e);

bool sheet_apply(const struct sheet *rows, struct job *j, struct err *e);
const struct sheet_row *sheet_find(const struct sheet *rows, const struct setting *s); /* NULL: it says nothing of it */
/* False: memory is refused, and to is what was copied until then, for sheet_free. */
bool sheet_copy(struct sheet *to, const struct sheet *from);
void sheet_remove(struct sheet *rows, int i);
/* The row of a setting says `text` from now on, if there is none a new one at the end; NULL: the row goes.
 * False: memory is refused, and nothing has changed. */
bool sheet_put(struct sheet *rows, const struct setting *s, const char *text);
void sheet_free(struct sheet *rows);

#endif
