/* cmd_shelf.h - the lists of `sluice preset` and `sluice profile`. */
#ifndef SLUICE_CMD_SHELF_H
#define SLUICE_CMD_SHELF_H

#include "engine/shelf.h"

/* What stands beside a name: a model (a profile has none), and a line about it or what is wrong with it. */
struct cmd_shelf_row { char model[64], about[512]; };

/* Everything on the shelf, one a line, described by `describe`. The exit status. */
int cmd_shelf_list(enum shelf s, void (*describe)(const struct shelf_item *i, struct cmd_shelf_row *r));

#endif
