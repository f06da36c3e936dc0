/* test_doctor.c - sluice doctor and sluice bench: what they find and measure, in
 * this process where the machine has to be another one (tests/nvml, folders instead
 * of /proc), and as the real binary. */
#include "engine/bench.h"
#include "engine/doctor.h"
#include "engine/rates.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"
#include "tests/nvml/fake_nvml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char scratch[FILE_PATH_MAX], library[512], binary[FILE_PATH_MAX];

static const struct doctor_line *line_of(const struct doctor *d, const char *what)
{
    for (int i = 0; i < d->count; i++)
        if (!strcmp(d->line[i].what, what))
            return &d->line[i];
    fail_msg("there is no line \"%s\"", what);
    return NULL;
}

static void says(const struct doctor *d, const char *what, enum doctor_state state, const char *text)
{
    const struct doctor_line *l = line_of(d, what);
    if (l->state != state || (!strstr(l->found, text) && !strstr(l->means, text)))
        fail_msg("%s: %s, \"%s\", \"%s\"; expected %s, \"%s\"", what, doctor_state_name(l->state), l->found, l->means,
                 doctor_state_name(state), text);
}

static void write_text(const char *folder, const char *name, const char *text)
{
    char path[FILE_PATH_MAX];
    scratch_write(path_in(folder, name, path), text, strlen(text));
}

/* --- doctor -------------------------------------------------------------------------------- */

static struct fake_nvml *fake(struct fake_nvml with)
{
    void *handle = dlopen(library, RTLD_NOW);
    assert_non_null(handle);
    struct fake_nvml *f = dlsym(handle, "fake_nvml");
    assert_non_null(f);
    *f = with;
    return f;
}

/* A machine of files: WSL, a control group in a group, a card that others use. */
static void test_machine(void **state)
{
    (void)state;
    char proc[FILE_PATH_MAX], self[FILE_PATH_MAX], group[FILE_PATH_MAX], inner[FILE_PATH_MAX];
    mkdir(path_in(scratch, "proc", proc), 0777);
    mkdir(path_in(proc, "self", self), 0777);
    mkdir(path_in(scratch, "cgroup", group), 0777);
    mkdir(path_in(group, "jobs", inner), 0777);
    write_text(proc, "version", "Linux version 5.15.90.1-microsoft-standard-WSL2 (gcc)\n");
    write_text(proc, "cpuinfo", "processor\t: 0\nmodel name\t: Evil\033[31m CPU\n");
    write_text(proc, "meminfo", "MemTotal: 8000000 kB\nMemFree: 100 kB\nMemAvailable: 500000 kB\n"
                                "SwapTotal: 2000000 kB\nSwapFree: 1000000 kB\n");
    write_text(self, "cgroup", "0::/jobs/one\n");
    write_text(group, "memory.max", "6000000000\n");
    write_text(inner, "memory.max", "3000000000\n");
    fake((struct fake_nvml){ .cards = 1, .compute = 20, .garbage = true });
    struct doctor d = { 0 };
    doctor_examine(&d, &(struct doctor_options){ .proc = proc, .cgroup = group, .nvml = library });
    says(&d, "WSL", DOCTOR_NOTE, "small pinned ring");
    says(&d, "processor", DOCTOR_OK, "Evil?[31m CPU");
    says(&d, "RAM", DOCTOR_NOTE, "512 MB available of 8.19 GB");
    says(&d, "swap", DOCTOR_OK, "1.02 GB free of 2.05 GB");
    says(&d, "control group", DOCTOR_OK, "3.00 GB");
    says(&d, "NVML", DOCTOR_OK, "580.95.05");
    says(&d, "card's memory", DOCTOR_OK, "9.00 GB free of 12.0 GB; 2.70 GB in use");
    says(&d, "process 1019", DOCTOR_OK, "2.00 GB, computes");
    says(&d, "processes", DOCTOR_OK, "and 4 more");
    says(&d, "PCI Express", DOCTOR_NOTE, "fewer lanes");
    says(&d, "PCI Express", DOCTOR_NOTE, "1.0 x8 now, 4.0 x16 at most");
    says(&d, "card's load", DOCTOR_NOTE, "87 % busy, 61 degrees, 146 W, 20.0 GB/s to the card");
    assert_true(line_of(&d, "card's memory")->number == 9e9);
    for (int i = 0; i < d.count; i++)
        for (const char *s = d.line[i].found; *s; s++)
            assert_true((unsigned char)*s >= ' ');
    assert_int_equal(doctor_problems(&d), 0);
    doctor_free(&d);
}

static void test_nothing_known(void **state)
{
    (void)state;
    struct fake_nvml *f = fake((struct fake_nvml){ .cards = 1, .code = 4 });
    struct doctor d = { 0 };
    strcpy(f->failing, "Device");
    doctor_examine(&d, &(struct doctor_options){ .proc = "/no/such", .cgroup = "/no/such", .nvml = library });
    says(&d, "RAM", DOCTOR_NOTE, "/no/such/meminfo cannot be read");
    says(&d, "swap", DOCTOR_OK, "unknown");
    says(&d, "control group", DOCTOR_OK, "no limit");
    says(&d, "processor", DOCTOR_OK, "unknown");
    doctor_free(&d);
    /* the card is found, and something of it is not told */
    static const char *const functions[] = { "Memory", "Running", "Pcie", "Utilization", "GetName" };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        strcpy(f->failing, functions[i]);
        doctor_examine(&d, &(struct doctor_options){ .nvml = library });
        static const char *const lines[] = { "card's memory", "its processes", "PCI Express", "card's load",
                                             "NVML's card" };
        says(&d, lines[i], i < 3 ? DOCTOR_NOTE : DOCTOR_OK, i == 3 ? "load unknown" : "Insufficient Permissions");
        doctor_free(&d);
    }
}

static void test_models(void **state)
{
    (void)state;
    char data[FILE_PATH_MAX], sluice[FILE_PATH_MAX], models[FILE_PATH_MAX], model[FILE_PATH_MAX], file[FILE_PATH_MAX];
    mkdir(path_in(scratch, "data", data), 0777);
    mkdir(path_in(data, "sluice", sluice), 0777);
    mkdir(path_in(sluice, "models", models), 0777);
    golden_make("schnell128", path_in(models, "whole", model));
    golden_make("schnell128", path_in(models, "torn", model));
    mkdir(path_in(models, "not a model", file), 0777);
    assert_int_equal(truncate(path_in(model, "vae/diffusion_pytorch_model.safetensors", file), 5000), 0);
    setenv("XDG_DATA_HOME", data, 1);
    struct doctor d = { 0 };
    doctor_examine(&d, &(struct doctor_options){ .nvml = "/no/such" });
    says(&d, "whole", DOCTOR_OK, "whole: ");
    says(&d, "torn", DOCTOR_PROBLEM, "vae");
    says(&d, "the shipped model", DOCTOR_OK, "128x128");
    says(&d, "NVML", DOCTOR_NOTE, "/no/such");
    says(&d, "1024x1024", DOCTOR_OK, "28 steps in bf16 peak at");
    says(&d, "cache", DOCTOR_OK, "/sluice");
    assert_int_equal(doctor_problems(&d), 1);
    doctor_free(&d);
    /* nothing is left of what was needed for a moment, nor made where nothing was */
    assert_int_equal(scratch_entries(scratch), 1);
    setenv("TMPDIR", "/no/such/folder", 1);
    unsetenv("XDG_DATA_HOME");
    doctor_examine(&d, &(struct doctor_options){ .nvml = "/no/such" });
    says(&d, "temporary", DOCTOR_NOTE, "/no/such/folder");
    says(&d, "1024x1024", DOCTOR_NOTE, "/no/such/folder");
    doctor_free(&d);
    setenv("TMPDIR", scratch, 1);
    char *cache = getenv("XDG_CACHE_HOME") ? strdup(getenv("XDG_CACHE_HOME")) : NULL;
    setenv("XDG_CACHE_HOME", "/no/such", 1); /* no rate is known */
    doctor_examine(&d, &(struct doctor_options){ .nvml = "/no/such", .busy = true });
    says(&d, "disk of the models", DOCTOR_OK, "not measured while a picture is made");
    says(&d, "link, processor", DOCTOR_OK, "not measured");
    doctor_free(&d);
    if (cache)
        setenv("XDG_CACHE_HOME", cache, 1);
    else
        unsetenv("XDG_CACHE_HOME");
    free(cache);
}

/* Memory is refused at every allocation in turn: a line less, or one that says so. */
static void test_refused_memory(void **state)
{
    (void)state;
    bool again = true;
    for (long n = 1; again; n += n < 16 ? 1 : n / 4) {
        struct doctor d = { 0 };
        alloc_fail_at(n);
        doctor_examine(&d, &(struct doctor_options){ .nvml = "/no/such" });
        again = alloc_fail_done();
        doctor_free(&d);
    }
}

/* --- bench --------------------------------------------------------------------------------- */

struct stopping { int rows, after; };

static void on_row(void *user, const struct bench_row *r)
{
    (void)r;
    ((struct stopping *)user)->rows++;
}

static bool stop_after(void *user)
{
    const struct stopping *s = user;
    return s->after && s->rows > s->after;
}

static struct model *shipped(struct job *j)
{
    static struct model m;
    char path[MODEL_PATH_MAX], notice[256];
    struct err e = { 0 };
    if (!model_find(path, NULL, &e) || !model_open(&m, path, true, &e) || !job_init(j, &m, &e))
        fail_msg("%s", e.text);
    j->width = j->height = 64;
    assert_true(job_set_string(&j->prompt, "fox", &e) && job_check(j, notice, &e));
    return &m;
}

static const struct bench_row *row_of(const struct bench *b, const char *name)
{
    for (int i = 0; i < b->count; i++)
        if (!strcmp(b->row[i].name, name))
            return &b->row[i];
    fail_msg("no row %s", name);
    return NULL;
}

static void test_bench(void **state)
{
    (void)state;
    static struct bench b;
    struct job j;
    struct err e = { 0 };
    struct model *m = shipped(&j);
    struct nvml *nvml;
    struct nvml_handle *card;
    fake((struct fake_nvml){ .cards = 1 });
    assert_true(nvml_open(&nvml, library, &e) && nvml_at(nvml, 0, &card, &e));
    struct bench_options o = { .limit = 60, .quick = true, .nvml = nvml, .card = card };
    j.budget = 1; /* sizes have no plan, then; levels have budgets of their own */
    setenv("SLUICE_CACHE_BYTES", "4M", 1);
    assert_true(bench_run(&b, m, &j, &o, &e));
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    const struct bench_row *none = bench_none(&b), *high = row_of(&b, "high");
    assert_false(b.stopped);
    for (int i = 0; i < b.count; i++) {
        const struct bench_row *r = &b.row[i];
        assert_true((r->peak > 0) == (r->table != BENCH_SIZES) && (r->seconds > 0) == !*r->why && r->steps == j.steps);
        assert_int_equal(r->card_peak, 0); /* the fake's use does not change */
        assert_true(r->seconds <= 0 || (r->ran && r->runs == 1 && r->steps_measured >= 1));
    }
    assert_true(none->seconds > 0 && none->steps_measured == j.steps);
    assert_true(none->peak >= row_of(&b, "basic")->peak && row_of(&b, "basic")->peak > row_of(&b, "middle")->peak &&
                row_of(&b, "middle")->peak > high->peak);
    assert_string_equal(row_of(&b, "vae bands")->settings, "--vae bands --vae-band 64");
    assert_string_equal(row_of(&b, "vae in fp16")->settings, "--vae-precision fp16");
    assert_non_null(strstr(row_of(&b, "attention flash")->why, "only one"));
    assert_non_null(strstr(row_of(&b, "1536x1536")->why, "a budget of 1 bytes"));
    assert_true(row_of(&b, "embedding cache")->seconds > 0);
    for (int i = 0; i < b.count; i++)
        assert_string_not_equal(b.row[i].name, "precision bf16"); /* it is that already */
    assert_int_equal(scratch_entries(scratch), 0);

    struct stopping s = { .after = 6 };
    o.begins = on_row;
    o.stop = stop_after;
    o.user = &s;
    assert_true(bench_run(&b, m, &j, &o, &e));
    assert_true(b.stopped && b.count == 7);
    assert_string_equal(b.row[6].why, "stopped");
    setenv("TMPDIR", "/no/such/folder", 1);
    assert_false(bench_run(&b, m, &j, &o, &e));
    assert_non_null(strstr(e.text, "/no/such/folder"));
    setenv("TMPDIR", scratch, 1);
    nvml_close(nvml);
    job_free(&j);
}

/* A few steps where not all fit the limit; the middle one of three runs where they are short. */
static void test_bench_runs(void **state)
{
    (void)state;
    static struct bench b;
    struct job j;
    struct err e = { 0 };
    struct model *m = shipped(&j);
    struct stopping s = { .after = 5 }; /* the sizes, which have no plan within a byte, and none */
    struct bench_options o = { .limit = 2, .begins = on_row, .stop = stop_after, .user = &s };
    j.budget = 1;
    j.width = j.height = 128;
    j.steps = 1000; /* too many for the limit, and decoding is quick */
    assert_true(bench_run(&b, m, &j, &o, &e));
    const struct bench_row *cut = bench_none(&b);
    if (!(cut->seconds > o.limit) || cut->steps_measured < 1 || cut->steps_measured >= 1000)
        fail_msg("%g s by %d steps: %s", cut->seconds, cut->steps_measured, cut->why);
    s = (struct stopping){ .after = 5 };
    j.steps = 1;
    j.width = j.height = 32;
    o.limit = 60;
    assert_true(bench_run(&b, m, &j, &o, &e));
    assert_int_equal(bench_none(&b)->runs, 3);
    assert_true(bench_none(&b)->seconds > 0);
    s = (struct stopping){ .after = 1 };
    j.budget = 0;
    o.limit = 0.001;
    assert_true(bench_run(&b, m, &j, &o, &e));
    assert_non_null(strstr(b.row[0].why, "over the limit of 0.001 s, in "));
    assert_string_equal(b.row[1].why, "not run: one before it was over the limit of 0.001 s");
    assert_true(b.row[0].peak && b.row[1].peak && !b.row[1].ran);
    job_free(&j);
}

/* A model that is larger than what is free is not run: its peak is told all the same. */
static void test_bench_too_large(void **state)
{
    (void)state;
    static struct bench b;
    struct job j;
    struct err e = { 0 };
    struct model *m = shipped(&j);
    struct bench_options o = { .limit = 1, .quick = true };
    j.memory_fraction = 1e-6f;
    assert_true(bench_run(&b, m, &j, &o, &e));
    for (int i = 0; i < b.count; i++)
        if (b.row[i].table == BENCH_SIZES)
            assert_non_null(strstr(b.row[i].why, "a budget of"));
        else if (!strstr(b.row[i].why, "GB are free") && !strstr(b.row[i].why, "only one") &&
                 strcmp(b.row[i].name, "middle")) /* its budget is cut to what is free, and that does not do */
            fail_msg("%s: %s", b.row[i].name, b.row[i].why);
        else if (strcmp(b.row[i].name, "middle"))
            assert_true(b.row[i].peak && !b.row[i].ran && !(b.row[i].seconds > 0));
    job_free(&j);
}

/* --- the commands ---------------------------------------------------------------------------- */

/* What a command prints, malloc'd, and its exit status. */
static char *run(int *status, const char *arguments)
{
    char *command = NULL, *out = calloc(1, 1 << 18);
    assert_true(asprintf(&command, "%s %s 2>%s/stderr", binary, arguments, scratch) > 0 && out);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, (1 << 18) - 1, f);
    out[n] = '\0';
    *status = WEXITSTATUS(pclose(f));
    free(command);
    return out;
}

static json_t *run_json(const char *arguments)
{
    int status;
    char *text = run(&status, arguments);
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    if (status || !root)
        fail_msg("sluice %s: status %d, %s: %s", arguments, status, error.text, text);
    free(text);
    return root;
}

static void test_doctor_command(void **state)
{
    (void)state;
    int status;
    char *text = run(&status, "doctor");
    static const char *const parts[] = { "card\n", "host\n", "memory\n", "speed\n", "models\n", "folders\n",
                                         "FLUX.1-dev\n", "terminal\n", "Nothing that sluice needs is missing.\n" };
    assert_int_equal(status, 0);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!strstr(text, parts[i]))
            fail_msg("no \"%s\" in %s", parts[i], text);
    free(text);
    json_t *root = run_json("doctor --json");
    assert_int_equal(json_integer_value(json_object_get(root, "problems")), 0);
    json_t *rows = json_object_get(json_object_get(root, "parts"), "host"), *first = json_array_get(rows, 0);
    assert_string_equal(json_string_value(json_object_get(first, "what")), "processor");
    assert_string_equal(json_string_value(json_object_get(first, "state")), "ok");
    json_decref(root);
}

static void test_bench_command(void **state)
{
    (void)state;
    int status;
    json_t *root = run_json("bench --quick --size 32x32 --steps 2 --budget 1K --json");
    static const struct { const char *name; size_t rows; } tables[] = { { "sizes", 4 }, { "levels", 4 },
                                                                        { "strategies", 15 } };
    for (size_t i = 0; i < 3; i++) {
        json_t *rows = json_object_get(root, tables[i].name), *r;
        size_t k;
        assert_int_equal(json_array_size(rows), tables[i].rows);
        json_array_foreach(rows, k, r) {
            /* no size has a plan with so little */
            assert_int_equal(json_is_integer(json_object_get(r, "peak_bytes")), i > 0);
            assert_int_equal(json_is_real(json_object_get(r, "seconds")), !json_object_get(r, "why"));
        }
    }
    const char *why = json_string_value(json_object_get(json_array_get(json_object_get(root, "strategies"), 3), "why"));
    assert_non_null(why);
    assert_non_null(strstr(why, "prompts are not kept here"));
    json_decref(root);
    char *text = run(&status, "bench --quick --size 32x32 --steps 1 --budget 1K --markdown --precision fp32");
    assert_int_equal(status, 0);
    assert_non_null(strstr(text, "\n## Sizes\n\n| size"));
    assert_non_null(strstr(text, "\n| none "));
    assert_non_null(strstr(text, "\n- high: `--budget min --text-encoders sequential"));
    assert_non_null(strstr(text, "\n| --precision bf16 "));
    free(text);
}

static void test_bench_interrupted(void **state)
{
    (void)state;
    int status;
    char *command = NULL;
    /* ignored until the command takes it up, and sent until it has ended */
    assert_true(asprintf(&command, "--version; trap '' INT; %s bench --steps 50 & "
                         "while kill -INT $! 2>&- && sleep 0.3; do :; done; wait $!; exit $?; :", binary) > 0);
    char *text = run(&status, command);
    free(command);
    assert_int_equal(status, 130);
    assert_non_null(strstr(text, "Sizes\n"));
    assert_non_null(strstr(text, "Stopped: not all rows are there."));
    free(text);
}

/* --- on a card --------------------------------------------------------------------------------- */

/* The card that works on the processor, and its library, for the binary: what each holds is not the other's. */
static void with_card(const char *sm, const char *cards, const char *memory)
{
    char path[FILE_PATH_MAX];
    const char *build = getenv("SLUICE_BUILD");
    snprintf(path, sizeof path, "%s/fake/libsluice-cuda.so", build ? build : "build");
    setenv("SLUICE_CUDA", path, 1);
    setenv("SLUICE_NVML", library, 1);
    setenv("FAKE_CUDA_SM", sm, 1);
    setenv("FAKE_CUDA_CARDS", cards, 1);
    setenv("FAKE_CUDA_MEMORY", memory, 1);
}

/* Of `sluice doctor --json`: the line's state, what it found and means, in one text. */
static void tells(const json_t *root, const char *part, const char *what, const char *state, const char *text)
{
    const json_t *rows = json_object_get(json_object_get(root, "parts"), part), *r;
    size_t i;
    json_array_foreach(rows, i, r)
        if (!strcmp(json_string_value(json_object_get(r, "what")), what)) {
            const char *found = json_string_value(json_object_get(r, "found"));
            const char *means = json_string_value(json_object_get(r, "means"));
            if (strcmp(json_string_value(json_object_get(r, "state")), state) ||
                (!strstr(found, text) && !strstr(means ? means : "", text)))
                fail_msg("%s: \"%s\", \"%s\"; expected %s, \"%s\"", what, found, means ? means : "", state, text);
            return;
        }
    fail_msg("there is no line \"%s\"", what);
}

/* What a card computes with is not measured here: that takes the processor half a minute. */
static void card_rates(void)
{
    struct rates r = { .of = { [RATE_FP32] = 10e12, [RATE_BF16] = 60e12, [RATE_FP16] = 60e12, [RATE_LINK] = 20e9,
                               [RATE_DISK] = 1e9 } };
    struct err e = { 0 };
    assert_true(rates_store(&r, "Fake card 0", "", &e));
}

static void test_doctor_card(void **state)
{
    (void)state;
    card_rates();
    with_card("86", "1", "12000000000");
    json_t *root = run_json("doctor --json");
    tells(root, "card", "CUDA device", "ok", "built, and loads");
    tells(root, "card", "cuDNN", "ok", "9.19.0");
    tells(root, "card", "card 0", "ok", "Fake card 0, 12.0 GB, compute capability 8.6, 5 multiprocessors");
    tells(root, "card", "card 0", "ok", "bf16 and fp16");
    tells(root, "card", "NVML's card", "ok", "RTX 3060");
    tells(root, "card", "card's memory", "ok", "9.00 GB free of 12.0 GB; 2.70 GB in use");
    tells(root, "speed", "link to the card", "ok", "20.0 GB/s");
    tells(root, "FLUX.1-dev", "profile", "ok", "auto plans with 11.0 GB; of those with a budget, 8gb (8.00 GB) fits");
    tells(root, "FLUX.1-dev", "device", "ok", "auto takes Fake card 0");
    tells(root, "FLUX.1-dev", "beside pictures", "ok", "other programs: 2.70 GB");
    json_decref(root);
    static const struct { const char *memory, *profile; } cards[] = {
        { "28000000000", "24gb (24.0 GB) fits" }, { "6000000000", "those with a budget ask for more, minimum" },
    };
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        with_card("86", "1", cards[i].memory);
        root = run_json("doctor --json");
        tells(root, "FLUX.1-dev", "profile", "ok", cards[i].profile);
        /* the two libraries do not agree on the card's size: neither is trusted with what others hold */
        tells(root, "FLUX.1-dev", "beside pictures", "note", "other programs: unknown");
        tells(root, "FLUX.1-dev", "beside pictures", "note", "NVML tells of 2.70 GB used of 12.00 GB, and CUDA of");
        json_decref(root);
    }
}

static void test_doctor_other_cards(void **state)
{
    (void)state;
    card_rates();
    with_card("75", "1", "12000000000");
    json_t *root = run_json("doctor --json");
    tells(root, "card", "card 0", "note", "it has no bf16, which begins with 8.0 (RTX 30): fp16 is used in its place");
    tells(root, "FLUX.1-dev", "device", "ok", "fp16 is used");
    json_decref(root);
    static const struct { const char *sm, *cards, *why; } none[] = {
        { "61", "1", "Fake card 0 is too old: compute capability 6.1, and 7.5 (RTX 20, T4) is needed" },
        { "86", "0", "no CUDA card was found" },
        { "86", "-1", "the NVIDIA driver is missing or too old for CUDA 13.0" },
    };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        with_card(none[i].sm, none[i].cards, "12000000000");
        root = run_json("doctor --json"); /* exit status 0: pictures can be made all the same */
        tells(root, "card", "cards", "note", none[i].why);
        tells(root, "card", "cards", "note", "the processor does all the work");
        tells(root, "FLUX.1-dev", "device", "ok", "auto takes the processor");
        json_decref(root);
    }
    /* exit status 1: something that sluice needs is broken */
    int status;
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX];
    mkdir(path_in(scratch, "data", folder), 0777);
    mkdir(path_in(folder, "sluice", path), 0777);
    mkdir(path_in(folder, "sluice/models", path), 0777);
    mkdir(path_in(folder, "sluice/models/torn", path), 0777);
    write_text(path, "model_index.json", "{");
    setenv("XDG_DATA_HOME", folder, 1);
    char *text = run(&status, "doctor");
    unsetenv("XDG_DATA_HOME");
    assert_int_equal(status, 1);
    assert_non_null(strstr(text, "problem  torn"));
    assert_non_null(strstr(text, "1 problem: see above."));
    free(text);
}

static void test_bench_card(void **state)
{
    (void)state;
    int status;
    with_card("86", "1", "12000000000");
    json_t *root = run_json("bench --device cuda --quick --limit 60 --size 32x32 --steps 1 --budget 1K --json"), *r;
    size_t i, measured = 0;
    assert_non_null(strstr(json_string_value(json_object_get(root, "device")), "Fake card 0 sm_86"));
    json_array_foreach(json_object_get(root, "levels"), i, r) {
        assert_true(json_is_integer(json_object_get(r, "peak_bytes")) && json_is_real(json_object_get(r, "seconds")));
        measured++;
    }
    assert_int_equal(measured, 4);
    json_array_foreach(json_object_get(root, "strategies"), i, r) /* attention too: a card has more than one */
        if (!strncmp(json_string_value(json_object_get(r, "name")), "attention", 9))
            assert_true(json_is_real(json_object_get(r, "seconds")));
    json_decref(root);
    with_card("86", "-1", "12000000000");
    char *text = run(&status, "bench --device cuda --quick --size 32x32 --steps 1");
    assert_int_equal(status, 1);
    assert_string_equal(text, "");
    free(text);
    with_card("75", "1", "12000000000");
    text = run(&status, "bench --device cuda --quick --limit 60 --size 32x32 --steps 1 --budget 1K --markdown");
    assert_int_equal(status, 0);
    assert_non_null(strstr(text, "fp16 is used"));
    free(text);
}

/* --- all --------------------------------------------------------------------------------------- */

static char cache[FILE_PATH_MAX];

static int fresh(void **state)
{
    (void)state;
    scratch_remove(scratch);
    setenv("TMPDIR", cache, 1);
    scratch_make(scratch);
    setenv("TMPDIR", scratch, 1);
    setenv("SLUICE_CUDA", "", 1);
    setenv("SLUICE_NVML", "", 1);
    return 0;
}

/* The machine is measured once, into a cache that all tests share. */
static int setup(void **state)
{
    (void)state;
    const char *build = getenv("SLUICE_BUILD");
    build = build ? build : "build";
    scratch_make_cache(cache);
    setenv("HOME", cache, 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("SLUICE_CACHE_BYTES", "0", 1);
    unsetenv("XDG_DATA_HOME");
    snprintf(library, sizeof library, "./%s/fake/libnvidia-ml.so", build);
    snprintf(binary, sizeof binary, "%s/sluice", build);
    return access(binary, X_OK) || access(library, R_OK);
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(cache);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_machine, fresh),
        cmocka_unit_test_setup(test_nothing_known, fresh),
        cmocka_unit_test_setup(test_models, fresh),
        cmocka_unit_test_setup(test_refused_memory, fresh),
        cmocka_unit_test_setup(test_bench, fresh),
        cmocka_unit_test_setup(test_bench_runs, fresh),
        cmocka_unit_test_setup(test_bench_too_large, fresh),
        cmocka_unit_test_setup(test_doctor_command, fresh),
        cmocka_unit_test_setup(test_bench_command, fresh),
        cmocka_unit_test_setup(test_bench_interrupted, fresh),
        cmocka_unit_test_setup(test_doctor_card, fresh),
        cmocka_unit_test_setup(test_doctor_other_cards, fresh),
        cmocka_unit_test_setup(test_bench_card, fresh),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
