/* cmd_synth.c - `sluice synth`: a random-weight checkpoint from the command line. */
#include "engine/model.h"
#include "engine/synth.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static const char help[] =
    "usage: sluice synth [OPTION...] DIR\n"
    "\n"
    "Writes a FLUX.1 checkpoint of full width with random weights to DIR (diffusers\n"
    "layout), for trying and measuring without the real one.\n"
    "\n"
    "  --arch NAME         flux-dev (default) or flux-schnell\n"
    "  --double N          double blocks (default 19)\n"
    "  --single N          single blocks (default 38)\n"
    "  --t5-layers N       layers of T5 (default 24)\n"
    "  --clip-layers N     layers of CLIP (default 12)\n"
    "  --dtype TYPE        bf16 (default), f16 or f32\n"
    "  --seed N            another seed, other weights (default 0)\n"
    "  --tokenizers MODEL  model whose tokenizers are copied (default the shipped demo)\n"
    "  --headers-only      no data: files of the true size that take no room\n"
    "  -h, --help\n"
    "\n"
    "At full depth it takes 33.7 GB in bf16, 23.8 of them the transformer.\n";

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

struct meter { bool shown; int percent; };

static bool progress(void *user, double fraction)
{
    struct meter *m = user;
    int percent = (int)(100 * fraction);
    if (m->shown && percent != m->percent) {
        m->percent = percent;
        fprintf(stderr, "\rwriting: %3d %%", percent);
        fflush(stderr);
    }
    return !stop_asked;
}

enum { ARCH = 1, DOUBLE, SINGLE, T5, CLIP, DTYPE, SEED, TOKENIZERS, HEADERS };
const struct option cmd_synth_options[] = {
    { "arch", required_argument, NULL, ARCH },
    { "double", required_argument, NULL, DOUBLE },
    { "single", required_argument, NULL, SINGLE },
    { "t5-layers", required_argument, NULL, T5 },
    { "clip-layers", required_argument, NULL, CLIP },
    { "dtype", required_argument, NULL, DTYPE },
    { "seed", required_argument, NULL, SEED },
    { "tokenizers", required_argument, NULL, TOKENIZERS },
    { "headers-only", no_argument, NULL, HEADERS },
    { "help", no_argument, NULL, 'h' },
    { 0 },
};

int cmd_synth(int argc, char **argv)
{
    struct synth_options o = { "flux-dev", -1, -1, -1, -1, DT_BF16, 0, false };
    const char *tokenizers = NULL;
    int *const depth[] = { [DOUBLE] = &o.doubles, [SINGLE] = &o.singles, [T5] = &o.t5_layers,
                           [CLIP] = &o.clip_layers };
    int which, index = 0;
    optind = 0;
    opterr = 0;
    while ((which = getopt_long(argc, argv, ":h", cmd_synth_options, &index)) != -1) {
        int64_t n = 0;
        switch (which) {
        case ARCH:
            o.arch = optarg;
            if (strcmp(o.arch, "flux-dev") && strcmp(o.arch, "flux-schnell"))
                return cmd_usage("synth", "--arch %s: expected flux-dev or flux-schnell", optarg);
            break;
        case DOUBLE:
        case SINGLE:
        case T5:
        case CLIP:
            if (!cmd_number(optarg, which == T5 || which == CLIP, 1024, &n))
                return cmd_usage("synth", "--%s %s: expected a whole number %d to 1024",
                                 cmd_synth_options[index].name, optarg, which == T5 || which == CLIP);
            *depth[which] = (int)n;
            break;
        case DTYPE:
            o.dtype = !strcasecmp(optarg, "bf16")  ? DT_BF16
                      : !strcasecmp(optarg, "f16") ? DT_F16
                      : !strcasecmp(optarg, "f32") ? DT_F32
                                                   : DT_NONE;
            if (o.dtype == DT_NONE)
                return cmd_usage("synth", "--dtype %s: expected bf16, f16 or f32", optarg);
            break;
        case SEED:
            if (!cmd_number(optarg, 0, INT64_MAX, &n))
                return cmd_usage("synth", "--seed %s: expected a whole number from 0", optarg);
            o.seed = (uint64_t)n;
            break;
        case TOKENIZERS: tokenizers = optarg; break;
        case HEADERS: o.headers_only = true; break;
        case 'h': fputs(help, stdout); return 0;
        case ':': return cmd_usage("synth", "%s needs a value", argv[optind - 1]);
        default: return cmd_no_option("synth", argv);
        }
    }
    if (argc - optind != 1)
        return cmd_usage("synth", "expected one folder to write to");

    struct err e = { 0 };
    struct meter m = { isatty(STDERR_FILENO), -1 };
    char from[MODEL_PATH_MAX];
    struct sigaction action = { .sa_handler = on_signal }, old[3];
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &action, &old[i]);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit becomes an error of write() */
    bool ok = model_find(from, tokenizers, &e) &&
              synth_write(argv[optind], &o, from, progress, &m, &e);
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &old[i], NULL);
    if (m.percent >= 0)
        fputs("\r\033[K", stderr);
    return ok ? 0 : cmd_fail(&e);
}
