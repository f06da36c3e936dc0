/* edit.c - see edit.h. A plain byte array: prompts are short, and even one of
 * 100 KB moves in microseconds. */
#include "tui/edit.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <wchar.h>

const char *const edit_keys[][2] = {
    { "Left Right", "one character" },
    { "^Left ^Right", "one word (also Alt-b, Alt-f)" },
    { "Home End", "start, end (also ^A, ^E)" },
    { "^K ^U", "cut to the end, to the start" },
    { "^W Alt-d", "cut the word before, after" },
    { "^Y", "put back what was cut" },
    { "^_", "undo" },
    { NULL, NULL },
};

/* Decodes one code point; an invalid byte counts as U+FFFD of length 1. */
static size_t decode(const char *s, size_t n, int32_t *cp)
{
    utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)n, cp);

    if (len <= 0) {
        *cp = 0xfffd;
        return 1;
    }
    return (size_t)len;
}

static int cp_width(int32_t cp)
{
    int w = wcwidth((wchar_t)cp);

    return w < 0 ? 1 : w;
}

int edit_width(const char *text, size_t n)
{
    int cols = 0;
    int32_t cp;

    for (size_t i = 0; i < n;) {
        i += decode(text + i, n - i, &cp);
        cols += cp_width(cp);
    }
    return cols;
}

size_t edit_next(const char *text, size_t n, size_t at)
{
    int32_t a, b, state = 0;

    if (at >= n) return n;
    at += decode(text + at, n - at, &a);
    while (at < n) {
        size_t len = decode(text + at, n - at, &b);
        if (utf8proc_grapheme_break_stateful(a, b, &state)) break;
        at += len;
        a = b;
    }
    return at;
}

size_t edit_prev(const char *text, size_t n, size_t at)
{
    size_t from = at, next;

    if (at == 0) return 0;
    /* Clusters are only defined forwards. Start at a space or some way back:
     * no cluster worth the name is longer than 256 bytes. */
    while (from > 0 && at - from < 256) {
        from--;
        if (text[from] == ' ' && from + 1 < at) break;
    }
    while (from > 0 && ((unsigned char)text[from] & 0xc0) == 0x80) from--;
    while ((next = edit_next(text, n, from)) < at) from = next;
    return from;
}

bool edit_init(struct edit *e, size_t max_bytes)
{
    memset(e, 0, sizeof *e);
    e->max_bytes = max_bytes;
    e->cap = 64;
    e->text = calloc(1, e->cap);
    return e->text != NULL;
}

static void undo_clear(struct edit *e)
{
    for (int i = 0; i < e->undo_count; i++) free(e->undo[i].text);
    e->undo_count = 0;
}

void edit_free(struct edit *e)
{
    undo_clear(e);
    free(e->text);
    free(e->killed);
    memset(e, 0, sizeof *e);
}

/* Remembers the text before a change. A refusal of memory only costs the undo. */
static void remember(struct edit *e, bool typing)
{
    struct edit_undo *u;

    if (typing && e->typing) return;
    e->typing = typing;
    if (e->undo_count == EDIT_UNDO_MAX) {
        free(e->undo[0].text);
        memmove(e->undo, e->undo + 1, sizeof e->undo - sizeof *e->undo);
        e->undo_count--;
    }
    u = &e->undo[e->undo_count];
    u->text = malloc(e->bytes + 1);
    if (!u->text) return;
    memcpy(u->text, e->text, e->bytes + 1);
    u->bytes = e->bytes;
    u->cursor = e->cursor;
    e->undo_count++;
}

static void undo(struct edit *e)
{
    struct edit_undo *u;

    if (!e->undo_count) return;
    u = &e->undo[--e->undo_count];
    free(e->text);
    e->text = u->text;
    e->bytes = u->bytes;
    e->cursor = u->cursor;
    e->cap = u->bytes + 1;
    e->typing = false;
}

/* What is kept of a code point: 0 for nothing. */
static int32_t clean(int32_t cp)
{
    if (cp == '\n' || cp == '\t' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029) return ' ';
    if (cp < 32 || (cp >= 0x7f && cp < 0xa0) || cp == 0xfeff) return 0;
    /* Bidi embeddings and isolates would turn the rest of the row around. */
    if ((cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069)) return 0;
    return cp;
}

/* Inserts without remembering. */
static void put(struct edit *e, const char *bytes, size_t n)
{
    /* Each invalid byte can become three. */
    char *add = malloc(n * 3 + 1);
    size_t len = 0, fit, total;
    int32_t cp, last = 0;

    e->full = false;
    if (!add) {
        e->full = true;
        return;
    }
    for (size_t i = 0; i < n;) {
        int32_t raw;
        i += decode(bytes + i, n - i, &raw);
        cp = clean(raw);
        if (raw == '\n' && last == '\r') cp = 0; /* CR LF is one space */
        last = raw;
        if (cp) len += (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)add + len);
    }
    fit = e->max_bytes > e->bytes ? e->max_bytes - e->bytes : 0;
    if (len > fit) {
        size_t at = 0, next;
        while (at < len && (next = edit_next(add, len, at)) <= fit) at = next;
        len = at;
        e->full = true;
    }
    total = e->bytes + len;
    if (total + 1 > e->cap) {
        size_t cap = total * 2 + 64;
        char *grown = realloc(e->text, cap);
        if (!grown) {
            e->full = true;
            free(add);
            return;
        }
        e->text = grown;
        e->cap = cap;
    }
    memmove(e->text + e->cursor + len, e->text + e->cursor, e->bytes - e->cursor + 1);
    memcpy(e->text + e->cursor, add, len);
    e->bytes = total;
    e->cursor += len;
    free(add);
    /* A combining mark joins what stands before: the cursor must not stay
     * inside the new cluster. */
    if (e->cursor < e->bytes) {
        size_t from = e->cursor ? edit_prev(e->text, e->bytes, e->cursor) : 0;
        size_t end = edit_next(e->text, e->bytes, from);
        if (end > e->cursor) e->cursor = end;
    }
}

void edit_insert(struct edit *e, const char *bytes, size_t n)
{
    remember(e, false);
    put(e, bytes, n);
}

void edit_set(struct edit *e, const char *text)
{
    remember(e, false);
    e->bytes = e->cursor = 0;
    e->text[0] = 0;
    put(e, text, strlen(text));
    e->cursor = e->bytes;
}

static void cut(struct edit *e, size_t from, size_t to, bool keep)
{
    if (from >= to) return;
    remember(e, false);
    if (keep) {
        char *k = malloc(to - from + 1);
        if (k) {
            memcpy(k, e->text + from, to - from);
            k[to - from] = 0;
            free(e->killed);
            e->killed = k;
        }
    }
    memmove(e->text + from, e->text + to, e->bytes - to + 1);
    e->bytes -= to - from;
    e->cursor = from;
    e->full = false;
}

static bool is_word(const struct edit *e, size_t at)
{
    unsigned char c = (unsigned char)e->text[at];

    return c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static size_t word_left(const struct edit *e, size_t at)
{
    size_t p;

    while (at > 0 && !is_word(e, p = edit_prev(e->text, e->bytes, at))) at = p;
    while (at > 0 && is_word(e, p = edit_prev(e->text, e->bytes, at))) at = p;
    return at;
}

static size_t word_right(const struct edit *e, size_t at)
{
    while (at < e->bytes && !is_word(e, at)) at = edit_next(e->text, e->bytes, at);
    while (at < e->bytes && is_word(e, at)) at = edit_next(e->text, e->bytes, at);
    return at;
}

/* ^W as shells do it: back over spaces, then to the next space. */
static size_t blank_left(const struct edit *e, size_t at)
{
    while (at > 0 && e->text[at - 1] == ' ') at--;
    while (at > 0 && e->text[at - 1] != ' ') at--;
    return at;
}

static void move(struct edit *e, size_t to)
{
    e->cursor = to;
    e->typing = false;
}

static bool control_key(struct edit *e, uint32_t ch)
{
    switch (ch) {
    case 'a': move(e, 0); return true;
    case 'e': move(e, e->bytes); return true;
    case 'b': move(e, edit_prev(e->text, e->bytes, e->cursor)); return true;
    case 'f': move(e, edit_next(e->text, e->bytes, e->cursor)); return true;
    case 'd': cut(e, e->cursor, edit_next(e->text, e->bytes, e->cursor), false); return true;
    case 'k': cut(e, e->cursor, e->bytes, true); return true;
    case 'u': cut(e, 0, e->cursor, true); return true;
    case 'w': cut(e, blank_left(e, e->cursor), e->cursor, true); return true;
    case 'y': if (e->killed) edit_insert(e, e->killed, strlen(e->killed)); return true;
    case '_': undo(e); return true;
    default: return false;
    }
}

bool edit_key(struct edit *e, const struct key *k)
{
    bool by_word = k->mods & (K_CTRL | K_ALT);
    size_t from;

    switch (k->kind) {
    case K_CHAR:
        if (k->mods & K_CTRL) return control_key(e, k->ch);
        if (k->mods & K_ALT) {
            switch (k->ch) {
            case 'b': move(e, word_left(e, e->cursor)); return true;
            case 'f': move(e, word_right(e, e->cursor)); return true;
            case 'd': cut(e, e->cursor, word_right(e, e->cursor), true); return true;
            default: return false;
            }
        }
        {
            char utf8[4];
            utf8proc_ssize_t n = utf8proc_encode_char((utf8proc_int32_t)k->ch, (utf8proc_uint8_t *)utf8);
            remember(e, k->ch != ' ');
            put(e, utf8, n > 0 ? (size_t)n : 0);
        }
        return true;
    case K_PASTE: edit_insert(e, k->text, k->bytes); return true;
    case K_LEFT: move(e, by_word ? word_left(e, e->cursor) : edit_prev(e->text, e->bytes, e->cursor)); return true;
    case K_RIGHT: move(e, by_word ? word_right(e, e->cursor) : edit_next(e->text, e->bytes, e->cursor)); return true;
    case K_HOME: move(e, 0); return true;
    case K_END: move(e, e->bytes); return true;
    case K_BACKSPACE:
        from = by_word ? word_left(e, e->cursor) : edit_prev(e->text, e->bytes, e->cursor);
        cut(e, from, e->cursor, by_word);
        return true;
    case K_DELETE:
        cut(e, e->cursor, by_word ? word_right(e, e->cursor) : edit_next(e->text, e->bytes, e->cursor), by_word);
        return true;
    default: return false;
    }
}

bool edit_row(const struct edit *e, size_t from, int width, struct edit_row *row)
{
    size_t at = from, last_break = 0;
    int cols = 0, break_cols = 0;

    if (from > e->bytes || (from == e->bytes && from > 0)) return false;
    if (width < 1) width = 1;
    while (at < e->bytes) {
        size_t next = edit_next(e->text, e->bytes, at);
        int w = edit_width(e->text + at, next - at);

        if (cols + w > width) {
            if (e->text[at] == ' ') { /* may hang over the edge */
                *row = (struct edit_row){ from, next, cols };
                return true;
            }
            if (last_break) *row = (struct edit_row){ from, last_break, break_cols };
            else if (at > from) *row = (struct edit_row){ from, at, cols };
            else *row = (struct edit_row){ from, next, w }; /* wider than the box: alone */
            return true;
        }
        cols += w;
        if (e->text[at] == ' ') {
            last_break = next;
            break_cols = cols;
        }
        at = next;
    }
    *row = (struct edit_row){ from, at, cols };
    return true;
}

int edit_rows(const struct edit *e, int width, int *cursor_row, int *cursor_col)
{
    struct edit_row row;
    size_t from = 0;
    int n = 0;

    for (; edit_row(e, from, width, &row); n++) {
        if (e->cursor >= row.from && (e->cursor < row.to || row.to == e->bytes)) {
            int col = edit_width(e->text + row.from, e->cursor - row.from);
            if (cursor_row) *cursor_row = n;
            if (cursor_col) *cursor_col = col > width ? width : col;
        }
        from = row.to;
        if (from == 0) { /* empty text */
            n++;
            break;
        }
    }
    return n;
}

bool edit_move_row(struct edit *e, int width, int by)
{
    struct edit_row row;
    int at = 0, col = 0, n = 0, cols = 0;
    size_t from = 0;

    edit_rows(e, width, &at, &col);
    at += by;
    if (at < 0) return false;
    while (edit_row(e, from, width, &row)) {
        if (n++ == at) {
            size_t pos = row.from, next;
            while (pos < row.to && (next = edit_next(e->text, e->bytes, pos)) <= row.to) {
                cols += edit_width(e->text + pos, next - pos);
                if (cols > col || (next == row.to && row.to < e->bytes)) break;
                pos = next;
            }
            move(e, pos);
            return true;
        }
        if ((from = row.to) == 0) break;
    }
    return false;
}
