/* cuda_dnn.h - cuDNN for cuda_sdpa.c and cuda_conv.c: one operation, an engine for it, a plan.
 *
 * cuDNN 9 is looked for when the device is made; without it c->dnn is NULL and the own
 * kernels do its work. Its backend interface makes everything of descriptors: an operation of
 * tensors, a graph of operations, an engine for a graph with its knobs, a plan for an engine.
 *
 * The same bytes, in whatever pieces work is asked for: what is independent of the pieces is a
 * family (types, channels, heads), and a family has one engine, chosen once, by the canonical
 * problem; every other problem of the family gets a plan of that engine with the same knobs. A
 * family whose engine has no plan for one of its probe problems has no engine at all. Engines
 * and plans are kept until the device is closed. Left out are engines that sum in another way
 * than F32 products one after the other (Winograd, FFT, TF32, reduced precision, split sums) or are
 * not deterministic. */
#ifndef SLUICE_CUDA_DNN_H
#define SLUICE_CUDA_DNN_H

#include "kernels/cuda_internal.h"

#include <cudnn.h>

enum {
    DNN_WORKSPACE = 4 << 20, /* bytes an engine may want: those that keep no partial sums want next to nothing */
    DNN_ALIGN = 16,          /* bytes: of every pointer and every row */
    DNN_NUMBERS = 20,        /* that describe a problem */
    DNN_TENSORS = 5,         /* of an operation */
};

/* A problem in numbers: [0] is the operands' type; what the others mean is its operation's affair, those
 * that are not needed are 0. */
struct dnn_problem { int64_t number[DNN_NUMBERS]; };

/* Descriptors on their way to a plan. After the first failure nothing more is done; all are
 * released together. */
struct dnn_build {
    struct cuda_device *device;
    struct cuda_dnn *dnn;
    cudnnStatus_t status;
    cudnnBackendDescriptor_t made[64];
    int count;
};

/* 91900 is 9.19.0. */
int dnn_version(const struct cuda_device *c);

/* NULL after a failure. */
cudnnBackendDescriptor_t dnn_make(struct dnn_build *b, cudnnBackendDescriptorType_t type);
void dnn_set(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t count, const void *values);
void dnn_set_int(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, int64_t value);
void dnn_set_descriptor(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                        cudnnBackendDescriptor_t value);
void dnn_finalize(struct dnn_build *b, cudnnBackendDescriptor_t d);
/* A finalised tensor of four dimensions. id: its name in a plan's pointers, which are DNN_ALIGN aligned. */
cudnnBackendDescriptor_t dnn_tensor(struct dnn_build *b, int64_t id, enum dtype t, const int64_t shape[4],
                                    const int64_t stride[4]);
/* One F32 number that is read from the host when the plan is queued. */
cudnnBackendDescriptor_t dnn_scalar(struct dnn_build *b, int64_t id);

static inline bool dnn_aligned(struct tensor t)
{
    bool ok = (uintptr_t)t.data % DNN_ALIGN == 0;
    for (int i = 0; i < t.ndim - 1; i++)
        ok = ok && (t.shape[i] == 1 || (size_t)t.stride[i] * dtype_bytes(t.dtype) % DNN_ALIGN == 0);
    return ok;
}

/* What a kind of problem is for cuDNN. */
struct dnn_operation {
    const char *name;
    /* The finalised operation of a problem; its tensors have ids 1, 2, ... */
    cudnnBackendDescriptor_t (*make)(struct dnn_build *b, const struct dnn_problem *p);
    int tensors;
    bool compiles; /* engines that are compiled for a problem will do */
};

/* The plan for a problem, made now or before. family: what all pieces have in common; probes[0]:
 * its canonical problem. NULL: there is none for this family, or the sticky error is set. */
struct dnn_plan *dnn_plan(struct cuda_device *c, const struct dnn_operation *o, const struct dnn_problem *family,
                          const struct dnn_problem *probes, int probe_count, const struct dnn_problem *p);

/* Queues a plan. pointers: the operation's tensors by id; workspace: DNN_WORKSPACE bytes. */
void dnn_run(struct cuda_device *c, const struct dnn_operation *o, struct dnn_plan *p, void *const pointers[],
             void *workspace);

#endif
