/* screen_gallery.c - every picture that sluice has made: thumbnails or a list, searched
 * as you type.
 *
 * Rows and thumbnails come in pages from the service, those on the screen first;
 * what is far from the screen is forgotten again. So twenty thousand pictures cost
 * as much as forty. Until the answer to a new question is there, the old one stays. */
#include "engine/setting.h"
#include "tui/edit.h"
#include "tui/layout.h"
#include "tui/tiles.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE_ROWS = 64, PAGES_MAX = 8, THUMBS_MAX = 384, ASKED_MAX = 256, UNDO_MAX = 64, SEARCH_BYTES = 256 };

struct gallery_page { struct store_page rows; int offset; uint64_t serial, used; }; /* serial 0: empty */
struct gallery_thumb { int64_t id; struct image *im; uint64_t serial, used; }; /* id 0: empty; im NULL: it has none */

struct gallery_state {
    struct edit search;
    bool searching, list, trash;
    uint64_t serial, clock;  /* of the question; counts uses */
    uint64_t answered;       /* the question that is on the screen; 0: none yet */
    int total, chosen, row;  /* row: the first on the screen, of tiles or of the list */
    int first, shown;        /* on the screen as last drawn */
    struct tiles tiles;
    struct rect rows;        /* of the list */
    struct gallery_page page[PAGES_MAX];
    struct gallery_thumb thumb[THUMBS_MAX];
    uint64_t asked_serial;   /* the newest page asked for, while its answer is not there */
    int asked_offset;
    int64_t asked[ASKED_MAX], undo[UNDO_MAX];
    int asked_count, undo_count;
    char folder[VIEW_PATH_BYTES]; /* of the last export or scan */
    char *record;            /* shown over the rest; NULL: it is not */
    int record_scroll;
};

static bool gallery_init(struct view *v, struct err *e)
{
    struct gallery_state *s = v->gallery = calloc(1, sizeof *s);

    if (!s || !edit_init(&s->search, SEARCH_BYTES)) return err_set(e, ERR_MEMORY, "no memory for the studio's screen");
    s->serial = 1;
    return true;
}

static void page_drop(struct gallery_page *p)
{
    store_page_free(&p->rows);
    *p = (struct gallery_page){ 0 };
}

static void gallery_free(struct view *v)
{
    struct gallery_state *s = v->gallery;

    if (!s) return;
    for (int i = 0; i < PAGES_MAX; i++) page_drop(&s->page[i]);
    for (int i = 0; i < THUMBS_MAX; i++) image_free(s->thumb[i].im);
    edit_free(&s->search);
    free(s->record);
    free(s);
}

/* --- rows and thumbnails ----------------------------------------------------------------- */

static struct gallery_page *page_of(struct gallery_state *s, int index)
{
    for (int i = 0; i < PAGES_MAX; i++) {
        struct gallery_page *p = &s->page[i];
        if (p->serial && index >= p->offset && index < p->offset + PAGE_ROWS) return p;
    }
    return NULL;
}

/* NULL: it has not come yet. */
static struct store_picture *row_at(struct gallery_state *s, int index)
{
    struct gallery_page *p = index >= 0 && index < s->total ? page_of(s, index) : NULL;

    if (!p || index - p->offset >= p->rows.count) return NULL;
    p->used = ++s->clock;
    return &p->rows.at[index - p->offset];
}

static struct gallery_thumb *thumb_of(struct gallery_state *s, int64_t id)
{
    for (int i = 0; i < THUMBS_MAX; i++)
        if (s->thumb[i].id == id) {
            s->thumb[i].used = ++s->clock;
            return &s->thumb[i];
        }
    return NULL;
}

static void choose(struct gallery_state *s, int to)
{
    s->chosen = to >= s->total ? s->total - 1 : to;
    if (s->chosen < 0) s->chosen = 0;
}

void view_gallery_page(struct view *v, uint64_t serial, int offset, struct store_page *rows)
{
    struct gallery_state *s = v->gallery;
    struct gallery_page *to = NULL;

    if (serial != s->serial) { /* another question has been asked meanwhile */
        store_page_free(rows);
        return;
    }
    if (s->asked_offset == offset) s->asked_serial = 0;
    for (int i = 0; i < PAGES_MAX; i++)
        if (s->page[i].serial != serial || s->page[i].offset == offset) page_drop(&s->page[i]);
    for (int i = 0; i < PAGES_MAX; i++)
        if (!to || s->page[i].used < to->used) to = &s->page[i];
    page_drop(to);
    s->total = rows->total > 1000000000 ? 1000000000 : (int)rows->total;
    s->answered = serial;
    *to = (struct gallery_page){ *rows, offset, serial, ++s->clock };
    *rows = (struct store_page){ 0 };
    choose(s, s->chosen);
}

void view_gallery_thumb(struct view *v, int64_t id, struct image *im)
{
    struct gallery_state *s = v->gallery;
    struct gallery_thumb *to = thumb_of(s, id);

    for (int i = 0; !to && i < THUMBS_MAX; i++)
        if (!s->thumb[i].id) to = &s->thumb[i];
    for (int i = 0; i < THUMBS_MAX && (!to || (to->id && to->id != id)); i++)
        if (!to || s->thumb[i].used < to->used) to = &s->thumb[i];
    image_free(to->im);
    *to = (struct gallery_thumb){ id, im, ++v->serials, ++s->clock };
    s->asked_count = 0;
}

static void ask_again(struct gallery_state *s)
{
    s->serial++;
}

void view_gallery_changed(struct view *v, int added)
{
    struct gallery_state *s = v->gallery;

    if (added && s->chosen > 0 && !s->trash && !s->search.bytes) s->chosen += added; /* stays at its picture */
    ask_again(s);
}

/* A page on the screen that is not there, or is of another question. */
static struct wish need_page(struct view *v)
{
    struct gallery_state *s = v->gallery;
    struct wish w = { .kind = WISH_HISTORY, .history = { .what = HISTORY_LIST } };
    int last = s->shown > 0 ? s->first + s->shown - 1 : s->first;

    if (s->answered == s->serial && last >= s->total) last = s->total - 1; /* else it is not known where they end */
    if (last < 0 && s->answered != s->serial) last = 0;
    for (int at = s->first - s->first % PAGE_ROWS; at <= last; at += PAGE_ROWS) {
        const struct gallery_page *p = page_of(s, at);
        if ((p && p->serial == s->serial) || (s->asked_serial == s->serial && s->asked_offset == at)) continue;
        s->asked_serial = s->serial;
        s->asked_offset = at;
        w.history.query.search = s->search.text;
        w.history.query.trash = s->trash;
        w.history.query.offset = at;
        w.history.query.limit = PAGE_ROWS;
        w.history.query.serial = s->serial;
        return w;
    }
    return view_wish(WISH_NONE);
}

static struct wish need_thumbs(struct view *v)
{
    struct gallery_state *s = v->gallery;
    struct wish w = { .kind = WISH_HISTORY, .history = { .what = HISTORY_THUMBS } };
    int from = s->list ? s->chosen : s->first, to = s->list ? s->chosen + 1 : s->first + s->shown, n = 0;
    int64_t ids[ASKED_MAX];

    for (int i = from; i < to && n < ASKED_MAX && v->pictures; i++) {
        const struct store_picture *p = row_at(s, i);
        if (p && !thumb_of(s, p->id)) ids[n++] = p->id;
    }
    if (!n || (n == s->asked_count && !memcmp(ids, s->asked, (size_t)n * sizeof *ids))) return view_wish(WISH_NONE);
    memcpy(s->asked, ids, (size_t)n * sizeof *ids);
    s->asked_count = n;
    w.history.ids = s->asked;
    w.history.number = n;
    return w;
}

static struct wish gallery_needs(struct view *v)
{
    struct wish w = need_page(v);

    return w.kind ? w : need_thumbs(v);
}

void view_gallery_record(struct view *v, const char *text)
{
    struct gallery_state *s = v->gallery;

    free(s->record);
    s->record = strdup(text);
    s->record_scroll = 0;
}

/* --- keys ------------------------------------------------------------------------------------ */

static void gallery_close(struct view *v)
{
    struct gallery_state *s = v->gallery;

    free(s->record);
    s->record = NULL;
    s->searching = false;
}

static enum keys_context gallery_context(const struct view *v)
{
    return v->gallery->searching ? KEYS_DIALOG : KEYS_GALLERY;
}

static struct wish history_wish(enum history_wish what, int64_t id)
{
    return (struct wish){ .kind = WISH_HISTORY, .history = { .what = what, .id = id } };
}

/* "~/x" is the user's; a wish's text is borrowed until the next key. */
static struct wish with_folder(struct view *v, enum history_wish what, int64_t id, const char *text)
{
    struct gallery_state *s = v->gallery;
    struct wish w = history_wish(what, id);

    bool home;

    while (*text == ' ') text++;
    if (!*text) return view_wish(WISH_NONE);
    home = text[0] == '~' && (text[1] == '/' || !text[1]) && v->home[0];
    snprintf(s->folder, sizeof s->folder, "%s%s", home ? v->home : "", text + home);
    w.history.text = s->folder;
    return w;
}

static struct wish export_to(struct view *v, const char *text)
{
    const struct store_picture *p = row_at(v->gallery, v->gallery->chosen);

    return p ? with_folder(v, HISTORY_EXPORT, p->id, text) : view_wish(WISH_NONE);
}

static struct wish scan(struct view *v, const char *text)
{
    return with_folder(v, HISTORY_SCAN, 0, text);
}

static struct wish remove_answer(struct view *v, char answer)
{
    const struct store_picture *p = row_at(v->gallery, v->gallery->chosen);

    return answer == 'y' && p ? history_wish(HISTORY_REMOVE, p->id) : view_wish(WISH_NONE);
}

static struct wish rate(struct store_picture *p, int mark)
{
    struct wish w = history_wish(HISTORY_MARK, p->id);

    p->mark = w.history.number = mark;
    return w;
}

static struct wish to_trash(struct view *v, const struct store_picture *p)
{
    static const struct ask_answer answers[] = { { 'n', "no, keep it" }, { 'y', "yes, delete its file" } };
    struct gallery_state *s = v->gallery;
    char text[96], key[KEYS_NAME_MAX];

    if (s->trash) {
        view_ask(v, "Delete", "Delete this picture for good? Its file goes, too.", answers, 2, remove_answer);
        return view_wish(WISH_NONE);
    }
    if (s->undo_count == UNDO_MAX) memmove(s->undo, s->undo + 1, (size_t)--s->undo_count * sizeof *s->undo);
    s->undo[s->undo_count++] = p->id;
    keys_name(&v->keys, ACTION_GALLERY_UNDO, KEYS_GALLERY, key);
    snprintf(text, sizeof text, "In the trash; %s brings it back", key);
    view_say(v, VIEW_INFO, text);
    return history_wish(HISTORY_TRASH, p->id);
}

static struct wish undo(struct view *v)
{
    struct gallery_state *s = v->gallery;
    const struct store_picture *p = row_at(s, s->chosen);
    int64_t id = s->trash ? (p ? p->id : 0) : s->undo_count ? s->undo[--s->undo_count] : 0;

    view_say(v, VIEW_INFO, id ? "Out of the trash again" : "There is nothing to bring back");
    return id ? history_wish(HISTORY_RESTORE, id) : view_wish(WISH_NONE);
}

static void into_form(struct view *v, const char *setting, const char *text, const char *say)
{
    struct err e = { 0 };

    if (view_set(v, setting_find(setting), text, &e)) view_say(v, VIEW_INFO, say);
    else view_say(v, VIEW_BAD, e.text);
}

static struct wish on_picture(struct view *v, struct store_picture *p, enum action a)
{
    struct gallery_state *s = v->gallery;
    char text[32];

    switch (a) {
    case ACTION_OK:
        view_say(v, VIEW_INFO, "");
        return history_wish(HISTORY_OPEN, p->id);
    case ACTION_MARK: return rate(p, p->mark ? 0 : 1);
    case ACTION_GALLERY_SETTINGS: return history_wish(HISTORY_LOAD, p->id);
    case ACTION_GALLERY_PROMPT: into_form(v, "prompt", p->prompt, "Its prompt is in the form"); break;
    case ACTION_GALLERY_SEED:
        snprintf(text, sizeof text, "%" PRIu64, p->seed);
        into_form(v, "seed", text, "Its seed is in the form");
        break;
    case ACTION_GALLERY_RECORD: return history_wish(HISTORY_RECORD, p->id);
    case ACTION_GALLERY_TRASH: return to_trash(v, p);
    case ACTION_GALLERY_EXPORT:
        view_ask_line(v, "Copy it to the folder:", s->folder[0] ? s->folder : v->out_dir, export_to);
        break;
    default: break;
    }
    return view_wish(WISH_NONE);
}

/* While the record is shown. */
static void record_act(struct view *v, enum action a)
{
    struct gallery_state *s = v->gallery;

    switch (a) {
    case ACTION_UP: s->record_scroll--; break;
    case ACTION_DOWN: s->record_scroll++; break;
    case ACTION_PAGE_UP: s->record_scroll -= v->rows / 2; break;
    case ACTION_PAGE_DOWN: s->record_scroll += v->rows / 2; break;
    case ACTION_FIRST: s->record_scroll = 0; break;
    case ACTION_LAST: s->record_scroll = 10000; break; /* drawing knows where the end is */
    default:
        free(s->record);
        s->record = NULL;
    }
}

static struct wish searching_act(struct view *v, enum action a)
{
    struct gallery_state *s = v->gallery;

    s->searching = false;
    if (a == ACTION_ABORT && s->search.bytes) {
        edit_set(&s->search, "");
        s->chosen = 0;
        ask_again(s);
    }
    return view_wish(WISH_NONE);
}

static struct wish gallery_act(struct view *v, enum action a)
{
    struct gallery_state *s = v->gallery;
    struct store_picture *p = row_at(s, s->chosen);
    int across = s->list || !s->tiles.across ? 1 : s->tiles.across, page = s->list ? s->rows.h : across * s->tiles.down;

    if (s->searching) return searching_act(v, a);
    if (s->record) {
        record_act(v, a);
        return view_wish(WISH_NONE);
    }
    switch (a) {
    case ACTION_LEFT: choose(s, s->chosen - 1); break;
    case ACTION_RIGHT: choose(s, s->chosen + 1); break;
    case ACTION_UP: if (s->chosen >= across) choose(s, s->chosen - across); break;
    case ACTION_DOWN: if (s->chosen / across < (s->total - 1) / across) choose(s, s->chosen + across); break;
    case ACTION_PAGE_UP: choose(s, s->chosen - page); break;
    case ACTION_PAGE_DOWN: choose(s, s->chosen + page); break;
    case ACTION_FIRST: choose(s, 0); break;
    case ACTION_LAST: choose(s, s->total - 1); break;
    case ACTION_BACK:
        if (!s->search.bytes && !s->trash) {
            view_close(v);
            break;
        }
        if (!s->search.bytes) s->trash = false;
        edit_set(&s->search, "");
        ask_again(s);
        break;
    case ACTION_GALLERY_SEARCH: s->searching = true; break;
    case ACTION_GALLERY_LIST: s->list = !s->list; break;
    case ACTION_GALLERY_BIN:
        s->trash = !s->trash;
        s->chosen = 0;
        ask_again(s);
        break;
    case ACTION_GALLERY_UNDO: return undo(v);
    case ACTION_GALLERY_SCAN: view_ask_line(v, "Take in the pictures of the folder:", v->out_dir, scan); break;
    default:
        if (p) return on_picture(v, p, a);
    }
    return view_wish(WISH_NONE);
}

static struct wish gallery_type(struct view *v, const struct key *k)
{
    struct gallery_state *s = v->gallery;
    struct store_picture *p = row_at(s, s->chosen);
    size_t bytes = s->search.bytes;
    bool digit = k->kind == K_CHAR && !k->mods && k->ch >= '0' && k->ch <= '5';

    if (!s->searching) return p && digit && !s->record ? rate(p, (int)k->ch - '0') : view_wish(WISH_NONE);
    if (k->kind == K_UP || k->kind == K_DOWN) choose(s, s->chosen + (k->kind == K_UP ? -1 : 1));
    else if (edit_key(&s->search, k) && (k->kind == K_CHAR || k->kind == K_PASTE || s->search.bytes != bytes)) {
        s->chosen = 0;
        ask_again(s);
    }
    return view_wish(WISH_NONE);
}

static struct wish gallery_mouse(struct view *v, const struct key *k)
{
    struct gallery_state *s = v->gallery;
    int at = -1;

    if (k->ch == MOUSE_UP || k->ch == MOUSE_DOWN) {
        if (!s->searching) return gallery_act(v, k->ch == MOUSE_UP ? ACTION_UP : ACTION_DOWN);
        choose(s, s->chosen + (k->ch == MOUSE_UP ? -1 : 1));
        return view_wish(WISH_NONE);
    }
    if (k->ch != MOUSE_LEFT || s->record) return view_wish(WISH_NONE);
    if (s->list && rect_has(s->rows, k->x, k->y)) at = s->first + k->y - s->rows.y;
    if (!s->list && tiles_hit(&s->tiles, k->x, k->y) >= 0) at = s->first + tiles_hit(&s->tiles, k->x, k->y);
    if (at < 0 || at >= s->total) return view_wish(WISH_NONE);
    s->searching = false;
    if (at == s->chosen) return gallery_act(v, ACTION_OK);
    choose(s, at);
    return view_wish(WISH_NONE);
}

static const char *gallery_hint(const struct view *v, enum action a)
{
    const struct gallery_state *s = v->gallery;
    const char *label = keys_action(a)->label;

    if (s->searching) return a == ACTION_OK ? "Done" : a == ACTION_ABORT ? "All" : NULL;
    if (s->record) return a == ACTION_BACK ? "Close" : NULL;
    switch (a) {
    case ACTION_HELP: case ACTION_GALLERY_SEARCH: return label;
    case ACTION_BACK: return s->search.bytes ? "All" : label;
    case ACTION_GALLERY_LIST: return s->list ? "Thumbnails" : label;
    case ACTION_OK: return s->total ? "Open" : NULL;
    case ACTION_GALLERY_UNDO: return s->trash ? "Restore" : s->undo_count ? label : NULL;
    case ACTION_GALLERY_TRASH: return !s->total ? NULL : s->trash ? "Delete" : label;
    case ACTION_MARK:
    case ACTION_GALLERY_SETTINGS:
    case ACTION_GALLERY_RECORD:
    case ACTION_GALLERY_EXPORT: return s->total ? label : NULL;
    default: return NULL;
    }
}

/* --- drawing ------------------------------------------------------------------------------------ */

static const char *stars(int mark, char buf[8])
{
    int n = mark < 0 ? 0 : mark > 5 ? 5 : mark;

    memset(buf, '*', (size_t)n);
    buf[n] = 0;
    return buf;
}

/* The day, in the user's time. The civil calendar from days: Howard Hinnant, "chrono-compatible low-level date
 * algorithms". */
static const char *day(const struct view *v, int64_t seconds, char buf[64])
{
    int64_t z = (seconds + v->utc_offset) / 86400 + 719468, era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365, doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153, d = doy - (153 * mp + 2) / 5 + 1, m = mp < 10 ? mp + 3 : mp - 9;

    snprintf(buf, 64, "%04" PRId64 "-%02" PRId64 "-%02" PRId64, yoe + era * 400 + (m <= 2), m, d);
    return buf;
}

static const char *words(const struct store_picture *p)
{
    return *p->prompt ? p->prompt : "(no prompt)";
}

static bool draw_tiles(struct view *v, struct grid *g, struct rect r, struct err *e)
{
    struct gallery_state *s = v->gallery;
    char text[VIEW_NAME_BYTES], mark[8];
    bool ok = true;

    s->tiles = tiles_in(r, v->cell_w, v->cell_h);
    s->row = tiles_scroll(&s->tiles, s->row, s->chosen, s->total);
    s->first = s->row * s->tiles.across;
    s->shown = s->tiles.across * s->tiles.down;
    for (int i = 0; ok && i < s->shown && s->first + i < s->total; i++) {
        const struct store_picture *p = row_at(s, s->first + i);
        const struct gallery_thumb *t = p && v->pictures ? thumb_of(s, p->id) : NULL;
        text[0] = 0;
        if (p) snprintf(text, sizeof text, "%s%s%.200s", stars(p->mark, mark), p->mark ? " " : "", words(p));
        struct tile tile = { .im = t ? t->im : NULL, .serial = t && v->pixels ? t->serial : 0, .caption = text,
                             .colour = p && p->mark ? COLOUR_GOOD : COLOUR_DIM, .chosen = s->first + i == s->chosen };
        ok = tiles_draw(&s->tiles, g, i, &tile, e);
    }
    return ok;
}

/* One name and value; returns the row below. */
static int detail(struct grid *g, struct rect r, int y, const char *name, const char *value, bool keep_end)
{
    if (y >= r.y + r.h || !*value) return y;
    draw_text(g, r, r.x, y, COLOUR_DIM, 0, name);
    draw_fit(g, r, r.x + 8, y, r.w - 8, COLOUR_TEXT, 0, value, keep_end);
    return y + 1;
}

static bool draw_details(struct view *v, struct grid *g, struct rect r, const struct store_picture *p, struct err *e)
{
    const struct gallery_thumb *t = v->pictures ? thumb_of(v->gallery, p->id) : NULL;
    int picture = r.h >= 16 ? r.h / 2 : 0, y = r.y;
    char text[64], path[VIEW_PATH_BYTES], date[64], mark[8];

    if (picture && t && t->im) {
        struct rect at = { r.x, r.y, r.w, picture - 1 };
        at = layout_picture(at, t->im->width, t->im->height, v->cell_w, v->cell_h);
        if (!draw_picture(g, at, t->im, e)) return false;
        if (v->pixels) grid_offer(g, at, t->im, t->serial, true);
    }
    y += picture;
    snprintf(text, sizeof text, "%" PRIu64, p->seed);
    y = detail(g, r, y, "seed", text, false);
    snprintf(text, sizeof text, "%dx%d", p->width, p->height);
    y = detail(g, r, y, "size", text, false);
    snprintf(text, sizeof text, "%.1f s", p->seconds);
    y = detail(g, r, y, "took", p->seconds > 0 ? text : "", false);
    y = detail(g, r, y, "made", day(v, p->time, date), false);
    y = detail(g, r, y, "model", p->model, false);
    y = detail(g, r, y, "preset", p->preset, false);
    y = detail(g, r, y, "mark", stars(p->mark, mark), false);
    y = detail(g, r, y, "file", view_friendly(v, p->path, path), true);
    if (y < r.y + r.h) y += draw_wrapped(g, r, y, r.y + r.h - y, COLOUR_TEXT, 0, p->prompt);
    if (*p->negative && y < r.y + r.h) draw_wrapped(g, r, y, r.y + r.h - y, COLOUR_DIM, 0, p->negative);
    return true;
}

static bool draw_list(struct view *v, struct grid *g, struct rect r, struct err *e)
{
    struct gallery_state *s = v->gallery;
    int side = v->cols >= 72 ? v->cols * 2 / 5 : 0;
    const struct store_picture *p = row_at(s, s->chosen);
    char text[128], mark[8], date[64];

    s->rows = (struct rect){ r.x, r.y, r.w - side, r.h };
    if (s->row > s->total - r.h) s->row = s->total - r.h;
    if (s->chosen >= s->row + r.h) s->row = s->chosen - r.h + 1;
    if (s->chosen < s->row) s->row = s->chosen;
    if (s->row < 0) s->row = 0;
    s->first = s->row;
    s->shown = r.h;
    for (int i = 0; i < r.h && s->first + i < s->total; i++) {
        const struct store_picture *at = row_at(s, s->first + i);
        bool on = s->first + i == s->chosen;
        if (!at) continue;
        draw_text(g, s->rows, r.x, r.y + i, COLOUR_ACCENT, CELL_BOLD, on ? "»" : " ");
        snprintf(text, sizeof text, "%s  %-5s", day(v, at->time, date), stars(at->mark, mark));
        draw_text(g, s->rows, r.x + 2, r.y + i, COLOUR_DIM, 0, text);
        draw_fit(g, s->rows, r.x + 20, r.y + i, s->rows.w - 21, on ? COLOUR_TEXT : COLOUR_DIM, on ? CELL_BOLD : 0,
                 words(at), false);
    }
    if (!side || !p) return true;
    for (int y = r.y; y < r.y + r.h; y++) draw_text(g, r, r.x + r.w - side, y, COLOUR_BORDER, 0, "│");
    return draw_details(v, g, (struct rect){ r.x + r.w - side + 2, r.y, side - 2, r.h }, p, e);
}

/* Lines of name, tab, value, a long value in more rows, from row `from` on; without a grid they are only counted.
 * Returns how many rows there are. */
static int record_rows(struct grid *g, struct rect r, const char *record, int from)
{
    int y = 0;

    for (const char *at = record; *at;) {
        char name[64], value[4096];
        size_t n = strcspn(at, "\n"), tab = strcspn(at, "\t\n");
        struct edit e = { .text = value };
        struct edit_row row = { 0 };
        snprintf(name, sizeof name, "%.*s", (int)tab, at);
        snprintf(value, sizeof value, "%.*s", tab < n ? (int)(n - tab - 1) : 0, tab < n ? at + tab + 1 : "");
        e.bytes = strlen(value);
        do {
            edit_row(&e, row.to, r.w - 16, &row);
            struct rect line = { r.x, r.y + y++ - from, r.w, 1 };
            if (!g || line.y < r.y || line.y >= r.y + r.h) continue;
            if (!row.from) draw_fit(g, line, r.x, line.y, 15, COLOUR_DIM, 0, name, false);
            draw_bytes(g, line, r.x + 16, line.y, COLOUR_TEXT, 0, value + row.from, row.end - row.from);
        } while (!row.last);
        at += n + (at[n] == '\n');
    }
    return y;
}

static void draw_record(struct view *v, struct grid *g)
{
    struct gallery_state *s = v->gallery;
    int w = v->cols < 84 ? v->cols : 84, rows;
    struct rect box = { (v->cols - w) / 2, 0, w, v->rows - 1 }, r = { box.x + 2, box.y + 1, box.w - 4, box.h - 2 };

    rows = record_rows(NULL, r, s->record, 0);
    if (s->record_scroll > rows - r.h) s->record_scroll = rows - r.h;
    if (s->record_scroll < 0) s->record_scroll = 0;
    draw_fill(g, box, " ", COLOUR_TEXT, 0);
    draw_box(g, box, "Picture", NULL, true);
    record_rows(g, r, s->record, s->record_scroll);
}

static bool gallery_draw(struct view *v, struct grid *g, struct err *e)
{
    struct gallery_state *s = v->gallery;
    const char *name = s->trash ? "Trash" : "Gallery";
    char text[160], key[KEYS_NAME_MAX];
    bool ok = true;
    struct rect r;

    if (!s->answered) snprintf(text, sizeof text, "%s", name);
    else if (s->total > 1) snprintf(text, sizeof text, "%s: %d pictures, at %d", name, s->total, s->chosen + 1);
    else snprintf(text, sizeof text, "%s: %s", name, s->total ? "1 picture" : "no pictures");
    r = view_draw_frame(v, g, text);
    r.x++;
    r.w -= 2;
    g->cursor_shown = false;
    if (s->searching || s->search.bytes) {
        int w = draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, "Search: ");
        struct rect line = { r.x + w, r.y, r.w - w, 1 };
        view_draw_line(g, line, &s->search, COLOUR_TEXT, 0, s->searching && view_top(v, &screen_gallery));
        r.y++;
        r.h--;
    }
    if (!s->total && s->answered) {
        if (s->search.bytes) snprintf(text, sizeof text, "No picture has all these words");
        else if (s->trash) snprintf(text, sizeof text, "The trash is empty");
        else snprintf(text, sizeof text, "No pictures yet. %s takes in those of a folder.",
                      keys_name(&v->keys, ACTION_GALLERY_SCAN, KEYS_GALLERY, key));
        draw_wrapped(g, r, r.y + r.h / 3, 3, COLOUR_DIM, 0, text);
    }
    if (s->list) ok = draw_list(v, g, r, e);
    else ok = draw_tiles(v, g, r, e);
    if (ok && s->record) draw_record(v, g);
    return ok;
}

const struct screen screen_gallery = {
    .name = "gallery",
    .opened_by = ACTION_GALLERY,
    .init = gallery_init,
    .free = gallery_free,
    .close = gallery_close,
    .context = gallery_context,
    .act = gallery_act,
    .type = gallery_type,
    .mouse = gallery_mouse,
    .hint = gallery_hint,
    .draw = gallery_draw,
    .needs = gallery_needs,
};
