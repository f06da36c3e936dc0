/* cmd_completion.c - `sluice completion SHELL`: a script that lets bash, zsh or fish
 * complete commands, options and values. Made from the tables that read them:
 * commands.h, cmd_options.h, engine/setting.h. */
#include "engine/preset.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"
#include "tui/commands.h"

#include <ctype.h>
#include <string.h>

static const char help[] =
    "usage: sluice completion bash|zsh|fish\n"
    "       sluice completion presets|profiles\n"
    "\n"
    "Prints a script for the shell; make install puts it where the shell looks. By hand:\n"
    "\n"
    "  bash       source <(sluice completion bash)\n"
    "  zsh        sluice completion zsh > a folder of $fpath/_sluice\n"
    "  fish       sluice completion fish > ~/.config/fish/completions/sluice.fish\n"
    "\n"
    "presets and profiles are the names there are, one a line, as those scripts ask for them.\n";

const char *const cmd_completion_verbs[] = { "bash", "zsh", "fish", "presets", "profiles", NULL };

enum { WORDS_MAX = 512 };

/* An option as a shell sees it. */
struct completion {
    const char *name, *value, *help; /* value NULL: it takes none */
    char letter;                     /* 0: it has none */
    char words[WORDS_MAX];           /* what its value can be, with blanks between */
    enum commands_takes more;        /* and what else */
};

/* Values of options that getopt_long reads alone; their commands know them by name. */
static const struct { const char *name, *words; } values[] = {
    { "arch", "flux-dev flux-schnell" }, { "dtype", "bf16 f16 f32" }, { "set", "emacs vi" },
};

static void add_word(char words[WORDS_MAX], const char *word, size_t n)
{
    size_t at = strlen(words);

    snprintf(words + at, WORDS_MAX - at, "%s%.*s", at ? " " : "", (int)n, word);
}

/* "auto|whole|FILE": small letters are words, capitals say of what kind the value is. */
static void read_value(struct completion *c)
{
    for (const char *s = c->value; *s; s += strcspn(s, "|"), s += *s == '|') {
        size_t n = strcspn(s, "|");
        if (islower((unsigned char)*s)) add_word(c->words, s, n);
        else if (!strncmp(s, "FILE", 4)) c->more = TAKES_FILES;
        else if (!strncmp(s, "FOLDER", 6) || !strncmp(s, "MODEL", 5)) c->more = TAKES_FOLDERS;
    }
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!strcmp(values[i].name, c->name)) add_word(c->words, values[i].words, strlen(values[i].words));
    if (!strcmp(c->name, "preset")) c->more = TAKES_PRESETS;
    if (!strcmp(c->name, "profile")) c->more = TAKES_PROFILES;
    if (!strcmp(c->name, "tokenizers")) c->more = TAKES_FOLDERS;
}

static struct completion of_option(const char *name, int letter, const char *value, const char *what)
{
    struct completion c = { .name = name, .value = value, .help = what };

    if (letter > 0 && letter < 256 && isalpha(letter)) c.letter = (char)letter;
    if (value) read_value(&c);
    return c;
}

static struct completion of_setting(const struct setting *s, char name[CMD_NAME_MAX])
{
    struct completion c = { .name = cmd_setting_name(s, name), .value = s->value, .help = s->help };

    if (!strcmp(s->name, "count")) c.letter = 'n';
    for (const struct setting_choice *i = s->choices; i && i->name; i++)
        if (!strcmp(setting_choice_name(s, i->value), i->name)) add_word(c.words, i->name, strlen(i->name));
    if (s->kind == SETTING_BOOL) snprintf(c.words, sizeof c.words, "on off");
    if (s->kind == SETTING_SEED) snprintf(c.words, sizeof c.words, "random");
    return c;
}

/* Calls each for every option of the command. */
static void each_option(const struct command *of, void (*each)(const struct command *of, const struct completion *c))
{
    char name[CMD_NAME_MAX];
    const struct cmd_option *lists[2] = { cmd_common_options, of->settings ? of->settings->own : NULL };
    struct completion c;

    for (int l = 0; of->settings && l < 2; l++)
        for (const struct cmd_option *o = lists[l]; o->name; o++) {
            c = of_option(o->name, o->letter, o->value, o->help);
            each(of, &c);
        }
    for (int i = 0; of->settings && i < setting_count(); i++)
        if (cmd_has_setting(of->settings, setting_at(i))) {
            c = of_setting(setting_at(i), name);
            each(of, &c);
        }
    for (const struct option *o = of->options; o && o->name; o++) {
        if (!strcmp(o->name, "help")) continue;
        c = of_option(o->name, o->val, o->has_arg ? "VALUE" : NULL, "");
        each(of, &c);
    }
    c = of_option("help", 'h', NULL, "what it does, and its options");
    each(of, &c);
}

/* --- bash ------------------------------------------------------------------------ */

static void bash_name(const struct command *of, const struct completion *c)
{
    (void)of;
    printf(" --%s", c->name);
}

/* Sets $words, and $files to what else compgen is to find. */
static void bash_words(const char *words, enum commands_takes more)
{
    const char *names = more == TAKES_PRESETS ? "presets" : more == TAKES_PROFILES ? "profiles" : NULL;

    if (names) printf("words=\"%s$(\"$1\" completion %s 2>/dev/null)\" files=f", words, names);
    else printf("words='%s'%s", words, more == TAKES_FILES ? " files=f" : more == TAKES_FOLDERS ? " files=d" : "");
}

static void bash_value(const struct command *of, const struct completion *c)
{
    if (!c->value) return;
    printf("    %s:--%s", of->name, c->name);
    if (c->letter) printf("|%s:-%c", of->name, c->letter);
    fputs(") ", stdout);
    bash_words(c->words, c->more);
    fputs(" ;;\n", stdout);
}

static void print_verbs(const struct command *c)
{
    for (const char *const *v = c->verbs; *v; v++) printf("%s%s", v == c->verbs ? "" : " ", *v);
}

static void print_commands(void)
{
    for (const struct command *c = commands; c->name; c++) printf("%s%s", c == commands ? "" : " ", c->name);
}

static void bash_arguments(const struct command *c)
{
    printf("        %s:*) ", c->name);
    if (c->verbs) {
        fputs("if ((COMP_CWORD == 2)); then words='", stdout);
        print_verbs(c);
        fputs("'; else ", stdout);
    }
    bash_words("", c->takes);
    fputs(c->verbs ? "; fi ;;\n" : " ;;\n", stdout);
}

static void bash(void)
{
    fputs("# What bash completes after sluice; made by: sluice completion bash\n"
          "_sluice() {\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=studio words= files=\n"
          "    local -a found\n"
          "    # bash takes --vae=bands apart: --vae = bands\n"
          "    if [[ $cur == '=' ]]; then cur=; elif [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
          "    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then command=${COMP_WORDS[1]}; fi\n"
          "    case $command:$prev in\n",
          stdout);
    for (const struct command *c = commands; c->name; c++) each_option(c, bash_value);
    fputs("    *)\n        case $command:$cur in\n", stdout);
    for (const struct command *c = commands; c->name; c++) {
        printf("        %s:-*) words='", c->name);
        each_option(c, bash_name);
        fputs("' ;;\n", stdout);
    }
    for (const struct command *c = commands; c->name; c++)
        if (c->verbs || c->takes != TAKES_NOTHING) bash_arguments(c);
    fputs("        help:*) words='", stdout);
    print_commands();
    fputs("' ;;\n        studio:*) if ((COMP_CWORD == 1)); then words='help ", stdout);
    print_commands();
    fputs("'; fi ;;\n"
          "        esac ;;\n"
          "    esac\n"
          "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "    if [[ -n $files ]]; then\n"
          "        mapfile -t found < <(compgen \"-$files\" -- \"$cur\")\n"
          "        COMPREPLY+=(\"${found[@]}\")\n"
          "        compopt -o filenames 2>/dev/null\n"
          "    fi\n"
          "}\n"
          "complete -F _sluice sluice\n",
          stdout);
}

/* --- zsh ------------------------------------------------------------------------- */

/* Within single quotes, and within _arguments' brackets and colons. */
static void quote(const char *text, const char *escaped)
{
    for (; *text; text++) {
        if (*text == '\'') fputs("'\\''", stdout);
        else if (strchr(escaped, *text)) printf("\\%c", *text);
        else putchar(*text);
    }
}

static void zsh_option(const struct command *of, const struct completion *c)
{
    static const char *const more[] = { "", "_files", "_files -/", "_sluice_presets", "_sluice_profiles" };

    (void)of;
    fputs(" \\\n        ", stdout);
    if (c->letter)
        printf("'(-%c --%s)'{-%c%s,--%s%s}'[", c->letter, c->name, c->letter, c->value ? "+" : "", c->name,
               c->value ? "=" : "");
    else printf("'--%s%s[", c->name, c->value ? "=" : "");
    quote(c->help, "[]:\\");
    putchar(']');
    if (c->value) {
        putchar(':');
        quote(c->value, ":\\");
        if (*c->words && !c->more) printf(":(%s)", c->words);
        else if (*c->words) printf(":{_values value %s; %s}", c->words, more[c->more]);
        else printf(":%s", *more[c->more] ? more[c->more] : " ");
    }
    putchar('\'');
}

static void zsh(void)
{
    fputs("#compdef sluice\n"
          "# What zsh completes after sluice; made by: sluice completion zsh\n"
          "_sluice_presets() { compadd -- ${(f)\"$($service completion presets 2>/dev/null)\"}; _files }\n"
          "_sluice_profiles() { compadd -- ${(f)\"$($service completion profiles 2>/dev/null)\"}; _files }\n"
          "_sluice() {\n"
          "    local command=studio\n"
          "    local -a known=(",
          stdout);
    for (const struct command *c = commands; c->name; c++) {
        fputs("\n        '", stdout);
        printf("%s:", c->name);
        quote(c->what, ":\\");
        putchar('\'');
    }
    fputs("\n        'help:what a command does, and its options')\n"
          "    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then\n"
          "        _describe command known\n"
          "        return\n"
          "    fi\n"
          "    if [[ $words[2] != -* ]]; then\n"
          "        command=$words[2]\n"
          "        shift words\n"
          "        (( CURRENT-- ))\n"
          "    fi\n"
          "    case $command in\n",
          stdout);
    for (const struct command *c = commands; c->name; c++) {
        static const char *const more[] = { "", "*:file:_files", "*:folder:_files -/", "*:preset:_sluice_presets",
                                            "*:profile:_sluice_profiles" };
        printf("    %s) _arguments", c->name);
        each_option(c, zsh_option);
        if (c->verbs) {
            fputs(" \\\n        '1:what:(", stdout);
            print_verbs(c);
            fputs(")'", stdout);
        }
        if (*more[c->takes]) printf(" \\\n        '%s'", more[c->takes]);
        fputs(" ;;\n", stdout);
    }
    fputs("    help) _describe command known ;;\n"
          "    esac\n"
          "}\n"
          "_sluice \"$@\"\n",
          stdout);
}

/* --- fish ------------------------------------------------------------------------ */

static void fish_when(const struct command *of)
{
    /* without a command, it is the studio */
    if (of == commands) printf("complete -c sluice -n '_sluice_command studio'");
    else printf("complete -c sluice -n '__fish_seen_subcommand_from %s'", of->name);
}

static const char *fish_more(enum commands_takes takes)
{
    static const char *const more[] = { "", "(__fish_complete_path)", "(__fish_complete_directories)",
                                        "(sluice completion presets; __fish_complete_path)",
                                        "(sluice completion profiles; __fish_complete_path)" };

    return more[takes];
}

static void fish_option(const struct command *of, const struct completion *c)
{
    fish_when(of);
    printf(" -l %s", c->name);
    if (c->letter) printf(" -s %c", c->letter);
    if (c->value) {
        fputs(" -x", stdout);
        if (*c->words || c->more) printf(" -a '%s%s%s'", c->words, *c->words && c->more ? " " : "", fish_more(c->more));
    }
    fputs(" -d '", stdout);
    for (const char *s = c->help; *s; s++) printf(*s == '\'' || *s == '\\' ? "\\%c" : "%c", *s);
    fputs("'\n", stdout);
}

static void fish(void)
{
    fputs("# What fish completes after sluice; made by: sluice completion fish\n"
          "function _sluice_command\n"
          "    __fish_seen_subcommand_from $argv; or not __fish_seen_subcommand_from help ",
          stdout);
    print_commands();
    fputs("\n"
          "end\n"
          "complete -c sluice -f\n"
          "complete -c sluice -n __fish_use_subcommand -a help -d 'what a command does, and its options'\n",
          stdout);
    for (const struct command *c = commands; c->name; c++)
        printf("complete -c sluice -n __fish_use_subcommand -a %s -d '%s'\n"
               "complete -c sluice -n '__fish_seen_subcommand_from help' -a %s\n", c->name, c->what, c->name);
    for (const struct command *c = commands; c->name; c++) {
        each_option(c, fish_option);
        if (c->verbs) {
            printf("complete -c sluice -n '__fish_seen_subcommand_from %s; and not __fish_seen_subcommand_from",
                   c->name);
            putchar(' ');
            print_verbs(c);
            fputs("' -a '", stdout);
            print_verbs(c);
            fputs("'\n", stdout);
        }
        if (*fish_more(c->takes)) {
            fish_when(c);
            printf(" -a '%s'\n", fish_more(c->takes));
        }
    }
}

/* --- the command ------------------------------------------------------------------- */

static int names(enum shelf s)
{
    struct shelf_list l;
    struct err e = { 0 };

    if (!shelf_list(&l, s, &e)) return cmd_fail(&e);
    for (int i = 0; i < l.count; i++) puts(l.item[i].name);
    shelf_list_free(&l);
    return 0;
}

int cmd_completion(int argc, char **argv)
{
    static void (*const shells[])(void) = { bash, zsh, fish };
    int which = 0;

    if (argc == 2 && (!strcmp(argv[1], "-h") || !strcmp(argv[1], "--help"))) {
        fputs(help, stdout);
        return 0;
    }
    while (argc == 2 && cmd_completion_verbs[which] && strcmp(argv[1], cmd_completion_verbs[which])) which++;
    if (argc != 2 || !cmd_completion_verbs[which])
        return cmd_usage("completion", "use bash, zsh, fish, presets or profiles");
    if (which >= 3) return names(which == 3 ? SHELF_PRESETS : SHELF_PROFILES);
    shells[which]();
    return 0;
}
