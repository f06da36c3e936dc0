/* cuda_gemm.c - see cuda_gemm.h. cuBLASLt's matrices are column-major, so it is shown
 * everything transposed: D(n x m) = op(A)(n x k) B(k x m) with A = w, op = T, B = x, and the
 * leading dimensions are the row strides. All descriptors lie on the stack. */
#include "kernels/cuda_gemm.h"

#include <cublasLt.h>

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CANDIDATES = 32,         /* of cuBLASLt's proposals; they come best first */
    TIMED = 12,              /* of those, measured */
    RUNS = 3,                /* of each, after one to warm up */
    CANONICAL_ROWS = 4096,   /* a picture's tokens: what proposals are asked for */
    MANY_ROWS = 1 << 20,     /* a large picture's pixels, */
    MANY_ELEMENTS = 1 << 30, /* but no more of them than 32-bit offsets reach: wide products have fewer rows */
};

/* What has one algorithm. */
struct kind {
    enum dtype type, y_type;
    int64_t n, k;
    bool bias, gelu;
};

struct choice {
    struct kind kind;
    bool found, settled; /* settled: it stays what it is */
    cublasLtMatmulAlgo_t algo;
};

struct cuda_gemm {
    char path[PATH_MAX]; /* of the record; "": there is no place for one */
    struct choice *choices;
    int count, room;
};

struct product {
    cublasLtMatmulDescOpaque_t op;
    cublasLtMatrixLayoutOpaque_t a, b, d;
};

static bool same(const struct kind *a, const struct kind *b)
{
    return a->type == b->type && a->y_type == b->y_type && a->n == b->n && a->k == b->k && a->bias == b->bias &&
           a->gelu == b->gelu;
}

static bool fine(struct cuda_device *c, cublasStatus_t rc, const char *what)
{
    if (rc == CUBLAS_STATUS_SUCCESS)
        return true;
    return err_set(&c->device.err, rc == CUBLAS_STATUS_ALLOC_FAILED ? ERR_DEVICE_MEMORY : ERR_DEVICE,
                   "cuBLASLt, %s: %s", what,
                   cublasLtGetStatusString(rc));
}

static cudaDataType_t blas_type(enum dtype t)
{
    return t == DT_F32 ? CUDA_R_32F : t == DT_BF16 ? CUDA_R_16BF : CUDA_R_16F;
}

/* The product's shape for cuBLASLt; strides in elements. */
static cublasStatus_t describe(struct product *p, const struct kind *kind, int64_t m, int64_t y_stride,
                               int64_t x_stride, int64_t w_stride, const void *bias)
{
    static const cublasOperation_t transposed = CUBLAS_OP_T;
    static const cublasLtEpilogue_t epilogues[2][2] = { { CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS },
                                                        { CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS } };
    cublasLtEpilogue_t epilogue = epilogues[kind->gelu][kind->bias];
    cublasStatus_t rc = cublasLtMatmulDescInit(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!rc)
        rc = cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed);
    if (!rc)
        rc = cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (!rc && kind->bias)
        rc = cublasLtMatmulDescSetAttribute(&p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (!rc)
        rc = cublasLtMatrixLayoutInit(&p->a, blas_type(kind->type), (uint64_t)kind->k, (uint64_t)kind->n, w_stride);
    if (!rc)
        rc = cublasLtMatrixLayoutInit(&p->b, blas_type(kind->type), (uint64_t)kind->k, (uint64_t)m, x_stride);
    if (!rc)
        rc = cublasLtMatrixLayoutInit(&p->d, blas_type(kind->y_type), (uint64_t)kind->n, (uint64_t)m, y_stride);
    return rc;
}

/* With dense operands and, where its alignment is looked at, an imaginary bias. */
static cublasStatus_t describe_dense(struct product *p, const struct kind *kind, int64_t m)
{
    return describe(p, kind, m, kind->n, kind->k, kind->k, (const void *)(uintptr_t)GEMM_ALIGN);
}

/* --- which algorithms keep the guarantee ---------------------------------------------------- */
static bool in_one_sum(const cublasLtMatmulAlgo_t *algo)
{
    int32_t split = 0;
    uint32_t scheme = 0;
    size_t n;
    return !cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split, sizeof split, &n) &&
           !cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme,
                                                 &n) &&
           split <= 1 && scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static bool acceptable(struct cuda_device *c, const struct kind *kind, const cublasLtMatmulAlgo_t *algo)
{
    /* One, a part of a tile, odd, many. */
    int64_t widest = kind->n > kind->k ? kind->n : kind->k, most = MANY_ELEMENTS / widest;
    const int64_t probe_rows[] = { 1, 8, 77, CANONICAL_ROWS, most < MANY_ROWS ? most : MANY_ROWS };
    if (!in_one_sum(algo))
        return false;
    for (size_t i = 0; i < sizeof probe_rows / sizeof *probe_rows; i++) {
        struct product p;
        cublasLtMatmulHeuristicResult_t r;
        if (describe_dense(&p, kind, probe_rows[i]) != CUBLAS_STATUS_SUCCESS ||
            cublasLtMatmulAlgoCheck(c->blas, &p.op, &p.a, &p.b, &p.d, &p.d, algo, &r) != CUBLAS_STATUS_SUCCESS ||
            r.workspaceSize > 0)
            return false;
    }
    return true;
}

static cublasStatus_t prefer(cublasLtMatmulPreferenceOpaque_t *p)
{
    static const uint64_t no_workspace = 0;
    static const uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE, align = GEMM_ALIGN;
    static const uint64_t arithmetic = ~(uint64_t)(CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_TF32 |
                                                   CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F);
    static const struct { cublasLtMatmulPreferenceAttributes_t name; const void *value; size_t size; } wishes[] = {
        { CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &no_workspace, sizeof no_workspace },
        { CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof scheme },
        { CUBLASLT_MATMUL_PREF_IMPL_MASK, &arithmetic, sizeof arithmetic },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &align, sizeof align },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &align, sizeof align },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &align, sizeof align },
        { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &align, sizeof align },
    };
    cublasStatus_t rc = cublasLtMatmulPreferenceInit(p);
    for (size_t i = 0; !rc && i < sizeof wishes / sizeof *wishes; i++)
        rc = cublasLtMatmulPreferenceSetAttribute(p, wishes[i].name, wishes[i].value, wishes[i].size);
    return rc;
}

/* How many of cuBLASLt's proposals are acceptable; they are put into algo, best first. -1: the sticky error is set. */
static int propose(struct cuda_device *c, const struct kind *kind, cublasLtMatmulAlgo_t algo[CANDIDATES])
{
    cublasLtMatmulPreferenceOpaque_t preference;
    cublasLtMatmulHeuristicResult_t found[CANDIDATES];
    struct product p;
    int count = 0, kept = 0;
    cublasStatus_t rc = prefer(&preference);
    if (!rc)
        rc = describe_dense(&p, kind, CANONICAL_ROWS);
    if (!rc)
        rc = cublasLtMatmulAlgoGetHeuristic(c->blas, &p.op, &p.a, &p.b, &p.d, &p.d, &preference, CANDIDATES, found,
                                            &count);
    if (rc != CUBLAS_STATUS_NOT_SUPPORTED && !fine(c, rc, "a search for algorithms"))
        return -1;
    for (int i = 0; i < count; i++)
        if (found[i].state == CUBLAS_STATUS_SUCCESS && acceptable(c, kind, &found[i].algo))
            algo[kept++] = found[i].algo;
    return kept;
}

/* --- the record: one line for each kind --------------------------------------------------------
 * "BF16 BF16 3072 12288 bias+gelu 0123...": types of x and y, n, k, epilogue, the algorithm's bytes. A line that
 * is not like that is passed over. Lines are only ever added, by one process at a time (flock). */
static const char *epilogue_name(const struct kind *kind)
{
    return kind->gelu ? kind->bias ? "bias+gelu" : "gelu" : kind->bias ? "bias" : "none";
}

static void kind_text(const struct kind *kind, char text[96])
{
    snprintf(text, 96, "%s %s %lld %lld %s ", dtype_name(kind->type), dtype_name(kind->y_type), (long long)kind->n,
             (long long)kind->k, epilogue_name(kind));
}

static bool parse_hex(const char *text, cublasLtMatmulAlgo_t *algo)
{
    unsigned char *bytes = (unsigned char *)algo;
    for (size_t i = 0; i < sizeof *algo; i++) {
        unsigned v;
        if (!isxdigit((unsigned char)text[2 * i]) || !isxdigit((unsigned char)text[2 * i + 1]) ||
            sscanf(text + 2 * i, "%2x", &v) != 1)
            return false;
        bytes[i] = (unsigned char)v;
    }
    return text[2 * sizeof *algo] == '\n';
}

static bool find_in(FILE *f, struct cuda_device *c, const struct kind *kind, cublasLtMatmulAlgo_t *algo)
{
    char want[96], line[96 + 2 * sizeof *algo + 2];
    kind_text(kind, want);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, want, strlen(want)) && parse_hex(line + strlen(want), algo) && acceptable(c, kind, algo))
            return true;
    return false;
}

static bool recorded(struct cuda_device *c, const struct kind *kind, cublasLtMatmulAlgo_t *algo)
{
    FILE *f = c->gemm->path[0] ? fopen(c->gemm->path, "re") : NULL;
    bool found = f && find_in(f, c, kind, algo);
    if (f)
        fclose(f);
    return found;
}

/* After a line that was cut short, as by a full disk, the next one starts anew. */
static bool ends_in_a_line(int fd)
{
    char last = '\n';
    return lseek(fd, -1, SEEK_END) < 0 || (read(fd, &last, 1) == 1 && last == '\n');
}

/* Puts *algo on record; if another process was first, *algo is what that one found. False: it could not. */
static bool record(struct cuda_device *c, const struct kind *kind, cublasLtMatmulAlgo_t *algo)
{
    char line[96 + 2 * sizeof *algo + 3], *to = line;
    cublasLtMatmulAlgo_t earlier;
    int fd = open(c->gemm->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool done = flock(fd, LOCK_EX) == 0;
    if (done && find_in(f, c, kind, &earlier)) {
        *algo = earlier;
    } else if (done) {
        if (!ends_in_a_line(fd))
            *to++ = '\n';
        kind_text(kind, to);
        to += strlen(to);
        for (size_t i = 0; i < sizeof *algo; i++)
            to += sprintf(to, "%02x", ((const unsigned char *)algo)[i]);
        *to++ = '\n';
        done = write(fd, line, (size_t)(to - line)) == to - line;
    }
    return fclose(f) == 0 && done;
}

/* Finds and makes the folder. Without one nothing is searched for or put on record. */
static void find_path(struct cuda_device *c)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool own = cache && cache[0] == '/';
    char folder[PATH_MAX - 256], name[CUDA_NAME_BYTES];
    if (!own && !(home && home[0] == '/'))
        return;
    int n = snprintf(folder, sizeof folder, "%s%s", own ? cache : home, own ? "" : "/.cache");
    if (n >= (int)(sizeof folder - sizeof "/sluice"))
        return;
    mkdir(folder, 0700);
    strcat(folder, "/sluice");
    mkdir(folder, 0700);
    if (access(folder, W_OK))
        return;
    snprintf(name, sizeof name, "%s", c->card.name);
    for (char *p = name; *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '-';
    snprintf(c->gemm->path, PATH_MAX, "%s/cuda-gemm-%s-sm%d-%zu.txt", folder, name, c->sm, cublasLtGetVersion());
}

/* --- the search -------------------------------------------------------------------------------- */
struct operands { struct tensor y, x, w, b; };

static cublasStatus_t run(struct cuda_device *c, const struct kind *kind, const cublasLtMatmulAlgo_t *algo,
                          const struct operands *o)
{
    static const float one = 1, zero = 0;
    struct product p;
    cublasStatus_t rc = describe(&p, kind, o->x.shape[0], o->y.stride[0], o->x.stride[0], o->w.stride[0], o->b.data);
    return rc ? rc : cublasLtMatmul(c->blas, &p.op, &one, o->w.data, &p.a, o->x.data, &p.b, &zero, o->y.data, &p.d,
                                    o->y.data, &p.d, algo, NULL, 0, c->compute);
}

/* Milliseconds of RUNS products. False: it does not run, or nothing can be measured. */
static bool measure(struct cuda_device *c, const struct kind *kind, const cublasLtMatmulAlgo_t *algo,
                    const struct operands *o, const cudaEvent_t at[2], float *ms)
{
    bool ok = run(c, kind, algo, o) == CUBLAS_STATUS_SUCCESS && cudaEventRecord(at[0], c->compute) == cudaSuccess;
    for (int i = 0; ok && i < RUNS; i++)
        ok = run(c, kind, algo, o) == CUBLAS_STATUS_SUCCESS;
    return ok && cudaEventRecord(at[1], c->compute) == cudaSuccess && cudaEventSynchronize(at[1]) == cudaSuccess &&
           cudaEventElapsedTime(ms, at[0], at[1]) == cudaSuccess;
}

/* The index of the fastest; 0 if nothing can be measured. What it computes in y is computed again. */
static int fastest(struct cuda_device *c, const struct kind *kind, const cublasLtMatmulAlgo_t *algo, int count,
                   const struct operands *o)
{
    cudaEvent_t at[2] = { NULL, NULL };
    int best = 0;
    float least = 0;
    if (cudaEventCreate(&at[0]) == cudaSuccess && cudaEventCreate(&at[1]) == cudaSuccess)
        for (int i = 0; i < count; i++) {
            float ms;
            if (measure(c, kind, &algo[i], o, at, &ms) && (least == 0 || ms < least)) {
                least = ms;
                best = i;
            }
        }
    for (int i = 0; i < 2; i++)
        if (at[i])
            cudaEventDestroy(at[i]);
    cudaGetLastError(); /* a failure here is no failure: the real product follows */
    return best;
}

static bool capturing(struct cuda_device *c)
{
    enum cudaStreamCaptureStatus s = cudaStreamCaptureStatusNone;
    return cudaStreamIsCapturing(c->compute, &s) != cudaSuccess || s != cudaStreamCaptureStatusNone;
}

/* o: NULL if there are no operands yet. False: the sticky error is set. */
static bool choose(struct cuda_device *c, struct choice *to, const struct operands *o)
{
    cublasLtMatmulAlgo_t algo[CANDIDATES];
    to->found = to->settled = recorded(c, &to->kind, &to->algo);
    if (to->found)
        return true;
    int count = propose(c, &to->kind, algo);
    to->found = count > 0;
    if (!to->found)
        return count == 0;
    to->settled = o != NULL;
    to->algo = algo[0];
    if (c->search && o && count > 1 && c->gemm->path[0] && !capturing(c)) {
        int best = fastest(c, &to->kind, algo, count < TIMED ? count : TIMED, o);
        if (record(c, &to->kind, &algo[best]))
            to->algo = algo[best];
    }
    return true;
}

static struct choice *choice_of(struct cuda_gemm *g, const struct kind *kind)
{
    for (int i = 0; i < g->count; i++)
        if (same(&g->choices[i].kind, kind))
            return &g->choices[i];
    return NULL;
}

/* The algorithm for a kind, now or from before. NULL: the sticky error is set. */
static struct choice *plan(struct cuda_device *c, const struct kind *kind, const struct operands *o)
{
    struct cuda_gemm *g = c->gemm;
    struct choice *known = choice_of(g, kind);
    if (known)
        return known->settled || !known->found || !o || choose(c, known, o) ? known : NULL;
    if (g->count == g->room) {
        int room = g->room ? 2 * g->room : 64;
        struct choice *more = realloc(g->choices, (size_t)room * sizeof *more);
        if (!more) {
            err_set(&c->device.err, ERR_MEMORY, "no memory for the plans of %d products", room);
            return NULL;
        }
        g->choices = more;
        g->room = room;
    }
    struct choice *new = &g->choices[g->count];
    *new = (struct choice){ .kind = *kind };
    if (!choose(c, new, o))
        return NULL;
    g->count++;
    return new;
}

/* --- what others call ------------------------------------------------------------------------------ */
bool cuda_gemm_gelu(struct cuda_device *c, enum dtype y, struct tensor w, bool bias)
{
    struct kind kind = { .type = w.dtype, .y_type = y, .n = w.shape[0], .k = w.shape[1], .bias = bias, .gelu = true };
    const struct choice *p = plan(c, &kind, NULL);
    return p && p->found;
}

void cuda_gemm(struct cuda_device *c, struct tensor y, struct tensor x, struct tensor w, struct tensor b, enum act act)
{
    struct kind kind = { .type = w.dtype, .y_type = y.dtype, .n = w.shape[0], .k = w.shape[1],
                         .bias = tensor_present(b), .gelu = act == ACT_GELU_TANH };
    struct operands o = { y, x, w, b };
    const struct choice *p = plan(c, &kind, &o);
    if (p && !p->found)
        err_set(&c->device.err, ERR_DEVICE, "cuBLASLt has no algorithm for %s products of %lld outputs and %lld inputs",
                dtype_name(kind.type), (long long)kind.n, (long long)kind.k);
    else if (p)
        fine(c, run(c, &kind, &p->algo, &o), "a product");
}

bool cuda_gemm_open(struct cuda_device *c, struct err *e)
{
    c->gemm = calloc(1, sizeof *c->gemm);
    if (!c->gemm)
        return err_set(e, ERR_MEMORY, "no memory for the CUDA device");
    find_path(c);
    return true;
}

void cuda_gemm_close(struct cuda_device *c)
{
    if (c->gemm)
        free(c->gemm->choices);
    free(c->gemm);
    c->gemm = NULL;
}
