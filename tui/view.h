/* view.h - the studio's screen as a value: keys and events in, cells and wishes out.
 *
 * No I/O, no clock, no curses, no engine: every screen can be tested as text.
 * What the user wants done comes back as a `struct wish`; who owns the engine
 * and the disk does it and tells the view how it went. view.c keeps what all
 * screens share (jobs, picture, message, the stack of screens); each screen is a
 * file of its own (screen.h); keys are rows of one table (keys.h).
 *
 * All functions are for one thread, and none blocks. A refusal of memory while
 * drawing or typing costs what was being drawn or typed, never the program. */
#ifndef SLUICE_VIEW_H
#define SLUICE_VIEW_H

#include "engine/event.h"
#include "engine/job.h"
#include "engine/model.h"
#include "engine/plan.h"
#include "engine/profile.h"
#include "engine/shelf.h"
#include "engine/store.h"
#include "tui/draw.h"
#include "tui/keys.h"
#include "tui/wish.h"

enum { VIEW_PROMPT_MAX = 256 * 1024, VIEW_PATH_BYTES = 4096 };

struct view_options {
    const char *device;   /* "cpu"; until a plan says it (view_planned) */
    int threads;          /* as shown; 0: unknown */
    const struct job *start; /* what the form begins with, and what it does not show goes into
                                each job as it is; NULL: the model's defaults */
    const char *out_dir;  /* where results go, shown and offered for saving */
    const char *home;     /* shown as ~; NULL: none */
    bool pictures;        /* false: --graphics=none */
    const struct keys *keys; /* NULL: the emacs-like set */
    const char *preset, *profile; /* names of what `start` came from, for the title; NULL: none */
    const struct job *loaded; /* what they alone say, to tell what was edited; NULL: as start */
    bool mouse;           /* it is on */
    int utc_offset;       /* of the user's time, in seconds: for dates */
    const struct profile *memory; /* the profile itself, to follow its `large` when the size changes; NULL: none */
};

struct view;

/* Copies what it needs of m and o. */
bool view_new(struct view **out, const struct model *m, const struct view_options *o, struct err *e);
void view_free(struct view *v); /* NULL is fine */

/* Cells; px of one cell, for a picture's proportions (0: unknown, 10x20 is
 * assumed); px of the largest picture the terminal draws (0: no limit); does it draw
 * pixels, or half-blocks. */
struct view_screen { int cols, rows, cell_w, cell_h, picture_w, picture_h; bool pixels; };
void view_resize(struct view *v, struct view_screen s);
/* Tells the time (monotonic). While view_busy, call it a few times a second. */
void view_tick(struct view *v, int64_t now_ms);
bool view_busy(const struct view *v); /* a job runs or waits */

struct wish view_key(struct view *v, const struct key *k);

/* Takes over ev's image and zeroes ev. */
void view_event(struct view *v, struct event *ev);

/* After WISH_GENERATE: the job as typed, checked, into *out (which the caller
 * frees) but for `out` and, when *random_seed, `seed`, which are the caller's to
 * choose. */
bool view_request(struct view *v, struct job *out, bool *random_seed, struct err *e);
/* The same while it is being typed, for a plan: nothing is checked or said. False:
 * a field cannot be read (or no memory). */
bool view_job(const struct view *v, struct job *out, struct err *e);
/* Counts up whenever that job may have changed. */
uint64_t view_changes(const struct view *v);
void view_submitted(struct view *v, uint64_t id, const struct job *j);
void view_refused(struct view *v, const char *text);

/* A preset, a profile or a picture's settings into the form. Everything is as loaded
 * then: nothing is edited. NULL names: none. False: no memory, and nothing has changed. */
bool view_load(struct view *v, const struct job *j, const char *preset, const char *profile, struct err *e);
/* One setting, wherever it is shown. False: the text is no value of it. */
struct setting;
bool view_set(struct view *v, const struct setting *s, const char *text, struct err *e);
/* The profile that the names above stand for: after view_load, where it is known. */
bool view_follow(struct view *v, const struct profile *p, struct err *e);
/* Does what Enter would start differ from the preset, the profile, as loaded? */
void view_edited(const struct view *v, bool *preset, bool *profile);

/* The prompts as typed: 0 the prompt, 1 the negative one. Borrowed until the next key. */
enum { VIEW_PROMPTS = 2 };
const char *view_prompt(const struct view *v, int which);
/* After WISH_EDITOR: what it is now. */
void view_written(struct view *v, int which, const char *text);
/* How many tokens that has for either encoder, of how many that one takes, and how many of its bytes it sees. */
struct view_tokens { int clip, clip_most, t5, t5_most; size_t clip_fits, t5_fits; };
void view_tokens(struct view *v, int which, const struct view_tokens *t);

/* Plans. The next job whose plan is wanted, into *out (which the caller frees): the one that
 * Enter would start, else one that a screen compares with it. False: none now. Ask again after every key
 * and event, and when a plan has come; with one of them under way what is asked for next is always the newest. */
bool view_plan_wanted(struct view *v, struct job *out, uint64_t *ticket);
void view_planned(struct view *v, uint64_t ticket, const struct plan_summary *s);
void view_plan_again(struct view *v); /* what it depends on has changed: speed, free memory */

/* Profiles: whether their list is wanted, what is to be done, and how that went. */
struct view_profile {
    char name[SHELF_NAME_MAX];
    bool own;
    struct profile profile;
    char wrong[256]; /* why it cannot be used, or "" */
};
bool view_profiles_wanted(struct view *v); /* true once for each list wanted */
void view_profiles(struct view *v, struct view_profile *list, int count); /* takes the list over: malloc'd */
void view_profiles_free(struct view_profile *list, int count);
/* Prompts used before, newest first; copied. Those of this session stay before them. */
void view_prompts(struct view *v, const char *const *texts, int count);

/* The picture on screen if it is a result (not a preview); all borrowed until
 * the next event. */
struct view_result {
    const struct image *image; /* NULL: there is none */
    const struct job *job;     /* it came from; NULL: unknown */
    uint64_t seed;             /* of this picture */
    const char *path;          /* of its file; "" if it could not be saved */
};
struct view_result view_result(const struct view *v);
/* A picture from elsewhere (the gallery, a file) on the picture screen, which it opens.
 * Takes im over. title: its prompt, a line about it; path: of its file, "" if it has
 * none. Both are copied, and may be hostile. */
void view_show_image(struct view *v, struct image *im, const char *title, const char *path);
void view_saved(struct view *v, bool ok, const char *path_or_reason);

/* --- the queue (screen_queue.c, screen_trouble.c, screen_contact.c) ------------------- */
/* The jobs on disk, in their order, and which of them the engine has (0: none); takes q over, and leaves it empty. */
void view_queue(struct view *v, struct store_queue *q, int64_t at_work);
/* So many jobs have been put there, the first with this seed. */
void view_queued(struct view *v, int jobs, uint64_t seed);
/* Job `id` of the queue, to be changed in the form: what Enter starts then takes its place. */
bool view_edit(struct view *v, int64_t id, const struct job *j, const char *preset, struct err *e);
int64_t view_editing(const struct view *v); /* 0: none */
void view_edited_job(struct view *v);       /* it has been put in its place, or cannot be any more */
/* Jobs are left from the last time, one of them at a step: what is to be done with them? */
void view_ask_resume(struct view *v, int interrupted, int waiting, int step, int steps);
/* What was typed stands for so many jobs: are they all wanted? */
void view_ask_many(struct view *v, int jobs);
/* The job of that number in the queue has failed, or had: as in an EVENT_FAILED. */
void view_trouble(struct view *v, int64_t id, const struct job *j, enum err_kind fault, enum stage stage,
                  const char *text);
/* The contact sheet of `base` has been begun as the engine's job `id`. */
void view_sheet(struct view *v, uint64_t id, const struct job *base, int seeds);
/* What it was made of, and whether seed `index` is wanted; NULL: there is no sheet. */
const struct job *view_sheet_base(const struct view *v);
bool view_sheet_good(const struct view *v, int index);
const char *view_preset(const struct view *v); /* what the form was loaded from; "": none */

/* What a screen needs now that it has been drawn, e.g. a page of the gallery: to be granted, until WISH_NONE. */
struct wish view_needs(struct view *v);

/* --- the gallery (screen_gallery.c) ----------------------------------------------- */
/* serial: the query's. Takes p over, and leaves it empty. */
void view_gallery_page(struct view *v, uint64_t serial, int offset, struct store_page *p);
void view_gallery_thumb(struct view *v, int64_t id, struct image *im); /* takes im over; NULL: it has none */
/* The history is another than it was: `added` new pictures, or 0. */
void view_gallery_changed(struct view *v, int added);
void view_gallery_record(struct view *v, const char *text);

enum view_mood { VIEW_INFO, VIEW_GOOD, VIEW_WARN, VIEW_BAD };
void view_say(struct view *v, enum view_mood mood, const char *text);
/* After WISH_PRESETS; takes over what a holds, and leaves it empty. */
struct presets_answer;
void view_presets(struct view *v, struct presets_answer *a);

/* What was found (engine/doctor.h) of the machine, after WISH_DOCTOR; of the terminal, after
 * WISH_DOCTOR_TERMINAL. They take over what d holds, and leave it empty. */
struct doctor;
void view_doctor(struct view *v, struct doctor *d);
void view_doctor_terminal(struct view *v, struct doctor *d);

/* Draws into g, resizing it. False only when memory is refused. */
bool view_draw(struct view *v, struct grid *g, struct err *e);

#endif
