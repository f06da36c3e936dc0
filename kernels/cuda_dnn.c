/* cuda_dnn.c - see cuda_dnn.h. */
#include "kernels/cuda_dnn.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROPOSALS = 16, /* engines looked at, of each way to ask for them */
    KNOBS = 32,     /* of an engine */
    NOTES = 16,
};

static const char library_name[] = "libcudnn.so.9";

/* What is used of the library. */
#define FUNCTIONS(F)                                                                                                  \
    F(GetVersion) F(Create) F(Destroy) F(SetStream) F(GetErrorString) F(BackendCreateDescriptor)                      \
    F(BackendDestroyDescriptor) F(BackendSetAttribute) F(BackendGetAttribute) F(BackendFinalize) F(BackendExecute)

/* An engine by value, so that it can be made again for another problem. */
struct engine {
    int64_t index;
    int64_t knobs;
    struct knob { int64_t type, value; } knob[KNOBS];
};

struct family {
    const struct dnn_operation *operation;
    struct dnn_problem problem;
    bool has_engine;
    struct engine engine;
    struct family *next;
};

struct dnn_plan {
    const struct dnn_operation *operation;
    struct dnn_problem problem;
    cudnnBackendDescriptor_t plan;
    struct dnn_plan *next;
};

struct cuda_dnn {
    void *library;
#define MEMBER(name) __typeof__(cudnn##name) *name;
    FUNCTIONS(MEMBER)
#undef MEMBER
    cudnnHandle_t handle;
    struct family *families;
    struct dnn_plan *plans;
};

/* --- the library ------------------------------------------------------------------------------------ */
static bool load(struct cuda_dnn *n)
{
    n->library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    bool all = n->library != NULL;
#define FIND(name) all = all && (n->name = (__typeof__(n->name))dlsym(n->library, "cudnn" #name));
    FUNCTIONS(FIND)
#undef FIND
    return all;
}

static void unload(struct cuda_dnn *n)
{
    if (n->library)
        dlclose(n->library);
}

/* Then there is something to be said; all other failures mean that the library cannot do a thing. */
static bool no_memory(cudnnStatus_t rc)
{
    return rc == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
           rc == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
}

int cuda_dnn_version(void)
{
    struct cuda_dnn n = { 0 };
    int version = load(&n) ? (int)n.GetVersion() : 0;
    unload(&n);
    return version;
}

int dnn_version(const struct cuda_device *c) { return (int)c->dnn->GetVersion(); }

bool cuda_dnn_open(struct cuda_device *c, struct err *e)
{
    c->dnn = calloc(1, sizeof *c->dnn);
    if (!c->dnn)
        return err_set(e, ERR_MEMORY, "no memory for the CUDA device");
    cudnnStatus_t rc = load(c->dnn) ? c->dnn->Create(&c->dnn->handle) : CUDNN_STATUS_NOT_INITIALIZED;
    if (rc == CUDNN_STATUS_SUCCESS)
        rc = c->dnn->SetStream(c->dnn->handle, c->compute);
    if (rc != CUDNN_STATUS_SUCCESS)
        cuda_dnn_close(c);
    return !no_memory(rc) || err_set(e, ERR_DEVICE_MEMORY, "cuDNN found too little memory to start");
}

void cuda_dnn_close(struct cuda_device *c)
{
    struct cuda_dnn *n = c->dnn;
    if (!n)
        return;
    for (struct dnn_plan *p; (p = n->plans);) {
        n->plans = p->next;
        n->BackendDestroyDescriptor(p->plan);
        free(p);
    }
    for (struct family *f; (f = n->families);) {
        n->families = f->next;
        free(f);
    }
    if (n->handle)
        n->Destroy(n->handle);
    unload(n);
    free(n);
    c->dnn = NULL;
}

/* --- descriptors ---------------------------------------------------------------------------------------- */
static bool fine(const struct dnn_build *b) { return b->status == CUDNN_STATUS_SUCCESS; }

cudnnBackendDescriptor_t dnn_make(struct dnn_build *b, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (fine(b) && b->count == (int)(sizeof b->made / sizeof *b->made))
        b->status = CUDNN_STATUS_INTERNAL_ERROR;
    if (fine(b))
        b->status = b->dnn->BackendCreateDescriptor(type, &d);
    if (!fine(b))
        return NULL;
    return b->made[b->count++] = d;
}

void dnn_set(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
             cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (fine(b))
        b->status = b->dnn->BackendSetAttribute(d, name, type, count, values);
}

void dnn_set_int(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name, int64_t value)
{
    dnn_set(b, d, name, CUDNN_TYPE_INT64, 1, &value);
}

void dnn_set_descriptor(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                        cudnnBackendDescriptor_t value)
{
    dnn_set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void dnn_finalize(struct dnn_build *b, cudnnBackendDescriptor_t d)
{
    if (fine(b))
        b->status = b->dnn->BackendFinalize(d);
}

/* How many there are; at most max are written to values. */
static int64_t get(struct dnn_build *b, cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                   cudnnBackendAttributeType_t type, int64_t max, void *values)
{
    int64_t count = 0;
    if (fine(b))
        b->status = b->dnn->BackendGetAttribute(d, name, type, max, &count, values);
    return fine(b) ? count : 0;
}

static struct dnn_build begin(struct cuda_device *c) { return (struct dnn_build){ .device = c, .dnn = c->dnn }; }

/* Releases what was made after the first `from`, but `kept`. */
static void drop(struct dnn_build *b, int from, cudnnBackendDescriptor_t kept)
{
    if (no_memory(b->status))
        err_set(&b->device->device.err, ERR_DEVICE_MEMORY, "cuDNN found too little memory to make a plan");
    while (b->count > from) {
        cudnnBackendDescriptor_t d = b->made[--b->count];
        if (d != kept)
            b->dnn->BackendDestroyDescriptor(d);
    }
}

static cudnnDataType_t dnn_type(enum dtype t)
{
    return t == DT_F32 ? CUDNN_DATA_FLOAT : t == DT_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

static cudnnBackendDescriptor_t tensor_of(struct dnn_build *b, int64_t id, enum dtype t, const int64_t shape[4],
                                          const int64_t stride[4], bool by_value)
{
    cudnnBackendDescriptor_t d = dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    cudnnDataType_t type = dnn_type(t);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, shape);
    dnn_set(b, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    dnn_set_int(b, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    dnn_set_int(b, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, by_value ? (int64_t)sizeof(float) : DNN_ALIGN);
    if (by_value)
        dnn_set(b, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    dnn_finalize(b, d);
    return d;
}

cudnnBackendDescriptor_t dnn_tensor(struct dnn_build *b, int64_t id, enum dtype t, const int64_t shape[4],
                                    const int64_t stride[4])
{
    return tensor_of(b, id, t, shape, stride, false);
}

cudnnBackendDescriptor_t dnn_scalar(struct dnn_build *b, int64_t id)
{
    static const int64_t one[4] = { 1, 1, 1, 1 };
    return tensor_of(b, id, DT_F32, one, one, true);
}

static cudnnBackendDescriptor_t graph_of(struct dnn_build *b, const struct dnn_operation *o,
                                         const struct dnn_problem *p)
{
    cudnnBackendDescriptor_t operation = o->make(b, p), graph = dnn_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    dnn_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &b->dnn->handle);
    dnn_set_descriptor(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, operation);
    dnn_finalize(b, graph);
    return graph;
}

/* --- plans ------------------------------------------------------------------------------------------------ */
/* A plan of the engine for a problem. NULL: there is none, or none that is content with DNN_WORKSPACE. */
static cudnnBackendDescriptor_t plan_of(struct cuda_device *c, const struct dnn_operation *o,
                                        const struct dnn_problem *p, const struct engine *e)
{
    struct dnn_build b = begin(c);
    cudnnBackendDescriptor_t graph = graph_of(&b, o, p), knobs[KNOBS];
    cudnnBackendDescriptor_t engine = dnn_make(&b, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    dnn_set_descriptor(&b, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    dnn_set_int(&b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, e->index);
    dnn_finalize(&b, engine);
    for (int64_t i = 0; i < e->knobs; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)e->knob[i].type;
        knobs[i] = dnn_make(&b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        dnn_set(&b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        dnn_set_int(&b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, e->knob[i].value);
        dnn_finalize(&b, knobs[i]);
    }
    cudnnBackendDescriptor_t config = dnn_make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    dnn_set_descriptor(&b, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (e->knobs)
        dnn_set(&b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, e->knobs, knobs);
    dnn_finalize(&b, config);
    cudnnBackendDescriptor_t plan = dnn_make(&b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    dnn_set(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &b.dnn->handle);
    dnn_set_descriptor(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    dnn_finalize(&b, plan);
    int64_t workspace = 0;
    get(&b, plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    bool good = fine(&b) && workspace <= DNN_WORKSPACE;
    drop(&b, 0, good ? plan : NULL);
    return good ? plan : NULL;
}

/* --- engines ------------------------------------------------------------------------------------------------ */
static bool has(const int *notes, int64_t count, int note)
{
    for (int64_t i = 0; i < count && i < NOTES; i++)
        if (notes[i] == note)
            return true;
    return false;
}

/* By what the library says of an engine. F32 on tensor cores is TF32. */
static bool exact(struct dnn_build *b, const struct dnn_operation *o, cudnnBackendDescriptor_t engine, bool f32)
{
    static const cudnnBackendNumericalNote_t refused[] = {
        CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        CUDNN_NUMERICAL_NOTE_FFT, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC, CUDNN_NUMERICAL_NOTE_WINOGRAD,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6,
        CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13,
    };
    cudnnBackendNumericalNote_t notes[NOTES];
    cudnnBackendBehaviorNote_t behaviour[NOTES];
    int64_t n = get(b, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, notes);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (has((const int *)notes, n, (int)refused[i]))
            return false;
    if (f32 && has((const int *)notes, n, CUDNN_NUMERICAL_NOTE_TENSOR_CORE))
        return false;
    n = get(b, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, NOTES, behaviour);
    return fine(b) && (o->compiles || !has((const int *)behaviour, n, CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION));
}

/* Knobs by which a sum is cut into parts, where that is not their least value. */
static bool splits(const struct knob *k)
{
    switch ((cudnnBackendKnobType_t)k->type) {
    case CUDNN_KNOB_TYPE_SPLIT_K:
    case CUDNN_KNOB_TYPE_SPLIT_K_SLC:
    case CUDNN_KNOB_TYPE_SPLIT_RS: return k->value > 1;
    case CUDNN_KNOB_TYPE_STREAM_K: return k->value > 0;
    default: return false;
    }
}

/* Reads a proposal. False: it is of no use. */
static bool read_engine(struct dnn_build *b, const struct dnn_operation *o, cudnnBackendDescriptor_t config, bool f32,
                        struct engine *e)
{
    int from = b->count;
    memset(e, 0, sizeof *e);
    cudnnBackendDescriptor_t engine = dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob[KNOBS];
    get(b, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    get(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &e->index);
    bool good = exact(b, o, engine, f32);
    e->knobs = get(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, NULL);
    good = good && e->knobs <= KNOBS;
    for (int64_t i = 0; good && i < e->knobs; i++)
        knob[i] = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    if (good && e->knobs)
        get(b, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, e->knobs, knob);
    for (int64_t i = 0; good && fine(b) && i < e->knobs; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        get(b, knob[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &e->knob[i].value);
        e->knob[i].type = type;
        good = !splits(&e->knob[i]);
    }
    good = good && fine(b);
    drop(b, from, NULL);
    if (!no_memory(b->status))
        b->status = CUDNN_STATUS_SUCCESS; /* one proposal that cannot be read is one less */
    return good;
}

static bool plans_for_all(struct cuda_device *c, const struct dnn_operation *o, const struct dnn_problem *probes,
                          int count, const struct engine *e)
{
    for (int i = 0; i < count; i++) {
        cudnnBackendDescriptor_t plan = plan_of(c, o, &probes[i], e);
        if (!plan)
            return false;
        c->dnn->BackendDestroyDescriptor(plan);
    }
    return true;
}

/* The first proposal of one way to ask that has plans for all probes. */
static bool ask(struct cuda_device *c, const struct dnn_operation *o, cudnnBackendHeurMode_t mode,
                const struct dnn_problem *probes, int count, struct engine *e)
{
    struct dnn_build b = begin(c);
    bool f32 = probes[0].number[0] == DT_F32, found = false;
    cudnnBackendDescriptor_t graph = graph_of(&b, o, &probes[0]), config[PROPOSALS];
    cudnnBackendDescriptor_t heuristic = dnn_make(&b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    dnn_set_descriptor(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    dnn_finalize(&b, heuristic);
    for (int i = 0; i < PROPOSALS; i++)
        config[i] = dnn_make(&b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t proposals = get(&b, heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, PROPOSALS,
                            config);
    for (int64_t i = 0; !found && device_ok(&c->device) && i < proposals && i < PROPOSALS; i++)
        found = read_engine(&b, o, config[i], f32, e) && plans_for_all(c, o, probes, count, e);
    drop(&b, 0, NULL);
    return found;
}

/* NULL: the sticky error is set. */
static struct family *family_of(struct cuda_device *c, const struct dnn_operation *o, const struct dnn_problem *problem,
                                const struct dnn_problem *probes, int count)
{
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK };
    struct family *f;
    for (f = c->dnn->families; f; f = f->next)
        if (f->operation == o && !memcmp(&f->problem, problem, sizeof *problem))
            return f;
    f = calloc(1, sizeof *f);
    if (!f) {
        err_set(&c->device.err, ERR_MEMORY, "no memory for cuDNN's plans");
        return NULL;
    }
    f->operation = o;
    f->problem = *problem;
    for (int i = 0; !f->has_engine && device_ok(&c->device) && i < 3; i++)
        f->has_engine = ask(c, o, modes[i], probes, count, &f->engine);
    if (!device_ok(&c->device)) {
        free(f);
        return NULL;
    }
    f->next = c->dnn->families;
    return c->dnn->families = f;
}

struct dnn_plan *dnn_plan(struct cuda_device *c, const struct dnn_operation *o, const struct dnn_problem *family,
                          const struct dnn_problem *probes, int probe_count, const struct dnn_problem *p)
{
    struct dnn_plan *plan;
    for (plan = c->dnn->plans; plan; plan = plan->next)
        if (plan->operation == o && !memcmp(&plan->problem, p, sizeof *p))
            return plan;
    struct family *f = family_of(c, o, family, probes, probe_count);
    cudnnBackendDescriptor_t made = f && f->has_engine ? plan_of(c, o, p, &f->engine) : NULL;
    if (!made) {
        if (f && device_ok(&c->device))
            f->has_engine = false; /* so that at least from now on all pieces are done in one way */
        return NULL;
    }
    plan = malloc(sizeof *plan);
    if (!plan) {
        c->dnn->BackendDestroyDescriptor(made);
        err_set(&c->device.err, ERR_MEMORY, "no memory for cuDNN's plans");
        return NULL;
    }
    *plan = (struct dnn_plan){ .operation = o, .problem = *p, .plan = made, .next = c->dnn->plans };
    return c->dnn->plans = plan;
}

void dnn_run(struct cuda_device *c, const struct dnn_operation *o, struct dnn_plan *p, void *const pointers[],
             void *workspace)
{
    struct dnn_build b = begin(c);
    int64_t ids[DNN_TENSORS];
    for (int i = 0; i < o->tensors; i++)
        ids[i] = i + 1;
    cudnnBackendDescriptor_t pack = dnn_make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, o->tensors, ids);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, o->tensors, pointers);
    dnn_set(&b, pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    dnn_finalize(&b, pack);
    if (fine(&b))
        b.status = c->dnn->BackendExecute(c->dnn->handle, p->plan, pack);
    if (!fine(&b))
        err_set(&c->device.err, no_memory(b.status) ? ERR_DEVICE_MEMORY : ERR_DEVICE, "cuDNN, %s: %s", o->name,
                c->dnn->GetErrorString(b.status));
    drop(&b, 0, NULL);
}
