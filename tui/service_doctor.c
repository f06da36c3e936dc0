/* service_doctor.c - see service_doctor.h. */
#include "tui/service_doctor.h"

#include "engine/doctor.h"

#include <stdlib.h>

struct examining {
    struct worker_job job;
    struct view *view;
    struct doctor_options options;
    struct doctor doctor;
};

static void examining_run(struct worker_job *j)
{
    struct examining *x = (struct examining *)j;

    doctor_examine(&x->doctor, &x->options);
}

static void examining_done(struct worker_job *j, void *owner)
{
    struct examining *x = (struct examining *)j;

    (void)owner;
    if (j->ran) view_doctor(x->view, &x->doctor);
    doctor_free(&x->doctor);
    free(x);
}

void service_doctor(struct worker *w, struct view *v)
{
    struct examining *x = calloc(1, sizeof *x);

    if (!x) {
        view_doctor(v, &(struct doctor){ .lost = 1 });
        return;
    }
    x->job = (struct worker_job){ .run = examining_run, .done = examining_done };
    x->view = v;
    x->options.busy = view_busy(v);
    worker_submit(w, &x->job);
}

static void say_pictures(struct doctor *d, const struct term_report *r)
{
    bool cells = r->chosen == GRAPHICS_BLOCKS && r->wanted == GRAPHICS_AUTO;

    doctor_say(d, DOCTOR_TERMINAL, cells ? DOCTOR_NOTE : DOCTOR_OK, "pictures", r->why, "%s",
               r->chosen == GRAPHICS_BLOCKS ? "half-blocks: two pixels a cell" : graphics_name(r->chosen));
    doctor_say(d, DOCTOR_TERMINAL, r->answered ? DOCTOR_OK : DOCTOR_NOTE, "its answer",
               r->answered ? NULL : "pictures are half-blocks until it answers (--graphics overrules)", "%s",
               r->answered ? r->da1 : "none yet to DA1");
    doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "kitty protocol", NULL, "%s",
               r->kitty_answered ? "yes" : r->kitty_asked ? "no" : "not asked");
    if (r->sixel_colours > 0 && r->sixel_w > 0)
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "sixel", NULL, "%d colours, %dx%d px", r->sixel_colours, r->sixel_w,
                   r->sixel_h);
    else if (r->sixel_colours > 0)
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "sixel", NULL, "%d colours", r->sixel_colours);
    else
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "sixel", NULL, "no");
    if (r->cell_w > 0)
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "cell", r->cell_source, "%dx%d px", r->cell_w, r->cell_h);
    else
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_NOTE, "cell", "pictures may be stretched",
                   "unknown: 10x20 px is assumed");
}

static void say_link(struct doctor *d, const struct term_report *r)
{
    char rate[16];

    if (r->bytes_per_second > 0)
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "link", "previews are as good as it carries",
                   "%s/s, round trip %.1f ms", draw_size((size_t)r->bytes_per_second, rate), r->trip_ms);
    else
        doctor_say(d, DOCTOR_TERMINAL, DOCTOR_OK, "link", NULL, "not known before a picture has gone over it");
}

void service_doctor_terminal(struct view *v, const struct term_report *r)
{
    const char *colour = getenv("COLORTERM"), *no_colour = getenv("NO_COLOR");
    struct doctor d = { 0 };
    bool few = !r->truecolour && r->chosen == GRAPHICS_BLOCKS;

    doctor_say(&d, DOCTOR_TERMINAL, DOCTOR_OK, "TERM", NULL, "%s, %dx%d", r->name, r->cols, r->rows);
    doctor_say(&d, DOCTOR_TERMINAL, few ? DOCTOR_NOTE : DOCTOR_OK, "COLORTERM",
               few ? "half-block pictures get few colours; set it to truecolor if the terminal has them" : NULL, "%s",
               colour && *colour ? colour : "not set");
    if (r->colours > 0)
        doctor_say(&d, DOCTOR_TERMINAL, DOCTOR_OK, "colours", NULL, "%d, on a %s ground", r->colours,
                   r->light ? "light" : "dark");
    else
        doctor_say(&d, DOCTOR_TERMINAL, DOCTOR_OK, "colours",
                   no_colour && *no_colour ? "NO_COLOR is set" : "TERM has none", "none");
    doctor_say(&d, DOCTOR_TERMINAL, r->utf8 ? DOCTOR_OK : DOCTOR_NOTE, "characters",
               r->utf8 ? NULL : "LC_ALL=C.UTF-8 says that the terminal has more than ASCII", "%s",
               r->utf8 ? "UTF-8" : "ASCII");
    say_pictures(&d, r);
    if (!r->in_tmux)
        doctor_say(&d, DOCTOR_TERMINAL, DOCTOR_OK, "tmux", NULL, "no");
    else
        doctor_say(&d, DOCTOR_TERMINAL, DOCTOR_OK, "tmux",
                   "sixel needs tmux 3.4 or newer, and a terminal around it that has it, too", "yes%s%s",
                   *r->tmux_features ? "; around it: " : "", r->tmux_features);
    say_link(&d, r);
    view_doctor_terminal(v, &d);
    doctor_free(&d);
}
