/* hash.c - see hash.h. */
#include "engine/hash.h"

#include "engine/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

void hash_begin(struct hash *h) { sha256_init(&h->ctx); }
void hash_add(struct hash *h, const void *data, size_t bytes) { sha256_update(&h->ctx, bytes, data); }
void hash_text(struct hash *h, const char *text) { hash_add(h, text, strlen(text) + 1); }

struct sha256 hash_end(struct hash *h)
{
    struct sha256 s;
    sha256_digest(&h->ctx, sizeof s.byte, s.byte);
    return s;
}

bool hash_equal(const struct sha256 *a, const struct sha256 *b) { return !memcmp(a, b, sizeof *a); }

const char *hash_hex(const struct sha256 *s, char hex[HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof s->byte; i++) {
        hex[2 * i] = digits[s->byte[i] >> 4];
        hex[2 * i + 1] = digits[s->byte[i] & 15];
    }
    hex[HASH_HEX - 1] = '\0';
    return hex;
}

bool hash_file(struct sha256 *out, const char *path, bool (*go_on)(void *user, uint64_t done, uint64_t total),
               void *user, struct err *e)
{
    uint64_t total, done = 0;
    int fd = file_open(path, &total, e);
    if (fd < 0)
        return false;
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    struct hash h;
    hash_begin(&h);
    bool ok = true;
    char *piece = malloc(PIECE);
    if (!piece)
        ok = err_set(e, ERR_MEMORY, "%s: no memory to read it", path);
    for (ssize_t n = 1; ok && n;) {
        n = read(fd, piece, PIECE);
        if (n < 0) {
            ok = errno == EINTR || err_errno(e, errno, "%s: cannot read", path);
            continue;
        }
        hash_add(&h, piece, (size_t)n);
        done += (uint64_t)n;
        if (n && go_on && !go_on(user, done, total))
            ok = err_set(e, ERR_CANCELLED, "%s: stopped", path);
    }
    if (ok)
        *out = hash_end(&h);
    free(piece);
    close(fd);
    return ok;
}
