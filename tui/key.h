/* key.h - one key press, or one paste, as a value.
 *
 * Made by tui/input from terminal bytes, or by a test from nothing; taken by
 * view_key and edit_key. Knows no terminal. */
#ifndef SLUICE_KEY_H
#define SLUICE_KEY_H

#include <stddef.h>
#include <stdint.h>

enum key_kind {
    K_NONE = 0,
    K_CHAR,      /* ch: a printable code point; with K_CTRL: the lower-case letter */
    K_PASTE,     /* text, bytes: as the terminal sent it, any bytes, newlines included */
    K_ENTER, K_TAB, K_BACKTAB, K_ESC, K_BACKSPACE, K_DELETE, K_INSERT,
    K_UP, K_DOWN, K_LEFT, K_RIGHT, K_HOME, K_END, K_PAGEUP, K_PAGEDOWN,
    K_F1, K_F2, K_F3, K_F4, K_F5, K_F6, K_F7, K_F8, K_F9, K_F10, K_F11, K_F12,
    K_MOUSE,     /* ch: enum key_mouse; x, y: the cell */
};

/* A button pressed, or the wheel turned. Releases and movement are no keys. */
enum key_mouse { MOUSE_LEFT, MOUSE_MIDDLE, MOUSE_RIGHT, MOUSE_UP, MOUSE_DOWN };

enum { K_CTRL = 1, K_ALT = 2, K_SHIFT = 4 };

struct key {
    enum key_kind kind;
    uint32_t ch;       /* K_CHAR, K_MOUSE */
    unsigned mods;     /* K_CTRL | K_ALT | K_SHIFT */
    const char *text;  /* K_PASTE: borrowed until the next key is asked for */
    size_t bytes;
    int x, y;          /* K_MOUSE: from 0 */
};

#endif
