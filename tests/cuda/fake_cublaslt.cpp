/* fake_cublaslt.cpp - cuBLASLt on the processor: products that are really computed, with a few
 * algorithms that sum in different orders, so that what must not depend on the number of rows,
 * and does, shows as other bytes.
 *
 * As picky as the real one: descriptors have to be initialised, values have to have their
 * attribute's size; an algorithm belongs to the types and the epilogue it was proposed for, and to an
 * alignment; proposals change with the number of columns. Results are rounded, never saturated.
 *
 * The environment: FAKE_CUBLASLT_VERSION=n is another version of the library, whose algorithms are
 * others too. It does not know batches, other layouts than "TN", or beta. */
#include "fake_internal.h"
#include "fake_libs.h"

#include "kernels/tensor.h"

#include <cublasLt.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

#define EXPORT extern "C"

namespace {

enum : uint64_t { LAYOUT = 0x6c61796f, OPERATION = 0x6f706572, PREFERENCE = 0x70726566, ALGORITHM = 0x616c676f };

struct layout { uint64_t magic, type, rows, cols; int64_t ld; };
struct operation { uint64_t magic, compute, scale, a, b, epilogue; const void *bias; };
struct preference { uint64_t magic, workspace, scheme, align; uint64_t arithmetic; };
struct algorithm { uint64_t magic, id, type, y_type, epilogue, align, version, check; };
static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "");
static_assert(sizeof(operation) <= sizeof(cublasLtMatmulDescOpaque_t), "");
static_assert(sizeof(preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t), "");
static_assert(sizeof(algorithm) == sizeof(cublasLtMatmulAlgo_t), "");

/* How each sums over k. SPLIT does it in two halves that are added: its workspace has them. */
enum { FORWARD, BACKWARD, ODD_EVEN, SPLIT, LARGE_ONLY, ALGORITHMS };

struct product { layout a, b, d; operation op; };

std::atomic<long> products;

size_t bytes_of(uint64_t type) { return type == CUDA_R_32F ? 4 : 2; }

uint64_t version()
{
    const char *v = getenv("FAKE_CUBLASLT_VERSION");
    return v ? strtoull(v, nullptr, 10) : 130000;
}

uint64_t checksum(const algorithm &a)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t v : { a.magic, a.id, a.type, a.y_type, a.epilogue, a.align, a.version })
        h = (h ^ v) * 0x100000001b3u;
    return h;
}

/* The products there are; *rc says why not. */
bool understood(product *p, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d, cublasStatus_t *rc)
{
    *rc = CUBLAS_STATUS_INVALID_VALUE;
    if (!op || !a || !b || !c || !d || memcmp(c, d, sizeof *c))
        return false;
    memcpy(&p->a, a, sizeof p->a);
    memcpy(&p->b, b, sizeof p->b);
    memcpy(&p->d, d, sizeof p->d);
    memcpy(&p->op, op, sizeof p->op);
    if (p->a.magic != LAYOUT || p->b.magic != LAYOUT || p->d.magic != LAYOUT || p->op.magic != OPERATION)
        return false;
    if (p->a.rows != p->b.rows || p->a.cols != p->d.rows || p->b.cols != p->d.cols)
        return false;
    bool bias = p->op.epilogue == CUBLASLT_EPILOGUE_BIAS || p->op.epilogue == CUBLASLT_EPILOGUE_GELU_BIAS;
    if (bias && !p->op.bias)
        return false;
    *rc = CUBLAS_STATUS_NOT_SUPPORTED;
    return p->op.compute == CUBLAS_COMPUTE_32F && p->op.scale == CUDA_R_32F && p->op.a == CUBLAS_OP_T &&
           p->op.b == CUBLAS_OP_N && p->a.type == p->b.type && (p->d.type == p->a.type || p->d.type == CUDA_R_32F) &&
           (p->a.type != CUDA_R_16BF || fake_cuda_sm() >= 80);
}

bool aligned_rows(const product &p, uint64_t align)
{
    for (const layout *l : { &p.a, &p.b, &p.d })
        if ((uint64_t)l->ld * bytes_of(l->type) % align)
            return false;
    return p.a.rows * bytes_of(p.a.type) % align == 0 && p.d.rows * bytes_of(p.d.type) % align == 0;
}

cublasStatus_t check(const product &p, const algorithm &a, cublasLtMatmulHeuristicResult_t *r)
{
    if (a.magic != ALGORITHM || a.check != checksum(a) || a.version != version() || a.id >= ALGORITHMS ||
        a.type != p.a.type || a.y_type != p.d.type || a.epilogue != p.op.epilogue)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (!aligned_rows(p, a.align) || (a.id == LARGE_ONLY && p.d.cols < 64))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (r) {
        memcpy(&r->algo, &a, sizeof r->algo);
        r->workspaceSize = a.id == SPLIT ? p.d.rows * p.d.cols * 8 : 0;
        r->state = CUBLAS_STATUS_SUCCESS;
        r->wavesCount = 1;
    }
    return CUBLAS_STATUS_SUCCESS;
}

std::vector<float> widened(const void *from, uint64_t type, size_t n)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++)
        v[i] = type == CUDA_R_32F    ? static_cast<const float *>(from)[i]
               : type == CUDA_R_16BF ? f32_from_bf16(static_cast<const uint16_t *>(from)[i])
                                     : f32_from_f16(static_cast<const uint16_t *>(from)[i]);
    return v;
}

void store(void *to, uint64_t type, size_t i, float v)
{
    if (type == CUDA_R_32F)
        static_cast<float *>(to)[i] = v;
    else
        static_cast<uint16_t *>(to)[i] = type == CUDA_R_16BF ? bf16_from_f32(v) : f16_from_f32(v);
}

float gelu(float x) { return 0.5f * x * (1 + tanhf(0.7978845608028654f * (x + 0.044715f * x * x * x))); }

/* The order in which an algorithm passes over k. */
std::vector<size_t> order(uint64_t id, size_t k)
{
    std::vector<size_t> v(k);
    for (size_t i = 0; i < k; i++)
        v[i] = id == BACKWARD ? k - 1 - i : id == ODD_EVEN ? (2 * i + 1 < k ? 2 * i + 1 : 2 * (k - 1 - i)) : i;
    return v;
}

void compute(const product &p, uint64_t id, const void *A, const void *B, void *D)
{
    size_t n = p.d.rows, m = p.d.cols, k = p.a.rows;
    std::vector<float> w(n * k), bias(n, 0), sum(n);
    for (size_t j = 0; j < n; j++) {
        auto row = widened(static_cast<const char *>(A) + j * (size_t)p.a.ld * bytes_of(p.a.type), p.a.type, k);
        for (size_t i = 0; i < k; i++)
            w[i * n + j] = row[i];
    }
    bool has_bias = p.op.epilogue & CUBLASLT_EPILOGUE_BIAS, has_gelu = p.op.epilogue & CUBLASLT_EPILOGUE_GELU;
    if (has_bias)
        bias = widened(p.op.bias, p.d.type, n);
    auto sequence = order(id, k);
    for (size_t r = 0; r < m; r++) {
        auto x = widened(static_cast<const char *>(B) + r * (size_t)p.b.ld * bytes_of(p.b.type), p.b.type, k);
        std::fill(sum.begin(), sum.end(), 0.0f);
        for (size_t i : sequence)
            for (size_t j = 0; j < n; j++)
                sum[j] += x[i] * w[i * n + j];
        for (size_t j = 0; j < n; j++) {
            float v = has_bias ? sum[j] + bias[j] : sum[j];
            store(D, p.d.type, r * (size_t)p.d.ld + j, has_gelu ? gelu(v) : v);
        }
    }
}

bool set(void *to, size_t room, const void *value, size_t size)
{
    if (!value || size != room)
        return false;
    memcpy(to, value, size);
    return true;
}

cublasStatus_t status(bool ok) { return ok ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE; }

} // namespace

EXPORT cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    if (fake_cuda_call("cublasLtCreate") != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *handle = reinterpret_cast<cublasLtHandle_t>(new int(1));
    fake_cuda_object(FAKE_CUDA_BLAS, 1);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle)
{
    delete reinterpret_cast<int *>(handle);
    fake_cuda_object(FAKE_CUDA_BLAS, -1);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT size_t cublasLtGetVersion(void) { return version(); }

EXPORT const char *cublasLtGetStatusString(cublasStatus_t s)
{
    return s == CUBLAS_STATUS_SUCCESS            ? "success"
           : s == CUBLAS_STATUS_ALLOC_FAILED     ? "no memory"
           : s == CUBLAS_STATUS_INVALID_VALUE    ? "an invalid value"
           : s == CUBLAS_STATUS_NOT_SUPPORTED    ? "not supported"
           : s == CUBLAS_STATUS_EXECUTION_FAILED ? "it failed to run"
                                                 : "an error of the library";
}

EXPORT cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t to, size_t size, cudaDataType type,
                                                        uint64_t rows, uint64_t cols, int64_t ld)
{
    layout l = { LAYOUT, type, rows, cols, ld };
    if (size < sizeof *to || !rows || !cols || ld < (int64_t)rows)
        return CUBLAS_STATUS_INVALID_VALUE;
    memset(to, 0, sizeof *to);
    memcpy(to, &l, sizeof l);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t to, size_t size, cublasComputeType_t compute,
                                                      cudaDataType_t scale)
{
    operation o = { OPERATION, compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr };
    if (size < sizeof *to)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memset(to, 0, sizeof *to);
    memcpy(to, &o, sizeof o);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t to, size_t size)
{
    preference p = { PREFERENCE, 0, CUBLASLT_REDUCTION_SCHEME_MASK, 256, ~0ull };
    if (size < sizeof *to)
        return CUBLAS_STATUS_ALLOC_FAILED;
    memset(to, 0, sizeof *to);
    memcpy(to, &p, sizeof p);
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t name,
                                                     const void *value, size_t size)
{
    operation *o = reinterpret_cast<operation *>(desc);
    uint32_t word = 0;
    if (o->magic != OPERATION)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_DESC_BIAS_POINTER)
        return status(set(&o->bias, sizeof o->bias, value, size));
    if (!set(&word, sizeof word, value, size))
        return CUBLAS_STATUS_INVALID_VALUE;
    (name == CUBLASLT_MATMUL_DESC_TRANSA ? o->a : name == CUBLASLT_MATMUL_DESC_TRANSB ? o->b : o->epilogue) = word;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t to,
                                                           cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                           size_t size)
{
    preference *p = reinterpret_cast<preference *>(to);
    uint32_t word = 0;
    if (p->magic != PREFERENCE)
        return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        return status(set(&p->workspace, sizeof p->workspace, value, size));
    if (name == CUBLASLT_MATMUL_PREF_IMPL_MASK)
        return status(set(&p->arithmetic, sizeof p->arithmetic, value, size));
    if (!set(&word, sizeof word, value, size))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (name == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        p->scheme = word;
    else
        p->align = word < p->align ? word : p->align;
    return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                           cublasLtMatmulAlgoConfigAttributes_t name, void *value,
                                                           size_t size, size_t *written)
{
    algorithm a;
    memcpy(&a, algo, sizeof a);
    if (a.magic != ALGORITHM || size != sizeof(int32_t))
        return CUBLAS_STATUS_INVALID_VALUE;
    int32_t v = name == CUBLASLT_ALGO_CONFIG_ID             ? (int32_t)a.id
                : name == CUBLASLT_ALGO_CONFIG_SPLITK_NUM   ? (a.id == SPLIT ? 2 : 1)
                : a.id == SPLIT ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE : CUBLASLT_REDUCTION_SCHEME_NONE;
    memcpy(value, &v, sizeof v);
    *written = sizeof v;
    return CUBLAS_STATUS_SUCCESS;
}

/* For few columns another order of proposals than for many. */
EXPORT cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                                     cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                                     cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                                     cublasLtMatmulPreference_t wish, int requested,
                                                     cublasLtMatmulHeuristicResult_t results[], int *count)
{
    static const int many[] = { LARGE_ONLY, SPLIT, BACKWARD, FORWARD, ODD_EVEN }, few[] = { SPLIT, ODD_EVEN, FORWARD };
    product p;
    preference w;
    cublasStatus_t rc;
    *count = 0;
    if (fake_cuda_call("cublasLtMatmulAlgoGetHeuristic") != cudaSuccess)
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (!handle || requested <= 0 || !understood(&p, op, a, b, c, d, &rc))
        return handle && requested > 0 ? rc : CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&w, wish, sizeof w);
    if (w.magic != PREFERENCE)
        return CUBLAS_STATUS_INVALID_VALUE;
    bool large = p.d.cols >= 64;
    for (int i = 0; i < (large ? 5 : 3) && *count < requested; i++) {
        uint64_t id = (uint64_t)(large ? many : few)[i];
        algorithm g = { ALGORITHM, id, p.a.type, p.d.type, p.op.epilogue, w.align, version(), 0 };
        g.check = checksum(g);
        cublasLtMatmulHeuristicResult_t r;
        if (check(p, g, &r) != CUBLAS_STATUS_SUCCESS || r.workspaceSize > w.workspace ||
            (g.id == SPLIT && !(w.scheme & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)))
            continue;
        results[(*count)++] = r;
    }
    return *count ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

EXPORT cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    product p;
    algorithm g;
    cublasStatus_t rc;
    memcpy(&g, algo, sizeof g);
    return handle && understood(&p, op, a, b, c, d, &rc) ? check(p, g, result) : CUBLAS_STATUS_INVALID_VALUE;
}

EXPORT cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void *alpha, const void *A,
                                     cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b,
                                     const void *beta, const void *C, cublasLtMatrixLayout_t c, void *D,
                                     cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo, void *workspace,
                                     size_t workspace_bytes, cudaStream_t stream)
{
    product p;
    algorithm g;
    cublasStatus_t rc;
    cublasLtMatmulHeuristicResult_t r;
    if (fake_cuda_call("cublasLtMatmul") != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!handle || !algo || !understood(&p, op, a, b, c, d, &rc))
        return handle && algo ? rc : CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&g, algo, sizeof g);
    rc = check(p, g, &r);
    if (rc != CUBLAS_STATUS_SUCCESS)
        return rc;
    if (*static_cast<const float *>(alpha) != 1 || *static_cast<const float *>(beta) != 0 || C != D || g.id == SPLIT ||
        r.workspaceSize > workspace_bytes || (r.workspaceSize && !workspace))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const void *bias = p.op.epilogue & CUBLASLT_EPILOGUE_BIAS ? p.op.bias : nullptr;
    for (const void *pointer : { A, B, static_cast<const void *>(D), bias })
        if ((uintptr_t)pointer % g.align)
            return CUBLAS_STATUS_NOT_SUPPORTED;
    products++;
    cudaError_t queued = fake_cuda_enqueue(stream, [=] { compute(p, g.id, A, B, D); });
    return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

extern "C" __attribute__((visibility("default"))) long fake_cublaslt_products(void) { return products; }
