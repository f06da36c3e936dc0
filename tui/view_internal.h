/* view_internal.h - the view's state, for view.c and the screens (screen_*.c).
 *
 * A screen reads what is here, keeps its own state behind its pointer, and
 * changes the rest only through the functions below. */
#ifndef SLUICE_VIEW_INTERNAL_H
#define SLUICE_VIEW_INTERNAL_H

#include "tui/pane_memory.h"
#include "tui/prompts.h"
#include "tui/screen.h"
#include "tui/view.h"

enum { VIEW_STACK_MAX = 8, VIEW_HINTS_MAX = 32, VIEW_NAME_BYTES = 256, VIEW_RECENT_MAX = 24, VIEW_THUMB_PX = 192 };
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
    int utc_offset;
    struct keys keys;

    int cols, rows, cell_w, cell_h, picture_w, picture_h;
    bool pixels;
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
    struct picture_state *picture;
    struct profile_state *profiles;
    struct search_state *search;
    struct presets_state *presets;
    struct doctor_screen *doctor;

    struct queue_state *queue;
    struct contact_state *contact;
    struct gallery_state *gallery;
    struct ask_state *ask;
    struct trouble_state *trouble;
    int64_t editing; /* the queue's job that Enter replaces; 0: none */
    bool paused;     /* the job at work rests */

    struct prompts prompts;   /* used before */
    struct view_tokens tokens[VIEW_PROMPTS]; /* clip_most 0: unknown */
    struct request *requests; /* oldest first */
    bool running, cancelling;
    uint64_t running_id;
    enum stage stage;
    int step, steps, block, blocks, index, count;
    int first_step; /* that this run of the picture took: others were taken before an interruption; 0: none yet */
    double seconds, eta_seconds, fraction;
    int64_t progress_ms;
    bool stage_seen[STAGE_COUNT];
    bool memory_known;
    struct event_memory memory;

    struct image *image; /* what is shown, owned */
    enum shown shown;
    uint64_t serials;    /* given out: a number for each picture that is drawn */
    uint64_t serial, image_seed, last_seed;
    bool last_seed_known, image_job_known;
    struct job image_job;
    int image_step, image_steps;
    double image_seconds;
    char image_path[VIEW_PATH_BYTES];

    struct recent { /* newest first */
        struct image *thumb;
        uint64_t serial, seed;
        char path[VIEW_PATH_BYTES];
    } recent[VIEW_RECENT_MAX];
    int recent_count;

    struct plan_summary plan;       /* of the job that Enter would start */
    bool plan_known, plan_again, plan_unreadable;
    uint64_t plan_changes;          /* that it was asked for, or found the same, at */
    struct job planned;             /* what was asked for; all zero: nothing yet */
    struct memory_history history;
    struct profile following;       /* what `profile` names; its path "": nothing is known of it */
    bool following_large;

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

/* Of a rectangle, what a picture may take in its middle: terminals have limits. */
struct rect view_picture_room(const struct view *v, struct rect room);
/* Does the picture screen show one that came by view_show_image? */
bool picture_given(const struct view *v);

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

/* Over what is there (screen_ask.c): a line to be typed, or a question with answers of one letter each. What
 * was answered goes to `then`: the line's text, or the letter, 0 if the question was left. A line that is left is
 * told to nobody. */
struct ask_answer { char key; const char *text; };
bool view_ask_line(struct view *v, const char *label, const char *text,
                   struct wish (*then)(struct view *v, const char *text));
bool view_ask(struct view *v, const char *title, const char *question, const struct ask_answer *answers, int count,
              struct wish (*then)(struct view *v, char answer));

/* The queue's rows (screen_queue.c) that wait and that the engine has not got: how many, and in their order (NULL
 * after the last). */
int queue_count(const struct view *v);
const struct store_job *queue_waiting(const struct view *v, int i);
const struct store_job *queue_failed(const struct view *v); /* on its screen the one that is chosen, if it has failed */
int64_t trouble_job(const struct view *v); /* whose failure can be done something about; 0: none */
bool contact_has(const struct view *v, uint64_t id); /* is it the contact sheet's job? */
/* A preset's job into the form; profile NULL: it brings none, and memory is used as before. */
bool view_load_preset(struct view *v, const struct job *j, const char *preset, const char *profile, struct err *e);
/* j, from the form, has been saved as that preset: what is the same now is not edited. */
bool view_keep_preset(struct view *v, const struct job *j, const char *preset, struct err *e);

/* The form of the main screen, for the view (screen_main.c). */
void main_load(struct view *v);                                               /* v->job into the fields */
void main_show(struct view *v, const struct setting *s);                      /* one setting of it */
bool main_job(const struct view *v, struct job *out, struct err *e);          /* v->job with the fields, not checked */
void main_use_prompt(struct view *v, int i);                                  /* v->prompts.text[i] into it */
bool main_wrong(const struct view *v); /* a field is, and the message says so */
bool main_size(const struct view *v, struct job *j); /* its size into j; false: it cannot be read */

/* v->job as its fields have it, or where one cannot be read as v->job is. */
bool view_draft(const struct view *v, struct job *out, struct err *e);
/* The profile's settings into j, and for what else only a profile says the model's defaults. */
bool view_put_profile(const struct view *v, struct job *j, const struct profile *p, struct err *e);
/* From now on: `file` as loaded, called `name`, and `draft` as the form has it. */
bool view_take_profile(struct view *v, const char *name, const struct profile *file, const struct profile *draft,
                       struct err *e);

/* The profile editor's plans (screen_profile.c): 0 the draft's own, 1 + i with switch i turned. */
bool profile_plan_wanted(struct view *v, struct job *out, uint64_t *which);
void profile_planned(struct view *v, uint64_t which, const struct plan_summary *s);

#endif
