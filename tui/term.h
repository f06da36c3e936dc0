/* term.h - the terminal: keys from it, cells and pictures to it.
 *
 * The only file (with graphics.c's encoders) that knows curses or the tty.
 * Curses paints the cells; keys are read by tui/input; pixels are written after
 * the cells, on a non-blocking descriptor, one picture in flight, the next only
 * when the terminal has answered. While a picture's bytes are still going out
 * nothing else is painted, but keys are read.
 *
 * What the terminal can do is asked at the start and known when it answers,
 * which may be late or never; until then there are half-blocks.
 *
 * One term at a time, one thread. From term_open to term_close a crash (SIGSEGV,
 * SIGBUS, SIGFPE, SIGILL, SIGABRT, exit) restores the terminal. */
#ifndef SLUICE_TERM_H
#define SLUICE_TERM_H

#include "tui/draw.h"
#include "tui/graphics.h"
#include "tui/key.h"
#include "tui/theme.h"

#include <poll.h>

struct term;

/* theme NULL: auto. */
bool term_open(struct term **out, enum graphics wanted, const struct theme *theme, struct err *e);
void term_close(struct term *t); /* NULL is fine */

struct term_size { int cols, rows, cell_w, cell_h, picture_w, picture_h; bool pixels; };
/* Cells, and px: of a cell (0: unknown), and the largest picture that can be
 * drawn (0: no limit); pixels: false with half-blocks. */
struct term_size term_size(const struct term *t);
/* What pictures are drawn with now: GRAPHICS_SIXEL, KITTY, BLOCKS or NONE. */
enum graphics term_graphics(const struct term *t);

/* For poll(): the descriptor, the events worth waking for, and how long at most
 * (ms; -1: no limit). */
int term_fd(const struct term *t);
short term_poll_events(const struct term *t);
int term_timeout(const struct term *t);

/* Next key; false: none now. Takes in the terminal's own answers on the way. */
bool term_read(struct term *t, struct key *k);
/* True once after something the terminal said (its size in pixels, that it has
 * sixel, that it is done with a picture) made another paint worth while. */
bool term_wants_paint(struct term *t);
bool term_gone(const struct term *t); /* hung up: leave quietly */

/* Sends on what is waiting; false while something still is: paint later. */
bool term_flush(struct term *t);
void term_paint(struct term *t, const struct grid *g);

/* Reports of clicks and the wheel; off at first. Off, no mouse sequence is sent. */
void term_mouse(struct term *t, bool on);
void term_resized(struct term *t); /* after SIGWINCH */
void term_redraw(struct term *t);  /* the next paint assumes nothing about the screen */
void term_suspend(struct term *t); /* hands the terminal back, e.g. before stopping */
void term_resume(struct term *t);

int64_t term_now_ms(void);         /* monotonic */

#endif
