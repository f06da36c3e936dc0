/* nvml.c - see nvml.h. */
#include "engine/nvml.h"

#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the library's interface: nvml.h of the toolkit ------------------------------------------ */

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, INSUFFICIENT_SIZE = 7, FUNCTION_NOT_FOUND = 13,
       NEVER_ASKED = -1 /* ours: the library has no such function */ };
enum { TEMPERATURE_GPU = 0, TRAFFIC_FROM_CARD = 0, TRAFFIC_TO_CARD = 1 };
#define MEMORY_V2 0x02000028u /* the struct's size in the low bytes, its version in the high one */

struct memory_v1 { unsigned long long total, free, used; };
struct memory_v2 { unsigned version; unsigned long long total, reserved, free, used; };
_Static_assert(sizeof(struct memory_v2) == (MEMORY_V2 & 0xffff), "nvmlMemory_v2_t");
struct process_info { unsigned pid; unsigned long long used; unsigned instance, compute_instance; };
_Static_assert(sizeof(struct process_info) == 24, "nvmlProcessInfo_t");
struct utilization { unsigned gpu, memory; };

struct nvml {
    void *library;
    char driver[NVML_VERSION_BYTES];
    /* Each NULL where the library lacks it. */
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_string)(int);
    int (*driver_version)(char *, unsigned);
    int (*count)(unsigned *);
    int (*by_index)(unsigned, struct nvml_handle **);
    int (*by_uuid)(const char *, struct nvml_handle **);
    int (*by_pci)(const char *, struct nvml_handle **);
    int (*name)(struct nvml_handle *, char *, unsigned);
    int (*uuid)(struct nvml_handle *, char *, unsigned);
    int (*memory_v1)(struct nvml_handle *, struct memory_v1 *);
    int (*memory_v2)(struct nvml_handle *, struct memory_v2 *);
    int (*compute)(struct nvml_handle *, unsigned *, struct process_info *);
    int (*graphics)(struct nvml_handle *, unsigned *, struct process_info *);
    int (*process_name)(unsigned, char *, unsigned);
    int (*utilization)(struct nvml_handle *, struct utilization *);
    int (*temperature)(struct nvml_handle *, int, unsigned *);
    int (*power)(struct nvml_handle *, unsigned *);
    int (*generation)(struct nvml_handle *, unsigned *);
    int (*width)(struct nvml_handle *, unsigned *);
    int (*generation_max)(struct nvml_handle *, unsigned *);
    int (*width_max)(struct nvml_handle *, unsigned *);
    int (*traffic)(struct nvml_handle *, int, unsigned *);
};

static const struct { const char *name; size_t offset; } functions[] = {
    { "nvmlInit_v2", offsetof(struct nvml, init) },
    { "nvmlShutdown", offsetof(struct nvml, shutdown) },
    { "nvmlErrorString", offsetof(struct nvml, error_string) },
    { "nvmlSystemGetDriverVersion", offsetof(struct nvml, driver_version) },
    { "nvmlDeviceGetCount_v2", offsetof(struct nvml, count) },
    { "nvmlDeviceGetHandleByIndex_v2", offsetof(struct nvml, by_index) },
    { "nvmlDeviceGetHandleByUUID", offsetof(struct nvml, by_uuid) },
    { "nvmlDeviceGetHandleByPciBusId_v2", offsetof(struct nvml, by_pci) },
    { "nvmlDeviceGetName", offsetof(struct nvml, name) },
    { "nvmlDeviceGetUUID", offsetof(struct nvml, uuid) },
    { "nvmlDeviceGetMemoryInfo", offsetof(struct nvml, memory_v1) },
    { "nvmlDeviceGetMemoryInfo_v2", offsetof(struct nvml, memory_v2) },
    { "nvmlDeviceGetComputeRunningProcesses_v3", offsetof(struct nvml, compute) },
    { "nvmlDeviceGetGraphicsRunningProcesses_v3", offsetof(struct nvml, graphics) },
    { "nvmlSystemGetProcessName", offsetof(struct nvml, process_name) },
    { "nvmlDeviceGetUtilizationRates", offsetof(struct nvml, utilization) },
    { "nvmlDeviceGetTemperature", offsetof(struct nvml, temperature) },
    { "nvmlDeviceGetPowerUsage", offsetof(struct nvml, power) },
    { "nvmlDeviceGetCurrPcieLinkGeneration", offsetof(struct nvml, generation) },
    { "nvmlDeviceGetCurrPcieLinkWidth", offsetof(struct nvml, width) },
    { "nvmlDeviceGetMaxPcieLinkGeneration", offsetof(struct nvml, generation_max) },
    { "nvmlDeviceGetMaxPcieLinkWidth", offsetof(struct nvml, width_max) },
    { "nvmlDeviceGetPcieThroughput", offsetof(struct nvml, traffic) },
};

/* --- text of the library's ---------------------------------------------------------------------- */

/* Names come from other people's processes. */
static void printable(char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            *text = '?';
}

static const char *reason(const struct nvml *n, int rc, char buf[NVML_WHY_BYTES])
{
    const char *text = rc != NEVER_ASKED && n->error_string ? n->error_string(rc) : NULL;
    if (rc == NEVER_ASKED)
        snprintf(buf, NVML_WHY_BYTES, "this driver's NVML has no function for it");
    else if (text)
        snprintf(buf, NVML_WHY_BYTES, "NVML: %s", text);
    else
        snprintf(buf, NVML_WHY_BYTES, "NVML: error %d", rc);
    printable(buf);
    return buf;
}

static bool refused(const struct nvml *n, int rc, const char *what, struct err *e)
{
    char why[NVML_WHY_BYTES];
    return err_set(e, ERR_DEVICE, "%s: %s", what, reason(n, rc, why));
}

/* --- the library -------------------------------------------------------------------------------- */

bool nvml_open(struct nvml **out, const char *library, struct err *e)
{
    struct nvml *n = *out = NULL;
    int rc;
    if (!library)
        library = getenv("SLUICE_NVML");
    if (library && !*library)
        return err_set(e, ERR_DEVICE, "NVML is not asked: SLUICE_NVML is empty");
    if (!library)
        library = "libnvidia-ml.so.1";
    if (!(n = calloc(1, sizeof *n)))
        return err_set(e, ERR_MEMORY, "out of memory");
    n->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) {
        err_set(e, ERR_DEVICE, "%s", dlerror());
        free(n);
        return false;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        *(void **)((char *)n + functions[i].offset) = dlsym(n->library, functions[i].name);
    if (!n->init)
        err_set(e, ERR_DEVICE, "%s has no nvmlInit_v2: it is not NVIDIA's library", library);
    else if ((rc = n->init()) != SUCCESS)
        refused(n, rc, "the NVIDIA driver", e);
    else {
        if (!n->driver_version || n->driver_version(n->driver, sizeof n->driver) != SUCCESS)
            n->driver[0] = '\0';
        n->driver[sizeof n->driver - 1] = '\0';
        printable(n->driver);
        *out = n;
        return true;
    }
    dlclose(n->library);
    free(n);
    return false;
}

void nvml_close(struct nvml *n)
{
    if (!n)
        return;
    if (n->shutdown)
        n->shutdown();
    dlclose(n->library);
    free(n);
}

const char *nvml_driver(const struct nvml *n)
{
    return n->driver;
}

bool nvml_count(const struct nvml *n, int *count, struct err *e)
{
    unsigned cards = 0;
    int rc = n->count ? n->count(&cards) : NEVER_ASKED;
    *count = rc != SUCCESS ? 0 : cards < NVML_CARDS ? (int)cards : NVML_CARDS;
    return rc == SUCCESS || refused(n, rc, "counting the cards", e);
}

bool nvml_at(const struct nvml *n, int i, struct nvml_handle **out, struct err *e)
{
    *out = NULL;
    int rc = n->by_index ? n->by_index((unsigned)i, out) : NEVER_ASKED;
    return rc == SUCCESS || refused(n, rc, "the card", e);
}

bool nvml_find(const struct nvml *n, const unsigned char *u, const char *pci, struct nvml_handle **out, struct err *e)
{
    char uuid[64] = "GPU-", *to = uuid + 4;
    for (int i = 0; i < 16; i++)
        to += sprintf(to, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
    *out = NULL;
    /* Part of a card has a UUID that NVML knows otherwise: then by its slot. */
    int rc = n->by_uuid ? n->by_uuid(uuid, out) : NEVER_ASKED;
    if (rc != SUCCESS && n->by_pci)
        rc = n->by_pci(pci, out);
    return rc == SUCCESS || refused(n, rc, pci, e);
}

/* --- a card --------------------------------------------------------------------------------------- */

static void read_text(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c, enum nvml_fact fact, char *text,
                      size_t room, int (*ask)(struct nvml_handle *, char *, unsigned))
{
    int rc = ask ? ask(h, text, (unsigned)room) : NEVER_ASKED;
    text[room - 1] = '\0';
    if (rc != SUCCESS) {
        text[0] = '\0';
        reason(n, rc, c->why[fact]);
    }
    printable(text);
}

static void read_memory(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c)
{
    struct memory_v2 m = { .version = MEMORY_V2 };
    struct memory_v1 old = { 0 };
    c->total = c->free = c->used = c->reserved = NVML_UNKNOWN;
    int rc = n->memory_v2 ? n->memory_v2(h, &m) : NEVER_ASKED;
    if (rc == SUCCESS) {
        c->total = m.total;
        c->free = m.free;
        c->used = m.used;
        c->reserved = m.reserved;
        return;
    }
    if (n->memory_v1 && (rc = n->memory_v1(h, &old)) == SUCCESS) {
        c->total = old.total;
        c->free = old.free;
        c->used = old.used;
        c->used_is_all = true;
        return;
    }
    reason(n, rc, c->why[NVML_MEMORY]);
}

/* One list, malloc'd; *count processes. NULL: why says so, if there is a reason. */
static struct process_info *read_list(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c,
                                      enum nvml_fact fact, unsigned *count,
                                      int (*ask)(struct nvml_handle *, unsigned *, struct process_info *))
{
    struct process_info *list = NULL;
    unsigned room = 0;
    *count = 0;
    int rc = ask ? ask(h, count, NULL) : NEVER_ASKED;
    /* Processes come between two questions: some room for them, and not for ever. */
    for (int tries = 0; rc == INSUFFICIENT_SIZE && tries < 4; tries++) {
        free(list);
        room = *count = (*count < 65536 ? *count : 65536) + 16;
        list = malloc(room * sizeof *list);
        if (!list) {
            snprintf(c->why[fact], NVML_WHY_BYTES, "out of memory");
            return NULL;
        }
        rc = ask(h, count, list);
    }
    if (rc == SUCCESS && *count <= room)
        return list;
    if (rc != SUCCESS)
        reason(n, rc, c->why[fact]);
    *count = 0;
    free(list);
    return NULL;
}

static void read_name(const struct nvml *n, struct nvml_process *p)
{
    char name[1024] = "";
    if (!n->process_name || n->process_name(p->pid, name, sizeof name) != SUCCESS)
        return;
    name[sizeof name - 1] = '\0';
    printable(name);
    /* "/usr/bin/python3 script": the folder ends at the last slash before the first blank */
    char *begin = name;
    for (char *s = name; *s && *s != ' '; s++)
        if (*s == '/' || *s == '\\')
            begin = s + 1;
    snprintf(p->name, sizeof p->name, "%.*s", (int)sizeof p->name - 1, *begin ? begin : name);
}

static bool uses_more(const struct nvml_process *a, const struct nvml_process *b)
{
    return a->used != NVML_UNKNOWN && (b->used == NVML_UNKNOWN || a->used > b->used);
}

/* Into its place among those that use most. */
static void insert(struct nvml_card *c, int *kept, struct nvml_process p)
{
    int i = *kept;
    if (*kept < NVML_PROCESSES)
        ++*kept;
    for (; i > 0 && uses_more(&p, &c->process[i - 1]); i--)
        if (i < NVML_PROCESSES)
            c->process[i] = c->process[i - 1];
    if (i < NVML_PROCESSES)
        c->process[i] = p;
}

static bool listed(const struct process_info *list, unsigned count, unsigned pid)
{
    for (unsigned i = 0; i < count; i++)
        if (list[i].pid == pid)
            return true;
    return false;
}

static struct nvml_process process_of(const struct process_info *p, bool compute, bool graphics)
{
    /* all ones: not available, as under Windows' driver model or in a container */
    return (struct nvml_process){ .pid = p->pid, .compute = compute, .graphics = graphics,
                                  .used = p->used == ~0ull ? NVML_UNKNOWN : p->used };
}

static void read_processes(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c)
{
    unsigned computes, drawers;
    int kept = 0;
    struct process_info *compute = read_list(n, h, c, NVML_COMPUTE, &computes, n->compute);
    struct process_info *graphics = read_list(n, h, c, NVML_GRAPHICS, &drawers, n->graphics);
    c->processes = *c->why[NVML_COMPUTE] && *c->why[NVML_GRAPHICS] ? -1 : (int)computes;
    for (unsigned i = 0; i < computes; i++)
        insert(c, &kept, process_of(&compute[i], true, listed(graphics, drawers, compute[i].pid)));
    for (unsigned i = 0; i < drawers; i++)
        if (!listed(compute, computes, graphics[i].pid)) {
            insert(c, &kept, process_of(&graphics[i], false, true));
            c->processes++;
        }
    for (int i = 0; i < kept; i++)
        read_name(n, &c->process[i]);
    free(compute);
    free(graphics);
}

static int read_number(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c, enum nvml_fact fact,
                       int (*ask)(struct nvml_handle *, unsigned *))
{
    unsigned value = 0;
    int rc = ask ? ask(h, &value) : NEVER_ASKED;
    if (rc == SUCCESS)
        return value <= INT32_MAX ? (int)value : -1;
    reason(n, rc, c->why[fact]);
    return -1;
}

static void read_load(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c)
{
    struct utilization u = { 0 };
    int rc = n->utilization ? n->utilization(h, &u) : NEVER_ASKED;
    c->load_percent = rc == SUCCESS ? (int)u.gpu : -1;
    c->memory_load_percent = rc == SUCCESS ? (int)u.memory : -1;
    if (rc != SUCCESS)
        reason(n, rc, c->why[NVML_LOAD]);
}

static void read_temperature(const struct nvml *n, struct nvml_handle *h, struct nvml_card *c)
{
    unsigned value = 0;
    int rc = n->temperature ? n->temperature(h, TEMPERATURE_GPU, &value) : NEVER_ASKED;
    c->temperature_c = rc == SUCCESS ? (int)value : -1;
    if (rc != SUCCESS)
        reason(n, rc, c->why[NVML_TEMPERATURE]);
}

struct nvml_card nvml_read(const struct nvml *n, struct nvml_handle *h)
{
    struct nvml_card c = { 0 };
    read_text(n, h, &c, NVML_NAME, c.name, sizeof c.name, n->name);
    read_text(n, h, &c, NVML_UUID, c.uuid, sizeof c.uuid, n->uuid);
    read_memory(n, h, &c);
    read_processes(n, h, &c);
    read_load(n, h, &c);
    read_temperature(n, h, &c);
    c.power_mw = read_number(n, h, &c, NVML_POWER, n->power);
    c.link_generation = read_number(n, h, &c, NVML_LINK, n->generation);
    c.link_width = read_number(n, h, &c, NVML_LINK, n->width);
    c.link_generation_max = read_number(n, h, &c, NVML_LINK_MAX, n->generation_max);
    c.link_width_max = read_number(n, h, &c, NVML_LINK_MAX, n->width_max);
    return c;
}

struct nvml_card nvml_memory(const struct nvml *n, struct nvml_handle *h)
{
    struct nvml_card c = { 0 };
    read_memory(n, h, &c);
    return c;
}

/* The library counts in thousands of bytes per second. */
static int64_t read_traffic(const struct nvml *n, struct nvml_handle *h, int way)
{
    unsigned value = 0;
    return n->traffic && n->traffic(h, way, &value) == SUCCESS ? (int64_t)value * 1000 : -1;
}

struct nvml_traffic nvml_traffic(const struct nvml *n, struct nvml_handle *h)
{
    return (struct nvml_traffic){ read_traffic(n, h, TRAFFIC_TO_CARD), read_traffic(n, h, TRAFFIC_FROM_CARD) };
}
