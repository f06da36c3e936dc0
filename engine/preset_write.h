/* preset_write.h - presets into files: what the form says, what was imported, what
 * is passed on with the hashes of the model it was made with.
 *
 * What is written is what preset_load reads back to the same: settings in their
 * own words and order (setting.h), texts in double quotes. */
#ifndef SLUICE_PRESET_WRITE_H
#define SLUICE_PRESET_WRITE_H

#include "engine/preset.h"

/* The text of the file; malloc'd. A profile on the shelf is named, another by its file beside the preset. */
char *preset_text(const struct preset *p, struct err *e);

/* What j says of a picture as a new preset: prompt, size, steps, guidance, sampler and schedule, and what else is not
 * as usual. old (may be NULL): what j began as; it gives model, about, hashes and profile, and where j's prompt is
 * its but for the words, the place for them stays. preset_free it in either case. */
bool preset_from_job(struct preset *p, const struct job *j, const struct preset *old, const char *name, struct err *e);

/* The same file's text with another name in it, all else as it was: malloc'd. NULL without e set: the line cannot be
 * told. */
char *preset_retitled(const char *text, const char *name, struct err *e);

/* The files of a model that a preset names: weights and configs, by their paths within the folder. */
struct preset_files { int count; uint64_t bytes; struct preset_file { char *path; uint64_t bytes; } *at; };
bool preset_files(struct preset_files *f, const struct model *m, struct err *e);
void preset_files_free(struct preset_files *f); /* fine on an all-zero one */
/* Their SHA-256 into p, in the place of those it has: reads them whole. */
bool preset_hash(struct preset *p, const struct model *m, const struct preset_files *f, struct err *e);

/* The profile that lies beside the preset, into the folder `to`; nothing where it has none. Another file of that
 * name there is an error. */
bool preset_profile_along(const struct preset *p, const char *to, struct err *e);

#endif
