/* wish.h - what the user wants done and the view cannot do: whatever touches the
 * engine, a disk, the terminal. The loop (cmd_studio.c) grants it. Pure.
 *
 * One kind a row, with the function of view.h that brings the answer; what it is
 * about is in the union. Pointers are borrowed until the next call to the view. */
#ifndef SLUICE_WISH_H
#define SLUICE_WISH_H

#include <stdbool.h>
#include <stdint.h>

enum wish_kind {
    WISH_NONE,
    WISH_GENERATE, /* take it by view_request, then view_submitted or view_refused */
    WISH_CANCEL,   /* job (0: all) */
    WISH_SAVE,     /* the picture shown, to `path`; then view_saved */
    WISH_SUSPEND,  /* ^Z */
    WISH_REDRAW,   /* ^L: the terminal may show anything */
    WISH_MOUSE,    /* on or off: `on` */
    WISH_QUIT,
    WISH_PROFILE_SAVE,   /* `text` as the user's own profile `name`; with `replace` over one that is there. Then view_profiles */
    WISH_PROFILE_DELETE, /* the user's own profile `name`; then view_profiles */
};
struct wish {
    enum wish_kind kind;
    union {
        uint64_t job;     /* CANCEL */
        const char *path; /* SAVE */
        bool on;          /* MOUSE */
        struct { const char *name, *text; bool replace; } profile; /* PROFILE_SAVE, PROFILE_DELETE */
    };
};

#endif
