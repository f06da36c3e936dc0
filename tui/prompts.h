/* prompts.h - the prompts used before, to be walked through and searched.
 *
 * Newest first, no text twice, at most PROMPTS_MAX. Pure. An all-zero value is an
 * empty list. Refused memory costs the one that was to be added. */
#ifndef SLUICE_PROMPTS_H
#define SLUICE_PROMPTS_H

#include <stdbool.h>

enum { PROMPTS_MAX = 500 };

struct prompts {
    char **text; /* [count], owned */
    int count, room;
};
void prompts_free(struct prompts *p);
/* One that has just been used: to the front, also if it was there. */
void prompts_use(struct prompts *p, const char *text);
/* An older one than all that are there, unless it is. */
void prompts_add(struct prompts *p, const char *text);

/* The first from `from` on, in steps of `by` (1: older, -1: newer), in which `what` stands
 * somewhere, capitals or not; -1: none. "" stands in each. */
int prompts_find(const struct prompts *p, const char *what, int from, int by);
/* Where it stands: offset and bytes. False: nowhere. */
bool prompts_match(const char *text, const char *what, int *at, int *bytes);

#endif
