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

void service_plan_pump(struct service_plan *s)
{
    struct planning wanted = { .job = { .run = planning_run, .done = planning_done }, .service = s }, *p;

    if (s->busy || !s->calls->foresee) return;
    wanted.measure = s->measure && !view_busy(s->view) && view_job(s->view, &wanted.wanted, NULL);
    if (!wanted.measure && !view_plan_wanted(s->view, &wanted.wanted, &wanted.ticket)) return;
    if (!(p = malloc(sizeof *p))) {
        job_free(&wanted.wanted);
        if (!wanted.measure) view_plan_again(s->view);
        return;
    }
    *p = wanted;
    s->measured |= p->measure;
    s->measure &= !p->measure;
    s->busy = true;
    worker_submit(s->worker, &p->job);
}
