/* test_screen_doctor.c - the doctor's screen: what it asks for and when, a report
 * beside the terminal's lines, scrolling, what is missing or hostile; and the lines
 * that are made of what is known of a terminal. */
#include "engine/doctor.h"
#include "tests/view_help.h"
#include "tui/service_doctor.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct term_report xterm(void)
{
    return (struct term_report){
        .name = "xterm-256color", .cols = 80, .rows = 24, .colours = 256, .utf8 = true, .answered = true,
        .da1 = "CSI ?64;4;22c", .kitty_asked = true, .wanted = GRAPHICS_AUTO, .chosen = GRAPHICS_SIXEL,
        .why = "its DA1 answer has a 4: sixel", .cell_w = 10, .cell_h = 20, .cell_source = "it says so (CSI 16t)",
        .sixel_colours = 256, .sixel_w = 1000, .sixel_h = 1000, .bytes_per_second = 1.25e7, .trip_ms = 0.84,
    };
}

static void answer_terminal(struct view *v, struct term_report r)
{
    unsetenv("COLORTERM");
    unsetenv("NO_COLOR");
    service_doctor_terminal(v, &r);
}

static void answer_machine(struct view *v)
{
    struct doctor d = { 0 };

    doctor_say(&d, DOCTOR_CARD, DOCTOR_OK, "CUDA device", NULL, "built, and loads");
    doctor_say(&d, DOCTOR_CARD, DOCTOR_OK, "card 0", "bf16 and fp16",
               "NVIDIA GeForce RTX 3060, 12.6 GB, compute capability 8.6, 28 multiprocessors");
    doctor_say(&d, DOCTOR_CARD, DOCTOR_NOTE, "NVML", "what other programs hold is unknown",
               "libnvidia-ml.so.1: cannot open shared object file");
    for (int i = 0; i < 12; i++) doctor_say(&d, DOCTOR_MEMORY, DOCTOR_OK, "RAM", NULL, "%d GB available of 32 GB", i);
    doctor_say(&d, DOCTOR_MODELS, DOCTOR_PROBLEM, "FLUX.1-dev",
               "sluice inspect --check says more; copy or download it again", "transformer: the file ends after 3 of 12 shards");
    view_doctor(v, &d);
    assert_int_equal(d.count, 0);
}

/* As the loop does. */
static int granted(struct view *v, bool machine)
{
    int kinds = 0;

    screen(v, 80, 24);
    for (struct wish w; (w = view_needs(v)).kind;) {
        kinds = kinds * 10 + (w.kind == WISH_DOCTOR ? 1 : w.kind == WISH_DOCTOR_TERMINAL ? 2 : 9);
        if (w.kind == WISH_DOCTOR_TERMINAL) answer_terminal(v, xterm());
        if (w.kind == WISH_DOCTOR && machine) answer_machine(v);
    }
    return kinds;
}

static void test_asks_and_answers(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);

    press(v, K_F7);
    has(v, "Looking at card");
    assert_int_equal(granted(v, false), 21);
    assert_int_equal(granted(v, false), 0);
    has(v, "xterm-256color, 80x24");
    golden(v, "doctor-looking", 80, 24);
    type(v, "r"); /* it is under way already */
    assert_int_equal(granted(v, false), 2);
    answer_machine(v);
    has(v, "Doctor: 1 problem");
    golden(v, "doctor", 80, 24);
    golden(v, "doctor", 120, 40);
    golden(v, "doctor", 200, 60);
    screen(v, 81, 24);
    assert_int_equal(view_needs(v).kind, WISH_DOCTOR_TERMINAL); /* it has another size */
    assert_int_equal(granted(v, false), 2);
    type(v, "r");
    assert_int_equal(granted(v, false), 21);
    has(v, "1 problem, looking again");
    answer_machine(v);
    has_not(v, "looking again");
    press(v, K_ESC);
    has(v, "Describe a picture");
    assert_int_equal(granted(v, false), 0);
    alt(v, 'i');
    assert_int_equal(granted(v, true), 21);
    press(v, K_F7); /* the key that opened it closes it */
    has(v, "Describe a picture");
    view_free(v);
}

static void test_scrolls(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);

    press(v, K_F7);
    granted(v, true);
    has(v, "rows 1-20 of ");
    press(v, K_UP);
    has(v, "rows 1-20 of ");
    press(v, K_DOWN);
    has(v, "rows 2-21 of ");
    press(v, K_PAGEDOWN);
    has(v, "rows 21-40 of ");
    press(v, K_END);
    has(v, "the file ends after 3 of 12 shards");
    has_not(v, "xterm-256color");
    golden(v, "doctor-end", 80, 24);
    press(v, K_PAGEUP);
    press(v, K_HOME);
    has(v, "rows 1-20 of ");
    click(v, MOUSE_DOWN, 5, 5);
    has(v, "rows 2-21 of ");
    assert_null(strstr(screen(v, 200, 60), "rows "));
    view_free(v);
}

static void test_terminals(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct term_report r;

    press(v, K_F7);
    screen(v, 80, 24);
    while (view_needs(v).kind) {}
    r = (struct term_report){ .name = "vt100", .cols = 80, .rows = 24, .wanted = GRAPHICS_AUTO,
                              .chosen = GRAPHICS_BLOCKS, .why = "it has not answered (yet)" };
    answer_terminal(v, r);
    golden(v, "doctor-vt100", 80, 24);
    r = xterm();
    r.in_tmux = true;
    strcpy(r.tmux_features, "256,sixel,title");
    r.light = r.truecolour = true;
    setenv("COLORTERM", "truecolor", 1);
    service_doctor_terminal(v, &r);
    unsetenv("COLORTERM");
    has(v, "truecolor");
    has(v, "light ground");
    has(v, "around it: 256,sixel,title");
    r.colours = 0;
    setenv("NO_COLOR", "1", 1);
    service_doctor_terminal(v, &r);
    unsetenv("NO_COLOR");
    has(v, "NO_COLOR is set");
    has(v, "12 MB/s, round trip 0.8 ms");
    view_free(v);
}

static void test_keys_are_told(void **state)
{
    (void)state;
    struct keys k;
    struct view *v;
    struct view_options o = { .device = "cpu", .keys = &k, .mouse = true };
    const char *const f10[] = { "f10" };

    for (int i = 0; i < 3; i++) {
        keys_init(&k, i == 1 ? KEYS_VI : KEYS_EMACS);
        if (i == 2) assert_true(keys_rebind(&k, ACTION_QUIT, f10, 1, NULL));
        assert_true(view_new(&v, fake_model(), &o, NULL));
        press(v, K_F7);
        answer_terminal(v, xterm());
        has(v, i == 0 ? "emacs" : i == 1 ? "vi" : "changed by keys.yaml");
        view_free(v);
    }
}

static void test_hostile_and_tiny(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct term_report r = xterm();
    struct doctor d = { .lost = 1 };
    char name[600];

    memset(name, 'w', sizeof name);
    memcpy(name, "\033[2J\xe2\x80\xae", 7);
    name[sizeof name - 1] = 0;
    doctor_say(&d, DOCTOR_MODELS, DOCTOR_PROBLEM, name, name, "%s", name);
    doctor_say(&d, DOCTOR_MODELS, DOCTOR_OK, "", NULL, "%s", "");
    strcpy(r.da1, "\033]0;x\007 猫");
    strcpy(r.tmux_features, "\xff\xfe");
    r.in_tmux = true;
    press(v, K_F7);
    answer_terminal(v, r);
    view_doctor(v, &d);
    press(v, K_END);
    has(v, "Memory was refused");
    for (int cols = 1; cols < 130; cols += 3)
        for (int rows = 1; rows < 30; rows += 2) {
            assert_null(strchr(screen(v, cols, rows), '\033'));
            assert_null(strstr(screen(v, cols, rows), "\xe2\x80\xae"));
            press(v, rows & 2 ? K_PAGEDOWN : K_PAGEUP);
        }
    view_free(v);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks_and_answers), cmocka_unit_test(test_scrolls),
        cmocka_unit_test(test_terminals),        cmocka_unit_test(test_keys_are_told),
        cmocka_unit_test(test_hostile_and_tiny),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
