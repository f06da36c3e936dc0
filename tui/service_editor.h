/* service_editor.h - a text in the user's own editor: $VISUAL, else $EDITOR, else vi,
 * else nano.
 *
 * The text goes through a file that only the user can read, in $XDG_RUNTIME_DIR, else
 * $TMPDIR, else /tmp, and is removed at the end. The terminal must have been handed
 * back before; the editor has it until it ends. It is in the process group of the
 * program: ^C and a hang-up are its own, and when it stops (^Z) the program stops too. */
#ifndef SLUICE_SERVICE_EDITOR_H
#define SLUICE_SERVICE_EDITOR_H

#include "kernels/err.h"

#include <sys/types.h>

enum { EDITOR_PATH_MAX = 4096, EDITOR_TEXT_MAX = 4 << 20 };

struct editor {
    pid_t pid;
    int status;
    char path[EDITOR_PATH_MAX]; /* of the file; "": there is none */
};

/* False: it could not be begun; nothing is left behind. */
bool editor_start(struct editor *ed, const char *text, struct err *e);
/* Has it ended? If it has stopped, the caller's process stops as well, until both go on. Never waits otherwise. */
bool editor_ended(struct editor *ed);
/* Asks it to end: the program must. */
void editor_hang_up(struct editor *ed);
/* After its end: the text that it leaves, malloc'd, without the newline that editors add; NULL: it has
 * failed, or was left with an error (:cq), or there is no editor. Removes the file. */
char *editor_finish(struct editor *ed, struct err *e);

#endif
