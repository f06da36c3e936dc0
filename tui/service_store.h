/* service_store.h - the studio's queue and history: engine/store on a thread of its
 * own, and the engine fed from it.
 *
 * A job is on the disk before the engine gets it, and the engine has one at a time:
 * the first in the queue that is this model's. So what is moved, changed or
 * removed is so on the disk alone, and a kill at any moment loses nothing but the
 * steps since the last checkpoint. What is left from the last time runs only when
 * the user has said so (view_ask_resume). A contact sheet is of the moment: it goes to the
 * engine at once, and neither it nor its pictures are kept.
 *
 * Where the user's store cannot be had, one in a temporary folder serves until the
 * end, and that is said. All functions are for the loop's thread; none waits for the
 * disk but service_store_stop. */
#ifndef SLUICE_SERVICE_STORE_H
#define SLUICE_SERVICE_STORE_H

#include "tui/studio.h"
#include "tui/view.h"

#include <poll.h>

struct service_store;

/* All borrowed until service_store_stop. */
struct service_store_options {
    struct view *view;
    struct engine *engine;
    const struct studio_engine *calls;
    const char *out_dir; /* where pictures go; made when the first one does */
    const char *path;    /* of the database; NULL: the user's own (store.h) */
};
bool service_store_start(struct service_store **out, const struct service_store_options *o, struct err *e);

/* poll() these; then service_store_work, which is true if something has changed. */
enum { SERVICE_STORE_FDS = 2 };
void service_store_fds(const struct service_store *s, struct pollfd p[SERVICE_STORE_FDS]);
bool service_store_work(struct service_store *s);

/* WISH_GENERATE and those of wish.h that name this file. False: another's. */
bool service_store_grant(struct service_store *s, const struct wish *w);
/* News from the engine, before the view takes it. */
void service_store_event(struct service_store *s, const struct event *ev);

/* After the engine has stopped: finishes what is begun, and closes the store, which leaves the job
 * at work as interrupted. Frees s; NULL is fine. */
void service_store_stop(struct service_store *s);

#endif
