/* term.h - the terminal: keys from it, cells and pictures to it.
 *
 * The only file (with graphics.c's encoders) that knows curses or the tty.
 * Curses paints the cells; keys are read by tui/input; pixels are encoded by a
 * thread of term's own and written after the cells, on a non-blocking descriptor, one
 * picture at a time, in pieces, each only when the terminal has answered to those
 * before, so that what is typed shows between them (pace.h). A picture that has moved
 * or changed meanwhile is not sent. How coarse a preview is, is chosen by what that
 * measures. Half-blocks of 256 colours and less are curses' own: they are painted
 * some rows at a time, paced alike.
 *
 * What the terminal can do is asked at the start and known when it answers,
 * which may be late or never; until then there are half-blocks.
 *
 * One term at a time, called by one thread. From term_open to term_close a crash (SIGSEGV,
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

/* What was asked, what was answered, what was chosen, for people. Texts of files none; of the
 * terminal, as it sent them. */
struct term_report {
    char name[64];            /* TERM */
    int cols, rows, colours;  /* 0: none */
    bool utf8, light, truecolour;
    bool answered;            /* DA1 */
    char da1[64];             /* "CSI ?62;4;22c"; "": not yet */
    bool kitty_asked, kitty_answered;
    bool in_tmux;
    char tmux_features[256];  /* of the terminal around it, when that was asked */
    enum graphics wanted, chosen;
    const char *why;
    int cell_w, cell_h;       /* px; 0: unknown, 10x20 is assumed */
    const char *cell_source;
    int sixel_colours, sixel_w, sixel_h; /* 0: unknown */
    double bytes_per_second, trip_ms;    /* measured by pictures; 0: not yet */
};
void term_report(const struct term *t, struct term_report *r);

/* For poll(): the descriptor, the events worth waking for, and how long at most
 * (ms; -1: no limit). */
int term_fd(const struct term *t);
int term_encoder_fd(const struct term *t); /* another one, for POLLIN: term_wants_paint takes what is there */
short term_poll_events(const struct term *t);
int term_timeout(const struct term *t);

/* Next key; false: none now. Takes in the terminal's own answers on the way. */
bool term_read(struct term *t, struct key *k);
/* True once after something the terminal said (its size in pixels, that it has
 * sixel, that it is done with a picture), or a picture that is encoded, made another
 * paint worth while. */
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
