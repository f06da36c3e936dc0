/* test_screen_gallery.c - the gallery as text: a service that answers from nothing, as
 * many pictures as are wanted; what is asked of it is counted. */
#include "tests/view_help.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct fake { int total, lists, thumbs; const char *prompt; bool mute; };

static const char *const prompts[] = {
    "a red apple on a blue background", "a small octopus on a yellow background",
    "a lighthouse in a storm, oil on canvas",
    "an old fisherman, 85 mm, soft window light", "",
};

static struct store_picture picture(const struct fake *f, int i)
{
    char path[64];
    const char *prompt = f->prompt ? f->prompt : prompts[i % 5];

    snprintf(path, sizeof path, "/home/me/Pictures/sluice/%05d.png", f->total - i);
    return (struct store_picture){
        .id = f->total - i, .path = strdup(path), .prompt = strdup(prompt), .negative = strdup(i % 7 ? "" : "blurry"),
        .model = strdup("fake-model"), .preset = strdup(i % 3 ? "" : "portrait"), .record = strdup("{}"),
        .seed = 1000 + (uint64_t)i,
        .width = 256, .height = i % 4 ? 256 : 384, .time = 1764000000 - i * 40000, .seconds = 2.5,
        .mark = i % 6 == 1 ? 3 : 0,
    };
}

/* The search matches the fifth part of them. */
static void answer(struct view *v, struct fake *f, const struct wish *w)
{
    if (w->history.what == HISTORY_LIST) {
        struct store_page page = { .total = *w->history.query.search ? f->total / 5 : f->total };
        int n = (int)page.total - w->history.query.offset;
        f->lists++;
        if (n > w->history.query.limit) n = w->history.query.limit;
        if (n < 0) n = 0;
        page.at = calloc((size_t)n + 1, sizeof *page.at);
        for (; page.count < n; page.count++) page.at[page.count] = picture(f, w->history.query.offset + page.count);
        view_gallery_page(v, w->history.query.serial, w->history.query.offset, &page);
    } else if (w->history.what == HISTORY_THUMBS) {
        int64_t ids[256];
        int n = w->history.number;
        memcpy(ids, w->history.ids, (size_t)n * sizeof *ids);
        f->thumbs += n;
        for (int i = 0; i < n; i++)
            view_gallery_thumb(v, ids[i], fake_image(64, ids[i] % 4 ? 64 : 96, (uint64_t)ids[i]));
    }
}

/* Draws until nothing is needed any more, as the loop does. */
static void settle(struct view *v, struct fake *f, int cols, int rows)
{
    for (int i = 0; i < 20; i++) {
        struct wish w;
        screen(v, cols, rows);
        if (!(w = view_needs(v)).kind) return;
        assert_int_equal(w.kind, WISH_HISTORY);
        if (f->mute) return;
        answer(v, f, &w);
    }
    fail_msg("the gallery never has enough");
}

static struct view *opened(struct fake *f)
{
    struct view *v = make_view(NULL, NULL);

    alt(v, 'g');
    settle(v, f, 80, 24);
    return v;
}

static void test_goldens(void **state)
{
    (void)state;
    struct fake f = { .total = 123 };
    struct view *v = opened(&f);
    static const int sizes[][2] = { { 80, 24 }, { 120, 40 }, { 200, 60 } };

    press(v, K_RIGHT);
    for (int i = 0; i < 3; i++) {
        settle(v, &f, sizes[i][0], sizes[i][1]);
        golden(v, "gallery", sizes[i][0], sizes[i][1]);
    }
    type(v, "v");
    for (int i = 0; i < 3; i++) {
        settle(v, &f, sizes[i][0], sizes[i][1]);
        golden(v, "gallery-list", sizes[i][0], sizes[i][1]);
    }
    settle(v, &f, 40, 10);
    golden(v, "gallery-list", 40, 10);
    view_gallery_record(v,
                        "file\t/home/me/Pictures/sluice/1.png\nprompt\ta red apple on a blue background, "
                        "which is a long line that goes on and on\nseed\t42\n");
    golden(v, "gallery-record", 80, 24);
    assert_int_equal(press(v, K_ESC).kind, WISH_NONE);
    has_not(v, "prompt      a red");
    view_free(v);
    f = (struct fake){ 0 };
    v = opened(&f);
    golden(v, "gallery-empty", 80, 24);
    assert_int_equal(type(v, " 3cpsideu").kind, WISH_NONE);
    press(v, K_ENTER);
    view_free(v);
}

static void test_twenty_thousand(void **state)
{
    (void)state;
    struct fake f = { .total = 20000 };
    struct view *v = opened(&f);

    has(v, "Gallery: 20000 pictures");
    assert_int_equal(f.lists, 1);
    assert_true(f.thumbs <= 64);
    press(v, K_END);
    settle(v, &f, 80, 24);
    has(v, "at 20000");
    assert_true(f.lists <= 3);
    for (int i = 0; i < 500; i++) {
        press(v, i % 2 ? K_PAGEUP : K_UP);
        if (i % 50 == 0) settle(v, &f, 80, 24);
    }
    press(v, K_HOME);
    settle(v, &f, 80, 24);
    has(v, "at 1");
    has(v, "a red apple");
    assert_true(f.lists < 30);
    view_free(v);
}

/* The answer to what is not asked any more is not shown; the old rows stay until the new ones are there. */
static void test_search_newest_wins(void **state)
{
    (void)state;
    struct fake f = { .total = 100 };
    struct view *v = opened(&f);
    struct wish first, second;

    type(v, "/");
    type(v, "a");
    screen(v, 80, 24);
    first = view_needs(v);
    assert_string_equal(first.history.query.search, "a");
    type(v, "b");
    has(v, "Search: ab");
    has(v, "Gallery: 100 pictures");
    second = view_needs(v);
    assert_int_equal(second.history.what, HISTORY_LIST);
    assert_true(second.history.query.serial != first.history.query.serial);
    first.history.query.search = "";
    answer(v, &f, &first);
    has(v, "Gallery: 100 pictures");
    answer(v, &f, &second);
    has(v, "Gallery: 20 pictures");
    settle(v, &f, 80, 24);
    press(v, K_DOWN);
    assert_int_equal(type(v, "d").kind, WISH_NONE); /* a letter, not the trash */
    has(v, "Search: abd");
    press(v, K_ENTER);
    settle(v, &f, 80, 24);
    assert_int_equal(type(v, "d").kind, WISH_HISTORY);
    press(v, K_ESC); /* all again */
    settle(v, &f, 80, 24);
    has(v, "Gallery: 100 pictures");
    press(v, K_ESC);
    has(v, "Prompt");
    view_free(v);
}

static void is_history(struct wish w, enum history_wish what, int64_t id)
{
    assert_int_equal(w.kind, WISH_HISTORY);
    assert_int_equal(w.history.what, what);
    assert_int_equal(w.history.id, id);
}

static void test_keys(void **state)
{
    (void)state;
    struct fake f = { .total = 50 };
    struct view *v = opened(&f);
    struct wish w;

    press(v, K_RIGHT);
    press(v, K_DOWN);
    press(v, K_UP); /* the second: picture 49, seed 1001, three stars */
    has(v, "at 2");
    w = type(v, " ");
    is_history(w, HISTORY_MARK, 49);
    assert_int_equal(w.history.number, 0);
    w = type(v, "5");
    is_history(w, HISTORY_MARK, 49);
    assert_int_equal(w.history.number, 5);
    has(v, "***** a small");
    is_history(press(v, K_ENTER), HISTORY_OPEN, 49);
    is_history(type(v, "c"), HISTORY_LOAD, 49);
    is_history(type(v, "i"), HISTORY_RECORD, 49);
    type(v, "p");
    has(v, "Its prompt is in the form");
    type(v, "s");
    type(v, "e");
    has(v, "Copy it to the folder: /home/me/Pictures/sluice");
    ctrl(v, 'u');
    type(v, "~/out");
    w = press(v, K_ENTER);
    is_history(w, HISTORY_EXPORT, 49);
    assert_string_equal(w.history.text, "/home/me/out");
    type(v, "S");
    w = press(v, K_ENTER);
    is_history(w, HISTORY_SCAN, 0);
    assert_string_equal(w.history.text, "/home/me/Pictures/sluice");
    is_history(type(v, "d"), HISTORY_TRASH, 49);
    has(v, "u brings it back");
    view_gallery_changed(v, 0);
    is_history(type(v, "u"), HISTORY_RESTORE, 49);
    assert_int_equal(type(v, "u").kind, WISH_NONE);
    type(v, "b");
    settle(v, &f, 80, 24);
    has(v, "Trash: 50 pictures");
    is_history(type(v, "u"), HISTORY_RESTORE, 50);
    assert_int_equal(type(v, "d").kind, WISH_NONE);
    has(v, "for good");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    type(v, "d");
    is_history(type(v, "y"), HISTORY_REMOVE, 50);
    press(v, K_ESC);
    settle(v, &f, 80, 24);
    has(v, "Gallery: 50");
    press(v, K_ESC);
    has(v, "a small octopus");
    has(v, "1001");
    view_free(v);
}

/* A new picture comes to the front: the chosen one stays chosen. */
static void test_new_pictures(void **state)
{
    (void)state;
    struct fake f = { .total = 50 };
    struct view *v = opened(&f);

    press(v, K_RIGHT);
    f.total = 51;
    view_gallery_changed(v, 1);
    settle(v, &f, 80, 24);
    has(v, "Gallery: 51 pictures, at 3");
    is_history(type(v, "i"), HISTORY_RECORD, 49);
    f.total = 1;
    view_gallery_changed(v, 0);
    settle(v, &f, 80, 24);
    has(v, "Gallery: 1 picture");
    is_history(type(v, "i"), HISTORY_RECORD, 1);
    view_free(v);
}

static void test_hostile(void **state)
{
    (void)state;
    char *lengthy = malloc(50001);
    struct fake f = { .total = 500, .prompt = "\033]0;owned\007\033[2J\xe2\x80\xae" "dlrow" };
    static const int sizes[][2] = { { 40, 10 }, { 41, 12 }, { 71, 20 }, { 80, 24 }, { 300, 100 } };
    uint32_t random = 7;

    memset(lengthy, 'x', 50000);
    lengthy[50000] = 0;
    for (int pass = 0; pass < 2; pass++, f.prompt = lengthy) {
        struct view *v = opened(&f);
        view_gallery_record(v, "no tab\n\t\na\t\033[2J\n\n");
        screen(v, 40, 10);
        press(v, K_END);
        assert_null(strchr(screen(v, 80, 24), '\033'));
        press(v, K_ESC);
        for (int i = 0; i < 60; i++) {
            static const enum key_kind some[] = { K_UP, K_DOWN, K_LEFT, K_RIGHT, K_END, K_HOME, K_PAGEDOWN, K_PAGEUP };
            int k = (int)(random_next(&random) % 5);
            settle(v, &f, sizes[k][0], sizes[k][1]);
            assert_null(strchr(screen(v, sizes[k][0], sizes[k][1]), '\033'));
            assert_null(strstr(screen(v, sizes[k][0], sizes[k][1]), "\xe2\x80\xae"));
            press(v, some[random_next(&random) % 8]);
            if (i % 9 == 0) type(v, "v");
            click(v, MOUSE_LEFT, (int)(random_next(&random) % 80), 2 + (int)(random_next(&random) % 20));
        }
        view_free(v);
    }
    free(lengthy);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens), cmocka_unit_test(test_twenty_thousand),
            cmocka_unit_test(test_search_newest_wins),
        cmocka_unit_test(test_keys),    cmocka_unit_test(test_new_pictures),    cmocka_unit_test(test_hostile),
    };

    setenv("LC_ALL", "C.UTF-8", 1);
    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
