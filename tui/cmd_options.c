/* cmd_options.c - see cmd_options.h. */
#include "tui/cmd_options.h"

#include "tui/cmd.h"

#include <assert.h>
#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { OWN_MAX = 16, SETTING_LETTER = 256, HELP_COLUMN = 31 };
enum { OPT_PRESET = 1024, OPT_PROFILE };

const struct cmd_option cmd_common_options[] = {
    { "model", 'm', "MODEL", "folder or name of a model (default: the shipped one)" },
    { "preset", OPT_PRESET, "NAME|FILE", "what the picture is: sluice preset list names those there are" },
    { "profile", OPT_PROFILE, "NAME|FILE", "how memory is used: sluice profile list names those there are" },
    { 0 },
};

const char *cmd_setting_name(const struct setting *s, char buf[CMD_NAME_MAX])
{
    snprintf(buf, CMD_NAME_MAX, "%s", s->name);
    for (char *c = buf; *c; c++)
        if (*c == '_')
            *c = '-';
    return buf;
}

/* --- help ----------------------------------------------------------------------------- */

static void print_option(int letter, const char *name, const char *value, const char *help)
{
    int column = letter < SETTING_LETTER && isalpha(letter) ? printf("  -%c, ", letter) : printf("      ");
    column += printf("--%s%s%s", name, value ? " " : "", value ? value : "");
    if (column >= HELP_COLUMN) {
        putchar('\n');
        column = 0;
    }
    cmd_words(column, HELP_COLUMN, help);
}

static const char *group_of(const struct setting *s)
{
    return s->scope & SETTING_PRESET ? "The picture:" : s->scope & SETTING_PROFILE ? "Its memory:" : "This run:";
}

bool cmd_has_setting(const struct cmd_command *c, const struct setting *s)
{
    return !c->sampled || s->scope & SETTING_PROFILE || !(s->scope & SETTING_PRESET);
}

static void print_help(const struct cmd_command *c)
{
    const char *group = "";
    fputs(c->usage, stdout);
    putchar('\n');
    for (const struct cmd_option *o = cmd_common_options; o->name; o++)
        print_option(o->letter, o->name, o->value, o->help);
    for (const struct cmd_option *o = c->own; o->name; o++)
        print_option(o->letter, o->name, o->value, o->help);
    print_option('h', "help", NULL, "this text");
    for (int i = 0; i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        char name[CMD_NAME_MAX];
        if (!cmd_has_setting(c, s))
            continue;
        if (strcmp(group, group_of(s)))
            printf("\n%s\n", group_of(s));
        group = group_of(s);
        print_option(strcmp(s->name, "count") ? 0 : 'n', cmd_setting_name(s, name), s->value, s->help);
    }
    if (c->notes)
        printf("\n%s", c->notes);
}

/* --- reading -------------------------------------------------------------------------- */

struct table {
    struct option option[CMD_SETTINGS_MAX + OWN_MAX + 1];
    char name[CMD_SETTINGS_MAX][CMD_NAME_MAX];
    char shorts[2 * OWN_MAX + 8];
    int n;
};

static void table_add(struct table *t, const char *name, int letter, bool value)
{
    t->option[t->n++] = (struct option){ name, value ? required_argument : no_argument, NULL, letter };
    if (letter < SETTING_LETTER) {
        char *end = t->shorts + strlen(t->shorts);
        sprintf(end, "%c%s", letter, value ? ":" : "");
    }
}

static void table_make(struct table *t, const struct cmd_command *c)
{
    memset(t, 0, sizeof *t);
    strcpy(t->shorts, ":n:");
    for (const struct cmd_option *o = cmd_common_options; o->name; o++)
        table_add(t, o->name, o->letter, o->value != NULL);
    for (const struct cmd_option *o = c->own; o->name; o++)
        table_add(t, o->name, o->letter, o->value != NULL);
    table_add(t, "help", 'h', false);
    assert(t->n <= OWN_MAX && setting_count() <= CMD_SETTINGS_MAX);
    for (int i = 0; i < setting_count(); i++)
        if (cmd_has_setting(c, setting_at(i)))
            table_add(t, cmd_setting_name(setting_at(i), t->name[i]), SETTING_LETTER + i, true);
}

/* A value that cannot be read is wrong usage; one out of range is a wrong value. */
static int take_setting(struct cmd_options *o, int i, const char *text)
{
    const struct setting *s = setting_at(i);
    struct err e = { 0 };
    char name[CMD_NAME_MAX];
    o->value[i] = text;
    o->prompt |= !strcmp(s->name, "prompt");
    switch (setting_try(s, text, &e)) {
    case SETTING_SET: return 0;
    case SETTING_MALFORMED: return cmd_usage(o->command, "--%s%s", cmd_setting_name(s, name), e.text + strlen(s->name));
    default: return cmd_fail(&e);
    }
}

static int index_of(const char *name)
{
    int i = 0;
    while (strcmp(setting_at(i)->name, name))
        i++;
    return i;
}

static int take_option(struct cmd_options *o, const struct cmd_command *c, void *to, int letter, char **argv)
{
    switch (letter) {
    case ':': return cmd_usage(c->name, "%s needs a value", argv[optind - 1]);
    case '?': return cmd_no_option(c->name, argv);
    case 'm': o->model = optarg; return 0;
    case OPT_PRESET: o->preset_name = optarg; return 0;
    case OPT_PROFILE: o->profile_name = optarg; return 0;
    case 'n': letter = SETTING_LETTER + index_of("count"); break;
    }
    if (letter >= SETTING_LETTER && letter < SETTING_LETTER + setting_count())
        return take_setting(o, letter - SETTING_LETTER, optarg);
    return c->take(to, letter, optarg);
}

/* The files that were named. */
static int load(struct cmd_options *o)
{
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };
    char path[FILE_PATH_MAX];
    bool ok = (!o->preset_name || (shelf_find(path, SHELF_PRESETS, o->preset_name, &e) &&
                                   preset_load(&o->preset, path, &faults, &e))) &&
              (!o->profile_name || (shelf_find(path, SHELF_PROFILES, o->profile_name, &e) &&
                                    profile_load(&o->profile, path, &faults, &e)));
    if (ok)
        return CMD_GO;
    cmd_options_free(o);
    return cmd_fail(&e);
}

int cmd_options_read(struct cmd_options *o, const struct cmd_command *c, void *to, int argc, char **argv)
{
    struct table t;
    table_make(&t, c);
    *o = (struct cmd_options){ .command = c->name };
    opterr = 0;
    /* Help before anything else, wherever it stands. */
    optind = 0;
    for (int letter; (letter = getopt_long(argc, argv, t.shorts, t.option, NULL)) != -1;)
        if (letter == 'h') {
            print_help(c);
            return 0;
        }
    optind = 0;
    for (int letter; (letter = getopt_long(argc, argv, t.shorts, t.option, NULL)) != -1;) {
        int status = take_option(o, c, to, letter, argv);
        if (status)
            return status;
    }
    return load(o);
}

void cmd_options_free(struct cmd_options *o)
{
    preset_free(&o->preset);
    profile_free(&o->profile);
}

/* --- the job -------------------------------------------------------------------------- */

bool cmd_options_model(const struct cmd_options *o, char path[MODEL_PATH_MAX], struct err *e)
{
    bool preset = !o->model && o->preset.model[0];
    if (model_find(path, preset ? o->preset.model : o->model, e))
        return true;
    return preset && err_prefix(e, "the preset %s is made for %s, and another can be given with -m", o->preset.name,
                                o->preset.model);
}

bool cmd_options_has_prompt(const struct cmd_options *o)
{
    return o->prompt || sheet_find(&o->preset.rows, setting_find("prompt"));
}

static bool set_options(const struct cmd_options *o, struct job *j, struct err *e)
{
    bool ok = true;
    for (int i = 0; ok && i < setting_count(); i++)
        ok = !o->value[i] || setting_set(j, setting_at(i), o->value[i], e) == SETTING_SET;
    return ok;
}

bool cmd_options_job(const struct cmd_options *o, const struct model *m, struct job *j, struct err *e)
{
    const char *size = o->value[index_of("size")];
    char *prompt = NULL;
    bool ok = job_init(j, m, e);
    j->random_seed = true;
    if (o->preset.model[0] && strcasecmp(o->preset.model, m->name))
        fprintf(stderr, "sluice: the preset %s is made for %s, and this model is %s\n", o->preset.name, o->preset.model,
                m->name);
    /* a profile asks for the size that the picture will have */
    ok = ok && (!o->preset_name || preset_apply(&o->preset, j, e)) &&
         (!size || setting_set(j, setting_find("size"), size, e) == SETTING_SET) &&
         profile_apply(&o->preset.profile, j, e) && profile_apply(&o->profile, j, e) && set_options(o, j, e);
    if (ok && o->prompt) {
        prompt = preset_prompt(&o->preset, o->value[index_of("prompt")], e);
        ok = prompt && job_set_string(&j->prompt, prompt, e);
    }
    free(prompt);
    return ok;
}
