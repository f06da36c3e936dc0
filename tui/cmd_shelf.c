/* cmd_shelf.c - see cmd_shelf.h. */
#include "tui/cmd_shelf.h"

#include "tui/cmd.h"

int cmd_shelf_list(enum shelf s, void (*describe)(const struct shelf_item *i, struct cmd_shelf_row *r))
{
    struct shelf_list l;
    struct err e = { 0 };
    if (!shelf_list(&l, s, &e))
        return cmd_fail(&e);
    for (int i = 0; i < l.count; i++) {
        struct cmd_shelf_row r = { 0 };
        describe(&l.item[i], &r);
        int column = printf("  %-16s ", l.item[i].name);
        if (s == SHELF_PRESETS)
            column += printf("%-15s ", r.model);
        column += printf("%-6s ", l.item[i].own ? "yours" : "");
        cmd_words(column, s == SHELF_PRESETS ? 42 : 26, r.about);
    }
    shelf_list_free(&l);
    return 0;
}
