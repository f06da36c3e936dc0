/* doctor.c - see doctor.h. */
#include "engine/doctor.h"

#include "engine/cache.h"
#include "engine/memory.h"
#include "engine/nvml.h"
#include "engine/pipeline.h"
#include "engine/profile.h"
#include "engine/rates.h"
#include "engine/synth.h"
#include "kernels/cpu.h"
#include "kernels/cuda.h"

#include <ctype.h>
#include <dirent.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { CARDS_MAX = 16, MODELS_MAX = 64, SIZE_TEXT = 32 };

struct examination {
    struct doctor *d;
    const char *proc, *cgroup;
    bool busy;
    struct nvml *nvml;          /* NULL: there is none */
    struct cuda_card card[CARDS_MAX];
    int cards;                  /* that sluice can use */
    char largest[MODEL_PATH_MAX]; /* file of weights to measure the disk with; "": none */
    size_t largest_bytes;
    char dev[MODEL_PATH_MAX];   /* a whole FLUX.1-dev, if there is one */
    char demo[MODEL_PATH_MAX];  /* the shipped model, "" if it is not whole */
};

/* --- the report ------------------------------------------------------------------------------ */

const char *doctor_state_name(enum doctor_state s)
{
    static const char *const names[] = { "ok", "note", "problem" };
    return names[s];
}

const char *doctor_part_name(enum doctor_part p)
{
    static const char *const names[DOCTOR_PARTS] = {
        [DOCTOR_CARD] = "card",     [DOCTOR_HOST] = "host",       [DOCTOR_MEMORY] = "memory",
        [DOCTOR_SPEED] = "speed",   [DOCTOR_MODELS] = "models",   [DOCTOR_FOLDERS] = "folders",
        [DOCTOR_FLUX] = "FLUX.1-dev", [DOCTOR_TERMINAL] = "terminal",
    };
    return names[p];
}

/* File names and other programs' words may hold anything. */
static void printable(char *text)
{
    for (; *text; text++)
        if (iscntrl((unsigned char)*text))
            *text = '?';
}

struct doctor_line *doctor_say(struct doctor *d, enum doctor_part part, enum doctor_state state, const char *what,
                               const char *means, const char *fmt, ...)
{
    static struct doctor_line nowhere;
    struct doctor_line *grown = realloc(d->line, (size_t)(d->count + 1) * sizeof *grown), *to = &nowhere;
    va_list ap;
    if (grown) {
        d->line = grown;
        to = &grown[d->count++];
    } else {
        d->lost++;
    }
    *to = (struct doctor_line){ .part = part, .state = state };
    snprintf(to->what, sizeof to->what, "%s", what);
    snprintf(to->means, sizeof to->means, "%s", means ? means : "");
    va_start(ap, fmt);
    vsnprintf(to->found, sizeof to->found, fmt, ap);
    va_end(ap);
    printable(to->what);
    printable(to->found);
    printable(to->means);
    return to;
}

static void number(struct doctor_line *l, double n, const char *unit)
{
    l->number = n;
    l->unit = unit;
}

void doctor_free(struct doctor *d)
{
    free(d->line);
    *d = (struct doctor){ 0 };
}

int doctor_problems(const struct doctor *d)
{
    int n = 0;
    for (int i = 0; i < d->count; i++)
        n += d->line[i].state == DOCTOR_PROBLEM;
    return n;
}

/* "9.00 GB", "512 MB" */
static const char *size_text(double bytes, char buf[SIZE_TEXT])
{
    bool large = bytes >= 999.5e6;
    double n = bytes / (large ? 1e9 : 1e6);
    snprintf(buf, SIZE_TEXT, "%.*f %s", n < 9.995 ? 2 : n < 99.95 ? 1 : 0, n, large ? "GB" : "MB");
    return buf;
}

/* --- files of the system ------------------------------------------------------------------------ */

/* What stands behind "key" and a colon in folder/file; "" and false: nothing, or it cannot be read. */
static bool field(const char *folder, const char *file, const char *key, char value[256])
{
    char path[MODEL_PATH_MAX], line[512];
    size_t n = strlen(key);
    value[0] = '\0';
    snprintf(path, sizeof path, "%s/%s", folder, file);
    FILE *f = fopen(path, "re");
    while (f && !*value && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, n) || !colon || line[n + strspn(line + n, " \t")] != ':')
            continue;
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(value, 256, "%.*s", (int)strcspn(colon, "\n"), colon);
    }
    if (f)
        fclose(f);
    return *value != '\0';
}

/* Of /proc/meminfo, bytes; 0: unknown. */
static size_t meminfo(const struct examination *x, const char *key)
{
    char value[256];
    return field(x->proc, "meminfo", key, value) ? (size_t)strtoull(value, NULL, 10) * 1024 : 0;
}

static bool first_line(const char *path, char text[512])
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(text, 512, f);
    if (f)
        fclose(f);
    if (ok)
        text[strcspn(text, "\n")] = '\0';
    return ok;
}

/* The Windows Subsystem for Linux says so in its kernel's name. */
static bool is_wsl(const struct examination *x)
{
    char path[MODEL_PATH_MAX], text[512];
    snprintf(path, sizeof path, "%s/version", x->proc);
    return first_line(path, text) && strcasestr(text, "microsoft");
}

/* The least limit on the way from the process's control group to the root; 0: none or unknown. */
static size_t group_limit(const struct examination *x)
{
    char group[512] = "", path[MODEL_PATH_MAX], text[512];
    size_t least = 0;
    snprintf(path, sizeof path, "%s/self/cgroup", x->proc);
    if (!first_line(path, text) || strncmp(text, "0::/", 4))
        strcpy(text, "0::/");
    snprintf(group, sizeof group, "%s", text + 3);
    for (;;) {
        snprintf(path, sizeof path, "%s%s/memory.max", x->cgroup, group);
        size_t limit = first_line(path, text) ? (size_t)strtoull(text, NULL, 10) : 0; /* "max": none */
        if (limit && (!least || limit < least))
            least = limit;
        char *slash = strrchr(group, '/');
        if (!slash)
            break;
        *slash = '\0';
    }
    snprintf(path, sizeof path, "%s/memory/memory.limit_in_bytes", x->cgroup);
    if (!least && first_line(path, text))
        least = (size_t)strtoull(text, NULL, 10);
    return least < (size_t)1 << 60 ? least : 0; /* version 1 says "none" as a very large number */
}

/* --- the card ----------------------------------------------------------------------------------- */

static const char *version_text(int v, int major, int minor, int patch, char buf[32])
{
    if (patch)
        snprintf(buf, 32, "%d.%d.%d", v / major, v % major / minor, v % minor / patch);
    else
        snprintf(buf, 32, "%d.%d", v / major, v % major / minor);
    return buf;
}

static void examine_versions(struct examination *x)
{
    struct cuda_versions v = cuda_versions();
    char text[32];
    const struct { const char *what; int version, major, minor, patch; const char *without; } libraries[] = {
        { "CUDA driver", v.driver, 1000, 10, 0, "install NVIDIA's driver" },
        { "CUDA runtime", v.runtime, 1000, 10, 0, "build again" },
        { "cuBLASLt", v.cublas, 10000, 100, 1, "install it: every linear layer is its work" },
        { "cuDNN", v.cudnn, 10000, 100, 1, "slower: sluice's own attention and convolution do its work" },
    };
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        int n = libraries[i].version;
        doctor_say(x->d, DOCTOR_CARD, n ? DOCTOR_OK : DOCTOR_NOTE, libraries[i].what,
                   n ? NULL : libraries[i].without, "%s",
                   n ? version_text(n, libraries[i].major, libraries[i].minor, libraries[i].patch, text) : "not there");
    }
    if (v.driver && v.runtime && v.driver / 1000 < v.runtime / 1000)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "driver's age",
                   "install a driver of the runtime's major version or newer",
                   "the driver is older than the CUDA that sluice was built with");
}

static void examine_card(struct examination *x, int i)
{
    const struct cuda_card *c = &x->card[i];
    char what[64], size[SIZE_TEXT];
    bool bf16 = c->major >= 8;
    snprintf(what, sizeof what, "card %d", c->ordinal);
    doctor_say(x->d, DOCTOR_CARD, bf16 ? DOCTOR_OK : DOCTOR_NOTE, what,
               bf16 ? "bf16 and fp16" : "it has no bf16, which begins with 8.0 (RTX 30): fp16 is used in its place",
               "%s, %s, compute capability %d.%d, %d multiprocessors%s", c->name, size_text((double)c->total, size),
               c->major, c->minor, c->multiprocessors, c->integrated ? ", shares the system's memory" : "");
}

static void examine_module(struct examination *x)
{
    struct err e = { 0 };
    if (!cuda_load(&e)) {
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "CUDA device", "the processor does all the work", "%s", e.text);
        return;
    }
    doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "CUDA device", NULL, "built, and loads");
    examine_versions(x);
    if (!cuda_cards(x->card, CARDS_MAX, &x->cards, &e) || !x->cards)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "cards", "the processor does all the work", "none can be used: %s",
                   *e.text ? e.text : "there is none, or CUDA_VISIBLE_DEVICES hides it");
    for (int i = 0; i < x->cards; i++)
        examine_card(x, i);
}

static void examine_card_memory(struct examination *x, const struct nvml_card *c)
{
    char a[SIZE_TEXT], b[SIZE_TEXT], u[SIZE_TEXT];
    if (c->total == NVML_UNKNOWN) {
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "card's memory", "plans ask the CUDA runtime for what is free",
                   "unknown: %s", c->why[NVML_MEMORY]);
        return;
    }
    bool crowded = c->used > c->total / 4;
    struct doctor_line *l = doctor_say(
        x->d, DOCTOR_CARD, crowded ? DOCTOR_NOTE : DOCTOR_OK, "card's memory",
        crowded ? "others hold a good part of the card: a plan for what is left streams more"
                : "the profile auto plans with 92 % of what is free",
        "%s free of %s; %s in use%s", size_text((double)c->free, a), size_text((double)c->total, b),
        size_text((double)c->used, u), c->used_is_all ? ", with what an older driver reserves" : "");
    number(l, (double)c->free, "bytes");
}

static void examine_processes(struct examination *x, const struct nvml_card *c)
{
    char size[SIZE_TEXT], what[64];
    if (c->processes < 0)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "its processes", NULL, "unknown: %s", c->why[NVML_COMPUTE]);
    else if (c->processes == 0)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "its processes", NULL, "none%s",
                   c->used != NVML_UNKNOWN && c->used > 500000000 ? " that can be seen from here (a container?)" : "");
    for (int i = 0; i < c->processes && i < NVML_PROCESSES; i++) {
        const struct nvml_process *p = &c->process[i];
        snprintf(what, sizeof what, "process %u", p->pid);
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, what, NULL, "%s: %s, %s", *p->name ? p->name : "(unknown)",
                   p->used == NVML_UNKNOWN ? "how much is not told" : size_text((double)p->used, size),
                   p->compute && p->graphics ? "computes and draws" : p->compute ? "computes" : "draws");
    }
    if (c->processes > NVML_PROCESSES)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "processes", NULL, "and %d more", c->processes - NVML_PROCESSES);
}

/* Bytes per second of one lane each way, less the coding: PCI Express 1.0 to 6.0. 0: unknown. */
static double lane_rate(int generation)
{
    static const double rates[] = { 0, 0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9 };
    return generation > 0 && generation < (int)(sizeof rates / sizeof *rates) ? rates[generation] : 0;
}

static void examine_link(struct examination *x, const struct nvml_card *c)
{
    char means[512] = "";
    if (c->link_generation < 0 || c->link_width < 0) {
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "PCI Express", NULL, "unknown: %s", c->why[NVML_LINK]);
        return;
    }
    int generation = c->link_generation_max > 0 ? c->link_generation_max : c->link_generation;
    int lanes = c->link_width;
    double most = lane_rate(generation) * lanes;
    bool narrow = c->link_width_max > lanes;
    if (most > 0)
        snprintf(means, sizeof means,
                 "%sat most %.1f GB/s; FLUX.1-dev in bf16, all streamed, brings 17.3 GB a step: %.1f s%s",
                 narrow ? "fewer lanes than the card has (slot, riser or sharing): " : "", most * 1e-9, 17.3e9 / most,
                 c->link_generation < generation ? ". An idle card slows its link down" : "");
    struct doctor_line *l = doctor_say(x->d, DOCTOR_CARD, narrow ? DOCTOR_NOTE : DOCTOR_OK, "PCI Express", means,
                                       "%d.0 x%d now, %d.0 x%d at most", c->link_generation, c->link_width, generation,
                                       c->link_width_max > 0 ? c->link_width_max : lanes);
    number(l, most, "bytes/s");
}

static void examine_state(struct examination *x, const struct nvml_card *c, struct nvml_traffic traffic)
{
    char load[64] = "load unknown", heat[64] = "", power[64] = "", link[64] = "", size[SIZE_TEXT];
    if (c->load_percent >= 0)
        snprintf(load, sizeof load, "%d %% busy", c->load_percent);
    if (c->temperature_c >= 0)
        snprintf(heat, sizeof heat, ", %d degrees", c->temperature_c);
    if (c->power_mw >= 0)
        snprintf(power, sizeof power, ", %.0f W", c->power_mw * 1e-3);
    if (traffic.to_card >= 0)
        snprintf(link, sizeof link, ", %s/s to the card", size_text((double)traffic.to_card, size));
    bool busy = c->load_percent > 50;
    doctor_say(x->d, DOCTOR_CARD, busy ? DOCTOR_NOTE : DOCTOR_OK, "card's load",
               busy ? "something else computes on it: times will be longer" : NULL, "%s%s%s%s", load, heat, power,
               link);
}

static void examine_nvml_card(struct examination *x, struct nvml_handle *h)
{
    struct nvml_card c = nvml_read(x->nvml, h);
    doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "NVML's card", NULL, "%s, %s", *c.name ? c.name : c.why[NVML_NAME],
               *c.uuid ? c.uuid : c.why[NVML_UUID]);
    examine_card_memory(x, &c);
    examine_processes(x, &c);
    examine_link(x, &c);
    examine_state(x, &c, nvml_traffic(x->nvml, h));
}

/* The cards sluice can use; where it can use none, all there are. */
static void examine_nvml(struct examination *x, const char *library)
{
    struct err e = { 0 };
    struct nvml_handle *h;
    int count = 0;
    if (!nvml_open(&x->nvml, library, &e)) {
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "NVML", x->cards ? "others' use of the card cannot be told" : NULL,
                   "%s", e.text);
        return;
    }
    doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "NVML", NULL, "driver %s",
               *nvml_driver(x->nvml) ? nvml_driver(x->nvml) : "unknown");
    bool ok = x->cards || nvml_count(x->nvml, &count, &e);
    for (int i = 0; ok && i < x->cards + count; i++) {
        err_clear(&e);
        if (x->cards ? nvml_find(x->nvml, x->card[i].uuid, x->card[i].pci, &h, &e) : nvml_at(x->nvml, i, &h, &e))
            examine_nvml_card(x, h);
        else
            doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "NVML", NULL, "%s", e.text);
    }
    if (!ok)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "NVML", NULL, "%s", e.text);
    nvml_close(x->nvml);
}

static void examine_pinned(struct examination *x)
{
    struct rlimit r;
    char size[SIZE_TEXT];
    bool wsl = is_wsl(x), known = getrlimit(RLIMIT_MEMLOCK, &r) == 0, none = known && r.rlim_cur == RLIM_INFINITY;
    bool little = known && !none && r.rlim_cur < 256000000;
    if (wsl)
        doctor_say(x->d, DOCTOR_CARD, DOCTOR_NOTE, "WSL",
                   "it limits pinned memory: weights go through a small pinned ring",
                   "this is the Windows Subsystem for Linux");
    doctor_say(x->d, DOCTOR_CARD, DOCTOR_OK, "pinned memory",
               little ? "where the driver counts pinned memory by it (ulimit -l), weights take a small ring" : NULL,
               "limit of locked memory: %s", !known ? "unknown" : none ? "none" : size_text((double)r.rlim_cur, size));
}

/* --- the host ------------------------------------------------------------------------------------ */

static void examine_host(struct examination *x)
{
    char processor[256];
    cpu_set_t set;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (!field(x->proc, "cpuinfo", "model name", processor))
        strcpy(processor, "unknown");
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < cores)
        doctor_say(x->d, DOCTOR_HOST, DOCTOR_NOTE, "processor",
                   "the others are kept from this process (taskset, a container)", "%s, %d of %ld cores",
                   processor, CPU_COUNT(&set), cores);
    else
        doctor_say(x->d, DOCTOR_HOST, DOCTOR_OK, "processor", NULL, "%s, %ld cores", processor, cores);
    doctor_say(x->d, DOCTOR_HOST, DOCTOR_OK, "its arithmetic", NULL, "%s", cpu_arithmetic());
}

static void examine_memory(struct examination *x)
{
    char a[SIZE_TEXT], b[SIZE_TEXT];
    size_t total = meminfo(x, "MemTotal"), available = meminfo(x, "MemAvailable"), limit = group_limit(x);
    size_t swap = meminfo(x, "SwapTotal"), swap_free = meminfo(x, "SwapFree");
    if (total && available)
        number(doctor_say(x->d, DOCTOR_MEMORY, available < 1000000000 ? DOCTOR_NOTE : DOCTOR_OK, "RAM",
                          "weights are mapped files: they need no RAM of their own, but are quick while they fit",
                          "%s available of %s", size_text((double)available, a), size_text((double)total, b)),
               (double)available, "bytes");
    else
        doctor_say(x->d, DOCTOR_MEMORY, DOCTOR_NOTE, "RAM", "budget auto plans with the least that does",
                   "unknown: %s/meminfo cannot be read", x->proc);
    if (swap)
        doctor_say(x->d, DOCTOR_MEMORY, DOCTOR_OK, "swap", NULL, "%s free of %s", size_text((double)swap_free, a),
                   size_text((double)swap, b));
    else
        doctor_say(x->d, DOCTOR_MEMORY, DOCTOR_OK, "swap", NULL, "%s", total ? "none" : "unknown");
    if (limit)
        number(doctor_say(x->d, DOCTOR_MEMORY, DOCTOR_OK, "control group", "budgets on the processor stay below it",
                          "limited to %s", size_text((double)limit, a)),
               (double)limit, "bytes");
    else
        doctor_say(x->d, DOCTOR_MEMORY, DOCTOR_OK, "control group", NULL, "no limit");
}

/* --- models --------------------------------------------------------------------------------------- */

static bool weights_sum(struct examination *x, const struct model *m, size_t *bytes, struct err *e)
{
    static const enum model_part parts[] = { MODEL_CLIP, MODEL_T5, MODEL_FLUX, MODEL_VAE };
    char dir[MODEL_PATH_MAX];
    *bytes = 0;
    for (int i = 0; i < 4; i++) {
        struct weights *w;
        if (!weights_open_dir(&w, model_part_dir(m, parts[i], dir), model_part_name(parts[i]), e))
            return false;
        *bytes += weights_bytes(w);
        if (weights_bytes(w) > x->largest_bytes) {
            x->largest_bytes = weights_bytes(w);
            snprintf(x->largest, sizeof x->largest, "%s", weights_path(w, 0));
        }
        weights_close(w);
    }
    return true;
}

static bool is_dev(const struct model *m)
{
    return m->flux.guidance && m->flux.doubles == 19 && m->flux.singles == 38 && m->flux.hidden == 3072;
}

/* Opened, planned for as little as will do: its parts are there, whole, and of the right shapes. */
static bool model_whole(struct examination *x, struct model *m, const char *path, size_t *bytes, struct plan *plan,
                        struct err *e)
{
    struct pipeline *p = NULL;
    struct job j = { 0 };
    char notice[EVENT_TEXT_BYTES];
    bool ok = model_open(m, path, true, e) && weights_sum(x, m, bytes, e) && job_init(&j, m, e);
    if (ok) {
        j.budget = JOB_BUDGET_LEAST;
        j.device = DEVICE_CPU; /* quickly there, and with the same needs but for some libraries' scratch */
        ok = pipeline_new(&p, m, e) && pipeline_plan(p, &j, plan, notice, e);
    }
    pipeline_free(p);
    job_free(&j);
    return ok;
}

static bool examine_model(struct examination *x, const char *path, const char *what)
{
    struct model *m = malloc(sizeof *m);
    struct plan plan = { 0 };
    struct err e = { 0 };
    size_t bytes = 0;
    char a[SIZE_TEXT], b[SIZE_TEXT], name[64];
    bool ok = m ? model_whole(x, m, path, &bytes, &plan, &e) : err_set(&e, ERR_MEMORY, "out of memory");
    snprintf(name, sizeof name, "%.63s", what);
    if (ok) {
        number(doctor_say(x->d, DOCTOR_MODELS, DOCTOR_OK, name, NULL, "whole: %s; %dx%d in %s of device memory or more",
                          size_text((double)bytes, a), m->defaults.width, m->defaults.height,
                          size_text((double)plan.arena_bytes, b)),
               (double)bytes, "bytes");
        if (is_dev(m) && !*x->dev)
            snprintf(x->dev, sizeof x->dev, "%s", path);
    } else {
        doctor_say(x->d, DOCTOR_MODELS, DOCTOR_PROBLEM, name,
                   "sluice inspect --check says more; copy or download it again", "%s", e.text);
    }
    plan_free(&plan);
    free(m);
    return ok;
}

static void examine_models(struct examination *x)
{
    char folder[MODEL_PATH_MAX], path[MODEL_PATH_MAX], index[FILE_PATH_MAX];
    struct err e = { 0 };
    struct dirent **list = NULL;
    int found = 0;
    if (!model_find(path, NULL, &e))
        doctor_say(x->d, DOCTOR_MODELS, DOCTOR_PROBLEM, "the shipped model", "give a model with -m", "%s", e.text);
    else if (examine_model(x, path, "the shipped model"))
        snprintf(x->demo, sizeof x->demo, "%s", path);
    if (!model_folder(folder)) {
        doctor_say(x->d, DOCTOR_MODELS, DOCTOR_NOTE, "your models", "models are given by their path",
                   "neither XDG_DATA_HOME nor HOME is an absolute path");
        return;
    }
    int n = scandir(folder, &list, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (name[0] != '.' && found < MODELS_MAX && file_join(path, folder, name, NULL) &&
            file_join(index, path, "model_index.json", NULL) && file_exists(index)) {
            examine_model(x, path, name);
            found++;
        }
        free(list[i]);
    }
    free(list);
    if (!found)
        doctor_say(x->d, DOCTOR_MODELS, DOCTOR_NOTE, "your models",
                   "put model folders there to name them without a path",
                   "none in %s", folder);
}

/* --- speed ---------------------------------------------------------------------------------------- */

static void rate_say(struct examination *x, const char *what, double rate, double amount, const char *unknown,
                     const char *means)
{
    char text[SIZE_TEXT], full[512] = "";
    if (rate <= 0) {
        doctor_say(x->d, DOCTOR_SPEED, DOCTOR_OK, what, NULL, "unknown: %s", unknown);
        return;
    }
    if (means)
        snprintf(full, sizeof full, "%s %.1f s", means, amount / rate);
    number(doctor_say(x->d, DOCTOR_SPEED, DOCTOR_OK, what, full, "%s/s", size_text(rate, text)), rate, "bytes/s");
}

/* What is not known of the device is measured, once, and kept. */
static void measure(struct examination *x, enum device_choice device)
{
    struct model *m = malloc(sizeof *m);
    struct pipeline *p = NULL;
    struct job j = { 0 };
    struct err e = { 0 };
    bool ok = m && *x->demo && model_open(m, x->demo, true, &e) && pipeline_new(&p, m, &e) && job_init(&j, m, &e);
    if (ok) {
        j.device = device;
        ok = pipeline_measure(p, &j, &e);
    }
    if (!ok)
        doctor_say(x->d, DOCTOR_SPEED, DOCTOR_NOTE, "measuring", "times are not predicted", "%s",
                   *e.text ? e.text : "it needs the shipped model");
    pipeline_free(p);
    job_free(&j);
    free(m);
}

static void examine_speed(struct examination *x)
{
    struct rates r = { 0 };
    if (!x->busy)
        measure(x, DEVICE_CPU);
    if (!x->busy && x->cards)
        measure(x, DEVICE_CUDA);
    if (!x->busy && *x->largest)
        rates_measure(&r, NULL, x->largest, RATES_DISK, NULL);
    struct rates known = rates_load("cpu", "");
    rate_say(x, "disk of the models", r.of[RATE_DISK] > 0 ? r.of[RATE_DISK] : known.of[RATE_DISK], 33.7e9,
             x->busy ? "not measured while a picture is made" : "what was read came from memory",
             "the first picture reads FLUX.1-dev in bf16 (33.7 GB) in");
    rate_say(x, "link, processor", known.of[RATE_LINK], 0, "not measured", NULL);
    for (int i = 0; i < x->cards; i++) {
        struct rates card = rates_load(x->card[i].name, "");
        rate_say(x, "link to the card", card.of[RATE_LINK], 17.3e9, "not measured",
                 "FLUX.1-dev, all streamed, brings a step's 17.3 GB in");
    }
    if (known.of[RATE_BF16] > 0)
        doctor_say(x->d, DOCTOR_SPEED, DOCTOR_OK, "computing, processor", NULL, "%.3g GFLOP/s in bf16",
                   known.of[RATE_BF16] * 1e-9);
}

/* --- folders --------------------------------------------------------------------------------------- */

/* Could `path` be made and written? By what of it exists. */
static bool could_write(const char *path)
{
    char part[FILE_PATH_MAX];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash; access(part, F_OK) < 0 && (slash = strrchr(part, '/')); *slash = '\0')
        if (slash == part)
            return access("/", W_OK) == 0;
    return folder_exists(part) && access(part, W_OK | X_OK) == 0;
}

static void examine_folders(struct examination *x)
{
    char path[FILE_PATH_MAX], folder[FILE_PATH_MAX];
    struct err e = { 0 };
    const char *without = "prompts are encoded and rates measured anew each time";
    if (!cache_path(path, "", &e))
        doctor_say(x->d, DOCTOR_FOLDERS, DOCTOR_NOTE, "cache", without, "%s", e.text);
    else if (!could_write(path))
        doctor_say(x->d, DOCTOR_FOLDERS, DOCTOR_NOTE, "cache", without, "%s cannot be written", path);
    else
        doctor_say(x->d, DOCTOR_FOLDERS, DOCTOR_OK, "cache", NULL, "%s", path);
    err_clear(&e);
    if (folder_temporary(path, "doctor", &e)) {
        folder_remove(path);
        file_folder(path, folder);
        doctor_say(x->d, DOCTOR_FOLDERS, DOCTOR_OK, "temporary", NULL, "%s", folder);
    } else {
        doctor_say(x->d, DOCTOR_FOLDERS, DOCTOR_NOTE, "temporary", "set TMPDIR to a folder that can be written", "%s",
                   e.text);
    }
}

/* --- FLUX.1-dev here --------------------------------------------------------------------------------- */

/* Of the named profiles the largest whose budget is there; of a budget, `held` is taken already. */
static void examine_profiles(struct examination *x, const struct model *m, size_t there, size_t held)
{
    struct shelf_list l;
    char best[SHELF_NAME_MAX] = "", a[SIZE_TEXT], b[SIZE_TEXT];
    size_t most = 0;
    struct err e = { 0 };
    if (!shelf_list(&l, SHELF_PROFILES, &e)) {
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_NOTE, "profile", NULL, "%s", e.text);
        return;
    }
    for (int i = 0; i < l.count; i++) {
        struct profile p = { 0 };
        struct yaml_faults faults = { 0 };
        struct job j = { 0 };
        bool ok = profile_load(&p, l.item[i].path, &faults, NULL) && job_init(&j, m, NULL) &&
                  profile_apply(&p, &j, NULL);
        if (ok && j.budget < JOB_BUDGET_AUTO && j.budget <= there + held && j.budget > most) {
            most = j.budget;
            strcpy(best, l.item[i].name);
        }
        profile_free(&p);
        job_free(&j);
    }
    int count = l.count;
    shelf_list_free(&l);
    if (!count)
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_NOTE, "profile",
                   "the profiles that come with sluice are missing: install again",
                   "none is found");
    else if (*best)
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_OK, "profile", NULL,
                   "auto plans with %s; of those with a budget, %s (%s) fits",
                   size_text((double)there, a), best, size_text((double)most, b));
    else
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_OK, "profile", NULL,
                   "auto plans with %s; those with a budget ask for more, minimum for as little as will do",
                   size_text((double)there, a));
}

/* What opening the card has taken of it, and what others have. */
static void examine_held(struct examination *x, const struct devices_card *c)
{
    char ours[SIZE_TEXT] = "unknown", others[SIZE_TEXT] = "unknown";
    const char *why = c->why[DEVICES_HELD][0] ? c->why[DEVICES_HELD] : c->why[DEVICES_OTHERS];
    if (c->held != DEVICES_UNKNOWN)
        size_text((double)c->held, ours);
    if (c->others != DEVICES_UNKNOWN)
        size_text((double)c->others, others);
    doctor_say(x->d, DOCTOR_FLUX, *why ? DOCTOR_NOTE : DOCTOR_OK, "beside pictures",
               *why ? why : "of a budget, context and libraries are taken first",
               "CUDA's context and libraries: %s%s; other programs: %s", *c->why[DEVICES_HELD] ? "at least " : "", ours,
               others);
}

static void seconds_text(double s, char buf[SIZE_TEXT])
{
    if (s < 100)
        snprintf(buf, SIZE_TEXT, "%.1f s", s);
    else
        snprintf(buf, SIZE_TEXT, "%.0f min", s / 60);
}

/* 1024x1024, as the profile auto has it; without that profile by its one setting that counts. */
static bool plan_dev(struct examination *x, const char *path, const char *whose, struct err *e)
{
    struct model *m = malloc(sizeof *m);
    struct pipeline *p = NULL;
    struct job j = { 0 };
    struct plan plan = { 0 };
    struct profile profile = { 0 };
    struct yaml_faults faults = { 0 };
    char notice[EVENT_TEXT_BYTES], file[FILE_PATH_MAX], a[SIZE_TEXT], b[SIZE_TEXT], time[SIZE_TEXT], means[512] = "";
    bool ok = m || err_set(e, ERR_MEMORY, "out of memory");
    ok = ok && model_open(m, path, true, e) && job_init(&j, m, e);
    if (ok) {
        j.budget = JOB_BUDGET_AUTO;
        if (shelf_find(file, SHELF_PROFILES, "auto", NULL) && profile_load(&profile, file, &faults, NULL))
            ok = profile_apply(&profile, &j, e);
        j.width = j.height = 1024;
    }
    ok = ok && pipeline_new(&p, m, e) && pipeline_plan(p, &j, &plan, notice, e);
    struct devices_card card = p ? devices_card(pipeline_devices(p)) : (struct devices_card){ 0 };
    if (m && plan.budget)
        examine_profiles(x, m, plan.budget, card.held == DEVICES_UNKNOWN ? 0 : card.held);
    if (ok) {
        const struct devices *ds = pipeline_devices(p);
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_OK, "device", x->cards ? ds->notice : NULL, "auto takes %s",
                   card.total ? ds->name : "the processor");
        if (card.total)
            examine_held(x, &card);
        double seconds = plan_seconds(&plan);
        if (seconds > 0) {
            seconds_text(seconds, time);
            snprintf(means, sizeof means, "about %s, by the rates above; %s of weights over the link", time,
                     size_text((double)plan_link_bytes(&plan), b));
        }
        const struct plan_phase *step = &plan.phase[PHASE_STEP];
        double all = (double)trace_bytes(&step->trace);
        number(doctor_say(x->d, DOCTOR_FLUX, DOCTOR_OK, "1024x1024", means,
                          "%d steps in %s peak at %s, in %s; %.0f %% of a step's weights stay (%s)", j.steps,
                          precision_name(j.precision), size_text((double)plan.arena_bytes, a),
                          stage_name(phase_stage(plan_top(&plan))),
                          all > 0 ? (double)step->placement.resident_bytes / all * 100 : 0, whose),
               (double)plan.arena_bytes, "bytes");
    }
    plan_free(&plan);
    profile_free(&profile);
    pipeline_free(p);
    job_free(&j);
    free(m);
    return ok;
}

/* Where nobody has put one, the plan needs only its headers: files of holes, for a moment. */
static bool plan_synthetic(struct examination *x, struct err *e)
{
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct synth_options o = { .arch = "flux-dev", .doubles = -1, .singles = -1, .t5_layers = -1, .clip_layers = -1,
                               .dtype = DT_BF16, .headers_only = true };
    if (!folder_temporary(folder, "doctor", e))
        return false;
    bool ok = file_join(path, folder, "FLUX.1-dev", e) && synth_write(path, &o, x->demo, NULL, NULL, e) &&
              plan_dev(x, path, "a model's bf16 shapes: it is not here", e);
    folder_remove(folder);
    return ok;
}

static void examine_flux(struct examination *x)
{
    struct err e = { 0 };
    if (x->busy && x->cards) {
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_OK, "1024x1024", NULL, "not planned while a picture is made");
        return;
    }
    bool ok = *x->dev    ? plan_dev(x, x->dev, "your model", &e)
              : *x->demo ? plan_synthetic(x, &e)
                         : err_set(&e, ERR_INPUT, "its plan needs the shipped model's tokenizers, which are missing");
    if (!ok)
        doctor_say(x->d, DOCTOR_FLUX, DOCTOR_NOTE, "1024x1024", NULL, "%s", e.text);
}

void doctor_examine(struct doctor *d, const struct doctor_options *o)
{
    struct examination *x = calloc(1, sizeof *x);
    if (!x) {
        d->lost++;
        return;
    }
    x->d = d;
    x->proc = o->proc ? o->proc : "/proc";
    x->cgroup = o->cgroup ? o->cgroup : "/sys/fs/cgroup";
    x->busy = o->busy;
    examine_module(x);
    examine_nvml(x, o->nvml);
    examine_pinned(x);
    examine_host(x);
    examine_memory(x);
    examine_models(x);
    examine_speed(x);
    examine_folders(x);
    examine_flux(x);
    free(x);
}
