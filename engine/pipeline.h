/* pipeline.h - the stages in order: text to ids, CLIP, T5, the transformer's
 * steps, the VAE, the file.
 *
 * A pipeline keeps what is worth keeping between jobs: mapped weights,
 * tokenizers, the device. Everything else of a job lives in one arena, whose
 * size is known before the job begins: the plan (plan.h) has it. With a budget
 * weights are brought into the arena too, by the pager.
 *
 * One thread, but for pipeline_foresee and pipeline_foresee_speed: those are for one other
 * thread, and may be called while a job runs. What the two share is under locks that
 * the pipeline takes only for moments: where models and devices are opened, and where
 * it tells of its memory. The processor's planning has a device of its own. A card is not
 * opened twice: its scratch sizes are asked for beside its work (they follow from what
 * does not change while it is open), and what is free of it is as last told. */
#ifndef SLUICE_PIPELINE_H
#define SLUICE_PIPELINE_H

#include "engine/devices.h"
#include "engine/event.h"
#include "engine/job.h"
#include "engine/plan.h"

enum pipeline_stop {
    PIPELINE_GO,
    PIPELINE_PAUSE,  /* rest between two steps, in hooks.wait */
    PIPELINE_CANCEL, /* stop sampling at once; decode and keep what there is */
    PIPELINE_ABANDON /* stop at once, decode nothing */
};

/* How the pipeline speaks and is spoken to. */
struct pipeline_hooks {
    void (*emit)(void *user, struct event *ev);   /* takes over ev's image */
    enum pipeline_stop (*stop)(void *user);       /* asked before every device operation: cheap; may be NULL */
    void (*wait)(void *user);                     /* comes back when stop() is not PIPELINE_PAUSE; NULL: no pauses */
    void *user;
};

struct pipeline;
/* m must outlive the pipeline. Opens nothing yet. */
bool pipeline_new(struct pipeline **out, const struct model *m, struct err *e);
void pipeline_free(struct pipeline *p); /* NULL is fine */

/* The devices of the last job planned or run; all zero before. */
const struct devices *pipeline_devices(const struct pipeline *p);

/* What pipeline_run would do with the memory now, without doing it. j: checked.
 * notice: why it is less than the job's budget, or "". plan_free(plan) in every case. */
bool pipeline_plan(struct pipeline *p, const struct job *j, struct plan *plan, char notice[EVENT_TEXT_BYTES],
                   struct err *e);

/* Measures what is not known of the machine's speed and keeps it: a plan made afterwards
 * predicts time. About a second, once; what jobs do corrects it. */
bool pipeline_measure(struct pipeline *p, const struct job *j, struct err *e);

/* The plan of a job that would begin when what runs now has ended; need not be checked.
 * 1 to 30 ms; the first time models, and where no job runs a card, are opened. Never waits for a
 * job's work. A card that works with another `attention` than the job's counts as it is. */
void pipeline_foresee(struct pipeline *p, const struct job *j, struct plan_summary *out);
/* pipeline_measure for those plans. False, too, if a job runs. */
bool pipeline_foresee_speed(struct pipeline *p, const struct job *j, struct err *e);

/* Runs a checked job, all its pictures from j->first on. Emits STARTED, STAGE, PROGRESS,
 * PREVIEW, MEMORY, NOTICE, PAUSED, RESUMED and one DONE per picture. False: e says why;
 * ERR_CANCELLED when stopped, and then CANCELLED was emitted; else FAILED was
 * emitted (with the picture, if it was finished but could not be written).
 * j->checkpoint is written every j->checkpoint_steps steps, at a pause and whenever
 * sampling ends early, and removed with the picture's end. From j->resume the
 * picture goes on with the same pixels; one that cannot be read, or is of
 * another picture, is told in a NOTICE, and that picture begins anew. */
bool pipeline_run(struct pipeline *p, const struct job *j, uint64_t id, const struct pipeline_hooks *hooks,
                  struct err *e);

/* A latent's file (record.h), as a stopped batch leaves it, to j->out. j: checked;
 * its size becomes the latent's. Emits STARTED, STAGE, PROGRESS, MEMORY and DONE or FAILED. */
bool pipeline_decode(struct pipeline *p, struct job *j, const char *latent, const struct pipeline_hooks *hooks,
                     struct err *e);

#endif
