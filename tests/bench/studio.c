/* studio.c - see studio.h.
 *
 * The whole studio, with the fake engine, in a pseudo-terminal of which 64 KB/s are
 * read, as over a slow line; the terminal answers a question when it has come
 * through. Letters that nothing else on the screen has are typed, and the time until
 * each comes through is taken: with nothing else going on, which is the link's own
 * time and the loop's; then while previews flow. After that on a terminal that takes all at once,
 * while finished pictures of 1024x1024 follow each other: what their encoding costs. */
#include "tests/bench/studio.h"
#include "tests/fake_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOW = 64000, AT_ONCE = 200000000, KEYS = 100, KEY_MS = 22, LETTERS = 24 };

struct line {
    int fd, rate;            /* bytes/s */
    double free_at;          /* when the line has sent what was read */
    char sequence[32];       /* since the last ESC, outside of strings */
    size_t sequence_bytes;
    int in_string;           /* DCS, APC, OSC: 1; after an ESC in it: 2 */
    size_t bytes, pictures;
    unsigned char letter[2]; /* waited for; [0] 0: none */
    bool first;              /* its first byte has come */
    double typed_at, took;
    const char *da1;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void say(struct line *l, const char *text)
{
    if (write(l->fd, text, strlen(text)) < 0) perror("bench: pty");
}

static void sequence_done(struct line *l)
{
    l->sequence[l->sequence_bytes] = 0;
    if (!strcmp(l->sequence, "[5n")) say(l, "\033[0n");
    else if (!strcmp(l->sequence, "[c")) say(l, l->da1);
    else if (!strcmp(l->sequence, "[16t")) say(l, "\033[6;20;10t");
    l->sequence_bytes = 0;
}

/* One byte comes out at the far end. */
static void arrive(struct line *l, unsigned char c)
{
    l->bytes++;
    if (l->in_string) {
        if (c == 0x1b) l->in_string = 2;
        else if (l->in_string == 2) l->in_string = 0;
        else if (c == 7) l->in_string = 0;
        return;
    }
    if (c == 0x1b) {
        l->sequence_bytes = 0;
        l->sequence[l->sequence_bytes++] = 1; /* begun */
    } else if (l->sequence_bytes) {
        if (l->sequence_bytes == 1 && l->sequence[0] == 1) {
            if (c == 'P' || c == '_' || c == ']') {
                if (c != ']') l->pictures++;
                l->in_string = 1;
                l->sequence_bytes = 0;
                return;
            }
            l->sequence[0] = (char)c;
            if (c != '[' && c != '(') l->sequence_bytes = 0;
            else l->sequence_bytes = 1, l->sequence[0] = (char)c;
            return;
        }
        if (l->sequence_bytes < sizeof l->sequence - 1) l->sequence[l->sequence_bytes++] = (char)c;
        if (c >= 0x40 || l->sequence[0] == '(') sequence_done(l);
    } else if (l->letter[0]) {
        if (l->first && c == l->letter[1]) {
            l->took = now() - l->typed_at;
            l->letter[0] = 0;
        }
        l->first = c == l->letter[0];
    }
}

/* The line works for so long. */
static void pass(struct line *l, double seconds)
{
    double end = now() + seconds;

    for (double t; (t = now()) < end;) {
        unsigned char buf[16384];
        ssize_t n;
        if (l->free_at > t) {
            double wait = l->free_at - t;
            nanosleep(&(struct timespec){ 0, (long)(wait * 1e9) }, NULL);
            continue;
        }
        n = read(l->fd, buf, l->rate == SLOW ? 64 : sizeof buf);
        if (n <= 0) {
            struct pollfd p = { .fd = l->fd, .events = POLLIN };
            poll(&p, 1, 2);
            continue;
        }
        /* What was idle is lost; what is read now takes its time, and then is there. */
        l->free_at = (l->free_at > t - 0.002 ? l->free_at : t) + (double)n / l->rate;
        if (l->free_at > now()) nanosleep(&(struct timespec){ 0, (long)((l->free_at - now()) * 1e9) }, NULL);
        for (ssize_t i = 0; i < n; i++) arrive(l, buf[i]);
    }
}

static int upwards(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Types, prints the times in ms; returns the middle one. */
static double type(struct line *l, const char *what, double own)
{
    double took[KEYS];
    size_t bytes = l->bytes, pictures = l->pictures;
    double began = now();

    for (int i = 0; i < KEYS; i++) {
        char text[3] = { (char)0xce, (char)(0xb1 + i % LETTERS % 15), 0 }; /* alpha to omicron */
        l->letter[0] = (unsigned char)text[0];
        l->letter[1] = (unsigned char)text[1];
        l->first = false;
        l->took = -1;
        l->typed_at = now();
        say(l, text);
        pass(l, (KEY_MS + i % 7) / 1000.0);
        while (l->took < 0 && now() - l->typed_at < 3) pass(l, 0.002);
        took[i] = l->took < 0 ? 3000 : l->took * 1000;
        if (i % 15 == 14) { /* so that the line of text stays as short as it is */
            say(l, "\025");
            pass(l, 0.05);
        }
    }
    qsort(took, KEYS, sizeof *took, upwards);
    printf("  %-22s %5.1f %7.1f %7.1f ms", what, took[KEYS / 2], took[(KEYS - 1) * 99 / 100], took[KEYS - 1]);
    if (own > 0) printf("   p99 beyond the link's own %5.1f ms", took[(KEYS - 1) * 99 / 100] - own);
    printf("   %7.1f KB/s, %zu pieces\n", (double)(l->bytes - bytes) / (now() - began) / 1000, l->pictures - pictures);
    return took[KEYS / 2];
}

/* The studio with the fake engine at the other end. */
static pid_t begin(struct line *l, const char *graphics, const char *step_ms, bool truecolour, char folder[])
{
    struct winsize size = { .ws_row = 40, .ws_col = 120 };
    pid_t pid;

    if (!mkdtemp(folder) || (pid = forkpty(&l->fd, NULL, NULL, &size)) < 0) {
        perror("bench: studio");
        return -1;
    }
    if (pid == 0) {
        struct studio_options o = { .out_dir = folder };
        setenv("XDG_STATE_HOME", folder, 1); /* a queue and a history of its own */
        setenv("TERM", "xterm-256color", 1);
        setenv("LC_ALL", "C.UTF-8", 1);
        setenv("FAKE_ENGINE_STEP_MS", step_ms, 1);
        unsetenv("TMUX");
        unsetenv("NO_COLOR");
        unsetenv("COLORTERM");
        if (truecolour) setenv("COLORTERM", "truecolor", 1);
        graphics_from_name(&o.graphics, graphics);
        exit(studio_run(&o, fake_engine_start(), &fake_engine));
    }
    fcntl(l->fd, F_SETFL, O_NONBLOCK);
    pass(l, 1);
    return pid;
}

static void end(struct line *l, pid_t pid, const char *folder)
{
    char command[64];

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(l->fd);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command)) perror("bench: studio");
}

static void previews(const char *graphics, const char *da1, bool truecolour)
{
    struct line l = { .da1 = da1, .rate = SLOW };
    char title[64], folder[] = "/tmp/sluice-bench-XXXXXX";
    pid_t pid = begin(&l, graphics, "60", truecolour, folder);
    double own;

    if (pid < 0) return;
    snprintf(title, sizeof title, "%s%s, idle", graphics, truecolour ? " 24-bit" : "");
    own = type(&l, title, 0);
    say(&l, "\t\t\025400\r\033n"); /* 400 steps; back to the prompt by way of the negative one */
    pass(&l, 0.2);
    say(&l, "\033n");
    pass(&l, 3);
    snprintf(title, sizeof title, "%s%s, previews", graphics, truecolour ? " 24-bit" : "");
    type(&l, title, own);
    end(&l, pid, folder);
}

static void finals(const char *graphics, const char *da1)
{
    struct line l = { .da1 = da1, .rate = AT_ONCE };
    char title[64], text[8], folder[] = "/tmp/sluice-bench-XXXXXX";
    pid_t pid = begin(&l, graphics, "20", false, folder);

    if (pid < 0) return;
    for (int i = 0; i < 18; i++) { /* so many jobs of one step; of more it would ask */
        snprintf(text, sizeof text, "%s%d", i ? "|" : "{", i);
        say(&l, text);
    }
    say(&l, "}\t\0251024x1024\t\0251\r\033n");
    pass(&l, 0.2);
    say(&l, "\033n\025");
    pass(&l, 1);
    snprintf(title, sizeof title, "%s, 1024x1024", graphics);
    type(&l, title, 0);
    end(&l, pid, folder);
}

void bench_studio(void)
{
    static const char sixel[] = "\033[?62;4;22c", kitty[] = "\033_Gi=31;OK\033\\\033[?62;22c",
        neither[] = "\033[?62;22c";

    puts("\nStudio over a line of 64 KB/s: from a key to its letter, p50, p99, most");
    previews("sixel", sixel, false);
    previews("kitty", kitty, false);
    previews("blocks", neither, false);
    previews("blocks", neither, true);
    puts("The same on a terminal that takes all at once, while pictures are finished");
    finals("sixel", sixel);
    finals("kitty", kitty);
    finals("blocks", neither);
}
