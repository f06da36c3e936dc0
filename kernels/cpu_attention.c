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
#include <string.h>

enum { SCORE_BYTES = 768 * 1024, PIECE_MIN = 32, PIECE_MAX = 256 };

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* A multiple of step. */
static int64_t piece_queries(int64_t queries, int64_t keys, int64_t step)
{
    int64_t n = SCORE_BYTES / (keys * (int64_t)sizeof(float)) / 16 * 16;
    n = n < PIECE_MIN ? PIECE_MIN : min64(n, PIECE_MAX);
    return min64(cpu_up(n, step), cpu_up(queries, step));
}

/* Shares of a head's queries, in pieces: enough tasks for every thread. */
static int64_t share_pieces(int64_t pieces, int64_t heads, int threads)
{
    int64_t shares = (2 * threads + heads - 1) / heads;
    return shares > pieces ? 1 : (pieces + shares - 1) / shares;
}

/* Operands are dense, in `side` or packed: so oneDNN's algorithm is the same for any number of rows. */
static struct cpu_gemm scores_gemm(struct tensor q, struct tensor k, int64_t rows)
{
    enum dtype t = cpu_product_type(q.dtype);
    return (struct cpu_gemm){ .m = rows, .n = k.shape[0], .k = q.shape[2], .type = t, .y_type = DT_F32,
                              .x_stride = q.shape[2], .w_stride = k.dtype == t ? k.stride[0] : k.shape[2], .w_step = 1,
                              .y_stride = k.shape[0], .packed = true };
}

/* Probabilities replace the scores, row by row. */
static struct cpu_gemm values_gemm(struct tensor o, struct tensor v, int64_t rows)
{
    enum dtype t = cpu_product_type(v.dtype);
    return (struct cpu_gemm){ .m = rows, .n = v.shape[2], .k = v.shape[0], .type = t,
                              .y_type = cpu_product_type(o.dtype), .x_stride = v.shape[0], .w_stride = 1,
                              .w_step = v.dtype == t ? v.stride[0] : v.shape[2], .y_stride = v.shape[2],
                              .packed = true };
}

/* One call: what to multiply with, for whole pieces [0] and for the last, shorter one [1]. */
struct plan {
    int64_t step, piece; /* pieces are filled up to a multiple of step queries */
    bool shared;         /* all threads work on one head */
    struct cpu_primitive *scores[2], *values[2];
    size_t score_bytes, side_bytes, library_bytes; /* a thread's, in this order */
    size_t work_bytes;                             /* of these three */
    size_t k_bytes, v_bytes;                       /* packed: of each thread, or shared */
    size_t thread_bytes, bytes;
};

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* side: in turn a piece of q and its result. k and v, where they must be widened, are
 * so in the place of what threads work in, before they do. */
static bool plan_make(struct plan *p, struct cpu_device *c, struct tensor o, struct tensor q, struct tensor k,
                      struct tensor v, bool compile)
{
    int64_t queries = q.shape[0], keys = k.shape[0];
    enum dtype t = cpu_product_type(k.dtype);
    int64_t step = max64(cpu_row_step(c, scores_gemm(q, k, 0)), cpu_row_step(c, values_gemm(o, v, 0)));
    int64_t piece = piece_queries(queries, keys, step);
    *p = (struct plan){ .step = step, .piece = piece, .shared = q.shape[1] < c->threads &&
                        queries / piece >= c->threads,
                        .score_bytes = cpu_round((size_t)(piece * keys) * sizeof(float)) };
    for (int last = 0; last < 2; last++) {
        int64_t rows = last && queries % piece ? cpu_up(queries % piece, step) : piece;
        struct cpu_gemm scores = scores_gemm(q, k, rows), values = values_gemm(o, v, rows);
        struct cpu_primitive *a = p->scores[last] = cpu_gemm_plan(c, &scores, compile);
        struct cpu_primitive *b = p->values[last] = cpu_gemm_plan(c, &values, compile);
        if (!a || !b)
            return false;
        p->k_bytes = most(p->k_bytes, cpu_round(a->weights_bytes)); /* packed anew for the last piece */
        p->v_bytes = most(p->v_bytes, cpu_round(b->weights_bytes));
        p->library_bytes = most(p->library_bytes, cpu_round(most(a->scratch_bytes, b->scratch_bytes)));
    }
    size_t element = most(dtype_bytes(t), dtype_bytes(cpu_product_type(o.dtype)));
    p->side_bytes = cpu_round((size_t)(piece * q.shape[2]) * element);
    p->work_bytes = p->score_bytes + p->side_bytes + p->library_bytes;
    size_t wide = k.dtype == t ? 0 : cpu_round((size_t)(keys * q.shape[2]) * dtype_bytes(t));
    size_t packed = p->k_bytes + p->v_bytes, threads = (size_t)c->threads;
    p->thread_bytes = p->shared ? p->work_bytes : most(p->work_bytes, wide) + packed;
    p->bytes = p->shared ? most(p->work_bytes * threads, wide) + packed : p->thread_bytes * threads;
    return true;
}

size_t cpu_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    struct plan p;
    cpu_cache_trim(cpu_of(d));
    return plan_make(&p, cpu_of(d), o, q, k, k, false) ? p.bytes : 0;
}

/* Probabilities of type t into p, from scores. A NaN among these makes the sum NaN, and so the whole row. */
static void softmax_row(void *p, float *s, float scale, int64_t n, enum dtype t)
{
    float max = vec_max(s, n);
    if (max == -INFINITY)
        max = 0;
    float sum = vec_exp(s, scale, max, n);
    if (t == DT_BF16)
        vec_scale_to_bf16(p, s, 1.0f / sum, n);
    else
        vec_affine(s, 1.0f / sum, 0, n);
}

static char *head_at(struct tensor t, int64_t row, int64_t head)
{
    return (char *)t.data + (size_t)(row * t.stride[0] + head * t.stride[1]) * dtype_bytes(t.dtype);
}

/* Rows of one head, made dense and of type t. */
static void gather(void *to, enum dtype t, struct tensor x, int64_t from, int64_t rows, int64_t head)
{
    int64_t n = x.shape[2];
    for (int64_t r = 0; r < rows; r++)
        vec_convert((char *)to + (size_t)(r * n) * dtype_bytes(t), t, head_at(x, from + r, head), x.dtype, n);
}

/* The operands, for the functions below. */
struct work {
    struct cpu_device *c;
    const struct plan *plan;
    const struct attention *a;
    struct tensor o, q, k, v;
};

static void pack_one(const struct work *w, const struct cpu_primitive *p, void *packed, struct tensor x, int64_t head,
                     void *side)
{
    enum dtype t = cpu_product_type(x.dtype);
    if (x.dtype != t)
        gather(side, t, x, 0, x.shape[0], head);
    cpu_pack_weights(w->c, p, packed, x.dtype != t ? side : head_at(x, 0, head));
}

/* packed: k, then v, of a head for whole pieces or for the last. side: to widen each in. */
static void pack(const struct work *w, int64_t head, int last, char *packed, void *side)
{
    pack_one(w, w->plan->scores[last], packed, w->k, head, side);
    pack_one(w, w->plan->values[last], packed + w->plan->k_bytes, w->v, head, side);
}

/* Piece i of a head's queries. mine: the thread's scratch. */
static void attend_piece(const struct work *w, int64_t head, int64_t i, const char *packed, char *mine)
{
    const struct plan *p = w->plan;
    const struct attention *a = w->a;
    int64_t queries = w->q.shape[0], keys = w->k.shape[0], dim = w->q.shape[2];
    int64_t from = i * p->piece, rows = min64(p->piece, queries - from);
    enum dtype t = cpu_product_type(w->q.dtype), result = cpu_product_type(w->o.dtype);
    int last = rows < p->piece;
    float *s = (float *)(void *)mine;
    char *side = mine + p->score_bytes, *library = side + p->side_bytes;
    gather(side, t, w->q, from, rows, head);
    memset(side + (size_t)(rows * dim) * dtype_bytes(t), 0,
           (size_t)((cpu_up(rows, p->step) - rows) * dim) * dtype_bytes(t));
    cpu_gemm_run(w->c, p->scores[last], s, side, packed, NULL, library);
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
        /* BF16 rows are half as long: they end before the next scores begin. */
        softmax_row((char *)s + (size_t)(r * keys) * dtype_bytes(t), row, extras ? 1.0f : a->scale, keys, t);
    }
    cpu_gemm_run(w->c, p->values[last], side, s, packed + p->k_bytes, NULL, library);
    for (int64_t r = 0; r < rows; r++)
        vec_convert(head_at(w->o, from + r, head), w->o.dtype, side + (size_t)(r * dim) * dtype_bytes(result),
                    result, dim);
}

/* All threads on one head after the other. */
static void attend_together(const struct work *w, char *scratch)
{
    const struct plan *p = w->plan;
    int64_t whole = w->q.shape[0] / p->piece, rest = w->q.shape[0] % p->piece != 0;
    char *packed = scratch + p->bytes - p->k_bytes - p->v_bytes;
    for (int64_t head = 0; head < w->q.shape[1]; head++) {
        pack(w, head, 0, packed, scratch);
#pragma omp parallel for schedule(dynamic) num_threads(w->c->threads)
        for (int64_t i = 0; i < whole; i++)
            attend_piece(w, head, i, packed, scratch + p->thread_bytes * (size_t)omp_get_thread_num());
        if (rest) {
            pack(w, head, 1, packed, scratch);
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
        char *packed = mine + p->thread_bytes - p->k_bytes - p->v_bytes;
        int packed_for = -1;
        for (int64_t i = first; i < min64(first + share, pieces); i++) {
            int last = (i + 1) * p->piece > w->q.shape[0];
            if (packed_for != last)
                pack(w, head, packed_for = last, packed, mine);
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
