/* event.c - see event.h. */
#include "engine/event.h"

#include <string.h>

const char *stage_name(enum stage s)
{
    static const char *const names[STAGE_COUNT] = { "load", "CLIP", "T5", "transformer", "VAE", "save" };
    return (unsigned)s < STAGE_COUNT ? names[s] : "?";
}

const char *event_kind_name(enum event_kind k)
{
    static const char *const names[EVENT_KIND_COUNT] = { "queued",  "started", "stage",     "progress", "preview", "memory",
                                                         "notice",  "done",    "cancelled", "failed",   "paused",  "resumed", "idle" };
    return (unsigned)k < EVENT_KIND_COUNT ? names[k] : "?";
}

void event_clear(struct event *ev)
{
    image_free(ev->image);
    memset(ev, 0, sizeof *ev);
}
