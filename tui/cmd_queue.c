/* cmd_queue.c - `sluice queue`: jobs that are kept on disk, and run here, one after
 * the other. A run that is stopped in any way can be taken up again. */
#include "engine/engine.h"
#include "engine/store.h"
#include "tui/cmd.h"
#include "tui/commands.h"
#include "tui/cmd_console.h"
#include "tui/cmd_job.h"

#include <getopt.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char help[] =
    "usage: sluice queue list [--json]\n"
    "       sluice queue add [options] \"prompt\" ...\n"
    "       sluice queue clear [--all | ID...]\n"
    "       sluice queue run [--json] [ID...]\n"
    "\n"
    "Jobs that are kept until they are made, whatever happens to the program.\n"
    "\n"
    "  list       what is in it, in the order it will run\n"
    "  add        a job at its end: the options are those of sluice generate\n"
    "  clear      forgets jobs that have ended; --all: those that wait, too; ID: that one\n"
    "  run        makes what waits or was interrupted, or the jobs named: also one that was\n"
    "             paused, cancelled or has failed. Ctrl-C stops at the next block, and the\n"
    "             next run goes on from there with the same result\n"
    "  -h, --help\n"
    "\n"
    "Where it is kept: $XDG_STATE_HOME/sluice/studio.db (~/.local/state).\n";

/* --- list ----------------------------------------------------------------------------- */

static void put_text(json_t *o, const char *key, const char *text)
{
    json_t *value = json_string(text);
    json_object_set_new(o, key, value ? value : json_string("(not UTF-8)"));
}

static void list_json(const struct store_queue *q)
{
    json_t *all = json_array();
    for (int i = 0; i < q->count; i++) {
        const struct store_job *j = &q->at[i];
        json_t *o = json_pack("{s:I, s:s, s:b, s:i, s:i, s:i, s:i, s:I}", "id", (json_int_t)j->id, "state",
                              store_state_name(j->state), "elsewhere", j->foreign, "pictures", j->pictures,
                              "made", j->made,
                              "step", j->step, "steps", j->steps, "added", (json_int_t)j->added);
        put_text(o, "prompt", j->prompt);
        put_text(o, "model", j->model);
        put_text(o, "preset", j->preset);
        put_text(o, "error", j->error);
        if (j->state == STORE_FAILED) {
            put_text(o, "fault", err_kind_name(j->fault));
            put_text(o, "stage", stage_name(j->stage));
        }
        json_array_append_new(all, o);
    }
    json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
}

static void list_lines(const struct store_queue *q)
{
    for (int i = 0; i < q->count; i++) {
        const struct store_job *j = &q->at[i];
        char far[64] = "";
        if (j->pictures > 1 || j->made)
            snprintf(far, sizeof far, "%d/%d", j->made, j->pictures);
        if (j->step)
            snprintf(far + strlen(far), sizeof far - strlen(far), "%sstep %d/%d", *far ? ", " : "", j->step, j->steps);
        printf("%5lld  %-11s %-18s ", (long long)j->id, store_state_name(j->state), far);
        cmd_print(stdout, j->prompt);
        if (j->foreign)
            printf("  (another sluice has it)");
        if (*j->error) {
            printf("\n%*s", 38, "");
            cmd_print(stdout, j->error);
        }
        putchar('\n');
    }
    if (!q->count)
        puts("the queue is empty");
}

static int list(struct store *s, int argc, char **argv)
{
    struct store_queue q;
    struct err e = { 0 };
    bool json = argc == 2 && !strcmp(argv[1], "--json");
    if (argc > 1 && !json)
        return cmd_usage("queue", "list takes no more than --json");
    if (!store_queue_list(s, &q, &e))
        return cmd_fail(&e);
    json ? list_json(&q) : list_lines(&q);
    store_queue_free(&q);
    return 0;
}

/* --- add ------------------------------------------------------------------------------ */

static const struct cmd_option add_own[] = {
    { "output", 'o', "FILE.png", "(default: sluice-DATE-TIME.png here); picture I > 0 is FILE-I.png" },
    CMD_JOB_OPTIONS,
    { 0 },
};

static int add_take(void *to, int letter, const char *value)
{
    struct cmd_job *r = to;
    return letter == 'o' ? cmd_job_name(&r->output, "queue add", "output", value)
                         : cmd_job_take(r, "queue add", letter, value);
}

static const struct cmd_command add_command = {
    .name = "queue add",
    .usage = "usage: sluice queue add [options] \"prompt\" ...\n"
             "\n"
             "Keeps a job, to be made by sluice queue run or the studio. Prints its number.\n",
    .notes = "The job is kept with all its settings: what a preset says later does not change it.\n",
    .own = add_own,
    .take = add_take,
};

/* It may run in another folder: paths are absolute. */
static bool absolute(char **path, struct err *e)
{
    char *whole = NULL, *here = *path && **path != '/' ? getcwd(NULL, 0) : NULL;
    if (!here)
        return !*path || **path == '/' || err_set(e, ERR_IO, "the folder this is in has no name any more");
    bool ok = asprintf(&whole, "%s/%s", here, *path) >= 0 || err_set(e, ERR_MEMORY, "out of memory");
    if (ok) {
        free(*path);
        *path = whole;
    }
    free(here);
    return ok;
}

/* Several may be added in one second. */
static bool name_output(struct job *j, struct err *e)
{
    char name[64];
    struct timeval now;
    struct tm tm;
    gettimeofday(&now, NULL);
    size_t n = strftime(name, sizeof name, "sluice-%Y%m%d-%H%M%S", localtime_r(&now.tv_sec, &tm));
    snprintf(name + n, sizeof name - n, "-%06ld.png", (long)now.tv_usec);
    return job_set_string(&j->out, name, e);
}

static int add(struct store *s, int argc, char **argv)
{
    struct err e = { 0 };
    struct cmd_job request = { 0 };
    struct cmd_options options;
    char path[MODEL_PATH_MAX], real[PATH_MAX];
    int64_t id;
    int status = cmd_options_read(&options, &add_command, &request, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind == argc && !cmd_options_has_prompt(&options) && !request.prompts) {
        cmd_options_free(&options);
        return cmd_usage("queue add", "the prompt is missing");
    }
    struct job j = { 0 };
    bool ok = cmd_job_make(&j, &request, &options, argv + optind, path, &e) &&
              (request.output || name_output(&j, &e)) &&
              absolute(&j.out, &e) && absolute(&j.init_latents, &e) &&
              store_queue_add(s, &j, realpath(path, real) ? real : path, options.preset.name, &id, &e);
    if (ok)
        printf("%lld\n", (long long)id);
    cmd_options_free(&options);
    job_free(&j);
    return ok ? 0 : cmd_fail(&e);
}

/* --- clear ----------------------------------------------------------------------------- */

static int clear(struct store *s, int argc, char **argv)
{
    struct err e = { 0 };
    int removed = 0;
    bool all = argc == 2 && !strcmp(argv[1], "--all"), ok = true;
    if (argc == 1 || all)
        ok = store_queue_clear(s, all, &removed, &e);
    for (int i = 1; ok && !all && i < argc; i++) {
        int64_t id;
        if (!cmd_number(argv[i], 1, INT64_MAX, &id))
            return cmd_usage("queue", "\"%s\" is no job's number", argv[i]);
        ok = store_queue_remove(s, id, &e);
        removed += ok;
    }
    printf("removed %d %s\n", removed, removed == 1 ? "job" : "jobs");
    return ok ? 0 : cmd_fail(&e);
}

/* --- run ------------------------------------------------------------------------------- */

struct run {
    struct store *store;
    struct console console;
    int signals, stopped_by;
    struct engine *engine;
    char model[MODEL_PATH_MAX]; /* of the engine */
    bool failed;
};

static bool engine_for(struct run *r, const char *model, struct err *e)
{
    if (r->engine && !strcmp(r->model, model))
        return true;
    engine_stop(r->engine);
    r->engine = NULL;
    snprintf(r->model, sizeof r->model, "%s", model);
    return engine_start(&r->engine, model, e);
}

/* What is not kept is said, and the job goes on. */
static void kept(bool ok, struct err *e)
{
    if (!ok)
        cmd_say(e->text);
}

static void hear(struct run *r, const struct store_job *row, const struct job *j, const struct event *ev, int *step)
{
    struct err e = { 0 };
    console_print(&r->console, ev);
    if (ev->kind == EVENT_PROGRESS && ev->stage == STAGE_FLUX && ev->step != *step) {
        *step = ev->step;
        kept(store_queue_step(r->store, row->id, ev->step, &e), &e);
    }
    if (ev->kind == EVENT_DONE)
        kept(j->history ? store_history_keep(r->store, j, ev, engine_model(r->engine)->name, row->preset, row->id, &e)
                        : store_queue_made(r->store, row->id, &e), &e);
    if (ev->kind == EVENT_FAILED) {
        kept(store_queue_fail(r->store, row->id, ev->fault, ev->stage, ev->text, &e), &e);
        r->failed = true;
    }
}

/* One claimed job to its end. False: a signal. */
static bool follow(struct run *r, const struct store_job *row, const struct job *j)
{
    for (int step = 0;;) {
        if (!console_sleep(engine_fd(r->engine), r->signals))
            return false;
        r->stopped_by = console_signal(r->signals);
        struct event ev;
        while (engine_poll(r->engine, &ev)) {
            bool idle = ev.kind == EVENT_IDLE;
            hear(r, row, j, &ev, &step);
            event_clear(&ev);
            if (idle)
                return true;
        }
        if (r->stopped_by)
            return false;
    }
}

/* The job failed before it began. */
static void refuse(struct run *r, int64_t id, const struct err *why)
{
    struct err e = { 0 };
    cmd_fail(why);
    kept(store_queue_fail(r->store, id, why->kind, STAGE_LOAD, why->text, &e), &e);
    r->failed = true;
}

/* False: nothing more is to be run. */
static bool run_one(struct run *r, int64_t id)
{
    struct err e = { 0 };
    struct store_job row;
    struct job j;
    char notice[256];
    uint64_t ignored;
    bool go_on = true;
    if (!store_queue_claim(r->store, id, &row, &j, &e)) {
        r->failed = true;
        cmd_fail(&e);
        go_on = e.kind == ERR_AGAIN;
        if (e.kind == ERR_INPUT) /* it cannot be read: by no later run, either */
            go_on = store_queue_fail(r->store, id, e.kind, STAGE_LOAD, e.text, NULL);
    } else if (!job_check(&j, notice, &e) || !engine_for(r, row.model, &e) ||
               !engine_submit(r->engine, &j, &ignored, &e)) {
        refuse(r, id, &e);
    } else {
        go_on = follow(r, &row, &j);
    }
    store_job_free(&row);
    job_free(&j);
    return go_on;
}

static int run(struct store *s, int argc, char **argv)
{
    struct err e = { 0 };
    struct run r = { .store = s, .console = { .bar = isatty(STDERR_FILENO) } };
    int from = 1;
    if (argc > 1 && !strcmp(argv[1], "--json")) {
        r.console.json = true;
        from = 2;
    }
    int64_t id, named = argc - from;
    for (int i = from; i < argc; i++)
        if (!cmd_number(argv[i], 1, INT64_MAX, &id))
            return cmd_usage("queue", "\"%s\" is no job's number", argv[i]);
    r.signals = console_signals(&e);
    bool go_on = r.signals >= 0;
    for (int i = from; go_on && i < argc; i++)
        go_on = cmd_number(argv[i], 1, INT64_MAX, &id) && run_one(&r, id);
    while (go_on && !named && (go_on = store_queue_next(s, &id, &e)) && id)
        go_on = run_one(&r, id);
    engine_stop(r.engine); /* a job at work keeps its place, and is interrupted when the store is closed */
    if (r.signals >= 0)
        close(r.signals);
    if (e.kind != ERR_NONE)
        return cmd_fail(&e);
    return r.stopped_by == SIGINT ? 130 : r.stopped_by || r.failed;
}

const char *const cmd_queue_verbs[] = { "list", "add", "clear", "run", NULL };

int cmd_queue(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct store *s, int argc, char **argv);
    } verbs[] = { { "list", list }, { "add", add }, { "clear", clear }, { "run", run } };
    const char *verb = argc > 1 ? argv[1] : "";
    char notice[STORE_NOTICE_BYTES];
    struct err e = { 0 };
    struct store *s;
    if (!strcmp(verb, "-h") || !strcmp(verb, "--help") ||
        (strcmp(verb, "add") && argc > 2 && (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h")))) {
        fputs(help, stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (strcmp(verb, verbs[i].name))
            continue;
        if (!store_open(&s, NULL, notice, &e))
            return cmd_fail(&e);
        if (notice[0])
            cmd_say(notice);
        int status = verbs[i].run(s, argc - 1, argv + 1);
        store_close(s);
        return status;
    }
    return cmd_usage("queue", "%s%suse list, add, clear or run", verb, *verb ? ": " : "");
}
