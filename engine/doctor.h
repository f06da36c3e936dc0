/* doctor.h - what this machine has for sluice, and what each thing found means.
 *
 * doctor_examine looks at the card, its driver and its libraries, at processor, memory,
 * disk and models, and asks the plan what FLUX.1-dev would take here. Whatever is missing
 * or unreadable is a line of the report; it fails at nothing. It reads files' headers,
 * measures the disk and, where they are not known yet, the rates of rates.h (about two
 * seconds, once), and needs a temporary folder for a moment. */
#ifndef SLUICE_DOCTOR_H
#define SLUICE_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>

enum doctor_state {
    DOCTOR_OK,
    DOCTOR_NOTE,    /* something is missing or slower; all the same pictures can be made */
    DOCTOR_PROBLEM, /* something that sluice needs is broken */
};
const char *doctor_state_name(enum doctor_state s); /* "ok", "note", "problem" */

enum doctor_part { DOCTOR_CARD, DOCTOR_HOST, DOCTOR_MEMORY, DOCTOR_SPEED, DOCTOR_MODELS, DOCTOR_FOLDERS,
                   DOCTOR_FLUX, DOCTOR_TERMINAL, DOCTOR_PARTS };
const char *doctor_part_name(enum doctor_part p); /* "card", "host", ... */

struct doctor_line {
    enum doctor_part part;
    enum doctor_state state;
    char what[64];      /* "free memory" */
    char found[512];    /* "9.00 GB of 12.0 GB"; no control characters */
    char means[512];    /* for profiles and times, or what to do; "": nothing */
    double number;      /* the same as a number, or 0 */
    const char *unit;   /* of the number: "bytes", "bytes/s", "seconds"; NULL: there is none */
};

struct doctor {
    int count;
    struct doctor_line *line; /* owned */
    int lost;                 /* lines for which memory was refused */
};

/* Where it looks. */
struct doctor_options {
    const char *proc;    /* NULL: "/proc" */
    const char *cgroup;  /* NULL: "/sys/fs/cgroup" */
    const char *nvml;    /* NULL: the driver's library */
    bool busy;           /* a picture is being made: nothing is measured, no card is opened */
};

/* Adds its lines to d, in any state; doctor_free afterwards. */
void doctor_examine(struct doctor *d, const struct doctor_options *o);
void doctor_free(struct doctor *d);

/* One line more. means may be NULL. What comes back is for number and unit, until the next line. */
struct doctor_line *doctor_say(struct doctor *d, enum doctor_part part, enum doctor_state state, const char *what,
                               const char *means, const char *fmt, ...) __attribute__((format(printf, 6, 7)));
int doctor_problems(const struct doctor *d);

#endif
