/* cmd_generate.c - `sluice generate`: one job without a screen. Starts the
 * engine, submits, prints what comes back: a progress line on a terminal, or
 * one JSON event per line. Computes nothing itself. */
#include "engine/engine.h"
#include "tui/cmd.h"
#include "tui/cmd_console.h"
#include "tui/cmd_job.h"

#include <getopt.h>
#include <signal.h>
#include <unistd.h>

enum { OPT_JSON = 512, OPT_DUMP_STAGES, OPT_NO_HISTORY };

static const struct cmd_option own[] = {
    { "output", 'o', "FILE.png", "(default: sluice-DATE-TIME.png here); picture I > 0 is FILE-I.png" },
    CMD_JOB_OPTIONS,
    { "json", OPT_JSON, NULL, "one event per line on standard output" },
    { "dump-stages", OPT_DUMP_STAGES, "FILE", "write every stage's result to this safetensors file" },
    { "no-history", OPT_NO_HISTORY, NULL, "the same as --history off" },
    { 0 },
};

/* What the command line says beside the settings; all borrowed from it. */
struct request {
    struct console console;
    struct cmd_job job;
    bool no_history;
};

static int take(void *to, int letter, const char *value)
{
    struct request *r = to;
    switch (letter) {
    case 'o': return cmd_job_name(&r->job.output, "generate", "output", value);
    case OPT_DUMP_STAGES: return cmd_job_name(&r->job.dump_stages, "generate", "dump-stages", value);
    case OPT_JSON: r->console.json = true; return 0;
    case OPT_NO_HISTORY: r->no_history = true; return 0;
    default: return cmd_job_take(&r->job, "generate", letter, value);
    }
}

const struct cmd_command cmd_generate_command = {
    .name = "generate",
    .usage = "usage: sluice generate [options] \"prompt\" ...\n"
             "\n"
             "Makes a picture of each prompt and writes it as PNG. An empty prompt is allowed.\n",
    .notes = "The picture is the same under every budget; sluice plan shows where the memory goes.\n"
             "Ctrl-C stops at the next block and keeps the partial picture; twice, at once.\n",
    .own = own,
    .take = take,
};

/* A job and where its pictures are noted. */
struct running {
    const struct job *job;
    const char *model, *preset; /* their names */
    struct store *store;
    bool tried;
};

static void note(struct running *r, const struct event *done)
{
    struct err e = { 0 };
    struct store *s = r->job->history ? console_store(&r->store, &r->tried) : NULL;
    if (s && !store_history_keep(s, r->job, done, r->model, r->preset, 0, &e))
        cmd_say(e.text);
}

/* Until the job ends. The exit status. */
static int follow(struct engine *g, uint64_t id, int signals, const struct console *c, struct running *r)
{
    int status = 0, stopped_by = 0;
    for (;;) {
        if (!console_sleep(engine_fd(g), signals))
            return 1;
        int signal = console_signal(signals);
        if (signal) {
            stopped_by = signal;
            engine_cancel(g, id);
        }
        struct event ev;
        while (engine_poll(g, &ev)) {
            console_print(c, &ev);
            if (ev.kind == EVENT_DONE)
                note(r, &ev);
            if (ev.kind == EVENT_FAILED)
                status = 1;
            bool idle = ev.kind == EVENT_IDLE;
            if (ev.kind == EVENT_CANCELLED)
                status = stopped_by == SIGINT ? 130 : 1;
            event_clear(&ev);
            if (idle)
                return status;
        }
    }
}

static int generate(const struct job *j, const char *model_path, const char *preset, const struct console *c)
{
    struct err e = { 0 };
    struct engine *g = NULL;
    uint64_t id;
    int status = 1, signals = console_signals(&e);
    struct running r = { .job = j, .preset = preset };
    if (signals >= 0 && engine_start(&g, model_path, &e) && engine_submit(g, j, &id, &e)) {
        r.model = engine_model(g)->name;
        status = follow(g, id, signals, c, &r);
    }
    if (e.kind != ERR_NONE)
        status = cmd_fail(&e);
    engine_stop(g);
    store_close(r.store);
    if (signals >= 0)
        close(signals);
    return status;
}

int cmd_generate(int argc, char **argv)
{
    struct err e = { 0 };
    struct request request = { .console.bar = isatty(STDERR_FILENO) };
    struct cmd_options options;
    char path[MODEL_PATH_MAX];
    int status = cmd_options_read(&options, &cmd_generate_command, &request, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind == argc && !cmd_options_has_prompt(&options) && !request.job.prompts) {
        cmd_options_free(&options);
        return cmd_usage(cmd_generate_command.name, "the prompt is missing");
    }
    struct job job = { 0 };
    bool ok = cmd_job_make(&job, &request.job, &options, argv + optind, path, &e);
    job.history &= !request.no_history;
    status = ok ? generate(&job, path, options.preset.name, &request.console) : cmd_fail(&e);
    cmd_options_free(&options);
    job_free(&job);
    return status;
}
