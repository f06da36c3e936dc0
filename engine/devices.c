/* devices.c - see devices.h. */
#include "engine/devices.h"

#include "engine/memory.h"
#include "kernels/cpu.h"
#include "kernels/cuda.h"

#include <stdio.h>
#include <string.h>

void devices_close(struct devices *ds)
{
    if (ds->vae != ds->main)
        device_free(ds->vae);
    device_free(ds->main);
    nvml_close(ds->nvml);
    memset(ds, 0, sizeof *ds);
}

/* main and vae by the same function. */
static bool open_both(struct devices *ds,
                      bool (*make)(struct device **, enum dtype, const struct devices *, struct err *), struct err *e)
{
    if (!make(&ds->main, precision_dtype(ds->precision), ds, e))
        return false;
    ds->vae = ds->main;
    return ds->vae_precision == ds->precision || make(&ds->vae, precision_dtype(ds->vae_precision), ds, e);
}

static bool make_cpu(struct device **out, enum dtype compute, const struct devices *ds, struct err *e)
{
    return cpu_device_new(out, compute, ds->threads, e);
}

static bool make_cuda(struct device **out, enum dtype compute, const struct devices *ds, struct err *e)
{
    static const enum cuda_attention mode[] = {
        [ATTENTION_AUTO] = CUDA_ATTENTION_AUTO, [ATTENTION_FLASH] = CUDA_ATTENTION_FLASH,
        [ATTENTION_EFFICIENT] = CUDA_ATTENTION_EFFICIENT, [ATTENTION_MATH] = CUDA_ATTENTION_MATH,
        [ATTENTION_CPU] = CUDA_ATTENTION_MATH, /* the card's plainest, and the one that needs the least */
    };
    struct cuda_options o = { .attention = mode[ds->attention], .pin_weights = ds->pin_weights, .search = true };
    return cuda_device_new(out, compute, &o, e);
}

/* --- the card's memory -------------------------------------------------------------- */

/* What is used of the card, by all; DEVICES_UNKNOWN: why says why. */
static size_t card_used(const struct devices *ds, char why[DEVICES_WHY_BYTES])
{
    why[0] = '\0';
    if (!ds->nvml) {
        snprintf(why, DEVICES_WHY_BYTES, "%s", ds->nvml_why);
        return DEVICES_UNKNOWN;
    }
    struct nvml_card c = nvml_memory(ds->nvml, ds->nvml_card);
    if (c.used == NVML_UNKNOWN) {
        snprintf(why, DEVICES_WHY_BYTES, "%s", c.why[NVML_MEMORY]);
        return DEVICES_UNKNOWN;
    }
    /* A part of a card (MIG) is told of as the whole; the whole has what the driver reserves, too. */
    if (c.used <= c.total && c.total / 4 * 3 <= ds->total && ds->total / 4 * 3 <= c.total)
        return c.used;
    snprintf(why, DEVICES_WHY_BYTES, "NVML tells of %.2f GB used of %.2f GB, and CUDA of a card of %.2f GB",
             (double)c.used * 1e-9, (double)c.total * 1e-9, (double)ds->total * 1e-9);
    return DEVICES_UNKNOWN;
}

static void find_card(struct devices *ds, const struct cuda_card *card)
{
    struct err why = { 0 };
    ds->total = card->total;
    if (!nvml_open(&ds->nvml, NULL, &why) || !nvml_find(ds->nvml, card->uuid, card->pci, &ds->nvml_card, &why)) {
        nvml_close(ds->nvml);
        ds->nvml = NULL;
        snprintf(ds->nvml_why, sizeof ds->nvml_why, "%.*s", DEVICES_WHY_BYTES - 1, why.text);
    }
}

/* Everything that is opened on the card, and what that took of it. */
static bool open_measured(struct devices *ds, struct err *e)
{
    char why[DEVICES_WHY_BYTES];
    size_t before = card_used(ds, ds->opened_why);
    if (!open_both(ds, make_cuda, e))
        return false;
    size_t after = card_used(ds, why);
    ds->opened = ds->libraries = device_memory(ds->main).held;
    if (before == DEVICES_UNKNOWN)
        return true;
    if (after == DEVICES_UNKNOWN)
        snprintf(ds->opened_why, sizeof ds->opened_why, "%s", why);
    else if (after < before || after - before < ds->libraries)
        snprintf(ds->opened_why, sizeof ds->opened_why, "other programs gave memory back while the card was opened");
    else
        ds->opened = after - before;
    return true;
}

static size_t less(size_t a, size_t b) { return a > b ? a - b : 0; }

void devices_working(struct devices *ds, bool working)
{
    size_t held = device_memory(ds->main).held;
    if (working) {
        size_t most = less(held, ds->libraries);
        ds->grown = ds->grown < most ? ds->grown : most;
        ds->resting = held;
    } else if (ds->working) {
        ds->grown += less(held, ds->resting);
    }
    ds->working = working;
}

struct devices_card devices_card(const struct devices *ds)
{
    struct devices_card c = { .total = ds->total };
    if (!ds->main || !ds->total)
        return (struct devices_card){ 0 };
    struct device_memory m = device_memory(ds->main);
    size_t used = card_used(ds, c.why[DEVICES_OTHERS]);
    c.free = m.free;
    c.held = ds->opened + ds->grown + (ds->working ? less(m.held, ds->resting) : 0);
    c.others = used == DEVICES_UNKNOWN ? DEVICES_UNKNOWN : less(used, c.held + m.taken);
    snprintf(c.why[DEVICES_HELD], DEVICES_WHY_BYTES, "%s", ds->opened_why);
    if (!m.total) {
        c.free = c.held = c.others = DEVICES_UNKNOWN;
        for (int i = 0; i < DEVICES_FACTS; i++)
            snprintf(c.why[i], DEVICES_WHY_BYTES, "the CUDA runtime does not tell of the card's memory");
    }
    return c;
}

/* --- opening -------------------------------------------------------------------------- */

static bool open_cuda(struct devices *ds, struct err *e)
{
    struct cuda_card card;
    int count;
    if (!cuda_load(e) || !cuda_cards(&card, 1, &count, e))
        return false;
    ds->card = true;
    ds->no_bf16 = card.major < 8;
    if (ds->no_bf16) {
        bool narrowed = ds->precision == PRECISION_BF16;
        ds->precision = narrowed ? PRECISION_FP16 : ds->precision;
        ds->vae_precision = ds->vae_precision == PRECISION_BF16 ? PRECISION_FP16 : ds->vae_precision;
        if (narrowed)
            snprintf(ds->notice, sizeof ds->notice,
                     "%s has no bf16 arithmetic (compute capability %d.%d): fp16 is used",
                     card.name, card.major, card.minor);
    }
    struct cuda_versions v = cuda_versions();
    snprintf(ds->name, sizeof ds->name, "%s", card.name);
    snprintf(ds->arithmetic, sizeof ds->arithmetic, "%.80s sm_%d%d, cuBLAS %d, cuDNN %d, attention %d", card.name,
             card.major, card.minor, v.cublas, v.cudnn, ds->attention);
    find_card(ds, &card);
    return open_measured(ds, e);
}

static bool open_cpu(struct devices *ds, struct err *e)
{
    snprintf(ds->name, sizeof ds->name, ds->threads ? "cpu, %d threads" : "cpu", ds->threads);
    snprintf(ds->arithmetic, sizeof ds->arithmetic, "%s", cpu_arithmetic());
    return open_both(ds, make_cpu, e);
}

static struct devices wanted(const struct job *j)
{
    return (struct devices){
        .precision = j->precision, .choice = j->device, .asked = j->precision, .attention = j->attention,
        .pin_weights = j->pin_weights,
        .vae_precision = j->vae_precision == JOB_AUTO_PRECISION ? j->precision : (enum precision)j->vae_precision,
        .threads = j->threads,
    };
}

static bool same_wish(const struct devices *a, const struct devices *b)
{
    return a->choice == b->choice && a->asked == b->asked && a->vae_precision == b->vae_precision &&
           a->attention == b->attention && a->pin_weights == b->pin_weights && a->threads == b->threads;
}

bool devices_open(struct devices *ds, const struct job *j, struct err *e)
{
    struct devices want = wanted(j), opened = want;
    struct err why = { 0 };
    if (ds->main && same_wish(ds, &want))
        return true;
    devices_close(ds);
    bool ok = j->device != DEVICE_CPU && open_cuda(&opened, &why);
    if (!ok && j->device != DEVICE_CUDA) {
        devices_close(&opened);
        opened = want;
        /* A build without the module has nothing to explain. */
        if (j->device == DEVICE_AUTO && cuda_built())
            snprintf(opened.notice, sizeof opened.notice, "the processor computes: %s", why.text);
        err_clear(&why);
        ok = open_cpu(&opened, &why);
    }
    if (!ok) {
        devices_close(&opened);
        return err_set(e, why.kind, "%s", why.text);
    }
    *ds = opened;
    ds->vae_precision = want.vae_precision; /* as asked: what the next job is compared with */
    return true;
}

bool devices_any_card(void)
{
    struct cuda_card card;
    int count;
    return cuda_load(NULL) && cuda_cards(&card, 1, &count, NULL) && count > 0;
}

size_t devices_budget(const struct devices *ds, const struct job *j, char notice[EVENT_TEXT_BYTES])
{
    struct devices_card c = devices_card(ds);
    return devices_budget_of(j, &c, c.total ? c.free : memory_free(), notice);
}

size_t devices_budget_of(const struct job *j, const struct devices_card *c, size_t available,
                         char notice[EVENT_TEXT_BYTES])
{
    if (available == DEVICES_UNKNOWN)
        available = 0;
    size_t most = (size_t)((double)available * (double)j->memory_fraction), asked = j->budget;
    notice[0] = '\0';
    if (c->total && !asked) /* a card has no other place for weights than the arena */
        asked = JOB_BUDGET_AUTO;
    if (!available || !asked || asked == JOB_BUDGET_LEAST)
        return asked == JOB_BUDGET_AUTO ? JOB_BUDGET_LEAST : asked;
    if (asked != JOB_BUDGET_AUTO && c->held != DEVICES_UNKNOWN)
        /* nothing is planned within 1, and the refusal says what would */
        asked = asked > c->held ? asked - c->held : 1;
    if (asked == JOB_BUDGET_AUTO || asked <= most)
        return asked < most ? asked : most;
    int n = snprintf(notice, EVENT_TEXT_BYTES,
                     "the budget is %.2f GB, but %.2f GB are free: planned for %.2f GB (%.0f %%)",
                     (double)j->budget * 1e-9, (double)available * 1e-9, (double)most * 1e-9,
                     (double)j->memory_fraction * 100);
    if (c->total && c->others != DEVICES_UNKNOWN)
        snprintf(notice + n, (size_t)(EVENT_TEXT_BYTES - n), "; others hold %.2f GB of the card",
                 (double)c->others * 1e-9);
    return most;
}
