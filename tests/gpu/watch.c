/* watch.c - see watch.h. */
#include "tests/gpu/watch.h"

static struct nvml *nvml; /* until the process ends */
static struct nvml_handle *handle;
static size_t before;

bool watch_begin(const struct cuda_card *card, struct err *e)
{
    if (!nvml_open(&nvml, NULL, e) || !nvml_find(nvml, card->uuid, card->pci, &handle, e))
        return false;
    struct nvml_card c = nvml_memory(nvml, handle);
    before = c.used;
    return before != NVML_UNKNOWN || err_set(e, ERR_DEVICE, "%s", c.why[NVML_MEMORY]);
}

size_t watch_used(void)
{
    size_t used = handle && before != NVML_UNKNOWN ? nvml_memory(nvml, handle).used : NVML_UNKNOWN;
    return used != NVML_UNKNOWN && used > before ? used - before : 0;
}
