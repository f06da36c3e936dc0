/* service_profile.h - profiles on disk, for the view: the list of all, saving and deleting the
 * user's own. Reading and writing is the worker's; every answer goes to view_profiles and, where
 * something was done, to view_say. All functions are for the loop's thread. */
#ifndef SLUICE_SERVICE_PROFILE_H
#define SLUICE_SERVICE_PROFILE_H

#include "tui/view.h"
#include "tui/worker.h"

/* A plain value; borrows both. It must outlive what it has submitted. */
struct service_profile {
    struct view *view;
    struct worker *worker;
};

void service_profile_pump(struct service_profile *s); /* the list, if it is wanted */
/* Without `replace` a file that is there stays, and that is said. */
void service_profile_save(struct service_profile *s, const char *name, const char *text, bool replace);
void service_profile_delete(struct service_profile *s, const char *name);

#endif
