/* wildcard.h - prompts with choices in them: a batch from one text.
 *
 *   {red|blue|}            one of these; the last one is nothing
 *   {a {small|large} house|no house}
 *   {3::red|blue}          red three times as often, where one is drawn; no weight: 1
 *   __colour__             a line of the list `colour`: letters, digits, '-', '_', '.'
 *   \{ \} \| \_ \\         these characters themselves
 *
 * '|' and "::" mean something only within braces, and a "__" that begins no list's
 * name is itself. Lines of a list may have choices and name lists in their
 * turn. Pure: lists come from the caller. */
#ifndef SLUICE_WILDCARD_H
#define SLUICE_WILDCARD_H

#include "engine/job.h"

enum { WILDCARD_DEPTH_MAX = 16, WILDCARD_PARTS_MAX = 100000, WILDCARD_BYTES_MAX = 1 << 20 };

/* Where lists come from. */
struct wildcard_lists {
    /* The list's text, one choice a line, malloc'd; blank lines and those that begin with '#' are
     * left out. NULL with e set: there is none of that name. */
    char *(*read)(void *user, const char *name, struct err *e);
    void *user;
};

struct wildcard;

/* Faults name the column (of bytes, from 1), and the list and line they are in. lists may be NULL:
 * any list is a fault then. */
bool wildcard_parse(struct wildcard **out, const char *text, const struct wildcard_lists *lists, struct err *e);
void wildcard_free(struct wildcard *w); /* NULL is fine */

/* How many texts it makes, counted as they are written ({a|a} makes two); UINT64_MAX: as many or more. */
uint64_t wildcard_count(const struct wildcard *w);
/* Text i of them, the last choice turning fastest: malloc'd. NULL: out of memory, or longer than
 * WILDCARD_BYTES_MAX. */
char *wildcard_at(const struct wildcard *w, uint64_t i, struct err *e);
/* One drawn by the weights; the same seed draws the same. */
char *wildcard_draw(const struct wildcard *w, uint64_t seed, struct err *e);

/* The job's prompts in the place of which its texts come: all of them (draws 0), or that many drawn
 * from each prompt, seeded by the job's seed. More than JOB_PROMPTS_MAX in all is an error. */
bool wildcard_job(struct job *j, int draws, const struct wildcard_lists *lists, struct err *e);

#endif
