/* test_devices.c - what is known of a card's memory, and what a job may have of it: on the card that works on
 * the processor (tests/cuda/fake.h), watched by a library that says what it is told (tests/nvml). */
#include "engine/devices.h"
#include "engine/pipeline.h"
#include "kernels/cuda.h"
#include "tests/cuda/fake.h"
#include "tests/golden_model.h"
#include "tests/nvml/fake_nvml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t MB = 1000000, TOTAL = 8000000000, CONTEXT = 400000000, OTHERS = 1500000000, FREE = 6100000000;

static char build[FILE_PATH_MAX], nvml_path[FILE_PATH_MAX];
static struct fake_nvml *nvml;
static struct devices ds; /* all zero: nothing is open */

static struct {
    void (*reset)(void);
    void (*set_memory)(size_t);
    void (*set_others)(size_t);
    void (*fail_at)(long, int);
    const char *(*failed)(void);
    int (*live)(enum fake_cuda_kind);
} card;

static void *find(void *library, const char *name)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (!found)
        fail_msg("%s", dlerror());
    return found;
}

/* What NVML sees of the machine: each time it is asked, something may have happened meanwhile. */
static struct {
    size_t others, taken;    /* of the card's use: other programs'; this one's arena */
    int asked;               /* how often */
    int change_at;           /* the time of asking before which others change to: */
    size_t change;
    int fail_at;             /* the time of asking from which on NVML refuses */
} world;

static void others_hold(size_t bytes)
{
    world.others = bytes;
    card.set_others(bytes + CONTEXT); /* the runtime, which has a context, sees no memory where that is */
}

static size_t used_now(void)
{
    if (++world.asked == world.change_at)
        others_hold(world.change);
    if (world.fail_at && world.asked + 1 >= world.fail_at) {
        strcpy(nvml->failing, "Memory");
        nvml->code = 4;
    }
    return world.others + world.taken + (card.live(FAKE_CUDA_STREAM) ? CONTEXT : 0);
}

static struct job job_on(enum device_choice device)
{
    return (struct job){ .device = device, .precision = PRECISION_FP32, .vae_precision = JOB_AUTO_PRECISION,
                         .budget = 4000 * MB, .memory_fraction = 0.9f, .threads = 2 };
}

static struct devices_card opened(const struct job *j)
{
    struct err e = { 0 };
    if (!devices_open(&ds, j, &e))
        fail_msg("%s", e.text);
    return devices_card(&ds);
}

static size_t budget(const struct job *j, const char *says)
{
    char notice[EVENT_TEXT_BYTES];
    size_t bytes = devices_budget(&ds, j, notice);
    if (says ? !strstr(notice, says) : notice[0])
        fail_msg("\"%s\", expected \"%s\"", notice, says ? says : "");
    return bytes;
}

static void all_known(void **state)
{
    (void)state;
    struct job j = job_on(DEVICE_CUDA);
    struct devices_card c = opened(&j);
    assert_true(c.total == TOTAL && c.free == FREE && c.held == CONTEXT && c.others == OTHERS);
    for (int i = 0; i < DEVICES_FACTS; i++)
        assert_string_equal(c.why[i], "");
    assert_true(budget(&j, NULL) == j.budget - CONTEXT);
    /* A second device, of the VAE's own precision, is measured with the first. */
    j.vae_precision = (int)PRECISION_FP16;
    c = opened(&j);
    assert_true(ds.vae != ds.main && c.held == CONTEXT && c.others == OTHERS);
    j.budget = 7000 * MB;
    size_t most = (size_t)((double)FREE * (double)j.memory_fraction);
    assert_true(budget(&j, "the budget is 7.00 GB, but 6.10 GB are free: planned for 5.49 GB (90 %); others hold "
                           "1.50 GB of the card") == most);
    j.budget = JOB_BUDGET_AUTO;
    assert_true(budget(&j, NULL) == most);
    j.budget = CONTEXT;
    assert_true(budget(&j, NULL) == 1);
}

/* Libraries take more in a job; others take and give back at any time. */
static void what_grows(void **state)
{
    (void)state;
    struct job j = job_on(DEVICE_CUDA);
    struct err e = { 0 };
    void *memory;
    opened(&j);
    assert_true(device_take(ds.main, &memory, 600 * MB, &e));
    world.taken = 600 * MB;
    devices_working(&ds, true);
    struct devices_card c = devices_card(&ds);
    assert_true(c.held == CONTEXT && c.others == OTHERS);
    others_hold(OTHERS + 50 * MB); /* to all who count it is only memory that went */
    c = devices_card(&ds);
    assert_true(c.held == CONTEXT + 50 * MB && c.others == OTHERS);
    devices_working(&ds, false);
    device_give(ds.main, memory);
    world.taken = 0;
    c = devices_card(&ds);
    assert_true(c.held == CONTEXT + 50 * MB && c.others == OTHERS);
    assert_true(budget(&j, NULL) == j.budget - CONTEXT - 50 * MB);
    others_hold(OTHERS + 950 * MB); /* between jobs: others */
    c = devices_card(&ds);
    assert_true(c.held == CONTEXT + 50 * MB && c.others == OTHERS + 900 * MB);
    devices_working(&ds, true);
    devices_working(&ds, false);
    assert_true(devices_card(&ds).held == CONTEXT + 50 * MB);
    others_hold(OTHERS); /* what came back was never a library's */
    devices_working(&ds, true);
    c = devices_card(&ds);
    assert_true(c.held == CONTEXT && c.others == OTHERS);
    devices_working(&ds, false);
}

/* Without NVML: the runtime's own figures, and why there are no others. */
static void nvml_says_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *library, *failing;
        size_t total;
        int fail_at, change_at;
        const char *why, *held_why;
    } cases[] = {
        { .library = "", .why = "SLUICE_NVML is empty" },
        { .library = "./no/such/libnvidia-ml.so.1", .why = "no/such" },
        { .library = "libm.so.6", .why = "no nvmlInit_v2" },
        { .failing = "Init", .why = "Insufficient Permissions" },
        { .failing = "Handle", .why = "0000:65:00.0: NVML: Insufficient Permissions" },
        { .failing = "Memory", .why = "NVML: Insufficient Permissions" },
        { .total = 80000000000, .why = "GB used of 80.00 GB, and CUDA of a card of 8.00 GB",
          .held_why = "NVML tells of" }, /* a part of a card */
        { .total = 1000000, .why = "GB used of 0.00 GB", .held_why = "NVML tells of" },
        { .fail_at = 2, .why = "NVML: Insufficient Permissions" },
        { .change_at = 2, .why = "", .held_why = "gave memory back while the card was opened" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = job_on(DEVICE_CUDA);
        *nvml = (struct fake_nvml){ .cards = 1, .code = 4, .total = cases[i].total ? cases[i].total : TOTAL,
                                    .used_now = used_now };
        if (cases[i].failing)
            strcpy(nvml->failing, cases[i].failing);
        memset(&world, 0, sizeof world);
        others_hold(OTHERS);
        world.fail_at = cases[i].fail_at;
        world.change_at = cases[i].change_at;
        setenv("SLUICE_NVML", cases[i].library ? cases[i].library : nvml_path, 1);
        struct devices_card c = opened(&j);
        const char *held_why = cases[i].held_why ? cases[i].held_why : cases[i].why;
        if (!strstr(c.why[DEVICES_OTHERS], cases[i].why) || !strstr(c.why[DEVICES_HELD], held_why))
            fail_msg("case %zu: \"%s\", \"%s\"", i, c.why[DEVICES_OTHERS], c.why[DEVICES_HELD]);
        assert_true(c.total == TOTAL && c.free == TOTAL - CONTEXT - world.others && c.held == 0);
        assert_true((c.others == DEVICES_UNKNOWN) == (cases[i].why[0] != '\0'));
        assert_true(budget(&j, NULL) == j.budget);
        j.budget = JOB_BUDGET_AUTO;
        assert_true(budget(&j, NULL) == (size_t)((double)c.free * (double)j.memory_fraction));
        devices_close(&ds);
        assert_int_equal(nvml->open, 0);
    }
}

static void the_runtime_says_nothing(void **state)
{
    (void)state;
    struct job j = job_on(DEVICE_CUDA);
    opened(&j);
    for (int n = 1; !card.failed() || strcmp(card.failed(), "cudaMemGetInfo"); n++) {
        card.fail_at(n, 0);
        devices_card(&ds);
        assert_true(n < 10);
    }
    card.fail_at(2, 0);
    struct devices_card c = devices_card(&ds);
    assert_true(c.total == TOTAL && c.free == DEVICES_UNKNOWN && c.others == DEVICES_UNKNOWN);
    assert_true(c.held == DEVICES_UNKNOWN);
    for (int i = 0; i < DEVICES_FACTS; i++)
        assert_non_null(strstr(c.why[i], "the CUDA runtime"));
    card.fail_at(2, 0);
    assert_true(budget(&j, NULL) == j.budget);
}

static void the_processor_has_no_card(void **state)
{
    (void)state;
    struct job j = job_on(DEVICE_CPU);
    struct devices_card c = opened(&j);
    assert_true(c.total == 0 && c.free == 0 && c.others == 0 && c.held == 0 && nvml->open == 0);
    devices_working(&ds, true);
    devices_working(&ds, false);
    assert_true(devices_card(&ds).held == 0);
}

/* --- jobs -------------------------------------------------------------------------------- */

static struct model model;
static char scratch[FILE_PATH_MAX];

struct said { char notices[4096]; struct event_memory memory; struct image *image; };

static void hear(void *user, struct event *ev)
{
    struct said *s = user;
    size_t n = strlen(s->notices);
    if (ev->kind == EVENT_NOTICE)
        snprintf(s->notices + n, sizeof s->notices - n, "%s\n", ev->text);
    if (ev->kind == EVENT_MEMORY && ev->memory.arena_bytes)
        s->memory = ev->memory;
    if (ev->kind == EVENT_DONE) {
        s->image = ev->image;
        ev->image = NULL;
    }
    event_clear(ev);
}

/* The picture of a small model; released by image_free. */
static struct image *picture(struct said *s)
{
    struct pipeline_hooks hooks = { .emit = hear, .user = s };
    struct pipeline *p = NULL;
    struct job j;
    char out[FILE_PATH_MAX];
    struct err e = { 0 };
    memset(s, 0, sizeof *s);
    if (!job_init(&j, &model, &e) || !job_set_string(&j.prompt, "a fish", &e) ||
        !job_set_string(&j.out, path_in(scratch, "picture.png", out), &e))
        fail_msg("%s", e.text);
    j.width = 64;
    j.height = 48;
    j.steps = 1;
    j.seed = 5;
    j.precision = PRECISION_FP32;
    j.device = DEVICE_CUDA;
    j.budget = JOB_BUDGET_AUTO;
    j.memory_fraction = 0.9f;
    j.embedding_cache = false;
    if (!pipeline_new(&p, &model, &e) || !pipeline_run(p, &j, 1, &hooks, &e))
        fail_msg("%s", e.text);
    pipeline_free(p);
    job_free(&j);
    assert_non_null(s->image);
    return s->image;
}

/* Every call fails once while the card is opened: nothing of NVML stays open either. */
static void opening_fails(void **state)
{
    (void)state;
    struct said s;
    struct job j = job_on(DEVICE_CUDA);
    bool again = true;
    for (long n = 1; again; n++) {
        struct err e = { 0 };
        card.reset();
        card.set_memory(TOTAL);
        card.fail_at(n, 0);
        bool ok = devices_open(&ds, &j, &e);
        again = card.failed() != NULL;
        card.fail_at(0, 0);
        assert_true(ok || (!ds.main && e.text[0]));
        assert_int_equal(nvml->open, ok);
        devices_close(&ds);
        assert_int_equal(nvml->open, 0);
    }
    image_free(picture(&s)); /* and the next opening has nothing of it */
}

/* What is free is asked, others take of it, and then the plan's memory is refused. */
static void others_come_between_plan_and_start(void **state)
{
    (void)state;
    struct said s;
    struct image *want = picture(&s), *got;
    size_t needs = s.memory.arena_bytes;
    assert_string_equal(s.notices, "");
    assert_true(s.memory.device_total == TOTAL && s.memory.device_held == CONTEXT && s.memory.device_why[0] == '\0');
    world.asked = 0;
    world.change_at = 3; /* 1, 2: around the context; 3: for the budget, when free was told already */
    world.change = TOTAL - CONTEXT - needs / 10 * 9;
    got = picture(&s);
    assert_non_null(strstr(s.notices, "MB were refused by the card, of which others hold "));
    assert_non_null(strstr(s.notices, "planned again with"));
    assert_true(s.memory.arena_bytes <= (size_t)((double)(needs / 10 * 9) * 0.9));
    assert_true(s.memory.device_others + s.memory.arena_bytes == world.change); /* world.taken leaves the arena out */
    assert_memory_equal(got->rgb, want->rgb, (size_t)want->width * (size_t)want->height * 3);
    image_free(want);
    image_free(got);
}

/* The program itself, one event a line: all four are there, or null with a reason. */
static void generate_tells(void **state)
{
    (void)state;
    for (int known = 0; known < 2; known++) {
        char *command = NULL, line[8192];
        bool told = false;
        assert_true(asprintf(&command, "SLUICE_NVML=%s FAKE_CUDA_MEMORY=12000000000 %s/sluice generate -m assets/demo "
                             "--json --device cuda --size 32x32 --steps 1 -o %s/p.png fox", known ? nvml_path : "",
                             build, scratch) > 0);
        FILE *f = popen(command, "r");
        assert_non_null(f);
        while (fgets(line, sizeof line, f)) {
            json_t *root = json_loads(line, 0, NULL), *memory = json_object_get(root, "memory");
            if (json_object_get(memory, "device_total_bytes")) {
                json_t *others = json_object_get(memory, "device_others_bytes");
                json_t *why = json_object_get(memory, "device_why");
                assert_true(json_is_integer(json_object_get(memory, "device_held_bytes")));
                assert_true(json_is_integer(json_object_get(memory, "device_free_bytes")));
                assert_true(known ? json_is_integer(others) && !why : json_is_null(others) && json_is_string(why));
                told = true;
            }
            json_decref(root);
        }
        assert_int_equal(pclose(f), 0);
        assert_true(told);
        free(command);
    }
}

/* --- all -------------------------------------------------------------------------------- */

static int fresh(void **state)
{
    (void)state;
    card.reset();
    card.set_memory(TOTAL);
    memset(&world, 0, sizeof world);
    others_hold(OTHERS);
    *nvml = (struct fake_nvml){ .cards = 1, .total = TOTAL, .used_now = used_now };
    setenv("SLUICE_NVML", nvml_path, 1);
    return 0;
}

static int closed(void **state)
{
    (void)state;
    devices_close(&ds);
    return nvml->open;
}

static int begin(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    struct err e = { 0 };
    snprintf(build, sizeof build, "%s", getenv("SLUICE_BUILD") ? getenv("SLUICE_BUILD") : "build");
    snprintf(path, sizeof path, "%.4000s/fake/libsluice-cuda.so", build);
    snprintf(nvml_path, sizeof nvml_path, "./%.4000s/fake/libnvidia-ml.so", build);
    setenv("SLUICE_CUDA", path, 1);
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    nvml = find(dlopen(nvml_path, RTLD_NOW | RTLD_LOCAL), "fake_nvml");
    static const struct { const char *name; void *at; } names[] = {
        { "fake_cuda_reset", &card.reset }, { "fake_cuda_set_memory", &card.set_memory },
        { "fake_cuda_set_others", &card.set_others }, { "fake_cuda_fail", &card.fail_at },
        { "fake_cuda_failed", &card.failed }, { "fake_cuda_live", &card.live },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        void *found = find(module, names[i].name);
        memcpy(names[i].at, &found, sizeof found);
    }
    scratch_make_cache(scratch);
    golden_make("dev96", path_in(scratch, "dev96", path));
    if (!model_open(&model, path, true, &e))
        fail_msg("%s", e.text);
    return 0;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, closed)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(all_known),
        CASE(what_grows),
        CASE(nvml_says_nothing),
        CASE(the_runtime_says_nothing),
        CASE(the_processor_has_no_card),
        CASE(opening_fails),
        CASE(others_come_between_plan_and_start),
        CASE(generate_tells),
    };
    return cmocka_run_group_tests_name("devices", tests, begin, end);
}
