/* test_embeddings.c - the cache of text embeddings: what was kept comes back bit for
 * bit or not at all, and nothing in the folder makes it fail, hang or reach outside.
 * Also SHA-256 and the place of the cache. */
#include "engine/cache.h"
#include "engine/embeddings.h"
#include "engine/safetensors.h"
#include "tests/alloc_fail.h"
#include "tests/golden_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 3, TOKENS = 2, HIDDEN = 5 };

static char scratch[FILE_PATH_MAX], folder[FILE_PATH_MAX];

struct values { float pooled[WIDTH], hidden[TOKENS * HIDDEN]; };

static struct embeddings view(struct values *v)
{
    return (struct embeddings){ tensor_1d(v->pooled, DT_F32, WIDTH), tensor_2d(v->hidden, DT_F32, TOKENS, HIDDEN) };
}

/* The values of prompt n, among them a -0 and a subnormal: bits count, not numbers. */
static struct values values_of(int n)
{
    struct values v = { .pooled = { -0.0f, 1e-42f, (float)n } };
    for (int i = 0; i < TOKENS * HIDDEN; i++)
        v.hidden[i] = (float)(i - n) / 7;
    return v;
}

static struct sha256 key_of(int n)
{
    struct hash h;
    hash_begin(&h);
    hash_add(&h, &n, sizeof n);
    return hash_end(&h);
}

static const char *entry_path(int n, char path[FILE_PATH_MAX])
{
    struct sha256 key = key_of(n);
    char name[HASH_HEX + 16];
    strcat(strcpy(name, hash_hex(&key, (char[HASH_HEX]){ 0 })), ".safetensors");
    return path_in(folder, name, path);
}

static bool store(int n, struct err *e)
{
    struct values v = values_of(n);
    struct sha256 key = key_of(n);
    return embeddings_store(&key, view(&v), e);
}

static void assert_stores(int n)
{
    struct err e = { 0 };
    if (!store(n, &e))
        fail_msg("%s", e.text);
    assert_int_equal(e.kind, ERR_NONE);
}

/* A hit gives exactly the values stored. */
static bool load(int n)
{
    struct values v, want = values_of(n);
    struct sha256 key = key_of(n);
    memset(&v, 0x55, sizeof v);
    if (!embeddings_load(&key, view(&v)))
        return false;
    assert_memory_equal(&v, &want, sizeof v);
    return true;
}

static bool there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static void assert_refused(int n, const char *what)
{
    struct err e = { 0 };
    assert_false(store(n, &e));
    if (!strstr(e.text, what))
        fail_msg("expected a reason with \"%s\", got \"%s\"", what, e.text);
}

/* Every case starts without a cache folder. */
static int fresh(void **state)
{
    (void)state;
    scratch_remove(scratch);
    scratch_make_cache(scratch);
    unsetenv("SLUICE_CACHE_BYTES");
    struct err e = { 0 };
    return cache_path(folder, "embeddings", &e) ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    scratch_remove(scratch);
    return 0;
}

/* --- hash -------------------------------------------------------------------------- */

static void assert_hex(const struct sha256 *s, const char *want)
{
    char hex[HASH_HEX];
    assert_string_equal(hash_hex(s, hex), want);
}

/* FIPS 180-4's own examples. */
static void test_hash(void **state)
{
    (void)state;
    struct hash h;
    hash_begin(&h);
    hash_add(&h, "abc", 3);
    struct sha256 abc = hash_end(&h);
    assert_hex(&abc, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_begin(&h);
    hash_add(&h, "abcdbcdecdefdefgefghfghighijhijkijkl", 36);
    hash_add(&h, "jklmklmnlmnomnopnopq", 20);
    struct sha256 two = hash_end(&h);
    assert_hex(&two, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_false(hash_equal(&abc, &two));
    hash_begin(&h);
    hash_text(&h, "a");
    hash_text(&h, "bc");
    struct sha256 texts = hash_end(&h);
    hash_begin(&h);
    hash_text(&h, "ab");
    hash_text(&h, "c");
    struct sha256 other = hash_end(&h);
    assert_false(hash_equal(&texts, &other));
}

struct watch { uint64_t last, stop; int calls; };

static bool watch(void *user, uint64_t done, uint64_t total)
{
    struct watch *w = user;
    assert_true(done > w->last && done <= total);
    w->last = done;
    w->calls++;
    return !w->stop || done < w->stop;
}

static void test_hash_file(void **state)
{
    (void)state;
    enum { BYTES = (5 << 19) + 7 }; /* two MiB and a half, and a bit */
    char path[FILE_PATH_MAX];
    unsigned char *data = malloc(BYTES);
    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 24);
    scratch_write(path_in(scratch, "big", path), data, BYTES);
    struct hash h;
    hash_begin(&h);
    hash_add(&h, data, BYTES);
    struct sha256 want = hash_end(&h), found;
    free(data);
    struct err e = { 0 };
    struct watch w = { 0 };
    assert_true(hash_file(&found, path, watch, &w, &e));
    assert_true(hash_equal(&found, &want));
    assert_true(w.calls == 3 && w.last == BYTES);
    assert_true(hash_file(&found, path, NULL, NULL, &e));
    w = (struct watch){ .stop = 1 };
    assert_false(hash_file(&found, path, watch, &w, &e));
    assert_true(e.kind == ERR_CANCELLED && w.calls == 1);
    e = (struct err){ 0 };
    alloc_fail_at(1);
    assert_false(hash_file(&found, path, NULL, NULL, &e));
    assert_true(alloc_fail_done() && e.kind == ERR_MEMORY);
    e = (struct err){ 0 };
    assert_false(hash_file(&found, scratch, NULL, NULL, &e));
    assert_int_equal(e.kind, ERR_INPUT);
    scratch_write(path, "", 0);
    e = (struct err){ 0 };
    assert_true(hash_file(&found, path, watch, &w, &e));
    assert_hex(&found, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

/* --- the place ------------------------------------------------------------------------ */

static void test_place(void **state)
{
    (void)state;
    static const struct { const char *xdg, *home, *want; } cases[] = {
        { "/x", "/h", "/x/sluice/embeddings" },
        { NULL, "/h", "/h/.cache/sluice/embeddings" },
        { "", "/h", "/h/.cache/sluice/embeddings" },
        { "x", "/h", "/h/.cache/sluice/embeddings" },
        { "/x", NULL, "/x/sluice/embeddings" },
        { NULL, NULL, NULL },
        { "x", "h", NULL },
    };
    char *home = getenv("HOME"), saved[FILE_PATH_MAX], path[FILE_PATH_MAX];
    snprintf(saved, sizeof saved, "%s", home ? home : "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cases[i].xdg ? setenv("XDG_CACHE_HOME", cases[i].xdg, 1) : unsetenv("XDG_CACHE_HOME");
        cases[i].home ? setenv("HOME", cases[i].home, 1) : unsetenv("HOME");
        struct err e = { 0 };
        assert_int_equal(cache_path(path, "embeddings", &e), cases[i].want != NULL);
        if (cases[i].want)
            assert_string_equal(path, cases[i].want);
        else
            assert_refused(1, "XDG_CACHE_HOME");
        if (!cases[i].want)
            assert_false(load(1));
    }
    /* what is missing is made, for the user alone */
    setenv("HOME", path_in(scratch, "a/b", path), 1);
    unsetenv("XDG_CACHE_HOME");
    assert_stores(1);
    assert_true(load(1));
    struct stat st;
    char made[FILE_PATH_MAX];
    assert_int_equal(stat(path_in(path, ".cache/sluice/embeddings", made), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    home ? setenv("HOME", saved, 1) : unsetenv("HOME");
}

/* --- keys ------------------------------------------------------------------------------ */

struct encoders { struct model m; struct weights *clip, *t5; };

static void encoders_open(struct encoders *x, const char *dir)
{
    struct err e = { 0 };
    char path[MODEL_PATH_MAX];
    if (!model_open(&x->m, dir, true, &e) ||
        !weights_open_dir(&x->clip, model_part_dir(&x->m, MODEL_CLIP, path), "text_encoder", &e) ||
        !weights_open_dir(&x->t5, model_part_dir(&x->m, MODEL_T5, path), "text_encoder_2", &e))
        fail_msg("%s", e.text);
}

static void encoders_close(struct encoders *x)
{
    weights_close(x->clip);
    weights_close(x->t5);
}

static struct sha256 fingerprint_of(const char *dir)
{
    static struct encoders x;
    encoders_open(&x, dir);
    struct sha256 s = embeddings_fingerprint(&x.m, x.clip, x.t5), again = embeddings_fingerprint(&x.m, x.clip, x.t5);
    assert_true(hash_equal(&s, &again));
    encoders_close(&x);
    return s;
}

static void test_fingerprint(void **state)
{
    (void)state;
    char one[FILE_PATH_MAX], two[FILE_PATH_MAX], wide[FILE_PATH_MAX], path[FILE_PATH_MAX], file[FILE_PATH_MAX];
    golden_make("dev96", path_in(scratch, "one", one));
    golden_make("dev96", path_in(scratch, "two", two));
    golden_make("wide256", path_in(scratch, "wide", wide));
    struct sha256 a = fingerprint_of(one), b = fingerprint_of(two), c = fingerprint_of(wide);
    assert_true(hash_equal(&a, &b));
    assert_false(hash_equal(&a, &c));
    /* other weights of the same shapes, in either encoder */
    static const char *const part[] = { "text_encoder", "text_encoder_2" };
    for (int i = 0; i < 2; i++) {
        path_in(two, part[i], path);
        path_in(path, "model.safetensors", file);
        struct err e = { 0 };
        size_t bytes;
        char *data = file_read(file, 1 << 26, &bytes, &e);
        if (!data)
            fail_msg("%s", e.text);
        uint64_t header;
        memcpy(&header, data, sizeof header);
        data[8 + header] ^= 1;
        scratch_write(file, data, bytes);
        b = fingerprint_of(two);
        assert_false(hash_equal(&a, &b));
        data[8 + header] ^= 1;
        scratch_write(file, data, bytes);
        free(data);
        b = fingerprint_of(two);
        assert_true(hash_equal(&a, &b));
    }
    /* other configs over the same weights */
    static struct encoders x;
    encoders_open(&x, one);
    int *const number[] = { (int *)&x.m.clip.act, &x.m.clip.heads, &x.m.clip.eos_id, &x.m.t5.heads,
                            &x.m.t5.max_distance };
    for (size_t i = 0; i < sizeof number / sizeof *number; i++) {
        *number[i] += 1;
        b = embeddings_fingerprint(&x.m, x.clip, x.t5);
        assert_false(hash_equal(&a, &b));
        *number[i] -= 1;
    }
    x.m.t5.eps *= 2;
    b = embeddings_fingerprint(&x.m, x.clip, x.t5);
    assert_false(hash_equal(&a, &b));
    encoders_close(&x);
}

/* Of a file that is not in memory at most 1 MB is read. */
static void test_fingerprint_reads_little(void **state)
{
    (void)state;
    enum { MB = 64 };
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    static struct model m;
    struct err e = { 0 };
    unsetenv("TMPDIR"); /* a disk, if there is one */
    scratch_make(dir);
    struct safetensors_entry entry = { "x", tensor_2d(NULL, DT_BF16, MB, 1 << 19) };
    struct safetensors_writer *out;
    assert_true(safetensors_create(&out, path_in(dir, "model.safetensors", path), &entry, 1, &e) &&
                safetensors_skip(out, (uint64_t)MB << 20, &e) && safetensors_commit(out, &e));
    struct weights *w;
    assert_true(weights_open_dir(&w, dir, "text_encoder", &e));
    int fd = open(path, O_RDONLY);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    static unsigned char resident[(MB << 20) / 4096 + 2];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = (size_t)MB << 20, before = 0, after = 0;
    void *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED && page >= 4096);
    assert_int_equal(mincore(map, bytes, resident), 0);
    for (size_t i = 0; i < bytes / page; i++)
        before += resident[i] & 1;
    embeddings_fingerprint(&m, w, w);
    assert_int_equal(mincore(map, bytes, resident), 0);
    for (size_t i = 0; i < bytes / page; i++)
        after += resident[i] & 1;
    munmap(map, bytes);
    close(fd);
    weights_close(w);
    scratch_remove(dir);
    print_message("pages in memory before %zu, after %zu\n", before, after);
    if (after < before || (after - before) * page > 1 << 20)
        fail_msg("%zu bytes read", (after - before) * page);
}

static void test_key(void **state)
{
    (void)state;
    static struct model m = { .clip.tokens = 4, .t5.tokens = 3 };
    int32_t clip[5] = { 1, 2, 3, 4, 5 }, t5[4] = { 6, 7, 8, 9 };
    struct sha256 model = key_of(0), model2 = key_of(1), key = embeddings_key(&m, &model, clip, t5, "fp32 cpu"), other;
    other = embeddings_key(&m, &model, clip, t5, "fp32 cpu");
    assert_true(hash_equal(&key, &other));
    other = embeddings_key(&m, &model2, clip, t5, "fp32 cpu");
    assert_false(hash_equal(&key, &other));
    other = embeddings_key(&m, &model, clip, t5, "bf16 cpu");
    assert_false(hash_equal(&key, &other));
    for (int i = 0; i < 5; i++) {
        clip[i]++;
        other = embeddings_key(&m, &model, clip, t5, "fp32 cpu");
        assert_int_equal(hash_equal(&key, &other), i == 4); /* behind the last token nothing is read */
        clip[i]--;
    }
    for (int i = 0; i < 4; i++) {
        t5[i]++;
        other = embeddings_key(&m, &model, clip, t5, "fp32 cpu");
        assert_int_equal(hash_equal(&key, &other), i == 3);
        t5[i]--;
    }
}

/* --- entries ----------------------------------------------------------------------------- */

static void test_hit_and_miss(void **state)
{
    (void)state;
    assert_false(load(1)); /* no folder */
    assert_false(there(folder));
    assert_stores(1);
    assert_true(load(1));
    assert_true(load(1));
    assert_false(load(2));
    assert_stores(1); /* once more, over itself */
    assert_true(load(1));
    assert_int_equal(scratch_entries(folder), 1);
    struct embeddings_use use;
    struct err e = { 0 };
    assert_true(embeddings_use(&use, &e));
    struct stat st;
    char path[FILE_PATH_MAX];
    assert_int_equal(stat(entry_path(1, path), &st), 0);
    assert_true(use.entries == 1 && use.bytes == (uint64_t)st.st_size);
    /* what was not asked for under this key is a miss, and goes */
    char other[FILE_PATH_MAX];
    assert_int_equal(rename(path, entry_path(3, other)), 0);
    assert_false(load(3));
    assert_false(there(other));
}

/* Anybody's reader of safetensors can open an entry. */
static void test_entry_is_safetensors(void **state)
{
    (void)state;
    struct values want = values_of(1);
    struct err e = { 0 };
    struct safetensors *s;
    struct tensor pooled, hidden, sum;
    char path[FILE_PATH_MAX];
    assert_stores(1);
    if (!safetensors_open(&s, entry_path(1, path), &e))
        fail_msg("%s", e.text);
    assert_true(safetensors_count(s) == 3 && safetensors_find(s, "clip_pooled", &pooled) &&
                safetensors_find(s, "t5_hidden", &hidden) && safetensors_find(s, "checksum", &sum));
    assert_true(tensor_same_shape(pooled, view(&want).pooled) && tensor_same_shape(hidden, view(&want).hidden));
    assert_memory_equal(pooled.data, want.pooled, sizeof want.pooled);
    assert_memory_equal(hidden.data, want.hidden, sizeof want.hidden);
    assert_true(sum.dtype == DT_U8 && tensor_count(sum) == 32);
    safetensors_close(s);
}

static void test_wrong_shape(void **state)
{
    (void)state;
    struct values v = values_of(1);
    struct sha256 key = key_of(1);
    const struct embeddings wrong[] = {
        { tensor_1d(v.pooled, DT_F32, WIDTH - 1), tensor_2d(v.hidden, DT_F32, TOKENS, HIDDEN) },
        { tensor_1d(v.pooled, DT_F32, WIDTH), tensor_2d(v.hidden, DT_F32, HIDDEN, TOKENS) },
        { tensor_1d(v.pooled, DT_F32, WIDTH), tensor_2d(v.hidden, DT_F32, 1, HIDDEN) },
    };
    char path[FILE_PATH_MAX];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_stores(1);
        assert_false(embeddings_load(&key, wrong[i]));
        assert_false(there(entry_path(1, path)));
    }
}

static void test_damaged(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    struct err e = { 0 };
    size_t bytes;
    assert_stores(1);
    char *good = file_read(entry_path(1, path), 1 << 16, &bytes, &e);
    assert_non_null(good);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        good[bit / 8] ^= (char)(1 << bit % 8);
        scratch_write(path, good, bytes);
        if (load(1) || there(path))
            fail_msg("bit %zu of byte %zu flipped: not noticed, or left there", bit % 8, bit / 8);
        good[bit / 8] ^= (char)(1 << bit % 8);
    }
    for (size_t n = 0; n <= bytes + 1; n++) { /* cut, whole, and one byte longer */
        scratch_write(path, good, n);
        assert_int_equal(load(1), n == bytes);
        assert_int_equal(there(path), n == bytes);
    }
    scratch_write(path, good, bytes);
    assert_true(load(1));
    free(good);
}

static void test_not_finite(void **state)
{
    (void)state;
    struct values v = values_of(1);
    struct sha256 key = key_of(1);
    struct err e = { 0 };
    v.hidden[7] = NAN;
    assert_false(embeddings_store(&key, view(&v), &e));
    v = values_of(1);
    v.pooled[0] = -INFINITY;
    assert_false(embeddings_store(&key, view(&v), &e));
    assert_non_null(strstr(e.text, "finite"));
    assert_false(load(1));
}

/* --- what else may lie there ----------------------------------------------------------------- */

static void test_links(void **state)
{
    (void)state;
    char entry[FILE_PATH_MAX], outside[FILE_PATH_MAX], dir[FILE_PATH_MAX];
    struct err e = { 0 };
    size_t bytes, left;
    assert_stores(1);
    assert_int_equal(rename(entry_path(1, entry), path_in(scratch, "outside", outside)), 0);
    char *good = file_read(outside, 1 << 16, &bytes, &e);
    /* even to a good entry: not read through, not written through, not removed behind */
    for (int round = 0; round < 3; round++) {
        assert_int_equal(symlink(outside, entry), 0);
        struct embeddings_use use;
        if (round == 0)
            assert_false(load(1));
        else if (round == 1)
            assert_stores(1);
        else
            assert_true(embeddings_clear(&use, &e));
        struct stat st;
        assert_int_equal(lstat(entry, &st) == 0, round == 1);
        if (round == 1) {
            assert_true(S_ISREG(st.st_mode));
            unlink(entry);
        }
        char *now = file_read(outside, 1 << 16, &left, &e);
        assert_true(now && left == bytes && !memcmp(now, good, bytes));
        free(now);
    }
    free(good);
    assert_int_equal(symlink(path_in(scratch, "nowhere", dir), entry), 0);
    assert_stores(1);
    assert_false(there(dir));
    assert_true(load(1));
    /* evicting, too */
    char other[FILE_PATH_MAX];
    assert_int_equal(symlink(outside, entry_path(2, other)), 0);
    setenv("SLUICE_CACHE_BYTES", "600", 1);
    assert_stores(3);
    assert_true(there(outside));
    assert_true(load(3));
}

static void test_no_files(void **state)
{
    (void)state;
    char entry[FILE_PATH_MAX], inside[FILE_PATH_MAX];
    entry_path(1, entry);
    assert_stores(2);
    assert_int_equal(mkfifo(entry, 0600), 0);
    assert_false(load(1)); /* and does not wait for a writer */
    assert_false(there(entry));
    assert_int_equal(mkfifo(entry, 0600), 0);
    assert_stores(1);
    assert_true(load(1));
    unlink(entry);
    assert_int_equal(mkdir(entry, 0700), 0);
    assert_false(load(1));
    assert_false(there(entry));
    assert_int_equal(mkdir(entry, 0700), 0);
    assert_stores(1);
    assert_true(load(1));
    unlink(entry);
    /* a folder with something in it is somebody's: it stays, and is said to be in the way */
    assert_int_equal(mkdir(entry, 0700), 0);
    scratch_write(path_in(entry, "mine", inside), "x", 1);
    assert_false(load(1));
    assert_refused(1, "Is a directory");
    struct err e = { 0 };
    struct embeddings_use use;
    assert_false(embeddings_clear(&use, &e));
    assert_true(there(inside));
    assert_int_equal(scratch_entries(folder), 1);
}

static void test_foreign_files_stay(void **state)
{
    (void)state;
    static const char *const foreign[] = { "notes.txt", "abc.safetensors", ".sluice-1-0.tmp.txt" };
    char path[FILE_PATH_MAX], fresh_temp[FILE_PATH_MAX], old_temp[FILE_PATH_MAX];
    assert_stores(1);
    for (int i = 0; i < 3; i++)
        scratch_write(path_in(folder, foreign[i], path), "0123456789", 10);
    /* another process is writing; and one was killed hours ago */
    scratch_write(path_in(folder, ".sluice-1-0.tmp", fresh_temp), "x", 1);
    scratch_write(path_in(folder, ".sluice-2-0.tmp", old_temp), "x", 1);
    struct timespec hours[2] = { { .tv_sec = time(NULL) - 7200 }, { .tv_sec = time(NULL) - 7200 } };
    assert_int_equal(utimensat(AT_FDCWD, old_temp, hours, 0), 0);
    setenv("SLUICE_CACHE_BYTES", "600", 1);
    assert_stores(2);
    assert_true(there(fresh_temp) && !there(old_temp));
    struct err e = { 0 };
    struct embeddings_use use;
    assert_true(embeddings_clear(&use, &e));
    assert_int_equal(use.entries, 1);
    assert_false(load(2));
    assert_int_equal(scratch_entries(folder), 4);
    assert_true(embeddings_use(&use, &e));
    assert_int_equal(use.entries, 0);
}

/* --- the bound ------------------------------------------------------------------------------- */

static void used_at(int n, time_t when)
{
    char path[FILE_PATH_MAX];
    struct timespec t[2] = { { .tv_sec = when }, { .tv_sec = when } };
    assert_int_equal(utimensat(AT_FDCWD, entry_path(n, path), t, 0), 0);
}

static void test_bound(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX], text[32];
    struct stat st;
    assert_stores(1);
    assert_int_equal(stat(entry_path(1, path), &st), 0);
    snprintf(text, sizeof text, "%lld", 3 * (long long)st.st_size);
    setenv("SLUICE_CACHE_BYTES", text, 1);
    for (int n = 2; n <= 3; n++)
        assert_stores(n);
    used_at(1, 1000);
    used_at(2, 3000);
    used_at(3, 2000);
    assert_true(load(1)); /* used now */
    assert_stores(4);
    assert_false(there(entry_path(3, path)));
    assert_true(load(1) && load(2) && load(4));
    /* the new one stays, even where every other claims to be newer */
    for (int n = 1; n <= 4; n++)
        if (n != 3)
            used_at(n, time(NULL) + 1000 + n);
    assert_stores(5);
    assert_true(load(5) && load(2) && load(4) && !load(1));
    /* a smaller limit holds from the next store on */
    snprintf(text, sizeof text, "%lld", (long long)st.st_size);
    setenv("SLUICE_CACHE_BYTES", text, 1);
    assert_stores(6);
    assert_int_equal(scratch_entries(folder), 1);
    assert_true(load(6));
    snprintf(text, sizeof text, "%lld", (long long)st.st_size - 1);
    setenv("SLUICE_CACHE_BYTES", text, 1);
    assert_refused(7, "SLUICE_CACHE_BYTES");
    setenv("SLUICE_CACHE_BYTES", "much", 1);
    assert_refused(7, "SLUICE_CACHE_BYTES");
    assert_false(load(6));
    setenv("SLUICE_CACHE_BYTES", "0", 1); /* no cache */
    assert_stores(7);
    assert_false(load(6));
    unsetenv("SLUICE_CACHE_BYTES");
    assert_false(load(7));
    assert_true(load(6));
}

/* --- a system that refuses --------------------------------------------------------------------- */

static void test_no_folder(void **state)
{
    (void)state;
    setenv("XDG_CACHE_HOME", "/proc/nothing", 1);
    assert_refused(1, "cannot make this folder");
    assert_false(load(1));
    setenv("XDG_CACHE_HOME", scratch, 1);
    char sluice[FILE_PATH_MAX];
    scratch_write(path_in(scratch, "sluice", sluice), "x", 1);
    assert_refused(1, "sluice");
    assert_false(load(1));
    struct err e = { 0 };
    struct embeddings_use use;
    assert_false(embeddings_use(&use, &e));
    unlink(sluice);
    e = (struct err){ 0 };
    assert_true(embeddings_use(&use, &e) && embeddings_clear(&use, &e));
    if (geteuid() == 0)
        return; /* root may write anywhere */
    assert_stores(1);
    chmod(folder, 0500);
    assert_refused(2, "cannot write");
    assert_true(load(1));
    chmod(folder, 0700);
}

/* A full disk, as a limit on the size of a file: no half entry is left, and what was there stays. */
static void test_full_disk(void **state)
{
    (void)state;
    char path[FILE_PATH_MAX];
    struct stat st;
    assert_stores(1);
    assert_int_equal(stat(entry_path(1, path), &st), 0);
    struct rlimit old, low;
    getrlimit(RLIMIT_FSIZE, &old);
    for (rlim_t bytes = 0; bytes < (rlim_t)st.st_size; bytes += 50) {
        low = (struct rlimit){ bytes, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
        struct err e = { 0 };
        bool ok = store(2, &e);
        setrlimit(RLIMIT_FSIZE, &old);
        if (ok || e.kind != ERR_DISK_FULL)
            fail_msg("%llu bytes: \"%s\"", (unsigned long long)bytes, e.text);
        assert_int_equal(scratch_entries(folder), 1);
    }
    assert_true(load(1));
    assert_stores(2);
}

static void test_no_memory(void **state)
{
    (void)state;
    long n = 1;
    for (;; n++) {
        struct err e = { 0 };
        alloc_fail_at(n);
        bool ok = store(1, &e);
        if (!alloc_fail_done()) {
            assert_true(ok);
            break;
        }
        assert_true(!ok && e.kind == ERR_MEMORY);
    }
    assert_true(n > 1);
    assert_true(load(1));
    alloc_fail_at(1); /* a hit takes no memory */
    assert_true(load(1));
    assert_false(alloc_fail_done());
}

/* Processes that keep, read and push out the same few entries: each sees whole ones or none. */
static void test_processes(void **state)
{
    (void)state;
    enum { CHILDREN = 3, ROUNDS = 60, PROMPTS = 4 };
    setenv("SLUICE_CACHE_BYTES", "700", 1); /* two entries */
    pid_t child[CHILDREN];
    for (int c = 0; c < CHILDREN; c++) {
        child[c] = fork();
        if (child[c])
            continue;
        int wrong = 0;
        for (int i = 0; i < ROUNDS && !wrong; i++) {
            int n = (i * 7 + c) % PROMPTS;
            struct err e = { 0 };
            struct values v, want = values_of(n);
            struct sha256 key = key_of(n);
            if (embeddings_load(&key, view(&v)))
                wrong = memcmp(&v, &want, sizeof v) != 0;
            else if (!store(n, &e))
                wrong = 2;
        }
        _exit(wrong);
    }
    for (int c = 0; c < CHILDREN; c++) {
        int status;
        assert_int_equal(waitpid(child[c], &status, 0), child[c]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    assert_stores(9);
    assert_true(scratch_entries(folder) <= 2);
    assert_true(load(9));
}

int main(void)
{
    signal(SIGXFSZ, SIG_IGN);
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, end)
    const struct CMUnitTest tests[] = {
        CASE(test_hash),
        CASE(test_hash_file),
        CASE(test_place),
        CASE(test_fingerprint),
        CASE(test_fingerprint_reads_little),
        CASE(test_key),
        CASE(test_hit_and_miss),
        CASE(test_entry_is_safetensors),
        CASE(test_wrong_shape),
        CASE(test_damaged),
        CASE(test_not_finite),
        CASE(test_links),
        CASE(test_no_files),
        CASE(test_foreign_files_stay),
        CASE(test_bound),
        CASE(test_no_folder),
        CASE(test_full_disk),
        CASE(test_no_memory),
        CASE(test_processes),
    };
    return cmocka_run_group_tests_name("embeddings", tests, NULL, NULL);
}
