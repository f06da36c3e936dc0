/* edit.h - a line of text being typed: the prompt, a field, a file name.
 *
 * Pure: keys in, text out. The text is always valid UTF-8 without control
 * characters (a newline or tab becomes a space, other controls vanish, invalid
 * bytes become U+FFFD). The cursor moves by grapheme clusters (utf8proc), so
 * that an accent or a flag is one step. Widths are columns as wcwidth counts
 * them, because that is what terminals do; setlocale(LC_CTYPE) must name a
 * UTF-8 locale for anything but ASCII. */
#ifndef SLUICE_EDIT_H
#define SLUICE_EDIT_H

#include "tui/key.h"

#include <stdbool.h>
#include <stddef.h>

enum { EDIT_UNDO_MAX = 32 };

struct edit_undo { char *text; size_t bytes, cursor; };

struct edit {
    char *text;         /* owned, NUL-terminated, never NULL after edit_init */
    size_t bytes;
    size_t cursor;      /* byte offset of a grapheme's start, or bytes */
    size_t cap, max_bytes;
    bool full;          /* the last insertion did not fit, or memory was refused */
    char *killed;       /* what ^K ^U ^W cut, for ^Y; owned or NULL */
    struct edit_undo undo[EDIT_UNDO_MAX];
    int undo_count;
    bool typing;        /* the last change was a typed letter: one undo for a run of them */
};

bool edit_init(struct edit *e, size_t max_bytes); /* false: memory refused */
void edit_free(struct edit *e);
/* Replaces the whole text (cleaned as if typed), cursor at the end; undoable. */
void edit_set(struct edit *e, const char *text);
/* Inserts any bytes at the cursor, cleaned. What does not fit is dropped at a
 * grapheme's edge and `full` is set. */
void edit_insert(struct edit *e, const char *bytes, size_t n);

/* Handles an editing key; true if it was one (changed the text or the cursor,
 * or could have). Enter, Tab, Esc, Up, Down and function keys are not. */
bool edit_key(struct edit *e, const struct key *k);

/* The keys above, for the help screen: pairs of key and meaning, NULL at the end. */
extern const char *const edit_keys[][2];

/* One row of the text wrapped to `width` columns: words stay whole where they
 * fit, one space may hang over the edge. */
struct edit_row { size_t from, to; int cols; };
/* Row that begins at `from`; false when there is none. Row 0 begins at 0 and
 * exists even in an empty text; each next at the last one's `to`. */
bool edit_row(const struct edit *e, size_t from, int width, struct edit_row *row);
/* Number of rows, and where the cursor is in them (any pointer may be NULL).
 * The cursor's column may equal width. */
int edit_rows(const struct edit *e, int width, int *cursor_row, int *cursor_col);
/* Moves the cursor `by` rows; false (and no move) past the first or last. */
bool edit_move_row(struct edit *e, int width, int by);

/* Columns of n bytes of UTF-8; and the grapheme after/before an offset. */
int edit_width(const char *text, size_t n);
size_t edit_next(const char *text, size_t n, size_t at);
size_t edit_prev(const char *text, size_t n, size_t at);

#endif
