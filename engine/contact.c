/* contact.c - see contact.h. */
#include "engine/contact.h"

#include <stdio.h>
#include <stdlib.h>

/* "name.png" and "-what" -> "name-what.png". */
static bool set_name(struct job *j, const char *path, const char *what, struct err *e)
{
    const char *out = path ? path : "sluice.png";
    size_t stem = job_stem(out);
    char *name = NULL;
    if (asprintf(&name, "%.*s-%s%s", (int)stem, out, what, out[stem] ? out + stem : ".png") < 0)
        return err_set(e, ERR_MEMORY, "out of memory");
    free(j->out);
    j->out = name;
    return true;
}

/* j with its first prompt only, and nothing that belongs to one run of it. */
static bool alone(struct job *to, const struct job *j, struct err *e)
{
    struct job first = *j;
    first.more = NULL;
    first.more_count = 0;
    first.dump_stages = first.checkpoint = first.resume = NULL;
    first.first = 0;
    first.random_seed = false;
    return job_copy(to, &first, e);
}

static int scaled(int px, int side, int longer)
{
    int n = (int)(((int64_t)px * side / longer + JOB_SIZE_STEP / 2) / JOB_SIZE_STEP * JOB_SIZE_STEP);
    return n < JOB_SIZE_MIN ? JOB_SIZE_MIN : n;
}

bool contact_sheet(struct job *sheet, const struct job *j, const struct contact *how, struct err *e)
{
    int longer = j->width > j->height ? j->width : j->height, few = j->steps / 5 > 4 ? j->steps / 5 : 4;
    *sheet = (struct job){ 0 };
    if (how->seeds < 1 || how->seeds > JOB_COUNT_MAX)
        return err_set(e, ERR_INPUT, "%d seeds on a contact sheet: give 1 to %d", how->seeds, JOB_COUNT_MAX);
    if (j->init_latents)
        return err_set(e, ERR_INPUT, "a job that begins at a latent has no seeds to choose from");
    if (!alone(sheet, j, e) || !set_name(sheet, j->out, "contact", e))
        return false;
    sheet->count = how->seeds;
    sheet->steps = how->steps ? how->steps : few < j->steps ? few : j->steps;
    sheet->decode = DECODE_IMMEDIATE; /* thumbnails are to come one by one */
    sheet->preview = PREVIEW_NONE;
    if (how->side && how->side < longer) {
        sheet->width = scaled(j->width, how->side, longer);
        sheet->height = scaled(j->height, how->side, longer);
    }
    return true;
}

bool contact_finish(struct job *out, const struct job *j, int index, struct err *e)
{
    char what[32];
    *out = (struct job){ 0 };
    snprintf(what, sizeof what, "seed-%llu", (unsigned long long)(j->seed + (uint64_t)index));
    if (!alone(out, j, e) || !set_name(out, j->out, what, e))
        return false;
    out->seed = j->seed + (uint64_t)index;
    out->count = 1;
    return true;
}
