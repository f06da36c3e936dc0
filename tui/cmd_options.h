/* cmd_options.h - what the commands that make a job have in common: every
 * setting of engine/setting.h as --name value, beside the command's own options.
 *
 * The getopt table and the help come from that table. Options may stand in any
 * order: values are collected first and put into the job afterwards. */
#ifndef SLUICE_CMD_OPTIONS_H
#define SLUICE_CMD_OPTIONS_H

#include "engine/preset.h"

/* An option of the command's own. */
struct cmd_option {
    const char *name;  /* without the dashes; NULL ends a list */
    int letter;        /* what `take` gets; if it is a letter, the short option, too; 512 to 1023 for none */
    const char *value; /* for the help; NULL: it takes none */
    const char *help;
};

struct cmd_command {
    const char *name;
    const char *usage; /* begins its help */
    const char *notes; /* ends it */
    const struct cmd_option *own;
    bool sampled; /* it begins at a latent: the settings that make one are no options of it */
    /* One of its own options was given. 0, or the exit status (cmd_usage). */
    int (*take)(void *to, int letter, const char *value);
};

extern const struct cmd_command cmd_studio_command, cmd_generate_command, cmd_plan_command, cmd_decode_command,
                                cmd_bench_command;

enum { CMD_GO = -1, CMD_SETTINGS_MAX = 64 };

struct cmd_options {
    const char *command;
    const char *model;                   /* -m; NULL: not given */
    bool prompt;                         /* --prompt was given */
    const char *preset_name, *profile_name; /* NULL: not given */
    struct preset preset;                /* all zero where none was given */
    struct profile profile;
    const char *value[CMD_SETTINGS_MAX]; /* of setting_at(i), borrowed from argv; NULL: not given */
};

/* The options of every command that makes a job; the command's own are beside them. */
extern const struct cmd_option cmd_common_options[];
/* "memory_fraction" as people type it: "memory-fraction". */
enum { CMD_NAME_MAX = 32 };
const char *cmd_setting_name(const struct setting *s, char buf[CMD_NAME_MAX]);
bool cmd_has_setting(const struct cmd_command *c, const struct setting *s);

/* Reads all options of argv, and the preset and the profile they name; what is
 * no option is then argv[optind] and further. CMD_GO, or the exit status: help
 * was asked for and printed, or the usage is wrong (2), or a value is out of
 * range or a file is (1), and it was said. After CMD_GO, cmd_options_free. */
int cmd_options_read(struct cmd_options *o, const struct cmd_command *c, void *to, int argc, char **argv);
void cmd_options_free(struct cmd_options *o);

/* Where the model is: -m, or the preset's, or the shipped one. */
bool cmd_options_model(const struct cmd_options *o, char path[MODEL_PATH_MAX], struct err *e);

/* The job: the model's defaults with a random seed; the preset; its profile;
 * --profile; the options. False only when memory is refused; job_free it in
 * either case. A model that the preset was not made for is told on stderr. */
bool cmd_options_job(const struct cmd_options *o, const struct model *m, struct job *j, struct err *e);

/* Is there a prompt, from --prompt or the preset? Others go through preset_prompt(&o->preset, ...). */
bool cmd_options_has_prompt(const struct cmd_options *o);

#endif
