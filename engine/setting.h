/* setting.h - every setting of a job in one table: its name, what it may be,
 * and where it lies in struct job.
 *
 * The table serves the command line (--name value, '_' written '-'), preset and
 * profile files (name: value), what an image carries, `sluice preset show` and
 * the manual. Names are the keys of those files; values go in and come out as
 * text. Pure. */
#ifndef SLUICE_SETTING_H
#define SLUICE_SETTING_H

#include "engine/job.h"

enum setting_kind {
    SETTING_TEXT,   /* char *, owned by the job */
    SETTING_INT,    /* int */
    SETTING_FLOAT,  /* float */
    SETTING_BOOL,   /* bool: true, false; yes, no; on, off */
    SETTING_CHOICE, /* an int or enum that has only named values */
    SETTING_SIZE,   /* width and height: WxH */
    SETTING_SEED,   /* uint64_t seed, or "random" */
    SETTING_BYTES,  /* size_t: 600M, 8G, 8GiB, or a named value */
    SETTING_RATE,   /* double, bytes per second, written as bytes */
};

enum setting_scope {
    SETTING_PRESET = 1,  /* what a picture is: may stand in a preset */
    SETTING_PROFILE = 2, /* how memory is used: may stand in a profile */
    SETTING_PICTURE = 4, /* changes the picture */
    SETTING_RUN = 8,     /* of this run only: in no file */
};

/* A named value. Of several names for one value the first is its own, the
 * others are accepted (other programs' words). */
struct setting_choice {
    const char *name;
    long value;
};

struct setting {
    const char *name;
    enum setting_kind kind;
    unsigned scope;
    size_t offset;                        /* of the member in struct job */
    const struct setting_choice *choices; /* ends with a NULL name; NULL: none */
    double low, high;                     /* of a number, inclusive */
    const char *value;                    /* for a usage line: "N", "WxH", "auto|whole|bands|tiles" */
    const char *help;                     /* one line */
};

int setting_count(void);
const struct setting *setting_at(int i);
/* By its name; '-' and '_' are the same. NULL: there is none. */
const struct setting *setting_find(const char *name);

enum setting_result { SETTING_SET, SETTING_MALFORMED, SETTING_OUT_OF_RANGE, SETTING_NO_MEMORY };
/* text into the job. Anything but SETTING_SET leaves the job as it was and e
 * says `name "text": what is expected`. Checks only this setting: job_check
 * sees the whole. */
enum setting_result setting_set(struct job *j, const struct setting *s, const char *text, struct err *e);

/* What setting_set would say of the text. */
enum setting_result setting_try(const struct setting *s, const char *text, struct err *e);

/* The setting's value as text that setting_set takes back to the same value:
 * malloc'd, NULL when memory is refused. */
char *setting_text(const struct job *j, const struct setting *s);
bool setting_same(const struct job *a, const struct job *b, const struct setting *s);

/* A choice's own name, e.g. for a table; "?" if no choice has the value. */
const char *setting_choice_name(const struct setting *s, long value);

#endif
