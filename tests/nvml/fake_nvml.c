/* fake_nvml.c - a libnvidia-ml.so.1 for tests: one card with whatever it is told.
 *
 * Own declarations, apart from engine/nvml.c's, after the toolkit's nvml.h: a layout
 * that one of the two has wrong shows. With FAKE_OLD it is a library from before the
 * functions with a newer version. */
#include "tests/nvml/fake_nvml.h"

#include <stdio.h>
#include <string.h>

#pragma GCC visibility push(default)

struct fake_nvml fake_nvml = { .cards = 1 };

typedef unsigned long long u64;
typedef struct { unsigned pid; u64 usedGpuMemory; unsigned gpuInstanceId, computeInstanceId; } nvmlProcessInfo_t;
typedef struct { u64 total, free, used; } nvmlMemory_t;
typedef struct { unsigned version; u64 total, reserved, free, used; } nvmlMemory_v2_t;
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
typedef struct fake_nvml *nvmlDevice_t;

/* The code that this function is told to fail with; 0: it works. */
static int fails(const char *function)
{
    bool named = fake_nvml.failing[0] && strstr(function, fake_nvml.failing);
    if (fake_nvml.fail_all && strcmp(function, "nvmlInit_v2"))
        named = true;
    return named ? fake_nvml.code : 0;
}
#define FAILS() do { int rc_ = fails(__func__); if (rc_) return rc_; } while (0)

static int give_text(char *to, unsigned room, const char *text)
{
    if (strlen(text) >= room)
        return 7;
    strcpy(to, text);
    return 0;
}

int nvmlInit_v2(void) { FAILS(); fake_nvml.open++; return 0; }
int nvmlShutdown(void) { fake_nvml.open--; return 0; }

const char *nvmlErrorString(int rc)
{
    return fake_nvml.no_text ? NULL : rc == 4 ? "Insufficient Permissions" : rc == 3 ? "Not Supported"
           : rc == 9 ? "Driver Not Loaded" : "Unknown\033[2J Error";
}

int nvmlSystemGetDriverVersion(char *to, unsigned n) { FAILS(); return give_text(to, n, "580.95.05"); }
int nvmlDeviceGetCount_v2(unsigned *n) { FAILS(); *n = (unsigned)fake_nvml.cards; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned i, nvmlDevice_t *d)
{
    FAILS();
    *d = &fake_nvml;
    return i < (unsigned)fake_nvml.cards ? 0 : 2;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *d)
{
    FAILS();
    snprintf(fake_nvml.asked_uuid, sizeof fake_nvml.asked_uuid, "%s", uuid);
    *d = &fake_nvml;
    return strcmp(uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff") ? 6 : 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci, nvmlDevice_t *d)
{
    FAILS();
    *d = &fake_nvml;
    return strcmp(pci, "0000:65:00.0") ? 6 : 0;
}

int nvmlDeviceGetName(nvmlDevice_t d, char *to, unsigned n)
{
    FAILS();
    return give_text(to, n, d->garbage ? "GeForce\033]0;evil\a RTX\n\xff" : "NVIDIA GeForce RTX 3060");
}

int nvmlDeviceGetUUID(nvmlDevice_t d, char *to, unsigned n)
{
    (void)d;
    FAILS();
    return give_text(to, n, "GPU-00112233-4455-6677-8899-aabbccddeeff");
}

enum { RESERVED = 300000000 };

static u64 total(nvmlDevice_t d) { return d->total ? d->total : 12000000000; }
static u64 used(nvmlDevice_t d) { return d->used_now ? d->used_now() : d->used ? d->used : 2700000000; }

int nvmlDeviceGetMemoryInfo(nvmlDevice_t d, nvmlMemory_t *m)
{
    FAILS();
    u64 all = used(d) + RESERVED;
    *m = (nvmlMemory_t){ total(d), total(d) - all, all };
    return 0;
}

#ifndef FAKE_OLD
int nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t d, nvmlMemory_v2_t *m)
{
    FAILS();
    if (m->version != 0x02000028)
        return 25; /* argument version mismatch */
    u64 now = used(d);
    *m = (nvmlMemory_v2_t){ m->version, total(d), RESERVED, total(d) - RESERVED - now, now };
    return 0;
}

static int give_list(unsigned *count, nvmlProcessInfo_t *list, int have, unsigned first)
{
    unsigned room = *count;
    *count = (unsigned)have;
    if (fake_nvml.growing && list)
        *count = (unsigned)(have += 40);
    if (room < (unsigned)have)
        return have ? 7 : 0;
    for (unsigned i = 0; i < (unsigned)have; i++)
        list[i] = (nvmlProcessInfo_t){ first + i, i % 7 == 3 ? ~0ull : (i + 1) * 100000000ull, ~0u, ~0u };
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t d, unsigned *n, nvmlProcessInfo_t *list)
{
    FAILS();
    return give_list(n, list, d->compute, 1000);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(nvmlDevice_t d, unsigned *n, nvmlProcessInfo_t *list)
{
    FAILS();
    return give_list(n, list, d->graphics, d->graphics_first ? d->graphics_first : 5000);
}
#endif

int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned n)
{
    FAILS();
    char text[64];
    snprintf(text, sizeof text, fake_nvml.garbage ? "/opt/\033[31mred\x9b/%u\xc3(" : "/usr/bin/python%u train.py /x",
             pid);
    return give_text(to, n, text);
}

int nvmlDeviceGetUtilizationRates(nvmlDevice_t d, nvmlUtilization_t *u)
{
    (void)d;
    FAILS();
    *u = (nvmlUtilization_t){ 87, 41 };
    return 0;
}

int nvmlDeviceGetTemperature(nvmlDevice_t d, int what, unsigned *t) { (void)d, (void)what; FAILS(); *t = 61; return 0; }
int nvmlDeviceGetPowerUsage(nvmlDevice_t d, unsigned *mw) { (void)d; FAILS(); *mw = 145500; return 0; }
int nvmlDeviceGetCurrPcieLinkGeneration(nvmlDevice_t d, unsigned *v) { (void)d; FAILS(); *v = 1; return 0; }
int nvmlDeviceGetCurrPcieLinkWidth(nvmlDevice_t d, unsigned *v) { (void)d; FAILS(); *v = 8; return 0; }
int nvmlDeviceGetMaxPcieLinkGeneration(nvmlDevice_t d, unsigned *v) { (void)d; FAILS(); *v = 4; return 0; }
int nvmlDeviceGetMaxPcieLinkWidth(nvmlDevice_t d, unsigned *v) { (void)d; FAILS(); *v = 16; return 0; }

int nvmlDeviceGetPcieThroughput(nvmlDevice_t d, int way, unsigned *kb)
{
    (void)d;
    FAILS();
    *kb = way == 1 ? 20000000 : 1000; /* 1: what the card receives */
    return 0;
}
