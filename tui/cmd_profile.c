/* cmd_profile.c - `sluice profile`: which VRAM profiles there are, and what they say. */
#include "engine/profile.h"
#include "tui/cmd.h"
#include "tui/cmd_shelf.h"
#include "tui/commands.h"

#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: sluice profile list\n"
    "       sluice profile show NAME|FILE\n"
    "       sluice profile explain NAME|FILE\n"
    "\n"
    "A profile says how a job uses memory; generate, plan and the studio take one as\n"
    "--profile. The format: man 5 sluice-profile.\n"
    "\n"
    "  list       those there are: yours, and those that came with the program\n"
    "  show       every setting of a profile, and what it is for\n"
    "  explain    what each key of the file becomes, and why: for templates of other\n"
    "             programs, too\n"
    "  -h, --help\n";

static void describe(const struct shelf_item *i, struct cmd_shelf_row *r)
{
    struct profile p;
    struct yaml_faults faults = { 0 };
    struct err wrong = { 0 };
    bool ok = profile_load(&p, i->path, &faults, &wrong);
    snprintf(r->about, sizeof r->about, "%s",
             !ok ? wrong.text : p.foreign ? "a template of another program: see explain" : p.about);
    profile_free(&p);
}

static bool load(struct profile *p, const char *name, struct yaml_faults *f, struct err *e)
{
    char path[FILE_PATH_MAX];
    return shelf_find(path, SHELF_PROFILES, name, e) && profile_load(p, path, f, e);
}

static void print_rows(const struct sheet *rows)
{
    for (int i = 0; i < rows->count; i++) {
        const struct sheet_row *r = &rows->row[i];
        int column = printf("  %-16s %-12s", r->setting->name, r->text);
        cmd_words(column, 40, r->setting->help);
    }
}

static void print_head(const struct profile *p)
{
    cmd_print(stdout, p->path);
    putchar('\n');
    if (*p->about)
        cmd_words(0, 0, p->about);
    putchar('\n');
}

static void print_large(const struct profile *p)
{
    printf("\nFrom the pixels of %dx%d on:\n", p->large_width, p->large_height);
}

static int show(const char *name)
{
    struct profile p = { 0 };
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };
    struct job j = { 0 };
    bool ok = load(&p, name, &faults, &e) && sheet_job(&j, &e);
    if (ok)
        print_head(&p);
    for (int i = 0; ok && i < setting_count(); i++) {
        const struct setting *s = setting_at(i);
        const struct sheet_row *row = sheet_find(&p.rows, s);
        if (!row && !(s->scope & SETTING_PROFILE))
            continue;
        char *own = setting_text(&j, s);
        char from[32] = "default";
        if (row)
            snprintf(from, sizeof from, "line %d", row->line);
        ok = own || err_set(&e, ERR_MEMORY, "out of memory");
        if (ok)
            cmd_words(printf("  %-16s %-12s %-9s", s->name, row ? row->text : own, from), 42, s->help);
        free(own);
    }
    if (ok && p.large.count) {
        print_large(&p);
        print_rows(&p.large);
    }
    profile_free(&p);
    job_free(&j);
    return ok ? 0 : cmd_fail(&e);
}

/* The setting with its own name for the value: "offload", which may be written "cpu". */
static void print_own(const struct sheet_row *r)
{
    struct job j = { 0 };
    bool named = r->setting && (r->setting->kind == SETTING_CHOICE || r->setting->kind == SETTING_INT);
    char *own = NULL;
    if (named && setting_set(&j, r->setting, r->text, NULL) == SETTING_SET)
        own = setting_text(&j, r->setting);
    if (r->setting)
        printf("%s: %s\n", r->setting->name, own ? own : r->text);
    else
        puts("nothing");
    free(own);
}

static void explain_rows(const struct sheet *rows)
{
    for (int i = 0; i < rows->count; i++) {
        const struct sheet_row *r = &rows->row[i];
        printf("  %-24s %-14s ", r->key, r->value);
        print_own(r);
        cmd_words(0, 6, r->why ? r->why : r->setting->help);
    }
}

static int explain(const char *name)
{
    struct profile p = { 0 };
    struct yaml_faults faults = { 0 };
    struct err e = { 0 };
    bool ok = load(&p, name, &faults, &e);
    if (p.rows.count) {
        print_head(&p);
        printf("  %-24s %-14s %s\n", "key", "value", "becomes");
        explain_rows(&p.rows);
        if (p.large.count)
            print_large(&p);
        explain_rows(&p.large);
    }
    if (faults.count)
        puts("\nRefused:");
    for (int i = 0; i < faults.count; i++)
        printf("  %s\n", faults.at[i].text);
    profile_free(&p);
    return ok ? 0 : faults.count ? 1 : cmd_fail(&e);
}

const char *const cmd_profile_verbs[] = { "list", "show", "explain", NULL };

int cmd_profile(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
            fputs(help, stdout);
            return 0;
        }
    if (!strcmp(verb, "list"))
        return argc == 2 ? cmd_shelf_list(SHELF_PROFILES, describe) : cmd_usage("profile", "list takes no arguments");
    if (strcmp(verb, "show") && strcmp(verb, "explain"))
        return cmd_usage("profile", "%s%suse list, show or explain", verb, *verb ? ": " : "");
    if (argc != 3)
        return cmd_usage("profile", "%s takes one profile: its name or its file", verb);
    return !strcmp(verb, "show") ? show(argv[2]) : explain(argv[2]);
}
