/* service_profile.c - see service_profile.h. */
#include "tui/service_profile.h"

#include "engine/shelf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum what { LIST, SAVE, DELETE };

struct errand {
    struct worker_job job;
    struct service_profile *service;
    enum what what;
    char name[SHELF_NAME_MAX], path[FILE_PATH_MAX];
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
        if (!profile_load(&p->profile, l.item[i].path, &faults, &wrong)) snprintf(p->wrong, sizeof p->wrong, "%.255s", wrong.text);
    }
    shelf_list_free(&l);
}

static bool save(struct errand *r)
{
    char folder[FILE_PATH_MAX];

    if (!shelf_own(r->path, SHELF_PROFILES, r->name, &r->e)) return false;
    file_folder(r->path, folder);
    if (!folder_make(folder, &r->e)) return false;
    if (!r->replace && file_exists(r->path)) return err_set(&r->e, ERR_IO, "%s is there already", r->path);
    return file_write(r->path, r->text, strlen(r->text), &r->e);
}

/* The file that the list has shown: it may end in .yml or .json, too. */
static bool delete(struct errand *r)
{
    struct shelf_list l;
    bool ok = false;

    if (!shelf_list(&l, SHELF_PROFILES, &r->e)) return false;
    for (int i = 0; i < l.count; i++)
        if (l.item[i].own && !strcmp(l.item[i].name, r->name)) {
            snprintf(r->path, sizeof r->path, "%s", l.item[i].path);
            ok = unlink(r->path) == 0 || err_errno(&r->e, errno, "%s cannot be deleted", r->path);
        }
    shelf_list_free(&l);
    return ok || err_set(&r->e, ERR_INPUT, "there is no profile %s of yours any more", r->name);
}

static void errand_run(struct worker_job *j)
{
    struct errand *r = (struct errand *)j;

    r->ok = r->what == LIST || (r->what == SAVE ? save(r) : delete(r));
    if (r->ok) list(r);
}

static void errand_done(struct worker_job *j, void *owner)
{
    struct errand *r = (struct errand *)j;
    struct view *v = r->service->view;
    char text[FILE_PATH_MAX + 32];

    (void)owner;
    if (j->ran && r->list) view_profiles(v, r->list, r->count);
    else if (r->list) view_profiles_free(r->list, r->count);
    if (j->ran && r->e.kind != ERR_NONE) {
        view_say(v, VIEW_BAD, r->e.text);
    } else if (j->ran && r->what != LIST) {
        snprintf(text, sizeof text, "%s %s", r->what == SAVE ? "Saved" : "Deleted", r->path);
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
