/* test_view.c - the studio without a terminal: keys and events in, the screen
 * as text out. Also what stands below it: layout, line editor, key parser,
 * scaling, picture bytes. Random cases print their seed. */
#include "engine/setting.h"
#include "tests/alloc_fail.h"
#include "tests/view_help.h"
#include "tui/edit.h"
#include "tui/input.h"
#include "tui/graphics.h"
#include "tui/layout.h"
#include "tui/pace.h"
#include "tui/scale.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include <cmocka.h>

/* --- helpers ----------------------------------------------------------------- */

static struct view *make(void)
{
    return make_view(NULL, NULL);
}

static struct wish paste(struct view *v, const char *text, size_t n)
{
    return view_key(v, &(struct key){ .kind = K_PASTE, .text = text, .bytes = n });
}

/* The prompt as a job would get it. */
static const char *prompt_of(struct view *v)
{
    static struct job j;
    bool random_seed;
    struct err e = { 0 };

    job_free(&j);
    if (!view_request(v, &j, &random_seed, &e)) fail_msg("%s", e.text);
    return j.prompt;
}

static void set_field(struct view *v, int tabs, const char *value)
{
    for (int i = 0; i < tabs; i++) press(v, K_TAB);
    ctrl(v, 'u');
    ctrl(v, 'k');
    type(v, value);
}

/* --- screens ------------------------------------------------------------------ */

static void test_first_screen(void **state)
{
    (void)state;
    struct view *v = make();

    golden(v, "first", 80, 24);
    golden(v, "first", 120, 40);
    golden(v, "first", 200, 60);
    type(v, "a"); /* with no example to be had, the last of the screens has room */
    assert_non_null(strstr(screen(v, 120, 40), "F7 Doctor"));
    view_free(v);
}

/* A preset that was changed, a job that runs, two that wait, pictures of before. */
static void test_busy_screen(void **state)
{
    (void)state;
    struct view *v = make_view("portrait", "8gb");
    struct event ev;

    type(v, "a red apple");
    for (uint64_t id = 1; id <= 3; id++) {
        submit(v, id, id);
        news(v, about(EVENT_STARTED, id));
        ev = about(EVENT_DONE, id);
        ev.image = fake_image(256, id == 2 ? 128 : 256, id);
        ev.seconds = 3.2;
        strcpy(ev.text, "/home/me/Pictures/sluice/x.png");
        news(v, ev);
    }
    submit(v, 4, 4);
    news(v, about(EVENT_STARTED, 4));
    type(v, " and a pear, on the table of a kitchen in the afternoon");
    submit(v, 5, 5);
    submit(v, 6, 6);
    ev = about(EVENT_MEMORY, 4);
    ev.memory = (struct event_memory){ .used_bytes = 6900000000, .arena_bytes = 8000000000, .rss = 61000000,
                                       .rss_anonymous = 21000000, .rss_file = 40000000 };
    for (int s = STAGE_CLIP; s <= STAGE_VAE; s++) {
        ev.memory.activations[s] = (size_t)s * 300000000;
        ev.memory.weights[s] = (size_t)(s * s) * 700000000;
    }
    news(v, ev);
    ev = about(EVENT_PROGRESS, 4);
    ev.stage = STAGE_FLUX;
    ev.step = 1;
    ev.eta_seconds = 40;
    news(v, ev);
    ev.step = 5;
    ev.seconds = 10;
    ev.eta_seconds = 30;
    news(v, ev);
    press(v, K_TAB);
    press(v, K_TAB);
    press(v, K_RIGHT);
    golden(v, "busy", 80, 24);
    golden(v, "busy", 120, 40);
    golden(v, "busy", 200, 60);
    /* the negative prompt in use */
    alt(v, 'n');
    type(v, "blurry");
    golden(v, "negative", 80, 24);
    golden(v, "negative", 120, 40);
    golden(v, "negative", 40, 10);
    view_free(v);
}

static void test_smallest_screen(void **state)
{
    (void)state;
    struct view *v = make();

    type(v, "a red apple");
    assert_string_equal(screen(v, 40, 10),
                        " sluice │ fake-model     cpu, 2 threads\n"
                        "» a red apple\n"
                        " Size 256x256    Steps 20   Guid. 3.5\n"
                        " Seed random               [ Generate ]\n"
                        "\n"
                        "        The picture appears here\n"
                        "\n"
                        "Ready\n"
                        "\n"
                        "Enter Generate  ^G Help  ^Q Quit\n");
    assert_string_equal(screen(v, 39, 10), "\n\n\nterminal too small\n39x10, needs 40x10\n\n\n\n\n\n");
    assert_non_null(strstr(screen(v, 10, 5), "too"));
    screen(v, 1, 1);
    view_free(v);
}

static bool apart(struct rect a, struct rect b)
{
    return a.h <= 0 || b.h <= 0 || a.w <= 0 || b.w <= 0 || a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y ||
           b.y + b.h <= a.y;
}

static void check_layout(int cols, int rows, const struct layout_want *want)
{
    struct layout l;

    layout_make(&l, cols, rows, want);
    struct rect r[] = { l.title,        l.prompt_box, l.negative_box, l.picture_box, l.recent_box, l.settings_box,
                        l.memory_box,   l.queue,      l.progress,     l.message,     l.hints };
    const int n = sizeof r / sizeof *r;
    assert_int_equal(l.shape == LAYOUT_TOO_SMALL, cols < LAYOUT_MIN_COLS || rows < LAYOUT_MIN_ROWS);
    for (int i = 0; i < n; i++) {
        if (r[i].x < 0 || r[i].y < 0 || r[i].w < 0 || r[i].h < 0 || r[i].x + r[i].w > cols || r[i].y + r[i].h > rows)
            fail_msg("%dx%d: rectangle %d is off the screen", cols, rows, i);
        for (int j = i + 1; j < n; j++)
            if (!apart(r[i], r[j])) fail_msg("%dx%d: rectangles %d and %d meet", cols, rows, i, j);
    }
    if (l.shape != LAYOUT_TOO_SMALL && (l.prompt.h < 1 || l.settings.h < 1 || l.hints.h != 1 || l.picture.h < 1))
        fail_msg("%dx%d: something is missing", cols, rows);
    if (l.shape == LAYOUT_PANELS && l.settings.h < (l.settings_pairs ? 5 : 11))
        fail_msg("%dx%d: the form is cut", cols, rows);
}

static void test_layout_holds(void **state)
{
    (void)state;
    uint32_t seed = 2654435769u;

    for (int cols = 1; cols <= 240; cols++)
        for (int rows = 1; rows <= 90; rows++)
            for (int want = 1; want <= 40; want += 13)
                check_layout(cols, rows, &(struct layout_want){ want, want / 14, want & 1 });
    for (int i = 0; i < 1000; i++) {
        struct layout_want want = { .prompt_rows = (int)(random_next(&seed) % 2000),
                                    .negative_rows = (int)(random_next(&seed) % 50),
                                    .recent = random_next(&seed) & 1 };
        check_layout(1 + (int)(random_next(&seed) % 600), 1 + (int)(random_next(&seed) % 250), &want);
    }
}

static void test_picture_keeps_its_shape(void **state)
{
    (void)state;
    struct rect room = { 3, 4, 60, 20 };
    struct rect r = layout_picture(room, 512, 512, 10, 20);

    assert_int_equal(r.h, 20);
    assert_int_equal(r.w, 40);
    assert_int_equal(r.x, 13);
    r = layout_picture(room, 1536, 512, 10, 20);
    assert_int_equal(r.w, 60);
    assert_int_equal(r.h, 10);
    r = layout_picture((struct rect){ 0, 0, 0, 5 }, 64, 64, 8, 16);
    assert_int_equal(r.w, 0);
}

/* --- typing --------------------------------------------------------------------- */

static void test_typing_and_editing(void **state)
{
    (void)state;
    struct view *v = make();

    type(v, "a cat on  a mat");
    ctrl(v, 'w');
    assert_string_equal(prompt_of(v), "a cat on  a ");
    ctrl(v, 'y');
    ctrl(v, 'a');
    type(v, "x");
    press(v, K_DELETE);
    assert_string_equal(prompt_of(v), "x cat on  a mat");
    ctrl(v, 'e');
    view_key(v, &(struct key){ .kind = K_LEFT, .mods = K_CTRL });
    ctrl(v, 'k');
    assert_string_equal(prompt_of(v), "x cat on  a ");
    ctrl(v, 'u');
    assert_string_equal(prompt_of(v), "");
    ctrl(v, '_');
    assert_string_equal(prompt_of(v), "x cat on  a ");
    for (int i = 0; i < 40; i++) ctrl(v, '_');
    assert_string_equal(prompt_of(v), "");
    view_free(v);
}

static void test_graphemes(void **state)
{
    (void)state;
    struct edit e;
    /* e + acute, a flag, a family: three clusters */
    static const char text[] = "e\xcc\x81" "\xf0\x9f\x87\xab\xf0\x9f\x87\xb7"
                               "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7";

    assert_true(edit_init(&e, 1000));
    edit_insert(&e, text, sizeof text - 1);
    assert_int_equal(e.cursor, sizeof text - 1);
    edit_key(&e, &(struct key){ .kind = K_LEFT });
    assert_int_equal(e.cursor, 11);
    edit_key(&e, &(struct key){ .kind = K_BACKSPACE });
    assert_int_equal(e.cursor, 3);
    edit_key(&e, &(struct key){ .kind = K_BACKSPACE });
    assert_int_equal(e.cursor, 0);
    assert_int_equal(e.bytes, 11);
    edit_key(&e, &(struct key){ .kind = K_DELETE });
    assert_int_equal(e.bytes, 0);
    /* a mark typed after a letter joins it, and the cursor is behind both */
    edit_insert(&e, "ab", 2);
    edit_key(&e, &(struct key){ .kind = K_LEFT });
    edit_key(&e, &(struct key){ .kind = K_CHAR, .ch = 0x301 });
    assert_int_equal(e.cursor, 3);
    edit_free(&e);
}

static void test_wide_and_hostile_text(void **state)
{
    (void)state;
    struct view *v = make();
    static const char text[] = "\xe7\x8c\xab\xff\x1b[2J\xe2\x80\xae" "x\tlast\xc0\xaf";

    paste(v, text, sizeof text - 1);
    assert_string_equal(prompt_of(v), "猫\xef\xbf\xbd[2Jx last\xef\xbf\xbd\xef\xbf\xbd");
    has(v, "│ 猫\xef\xbf\xbd[2Jx last\xef\xbf\xbd\xef\xbf\xbd");
    view_free(v);
}

/* Names come from files of strangers: nothing in them reaches the terminal that is no plain character. */
static void test_hostile_names(void **state)
{
    (void)state;
    struct view *v = make_view("a\033]0;x\007\xe2\x80\xae" "b\xe2\x80\x8b" "c\xe2\x81\xa6", "p\tq\xc2\x9b"
                               "2J\xef\xbb\xbf");
    struct grid g = { 0 };

    has(v, "│ a?]0;x?\xef\xbf\xbd" "b\xef\xbf\xbd" "c\xef\xbf\xbd │ p?q?2J\xef\xbf\xbd ");
    assert_true(view_draw(v, &g, NULL));
    for (int i = 0; i < g.cols * g.rows; i++)
        for (const char *c = g.cells[i].text; *c; c++) assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
    grid_free(&g);
    view_free(v);
}

static void test_paste_never_submits(void **state)
{
    (void)state;
    struct view *v = make();
    struct wish w = paste(v, "one\r\ntwo\nthree\rfour", 19);

    assert_int_equal(w.kind, WISH_NONE);
    assert_string_equal(prompt_of(v), "one\ntwo\nthree\nfour");
    assert_int_equal(ctrl(v, 'j').kind, WISH_NONE);
    assert_int_equal(view_key(v, &(struct key){ .kind = K_ENTER, .mods = K_ALT }).kind, WISH_NONE);
    type(v, "five");
    assert_string_equal(prompt_of(v), "one\ntwo\nthree\nfour\n\nfive");
    has(v, "row 6 of 6");
    /* a field has one line */
    press(v, K_TAB);
    ctrl(v, 'u');
    paste(v, "64\nx64", 6);
    ctrl(v, 'j');
    has(v, "64 x64");
    view_free(v);
}

static int count_colour(const struct grid *g, int y, enum colour c)
{
    int n = 0;

    for (int x = 2; x < g->cols - 2; x++)
        n += g->cells[y * g->cols + x].text[0] && g->cells[y * g->cols + x].colour == c;
    return n;
}

/* How many tokens, and what of the text the encoders do not see. */
static void test_tokens(void **state)
{
    (void)state;
    struct view *v = make();
    struct grid g = { 0 };

    has_not(v, "T5 0");
    type(v, "a red apple\xe7\x8c\xab on a table");
    ctrl(v, 'u');
    paste(v, "a red apple \xe7\x8c\xab on a table", 26);
    view_tokens(v, 0,
                &(struct view_tokens){ .clip = 9, .clip_most = 77, .t5 = 10, .t5_most = 512, .clip_fits = 26,
                                       .t5_fits = 26 });
    has(v, " CLIP 9/77  T5 10/512 ─┘");
    assert_non_null(strstr(screen(v, 40, 10), "CLIP 9/77  T5 10/512"));
    view_tokens(v, 0,
                &(struct view_tokens){ .clip = 90, .clip_most = 77, .t5 = 520, .t5_most = 512, .clip_fits = 5,
                                       .t5_fits = 11 });
    has(v, " CLIP 90/77  T5 520/512 ─┘");
    has(v, "│ a red apple 猫 on a table");
    assert_true(view_draw(v, &g, NULL));
    assert_int_equal(count_colour(&g, 2, COLOUR_TEXT), 5);
    assert_int_equal(count_colour(&g, 2, COLOUR_DIM), 6);
    assert_int_equal(count_colour(&g, 2, COLOUR_WARN), 13);
    /* an answer about another text: no character is cut in two */
    view_tokens(v, 0,
                &(struct view_tokens){ .clip = 90, .clip_most = 77, .t5 = 520, .t5_most = 512, .clip_fits = 13,
                                       .t5_fits = 14 });
    has(v, "│ a red apple 猫 on a table");
    alt(v, 'n');
    type(v, "bad");
    view_tokens(v, 1,
                &(struct view_tokens){ .clip = 3, .clip_most = 77, .t5 = 4, .t5_most = 512, .clip_fits = 3,
                                       .t5_fits = 3 });
    has(v, " CLIP 3/77  T5 4/512 ─┘");
    has(v, " CLIP 90/77  T5 520/512 ─┤");
    grid_free(&g);
    view_free(v);
}

/* Walked through and searched, as in a shell; what was being written is not lost. */
static void test_prompts_used_before(void **state)
{
    (void)state;
    static const char *const old[] = { "a red apple", "the sea\nin winter", "an apple tree", "", "a red apple" };
    struct view *v = make();

    ctrl(v, 'r');
    has(v, "No prompt has been used yet");
    view_prompts(v, old, 5);
    assert_non_null(strstr(screen(v, 160, 40), "^R Used before"));
    type(v, "draft");
    has_not(v, "Used before");
    press(v, K_UP);
    assert_string_equal(prompt_of(v), "a red apple");
    press(v, K_UP);
    assert_string_equal(prompt_of(v), "the sea\nin winter");
    press(v, K_UP); /* a row of its own */
    assert_string_equal(prompt_of(v), "the sea\nin winter");
    alt(v, 'p');
    alt(v, 'p');
    assert_string_equal(prompt_of(v), "an apple tree"); /* and no further */
    press(v, K_LEFT);
    ctrl(v, 'n');
    press(v, K_DOWN);
    press(v, K_DOWN);
    assert_string_equal(prompt_of(v), "draft");
    ctrl(v, '_');
    assert_string_equal(prompt_of(v), "a red apple");
    /* what is changed is a draft of its own, and what is generated the newest */
    type(v, "!");
    ctrl(v, 'p');
    ctrl(v, 'n');
    assert_string_equal(prompt_of(v), "a red apple!");
    assert_int_equal(press(v, K_ENTER).kind, WISH_GENERATE);
    ctrl(v, 'u');
    ctrl(v, 'p');
    assert_string_equal(prompt_of(v), "a red apple!");
    /* the search */
    ctrl(v, 'r');
    has(v, "Prompts used before");
    has(v, "the sea in winter");
    type(v, "APPLE");
    has(v, "» a red apple!");
    has_not(v, "the sea");
    ctrl(v, 'r');
    ctrl(v, 'r');
    ctrl(v, 'r');
    has(v, "» an apple tree");
    ctrl(v, 's');
    has(v, "» a red apple ");
    type(v, "x");
    has(v, "no prompt has that");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    assert_string_equal(prompt_of(v), "a red apple!");
    ctrl(v, 'r');
    type(v, "wint");
    press(v, K_ESC);
    assert_string_equal(prompt_of(v), "a red apple!");
    ctrl(v, 'r');
    type(v, "SEA in w");
    golden(v, "search", 80, 24);
    golden(v, "search", 120, 40);
    golden(v, "search", 200, 60);
    golden(v, "search", 40, 10);
    press(v, K_ENTER);
    assert_string_equal(prompt_of(v), "the sea\nin winter");
    has_not(v, "Prompts used before");
    view_free(v);
}

static void test_long_prompts(void **state)
{
    (void)state;
    struct view *v = make();
    enum { N = 100 * 1024 };
    char *text = malloc(4 * N);

    for (int i = 0; i < 4 * N; i++) text[i] = i % 7 == 6 ? ' ' : (char)('a' + i % 7);
    paste(v, text, N);
    assert_int_equal(strlen(prompt_of(v)), N);
    has(v, "row 1463 of 1463");
    press(v, K_HOME);
    has(v, "row 1 of 1463");
    press(v, K_DOWN);
    has(v, "row 2 of 1463");
    press(v, K_END);
    paste(v, text, 4 * N);
    assert_int_equal(strlen(prompt_of(v)), VIEW_PROMPT_MAX);
    has(v, "The prompt is full");
    free(text);
    view_free(v);
}

static void test_wrapping_property(void **state)
{
    (void)state;
    static const char *const bits[] = { "a", "word ", " ", "猫", "e\xcc\x81", "\xf0\x9f\x98\x80",
                                        "longlonglonglong", "\n" };
    uint32_t seed = 2463534242u;

    for (int round = 0; round < 300; round++) {
        struct edit e;
        struct edit_row r = { 0 };
        size_t covered = 0;
        uint32_t first = seed;
        int width = 1 + (int)(random_next(&seed) % 30), rows = 0, at = -1, col = -1;

        assert_true(edit_init(&e, 100000));
        e.lines = true;
        for (int i = (int)(random_next(&seed) % 60); i > 0; i--) {
            const char *b = bits[random_next(&seed) % 8];
            edit_insert(&e, b, strlen(b));
        }
        for (int i = (int)(random_next(&seed) % 20); i > 0; i--) edit_key(&e, &(struct key){ .kind = K_LEFT });
        while (!r.last) {
            edit_row(&e, covered, width, &r);
            rows++;
            if (r.from != covered || (r.to <= r.from && !r.last) || r.end > r.to || (r.cols > width && width > 1))
                fail_msg("seed %u: row %d is [%zu, %zu), %d columns of %d", first, rows, r.from, r.to, r.cols, width);
            covered = r.to;
        }
        assert_int_equal(covered, e.bytes);
        assert_int_equal(edit_rows(&e, width, &at, &col), rows);
        if (at < 0 || at >= rows || col < 0 || col > width)
            fail_msg("seed %u: the cursor is at row %d, column %d", first, at, col);
        edit_free(&e);
    }
}

/* --- the form ---------------------------------------------------------------------- */

static void test_bad_fields(void **state)
{
    (void)state;
    static const struct { int tabs; const char *value, *beside, *message; } cases[] = {
        { 1, "0x0", "16x16 to 8192x8192", "give 1 to 8192" },    { 1, "big", "16x16 to 8192x8192", "not WIDTHxHEIGHT" },
        { 1, "8192x8192", "16x16 to 8192x8192", "pixels" },      { 2, "-5", "1 to 1000", "give 1 to 1000" },
        { 2, "", "1 to 1000", "whole number" },           { 2, "99999999999999999999", "1 to 1000", "whole number" },
        { 3, "1e9", "0 to 100", "give 0 to 100" },        { 3, "nan", "0 to 100", "not a number" },
        { 4, "-1", "a number or random", "not 0 to 2^64-1 or random" },
        { 4, "18446744073709551616", "a number or random", "not 0 to 2^64-1 or random" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct view *v = make();
        type(v, "kept");
        set_field(v, cases[i].tabs, cases[i].value);
        assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
        if (!strstr(screen(v, 120, 40), cases[i].beside)) fail_msg("case %zu: the range is not beside it", i);
        has(v, cases[i].message);
        has(v, "kept");
        /* put right, it runs */
        ctrl(v, 'u');
        ctrl(v, 'k');
        type(v, cases[i].tabs == 1 ? "512x256" : "7");
        assert_int_equal(press(v, K_ENTER).kind, WISH_GENERATE);
        view_free(v);
    }
}

/* The form begins with the job it is given; what it does not show goes into each job as it is. */
static void test_start(void **state)
{
    (void)state;
    struct job start = { 0 }, j = { 0 };
    struct view *v = NULL;
    struct err e = { 0 };
    struct view_options o = { .device = "cpu", .out_dir = "/tmp", .pictures = true, .start = &start };
    bool random_seed = false;

    assert_true(job_init(&start, fake_model(), &e) && job_set_string(&start.prompt, "a bear", &e));
    start.width = 512;
    start.steps = 7;
    start.guidance = 1.5f;
    start.random_seed = true;
    start.threads = 3;
    start.vae = VAE_BANDS;
    start.precision = PRECISION_FP32;
    assert_true(view_new(&v, fake_model(), &o, &e));
    has(v, "a bear");
    has(v, "512x256");
    has(v, "fp32");
    assert_true(view_request(v, &j, &random_seed, NULL));
    assert_true(random_seed);
    assert_string_equal(j.prompt, "a bear");
    assert_int_equal(j.width, 512);
    assert_int_equal(j.height, 256);
    assert_int_equal(j.steps, 7);
    assert_true(j.guidance == 1.5f);
    assert_int_equal(j.threads, 3);
    assert_int_equal(j.vae, VAE_BANDS);
    assert_true(j.preview == PREVIEW_AUTO && !j.random_seed);
    job_free(&j);
    view_free(v);
    start.random_seed = false;
    start.preview = PREVIEW_NONE;
    start.seed = 12;
    assert_true(view_new(&v, fake_model(), &o, &e));
    assert_true(view_request(v, &j, &random_seed, NULL));
    assert_false(random_seed);
    assert_int_equal(j.seed, 12);
    assert_int_equal(j.preview, PREVIEW_NONE);
    job_free(&j);
    view_free(v);
    job_free(&start);
}

static void test_request(void **state)
{
    (void)state;
    struct view *v = make();
    struct job j = { 0 };
    bool random_seed = false;

    type(v, "a fox");
    assert_int_equal(press(v, K_ENTER).kind, WISH_GENERATE);
    assert_true(view_request(v, &j, &random_seed, NULL));
    assert_true(random_seed);
    assert_false(j.random_seed);
    job_free(&j);
    assert_true(view_request(v, &j, &j.random_seed, NULL)); /* as the studio asks */
    assert_true(j.random_seed);
    assert_string_equal(j.prompt, "a fox");
    assert_int_equal(j.width, 256);
    assert_int_equal(j.steps, 20);
    assert_int_equal(j.preview, PREVIEW_AUTO);
    job_free(&j);
    set_field(v, 1, "500X130");
    set_field(v, 1, "9");
    set_field(v, 1, "2.5");
    set_field(v, 1, "1234567890123");
    assert_true(view_request(v, &j, &random_seed, NULL));
    assert_false(random_seed);
    assert_int_equal(j.width, 496); /* rounded to 16, and said */
    assert_int_equal(j.height, 128);
    assert_int_equal(j.steps, 9);
    assert_true(j.guidance == 2.5f);
    assert_int_equal(j.seed, 1234567890123);
    has(v, "rounded to 496x128");
    job_free(&j);
    view_free(v);
}

static void test_focus_and_nudging(void **state)
{
    (void)state;
    struct view *v = make();

    press(v, K_DOWN);
    press(v, K_PAGEUP);
    has(v, "272x272");
    press(v, K_DOWN);
    press(v, K_PAGEDOWN);
    press(v, K_PAGEDOWN);
    has(v, "Steps *18");
    press(v, K_TAB);
    press(v, K_PAGEUP);
    has(v, "Guidance *4");
    press(v, K_TAB);
    press(v, K_PAGEUP); /* no last seed: stays */
    has(v, "Seed   random");
    type(v, "5");
    has(v, "Seed  *5 ");
    press(v, K_PAGEUP);
    has(v, "Seed  *6 ");
    for (int i = 0; i < 6; i++) press(v, K_TAB);
    assert_int_equal(type(v, " ").kind, WISH_GENERATE);
    press(v, K_TAB);
    type(v, "back in the prompt");
    has(v, "back in the prompt");
    for (int i = 0; i < 7; i++) press(v, K_BACKTAB);
    press(v, K_HOME);
    type(v, "1");
    has(v, "Seed  *16 ");
    /* come to by a key, a field is written anew; moved in, changed */
    press(v, K_BACKTAB);
    press(v, K_BACKTAB);
    type(v, "8");
    has(v, "Steps *8 ");
    type(v, "0");
    has(v, "Steps *80 ");
    press(v, K_TAB);
    press(v, K_BACKTAB);
    press(v, K_BACKSPACE);
    has(v, "Steps *8 ");
    view_free(v);
}

/* Choices are turned or chosen by a letter, never typed; numbers stop at their limits. */
static void test_kinds_of_fields(void **state)
{
    (void)state;
    struct view *v = make();
    struct job j = { 0 };

    for (int i = 0; i < 7; i++) press(v, K_TAB); /* sampler */
    has(v, "Sampler   euler");
    press(v, K_RIGHT);
    has(v, "Sampler  *heun");
    type(v, "x"); /* no choice begins with it */
    has(v, "Sampler  *heun");
    type(v, "l");
    has(v, "Sampler  *lcm");
    press(v, K_RIGHT); /* round */
    has(v, "Sampler   euler");
    press(v, K_LEFT);
    has(v, "Sampler  *lcm");
    press(v, K_TAB);
    type(v, "k");
    has(v, "Sched.*karras");
    press(v, K_TAB);
    press(v, K_PAGEUP);
    assert_true(view_job(v, &j, NULL));
    assert_int_equal(j.sampler, SAMPLER_LCM);
    assert_int_equal(j.schedule, SCHEDULE_KARRAS);
    assert_int_equal(j.precision, PRECISION_FP16);
    job_free(&j);
    press(v, K_TAB);
    for (int i = 0; i < 3; i++) press(v, K_TAB); /* prompt, size, steps */
    ctrl(v, 'u');
    type(v, "999");
    for (int i = 0; i < 5; i++) press(v, K_RIGHT);
    has(v, "Steps *1000");
    for (int i = 0; i < 3; i++) press(v, K_TAB); /* count */
    press(v, K_LEFT);
    has(v, "Count     1 ");
    ctrl(v, 'u');
    type(v, "4");
    press(v, K_TAB);
    press(v, K_RIGHT);
    has(v, "CFG   *1.5");
    has(v, "What to steer away from"); /* the negative prompt counts, and shows */
    press(v, K_LEFT);
    has_not(v, "What to steer away from");
    assert_true(view_job(v, &j, NULL));
    assert_int_equal(j.count, 4);
    job_free(&j);
    view_free(v);
}

/* What differs from what was loaded is marked, and can be put back. */
static void test_edited_and_reset(void **state)
{
    (void)state;
    struct view *v = make_view("portrait", "8gb");
    uint64_t changes = view_changes(v);
    struct job j = { 0 };
    bool preset, profile;

    has(v, "fake-model │ portrait │ 8gb");
    type(v, "a cat");
    assert_true(view_changes(v) > changes);
    has(v, "portrait* │ 8gb ");
    alt(v, 'r'); /* the prompt */
    has(v, "portrait │ 8gb");
    set_field(v, 2, "33");
    has(v, "Steps *33");
    has(v, "portrait* │ 8gb");
    has(v, "Alt-r Reset");
    alt(v, 'r');
    has(v, "Steps  20");
    has(v, "portrait │ 8gb");
    set_field(v, 1, "7.5");
    press(v, K_TAB);
    type(v, "99");
    press(v, K_TAB);
    ctrl(v, 'u');
    type(v, "nonsense");
    press(v, K_TAB);
    has(v, "Count    *nonsense");
    for (int i = 0; i < 4; i++) press(v, K_TAB); /* the button: all of them */
    alt(v, 'r');
    has(v, "portrait │ 8gb");
    has(v, "Guidance  3.5");
    has(v, "Seed   random");
    has(v, "Count     1");
    /* a setting of the profile's, changed elsewhere */
    assert_true(view_set(v, setting_find("vae"), "bands", NULL));
    view_edited(v, &preset, &profile);
    assert_true(profile && !preset);
    has(v, "portrait │ 8gb*");
    assert_true(view_set(v, setting_find("steps"), "7", NULL));
    has(v, "Steps *7");
    assert_false(view_set(v, setting_find("steps"), "0", NULL));
    assert_true(view_job(v, &j, NULL));
    assert_int_equal(j.vae, VAE_BANDS);
    assert_int_equal(j.steps, 7);
    /* loading it makes it the measure */
    assert_true(view_load(v, &j, "other", NULL, NULL));
    has(v, "fake-model │ other  ");
    has(v, "Steps  7");
    job_free(&j);
    view_free(v);
}

static void test_negative_prompt(void **state)
{
    (void)state;
    struct view *v = make();
    struct job j = { 0 };

    type(v, "a cat");
    has(v, "Negative: none, Alt-n");
    alt(v, 'n');
    has(v, "No effect while CFG is 1");
    type(v, "dogs");
    alt(v, 'n');
    type(v, "!");
    assert_true(view_job(v, &j, NULL));
    assert_string_equal(j.prompt, "a cat!");
    assert_string_equal(j.negative, "dogs");
    job_free(&j);
    press(v, K_TAB); /* in use, it is one of the fields */
    ctrl(v, 'u');
    has(v, "No effect while CFG is 1");
    press(v, K_TAB);
    has(v, "Negative: none, Alt-n");
    view_free(v);
}

/* Where a word is on the 80x24 screen. */
static void find_word(struct view *v, const char *what, int *x, int *y)
{
    char *s = screen(v, 80, 24), *at = strstr(s, what);

    if (!at) fail_msg("\"%s\" is not on the screen", what);
    *x = *y = 0;
    for (char *c = s; c < at; c++) {
        if (*c == '\n') (*y)++, *x = 0;
        else if (((unsigned char)*c & 0xc0) != 0x80) (*x)++; /* every character is one column wide here */
    }
}

static struct wish click_on(struct view *v, enum key_mouse what, const char *word)
{
    int x, y;

    find_word(v, word, &x, &y);
    return click(v, what, x, y);
}

static void test_mouse(void **state)
{
    (void)state;
    struct view *v = make();
    struct wish w;
    int x, y;

    type(v, "a red apple");
    click_on(v, MOUSE_LEFT, "Steps");
    has(v, "more: finer and slower");
    click_on(v, MOUSE_UP, "Guidance"); /* the wheel turns what is under it */
    has(v, "Guidance *4");
    click_on(v, MOUSE_DOWN, "Guidance");
    has(v, "Guidance  3.5");
    click_on(v, MOUSE_LEFT, "Sampler"); /* the focus; then the next choice */
    has(v, "Sampler   euler");
    click_on(v, MOUSE_LEFT, "Sampler");
    has(v, "Sampler  *heun");
    click_on(v, MOUSE_RIGHT, "Sampler");
    has(v, "Sampler  *heun");
    find_word(v, "red", &x, &y);
    click(v, MOUSE_LEFT, x, y);
    type(v, "very ");
    assert_string_equal(prompt_of(v), "a very red apple");
    click(v, MOUSE_LEFT, 70, y); /* behind the end */
    type(v, "s");
    assert_string_equal(prompt_of(v), "a very red apples");
    assert_int_equal(click_on(v, MOUSE_LEFT, "[ Generate ]").kind, WISH_GENERATE);
    click_on(v, MOUSE_LEFT, "Negative: none");
    has(v, "No effect while CFG is 1");
    click(v, MOUSE_LEFT, 79, 23);
    assert_int_equal(click_on(v, MOUSE_LEFT, "^Q Quit").kind, WISH_QUIT);
    click_on(v, MOUSE_LEFT, "^G Help");
    has(v, "type to search");
    click(v, MOUSE_DOWN, 40, 12);
    has_not(v, "│ The main screen");
    click_on(v, MOUSE_LEFT, "Esc Close");
    has_not(v, "type to search");
    w = press(v, K_F9);
    assert_int_equal(w.kind, WISH_MOUSE);
    assert_true(w.on);
    w = press(v, K_F9);
    assert_false(w.on);
    has(v, "the terminal selects text again");
    view_free(v);
}

static void test_vi_keys(void **state)
{
    (void)state;
    struct view *v = NULL;
    struct keys k;
    struct view_options o = { .device = "cpu", .pictures = true, .keys = &k };

    keys_init(&k, KEYS_VI);
    assert_true(view_new(&v, fake_model(), &o, NULL));
    type(v, "jkl");
    assert_string_equal(prompt_of(v), "jkl");
    press(v, K_ESC); /* to the button */
    type(v, "k"); /* up: precision */
    type(v, "l");
    has(v, "Precision*fp16");
    type(v, "jj"); /* the button, the prompt */
    type(v, "!");
    assert_string_equal(prompt_of(v), "jkl!");
    press(v, K_ESC);
    type(v, "i?");
    assert_string_equal(prompt_of(v), "jkl!?");
    press(v, K_ESC);
    type(v, "?");
    has(v, "i               to the prompt");
    view_free(v);
}

static void test_model_without_guidance(void **state)
{
    (void)state;
    struct model m = *fake_model();
    struct view *v;
    struct view_options o = { .device = "cpu", .pictures = true };

    m.flux.guidance = false;
    m.examples = 0;
    assert_true(view_new(&v, &m, &o, NULL));
    has(v, "Guidance  not used");
    press(v, K_TAB);
    press(v, K_TAB);
    press(v, K_TAB); /* passes it by: seed */
    type(v, "9");
    has(v, "Seed  *9");
    has_not(v, "^T");
    view_free(v);
}

/* --- a job's life --------------------------------------------------------------------- */

static void test_job_from_start_to_end(void **state)
{
    (void)state;
    struct view *v = make();
    struct event ev;

    type(v, "a red apple");
    submit(v, 7, 42);
    has(v, "Starting");
    assert_true(view_busy(v));
    news(v, about(EVENT_STARTED, 7));
    ev = about(EVENT_MEMORY, 7);
    ev.memory = (struct event_memory){ .used_bytes = 6900000000, .arena_bytes = 8000000000, .rss = 61000000 };
    ev.memory.activations[STAGE_T5] = 1500000000;
    ev.memory.weights[STAGE_T5] = 9500000000;
    news(v, ev);
    ev = about(EVENT_STAGE, 7);
    ev.stage = STAGE_T5;
    news(v, ev);
    has(v, "» T5");
    has(v, "1.5 GB");
    has(v, "» T5         ▒▒▒");
    has(v, "· VAE        ───────────────         - "); /* unknown is not 0 */
    has(v, "in use 6.9 of 8.0 GB");
    ev = about(EVENT_MEMORY, 7); /* under a budget: what the arena holds of the weights, too */
    ev.memory = (struct event_memory){ .used_bytes = 6900000000, .arena_bytes = 8000000000, .rss = 61000000 };
    ev.memory.activations[STAGE_T5] = 1500000000;
    ev.memory.weights[STAGE_T5] = 9500000000;
    ev.memory.on_device[STAGE_T5] = 300000000;
    news(v, ev);
    has(v, "1.8 GB");
    ev = about(EVENT_PROGRESS, 7);
    ev.stage = STAGE_FLUX;
    ev.step = 1;
    ev.eta_seconds = 40;
    news(v, ev);
    ev.step = 5;
    ev.blocks = 57;
    ev.block = 3;
    ev.seconds = 10;
    ev.eta_seconds = 30;
    news(v, ev);
    has(v, "transformer  step 5/20");
    has(v, "25 %  0:30 left");
    view_tick(v, 5000); /* four seconds later, no news: the time left goes on */
    has(v, "0:26 left");
    ev = about(EVENT_STARTED, 7); /* gone on with, from its 13th step: most of it is there already */
    news(v, ev);
    ev = about(EVENT_PROGRESS, 7);
    ev.stage = STAGE_FLUX;
    ev.step = 13;
    ev.eta_seconds = 10;
    news(v, ev);
    has(v, "60 %");
    ev = about(EVENT_PREVIEW, 7);
    ev.step = 5;
    ev.image = fake_image(32, 32, 1);
    news(v, ev);
    has(v, "preview 5/20");
    has(v, "▀▀▀▀▀▀");
    assert_null(view_result(v).image);
    type(v, " and more");
    has(v, "a red apple and more");
    ev = about(EVENT_DONE, 7);
    ev.image = fake_image(256, 256, 1);
    ev.seconds = 3.2;
    strcpy(ev.text, "/home/me/Pictures/sluice/20260101-101500-42.png");
    news(v, ev);
    has(v, "Saved ~/Pictures/sluice/20260101-101500-42.png");
    has(v, "256x256, seed 42");
    has(v, "Done in 3.2 s");
    assert_non_null(view_result(v).image);
    assert_string_equal(view_result(v).job->prompt, "a red apple");
    assert_int_equal(view_result(v).seed, 42);
    assert_string_equal(view_result(v).path, "/home/me/Pictures/sluice/20260101-101500-42.png");
    news(v, (struct event){ .kind = EVENT_IDLE });
    assert_false(view_busy(v));
    /* the picture stays while the next prompt is typed */
    type(v, "!");
    has(v, "▀▀▀▀▀▀");
    alt(v, 's');
    has(v, "Seed  *42");
    alt(v, 's');
    has(v, "Seed   random");
    view_free(v);
}

static void test_queueing_and_cancelling(void **state)
{
    (void)state;
    struct view *v = make();
    struct wish w;

    assert_int_equal(press(v, K_ESC).kind, WISH_NONE);
    submit(v, 1, 11);
    w = press(v, K_ESC); /* before it has begun */
    assert_int_equal(w.kind, WISH_CANCEL);
    assert_int_equal(w.job, 1);
    news(v, about(EVENT_CANCELLED, 1));
    assert_false(view_busy(v));
    submit(v, 2, 12);
    news(v, about(EVENT_STARTED, 2));
    submit(v, 3, 13);
    submit(v, 4, 14);
    has(v, "+2 queued");
    has(v, "Queue another");
    w = press(v, K_ESC);
    assert_int_equal(w.kind, WISH_CANCEL);
    assert_int_equal(w.job, 2);
    has(v, "cancelling");
    news(v, about(EVENT_CANCELLED, 2));
    has(v, "Cancelled");
    assert_true(view_busy(v));
    news(v, about(EVENT_STARTED, 3));
    has(v, "+1 queued");
    has_not(v, "cancelling");
    view_free(v);
}

static void test_interrupting(void **state)
{
    (void)state;
    struct view *v = make();

    assert_int_equal(ctrl(v, 'c').kind, WISH_NONE);
    has(v, "^C again quits");
    view_tick(v, 9000); /* too late to count as twice */
    assert_int_equal(ctrl(v, 'c').kind, WISH_NONE);
    assert_int_equal(ctrl(v, 'c').kind, WISH_QUIT);
    type(v, "x"); /* another key between: not twice */
    assert_int_equal(ctrl(v, 'c').kind, WISH_NONE);
    type(v, "x");
    submit(v, 1, 1);
    news(v, about(EVENT_STARTED, 1));
    assert_int_equal(ctrl(v, 'c').kind, WISH_CANCEL);
    assert_int_equal(ctrl(v, 'c').kind, WISH_QUIT);
    assert_int_equal(ctrl(v, 'q').kind, WISH_QUIT);
    assert_int_equal(ctrl(v, 'z').kind, WISH_SUSPEND);
    assert_int_equal(ctrl(v, 'l').kind, WISH_REDRAW);
    view_free(v);
}

static void test_failures(void **state)
{
    (void)state;
    struct view *v = make();
    struct event ev;
    struct wish w;

    submit(v, 1, 42);
    news(v, about(EVENT_STARTED, 1));
    ev = about(EVENT_FAILED, 1);
    strcpy(ev.text, "T5: weights are missing");
    news(v, ev);
    has(v, "T5: weights are missing");
    assert_false(view_busy(v));
    ctrl(v, 's');
    has(v, "no finished picture");
    submit(v, 2, 42);
    news(v, about(EVENT_STARTED, 2));
    ev = about(EVENT_FAILED, 2);
    ev.image = fake_image(64, 64, 1);
    strcpy(ev.text, "save: No space left on device");
    news(v, ev);
    has(v, "NOT SAVED");
    has(v, "No space left");
    has(v, "^S Save elsewhere");
    ctrl(v, 's');
    has(v, "Save as: /home/me/sluice-42.png");
    ctrl(v, 'u');
    type(v, "~/there.png");
    w = press(v, K_ENTER);
    assert_int_equal(w.kind, WISH_SAVE);
    assert_string_equal(w.path, "/home/me/there.png");
    view_saved(v, false, "still full");
    has(v, "Not saved: still full");
    has(v, "NOT SAVED");
    assert_string_equal(view_result(v).path, "");
    view_saved(v, true, "/home/me/there.png");
    assert_string_equal(view_result(v).path, "/home/me/there.png");
    has(v, "Saved ~/there.png");
    has_not(v, "NOT SAVED");
    view_refused(v, "the queue is full");
    has(v, "the queue is full");
    view_free(v);
}

static void test_result_does_not_hide_a_complaint(void **state)
{
    (void)state;
    struct view *v = make();
    struct event ev = about(EVENT_DONE, 1);

    submit(v, 1, 42);
    news(v, about(EVENT_STARTED, 1));
    set_field(v, 2, "abc");
    press(v, K_ENTER);
    has(v, "not a whole number");
    strcpy(ev.text, "/home/me/x.png");
    news(v, ev);
    has(v, "not a whole number");
    press(v, K_BACKSPACE);
    has(v, "Saved ~/x.png");
    view_free(v);
}

static void test_help(void **state)
{
    (void)state;
    struct view *v = make();

    press(v, K_F1);
    has(v, "generate; while one runs, queue another");
    for (int i = 0; i < 4; i++) press(v, K_DOWN);
    has(v, "quit; finished pictures");
    for (int i = 0; i < 60; i++) press(v, K_DOWN);
    press(v, K_PAGEUP);
    press(v, K_END);
    press(v, K_HOME);
    press(v, K_PAGEDOWN);
    press(v, K_PAGEDOWN);
    has(v, "undo");
    type(v, "cut"); /* typed, it narrows */
    has(v, "search: cut");
    has(v, "cut the word before, after");
    has_not(v, "undo");
    type(v, "xyz");
    has(v, "no key for that");
    press(v, K_ESC); /* all again; the next closes */
    has(v, "generate; while one runs");
    press(v, K_ESC);
    has_not(v, "Keys");
    type(v, "really?"); /* in the prompt a question mark is text */
    assert_string_equal(prompt_of(v), "really?");
    press(v, K_TAB);
    type(v, "?");
    has(v, "Keys");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE); /* closes, and only that */
    has_not(v, "Keys");
    view_free(v);
}

/* Each of the recent ones has a number of its own, so that a new one takes the place of an old one on the screen. */
static void test_recent_pictures_are_offered(void **state)
{
    (void)state;
    struct view *v = make();
    struct grid g = { 0 };
    uint64_t seen[8] = { 0 };

    view_resize(v, (struct view_screen){ 200, 60, 8, 16, 0, 0, true });
    for (uint64_t id = 1; id <= 4; id++) {
        struct event ev = about(EVENT_DONE, id);
        ev.image = fake_image(64, 64, id);
        news(v, ev);
        assert_true(view_draw(v, &g, NULL));
        assert_int_equal(g.pictures, 1 + id);
        for (uint64_t i = 1; i < id; i++) assert_int_not_equal(g.picture[1].serial, seen[i]);
        assert_int_not_equal(g.picture[1].serial, 0);
        if (id > 1) assert_int_equal(g.picture[2].serial, seen[id - 1]);
        seen[id] = g.picture[1].serial;
    }
    grid_free(&g);
    view_free(v);
}

/* The overlay hides the picture from the terminal's pixels. */
static void test_pixels_are_offered(void **state)
{
    (void)state;
    struct view *v = make();
    struct grid g = { 0 };
    struct event ev = about(EVENT_PREVIEW, 1);

    view_resize(v, (struct view_screen){ 120, 40, 8, 16, 0, 0, true });
    assert_true(view_draw(v, &g, NULL));
    assert_int_equal(g.pictures, 0);
    ev.image = fake_image(64, 32, 1);
    news(v, ev);
    assert_true(view_draw(v, &g, NULL));
    assert_int_equal(g.pictures, 1);
    assert_false(g.picture[0].fine);
    /* to the nearest cell */
    assert_in_range(g.picture[0].at.h * 16 * 2, g.picture[0].at.w * 8 - 15, g.picture[0].at.w * 8 + 16);
    for (int y = 0; y < g.picture[0].at.h; y++)
        for (int x = 0; x < g.picture[0].at.w; x++)
            assert_true(g.cells[(g.picture[0].at.y + y) * g.cols + g.picture[0].at.x + x].attr & CELL_PICTURE);
    ev = about(EVENT_DONE, 1);
    ev.image = fake_image(64, 32, 1);
    uint64_t serial = g.picture[0].serial;
    news(v, ev);
    assert_true(view_draw(v, &g, NULL));
    assert_true(g.picture[0].fine && g.picture[0].serial != serial);
    press(v, K_F1);
    assert_true(view_draw(v, &g, NULL));
    assert_int_equal(g.pictures, 0);
    press(v, K_ESC);
    /* a terminal that draws at most 200 px */
    view_resize(v, (struct view_screen){ 120, 40, 8, 16, 200, 200, true });
    assert_true(view_draw(v, &g, NULL));
    assert_true(g.picture[0].at.w * 8 <= 200);
    grid_free(&g);
    view_free(v);
}

/* What services answer, or have to say, at any moment. */
static void random_service(struct view *v, uint32_t r)
{
    struct store_queue q = { .count = (int)(r % 5), .at = calloc(5, sizeof *q.at) };
    struct job j = { 0 };
    struct wish w = view_needs(v);

    for (int i = 0; i < q.count; i++)
        q.at[i] = (struct store_job){
            .id = i + 1, .state = (enum store_state)((r >> i) % STORE_STATE_COUNT_), .foreign = r >> 7 & 1,
            .text = strdup(""),
            .model = strdup("m"), .preset = strdup(""), .prompt = strdup(i & 1 ? "\xe7\x8c\xab\xff a cat" : ""),
            .error = strdup("why"),
            .pictures = 1 + (int)(r >> 3) % 3, .step = (int)(r >> 5) % 20, .steps = 20,
        };
    view_queue(v, &q, r & 1 ? 2 : 0);
    if (w.kind == WISH_HISTORY && w.history.what == HISTORY_LIST) {
        struct store_page page = { .total = r % 200, .count = r % 200 > 60 ? 64 : (int)(r % 20),
                                   .at = calloc(64, sizeof *page.at) };
        for (int i = 0; i < page.count; i++)
            page.at[i] = (struct store_picture){
                .id = i + 1, .path = strdup("/x.png"), .prompt = strdup("\033[2J \xe7\x8c\xab"), .negative = strdup(""),
                .model = strdup("m"), .preset = strdup(""), .record = strdup("{}"), .width = 64, .height = 64,
                .mark = (int)(r % 6),
            };
        view_gallery_page(v, w.history.query.serial - (r & 2) / 2, w.history.query.offset, &page);
    } else if (w.kind == WISH_HISTORY && w.history.what == HISTORY_THUMBS) {
        view_gallery_thumb(v, w.history.ids[0], r & 4 ? fake_image(1 + (int)(r % 30), 9, r) : NULL);
    }
    assert_true(job_init(&j, fake_model(), NULL));
    switch (r >> 9 & 63) {
    case 0: view_ask_resume(v, 1, 2, 3, 20); break;
    case 1: view_ask_many(v, 30); break;
    case 2:
        view_trouble(v, 3, &j, (enum err_kind)(r % ERR_KIND_COUNT), (enum stage)(r % STAGE_COUNT), "out of memory");
        break;
    case 3: view_sheet(v, 1 + (r & 3), &j, 1 + (int)(r % 40)); break;
    case 4: view_gallery_record(v, "file\t/x.png\nprompt\t\xe7\x8c\xab\n"); break;
    case 5: view_gallery_changed(v, (int)(r & 1)); break;
    case 6: view_edit(v, r & 1, &j, "", NULL); break;
    case 7: press(v, r & 1 ? K_F4 : K_F5); break;
    default: break;
    }
    job_free(&j);
}

/* The title's device is the plan's: what Enter would use. */
static void test_device(void **state)
{
    (void)state;
    static const struct { const char *name, *shown; } cases[] = {
        { "NVIDIA GeForce RTX 3060", "  RTX 3060\n" },
        { "NVIDIA GeForce RTX 4090 Laptop GPU", "  RTX 4090 Laptop\n" },
        { "NVIDIA H100 80GB HBM3", "  H100 80GB HBM3\n" },
        { "Tesla T4", "  Tesla T4\n" },
        { "cpu", "  cpu, 2 threads\n" },
    };
    struct view *v = make();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job wanted = { 0 };
        struct plan_summary s = { .ok = true };
        uint64_t ticket;
        view_plan_again(v);
        assert_true(view_plan_wanted(v, &wanted, &ticket));
        snprintf(s.device, sizeof s.device, "%s", cases[i].name);
        view_planned(v, ticket, &s);
        has(v, cases[i].shown);
        s = (struct plan_summary){ .text = "there is no plan" };
        view_planned(v, ticket, &s);
        has(v, cases[i].shown);
        job_free(&wanted);
    }
    view_free(v);
}

/* Any keys and news at any size: nothing is lost, every cell is in order. */
static void test_random_use(void **state)
{
    (void)state;
    uint32_t seed = 88172645u;
    struct view *v = make();
    struct grid g = { 0 };

    for (int i = 0; i < 10000; i++) {
        uint32_t at = seed, r = random_next(&seed);
        struct key k = { .kind = (enum key_kind)(1 + r % (K_F12 - 1)), .ch = 0, .mods = r >> 8 & 7 };
        struct event ev = about((enum event_kind)(r >> 11 & 15) < EVENT_KIND_COUNT
                                ? (enum event_kind)(r >> 11 & 15) : EVENT_IDLE,
                                1 + (r >> 15 & 3));

        if (r & 16) k = (struct key){ .kind = K_CHAR, .ch = 32 + random_next(&seed) % 0x3000 };
        if (k.kind == K_CHAR && k.ch == 0) k.ch = 'a' + (r >> 20) % 26;
        if ((r >> 21) % 8 == 0)
            k = (struct key){ .kind = K_MOUSE, .ch = r % 5, .x = (int)(r >> 3) % 140, .y = (int)(r >> 9) % 60 };
        if (k.kind == K_PASTE) {
            k.text = "paste\xff 猫";
            k.bytes = 10;
        }
        view_tick(v, i * 10);
        if (view_key(v, &k).kind == WISH_GENERATE) {
            struct job j = { 0 };
            bool random_seed;
            if (view_request(v, &j, &random_seed, NULL)) view_submitted(v, 1 + (r >> 3 & 3), &j);
            job_free(&j);
        }
        struct job wanted = { 0 };
        uint64_t ticket;
        if (view_plan_wanted(v, &wanted, &ticket)) {
            view_planned(v, ticket,
                         &(struct plan_summary){ .ok = r & 32, .text = "a reason", .arena = r,
                                                 .budget = r & 2 ? 2ull * r : 0,
                                                            .phase[PHASE_T5] = { .peak = r, .activations = r / 2 } });
            job_free(&wanted);
        }
        if ((r >> 24) % 3 == 0) {
            ev.stage = (enum stage)((r >> 5) % STAGE_COUNT);
            ev.step = (int)(r % 30);
            ev.block = (int)(r % 9);
            ev.blocks = (int)(r % 7);
            if (ev.kind == EVENT_PREVIEW || (r & 64 && (ev.kind == EVENT_DONE || ev.kind == EVENT_FAILED)))
                ev.image = fake_image(1 + (int)(r % 40), 1 + (int)(r >> 6) % 40, r);
            view_event(v, &ev);
        }
        random_service(v, r);
        if (i % 7 == 0)
            view_resize(v,
                        (struct view_screen){ 1 + (int)(random_next(&seed) % 130), 1 + (int)(random_next(&seed) % 50),
                                              9, 18, 0, 0, (seed & 64) != 0 });
        assert_true(view_draw(v, &g, NULL));
        for (int c = 0; c < g.cols * g.rows; c++) {
            if (g.cells[c].width > 2 ||
                (g.cells[c].width == 2 && (c % g.cols == g.cols - 1 || g.cells[c + 1].width != 0)) ||
                (g.cells[c].width == 0 && (c % g.cols == 0 || g.cells[c - 1].width != 2)))
                fail_msg("seed %u, key %d: cell %d,%d of %dx%d is half a character", at, i, c % g.cols, c / g.cols,
                         g.cols, g.rows);
        }
        if (g.cursor_shown && (g.cursor_x < 0 || g.cursor_x >= g.cols || g.cursor_y < 0 || g.cursor_y >= g.rows))
            fail_msg("seed %u, key %d: the cursor is at %d,%d of %dx%d", at, i, g.cursor_x, g.cursor_y, g.cols, g.rows);
    }
    grid_free(&g);
    view_free(v);
}

/* A whole session; false: memory was refused where the view says so. */
static bool session(struct err *e)
{
    struct view *v = NULL;
    struct view_options o = { .device = "cpu", .out_dir = "/tmp", .pictures = true, .preset = "portrait" };
    struct grid g = { 0 };
    struct job j = { 0 };
    struct image *im = fake_image(64, 64, 1);
    bool random_seed, ok = view_new(&v, fake_model(), &o, e);

    for (int i = 0; ok && i < 3; i++) {
        struct event ev = about(i ? EVENT_DONE : EVENT_STARTED, 1);
        type(v, "a cat");
        for (int k = 0; k < 8; k++) {
            press(v, K_TAB);
            press(v, K_RIGHT);
        }
        alt(v, 'r');
        press(v, K_F1);
        type(v, "cut");
        ok = view_draw(v, &g, e);
        press(v, K_ESC);
        press(v, K_ESC);
        alt(v, 'n');
        if (view_request(v, &j, &random_seed, NULL)) view_submitted(v, 1, &j);
        job_free(&j);
        if (i && im) ev.image = image_copy(im, NULL);
        view_event(v, &ev);
        ctrl(v, 's');
        press(v, K_ESC);
        ok = ok && view_draw(v, &g, e);
        if (ok && view_job(v, &j, NULL)) ok = view_load(v, &j, "other", "8gb", e);
        job_free(&j);
        view_resize(v, (struct view_screen){ .cols = 160, .rows = 50 });
    }
    image_free(im);
    grid_free(&g);
    view_free(v);
    return ok;
}

/* Every allocation refused once, each in its turn: the view goes on, or says that it is memory. */
static void test_memory_refused(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        struct err e = { 0 };
        alloc_fail_at(n);
        bool ok = session(&e);
        if (!alloc_fail_done()) {
            if (!ok) fail_msg("%s", e.text);
            assert_true(n > 100);
            break;
        }
        if (!ok && e.kind != ERR_MEMORY) fail_msg("allocation %ld refused: \"%s\"", n, e.text);
    }
}

/* --- keys from bytes ------------------------------------------------------------------ */

/* Keys and replies of `bytes`, fed in pieces of `piece`, as text: "<kind:ch/mods>". */
static void keys_of(const char *bytes, size_t n, size_t piece, bool pause_at_end, char out[4096])
{
    struct input in;
    struct key k;
    size_t len = 0;
    enum input_got got;

    input_init(&in);
    out[0] = 0;
    for (size_t at = 0; at < n; at += piece) {
        const unsigned char *p = (const unsigned char *)bytes + at;
        size_t left = n - at < piece ? n - at : piece;
        while ((got = input_feed(&in, &p, &left, &k)) != INPUT_NONE) {
            if (len > 4000) continue;
            if (got == INPUT_REPLY) len += (size_t)sprintf(out + len, "{%c%.40s}", in.kind, in.reply);
            else if (k.kind == K_PASTE) len += (size_t)sprintf(out + len, "\"%.*s\"", (int)k.bytes, k.text);
            else if (k.kind == K_CHAR && k.mods == 0) len += (size_t)sprintf(out + len, "%lc", (wint_t)k.ch);
            else len += (size_t)sprintf(out + len, "<%d:%x/%u>", k.kind, k.ch, k.mods);
        }
    }
    if (pause_at_end && input_waiting(&in) && input_pause(&in, &k) == INPUT_KEY)
        sprintf(out + len, "<%d:%x/%u>", k.kind, k.ch, k.mods);
    input_free(&in);
}

static void test_keys(void **state)
{
    (void)state;
    static const struct { const char *bytes, *keys; } cases[] = {
        { "ab", "ab" },
        { "\xe7\x8c\xab\xff\xe7\x8cx", "猫\xef\xbf\xbd\xef\xbf\xbdx" },
        { "\r\t\x7f\x03", "<3:0/0><4:0/0><7:0/0><1:63/1>" },
        { "\033[A\033OB\033[1;5C\033[3~\033[H\033[Z", "<10:0/0><11:0/0><13:0/1><8:0/0><14:0/0><5:0/0>" },
        { "\033\033[0nx\033\033]11;rgb:0/0/0\033\\", "<6:0/0>{[0n}x<6:0/0>{]11;rgb:0/0/0}" }, /* Esc, then an answer */
        { "\033OP\033[24~\033[[B", "<18:0/0><29:0/0><19:0/0>" },
        { "\033b\033\x7f", "<1:62/2><7:0/2>" },
        { "\033[27;5;106~\033[106;5u\033[13;2u", "<1:6a/1><1:6a/1><3:0/4>" },
        { "\033[?62;4;22c", "{[?62;4;22c}" },
        { "\033]11;rgb:1414/1616/1a1a\033\\x", "{]11;rgb:1414/1616/1a1a}x" },
        { "\033]11;rgb:ff/ff/ff\007y", "{]11;rgb:ff/ff/ff}y" },
        { "\033_Gi=31;OK\033\\", "{_Gi=31;OK}" },
        { "\033[6;20;10t\033[0n", "{[6;20;10t}{[0n}" },
        { "\033[200~a\nb\033[201~c", "\"a\nb\"c" },
        { "\033[200~x\033[20y\033\033[201~", "\"x\033[20y\033\"" },
        { "\033[I\033[O!", "!" },
        { "\033P1$r\033\\z", "{P1$r}z" },
        { "\033[<0;12;3M\033[<0;12;3mx", "<30:0/0>x" }, /* pressed; let go is no key */
        { "\033[<65;1;1M\033[<64;1;1M\033[<2;999;999M", "<30:4/0><30:3/0><30:2/0>" },
        { "\033[<16;1;1M\033[<35;1;1M\033[<0;0;1My", "<30:0/1>y" }, /* with ctrl; moved; nowhere */
        { "\033", "<6:0/0>" },
    };
    char out[4096];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (size_t piece = 1; piece <= 32; piece++) {
            keys_of(cases[i].bytes, strlen(cases[i].bytes), piece, true, out);
            if (strcmp(out, cases[i].keys))
                fail_msg("case %zu in pieces of %zu: \"%s\", not \"%s\"", i, piece, out, cases[i].keys);
        }
}

static void test_key_parser_survives(void **state)
{
    (void)state;
    static const char alphabet[] = "\033[]P_O;:?<0123456789~ABcmtu\\\007\r\x80\xc3\xe7\xf0x";
    uint32_t seed = 123456789u;
    char bytes[64], out[4096];

    for (int i = 0; i < 20000; i++) {
        size_t n = random_next(&seed) % sizeof bytes;
        for (size_t j = 0; j < n; j++)
            bytes[j] = random_next(&seed) & 8
                       ? (char)random_next(&seed) : alphabet[random_next(&seed) % (sizeof alphabet - 1)];
        keys_of(bytes, n, 1 + random_next(&seed) % 9, true, out);
    }
    /* a reply that never ends keeps a bounded part */
    struct input in;
    struct key k;
    input_init(&in);
    for (int i = 0; i < 5000; i++) {
        const unsigned char *p = (const unsigned char *)(i ? "7" : "\033P");
        size_t n = i ? 1 : 2;
        assert_int_equal(input_feed(&in, &p, &n, &k), INPUT_NONE);
    }
    assert_true(input_waiting(&in));
    input_pause(&in, &k);
    assert_false(input_waiting(&in));
    input_free(&in);
}

/* --- pictures ------------------------------------------------------------------------- */

static void test_scaling(void **state)
{
    (void)state;
    struct image *im = image_new(7, 5, NULL), *out;
    int w, h;

    memset(im->rgb, 77, 7 * 5 * 3);
    for (int i = 0; i < 40; i++) {
        out = scale_image(im, 1 + i, 40 - i, NULL);
        for (int p = 0; p < out->width * out->height * 3; p++) assert_int_equal(out->rgb[p], 77);
        image_free(out);
    }
    for (int i = 0; i < 7 * 5 * 3; i++) im->rgb[i] = (unsigned char)(i * 2);
    out = scale_image(im, 7, 5, NULL); /* the same size: the same picture */
    assert_memory_equal(out->rgb, im->rgb, 7 * 5 * 3);
    image_free(out);
    assert_null(scale_image(im, 0, 4, NULL));
    image_free(im);
    scale_fit(100, 1, 2.0, 30, 30, &w, &h);
    assert_int_equal(w, 30);
    assert_int_equal(h, 1);
}

/* Every sixel string of b, with its address before it; how many there are. */
static int sixels_of(const struct bytes *b)
{
    int n = 0;

    for (size_t i = 0; i < b->count; n++) {
        const char *p = b->data + i;
        size_t left = b->count - i;
        char *address = memchr(p, 'H', left);
        assert_non_null(address);
        assert_memory_equal(p, "\033[", 2);
        assert_memory_equal(address + 1, "\033P0;1q\"1;1;", 11);
        const char *end = memmem(address, left - (size_t)(address - p), "\033\\", 2);
        assert_non_null(end);
        for (const char *c = address + 2; c < end; c++) assert_true(*c != '\033');
        i = (size_t)(end + 2 - b->data);
    }
    return n;
}

static void test_sixel_bytes(void **state)
{
    (void)state;
    struct image *im = fake_image(64, 64, 3);
    struct chunks b = { 0 };
    struct err e = { 0 };
    struct graphics_how how = { .at = { 4, 2, 20, 7 }, .cell_w = 10, .cell_h = 20, .colours = 256 };
    size_t full;
    int level = 4;

    for (int fine = 0; fine < 2; fine++) {
        how.fine = fine;
        assert_true(graphics_sixel(&b, im, &how, &e));
        assert_memory_equal(b.b.data, "\033[3;5H\033P0;1q\"1;1;200;140", 24);
        assert_memory_equal(b.b.data + b.b.count - 2, "\033\\", 2);
        assert_int_equal(b.count, 1);
        assert_int_equal(b.end[0], b.b.count);
        assert_int_equal(sixels_of(&b.b), 1);
    }
    full = b.b.count;
    how.max_bytes = full / 4;
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_true(b.b.count <= full / 4);
    /* in strips, each a picture of its own, of whole cells */
    how.max_bytes = 0;
    how.piece_bytes = full / 4;
    how.strips = true;
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_in_range(b.count, 3, 7);
    assert_int_equal(sixels_of(&b.b), b.count);
    assert_memory_equal(b.b.data + b.end[0], "\033[", 2);
    how.piece_bytes = 1;
    how.at.h = 40;
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_true(b.count <= GRAPHICS_STRIPS);
    assert_int_equal(sixels_of(&b.b), b.count);
    how.at.h = 7;
    /* the level is kept for the next one */
    how.piece_bytes = 0;
    how.fine = false;
    how.level = &level;
    how.max_bytes = 1 << 20;
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_int_equal(level, 0); /* all goes, at once */
    assert_true(b.b.count > full / 2);
    how.max_bytes = full / 20;
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_true(level > 1 && b.b.count <= full / 20);
    how.max_bytes = 100; /* as coarse as it gets; too large all the same */
    assert_true(graphics_sixel(&b, im, &how, &e));
    assert_int_equal(level, GRAPHICS_LEVELS - 1);
    how.limit_bytes = 100;
    assert_false(graphics_sixel(&b, im, &how, &e));
    assert_int_equal(b.b.count, 0);
    assert_non_null(strstr(e.text, "100 bytes"));
    how = (struct graphics_how){ .at = { 0, 0, 500, 250 }, .cell_w = 10, .cell_h = 20, .colours = 16 };
    assert_true(graphics_sixel(&b, im, &how, NULL));
    assert_non_null(memmem(b.b.data, 40, "q\"1;1;1000;996", 14));
    pieces_free(&b);
    image_free(im);
}

/* The kitty protocol, byte by byte: chunks, ids, quiet, what takes the place of what. */
static void test_kitty_bytes(void **state)
{
    (void)state;
    struct image *im = fake_image(300, 300, 3);
    struct chunks b = { 0 };
    struct graphics_how how = { .at = { 3, 1, 30, 15 }, .cell_w = 10, .cell_h = 20, .id = 7341, .piece_bytes = 10000 };
    const char *p, *end;
    int chunks = 0, piece = 0;
    size_t large;

    for (int again = 0; again < 2; again++) {
        how.old_id = again ? 7342 : 0;
        assert_true(graphics_kitty(&b, im, &how, NULL));
        p = b.b.data;
        end = p + b.b.count;
        for (chunks = piece = 0;; chunks++) {
            const char *payload = memchr(p, ';', (size_t)(end - p)), *close = memmem(p, (size_t)(end - p), "\033\\", 2);
            char head[64];
            snprintf(head, sizeof head, "%.*s", (int)(payload - p), p);
            assert_int_equal(close - payload - 1 <= 4096, 1);
            bool last = close[2] == '\033' && close[3] == '[';
            if (!last) assert_int_equal((close - payload - 1) % 4, 0);
            if (chunks == 0) assert_string_equal(head, "\033_Ga=t,f=100,i=7341,q=2,m=1");
            else assert_string_equal(head, last ? "\033_Gm=0,q=2" : "\033_Gm=1,q=2");
            if (chunks == 0) assert_memory_equal(payload + 1, "iVBORw0KGgo", 11);
            p = close + 2;
            if (piece < b.count && p == b.b.data + b.end[piece]) piece++; /* pieces end where chunks do */
            if (last) break;
        }
        assert_true(chunks > 2 && piece == b.count - 1 && b.count > 1);
        assert_string_equal((bytes_add(&b.b, "", 1), p), again
                                ? "\033[2;4H\033_Ga=p,i=7341,p=1,q=2,C=1,c=30,r=15\033\\\033_Ga=d,d=I,i=7342,q=2\033\\"
                                : "\033[2;4H\033_Ga=p,i=7341,p=1,q=2,C=1,c=30,r=15\033\\");
    }
    /* fewer pixels until it fits */
    how.piece_bytes = 0;
    assert_true(graphics_kitty(&b, im, &how, NULL));
    large = b.b.count;
    how.max_bytes = large / 10;
    assert_true(graphics_kitty(&b, im, &how, NULL));
    assert_true(b.b.count <= large / 10 + 200);
    assert_int_equal(b.count, 1);
    pieces_clear(&b);
    graphics_kitty_abandon(&b.b);
    bytes_add(&b.b, "", 1);
    assert_string_equal(b.b.data, "\033_Gm=0,q=2;\033\\");
    pieces_free(&b);
    image_free(im);
}

static void test_block_bytes(void **state)
{
    (void)state;
    struct image *im = fake_image(300, 300, 3);
    struct chunks b = { 0 };
    struct grid g = { 0 };
    struct graphics_how how = { .at = { 2, 1, 5, 2 } };
    size_t all;

    assert_true(grid_resize(&g, 60, 30, NULL));
    assert_true(draw_picture(&g, how.at, im, NULL));
    draw_text(&g, (struct rect){ 0, 0, 10, 4 }, 4, 2, COLOUR_TEXT, 0, "x"); /* something over it */
    graphics_blocks(&b, &g, &how);
    assert_int_equal(b.count, 1);
    bytes_add(&b.b, "", 1);
    assert_memory_equal(b.b.data, "\033[2;3H\033[38;2;", 13);
    assert_non_null(strstr(b.b.data, "\033[3;6H")); /* goes on behind what covers it */
    /* in pieces, each with its own address and colours; coarser where there is no room */
    how.at = (struct rect){ 0, 0, 60, 30 };
    assert_true(draw_picture(&g, how.at, im, NULL));
    graphics_blocks(&b, &g, &how);
    all = b.b.count;
    how.piece_bytes = 500;
    graphics_blocks(&b, &g, &how);
    assert_true(b.count > 10);
    for (int i = 0; i + 1 < b.count; i++) {
        assert_memory_equal(b.b.data + b.end[i] - 4, "\033[0m", 4);
        if (i + 2 < b.count) assert_memory_equal(b.b.data + b.end[i], "\033[", 2);
        assert_true(b.end[i + 1] - b.end[i] <= 600);
    }
    how.max_bytes = all / 2;
    graphics_blocks(&b, &g, &how);
    assert_true(b.b.count < all);
    pieces_free(&b);
    grid_free(&g);
    image_free(im);
}

/* A way of 64 KB/s and 20 ms there and back: its rate and its trip are found, and there is
 * never much more on it than that. */
static void test_pace(void **state)
{
    (void)state;
    struct pace p = { 0 };
    struct { int64_t at; } answer[64];
    int64_t now = 1000000, free_at = 0;
    int waiting = 0, sent = 0;
    size_t piece = 512;

    assert_true(pace_rate(&p) == 0 && !pace_quick(&p));
    assert_int_equal(pace_bytes(&p, 1000), 64000);
    assert_false(pace_answered(&p, now));
    for (; now < 4000000; now += 250) {
        if (waiting && answer[0].at <= now) {
            assert_true(pace_answered(&p, now));
            memmove(answer, answer + 1, (size_t)--waiting * sizeof *answer);
        }
        size_t bytes = sent % 10 == 0 ? 4 : piece;
        if (bytes == 4 ? waiting == 0 : pace_open(&p, bytes)) {
            free_at = (free_at > now + 10000 ? free_at : now + 10000) + (int64_t)bytes * 1000000 / 64000;
            answer[waiting++].at = free_at + 10000;
            pace_sent(&p, bytes, now);
            sent++;
            assert_true(waiting <= PACE_FLIGHTS);
            /* what is typed now waits this long in the queue */
            if (now > 2000000) assert_true(free_at - now - 10000 <= 40000);
        }
        if (pace_rate(&p) > 0) piece = pace_bytes(&p, 8);
    }
    assert_in_range((int)pace_rate(&p), 55000, 75000);
    assert_in_range((int)pace_trip_us(&p), 20000, 21000);
    pace_forget(&p);
    assert_true(pace_open(&p, 1 << 20));
    /* an answer that is very late, or at once, is not believed to the letter */
    pace_sent(&p, 1000, now);
    pace_answered(&p, now + 3600000000ll);
    assert_true(pace_rate(&p) >= 4000);
    for (int i = 0; i < 100; i++) {
        pace_sent(&p, 100000, now);
        pace_answered(&p, now);
    }
    assert_true(pace_quick(&p));
}

static void test_sizes_and_times(void **state)
{
    (void)state;
    char b[16];

    assert_string_equal(draw_size(0, b), "-");
    assert_string_equal(draw_size(999, b), "999 B");
    assert_string_equal(draw_size(23800000000, b), "23.8 GB");
    assert_string_equal(draw_size(999999, b), "1.0 MB");
    assert_string_equal(draw_size(SIZE_MAX, b), "18446744 TB");
    assert_string_equal(draw_time(-1, b), "-");
    assert_string_equal(draw_time(3723, b), "1:02:03");
    assert_string_equal(draw_time(59.6, b), "1:00");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_screen),
        cmocka_unit_test(test_busy_screen),
        cmocka_unit_test(test_smallest_screen),
        cmocka_unit_test(test_layout_holds),
        cmocka_unit_test(test_picture_keeps_its_shape),
        cmocka_unit_test(test_typing_and_editing),
        cmocka_unit_test(test_graphemes),
        cmocka_unit_test(test_wide_and_hostile_text),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_paste_never_submits),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_prompts_used_before),
        cmocka_unit_test(test_long_prompts),
        cmocka_unit_test(test_wrapping_property),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_focus_and_nudging),
        cmocka_unit_test(test_kinds_of_fields),
        cmocka_unit_test(test_edited_and_reset),
        cmocka_unit_test(test_negative_prompt),
        cmocka_unit_test(test_mouse),
        cmocka_unit_test(test_vi_keys),
        cmocka_unit_test(test_model_without_guidance),
        cmocka_unit_test(test_job_from_start_to_end),
        cmocka_unit_test(test_queueing_and_cancelling),
        cmocka_unit_test(test_interrupting),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_result_does_not_hide_a_complaint),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_recent_pictures_are_offered),
        cmocka_unit_test(test_pixels_are_offered),
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_random_use),
        cmocka_unit_test(test_memory_refused),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_parser_survives),
        cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_sixel_bytes),
        cmocka_unit_test(test_kitty_bytes),
        cmocka_unit_test(test_block_bytes),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_sizes_and_times),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
