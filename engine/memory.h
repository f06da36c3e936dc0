/* memory.h - what the process holds, from /proc/self/status. */
#ifndef SLUICE_MEMORY_H
#define SLUICE_MEMORY_H

#include <stddef.h>

struct memory_use { size_t rss, anonymous, file, rss_peak; }; /* bytes; 0: unknown */
struct memory_use memory_use(void);

#endif
