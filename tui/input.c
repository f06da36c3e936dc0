/* input.c - see input.h. One byte at a time through a small state machine;
 * what a sequence means is looked up in two tables at its end. */
#include "tui/input.h"

#include <stdlib.h>
#include <string.h>

enum { GROUND, ESCAPE, CSI, SS3, STRING, STRING_ESC, PASTE, UTF8, CSI_LINUX };

static const char paste_end[] = "\033[201~";

void input_init(struct input *in)
{
    memset(in, 0, sizeof *in);
}

void input_free(struct input *in)
{
    free(in->paste);
    memset(in, 0, sizeof *in);
}

static enum input_got key_of(struct key *k, enum key_kind kind, uint32_t ch, unsigned mods)
{
    *k = (struct key){ .kind = kind, .ch = ch, .mods = mods };
    return INPUT_KEY;
}

static enum input_got text(struct input *in, struct key *k, uint32_t ch)
{
    unsigned mods = in->alt ? K_ALT : 0;

    in->alt = false;
    in->state = GROUND;
    return key_of(k, K_CHAR, ch, mods);
}

static enum input_got control(struct input *in, struct key *k, unsigned char c)
{
    unsigned mods = in->alt ? K_ALT : 0;

    in->alt = false;
    in->state = GROUND;
    switch (c) {
    case '\r': return key_of(k, K_ENTER, 0, mods);
    case '\t': return key_of(k, K_TAB, 0, mods);
    case 0x7f:
    case '\b': return key_of(k, K_BACKSPACE, 0, mods);
    case 0:    return key_of(k, K_CHAR, ' ', mods | K_CTRL);
    /* ^J is what a newline in an unbracketed paste looks like: never Enter. */
    default:   return key_of(k, K_CHAR, c < 27 ? (uint32_t)c + 'a' - 1 : (uint32_t)c + '@', mods | K_CTRL);
    }
}

/* "CSI letter" and "SS3 letter" */
static const struct { char letter; enum key_kind kind; } by_letter[] = {
    { 'A', K_UP }, { 'B', K_DOWN }, { 'C', K_RIGHT }, { 'D', K_LEFT },
    { 'H', K_HOME }, { 'F', K_END }, { 'Z', K_BACKTAB }, { 'M', K_ENTER },
    { 'P', K_F1 }, { 'Q', K_F2 }, { 'R', K_F3 }, { 'S', K_F4 },
};

/* "CSI number ~" */
static const struct { int number; enum key_kind kind; } by_number[] = {
    { 1, K_HOME }, { 2, K_INSERT }, { 3, K_DELETE }, { 4, K_END }, { 5, K_PAGEUP }, { 6, K_PAGEDOWN },
    { 7, K_HOME }, { 8, K_END }, { 11, K_F1 }, { 12, K_F2 }, { 13, K_F3 }, { 14, K_F4 }, { 15, K_F5 },
    { 17, K_F6 }, { 18, K_F7 }, { 19, K_F8 }, { 20, K_F9 }, { 21, K_F10 }, { 23, K_F11 }, { 24, K_F12 },
};

static unsigned mods_of(int parameter)
{
    unsigned m = parameter > 1 ? (unsigned)(parameter - 1) : 0;

    return (m & 1 ? K_SHIFT : 0) | (m & 2 ? K_ALT : 0) | (m & 4 ? K_CTRL : 0);
}

static enum input_got from_code_point(struct key *k, int ch, unsigned mods)
{
    if (ch == 13 || ch == 57414) return key_of(k, K_ENTER, 0, mods);
    if (ch == 9) return key_of(k, mods & K_SHIFT ? K_BACKTAB : K_TAB, 0, mods & ~(unsigned)K_SHIFT);
    if (ch == 27) return key_of(k, K_ESC, 0, mods);
    if (ch == 127 || ch == 8) return key_of(k, K_BACKSPACE, 0, mods);
    if (ch < 32 || ch > 0x10ffff || (ch >= 57344 && ch <= 63743)) return INPUT_NONE;
    return key_of(k, K_CHAR, (uint32_t)ch, mods & (K_CTRL | K_ALT));
}

/* SGR mouse reports: button and modifiers in bits, column and row from 1; 'M' pressed, 'm' released. */
static enum input_got mouse(struct key *k, const int n[4], bool pressed)
{
    int b = n[0] & ~28;

    if (!pressed || n[1] < 1 || n[2] < 1 || (b > 2 && b != 64 && b != 65)) return INPUT_NONE;
    key_of(k, K_MOUSE, b == 64 ? MOUSE_UP : b == 65 ? MOUSE_DOWN : MOUSE_LEFT + (uint32_t)b,
           (n[0] & 4 ? K_SHIFT : 0) | (n[0] & 8 ? K_ALT : 0) | (n[0] & 16 ? K_CTRL : 0));
    k->x = n[1] - 1;
    k->y = n[2] - 1;
    return INPUT_KEY;
}

/* A reply is in pending. An ESC before it was a key: that comes first. */
static enum input_got reply(struct input *in, struct key *k, bool after_esc)
{
    in->pending[in->pending_bytes] = 0;
    in->reply = (const char *)in->pending;
    in->reply_bytes = in->pending_bytes;
    in->due = after_esc;
    return after_esc ? key_of(k, K_ESC, 0, 0) : INPUT_REPLY;
}

/* The whole sequence is in pending, without "ESC [", with the final byte. */
static enum input_got csi_done(struct input *in, struct key *k)
{
    int n[4] = { 0 }, count = 0;
    char final = (char)in->pending[in->pending_bytes - 1];
    bool private = strchr("<=>?", in->pending[0]) != NULL;
    unsigned alt = in->alt ? K_ALT : 0;

    in->state = GROUND;
    in->alt = false;
    for (size_t i = private; i + 1 < in->pending_bytes && count < 4; i++) {
        unsigned char c = in->pending[i];
        if (c >= '0' && c <= '9') {
            if (n[count] < 10000000) n[count] = n[count] * 10 + (c - '0');
        } else if (c == ';') {
            count++;
        } else if (c == ':') { /* sub-parameters (kitty): keep the first only */
            while (i + 2 < in->pending_bytes && in->pending[i + 1] != ';') i++;
        }
    }
    if (in->pending[0] == '<' && (final == 'M' || final == 'm')) return mouse(k, n, final == 'M');
    if (!private) {
        if (final == '~') {
            if (n[0] == 200) {
                in->state = PASTE;
                in->paste_bytes = in->paste_match = 0;
                in->paste_idle = 0;
                in->paste_lost = false;
                return INPUT_NONE;
            }
            if (n[0] == 201) return INPUT_NONE;
            if (n[0] == 27) return from_code_point(k, n[2], mods_of(n[1])); /* modifyOtherKeys */
            for (size_t i = 0; i < sizeof by_number / sizeof *by_number; i++)
                if (by_number[i].number == n[0]) return key_of(k, by_number[i].kind, 0, alt | mods_of(n[1]));
        } else if (final == 'u') {
            return from_code_point(k, n[0], mods_of(n[1]));
        } else if (final == 'I' || final == 'O') {
            return INPUT_NONE; /* focus reports */
        } else if (final != 'R' || n[1] <= 8) { /* CSI r;c R is also a cursor report */
            for (size_t i = 0; i < sizeof by_letter / sizeof *by_letter; i++)
                if (by_letter[i].letter == final && (final != 'M' || in->pending_bytes == 1))
                    return key_of(k, by_letter[i].kind, 0, alt | mods_of(n[1]));
        }
    }
    in->kind = '[';
    return reply(in, k, alt);
}

static enum input_got string_done(struct input *in, struct key *k)
{
    bool alt = in->alt;

    in->state = GROUND;
    in->alt = false;
    return reply(in, k, alt);
}

static void collect(struct input *in, unsigned char c)
{
    if (in->pending_bytes < INPUT_REPLY_MAX) in->pending[in->pending_bytes++] = c;
}

static void paste_add(struct input *in, const char *s, size_t n)
{
    if (in->paste_lost || !n) return;
    if (in->paste_bytes + n > in->paste_cap) {
        size_t cap = in->paste_cap ? in->paste_cap * 2 : 4096;
        char *grown = cap > INPUT_PASTE_MAX ? NULL : realloc(in->paste, cap);
        if (!grown) {
            in->paste_lost = true;
            return;
        }
        in->paste = grown;
        in->paste_cap = cap;
    }
    memcpy(in->paste + in->paste_bytes, s, n);
    in->paste_bytes += n;
}

static enum input_got paste_out(struct input *in, struct key *k)
{
    size_t n = in->paste_bytes;

    in->paste_bytes = 0;
    if (!n) return INPUT_NONE;
    *k = (struct key){ .kind = K_PASTE, .text = in->paste, .bytes = n };
    return INPUT_KEY;
}

static enum input_got paste_byte(struct input *in, struct key *k, unsigned char c)
{
    if (c != (unsigned char)paste_end[in->paste_match]) {
        paste_add(in, paste_end, in->paste_match);
        in->paste_match = 0;
        if (c != (unsigned char)paste_end[0]) {
            paste_add(in, (char[]){ (char)c }, 1);
            return INPUT_NONE;
        }
    }
    if (++in->paste_match < sizeof paste_end - 1) return INPUT_NONE;
    in->paste_match = 0;
    in->state = GROUND;
    return paste_out(in, k);
}

static enum input_got utf8_start(struct input *in, struct key *k, unsigned char c)
{
    if (c >= 0xc2 && c <= 0xdf) { in->utf8 = c & 0x1f; in->utf8_left = 1; in->utf8_least = 0x80; }
    else if (c >= 0xe0 && c <= 0xef) { in->utf8 = c & 0x0f; in->utf8_left = 2; in->utf8_least = 0x800; }
    else if (c >= 0xf0 && c <= 0xf4) { in->utf8 = c & 0x07; in->utf8_left = 3; in->utf8_least = 0x10000; }
    else return text(in, k, 0xfffd);
    in->state = UTF8;
    return INPUT_NONE;
}

static enum input_got step(struct input *in, struct key *k, unsigned char c, bool *again)
{
    switch (in->state) {
    case PASTE:
        return paste_byte(in, k, c);
    case UTF8:
        if ((c & 0xc0) != 0x80) {
            *again = true;
            return text(in, k, 0xfffd);
        }
        in->utf8 = in->utf8 << 6 | (c & 0x3f);
        if (--in->utf8_left) return INPUT_NONE;
        if (in->utf8 < in->utf8_least || in->utf8 > 0x10ffff || (in->utf8 >= 0xd800 && in->utf8 <= 0xdfff))
            return text(in, k, 0xfffd);
        if (in->utf8 < 0xa0) { /* C1 controls are no text */
            in->state = GROUND;
            in->alt = false;
            return INPUT_NONE;
        }
        return text(in, k, in->utf8);
    case ESCAPE:
        in->pending_bytes = 0;
        if (c == '[') { in->state = CSI; return INPUT_NONE; }
        if (c == 'O') { in->state = SS3; return INPUT_NONE; }
        if (c == ']' || c == 'P' || c == '_' || c == '^') {
            in->kind = (char)c;
            in->state = STRING;
            return INPUT_NONE;
        }
        if (c == 0x1b) { /* ESC ESC [ A: Alt with an arrow, as rxvt sends it; a second lone ESC is a key */
            if (!in->alt) { in->alt = true; return INPUT_NONE; }
            in->alt = false;
            return key_of(k, K_ESC, 0, 0);
        }
        in->alt = true;
        if (c < 32 || c == 127) return control(in, k, c);
        if (c >= 0x80) return utf8_start(in, k, c);
        return text(in, k, c);
    case CSI:
        if (c == 0x1b) { in->state = ESCAPE; in->alt = false; return INPUT_NONE; }
        if (c < 0x20) { in->state = GROUND; in->alt = false; *again = true; return INPUT_NONE; }
        if (c == '[' && in->pending_bytes == 0) { in->state = CSI_LINUX; return INPUT_NONE; }
        collect(in, c);
        if (c < 0x40 || c == 0x7f) return INPUT_NONE;
        return csi_done(in, k);
    case CSI_LINUX: /* the Linux console's F1..F5: ESC [ [ A..E */
        in->state = GROUND;
        in->alt = false;
        return c >= 'A' && c <= 'E' ? key_of(k, (enum key_kind)(K_F1 + (c - 'A')), 0, 0) : INPUT_NONE;
    case SS3:
        collect(in, c);
        if (c >= '0' && c <= '9') return INPUT_NONE; /* SS3 5 P: old modifiers */
        in->state = GROUND;
        in->alt = false;
        for (size_t i = 0; i < sizeof by_letter / sizeof *by_letter; i++)
            if (by_letter[i].letter == (char)c)
                return key_of(k, by_letter[i].kind, 0, in->pending_bytes > 1 ? mods_of(in->pending[0] - '0') : 0);
        return INPUT_NONE;
    case STRING:
        if (c == 0x1b) { in->state = STRING_ESC; return INPUT_NONE; }
        if (c == 0x07 || c == 0x18 || c == 0x1a) return string_done(in, k);
        collect(in, c);
        return INPUT_NONE;
    case STRING_ESC:
        if (c != '\\') { /* the string was cut; what follows is a new sequence */
            in->state = ESCAPE;
            in->alt = false;
            *again = true;
            return INPUT_NONE;
        }
        return string_done(in, k);
    default:
        if (c == 0x1b) { in->state = ESCAPE; in->alt = false; return INPUT_NONE; }
        if (c < 32 || c == 127) return control(in, k, c);
        if (c >= 0x80) return utf8_start(in, k, c);
        return text(in, k, c);
    }
}

enum input_got input_feed(struct input *in, const unsigned char **p, size_t *n, struct key *k)
{
    if (in->due) {
        in->due = false;
        return INPUT_REPLY;
    }
    while (*n) {
        bool again = false;
        enum input_got got = step(in, k, **p, &again);

        if (!again) {
            (*p)++;
            (*n)--;
        }
        if (got != INPUT_NONE) return got;
    }
    return INPUT_NONE;
}

bool input_waiting(const struct input *in)
{
    return in->state != GROUND;
}

int input_patience(const struct input *in, int escape_ms)
{
    return in->state == ESCAPE ? escape_ms : 1000;
}

enum input_got input_pause(struct input *in, struct key *k)
{
    int state = in->state;

    if (state == PASTE) {
        /* A slow link: show what there is. Only after five silent pauses is the
         * end mark given up, because the rest of a paste must never be taken
         * for typing (its newlines would be Enter). */
        if (in->paste_bytes || in->paste_match) {
            in->paste_idle = 0;
            paste_add(in, paste_end, in->paste_match);
            in->paste_match = 0;
            return paste_out(in, k);
        }
        if (++in->paste_idle >= 5) in->state = GROUND;
        return INPUT_NONE;
    }
    in->state = GROUND;
    in->alt = false;
    if (state == ESCAPE) return key_of(k, K_ESC, 0, 0);
    if (state == CSI && in->pending_bytes == 0) return key_of(k, K_CHAR, '[', K_ALT);
    if (state == SS3 && in->pending_bytes == 0) return key_of(k, K_CHAR, 'O', K_ALT);
    if (state == STRING && in->pending_bytes == 0) return key_of(k, K_CHAR, (uint32_t)in->kind, K_ALT);
    return state == UTF8 ? key_of(k, K_CHAR, 0xfffd, 0) : INPUT_NONE;
}
