/* shelf.c - see shelf.h. */
#include "engine/shelf.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const endings[] = { ".yaml", ".yml", ".json" };
enum { ENDINGS = sizeof endings / sizeof *endings, PLACES = 4 };

static const char *what(enum shelf s)
{
    return s == SHELF_PRESETS ? "preset" : "profile";
}

/* The i-th of PLACES folders; an empty buf: there is none. */
static void place(int i, enum shelf s, char buf[FILE_PATH_MAX])
{
    char exe[FILE_PATH_MAX] = "";
    const char *folder = s == SHELF_PRESETS ? "presets" : "presets/profiles";
    int n = 0;
    buf[0] = '\0';
    if (i == 0) {
        n = file_xdg(buf, "XDG_CONFIG_HOME", ".config", s == SHELF_PRESETS ? "presets" : "profiles");
    } else if ( readlink("/proc/self/exe", exe, sizeof exe - 1) > 0) {
        /* 1: PREFIX/bin/sluice; 2: build/sluice; 3: build/tests/test_x */
        for (int up = 0; up < (i == 3 ? 3 : 2); up++) {
            char *slash = strrchr(exe, '/');
            if (slash)
                *slash = '\0';
        }
        n = snprintf(buf, FILE_PATH_MAX, "%s/%s%s", exe, i == 1 ? "share/sluice/" : "", folder);
    }
    if (n >= FILE_PATH_MAX)
        buf[0] = '\0';
}

bool shelf_is_name(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return n && !text[n] && n < SHELF_NAME_MAX && text[0] != '.';
}

bool shelf_folder(char path[FILE_PATH_MAX], enum shelf s, struct err *e)
{
    place(0, s, path);
    return *path ||
           err_set(e, ERR_IO,
                   "there is no place for %ss: neither XDG_CONFIG_HOME nor HOME is an absolute path", what(s));
}

bool shelf_named(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e)
{
    char folder[FILE_PATH_MAX];
    for (int i = 0; shelf_is_name(name) && i < PLACES; i++) {
        place(i, s, folder);
        for (int k = 0; *folder && k < ENDINGS; k++)
            if (snprintf(path, FILE_PATH_MAX, "%s/%s%s", folder, name, endings[k]) < FILE_PATH_MAX && file_exists(path))
                return true;
    }
    place(0, s, folder);
    return err_set(e, ERR_INPUT, "no %s \"%.64s\": sluice %s list names those there are; your own belong in %.200s",
                   what(s), name, what(s), folder);
}

bool shelf_find(char path[FILE_PATH_MAX], enum shelf s, const char *name_or_path, struct err *e)
{
    if (!strchr(name_or_path, '/') && !file_exists(name_or_path))
        return shelf_named(path, s, name_or_path, e);
    if (strlen(name_or_path) >= FILE_PATH_MAX)
        return err_set(e, ERR_INPUT, "%.100s...: the path is too long", name_or_path);
    strcpy(path, name_or_path);
    return true;
}

/* --- the list ------------------------------------------------------------------------- */

/* "12gb" of "12gb.yaml"; false: no file of a shelf. */
static bool name_of(const char *file, char name[SHELF_NAME_MAX])
{
    size_t n = strlen(file);
    for (int k = 0; k < ENDINGS; k++) {
        size_t length = strlen(endings[k]);
        if (n > length && n - length < SHELF_NAME_MAX && !strcmp(file + n - length, endings[k])) {
            snprintf(name, SHELF_NAME_MAX, "%.*s", (int)(n - length), file);
            return shelf_is_name(name);
        }
    }
    return false;
}

static bool listed(const struct shelf_list *l, const char *name)
{
    for (int i = 0; i < l->count; i++)
        if (!strcmp(l->item[i].name, name))
            return true;
    return false;
}

static bool list_folder(struct shelf_list *l, enum shelf s, const char *folder, bool own, struct err *e)
{
    DIR *d = opendir(folder);
    bool ok = true;
    for (const struct dirent *f; ok && d && (f = readdir(d));) {
        char name[SHELF_NAME_MAX];
        if (!name_of(f->d_name, name) || listed(l, name))
            continue;
        struct shelf_item *grown = realloc(l->item, (size_t)(l->count + 1) * sizeof *grown);
        if (!grown) {
            ok = err_set(e, ERR_MEMORY, "out of memory");
            break;
        }
        l->item = grown;
        struct shelf_item *to = &l->item[l->count];
        memcpy(to->name, name, sizeof name);
        to->own = own;
        l->count += shelf_named(to->path, s, name, NULL);
    }
    if (d)
        closedir(d);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strverscmp(((const struct shelf_item *)a)->name, ((const struct shelf_item *)b)->name);
}

bool shelf_list(struct shelf_list *l, enum shelf s, struct err *e)
{
    char folder[FILE_PATH_MAX];
    bool ok = true;
    *l = (struct shelf_list){ 0 };
    for (int i = 0; ok && i < PLACES; i++) {
        place(i, s, folder);
        ok = !*folder || list_folder(l, s, folder, i == 0, e);
    }
    if (l->count)
        qsort(l->item, (size_t)l->count, sizeof *l->item, by_name);
    if (!ok)
        shelf_list_free(l);
    return ok;
}

void shelf_list_free(struct shelf_list *l)
{
    free(l->item);
    *l = (struct shelf_list){ 0 };
}
