/* cuda_graph.c - a step that is repeated, recorded as a CUDA graph and started as one.
 *
 * A small model's step is hundreds of kernels of a few microseconds each, and starting
 * them one by one takes the host longer than the card needs. The stream records them
 * instead; the graph of the time before is brought up to date (only addresses of the
 * step's modulation differ), or made anew, and started. Copies to and from the host
 * cannot wait inside a recording: they go through pinned memory that the graph keeps,
 * filled before it starts and emptied when it has ended.
 *
 * Where recording fails nothing has been done: the device's next sync says ERR_AGAIN, and it
 * never records again. */
#include "kernels/cuda_internal.h"

#include <stdlib.h>
#include <string.h>

enum { COPIES_MAX = 4 }; /* of a step: the latent in, the velocity out */

struct copy {
    void *pinned;
    size_t room, bytes;
    void *host;        /* of a download: where it is wanted */
};

struct cuda_graph {
    bool seen;         /* work was announced before: the libraries have their plans */
    bool refused;      /* recording has failed once */
    bool recording;
    struct copy up[COPIES_MAX], down[COPIES_MAX];
    int ups, downs;
    cudaGraphExec_t exec;
};

bool cuda_graph_open(struct cuda_device *c, struct err *e)
{
    c->graph = calloc(1, sizeof *c->graph);
    return c->graph ? true : err_set(e, ERR_MEMORY, "cuda: out of memory");
}

void cuda_graph_close(struct cuda_device *c)
{
    struct cuda_graph *g = c->graph;
    if (!g)
        return;
    if (g->exec)
        cudaGraphExecDestroy(g->exec);
    for (int i = 0; i < COPIES_MAX; i++) {
        cudaFreeHost(g->up[i].pinned);
        cudaFreeHost(g->down[i].pinned);
    }
    free(g);
    c->graph = NULL;
}

bool cuda_graph_recording(const struct cuda_device *c)
{
    return c->graph && c->graph->recording;
}

void cuda_graph_begin(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    struct cuda_graph *g = c->graph;
    bool first = !g->seen;
    g->seen = true;
    if (first || g->refused || g->recording || !device_ok(d))
        return;
    g->ups = g->downs = 0;
    cudaError_t rc = cudaStreamBeginCapture(c->compute, cudaStreamCaptureModeRelaxed);
    g->recording = rc == cudaSuccess;
    if (rc != cudaSuccess) { /* then it is queued piece by piece */
        g->refused = true;
        cudaGetLastError();
    }
}

/* The next of the copies, with pinned memory for it, taken while the stream records: the mode allows it. NULL:
 * refused. */
static struct copy *take(struct device *d, struct copy *copies, int *count, size_t bytes)
{
    struct copy *k = &copies[*count];
    if (*count == COPIES_MAX) {
        err_set(&d->err, ERR_DEVICE, "cuda: a recorded step has more than %d copies", COPIES_MAX);
        return NULL;
    }
    if (k->room < bytes) {
        cudaFreeHost(k->pinned);
        *k = (struct copy){ 0 };
        cudaError_t rc = cudaMallocHost(&k->pinned, bytes);
        if (rc != cudaSuccess) {
            k->pinned = NULL;
            cuda_check(d, rc, "pinned memory of a recorded step");
            return NULL;
        }
        k->room = bytes;
    }
    k->bytes = bytes;
    ++*count;
    return k;
}

void cuda_graph_upload(struct device *d, struct tensor y, const void *host)
{
    struct cuda_device *c = cuda_of(d);
    struct copy *k = take(d, c->graph->up, &c->graph->ups, tensor_bytes(y));
    if (!k)
        return;
    memcpy(k->pinned, host, k->bytes);
    cuda_check(d, cudaMemcpyAsync(y.data, k->pinned, k->bytes, cudaMemcpyHostToDevice, c->compute), "upload");
}

void cuda_graph_download(struct device *d, void *host, struct tensor x)
{
    struct cuda_device *c = cuda_of(d);
    struct copy *k = take(d, c->graph->down, &c->graph->downs, tensor_bytes(x));
    if (!k)
        return;
    k->host = host;
    cuda_check(d, cudaMemcpyAsync(k->pinned, x.data, k->bytes, cudaMemcpyDeviceToHost, c->compute), "download");
}

/* The graph into g->exec: the one that is there, brought up to date if it can be. */
static cudaError_t adopt(struct cuda_graph *g, cudaGraph_t graph)
{
    cudaGraphExecUpdateResultInfo info;
    if (g->exec && cudaGraphExecUpdate(g->exec, graph, &info) == cudaSuccess)
        return cudaSuccess;
    cudaGetLastError();
    if (g->exec)
        cudaGraphExecDestroy(g->exec);
    g->exec = NULL;
    return cudaGraphInstantiate(&g->exec, graph, 0);
}

void cuda_graph_start(struct device *d)
{
    struct cuda_device *c = cuda_of(d);
    struct cuda_graph *g = c->graph;
    cudaGraph_t graph = NULL;
    if (!g->recording)
        return;
    g->recording = false;
    cudaError_t rc = cudaStreamEndCapture(c->compute, &graph);
    if (rc == cudaSuccess && device_ok(d))
        rc = adopt(g, graph);
    if (rc == cudaSuccess && device_ok(d))
        rc = cudaGraphLaunch(g->exec, c->compute);
    if (graph)
        cudaGraphDestroy(graph);
    cuda_check(d, rc, "a recorded step");
    if (device_ok(d) || d->err.kind == ERR_CANCELLED)
        return;
    g->refused = true;
    d->err.kind = ERR_AGAIN;
    g->downs = 0;
    cudaGetLastError();
}

void cuda_graph_deliver(struct cuda_device *c)
{
    struct cuda_graph *g = c->graph;
    for (int i = 0; i < g->downs && device_ok(&c->device); i++)
        memcpy(g->down[i].host, g->down[i].pinned, g->down[i].bytes);
    g->downs = 0;
}
