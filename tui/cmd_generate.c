/* cmd_generate.c - `sluice generate`: one job without a screen. Starts the
 * engine, submits, prints what comes back: a progress line on a terminal, or
 * one JSON event per line. Computes nothing itself. */
#include "engine/engine.h"
#include "engine/file.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { OPT_JSON = 512, OPT_PROMPTS, OPT_INIT_LATENTS, OPT_DUMP_STAGES };
enum { PROMPTS_FILE_MAX = 16 << 20 };

static const struct cmd_option own[] = {
    { "output", 'o', "FILE.png", "(default: sluice-DATE-TIME.png here); picture I > 0 is FILE-I.png" },
    { "prompts", OPT_PROMPTS, "FILE", "further prompts, one a line; blank lines and comments (#) are left out" },
    { "json", OPT_JSON, NULL, "one event per line on standard output" },
    { "init-latents", OPT_INIT_LATENTS, "FILE", "safetensors, tensor \"latent\" [16,h,w] F32, instead of noise" },
    { "dump-stages", OPT_DUMP_STAGES, "FILE", "write every stage's result to this safetensors file" },
    { 0 },
};

struct console {
    bool json, bar;
};

/* What the command line says beside the settings; all borrowed from it. */
struct request {
    struct console console;
    const char *output, *prompts, *init_latents, *dump_stages;
};

static int set_name(const char **field, const char *option, const char *value)
{
    *field = value;
    return *value ? 0 : cmd_usage("generate", "--%s needs a name", option);
}

static int take(void *to, int letter, const char *value)
{
    struct request *r = to;
    switch (letter) {
    case 'o': return set_name(&r->output, "output", value);
    case OPT_PROMPTS: return set_name(&r->prompts, "prompts", value);
    case OPT_INIT_LATENTS: return set_name(&r->init_latents, "init-latents", value);
    case OPT_DUMP_STAGES: return set_name(&r->dump_stages, "dump-stages", value);
    case OPT_JSON: r->console.json = true; return 0;
    }
    return 0;
}

static const struct cmd_command command = {
    .name = "generate",
    .usage = "usage: sluice generate [options] \"prompt\" ...\n"
             "\n"
             "Makes a picture of each prompt and writes it as PNG. An empty prompt is allowed.\n",
    .notes = "The picture is the same under every budget; sluice plan shows where the memory goes.\n"
             "Ctrl-C stops at the next block and keeps the partial picture; twice, at once.\n",
    .own = own,
    .take = take,
};

static bool default_output(struct job *j, struct err *e)
{
    char name[64];
    time_t now = time(NULL);
    struct tm tm;
    strftime(name, sizeof name, "sluice-%Y%m%d-%H%M%S.png", localtime_r(&now, &tm));
    return job_set_string(&j->out, name, e);
}

/* --- printing --------------------------------------------------------------------------- */

static json_t *memory_json(const struct event_memory *m)
{
    json_t *activations = json_object(), *weights = json_object();
    for (enum stage s = STAGE_CLIP; s <= STAGE_VAE; s++) {
        json_object_set_new(activations, stage_name(s), json_integer((json_int_t)m->activations[s]));
        json_object_set_new(weights, stage_name(s), json_integer((json_int_t)m->weights[s]));
    }
    json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "arena_bytes", (json_int_t)m->arena_bytes, "used_bytes",
                          (json_int_t)m->used_bytes, "activation_bytes", activations, "weight_bytes", weights, "rss_bytes",
                     (json_int_t)m->rss, "rss_anonymous_bytes", (json_int_t)m->rss_anonymous, "rss_file_bytes",
                     (json_int_t)m->rss_file);
    if (m->device_total) {
        json_object_set_new(o, "device_total_bytes", json_integer((json_int_t)m->device_total));
        json_object_set_new(o, "device_free_bytes", json_integer((json_int_t)m->device_free));
        json_object_set_new(o, "device_held_bytes", json_integer((json_int_t)m->device_held));
    }
    return o;
}

static void print_json(const struct event *ev)
{
    bool file = ev->kind == EVENT_DONE || (ev->kind == EVENT_CANCELLED && ev->text[0]);
    json_t *o = json_pack("{s:s, s:I, s:i, s:s, s:i, s:i, s:f}", "event", event_kind_name(ev->kind), "job",
                          (json_int_t)ev->job, "index", ev->index, "stage", stage_name(ev->stage), "step", ev->step,
                          "steps", ev->steps, "seconds", ev->seconds);
    if (ev->blocks) {
        json_object_set_new(o, "block", json_integer(ev->block));
        json_object_set_new(o, "blocks", json_integer(ev->blocks));
    }
    if (ev->kind == EVENT_PROGRESS && ev->eta_seconds >= 0)
        json_object_set_new(o, "eta_seconds", json_real(ev->eta_seconds));
    if (ev->kind == EVENT_STARTED || ev->kind == EVENT_DONE) {
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)ev->seed);
        json_object_set_new(o, "seed", json_string(seed)); /* 64 bits do not fit JSON's numbers */
        json_object_set_new(o, "width", json_integer(ev->width));
        json_object_set_new(o, "height", json_integer(ev->height));
    }
    if (ev->kind == EVENT_MEMORY)
        json_object_set_new(o, "memory", memory_json(&ev->memory));
    if (ev->text[0]) {
        json_t *text = json_string(ev->text);
        json_object_set_new(o, file ? "path" : "text", text ? text : json_string("(not UTF-8)"));
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

/* "transformer  7/20 [=======>------------]  0.8 s left" over the last line. */
static void print_bar(const struct event *ev)
{
    enum { WIDTH = 30 };
    char bar[WIDTH + 1];
    double done = ev->blocks ? (double)ev->block / ev->blocks : 0;
    if (ev->stage == STAGE_FLUX && ev->steps)
        done = (ev->step - 1 + done) / ev->steps;
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < (int)(done * WIDTH) ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%-11s [%s] %3.0f%%", stage_name(ev->stage), bar, done * 100);
    if (ev->stage == STAGE_FLUX)
        fprintf(stderr, "  step %d/%d", ev->step, ev->steps);
    if (ev->eta_seconds >= 0)
        fprintf(stderr, "  %.1f s left", ev->eta_seconds);
    fputs("\033[K", stderr);
}

static void clear_bar(const struct console *c)
{
    if (c->bar)
        fputs("\r\033[K", stderr);
}

static void print_event(const struct console *c, const struct event *ev)
{
    if (c->json)
        print_json(ev);
    switch (ev->kind) {
    case EVENT_PROGRESS:
        if (c->bar)
            print_bar(ev);
        break;
    case EVENT_NOTICE:
        clear_bar(c);
        cmd_say(ev->text);
        break;
    case EVENT_DONE:
        clear_bar(c);
        if (!c->json) {
            cmd_print(stdout, ev->text);
            printf("  seed %llu, %dx%d, %.2f s\n", (unsigned long long)ev->seed, ev->width, ev->height, ev->seconds);
            fflush(stdout);
        }
        break;
    case EVENT_CANCELLED:
        clear_bar(c);
        fputs("sluice: cancelled", stderr);
        if (ev->text[0]) {
            fprintf(stderr, " after step %d of %d; the partial picture is ", ev->step, ev->steps);
            cmd_print(stderr, ev->text);
        }
        fputc('\n', stderr);
        break;
    case EVENT_FAILED:
        clear_bar(c);
        cmd_say(ev->text);
        break;
    default:
        break;
    }
}

/* --- the loop ---------------------------------------------------------------------------- */

/* Until the job ends. The exit status. */
static int follow(struct engine *g, uint64_t id, int signals, const struct console *c)
{
    int status = 0, stopped_by = 0;
    for (;;) {
        struct pollfd fd[2] = { { engine_fd(g), POLLIN, 0 }, { signals, POLLIN, 0 } };
        if (poll(fd, 2, -1) < 0 && errno != EINTR)
            return 1;
        struct signalfd_siginfo info;
        if ((fd[1].revents & POLLIN) && read(signals, &info, sizeof info) == sizeof info) {
            stopped_by = (int)info.ssi_signo;
            engine_cancel(g, id);
        }
        struct event ev;
        while (engine_poll(g, &ev)) {
            print_event(c, &ev);
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

static int generate(struct job *j, const char *model_path, const struct console *c)
{
    struct err e = { 0 };
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    /* Blocked before the engine's threads exist, so that only signalfd sees them. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    struct engine *g = NULL;
    uint64_t id;
    int status = 1;
    if (signals < 0)
        err_errno(&e, errno, "signalfd");
    else if (engine_start(&g, model_path, &e) && engine_submit(g, j, &id, &e))
        status = follow(g, id, signals, c);
    if (e.kind != ERR_NONE)
        status = cmd_fail(&e);
    engine_stop(g);
    if (signals >= 0)
        close(signals);
    return status;
}

/* --- the job ----------------------------------------------------------------------------- */

/* The words in the preset's prompt, if there is one. The first is the job's own, the others are further ones. */
static bool add_prompt(struct job *j, const struct preset *p, int *prompts, const char *words, struct err *e)
{
    if (*prompts == JOB_PROMPTS_MAX)
        return err_set(e, ERR_INPUT, "more than %d prompts: make them in several runs", JOB_PROMPTS_MAX);
    char *prompt = preset_prompt(p, words, e);
    bool ok = prompt && (*prompts ? job_add_prompt(j, prompt, e) : job_set_string(&j->prompt, prompt, e));
    free(prompt);
    ++*prompts;
    return ok;
}

static bool add_prompts_of(struct job *j, const struct preset *p, int *prompts, const char *path, struct err *e)
{
    size_t bytes;
    char *text = file_read(path, PROMPTS_FILE_MAX, &bytes, e), *rest = text, *line;
    bool ok = text && (strlen(text) == bytes || err_set(e, ERR_INPUT, "%s: not a text file: it holds a 0 byte", path));
    int before = *prompts;
    if (ok && !strncmp(text, "\xef\xbb\xbf", 3)) /* a byte order mark is no part of the first prompt */
        rest += 3;
    while (ok && (line = strsep(&rest, "\n"))) {
        line[strcspn(line, "\r")] = '\0';
        if (line[strspn(line, " \t")] && *line != '#')
            ok = add_prompt(j, p, prompts, line, e);
    }
    free(text);
    return ok && (*prompts > before || err_set(e, ERR_INPUT, "%s: it has no prompts", path));
}

/* --prompt, then the arguments, then the file. Without any, the preset's is there already. */
static bool prompts_read(struct job *j, const struct request *r, const struct cmd_options *o, char **arguments,
                         struct err *e)
{
    int prompts = o->prompt;
    bool ok = true;
    for (; ok && *arguments; arguments++)
        ok = add_prompt(j, &o->preset, &prompts, *arguments, e);
    return ok && (!r->prompts || add_prompts_of(j, &o->preset, &prompts, r->prompts, e));
}

static bool names_set(struct job *j, const struct request *r, struct err *e)
{
    return (r->output ? job_set_string(&j->out, r->output, e) : default_output(j, e)) &&
           job_set_string(&j->init_latents, r->init_latents, e) && job_set_string(&j->dump_stages, r->dump_stages, e);
}

int cmd_generate(int argc, char **argv)
{
    struct err e = { 0 };
    struct request request = { .console.bar = isatty(STDERR_FILENO) };
    struct cmd_options options;
    char path[MODEL_PATH_MAX], notice[256] = "";
    int status = cmd_options_read(&options, &command, &request, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind == argc && !cmd_options_has_prompt(&options) && !request.prompts) {
        cmd_options_free(&options);
        return cmd_usage(command.name, "the prompt is missing");
    }
    struct model *model = malloc(sizeof *model);
    struct job job = { 0 };
    bool ok = model || err_set(&e, ERR_MEMORY, "out of memory");
    ok = ok && cmd_options_model(&options, path, &e) && model_open(model, path, true, &e) &&
         cmd_options_job(&options, model, &job, &e) &&
         prompts_read(&job, &request, &options, argv + optind, &e) && names_set(&job, &request, &e) &&
         job_check(&job, notice, &e);
    free(model);
    cmd_options_free(&options);
    if (ok) {
        if (notice[0])
            cmd_say(notice);
        job_draw_seed(&job);
        status = generate(&job, path, &request.console);
    } else {
        status = cmd_fail(&e);
    }
    job_free(&job);
    return status;
}
