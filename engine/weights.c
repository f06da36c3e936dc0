/* weights.c - see weights.h. */
#include "engine/weights.h"

#include "engine/config.h"
#include "engine/file.h"
#include "engine/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHARDS_MAX = 1024, INDEX_MAX = 64 << 20 };

struct weights {
    char component[64];
    size_t shards;
    struct safetensors *shard[SHARDS_MAX];
    size_t first[SHARDS_MAX + 1]; /* number of shard i's first tensor */
};

static bool shard_open(struct weights *w, const char *path, struct err *e)
{
    if (w->shards == SHARDS_MAX)
        return err_set(e, ERR_INPUT, "%s: %s has more than %d files", w->component, path, SHARDS_MAX);
    if (!safetensors_open(&w->shard[w->shards], path, e))
        return err_prefix(e, "%s", w->component);
    w->shards++;
    w->first[w->shards] = w->first[w->shards - 1] + safetensors_count(w->shard[w->shards - 1]);
    return true;
}

static const struct safetensors *shard_named(const struct weights *w, const char *path)
{
    for (size_t i = 0; i < w->shards; i++)
        if (!strcmp(safetensors_path(w->shard[i]), path))
            return w->shard[i];
    return NULL;
}

static bool no_duplicates(const struct weights *w, struct err *e)
{
    struct tensor t;
    for (size_t s = 1; s < w->shards; s++)
        for (size_t i = 0; i < safetensors_count(w->shard[s]); i++) {
            const char *name = safetensors_name(w->shard[s], i);
            for (size_t before = 0; before < s; before++)
                if (safetensors_find(w->shard[before], name, &t))
                    return err_set(e, ERR_INPUT, "%s: tensor %.100s is in two files, %.120s and "
                                   "%.120s; remove the one that does not belong", w->component, name,
                                   safetensors_path(w->shard[before]), safetensors_path(w->shard[s]));
        }
    return true;
}

static bool index_open(struct weights *w, const char *dir, const char *index, struct err *e)
{
    json_t *root = config_read(index, INDEX_MAX, 0, e);
    if (!root)
        return err_prefix(e, "%s", w->component);
    bool ok = false;
    const json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0) {
        err_set(e, ERR_DAMAGED, "%s: %s: key \"weight_map\": expected {tensor: file}", w->component,
                index);
        goto done;
    }
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)map, name, v) {
        const char *file = json_string_value(v);
        char path[FILE_PATH_MAX];
        if (!file || !*file || strchr(file, '/') || file[0] == '.') {
            err_set(e, ERR_DAMAGED, "%s: %s: tensor %.100s: expected a file name in the same folder, "
                    "found %.100s", w->component, index, name, file ? file : "no string");
            goto done;
        }
        if (!file_join(path, dir, file, e))
            goto done;
        const struct safetensors *s = shard_named(w, path);
        if (!s) {
            if (!file_exists(path)) {
                err_set(e, ERR_MISSING, "%s: %s is missing; %s lists it, download it into the same "
                        "folder", w->component, path, index);
                goto done;
            }
            if (!shard_open(w, path, e))
                goto done;
            s = w->shard[w->shards - 1];
        }
        struct tensor t;
        if (!safetensors_find(s, name, &t)) {
            err_set(e, ERR_DAMAGED, "%s: tensor %.100s: expected in %.180s, as the index says, found no "
                    "such tensor there; download both again", w->component, name, path);
            goto done;
        }
    }
    ok = no_duplicates(w, e);
done:
    json_decref(root);
    return ok;
}

static bool safetensors_suffix(const char *name)
{
    size_t n = strlen(name);
    return n > 12 && name[0] != '.' && !strcmp(name + n - 12, ".safetensors");
}

/* The one .safetensors file of a folder. */
static bool only_file(const struct weights *w, const char *dir, char path[FILE_PATH_MAX],
                      struct err *e)
{
    DIR *d = opendir(dir);
    if (!d)
        return err_errno(e, errno, "%s: cannot open %s", w->component, dir);
    bool ok = true;
    int found = 0;
    for (const struct dirent *f; ok && (f = readdir(d));)
        if (safetensors_suffix(f->d_name) && found++ == 0)
            ok = file_join(path, dir, f->d_name, e);
    closedir(d);
    if (ok && found == 0)
        return err_set(e, ERR_MISSING, "%s: no .safetensors file in %s; download the component's "
                       "weights into it", w->component, dir);
    if (ok && found > 1)
        return err_set(e, ERR_INPUT, "%s: %d .safetensors files in %s and no index that joins them; "
                       "add the index or leave one file", w->component, found, dir);
    return ok;
}

bool weights_open_dir(struct weights **out, const char *dir, const char *component, struct err *e)
{
    static const char *const stems[] = { "diffusion_pytorch_model.safetensors", "model.safetensors" };
    *out = NULL;
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", component);
    strncpy(w->component, component, sizeof w->component - 1);

    char path[FILE_PATH_MAX];
    bool ok = true, found = false;
    for (size_t i = 0; ok && !found && i < sizeof stems / sizeof *stems; i++) {
        ok = file_join(path, dir, stems[i], e);
        if (ok && file_exists(path)) {
            found = true;
            ok = shard_open(w, path, e);
            break;
        }
        /* room for ".index.json" is checked by the join */
        char index[64];
        strcpy(index, stems[i]);
        strcat(index, ".index.json");
        ok = ok && file_join(path, dir, index, e);
        if (ok && file_exists(path)) {
            found = true;
            ok = index_open(w, dir, path, e);
        }
    }
    if (ok && !found)
        ok = only_file(w, dir, path, e) && shard_open(w, path, e);
    if (!ok)
        weights_close(w);
    else
        *out = w;
    return ok;
}

bool weights_open_file(struct weights **out, const char *path, const char *component, struct err *e)
{
    *out = NULL;
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(e, ERR_MEMORY, "%s: no memory to open it", component);
    strncpy(w->component, component, sizeof w->component - 1);
    if (!shard_open(w, path, e)) {
        weights_close(w);
        return false;
    }
    *out = w;
    return true;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->shards; i++)
        safetensors_close(w->shard[i]);
    free(w);
}

size_t weights_count(const struct weights *w) { return w->first[w->shards]; }

static size_t shard_of(const struct weights *w, size_t i)
{
    size_t s = 0;
    while (i >= w->first[s + 1])
        s++;
    return s;
}

const char *weights_name(const struct weights *w, size_t i)
{
    size_t s = shard_of(w, i);
    return safetensors_name(w->shard[s], i - w->first[s]);
}

struct tensor weights_tensor(const struct weights *w, size_t i)
{
    size_t s = shard_of(w, i);
    return safetensors_tensor(w->shard[s], i - w->first[s]);
}

static const struct safetensors *find(const struct weights *w, const char *name, struct tensor *t)
{
    static const char clip[] = "text_model.";
    for (size_t i = 0; i < w->shards; i++)
        if (safetensors_find(w->shard[i], name, t))
            return w->shard[i];
    if (!strncmp(name, clip, sizeof clip - 1))
        return find(w, name + sizeof clip - 1, t);
    return NULL;
}

bool weights_has(const struct weights *w, const char *name)
{
    struct tensor t;
    return find(w, name, &t) != NULL;
}

size_t weights_bytes(const struct weights *w)
{
    size_t bytes = 0;
    for (size_t s = 0; s < w->shards; s++)
        for (size_t i = 0; i < safetensors_count(w->shard[s]); i++)
            bytes += tensor_bytes(safetensors_tensor(w->shard[s], i));
    return bytes;
}

size_t weights_files(const struct weights *w) { return w->shards; }
const char *weights_path(const struct weights *w, size_t i) { return safetensors_path(w->shard[i]); }

static const char *shape_text(int ndim, const int64_t *shape, char *buf, size_t size)
{
    size_t n = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < ndim && n < size; i++) {
        const char *comma = i ? ", " : "";
        n += shape[i] < 0 ? (size_t)snprintf(buf + n, size - n, "%sany", comma)
                          : (size_t)snprintf(buf + n, size - n, "%s%lld", comma, (long long)shape[i]);
    }
    if (n < size)
        snprintf(buf + n, size - n, "]");
    return buf;
}

bool weights_get(const struct weights *w, struct tensor *out, const char *name, int ndim,
                 const int64_t *shape, struct err *e)
{
    struct tensor t;
    char wanted[128], found[128];
    shape_text(ndim, shape, wanted, sizeof wanted);
    const struct safetensors *s = find(w, name, &t);
    if (!s)
        return err_set(e, ERR_DAMAGED, "%s: %.160s%s: tensor %.100s: expected %s, found no such tensor; "
                       "the weights do not fit the model's config", w->component,
                       w->shards ? safetensors_path(w->shard[0]) : "no file",
                       w->shards > 1 ? " (and its other shards)" : "", name, wanted);
    bool fits = t.ndim == ndim;
    for (int i = 0; fits && i < ndim; i++)
        fits = shape[i] < 0 || shape[i] == t.shape[i];
    if (!fits)
        return err_set(e, ERR_DAMAGED, "%s: %.160s: tensor %.100s: expected shape %s, found %s; the "
                       "weights do not fit the model's config", w->component, safetensors_path(s), name,
                       wanted, tensor_describe(t, found, sizeof found));
    if (t.dtype != DT_F32 && t.dtype != DT_BF16 && t.dtype != DT_F16)
        return err_set(e, ERR_INPUT, "%s: %.160s: tensor %.100s: expected F32, BF16 or F16, found %s; "
                       "convert the file to one of these", w->component, safetensors_path(s), name,
                       dtype_name(t.dtype));
    *out = t;
    return true;
}

/* Infinity and NaN are the numbers whose exponent bits are all ones. */
static bool any32(const uint32_t *p, int64_t n, uint32_t exponent)
{
    uint32_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= (p[i] & exponent) == exponent;
    return any;
}

static bool any16(const uint16_t *p, int64_t n, uint16_t exponent)
{
    uint16_t any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= (p[i] & exponent) == exponent;
    return any;
}

/* Index of the first element that is no number, or the count. */
static int64_t first_not_finite(struct tensor t)
{
    enum { BLOCK = 1 << 16 };
    int64_t n = tensor_count(t), blocks = (n + BLOCK - 1) / BLOCK, bad = blocks;
    const uint32_t *p32 = t.data;
    const uint16_t *p16 = t.data;
    uint16_t exponent = t.dtype == DT_BF16 ? 0x7f80 : 0x7c00;
#pragma omp parallel for reduction(min : bad) schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t from = b * BLOCK, length = n - from < BLOCK ? n - from : BLOCK;
        if (b < bad && (t.dtype == DT_F32 ? any32(p32 + from, length, 0x7f800000)
                                          : any16(p16 + from, length, exponent)))
            bad = b;
    }
    int64_t i = bad * BLOCK;
    while (i < n && isfinite(dtype_load(t.data, t.dtype, i)))
        i++;
    return i < n ? i : n;
}

bool weights_finite(const struct weights *w, const char *name, struct tensor t, struct err *e)
{
    if (t.dtype != DT_F32 && t.dtype != DT_BF16 && t.dtype != DT_F16)
        return err_set(e, ERR_INPUT, "%s: tensor %.100s: expected F32, BF16 or F16, found %s",
                       w->component, name, dtype_name(t.dtype));
    int64_t i = first_not_finite(t);
    if (i == tensor_count(t))
        return true;
    struct tensor found;
    const struct safetensors *s = find(w, name, &found);
    double value = dtype_load(t.data, t.dtype, i);
    return err_set(e, ERR_DAMAGED, "%s: %.160s: tensor %.100s: expected numbers, found %s at element "
                   "%lld; the file is damaged, download it again", w->component,
                   s ? safetensors_path(s) : "?", name,
                   isnan(value) ? "NaN" : value > 0 ? "inf" : "-inf", (long long)i);
}
