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

struct vae_options {
    int band;          /* picture rows (px) worked on at a time; 0: all at once */
    int tile, overlap; /* latents; tile 0: no tiles */
};

/* latent [C,h,w] in model space ((z - shift) * scaling), image [8h,8w,3] in
 * about -1..1; both F32 on the host, valid after device_sync; NULL on the
 * count device. Ticks after every residual block. */
void vae_decode(const struct vae *v, struct device *d, const struct vae_options *o, int h, int w, const float *latent,
                float *image);

/* The mean of the posterior, in model space: image [H,W,3] -> latent
 * [C,H/8,W/8]. Needs a vae opened with `encoder`. */
void vae_encode(const struct vae *v, struct device *d, int height, int width, const float *image, float *latent);

#endif
