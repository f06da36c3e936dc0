/* devices.h - which devices a job runs on: chosen, opened, kept between jobs.
 *
 * `device: auto` takes the first card that can be used, else the processor; `cuda`
 * fails without one. Where the VAE has a precision of its own there is a second device on
 * the same memory. The budget that a job names becomes bytes of an arena here: what is
 * free, what the card's context and libraries hold, memory_fraction. One thread. */
#ifndef SLUICE_DEVICES_H
#define SLUICE_DEVICES_H

#include "engine/event.h"
#include "engine/job.h"
#include "kernels/device.h"

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
};

/* Opens what the job wants, unless it is open already. False: nothing is open. */
bool devices_open(struct devices *ds, const struct job *j, struct err *e);
void devices_close(struct devices *ds); /* fine on an all-zero one */

/* Is there a card that can be used? Loads what it takes to ask. */
bool devices_card(void);

/* Bytes that the job's arena may have now: its budget, at most memory_fraction of
 * what is free; notice: why that is less than the job asks for, or "". 0: no budget, weights are
 * used where they lie (the processor only); JOB_BUDGET_LEAST: as little as will do. */
size_t devices_budget(const struct devices *ds, const struct job *j, char notice[EVENT_TEXT_BYTES]);
/* The same for a device of which that much is known and free. */
size_t devices_budget_of(const struct job *j, struct device_memory m, size_t available, char notice[EVENT_TEXT_BYTES]);

#endif
