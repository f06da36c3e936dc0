/* job_text.c - see job_text.h. */
#include "engine/job_text.h"

#include "engine/setting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is no setting; a job may have several of `more`. */
static const struct {
    const char *name;
    size_t offset;
} paths[] = {
    { "out", offsetof(struct job, out) },
    { "init_latents", offsetof(struct job, init_latents) },
};
enum { PATHS = sizeof paths / sizeof *paths };

static char **path_of(struct job *j, int i)
{
    return (char **)(void *)((char *)j + paths[i].offset);
}

struct text {
    char *data;
    size_t used, room;
};

static bool add(struct text *t, const char *s, size_t n)
{
    if (t->used + n + 1 > t->room) {
        size_t room = 2 * (t->used + n) + 256;
        char *grown = realloc(t->data, room);
        if (!grown)
            return false;
        t->data = grown;
        t->room = room;
    }
    memcpy(t->data + t->used, s, n);
    t->used += n;
    t->data[t->used] = '\0';
    return true;
}

static bool add_line(struct text *t, const char *name, const char *value)
{
    bool ok = value && add(t, name, strlen(name)) && add(t, "=", 1);
    while (ok && *value) {
        size_t plain = strcspn(value, "\\\n");
        ok = add(t, value, plain);
        value += plain;
        if (*value)
            ok = ok && add(t, *value++ == '\n' ? "\\n" : "\\\\", 2);
    }
    return ok && add(t, "\n", 1);
}

char *job_text(const struct job *j, struct err *e)
{
    struct text t = { 0 };
    bool ok = true;
    for (int i = 0; ok && i < setting_count(); i++) {
        char *value = setting_text(j, setting_at(i));
        ok = add_line(&t, setting_at(i)->name, value);
        free(value);
    }
    for (int i = 0; ok && i < j->more_count; i++)
        ok = add_line(&t, "more", j->more[i]);
    for (int i = 0; ok && i < PATHS; i++) {
        const char *path = *path_of((struct job *)(uintptr_t)j, i);
        ok = !path || add_line(&t, paths[i].name, path);
    }
    if (ok)
        return t.data;
    free(t.data);
    err_set(e, ERR_MEMORY, "out of memory");
    return NULL;
}

/* In place; false: a backslash with something else behind it. */
static bool unescape(char *value)
{
    char *to = value;
    for (const char *from = value; *from; from++) {
        char c = *from;
        if (c == '\\') {
            c = *++from;
            if (c != 'n' && c != '\\')
                return false;
            c = c == 'n' ? '\n' : c;
        }
        *to++ = c;
    }
    *to = '\0';
    return true;
}

static bool take(struct job *j, const char *name, const char *value, struct err *e)
{
    const struct setting *s = setting_find(name);
    if (s)
        return setting_set(j, s, value, e) == SETTING_SET;
    if (!strcmp(name, "more"))
        return job_add_prompt(j, value, e);
    for (int i = 0; i < PATHS; i++)
        if (!strcmp(name, paths[i].name))
            return job_set_string(path_of(j, i), value, e);
    return err_set(e, ERR_INPUT, "there is no setting \"%.40s\"", name);
}

bool job_from_text(struct job *j, const char *text, struct err *e)
{
    struct model none = { 0 };
    bool ok = job_init(j, &none, e);
    char *copy = ok ? strdup(text) : NULL, *rest = copy, *line;
    if (ok && !copy)
        ok = err_set(e, ERR_MEMORY, "out of memory");
    for (int n = 1; ok && (line = strsep(&rest, "\n")); n++) {
        char *value = strchr(line, '=');
        if (!*line)
            continue;
        if (value)
            *value++ = '\0';
        ok = value && unescape(value) ? take(j, line, value, e)
                                      : err_set(e, ERR_INPUT, "\"%.40s\" is not name=value", line);
        if (!ok)
            err_prefix(e, "a kept job, line %d", n);
    }
    free(copy);
    return ok;
}
