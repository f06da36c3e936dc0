/* memory.c - see memory.h. */
#include "engine/memory.h"

#include <stdbool.h>
#include <stdio.h>

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

size_t memory_free(void)
{
    size_t available = 0, limit, used, kb;
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %zu kB", &kb) == 1)
            available = kb * 1024;
    if (f)
        fclose(f);
    if (read_number("/sys/fs/cgroup/memory.max", &limit) && read_number("/sys/fs/cgroup/memory.current", &used)) {
        size_t left = limit > used ? limit - used : 0;
        available = available && available < left ? available : left;
    }
    return available;
}
