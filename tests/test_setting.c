/* test_setting.c - the table of settings: names, aliases, limits, every kind of
 * value that cannot be read, and that text and value are the same thing both
 * ways. What a job does with them is not tested here. SLUICE_SEED replays the
 * random values. */
#include "engine/setting.h"
#include "tests/alloc_fail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const struct model model = { .defaults = { 1024, 768, 28, 3.5f } };
static uint64_t state;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static struct job job_new(void)
{
    struct job j;
    struct err e = { 0 };
    assert_true(job_init(&j, &model, &e));
    return j;
}

static char *text_of(const struct job *j, const struct setting *s)
{
    char *text = setting_text(j, s);
    assert_non_null(text);
    return text;
}

static void names_are_found(void **unused)
{
    (void)unused;
    for (int i = 0; i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        char dashed[64];
        snprintf(dashed, sizeof dashed, "%s", s->name);
        for (char *c = dashed; *c; c++)
            *c = *c == '_' ? '-' : *c;
        assert_ptr_equal(setting_find(s->name), s); /* so no name is there twice */
        assert_ptr_equal(setting_find(dashed), s);
        assert_true(*s->help && *s->value && s->scope);
        assert_true(s->low <= s->high);
        if (s->kind == SETTING_CHOICE)
            assert_non_null(s->choices);
    }
    static const char *const none[] = { "", "step", "stepss", "Steps", "vae_", "_vae", "vae--tile", "vae tile" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        assert_null(setting_find(none[i]));
}

static void aliases_mean_what_they_name(void **unused)
{
    (void)unused;
    static const struct { const char *name, *written, *own; } cases[] = {
        { "attention", "xformers", "efficient" },      { "attention", "Flash_Attention", "flash" },
        { "attention", "sdp", "flash" },               { "sampler", "dpm++", "dpmpp_2m" },
        { "sampler", "DPM++ 2M", "dpmpp_2m" },         { "schedule", "sgm uniform", "sgm_uniform" },
        { "precision", "mixed", "bf16" },              { "precision", "half", "fp16" },
        { "text_encoders", "alternating", "alternate" }, { "transformer", "cpu", "offload" },
        { "vae", "tiled", "tiles" },                   { "preview", "latent", "latent" },
        { "preview", "on", "auto" },                 { "preview", "taef1", "taef1" },
        { "preview", "off", "none" },                 { "preview", "true", "auto" },
        { "budget", "minimum", "min" },                { "budget", "8G", "8000000000" },
        { "budget", "8GiB", "8589934592" },            { "budget", "none", "none" },
        { "recompute", "auto", "auto" },               { "recompute", "off", "off" },
        { "recompute", "16", "16" },                   { "threads", "0", "auto" },
        { "seed", "random", "random" },                { "seed", "18446744073709551615", "18446744073709551615" },
        { "guidance", "3.50", "3.5" },                 { "guidance", "1e1", "10" },
        { "size", "30X50", "30x50" },                  { "link", "25G", "25000000000" },
        { "vae_precision", "auto", "auto" },           { "prompt", "", "" },
        { "prompt", " as it is ", " as it is " },      { "memory_fraction", "0.92", "0.92" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = job_new();
        struct err e = { 0 };
        const struct setting *s = setting_find(cases[i].name);
        if (setting_set(&j, s, cases[i].written, &e) != SETTING_SET)
            fail_msg("%s", e.text);
        char *text = text_of(&j, s);
        assert_string_equal(text, cases[i].own);
        free(text);
        job_free(&j);
    }
}

/* Refused, the reason begins with the name, and the job is as it was. */
static void check_refused(const char *name, const char *text, enum setting_result expected, const char *says)
{
    struct job j = job_new(), before = j;
    struct err e = { 0 };
    enum setting_result r = setting_set(&j, setting_find(name), text, &e);
    if (r != expected || strncmp(e.text, name, strlen(name)) || !strstr(e.text, says))
        fail_msg("%s \"%s\": result %d, \"%s\"", name, text, r, e.text);
    assert_memory_equal(&j, &before, sizeof j);
    struct err again = { 0 };
    assert_int_equal(setting_try(setting_find(name), text, &again), expected);
    assert_string_equal(again.text, e.text);
    job_free(&j);
}

static void wrong_values_are_refused(void **unused)
{
    (void)unused;
    static const char *const no_int[] = { "", " ", "two", "4.5", "0x10", " 7", "7 ", "7x", "--7", "1e3",
                                          "99999999999999999999" };
    static const char *const no_float[] = { "", "x", "nan", "inf", "-inf", "0x1p3", "1,5", " 1", "1 ", "1.5.2", "1e",
                                            "1e999" };
    static const char *const no_size[] = { "", "x", "128", "128x", "x128", "-4x16", "4x-16", "1x2x3", "1 x 2",
                                           "9999999x1" };
    static const char *const no_seed[] = { "", "-1", " 1", "7x", "0x7", "18446744073709551616", "Random", "1.0" };
    static const char *const no_bytes[] = { "", "much", "-5", "8Q", "8GG", "0x10", "1e30", "8 G" };
    static const char *const no_bool[] = { "", "maybe", "1", "tru" };
    for (int i = 0; i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        const char *const *wrong = NULL;
        size_t n = 0;
        switch (s->kind) {
        case SETTING_INT: wrong = no_int, n = sizeof no_int; break;
        case SETTING_FLOAT: wrong = no_float, n = sizeof no_float; break;
        case SETTING_SIZE: wrong = no_size, n = sizeof no_size; break;
        case SETTING_SEED: wrong = no_seed, n = sizeof no_seed; break;
        case SETTING_BYTES:
        case SETTING_RATE: wrong = no_bytes, n = sizeof no_bytes; break;
        case SETTING_BOOL: wrong = no_bool, n = sizeof no_bool; break;
        case SETTING_CHOICE:
            check_refused(s->name, "", SETTING_MALFORMED, s->choices[0].name);
            check_refused(s->name, "nonsense", SETTING_MALFORMED, s->choices[0].name);
            check_refused(s->name, "0", SETTING_MALFORMED, "use one of");
            break;
        case SETTING_TEXT: break;
        }
        for (size_t k = 0; k < n / sizeof *wrong; k++)
            check_refused(s->name, wrong[k], SETTING_MALFORMED, wrong[k]);
        if (s->kind == SETTING_INT || s->kind == SETTING_FLOAT) {
            char text[64];
            snprintf(text, sizeof text, "%.0f", s->low - 1);
            check_refused(s->name, text, SETTING_OUT_OF_RANGE, "give");
            snprintf(text, sizeof text, "%.0f", s->high + 1);
            check_refused(s->name, text, SETTING_OUT_OF_RANGE, "give");
        }
    }
    check_refused("size", "0x16", SETTING_OUT_OF_RANGE, "width is 0");
    check_refused("size", "16x8193", SETTING_OUT_OF_RANGE, "height is 8193");
    check_refused("budget", "0", SETTING_OUT_OF_RANGE, "none");
}

static void random_text(const struct setting *s, char *to, size_t room)
{
    int choices = 0;
    while (s->choices && s->choices[choices].name)
        choices++;
    if (choices && (s->kind == SETTING_CHOICE || draw() % 2)) {
        snprintf(to, room, "%s", s->choices[draw() % (unsigned)choices].name);
        return;
    }
    uint64_t span = (uint64_t)(s->high - s->low) + 1;
    switch (s->kind) {
    case SETTING_TEXT:
        snprintf(to, room, "%llx \xc3\xa9 \xe2\x82\xac %s", (unsigned long long)draw(), draw() % 2 ? "{}" : "\"'");
        break;
    case SETTING_INT: snprintf(to, room, "%lld", (long long)s->low + (long long)(draw() % span)); break;
    case SETTING_FLOAT:
        snprintf(to, room, "%.7g", s->low + (s->high - s->low) * (double)(draw() % 1000001) / 1e6);
        break;
    case SETTING_BOOL: snprintf(to, room, "%s", draw() % 2 ? "on" : "no"); break;
    case SETTING_SIZE: snprintf(to, room, "%dx%d", 1 + (int)(draw() % 8192), 1 + (int)(draw() % 8192)); break;
    case SETTING_SEED: snprintf(to, room, "%llu", (unsigned long long)(draw() >> draw() % 64)); break;
    case SETTING_BYTES:
    case SETTING_RATE: snprintf(to, room, "%llu%c", 1 + (unsigned long long)(draw() % 9999), "kMGT"[draw() % 4]); break;
    case SETTING_CHOICE: break;
    }
}

static void text_and_value_are_the_same(void **unused)
{
    (void)unused;
    for (int round = 0; round < 400; round++)
        for (int i = 0; i < setting_count(); i++) {
            const struct setting *s = setting_at(i);
            struct job a = job_new(), b = job_new();
            struct err e = { 0 };
            char written[128];
            random_text(s, written, sizeof written);
            if (setting_set(&a, s, written, &e) != SETTING_SET)
                fail_msg("%s", e.text);
            char *text = text_of(&a, s);
            if (setting_set(&b, s, text, &e) != SETTING_SET || !setting_same(&a, &b, s))
                fail_msg("%s: \"%s\" came back as \"%s\": %s", s->name, written, text, e.text);
            char *again = text_of(&b, s);
            assert_string_equal(again, text);
            /* and nothing else has been touched */
            for (int k = 0; k < setting_count(); k++) {
                struct job fresh = job_new();
                if (k != i && !setting_same(&a, &fresh, setting_at(k)))
                    fail_msg("%s changed %s", s->name, setting_at(k)->name);
                job_free(&fresh);
            }
            free(text);
            free(again);
            job_free(&a);
            job_free(&b);
        }
}

static void refused_memory_is_told(void **unused)
{
    (void)unused;
    struct job j = job_new();
    struct err e = { 0 };
    for (int i = 0; i < setting_count(); i++) {
        alloc_fail_at(1);
        assert_null(setting_text(&j, setting_at(i)));
        assert_true(alloc_fail_done());
    }
    alloc_fail_at(1);
    assert_int_equal(setting_set(&j, setting_find("prompt"), "a fox", &e), SETTING_NO_MEMORY);
    assert_true(alloc_fail_done());
    assert_int_equal(e.kind, ERR_MEMORY);
    assert_string_equal(j.prompt, "");
    job_free(&j);
}

int main(void)
{
    const char *seed = getenv("SLUICE_SEED");
    state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    printf("SLUICE_SEED=%llu\n", (unsigned long long)state);
    state = state * 2654435761u + 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_found),          cmocka_unit_test(aliases_mean_what_they_name),
        cmocka_unit_test(wrong_values_are_refused), cmocka_unit_test(text_and_value_are_the_same),
        cmocka_unit_test(refused_memory_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
