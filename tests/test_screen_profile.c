/* test_screen_profile.c - the profile editor: the list, what each switch would do, values typed,
 * applying, saving, deleting; and a profile's settings for large pictures coming and going.
 * Plans are answered by a function of the job, so that every difference is known. */
#include "engine/setting.h"
#include "tests/view_help.h"
#include "tui/service_plan.h"
#include "tui/service_profile.h"

#include <locale.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- help --------------------------------------------------------------------------- */

static struct profile file_of(const char *path)
{
    struct profile p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };

    if (!profile_load(&p, path, &f, &e)) fail_msg("%s", e.text);
    return p;
}

/* Those that come with the program, one of the user's, one that cannot be read. */
static void give_list(struct view *v, bool with_own)
{
    static const char *const names[] = { "8gb", "12gb", "16gb", "24gb", "auto", "minimum" };
    struct view_profile *l = calloc(9, sizeof *l);
    int n = 0;

    assert_non_null(l);
    for (; n < 6; n++) {
        char path[128];
        snprintf(path, sizeof path, "presets/profiles/%s.yaml", names[n]);
        strcpy(l[n].name, names[n]);
        l[n].profile = file_of(path);
    }
    if (with_own) {
        strcpy(l[n].name, "mine");
        l[n].own = true;
        l[n++].profile = file_of("presets/profiles/12gb.yaml");
    }
    strcpy(l[n].name, "broken-and-with-quite-a-long-name-for-a-list");
    l[n].own = true;
    strcpy(l[n++].wrong, "mine.yaml:3:9: budget \"much\": no number of bytes");
    view_profiles(v, l, n);
}

/* Half the budget is used, decoding whole takes a third more; less than 2 GB does not do. */
static struct plan_summary plan_of(const struct job *j)
{
    size_t budget = j->budget == JOB_BUDGET_LEAST               ? 1000000000
                    : j->budget == JOB_BUDGET_AUTO || !j->budget ? 20000000000
                                                                 : j->budget;
    struct plan_summary p = { .ok = budget >= 2000000000 || j->budget == JOB_BUDGET_LEAST, .budget = budget,
                              .arena = budget / 2, .link = 100000000000, .seconds = 60, .top = PHASE_T5 };

    if (!p.ok)
        strcpy(p.text,
               "a budget of 1000000000 bytes does not do: 256x256 needs at least 2000000000 (2000.0 MB), in VAE");
    if (j->vae == VAE_WHOLE) p.arena += 1000000000, p.seconds -= 10;
    if (j->transformer == TRANSFORMER_OFFLOAD) p.link += 50000000000, p.seconds += 200;
    return p;
}

static int answer(struct view *v)
{
    struct job j = { 0 };
    uint64_t ticket;
    int n = 0;

    for (; view_plan_wanted(v, &j, &ticket); n++) {
        struct plan_summary p = plan_of(&j);
        view_planned(v, ticket, &p);
        job_free(&j);
    }
    return n;
}

/* The profile that the editor marks as the one in use. */
static const char *title_profile(struct view *v)
{
    static char name[64];
    const char *at = strstr(screen(v, 80, 24), "◆ ");

    name[0] = 0;
    if (at) sscanf(at + strlen("◆ "), "%63[^ *│]", name);
    return name;
}

/* With that profile in use, by the editor itself; NULL: none. */
static struct view *opened(const char *profile)
{
    struct view *v = make_view(NULL, NULL);

    assert_false(view_profiles_wanted(v));
    alt(v, 'm');
    assert_true(view_profiles_wanted(v));
    assert_false(view_profiles_wanted(v));
    give_list(v, true);
    for (int i = 0; profile && i < 10 && strcmp(title_profile(v), profile); i++) {
        press(v, K_DOWN);
        press(v, K_ENTER);
    }
    return v;
}

static struct job job_of(struct view *v)
{
    struct job j = { 0 };
    struct err e = { 0 };

    if (!view_job(v, &j, &e)) fail_msg("%s", e.text);
    return j;
}

/* To the switch of that name. */
static void to_switch(struct view *v, const char *name)
{
    char at[64];

    press(v, K_HOME);
    for (int i = 0; i < 32; i++) {
        const struct setting *s = NULL;
        for (int k = 0, n = -1; k < setting_count() && n < i; k++)
            if (setting_at(k)->scope & SETTING_PROFILE && ++n == i) s = setting_at(k);
        snprintf(at, sizeof at, "%s", s ? s->name : "");
        if (!strcmp(at, name)) return;
        press(v, K_DOWN);
    }
    fail_msg("there is no switch %s", name);
}

/* --- tests ------------------------------------------------------------------------------ */

static void test_screens(void **state)
{
    (void)state;
    struct view *v = make_view(NULL, NULL);

    alt(v, 'm');
    golden(v, "profiles-reading", 80, 24);
    view_free(v);
    v = opened("12gb");
    has(v, "planning");
    answer(v);
    golden(v, "profiles", 80, 24);
    golden(v, "profiles", 120, 40);
    golden(v, "profiles", 200, 60);
    golden(v, "profiles", 40, 12);
    press(v, K_TAB);
    to_switch(v, "vae");
    press(v, K_RIGHT);
    answer(v);
    golden(v, "profiles-switch", 80, 24);
    golden(v, "profiles-switch", 120, 40);
    golden(v, "profiles-switch", 40, 12);
    press(v, K_ESC);
    has(v, "Settings");
    view_free(v);
}

/* Each way a switch that is on or off can stand: it is one byte, wherever in a job it lies. */
static void test_on_and_off(void **state)
{
    (void)state;
    static const char *const names[] = { "pin_weights", "preview", "embedding_cache", "history" };
    struct view *v = opened("8gb");

    press(v, K_TAB);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        to_switch(v, names[i]);
        for (int turn = 0; turn < 2; turn++) {
            press(v, K_RIGHT);
            screen(v, 80, 24);
        }
    }
    view_free(v);
}

/* What it saves and costs is there before it is thrown, and follows what is thrown. */
static void test_effects(void **state)
{
    (void)state;
    struct view *v = opened("8gb");
    int switches = 0;

    for (int i = 0; i < setting_count(); i++) switches += (setting_at(i)->scope & SETTING_PROFILE) != 0;
    assert_int_equal(answer(v), 2 + switches); /* the form's, the draft's, each switch's */
    has(v, "peaks at 4.0 of 8.0 GB in T5, about 60.0 s");
    press(v, K_TAB);
    to_switch(v, "budget");
    has(v, "budget          8 GB         10 GB       +1.0 GB");
    has(v, "10 GB: peak 5.0 GB, now 4.0 GB");
    press(v, K_RIGHT);
    has(v, "..."); /* not known yet */
    answer(v);
    has(v, "budget         *10 GB        12 GB       +1.0 GB");
    press(v, K_LEFT);
    press(v, K_LEFT);
    answer(v);
    has(v, "budget         *6 GB         8 GB        +1.0 GB");
    to_switch(v, "transformer");
    press(v, K_RIGHT);
    answer(v);
    has(v, "transformer    *resident     offload     same     +3:20");
    type(v, "r");
    answer(v);
    has(v, "transformer     auto");
    to_switch(v, "vae"); /* bands are exact, tiles are not */
    has(v, "bands       !tiles");
    has(v, "changes the picture");
    press(v, K_LEFT);
    answer(v);
    has(v, "whole        bands       -1.0 GB  +10.0 s");
    to_switch(v, "embedding_cache");
    has(v, "embedding_cache on           off         same     same");
    press(v, K_TAB);
    type(v, "r"); /* all of the profile */
    has_not(v, "8gb*");
    view_free(v);
}

static void test_no_plan(void **state)
{
    (void)state;
    struct view *v = opened("8gb");

    press(v, K_TAB);
    to_switch(v, "budget");
    press(v, K_ENTER);
    ctrl(v, 'u');
    type(v, "much");
    press(v, K_ENTER);
    has(v, "much"); /* beside it, the complaint */
    has(v, "no number of");
    press(v, K_ESC);
    answer(v);
    has(v, "budget          8 GB");
    press(v, K_ENTER);
    ctrl(v, 'u');
    type(v, "1.5G");
    press(v, K_ENTER);
    answer(v);
    has(v, "budget         *1.5 GB       4 GB        does");
    has(v, "a budget of 1000000000 bytes does not do");
    press(v, K_LEFT); /* to the step below */
    answer(v);
    has(v, "budget         *min");
    type(v, "a");
    assert_true(answer(v) > 0);
    view_free(v);
}

static void test_apply(void **state)
{
    (void)state;
    struct view *v = opened(NULL);
    struct job j;

    press(v, K_DOWN);
    press(v, K_DOWN);
    has(v, "12 GB cards");
    press(v, K_ENTER);
    j = job_of(v);
    assert_int_equal(j.budget, 12000000000);
    assert_int_equal(j.vae, VAE_BANDS);
    assert_int_equal(j.recompute, 1024);
    job_free(&j);
    has(v, "The next picture is made with 12gb");
    press(v, K_ESC);
    has(v, "│ 12gb  ");
    /* a switch thrown, and applied: the title says that it is edited */
    alt(v, 'm');
    assert_false(view_profiles_wanted(v));
    press(v, K_TAB);
    to_switch(v, "vae");
    press(v, K_LEFT);
    j = job_of(v);
    assert_int_equal(j.vae, VAE_BANDS); /* nothing is used before it is applied */
    job_free(&j);
    type(v, "a");
    j = job_of(v);
    assert_int_equal(j.vae, VAE_WHOLE);
    assert_int_equal(j.budget, 12000000000);
    job_free(&j);
    press(v, K_ESC);
    has(v, "│ 12gb*");
    /* what is edited elsewhere is in the draft */
    assert_true(view_set(v, setting_find("count"), "3", NULL));
    alt(v, 'm');
    press(v, K_TAB);
    to_switch(v, "vae");
    has(v, "vae            *whole");
    has(v, "count          *3");
    press(v, K_TAB);
    press(v, K_HOME); /* no profile: the defaults */
    press(v, K_ENTER);
    j = job_of(v);
    assert_int_equal(j.budget, 0);
    assert_int_equal(j.vae, VAE_AUTO);
    job_free(&j);
    press(v, K_ESC);
    has_not(v, "12gb");
    view_free(v);
}

static void test_save(void **state)
{
    (void)state;
    struct view *v = opened("8gb");
    struct wish w;

    press(v, K_TAB);
    to_switch(v, "budget");
    press(v, K_RIGHT);
    type(v, "s");
    has(v, "Save as: 8gb-mine");
    ctrl(v, 'u');
    type(v, "../x");
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    golden(v, "profiles-name", 120, 40);
    has(v, "Save as: ../x");
    ctrl(v, 'u');
    type(v, "mine"); /* that there is: asked */
    assert_int_equal(press(v, K_ENTER).kind, WISH_NONE);
    has(v, "There is a mine of yours: replace it?");
    press(v, K_ESC);
    has(v, "8gb*");
    type(v, "s");
    w = press(v, K_ENTER);
    assert_int_equal(w.kind, WISH_PROFILE_SAVE);
    assert_string_equal(w.profile.name, "8gb-mine");
    assert_false(w.profile.replace);
    assert_non_null(strstr(w.profile.text,
                           "sluice: 1\nabout: \"after 8gb\"\nbudget: 10G\ntext_encoders: sequential\n"));
    /* a duplicate is the file as it is */
    press(v, K_TAB);
    type(v, "d");
    has(v, "Duplicate as: 8gb-2");
    w = press(v, K_ENTER);
    assert_int_equal(w.kind, WISH_PROFILE_SAVE);
    assert_non_null(strstr(w.profile.text, "\nbudget: 8G\n"));
    give_list(v, true);
    /* deleting: only one's own, and asked */
    press(v, K_HOME);
    press(v, K_DOWN);
    type(v, "x");
    has(v, "Only profiles of your own");
    for (int i = 0; i < 6; i++) press(v, K_DOWN);
    type(v, "x");
    has(v, "Delete the profile mine?");
    press(v, K_ESC);
    assert_int_equal(press(v, K_DELETE).kind, WISH_NONE);
    w = press(v, K_ENTER);
    assert_int_equal(w.kind, WISH_PROFILE_DELETE);
    assert_string_equal(w.profile.name, "mine");
    give_list(v, false);
    has_not(v, " mine");
    view_free(v);
}

/* One that cannot be read says why, and does nothing. */
static void test_broken(void **state)
{
    (void)state;
    struct view *v = opened("8gb");
    struct job j;

    press(v, K_END);
    has(v, "mine.yaml:3:9: budget");
    press(v, K_ENTER);
    press(v, K_TAB);
    press(v, K_RIGHT);
    type(v, "sdr");
    press(v, K_ENTER);
    j = job_of(v);
    assert_int_equal(j.budget, 8000000000);
    job_free(&j);
    view_free(v);
}

/* 16gb says something else from 1536x1536 on. */
static void test_large(void **state)
{
    (void)state;
    struct view *v = opened(NULL);
    struct job j;

    for (int i = 0; i < 3; i++) press(v, K_DOWN);
    press(v, K_ENTER);
    press(v, K_ESC);
    j = job_of(v);
    assert_int_equal(j.vae, VAE_WHOLE);
    assert_int_equal(j.recompute, JOB_AUTO);
    job_free(&j);
    press(v, K_TAB); /* size */
    ctrl(v, 'u');
    type(v, "1536x1536");
    has(v, "From 1536x1536: the profile's settings for large pictures");
    has(v, "│ 16gb ");
    j = job_of(v);
    assert_int_equal(j.vae, VAE_AUTO);
    assert_int_equal(j.recompute, 1024);
    assert_int_equal(j.budget, 16000000000);
    job_free(&j);
    /* one of them is edited: it stays */
    assert_true(view_set(v, setting_find("recompute"), "256", NULL));
    ctrl(v, 'u');
    type(v, "512x512");
    j = job_of(v);
    assert_int_equal(j.vae, VAE_WHOLE);
    assert_int_equal(j.recompute, 256);
    job_free(&j);
    has(v, "│ 16gb*");
    view_free(v);
}

/* Any keys at any size: nothing but what is on the screen, and never a plan for what is gone. */
static void test_random_use(void **state)
{
    (void)state;
    uint32_t seed = 362436069u;
    struct view *v = opened("8gb");
    struct grid g = { 0 };
    static const char letters[] = "adsrxqjklh?1G";

    for (int i = 0; i < 3000; i++) {
        uint32_t r = random_next(&seed);
        struct key k = { .kind = r & 1 ? K_CHAR : (enum key_kind)(1 + r % (K_F12 - 1)),
                         .ch = (uint32_t)letters[r / 8 % (sizeof letters - 1)] };
        if (k.kind == K_PASTE || k.kind == K_MOUSE) k.kind = K_TAB;
        struct wish w = view_key(v, &k);
        if (w.kind == WISH_PROFILE_SAVE || w.kind == WISH_PROFILE_DELETE) give_list(v, r & 256);
        if (r % 3 == 0) answer(v);
        if (r % 5 == 0) alt(v, 'm');
        if (view_profiles_wanted(v)) give_list(v, true);
        view_resize(v,
                    (struct view_screen){ 1 + (int)(random_next(&seed) % 150), 1 + (int)(random_next(&seed) % 50), 9,
                                          18, 0, 0, false });
        assert_true(view_draw(v, &g, NULL));
        if (g.cursor_shown)
            assert_true(g.cursor_x >= 0 && g.cursor_x < g.cols && g.cursor_y >= 0 && g.cursor_y < g.rows);
    }
    grid_free(&g);
    view_free(v);
}

/* --- the services ------------------------------------------------------------------------- */

static void wait_for(struct worker *w)
{
    struct pollfd p = { .fd = worker_fd(w), .events = POLLIN };
    struct worker_job *j;

    assert_int_equal(poll(&p, 1, 10000), 1);
    while ((j = worker_take(w))) j->done(j, NULL);
}

/* The whole way of a profile: listed, changed, saved, refused, replaced, deleted. */
static void test_disk(void **state)
{
    (void)state;
    char home[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct service_profile s = { .view = make_view(NULL, NULL) };
    struct view *v = s.view;
    struct profile p;
    struct wish w;

    assert_true(folder_temporary(home, "profiles", NULL));
    setenv("XDG_CONFIG_HOME", home, 1);
    setenv("XDG_STATE_HOME", home, 1);
    assert_true(worker_start(&s.worker, NULL));
    alt(v, 'm');
    service_profile_pump(&s);
    wait_for(s.worker);
    has(v, "article-8gb"); /* what came with the program */
    press(v, K_DOWN);
    press(v, K_TAB);
    to_switch(v, "budget");
    press(v, K_RIGHT);
    type(v, "s");
    ctrl(v, 'u');
    type(v, "mine");
    w = press(v, K_ENTER);
    service_profile_save(&s, w.profile.name, w.profile.text, w.profile.replace);
    wait_for(s.worker);
    has(v, "mine     yours");
    has(v, "Saved");
    assert_true(file_join(path, home, "sluice/profiles/mine.yaml", NULL));
    p = file_of(path);
    assert_string_equal(sheet_find(&p.rows, setting_find("budget"))->text, "10G");
    profile_free(&p);
    service_profile_save(&s, "mine", "sluice: 1\nbudget: 3G\n", false); /* it is there */
    wait_for(s.worker);
    has(v, "there is a profile mine already");
    service_profile_save(&s, "mine", "sluice: 1\nbudget: 3G\n", true);
    wait_for(s.worker);
    p = file_of(path);
    assert_string_equal(sheet_find(&p.rows, setting_find("budget"))->text, "3G");
    profile_free(&p);
    service_profile_save(&s, "../out", "sluice: 1\n", true);
    wait_for(s.worker);
    has(v, "is no name");
    service_profile_delete(&s, "8gb"); /* not the user's */
    wait_for(s.worker);
    has(v, "8gb came with the program");
    service_profile_delete(&s, "mine");
    wait_for(s.worker);
    has_not(v, "yours");
    assert_false(file_exists(path));
    worker_stop(s.worker);
    worker_free(s.worker);
    view_free(v);
    folder_remove(home);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_STATE_HOME");
}

static int asked, measured;

static void foresee(struct engine *g, const struct job *j, struct plan_summary *out)
{
    (void)g;
    asked++;
    *out = plan_of(j);
    if (!measured) out->seconds = 0;
}

static bool speed(struct engine *g, const struct job *j, struct err *e)
{
    (void)g, (void)j, (void)e;
    measured++;
    return true;
}

/* A plan, its time measured once, another when a field has changed; one at a time, the newest. */
static void test_plans(void **state)
{
    (void)state;
    static const struct studio_engine calls = { .foresee = foresee, .foresee_speed = speed };
    struct service_plan s = { .view = make_view(NULL, NULL), .calls = &calls };
    struct view *v = s.view;

    asked = measured = 0;
    assert_true(worker_start(&s.worker, NULL));
    for (int i = 0; i < 3; i++) { /* the plan, the speed, the plan */
        service_plan_pump(&s);
        service_plan_pump(&s); /* one is under way */
        wait_for(s.worker);
    }
    assert_int_equal(measured, 1);
    assert_int_equal(asked, 2);
    has(v, "peaks at 10.0 of 20.0 GB in T5");
    service_plan_pump(&s); /* nothing has changed */
    assert_false(s.busy);
    press(v, K_TAB);
    for (int i = 0; i < 5; i++) press(v, K_RIGHT);
    service_plan_pump(&s);
    wait_for(s.worker);
    assert_int_equal(asked, 3);
    press(v, K_RIGHT);
    service_plan_pump(&s); /* the end comes first */
    worker_stop(s.worker);
    for (struct worker_job *j; (j = worker_take(s.worker));) j->done(j, NULL);
    worker_free(s.worker);
    view_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_screens), cmocka_unit_test(test_on_and_off), cmocka_unit_test(test_effects), cmocka_unit_test(test_no_plan),
        cmocka_unit_test(test_apply),   cmocka_unit_test(test_save),    cmocka_unit_test(test_broken),
        cmocka_unit_test(test_large),   cmocka_unit_test(test_random_use),
        cmocka_unit_test(test_disk),    cmocka_unit_test(test_plans),
    };

    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
