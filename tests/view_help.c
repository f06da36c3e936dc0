/* view_help.c - see view_help.h. */
#include "tests/view_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct view *make_view(const char *preset, const char *profile)
{
    struct view *v = NULL;
    struct err e = { 0 };
    struct view_options o = { .device = "cpu", .threads = 2, .out_dir = "/home/me/Pictures/sluice", .home = "/home/me",
                              .pictures = true, .preset = preset, .profile = profile };

    if (!view_new(&v, fake_model(), &o, &e)) fail_msg("%s", e.text);
    view_tick(v, 1000);
    return v;
}

char *screen(struct view *v, int cols, int rows)
{
    static char *text;
    struct grid g = { 0 };

    free(text);
    view_resize(v, (struct view_screen){ .cols = cols, .rows = rows });
    assert_true(view_draw(v, &g, NULL));
    assert_int_equal(g.cols, cols);
    text = grid_text(&g);
    grid_free(&g);
    return text;
}

void has(struct view *v, const char *what)
{
    char *s = screen(v, 80, 24);

    if (!strstr(s, what)) {
        fputs(s, stderr);
        fail_msg("\"%s\" is not on the screen", what);
    }
}

void has_not(struct view *v, const char *what)
{
    char *s = screen(v, 80, 24);

    if (strstr(s, what)) {
        fputs(s, stderr);
        fail_msg("\"%s\" is on the screen", what);
    }
}

void golden(struct view *v, const char *name, int cols, int rows)
{
    char path[256], expected[65536] = "", *text = screen(v, cols, rows);
    const char *mode = getenv("SLUICE_GOLDEN");
    bool writing = mode && !strcmp(mode, "write");
    FILE *f;

    snprintf(path, sizeof path, "tests/golden/screens/%s-%dx%d.txt", name, cols, rows);
    f = fopen(path, writing ? "w" : "r");
    if (!f) fail_msg("%s cannot be opened", path);
    if (writing) fputs(text, f);
    else expected[fread(expected, 1, sizeof expected - 1, f)] = 0;
    fclose(f);
    if (writing || !strcmp(text, expected)) return;
    fputs(text, stderr);
    fail_msg("the screen is not that of %s (SLUICE_GOLDEN=write writes it again)", path);
}

struct wish press(struct view *v, enum key_kind kind)
{
    return view_key(v, &(struct key){ .kind = kind });
}

struct wish ctrl(struct view *v, char c)
{
    return view_key(v, &(struct key){ .kind = K_CHAR, .ch = (uint32_t)c, .mods = K_CTRL });
}

struct wish alt(struct view *v, char c)
{
    return view_key(v, &(struct key){ .kind = K_CHAR, .ch = (uint32_t)c, .mods = K_ALT });
}

struct wish type(struct view *v, const char *ascii)
{
    struct wish w = { 0 };

    for (; *ascii; ascii++) w = view_key(v, &(struct key){ .kind = K_CHAR, .ch = (unsigned char)*ascii });
    return w;
}

struct wish click(struct view *v, enum key_mouse what, int x, int y)
{
    return view_key(v, &(struct key){ .kind = K_MOUSE, .ch = what, .x = x, .y = y });
}

void submit(struct view *v, uint64_t id, uint64_t seed)
{
    struct job j = { 0 };
    bool random_seed;

    assert_true(view_request(v, &j, &random_seed, NULL));
    j.seed = seed;
    assert_true(job_set_string(&j.out, "/home/me/Pictures/sluice/x.png", NULL));
    view_submitted(v, id, &j);
    view_queued(v, 1, seed);
    job_free(&j);
}

struct event about(enum event_kind kind, uint64_t job)
{
    return (struct event){ .kind = kind, .job = job, .count = 1, .steps = 20, .seed = 42, .width = 256, .height = 256,
                           .eta_seconds = -1 };
}

void news(struct view *v, struct event ev)
{
    view_event(v, &ev);
    assert_null(ev.image);
}

uint32_t random_next(uint32_t *state)
{
    uint32_t s = *state;

    s ^= s << 13;
    s ^= s >> 17;
    s ^= s << 5;
    return *state = s;
}
