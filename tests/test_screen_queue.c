/* test_screen_queue.c - the queue's screen, its questions, the contact sheet and the
 * remedies as text: keys and answers in, cells and wishes out. */
#include "engine/job_text.h"
#include "tests/view_help.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct row { int64_t id; enum store_state state; const char *prompt, *error; int pictures, made, step; bool foreign; };

static void fill(struct view *v, const struct row *rows, int n, int64_t at_work)
{
    struct store_queue q = { .count = n, .at = calloc((size_t)n + 1, sizeof *q.at) };
    struct job j;

    assert_true(job_init(&j, fake_model(), NULL));
    j.seed = 42;
    j.budget = 8000000000;
    for (int i = 0; i < n; i++)
        q.at[i] = (struct store_job){
            .id = rows[i].id, .state = rows[i].state, .foreign = rows[i].foreign, .text = job_text(&j, NULL),
            .model = strdup("/models/fake-model"), .preset = strdup(i == 1 ? "portrait" : ""),
            .prompt = strdup(rows[i].prompt), .error = strdup(rows[i].error ? rows[i].error : ""),
            .pictures = rows[i].pictures ? rows[i].pictures : 1, .made = rows[i].made, .step = rows[i].step,
            .steps = 20, .ended = i,
            .fault = rows[i].state == STORE_FAILED ? ERR_DEVICE_MEMORY : ERR_NONE, .stage = STAGE_VAE,
        };
    job_free(&j);
    view_queue(v, &q, at_work);
    assert_null(q.at);
}

static const struct row usual[] = {
    { 3, STORE_DONE, "a lighthouse in a storm, oil on canvas", NULL, 2, 2, 0, false },
    { 5, STORE_RUNNING, "a red apple on a blue background", NULL, 1, 0, 7, false },
    { 6, STORE_WAITING, "a small octopus on a yellow background", NULL, 4, 0, 0, false },
    { 7, STORE_PAUSED, "an old fisherman, 85 mm, soft window light", NULL, 1, 0, 12, false },
    { 8, STORE_FAILED, "a crowded market", "VAE: cuda: 1800 MB on the card: out of memory", 1, 0, 20, false },
    { 9, STORE_WAITING, "from another terminal", NULL, 1, 0, 0, true },
};
enum { USUAL = sizeof usual / sizeof *usual };

static struct view *busy(void)
{
    struct view *v = make_view(NULL, NULL);
    struct event ev = about(EVENT_PROGRESS, 1);

    submit(v, 1, 42);
    fill(v, usual, USUAL, 5);
    news(v, about(EVENT_STARTED, 1));
    ev.stage = STAGE_FLUX;
    ev.step = 7;
    ev.seconds = 7;
    ev.eta_seconds = 13;
    news(v, ev);
    alt(v, 'q');
    return v;
}

static void test_goldens(void **state)
{
    (void)state;
    struct view *v = busy();

    golden(v, "queue", 80, 24);
    golden(v, "queue", 120, 40);
    golden(v, "queue", 200, 60);
    press(v, K_END);
    golden(v, "queue-end", 40, 10);
    view_free(v);
    v = make_view(NULL, NULL);
    alt(v, 'q');
    has(v, "Nothing waits");
    golden(v, "queue-empty", 80, 24);
    view_free(v);
}

static void is_queue(struct wish w, enum queue_wish what, int64_t id)
{
    assert_int_equal(w.kind, WISH_QUEUE);
    assert_int_equal(w.queue.what, what);
    assert_int_equal(w.queue.id, id);
}

/* Order on the screen: 5 at work, 6, 7, 9 to come, 8 and 3 ended. */
static void test_keys(void **state)
{
    (void)state;
    struct view *v = busy();
    struct wish w;

    has(v, "Queue: 1 running, 3 waiting, 2 ended");
    is_queue(type(v, "p"), QUEUE_PAUSE, 5);
    is_queue(type(v, "x"), QUEUE_CANCEL, 5);
    assert_int_equal(type(v, "d").kind, WISH_NONE);
    has(v, "Cancel it first");
    assert_int_equal(type(v, "J").kind, WISH_NONE);
    press(v, K_DOWN);
    w = type(v, "J");
    is_queue(w, QUEUE_MOVE, 6);
    assert_int_equal(w.queue.number, 1);
    assert_int_equal(type(v, "K").queue.number, -1);
    is_queue(type(v, "e"), QUEUE_EDIT, 6);
    is_queue(type(v, "d"), QUEUE_REMOVE, 6);
    press(v, K_DOWN);
    has(v, "Go on");
    is_queue(type(v, "p"), QUEUE_PAUSE, 7);
    press(v, K_DOWN); /* another program's */
    assert_int_equal(type(v, "x").kind, WISH_NONE);
    has(v, "another sluice's");
    press(v, K_DOWN);
    has(v, "out of memory");
    is_queue(type(v, "t"), QUEUE_RETRY, 8);
    press(v, K_ENTER);
    has(v, "Failed: VAE");
    press(v, K_ESC);
    press(v, K_DOWN);
    is_queue(type(v, "e"), QUEUE_LOAD, 3);
    has(v, "Enter Picture");
    w = press(v, K_ENTER);
    assert_true(w.kind == WISH_HISTORY && w.history.what == HISTORY_OPEN_JOB);
    assert_int_equal(w.history.id, 3);
    is_queue(type(v, "D"), QUEUE_CLEAR, 0);
    press(v, K_DOWN); /* no further */
    assert_int_equal(type(v, "r").kind, WISH_NONE);
    has(v, "how many times: 1");
    type(v, "2");
    w = press(v, K_ENTER);
    is_queue(w, QUEUE_REPEAT, 3);
    assert_int_equal(w.queue.number, 2);
    type(v, "r");
    type(v, "x");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    has(v, "a number from 1 to 1000");
    press(v, K_ESC);
    has(v, "Prompt");
    view_free(v);
}

static void test_chosen_stays_with_its_job(void **state)
{
    (void)state;
    struct view *v = busy();
    struct row fewer[USUAL];

    press(v, K_DOWN);
    memcpy(fewer, usual, sizeof fewer);
    fewer[2] = usual[3];
    fewer[3] = usual[2];
    fill(v, fewer, USUAL, 5);
    is_queue(type(v, "e"), QUEUE_EDIT, 6);
    fill(v, fewer, 1, 0); /* it has gone */
    is_queue(type(v, "e"), QUEUE_LOAD, 3);
    fill(v, fewer, 0, 0);
    assert_int_equal(type(v, "exdtrJKp").kind, WISH_NONE);
    press(v, K_ENTER);
    has(v, "Nothing waits");
    view_free(v);
}

static void test_strip_counts_what_waits_on_disk(void **state)
{
    (void)state;
    struct view *v = busy();

    press(v, K_ESC);
    has(v, "2 a small octopus");
    has(v, "+1 queued");
    view_queued(v, 1, 77);
    has(v, "Queued with seed 77: 1 waiting");
    view_free(v);
}

static void test_editing(void **state)
{
    (void)state;
    struct view *v = busy();
    struct job j = { 0 };

    assert_true(job_init(&j, fake_model(), NULL));
    assert_true(job_set_string(&j.prompt, "to be changed", NULL));
    j.steps = 11;
    assert_true(view_edit(v, 6, &j, "portrait", NULL));
    assert_int_equal(view_editing(v), 6);
    has(v, "to be changed");
    has(v, "Job 6: Enter puts it back as it is now; Esc leaves it");
    assert_int_equal(press(v, K_ENTER).kind, WISH_GENERATE);
    assert_int_equal(press(v, K_ESC).kind, WISH_NONE);
    assert_int_equal(view_editing(v), 0);
    has(v, "left as it was");
    assert_true(view_edit(v, 0, &j, "", NULL));
    assert_int_equal(view_editing(v), 0);
    has(v, "are in the form");
    job_free(&j);
    view_free(v);
}

static void test_questions(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);

    view_ask_resume(v, 1, 3, 7, 20);
    has(v, "1 job was interrupted (step 7 of 20) and 3 more wait. Go on?");
    golden(v, "resume", 80, 24);
    assert_int_equal(type(v, "z").kind, WISH_NONE);
    is_queue(type(v, "y"), QUEUE_GO_ON, 0);
    view_ask_resume(v, 0, 1, 0, 0);
    has(v, "1 job is left in the queue");
    is_queue(type(v, "n"), QUEUE_GIVE_UP, 0);
    view_ask_resume(v, 2, 0, 0, 20);
    is_queue(press(v, K_ESC), QUEUE_SET_ASIDE, 0);
    view_ask_resume(v, 2, 0, 0, 20);
    press(v, K_DOWN);
    is_queue(press(v, K_ENTER), QUEUE_SET_ASIDE, 0);
    view_ask_many(v, 36);
    has(v, "make 36 jobs");
    is_queue(press(v, K_ENTER), QUEUE_DROP_MANY, 0); /* the harmless one is first */
    has(v, "Nothing was queued");
    view_ask_many(v, 36);
    is_queue(type(v, "y"), QUEUE_CONFIRM, 0);
    view_free(v);
}

/* Each kind, in its stage, leads to its remedies (keys, and the settings of the first) whatever the text says. */
static void test_remedies(void **state)
{
    (void)state;
    static const struct {
        enum err_kind fault;
        enum stage stage;
        const char *given, *keys, *settings, *says;
    } cases[] = {
        { ERR_DEVICE_MEMORY, STAGE_VAE, "budget=8G", "bsmt", "vae=bands", "Something else has taken memory" },
        { ERR_DEVICE_MEMORY, STAGE_VAE, "budget=8G vae=bands", "smt", "budget=6G", "" },
        { ERR_DEVICE_MEMORY, STAGE_T5, "", "amt", "text_encoders=alternate", "" },
        { ERR_DEVICE_MEMORY, STAGE_CLIP, "text_encoders=alternate", "amt", "text_encoders=sequential", "" },
        { ERR_DEVICE_MEMORY, STAGE_FLUX, "budget=24G", "smt", "budget=16G", "" },
        { ERR_DEVICE_MEMORY, STAGE_LOAD, "budget=min", "t", "", "" },
        { ERR_MEMORY, STAGE_FLUX, "budget=12G", "smt", "budget=10G", "close other programs" },
        { ERR_BUDGET, STAGE_LOAD, "budget=1M", "mt", "budget=min", "too small for this size" },
        { ERR_OVERFLOW, STAGE_FLUX, "precision=fp16", "ft", "precision=fp32", "too large for the type" },
        { ERR_OVERFLOW, STAGE_VAE, "precision=fp16", "ft", "vae_precision=fp32", "" },
        { ERR_OVERFLOW, STAGE_VAE, "vae_precision=fp16", "ft", "vae_precision=fp32", "" },
        { ERR_OVERFLOW, STAGE_FLUX, "precision=fp32", "t", "", "" },
        { ERR_OVERFLOW, STAGE_VAE, "precision=fp32", "t", "", "" },
        { ERR_DISK_FULL, STAGE_SAVE, "", "t", "", "make room" },
        { ERR_IO, STAGE_SAVE, "", "t", "", "cannot be written there" },
        { ERR_MISSING, STAGE_SAVE, "", "t", "", "cannot be written there" },
        { ERR_MISSING, STAGE_LOAD, "", "t", "", "not whole" },
        { ERR_DAMAGED, STAGE_T5, "", "t", "", "is damaged" },
        { ERR_DEVICE, STAGE_FLUX, "", "ct", "device=cpu", "the doctor" },
        { ERR_DEVICE_LOST, STAGE_FLUX, "device=cuda", "ct", "device=cpu", "start it again" },
        { ERR_DEVICE_LOST, STAGE_FLUX, "device=cpu", "t", "", "" },
        { ERR_INPUT, STAGE_LOAD, "", "t", "", "" },
        { ERR_NONE, STAGE_LOAD, "", "t", "", "" },
    };
    struct view *v = busy();

    press(v, K_ESC); /* on the queue's screen F8 is about the row that is chosen */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = { 0 };
        struct wish w;
        struct err e = { 0 };
        char given[64], line[8], key[2] = { cases[i].keys[0] };

        assert_true(job_init(&j, fake_model(), NULL));
        snprintf(given, sizeof given, "%s", cases[i].given);
        for (char *rest = given, *one; *given && (one = strsep(&rest, " "));) {
            char *value = strchr(one, '=');
            *value++ = 0;
            if (setting_set(&j, setting_find(one), value, &e) != SETTING_SET) fail_msg("%s: %s", one, e.text);
        }
        view_trouble(v, 8, &j, cases[i].fault, cases[i].stage, "WHY");
        job_free(&j);
        press(v, K_F8);
        has(v, "WHY");
        has(v, cases[i].says);
        for (const char *at = "abcdefghijklmnopqrstuvwxyz"; *at; at++) {
            snprintf(line, sizeof line, " %c  ", *at);
            if ((strchr(cases[i].keys, *at) != NULL) != (strstr(screen(v, 80, 24), line) != NULL))
                fail_msg("case %zu: %c\n%s", i, *at, screen(v, 80, 24));
        }
        w = type(v, key);
        is_queue(w, QUEUE_RETRY, 8);
        assert_string_equal(w.queue.text, cases[i].settings);
    }
    view_free(v);
}

static void test_trouble(void **state)
{
    (void)state;
    struct view *v = busy();
    struct job j = { 0 };

    assert_true(job_init(&j, fake_model(), NULL));
    press(v, K_ESC);
    alt(v, 't');
    has(v, "Nothing has failed");
    j.budget = 8000000000;
    view_trouble(v, 8, &j, ERR_DEVICE_MEMORY, STAGE_VAE, "VAE: cuda: 1800 MB on the card: out of memory");
    has(v, "F8 What to do");
    press(v, K_F8);
    golden(v, "trouble", 80, 24);
    has(v, "Failed: VAE");
    is_queue(type(v, "b"), QUEUE_RETRY, 8);
    press(v, K_F8);
    has(v, "Nothing has failed"); /* it is being tried */

    /* The failed row itself, as the queue has kept it. */
    alt(v, 'q');
    press(v, K_END);
    press(v, K_UP);
    has(v, "F8 What to do");
    press(v, K_ENTER);
    has(v, "Failed: VAE");
    has(v, "decode in bands");
    has(v, "smaller budget, 6 GB");
    is_queue(type(v, "s"), QUEUE_RETRY, 8);
    press(v, K_UP);
    press(v, K_F8);
    has(v, "Nothing has failed"); /* that one has not */
    job_free(&j);
    view_free(v);
}

/* A sheet of five: cells fill as they come, good ones are marked, only those are wished for. */
static void test_sheet(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct job j = { 0 };
    struct wish w;

    assert_true(job_init(&j, fake_model(), NULL));
    j.seed = 100;
    alt(v, 'k');
    has(v, "Contact sheet of how many seeds: 12");
    ctrl(v, 'u');
    type(v, "5");
    w = press(v, K_ENTER);
    assert_int_equal(w.kind, WISH_SHEET);
    assert_int_equal(w.sheet, 5);
    assert_null(view_sheet_base(v));
    view_sheet(v, 9, &j, 5);
    view_submitted(v, 9, &j);
    for (int i = 0; i < 3; i++) {
        struct event ev = about(EVENT_DONE, 9);
        ev.index = i;
        ev.count = 5;
        ev.image = fake_image(64, 64, (uint64_t)i);
        news(v, ev);
    }
    has(v, "3 of 5 seeds, 0 marked");
    type(v, " ");
    press(v, K_RIGHT);
    press(v, K_RIGHT);
    type(v, " ");
    press(v, K_RIGHT);
    golden(v, "sheet", 80, 24);
    golden(v, "sheet", 120, 40);
    golden(v, "sheet", 200, 60);
    has(v, "2 marked");
    alt(v, 'q'); /* away and back: it is still there */
    press(v, K_ESC);
    alt(v, 'k');
    has(v, "2 marked");
    assert_int_equal(press(v, K_ENTER).kind, WISH_FINISH);
    assert_int_equal(view_sheet_base(v)->seed, 100);
    assert_true(view_sheet_good(v, 0) && !view_sheet_good(v, 1) && view_sheet_good(v, 2) && !view_sheet_good(v, 5) &&
                !view_sheet_good(v, -1));
    alt(v, 'k'); /* a new one */
    has(v, "how many seeds");
    press(v, K_ESC);
    view_sheet(v, 10, &j, 3);
    w = press(v, K_ESC);
    assert_int_equal(w.kind, WISH_CANCEL);
    assert_int_equal(w.job, 10);
    job_free(&j);
    view_free(v);
}

/* What comes from files cannot write to the terminal, nor past its row. */
static void test_hostile(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);
    struct row bad[3] = {
        { 1, STORE_FAILED, "\033]0;owned\007\033[2J", "\033[31mred\r\n\xff\xfe", 1000000, -5, 99999, false },
        { 2, STORE_WAITING, "", NULL, 1, 0, 0, false },
        { 3, STORE_WAITING, "\xe2\x80\xae" "dlrow", NULL, 1, 0, 0, false },
    };
    static const int sizes[][2] = { { 40, 10 }, { 41, 11 }, { 80, 24 }, { 300, 100 } };
    char *lengthy = malloc(100001);

    memset(lengthy, 'x', 100000);
    lengthy[100000] = 0;
    bad[1].prompt = lengthy;
    fill(v, bad, 3, 0);
    alt(v, 'q');
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int at = 0; at < 3; at++) {
            char *s = screen(v, sizes[i][0], sizes[i][1]);
            assert_null(strchr(s, '\033'));
            assert_null(strchr(s, '\007'));
            assert_null(strstr(s, "\xe2\x80\xae"));
            press(v, at == 2 ? K_HOME : K_DOWN);
        }
    view_trouble(v, 1, &(struct job){ 0 }, ERR_DEVICE_MEMORY, STAGE_T5, lengthy);
    press(v, K_F8);
    screen(v, 40, 10);
    assert_null(strchr(screen(v, 80, 24), '\033'));
    free(lengthy);
    view_free(v);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),  cmocka_unit_test(test_keys),
            cmocka_unit_test(test_chosen_stays_with_its_job),
        cmocka_unit_test(test_strip_counts_what_waits_on_disk),          cmocka_unit_test(test_editing),
        cmocka_unit_test(test_questions), cmocka_unit_test(test_remedies),
        cmocka_unit_test(test_trouble), cmocka_unit_test(test_sheet), cmocka_unit_test(test_hostile),
    };

    setenv("LC_ALL", "C.UTF-8", 1);
    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
