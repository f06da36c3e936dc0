/* rates.h - how fast this machine is, measured and remembered, to tell time with.
 *
 * Three things bound a stage: computing, the link that brings weights to the
 * device, and the disk behind it. rates_measure asks the machine directly and takes
 * about 0.3 s for each; rates_learn corrects that by what real work did. Kept in
 * $XDG_CACHE_HOME/sluice/rates.json (cache.h) by machine, device and model: a small
 * model does not reach the rate of a large one, so what was learned from one is used
 * for that one only. 0 is "unknown" everywhere, and unknown stays unknown.
 *
 * Only rates_measure looks at a clock; only load and store touch the file. */
#ifndef SLUICE_RATES_H
#define SLUICE_RATES_H

#include "kernels/device.h"

/* Operations as the count device counts them (count.h) per second, of the text encoders
 * and the transformer, and of the VAE; by the device's compute type. Bytes per second. */
enum rate { RATE_FP32, RATE_BF16, RATE_FP16, RATE_VAE_FP32, RATE_VAE_BF16, RATE_VAE_FP16, RATE_LINK, RATE_DISK,
            RATE_COUNT };
const char *rate_name(enum rate r); /* "bf16", "vae_bf16", "link", ...: as in the file */
enum rate rate_of(enum dtype compute, bool vae); /* compute: DT_F32, DT_BF16 or DT_F16 */

struct rates { double of[RATE_COUNT]; };

/* old, moved towards what was observed: three tenths of the way (of their ratio), and by
 * no more than half or 1.5 times, however far off that is. What is unknown in one is taken
 * from the other; what is no rate (not finite, not positive, 1e18 and more) is unknown. */
struct rates rates_learn(struct rates old, struct rates observed);

/* What is known of this machine with `device` ("cpu"; of a GPU its own name; anything
 * else that changes its speed, as a number of threads) and `model`: what was stored
 * for the model, else ("" always) for the device. Missing, damaged or foreign: unknown. */
struct rates rates_load(const char *device, const char *model);
/* Moves what is kept of device and model ("": of the device itself) towards r, as
 * rates_learn has it, beside what the file has of others (64 in all, the newest). False
 * with e set: worth a notice at most. Two processes at once: one of the two is kept. */
bool rates_store(const struct rates *r, const char *device, const char *model, struct err *e);

enum { RATES_COMPUTE = 1, RATES_LINK = 2, RATES_DISK = 4 };
/* Measures what `want` asks for into *r and leaves the rest.
 * COMPUTE: a linear layer as wide as FLUX.1's, bf16 weights, in d's compute type (an upper
 * bound: README's table says how near a model comes). LINK: device_link_pass. Both take
 * some 100 MB for the moment; d is idle and gets its arena back; for DISK alone it may be NULL.
 * DISK: reads at most 64 MB of `file` (may be NULL), whose pages are first asked out of
 * the page cache. Unknown if they stay there (mapped and in use, a file system in memory)
 * or the system does not tell (another user's file), for less than 1 MB, and on any fault.
 * False only when d fails, is interrupted, or memory is refused. */
bool rates_measure(struct rates *r, struct device *d, const char *file, unsigned want, struct err *e);

#endif
