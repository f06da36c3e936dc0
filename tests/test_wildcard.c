/* test_wildcard.c - prompts with choices in them, and the jobs that a contact sheet
 * is made of. */
#include "engine/contact.h"
#include "engine/wildcard.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* --- lists ---------------------------------------------------------------------------- */

static char *read_list(void *user, const char *name, struct err *e)
{
    static const struct { const char *name, *text; } lists[] = {
        { "colour", "# of the rainbow\nred\r\n\ngreen\n  \nblue" },
        { "pet", "{old|young} cat\n__colour__ fish\n" },
        { "round", "__round__\n" },
        { "empty", "# nothing\n\n" },
        { "bad", "fine\nnot {fine\n" },
    };
    (void)user;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (!strcmp(lists[i].name, name))
            return strdup(lists[i].text);
    err_set(e, ERR_INPUT, "no list %s", name);
    return NULL;
}

static const struct wildcard_lists lists = { read_list, NULL };

/* "a/b/c": all texts; or the fault. */
static const char *all_of(const char *text)
{
    static char joined[4096];
    struct wildcard *w;
    struct err e = { 0 };
    joined[0] = '\0';
    if (!wildcard_parse(&w, text, &lists, &e)) {
        assert_null(w);
        return strcpy(joined, e.text);
    }
    for (uint64_t i = 0; i < wildcard_count(w); i++) {
        char *one = wildcard_at(w, i, &e);
        snprintf(joined + strlen(joined), sizeof joined - strlen(joined), "%s%s", i ? "/" : "", one);
        free(one);
    }
    wildcard_free(w);
    return joined;
}

static void every_text(void **state)
{
    (void)state;
    static const struct { const char *text, *all; } cases[] = {
        { "", "" },
        { "plain | text :: with _ and __ and 3:: too", "plain | text :: with _ and __ and 3:: too" },
        { "a {red|blue} hat", "a red hat/a blue hat" },
        { "{red|blue|}", "red/blue/" },
        { "{}", "" },
        { "{one}", "one" },
        { "{a|b} {1|2}", "a 1/a 2/b 1/b 2" },
        { "{a {x|y}|b} {1|2}", "a x 1/a x 2/a y 1/a y 2/b 1/b 2" },
        { "{3::red|0.5::blue}", "red/blue" },
        { "{3:red|::x|a::b}", "3:red/::x/a::b" },
        { "\\{not\\|one\\} \\\\ \\_\\_x__ \\n", "{not|one} \\ __x__ \\n" },
        { "{a\\|b|c\\}}", "a|b/c}" },
        { "__colour__ __x y__ __ ____", "red __x y__ __ ____/green __x y__ __ ____/blue __x y__ __ ____" },
        { "a __pet__", "a old cat/a young cat/a red fish/a green fish/a blue fish" },
        { "{__colour__|pink}", "red/green/blue/pink" },
        { "_{a|b}_", "_a_/_b_" },
        { "\xc3\xa9{\xe2\x82\xac|}\xff", "\xc3\xa9\xe2\x82\xac\xff/\xc3\xa9\xff" },
        { "tail\\", "tail\\" },

        { "a {b", "column 3: this { is not closed; a brace of the text is written \\{" },
        { "a {b|{c}", "column 3: this { is not closed; a brace of the text is written \\{" },
        { "a} b", "column 2: this } closes nothing; a brace of the text is written \\}" },
        { "{0::a|b}", "column 2: a weight is a number above 0 and up to 1000000" },
        { "x{a|1.2.3::b}", "column 5: a weight is a number above 0 and up to 1000000" },
        { "x {a|__none__}", "column 6: no list none" },
        { "__empty__", "list empty: it has no lines" },
        { "__bad__", "list bad, line 2: column 5: this { is not closed; a brace of the text is written \\{" },
        { "{{{{{{{{{{{{{{{{{x}}}}}}}}}}}}}}}}}", "column 17: braces and lists are too deep within each other" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(all_of(cases[i].text), cases[i].all);
    assert_non_null(strstr(all_of("__round__"), "does a list name itself?"));
    struct wildcard *w;
    struct err e = { 0 };
    assert_false(wildcard_parse(&w, "__colour__", NULL, &e));
    assert_non_null(strstr(e.text, "there are no lists here"));
}

static void counts_without_making(void **state)
{
    (void)state;
    char text[4 * 128 + 1] = "";
    struct wildcard *w;
    struct err e = { 0 };
    for (int i = 0; i < 100; i++)
        strcat(text, "{|}");
    assert_true(wildcard_parse(&w, text, NULL, &e));
    assert_true(wildcard_count(w) == UINT64_MAX);
    wildcard_free(w);
    text[3 * 40] = '\0';
    assert_true(wildcard_parse(&w, text, NULL, &e));
    assert_true(wildcard_count(w) == (uint64_t)1 << 40);
    char *one = wildcard_at(w, ((uint64_t)1 << 40) - 1, &e);
    assert_string_equal(one, "");
    free(one);
    wildcard_free(w);
}

static void drawn_by_weight_and_seed(void **state)
{
    (void)state;
    struct wildcard *w;
    struct err e = { 0 };
    int red = 0;
    assert_true(wildcard_parse(&w, "{3::red|blue}", NULL, &e));
    for (uint64_t seed = 0; seed < 4000; seed++) {
        char *a = wildcard_draw(w, seed, &e), *b = wildcard_draw(w, seed, &e);
        assert_string_equal(a, b);
        red += !strcmp(a, "red");
        free(a);
        free(b);
    }
    assert_in_range(red, 2850, 3150); /* 3000, and five times its spread */
    wildcard_free(w);
}

static void a_job_becomes_a_batch(void **state)
{
    (void)state;
    struct job j;
    struct model none = { 0 };
    struct err e = { 0 };
    assert_true(job_init(&j, &none, &e) && job_set_string(&j.prompt, "{a|b}", &e) && job_add_prompt(&j, "c", &e));
    assert_true(wildcard_job(&j, 0, NULL, &e));
    assert_int_equal(j.more_count, 2);
    assert_string_equal(j.prompt, "a");
    assert_string_equal(j.more[0], "b");
    assert_string_equal(j.more[1], "c");
    assert_true(wildcard_job(&j, 3, NULL, &e)); /* three of each */
    assert_int_equal(j.more_count, 8);

    assert_true(job_set_string(&j.prompt, "{a|b}{a|b}{a|b}{a|b}{a|b}{a|b}{a|b}{a|b}{a|b}{a|b}", &e)); /* 1024 */
    assert_false(wildcard_job(&j, 0, NULL, &e));
    assert_non_null(strstr(e.text, "more than 1000 prompts"));
    assert_int_equal(j.more_count, 8); /* as it was */
    err_clear(&e);
    assert_false(wildcard_job(&j, 200, NULL, &e));
    job_free(&j);
}

/* Whatever the text, it is parsed or refused, and what it makes can be made. */
static void any_text_does_no_harm(void **state)
{
    (void)state;
    static const char letters[] = "{}|\\:_3.{}|a __colour____pet____round__\n";
    const char *given = getenv("SLUICE_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL), x = seed * 0x9e3779b97f4a7c15u | 1;
    print_message("seed %llu (SLUICE_SEED)\n", (unsigned long long)seed);
    char text[64] = "a {3::red|{x|y}} __pet__ \\{ {|b}";
    for (int round = 0; round < 20000; round++) {
        struct wildcard *w;
        struct err e = { 0 };
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        text[x % 40] = letters[(x >> 8) % (sizeof letters - 1)];
        if ((x >> 20) % 8 == 0)
            strcpy(text, "a {3::red|{x|y}} __pet__ \\{ {|b} __colour__");
        if (!wildcard_parse(&w, text, &lists, &e)) {
            assert_true(e.text[0]);
            continue;
        }
        uint64_t count = wildcard_count(w);
        assert_true(count > 0);
        char *first = wildcard_at(w, 0, &e), *last = wildcard_at(w, count - 1, &e), *drawn = wildcard_draw(w, x, &e);
        assert_true(first && last && drawn);
        free(first);
        free(last);
        free(drawn);
        wildcard_free(w);
    }
}

/* --- the contact sheet --------------------------------------------------------------- */

static void a_sheet_and_what_is_finished_of_it(void **state)
{
    (void)state;
    struct job j, sheet, one;
    struct model none = { 0 };
    struct err e = { 0 };
    assert_true(job_init(&j, &none, &e) && job_set_string(&j.prompt, "p", &e) && job_add_prompt(&j, "q", &e) &&
                job_set_string(&j.out, "/x/name.png", &e));
    j.width = 1024;
    j.height = 640;
    j.steps = 28;
    j.seed = 100;
    j.count = 2;
    assert_true(contact_sheet(&sheet, &j, &(struct contact){ .seeds = 12 }, &e));
    assert_int_equal(job_pictures(&sheet), 12);
    assert_int_equal(job_seed(&sheet, 11), 111);
    assert_int_equal(sheet.steps, 5);
    assert_int_equal(sheet.width, 1024);
    assert_string_equal(sheet.out, "/x/name-contact.png");
    job_free(&sheet);
    assert_true(contact_sheet(&sheet, &j, &(struct contact){ .seeds = 1, .steps = 3, .side = 256 }, &e));
    assert_int_equal(sheet.steps, 3);
    assert_int_equal(sheet.width, 256);
    assert_int_equal(sheet.height, 160);
    job_free(&sheet);
    assert_true(contact_finish(&one, &j, 7, &e));
    assert_int_equal(one.seed, 107);
    assert_int_equal(one.steps, 28);
    assert_int_equal(one.width, 1024);
    assert_int_equal(job_pictures(&one), 1);
    assert_string_equal(one.out, "/x/name-seed-107.png");
    job_free(&one);
    assert_false(contact_sheet(&sheet, &j, &(struct contact){ .seeds = 0 }, &e));
    job_free(&sheet);
    job_free(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_text),
        cmocka_unit_test(counts_without_making),
        cmocka_unit_test(drawn_by_weight_and_seed),
        cmocka_unit_test(a_job_becomes_a_batch),
        cmocka_unit_test(any_text_does_no_harm),
        cmocka_unit_test(a_sheet_and_what_is_finished_of_it),
    };
    return cmocka_run_group_tests_name("wildcard", tests, NULL, NULL);
}
