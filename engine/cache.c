/* cache.c - see cache.h. */
#include "engine/cache.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool cache_path(char buf[FILE_PATH_MAX], const char *name, struct err *e)
{
    int n = file_xdg(buf, "XDG_CACHE_HOME", ".cache", name);
    if (!n)
        return err_set(e, ERR_INPUT, "no place for a cache: neither XDG_CACHE_HOME nor HOME is an absolute path");
    if (n >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "%.200s...: the path of the cache is longer than %d bytes", buf,
                       FILE_PATH_MAX - 1);
    return true;
}

bool cache_make(const char *folder, struct err *e)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s", folder);
    for (char *end = path; end;) {
        end = strchr(end + 1, '/');
        if (end)
            *end = '\0';
        if (mkdir(path, 0700) < 0 && errno != EEXIST && !folder_exists(path))
            return err_errno(e, errno, "%s: cannot make this folder", path);
        if (end)
            *end = '/';
    }
    return folder_exists(folder) || err_set(e, ERR_IO, "%s: not a folder", folder);
}
