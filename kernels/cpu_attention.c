/* cpu_attention.c - softmax(q k^T) v on the processor.
 *
 * A task is one head, or where heads are few a share of its queries. It puts
 * the head's k and v into the layout that oneDNN's products like, once, then
 * works through its queries in pieces whose scores stay in the core's cache.
 * Tasks are dealt to threads, and each runs its products alone, so no thread
 * waits inside a head. A row's result does not depend on the piece it is in. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <math.h>
#include <omp.h>

enum { SCORE_BYTES = 768 * 1024, PIECE_MIN = 32, PIECE_MAX = 256 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t piece_queries(int64_t queries, int64_t keys)
{
    int64_t n = SCORE_BYTES / (keys * (int64_t)sizeof(float)) / 16 * 16;
    n = n < PIECE_MIN ? PIECE_MIN : min64(n, PIECE_MAX);
    return min64(n, queries);
}

/* Shares of a head's queries, in pieces: enough tasks for every thread. */
static int64_t share_pieces(int64_t pieces, int64_t heads, int threads)
{
    int64_t shares = (2 * threads + heads - 1) / heads;
    return shares > pieces ? 1 : (pieces + shares - 1) / shares;
}

static struct cpu_gemm scores_gemm(struct tensor q, struct tensor k, int64_t rows)
{
    return (struct cpu_gemm){ .m = rows, .n = k.shape[0], .k = q.shape[2], .type = q.dtype, .y_type = DT_F32,
                              .x_stride = q.stride[0], .w_stride = k.stride[0], .w_step = 1,
                              .y_stride = k.shape[0], .packed = true };
}

/* Probabilities of a row replace its scores: in BF16 they take the first half
 * of the row, so rows lie twice as many elements apart. */
static struct cpu_gemm values_gemm(struct tensor o, struct tensor v, int64_t rows)
{
    int64_t keys = v.shape[0];
    return (struct cpu_gemm){ .m = rows, .n = v.shape[2], .k = keys, .type = v.dtype, .y_type = o.dtype,
                              .x_stride = v.dtype == DT_BF16 ? 2 * keys : keys, .w_stride = 1,
                              .w_step = v.stride[0], .y_stride = o.stride[0], .packed = true };
}

/* What a thread works with, for whole pieces [0] and for the last, shorter one [1]. */
struct plan {
    struct cpu_primitive *scores[2], *values[2];
    size_t score_bytes, k_bytes, v_bytes, library_bytes; /* of a thread, in this order */
    size_t thread_bytes;
};

static bool plan_make(struct plan *p, struct cpu_device *c, struct tensor o, struct tensor q, struct tensor k,
                      struct tensor v, bool compile)
{
    int64_t queries = q.shape[0], keys = k.shape[0], piece = piece_queries(queries, keys);
    *p = (struct plan){ .score_bytes = cpu_round((size_t)(piece * keys) * sizeof(float)) };
    for (int last = 0; last < 2; last++) {
        int64_t rows = last && queries % piece ? queries % piece : piece;
        struct cpu_gemm scores = scores_gemm(q, k, rows), values = values_gemm(o, v, rows);
        struct cpu_primitive *a = p->scores[last] = cpu_gemm_plan(c, &scores, compile);
        struct cpu_primitive *b = p->values[last] = cpu_gemm_plan(c, &values, compile);
        if (!a || !b)
            return false;
        size_t library = a->scratch_bytes > b->scratch_bytes ? a->scratch_bytes : b->scratch_bytes;
        p->k_bytes += cpu_round(a->weights_bytes); /* one for each: they may differ in layout */
        p->v_bytes += cpu_round(b->weights_bytes);
        p->library_bytes = library > p->library_bytes ? library : p->library_bytes;
    }
    p->library_bytes = cpu_round(p->library_bytes);
    p->thread_bytes = p->score_bytes + p->k_bytes + p->v_bytes + p->library_bytes;
    return true;
}

size_t cpu_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    struct plan p;
    return plan_make(&p, cpu_of(d), o, q, k, k, false) ? p.thread_bytes * (size_t)cpu_of(d)->threads : 0;
}

/* A NaN among the scores makes the sum NaN, and so the whole row. */
static void softmax_row(float *s, float scale, int64_t n, enum dtype t)
{
    float max = vec_max(s, n);
    if (max == -INFINITY)
        max = 0;
    float sum = vec_exp(s, scale, max, n);
    if (t == DT_BF16)
        vec_scale_to_bf16((uint16_t *)(void *)s, s, 1.0f / sum, n);
    else
        vec_affine(s, 1.0f / sum, 0, n);
}

static char *head_at(struct tensor t, int64_t row, int64_t head)
{
    return (char *)t.data + (size_t)(row * t.stride[0] + head * t.stride[1]) * dtype_bytes(t.dtype);
}

void cpu_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    struct plan p;
    cpu_cache_trim(c);
    if (!plan_make(&p, c, o, q, k, v, true))
        return;
    int64_t queries = q.shape[0], keys = k.shape[0], heads = q.shape[1];
    int64_t piece = piece_queries(queries, keys), pieces = (queries + piece - 1) / piece;
    int64_t share = share_pieces(pieces, heads, c->threads), shares = (pieces + share - 1) / share;
    bool extras = a->causal || tensor_present(a->bias);
#pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (int64_t task = 0; task < heads * shares; task++) {
        int64_t head = task / shares, first = task % shares * share;
        char *mine = (char *)scratch + p.thread_bytes * (size_t)omp_get_thread_num();
        float *s = (float *)(void *)mine;
        char *packed_k = mine + p.score_bytes, *packed_v = packed_k + p.k_bytes, *library = packed_v + p.v_bytes;
        int packed_for = -1;
        for (int64_t i = first; i < min64(first + share, pieces); i++) {
            int64_t from = i * piece, rows = min64(piece, queries - from);
            int last = rows < piece;
            if (packed_for != last) {
                cpu_pack_weights(c, p.scores[last], packed_k, head_at(k, 0, head));
                cpu_pack_weights(c, p.values[last], packed_v, head_at(v, 0, head));
                packed_for = last;
            }
            cpu_gemm_run(c, p.scores[last], s, head_at(q, from, head), packed_k, NULL, library);
            for (int64_t r = 0; r < rows; r++) {
                float *row = s + r * keys;
                if (extras) {
                    vec_affine(row, a->scale, 0, keys);
                    if (tensor_present(a->bias))
                        vec_add(row, (const float *)a->bias.data + head * a->bias.stride[0] + queries - 1 - (from + r), keys);
                    for (int64_t j = a->causal ? from + r + 1 : keys; j < keys; j++)
                        row[j] = -INFINITY;
                }
                softmax_row(row, extras ? 1.0f : a->scale, keys, v.dtype);
            }
            cpu_gemm_run(c, p.values[last], head_at(o, from, head), s, packed_v, NULL, library);
        }
    }
}
