/* golden_model.c - see golden_model.h. */
#include "tests/golden_model.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

void scratch_make(char dir[FILE_PATH_MAX])
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, FILE_PATH_MAX, "%s/sluice-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        fail_msg("%s: %s", dir, strerror(errno));
}

void scratch_make_cache(char dir[FILE_PATH_MAX])
{
    if (!access("/dev/shm", W_OK))
        setenv("TMPDIR", "/dev/shm", 1);
    scratch_make(dir);
    setenv("XDG_CACHE_HOME", dir, 1);
}

int scratch_entries(const char *path)
{
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0;
    for (const struct dirent *f; (f = readdir(d));)
        n += strcmp(f->d_name, ".") && strcmp(f->d_name, "..");
    closedir(d);
    return n;
}

static int remove_entry(const char *path, const struct stat *s, int flag, struct FTW *f)
{
    (void)s, (void)flag, (void)f;
    return remove(path);
}

void scratch_remove(const char *dir)
{
    if (*dir)
        nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

void scratch_write(const char *path, const void *data, size_t bytes)
{
    unlink(path);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, bytes, f) != bytes || fclose(f))
        fail_msg("cannot write %s", path);
}

const char *path_in(const char *dir, const char *name, char buf[FILE_PATH_MAX])
{
    struct err e = { 0 };
    if (!file_join(buf, dir, name, &e))
        fail_msg("%s", e.text);
    return buf;
}

void golden_make(const char *name, const char *to)
{
    struct err e = { 0 };
    if (!golden_write(name, to, &e))
        fail_msg("%s", e.text);
}
