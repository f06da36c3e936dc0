/* term.c - see term.h.
 *
 * Two ways out to one tty: curses (blocking, small writes: cells) and `fd`
 * (non-blocking, our own open file description: queries and pictures). Their
 * order is kept by never letting curses write while `out` holds bytes.
 *
 * Of a grid's pictures one at a time is encoded (on a thread of its own) and then
 * sent: first what is not there at all, then what could be better. */
#include "tui/term.h"
#include "tui/input.h"
#include "tui/pace.h"
#include "tui/worker.h"

#include <curses.h>
#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include <utf8proc.h>
#include <wchar.h>

enum { ANSWER_LATE_MS = 2000, SIXEL_MAX_PX = 1000, TMUX_SIXEL_BYTES = 1000 * 1000 };
/* What a picture may take of the way to the terminal: a preview; a finished one; a piece of either.
 * A finished one that takes longer than DRAFT_MS is first sent as a preview would be, and its
 * own pieces wait while somebody types. */
enum { PREVIEW_MS = 150, FINE_MS = 6000, PIECE_MS = 6, DRAFT_MS = 400, TYPING_MS = 1000, PIECE_BYTES_LEAST = 384 };
/* Of a larger terminal a part is used: curses counts in shorts, and crashes past them. */
enum { COLS_MAX = 2000, ROWS_MAX = 1000 };
enum { CELL_BARE = 128 }; /* in cell.attr: a picture's cell that shows nothing */
enum { KITTY_ID = 7341 }; /* and on: two for each place, a picture's and that of the one that comes instead */

/* A picture that is on the screen, or shall be. */
struct shown {
    struct rect at;
    int place;        /* a number of its own, below GRID_PICTURES_MAX */
    bool up;          /* pixels have been sent: of `serial`, at their best if `fine` */
    uint64_t serial;
    bool fine;
    int id;           /* kitty's; 0: none */
    bool bare;        /* nothing is painted under the pixels: it would take longer than they do */
    bool keep;        /* its cells stay as they are in this paint */
};

/* A picture on its way through the encoder. */
struct encoding {
    struct worker_job job;
    enum graphics kind;
    struct image *image;
    struct graphics_how how;
    int level;        /* what how.level points to */
    uint64_t serial;
    bool slow;        /* it takes long to send: it waits while somebody types */
    struct chunks out;
    bool ok;
};

struct term {
    SCREEN *screen;
    int fd;
    struct termios saved;
    bool open, gone, utf8, in_tmux, strings_safe, mouse;
    enum theme_depth depth;
    struct theme theme;
    bool truecolour, light;

    enum graphics wanted;
    bool has_sixel, has_kitty, known; /* known: DA1 has answered */
    bool sixel_asked;
    int sixel_colours, sixel_restore; /* registers now; how many there were, 0: untouched */
    int sixel_w, sixel_h;
    int cell_w, cell_h;
    bool cell_told;
    const char *cell_source; /* NULL: assumed */
    int cols, rows;

    struct input input;
    unsigned char chunk[4096];
    const unsigned char *at;
    size_t left;
    int64_t last_byte_ms;
    int escape_ms;

    struct bytes out;
    size_t out_done;
    struct worker *encoder;
    bool encoding;            /* it has one */
    struct encoding *encoded; /* not sent yet; NULL: none */
    struct chunks show; /* the picture that is on its way, and how many of its pieces are */
    int show_next;
    struct rect show_at;
    uint64_t show_serial;
    bool sync;          /* its only piece ends what the terminal shows at once */
    bool show_slow;     /* it takes long: it waits while somebody types */
    bool show_preview;  /* others of it will follow */
    struct pace pace;
    bool awaiting;      /* its answers are not all in */
    int64_t sent_ms, show_ms, not_before_ms, typed_ms;
    bool paint_again, deferred, cursor_shown, unpainted;
    bool draft_up;      /* what waits is the better one of what is shown already */
    int sixel_level;

    bool force;         /* pictures are sent whatever was sent before */
    bool clear;         /* the next paint assumes nothing about the screen */
    struct shown shown[GRID_PICTURES_MAX]; /* in the grid's order, as last painted */
    int shown_count;
    struct cell *held;  /* cells as last painted, for a picture that must wait */
    int held_cols, held_rows;
    int roll_left, roll_at; /* half-blocks by curses: rows to be painted yet, and where the next is */

    /* for term_report */
    char name[64], answer[64], tmux_features[256];
    bool kitty_asked;
};

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t term_now_ms(void)
{
    return now_us() / 1000;
}

/* --- when things go wrong ------------------------------------------------------ */

static char crash_text[512];
static size_t crash_bytes;
static int crash_fd = -1;
static struct termios crash_termios;
static volatile sig_atomic_t crash_armed;
static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };

/* Only what is allowed in a signal handler: write and tcsetattr. */
static void restore_screen(void)
{
    if (!crash_armed) return;
    crash_armed = 0;
    for (size_t n = 0; n < crash_bytes;) {
        ssize_t w = write(crash_fd, crash_text + n, crash_bytes - n);
        if (w <= 0) break;
        n += (size_t)w;
    }
    tcsetattr(crash_fd, TCSANOW, &crash_termios);
}

static void on_crash(int sig)
{
    static const char said[] = "sluice: crashed; the terminal was put back. Finished pictures are files already.\r\n";
    bool armed = crash_armed;

    restore_screen();
    if (armed && write(STDERR_FILENO, said, sizeof said - 1) < 0) _exit(128 + sig);
    signal(sig, SIG_DFL);
    raise(sig);
}

/* A capability as bytes: without the "$<5>" padding of old hardware. */
static const char *capability(const char *name, const char *otherwise, char buf[64])
{
    const char *s = tigetstr(name);
    size_t n = 0;

    if (!s || s == (char *)-1) s = otherwise;
    while (*s && n < 63) {
        if (s[0] == '$' && s[1] == '<' && strchr(s, '>')) s = strchr(s, '>') + 1;
        else buf[n++] = *s++;
    }
    buf[n] = 0;
    return buf;
}

/* Buttons and the wheel, in the one form whose columns have no end (SGR). */
static const char mouse_on[] = "\033[?1000h\033[?1006h", mouse_off[] = "\033[?1006l\033[?1000l";

static void write_crash_text(const struct term *t)
{
    char leave[64], normal[64], cursor[64];
    int n;

    /* ST first: the crash may have come in the middle of a picture. */
    n = snprintf(crash_text, sizeof crash_text, "%s\033[?2026l\033[?2004l%s%s%s%s", t->strings_safe ? "\033\\" : "",
                 t->mouse ? mouse_off : "", capability("sgr0", "", normal), capability("rmcup", "\r\n", leave),
                 capability("cnorm", "", cursor));
    crash_bytes = n > 0 && (size_t)n < sizeof crash_text ? (size_t)n : 0;
}

static void arm_crash(struct term *t)
{
    static bool at_exit;
    static char stack[64 * 1024];
    struct sigaction sa = { .sa_handler = on_crash, .sa_flags = SA_ONSTACK | SA_RESETHAND };

    write_crash_text(t);
    crash_fd = STDOUT_FILENO;
    crash_termios = t->saved;
    crash_armed = 1;
    sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof stack }, NULL);
    sigemptyset(&sa.sa_mask);
    for (size_t i = 0; i < sizeof crash_signals / sizeof *crash_signals; i++) sigaction(crash_signals[i], &sa, NULL);
    if (!at_exit) at_exit = atexit(restore_screen) == 0;
}

static void disarm_crash(void)
{
    crash_armed = 0;
    for (size_t i = 0; i < sizeof crash_signals / sizeof *crash_signals; i++) signal(crash_signals[i], SIG_DFL);
}

/* --- cells ------------------------------------------------------------------------ */

/* Without colour a picture is shades. Never a plain blank: curses would clear
 * it together with the pixels above. */
static const wchar_t *shade(const struct term *t, const struct cell *c)
{
    static const wchar_t *const blocks[] = { L"\u00a0", L"░", L"▒", L"▓", L"█" };
    static const wchar_t *const ascii[] = { L".", L":", L"+", L"*", L"#" };
    uint32_t sum = 0;
    int i;

    for (int s = 0; s <= 16; s += 8) {
        static const uint32_t weight[3] = { 2, 5, 3 }; /* blue, green, red; tenths, of two pixels */
        sum += weight[s / 8] * ((c->top >> s & 255) + (c->bottom >> s & 255)) / 2;
    }
    i = (int)(sum * 5 / 2551);
    return (t->utf8 ? blocks : ascii)[i > 4 ? 4 : i];
}

/* What box and block characters become where UTF-8 is not spoken. */
static wchar_t plain(wchar_t c)
{
    static const struct { wchar_t from, to; } map[] = {
        { L'─', '-' }, { L'│', '|' }, { L'┌', '+' }, { L'┐', '+' }, { L'└', '+' }, { L'┘', '+' },
        { L'├', '+' }, { L'┤', '+' }, { L'█', '#' }, { L'▒', '=' }, { L'»', '>' }, { L'◆', '*' }, { L'·', ' ' },
        { L'…', '~' },
    };

    if (c < 128) return c;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (map[i].from == c) return map[i].to;
    return '?';
}

/* mbstowcs would ask the locale, which need not be UTF-8. */
static void from_utf8(wchar_t out[CCHARW_MAX + 1], const char *s)
{
    size_t left = strlen(s);
    int n = 0;

    while (left && n < CCHARW_MAX) {
        utf8proc_int32_t cp;
        utf8proc_ssize_t len = utf8proc_iterate((const utf8proc_uint8_t *)s, (utf8proc_ssize_t)left, &cp);
        if (len <= 0) break;
        out[n++] = (wchar_t)cp;
        s += len;
        left -= (size_t)len;
    }
    if (!n) out[n++] = L'?';
    out[n] = 0;
}

static void put_cell(const struct term *t, int y, int x, const struct cell *c)
{
    wchar_t text[CCHARW_MAX + 1] = L" ";
    struct theme_look look = theme_look(&t->theme, t->depth, t->light, (enum colour)c->colour);
    attr_t attr = (look.bold ? A_BOLD : 0) | (look.dim ? A_DIM : 0);
    int pair = 0;
    cchar_t cc;

    if (c->attr & CELL_BARE) {
        if (t->utf8) wcscpy(text, L"\u00a0");
        attr = 0;
    } else if (c->attr & CELL_PICTURE) {
        if (t->depth == THEME_NO_COLOURS || !t->utf8) {
            wcscpy(text, shade(t, c));
            attr = 0;
        } else {
            short (*nearest)(uint32_t) = t->depth == THEME_256_COLOURS ? theme_nearest_256
                                         : COLORS >= 16                ? theme_nearest_16
                                                                       : theme_nearest_8;
            wcscpy(text, L"▀");
            pair = alloc_pair(nearest(c->top), nearest(c->bottom));
        }
    } else {
        if (c->text[0]) from_utf8(text, c->text);
        if (!t->utf8) {
            text[0] = plain(text[0]);
            text[1] = 0;
        }
        if (look.colour >= 0) pair = alloc_pair(look.colour, -1);
        if (text[0] == L'█') { /* the same on every font, and without gaps between the rows */
            text[0] = L' ';
            attr |= A_REVERSE;
        }
        if (c->attr & CELL_BOLD) attr |= A_BOLD;
        if (c->attr & CELL_REVERSE) attr |= A_REVERSE;
        if (c->attr & CELL_UNDERLINE) attr |= A_UNDERLINE;
    }
    if (pair < 0) pair = 0;
    if (setcchar(&cc, text, attr, 0, &pair) == ERR) setcchar(&cc, L"?", attr, 0, &pair);
    mvadd_wch(y, x, &cc); /* ERR in the last corner means only that the cursor cannot go on */
}

/* --- out --------------------------------------------------------------------------- */

static void force(struct term *t)
{
    t->force = t->clear = true;
}

/* What is in `out`; false while some of it is left. */
static bool write_out(struct term *t)
{
    while (t->out_done < t->out.count && !t->gone) {
        ssize_t n = write(t->fd, t->out.data + t->out_done, t->out.count - t->out_done);
        if (n > 0) {
            t->out_done += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            return false;
        } else if (n < 0 && errno != EINTR) {
            t->gone = true;
        }
    }
    t->out.count = t->out_done = 0;
    t->out.lost = false;
    return true;
}

static bool showing(const struct term *t)
{
    return t->show_next < t->show.count;
}

static bool somebody_types(const struct term *t)
{
    return term_now_ms() - t->typed_ms < TYPING_MS;
}

static void forget_pieces(struct term *t)
{
    pieces_clear(&t->show);
    t->show_next = 0;
    t->awaiting = t->pace.flights > 0;
}

/* The next pieces of the picture, as many as the way to the terminal takes now. */
static void send_pieces(struct term *t)
{
    while (showing(t) && t->out.count == 0 && !t->gone && !(t->show_slow && somebody_types(t))) {
        size_t from = t->show_next ? t->show.end[t->show_next - 1] : 0, bytes = t->show.end[t->show_next] - from;
        if (!pace_open(&t->pace, bytes)) return;
        /* The cursor is hidden after DECSC, not before: some terminals save and restore that, too. */
        bytes_text(&t->out, "\0337\033[?25l");
        bytes_add(&t->out, t->show.b.data + from, bytes);
        bytes_text(&t->out, "\0338");
        if (t->cursor_shown) bytes_text(&t->out, "\033[?25h");
        if (t->sync) bytes_text(&t->out, "\033[?2026l"); /* began with the cells under it */
        t->sync = false;
        bytes_text(&t->out, "\033[5n");
        if (t->out.lost) { /* memory: what is there stays */
            t->out.count = 0;
            t->out.lost = false;
            forget_pieces(t);
            return;
        }
        t->show_next++;
        pace_sent(&t->pace, t->out.count, now_us());
        t->awaiting = true;
        t->sent_ms = term_now_ms();
        write_out(t);
    }
}

/* The rest of the picture on its way is not wanted any more. */
static void drop_pieces(struct term *t)
{
    if (showing(t) && t->show_next > 0 && term_graphics(t) == GRAPHICS_KITTY) graphics_kitty_abandon(&t->out);
    if (t->sync) bytes_text(&t->out, "\033[?2026l");
    t->sync = false;
    forget_pieces(t);
}

bool term_flush(struct term *t)
{
    if (!write_out(t)) return false;
    if (t->awaiting && t->pace.flights && term_now_ms() - t->sent_ms >= ANSWER_LATE_MS) {
        pace_forget(&t->pace); /* it will not answer: go on without */
        if (!showing(t)) t->awaiting = false, t->not_before_ms = 0;
        t->paint_again = true;
    }
    if (!t->unpainted) send_pieces(t); /* what was typed goes first */
    return t->out.count == 0;
}

/* Waits until all is written, but not for ever. */
static void write_all(struct term *t)
{
    struct pollfd p = { .fd = t->fd, .events = POLLOUT };

    for (int tries = 0; !write_out(t) && tries < 20; tries++) poll(&p, 1, 50);
}

/* For the few bytes of a mode switch, while pictures are not in flight. */
static void send_now(struct term *t, const char *text)
{
    write_all(t);
    bytes_text(&t->out, text);
    write_all(t);
}

static void ask_size(struct term *t)
{
    send_now(t, "\033[16t\033[14t");
}

enum graphics term_graphics(const struct term *t)
{
    if (t->wanted == GRAPHICS_KITTY && t->in_tmux) return GRAPHICS_BLOCKS; /* tmux has no kitty pictures */
    if (t->wanted == GRAPHICS_AUTO) {
        if (t->has_kitty) return GRAPHICS_KITTY;
        return t->has_sixel ? GRAPHICS_SIXEL : GRAPHICS_BLOCKS;
    }
    return t->wanted;
}

struct term_size term_size(const struct term *t)
{
    struct term_size s = { .cols = t->cols, .rows = t->rows, .cell_w = t->cell_w, .cell_h = t->cell_h };

    s.pixels = term_graphics(t) == GRAPHICS_SIXEL || term_graphics(t) == GRAPHICS_KITTY;
    if (term_graphics(t) == GRAPHICS_SIXEL) {
        s.picture_w = t->sixel_w > 0 && t->sixel_w < SIXEL_MAX_PX ? t->sixel_w : SIXEL_MAX_PX;
        s.picture_h = t->sixel_h > 0 && t->sixel_h < SIXEL_MAX_PX ? t->sixel_h : SIXEL_MAX_PX;
    }
    return s;
}

static const char *why(const struct term *t)
{
    if (t->wanted == GRAPHICS_KITTY && t->in_tmux) return "tmux passes no kitty pictures on";
    if (t->wanted != GRAPHICS_AUTO) return "as --graphics says";
    if (t->has_kitty) return "it answers the kitty query";
    if (t->has_sixel && t->in_tmux) return "tmux has sixel, and so has the terminal around it";
    if (t->has_sixel) return "its DA1 answer has a 4: sixel";
    if (!t->known) return "it has not answered (yet)";
    if (t->tmux_features[0]) return "the terminal around tmux has no sixel, as tmux knows it";
    if (t->in_tmux) return "tmux has no sixel";
    return "its DA1 answer has no 4 (sixel), and it does not answer the kitty query";
}

void term_report(const struct term *t, struct term_report *r)
{
    *r = (struct term_report){ .cols = t->cols, .rows = t->rows, .utf8 = t->utf8, .light = t->light,
                               .truecolour = t->truecolour, .in_tmux = t->in_tmux,
                               .colours = t->depth == THEME_NO_COLOURS ? 0 : COLORS,
                               .answered = t->known, .kitty_asked = t->kitty_asked, .kitty_answered = t->has_kitty,
                               .wanted = t->wanted, .chosen = term_graphics(t), .why = why(t), .cell_w = t->cell_w,
                               .cell_h = t->cell_h, .cell_source = t->cell_source ? t->cell_source : "nothing says",
                               .sixel_colours = t->has_sixel ? t->sixel_colours : 0, .sixel_w = t->sixel_w,
                               .sixel_h = t->sixel_h, .bytes_per_second = pace_rate(&t->pace),
                               .trip_ms = (double)pace_trip_us(&t->pace) / 1000 };
    snprintf(r->name, sizeof r->name, "%s", t->name);
    snprintf(r->da1, sizeof r->da1, "%s", t->answer);
    snprintf(r->tmux_features, sizeof r->tmux_features, "%s", t->tmux_features);
}

bool term_gone(const struct term *t)
{
    return t->gone;
}

int term_fd(const struct term *t)
{
    return t->fd;
}

int term_encoder_fd(const struct term *t)
{
    return worker_fd(t->encoder);
}

short term_poll_events(const struct term *t)
{
    return t->out_done < t->out.count ? POLLIN | POLLOUT : POLLIN;
}

static int until(int64_t when)
{
    int64_t ms = when - term_now_ms();

    return ms < 1 ? 1 : ms > 60000 ? 60000 : (int)ms;
}

static int sooner(int a, int b)
{
    return a < 0 ? b : b < 0 || a < b ? a : b;
}

/* An ESC may be the start of an answer that is still on its way. */
static int patience(const struct term *t)
{
    bool expecting = !t->known || t->awaiting;

    return input_patience(&t->input, expecting && t->escape_ms < 250 ? 250 : t->escape_ms);
}

int term_timeout(const struct term *t)
{
    int ms = -1;

    if (t->left) return 0;
    if (input_waiting(&t->input)) ms = sooner(ms, until(t->last_byte_ms + patience(t)));
    if (t->pace.flights) ms = sooner(ms, until(t->sent_ms + ANSWER_LATE_MS));
    else if (showing(t)) ms = sooner(ms, until(t->typed_ms + TYPING_MS));
    else if (t->deferred && t->draft_up && somebody_types(t)) ms = sooner(ms, until(t->typed_ms + TYPING_MS));
    else if (t->deferred) ms = sooner(ms, until(t->not_before_ms));
    return ms;
}

/* draft: it need not be the best yet. */
static bool may_send_picture(const struct term *t, bool draft)
{
    if (t->awaiting || showing(t)) return false;
    return term_now_ms() >= t->not_before_ms && (draft || !somebody_types(t));
}

static void encoding_free(struct encoding *n)
{
    if (!n) return;
    image_free(n->image);
    pieces_free(&n->out);
    free(n);
}

static void take_encoded(struct term *t)
{
    for (struct worker_job *j; (j = worker_take(t->encoder)); t->paint_again = true) {
        t->encoding = false;
        t->encoded = (struct encoding *)j;
    }
}

bool term_wants_paint(struct term *t)
{
    take_encoded(t);
    bool again = t->paint_again || (t->deferred && may_send_picture(t, !t->draft_up));
    t->paint_again = false;
    return again;
}

/* Are pixels, or 24-bit colours, laid over the cells that curses paints? */
static bool overlays(const struct term *t)
{
    enum graphics kind = term_graphics(t);

    if (kind == GRAPHICS_BLOCKS) return t->truecolour && t->depth != THEME_NO_COLOURS && t->utf8;
    return kind != GRAPHICS_NONE;
}

/* Does the terminal itself say that it can? Else the cells must show it, too. */
static bool certain(const struct term *t)
{
    enum graphics kind = term_graphics(t);

    if (!t->known || !t->utf8) return false;
    return kind == GRAPHICS_SIXEL ? t->has_sixel : kind == GRAPHICS_KITTY ? t->has_kitty : true;
}

static size_t more(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* How long p would take at its best, as far as one can tell before. */
static double fine_ms(const struct term *t, const struct grid_picture *p)
{
    double px = (double)p->at.w * t->cell_w * p->at.h * t->cell_h,
        of = (double)p->image->width * p->image->height, bytes;

    switch (term_graphics(t)) {
    case GRAPHICS_SIXEL: bytes = 1.2 * px; break;
    case GRAPHICS_KITTY: bytes = 2.5 * (of < px || !(px > 0) ? of : px); break;
    default: bytes = 40.0 * p->at.w * p->at.h;
    }
    return bytes / (pace_rate(&t->pace) > 0 ? pace_rate(&t->pace) : 64e3) * 1000;
}

static bool same_rect(struct rect a, struct rect b)
{
    return a.x == b.x && a.y == b.y && a.w == b.w && a.h == b.h;
}

static bool hold_size(struct term *t, const struct grid *g)
{
    if (t->held && t->held_cols == g->cols && t->held_rows == g->rows) return true;
    free(t->held);
    t->held = calloc((size_t)g->cols * (size_t)g->rows, sizeof *t->held);
    t->held_cols = t->held ? g->cols : 0;
    t->held_rows = t->held ? g->rows : 0;
    return false;
}

/* About what a row of the picture takes of the way. */
static size_t row_bytes(const struct term *t, const struct grid *g, int y)
{
    const struct cell *before = NULL;
    struct rect r = g->picture[0].at;
    size_t n = 8;

    for (int x = r.x; x < r.x + r.w; x++) {
        const struct cell *c = &g->cells[y * g->cols + x], *h = &t->held[y * g->cols + x];
        if (h->attr & CELL_PICTURE && h->top == c->top && h->bottom == c->bottom) continue;
        n += 3;
        if (!before || before->top != c->top || before->bottom != c->bottom) n += t->depth == THEME_NO_COLOURS ? 0 : 22;
        before = c;
    }
    return n;
}

/* Which rows of the first picture are painted now, in half-blocks: from *first on, so many, in a
 * circle. *bytes: what they take. All of them where that is little. */
static int rows_now(struct term *t, const struct grid *g, bool held, int *first, size_t *bytes)
{
    const struct shown *s = &t->shown[0];
    struct rect r = s->at;
    size_t room = pace_bytes(&t->pace, PIECE_MS);
    int n = 0;

    *bytes = 0;
    if (!t->held || !t->known) { /* no memory, or nothing that answers: nothing can wait */
        t->roll_left = 0;
        *first = 0;
        return r.h;
    }
    if (!held || !s->up || g->picture[0].serial != s->serial) t->roll_left = r.h;
    if (!held || !s->up) t->roll_at = 0;
    *first = t->roll_at;
    while (!t->awaiting && n < t->roll_left) {
        size_t row = row_bytes(t, g, r.y + (t->roll_at + n) % r.h);
        if (n && *bytes + row > room) break;
        *bytes += row;
        n++;
    }
    t->roll_left -= n;
    t->roll_at = (t->roll_at + n) % r.h;
    return n;
}

/* --- which picture is sent ------------------------------------------------------------ */

static void kitty_remove(struct bytes *out, struct shown *s)
{
    for (int i = 0; s->id && i < 2; i++) graphics_kitty_delete(out, KITTY_ID + 2 * s->place + i);
    s->id = 0;
}

/* Blanks written over a picture that goes: xterm keeps what is only cleared, and would bring it back when its window is
 * uncovered. Curses writes these rows anew. */
static void sixel_remove(struct term *t, const struct shown *s)
{
    if (!s->up || term_graphics(t) != GRAPHICS_SIXEL) return;
    bytes_text(&t->out, "\033[m");
    for (int y = s->at.y; y < s->at.y + s->at.h && y < t->rows; y++)
        bytes_format(&t->out, "\033[%d;%dH%*s", y + 1, s->at.x + 1, s->at.x + s->at.w <= t->cols ? s->at.w : 0, "");
    wredrawln(stdscr, s->at.y, s->at.h);
}

static int free_place(const struct term *t)
{
    bool used[GRID_PICTURES_MAX] = { false };
    int place = 0;

    for (int i = 0; i < t->shown_count; i++)
        if (t->shown[i].place >= 0) used[t->shown[i].place] = true;
    while (used[place]) place++;
    return place;
}

/* Which of the pictures that are there each of g's is: the one in its place. The others go. */
static void match_shown(struct term *t, const struct grid *g)
{
    struct shown old[GRID_PICTURES_MAX];
    int n = t->shown_count;

    memcpy(old, t->shown, (size_t)n * sizeof *old);
    t->shown_count = g->pictures;
    for (int i = 0; i < g->pictures; i++) {
        struct shown *s = &t->shown[i];
        *s = (struct shown){ .at = g->picture[i].at, .place = -1 };
        for (int j = 0; j < n; j++) {
            if (old[j].place < 0 || !same_rect(old[j].at, s->at)) continue;
            *s = old[j];
            old[j].place = -1;
        }
        if (t->force) s->up = false;
    }
    for (int j = 0; j < n; j++) {
        if (old[j].place < 0) continue;
        kitty_remove(&t->out, &old[j]); /* it lies above the cells */
        sixel_remove(t, &old[j]);
    }
    for (int i = 0; i < g->pictures; i++)
        if (t->shown[i].place < 0) t->shown[i].place = free_place(t);
    t->force = false;
}

/* What picture i still lacks. */
struct lack {
    bool any;   /* something */
    bool same;  /* it is there already, and could only be better */
    bool slow;  /* at its best it takes long */
    bool draft; /* and comes first as a preview would, as all previews do */
};

static struct lack lack_of(const struct term *t, const struct grid *g, int i)
{
    const struct grid_picture *p = &g->picture[i];
    const struct shown *s = &t->shown[i];
    struct lack l = { .same = s->up && s->serial == p->serial };

    l.slow = p->fine && t->known && fine_ms(t, p) > DRAFT_MS;
    l.draft = !p->fine || (l.slow && !l.same);
    l.any = overlays(t) && (!l.same || p->fine != s->fine);
    return l;
}

/* The picture that is next; -1: all are there. */
static int next_picture(const struct term *t, const struct grid *g, struct lack *l)
{
    int better = -1;

    for (int i = 0; i < g->pictures; i++) {
        *l = lack_of(t, g, i);
        if (l->any && !l->same) return i;
        if (l->any && better < 0) better = i;
    }
    if (better >= 0) *l = lack_of(t, g, better);
    return better;
}

static int picture_in(const struct grid *g, struct rect at)
{
    for (int i = 0; i < g->pictures; i++)
        if (same_rect(g->picture[i].at, at)) return i;
    return -1;
}

/* Is the picture on its way to the terminal still worth it? */
static bool still_wanted(const struct term *t, const struct grid *g)
{
    int i = picture_in(g, t->show_at);

    return i >= 0 && !t->force && !(t->show_slow && g->picture[i].serial != t->show_serial);
}

/* --- encoding ------------------------------------------------------------------------ */

/* On the encoder's thread. */
static void encode(struct worker_job *j)
{
    struct encoding *n = (struct encoding *)j;

    if (n->kind == GRAPHICS_SIXEL) n->ok = graphics_sixel(&n->out, n->image, &n->how, NULL);
    else n->ok = graphics_kitty(&n->out, n->image, &n->how, NULL);
}

/* Picture i of g, in pixels or in 24-bit half-blocks, into pieces. */
static void start_encoding(struct term *t, const struct grid *g, int i, const struct lack *l)
{
    const struct grid_picture *p = &g->picture[i];
    struct shown *s = &t->shown[i];
    struct encoding *n = calloc(1, sizeof *n);
    struct graphics_how *how;
    int first = KITTY_ID + 2 * s->place;

    if (n)
        *n = (struct encoding){ .job.run = encode, .kind = term_graphics(t), .serial = p->serial, .slow = l->slow &&
                                !l->draft };
    if (!n || (n->kind != GRAPHICS_BLOCKS && !(n->image = image_copy(p->image, NULL)))) { /* the cells have to do */
        s->up = true;
        s->serial = p->serial;
        s->fine = p->fine;
        free(n);
        return;
    }
    how = &n->how;
    n->level = t->sixel_level;
    *how = (struct graphics_how){ .at = p->at, .cell_w = t->cell_w ? t->cell_w : 10,
                                  .cell_h = t->cell_h ? t->cell_h : 20,
                                  .strips = t->cell_source && !t->in_tmux, .colours = t->sixel_colours,
                                  .fine = !l->draft, .level = &n->level, .old_id = s->id,
                                  .id = s->id == first ? first + 1 : first };
    /* A terminal that answers nothing gets all of it at once: there is nothing to pace it by. */
    if (t->known) {
        how->piece_bytes = more(pace_bytes(&t->pace, PIECE_MS), PIECE_BYTES_LEAST);
        how->max_bytes = more(pace_bytes(&t->pace, how->fine ? FINE_MS : PREVIEW_MS), 4 * PIECE_BYTES_LEAST);
    }
    if (n->kind == GRAPHICS_SIXEL && t->in_tmux) {
        /* it drops large ones, and one of which a row, however lightly touched, is written to */
        how->limit_bytes = TMUX_SIXEL_BYTES;
        if (p->at.h * how->cell_h >= 6) how->height = p->at.h * how->cell_h / 6 * 6;
    }
    if (n->kind == GRAPHICS_SIXEL && how->strips && !how->fine && how->piece_bytes) { /* it cannot be cut any finer */
        size_t most = GRAPHICS_STRIPS * pace_bytes(&t->pace, PACE_QUEUE_MS);
        if (how->max_bytes > most) how->max_bytes = most;
    }
    if (n->kind == GRAPHICS_BLOCKS) {
        graphics_blocks(&n->out, g, how);
        n->ok = true;
        t->encoded = n;
    } else {
        t->encoding = true;
        worker_submit(t->encoder, &n->job);
    }
}

/* Whose the encoded picture is; -1: it has moved, or there is a better one by now. One that is quickly sent may be
 * older than what is wanted: else nothing would show of pictures that change faster than they are encoded. */
static int encoded_for(const struct term *t, const struct grid *g)
{
    const struct encoding *n = t->encoded;
    const struct graphics_how *h = &n->how;
    int i = picture_in(g, h->at);

    if (i < 0 || n->kind != term_graphics(t) || !lack_of(t, g, i).any) return -1;
    if ((t->cell_w && h->cell_w != t->cell_w) || (t->cell_h && h->cell_h != t->cell_h)) return -1;
    if (h->old_id != t->shown[i].id || (h->id - KITTY_ID) / 2 != t->shown[i].place) return -1;
    return n->serial == g->picture[i].serial || !n->slow ? i : -1;
}

/* The encoded picture is the one that is sent now; returns which, -1: none. */
static int take_pieces(struct term *t, const struct grid *g)
{
    struct encoding *n = t->encoded;
    struct chunks before = t->show;
    struct shown *s;
    int i;

    if (!n) return -1;
    if ((i = encoded_for(t, g)) >= 0) {
        if (t->awaiting || showing(t) || (n->slow && somebody_types(t))) return -1;
        s = &t->shown[i];
        t->show = n->out;
        n->out = before;
        t->show_next = 0;
        if (!n->ok || t->show.b.lost) pieces_clear(&t->show);
        t->show_at = n->how.at;
        t->show_serial = s->serial = n->serial;
        t->show_slow = n->slow;
        t->show_preview = !g->picture[i].fine;
        s->fine = n->how.fine;
        s->up = true;
        if (n->kind == GRAPHICS_KITTY && showing(t)) s->id = n->how.id;
        if (n->kind == GRAPHICS_SIXEL && !n->how.fine) t->sixel_level = n->level;
    }
    t->encoded = NULL;
    encoding_free(n);
    return i;
}

/* --- painting ----------------------------------------------------------------------- */

/* A cell that is not blank (curses would clear those together with the pixels above) and costs nothing. */
static const struct cell bare_cell = { .width = 1, .attr = CELL_BARE };

/* The picture that has this cell, perhaps `last`; -1: none. */
static int shown_at(const struct term *t, int x, int y, int last)
{
    if (last >= 0 && rect_has(t->shown[last].at, x, y)) return last;
    for (int i = 0; i < t->shown_count; i++)
        if (rect_has(t->shown[i].at, x, y)) return i;
    return -1;
}

/* Of the first picture `rows` rows from `first` on, in a circle, if it is rolled; rows < 0: it is not. */
static void paint_cells(struct term *t, const struct grid *g, int first, int rows)
{
    int of = -1;

    for (int y = 0; y < g->rows && y < t->rows; y++)
        for (int x = 0; x < g->cols && x < t->cols; x++) {
            const struct cell *c = &g->cells[y * g->cols + x];
            struct cell *h = t->held ? &t->held[y * g->cols + x] : NULL;
            if (c->attr & CELL_PICTURE && (of = shown_at(t, x, y, of)) >= 0) {
                const struct shown *s = &t->shown[of];
                bool old = s->keep || (rows >= 0 && of == 0 && (y - s->at.y - first + s->at.h) % s->at.h >= rows);
                if (old && h && h->attr & (CELL_PICTURE | CELL_BARE)) c = h;
                else if (old || s->bare) c = &bare_cell;
            }
            if (c->width) put_cell(t, y, x, c);
            if (c->width == 2 && !t->utf8 && x + 1 < t->cols) mvaddch(y, x + 1, ' '); /* its "?" is narrow */
            if (h && h != c) *h = *c;
        }
}

/* What is painted under the pixels of each picture; `now` gets its own with this paint, -1: none does. */
static void choose_cells(struct term *t, const struct grid *g, bool held, int now)
{
    bool instead = certain(t) && !pace_quick(&t->pace);

    for (int i = 0; i < t->shown_count; i++) {
        struct shown *s = &t->shown[i];
        s->keep = s->up && held && i != now && overlays(t);
        if (i == now) s->bare = showing(t) && instead;
        else if (!s->up) s->bare = lack_of(t, g, i).any && instead;
    }
}

void term_paint(struct term *t, const struct grid *g)
{
    bool held, roll;
    int now, next, first = 0, rows = -1;
    struct lack l;
    size_t rolled = 0;

    if (t->gone || !term_flush(t)) return;
    held = hold_size(t, g);
    if (showing(t) && !still_wanted(t, g)) drop_pieces(t);
    match_shown(t, g);
    now = take_pieces(t, g);
    next = t->encoding || t->encoded ? -1 : next_picture(t, g, &l);
    /* What is not there at all need not wait longer than for the terminal to answer. */
    if (next >= 0 && (may_send_picture(t, l.draft || !l.slow) || (!t->shown[next].up && !t->awaiting && !showing(t)))) {
        start_encoding(t, g, next, &l);
        if (now < 0 && term_graphics(t) == GRAPHICS_BLOCKS) now = take_pieces(t, g);
    }
    next = next_picture(t, g, &l);
    t->deferred = next >= 0 && !t->encoding;
    t->draft_up = next >= 0 && l.same && l.slow;
    choose_cells(t, g, held, now);
    roll = g->pictures && !overlays(t) && term_graphics(t) == GRAPHICS_BLOCKS;
    if (roll) rows = rows_now(t, g, held, &first, &rolled);
    if (t->clear) clearok(curscr, TRUE);
    t->clear = false;
    paint_cells(t, g, first, rows);
    t->cursor_shown = g->cursor_shown;
    t->sync = now >= 0 && t->show.count == 1 && (!t->known || pace_open(&t->pace, t->show.b.count + 64));
    if (t->sync) bytes_text(&t->out, "\033[?2026h");
    write_all(t); /* before curses writes */
    curs_set(g->cursor_shown ? 1 : 0);
    move(g->cursor_shown ? g->cursor_y : g->rows - 1, g->cursor_shown ? g->cursor_x : 0);
    wnoutrefresh(stdscr);
    doupdate();
    if ((now >= 0 && t->known) || rolled) { /* alone: what the way there and back takes */
        bytes_text(&t->out, "\033[5n");
        pace_sent(&t->pace, now >= 0 ? t->out.count : rolled, now_us());
        t->awaiting = true;
        t->sent_ms = t->show_ms = term_now_ms();
        write_out(t);
    }
    if (roll) {
        t->shown[0].up = true;
        t->shown[0].serial = g->picture[0].serial;
        t->show_preview = !g->picture[0].fine;
    }
    t->unpainted = false;
    send_pieces(t);
}

/* --- answers ----------------------------------------------------------------------- */

/* tmux says "4" for itself, whatever the terminal outside can do. */
static bool tmux_has_sixel(struct term *t)
{
    int pipe_fd[2], status;
    char text[512];
    size_t n = 0;
    pid_t pid;

    if (pipe2(pipe_fd, O_CLOEXEC)) return false;
    pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(pipe_fd[1], 1);
        dup2(null, 2);
        execlp("tmux", "tmux", "display-message", "-p", "#{client_termfeatures}", (char *)NULL);
        _exit(127);
    }
    close(pipe_fd[1]);
    while (pid > 0 && n < sizeof text - 1) {
        struct pollfd p = { .fd = pipe_fd[0], .events = POLLIN };
        ssize_t got = poll(&p, 1, 300) > 0 ? read(pipe_fd[0], text + n, sizeof text - 1 - n) : 0;
        if (got <= 0) break;
        n += (size_t)got;
    }
    text[n] = 0;
    close(pipe_fd[0]);
    if (pid > 0) {
        kill(pid, SIGKILL); /* it has answered or hangs */
        waitpid(pid, &status, 0);
    }
    snprintf(t->tmux_features, sizeof t->tmux_features, "%.*s", (int)strcspn(text, "\n"), text);
    return strstr(text, "sixel") != NULL;
}

static int numbers(const char *s, int *n, int max)
{
    int count = 0;

    while (count < max) {
        char *end;
        n[count++] = (int)strtol(s, &end, 10);
        if (*end != ';') break;
        s = end + 1;
    }
    return count;
}

static bool sane_cell(int w, int h)
{
    return w >= 4 && w <= 64 && h >= 6 && h <= 128;
}

static void set_cell(struct term *t, int w, int h, bool told, const char *source)
{
    if (!sane_cell(w, h) || (t->cell_told && !told)) return;
    if (w != t->cell_w || h != t->cell_h) t->paint_again = true;
    t->cell_w = w;
    t->cell_h = h;
    t->cell_told = told;
    t->cell_source = source;
}

static void answered_da1(struct term *t, const char *s)
{
    int n[32], count = numbers(s, n, 32);

    t->known = true;
    snprintf(t->answer, sizeof t->answer, "CSI ?%s", s);
    for (int i = 1; i < count; i++)
        if (n[i] == 4) t->has_sixel = true;
    if (t->has_sixel && t->in_tmux && t->wanted == GRAPHICS_AUTO && !tmux_has_sixel(t)) t->has_sixel = false;
    if ((t->has_sixel || t->wanted == GRAPHICS_SIXEL) && !t->sixel_asked && !t->in_tmux) {
        /* How many colour registers, and how large a picture. */
        t->sixel_asked = true;
        send_now(t, "\033[?1;1;0S\033[?2;1;0S");
    }
    t->paint_again = true;
}

/* CSI ? item ; status ; value(s) S */
static void answered_graphics(struct term *t, const char *s)
{
    int n[4], count = numbers(s, n, 4);

    if (count < 3 || n[1] != 0) return;
    if (n[0] == 1 && n[2] > 1) {
        if (n[2] < 256 && !t->sixel_restore) {
            t->sixel_restore = n[2];
            t->sixel_colours = n[2];
            send_now(t, "\033[?1;3;256S"); /* an emulated VT340 has 16, but xterm gives more when asked */
        } else {
            t->sixel_colours = n[2] > 256 ? 256 : n[2];
        }
    } else if (n[0] == 2 && count == 4 && n[2] >= 64 && n[3] >= 64) {
        t->sixel_w = n[2];
        t->sixel_h = n[3];
    }
    force(t);
    t->paint_again = true;
}

static void answered_piece(struct term *t)
{
    int64_t now = term_now_ms(), took = now - t->show_ms;

    t->sent_ms = now;
    if (t->pace.flights || showing(t)) return;
    /* At most a third of the time goes into previews. */
    t->awaiting = false;
    t->not_before_ms = now + (took > 250 ? 500 : took > 15 ? 2 * took : 30);
    if (t->roll_left || !t->show_preview) t->not_before_ms = now;
    if (t->deferred || t->roll_left) t->paint_again = true;
}

static void answered(struct term *t)
{
    const char *s = t->input.reply;
    char final = t->input.reply_bytes ? s[t->input.reply_bytes - 1] : 0;
    int n[3];
    unsigned r, g, b;

    if (t->input.kind == '[') {
        if (s[0] == '?' && final == 'c') {
            answered_da1(t, s + 1);
        } else if (s[0] == '?' && final == 'S') {
            answered_graphics(t, s + 1);
        } else if (final == 't' && numbers(s, n, 3) == 3) {
            if (n[0] == 6) set_cell(t, n[2], n[1], true, "the terminal (CSI 16 t)");
            else if (n[0] == 4 && n[1] != 480 && t->cols > 0 && t->rows > 0)
                set_cell(t, n[2] / t->cols, n[1] / t->rows, false, "the window (CSI 14 t)");
        } else if (final == 'n' && s[0] == '0' && pace_answered(&t->pace, now_us())) {
            answered_piece(t);
        }
    } else if (t->input.kind == ']') {
        if (sscanf(s, "11;rgb:%x/%x/%x", &r, &g, &b) == 3) {
            /* One to four hex digits each; compare the first of them. */
            const char *first = strchr(s, ':') + 1;
            int digits = (int)strcspn(first, "/");
            unsigned top = digits < 1 || digits > 4 ? 255 : (1u << (4 * digits)) - 1;
            bool light = 3 * r + 6 * g + b > top * 5;
            if (light != t->light) {
                t->light = light;
                t->paint_again = true;
            }
        }
    } else if (t->input.kind == '_') {
        if (!strncmp(s, "Gi=31;OK", 8)) {
            t->has_kitty = true;
            t->paint_again = true;
        }
    }
}

bool term_read(struct term *t, struct key *k)
{
    for (;;) {
        enum input_got got = INPUT_NONE;

        if (!t->left && !t->input.due) {
            ssize_t n = read(t->fd, t->chunk, sizeof t->chunk);
            if (n > 0) {
                t->at = t->chunk;
                t->left = (size_t)n;
                t->last_byte_ms = term_now_ms();
            } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
                t->gone = true;
                return false;
            } else if (input_waiting(&t->input) && term_now_ms() - t->last_byte_ms >= patience(t)) {
                t->last_byte_ms = term_now_ms();
                got = input_pause(&t->input, k);
                if (got == INPUT_NONE) return false;
            } else {
                return false;
            }
        }
        if (got == INPUT_NONE) got = input_feed(&t->input, &t->at, &t->left, k);
        if (got == INPUT_KEY) {
            t->typed_ms = term_now_ms();
            t->unpainted = true;
            return true;
        }
        if (got == INPUT_REPLY) answered(t);
    }
}

/* --- open and close ------------------------------------------------------------------ */

static bool tty_size(struct winsize *w)
{
    *w = (struct winsize){ 0 };
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, w) == 0 && w->ws_col && w->ws_row;
}

static void learn_size(struct term *t)
{
    struct winsize w;

    t->cols = COLS;
    t->rows = LINES;
    if (tty_size(&w)) {
        t->cols = w.ws_col;
        t->rows = w.ws_row;
        if (w.ws_xpixel && w.ws_ypixel && !(w.ws_xpixel == 640 && w.ws_ypixel == 480))
            set_cell(t, w.ws_xpixel / w.ws_col, w.ws_ypixel / w.ws_row, false, "the tty (TIOCGWINSZ)");
    }
    if (t->cols > COLS_MAX) t->cols = COLS_MAX;
    if (t->rows > ROWS_MAX) t->rows = ROWS_MAX;
}

static void ask_all(struct term *t)
{
    /* DA1 last: what has not answered before it will not. */
    if (t->strings_safe) send_now(t, "\033]11;?\033\\");
    t->kitty_asked = t->strings_safe && !t->in_tmux && (t->wanted == GRAPHICS_AUTO || t->wanted == GRAPHICS_KITTY);
    if (t->kitty_asked)
        send_now(t, "\033_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\033\\");
    if (t->mouse) send_now(t, mouse_on);
    /* newterm lets as many rows scroll as terminfo says there are: a picture that ends below them would scroll them. */
    send_now(t, "\0337\033[r\0338");
    send_now(t, "\033[?2004h\033[16t\033[14t\033[c");
}

/* UTF-8 where the user says so or says nothing; ASCII only otherwise. The
 * program's own locale is UTF-8 in both cases, because wcwidth asks it. */
static bool choose_locale(void)
{
    const char *said = getenv("LC_ALL");

    if (!said || !*said) said = getenv("LC_CTYPE");
    if (!said || !*said) said = getenv("LANG");
    setlocale(LC_CTYPE, "");
    if (!strcmp(nl_langinfo(CODESET), "UTF-8")) return true;
    /* A locale that is named but not installed says UTF-8 all the same. */
    return setlocale(LC_CTYPE, "C.UTF-8") && (!said || !*said || strcasestr(said, "utf-8") || strcasestr(said, "utf8"));
}

static enum theme_depth choose_depth(void)
{
    const char *no = getenv("NO_COLOR");

    if ((no && *no) || !has_colors() || COLORS < 8) return THEME_NO_COLOURS;
    return COLORS >= 256 && COLOR_PAIRS > 256 ? THEME_256_COLOURS : THEME_8_COLOURS;
}

static void stop_encoder(struct term *t)
{
    if (!t->encoder) return;
    worker_stop(t->encoder);
    for (struct worker_job *j; (j = worker_take(t->encoder));) encoding_free((struct encoding *)j);
    worker_free(t->encoder);
    encoding_free(t->encoded);
}

bool term_open(struct term **out, enum graphics wanted, const struct theme *theme, struct err *e)
{
    const char *name = getenv("TERM"), *colour = getenv("COLORTERM"), *delay = getenv("ESCDELAY"),
        *tmux = getenv("TMUX");
    struct term *t = calloc(1, sizeof *t);

    *out = NULL;
    if (!t) return err_set(e, ERR_MEMORY, "no memory for the terminal");
    t->fd = -1;
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
        err_set(e, ERR_INPUT,
                "the studio needs a terminal on standard input and output (sluice generate works without)");
        goto failed;
    }
    if (!name || !*name || !strcmp(name, "dumb")) {
        err_set(e, ERR_INPUT, "the studio needs a terminal that can place the cursor; TERM is \"%s\"",
                name ? name : "");
        goto failed;
    }
    if (tcgetattr(STDIN_FILENO, &t->saved)) {
        err_errno(e, errno, "cannot read the terminal's settings");
        goto failed;
    }
    /* Its own open file: O_NONBLOCK here must not reach curses or the shell. */
    t->fd = open("/dev/tty", O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (t->fd < 0 && ttyname(STDOUT_FILENO))
        t->fd = open(ttyname(STDOUT_FILENO), O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (t->fd < 0) {
        err_errno(e, errno, "cannot open the terminal /dev/tty");
        goto failed;
    }
    t->utf8 = choose_locale();
    t->wanted = wanted;
    if (theme) t->theme = *theme;
    t->in_tmux = tmux && *tmux;
    /* Old hardware-like consoles print what they do not understand. */
    t->strings_safe = strncmp(name, "linux", 5) && strncmp(name, "vt", 2) && strncmp(name, "cons25", 6);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->truecolour = colour && (!strcmp(colour, "truecolor") || !strcmp(colour, "24bit"));
    t->typed_ms = -TYPING_MS;
    t->sixel_level = 4; /* until it is known what goes through */
    t->sixel_colours = 256;
    t->escape_ms = delay && atoi(delay) > 0 ? atoi(delay) : 50;
    input_init(&t->input);
    if (!worker_start(&t->encoder, e)) goto failed;
    /* What the tty knows is told below, within bounds; COLUMNS and LINES are for one that does not. */
    use_env(!tty_size(&(struct winsize){ 0 }));
    t->screen = newterm(NULL, stdout, stdin);
    if (!t->screen) {
        err_set(e, ERR_INPUT, "curses does not know the terminal \"%s\"; is TERM right?", name);
        goto failed;
    }
    t->open = true;
    raw();
    noecho();
    nonl();
    typeahead(-1);
    if (has_colors()) {
        start_color();
        use_default_colors();
    }
    t->depth = choose_depth();
    /* COLORTERM is often lost on the way. */
    t->truecolour = t->truecolour || tigetflag("RGB") > 0 || tigetflag("Tc") > 0;
    arm_crash(t);
    learn_size(t);
    resizeterm(t->rows, t->cols);
    clear();
    refresh();
    ask_all(t);
    force(t);
    *out = t;
    return true;
failed:
    stop_encoder(t);
    if (t->fd >= 0) close(t->fd);
    free(t);
    return false;
}

static void put_back(struct term *t)
{
    struct bytes text = { 0 };

    for (int i = 0; i < t->shown_count; i++) kitty_remove(&text, &t->shown[i]);
    t->shown_count = 0;
    if (t->sixel_restore) bytes_format(&text, "\033[?1;3;%dS", t->sixel_restore);
    if (t->mouse) bytes_text(&text, mouse_off);
    bytes_text(&text, "\033[?2004l");
    bytes_add(&text, "", 1);
    if (!t->gone && !text.lost) send_now(t, text.data);
    bytes_free(&text);
}

/* Some terminals come back from the other screen with the cursor as a picture's DECSC has saved it: it may be hidden. */
static void leave_screen(struct term *t)
{
    char cursor[64];

    endwin();
    send_now(t, capability("cnorm", "", cursor));
}

/* Answers that come after the end would be typed into the shell. */
static void drain(struct term *t)
{
    struct pollfd p = { .fd = t->fd, .events = POLLIN };
    int64_t end = term_now_ms() + 300;
    struct key k;

    if (t->sixel_restore) send_now(t, "\033[c"), t->known = false; /* the restore answers, too */
    while ((!t->known || t->awaiting) && !t->gone && term_now_ms() < end) {
        poll(&p, 1, until(end));
        while (term_read(t, &k)) {}
    }
}

void term_close(struct term *t)
{
    if (!t) return;
    if (!t->gone) {
        struct pollfd p = { .fd = t->fd, .events = POLLOUT };
        drop_pieces(t);
        for (int i = 0; i < 40 && !write_out(t); i++) poll(&p, 1, 50); /* half a piece is no end */
        t->out.count = t->out_done = 0;
        put_back(t);
        drain(t);
        move(t->rows - 1, 0);
        leave_screen(t);
    }
    disarm_crash();
    if (!t->gone) tcsetattr(STDIN_FILENO, TCSAFLUSH, &t->saved);
    stop_encoder(t);
    delscreen(t->screen);
    close(t->fd);
    input_free(&t->input);
    bytes_free(&t->out);
    pieces_free(&t->show);
    free(t->held);
    free(t);
}

void term_mouse(struct term *t, bool on)
{
    if (on == t->mouse) return;
    t->mouse = on;
    crash_armed = 0;
    write_crash_text(t);
    crash_armed = 1;
    send_now(t, on ? mouse_on : mouse_off);
}

void term_resized(struct term *t)
{
    learn_size(t);
    resizeterm(t->rows, t->cols);
    t->cell_told = false;
    force(t);
    ask_size(t);
}

void term_redraw(struct term *t)
{
    force(t);
    t->awaiting = false;
    pace_forget(&t->pace);
    drop_pieces(t);
}

void term_suspend(struct term *t)
{
    struct pollfd p = { .fd = t->fd, .events = POLLOUT };

    drop_pieces(t);
    for (int i = 0; i < 40 && !write_out(t); i++) poll(&p, 1, 50);
    t->out.count = t->out_done = 0;
    put_back(t);
    t->sixel_restore = 0;
    leave_screen(t);
    crash_armed = 0;
}

void term_resume(struct term *t)
{
    crash_armed = 1;
    reset_prog_mode();
    refresh();
    term_resized(t);
    t->known = t->sixel_asked = t->awaiting = false;
    pace_forget(&t->pace);
    ask_all(t);
    force(t);
}
