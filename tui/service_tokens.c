/* service_tokens.c - see service_tokens.h. */
#include "tui/service_tokens.h"

#include "engine/tok_clip.h"
#include "engine/tok_t5.h"

#include <stdlib.h>
#include <string.h>

struct service_tokens {
    const struct model *model;
    struct worker *worker;
    struct view *view;
    int kind;
    uint64_t seen;               /* view_changes when it was last looked at; */
    char *sent[VIEW_PROMPTS];    /* ... what the texts were */
    /* the worker's */
    struct tok_clip *clip;
    struct tok_t5 *t5;
    bool opened, usable;
};

struct count {
    struct worker_job job;
    struct service_tokens *of;
    char *text[VIEW_PROMPTS];
    struct view_tokens found[VIEW_PROMPTS];
    bool ok;
};

static void count_run(struct worker_job *j)
{
    struct count *c = (struct count *)j;
    struct service_tokens *s = c->of;
    const struct model *m = s->model;
    char dir[MODEL_PATH_MAX];

    if (!s->opened)
        s->usable = tok_clip_open(&s->clip, model_part_dir(m, MODEL_TOK_CLIP, dir), NULL) &&
                    tok_t5_open(&s->t5, model_part_dir(m, MODEL_TOK_T5, dir), NULL);
    s->opened = true;
    c->ok = s->usable;
    for (int i = 0; c->ok && i < VIEW_PROMPTS; i++) {
        struct view_tokens *f = &c->found[i];
        size_t n = strlen(c->text[i]);
        f->clip_most = m->clip.tokens;
        f->t5_most = m->t5.tokens;
        c->ok = tok_clip_fit(s->clip, c->text[i], n, f->clip_most, &f->clip, &f->clip_fits, NULL) &&
                tok_t5_fit(s->t5, c->text[i], n, f->t5_most, &f->t5, &f->t5_fits, NULL);
    }
}

static void count_done(struct worker_job *j, void *owner)
{
    struct count *c = (struct count *)j;

    (void)owner;
    for (int i = 0; i < VIEW_PROMPTS; i++) {
        if (j->ran && c->ok) view_tokens(c->of->view, i, &c->found[i]);
        free(c->text[i]);
    }
    free(c);
}

bool service_tokens_start(struct service_tokens **out, const struct model *m, struct worker *w, int kind,
                          struct view *v, struct err *e)
{
    struct service_tokens *s = *out = calloc(1, sizeof *s);

    if (!s) return err_set(e, ERR_MEMORY, "no memory to count tokens");
    *s = (struct service_tokens){ .model = m, .worker = w, .view = v, .kind = kind, .seen = view_changes(v) - 1 };
    return true;
}

void service_tokens_update(struct service_tokens *s)
{
    struct count *c;
    bool same = true;

    if (view_changes(s->view) == s->seen) return;
    s->seen = view_changes(s->view);
    for (int i = 0; i < VIEW_PROMPTS; i++) same = same && s->sent[i] && !strcmp(s->sent[i], view_prompt(s->view, i));
    if (same || !(c = calloc(1, sizeof *c))) return;
    c->job = (struct worker_job){ .kind = s->kind, .run = count_run, .done = count_done };
    c->of = s;
    for (int i = 0; i < VIEW_PROMPTS; i++) {
        free(s->sent[i]);
        s->sent[i] = strdup(view_prompt(s->view, i));
        c->text[i] = strdup(view_prompt(s->view, i));
    }
    if (c->text[0] && c->text[1]) worker_submit(s->worker, &c->job);
    else count_done(&c->job, NULL); /* no memory: the next key tries again */
}

void service_tokens_free(struct service_tokens *s)
{
    if (!s) return;
    for (int i = 0; i < VIEW_PROMPTS; i++) free(s->sent[i]);
    tok_clip_close(s->clip);
    tok_t5_close(s->t5);
    free(s);
}
