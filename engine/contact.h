/* contact.h - the seed contact sheet: many seeds made quickly, and only the good ones finished.
 *
 * The sheet is one job of one picture a seed in few steps; its pictures are shown as
 * thumbnails. With a smaller size it is faster still, but then its pictures have
 * other noise than the finished ones: at the job's own size the seeds' compositions
 * carry over. Pure: where a job is run and which seeds are good is the caller's. */
#ifndef SLUICE_CONTACT_H
#define SLUICE_CONTACT_H

#include "engine/job.h"

struct contact {
    int seeds; /* 1 to JOB_COUNT_MAX: j->seed, j->seed + 1, ... */
    int steps; /* 0: a fifth of the job's, at least 4 */
    /* px of the longer side; 0: the job's own size. Never more than that; the shape is kept as near as 16 px allow */
    int side;
};

/* The sheet of j's first prompt, a job of its own (job_free in either case): its seed has to be drawn. Its files are
 * the job's with "-contact" before ".png". */
bool contact_sheet(struct job *sheet, const struct job *j, const struct contact *how, struct err *e);

/* j as it is, of the sheet's picture `index` alone: its files have the seed in their name. job_free in either case. */
bool contact_finish(struct job *out, const struct job *j, int index, struct err *e);

#endif
