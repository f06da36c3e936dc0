/* queue.h - the one thing two threads share: values in order, with a wake-up.
 *
 * Bounded, many producers, one consumer; any thread may push. Events wake
 * through a file descriptor, so that the consumer can poll() it beside the
 * terminal. A push never blocks. A preview, a progress or a memory event
 * replaces the one of its kind and job that is still waiting, so a slow
 * terminal sees the newest only. A queue that nobody empties gives up those
 * first, then what passes (STARTED, STAGE, NOTICE, PAUSED, RESUMED), and the end of a job last. */
#ifndef SLUICE_QUEUE_H
#define SLUICE_QUEUE_H

#include "engine/event.h"
#include "engine/job.h"

enum command_kind { COMMAND_GENERATE, COMMAND_QUIT };
struct command {
    enum command_kind kind;
    uint64_t job;       /* GENERATE: its id */
    struct job request; /* GENERATE: owned, moves with the command */
};

struct event_queue;
bool event_queue_new(struct event_queue **out, struct err *e);
void event_queue_free(struct event_queue *q); /* clears what is left; NULL is fine */
/* Takes over ev's image and zeroes ev. False (and ev cleared) only if the queue is full of
 * QUEUED, DONE, CANCELLED, FAILED and IDLE. */
bool event_push(struct event_queue *q, struct event *ev);
bool event_pop(struct event_queue *q, struct event *out); /* false: empty */
int event_queue_fd(const struct event_queue *q);          /* readable while not empty */

struct command_queue;
bool command_queue_new(struct command_queue **out, struct err *e);
void command_queue_free(struct command_queue *q);
bool command_push(struct command_queue *q, struct command *c); /* takes over; false: full */
void command_wait(struct command_queue *q);                      /* blocks until there is one to take */
bool command_take(struct command_queue *q, struct command *out); /* the oldest; false: empty */
/* Takes a GENERATE of this job (0: the oldest) back before it has begun. */
bool command_withdraw(struct command_queue *q, uint64_t job, struct command *out);

#endif
