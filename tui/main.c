/* main.c - which command was asked for. Everything else is the commands'. */
#include "kernels/cpu.h"
#include "tui/cmd.h"

#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#ifndef SLUICE_VERSION
#define SLUICE_VERSION "0.1.0"
#endif

static const struct {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "studio", "the studio (the same as sluice alone)", cmd_studio },
    { "generate", "a picture from a prompt, without the studio", cmd_generate },
    { "plan", "where the memory of a picture will go, before it runs", cmd_plan },
    { "decode", "pictures from latents that a stopped batch has kept", cmd_decode },
    { "preset", "list, show, compare and check presets: what a picture is", cmd_preset },
    { "profile", "list, show and explain profiles: how memory is used", cmd_profile },
    { "cache", "what is kept of encoded prompts", cmd_cache },
    { "inspect", "what a model is", cmd_inspect },
    { "bench", "the time and memory that pictures take on this machine", cmd_bench },
    { "doctor", "what this machine has for sluice, and what is wrong", cmd_doctor },
    { "synth", "a model with random weights, for tests and benchmarks", cmd_synth },
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static void print_help(FILE *f)
{
    fputs("usage: sluice [OPTION...]            opens the studio\n"
          "       sluice COMMAND [OPTION...]\n"
          "\n"
          "Runs FLUX.1 models: prompt in, picture out, in a plain terminal.\n"
          "\n"
          "commands:\n",
          f);
    for (int i = 0; i < COMMANDS; i++) fprintf(f, "  %-10s %s\n", commands[i].name, commands[i].what);
    fputs("  help       this text; help COMMAND: that of a command\n"
          "\n"
          "Every setting of a picture is an option: sluice help generate lists them.\n"
          "others: --help, --version. The manual: man sluice\n",
          f);
}

static int run(const char *name, int argc, char **argv)
{
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(commands[i].name, name)) return cmd_finish(commands[i].run(argc, argv));
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
