/* test_rates.c - the rates of this machine: arithmetic, file, measuring. How fast the
 * machine is no test asks. */
#include "engine/cache.h"
#include "engine/rates.h"
#include "kernels/cpu.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char scratch[FILE_PATH_MAX], kept[FILE_PATH_MAX];

static int fresh(void **state)
{
    (void)state;
    scratch_remove(scratch);
    scratch_make_cache(scratch);
    struct err e = { 0 };
    return cache_path(kept, "rates.json", &e) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

static struct rates all(double rate)
{
    struct rates r;
    for (int i = 0; i < RATE_COUNT; i++)
        r.of[i] = rate * (i + 1);
    return r;
}

static void assert_rates(struct rates found, struct rates want)
{
    for (int i = 0; i < RATE_COUNT; i++)
        if (!(fabs(found.of[i] - want.of[i]) <= want.of[i] * 1e-3)) /* four digits are kept */
            fail_msg("%s: %g, expected %g", rate_name(i), found.of[i], want.of[i]);
}

static void assert_stores(struct rates r, const char *device, const char *model)
{
    struct err e = { 0 };
    if (!rates_store(&r, device, model, &e))
        fail_msg("%s", e.text);
}

/* --- arithmetic ------------------------------------------------------------------------ */

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(rate_of(DT_F32, false), RATE_FP32);
    assert_int_equal(rate_of(DT_BF16, true), RATE_VAE_BF16);
    assert_int_equal(rate_of(DT_F16, true), RATE_VAE_FP16);
    for (int i = 0; i < RATE_COUNT; i++)
        for (int k = 0; k < i; k++)
            assert_string_not_equal(rate_name(i), rate_name(k));
}

static void test_learn(void **state)
{
    (void)state;
    struct rates none = { 0 }, r = all(1e9);
    assert_rates(rates_learn(none, r), r);
    assert_rates(rates_learn(r, none), r);
    assert_rates(rates_learn(r, r), r);
    static const double senseless[] = { NAN, INFINITY, -INFINITY, -1, -0.0, 1e18, 1e300 };
    for (size_t i = 0; i < sizeof senseless / sizeof *senseless; i++) {
        struct rates bad;
        for (int k = 0; k < RATE_COUNT; k++)
            bad.of[k] = senseless[i];
        assert_rates(rates_learn(r, bad), r);
        assert_rates(rates_learn(bad, r), r);
        assert_rates(rates_learn(bad, bad), none);
    }
    /* between the two, a bounded step, and there in the end, from anywhere */
    for (double far = 1e-8; far < 2e8; far *= 10) {
        struct rates now = r, goal = all(1e9 * far);
        for (int i = 0; i < 200; i++) {
            struct rates next = rates_learn(now, goal);
            for (int k = 0; k < RATE_COUNT; k++) {
                double step = next.of[k] / now.of[k];
                assert_true(step >= 0.5 - 1e-9 && step <= 1.5 + 1e-9 && (step - 1) * (far - 1) >= 0);
                double past = next.of[k] / goal.of[k];
                assert_true(far > 1 ? past <= 1 + 1e-9 : past >= 1 - 1e-9);
            }
            now = next;
        }
        assert_rates(now, goal);
    }
}

/* --- the file ------------------------------------------------------------------------------ */

static void test_kept(void **state)
{
    (void)state;
    struct rates none = { 0 }, cpu = all(2e9), gpu = all(7e13), demo = { .of = { [RATE_BF16] = 5e7 } }, both = cpu;
    both.of[RATE_BF16] = 5e7;
    assert_rates(rates_load("cpu", ""), none);
    assert_false(file_exists(kept));
    assert_stores(cpu, "cpu", "");
    assert_stores(gpu, "NVIDIA something", "");
    assert_stores(demo, "cpu", "demo");
    assert_rates(rates_load("cpu", ""), cpu);
    assert_rates(rates_load("NVIDIA something", ""), gpu);
    assert_rates(rates_load("cpu", "demo"), both);       /* the model's own, the device's for the rest */
    assert_rates(rates_load("cpu", "another"), cpu);
    assert_rates(rates_load("other", "demo"), none);
    assert_stores(all(3e9), "cpu", ""); /* towards it */
    assert_rates(rates_load("cpu", ""), rates_learn(cpu, all(3e9)));
    assert_rates(rates_load("NVIDIA something", ""), gpu);
    /* what is no rate is not kept */
    assert_stores((struct rates){ .of = { [RATE_LINK] = NAN, [RATE_DISK] = -1, [RATE_FP32] = 1e18, [RATE_FP16] = 4 } },
                  "odd", "");
    assert_rates(rates_load("odd", ""), (struct rates){ .of = { [RATE_FP16] = 4 } });
}

static void test_many(void **state)
{
    (void)state;
    char model[32];
    for (int i = 0; i < 100; i++) {
        snprintf(model, sizeof model, "model %d", i);
        assert_stores(all(1e9 + i * 1e8), "cpu", model);
        if (i % 10 == 0)
            assert_stores(all(1e9), "cpu", "much used");
    }
    struct err e = { 0 };
    json_t *root = json_load_file(kept, 0, NULL);
    assert_int_equal(json_object_size(root), 64);
    json_decref(root);
    assert_rates(rates_load("cpu", "model 0"), (struct rates){ 0 });
    assert_rates(rates_load("cpu", "model 99"), all(1e9 + 99e8));
    assert_rates(rates_load("cpu", "much used"), all(1e9));
    assert_false(rates_store(&(struct rates){ 0 }, "cpu", "no UTF-8 \xff", &e));
    assert_int_equal(e.kind, ERR_INPUT);
    static char lengthy[5000];
    memset(lengthy, 'x', sizeof lengthy - 1);
    e = (struct err){ 0 };
    assert_false(rates_store(&(struct rates){ 0 }, "cpu", lengthy, &e));
    assert_rates(rates_load("cpu", lengthy), (struct rates){ 0 });
}

/* Whatever the file holds: known rates, or unknown ones, and a store makes it good. */
static void test_damaged(void **state)
{
    (void)state;
    struct rates r = all(2e9), none = { 0 };
    struct err e = { 0 };
    size_t bytes;
    assert_stores(r, "cpu", "");
    char *good = file_read(kept, 1 << 16, &bytes, &e);
    assert_non_null(good);
    for (size_t n = 0; n < bytes; n++) {
        scratch_write(kept, good, n);
        assert_rates(rates_load("cpu", ""), n + 1 < bytes ? none : rates_load("cpu", ""));
    }
    for (size_t at = 0; at < bytes; at++)
        for (int bit = 0; bit < 8; bit++) {
            good[at] ^= (char)(1 << bit);
            scratch_write(kept, good, bytes);
            struct rates found = rates_load("cpu", "");
            for (int i = 0; i < RATE_COUNT; i++)
                assert_true(found.of[i] >= 0 && found.of[i] < 1e18);
            good[at] ^= (char)(1 << bit);
        }
    static const char *const values[] = { "-1", "0", "1e18", "1e999", "\"1e9\"", "[]", "null", "true", "{}" };
    char *colon = strstr(good, "\"disk\":"), text[2048];
    assert_non_null(colon);
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        int n = snprintf(text, sizeof text, "%.*s\"disk\": %s}}", (int)(colon - good), good, values[i]);
        scratch_write(kept, text, (size_t)n);
        assert_true(rates_load("cpu", "").of[RATE_DISK] == 0);
    }
    static const char *const wholes[] = { "[1, 2]", "7", "{}", "{\"a\": [1], \"b\": 2}" };
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++) {
        scratch_write(kept, wholes[i], strlen(wholes[i]));
        assert_rates(rates_load("cpu", ""), none);
        assert_stores(r, "cpu", "");
        assert_rates(rates_load("cpu", ""), r);
    }
    free(good);
    unlink(kept);
    assert_int_equal(mkfifo(kept, 0600), 0);
    assert_rates(rates_load("cpu", ""), none);
    unlink(kept);
    assert_int_equal(mkdir(kept, 0700), 0);
    assert_rates(rates_load("cpu", ""), none);
    assert_false(rates_store(&r, "cpu", "", &e));
}

static void test_no_place(void **state)
{
    (void)state;
    struct rates r = all(1e9);
    struct err e = { 0 };
    setenv("XDG_CACHE_HOME", "/proc/nothing", 1);
    assert_false(rates_store(&r, "cpu", "", &e));
    assert_non_null(strstr(e.text, "/proc/nothing"));
    assert_rates(rates_load("cpu", ""), (struct rates){ 0 });
}

static void test_no_memory(void **state)
{
    (void)state;
    struct rates first = all(1e9), second = all(2e9);
    for (long n = 1;; n++) {
        struct err e = { 0 };
        unlink(kept);
        assert_stores(first, "cpu", "");
        alloc_fail_at(n);
        bool ok = rates_store(&second, "cpu", "", &e);
        if (!alloc_fail_done()) {
            assert_true(ok && n > 1);
            break;
        }
        assert_true(ok || e.kind == ERR_MEMORY);
        assert_rates(rates_load("cpu", ""), ok ? rates_learn(first, second) : first);
    }
}

/* --- measuring ---------------------------------------------------------------------------------- */

static bool stop_at_once(void *user)
{
    (void)user;
    return true;
}

static void test_measure(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct err e = { 0 };
        struct device *d;
        assert_true(cpu_device_new(&d, i ? DT_BF16 : DT_F32, 0, &e));
        struct rates r = { .of = { [RATE_FP16] = 5 } };
        if (!rates_measure(&r, d, "nowhere", RATES_COMPUTE | RATES_LINK | RATES_DISK, &e))
            fail_msg("%s", e.text);
        for (int k = 0; k < RATE_COUNT; k++) {
            if (k == RATE_FP16)
                assert_true(r.of[k] == 5);
            else if (k == (i ? RATE_BF16 : RATE_FP32) || k == RATE_LINK)
                assert_true(r.of[k] > 0 && r.of[k] < 1e18);
            else
                assert_true(r.of[k] == 0);
            if (r.of[k] > 5)
                print_message("%s: %.3g\n", rate_name(k), r.of[k]);
        }
        assert_true(device_ok(d) && !d->arena.base && !d->arena.capacity && !d->arena.used);
        r = (struct rates){ 0 };
        for (long n = 1;; n++) {
            e = (struct err){ 0 };
            alloc_fail_at(n);
            bool ok = rates_measure(&r, d, NULL, RATES_LINK, &e);
            if (!alloc_fail_done()) {
                assert_true(ok && n > 1);
                break;
            }
            assert_true(!ok && (e.kind == ERR_MEMORY || e.kind == ERR_DEVICE_MEMORY) && r.of[RATE_LINK] == 0);
        }
        d->interrupted = stop_at_once;
        e = (struct err){ 0 };
        r = (struct rates){ 0 };
        assert_false(rates_measure(&r, d, NULL, RATES_COMPUTE, &e));
        assert_int_equal(e.kind, ERR_CANCELLED);
        assert_rates(r, (struct rates){ 0 });
        assert_true(device_ok(d) && !d->arena.base);
        cpu_device_free(d);
    }
}

static void test_measure_disk(void **state)
{
    (void)state;
    enum { BYTES = 3 << 20 };
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    unsetenv("TMPDIR"); /* a disk, if there is one */
    scratch_make(dir);
    struct err e = { 0 };
    struct device *d;
    assert_true(cpu_device_new(&d, DT_F32, 1, &e));
    unsigned char *data = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 24);
    static const struct { size_t bytes; bool may; } cases[] = {
        { 0, false }, { 1, false }, { 1 << 19, false }, { BYTES, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rates r = { 0 };
        assert_true(file_write(path_in(dir, "weights", path), data, cases[i].bytes, &e));
        assert_true(rates_measure(&r, d, path, RATES_DISK, &e));
        double disk = r.of[RATE_DISK];
        assert_true(cases[i].may ? disk >= 0 && disk < 1e18 : disk == 0);
        r.of[RATE_DISK] = 0;
        assert_rates(r, (struct rates){ 0 });
        if (disk > 0)
            print_message("disk: %.3g\n", disk);
    }
    /* no disk at all; a folder; a device */
    static const char *const others[] = { "/proc/cpuinfo", "/", "/dev/zero" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        struct rates r = { 0 };
        assert_true(rates_measure(&r, d, others[i], RATES_DISK, &e));
        assert_true(r.of[RATE_DISK] == 0);
    }
    if (!access("/dev/shm", W_OK)) {
        struct rates r = { 0 };
        scratch_write(path_in(scratch, "weights", path), data, BYTES);
        assert_true(rates_measure(&r, d, path, RATES_DISK, &e));
        assert_true(r.of[RATE_DISK] == 0); /* a file system in memory has no disk's rate */
    }
    free(data);
    cpu_device_free(d);
    scratch_remove(dir);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, end)
    const struct CMUnitTest tests[] = {
        CASE(test_names),
        CASE(test_learn),
        CASE(test_kept),
        CASE(test_many),
        CASE(test_damaged),
        CASE(test_no_place),
        CASE(test_no_memory),
        CASE(test_measure),
        CASE(test_measure_disk),
    };
    return cmocka_run_group_tests_name("rates", tests, NULL, NULL);
}
