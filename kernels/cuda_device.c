/* cuda_device.c - the cuda device: cards, making one, its operation table, and the
 * module's one symbol. The operations themselves are in the other cuda_ files. */
#include "kernels/cuda_gemm.h"
#include "kernels/cuda_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SM_LEAST = 75, SM_BF16 = 80 };

enum err_kind cuda_error_kind(cudaError_t rc)
{
    switch (rc) {
    case cudaErrorMemoryAllocation: return ERR_DEVICE_MEMORY;
    case cudaErrorECCUncorrectable:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure: return ERR_DEVICE_LOST;
    default: return ERR_DEVICE;
    }
}

bool cuda_check(struct device *d, cudaError_t rc, const char *what)
{
    if (rc == cudaSuccess)
        return true;
    cudaGetLastError(); /* told here; not again by the next launch, which may be of work that goes on without this */
    if (!device_ok(d)) /* the first failure is the one that is told */
        return false;
    if (rc == cudaErrorMemoryAllocation)
        return err_set(&d->err, ERR_DEVICE_MEMORY, "cuda: %s: the card has no memory left", what);
    return err_set(&d->err, cuda_error_kind(rc), "cuda: %s: %s", what, cudaGetErrorString(rc));
}

/* --- operations that are a kernel each ------------------------------------------------- */

static void norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale, struct tensor shift,
                          float eps)
{
    cuda_check(d, cuda_k_norm_modulate(cuda_of(d)->compute, y, x, scale, shift, eps), "norm_modulate");
}

static void layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, float eps)
{
    cuda_check(d, cuda_k_layer_norm(cuda_of(d)->compute, y, x, w, b, eps), "layer_norm");
}

static void rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    cuda_check(d, cuda_k_rms_norm(cuda_of(d)->compute, y, x, w, eps), "rms_norm");
}

static void qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    cuda_check(d, cuda_k_qk_norm_rope(cuda_of(d)->compute, x, w, rope, eps), "qk_norm_rope");
}

static void activate(struct device *d, struct tensor y, struct tensor x, enum act act)
{
    cuda_check(d, cuda_k_activate(cuda_of(d)->compute, y, x, act), "activate");
}

static void add(struct device *d, struct tensor y, struct tensor x)
{
    cuda_check(d, cuda_k_add(cuda_of(d)->compute, y, x), "add");
}

static void multiply(struct device *d, struct tensor y, struct tensor x)
{
    cuda_check(d, cuda_k_multiply(cuda_of(d)->compute, y, x), "multiply");
}

static void gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate)
{
    cuda_check(d, cuda_k_gated_add(cuda_of(d)->compute, y, x, gate), "gated_add");
}

static void group_moments(struct device *d, struct tensor moments, struct tensor x)
{
    cuda_check(d, cuda_k_group_moments(cuda_of(d)->compute, moments, x), "group_moments");
}

static void group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                       struct tensor b, float eps, enum act act)
{
    cuda_check(d, cuda_k_group_norm(cuda_of(d)->compute, y, x, moments, w, b, eps, act), "group_norm");
}

static void upsample2x(struct device *d, struct tensor y, struct tensor x)
{
    cuda_check(d, cuda_k_upsample2x(cuda_of(d)->compute, y, x), "upsample2x");
}

static void copy(struct device *d, struct tensor y, struct tensor x)
{
    cuda_check(d, cuda_k_copy(cuda_of(d)->compute, y, x), "copy");
}

/* --- between the host and the card ---------------------------------------------------------- */

/* From memory that is not pinned, the driver has taken what it needs when this returns. */
static void upload(struct device *d, struct tensor y, const void *host)
{
    struct cuda_device *c = cuda_of(d);
    if (cuda_graph_recording(c))
        cuda_graph_upload(d, y, host);
    else
        cuda_check(d, cudaMemcpyAsync(y.data, host, tensor_bytes(y), cudaMemcpyHostToDevice, c->compute), "upload");
}

static void download(struct device *d, void *host, struct tensor x)
{
    struct cuda_device *c = cuda_of(d);
    if (cuda_graph_recording(c)) {
        cuda_graph_download(d, host, x);
        return;
    }
    if (cuda_check(d, cudaMemcpyAsync(host, x.data, tensor_bytes(x), cudaMemcpyDeviceToHost, c->compute), "download"))
        cuda_check(d, cudaStreamSynchronize(c->compute), "download");
}

/* What F16 takes for it: a finite value stays finite. */
static double stored(enum dtype t, double v)
{
    enum { MOST = 65504 };
    return t != DT_F16 || !isfinite(v) ? v : v > MOST ? MOST : v < -MOST ? -MOST : v;
}

/* The table is the host's: its rows are gathered and converted there. */
static void embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids)
{
    size_t width = dtype_bytes(y.dtype), row = (size_t)y.shape[1] * width;
    char *rows = malloc((size_t)y.shape[0] * row);
    if (!rows) {
        err_set(&d->err, ERR_MEMORY, "cuda: embed: out of memory");
        return;
    }
    for (int64_t l = 0; l < y.shape[0]; l++)
        for (int64_t i = 0; i < y.shape[1]; i++)
            dtype_store(rows, y.dtype, l * y.shape[1] + i,
                        stored(y.dtype, dtype_load(table.data, table.dtype, ids[l] * table.stride[0] + i)));
    cuda_check(d, cudaMemcpy2DAsync(y.data, (size_t)y.stride[0] * width, rows, row, row, (size_t)y.shape[0],
                                    cudaMemcpyHostToDevice, cuda_of(d)->compute), "embed");
    free(rows);
}

static void sync(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    cuda_graph_start(d);
    cuda_check(d, cudaStreamSynchronize(c->compute), "waiting for the card");
    cuda_graph_deliver(c);
}

/* --- memory and pace -------------------------------------------------------------------------- */

static bool take(struct device *d, void **memory, size_t bytes, struct err *e)
{
    struct cuda_device *c = cuda_of(d);
    cudaError_t rc = cudaSetDevice(c->card.ordinal);
    *memory = NULL;
    if (rc == cudaSuccess)
        rc = cudaMalloc(memory, bytes);
    if (rc == cudaSuccess) {
        c->taken += bytes;
        return true;
    }
    cudaGetLastError(); /* told here; not again by the next launch */
    *memory = NULL;
    return err_set(e, cuda_error_kind(rc), "cuda: %zu MB on the card: %s", bytes / 1000000, cudaGetErrorString(rc));
}

static void give(struct device *d, void *memory)
{
    struct cuda_device *c = cuda_of(d);
    if (!memory)
        return;
    cudaFree(memory);
    c->taken = 0; /* of one arena at a time */
}

static struct device_memory memory(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    struct device_memory m = { .total = c->card.total, .taken = c->taken };
    size_t total;
    cudaSetDevice(c->card.ordinal);
    if (cudaMemGetInfo(&m.free, &total) != cudaSuccess) {
        cudaGetLastError();
        return (struct device_memory){ 0 };
    }
    if (c->bare > m.free + c->taken)
        m.held = c->bare - m.free - c->taken;
    return m;
}

static void pace(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    if (cuda_graph_recording(c))
        return;
    cudaEvent_t event = c->block[c->blocks++ % CUDA_BLOCKS_AHEAD];
    if (cuda_check(d, cudaEventSynchronize(event), "waiting for a block"))
        cuda_check(d, cudaEventRecord(event, c->compute), "the end of a block");
}

/* --- making it ---------------------------------------------------------------------------------- */

static void close_device(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    if (!d)
        return;
    cudaSetDevice(c->card.ordinal);
    if (c->compute)
        cudaStreamSynchronize(c->compute);
    cuda_dnn_close(c);
    cuda_gemm_close(c);
    cuda_graph_close(c);
    cuda_link_close(c);
    for (int i = 0; i < CUDA_BLOCKS_AHEAD; i++)
        if (c->block[i])
            cudaEventDestroy(c->block[i]);
    if (c->blas)
        cublasLtDestroy(c->blas);
    if (c->compute)
        cudaStreamDestroy(c->compute);
    cudaGetLastError(); /* the next device's first launch would have it */
    free(c);
}

static const struct device_ops ops = {
    .name = "cuda",
    .queues = true,
    .linear_scratch = cuda_linear_scratch,
    .linear = cuda_linear,
    .attention_scratch = cuda_attention_scratch,
    .attention = cuda_attention,
    .conv2d_scratch = cuda_conv2d_scratch,
    .conv2d = cuda_conv2d,
    .group_moments = group_moments,
    .group_norm = group_norm,
    .norm_modulate = norm_modulate,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .qk_norm_rope = qk_norm_rope,
    .activate = activate,
    .add = add,
    .multiply = multiply,
    .gated_add = gated_add,
    .embed = embed,
    .upsample2x = upsample2x,
    .copy = copy,
    .upload = upload,
    .download = download,
    .sync = sync,
    .free = close_device,
    .take = take,
    .give = give,
    .memory = memory,
    .pace = pace,
    .repeat = cuda_graph_begin,
    .link_pass = cuda_link_pass,
    .link_mark = cuda_link_mark,
    .link_after = cuda_link_after,
    .link_wait = cuda_link_wait,
    .work_mark = cuda_work_mark,
};

static bool describe_card(struct cuda_card *card, int ordinal, cudaError_t *rc)
{
    struct cudaDeviceProp p;
    *rc = cudaGetDeviceProperties(&p, ordinal);
    if (*rc != cudaSuccess)
        return false;
    *card = (struct cuda_card){ .ordinal = ordinal, .major = p.major, .minor = p.minor,
                                .multiprocessors = p.multiProcessorCount, .total = p.totalGlobalMem,
                                .integrated = p.integrated };
    snprintf(card->name, sizeof card->name, "%.*s", CUDA_NAME_BYTES - 1, p.name);
    memcpy(card->uuid, p.uuid.bytes, sizeof card->uuid);
    *rc = cudaDeviceGetPCIBusId(card->pci, sizeof card->pci, ordinal);
    return *rc == cudaSuccess;
}

static int sm_of(const struct cuda_card *card) { return 10 * card->major + card->minor; }

/* What to do about a runtime that finds no card. */
static bool no_card(struct err *e, cudaError_t rc)
{
    if (rc == cudaErrorInsufficientDriver)
        return err_set(e, ERR_DEVICE, "no CUDA card: the NVIDIA driver is missing or too old for CUDA %d.%d",
                       CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    if (rc == cudaErrorNoDevice)
        return err_set(e, ERR_DEVICE, "no CUDA card was found");
    return err_set(e, ERR_DEVICE, "no CUDA card can be used: %s", cudaGetErrorString(rc));
}

static bool cards(struct cuda_card *out, int max, int *count, struct err *e)
{
    int n = 0;
    *count = 0;
    cudaError_t rc = cudaGetDeviceCount(&n);
    struct cuda_card card;
    for (int i = 0; rc == cudaSuccess && i < n && *count < max; i++)
        if (describe_card(&card, i, &rc) && sm_of(&card) >= SM_LEAST)
            out[(*count)++] = card;
    if (rc != cudaSuccess) {
        cudaGetLastError();
        return no_card(e, rc);
    }
    if (*count)
        return true;
    if (!n)
        return no_card(e, cudaErrorNoDevice);
    return err_set(e, ERR_DEVICE, "%s is too old: compute capability %d.%d, and 7.5 (RTX 20, T4) is needed", card.name,
                   card.major, card.minor);
}

static struct cuda_versions versions(void)
{
    struct cuda_versions v = { .cublas = (int)cublasLtGetVersion(), .cudnn = cuda_dnn_version() };
    if (cudaDriverGetVersion(&v.driver) != cudaSuccess || cudaRuntimeGetVersion(&v.runtime) != cudaSuccess)
        cudaGetLastError();
    return v;
}

/* The stream, the libraries, and what is measured on the way. */
static bool open_device(struct cuda_device *c, struct err *e)
{
    size_t total;
    cudaError_t rc = cudaSetDevice(c->card.ordinal);
    if (rc == cudaSuccess)
        rc = cudaStreamCreateWithFlags(&c->compute, cudaStreamNonBlocking); /* with it the context */
    if (rc == cudaSuccess)
        rc = cudaMemGetInfo(&c->bare, &total);
    for (int i = 0; i < CUDA_BLOCKS_AHEAD && rc == cudaSuccess; i++)
        rc = cudaEventCreateWithFlags(&c->block[i], cudaEventDisableTiming);
    if (rc != cudaSuccess)
        return err_set(e, cuda_error_kind(rc), "cuda: opening %s: %s", c->card.name, cudaGetErrorString(rc));
    if (cublasLtCreate(&c->blas) != CUBLAS_STATUS_SUCCESS)
        return err_set(e, ERR_DEVICE, "cuda: cuBLASLt cannot be opened on %s", c->card.name);
    return cuda_link_open(c, e) && cuda_graph_open(c, e) && cuda_gemm_open(c, e) && cuda_dnn_open(c, e);
}

static bool device_new(struct device **out, enum dtype compute, const struct cuda_options *o, struct err *e)
{
    cudaError_t rc;
    *out = NULL;
    struct cuda_device *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(e, ERR_MEMORY, "cuda: out of memory");
    if (!describe_card(&c->card, o->ordinal, &rc)) {
        free(c);
        cudaGetLastError();
        return no_card(e, rc);
    }
    c->device.ops = &ops;
    c->device.compute = compute;
    c->device.arena = arena_over(NULL, 0);
    c->sm = sm_of(&c->card);
    c->attention = o->attention;
    c->search = o->search;
    c->pin_weights = o->pin_weights;
    bool ok = c->sm < SM_LEAST || (compute == DT_BF16 && c->sm < SM_BF16)
                  ? err_set(e, ERR_DEVICE, "%s has compute capability %d.%d: %s", c->card.name, c->card.major,
                            c->card.minor,
                            c->sm < SM_LEAST ? "7.5 is needed" : "bf16 needs 8.0; use --precision fp16")
                  : open_device(c, e);
    if (!ok) {
        close_device(&c->device);
        return false;
    }
    *out = &c->device;
    return true;
}

extern const struct cuda_module sluice_cuda;
__attribute__((visibility("default"))) const struct cuda_module sluice_cuda = {
    .abi = CUDA_MODULE_ABI,
    .cards = cards,
    .versions = versions,
    .device_new = device_new,
};
