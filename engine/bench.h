/* bench.h - the article's three tables, measured with a real model on this machine:
 * time and peak for each size; for each level of optimisation; and of each strategy
 * alone, what it saves and what it costs.
 *
 * Every row is a job as any other, planned and run by the pipeline. Its peak is the one
 * allocation that the job makes on the device, and known before it runs; so a row that
 * cannot run, or would take too long, still has it, and says why it has no time. The time
 * is that of one picture, loading and writing the file left out. */
#ifndef SLUICE_BENCH_H
#define SLUICE_BENCH_H

#include "engine/event.h"
#include "engine/job.h"
#include "engine/nvml.h"

enum bench_table { BENCH_SIZES, BENCH_LEVELS, BENCH_STRATEGIES, BENCH_TABLES };
enum { BENCH_ROWS_MAX = 32 };

struct bench_row {
    enum bench_table table;
    char name[48];       /* "512x512", "basic", "vae bands" */
    char settings[256];  /* what makes it, as options: "--vae bands --vae-band 64" */
    int width, height, steps;
    size_t peak;         /* bytes of the device that the job takes; 0: there is no plan, why says it */
    bool ran;            /* else the peak is only planned */
    size_t card_peak;    /* what the whole card held more than before the bench; 0: unknown */
    enum stage stage;    /* of a strategy: where it works */
    size_t stage_peak[STAGE_COUNT]; /* what each stage takes of it, weights included */
    double seconds;      /* 0: not measured, why says it */
    int runs;            /* that it is the median of, the one before them left out; 1: a single one */
    int steps_measured;  /* fewer than steps: the others are as long, by reckoning */
    char why[256];       /* "" */
    char notice[256];    /* what the pipeline said of it: planned for less, ...; "" */
};

struct bench {
    int count;
    struct bench_row row[BENCH_ROWS_MAX];
    bool stopped;         /* by `stop`: not all rows are there */
    bool on_card;         /* the processor has only one attention, and no memory of its own */
    char device[320];     /* "cpu", or the card and its libraries */
};

struct bench_options {
    double limit;        /* seconds that sampling in one row may take, and decoding again */
    bool quick;          /* each row once */
    const struct nvml *nvml;  /* with card: the card's whole use is watched. NULL: it is not */
    struct nvml_handle *card;
    void (*begins)(void *user, const struct bench_row *row); /* may be NULL */
    bool (*stop)(void *user);                                /* cheap, asked before every operation; may be NULL */
    void *user;
};

/* base: checked; its size, steps and precision are those of the second and third table, its
 * settings of memory those of the first; without a budget it gets what is free. True also
 * when rows failed or it was stopped. False: nothing could be measured; e says why. */
bool bench_run(struct bench *b, const struct model *m, const struct job *base, const struct bench_options *o,
               struct err *e);

/* The row "none" of the levels, what strategies are compared with; NULL: it is not there. */
const struct bench_row *bench_none(const struct bench *b);

#endif
