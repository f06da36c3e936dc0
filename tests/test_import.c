/* test_import.c - what other programs' pictures and files become: the formats as those
 * programs write them (tests/golden/import, and PNGs made here), what cannot be taken, and
 * 20,000 damaged copies of all of it. SLUICE_SEED replays the damage. */
#include "engine/image.h"
#include "engine/import.h"
#include "engine/record.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char scratch[FILE_PATH_MAX];
static uint64_t seed, state;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static const char *in(const char *name)
{
    static char path[4][FILE_PATH_MAX];
    static int turn;
    return path_in(scratch, name, path[turn++ % 4]);
}

/* A small picture with that text, written by libpng. */
static const char *png(const char *name, const char *key, const char *text)
{
    const char *path = in(name);
    struct image *im = image_new(2, 2, NULL);
    struct err e = { 0 };
    struct image_text texts[] = { { "Software", "another" }, { key, text } };
    if (!image_write_png(im, path, texts, 2, &e))
        fail_msg("%s", e.text);
    image_free(im);
    return path;
}

static char *golden(const char *name)
{
    char path[FILE_PATH_MAX];
    size_t bytes;
    struct err e = { 0 };
    char *text = file_read(path_in(GOLDEN_DIR "/import", name, path), 1 << 20, &bytes, &e);
    if (!text)
        fail_msg("%s", e.text);
    return text;
}

/* All that was made of it, as text. */
static void print(const struct import *im, char *buf, size_t room)
{
    static const char *const kinds[] = { "sluice", "a1111", "comfy", "preset", "template" };
    FILE *f = fmemopen(buf, room, "w");
    fprintf(f, "%s by %s: \"%s\", model \"%s\"\n", kinds[im->kind], im->program, im->preset.name, im->preset.model);
    for (int i = 0; i < im->preset.rows.count; i++) {
        const struct sheet_row *r = &im->preset.rows.row[i];
        fprintf(f, "%s = %s <- %s\n", r->setting ? r->setting->name : "nothing", r->text, r->key);
    }
    for (int i = 0; i < im->left_count; i++)
        fprintf(f, "left %s = %s: %s\n", im->left[i].key, im->left[i].value, im->left[i].why);
    if (im->left_more)
        fprintf(f, "and %d more\n", im->left_more);
    fclose(f);
}

static void check(const char *path, const char *expected)
{
    struct import im;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    char text[16384] = "";
    if (!import_read(&im, path, &f, &e))
        fail_msg("%s", e.text);
    print(&im, text, sizeof text);
    import_free(&im);
    if (strcmp(text, expected))
        fail_msg("%s became\n%s\ninstead of\n%s", path, text, expected);
}

static void refused(const char *path, const char *why)
{
    struct import im;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    assert_false(import_read(&im, path, &f, &e));
    import_free(&im);
    if (!strstr(e.text, why))
        fail_msg("\"%s\" does not say \"%s\"", e.text, why);
}

/* --- A1111 and Forge --------------------------------------------------------------------------- */

static void forge_pictures_become_settings(void **unused)
{
    (void)unused;
    check(png("cat.png", "parameters",
              "a {red|blue} cat, (sharp:1.2)\nsecond line <lora:flux_realism:0.8>\nNegative prompt: blurry, \nugly\n"
              "Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, "
              "Seed: 4055364232, Size: 896x1152, Model hash: c161224931, Model: flux1-dev-bnb-nf4, Lora hashes: "
              "\"flux_realism: 2c0ad1c5, x: y\", Beta schedule alpha: 0.6, Diffusion in Low Bits: bnb-nf4, "
              "Module 1: ae, Hires upscale: 1.5, Hires prompt: \"a, b: c\", Version: f2.0.1v1.10.1-previous-535"),
          "a1111 by Forge f2.0.1v1.10.1: \"cat\", model \"FLUX.1-dev\"\n"
          "prompt = a {{red|blue}} cat, (sharp:1.2) second line <- prompt\n"
          "negative = blurry,  ugly <- Negative prompt\n"
          "steps = 20 <- Steps\n"
          "sampler = Euler <- Sampler\n"
          "schedule = Simple <- Schedule type\n"
          "cfg = 1 <- CFG scale\n"
          "guidance = 3.5 <- Distilled CFG Scale\n"
          "seed = 4055364232 <- Seed\n"
          "size = 896x1152 <- Size\n"
          "rng = philox <- RNG\n"
          "left prompt = lora:flux_realism:0.8: LoRAs are not loaded\n"
          "left prompt = (word:1.2): words have no weights here: they stay in the prompt as text\n"
          "left Model hash = c161224931: ten digits of a SHA-256: a preset compares whole ones\n"
          "left Model = flux1-dev-bnb-nf4: taken as FLUX.1-dev; its weights are rounded, so the picture will differ a "
          "little\n"
          "left Lora hashes = flux_realism: 2c0ad1c5, x: y: LoRAs are not loaded\n"
          "left Beta schedule alpha = 0.6: there is no such setting\n"
          "left Diffusion in Low Bits = bnb-nf4: how that program kept the weights\n"
          "left Module 1 = ae: the model's own encoders and VAE are used\n"
          "left Hires upscale = 1.5: there is one pass here, no second one at a larger size\n"
          "left Hires prompt = a, b: c: there is one pass here, no second one at a larger size\n");
}

static void older_a1111_pictures_too(void **unused)
{
    (void)unused;
    /* no negative prompt, sampler and schedule in one, a seed that was random, JSON in brackets */
    check(png("old.png", "parameters",
              "caf\xc3\xa9 at night\nSteps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: -1, Size: 512x768, "
              "Model: v1-5-pruned, "
              "RNG: CPU, Civitai resources: [{\"type\":\"checkpoint\",\"weight\":1}], ENSD: 31337, Version: v1.6.0"),
          "a1111 by A1111 v1.6.0: \"old\", model \"\"\n"
          "prompt = caf\xc3\xa9 at night <- prompt\n"
          "steps = 28 <- Steps\n"
          "schedule = Karras <- Sampler\n"
          "sampler = DPM++ 2M <- Sampler\n"
          "cfg = 7 <- CFG scale\n"
          "seed = random <- Seed\n"
          "size = 512x768 <- Size\n"
          "rng = torch-cpu <- RNG\n"
          "left Model = v1-5-pruned: not a model that is known here: the picture will be another\n"
          "left Civitai resources = [{\"type\":\"checkpoint\",\"weight\":1}]: there is no such setting\n"
          "left ENSD = 31337: one seed makes the noise\n");
    /* what sluice has not: told, and its own stays; a text file as those programs write it */
    static const char text[] = "a dog\nSteps: 5000, Sampler: Euler a, Schedule type: Automatic, Seed: x, Size: 64\n";
    scratch_write(in("some.txt"), text, sizeof text - 1);
    check(in("some.txt"),
          "a1111 by A1111's kind: \"some\", model \"\"\n"
          "prompt = a dog <- prompt\n"
          "left Steps = 5000: steps is 5000: give 1 to 1000\n"
          "left Sampler = Euler a: sampler \"Euler a\": use one of euler, heun, dpmpp_2m, dpm++ 2m, dpm++, dpmpp, lcm\n"
          "left Schedule type = Automatic: that program chooses it by the sampler\n"
          "left Seed = x: seed \"x\": not 0 to 2^64-1 or random\n"
          "left Size = 64: size \"64\": not WIDTHxHEIGHT: write it as 1024x768\n");
}

/* --- ComfyUI ------------------------------------------------------------------------------------ */

static void comfy_graphs_are_walked(void **unused)
{
    (void)unused;
    static const char *const custom =
        "%s by ComfyUI: \"%s\", model \"FLUX.1-dev\"\n"
        "guidance = 3.2 <- FluxGuidance.guidance\n"
        "prompt = a lighthouse in fog, oil painting <- CLIPTextEncode.text\n"
        "seed = %s <- RandomNoise.noise_seed\n"
        "sampler = heun <- KSamplerSelect.sampler_name\n"
        "schedule = beta <- BasicScheduler.scheduler\n"
        "steps = 24 <- BasicScheduler.steps\n"
        "size = 1024x1024 <- EmptySD3LatentImage.width\n"
        "rng = torch-cpu <- ComfyUI\n"
        "left DualCLIPLoader.clip_name1 = t5xxl_fp16.safetensors: the model's own encoders are used\n"
        "left DualCLIPLoader.clip_name2 = clip_l.safetensors: the model's own encoders are used\n"
        "left LoraLoaderModelOnly.lora_name = aidma.safetensors: LoRAs are not loaded\n"
        "left VAELoader.vae_name = ae.safetensors: the model's own VAE is used\n";
    char expected[4096], *text = golden("comfy_custom.json");
    snprintf(expected, sizeof expected, custom, "comfy", "lighthouse", "18446744073709551615");
    check(png("lighthouse.png", "prompt", text), expected);
    free(text);
    text = golden("comfy_workflow.json");
    snprintf(expected, sizeof expected, custom, "comfy", "drawn", "1125899906842600");
    check(png("drawn.png", "workflow", text), expected);
    free(text);
    check(GOLDEN_DIR "/import/comfy_ksampler.json",
          "comfy by ComfyUI: \"comfy_ksampler\", model \"FLUX.1-schnell\"\n"
          "prompt = first part, second part <- CLIPTextEncodeFlux.t5xxl\n"
          "guidance = 3.5 <- CLIPTextEncodeFlux.guidance\n"
          "negative = low quality <- CLIPTextEncode.text\n"
          "seed = 77 <- KSampler.seed\n"
          "steps = 4 <- KSampler.steps\n"
          "cfg = 2.5 <- KSampler.cfg\n"
          "sampler = euler <- KSampler.sampler_name\n"
          "size = 768x512 <- EmptyLatentImage.width\n"
          "count = 4 <- EmptyLatentImage.batch_size\n"
          "rng = torch-cpu <- ComfyUI\n"
          "left CLIPTextEncodeFlux.clip_l = lighthouse: both encoders get one prompt here, that of t5xxl\n"
          "left KSampler.scheduler = ddim_uniform: schedule \"ddim_uniform\": use one of simple, normal, beta, "
          "sgm_uniform, sgm uniform, "
          "karras, exponential\n"
          "left shift = 1.15: ComfyUI's default for every size; here it follows the size, so steps lie otherwise\n"
          "left CheckpointLoaderSimple.ckpt_name = FLUX1\\flux1-schnell-fp8.safetensors: taken as FLUX.1-schnell; its "
          "weights are "
          "rounded, so the picture will differ a little\n"
          "left KSampler = : a second pass: there is one here\n"
          "left LatentUpscaleBy = : this node is not known here\n");
}

static void loops_end(void **unused)
{
    (void)unused;
    static const char text[] =
        "{\"1\":{\"class_type\":\"KSampler\",\"inputs\":{\"seed\":[\"2\",0],\"steps\":[\"1\",0],\"positive\":[\"3\",0],"
        "\"latent_image\":[\"1\",0],\"model\":[\"4\",0],\"cfg\":1}},"
        "\"2\":{\"class_type\":\"A\",\"inputs\":{\"seed\":[\"2\",0],\"value\":[\"2\",0]}},"
        "\"3\":{\"class_type\":\"StringConcat\",\"inputs\":{\"text_a\":[\"3\",0],\"text_b\":[\"3\",0],"
        "\"conditioning\":[\"3\",0]}},"
        "\"4\":{\"class_type\":\"Reroute\",\"inputs\":{\"model\":[\"4\",0]}}}";
    struct import im;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    assert_true(import_bytes(&im, "loop.json", text, sizeof text - 1, &f, &e));
    assert_true(im.left_count > 2);
    import_free(&im);
}

/* --- our own, presets, templates ------------------------------------------------------------------- */

static void our_own_pictures_come_back(void **unused)
{
    (void)unused;
    struct job j = { 0 };
    struct record r;
    struct err e = { 0 };
    struct image *im = image_new(2, 2, &e);
    assert_true(sheet_job(&j, &e) && job_set_string(&j.prompt, "a {wooden} boat", &e) &&
                job_set_string(&j.negative, "fog", &e));
    j.width = 640;
    j.height = 480;
    j.guidance = 2.4f;
    j.cfg = 1.5f;
    j.seed = UINT64_MAX;
    j.random_seed = false;
    j.vae = VAE_TILES;
    assert_true(record_make(&r, &j, 0, "demo", 9, &e) && record_write_png(&r, im, in("ours.png"), &e));
    record_free(&r);
    image_free(im);
    job_free(&j);
    check(in("ours.png"),
          "sluice by sluice " SLUICE_VERSION ": \"ours\", model \"demo\"\n"
          "size = 640x480 <- size\n"
          "prompt = a {{wooden}} boat <- prompt\n"
          "steps = 28 <- steps\n"
          "guidance = 2.4 <- guidance\n"
          "cfg = 1.5 <- cfg\n"
          "negative = fog <- negative\n"
          "sampler = euler <- sampler\n"
          "schedule = simple <- schedule\n"
          "rng = torch-cpu <- rng\n"
          "precision = bf16 <- precision\n"
          "seed = 18446744073709551615 <- seed\n"
          "left vae = tiles: it is of a profile, and changes the picture: set it there\n"
          "left steps_done = 9: the picture was stopped there: it will be finished now\n");
    /* and its prompt is the same again */
    struct import got;
    struct yaml_faults f = { 0 };
    assert_true(import_read(&got, in("ours.png"), &f, &e));
    char *prompt = preset_prompt(&got.preset, NULL, &e);
    assert_string_equal(prompt, "a {wooden} boat");
    free(prompt);
    import_free(&got);
}

static void presets_and_templates_too(void **unused)
{
    (void)unused;
    check("presets/draft.yaml", "preset by : \"Quick draft\", model \"FLUX.1-dev\"\n"
          "size = 768x768 <- size\nsteps = 8 <- steps\nguidance = 3.5 <- guidance\n"
          "sampler = dpmpp_2m <- sampler\nschedule = simple <- schedule\n");
    scratch_write(in("article.json"), "{\"resolution\": [768, 768], \"steps\": 20}", 40);
    refused(in("article.json"), "article.json:1:");
    const char *text = "{\"steps\": 20, \"cfg_scale\": 3.5, \"sampler\": \"dpm++\", \"scheduler\": \"simple\", "
                       "\"unet_offload\": \"cpu\"}";
    scratch_write(in("t.json"), text, strlen(text));
    check(in("t.json"), "template by a template: \"t\", model \"\"\n"
          "steps = 20 <- steps\nguidance = 3.5 <- cfg_scale\nsampler = dpm++ <- sampler\n"
          "schedule = simple <- scheduler\n"
          "left unet_offload = cpu: what a U-Net was before; its blocks are brought when they are needed\n");
    scratch_write(in("bad.yaml"), "sluice: 1\nname: x\nstepz: 4\n", 27);
    refused(in("bad.yaml"), "bad.yaml:3:1: there is no \"stepz\": is steps meant?");
}

static void what_says_nothing_is_refused(void **unused)
{
    (void)unused;
    refused(png("none.png", "Comment", "hello"), "this picture does not say how it was made");
    refused(png("odd.png", "prompt", "{\"1\":{\"class_type\":\"SaveImage\",\"inputs\":{}}}"),
            "does not say how it was made");
    scratch_write(in("x.jpg"), "\xff\xd8\xff\xe0 0123456789", 15);
    refused(in("x.jpg"), "a JPEG or WebP picture");
    scratch_write(in("empty"), "", 0);
    refused(in("empty"), "empty");
    refused(in("missing.png"), "missing.png");
    refused(scratch, "regular");
    scratch_write(in("cut.png"), "\x89PNG\r\n\x1a\n\0\0\1\0tEXt....", 20);
    refused(in("cut.png"), "damaged or truncated");
}

static void hostile_text_is_cleaned(void **unused)
{
    (void)unused;
    check(png("\xe2\x80\xae" "evil\x1b[2J.png", "parameters",
              "a\x1b[31mred\x07 \xe2\x80\xae" "cat\x01\nSteps: 4, Mo\x1b" "del\x9d: \x1b]0;x\x07, Version: \x1b[2J"),
          "a1111 by [2J: \"evil[2J\", model \"\"\n"
          "prompt = a[31mred cat <- prompt\n"
          "steps = 4 <- Steps\n"
          "left Model\xef\xbf\xbd = ]0;x: there is no such setting\n");
}

/* --- damage --------------------------------------------------------------------------------------- */

static char *whole[8];
static size_t whole_bytes[8];

/* Some bytes changed, taken out, doubled; of a PNG within the text too, whose checksum is put right. */
static char *damage(const char *of, size_t *bytes)
{
    static const char *const pieces[] = { "\"", "{", "}", "[", "]", ":", ",", "\\", "\n", "Steps: ", "NaN",
                                          "99999999999999999999", "[\"4\",0]", "\x1b", "\xff", "<lora:",
                                          "Negative prompt:", "e999", "-", "{{" };
    char *copy = malloc(*bytes + 64);
    memcpy(copy, of, *bytes);
    for (int n = 1 + (int)(draw() % 6); n; n--) {
        size_t at = draw() % (*bytes ? *bytes : 1), length = draw() % 12;
        const char *piece = pieces[draw() % 20];
        switch (draw() % 4) {
        case 0: copy[at] = (char)draw(); break;
        case 1:
            length = length < *bytes - at ? length : *bytes - at;
            memmove(copy + at, copy + at + length, *bytes - at - length);
            *bytes -= length;
            break;
        case 2:
            length = strlen(piece) < *bytes - at ? strlen(piece) : *bytes - at;
            memcpy(copy + at, piece, length);
            break;
        default: *bytes -= draw() % 8 ? 0 : *bytes - at;
        }
    }
    copy[*bytes] = '\0';
    return copy;
}

static void damaged_copies_harm_nobody(void **unused)
{
    (void)unused;
    int count = 0, taken = 0;
    whole[count++] = golden("comfy_custom.json");
    whole[count++] = golden("comfy_workflow.json");
    whole[count++] = golden("comfy_ksampler.json");
    whole[count++] = strdup("a cat <lora:x:1>\nNegative prompt: b\nSteps: 20, Sampler: DPM++ 2M Karras, Seed: 1, "
                            "Size: 64x64, Lora hashes: \"a: b\", Civitai resources: [{\"a\":\"]\"}], Version: f2.0");
    whole[count++] = strdup("{\"program\":\"sluice 0.1\",\"width\":64,\"height\":64,\"steps\":4,"
                            "\"prompt\":\"x\",\"guidance\":2.5}");
    for (int i = 0; i < count; i++)
        whole_bytes[i] = strlen(whole[i]);
    char *text = golden("comfy_custom.json");
    whole[count] = file_read(png("whole.png", "prompt", text), 1 << 20, &whole_bytes[count], NULL);
    count++;
    free(text);
    for (int round = 0; round < 20000; round++) {
        struct import im;
        struct yaml_faults f = { 0 };
        struct err e = { 0 };
        int which = round % count;
        size_t bytes = whole_bytes[which];
        char *copy = damage(whole[which], &bytes);
        bool ok = import_bytes(&im, "/nowhere/damaged", copy, bytes, &f, &e);
        assert_true(ok || e.kind);
        taken += ok;
        for (int i = 0; ok && i < im.preset.rows.count; i++) {
            struct job j = { 0 };
            assert_int_equal(setting_set(&j, im.preset.rows.row[i].setting, im.preset.rows.row[i].text, NULL),
                             SETTING_SET);
            assert_null(strpbrk(im.preset.rows.row[i].text, "\x1b\n\x07"));
            job_free(&j);
        }
        import_free(&im);
        free(copy);
    }
    print_message("%d of 20000 damaged copies could be taken\n", taken);
    assert_true(taken > 2000);
    for (int i = 0; i < count; i++)
        free(whole[i]);
}

static void memory_can_be_refused(void **unused)
{
    (void)unused;
    char *text = golden("comfy_ksampler.json");
    bool refused_once = true;
    for (long n = 1; refused_once && n < 3000; n += n < 60 ? 1 : 7) {
        struct import im;
        struct yaml_faults f = { 0 };
        struct err e = { 0 };
        alloc_fail_at(n);
        bool ok = import_bytes(&im, "x.json", text, strlen(text), &f, &e);
        refused_once = alloc_fail_done();
        assert_true(ok || e.kind);
        import_free(&im);
    }
    assert_false(refused_once);
    free(text);
}

static int setup(void **unused)
{
    (void)unused;
    const char *given = getenv("SLUICE_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    state = seed * 2654435769u + 1;
    print_message("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    scratch_make_cache(scratch);
    return 0;
}

static int teardown(void **unused)
{
    (void)unused;
    scratch_remove(scratch);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forge_pictures_become_settings), cmocka_unit_test(older_a1111_pictures_too),
        cmocka_unit_test(comfy_graphs_are_walked),        cmocka_unit_test(loops_end),
        cmocka_unit_test(our_own_pictures_come_back),     cmocka_unit_test(presets_and_templates_too),
        cmocka_unit_test(what_says_nothing_is_refused),   cmocka_unit_test(hostile_text_is_cleaned),
        cmocka_unit_test(damaged_copies_harm_nobody),     cmocka_unit_test(memory_can_be_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
