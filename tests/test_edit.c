/* test_edit.c - the text editor against a naive model of it: random keys, then undo to
 * the start and redo to the end; each key by example; long and hostile text.
 * SLUICE_SEED replays the random part. */
#include "tests/alloc_fail.h"
#include "tests/view_help.h"
#include "tui/edit.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>

#include <cmocka.h>

/* --- keys by name ------------------------------------------------------------- */

static void press_ctrl(struct edit *e, char c)
{
    edit_key(e, &(struct key){ .kind = K_CHAR, .ch = (uint32_t)c, .mods = K_CTRL });
}

static void press_alt(struct edit *e, char c)
{
    edit_key(e, &(struct key){ .kind = K_CHAR, .ch = (uint32_t)c, .mods = K_ALT });
}

static void press_key(struct edit *e, enum key_kind kind, unsigned mods)
{
    edit_key(e, &(struct key){ .kind = kind, .mods = mods });
}

static void write_text(struct edit *e, const char *utf8)
{
    for (const char *s = utf8; *s;) {
        int32_t cp;
        s += utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &cp);
        edit_key(e, &(struct key){ .kind = K_CHAR, .ch = (uint32_t)cp });
    }
}

/* Text with the cursor as '|'. */
static void is(const struct edit *e, const char *expected)
{
    char *found = malloc(e->bytes + 2);

    memcpy(found, e->text, e->cursor);
    found[e->cursor] = '|';
    strcpy(found + e->cursor + 1, e->text + e->cursor);
    if (strcmp(found, expected)) fail_msg("expected \"%s\", found \"%s\"", expected, found);
    free(found);
}

static struct edit several(void)
{
    struct edit e;

    assert_true(edit_init(&e, 100000));
    e.lines = true;
    return e;
}

static void test_lines(void **state)
{
    (void)state;
    struct edit e = several();

    edit_insert(&e, "one\r\ntwo\rthree\xe2\x80\xa8" "four\xc2\x85\tfive\x0b", 29);
    is(&e, "one\ntwo\nthree\nfour\n five|");
    press_ctrl(&e, 'a');
    is(&e, "one\ntwo\nthree\nfour\n| five");
    press_ctrl(&e, 'b');
    is(&e, "one\ntwo\nthree\nfour|\n five");
    press_key(&e, K_HOME, 0);
    press_ctrl(&e, 'k');
    is(&e, "one\ntwo\nthree\n|\n five");
    press_ctrl(&e, 'k');
    is(&e, "one\ntwo\nthree\n| five");
    press_ctrl(&e, 'y'); /* cuts in a row are one */
    is(&e, "one\ntwo\nthree\nfour\n| five");
    press_alt(&e, '<');
    press_ctrl(&e, 'e');
    is(&e, "one|\ntwo\nthree\nfour\n five");
    press_key(&e, K_ENTER, K_ALT);
    press_ctrl(&e, 'j');
    is(&e, "one\n\n|\ntwo\nthree\nfour\n five");
    press_alt(&e, '>');
    press_ctrl(&e, 'u');
    is(&e, "|");
    assert_false(edit_key(&e, &(struct key){ .kind = K_ENTER }));
    e.lines = false;
    assert_false(edit_key(&e, &(struct key){ .kind = K_ENTER, .mods = K_ALT }));
    assert_false(edit_key(&e, &(struct key){ .kind = K_CHAR, .ch = 'j', .mods = K_CTRL }));
    edit_insert(&e, "a\r\nb\nc", 6);
    is(&e, "a b c|");
    edit_free(&e);
}

static void test_cut_and_put_back(void **state)
{
    (void)state;
    struct edit e = several();

    write_text(&e, "one two three");
    press_ctrl(&e, 'w');
    press_ctrl(&e, 'w'); /* goes before what was cut first */
    is(&e, "one |");
    press_ctrl(&e, 'y');
    is(&e, "one two three|");
    press_key(&e, K_BACKSPACE, K_ALT);
    is(&e, "one two |");
    press_ctrl(&e, 'y');
    is(&e, "one two three|");
    press_alt(&e, 'y');
    is(&e, "one two two three|");
    press_alt(&e, 'y');
    is(&e, "one two three|");
    press_ctrl(&e, 'b');
    press_alt(&e, 'y'); /* only right after ^Y */
    is(&e, "one two thre|e");
    press_ctrl(&e, 'a');
    press_alt(&e, 'd');
    press_alt(&e, 'd');
    is(&e, "| three");
    press_ctrl(&e, 'y');
    is(&e, "one two| three");
    press_key(&e, K_DELETE, 0);
    press_ctrl(&e, 'd');
    press_ctrl(&e, 'h');
    is(&e, "one tw|hree");
    edit_free(&e);
}

static void test_case(void **state)
{
    (void)state;
    struct edit e = several();

    write_text(&e, "an été in pARIS");
    press_alt(&e, '<');
    press_alt(&e, 'u');
    is(&e, "AN| été in pARIS");
    press_alt(&e, 'c');
    is(&e, "AN Été| in pARIS");
    press_alt(&e, 'l');
    press_alt(&e, 'c');
    is(&e, "AN Été in Paris|");
    press_alt(&e, 'u');
    is(&e, "AN Été in Paris|");
    edit_free(&e);
}

static void test_undo_and_redo(void **state)
{
    (void)state;
    struct edit e = several();

    assert_false(edit_undo(&e));
    assert_false(edit_redo(&e));
    write_text(&e, "one two");
    press_ctrl(&e, 'w');
    write_text(&e, "x");
    press_ctrl(&e, '_');
    is(&e, "one |");
    press_ctrl(&e, '_');
    is(&e, "one two|");
    press_ctrl(&e, '_'); /* a word at a time */
    is(&e, "one|");
    press_alt(&e, '/');
    press_alt(&e, '_');
    press_alt(&e, '/');
    is(&e, "one x|");
    assert_false(edit_redo(&e));
    press_ctrl(&e, '_');
    write_text(&e, "y"); /* from here there is no way to the x */
    assert_false(edit_redo(&e));
    is(&e, "one y|");
    while (edit_undo(&e)) {}
    is(&e, "|");
    edit_free(&e);
}

/* Up and Down keep to a column over shorter rows, and over wide characters. */
static void test_rows(void **state)
{
    (void)state;
    struct edit e = several();
    struct edit_row r;
    int row, col;

    edit_set(&e, "abcdefgh\nxy\n猫猫猫猫\nmnopqrst\n");
    assert_int_equal(edit_rows(&e, 20, &row, &col), 5);
    assert_int_equal(row, 4);
    assert_int_equal(col, 0);
    edit_place(&e, 20, 0, 5);
    is(&e, "abcde|fgh\nxy\n猫猫猫猫\nmnopqrst\n");
    assert_true(edit_move_row(&e, 20, 1));
    is(&e, "abcdefgh\nxy|\n猫猫猫猫\nmnopqrst\n");
    assert_true(edit_move_row(&e, 20, 1));
    is(&e, "abcdefgh\nxy\n猫猫|猫猫\nmnopqrst\n");
    assert_true(edit_move_row(&e, 20, 1));
    is(&e, "abcdefgh\nxy\n猫猫猫猫\nmnopq|rst\n");
    assert_true(edit_move_row(&e, 20, 1));
    assert_false(edit_move_row(&e, 20, 1));
    assert_true(edit_move_row(&e, 20, -4));
    is(&e, "abcde|fgh\nxy\n猫猫猫猫\nmnopqrst\n");
    assert_false(edit_move_row(&e, 20, -1));
    press_ctrl(&e, 'f'); /* another column is wanted from now on */
    assert_true(edit_move_row(&e, 20, 3));
    is(&e, "abcdefgh\nxy\n猫猫猫猫\nmnopqr|st\n");
    /* wrapped: the blank hangs over, and the next row begins behind it */
    edit_set(&e, "aaa bbb");
    edit_row(&e, 0, 3, &r);
    assert_int_equal(r.to, 4);
    assert_int_equal(r.end, 3);
    assert_false(r.last);
    edit_row(&e, r.to, 3, &r);
    assert_true(r.last);
    edit_place(&e, 3, 0, 9);
    is(&e, "aaa| bbb");
    edit_place(&e, 3, 7, 9);
    is(&e, "aaa bbb|");
    edit_free(&e);
}

/* Joined by what was typed or cut beside it: the cursor is never inside a character. */
static void test_clusters(void **state)
{
    (void)state;
    struct edit e = several();

    write_text(&e, "ex\xcc\x81");
    is(&e, "ex\xcc\x81|");
    press_ctrl(&e, 'b');
    is(&e, "e|x\xcc\x81");
    edit_set(&e, "e \xcc\x81" "f"); /* the mark stands on the blank */
    press_key(&e, K_HOME, 0);
    press_ctrl(&e, 'f');
    press_ctrl(&e, 'f');
    is(&e, "e \xcc\x81|f");
    edit_set(&e, "\xf0\x9f\x87\xab\xf0\x9f\x87\xb7\xf0\x9f\x87\xa9\xf0\x9f\x87\xaa"); /* two flags */
    press_key(&e, K_BACKSPACE, 0);
    assert_int_equal(e.bytes, 8);
    /* thousands of marks on one letter, of flags in a row: each step is as quick as any */
    for (int kind = 0; kind < 2; kind++) {
        struct timespec a, b;
        edit_set(&e, "");
        for (int i = 0; i < 4000; i++)
            edit_insert(&e, kind ? "\xf0\x9f\x87\xab\xf0\x9f\x87\xb7" : "\xcc\x81", kind ? 8 : 2);
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (int i = 0; i < 20; i++) press_ctrl(&e, 'b');
        press_alt(&e, 'b');
        clock_gettime(CLOCK_MONOTONIC, &b);
        assert_true((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < 1000);
        assert_int_equal(e.cursor, 0);
    }
    edit_free(&e);
}

static void test_limits(void **state)
{
    (void)state;
    struct edit e;
    char big[4096];

    assert_true(edit_init(&e, 10));
    edit_insert(&e, "12345678\xe7\x8c\xab", 11);
    is(&e, "12345678|");
    assert_true(e.full);
    write_text(&e, "90x");
    is(&e, "1234567890|");
    assert_true(e.full);
    press_ctrl(&e, 'h');
    assert_false(e.full);
    edit_free(&e);
    /* what can be undone is held in memory, but not in all of it */
    assert_true(edit_init(&e, 1 << 20));
    memset(big, 'a', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (int i = 0; i < 3 * EDIT_UNDO_BYTES / (2 * 4095); i++) {
        big[i % 4000] ^= 1;
        edit_set(&e, big);
    }
    assert_true(e.undo_bytes <= EDIT_UNDO_BYTES && e.undo_bytes > EDIT_UNDO_BYTES / 2);
    assert_true(edit_undo(&e));
    edit_free(&e);
}

/* Any allocation refused: the text is as it was or as it should be, and undo never makes another of it. */
static void test_refused_memory(void **state)
{
    (void)state;
    for (int n = 1; n < 40; n++) {
        struct edit e;
        assert_true(edit_init(&e, 10000));
        alloc_fail_at(n);
        write_text(&e, "one two three");
        press_ctrl(&e, 'w');
        press_ctrl(&e, 'y');
        press_alt(&e, 'u');
        edit_insert(&e, "a longer text than there is room for without another allocation", 63);
        press_ctrl(&e, 'a');
        press_alt(&e, 'c');
        alloc_fail_done();
        while (edit_undo(&e)) {}
        while (edit_redo(&e)) {}
        assert_int_equal(strlen(e.text), e.bytes);
        edit_free(&e);
    }
}

/* --- the naive model ------------------------------------------------------------------ */

/* Where characters begin, found from the start each time. */
static int boundaries(const char *text, size_t n, size_t *at)
{
    int count = 0;

    for (size_t i = 0; i < n; i = edit_next(text, n, i)) at[count++] = i;
    at[count] = n;
    return count;
}

static void check(const struct edit *e, uint32_t seed, int step)
{
    static size_t at[20001];
    int count = boundaries(e->text, e->bytes, at), on = 0;

    while (on < count && at[on] < e->cursor) on++;
    if (at[on] != e->cursor) fail_msg("seed %u, step %d: the cursor is inside a character", seed, step);
    if (on && edit_prev(e->text, e->bytes, e->cursor) != at[on - 1])
        fail_msg("seed %u, step %d: the character before", seed, step);
    for (size_t i = 0; i < e->bytes;) {
        int32_t cp;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)e->text + i,
                                                (utf8proc_ssize_t)(e->bytes - i), &cp);
        if (len <= 0 || (cp < 32 && !(cp == '\n' && e->lines)) || (cp >= 0x7f && cp < 0xa0))
            fail_msg("seed %u, step %d: byte %zu of the text is no text", seed, step, i);
        i += (size_t)len;
    }
    assert_int_equal(e->text[e->bytes], 0);
}

enum { STEPS = 400, MODEL_BYTES = 40000 };

struct model_text { char text[MODEL_BYTES]; size_t bytes, cursor; };

static void model_replace(struct model_text *m, size_t from, size_t to, const char *add)
{
    char copy[MODEL_BYTES];
    size_t n = strlen(add);

    memcpy(copy, m->text + to, m->bytes - to);
    memcpy(m->text + from, add, n);
    memcpy(m->text + from + n, copy, m->bytes - to);
    m->bytes = m->bytes - to + from + n;
    m->text[m->bytes] = 0;
    m->cursor = from + n;
}

/* One key in both; false: it is no change that the model knows, and takes from the editor. */
static void step_both(struct edit *e, struct model_text *m, uint32_t r)
{
    static const char *const bits[] = { "a", "word", " ", "猫", "\xcc\x81", "\xf0\x9f\x98\x80", "\n", "\xe2\x80\x8d",
                                        "\xf0\x9f\x87\xab",
                                        "\xf0\x9f\x91\xa9", "é", "\xe0\xa4\x95" };
    static size_t at[MODEL_BYTES + 1];
    int count = boundaries(m->text, m->bytes, at), on = 0;
    const char *bit = bits[r / 64 % 12];
    char *line;

    while (on < count && at[on] < m->cursor) on++;
    switch (r % 16) {
    case 0: case 1: case 2: case 3: case 4:
        model_replace(m, m->cursor, m->cursor, bit);
        if (!strcmp(bit, "\n")) press_ctrl(e, 'j');
        else if (r & 32 && edit_width(bit, strlen(bit)) <= 2) write_text(e, bit); /* letter by letter is not the same */
        else edit_insert(e, bit, strlen(bit));
        break;
    case 5: press_ctrl(e, 'b'); if (on) m->cursor = at[on - 1]; return;
    case 6: press_ctrl(e, 'f'); if (on < count) m->cursor = at[on + 1]; return;
    case 7: press_key(e, K_BACKSPACE, 0); if (on) model_replace(m, at[on - 1], at[on], ""); break;
    case 8: press_ctrl(e, 'd'); if (on < count) model_replace(m, at[on], at[on + 1], ""); break;
    case 9: press_alt(e, '<'); m->cursor = 0; return;
    case 10: press_alt(e, '>'); m->cursor = m->bytes; return;
    case 11:
        press_ctrl(e, 'k');
        line = strchr(m->text + m->cursor, '\n');
        if (line == m->text + m->cursor) line++;
        model_replace(m, m->cursor, line ? (size_t)(line - m->text) : m->bytes, "");
        break;
    case 12:
        if (r & 32) return;
        press_ctrl(e, 'u');
        model_replace(m, 0, m->cursor, "");
        break;
    case 13:
        press_ctrl(e, 'a');
        while (m->cursor && m->text[m->cursor - 1] != '\n') m->cursor--;
        return;
    default: /* moves by rows: anywhere is right that is a character's start */
        if (r & 64 && r & 128) press_alt(e, r & 32 ? 'b' : 'f');
        else if (r & 32) edit_move_row(e, 1 + (int)(r / 64 % 20), r & 64 ? 1 : -1);
        else edit_place(e, 1 + (int)(r / 64 % 20), (int)(r / 2048 % 9), (int)(r / 65536 % 20));
        m->cursor = e->cursor;
        return;
    }
    count = boundaries(m->text, m->bytes, at); /* what is beside it may have joined */
    for (on = 0; at[on] < m->cursor; on++) {}
    m->cursor = at[on];
}

static void random_session(uint32_t seed)
{
    static char *was[STEPS + 1];
    static struct model_text m;
    struct edit e = several();
    uint32_t s = seed;
    int back = STEPS;

    m.bytes = m.cursor = 0;
    m.text[0] = 0;
    was[0] = strdup("");
    for (int i = 1; i <= STEPS; i++) {
        step_both(&e, &m, random_next(&s));
        if (strcmp(e.text, m.text) || e.cursor != m.cursor)
            fail_msg("seed %u, step %d: \"%s\" at %zu; the model has \"%s\" at %zu", seed, i, e.text, e.cursor, m.text,
                     m.cursor);
        check(&e, seed, i);
        was[i] = strdup(e.text);
    }
    do { /* each state on the way back is one that was, in their order */
        check(&e, seed, STEPS);
        while (back >= 0 && strcmp(was[back], e.text)) back--;
        if (back < 0) fail_msg("seed %u: undo made \"%s\", which never was", seed, e.text);
    } while (edit_undo(&e));
    assert_string_equal(e.text, "");
    while (edit_redo(&e)) check(&e, seed, STEPS);
    assert_string_equal(e.text, was[STEPS]);
    for (int i = 0; i <= STEPS; i++) free(was[i]);
    edit_free(&e);
}

/* A proposal gives way to what is typed or pasted, and is changed by any other key. */
static void test_offer(void **state)
{
    (void)state;
    struct edit e = { 0 };

    assert_true(edit_init(&e, 100));
    edit_offer(&e);
    assert_false(e.offered); /* there is none */
    edit_set(&e, "20");
    edit_offer(&e);
    write_text(&e, "8");
    is(&e, "8|");
    write_text(&e, "0");
    is(&e, "80|");
    assert_true(edit_undo(&e) && edit_undo(&e));
    is(&e, "20|");
    edit_offer(&e);
    edit_key(&e, &(struct key){ .kind = K_PASTE, .text = "1024", .bytes = 4 });
    is(&e, "1024|");
    edit_offer(&e);
    press_key(&e, K_BACKSPACE, 0);
    write_text(&e, "5");
    is(&e, "1025|");
    edit_offer(&e);
    press_ctrl(&e, 'a');
    write_text(&e, "x");
    is(&e, "x|1025");
    edit_free(&e);
}

static void test_random_sessions(void **state)
{
    (void)state;
    const char *given = getenv("SLUICE_SEED");
    uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 0) : (uint32_t)time(NULL) | 1;

    print_message("SLUICE_SEED=%u\n", seed);
    for (int i = 0; i < (given ? 1 : 150); i++) {
        random_session(seed);
        random_next(&seed);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_cut_and_put_back),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_undo_and_redo),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_refused_memory),
        cmocka_unit_test(test_offer),
        cmocka_unit_test(test_random_sessions),
    };

    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
