/* record.h - what a picture or a latent says of itself, and the files with it.
 *
 * Every setting that the picture depends on, so that it can be made again: as
 * JSON under the key "sluice", and as the line that A1111 and its readers know
 * under "parameters". A PNG carries both as text chunks; a latent's file, one
 * safetensors, as U8 tensors of those names beside `latent` F32 [C,h,w]. A
 * checkpoint is such a file with the sampler's state: `x0` F32 [C,h,w], `kept` the
 * same where the sampler keeps something, and `checkpoint` U8, the JSON
 * {"index", "step", "trial"}. */
#ifndef SLUICE_RECORD_H
#define SLUICE_RECORD_H

#include "engine/image.h"
#include "engine/job.h"

struct record {
    char *json, *parameters; /* owned; UTF-8 */
};

/* Of picture `index` of the job. model: its name; steps_done < the job's steps:
 * a partial picture. False: out of memory. */
bool record_make(struct record *r, const struct job *j, int index, const char *model, int steps_done, struct err *e);
void record_free(struct record *r); /* fine on an all-zero one */

/* What the JSON says under `key`, if it is a text: malloc'd. NULL: nothing. */
char *record_text(const struct record *r, const char *key);

bool record_write_png(const struct record *r, const struct image *im, const char *path, struct err *e);
bool record_write_latent(const struct record *r, struct tensor latent, const char *path, struct err *e);

/* *latent is malloc'd data for the caller to free, F32 [C,h,w], every value finite; r as it was written
 * (empty strings if the file has none). */
bool record_read_latent(struct record *r, struct tensor *latent, const char *path, struct err *e);

/* A picture between two evaluations of the model. */
struct checkpoint {
    int index;    /* of the job's pictures */
    int step;     /* whole steps done */
    bool trial;   /* sampler.h */
    struct tensor latent, x0, kept; /* F32 [C,h,w]; kept without data for a sampler that keeps nothing */
};
bool record_write_checkpoint(const struct record *r, const struct checkpoint *c, const char *path, struct err *e);
/* Its data are malloc'd: checkpoint_free, and record_free. Not checked: whether it fits the job. */
bool record_read_checkpoint(struct record *r, struct checkpoint *c, const char *path, struct err *e);
void checkpoint_free(struct checkpoint *c); /* fine on an all-zero one */

#endif
