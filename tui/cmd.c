/* cmd.c - see cmd.h. */
#include "tui/cmd.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void cmd_say(const char *text)
{
    fputs("sluice: ", stderr);
    cmd_print(stderr, text);
    fputc('\n', stderr);
}

int cmd_fail(const struct err *e)
{
    cmd_say(e->text);
    return 1;
}

int cmd_usage(const char *command, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fprintf(stderr, "sluice %s: ", command);
    cmd_print(stderr, text);
    fprintf(stderr, "; see sluice %s --help\n", command);
    return 2;
}

int cmd_no_option(const char *command, char **argv)
{
    /* Within "-xyz" optind has not moved on yet; for a long option optopt is no letter. */
    if (optopt > ' ' && optopt < 0x7f)
        return cmd_usage(command, "there is no option -%c", optopt);
    return cmd_usage(command, "there is no option %s", argv[optind - 1]);
}

int cmd_finish(int status)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    /* A write that failed earlier has left no errno; what it printed is lost all the same. */
    fprintf(stderr, "sluice: standard output: %s\n", errno ? strerror(errno) : "not all could be written");
    return status ? status : 1;
}

bool cmd_number(const char *text, int64_t lowest, int64_t highest, int64_t *out)
{
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < lowest || n > highest)
        return false;
    *out = n;
    return true;
}

const char *cmd_bytes(uint64_t bytes, char buf[CMD_BYTES_MAX])
{
    static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };
    double n = (double)bytes;
    int u = 0;
    while (n >= 999.5)
        n /= 1000, u++;
    int digits = u == 0 || n >= 99.95 ? 0 : n >= 9.995 ? 1 : 2;
    snprintf(buf, CMD_BYTES_MAX, "%.*f %s", digits, n, units[u]);
    return buf;
}

void cmd_print(FILE *f, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
        /* U+0080 to U+009f, in UTF-8 c2 80 to c2 9f, are control characters too */
        bool control = *s < 0x20 || *s == 0x7f || (s[0] == 0xc2 && s[1] >= 0x80 && s[1] < 0xa0);
        fputc(control ? '?' : *s, f);
        s += control && *s == 0xc2;
    }
}

void cmd_words(int column, int from, const char *text)
{
    do {
        size_t n = strcspn(text, " ");
        if (column > from && column + 1 + (int)n > CMD_WIDTH) {
            putchar('\n');
            column = 0;
        }
        int blanks = column < from ? from - column : column > from;
        printf("%*s%.*s", blanks, "", (int)n, text);
        column += blanks + (int)n;
        text += n + strspn(text + n, " ");
    } while (*text);
    putchar('\n');
}
