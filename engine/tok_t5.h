/* tok_t5.h - text to T5 token ids: SentencePiece Unigram.
 *
 * Gives the ids of transformers 5 for the same folder, called with
 * padding="max_length", truncation=True. The text is cut at the added tokens,
 * normalized, cut into words, and each word into the pieces whose scores have
 * the largest sum. Does not load or run the text encoder.
 *
 * Files of `dir` (the folder "tokenizer_2" of FLUX.1, google/t5-v1_1-xxl):
 *   tokenizer.json, read by its own fields: model Unigram (vocab, unk_id,
 *     byte_fallback); normalizers Precompiled, Strip, Replace (a text, or one
 *     character or \s with + or {n,}), NFC, Lowercase, Sequence; pre-tokenizers
 *     WhitespaceSplit, Metaspace, Sequence; post-processor TemplateProcessing.
 *     Any other part is refused by name. (T5Tokenizer of transformers 5 takes
 *     only pieces and map of this file and does the rest as for spiece.model.
 *     With a file like FLUX.1's the two differ only for U+0085.)
 *   or else spiece.model: pieces, scores, types and the character map are
 *     taken; what T5Tokenizer fixes is fixed here too: white space separates
 *     words, each begins with U+2581, no byte fall-back, 100 tokens
 *     <extra_id_99> ... <extra_id_0> behind the pieces ("extra_ids" in
 *     tokenizer_config.json gives another number);
 *   optional: tokenizer_config.json, special_tokens_map.json, added_tokens.json,
 *     for the added tokens with their flags and the pad token.
 *
 * Invalid UTF-8 becomes U+FFFD, one per maximal subpart. NUL is a character
 * like any other. The character map works on grapheme clusters; clusters with
 * marks that Unicode added after the installed utf8proc's version may differ. */
#ifndef SLUICE_TOK_T5_H
#define SLUICE_TOK_T5_H

#include "kernels/err.h"

#include <stdint.h>

struct tok_t5;

/* On true *out is the caller's, freed by tok_t5_close; on false *out is NULL. */
bool tok_t5_open(struct tok_t5 **out, const char *dir, struct err *e);
void tok_t5_close(struct tok_t5 *t); /* NULL is fine */

/* Largest id that tok_t5_encode can write, plus one: the embedding must have
 * this many rows (32100 for FLUX.1, whose embedding has 32128). */
int tok_t5_id_limit(const struct tok_t5 *t);

/* Writes exactly max_tokens (>= 1, and >= what the template adds) ids: tokens,
 * </s>, padding. *used counts all but the padding; *truncated: tokens were left
 * out (</s> stays the last). Linear in bytes; stops reading when max_tokens are
 * found. Any thread, also several at once. Fails for lack of memory, or if the
 * model has no unknown piece and needs it. */
bool tok_t5_encode(const struct tok_t5 *t, const char *text, size_t bytes, int32_t *ids,
                   int max_tokens, int *used, bool *truncated, struct err *e);

/* As tok_clip_fit: how many tokens the whole text has, with what the template adds, and how many of its
 * bytes tok_t5_encode's ids stand for. */
bool tok_t5_fit(const struct tok_t5 *t, const char *text, size_t bytes, int max_tokens, int *tokens, size_t *fits,
                struct err *e);

#endif
