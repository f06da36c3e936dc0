/* main.c - which command was asked for. Everything else is the commands'. */
#include "kernels/cpu.h"
#include "tui/cmd.h"
#include "tui/commands.h"

#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef SLUICE_VERSION
#define SLUICE_VERSION "0.1.0"
#endif

static void print_help(FILE *f)
{
    fputs("usage: sluice [OPTION...]            opens the studio\n"
          "       sluice COMMAND [OPTION...]\n"
          "\n"
          "Runs FLUX.1 models: prompt in, picture out, in a plain terminal.\n"
          "\n"
          "commands:\n",
          f);
    for (const struct command *c = commands; c->name; c++) fprintf(f, "  %-10s %s\n", c->name, c->what);
    fputs("  help       this text; help COMMAND: that of a command\n"
          "\n"
          "Every setting of a picture is an option: sluice help generate lists them.\n"
          "others: --help, --version. The manual: man sluice\n",
          f);
}

static int run(const char *name, int argc, char **argv)
{
    for (const struct command *c = commands; c->name; c++)
        if (!strcmp(c->name, name)) return cmd_finish(c->run(argc, argv));
    fputs("sluice: there is no command \"", stderr);
    cmd_print(stderr, name);
    fputs("\"; see sluice --help\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    /* A stream that was closed must not get its number taken by a picture's file. */
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return 1;
    cpu_quiet_threads(argv);
    prctl(PR_SET_NAME, "sluice"); /* begun once more through /proc, it would be "exe" to top and pkill */
    /* Characters only: numbers are written and read the same way everywhere. */
    setlocale(LC_CTYPE, "");
    if (argc < 2) return cmd_studio(argc, argv);
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        puts("sluice " SLUICE_VERSION);
        return cmd_finish(0);
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || (!strcmp(argv[1], "help") && argc == 2)) {
        print_help(stdout);
        return cmd_finish(0);
    }
    if (!strcmp(argv[1], "help")) {
        char help[] = "--help";
        char *of[] = { argv[2], help, NULL };
        return run(argv[2], 2, of);
    }
    if (argv[1][0] == '-') return cmd_studio(argc, argv);
    return run(argv[1], argc - 1, argv + 1);
}
