/* test_alloc.c - every allocation of the project's own refused once, each in its turn.
 *
 * A piece of work is done again and again with its 1st, 2nd, 3rd, ...
 * allocation refused, until none is left to refuse. Each time it must end in
 * ERR_MEMORY (ERR_DEVICE_MEMORY: the processor's own), or well (what could be done without), and do its work right
 * after. Leaks and wild pointers are the address sanitizer's to find (make asan). What
 * libraries allocate inside is not refused, but for stb_image, which is compiled
 * in, and jansson, which can be given functions: there a failure may have any kind. */
#include "engine/engine.h"
#include "engine/file.h"
#include "engine/image.h"
#include "engine/pipeline.h"
#include "engine/queue.h"
#include "engine/safetensors.h"
#include "engine/tok_clip.h"
#include "engine/tok_t5.h"
#include "engine/weights.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char work[FILE_PATH_MAX], model_dir[FILE_PATH_MAX], picture[FILE_PATH_MAX], stages[FILE_PATH_MAX];
static struct model opened;
static bool any_kind;

/* `work_once` with every allocation refused in turn; every `stride`-th if there are many. */
static void refuse_each(const char *what, bool (*work_once)(struct err *e), long first, long stride)
{
    long n = first, refused = 0;
    for (;; n += stride) {
        struct err e = { 0 };
        alloc_fail_at(n);
        bool ok = work_once(&e);
        if (!alloc_fail_done()) {
            if (!ok)
                fail_msg("%s fails with all the memory it wants: %s", what, e.text);
            break;
        }
        refused++;
        if (!ok && e.kind != ERR_MEMORY && e.kind != ERR_DEVICE_MEMORY && !any_kind)
            fail_msg("%s, allocation %ld refused: not a failure of memory: \"%s\"", what, n, e.text);
        if (!ok && (e.kind == ERR_NONE || !e.text[0]))
            fail_msg("%s, allocation %ld refused: a failure that says nothing", what, n);
        if (ok && e.kind != ERR_NONE)
            fail_msg("%s, allocation %ld refused: went well, but says \"%s\"", what, n, e.text);
        if (getenv("ALLOC_VERBOSE"))
            print_message("%s %ld: %s\n", what, n, ok ? "(well)" : e.text);
    }
    assert_true(refused > 0);
    struct err e = { 0 };
    if (!work_once(&e))
        fail_msg("%s, after all that: %s", what, e.text);
}

static bool open_model(struct err *e)
{
    static struct model m;
    return model_open(&m, model_dir, true, e);
}

static bool write_tensors(struct err *e)
{
    static float data[6] = { 1, 2, 3, 4, 5, 6 };
    struct safetensors_entry entry[] = { { "one", tensor_2d(data, DT_F32, 2, 3) },
                                         { "two", tensor_1d(data, DT_F32, 6) } };
    struct safetensors *s;
    if (!safetensors_write(stages, entry, 2, e) || !safetensors_open(&s, stages, e))
        return false;
    struct tensor one, two;
    if (!safetensors_find(s, "one", &one) || !safetensors_find(s, "two", &two) ||
        !tensor_same_shape(one, entry[0].tensor) ||
        !tensor_same_shape(two, entry[1].tensor) || memcmp(two.data, data, sizeof data))
        fail_msg("%s was written wrongly", stages); /* what seems to go well must be right */
    safetensors_close(s);
    return true;
}

static bool read_tensors(struct err *e)
{
    struct safetensors *s;
    bool ok = safetensors_open(&s, stages, e);
    if (ok)
        safetensors_close(s);
    return ok;
}

static bool open_weights(struct err *e)
{
    char dir[MODEL_PATH_MAX];
    struct weights *w;
    bool ok = weights_open_dir(&w, model_part_dir(&opened, MODEL_FLUX, dir), "transformer", e);
    if (ok)
        weights_close(w);
    return ok;
}

static const char prompt[] =
    "A small green \xf0\x9f\x8d\x8f apple </s> e\xcc\x81t\xc3\xa9 \xef\xac\x81n <|endoftext|> 123";

static struct tok_clip *clip;
static struct tok_t5 *t5;

static bool clip_opens(struct err *e)
{
    char dir[MODEL_PATH_MAX];
    struct tok_clip *t;
    bool ok = tok_clip_open(&t, model_part_dir(&opened, MODEL_TOK_CLIP, dir), e);
    if (ok)
        tok_clip_close(t);
    return ok;
}

static bool t5_opens(struct err *e)
{
    char dir[MODEL_PATH_MAX];
    struct tok_t5 *t;
    bool ok = tok_t5_open(&t, model_part_dir(&opened, MODEL_TOK_T5, dir), e);
    if (ok)
        tok_t5_close(t);
    return ok;
}

static bool clip_encodes(struct err *e)
{
    int32_t ids[77];
    int used;
    bool cut;
    return tok_clip_encode(clip, prompt, strlen(prompt), ids, 77, &used, &cut, e);
}

static bool t5_encodes(struct err *e)
{
    int32_t ids[64];
    int used;
    bool cut;
    return tok_t5_encode(t5, prompt, strlen(prompt), ids, 64, &used, &cut, e);
}

static bool write_picture(struct err *e)
{
    struct image *im = image_new(8, 8, e);
    bool ok = im && image_write_png(im, picture, &(struct image_text){ "key", "value" }, 1, e);
    image_free(im);
    return ok;
}

static bool read_picture(struct err *e)
{
    struct image *im = image_read(picture, e), *copy = im ? image_copy(im, e) : NULL;
    struct image *small = copy ? image_resize(copy, 3, 3, e) : NULL;
    char *text = small ? image_read_text(picture, "key", e) : NULL;
    bool ok = text;
    free(text);
    image_free(im);
    image_free(copy);
    image_free(small);
    return ok;
}

static int failed, ended;

static void note(void *user, struct event *ev)
{
    (void)user;
    failed += ev->kind == EVENT_FAILED;
    ended += ev->kind == EVENT_DONE || ev->kind == EVENT_FAILED || ev->kind == EVENT_CANCELLED;
    event_clear(ev);
}

static struct job small_job(void)
{
    return (struct job){ .prompt = (char *)(uintptr_t)prompt, .width = 16, .height = 16, .steps = 1, .guidance = 3.5f,
                         .cfg = 2, .negative = (char *)(uintptr_t)prompt, .sampler = SAMPLER_HEUN,
                         .count = 1, .threads = 1, .precision = PRECISION_FP32, .out = picture, .dump_stages = stages,
                         .preview = PREVIEW_AUTO };
}

static bool run_with(struct pipeline *p, struct err *e)
{
    struct job j = small_job();
    failed = ended = 0;
    bool ok = pipeline_run(p, &j, 1, &(struct pipeline_hooks){ .emit = note }, e);
    if (failed != !ok || ended != 1)
        fail_msg("%d ends of a job, %d of them failures, for \"%s\"", ended, failed, e->text);
    return ok;
}

/* All of it from nothing. */
static bool whole_pipeline(struct err *e)
{
    struct pipeline *p;
    bool ok = pipeline_new(&p, &opened, e) && run_with(p, e);
    pipeline_free(p);
    return ok;
}

/* One that has run before, and must be able to run after a failure. */
static struct pipeline *kept;

static bool next_job(struct err *e)
{
    return run_with(kept, e);
}

static bool engine_starts(struct err *e)
{
    struct engine *g;
    bool ok = engine_start(&g, model_dir, e);
    if (ok)
        engine_stop(g);
    return ok;
}

static bool engine_takes_a_job(struct err *e)
{
    struct job j = small_job(), copy;
    bool ok = job_copy(&copy, &j, e);
    if (ok)
        job_free(&copy);
    return ok;
}

static void models_and_files(void **state)
{
    (void)state;
    refuse_each("model_open", open_model, 1, 1);
    refuse_each("safetensors_write", write_tensors, 1, 1);
    refuse_each("safetensors_open", read_tensors, 1, 1);
    refuse_each("weights_open_dir", open_weights, 1, 1);
    refuse_each("image_write_png", write_picture, 1, 1);
    any_kind = true; /* stb_image tries the next format, and blames that */
    refuse_each("image_read", read_picture, 1, 1);
    any_kind = false;
}

static void tokenizers(void **state)
{
    (void)state;
    refuse_each("tok_clip_open", clip_opens, 1, 1);
    refuse_each("tok_t5_open", t5_opens, 1, 1);
    refuse_each("tok_clip_encode", clip_encodes, 1, 1);
    refuse_each("tok_t5_encode", t5_encodes, 1, 1);
}

static void pipelines(void **state)
{
    (void)state;
    struct err e = { 0 };
    refuse_each("pipeline_run", whole_pipeline, 1, 1);
    if (!pipeline_new(&kept, &opened, &e) || !next_job(&e))
        fail_msg("%s", e.text);
    refuse_each("pipeline_run again", next_job, 1, 1);
    pipeline_free(kept);
    refuse_each("engine_start", engine_starts, 1, 1);
    refuse_each("job_copy", engine_takes_a_job, 1, 1);
}

/* Through --wrap, since these are this file's own calls. */
static void *json_malloc(size_t bytes) { return malloc(bytes); }
static void json_free(void *p) { free(p); }

/* jansson says only that it failed: the kind is open. Its many small pieces: a sample. */
static void jansson_too(void **state)
{
    (void)state;
    json_malloc_t before_malloc;
    json_free_t before_free;
    json_get_alloc_funcs(&before_malloc, &before_free);
    json_set_alloc_funcs(json_malloc, json_free);
    any_kind = true;
    refuse_each("model_open, jansson", open_model, 1, 3);
    refuse_each("safetensors_write, jansson", write_tensors, 1, 1);
    refuse_each("safetensors_open, jansson", read_tensors, 1, 1);
    refuse_each("tok_clip_open, jansson", clip_opens, 1, 7);
    refuse_each("tok_t5_open, jansson", t5_opens, 1, 41);
    refuse_each("weights_open_dir, jansson", open_weights, 1, 11);
    any_kind = false;
    json_set_alloc_funcs(before_malloc, before_free);
}

static int make_model(void **state)
{
    (void)state;
    struct err e = { 0 };
    char dir[MODEL_PATH_MAX];
    scratch_make(work);
    golden_make("dev96", path_in(work, "dev96", model_dir));
    path_in(work, "picture.png", picture);
    path_in(work, "stages.safetensors", stages);
    if (!model_open(&opened, model_dir, true, &e) ||
        !tok_clip_open(&clip, model_part_dir(&opened, MODEL_TOK_CLIP, dir), &e) ||
        !tok_t5_open(&t5, model_part_dir(&opened, MODEL_TOK_T5, dir), &e))
        fail_msg("%s", e.text);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    tok_clip_close(clip);
    tok_t5_close(t5);
    scratch_remove(work);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_and_files),
        cmocka_unit_test(tokenizers),
        cmocka_unit_test(pipelines),
        cmocka_unit_test(jansson_too),
    };
    return cmocka_run_group_tests_name("alloc", tests, make_model, remove_model);
}
