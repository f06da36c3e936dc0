/* view_help.h - for tests of the studio's screens as text: a view with the fake
 * model, keys, services' answers, and what is on the screen.
 *
 * Golden screens lie in tests/golden/screens/NAME-COLSxROWS.txt; run a test with
 * SLUICE_GOLDEN=write to write them again, then look at the difference. */
#ifndef SLUICE_VIEW_HELP_H
#define SLUICE_VIEW_HELP_H

#include "tests/fake_engine.h"
#include "tui/view.h"

/* "cpu", 2 threads, /home/me; with a preset and a profile if they are not NULL. */
struct view *make_view(const char *preset, const char *profile);

/* The screen as text, until the next call. */
char *screen(struct view *v, int cols, int rows);
/* At 80x24; a failure prints the screen. */
void has(struct view *v, const char *what);
void has_not(struct view *v, const char *what);
void golden(struct view *v, const char *name, int cols, int rows);

struct wish press(struct view *v, enum key_kind kind);
struct wish ctrl(struct view *v, char c);
struct wish alt(struct view *v, char c);
struct wish type(struct view *v, const char *ascii);
struct wish click(struct view *v, enum key_mouse what, int x, int y);

/* The form's job as job `id` with that seed. */
void submit(struct view *v, uint64_t id, uint64_t seed);
/* An event of a job of one picture of 20 steps, 256x256, seed 42. */
struct event about(enum event_kind kind, uint64_t job);
void news(struct view *v, struct event ev);

uint32_t random_next(uint32_t *state);

#endif
