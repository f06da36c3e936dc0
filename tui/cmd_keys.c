/* cmd_keys.c - `sluice keys`: what each key of the studio does. */
#include "tui/cmd.h"
#include "tui/commands.h"
#include "tui/config.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "usage: sluice keys [--set emacs|vi] [--man]\n"
    "\n"
    "Prints the keys of the studio as they are now, with the names for keys.yaml.\n"
    "\n"
    "  --set SET   of that set, emacs or vi, whatever keys.yaml says\n"
    "  --man       the section of the manual page\n"
    "  -h, --help  this text\n";

enum { OPT_SET = 512, OPT_MAN };
const struct option cmd_keys_options[] = {
    { "set", required_argument, NULL, OPT_SET },
    { "man", no_argument, NULL, OPT_MAN },
    { "help", no_argument, NULL, 'h' },
    { 0 },
};

int cmd_keys(int argc, char **argv)
{
    enum keys_set set = KEYS_EMACS;
    bool man = false, as_it_comes = false;
    struct err e = { 0 };
    struct keys k;
    char *text;

    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, ":h", cmd_keys_options, NULL)) != -1;) switch (letter) {
        case 'h': fputs(help, stdout); return 0;
        case OPT_MAN: man = true; break;
        case OPT_SET:
            for (set = 0; set < KEYS_SETS && strcmp(optarg, keys_set_name[set]); set++) {}
            as_it_comes = true;
            if (set == KEYS_SETS) return cmd_usage("keys", "--set \"%s\": use emacs or vi", optarg);
            break;
        case ':': return cmd_usage("keys", "%s needs a value", argv[optind - 1]);
        default: return cmd_no_option("keys", argv);
        }
    if (optind < argc) return cmd_usage("keys", "\"%s\" is not wanted", argv[optind]);
    if (man || as_it_comes) keys_init(&k, set);
    else if (!config_user_keys(&k, &e)) return cmd_fail(&e);
    text = man ? keys_manual(&k) : keys_text(&k);
    if (!text) {
        cmd_say("no memory for the keys");
        return 1;
    }
    fputs(text, stdout);
    free(text);
    return 0;
}
