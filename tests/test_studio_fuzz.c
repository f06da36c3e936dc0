/* test_studio_fuzz.c - the whole view at random: keys, pastes, clicks, sizes, news and
 * services' answers, all of it with text that would like to reach the terminal. After each
 * step every cell holds a character that a terminal can only show.
 *
 * 10,000 keys a run; the seed is printed, SLUICE_SEED replays it and SLUICE_ROUNDS makes
 * it longer. Quick enough for the sanitizers. */
#include "tests/view_help.h"
#include "tui/edit.h"
#include "tui/presets.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utf8proc.h>
#include <wchar.h>

#include <cmocka.h>

static uint32_t state, first; /* of the random numbers; where they began */
static int step;

static uint32_t draw(uint32_t below)
{
    return (random_next(&state) >> 4) % below;
}

/* Sequences, controls of all kinds, what is invisible or turns rows around, half characters, and words.
 * Good until the next eight calls. */
static const char *hostile(void)
{
    static const char *const bits[] = {
        "\033[2J", "\033]0;title\007", "\033]52;c;aGk=\033\\", "\033P1;1q~\033\\", "\033[?1049l", "\x9b" "2J",
        "\xc2\x9b" "31m", "\xc2\x90",
        "\x07", "\b\b\b", "\r", "\n", "\t", "\x7f", "\x01", "\xe2\x80\xae", "\xe2\x81\xa6", "\xe2\x80\x8b",
        "\xe2\x80\x8f", "\xe2\x81\xa0",
        "\xef\xbb\xbf", "\xf3\xa0\x81\x81", "\xd8\x9c", "\xc2\xad", "\xff", "\xc3", "\xe7\x8c", "\xf0\x9f\x98",
        "\xed\xa0\x80", "\xc0\xaf",
        "\xf4\x90\x80\x80", "\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81", "猫",
        "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7",
        "\xf0\x9f\x87\xab\xf0\x9f\x87\xb7", "\xe3\x85\xa4", "\xe1\x85\x9f", "word ", "a", " ", "{red|blue}", "%s%n",
        "../../etc/", "~/x.png",
    };
    static char text[8][700];
    static int at;
    char *s = text[at = (at + 1) % 8];
    size_t n = 0;

    for (uint32_t i = draw(draw(4) ? 6 : 60); i > 0; i--) {
        const char *b = bits[draw(sizeof bits / sizeof *bits)];
        memcpy(s + n, b, strlen(b));
        n += strlen(b);
    }
    s[n] = 0;
    return s;
}

static void wrong(const struct grid *g, int cell, const char *what)
{
    fail_msg("SLUICE_SEED=%u, step %d: cell %d,%d of %dx%d %s", first, step, cell % g->cols, cell / g->cols, g->cols,
             g->rows, what);
}

static void check(const struct grid *g)
{
    for (int i = 0; i < g->cols * g->rows; i++) {
        const struct cell *c = &g->cells[i];
        int x = i % g->cols;
        if (c->width > 2 || (c->width == 2 && (x == g->cols - 1 || c[1].width)) ||
            (c->width == 0 && (x == 0 || c[-1].width != 2)))
            wrong(g, i, "is half a character");
        for (const char *s = c->text; *s;) {
            utf8proc_int32_t cp;
            utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s, -1, &cp);
            bool hidden = false;
            if (n <= 0) wrong(g, i, "is no UTF-8");
            else if (edit_columns(cp, &hidden), hidden) wrong(g, i, "has a character that is not shown as one");
            else if (s == c->text && wcwidth((wchar_t)cp) != c->width)
                wrong(g, i, "has another width than its character");
            else if (s != c->text && wcwidth((wchar_t)cp) != 0) wrong(g, i, "has two characters");
            s += n > 0 ? n : 1;
        }
    }
    if (g->cursor_shown && (g->cursor_x < 0 || g->cursor_x >= g->cols || g->cursor_y < 0 || g->cursor_y >= g->rows))
        fail_msg("SLUICE_SEED=%u, step %d: the cursor is at %d,%d of %dx%d", first, step, g->cursor_x, g->cursor_y,
                 g->cols, g->rows);
}

/* --- what services answer ----------------------------------------------------------- */

static void answer_page(struct view *v, const struct wish *w)
{
    struct store_page p = { .total = draw(60) };

    p.count = (int)draw(12);
    if (p.total < p.count) p.total = p.count;
    p.at = calloc((size_t)p.count + 1, sizeof *p.at);
    for (int i = 0; i < p.count; i++)
        p.at[i] = (struct store_picture){ .id = i + 1, .path = strdup(hostile()), .prompt = strdup(hostile()),
                                          .negative = strdup(hostile()),
                                          .model = strdup(hostile()), .preset = strdup(hostile()),
                                          .record = strdup(hostile()),
                                          .seed = draw(1000), .width = (int)draw(9000), .height = (int)draw(9000),
                                          .time = draw(1u << 27),
                                          .mark = (int)draw(6), .seconds = draw(100) };
    view_gallery_page(v, w ? w->history.query.serial : draw(9), w ? w->history.query.offset : (int)draw(30), &p);
}

static void answer_queue(struct view *v)
{
    struct store_queue q = { .count = (int)draw(9) };

    q.at = calloc((size_t)q.count + 1, sizeof *q.at);
    for (int i = 0; i < q.count; i++)
        q.at[i] = (struct store_job){ .id = i + 1, .state = (enum store_state)draw(STORE_STATE_COUNT_),
                                      .foreign = draw(5) == 0,
                                      .text = strdup(hostile()), .model = strdup(hostile()),
                                      .preset = strdup(hostile()),
                                      .prompt = strdup(hostile()), .error = strdup(draw(2) ? "" : hostile()),
                                      .pictures = 1 + (int)draw(9),
                                      .made = (int)draw(9), .step = (int)draw(30), .steps = (int)draw(30),
                                      .added = draw(1u << 27) };
    view_queue(v, &q, draw(9));
}

static void answer_presets(struct view *v, enum presets_op op)
{
    struct presets_answer a = { .op = op, .ok = draw(4) > 0 };

    snprintf(a.text, sizeof a.text, "%s", hostile());
    snprintf(a.name, sizeof a.name, "%s", hostile());
    snprintf(a.title, sizeof a.title, "%s", hostile());
    snprintf(a.path, sizeof a.path, "%s", hostile());
    snprintf(a.completed, sizeof a.completed, "%s", hostile());
    snprintf(a.hashes.first, sizeof a.hashes.first, "%s", hostile());
    if (op == PRESETS_LOOK) a.ok = false; /* what an import holds has tests of its own */
    if (op == PRESETS_LIST && a.ok) {
        a.count = (int)draw(6);
        a.item = calloc((size_t)a.count + 1, sizeof *a.item);
        for (int i = 0; i < a.count; i++) {
            snprintf(a.item[i].name, sizeof a.item[i].name, "%s", hostile());
            snprintf(a.item[i].preset.name, sizeof a.item[i].preset.name, "%s", hostile());
            snprintf(a.item[i].preset.model, sizeof a.item[i].preset.model, "%s", hostile());
            a.item[i].own = draw(2);
            if (draw(3) == 0) a.item[i].faults = strdup(hostile());
        }
    }
    if (op == PRESETS_PICTURE && draw(2)) a.picture = fake_image(1 + (int)draw(40), 1 + (int)draw(40), 1);
    view_presets(v, &a);
    presets_answer_free(&a);
}

static void answer_profiles(struct view *v)
{
    int n = (int)draw(5);
    struct view_profile *l = calloc((size_t)n + 1, sizeof *l);

    for (int i = 0; i < n; i++) {
        snprintf(l[i].name, sizeof l[i].name, "%s", hostile());
        snprintf(l[i].wrong, sizeof l[i].wrong, "%s", draw(2) ? "" : hostile());
        l[i].own = draw(2);
    }
    view_profiles(v, l, n);
}

static void some_event(struct view *v)
{
    struct event ev = about((enum event_kind)draw(EVENT_KIND_COUNT), 1 + draw(4));

    ev.stage = (enum stage)draw(STAGE_COUNT);
    ev.step = (int)draw(30);
    ev.steps = (int)draw(30);
    ev.block = (int)draw(60);
    ev.blocks = (int)draw(60);
    ev.index = (int)draw(3);
    ev.seconds = draw(1000);
    ev.eta_seconds = draw(3) ? -1 : (double)draw(100000);
    snprintf(ev.text, sizeof ev.text, "%s", hostile());
    if (draw(3) == 0 || ev.kind == EVENT_DONE || ev.kind == EVENT_PREVIEW)
        ev.image = fake_image(1 + (int)draw(40), 1 + (int)draw(40), draw(100));
    view_event(v, &ev);
}

static void some_answer(struct view *v)
{
    static const char *prompts[8];
    struct job j;
    struct view_tokens t = { (int)draw(99), (int)draw(78), (int)draw(600), (int)draw(513), draw(60), draw(60) };

    switch (draw(17)) {
    case 0: view_say(v, (enum view_mood)draw(4), hostile()); break;
    case 1: view_refused(v, hostile()); break;
    case 2: view_saved(v, draw(2), hostile()); break;
    case 3: view_tokens(v, (int)draw(2), &t); break;
    case 4: view_written(v, (int)draw(2), hostile()); break;
    case 5:
        for (int i = 0; i < 8; i++) prompts[i] = hostile();
        view_prompts(v, prompts, 8);
        break;
    case 6: answer_page(v, NULL); break;
    case 7: answer_queue(v); break;
    case 8: view_gallery_record(v, hostile()); break;
    case 9: view_gallery_thumb(v, draw(9), draw(3) ? fake_image(1 + (int)draw(40), 1 + (int)draw(40), 3) : NULL); break;
    case 10: view_show_image(v, fake_image(1 + (int)draw(60), 1 + (int)draw(60), 5), hostile(), hostile()); break;
    case 11: answer_presets(v, (enum presets_op)draw(PRESETS_EXPORT + 1)); break;
    case 12: answer_profiles(v); break;
    case 13: view_ask_resume(v, (int)draw(3), (int)draw(9), (int)draw(9), 20); break;
    case 14: view_ask_many(v, (int)draw(999)); break;
    case 15:
        if (!view_job(v, &j, NULL)) break;
        view_trouble(v, draw(9), &j, (enum err_kind)draw(ERR_KIND_COUNT), (enum stage)draw(STAGE_COUNT), hostile());
        job_free(&j);
        break;
    default:
        if (!view_job(v, &j, NULL)) break;
        job_set_string(&j.prompt, hostile(), NULL);
        view_load(v, &j, hostile(), draw(2) ? hostile() : NULL, NULL);
        job_free(&j);
    }
}

/* --- what is wished ------------------------------------------------------------------- */

static void grant(struct view *v, struct wish w)
{
    struct job j = { 0 };
    bool random_seed;

    switch (w.kind) {
    case WISH_GENERATE:
        if (view_request(v, &j, &random_seed, NULL)) {
            if (draw(2)) view_submitted(v, 1 + draw(4), &j);
            else view_queued(v, 1 + (int)draw(3), draw(1000));
            job_free(&j);
        } else if (draw(2)) {
            view_refused(v, hostile());
        }
        break;
    case WISH_SAVE: view_saved(v, draw(2), hostile()); break;
    case WISH_EDITOR: view_written(v, w.number, hostile()); break;
    case WISH_HISTORY:
        if (w.history.what == HISTORY_LIST) answer_page(v, &w);
        break;
    case WISH_PRESETS:
        if (w.presets->op != PRESETS_LOOK) answer_presets(v, w.presets->op);
        break;
    case WISH_SHEET:
        if (view_job(v, &j, NULL)) {
            view_sheet(v, 1 + draw(4), &j, w.sheet);
            job_free(&j);
        }
        break;
    default: break;
    }
}

static struct key some_key(void)
{
    struct key k = { .kind = (enum key_kind)(1 + draw(K_F12)), .mods = draw(3) ? 0 : draw(8) };

    if (draw(2)) k.kind = K_CHAR;
    if (k.kind == K_CHAR) {
        k.ch = draw(3) == 0 ? 'a' + draw(26) : draw(4) ? 32 + draw(95) : 0xa0 + draw(0x2fff);
        if (draw(50) == 0) k.ch = 0x1f000 + draw(0x1000);
    }
    if (k.kind == K_PASTE) {
        k.text = hostile();
        k.bytes = strlen(k.text);
    }
    if (draw(8) == 0) k = (struct key){ .kind = K_MOUSE, .ch = draw(5), .x = (int)draw(140), .y = (int)draw(60) };
    return k;
}

static void test_anything(void **unused)
{
    (void)unused;
    const char *given = getenv("SLUICE_SEED"), *more = getenv("SLUICE_ROUNDS");
    int steps = more ? atoi(more) * 10000 : 10000;
    struct view *v = make_view(NULL, NULL);
    struct grid g = { 0 };

    first = state = given ? (uint32_t)strtoul(given, NULL, 0) : (uint32_t)time(NULL) | 1;
    print_message("SLUICE_SEED=%u\n", first);
    for (step = 0; step < steps; step++) {
        struct key k = some_key();
        view_tick(v, step * 10);
        grant(v, view_key(v, &k));
        if (draw(4) == 0) some_event(v);
        if (draw(6) == 0) some_answer(v);
        if (draw(12) == 0)
            view_resize(v,
                        (struct view_screen){ .cols = 1 + (int)draw(130), .rows = 1 + (int)draw(50),
                                              .cell_w = (int)draw(20),
                                                 .cell_h = (int)draw(40), .picture_w = (int)draw(400),
                                                 .picture_h = (int)draw(400) });
        assert_true(view_draw(v, &g, NULL));
        check(&g);
        for (int i = 0; i < 20; i++) {
            struct wish w = view_needs(v);
            if (!w.kind) break;
            grant(v, w);
        }
    }
    grid_free(&g);
    view_free(v);
}

/* Every place that text comes to, with the worst text, at three sizes. */
static void test_hostile_text_everywhere(void **unused)
{
    (void)unused;
    static const enum key_kind screens[] = { K_NONE, K_F1, K_F2, K_F3, K_F4, K_F5, K_F6, K_F8 };
    static const int sizes[3][2] = { { 40, 10 }, { 80, 24 }, { 160, 50 } };
    struct grid g = { 0 };

    first = state = 362436069u;
    for (step = 0; step < 100; step++) {
        struct view *v = make_view(hostile(), hostile());
        const char *prompt = hostile(), *old[2] = { hostile(), hostile() };
        view_key(v, &(struct key){ .kind = K_PASTE, .text = prompt, .bytes = strlen(prompt) });
        view_written(v, 1, hostile());
        view_prompts(v, old, 2);
        some_event(v);
        answer_queue(v);
        answer_profiles(v);
        view_say(v, (enum view_mood)draw(4), hostile());
        for (size_t s = 0; s < sizeof screens / sizeof *screens; s++) {
            if (screens[s]) grant(v, press(v, screens[s]));
            else ctrl(v, 'r');
            for (int i = 0; i < 3; i++) {
                view_resize(v, (struct view_screen){ .cols = sizes[i][0], .rows = sizes[i][1] });
                assert_true(view_draw(v, &g, NULL));
                check(&g);
                for (struct wish w; (w = view_needs(v)).kind && draw(9);) grant(v, w);
            }
            press(v, K_ESC);
        }
        view_free(v);
    }
    grid_free(&g);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hostile_text_everywhere),
        cmocka_unit_test(test_anything),
    };

    setlocale(LC_ALL, "C.UTF-8");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
