/* cuda_sdpa.c - attention by cuDNN's unified operation (9.13.1 and later, compute
 * capability 8.0 and later): no mask, no bias, no statistics. Its engines are
 * asked for by as many queries as keys; queries that come in pieces run on the same. */
#include "kernels/cuda_dnn.h"

enum {
    VERSION_LEAST = 91301,
    SM_LEAST = 80,
    DIM_STEP = 8, DIM_MOST = 128, DIM_MOST_DATA_CENTRE = 256, /* of a head */
    PIECE = 128,                                            /* queries: what a family's engine must also take */
};

/* number[] of a problem. */
enum { TYPE, QUERIES, KEYS, HEADS, DIM, Q_ROW, Q_HEAD, K_ROW, K_HEAD, V_ROW, V_HEAD, O_ROW, O_HEAD };

static cudnnBackendDescriptor_t rows(struct dnn_build *b, int64_t id, const struct dnn_problem *p, int length,
                                     int stride)
{
    const int64_t *n = p->number;
    return dnn_tensor(b, id, (enum dtype)n[TYPE], (const int64_t[]){ 1, n[HEADS], n[length], n[DIM] },
                      (const int64_t[]){ n[length] * n[stride], n[stride + 1], n[stride], 1 });
}

static cudnnBackendDescriptor_t make(struct dnn_build *b, const struct dnn_problem *p)
{
    cudnnBackendDescriptor_t q = rows(b, 1, p, QUERIES, Q_ROW), k = rows(b, 2, p, KEYS, K_ROW);
    cudnnBackendDescriptor_t v = rows(b, 3, p, KEYS, V_ROW), o = rows(b, 4, p, QUERIES, O_ROW);
    cudnnBackendDescriptor_t scale = dnn_scalar(b, 5);
    cudnnBackendDescriptor_t d = dnn_make(b, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, q);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, k);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, v);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, o);
    dnn_set_descriptor(b, d, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, scale);
    dnn_finalize(b, d);
    return d;
}

static const struct dnn_operation operation = { .name = "attention", .make = make, .tensors = 5, .compiles = true };

bool cuda_sdpa_can(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k, struct tensor v,
                   const struct attention *a)
{
    int64_t most = c->sm == 90 || c->sm == 100 ? DIM_MOST_DATA_CENTRE : DIM_MOST;
    return c->dnn && dnn_version(c) >= VERSION_LEAST && c->sm >= SM_LEAST &&
           (q.dtype == DT_F16 || q.dtype == DT_BF16) &&
           o.dtype == q.dtype && k.dtype == q.dtype && v.dtype == q.dtype &&
           !a->causal && !tensor_present(a->bias) && q.shape[2] % DIM_STEP == 0 && q.shape[2] <= most &&
           dnn_aligned(o) && dnn_aligned(q) && dnn_aligned(k) && dnn_aligned(v);
}

size_t cuda_sdpa_scratch(const struct cuda_device *c, struct tensor o, struct tensor q, struct tensor k)
{
    (void)o, (void)k;
    return c->dnn && q.dtype != DT_F32 ? DNN_WORKSPACE : 0;
}

/* All operands dense. */
static struct dnn_problem canonical(struct dnn_problem family, int64_t queries)
{
    int64_t *n = family.number;
    n[QUERIES] = queries;
    n[Q_ROW] = n[K_ROW] = n[V_ROW] = n[O_ROW] = n[HEADS] * n[DIM];
    n[Q_HEAD] = n[K_HEAD] = n[V_HEAD] = n[O_HEAD] = n[DIM];
    return family;
}

bool cuda_sdpa(struct device *d, struct tensor o, struct tensor q, struct tensor k, struct tensor v, float scale,
               void *scratch)
{
    struct cuda_device *c = cuda_of(d);
    struct dnn_problem family = { .number = { [TYPE] = q.dtype, [KEYS] = k.shape[0], [HEADS] = q.shape[1],
                                              [DIM] = q.shape[2] } };
    struct dnn_problem p = family, probes[] = { canonical(family, k.shape[0]), canonical(family, PIECE) };
    p.number[QUERIES] = q.shape[0];
    const struct tensor *operand[] = { &q, &k, &v, &o };
    for (int i = 0; i < 4; i++) { /* the stride of a lone row or head is nobody's */
        const struct tensor *t = operand[i];
        int64_t head = t->shape[1] == 1 ? t->shape[2] : t->stride[1];
        p.number[Q_HEAD + 2 * i] = head;
        p.number[Q_ROW + 2 * i] = t->shape[0] == 1 ? t->shape[1] * head : t->stride[0];
    }
    struct dnn_plan *plan = dnn_plan(c, &operation, &family, probes, sizeof probes / sizeof *probes, &p);
    if (!plan)
        return false;
    dnn_run(c, &operation, plan, (void *[]){ q.data, k.data, v.data, o.data, &scale }, scratch);
    return true;
}
