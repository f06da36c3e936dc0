/* test_preset_cli.c - the verbs of `sluice preset` that bring presets and take them away,
 * called as main calls them, with folders of their own for what is the user's. */
#include "engine/image.h"
#include "engine/preset.h"
#include "engine/shelf_own.h"
#include "tests/golden_model.h"
#include "tui/cmd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[FILE_PATH_MAX], said[65536];

static const char *in(const char *name)
{
    static char path[8][FILE_PATH_MAX];
    static int turn;
    return path_in(scratch, name, path[turn++ % 8]);
}

static void write_text(const char *path, const char *text)
{
    scratch_write(path, text, strlen(text));
}

/* Runs it; what it prints, on either stream, is in `said`. */
static int run(char *first, ...)
{
    char *argv[16] = { "preset", first };
    int argc = 2, out = dup(1), err = dup(2), fd = open(in("said"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    va_list ap;
    va_start(ap, first);
    for (char *word; argc < 15 && (word = va_arg(ap, char *));)
        argv[argc++] = word;
    va_end(ap);
    fflush(NULL);
    dup2(fd, 1);
    dup2(fd, 2);
    int status = cmd_preset(argc, argv);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    ssize_t n = pread(fd, said, sizeof said - 1, 0);
    said[n > 0 ? n : 0] = '\0';
    close(fd);
    close(out);
    close(err);
    return status;
}

#define RUN(...) run(__VA_ARGS__, (char *)NULL)

static void says(const char *what)
{
    if (!strstr(said, what))
        fail_msg("\"%s\" is not in\n%s", what, said);
}

static void good(int status)
{
    if (status)
        fail_msg("status %d: %s", status, said);
}

static void refused(int status, int expected, const char *what)
{
    if (status != expected)
        fail_msg("status %d, not %d: %s", status, expected, said);
    says(what);
}

static char *arg(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void import_keeps_what_it_can(void **unused)
{
    (void)unused;
    struct image *im = image_new(2, 2, NULL);
    struct image_text text = { "parameters", "a \"quoted\" {cat} \\ dog: # no comment, with more and more words so "
                               "that the line has to be folded somewhere  around here\nNegative prompt: null\n"
                               "Steps: 20, Sampler: Heun, Seed: 5, Size: 64x64, Face restoration: GFPGAN" };
    assert_true(image_write_png(im, in("My Cat.png"), &text, 1, NULL));
    image_free(im);
    good(RUN("import", arg(in("My Cat.png"))));
    says("It is the preset my-cat now");
    says("Heun <- Sampler");
    says("Face restoration GFPGAN: nothing is done to the picture afterwards");
    good(RUN("check", arg(in("c/sluice/presets/my-cat.yaml"))));
    /* every character of it is the same again */
    struct preset p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    assert_true(preset_load(&p, in("c/sluice/presets/my-cat.yaml"), &f, &e));
    char *prompt = preset_prompt(&p, NULL, &e);
    assert_string_equal(prompt, "a \"quoted\" {cat} \\ dog: # no comment, with more and more words so that the line "
                        "has to be folded somewhere  around here");
    assert_string_equal(sheet_find(&p.rows, setting_find("negative"))->text, "null");
    free(prompt);
    preset_free(&p);
    refused(RUN("import", arg(in("My Cat.png"))), 1, "there is a preset my-cat already");
    good(RUN("import", arg(in("My Cat.png")), "--as", "Other"));
    refused(RUN("import", arg(in("My Cat.png")), "--as", "../.."), 1, "nothing that can stand in a file's name");
    refused(RUN("import", arg(in("nosuch.png"))), 1, "nosuch.png");
    refused(RUN("import"), 2, "import takes one file");
    refused(RUN("import", "x", "--as"), 2, "--as needs a value");
    refused(RUN("import", "x", "-o", "y"), 2, "import has no such option");
}

static void import_keeps_a_preset_as_it_is(void **unused)
{
    (void)unused;
    static const char text[] = "# a friend's\nsluice: 1\nname: Friend\nprofile: small.yaml\nprompt: a {dog} in snow\n";
    mkdir(in("friend"), 0700);
    write_text(in("friend/snow.yaml"), text);
    write_text(in("friend/small.yaml"), "sluice: 1\nbudget: 6G\n");
    good(RUN("import", arg(in("friend/snow.yaml"))));
    size_t bytes;
    char *copy = file_read(in("c/sluice/presets/snow.yaml"), 4096, &bytes, NULL);
    assert_string_equal(copy, text);
    free(copy);
    assert_true(file_exists(in("c/sluice/presets/small.yaml")));
    good(RUN("import", arg(in("friend/snow.yaml")), "--as", "Ice"));
    good(RUN("show", "ice"));
    says("Ice\n");
    write_text(in("friend/bad.yaml"), "sluice: 1\nname: x\nsteps: 0\n");
    refused(RUN("import", arg(in("friend/bad.yaml"))), 1, "bad.yaml:3:8: steps is 0");
    assert_false(file_exists(in("c/sluice/presets/bad.yaml")));
}

static void export_names_the_models_files(void **unused)
{
    (void)unused;
    good(RUN("export", "emoji", "-o", arg(in("e.yaml"))));
    good(RUN("verify", arg(in("e.yaml"))));
    says("8 of 8 files are those");
    good(RUN("diff", "emoji", arg(in("e.yaml"))));
    assert_null(strstr(said, "\n-prompt"));
    good(RUN("export", "emoji"));
    says("sha256:");
    refused(RUN("export", "draft"), 1, "another can be given with -m");
    good(RUN("export", "draft", "-m", "demo"));
    says("name: demo");
    /* with the profile beside it, but never over another's */
    mkdir(in("away"), 0700);
    good(RUN("export", arg(in("friend/snow.yaml")), "-m", "demo", "-o", arg(in("away/snow.yaml"))));
    good(RUN("check", arg(in("away/snow.yaml"))));
    write_text(in("away/small.yaml"), "sluice: 1\nbudget: 7G\n");
    refused(RUN("export", arg(in("friend/snow.yaml")), "-m", "demo", "-o", arg(in("away/two.yaml"))), 1,
            "is there already");
    assert_false(file_exists(in("away/two.yaml")));
    refused(RUN("export", "emoji", "-o", arg(in("no/such/folder.yaml"))), 1, "no/such");
}

static void ones_own_move_and_come_back(void **unused)
{
    (void)unused;
    good(RUN("duplicate", "emoji", "mine"));
    write_text(in("c/sluice/presets/mine.png"), "a picture");
    good(RUN("rename", "mine", "yours"));
    assert_false(shelf_own_is(SHELF_PRESETS, "mine"));
    assert_true(file_exists(in("c/sluice/presets/yours.png")));
    refused(RUN("rename", "emoji", "x"), 1, "came with the program and stays as it is: duplicate it first");
    refused(RUN("rename", "nosuch", "x"), 1, "no preset \"nosuch\" of your own");
    good(RUN("duplicate", "yours", "third"));
    assert_true(file_exists(in("c/sluice/presets/third.png")));
    refused(RUN("rename", "yours", "third"), 1, "there is a preset third already");
    refused(RUN("duplicate", "yours", "a/b"), 1, "is no name for a preset");
    refused(RUN("duplicate", "yours", "a", "b"), 2, "duplicate takes a preset and a new name");
    /* one that hides a shipped one, under its name */
    good(RUN("duplicate", "yours", "draft"));
    good(RUN("delete", "draft", "third"));
    assert_false(shelf_own_is(SHELF_PRESETS, "third"));
    assert_false(file_exists(in("c/sluice/presets/third.png")));
    refused(RUN("delete", "draft"), 1, "came with the program");
    good(RUN("restore"));
    says("third is back");
    assert_true(file_exists(in("c/sluice/presets/third.png")));
    refused(RUN("restore", "third"), 1, "no preset \"third\" in the trash");
    good(RUN("restore", "draft"));
    refused(RUN("restore"), 1, "no preset in the trash");
    /* two of one name: the last comes first, and is not put over another */
    good(RUN("delete", "third"));
    good(RUN("duplicate", "ice", "third"));
    refused(RUN("restore", "third"), 1, "there is a preset third already");
    good(RUN("delete", "third"));
    good(RUN("restore", "third"));
    good(RUN("show", "third"));
    says("Ice\n");
}

static void names_are_made_of_anything(void **unused)
{
    (void)unused;
    char name[SHELF_NAME_MAX], text[300];
    static const char *const cases[][2] = {
        { "My Cat, 2", "my-cat-2" }, { "../../etc/passwd", "etc-passwd" }, { ".hidden", "hidden" }, { "-x", "x" },
        { "a\x1b[2Jb", "a-2jb" },    { "caf\xc3\xa9 noir", "caf-noir" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(shelf_slug(name, cases[i][0]));
        assert_string_equal(name, cases[i][1]);
        assert_true(shelf_is_name(name));
    }
    assert_false(shelf_slug(name, "\xe7\x8c\xab / "));
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_true(shelf_slug(name, text) && shelf_is_name(name));
}

static int setup(void **unused)
{
    (void)unused;
    scratch_make_cache(scratch);
    setenv("XDG_CONFIG_HOME", in("c"), 1);
    setenv("XDG_STATE_HOME", in("s"), 1);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(import_keeps_what_it_can),      cmocka_unit_test(import_keeps_a_preset_as_it_is),
        cmocka_unit_test(export_names_the_models_files), cmocka_unit_test(ones_own_move_and_come_back),
        cmocka_unit_test(names_are_made_of_anything),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
