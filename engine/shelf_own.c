/* shelf_own.c - see shelf_own.h. */
#include "engine/shelf_own.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 64 << 20 }; /* a picture beside a preset */

static const char *what(enum shelf s)
{
    return s == SHELF_PRESETS ? "preset" : "profile";
}

bool shelf_slug(char name[SHELF_NAME_MAX], const char *typed)
{
    size_t n = 0;
    for (const char *s = typed; *s && n < SHELF_NAME_MAX - 1; s++) {
        bool plain = isalnum((unsigned char)*s) || *s == '_' || *s == '.' || *s == '-';
        if (plain && !(n == 0 && (*s == '.' || *s == '-')))
            name[n++] = (char)tolower((unsigned char)*s);
        else if (n && name[n - 1] != '-')
            name[n++] = '-';
    }
    while (n && name[n - 1] == '-')
        n--;
    name[n] = '\0';
    return n > 0;
}

bool shelf_own_path(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e)
{
    static const char *const endings[] = { ".yaml", ".yml", ".json" };
    char folder[FILE_PATH_MAX], file[SHELF_NAME_MAX + 8];
    if (!shelf_is_name(name))
        return err_set(e, ERR_INPUT, "\"%.80s\" is no name for a %s: use letters, digits and -_., at most %d", name,
                       what(s), SHELF_NAME_MAX - 1);
    if (!shelf_folder(folder, s, e))
        return false;
    for (int i = 0; i < 3; i++) {
        snprintf(file, sizeof file, "%s%s", name, endings[i]);
        if (!file_join(path, folder, file, e))
            return false;
        if (file_exists(path))
            return true;
    }
    snprintf(file, sizeof file, "%s.yaml", name);
    return file_join(path, folder, file, e);
}

bool shelf_own_is(enum shelf s, const char *name)
{
    char path[FILE_PATH_MAX];
    return shelf_own_path(path, s, name, NULL) && file_exists(path);
}

/* The path of one that is there. */
static bool own_existing(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e)
{
    char other[FILE_PATH_MAX];
    if (!shelf_own_path(path, s, name, e))
        return false;
    if (file_exists(path))
        return true;
    if (shelf_named(other, s, name, NULL))
        return err_set(e, ERR_INPUT, "the %s %s came with the program and stays as it is: duplicate it first", what(s),
                       name);
    return err_set(e, ERR_INPUT, "no %s \"%.64s\" of your own", what(s), name);
}

/* A path for a new one. */
static bool own_new(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e)
{
    char folder[FILE_PATH_MAX];
    if (!shelf_own_path(path, s, name, e) || !shelf_folder(folder, s, e) || !folder_make(folder, e))
        return false;
    return !file_exists(path) || err_set(e, ERR_INPUT, "there is a %s %s already: choose another name", what(s), name);
}

bool shelf_own_write(enum shelf s, const char *name, const char *text, bool over, struct err *e)
{
    char path[FILE_PATH_MAX], folder[FILE_PATH_MAX];
    if (!over)
        return own_new(path, s, name, e) && file_write(path, text, strlen(text), e);
    return shelf_own_path(path, s, name, e) && shelf_folder(folder, s, e) && folder_make(folder, e) &&
           file_write(path, text, strlen(text), e);
}

/* --- moving -------------------------------------------------------------------------------- */

/* The picture's path beside a file. */
static void picture_of(const char *path, char picture[FILE_PATH_MAX])
{
    const char *dot = strrchr(path, '.');
    snprintf(picture, FILE_PATH_MAX, "%.*s.png", (int)(dot ? dot - path : (long)strlen(path)), path);
}

static bool copy_file(const char *from, const char *to, struct err *e)
{
    return file_copy(from, to, FILE_BYTES_MAX, e);
}

/* Never over another file; also to another file system. */
static bool move_file(const char *from, const char *to, struct err *e)
{
    if (!renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
        return true;
    if (errno != EXDEV && errno != EINVAL && errno != ENOSYS)
        return err_errno(e, errno, "cannot move %s to %s", from, to);
    if (file_exists(to))
        return err_set(e, ERR_IO, "%s is there already", to);
    return copy_file(from, to, e) && (!unlink(from) || err_errno(e, errno, "cannot remove %s", from));
}

static void along(const char *from, const char *to, bool (*how)(const char *, const char *, struct err *))
{
    char picture[FILE_PATH_MAX], there[FILE_PATH_MAX];
    picture_of(from, picture);
    picture_of(to, there);
    if (file_exists(picture) && !file_exists(there))
        how(picture, there, NULL); /* a preset without its picture is a preset still */
}

bool shelf_own_copy(enum shelf s, const char *from, const char *to, struct err *e)
{
    char source[FILE_PATH_MAX], path[FILE_PATH_MAX];
    if (!shelf_named(source, s, from, e) || !own_new(path, s, to, e) || !copy_file(source, path, e))
        return false;
    along(source, path, copy_file);
    return true;
}

bool shelf_own_rename(enum shelf s, const char *from, const char *to, struct err *e)
{
    char source[FILE_PATH_MAX], path[FILE_PATH_MAX], folder[FILE_PATH_MAX], file[FILE_PATH_MAX];
    if (!own_existing(source, s, from, e) || !own_new(path, s, to, e))
        return false;
    file_folder(source, folder);
    snprintf(file, sizeof file, "%.*s%s", SHELF_NAME_MAX, to, strrchr(source, '.')); /* it keeps its ending */
    if (!file_join(path, folder, file, e) || !move_file(source, path, e))
        return false;
    along(source, path, move_file);
    return true;
}

/* --- the trash ----------------------------------------------------------------------------- */

static bool trash_folder(char path[FILE_PATH_MAX], enum shelf s, struct err *e)
{
    char name[32];
    snprintf(name, sizeof name, "trash/%ss", what(s));
    int n = file_xdg(path, "XDG_STATE_HOME", ".local/state", name);
    if (!n)
        return err_set(e, ERR_IO, "there is no place for the trash: set HOME or XDG_STATE_HOME");
    return n < FILE_PATH_MAX || err_set(e, ERR_IO, "the path of the trash is too long");
}

/* "0007-name.yaml": the number says which came last. 0: it is no file of the trash. */
static int trash_number(const char *file, char name[SHELF_NAME_MAX])
{
    int number = 0, n = 0;
    const char *dot = strrchr(file, '.');
    if (sscanf(file, "%6d-%n", &number, &n) != 1 || !n || number < 1 || !dot || dot <= file + n ||
        dot - (file + n) >= SHELF_NAME_MAX || !strcmp(dot, ".png"))
        return 0;
    snprintf(name, SHELF_NAME_MAX, "%.*s", (int)(dot - (file + n)), file + n);
    return shelf_is_name(name) ? number : 0;
}

/* The last of that name (NULL: of any) in the trash: 0, or its number, and its file. */
static int last_of(const char *folder, const char *name, char file[256])
{
    DIR *d = opendir(folder);
    int last = 0;
    for (const struct dirent *f; d && (f = readdir(d));) {
        char its[SHELF_NAME_MAX];
        int number = trash_number(f->d_name, its);
        if (number > last && (!name || !strcmp(its, name))) {
            last = number;
            snprintf(file, 256, "%s", f->d_name);
        }
    }
    if (d)
        closedir(d);
    return last;
}

bool shelf_own_trash(enum shelf s, const char *name, struct err *e)
{
    char source[FILE_PATH_MAX], folder[FILE_PATH_MAX], path[FILE_PATH_MAX], last[256], file[256];
    if (!own_existing(source, s, name, e) || !trash_folder(folder, s, e) || !folder_make(folder, e))
        return false;
    snprintf(file, sizeof file, "%04d-%.64s%.8s", last_of(folder, NULL, last) + 1, name, strrchr(source, '.'));
    if (!file_join(path, folder, file, e) || !move_file(source, path, e))
        return false;
    along(source, path, move_file);
    return true;
}

bool shelf_own_restore(enum shelf s, const char *name, char restored[SHELF_NAME_MAX], struct err *e)
{
    char folder[FILE_PATH_MAX], from[FILE_PATH_MAX], to[FILE_PATH_MAX], own[FILE_PATH_MAX], file[256],
        its[SHELF_NAME_MAX];
    if (!trash_folder(folder, s, e))
        return false;
    if (!last_of(folder, name, file))
        return err_set(e, ERR_INPUT, "no %s%s%.64s%s in the trash", what(s), name ? " \"" : "", name ? name : "",
                       name ? "\"" : "");
    trash_number(file, its);
    if (!own_new(to, s, its, e) || !shelf_folder(own, s, e) || !file_join(from, folder, file, e))
        return false;
    snprintf(to, sizeof to, "%.4000s/%s%s", own, its, strrchr(file, '.'));
    if (!move_file(from, to, e))
        return false;
    along(from, to, move_file);
    if (restored)
        strcpy(restored, its);
    return true;
}
