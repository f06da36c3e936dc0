/* stage.c - see stage.h. */
#include "tests/gpu/stage.h"

#include "engine/pager.h"
#include "kernels/count.h"
#include "tests/gpu/gpu.h"

#include <assert.h>

static size_t whole_lines(size_t bytes) { return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; }

static bool run_all(struct device *d, stage_fn *run, const void *user, int runs, struct stage_cost *cost, struct err *e)
{
    for (int i = 0; i < runs; i++) {
        double began = seconds_now();
        run(d, user);
        if (!device_sync(d, e))
            return false;
        cost->seconds[i] = seconds_now() - began;
    }
    return d->arena.peak == cost->activations ||
           err_set(e, ERR_DEVICE, "the arena's peak was %zu bytes, count said %zu", d->arena.peak, cost->activations);
}

bool stage_run(struct device *d, stage_fn *run, const void *user, int runs, struct stage_cost *cost, struct err *e)
{
    struct stage_cost mine;
    struct trace trace = { 0 };
    struct placement placement = { 0 };
    struct pager *pager = NULL;
    struct count_device count;
    void *memory = NULL;
    assert(runs <= STAGE_RUNS_MAX);
    cost = cost ? cost : &mine;
    *cost = (struct stage_cost){ 0 };
    count_device_init(&count, d);
    trace_record(&trace, &count.device);
    run(&count.device, user);
    bool ok = device_sync(&count.device, e) && placement_make(&placement, &trace, RING_NONE, 0, e);
    if (ok) {
        cost->activations = count.device.arena.peak;
        cost->weights = whole_lines(placement_bytes(&placement));
        cost->flops = count_sum(&count).flops;
        ok = device_take(d, &memory, cost->weights + cost->activations, e);
    }
    if (ok) {
        struct pager_options o = { .repeats = (size_t)runs };
        d->arena = arena_over((unsigned char *)memory + cost->weights, cost->activations);
        ok = pager_begin(&pager, d, memory, &trace, &placement, &o, e) && run_all(d, run, user, runs, cost, e);
        device_sync(d, NULL);
        pager_end(pager);
    }
    d->arena = arena_over(NULL, 0);
    if (memory)
        device_give(d, memory);
    placement_free(&placement);
    trace_free(&trace);
    return ok;
}
