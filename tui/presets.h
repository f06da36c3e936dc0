/* presets.h - what the presets screen asks the disk for, and what comes back.
 *
 * Values for screen_presets.c, which is pure, and service_preset.c, which is not. */
#ifndef SLUICE_PRESETS_H
#define SLUICE_PRESETS_H

#include "engine/import.h"

struct image;
struct job;

enum presets_op {
    PRESETS_LIST,     /* all there are */
    PRESETS_PICTURE,  /* the one beside preset `name` */
    PRESETS_LOOK,     /* at the file `path`: what it is, and whether its hashes are this model's */
    PRESETS_COMPLETE, /* the path as far as it can be told */
    PRESETS_SAVE,     /* `job` as the preset `to`; over: in the place of one that is there */
    PRESETS_KEEP,     /* the file `path` as the preset `to` */
    PRESETS_COPY,     /* the preset `name` as `to` */
    PRESETS_RENAME,
    PRESETS_DELETE,
    PRESETS_RESTORE,
    PRESETS_EXPORT,   /* the preset `name` to the file `path` */
};

/* Borrowed, until the next call to the view. */
struct presets_ask {
    enum presets_op op;
    const char *name, *to, *path; /* NULL where op has none; `to` as it was typed */
    const struct job *job;        /* SAVE */
    const struct preset *old;     /* SAVE: what the form was loaded from, or NULL */
    const struct image *picture;  /* SAVE: of that job, or NULL */
    bool over;
};

struct presets_item {
    char name[SHELF_NAME_MAX]; /* it is found by */
    bool own;
    char *faults;              /* NULL: it is good; else all of them, a line each */
    struct preset preset;      /* what could be read */
};

/* How a preset's hashes and the model's files compare. */
struct presets_hashes {
    int same, different, missing, unread; /* unread: too large to be read in passing */
    char first[256];                      /* the first that is different or missing */
};

struct presets_answer {
    enum presets_op op;
    bool ok;
    char text[1024];              /* why not; of COMPLETE the names there are to choose from */
    char name[SHELF_NAME_MAX];    /* PICTURE, and what changes presets: which one */
    char title[PRESET_NAME_MAX];  /* SAVE: as it was typed */
    char path[FILE_PATH_MAX];     /* LOOK, COMPLETE, EXPORT: as asked */
    char completed[FILE_PATH_MAX];
    int count;                    /* LIST */
    struct presets_item *item;
    struct import *import;        /* LOOK */
    struct presets_hashes hashes;
    struct image *picture;        /* PICTURE; NULL: there is none */
};

void presets_items_free(struct presets_item *item, int count);
void presets_answer_free(struct presets_answer *a); /* what it holds, not itself; fine on an all-zero one */

#endif
