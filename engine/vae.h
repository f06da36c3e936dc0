/* vae.h - the VAE: latent to picture and back.
 *
 * As diffusers' AutoencoderKL (tensor names too): residual blocks of group
 * norm, SiLU and 3x3 convolution, one attention in the middle, factor 2 per
 * level but the last. Pictures are [height, width, channels] on the device. */
#ifndef SLUICE_VAE_H
#define SLUICE_VAE_H

#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/device.h"

struct vae;

/* The encoder's tensors are taken only with `encoder`. */
bool vae_open(struct vae **out, const struct model *m, bool encoder, struct err *e);
void vae_close(struct vae *v); /* NULL is fine */
const struct weights *vae_weights(const struct vae *v);

/* How a picture is cut; all zero: not at all. */
struct vae_options {
    int band;    /* picture rows at a time, px; 0: the whole picture at once */
    int tile;    /* side, in latents; 0: no tiles */
    int overlap; /* of neighbouring tiles, in latents; less than half of one */
};

enum {
    VAE_TILE = 64, VAE_OVERLAP = 8, /* what diffusers' users know */
    VAE_BAND_MOST = 256, VAE_BAND_LEAST = 8,
};

/* The next smaller band worth a try: 0 (whole), 256, 128, ... 8. False after the last. */
bool vae_smaller_band(int *band);

/* latent [C,h,w] in model space ((z - shift) * scaling), image [8h,8w,3] in
 * about -1..1; both F32 on the host, valid after device_sync; NULL on the
 * count device.
 *
 * In bands the picture is the same, to the bit, in less memory: one picture of
 * the last level's channels and some rows of it, instead of three of the
 * largest. It takes about 1.8 times the operations, as what is not stored is made
 * again for each norm's statistics. A pass over the bands holds its weights
 * (device_hold; 10 MB of them in FLUX.1's), and there are up to three to a step: for
 * the statistics of each norm and for the result. Bands are `band` rows high where a
 * row is longest and elsewhere as many rows as take the same room.
 *
 * In tiles the picture is ANOTHER one, close to it: each tile is decoded as a
 * picture of its own, in bands or whole, with its own norms and attention, and
 * neighbours are blended linearly where they overlap: by `overlap` latents at
 * least, as tiles of equal size are spread evenly. A picture that fits one tile is
 * as without.
 *
 * Ticks after every residual block, or band of a pass. */
void vae_decode(const struct vae *v, struct device *d, const struct vae_options *o, int h, int w, const float *latent,
                float *image);

/* The mean of the posterior, in model space: image [H,W,3] -> latent
 * [C,H/8,W/8]. Needs a vae opened with `encoder`. In tiles H and W are multiples of 8. */
void vae_encode(const struct vae *v, struct device *d, const struct vae_options *o, int height, int width,
                const float *image, float *latent);

#endif
