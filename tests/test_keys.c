/* test_keys.c - the table of keys: every name in it can be read, no key means two
 * things in one place, in either set; bindings, contexts, the texts made of it. */
#include "tui/keys.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static enum action find(const struct keys *k, enum keys_context at, const char *name)
{
    struct keys_chord c;

    if (!keys_parse(&c, name)) fail_msg("\"%s\" is no key", name);
    return keys_find(k, at, &(struct key){ .kind = c.kind, .ch = c.ch, .mods = c.mods });
}

static void test_table(void **state)
{
    (void)state;
    struct keys k;
    struct err e = { 0 };
    enum action which[2];

    for (int set = 0; set < KEYS_SETS; set++) {
        keys_init(&k, (enum keys_set)set);
        if (!keys_check(&k, which, &e)) fail_msg("%s: %s", keys_set_name[set], e.text);
        for (int a = 1; a < ACTION_COUNT; a++) {
            const struct keys_action *row = keys_action((enum action)a);
            const char *s = row->keys[set] ? row->keys[set] : row->keys[KEYS_EMACS];
            int names = *s != 0, found = 0;
            for (const char *c = s; *c; c++) names += *c == ' ';
            for (int i = 0; i < KEYS_EACH; i++) found += k.of[a][i].kind != K_NONE;
            if (names != found) fail_msg("%s: not every key of \"%s\" is one", row->name, s);
            assert_int_equal(keys_action_named(row->name), a);
            assert_false(row->contexts & ~(unsigned)KEYS_ANYWHERE);
            assert_true(row->contexts != 0);
            assert_false(keys_action((enum action)a)->contexts & ~keys_groups[keys_group_of((enum action)a)].contexts);
        }
    }
    assert_int_equal(keys_action_named("nothing"), ACTION_NONE);
}

static void test_names(void **state)
{
    (void)state;
    static const struct { const char *text, *shown; } good[] = {
        { "p", "p" },           { "ctrl-p", "^P" },     { "CTRL-P", "^P" },        { "alt-p", "Alt-p" },
        { "Alt-P", "Alt-P" },   { "f10", "F10" },       { "page-up", "PgUp" },     { "shift-tab", "Shift-Tab" },
        { "space", "Space" },   { "ctrl-space", "^Space" }, { "?", "?" },          { "-", "-" },
        { "ctrl-_", "^_" },     { "alt-enter", "Alt-Enter" }, { "ctrl-left", "^Left" }, { "ä", "ä" },
        { "ctrl-alt-x", "^Alt-X" }, { "shift-up", "Shift-Up" },
    };
    static const char *const bad[] = { "", "pp", "ctrl-", "ctrl-1", "ctrl-ä", "f13", "shift-a", "super-x", "\033",
                                       "\xff", " " };
    struct keys_chord c;
    char buf[KEYS_NAME_MAX];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (!keys_parse(&c, good[i].text)) fail_msg("\"%s\" is no key", good[i].text);
        assert_string_equal(keys_chord_name(&c, buf), good[i].shown);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (keys_parse(&c, bad[i])) fail_msg("\"%s\" is a key", bad[i]);
}

static void test_contexts(void **state)
{
    (void)state;
    struct keys k;

    keys_init(&k, KEYS_EMACS);
    assert_int_equal(find(&k, KEYS_FIELD, "?"), ACTION_HELP);
    assert_int_equal(find(&k, KEYS_PROMPT, "?"), ACTION_NONE); /* there it is text */
    assert_int_equal(find(&k, KEYS_PROMPT, "f1"), ACTION_HELP);
    assert_int_equal(find(&k, KEYS_PROMPT, "esc"), ACTION_CANCEL);
    assert_int_equal(find(&k, KEYS_HELP, "esc"), ACTION_BACK);
    assert_int_equal(find(&k, KEYS_QUEUE, "enter"), ACTION_OK);
    assert_int_equal(find(&k, KEYS_QUEUE, "j"), ACTION_NONE);
    assert_int_equal(find(&k, KEYS_DIALOG, "ctrl-q"), ACTION_QUIT);
    keys_init(&k, KEYS_VI);
    assert_int_equal(find(&k, KEYS_QUEUE, "j"), ACTION_DOWN);
    assert_int_equal(find(&k, KEYS_FIELD, "k"), ACTION_UP);
    assert_int_equal(find(&k, KEYS_PROMPT, "esc"), ACTION_LEAVE);
    assert_int_equal(find(&k, KEYS_PROMPT, "i"), ACTION_NONE);
    assert_int_equal(find(&k, KEYS_FIELD, "i"), ACTION_ENTER);
}

static void test_binding(void **state)
{
    (void)state;
    struct keys k;
    struct err e = { 0 };
    enum action which[2];
    char name[KEYS_NAME_MAX], names[KEYS_NAMES_MAX];

    keys_init(&k, KEYS_EMACS);
    assert_true(keys_rebind(&k, ACTION_SEED, (const char *const[]){ "f6", "alt-r" }, 2, &e));
    assert_int_equal(find(&k, KEYS_PROMPT, "alt-s"), ACTION_NONE);
    assert_int_equal(find(&k, KEYS_PROMPT, "f6"), ACTION_SEED);
    assert_string_equal(keys_names(&k, ACTION_SEED, names), "F6 Alt-r");
    assert_string_equal(keys_name(&k, ACTION_HELP, KEYS_FIELD, name), "^G");
    assert_true(keys_rebind(&k, ACTION_SEED, NULL, 0, &e)); /* none at all */
    assert_string_equal(keys_name(&k, ACTION_SEED, KEYS_MAIN, name), "");
    assert_true(keys_check(&k, which, &e));
    assert_true(keys_rebind(&k, ACTION_SEED, (const char *const[]){ "tab" }, 1, &e));
    assert_false(keys_check(&k, which, &e));
    assert_string_equal(e.text, "Tab is the key of both next and seed, which are there at one time");
    err_clear(&e);
    assert_false(keys_rebind(&k, ACTION_SEED, (const char *const[]){ "ctrl-p", "hyper-x" }, 2, &e));
    assert_string_equal(e.text, "seed: \"hyper-x\" is no key; keys are written like p, ctrl-p, alt-p, f5, page-up");
    assert_string_equal(keys_names(&k, ACTION_SEED, names), "Tab"); /* as it was */
    /* a letter where letters are text is no conflict, elsewhere it is */
    keys_init(&k, KEYS_EMACS);
    err_clear(&e);
    assert_true(keys_rebind(&k, ACTION_LEAVE, (const char *const[]){ "?" }, 1, &e) && keys_check(&k, which, &e));
    assert_true(keys_rebind(&k, ACTION_ENTER, (const char *const[]){ "?" }, 1, &e));
    assert_false(keys_check(&k, which, &e));
    assert_int_equal(which[0], ACTION_ENTER);
    assert_int_equal(which[1], ACTION_HELP);
}

static void test_texts(void **state)
{
    (void)state;
    struct keys k;
    char *text, *names = NULL;

    keys_init(&k, KEYS_EMACS);
    text = keys_text(&k);
    assert_non_null(strstr(text,
                           "\n  generate          Enter                generate; while one runs, queue another\n"));
    assert_non_null(strstr(text, "^W Alt-d"));
    for (int a = 1; a < ACTION_COUNT; a++)
        if (keys_action((enum action)a)->help) {
            if (asprintf(&names, "\n  %s ", keys_action((enum action)a)->name) < 0) fail();
            if (!strstr(text, names)) fail_msg("%s is missing", names);
            free(names);
        }
    free(text);
}

/* The manual page has the keys as the table has them. */
static void test_manual(void **state)
{
    (void)state;
    struct keys k;
    char *made, page[100000] = "";
    FILE *f = fopen("man/sluice.1", "r");

    if (!f) skip();
    page[fread(page, 1, sizeof page - 1, f)] = 0;
    fclose(f);
    keys_init(&k, KEYS_EMACS);
    made = keys_manual(&k);
    if (!strstr(page, made)) {
        fputs(made, stderr);
        fail_msg("the section Keys of man/sluice.1 is not what sluice keys --man prints");
    }
    free(made);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),    cmocka_unit_test(test_names), cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_binding),  cmocka_unit_test(test_texts), cmocka_unit_test(test_manual),
    };

    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
