/* embeddings.h - what the text encoders made of a prompt, kept on disk.
 *
 * A prompt that was encoded before needs no text encoder: its vectors are read
 * from $XDG_CACHE_HOME/sluice/embeddings (cache.h), bit for bit as they were
 * computed. The cache can only save time. Whatever is wrong with an entry (cut,
 * flipped bits, other shapes, a link or a folder in its place) makes it a miss and
 * removes it; whatever is wrong with the folder makes every prompt a miss.
 *
 * An entry is one safetensors file, named by its key: clip_pooled [width] and
 * t5_hidden [tokens, width], F32, and checksum U8 [32], the SHA-256 of the key
 * and both. It is read by plain reads and compared whole with what would have
 * been written, so no parser sees it and no map can be pulled away under it.
 *
 * Any number of processes may use the folder at once: entries appear by rename
 * and go by unlink. Nothing outside it is written or removed, no link in it is
 * followed. When a store makes it larger than 1 GiB ($SLUICE_CACHE_BYTES, as
 * job_parse_bytes reads it; 0: no cache), those not used for longest go. */
#ifndef SLUICE_EMBEDDINGS_H
#define SLUICE_EMBEDDINGS_H

#include "engine/hash.h"
#include "engine/model.h"
#include "engine/weights.h"

/* Which encoders these are: their configs, names and shapes of all tensors, and 64
 * pieces of 4 KiB, evenly spread, of each one's data. Independent of path and time,
 * so a copy is the same model. Two that differ in none of this are taken for the
 * same: retrained weights are told apart, a few numbers changed in 10 GB may not
 * be. Reads at most 1 MB, from the maps. */
struct sha256 embeddings_fingerprint(const struct model *m, const struct weights *clip, const struct weights *t5);

/* The key of one prompt: ids as the tokenizers gave them, m->clip.tokens and
 * m->t5.tokens of them. how: all else that changes a bit of the result (precision,
 * T5's chunks, device, and what of the machine its arithmetic depends on). */
struct sha256 embeddings_key(const struct model *m, const struct sha256 *fingerprint, const int32_t *clip_ids,
                             const int32_t *t5_ids, const char *how);

/* Dense F32 on the host, borrowed. */
struct embeddings {
    struct tensor pooled; /* [width] of CLIP */
    struct tensor hidden; /* [tokens, width] of T5 */
};

/* True: found, and copied into v's memory. False: a miss; v's memory may hold anything. */
bool embeddings_load(const struct sha256 *key, struct embeddings v);

/* Keeps v. False, with the reason in e, if it could not be kept or the cache could
 * not be held to its size: worth a notice, never a reason to fail a job. */
bool embeddings_store(const struct sha256 *key, struct embeddings v, struct err *e);

/* What is there. False only for lack of memory or a folder that cannot be read. */
struct embeddings_use { size_t entries; uint64_t bytes; };
bool embeddings_use(struct embeddings_use *use, struct err *e);
/* Removes every entry; *use is what there was. */
bool embeddings_clear(struct embeddings_use *use, struct err *e);

#endif
