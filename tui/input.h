/* input.h - from the bytes a terminal sends to keys and replies.
 *
 * A pure state machine: no file descriptor, no clock, no curses. Curses' own
 * key reader is not used because a terminal's late answers (DA1 over a slow
 * SSH link) must never turn into typed letters, and because a paste must
 * arrive as one piece. Understands UTF-8, xterm/VT/rxvt/linux key sequences,
 * modifyOtherKeys and kitty's CSI u, bracketed paste, SGR mouse reports, and sets every other
 * CSI, OSC, DCS and APC string aside as a reply.
 *
 * Limits: a reply is at most INPUT_REPLY_MAX bytes (the rest is dropped), a
 * paste at most INPUT_PASTE_MAX. Invalid UTF-8 becomes U+FFFD. */
#ifndef SLUICE_INPUT_H
#define SLUICE_INPUT_H

#include "tui/key.h"

#include <stdbool.h>

enum { INPUT_REPLY_MAX = 256, INPUT_PASTE_MAX = 4 << 20 };

enum input_got {
    INPUT_NONE,  /* every byte is used up, or more are needed */
    INPUT_KEY,
    INPUT_REPLY, /* reply, reply_bytes */
};

struct input {
    int state;
    unsigned char pending[INPUT_REPLY_MAX + 1]; /* sequence being collected; NUL-terminated reply */
    size_t pending_bytes;
    bool alt;                  /* an ESC came just before this character */
    uint32_t utf8;             /* code point being collected */
    uint32_t utf8_least;       /* smaller values are overlong */
    int utf8_left;
    char *paste;               /* owned */
    size_t paste_bytes, paste_cap;
    size_t paste_match;        /* how much of the end mark has been seen */
    int paste_idle;            /* pauses without a byte */
    bool paste_lost;           /* memory was refused; the rest of the paste is dropped */
    /* the last reply, valid until the next input_feed */
    char kind;                 /* '[' CSI, ']' OSC, 'P' DCS, '_' APC */
    const char *reply;
    size_t reply_bytes;
    bool due;                  /* it comes with the next input_feed, though there be no bytes */
};

void input_init(struct input *in);
void input_free(struct input *in);

/* Uses bytes from *p on (advancing *p and lowering *n) until one key or reply
 * is complete. Call again until INPUT_NONE. */
enum input_got input_feed(struct input *in, const unsigned char **p, size_t *n, struct key *k);

/* True when a lone ESC (or an unfinished sequence or paste) waits: after a
 * pause without bytes call input_pause, which settles it. */
bool input_waiting(const struct input *in);
/* How long that pause is worth waiting, in ms: an ESC is a key after
 * `escape_ms`, a half sequence or paste is given longer. */
int input_patience(const struct input *in, int escape_ms);
enum input_got input_pause(struct input *in, struct key *k);

#endif
