/* view_internal.h - the view's state, for view.c and the screens (screen_*.c).
 *
 * A screen reads what is here, keeps its own state behind its pointer, and
 * changes the rest only through the functions below. */
#ifndef SLUICE_VIEW_INTERNAL_H
#define SLUICE_VIEW_INTERNAL_H

#include "tui/prompts.h"
#include "tui/screen.h"
#include "tui/view.h"

enum { VIEW_STACK_MAX = 8, VIEW_HINTS_MAX = 32, VIEW_NAME_BYTES = 256, VIEW_RECENT_MAX = 24, VIEW_THUMB_PX = 128 };
enum shown { SHOWN_NONE, SHOWN_PREVIEW, SHOWN_PARTIAL, SHOWN_UNSAVED, SHOWN_DONE };

/* A job that was submitted and has not ended. */
struct request {
    struct request *next;
    uint64_t id;
    struct job job;
};

struct view {
    struct model model;
    char device[64], out_dir[VIEW_PATH_BYTES], home[VIEW_PATH_BYTES];
    int threads;
    char preset[VIEW_NAME_BYTES], profile[VIEW_NAME_BYTES]; /* "": none */
    struct job loaded; /* what they say: what a field is reset to */
    struct job job;    /* each job begins as a copy of it; the form's fields come on top */
    uint64_t changes;  /* counts what may change the job that Enter would start */
    bool pictures;
    struct keys keys;

    int cols, rows, cell_w, cell_h, picture_w, picture_h;
    int64_t now_ms;

    const struct screen *stack[VIEW_STACK_MAX]; /* [0] is screen_main */
    int depth;
    struct { struct rect at; enum action action; } hint[VIEW_HINTS_MAX]; /* as last drawn, for the mouse */
    int hints;
    bool mouse;
    int64_t interrupted_ms; /* when ^C was last pressed; 0: not lately */

    /* what each screen has for itself */
    struct main_state *main;
    struct help_state *help;
    struct save_state *save;
    struct search_state *search;

    struct prompts prompts;   /* used before */
    struct view_tokens tokens[VIEW_PROMPTS]; /* clip_most 0: unknown */
    struct request *requests; /* oldest first */
    bool running, cancelling;
    uint64_t running_id;
    enum stage stage;
    int step, steps, block, blocks, index, count;
    double seconds, eta_seconds, fraction;
    int64_t progress_ms;
    bool stage_seen[STAGE_COUNT];
    bool memory_known;
    struct event_memory memory;

    struct image *image; /* what is shown, owned */
    enum shown shown;
    uint64_t serial, image_seed, last_seed;
    bool last_seed_known, image_job_known;
    struct job image_job;
    int image_step, image_steps;
    double image_seconds;
    char image_path[VIEW_PATH_BYTES];

    struct recent { struct image *thumb; uint64_t seed; char path[VIEW_PATH_BYTES]; } recent[VIEW_RECENT_MAX]; /* newest first */
    int recent_count;

    enum view_mood mood, result_mood;
    char message[VIEW_PATH_BYTES + 128];
    char result[VIEW_PATH_BYTES + 128]; /* what was said about the last result */
};

/* The stack. */
bool view_top(const struct view *v, const struct screen *s); /* is it the one that gets the keys? */
/* An overlay is put on top, a full screen takes the place of the one there is. False: it would not open. */
bool view_open(struct view *v, const struct screen *s);
void view_close(struct view *v); /* the top one goes; the main one stays */

/* The message line: `what` and `of` in a row. */
void view_say_two(struct view *v, enum view_mood mood, const char *what, const char *of);
/* "/home/me/x" as "~/x": path itself, or buf. */
const char *view_friendly(const struct view *v, const char *path, char buf[VIEW_PATH_BYTES]);

struct request *view_find(struct view *v, uint64_t id);
int view_waiting(const struct view *v); /* jobs behind the running one */
struct wish view_cancel(struct view *v); /* the running job, else the first that waits */

/* What every screen's last rows hold. The message takes two rows, the one above
 * r too, where it is a long complaint and `tall`. */
void view_draw_message(const struct view *v, struct grid *g, struct rect r, bool tall);
void view_draw_hints(struct view *v, struct grid *g, struct rect r);
/* A full screen's frame: a title row, the message and the hints. Returns what is left. */
struct rect view_draw_frame(struct view *v, struct grid *g, const char *title);
/* One line of text being typed, in r; with the cursor, scrolled so that it shows. */
struct edit;
void view_draw_line(struct grid *g, struct rect r, const struct edit *e, enum colour c, int attr, bool cursor);

static inline struct wish view_wish(enum wish_kind kind)
{
    return (struct wish){ .kind = kind };
}

/* The form of the main screen, for the view (screen_main.c). */
void main_load(struct view *v);                                               /* v->job into the fields */
void main_show(struct view *v, const struct setting *s);                      /* one setting of it */
bool main_job(const struct view *v, struct job *out, struct err *e);          /* v->job with the fields, not checked */
void main_use_prompt(struct view *v, int i);                                  /* v->prompts.text[i] into it */
bool main_wrong(const struct view *v); /* a field is, and the message says so */

/* A pane of the main screen (screen_memory.c). */
struct layout;
void pane_memory(const struct view *v, struct grid *g, const struct layout *l);

#endif
