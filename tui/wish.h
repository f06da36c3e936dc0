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
    WISH_EDITOR,   /* the prompt `number` into the user's own editor; then view_written or view_refused */
    WISH_QUIT,
    /* `text` as the user's own profile `name`, `replace`: over one that is there; then view_profiles */
    WISH_PROFILE_SAVE,
    WISH_PROFILE_DELETE, /* the user's own profile `name`; then view_profiles */
    /* for service_store.h */
    WISH_QUEUE,    /* `queue`; then view_queue, or view_refused */
    WISH_SHEET,    /* a contact sheet of the form's job, `sheet` seeds; then view_sheet */
    WISH_FINISH,   /* the good ones of the sheet, by view_sheet_good */
    WISH_HISTORY,  /* `history`; then what stands beside it */
    WISH_PRESETS,  /* `presets`; then view_presets */
    WISH_DOCTOR,   /* the machine is looked at; then view_doctor */
    WISH_DOCTOR_TERMINAL, /* and the terminal; then view_doctor_terminal */
};

/* What is to be done with a job of the queue, which is named by its number there. */
enum queue_wish {
    QUEUE_GO_ON,     /* all that was left from the last time: go on */
    QUEUE_SET_ASIDE, /* ... not now: they are paused */
    QUEUE_GIVE_UP,   /* ... cancel them */
    QUEUE_CONFIRM,   /* the many jobs that view_ask_many asked about */
    QUEUE_DROP_MANY, /* ... not */
    QUEUE_MOVE,      /* by `number` places, down if > 0 */
    QUEUE_EDIT,      /* then view_edit */
    QUEUE_CANCEL, QUEUE_PAUSE, /* PAUSE: and on again */
    QUEUE_REPEAT,    /* `number` times, with new seeds */
    QUEUE_REMOVE,
    QUEUE_CLEAR,     /* all that have ended */
    QUEUE_RETRY,     /* from its last step; `text`: first "setting=value" a line */
    QUEUE_LOAD,      /* its settings into the form; then view_load */
};
enum history_wish {
    HISTORY_LIST,    /* a page: `query`; view_gallery_page */
    HISTORY_THUMBS,  /* ids, [number]; view_gallery_thumb for each */
    HISTORY_MARK,    /* to `number` */
    HISTORY_TRASH, HISTORY_RESTORE, HISTORY_REMOVE, /* view_gallery_changed */
    HISTORY_EXPORT,  /* the file to the folder `text` */
    HISTORY_SCAN,    /* the pictures of the folder `text`; view_gallery_changed */
    HISTORY_RECORD,  /* view_gallery_record */
    HISTORY_OPEN,    /* view_show_image */
    HISTORY_OPEN_JOB, /* the latest of the queue's job `id` */
    HISTORY_LOAD,    /* its settings into the form; view_load */
};

struct presets_ask;
struct wish {
    enum wish_kind kind;
    union {
        uint64_t job;     /* CANCEL */
        const char *path; /* SAVE */
        bool on;          /* MOUSE */
        int sheet;        /* SHEET */
        int number;       /* EDITOR */
        struct { enum queue_wish what; int64_t id; int number; const char *text; } queue;
        struct {
            enum history_wish what;
            int64_t id;
            int number;
            const char *text;
            const int64_t *ids;
            struct { const char *search; bool trash; int offset, limit; uint64_t serial; } query;
        } history;
        struct { const char *name, *text; bool replace; } profile; /* PROFILE_SAVE, PROFILE_DELETE */
        const struct presets_ask *presets; /* PRESETS */
    };
};

#endif
