/* tok_clip.h - text to CLIP token ids: lower-cased byte-level BPE.
 *
 * Gives the ids of transformers 5's CLIPTokenizer called with
 * padding="max_length", truncation=True. The text is cut at the added tokens,
 * then NFC, runs of white space to one space, lower case, cut into words
 * (contractions, letter runs, single digits, runs of anything else), bytes
 * merged in each word. Does not load or run the text encoder.
 *
 * Files of `dir` (the folder "tokenizer" of FLUX.1, openai/clip-vit-large-patch14):
 *   tokenizer.json (its model's vocab and merges; normalizer and pre-tokenizer
 *     are CLIP's own whatever it says, as in transformers), or else
 *   vocab.json and merges.txt;
 *   optional: tokenizer_config.json, special_tokens_map.json, added_tokens.json,
 *     for bos, eos, unk and pad token and the added tokens with their flags.
 *     Absent: <|startoftext|>, <|endoftext|> for the other three.
 *
 * Invalid UTF-8 becomes U+FFFD, one per maximal subpart. NUL is a character
 * like any other. Letters that Unicode added after the installed utf8proc's
 * version count as symbols and have no lower case. */
#ifndef SLUICE_TOK_CLIP_H
#define SLUICE_TOK_CLIP_H

#include "kernels/err.h"

#include <stdint.h>

struct tok_clip;

/* On true *out is the caller's, freed by tok_clip_close; on false *out is NULL. */
bool tok_clip_open(struct tok_clip **out, const char *dir, struct err *e);
void tok_clip_close(struct tok_clip *t); /* NULL is fine */

/* Largest id that tok_clip_encode can write, plus one: the embedding must have
 * this many rows. */
int tok_clip_id_limit(const struct tok_clip *t);

/* Writes exactly max_tokens (>= 2) ids: bos, tokens, eos, padding. *used counts all but
 * the padding; *truncated: tokens were left out. O(n log n) in bytes; stops
 * reading when max_tokens are found. Any thread, also several at once.
 * Fails for lack of memory, or if the vocabulary lacks a byte of the text and
 * the unknown token as well. */
bool tok_clip_encode(const struct tok_clip *t, const char *text, size_t bytes, int32_t *ids,
                     int max_tokens, int *used, bool *truncated, struct err *e);

/* *tokens: of the whole text, bos and eos with them, however many they are. *fits: bytes of the text
 * that the ids of tok_clip_encode stand for; all of them, or to the end of the last token that has
 * room. text: valid UTF-8, else *fits may be a little off. */
bool tok_clip_fit(const struct tok_clip *t, const char *text, size_t bytes, int max_tokens, int *tokens,
                  size_t *fits, struct err *e);

#endif
