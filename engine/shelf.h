/* shelf.h - where presets and profiles lie, and what is there.
 *
 * The user's own come first: sluice/presets and sluice/profiles under
 * $XDG_CONFIG_HOME (~/.config); then those that came with the program:
 * PREFIX/share/sluice/presets and presets/profiles where it is installed,
 * presets and presets/profiles of the source tree that it was built in. Knows
 * names and paths, not what is in the files. */
#ifndef SLUICE_SHELF_H
#define SLUICE_SHELF_H

#include "engine/file.h"

enum shelf { SHELF_PRESETS, SHELF_PROFILES };
enum { SHELF_NAME_MAX = 64 };

/* Letters, digits, '-', '_' and '.', no '.' in front: can never be a path. */
bool shelf_is_name(const char *text);

/* The folder of the user's own, whether it is there or not; false: there is no place for one (no HOME). */
bool shelf_folder(char path[FILE_PATH_MAX], enum shelf s, struct err *e);

/* The file NAME.yaml, .yml or .json of a shelf. */
bool shelf_named(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e);

/* As people type it: a path if it has a '/' or exists as a file, else a name. */
bool shelf_find(char path[FILE_PATH_MAX], enum shelf s, const char *name_or_path, struct err *e);

/* What is on a shelf, sorted by name; of one name twice, the one that shelf_named finds. */
struct shelf_list {
    int count;
    struct shelf_item { char name[SHELF_NAME_MAX], path[FILE_PATH_MAX]; bool own; /* the user's */ } *item; /* owned */
};
bool shelf_list(struct shelf_list *l, enum shelf s, struct err *e);
void shelf_list_free(struct shelf_list *l);

#endif
