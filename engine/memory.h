/* memory.h - what the process holds and what is left, from /proc and the control group. */
#ifndef SLUICE_MEMORY_H
#define SLUICE_MEMORY_H

#include <stddef.h>

struct memory_use { size_t rss, anonymous, file, rss_peak; }; /* bytes; 0: unknown */
struct memory_use memory_use(void);

/* Memory that the cpu device may still take without swapping: what the system
 * says is available, or what is left of the process's control group, if that is
 * less. 0: unknown. */
size_t memory_free(void);
/* Of the system, or what its control group may have, if that is less. 0: unknown. */
size_t memory_total(void);

#endif
