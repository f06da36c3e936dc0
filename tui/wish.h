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
    WISH_PRESETS,  /* `presets`; then view_presets */
};

struct presets_ask;
struct wish {
    enum wish_kind kind;
    union {
        uint64_t job;     /* CANCEL */
        const char *path; /* SAVE */
        bool on;          /* MOUSE */
        const struct presets_ask *presets; /* PRESETS */
    };
};

#endif
