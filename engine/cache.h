/* cache.h - the folder for what can be made again: $XDG_CACHE_HOME/sluice.
 *
 * As the XDG base directory specification has it: ~/.cache where the variable
 * is unset, empty or no absolute path; folders that are missing are made for
 * the user alone (0700). Knows nothing of what is kept there. */
#ifndef SLUICE_CACHE_H
#define SLUICE_CACHE_H

#include "engine/file.h"

/* .../sluice/name into buf ("" for the folder itself). Says only where. False
 * where neither the variable nor $HOME is an absolute path. */
bool cache_path(char buf[FILE_PATH_MAX], const char *name, struct err *e);

/* Makes `folder` and what is missing above it. */
bool cache_make(const char *folder, struct err *e);

#endif
