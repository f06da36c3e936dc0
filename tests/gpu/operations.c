/* operations.c - every operation of the card against ref: check_ops.h. */
#include "tests/check_cuda.h"
#include "tests/gpu/gpu.h"

#include <stdio.h>
#include <string.h>

static const struct { const char *name; enum cuda_attention mode; } modes[] = {
    { "auto", CUDA_ATTENTION_AUTO }, { "efficient", CUDA_ATTENTION_EFFICIENT }, { "math", CUDA_ATTENTION_MATH }
};
enum { MODES = sizeof modes / sizeof *modes };

/* All checks of a type and a mode of attention; a line for what failed, one for the rest. */
static void run_target(const struct gpu *g, const struct check_options *o, enum dtype type, int mode)
{
    char name[64], row[96];
    snprintf(name, sizeof name, "cuda-%s-%s", type_name(type), modes[mode].name);
    struct check_target target = check_cuda(name, type, modes[mode].mode);
    target.rounds = g->rounds;
    target.small = g->small;
    int passed = 0, failed = 0;
    double began = seconds_now();
    for (int i = 0; i < check_count(); i++) {
        if (!check_wanted(o, &target, i) || (mode && !check_cuda_attends(i)))
            continue;
        struct err e = { 0 };
        bool ok = check_run(o, &target, i, &e);
        passed += ok;
        failed += !ok;
        snprintf(row, sizeof row, "%s %s, attention %s", check_name(i), type_name(type), modes[mode].name);
        if (!ok)
            tell(g, FAILED, row, "%s", e.text);
    }
    snprintf(row, sizeof row, "operations in %s, attention %s", type_name(type), modes[mode].name);
    if (passed + failed)
        tell(g, failed ? FAILED : PASSED, row, "%d of %d checks passed in %.0f s", passed, passed + failed,
             seconds_now() - began);
}

void part_operations(const struct gpu *g)
{
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    struct check_options o = check_options_from_environment();
    struct cuda_card card;
    struct err e = { 0 };
    if (!open_card(&card, &e)) {
        tell(g, NOT_POSSIBLE, "operations", "%s", e.text);
        return;
    }
    for (int t = 0; t < 3; t++)
        for (int m = 0; m < MODES; m++)
            if (m && types[t] == DT_F32)
                continue; /* it has one attention only */
            else if (card_has(&card, types[t]))
                run_target(g, &o, types[t], m);
            else if (!m)
                tell(g, NOT_POSSIBLE, "operations in bf16", "%s has no bf16", card.name);
}
