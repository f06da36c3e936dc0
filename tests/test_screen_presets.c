/* test_screen_presets.c - the presets screen as text: the list and what each preset would
 * change, a stranger's file before it is applied, every key, empty folders, broken
 * presets, hostile names. Goldens have answers made by hand; the rest is granted by
 * the real service on a worker's thread, in folders of the test's own. */
#include "engine/image.h"
#include "engine/preset_write.h"
#include "engine/setting.h"
#include "engine/shelf_own.h"
#include "tests/golden_model.h"
#include "tests/view_help.h"
#include "tui/presets.h"
#include "tui/service_preset.h"
#include "tui/worker.h"

#include <locale.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[FILE_PATH_MAX];
static struct worker *worker;

static const char *in(const char *name)
{
    static char path[8][FILE_PATH_MAX];
    static int turn;

    return path_in(scratch, name, path[turn++ % 8]);
}

static const char *write_text(const char *name, const char *text)
{
    const char *path = in(name);

    scratch_write(path, text, strlen(text));
    return path;
}

/* --- granting -------------------------------------------------------------------------- */

static void grant(struct view *v, struct wish w)
{
    if (w.kind != WISH_PRESETS) return;
    service_preset(worker, v, fake_model(), w.presets);
    if (poll(&(struct pollfd){ .fd = worker_fd(worker), .events = POLLIN }, 1, 5000) != 1)
        fail_msg("the worker does not answer");
    for (struct worker_job *j; (j = worker_take(worker));) j->done(j, NULL);
}

/* As the loop does: draws, and grants what the screen needs. */
static void settle(struct view *v)
{
    screen(v, 80, 24);
    for (struct wish w; (w = view_needs(v)).kind;) grant(v, w);
}

static void key(struct view *v, enum key_kind kind)
{
    grant(v, press(v, kind));
    settle(v);
}

static void keys(struct view *v, const char *text)
{
    for (char one[2] = ""; *text; text++) {
        one[0] = *text;
        grant(v, type(v, one));
    }
    settle(v);
}

static void paste(struct view *v, const char *text)
{
    grant(v, view_key(v, &(struct key){ .kind = K_PASTE, .text = text, .bytes = strlen(text) }));
    settle(v);
}

static struct view *opened(void)
{
    struct view *v = make_view("Old", NULL);

    press(v, K_F2);
    settle(v);
    return v;
}

/* The line of a dialog, emptied. */
static void empty_line(struct view *v)
{
    ctrl(v, 'e');
    ctrl(v, 'u');
}

/* --- by hand ----------------------------------------------------------------------------- */

static void add(struct presets_answer *a, const char *name, bool own, const char *yaml)
{
    struct presets_item *i = &a->item[a->count++];
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };

    snprintf(i->name, sizeof i->name, "%s", name);
    i->own = own;
    if (!preset_load(&i->preset, write_text("hand.yaml", yaml), &faults, &e))
        assert_true(asprintf(&i->faults, "%s", strstr(faults.at[0].text, "hand.yaml")) > 0);
}

static const char long_prompt[] =
    "sluice: 1\nname: Portrait photograph\nabout: a person in soft window light; less guidance than usual, for skin "
    "that looks like skin\n"
    "model:\n  name: FLUX.1-dev\nprompt: >-\n  Portrait photograph of {an old fisherman with a grey beard and a wool "
    "cap}, looking past the "
    "camera.\n  Soft window light from the left, 85 mm lens at f/2.\nsize: 896x1152\nsteps: 30\nguidance: 2.4\n";

static struct presets_answer by_hand(void)
{
    struct presets_answer a = { .op = PRESETS_LIST, .ok = true, .item = calloc(8, sizeof *a.item) };

    add(&a, "broken", true, "sluice: 1\nname: Broken\nsteps: 0\n");
    add(&a, "draft", false, "sluice: 1\nname: Draft\nmodel:\n  name: fake-model\nsize: 512x512\nsteps: 8\n"
        "sampler: dpmpp_2m\n");
    add(&a, "portrait", false, long_prompt);
    add(&a, "same", true, "sluice: 1\nname: The same\nabout: as the form is\n");
    return a;
}

static struct view *opened_by_hand(const char *choice)
{
    struct view *v = make_view("Old", NULL);
    struct presets_answer a = by_hand();
    struct wish w;

    press(v, K_F2);
    screen(v, 80, 24);
    has(v, "reading the presets");
    w = view_needs(v);
    assert_int_equal(w.kind, WISH_PRESETS);
    assert_int_equal(w.presets->op, PRESETS_LIST);
    view_presets(v, &a);
    assert_null(a.item);
    for (int i = 0; i < 4 && choice; i++) {
        w = view_needs(v);
        assert_int_equal(w.presets->op, PRESETS_PICTURE);
        if (!strcmp(w.presets->name, choice)) break;
        press(v, K_DOWN);
    }
    return v;
}

static void test_the_list(void **state)
{
    (void)state;
    struct view *v = opened_by_hand("portrait");
    struct presets_answer a = { .op = PRESETS_PICTURE, .ok = true, .name = "portrait",
                                .picture = fake_image(64, 80, 3) };

    golden(v, "presets", 80, 24);
    view_presets(v, &a);
    golden(v, "presets", 120, 40);
    golden(v, "presets", 200, 60);
    golden(v, "presets", 40, 10);
    view_free(v);
    v = opened_by_hand("broken");
    has(v, "It cannot be loaded:");
    has(v, "hand.yaml:3:8: steps is 0: give 1 to 1000");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    has(v, "broken cannot be loaded");
    view_free(v);
    v = opened_by_hand("same");
    has(v, "Nothing: the form says the same.");
    view_free(v);
}

/* A picture of a stranger's, looked at. */
static struct presets_answer stranger(const char *path)
{
    struct presets_answer a = { .op = PRESETS_LOOK, .ok = true, .import = calloc(1, sizeof *a.import) };
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };
    const char *text = "a {lighthouse} in fog <lora:oil:0.6>\nNegative prompt: people\nSteps: 24, Sampler: Heun, "
                       "Schedule type: Beta, "
                       "CFG scale: 2.5, Distilled CFG Scale: 3.2, Seed: 77, Size: 768x512, Model: flux1-dev-fp8, Hires "
                       "upscale: 2, "
                       "Version: f2.0.1";

    if (!import_read(a.import, write_text("stranger.txt", text), &faults, &e)) fail_msg("%s", e.text);
    snprintf(a.import->path, sizeof a.import->path, "/home/me/Downloads/stranger.png");
    snprintf(a.path, sizeof a.path, "%s", path);
    return a;
}

static void test_a_strangers_file(void **state)
{
    (void)state;
    struct view *v = opened_by_hand(NULL);
    struct presets_answer a = stranger("/home/me/Downloads/stranger.png");
    struct wish w = view_key(v, &(struct key){ .kind = K_PASTE, .text = "'/home/me/Downloads/stranger.png' ",
                                               .bytes = 34 });
    struct job j = { 0 };

    assert_int_equal(w.presets->op, PRESETS_LOOK);
    assert_string_equal(w.presets->path, "/home/me/Downloads/stranger.png");
    view_presets(v, &a);
    golden(v, "presets-look", 80, 24);
    golden(v, "presets-look", 120, 40);
    golden(v, "presets-look", 200, 60);
    /* nothing has changed yet, nor has the preset's name */
    assert_true(view_job(v, &j, NULL));
    assert_string_equal(j.prompt, "");
    assert_int_equal(j.steps, 20);
    job_free(&j);
    press(v, K_END);
    has(v, "Hires upscale 2: there is one pass here");
    press(v, K_ESC);
    has(v, "Nothing was changed");
    /* once more, and applied */
    a = stranger("/home/me/x.png");
    view_key(v, &(struct key){ .kind = K_PASTE, .text = "file:///home/me/x%2Epng\n", .bytes = 24 });
    view_presets(v, &a);
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    assert_true(view_job(v, &j, NULL));
    assert_string_equal(j.prompt, "a {lighthouse} in fog");
    assert_int_equal(j.sampler, SAMPLER_HEUN);
    assert_int_equal(j.rng, RNG_PHILOX);
    assert_int_equal(j.seed, 77);
    job_free(&j);
    has(v, "fake-model │ stranger ");
    has(v, "stranger is made for FLUX.1-dev, and this is fake-model");
    has(v, "Prompt");
    view_free(v);
}

static void test_an_answer_that_is_late(void **state)
{
    (void)state;
    struct view *v = opened_by_hand(NULL);
    struct presets_answer a = stranger("/a/b.png");

    /* another file has been asked for, or none: nothing opens by itself */
    view_presets(v, &a);
    has(v, "4 presets");
    paste(v, "/nowhere/at/all.png");
    has(v, "/nowhere/at/all.png");
    a = stranger("/c.png");
    press(v, K_F2);
    view_presets(v, &a);
    has(v, "Settings");
    view_free(v);
}

/* --- with files ---------------------------------------------------------------------------- */

static void load(struct view *v, const char *search)
{
    press(v, K_F2);
    settle(v);
    keys(v, search);
    key(v, K_ENTER);
    key(v, K_ENTER);
}

static void says(struct view *v, const char *prompt, const char *negative, uint64_t seed)
{
    struct job j = { 0 };

    assert_true(view_job(v, &j, NULL));
    assert_string_equal(j.prompt, prompt);
    assert_string_equal(j.negative, negative);
    assert_int_equal(j.seed, seed);
    job_free(&j);
}

/* A preset that says how a picture is made, not which, takes the user's words along. */
static void test_own_words_stay(void **state)
{
    (void)state;
    struct view *v = opened();
    struct job j = { 0 };
    struct err e = { 0 };

    press(v, K_ESC);
    assert_true(view_job(v, &j, NULL));
    assert_true(job_set_string(&j.prompt, "a {red|green} fox", &e) && job_set_string(&j.negative, "people", &e));
    j.seed = 7;
    j.random_seed = false;
    assert_true(view_load(v, &j, "mine", "", &e));
    job_free(&j);
    load(v, "/draft");
    says(v, "a {red|green} fox", "people", 7);
    load(v, "/sticker");
    says(v, "Die-cut vinyl sticker of a {red|green} fox, thick white border, bold outlines, flat bright colours, "
            "on a plain mid-grey background, no text.", "people", 7);
    press(v, K_F2);
    settle(v);
    keys(v, "s");
    empty_line(v);
    keys(v, "Fox");
    key(v, K_ENTER);
    has(v, "The form is now the preset fox");
    size_t bytes;
    char *text = file_read(in("c/sluice/presets/fox.yaml"), 65536, &bytes, NULL);
    assert_non_null(strstr(text, "Die-cut vinyl sticker of {a {{red|green}} fox}, thick"));
    free(text);
    key(v, K_ESC);
    load(v, "/portrait");
    says(v, "Portrait photograph of a {red|green} fox, looking past the camera. Soft window light from the left, "
            "85 mm lens at f/2, natural skin texture, plain dark background.", "people", 7);
    view_free(v);
    /* the words that a preset came with are not the user's */
    v = opened();
    press(v, K_ESC);
    load(v, "/sticker");
    load(v, "/draft");
    load(v, "/ink");
    assert_true(view_job(v, &j, NULL));
    assert_non_null(strstr(j.prompt, "a heron standing in reeds"));
    job_free(&j);
    view_free(v);
}

static void test_keys_and_files(void **state)
{
    (void)state;
    struct view *v = opened();
    struct job j = { 0 };

    has(v, "draft");
    /* search as one types */
    keys(v, "/ink");
    has(v, "/ink");
    has(v, "ink");
    has_not(v, "portrait");
    key(v, K_ENTER);
    /* load */
    key(v, K_ENTER);
    has(v, "Ink drawing");
    assert_true(view_job(v, &j, NULL));
    assert_non_null(strstr(j.prompt, "ink"));
    job_free(&j);
    /* edited, saved under a name of one's own, and not edited any more */
    press(v, K_TAB);
    press(v, K_TAB);
    type(v, "1");
    has(v, "│ Ink drawing*");
    press(v, K_F2);
    settle(v);
    keys(v, "s");
    has(v, "Save as: Ink drawing");
    empty_line(v);
    keys(v, "My Ink 2");
    key(v, K_ENTER);
    has(v, "The form is now the preset my-ink-2");
    assert_true(shelf_own_is(SHELF_PRESETS, "my-ink-2"));
    key(v, K_ESC);
    has(v, "│ My Ink 2 ");
    has_not(v, "My Ink 2*");
    /* the place for words is still in it */
    size_t bytes;
    char *text = file_read(in("c/sluice/presets/my-ink-2.yaml"), 65536, &bytes, NULL);
    assert_non_null(strchr(text, '{'));
    assert_null(strstr(text, "{{"));
    assert_non_null(strstr(text, "name: My Ink 2\n"));
    free(text);
    /* over it only when asked twice */
    press(v, K_F2);
    settle(v);
    keys(v, "s");
    key(v, K_ENTER);
    has(v, "Enter writes over it");
    key(v, K_ESC);
    keys(v, "s");
    key(v, K_ENTER);
    key(v, K_ENTER);
    has(v, "The form is now the preset my-ink-2");
    /* duplicate, rename, delete, undo */
    keys(v, "c");
    has(v, "Duplicate as: my-ink-2-2");
    key(v, K_ENTER);
    assert_true(shelf_own_is(SHELF_PRESETS, "my-ink-2-2"));
    keys(v, "r");
    empty_line(v);
    keys(v, "Third");
    key(v, K_ENTER);
    assert_true(shelf_own_is(SHELF_PRESETS, "third") && !shelf_own_is(SHELF_PRESETS, "my-ink-2-2"));
    has(v, "third");
    keys(v, "d");
    has(v, "third is in the trash; u brings it back");
    assert_false(shelf_own_is(SHELF_PRESETS, "third"));
    keys(v, "u");
    assert_true(shelf_own_is(SHELF_PRESETS, "third"));
    has(v, "It is back: third");
    /* what came with the program stays */
    press(v, K_HOME);
    settle(v);
    keys(v, "d");
    has(v, "came with the program and stays as it is");
    view_free(v);
}

static void test_import_export(void **state)
{
    (void)state;
    struct view *v = opened();
    char text[FILE_PATH_MAX + 64];
    struct image *im = image_new(2, 2, NULL);
    struct image_text has_text = { "parameters", "a bridge\nSteps: 9, Seed: 3, Size: 64x64, Version: f2.0" };

    mkdir(in("pictures"), 0700);
    assert_true(image_write_png(im, in("pictures/the bridge.png"), &has_text, 1, NULL));
    image_free(im);
    write_text("pictures/the book.txt", "nothing");
    write_text("pictures/other.exe", "nothing");
    /* Tab, twice: what is common, then the names */
    keys(v, "i");
    has(v, "Import the file: ~/");
    empty_line(v);
    snprintf(text, sizeof text, "%s/pictures/", scratch);
    keys(v, text);
    key(v, K_TAB);
    has(v, "the book.txt  the bridge.png");
    has_not(v, "other.exe");
    keys(v, "r");
    key(v, K_TAB);
    has(v, "the bridge.png");
    key(v, K_ENTER);
    has(v, "It would change");
    has(v, "a bridge");
    keys(v, "s");
    has(v, "Save as: the bridge");
    key(v, K_ENTER);
    has(v, "It is now your preset the-bridge");
    assert_true(shelf_own_is(SHELF_PRESETS, "the-bridge"));
    key(v, K_ESC);
    /* export, never over another */
    keys(v, "e");
    empty_line(v);
    snprintf(text, sizeof text, "%s/out.yaml", scratch);
    keys(v, text);
    key(v, K_ENTER);
    has(v, "Written to");
    assert_true(file_exists(in("out.yaml")));
    keys(v, "e");
    empty_line(v);
    keys(v, text);
    key(v, K_ENTER);
    has(v, "is there already");
    key(v, K_ESC);
    /* what is no picture of anybody says why, with line and column where there is one */
    paste(v, write_text("bad.yaml", "sluice: 1\nname: x\nstepz: 1\nsize: 3\n"));
    assert_non_null(strstr(screen(v, 200, 24), "bad.yaml:3:1: there is no \"stepz\": is steps meant?"));
    paste(v, "not a path");
    has(v, "That is no path of a file");
    view_free(v);
}

static void test_hashes_are_compared(void **state)
{
    (void)state;
    struct view *v = make_view("Old", NULL);

    write_text("c/sluice/presets/hashed.yaml",
               "sluice: 1\nname: Hashed\nmodel:\n  name: fake-model\n  sha256:\n    \"vae/config.json\": "
               "0000000000000000000000000000000000000000000000000000000000000000\nsteps: 3\n");
    press(v, K_F2);
    settle(v);
    keys(v, "/hashed");
    key(v, K_ENTER);
    has(v, "Names the model's files by their SHA-256.");
    key(v, K_ENTER);
    /* looked at first, since it is not this model's */
    has(v, "1 of the model's 1 files that it names are others here");
    key(v, K_ENTER);
    has(v, "│ Hashed ");
    view_free(v);
    unlink(in("c/sluice/presets/hashed.yaml"));
}

static void test_no_presets_at_all(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct presets_answer none = { .op = PRESETS_LIST, .ok = true };

    press(v, K_F2);
    screen(v, 80, 24);
    view_needs(v);
    view_presets(v, &none);
    has(v, "there are none");
    for (const char *c = "sdcreu/x"; *c; c++) {
        view_key(v, &(struct key){ .kind = K_CHAR, .ch = (unsigned char)*c });
        screen(v, 80, 24);
        press(v, K_ESC);
    }
    press(v, K_ENTER);
    screen(v, 40, 10);
    view_free(v);
}

static void test_hostile_names(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct presets_answer a = { .op = PRESETS_LIST, .ok = true, .item = calloc(2, sizeof *a.item), .count = 2 };
    struct presets_item *i = a.item;
    char *s;

    /* more than a file could bring through preset_load: the screen trusts nothing */
    strcpy(i[0].name, "a\x1b[2J\x1b]0;x\x07");
    strcpy(i[0].preset.name, "\xe2\x80\xaegnp.exe\x9b");
    memset(i[0].preset.about, 'x', sizeof i[0].preset.about - 1);
    strcpy(i[0].preset.model, "\x1b[31m");
    for (int k = 0; k < 20; k++) strcat(i[1].name, "\xe7\x8c\xab");
    i[1].faults = strdup("\x1b[1m\n\n\xff\xfe");
    press(v, K_F2);
    screen(v, 80, 24);
    view_needs(v);
    view_presets(v, &a);
    s = screen(v, 80, 24);
    assert_null(strpbrk(s, "\x1b\x07\x9b"));
    press(v, K_DOWN);
    s = screen(v, 80, 24);
    assert_null(strpbrk(s, "\x1b\x07"));
    view_free(v);
}

static void test_random_sizes_and_keys(void **state)
{
    (void)state;
    uint32_t seed = 20260731u;
    struct view *v = opened_by_hand("portrait");
    struct grid g = { 0 };

    for (int i = 0; i < 3000; i++) {
        static const char letters[] = "/iscrdeuq jk?gG";
        uint32_t r = random_next(&seed);
        struct key k = { .kind = (enum key_kind)(1 + r % (K_F12 - 1)) };
        if (r & 256) k = (struct key){ .kind = K_CHAR, .ch = (unsigned char)letters[(r >> 9) % (sizeof letters - 1)] };
        if (k.kind == K_PASTE) k = (struct key){ .kind = K_PASTE, .text = "/home/me/x.png", .bytes = 14 };
        if (k.kind == K_MOUSE)
            k = (struct key){ .kind = K_MOUSE, .ch = r >> 12 & 3, .x = (int)(r >> 14) % 120, .y = (int)(r >> 20) % 50 };
        if (k.kind == K_CHAR && !k.ch) k.ch = 'x';
        view_key(v, &k);
        if (r % 7 == 0) {
            struct presets_answer a = by_hand();
            if (r & 1024) {
                presets_answer_free(&a);
                a = stranger("/home/me/x.png");
            }
            view_presets(v, &a);
        }
        if (r % 11 == 0) press(v, K_F2);
        view_resize(v,
                    (struct view_screen){ 40 + (int)(random_next(&seed) % 120), 10 + (int)(random_next(&seed) % 50), 9,
                                          18, 0, 0, false });
        assert_true(view_draw(v, &g, NULL));
        if (g.cursor_shown && (g.cursor_x < 0 || g.cursor_x >= g.cols || g.cursor_y < 0 || g.cursor_y >= g.rows))
            fail_msg("key %d: the cursor is off the screen", i);
        view_needs(v);
    }
    grid_free(&g);
    view_free(v);
}

static int setup(void **state)
{
    struct err e = { 0 };

    (void)state;
    setlocale(LC_ALL, "C.UTF-8");
    scratch_make_cache(scratch);
    setenv("XDG_CONFIG_HOME", in("c"), 1);
    setenv("XDG_STATE_HOME", in("s"), 1);
    mkdir(in("c"), 0700);
    mkdir(in("c/sluice"), 0700);
    mkdir(in("c/sluice/presets"), 0700);
    return worker_start(&worker, &e) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    worker_stop(worker);
    for (struct worker_job *j; (j = worker_take(worker));) j->done(j, NULL);
    worker_free(worker);
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_list),          cmocka_unit_test(test_a_strangers_file),
        cmocka_unit_test(test_an_answer_that_is_late), cmocka_unit_test(test_own_words_stay),
        cmocka_unit_test(test_keys_and_files),    cmocka_unit_test(test_import_export),
        cmocka_unit_test(test_hashes_are_compared), cmocka_unit_test(test_no_presets_at_all),
        cmocka_unit_test(test_hostile_names),     cmocka_unit_test(test_random_sizes_and_keys),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
