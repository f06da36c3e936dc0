/* cuda.c - see cuda.h: finds the module and calls it. */
#include "kernels/cuda.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char file_name[] = "libsluice-cuda.so";
static const struct cuda_module *_Atomic module; /* several threads may load it: it is the same one */

/* "" if there is none. */
static void find(char path[PATH_MAX + 64])
{
    static const char *const folders[] = { "", "../lib/sluice/" };
    const char *given = getenv("SLUICE_CUDA");
    char self[PATH_MAX];
    path[0] = '\0';
    if (given) {
        snprintf(path, PATH_MAX + 64, "%s", given);
        return;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0)
        return;
    self[n] = '\0';
    *(strrchr(self, '/') + 1) = '\0';
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, PATH_MAX + 64, "%s%s%s", self, folders[i], file_name);
        if (access(path, F_OK) == 0)
            return;
    }
    path[0] = '\0';
}

bool cuda_built(void)
{
    char path[PATH_MAX + 64];
    find(path);
    return path[0] != '\0';
}

bool cuda_load(struct err *e)
{
    char path[PATH_MAX + 64];
    if (module)
        return true;
    find(path);
    if (!path[0])
        return err_set(e, ERR_DEVICE, "there is no CUDA device in this build: install the CUDA toolkit with cuBLAS and "
                       "cuDNN, then build again");
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return err_set(e, ERR_DEVICE, "the CUDA device cannot be loaded: %s", dlerror());
    const struct cuda_module *found = dlsym(library, "sluice_cuda");
    if (!found || found->abi != CUDA_MODULE_ABI) {
        dlclose(library);
        return err_set(e, ERR_DEVICE, "%s is of another version of sluice: build again", path);
    }
    module = found;
    return true;
}

bool cuda_cards(struct cuda_card *cards, int max, int *count, struct err *e)
{
    *count = 0;
    return module ? module->cards(cards, max, count, e) : err_set(e, ERR_DEVICE, "the CUDA device is not loaded");
}

struct cuda_versions cuda_versions(void)
{
    return module ? module->versions() : (struct cuda_versions){ 0 };
}

bool cuda_device_new(struct device **out, enum dtype compute, const struct cuda_options *o, struct err *e)
{
    *out = NULL;
    return module ? module->device_new(out, compute, o, e) : err_set(e, ERR_DEVICE, "the CUDA device is not loaded");
}
