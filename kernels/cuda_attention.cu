/* cuda_attention.cu - softmax(scale q k^T + bias) v on a card: flash attention on
 * tensor cores for heads of 64, 128 and 512, and a plain one in F32 for the rest.
 *
 * All walk the keys once, from key 0, and keep of each query the greatest logit so
 * far, the sum of its probabilities and the sum of the values they weigh; when a
 * greater logit comes, the sums are scaled down (online softmax). A query's numbers
 * meet no other query's, keys are never divided among blocks, and groups of keys
 * begin at fixed places: so a query's result does not depend on how many are asked for.
 *
 * Logits are compared before they are scaled, and only differences go into an exponent: as
 * differences are 0 at most, no logit is too large. A NaN in a row of q, or anywhere
 * in k and v, makes a sum of probabilities or values NaN, as it should. Rows of k and v behind the last
 * are never read, and a masked key's value is not multiplied: 0 * NaN is NaN. */
#include "kernels/cuda_mma.h"
#include "kernels/cuda_types.h"

/* A tensor [L,H,D] as kernels see it. */
struct heads {
    unsigned char *data;
    int64_t row, head; /* strides, bytes */
    enum dtype type;
    bool wide; /* 16-byte accesses are allowed */
};

struct operands {
    struct heads o, q, k, v;
    int queries, keys, dim;
    float scale;
};

static const float LOG2E = 1.4426950408889634f;

/* --- flash: what the two kernels have in common -------------------------------------------- */
enum { FLASH_WARPS = 8, FLASH_THREADS = FLASH_WARPS * WARP, FLASH_KEYS = 64, PIECE_BYTES = 16 };

/* Probabilities go into the second product as exponents of 2 raised by this much, and come out
 * in the division by their sum: F16 has room above 1, and lacks it below. */
template <class T> static __device__ constexpr float probability_shift() { return sizeof(T) == 0; }
template <> __device__ constexpr float probability_shift<__half>() { return 15; }

/* Piece `piece` of a row of PIECES, in a tile in shared memory: the same piece of eight rows that
 * follow each other lies in eight places that can be read at once. */
template <int PIECES, class Byte> static __device__ inline Byte *at(Byte *tile, int row, int piece)
{
    return tile + (row * PIECES + (piece ^ (row & 7))) * PIECE_BYTES;
}

/* Rows [first, first + ROWS) of one head to a tile; zeros from row `end` on. */
template <int ROWS, int PIECES>
static __device__ inline void fetch(unsigned char *tile, const struct heads &x, int first, int end, int offset = 0)
{
    const unsigned char *from = x.data + blockIdx.y * x.head + offset;
    int piece = (int)(threadIdx.x % PIECES);
    from += piece * PIECE_BYTES;
#pragma unroll
    for (int i = 0; i < ROWS; i += FLASH_THREADS / PIECES) {
        int row = i + (int)(threadIdx.x / PIECES);
        bool there = first + row < end;
        copy_async(at<PIECES>(tile, row, piece), from + (there ? (first + row) * x.row : 0), there);
    }
}

/* Where a lane's row begins for mma_load: a's fragment of 16 rows, 16 columns from piece on, ... */
template <int PIECES>
static __device__ inline const unsigned char *a_at(const unsigned char *tile, int row, int piece, int lane)
{
    return at<PIECES>(tile, row + (lane & 15), piece + (lane >> 4));
}
/* ... b's of two products with 16 columns of b, which are rows of the tile (keys), ... */
template <int PIECES>
static __device__ inline const unsigned char *k_at(const unsigned char *tile, int row, int piece, int lane)
{
    return at<PIECES>(tile, row + (lane >> 4) * 8 + (lane & 7), piece + (lane >> 3 & 1));
}
/* ... and, transposed, b's of two products where its 16 rows are those of the tile. */
template <int PIECES>
static __device__ inline const unsigned char *v_at(const unsigned char *tile, int row, int piece, int lane)
{
    return at<PIECES>(tile, row + (lane >> 3 & 1) * 8 + (lane & 7), piece + (lane >> 4));
}

/* Logits of keys that are not there; s: of keys `first` and following. */
template <int TILES> static __device__ inline void mask(float (&s)[TILES][4], int first, int keys, int lane)
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (first + n * 8 + (lane & 3) * 2 + (i & 1) >= keys)
                s[n][i] = -INFINITY;
}

/* The greatest of each of the two rows that four lanes have together, and of what was in max. */
template <int TILES> static __device__ inline void row_max(const float (&s)[TILES][4], float (&max)[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
        for (int n = 0; n < TILES; n++)
            max[r] = fmaxf(max[r], fmaxf(s[n][2 * r], s[n][2 * r + 1]));
        max[r] = warp_max(max[r], 4);
    }
}

/* Of each of a lane's two rows: the greatest logit so far, and the lane's share of the sum. */
struct running {
    float max[2], sum[2];
};

/* Logits become probabilities; keep[r]: what remains of the sums so far. */
template <class T, int TILES>
static __device__ inline void soften(float (&s)[TILES][4], struct running &run, const float (&max)[2], float scale,
                                     float (&keep)[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        keep[r] = exp2_quick((run.max[r] - max[r]) * scale);
        run.max[r] = max[r];
        run.sum[r] *= keep[r];
#pragma unroll
        for (int n = 0; n < TILES; n++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[n][i] = exp2_quick(fmaf(s[n][i] - max[r], scale, probability_shift<T>()));
                run.sum[r] += s[n][i];
            }
    }
}

template <int TILES> static __device__ inline void shrink(float (&o)[TILES][4], const float (&keep)[2])
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            o[n][i] *= keep[i / 2];
}

template <class T> struct alignas(2 * sizeof(T)) pair {
    T low, high;
};

/* --- flash, heads of 64 and 128: a warp has 16 queries and all of their values ------------- */
enum { FLASH_QUERIES = FLASH_WARPS * 16 };

/* Two tiles of k, then two of v: one is worked on while the next arrives. Queries come through the place of k. */
template <int D> static __host__ __device__ constexpr int flash_tile_bytes() { return FLASH_KEYS * D * 2; }
template <int D> static __host__ __device__ constexpr int flash_shared_bytes() { return 4 * flash_tile_bytes<D>(); }

template <class T, int D>
static __global__ void __launch_bounds__(FLASH_THREADS, D == 64 ? 2 : 1) flash(struct operands f)
{
    if (!mma_has<T>())
        return;
    SHARED(shared);
    constexpr int PIECES = D / 8, TILE = flash_tile_bytes<D>(), STEPS = D / 16, TILES = FLASH_KEYS / 8;
    int lane = (int)(threadIdx.x % WARP), warp = (int)(threadIdx.x / WARP);
    int first_query = (int)blockIdx.x * FLASH_QUERIES;
    unsigned char *k_tiles = shared, *v_tiles = shared + 2 * TILE;

    static_assert((int)FLASH_QUERIES == 2 * (int)FLASH_KEYS, "queries fit into the place of k");
    uint32_t q[STEPS][4];
    fetch<FLASH_QUERIES, PIECES>(shared, f.q, first_query, f.queries);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
#pragma unroll
    for (int i = 0; i < STEPS; i++)
        mma_load(q[i], a_at<PIECES>(shared, warp * 16, 2 * i, lane));
    __syncthreads();
    fetch<FLASH_KEYS, PIECES>(k_tiles, f.k, 0, f.keys);
    fetch<FLASH_KEYS, PIECES>(v_tiles, f.v, 0, f.keys);
    copy_async_commit();

    float scale = f.scale * LOG2E, o[D / 8][4] = {};
    struct running run = { { -INFINITY, -INFINITY }, { 0, 0 } };
    for (int first = 0, now = 0; first < f.keys; first += FLASH_KEYS, now ^= 1) {
        const unsigned char *k_tile = k_tiles + now * TILE, *v_tile = v_tiles + now * TILE;
        copy_async_wait<0>();
        __syncthreads(); /* this tile has come, and nobody reads the other one any more */
        if (first + FLASH_KEYS < f.keys) {
            fetch<FLASH_KEYS, PIECES>(k_tiles + (now ^ 1) * TILE, f.k, first + FLASH_KEYS, f.keys);
            fetch<FLASH_KEYS, PIECES>(v_tiles + (now ^ 1) * TILE, f.v, first + FLASH_KEYS, f.keys);
            copy_async_commit();
        }
        float s[TILES][4] = {};
#pragma unroll
        for (int i = 0; i < STEPS; i++)
#pragma unroll
            for (int n = 0; n < TILES; n += 2) {
                uint32_t b[4];
                mma_load(b, k_at<PIECES>(k_tile, n * 8, 2 * i, lane));
                mma<T>(s[n], q[i], b[0], b[1]);
                mma<T>(s[n + 1], q[i], b[2], b[3]);
            }
        if (first + FLASH_KEYS > f.keys)
            mask(s, first, f.keys, lane);
        float max[2] = { run.max[0], run.max[1] }, keep[2];
        row_max(s, max);
        soften<T>(s, run, max, scale, keep);
        shrink(o, keep);
#pragma unroll
        for (int i = 0; i < TILES; i += 2) {
            uint32_t p[4] = { mma_pack<T>(s[i][0], s[i][1]), mma_pack<T>(s[i][2], s[i][3]),
                              mma_pack<T>(s[i + 1][0], s[i + 1][1]), mma_pack<T>(s[i + 1][2], s[i + 1][3]) };
#pragma unroll
            for (int n = 0; n < D / 8; n += 2) {
                uint32_t b[4];
                mma_load_transposed(b, v_at<PIECES>(v_tile, i * 8, n, lane));
                mma<T>(o[n], p, b[0], b[1]);
                mma<T>(o[n + 1], p, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float share = 1.0f / warp_sum(run.sum[r], 4);
        int row = first_query + warp * 16 + (lane >> 2) + 8 * r;
        pair<T> *to = (pair<T> *)(f.o.data + row * f.o.row + blockIdx.y * f.o.head) + (lane & 3);
        if (row < f.queries)
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                to[n * 4] = { from_float<T>(o[n][2 * r] * share), from_float<T>(o[n][2 * r + 1] * share) };
    }
}

/* --- flash, heads of 512: four warps share 16 GROUPS queries -------------------------------- */
/* Values for 512 columns are too many for one warp's registers: each of the four has all keys for a quarter of
 * the columns, and a quarter of the keys when it comes to logits; greatest logits and probabilities go round
 * through shared memory. The block's two teams of four work on the same keys. k comes in tiles of 64 keys by 64
 * columns, v in tiles of 16 keys by 256: 8 KiB each, eight and eight for 64 keys. */
enum {
    WIDE_DIM = 512, WIDE_TEAM = 4, WIDE_TEAMS = FLASH_WARPS / WIDE_TEAM,
    WIDE_TILE = 8 * 1024, WIDE_TILES = 8, WIDE_RING = 3,
    WIDE_ROW = WIDE_DIM * 2, /* bytes */
    WIDE_K_PIECES = WIDE_ROW / WIDE_TILES / PIECE_BYTES, WIDE_V_PIECES = WIDE_ROW / 2 / PIECE_BYTES,
};

static __host__ __device__ constexpr int wide_queries(int groups) { return WIDE_TEAMS * groups * 16; }
/* Queries, probabilities, the ring, greatest logits and at the end sums. */
static __host__ __device__ constexpr int wide_shared_bytes(int groups)
{
    return wide_queries(groups) * (WIDE_ROW + FLASH_KEYS * 2 + WIDE_TEAM * (int)sizeof(float)) + WIDE_RING * WIDE_TILE;
}

/* Tile `tile` of those that come one after the other, into its place in the ring. */
static __device__ inline void wide_fetch(unsigned char *ring, const struct operands &f, int tile)
{
    unsigned char *to = ring + tile % WIDE_RING * WIDE_TILE;
    int first = tile / (2 * WIDE_TILES) * FLASH_KEYS, i = tile % (2 * WIDE_TILES);
    if (first >= f.keys)
        return;
    if (i < WIDE_TILES)
        fetch<FLASH_KEYS, WIDE_K_PIECES>(to, f.k, first, f.keys, i * WIDE_K_PIECES * PIECE_BYTES);
    else
        fetch<16, WIDE_V_PIECES>(to, f.v, first + (i - WIDE_TILES) / 2 * 16, f.keys,
                                 i % 2 * WIDE_V_PIECES * PIECE_BYTES);
}

/* Waits for a tile, and sends for the one that takes the place of the tile before it. A barrier. */
static __device__ inline const unsigned char *wide_next(unsigned char *ring, const struct operands &f, int &tile)
{
    copy_async_wait<WIDE_RING - 2>();
    __syncthreads();
    wide_fetch(ring, f, tile + WIDE_RING - 1);
    copy_async_commit();
    return ring + tile++ % WIDE_RING * WIDE_TILE;
}

template <class T, int GROUPS> static __global__ void __launch_bounds__(FLASH_THREADS, 1) flash_wide(struct operands f)
{
    if (!mma_has<T>())
        return;
    SHARED(shared);
    constexpr int QUERIES = wide_queries(GROUPS), QUARTER = FLASH_KEYS / WIDE_TEAM, TILES = QUARTER / 8;
    constexpr int Q_PIECES = WIDE_ROW / PIECE_BYTES, P_PIECES = FLASH_KEYS / 8;
    constexpr int COLUMNS = WIDE_DIM / 2 / WIDE_TEAM; /* of one half, a warp's */
    int lane = (int)(threadIdx.x % WARP), warp = (int)(threadIdx.x / WARP);
    int member = warp % WIDE_TEAM, row0 = warp / WIDE_TEAM * GROUPS * 16;
    int first_query = (int)blockIdx.x * QUERIES;
    unsigned char *q_tile = shared, *p_tile = q_tile + QUERIES * WIDE_ROW, *ring = p_tile + QUERIES * FLASH_KEYS * 2;
    float *exchange = (float *)(ring + WIDE_RING * WIDE_TILE); /* [WIDE_TEAM][QUERIES] */

    fetch<QUERIES, Q_PIECES>(q_tile, f.q, first_query, f.queries);
    for (int i = 0; i < WIDE_RING - 1; i++) {
        wide_fetch(ring, f, i);
        copy_async_commit();
    }
    float scale = f.scale * LOG2E, o[GROUPS][2 * COLUMNS / 8][4] = {};
    struct running run[GROUPS];
#pragma unroll
    for (int m = 0; m < GROUPS; m++)
        run[m] = { { -INFINITY, -INFINITY }, { 0, 0 } };
    int tile = 0;
    for (int first = 0; first < f.keys; first += FLASH_KEYS) {
        float s[GROUPS][TILES][4] = {};
        for (int i = 0; i < WIDE_TILES; i++) {
            const unsigned char *k_tile = wide_next(ring, f, tile);
#pragma unroll
            for (int j = 0; j < WIDE_K_PIECES; j += 2) {
                uint32_t a[4], b[4];
                mma_load(b, k_at<WIDE_K_PIECES>(k_tile, member * QUARTER, j, lane));
#pragma unroll
                for (int m = 0; m < GROUPS; m++) {
                    mma_load(a, a_at<Q_PIECES>(q_tile, row0 + m * 16, i * WIDE_K_PIECES + j, lane));
                    mma<T>(s[m][0], a, b[0], b[1]);
                    mma<T>(s[m][1], a, b[2], b[3]);
                }
            }
        }
        int own = row0 + (lane >> 2); /* the lane's first row */
        float max[GROUPS][2], keep[2];
#pragma unroll
        for (int m = 0; m < GROUPS; m++) {
            if (first + FLASH_KEYS > f.keys)
                mask(s[m], first + member * QUARTER, f.keys, lane);
            max[m][0] = run[m].max[0], max[m][1] = run[m].max[1];
            row_max(s[m], max[m]);
            if ((lane & 3) == 0)
                for (int r = 0; r < 2; r++)
                    exchange[member * QUERIES + own + m * 16 + r * 8] = max[m][r];
        }
        __syncthreads();
#pragma unroll
        for (int m = 0; m < GROUPS; m++) {
#pragma unroll
            for (int r = 0; r < 2; r++)
                for (int w = 0; w < WIDE_TEAM; w++)
                    max[m][r] = fmaxf(max[m][r], exchange[w * QUERIES + own + m * 16 + r * 8]);
            soften<T>(s[m], run[m], max[m], scale, keep);
            shrink(o[m], keep);
#pragma unroll
            for (int n = 0; n < TILES; n++)
#pragma unroll
                for (int r = 0; r < 2; r++)
                    ((uint32_t *)at<P_PIECES>(p_tile, own + m * 16 + r * 8, member * TILES + n))[lane & 3] =
                        mma_pack<T>(s[m][n][2 * r], s[m][n][2 * r + 1]);
        }
        /* The barrier in wide_next stands between these probabilities and who reads them. */
        for (int i = 0; i < WIDE_TILES / 2; i++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const unsigned char *v_tile = wide_next(ring, f, tile);
                uint32_t p[GROUPS][4], b[4];
#pragma unroll
                for (int m = 0; m < GROUPS; m++)
                    mma_load(p[m], a_at<P_PIECES>(p_tile, row0 + m * 16, 2 * i, lane));
#pragma unroll
                for (int n = 0; n < COLUMNS / 8; n += 2) {
                    mma_load_transposed(b, v_at<WIDE_V_PIECES>(v_tile, 0, member * COLUMNS / 8 + n, lane));
#pragma unroll
                    for (int m = 0; m < GROUPS; m++) {
                        mma<T>(o[m][half * COLUMNS / 8 + n], p[m], b[0], b[1]);
                        mma<T>(o[m][half * COLUMNS / 8 + n + 1], p[m], b[2], b[3]);
                    }
                }
            }
    }
#pragma unroll
    for (int m = 0; m < GROUPS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float sum = warp_sum(run[m].sum[r], 4);
            if ((lane & 3) == 0)
                exchange[member * QUERIES + row0 + (lane >> 2) + m * 16 + r * 8] = sum;
        }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < GROUPS; m++)
#pragma unroll
        for (int r = 0; r < 2; r++) {
            int own = row0 + (lane >> 2) + m * 16 + r * 8, row = first_query + own;
            float sum = 0;
            for (int w = 0; w < WIDE_TEAM; w++)
                sum += exchange[w * QUERIES + own];
            pair<T> *to = (pair<T> *)(f.o.data + row * f.o.row + blockIdx.y * f.o.head) + (lane & 3);
            if (row < f.queries)
#pragma unroll
                for (int n = 0; n < 2 * COLUMNS / 8; n++) {
                    int column = n / (COLUMNS / 8) * (WIDE_DIM / 2) + member * COLUMNS + n % (COLUMNS / 8) * 8;
                    to[column / 2] = { from_float<T>(o[m][n][2 * r] / sum), from_float<T>(o[m][n][2 * r + 1] / sum) };
                }
        }
}

/* --- plain: a warp has four queries, a lane a key, then some columns ------------------------- */
enum { PLAIN_WARPS = 8, PLAIN_THREADS = PLAIN_WARPS * WARP, PLAIN_ROWS = 4, PLAIN_QUERIES = PLAIN_WARPS * PLAIN_ROWS };

struct extras {
    bool causal;
    const float *bias; /* NULL: none */
    int64_t bias_head; /* stride, elements */
};

/* Columns of a part of a head, and of its row in shared memory: lanes that read 16 bytes of eight
 * rows at one column find them in different places. */
static __host__ __device__ constexpr int plain_columns(int lane_dims) { return WARP * lane_dims; }
static __host__ __device__ constexpr int plain_stride(int lane_dims) { return plain_columns(lane_dims) + 4; }
/* Queries, keys or values, probabilities: within what every card gives without asking. */
static __host__ __device__ constexpr int plain_shared_bytes(int lane_dims)
{
    return ((PLAIN_QUERIES + WARP) * plain_stride(lane_dims) + PLAIN_QUERIES * WARP) * (int)sizeof(float);
}

/* [rows][columns] of one head as F32, zeros up to a whole chunk. */
template <class T>
static __device__ inline void widen_rows(float *to, int stride, const unsigned char *from, int64_t row_bytes, int rows,
                                         int columns, bool wide)
{
    int chunks = (columns + CHUNK - 1) / CHUNK;
    for (int i = (int)threadIdx.x; i < rows * chunks; i += PLAIN_THREADS) {
        int r = i / chunks, c = i % chunks * CHUNK;
        float v[CHUNK];
        load_chunk(v, (const T *)(from + r * row_bytes) + c, columns - c, wide);
        float4 *at = (float4 *)(to + r * stride + c);
        at[0] = make_float4(v[0], v[1], v[2], v[3]);
        at[1] = make_float4(v[4], v[5], v[6], v[7]);
    }
}

/* At most 32 rows [first, end), columns [column, column + columns). */
static __device__ inline void load_rows(float *to, int stride, const struct heads &x, int first, int end, int column,
                                        int columns)
{
    const unsigned char *from = x.data + blockIdx.y * x.head + first * x.row;
    int rows = min(end - first, WARP);
    if (x.type == DT_F32)
        widen_rows<float>(to, stride, from + column * 4, x.row, rows, columns, x.wide);
    else if (x.type == DT_BF16)
        widen_rows<__nv_bfloat16>(to, stride, from + column * 2, x.row, rows, columns, x.wide);
    else
        widen_rows<__half>(to, stride, from + column * 2, x.row, rows, columns, x.wide);
}

static __device__ inline void store_one(const struct heads &x, int row, int column, float value)
{
    unsigned char *to = x.data + blockIdx.y * x.head + row * x.row;
    if (x.type == DT_F32)
        ((float *)to)[column] = value;
    else if (x.type == DT_BF16)
        ((__nv_bfloat16 *)to)[column] = from_float<__nv_bfloat16>(value);
    else
        ((__half *)to)[column] = from_float<__half>(value);
}

/* A head is worked on in PARTS of 32 LANE_DIMS columns. */
template <int LANE_DIMS, int PARTS>
static __global__ void __launch_bounds__(PLAIN_THREADS, PARTS == 1 ? 2 : 1) plain(struct operands f, struct extras x)
{
    SHARED(shared);
    constexpr int COLUMNS = plain_columns(LANE_DIMS), STRIDE = plain_stride(LANE_DIMS);
    int lane = (int)(threadIdx.x % WARP), warp = (int)(threadIdx.x / WARP);
    int block_query = (int)blockIdx.x * PLAIN_QUERIES, query = block_query + warp * PLAIN_ROWS;
    int end = x.causal ? min(f.keys, block_query + PLAIN_QUERIES) : f.keys;
    float *q = (float *)shared, *kv = q + PLAIN_QUERIES * STRIDE, *p = kv + WARP * STRIDE + warp * PLAIN_ROWS * WARP;
    const float *my_q = q + warp * PLAIN_ROWS * STRIDE, *my_k = kv + lane * STRIDE;
    static_assert((int)PLAIN_QUERIES == (int)WARP, "load_rows loads a warp's number of rows");

    float o[PLAIN_ROWS][PARTS][LANE_DIMS] = {}, max[PLAIN_ROWS], sum[PLAIN_ROWS];
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++)
        max[r] = -INFINITY, sum[r] = 0;
    for (int first = 0; first < end; first += WARP) {
        float s[PLAIN_ROWS] = {};
        for (int from = 0; from < f.dim; from += COLUMNS) {
            int columns = min(f.dim - from, COLUMNS);
            __syncthreads();
            if (PARTS > 1 || first == 0)
                load_rows(q, STRIDE, f.q, block_query, f.queries, from, columns);
            load_rows(kv, STRIDE, f.k, first, f.keys, from, columns);
            __syncthreads();
            for (int d = 0; d < columns; d += 4) {
                float4 b = *(const float4 *)(my_k + d);
#pragma unroll
                for (int r = 0; r < PLAIN_ROWS; r++) {
                    float4 a = *(const float4 *)(my_q + r * STRIDE + d);
                    s[r] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, s[r]))));
                }
            }
        }
        int seen[PLAIN_ROWS], most = 0; /* keys of this group that a query sees */
#pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            int i = query + r;
            seen[r] = i < f.queries ? min(f.keys - first, x.causal ? i - first + 1 : WARP) : 0;
            most = ::max(most, min(seen[r], WARP));
            float logit = -INFINITY;
            if (lane < seen[r]) {
                logit = s[r] * f.scale;
                if (x.bias)
                    logit += x.bias[blockIdx.y * x.bias_head + first + lane - i + f.queries - 1];
            }
            float greatest = fmaxf(max[r], warp_max(logit)), keep = expf(max[r] - greatest);
            float probability = lane < seen[r] ? expf(logit - greatest) : 0.0f;
            max[r] = greatest;
            sum[r] = sum[r] * keep + probability;
            p[r * WARP + lane] = probability;
#pragma unroll
            for (int part = 0; part < PARTS; part++)
#pragma unroll
                for (int d = 0; d < LANE_DIMS; d++)
                    o[r][part][d] *= keep;
        }
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            int from = part * COLUMNS;
            if (from >= f.dim)
                break;
            __syncthreads();
            load_rows(kv, STRIDE, f.v, first, f.keys, from, min(f.dim - from, COLUMNS));
            __syncthreads();
            for (int j = 0; j < most; j += 4) {
                float4 four[PLAIN_ROWS];
#pragma unroll
                for (int r = 0; r < PLAIN_ROWS; r++)
                    four[r] = *(const float4 *)(p + r * WARP + j);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    float v[LANE_DIMS];
#pragma unroll
                    for (int d = 0; d < LANE_DIMS; d++)
                        v[d] = kv[(j + i) * STRIDE + d * WARP + lane];
#pragma unroll
                    for (int r = 0; r < PLAIN_ROWS; r++) {
                        float weight = i == 0 ? four[r].x : i == 1 ? four[r].y : i == 2 ? four[r].z : four[r].w;
                        if (j + i < seen[r])
#pragma unroll
                            for (int d = 0; d < LANE_DIMS; d++)
                                o[r][part][d] = fmaf(weight, v[d], o[r][part][d]);
                    }
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < PLAIN_ROWS; r++) {
        float total = warp_sum(sum[r]);
#pragma unroll
        for (int part = 0; part < PARTS; part++)
#pragma unroll
            for (int d = 0; d < LANE_DIMS; d++) {
                int column = part * COLUMNS + d * WARP + lane;
                if (query + r < f.queries && column < f.dim)
                    store_one(f.o, query + r, column, o[r][part][d] / total);
            }
    }
}

/* --- host ------------------------------------------------------------------------------------ */
static struct heads heads_of(struct tensor t)
{
    int64_t size = t.dtype == DT_F32 ? 4 : 2;
    bool wide = ((uintptr_t)t.data | (uintptr_t)(t.stride[0] * size) | (uintptr_t)(t.stride[1] * size)) % 16 == 0;
    return (struct heads){ (unsigned char *)t.data, t.stride[0] * size, t.stride[1] * size, t.dtype, wide };
}

static struct operands operands_of(struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale)
{
    return (struct operands){ heads_of(o), heads_of(q), heads_of(k), heads_of(v),
                              (int)q.shape[0], (int)k.shape[0], (int)q.shape[2], scale };
}

static dim3 grid_of(const struct operands &f, int queries, int64_t heads)
{
    return dim3((unsigned)ceil_div(f.queries, queries), (unsigned)heads);
}

extern "C" bool cuda_k_flash_can(int sm, struct tensor o, struct tensor q, struct tensor k, struct tensor v)
{
    const struct tensor *all[] = { &o, &q, &k, &v };
    int64_t dim = q.shape[2];
    for (int i = 0; i < 4; i++)
        if (all[i]->dtype != q.dtype || !heads_of(*all[i]).wide)
            return false;
    return (dim == 64 || dim == 128 || dim == WIDE_DIM) &&
           (q.dtype == DT_F16 ? sm >= 75 : q.dtype == DT_BF16 && sm >= 80);
}

/* More shared memory than 48 KiB has to be asked for. */
static cudaError_t flash_launch(void (*kernel)(struct operands), dim3 grid, int shared_bytes, cudaStream_t s,
                                const struct operands &f)
{
    cudaError_t rc = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    return rc != cudaSuccess ? rc : LAUNCH(kernel, grid, FLASH_THREADS, shared_bytes, s, f);
}

template <class T> static cudaError_t flash_of(cudaStream_t s, const struct operands &f, int64_t heads)
{
    if (f.dim == 64)
        return flash_launch(flash<T, 64>, grid_of(f, FLASH_QUERIES, heads), flash_shared_bytes<64>(), s, f);
    if (f.dim == 128)
        return flash_launch(flash<T, 128>, grid_of(f, FLASH_QUERIES, heads), flash_shared_bytes<128>(), s, f);
    return flash_launch(flash_wide<T, 2>, grid_of(f, wide_queries(2), heads), wide_shared_bytes(2), s, f);
}

extern "C" cudaError_t cuda_k_flash(cudaStream_t s, int sm, struct tensor o, struct tensor q, struct tensor k,
                                    struct tensor v, float scale)
{
    struct operands f = operands_of(o, q, k, v, scale);
    int64_t heads = q.shape[1];
    if (f.dim == WIDE_DIM && sm < 80) /* 64 KiB of shared memory; from 80 on 99 at least */
        return flash_launch(flash_wide<__half, 1>, grid_of(f, wide_queries(1), heads), wide_shared_bytes(1), s, f);
    return q.dtype == DT_F16 ? flash_of<__half>(s, f, heads) : flash_of<__nv_bfloat16>(s, f, heads);
}

extern "C" cudaError_t cuda_k_attention(cudaStream_t s, struct tensor o, struct tensor q, struct tensor k,
                                        struct tensor v, float scale, bool causal, struct tensor bias)
{
    struct operands f = operands_of(o, q, k, v, scale);
    struct extras x = { causal, (const float *)bias.data, bias.stride[0] };
    dim3 grid = grid_of(f, PLAIN_QUERIES, q.shape[1]);
    if (f.dim <= 64)
        return LAUNCH((plain<2, 1>), grid, PLAIN_THREADS, plain_shared_bytes(2), s, f, x);
    if (f.dim <= 128)
        return LAUNCH((plain<4, 1>), grid, PLAIN_THREADS, plain_shared_bytes(4), s, f, x);
    if (f.dim <= 512)
        return LAUNCH((plain<4, 4>), grid, PLAIN_THREADS, plain_shared_bytes(4), s, f, x);
    return f.dim <= 1024 ? LAUNCH((plain<4, 8>), grid, PLAIN_THREADS, plain_shared_bytes(4), s, f, x)
                         : cudaErrorInvalidValue;
}
