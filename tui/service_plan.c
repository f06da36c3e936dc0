/* service_plan.c - see service_plan.h. */
#include "tui/service_plan.h"

#include <stdlib.h>

struct planning {
    struct worker_job job;
    struct service_plan *service;
    struct job wanted;
    uint64_t ticket;
    bool measure; /* the machine, instead */
    struct plan_summary plan;
};

static void planning_run(struct worker_job *j)
{
    struct planning *p = (struct planning *)j;
    const struct studio_engine *calls = p->service->calls;

    if (p->measure) calls->foresee_speed(p->service->engine, &p->wanted, NULL); /* else there is no time to tell */
    else calls->foresee(p->service->engine, &p->wanted, &p->plan);
}

static void planning_done(struct worker_job *j, void *owner)
{
    struct planning *p = (struct planning *)j;
    struct service_plan *s = p->service;

    (void)owner;
    s->busy = false;
    if (j->ran && !p->measure) {
        view_planned(s->view, p->ticket, &p->plan);
        s->measure = p->plan.ok && p->plan.seconds <= 0 && !s->measured && s->calls->foresee_speed;
    } else {
        view_plan_again(s->view);
    }
    job_free(&p->wanted);
    free(p);
}

static void submit(struct service_plan *s, struct planning *p)
{
    p->job = (struct worker_job){ .run = planning_run, .done = planning_done };
    p->service = s;
    s->busy = true;
    worker_submit(s->worker, &p->job);
}

void service_plan_pump(struct service_plan *s)
{
    struct planning *p;

    if (s->busy || !s->calls->foresee || !(p = calloc(1, sizeof *p))) return;
    p->measure = s->measure && !view_busy(s->view) && view_job(s->view, &p->wanted, NULL);
    s->measured |= p->measure;
    s->measure &= !p->measure;
    if (p->measure) submit(s, p);
    else if (view_plan_wanted(s->view, &p->wanted, &p->ticket)) submit(s, p);
    else free(p);
}
