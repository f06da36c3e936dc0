/* tok_t5.c - see tok_t5.h.
 *
 * Character map ("precompiled_charsmap"): a 32-bit little-endian byte count, a
 * Darts double-array trie of that size, then replacement texts, each ended by
 * NUL. A trie unit holds a label, an offset to its children and, in a leaf, the
 * place of the replacement. Nothing in it is trusted: every unit index and
 * every place is checked when it is used. */
#include "engine/tok_t5.h"

#include "engine/config.h"
#include "engine/file.h"
#include "engine/tok_text.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum { STEPS_MAX = 8, EXTRA_IDS = 100 };

struct charsmap {
    unsigned char *data; /* owned: units, then texts */
    size_t units, texts_bytes;
    const char *texts;
};

struct replace { /* a run of at least `least` of `what` becomes `by`; greedy: takes the whole run */
    char *what, *by;
    size_t what_bytes, by_bytes, least;
    bool greedy, any_space;
};

struct normal_step {
    enum { PRECOMPILED, STRIP, REPLACE, NFC, LOWERCASE } kind;
    bool left, right; /* STRIP */
    struct charsmap map;
    struct replace replace;
};

struct word_step {
    enum { WHITESPACE_SPLIT, METASPACE } kind;
    enum { NEVER, FIRST, ALWAYS } prepend;
    bool split;
    char mark[8]; /* UTF-8 of the replacement of a space */
};

struct tok_t5 {
    struct tok_trie pieces;
    double *score; /* by id */
    int32_t count, unk; /* unk -1: none */
    double unk_score;
    int32_t byte_piece[256]; /* <0x00> ...; all -1 without byte fall-back */
    bool byte_fallback;
    struct normal_step normal[STEPS_MAX];
    struct word_step word[STEPS_MAX];
    int normals, words;
    struct tok_added added;
    struct tok_ids prefix, suffix;
    int32_t pad;
    int id_limit;
};

/* U+2581, which stands for a space in pieces. */
static const char SPACE_MARK[] = "\xE2\x96\x81";

static bool no_memory(const char *where, struct err *e)
{
    return err_set(e, ERR_MEMORY, "%s: no memory for the tokenizer", where);
}

/* --- character map ------------------------------------------------------------------------------- */

static uint32_t little_endian(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Takes data over. */
static bool charsmap_init(struct charsmap *m, unsigned char *data, size_t bytes, const char *path,
                          struct err *e)
{
    size_t trie_bytes = bytes >= 4 ? little_endian(data) : 0;
    if (trie_bytes < 4 || trie_bytes > bytes - 4) {
        free(data);
        return err_set(e, ERR_DAMAGED, "%s: precompiled_charsmap: its trie should have %zu bytes, "
                                     "but %zu are there; the file is damaged", path, trie_bytes,
                       bytes >= 4 ? bytes - 4 : 0);
    }
    size_t texts_at = 4 + trie_bytes / 4 * 4;
    if (!tok_text_valid((char *)data + texts_at, bytes - texts_at)) {
        free(data);
        return err_set(e, ERR_DAMAGED, "%s: precompiled_charsmap: its texts are not UTF-8; the file "
                                     "is damaged", path);
    }
    *m = (struct charsmap){ .data = data, .units = trie_bytes / 4, .texts_bytes = bytes - texts_at,
                            .texts = (char *)data + texts_at };
    return true;
}

/* The unit at a place; an impossible place gives a unit that fits no byte. */
static uint32_t charsmap_unit(const struct charsmap *m, uint32_t at)
{
    return at < m->units ? little_endian(m->data + 4 + (size_t)at * 4) : 0x80000000u;
}

static uint32_t unit_offset(uint32_t unit)
{
    return (unit >> 10) << ((unit & 0x200) >> 6);
}

/* The replacement of the shortest prefix of text that has one (the reference
 * takes the shortest and drops the rest of the text), or NULL. */
static const char *charsmap_find(const struct charsmap *m, const char *text, size_t bytes)
{
    uint32_t at = unit_offset(charsmap_unit(m, 0));
    for (size_t i = 0; i < bytes && text[i]; i++) {
        at ^= (unsigned char)text[i];
        uint32_t unit = charsmap_unit(m, at);
        if ((unit & 0x800000FFu) != (unsigned char)text[i])
            return NULL;
        at ^= unit_offset(unit);
        if (!(unit >> 8 & 1))
            continue;
        uint32_t place = charsmap_unit(m, at) & 0x7FFFFFFFu;
        bool inside = place < m->texts_bytes && ((unsigned char)m->texts[place] & 0xC0) != 0x80;
        return inside ? m->texts + place : NULL;
    }
    return NULL;
}

static bool charsmap_add(const struct charsmap *m, struct tok_buf *out, const char *found)
{
    return tok_buf_add(out, found, strnlen(found, (size_t)(m->texts + m->texts_bytes - found)));
}

/* A cluster of fewer than 6 bytes is looked up as a whole, any other by its code points. */
static bool charsmap_cluster(const struct charsmap *m, struct tok_buf *out, const char *text,
                             size_t bytes)
{
    const char *found = bytes < 6 ? charsmap_find(m, text, bytes) : NULL;
    if (found)
        return charsmap_add(m, out, found);
    int32_t c;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = (size_t)tok_text_char(text + i, bytes - i, &c);
        found = charsmap_find(m, text + i, n);
        if (!(found ? charsmap_add(m, out, found) : tok_buf_add(out, text + i, n)))
            return false;
    }
    return true;
}

static bool charsmap_apply(const struct charsmap *m, struct tok_buf *out, const char *text,
                           size_t bytes)
{
    size_t start = 0;
    int32_t before = 0, c, state = 0;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = (size_t)tok_text_char(text + i, bytes - i, &c);
        if (i && utf8proc_grapheme_break_stateful(before, c, &state)) {
            if (!charsmap_cluster(m, out, text + start, i - start))
                return false;
            start = i;
        }
        before = c;
    }
    return start == bytes || charsmap_cluster(m, out, text + start, bytes - start);
}

/* --- normalizing ----------------------------------------------------------------------------------- */

static bool strip(const struct normal_step *s, struct tok_buf *out, const char *text, size_t bytes,
                  bool *stripped)
{
    size_t start = 0, end = 0;
    int32_t c;
    bool seen = false;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = (size_t)tok_text_char(text + i, bytes - i, &c);
        if (tok_text_space(c))
            continue;
        if (!seen)
            start = i;
        seen = true;
        end = i + n;
    }
    if (!s->left)
        start = 0;
    if (!s->right)
        end = bytes;
    *stripped = *stripped || start > 0;
    return end <= start || tok_buf_add(out, text + start, end - start);
}

/* Length of one `what` at the start of text, 0 if there is none. */
static size_t replace_match(const struct replace *r, const char *text, size_t bytes)
{
    int32_t c;
    if (!bytes)
        return 0;
    if (r->any_space) {
        size_t n = (size_t)tok_text_char(text, bytes, &c);
        return tok_text_space(c) ? n : 0;
    }
    return bytes >= r->what_bytes && !memcmp(text, r->what, r->what_bytes) ? r->what_bytes : 0;
}

static bool replace(const struct replace *r, struct tok_buf *out, const char *text, size_t bytes,
                    bool *stripped)
{
    for (size_t i = 0; i < bytes;) {
        size_t count = 0, end = i, n;
        while ((r->greedy || !count) && (n = replace_match(r, text + end, bytes - end))) {
            end += n;
            count++;
        }
        bool ok;
        if (count && count >= r->least) {
            ok = tok_buf_add(out, r->by, r->by_bytes);
            *stripped = *stripped || (!i && !r->by_bytes);
        } else {
            end = count ? end : i + 1; /* what matches begins with a whole character */
            ok = tok_buf_add(out, text + i, end - i);
        }
        if (!ok)
            return false;
        i = end;
    }
    return true;
}

static bool normal_apply(const struct normal_step *s, struct tok_buf *out, const char *text,
                         size_t bytes, bool *stripped)
{
    switch (s->kind) {
    case PRECOMPILED: return charsmap_apply(&s->map, out, text, bytes);
    case STRIP: return strip(s, out, text, bytes, stripped);
    case REPLACE: return replace(&s->replace, out, text, bytes, stripped);
    case NFC: return tok_text_nfc(out, text, bytes);
    case LOWERCASE: return tok_text_lower(out, text, bytes);
    }
    return false;
}

static bool normalize(const void *context, struct tok_buf *out, const char *text, size_t bytes,
                      bool *stripped)
{
    const struct tok_t5 *t = context;
    struct tok_buf from = { 0 }, to = { 0 };
    bool ok = tok_buf_add(&from, text, bytes);
    for (int i = 0; ok && i < t->normals; i++) {
        to.bytes = 0;
        ok = normal_apply(&t->normal[i], &to, from.data, from.bytes, stripped);
        struct tok_buf swap = from;
        from = to;
        to = swap;
    }
    ok = ok && tok_buf_add(out, from.data, from.bytes);
    tok_buf_free(&from);
    tok_buf_free(&to);
    return ok;
}

/* --- one word: the best path ------------------------------------------------------------------------- */

struct path_node { double score; uint32_t start; int32_t id; }; /* id -1: not reached */

static size_t char_bytes(const char *text, size_t bytes)
{
    unsigned char c = (unsigned char)*text;
    size_t n = c < 0x80 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    return n < bytes ? n : bytes;
}

static void reach(struct path_node *node, double score, size_t start, int32_t id)
{
    /* On equal scores the earlier start, hence the longer last piece, stays. */
    if (node->id < 0 || score > node->score)
        *node = (struct path_node){ score, (uint32_t)start, id };
}

static bool best_path(const struct tok_t5 *t, struct path_node *node, const char *text, size_t bytes,
                      struct err *e)
{
    for (size_t i = 0; i <= bytes; i++)
        node[i] = (struct path_node){ .id = -1 };
    for (size_t i = 0, n; i < bytes; i += n) {
        n = char_bytes(text + i, bytes - i);
        double so_far = node[i].score;
        bool single = false;
        uint32_t at = 0;
        for (size_t k = i; k < bytes && (at = tok_trie_step(&t->pieces, at, (unsigned char)text[k]));
             k++) {
            int32_t id = t->pieces.value[at];
            if (id < 0)
                continue;
            reach(&node[k + 1], so_far + t->score[id], i, id);
            single = single || k + 1 - i == n;
        }
        if (single)
            continue;
        if (t->unk < 0)
            return err_set(e, ERR_INPUT, "tokenizer: the prompt has a character that no piece "
                                         "covers, and the model has no unknown piece");
        reach(&node[i + n], so_far + t->unk_score, i, t->unk);
    }
    return true;
}

/* A stretch of unknown characters: the piece that it happens to be, else its
 * bytes if the model has a piece for each, else the unknown piece. Last id first. */
static bool add_unknown(const struct tok_t5 *t, const char *text, size_t bytes, struct tok_ids *out)
{
    int32_t id = tok_trie_get(&t->pieces, text, bytes);
    bool by_byte = id < 0 && t->byte_fallback;
    for (size_t i = 0; by_byte && i < bytes; i++)
        by_byte = t->byte_piece[(unsigned char)text[i]] >= 0;
    if (!by_byte)
        return tok_ids_add(out, id >= 0 ? id : t->unk, text + bytes);
    for (size_t i = bytes; i > 0; i--)
        if (!tok_ids_add(out, t->byte_piece[(unsigned char)text[i - 1]], text + i))
            return false;
    return true;
}

/* Adds the ids of the best path, which is known from its end: last id first. */
static bool add_path(const struct tok_t5 *t, const struct path_node *node, const char *text,
                     size_t bytes, struct tok_ids *out)
{
    size_t unknown_end = 0;
    for (size_t end = bytes; end > 0; end = node[end].start) {
        if (node[end].id == t->unk) {
            if (!unknown_end)
                unknown_end = end;
            continue;
        }
        if (unknown_end && !add_unknown(t, text + end, unknown_end - end, out))
            return false;
        unknown_end = 0;
        if (!tok_ids_add(out, node[end].id, text + end))
            return false;
    }
    return !unknown_end || add_unknown(t, text, unknown_end, out);
}

static bool encode_piece(const struct tok_t5 *t, const char *text, size_t bytes, struct tok_ids *out,
                         struct err *e)
{
    if (bytes >= UINT32_MAX / sizeof(struct path_node))
        return no_memory("tok_t5", e);
    struct path_node *node = malloc((bytes + 1) * sizeof *node);
    if (!node)
        return no_memory("tok_t5", e);
    size_t from = out->count;
    bool ok = best_path(t, node, text, bytes, e) &&
              (add_path(t, node, text, bytes, out) || no_memory("tok_t5", e));
    for (size_t i = from, k = out->count; i + 1 < k; i++) {
        int32_t swap = out->id[i];
        out->id[i] = out->id[--k];
        out->id[k] = swap;
        if (out->places) {
            size_t end = out->end[i];
            out->end[i] = out->end[k];
            out->end[k] = end;
        }
    }
    free(node);
    return ok;
}

/* --- text to words ------------------------------------------------------------------------------------- */

static bool words_from(const struct tok_t5 *t, int step, const char *text, size_t bytes, bool first,
                       struct tok_ids *out, struct err *e);

static bool whitespace_split(const struct tok_t5 *t, int step, const char *text, size_t bytes,
                             bool first, struct tok_ids *out, struct err *e)
{
    size_t start = 0;
    int32_t c;
    for (size_t i = 0, n; i < bytes && out->count <= out->enough; i += n) {
        n = (size_t)tok_text_char(text + i, bytes - i, &c);
        if (!tok_text_space(c))
            continue;
        if (i > start && !words_from(t, step + 1, text + start, i - start, first && !start, out, e))
            return false;
        start = i + n;
    }
    return start >= bytes || out->count > out->enough ||
           words_from(t, step + 1, text + start, bytes - start, first && !start, out, e);
}

/* For each place in the word that metaspace makes of text the one in what text was made of. A mark ends where
 * its blank does; `before`: there is one that no blank stands for. NULL: no memory. */
static size_t *metaspace_places(const struct tok_ids *out, const char *text, size_t bytes, size_t mark, bool before,
                                size_t word_bytes)
{
    size_t *from = malloc((word_bytes + 1) * sizeof *from), n = 0;
    if (!from)
        return NULL;
    for (size_t i = 0; before && i < mark; i++)
        from[n++] = tok_ids_place(out, text);
    for (size_t i = 0; i < bytes; i++)
        for (size_t k = 0; k < (text[i] == ' ' ? mark : 1); k++)
            from[n++] = tok_ids_place(out, text + i);
    from[n] = tok_ids_place(out, text + bytes);
    return from;
}

static bool metaspace(const struct tok_t5 *t, int step, const char *text, size_t bytes, bool first,
                      struct tok_ids *out, struct err *e)
{
    const struct word_step *s = &t->word[step];
    size_t mark = strlen(s->mark);
    struct tok_buf word = { 0 };
    bool starts = *text == ' ' || (bytes >= mark && !memcmp(text, s->mark, mark)), ok = true;
    bool before = !starts && (s->prepend == ALWAYS || (s->prepend == FIRST && first));
    const char *outer = out->text;
    const size_t *outer_from = out->from;
    size_t *from = NULL;
    if (before)
        ok = tok_buf_add(&word, s->mark, mark);
    for (size_t i = 0, n; ok && i < bytes; i += n) {
        const char *space = memchr(text + i, ' ', bytes - i);
        n = space ? (size_t)(space - text) - i : bytes - i;
        ok = tok_buf_add(&word, text + i, n);
        if (ok && space) {
            ok = tok_buf_add(&word, s->mark, mark);
            n++;
        }
    }
    if (ok && out->places) {
        ok = (from = metaspace_places(out, text, bytes, mark, before, word.bytes)) != NULL;
        out->text = word.data;
        out->from = from;
    }
    if (!ok)
        no_memory("tok_t5", e);
    size_t start = 0;
    for (size_t i = 1; ok && s->split && i < word.bytes && out->count <= out->enough; i++) {
        if (word.bytes - i < mark || memcmp(word.data + i, s->mark, mark))
            continue;
        ok = words_from(t, step + 1, word.data + start, i - start, first && !start, out, e);
        start = i;
    }
    ok = ok && words_from(t, step + 1, word.data + start, word.bytes - start, first && !start, out, e);
    out->text = outer;
    out->from = outer_from;
    free(from);
    tok_buf_free(&word);
    return ok;
}

static bool words_from(const struct tok_t5 *t, int step, const char *text, size_t bytes, bool first,
                       struct tok_ids *out, struct err *e)
{
    if (!bytes || out->count > out->enough)
        return true;
    if (step == t->words)
        return encode_piece(t, text, bytes, out, e);
    if (t->word[step].kind == WHITESPACE_SPLIT)
        return whitespace_split(t, step, text, bytes, first, out, e);
    return metaspace(t, step, text, bytes, first, out, e);
}

static bool encode_text(const void *context, const char *text, size_t bytes, bool first,
                        struct tok_ids *out, struct err *e)
{
    return words_from(context, 0, text, bytes, first, out, e);
}

static bool find(const struct tok_t5 *t, const char *text, size_t bytes, int max_tokens, struct tok_ids *found,
                 struct err *e)
{
    assert(max_tokens >= 1);
    if ((size_t)max_tokens < t->prefix.count + t->suffix.count)
        return err_set(e, ERR_INPUT, "tokenizer: %d tokens are too few: its template alone adds %zu",
                       max_tokens, t->prefix.count + t->suffix.count);
    struct tok_buf clean = { 0 };
    bool ok = tok_text_clean(&clean, text, bytes) || no_memory("tok_t5", e);
    ok = ok && tok_added_cut(&t->added, clean.data, clean.bytes, normalize, encode_text, t, found, e);
    tok_buf_free(&clean);
    return ok;
}

bool tok_t5_encode(const struct tok_t5 *t, const char *text, size_t bytes, int32_t *ids,
                   int max_tokens, int *used, bool *truncated, struct err *e)
{
    struct tok_ids found = { .enough = (size_t)max_tokens };
    bool ok = find(t, text, bytes, max_tokens, &found, e);
    if (ok)
        tok_ids_write(&found, &t->prefix, &t->suffix, t->pad, ids, max_tokens, used, truncated);
    tok_ids_free(&found);
    return ok;
}

bool tok_t5_fit(const struct tok_t5 *t, const char *text, size_t bytes, int max_tokens, int *tokens, size_t *fits,
                struct err *e)
{
    struct tok_ids found = { .enough = SIZE_MAX, .places = true,
                             .watch = (size_t)max_tokens - t->prefix.count - t->suffix.count - 1 };
    bool ok = find(t, text, bytes, max_tokens, &found, e);
    if (ok)
        tok_ids_fit(&found, &t->prefix, &t->suffix, bytes, max_tokens, tokens, fits);
    tok_ids_free(&found);
    return ok;
}

/* --- loading: pieces ------------------------------------------------------------------------------------- */

static bool pieces_init(struct tok_t5 *t, size_t count, const char *path, struct err *e)
{
    if (count >= INT32_MAX / 2)
        return err_set(e, ERR_DAMAGED, "%s: %zu pieces are too many", path, count);
    t->score = malloc((count + 1) * sizeof *t->score);
    return t->score || no_memory(path, e);
}

static bool pieces_add(struct tok_t5 *t, const char *piece, size_t bytes, double score,
                       const char *path, struct err *e)
{
    if (!isfinite(score))
        return err_set(e, ERR_DAMAGED, "%s: piece %d: its score is not a number", path, (int)t->count);
    t->score[t->count] = score;
    /* A piece listed twice counts with its last id. */
    if (bytes && !tok_trie_put(&t->pieces, piece, bytes, t->count))
        return no_memory(path, e);
    t->count++;
    return true;
}

static bool pieces_finish(struct tok_t5 *t, int64_t unk, const char *path, struct err *e)
{
    if (!t->count || unk >= t->count)
        return err_set(e, ERR_DAMAGED, "%s: unk_id %lld: the vocabulary has only %d pieces", path,
                       (long long)unk, (int)t->count);
    t->unk = unk < 0 ? -1 : (int32_t)unk;
    double lowest = t->score[0];
    for (int32_t i = 1; i < t->count; i++)
        lowest = fmin(lowest, t->score[i]);
    t->unk_score = lowest - 10.0; /* kUnkPenalty of SentencePiece */
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        t->byte_piece[b] = tok_trie_get(&t->pieces, name, strlen(name));
    }
    return true;
}

/* --- loading: tokenizer.json ------------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static bool unigram_from_json(struct tok_t5 *t, const json_t *model, const char *path, struct err *e)
{
    const char *type = text_of(model, "type");
    const json_t *vocab = json_object_get(model, "vocab"), *unk = json_object_get(model, "unk_id");
    if ((*type && strcmp(type, "Unigram")) || !json_is_array(vocab))
        return err_set(e, ERR_DAMAGED, "%s: model: expected \"Unigram\" with a list \"vocab\", found "
                                     "\"%.40s\"; not a T5 tokenizer", path, type);
    if (!pieces_init(t, json_array_size(vocab), path, e))
        return false;
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const json_t *entry = json_array_get(vocab, i);
        const json_t *piece = json_array_get(entry, 0), *score = json_array_get(entry, 1);
        if (!json_is_string(piece) || !json_is_number(score))
            return err_set(e, ERR_DAMAGED, "%s: model.vocab, entry %zu: expected [piece, score]", path, i);
        if (!pieces_add(t, json_string_value(piece), json_string_length(piece),
                        json_number_value(score), path, e))
            return false;
    }
    if (unk && !json_is_null(unk) && (!json_is_integer(unk) || json_integer_value(unk) < 0))
        return err_set(e, ERR_DAMAGED, "%s: model.unk_id: expected an index", path);
    t->byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    return pieces_finish(t, json_is_integer(unk) ? json_integer_value(unk) : -1, path, e);
}

static int base64_digit(char c)
{
    return c >= 'A' && c <= 'Z' ? c - 'A' : c >= 'a' && c <= 'z' ? c - 'a' + 26 :
           c >= '0' && c <= '9' ? c - '0' + 52 : c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Malloc'd bytes, or NULL with e set. */
static unsigned char *base64_decode(const char *text, size_t bytes, size_t *decoded,
                                    const char *path, struct err *e)
{
    unsigned char *out = malloc(bytes / 4 * 3 + 4);
    if (!out) {
        no_memory(path, e);
        return NULL;
    }
    size_t n = 0, padding = 0;
    uint32_t group = 0;
    while (padding < 2 && padding < bytes && text[bytes - 1 - padding] == '=')
        padding++;
    bool ok = bytes % 4 == 0;
    for (size_t i = 0; ok && i < bytes; i++) {
        int digit = i < bytes - padding ? base64_digit(text[i]) : 0;
        ok = digit >= 0;
        group = group << 6 | (uint32_t)digit;
        if (i % 4 == 3) {
            out[n++] = (unsigned char)(group >> 16);
            out[n++] = (unsigned char)(group >> 8);
            out[n++] = (unsigned char)group;
        }
    }
    if (!ok) {
        free(out);
        err_set(e, ERR_DAMAGED, "%s: precompiled_charsmap: not base64; the file is damaged", path);
        return NULL;
    }
    *decoded = n - padding;
    return out;
}

static bool replace_init(struct replace *r, const json_t *json, const char *path, struct err *e)
{
    const json_t *pattern = json_object_get(json, "pattern"), *by = json_object_get(json, "content");
    const json_t *plain = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const json_t *source = plain ? plain : regex;
    if (!json_is_string(source) || !json_is_string(by) || !json_string_length(source))
        return err_set(e, ERR_DAMAGED, "%s: normalizer Replace: expected a pattern and a content", path);
    const char *what = json_string_value(source);
    size_t bytes = json_string_length(source), what_bytes = bytes;
    *r = (struct replace){ .least = 1 };
    if (!plain) {
        static const char special[] = "\\^$.|?*+()[]{}";
        r->any_space = bytes >= 2 && !memcmp(what, "\\s", 2);
        what_bytes = r->any_space ? 2 : char_bytes(what, bytes);
        const char *rest = what + what_bytes; /* json strings end with NUL */
        char *end = NULL;
        bool known = r->any_space || !*what || !strchr(special, *what);
        if (!strcmp(rest, "+")) {
            r->greedy = true;
        } else if (*rest == '{' && rest[1] >= '1' && rest[1] <= '9') {
            r->least = strtoul(rest + 1, &end, 10);
            r->greedy = true;
            known = known && !strcmp(end, ",}");
        } else {
            known = known && what_bytes == bytes;
        }
        if (!known)
            return err_set(e, ERR_DAMAGED, "%s: normalizer Replace: this tokenizer does not know the "
                                         "pattern \"%.60s\" (known: one character or \\s, with + or "
                                         "{n,})", path, what);
    }
    r->what = malloc(what_bytes + 1);
    r->by = malloc(json_string_length(by) + 1);
    if (!r->what || !r->by)
        return no_memory(path, e);
    memcpy(r->what, what, what_bytes);
    memcpy(r->by, json_string_value(by), json_string_length(by));
    r->what_bytes = what_bytes;
    r->by_bytes = json_string_length(by);
    return true;
}

static bool precompiled_init(struct charsmap *m, const json_t *json, const char *path, struct err *e)
{
    const json_t *text = json_object_get(json, "precompiled_charsmap");
    size_t bytes;
    if (!json_is_string(text))
        return err_set(e, ERR_DAMAGED, "%s: normalizer Precompiled: expected a precompiled_charsmap", path);
    unsigned char *data = base64_decode(json_string_value(text), json_string_length(text), &bytes,
                                        path, e);
    return data && charsmap_init(m, data, bytes, path, e);
}

static bool too_many_steps(const char *path, struct err *e)
{
    return err_set(e, ERR_DAMAGED, "%s: more than %d normalizers or pre-tokenizers", path, STEPS_MAX);
}

static bool normalizer_from_json(struct tok_t5 *t, const json_t *json, const char *path,
                                 struct err *e)
{
    const char *type = text_of(json, "type");
    if (!json || json_is_null(json))
        return true;
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "normalizers"), i, part)
            if (!normalizer_from_json(t, part, path, e))
                return false;
        return true;
    }
    if (t->normals == STEPS_MAX)
        return too_many_steps(path, e);
    /* Counted at once: what a failed init leaves is freed with the rest. */
    struct normal_step *s = &t->normal[t->normals++];
    if (!strcmp(type, "Precompiled")) {
        s->kind = PRECOMPILED;
        return precompiled_init(&s->map, json, path, e);
    }
    if (!strcmp(type, "Replace")) {
        s->kind = REPLACE;
        return replace_init(&s->replace, json, path, e);
    }
    if (!strcmp(type, "Strip")) {
        s->kind = STRIP;
        s->left = json_is_true(json_object_get(json, "strip_left"));
        s->right = json_is_true(json_object_get(json, "strip_right"));
        return true;
    }
    s->kind = !strcmp(type, "NFC") ? NFC : LOWERCASE;
    if (strcmp(type, "NFC") && strcmp(type, "Lowercase"))
        return err_set(e, ERR_DAMAGED, "%s: normalizer \"%.40s\": not known here (known: Precompiled, "
                                     "Strip, Replace, NFC, Lowercase)", path, type);
    return true;
}

static bool metaspace_init(struct word_step *s, const json_t *json, const char *path, struct err *e)
{
    const json_t *mark = json_object_get(json, "replacement");
    const char *scheme = text_of(json, "prepend_scheme");
    const json_t *old = json_object_get(json, "add_prefix_space");
    s->kind = METASPACE;
    s->split = !json_is_false(json_object_get(json, "split"));
    s->prepend = !strcmp(scheme, "never") ? NEVER : !strcmp(scheme, "first") ? FIRST : ALWAYS;
    if (!*scheme && json_is_false(old))
        s->prepend = NEVER;
    const char *text = mark ? json_string_value(mark) : SPACE_MARK;
    if (!text || !*text || strlen(text) > 4 || char_bytes(text, strlen(text)) != strlen(text))
        return err_set(e, ERR_DAMAGED, "%s: pre-tokenizer Metaspace: replacement: expected one "
                                     "character", path);
    memcpy(s->mark, text, strlen(text) + 1);
    return true;
}

static bool words_from_json(struct tok_t5 *t, const json_t *json, const char *path, struct err *e)
{
    const char *type = text_of(json, "type");
    if (!json || json_is_null(json))
        return true;
    if (!strcmp(type, "Sequence")) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "pretokenizers"), i, part)
            if (!words_from_json(t, part, path, e))
                return false;
        return true;
    }
    if (t->words == STEPS_MAX)
        return too_many_steps(path, e);
    struct word_step *s = &t->word[t->words++];
    if (!strcmp(type, "Metaspace"))
        return metaspace_init(s, json, path, e);
    s->kind = WHITESPACE_SPLIT;
    if (strcmp(type, "WhitespaceSplit"))
        return err_set(e, ERR_DAMAGED, "%s: pre-tokenizer \"%.40s\": not known here (known: "
                                     "WhitespaceSplit, Metaspace)", path, type);
    return true;
}

static bool template_token(struct tok_ids *to, const json_t *processor, const char *name,
                           int id_bound, const char *path, struct err *e)
{
    const json_t *token = json_object_get(json_object_get(processor, "special_tokens"), name);
    const json_t *ids = json_object_get(token, "ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        json_int_t id = json_integer_value(json_array_get(ids, i));
        if (!json_is_integer(json_array_get(ids, i)) || id < 0 || id >= id_bound)
            return err_set(e, ERR_DAMAGED, "%s: post_processor, \"%.40s\": its id is not a token", path,
                           name);
        if (!tok_ids_add(to, (int32_t)id, NULL))
            return no_memory(path, e);
    }
    return json_array_size(ids) > 0 ||
           err_set(e, ERR_DAMAGED, "%s: post_processor: token \"%.40s\" has no ids", path, name);
}

static bool template_from_json(struct tok_t5 *t, const json_t *json, const char *path, struct err *e)
{
    const char *type = text_of(json, "type");
    if (strcmp(type, "TemplateProcessing"))
        return err_set(e, ERR_DAMAGED, "%s: post_processor \"%.40s\": expected TemplateProcessing",
                       path, type);
    int texts = 0;
    size_t i;
    json_t *part;
    json_array_foreach(json_object_get(json, "single"), i, part) {
        const json_t *special = json_object_get(part, "SpecialToken");
        if (json_object_get(part, "Sequence"))
            texts++;
        else if (!template_token(texts ? &t->suffix : &t->prefix, json, text_of(special, "id"),
                                 t->id_limit, path, e))
            return false;
    }
    return texts == 1 || err_set(e, ERR_DAMAGED, "%s: post_processor.single: expected the text once, "
                                               "found it %d times", path, texts);
}

/* --- loading: spiece.model, a protocol buffer --------------------------------------------------------------- */

struct proto { const unsigned char *at, *end; };

static bool proto_varint(struct proto *p, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 64 && p->at < p->end; shift += 7) {
        unsigned char c = *p->at++;
        *value |= (uint64_t)(c & 0x7F) << shift;
        if (c < 0x80)
            return true;
    }
    return false;
}

/* The next field. Wire type 0: value; 1, 5: value holds the bits; 2: inside. */
static bool proto_field(struct proto *p, uint32_t *number, int *wire, uint64_t *value,
                        struct proto *inside)
{
    uint64_t tag;
    if (!proto_varint(p, &tag))
        return false;
    *number = (uint32_t)(tag >> 3);
    *wire = (int)(tag & 7);
    size_t left, bytes = *wire == 1 ? 8 : *wire == 5 ? 4 : 0;
    if (*wire == 0)
        return proto_varint(p, value);
    if (*wire == 2) {
        if (!proto_varint(p, value) || *value > (uint64_t)(p->end - p->at))
            return false;
        *inside = (struct proto){ p->at, p->at + *value };
        p->at += *value;
        return true;
    }
    left = (size_t)(p->end - p->at);
    if (!bytes || left < bytes)
        return false;
    *value = 0;
    for (size_t i = 0; i < bytes; i++)
        *value |= (uint64_t)p->at[i] << (8 * i);
    p->at += bytes;
    return true;
}

/* Of sentencepiece_model.proto: the pieces' types. */
enum piece_type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4 };

struct piece { struct proto text; /* may be empty */ float score; enum piece_type type; };

static bool damaged(const char *path, const char *part, struct err *e)
{
    return err_set(e, ERR_DAMAGED, "%s: %s: not a SentencePiece model, or the file is damaged", path, part);
}

static bool piece_parse(struct proto p, struct piece *out)
{
    uint32_t number, bits;
    int wire;
    uint64_t value;
    struct proto inside;
    *out = (struct piece){ .type = NORMAL };
    while (p.at < p.end) {
        if (!proto_field(&p, &number, &wire, &value, &inside))
            return false;
        if (number == 1 && wire == 2) {
            out->text = inside;
        } else if (number == 2 && wire == 5) {
            bits = (uint32_t)value;
            memcpy(&out->score, &bits, sizeof out->score);
        } else if (number == 3 && wire == 0) {
            out->type = (enum piece_type)value;
        }
    }
    return out->text.at == NULL || tok_text_valid((const char *)out->text.at,
                                                  (size_t)(out->text.end - out->text.at));
}

static bool spiece_charsmap(struct tok_t5 *t, struct proto spec, const char *path, struct err *e)
{
    uint32_t number;
    int wire;
    uint64_t value;
    struct proto inside;
    while (spec.at < spec.end) {
        if (!proto_field(&spec, &number, &wire, &value, &inside))
            return damaged(path, "normalizer_spec", e);
        if (number != 2 || wire != 2 || inside.at == inside.end)
            continue;
        if (t->normals)
            return damaged(path, "normalizer_spec", e);
        size_t bytes = (size_t)(inside.end - inside.at);
        unsigned char *copy = malloc(bytes);
        if (!copy)
            return no_memory(path, e);
        memcpy(copy, inside.at, bytes);
        struct normal_step *s = &t->normal[t->normals++];
        s->kind = PRECOMPILED;
        if (!charsmap_init(&s->map, copy, bytes, path, e))
            return false;
    }
    return true;
}

static bool spiece_model_type(struct proto spec, const char *path, struct err *e)
{
    uint32_t number;
    int wire;
    uint64_t value;
    struct proto inside;
    while (spec.at < spec.end) {
        if (!proto_field(&spec, &number, &wire, &value, &inside))
            return damaged(path, "trainer_spec", e);
        if (number == 3 && wire == 0 && value != 1)
            return err_set(e, ERR_DAMAGED, "%s: model_type %llu: expected 1 (Unigram); not a T5 "
                                         "tokenizer", path, (unsigned long long)value);
    }
    return true;
}

/* Two walks: the first checks and counts, the second takes. */
static bool spiece_parse(struct tok_t5 *t, struct proto file, int extra_ids, const char *path,
                         struct err *e)
{
    uint32_t number;
    int wire;
    uint64_t value;
    struct proto inside, p = file;
    size_t count = 0;
    int64_t unk = -1;
    while (p.at < p.end) {
        if (!proto_field(&p, &number, &wire, &value, &inside))
            return damaged(path, "ModelProto", e);
        count += number == 1 && wire == 2;
    }
    if (!count)
        return damaged(path, "no pieces", e);
    if (!pieces_init(t, count + (size_t)extra_ids, path, e))
        return false;
    for (p = file; p.at < p.end;) {
        struct piece piece;
        proto_field(&p, &number, &wire, &value, &inside);
        if (wire != 2)
            continue;
        if (number == 2 && !spiece_model_type(inside, path, e))
            return false;
        if (number == 3 && !spiece_charsmap(t, inside, path, e))
            return false;
        if (number != 1)
            continue;
        if (!piece_parse(inside, &piece))
            return damaged(path, "a piece", e);
        if (piece.type == UNKNOWN && unk < 0)
            unk = t->count;
        if (!pieces_add(t, (const char *)piece.text.at, (size_t)(piece.text.end - piece.text.at),
                        piece.score, path, e))
            return false;
    }
    for (int i = extra_ids - 1; i >= 0; i--) {
        char name[32];
        int n = snprintf(name, sizeof name, "<extra_id_%d>", i);
        if (!pieces_add(t, name, (size_t)n, 0.0, path, e))
            return false;
    }
    return pieces_finish(t, unk, path, e);
}

/* Control and user-defined pieces are added tokens. */
static bool spiece_added(struct tok_t5 *t, struct proto file, struct err *e)
{
    uint32_t number;
    int wire;
    uint64_t value;
    struct proto inside;
    struct piece piece;
    while (file.at < file.end && proto_field(&file, &number, &wire, &value, &inside)) {
        if (number != 1 || wire != 2 || !piece_parse(inside, &piece))
            continue;
        if ((piece.type == CONTROL || piece.type == USER_DEFINED) &&
            !tok_added_special(&t->added, (const char *)piece.text.at,
                               (size_t)(piece.text.end - piece.text.at), e))
            return false;
    }
    return true;
}

/* --- loading: the folder ------------------------------------------------------------------------------------- */

/* The files of a folder while it is being read. */
struct source {
    const char *dir;
    char path[FILE_PATH_MAX]; /* of the model's file */
    json_t *tokenizer;        /* tokenizer.json, or NULL: */
    char *spiece;             /* spiece.model */
    struct proto proto;
    struct tok_config config;
    int extra_ids;
};

static bool source_open(struct source *f, const char *dir, struct err *e)
{
    *f = (struct source){ .dir = dir, .extra_ids = EXTRA_IDS };
    if (!tok_config_open(&f->config, dir, e))
        return false;
    const json_t *extra = json_object_get(f->config.config, "extra_ids");
    if (json_is_number(extra)) {
        double n = json_number_value(extra);
        if (!(n >= 0 && n <= 10000) || n != (int)n)
            return err_set(e, ERR_DAMAGED, "%s/tokenizer_config.json: extra_ids: expected 0 to 10000, "
                                         "found %g", dir, n);
        f->extra_ids = (int)n;
    }
    if (!file_join(f->path, dir, "tokenizer.json", e))
        return false;
    if (file_exists(f->path)) {
        f->tokenizer = config_read(f->path, TOK_FILE_LIMIT, JSON_ALLOW_NUL, e);
        return f->tokenizer != NULL;
    }
    size_t bytes;
    if (!file_join(f->path, dir, "spiece.model", e))
        return false;
    if (!file_exists(f->path))
        return err_set(e, ERR_MISSING, "%s: no tokenizer here: expected tokenizer.json or "
                                     "spiece.model", dir);
    f->spiece = file_read(f->path, TOK_FILE_LIMIT, &bytes, e);
    if (f->spiece)
        f->proto = (struct proto){ (unsigned char *)f->spiece, (unsigned char *)f->spiece + bytes };
    return f->spiece != NULL;
}

static void source_close(struct source *f)
{
    tok_config_close(&f->config);
    json_decref(f->tokenizer);
    free(f->spiece);
}

static bool load_model(struct tok_t5 *t, const struct source *f, struct err *e)
{
    if (f->tokenizer)
        return unigram_from_json(t, json_object_get(f->tokenizer, "model"), f->path, e) &&
               normalizer_from_json(t, json_object_get(f->tokenizer, "normalizer"), f->path, e) &&
               words_from_json(t, json_object_get(f->tokenizer, "pre_tokenizer"), f->path, e);
    t->word[0] = (struct word_step){ .kind = WHITESPACE_SPLIT };
    t->word[1] = (struct word_step){ .kind = METASPACE, .prepend = ALWAYS, .split = true };
    memcpy(t->word[1].mark, SPACE_MARK, sizeof SPACE_MARK);
    t->words = 2;
    return spiece_parse(t, f->proto, f->extra_ids, f->path, e);
}

static bool load_added(struct tok_t5 *t, const struct source *f, struct err *e)
{
    static const char *const usual[] = { "eos_token", "</s>", "unk_token", "<unk>", "pad_token", "<pad>" };
    if (!tok_added_init(&t->added, &t->pieces, t->count))
        return no_memory(f->dir, e);
    if (!tok_added_from_files(&t->added, &f->config, json_object_get(f->tokenizer, "added_tokens"),
                              f->dir, e) ||
        !tok_added_named(&t->added, &f->config, f->dir, e))
        return false;
    for (int i = 0; i < 6; i += 2) {
        const char *name = tok_config_name(&f->config, usual[i], usual[i + 1]);
        if (!tok_added_special(&t->added, name, strlen(name), e))
            return false;
    }
    if (!f->tokenizer && !spiece_added(t, f->proto, e))
        return false;
    for (int i = 0; i < f->extra_ids; i++) {
        char name[32];
        int n = snprintf(name, sizeof name, "<extra_id_%d>", i);
        if (tok_trie_get(&t->pieces, name, (size_t)n) >= 0 &&
            !tok_added_special(&t->added, name, (size_t)n, e))
            return false;
    }
    return tok_added_finish(&t->added, normalize, t) || no_memory(f->dir, e);
}

static bool load_template(struct tok_t5 *t, const struct source *f, struct err *e)
{
    const json_t *processor = json_object_get(f->tokenizer, "post_processor");
    t->pad = tok_added_id(&t->added, tok_config_name(&f->config, "pad_token", "<pad>"));
    t->id_limit = t->count;
    for (size_t i = 0; i < t->added.count; i++)
        if (t->added.token[i].id >= t->id_limit)
            t->id_limit = t->added.token[i].id + 1;
    if (t->pad < 0)
        return err_set(e, ERR_DAMAGED, "%s: the pad token has an empty name", f->dir);
    if (processor && !json_is_null(processor))
        return template_from_json(t, processor, f->path, e);
    int32_t eos = tok_added_id(&t->added, tok_config_name(&f->config, "eos_token", "</s>"));
    if (eos < 0)
        return err_set(e, ERR_DAMAGED, "%s: the end token has an empty name", f->dir);
    return tok_ids_add(&t->suffix, eos, NULL) || no_memory(f->dir, e);
}

bool tok_t5_open(struct tok_t5 **out, const char *dir, struct err *e)
{
    struct source f = { 0 };
    struct tok_t5 *t = calloc(1, sizeof *t);
    *out = NULL;
    bool ok = (t && tok_trie_init(&t->pieces)) || no_memory(dir, e);
    ok = ok && source_open(&f, dir, e) && load_model(t, &f, e) && load_added(t, &f, e) &&
         load_template(t, &f, e);
    source_close(&f);
    if (!ok) {
        tok_t5_close(t);
        return false;
    }
    *out = t;
    return true;
}

void tok_t5_close(struct tok_t5 *t)
{
    if (!t)
        return;
    for (int i = 0; i < t->normals; i++) {
        free(t->normal[i].map.data);
        free(t->normal[i].replace.what);
        free(t->normal[i].replace.by);
    }
    tok_added_free(&t->added);
    tok_trie_free(&t->pieces);
    free(t->score);
    free(t->prefix.id);
    free(t->suffix.id);
    free(t);
}

int tok_t5_id_limit(const struct tok_t5 *t)
{
    return t->id_limit;
}
