/* gpu.h - what the parts of gpu-check share.
 *
 * gpu-check is one program for a machine with a card and little else: nvcc, a C compiler,
 * cuBLAS, cuDNN. Each part runs in a process of its own, under a time limit of its own, and
 * writes lines; the first process collects them into report.md and report.json. So a
 * part that crashes, hangs or loses the card costs its own lines only. */
#ifndef SLUICE_GPU_H
#define SLUICE_GPU_H

#include "engine/file.h"
#include "kernels/cuda.h"

#include <stdint.h>

enum outcome { PASSED, FAILED, MEASURED, NOT_POSSIBLE, OUTCOMES };

/* One line of the report; also what goes through the pipe, whole: smaller than PIPE_BUF. */
struct line {
    enum outcome outcome;
    char name[96];
    double value;      /* NaN: none */
    char unit[16];
    char text[512];
};

struct gpu {
    bool small;        /* tiny sizes: to try the program itself, without a card */
    float rounds;      /* of the operations' cases, of 1 */
    int pipe;          /* where lines go */
    char scratch[FILE_PATH_MAX]; /* an empty folder, removed afterwards */
};

__attribute__((format(printf, 4, 5))) void tell(const struct gpu *g, enum outcome o,
                                                const char *name, const char *fmt, ...);
__attribute__((format(printf, 5, 6))) void tell_value(const struct gpu *g, const char *name, double value,
                                                      const char *unit, const char *fmt, ...);

double seconds_now(void); /* a monotonic clock */

/* The card and a device on it, loading the module on the way. */
bool open_card(struct cuda_card *card, struct err *e);
bool open_device(struct device **d, enum dtype compute, struct err *e);
const char *type_name(enum dtype t); /* "fp32", "bf16", "fp16" */
/* Whether the card computes in the type. */
bool card_has(const struct cuda_card *card, enum dtype t);

/* --- the parts -------------------------------------------------------------------- */
void part_operations(const struct gpu *g); /* operations.c: check_ops.h's cases */
void part_golden(const struct gpu *g);     /* golden.c: stages against diffusers */
void part_demo(const struct gpu *g);       /* demo.c: the shipped model's picture */
void part_quality(const struct gpu *g);    /* quality.c: what the shipped model was asked for */
void part_budgets(const struct gpu *g);    /* demo.c: the same bytes under every budget */
void part_full(const struct gpu *g);       /* full.c: FLUX.1-dev's shapes, timed */

#endif
