/* cmd_generate.c - `sluice generate`: one job without a screen. Starts the
 * engine, submits, prints what comes back: a progress line on a terminal, or
 * one JSON event per line. Computes nothing itself. */
#include "engine/engine.h"
#include "tui/cmd.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { OPT_SIZE = 256, OPT_STEPS, OPT_GUIDANCE, OPT_SEED, OPT_RNG, OPT_PRECISION, OPT_DEVICE, OPT_THREADS, OPT_JSON,
       OPT_INIT_LATENTS, OPT_DUMP_STAGES, OPT_BUDGET, OPT_LINK };

static const char help[] =
    "usage: sluice generate [options] \"prompt\"\n"
    "\n"
    "Makes a picture and writes it as PNG. An empty prompt is allowed.\n"
    "\n"
    "  -m, --model MODEL       folder or name of a model (default: the shipped one)\n"
    "      --size WxH          pixels, rounded to 16 (default: the model's)\n"
    "      --steps N           1 to 1000 (default: the model's)\n"
    "      --guidance G        0 to 100 (default: the model's)\n"
    "      --seed N            0 to 2^64-1, or random (default: random, and printed)\n"
    "      --rng NAME          torch-cpu, torch-cpu-bf16, torch-cpu-bf16-early, philox\n"
    "      --precision P       bf16 (default), fp16 or fp32\n"
    "      --device cpu        the only one there is yet\n"
    "      --threads N         (default: all cores)\n"
    "  -n, --count N           pictures, with seeds N, N+1, ...\n"
    "  -o, --output FILE.png   (default: sluice-DATE-TIME.png here)\n"
    "      --budget BYTES      device memory for everything, weights included: 600M, 8G,\n"
    "                          8GiB, min (default: none, weights are used in place).\n"
    "                          The picture is the same; sluice plan shows what it means\n"
    "      --link BYTES        bring weights at this many bytes a second at most\n"
    "      --json              one event per line on standard output\n"
    "      --init-latents F    safetensors, tensor \"latent\" [16,h,w] F32, instead of noise\n"
    "      --dump-stages F     write every stage's result to this safetensors file\n"
    "  -h, --help\n"
    "\n"
    "Ctrl-C stops at the next block and keeps the partial picture; twice, at once.\n";

static const struct option options[] = {
    { "model", required_argument, NULL, 'm' },
    { "size", required_argument, NULL, OPT_SIZE },
    { "steps", required_argument, NULL, OPT_STEPS },
    { "guidance", required_argument, NULL, OPT_GUIDANCE },
    { "seed", required_argument, NULL, OPT_SEED },
    { "rng", required_argument, NULL, OPT_RNG },
    { "precision", required_argument, NULL, OPT_PRECISION },
    { "device", required_argument, NULL, OPT_DEVICE },
    { "threads", required_argument, NULL, OPT_THREADS },
    { "count", required_argument, NULL, 'n' },
    { "output", required_argument, NULL, 'o' },
    { "json", no_argument, NULL, OPT_JSON },
    { "init-latents", required_argument, NULL, OPT_INIT_LATENTS },
    { "dump-stages", required_argument, NULL, OPT_DUMP_STAGES },
    { "budget", required_argument, NULL, OPT_BUDGET },
    { "link", required_argument, NULL, OPT_LINK },
    { "help", no_argument, NULL, 'h' },
    { 0 },
};

static const char shorts[] = ":m:n:o:h";

static uint64_t random_seed(void)
{
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
        seed = (uint64_t)time(NULL);
    return seed >> 32; /* short enough to be typed again; torch-cpu uses 32 bits anyway */
}

static bool parse_seed(const char *text, uint64_t *seed)
{
    if (!strcmp(text, "random")) {
        *seed = random_seed();
        return true;
    }
    char *end;
    errno = 0;
    *seed = strtoull(text, &end, 10);
    return isdigit((unsigned char)text[0]) && !errno && !*end;
}

static bool parse_float(const char *text, float *out)
{
    char *end;
    *out = strtof(text, &end);
    return end != text && !*end && isfinite(*out);
}

/* A whole number of any size: what is out of range is job_check's to say. */
static bool parse_int(const char *text, int *out)
{
    int64_t n;
    if (!cmd_number(text, INT32_MIN, INT32_MAX, &n))
        return false;
    *out = (int)n;
    return true;
}

static int set_name(char **field, const char *option, const char *value, struct err *e)
{
    if (!*value)
        return cmd_usage("generate", "--%s needs a name", option);
    return job_set_string(field, value, e) ? 0 : cmd_fail(e);
}

/* One option into the job. 0, or the exit status. */
static int set_option(struct job *j, int option, const char *value, struct err *e)
{
    const char *command = "generate";
    switch (option) {
    case OPT_SIZE:
        return job_parse_size(value, &j->width, &j->height, e) ? 0 : cmd_fail(e);
    case OPT_STEPS:
        return parse_int(value, &j->steps) ? 0 : cmd_usage(command, "--steps %s is not a number", value);
    case OPT_GUIDANCE:
        return parse_float(value, &j->guidance) ? 0 : cmd_usage(command, "--guidance %s is not a number", value);
    case OPT_SEED:
        return parse_seed(value, &j->seed) ? 0 : cmd_usage(command, "--seed %s is not 0 to 2^64-1 or random", value);
    case OPT_RNG:
        return rng_from_name(&j->rng, value) ? 0
               : cmd_usage(command, "--rng %s: use torch-cpu, torch-cpu-bf16, torch-cpu-bf16-early or philox", value);
    case OPT_PRECISION:
        return precision_from_name(&j->precision, value) ? 0 : cmd_usage(command, "--precision %s: use bf16, fp16 or fp32", value);
    case OPT_DEVICE:
        return !strcmp(value, "cpu") ? 0 : cmd_usage(command, "--device %s: this build has only cpu", value);
    case OPT_THREADS:
        return parse_int(value, &j->threads) ? 0 : cmd_usage(command, "--threads %s is not a number", value);
    case 'n':
        return parse_int(value, &j->count) ? 0 : cmd_usage(command, "--count %s is not a number", value);
    case 'o':
        return set_name(&j->out, "output", value, e);
    case OPT_INIT_LATENTS:
        return set_name(&j->init_latents, "init-latents", value, e);
    case OPT_BUDGET:
        return job_parse_budget(value, &j->budget, e) ? 0 : cmd_fail(e);
    case OPT_LINK: {
        size_t bytes;
        if (!job_parse_bytes(value, &bytes, e))
            return cmd_fail(e);
        j->link = (double)bytes;
        return 0;
    }
    case OPT_DUMP_STAGES:
        return set_name(&j->dump_stages, "dump-stages", value, e);
    }
    return 0;
}

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
    return json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "arena_bytes", (json_int_t)m->arena_bytes, "used_bytes",
                     (json_int_t)m->used_bytes, "activation_bytes", activations, "weight_bytes", weights, "rss_bytes",
                     (json_int_t)m->rss, "rss_anonymous_bytes", (json_int_t)m->rss_anonymous, "rss_file_bytes",
                     (json_int_t)m->rss_file);
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

struct console {
    bool json, bar;
};

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
        fputs("sluice: ", stderr);
        cmd_print(stderr, ev->text);
        fputc('\n', stderr);
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
        fputs("sluice: ", stderr);
        cmd_print(stderr, ev->text);
        fputc('\n', stderr);
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

/* The model's defaults are needed before the other options are read, and help
 * needs no model: these two first. */
static void first_look(int argc, char **argv, const char **model, bool *help_asked)
{
    optind = 0;
    opterr = 0;
    for (int o; (o = getopt_long(argc, argv, shorts, options, NULL)) != -1;) {
        if (o == 'm')
            *model = optarg;
        *help_asked |= o == 'h';
    }
    optind = 0;
}

int cmd_generate(int argc, char **argv)
{
    struct err e = { 0 };
    struct console console = { .bar = isatty(STDERR_FILENO) };
    char path[MODEL_PATH_MAX];
    const char *name = NULL;
    bool help_asked = false;
    struct job job = { 0 };
    int status = 0;
    first_look(argc, argv, &name, &help_asked);
    if (help_asked) {
        fputs(help, stdout);
        return 0;
    }
    struct model *model = malloc(sizeof *model);
    if (!model) {
        err_set(&e, ERR_MEMORY, "out of memory");
        return cmd_fail(&e);
    }
    bool opened = model_find(path, name, &e) && model_open(model, path, true, &e) && job_init(&job, model, &e);
    free(model);
    job.seed = random_seed();
    for (int o; !status && (o = getopt_long(argc, argv, shorts, options, NULL)) != -1;) {
        if (o == ':')
            status = cmd_usage("generate", "%s needs a value", argv[optind - 1]);
        else if (o == '?')
            status = cmd_no_option("generate", argv);
        else if (o == OPT_JSON)
            console.json = true;
        else if (o != 'm')
            status = set_option(&job, o, optarg, &e);
    }
    if (!status && optind + 1 != argc)
        status = cmd_usage("generate", optind == argc ? "the prompt is missing" : "one prompt, in quotes");
    char notice[256] = "";
    if (!status && !(opened && job_set_string(&job.prompt, argv[optind], &e) && job_check(&job, notice, &e) &&
                     (job.out || default_output(&job, &e))))
        status = cmd_fail(&e);
    if (!status) {
        if (notice[0])
            fprintf(stderr, "sluice: %s\n", notice);
        status = generate(&job, path, &console);
    }
    job_free(&job);
    return status;
}
