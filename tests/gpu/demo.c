/* demo.c - the shipped model on the card: its picture against the processor's, and the
 * same bytes under every budget.
 *
 * demo.safetensors was made by make_demo.sh: what the cpu device does in fp32, stage by stage. */
#include "engine/safetensors.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEMO_DIR "assets/demo"
#define DEMO_DUMP "tests/gpu/demo.safetensors"

/* Of a byte of the picture: fp32 must round to the same but for ties; the others add the noise of
 * their 8 and 11 bits over the steps of a model that was trained with it. Root mean square, levels of 255. */
static double levels_allowed(enum dtype t) { return t == DT_F32 ? 0.05 : t == DT_F16 ? 1 : 6; }

struct demo {
    struct picture_model model;
    struct safetensors *dump;
    struct picture_wish wish;
};

static bool demo_open(struct demo *k, bool small, struct err *e)
{
    struct tensor clip = { 0 }, t5 = { 0 };
    memset(k, 0, sizeof *k);
    if (!picture_open(&k->model, DEMO_DIR, e) || !safetensors_open(&k->dump, DEMO_DUMP, e))
        return false;
    if (!safetensors_find(k->dump, "clip_ids", &clip) || !safetensors_find(k->dump, "t5_ids", &t5) ||
        tensor_count(clip) != k->model.model.clip.tokens || tensor_count(t5) != k->model.model.t5.tokens)
        return err_set(e, ERR_INPUT, DEMO_DUMP ": the token ids are not those of " DEMO_DIR);
    struct tensor image, sigmas;
    if (!safetensors_find(k->dump, "image", &image) || !safetensors_find(k->dump, "sigmas", &sigmas) || image.ndim != 3)
        return err_set(e, ERR_INPUT, DEMO_DUMP ": the picture is missing");
    k->wish = (struct picture_wish){ .width = (int)image.shape[2], .height = (int)image.shape[1],
                                     .steps = (int)tensor_count(sigmas) - 1, .seed = 1,
                                     .guidance = k->model.model.defaults.guidance, .clip_ids = clip.data,
                                     .t5_ids = t5.data, .budget = (size_t)1 << 30 };
    if (small)
        k->wish.width = k->wish.height = 32, k->wish.steps = 2;
    return true;
}

static void demo_close(struct demo *k)
{
    picture_close(&k->model);
    safetensors_close(k->dump);
}

static double byte_of(float x) { return nearbyint(fmin(fmax((double)x / 2 + 0.5, 0), 1) * 255); }

static void compare_picture(const struct gpu *g, const struct demo *k, const struct picture *p, enum dtype type)
{
    struct tensor image;
    char row[96];
    double square = 0, most = 0, allowed = levels_allowed(type);
    safetensors_find(k->dump, "image", &image);
    size_t pixels = p->image_count / 3;
    for (size_t i = 0; i < p->image_count; i++) {
        double off = fabs(byte_of(p->image[i]) - byte_of(((const float *)image.data)[i % 3 * pixels + i / 3]));
        square += off * off / (double)p->image_count;
        most = fmax(most, off);
    }
    snprintf(row, sizeof row, "demo picture in %s", type_name(type));
    tell(g, sqrt(square) <= allowed ? PASSED : FAILED, row,
         "off from the processor's fp32 by %.4f levels in the root mean square (allowed %.2f), %.0f at most",
         sqrt(square), allowed, most);
}

void part_demo(const struct gpu *g)
{
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    struct cuda_card card;
    struct demo k = { 0 };
    struct err e = { 0 };
    if (!open_card(&card, &e)) {
        tell(g, NOT_POSSIBLE, "demo picture", "%s", e.text);
        return;
    }
    bool ok = demo_open(&k, false, &e);
    for (int i = 0; i < (g->small ? 1 : 3) && ok; i++) {
        struct device *d;
        struct picture p = { 0 };
        if (!card_has(&card, types[i]))
            continue;
        if (!(ok = open_device(&d, types[i], &e)))
            break;
        if ((ok = picture_make(&p, &k.model, d, &k.wish, &e)))
            compare_picture(g, &k, &p, types[i]);
        picture_free(&p);
        device_free(d);
    }
    if (!ok)
        tell(g, FAILED, "demo picture", "%s", e.text);
    demo_close(&k);
}

/* --- budgets ---------------------------------------------------------------------------- */
static bool same_bytes(const struct gpu *g, const struct demo *k, struct device *d, struct err *e)
{
    struct picture whole, least, part;
    struct picture_wish wish = k->wish;
    char row[96];
    bool ok = picture_make(&whole, &k->model, d, &wish, e);
    wish.budget = JOB_BUDGET_LEAST;
    ok = picture_make(&least, &k->model, d, &wish, e) && ok;
    /* From all resident down to the least that does. */
    for (int quarter = 3; quarter >= 0 && ok; quarter--) {
        wish.budget = least.arena + (whole.arena - least.arena) / 4 * (size_t)quarter;
        ok = picture_make(&part, &k->model, d, &wish, e);
        bool same = ok && !memcmp(part.latent, whole.latent, whole.latent_count * sizeof(float)) &&
                    !memcmp(part.image, whole.image, whole.image_count * sizeof(float));
        snprintf(row, sizeof row, "%s: %.1f MB of %.1f MB", type_name(d->compute), (double)part.arena * 1e-6,
                 (double)whole.arena * 1e-6);
        if (ok)
            tell(g, same ? PASSED : FAILED, row, "%s", same ? "the same bytes as with all resident" : "other bytes");
        picture_free(&part);
    }
    picture_free(&whole);
    picture_free(&least);
    return ok;
}

void part_budgets(const struct gpu *g)
{
    static const enum dtype types[] = { DT_F32, DT_BF16, DT_F16 };
    struct cuda_card card;
    struct demo k = { 0 };
    struct err e = { 0 };
    if (!open_card(&card, &e)) {
        tell(g, NOT_POSSIBLE, "budgets", "%s", e.text);
        return;
    }
    bool ok = demo_open(&k, g->small, &e);
    for (int i = g->small ? 1 : 0; i < (g->small ? 2 : 3) && ok; i++) {
        struct device *d;
        if (!card_has(&card, types[i]))
            continue;
        if (!(ok = open_device(&d, types[i], &e)))
            break;
        ok = same_bytes(g, &k, d, &e);
        device_free(d);
    }
    if (!ok)
        tell(g, FAILED, "budgets", "%s", e.text);
    demo_close(&k);
}
