/* ref.h - the `ref` device: what every operation means, written so that it can
 * be believed by reading it.
 *
 * Naive loops over dtype_load / dtype_store, all arithmetic in double, one
 * rounding when a result is stored. Any mix of floating types (F64 too: with
 * an F64 output the result is not rounded at all, which is how tests use it),
 * any row strides, any alignment of the element type. It is the truth for the
 * other devices and is orders of magnitude too slow for anything else.
 *
 * Not promised: speed, and F32's overflow behaviour (a sum whose middle would
 * exceed F32's range is finite here). */
#ifndef SLUICE_REF_H
#define SLUICE_REF_H

#include "kernels/device.h"

/* Makes *d a ref device with no hooks and an empty arena; the caller sets
 * d->arena. compute: DT_F32, DT_BF16 (or DT_F64). Owns nothing: no free. */
void ref_device_init(struct device *d, enum dtype compute);

/* The activation itself, for tests of anything that fuses one. */
double ref_act(enum act act, double x);

#endif
