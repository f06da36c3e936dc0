/* edit.h - text being typed: the prompts, a field, a file name.
 *
 * Pure: keys in, text out. The text is always valid UTF-8 without control
 * characters but the newline, and that only in an editor of `lines`: pasted line
 * ends stay there and become blanks in any other; a tab becomes a blank, other
 * controls and what turns the direction of reading vanish, invalid bytes become
 * U+FFFD. The cursor moves by grapheme clusters (utf8proc), so that an accent or a
 * flag is one step. Widths are columns as wcwidth counts them, because that is
 * what terminals do; setlocale(LC_CTYPE) must name a UTF-8 locale for anything
 * but ASCII.
 *
 * Undo goes back to the beginning, redo forward again, until EDIT_UNDO_BYTES are
 * held; then the oldest changes go. Refused memory costs the change (`full`) or
 * what could be undone, never the text. */
#ifndef SLUICE_EDIT_H
#define SLUICE_EDIT_H

#include "tui/key.h"

#include <stdbool.h>
#include <stddef.h>

enum { EDIT_UNDO_BYTES = 16 << 20, EDIT_CUTS = 8 };

struct edit_change; /* bytes replaced by others */

struct edit {
    char *text;         /* owned, NUL-terminated, never NULL after edit_init */
    size_t bytes;
    size_t cursor;      /* byte offset of a grapheme's start, or bytes */
    size_t cap, max_bytes;
    bool lines;         /* it may have several; to be set after edit_init */
    bool full;          /* the last insertion did not fit, or memory was refused */
    bool offered;       /* the text is a proposal; see edit_offer */
    int wanted;         /* column that Up and Down aim at; -1: the cursor's own */
    struct edit_change *change; /* [changes]; those from `done` on can be done again */
    int changes, done, change_room;
    size_t undo_bytes;
    char *cut[EDIT_CUTS]; /* what ^K ^U ^W cut, newest first, NULL: none; owned */
    int put_back;         /* index of what ^Y or Alt-y has just inserted ... */
    size_t put_back_at;   /* ... from here to the cursor */
    int last;             /* what the last key did, for those that go together */
};

bool edit_init(struct edit *e, size_t max_bytes); /* false: memory refused */
void edit_free(struct edit *e);
/* Replaces the whole text (cleaned as if typed), cursor at the end; undoable. */
void edit_set(struct edit *e, const char *text);
/* What is there is a proposal until a key says more: what is typed or pasted next takes the place of
 * all of it, any other editing key makes it a text to be changed. */
void edit_offer(struct edit *e);
/* Inserts any bytes at the cursor, cleaned. What does not fit is dropped at a
 * grapheme's edge and `full` is set. */
void edit_insert(struct edit *e, const char *bytes, size_t n);

/* Handles an editing key; true if it was one (changed the text or the cursor,
 * or could have). Enter, Tab, Esc, Up, Down and function keys are not; Alt-Enter
 * and ^J are in an editor of lines. */
bool edit_key(struct edit *e, const struct key *k);
bool edit_undo(struct edit *e); /* false: there is nothing */
bool edit_redo(struct edit *e);

/* The keys above, for the help screen: pairs of key and meaning, NULL at the end. */
extern const char *const edit_keys[][2];

/* One row of the text wrapped to `width` columns: words stay whole where they
 * fit, one blank may hang over the edge, a newline ends it. */
struct edit_row {
    size_t from, to; /* `to` may lie behind a newline or a hanging blank, which are not drawn */
    size_t end;      /* what is drawn ends here */
    int cols;
    bool last;
};
/* The row that begins at `from`: 0 for the first, then each time the last one's `to`. */
void edit_row(const struct edit *e, size_t from, int width, struct edit_row *row);
/* Number of rows, and where the cursor is in them (any pointer may be NULL).
 * The cursor's column may equal width. */
int edit_rows(const struct edit *e, int width, int *cursor_row, int *cursor_col);
/* Moves the cursor `by` rows; false (and no move) past the first or last. */
bool edit_move_row(struct edit *e, int width, int by);
/* The cursor to what is shown there; past the last row: to the end. */
void edit_place(struct edit *e, int width, int row, int col);

/* Columns of n bytes of UTF-8; and the grapheme after/before an offset (of any byte: that of the
 * grapheme's start that comes next, or was last). */
int edit_width(const char *text, size_t n);
size_t edit_next(const char *text, size_t n, size_t at);
size_t edit_prev(const char *text, size_t n, size_t at);
/* Columns of one code point; *hidden (may be NULL): a stand-in of one column is shown instead,
 * because it is a control, unassigned, or would hide or turn around what stands beside it. */
int edit_columns(int32_t code_point, bool *hidden);

#endif
