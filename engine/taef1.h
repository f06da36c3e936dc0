/* taef1.h - TAEF1, the tiny decoder: a latent to a picture for about a hundredth of a step's work. For previews;
 * the picture itself is the VAE's.
 *
 * As madebyollin's taesd (Decoder) and diffusers' AutoencoderTiny (DecoderTiny): tanh(x/3)*3; a 3x3 convolution and
 * ReLU; blocks relu(conv relu conv relu conv(x) + x); between them enlargements, each nearest x2 and a convolution
 * without bias; a convolution to RGB in 0..1. TAEF1 itself is 64 wide, with 3, 3, 3 and 1 blocks; how wide and deep a
 * file's is, is read from its tensors, under either's names: "1.weight", "3.conv.0.weight" (taef1_decoder.safetensors)
 * or "decoder.layers.0.weight", "decoder.layers.2.conv.0.weight" (diffusion_pytorch_model.safetensors, where an
 * encoder may lie beside). Latents are in model space: its scaling_factor is 1 and its shift_factor 0. */
#ifndef SLUICE_TAEF1_H
#define SLUICE_TAEF1_H

#include "engine/weights.h"
#include "kernels/device.h"

struct taef1;

/* path: a file *.safetensors, or a folder as weights_open_dir takes it. It must take latents of that many channels
 * and enlarge them `factor` times, as the model's VAE does. */
bool taef1_open(struct taef1 **out, const char *path, int latent_channels, int factor, struct err *e);
void taef1_close(struct taef1 *t); /* NULL is fine */
const struct weights *taef1_weights(const struct taef1 *t);
size_t taef1_bytes(const struct taef1 *t); /* of the decoder's own weights */
int taef1_width(const struct taef1 *t);    /* channels between its layers */
int taef1_blocks(const struct taef1 *t);   /* in all */

/* latent [C,h,w] -> image [h/scale*factor, w/scale*factor, 3] in about -1..1; both F32 on the host, image valid when
 * device_sync has said yes; NULL on the count device. scale divides h and w: the latent is averaged over squares of
 * that side first, for a picture so much smaller in so much less memory (three pictures of `width` channels).
 * The weights are brought into the device's arena anew each time, and not through d->weights: what serves a
 * stage's is left as it is. No ticks: it is a part of a step. */
void taef1_decode(const struct taef1 *t, struct device *d, int scale, int h, int w, const float *latent, float *image);

#endif
