/* golden_model.h - the small pipelines of tests/golden as model folders, and the
 * temporary place for them. For tests: what goes wrong fails the test. */
#ifndef SLUICE_GOLDEN_MODEL_H
#define SLUICE_GOLDEN_MODEL_H

#include "engine/file.h"
#include "tests/golden_files.h"

/* A new empty folder under TMPDIR; scratch_remove deletes it with all that is in it. */
void scratch_make(char dir[FILE_PATH_MAX]);
void scratch_remove(const char *dir); /* "" is fine */

/* The same in memory where the system has it (what is synced takes a disk seconds), and
 * XDG_CACHE_HOME is there. */
void scratch_make_cache(char dir[FILE_PATH_MAX]);

/* How many files and folders are in a folder. */
int scratch_entries(const char *path);

/* "dir/name" into buf, which it returns. */
const char *path_in(const char *dir, const char *name, char buf[FILE_PATH_MAX]);

/* A new file at path. Not file_write, whose syncing costs the tests seconds; and
 * unlinked first, as ext4 writes a truncated file out at once. */
void scratch_write(const char *path, const void *data, size_t bytes);

/* golden_write. */
void golden_make(const char *name, const char *to);

#endif
