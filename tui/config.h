/* config.h - the studio's own files, under sluice in $XDG_CONFIG_HOME (~/.config):
 *
 *   keys.yaml                       theme.yaml
 *     set: vi                         base: dark        # auto, dark, light, mono
 *     queue.pause: [p, ctrl-p]        accent: "#7aa2f7" # a role: #rrggbb in quotes,
 *     mouse: []      # no key         bar: bright-blue  # a name, or 0 to 255
 *
 * `sluice keys` prints the names of actions; theme.h has those of roles. A file
 * that is not there is no fault; one that is wrong is told by line and column,
 * all of it at once. */
#ifndef SLUICE_TUI_CONFIG_H
#define SLUICE_TUI_CONFIG_H

#include "engine/file.h"
#include "engine/yaml.h"
#include "tui/keys.h"
#include "tui/theme.h"

/* Where `name` would be; false: neither XDG_CONFIG_HOME nor HOME is an absolute path. */
bool config_path(char path[FILE_PATH_MAX], const char *name);

/* The file's keys into k, on top of its set's (emacs if it names none). */
bool config_keys(struct keys *k, const char *path, struct err *e);
/* The file's theme into t. */
bool config_theme(struct theme *t, const char *path, struct err *e);

/* What the user has: keys.yaml and theme.yaml where they are, defaults where not. */
bool config_user_keys(struct keys *k, struct err *e);
/* `wanted`: a theme's name or a file; NULL: theme.yaml, else auto. */
bool config_user_theme(struct theme *t, const char *wanted, struct err *e);

#endif
