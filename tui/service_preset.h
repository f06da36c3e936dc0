/* service_preset.h - grants what the presets screen asks for (presets.h), on the worker's
 * thread, and brings the answer to view_presets. */
#ifndef SLUICE_SERVICE_PRESET_H
#define SLUICE_SERVICE_PRESET_H

#include "engine/model.h"
#include "tui/presets.h"

struct view;
struct worker;

/* Hashes of more than this in all are not read here, since it takes minutes. */
enum { SERVICE_PRESET_HASHED = 1 << 30, SERVICE_PRESET_COMPARED = 64 << 20 /* of one file, when it is looked at */ };

/* Copies what it needs; v is to live as long as the worker. */
void service_preset(struct worker *w, struct view *v, const struct model *m, const struct presets_ask *ask);

#endif
