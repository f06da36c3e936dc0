/* pane_memory.c - see pane_memory.h. */
#include "tui/pane_memory.h"

#include "tui/edit.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* --- the last minute ----------------------------------------------------------- */

void memory_history_note(struct memory_history *h, int64_t now_ms, const struct event_memory *m)
{
    int64_t second = now_ms / 1000, gone = h->count ? second - h->second : 1;
    size_t before = h->count ? h->used[h->count - 1] : 0;

    for (int64_t i = gone < MEMORY_SECONDS ? gone : MEMORY_SECONDS; i > 0; i--) {
        if (h->count == MEMORY_SECONDS) memmove(h->used, h->used + 1, (MEMORY_SECONDS - 1) * sizeof *h->used);
        else h->count++;
        h->used[h->count - 1] = before; /* nothing was told: nothing has changed */
    }
    h->second = second > h->second ? second : h->second;
    /* Of one second the most. */
    if (gone > 0 || m->used_bytes > h->used[h->count - 1]) h->used[h->count - 1] = m->used_bytes;
    if (m->link_bytes < h->link_bytes || !h->link_ms) { /* another job */
        h->link_rate = 0;
    } else if (now_ms - h->link_ms < 500) {
        return;
    } else {
        h->link_rate = (double)(m->link_bytes - h->link_bytes) * 1000 / (double)(now_ms - h->link_ms);
    }
    h->link_bytes = m->link_bytes;
    h->link_ms = now_ms;
}

/* --- what is shown --------------------------------------------------------------- */

bool pane_memory_same(const struct pane_memory *m)
{
    return m->plan && m->plan->ok && m->now && m->plan->arena == m->now->arena_bytes;
}

/* A plan that is not known yet, as far as the job that runs has told it. */
static struct plan_summary told(const struct event_memory *m)
{
    struct plan_summary p = { .ok = true, .arena = m->arena_bytes };

    for (enum phase i = 0; i < PHASE_COUNT; i++) {
        enum stage s = phase_stage(i);
        struct plan_part *q = &p.phase[i];
        if (i == PHASE_MODULATION) continue;
        *q = (struct plan_part){ .activations = m->activations[s], .resident = m->on_device[s],
                                 .weights = m->weights[s], .peak = m->activations[s] + m->on_device[s] };
        if (q->peak > p.phase[p.top].peak) p.top = i;
    }
    return p;
}

/* "0 B", where draw_size has "-" for what is unknown. */
static const char *zero_or_size(size_t bytes, char buf[16])
{
    return bytes ? draw_size(bytes, buf) : strcpy(buf, "0 B");
}

/* "6.9 of 8.0 GB": a unit that both have is said once. */
static const char *size_of(size_t part, size_t whole, char buf[40])
{
    char a[16], b[16];
    char *unit = strrchr(zero_or_size(part, a), ' '), *other = strrchr(zero_or_size(whole, b), ' ');

    if (!strcmp(unit, other)) *unit = 0;
    snprintf(buf, 40, "%s of %s", a, b);
    return buf;
}

const char *plan_peak_text(const struct plan_summary *p, char buf[64])
{
    char size[40];

    if (p->budget) size_of(p->arena, p->budget, size);
    else zero_or_size(p->arena, size);
    snprintf(buf, 64, "peaks at %s in %s", size, stage_name(phase_stage(p->top)));
    return buf;
}

const char *plan_time_text(double seconds, char buf[16])
{
    if (seconds <= 0) return "n/a";
    if (seconds >= 99.95) return draw_time(seconds, buf);
    snprintf(buf, 16, seconds < 9.995 ? "%.2f s" : "%.1f s", seconds);
    return buf;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static bool runs_now(const struct pane_memory *m, enum phase i)
{
    return m->running && phase_stage(i) == m->stage && i != PHASE_MODULATION;
}

/* One bar: weights, what stays and what passes through, then work; the budget's line; what is
 * in use now. */
static void draw_phase(struct grid *g, struct rect r, int y, const struct pane_memory *m, const struct plan_summary *p,
                       enum phase i)
{
    const struct plan_part *q = &p->phase[i];
    enum stage s = phase_stage(i);
    bool now = runs_now(m, i), past = m->running && m->seen && m->seen[s] && s < m->stage;
    size_t scale = larger(p->budget, p->arena);
    int x = r.x + 13, w = r.w - 13 - 9 - 1;
    char buf[16];

    draw_text(g, r, r.x, y, now ? COLOUR_ACCENT : COLOUR_DIM, 0, now ? "»" : past ? "◆" : "·");
    draw_text(g, r, r.x + 2, y, now ? COLOUR_ACCENT : COLOUR_TEXT, now ? CELL_BOLD : 0,
              i == PHASE_STEP ? "steps" : phase_name(i));
    draw_right(g, r, y, q->peak == p->arena ? COLOUR_TEXT : COLOUR_DIM, 0, draw_size(q->peak, buf));
    if (w < 4 || !scale) return;
    draw_bar(g, r, x, y, w, (double)(q->peak - q->activations) / (double)scale, (double)q->activations / (double)scale);
    if (p->budget) draw_text(g, r, x + (int)((double)p->budget / (double)scale * w), y, COLOUR_BORDER, 0, "│");
    if (now && pane_memory_same(m)) {
        int at = (int)((double)m->now->used_bytes / (double)scale * w);
        draw_text(g, r, x + (at < w ? at : w - 1), y, COLOUR_WARN, CELL_BOLD, "◆");
    }
}

/* --- figures ----------------------------------------------------------------------- */

enum { FIGURES_MAX = 8, FIGURE_BYTES = 48 };
struct figures {
    int count;
    struct { const char *label; char value[FIGURE_BYTES], brief[16]; } of[FIGURES_MAX]; /* brief: in a row of several */
};

static void figure(struct figures *f, const char *label, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void figure(struct figures *f, const char *label, const char *fmt, ...)
{
    va_list ap;

    if (f->count == FIGURES_MAX) return;
    va_start(ap, fmt);
    vsnprintf(f->of[f->count].value, FIGURE_BYTES, fmt, ap);
    va_end(ap);
    f->of[f->count].brief[0] = 0;
    f->of[f->count++].label = label;
}

/* What is free of the device's memory, and what others have of it. total 0: unknown. */
static void figure_device(struct figures *f, size_t total, size_t available, size_t others)
{
    char a[40];

    bool known = total && available != EVENT_UNKNOWN;

    figure(f, "free", "%s", known ? size_of(available, total, a) : "n/a");
    if (known) snprintf(f->of[f->count - 1].brief, sizeof f->of->brief, "%s", zero_or_size(available, a));
    figure(f, "others", "%s", total && others != EVENT_UNKNOWN ? zero_or_size(others, a) : "n/a");
}

static size_t left(size_t of, size_t a, size_t b)
{
    return a + b < of ? of - a - b : 0;
}

static size_t all_weights(const struct plan_summary *p)
{
    size_t bytes = 0;

    for (enum phase i = 0; i < PHASE_COUNT; i++) bytes += p->phase[i].weights;
    return bytes;
}

static void collect(const struct pane_memory *m, const struct plan_summary *p, bool time_said, struct figures *f)
{
    const struct event_memory *now = m->now;
    char a[40], b[16];

    if (m->running && now) {
        figure(f, "in use", "%s", size_of(now->used_bytes, now->arena_bytes, a));
        if (now->device_total)
            figure_device(f, now->device_total, now->device_free, now->device_others);
        else
            figure_device(f, now->host_total, now->host_free,
                          left(now->host_total, now->host_free, now->rss_anonymous));
        if (m->history && m->history->link_rate > 0)
            figure(f, "link", "%s/s", draw_size((size_t)m->history->link_rate, a));
    } else if (p) {
        figure_device(f, p->memory.total, p->memory.free, p->memory.others);
        if (p->link) figure(f, "over link", "%s", draw_size(p->link, a));
        if (!p->budget) figure(f, "weights", "%s, used where they lie", zero_or_size(all_weights(p), a));
        if (p->preview_scale) figure(f, "previews", "TAEF1, 1/%d, %s", p->preview_scale, draw_size(p->preview_peak, a));
        if (p->seconds > 0 && !time_said) figure(f, "time", "about %s", plan_time_text(p->seconds, a));
    }
    if (now) figure(f, "RSS", "%s", draw_size(now->rss, a));
    if (now && now->rss)
        figure(f, "  own, mapped", "%s, %s", draw_size(now->rss_anonymous, a), draw_size(now->rss_file, b));
    if (p && !m->running && p->disk_seconds > 0.5)
        figure(f, "from disk", "%s more, once", plan_time_text(p->disk_seconds, a));
}

/* Those from `i` on, as many as go into one row. Returns the first that does not. */
static int draw_flow(struct grid *g, struct rect r, int y, const struct figures *f, int i)
{
    int x = r.x;

    for (; i < f->count; i++) {
        const char *value = f->of[i].brief[0] ? f->of[i].brief : f->of[i].value;
        int w = edit_width(f->of[i].label, strlen(f->of[i].label)) + 1 + edit_width(value, strlen(value));
        if (x + w > r.x + r.w) break;
        x += draw_text(g, r, x, y, COLOUR_DIM, 0, f->of[i].label) + 1;
        x += draw_text(g, r, x, y, COLOUR_TEXT, 0, value) + 2;
    }
    return i;
}

static void draw_spark(struct grid *g, struct rect r, int y, const struct pane_memory *m)
{
    static const char *const level[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
    const struct memory_history *h = m->history;
    int x = r.x + draw_text(g, r, r.x, y, COLOUR_DIM, 0, "60 s") + 1, room = r.x + r.w - x;
    int n = h->count < room ? h->count : room;
    size_t most = m->now ? m->now->arena_bytes : 0;

    for (int i = 0; i < h->count; i++) most = larger(most, h->used[i]);
    for (int i = 0; i < n; i++) {
        size_t used = h->used[h->count - n + i];
        int l = most ? (int)((double)used / (double)most * 7 + 0.5) : 0;
        draw_text(g, r, r.x + r.w - n + i, y, used ? COLOUR_BAR : COLOUR_TRACK, 0, level[l]);
    }
}

/* --- the pane ------------------------------------------------------------------------ */

static void draw_refusal(struct grid *g, struct rect r, const struct pane_memory *m)
{
    int rows = draw_wrapped(g, r, r.y, r.h > 2 ? r.h - 1 : r.h, COLOUR_BAD, 0, m->plan->text);

    if (rows < r.h && m->remedy) draw_wrapped(g, r, r.y + rows, r.h - rows, COLOUR_DIM, 0, m->remedy);
}

/* The plan in words, and its time where there is room: then true. */
static bool draw_headline(struct grid *g, struct rect r, const struct plan_summary *p)
{
    char text[64], buf[16];
    const char *time = plan_time_text(p->seconds, buf), *peak = plan_peak_text(p, text);
    int w = 0;

    if (edit_width(peak, strlen(peak)) > r.w) { /* "peaks at" shorter */
        w = draw_text(g, r, r.x, r.y, COLOUR_TEXT, CELL_BOLD, "peak");
        peak += strlen("peaks at");
    }
    w += draw_fit(g, r, r.x + w, r.y, r.w - w, COLOUR_TEXT, CELL_BOLD, peak, false);
    if (p->seconds <= 0 || w + 2 + (int)strlen(time) > r.w) return false;
    draw_right(g, r, r.y, COLOUR_DIM, 0, time);
    return true;
}

static void draw_figures(struct grid *g, struct rect r, const struct pane_memory *m, const struct plan_summary *p,
                         bool time_said)
{
    bool spark = m->history && m->history->count > 1;
    struct figures f = { 0 };
    int y = r.y, end = r.y + r.h;

    collect(m, p, time_said, &f);
    if (r.h >= f.count + spark + 1) y++; /* a blank row */
    if (spark && end - y >= 2) draw_spark(g, r, --end, m);
    if (end - y < 3) {
        for (int i = 0; i < f.count && y < end; y++) i = draw_flow(g, r, y, &f, i);
        return;
    }
    for (int i = 0; i < f.count && y < end; i++, y++) {
        draw_text(g, r, r.x, y, COLOUR_DIM, 0, f.of[i].label);
        draw_right(g, r, y, COLOUR_TEXT, 0, f.of[i].value);
    }
}

void pane_memory_draw(struct grid *g, struct rect r, const struct pane_memory *m)
{
    struct plan_summary from_job;
    const struct plan_summary *p = m->plan;
    bool time_said = false;
    int y = r.y;

    if (r.h < 1 || r.w < 1) return;
    if (p && !p->ok) {
        draw_refusal(g, r, m);
        return;
    }
    if (!p && m->now && m->now->arena_bytes) {
        from_job = told(m->now);
        p = &from_job;
    }
    if (!p) {
        draw_fit(g, r, r.x, y++, r.w, COLOUR_DIM, 0,
                 m->unreadable ? "no plan: a setting cannot be read" : "no plan yet", false);
    } else {
        time_said = draw_headline(g, r, p);
        y++;
        if (r.h > PHASE_COUNT) {
            for (enum phase i = 0; i < PHASE_COUNT; i++)
                if (p->phase[i].peak || i != PHASE_MODULATION) draw_phase(g, r, y++, m, p, i);
        } else if (r.h > 2) {
            enum phase i = 0;
            while (m->running && i < PHASE_COUNT - 1 && !runs_now(m, i)) i++;
            draw_phase(g, r, y++, m, p, m->running && runs_now(m, i) ? i : p->top);
        }
    }
    if (y < r.y + r.h) draw_figures(g, (struct rect){ r.x, y, r.w, r.y + r.h - y }, m, p, time_said);
}

void pane_memory_line(struct grid *g, struct rect r, const struct pane_memory *m)
{
    struct figures f = { 0 };
    char text[64];
    int x = r.x;

    if (r.h < 1) return;
    if (m->plan && !m->plan->ok) {
        draw_fit(g, r, x, r.y, r.w, COLOUR_BAD, 0, m->plan->text, false);
        return;
    }
    if (m->plan) x += draw_fit(g, r, x, r.y, r.w, COLOUR_TEXT, 0, plan_peak_text(m->plan, text), false) + 2;
    collect(m, m->plan, false, &f);
    draw_flow(g, (struct rect){ x, r.y, r.x + r.w - x, 1 }, r.y, &f, 0);
}
