/* preset.h - presets: what a picture is, as a YAML file that can be passed around.
 *
 *   sluice: 1
 *   name: Portrait photograph
 *   about: one line for people
 *   model:
 *     name: FLUX.1-dev
 *     sha256:                  optional: files of the model that it was made with
 *       vae/diffusion_pytorch_model.safetensors: 64 hexadecimal digits
 *   profile: 12gb              a name, or a file beside the preset
 *   prompt: Portrait of {an old fisherman}, 85 mm, soft window light
 *   size: 1024x1024            any setting of the scope SETTING_PRESET
 *
 * A file from a stranger can set what this header lists and nothing else: it
 * names no path outside its own folder, and nothing in it is run. */
#ifndef SLUICE_PRESET_H
#define SLUICE_PRESET_H

#include "engine/profile.h"

enum { PRESET_NAME_MAX = 64, PRESET_ABOUT_MAX = 256, PRESET_MODEL_MAX = 64, PRESET_HASH_HEX = 64 };

struct preset_hash {
    char *file; /* within the model's folder; owned */
    char sha256[PRESET_HASH_HEX + 1]; /* lower case */
};

struct preset {
    char path[FILE_PATH_MAX];
    char name[PRESET_NAME_MAX], about[PRESET_ABOUT_MAX];
    char model[PRESET_MODEL_MAX]; /* "": it says nothing of one */
    int hash_count;
    struct preset_hash *hash; /* owned */
    struct sheet rows;
    bool has_profile;
    struct profile profile;
};

/* Reads path and the profile it names. False with all faults of both in f and
 * the first in e; preset_free it in either case. */
bool preset_load(struct preset *p, const char *path, struct yaml_faults *f, struct err *e);
void preset_free(struct preset *p);

/* Its settings into j, the prompt with the words it came with; not its profile,
 * since that may depend on a size that is chosen later. False only when memory is refused. */
bool preset_apply(const struct preset *p, struct job *j, struct err *e);

/* Its prompt with `words` in the place of the {...}, or instead of it where it
 * has no such place; NULL: with the words it came with. "{{" and "}}" stand for
 * braces of the prompt's own. malloc'd; NULL: memory is refused. */
char *preset_prompt(const struct preset *p, const char *words, struct err *e);

/* Has its prompt a place for words? Else it is one picture's, or there is none. */
bool preset_has_place(const struct preset *p);

/* The words that make p's prompt this one. malloc'd; NULL: it has no place for words,
 * other text around it, or (e is set) memory is refused. */
char *preset_words(const struct preset *p, const char *prompt, struct err *e);

/* Is the model in `folder` the one the preset was made with? Reads every file
 * whose hash it names, whole: minutes for a large model. True where it names none. */
bool preset_model_same(const struct preset *p, const char *folder, struct err *e);

#endif
