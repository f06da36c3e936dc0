/* test_tok.c - the tokenizers give the ids of transformers, for every golden
 * string in every golden folder; long and hostile input is fast and safe.
 * Goldens: tests/golden/make_tok.py. Runs from the repository root. */
#include "engine/file.h"
#include "engine/tok_clip.h"
#include "engine/tok_t5.h"
#include "engine/tok_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/tok/"

enum { MOST = 512 };

/* --- either tokenizer ------------------------------------------------------------------------- */

struct tok {
    struct tok_clip *clip;
    struct tok_t5 *t5;
};

static bool open_tok(struct tok *t, const char *dir, bool clip, struct err *e)
{
    *t = (struct tok){ 0 };
    return clip ? tok_clip_open(&t->clip, dir, e) : tok_t5_open(&t->t5, dir, e);
}

static void close_tok(struct tok *t)
{
    tok_clip_close(t->clip);
    tok_t5_close(t->t5);
}

static bool encode(const struct tok *t, const char *text, size_t bytes, int32_t *ids, int most,
                   int *used, bool *truncated, struct err *e)
{
    return t->clip ? tok_clip_encode(t->clip, text, bytes, ids, most, used, truncated, e)
                   : tok_t5_encode(t->t5, text, bytes, ids, most, used, truncated, e);
}

static int id_limit(const struct tok *t)
{
    return t->clip ? tok_clip_id_limit(t->clip) : tok_t5_id_limit(t->t5);
}

/* --- goldens ------------------------------------------------------------------------------------- */

static char *slurp(const char *path, size_t *bytes)
{
    struct err e = { 0 };
    char *text = file_read(path, 64 << 20, bytes, &e);
    if (!text)
        fail_msg("%s", e.text);
    return text;
}

/* In place; returns the new length. */
static size_t unescape(char *s, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (s[i] == '\\' && i + 3 < bytes && s[i + 1] == 'x') {
            char hex[3] = { s[i + 2], s[i + 3], 0 };
            s[n++] = (char)strtol(hex, NULL, 16);
            i += 3;
        } else {
            s[n++] = s[i];
        }
    }
    return n;
}

static void print_text(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes && i < 400; i++) {
        unsigned char c = (unsigned char)text[i];
        printf(c < 32 || c >= 127 ? "\\x%02X" : "%c", c);
    }
    printf("\n");
}

/* One line of a .ids file against what we give. Prints the first difference. */
static bool same(const struct tok *t, const char *text, size_t bytes, const char *want,
                 size_t want_bytes, int most, int pad, const char *set, int line)
{
    struct err e = { 0 };
    int32_t ids[MOST + 1];
    int used = -1;
    bool truncated = false;
    ids[most] = -77;
    if (!encode(t, text, bytes, ids, most, &used, &truncated, &e)) {
        printf("%s, string %d: %s\n", set, line, e.text);
        return false;
    }
    assert_int_equal(ids[most], -77);
    int want_used = (int)(want_bytes - 2) / 3, at = 0;
    for (; at < most; at++) {
        char hex[4] = "";
        if (at < want_used)
            memcpy(hex, want + 2 + 3 * at, 3);
        int expected = at < want_used ? (int)strtol(hex, NULL, 16) : pad;
        if (ids[at] != expected) {
            printf("%s, string %d: id %d: expected %d, found %d; text: ", set, line, at, expected,
                   (int)ids[at]);
            print_text(text, bytes);
            return false;
        }
        assert_true(ids[at] < id_limit(t));
    }
    if (used != want_used || truncated != (want[0] == 't')) {
        printf("%s, string %d: used %d (expected %d), truncated %d; text: ", set, line, used,
               want_used, truncated);
        print_text(text, bytes);
        return false;
    }
    return true;
}

static void check_golden(const char *set, bool clip)
{
    char path[256];
    struct err e = { 0 };
    struct tok t;
    size_t bytes, want_bytes;
    snprintf(path, sizeof path, GOLDEN "%s", set);
    if (!open_tok(&t, path, clip, &e))
        fail_msg("%s", e.text);
    char *strings = slurp(GOLDEN "strings.txt", &bytes);
    snprintf(path, sizeof path, GOLDEN "%s.ids", set);
    char *wants = slurp(path, &want_bytes), *want = strchr(wants, '\n') + 1;
    int most, pad, line = 0, different = 0;
    assert_int_equal(sscanf(wants, "%d %d", &most, &pad), 2);
    assert_true(most <= MOST);
    for (char *s = strings, *end; s < strings + bytes; s = end + 1, line++) {
        end = memchr(s, '\n', (size_t)(strings + bytes - s));
        char *want_end = memchr(want, '\n', (size_t)(wants + want_bytes - want));
        assert_non_null(end);
        assert_non_null(want_end);
        size_t n = unescape(s, (size_t)(end - s));
        different += !same(&t, s, n, want, (size_t)(want_end - want), most, pad, set, line);
        want = want_end + 1;
        if (different > 20)
            break;
    }
    printf("%s: %d strings, %d different\n", set, line, different);
    assert_int_equal(different, 0);
    assert_true(line >= 2000);
    free(strings);
    free(wants);
    close_tok(&t);
}

static void golden_clip_files(void **state) { (void)state; check_golden("clip_files", true); }
static void golden_clip_json(void **state) { (void)state; check_golden("clip_json", true); }
static void golden_t5_spiece(void **state) { (void)state; check_golden("t5_spiece", false); }
static void golden_t5_json(void **state) { (void)state; check_golden("t5_json", false); }
static void golden_t5_bytes(void **state) { (void)state; check_golden("t5_bytes", false); }
static void golden_t5_identity(void **state) { (void)state; check_golden("t5_identity", false); }
static void golden_t5_first(void **state) { (void)state; check_golden("t5_first", false); }

/* --- how much of a text fits ------------------------------------------------------------------------ */

static void fit(const struct tok *t, const char *text, size_t bytes, int most, int *tokens, size_t *fits)
{
    struct err e = { 0 };
    *fits = SIZE_MAX;
    if (!(t->clip ? tok_clip_fit(t->clip, text, bytes, most, tokens, fits, &e)
                  : tok_t5_fit(t->t5, text, bytes, most, tokens, fits, &e)))
        fail_msg("%s", e.text);
    assert_true(*fits <= bytes);
}

static bool white(const char *text, size_t at)
{
    return text[at] == ' ' || text[at] == '\n' || text[at] == '\t';
}

/* What is kept ends where fit says: with the rest of that word it gives the ids of the whole
 * text, without that word's beginning it has room. False: not so. */
static bool fits_hold(const struct tok *t, const char *text, size_t bytes)
{
    int tokens, again, used, used_part;
    size_t fits, before = 0;
    int32_t ids[MOST], part[MOST];
    bool truncated;
    struct err e = { 0 };
    fit(t, text, bytes, MOST, &tokens, &fits);
    assert_true(encode(t, text, bytes, ids, MOST, &used, &truncated, &e));
    if (truncated ? tokens <= MOST || fits == bytes : tokens != used || fits != bytes)
        return false;
    for (int most = 4; most < tokens && most < 40; most += 5) {
        fit(t, text, bytes, most, &again, &fits);
        if (again != tokens || fits < before || (fits < bytes && ((unsigned char)text[fits] & 0xC0) == 0x80))
            return false;
        before = fits;
        size_t end = fits, start = fits;
        while (end < bytes && !white(text, end))
            end++;
        while (start && !white(text, start - 1))
            start--;
        if (!encode(t, text, bytes, ids, most, &used, &truncated, &e) ||
            !encode(t, text, end, part, most, &used_part, &truncated, &e))
            fail_msg("%s", e.text);
        if (used != used_part || memcmp(ids, part, (size_t)used * sizeof *ids))
            return false;
        fit(t, text, start, most, &again, &fits);
        if (again > most)
            return false;
    }
    return true;
}

static void fits_everywhere(void **state)
{
    (void)state;
    static const char *const set[] = { "clip_files", "clip_json", "t5_spiece", "t5_json", "t5_bytes", "t5_identity",
                                       "t5_first" };
    size_t bytes;
    char *strings = slurp(GOLDEN "strings.txt", &bytes), *copy = malloc(bytes);
    for (int i = 0; i < 7; i++) {
        char path[256];
        struct err e = { 0 };
        struct tok t;
        int wrong = 0, line = 0;
        snprintf(path, sizeof path, GOLDEN "%s", set[i]);
        if (!open_tok(&t, path, i < 2, &e))
            fail_msg("%s", e.text);
        memcpy(copy, strings, bytes);
        for (char *s = copy, *end; s < copy + bytes; s = end + 1, line++) {
            end = memchr(s, '\n', (size_t)(copy + bytes - s));
            size_t n = unescape(s, (size_t)(end - s));
            if (tok_text_valid(s, n) && !fits_hold(&t, s, n) && wrong++ < 10) {
                printf("%s, string %d: ", set[i], line);
                print_text(s, n);
            }
        }
        assert_int_equal(wrong, 0);
        close_tok(&t);
    }
    free(strings);
    free(copy);
}

/* A word of many tokens: it is cut inside, and marks that were composed with letters are with them. */
static void fits_inside_a_word(void **state)
{
    (void)state;
    struct tok t;
    struct err e = { 0 };
    int tokens;
    size_t fits;
    assert_true(open_tok(&t, GOLDEN "clip_files", true, &e));
    fit(&t, "aaaaaaaaaa", 10, 5, &tokens, &fits);
    assert_int_equal(tokens, 12);
    assert_int_equal(fits, 3);
    fit(&t, "  A  Aaaaaaaaa", 14, 5, &tokens, &fits);
    assert_int_equal(fits, 7);
    fit(&t, "", 0, 5, &tokens, &fits);
    assert_int_equal(tokens, 2);
    assert_int_equal(fits, 0);
    close_tok(&t);
    assert_true(open_tok(&t, GOLDEN "t5_spiece", false, &e));
    fit(&t, "aaaaaaaaaa", 10, 5, &tokens, &fits);
    assert_int_equal(tokens, 11);
    assert_int_equal(fits, 4);
    fit(&t, "a aaa", 5, 1, &tokens, &fits);
    assert_int_equal(fits, 0);
    close_tok(&t);
}

/* --- long input ------------------------------------------------------------------------------------ */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* 100 KB of one unit repeated, all of it tokenized (nothing is cut off early). */
static void long_prompt(const char *set, bool clip, const char *unit)
{
    enum { BYTES = 100000, MANY = 3 * BYTES + 2 }; /* U+FFFD has 3 bytes */
    char path[256];
    struct err e = { 0 };
    struct tok t;
    int used;
    bool truncated;
    char *text = malloc(BYTES);
    int32_t *ids = malloc(MANY * sizeof *ids);
    for (size_t i = 0; i < BYTES; i++)
        text[i] = unit[i % strlen(unit)];
    snprintf(path, sizeof path, GOLDEN "%s", set);
    assert_true(open_tok(&t, path, clip, &e));
    double start = now_ms();
    assert_true(encode(&t, text, BYTES, ids, MANY, &used, &truncated, &e));
    double ms = now_ms() - start;
    printf("%s: 100 KB of \"%.8s\": %d tokens, %.1f ms\n", set, unit, used, ms);
    assert_false(truncated);
    assert_true(ms < 3000); /* quadratic would be minutes; sanitizers and a busy machine are slow */
    close_tok(&t);
    free(text);
    free(ids);
}

static void long_prompts(void **state)
{
    (void)state;
    static const char *const unit[] = { "a", "a ", "photo", "the cat, ", "!", "\xCC\x81\xCC\xA3", "\xEA\xB0\x80",
                                        "<|endoftext|>", "</s>", "\xFF", "<extra_id_1> ", "'s", " ", "\xE2\x96\x81" };
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        long_prompt("clip_files", true, unit[i]);
        long_prompt("t5_spiece", false, unit[i]);
        long_prompt("t5_bytes", false, unit[i]);
    }
}

/* --- hostile files ----------------------------------------------------------------------------------- */

static void must_fail(const char *dir, bool clip, const char *says)
{
    struct err e = { 0 };
    struct tok t;
    bool opened = open_tok(&t, dir, clip, &e);
    if (opened || !strstr(e.text, says))
        fail_msg("expected a failure that says \"%s\", found \"%s\"", says, opened ? "success" : e.text);
    assert_true(e.kind == ERR_INPUT || e.kind == ERR_IO || e.kind == ERR_MISSING || e.kind == ERR_DAMAGED);
    assert_null(t.clip);
    assert_null(t.t5);
    close_tok(&t);
}

static void put_file(const char *dir, const char *name, const void *data, size_t bytes)
{
    char path[256];
    struct err e = { 0 };
    snprintf(path, sizeof path, "%s/%s", dir, name);
    assert_true(file_write(path, data, bytes, &e));
}

static void put_text(const char *dir, const char *name, const char *text)
{
    put_file(dir, name, text, strlen(text));
}

static void drop_file(const char *dir, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    unlink(path);
}

static void errors_name_the_fault(void **state)
{
    (void)state;
    char dir[] = "/tmp/test_tok_XXXXXX";
    assert_non_null(mkdtemp(dir));
    must_fail(dir, true, "no tokenizer here");
    must_fail(dir, false, "no tokenizer here");
    static const struct { bool clip; const char *json, *says; } wrong[] = {
        { true, "[]", "expected a JSON object" },
        { true, "{\"model\":{\"type\":\"Unigram\"}}", "not a CLIP tokenizer" },
        { true, "{\"model\":{\"vocab\":{\"a\":0,\"b\":-1},\"merges\":[]}}", "token \"b\"" },
        { true, "{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", "merge 1" },
        { true, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]}}", "merge 1" },
        { true, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",3]]}}", "merge 1" },
        { true, "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":[3]}", "added_tokens" },
        { false, "{\"model\":{\"type\":\"BPE\"}}", "not a T5 tokenizer" },
        { false, "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "only 0 pieces" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]],\"unk_id\":7}}", "unk_id 7" },
        { false, "{\"model\":{\"vocab\":[[\"a\"]]}}", "entry 0" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},\"normalizer\":{\"type\":\"BertNormalizer\"}}", "BertNormalizer" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},"
                 "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AB*D\"}}", "base64" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},"
                 "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"/////w==\"}}", "its trie" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},"
                 "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"(a|b)\"},\"content\":\"\"}}", "(a|b)" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},\"pre_tokenizer\":{\"type\":\"Digits\"}}", "Digits" },
        { false, "{\"model\":{\"vocab\":[[\"a\",0]]},"
                 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}}", "found it 0 times" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        put_text(dir, "tokenizer.json", wrong[i].json);
        must_fail(dir, wrong[i].clip, wrong[i].says);
    }
    drop_file(dir, "tokenizer.json");
    put_text(dir, "vocab.json", "{\"a\":0}");
    must_fail(dir, true, "merges.txt");
    put_text(dir, "merges.txt", "#version: 0.2\na\n");
    must_fail(dir, true, "merge 1");
    put_text(dir, "spiece.model", "this is no protocol buffer");
    must_fail(dir, false, "spiece.model");
    put_text(dir, "spiece.model", "");
    must_fail(dir, false, "spiece.model");
    put_text(dir, "tokenizer_config.json", "{\"extra_ids\": -4}");
    must_fail(dir, false, "extra_ids");
    static const char *const file[] = { "vocab.json", "merges.txt", "spiece.model", "tokenizer_config.json" };
    for (size_t i = 0; i < 4; i++)
        drop_file(dir, file[i]);
    assert_int_equal(rmdir(dir), 0);
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Changes a few bytes of a good file, opens, encodes: no crash, no id out of range. */
static void mutate(const char *set, const char *name, bool clip, int rounds)
{
    char dir[] = "/tmp/test_tok_XXXXXX", path[256];
    const char *seed_text = getenv("TEST_TOK_SEED");
    uint64_t seed = seed_text ? strtoull(seed_text, NULL, 10) : 20260101, state = seed | 1;
    size_t bytes, text_bytes;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, GOLDEN "%s/%s", set, name);
    char *good = slurp(path, &bytes), *bad = malloc(bytes);
    char *text = slurp(GOLDEN "strings.txt", &text_bytes);
    int opened = 0;
    for (int i = 0; i < rounds; i++) {
        struct err e = { 0 };
        struct tok t;
        size_t keep = random_next(&state) % 8 ? bytes : random_next(&state) % bytes;
        memcpy(bad, good, bytes);
        for (uint64_t k = random_next(&state) % 6; k > 0; k--) {
            /* Half of the changes near the start, where the structure is. */
            size_t where = random_next(&state) % (random_next(&state) % 2 && bytes > 4000 ? 4000 : bytes);
            bad[where] = (char)(random_next(&state) % 3 ? (int)random_next(&state) : bad[where] ^ 1);
        }
        if (!strcmp(name, "spiece.model") && keep == bytes) /* the character map's trie */
            for (int k = 0; k < 2000; k++)
                bad[20000 + random_next(&state) % 150000] = (char)random_next(&state);
        put_file(dir, name, bad, keep);
        if (!strcmp(name, "vocab.json")) {
            size_t n;
            snprintf(path, sizeof path, GOLDEN "%s/merges.txt", set);
            char *merges = slurp(path, &n);
            put_file(dir, "merges.txt", merges, n);
            free(merges);
        }
        if (open_tok(&t, dir, clip, &e)) {
            int32_t ids[MOST];
            int used;
            bool truncated;
            opened++;
            for (int k = 0; k < 8; k++) {
                size_t from = random_next(&state) % (text_bytes - 2000);
                if (encode(&t, text + from, 2000, ids, MOST, &used, &truncated, &e))
                    for (int n = 0; n < MOST; n++)
                        assert_true(ids[n] >= 0 && ids[n] < id_limit(&t));
            }
        } else {
            assert_true(e.kind != ERR_NONE);
        }
        close_tok(&t);
    }
    printf("%s/%s: %d of %d changed files opened (TEST_TOK_SEED=%llu)\n", set, name, opened, rounds,
           (unsigned long long)seed);
    drop_file(dir, name);
    drop_file(dir, "merges.txt");
    rmdir(dir);
    free(good);
    free(bad);
    free(text);
}

static void changed_files(void **state)
{
    (void)state;
    const char *more = getenv("TEST_TOK_ROUNDS");
    int rounds = more ? atoi(more) : 40;
    mutate("clip_files", "vocab.json", true, rounds);
    mutate("clip_json", "tokenizer.json", true, rounds);
    mutate("t5_spiece", "spiece.model", false, rounds);
    mutate("t5_bytes", "tokenizer.json", false, rounds);
    mutate("t5_first", "tokenizer.json", false, rounds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_clip_files), cmocka_unit_test(golden_clip_json),
        cmocka_unit_test(golden_t5_spiece),  cmocka_unit_test(golden_t5_json),
        cmocka_unit_test(golden_t5_bytes),   cmocka_unit_test(golden_t5_identity),
        cmocka_unit_test(golden_t5_first),   cmocka_unit_test(fits_everywhere),
        cmocka_unit_test(fits_inside_a_word), cmocka_unit_test(long_prompts),
        cmocka_unit_test(errors_name_the_fault), cmocka_unit_test(changed_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
