/* test_screen_picture.c - the picture on the whole screen: what is seen of it,
 * the previews kept, two compared, keys and the mouse, any size. */
#include "tests/view_help.h"
#include "tui/scale.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct grid grid;
static bool random_form; /* its fields may hold anything: no job can be made of it */

static const struct grid *draw(struct view *v, int cols, int rows, bool pixels)
{
    view_resize(v, (struct view_screen){ cols, rows, 10, 20, 0, 0, pixels });
    assert_true(view_draw(v, &grid, NULL));
    return &grid;
}

static void open_picture(struct view *v)
{
    assert_int_equal(press(v, K_F6).kind, WISH_NONE);
}

/* A job runs: `previews` of 32x32 for a picture of 256x256. */
static void run(struct view *v, uint64_t id, uint64_t seed, int previews, bool done)
{
    struct event ev = about(EVENT_STARTED, id);

    if (!random_form) submit(v, id, seed);
    ev.seed = seed;
    news(v, ev);
    for (int i = 1; i <= previews; i++) {
        ev = about(EVENT_PREVIEW, id);
        ev.step = i;
        ev.image = fake_image(32, 32, seed + (uint64_t)i);
        news(v, ev);
    }
    if (!done) return;
    ev = about(EVENT_DONE, id);
    ev.image = fake_image(256, 256, seed);
    snprintf(ev.text, sizeof ev.text, "/home/me/Pictures/sluice/%d.png", (int)id);
    news(v, ev);
}

static void test_opens_and_closes(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);

    open_picture(v);
    has(v, "There is no picture yet");
    type(v, "a lighthouse");
    run(v, 1, 42, 5, true);
    open_picture(v);
    has(v, "a lighthouse");
    has(v, "256x256  seed 42");
    has(v, "~/Pictures/sluice/1.png");
    has(v, "finished");
    golden(v, "picture", 80, 24);
    golden(v, "picture", 120, 40);
    golden(v, "picture", 200, 60);
    press(v, K_ESC);
    has(v, "Memory");
    open_picture(v);
    open_picture(v); /* the key that opened it closes it */
    has(v, "Memory");
    view_free(v);
}

/* The terminal gets the image itself where all of it is shown, and what is composed
 * otherwise, in its own pixels. */
static void test_fit_and_zoom(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    const struct grid *g;
    struct image *im = fake_image(1000, 500, 7);
    uint64_t serial;

    view_show_image(v, image_copy(im, NULL), "title", "");
    g = draw(v, 80, 24, true); /* 800x480 px, 20 rows for it */
    assert_int_equal(g->picture[0].image->width, 1000);
    assert_true(g->picture[0].fine);
    assert_int_equal(g->picture[0].at.w, 80);
    assert_int_equal(g->picture[0].at.h, 20);
    has(v, "fit 8 %"); /* in half-blocks */
    type(v, "1");
    g = draw(v, 80, 24, true);
    assert_int_equal(g->picture[0].image->width, 800);
    assert_int_equal(g->picture[0].image->height, 400);
    /* the middle, pixel for pixel */
    assert_memory_equal(g->picture[0].image->rgb, im->rgb + (50 * 1000 + 100) * 3, 800 * 3);
    serial = g->picture[0].serial;
    g = draw(v, 80, 24, true);
    assert_true(g->picture[0].serial == serial); /* nothing has changed: nothing is sent */
    for (int i = 0; i < 9; i++) press(v, K_RIGHT), press(v, K_DOWN);
    g = draw(v, 80, 24, true);
    assert_true(g->picture[0].serial != serial);
    assert_memory_equal(g->picture[0].image->rgb, im->rgb + (100 * 1000 + 200) * 3, 800 * 3);
    for (int i = 0; i < 9; i++) press(v, K_LEFT), press(v, K_UP);
    g = draw(v, 80, 24, true);
    assert_memory_equal(g->picture[0].image->rgb, im->rgb, 800 * 3);
    /* steps of the zoom */
    type(v, "+");
    has(v, " 150 %");
    type(v, "--");
    has(v, " 75 %");
    draw(v, 80, 24, true);
    type(v, "0");
    has(v, "fit ");
    draw(v, 80, 24, true);
    type(v, "+");
    g = draw(v, 80, 24, true);
    assert_int_equal(g->picture[0].image->width, 800);
    type(v, "++++++++++++++++++++");
    has(v, "1600 %");
    draw(v, 80, 24, true);
    type(v, "--------------------");
    has(v, " 6 %");
    type(v, "+");
    has(v, "fit 8 %");
    type(v, "+");
    has(v, " 12 %");
    /* without pixels one of them is half a cell */
    type(v, "1");
    g = draw(v, 80, 24, false);
    assert_int_equal(g->picture[0].image->width, 80);
    assert_int_equal(g->picture[0].image->height, 40);
    image_free(im);
    /* smaller than the screen: no more cells than it has */
    view_show_image(v, fake_image(64, 64, 1), "small", "/x/y.png");
    draw(v, 80, 24, true);
    type(v, "1");
    g = draw(v, 80, 24, true);
    assert_int_equal(g->picture[0].at.w, 7);
    assert_int_equal(g->picture[0].at.h, 4);
    assert_int_equal(ctrl(v, 's').kind, WISH_NONE);
    has(v, "a file already");
    view_free(v);
}

static void test_steps(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    const struct grid *g;

    run(v, 1, 42, 3, false);
    open_picture(v);
    has(v, "step 3/20");
    has(v, "256x256"); /* of the picture, not of its preview */
    press(v, K_LEFT);
    has(v, "step 2/20");
    g = draw(v, 80, 24, true);
    assert_false(g->picture[0].fine);
    /* looking back is not disturbed by what comes */
    struct event ev = about(EVENT_PREVIEW, 1);
    ev.step = 4;
    ev.image = fake_image(32, 32, 9);
    news(v, ev);
    has(v, "step 2/20");
    press(v, K_HOME);
    has(v, "step 1/20");
    press(v, K_LEFT);
    has(v, "step 1/20");
    press(v, K_END);
    has(v, "step 4/20");
    ev = about(EVENT_DONE, 1);
    ev.image = fake_image(256, 256, 42);
    news(v, ev);
    has(v, "finished");
    type(v, ",");
    has(v, "step 4/20");
    type(v, ".");
    has(v, "finished");
    golden(v, "picture-steps", 80, 24);
    draw(v, 80, 24, false);
    click(v, MOUSE_LEFT, 19, 20); /* the line's beginning */
    has(v, "step 1/20");
    /* the next job's take the place of this one's */
    run(v, 2, 43, 1, false);
    has(v, "step 1/20");
    has_not(v, "finished");
    view_free(v);
}

/* However many there are: the first stays, and memory is bounded. */
static void test_kept_are_thinned(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    int places = 1;

    run(v, 1, 42, 1000, true);
    open_picture(v);
    press(v, K_HOME);
    has(v, "step 1/20");
    for (; !strstr(screen(v, 80, 24), "finished"); places++) press(v, K_RIGHT);
    assert_in_range(places, 33, 65);
    view_free(v);
}

/* Columns of the picture that are white from top to bottom: the wipe's line. */
static int line_of(const struct image *im)
{
    for (int x = 0; x < im->width; x++) {
        bool white = true;
        for (int y = 0; y < im->height && white; y++)
            white = !memcmp(im->rgb + (y * im->width + x) * 3, "\xff\xff\xff", 3);
        if (white) return x;
    }
    return -1;
}

static void test_before_and_after(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    const struct grid *g;
    unsigned char left[3];
    int at;

    type(v, "a lighthouse");
    run(v, 1, 41, 2, true);
    open_picture(v);
    type(v, "c");
    has(v, "Nothing to compare it with");
    press(v, K_ESC);
    run(v, 2, 42, 2, true);
    open_picture(v);
    type(v, "c");
    has(v, "before  seed 41  a lighthouse");
    has(v, "after  seed 42  a lighthouse");
    golden(v, "picture-compare", 80, 24);
    golden(v, "picture-compare", 120, 40);
    golden(v, "picture-compare", 200, 60);
    g = draw(v, 80, 24, true);
    assert_int_equal(g->picture[0].image->width, 800);
    memcpy(left, g->picture[0].image->rgb + (g->picture[0].image->height / 2 * 800 + 200) * 3, 3);
    type(v, " ");
    g = draw(v, 80, 24, true);
    /* the sides have changed */
    assert_memory_equal(left,
                        g->picture[0].image->rgb + (g->picture[0].image->height / 2 * 800 + 800 - 396 + 200) * 3, 3);
    has(v, "after  seed 42");
    type(v, " w");
    has(v, "before  seed 41");
    g = draw(v, 80, 24, true);
    at = line_of(g->picture[0].image);
    assert_in_range(at, g->picture[0].image->width / 2 - 2, g->picture[0].image->width / 2 + 2);
    press(v, K_LEFT);
    g = draw(v, 80, 24, true);
    assert_true(line_of(g->picture[0].image) < at);
    click(v, MOUSE_LEFT, g->picture[0].at.x + g->picture[0].at.w - 1, g->picture[0].at.y);
    g = draw(v, 80, 24, true);
    assert_true(line_of(g->picture[0].image) > g->picture[0].image->width * 9 / 10);
    type(v, "w"); /* one again */
    g = draw(v, 80, 24, true);
    assert_int_equal(g->picture[0].image->width, 256);
    /* flipped in place */
    has(v, "seed 42");
    type(v, " ");
    has(v, "seed 41  before");
    type(v, " ");
    /* a mark is what the next are compared with */
    type(v, "m");
    has(v, "Marked");
    press(v, K_ESC);
    view_show_image(v, fake_image(512, 256, 3), "another", "/x/another.png");
    type(v, "c");
    has(v, "before  seed 42");
    has(v, "after  another");
    type(v, "1");
    draw(v, 80, 24, true);
    press(v, K_ESC);
    view_free(v);
}

static void test_hostile_and_tiny(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    char title[6000];

    memset(title, 'w', sizeof title);
    title[sizeof title - 1] = 0;
    memcpy(title, "\033[2J\033]0;x\007\xe2\x80\xae", 14);
    view_show_image(v, fake_image(1, 4000, 3), title, title);
    assert_null(strchr(screen(v, 80, 24), '\033'));
    for (int cols = 1; cols < 60; cols += 3)
        for (int rows = 1; rows < 20; rows++) {
            draw(v, cols, rows, rows & 1);
            type(v, rows & 2 ? "+" : "1");
            draw(v, cols, rows, rows & 1);
            type(v, "0");
        }
    view_free(v);
    v = make_view(NULL, NULL);
    run(v, 1, 41, 1, true);
    run(v, 2, 42, 9, true);
    open_picture(v);
    for (const char *k = "c ww+-1 0"; *k; k++) {
        type(v, (char[]){ *k, 0 });
        for (int cols = 38; cols < 60; cols += 3)
            for (int rows = 9; rows < 15; rows++) draw(v, cols, rows, rows & 1);
    }
    view_free(v);
}

/* Any keys with any news at any size: the picture lies on the screen, above the last rows. */
static void test_random_use(void **state)
{
    (void)state;
    uint32_t seed = 2463534242u;
    struct view *v = make_view(NULL, NULL);
    const char *env = getenv("SLUICE_SEED");

    if (env) seed = (uint32_t)strtoul(env, NULL, 0);
    random_form = true;
    print_message("SLUICE_SEED=%u\n", seed);
    for (int i = 0; i < 1500; i++) {
        uint32_t r = random_next(&seed);
        static const char letters[] = "1 0cwm+-,.q";
        static const enum key_kind keys[] = { K_LEFT, K_RIGHT,  K_UP,       K_DOWN, K_HOME,
                                              K_END,  K_PAGEUP, K_PAGEDOWN, K_F6 };
        const struct grid *g;
        if (r % 5 == 0) run(v, i + 1, r % 1000, (int)(r >> 8) % 4, r & 64);
        else if (r % 5 == 1) press(v, keys[(r >> 8) % 9]);
        else if (r % 5 == 2) click(v, (r >> 8) % 5, (int)(r >> 11) % 100, (int)(r >> 3) % 40);
        else type(v, (char[]){ letters[(r >> 8) % (sizeof letters - 1)], 0 });
        if (r % 11 == 0) view_show_image(v, fake_image(1 + (int)(r >> 5) % 200, 1 + (int)(r >> 9) % 200, r), "t", "p");
        g = draw(v, 40 + (int)(r >> 13) % 60, 10 + (int)(r >> 17) % 30, r & 1024);
        if (!g->pictures) continue;
        assert_true(g->picture[0].at.x >= 0 && g->picture[0].at.x + g->picture[0].at.w <= g->cols);
        assert_true(g->picture[0].at.y >= 1 && g->picture[0].at.y + g->picture[0].at.h <= g->rows - 2);
        for (int y = 0; y < g->picture[0].at.h; y++)
            for (int x = 0; x < g->picture[0].at.w; x++)
                assert_true(g->cells[(g->picture[0].at.y + y) * g->cols + g->picture[0].at.x + x].attr & CELL_PICTURE);
    }
    view_free(v);
}

static void test_part_of_a_picture(void **state)
{
    (void)state;
    struct image *im = fake_image(50, 40, 5), *part;

    part = scale_part(im, 10, 5, 20, 30, 20, 30, NULL);
    for (int y = 0; y < 30; y++) assert_memory_equal(part->rgb + y * 20 * 3, im->rgb + ((y + 5) * 50 + 10) * 3, 20 * 3);
    image_free(part);
    assert_null(scale_part(im, 0, 0, 0, 1, 5, 5, NULL));
    for (double x = 0; x < 49; x += 7.3) { /* any part at any size */
        part = scale_part(im, x, x / 2, 50 - x, 40 - x / 2, 1 + (int)x * 3, 7, NULL);
        assert_non_null(part);
        image_free(part);
    }
    image_free(im);
}

int main(void)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_opens_and_closes), cmocka_unit_test(test_fit_and_zoom),
        cmocka_unit_test(test_steps),            cmocka_unit_test(test_kept_are_thinned),
        cmocka_unit_test(test_before_and_after), cmocka_unit_test(test_hostile_and_tiny),
        cmocka_unit_test(test_random_use),       cmocka_unit_test(test_part_of_a_picture),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    grid_free(&grid);
    return failed;
}
