/* screen_save.c - where the picture shown is to be saved: one line, typed. */
#include "tui/edit.h"
#include "tui/view_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct save_state {
    struct edit line;
    char path[2 * VIEW_PATH_BYTES]; /* of the wish */
};

static bool save_init(struct view *v, struct err *e)
{
    v->save = calloc(1, sizeof *v->save);
    return (v->save && edit_init(&v->save->line, VIEW_PATH_BYTES - 1)) ||
           err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void save_free(struct view *v)
{
    if (v->save) edit_free(&v->save->line);
    free(v->save);
}

static bool save_open(struct view *v)
{
    char path[2 * VIEW_PATH_BYTES];

    if (picture_given(v)) {
        view_say(v, VIEW_INFO, "This picture is a file already");
        return false;
    }
    if (v->shown < SHOWN_PARTIAL) {
        view_say(v, VIEW_WARN, "There is no finished picture to save yet");
        return false;
    }
    /* A copy beside a result that was saved; elsewhere, to be typed, when that
     * folder has just refused. */
    if (v->shown == SHOWN_UNSAVED)
        snprintf(path, sizeof path, "%s/sluice-%" PRIu64 ".png", v->home[0] ? v->home : ".", v->image_seed);
    else
        snprintf(path, sizeof path, "%s%ssluice-%" PRIu64 "-copy.png", v->out_dir, v->out_dir[0] ? "/" : "",
                 v->image_seed);
    edit_set(&v->save->line, path);
    return true;
}

static enum keys_context save_context(const struct view *v)
{
    (void)v;
    return KEYS_DIALOG;
}

static struct wish save_act(struct view *v, enum action a)
{
    struct save_state *s = v->save;
    const char *text = s->line.text;
    char key[KEYS_NAME_MAX];

    if (a == ACTION_ABORT) {
        view_close(v);
        view_say(v, VIEW_INFO, "");
        if (v->shown == SHOWN_UNSAVED)
            view_say_two(v, VIEW_WARN, "Not saved yet; the key that saves it: ",
                         keys_name(&v->keys, ACTION_SAVE, KEYS_MAIN, key));
    }
    while (*text == ' ') text++;
    if (a != ACTION_OK || !*text) return view_wish(WISH_NONE);
    if (text[0] == '~' && text[1] == '/' && v->home[0]) snprintf(s->path, sizeof s->path, "%s%s", v->home, text + 1);
    else snprintf(s->path, sizeof s->path, "%s", text);
    view_close(v);
    view_say(v, VIEW_INFO, "Saving");
    return (struct wish){ .kind = WISH_SAVE, .path = s->path };
}

static struct wish save_type(struct view *v, const struct key *k)
{
    edit_key(&v->save->line, k);
    return view_wish(WISH_NONE);
}

static const char *save_hint(const struct view *v, enum action a)
{
    (void)v;
    return a == ACTION_OK ? "Save" : a == ACTION_ABORT ? "Back" : NULL;
}

static bool save_draw(struct view *v, struct grid *g, struct err *e)
{
    struct rect r = { 1, v->rows - 2, v->cols - 2, 1 };
    int w;

    (void)e;
    draw_fill(g, (struct rect){ 0, r.y, v->cols, 1 }, " ", COLOUR_TEXT, 0);
    w = draw_text(g, r, r.x, r.y, COLOUR_ACCENT, CELL_BOLD, "Save as: ");
    view_draw_line(g, (struct rect){ r.x + w, r.y, r.w - w, 1 }, &v->save->line, COLOUR_TEXT, 0,
                   view_top(v, &screen_save));
    return true;
}

const struct screen screen_save = {
    .name = "save",
    .overlay = true,
    .opened_by = ACTION_SAVE,
    .init = save_init,
    .free = save_free,
    .open = save_open,
    .context = save_context,
    .act = save_act,
    .type = save_type,
    .hint = save_hint,
    .draw = save_draw,
};
