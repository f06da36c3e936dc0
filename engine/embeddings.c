/* embeddings.c - see embeddings.h. */
#include "engine/embeddings.h"

#include "engine/cache.h"
#include "engine/job.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SAMPLES = 64, SAMPLE_BYTES = 4096, /* of each encoder's data */
       ENTRY_NAME = HASH_HEX + 16, HEAD_MAX = 512, ABANDONED_SECONDS = 3600 };

static const uint64_t DEFAULT_LIMIT = (uint64_t)1 << 30;
static const char suffix[] = ".safetensors";

/* --- keys ---------------------------------------------------------------------- */

/* n bytes of a mapped file that may not be in memory: these, and not the usual
 * hundreds of KB around them. Fails without harm where p is not mapped. */
static void add_sample(struct hash *h, const char *p, size_t n)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)p & ~(page - 1);
    size_t bytes = (uintptr_t)p + n - from;
    (void)!madvise((void *)from, bytes, MADV_RANDOM);
    hash_add(h, p, n);
    (void)!madvise((void *)from, bytes, MADV_NORMAL);
}

static void add_weights(struct hash *h, const struct weights *w)
{
    uint64_t total = weights_bytes(w), begin = 0;
    int sample = 0;
    hash_add(h, &total, sizeof total);
    for (size_t i = 0; i < weights_count(w); i++) {
        struct tensor t = weights_tensor(w, i);
        hash_text(h, weights_name(w, i));
        hash_text(h, dtype_name(t.dtype));
        hash_add(h, t.shape, (size_t)t.ndim * sizeof *t.shape);
        uint64_t end = begin + tensor_bytes(t);
        for (uint64_t at; sample < SAMPLES && (at = total / SAMPLES * (uint64_t)sample) < end; sample++)
            add_sample(h, (const char *)t.data + (at - begin), end - at < SAMPLE_BYTES ? end - at : SAMPLE_BYTES);
        begin = end;
    }
}

struct sha256 embeddings_fingerprint(const struct model *m, const struct weights *clip, const struct weights *t5)
{
    const struct clip_config *c = &m->clip;
    const struct t5_config *t = &m->t5;
    const int numbers[] = { c->vocab, c->tokens, c->width, c->heads, c->layers, c->mlp, c->act, c->eos_id,
                            t->vocab, t->width, t->heads, t->head_dim, t->layers, t->ff, t->buckets, t->max_distance };
    const float eps[] = { c->eps, t->eps };
    struct hash h;
    hash_begin(&h);
    hash_add(&h, numbers, sizeof numbers);
    hash_add(&h, eps, sizeof eps);
    add_weights(&h, clip);
    add_weights(&h, t5);
    return hash_end(&h);
}

struct sha256 embeddings_key(const struct model *m, const struct sha256 *fingerprint, const int32_t *clip_ids,
                             const int32_t *t5_ids, const char *how)
{
    const int counts[] = { m->clip.tokens, m->t5.tokens };
    struct hash h;
    hash_begin(&h);
    hash_text(&h, "sluice embeddings 1"); /* another number for another layout or arithmetic */
    hash_add(&h, fingerprint, sizeof *fingerprint);
    hash_add(&h, counts, sizeof counts);
    hash_add(&h, clip_ids, (size_t)counts[0] * sizeof *clip_ids);
    hash_add(&h, t5_ids, (size_t)counts[1] * sizeof *t5_ids);
    hash_text(&h, how);
    return hash_end(&h);
}

/* --- the folder ------------------------------------------------------------------ */

static bool limit(uint64_t *bytes, struct err *e)
{
    const char *text = getenv("SLUICE_CACHE_BYTES");
    size_t n = 0;
    if (text && *text && !job_parse_bytes(text, &n, e))
        return err_prefix(e, "SLUICE_CACHE_BYTES");
    *bytes = text && *text ? n : DEFAULT_LIMIT;
    return true;
}

static int folder_open(char path[FILE_PATH_MAX], struct err *e)
{
    if (!cache_path(path, "embeddings", e))
        return -1;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        err_errno(e, errno, "%s: cannot open", path);
    return dir;
}

static void name_of(const struct sha256 *key, char name[ENTRY_NAME])
{
    hash_hex(key, name);
    strcat(name, suffix);
}

static bool is_entry(const char *name)
{
    size_t digits = strspn(name, "0123456789abcdef");
    return digits == HASH_HEX - 1 && !strcmp(name + digits, suffix);
}

/* What a killed store left: file.c's temporary name. */
static bool is_temporary(const char *name)
{
    size_t n = strlen(name);
    return !strncmp(name, ".sluice-", 8) && n > 12 && !strcmp(name + n - 4, ".tmp");
}

/* A link goes, not what it points to; a folder only if it is empty. */
static void entry_remove(int dir, const char *name)
{
    if (unlinkat(dir, name, 0) < 0 && (errno == EISDIR || errno == EPERM))
        (void)!unlinkat(dir, name, AT_REMOVEDIR);
}

struct entry {
    struct timespec used;
    uint64_t bytes;
    char name[ENTRY_NAME];
};

struct list {
    struct entry *entry; /* owned */
    size_t count, room;
    uint64_t bytes;
};

static bool list_add(struct list *l, const struct entry *n)
{
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct entry *more = realloc(l->entry, room * sizeof *more);
        if (!more)
            return false;
        l->entry = more;
        l->room = room;
    }
    l->entry[l->count++] = *n;
    l->bytes += n->bytes;
    return true;
}

/* Every entry of the folder into *l; removes temporary files that nobody writes any more. */
static bool list_read(struct list *l, int dir, const char *path, struct err *e)
{
    *l = (struct list){ 0 };
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        err_errno(e, errno, "%s: cannot list", path);
        if (again >= 0)
            close(again);
        return false;
    }
    bool ok = true;
    time_t now = time(NULL);
    for (const struct dirent *f; ok && (f = readdir(d));) {
        struct stat st;
        bool entry = is_entry(f->d_name);
        if ((!entry && !is_temporary(f->d_name)) || fstatat(dir, f->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        struct entry n = { .used = st.st_mtim, .bytes = (uint64_t)st.st_size };
        if (entry) {
            strcpy(n.name, f->d_name);
            ok = list_add(l, &n) || err_set(e, ERR_MEMORY, "%s: no memory to list it", path);
        } else if (st.st_mtime < now - ABANDONED_SECONDS) {
            entry_remove(dir, f->d_name);
        }
    }
    closedir(d);
    return ok;
}

static int by_use(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec)
        return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    if (x->used.tv_nsec != y->used.tv_nsec)
        return x->used.tv_nsec < y->used.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Those not used for longest go until the rest has at most `most` bytes; `keep` stays. */
static bool evict(int dir, const char *path, const char *keep, uint64_t most, struct err *e)
{
    struct list l;
    bool ok = list_read(&l, dir, path, e);
    if (ok && l.bytes > most) {
        qsort(l.entry, l.count, sizeof *l.entry, by_use);
        for (size_t i = 0; i < l.count && l.bytes > most; i++)
            if (strcmp(l.entry[i].name, keep)) {
                entry_remove(dir, l.entry[i].name);
                l.bytes -= l.entry[i].bytes;
            }
    }
    free(l.entry);
    return ok;
}

/* --- entries ---------------------------------------------------------------------- */

/* All of an entry's file before its data. Returns its bytes, a multiple of 8. */
static size_t head(char buf[HEAD_MAX], struct embeddings v)
{
    size_t pooled = tensor_bytes(v.pooled), end = pooled + tensor_bytes(v.hidden);
    int n = snprintf(buf + 8, HEAD_MAX - 8, "{\"__metadata__\":{\"format\":\"pt\"},"
                     "\"clip_pooled\":{\"dtype\":\"F32\",\"shape\":[%lld],\"data_offsets\":[0,%zu]},"
                     "\"t5_hidden\":{\"dtype\":\"F32\",\"shape\":[%lld,%lld],\"data_offsets\":[%zu,%zu]},"
                     "\"checksum\":{\"dtype\":\"U8\",\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}}",
                     (long long)v.pooled.shape[0], pooled, (long long)v.hidden.shape[0], (long long)v.hidden.shape[1],
                     pooled, end, sizeof(struct sha256), end, end + sizeof(struct sha256));
    size_t text = (size_t)n, padded = (text + 7) & ~(size_t)7;
    memset(buf + 8 + text, ' ', padded - text);
    for (int i = 0; i < 8; i++)
        buf[i] = (char)(padded >> 8 * i);
    return 8 + padded;
}

static struct sha256 checksum(const struct sha256 *key, struct embeddings v)
{
    struct hash h;
    hash_begin(&h);
    hash_add(&h, key, sizeof *key);
    hash_add(&h, v.pooled.data, tensor_bytes(v.pooled));
    hash_add(&h, v.hidden.data, tensor_bytes(v.hidden));
    return hash_end(&h);
}

static bool all_finite(struct tensor t)
{
    const float *x = t.data;
    int64_t n = tensor_count(t), bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad += !isfinite(x[i]);
    return !bad;
}

static void assert_whole(struct embeddings v)
{
    assert(v.pooled.dtype == DT_F32 && v.pooled.ndim == 1 && tensor_dense(v.pooled));
    assert(v.hidden.dtype == DT_F32 && v.hidden.ndim == 2 && tensor_dense(v.hidden));
}

static bool read_whole(int fd, void *to, size_t bytes)
{
    char *p = to;
    while (bytes) {
        ssize_t n = read(fd, p, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

static bool entry_read(int fd, const struct sha256 *key, struct embeddings v)
{
    char want[HEAD_MAX], found[HEAD_MAX];
    size_t bytes = head(want, v), pooled = tensor_bytes(v.pooled), hidden = tensor_bytes(v.hidden);
    struct sha256 sum;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes + pooled + hidden + sizeof sum ||
        !read_whole(fd, found, bytes) || memcmp(want, found, bytes) || !read_whole(fd, v.pooled.data, pooled) ||
        !read_whole(fd, v.hidden.data, hidden) || !read_whole(fd, &sum, sizeof sum))
        return false;
    struct sha256 now = checksum(key, v);
    return hash_equal(&sum, &now) && all_finite(v.pooled) && all_finite(v.hidden);
}

bool embeddings_load(const struct sha256 *key, struct embeddings v)
{
    assert_whole(v);
    char path[FILE_PATH_MAX], name[ENTRY_NAME];
    uint64_t most = 0;
    int dir;
    if (!limit(&most, NULL) || !most || (dir = folder_open(path, NULL)) < 0)
        return false;
    name_of(key, name);
    /* O_NONBLOCK: a named pipe must be refused, not waited for. */
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool hit = fd >= 0 && entry_read(fd, key, v);
    if (hit)
        (void)!futimens(fd, NULL); /* used now */
    else if (fd >= 0 || errno == ELOOP || errno == ENXIO) /* what is there is no entry: a link, a socket */
        entry_remove(dir, name);
    if (fd >= 0)
        close(fd);
    close(dir);
    return hit;
}

static bool entry_write(const char *path, const struct sha256 *key, struct embeddings v, struct err *e)
{
    char start[HEAD_MAX];
    size_t bytes = head(start, v);
    struct sha256 sum = checksum(key, v);
    struct file_out o;
    if (!file_out_open(&o, path, e))
        return false;
    if (!file_out_write(&o, start, bytes, e) || !file_out_write(&o, v.pooled.data, tensor_bytes(v.pooled), e) ||
        !file_out_write(&o, v.hidden.data, tensor_bytes(v.hidden), e) || !file_out_write(&o, &sum, sizeof sum, e)) {
        file_out_abandon(&o);
        return false;
    }
    return file_out_commit(&o, e);
}

bool embeddings_store(const struct sha256 *key, struct embeddings v, struct err *e)
{
    assert_whole(v);
    char folder[FILE_PATH_MAX], path[FILE_PATH_MAX], name[ENTRY_NAME], start[HEAD_MAX];
    uint64_t most = 0, bytes = head(start, v) + tensor_bytes(v.pooled) + tensor_bytes(v.hidden) + sizeof(struct sha256);
    if (!limit(&most, e))
        return false;
    if (!most)
        return true;
    if (bytes > most)
        return err_set(e, ERR_INPUT, "text embeddings: a prompt's have %llu bytes, SLUICE_CACHE_BYTES allows %llu for "
                       "all", (unsigned long long)bytes, (unsigned long long)most);
    if (!all_finite(v.pooled) || !all_finite(v.hidden))
        return err_set(e, ERR_INPUT, "text embeddings: a value is not finite; not kept");
    name_of(key, name);
    if (!cache_path(folder, "embeddings", e) || !cache_make(folder, e) || !file_join(path, folder, name, e))
        return false;
    int dir = folder_open(folder, e);
    if (dir < 0)
        return false;
    struct stat st;
    if (!fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && !S_ISREG(st.st_mode))
        entry_remove(dir, name); /* file_out would write through a link */
    bool ok = entry_write(path, key, v, e) && evict(dir, folder, name, most, e);
    close(dir);
    return ok;
}

/* --- for a command ------------------------------------------------------------------ */

static bool survey(struct embeddings_use *use, bool clear, struct err *e)
{
    *use = (struct embeddings_use){ 0 };
    char path[FILE_PATH_MAX];
    if (!cache_path(path, "embeddings", e))
        return false;
    int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT || err_errno(e, errno, "%s: cannot open", path);
    struct list l;
    bool ok = list_read(&l, dir, path, e);
    if (ok)
        *use = (struct embeddings_use){ l.count, l.bytes };
    for (size_t i = 0; clear && i < l.count; i++) {
        struct stat st;
        entry_remove(dir, l.entry[i].name);
        if (ok && !fstatat(dir, l.entry[i].name, &st, AT_SYMLINK_NOFOLLOW))
            ok = err_set(e, ERR_IO, "%s/%s: cannot remove", path, l.entry[i].name);
    }
    free(l.entry);
    close(dir);
    return ok;
}

bool embeddings_use(struct embeddings_use *use, struct err *e) { return survey(use, false, e); }
bool embeddings_clear(struct embeddings_use *use, struct err *e) { return survey(use, true, e); }
