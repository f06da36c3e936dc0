/* cmd_job.c - see cmd_job.h. */
#include "tui/cmd_job.h"

#include "engine/wildcard.h"
#include "tui/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PROMPTS_FILE_MAX = 16 << 20, LIST_FILE_MAX = 4 << 20 };

int cmd_job_name(const char **field, const char *command, const char *option, const char *value)
{
    *field = value;
    return *value ? 0 : cmd_usage(command, "--%s needs a name", option);
}

int cmd_job_take(struct cmd_job *r, const char *command, int letter, const char *value)
{
    int64_t draws = 0;
    switch (letter) {
    case CMD_JOB_PROMPTS: return cmd_job_name(&r->prompts, command, "prompts", value);
    case CMD_JOB_INIT_LATENTS: return cmd_job_name(&r->init_latents, command, "init-latents", value);
    case CMD_JOB_LISTS: return cmd_job_name(&r->lists, command, "lists", value);
    case CMD_JOB_WILDCARDS:
        if (strcmp(value, "all") && !cmd_number(value, 1, JOB_PROMPTS_MAX, &draws))
            return cmd_usage(command, "--wildcards \"%s\": use all, or 1 to %d", value, JOB_PROMPTS_MAX);
        r->wildcards = true;
        r->draws = (int)draws;
        return 0;
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
static bool prompts_read(struct job *j, const struct cmd_job *r, const struct cmd_options *o, char **arguments,
                         struct err *e)
{
    int prompts = o->prompt;
    bool ok = true;
    for (; ok && *arguments; arguments++)
        ok = add_prompt(j, &o->preset, &prompts, *arguments, e);
    return ok && (!r->prompts || add_prompts_of(j, &o->preset, &prompts, r->prompts, e));
}

static bool names_set(struct job *j, const struct cmd_job *r, struct err *e)
{
    return (r->output ? job_set_string(&j->out, r->output, e) : default_output(j, e)) &&
           job_set_string(&j->init_latents, r->init_latents, e) && job_set_string(&j->dump_stages, r->dump_stages, e);
}

/* --- wildcards ------------------------------------------------------------------------- */

char *cmd_job_list(void *request, const char *name, struct err *e)
{
    const struct cmd_job *r = request;
    char own[FILE_PATH_MAX], path[FILE_PATH_MAX];
    size_t bytes;
    int n = r->lists ? 1 : file_xdg(own, "XDG_CONFIG_HOME", ".config", "wildcards");
    if (!n) {
        err_set(e, ERR_INPUT,
                "list %s: no place for lists: neither XDG_CONFIG_HOME nor HOME is an absolute path", name);
        return NULL;
    }
    if (n < FILE_PATH_MAX)
        n = snprintf(path, sizeof path, "%s/%s.txt", r->lists ? r->lists : own, name);
    if (n >= FILE_PATH_MAX) {
        err_set(e, ERR_INPUT, "list %s: the path of its folder is too long", name);
        return NULL;
    }
    char *text = file_read(path, LIST_FILE_MAX, &bytes, e);
    if (text && strlen(text) != bytes) {
        err_set(e, ERR_INPUT, "%s: not a text file: it holds a 0 byte", path);
        free(text);
        text = NULL;
    }
    return text;
}

bool cmd_job_make(struct job *j, const struct cmd_job *r, const struct cmd_options *o, char **arguments,
                  char path[MODEL_PATH_MAX], struct err *e)
{
    char notice[256] = "";
    struct wildcard_lists lists = { cmd_job_list, (void *)(uintptr_t)r };
    struct model *model = malloc(sizeof *model);
    bool ok = model || err_set(e, ERR_MEMORY, "out of memory");
    ok = ok && cmd_options_model(o, path, e) && model_open(model, path, true, e) && cmd_options_job(o, model, j, e) &&
         prompts_read(j, r, o, arguments, e) && names_set(j, r, e) && job_check(j, notice, e);
    free(model);
    if (!ok)
        return false;
    if (notice[0])
        cmd_say(notice);
    job_draw_seed(j);
    return !r->wildcards || wildcard_job(j, r->draws, &lists, e);
}
