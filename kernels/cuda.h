/* cuda.h - the `cuda` device: an NVIDIA card of compute capability 7.5 or later.
 *
 * Its code, and with it the CUDA libraries, is in a module of its own,
 * libsluice-cuda.so, that is loaded when it is first asked for: a machine without a
 * driver, a library or a card only gets the reason why there is none.
 *
 * Operations are queued on one stream of the card and return at once; device_sync
 * waits. Linears are cuBLASLt's, with one algorithm for a weight's shape and no
 * split-K; attention and convolution are cuDNN's where it can, else own kernels.
 * All operands of an operation are device memory (device_take), but the table and
 * the ids of embed, which are the host's. */
#ifndef SLUICE_CUDA_H
#define SLUICE_CUDA_H

#include "kernels/device.h"

enum { CUDA_NAME_BYTES = 128 };

struct cuda_card {
    int ordinal;                  /* as the CUDA runtime counts: after CUDA_VISIBLE_DEVICES */
    char name[CUDA_NAME_BYTES];   /* "NVIDIA GeForce RTX 3060" */
    unsigned char uuid[16];
    char pci[16];                 /* "0000:65:00.0": NVML's name for it */
    int major, minor;             /* compute capability */
    int multiprocessors;
    size_t total;                 /* bytes of memory */
    bool integrated;              /* shares the host's memory */
};

struct cuda_versions { int driver, runtime, cublas, cudnn; }; /* as each library counts; 0: not there */

enum cuda_attention { CUDA_ATTENTION_AUTO, CUDA_ATTENTION_FLASH, CUDA_ATTENTION_EFFICIENT, CUDA_ATTENTION_MATH };

struct cuda_options {
    int ordinal;
    enum cuda_attention attention; /* AUTO, FLASH: cuDNN's, else the own flash kernel, else the plain one;
                                      EFFICIENT: the own flash kernel, else the plain one; MATH: the plain one */
    bool pin_weights;              /* pin mapped weights where they lie and bring them from there: the quickest, but
                                      they then stay in the host's memory. device_free before they are unmapped */
    bool search;                   /* look for the fastest of cuBLASLt's algorithms where none is on record */
};

/* True if the module is loaded, now or before. False: e says which file or library
 * lacks and what to do. It is looked for at $SLUICE_CUDA (empty: nowhere), beside the program, and
 * in ../lib/sluice from there. One thread. */
bool cuda_load(struct err *e);
/* Whether this build made the module: false, and cuda_load fails for want of a file. */
bool cuda_built(void);
/* Cards that can be used, at most max. False: the driver's reason. Needs cuda_load. */
bool cuda_cards(struct cuda_card *cards, int max, int *count, struct err *e);
struct cuda_versions cuda_versions(void);

/* A device on the card. compute: DT_F32, DT_F16, or DT_BF16 from compute capability 8.0 on. *out is
 * released by device_free. Needs cuda_load. */
bool cuda_device_new(struct device **out, enum dtype compute, const struct cuda_options *o, struct err *e);

/* The module's one symbol, "sluice_cuda": what the functions above call. */
struct cuda_module {
    unsigned abi; /* CUDA_MODULE_ABI */
    bool (*cards)(struct cuda_card *cards, int max, int *count, struct err *e);
    struct cuda_versions (*versions)(void);
    bool (*device_new)(struct device **out, enum dtype compute, const struct cuda_options *o, struct err *e);
};
enum { CUDA_MODULE_ABI = 3 };

#endif
