/* memory.c - see memory.h. */
#include "engine/memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct memory_use memory_use(void)
{
    struct memory_use use = { 0 };
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        size_t kb;
        if (sscanf(line, "VmRSS: %zu kB", &kb) == 1)
            use.rss = kb * 1024;
        else if (sscanf(line, "VmHWM: %zu kB", &kb) == 1)
            use.rss_peak = kb * 1024;
        else if (sscanf(line, "RssAnon: %zu kB", &kb) == 1)
            use.anonymous = kb * 1024;
        else if (sscanf(line, "RssFile: %zu kB", &kb) == 1)
            use.file = kb * 1024;
    }
    if (f)
        fclose(f);
    return use;
}

/* The one number in a file; false: there is none ("max"). */
static bool read_number(const char *path, size_t *out)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fscanf(f, "%zu", out) == 1;
    if (f)
        fclose(f);
    return ok;
}

/* A line of /proc/meminfo in bytes; 0: there is none. */
static size_t system_bytes(const char *name)
{
    size_t kb = 0, bytes = 0, n = strlen(name);
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, n) && sscanf(line + n, ": %zu kB", &kb) == 1)
            bytes = kb * 1024;
    if (f)
        fclose(f);
    return bytes;
}

size_t memory_free(void)
{
    size_t available = system_bytes("MemAvailable"), limit, used;
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && read_number("/sys/fs/cgroup/memory.current", &used)) {
        size_t left = limit > used ? limit - used : 0;
        available = available && available < left ? available : left;
    }
    return available;
}

size_t memory_total(void)
{
    size_t total = system_bytes("MemTotal"), limit;
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && limit < total)
        total = limit;
    return total;
}
