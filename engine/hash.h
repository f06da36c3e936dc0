/* hash.h - SHA-256 (FIPS 180-4): of memory in pieces, of a file, as text.
 *
 * The arithmetic is nettle's, which uses the processor's own instructions where
 * it has them. For names, checksums and "is this the same file"; no secrets. */
#ifndef SLUICE_HASH_H
#define SLUICE_HASH_H

#include "kernels/err.h"

#include <nettle/sha2.h>
#include <stdint.h>

struct sha256 { unsigned char byte[SHA256_DIGEST_SIZE]; };

struct hash { struct sha256_ctx ctx; };

void hash_begin(struct hash *h);
void hash_add(struct hash *h, const void *data, size_t bytes);
/* With the 0 byte at its end, so that two texts in a row do not run together. */
void hash_text(struct hash *h, const char *text);
struct sha256 hash_end(struct hash *h);

bool hash_equal(const struct sha256 *a, const struct sha256 *b);

enum { HASH_HEX = 2 * SHA256_DIGEST_SIZE + 1 };
/* 64 lower-case digits into hex; returns hex. */
const char *hash_hex(const struct sha256 *s, char hex[HASH_HEX]);

/* Of a whole regular file, read once from front to end. go_on (may be NULL) is told
 * after each MiB how far it is; false from it ends the work with ERR_CANCELLED. */
bool hash_file(struct sha256 *out, const char *path, bool (*go_on)(void *user, uint64_t done, uint64_t total),
               void *user, struct err *e);

#endif
