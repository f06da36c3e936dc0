/* cpu_rows.c - the row-wise operations of the cpu device: norms, gates, rope,
 * elementwise, group norm. A row is widened to F32, worked on, rounded once.
 * Rows are dealt to threads and no sum crosses rows, except that group norm
 * merges the moments of picture rows in their order: a result does not depend
 * on the number of threads. */
#include "kernels/cpu_internal.h"
#include "kernels/cpu_vec.h"

#include <math.h>
#include <string.h>

/* One call of a row operation. */
struct rows {
    struct tensor y, x;
    const struct tensor *vector[2]; /* [n] each, or NULL */
    bool one_plus;                  /* 1 is added to vector[0]: AdaLN's scale */
    float eps;
    enum act act;
};

static char *row_at(struct tensor t, int64_t i)
{
    return (char *)t.data + (size_t)(i * t.stride[0]) * dtype_bytes(t.dtype);
}

/* work(row, n, vectors, args) for each row of x, result to y; y's own old row
 * is in `old` where `reads_y`. */
typedef void row_work(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r);

static void each_row(const struct rows *r, bool reads_y, row_work *work)
{
    int64_t m = r->x.shape[0], n = r->x.shape[1];
#pragma omp parallel if (m * n > 16384)
    {
        float row[n], old[reads_y ? n : 1], a[r->vector[0] ? n : 1], b[r->vector[1] ? n : 1];
        float *const vector[2] = { a, b };
        for (int v = 0; v < 2; v++)
            if (r->vector[v])
                vec_load(vector[v], r->vector[v]->data, r->vector[v]->dtype, n);
        if (r->one_plus)
            vec_affine(a, 1, 1, n);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < m; i++) {
            vec_load(row, row_at(r->x, i), r->x.dtype, n);
            if (reads_y)
                vec_load(old, row_at(r->y, i), r->y.dtype, n);
            work(row, old, n, vector, r);
            vec_store(row_at(r->y, i), r->y.dtype, row, n);
        }
    }
}

static void layer_norm_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)old;
    float mean = vec_sum(row, n) / (float)n;
    float variance = vec_sum_square(row, mean, n) / (float)n;
    vec_normalise(row, mean, 1.0f / sqrtf(variance + r->eps), vector[0], vector[1], n);
}

void cpu_layer_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, struct tensor b, float eps)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x, .vector = { &w, &b }, .eps = eps }, false, layer_norm_row);
}

void cpu_norm_modulate(struct device *d, struct tensor y, struct tensor x, struct tensor scale,
                       struct tensor shift, float eps)
{
    (void)d;
    struct rows r = { .y = y, .x = x, .vector = { &scale, &shift }, .one_plus = true, .eps = eps };
    each_row(&r, false, layer_norm_row);
}

static void rms_norm_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)old;
    vec_affine(row, 1.0f / sqrtf(vec_sum_square(row, 0, n) / (float)n + r->eps), 0, n);
    vec_multiply(row, vector[0], n);
}

void cpu_rms_norm(struct device *d, struct tensor y, struct tensor x, struct tensor w, float eps)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x, .vector = { &w, NULL }, .eps = eps }, false, rms_norm_row);
}

void cpu_qk_norm_rope(struct device *d, struct tensor x, struct tensor w, struct tensor rope, float eps)
{
    (void)d;
    int64_t n = x.shape[2];
#pragma omp parallel
    {
        float row[n], weight[n];
        vec_load(weight, w.data, w.dtype, n);
#pragma omp for schedule(static)
        for (int64_t l = 0; l < x.shape[0]; l++)
            for (int64_t h = 0; h < x.shape[1]; h++) {
                char *at = row_at(x, l) + (size_t)(h * x.stride[1]) * dtype_bytes(x.dtype);
                vec_load(row, at, x.dtype, n);
                vec_affine(row, 1.0f / sqrtf(vec_sum_square(row, 0, n) / (float)n + eps), 0, n);
                vec_multiply(row, weight, n);
                vec_rope(row, (const float *)(const void *)row_at(rope, l), n);
                vec_store(at, x.dtype, row, n);
            }
    }
}

static void activate_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)old, (void)vector;
    vec_act(row, r->act, n);
}

void cpu_activate(struct device *d, struct tensor y, struct tensor x, enum act act)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x, .act = act }, false, activate_row);
}

static void add_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)vector, (void)r;
    vec_add(row, old, n);
}

void cpu_add(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x }, true, add_row);
}

static void multiply_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)vector, (void)r;
    vec_multiply(row, old, n);
}

void cpu_multiply(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x }, true, multiply_row);
}

static void gated_add_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)r;
    vec_multiply(row, vector[0], n);
    vec_add(row, old, n);
}

void cpu_gated_add(struct device *d, struct tensor y, struct tensor x, struct tensor gate)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x, .vector = { &gate, NULL } }, true, gated_add_row);
}

static void copy_row(float *row, const float *old, int64_t n, float *const vector[2], const struct rows *r)
{
    (void)row, (void)old, (void)n, (void)vector, (void)r;
}

void cpu_copy(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    each_row(&(struct rows){ .y = y, .x = x }, false, copy_row);
}

void cpu_embed(struct device *d, struct tensor y, struct tensor table, const int32_t *ids)
{
    (void)d;
    int64_t n = y.shape[1];
    float row[n];
    for (int64_t i = 0; i < y.shape[0]; i++) {
        vec_load(row, row_at(table, ids[i]), table.dtype, n);
        vec_store(row_at(y, i), y.dtype, row, n);
    }
}

/* --- pictures ---------------------------------------------------------------- */
static char *pixel_at(struct tensor t, int64_t row, int64_t col)
{
    return row_at(t, row) + (size_t)(col * t.stride[1]) * dtype_bytes(t.dtype);
}

void cpu_upsample2x(struct device *d, struct tensor y, struct tensor x)
{
    (void)d;
    size_t bytes = (size_t)x.shape[2] * dtype_bytes(x.dtype);
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < y.shape[0]; r++)
        for (int64_t col = 0; col < y.shape[1]; col++)
            memcpy(pixel_at(y, r, col), pixel_at(x, r / 2, col / 2), bytes);
}

/* Of each of `groups` groups of `size` sums: their total. */
static void group_totals(double *total, const float *sum, int64_t groups, int64_t size)
{
    for (int64_t g = 0; g < groups; g++) {
        total[g] = 0;
        for (int64_t c = g * size; c < (g + 1) * size; c++)
            total[g] += (double)sum[c];
    }
}

void cpu_group_moments(struct device *d, struct tensor moments, struct tensor x)
{
    (void)d;
    int64_t width = x.shape[1], channels = x.shape[2], groups = moments.shape[1], size = channels / groups;
#pragma omp parallel
    {
        float pixel[channels], sum[channels], centre[channels];
        double total[groups];
#pragma omp for schedule(static)
        for (int64_t r = 0; r < x.shape[0]; r++) {
            memset(sum, 0, sizeof sum);
            for (int64_t col = 0; col < width; col++) {
                vec_load(pixel, pixel_at(x, r, col), x.dtype, channels);
                vec_add(sum, pixel, channels);
            }
            group_totals(total, sum, groups, size);
            for (int64_t c = 0; c < channels; c++)
                centre[c] = (float)(total[c / size] / (double)(width * size));
            memset(sum, 0, sizeof sum);
            for (int64_t col = 0; col < width; col++) { /* the row is still in the cache */
                vec_load(pixel, pixel_at(x, r, col), x.dtype, channels);
                vec_add_square(sum, pixel, centre, channels);
            }
            group_totals(total, sum, groups, size);
            for (int64_t g = 0; g < groups; g++) {
                float *m = (float *)(void *)pixel_at(moments, r, g);
                m[0] = centre[g * size];
                m[1] = (float)total[g];
            }
        }
    }
}

/* Chan's merge of the rows' moments, one row of n values after the other, in double. */
static void merge_moments(struct tensor moments, int64_t n, double *mean, double *variance)
{
    int64_t rows = moments.shape[0], groups = moments.shape[1];
    for (int64_t g = 0; g < groups; g++)
        mean[g] = variance[g] = 0;
    for (int64_t r = 0; r < rows; r++) {
        double share = 1 / (double)(r + 1);
        for (int64_t g = 0; g < groups; g++) {
            const float *m = (const float *)(const void *)pixel_at(moments, r, g);
            double away = (double)m[0] - mean[g];
            mean[g] += away * share;
            variance[g] += (double)m[1] + away * away * (double)n * (double)r * share;
        }
    }
    for (int64_t g = 0; g < groups; g++)
        variance[g] /= (double)(rows * n);
}

void cpu_group_norm(struct device *d, struct tensor y, struct tensor x, struct tensor moments, struct tensor w,
                    struct tensor b, float eps, enum act act)
{
    (void)d;
    int64_t channels = x.shape[2], groups = moments.shape[1], size = channels / groups;
    double mean[groups], variance[groups];
    merge_moments(moments, x.shape[1] * size, mean, variance);
    float gain[channels], offset[channels]; /* y = x * gain + offset */
    vec_load(gain, w.data, w.dtype, channels);
    vec_load(offset, b.data, b.dtype, channels);
    for (int64_t c = 0; c < channels; c++) {
        gain[c] /= sqrtf((float)variance[c / size] + eps);
        offset[c] -= (float)mean[c / size] * gain[c];
    }
#pragma omp parallel
    {
        float pixel[channels];
#pragma omp for schedule(static)
        for (int64_t r = 0; r < x.shape[0]; r++)
            for (int64_t col = 0; col < x.shape[1]; col++) {
                vec_load(pixel, pixel_at(x, r, col), x.dtype, channels);
                vec_multiply(pixel, gain, channels);
                vec_add(pixel, offset, channels);
                vec_act(pixel, act, channels);
                vec_store(pixel_at(y, r, col), y.dtype, pixel, channels);
            }
    }
}
