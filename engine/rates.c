/* rates.c - see rates.h. */
#include "engine/rates.h"

#include "engine/cache.h"
#include "engine/clock.h"
#include "engine/config.h"
#include "kernels/count.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *const names[RATE_COUNT] = {
    [RATE_FP32] = "fp32",         [RATE_BF16] = "bf16",         [RATE_FP16] = "fp16",
    [RATE_VAE_FP32] = "vae_fp32", [RATE_VAE_BF16] = "vae_bf16", [RATE_VAE_FP16] = "vae_fp16",
    [RATE_LINK] = "link",         [RATE_DISK] = "disk",
};

const char *rate_name(enum rate r) { return names[r]; }

enum rate rate_of(enum dtype compute, bool vae)
{
    enum rate r = compute == DT_F32 ? RATE_FP32 : compute == DT_BF16 ? RATE_BF16 : RATE_FP16;
    return vae ? r + (RATE_VAE_FP32 - RATE_FP32) : r;
}

static double sane(double rate) { return isfinite(rate) && rate > 0 && rate < 1e18 ? rate : 0; }

struct rates rates_learn(struct rates old, struct rates observed)
{
    for (int i = 0; i < RATE_COUNT; i++) {
        double was = sane(old.of[i]), is = sane(observed.of[i]);
        if (was && is)
            is = was * fmin(fmax(pow(is / was, 0.3), 0.5), 1.5);
        old.of[i] = is ? is : was;
    }
    return old;
}

/* --- the file -------------------------------------------------------------------------- */

enum { FILE_BYTES_MAX = 1 << 20, ENTRIES_MAX = 64, KEY_MAX = 1024 };

/* "AMD EPYC, 2 cores / cpu / demo". No name of the host: what is measured goes with the machine. */
static bool key_of(char key[KEY_MAX], const char *device, const char *model, struct err *e)
{
    char processor[256] = "unknown processor", line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "model name : %255[^\n]", processor) == 1)
            break;
    if (f)
        fclose(f);
    int n = snprintf(key, KEY_MAX, "%s, %ld cores / %s%s%s", processor, sysconf(_SC_NPROCESSORS_ONLN), device,
                     *model ? " / " : "", model);
    return (n > 0 && n < KEY_MAX) || err_set(e, ERR_INPUT, "%.200s: too long a name to keep rates for", model);
}

static void entry_read(struct rates *r, const json_t *entry)
{
    for (int i = 0; i < RATE_COUNT; i++) {
        double rate = sane(json_number_value(json_object_get(entry, names[i])));
        if (rate)
            r->of[i] = rate;
    }
}

struct rates rates_load(const char *device, const char *model)
{
    struct rates r = { 0 };
    char path[FILE_PATH_MAX], key[KEY_MAX];
    json_t *root = cache_path(path, "rates.json", NULL) ? config_read(path, FILE_BYTES_MAX, 0, NULL) : NULL;
    if (root && key_of(key, device, "", NULL))
        entry_read(&r, json_object_get(root, key));
    if (root && *model && key_of(key, device, model, NULL))
        entry_read(&r, json_object_get(root, key));
    json_decref(root);
    return r;
}

static json_t *entry_new(const struct rates *r)
{
    json_t *entry = json_object();
    for (int i = 0; i < RATE_COUNT && entry; i++)
        if (sane(r->of[i]) && json_object_set_new(entry, names[i], json_real(r->of[i])) < 0) {
            json_decref(entry);
            entry = NULL;
        }
    return entry;
}

bool rates_store(const struct rates *r, const char *device, const char *model, struct err *e)
{
    char path[FILE_PATH_MAX], folder[FILE_PATH_MAX], key[KEY_MAX];
    if (!key_of(key, device, model, e) || !cache_path(path, "rates.json", e) || !cache_path(folder, "", e) ||
        !cache_make(folder, e))
        return false;
    /* A damaged file is replaced; but not because memory was short for a moment. */
    struct err fault = { 0 };
    json_t *root = config_read(path, FILE_BYTES_MAX, 0, &fault), *entry = NULL;
    char *text = NULL;
    bool ok = false;
    if (fault.kind == ERR_MEMORY) {
        err_set(e, ERR_MEMORY, "%s", fault.text);
        goto done;
    }
    if (!root)
        root = json_object();
    struct rates kept = { 0 };
    entry_read(&kept, json_object_get(root, key));
    kept = rates_learn(kept, *r);
    json_object_del(root, key); /* to its end: the newest */
    while (json_object_size(root) >= ENTRIES_MAX)
        json_object_del(root, json_object_iter_key(json_object_iter(root)));
    entry = entry_new(&kept);
    if (!root || !entry) {
        err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
        goto done;
    }
    if (json_object_set(root, key, entry) < 0) {
        err_set(e, ERR_INPUT, "%s: \"%s\" is not UTF-8, or memory is refused", path, key);
        goto done;
    }
    text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(4));
    ok = text ? file_write(path, text, strlen(text), e) : err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
done:
    free(text);
    json_decref(entry);
    json_decref(root);
    return ok;
}

/* --- measuring --------------------------------------------------------------------------- */

enum { ROWS = 512, WIDTH = 3072 /* FLUX.1's */, REPEATS_LEAST = 3, REPEATS = 8,
       LINK_BYTES = 32 << 20, DISK_BYTES = 64 << 20, DISK_LEAST = 1 << 20, DISK_PIECE = 1 << 20, PAGE_LEAST = 4096 };
static const double ENOUGH_SECONDS = 0.15, DISK_SECONDS = 0.4;

/* One kind of work, its operands once and its operation any number of times. host:
 * LINK_BYTES of bf16 ones; NULL on the count device. */
struct operands { struct tensor y, x, w; };

static struct operands compute_operands(struct device *d, const void *host)
{
    struct operands o = {
        device_matrix(d, d->compute, ROWS, WIDTH), device_matrix(d, d->compute, ROWS, WIDTH),
        device_matrix(d, DT_BF16, WIDTH, WIDTH),
    };
    device_upload(d, o.x, host);
    device_upload(d, o.w, host);
    return o;
}

static void compute_once(struct device *d, struct operands o, const void *host)
{
    (void)host;
    device_linear(d, o.y, o.x, o.w, (struct tensor){ 0 }, ACT_NONE);
}

static struct operands link_operands(struct device *d, const void *host)
{
    (void)host;
    return (struct operands){ .y = device_vector(d, DT_U8, LINK_BYTES) };
}

static void link_once(struct device *d, struct operands o, const void *host)
{
    uint64_t mark;
    if (host && device_link_pass(d, o.y.data, host, LINK_BYTES, &d->err) && device_link_mark(d, &mark, &d->err))
        device_link_wait(d, mark);
}

/* Seconds of the fastest of a few, in about ENOUGH_SECONDS; of three at least: the first
 * also compiles and touches memory, and another may have been held up by another program. */
static bool device_time(double *best, struct device *d, const void *host,
                        struct operands (*operands)(struct device *d, const void *host),
                        void (*once)(struct device *d, struct operands o, const void *host), struct err *e)
{
    struct count_device c;
    count_device_init(&c, d);
    once(&c.device, operands(&c.device, NULL), NULL);
    void *memory;
    size_t bytes = c.device.arena.peak;
    if (!device_take(d, &memory, bytes, e))
        return err_prefix(e, "a measurement");
    struct arena own = d->arena;
    d->arena = arena_over(memory, bytes);
    struct operands o = operands(d, host);
    bool ok = device_sync(d, e);
    double begin = clock_now(), end = begin;
    *best = INFINITY;
    for (int i = 0; ok && (i < REPEATS_LEAST || (i < REPEATS && end - begin < ENOUGH_SECONDS)); i++) {
        double start = end;
        once(d, o, host);
        ok = device_sync(d, e);
        end = clock_now();
        *best = fmin(*best, end - start);
    }
    d->arena = own;
    device_give(d, memory);
    return ok;
}

/* The share of bytes [from, from + bytes) of the file that is in the page cache; 1 if it cannot be told. */
static double cached(int fd, off_t from, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page, in = 0;
    unsigned char resident[DISK_BYTES / PAGE_LEAST];
    if (page < PAGE_LEAST)
        return 1;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, from);
    if (map == MAP_FAILED)
        return 1;
    if (mincore(map, bytes, resident) < 0)
        in = pages;
    else
        for (size_t i = 0; i < pages; i++)
            in += resident[i] & 1;
    munmap(map, bytes);
    return (double)in / (double)pages;
}

/* Bytes per second of reading the middle of the file; 0: unknown. piece: DISK_PIECE bytes. */
static double disk_rate(const char *file, void *piece)
{
    uint64_t size;
    int fd = file_open(file, &size, NULL);
    if (fd < 0)
        return 0;
    size_t bytes = size < DISK_BYTES ? (size_t)size : DISK_BYTES, done = 0;
    off_t from = (off_t)((size - bytes) / 2 & ~(uint64_t)(DISK_PIECE - 1));
    double seconds = 0;
    posix_fadvise(fd, from, (off_t)bytes, POSIX_FADV_DONTNEED);
    if (bytes >= DISK_LEAST && cached(fd, from, bytes) < 0.05) {
        double begin = clock_now();
        ssize_t n = 1;
        while (n > 0 && done < bytes && seconds < DISK_SECONDS) {
            n = pread(fd, piece, DISK_PIECE, from + (off_t)done);
            done += n > 0 ? (size_t)n : 0;
            seconds = clock_now() - begin;
        }
        if (n < 0)
            done = 0;
    }
    close(fd);
    return done >= DISK_LEAST ? sane((double)done / seconds) : 0;
}

bool rates_measure(struct rates *r, struct device *d, const char *file, unsigned want, struct err *e)
{
    uint16_t *host = malloc(LINK_BYTES);
    if (!host)
        return err_set(e, ERR_MEMORY, "no memory for the %d MB of a measurement", LINK_BYTES >> 20);
    for (size_t i = 0; i < LINK_BYTES / sizeof *host; i++)
        host[i] = 0x3c00 + (uint16_t)(i % 97); /* ordinary numbers in every type */
    double seconds;
    bool ok = true;
    if (want & RATES_COMPUTE) {
        ok = device_time(&seconds, d, host, compute_operands, compute_once, e);
        if (ok)
            r->of[rate_of(d->compute, false)] = sane(2.0 * ROWS * WIDTH * WIDTH / seconds);
    }
    if (ok && want & RATES_LINK) {
        ok = device_time(&seconds, d, host, link_operands, link_once, e);
        if (ok)
            r->of[RATE_LINK] = sane(LINK_BYTES / seconds);
    }
    if (ok && want & RATES_DISK && file)
        r->of[RATE_DISK] = disk_rate(file, host);
    free(host);
    return ok;
}
