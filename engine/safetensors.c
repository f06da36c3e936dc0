/* safetensors.c - see safetensors.h. */
#include "engine/safetensors.h"

#include "engine/config.h"
#include "engine/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEADER_MAX = 100000000 }; /* the limit of the safetensors project's own reader */

struct item {
    const char *name; /* points into the parsed header */
    struct tensor tensor;
    uint64_t begin, end;
};

struct safetensors {
    char path[FILE_PATH_MAX];
    void *map;
    size_t map_bytes;
    json_t *header; /* kept for names and metadata */
    struct item *items;
    size_t count;
    uint32_t *slots; /* open addressing: index + 1 into items, 0 is free */
    size_t slot_mask;
};

static uint64_t hash(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h ^ h >> 32;
}

static bool item_fault(const struct safetensors *s, const char *name, const char *fault,
                       struct err *e)
{
    return err_set(e, ERR_DAMAGED, "%.250s: tensor %.120s: %s; the file is damaged or not safetensors",
                   s->path, name, fault);
}

static bool get_u64(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* One header entry into *it; data_bytes is what the file has after the header. */
static bool item_read(const struct safetensors *s, const char *name, const json_t *v,
                      const char *data, uint64_t data_bytes, struct item *it, struct err *e)
{
    const char *type = json_string_value(json_object_get(v, "dtype"));
    const json_t *shape = json_object_get(v, "shape");
    const json_t *offsets = json_object_get(v, "data_offsets");
    if (!type || !json_is_array(shape) || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return item_fault(s, name, "expected dtype, shape and data_offsets [begin, end]", e);

    *it = (struct item){ .name = name };
    struct tensor *t = &it->tensor;
    t->dtype = dtype_from_name(type);
    if (t->dtype == DT_NONE)
        return err_set(e, ERR_INPUT, "%.250s: tensor %.120s: dtype %.20s is not supported (F32, BF16, "
                       "F16, F64, F8_E4M3, F8_E5M2, I8..I64, U8, BOOL are)", s->path, name, type);
    size_t ndim = json_array_size(shape);
    if (ndim > TENSOR_MAX_DIMS)
        return item_fault(s, name, "more than 4 dimensions", e);

    uint64_t bytes = dtype_bytes(t->dtype);
    for (size_t i = 0; i < ndim; i++) {
        uint64_t n;
        if (!get_u64(json_array_get(shape, i), &n))
            return item_fault(s, name, "a length in shape is not a whole number >= 0", e);
        if (__builtin_mul_overflow(bytes, n, &bytes) || bytes > INT64_MAX)
            return item_fault(s, name, "the shape overflows 64 bits", e);
        t->shape[i] = (int64_t)n;
    }
    if (!get_u64(json_array_get(offsets, 0), &it->begin) ||
        !get_u64(json_array_get(offsets, 1), &it->end) || it->begin > it->end)
        return item_fault(s, name, "data_offsets are not two whole numbers, begin <= end", e);
    if (it->end > data_bytes)
        return err_set(e, ERR_DAMAGED, "%.200s: tensor %.120s: data ends at byte %llu, the file has %llu "
                       "after its header; it is truncated, download it again", s->path, name,
                       (unsigned long long)it->end, (unsigned long long)data_bytes);
    if (it->end - it->begin != bytes) {
        return err_set(e, ERR_DAMAGED, "%.200s: tensor %.120s: expected %llu bytes for its shape and %s, "
                       "found %llu; the file is damaged", s->path, name, (unsigned long long)bytes,
                       dtype_name(t->dtype), (unsigned long long)(it->end - it->begin));
    }
    if (bytes == 0) {
        *t = (struct tensor){ .dtype = t->dtype };
        return true;
    }
    const char *at = data + it->begin;
    if ((uintptr_t)at % dtype_bytes(t->dtype))
        return item_fault(s, name, "data not aligned for its type (save the file again)", e);
    t->data = (void *)(uintptr_t)at; /* the map is read-only; nobody may write through the view */
    t->ndim = ndim ? (int)ndim : 1;
    if (!ndim)
        t->shape[0] = 1;
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        t->stride[i] = step;
        step *= t->shape[i];
    }
    return true;
}

static int by_data(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool items_read(struct safetensors *s, size_t header_bytes, struct err *e)
{
    const char *data = (const char *)s->map + 8 + header_bytes;
    uint64_t data_bytes = s->map_bytes - 8 - header_bytes;
    size_t size = json_object_size(s->header), slots = 16;
    while (slots < 2 * size)
        slots *= 2;
    s->slot_mask = slots - 1;
    s->items = calloc(size + 1, sizeof *s->items);
    s->slots = calloc(slots, sizeof *s->slots);
    if (!s->items || !s->slots)
        return err_set(e, ERR_MEMORY, "%s: no memory for its %zu tensor names", s->path, size);

    const char *name;
    json_t *v;
    json_object_foreach(s->header, name, v) {
        if (!strcmp(name, "__metadata__")) {
            if (!json_is_object(v))
                return item_fault(s, name, "expected an object", e);
        } else if (!item_read(s, name, v, data, data_bytes, &s->items[s->count++], e)) {
            return false;
        }
    }
    qsort(s->items, s->count, sizeof *s->items, by_data);
    uint64_t end = 0;
    for (size_t i = 0; i < s->count; i++) {
        const struct item *it = &s->items[i];
        if (it->begin < end && it->begin < it->end)
            return item_fault(s, it->name, "its data overlaps another tensor's", e);
        end = it->end > end ? it->end : end;
        size_t at = hash(it->name) & s->slot_mask;
        while (s->slots[at])
            at = (at + 1) & s->slot_mask;
        s->slots[at] = (uint32_t)i + 1;
    }
    return true;
}

static bool header_read(struct safetensors *s, struct err *e)
{
    const unsigned char *p = s->map;
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--)
        n = n << 8 | p[i];
    if (n > HEADER_MAX)
        return err_set(e, ERR_DAMAGED, "%s: header claims %llu bytes, expected at most %d; not a "
                       "safetensors file", s->path, (unsigned long long)n, HEADER_MAX);
    if (n > s->map_bytes - 8)
        return err_set(e, ERR_DAMAGED, "%s: header claims %llu bytes, the file has %zu; it is "
                       "truncated, download it again", s->path, (unsigned long long)n,
                       s->map_bytes - 8);
    s->header = config_parse((const char *)p + 8, (size_t)n, 0, s->path, e);
    return s->header && items_read(s, (size_t)n, e);
}

bool safetensors_open(struct safetensors **out, const char *path, struct err *e)
{
    *out = NULL;
    uint64_t bytes;
    int fd = file_open(path, &bytes, e);
    if (fd < 0)
        return false;
    bool ok = false;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_MEMORY, "%s: no memory to open it", path);
        goto done;
    }
    strncpy(s->path, path, sizeof s->path - 1);
    if (bytes < 8 || bytes > SIZE_MAX) {
        err_set(e, ERR_DAMAGED, "%s: %llu bytes, too short for a safetensors file; it is truncated, "
                "download it again", path, (unsigned long long)bytes);
        goto done;
    }
    void *map = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        err_errno(e, errno, "%s: cannot map its %llu bytes", path, (unsigned long long)bytes);
        goto done;
    }
    s->map = map;
    s->map_bytes = (size_t)bytes;
    ok = header_read(s, e);
done:
    close(fd);
    if (!ok)
        safetensors_close(s);
    else
        *out = s;
    return ok;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    if (s->map)
        munmap(s->map, s->map_bytes);
    json_decref(s->header);
    free(s->items);
    free(s->slots);
    free(s);
}

const char *safetensors_path(const struct safetensors *s) { return s->path; }
size_t safetensors_count(const struct safetensors *s) { return s->count; }
const char *safetensors_name(const struct safetensors *s, size_t i) { return s->items[i].name; }
struct tensor safetensors_tensor(const struct safetensors *s, size_t i) { return s->items[i].tensor; }

bool safetensors_find(const struct safetensors *s, const char *name, struct tensor *out)
{
    for (size_t at = hash(name) & s->slot_mask; s->slots[at]; at = (at + 1) & s->slot_mask) {
        const struct item *it = &s->items[s->slots[at] - 1];
        if (!strcmp(it->name, name)) {
            *out = it->tensor;
            return true;
        }
    }
    return false;
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, "__metadata__"), key));
}

/* --- writing --------------------------------------------------------------- */

struct safetensors_writer {
    struct file_out out;
    uint64_t total; /* of the whole file, once complete */
};

/* The header's JSON text; *data_bytes is what must follow it. */
static char *header_text(const char *path, const struct safetensors_entry *entries, size_t count,
                         uint64_t *data_bytes, struct err *e)
{
    char *text = NULL;
    /* transformers refuses a file without this key */
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    uint64_t at = 0;
    for (size_t i = 0; i < count && root; i++) {
        const struct tensor *t = &entries[i].tensor;
        uint64_t size = dtype_bytes(t->dtype), bytes = t->ndim ? size : 0;
        json_t *shape = t->ndim ? json_array() : json_pack("[i]", 0), *item;
        bool whole = shape; /* no allocation was refused */
        for (int d = 0; d < t->ndim; d++) {
            whole = whole && !json_array_append_new(shape, json_integer(t->shape[d]));
            if (t->shape[d] < 1 || __builtin_mul_overflow(bytes, (uint64_t)t->shape[d], &bytes))
                size = 0;
        }
        uint64_t end;
        if (!size || __builtin_add_overflow(at, bytes, &end) || end > INT64_MAX) {
            err_set(e, ERR_INPUT, "%s: tensor %.120s: dtype and shape make no sense", path,
                    entries[i].name);
        } else if (bytes && at % size) {
            err_set(e, ERR_INPUT, "%s: tensor %.120s: its data would not be aligned; write tensors "
                    "of wider types first", path, entries[i].name);
        } else if (json_object_get(root, entries[i].name)) {
            err_set(e, ERR_INPUT, "%s: tensor %.120s: two have this name", path, entries[i].name);
        } else if (!whole || !(item = json_pack("{s:s, s:O, s:[I, I]}", "dtype", dtype_name(t->dtype),
                                                "shape", shape, "data_offsets", (json_int_t)at,
                                                (json_int_t)end))) {
            err_set(e, ERR_MEMORY, "%s: no memory for the header of %zu tensors", path, count);
        } else if (json_object_set_new(root, entries[i].name, item) < 0) {
            err_set(e, ERR_INPUT, "%s: tensor %.120s: the name is not UTF-8", path, entries[i].name);
        } else {
            at = end;
            json_decref(shape);
            continue;
        }
        json_decref(shape);
        json_decref(root);
        return NULL;
    }
    if (root)
        text = json_dumps(root, JSON_COMPACT);
    if (!text)
        err_set(e, ERR_MEMORY, "%s: no memory for the header of %zu tensors", path, count);
    json_decref(root);
    *data_bytes = at;
    return text;
}

bool safetensors_create(struct safetensors_writer **out, const char *path,
                        const struct safetensors_entry *entries, size_t count, struct err *e)
{
    *out = NULL;
    uint64_t data_bytes;
    char *text = header_text(path, entries, count, &data_bytes, e);
    if (!text)
        return false;
    bool ok = false;
    struct safetensors_writer *w = NULL;
    size_t length = strlen(text), padded = (length + 7) & ~(size_t)7;
    if (padded > HEADER_MAX) {
        err_set(e, ERR_INPUT, "%s: the header of %zu tensors would have %zu bytes, at most %d are "
                "allowed", path, count, padded, HEADER_MAX);
        goto done;
    }
    w = calloc(1, sizeof *w);
    if (!w) {
        err_set(e, ERR_MEMORY, "%s: no memory to write it", path);
        goto done;
    }
    if (!file_out_open(&w->out, path, e))
        goto done;
    unsigned char prefix[8];
    for (int i = 0; i < 8; i++)
        prefix[i] = (unsigned char)((uint64_t)padded >> 8 * i);
    w->total = 8 + padded + data_bytes;
    ok = file_out_write(&w->out, prefix, 8, e) && file_out_write(&w->out, text, length, e) &&
         file_out_write(&w->out, "       ", padded - length, e);
    if (!ok)
        file_out_abandon(&w->out);
done:
    free(text);
    if (!ok)
        free(w);
    else
        *out = w;
    return ok;
}

static bool writer_room(const struct safetensors_writer *w, uint64_t bytes, struct err *e)
{
    if (bytes > w->total - w->out.bytes)
        return err_set(e, ERR_INPUT, "%s: more data than its header declares", w->out.path);
    return true;
}

bool safetensors_append(struct safetensors_writer *w, const void *data, size_t bytes, struct err *e)
{
    return writer_room(w, bytes, e) && file_out_write(&w->out, data, bytes, e);
}

bool safetensors_skip(struct safetensors_writer *w, uint64_t bytes, struct err *e)
{
    return writer_room(w, bytes, e) && file_out_skip(&w->out, bytes, e);
}

bool safetensors_commit(struct safetensors_writer *w, struct err *e)
{
    bool ok = w->out.bytes == w->total;
    if (ok) {
        ok = file_out_commit(&w->out, e);
    } else {
        err_set(e, ERR_INPUT, "%s: less data than its header declares: %llu of %llu bytes",
                w->out.path, (unsigned long long)w->out.bytes, (unsigned long long)w->total);
        file_out_abandon(&w->out);
    }
    free(w);
    return ok;
}

void safetensors_abandon(struct safetensors_writer *w)
{
    if (!w)
        return;
    file_out_abandon(&w->out);
    free(w);
}

bool safetensors_write(const char *path, const struct safetensors_entry *entries, size_t count,
                       struct err *e)
{
    struct safetensors_writer *w;
    if (!safetensors_create(&w, path, entries, count, e))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!safetensors_append(w, entries[i].tensor.data, tensor_bytes(entries[i].tensor), e)) {
            safetensors_abandon(w);
            return false;
        }
    }
    return safetensors_commit(w, e);
}
