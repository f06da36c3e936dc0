/* cmd_preset.c - `sluice preset`: which presets there are, what they say, in what
 * they differ, and what is wrong with them; where they come from and go. */
#include "engine/import.h"
#include "engine/preset_write.h"
#include "engine/shelf_own.h"
#include "tui/cmd.h"
#include "tui/cmd_shelf.h"
#include "tui/commands.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: sluice preset list\n"
    "       sluice preset show NAME|FILE\n"
    "       sluice preset diff A [B]\n"
    "       sluice preset check FILE...\n"
    "       sluice preset verify NAME|FILE [MODEL]\n"
    "       sluice preset import FILE [--as NAME]\n"
    "       sluice preset export NAME|FILE [-o FILE] [-m MODEL]\n"
    "       sluice preset duplicate NAME NEW\n"
    "       sluice preset rename NAME NEW\n"
    "       sluice preset delete NAME...\n"
    "       sluice preset restore [NAME]\n"
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
    "  import     a preset of yours from another's: a preset, a template, a PNG of sluice,\n"
    "             A1111, Forge or ComfyUI; says what became of what, and what cannot be taken\n"
    "  export     a preset to be passed on, with the SHA-256 of the model's files\n"
    "  duplicate  one of any, as one of yours\n"
    "  rename     one of yours\n"
    "  delete     some of yours, to the trash\n"
    "  restore    the last that was deleted, or the last of that name\n"
    "  -h, --help\n";

static void describe(const struct shelf_item *i, struct cmd_shelf_row *r)
{
    struct preset p;
    struct yaml_faults faults = { 0 };
    struct err wrong = { 0 };
    bool ok = preset_load(&p, i->path, &faults, &wrong);
    snprintf(r->model, sizeof r->model, "%s", p.model);
    snprintf(r->about, sizeof r->about, "%s", !ok ? wrong.text : *p.about ? p.about : p.name);
    preset_free(&p);
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

/* --- import, export ------------------------------------------------------------------- */

/* "  steps        20                    Steps" */
static void print_row(const char *name, const char *value, const char *from, const char *why)
{
    int column = printf("  %-12s ", name);
    char line[1024];
    snprintf(line, sizeof line, "%.500s%s%s%s%s", value, from ? "  <- " : "", from ? from : "", why ? "; " : "",
             why ? why : "");
    cmd_words(column, 15, line);
}

static int import(const char *file, const char *as)
{
    struct import im;
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };
    char name[SHELF_NAME_MAX];
    bool ok = import_read(&im, file, &faults, &e) && import_keep(&im, as, name, &e);
    for (int i = 0; ok && i < im.preset.rows.count; i++) {
        const struct sheet_row *r = &im.preset.rows.row[i];
        bool same = !r->setting || !strcmp(r->key, r->setting->name);
        if (r->setting)
            print_row(r->setting->name, r->text, same ? NULL : r->key, r->why);
    }
    if (ok && im.preset.model[0])
        print_row("model", im.preset.model, NULL, NULL);
    if (ok && im.left_count)
        puts("\nCould not be taken:");
    for (int i = 0; ok && i < im.left_count; i++) {
        char line[1024];
        snprintf(line, sizeof line, "%s%s%.160s: %s", im.left[i].key, *im.left[i].value ? " " : "", im.left[i].value,
                 im.left[i].why);
        fputs("  ", stdout);
        cmd_words(2, 4, line);
    }
    if (ok && im.left_more)
        printf("  and %d more\n", im.left_more);
    if (ok)
        printf("\nIt is the preset %s now: sluice generate --preset %s\n", name, name);
    import_free(&im);
    return ok ? 0 : cmd_fail(&e);
}

/* The preset's model, or the one given, and its files' hashes into p. */
static bool add_hashes(struct preset *p, const char *model, struct err *e)
{
    struct model *m = malloc(sizeof *m);
    struct preset_files files = { 0 };
    char path[MODEL_PATH_MAX];
    bool ok = (m || err_set(e, ERR_MEMORY, "out of memory")) &&
              (model_find(path, model ? model : p->model[0] ? p->model : NULL, e) ||
               err_prefix(e, "the preset is passed on with the hashes of its model; another can be given with -m")) &&
              model_open(m, path, false, e) && preset_files(&files, m, e) && preset_hash(p, m, &files, e);
    if (ok && model) /* it is another's from now on */
        snprintf(p->model, sizeof p->model, "%.63s", m->name);
    preset_files_free(&files);
    free(m);
    return ok;
}

static int export(const char *name, const char *out, const char *model)
{
    struct preset p = { 0 };
    struct err e = { 0 };
    char folder[FILE_PATH_MAX], *text = NULL;
    bool ok = load(&p, name, &e) && add_hashes(&p, model, &e) && (text = preset_text(&p, &e));
    if (ok && out) {
        file_folder(out, folder);
        ok = preset_profile_along(&p, folder, &e) && file_write(out, text, strlen(text), &e);
    } else if (ok) {
        fputs(text, stdout);
    }
    free(text);
    preset_free(&p);
    return ok ? 0 : cmd_fail(&e);
}

/* --- one's own ------------------------------------------------------------------------ */

static int duplicate(const char *from, const char *to)
{
    struct preset p = { 0 };
    struct err e = { 0 };
    char folder[FILE_PATH_MAX];
    bool ok = load(&p, from, &e) && shelf_own_copy(SHELF_PRESETS, from, to, &e) &&
              shelf_folder(folder, SHELF_PRESETS, &e) && preset_profile_along(&p, folder, &e);
    preset_free(&p);
    return ok ? 0 : cmd_fail(&e);
}

static int rename_one(const char *from, const char *to)
{
    struct err e = { 0 };
    return shelf_own_rename(SHELF_PRESETS, from, to, &e) ? 0 : cmd_fail(&e);
}

static int delete_some(char **names)
{
    struct err e = { 0 };
    for (; *names; names++)
        if (!shelf_own_trash(SHELF_PRESETS, *names, &e))
            return cmd_fail(&e);
    return 0;
}

static int restore(const char *name)
{
    struct err e = { 0 };
    char restored[SHELF_NAME_MAX];
    if (!shelf_own_restore(SHELF_PRESETS, name, restored, &e))
        return cmd_fail(&e);
    printf("%s is back\n", restored);
    return 0;
}

/* --- the command ---------------------------------------------------------------------- */

const char *const cmd_preset_verbs[] = { "list", "show", "diff", "check", "verify", "import", "export", "duplicate",
                                         "rename", "delete", "restore", NULL };

/* What the verbs take: words, how many, and options with a value. */
struct given {
    char *word[3];
    int words;
    const char *as, *out, *model; /* NULL: not given */
};

static int read_given(struct given *g, const char *verb, const char *letters, int argc, char **argv)
{
    for (int i = 2; i < argc; i++) {
        const char **to = !strcmp(argv[i], "--as") ? &g->as :
                          !strcmp(argv[i], "-o")   ? &g->out :
                          !strcmp(argv[i], "-m")   ? &g->model : NULL;
        if (to && strchr(letters, argv[i][strlen(argv[i]) - 1])) {
            if (i + 1 == argc)
                return cmd_usage("preset", "%s needs a value", argv[i]);
            *to = argv[++i];
        } else if (argv[i][0] == '-' && argv[i][1]) {
            return cmd_usage("preset", "%s: %s has no such option", argv[i], verb);
        } else {
            if (g->words < 3)
                g->word[g->words] = argv[i];
            g->words++;
        }
    }
    return 0;
}

/* The verbs that bring presets, and take them away. */
static int change(const char *verb, int argc, char **argv)
{
    bool imports = !strcmp(verb, "import"), exports = !strcmp(verb, "export");
    struct given g = { 0 };
    int status = read_given(&g, verb, imports ? "s" : exports ? "om" : "", argc, argv);
    if (status)
        return status;
    if (imports)
        return g.words == 1 ? import(g.word[0], g.as) : cmd_usage("preset", "import takes one file");
    if (exports)
        return g.words == 1 ? export(g.word[0], g.out, g.model)
                            : cmd_usage("preset", "export takes one preset: its name or its file");
    if (!strcmp(verb, "duplicate"))
        return g.words == 2 ? duplicate(g.word[0], g.word[1])
                            : cmd_usage("preset", "duplicate takes a preset and a new name");
    if (!strcmp(verb, "rename"))
        return g.words == 2 ? rename_one(g.word[0], g.word[1])
                            : cmd_usage("preset", "rename takes a preset and its new name");
    if (!strcmp(verb, "delete"))
        return g.words ? delete_some(argv + 2) : cmd_usage("preset", "delete takes one preset, or several");
    return g.words < 2 ? restore(g.word[0]) : cmd_usage("preset", "restore takes one name, or none");
}

int cmd_preset(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(help, stdout);
            return 0;
        }
    for (int i = 5; cmd_preset_verbs[i]; i++)
        if (!strcmp(verb, cmd_preset_verbs[i]))
            return change(verb, argc, argv);
    if (!strcmp(verb, "list"))
        return argc == 2 ? cmd_shelf_list(SHELF_PRESETS, describe) : cmd_usage("preset", "list takes no arguments");
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
    return cmd_usage("preset", "%s%suse list, show, diff, check, verify, import, export, duplicate, rename, delete "
                     "or restore", verb, *verb ? ": " : "");
}
