/* test_service.c - the studio's queue and history on a real store in a temporary
 * folder, with the fake engine and a view, as the loop drives them. */
#include "engine/record.h"
#include "engine/store.h"
#include "tests/view_help.h"
#include "tui/service_store.h"

#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <locale.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct studio {
    struct view *view;
    struct engine *engine;
    struct service_store *service;
    char path[128];
};

static char folder[32] = "/tmp/sluice-service-XXXXXX", out_dir[64];

static void grant(struct studio *s, struct wish w)
{
    if (w.kind == WISH_CANCEL) fake_engine.cancel(s->engine, w.job);
    else if (w.kind) assert_true(service_store_grant(s->service, &w));
}

/* Once round the loop. */
static void turn(struct studio *s)
{
    struct pollfd p[1 + SERVICE_STORE_FDS];
    struct event ev;

    p[0] = (struct pollfd){ .fd = fake_engine.fd(s->engine), .events = POLLIN };
    service_store_fds(s->service, p + 1);
    poll(p, 1 + SERVICE_STORE_FDS, 20);
    while (fake_engine.poll(s->engine, &ev)) {
        service_store_event(s->service, &ev);
        view_event(s->view, &ev);
    }
    service_store_work(s->service);
    screen(s->view, 100, 40);
    for (struct wish w; (w = view_needs(s->view)).kind;) grant(s, w);
}

/* Until that is on the screen. */
static void until(struct studio *s, const char *what)
{
    for (int i = 0; i < 1000; i++) {
        if (strstr(screen(s->view, 100, 40), what)) return;
        turn(s);
    }
    fputs(screen(s->view, 100, 40), stderr);
    fail_msg("\"%s\" does not come", what);
}

static void sees(struct studio *s, const char *what)
{
    if (strstr(screen(s->view, 100, 40), what)) return;
    fputs(screen(s->view, 100, 40), stderr);
    fail_msg("\"%s\" is not there", what);
}

static void letters(struct studio *s, const char *text)
{
    for (; *text; text++) grant(s, view_key(s->view, &(struct key){ .kind = K_CHAR, .ch = (unsigned char)*text }));
}

static void key(struct studio *s, enum key_kind k)
{
    grant(s, press(s->view, k));
}

static void prompt(struct studio *s, const char *text)
{
    ctrl(s->view, 'u');
    letters(s, text);
    key(s, K_ENTER);
}

static void begin_at(struct studio *s, const char *path)
{
    struct err e = { 0 };
    struct service_store_options o = { .calls = &fake_engine, .out_dir = out_dir, .path = s->path };

    snprintf(s->path, sizeof s->path, "%s", path);
    o.view = s->view = make_view(NULL, NULL);
    o.engine = s->engine = fake_engine_start();
    if (!service_store_start(&s->service, &o, &e)) fail_msg("%s", e.text);
}

static void begin(struct studio *s, const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s.db", folder, name);
    begin_at(s, path);
}

static void end(struct studio *s)
{
    struct event ev;

    while (fake_engine.poll(s->engine, &ev)) {
        service_store_event(s->service, &ev);
        event_clear(&ev);
    }
    fake_engine.stop(s->engine);
    service_store_stop(s->service);
    view_free(s->view);
}

/* "done a|waiting b": the queue as another program sees it. */
static const char *queue_of(const struct studio *s)
{
    static char text[2048];
    char notice[STORE_NOTICE_BYTES];
    struct store_queue q;
    struct store *other;
    struct err e = { 0 };

    text[0] = 0;
    if (!store_open(&other, s->path, notice, &e) || !store_queue_list(other, &q, &e)) fail_msg("%s", e.text);
    for (int i = 0; i < q.count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s %s", i ? "|" : "",
                 store_state_name(q.at[i].state), q.at[i].prompt);
    store_queue_free(&q);
    store_close(other);
    return text;
}

static void until_queue(struct studio *s, const char *expected)
{
    for (int i = 0; i < 500; i++) {
        bool there = !strcmp(queue_of(s), expected);
        turn(s); /* for the view to hear of it, too */
        if (there) return;
    }
    assert_string_equal(queue_of(s), expected);
}

static void test_a_picture(void **state)
{
    (void)state;
    struct studio s;

    begin(&s, "picture");
    prompt(&s, "a red apple");
    until_queue(&s, "running a red apple");
    until(&s, "step ");
    prompt(&s, "a pear");
    until(&s, "Queued with seed");
    until_queue(&s, "running a red apple|waiting a pear");
    until_queue(&s, "done a red apple|done a pear");
    grant(&s, alt(s.view, 'g'));
    until(&s, "Gallery: 2 pictures");
    until(&s, "▀▀▀▀▀▀");
    sees(&s, "a pear");
    end(&s);
}

static void test_queue_keys(void **state)
{
    (void)state;
    struct studio s;

    begin(&s, "keys");
    prompt(&s, "first");
    until(&s, "step ");
    prompt(&s, "{red|blue|green} house");
    until(&s, "Queued 3 jobs");
    until_queue(&s, "running first|waiting red house|waiting blue house|waiting green house");
    grant(&s, alt(s.view, 'q'));
    letters(&s, "p");
    until_queue(&s, "paused first|waiting red house|waiting blue house|waiting green house");
    key(&s, K_DOWN);
    letters(&s, "J");
    until_queue(&s, "paused first|waiting blue house|waiting red house|waiting green house");
    letters(&s, "KK"); /* not before what has begun */
    until_queue(&s, "paused first|waiting red house|waiting blue house|waiting green house");
    key(&s, K_DOWN);
    letters(&s, "d");
    until_queue(&s, "paused first|waiting red house|waiting green house");
    key(&s, K_UP);
    letters(&s, "p");
    until_queue(&s, "paused first|paused red house|waiting green house");
    key(&s, K_DOWN);
    letters(&s, "e");
    until(&s, "puts it back");
    prompt(&s, "black house");
    until_queue(&s, "paused first|paused red house|waiting black house");
    grant(&s, alt(s.view, 'q'));
    letters(&s, "p");
    until_queue(&s, "done first|paused red house|done black house");
    end(&s);
}

static void test_many_and_again(void **state)
{
    (void)state;
    struct studio s;

    begin(&s, "many");
    prompt(&s, "{a|b|c|d|e|f} {a|b|c|d|e|f}");
    until(&s, "make 36 jobs");
    letters(&s, "n");
    until(&s, "Nothing was queued");
    prompt(&s, "{broken");
    until(&s, "column");
    assert_string_equal(queue_of(&s), "");
    prompt(&s, "one");
    until_queue(&s, "done one");
    grant(&s, alt(s.view, 'q'));
    letters(&s, "r");
    ctrl(s.view, 'u');
    letters(&s, "2");
    key(&s, K_ENTER);
    until_queue(&s, "done one|done one|done one");
    letters(&s, "D");
    until_queue(&s, "");
    end(&s);
}

static void test_failure_and_remedy(void **state)
{
    (void)state;
    struct studio s;

    begin(&s, "failure");
    prompt(&s, "fail");
    until(&s, "is missing");
    until_queue(&s, "failed fail");
    key(&s, K_F8);
    sees(&s, "Failed: T5");
    letters(&s, "t");
    until(&s, "Once more");
    until(&s, "is missing");
    until_queue(&s, "failed fail");
    end(&s);
}

static void test_left_from_the_last_time(void **state)
{
    (void)state;
    struct studio s;

    begin(&s, "left");
    prompt(&s, "one");
    until(&s, "step ");
    prompt(&s, "two");
    until_queue(&s, "running one|waiting two");
    end(&s); /* in the middle */
    begin(&s, "left");
    until(&s, "1 job was interrupted");
    sees(&s, "1 more waits");
    assert_string_equal(queue_of(&s), "interrupted one|waiting two");
    key(&s, K_ESC);
    until_queue(&s, "paused one|paused two");
    end(&s);
    begin(&s, "left");
    until(&s, "Go on?");
    letters(&s, "y");
    until_queue(&s, "done one|done two");
    end(&s);
    begin(&s, "left");
    for (int i = 0; i < 5; i++) turn(&s);
    assert_null(strstr(screen(s.view, 100, 40), "Go on?"));
    end(&s);
}

static void test_without_a_place(void **state)
{
    (void)state;
    struct studio s;
    char path[128];

    snprintf(path, sizeof path, "%s/a-file", folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    snprintf(path, sizeof path, "%s/a-file/studio.db", folder);
    begin_at(&s, path);
    until(&s, "Queue and history last until you quit");
    prompt(&s, "all the same");
    until(&s, "Saved ");
    grant(&s, alt(s.view, 'g'));
    until(&s, "Gallery: 1 picture");
    end(&s);
}

static void test_contact_sheet(void **state)
{
    (void)state;
    struct studio s;
    glob_t left;

    begin(&s, "sheet");
    setenv("TMPDIR", folder, 1);
    letters(&s, "an octopus");
    grant(&s, alt(s.view, 'k'));
    ctrl(s.view, 'u');
    letters(&s, "3");
    key(&s, K_ENTER);
    until(&s, "1 of 3 seeds"); /* the fake engine makes one picture of a job */
    letters(&s, " ");
    key(&s, K_ENTER);
    until_queue(&s, "done an octopus");
    grant(&s, alt(s.view, 'g'));
    until(&s, "Gallery: 1 picture"); /* the sheet's own are not in it, */
    end(&s);
    unsetenv("TMPDIR");
    char pattern[128];
    snprintf(pattern, sizeof pattern, "%s/sluice-*", folder); /* nor anywhere else */
    assert_int_equal(glob(pattern, 0, NULL, &left), GLOB_NOMATCH);
}

static int files_in(const char *where)
{
    char pattern[512];
    glob_t files;
    int n;

    snprintf(pattern, sizeof pattern, "%s/*.png", where);
    n = glob(pattern, 0, NULL, &files) ? 0 : (int)files.gl_pathc;
    globfree(&files);
    return n;
}

static void test_gallery(void **state)
{
    (void)state;
    struct studio s;
    struct job j = { 0 };
    struct record r;
    char path[256], where[128];
    struct image *im = fake_image(32, 32, 1);

    /* three of other sessions in a folder, and a stranger's */
    snprintf(where, sizeof where, "%s/old", folder);
    mkdir(where, 0700);
    assert_true(job_init(&j, fake_model(), NULL));
    for (int i = 0; i < 3; i++) {
        static const char *const prompts[] = { "an old oak", "an old mill", "a {new} barn" };
        j.seed = 70 + (uint64_t)i;
        j.width = j.height = 32;
        j.steps = 9;
        assert_true(job_set_string(&j.prompt, prompts[i], NULL));
        assert_true(record_make(&r, &j, 0, "fake-model", j.steps, NULL));
        snprintf(path, sizeof path, "%s/%d.png", where, i);
        assert_true(record_write_png(&r, im, path, NULL));
        record_free(&r);
    }
    snprintf(path, sizeof path, "%s/stranger.png", where);
    assert_true(image_write_png(im, path, NULL, 0, NULL));
    image_free(im);
    job_free(&j);

    begin(&s, "gallery");
    grant(&s, alt(s.view, 'g'));
    until(&s, "No pictures yet");
    letters(&s, "S");
    ctrl(s.view, 'u');
    letters(&s, where);
    key(&s, K_ENTER);
    until(&s, "3 new pictures taken in, 0 known, 1 of other programs");
    until(&s, "Gallery: 3 pictures");
    letters(&s, "/mill");
    until(&s, "Gallery: 1 picture");
    key(&s, K_ENTER);
    until(&s, "an old mill");
    letters(&s, "4");
    until(&s, "**** an old mill");
    letters(&s, "i");
    until(&s, "seed            71");
    key(&s, K_ESC);
    letters(&s, "e");
    ctrl(s.view, 'u');
    snprintf(path, sizeof path, "%s/exported", folder);
    letters(&s, path);
    key(&s, K_ENTER);
    until(&s, "Saved ");
    letters(&s, "e"); /* into the same, beside it */
    key(&s, K_ENTER);
    for (int i = 0; i < 200 && files_in(path) < 2; i++) turn(&s);
    assert_int_equal(files_in(path), 2);
    letters(&s, "d");
    until(&s, "No picture has all these words");
    assert_int_equal(files_in(where), 3);
    letters(&s, "u");
    until(&s, "Gallery: 1 picture");
    assert_int_equal(files_in(where), 4);
    letters(&s, "c");
    until(&s, "Its settings are in the form");
    sees(&s, "an old mill");
    sees(&s, "32x32");
    sees(&s, "71");
    grant(&s, alt(s.view, 'g'));
    until(&s, "Gallery: 1 picture"); /* the search is still on */
    key(&s, K_ENTER);
    until(&s, "32x32  ");
    sees(&s, "old/1.png");
    end(&s);
}

/* A studio that queues without end, and answers what it is asked. */
static void work_until_killed(const char *path)
{
    struct studio s;

    begin_at(&s, path);
    for (int i = 0;; i++) {
        turn(&s);
        if (strstr(screen(s.view, 100, 40), "Go on?")) letters(&s, "y");
        else if (i % 16 == 0) prompt(&s, i % 32 ? "{a|b} house" : "a mill");
    }
}

/* Every picture in the history is a whole file, every finished job's is there, nothing seems to run. */
static int intact(const char *path)
{
    char notice[STORE_NOTICE_BYTES];
    struct store_queue q;
    struct store_page page;
    struct store *s;
    struct err e = { 0 };
    int made = 0, total;

    if (!store_open(&s, path, notice, &e) || !store_queue_list(s, &q, &e)) fail_msg("%s", e.text);
    assert_string_equal(notice, "");
    for (int i = 0; i < q.count; i++) {
        assert_int_not_equal(q.at[i].state, STORE_RUNNING);
        if (q.at[i].state == STORE_FAILED) fail_msg("%s", q.at[i].error);
        made += q.at[i].made;
    }
    assert_true(store_history_list(s, &(struct store_query){ 0 }, &page, &e));
    for (int i = 0; i < page.count; i++) {
        struct image *im = image_read(page.at[i].path, &e);
        if (!im) fail_msg("%s", e.text);
        image_free(im);
    }
    total = page.count;
    assert_true(total >= made);
    store_page_free(&page);
    store_queue_free(&q);
    store_close(s);
    return total;
}

/* SLUICE_KILLS: how often; SLUICE_SEED: when. */
static void test_killed_at_any_moment(void **state)
{
    (void)state;
    struct studio s;
    const char *kills = getenv("SLUICE_KILLS"), *from = getenv("SLUICE_SEED");
    uint32_t seed = from ? (uint32_t)strtoul(from, NULL, 10) | 1 : (uint32_t)time(NULL) | 1;
    char path[128], other[80], kept[64];

    setenv("FAKE_ENGINE_STEP_MS", "4", 1);
    snprintf(path, sizeof path, "%s/killed.db", folder);
    snprintf(kept, sizeof kept, "%s", out_dir);
    snprintf(out_dir, sizeof out_dir, "%s/killed", folder);
    for (int i = 0; i < (kills ? atoi(kills) : 6); i++) {
        int ms = (int)(random_next(&seed) % 150), status;
        pid_t pid = fork();
        if (pid == 0) {
            work_until_killed(path);
            _exit(1);
        }
        nanosleep(&(struct timespec){ 0, ms * 1000000L }, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL); /* not by itself */
        intact(path);
    }
    begin_at(&s, path);
    for (int i = 0; i < 2000; i++) { /* what is left is made */
        const char *rows;
        turn(&s);
        if (strstr(screen(s.view, 100, 40), "Go on?")) letters(&s, "y");
        rows = i > 20 ? queue_of(&s) : "waiting";
        if (!strstr(rows, "waiting") && !strstr(rows, "running") && !strstr(rows, "interrupted")) break;
    }
    end(&s);
    snprintf(other, sizeof other, "%s", out_dir);
    print_message("%d pictures\n", intact(path));
    assert_int_equal(files_in(other), intact(path)); /* none is lost, none made twice */
    snprintf(out_dir, sizeof out_dir, "%s", kept);
    setenv("FAKE_ENGINE_STEP_MS", "8", 1);
}

static int make_folder(void **state)
{
    (void)state;
    setenv("FAKE_ENGINE_STEP_MS", "8", 1);
    if (!mkdtemp(folder)) return -1;
    snprintf(out_dir, sizeof out_dir, "%s/out", folder);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_picture),        cmocka_unit_test(test_queue_keys),
        cmocka_unit_test(test_many_and_again),   cmocka_unit_test(test_failure_and_remedy),
        cmocka_unit_test(test_left_from_the_last_time), cmocka_unit_test(test_without_a_place),
        cmocka_unit_test(test_contact_sheet),    cmocka_unit_test(test_gallery),
        cmocka_unit_test(test_killed_at_any_moment),
    };

    setenv("LC_ALL", "C.UTF-8", 1);
    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
