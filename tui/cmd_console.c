/* cmd_console.c - see cmd_console.h. */
#include "tui/cmd_console.h"

#include "tui/cmd.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* --- printing --------------------------------------------------------------------------- */

static json_t *bytes_json(size_t bytes)
{
    return bytes == EVENT_UNKNOWN ? json_null() : json_integer((json_int_t)bytes);
}

static json_t *memory_json(const struct event_memory *m)
{
    json_t *activations = json_object(), *weights = json_object();
    for (enum stage s = STAGE_CLIP; s <= STAGE_VAE; s++) {
        json_object_set_new(activations, stage_name(s), json_integer((json_int_t)m->activations[s]));
        json_object_set_new(weights, stage_name(s), json_integer((json_int_t)m->weights[s]));
    }
    json_t *o = json_pack("{s:I, s:I, s:o, s:o, s:I, s:I, s:I}", "arena_bytes", (json_int_t)m->arena_bytes,
                          "used_bytes",
                          (json_int_t)m->used_bytes, "activation_bytes", activations, "weight_bytes", weights,
                          "rss_bytes",
                     (json_int_t)m->rss, "rss_anonymous_bytes", (json_int_t)m->rss_anonymous, "rss_file_bytes",
                     (json_int_t)m->rss_file);
    json_object_set_new(o, "link_bytes", json_integer((json_int_t)m->link_bytes));
    if (m->device_total) {
        json_object_set_new(o, "device_total_bytes", bytes_json(m->device_total));
        json_object_set_new(o, "device_free_bytes", bytes_json(m->device_free));
        json_object_set_new(o, "device_others_bytes", bytes_json(m->device_others));
        json_object_set_new(o, "device_held_bytes", bytes_json(m->device_held));
        if (m->device_why[0])
            json_object_set_new(o, "device_why", json_string(m->device_why));
    }
    return o;
}

static void print_json(const struct event *ev)
{
    bool file = ev->kind == EVENT_DONE || (ev->kind == EVENT_CANCELLED && ev->text[0]);
    json_t *o = json_pack("{s:s, s:I, s:i, s:s, s:i, s:i, s:f}", "event", event_kind_name(ev->kind), "job",
                          (json_int_t)ev->job, "index", ev->index, "stage", stage_name(ev->stage), "step", ev->step,
                          "steps", ev->steps, "seconds", ev->seconds);
    if (ev->blocks) {
        json_object_set_new(o, "block", json_integer(ev->block));
        json_object_set_new(o, "blocks", json_integer(ev->blocks));
    }
    if (ev->kind == EVENT_PROGRESS && ev->eta_seconds >= 0)
        json_object_set_new(o, "eta_seconds", json_real(ev->eta_seconds));
    if (ev->kind == EVENT_STARTED || ev->kind == EVENT_DONE) {
        char seed[32];
        snprintf(seed, sizeof seed, "%llu", (unsigned long long)ev->seed);
        json_object_set_new(o, "seed", json_string(seed)); /* 64 bits do not fit JSON's numbers */
        json_object_set_new(o, "width", json_integer(ev->width));
        json_object_set_new(o, "height", json_integer(ev->height));
    }
    if (ev->kind == EVENT_MEMORY)
        json_object_set_new(o, "memory", memory_json(&ev->memory));
    if (ev->kind == EVENT_FAILED)
        json_object_set_new(o, "fault", json_string(err_kind_name(ev->fault)));
    if (ev->text[0]) {
        json_t *text = json_string(ev->text);
        json_object_set_new(o, file ? "path" : "text", text ? text : json_string("(not UTF-8)"));
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(o);
}

/* "transformer  7/20 [=======>------------]  0.8 s left" over the last line. */
static void print_bar(const struct event *ev)
{
    enum { WIDTH = 30 };
    char bar[WIDTH + 1];
    double done = ev->blocks ? (double)ev->block / ev->blocks : 0;
    if (ev->stage == STAGE_FLUX && ev->steps)
        done = (ev->step - 1 + done) / ev->steps;
    for (int i = 0; i < WIDTH; i++)
        bar[i] = i < (int)(done * WIDTH) ? '#' : '.';
    bar[WIDTH] = '\0';
    fprintf(stderr, "\r%-11s [%s] %3.0f%%", stage_name(ev->stage), bar, done * 100);
    if (ev->stage == STAGE_FLUX)
        fprintf(stderr, "  step %d/%d", ev->step, ev->steps);
    if (ev->eta_seconds >= 0)
        fprintf(stderr, "  %.1f s left", ev->eta_seconds);
    fputs("\033[K", stderr);
}

static void clear_bar(const struct console *c)
{
    if (c->bar)
        fputs("\r\033[K", stderr);
}

void console_print(const struct console *c, const struct event *ev)
{
    if (c->json)
        print_json(ev);
    switch (ev->kind) {
    case EVENT_PROGRESS:
        if (c->bar)
            print_bar(ev);
        break;
    case EVENT_NOTICE:
        clear_bar(c);
        cmd_say(ev->text);
        break;
    case EVENT_DONE:
        clear_bar(c);
        if (!c->json) {
            cmd_print(stdout, ev->text);
            printf("  seed %llu, %dx%d, %.2f s\n", (unsigned long long)ev->seed, ev->width, ev->height, ev->seconds);
            fflush(stdout);
        }
        break;
    case EVENT_CANCELLED:
        clear_bar(c);
        fputs("sluice: cancelled", stderr);
        if (ev->text[0]) {
            fprintf(stderr, " after step %d of %d; the partial picture is ", ev->step, ev->steps);
            cmd_print(stderr, ev->text);
        }
        fputc('\n', stderr);
        break;
    case EVENT_FAILED:
        clear_bar(c);
        cmd_say(ev->text);
        break;
    default:
        break;
    }
}

/* --- waiting ---------------------------------------------------------------------------- */

int console_signals(struct err *e)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    /* Blocked before the engine's threads exist, so that only signalfd sees them. */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        err_errno(e, errno, "signalfd");
    return signals;
}

int console_signal(int signals)
{
    struct signalfd_siginfo info;
    return read(signals, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

bool console_sleep(int engine, int signals)
{
    struct pollfd fd[2] = { { engine, POLLIN, 0 }, { signals, POLLIN, 0 } };
    return poll(fd, 2, -1) >= 0 || errno == EINTR;
}

struct store *console_store(struct store **s, bool *tried)
{
    char notice[STORE_NOTICE_BYTES];
    struct err e = { 0 };
    if (*tried)
        return *s;
    *tried = true;
    if (!store_open(s, NULL, notice, &e)) {
        err_prefix(&e, "the history is not kept");
        cmd_say(e.text);
    } else if (notice[0]) {
        cmd_say(notice);
    }
    return *s;
}
