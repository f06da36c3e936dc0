/* screen_picture.c - one picture on the whole screen, or two to be compared.
 *
 * Shown is a picture from elsewhere (view_show_image), else the view's own, else
 * one of the previews kept of the running or the last job: at most KEPT_MAX and
 * KEPT_BYTES; when there are more, every second goes, so that the whole way
 * stays. The other of two is the one marked, else the result before.
 *
 * Places are fractions of a picture, so that they stay where the next one has
 * another size: a preview is smaller than its picture, down to an eighth. What is not simply the
 * whole picture is composed here, in the screen's own pixels, because a grid has
 * one picture. */
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/scale.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_MAX = 64, KEPT_BYTES = 64 * 1000 * 1000, SIDE_GAP_PX = 8 };

/* A picture and what is known of it. */
struct shown_picture {
    struct image *image;
    uint64_t serial;
    int width, height; /* of the picture it stands for; a preview is smaller */
    bool seed_known;
    uint64_t seed;
    char title[512], path[VIEW_PATH_BYTES];
};

enum look { LOOK_ONE, LOOK_SIDE, LOOK_WIPE };

/* All that two composed layers depend on. */
struct composition {
    uint64_t serial[2];
    enum look look;
    int w, h; /* px of all */
    double zoom, x, y;
};

struct picture_state {
    struct shown_picture given, marked, result[2]; /* owned, but given's may be NULL; result[0]: the last */
    struct { struct image *image; uint64_t serial; int step; } kept[KEPT_MAX];
    int kept_count, steps, width, height; /* of the job they are of */
    size_t kept_bytes;
    uint64_t seen;   /* v->serial that was last taken in */
    bool back;       /* looking at kept[at] instead of the newest */
    int at;

    enum look look;
    bool flipped;    /* the other takes the place of the one */
    double wipe;     /* where its line is, 0 to 1 */
    double zoom;     /* px of the screen for one of the picture; 0: all of it */
    double x, y;     /* what is in the middle, 0 to 1 */
    double fit, pan_x, pan_y; /* as last drawn: the zoom at which all is seen, and how much of it is */

    struct composition is;
    struct image *layer[2], *made;
    double made_wipe;
    uint64_t made_serial;
    struct rect at_picture, at_bar; /* as last drawn, for the mouse */
};

/* --- what there is to see ----------------------------------------------------- */

static void forget(struct shown_picture *s)
{
    image_free(s->image);
    memset(s, 0, sizeof *s);
}

static void forget_kept(struct picture_state *p)
{
    for (int i = 0; i < p->kept_count; i++) image_free(p->kept[i].image);
    p->kept_count = 0;
    p->kept_bytes = 0;
    p->back = false;
}

static void forget_made(struct picture_state *p)
{
    image_free(p->layer[0]);
    image_free(p->layer[1]);
    image_free(p->made);
    p->layer[0] = p->layer[1] = p->made = NULL;
}

static bool picture_init(struct view *v, struct err *e)
{
    v->picture = calloc(1, sizeof *v->picture);
    return v->picture || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void picture_free(struct view *v)
{
    struct picture_state *p = v->picture;

    if (!p) return;
    forget(&p->given);
    forget(&p->marked);
    forget(&p->result[0]);
    forget(&p->result[1]);
    forget_kept(p);
    forget_made(p);
    free(p);
}

static size_t bytes_of(const struct image *im)
{
    return (size_t)im->width * (size_t)im->height * 3;
}

static void thin_out(struct picture_state *p)
{
    int n = 0;

    for (int i = 0; i < p->kept_count; i++) {
        if (i % 2 == 0) {
            p->kept[n++] = p->kept[i];
            continue;
        }
        p->kept_bytes -= bytes_of(p->kept[i].image);
        image_free(p->kept[i].image);
    }
    p->kept_count = n;
    p->at /= 2;
}

/* A preview. Without memory for it there is one step less to look at. */
static void keep(struct view *v)
{
    struct picture_state *p = v->picture;
    size_t bytes = bytes_of(v->image);
    struct image *copy;

    if (bytes > KEPT_BYTES / 4) return;
    if (p->kept_count == KEPT_MAX || p->kept_bytes + bytes > KEPT_BYTES) thin_out(p);
    if (!(copy = image_copy(v->image, NULL))) return;
    p->kept[p->kept_count].image = copy;
    p->kept[p->kept_count].serial = v->serial;
    p->kept[p->kept_count++].step = v->image_step;
    p->kept_bytes += bytes;
    p->steps = v->image_steps;
}

/* The view's own, not copied. */
static struct shown_picture newest(const struct view *v)
{
    const struct picture_state *p = v->picture;
    bool preview = v->shown == SHOWN_PREVIEW;
    struct shown_picture s = { .image = v->image, .serial = v->serial };
    const char *prompt = "";

    if (!v->image) return s;
    s.seed_known = v->last_seed_known;
    s.seed = v->image_seed;
    s.width = preview && p->width ? p->width : v->image->width;
    s.height = preview && p->height ? p->height : v->image->height;
    if (!preview) {
        if (v->image_job_known) prompt = v->image_job.prompt;
        snprintf(s.path, sizeof s.path, "%s", v->image_path);
    } else if (v->running) {
        for (const struct request *r = v->requests; r; r = r->next)
            if (r->id == v->running_id) prompt = r->job.prompt;
    }
    snprintf(s.title, sizeof s.title, "%s", prompt);
    return s;
}

/* A copy for later; without memory for it, nothing is. */
static bool copy_of(struct shown_picture *to, const struct shown_picture *from)
{
    struct image *copy = image_copy(from->image, NULL);

    if (!copy) return false;
    forget(to);
    *to = *from;
    to->image = copy;
    return true;
}

static void picture_event(struct view *v, const struct event *ev)
{
    struct picture_state *p = v->picture;
    struct shown_picture s;

    if (ev->kind == EVENT_STARTED) {
        forget_kept(p);
        p->width = ev->width;
        p->height = ev->height;
    }
    if (!v->image || v->serial == p->seen) return;
    p->seen = v->serial;
    if (v->shown == SHOWN_PREVIEW) {
        keep(v);
        return;
    }
    s = newest(v);
    forget(&p->result[1]);
    p->result[1] = p->result[0];
    p->result[0] = (struct shown_picture){ 0 };
    copy_of(&p->result[0], &s);
}

void view_show_image(struct view *v, struct image *im, const char *title, const char *path)
{
    struct picture_state *p = v->picture;

    forget(&p->given);
    p->given = (struct shown_picture){ .image = im, .serial = ++v->serials, .width = im->width, .height = im->height };
    snprintf(p->given.title, sizeof p->given.title, "%s", title);
    snprintf(p->given.path, sizeof p->given.path, "%s", path);
    p->zoom = 0;
    view_open(v, &screen_picture);
}

bool picture_given(const struct view *v)
{
    return view_top(v, &screen_picture) && v->picture->given.image;
}

/* How many places the scrubber has: each preview, and the result. */
static int places(const struct view *v)
{
    const struct picture_state *p = v->picture;

    return p->given.image ? 0 : p->kept_count + (v->shown != SHOWN_PREVIEW);
}

static int place(const struct view *v)
{
    return v->picture->back ? v->picture->at : places(v) - 1;
}

/* What is looked at, and what it is compared with (its image NULL: nothing). Images are borrowed. */
static struct shown_picture subject(const struct view *v)
{
    const struct picture_state *p = v->picture;
    struct shown_picture s;

    if (p->given.image) return p->given;
    s = newest(v);
    if (!p->back) return s;
    s.image = p->kept[p->at].image;
    s.serial = p->kept[p->at].serial;
    s.path[0] = 0;
    if (p->width) s.width = p->width, s.height = p->height;
    return s;
}

static struct shown_picture other(const struct view *v)
{
    const struct picture_state *p = v->picture;

    if (p->marked.image) return p->marked;
    return p->result[!p->given.image && v->shown != SHOWN_PREVIEW && !p->back];
}

/* --- keys ------------------------------------------------------------------------ */

static bool picture_open(struct view *v)
{
    struct picture_state *p = v->picture;

    if (!p->given.image && !v->image) {
        view_say(v, VIEW_WARN, "There is no picture yet");
        return false;
    }
    p->x = p->y = p->wipe = 0.5;
    view_say(v, VIEW_INFO, "");
    return true;
}

static void picture_close(struct view *v)
{
    struct picture_state *p = v->picture;

    forget(&p->given);
    forget_made(p);
    p->look = LOOK_ONE;
    p->zoom = 0;
    p->flipped = p->back = false;
}

static enum keys_context picture_context(const struct view *v)
{
    (void)v;
    return KEYS_PICTURE;
}

/* To the next step; the whole picture is one of them. */
static void zoom(struct picture_state *p, int by)
{
    static const double steps[] = { 0.0625, 0.125, 0.25, 0.375, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16 };
    enum { STEPS = sizeof steps / sizeof *steps };
    double now = p->zoom > 0 ? p->zoom : p->fit, to;
    int i = by > 0 ? 0 : STEPS - 1;

    while (i >= 0 && i < STEPS && (by > 0 ? steps[i] <= now * 1.001 : steps[i] >= now * 0.999)) i += by;
    if (i < 0 || i == STEPS) return;
    to = steps[i];
    p->zoom = (now > p->fit * 1.001 && to <= p->fit) || (now < p->fit * 0.999 && to >= p->fit) ? 0 : to;
}

static double within(double x)
{
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

/* By a part of what is seen. The middle stays where there is a picture all around it. */
static void pan(struct picture_state *p, double dx, double dy)
{
    double half_x = p->pan_x / 2, half_y = p->pan_y / 2;

    p->x = half_x >= 0.5 ? 0.5 : fmin(fmax(p->x + dx * p->pan_x, half_x), 1 - half_x);
    p->y = half_y >= 0.5 ? 0.5 : fmin(fmax(p->y + dy * p->pan_y, half_y), 1 - half_y);
}

static void scrub(struct view *v, int to)
{
    int n = places(v);

    if (n < 1) return;
    to = to < 0 ? 0 : to >= n ? n - 1 : to;
    v->picture->back = to < n - 1;
    v->picture->at = to;
}

static void compare(struct view *v, enum look look)
{
    struct picture_state *p = v->picture;

    if (!other(v).image) {
        view_say(v, VIEW_WARN, "Nothing to compare it with: make a second, or mark one");
        return;
    }
    p->look = p->look == look ? LOOK_ONE : look;
}

static void mark(struct view *v)
{
    struct picture_state *p = v->picture;
    struct shown_picture s = subject(v);

    if (p->marked.image && p->marked.serial == s.serial) {
        forget(&p->marked);
        view_say(v, VIEW_INFO, "No longer marked");
    } else if (copy_of(&p->marked, &s)) {
        view_say(v, VIEW_GOOD, "Marked: what is shown next is compared with this one");
    } else {
        view_say(v, VIEW_BAD, "no memory to keep this picture");
    }
    if (!other(v).image) {
        p->look = LOOK_ONE;
        p->flipped = false;
    }
}

/* Left and right move the wipe's line, else the picture that is larger than the screen, else
 * they go through the steps. */
static void sideways(struct view *v, int by)
{
    struct picture_state *p = v->picture;

    if (p->look == LOOK_WIPE) p->wipe = within(p->wipe + by / 32.0);
    else if (p->pan_x < 1) pan(p, by / 8.0, 0);
    else scrub(v, place(v) + by);
}

static struct wish picture_act(struct view *v, enum action a)
{
    struct picture_state *p = v->picture;

    view_say(v, VIEW_INFO, "");
    switch (a) {
    case ACTION_BACK: view_close(v); break;
    case ACTION_PICTURE_LEFT: sideways(v, -1); break;
    case ACTION_PICTURE_RIGHT: sideways(v, 1); break;
    case ACTION_UP: pan(p, 0, -0.125); break;
    case ACTION_DOWN: pan(p, 0, 0.125); break;
    case ACTION_PAGE_UP: pan(p, 0, -1); break;
    case ACTION_PAGE_DOWN: pan(p, 0, 1); break;
    case ACTION_FIRST: scrub(v, 0); break;
    case ACTION_LAST: scrub(v, places(v)); break;
    case ACTION_PICTURE_EARLIER: scrub(v, place(v) - 1); break;
    case ACTION_PICTURE_LATER: scrub(v, place(v) + 1); break;
    case ACTION_PICTURE_FIT: p->zoom = 0; break;
    case ACTION_PICTURE_ACTUAL: p->zoom = 1; break;
    case ACTION_PICTURE_IN: zoom(p, 1); break;
    case ACTION_PICTURE_OUT: zoom(p, -1); break;
    case ACTION_PICTURE_SIDE: compare(v, LOOK_SIDE); break;
    case ACTION_PICTURE_WIPE: compare(v, LOOK_WIPE); break;
    case ACTION_PICTURE_FLIP:
        if (other(v).image) p->flipped = !p->flipped;
        else compare(v, LOOK_SIDE); /* says why not */
        break;
    case ACTION_PICTURE_MARK: mark(v); break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

static struct wish picture_mouse(struct view *v, const struct key *k)
{
    struct picture_state *p = v->picture;

    if (k->ch == MOUSE_UP) zoom(p, 1);
    if (k->ch == MOUSE_DOWN) zoom(p, -1);
    if (k->ch != MOUSE_LEFT) return view_wish(WISH_NONE);
    if (rect_has(p->at_bar, k->x, k->y)) {
        scrub(v, (k->x - p->at_bar.x) * places(v) / p->at_bar.w);
    } else if (rect_has(p->at_picture, k->x, k->y)) {
        double x = (k->x - p->at_picture.x + 0.5) / p->at_picture.w;
        double y = (k->y - p->at_picture.y + 0.5) / p->at_picture.h;
        if (p->look == LOOK_WIPE) p->wipe = x;
        else if (p->look == LOOK_ONE) pan(p, x - 0.5, y - 0.5);
    }
    return view_wish(WISH_NONE);
}

static const char *picture_hint(const struct view *v, enum action a)
{
    const struct picture_state *p = v->picture;
    const char *label = keys_action(a)->label;

    switch (a) {
    case ACTION_PICTURE: return NULL; /* Back says it */
    case ACTION_SAVE: return p->given.image || v->shown < SHOWN_PARTIAL ? NULL : label;
    case ACTION_PICTURE_FIT: return p->zoom > 0 ? label : NULL;
    case ACTION_PICTURE_ACTUAL: return p->zoom != 1 ? label : NULL;
    case ACTION_PICTURE_EARLIER:
    case ACTION_PICTURE_LATER: return places(v) > 1 ? label : NULL;
    case ACTION_PICTURE_SIDE:
    case ACTION_PICTURE_WIPE:
    case ACTION_PICTURE_FLIP: return other(v).image ? label : NULL;
    default: return label;
    }
}

/* --- composing --------------------------------------------------------------------- */

/* Of one pane: px of the screen. The picture lies in it, `scale` times its size, with
 * (x, y) of it as near to the middle as its edges allow. */
struct pane { int w, h; double scale, aspect, x, y; };

/* Where a picture's `n` px begin, of which `room` are seen. */
static double begin(double middle, double n, double room)
{
    double at = middle * n - room / 2;

    return floor(at < 0 ? 0 : at > n - room ? n - room : at);
}

static struct image *paint(const struct shown_picture *s, const struct pane *p, struct err *e)
{
    double w = s->width * p->scale, h = s->height * p->scale / p->aspect;
    int seen_w = (int)fmax(1, fmin(p->w, w + 0.5)), seen_h = (int)fmax(1, fmin(p->h, h + 0.5));
    double x = w > p->w ? begin(p->x, w, p->w) : 0, y = h > p->h ? begin(p->y, h, p->h) : 0;
    double by_x = s->image->width / w, by_y = s->image->height / h;
    struct image *out = image_new(p->w, p->h, e), *part;
    int left = (p->w - seen_w) / 2, top = (p->h - seen_h) / 2;

    if (!out) return NULL;
    part = scale_part(s->image, x * by_x, y * by_y, w > p->w ? p->w * by_x : s->image->width,
                      h > p->h ? p->h * by_y : s->image->height, seen_w, seen_h, e);
    if (!part) {
        image_free(out);
        return NULL;
    }
    for (int row = 0; row < seen_h; row++)
        memcpy(out->rgb + ((size_t)(top + row) * (size_t)p->w + (size_t)left) * 3,
               part->rgb + (size_t)row * (size_t)seen_w * 3, (size_t)seen_w * 3);
    image_free(part);
    return out;
}

static bool same(const struct composition *a, const struct composition *b)
{
    return a->serial[0] == b->serial[0] && a->serial[1] == b->serial[1] && a->look == b->look && a->w == b->w &&
           a->h == b->h && a->zoom == b->zoom && a->x == b->x && a->y == b->y;
}

static void copy_columns(struct image *to, int at, const struct image *from, int first, int columns)
{
    for (int y = 0; y < to->height; y++)
        memcpy(to->rgb + ((size_t)y * (size_t)to->width + (size_t)at) * 3,
               from->rgb + ((size_t)y * (size_t)from->width + (size_t)first) * 3, (size_t)columns * 3);
}

/* The two side by side, or with the line between them. */
static struct image *join(const struct picture_state *p, int w, int h, struct err *e)
{
    struct image *out = image_new(w, h, e);
    int line = (int)(p->wipe * (w - 1)), thick = w > 200 ? 2 : 1;

    if (!out) return NULL;
    if (p->is.look == LOOK_SIDE) {
        copy_columns(out, 0, p->layer[0], 0, p->layer[0]->width);
        copy_columns(out, w - p->layer[1]->width, p->layer[1], 0, p->layer[1]->width);
        return out;
    }
    copy_columns(out, 0, p->layer[0], 0, line);
    copy_columns(out, line, p->layer[1], line, w - line);
    for (int y = 0; y < h; y++)
        for (int x = line; x < line + thick && x < w; x++)
            memset(out->rgb + ((size_t)y * (size_t)w + (size_t)x) * 3, 255, 3);
    return out;
}

/* p->made of what is to be seen, made only when that has changed. of[1].image NULL: there is one. */
static bool compose(struct view *v, const struct shown_picture of[2], const struct composition *want, struct pane pane,
                    struct err *e)
{
    struct picture_state *p = v->picture;
    bool two = want->look != LOOK_ONE;

    if (p->made && same(want, &p->is) && p->made_wipe == p->wipe) return true;
    if (!same(want, &p->is) || !p->layer[0]) {
        forget_made(p);
        p->is = *want;
        for (int i = 0; i <= two; i++) {
            struct pane q = pane;
            /* The same place in both, at the same size, whatever size they are. */
            if (want->zoom > 0) q.scale = pane.scale * of[0].width / of[i].width;
            else q.scale = fmin((double)pane.w / of[i].width, pane.h * pane.aspect / of[i].height);
            if (!(p->layer[i] = paint(&of[i], &q, e))) {
                forget_made(p);
                return false;
            }
        }
    }
    image_free(p->made);
    p->made = two ? join(p, want->w, want->h, e) : p->layer[0];
    if (!two) p->layer[0] = NULL;
    p->made_wipe = p->wipe;
    p->made_serial = ++v->serials;
    return p->made != NULL;
}

/* --- drawing ----------------------------------------------------------------------- */

static void draw_about(const struct view *v, struct grid *g, struct rect r, const struct shown_picture *s)
{
    const struct picture_state *p = v->picture;
    char text[128], path[VIEW_PATH_BYTES];
    int x = r.x, n;

    n = snprintf(text, sizeof text, "%dx%d", s->width, s->height);
    if (s->seed_known) n += snprintf(text + n, sizeof text - (size_t)n, "  seed %" PRIu64, s->seed);
    x += draw_text(g, r, x, r.y, COLOUR_TEXT, 0, text) + 2;
    if (p->look == LOOK_ONE && p->flipped) x += draw_text(g, r, x, r.y, COLOUR_WARN, 0, "before") + 2;
    snprintf(text, sizeof text, "%s%.0f %%", p->zoom > 0 ? "" : "fit ", (p->zoom > 0 ? p->zoom : p->fit) * 100);
    n = (int)strlen(text);
    draw_right(g, r, r.y, COLOUR_DIM, 0, text);
    n = r.x + r.w - n - 2 - x;
    if (v->shown == SHOWN_UNSAVED && !p->given.image && !p->back)
        draw_fit(g, r, x, r.y, n, COLOUR_BAD, CELL_BOLD, "NOT SAVED", false);
    else draw_fit(g, r, x, r.y, n, COLOUR_DIM, 0, view_friendly(v, s->path, path), true);
}

/* Which step is shown, and a place on a line of them. */
static void draw_scrubber(struct view *v, struct grid *g, struct rect r)
{
    struct picture_state *p = v->picture;
    int n = places(v), at = place(v), x = r.x, thumb;
    char text[64];

    if (p->back || v->shown == SHOWN_PREVIEW) snprintf(text, sizeof text, "step %d/%d", p->kept[at].step, p->steps);
    else snprintf(text, sizeof text, "%s", v->shown == SHOWN_PARTIAL ? "as far as it came" : "finished");
    draw_fit(g, r, x, r.y, r.w, COLOUR_ACCENT, 0, text, false);
    x += 18;
    p->at_bar = (struct rect){ x, r.y, r.x + r.w - x, 1 };
    if (p->at_bar.w < 4) {
        p->at_bar.w = 0;
        return;
    }
    thumb = (int)((p->at_bar.w - 1) * (double)at / (n > 1 ? n - 1 : 1) + 0.5);
    for (int i = 0; i < p->at_bar.w; i++)
        draw_text(g, p->at_bar, x + i, r.y, i == thumb ? COLOUR_ACCENT : i < thumb ? COLOUR_BAR : COLOUR_TRACK, 0,
                  i == thumb ? "◆" : "─");
}

static void draw_caption(struct grid *g, struct rect r, const struct shown_picture *s, bool before)
{
    char text[64];
    int x = r.x;

    x += draw_fit(g, r, x, r.y, r.w, before ? COLOUR_WARN : COLOUR_GOOD, CELL_BOLD, before ? "before" : "after", false);
    x += 2;
    text[0] = 0;
    if (s->seed_known) snprintf(text, sizeof text, "seed %" PRIu64, s->seed);
    if (text[0]) x += draw_fit(g, r, x, r.y, r.x + r.w - x, COLOUR_TEXT, 0, text, false) + 2;
    draw_fit(g, r, x, r.y, r.x + r.w - x, COLOUR_DIM, 0, s->title, false);
}

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* The whole of one picture as it is, anything else composed. */
static bool draw_pictures(struct view *v, struct grid *g, struct rect room, const struct shown_picture of[2],
                          struct err *e)
{
    struct picture_state *p = v->picture;
    /* Of a cell; without pixels it shows two, one above the other. */
    int px_w = v->pixels ? v->cell_w : 1, px_h = v->pixels ? v->cell_h : 2;
    double aspect = (double)v->cell_h / px_h / ((double)v->cell_w / px_w);
    struct rect r = view_picture_room(v, room);
    struct pane pane = { r.w * px_w, r.h * px_h, p->zoom, aspect, p->x, p->y };
    struct composition want = { { of[0].serial, of[1].serial }, p->look, 0, 0, p->zoom, p->x, p->y };
    int gap = v->pixels ? SIDE_GAP_PX : 2, w, h;
    bool fine = p->given.image || (v->shown != SHOWN_PREVIEW && !p->back);
    double scale;

    if (p->look == LOOK_SIDE) pane.w = (pane.w - gap) / 2;
    if (pane.w < 1 || pane.h < 1) return true;
    p->fit = fmin((double)pane.w / of[0].width, pane.h * aspect / of[0].height);
    scale = p->zoom > 0 ? p->zoom : p->fit;
    p->pan_x = fmin(1, pane.w / (of[0].width * scale));
    p->pan_y = fmin(1, pane.h * aspect / (of[0].height * scale));
    pan(p, 0, 0);
    want.x = pane.x = p->x;
    want.y = pane.y = p->y;
    if (p->look == LOOK_ONE && !(p->zoom > 0)) {
        r = layout_picture(r, of[0].width, of[0].height, v->cell_w, v->cell_h);
        if (!draw_picture(g, r, of[0].image, e)) return false;
        grid_offer(g, r, of[0].image, of[0].serial, fine);
    } else {
        /* No more cells than the picture has. */
        if (p->look != LOOK_SIDE) {
            w = least(r.w, (int)ceil(of[0].width * scale / px_w));
            h = least(r.h, (int)ceil(of[0].height * scale / aspect / px_h));
            r = (struct rect){ r.x + (r.w - w) / 2, r.y + (r.h - h) / 2, w, h };
            pane.w = r.w * px_w;
            pane.h = r.h * px_h;
        }
        want.w = r.w * px_w;
        want.h = r.h * px_h;
        if (!compose(v, of, &want, pane, e) || !draw_picture(g, r, p->made, e)) return false;
        grid_offer(g, r, p->made, p->made_serial, fine);
    }
    p->at_picture = r;
    return true;
}

static bool picture_draw(struct view *v, struct grid *g, struct err *e)
{
    struct picture_state *p = v->picture;
    struct shown_picture now = subject(v), before = other(v), of[2];
    struct rect room = view_draw_frame(v, g, *now.title ? now.title : "(no prompt)"), half, about;

    memset(&p->at_picture, 0, sizeof p->at_picture);
    memset(&p->at_bar, 0, sizeof p->at_bar);
    if (!before.image) {
        p->look = LOOK_ONE;
        p->flipped = false;
    }
    /* Before on the left, after on the right; flipped, the other way round. */
    of[0] = p->look == LOOK_ONE ? p->flipped ? before : now : p->flipped ? now : before;
    of[1] = p->look == LOOK_ONE ? (struct shown_picture){ 0 } : p->flipped ? before : now;
    room.h--;
    about = (struct rect){ 1, room.y + room.h, v->cols - 2, 1 };
    if (!p->given.image && p->kept_count) {
        room.h--;
        draw_scrubber(v, g, (struct rect){ 1, room.y + room.h, v->cols - 2, 1 });
    }
    if (p->look != LOOK_ONE) {
        half = (struct rect){ 1, room.y, (v->cols - 3) / 2, 1 };
        draw_caption(g, half, &of[0], !p->flipped);
        half.x += half.w + 1;
        draw_caption(g, half, &of[1], p->flipped);
        room.y++;
        room.h--;
    }
    if (!v->pictures) {
        draw_fit(g, room, room.x + 1, room.y + room.h / 2, room.w - 2, COLOUR_DIM, 0,
                 "Pictures are not shown (--graphics=none)", false);
    } else if (!draw_pictures(v, g, room, of, e)) {
        return false;
    }
    draw_about(v, g, about, p->look == LOOK_ONE && p->flipped ? &before : &now); /* the zoom is known now */
    return true;
}

const struct screen screen_picture = {
    .name = "picture",
    .on_top = true,
    .opened_by = ACTION_PICTURE,
    .init = picture_init,
    .free = picture_free,
    .open = picture_open,
    .close = picture_close,
    .context = picture_context,
    .act = picture_act,
    .mouse = picture_mouse,
    .hint = picture_hint,
    .draw = picture_draw,
    .event = picture_event,
};
