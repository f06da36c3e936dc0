/* store.h - the queue and the history, in one SQLite database that outlives the program.
 *
 * $XDG_STATE_HOME/sluice/studio.db (~/.local/state where that is unset or no
 * absolute path), readable by the user alone; beside it `latents`, for the
 * checkpoints of jobs, and `running`, a lock file for each program that has the
 * store open. All values are copies. A store is used by one thread at a time;
 * several programs may have the same one open.
 *
 * What was told as done survives a kill at any moment (WAL); a power cut may
 * take the last moments back, but damages nothing. A full disk refuses what is new
 * and keeps what is there. Times are seconds since 1970. */
#ifndef SLUICE_STORE_H
#define SLUICE_STORE_H

#include "engine/event.h"
#include "engine/file.h"
#include "engine/job.h"

enum { STORE_NOTICE_BYTES = 1024, STORE_THUMBNAIL_PX = 192 };

struct store;

/* Opens, or makes, the database at `path`; NULL: the user's own. A damaged one, or one
 * that is no database of sluice's, is renamed (.damaged-1, ...), a new one is
 * made, and `notice` says so; "" where there is nothing to say. False where it
 * cannot be had: it cannot be written (permissions, a read-only or full disk), is locked for
 * seconds by another program, was made by a newer sluice, or there is no place
 * for it. The caller then works without, and says why. */
bool store_open(struct store **out, const char *path, char notice[STORE_NOTICE_BYTES], struct err *e);
/* Gives this program's jobs back to all. NULL is fine. */
void store_close(struct store *s);

const char *store_path(const struct store *s);

/* --- the queue ------------------------------------------------------------------
 * A job belongs to the program that added or claimed it, as long as that lives
 * and has the store open; no other may change it. After that it is anybody's,
 * and one that was running is STORE_INTERRUPTED: it can go on from its latent. */
enum store_state {
    STORE_WAITING,
    STORE_RUNNING,
    STORE_PAUSED,
    STORE_INTERRUPTED,
    STORE_DONE,
    STORE_FAILED,
    STORE_CANCELLED,
    STORE_STATE_COUNT_,
};
const char *store_state_name(enum store_state s); /* "waiting", ... */

struct store_job {
    int64_t id;             /* never given twice */
    enum store_state state;
    bool foreign;           /* another program's, which lives */
    char *text;             /* job_text.h */
    char *model;            /* folder of the model */
    char *preset;           /* its name, or "" */
    char *prompt;           /* of its first picture */
    char *error;            /* why it failed, for people, or "" */
    enum err_kind fault;    /* the kind of that; ERR_NONE: it has not failed, or an earlier sluice kept it */
    enum stage stage;       /* in which it was */
    int pictures, made;     /* in all; of them written */
    int step, steps;        /* of the picture at work, as last told */
    int64_t added, begun, ended; /* 0: not yet */
};
void store_job_free(struct store_job *j); /* fine on an all-zero one */
struct store_queue { int count; struct store_job *at; };
void store_queue_free(struct store_queue *q); /* fine on an all-zero one */

/* In the order they are to run. */
bool store_queue_list(struct store *s, struct store_queue *q, struct err *e);

/* At the end, as this program's. j: checked, its seed drawn. model, preset: as in store_job. */
bool store_queue_add(struct store *s, const struct job *j, const char *model, const char *preset, int64_t *id,
                     struct err *e);
/* Another job in its place: of one that is not running and has not ended. Its latent is removed. */
bool store_queue_replace(struct store *s, int64_t id, const struct job *j, const char *model, const char *preset,
                         struct err *e);
/* The same pictures by other settings, of one that is not running and not done, failed ones too: it waits, and what it
 * has made and its latent stay. */
bool store_queue_amend(struct store *s, int64_t id, const struct job *j, struct err *e);
/* The jobs named take, in this order, the places that they have among them now. */
bool store_queue_reorder(struct store *s, const int64_t *ids, int count, struct err *e);
/* With its latent. Not one that another program has. */
bool store_queue_remove(struct store *s, int64_t id, struct err *e);
/* Those that are done, failed or cancelled; all: also what waits, is paused or was
 * interrupted. Never a running one, nor another program's. *removed: how many. */
bool store_queue_clear(struct store *s, bool all, int *removed, struct err *e);

/* This program takes the job and begins it (STORE_RUNNING); one that has failed or was cancelled, too.
 * False with ERR_AGAIN: another one has it, or it is done or gone. *row is as it is now, *j the job to be
 * submitted: with its checkpoint, what it can go on from, and `first`, the pictures it
 * has made. store_job_free(row) and job_free(j) in either case. */
bool store_queue_claim(struct store *s, int64_t id, struct store_job *row, struct job *j, struct err *e);
/* The first that can be claimed of those that wait or were interrupted; *id 0: there is none. */
bool store_queue_next(struct store *s, int64_t *id, struct err *e);

/* How far its picture is. */
bool store_queue_step(struct store *s, int64_t id, int step, struct err *e);
/* Its state from now on. STORE_DONE removes its latent. */
bool store_queue_state(struct store *s, int64_t id, enum store_state state, struct err *e);
/* STORE_FAILED, and why: as in an EVENT_FAILED. */
bool store_queue_fail(struct store *s, int64_t id, enum err_kind fault, enum stage stage, const char *error,
                      struct err *e);

/* One picture more, of a job whose pictures are not in the history (store_new.job counts those that are). */
bool store_queue_made(struct store *s, int64_t id, struct err *e);

/* Where the latent of a job is kept while it runs. */
bool store_latent_path(const struct store *s, int64_t id, char path[FILE_PATH_MAX], struct err *e);

/* --- the history ----------------------------------------------------------------- */

/* A picture to be put there. What it is comes from its record (record.h). */
struct store_new {
    const char *path;          /* of its file; kept as an absolute one */
    const char *record;        /* record.json */
    const struct image *image; /* a thumbnail is made of it */
    const char *preset;        /* its name, or "" */
    double seconds;            /* it took; 0: unknown */
    int64_t job;               /* of the queue: has made one picture more, in the same transaction, and is done
                                  with its last; 0: none */
};

struct store_picture {
    int64_t id;                /* never given twice */
    char *path;                /* where its file is now */
    char *prompt, *negative, *model, *preset;
    char *record;              /* JSON: every setting that it depends on */
    uint64_t seed;
    int width, height;
    int64_t time;
    double seconds;
    int mark;                  /* 0: none; the caller's, e.g. 1 to 5 stars */
    bool trashed;
};
void store_picture_free(struct store_picture *p); /* fine on an all-zero one */

/* What is asked for: of all, or of the trash, those in which every word of `search`
 * begins a word of prompt, negative prompt, model or preset ("": all), newest first. Any text may be searched for. */
struct store_query {
    const char *search; /* NULL: "" */
    bool trash;
    int offset, limit;  /* limit 0: all */
};
struct store_page {
    int64_t total; /* of all pages */
    int count;
    struct store_picture *at;
};
void store_page_free(struct store_page *p); /* fine on an all-zero one */

/* A picture whose path is known already takes the place of the one that was there. *id may be NULL. */
bool store_history_add(struct store *s, const struct store_new *n, int64_t *id, struct err *e);
/* The same for an EVENT_DONE of job j: model is the model's name, job as in store_new. */
bool store_history_keep(struct store *s, const struct job *j, const struct event *done, const char *model,
                        const char *preset, int64_t job, struct err *e);
bool store_history_list(struct store *s, const struct store_query *q, struct store_page *page, struct err *e);
/* False with ERR_INPUT: there is no such picture. */
bool store_history_get(struct store *s, int64_t id, struct store_picture *p, struct err *e);
/* The latest that this job of the queue has made; the same. */
bool store_history_of_job(struct store *s, int64_t job, struct store_picture *p, struct err *e);
/* At most STORE_THUMBNAIL_PX a side, for image_free. NULL with e set. */
struct image *store_thumbnail(struct store *s, int64_t id, struct err *e);
bool store_history_mark(struct store *s, int64_t id, int mark, struct err *e);

/* To the trash: the file goes to the folder .sluice-trash beside it, and back. */
bool store_history_trash(struct store *s, int64_t id, struct err *e);
bool store_history_restore(struct store *s, int64_t id, struct err *e);
/* Forgets it. A file in the trash is deleted, any other stays where it is. */
bool store_history_remove(struct store *s, int64_t id, struct err *e);

/* Every PNG in the folder that sluice wrote, unless it is known and has not changed since.
 * go_on (may be NULL) is told how many files were seen; false from it ends it with
 * ERR_CANCELLED, and what was added stays. */
struct store_scan { int added, known, others; };
bool store_history_scan(struct store *s, const char *folder, bool (*go_on)(void *user, int seen), void *user,
                        struct store_scan *found, struct err *e);

#endif
