/* tok_text.h - what the two tokenizers share: text, tries, added tokens.
 *
 * Cleaning of UTF-8, Unicode helpers, a byte trie, the added tokens of a
 * tokenizer folder (tokenizer_config.json, special_tokens_map.json,
 * added_tokens.json, the "added_tokens" of tokenizer.json) and the cutting of
 * a text at them. Knows neither BPE nor Unigram; for the tokenizers, and for
 * whoever needs clean UTF-8 (the texts in a PNG). The truth is transformers 5
 * over tokenizers 0.23.
 *
 * Functions without an err return false (or NULL) only when memory is refused.
 * Built objects are read-only and may be used from any thread. */
#ifndef SLUICE_TOK_TEXT_H
#define SLUICE_TOK_TEXT_H

#include "kernels/err.h"

#include <jansson.h>
#include <stdint.h>

/* Limits on files: the largest tokenizer.json in use (mT5) has 16 MB. */
#define TOK_FILE_LIMIT ((size_t)64 << 20)

/* --- growing arrays; all zeros is empty; data is malloc'd -------------------------------- */

struct tok_buf {
    char *data; /* NULL while nothing was ever added */
    size_t bytes, room;
};
bool tok_buf_add(struct tok_buf *b, const void *data, size_t bytes);
bool tok_buf_add_char(struct tok_buf *b, int32_t code_point);
void tok_buf_free(struct tok_buf *b);

struct tok_ids {
    int32_t *id;
    size_t count, room;
    size_t enough; /* an encoder may stop adding once count > enough */
    /* Where tokens end in the text, if `places`. What an encoder reads may be a copy; `text` is its
     * beginning, and `from`, unless NULL, has for each of its places the one in what it was made of. */
    bool places;
    size_t *end; /* [count]; of the normalized stretch, but for that of token `watch`: */
    size_t end_room, watch, watched; /* watched: where it ends in the text that was cut */
    const char *text;
    const size_t *from;
};
bool tok_ids_add(struct tok_ids *v, int32_t id, const char *end); /* end: where it ends in what is read */
void tok_ids_free(struct tok_ids *v);
/* The place in what v->text was made of. */
size_t tok_ids_place(const struct tok_ids *v, const char *at);
/* Prefix, all of v, suffix: how many; and of the text's `bytes` those that max_tokens have room for.
 * v was made with watch = max_tokens - prefix - suffix - 1. */
void tok_ids_fit(const struct tok_ids *v, const struct tok_ids *prefix, const struct tok_ids *suffix, size_t bytes,
                 int max_tokens, int *tokens, size_t *fits);
/* Writes prefix, the first ids, suffix, and pad up to max_tokens. `used` counts
 * all but the padding. Requires prefix + suffix <= max_tokens. */
void tok_ids_write(const struct tok_ids *v, const struct tok_ids *prefix,
                   const struct tok_ids *suffix, int32_t pad, int32_t *ids, int max_tokens,
                   int *used, bool *truncated);

/* --- text --------------------------------------------------------------------------------- */

/* Appends text as valid UTF-8: each maximal subpart of an ill-formed sequence
 * becomes one U+FFFD, as Python's bytes.decode("utf-8", "replace") does. */
bool tok_text_clean(struct tok_buf *out, const char *text, size_t bytes);
bool tok_text_valid(const char *text, size_t bytes); /* well-formed UTF-8? */

/* The code point at the start of valid UTF-8 and its length; bytes > 0. */
int tok_text_char(const char *text, size_t bytes, int32_t *code_point);

/* Unicode's White_Space. */
bool tok_text_space(int32_t code_point);

/* Appends the NFC form of valid UTF-8, in linear time. */
bool tok_text_nfc(struct tok_buf *out, const char *text, size_t bytes);

/* Appends the lower-case form, code point by code point (no final sigma). */
bool tok_text_lower(struct tok_buf *out, const char *text, size_t bytes);

/* --- byte trie: string -> value >= 0 ------------------------------------------------------- */

struct tok_trie {
    uint32_t *edge_key, *edge_child; /* open addressing; child 0 is a free place */
    int32_t *value;                  /* per node, -1: no string ends here */
    uint32_t nodes, node_room, edge_room;
};
bool tok_trie_init(struct tok_trie *t);
void tok_trie_free(struct tok_trie *t);
/* The value of an existing string is replaced. False also past 2^24 nodes. */
bool tok_trie_put(struct tok_trie *t, const char *key, size_t bytes, int32_t value);
int32_t tok_trie_get(const struct tok_trie *t, const char *key, size_t bytes); /* -1: absent */
/* The child of a node (the root is 0) along a byte; 0 if there is none. */
uint32_t tok_trie_step(const struct tok_trie *t, uint32_t node, unsigned char byte);

/* --- the folder's side files ------------------------------------------------------------- */

struct tok_config {
    json_t *config; /* tokenizer_config.json, or an empty object */
    json_t *map;    /* special_tokens_map.json; empty if config lists its added tokens itself */
    json_t *added;  /* added_tokens.json, or an empty object; empty likewise */
};
bool tok_config_open(struct tok_config *c, const char *dir, struct err *e);
void tok_config_close(struct tok_config *c);
/* The text of a named token ("pad_token"); otherwise if the files do not say.
 * Lives as long as c. */
const char *tok_config_name(const struct tok_config *c, const char *key, const char *otherwise);

/* --- added tokens ------------------------------------------------------------------------- */

struct tok_added_token {
    char *content;
    size_t bytes;
    int32_t id;
    bool single_word, lstrip, rstrip, normalized;
};

struct tok_added {
    struct tok_added_token *token;
    size_t count, room;
    const struct tok_trie *vocab; /* not owned */
    int32_t vocab_size, next_id;  /* next_id: for a token that the vocabulary lacks */
    struct tok_trie by_content;   /* -> index in token */
    struct tok_trie raw, normalized; /* what to look for -> index in token */
};

/* vocab must outlive a. next ids start at vocab_size. */
bool tok_added_init(struct tok_added *a, const struct tok_trie *vocab, int32_t vocab_size);
void tok_added_free(struct tok_added *a);
/* Adds a special token (matched as it is, no stripping) unless it is there or empty. */
bool tok_added_special(struct tok_added *a, const char *content, size_t bytes, struct err *e);
bool tok_added_plain(struct tok_added *a, const char *content, size_t bytes, bool normalized,
                     struct err *e);
/* The first of: the config's added_tokens_decoder; `file_tokens` (the array
 * "added_tokens" of tokenizer.json; may be NULL) with added_tokens.json. */
bool tok_added_from_files(struct tok_added *a, const struct tok_config *c,
                          const json_t *file_tokens, const char *dir, struct err *e);
/* The named tokens and the extra special tokens of the side files. */
bool tok_added_named(struct tok_added *a, const struct tok_config *c, const char *dir,
                     struct err *e);
int32_t tok_added_id(const struct tok_added *a, const char *content); /* added, else vocab, else -1 */

/* normalize appends the normal form of text to out; *stripped, false before,
 * becomes true if characters were cut off its beginning. Called for each token
 * with the "normalized" flag here, and for the text between raw tokens when cutting. */
typedef bool tok_normalize(const void *context, struct tok_buf *out, const char *text,
                           size_t bytes, bool *stripped);
bool tok_added_finish(struct tok_added *a, tok_normalize *normalize, const void *context);

/* Cuts valid UTF-8 at the added tokens: their ids go to out, and each stretch of
 * normalized text between them to `encode` (first: nothing came before it, not
 * even stripped characters). */
typedef bool tok_encode(const void *context, const char *text, size_t bytes, bool first,
                        struct tok_ids *out, struct err *e);
bool tok_added_cut(const struct tok_added *a, const char *text, size_t bytes,
                   tok_normalize *normalize, tok_encode *encode, const void *context,
                   struct tok_ids *out, struct err *e);

#endif
