/* job_text.h - a job as text and back: what the queue keeps of it on disk.
 *
 * One line a thing, "name=value": every setting of setting.h, each further
 * prompt as `more`, and `out` and `init_latents` where they are
 * set. In a value "\n" stands for a line's end and "\\" for a backslash; all
 * other bytes are themselves, so that a path of any bytes comes back. What is of
 * one run only (dump_stages, checkpoint, resume, first) is left out. Pure. */
#ifndef SLUICE_JOB_TEXT_H
#define SLUICE_JOB_TEXT_H

#include "engine/job.h"

/* malloc'd; NULL: out of memory. */
char *job_text(const struct job *j, struct err *e);

/* Back to the same job. A line that is not understood is a fault that names it: such a job was
 * written by another version. job_free(j) in either case. */
bool job_from_text(struct job *j, const char *text, struct err *e);

#endif
