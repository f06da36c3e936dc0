/* event.c - see event.h. */
#include "engine/event.h"

#include <string.h>

static const char *const stages[STAGE_COUNT] = { "load", "CLIP", "T5", "transformer", "VAE", "save" };

const char *stage_name(enum stage s)
{
    return (unsigned)s < STAGE_COUNT ? stages[s] : "?";
}

enum stage stage_named(const char *name)
{
    int s = STAGE_COUNT - 1;
    while (s > STAGE_LOAD && strcmp(name, stages[s]))
        s--;
    return (enum stage)s;
}

const char *event_kind_name(enum event_kind k)
{
    static const char *const names[EVENT_KIND_COUNT] = { "queued",  "started", "stage",     "progress",
                                                         "preview", "memory",  "notice",    "done",
                                                         "cancelled", "failed", "paused",   "resumed", "idle" };
    return (unsigned)k < EVENT_KIND_COUNT ? names[k] : "?";
}

void event_clear(struct event *ev)
{
    image_free(ev->image);
    memset(ev, 0, sizeof *ev);
}
