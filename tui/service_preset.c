/* service_preset.c - see service_preset.h. */
#include "tui/service_preset.h"

#include "engine/hash.h"
#include "engine/image.h"
#include "engine/preset_write.h"
#include "engine/shelf_own.h"
#include "tui/scale.h"
#include "tui/view.h"
#include "tui/worker.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { THUMB_PX = 256, KIND = 100 /* the worker's kinds of what is asked again and again: KIND + op */ };

struct work {
    struct worker_job job;
    struct view *view;
    struct model model;
    enum presets_op op;
    bool over;
    char *name, *to, *path, *text; /* of the ask; text: a preset's, to be written */
    char profile[FILE_PATH_MAX];   /* that has to go along with it; "": none */
    struct image *picture;
    struct presets_answer answer;
    struct err e;
};

/* --- the list ------------------------------------------------------------------------- */

static char *all_faults(const struct yaml_faults *f)
{
    char *text = NULL;
    size_t bytes;
    FILE *to = open_memstream(&text, &bytes);

    if (!to) return NULL;
    for (int i = 0; i < f->count; i++) fprintf(to, "%s%s", i ? "\n" : "", f->at[i].text);
    return fclose(to) ? NULL : text;
}

static bool list(struct work *w)
{
    struct presets_answer *a = &w->answer;
    struct shelf_list l;
    bool ok = shelf_list(&l, SHELF_PRESETS, &w->e);

    a->item = ok ? calloc((size_t)l.count + 1, sizeof *a->item) : NULL;
    if (ok && !a->item) ok = err_set(&w->e, ERR_MEMORY, "no memory for the list of presets");
    for (int i = 0; ok && i < l.count; i++) {
        struct presets_item *to = &a->item[a->count++];
        struct yaml_faults faults = { 0 };
        struct err e = { 0 };
        memcpy(to->name, l.item[i].name, sizeof to->name);
        to->own = l.item[i].own;
        if (preset_load(&to->preset, l.item[i].path, &faults, &e)) continue;
        to->faults = faults.count ? all_faults(&faults) : strdup(e.text);
        ok = to->faults || err_set(&w->e, ERR_MEMORY, "no memory for the list of presets");
    }
    shelf_list_free(&l);
    return ok;
}

/* NAME.png beside the preset, small. */
static bool picture(struct work *w)
{
    char path[FILE_PATH_MAX];
    char *dot;
    struct image *im = NULL;
    int width, height;

    if (!shelf_named(path, SHELF_PRESETS, w->name, &w->e)) return false;
    dot = strrchr(path, '.');
    if (strlen(path) < sizeof path - 5 && dot) {
        strcpy(dot, ".png");
        im = file_exists(path) ? image_read(path, NULL) : NULL;
    }
    if (im) {
        scale_fit(im->width, im->height, 1, THUMB_PX, THUMB_PX, &width, &height);
        w->answer.picture = scale_image(im, width, height, NULL);
    }
    image_free(im);
    return true;
}

/* --- a file that somebody sent ------------------------------------------------------------ */

static void compare_hashes(struct work *w, const struct preset *p)
{
    struct presets_hashes *h = &w->answer.hashes;

    for (int i = 0; i < p->hash_count; i++) {
        char path[FILE_PATH_MAX], hex[HASH_HEX];
        struct sha256 sum;
        struct stat st;
        bool there = file_join(path, w->model.path, p->hash[i].file, NULL) && !stat(path, &st), same = false;
        if (there && st.st_size > SERVICE_PRESET_COMPARED) {
            h->unread++;
            continue;
        }
        same = there && hash_file(&sum, path, NULL, NULL, NULL) && !strcmp(hash_hex(&sum, hex), p->hash[i].sha256);
        *(same ? &h->same : there ? &h->different : &h->missing) += 1;
        if (!same && !h->first[0]) snprintf(h->first, sizeof h->first, "%.255s", p->hash[i].file);
    }
}

static bool look(struct work *w)
{
    struct import *im = calloc(1, sizeof *im);
    struct yaml_faults faults = { 0 };
    char *all;

    if (!im) return err_set(&w->e, ERR_MEMORY, "no memory to look at %.200s", w->path);
    w->answer.import = im;
    if (!import_read(im, w->path, &faults, &w->e)) {
        if (faults.count > 1 && (all = all_faults(&faults))) { /* all, not only the first */
            err_set(&w->e, ERR_INPUT, "%s", all);
            free(all);
        }
        return false;
    }
    compare_hashes(w, &im->preset);
    return true;
}

/* --- a path ------------------------------------------------------------------------------- */

static bool could_be_meant(const char *name, bool folder)
{
    static const char *const endings[] = { ".png", ".yaml", ".yml", ".json", ".txt" };
    const char *dot = strrchr(name, '.');

    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f) return false; /* it could not be typed */
    for (size_t i = 0; i < sizeof endings / sizeof *endings && dot && !folder; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return folder;
}

static bool complete(struct work *w)
{
    struct presets_answer *a = &w->answer;
    const char *slash = strrchr(w->path, '/'), *begun = slash ? slash + 1 : w->path;
    char folder[FILE_PATH_MAX], common[256] = "";
    size_t n = strlen(begun);
    int found = 0;
    bool all_folders = true;

    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - w->path + 1) : 2, slash ? w->path : "./");
    DIR *d = opendir(folder);
    for (const struct dirent *f; d && (f = readdir(d));) {
        char path[FILE_PATH_MAX];
        struct stat st;
        if (strncmp(f->d_name, begun, n) || (f->d_name[0] == '.' && begun[0] != '.') || !strcmp(f->d_name, ".") ||
            !strcmp(f->d_name, "..") || !file_join(path, folder, f->d_name, NULL) || stat(path, &st) ||
            !could_be_meant(f->d_name, S_ISDIR(st.st_mode)))
            continue;
        size_t same = 0;
        if (!found++) snprintf(common, sizeof common, "%s", f->d_name);
        while (common[same] && common[same] == f->d_name[same]) same++;
        while (same && ((unsigned char)common[same] & 0xc0) == 0x80) same--; /* whole characters */
        common[same] = 0;
        all_folders = all_folders && S_ISDIR(st.st_mode);
        size_t at = strlen(a->text);
        snprintf(a->text + at, sizeof a->text - at, "%s%s%s", at ? "  " : "", f->d_name,
                 S_ISDIR(st.st_mode) ? "/" : "");
    }
    if (d) closedir(d);
    if (!found) return err_set(&w->e, ERR_INPUT, "no picture, preset or folder begins like that");
    snprintf(a->completed, sizeof a->completed, "%.*s%s%s", slash ? (int)(slash - w->path + 1) : 0, w->path, common,
             found == 1 && all_folders ? "/" : "");
    if (found == 1) a->text[0] = 0;
    return true;
}

/* --- changes ------------------------------------------------------------------------------ */

/* The preset's name in the answer: what was typed, as one of the shelf. */
static bool slug(struct work *w)
{
    return shelf_slug(w->answer.name, w->to) ||
           err_set(&w->e, ERR_INPUT, "\"%.60s\" has nothing that can stand in a file's name", w->to);
}

/* What was typed into the name within the file, if it can be told there. */
static void retitle(const char *name, const char *title)
{
    char path[FILE_PATH_MAX];
    size_t bytes;
    char *text = shelf_own_path(path, SHELF_PRESETS, name, NULL) ? file_read(path, YAML_BYTES_MAX, &bytes, NULL) : NULL;
    char *new = text && strlen(title) < PRESET_NAME_MAX ? preset_retitled(text, title, NULL) : NULL;

    if (new) file_write(path, new, strlen(new), NULL);
    free(text);
    free(new);
}

static bool save(struct work *w)
{
    char path[FILE_PATH_MAX], *dot;
    struct preset old = { .has_profile = w->profile[0] != 0 };

    if (!slug(w)) return false;
    if (!shelf_own_write(SHELF_PRESETS, w->answer.name, w->text, w->over, &w->e)) return false;
    if (!shelf_own_path(path, SHELF_PRESETS, w->answer.name, &w->e)) return false;
    if (old.has_profile) {
        char folder[FILE_PATH_MAX];
        snprintf(old.profile.path, sizeof old.profile.path, "%s", w->profile);
        file_folder(path, folder);
        if (!preset_profile_along(&old, folder, &w->e)) return false;
    }
    if (w->picture && (dot = strrchr(path, '.')) && strlen(path) < sizeof path - 5) {
        strcpy(dot, ".png");
        image_write_png(w->picture, path, NULL, 0, NULL); /* a preset without its picture is a preset still */
    }
    return true;
}

static bool keep(struct work *w)
{
    struct yaml_faults faults = { 0 };
    struct import *im = calloc(1, sizeof *im);
    bool ok = im ? import_read(im, w->path, &faults, &w->e) && import_keep(im, w->to, w->answer.name, &w->e)
                 : err_set(&w->e, ERR_MEMORY, "no memory");

    if (im) import_free(im);
    free(im);
    return ok;
}

/* The profile beside the preset has to be beside a copy of it, too. */
static bool copy(struct work *w)
{
    struct preset p;
    struct yaml_faults faults = { 0 };
    char path[FILE_PATH_MAX], folder[FILE_PATH_MAX];
    bool ok = slug(w) && shelf_named(path, SHELF_PRESETS, w->name, &w->e);

    if (!ok) return false;
    ok = preset_load(&p, path, &faults, &w->e) && shelf_own_copy(SHELF_PRESETS, w->name, w->answer.name, &w->e) &&
         shelf_folder(folder, SHELF_PRESETS, &w->e) && preset_profile_along(&p, folder, &w->e);
    preset_free(&p);
    if (ok) retitle(w->answer.name, w->to);
    return ok;
}

static bool rename_it(struct work *w)
{
    char old[SHELF_NAME_MAX];

    if (!slug(w)) return false;
    snprintf(old, sizeof old, "%s", w->name);
    if (strcmp(old, w->answer.name) && !shelf_own_rename(SHELF_PRESETS, old, w->answer.name, &w->e)) return false;
    retitle(w->answer.name, w->to);
    return true;
}

static bool export(struct work *w)
{
    struct preset p = { 0 };
    struct preset_files files = { 0 };
    struct yaml_faults faults = { 0 };
    char path[FILE_PATH_MAX], folder[FILE_PATH_MAX], *text = NULL;
    bool ok = shelf_named(path, SHELF_PRESETS, w->name, &w->e) && preset_load(&p, path, &faults, &w->e);
    bool ours = ok && (!p.model[0] || !strcasecmp(p.model, w->model.name));

    if (ok && file_exists(w->path)) ok = err_set(&w->e, ERR_IO, "%s is there already: choose another name", w->path);
    if (ours && preset_files(&files, &w->model, NULL) && files.bytes <= SERVICE_PRESET_HASHED) {
        ok = ok && preset_hash(&p, &w->model, &files, &w->e);
    } else if (ok) {
        snprintf(w->answer.text, sizeof w->answer.text, "; hashes of %s: sluice preset export %s",
                 ours ? "so large a model" : "its model", w->name);
    }
    if (ok && (ok = (text = preset_text(&p, &w->e)) != NULL)) {
        file_folder(w->path, folder);
        ok = preset_profile_along(&p, folder, &w->e) && file_write(w->path, text, strlen(text), &w->e);
    }
    free(text);
    preset_files_free(&files);
    preset_free(&p);
    return ok;
}

static bool trash(struct work *w)
{
    return shelf_own_trash(SHELF_PRESETS, w->name, &w->e);
}

static bool restore(struct work *w)
{
    return shelf_own_restore(SHELF_PRESETS, w->name, w->answer.name, &w->e);
}

/* --- on the worker ---------------------------------------------------------------------- */

static void run(struct worker_job *j)
{
    static bool (*const does[])(struct work *) = {
        [PRESETS_LIST] = list, [PRESETS_PICTURE] = picture, [PRESETS_LOOK] = look, [PRESETS_COMPLETE] = complete,
        [PRESETS_SAVE] = save, [PRESETS_KEEP] = keep, [PRESETS_COPY] = copy, [PRESETS_RENAME] = rename_it,
        [PRESETS_DELETE] = trash, [PRESETS_RESTORE] = restore, [PRESETS_EXPORT] = export,
    };
    struct work *w = (struct work *)j;

    w->answer.ok = does[w->op](w);
    if (!w->answer.ok) snprintf(w->answer.text, sizeof w->answer.text, "%s", w->e.text);
}

static void done(struct worker_job *j, void *owner)
{
    struct work *w = (struct work *)j;

    (void)owner;
    if (j->ran) view_presets(w->view, &w->answer);
    presets_answer_free(&w->answer);
    image_free(w->picture);
    free(w->name);
    free(w->to);
    free(w->path);
    free(w->text);
    free(w);
}

/* A model's name in a preset, if it leads here again. */
static void name_model(struct preset *p, const struct model *m)
{
    char path[MODEL_PATH_MAX];

    if (shelf_is_name(m->name) && strlen(m->name) < sizeof p->model && model_find(path, m->name, NULL) &&
        !strcmp(path, m->path))
        snprintf(p->model, sizeof p->model, "%.63s", m->name);
}

static bool prepare_save(struct work *w, const struct presets_ask *ask)
{
    struct preset p;
    bool ok = preset_from_job(&p, ask->job, ask->old, ask->to, &w->e);

    if (ok && !p.model[0]) name_model(&p, &w->model);
    if (ok && p.has_profile) memcpy(w->profile, p.profile.path, sizeof w->profile);
    ok = ok && (w->text = preset_text(&p, &w->e));
    if (ok && ask->picture) w->picture = image_copy(ask->picture, NULL);
    preset_free(&p);
    return ok;
}

static bool take(char **to, const char *text)
{
    return !text || (*to = strdup(text)) != NULL;
}

void service_preset(struct worker *worker, struct view *v, const struct model *m, const struct presets_ask *ask)
{
    struct work *w = calloc(1, sizeof *w);
    struct presets_answer no = { .op = ask->op, .text = "no memory" };

    if (!w) {
        view_presets(v, &no);
        return;
    }
    w->job = (struct worker_job){ .kind = ask->op <= PRESETS_COMPLETE ? KIND + (int)ask->op : 0, .run = run,
                                  .done = done };
    w->view = v;
    w->model = *m;
    w->op = w->answer.op = ask->op;
    w->over = ask->over;
    if (ask->name) snprintf(w->answer.name, sizeof w->answer.name, "%s", ask->name);
    if (ask->to) snprintf(w->answer.title, sizeof w->answer.title, "%.63s", ask->to);
    if (ask->path) snprintf(w->answer.path, sizeof w->answer.path, "%s", ask->path);
    bool ok = take(&w->name, ask->name) && take(&w->to, ask->to) && take(&w->path, ask->path);
    if (!ok) err_set(&w->e, ERR_MEMORY, "no memory");
    if (ok && ask->op == PRESETS_SAVE) ok = prepare_save(w, ask);
    if (ok) {
        worker_submit(worker, &w->job);
        return;
    }
    snprintf(w->answer.text, sizeof w->answer.text, "%s", w->e.text);
    w->job.ran = true;
    done(&w->job, NULL);
}
