/* test_nvml.c - what is read of a card, from a library that says what it is told
 * (tests/nvml), with every function missing, failing or lying in turn. */
#include "engine/nvml.h"
#include "tests/nvml/fake_nvml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char uuid[16] = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77,
                                        0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
static char library[512];

/* The fake and its control; open until the test's end. */
static struct nvml *opened(struct fake_nvml **fake, const char *name, struct fake_nvml with)
{
    const char *build = getenv("SLUICE_BUILD");
    snprintf(library, sizeof library, "./%s/fake/%s", build ? build : "build", name);
    void *handle = dlopen(library, RTLD_NOW);
    assert_non_null(handle);
    *fake = dlsym(handle, "fake_nvml");
    assert_non_null(*fake);
    if (!with.cards)
        with.cards = 1;
    **fake = with;
    struct nvml *n;
    struct err e = { 0 };
    if (!nvml_open(&n, library, &e))
        fail_msg("%s", e.text);
    return n;
}

static struct nvml_card card_of(const struct nvml *n)
{
    struct nvml_handle *h;
    struct err e = { 0 };
    if (!nvml_at(n, 0, &h, &e))
        fail_msg("%s", e.text);
    return nvml_read(n, h);
}

static void assert_printable(const char *text)
{
    for (; *text; text++)
        assert_in_range(*text, ' ', '~');
}

static void test_all_known(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    struct nvml *n = opened(&fake, "libnvidia-ml.so", (struct fake_nvml){ .compute = 3, .graphics = 1 });
    struct nvml_card c = card_of(n);
    assert_string_equal(nvml_driver(n), "580.95.05");
    assert_string_equal(c.name, "NVIDIA GeForce RTX 3060");
    assert_string_equal(c.uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
    assert_true(c.total == 12000000000 && c.free == 9000000000 && c.used == 2700000000 && c.reserved == 300000000);
    assert_false(c.used_is_all);
    assert_int_equal(c.processes, 4);
    assert_int_equal(c.process[0].pid, 1002);
    assert_int_equal(c.process[0].used, 300000000);
    assert_string_equal(c.process[0].name, "python1002 train.py /x");
    assert_true(c.process[0].compute && !c.process[0].graphics);
    assert_int_equal(c.load_percent, 87);
    assert_int_equal(c.memory_load_percent, 41);
    assert_int_equal(c.temperature_c, 61);
    assert_int_equal(c.power_mw, 145500);
    assert_int_equal(c.link_generation, 1);
    assert_int_equal(c.link_width, 8);
    assert_int_equal(c.link_generation_max, 4);
    assert_int_equal(c.link_width_max, 16);
    for (int i = 0; i < NVML_FACTS; i++)
        assert_string_equal(c.why[i], "");
    struct nvml_handle *h;
    assert_true(nvml_at(n, 0, &h, NULL));
    struct nvml_card m = nvml_memory(n, h);
    assert_true(m.total == c.total && m.free == c.free && m.used == c.used && m.reserved == c.reserved && !*m.name);
    struct nvml_traffic t = nvml_traffic(n, h);
    assert_true(t.to_card == 20000000000 && t.from_card == 1000000);
    nvml_close(n);
    assert_int_equal(fake->open, 0);
}

static void test_older_driver(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    /* no such function, and one that is there and refuses the struct's version */
    for (int i = 0; i < 2; i++) {
        struct nvml *n = opened(&fake, i ? "libnvidia-ml.so" : "libnvidia-ml-old.so",
                                (struct fake_nvml){ .failing = "MemoryInfo_v2", .code = 25 });
        struct nvml_card c = card_of(n);
        assert_true(c.used_is_all && c.used == 3000000000 && c.reserved == NVML_UNKNOWN);
        assert_string_equal(c.why[NVML_MEMORY], "");
        if (!i) {
            assert_int_equal(c.processes, -1);
            assert_non_null(strstr(c.why[NVML_COMPUTE], "no function"));
        }
        nvml_close(n);
    }
}

static void assert_nothing_known(const struct nvml_card *c, const char *why)
{
    assert_true(c->total == NVML_UNKNOWN && c->free == NVML_UNKNOWN && c->used == NVML_UNKNOWN);
    assert_true(c->processes == -1 && c->load_percent == -1 && c->memory_load_percent == -1 && c->power_mw == -1 &&
                c->temperature_c == -1 && c->link_generation == -1 && c->link_width == -1 &&
                c->link_generation_max == -1 && c->link_width_max == -1);
    assert_true(!*c->name && !*c->uuid);
    for (int i = 0; i < NVML_FACTS; i++) {
        assert_printable(c->why[i]);
        if (!strstr(c->why[i], why))
            fail_msg("fact %d: \"%s\", expected \"%s\"", i, c->why[i], why);
    }
}

static void test_everything_refused(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    static const struct { int code; bool no_text; const char *why; } cases[] = {
        { 4, false, "NVML: Insufficient Permissions" }, { 3, false, "NVML: Not Supported" },
        { 999, false, "NVML: Unknown?[2J Error" }, { 999, true, "NVML: error 999" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct nvml *n = opened(&fake, "libnvidia-ml.so", (struct fake_nvml){ 0 });
        struct nvml_handle *h, *other;
        struct err e = { 0 };
        int count = 7;
        assert_true(nvml_at(n, 0, &h, &e));
        fake->fail_all = true;
        fake->code = cases[i].code;
        fake->no_text = cases[i].no_text;
        struct nvml_card c = nvml_read(n, h);
        assert_nothing_known(&c, cases[i].why);
        struct nvml_traffic t = nvml_traffic(n, h);
        assert_true(t.to_card == -1 && t.from_card == -1);
        assert_false(nvml_count(n, &count, &e));
        assert_int_equal(count, 0);
        assert_non_null(strstr(e.text, cases[i].why));
        assert_false(nvml_at(n, 0, &other, NULL));
        assert_false(nvml_find(n, uuid, "0000:65:00.0", &other, NULL));
        nvml_close(n);
    }
}

/* Each question alone: its own reason, and the others are answered. */
static void test_one_refused(void **state)
{
    (void)state;
    static const struct { const char *function; enum nvml_fact fact; } cases[] = {
        { "GetName", NVML_NAME }, { "GetUUID", NVML_UUID }, { "GetMemoryInfo", NVML_MEMORY },
        { "GetComputeRunning", NVML_COMPUTE }, { "GetGraphicsRunning", NVML_GRAPHICS },
        { "GetUtilization", NVML_LOAD }, { "GetTemperature", NVML_TEMPERATURE }, { "GetPowerUsage", NVML_POWER },
        { "CurrPcieLinkGeneration", NVML_LINK }, { "CurrPcieLinkWidth", NVML_LINK },
        { "MaxPcieLinkGeneration", NVML_LINK_MAX }, { "MaxPcieLinkWidth", NVML_LINK_MAX },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fake_nvml *fake, with = { .compute = 2, .graphics = 3, .code = 4 };
        strcpy(with.failing, cases[i].function);
        struct nvml *n = opened(&fake, "libnvidia-ml.so", with);
        struct nvml_card c = card_of(n);
        for (int k = 0; k < NVML_FACTS; k++)
            assert_string_equal(c.why[k], k == (int)cases[i].fact ? "NVML: Insufficient Permissions" : "");
        assert_int_equal(c.processes, cases[i].fact == NVML_COMPUTE ? 3 : cases[i].fact == NVML_GRAPHICS ? 2 : 5);
        nvml_close(n);
    }
}

static void test_processes(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    struct nvml *n = opened(&fake, "libnvidia-ml.so", (struct fake_nvml){ .compute = 100, .graphics = 30,
                                                                          .graphics_first = 1090, .growing = true });
    struct nvml_card c = card_of(n);
    /* 140 and 70, as more came; 1090 to 1139 are in both */
    assert_int_equal(c.processes, 160);
    for (int i = 0; i < NVML_PROCESSES; i++)
        assert_true(c.process[i].used != NVML_UNKNOWN && (!i || c.process[i].used <= c.process[i - 1].used));
    assert_int_equal(c.process[0].pid, 1139);
    assert_true(c.process[0].compute && c.process[0].graphics);
    fake->growing = false;
    fake->compute = 5;
    fake->graphics = 0;
    c = card_of(n);
    assert_int_equal(c.processes, 5);
    assert_int_equal(c.process[4].pid, 1003);
    assert_true(c.process[4].used == NVML_UNKNOWN);
    fake->compute = 0;
    c = card_of(n);
    assert_int_equal(c.processes, 0);
    assert_string_equal(c.why[NVML_COMPUTE], "");
    fake->compute = 2;
    fake->garbage = true;
    c = card_of(n);
    assert_string_equal(c.name, "GeForce?]0;evil? RTX??");
    assert_string_equal(c.process[0].name, "1001?(");
    strcpy(fake->failing, "ProcessName");
    fake->code = 6;
    c = card_of(n);
    assert_string_equal(c.process[0].name, "");
    nvml_close(n);
}

static void test_find(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    struct nvml *n = opened(&fake, "libnvidia-ml.so", (struct fake_nvml){ .cards = 200 });
    unsigned char other[16] = { 1 };
    struct nvml_handle *h;
    struct err e = { 0 };
    int count;
    assert_true(nvml_count(n, &count, &e));
    assert_int_equal(count, NVML_CARDS);
    assert_true(nvml_find(n, uuid, "ffff:00:00.0", &h, &e));
    assert_string_equal(fake->asked_uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
    assert_true(nvml_find(n, other, "0000:65:00.0", &h, &e));
    assert_false(nvml_find(n, other, "ffff:00:00.0", &h, &e));
    assert_non_null(strstr(e.text, "ffff:00:00.0"));
    nvml_close(n);
}

static void test_no_library(void **state)
{
    (void)state;
    struct fake_nvml *fake;
    struct nvml *n;
    struct err e = { 0 };
    assert_false(nvml_open(&n, "./no/such/libnvidia-ml.so.1", &e));
    assert_null(n);
    assert_non_null(strstr(e.text, "no/such"));
    err_clear(&e);
    assert_false(nvml_open(&n, "libm.so.6", &e));
    assert_non_null(strstr(e.text, "no nvmlInit_v2"));
    err_clear(&e);
    nvml_close(opened(&fake, "libnvidia-ml.so", (struct fake_nvml){ 0 }));
    strcpy(fake->failing, "Init");
    fake->code = 9;
    assert_false(nvml_open(&n, library, &e));
    assert_non_null(strstr(e.text, "Driver Not Loaded"));
    nvml_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_known),        cmocka_unit_test(test_older_driver),
        cmocka_unit_test(test_everything_refused), cmocka_unit_test(test_one_refused),
        cmocka_unit_test(test_processes),        cmocka_unit_test(test_find),
        cmocka_unit_test(test_no_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
