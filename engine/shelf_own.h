/* shelf_own.h - the user's own files of a shelf: written, copied, renamed, thrown away
 * and brought back.
 *
 * Names are a shelf's (shelf_is_name). A picture beside a file, NAME.png, goes
 * along with it. What came with the program is never changed: it can only be
 * copied. Nothing is ever written over, but by shelf_own_write where it is asked
 * for. Thrown away means: to $XDG_STATE_HOME/sluice/trash (~/.local/state), where
 * files of one name have numbers, so that all can be had again. */
#ifndef SLUICE_SHELF_OWN_H
#define SLUICE_SHELF_OWN_H

#include "engine/shelf.h"

/* A name that people typed as one of a shelf: "My cat, 2" is "my-cat-2". False: nothing of it can stand in one. */
bool shelf_slug(char name[SHELF_NAME_MAX], const char *typed);

/* Where the user's own NAME is, or would be (NAME.yaml). */
bool shelf_own_path(char path[FILE_PATH_MAX], enum shelf s, const char *name, struct err *e);
bool shelf_own_is(enum shelf s, const char *name); /* is there one? */

/* The folder is made if need be. over: in the place of one that is there. */
bool shelf_own_write(enum shelf s, const char *name, const char *text, bool over, struct err *e);
/* from: one of the shelf, also one that came with the program. */
bool shelf_own_copy(enum shelf s, const char *from, const char *to, struct err *e);
bool shelf_own_rename(enum shelf s, const char *from, const char *to, struct err *e);
bool shelf_own_trash(enum shelf s, const char *name, struct err *e);
/* The one of that name that was thrown away last; NULL: of any name. `restored` (may be NULL) is its name. */
bool shelf_own_restore(enum shelf s, const char *name, char restored[SHELF_NAME_MAX], struct err *e);

#endif
