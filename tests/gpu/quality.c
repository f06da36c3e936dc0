/* quality.c - does the shipped model draw on the card what it was asked for? The judge of
 * assets/demo/train/evaluate.py on means over boxes of 8 x 8 pixels: a picture's kind is that of the emoji,
 * at both sizes and moved by up to two boxes, that is nearest to it in squared distance; its background the
 * colour nearest to the mean of its border. Of the processor's 100 pictures this judge finds 98 kinds, the
 * whole one 99.
 *
 * quality.safetensors was made by make_quality.py: prompts, what they ask for, what the judge finds in the
 * processor's pictures of them, and the emoji. */
#include "engine/safetensors.h"
#include "tests/gpu/gpu.h"
#include "tests/gpu/picture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUALITY "tests/gpu/quality.safetensors"

enum { SIDE = 128, BOX = 8, CELLS = SIDE / BOX, BORDER = 6, REACH = 2 };

struct verdict { int32_t kind, small, colour; }; /* as the file has it */

struct quality {
    struct safetensors *file;
    int prompts, kinds, colours_count;
    const int32_t *seed, *clip_ids, *t5_ids, *colours;
    const struct verdict *asked, *processor;
    struct tensor emoji[2]; /* large, small: U8 [kind, cells, cells, 4] */
};

static bool find(const struct quality *q, const char *name, enum dtype type, int dims, struct tensor *t, struct err *e)
{
    return (safetensors_find(q->file, name, t) && t->dtype == type && t->ndim == dims) ||
           err_set(e, ERR_INPUT, QUALITY ": %s is missing, or not %s of %d dimensions", name, dtype_name(type), dims);
}

static bool quality_open(struct quality *q, const struct model *m, struct err *e)
{
    struct tensor seed, clip, t5, asked, processor, colours;
    memset(q, 0, sizeof *q);
    if (!safetensors_open(&q->file, QUALITY, e) || !find(q, "seed", DT_I32, 1, &seed, e) ||
        !find(q, "clip_ids", DT_I32, 2, &clip, e) || !find(q, "t5_ids", DT_I32, 2, &t5, e) ||
        !find(q, "asked", DT_I32, 2, &asked, e) || !find(q, "processor", DT_I32, 2, &processor, e) ||
        !find(q, "colours", DT_I32, 2, &colours, e) || !find(q, "large", DT_U8, 4, &q->emoji[0], e) ||
        !find(q, "small", DT_U8, 4, &q->emoji[1], e))
        return false;
    q->prompts = (int)seed.shape[0];
    q->kinds = (int)q->emoji[0].shape[0];
    q->colours_count = (int)colours.shape[0];
    q->seed = seed.data;
    q->clip_ids = clip.data;
    q->t5_ids = t5.data;
    q->asked = asked.data;
    q->processor = processor.data;
    q->colours = colours.data;
    return (q->emoji[0].shape[1] <= CELLS && q->emoji[1].shape[1] <= CELLS && clip.shape[1] == m->clip.tokens &&
            t5.shape[1] == m->t5.tokens) ||
           err_set(e, ERR_INPUT, QUALITY ": the token ids are not those of the shipped model");
}

/* --- the judge ------------------------------------------------------------------------------ */

/* Of the ground, with as many empty boxes around as an emoji may be moved. */
typedef float boxes[CELLS + 2 * REACH][CELLS + 2 * REACH][3];

static double level_of(float x) { return nearbyint(fmin(fmax((double)x / 2 + 0.5, 0), 1) * 255); }

static void rest_of(const float *image, const int32_t *ground, boxes rest)
{
    memset(rest, 0, sizeof(boxes));
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < 3; c++)
                rest[REACH + y / BOX][REACH + x / BOX][c] +=
                    (float)((level_of(image[(y * SIDE + x) * 3 + c]) - ground[c]) / (BOX * BOX));
}

/* Squared distance of the rest from an emoji on the ground, less the rest's own square; it is moved to `at`. */
static double distance(const unsigned char *emoji, int cells, const int32_t *ground, boxes rest, const int at[2])
{
    double sum = 0;
    for (int y = 0; y < cells; y++)
        for (int x = 0; x < cells; x++)
            for (int c = 0; c < 3; c++) {
                const unsigned char *p = emoji + (y * cells + x) * 4;
                double d = p[c] - p[3] / 255.0 * ground[c];
                sum += d * (d - 2 * (double)rest[at[0] + y][at[1] + x][c]);
            }
    return sum;
}

static int background_of(const struct quality *q, const float *image)
{
    double mean[3] = { 0 }, nearest = INFINITY;
    int n = 0, best = 0;
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            if (y < BORDER || y >= SIDE - BORDER || x < BORDER || x >= SIDE - BORDER) {
                for (int c = 0; c < 3; c++)
                    mean[c] += level_of(image[(y * SIDE + x) * 3 + c]);
                n++;
            }
    for (int i = 0; i < q->colours_count; i++) {
        double apart = 0;
        for (int c = 0; c < 3; c++)
            apart += pow(mean[c] / n - q->colours[3 * i + c], 2);
        if (apart < nearest) {
            nearest = apart;
            best = i;
        }
    }
    return best;
}

/* image: [128, 128, 3], -1 to 1. The ground is the one that was asked for. */
static struct verdict judge(const struct quality *q, const float *image, int colour)
{
    const int32_t *ground = q->colours + 3 * colour;
    struct verdict v = { .colour = background_of(q, image) };
    double nearest = INFINITY;
    boxes rest;
    rest_of(image, ground, rest);
    for (int small = 0; small < 2; small++) {
        int cells = (int)q->emoji[small].shape[1], first = (CELLS - cells) / 2;
        for (int kind = 0; kind < q->kinds; kind++)
            for (int y = 0; y <= 2 * REACH; y++)
                for (int x = 0; x <= 2 * REACH; x++) {
                    const unsigned char *emoji = (const unsigned char *)q->emoji[small].data + kind * cells * cells * 4;
                    double apart = distance(emoji, cells, ground, rest, (int[]){ first + y, first + x });
                    if (apart < nearest) {
                        nearest = apart;
                        v.kind = kind;
                        v.small = small;
                    }
                }
    }
    return v;
}

/* --- the list -------------------------------------------------------------------------------- */

struct score { int kind, size, background; };

static void count(struct score *s, struct verdict asked, struct verdict found)
{
    s->kind += asked.kind == found.kind;
    s->size += asked.small == found.small;
    s->background += asked.colour == found.colour;
}

/* The pictures of the first `prompts` prompts in one type. A kind fewer than the processor's passes: one
 * picture on the edge is rounding, more is not. */
static bool judge_all(const struct gpu *g, const struct quality *q, const struct picture_model *m, struct device *d,
                      int prompts, struct err *e)
{
    const struct model *model = &m->model;
    struct score card = { 0 }, processor = { 0 };
    char row[96], misses[256] = "";
    for (int i = 0; i < prompts; i++) {
        struct picture p;
        struct picture_wish wish = { .width = SIDE, .height = SIDE, .steps = model->defaults.steps,
                                     .seed = (uint64_t)q->seed[i], .guidance = model->defaults.guidance,
                                     .clip_ids = q->clip_ids + i * model->clip.tokens,
                                     .t5_ids = q->t5_ids + i * model->t5.tokens, .budget = (size_t)1 << 30 };
        bool ok = picture_make(&p, m, d, &wish, e);
        struct verdict found = ok ? judge(q, p.image, q->asked[i].colour) : (struct verdict){ 0 };
        picture_free(&p);
        if (!ok)
            return false;
        count(&card, q->asked[i], found);
        count(&processor, q->asked[i], q->processor[i]);
        size_t n = strlen(misses);
        if (found.kind != q->asked[i].kind)
            snprintf(misses + n, sizeof misses - n, "%s%d", n ? ", " : "; missed: seed ", (int)q->seed[i]);
    }
    snprintf(row, sizeof row, "demo pictures in %s: what was asked for", type_name(d->compute));
    bool good = card.kind >= processor.kind - 1 && card.background >= processor.background;
    tell(g, good ? PASSED : FAILED, row,
         "of %d prompts kind %d, size %d, background %d; the processor in bf16: %d, %d, %d%s", prompts, card.kind,
         card.size, card.background, processor.kind, processor.size, processor.background, misses);
    return true;
}

void part_quality(const struct gpu *g)
{
    static const enum dtype types[] = { DT_BF16, DT_F16, DT_F32 };
    struct cuda_card card;
    struct picture_model m = { 0 };
    struct quality q = { 0 };
    struct err e = { 0 };
    if (!open_card(&card, &e)) {
        tell(g, NOT_POSSIBLE, "demo pictures", "%s", e.text);
        return;
    }
    bool ok = picture_open(&m, "assets/demo", &e) && quality_open(&q, &m.model, &e);
    for (int i = g->small ? 2 : 0; i < 3 && ok; i++) {
        struct device *d;
        if (!card_has(&card, types[i]))
            continue;
        if (!(ok = open_device(&d, types[i], &e)))
            break;
        ok = judge_all(g, &q, &m, d, g->small ? 1 : q.prompts, &e);
        device_free(d);
    }
    if (!ok)
        tell(g, FAILED, "demo pictures", "%s", e.text);
    picture_close(&m);
    safetensors_close(q.file);
}
