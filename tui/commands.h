/* commands.h - which commands there are, for main and for the shells' completion.
 *
 * A command's options are in a table of its own, which is also what reads them:
 * settings and more (cmd_options.h), or getopt_long's. */
#ifndef SLUICE_COMMANDS_H
#define SLUICE_COMMANDS_H

#include <getopt.h>

enum commands_takes { TAKES_NOTHING, TAKES_FILES, TAKES_FOLDERS, TAKES_PRESETS, TAKES_PROFILES };

struct command {
    const char *name, *what;
    int (*run)(int argc, char **argv);
    const struct cmd_command *settings; /* its options, if it has those of every setting */
    const struct option *options;       /* else these; NULL: none but --help */
    const char *const *verbs;           /* what its first word can be; NULL: anything. Ends with NULL */
    enum commands_takes takes;          /* words after that, to be completed */
};
extern const struct command commands[]; /* ends with a NULL name */

extern const struct option cmd_inspect_options[], cmd_synth_options[], cmd_keys_options[], cmd_doctor_options[];
extern const char *const cmd_preset_verbs[], *const cmd_profile_verbs[], *const cmd_cache_verbs[];
extern const char *const cmd_queue_verbs[], *const cmd_history_verbs[], *const cmd_completion_verbs[];

#endif
