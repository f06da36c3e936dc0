/* service_profile.c - see service_profile.h. */
#include "tui/service_profile.h"

#include "engine/shelf_own.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum what { LIST, SAVE, DELETE };

struct errand {
    struct worker_job job;
    struct service_profile *service;
    enum what what;
    char name[SHELF_NAME_MAX];
    char *text;
    bool replace, ok;
    struct err e;
    struct view_profile *list;
    int count;
};

static void list(struct errand *r)
{
    struct shelf_list l;

    if (!shelf_list(&l, SHELF_PROFILES, &r->e)) return;
    r->list = calloc((size_t)l.count + 1, sizeof *r->list);
    for (int i = 0; r->list && i < l.count; i++) {
        struct view_profile *p = &r->list[r->count++];
        struct yaml_faults faults = { 0 };
        struct err wrong = { 0 };
        memcpy(p->name, l.item[i].name, sizeof p->name);
        p->own = l.item[i].own;
        if (!profile_load(&p->profile, l.item[i].path, &faults, &wrong))
            snprintf(p->wrong, sizeof p->wrong, "%.255s", wrong.text);
    }
    shelf_list_free(&l);
}

static void errand_run(struct worker_job *j)
{
    struct errand *r = (struct errand *)j;

    switch (r->what) {
    case SAVE: r->ok = shelf_own_write(SHELF_PROFILES, r->name, r->text, r->replace, &r->e); break;
    case DELETE: r->ok = shelf_own_trash(SHELF_PROFILES, r->name, &r->e); break;
    case LIST: r->ok = true; break;
    }
    if (r->ok) list(r);
}

static void errand_done(struct worker_job *j, void *owner)
{
    struct errand *r = (struct errand *)j;
    struct view *v = r->service->view;
    char text[SHELF_NAME_MAX + 64];

    (void)owner;
    if (j->ran && r->list) view_profiles(v, r->list, r->count);
    else if (r->list) view_profiles_free(r->list, r->count);
    if (j->ran && r->e.kind != ERR_NONE) {
        view_say(v, VIEW_BAD, r->e.text);
    } else if (j->ran && r->what != LIST) {
        snprintf(text, sizeof text, r->what == SAVE ? "Saved %s" : "Deleted %s (it is in the trash)", r->name);
        view_say(v, VIEW_GOOD, text);
    }
    free(r->text);
    free(r);
}

static void submit(struct service_profile *s, enum what what, const char *name, const char *text, bool replace)
{
    struct errand *r = calloc(1, sizeof *r);

    if (!r || (text && !(r->text = strdup(text)))) {
        free(r);
        view_say(s->view, VIEW_BAD, "no memory for that");
        return;
    }
    r->job = (struct worker_job){ .run = errand_run, .done = errand_done };
    r->service = s;
    r->what = what;
    r->replace = replace;
    snprintf(r->name, sizeof r->name, "%s", name);
    worker_submit(s->worker, &r->job);
}

void service_profile_pump(struct service_profile *s)
{
    if (view_profiles_wanted(s->view)) submit(s, LIST, "", NULL, false);
}

void service_profile_save(struct service_profile *s, const char *name, const char *text, bool replace)
{
    submit(s, SAVE, name, text, replace);
}

void service_profile_delete(struct service_profile *s, const char *name)
{
    submit(s, DELETE, name, NULL, false);
}
