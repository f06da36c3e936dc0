/* cmd_job.h - the job that a command line asks for: what generate and queue add
 * have in common beside the settings. */
#ifndef SLUICE_CMD_JOB_H
#define SLUICE_CMD_JOB_H

#include "tui/cmd_options.h"

enum { CMD_JOB_PROMPTS = 600, CMD_JOB_INIT_LATENTS, CMD_JOB_WILDCARDS, CMD_JOB_LISTS };

/* Rows of a command's own options. */
#define CMD_JOB_OPTIONS \
    { "prompts", CMD_JOB_PROMPTS, "FILE", "further prompts, one a line; blank lines and comments (#) are left out" }, \
    { "wildcards", CMD_JOB_WILDCARDS, "all|N", \
      "{red|blue} and __LIST__ in prompts: a picture of each choice, or N drawn by the seed" }, \
    { "lists", CMD_JOB_LISTS, "DIR", "where LIST.txt are (default: ~/.config/sluice/wildcards)" }, \
    { "init-latents", CMD_JOB_INIT_LATENTS, "FILE", "safetensors, tensor \"latent\" [16,h,w] F32, instead of noise" }

/* All borrowed from the command line. */
struct cmd_job {
    const char *output, *prompts, *init_latents, *dump_stages, *lists;
    bool wildcards;
    int draws; /* 0: all */
};

/* One of these options. 0, or the exit status. */
int cmd_job_take(struct cmd_job *r, const char *command, int letter, const char *value);
/* The name of a file or folder, which is not empty. */
int cmd_job_name(const char **field, const char *command, const char *option, const char *value);

/* A wildcard's list (wildcard.h): of $XDG_CONFIG_HOME/sluice/wildcards, or as --lists says. request: a struct
 * cmd_job. */
char *cmd_job_list(void *request, const char *name, struct err *e);

/* The checked job of these options and arguments, its seed drawn; what is rounded is said. path: of its model. False
 * with e set; job_free(j) in either case. */
bool cmd_job_make(struct job *j, const struct cmd_job *r, const struct cmd_options *o, char **arguments,
                  char path[MODEL_PATH_MAX], struct err *e);

#endif
