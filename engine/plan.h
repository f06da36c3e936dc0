/* plan.h - where every byte of a job will be, before anything runs.
 *
 * The plan runs the stages' own code on the count device: their activations
 * are exact by construction, and so is the order in which they ask for weights.
 * For a budget it chooses, phase by phase, among ways of working that give the
 * same values: in how many pieces (flux_inputs.chunk, t5_pieces, bands of the
 * VAE), how large a ring for streamed weights, which weights stay resident.
 * Without a budget weights are used where they lie and only activations count.
 *
 * What it promises, and tests hold it to: the arena is never larger than the
 * budget and exactly as large as the job needs; more budget is never slower by
 * its own prediction and never has fewer weights resident; the smallest budget
 * works, and one byte less is refused with the number needed.
 *
 * Pure but for memory: reads shapes, never weights, starts nothing, asks the
 * system nothing. */
#ifndef SLUICE_PLAN_H
#define SLUICE_PLAN_H

#include "engine/clip.h"
#include "engine/event.h"
#include "engine/flux.h"
#include "engine/job.h"
#include "engine/pager.h"
#include "engine/t5.h"
#include "engine/taef1.h"
#include "engine/vae.h"

/* The parts of a job that want weights in an order of their own. */
enum phase { PHASE_CLIP, PHASE_T5, PHASE_MODULATION, PHASE_STEP, PHASE_VAE, PHASE_COUNT };
/* "CLIP", "T5", "modulation", "step", "VAE" */
const char *phase_name(enum phase p);
enum stage phase_stage(enum phase p);

struct models { /* opened, borrowed */
    const struct model *model;
    const struct clip *clip;
    const struct t5 *t5;
    const struct flux *flux;
    const struct vae *vae;
    const struct taef1 *taef1; /* NULL: there is none */
};

/* The devices a job will run on; asked only for scratch sizes. The VAE has one of its
 * own where vae_precision is not precision; else the same. */
struct plan_devices {
    struct device *main, *vae;
};

/* Measured rates of the machine, by which time is predicted; 0: unknown, and
 * then nothing is predicted from it. */
struct plan_rates {
    double flops, vae_flops; /* operations per second of the devices */
    double link;             /* bytes per second from mapped files to the device */
    double disk;             /* bytes per second from the disk to mapped files */
};

/* In how many pieces a phase works. Zeros: all at once. */
struct pieces {
    int flux_chunk;         /* tokens */
    struct t5_pieces t5;
    struct vae_options vae;
};

struct plan_phase {
    struct trace trace;
    struct placement placement; /* empty without a budget */
    enum ring ring;
    struct pieces pieces;
    size_t activations;       /* peak of the stage in the arena, beside the weights */
    size_t peak;              /* activations and weights on the device */
    size_t repeats;           /* model evaluations of one picture, or 1 */
    uint64_t flops;           /* of one repetition */
    double seconds;           /* predicted, of all repetitions; 0: unknown */
};

/* What draws a step's preview: TAEF1, between two evaluations, where a step's activations lie otherwise. It is as
 * large as there is room for: the picture, a half or a quarter of it. `preview: auto` takes only room that is there
 * anyway, of the budget or without one of the arena, and a tenth of the steps' time at most; `taef1` has room for the smallest planned. */
struct plan_preview {
    int scale;                /* 1, 2, 4; 0: it is not TAEF1 */
    size_t weights;           /* brought for each, by and by */
    size_t activations, peak; /* as a plan_phase's; such weights are among the activations */
    size_t repeats;           /* of one picture */
    uint64_t flops;           /* of one */
    double seconds;           /* predicted, of all; 0: unknown */
};

struct plan {
    size_t budget;            /* 0: none */
    size_t kept_bytes;        /* at the arena's start: text encoders that stay for the whole job; 0: none do */
    size_t arena_bytes;       /* what the job allocates on the device: the largest peak */
    double disk_seconds;      /* predicted: more, where none of the weights are in the page cache yet; 0: unknown */
    struct plan_phase phase[PHASE_COUNT];
    struct plan_preview preview;
};

/* budget: bytes, 0, or JOB_BUDGET_LEAST: the smallest that does, then found in
 * p->budget (JOB_BUDGET_AUTO is the caller's to replace). False with e set: out of
 * memory, or ERR_BUDGET, the budget does not do; then the text names the smallest that would
 * and the stage that needs it. plan_free in every case. */
bool plan_make(struct plan *p, const struct models *m, const struct job *j, const struct plan_devices *d,
               const struct plan_rates *rates, size_t budget, struct err *e);
void plan_free(struct plan *p);

/* Model evaluations of one picture: the sampler's, for each condition. */
int plan_evaluations(const struct job *j);

/* Of one picture, encoding included. */
size_t plan_link_bytes(const struct plan *p);
double plan_seconds(const struct plan *p);        /* 0: unknown; without previews, which grow with the room */
/* The phase with the largest peak. */
enum phase plan_top(const struct plan *p);

/* What a plan comes to, as a value: for who only shows it. Bytes; seconds 0: unknown. */
struct plan_summary {
    bool ok;               /* false: there is no such plan, and text says why */
    char text[512];        /* of a plan: what is to be said of it, or "" */
    bool card;             /* it is of a card's memory, else of the processor's */
    char device[64];       /* the card's name, or "cpu" */
    /* of it, but for what is the process's own; total 0, or EVENT_UNKNOWN: unknown */
    struct { size_t total, free, others; } memory;
    size_t budget;         /* 0: none */
    size_t arena, kept;    /* plan.arena_bytes, kept_bytes */
    size_t link;           /* over the link, for one picture */
    double seconds, disk_seconds;
    enum phase top;
    struct plan_part {
        size_t weights;    /* mapped: what the phase goes through */
        size_t resident, ring, activations, peak, link;
        double seconds;
        char how[48];      /* "bands of 64 px", or "": all at once */
    } phase[PHASE_COUNT];
    int preview_scale;     /* of TAEF1's previews; 0: there are none */
    size_t preview_peak;
};
/* `ok` and all but text, card and memory. */
void plan_summarise(const struct plan *p, struct plan_summary *s);
/* In what pieces a phase works: as in plan_part. */
void plan_pieces_text(const struct pieces *c, char text[48]);

#endif
