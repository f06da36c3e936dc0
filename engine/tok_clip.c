/* tok_clip.c - see tok_clip.h.
 *
 * Byte-pair encoding of one word: symbols in a doubly linked list, candidate
 * merges in a heap ordered by (rank, position). An entry is stale when the pair
 * at its position no longer gives its new symbol, and is then dropped. */
#include "engine/tok_clip.h"

#include "engine/config.h"
#include "engine/file.h"
#include "engine/tok_text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct merge { int32_t left, right, rank, made; }; /* made -1: a free place */

struct tok_clip {
    struct tok_trie vocab;
    struct tok_added added;
    struct tok_ids bos, eos; /* one id each */
    int32_t pad, unk;        /* unk -1: the vocabulary has none */
    int32_t byte[256], last_byte[256]; /* ids of a byte inside and at the end of a word */
    struct merge *merge;               /* open addressing */
    uint32_t merge_room;               /* a power of two */
    int id_limit;
};

/* --- loading ----------------------------------------------------------------------------------- */

static bool no_memory(const char *dir, struct err *e)
{
    return err_set(e, ERR_MEMORY, "%s: no memory for the tokenizer", dir);
}

/* GPT-2's printable stand-in for a byte. */
static int32_t byte_char(int b)
{
    static const struct { int first, last; } kept[] = { { 33, 126 }, { 161, 172 }, { 174, 255 } };
    int moved = 0;
    for (int i = 0, c = 0; i < 3; i++) {
        if (b < kept[i].first)
            return 256 + moved + (b - c);
        if (b <= kept[i].last)
            return b;
        moved += kept[i].first - c;
        c = kept[i].last + 1;
    }
    return b;
}

static bool load_vocab(struct tok_clip *t, json_t *vocab, const char *path, struct err *e)
{
    if (!json_is_object(vocab) || !json_object_size(vocab))
        return err_set(e, ERR_DAMAGED, "%s: the vocabulary: expected an object of token: id pairs",
                       path);
    const char *token;
    json_t *id;
    json_object_foreach(vocab, token, id) {
        json_int_t n = json_is_integer(id) ? json_integer_value(id) : -1;
        if (n < 0 || n >= INT32_MAX / 2)
            return err_set(e, ERR_DAMAGED, "%s: token \"%.60s\": expected an id >= 0 and < 2^30, "
                                         "found another value", path, token);
        if (!tok_trie_put(&t->vocab, token, strlen(token), (int32_t)n))
            return err_set(e, ERR_MEMORY, "%s: no memory for the vocabulary", path);
        if (n >= t->id_limit)
            t->id_limit = (int)n + 1;
    }
    for (int b = 0; b < 256; b++) {
        char key[8];
        size_t n = (size_t)utf8proc_encode_char(byte_char(b), (utf8proc_uint8_t *)key);
        memcpy(key + n, "</w>", 4);
        t->byte[b] = tok_trie_get(&t->vocab, key, n);
        t->last_byte[b] = tok_trie_get(&t->vocab, key, n + 4);
    }
    return true;
}

static struct merge *merge_place(const struct tok_clip *t, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    uint32_t p = (uint32_t)(h >> 32) & (t->merge_room - 1);
    while (t->merge[p].made >= 0 && (t->merge[p].left != left || t->merge[p].right != right))
        p = (p + 1) & (t->merge_room - 1);
    return &t->merge[p];
}

static bool merges_init(struct tok_clip *t, size_t count)
{
    t->merge_room = 16;
    while (t->merge_room / 2 < count)
        t->merge_room *= 2;
    t->merge = malloc(t->merge_room * sizeof *t->merge);
    for (uint32_t i = 0; t->merge && i < t->merge_room; i++)
        t->merge[i].made = -1;
    return t->merge != NULL;
}

/* text is "left right" with the space at `space`. A pair listed twice keeps its last rank. */
static bool merge_put(struct tok_clip *t, const char *text, size_t bytes, size_t space,
                      int32_t rank, struct tok_buf *joined, const char *path, struct err *e)
{
    joined->bytes = 0;
    if (!tok_buf_add(joined, text, space) ||
        !tok_buf_add(joined, text + space + 1, bytes - space - 1))
        return no_memory(path, e);
    struct merge m = {
        .left = tok_trie_get(&t->vocab, text, space),
        .right = tok_trie_get(&t->vocab, text + space + 1, bytes - space - 1),
        .rank = rank,
        .made = tok_trie_get(&t->vocab, joined->data, joined->bytes),
    };
    if (m.left < 0 || m.right < 0 || m.made < 0)
        return err_set(e, ERR_DAMAGED, "%s: merge %d (\"%.*s\"): one of the two tokens or their "
                                     "union is not in the vocabulary", path, (int)rank + 1,
                       bytes > 60 ? 60 : (int)bytes, text);
    *merge_place(t, m.left, m.right) = m;
    return true;
}

static bool merge_parse(struct tok_clip *t, const char *text, size_t bytes, int32_t rank,
                        struct tok_buf *joined, const char *path, struct err *e)
{
    const char *space = memchr(text, ' ', bytes);
    size_t at = space ? (size_t)(space - text) : bytes;
    if (!space || memchr(space + 1, ' ', bytes - at - 1))
        return err_set(e, ERR_DAMAGED, "%s: merge %d: expected two tokens with a space between "
                                     "them, found \"%.*s\"", path, (int)rank + 1,
                       bytes > 60 ? 60 : (int)bytes, text);
    return merge_put(t, text, bytes, at, rank, joined, path, e);
}

static bool load_merges_txt(struct tok_clip *t, const char *path, struct err *e)
{
    size_t bytes, lines = 1;
    char *text = file_read(path, TOK_FILE_LIMIT, &bytes, e);
    if (!text)
        return false;
    for (size_t i = 0; i < bytes; i++)
        lines += text[i] == '\n';
    struct tok_buf joined = { 0 };
    bool ok = merges_init(t, lines) || no_memory(path, e);
    int32_t rank = 0;
    for (size_t i = 0, next; ok && i < bytes; i = next) {
        const char *newline = memchr(text + i, '\n', bytes - i);
        size_t end = newline ? (size_t)(newline - text) : bytes;
        next = end + 1;
        if (end > i && text[end - 1] == '\r')
            end--;
        if (end == i || (end - i >= 8 && !memcmp(text + i, "#version", 8)))
            continue;
        ok = merge_parse(t, text + i, end - i, rank++, &joined, path, e);
    }
    tok_buf_free(&joined);
    free(text);
    return ok;
}

static bool load_merges_json(struct tok_clip *t, const json_t *merges, const char *path,
                             struct err *e)
{
    if (!json_is_array(merges))
        return err_set(e, ERR_DAMAGED, "%s: model.merges: expected a list", path);
    if (!merges_init(t, json_array_size(merges)))
        return no_memory(path, e);
    struct tok_buf pair = { 0 }, joined = { 0 };
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        const json_t *left = json_array_get(m, 0), *right = json_array_get(m, 1);
        if (json_is_string(m)) {
            ok = merge_parse(t, json_string_value(m), json_string_length(m), (int32_t)i, &joined,
                             path, e);
        } else if (json_array_size(m) == 2 && json_is_string(left) && json_is_string(right)) {
            pair.bytes = 0;
            ok = (tok_buf_add(&pair, json_string_value(left), json_string_length(left)) &&
                  tok_buf_add(&pair, " ", 1) &&
                  tok_buf_add(&pair, json_string_value(right), json_string_length(right))) ||
                 no_memory(path, e);
            ok = ok && merge_put(t, pair.data, pair.bytes, json_string_length(left), (int32_t)i,
                                 &joined, path, e);
        } else {
            ok = err_set(e, ERR_DAMAGED, "%s: merge %zu: expected \"left right\" or "
                                       "[\"left\", \"right\"]", path, i + 1);
        }
    }
    tok_buf_free(&pair);
    tok_buf_free(&joined);
    return ok;
}

static bool load_tokenizer_json(struct tok_clip *t, const json_t *root, const char *path,
                                struct err *e)
{
    const json_t *model = json_object_get(root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    const char *suffix = json_string_value(json_object_get(model, "end_of_word_suffix"));
    if (!json_is_object(model) || (type && strcmp(type, "BPE")))
        return err_set(e, ERR_DAMAGED, "%s: model.type: expected \"BPE\", found \"%.40s\"; not a "
                                     "CLIP tokenizer", path, type ? type : "nothing");
    if (suffix && strcmp(suffix, "</w>"))
        return err_set(e, ERR_DAMAGED, "%s: model.end_of_word_suffix: expected \"</w>\", found "
                                     "\"%.40s\"; not a CLIP tokenizer", path, suffix);
    return load_vocab(t, json_object_get(model, "vocab"), path, e) &&
           load_merges_json(t, json_object_get(model, "merges"), path, e);
}

static bool load_model(struct tok_clip *t, const char *dir, json_t **tokenizer, int32_t *vocab_size,
                       struct err *e)
{
    char path[FILE_PATH_MAX];
    if (!file_join(path, dir, "tokenizer.json", e))
        return false;
    if (file_exists(path)) {
        *tokenizer = config_read(path, TOK_FILE_LIMIT, JSON_ALLOW_NUL, e);
        if (!*tokenizer || !load_tokenizer_json(t, *tokenizer, path, e))
            return false;
        const json_t *model = json_object_get(*tokenizer, "model");
        *vocab_size = (int32_t)json_object_size(json_object_get(model, "vocab"));
        return true;
    }
    if (!file_join(path, dir, "vocab.json", e))
        return false;
    if (!file_exists(path))
        return err_set(e, ERR_MISSING, "%s: no tokenizer here: expected tokenizer.json, or "
                                     "vocab.json and merges.txt", dir);
    json_t *vocab = config_read(path, TOK_FILE_LIMIT, JSON_ALLOW_NUL, e);
    bool ok = vocab && load_vocab(t, vocab, path, e);
    *vocab_size = (int32_t)json_object_size(vocab);
    json_decref(vocab);
    return ok && file_join(path, dir, "merges.txt", e) && load_merges_txt(t, path, e);
}

static bool normalize(const void *context, struct tok_buf *out, const char *text, size_t bytes,
                      bool *stripped);

static bool load_special(struct tok_clip *t, const char *dir, const json_t *tokenizer,
                         int32_t vocab_size, struct err *e)
{
    struct tok_config c;
    if (!tok_config_open(&c, dir, e))
        return false;
    const char *end = "<|endoftext|>";
    const char *name[4] = { tok_config_name(&c, "bos_token", "<|startoftext|>"),
                            tok_config_name(&c, "eos_token", end),
                            tok_config_name(&c, "unk_token", end),
                            tok_config_name(&c, "pad_token", end) };
    bool ok = tok_added_init(&t->added, &t->vocab, vocab_size) || no_memory(dir, e);
    ok = ok && tok_added_from_files(&t->added, &c, json_object_get(tokenizer, "added_tokens"), dir, e) &&
         tok_added_named(&t->added, &c, dir, e);
    for (int i = 0; ok && i < 4; i++)
        ok = tok_added_special(&t->added, name[i], strlen(name[i]), e);
    if (ok) {
        t->unk = tok_trie_get(&t->vocab, name[2], strlen(name[2]));
        t->pad = tok_added_id(&t->added, name[3]);
        ok = (tok_ids_add(&t->bos, tok_added_id(&t->added, name[0]), NULL) &&
              tok_ids_add(&t->eos, tok_added_id(&t->added, name[1]), NULL) &&
              tok_added_finish(&t->added, normalize, NULL)) || no_memory(dir, e);
    }
    if (ok && (t->bos.id[0] < 0 || t->eos.id[0] < 0 || t->pad < 0))
        ok = err_set(e, ERR_DAMAGED, "%s: an empty name for the bos, eos or pad token", dir);
    for (size_t i = 0; ok && i < t->added.count; i++)
        if (t->added.token[i].id >= t->id_limit)
            t->id_limit = t->added.token[i].id + 1;
    tok_config_close(&c);
    return ok;
}

bool tok_clip_open(struct tok_clip **out, const char *dir, struct err *e)
{
    json_t *tokenizer = NULL;
    int32_t vocab_size = 0;
    struct tok_clip *t = calloc(1, sizeof *t);
    *out = NULL;
    bool ok = (t && tok_trie_init(&t->vocab)) || no_memory(dir, e);
    ok = ok && load_model(t, dir, &tokenizer, &vocab_size, e) &&
         load_special(t, dir, tokenizer, vocab_size, e);
    json_decref(tokenizer);
    if (!ok) {
        tok_clip_close(t);
        return false;
    }
    *out = t;
    return true;
}

void tok_clip_close(struct tok_clip *t)
{
    if (!t)
        return;
    tok_added_free(&t->added);
    tok_trie_free(&t->vocab);
    free(t->bos.id);
    free(t->eos.id);
    free(t->merge);
    free(t);
}

int tok_clip_id_limit(const struct tok_clip *t)
{
    return t->id_limit;
}

/* --- one word ------------------------------------------------------------------------------------ */

struct symbol { int32_t id, before, after; bool gone; }; /* before, after: -1 at an end */
struct candidate { int32_t rank, at, made; };

/* Scratch memory of one call. */
struct words {
    const struct tok_clip *t;
    struct symbol *symbol;
    struct candidate *heap;
    size_t room, heap_count;
    struct tok_ids *out;
    struct err *e;
};

static bool comes_first(struct candidate a, struct candidate b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_push(struct words *w, struct candidate c)
{
    size_t i = w->heap_count++;
    for (size_t up; i && comes_first(c, w->heap[up = (i - 1) / 2]); i = up)
        w->heap[i] = w->heap[up];
    w->heap[i] = c;
}

static struct candidate heap_pop(struct words *w)
{
    struct candidate top = w->heap[0], last = w->heap[--w->heap_count];
    size_t i = 0;
    for (size_t down; (down = 2 * i + 1) < w->heap_count; i = down) {
        if (down + 1 < w->heap_count && comes_first(w->heap[down + 1], w->heap[down]))
            down++;
        if (!comes_first(w->heap[down], last))
            break;
        w->heap[i] = w->heap[down];
    }
    w->heap[i] = last;
    return top;
}

static void propose(struct words *w, int32_t at)
{
    const struct symbol *s = &w->symbol[at];
    if (s->after < 0)
        return;
    const struct merge *m = merge_place(w->t, s->id, w->symbol[s->after].id);
    if (m->made >= 0)
        heap_push(w, (struct candidate){ m->rank, at, m->made });
}

static void merge_all(struct words *w, size_t count)
{
    w->heap_count = 0;
    for (size_t i = 0; i + 1 < count; i++)
        propose(w, (int32_t)i);
    while (w->heap_count) {
        struct candidate c = heap_pop(w);
        struct symbol *left = &w->symbol[c.at];
        if (left->gone || left->after < 0)
            continue;
        struct symbol *right = &w->symbol[left->after];
        /* The reference compares what the merge makes, not its rank. */
        if (merge_place(w->t, left->id, right->id)->made != c.made)
            continue;
        left->id = c.made;
        left->after = right->after;
        right->gone = true;
        if (left->after >= 0)
            w->symbol[left->after].before = c.at;
        if (left->before >= 0)
            propose(w, left->before);
        propose(w, c.at);
    }
}

static bool words_room(struct words *w, size_t bytes)
{
    if (bytes <= w->room)
        return true;
    size_t room = bytes < 64 ? 64 : bytes * 2;
    if (bytes > INT32_MAX / 8)
        return false;
    struct symbol *symbol = realloc(w->symbol, room * sizeof *symbol);
    if (symbol)
        w->symbol = symbol;
    /* bytes - 1 pairs at first, and at most two more for each of bytes - 1 merges. */
    struct candidate *heap = realloc(w->heap, room * 3 * sizeof *heap);
    if (heap)
        w->heap = heap;
    if (!symbol || !heap)
        return false;
    w->room = room;
    return true;
}

static bool encode_word(struct words *w, const char *text, size_t bytes)
{
    const struct tok_clip *t = w->t;
    if (!bytes || w->out->count > w->out->enough)
        return true;
    if (!words_room(w, bytes))
        return no_memory("tok_clip", w->e);
    for (size_t i = 0; i < bytes; i++) {
        unsigned char b = (unsigned char)text[i];
        int32_t id = i + 1 < bytes ? t->byte[b] : t->last_byte[b];
        if (id < 0)
            id = t->unk;
        if (id < 0)
            return err_set(w->e, ERR_INPUT, "tokenizer: the vocabulary has no token for byte "
                                            "0x%02X of the prompt, and no unknown token", b);
        w->symbol[i] = (struct symbol){ .id = id, .before = (int32_t)i - 1,
                                        .after = i + 1 < bytes ? (int32_t)i + 1 : -1 };
    }
    merge_all(w, bytes);
    for (int32_t i = 0, next; i >= 0; i = next) {
        next = w->symbol[i].after;
        if (!tok_ids_add(w->out, w->symbol[i].id, text + (next < 0 ? bytes : (size_t)next)))
            return no_memory("tok_clip", w->e);
    }
    return true;
}

/* --- text to words -------------------------------------------------------------------------------- */

static bool normalize(const void *context, struct tok_buf *out, const char *text, size_t bytes,
                      bool *stripped)
{
    (void)context;
    (void)stripped;
    struct tok_buf composed = { 0 }, spaced = { 0 };
    bool ok = tok_text_nfc(&composed, text, bytes), in_space = false;
    int32_t c;
    for (size_t i = 0; ok && i < composed.bytes;) {
        int n = tok_text_char(composed.data + i, composed.bytes - i, &c);
        bool space = tok_text_space(c);
        if (!space)
            ok = tok_buf_add(&spaced, composed.data + i, (size_t)n);
        else if (!in_space)
            ok = tok_buf_add(&spaced, " ", 1);
        in_space = space;
        i += (size_t)n;
    }
    ok = ok && tok_text_lower(out, spaced.data, spaced.bytes);
    tok_buf_free(&composed);
    tok_buf_free(&spaced);
    return ok;
}

enum kind { SPACE, LETTER, NUMBER, OTHER };

static enum kind kind_at(const char *text, size_t bytes, size_t at, size_t *next)
{
    int32_t c;
    *next = at + (size_t)tok_text_char(text + at, bytes - at, &c);
    if (tok_text_space(c))
        return SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND: case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

static size_t starts_with(const char *text, size_t bytes, const char *prefix)
{
    size_t n = strlen(prefix);
    return n <= bytes && !memcmp(text, prefix, n) ? n : 0;
}

/* One of the fixed alternatives that the pattern tries before any run. */
static size_t fixed_word(const char *text, size_t bytes)
{
    static const char *const fixed[] = { "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re",
                                         "'ve", "'m", "'ll", "'d" };
    size_t n = 0;
    if (*text == '<' || *text == '\'')
        for (size_t i = 0; !n && i < sizeof fixed / sizeof *fixed; i++)
            n = starts_with(text, bytes, fixed[i]);
    return n;
}

static bool encode_text(const void *context, const char *text, size_t bytes, bool first,
                        struct tok_ids *out, struct err *e)
{
    (void)first;
    struct words w = { .t = context, .out = out, .e = e };
    bool ok = true;
    for (size_t i = 0, end; ok && i < bytes && out->count <= out->enough; i = end) {
        size_t fixed = fixed_word(text + i, bytes - i), next;
        end = i + fixed;
        if (fixed > 3) {
            /* Byte level has a pattern of its own, which cuts these in three. */
            ok = encode_word(&w, text + i, 2) && encode_word(&w, text + i + 2, fixed - 4) &&
                 encode_word(&w, text + end - 2, 2);
            continue;
        }
        if (fixed) {
            ok = encode_word(&w, text + i, fixed);
            continue;
        }
        enum kind kind = kind_at(text, bytes, i, &end);
        while (end < bytes && (kind == LETTER || kind == OTHER) &&
               kind_at(text, bytes, end, &next) == kind)
            end = next;
        if (kind != SPACE)
            ok = encode_word(&w, text + i, end - i);
    }
    free(w.symbol);
    free(w.heap);
    return ok;
}

static bool find(const struct tok_clip *t, const char *text, size_t bytes, struct tok_ids *found, struct err *e)
{
    struct tok_buf clean = { 0 };
    bool ok = tok_text_clean(&clean, text, bytes) || no_memory("tok_clip", e);
    ok = ok && tok_added_cut(&t->added, clean.data, clean.bytes, normalize, encode_text, t, found, e);
    tok_buf_free(&clean);
    return ok;
}

bool tok_clip_encode(const struct tok_clip *t, const char *text, size_t bytes, int32_t *ids,
                     int max_tokens, int *used, bool *truncated, struct err *e)
{
    assert(max_tokens >= 2);
    struct tok_ids found = { .enough = (size_t)max_tokens };
    bool ok = find(t, text, bytes, &found, e);
    if (ok)
        tok_ids_write(&found, &t->bos, &t->eos, t->pad, ids, max_tokens, used, truncated);
    tok_ids_free(&found);
    return ok;
}

bool tok_clip_fit(const struct tok_clip *t, const char *text, size_t bytes, int max_tokens, int *tokens,
                  size_t *fits, struct err *e)
{
    assert(max_tokens >= 2);
    struct tok_ids found = { .enough = SIZE_MAX, .places = true,
                             .watch = (size_t)max_tokens - t->bos.count - t->eos.count - 1 };
    bool ok = find(t, text, bytes, &found, e);
    if (ok)
        tok_ids_fit(&found, &t->bos, &t->eos, bytes, max_tokens, tokens, fits);
    tok_ids_free(&found);
    return ok;
}
