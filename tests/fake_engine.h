/* fake_engine.h - an engine for testing the studio: no model, known timing.
 *
 * A job takes `steps` steps of FAKE_STEP_MS (or FAKE_ENGINE_STEP_MS in the
 * environment) and sends the events a real engine would; its picture is a
 * gradient with a disc, coloured by the seed. Prompts steer it: "fail" fails
 * in T5, "nosave" finishes but cannot be saved, "crash" is a segmentation
 * fault in the engine's thread. Never part of the program. */
#ifndef SLUICE_FAKE_ENGINE_H
#define SLUICE_FAKE_ENGINE_H

#include "tui/studio.h"

enum { FAKE_STEP_MS = 40 };

struct engine *fake_engine_start(void);
extern const struct studio_engine fake_engine;
const struct model *fake_model(void);

/* A picture as the fake engine draws it. */
struct image *fake_image(int width, int height, uint64_t seed);

#endif
