/* file.h - whole files in, whole files out.
 *
 * Reading: a file into memory, with a limit. Writing: under a temporary name
 * in the same folder, synced, renamed, so that a full disk, a failure or a
 * kill leaves no half-written file under the final name. Knows no format. */
#ifndef SLUICE_FILE_H
#define SLUICE_FILE_H

#include "kernels/err.h"

#include <stdint.h>

enum { FILE_PATH_MAX = 4096 };

/* "dir/name" into buf. */
bool file_join(char buf[FILE_PATH_MAX], const char *dir, const char *name, struct err *e);

/* The folder that path is in: "." if it has no '/'. */
void file_folder(const char *path, char buf[FILE_PATH_MAX]);

/* A new empty folder sluice-NAME-XXXXXX for the user alone, in $TMPDIR, else /tmp; and a folder
 * away with all that is in it, as far as that can be (links are not followed). */
bool folder_temporary(char path[FILE_PATH_MAX], const char *name, struct err *e);
void folder_remove(const char *path);

/* Every folder of path that is not there yet, as mkdir -p does. */
bool folder_make(const char *path, struct err *e);

bool file_exists(const char *path); /* a regular file, or a link to one */
bool folder_exists(const char *path);

/* Opens a regular file for reading; returns the descriptor or -1 with e set. */
int file_open(const char *path, uint64_t *bytes, struct err *e);

/* The whole file, malloc'd, with a 0 byte after the end; NULL with e set if it
 * cannot be read or is longer than limit. */
char *file_read(const char *path, size_t limit, size_t *bytes, struct err *e);

/* A file being written. Plain value, one thread at a time. After a true
 * file_out_open exactly one of commit and abandon must follow; after a failed
 * write or skip, abandon. If `path` is no regular file (/dev/stdout, a pipe) it
 * is written directly, since a rename would replace the device. SIGXFSZ must be
 * ignored by the program for a size limit to arrive as an error. */
struct file_out {
    int fd;
    bool direct;
    uint64_t bytes; /* written and skipped so far */
    char path[FILE_PATH_MAX], temp[FILE_PATH_MAX];
};

bool file_out_open(struct file_out *o, const char *path, struct err *e);
bool file_out_write(struct file_out *o, const void *data, size_t bytes, struct err *e);
/* Leaves a hole that reads as zeros. */
bool file_out_skip(struct file_out *o, uint64_t bytes, struct err *e);
/* Removes the temporary file if it fails. */
bool file_out_commit(struct file_out *o, struct err *e);
void file_out_abandon(struct file_out *o);

/* All at once. */
bool file_write(const char *path, const void *data, size_t bytes, struct err *e);
/* `from`, of at most `most` bytes, written to `to` in that way. */
bool file_copy(const char *from, const char *to, size_t most, struct err *e);

/* "$variable/sluice/name", or "~/fallback/sluice/name" where that variable is no absolute path; name "": their
 * folder. The path's length, FILE_PATH_MAX or more where it is cut; 0: HOME is no absolute path either. */
int file_xdg(char path[FILE_PATH_MAX], const char *variable, const char *fallback, const char *name);

/* Fails with ERR_DISK_FULL, saying how much is needed and how much is there, if the
 * folder's file system has less than `bytes` free. */
bool file_space(const char *folder, uint64_t bytes, struct err *e);

#endif
