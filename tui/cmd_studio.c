/* cmd_studio.c - `sluice` alone: the studio.
 *
 * One thread, one poll() on the terminal, the engine and the signals. The view
 * says what is wished for; here it is done. What may be slow (saving a picture a
 * second time) is the worker thread's. */
#include "engine/file.h"
#include "engine/record.h"
#include "tui/cmd.h"
#include "tui/cmd_options.h"
#include "tui/config.h"
#include "tui/service_doctor.h"
#include "tui/service_editor.h"
#include "tui/service_plan.h"
#include "tui/service_profile.h"
#include "tui/service_store.h"
#include "tui/service_preset.h"
#include "tui/service_tokens.h"
#include "tui/studio.h"
#include "tui/term.h"
#include "tui/view.h"
#include "tui/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, FRAME_MS = 33, TICK_MS = 250, EDITOR_MS = 50 };
enum { WORK_TOKENS = 1 }; /* kinds of the worker's jobs */

/* --- signals ---------------------------------------------------------------------- */

static const int signals[] = { SIGWINCH, SIGTSTP, SIGCONT, SIGHUP, SIGTERM, SIGINT };
enum { SIGNALS = sizeof signals / sizeof *signals };
static int signal_pipe[2] = { -1, -1 };

static void on_signal(int sig)
{
    int saved = errno;
    unsigned char c = (unsigned char)sig;

    if (write(signal_pipe[1], &c, 1) < 0) {} /* full: enough are waiting */
    errno = saved;
}

static bool catch_signals(struct err *e)
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

    if (pipe2(signal_pipe, O_NONBLOCK | O_CLOEXEC)) return err_errno(e, errno, "cannot make a pipe");
    sigemptyset(&sa.sa_mask);
    for (int i = 0; i < SIGNALS; i++) sigaction(signals[i], &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    return true;
}

static void release_signals(void)
{
    for (int i = 0; i < SIGNALS; i++) signal(signals[i], SIG_DFL);
    for (int i = 0; i < 2; i++) {
        if (signal_pipe[i] >= 0) close(signal_pipe[i]);
        signal_pipe[i] = -1;
    }
}

/* --- the state of the loop ----------------------------------------------------------- */

struct studio {
    struct term *term;
    struct view *view;
    struct engine *engine;
    const struct studio_engine *calls;
    struct grid grid;
    char out_dir[PATH_BYTES];
    struct worker *worker;
    struct service_store *store;
    struct service_plan plans;
    struct service_profile profiles;
    struct service_tokens *tokens;
    bool dirty, quit, gone;
    bool away; /* the terminal is another program's */
    int signal; /* that ended the loop, or 0 */
    int64_t painted_ms;
};

static void say(struct studio *s, enum view_mood mood, const struct err *e)
{
    view_say(s->view, mood, e->text);
}

struct saving {
    struct worker_job job;
    struct image *image;
    char path[PATH_BYTES];
    char from[PATH_BYTES]; /* the result's own file, to be copied as it is; "": none */
    struct record record;  /* of the picture, should its file have gone; empty: its job is unknown */
    bool ok;
    struct err e;
};

static void save_run(struct worker_job *j)
{
    struct saving *s = (struct saving *)j;

    if (access(s->path, F_OK) == 0) { /* image_write_png renames over what is there */
        err_set(&s->e, ERR_IO, "%s is there already: choose another name", s->path);
        return;
    }
    /* The file carries every setting; if it has gone, the pixels are still here. */
    s->ok = (s->from[0] && file_copy(s->from, s->path, (size_t)1 << 30, NULL)) ||
            (s->record.json ? record_write_png(&s->record, s->image, s->path, &s->e)
                            : image_write_png(s->image, s->path, NULL, 0, &s->e));
}

static void save_done(struct worker_job *j, void *owner)
{
    struct saving *s = (struct saving *)j;
    struct studio *studio = owner;

    if (j->ran) view_saved(studio->view, s->ok, s->ok ? s->path : s->e.text);
    image_free(s->image);
    record_free(&s->record);
    free(s);
}

static void start_saving(struct studio *s, const char *path)
{
    struct view_result r = view_result(s->view);
    struct saving *v;
    struct err e = { 0 };

    if (!r.image) {
        view_saved(s->view, false, "there is no picture");
        return;
    }
    v = calloc(1, sizeof *v);
    if (!v || !(v->image = image_copy(r.image, &e))) {
        view_saved(s->view, false, v ? e.text : "no memory");
        free(v);
        return;
    }
    v->job = (struct worker_job){ .run = save_run, .done = save_done };
    snprintf(v->path, sizeof v->path, "%s", path);
    snprintf(v->from, sizeof v->from, "%s", r.path);
    if (r.job)
        record_make(&v->record, r.job, (int)(r.seed - r.job->seed), s->calls->model(s->engine)->name, r.job->steps,
                    NULL);
    worker_submit(s->worker, &v->job);
}

static void take_work(struct studio *s)
{
    for (struct worker_job *j; (j = worker_take(s->worker)); s->dirty = true) j->done(j, s);
}

/* --- what the view wishes ------------------------------------------------------------- */

static void take_size(struct studio *s)
{
    struct term_size z = term_size(s->term);

    view_resize(s->view,
                (struct view_screen){ z.cols, z.rows, z.cell_w, z.cell_h, z.picture_w, z.picture_h, z.pixels });
}

/* The terminal to another program, and back; meanwhile this one can be stopped. */
static void hand_over(struct studio *s)
{
    sigset_t set;

    s->away = true;
    term_suspend(s->term);
    signal(SIGTSTP, SIG_DFL);
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void take_back(struct studio *s)
{
    sigaction(SIGTSTP, &(struct sigaction){ .sa_handler = on_signal, .sa_flags = SA_RESTART }, NULL);
    term_resume(s->term);
    s->away = false;
    s->dirty = true;
}

static void suspend(struct studio *s)
{
    hand_over(s);
    raise(SIGTSTP);
    take_back(s); /* here again after SIGCONT */
}

static void take_signals(struct studio *s);
static void take_news(struct studio *s);

/* Jobs go on meanwhile, and signals that end the program end the editor. */
static void use_editor(struct studio *s, int which)
{
    struct editor ed;
    struct err e = { 0 };
    char *text = NULL;

    hand_over(s);
    signal(SIGQUIT, SIG_IGN);
    if (editor_start(&ed, view_prompt(s->view, which), &e)) {
        for (bool told = false; !editor_ended(&ed);) {
            poll(&(struct pollfd){ .fd = signal_pipe[0], .events = POLLIN }, 1, EDITOR_MS);
            take_signals(s);
            take_news(s);
            if (s->quit && !told) editor_hang_up(&ed);
            told = s->quit;
        }
        text = editor_finish(&ed, &e);
    }
    signal(SIGQUIT, SIG_DFL);
    take_back(s);
    take_size(s);
    if (text) view_written(s->view, which, text);
    else view_refused(s->view, e.text);
    free(text);
}

static void look_at_terminal(struct studio *s)
{
    struct term_report r;

    term_report(s->term, &r);
    service_doctor_terminal(s->view, &r);
    s->dirty = true;
}

static void grant(struct studio *s, struct wish w)
{
    if (service_store_grant(s->store, &w)) return;
    switch (w.kind) {
    case WISH_CANCEL: s->calls->cancel(s->engine, w.job); break;
    case WISH_SAVE: start_saving(s, w.path); break;
    case WISH_SUSPEND: suspend(s); break;
    case WISH_REDRAW: term_redraw(s->term); break;
    case WISH_MOUSE: term_mouse(s->term, w.on); break;
    case WISH_EDITOR: use_editor(s, w.number); break;
    case WISH_QUIT: s->quit = true; break;
    case WISH_PROFILE_SAVE:
        service_profile_save(&s->profiles, w.profile.name, w.profile.text, w.profile.replace); break;
    case WISH_PROFILE_DELETE: service_profile_delete(&s->profiles, w.profile.name); break;
    case WISH_PRESETS: service_preset(s->worker, s->view, s->calls->model(s->engine), w.presets); break;
    case WISH_DOCTOR: service_doctor(s->worker, s->view); break;
    case WISH_DOCTOR_TERMINAL: look_at_terminal(s); break;
    default: break;
    }
}

/* --- the loop ---------------------------------------------------------------------------- */

static void take_signals(struct studio *s)
{
    unsigned char c;

    while (read(signal_pipe[0], &c, 1) == 1) switch (c) {
        case SIGWINCH:
            if (s->away) break; /* it is asked for when it is back */
            term_resized(s->term);
            take_size(s);
            break;
        case SIGTSTP:
            if (s->away) raise(SIGTSTP); /* came while the terminal was handed over */
            else suspend(s);
            break;
        case SIGCONT: /* stopped by SIGSTOP: the shell has been at the screen */
            if (!s->away) term_resume(s->term);
            break;
        case SIGINT:
            if (s->away) break; /* the editor's */
            s->quit = true;
            s->signal = c;
            break;
        case SIGHUP: s->gone = true; /* fall through */
        default: s->quit = true; s->signal = c; break;
        }
    s->dirty = true;
}

static void take_keys(struct studio *s)
{
    struct key k;

    while (!s->quit && term_read(s->term, &k)) {
        view_tick(s->view, term_now_ms());
        grant(s, view_key(s->view, &k));
        s->dirty = true;
        s->painted_ms = 0; /* what was typed is shown at once */
    }
    if (term_wants_paint(s->term)) {
        take_size(s);
        s->dirty = true;
    }
}

static void take_events(struct studio *s)
{
    struct event ev;

    view_tick(s->view, term_now_ms());
    while (s->calls->poll(s->engine, &ev)) {
        service_store_event(s->store, &ev);
        view_event(s->view, &ev);
        s->dirty = true;
    }
}

/* Of the engine and of all that works beside the loop. */
static void take_news(struct studio *s)
{
    take_events(s);
    take_work(s);
    if (service_store_work(s->store)) s->dirty = true;
}

static void paint(struct studio *s)
{
    struct err e = { 0 };

    view_tick(s->view, term_now_ms());
    if (!view_draw(s->view, &s->grid, &e)) { /* memory: keep the last screen */
        say(s, VIEW_BAD, &e);
        return;
    }
    term_paint(s->term, &s->grid);
    s->dirty = false;
    s->painted_ms = term_now_ms();
    for (struct wish w; (w = view_needs(s->view)).kind;) grant(s, w);
}

/* How long poll may sleep. */
static int patience(const struct studio *s)
{
    int ms = term_timeout(s->term), more = -1;

    if (s->dirty) {
        int64_t wait = s->painted_ms + FRAME_MS - term_now_ms();
        more = wait < 0 ? 0 : (int)wait;
    } else if (view_busy(s->view)) {
        more = TICK_MS;
    }
    return ms < 0 ? more : more < 0 || ms < more ? ms : more;
}

static void loop(struct studio *s)
{
    s->dirty = true;
    while (!s->quit) {
        bool clear = term_flush(s->term); /* half a picture is out: nothing may come between */
        struct pollfd p[5 + SERVICE_STORE_FDS];
        int wait;

        service_plan_pump(&s->plans);
        service_profile_pump(&s->profiles);
        service_tokens_update(s->tokens);
        if (clear && s->dirty && term_now_ms() - s->painted_ms >= FRAME_MS) paint(s);
        p[0] = (struct pollfd){ .fd = term_fd(s->term), .events = term_poll_events(s->term) };
        p[1] = (struct pollfd){ .fd = s->calls->fd(s->engine), .events = POLLIN };
        p[2] = (struct pollfd){ .fd = signal_pipe[0], .events = POLLIN };
        p[3] = (struct pollfd){ .fd = worker_fd(s->worker), .events = POLLIN };
        p[4] = (struct pollfd){ .fd = term_encoder_fd(s->term), .events = POLLIN };
        service_store_fds(s->store, p + 5);
        wait = patience(s);
        if (s->dirty && p[0].events & POLLOUT && wait < FRAME_MS) wait = FRAME_MS;
        if (poll(p, 5 + SERVICE_STORE_FDS, wait) == 0 && view_busy(s->view)) s->dirty = true;
        if (p[2].revents & POLLIN) take_signals(s);
        take_keys(s);
        take_news(s);
        if (term_gone(s->term)) s->quit = s->gone = true;
    }
}

static void default_folder(char buf[PATH_BYTES])
{
    int n = file_xdg(buf, "XDG_PICTURES_DIR", "Pictures", "");

    if (!n || n >= PATH_BYTES) snprintf(buf, PATH_BYTES, "sluice-pictures");
}

/* What the title says until the first plan tells which device it is. */
static const char *first_device(const struct job *start)
{
    switch (start ? start->device : DEVICE_AUTO) {
    case DEVICE_CPU: return "cpu";
    case DEVICE_CUDA: return "card";
    default: return "auto";
    }
}

int studio_run(const struct studio_options *o, struct engine *g, const struct studio_engine *calls)
{
    struct studio s = { .engine = g, .calls = calls };
    struct err e = { 0 };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct view_options vo = {
        .device = first_device(o->start),
        .threads = o->start && o->start->threads ? o->start->threads : cores > 0 ? (int)cores : 0,
        .start = o->start,
        .home = getenv("HOME"),
        .pictures = o->graphics != GRAPHICS_NONE,
        .loaded = o->loaded,
        .preset = o->preset,
        .profile = o->profile,
        .memory = o->memory,
        .keys = o->keys,
        .mouse = o->mouse,
        .out_dir = s.out_dir,
        .utc_offset = (int)localtime(&(time_t){ time(NULL) })->tm_gmtoff,
    };
    int status = 1;

    if (o->out_dir) snprintf(s.out_dir, sizeof s.out_dir, "%s", o->out_dir);
    else default_folder(s.out_dir);
    if (!view_new(&s.view, calls->model(g), &vo, &e)) goto done;
    if (!worker_start(&s.worker, &e)) goto done;
    struct service_store_options so = { .view = s.view, .engine = g, .calls = calls, .out_dir = s.out_dir };
    if (!service_store_start(&s.store, &so, &e)) goto done;
    s.plans = (struct service_plan){ .view = s.view, .worker = s.worker, .engine = g, .calls = calls };
    s.profiles = (struct service_profile){ .view = s.view, .worker = s.worker };
    if (!service_tokens_start(&s.tokens, calls->model(g), s.worker, WORK_TOKENS, s.view, &e)) goto done;
    /* The signals first: curses would take SIGTSTP for its own, and drop one that comes while it paints. */
    if (!catch_signals(&e) || !term_open(&s.term, o->graphics, o->theme, &e)) goto done;
    term_mouse(s.term, o->mouse);
    take_size(&s);
    loop(&s);
    status = 0;
done:
    /* The terminal first: the engine may need a moment to reach its next block. */
    term_close(s.term);
    release_signals();
    if (s.store) take_events(&s); /* a picture that is done is noted as done */
    if (s.worker) worker_stop(s.worker); /* it may be asking the engine */
    calls->stop(g);
    service_store_stop(s.store);
    if (s.worker) {
        take_work(&s);
        worker_free(s.worker);
    }
    service_tokens_free(s.tokens);
    view_free(s.view);
    grid_free(&s.grid);
    if (e.kind) return cmd_fail(&e);
    if (s.signal) { /* so that whoever sent it sees it */
        signal(s.signal, SIG_DFL);
        raise(s.signal);
    }
    return status;
}

/* --- the command ------------------------------------------------------------------------- */

enum { OPT_GRAPHICS = 512, OPT_OUT_DIR, OPT_THEME, OPT_MOUSE };

static const struct cmd_option own[] = {
    { "graphics", OPT_GRAPHICS, "auto|sixel|kitty|blocks|none", "how pictures are drawn (default: auto)" },
    { "out-dir", OPT_OUT_DIR, "FOLDER", "where pictures go (default: ~/Pictures/sluice)" },
    { "theme", OPT_THEME, "auto|dark|light|mono|FILE", "colours (default: theme.yaml, else auto)" },
    { "mouse", OPT_MOUSE, "on|off", "off: the terminal selects text as ever (default: on)" },
    { 0 },
};

struct studio_command {
    struct studio_options o;
    const char *theme;
};

static int take(void *to, int letter, const char *value)
{
    struct studio_command *c = to;

    switch (letter) {
    case OPT_OUT_DIR: c->o.out_dir = value; break;
    case OPT_THEME: c->theme = value; break;
    case OPT_MOUSE:
        c->o.mouse = !strcmp(value, "on");
        if (!c->o.mouse && strcmp(value, "off")) return cmd_usage("studio", "--mouse \"%s\": use on or off", value);
        break;
    default:
        if (!graphics_from_name(&c->o.graphics, value))
            return cmd_usage("studio", "--graphics \"%s\": use auto, sixel, kitty, blocks or none", value);
    }
    return 0;
}

const struct cmd_command cmd_studio_command = {
    .name = "studio",
    .usage = "usage: sluice [options]\n"
             "\n"
             "Opens the studio: type a prompt, press Enter, watch the picture form. The\n"
             "settings below are what its form begins with, and what each picture gets.\n",
    .notes = "Keys: Enter generate, Esc cancel, ^G help, ^Q quit. Without a terminal: sluice generate.\n",
    .own = own,
    .take = take,
};

/* The job as preset and profile alone have it: what is marked as edited differs from this. */
static bool loaded_job(const struct cmd_options *o, const struct model *m, struct job *j, struct err *e)
{
    struct cmd_options files = *o;

    memset(files.value, 0, sizeof files.value);
    files.prompt = false;
    files.preset.model[0] = 0; /* that it is another model's has been told already */
    return cmd_options_job(&files, m, j, e);
}

/* A profile's name: its file's, without folder and ending. */
static const char *profile_name(const struct profile *p, char buf[FILE_PATH_MAX])
{
    const char *slash = strrchr(p->path, '/');
    char *dot;

    snprintf(buf, FILE_PATH_MAX, "%s", slash ? slash + 1 : p->path);
    if ((dot = strrchr(buf, '.'))) *dot = 0;
    return buf;
}

int cmd_studio(int argc, char **argv)
{
    static const struct studio_engine calls = {
        .stop = engine_stop,     .model = engine_model,   .submit = engine_submit,
        .cancel = engine_cancel, .pause = engine_pause,   .resume = engine_resume,
        .poll = engine_poll,     .fd = engine_fd,         .foresee = engine_foresee,
        .foresee_speed = engine_foresee_speed,
    };
    struct studio_command c = { .o.mouse = true };
    struct cmd_options options;
    struct job start = { 0 }, loaded = { 0 };
    struct keys keys;
    struct theme theme;
    char path[MODEL_PATH_MAX], name[FILE_PATH_MAX];
    struct engine *g = NULL;
    struct err e = { 0 };
    int status = cmd_options_read(&options, &cmd_studio_command, &c, argc, argv);

    if (status != CMD_GO) return status;
    if (optind < argc) {
        cmd_options_free(&options);
        return cmd_usage("studio", "\"%s\" is not a command", argv[optind]);
    }
    if (config_user_keys(&keys, &e) && config_user_theme(&theme, c.theme, &e) &&
        cmd_options_model(&options, path, &e) && engine_start(&g, path, &e) &&
        cmd_options_job(&options, engine_model(g), &start, &e) && loaded_job(&options, engine_model(g), &loaded, &e)) {
        c.o.start = &start;
        c.o.loaded = &loaded;
        c.o.preset = options.preset_name ? options.preset.name : NULL;
        if (options.profile_name) c.o.memory = &options.profile;
        else if (options.preset.has_profile) c.o.memory = &options.preset.profile;
        if (options.profile_name) c.o.profile = profile_name(&options.profile, name);
        else if (options.preset.has_profile) c.o.profile = profile_name(&options.preset.profile, name);
        c.o.keys = &keys;
        c.o.theme = &theme;
        status = studio_run(&c.o, g, &calls);
    } else {
        engine_stop(g);
        status = cmd_fail(&e);
    }
    job_free(&start);
    job_free(&loaded);
    cmd_options_free(&options);
    return status;
}
