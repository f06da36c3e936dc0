/* file.c - see file.h. */
#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

bool file_join(char buf[FILE_PATH_MAX], const char *dir, const char *name, struct err *e)
{
    int n = snprintf(buf, FILE_PATH_MAX, "%s/%s", dir, name);
    if (n < 0 || n >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "%.200s/%.100s: the path is longer than %d bytes", dir, name,
                       FILE_PATH_MAX - 1);
    return true;
}

bool file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

bool folder_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool folder_temporary(char path[FILE_PATH_MAX], const char *name, struct err *e)
{
    const char *in = getenv("TMPDIR");
    in = in && *in ? in : "/tmp";
    int n = snprintf(path, FILE_PATH_MAX, "%s/sluice-%s-XXXXXX", in, name);
    if (n < 0 || n >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "TMPDIR: %.100s...: the path is too long", in);
    if (!mkdtemp(path))
        return err_errno(e, errno, "%s: no temporary folder can be made in it", in);
    return true;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    (void)!remove(path);
    return 0;
}

void folder_remove(const char *path)
{
    enum { DESCRIPTORS = 16 };
    nftw(path, remove_one, DESCRIPTORS, FTW_DEPTH | FTW_PHYS);
}

int file_open(const char *path, uint64_t *bytes, struct err *e)
{
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        err_errno(e, errno, "%s: cannot open", path);
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) < 0) {
        err_errno(e, errno, "%s: cannot stat", path);
    } else if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_INPUT, "%s: not a regular file", path);
    } else {
        *bytes = (uint64_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}

char *file_read(const char *path, size_t limit, size_t *bytes, struct err *e)
{
    uint64_t size;
    char *data = NULL;
    int fd = file_open(path, &size, e);
    if (fd < 0)
        return NULL;
    if (size > limit) {
        err_set(e, ERR_INPUT, "%s: %llu bytes, expected at most %zu", path,
                (unsigned long long)size, limit);
        goto done;
    }
    data = malloc((size_t)size + 1);
    if (!data) {
        err_set(e, ERR_MEMORY, "%s: no memory for its %llu bytes", path, (unsigned long long)size);
        goto done;
    }
    size_t have = 0;
    while (have < size) {
        ssize_t n = read(fd, data + have, (size_t)size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            err_errno(e, errno, "%s: cannot read", path);
            free(data);
            data = NULL;
            goto done;
        }
        if (n == 0)
            break; /* shortened since fstat: what is there is the file */
        have += (size_t)n;
    }
    data[have] = '\0';
    *bytes = have;
done:
    close(fd);
    return data;
}

static bool write_failed(const struct file_out *o, int error, struct err *e)
{
    const char *hint = error == ENOSPC || error == EDQUOT ? " (disk full: free some space)"
                       : error == EFBIG                   ? " (over the file size limit)"
                                                          : "";
    return err_errno(e, error, "%s: cannot write after %llu bytes%s", o->path,
                     (unsigned long long)o->bytes, hint);
}

void file_folder(const char *path, char buf[FILE_PATH_MAX])
{
    snprintf(buf, FILE_PATH_MAX, "%s", path);
    char *slash = strrchr(buf, '/');
    if (!slash)
        strcpy(buf, ".");
    else
        slash[slash == buf] = '\0';
}

bool file_out_open(struct file_out *o, const char *path, struct err *e)
{
    static atomic_uint serial;

    *o = (struct file_out){ .fd = -1 };
    if (strlen(path) >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "%.300s...: the path is longer than %d bytes", path,
                       FILE_PATH_MAX - 1);
    struct stat st;
    bool exists = stat(path, &st) == 0;
    /* A link is written through, not replaced. */
    if (!exists || !realpath(path, o->path))
        strcpy(o->path, path);
    o->direct = exists && !S_ISREG(st.st_mode);
    if (o->direct) {
        o->fd = open(o->path, O_WRONLY | O_CLOEXEC);
    } else {
        char dir[FILE_PATH_MAX], name[64];
        file_folder(o->path, dir);
        do {
            snprintf(name, sizeof name, ".sluice-%ld-%u.tmp", (long)getpid(),
                     atomic_fetch_add(&serial, 1));
            if (!file_join(o->temp, dir, name, e))
                return false;
            o->fd = open(o->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        } while (o->fd < 0 && errno == EEXIST);
    }
    if (o->fd < 0)
        return err_errno(e, errno, "%s: cannot write there", o->path);
    return true;
}

bool file_out_write(struct file_out *o, const void *data, size_t bytes, struct err *e)
{
    const char *p = data;
    while (bytes) {
        ssize_t n = write(o->fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return write_failed(o, errno, e);
        p += n;
        bytes -= (size_t)n;
        o->bytes += (uint64_t)n;
    }
    return true;
}

bool file_out_skip(struct file_out *o, uint64_t bytes, struct err *e)
{
    uint64_t end;
    if (__builtin_add_overflow(o->bytes, bytes, &end) || end > INT64_MAX)
        return write_failed(o, EFBIG, e);
    if (ftruncate(o->fd, (off_t)end) < 0 || lseek(o->fd, (off_t)end, SEEK_SET) < 0)
        return write_failed(o, errno, e);
    o->bytes = end;
    return true;
}

bool file_out_commit(struct file_out *o, struct err *e)
{
    /* A pipe or a device has nothing to sync and says EINVAL or EROFS. */
    bool ok = o->direct || fsync(o->fd) == 0 || write_failed(o, errno, e);
    if (close(o->fd) < 0 && ok)
        ok = write_failed(o, errno, e);
    o->fd = -1;
    if (o->direct)
        return ok;
    if (ok && rename(o->temp, o->path) < 0)
        ok = err_errno(e, errno, "%s: cannot put the finished file in place", o->path);
    if (!ok) {
        unlink(o->temp);
        return false;
    }
    /* The rename itself lives in the folder; a folder that cannot be synced
     * (some network file systems) is no reason to fail a complete file. */
    char dir[FILE_PATH_MAX];
    file_folder(o->path, dir);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!fsync(fd);
        close(fd);
    }
    return true;
}

void file_out_abandon(struct file_out *o)
{
    if (o->fd < 0)
        return;
    close(o->fd);
    o->fd = -1;
    if (!o->direct)
        unlink(o->temp);
}

bool file_write(const char *path, const void *data, size_t bytes, struct err *e)
{
    struct file_out o;
    if (!file_out_open(&o, path, e))
        return false;
    if (!file_out_write(&o, data, bytes, e)) {
        file_out_abandon(&o);
        return false;
    }
    return file_out_commit(&o, e);
}

bool file_space(const char *folder, uint64_t bytes, struct err *e)
{
    struct statvfs v;
    if (statvfs(folder, &v) < 0)
        return err_errno(e, errno, "%s: cannot tell the free space", folder);
    uint64_t there = (uint64_t)v.f_bavail * v.f_frsize;
    if (there < bytes)
        return err_set(e, ERR_DISK_FULL, "%s: needs %.2f GB of disk, %.2f GB are free; free some space or "
                       "choose another folder", folder, (double)bytes / 1e9, (double)there / 1e9);
    return true;
}

bool folder_make(const char *path, struct err *e)
{
    char part[FILE_PATH_MAX];
    struct stat st;
    if (snprintf(part, sizeof part, "%s", path) >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "%.100s...: the path is too long", path);
    for (char *slash = part + 1; part[0] && (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(part, 0777);
        *slash = '/';
    }
    if (mkdir(part, 0777) && errno != EEXIST)
        return err_errno(e, errno, "cannot make the folder %s", path);
    if (stat(path, &st))
        return err_errno(e, errno, "cannot use the folder %s", path);
    return S_ISDIR(st.st_mode) || err_set(e, ERR_IO, "%s is not a folder", path);
}

bool file_copy(const char *from, const char *to, size_t most, struct err *e)
{
    size_t bytes;
    char *data = file_read(from, most, &bytes, e);
    bool ok = data && file_write(to, data, bytes, e);
    free(data);
    return ok;
}

int file_xdg(char path[FILE_PATH_MAX], const char *variable, const char *fallback, const char *name)
{
    const char *given = getenv(variable), *home = getenv("HOME");
    bool own = given && *given == '/';
    if (!own && !(home && *home == '/'))
        return 0;
    return snprintf(path, FILE_PATH_MAX, "%s%s%s/sluice%s%s", own ? given : home, own ? "" : "/", own ? "" : fallback,
                    *name ? "/" : "", name);
}
