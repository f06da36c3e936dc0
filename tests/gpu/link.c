/* link.c - see link.h. Types and names are the driver interface's (cuda.h of the toolkit). */
#include "tests/gpu/link.h"

#include "tests/gpu/gpu.h"

#include <dlfcn.h>

struct driver {
    int (*init)(unsigned flags);
    int (*device_get)(int *device, int ordinal);
    int (*context_retain)(void **context, int device);
    int (*context_release)(int device);
    int (*context_set)(void *context);
    int (*host_alloc)(void **p, size_t bytes, unsigned flags);
    int (*host_free)(void *p);
    int (*mem_alloc)(unsigned long long *p, size_t bytes);
    int (*mem_free)(unsigned long long p);
    int (*copy_in)(unsigned long long to, const void *from, size_t bytes);
};

static bool load(struct driver *d, struct err *e)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (!library)
        return err_set(e, ERR_DEVICE, "%s", dlerror());
    const struct { const char *name; void *to; } function[] = {
        { "cuInit", &d->init }, { "cuDeviceGet", &d->device_get }, { "cuDevicePrimaryCtxRetain", &d->context_retain },
        { "cuDevicePrimaryCtxRelease_v2", &d->context_release }, { "cuCtxSetCurrent", &d->context_set },
        { "cuMemHostAlloc", &d->host_alloc }, { "cuMemFreeHost", &d->host_free }, { "cuMemAlloc_v2", &d->mem_alloc },
        { "cuMemFree_v2", &d->mem_free }, { "cuMemcpyHtoD_v2", &d->copy_in }
    };
    for (size_t i = 0; i < sizeof function / sizeof *function; i++)
        if (!(*(void **)function[i].to = dlsym(library, function[i].name)))
            return err_set(e, ERR_DEVICE, "the driver has no %s", function[i].name);
    return true;
}

bool link_pinned(int ordinal, double *bytes_per_second, struct err *e)
{
    enum { BYTES = 256 << 20, TIMES = 8 };
    struct driver d;
    int device, rc;
    void *context, *host = NULL;
    unsigned long long card = 0;
    *bytes_per_second = 0;
    if (!load(&d, e))
        return false;
    if ((rc = d.init(0)) || (rc = d.device_get(&device, ordinal)) || (rc = d.context_retain(&context, device)))
        return err_set(e, ERR_DEVICE, "the driver: error %d", rc);
    if (!(rc = d.context_set(context)) && !(rc = d.host_alloc(&host, BYTES, 0)) && !(rc = d.mem_alloc(&card, BYTES)))
        for (int i = 0; i < TIMES && !rc; i++) {
            double began = seconds_now();
            rc = d.copy_in(card, host, BYTES);
            double rate = BYTES / (seconds_now() - began);
            *bytes_per_second = rate > *bytes_per_second ? rate : *bytes_per_second;
        }
    if (card)
        d.mem_free(card);
    if (host)
        d.host_free(host);
    d.context_release(device);
    return !rc || err_set(e, ERR_DEVICE, "the driver: error %d", rc);
}
