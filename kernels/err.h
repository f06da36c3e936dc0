/* err.h - the one way sluice says that something failed.
 *
 * What can fail returns bool and takes `struct err *` last. On false the text
 * names the file, the tensor or key, what was expected, what was found and
 * what to do. The first failure wins: a set err is not overwritten, so an
 * unwinding path cannot hide the cause. No allocation, no I/O, any thread
 * (one err per thread). */
#ifndef SLUICE_ERR_H
#define SLUICE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* Told apart where somebody decides by it; the text is for people alone. */
enum err_kind {
    ERR_NONE = 0,
    ERR_INPUT,         /* a file, option or value given by the user is wrong */
    ERR_IO,            /* the system refused: open, read, write */
    ERR_DISK_FULL,     /* no more can be written there: disk, quota or limit of size */
    ERR_MISSING,       /* a file or folder is not there */
    ERR_DAMAGED,       /* a file of a model is not what it should be */
    ERR_MEMORY,        /* an allocation in the host's memory was refused */
    ERR_DEVICE_MEMORY, /* one on the device, or it has no room for a tensor */
    ERR_BUDGET,        /* the job does not fit in the memory that it may have */
    ERR_OVERFLOW,      /* a result is not finite: the type that is computed in is too narrow */
    ERR_DEVICE,        /* a compute library or driver refused */
    ERR_DEVICE_LOST,   /* the device does nothing more for this process */
    ERR_CANCELLED,     /* somebody asked to stop; not a fault */
    ERR_AGAIN,         /* nothing was done; asked for once more, the device will do it another way */
    ERR_KIND_COUNT
};
/* "", "input", "disk-full", ...: for files and programs, never changed. */
const char *err_kind_name(enum err_kind k);
enum err_kind err_kind_named(const char *name); /* ERR_NONE: there is none of that name */

struct err {
    enum err_kind kind;
    char text[512]; /* one line, no trailing newline; "" while kind is ERR_NONE */
};

/* Sets e unless it is already set. Always returns false, so that
 * `return err_set(e, ...)` reads as what it does. e may be NULL. Control
 * characters in the formatted text are replaced by '?', so that a hostile file
 * name cannot write escape sequences to the terminal. */
bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As err_set, with ": " and strerror(errno_value) at the end. The kind follows from that: ERR_DISK_FULL,
 * ERR_MISSING, ERR_MEMORY, else ERR_IO. */
bool err_errno(struct err *e, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the text of a set e (the caller knows the context
 * that the callee does not). Does nothing to an unset e. Returns false. */
bool err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

void err_clear(struct err *e);

#endif
