/* cmd_preset.c - `sluice preset`: which presets there are, what they say, in what
 * they differ, and what is wrong with them. */
#include "engine/preset.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: sluice preset list\n"
    "       sluice preset show NAME|FILE\n"
    "       sluice preset diff A [B]\n"
    "       sluice preset check FILE...\n"
    "       sluice preset verify NAME|FILE [MODEL]\n"
    "\n"
    "A preset says what a picture is; generate, plan and the studio take one as\n"
    "--preset. The format: man 5 sluice-preset.\n"
    "\n"
    "  list       those there are: yours, and those that came with the program\n"
    "  show       every setting, and where its value comes from\n"
    "  diff       in what B differs from A, or A from what it is without a preset\n"
    "  check      every fault of the files, with line and column; status 1 if any\n"
    "  verify     are the model's files those whose SHA-256 the preset names; reads them\n"
    "             whole\n"
    "  -h, --help\n";

static int list(void)
{
    struct shelf_list l;
    struct err e = { 0 };
    if (!shelf_list(&l, SHELF_PRESETS, &e))
        return cmd_fail(&e);
    for (int i = 0; i < l.count; i++) {
        struct preset p;
        struct yaml_faults faults = { 0 };
        struct err wrong = { 0 };
        bool ok = preset_load(&p, l.item[i].path, &faults, &wrong);
        int column = printf("  %-16s %-15s %-6s ", l.item[i].name, p.model, l.item[i].own ? "yours" : "");
        cmd_words(column, 42, !ok ? wrong.text : *p.about ? p.about : p.name);
        preset_free(&p);
    }
    shelf_list_free(&l);
    return 0;
}

static bool load(struct preset *p, const char *name, struct err *e)
{
    struct yaml_faults faults = { 0 };
    char path[FILE_PATH_MAX];
    return shelf_find(path, SHELF_PRESETS, name, e) && preset_load(p, path, &faults, e);
}

/* --- show ----------------------------------------------------------------------------- */

/* The defaults that are the model's own. */
static bool of_model(const struct setting *s)
{
    return !strcmp(s->name, "size") || !strcmp(s->name, "steps") || !strcmp(s->name, "guidance");
}

/* The job that a preset makes of a model, or of FLUX.1-dev's defaults. */
static bool make_job(struct job *j, const struct preset *p, const struct model *m, struct err *e)
{
    bool ok = m ? job_init(j, m, e) : sheet_job(j, e);
    j->random_seed = true;
    return ok && (!p || (preset_apply(p, j, e) && profile_apply(&p->profile, j, e)));
}

static bool show_setting(const struct preset *p, const struct job *j, const struct setting *s, bool model,
                         struct err *e)
{
    const struct sheet_row *preset = sheet_find(&p->rows, s), *profile = profile_row(&p->profile, j, s);
    char *value = setting_text(j, s), from[64];
    if (!value)
        return err_set(e, ERR_MEMORY, "out of memory");
    bool unknown = !preset && !profile && of_model(s) && !model;
    if (profile)
        snprintf(from, sizeof from, "profile, line %d", profile->line);
    else if (preset)
        snprintf(from, sizeof from, "preset, line %d", preset->line);
    else
        snprintf(from, sizeof from, "%s", of_model(s) ? "model" : "default");
    cmd_words(printf("  %-16s %-17s", s->name, from), 37, unknown ? "(the model's)" : value);
    free(value);
    return true;
}

static int show(const char *name)
{
    struct preset p = { 0 };
    struct err e = { 0 };
    struct job j = { 0 };
    char path[MODEL_PATH_MAX];
    struct model *m = malloc(sizeof *m);
    bool ok = (m || err_set(&e, ERR_MEMORY, "out of memory")) && load(&p, name, &e);
    bool model = ok && model_find(path, p.model[0] ? p.model : NULL, NULL) && model_open(m, path, false, NULL);
    ok = ok && make_job(&j, &p, model ? m : NULL, &e);
    if (ok) {
        printf("%s\n", p.name);
        if (*p.about)
            cmd_words(0, 0, p.about);
        printf("  %-16s ", "file");
        cmd_print(stdout, p.path);
        printf("\n  %-16s %s%s\n", "model", p.model[0] ? p.model : "any",
               model || !p.model[0] ? "" : " (not found here)");
        if (p.has_profile) {
            printf("  %-16s ", "profile");
            cmd_print(stdout, p.profile.path);
            putchar('\n');
        }
        putchar('\n');
    }
    for (int i = 0; ok && i < setting_count(); i++)
        if (!(setting_at(i)->scope & SETTING_RUN))
            ok = show_setting(&p, &j, setting_at(i), model, &e);
    free(m);
    preset_free(&p);
    job_free(&j);
    return ok ? 0 : cmd_fail(&e);
}

/* --- diff ----------------------------------------------------------------------------- */

static bool print_change(const struct job *a, const struct job *b, const struct setting *s, struct err *e)
{
    char *old = setting_text(a, s), *new = setting_text(b, s);
    bool ok = (old && new) || err_set(e, ERR_MEMORY, "out of memory");
    if (ok)
        printf("-%s: %s\n+%s: %s\n", s->name, old, s->name, new);
    free(old);
    free(new);
    return ok;
}

/* b NULL: a against no preset at all. */
static int diff(const char *a, const char *b)
{
    struct preset from = { 0 }, to = { 0 };
    struct job old = { 0 }, new = { 0 };
    struct err e = { 0 };
    bool ok = (!b || load(&from, a, &e)) && load(&to, b ? b : a, &e) && make_job(&old, b ? &from : NULL, NULL, &e) &&
              make_job(&new, &to, NULL, &e);
    if (ok) {
        printf("--- %s\n+++ %s\n", b ? from.name : "no preset (FLUX.1-dev)", to.name);
        if (b && strcmp(from.model, to.model))
            printf("-model: %s\n+model: %s\n", from.model, to.model);
    }
    for (int i = 0; ok && i < setting_count(); i++)
        if (!setting_same(&old, &new, setting_at(i)))
            ok = print_change(&old, &new, setting_at(i), &e);
    preset_free(&from);
    preset_free(&to);
    job_free(&old);
    job_free(&new);
    return ok ? 0 : cmd_fail(&e);
}

/* --- check ---------------------------------------------------------------------------- */

static int check(char **files)
{
    int status = 0;
    for (; *files; files++) {
        struct preset p;
        struct yaml_faults faults = { 0 };
        struct err e = { 0 };
        bool ok = preset_load(&p, *files, &faults, &e);
        preset_free(&p);
        if (e.kind == ERR_MEMORY)
            return cmd_fail(&e);
        for (int i = 0; i < faults.count; i++)
            puts(faults.at[i].text);
        if (faults.count == YAML_FAULTS_MAX) {
            cmd_print(stdout, *files);
            puts(": perhaps more: these are as many as are told");
        }
        if (ok) {
            cmd_print(stdout, *files);
            puts(": good");
        }
        status |= !ok;
    }
    return status;
}

/* --- verify --------------------------------------------------------------------------- */

static int verify(const char *name, const char *model)
{
    struct preset p = { 0 };
    struct err e = { 0 };
    char path[MODEL_PATH_MAX];
    bool ok = load(&p, name, &e) && model_find(path, model ? model : p.model[0] ? p.model : NULL, &e) &&
              preset_model_same(&p, path, &e);
    if (ok && p.hash_count)
        printf("%d of %d files are those that %s was made with\n", p.hash_count, p.hash_count, p.name);
    else if (ok)
        printf("%s names no SHA-256: nothing was compared\n", p.name);
    preset_free(&p);
    return ok ? 0 : cmd_fail(&e);
}

const char *const cmd_preset_verbs[] = { "list", "show", "diff", "check", "verify", NULL };

int cmd_preset(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(help, stdout);
            return 0;
        }
    if (!strcmp(verb, "list"))
        return argc == 2 ? list() : cmd_usage("preset", "list takes no arguments");
    if (!strcmp(verb, "show"))
        return argc == 3 ? show(argv[2]) : cmd_usage("preset", "show takes one preset: its name or its file");
    if (!strcmp(verb, "diff"))
        return argc == 3 || argc == 4 ? diff(argv[2], argc == 4 ? argv[3] : NULL)
                                      : cmd_usage("preset", "diff takes one preset, or two");
    if (!strcmp(verb, "check"))
        return argc > 2 ? check(argv + 2) : cmd_usage("preset", "check takes one file, or several");
    if (!strcmp(verb, "verify"))
        return argc == 3 || argc == 4 ? verify(argv[2], argv[3])
                                      : cmd_usage("preset", "verify takes one preset, and perhaps a model");
    return cmd_usage("preset", "%s%suse list, show, diff, check or verify", verb, *verb ? ": " : "");
}
