/* service_plan.h - plans of the jobs that the view wants one of, made on the worker's thread.
 *
 * One at a time: whatever is typed meanwhile, the next that is asked for is the newest. What is
 * not known of the machine's speed is measured once, when there is a plan without a time and
 * nothing runs. All functions are for the loop's thread. */
#ifndef SLUICE_SERVICE_PLAN_H
#define SLUICE_SERVICE_PLAN_H

#include "tui/studio.h"
#include "tui/view.h"
#include "tui/worker.h"

/* A plain value; borrows all of it. It must outlive what it has submitted. */
struct service_plan {
    struct view *view;
    struct worker *worker;
    struct engine *engine;
    const struct studio_engine *calls;
    bool busy, measure, measured; /* measure: is to be done next */
};

/* After keys, events and finished work: submits what is wanted now. */
void service_plan_pump(struct service_plan *s);

#endif
