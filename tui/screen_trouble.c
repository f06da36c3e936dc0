/* screen_trouble.c - after a failure: its stage, its cause, and what can be done, each
 * on one key. It is a question (screen_ask.c) made of the failure's kind and stage;
 * the job then goes on from its last step, if the remedy keeps the picture. */
#include "engine/job_text.h"
#include "tui/view_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REMEDIES_MAX = 5, WORDS_BYTES = 160 };

struct trouble_state {
    int64_t id; /* 0: none */
    enum err_kind fault;
    enum stage stage;
    char text[EVENT_TEXT_BYTES];
    size_t budget, arena; /* the job's; what it had on the device, 0: unknown */
    enum text_encoders text_encoders;
    enum vae_mode vae;
    enum precision precision;
    int vae_precision;
    enum device_choice device;
    bool card;            /* its memory is a card's */
    int count;
    struct { char key, words[WORDS_BYTES], settings[64]; } remedy[REMEDIES_MAX];
};

static bool trouble_init(struct view *v, struct err *e)
{
    v->trouble = calloc(1, sizeof *v->trouble);
    return v->trouble || err_set(e, ERR_MEMORY, "no memory for the studio's screen");
}

static void trouble_free(struct view *v)
{
    free(v->trouble);
}

void view_trouble(struct view *v, int64_t id, const struct job *j, enum err_kind fault, enum stage stage,
                  const char *text)
{
    struct trouble_state *t = v->trouble;

    *t = (struct trouble_state){
        .id = id, .fault = fault, .stage = stage, .budget = j->budget, .text_encoders = j->text_encoders, .vae = j->vae,
        .precision = j->precision, .vae_precision = j->vae_precision, .device = j->device,
        .arena = v->memory_known ? v->memory.arena_bytes : 0, .card = v->memory_known && v->memory.device_total,
    };
    snprintf(t->text, sizeof t->text, "%s", text);
}

/* A failure that the queue has kept, perhaps since an earlier start. */
static bool take_row(struct view *v, const struct store_job *r)
{
    struct job j = { 0 };
    struct err e = { 0 };
    bool ok = job_from_text(&j, r->text, &e);

    if (ok) view_trouble(v, r->id, &j, r->fault, r->stage, r->error);
    else view_say(v, VIEW_BAD, e.text);
    job_free(&j);
    return ok;
}

int64_t trouble_job(const struct view *v)
{
    return v->trouble->id;
}

/* --- remedies ------------------------------------------------------------------------- */

static void offer(struct trouble_state *t, char key, const char *settings, const char *words)
{
    if (t->count == REMEDIES_MAX) return;
    t->remedy[t->count].key = key;
    snprintf(t->remedy[t->count].settings, sizeof t->remedy->settings, "%s", settings);
    snprintf(t->remedy[t->count++].words, sizeof t->remedy->words, "%s", words);
}

/* The next smaller of the sizes that cards have. */
static void offer_budget(struct trouble_state *t)
{
    static const int sizes[] = { 24, 16, 12, 10, 8, 6, 5, 4, 3, 2 }; /* GB */
    size_t had = t->budget && t->budget < JOB_BUDGET_AUTO ? t->budget : t->arena;
    char settings[32], words[WORDS_BYTES];

    for (size_t i = 0; had && i < sizeof sizes / sizeof *sizes; i++) {
        size_t bytes = (size_t)sizes[i] * 1000000000;
        if (bytes > had / 20 * 19) continue;
        snprintf(settings, sizeof settings, "budget=%dG", sizes[i]);
        snprintf(words, sizeof words, "a smaller budget, %d GB: slower, the same picture", sizes[i]);
        offer(t, 's', settings, words);
        break;
    }
    if (t->budget != JOB_BUDGET_LEAST)
        offer(t, 'm', "budget=min", "as little memory as will do: slowest, the same picture");
}

static void offer_for_memory(struct trouble_state *t)
{
    if (t->stage == STAGE_VAE && t->vae != VAE_BANDS && t->vae != VAE_TILES)
        offer(t, 'b', "vae=bands", "decode in bands: the same picture");
    if ((t->stage == STAGE_CLIP || t->stage == STAGE_T5) && t->text_encoders == TEXT_ENCODERS_ALTERNATE)
        offer(t, 'a', "text_encoders=sequential", "text encoders layer by layer: the same picture");
    else if ((t->stage == STAGE_CLIP || t->stage == STAGE_T5) && t->text_encoders != TEXT_ENCODERS_SEQUENTIAL)
        offer(t, 'a', "text_encoders=alternate", "text encoders one after the other: the same picture");
    offer_budget(t);
}

static void offer_precision(struct trouble_state *t)
{
    bool wide = t->precision == PRECISION_FP32;

    if (t->stage != STAGE_VAE && !wide)
        offer(t, 'f', "precision=fp32", "compute in fp32: slower, and the picture begins anew");
    if (t->stage == STAGE_VAE && !(t->vae_precision == JOB_AUTO_PRECISION ? wide : t->vae_precision == PRECISION_FP32))
        offer(t, 'f', "vae_precision=fp32", "decode in fp32: slower, and the picture begins anew");
}

static void offer_processor(struct trouble_state *t)
{
    if (t->device != DEVICE_CPU) offer(t, 'c', "device=cpu", "on the processor: slower");
}

/* What the kind means, and what helps is offered. */
static const char *cause(struct trouble_state *t)
{
    switch (t->fault) {
    case ERR_DEVICE_MEMORY:
        offer_for_memory(t);
        return "Something else has taken memory since the plan was made, or the driver refuses it.";
    case ERR_MEMORY:
        if (!t->card) offer_budget(t);
        return "The computer's own memory is used up: close other programs, then try again.";
    case ERR_BUDGET:
        if (t->budget != JOB_BUDGET_LEAST) offer(t, 'm', "budget=min", "the least budget that will do");
        return "The budget is too small for this size.";
    case ERR_OVERFLOW:
        offer_precision(t);
        return "A value has become too large for the type that is computed in.";
    case ERR_DISK_FULL:
        return "There is no room for the file: make room, then try again. Nothing that was computed is lost.";
    case ERR_DAMAGED:
        return "A file of the model is damaged: sluice inspect --check says which. Fetch it again.";
    case ERR_DEVICE:
        offer_processor(t);
        return "A library or the driver refuses; the doctor (F7) looks at them.";
    case ERR_DEVICE_LOST:
        offer_processor(t);
        return "The card does nothing more for this program: quit sluice and start it again.";
    case ERR_IO:
    case ERR_MISSING:
        if (t->stage == STAGE_SAVE)
            return "The file cannot be written there: mend that, then try again. Nothing that was computed is lost.";
        return t->fault == ERR_IO ? "" : "The model is not whole: sluice inspect --check says what is missing.";
    default: return "";
    }
}

static struct wish answered(struct view *v, char answer)
{
    struct trouble_state *t = v->trouble;
    struct wish w = { .kind = WISH_QUEUE, .queue = { .what = QUEUE_RETRY, .id = t->id } };

    for (int i = 0; answer && i < t->count; i++)
        if (t->remedy[i].key == answer) {
            w.queue.text = t->remedy[i].settings;
            t->id = 0; /* that is settled */
            return w;
        }
    return view_wish(WISH_NONE);
}

/* It is the question that opens. */
static bool trouble_open(struct view *v)
{
    struct trouble_state *t = v->trouble;
    struct ask_answer answers[REMEDIES_MAX];
    char title[64], question[EVENT_TEXT_BYTES + 256];
    const struct store_job *kept = queue_failed(v);
    const char *why;

    if (kept && !take_row(v, kept)) return false;
    if (!t->id) {
        view_say(v, VIEW_INFO, "Nothing has failed");
        return false;
    }
    t->count = 0;
    why = cause(t);
    offer(t, 't', "", "try again as it is");
    for (int i = 0; i < t->count; i++) answers[i] = (struct ask_answer){ t->remedy[i].key, t->remedy[i].words };
    snprintf(title, sizeof title, "Failed: %s", stage_name(t->stage));
    snprintf(question, sizeof question, "%.600s%s%s", t->text, *why ? ". " : "", why);
    view_ask(v, title, question, answers, t->count, answered);
    return false;
}

static enum keys_context trouble_context(const struct view *v)
{
    (void)v;
    return KEYS_ASK;
}

const struct screen screen_trouble = {
    .name = "trouble",
    .overlay = true,
    .opened_by = ACTION_TROUBLE,
    .init = trouble_init,
    .free = trouble_free,
    .open = trouble_open,
    .context = trouble_context,
};
