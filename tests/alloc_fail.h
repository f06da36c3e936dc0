/* alloc_fail.h - makes one allocation of the project's own code fail.
 *
 * Tests are linked with --wrap for malloc and its kin (Makefile, TEST_WRAP), so
 * every call from an object file of this project comes through here; what
 * libraries allocate inside does not. All threads count; arm it around code
 * that runs in one. */
#ifndef SLUICE_ALLOC_FAIL_H
#define SLUICE_ALLOC_FAIL_H

#include <stdbool.h>

/* The n-th allocation from now on (1: the next) is refused, once. 0: none is. */
void alloc_fail_at(long n);

/* Disarms. True if an allocation was refused since alloc_fail_at. */
bool alloc_fail_done(void);

/* Counts aligned allocations (posix_memalign, aligned_alloc) from now on, in all threads: what
 * the cpu device's memory is made of. Returns how many there were since the last call. */
long alloc_count_aligned(void);

#endif
