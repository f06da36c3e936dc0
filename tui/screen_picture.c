/* screen_picture.c - one picture on the whole screen. */
#include "tui/layout.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct picture_state {
    struct image *given; /* from another screen, owned; NULL: the view's own is shown */
    uint64_t serial;
    char title[VIEW_PATH_BYTES], path[VIEW_PATH_BYTES];
};

static bool picture_init(struct view *v, struct err *e)
{
    v->picture = calloc(1, sizeof *v->picture);
    return v->picture || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void picture_free(struct view *v)
{
    if (v->picture) image_free(v->picture->given);
    free(v->picture);
}

void view_show_image(struct view *v, struct image *im, const char *title, const char *path)
{
    struct picture_state *p = v->picture;

    image_free(p->given);
    p->given = im;
    p->serial = ++v->serials;
    snprintf(p->title, sizeof p->title, "%s", title);
    snprintf(p->path, sizeof p->path, "%s", path);
    view_open(v, &screen_picture);
}

static bool picture_open(struct view *v)
{
    if (v->picture->given || v->image) return true;
    view_say(v, VIEW_WARN, "There is no picture yet");
    return false;
}

static void picture_close(struct view *v)
{
    image_free(v->picture->given);
    v->picture->given = NULL;
}

static enum keys_context picture_context(const struct view *v)
{
    (void)v;
    return KEYS_PICTURE;
}

static struct wish picture_act(struct view *v, enum action a)
{
    if (a == ACTION_BACK) view_close(v);
    return view_wish(WISH_NONE);
}

static bool picture_draw(struct view *v, struct grid *g, struct err *e)
{
    struct picture_state *p = v->picture;
    const struct image *im = p->given ? p->given : v->image;
    struct rect room = view_draw_frame(v, g, p->given ? p->title : v->image_job.prompt ? v->image_job.prompt : ""), r;

    r = layout_picture(room, im->width, im->height, v->cell_w, v->cell_h);
    if (r.w < 1 || r.h < 1) return true;
    if (!draw_picture(g, r, im, e)) return false;
    g->picture = im;
    g->picture_at = r;
    g->picture_serial = p->given ? p->serial : v->serial;
    g->picture_fine = p->given || v->shown != SHOWN_PREVIEW;
    return true;
}

const struct screen screen_picture = {
    .name = "picture",
    .opened_by = ACTION_PICTURE,
    .init = picture_init,
    .free = picture_free,
    .open = picture_open,
    .close = picture_close,
    .context = picture_context,
    .act = picture_act,
    .draw = picture_draw,
};
