/* event.h - news from the engine, as values.
 *
 * An event is copied by value through the queue; only `image` is owned, and
 * who takes the event out of the queue owns it (event_clear frees it). */
#ifndef SLUICE_EVENT_H
#define SLUICE_EVENT_H

#include "engine/image.h"
#include "kernels/err.h"

#include <stddef.h>
#include <stdint.h>

enum stage { STAGE_LOAD, STAGE_CLIP, STAGE_T5, STAGE_FLUX, STAGE_VAE, STAGE_SAVE, STAGE_COUNT };
/* For people: "load", "CLIP", "T5", "transformer", "VAE", "save". */
const char *stage_name(enum stage s);
enum stage stage_named(const char *name); /* STAGE_LOAD where there is none of that name */

enum event_kind {
    EVENT_QUEUED,    /* job accepted: job */
    EVENT_STARTED,   /* picture `index` of the job begins; steps, width, height, seed */
    EVENT_STAGE,     /* `stage` begins; STAGE_LOAD once, before the first picture's STARTED */
    EVENT_PROGRESS,  /* stage, step/steps (sampling), block/blocks in it, seconds, eta_seconds */
    EVENT_PREVIEW,   /* image: x0, from latent size (width/8 x height/8) up to the picture's; step; newest wins */
    EVENT_MEMORY,    /* memory: where a stage begins, and about once a second at work */
    EVENT_NOTICE,    /* text: something worth saying that is no fault */
    EVENT_DONE,      /* image (full size), text: path written, seconds, index */
    EVENT_CANCELLED, /* image: partial picture or NULL, text: its path or "" */
    EVENT_FAILED,    /* text: the reason, for people; fault: its kind; stage: where; image: finished picture that could
                        not be saved, or NULL */
    EVENT_PAUSED,    /* the job rests between two steps, its memory given back: step, how many are done; job 0: none
                        is at work, and none will begin */
    EVENT_RESUMED,   /* it goes on from there; job 0: jobs begin again */
    EVENT_IDLE,      /* every job accepted has ended; job: the last to end */
    EVENT_KIND_COUNT
};
/* "progress", ... as --json spells them. */
const char *event_kind_name(enum event_kind k);

enum { EVENT_WHY_BYTES = 160 };
#define EVENT_UNKNOWN SIZE_MAX

struct event_memory {
    size_t arena_bytes;                 /* the one allocation of this job */
    size_t used_bytes, peak_bytes;      /* of it, now; the most so far */
    size_t activations[STAGE_COUNT];    /* planned peak of each stage in the arena */
    size_t on_device[STAGE_COUNT];      /* of the arena, planned for weights; 0 without a budget */
    size_t weights[STAGE_COUNT];        /* mapped weights of each stage, 0: unknown yet */
    size_t rss, rss_anonymous, rss_file; /* of the process, from /proc/self/status; 0: unknown */
    size_t host_total, host_free;       /* the system's memory, or the control group's; 0: unknown */
    uint64_t link_bytes;                /* weights brought to the device, since the job began */
    /* Of a card, 0 on the processor: its memory, what of it is free, what other programs hold, and this
     * one beside the arena (devices_card). EVENT_UNKNOWN: not known, and device_why says why. */
    size_t device_total, device_free, device_others, device_held;
    char device_why[EVENT_WHY_BYTES];
};

enum { EVENT_TEXT_BYTES = 4096 }; /* PATH_MAX: a whole path, or a line about one */

struct event {
    enum event_kind kind;
    uint64_t job;            /* id that engine_submit gave */
    int index, count;        /* picture of the batch, 0-based, and how many */
    enum stage stage;
    enum err_kind fault;     /* of what has failed, else ERR_NONE */
    int step, steps;         /* 1-based while sampling; 0 before */
    int block, blocks;       /* of the current stage or step; blocks 0: unknown */
    int width, height;
    uint64_t seed;
    double seconds;          /* since the picture began */
    double eta_seconds;      /* to its end; < 0: unknown */
    struct event_memory memory;
    struct image *image;     /* owned, or NULL */
    char text[EVENT_TEXT_BYTES];
};

void event_clear(struct event *ev); /* frees the image, zeroes the rest */

#endif
