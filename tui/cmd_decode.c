/* cmd_decode.c - `sluice decode`: pictures from the latents that a stopped batch
 * with deferred decoding has left. The latents stay where they are. */
#include "engine/pipeline.h"
#include "engine/record.h"
#include "engine/setting.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const struct cmd_option own[] = {
    { "output", 'o', "FILE.png", "for a single latent (default: beside it, .png instead of .latent.safetensors)" },
    { 0 },
};

static int take(void *to, int letter, const char *value)
{
    if (letter == 'o')
        *(const char **)to = value;
    return 0;
}

const struct cmd_command cmd_decode_command = {
    .name = "decode",
    .usage = "usage: sluice decode [options] FILE.latent.safetensors...\n"
             "\n"
             "Makes pictures from latents that --decode deferred has kept, with the settings\n"
             "they were made with written into the PNG.\n",
    .own = own,
    .sampled = true,
    .take = take,
};

static void on_event(void *user, struct event *ev)
{
    (void)user;
    if (ev->kind == EVENT_NOTICE) {
        cmd_say(ev->text);
    } else if (ev->kind == EVENT_DONE) {
        cmd_print(stdout, ev->text);
        printf("  %dx%d, %.2f s\n", ev->width, ev->height, ev->seconds);
        fflush(stdout);
    }
    event_clear(ev);
}

/* "a.latent.safetensors" -> "a.png", and of any other name "name.png". */
static bool output_name(struct job *j, const char *latent, const char *given, struct err *e)
{
    static const char suffix[] = ".latent.safetensors";
    char path[MODEL_PATH_MAX];
    size_t n = strlen(latent), end = n > sizeof suffix - 1 ? n - (sizeof suffix - 1) : n;
    if (given)
        return job_set_string(&j->out, given, e);
    if (strcmp(latent + end, suffix) != 0)
        end = n;
    if (end + 5 > sizeof path)
        return err_set(e, ERR_INPUT, "%.64s...: the path is too long", latent);
    snprintf(path, sizeof path, "%.*s.png", (int)end, latent);
    return job_set_string(&j->out, path, e);
}

/* What changes the picture is as the batch had it, where no option says otherwise;
 * a profile's way to the same picture stays. */
static bool take_settings(struct job *j, const char *latent, const struct cmd_options *o, const struct model *m,
                          struct err *e)
{
    struct record r;
    struct tensor t;
    struct job usual = { 0 };
    if (!record_read_latent(&r, &t, latent, e))
        return false;
    free(t.data);
    bool ok = job_init(&usual, m, e), recorded = r.json[0];
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        if (o->value[i] || !(s->scope & SETTING_PROFILE && s->scope & SETTING_PICTURE))
            continue;
        char *text = record_text(&r, s->name);
        if (!text && recorded && (strcmp(s->name, "vae") || j->vae == VAE_TILES))
            text = setting_text(&usual, s);
        ok = !text || setting_set(j, s, text, e) == SETTING_SET || err_prefix(e, "%s", latent);
        free(text);
    }
    char *model = record_text(&r, "model");
    if (ok && model && strcmp(model, m->name)) {
        fputs("sluice: ", stderr);
        cmd_print(stderr, latent);
        fputs(" was made with the model ", stderr);
        cmd_print(stderr, model);
        fputs(", and this is ", stderr);
        cmd_print(stderr, m->name);
        fputs(": give the same one with -m\n", stderr);
    }
    free(model);
    job_free(&usual);
    record_free(&r);
    return ok;
}

int cmd_decode(int argc, char **argv)
{
    struct err e = { 0 };
    struct cmd_options options;
    const char *out = NULL;
    char path[MODEL_PATH_MAX];
    int status = cmd_options_read(&options, &cmd_decode_command, &out, argc, argv);
    if (status != CMD_GO)
        return status;
    if (optind == argc || (out && optind + 1 != argc)) {
        cmd_options_free(&options);
        return optind == argc ? cmd_usage("decode", "no latent is named")
                              : cmd_usage("decode", "-o is for one latent, and %d are named", argc - optind);
    }
    signal(SIGXFSZ, SIG_IGN);
    static struct model m;
    struct job j = { 0 };
    struct pipeline *p = NULL;
    bool ok = cmd_options_model(&options, path, &e) && model_open(&m, path, true, &e) && pipeline_new(&p, &m, &e);
    for (int i = optind; ok && i < argc; i++) {
        struct pipeline_hooks hooks = { .emit = on_event };
        ok = cmd_options_job(&options, &m, &j, &e) && take_settings(&j, argv[i], &options, &m, &e) &&
             output_name(&j, argv[i], out, &e) && pipeline_decode(p, &j, argv[i], &hooks, &e);
        job_free(&j);
    }
    pipeline_free(p);
    cmd_options_free(&options);
    return ok ? 0 : cmd_fail(&e);
}
