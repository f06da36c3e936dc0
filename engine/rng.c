/* rng.c - torch's CPU normal generator and CUDA-style philox in plain C.
 *
 * torch's AVX2 build evaluates log, sin and cos with its own polynomials
 * (ATen/native/cpu/avx_mathfun.h, after Cephes), and its compiler fused most
 * products into the sums that follow. fmaf stands exactly where it did so, and
 * no other product here feeds a sum, so that no compiler flag, contraction
 * included, can change a bit. Does not draw on the device: 262,144 values for
 * 1024 x 1024 px take some milliseconds. */
#include "engine/rng.h"

#include "kernels/tensor.h"

#include <math.h>
#include <string.h>

static const char *const rng_names[RNG_KIND_COUNT_] = {
    [RNG_TORCH_CPU] = "torch-cpu",
    [RNG_TORCH_CPU_BF16] = "torch-cpu-bf16",
    [RNG_TORCH_CPU_BF16_EARLY] = "torch-cpu-bf16-early",
    [RNG_PHILOX] = "philox",
};

const char *rng_name(enum rng_kind k)
{
    return rng_names[k];
}

bool rng_from_name(enum rng_kind *k, const char *name)
{
    for (int i = 0; i < RNG_KIND_COUNT_; i++) {
        if (strcmp(rng_names[i], name) == 0) {
            *k = (enum rng_kind)i;
            return true;
        }
    }
    return false;
}

/* --- mt19937, seeded by init_genrand of the seed's low 32 bits ------------- */
enum { MT_N = 624, MT_M = 397 };

struct mt19937 {
    uint32_t state[MT_N];
    int next;
};

static void mt_seed(struct mt19937 *mt, uint64_t seed)
{
    mt->state[0] = (uint32_t)seed;
    for (uint32_t i = 1; i < MT_N; i++) {
        uint32_t last = mt->state[i - 1];
        mt->state[i] = 1812433253u * (last ^ (last >> 30)) + i;
    }
    mt->next = MT_N;
}

static uint32_t mt_draw(struct mt19937 *mt)
{
    if (mt->next == MT_N) {
        uint32_t *s = mt->state;
        for (int i = 0; i < MT_N; i++) {
            uint32_t v = (s[i] & 0x80000000u) | (s[(i + 1) % MT_N] & 0x7fffffffu);
            s[i] = s[(i + MT_M) % MT_N] ^ (v >> 1) ^ ((v & 1) ? 0x9908b0dfu : 0);
        }
        mt->next = 0;
    }
    uint32_t y = mt->state[mt->next++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static float mt_uniform24(struct mt19937 *mt)
{
    return (float)(mt_draw(mt) & 0xffffffu) * 0x1p-24f;
}

static double mt_uniform53(struct mt19937 *mt)
{
    uint64_t high = mt_draw(mt);
    uint64_t bits = high << 32 | mt_draw(mt);
    return (double)(bits & 0x1fffffffffffffu) * 0x1p-53;
}

/* --- torch's float log and sincos ------------------------------------------ */
/* x in (0, 1], normal. */
static float log_avx2(float x)
{
    uint32_t bits = f32_bits(x);
    float e = (float)((int)(bits >> 23) - 0x7f) + 1.0f;
    x = f32_from_bits((bits & 0x007fffffu) | 0x3f000000u);
    if (x < 0.707106781186547524f) {
        e -= 1.0f;
        x = (x - 1.0f) + x;
    } else {
        x = x - 1.0f;
    }
    float z = x * x;
    float y = 7.0376836292E-2f;
    y = fmaf(y, x, -1.1514610310E-1f);
    y = fmaf(y, x, 1.1676998740E-1f);
    y = fmaf(y, x, -1.2420140846E-1f);
    y = fmaf(y, x, 1.4249322787E-1f);
    y = fmaf(y, x, -1.6668057665E-1f);
    y = fmaf(y, x, 2.0000714765E-1f);
    y = fmaf(y, x, -2.4999993993E-1f);
    y = fmaf(y, x, 3.3333331174E-1f);
    y = y * x;
    y = fmaf(y, z, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    return fmaf(e, 0.693359375f, x + y);
}

/* x in [0, 2 pi]. */
static void sincos_avx2(float x, float *s, float *c)
{
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float y = (float)octant;
    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    float z = x * x;
    float cosine = 2.443315711809948E-005f;
    cosine = fmaf(cosine, z, -1.388731625493765E-003f);
    cosine = fmaf(cosine, z, 4.166664568298827E-002f);
    cosine = cosine * z;
    cosine = fmaf(cosine, z, z * -0.5f) + 1.0f;
    float sine = -1.9515295891E-4f;
    sine = fmaf(sine, z, 8.3321608736E-3f);
    sine = fmaf(sine, z, -1.6666654611E-1f);
    sine = sine * z;
    sine = fmaf(sine, x, x);
    bool swap = (octant & 2) != 0;
    *s = swap ? cosine : sine;
    *c = swap ? sine : cosine;
    if (octant & 4)
        *s = -*s;
    if (!((octant - 2) & 4))
        *c = -*c;
}

/* --- torch.randn on the CPU ------------------------------------------------- */
static void draw_block(struct mt19937 *mt, float u[16])
{
    for (int i = 0; i < 16; i++)
        u[i] = mt_uniform24(mt);
}

/* Box-Muller over 8 pairs, in place. */
static void normal_block(float v[16])
{
    for (int i = 0; i < 8; i++) {
        float radius = sqrtf(-2.0f * log_avx2(1.0f - v[i]));
        float s, c;
        sincos_avx2(6.283185307179586f * v[i + 8], &s, &c);
        /* torch adds the mean, which makes -0 a 0. */
        v[i] = radius * c + 0.0f;
        v[i + 8] = radius * s + 0.0f;
    }
}

/* Fewer than 16 values: one by one, in double, two from each pair. The second
 * of a pair waits in the generator, so draws follow each other without a gap. */
static void normal_few(uint64_t seed, size_t draw, float *out, size_t n)
{
    struct mt19937 mt;
    mt_seed(&mt, seed);
    size_t first = draw * n;
    for (size_t i = 0; i < first + n; i += 2) {
        double u1 = mt_uniform53(&mt), u2 = mt_uniform53(&mt);
        double radius = sqrt(-2.0 * log1p(-u2)), theta = 2.0 * 3.14159265358979323846 * u1;
        if (i >= first)
            out[i - first] = (float)(radius * cos(theta) + 0.0);
        if (i + 1 >= first && i + 1 < first + n)
            out[i + 1 - first] = (float)(radius * sin(theta) + 0.0);
    }
}

/* Seeded, and past `draws` draws of `uniforms` each. */
static void mt_start(struct mt19937 *mt, uint64_t seed, size_t draws, size_t uniforms)
{
    mt_seed(mt, seed);
    for (size_t i = 0; i < draws * uniforms; i++)
        mt_draw(mt);
}

/* What a draw of n takes: the last 16 values are drawn again if n is no whole number of blocks. */
static size_t uniforms_of(size_t n)
{
    return n % 16 != 0 ? n + 16 : n;
}

static void normal_torch(uint64_t seed, size_t draw, float *out, size_t n)
{
    if (n < 16) {
        normal_few(seed, draw, out, n);
        return;
    }
    struct mt19937 mt;
    mt_start(&mt, seed, draw, uniforms_of(n));
    /* All uniforms come first, so a rest that is no whole block is drawn and
     * dropped before the last 16 values are drawn again. */
    for (size_t i = 0; i < n; i++)
        out[i] = mt_uniform24(&mt);
    for (size_t i = 0; i + 16 <= n; i += 16)
        normal_block(out + i);
    if (n % 16 != 0) {
        draw_block(&mt, out + n - 16);
        normal_block(out + n - 16);
    }
}

static float to_bf16(float v)
{
    return f32_from_bf16(bf16_from_f32(v));
}

static void round_bf16(float *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        v[i] = to_bf16(v[i]);
}

static void normal_torch_bf16(uint64_t seed, size_t draw, float *out, size_t n)
{
    if (n < 16) {
        normal_few(seed, draw, out, n);
        round_bf16(out, n);
        return;
    }
    struct mt19937 mt;
    mt_start(&mt, seed, draw, (n + 15) / 16 * 16);
    for (size_t i = 0; i + 16 <= n; i += 16) {
        draw_block(&mt, out + i);
        normal_block(out + i);
    }
    if (n % 16 != 0) {
        draw_block(&mt, out + n - 16);
        normal_block(out + n - 16);
    }
    round_bf16(out, n);
}

/* Uniforms of 8 bits, and every function's result rounded to bf16. That hides
 * the last places in which one C library's logf, cosf and sinf differ from
 * another's, as test_rng checks for all 2 x 256 arguments. */
static void normal_block_early(float v[16])
{
    for (int i = 0; i < 8; i++) {
        float radius = to_bf16(sqrtf(-2.0f * to_bf16(logf(1.0f - v[i]))));
        float theta = to_bf16((float)(6.283185307179586 * (double)v[i + 8]));
        v[i] = to_bf16(radius * to_bf16(cosf(theta)) + 0.0f);
        v[i + 8] = to_bf16(radius * to_bf16(sinf(theta)) + 0.0f);
    }
}

static void normal_torch_bf16_early(uint64_t seed, size_t draw, float *out, size_t n)
{
    if (n < 16) {
        normal_torch_bf16(seed, draw, out, n);
        return;
    }
    struct mt19937 mt;
    mt_start(&mt, seed, draw, uniforms_of(n));
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(mt_draw(&mt) & 0xffu) * 0x1p-8f;
    for (size_t i = 0; i + 16 <= n; i += 16)
        normal_block_early(out + i);
    if (n % 16 != 0) {
        for (size_t i = n - 16; i < n; i++)
            out[i] = (float)(mt_draw(&mt) & 0xffu) * 0x1p-8f;
        normal_block_early(out + n - 16);
    }
}

/* --- philox 4x32, ten rounds ------------------------------------------------ */
/* Counter (draw, 0, index, 0): element i is the first value of thread i. */
static void normal_philox(uint64_t seed, size_t draw, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t c[4] = { (uint32_t)draw, 0, (uint32_t)i, (uint32_t)((uint64_t)i >> 32) };
        uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
        for (int round = 0; round < 10; round++) {
            uint64_t a = (uint64_t)0xd2511f53u * c[0], b = (uint64_t)0xcd9e8d57u * c[2];
            uint32_t next[4] = { (uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                                 (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a };
            memcpy(c, next, sizeof c);
            k0 += 0x9e3779b9u;
            k1 += 0xbb67ae85u;
        }
        /* (x + 1/2) 2^-32 and (y + 1/2) 2 pi 2^-32; the sum 2y+1 is exact. CUDA
         * holds the constants in float, so 2 pi is rounded before its use. */
        double u = (2.0 * c[0] + 1.0) * 0x1p-33;
        double v = (2.0 * c[1] + 1.0) * ((double)6.2831855f * 0x1p-33);
        out[i] = (float)(sqrt(-2.0 * log(u)) * sin(v));
    }
}

void rng_draw(enum rng_kind k, uint64_t seed, size_t draw, float *out, size_t n)
{
    switch (k) {
    case RNG_TORCH_CPU: normal_torch(seed, draw, out, n); break;
    case RNG_TORCH_CPU_BF16: normal_torch_bf16(seed, draw, out, n); break;
    case RNG_TORCH_CPU_BF16_EARLY: normal_torch_bf16_early(seed, draw, out, n); break;
    case RNG_PHILOX: normal_philox(seed, draw, out, n); break;
    case RNG_KIND_COUNT_: break;
    }
}

void rng_normal(enum rng_kind k, uint64_t seed, float *out, size_t n)
{
    rng_draw(k, seed, 0, out, n);
}
