/* fake_nvml.h - how tests tell the fake NVML (fake_nvml.c) what to say: by the
 * exported variable "fake_nvml". */
#ifndef SLUICE_FAKE_NVML_H
#define SLUICE_FAKE_NVML_H

#include <stdbool.h>
#include <stddef.h>

struct fake_nvml {
    int cards, compute, graphics; /* how many cards; processes in the two lists */
    unsigned graphics_first;      /* number of the first in the second list; 0: 5000. The first list's begin at 1000 */
    char failing[64];             /* functions that have this in their name fail with `code` */
    bool fail_all;                /* every one but nvmlInit_v2 does */
    int code;
    bool garbage;                 /* names with escape sequences and bytes that are no UTF-8 */
    bool growing;                 /* processes start between two questions */
    size_t total, used;           /* bytes; 0: 12 and 2.7 GB */
    size_t (*used_now)(void);     /* asked instead of `used`, if it is there */
    bool no_text;                 /* nvmlErrorString knows nothing */
    int open;                     /* inits less shutdowns */
    char asked_uuid[64];
};

#endif
