/* service_history.c - the gallery's pages, thumbnails and files. A part of service_store.h. */
#include "tui/service_store_internal.h"

#include "engine/setting.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static bool list_history(struct task *t, struct err *e)
{
    struct store_query q = { t->text, t->trash, t->offset, t->limit };

    return store_history_list(t->s->store, &q, &t->page, e);
}

static void listed(struct task *t)
{
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
    view_gallery_page(t->s->o.view, t->serial, t->offset, &t->page);
}

static bool read_thumbs(struct task *t, struct err *e)
{
    (void)e;
    for (int i = 0; i < t->number; i++) t->images[i] = store_thumbnail(t->s->store, t->ids[i], NULL);
    return true;
}

static void thumbs_read(struct task *t)
{
    for (int i = 0; i < t->number; i++) {
        view_gallery_thumb(t->s->o.view, t->ids[i], t->images[i]);
        t->images[i] = NULL;
    }
}

static bool mark(struct task *t, struct err *e)
{
    return store_history_mark(t->s->store, t->id, t->number, e);
}

static bool to_trash(struct task *t, struct err *e)
{
    return store_history_trash(t->s->store, t->id, e);
}

static bool restore(struct task *t, struct err *e)
{
    return store_history_restore(t->s->store, t->id, e);
}

static bool remove_picture(struct task *t, struct err *e)
{
    return store_history_remove(t->s->store, t->id, e);
}

static void history_changed(struct task *t)
{
    if (!t->ok) view_refused(t->s->o.view, t->e.text);
    view_gallery_changed(t->s->o.view, 0);
}

static bool get_picture(struct task *t, struct err *e)
{
    return store_history_get(t->s->store, t->id, &t->picture, e);
}

/* Not over what is there: then with a number. */
static bool export(struct task *t, struct err *e)
{
    char to[PATH_MAX];
    size_t stem;
    bool ok;

    if (!get_picture(t, e) || !folder_make(t->text, e)) return false;
    const char *name = strrchr(t->picture.path, '/');
    name = name ? name + 1 : t->picture.path;
    stem = job_stem(name);
    if (snprintf(to, sizeof to, "%s/%s", t->text, name) >= (int)sizeof to)
        return err_set(e, ERR_INPUT, "%s: the path is too long", t->text);
    for (int i = 2; access(to, F_OK) == 0 && i < 10000; i++)
        if (snprintf(to, sizeof to, "%s/%.*s-%d%s", t->text, (int)stem, name, i, name + stem) >= (int)sizeof to)
            return err_set(e, ERR_INPUT, "%s: the path is too long", t->text);
    ok = file_copy(t->picture.path, to, EXPORT_BYTES_MAX, e);
    free(t->text);
    t->text = strdup(to);
    return ok;
}

static void exported(struct task *t)
{
    view_saved(t->s->o.view, t->ok, !t->ok ? t->e.text : t->text ? t->text : "");
}

static bool read_picture(struct task *t, struct err *e)
{
    return get_picture(t, e) && (t->image = image_read(t->picture.path, e));
}

static bool read_picture_of_job(struct task *t, struct err *e)
{
    return store_history_of_job(t->s->store, t->id, &t->picture, e) && (t->image = image_read(t->picture.path, e));
}

static void picture_read(struct task *t)
{
    if (!t->ok) {
        view_refused(t->s->o.view, t->e.text);
        return;
    }
    view_show_image(t->s->o.view, t->image, t->picture.prompt, t->picture.path);
    t->image = NULL;
}

static char *value_text(const json_t *value)
{
    return json_is_string(value) ? strdup(json_string_value(value))
                                 : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
}

/* As lines of name and value. */
static bool describe(struct task *t, struct err *e)
{
    const struct store_picture *p = &t->picture;
    char date[32], *text = NULL;
    size_t bytes = 0;
    const char *key;
    json_t *value;
    struct tm tm;
    time_t when;

    if (!get_picture(t, e)) return false;
    FILE *f = open_memstream(&text, &bytes);
    if (!f) return err_set(e, ERR_MEMORY, "out of memory");
    when = (time_t)p->time;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", localtime_r(&when, &tm));
    fprintf(f, "file\t%s%s\nmade\t%s\n", p->path, file_exists(p->path) ? "" : "  (gone)", date);
    if (p->seconds > 0) fprintf(f, "took\t%.1f s\n", p->seconds);
    if (*p->preset) fprintf(f, "preset\t%s\n", p->preset);
    json_t *record = json_loads(p->record, 0, NULL);
    json_object_foreach(record, key, value) {
        char *line = value_text(value);
        for (char *c = line; c && *c; c++)
            if (*c == '\n') *c = ' ';
        fprintf(f, "%s\t%s\n", key, line ? line : "?");
        free(line);
    }
    json_decref(record);
    fclose(f);
    t->text = text;
    return text != NULL;
}

static void described(struct task *t)
{
    if (t->ok) view_gallery_record(t->s->o.view, t->text);
    else view_refused(t->s->o.view, t->e.text);
}

/* The record's settings over those of the form. What this version does not know is left out. */
static bool load_picture(struct task *t, struct err *e)
{
    const char *key;
    char size[32];
    json_t *value;

    if (!get_picture(t, e)) return false;
    json_t *record = json_loads(t->picture.record, 0, NULL);
    if (!record) return err_set(e, ERR_INPUT, "picture %lld: its record cannot be read", (long long)t->id);
    t->j.cfg = 1;
    bool ok = job_set_string(&t->j.negative, "", e);
    snprintf(size, sizeof size, "%dx%d", (int)json_integer_value(json_object_get(record, "width")),
             (int)json_integer_value(json_object_get(record, "height")));
    setting_set(&t->j, setting_find("size"), size, NULL);
    json_object_foreach(record, key, value) {
        const struct setting *s = setting_find(key);
        char *text = s ? value_text(value) : NULL;
        if (text) setting_set(&t->j, s, text, NULL);
        free(text);
    }
    json_decref(record);
    t->j.count = 1;
    if (ok) t->row.preset = strdup(t->picture.preset);
    return ok;
}

static void picture_loaded(struct task *t)
{
    struct err e = t->e;

    if (!t->ok || !view_edit(t->s->o.view, 0, &t->j, t->row.preset ? t->row.preset : "", &e))
        view_refused(t->s->o.view, e.text);
}

/* On the second thread. */
static bool scan_goes_on(void *of, int seen)
{
    struct service_store *s = of;

    (void)seen;
    return !atomic_load(&s->stop_scan);
}

static void scan_run(struct worker_job *j)
{
    struct task *t = (struct task *)j;
    char notice[STORE_NOTICE_BYTES];
    struct store *own;

    t->ok = store_open(&own, t->preset[0] ? t->preset : t->s->path, notice, &t->e);
    if (!t->ok) return;
    t->ok = store_history_scan(own, t->text, scan_goes_on, t->s, &t->found, &t->e);
    store_close(own);
}

static void scanned(struct task *t)
{
    char text[160];

    snprintf(text, sizeof text, "%d new pictures taken in, %d known, %d of other programs", t->found.added,
             t->found.known, t->found.others);
    if (t->ok) view_say(t->s->o.view, VIEW_GOOD, text);
    else view_refused(t->s->o.view, t->e.text);
    view_gallery_changed(t->s->o.view, 0);
}

static void grant_scan(struct service_store *s, const char *folder)
{
    struct task *t;
    struct err e = { 0 };

    if (!s->path[0] || (!s->scanner && !worker_start(&s->scanner, &e))) {
        view_refused(s->o.view, e.kind ? e.text : s->why);
        return;
    }
    if (!(t = task_new(s, NULL, scanned)) || !(t->text = strdup(folder))) {
        free(t);
        return;
    }
    t->job.run = scan_run;
    worker_submit(s->scanner, &t->job);
    view_say(s->o.view, VIEW_INFO, "Looking through the folder");
}

/* The newest that differ; of a long history not all is looked at. */
static bool list_prompts(struct task *t, struct err *e)
{
    enum { PAGE = 200, MOST = 5000 };
    struct store_query q = { .limit = PAGE };
    bool ok = true, more = true;

    for (; ok && more && q.offset < MOST && t->prompts.count < PROMPTS_MAX; q.offset += PAGE) {
        store_page_free(&t->page);
        ok = store_history_list(t->s->store, &q, &t->page, e);
        for (int i = 0; ok && i < t->page.count; i++) prompts_add(&t->prompts, t->page.at[i].prompt);
        more = t->page.count == PAGE;
    }
    return ok;
}

static void prompts_listed(struct task *t)
{
    if (t->ok) view_prompts(t->s->o.view, (const char *const *)t->prompts.text, t->prompts.count);
}

void service_prompts(struct service_store *s)
{
    struct task *t = task_new(s, list_prompts, prompts_listed);

    if (t) task_start(t, 0);
}

void service_history(struct service_store *s, const struct wish *w)
{
    static const struct {
        bool (*work)(struct task *, struct err *);
        void (*then)(struct task *);
        int kind;
    } row[] = {
        [HISTORY_LIST] = { list_history, listed, KIND_LIST },
        [HISTORY_THUMBS] = { read_thumbs, thumbs_read, KIND_THUMBS },
        [HISTORY_MARK] = { mark, NULL, 0 },
        [HISTORY_TRASH] = { to_trash, history_changed, 0 },
        [HISTORY_RESTORE] = { restore, history_changed, 0 },
        [HISTORY_REMOVE] = { remove_picture, history_changed, 0 },
        [HISTORY_EXPORT] = { export, exported, 0 },
        [HISTORY_RECORD] = { describe, described, KIND_RECORD },
        [HISTORY_OPEN] = { read_picture, picture_read, KIND_OPEN },
        [HISTORY_OPEN_JOB] = { read_picture_of_job, picture_read, KIND_OPEN },
        [HISTORY_LOAD] = { load_picture, picture_loaded, 0 },
    };
    enum history_wish what = w->history.what;
    struct task *t;

    if (what == HISTORY_SCAN) {
        grant_scan(s, w->history.text);
        return;
    }
    if (!(t = task_new(s, row[what].work, row[what].then))) return;
    t->id = w->history.id;
    t->number = w->history.number;
    if (what == HISTORY_LIST) {
        t->text = strdup(w->history.query.search);
        t->trash = w->history.query.trash;
        t->offset = w->history.query.offset;
        t->limit = w->history.query.limit;
        t->serial = w->history.query.serial;
    } else if (what == HISTORY_THUMBS) {
        if (t->number > THUMBS_MAX) t->number = THUMBS_MAX;
        memcpy(t->ids, w->history.ids, (size_t)t->number * sizeof *t->ids);
    } else if (what == HISTORY_LOAD && !view_job(s->o.view, &t->j, &t->e)) {
        view_refused(s->o.view, t->e.text);
        task_free(t);
        return;
    } else if (w->history.text && !(t->text = strdup(w->history.text))) {
        view_refused(s->o.view, "no memory");
        task_free(t);
        return;
    }
    task_start(t, row[what].kind);
}
