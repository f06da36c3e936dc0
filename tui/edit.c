/* edit.c - see edit.h. A plain byte array: prompts are short, and even one of
 * 100 KB moves in microseconds. Every change of the text is one function,
 * `change`, which remembers the bytes that went and those that came. */
#include "tui/edit.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>
#include <wchar.h>

const char *const edit_keys[][2] = {
    { "Left Right", "one character (also ^B, ^F)" },
    { "^Left ^Right", "one word (also Alt-b, Alt-f)" },
    { "Home End", "start, end of the line (also ^A, ^E)" },
    { "^Home ^End", "start, end of the text (also Alt-<, Alt->)" },
    { "Up Down", "one row; at the edge: prompts used before" },
    { "Alt-Enter", "a new line in a prompt (also ^J)" },
    { "^K", "cut to the end of the line" },
    { "^U", "cut all that stands before" },
    { "^W Alt-d", "cut the word before, after (also Alt-BS)" },
    { "^Y Alt-y", "put back what was cut; what was cut before" },
    { "Alt-u Alt-l Alt-c", "the word in capitals, small, with a capital" },
    { "^_ Alt-/", "undo, redo" },
    { NULL, NULL },
};

/* `removed` bytes at `at` were replaced by `added` others; both are in `bytes`, one after the other. */
struct edit_change { size_t at, removed, added, cursor; char *bytes; }; /* cursor: before it */

enum { LAST_OTHER, LAST_LETTER, LAST_CUT, LAST_PUT_BACK };

/* --- characters --------------------------------------------------------------- */

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

int edit_columns(int32_t cp, bool *hidden)
{
    int w = wcwidth((wchar_t)cp);
    bool joiner = cp == 0x200c || cp == 0x200d; /* parts of characters */
    bool hides = w < 0 || (w == 0 && !joiner && utf8proc_category(cp) == UTF8PROC_CATEGORY_CF);

    if (hidden) *hidden = hides;
    return hides ? 1 : w;
}

int edit_width(const char *text, size_t n)
{
    int cols = 0;
    int32_t cp;

    for (size_t i = 0; i < n;) {
        i += decode(text + i, n - i, &cp);
        cols += edit_columns(cp, NULL);
    }
    return cols;
}

static bool ascii(char c)
{
    return (unsigned char)c < 0x80;
}

size_t edit_next(const char *text, size_t n, size_t at)
{
    int32_t a, b, state = 0;

    if (at >= n) return n;
    if (ascii(text[at]) && (at + 1 == n || ascii(text[at + 1])) && text[at] != '\r') return at + 1;
    at += decode(text + at, n - at, &a);
    while (at < n) {
        size_t len = decode(text + at, n - at, &b);
        if (utf8proc_grapheme_break_stateful(a, b, &state)) break;
        at += len;
        a = b;
    }
    return at;
}

/* Is there a break between a and b whatever stands before a? */
static bool sure_break(int32_t a, int32_t b)
{
    switch (utf8proc_get_property(a)->boundclass) {
    case UTF8PROC_BOUNDCLASS_EXTEND:
    case UTF8PROC_BOUNDCLASS_ZWJ:
    case UTF8PROC_BOUNDCLASS_SPACINGMARK: return false;
    default: return utf8proc_grapheme_break(a, b);
    }
}

static size_t code_point_before(const char *text, size_t at, int32_t *cp)
{
    size_t from = at - 1;

    while (from > 0 && at - from < 4 && ((unsigned char)text[from] & 0xc0) == 0x80) from--;
    if (from + decode(text + from, at - from, cp) == at) return from;
    *cp = 0xfffd;
    return at - 1;
}

/* Clusters are only defined forwards: from a break that is sure. */
size_t edit_prev(const char *text, size_t n, size_t at)
{
    size_t from, next;
    int32_t a, b;

    if (at == 0) return 0;
    while (at < n && ((unsigned char)text[at] & 0xc0) == 0x80) at++; /* inside a character: from its end */
    from = code_point_before(text, at, &b);
    while (from > 0) {
        size_t before = code_point_before(text, from, &a);
        if (sure_break(a, b)) break;
        from = before;
        b = a;
    }
    while ((next = edit_next(text, n, from)) < at) from = next;
    return from;
}

/* What is kept of a code point: 0 for nothing. */
static int32_t clean(int32_t cp, bool lines)
{
    if (cp == '\n' || cp == '\r' || cp == 0x85 || cp == 0x2028 || cp == 0x2029) return lines ? '\n' : ' ';
    if (cp == '\t') return ' ';
    if (cp < 32 || (cp >= 0x7f && cp < 0xa0) || cp == 0xfeff) return 0;
    /* Bidi embeddings and isolates would turn the rest of the row around. */
    if ((cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069)) return 0;
    return cp;
}

/* --- changes ------------------------------------------------------------------- */

bool edit_init(struct edit *e, size_t max_bytes)
{
    memset(e, 0, sizeof *e);
    e->max_bytes = max_bytes;
    e->wanted = -1;
    e->cap = 64;
    e->text = calloc(1, e->cap);
    return e->text != NULL;
}

/* Forgets the changes from `from` up to `to`. */
static void forget(struct edit *e, int from, int to)
{
    for (int i = from; i < to; i++) {
        e->undo_bytes -= e->change[i].removed + e->change[i].added;
        free(e->change[i].bytes);
    }
    if (to > from) memmove(e->change + from, e->change + to, (size_t)(e->changes - to) * sizeof *e->change);
    e->changes -= to - from;
    if (e->done >= to) e->done -= to - from;
    else if (e->done > from) e->done = from;
}

void edit_free(struct edit *e)
{
    forget(e, 0, e->changes);
    free(e->change);
    free(e->text);
    for (int i = 0; i < EDIT_CUTS; i++) free(e->cut[i]);
    memset(e, 0, sizeof *e);
}

/* The cursor must not stay inside a cluster: what stands on its two sides may have joined. */
static void settle(struct edit *e)
{
    if (e->cursor > 0 && e->cursor < e->bytes) {
        size_t end = edit_next(e->text, e->bytes, edit_prev(e->text, e->bytes, e->cursor));
        if (end > e->cursor) e->cursor = end;
    }
    e->wanted = -1;
}

/* The text alone. There is room. */
static void replace(struct edit *e, size_t at, size_t removed, const char *add, size_t added)
{
    memmove(e->text + at + added, e->text + at + removed, e->bytes - at - removed + 1);
    memcpy(e->text + at, add, added);
    e->bytes += added - removed;
}

/* One more letter of a word belongs to the change before. */
static bool join_change(struct edit *e, size_t at, const char *add, size_t added)
{
    struct edit_change *c = e->done ? &e->change[e->done - 1] : NULL;
    char *grown;

    if (e->last != LAST_LETTER || *add == ' ' || !c || e->done < e->changes || c->removed || c->at + c->added != at ||
        !(grown = realloc(c->bytes, c->added + added)))
        return false;
    memcpy(grown + c->added, add, added);
    c->bytes = grown;
    c->added += added;
    e->undo_bytes += added;
    return true;
}

/* Before it is made. Refused memory costs all that could be undone: the rest would not fit any more. */
static void remember(struct edit *e, size_t at, size_t removed, const char *add, size_t added)
{
    int drop = 0;
    size_t bytes;
    char *copy;

    forget(e, e->done, e->changes);
    if (e->changes == e->change_room) {
        int room = e->change_room * 2 + 16;
        struct edit_change *grown = realloc(e->change, (size_t)room * sizeof *grown);
        if (!grown) {
            forget(e, 0, e->changes);
            return;
        }
        e->change = grown;
        e->change_room = room;
    }
    copy = malloc(removed + added + 1);
    if (!copy) {
        forget(e, 0, e->changes);
        return;
    }
    memcpy(copy, e->text + at, removed);
    memcpy(copy + removed, add, added);
    e->change[e->changes++] = (struct edit_change){ at, removed, added, e->cursor, copy };
    e->done = e->changes;
    e->undo_bytes += removed + added;
    for (bytes = e->undo_bytes; bytes > EDIT_UNDO_BYTES && drop < e->changes - 1; drop++)
        bytes -= e->change[drop].removed + e->change[drop].added;
    forget(e, 0, drop);
}

/* Replaces the bytes from `from` to `to`; the cursor goes behind what is added, which is clean. */
static bool change(struct edit *e, size_t from, size_t to, const char *add, size_t added, bool letter)
{
    size_t total = e->bytes - (to - from) + added;

    e->full = false;
    if (from == to && !added) return true;
    if (total + 1 > e->cap) {
        size_t cap = total * 2 + 64;
        char *grown = realloc(e->text, cap);
        if (!grown) {
            e->full = true;
            return false;
        }
        e->text = grown;
        e->cap = cap;
    }
    if (!letter || !join_change(e, from, add, added)) remember(e, from, to - from, add, added);
    replace(e, from, to - from, add, added);
    e->cursor = from + added;
    settle(e);
    e->last = letter ? LAST_LETTER : LAST_OTHER;
    return true;
}

bool edit_undo(struct edit *e)
{
    const struct edit_change *c;

    e->last = LAST_OTHER;
    if (!e->done) return false;
    c = &e->change[--e->done];
    /* It fits: what is longer than now has been there before, and the room is never given back. */
    replace(e, c->at, c->added, c->bytes, c->removed);
    e->cursor = c->cursor;
    settle(e);
    return true;
}

bool edit_redo(struct edit *e)
{
    const struct edit_change *c;

    e->last = LAST_OTHER;
    if (e->done == e->changes) return false;
    c = &e->change[e->done++];
    replace(e, c->at, c->removed, c->bytes + c->removed, c->added);
    e->cursor = c->at + c->added;
    settle(e);
    return true;
}

/* Cleans `bytes` and puts them in the place of what is from `from` to `to`. */
static void put(struct edit *e, size_t from, size_t to, const char *bytes, size_t n, bool letter)
{
    char small[16], *add = n * 3 < sizeof small ? small : malloc(n * 3 + 1); /* each invalid byte can become three */
    size_t len = 0, room = e->bytes - (to - from);
    int32_t cp, raw, last = 0;
    bool cut_short = false;

    if (!add) {
        e->full = true;
        return;
    }
    for (size_t i = 0; i < n;) {
        i += decode(bytes + i, n - i, &raw);
        cp = clean(raw, e->lines);
        if (raw == '\n' && last == '\r') cp = 0; /* CR LF is one line's end */
        last = raw;
        if (cp) len += (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)add + len);
    }
    room = e->max_bytes > room ? e->max_bytes - room : 0;
    if (len > room) {
        size_t at = 0, next;
        while (at < len && (next = edit_next(add, len, at)) <= room) at = next;
        len = at;
        cut_short = true;
    }
    if (change(e, from, to, add, len, letter)) e->full = cut_short;
    if (add != small) free(add);
}

void edit_insert(struct edit *e, const char *bytes, size_t n)
{
    put(e, e->cursor, e->cursor, bytes, n, false);
}

void edit_set(struct edit *e, const char *text)
{
    put(e, 0, e->bytes, text, strlen(text), false);
    e->cursor = e->bytes;
    e->offered = false;
}

void edit_offer(struct edit *e)
{
    e->offered = e->bytes > 0;
    e->cursor = e->bytes;
}

/* --- cutting and putting back ----------------------------------------------------- */

/* Cuts that follow each other are one, as in readline. Without memory it cannot be put back. */
static void keep_cut(struct edit *e, size_t from, size_t to)
{
    bool more = e->last == LAST_CUT && e->cut[0];
    size_t had = more ? strlen(e->cut[0]) : 0, n = to - from;
    char *k = malloc(had + n + 1);

    if (!k) return;
    bool before = to == e->cursor && from < to; /* what is cut backwards goes before */
    if (had) memcpy(before ? k + n : k, e->cut[0], had);
    memcpy(before ? k : k + had, e->text + from, n);
    k[had + n] = 0;
    if (more) {
        free(e->cut[0]);
    } else {
        free(e->cut[EDIT_CUTS - 1]);
        memmove(e->cut + 1, e->cut, sizeof e->cut - sizeof *e->cut);
    }
    e->cut[0] = k;
}

static void cut(struct edit *e, size_t from, size_t to, bool keep)
{
    if (from >= to) return;
    if (keep) keep_cut(e, from, to);
    change(e, from, to, "", 0, false);
    if (keep) e->last = LAST_CUT;
}

static void put_back(struct edit *e, int which)
{
    size_t from = e->last == LAST_PUT_BACK ? e->put_back_at : e->cursor;

    if (!e->cut[which]) return;
    put(e, from, e->cursor, e->cut[which], strlen(e->cut[which]), false);
    e->put_back = which;
    e->put_back_at = from;
    e->last = LAST_PUT_BACK;
}

/* Instead of what has just been put back what was cut before it. */
static void put_back_older(struct edit *e)
{
    int next = e->put_back + 1;

    if (e->last != LAST_PUT_BACK) return;
    put_back(e, next < EDIT_CUTS && e->cut[next] ? next : 0);
}

/* --- words and lines -------------------------------------------------------------- */

static bool is_word(char c)
{
    return !ascii(c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The start of the grapheme that has byte `at`. */
static size_t start_of(const struct edit *e, size_t at)
{
    return at < e->bytes ? edit_prev(e->text, e->bytes, at + 1) : e->bytes;
}

static size_t word_left(const struct edit *e, size_t at)
{
    while (at > 0 && !is_word(e->text[at - 1])) at--;
    while (at > 0 && is_word(e->text[at - 1])) at--;
    return start_of(e, at);
}

static size_t word_right(const struct edit *e, size_t at)
{
    while (at < e->bytes && !is_word(e->text[at])) at = edit_next(e->text, e->bytes, at);
    while (at < e->bytes && is_word(e->text[at])) at = edit_next(e->text, e->bytes, at);
    return at;
}

static bool blank(char c)
{
    return c == ' ' || c == '\n';
}

/* ^W as shells do it: back over blanks, then to the next blank. */
static size_t blank_left(const struct edit *e, size_t at)
{
    while (at > 0 && blank(e->text[at - 1])) at--;
    while (at > 0 && !blank(e->text[at - 1])) at--;
    return start_of(e, at);
}

static size_t line_start(const struct edit *e, size_t at)
{
    while (at > 0 && e->text[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const struct edit *e, size_t at)
{
    while (at < e->bytes && e->text[at] != '\n') at++;
    return at;
}

/* To the end of the line; from there, the newline. */
static size_t cut_end(const struct edit *e)
{
    size_t end = line_end(e, e->cursor);

    return end > e->cursor || end == e->bytes ? end : end + 1;
}

static void move(struct edit *e, size_t to)
{
    e->cursor = to;
    e->wanted = -1;
    e->last = LAST_OTHER;
}

enum letters { UPPER, LOWER, CAPITAL };

/* The word after the cursor; the cursor goes behind it. */
static void set_case(struct edit *e, enum letters how)
{
    size_t from = e->cursor, to, len = 0;
    bool first = true;
    char *word;

    while (from < e->bytes && !is_word(e->text[from])) from = edit_next(e->text, e->bytes, from);
    to = word_right(e, from);
    word = malloc((to - from) * 4 + 1);
    if (!word) {
        e->full = true;
        return;
    }
    for (size_t i = from; i < to; first = false) {
        int32_t cp;
        i += decode(e->text + i, to - i, &cp);
        cp = how == UPPER ? utf8proc_toupper(cp)
           : how == CAPITAL && first ? utf8proc_totitle(cp) : utf8proc_tolower(cp);
        len += (size_t)utf8proc_encode_char(cp, (utf8proc_uint8_t *)word + len);
    }
    if (len == to - from && !memcmp(word, e->text + from, len)) move(e, to);
    else put(e, from, to, word, len, false);
    free(word);
}

/* --- keys --------------------------------------------------------------------------- */

static bool control_key(struct edit *e, uint32_t ch)
{
    switch (ch) {
    case 'a': move(e, line_start(e, e->cursor)); return true;
    case 'e': move(e, line_end(e, e->cursor)); return true;
    case 'b': move(e, edit_prev(e->text, e->bytes, e->cursor)); return true;
    case 'f': move(e, edit_next(e->text, e->bytes, e->cursor)); return true;
    case 'd': cut(e, e->cursor, edit_next(e->text, e->bytes, e->cursor), false); return true;
    case 'h': cut(e, edit_prev(e->text, e->bytes, e->cursor), e->cursor, false); return true;
    case 'k': cut(e, e->cursor, cut_end(e), true); return true;
    case 'u': cut(e, 0, e->cursor, true); return true;
    case 'w': cut(e, blank_left(e, e->cursor), e->cursor, true); return true;
    case 'y':
        e->last = LAST_OTHER;
        put_back(e, 0);
        return true;
    case 'j':
        if (e->lines) edit_insert(e, "\n", 1);
        return e->lines;
    case '_': edit_undo(e); return true;
    default: return false;
    }
}

static bool alt_key(struct edit *e, uint32_t ch)
{
    switch (ch) {
    case 'b': move(e, word_left(e, e->cursor)); return true;
    case 'f': move(e, word_right(e, e->cursor)); return true;
    case 'd': cut(e, e->cursor, word_right(e, e->cursor), true); return true;
    case 'y': put_back_older(e); return true;
    case 'u': set_case(e, UPPER); return true;
    case 'l': set_case(e, LOWER); return true;
    case 'c': set_case(e, CAPITAL); return true;
    case '<': move(e, 0); return true;
    case '>': move(e, e->bytes); return true;
    case '/':
    case '_': edit_redo(e); return true;
    default: return false;
    }
}

bool edit_key(struct edit *e, const struct key *k)
{
    bool far = k->mods & (K_CTRL | K_ALT);
    bool anew = e->offered && ((k->kind == K_CHAR && !far) || k->kind == K_PASTE);
    size_t to;
    char utf8[4];

    e->offered = false;
    if (anew) edit_set(e, "");
    switch (k->kind) {
    case K_CHAR:
        if (k->mods & K_CTRL) return control_key(e, k->ch);
        if (k->mods & K_ALT) return alt_key(e, k->ch);
        to = (size_t)utf8proc_encode_char((utf8proc_int32_t)k->ch, (utf8proc_uint8_t *)utf8);
        put(e, e->cursor, e->cursor, utf8, to, true);
        return true;
    case K_PASTE: edit_insert(e, k->text, k->bytes); return true;
    case K_ENTER:
        if (!e->lines || !(k->mods & K_ALT)) return false;
        edit_insert(e, "\n", 1);
        return true;
    case K_LEFT: move(e, far ? word_left(e, e->cursor) : edit_prev(e->text, e->bytes, e->cursor)); return true;
    case K_RIGHT: move(e, far ? word_right(e, e->cursor) : edit_next(e->text, e->bytes, e->cursor)); return true;
    case K_HOME: move(e, k->mods & K_CTRL ? 0 : line_start(e, e->cursor)); return true;
    case K_END: move(e, k->mods & K_CTRL ? e->bytes : line_end(e, e->cursor)); return true;
    case K_BACKSPACE:
        cut(e, far ? word_left(e, e->cursor) : edit_prev(e->text, e->bytes, e->cursor), e->cursor, far);
        return true;
    case K_DELETE:
        cut(e, e->cursor, far ? word_right(e, e->cursor) : edit_next(e->text, e->bytes, e->cursor), far);
        return true;
    default: return false;
    }
}

/* --- rows ------------------------------------------------------------------------------- */

static struct edit_row row_of(const struct edit *e, size_t from, size_t end, size_t to, int cols)
{
    return (struct edit_row){ from, to, end, cols, to == e->bytes && (to == from || e->text[to - 1] != '\n') };
}

void edit_row(const struct edit *e, size_t from, int width, struct edit_row *row)
{
    size_t at = from, last_break = 0;
    int cols = 0, break_cols = 0;

    if (width < 1) width = 1;
    while (at < e->bytes) {
        size_t next = edit_next(e->text, e->bytes, at);
        int w;

        if (e->text[at] == '\n') {
            *row = row_of(e, from, at, next, cols);
            return;
        }
        w = edit_width(e->text + at, next - at);
        if (cols + w > width) {
            if (e->text[at] == ' ') *row = row_of(e, from, at, next, cols); /* may hang over the edge */
            else if (last_break) *row = row_of(e, from, last_break, last_break, break_cols);
            else if (at > from) *row = row_of(e, from, at, at, cols);
            else *row = row_of(e, from, next, next, w); /* wider than the box: alone */
            return;
        }
        cols += w;
        if (e->text[at] == ' ') {
            last_break = next;
            break_cols = cols;
        }
        at = next;
    }
    *row = row_of(e, from, at, at, cols);
}

int edit_rows(const struct edit *e, int width, int *cursor_row, int *cursor_col)
{
    struct edit_row row = { 0 };
    int n = 0;

    do {
        edit_row(e, row.to, width, &row);
        if (e->cursor >= row.from && (e->cursor < row.to || row.last)) {
            int col = edit_width(e->text + row.from, e->cursor - row.from);
            if (cursor_row) *cursor_row = n;
            if (cursor_col) *cursor_col = col > width ? width : col;
        }
        n++;
    } while (!row.last);
    return n;
}

void edit_place(struct edit *e, int width, int row, int col)
{
    struct edit_row r = { 0 };
    int cols = 0;
    size_t pos, next;

    for (int i = 0; edit_row(e, r.to, width, &r), i < row && !r.last; i++) {}
    for (pos = r.from; pos < r.to; pos = next) {
        next = edit_next(e->text, e->bytes, pos);
        cols += edit_width(e->text + pos, next - pos);
        if (cols > col || (next == r.to && !r.last)) break; /* behind the last one is the next row */
    }
    e->cursor = pos;
    e->last = LAST_OTHER;
}

bool edit_move_row(struct edit *e, int width, int by)
{
    int row = 0, col = 0, rows = edit_rows(e, width, &row, &col);

    if (e->wanted >= 0) col = e->wanted;
    if (row + by < 0 || row + by >= rows) return false;
    edit_place(e, width, row + by, col);
    e->wanted = col;
    return true;
}
