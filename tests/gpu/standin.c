/* standin.c - what of the program gpu-check links a caller of, but never calls: pictures need libpng. */
#include "engine/image.h"

#include <stdlib.h>

void image_free(struct image *im) { free(im); }
