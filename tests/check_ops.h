/* check_ops.h - every operation of a device against ref, in the manner of dav1d's
 * checkasm. Needs no test framework: what fails is a returned false and a
 * message, and the next case still runs.
 *
 * A case is made from one 64-bit seed: shapes (1, around vector and tile
 * sizes, primes), types, strides, alignment, values (ordinary, wide, subnormal,
 * near the type's maximum, zero rows, constant rows, one spike, a large mean,
 * NaN). Each case checks
 *   - the result against ref's, which is left in F64, within a bound derived
 *     from the types and the sum of |x*w| (see "Bounds" in check_ops.c);
 *   - that nothing but the output changed: all padding around and inside every
 *     operand is a NaN pattern, so that what is read there shows in the result
 *     and what is written there shows in the pattern;
 *   - the arena: the count device's peak is the real one, scratch full of NaN
 *     does no harm, nothing is written past it, one line less is ERR_DEVICE_MEMORY
 *     with the output untouched;
 *   - that an interrupted device and a failed device do nothing;
 *   - now and then, that the same call gives the same bytes again.
 * Beside the operations there are properties: rows, queries and bands asked for
 * in pieces are the same bytes; an exhausted arena; a token id out of range.
 *
 * It does not measure speed, and does not test infinite inputs or sums beyond
 * F32's range, which device.h leaves open. One thread. */
#ifndef SLUICE_CHECK_OPS_H
#define SLUICE_CHECK_OPS_H

#include "kernels/device.h"

#include <stdio.h>

/* Where a device rounds to the operand's type more often than once, at the end.
 * All false is the strictest: cpu and ref. */
struct check_rounding {
    bool weights;     /* linear, conv2d: weights that are not F16 are rounded to it on an F16 activation */
    bool attention;   /* probabilities are stored relative to the largest so far: in F16 small ones lose bits */
};

struct check_target {
    const char *name;          /* "cpu-bf16" */
    enum dtype compute;
    bool device_memory;        /* operands go by upload and download through memory that device_take gave;
                                  else they are used where they lie */
    float rounds;              /* how many of the cases, of 1 */
    bool small;                /* leave out the properties' larger shapes: a slow device */
    struct check_rounding rounding;
    /* A NaN may reach more of conv2d's results than it should: by zeros that are multiplied with it, as padding
     * or, of an odd number of BF16 channels, as the last one's partner. */
    bool nan_meets_padding, nan_meets_pairs;
    int threads, attention;    /* what make may want to know of */
    /* threads: the target's, or 1 for a second device that must give the same bytes. */
    bool (*make)(const struct check_target *t, int threads, struct device **out, struct err *e);
    void (*drop)(struct device *d);
};

/* From the environment:
 *   SLUICE_SEED=cpu-f32:linear:0x123   that one case
 *   SLUICE_SEED=7                      every case, from another base
 *   SLUICE_ROUNDS=20                   twenty times as many cases
 *   SLUICE_ONLY=cpu-f32:conv2d         one operation, or one device */
struct check_options {
    uint64_t seed;
    float rounds;
    const char *replay, *only; /* NULL: everything */
    FILE *log;                 /* a failing case at length; NULL: nowhere */
};

struct check_options check_options_from_environment(void);

/* The checks: 0 to check_count() - 1, the operations first. "linear", "linear_rows", ... */
int check_count(void);
const char *check_name(int check);
/* Whether the options ask for this check of this target. */
bool check_wanted(const struct check_options *o, const struct check_target *t, int check);
/* False, and e has the first failure with what replays it. Asked of a device that cannot be made: e's kind
 * is what make gave. */
bool check_run(const struct check_options *o, const struct check_target *t, int check, struct err *e);

#endif
