/* engine.h - the engine thread: it owns the model, the device and the weights,
 * runs jobs one after the other, and tells of them by events.
 *
 * All functions are called from one thread (the UI's); none of them blocks for
 * longer than a lock, except engine_start (reads configs) and engine_stop
 * (waits until the current block ends). engine_foresee and engine_foresee_speed are for one
 * other thread, which must be done with them before engine_stop. */
#ifndef SLUICE_ENGINE_H
#define SLUICE_ENGINE_H

#include "engine/event.h"
#include "engine/job.h"
#include "engine/model.h"
#include "engine/plan.h"

struct engine;

/* Opens the model's configs and starts the thread. */
bool engine_start(struct engine **out, const char *model_path, struct err *e);
/* Cancels everything, waits for the thread, frees. NULL is fine. */
void engine_stop(struct engine *g);

const struct model *engine_model(const struct engine *g);

/* Copies the job (already through job_check) into the queue; fails if that is full (128).
 * *id: how events name it. */
bool engine_submit(struct engine *g, const struct job *j, uint64_t *id, struct err *e);

/* The job at work stops at the end of its step and rests there, its device memory given back; no
 * other begins. EVENT_PAUSED comes when that is so. A stage that is no step is finished first. */
void engine_pause(struct engine *g);
/* It goes on from there, with the same result. */
void engine_resume(struct engine *g);

/* Stops job id (0: all) at the next block. The partial picture is decoded and
 * kept (EVENT_CANCELLED); a second cancel while it is being decoded gives that up
 * too. A job that has not begun is dropped (EVENT_CANCELLED without a picture). */
void engine_cancel(struct engine *g, uint64_t id);

/* pipeline_foresee: the plan of a job that would begin when what is at work has ended. And what it
 * takes to predict time, measured if it is unknown and no job is at work: about a second, once. */
void engine_foresee(struct engine *g, const struct job *j, struct plan_summary *out);
bool engine_foresee_speed(struct engine *g, const struct job *j, struct err *e);

/* Next event into out (the caller owns its image); false: none now. */
bool engine_poll(struct engine *g, struct event *out);
int engine_fd(const struct engine *g); /* poll() this for POLLIN */

#endif
