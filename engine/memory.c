/* memory.c - see memory.h. */
#include "engine/memory.h"

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
