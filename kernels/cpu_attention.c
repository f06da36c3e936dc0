/* cpu_attention.c - softmax(q k^T) v on the processor.
 *
 * A head's k and v are put into the layout that oneDNN's products like, once,
 * then its queries are worked through in pieces whose scores stay in the core's
 * cache. Where heads are many, each thread has heads of its own, or a share of
 * one's queries, and no thread waits inside a head; where they are fewer than
 * threads and have pieces for all, as the VAE's one, threads share a head and its
 * packed k and v. A row's result does not depend on the piece it is in. */
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

/* One call: what to multiply with, for whole pieces [0] and for the last, shorter one [1]. */
struct plan {
    struct cpu_primitive *scores[2], *values[2];
    int64_t piece;                                       /* queries */
    bool shared;                                         /* all threads work on one head */
    size_t score_bytes, library_bytes, k_bytes, v_bytes; /* the last two of each thread, or shared */
    size_t thread_bytes, bytes;
};

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

static bool plan_make(struct plan *p, struct cpu_device *c, struct tensor o, struct tensor q, struct tensor k,
                      struct tensor v, bool compile)
{
    int64_t queries = q.shape[0], keys = k.shape[0], piece = piece_queries(queries, keys);
    *p = (struct plan){ .piece = piece, .shared = q.shape[1] < c->threads && queries / piece >= c->threads,
                        .score_bytes = cpu_round((size_t)(piece * keys) * sizeof(float)) };
    for (int last = 0; last < 2; last++) {
        int64_t rows = last && queries % piece ? queries % piece : piece;
        struct cpu_gemm scores = scores_gemm(q, k, rows), values = values_gemm(o, v, rows);
        struct cpu_primitive *a = p->scores[last] = cpu_gemm_plan(c, &scores, compile);
        struct cpu_primitive *b = p->values[last] = cpu_gemm_plan(c, &values, compile);
        if (!a || !b)
            return false;
        p->k_bytes = most(p->k_bytes, cpu_round(a->weights_bytes)); /* packed anew for the last piece */
        p->v_bytes = most(p->v_bytes, cpu_round(b->weights_bytes));
        p->library_bytes = most(p->library_bytes, cpu_round(most(a->scratch_bytes, b->scratch_bytes)));
    }
    size_t packed = p->k_bytes + p->v_bytes;
    p->thread_bytes = p->score_bytes + p->library_bytes + (p->shared ? 0 : packed);
    p->bytes = p->thread_bytes * (size_t)c->threads + (p->shared ? packed : 0);
    return true;
}

size_t cpu_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    struct plan p;
    cpu_cache_trim(cpu_of(d));
    return plan_make(&p, cpu_of(d), o, q, k, k, false) ? p.bytes : 0;
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

/* The operands, for the functions below. */
struct work {
    struct cpu_device *c;
    const struct plan *plan;
    const struct attention *a;
    struct tensor o, q, k, v;
};

/* packed: k, then v, of a head for whole pieces or for the last. */
static void pack(const struct work *w, int64_t head, int last, char *packed)
{
    cpu_pack_weights(w->c, w->plan->scores[last], packed, head_at(w->k, 0, head));
    cpu_pack_weights(w->c, w->plan->values[last], packed + w->plan->k_bytes, head_at(w->v, 0, head));
}

/* Piece i of a head's queries. mine: the thread's scratch. */
static void attend_piece(const struct work *w, int64_t head, int64_t i, const char *packed, char *mine)
{
    const struct plan *p = w->plan;
    const struct attention *a = w->a;
    int64_t queries = w->q.shape[0], keys = w->k.shape[0], from = i * p->piece, rows = min64(p->piece, queries - from);
    int last = rows < p->piece;
    float *s = (float *)(void *)mine;
    char *library = mine + p->score_bytes;
    cpu_gemm_run(w->c, p->scores[last], s, head_at(w->q, from, head), packed, NULL, library);
    bool extras = a->causal || tensor_present(a->bias);
    for (int64_t r = 0; r < rows; r++) {
        float *row = s + r * keys;
        if (extras) {
            vec_affine(row, a->scale, 0, keys);
            if (tensor_present(a->bias))
                vec_add(row, (const float *)a->bias.data + head * a->bias.stride[0] + queries - 1 - (from + r), keys);
            for (int64_t j = a->causal ? from + r + 1 : keys; j < keys; j++)
                row[j] = -INFINITY;
        }
        softmax_row(row, extras ? 1.0f : a->scale, keys, w->v.dtype);
    }
    cpu_gemm_run(w->c, p->values[last], head_at(w->o, from, head), s, packed + p->k_bytes, NULL, library);
}

/* All threads on one head after the other. */
static void attend_together(const struct work *w, char *scratch)
{
    const struct plan *p = w->plan;
    int64_t whole = w->q.shape[0] / p->piece, rest = w->q.shape[0] % p->piece != 0;
    char *packed = scratch + p->thread_bytes * (size_t)w->c->threads;
    for (int64_t head = 0; head < w->q.shape[1]; head++) {
        pack(w, head, 0, packed);
#pragma omp parallel for schedule(dynamic) num_threads(w->c->threads)
        for (int64_t i = 0; i < whole; i++)
            attend_piece(w, head, i, packed, scratch + p->thread_bytes * (size_t)omp_get_thread_num());
        if (rest) {
            pack(w, head, 1, packed);
            attend_piece(w, head, whole, packed, scratch);
        }
    }
}

/* Tasks of one head, or of a share of its pieces, for one thread each. */
static void attend_apart(const struct work *w, char *scratch)
{
    const struct plan *p = w->plan;
    int64_t heads = w->q.shape[1], pieces = (w->q.shape[0] + p->piece - 1) / p->piece;
    int64_t share = share_pieces(pieces, heads, w->c->threads), shares = (pieces + share - 1) / share;
#pragma omp parallel for schedule(dynamic) num_threads(w->c->threads)
    for (int64_t task = 0; task < heads * shares; task++) {
        int64_t head = task / shares, first = task % shares * share;
        char *mine = scratch + p->thread_bytes * (size_t)omp_get_thread_num();
        char *packed = mine + p->score_bytes + p->library_bytes;
        int packed_for = -1;
        for (int64_t i = first; i < min64(first + share, pieces); i++) {
            int last = (i + 1) * p->piece > w->q.shape[0];
            if (packed_for != last)
                pack(w, head, packed_for = last, packed);
            attend_piece(w, head, i, packed, mine);
        }
    }
}

void cpu_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    struct plan p;
    cpu_cache_trim(c);
    if (!plan_make(&p, c, o, q, k, v, true))
        return;
    struct work w = { c, &p, a, o, q, k, v };
    if (p.shared)
        attend_together(&w, scratch);
    else
        attend_apart(&w, scratch);
}
