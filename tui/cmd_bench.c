/* cmd_bench.c - `sluice bench`: the article's three tables for this machine, as text,
 * Markdown or JSON. Prints what engine/bench.h measured; measures nothing itself. */
#include "engine/bench.h"
#include "kernels/cuda.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"

#include <getopt.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_QUICK = 512, OPT_LIMIT, OPT_JSON, OPT_MARKDOWN };
enum { LIMIT_SECONDS = 60, QUICK_SECONDS = 2, LIMIT_MAX = 86400 };

static const struct cmd_option own[] = {
    { "quick", OPT_QUICK, NULL, "each row once, and with --limit 2" },
    { "limit", OPT_LIMIT, "SECONDS", "for a row's sampling, and again for its decoding (default: 60)" },
    { "json", OPT_JSON, NULL, "the tables as one JSON object" },
    { "markdown", OPT_MARKDOWN, NULL, "the tables as Markdown" },
    { 0 },
};

struct request {
    bool quick, json, markdown;
    int64_t limit; /* 0: not given */
};

static int take(void *to, int letter, const char *value)
{
    struct request *r = to;
    switch (letter) {
    case OPT_QUICK: r->quick = true; return 0;
    case OPT_JSON: r->json = true; return 0;
    case OPT_MARKDOWN: r->markdown = true; return 0;
    case OPT_LIMIT:
        return cmd_number(value, 1, LIMIT_MAX, &r->limit) ? 0
               : cmd_usage("bench", "--limit \"%s\": give whole seconds, 1 to %d", value, LIMIT_MAX);
    }
    return 0;
}

const struct cmd_command cmd_bench_command = {
    .name = "bench",
    .usage = "usage: sluice bench [options]\n"
             "\n"
             "Measures with the model what a picture takes on this machine: time and peak of\n"
             "each size; of each level of optimisation; and of each strategy alone, what it\n"
             "saves and costs. Prints three tables.\n",
    .notes = "The second and third table are of the picture's size, steps and precision; the first is\n"
             "under the settings of memory given (without a budget: auto). Ctrl-C prints what there is.\n",
    .own = own,
    .take = take,
};

/* --- running ----------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static bool stop(void *user)
{
    (void)user;
    return interrupted;
}

static void tell_row(void *user, const struct bench_row *r)
{
    (void)user;
    fprintf(stderr, "\rmeasuring %s\033[K", r->name);
}

/* NVML's handle of the card that the job will take, if it takes one and NVML tells of it. */
static void watch_card(struct bench_options *o, struct nvml **nvml, const struct job *j)
{
    struct cuda_card card;
    int count;
    if (j->device == DEVICE_CPU || !cuda_load(NULL) || !cuda_cards(&card, 1, &count, NULL) || !count ||
        !nvml_open(nvml, NULL, NULL))
        return;
    if (nvml_find(*nvml, card.uuid, card.pci, &o->card, NULL))
        o->nvml = *nvml;
}

static bool measure(struct bench *b, const struct model *m, const struct job *j, const struct request *r, struct err *e)
{
    bool tell = isatty(STDERR_FILENO);
    struct bench_options o = { .limit = r->limit ? (double)r->limit : r->quick ? QUICK_SECONDS : LIMIT_SECONDS,
                               .quick = r->quick, .begins = tell ? tell_row : NULL, .stop = stop };
    struct sigaction act = { .sa_handler = on_interrupt };
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    signal(SIGXFSZ, SIG_IGN);
    struct nvml *nvml = NULL;
    watch_card(&o, &nvml, j);
    bool ok = bench_run(b, m, j, &o, e);
    nvml_close(nvml);
    if (tell)
        fputs("\r\033[K", stderr);
    return ok;
}

/* --- tables -------------------------------------------------------------------------------- */

enum { COLUMNS_MAX = 7, CELL_MAX = 256 };

struct table {
    int columns, rows, words; /* from column `words` on, and in the first, text begins at the left */
    char cell[BENCH_ROWS_MAX + 1][COLUMNS_MAX][CELL_MAX]; /* row 0: the heads */
};

static void print_table(const struct table *t, bool markdown)
{
    int width[COLUMNS_MAX] = { 0 };
    for (int c = 0; c < t->columns; c++)
        for (int r = 0; r <= t->rows; r++)
            width[c] = (int)strlen(t->cell[r][c]) > width[c] ? (int)strlen(t->cell[r][c]) : width[c];
    for (int r = 0; r <= t->rows; r++) {
        fputs(markdown ? "|" : " ", stdout);
        for (int c = 0; c < t->columns; c++) {
            bool last = c == t->columns - 1, left = c == 0 || c >= t->words;
            printf(markdown ? " %*s |" : last ? " %*s" : " %*s ", !left ? width[c] : last && !markdown ? 0 : -width[c],
                   t->cell[r][c]);
        }
        putchar('\n');
        if (r || !markdown)
            continue;
        fputs("|", stdout);
        for (int c = 0; c < t->columns; c++)
            fputs(c == 0 || c >= t->words ? "---|" : "---:|", stdout);
        putchar('\n');
    }
}

/* "median of 3"; "measured 2 of 28 steps, the rest by rate"; why there is no time. */
static void how_text(const struct bench_row *r, char buf[CELL_MAX])
{
    int n = 0;
    buf[0] = '\0';
    if (!(r->seconds > 0))
        n = snprintf(buf, CELL_MAX, "%.160s", *r->why ? r->why : "");
    else if (r->steps_measured < r->steps)
        n = snprintf(buf, CELL_MAX, "measured %d of %d steps, the rest by rate", r->steps_measured, r->steps);
    else
        n = snprintf(buf, CELL_MAX, r->runs > 1 ? "median of %d" : "one run", r->runs);
    if (*r->notice)
        snprintf(buf + n, (size_t)(CELL_MAX - n), "; %.80s", r->notice);
    for (char *s = buf; *s; s++) /* what a file is named must not end a cell, nor steer the terminal */
        if (*s == '|' || (unsigned char)*s < ' ')
            *s = '?';
}

static void seconds_cell(const struct bench_row *r, char buf[CELL_MAX])
{
    double s = r->seconds;
    if (!(s > 0))
        snprintf(buf, CELL_MAX, "n/a");
    else if (s < 600)
        snprintf(buf, CELL_MAX, "%.*f s", s < 9.995 ? 2 : 1, s);
    else
        snprintf(buf, CELL_MAX, "%.0f min", s / 60);
}

static void bytes_cell(size_t bytes, char buf[CELL_MAX])
{
    char text[CMD_BYTES_MAX];
    snprintf(buf, CELL_MAX, "%s", bytes ? cmd_bytes(bytes, text) : "n/a");
}

static void saved_cell(size_t without, size_t with, char buf[CELL_MAX])
{
    char text[CMD_BYTES_MAX];
    if (!without || !with)
        snprintf(buf, CELL_MAX, "n/a");
    else if (without >= with)
        snprintf(buf, CELL_MAX, "%s", without == with ? "0" : cmd_bytes(without - with, text));
    else
        snprintf(buf, CELL_MAX, "-%s", cmd_bytes(with - without, text));
}

static void heads(struct table *t, const char *const *names)
{
    *t = (struct table){ 0 };
    for (; names[t->columns]; t->columns++) {
        snprintf(t->cell[0][t->columns], CELL_MAX, "%s", names[t->columns]);
        if (!strcmp(names[t->columns], "measured"))
            t->words = t->columns;
    }
}

static void print_title(const char *title, bool markdown)
{
    printf(markdown ? "\n## %s\n\n" : "\n%s\n", title);
}

/* The first two tables: one row as another. */
static void print_rows(const struct bench *b, enum bench_table which, const char *title, bool markdown)
{
    static struct table t;
    const char *first = which == BENCH_SIZES ? "size" : "level";
    heads(&t, (const char *const[]){ first, "time", "peak", "card", "measured", NULL });
    for (int i = 0; i < b->count; i++) {
        const struct bench_row *r = &b->row[i];
        if (r->table != which)
            continue;
        char (*to)[CELL_MAX] = t.cell[++t.rows];
        snprintf(to[0], CELL_MAX, "%s", r->name);
        seconds_cell(r, to[1]);
        bytes_cell(r->peak, to[2]);
        bytes_cell(r->card_peak, to[3]);
        how_text(r, to[4]);
    }
    print_title(title, markdown);
    print_table(&t, markdown);
}

static void print_level_settings(const struct bench *b, bool markdown)
{
    enum { SETTINGS = 10 };
    putchar('\n');
    for (int i = 0; i < b->count; i++)
        if (b->row[i].table == BENCH_LEVELS && markdown)
            printf("- %s: `%s`\n", b->row[i].name, b->row[i].settings);
        else if (b->row[i].table == BENCH_LEVELS)
            cmd_words(printf("  %s", b->row[i].name), SETTINGS, b->row[i].settings);
}

static void print_strategies(const struct bench *b, bool markdown)
{
    static struct table t;
    const struct bench_row *none = bench_none(b);
    heads(&t, (const char *const[]){ "beside none", "peak", "saves", "in its stage", "time", "effect", "measured",
                                     NULL });
    for (int i = 0; i < b->count; i++) {
        const struct bench_row *r = &b->row[i];
        if (r->table != BENCH_STRATEGIES)
            continue;
        char (*to)[CELL_MAX] = t.cell[++t.rows], stage[CELL_MAX];
        snprintf(to[0], CELL_MAX, "%s", r->settings);
        bytes_cell(r->peak, to[1]);
        saved_cell(none ? none->peak : 0, r->peak, to[2]);
        saved_cell(none ? none->stage_peak[r->stage] : 0, r->stage_peak[r->stage], stage);
        snprintf(to[3], CELL_MAX, "%.40s %.32s", stage_name(r->stage), stage);
        seconds_cell(r, to[4]);
        if (none && none->seconds > 0 && r->seconds > 0)
            snprintf(to[5], CELL_MAX, "%+.0f %%", (r->seconds / none->seconds - 1) * 100);
        else
            snprintf(to[5], CELL_MAX, "n/a");
        how_text(r, to[6]);
    }
    print_title("Each strategy alone, beside the level none: what it saves, and its effect on the time", markdown);
    print_table(&t, markdown);
}

static void print_text(const struct bench *b, const struct model *m, const struct job *j, bool markdown)
{
    fputs(markdown ? "# " : "", stdout);
    cmd_print(stdout, m->name);
    printf(", %dx%d, %d steps, %s, on %s\n", j->width, j->height, j->steps, precision_name(j->precision), b->device);
    fputs(markdown ? "\nPeak" : "Peak", stdout);
    puts(": the one allocation a job makes on the device. Time: of one picture, loading and writing left out.");
    print_rows(b, BENCH_SIZES, "Sizes", markdown);
    print_rows(b, BENCH_LEVELS, "Levels of optimisation", markdown);
    print_level_settings(b, markdown);
    print_strategies(b, markdown);
    if (b->stopped)
        puts("\nStopped: not all rows are there.");
}

static json_t *row_json(const struct bench_row *r)
{
    json_t *o = json_pack("{s:s, s:s, s:i, s:i, s:i, s:o, s:b, s:o}", "name", r->name, "settings", r->settings, "width",
                          r->width, "height", r->height, "steps", r->steps, "peak_bytes",
                          r->peak ? json_integer((json_int_t)r->peak) : json_null(), "ran", r->ran, "seconds",
                          r->seconds > 0 ? json_real(r->seconds) : json_null());
    if (r->seconds > 0) {
        json_object_set_new(o, "runs", json_integer(r->runs));
        json_object_set_new(o, "steps_measured", json_integer(r->steps_measured));
    }
    if (r->card_peak)
        json_object_set_new(o, "card_peak_bytes", json_integer((json_int_t)r->card_peak));
    if (r->table == BENCH_STRATEGIES) {
        json_object_set_new(o, "stage", json_string(stage_name(r->stage)));
        json_object_set_new(o, "stage_peak_bytes", json_integer((json_int_t)r->stage_peak[r->stage]));
    }
    if (*r->why) {
        json_t *why = json_string(r->why);
        json_object_set_new(o, "why", why ? why : json_string("(not UTF-8)"));
    }
    if (*r->notice)
        json_object_set_new(o, "notice", json_string(r->notice));
    return o;
}

static void print_json(const struct bench *b, const struct model *m, const struct job *j)
{
    static const char *const names[BENCH_TABLES] = { "sizes", "levels", "strategies" };
    json_t *name = json_string(m->name);
    json_t *o = json_pack("{s:o, s:s, s:i, s:i, s:i, s:s, s:b}", "model", name ? name : json_string("(not UTF-8)"),
                          "device", b->device, "width", j->width, "height", j->height, "steps", j->steps, "precision",
                          precision_name(j->precision), "stopped", b->stopped);
    for (enum bench_table t = 0; t < BENCH_TABLES; t++) {
        json_t *rows = json_array();
        for (int i = 0; i < b->count; i++)
            if (b->row[i].table == t)
                json_array_append_new(rows, row_json(&b->row[i]));
        json_object_set_new(o, names[t], rows);
    }
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

int cmd_bench(int argc, char **argv)
{
    struct err e = { 0 };
    struct request request = { 0 };
    struct cmd_options options;
    char path[MODEL_PATH_MAX], notice[256] = "";
    int status = cmd_options_read(&options, &cmd_bench_command, &request, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind != argc || (request.json && request.markdown)) {
        cmd_options_free(&options);
        return optind != argc ? cmd_usage("bench", "%s: it takes no arguments", argv[optind])
                              : cmd_usage("bench", "--json or --markdown, not both");
    }
    static struct model m;
    static struct bench b;
    struct job j = { 0 };
    bool ok = cmd_options_model(&options, path, &e) && model_open(&m, path, true, &e) &&
              cmd_options_job(&options, &m, &j, &e) &&
              (*j.prompt || job_set_string(&j.prompt, "a lighthouse in fog", &e)) && job_check(&j, notice, &e);
    if (ok && notice[0])
        cmd_say(notice);
    ok = ok && measure(&b, &m, &j, &request, &e);
    if (ok && request.json)
        print_json(&b, &m, &j);
    else if (ok)
        print_text(&b, &m, &j, request.markdown);
    job_free(&j);
    cmd_options_free(&options);
    return !ok ? cmd_fail(&e) : b.stopped ? 130 : 0;
}
