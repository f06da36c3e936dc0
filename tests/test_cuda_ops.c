/* test_cuda_ops.c - check_ops.h's cases on the cuda device, where no card is: its own
 * files and kernels, compiled for the processor against a runtime and libraries that do the
 * work there (tests/cuda). As cards of three generations, with each of the attentions.
 *
 * Does not test what only a card shows: `make gpu-check` runs the same cases there.
 * How a failure is seen alone: check_ops.h, struct check_options. */
#include "tests/check_cuda.h"
#include "tests/cuda/fake.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The kernels' threads are run one after the other: some hundred times slower than a card's, so fewer
 * cases, most on the card that takes every path. */
static const struct card { int sm; float rounds; } cards[] = { { 75, 0.1f }, { 80, 0.4f }, { 90, 0.05f } };
static const struct { enum dtype type; const char *name; } types[] = {
    { DT_F32, "f32" }, { DT_BF16, "bf16" }, { DT_F16, "f16" }
};
static const struct { enum cuda_attention mode; const char *name; } modes[] = {
    { CUDA_ATTENTION_AUTO, "" }, { CUDA_ATTENTION_EFFICIENT, "-efficient" }, { CUDA_ATTENTION_MATH, "-math" }
};
enum { CARDS = sizeof cards / sizeof *cards, TYPES = sizeof types / sizeof *types, MODES = sizeof modes / sizeof *modes,
       TARGETS = CARDS * TYPES * MODES, CHECKS_MAX = 40 };

static struct check_options options;
static void (*set_sm)(int sm);

struct pairing {
    const struct check_target *target;
    int check, sm;
};

static void run_check(void **state)
{
    const struct pairing *p = *state;
    struct err e = { 0 };
    set_sm(p->sm);
    if (!check_run(&options, p->target, p->check, &e))
        fail_msg("%s %s: %s", p->target->name, check_name(p->check), e.text);
}

static void older_cards_have_no_bf16(void **state)
{
    (void)state;
    struct err e = { 0 };
    struct device *d;
    set_sm(75);
    assert_false(cuda_device_new(&d, DT_BF16, &(struct cuda_options){ 0 }, &e));
    assert_null(d);
    assert_int_equal(e.kind, ERR_DEVICE);
}

static bool load(void)
{
    char path[4096];
    const char *build = getenv("SLUICE_BUILD");
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    setenv("SLUICE_CUDA", path, 1);
    if (!cuda_load(&e)) {
        print_error("%s\n", e.text);
        return false;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    set_sm = module ? (void (*)(int))(uintptr_t)dlsym(module, "fake_cuda_set_sm") : NULL;
    return set_sm != NULL;
}

int main(void)
{
    static struct check_target targets[TARGETS];
    static char target_names[TARGETS][32];
    static struct pairing pairs[TARGETS * CHECKS_MAX];
    static char names[TARGETS * CHECKS_MAX][64];
    static struct CMUnitTest tests[TARGETS * CHECKS_MAX + 1];
    if (!load())
        return 1;
    options = check_options_from_environment();
    print_message("check_ops: SLUICE_SEED=%llu\n", (unsigned long long)options.seed);
    assert_true(check_count() <= CHECKS_MAX);
    size_t n = 0;
    for (int i = 0; i < TARGETS; i++) {
        const struct card *card = &cards[i / (TYPES * MODES)];
        int type = i / MODES % TYPES, mode = i % MODES;
        if ((types[type].type == DT_BF16 && card->sm < 80) || (mode && (types[type].type == DT_F32 || card->sm > 80)))
            continue; /* F32 has one attention; 90 takes 80's */
        snprintf(target_names[i], sizeof target_names[i], "sm%d-%s%s", card->sm, types[type].name, modes[mode].name);
        targets[i] = check_cuda(target_names[i], types[type].type, modes[mode].mode);
        targets[i].rounds = card->rounds;
        targets[i].small = true;
        for (int check = 0; check < check_count(); check++) {
            if (!check_wanted(&options, &targets[i], check) ||
                (modes[mode].mode != CUDA_ATTENTION_AUTO && !check_cuda_attends(check)))
                continue;
            pairs[n] = (struct pairing){ &targets[i], check, card->sm };
            snprintf(names[n], sizeof names[n], "%s:%s", targets[i].name, check_name(check));
            tests[n] = (struct CMUnitTest){ names[n], run_check, NULL, NULL, &pairs[n] };
            n++;
        }
    }
    if (!options.replay && !options.only)
        tests[n++] = (struct CMUnitTest){ "older_cards_have_no_bf16", older_cards_have_no_bf16, NULL, NULL, NULL };
    return _cmocka_run_group_tests("cuda_ops", tests, n, NULL, NULL);
}
