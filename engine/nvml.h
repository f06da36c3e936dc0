/* nvml.h - what NVIDIA's management library tells of a card, whoever uses it.
 *
 * libnvidia-ml.so.1 comes with the driver and is loaded when it is asked for; its few
 * functions and structs that are needed are declared in nvml.c (their layout as in
 * nvml.h of the CUDA toolkit). Nothing here needs CUDA, starts a context or takes memory
 * of the card.
 *
 * Unknown is a value, and every unknown has its reason in why[]: the card or driver may
 * not support a question, or the user may not be allowed to ask.
 *
 * A process is told by its number outside of any container, so nobody looks for himself
 * in the list: what others use is devices.h's to find. One thread at a time. */
#ifndef SLUICE_NVML_H
#define SLUICE_NVML_H

#include "kernels/err.h"

#include <stdint.h>

enum { NVML_NAME_BYTES = 96, NVML_UUID_BYTES = 96, NVML_WHY_BYTES = 96, NVML_VERSION_BYTES = 80,
       NVML_PROCESSES = 16, NVML_CARDS = 64 };
#define NVML_UNKNOWN SIZE_MAX /* of bytes; the other numbers are -1 */

/* What is asked of a card, each with a reason if there is no answer. */
enum nvml_fact { NVML_NAME, NVML_UUID, NVML_MEMORY, NVML_COMPUTE, NVML_GRAPHICS, NVML_LOAD, NVML_TEMPERATURE,
                 NVML_POWER, NVML_LINK, NVML_LINK_MAX, NVML_FACTS };

struct nvml_process {
    unsigned pid;               /* as the host numbers it */
    bool compute, graphics;     /* which of the two lists has it, or both */
    size_t used;                /* bytes */
    char name[NVML_NAME_BYTES]; /* the program without its folder, printable ASCII; "" unknown */
};

struct nvml_card {
    char name[NVML_NAME_BYTES], uuid[NVML_UUID_BYTES]; /* "" unknown */
    size_t total, free, used;   /* bytes; used by processes, and with used_is_all what the driver reserves, too */
    size_t reserved;            /* by the driver itself */
    bool used_is_all;           /* an older driver: its `used` includes what is reserved */
    int processes;              /* of both lists, each once; -1: neither could be read */
    struct nvml_process process[NVML_PROCESSES]; /* those that use most, the most first; unknown last */
    int load_percent, memory_load_percent, temperature_c, power_mw;
    int link_generation, link_width, link_generation_max, link_width_max; /* PCI Express; less while idle */
    char why[NVML_FACTS][NVML_WHY_BYTES]; /* why a fact is unknown; "" where it is known */
};

struct nvml_traffic { int64_t to_card, from_card; }; /* bytes per second over the link; -1 unknown */

struct nvml;
struct nvml_handle; /* of a card: the library's own, valid until nvml_close */

/* library: NULL for $SLUICE_NVML (empty: none), else libnvidia-ml.so.1. False: e says what is missing or refused. */
bool nvml_open(struct nvml **out, const char *library, struct err *e);
void nvml_close(struct nvml *n); /* NULL is fine */

const char *nvml_driver(const struct nvml *n); /* "580.95.05"; "" unknown */

/* All cards of the system, those hidden from CUDA too; at most NVML_CARDS. */
bool nvml_count(const struct nvml *n, int *count, struct err *e);
bool nvml_at(const struct nvml *n, int i, struct nvml_handle **out, struct err *e);
/* The card that the CUDA runtime knows by this UUID (16 bytes) and PCI name ("0000:65:00.0"). */
bool nvml_find(const struct nvml *n, const unsigned char *uuid, const char *pci, struct nvml_handle **out,
               struct err *e);

/* All of it now, some milliseconds: quick enough for once a second. Never fails as a whole. */
struct nvml_card nvml_read(const struct nvml *n, struct nvml_handle *h);
/* Its memory alone (total to used_is_all, why[NVML_MEMORY]), the rest zero: quick enough between two steps. */
struct nvml_card nvml_memory(const struct nvml *n, struct nvml_handle *h);
/* Of the last 20 ms each way: takes 40 ms. */
struct nvml_traffic nvml_traffic(const struct nvml *n, struct nvml_handle *h);

#endif
