/* cuda_internal.h - what the files of the cuda device share, and nobody else sees. */
#ifndef SLUICE_CUDA_INTERNAL_H
#define SLUICE_CUDA_INTERNAL_H

#include "kernels/cuda.h"
#include "kernels/cuda_kernels.h"

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

struct cuda_gemm;  /* cuda_gemm.c */
struct cuda_dnn;   /* cuda_dnn.c */
struct cuda_link;  /* cuda_link.c */
struct cuda_graph; /* cuda_graph.c */

/* Blocks of a model that may be queued and not done: enough for the card never to wait
 * for the host, few enough that a cancel is heard within one more. */
enum { CUDA_BLOCKS_AHEAD = 2 };

struct cuda_device {
    struct device device; /* first: a struct device * is one of these */
    struct cuda_card card;
    int sm;               /* compute capability times ten: 75, 80, 86, 89, 90, 100, 120 */
    enum cuda_attention attention;
    bool search, pin_weights; /* cuda_options */
    cudaStream_t compute; /* all operations, in order */
    struct cuda_link *link;
    struct cuda_graph *graph;
    cudaEvent_t block[CUDA_BLOCKS_AHEAD]; /* the ends of the last blocks that were queued */
    unsigned blocks;
    size_t bare;          /* bytes that were free before the libraries were opened */
    size_t taken;         /* bytes of device_take */
    cublasLtHandle_t blas;
    struct cuda_gemm *gemm;
    struct cuda_dnn *dnn; /* NULL: cuDNN is not there; the own kernels do its work */
};

static inline struct cuda_device *cuda_of(struct device *d) { return (struct cuda_device *)d; }
static inline size_t cuda_round(size_t bytes) { return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN; }

/* ERR_DEVICE_MEMORY, ERR_DEVICE_LOST after what CUDA says that only a new process gets over, else ERR_DEVICE. */
enum err_kind cuda_error_kind(cudaError_t rc);
/* Sets the sticky error if rc is no success. */
bool cuda_check(struct device *d, cudaError_t rc, const char *what);

/* --- cuda_link.c: the copy stream and what feeds it ----------------------------------------- */
bool cuda_link_open(struct cuda_device *c, struct err *e);
void cuda_link_close(struct cuda_device *c); /* also after a failed open */
bool cuda_link_pass(struct device *d, void *to, const void *from, size_t bytes, struct err *e);
bool cuda_link_mark(struct device *d, uint64_t *mark, struct err *e);
bool cuda_link_after(struct device *d, uint64_t mark, struct err *e);
void cuda_link_wait(struct device *d, uint64_t mark);
uint64_t cuda_work_mark(struct device *d);

/* --- cuda_graph.c: a repeated piece of work, recorded and started as one ------------------------ */
bool cuda_graph_open(struct cuda_device *c, struct err *e);
void cuda_graph_close(struct cuda_device *c); /* also after a failed open */
/* device_repeat. The first time nothing is recorded: libraries make their plans then. */
void cuda_graph_begin(struct device *d);
bool cuda_graph_recording(const struct cuda_device *c);
/* While recording, for upload and download: the copies go through pinned memory that stays. */
void cuda_graph_upload(struct device *d, struct tensor y, const void *host);
void cuda_graph_download(struct device *d, void *host, struct tensor x);
/* Ends the recording and starts it; nothing if there is none. After the stream has been
 * waited for, cuda_graph_deliver hands out what was downloaded. */
void cuda_graph_start(struct device *d);
void cuda_graph_deliver(struct cuda_device *c);

/* --- cuda_linear.c: linears of any shape, on cuda_gemm.h ------------------------------------- */
size_t cuda_linear_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w);
void cuda_linear(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, enum act act,
                 void *scratch);

/* --- cuda_attention.c: which of the attentions ------------------------------------------------ */
size_t cuda_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k);
void cuda_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                    const struct attention *a, void *scratch);

/* --- cuda_dnn.c: cuDNN itself ------------------------------------------------------------------- */
/* True also where cuDNN is not there: c->dnn is NULL then. */
bool cuda_dnn_open(struct cuda_device *c, struct err *e);
void cuda_dnn_close(struct cuda_device *c); /* also after a failed open */
int cuda_dnn_version(void);                 /* 91900 is 9.19.0; 0: not there */

/* --- cuda_sdpa.c: cuDNN's attention ------------------------------------------------------------- */
/* By types, shapes and the card alone, and never by the number of queries. */
bool cuda_sdpa_can(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a);
size_t cuda_sdpa_scratch(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k);
/* False, and nothing was queued, if cuDNN has no plan for it: then it has none for any number of queries. */
bool cuda_sdpa(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale,
               void *scratch);

/* --- cuda_conv.c: cuDNN's convolution, or rows of pixels through cuda_linear ----------------------- */
size_t cuda_conv2d_scratch(struct device *d, struct tensor y, struct tensor x, struct tensor w,
                           const struct conv2d *c);
void cuda_conv2d(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b,
                 const struct conv2d *c, void *scratch);

#endif
