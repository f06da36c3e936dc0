/* studio.h - how long what is typed takes to show while previews flow over a slow link. */
#ifndef SLUICE_BENCH_STUDIO_H
#define SLUICE_BENCH_STUDIO_H

void bench_studio(void);

#endif
