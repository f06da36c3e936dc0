/* cmd_doctor.c - `sluice doctor`: what this machine has for sluice, and what that
 * means. Prints what engine/doctor.h found, and adds the terminal. */
#include "engine/doctor.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <getopt.h>
#include <jansson.h>
#include <langinfo.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char help[] =
    "usage: sluice doctor [--json]\n"
    "\n"
    "Looks at the card, its driver and libraries, processor, memory, disk, models, folders\n"
    "and terminal, and says what each means for pictures made here; then what FLUX.1-dev at\n"
    "1024x1024 would take. Each line is ok, a note (pictures can be made all the same) or a\n"
    "problem. Exit status 1 if there is a problem.\n"
    "\n"
    "  --json     the same as one JSON object\n"
    "  -h, --help\n";

/* --- the terminal ------------------------------------------------------------------------ */

static const char *set_to(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static void examine_terminal(struct doctor *d)
{
    const char *term = set_to("TERM"), *colour = set_to("COLORTERM");
    bool utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8"), none = !term || !strcmp(term, "dumb");
    bool many = colour && (!strcmp(colour, "truecolor") || !strcmp(colour, "24bit"));
    doctor_say(d, DOCTOR_TERMINAL, none ? DOCTOR_NOTE : DOCTOR_OK, "TERM",
               none ? "the studio needs a terminal; sluice generate does not" : NULL, "%s", term ? term : "not set");
    doctor_say(d, DOCTOR_TERMINAL, many ? DOCTOR_OK : DOCTOR_NOTE, "COLORTERM",
               many ? NULL : "half-block pictures get few colours; set it to truecolor if the terminal has them", "%s",
               colour ? colour : "not set");
    const char *in_tmux = set_to("TMUX");
    doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "tmux",
               in_tmux ? "pictures come as sixel only if tmux (3.4 or newer) and the terminal outside have it" : NULL,
               "%s", in_tmux ? "yes" : "no");
    doctor_say(d, DOCTOR_TERMINAL, utf8 ? DOCTOR_OK : DOCTOR_NOTE, "characters",
               utf8 ? NULL : "LC_ALL=C.UTF-8 says that the terminal has more than ASCII", "%s", nl_langinfo(CODESET));
    doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "pictures", NULL,
               "the studio asks the terminal: the kitty protocol, else sixel, else half-blocks");
}

/* --- printing ------------------------------------------------------------------------------- */

static void print_text(const struct doctor *d)
{
    enum { FOUND = 33 };
    for (enum doctor_part part = 0; part < DOCTOR_PARTS; part++) {
        printf("%s%s\n", part ? "\n" : "", doctor_part_name(part));
        for (int i = 0; i < d->count; i++) {
            const struct doctor_line *l = &d->line[i];
            if (l->part != part)
                continue;
            int column = printf("  %-8s %s", doctor_state_name(l->state), l->what);
            cmd_words(column, FOUND, l->found);
            if (*l->means)
                cmd_words(0, FOUND, l->means);
        }
    }
    int problems = doctor_problems(d);
    if (problems)
        printf("\n%d %s: see above.\n", problems, problems == 1 ? "problem" : "problems");
    else
        puts("\nNothing that sluice needs is missing.");
}

static json_t *text_json(const char *text)
{
    json_t *t = json_string(text);
    return t ? t : json_string("(not UTF-8)");
}

static void print_json(const struct doctor *d)
{
    json_t *parts = json_object();
    for (enum doctor_part part = 0; part < DOCTOR_PARTS; part++)
        json_object_set_new(parts, doctor_part_name(part), json_array());
    for (int i = 0; i < d->count; i++) {
        const struct doctor_line *l = &d->line[i];
        json_t *o = json_pack("{s:o, s:s, s:o}", "what", text_json(l->what), "state", doctor_state_name(l->state),
                              "found", text_json(l->found));
        if (*l->means)
            json_object_set_new(o, "means", text_json(l->means));
        if (l->unit) {
            json_object_set_new(o, "number", json_real(l->number));
            json_object_set_new(o, "unit", json_string(l->unit));
        }
        json_array_append_new(json_object_get(parts, doctor_part_name(l->part)), o);
    }
    json_t *o = json_pack("{s:s, s:i, s:o}", "sluice", SLUICE_VERSION, "problems", doctor_problems(d), "parts", parts);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

enum { JSON = 1 };
const struct option cmd_doctor_options[] = {
    { "json", no_argument, NULL, JSON }, { "help", no_argument, NULL, 'h' }, { 0 },
};

int cmd_doctor(int argc, char **argv)
{
    bool json = false;
    int which;
    optind = 0;
    opterr = 0;
    while ((which = getopt_long(argc, argv, "h", cmd_doctor_options, NULL)) != -1) {
        if (which == 'h') {
            fputs(help, stdout);
            return 0;
        }
        if (which != JSON)
            return cmd_no_option("doctor", argv);
        json = true;
    }
    if (optind != argc)
        return cmd_usage("doctor", "%s: it takes no arguments", argv[optind]);
    struct doctor d = { 0 };
    doctor_examine(&d, &(struct doctor_options){ 0 });
    examine_terminal(&d);
    (json ? print_json : print_text)(&d);
    int status = doctor_problems(&d) || d.lost ? 1 : 0;
    if (d.lost)
        cmd_say("memory was refused: some lines are missing");
    doctor_free(&d);
    return status;
}
