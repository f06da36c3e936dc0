/* profile.h - VRAM profiles: how a job uses memory, as a YAML file.
 *
 *   sluice: 1
 *   about: one line for people
 *   budget: 8G                 any setting of the scope SETTING_PROFILE
 *   large:                     from that many pixels on, on top of the others
 *     from: 1536x1536
 *     vae: bands
 *
 * Templates of the article that sluice follows (JSON with keys such as
 * unet_offload) load as they are: they are the files without "sluice", each of
 * their keys becomes one of ours, has nothing to do here, or is refused by name
 * with the reason. Only they may set the picture, too. */
#ifndef SLUICE_PROFILE_H
#define SLUICE_PROFILE_H

#include "engine/sheet.h"
#include "engine/shelf.h"

struct profile {
    char path[FILE_PATH_MAX], about[256];
    bool foreign; /* one of the article's templates */
    struct sheet rows;
    int large_width, large_height; /* `from`: a job of as many pixels or more is large; 0: there is no such section */
    struct sheet large;
};

/* Reads path. False with all its faults in f and the first in e; what could be
 * read is in p (for profile_free) in either case. */
bool profile_load(struct profile *p, const char *path, struct yaml_faults *f, struct err *e);
void profile_free(struct profile *p);

/* Its settings into j, whose size decides about `large`. False only when memory is refused. */
bool profile_apply(const struct profile *p, struct job *j, struct err *e);

/* Do its settings under `large` count in a job of j's size? */
bool profile_large(const struct profile *p, const struct job *j);

/* The row that decides s in a job of j's size; NULL: none does. */
const struct sheet_row *profile_row(const struct profile *p, const struct job *j, const struct setting *s);

bool profile_copy(struct profile *to, const struct profile *from, struct err *e); /* false: `to` is empty */
/* What decides s in a job of j's size says text from now on (a value of s); NULL: nothing, and what
 * stands before `large` counts again. False only when memory is refused. */
bool profile_set(struct profile *p, const struct job *j, const struct setting *s, const char *text, struct err *e);
/* The file that says the same, as our YAML; of a template what a profile may say. malloc'd. */
char *profile_text(const struct profile *p, struct err *e);

#endif
