/* cpu_attention.c - softmax(q k^T) v on the processor.
 *
 * A task is one head and one piece of its queries; tasks are dealt to threads
 * and each runs its two products alone (oneDNN, one thread), so that scores
 * stay in that core's cache and no thread waits inside a head. A row's result
 * does not depend on the piece it is in. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <math.h>
#include <omp.h>

enum { SCORE_BYTES = 6 * 1024 * 1024, QUERIES_MAX = 512 };

static int64_t piece_queries(int64_t queries, int64_t keys, int64_t heads, int threads)
{
    int64_t n = SCORE_BYTES / (keys * (int64_t)sizeof(float));
    if (n > QUERIES_MAX)
        n = QUERIES_MAX;
    /* Few heads: enough pieces for every thread. */
    int64_t share = (queries * heads + threads - 1) / threads;
    if (n > share)
        n = share;
    n = n / 16 * 16;
    if (n < 16)
        n = 16;
    return n < queries ? n : queries;
}

static struct cpu_gemm scores_gemm(struct tensor q, struct tensor k, int64_t rows)
{
    return (struct cpu_gemm){ .m = rows, .n = k.shape[0], .k = q.shape[2], .type = q.dtype, .y_type = DT_F32,
                              .x_stride = q.stride[0], .w_stride = k.stride[0], .w_step = 1,
                              .y_stride = k.shape[0] };
}

/* Probabilities of a row replace its scores: in BF16 they take the first half
 * of the row, so rows lie twice as many elements apart. */
static struct cpu_gemm values_gemm(struct tensor o, struct tensor v, int64_t rows)
{
    int64_t keys = v.shape[0];
    return (struct cpu_gemm){ .m = rows, .n = v.shape[2], .k = keys, .type = v.dtype, .y_type = o.dtype,
                              .x_stride = v.dtype == DT_BF16 ? 2 * keys : keys, .w_stride = 1,
                              .w_step = v.stride[0], .y_stride = o.stride[0] };
}

static size_t library_bytes(struct cpu_device *c, struct tensor o, struct tensor q, struct tensor k, int64_t rows)
{
    struct cpu_gemm a = scores_gemm(q, k, rows), b = values_gemm(o, k, rows);
    const struct cpu_primitive *pa = cpu_gemm_plan(c, &a, false), *pb = cpu_gemm_plan(c, &b, false);
    size_t na = pa ? pa->scratch_bytes : 0, nb = pb ? pb->scratch_bytes : 0;
    return cpu_round(na > nb ? na : nb);
}

/* A bound on one thread's share: the scores of a piece and what oneDNN asks. */
static size_t thread_bytes(struct cpu_device *c, struct tensor o, struct tensor q, struct tensor k, size_t *library)
{
    int64_t piece = piece_queries(q.shape[0], k.shape[0], q.shape[1], c->threads);
    *library = library_bytes(c, o, q, k, piece);
    if (q.shape[0] % piece) {
        size_t last = library_bytes(c, o, q, k, q.shape[0] % piece);
        *library = last > *library ? last : *library;
    }
    return cpu_round((size_t)(piece * k.shape[0]) * sizeof(float)) + *library;
}

size_t cpu_attention_scratch(struct device *d, struct tensor o, struct tensor q, struct tensor k)
{
    size_t library;
    return thread_bytes(cpu_of(d), o, q, k, &library) * (size_t)cpu_of(d)->threads;
}

static void softmax_row(float *s, int64_t n, enum dtype t)
{
    float max = vec_max(s, n);
    if (max == -INFINITY)
        max = 0;
    float sum = vec_exp(s, 1.0f, max, n);
    vec_affine(s, 1.0f / sum, 0, n);
    if (t == DT_BF16) {
        /* In place, narrowing: the write never overtakes the read. */
        float piece[256];
        uint16_t *p = (uint16_t *)(void *)s;
        for (int64_t j = 0; j < n; j += 256) {
            int64_t m = n - j < 256 ? n - j : 256;
            vec_load(piece, s + j, DT_F32, m);
            vec_store(p + j, DT_BF16, piece, m);
        }
    }
}

static char *head_at(struct tensor t, int64_t row, int64_t head)
{
    return (char *)t.data + (size_t)(row * t.stride[0] + head * t.stride[1]) * dtype_bytes(t.dtype);
}

void cpu_attention(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a, void *scratch)
{
    struct cpu_device *c = cpu_of(d);
    cpu_cache_trim(c);
    int64_t queries = q.shape[0], keys = k.shape[0], heads = q.shape[1];
    int64_t piece = piece_queries(queries, keys, heads, c->threads);
    int64_t pieces = (queries + piece - 1) / piece;
    size_t library, share = thread_bytes(c, o, q, k, &library);
    /* [0]: a whole piece; [1]: the last, shorter one. */
    struct cpu_primitive *scores[2], *values[2];
    for (int last = 0; last < 2; last++) {
        int64_t rows = last && queries % piece ? queries % piece : piece;
        struct cpu_gemm gs = scores_gemm(q, k, rows), gv = values_gemm(o, v, rows);
        scores[last] = cpu_gemm_plan(c, &gs, true);
        values[last] = cpu_gemm_plan(c, &gv, true);
        if (!scores[last] || !values[last])
            return;
    }
#pragma omp parallel for schedule(dynamic) num_threads(c->threads)
    for (int64_t task = 0; task < heads * pieces; task++) {
        int64_t head = task / pieces, from = task % pieces * piece;
        int64_t rows = queries - from < piece ? queries - from : piece;
        int last = rows < piece;
        float *s = (float *)(void *)((char *)scratch + share * (size_t)omp_get_thread_num());
        char *pad = (char *)s + share - library;
        cpu_gemm_run(c, scores[last], s, head_at(q, from, head), head_at(k, 0, head), NULL, pad);
        for (int64_t i = 0; i < rows; i++) {
            float *row = s + i * keys;
            vec_affine(row, a->scale, 0, keys);
            if (tensor_present(a->bias)) {
                const float *bias = (const float *)a->bias.data + head * a->bias.stride[0] + queries - 1 - (from + i);
                vec_add(row, bias, keys);
            }
            int64_t seen = a->causal ? from + i + 1 : keys;
            for (int64_t j = seen; j < keys; j++)
                row[j] = -INFINITY;
            softmax_row(row, keys, v.dtype);
        }
        cpu_gemm_run(c, values[last], head_at(o, from, head), s, head_at(v, 0, head), NULL, pad);
    }
}
