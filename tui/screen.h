/* screen.h - what a screen of the studio is.
 *
 * The view keeps a stack of screens: the main one at the bottom; on top of it at
 * most one full screen (queue, gallery, ...), and overlays (help, dialogs), which
 * are drawn over what is below. The top one gets the keys.
 *
 * To add one: screen_NAME.c with a `const struct screen screen_NAME`, which is
 * declared below and listed in view.c; its rows in keys_table.h; a pointer to its
 * state in view_internal.h; its floor, 10, in tests/floors_check.sh. No screen
 * touches disk, clock or engine: what it wants done is a wish (view.h), and the
 * answer comes back through a view_* function that copies. */
#ifndef SLUICE_SCREEN_H
#define SLUICE_SCREEN_H

#include "tui/keys.h"
#include "tui/wish.h"

struct view;
struct grid;
struct event;

struct screen {
    const char *name;
    bool overlay;             /* drawn over what is below */
    bool on_top;              /* a full screen that leaves the one below where it is, and goes back to it */
    enum action opened_by;    /* ACTION_NONE: by other means only */

    /* Its state, once for the life of the view; NULL: it has none. init's false
     * (memory) ends the studio; free comes after it in any case. */
    bool (*init)(struct view *v, struct err *e);
    void (*free)(struct view *v);

    /* It comes to the top. False: it does not, and has said why. May be NULL, and
     * so may `close`, when it has been taken off. */
    bool (*open)(struct view *v);
    void (*close)(struct view *v);

    /* The one context whose keys work now. */
    enum keys_context (*context)(const struct view *v);
    /* An action whose key was pressed in that context, but for those that the view
     * does itself (help, quit, ... and the opening of screens). */
    struct wish (*act)(struct view *v, enum action a);
    /* A key that is no action's: text, paste, an editing key. NULL: nothing. */
    struct wish (*type)(struct view *v, const struct key *k);
    /* A click or a turn of the wheel. NULL: the wheel is ACTION_UP and ACTION_DOWN. */
    struct wish (*mouse)(struct view *v, const struct key *k);
    /* The action's label in the hint bar; NULL: not now. Without this function: the table's. */
    const char *(*hint)(const struct view *v, enum action a);

    /* Into cells, the cursor too if it is the top one (view_top). False only when memory is refused. */
    bool (*draw)(struct view *v, struct grid *g, struct err *e);

    /* What it needs to show what it shows; asked after each drawing until it is nothing. May be NULL. */
    struct wish (*needs)(struct view *v);

    /* News, after the view itself has taken it in; the time. Also while it is not
     * on the stack. May be NULL. */
    void (*event)(struct view *v, const struct event *ev);
    void (*tick)(struct view *v);
};

extern const struct screen screen_main, screen_help, screen_save, screen_picture, screen_profile, screen_search;
extern const struct screen screen_queue, screen_contact, screen_gallery, screen_ask, screen_trouble;
extern const struct screen screen_presets, screen_doctor;

#endif
