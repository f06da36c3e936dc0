/* test_preset.c - presets and profiles: the shipped ones, the article's templates,
 * and everything that a file from a stranger may try. Each refusal is checked
 * with its line and column; changed copies of the shipped files must be taken or
 * refused, never more. What the settings themselves take is test_setting's.
 * SLUICE_SEED replays the changes. */
#include "engine/preset.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
    static char path[8][FILE_PATH_MAX];
    static int turn;
    return path_in(scratch, name, path[turn++ % 8]);
}

static const char *put(const char *name, const char *text)
{
    const char *path = in(name);
    scratch_write(path, text, strlen(text));
    return path;
}

/* --- the shipped ones ----------------------------------------------------------------------- */

static void every_shipped_preset_is_good(void **unused)
{
    (void)unused;
    struct shelf_list l;
    struct err e = { 0 };
    assert_true(shelf_list(&l, SHELF_PRESETS, &e));
    assert_true(l.count >= 8);
    for (int i = 0; i < l.count; i++) {
        struct preset p;
        struct yaml_faults f = { 0 };
        struct job j = { 0 };
        if (!preset_load(&p, l.item[i].path, &f, &e))
            fail_msg("%s", e.text);
        assert_true(*p.name && *p.about && *p.model && shelf_is_name(p.model));
        assert_false(l.item[i].own);
        assert_true(sheet_job(&j, &e) && preset_apply(&p, &j, &e));
        char notice[256];
        assert_true(job_check(&j, notice, &e));
        assert_string_equal(notice, ""); /* no size that has to be rounded */
        assert_null(strpbrk(j.prompt, "{}\n"));
        char *prompt = preset_prompt(&p, "my own words", &e);
        assert_non_null(strstr(prompt, "my own words"));
        free(prompt);
        job_free(&j);
        preset_free(&p);
    }
    shelf_list_free(&l);
}

/* The settings of a shipped profile for a picture of that size. */
static struct job profile_job(const char *name, const char *size)
{
    struct profile p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    struct job j;
    char path[FILE_PATH_MAX];
    if (!shelf_named(path, SHELF_PROFILES, name, &e) || !profile_load(&p, path, &f, &e))
        fail_msg("%s", e.text);
    assert_true(sheet_job(&j, &e));
    assert_int_equal(setting_set(&j, setting_find("size"), size, &e), SETTING_SET);
    assert_true(profile_apply(&p, &j, &e));
    profile_free(&p);
    return j;
}

static void every_shipped_profile_is_what_it_says(void **unused)
{
    (void)unused;
    struct shelf_list l;
    struct err e = { 0 };
    assert_true(shelf_list(&l, SHELF_PROFILES, &e));
    for (int i = 0; i < l.count; i++) {
        struct job j = profile_job(l.item[i].name, "1024x1024");
        job_free(&j);
    }
    assert_string_equal(l.item[0].name, "8gb"); /* numbers in their order */
    assert_string_equal(l.item[1].name, "12gb");
    shelf_list_free(&l);
    static const struct {
        const char *name, *size;
        size_t budget;
        int text_encoders, vae, attention, count;
        bool recompute;
        enum preview_mode preview;
    } cases[] = {
        { "8gb", "1024x1024", 8000000000, TEXT_ENCODERS_SEQUENTIAL, VAE_BANDS, ATTENTION_AUTO, 1, true, PREVIEW_NONE },
        { "12gb", "1024x1024", 12000000000, TEXT_ENCODERS_ALTERNATE, VAE_BANDS, ATTENTION_AUTO, 1, true,
          PREVIEW_LATENT },
        { "16gb", "1024x1024", 16000000000, TEXT_ENCODERS_RESIDENT, VAE_WHOLE, ATTENTION_FLASH, 2, false,
          PREVIEW_AUTO },
        { "16gb", "1536x1535", 16000000000, TEXT_ENCODERS_RESIDENT, VAE_WHOLE, ATTENTION_FLASH, 2, false,
          PREVIEW_AUTO },
        { "16gb", "1536x1536", 16000000000, TEXT_ENCODERS_AUTO, VAE_AUTO, ATTENTION_FLASH, 2, true,
          PREVIEW_AUTO },
        { "16gb", "3072x768", 16000000000, TEXT_ENCODERS_AUTO, VAE_AUTO, ATTENTION_FLASH, 2, true,
          PREVIEW_AUTO },
        { "24gb", "1024x1024", 24000000000, TEXT_ENCODERS_AUTO, VAE_WHOLE, ATTENTION_FLASH, 2, false,
          PREVIEW_AUTO },
        { "auto", "1024x1024", JOB_BUDGET_AUTO, TEXT_ENCODERS_AUTO, VAE_AUTO, ATTENTION_AUTO, 1, false,
          PREVIEW_AUTO },
        { "minimum", "1024x1024", JOB_BUDGET_LEAST, TEXT_ENCODERS_SEQUENTIAL, VAE_BANDS, ATTENTION_AUTO, 1, false,
          PREVIEW_AUTO },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct job j = profile_job(cases[i].name, cases[i].size);
        print_message("%s %s\n", cases[i].name, cases[i].size);
        assert_int_equal(j.budget, cases[i].budget);
        assert_int_equal(j.text_encoders, cases[i].text_encoders);
        assert_int_equal(j.vae, cases[i].vae);
        assert_int_equal(j.attention, cases[i].attention);
        assert_int_equal(j.count, cases[i].count);
        assert_int_equal(j.recompute > 0, cases[i].recompute);
        assert_int_equal(j.preview, cases[i].preview);
        assert_int_equal(j.precision, PRECISION_BF16);
        job_free(&j);
    }
}

/* --- templates ------------------------------------------------------------------------------ */

static void the_article_s_template_becomes_ours(void **unused)
{
    (void)unused;
    static const struct { const char *key, *setting, *own; } golden[] = {
        { "resolution", "size", "512x512" },         { "steps", "steps", "12" },
        { "cfg_scale", "guidance", "1.8" },          { "sampler", "sampler", "lcm" },
        { "scheduler", "schedule", "simple" },       { "batch_size", "count", "1" },
        { "text_encoder_offload", "text_encoders", "alternate" }, { "unet_offload", "transformer", "offload" },
        { "gradient_checkpointing", "recompute", "512" }, { "attention_mode", "attention", "efficient" },
        { "vae_tiling", "vae", "bands" },            { "precision", "precision", "fp16" },
        { "preview", "preview", "none" },            { "cleanup_interval", NULL, NULL },
    };
    enum { ROWS = sizeof golden / sizeof *golden };
    struct profile p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    struct job j;
    char path[FILE_PATH_MAX];
    assert_true(shelf_named(path, SHELF_PROFILES, "article-8gb", &e));
    if (!profile_load(&p, path, &f, &e))
        fail_msg("%s", e.text);
    assert_true(p.foreign);
    assert_true(sheet_job(&j, &e) && profile_apply(&p, &j, &e));
    assert_int_equal(p.rows.count, ROWS);
    for (int i = 0; i < ROWS; i++) {
        const struct sheet_row *row = &p.rows.row[i];
        assert_string_equal(row->key, golden[i].key);
        assert_int_equal(row->line, i + 2);
        if (!golden[i].setting) {
            assert_null(row->setting);
            assert_non_null(row->why);
            continue;
        }
        assert_string_equal(row->setting->name, golden[i].setting);
        assert_true(row->why || !strcmp(row->key, row->setting->name));
        char *own = setting_text(&j, row->setting);
        assert_string_equal(own, golden[i].own);
        free(own);
    }
    assert_true(j.cfg == 1.0f);
    job_free(&j);
    profile_free(&p);
}

static void other_words_of_templates(void **unused)
{
    (void)unused;
    static const struct { const char *text, *setting, *own; } cases[] = {
        { "{\"unet_offload\": true}", "transformer", "offload" }, { "{unet_offload: partial}", "transformer", "auto" },
        { "{unet_offload: none}", "transformer", "resident" },
        { "text_encoder_offload: sequential", "text_encoders", "sequential" },
        { "text_encoder_offload: False", "text_encoders", "resident" },
        { "text_encoder_offload: cpu", "text_encoders", "sequential" },
        { "gradient_checkpointing: off", "recompute", "off" }, { "gradient_checkpointing: 256", "recompute", "256" },
        { "attention_mode: flash_attention", "attention", "flash" }, { "attention_mode: sdp", "attention", "flash" },
        { "attention_mode: cpu", "attention", "cpu" }, { "vae_tiling: false", "vae", "whole" },
        { "vae_tiling: true\nvae_tile_size: 64\n", "vae_tile", "64" },
        { "vae_tiling: true\nvae_tile_overlap: 8\n", "vae_overlap", "8" },
        { "vae_tiling: true\nvae_overlap: 9\n", "vae_overlap", "9" },
        { "{batch_size: 1, sampler: dpm++}", "sampler", "dpmpp_2m" },
        { "{batch_size: 1, preview: latent}", "preview", "latent" }, { "negative_prompt: hands", "negative", "hands" },
        { "guidance_scale: 3.5", "guidance", "3.5" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct profile p;
        struct yaml_faults f = { 0 };
        struct err e = { 0 };
        struct job j;
        if (!profile_load(&p, put("template.json", cases[i].text), &f, &e))
            fail_msg("%s: %s", cases[i].text, e.text);
        assert_true(sheet_job(&j, &e) && profile_apply(&p, &j, &e));
        char *own = setting_text(&j, setting_find(cases[i].setting));
        assert_string_equal(own, cases[i].own);
        free(own);
        job_free(&j);
        profile_free(&p);
    }
}

/* --- refusals ------------------------------------------------------------------------------- */

struct refusal { const char *text; int line, column; const char *says; };

static void check_refusal(bool preset, const char *path, const struct refusal *r)
{
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    struct preset s;
    struct profile p;
    bool ok = preset ? preset_load(&s, path, &f, &e) : profile_load(&p, path, &f, &e);
    if (ok || !f.count)
        fail_msg("taken: %s", r->text);
    bool found = false;
    for (int i = 0; i < f.count; i++) {
        found |= f.at[i].line == r->line && f.at[i].column == r->column && strstr(f.at[i].text, r->says);
        char place[64];
        snprintf(place, sizeof place, ":%d:%d: ", f.at[i].line, f.at[i].column);
        assert_true(!f.at[i].line || strstr(f.at[i].text, place));
        for (const char *c = f.at[i].text; *c; c++)
            assert_false((unsigned char)*c < 0x20 || *c == 0x7f);
    }
    if (!found)
        fail_msg("%s\nis refused with \"%s\" (%d), expected %d:%d: ... %s", r->text, f.at[0].text, f.count, r->line,
                 r->column, r->says);
    assert_int_equal(e.kind, ERR_INPUT);
    assert_non_null(strstr(e.text, f.at[0].text));
    if (preset)
        preset_free(&s);
    else
        profile_free(&p);
}

#define HEAD "sluice: 1\nname: x\n"

static void presets_are_refused(void **unused)
{
    (void)unused;
    static const struct refusal cases[] = {
        /* keys */
        { HEAD "step: 4\n", 3, 1, "there is no \"step\": is steps meant?" },
        { HEAD "guidence: 4\n", 3, 1, "is guidance meant?" },
        { HEAD "abuot: x\n", 3, 1, "is about meant?" },
        { HEAD "STEPS: 4\n", 3, 1, "is steps meant?" },
        { HEAD "lora: x.safetensors\n", 3, 1, "there is no \"lora\"" },
        { HEAD "exec: rm\n", 3, 1, "there is no \"exec\"" },
        { HEAD "\"\": 1\n", 3, 1, "there is no \"\"" },
        { HEAD "steps: 4\nsize: 64x64\nsteps: 5\n", 5, 1, "second time: see line 3" },
        { HEAD "rng: philox\n\"rng\": philox\n", 4, 1, "second time" },
        { HEAD "budget: 8G\n", 3, 1, "it belongs in a profile" },
        { HEAD "threads: 4\n", 3, 1, "give it as an option" },
        { "sluice: 1\n", 1, 1, "has no name" },
        { "name: x\n", 1, 1, "\"sluice: 1\" is missing" },
        { "sluice: 2\nname: x\n", 1, 9, "reads version 1" },
        /* values */
        { HEAD "steps: two\n", 3, 8, "steps \"two\": not a whole number" },
        { HEAD "steps: 0\n", 3, 8, "steps is 0: give 1 to 1000" },
        { HEAD "steps:\n", 3, 7, "steps has no value" },
        { HEAD "prompt: ~\n", 3, 9, "prompt has no value" },
        { HEAD "steps: [1, 2]\n", 3, 8, "steps is a list" },
        { HEAD "steps: {a: 1}\n", 3, 8, "steps is a map" },
        { HEAD "prompt:\n  - a\n  - b\n", 4, 3, "prompt is a list" },
        { HEAD "sampler: ddim\n", 3, 10, "sampler \"ddim\": use one of" },
        { HEAD "size: 8192x8192\n", 3, 7, "more than" },
        { "sluice: 1\nname: [x]\n", 2, 7, "name is a list" },
        { "sluice: 1\nname: \"a\\nb\"\n", 2, 7, "more than one line" },
        { "sluice: 1\nname: 0123456789012345678901234567890123456789012345678901234567890123\n", 2, 7,
          "longer than 63" },
        /* prompt */
        { HEAD "prompt: a {fox\n", 3, 9, "without its }" },
        { HEAD "prompt: a fox}\n", 3, 9, "without its {" },
        { HEAD "prompt: \"{a} {b}\"\n", 3, 9, "a second" },
        { HEAD "prompt: \"{a {b} }\"\n", 3, 9, "a second" },
        /* model */
        { HEAD "model: FLUX.1-dev\n", 3, 8, "model is no map" },
        { HEAD "model:\n  name: ../x\n", 4, 9, "no model's name" },
        { HEAD "model:\n  name: /etc\n", 4, 9, "no model's name" },
        { HEAD "model:\n  name: .\n", 4, 9, "no model's name" },
        { HEAD "model:\n  url: http://x\n", 4, 3, "model has no \"url\"" },
        { HEAD "model:\n  sha256: {}\n", 4, 3, "model has no name" },
        { HEAD "model:\n  name: m\n  sha256: abc\n", 5, 11, "sha256 is no map" },
        { HEAD "model:\n  name: m\n  sha256:\n    a/b: abc\n", 6, 10, "no SHA-256" },
        { HEAD "model:\n  name: m\n  sha256:\n    ../b: abc\n", 6, 5, "no path within" },
        { HEAD "model:\n  name: m\n  sha256:\n    a/../../b: abc\n", 6, 5, "no path within" },
        { HEAD "model:\n  name: m\n  sha256:\n    /b: abc\n", 6, 5, "no path within" },
        { HEAD "model:\n  name: m\n  sha256:\n    a: [x]\n", 6, 8, "a is a list" },
        /* profile */
        { HEAD "profile: nosuch\n", 3, 10, "no profile \"nosuch\"" },
        { HEAD "profile: ..\n", 3, 10, "no profile" },
        { HEAD "profile: ../p.yaml\n", 3, 10, "leaves the preset's folder" },
        { HEAD "profile: /etc/p.yaml\n", 3, 10, "leaves the preset's folder" },
        { HEAD "profile: sub/../../p.yaml\n", 3, 10, "leaves the preset's folder" },
        { HEAD "profile: nosuch.yaml\n", 3, 10, "No such file" },
        { HEAD "profile: out.yaml\n", 3, 10, "a link out of the preset's folder" },
        { HEAD "profile: linked/p.yaml\n", 3, 10, "a link out of the preset's folder" },
        { HEAD "profile: fifo.yaml\n", 3, 10, "no regular file" },
        { HEAD "profile: folder.yaml\n", 3, 10, "no regular file" },
        { HEAD "profile: bad.yaml\n", 2, 9, "budget \"much\"" }, /* in that file */
        { HEAD "profile: article-8gb\n", 3, 10, "template of another program" },
        /* the format */
        { HEAD "prompt: &a x\n", 3, 9, "an anchor" },
        { HEAD "prompt: *a\n", 3, 9, "an alias" },
        { HEAD "prompt: !!str x\n", 3, 9, "a tag" },
        { HEAD "prompt: !x [a]\n", 3, 9, "a tag" },
        { HEAD "&a steps: 4\n", 3, 1, "an anchor" },
        { HEAD "*a : 4\n", 3, 1, "an alias" },
        { HEAD "<<: {steps: 4}\n", 3, 1, "there is no \"<<\"" },
        { HEAD "? [a]\n: 4\n", 3, 3, "a key that is no text" },
        { HEAD "model: &m\n  name: m\n", 3, 8, "an anchor" },
        { "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\n", 2, 8, "an alias" },
        { HEAD "model: {name: {a: {b: {c: {d: 1}}}}}\n", 3, 19, "nested deeper" },
        { HEAD "---\nsluice: 1\n", 3, 1, "a second document" },
        { HEAD "...\n---\n", 4, 1, "a second document" },
        { "%TAG ! tag:x,2000:\n---\nsluice: 1\n", 1, 1, "%TAG" },
        { HEAD "steps: 4: 5\n", 3, 9, "mapping values are not allowed" },
        { HEAD "\tsteps: 4\n", 3, 1, "found a tab character" },
        { HEAD "prompt: \"open\n", 4, 1, "unexpected end" },
        { "", 1, 1, "empty" },
        { "# nothing\n", 2, 1, "empty" },
        { "- a\n- b\n", 1, 1, "this is no map" },
        { "just words\n", 1, 1, "this is no map" },
        { "*x", 1, 1, "this is no map" },
        /* characters */
        { HEAD "prompt: a\x1b[31m\n", 3, 10, "a control character (U+001B)" },
        { HEAD "prompt: a\x7f\n", 3, 10, "a control character (U+007F)" },
        { HEAD "prompt: a\xc2\x9b" "31m\n", 3, 10, "a control character (U+009B)" },
        { HEAD "prompt: a\rb\n", 3, 10, "a control character (U+000D)" },
        { HEAD "prompt: \xc3\xa4\xe2\x80\xae" "x\n", 3, 10, "turns the direction of reading (U+202E)" },
        { HEAD "prompt: \xe2\x81\xa6x\n", 3, 9, "turns the direction of reading (U+2066)" },
        { HEAD "prompt: a\xe2\x80\xa8" "b\n", 3, 10, "a line separator" },
        { HEAD "prompt: \xef\xbb\xbf" "b\n", 3, 9, "byte order mark" },
        { HEAD "prompt: \xff\n", 3, 9, "not UTF-8" },
        { HEAD "prompt: \xed\xa0\x80\n", 3, 9, "not UTF-8" },
        { HEAD "prompt: \xc0\x80\n", 3, 9, "not UTF-8" },
        { HEAD "prompt: \"a\\e[31m\"\n", 3, 9, "a control character" },
        { HEAD "prompt: \"a\\0b\"\n", 3, 9, "a 0 byte" },
        { HEAD "prompt: \"a\\u202eb\"\n", 3, 9, "direction of reading" },
        { HEAD "\"st\\0eps\": 4\n", 3, 1, "a 0 byte" },
    };
    put("../out.yaml", "sluice: 1\n");
    put("bad.yaml", "sluice: 1\nbudget: much\n");
    assert_int_equal(symlink("../out.yaml", in("out.yaml")), 0);
    assert_int_equal(symlink("..", in("linked")), 0);
    put("../p.yaml", "sluice: 1\n");
    assert_int_equal(mkfifo(in("fifo.yaml"), 0600), 0);
    assert_int_equal(mkdir(in("folder.yaml"), 0700), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refusal(true, put("x.yaml", cases[i].text), &cases[i]);
}

static void profiles_are_refused(void **unused)
{
    (void)unused;
    static const struct refusal cases[] = {
        { "sluice: 1\nbuget: 8G\n", 2, 1, "is budget meant?" },
        { "sluice: 1\nsteps: 4\n", 2, 1, "it belongs in a preset" },
        { "sluice: 1\nlink: 4G\n", 2, 1, "give it as an option" },
        { "sluice: 1\nunet_offload: cpu\n", 2, 1, "another program's word: write transformer" },
        { "sluice: 1\nbudget: much\n", 2, 9, "budget \"much\"" },
        { "sluice: 1\nmemory_fraction: 2\n", 2, 18, "give 0.01 to 1" },
        { "sluice: 1\nvae-band: 8\nvae_band: 16\n", 3, 1, "says again what vae-band says on line 2" },
        { "sluice: 1\nabout: [x]\n", 2, 8, "about is a list" },
        { "sluice: 1\nlarge: yes\n", 2, 8, "large is no map" },
        { "sluice: 1\nlarge: [from]\n", 2, 8, "large is no map" },
        { "sluice: 1\nlarge: &a {from: 1x1}\n", 2, 8, "an anchor" },
        { "sluice: 1\nlarge:\n  vae: auto\n", 2, 1, "large has no from" },
        { "sluice: 1\nlarge:\n  from: big\n", 3, 9, "not WIDTHxHEIGHT" },
        { "sluice: 1\nlarge:\n  from: 0x0\n", 3, 9, "no pixels" },
        { "sluice: 1\nlarge:\n  from: 1x1\n  steps: 4\n", 4, 3, "it belongs in a preset" },
        { "sluice: 1\nlarge:\n  form: 1x1\n", 3, 3, "is from meant?" },
        { "budget: 8G\n", 1, 1, "\"sluice: 1\" is missing" },
        { "{}", 1, 1, "\"sluice: 1\" is missing" },
        /* templates */
        { "{batch_size: 1, model: x}", 1, 17, "choose one with -m" },
        { "{batch_size: 1, lora: x}", 1, 17, "does not change the model" },
        { "{batch_size: 1, quantization: fp8}", 1, 17, "weights are used as their files hold them" },
        { "{batch_size: 1, count: 2}", 1, 17, "count says again what batch_size says on line 1" },
        { "{batch_sise: 1, vae_tiling: true}", 1, 2, "is batch_size meant?" },
        { "{unet_offload: disk}", 1, 16, "unet_offload: transformer \"disk\"" },
        { "{cfg_scale: 1000}", 1, 13, "cfg_scale: guidance is 1000" },
        { "{attention_mode: [a]}", 1, 18, "attention_mode is a list" },
        { "{vae_tiling: null}", 1, 14, "vae_tiling has no value" },
        { "{resolution: 20000x8}", 1, 14, "resolution: size: width is 20000" },
        { "{batch_size: 1, threads: 4}", 1, 17, "give it as an option" },
        { "{batch_size: 1,", 2, 1, "did not find" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refusal(false, put("y.yaml", cases[i].text), &cases[i]);
}

static void files_that_are_none_are_refused(void **unused)
{
    (void)unused;
    char *big = malloc(YAML_BYTES_MAX + 2);
    assert_non_null(big);
    memset(big, '#', YAML_BYTES_MAX + 1);
    memcpy(big, HEAD, strlen(HEAD));
    big[YAML_BYTES_MAX] = '\0';
    struct preset p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    if (!preset_load(&p, put("big.yaml", big), &f, &e)) /* 64 KiB are taken */
        fail_msg("%s", e.text);
    preset_free(&p);
    big[YAML_BYTES_MAX] = '#';
    big[YAML_BYTES_MAX + 1] = '\0';
    const struct refusal cases[] = {
        { put("bigger.yaml", big), 0, 0, "at most 65536" }, { "/dev/zero", 0, 0, "not a regular file" },
        { in("fifo.yaml"), 0, 0, "not a regular file" },    { scratch, 0, 0, "not a regular file" },
        { in("no such file"), 0, 0, "No such file" },
    };
    for (int preset = 0; preset < 2; preset++)
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
            check_refusal(preset, cases[i].text, &cases[i]);
    /* zero bytes, and what only looks like text */
    scratch_write(in("zero.yaml"), "sluice: 1\n\0x", 12);
    check_refusal(true, in("zero.yaml"), &(struct refusal){ "zero", 2, 1, "a 0 byte: this is no text file" });
    scratch_write(in("utf16.yaml"), "\xff\xfes\0l\0", 6);
    check_refusal(true, in("utf16.yaml"), &(struct refusal){ "UTF-16", 1, 1, "not UTF-8" });
    /* as deep and as wide as 64 KiB allow: refused, and at once */
    static const char *const heaps[] = { "[", "{a: ", "? ", "- ", "a: &a ", "\"", "!", "{", "a,", "a:\n " };
    clock_t begin = clock();
    for (size_t i = 0; i < sizeof heaps / sizeof *heaps; i++) {
        size_t n = strlen(heaps[i]), at = 0;
        for (at = 0; at + n <= YAML_BYTES_MAX; at += n)
            memcpy(big + at, heaps[i], n);
        big[at] = '\0';
        f = (struct yaml_faults){ 0 };
        err_clear(&e);
        yaml_entry_free(yaml_parse("heap", big, at, &f, &e));
        assert_true(f.count > 0 && e.kind == ERR_NONE);
    }
    assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
    free(big);
}

static void all_faults_are_told(void **unused)
{
    (void)unused;
    struct preset p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    const char *path = put("many.yaml", "sluice: 1\nsteps: two\nname: x\nsize: [a]\nmodel:\n  nmae: m\nstep: 4\n"
                                        "prompt: *a\n");
    assert_false(preset_load(&p, path, &f, &e));
    preset_free(&p);
    static const int lines[] = { 2, 4, 6, 6, 7, 8 }; /* in the order of the file */
    assert_int_equal(f.count, 6);
    for (int i = 0; i < f.count; i++)
        if (f.at[i].line != lines[i])
            fail_msg("%s", f.at[i].text);
    assert_non_null(strstr(e.text, "(and 5 more)"));
    /* more than are kept */
    char text[2048] = HEAD;
    for (int i = 0; i < 60; i++)
        sprintf(text + strlen(text), "key%d: 1\n", i);
    f = (struct yaml_faults){ 0 };
    err_clear(&e);
    assert_false(preset_load(&p, put("more.yaml", text), &f, &e));
    preset_free(&p);
    assert_int_equal(f.count, YAML_FAULTS_MAX);
    assert_non_null(strstr(e.text, "at least 31 more"));
}

/* --- what is taken -------------------------------------------------------------------------- */

static void a_preset_says_all_it_can(void **unused)
{
    (void)unused;
    put("beside.yaml", "sluice: 1\nbudget: 12G\nlarge:\n  from: 512x512\n  budget: 13G\n");
    const char *path = put("all.yaml",
        "\xef\xbb\xbf"
        "sluice: 1\r\n# with a byte order mark and DOS lines\r\nname: 'All: of it'\r\nabout: \"\\u00e9\"\r\n"
        "model:\r\n  name: FLUX.1-dev\r\n  sha256:\r\n    vae/a.safetensors: "
        "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
        "profile: beside.yaml\r\nprompt: >\r\n  one\r\n  {two}\r\n\r\n  three {{4}}\r\nnegative: |\r\n  a\r\n  b\r\n"
        "seed: 18446744073709551615\r\nsize: 30x50\r\n");
    struct preset p;
    struct yaml_faults f = { 0 };
    struct err e = { 0 };
    struct job j;
    if (!preset_load(&p, path, &f, &e))
        fail_msg("%s", e.text);
    assert_string_equal(p.name, "All: of it");
    assert_string_equal(p.about, "\xc3\xa9");
    assert_string_equal(p.model, "FLUX.1-dev");
    assert_int_equal(p.hash_count, 1);
    assert_string_equal(p.hash[0].file, "vae/a.safetensors");
    assert_string_equal(p.hash[0].sha256, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    assert_true(sheet_job(&j, &e) && preset_apply(&p, &j, &e));
    assert_string_equal(j.prompt, "one two three {4}");
    assert_string_equal(j.negative, "a b");
    assert_true(j.seed == UINT64_MAX && !j.random_seed);
    assert_int_equal(j.budget, 0); /* its profile is applied apart */
    assert_true(p.has_profile && profile_apply(&p.profile, &j, &e));
    assert_true(j.budget == 12000000000);
    j.width = j.height = 512;
    assert_true(profile_apply(&p.profile, &j, &e));
    assert_true(j.budget == 13000000000);
    assert_int_equal(profile_row(&p.profile, &j, setting_find("budget"))->line, 5);
    char *own = preset_prompt(&p, "a {fox}", &e);
    assert_string_equal(own, "one a {fox} three {4}");
    char *words = preset_words(&p, own, &e);
    assert_string_equal(words, "a {fox}");
    free(words);
    free(own);
    /* no words of its: too short, other text before or behind */
    static const char *const others[] = { "", "one three {4}", "one two three", "One two three {4}", "mine" };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_null(preset_words(&p, others[i], &e));
    job_free(&j);
    preset_free(&p);
    /* without a place, and without a prompt, words are the prompt */
    static const char *const plain[] = { HEAD "prompt: as it is\n", HEAD };
    for (int i = 0; i < 2; i++) {
        assert_true(preset_load(&p, put("plain.yaml", plain[i]), &f, &e));
        char *mine = preset_prompt(&p, "mine", &e), *its = preset_prompt(&p, NULL, &e);
        assert_string_equal(mine, "mine");
        assert_string_equal(its, i ? "" : "as it is");
        assert_null(preset_words(&p, its, &e));
        free(mine);
        free(its);
        preset_free(&p);
    }
}

static void models_are_compared(void **unused)
{
    (void)unused;
    /* SHA-256 of "abc", FIPS 180-4 */
#define ABC "a7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    static const struct { const char *file, *hash, *says; } cases[] = {
        { "vae/a", "b" ABC, NULL },
        { "vae/a", "B" ABC, NULL },
        { "vae/a", "c" ABC, "another file than the preset x was made with" },
        { "vae/b", "b" ABC, "vae/b" },
    };
    mkdir(in("vae"), 0700);
    put("vae/a", "abc");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[512];
        struct preset p;
        struct yaml_faults f = { 0 };
        struct err e = { 0 };
        snprintf(text, sizeof text, HEAD "model:\n  name: m\n  sha256:\n    %s: %s\n", cases[i].file, cases[i].hash);
        if (!preset_load(&p, put("hashes.yaml", text), &f, &e))
            fail_msg("%s", e.text);
        assert_int_equal(preset_model_same(&p, scratch, &e), !cases[i].says);
        if (cases[i].says && !strstr(e.text, cases[i].says))
            fail_msg("%s", e.text);
        preset_free(&p);
    }
}

static void one_s_own_come_first(void **unused)
{
    (void)unused;
    struct err e = { 0 };
    char path[FILE_PATH_MAX];
    mkdir(in("sluice"), 0700);
    mkdir(in("sluice/profiles"), 0700);
    put("sluice/profiles/8gb.yml", "sluice: 1\nbudget: 7G\n");
    put("sluice/profiles/mine.json", "{\"sluice\": 1}");
    put("sluice/profiles/.hidden.yaml", "");
    put("sluice/profiles/README", "");
    assert_true(shelf_named(path, SHELF_PROFILES, "8gb", &e));
    assert_string_equal(path, in("sluice/profiles/8gb.yml"));
    assert_true(shelf_find(path, SHELF_PROFILES, "mine", &e));
    assert_true(shelf_find(path, SHELF_PROFILES, "12gb", &e));
    assert_non_null(strstr(path, "presets/profiles/12gb.yaml"));
    assert_true(shelf_find(path, SHELF_PROFILES, "any/where", &e));
    assert_string_equal(path, "any/where");
    static const char *const none[] = { "", "..", ".hidden", "a b", "nosuch", "8gb.yml" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_false(shelf_named(path, SHELF_PROFILES, none[i], &e));
        assert_non_null(strstr(e.text, "no profile"));
        err_clear(&e);
    }
    struct shelf_list l;
    assert_true(shelf_list(&l, SHELF_PROFILES, &e));
    int own = 0;
    for (int i = 0; i < l.count; i++) {
        own += l.item[i].own;
        assert_true(i == 0 || strcmp(l.item[i].name, l.item[i - 1].name));
        assert_int_equal(l.item[i].own, !strcmp(l.item[i].name, "8gb") || !strcmp(l.item[i].name, "mine"));
    }
    assert_int_equal(own, 2);
    shelf_list_free(&l);
    remove(in("sluice/profiles/8gb.yml"));
    remove(in("sluice/profiles/mine.json"));
}

/* --- refused memory ------------------------------------------------------------------------- */

static void refused_memory_is_told(void **unused)
{
    (void)unused;
    const char *files[] = { in("all.yaml"), "presets/profiles/article-8gb.json", "presets/profiles/16gb.yaml" };
    for (int i = 0; i < 3; i++) {
        long n = 1;
        for (bool more = true; more; n++) {
            struct preset s = { 0 };
            struct profile p = { 0 };
            struct yaml_faults f = { 0 };
            struct err e = { 0 };
            struct job j = { 0 };
            alloc_fail_at(n);
            bool ok = i == 0 ? preset_load(&s, files[i], &f, &e) : profile_load(&p, files[i], &f, &e);
            ok = ok && sheet_job(&j, &e) && preset_apply(&s, &j, &e) && profile_apply(&p, &j, &e);
            more = alloc_fail_done();
            if (ok == more || (more && (e.kind != ERR_MEMORY || f.count)))
                fail_msg("%s, allocation %ld: %d, \"%s\", %d faults", files[i], n, ok, e.text, f.count);
            preset_free(&s);
            profile_free(&p);
            job_free(&j);
        }
        print_message("%s: %ld allocations\n", files[i], n - 2);
        assert_true(n > 20);
    }
    for (long n = 1, more = 1; more; n++) {
        struct shelf_list l;
        struct err e = { 0 };
        alloc_fail_at(n);
        bool ok = shelf_list(&l, SHELF_PRESETS, &e);
        more = alloc_fail_done();
        assert_int_equal(ok, !more);
        shelf_list_free(&l);
    }
}

/* --- changed copies -------------------------------------------------------------------------- */

static const char *const pieces[] = {
    "&a ", "*a", "!!str ", "[", "]", "{", "}", ": ", "\n", "- ", "? ", "<<: *a\n", "---\n", "...\n", "%YAML 1.1\n",
    "\"", "'",
    "|\n", ">\n", "\t", "#", "\\", "\\x00", "\xe2\x80\xae", "\xff", "\x1b", "../", "/dev/zero", "99999999999999999999",
    "sluice: 1\n", "steps: 4\n", "exec: x\n", "large:\n  from: 1x1\n", "model:\n  name: m\n", "profile: 8gb\n", "{{",
    "nan", "\xc2\x85",
};

/* A few bytes of text[n] changed; the new length, less than room. */
static size_t change(char *text, size_t n, size_t room)
{
    for (int times = 1 + (int)(draw() % 4); times; times--) {
        size_t at = n ? draw() % n : 0, length = n > at ? draw() % (n - at) % 24 : 0;
        const char *piece = pieces[draw() % (sizeof pieces / sizeof *pieces)];
        switch (draw() % 5) {
        case 0: /* a bit */
            if (n)
                text[at] = (char)(text[at] ^ (1 << draw() % 8));
            break;
        case 1: /* cut out */
            memmove(text + at, text + at + length, n - at - length);
            n -= length;
            break;
        case 2: /* double */
            if (n + length < room) {
                memmove(text + at + length, text + at, n - at);
                n += length;
            }
            break;
        case 3: /* cut off */
            if (draw() % 8 == 0)
                n = at;
            break;
        case 4: /* put in */
            length = strlen(piece);
            if (n + length < room) {
                memmove(text + at + length, text + at, n - at);
                memcpy(text + at, piece, length);
                n += length;
            }
        }
    }
    return n;
}

/* Whatever was taken holds known keys only, each once. */
static void check_taken(const char *path, bool preset, bool foreign)
{
    static const char *const known[] = { "sluice", "name", "about", "model", "profile", "large" };
    struct yaml_faults f = { 0 };
    struct yaml_entry *root = yaml_read(path, &f, NULL);
    assert_non_null(root);
    for (const struct yaml_entry *v = root->first; v; v = v->next) {
        const struct setting *s = setting_find(v->key);
        bool ok = s && s->scope & (preset ? SETTING_PRESET : SETTING_PROFILE);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            ok |= !strcmp(v->key, known[i]);
        if (!ok && !foreign) /* a template's keys are other programs' */
            fail_msg("SLUICE_SEED=%llu: \"%s\" was taken", (unsigned long long)seed, v->key);
        for (const struct yaml_entry *w = v->next; w; w = w->next)
            assert_string_not_equal(v->key, w->key);
    }
    yaml_entry_free(root);
}

static void changed_files_are_taken_or_refused(void **unused)
{
    (void)unused;
    enum { ROUNDS = 20000, ROOM = 8192 };
    struct shelf_list l[2];
    struct err e = { 0 };
    assert_true(shelf_list(&l[0], SHELF_PROFILES, &e) && shelf_list(&l[1], SHELF_PRESETS, &e));
    int fd = memfd_create("sluice", 0), taken = 0;
    assert_true(fd >= 0);
    char path[64], text[ROOM];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    size_t bytes = 0;
    char *file = NULL;
    bool preset = false;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 500 == 0) { /* the next file */
            const struct shelf_list *shelf = &l[preset = i / 500 % 2];
            free(file);
            file = file_read(shelf->item[i / 1000 % shelf->count].path, ROOM, &bytes, &e);
            assert_non_null(file);
        }
        memcpy(text, file, bytes);
        size_t n = change(text, bytes, ROOM);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, text, n, 0), n);
        struct preset s = { 0 };
        struct profile p = { 0 };
        struct yaml_faults f = { 0 };
        struct err wrong = { 0 };
        bool ok = preset ? preset_load(&s, path, &f, &wrong) : profile_load(&p, path, &f, &wrong);
        if (ok != (f.count == 0) || ok != (wrong.kind == ERR_NONE))
            fail_msg("SLUICE_SEED=%llu, round %d: %d, %d faults, \"%s\"", (unsigned long long)seed, i, ok, f.count,
                     wrong.text);
        if (ok)
            check_taken(path, preset, p.foreign);
        taken += ok;
        preset_free(&s);
        profile_free(&p);
    }
    print_message("%d of %d were taken\n", taken, ROUNDS);
    assert_true(taken > ROUNDS / 100 && taken < ROUNDS);
    free(file);
    close(fd);
    shelf_list_free(&l[0]);
    shelf_list_free(&l[1]);
}

/* --- all ------------------------------------------------------------------------------------ */

static int setup(void **unused)
{
    (void)unused;
    static char outer[FILE_PATH_MAX];
    const char *given = getenv("SLUICE_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    state = seed * 2654435761u + 1;
    printf("SLUICE_SEED=%llu\n", (unsigned long long)seed);
    scratch_make(outer);
    path_in(outer, "in", scratch); /* with a folder above it that paths may try to reach */
    setenv("XDG_CONFIG_HOME", scratch, 1);
    return mkdir(scratch, 0700);
}

static int teardown(void **unused)
{
    (void)unused;
    *strrchr(scratch, '/') = '\0';
    scratch_remove(scratch);
    return 0;
}

/* Changed, copied, written, read: still the same. What a template says of the picture is no profile's. */
static void a_profile_can_be_changed_and_written(void **unused)
{
    (void)unused;
    static const char *const names[] = { "8gb", "16gb", "article-8gb", "minimum" };
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        struct profile p, copy, again;
        struct yaml_faults f = { 0 };
        struct err e = { 0 };
        struct job j, changed = { 0 }, read = { 0 };
        char path[FILE_PATH_MAX];
        assert_true(shelf_named(path, SHELF_PROFILES, names[n], &e) && profile_load(&p, path, &f, &e));
        snprintf(p.about, sizeof p.about, "so \"called\": a back\\slash # and more");
        assert_true(sheet_job(&j, &e));
        j.width = j.height = 1536; /* large, for 16gb */
        assert_true(profile_set(&p, &j, setting_find("vae"), "whole", &e));
        assert_true(profile_set(&p, &j, setting_find("t5_chunk"), "64", &e));
        assert_true(profile_set(&p, &j, setting_find("budget"), NULL, &e));
        assert_true(profile_set(&p, &j, setting_find("vae_overlap"), NULL, &e)); /* said nothing of it */
        assert_null(profile_row(&p, &j, setting_find("budget")));
        assert_int_equal(sheet_find(&p.large, setting_find("vae")) != NULL, p.large.count > 0);
        assert_true(profile_copy(&copy, &p, &e));
        char *text = profile_text(&p, &e);
        profile_free(&p);
        assert_true(profile_load(&again, put("again.yaml", text), &f, &e));
        free(text);
        assert_string_equal(again.about, copy.about);
        assert_false(again.foreign);
        assert_true(job_copy(&changed, &j, &e) && job_copy(&read, &j, &e));
        assert_true(profile_apply(&copy, &changed, &e) && profile_apply(&again, &read, &e));
        assert_int_equal(read.vae, VAE_WHOLE);
        for (int i = 0; i < setting_count(); i++)
            if (setting_at(i)->scope & SETTING_PROFILE)
                assert_true(setting_same(&changed, &read, setting_at(i)));
        assert_int_equal(read.width, 1536);
        profile_free(&copy);
        profile_free(&again);
        job_free(&j);
        job_free(&changed);
        job_free(&read);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shipped_preset_is_good),
        cmocka_unit_test(every_shipped_profile_is_what_it_says),
        cmocka_unit_test(the_article_s_template_becomes_ours),
        cmocka_unit_test(other_words_of_templates),
        cmocka_unit_test(presets_are_refused),
        cmocka_unit_test(profiles_are_refused),
        cmocka_unit_test(files_that_are_none_are_refused),
        cmocka_unit_test(all_faults_are_told),
        cmocka_unit_test(a_preset_says_all_it_can),
        cmocka_unit_test(models_are_compared),
        cmocka_unit_test(one_s_own_come_first),
        cmocka_unit_test(refused_memory_is_told),
        cmocka_unit_test(a_profile_can_be_changed_and_written),
        cmocka_unit_test(changed_files_are_taken_or_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
