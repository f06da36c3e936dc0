/* cmd.h - the commands of the program, and what they share.
 *
 * Each command gets its own argv (argv[0] is the command's name) and returns
 * the exit status: 0 done, 1 something given is wrong or the system refused
 * (one line on stderr, "sluice: ..."), 2 wrong usage. */
#ifndef SLUICE_CMD_H
#define SLUICE_CMD_H

#include "kernels/err.h"

#include <stdint.h>
#include <stdio.h>

int cmd_studio(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_synth(int argc, char **argv);
int cmd_queue(int argc, char **argv);
int cmd_history(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_preset(int argc, char **argv);
int cmd_profile(int argc, char **argv);
int cmd_decode(int argc, char **argv);
int cmd_cache(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_completion(int argc, char **argv);

/* "sluice: text" on stderr. */
void cmd_say(const char *text);
/* The same of a failure; returns 1. */
int cmd_fail(const struct err *e);

/* "sluice COMMAND: ...; see sluice COMMAND --help" on stderr; returns 2. */
int cmd_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* cmd_usage for the option that getopt_long just answered with '?'. */
int cmd_no_option(const char *command, char **argv);

/* What a command returned, or 1, with one line on stderr, if standard output
 * did not take all that was printed (a full disk, a closed pipe). */
int cmd_finish(int status);

/* The whole of `text` as a number in lowest..highest, or false. */
bool cmd_number(const char *text, int64_t lowest, int64_t highest, int64_t *out);

/* "9.52 GB", "246 MB", "1.5 kB" (powers of 1000, as disks and cards are sold); returns buf. */
enum { CMD_BYTES_MAX = 32 };
const char *cmd_bytes(uint64_t bytes, char buf[CMD_BYTES_MAX]);

/* text on stdout from column `from` on, in as many lines as CMD_WIDTH asks for;
 * `column` cells of the first line are taken. */
enum { CMD_WIDTH = 90 };
void cmd_words(int column, int from, const char *text);

/* Prints text from a file without its control characters. */
void cmd_print(FILE *f, const char *text);

#endif
