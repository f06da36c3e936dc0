/* cpu.h - the device that computes on the processor.
 *
 * GEMM, attention products and convolutions are oneDNN's; the rest is row
 * loops in cpu_rows.c over the vector primitives of cpu_vec.c. Weights are used
 * where they lie; only a dtype that the processor cannot multiply directly is
 * widened, in pieces, into the operation's scratch. */
#ifndef SLUICE_CPU_H
#define SLUICE_CPU_H

#include "kernels/device.h"

/* compute: DT_F32, DT_BF16 or DT_F16 (multiplied as F32: no faster than that). threads: 0 for one per core. The arena
 * is empty (capacity 0): the caller sets d->arena. */
bool cpu_device_new(struct device **out, enum dtype compute, int threads, struct err *e);
void cpu_device_free(struct device *d); /* NULL is fine */

/* The kernels that this processor gets: results are the same bytes only where it is
 * the same text. */
const char *cpu_arithmetic(void);

/* First thing in main: makes compute threads sleep while they wait for each
 * other, instead of spinning. Spinning costs a picture up to sixty times its
 * time when anything else wants a core (tests/bench/NOTES.md). The threads'
 * library reads OMP_WAIT_POLICY as it is loaded, so the program is started
 * again in place with it set; a value set by the user is kept. Returns if
 * nothing was to do or the restart failed (then it is only slower). */
void cpu_quiet_threads(char **argv);

#endif
