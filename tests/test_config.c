/* test_config.c - keys.yaml and theme.yaml: what they may say, how a wrong one is
 * told; and what a theme makes of the roles. */
#include "tui/config.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/sluice-config-XXXXXX";
static char path[FILE_PATH_MAX];

static const char *file(const char *text)
{
    snprintf(path, sizeof path, "%s/file.yaml", folder);
    assert_true(file_write(path, text, strlen(text), NULL));
    return path;
}

static enum action find(const struct keys *k, enum keys_context at, const char *name)
{
    struct keys_chord c;

    assert_true(keys_parse(&c, name));
    return keys_find(k, at, &(struct key){ .kind = c.kind, .ch = c.ch, .mods = c.mods });
}

static void test_keys(void **state)
{
    (void)state;
    struct keys k;
    struct err e = { 0 };

    if (!config_keys(&k, file("# mine\nset: vi\nseed: [f11, alt-r]\nreset: f12\nmouse: []\n"), &e))
        fail_msg("%s", e.text);
    assert_int_equal(find(&k, KEYS_PROMPT, "f11"), ACTION_SEED);
    assert_int_equal(find(&k, KEYS_PROMPT, "alt-r"), ACTION_SEED);
    assert_int_equal(find(&k, KEYS_PROMPT, "f12"), ACTION_RESET);
    assert_int_equal(find(&k, KEYS_PROMPT, "f9"), ACTION_NONE);
    assert_int_equal(find(&k, KEYS_QUEUE, "j"), ACTION_DOWN); /* its set */
    if (!config_keys(&k, file("seed: alt-z\n"), &e)) fail_msg("%s", e.text);
    assert_int_equal(find(&k, KEYS_QUEUE, "j"), ACTION_NONE);
}

static void test_wrong_keys(void **state)
{
    (void)state;
    static const struct { const char *text, *said; } cases[] = {
        { "seed: hyper-x\n", "1:7: seed: \"hyper-x\" is no key" },
        { "# x\n\nsed: f6\n", "3:1: sed is no action: sluice keys lists them" },
        { "set: nano\n", "1:6: set is emacs or vi" },
        { "set: [vi]\n", "1:6: set is emacs or vi" },
        { "seed: {a: b}\n", "1:7: seed: a key or a list of keys is expected" },
        { "seed:\n", "seed: a key or a list of keys is expected" },
        { "seed: [f6, [f7]]\n", "a key is expected, like p" },
        { "seed: [a, b, c, d, e, f]\n", "at most 5" },
        { "seed: tab\n", "1:7: Tab is the key of both next and seed" },
        { "next: alt-s\n", "1:7: Alt-s is the key of both next and seed" },
        { "seed: f6\nseed: f7\n", "seed" }, /* twice */
        { "- seed\n", "map" },
        { "seed: [nope-1]\nreset: nope-2\n", "(and 1 more)" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct keys k;
        struct err e = { 0 };
        if (config_keys(&k, file(cases[i].text), &e)) fail_msg("case %zu is taken", i);
        if (!strstr(e.text, cases[i].said) || !strstr(e.text, "file.yaml")) fail_msg("case %zu: %s", i, e.text);
    }
}

static void test_themes(void **state)
{
    (void)state;
    static const struct { const char *text, *said; } cases[] = {
        { "base: pink\n", "1:7: base is auto, dark, light or mono" },
        { "accent: #ff0000\n", "a colour is \"#rrggbb\" (in quotes)" }, /* to YAML that is a comment */
        { "accent: \"#ff00\"\n", "1:9: a colour is" },
        { "accent: 256\n", "a colour is" },
        { "accent: 1.5\n", "a colour is" },
        { "accent: bright-\n", "a colour is" },
        { "accents: red\n", "1:1: accents is no role: use base, text" },
    };
    struct theme t;
    struct err e = { 0 };

    if (!config_theme(&t,
                      file("base: light\naccent: \"#7AA2f7\"\ngood: bright-green\nbad: 9\nwarn: grey\ndim: default\n"),
                      &e))
        fail_msg("%s", e.text);
    assert_int_equal(t.base, THEME_LIGHT);
    assert_int_equal(t.of[COLOUR_ACCENT].kind, THEME_RGB);
    assert_int_equal(t.of[COLOUR_ACCENT].value, 0x7aa2f7);
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_ACCENT).colour, 111);
    assert_int_equal(theme_look(&t, THEME_8_COLOURS, false, COLOUR_ACCENT).colour, 6);
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_GOOD).colour, 10);
    assert_int_equal(theme_look(&t, THEME_8_COLOURS, false, COLOUR_GOOD).colour, 2);
    assert_true(theme_look(&t, THEME_8_COLOURS, false, COLOUR_GOOD).bold);
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_BAD).colour, 9);
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_WARN).colour, 8);
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_DIM).colour, -1);
    /* NO_COLOR has the last word */
    assert_int_equal(theme_look(&t, THEME_NO_COLOURS, false, COLOUR_ACCENT).colour, -1);
    assert_true(theme_look(&t, THEME_NO_COLOURS, false, COLOUR_ACCENT).bold);
    /* what it leaves alone is light, whatever the ground is */
    assert_int_equal(theme_look(&t, THEME_256_COLOURS, false, COLOUR_BAR).colour,
                     theme_look(&(struct theme){ 0 }, THEME_256_COLOURS, true, COLOUR_BAR).colour);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err_clear(&e);
        if (config_theme(&t, file(cases[i].text), &e)) fail_msg("case %zu is taken", i);
        if (!strstr(e.text, cases[i].said)) fail_msg("case %zu: %s", i, e.text);
    }
}

/* Of the 256 colours every one that has a value of its own is nearest to itself. */
static void test_nearest(void **state)
{
    (void)state;
    static const int level[6] = { 0, 95, 135, 175, 215, 255 };

    for (int i = 16; i < 232; i++) {
        int c = i - 16;
        uint32_t rgb = (uint32_t)(level[c / 36] << 16 | level[c / 6 % 6] << 8 | level[c % 6]);
        assert_int_equal(theme_nearest_256(rgb), i);
    }
    for (int i = 232; i < 256; i++) assert_int_equal(theme_nearest_256((uint32_t)(8 + 10 * (i - 232)) * 0x10101), i);
    assert_int_equal(theme_nearest_8(0xff0000), 1);
    assert_int_equal(theme_nearest_16(0xf80808), 9);
    assert_int_equal(theme_nearest_16(0xc00000), 1);
    assert_int_equal(theme_nearest_16(0x808080), 8);
    assert_int_equal(theme_nearest_8(0x0000ff), 4);
    assert_int_equal(theme_nearest_8(0xffffff), 7);
}

static void test_where_they_are(void **state)
{
    (void)state;
    struct keys k;
    struct theme t;
    struct err e = { 0 };
    char sub[256];

    setenv("XDG_CONFIG_HOME", folder, 1);
    assert_true(config_user_keys(&k, &e) && config_user_theme(&t, NULL, &e)); /* none there: as they come */
    assert_int_equal(find(&k, KEYS_PROMPT, "alt-s"), ACTION_SEED);
    assert_int_equal(t.base, THEME_AUTO);
    snprintf(sub, sizeof sub, "%s/sluice", folder);
    mkdir(sub, 0700);
    assert_true(config_path(path, "keys.yaml") && file_write(path, "seed: f11\n", 9, &e));
    assert_true(config_path(path, "theme.yaml") && file_write(path, "base: dark\n", 11, &e));
    assert_true(config_user_keys(&k, &e) && config_user_theme(&t, NULL, &e));
    assert_int_equal(find(&k, KEYS_PROMPT, "f11"), ACTION_SEED);
    assert_int_equal(t.base, THEME_DARK);
    assert_true(config_user_theme(&t, "mono", &e)); /* asked for */
    assert_int_equal(t.base, THEME_MONO);
    assert_true(config_user_theme(&t, path, &e));
    assert_int_equal(t.base, THEME_DARK);
    assert_false(config_user_theme(&t, "pink", &e));
    assert_string_equal(e.text, "no theme \"pink\": use auto, dark, light, mono or a file");
    unlink(path);
    config_path(path, "keys.yaml");
    unlink(path);
    rmdir(sub);
    unsetenv("XDG_CONFIG_HOME");
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file(""));
    return rmdir(folder);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),    cmocka_unit_test(test_wrong_keys),     cmocka_unit_test(test_themes),
        cmocka_unit_test(test_nearest), cmocka_unit_test(test_where_they_are),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
