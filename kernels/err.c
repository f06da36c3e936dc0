/* err.c - see err.h. */
#include "kernels/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const names[ERR_KIND_COUNT] = {
    "",       "input",  "io",       "disk-full", "missing",     "damaged",   "memory", "device-memory",
    "budget", "overflow", "device", "device-lost", "cancelled", "again",
};

const char *err_kind_name(enum err_kind k)
{
    return (unsigned)k < ERR_KIND_COUNT ? names[k] : "";
}

enum err_kind err_kind_named(const char *name)
{
    int k = ERR_KIND_COUNT - 1;
    while (k > ERR_NONE && strcmp(name, names[k]))
        k--;
    return (enum err_kind)k;
}

/* C0, DEL, and in UTF-8 the C1 controls (c2 80 to c2 9f): U+009B alone starts a sequence. */
static void clean(char *text)
{
    for (unsigned char *s = (unsigned char *)text; *s; s++) {
        if (*s < 0x20 || *s == 0x7f)
            *s = '?';
        else if (*s == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0)
            s[0] = s[1] = '?';
    }
}

bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
    if (!e || e->kind != ERR_NONE)
        return false;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    clean(e->text);
    e->kind = kind;
    return false;
}

static enum err_kind kind_of_errno(int n)
{
    switch (n) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return ERR_DISK_FULL;
    case ENOENT: return ERR_MISSING;
    case ENOMEM: return ERR_MEMORY;
    default: return ERR_IO;
    }
}

bool err_errno(struct err *e, int errno_value, const char *fmt, ...)
{
    if (!e || e->kind != ERR_NONE)
        return false;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", strerror(errno_value));
    clean(e->text);
    e->kind = kind_of_errno(errno_value);
    return false;
}

bool err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e || e->kind == ERR_NONE)
        return false;
    char old[sizeof e->text];
    memcpy(old, e->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", old);
    clean(e->text);
    return false;
}

void err_clear(struct err *e)
{
    e->kind = ERR_NONE;
    e->text[0] = '\0';
}
