/* stages.c - see stages.h. */
#include "engine/stages.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool stages_add(struct stages *s, struct tensor t, struct err *e, const char *fmt, ...)
{
    if (!s->open)
        return true;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        struct safetensors_entry *grown = realloc(s->entry, room * sizeof *grown);
        if (!grown)
            return err_set(e, ERR_MEMORY, "recording the stages: out of memory");
        s->entry = grown;
        s->room = room;
    }
    char *name = NULL;
    va_list ap;
    va_start(ap, fmt);
    int rc = vasprintf(&name, fmt, ap);
    va_end(ap);
    void *copy = malloc(tensor_bytes(t));
    if (rc < 0 || !copy) {
        if (rc >= 0)
            free(name);
        free(copy);
        return err_set(e, ERR_MEMORY, "recording the stages: out of memory");
    }
    memcpy(copy, t.data, tensor_bytes(t));
    t.data = copy;
    s->entry[s->count++] = (struct safetensors_entry){ name, t };
    return true;
}

bool stages_write(const struct stages *s, const char *path, struct err *e)
{
    return !s->open || safetensors_write(path, s->entry, s->count, e);
}

void stages_free(struct stages *s)
{
    for (size_t i = 0; i < s->count; i++) {
        free((char *)(uintptr_t)s->entry[i].name);
        free(s->entry[i].tensor.data);
    }
    free(s->entry);
    memset(s, 0, sizeof *s);
}
