/* test_pane_memory.c - the memory pane: plans, what runs, what is not known, in boxes of any
 * size; and the last minute's history. */
#include "tests/view_help.h"
#include "tui/pane_memory.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* FLUX.1-dev at 8 GB, about. */
static struct plan_summary eight_gb(void)
{
    return (struct plan_summary){
        .ok = true, .budget = 8000000000, .arena = 6900000000, .link = 250000000000, .seconds = 245, .disk_seconds = 20,
        .top = PHASE_T5, .memory = { 8590000000, 7900000000, 300000000 },
        .phase = { [PHASE_CLIP] = { .weights = 246000000, .resident = 246000000, .activations = 20000000,
                                    .peak = 266000000 },
                   [PHASE_T5] = { .weights = 9500000000, .ring = 6400000000, .activations = 500000000,
                                  .peak = 6900000000 },
                   [PHASE_MODULATION] = { .weights = 6500000000, .ring = 4000000000, .activations = 200000000,
                                          .peak = 4200000000 },
                   [PHASE_STEP] = { .weights = 17300000000, .resident = 3000000000, .ring = 1000000000,
                                    .activations = 2500000000, .peak = 6500000000, .how = "512 tokens at a time" },
                   [PHASE_VAE] = { .weights = 168000000, .resident = 168000000, .activations = 2000000000,
                                   .peak = 2168000000 } },
    };
}

static char *drawn(const struct pane_memory *m, int w, int h)
{
    static char *text;
    static struct grid g;

    free(text);
    assert_true(grid_resize(&g, w + 2, h + 2, NULL));
    grid_clear(&g);
    pane_memory_draw(&g, (struct rect){ 1, 1, w, h }, m);
    for (int y = 0; y < h + 2; y++)
        for (int x = 0; x < w + 2; x++)
            if ((y == 0 || y == h + 1 || x == 0 || x == w + 1) && g.cells[y * (w + 2) + x].text[0])
                fail_msg("%dx%d: %d,%d is outside", w, h, x, y);
    text = grid_text(&g);
    grid_free(&g);
    return text;
}

static void shows(const struct pane_memory *m, int w, int h, const char *what)
{
    char *text = drawn(m, w, h);

    if (strstr(text, what)) return;
    fputs(text, stderr);
    fail_msg("\"%s\" is not there", what);
}

static void hides(const struct pane_memory *m, int w, int h, const char *what)
{
    char *text = drawn(m, w, h);

    if (!strstr(text, what)) return;
    fputs(text, stderr);
    fail_msg("\"%s\" is there", what);
}

static void test_plan(void **state)
{
    (void)state;
    struct plan_summary p = eight_gb();
    struct pane_memory m = { 0 };

    shows(&m, 38, 7, "no plan yet");
    m.unreadable = true;
    shows(&m, 38, 7, "no plan: a setting cannot be read");
    m = (struct pane_memory){ .plan = &p };
    shows(&m, 38, 7, "peaks at 6.9 of 8.0 GB in T5      4:05");
    shows(&m, 38, 7, "· T5         ████████████▒──│   6.9 GB"); /* the budget's line ends the bar */
    shows(&m, 38, 7, "· CLIP       ▒──────────────│   266 MB");
    shows(&m, 38, 7, "free 7.9 GB  others 300 MB");
    shows(&m, 40, 16, "over link                         250 GB");
    shows(&m, 40, 16, "from disk              20.0 s more, once");
    p.memory.total = p.memory.free = p.memory.others = 0; /* unknown is no 0 */
    shows(&m, 40, 16, "free                                 n/a");
    shows(&m, 40, 16, "others                               n/a");
    p.memory.total = 8590000000;
    shows(&m, 40, 16, "free                       0 B of 8.6 GB");
    p.budget = 0;
    shows(&m, 40, 16, "peaks at 6.9 GB in T5");
    shows(&m, 40, 16, "weights     33.7 GB, used where they lie");
    p.seconds = 0;
    hides(&m, 40, 16, "time");
    p.arena = 7680000;
    p.budget = 8000000000;
    p.top = PHASE_STEP;
    shows(&m, 38, 7, "peak 7.7 MB of 8.0 GB in transformer");
}

static void test_refusal(void **state)
{
    (void)state;
    struct plan_summary p =
        { .text = "a budget of 500000000 bytes does not do: 1024x1024 needs at least 905216000 (905.2 MB), in VAE" };
    struct pane_memory m = { .plan = &p, .remedy = "Alt-m: other profiles" };

    shows(&m, 38, 7, "needs at least");
    shows(&m, 38, 7, "Alt-m: other profiles");
    hides(&m, 38, 7, "peaks");
    shows(&m, 38, 1, "a budget of");
}

static void test_running(void **state)
{
    (void)state;
    struct plan_summary p = eight_gb();
    struct event_memory now = { .arena_bytes = 6900000000, .used_bytes = 3000000000, .rss = 400000000,
                                .rss_anonymous = 300000000,
                                .rss_file = 100000000, .device_total = 8590000000, .device_free = 700000000,
                                .device_held = 400000000, .device_others = 590000000 };
    struct memory_history h = { 0 };
    bool seen[STAGE_COUNT] = { [STAGE_CLIP] = true, [STAGE_T5] = true };
    struct pane_memory m = { .plan = &p, .now = &now, .history = &h, .running = true, .stage = STAGE_T5, .seen = seen };

    shows(&m, 38, 7, "» T5         █████◆██████▒──│   6.9 GB"); /* what is in use, on the plan's bar */
    shows(&m, 38, 7, "◆ CLIP");
    shows(&m, 38, 7, "in use 3.0 of 6.9 GB  free 700 MB");
    shows(&m, 40, 16, "others                            590 MB");
    p.arena--; /* another job's plan */
    assert_false(pane_memory_same(&m));
    hides(&m, 38, 7, "█◆█");
    m.plan = NULL; /* what the job has told stands for it */
    now.activations[STAGE_T5] = 500000000;
    now.on_device[STAGE_T5] = 6400000000;
    shows(&m, 38, 7, "peaks at 6.9 GB in T5");
    now.device_total = 0;
    shows(&m, 40, 16, "free                                 n/a");
    now.host_total = 16000000000;
    now.host_free = 9000000000;
    shows(&m, 40, 16, "free                      9.0 of 16.0 GB");
    shows(&m, 40, 16, "others                            6.7 GB");
}

static void test_history(void **state)
{
    (void)state;
    struct memory_history h = { 0 };
    struct event_memory e = { .used_bytes = 100, .link_bytes = 0, .arena_bytes = 800 };
    struct pane_memory m = { .now = &e, .history = &h, .running = true };

    memory_history_note(&h, 5000, &e);
    assert_int_equal(h.count, 1);
    e.used_bytes = 700;
    e.link_bytes = 1000000000;
    memory_history_note(&h, 5400, &e); /* of one second the most */
    e.used_bytes = 50;
    memory_history_note(&h, 5900, &e);
    assert_int_equal(h.count, 1);
    assert_int_equal(h.used[0], 700);
    assert_true(h.link_rate > 1.1e9 && h.link_rate < 1.2e9);
    e.used_bytes = 800;
    e.link_bytes = 3000000000;
    memory_history_note(&h, 8900, &e); /* two seconds said nothing */
    assert_int_equal(h.count, 4);
    assert_int_equal(h.used[2], 700);
    assert_int_equal(h.used[3], 800);
    shows(&m, 40, 16, "60 s                                ▇▇▇█");
    shows(&m, 40, 16, "link                            667 MB/s");
    e.link_bytes = 5; /* another job */
    memory_history_note(&h, 9900, &e);
    assert_true(h.link_rate == 0);
    memory_history_note(&h, 500000, &e);
    assert_int_equal(h.count, MEMORY_SECONDS);
    memory_history_note(&h, 400, &e); /* a clock that goes back is no harm */
    assert_int_equal(h.count, MEMORY_SECONDS);
}

/* On the main screen: asked for when something that counts has changed, and only then. */
static void test_asked_for(void **state)
{
    (void)state;
    struct view *v = make_view("portrait", "8gb");
    struct plan_summary p = eight_gb();
    struct job j = { 0 };
    uint64_t first, second;

    assert_true(view_plan_wanted(v, &j, &first));
    assert_int_equal(j.width, 256);
    job_free(&j);
    assert_false(view_plan_wanted(v, &j, &second));
    view_planned(v, first, &p);
    has(v, "peaks at 6.9 of 8.0 GB in T5");
    golden(v, "memory", 80, 24);
    golden(v, "memory", 120, 40);
    golden(v, "memory", 200, 60);
    golden(v, "memory", 60, 18);
    type(v, "a prompt changes nothing of it");
    assert_false(view_plan_wanted(v, &j, &second));
    press(v, K_TAB);
    press(v, K_RIGHT); /* the size does */
    assert_true(view_plan_wanted(v, &j, &second));
    assert_int_equal(j.width, 272);
    job_free(&j);
    p.ok = false;
    strcpy(p.text, "a budget of 500000000 bytes does not do: 272x272 needs at least 905216000 (905.2 MB), in VAE");
    view_planned(v, second, &p);
    golden(v, "memory-refused", 80, 24);
    golden(v, "memory-refused", 120, 40);
    press(v, K_END);
    type(v, "x"); /* a size that cannot be read */
    assert_false(view_plan_wanted(v, &j, &second));
    has(v, "no plan: a setting cannot be read");
    press(v, K_BACKSPACE); /* as it was: asked for again, since nothing is shown */
    assert_true(view_plan_wanted(v, &j, &second));
    job_free(&j);
    view_planned(v, second, &(struct plan_summary){ .ok = true, .arena = 6900000000 });
    news(v, about(EVENT_IDLE, 1)); /* a job has shown how fast this machine is */
    assert_true(view_plan_wanted(v, &j, &second));
    job_free(&j);
    view_free(v);
}

/* Whatever is told, nothing is drawn beside the pane. */
static void test_any_size(void **state)
{
    (void)state;
    uint32_t seed = 2463534242u;

    for (int i = 0; i < 3000; i++) {
        struct plan_summary p = eight_gb();
        struct event_memory now = { .arena_bytes = p.arena, .used_bytes = random_next(&seed) * 4ull,
                                    .link_bytes = random_next(&seed),
                                    .device_total = random_next(&seed) % 2 * 8000000000ull,
                                    .device_free = random_next(&seed) };
        struct memory_history h = { 0 };
        struct pane_memory m = { .plan = random_next(&seed) % 4 ? &p : NULL,
                                 .now = random_next(&seed) % 4 ? &now : NULL,
                                 .history = &h, .running = random_next(&seed) % 2,
                                 .stage = random_next(&seed) % STAGE_COUNT };
        for (int k = 0; k < 5; k++) {
            p.phase[k].peak = random_next(&seed) * 2ull;
            p.phase[k].activations = random_next(&seed) % (p.phase[k].peak + 1);
        }
        p.ok = random_next(&seed) % 5 > 0;
        p.budget = random_next(&seed) % 3 ? p.budget : 0;
        p.arena = random_next(&seed) % 3 ? p.arena : 0;
        snprintf(p.text, sizeof p.text, "a reason \033[31m that is somewhat long, and goes on for more than one row");
        for (int k = 0; k < 70; k++) memory_history_note(&h, k * 1000, &now);
        int w = 1 + (int)(random_next(&seed) % 70), rows = 1 + (int)(random_next(&seed) % 20);
        drawn(&m, w, rows);
        struct grid g = { 0 };
        assert_true(grid_resize(&g, w, 1, NULL));
        pane_memory_line(&g, (struct rect){ 0, 0, w, 1 }, &m);
        grid_free(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),    cmocka_unit_test(test_refusal),  cmocka_unit_test(test_running),
        cmocka_unit_test(test_history), cmocka_unit_test(test_any_size),
        cmocka_unit_test(test_asked_for),
    };

    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
