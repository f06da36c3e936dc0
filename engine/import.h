/* import.h - what another program's picture or file says, as a preset.
 *
 * Read: PNG pictures of sluice (the text "sluice"), of A1111, Forge and those who
 * write as they do ("parameters"), of ComfyUI ("prompt", else "workflow"); the
 * same texts in a file of their own; presets; the article's templates. What
 * cannot become a setting of a preset is listed with the reason.
 *
 * The files are strangers': all text is cleaned (yaml_clean), what is read has
 * bounds (below), nothing is executed, fetched, or looked for elsewhere, but for a preset's own
 * profile (preset.h). Facts about the formats:
 *   A1111     prompt lines; lines from "Negative prompt:" on; a last one of "Key: value, ...", values with
 *             commas in JSON's quotes. Forge adds "Distilled CFG Scale" for FLUX, where "CFG scale" is the true
 *             one. Both draw noise as the card does unless "RNG" says otherwise.
 *   ComfyUI   "prompt": {id: {"class_type", "inputs": {name: value, or [id, output]}}}, the graph as it ran;
 *             "workflow": the graph as it was drawn, whose widgets' values have no names. Python writes NaN into both,
 *             and seeds go to 2^64 - 1. Noise is drawn on the processor. */
#ifndef SLUICE_IMPORT_H
#define SLUICE_IMPORT_H

#include "engine/preset.h"

enum { IMPORT_FILE_MAX = 1 << 28 /* bytes of a picture */, IMPORT_JSON_MAX = 8 << 20,
       IMPORT_TEXT_MAX = 32 * 1024 /* a prompt */,
       IMPORT_LEFT_MAX = 48, IMPORT_VALUE_MAX = 160, IMPORT_PROGRAM_MAX = 64 };

enum import_kind {
    IMPORT_SLUICE,   /* a picture of ours */
    IMPORT_A1111,
    IMPORT_COMFY,
    IMPORT_PRESET,   /* as it is: with its hashes, its profile and its prompt's place */
    IMPORT_TEMPLATE, /* of the article (profile.h) */
};

/* What no setting could be made of. */
struct import_left { char *key, *value, *why; /* owned */ };

struct import {
    enum import_kind kind;
    char path[FILE_PATH_MAX];
    char stem[PRESET_NAME_MAX];       /* the file's name without folder and ending */
    char program[IMPORT_PROGRAM_MAX]; /* that wrote it: "ComfyUI", "Forge f2.0.1", "sluice 0.1.0" */
    /* Its name is the file's. A row's key and value are the source's words ("KSampler.steps"), its `why` is NULL
     * where they say the same as the setting. */
    struct preset preset;
    int left_count, left_more; /* left_more: how many there are beyond IMPORT_LEFT_MAX */
    struct import_left *left;
};

/* False: it cannot be read, or holds nothing that is known. For a preset or a template all its faults are in f,
 * with lines and columns. import_free in either case. */
bool import_read(struct import *im, const char *path, struct yaml_faults *f, struct err *e);
/* The same of a file's bytes in memory; a preset or template is read from `path` still. */
bool import_bytes(struct import *im, const char *path, const char *data, size_t bytes, struct yaml_faults *f,
                  struct err *e);
void import_free(struct import *im);

/* As a preset of the user's own, called `as` (NULL: as the file): a preset byte for byte with the profile beside it,
 * anything else as preset_text writes it. name: what it is found by. Nothing is written over. */
bool import_keep(struct import *im, const char *as, char name[SHELF_NAME_MAX], struct err *e);

#endif
