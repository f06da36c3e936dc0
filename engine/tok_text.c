/* tok_text.c - see tok_text.h. */
#include "engine/tok_text.h"

#include "engine/file.h"
#include "engine/config.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* --- growing arrays ------------------------------------------------------------------------ */

static bool no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for the tokenizer");
}

/* Room for `need` elements; doubles, so that n additions cost O(n). */
static bool grow(void **data, size_t *room, size_t need, size_t element_bytes)
{
    if (need <= *room)
        return true;
    size_t more = *room ? *room : 16;
    while (more < need) {
        if (more > SIZE_MAX / 2 / element_bytes)
            return false;
        more *= 2;
    }
    void *p = realloc(*data, more * element_bytes);
    if (!p)
        return false;
    *data = p;
    *room = more;
    return true;
}

bool tok_buf_add(struct tok_buf *b, const void *data, size_t bytes)
{
    if (!bytes)
        return true;
    void *p = b->data;
    bool ok = bytes <= SIZE_MAX - b->bytes && grow(&p, &b->room, b->bytes + bytes, 1);
    b->data = p;
    if (!ok)
        return false;
    memcpy(b->data + b->bytes, data, bytes);
    b->bytes += bytes;
    return true;
}

bool tok_buf_add_char(struct tok_buf *b, int32_t code_point)
{
    utf8proc_uint8_t utf8[4];
    return tok_buf_add(b, utf8, (size_t)utf8proc_encode_char(code_point, utf8));
}

void tok_buf_free(struct tok_buf *b)
{
    free(b->data);
    *b = (struct tok_buf){ 0 };
}

size_t tok_ids_place(const struct tok_ids *v, const char *at)
{
    return v->from ? v->from[at - v->text] : (size_t)(at - v->text);
}

bool tok_ids_add(struct tok_ids *v, int32_t id, const char *end)
{
    void *p = v->id, *ends = v->end;
    bool ok = grow(&p, &v->room, v->count + 1, sizeof *v->id);
    v->id = p;
    if (v->places) {
        ok = ok && grow(&ends, &v->end_room, v->count + 1, sizeof *v->end);
        v->end = ends;
        if (ok)
            v->end[v->count] = tok_ids_place(v, end);
    }
    if (ok)
        v->id[v->count++] = id;
    return ok;
}

void tok_ids_free(struct tok_ids *v)
{
    free(v->id);
    free(v->end);
    *v = (struct tok_ids){ 0 };
}

void tok_ids_fit(const struct tok_ids *v, const struct tok_ids *prefix, const struct tok_ids *suffix, size_t bytes,
                 int max_tokens, int *tokens, size_t *fits)
{
    size_t added = prefix->count + suffix->count, total = v->count + added, room = (size_t)max_tokens - added;
    *tokens = total < INT_MAX ? (int)total : INT_MAX;
    *fits = v->count <= room ? bytes : room ? v->watched : 0;
}

void tok_ids_write(const struct tok_ids *v, const struct tok_ids *prefix,
                   const struct tok_ids *suffix, int32_t pad, int32_t *ids, int max_tokens,
                   int *used, bool *truncated)
{
    size_t room = (size_t)max_tokens - prefix->count - suffix->count;
    size_t kept = v->count < room ? v->count : room;
    int n = 0;
    for (size_t i = 0; i < prefix->count; i++)
        ids[n++] = prefix->id[i];
    for (size_t i = 0; i < kept; i++)
        ids[n++] = v->id[i];
    for (size_t i = 0; i < suffix->count; i++)
        ids[n++] = suffix->id[i];
    *used = n;
    *truncated = kept < v->count;
    while (n < max_tokens)
        ids[n++] = pad;
}

/* --- text ------------------------------------------------------------------------------------ */

/* Length of the well-formed sequence at s, or 0 with *skip = length of the
 * maximal subpart (Unicode standard, table 3-7). */
static size_t utf8_length(const unsigned char *s, size_t bytes, size_t *skip)
{
    unsigned char c = s[0], lowest = 0x80, highest = 0xBF;
    size_t need;
    *skip = 1;
    if (c < 0x80)
        return 1;
    if (c >= 0xC2 && c <= 0xDF)
        need = 2;
    else if (c >= 0xE0 && c <= 0xEF)
        need = 3;
    else if (c >= 0xF0 && c <= 0xF4)
        need = 4;
    else
        return 0;
    if (c == 0xE0)
        lowest = 0xA0;
    else if (c == 0xED)
        highest = 0x9F;
    else if (c == 0xF0)
        lowest = 0x90;
    else if (c == 0xF4)
        highest = 0x8F;
    for (size_t i = 1; i < need; i++) {
        if (i >= bytes || s[i] < lowest || s[i] > highest) {
            *skip = i;
            return 0;
        }
        lowest = 0x80;
        highest = 0xBF;
    }
    return need;
}

bool tok_text_clean(struct tok_buf *out, const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t start = 0, i = 0, skip;
    if (!bytes)
        return true; /* text may be NULL */
    while (i < bytes) {
        size_t n = utf8_length(s + i, bytes - i, &skip);
        if (n) {
            i += n;
            continue;
        }
        if (!tok_buf_add(out, text + start, i - start) || !tok_buf_add(out, "\xEF\xBF\xBD", 3))
            return false;
        i += skip;
        start = i;
    }
    return tok_buf_add(out, text + start, bytes - start);
}

bool tok_text_valid(const char *text, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t skip;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = utf8_length(s + i, bytes - i, &skip);
        if (!n)
            return false;
    }
    return true;
}

int tok_text_char(const char *text, size_t bytes, int32_t *code_point)
{
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)bytes,
                                          code_point);
    if (n > 0)
        return (int)n;
    *code_point = 0xFFFD;
    return 1;
}

bool tok_text_space(int32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
           c == 0x205F || c == 0x3000;
}

/* Marks that Unicode 10 to 15 added. The reference's NFC knows Unicode 9: it
 * takes them for starters, neither moving them nor composing across them. */
static const struct { int32_t first, last; } late_mark[] = {
    { 0x07FD, 0x07FD },   { 0x0898, 0x089F },   { 0x08CA, 0x08D3 },   { 0x09FE, 0x09FE },
    { 0x0C3C, 0x0C3C },   { 0x0D3B, 0x0D3C },   { 0x0EBA, 0x0EBA },   { 0x1715, 0x1715 },
    { 0x1ABF, 0x1ACE },   { 0x1DF6, 0x1DFA },   { 0xA82C, 0xA82C },   { 0x10D24, 0x10D27 },
    { 0x10EAB, 0x10EAC }, { 0x10EFD, 0x10EFF }, { 0x10F46, 0x10F50 }, { 0x10F82, 0x10F85 },
    { 0x11070, 0x11070 }, { 0x1133B, 0x1133B }, { 0x1145E, 0x1145E }, { 0x11839, 0x1183A },
    { 0x1193D, 0x1193E }, { 0x11943, 0x11943 }, { 0x119E0, 0x119E0 }, { 0x11A34, 0x11A34 },
    { 0x11A47, 0x11A47 }, { 0x11A99, 0x11A99 }, { 0x11D42, 0x11D42 }, { 0x11D44, 0x11D45 },
    { 0x11D97, 0x11D97 }, { 0x11F41, 0x11F42 }, { 0x16FF0, 0x16FF1 }, { 0x1E08F, 0x1E08F },
    { 0x1E130, 0x1E136 }, { 0x1E2AE, 0x1E2AE }, { 0x1E2EC, 0x1E2EF }, { 0x1E4EC, 0x1E4EF },
};

static bool is_late_mark(int32_t c)
{
    for (size_t i = 0; i < sizeof late_mark / sizeof *late_mark && c >= late_mark[i].first; i++)
        if (c <= late_mark[i].last)
            return true;
    return false;
}

static int combining_class(int32_t c)
{
    int class = utf8proc_get_property(c)->combining_class;
    return class && is_late_mark(c) ? 0 : class;
}

/* Stable counting sort by combining class. utf8proc_map's own reordering steps
 * back one place at a time: quadratic on a long run of marks. */
static bool reorder_marks(int32_t *c, size_t count)
{
    int32_t *sorted = NULL;
    size_t room = 0;
    for (size_t i = 0; i < count;) {
        size_t at[257] = { 0 }, end = i;
        bool ordered = true;
        int before = 0;
        while (end < count) {
            int class = combining_class(c[end]);
            if (!class)
                break;
            ordered = ordered && class >= before;
            before = class;
            end++;
        }
        if (!ordered) {
            void *p = sorted;
            bool ok = grow(&p, &room, end - i, sizeof *sorted);
            sorted = p;
            if (!ok) {
                free(sorted);
                return false;
            }
            for (size_t k = i; k < end; k++)
                at[combining_class(c[k]) + 1]++;
            for (size_t k = 1; k < 257; k++)
                at[k] += at[k - 1];
            for (size_t k = i; k < end; k++)
                sorted[at[combining_class(c[k])]++] = c[k];
            memcpy(c + i, sorted, (end - i) * sizeof *c);
        }
        i = end > i ? end : i + 1;
    }
    free(sorted);
    return true;
}

bool tok_text_nfc(struct tok_buf *out, const char *text, size_t bytes)
{
    size_t ascii = 0;
    while (ascii < bytes && (unsigned char)text[ascii] < 0x80)
        ascii++;
    if (ascii == bytes)
        return tok_buf_add(out, text, bytes);

    /* No canonical decomposition gives more than 4 code points for one. */
    if (bytes > SIZE_MAX / 4 / sizeof(int32_t))
        return false;
    int32_t *c = malloc(bytes * 4 * sizeof *c);
    if (!c)
        return false;
    size_t count = 0;
    int32_t point;
    int boundary = 0;
    bool ok = false;
    for (size_t i = 0; i < bytes;) {
        i += (size_t)tok_text_char(text + i, bytes - i, &point);
        utf8proc_ssize_t n = utf8proc_decompose_char(point, c + count,
                                                     (utf8proc_ssize_t)(bytes * 4 - count),
                                                     UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (n < 0)
            goto done;
        count += (size_t)n;
    }
    if (!reorder_marks(c, count))
        goto done;
    for (size_t start = 0, end; start < count; start = end) {
        for (end = start; end < count && !is_late_mark(c[end]);)
            end++;
        utf8proc_ssize_t n = utf8proc_normalize_utf32(c + start, (utf8proc_ssize_t)(end - start),
                                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n < 0)
            goto done;
        for (utf8proc_ssize_t i = 0; i < n; i++)
            if (!tok_buf_add_char(out, c[start + (size_t)i]))
                goto done;
        for (; end < count && is_late_mark(c[end]); end++)
            if (!tok_buf_add_char(out, c[end]))
                goto done;
    }
    ok = true;
done:
    free(c);
    return ok;
}

bool tok_text_lower(struct tok_buf *out, const char *text, size_t bytes)
{
    int32_t c;
    for (size_t i = 0; i < bytes;) {
        i += (size_t)tok_text_char(text + i, bytes - i, &c);
        /* The one code point whose lower case is two (SpecialCasing.txt). */
        bool ok = c == 0x130 ? tok_buf_add(out, "i\xCC\x87", 3)
                             : tok_buf_add_char(out, utf8proc_tolower(c));
        if (!ok)
            return false;
    }
    return true;
}

/* \w of Rust's regex, near enough: its Other_Alphabetic symbols are the circled
 * and squared letters. */
static bool word_char(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) ||
               (c >= 0x1F130 && c <= 0x1F149) || (c >= 0x1F150 && c <= 0x1F169) ||
               (c >= 0x1F170 && c <= 0x1F189);
    }
}

/* --- trie ------------------------------------------------------------------------------------ */

enum { TRIE_NODES_MAX = 1 << 24 }; /* so that node and byte fit an edge key */

static uint32_t edge_place(const struct tok_trie *t, uint32_t key)
{
    uint32_t h = key * 2654435761u;
    return (h ^ h >> 15) & (t->edge_room - 1);
}

bool tok_trie_init(struct tok_trie *t)
{
    *t = (struct tok_trie){ .nodes = 1, .node_room = 64, .edge_room = 128 };
    t->value = malloc(t->node_room * sizeof *t->value);
    t->edge_key = malloc(t->edge_room * sizeof *t->edge_key);
    t->edge_child = calloc(t->edge_room, sizeof *t->edge_child);
    if (!t->value || !t->edge_key || !t->edge_child) {
        tok_trie_free(t);
        return false;
    }
    t->value[0] = -1;
    return true;
}

void tok_trie_free(struct tok_trie *t)
{
    free(t->value);
    free(t->edge_key);
    free(t->edge_child);
    *t = (struct tok_trie){ 0 };
}

static bool trie_grow(struct tok_trie *t)
{
    if (t->nodes >= TRIE_NODES_MAX)
        return false;
    if (t->nodes == t->node_room) {
        int32_t *value = realloc(t->value, (size_t)t->node_room * 2 * sizeof *value);
        if (!value)
            return false;
        t->value = value;
        t->node_room *= 2;
    }
    if (t->nodes < t->edge_room / 2)
        return true;
    struct tok_trie wider = *t;
    wider.edge_room = t->edge_room * 2;
    wider.edge_key = malloc((size_t)wider.edge_room * sizeof *wider.edge_key);
    wider.edge_child = calloc(wider.edge_room, sizeof *wider.edge_child);
    if (!wider.edge_key || !wider.edge_child) {
        free(wider.edge_key);
        free(wider.edge_child);
        return false;
    }
    for (uint32_t i = 0; i < t->edge_room; i++) {
        if (!t->edge_child[i])
            continue;
        uint32_t p = edge_place(&wider, t->edge_key[i]);
        while (wider.edge_child[p])
            p = (p + 1) & (wider.edge_room - 1);
        wider.edge_key[p] = t->edge_key[i];
        wider.edge_child[p] = t->edge_child[i];
    }
    free(t->edge_key);
    free(t->edge_child);
    *t = wider;
    return true;
}

uint32_t tok_trie_step(const struct tok_trie *t, uint32_t node, unsigned char byte)
{
    uint32_t key = node << 8 | byte;
    for (uint32_t p = edge_place(t, key); t->edge_child[p]; p = (p + 1) & (t->edge_room - 1))
        if (t->edge_key[p] == key)
            return t->edge_child[p];
    return 0;
}

bool tok_trie_put(struct tok_trie *t, const char *key, size_t bytes, int32_t value)
{
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint32_t child = tok_trie_step(t, node, (unsigned char)key[i]);
        if (!child) {
            if (!trie_grow(t))
                return false;
            uint32_t edge = node << 8 | (unsigned char)key[i], p = edge_place(t, edge);
            while (t->edge_child[p])
                p = (p + 1) & (t->edge_room - 1);
            child = t->nodes++;
            t->edge_key[p] = edge;
            t->edge_child[p] = child;
            t->value[child] = -1;
        }
        node = child;
    }
    t->value[node] = value;
    return true;
}

int32_t tok_trie_get(const struct tok_trie *t, const char *key, size_t bytes)
{
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        node = tok_trie_step(t, node, (unsigned char)key[i]);
        if (!node)
            return -1;
    }
    return t->value[node];
}

/* --- side files -------------------------------------------------------------------------------- */

static json_t *read_or_empty(const char *dir, const char *name, struct err *e)
{
    char path[FILE_PATH_MAX];
    if (!file_join(path, dir, name, e))
        return NULL;
    if (file_exists(path))
        /* As reals: transformers writes "model_max_length": 1000000000000000019884624838656. */
        return config_read(path, TOK_FILE_LIMIT, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, e);
    json_t *empty = json_object();
    if (!empty)
        no_memory(e);
    return empty;
}

bool tok_config_open(struct tok_config *c, const char *dir, struct err *e)
{
    *c = (struct tok_config){ 0 };
    c->config = read_or_empty(dir, "tokenizer_config.json", e);
    if (!c->config)
        return false;
    /* transformers reads the older files only if the newer one lists no tokens. */
    bool complete = json_object_get(c->config, "added_tokens_decoder") != NULL;
    c->map = complete ? json_object() : read_or_empty(dir, "special_tokens_map.json", e);
    c->added = complete ? json_object() : read_or_empty(dir, "added_tokens.json", e);
    if (c->map && c->added)
        return true;
    no_memory(e); /* keeps an error that is already there */
    tok_config_close(c);
    return false;
}

void tok_config_close(struct tok_config *c)
{
    json_decref(c->config);
    json_decref(c->map);
    json_decref(c->added);
    *c = (struct tok_config){ 0 };
}

/* A named token is a string or an object with "content". */
static const json_t *token_content(const json_t *v)
{
    const json_t *content = json_is_object(v) ? json_object_get(v, "content") : v;
    return json_is_string(content) ? content : NULL;
}

static const json_t *named_token(const struct tok_config *c, const char *key)
{
    const json_t *v = json_object_get(c->map, key);
    return v ? v : json_object_get(c->config, key);
}

const char *tok_config_name(const struct tok_config *c, const char *key, const char *otherwise)
{
    const json_t *content = token_content(named_token(c, key));
    return content ? json_string_value(content) : otherwise;
}

/* --- added tokens ------------------------------------------------------------------------------ */

bool tok_added_init(struct tok_added *a, const struct tok_trie *vocab, int32_t vocab_size)
{
    *a = (struct tok_added){ .vocab = vocab, .vocab_size = vocab_size, .next_id = vocab_size };
    if (tok_trie_init(&a->by_content) && tok_trie_init(&a->raw) && tok_trie_init(&a->normalized))
        return true;
    tok_added_free(a);
    return false;
}

void tok_added_free(struct tok_added *a)
{
    for (size_t i = 0; i < a->count; i++)
        free(a->token[i].content);
    free(a->token);
    tok_trie_free(&a->by_content);
    tok_trie_free(&a->raw);
    tok_trie_free(&a->normalized);
    *a = (struct tok_added){ 0 };
}

/* The first one with a content wins. */
static bool added_put(struct tok_added *a, const char *content, size_t bytes,
                      struct tok_added_token flags, struct err *e)
{
    if (!bytes || tok_trie_get(&a->by_content, content, bytes) >= 0)
        return true;
    void *p = a->token;
    bool ok = grow(&p, &a->room, a->count + 1, sizeof *a->token);
    a->token = p;
    char *copy = ok ? malloc(bytes + 1) : NULL;
    if (!copy || !tok_trie_put(&a->by_content, content, bytes, (int32_t)a->count)) {
        free(copy);
        return no_memory(e);
    }
    memcpy(copy, content, bytes);
    copy[bytes] = 0;
    flags.content = copy;
    flags.bytes = bytes;
    flags.id = tok_trie_get(a->vocab, content, bytes);
    if (flags.id < 0)
        flags.id = a->next_id;
    /* As the reference numbers them: past the vocabulary and past every id
     * already given out there. */
    if (flags.id >= a->next_id)
        a->next_id = flags.id + 1;
    a->token[a->count++] = flags;
    return true;
}

bool tok_added_special(struct tok_added *a, const char *content, size_t bytes, struct err *e)
{
    return tok_added_plain(a, content, bytes, false, e);
}

bool tok_added_plain(struct tok_added *a, const char *content, size_t bytes, bool normalized,
                     struct err *e)
{
    return added_put(a, content, bytes, (struct tok_added_token){ .normalized = normalized }, e);
}

/* v: a string, or an object as tokenizer.json and tokenizer_config.json write it. */
static bool added_put_json(struct tok_added *a, const json_t *v, bool special, const char *dir,
                           const char *where, struct err *e)
{
    const json_t *content = token_content(v);
    if (!content)
        return err_set(e, ERR_DAMAGED, "%s: %s: expected a token (a string, or an object with "
                                     "\"content\"), found something else", dir, where);
    special = special || json_is_true(json_object_get(v, "special"));
    const json_t *normalized = json_object_get(v, "normalized");
    struct tok_added_token flags = {
        .single_word = json_is_true(json_object_get(v, "single_word")),
        .lstrip = json_is_true(json_object_get(v, "lstrip")),
        .rstrip = json_is_true(json_object_get(v, "rstrip")),
        .normalized = normalized ? json_is_true(normalized) : !special,
    };
    return added_put(a, json_string_value(content), json_string_length(content), flags, e);
}

struct numbered { long id; const json_t *token; };

static int by_id(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;
    return (x->id > y->id) - (x->id < y->id);
}

/* "added_tokens_decoder": { "32000": { "content": ... }, ... }, in the order of the ids. */
static bool added_from_decoder(struct tok_added *a, json_t *decoder, const char *dir,
                               struct err *e)
{
    const char *where = "tokenizer_config.json, added_tokens_decoder";
    if (!json_is_object(decoder))
        return err_set(e, ERR_DAMAGED, "%s: %s: expected an object", dir, where);
    size_t count = 0;
    struct numbered *list = malloc((json_object_size(decoder) + 1) * sizeof *list);
    if (!list)
        return no_memory(e);
    const char *key;
    json_t *value;
    json_object_foreach(decoder, key, value)
        list[count++] = (struct numbered){ strtol(key, NULL, 10), value };
    qsort(list, count, sizeof *list, by_id);
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        ok = added_put_json(a, list[i].token, false, dir, where, e);
    free(list);
    return ok;
}

bool tok_added_from_files(struct tok_added *a, const struct tok_config *c,
                          const json_t *file_tokens, const char *dir, struct err *e)
{
    json_t *decoder = json_object_get(c->config, "added_tokens_decoder");
    if (decoder)
        return added_from_decoder(a, decoder, dir, e);
    if (file_tokens && !json_is_null(file_tokens) && !json_is_array(file_tokens))
        return err_set(e, ERR_DAMAGED, "%s/tokenizer.json: added_tokens: expected a list", dir);
    size_t i;
    json_t *value;
    json_array_foreach(file_tokens, i, value)
        if (!added_put_json(a, value, false, dir, "tokenizer.json, added_tokens", e))
            return false;
    const char *key;
    json_object_foreach(c->added, key, value)
        if (!tok_added_plain(a, key, strlen(key), true, e))
            return false;
    return true;
}

static bool added_list(struct tok_added *a, const json_t *list, const char *dir, const char *key,
                       struct err *e)
{
    size_t i;
    json_t *value;
    json_array_foreach(list, i, value)
        if (!added_put_json(a, value, true, dir, key, e))
            return false;
    return true;
}

bool tok_added_named(struct tok_added *a, const struct tok_config *c, const char *dir,
                     struct err *e)
{
    static const char *const name[] = { "bos_token", "eos_token",  "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token" };
    static const char *const list[] = { "extra_special_tokens", "additional_special_tokens" };
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        const json_t *v = named_token(c, name[i]);
        if (token_content(v) && !added_put_json(a, v, true, dir, name[i], e))
            return false;
    }
    for (size_t i = 0; i < 2; i++)
        if (!added_list(a, json_object_get(c->map, list[i]), dir, list[i], e) ||
            !added_list(a, json_object_get(c->config, list[i]), dir, list[i], e))
            return false;
    return true;
}

int32_t tok_added_id(const struct tok_added *a, const char *content)
{
    int32_t i = tok_trie_get(&a->by_content, content, strlen(content));
    return i >= 0 ? a->token[i].id : tok_trie_get(a->vocab, content, strlen(content));
}

bool tok_added_finish(struct tok_added *a, tok_normalize *normalize, const void *context)
{
    struct tok_buf form = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < a->count; i++) {
        const struct tok_added_token *t = &a->token[i];
        if (!t->normalized) {
            ok = tok_trie_put(&a->raw, t->content, t->bytes, (int32_t)i);
            continue;
        }
        bool stripped = false;
        form.bytes = 0;
        ok = normalize(context, &form, t->content, t->bytes, &stripped);
        /* Two tokens with one normal form: the first is found. */
        if (ok && form.bytes && tok_trie_get(&a->normalized, form.data, form.bytes) < 0)
            ok = tok_trie_put(&a->normalized, form.data, form.bytes, (int32_t)i);
    }
    tok_buf_free(&form);
    return ok;
}

/* Start of the code point that ends before text[i]; i > 0. */
static size_t char_before(const char *text, size_t i)
{
    do
        i--;
    while (i && ((unsigned char)text[i] & 0xC0) == 0x80);
    return i;
}

static bool inside_word(const char *text, size_t bytes, size_t start, size_t end)
{
    int32_t c;
    if (start) {
        size_t before = char_before(text, start);
        tok_text_char(text + before, start - before, &c);
        if (word_char(c))
            return true;
    }
    if (end == bytes)
        return false;
    tok_text_char(text + end, bytes - end, &c);
    return word_char(c);
}

/* The longest token that starts at text[at]: its index, or -1. */
static int32_t longest_match(const struct tok_trie *t, const char *text, size_t bytes, size_t at,
                             size_t *end)
{
    int32_t found = -1;
    uint32_t node = 0;
    for (size_t i = at; i < bytes; i++) {
        node = tok_trie_step(t, node, (unsigned char)text[i]);
        if (!node)
            break;
        if (t->value[node] >= 0) {
            found = t->value[node];
            *end = i + 1;
        }
    }
    return found;
}

struct cut { size_t start, end; int32_t token; }; /* token -1: text */

struct cuts { struct cut *cut; size_t count, room; };

static bool cuts_add(struct cuts *v, size_t start, size_t end, int32_t token)
{
    void *p = v->cut;
    bool ok = grow(&p, &v->room, v->count + 1, sizeof *v->cut);
    v->cut = p;
    if (ok)
        v->cut[v->count++] = (struct cut){ start, end, token };
    return ok;
}

static bool find_cuts(const struct tok_added *a, const struct tok_trie *look_for,
                      const char *text, size_t bytes, struct cuts *v)
{
    size_t done = 0;
    for (size_t i = 0; i < bytes;) {
        size_t end;
        int32_t index = longest_match(look_for, text, bytes, i, &end);
        if (index < 0) {
            i++;
            continue;
        }
        const struct tok_added_token *t = &a->token[index];
        size_t start = i;
        i = end;
        if (t->single_word && inside_word(text, bytes, start, end))
            continue;
        int32_t c;
        while (t->lstrip && start > done) {
            size_t before = char_before(text, start);
            tok_text_char(text + before, start - before, &c);
            if (!tok_text_space(c))
                break;
            start = before;
        }
        while (t->rstrip && end < bytes) {
            int n = tok_text_char(text + end, bytes - end, &c);
            if (!tok_text_space(c))
                break;
            end += (size_t)n;
        }
        if ((done < start && !cuts_add(v, done, start, -1)) || !cuts_add(v, start, end, index))
            return false;
        done = end;
    }
    return done == bytes || cuts_add(v, done, bytes, -1);
}

static bool cut_normalized(const struct tok_added *a, const struct tok_buf *text, bool first,
                           tok_encode *encode, const void *context, struct tok_ids *out,
                           struct err *e)
{
    struct cuts v = { 0 };
    bool ok = find_cuts(a, &a->normalized, text->data, text->bytes, &v) || no_memory(e);
    for (size_t i = 0; ok && i < v.count && out->count <= out->enough; i++) {
        const struct cut *c = &v.cut[i];
        if (c->token >= 0)
            ok = tok_ids_add(out, a->token[c->token].id, text->data + c->end) || no_memory(e);
        else
            ok = encode(context, text->data + c->start, c->end - c->start,
                        first && c->start == 0, out, e);
    }
    free(v.cut);
    return ok;
}

/* Of `at` or the character's start before it. */
static size_t char_start(const char *text, size_t bytes, size_t at)
{
    while (at && at < bytes && ((unsigned char)text[at] & 0xC0) == 0x80)
        at--;
    return at;
}

/* Has the normal form of the characters in the first `at` bytes at most `most` bytes? */
static bool normal_fits(const char *text, size_t bytes, size_t at, tok_normalize *normalize, const void *context,
                        size_t most, struct tok_buf *form, bool *ok)
{
    bool stripped = false;
    form->bytes = 0;
    *ok = *ok && normalize(context, form, text, char_start(text, bytes, at), &stripped);
    return form->bytes <= most;
}

/* *place: bytes of the longest beginning of text whose normal form has at most `most` bytes. That is
 * looked for from the front, because a text may be very long. */
static bool place_before_normal(const char *text, size_t bytes, tok_normalize *normalize, const void *context,
                                size_t most, size_t *place)
{
    struct tok_buf form = { 0 };
    size_t low = 0, high = bytes / 2 <= most + 32 ? bytes : 2 * most + 64;
    bool ok = true;
    while (normal_fits(text, bytes, high, normalize, context, most, &form, &ok) && low < high) {
        low = high;
        high = bytes / 2 <= high ? bytes : 2 * high;
    }
    while (ok && high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (normal_fits(text, bytes, middle, normalize, context, most, &form, &ok))
            low = middle;
        else
            high = middle;
    }
    tok_buf_free(&form);
    *place = char_start(text, bytes, low);
    return ok;
}

bool tok_added_cut(const struct tok_added *a, const char *text, size_t bytes,
                   tok_normalize *normalize, tok_encode *encode, const void *context,
                   struct tok_ids *out, struct err *e)
{
    struct cuts v = { 0 };
    struct tok_buf form = { 0 };
    bool ok = find_cuts(a, &a->raw, text, bytes, &v) || no_memory(e);
    for (size_t i = 0; ok && i < v.count && out->count <= out->enough; i++) {
        const struct cut *c = &v.cut[i];
        size_t before = out->count;
        out->from = NULL;
        out->text = text;
        if (c->token >= 0) {
            ok = tok_ids_add(out, a->token[c->token].id, text + c->end) || no_memory(e);
            if (out->watch == before)
                out->watched = c->end;
            continue;
        }
        bool stripped = false;
        form.bytes = 0;
        ok = normalize(context, &form, text + c->start, c->end - c->start, &stripped) || no_memory(e);
        out->text = form.data;
        ok = ok && cut_normalized(a, &form, c->start == 0 && !stripped, encode, context, out, e);
        if (ok && out->places && out->watch >= before && out->watch < out->count) {
            ok = place_before_normal(text + c->start, c->end - c->start, normalize, context, out->end[out->watch],
                                     &out->watched) || no_memory(e);
            out->watched += c->start;
        }
    }
    tok_buf_free(&form);
    free(v.cut);
    return ok;
}
