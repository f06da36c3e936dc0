/* safetensors.h - one .safetensors file: mapped and read, or written.
 *
 * Format (from the safetensors project's own description): 8 bytes little
 * endian header length N, N bytes of JSON {"name": {"dtype", "shape",
 * "data_offsets": [begin, end]}, ..., "__metadata__": {string: string}}, then
 * the data. Offsets are relative to the end of the header. The file is mapped
 * read-only and shared, and its tensors are used in place: opening a 24 GB
 * file takes no memory but its header.
 *
 * Refused with the file's name and the fault: shorter than 8 bytes, header
 * longer than the file or than 100 MB, not JSON or not an object, unknown
 * dtype, more than TENSOR_MAX_DIMS dimensions, a negative or overflowing
 * shape, offsets out of range, not matching shape x dtype, or overlapping
 * another tensor's, duplicate names. Holes are allowed. Data need not be
 * aligned in the file; a tensor whose data is not aligned for its type is
 * refused too (it could not be used in place), naming the tensor. A file that
 * somebody shortens while it is mapped kills the program (SIGBUS), as with any
 * mapped file; sluice's own writers never shorten a file in place. */
#ifndef SLUICE_SAFETENSORS_H
#define SLUICE_SAFETENSORS_H

#include "kernels/err.h"
#include "kernels/tensor.h"

struct safetensors;

/* Maps path. On success *out owns the map; close it after the last use of any
 * of its tensors. */
bool safetensors_open(struct safetensors **out, const char *path, struct err *e);
void safetensors_close(struct safetensors *s); /* NULL is fine */

const char *safetensors_path(const struct safetensors *s);
size_t safetensors_count(const struct safetensors *s);
/* Tensors in the order of their data in the file. Names live as long as s.
 * A scalar (shape []) appears as shape [1]; a tensor with a zero length has
 * ndim 0 and no data. */
const char *safetensors_name(const struct safetensors *s, size_t i);
struct tensor safetensors_tensor(const struct safetensors *s, size_t i);
/* Hash lookup; false if there is no such name. */
bool safetensors_find(const struct safetensors *s, const char *name, struct tensor *out);
/* Value of a __metadata__ key or NULL. */
const char *safetensors_metadata(const struct safetensors *s, const char *key);

/* --- writing ---------------------------------------------------------------
 * Header first (so every tensor is declared before any data), data appended in
 * the same order and in any number of pieces, then committed. Data follow each
 * other without gaps (other readers insist), so an entry that this would leave
 * unaligned is refused: order entries by width of type. The file is
 * written under a temporary name in the same folder, synced and renamed, so a
 * failure or a kill leaves no half-written file under the final name. */
struct safetensors_entry {
    const char *name;
    struct tensor tensor; /* dtype and shape; data is used only by safetensors_write */
};

struct safetensors_writer;
bool safetensors_create(struct safetensors_writer **out, const char *path,
                        const struct safetensors_entry *entries, size_t count, struct err *e);
bool safetensors_append(struct safetensors_writer *w, const void *data, size_t bytes, struct err *e);
/* As appending that many zeros, but leaves a hole in the file. */
bool safetensors_skip(struct safetensors_writer *w, uint64_t bytes, struct err *e);
/* Checks that exactly the declared bytes came; frees w in every case. */
bool safetensors_commit(struct safetensors_writer *w, struct err *e);
/* Removes the temporary file and frees w; NULL is fine. */
void safetensors_abandon(struct safetensors_writer *w);

/* All at once, from dense tensors. */
bool safetensors_write(const char *path, const struct safetensors_entry *entries, size_t count,
                       struct err *e);

#endif
