/* devices.h - which devices a job runs on: chosen, opened, kept between jobs.
 *
 * `device: auto` takes the first card that can be used, else the processor; `cuda`
 * fails without one. Where the VAE has a precision of its own there is a second device on
 * the same memory. The budget that a job names becomes bytes of an arena here: what is
 * free, what the card's context and libraries hold, memory_fraction. One thread.
 *
 * What the context and libraries hold is measured: by the card's use just before and
 * just after they are opened (NVML). Libraries take more when they first do a thing: what goes
 * while a job is at work counts as theirs, what goes while none is counts as others', and what comes
 * back was others' in any case. */
#ifndef SLUICE_DEVICES_H
#define SLUICE_DEVICES_H

#include "engine/event.h"
#include "engine/job.h"
#include "engine/nvml.h"
#include "kernels/device.h"

#define DEVICES_UNKNOWN NVML_UNKNOWN
enum { DEVICES_WHY_BYTES = EVENT_WHY_BYTES };
enum devices_fact { DEVICES_FREE, DEVICES_OTHERS, DEVICES_HELD, DEVICES_FACTS };

/* Bytes of the card that main is on, now; each but the total may be DEVICES_UNKNOWN. */
struct devices_card {
    size_t total;   /* 0, and so all: there is no card, the processor computes */
    size_t free;
    size_t others;  /* held by other programs; on an older driver with what it reserves for itself */
    size_t held;    /* by this program beside the arena: context and libraries. Without NVML the libraries
                       alone, and then it has a reason, too */
    char why[DEVICES_FACTS][DEVICES_WHY_BYTES]; /* why one is unknown; "" where it is known */
};

struct devices {
    struct device *main, *vae;    /* the same, unless the VAE has a precision of its own */
    enum precision precision;     /* of main: the job's, or fp16 on a card without bf16 */
    char name[128];               /* "cpu, 2 threads"; a card's own: what rates are kept by */
    char arithmetic[160];         /* what results depend on to the bit, beside precision */
    char notice[EVENT_TEXT_BYTES]; /* why it is not what was asked for, or "" */
    bool card;                    /* it is one; else the processor */
    bool no_bf16;                 /* a card without that arithmetic: fp16 stands for it */
    /* What they were opened for. */
    enum device_choice choice;
    enum precision asked, vae_precision;
    enum attention_mode attention;
    bool pin_weights;
    int threads;
    /* What is known of the card's memory. */
    struct nvml *nvml;             /* NULL: nvml_why says why */
    struct nvml_handle *nvml_card;
    char nvml_why[DEVICES_WHY_BYTES];
    char opened_why[DEVICES_WHY_BYTES]; /* why `opened` is the libraries alone; "" */
    size_t total;                  /* of the card; 0: the processor */
    size_t opened, libraries;      /* what opening took: by NVML; by device_memory's held, without the context */
    size_t grown, resting;         /* since, in jobs; device_memory's held when the job at work began */
    bool working;
};

/* Opens what the job wants, unless it is open already. False: nothing is open. */
bool devices_open(struct devices *ds, const struct job *j, struct err *e);
void devices_close(struct devices *ds); /* fine on an all-zero one */

/* Is there a card that can be used? Loads what it takes to ask. */
bool devices_any_card(void);
/* Some milliseconds at most; all of it also while a job is at work. */
struct devices_card devices_card(const struct devices *ds);
/* A job is at work from when it has its arena until before that is given back. */
void devices_working(struct devices *ds, bool working);

/* Bytes that the job's arena may have now: its budget, at most memory_fraction of
 * what is free; notice: why that is less than the job asks for, or "". 0: no budget, weights are
 * used where they lie (the processor only); JOB_BUDGET_LEAST: as little as will do. */
size_t devices_budget(const struct devices *ds, const struct job *j, char notice[EVENT_TEXT_BYTES]);
/* The same for a device of which that much is known and free. */
size_t devices_budget_of(const struct job *j, const struct devices_card *c, size_t available,
                         char notice[EVENT_TEXT_BYTES]);

#endif
