/* scale.h - a picture to another size, for looking at.
 *
 * Separable: area average when shrinking (no shimmer in half-blocks), Catmull-
 * Rom when growing (a 16x16 preview becomes soft, not blocky). Not for results:
 * those are written as the VAE made them. Pure. */
#ifndef SLUICE_SCALE_H
#define SLUICE_SCALE_H

#include "engine/image.h"

struct image *scale_image(const struct image *im, int width, int height, struct err *e);

/* Of a part of it: from (x, y), w x h of im's px, which may be fractions. */
struct image *scale_part(const struct image *im, double x, double y, double w, double h, int width, int height,
                         struct err *e);

/* The largest size not over max_w x max_h with im's proportions, at least 1x1,
 * counting a unit of height as `aspect` units of width (2.0: cells twice as
 * tall as wide). */
void scale_fit(int width, int height, double aspect, int max_w, int max_h, int *w, int *h);

#endif
