/* main.c - gpu-check: the parts, one after the other, and their report. See gpu.h.
 *
 *   gpu-check [--small] [--out DIR] [PART ...]
 *   gpu-check --operations ROUNDS     the operations alone, here and now: for compute-sanitizer
 *
 * Run from the repository's root. Exit status 1 if a part that is about right and wrong failed,
 * or there is no card. */
#include "tests/gpu/gpu.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- what the parts use ------------------------------------------------------------------- */
double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void send(const struct gpu *g, struct line *l, const char *fmt, va_list ap)
{
    vsnprintf(l->text, sizeof l->text, fmt, ap);
    if (write(g->pipe, l, sizeof *l) != (ssize_t)sizeof *l)
        fprintf(stderr, "%s: %s\n", l->name, l->text);
}

void tell(const struct gpu *g, enum outcome o, const char *name, const char *fmt, ...)
{
    struct line l = { .outcome = o, .value = NAN };
    snprintf(l.name, sizeof l.name, "%s", name);
    va_list ap;
    va_start(ap, fmt);
    send(g, &l, fmt, ap);
    va_end(ap);
}

void tell_value(const struct gpu *g, const char *name, double value, const char *unit, const char *fmt, ...)
{
    struct line l = { .outcome = MEASURED, .value = value };
    snprintf(l.name, sizeof l.name, "%s", name);
    snprintf(l.unit, sizeof l.unit, "%s", unit);
    va_list ap;
    va_start(ap, fmt);
    send(g, &l, fmt, ap);
    va_end(ap);
}

bool open_card(struct cuda_card *card, struct err *e)
{
    int count;
    return cuda_load(e) && cuda_cards(card, 1, &count, e);
}

bool open_device(struct device **d, enum dtype compute, struct err *e)
{
    struct cuda_card card;
    *d = NULL;
    if (!open_card(&card, e))
        return false;
    struct cuda_options o = { .ordinal = card.ordinal, .search = true };
    return cuda_device_new(d, compute, &o, e);
}

const char *type_name(enum dtype t) { return t == DT_F32 ? "fp32" : t == DT_BF16 ? "bf16" : "fp16"; }
bool card_has(const struct cuda_card *card, enum dtype t) { return t != DT_BF16 || card->major >= 8; }

/* --- parts that are other programs -------------------------------------------------------------- */
static char self[FILE_PATH_MAX];

static void sanitize(const struct gpu *g, const char *tool)
{
    char command[4 * FILE_PATH_MAX], row[96];
    snprintf(row, sizeof row, "operations under compute-sanitizer %s", tool);
    const char *sanitizer = getenv("COMPUTE_SANITIZER");
    if (!sanitizer || !*sanitizer) {
        tell(g, NOT_POSSIBLE, row, "compute-sanitizer was not found beside nvcc");
        return;
    }
    snprintf(command, sizeof command, "'%.4000s' --tool %s --error-exitcode 9 '%s' --operations %g >'%s/%s.log' 2>&1",
             sanitizer, tool, self, (double)(g->rounds / 20), g->scratch, tool);
    int rc = system(command);
    tell(g, rc == 0 ? PASSED : FAILED, row, rc == 0 ? "nothing found" : "exit status %d: see %s.log", rc >> 8, tool);
}

static void part_memcheck(const struct gpu *g) { sanitize(g, "memcheck"); }
static void part_racecheck(const struct gpu *g) { sanitize(g, "racecheck"); }

/* Lines of a program's output, "name<TAB>value<TAB>unit<TAB>text" or anything else as text. */
static void run_program(const struct gpu *g, const char *row, const char *command)
{
    char text[1024];
    FILE *f = popen(command, "r");
    int lines = 0;
    while (f && fgets(text, sizeof text, f)) {
        char *field[4] = { text };
        text[strcspn(text, "\n")] = '\0';
        for (int i = 1; i < 4 && field[i - 1]; i++)
            if ((field[i] = strchr(field[i - 1], '\t')))
                *field[i]++ = '\0';
        if (field[3])
            tell_value(g, field[0], atof(field[1]), field[2], "%s", field[3]);
        else
            tell(g, NOT_POSSIBLE, row, "%s", text);
        lines++;
    }
    int rc = f ? pclose(f) : -1;
    if (rc != 0 || !lines)
        tell(g, NOT_POSSIBLE, row, "exit status %d", rc >> 8);
}

static void part_torch(const struct gpu *g)
{
    run_program(g, "PyTorch on the same shapes", g->small ? "python3 tests/gpu/torch_step.py --small 2>&1"
                                                         : "python3 tests/gpu/torch_step.py 2>&1");
}

static void part_registers(const struct gpu *g)
{
    char command[4 * FILE_PATH_MAX], folder[FILE_PATH_MAX];
    file_folder(self, folder);
    snprintf(command, sizeof command, "sh tests/registers.sh '%s' >'%s/registers.txt' 2>&1", folder, g->scratch);
    int rc = system(command) >> 8;
    tell(g, rc == 0 ? PASSED : rc == 2 ? NOT_POSSIBLE : FAILED, "registers and spills",
         rc == 0 ? "no kernel spills: registers.txt" : rc == 2 ? "nvcc's report is not there" : "see registers.txt");
}

/* --- running the parts ------------------------------------------------------------------------------ */
struct part {
    const char *name, *title;
    void (*run)(const struct gpu *g);
    int seconds;      /* its limit; all together below ten minutes */
    bool judges;      /* its failures are the check's, */
    bool may_stop;    /* but not that it is slow */
};

static const struct part parts[] = {
    { "registers", "Kernels", part_registers, 5, true, false },
    { "operations", "Operations against ref", part_operations, 120, true, false },
    { "golden", "Stages against diffusers", part_golden, 45, true, false },
    { "demo", "The shipped model", part_demo, 25, true, false },
    { "quality", "What the shipped model was asked for", part_quality, 15, true, false },
    { "budgets", "The same bytes under every budget", part_budgets, 30, true, false },
    { "full", "FLUX.1-dev's shapes", part_full, 170, true, true },
    { "torch", "PyTorch on the same shapes", part_torch, 65, false, true },
    { "memcheck", "compute-sanitizer memcheck", part_memcheck, 60, true, true },
    { "racecheck", "compute-sanitizer racecheck", part_racecheck, 60, true, true },
};
enum { PARTS = sizeof parts / sizeof *parts, LINES_MAX = 512 };

struct row { const struct part *part; struct line line; };

struct report {
    struct row row[LINES_MAX];
    int rows;
    bool failed;
};

static const char *const outcome_name[OUTCOMES] = { "passed", "FAILED", "measured", "not possible" };

static void add(struct report *r, const struct part *p, const struct line *l)
{
    if (r->rows == LINES_MAX)
        return;
    r->row[r->rows++] = (struct row){ p, *l };
    r->failed = r->failed || (p->judges && l->outcome == FAILED);
    if (isnan(l->value))
        printf("%-12s %s: %s\n", outcome_name[l->outcome], l->name, l->text);
    else
        printf("%-12s %s: %.4g %s  (%s)\n", outcome_name[l->outcome], l->name, l->value, l->unit, l->text);
    fflush(stdout);
}

static void add_end(struct report *r, const struct part *p, bool fault, const char *why)
{
    struct line l = { .outcome = fault ? FAILED : NOT_POSSIBLE, .value = NAN };
    snprintf(l.name, sizeof l.name, "%s", p->title);
    snprintf(l.text, sizeof l.text, "%s", why);
    add(r, p, &l);
}

static bool read_whole(int fd, struct line *l)
{
    size_t got = 0;
    while (got < sizeof *l) {
        ssize_t n = read(fd, (char *)l + got, sizeof *l - got);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

static void run_part(struct report *r, const struct gpu *g, const struct part *p)
{
    int ends[2], status;
    char why[64];
    if (pipe(ends)) {
        add_end(r, p, true, strerror(errno));
        return;
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct gpu mine = *g;
        mine.pipe = ends[1];
        setpgid(0, 0);
        close(ends[0]);
        p->run(&mine);
        fflush(NULL);
        _exit(0);
    }
    close(ends[1]);
    int limit = g->small ? 4 * p->seconds : p->seconds; /* a processor that is a card has others to serve */
    double deadline = seconds_now() + limit;
    bool late = false;
    for (struct line l;;) {
        double left = deadline - seconds_now();
        struct pollfd fd = { .fd = ends[0], .events = POLLIN };
        late = child > 0 && (left <= 0 || poll(&fd, 1, (int)(left * 1000) + 1) == 0);
        if (late || !read_whole(ends[0], &l))
            break;
        add(r, p, &l);
    }
    close(ends[0]);
    if (late)
        kill(-child, SIGKILL);
    if (child < 0 || waitpid(child, &status, 0) != child) {
        add_end(r, p, true, strerror(errno));
    } else if (late) {
        snprintf(why, sizeof why, "stopped: more than %d s", limit);
        add_end(r, p, !p->may_stop, why);
    } else if (WIFSIGNALED(status)) {
        snprintf(why, sizeof why, "killed by signal %d", WTERMSIG(status));
        add_end(r, p, true, why);
    }
}

/* --- the report ---------------------------------------------------------------------------------------- */
static void one_line_of(const char *command, char *to, size_t size)
{
    FILE *f = popen(command, "r");
    if (!f || !fgets(to, (int)size, f))
        snprintf(to, size, "unknown");
    to[strcspn(to, "\n")] = '\0';
    if (f)
        pclose(f);
}

struct about { char card[CUDA_NAME_BYTES + 32], versions[400], date[32], commit[64], host[96]; };

/* Asked in a process of its own: this one never opens the card. */
static void ask_card(int pipe_end)
{
    struct about a = { .card = "none" };
    struct cuda_card card;
    struct err e = { 0 };
    if (open_card(&card, &e)) {
        struct cuda_versions v = cuda_versions();
        snprintf(a.card, sizeof a.card, "%s, %.1f GB, sm_%d%d", card.name, (double)card.total * 1e-9, card.major,
                 card.minor);
        snprintf(a.versions, sizeof a.versions, "driver %d, CUDA %d, cuBLASLt %d, cuDNN %d", v.driver, v.runtime,
                 v.cublas, v.cudnn);
    } else {
        snprintf(a.versions, sizeof a.versions, "%.390s", e.text);
    }
    if (write(pipe_end, &a, sizeof a) != (ssize_t)sizeof a)
        _exit(1);
    _exit(0);
}

static bool find_out(struct about *a)
{
    int ends[2];
    memset(a, 0, sizeof *a);
    if (pipe(ends))
        return false;
    pid_t child = fork();
    if (child == 0)
        ask_card(ends[1]);
    close(ends[1]);
    bool ok = read(ends[0], a, sizeof *a) == (ssize_t)sizeof *a;
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    if (!ok)
        snprintf(a->card, sizeof a->card, "none");
    time_t now = time(NULL);
    strftime(a->date, sizeof a->date, "%Y-%m-%d %H:%M UTC", gmtime(&now));
    one_line_of("git rev-parse --short HEAD 2>/dev/null", a->commit, sizeof a->commit);
    one_line_of("sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", a->host, sizeof a->host);
    return strcmp(a->card, "none") != 0;
}

static void write_markdown(FILE *f, const struct report *r, const struct about *a, double seconds)
{
    fprintf(f, "# gpu-check\n\n%s; %s; %s; commit %s; %s; %.0f s\n", a->card, a->versions, a->host, a->commit, a->date,
            seconds);
    for (int p = 0; p < PARTS; p++) {
        bool titled = false;
        for (int i = 0; i < r->rows; i++) {
            const struct line *l = &r->row[i].line;
            if (r->row[i].part != &parts[p])
                continue;
            if (!titled)
                fprintf(f, "\n## %s\n\n| what | outcome | | |\n|---|---|---|---|\n", parts[p].title);
            titled = true;
            fprintf(f, "| %s | %s | ", l->name, outcome_name[l->outcome]);
            if (!isnan(l->value))
                fprintf(f, "%.4g %s", l->value, l->unit);
            fprintf(f, " | %s |\n", l->text);
        }
    }
}

static void write_text(FILE *f, const char *text)
{
    putc('"', f);
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            fprintf(f, "\\u%04x", *text);
        else
            fprintf(f, *text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    putc('"', f);
}

static void write_json(FILE *f, const struct report *r, const struct about *a, double seconds)
{
    const struct { const char *key, *value; } facts[] = { { "card", a->card }, { "versions", a->versions },
        { "host", a->host }, { "commit", a->commit }, { "date", a->date } };
    fprintf(f, "{");
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        fprintf(f, "\"%s\": ", facts[i].key);
        write_text(f, facts[i].value);
        fprintf(f, ", ");
    }
    fprintf(f, "\"seconds\": %.1f, \"failed\": %s, \"lines\": [", seconds, r->failed ? "true" : "false");
    for (int i = 0; i < r->rows; i++) {
        const struct line *l = &r->row[i].line;
        fprintf(f, "%s\n{\"part\": \"%s\", \"outcome\": \"%s\", \"name\": ", i ? "," : "", r->row[i].part->name,
                outcome_name[l->outcome]);
        write_text(f, l->name);
        if (isfinite(l->value)) {
            fprintf(f, ", \"value\": %.9g, \"unit\": ", l->value);
            write_text(f, l->unit);
        }
        fprintf(f, ", \"text\": ");
        write_text(f, l->text);
        fprintf(f, "}");
    }
    fprintf(f, "\n]}\n");
}

static bool write_report(const struct report *r, const struct about *a, double seconds, const char *out)
{
    char path[FILE_PATH_MAX];
    struct err e = { 0 };
    for (int json = 0; json < 2; json++) {
        FILE *f = file_join(path, out, json ? "report.json" : "report.md", &e) ? fopen(path, "w") : NULL;
        if (!f) {
            fprintf(stderr, "%s: %s\n", path, strerror(errno));
            return false;
        }
        (json ? write_json : write_markdown)(f, r, a, seconds);
        fclose(f);
    }
    return true;
}

static int remove_entry(const char *path, const struct stat *s, int flag, struct FTW *f)
{
    (void)s, (void)flag;
    return f->level ? remove(path) : 0;
}

/* What lies in the scratch folder but the logs, which are moved to the report. */
static void clean(const char *scratch, const char *out)
{
    static const char *const logs[] = { "memcheck.log", "racecheck.log", "registers.txt" };
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX];
    for (size_t i = 0; i < sizeof logs / sizeof *logs; i++)
        if (file_join(from, scratch, logs[i], NULL) && file_join(to, out, logs[i], NULL))
            rename(from, to);
    nftw(scratch, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    rmdir(scratch);
}

static bool wanted(const struct part *p, char **names)
{
    for (char **n = names; *n; n++)
        if (!strcmp(*n, p->name))
            return true;
    return !*names;
}

/* In this process, for a tool that watches it; another one prints. */
static int operations_here(float rounds)
{
    static struct report report;
    const struct part *part = parts;
    int ends[2], status;
    while (part->run != part_operations)
        part++;
    if (pipe(ends))
        return 1;
    pid_t printer = fork();
    if (printer == 0) {
        close(ends[1]);
        for (struct line l; read_whole(ends[0], &l);)
            add(&report, part, &l);
        _exit(report.failed);
    }
    close(ends[0]);
    part_operations(&(struct gpu){ .small = true, .rounds = rounds, .pipe = ends[1] });
    close(ends[1]);
    return printer < 0 || waitpid(printer, &status, 0) != printer || status != 0;
}

int main(int argc, char **argv)
{
    static struct report report;
    struct gpu g = { .rounds = 1, .pipe = STDOUT_FILENO };
    struct about about;
    struct err e = { 0 };
    const char *out = ".";
    char **arg = argv + 1;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    for (; *arg && !strncmp(*arg, "--", 2); arg++)
        if (!strcmp(*arg, "--small"))
            g.small = true;
        else if (!strcmp(*arg, "--out") && arg[1])
            out = *++arg;
        else if (!strcmp(*arg, "--operations") && arg[1])
            return operations_here((float)atof(arg[1]));
        else {
            fprintf(stderr, "usage: %s [--small] [--out DIR] [PART ...]\n", argc ? argv[0] : "gpu-check");
            return 2;
        }
    if (g.small)
        g.rounds = 0.02f;
    if (!find_out(&about)) {
        fprintf(stderr, "gpu-check: %s\n", about.versions[0] ? about.versions : "there is no card");
        return 1;
    }
    if ((mkdir(out, 0777) && errno != EEXIST) || !file_join(g.scratch, out, "scratch-XXXXXX", &e) ||
        !mkdtemp(g.scratch)) {
        fprintf(stderr, "gpu-check: %s: %s\n", out, e.kind ? e.text : strerror(errno));
        return 1;
    }
    printf("%s; %s\n", about.card, about.versions);
    double began = seconds_now();
    for (int i = 0; i < PARTS; i++)
        if (wanted(&parts[i], arg))
            run_part(&report, &g, &parts[i]);
    double seconds = seconds_now() - began;
    bool written = write_report(&report, &about, seconds, out);
    clean(g.scratch, out);
    char *where = realpath(out, NULL);
    printf("%s in %.0f s: %s/report.md, report.json\n", report.failed ? "FAILED" : "done", seconds,
           where ? where : out);
    free(where);
    return report.failed || !written;
}
