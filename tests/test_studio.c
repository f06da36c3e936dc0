/* test_studio.c - the studio in a pseudo-terminal: keys in, cells out.
 *
 * The child runs the whole studio (loop, view, curses) with the fake engine,
 * whose timing is known; the last cases run the real binary. What it writes
 * goes through libvterm, after the strings libvterm 0.1 does not know (sixel,
 * kitty) have been cut out and counted. libvterm's answers (DA1, DSR) go back,
 * so a studio that waits for the terminal is waited for. */
#include "tests/view_help.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <locale.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>
#include <vterm.h>
#include <wchar.h>

#include <cmocka.h>

enum { KITTY_ID = 7341 }; /* the first of term's */

struct pty {
    pid_t pid;
    int fd, keep_open; /* our copy of the child's side, for its termios after the end */
    VTerm *vt;
    VTermScreen *screen;
    int cols, rows;
    bool alt, cursor;
    int in_string;     /* inside DCS or APC: 1; after its ESC: 2; after an ESC outside: 3 */
    char kind, string[64];
    size_t string_bytes, all_bytes;
    int sixels, kitties, syncs;
    bool kitty_up[256]; /* by id, from KITTY_ID on: placed and not deleted */
    const char *da1;   /* answered instead of libvterm's, or NULL */
    bool mute, ended;  /* mute: answer nothing */
    int status;
    char tail[4096];   /* the last bytes the child wrote */
    size_t tail_bytes;
    struct termios before;
};

static char out_dir[] = "/tmp/sluice-studio-XXXXXX";

static int on_prop(VTermProp prop, VTermValue *v, void *user)
{
    struct pty *p = user;

    if (prop == VTERM_PROP_ALTSCREEN) p->alt = v->boolean;
    if (prop == VTERM_PROP_CURSORVISIBLE) p->cursor = v->boolean;
    return 1;
}

static const VTermScreenCallbacks callbacks = { .settermprop = on_prop };

static void new_emulator(struct pty *p, int cols, int rows)
{
    p->cols = cols;
    p->rows = rows;
    p->vt = vterm_new(rows, cols);
    vterm_set_utf8(p->vt, 1);
    p->screen = vterm_obtain_screen(p->vt);
    vterm_screen_enable_altscreen(p->screen, 1);
    vterm_screen_set_callbacks(p->screen, &callbacks, p);
    vterm_screen_reset(p->screen, 1);
}

/* Where the next studio keeps queue and history; a new place for each, but for one that is to go on. */
/* A session's first process is no job: nobody could continue it. So between it and the studio this,
 * which does what a shell does for one; returns in the studio's process. */
static void be_shell(void)
{
    pid_t job = fork();
    int status;

    if (job == 0) {
        setpgid(0, 0);
        signal(SIGTTOU, SIG_IGN);
        tcsetpgrp(0, getpid());
        signal(SIGTTOU, SIG_DFL);
        return;
    }
    signal(SIGTTOU, SIG_IGN);
    for (;;) {
        if (waitpid(job, &status, WUNTRACED) != job) continue;
        if (!WIFSTOPPED(status)) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128);
        tcsetpgrp(0, getpid());
        if (write(1, "[stopped]", 9) < 0) _exit(1);
        usleep(400 * 1000);
        tcsetpgrp(0, job);
        kill(-job, SIGCONT);
    }
}

static char state_dir[64];
static bool same_state;
static const char *start_in; /* the next one's home and working folder, for one that may write anything; NULL: ours */

/* argv[0] "fake": the studio with the fake engine, argv[1]: its graphics; then perhaps "mouse" or "mono". */
static void start(struct pty *p, int cols, int rows, const char *da1, char **argv)
{
    struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
    int slave;

    static int states;

    if (!same_state) snprintf(state_dir, sizeof state_dir, "%s/state-%d", out_dir, states++);
    memset(p, 0, sizeof *p);
    p->da1 = da1;
    new_emulator(p, cols, rows);
    assert_int_equal(openpty(&p->fd, &slave, NULL, NULL, &size), 0);
    p->keep_open = slave;
    tcgetattr(slave, &p->before);
    p->pid = fork();
    if (p->pid == 0) {
        close(p->fd);
        login_tty(slave);
        setenv("TERM", getenv("PTY_TERM") ? getenv("PTY_TERM") : "xterm-256color", 1);
        setenv("LC_ALL", getenv("PTY_LC_ALL") ? getenv("PTY_LC_ALL") : "C.UTF-8", 1);
        setenv("XDG_STATE_HOME", state_dir, 1);
        if (start_in) {
            static const char *const places[] = { "HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME",
                                                  "XDG_RUNTIME_DIR" };
            for (size_t i = 0; i < sizeof places / sizeof *places; i++) setenv(places[i], start_in, 1);
            setenv("VISUAL", "true", 1);
            if (chdir(start_in)) _exit(126);
        }
        unsetenv("TMUX");
        unsetenv("COLORTERM");
        if (!getenv("KEEP_NO_COLOR")) unsetenv("NO_COLOR");
        signal(SIGINT, SIG_DFL);
        signal(SIGTSTP, SIG_DFL);
        for (int s = SIGSEGV; s; s = 0) signal(s, SIG_DFL);
        if (argv[2] && !strcmp(argv[2], "shell")) be_shell();
        if (!strcmp(argv[0], "fake")) {
            static const struct theme mono = { .base = THEME_MONO };
            struct studio_options o = { .out_dir = out_dir, .mouse = argv[2] && !strcmp(argv[2], "mouse"),
                                        .theme = argv[2] && !strcmp(argv[2], "mono") ? &mono : NULL };
            graphics_from_name(&o.graphics, argv[1]);
            exit(studio_run(&o, fake_engine_start(), &fake_engine));
        }
        execv(argv[0], argv);
        _exit(127);
    }
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
}

static void start_fake(struct pty *p, int cols, int rows)
{
    start(p, cols, rows, NULL, (char *[]){ "fake", "blocks", NULL });
}

static void send_bytes(struct pty *p, const char *s, size_t n)
{
    while (n) {
        ssize_t w = write(p->fd, s, n);
        if (w > 0) {
            s += w;
            n -= (size_t)w;
        } else if (errno == EAGAIN) { /* the child's input is full: let it read */
            struct pollfd pf = { .fd = p->fd, .events = POLLOUT };
            if (poll(&pf, 1, 100) == 0 && waitpid(p->pid, &p->status, WNOHANG) == p->pid) {
                p->ended = true;
                fail_msg("the studio has ended while it was written to");
            }
        } else {
            fail_msg("cannot write to the studio: %s", strerror(errno));
        }
    }
}

static void keys(struct pty *p, const char *s)
{
    send_bytes(p, s, strlen(s));
}

static void resize(struct pty *p, int cols, int rows)
{
    struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

    p->cols = cols;
    p->rows = rows;
    vterm_set_size(p->vt, rows, cols);
    ioctl(p->fd, TIOCSWINSZ, &w);
    kill(p->pid, SIGWINCH);
}

static void string_end(struct pty *p)
{
    const char *i;
    int id;

    p->string[p->string_bytes < sizeof p->string ? p->string_bytes : sizeof p->string - 1] = 0;
    if (p->kind == 'P') p->sixels++;
    else if (strstr(p->string, "a=p")) p->kitties++;
    if (p->kind == '_' && (i = strstr(p->string, ",i=")) && (id = atoi(i + 3) - KITTY_ID) >= 0 && id < 256) {
        if (strstr(p->string, "a=p")) p->kitty_up[id] = true;
        if (strstr(p->string, "a=d")) p->kitty_up[id] = false;
    }
    p->in_string = 0;
}

static void take(struct pty *p, const char *s, size_t n)
{
    char plain[8192];
    size_t m = 0;

    p->all_bytes += n;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (p->tail_bytes == sizeof p->tail) {
            memmove(p->tail, p->tail + 1024, sizeof p->tail - 1024);
            p->tail_bytes -= 1024;
        }
        p->tail[p->tail_bytes++] = c;
        switch (p->in_string) {
        case 0:
            if (c == '\033') p->in_string = 3;
            else plain[m++] = c;
            break;
        case 3:
            if (c == 'P' || c == '_') {
                p->in_string = 1;
                p->kind = c;
                p->string_bytes = 0;
            } else {
                plain[m++] = '\033';
                plain[m++] = c;
                p->in_string = 0;
            }
            break;
        case 1:
            if (c == '\033') p->in_string = 2;
            else if (p->string_bytes < sizeof p->string - 1) p->string[p->string_bytes++] = c;
            break;
        default:
            string_end(p);
            break;
        }
    }
    vterm_input_write(p->vt, plain, m);
}

static bool contains(const struct pty *p, const char *what)
{
    return memmem(p->tail, p->tail_bytes, what, strlen(what)) != NULL;
}

static void answer(struct pty *p)
{
    char out[1024];
    size_t n = vterm_output_read(p->vt, out, sizeof out);
    char *da;

    if (!n || p->mute) return;
    da = p->da1 ? memmem(out, n, "\033[?1;2c", 7) : NULL;
    if (da) {
        send_bytes(p, out, (size_t)(da - out));
        keys(p, p->da1);
        da += 7;
        send_bytes(p, da, n - (size_t)(da - out));
    } else {
        send_bytes(p, out, n);
    }
}

/* Reads for up to ms; returns after 30 quiet ms if `quiet`. */
static void listen_ms(struct pty *p, int ms, bool quiet)
{
    struct timespec a, b;
    char buf[4000];

    clock_gettime(CLOCK_MONOTONIC, &a);
    for (;;) {
        struct pollfd pf = { .fd = p->fd, .events = POLLIN };
        int got = poll(&pf, 1, 30);
        ssize_t n = got > 0 ? read(p->fd, buf, sizeof buf) : 0;
        if (n > 0) {
            take(p, buf, (size_t)n);
            answer(p);
        }
        if (got == 0 && quiet) return;
        clock_gettime(CLOCK_MONOTONIC, &b);
        if ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 >= ms) return;
        if (!p->ended && waitpid(p->pid, &p->status, WNOHANG) == p->pid) p->ended = true;
        if (p->ended && got == 0) return;
    }
}

/* One small read. */
static void listen_some(struct pty *p)
{
    char buf[256];
    ssize_t n = poll(&(struct pollfd){ .fd = p->fd, .events = POLLIN }, 1, 30) > 0 ? read(p->fd, buf, sizeof buf) : 0;

    if (n > 0) {
        take(p, buf, (size_t)n);
        answer(p);
    }
}

/* Until it has read nearly all that it was sent: it is not to see thousands of keys at once. */
static void keep_pace(struct pty *p)
{
    int unread = 0;

    do {
        if (unread || poll(&(struct pollfd){ .fd = p->fd, .events = POLLIN }, 1, 0) > 0) listen_some(p);
        if (waitpid(p->pid, &p->status, WNOHANG) == p->pid) p->ended = true;
    } while (!p->ended && ioctl(p->keep_open, FIONREAD, &unread) == 0 && unread > 16);
}

static void text_of(struct pty *p, char *out, size_t size)
{
    size_t n = 0;

    for (int y = 0; y < p->rows && n + 8 * 300 < size; y++) {
        size_t end = n;
        for (int x = 0; x < p->cols; x++) {
            VTermScreenCell c;
            vterm_screen_get_cell(p->screen, (VTermPos){ y, x }, &c);
            if (c.chars[0] == (uint32_t)-1) continue;
            if (!c.chars[0]) c.chars[0] = ' ';
            for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && c.chars[i]; i++) {
                int w = wctomb(out + n, (wchar_t)c.chars[i]);
                if (w > 0) n += (size_t)w;
            }
            if (c.chars[0] != ' ') end = n;
        }
        n = end;
        out[n++] = '\n';
    }
    out[n] = 0;
}

static bool on_screen(struct pty *p, const char *what)
{
    static char text[65536];

    text_of(p, text, sizeof text);
    return strstr(text, what) != NULL;
}

static void wait_for(struct pty *p, const char *what, int ms)
{
    static char text[65536];
    bool there = false;

    for (int t = 0; t < ms && !there; t += 60) {
        listen_ms(p, 60, true);
        there = on_screen(p, what);
        if (p->ended) break;
    }
    if (!there && !on_screen(p, what)) {
        text_of(p, text, sizeof text);
        fputs(text, stderr);
        kill(p->pid, SIGKILL);
        fail_msg("\"%s\" did not appear in %d ms%s", what, ms, p->ended ? " (the studio has ended)" : "");
    }
}

/* Waits until sampling has come to step `least`: a loaded machine skips some. */
static void wait_for_step(struct pty *p, int least, int ms)
{
    static char text[65536];

    for (int t = 0; t < ms; t += 60) {
        const char *at;
        listen_ms(p, 60, false);
        text_of(p, text, sizeof text);
        at = strstr(text, "step ");
        if (at && atoi(at + 5) >= least) return;
    }
    fputs(text, stderr);
    fail_msg("step %d was not reached in %d ms", least, ms);
}

/* Waits for the end and looks at what is left: the main screen, the cursor
 * shown, paste mode off, the tty's modes as before. */
static void expect_clean_end(struct pty *p, int ms)
{
    struct termios after;

    for (int t = 0; t < ms && !p->ended; t += 50) listen_ms(p, 50, false);
    if (!p->ended) {
        kill(p->pid, SIGKILL);
        fail_msg("the studio did not end in %d ms", ms);
    }
    listen_ms(p, 5000, true);
    assert_false(p->alt);
    assert_true(p->cursor);
    assert_true(contains(p, "\033[?2004l"));
    tcgetattr(p->keep_open, &after);
    assert_int_equal(after.c_lflag & (ICANON | ECHO | ISIG), p->before.c_lflag & (ICANON | ECHO | ISIG));
    assert_int_equal(after.c_iflag, p->before.c_iflag);
    assert_int_equal(after.c_oflag, p->before.c_oflag);
}

static void finish(struct pty *p)
{
    if (!p->ended) {
        kill(p->pid, SIGKILL);
        waitpid(p->pid, &p->status, 0);
    }
    close(p->fd);
    close(p->keep_open);
    vterm_free(p->vt);
}

static const char *binary(char buf[256])
{
    const char *build = getenv("SLUICE_BUILD");

    snprintf(buf, 256, "%s/sluice", build ? build : "build");
    return access(buf, X_OK) == 0 ? buf : NULL;
}

/* --- cases ------------------------------------------------------------------------- */

static void test_picture_in_a_terminal(void **state)
{
    (void)state;
    struct pty p;
    glob_t files;
    char pattern[128];

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe a picture", 10000);
    assert_true(p.alt);
    keys(&p, "a red apple\r");
    wait_for(&p, "transformer  step", 10000);
    wait_for(&p, "▀▀▀▀▀▀", 10000);
    keys(&p, " and a pear"); /* typing goes on while it runs */
    wait_for(&p, "a red apple and a pear", 2000);
    wait_for(&p, "Saved ", 10000);
    keys(&p, "\033OP"); /* F1: what lies over it goes, and it is there again */
    wait_for(&p, "type to search", 10000);
    assert_false(on_screen(&p, "▀▀▀▀▀▀"));
    keys(&p, "\033");
    wait_for(&p, "▀▀▀▀▀▀", 10000);
    keys(&p, "\021"); /* ^Q */
    expect_clean_end(&p, 10000);
    assert_true(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 0);
    snprintf(pattern, sizeof pattern, "%s/20*-*.png", out_dir);
    assert_int_equal(glob(pattern, 0, NULL, &files), 0);
    assert_int_equal(files.gl_pathc, 1);
    unlink(files.gl_pathv[0]);
    globfree(&files);
    finish(&p);
}

static int64_t child_cpu_us(const struct pty *p)
{
    clockid_t clock;
    struct timespec used;

    assert_int_equal(clock_getcpuclockid(p->pid, &clock), 0);
    assert_int_equal(clock_gettime(clock, &used), 0);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* Nobody types, nothing runs: not a byte goes to the terminal, and next to no time is used. */
static void test_idle_costs_nothing(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    for (int round = 0; round < 3; round++) {
        if (round == 1) {
            keys(&p, "x\r");
            wait_for(&p, "Saved", 10000);
        } else if (round == 2) {
            keys(&p, "\033OQ"); /* presets */
            wait_for(&p, "Esc Back", 10000);
        }
        listen_ms(&p, 700, false);
        size_t bytes = p.all_bytes;
        int64_t used = child_cpu_us(&p);
        listen_ms(&p, 2000, false);
        used = child_cpu_us(&p) - used;
        assert_int_equal(p.all_bytes, bytes);
        if (used >= 20000) fail_msg("round %d: %d us of 2 s", round, (int)used); /* 1 % of a core */
    }
    keys(&p, "\033");
    wait_for(&p, "[ Generate ]", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* What a key changes is sent, not the screen. */
static void test_bytes_of_a_key(void **state)
{
    (void)state;
    static const char *const pressed[] = {
        "a", "b", " ", "\177", "\001", "\005", "\t", "\t", "\033[C", "\033[D", "7", "8", "\177", "\033[Z",
        "\033[Z", "c",
    };
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    for (int with_picture = 0; with_picture < 2; with_picture++) {
        listen_ms(&p, 300, false);
        for (size_t i = 0; i < sizeof pressed / sizeof *pressed; i++) {
            size_t before = p.all_bytes;
            keys(&p, pressed[i]);
            listen_ms(&p, 80, false);
            if (p.all_bytes - before >= 2048) fail_msg("key %zu: %zu bytes", i, p.all_bytes - before);
        }
        if (!with_picture) {
            keys(&p, "\r");
            wait_for(&p, "Saved", 10000);
        }
    }
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_typing_is_live(void **state)
{
    (void)state;
    struct pty p;
    struct timespec a, b;

    start_fake(&p, 120, 40);
    wait_for(&p, "Describe", 10000);
    keys(&p, "\t\0251024x1024\t\025300\r\t\t\t\t"); /* size, steps, go, and back to the prompt */
    wait_for(&p, "preview", 10000);
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 20; i++) {
        char letter[2] = { (char)('a' + i), 0 }, sofar[32];
        keys(&p, letter);
        for (int j = 0; j <= i; j++) sofar[j] = (char)('a' + j);
        sofar[i + 1] = 0;
        wait_for(&p, sofar, 2000);
    }
    clock_gettime(CLOCK_MONOTONIC, &b);
    assert_true(b.tv_sec - a.tv_sec < 15);
    keys(&p, "\033");
    wait_for(&p, "Cancelled", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_cancel_and_interrupt(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "x\r");
    wait_for(&p, "step", 10000);
    keys(&p, "\r");
    wait_for(&p, "+1 queued", 10000);
    keys(&p, "\003");
    wait_for(&p, "Cancelled", 10000);
    wait_for(&p, "step", 10000); /* the queued one goes on */
    keys(&p, "\003\003");
    expect_clean_end(&p, 10000);
    assert_true(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 0);
    finish(&p);
}

static void test_resizing(void **state)
{
    (void)state;
    static const struct { int cols, rows; const char *shows; } sizes[] = {
        { 40, 10, "[ Generate ]" }, { 20, 5, "terminal too small" }, { 1, 1, "" }, { 200, 60, "Memory" },
        { 80, 24, "Memory" },
    };
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "kept");
    wait_for(&p, "kept", 10000);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        resize(&p, sizes[i].cols, sizes[i].rows);
        listen_ms(&p, 300, true);
        wait_for(&p, sizes[i].shows, 10000);
    }
    wait_for(&p, "kept", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* Sizes that only a program would give its terminal: to one that runs (the emulator keeps its own), and at the
 * start. */
static void test_sizes_beyond_curses(void **state)
{
    (void)state;
    static const struct winsize sizes[] = {
        { .ws_col = 65535, .ws_row = 3 }, { .ws_col = 80, .ws_row = 24 }, { .ws_col = 32768, .ws_row = 40 },
        { .ws_col = 2, .ws_row = 65535 },
        { .ws_col = 0, .ws_row = 0 }, { .ws_col = 2001, .ws_row = 5, .ws_xpixel = 65535, .ws_ypixel = 65535 },
    };
    struct pty p;
    char program[256];

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "kept");
    for (int round = 0; round < 3; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            ioctl(p.fd, TIOCSWINSZ, &sizes[i]);
            listen_ms(&p, 100, false);
            assert_false(p.ended);
        }
    resize(&p, 80, 24);
    wait_for(&p, "kept", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);

    if (!binary(program)) return;
    setenv("COLUMNS", "99999", 1);
    start(&p, 80, 24, NULL,
          (char *[]){ "/bin/sh", "-c", "stty cols 65535 rows 30; exec \"$0\" -m assets/demo", program, NULL });
    unsetenv("COLUMNS");
    for (int t = 0; t < 100 && !p.alt; t++) listen_ms(&p, 60, false);
    resize(&p, 80, 24);
    wait_for(&p, "Prompt", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_large_paste(void **state)
{
    (void)state;
    struct pty p;
    enum { N = 100 * 1024 };
    char *text = malloc(N + 1);

    for (int i = 0; i < N; i++) text[i] = i % 50 == 49 ? '\n' : i % 7 == 6 ? ' ' : (char)('a' + i % 26);
    text[N] = 0;
    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    assert_true(contains(&p, "\033[?2004h"));
    keys(&p, "\033[200~");
    for (int i = 0; i < N; i += 1024) {
        send_bytes(&p, text + i, 1024);
        listen_ms(&p, 5, true);
    }
    keys(&p, "\033[201~");
    wait_for(&p, "row 20", 10000);
    assert_false(on_screen(&p, "step")); /* its newlines did not press Enter */
    keys(&p, "\025");
    wait_for(&p, "Describe a picture", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    free(text);
    finish(&p);
}

static void test_crash_leaves_a_clean_terminal(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "crash\r"); /* in the engine's thread */
    expect_clean_end(&p, 10000);
    assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGSEGV);
    assert_true(contains(&p, "sluice: crashed"));
    finish(&p);
}

static void test_signals_end_it_cleanly(void **state)
{
    (void)state;
    static const int sent[] = { SIGTERM, SIGHUP, SIGINT };
    struct pty p;

    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        start_fake(&p, 80, 24);
        wait_for(&p, "Describe", 10000);
        keys(&p, "x\r");
        wait_for(&p, "step", 10000);
        kill(p.pid, sent[i]);
        expect_clean_end(&p, 10000);
        assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == sent[i]);
        finish(&p);
    }
}

static void test_suspend_and_back(void **state)
{
    (void)state;
    struct pty p;
    int status;
    struct termios now;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "kept");
    wait_for(&p, "kept", 10000);
    /* A session's first process is an orphaned group: SIGTSTP would be ignored
     * by the kernel. So only that the terminal is given back and taken again. */
    keys(&p, "\032");
    listen_ms(&p, 500, true);
    if (waitpid(p.pid, &status, WUNTRACED | WNOHANG) == p.pid && WIFSTOPPED(status)) {
        tcgetattr(p.keep_open, &now);
        assert_true(now.c_lflag & ICANON);
        assert_false(p.alt);
        kill(p.pid, SIGCONT);
    }
    wait_for(&p, "kept", 10000);
    keys(&p, " still");
    wait_for(&p, "kept still", 10000);
    assert_true(p.alt);
    tcgetattr(p.keep_open, &now);
    assert_false(now.c_lflag & ICANON);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* As a job of a shell: ^Z stops it with the terminal as it was, fg brings it back. */
static void test_stopped_and_continued(void **state)
{
    (void)state;
    struct pty p;

    start(&p, 80, 24, NULL, (char *[]){ "fake", "blocks", "shell", NULL });
    wait_for(&p, "Describe", 10000);
    for (int i = 0; i < 3; i++) {
        keys(&p, "kept \032");
        for (int t = 0; t < 100 && !contains(&p, "[stopped]"); t++) listen_ms(&p, 30, false);
        assert_true(contains(&p, "[stopped]"));
        assert_false(p.alt);
        assert_true(p.cursor);
        p.tail_bytes = 0;
        wait_for(&p, i ? "kept kept" : "kept", 10000);
        assert_true(p.alt);
    }
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* Stopped by another program in the middle of a screen that nobody reads: curses has no say in it. */
static void test_stopped_while_it_paints(void **state)
{
    (void)state;
    struct pty p;

    start(&p, 200, 60, NULL, (char *[]){ "fake", "blocks", "shell", NULL });
    wait_for(&p, "Describe", 10000);
    keys(&p, "x\r");
    wait_for(&p, "Saved", 10000);
    for (int i = 0; i < 3; i++) {
        keys(&p, "\014"); /* more than the way to the terminal holds */
        usleep(200 * 1000);
        kill(-tcgetpgrp(p.fd), SIGTSTP);
        for (int t = 0; t < 100 && !contains(&p, "[stopped]"); t++) listen_ms(&p, 30, false);
        assert_true(contains(&p, "[stopped]"));
        assert_false(p.alt);
        p.tail_bytes = 0;
        for (int t = 0; t < 100 && !p.alt; t++) listen_ms(&p, 30, false);
        wait_for(&p, "Saved", 10000);
    }
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* Half a picture is in the terminal when a signal ends the program: its string is ended, and all is put back. */
static void test_signals_in_a_picture(void **state)
{
    (void)state;
    static const int sent[] = { SIGTERM, SIGINT, SIGHUP, SIGSEGV, SIGABRT };
    struct pty p;

    for (size_t i = 0; i < sizeof sent / sizeof *sent; i++) {
        start(&p, 120, 40, "\033[?62;4c", (char *[]){ "fake", "sixel", NULL });
        wait_for(&p, "Describe", 10000);
        keys(&p, "x\t\t\025300\r");
        for (int t = 0; t < 400 && p.in_string != 1; t++) listen_some(&p);
        assert_int_equal(p.in_string, 1);
        kill(p.pid, sent[i]);
        usleep(100 * 1000); /* nobody reads: it has to wait */
        expect_clean_end(&p, 10000);
        assert_int_equal(p.in_string, 0);
        assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == sent[i]);
        finish(&p);
    }
}

/* 200 sizes in a row, faster than the studio can draw them, while a job runs. */
static void test_resize_storm(void **state)
{
    (void)state;
    struct pty p;
    uint32_t s = 2463534242u;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "kept\t\t\025900\r");
    wait_for_step(&p, 1, 10000);
    for (int i = 0; i <= 200; i++) {
        s = s * 1664525u + 1013904223u;
        if (i < 200) resize(&p, 1 + (int)((s >> 20) % 220), 1 + (int)((s >> 10) % 70));
        else resize(&p, 80, 24);
        listen_ms(&p, i % 10 == 9 ? 40 : 1, true);
        assert_false(p.ended);
    }
    wait_for(&p, "kept", 10000);
    wait_for(&p, "transformer", 10000);
    keys(&p, "\033");
    wait_for(&p, "Cancelled", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void write_script(char path[96], const char *name, const char *lines)
{
    FILE *f;

    snprintf(path, 96, "%s/%s", out_dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "#!/bin/sh\n%s\n", lines);
    fchmod(fileno(f), 0700);
    fclose(f);
}

/* The prompt in the user's own editor, which may fail, stop, be missing, or still be there when the end comes. */
static void test_own_editor(void **state)
{
    (void)state;
    static const struct { const char *lines, *shows; } cases[] = {
        { "printf 'second\\nthird\\n' >> \"$1\"", "│ third" },
        { "test \"$(stat -c %a \"$1\")\" = 600 && test \"$(cat \"$1\")\" = draft && echo private > \"$1\"",
          "│ private" },
        { "printf '\\033]0;x\\007\\342\\200\\256\\000y' > \"$1\"", "│ ]0;x y" },
        { "kill -STOP $$; echo again > \"$1\"", "│ again" },
        { "exit 3", "ended with status 3" },
        { "rm \"$1\"", "No such file" },
        { "kill -KILL $$", "signal 9" },
    };
    char path[96], left[96];
    struct pty p;
    glob_t files;

    setenv("XDG_RUNTIME_DIR", out_dir, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_script(path, "editor", cases[i].lines);
        setenv("VISUAL", path, 1);
        start_fake(&p, 80, 24);
        wait_for(&p, "Describe", 10000);
        keys(&p, "draft\033e");
        wait_for(&p, cases[i].shows, 10000);
        if (i > 3) assert_true(on_screen(&p, "│ draft"));
        assert_true(p.alt);
        keys(&p, "\021");
        expect_clean_end(&p, 10000);
        finish(&p);
    }
    setenv("VISUAL", "/nonexistent/editor -x", 1);
    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "\033e");
    wait_for(&p, "no such editor", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    /* the terminal is the editor's; a signal ends both */
    write_script(path, "editor", "echo here; exec sleep 60");
    setenv("VISUAL", path, 1);
    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "\033e");
    wait_for(&p, "here", 10000);
    assert_false(p.alt);
    kill(p.pid, SIGTERM);
    expect_clean_end(&p, 10000);
    assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGTERM);
    finish(&p);
    unsetenv("VISUAL");
    unsetenv("XDG_RUNTIME_DIR");
    unlink(path);
    snprintf(left, sizeof left, "%s/sluice-*.txt", out_dir);
    assert_int_equal(glob(left, 0, NULL, &files), GLOB_NOMATCH);
}

/* What was generated in one session can be found in the next. */
static void test_prompts_of_before(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "a quince\r");
    wait_for(&p, "Saved", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    same_state = true;
    start_fake(&p, 80, 24);
    same_state = false;
    wait_for(&p, "Describe", 10000);
    for (int i = 0; i < 20 && !on_screen(&p, "» a quince"); i++) { /* it takes a moment until they have been read */
        keys(&p, "\022");
        listen_ms(&p, 200, true);
    }
    wait_for(&p, "» a quince", 2000);
    keys(&p, "\r");
    wait_for(&p, "│ a quince ", 2000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_late_answers_are_not_typed(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "ab\033]11;rgb:ffff/ffff/ffff\033\\cd\033[?62;22;4c\033[6;20;10tef\033[4;400;800t\033[0n");
    keys(&p, "g");
    wait_for(&p, "abcdefg", 10000);
    assert_false(on_screen(&p, "rgb"));
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_sixel_only_where_it_is_said(void **state)
{
    (void)state;
    static const struct { const char *da1, *graphics; bool sixel, kitty; } cases[] = {
        { "\033[?62;4;22c", "auto", true, false },  { "\033[?64;14;40;24c", "auto", false, false },
        { "\033[?1;2c", "sixel", true, false },     { "\033[?62;4c", "blocks", false, false },
        { "\033[?62;4c", "none", false, false },    { "\033_Gi=31;OK\033\\\033[?62c", "auto", false, true },
    };
    struct pty p;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        start(&p, 80, 24, cases[i].da1, (char *[]){ "fake", (char *)cases[i].graphics, NULL });
        wait_for(&p, strcmp(cases[i].graphics, "none") ? "Describe" : "not shown", 10000);
        keys(&p, "x\r");
        wait_for(&p, "Saved", 10000);
        for (int t = 0; t < 30 && p.sixels + p.kitties == 0; t++)
            listen_ms(&p, t < 3 || cases[i].sixel || cases[i].kitty ? 100 : 1, false);
        if ((p.sixels > 0) != cases[i].sixel || (p.kitties > 0) != cases[i].kitty)
            fail_msg("case %zu: %d sixel and %d kitty pictures", i, p.sixels, p.kitties);
        /* the cells show it in any case but none */
        assert_int_equal(on_screen(&p, "▀▀▀▀"), strcmp(cases[i].graphics, "none") != 0);
        keys(&p, "\021");
        expect_clean_end(&p, 10000);
        assert_int_equal(p.in_string, 0);
        finish(&p);
    }
}

/* A terminal that does not answer a picture gets no second one for two
 * seconds, and typing goes on. */
static void test_pictures_wait_for_the_terminal(void **state)
{
    (void)state;
    struct pty p;

    start(&p, 80, 24, "\033[?62;4c", (char *[]){ "fake", "auto", NULL });
    wait_for(&p, "Describe", 10000);
    listen_ms(&p, 300, true);
    p.mute = true;
    keys(&p, "\t\t\02540\r\t\t\t\t");
    wait_for_step(&p, 10, 10000);
    keys(&p, "typed");
    wait_for(&p, "typed", 2000);
    wait_for_step(&p, 20, 10000);
    assert_true(p.sixels <= 2); /* two only if all this took more than two seconds */
    wait_for(&p, "Saved", 10000);
    for (int i = 0; i < 40 && p.sixels < 2; i++) listen_ms(&p, 100, false);
    assert_true(p.sixels >= 2); /* it is not waited for without end */
    p.mute = false;
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static int kitties_up(const struct pty *p)
{
    int n = 0;

    for (int i = 0; i < 256; i++) n += p->kitty_up[i];
    return n;
}

/* Until so many pictures are on the screen, and no other comes. */
static void wait_for_kitties(struct pty *p, int n)
{
    for (int t = 0; t < 100 && kitties_up(p) != n; t++) listen_ms(p, 60, false);
    listen_ms(p, 200, false);
    assert_int_equal(kitties_up(p), n);
}

/* Each thumbnail in the terminal's pixels: sent once, sent again only when something has lain over it, taken off when it
 * is gone. */
static void test_many_pictures(void **state)
{
    (void)state;
    struct pty p;

    setenv("FAKE_ENGINE_STEP_MS", "4", 1);
    start(&p, 120, 40, "\033_Gi=31;OK\033\\\033[?62c", (char *[]){ "fake", "auto", NULL });
    wait_for(&p, "Describe", 10000);
    keys(&p, "{a|b|c|d|e|f}\r");
    wait_for(&p, "_6.png", 10000);
    wait_for(&p, "Queue: empty", 10000);
    keys(&p, "\033[15~"); /* F5 */
    wait_for(&p, "Gallery: 6 pictures", 10000);
    wait_for_kitties(&p, 6);
    p.kitties = 0;
    keys(&p, "\033[C\033[C 3"); /* to another one, and marks */
    wait_for(&p, "*** d", 10000);
    wait_for_kitties(&p, 6);
    assert_int_equal(p.kitties, 0);
    keys(&p, "e"); /* a line to be typed, beside them */
    wait_for(&p, "Copy it to", 10000);
    wait_for_kitties(&p, 6);
    keys(&p, "\033");
    listen_ms(&p, 300, false);
    assert_int_equal(p.kitties, 0);
    keys(&p, "d");
    wait_for(&p, "Gallery: 5 pictures", 10000);
    wait_for_kitties(&p, 5);
    keys(&p, "v");
    wait_for(&p, "Thumbnails", 10000);
    wait_for_kitties(&p, 1);
    keys(&p, "\033[18~"); /* F7 */
    wait_for(&p, "Doctor", 10000);
    wait_for_kitties(&p, 0);
    keys(&p, "\033");
    wait_for(&p, "[ Generate ]", 10000);
    keys(&p, "\025a\033k\r");
    wait_for(&p, "12 of 12 seeds", 10000);
    wait_for_kitties(&p, 12);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    assert_int_equal(kitties_up(&p), 0);
    finish(&p);
    unsetenv("FAKE_ENGINE_STEP_MS");
}

static void test_without_colour(void **state)
{
    (void)state;
    struct pty p;
    VTermScreenCell c;

    setenv("NO_COLOR", "1", 1);
    setenv("KEEP_NO_COLOR", "1", 1);
    start_fake(&p, 80, 24);
    unsetenv("NO_COLOR");
    unsetenv("KEEP_NO_COLOR");
    wait_for(&p, "Describe", 10000);
    keys(&p, "x\r");
    wait_for(&p, "Saved", 10000);
    assert_true(on_screen(&p, "▒") || on_screen(&p, "░"));
    assert_false(on_screen(&p, "▀"));
    for (int y = 0; y < 24; y++)
        for (int x = 0; x < 80; x++) {
            vterm_screen_get_cell(p.screen, (VTermPos){ y, x }, &c);
            if (!VTERM_COLOR_IS_DEFAULT_FG(&c.fg) || !VTERM_COLOR_IS_DEFAULT_BG(&c.bg))
                fail_msg("colour at %d,%d", x, y);
        }
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* The theme mono is about the screen; a picture keeps its colours. */
static void test_theme(void **state)
{
    (void)state;
    struct pty p;
    VTermScreenCell c;
    int coloured = 0;

    start(&p, 80, 24, NULL, (char *[]){ "fake", "blocks", "mono", NULL });
    wait_for(&p, "Describe", 10000);
    for (int i = 0; i < 24 * 80; i++) {
        vterm_screen_get_cell(p.screen, (VTermPos){ i / 80, i % 80 }, &c);
        if (!VTERM_COLOR_IS_DEFAULT_FG(&c.fg) || !VTERM_COLOR_IS_DEFAULT_BG(&c.bg))
            fail_msg("colour at %d,%d", i % 80, i / 80);
    }
    keys(&p, "x\r");
    wait_for(&p, "Saved", 10000);
    for (int i = 0; i < 24 * 80; i++) {
        vterm_screen_get_cell(p.screen, (VTermPos){ i / 80, i % 80 }, &c);
        coloured += !VTERM_COLOR_IS_DEFAULT_FG(&c.fg);
    }
    assert_true(coloured > 100);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

/* An old terminal: no colours, no UTF-8, no alternate screen. */
static void test_plain_terminal(void **state)
{
    (void)state;
    struct pty p;

    setenv("PTY_TERM", "vt100", 1);
    setenv("PTY_LC_ALL", "C", 1);
    start_fake(&p, 80, 24);
    unsetenv("PTY_TERM");
    unsetenv("PTY_LC_ALL");
    wait_for(&p, "+- Prompt ---", 10000);
    keys(&p, "caf\xc3\xa9 \xe7\x8c\xab.\r");
    wait_for(&p, "| caf? ? .", 10000);
    wait_for(&p, "Saved", 10000);
    assert_true(on_screen(&p, ":::") || on_screen(&p, "+++"));
    for (size_t i = 0; i < p.tail_bytes; i++) assert_true((unsigned char)p.tail[i] < 0x80);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    assert_false(contains(&p, "$<")); /* padding is no text */
    finish(&p);
}

static void test_mouse(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    assert_false(contains(&p, "\033[?100")); /* off, nothing is said of it */
    keys(&p, "\033w");
    wait_for(&p, "Mouse on", 10000);
    assert_true(contains(&p, "\033[?1006h"));
    keys(&p, "\033w");
    wait_for(&p, "Mouse off", 10000);
    assert_true(contains(&p, "\033[?1000l"));
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    start(&p, 80, 24, NULL, (char *[]){ "fake", "blocks", "mouse", NULL });
    wait_for(&p, "Describe", 10000);
    assert_true(contains(&p, "\033[?1000h"));
    keys(&p, "\033[<0;65;11M\033[<0;65;11m"); /* the button */
    wait_for(&p, "Saved", 10000);
    keys(&p, "crash\r");
    expect_clean_end(&p, 10000);
    assert_true(contains(&p, "\033[?1000l"));
    finish(&p);
}

static void test_save_elsewhere(void **state)
{
    (void)state;
    struct pty p;
    char path[128];
    struct stat st;

    snprintf(path, sizeof path, "%s/elsewhere.png", out_dir);
    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "nosave\r");
    wait_for(&p, "NOT SAVED", 10000);
    assert_true(on_screen(&p, "▀▀▀▀"));
    keys(&p, "\023");
    wait_for(&p, "Save as", 10000);
    keys(&p, "\025/nonexistent/x.png\r");
    wait_for(&p, "Not saved: ", 10000);
    keys(&p, "\023\025");
    keys(&p, path);
    keys(&p, "\r");
    wait_for(&p, "Saved", 10000);
    assert_int_equal(stat(path, &st), 0);
    keys(&p, "\023\025");
    keys(&p, path); /* never over what is there */
    keys(&p, "\r");
    wait_for(&p, "there already", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    unlink(path);
    finish(&p);
}

static void test_failure_of_the_engine_is_told(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "fail\r");
    wait_for(&p, "tensor shared.weight is missing", 10000);
    keys(&p, "\025again\r");
    wait_for(&p, "Saved", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
}

static void test_hostile_bytes(void **state)
{
    (void)state;
    struct pty p;
    uint32_t s = 362436069u;
    char bytes[512];

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    for (int i = 0; i < 60; i++) {
        for (size_t j = 0; j < sizeof bytes; j++) {
            s = s * 1664525u + 1013904223u;
            bytes[j] = (char)(s >> 24);
            if (bytes[j] == 0x11 || bytes[j] == 3 || bytes[j] == 0x1a || bytes[j] == '\r') bytes[j] = ' ';
        }
        send_bytes(&p, bytes, sizeof bytes);
        listen_ms(&p, 20, true);
    }
    keys(&p, "\033[201~\033\\");
    listen_ms(&p, 1500, false);
    assert_false(p.ended);
    keys(&p, "\033\033");
    listen_ms(&p, 1200, false);
    keys(&p, "\021");
    expect_clean_end(&p, 8000);
    finish(&p);
}

/* --- the real binary ------------------------------------------------------------------ */

static void test_real_binary(void **state)
{
    (void)state;
    struct pty p;
    char path[256];

    if (!binary(path) || access("assets/demo/transformer/config.json", R_OK)) skip();
    start(&p, 100, 30, NULL, (char *[]){ path, "--graphics=blocks", "--out-dir", out_dir, "-m", "assets/demo", NULL });
    wait_for(&p, "Prompt", 10000);
    keys(&p, "a red apple on a blue background\t\025128x128\t\0252\r");
    wait_for(&p, "Saved", 60000);
    assert_true(on_screen(&p, "▀▀▀▀"));
    keys(&p, "\025900\r"); /* long enough to be stopped */
    wait_for(&p, "transformer", 20000);
    keys(&p, "\033");
    wait_for(&p, "Cancelled", 20000);
    keys(&p, "\021");
    expect_clean_end(&p, 20000);
    assert_true(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 0);
    finish(&p);
}

/* Keys at random to the real engine, all its threads and the disk, from where a picture is being made: nothing ends the
 * studio but ^Q. What a sanitizer finds ends it, too. 10,000 in five sessions, each with what the last one left in the
 * queue; SLUICE_SEED replays them, SLUICE_ROUNDS makes them longer. */
static void test_random_keys_to_the_real_engine(void **state)
{
    (void)state;
    /* What leads to other screens and to work. Letters come between; no path outside the studio's folder can be
     * typed. */
    static const char *const words[] = {
        "\r", "\r", "\r", "\033", "\033", "\t", "\t", "\033[Z", " ", "\177", "\025", "\033OP", "\033OQ", "\033OR",
        "\033OS", "\033[15~", "\033[17~",
        "\033[18~", "\033[19~", "\033[20~", "\033[A", "\033[B", "\033[C", "\033[D", "\033[H", "\033[F", "\033[5~",
        "\033[6~", "\033[3~", "\033k",
        "\033s", "\033r", "\033n", "\033e", "\033p", "\022", "\023", "\024", "\014", "\001", "\005", "\013", "\031",
        "{red|blue} ", "a pear ", "y",
        "\033[200~one\ntwo\033[201~", "\033[<0;20;10M", "\033[<64;20;10M", "\xe7\x8c\xab",
    };
    enum { SESSIONS = 5 };
    struct pty p;
    glob_t made;
    char program[256], whole[4096], model[4096], home[64], out[80];
    const char *from = getenv("SLUICE_SEED"), *rounds = getenv("SLUICE_ROUNDS");
    uint32_t seed = from ? (uint32_t)strtoul(from, NULL, 10) | 1 : (uint32_t)time(NULL) | 1;

    if (!binary(program) || !realpath(program, whole) || !realpath("assets/demo", model)) skip();
    print_message("SLUICE_SEED=%u\n", seed);
    snprintf(home, sizeof home, "%s/fuzz", out_dir);
    snprintf(out, sizeof out, "%s/pictures", home);
    mkdir(home, 0700);
    for (int session = 0; session < SESSIONS; session++) {
        start_in = home;
        same_state = session > 0;
        start(&p, 100, 30, "\033[?62;4c",
              (char *[]){ whole, "--out-dir", out, "-m", model, "--size", "64x64", "--steps", "20", NULL });
        start_in = NULL;
        same_state = false;
        wait_for(&p, "Prompt", 20000);
        listen_ms(&p, 500, true);
        keys(&p, "\033"); /* what was left waits */
        listen_ms(&p, 200, false);
        keys(&p, "a pear\r");
        wait_for(&p, "transformer", 60000);
        for (int left = (rounds ? atoi(rounds) : 1) * 10000 / SESSIONS; left > 0 && !p.ended; left--) {
            uint32_t r = random_next(&seed) >> 4;
            char letter[2] = { (char)(32 + r / 3 % 95), 0 };
            if (letter[0] == '/') letter[0] = 'a';
            keys(&p, r % 3 ? letter : words[r / 3 % (sizeof words / sizeof *words)]);
            if (r % 64 == 0) { /* the emulator, which may not survive it, keeps its size */
                struct winsize w = { .ws_row = (unsigned short)(1 + (r >> 6) % 50),
                                     .ws_col = (unsigned short)(1 + (r >> 14) % 140) };
                ioctl(p.fd, TIOCSWINSZ, &w);
            }
            if (r % 128 == 0) listen_ms(&p, 40, false); /* the engine is slower than who types */
            keep_pace(&p);
        }
        for (int i = 0; i < 8 && !p.ended; i++) { /* a question may be open, or the editor */
            keys(&p, "\033");
            listen_ms(&p, 300, false);
            keys(&p, "\021");
            listen_ms(&p, 1000, false);
        }
        if (p.ended && (!WIFEXITED(p.status) || WEXITSTATUS(p.status)))
            fail_msg("session %d: status %#x:\n%.*s", session, (unsigned)p.status, (int)p.tail_bytes, p.tail);
        expect_clean_end(&p, 60000);
        finish(&p);
    }
    snprintf(out, sizeof out, "%s/pictures/*.png", home);
    print_message("%zu pictures\n", glob(out, 0, NULL, &made) ? 0 : made.gl_pathc);
    globfree(&made);
}

static void test_real_binary_says_what_is_wrong(void **state)
{
    (void)state;
    struct pty p;
    char path[256];

    if (!binary(path)) skip();
    start(&p, 100, 30, NULL, (char *[]){ path, "-m", "/nonexistent/model", NULL });
    wait_for(&p, "sluice: /nonexistent/model", 10000);
    for (int i = 0; i < 100 && !p.ended; i++) listen_ms(&p, 50, false);
    assert_true(WIFEXITED(p.status) && WEXITSTATUS(p.status) == 1);
    finish(&p);
}

static int make_folder(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return mkdtemp(out_dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(out_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The one picture that matches; what it is called. */
static void only_file(const char *pattern, char path[256])
{
    char whole[160];
    glob_t files;

    snprintf(whole, sizeof whole, "%s/%s", out_dir, pattern);
    assert_int_equal(glob(whole, 0, NULL, &files), 0);
    assert_int_equal(files.gl_pathc, 1);
    snprintf(path, 256, "%s", files.gl_pathv[0]);
    globfree(&files);
}

static size_t bytes_of(const char *path, char *buf, size_t size)
{
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(buf, 1, size, f) : 0;

    assert_non_null(f);
    fclose(f);
    return n;
}

/* Killed in the middle of a job: the next studio asks, goes on from the checkpoint, and the picture is that
 * of a run that nobody disturbed. */
static void test_killed_and_gone_on(void **state)
{
    (void)state;
    static char one[4 << 20], two[4 << 20];
    struct pty p;
    char program[256], path[256], other[300], seed[32], command[1024], out[64];
    char *argv[] = { program, "--graphics=none", "--out-dir", out, "-m", "assets/demo", "--steps", "40", NULL };

    if (!binary(program) || access("assets/demo/transformer/config.json", R_OK)) skip();
    snprintf(out, sizeof out, "%s/killed", out_dir);
    start(&p, 100, 30, NULL, argv);
    wait_for(&p, "Describe", 10000);
    keys(&p, "a red apple\r");
    wait_for_step(&p, 7, 60000);
    kill(p.pid, SIGKILL);
    for (int i = 0; i < 100 && !p.ended; i++) listen_ms(&p, 50, false);
    finish(&p);
    same_state = true;
    start(&p, 100, 30, NULL, argv);
    wait_for(&p, "1 job was interrupted", 10000);
    assert_true(on_screen(&p, "of 40"));
    keys(&p, "y");
    wait_for(&p, "Saved ", 60000);
    assert_false(on_screen(&p, "anew"));
    keys(&p, "\033q"); /* Alt-q: the queue has it as done */
    wait_for(&p, "done", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    start(&p, 100, 30, NULL, argv); /* nothing is left to ask about */
    wait_for(&p, "Describe", 10000);
    listen_ms(&p, 300, true);
    assert_false(on_screen(&p, "Go on"));
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    same_state = false;

    only_file("killed/20*.png", path);
    assert_int_equal(sscanf(strrchr(path, '/') + 1, "%*[^-]-%*[^-]-%31[0-9]", seed), 1);
    snprintf(other, sizeof other, "%s/other.png", out_dir);
    snprintf(command, sizeof command,
             "%s generate -m assets/demo --steps 40 --seed %s -o %s 'a red apple' >/dev/null 2>&1", argv[0],
             seed, other);
    assert_int_equal(system(command), 0);
    size_t n = bytes_of(path, one, sizeof one);
    assert_int_equal(n, bytes_of(other, two, sizeof two));
    assert_memory_equal(one, two, n);
    unlink(path);
    unlink(other);
}

/* SIGHUP in the middle of a job, then "later": it is paused in the queue, and goes on from there by a key. */
static void test_hung_up_and_later(void **state)
{
    (void)state;
    struct pty p;

    start_fake(&p, 80, 24);
    wait_for(&p, "Describe", 10000);
    keys(&p, "a {red|blue} apple\t\t\02590\r"); /* many steps */
    wait_for(&p, "2 a blue apple", 10000);
    wait_for_step(&p, 3, 20000);
    kill(p.pid, SIGHUP);
    for (int i = 0; i < 100 && !p.ended; i++) listen_ms(&p, 50, false);
    assert_true(WIFSIGNALED(p.status) && WTERMSIG(p.status) == SIGHUP);
    finish(&p);
    same_state = true;
    start_fake(&p, 80, 24);
    wait_for(&p, "interrupted", 10000);
    keys(&p, "l\033q");
    wait_for(&p, "paused", 10000);
    assert_false(on_screen(&p, "waiting     a"));
    keys(&p, "p"); /* the first goes on */
    wait_for(&p, "running", 10000);
    wait_for_step(&p, 2, 20000);
    keys(&p, "p");
    wait_for(&p, "paused", 10000);
    keys(&p, "p");
    wait_for(&p, "running", 10000);
    keys(&p, "x");
    wait_for(&p, "cancelled", 10000);
    keys(&p, "\021");
    expect_clean_end(&p, 10000);
    finish(&p);
    same_state = false;
}

/* With --play GRAPHICS [DIR]: no tests, the studio with the fake engine on this
 * terminal, for looking at it and for tests/sixel_xterm_check.sh. */
int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_picture_in_a_terminal),
        cmocka_unit_test(test_idle_costs_nothing),
        cmocka_unit_test(test_bytes_of_a_key),
        cmocka_unit_test(test_typing_is_live),
        cmocka_unit_test(test_cancel_and_interrupt),
        cmocka_unit_test(test_resizing),
        cmocka_unit_test(test_sizes_beyond_curses),
        cmocka_unit_test(test_large_paste),
        cmocka_unit_test(test_crash_leaves_a_clean_terminal),
        cmocka_unit_test(test_signals_end_it_cleanly),
        cmocka_unit_test(test_suspend_and_back),
        cmocka_unit_test(test_stopped_and_continued),
        cmocka_unit_test(test_stopped_while_it_paints),
        cmocka_unit_test(test_signals_in_a_picture),
        cmocka_unit_test(test_resize_storm),
        cmocka_unit_test(test_own_editor),
        cmocka_unit_test(test_prompts_of_before),
        cmocka_unit_test(test_late_answers_are_not_typed),
        cmocka_unit_test(test_sixel_only_where_it_is_said),
        cmocka_unit_test(test_pictures_wait_for_the_terminal),
        cmocka_unit_test(test_many_pictures),
        cmocka_unit_test(test_without_colour),
        cmocka_unit_test(test_theme),
        cmocka_unit_test(test_plain_terminal),
        cmocka_unit_test(test_mouse),
        cmocka_unit_test(test_save_elsewhere),
        cmocka_unit_test(test_failure_of_the_engine_is_told),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_real_binary),
        cmocka_unit_test(test_random_keys_to_the_real_engine),
        cmocka_unit_test(test_real_binary_says_what_is_wrong),
        cmocka_unit_test(test_killed_and_gone_on),
        cmocka_unit_test(test_hung_up_and_later),
    };

    if (argc >= 3 && !strcmp(argv[1], "--play")) {
        struct studio_options o = { .out_dir = argc > 3 ? argv[3] : "/tmp" };
        char home[] = "/tmp/sluice-play-XXXXXX";
        if (!getenv("XDG_STATE_HOME") && mkdtemp(home)) setenv("XDG_STATE_HOME", home, 1); /* never the user's own */
        if (!graphics_from_name(&o.graphics, argv[2])) return 2;
        return studio_run(&o, fake_engine_start(), &fake_engine);
    }
    setenv("LC_ALL", "C.UTF-8", 1);
    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
