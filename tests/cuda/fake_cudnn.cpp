/* fake_cudnn.cpp - cuDNN's backend interface on the processor: attention and convolution that
 * are really computed, by engines of which some must not be used and some must not be mixed.
 *
 * As picky as the real one: an attribute has to belong to its descriptor and to have its type, a
 * descriptor has to be finalised before it is used and stays as it is from then on, pointers
 * have to be aligned as their tensors say. A graph, once finalised, needs nothing of what it was made of.
 *
 * Engines. What is proposed changes with the number of queries or rows, and an engine's order
 * of summing with its knob: to take what is proposed for a piece shows as other bytes.
 *   attention:   REFUSES_PIECES only takes as many queries as keys; NONDETERMINISTIC says so; BLOCKS is good
 *   convolution: WINOGRAD and COMPILED say so, TENSOR_CORE rounds F32 inputs, SPLIT has its knob at 2; ROWS is good
 * To run any but the good ones is answered by abort.
 *
 * The environment: FAKE_CUDNN_MISSING: there is no such library. FAKE_CUDNN_VERSION=n: it is another version.
 * FAKE_CUDNN_BARE=1: only engines that are of no use. */
#include "fake_internal.h"
#include "fake_libs.h"

#include "kernels/tensor.h"

#include <cudnn.h>

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

enum { REFUSES_PIECES = 10, NONDETERMINISTIC, BLOCKS, WINOGRAD = 20, COMPILED, TENSOR_CORE, SPLIT, ROWS };
enum { WORKSPACE = 1024 }; /* bytes that every plan wants and spoils */

struct descriptor;
typedef std::shared_ptr<descriptor> shared;

struct value {
    cudnnBackendAttributeType_t type;
    std::vector<char> bytes;    /* or */
    std::vector<shared> others; /* as they were: finalised */
    int64_t count;
    int64_t integer(int64_t i = 0) const
    {
        int64_t v;
        memcpy(&v, bytes.data() + i * 8, 8);
        return v;
    }
    int word() const
    {
        int v;
        memcpy(&v, bytes.data(), 4);
        return v;
    }
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, value> values;
    const value *find(int name) const
    {
        auto at = values.find(name);
        return at == values.end() ? nullptr : &at->second;
    }
    const value &at(int name) const { return values.at(name); }
    const descriptor &other(int name) const { return *values.at(name).others[0]; }
};

/* What a handle points to. */
struct box { shared d; };

struct rule {
    cudnnBackendDescriptorType_t of;
    int name;
    cudnnBackendAttributeType_t type;
    int64_t count; /* 0: any */
};

const rule rules[] = {
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1 },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2 },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
      CUDNN_TYPE_FLOAT, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA,
      CUDNN_TYPE_FLOAT, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1 },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0 },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1 },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_ENGINE_DESCRIPTOR, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1 },
    { CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1 },
    { CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1 },
    { CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0 },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1 },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, 1 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 0 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 0 },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1 },
};

/* Those may be left out. */
bool optional(int name)
{
    return name == CUDNN_ATTR_TENSOR_IS_BY_VALUE || name == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES;
}

size_t size_of(cudnnBackendAttributeType_t t)
{
    switch (t) {
    case CUDNN_TYPE_BOOLEAN: return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    default: return 4;
    }
}

/* --- tensors and operations by value -------------------------------------------------------------------- */
struct view {
    int64_t id, align, shape[4], stride[4];
    int type;
    bool by_value;
};

view view_of(const descriptor &d)
{
    view v = {};
    v.id = d.at(CUDNN_ATTR_TENSOR_UNIQUE_ID).integer();
    v.align = d.at(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT).integer();
    v.type = d.at(CUDNN_ATTR_TENSOR_DATA_TYPE).word();
    v.by_value = d.find(CUDNN_ATTR_TENSOR_IS_BY_VALUE) && d.at(CUDNN_ATTR_TENSOR_IS_BY_VALUE).bytes[0];
    for (int i = 0; i < 4; i++) {
        v.shape[i] = d.at(CUDNN_ATTR_TENSOR_DIMENSIONS).integer(i);
        v.stride[i] = d.at(CUDNN_ATTR_TENSOR_STRIDES).integer(i);
    }
    return v;
}

size_t bytes_of(int type) { return type == CUDNN_DATA_FLOAT ? 4 : 2; }

/* 16-byte accesses need rows that allow them. */
bool aligned_rows(const view &v)
{
    for (int i = 0; i < 4; i++)
        if (v.stride[i] != 1 && v.shape[i] > 1 && v.stride[i] * bytes_of(v.type) % 16)
            return false;
    return v.align == 16;
}

struct problem {
    bool sdpa, valid;
    view t[5];     /* attention: q, k, v, o, scale; convolution: y, x, w */
    int tensors;
    int64_t pad[4], stride[2];
};

problem problem_of(const descriptor &graph)
{
    problem p = {};
    const descriptor &op = graph.other(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    p.sdpa = op.type == CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR;
    if (p.sdpa) {
        static const int names[] = { CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC,
                                     CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC,
                                     CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC };
        p.tensors = 5;
        p.valid = fake_cuda_sm() >= 80;
        for (int i = 0; i < 5; i++)
            p.t[i] = view_of(op.other(names[i]));
        for (int i = 0; i < 4; i++)
            p.valid = p.valid && p.t[i].type == p.t[0].type && p.t[i].type != CUDNN_DATA_FLOAT && !p.t[i].by_value &&
                      p.t[i].stride[3] == 1 && aligned_rows(p.t[i]) && p.t[i].shape[3] % 8 == 0 &&
                      p.t[i].shape[3] == p.t[0].shape[3] && p.t[i].shape[1] == p.t[0].shape[1] && p.t[i].shape[0] == 1;
        p.valid = p.valid && p.t[4].by_value && p.t[4].type == CUDNN_DATA_FLOAT && p.t[3].shape[2] == p.t[0].shape[2] &&
                  p.t[1].shape[2] == p.t[2].shape[2];
        return p;
    }
    static const int names[] = { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                                 CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W };
    const descriptor &how = op.other(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    float one = 1, zero = 0;
    p.tensors = 3;
    p.valid = how.at(CUDNN_ATTR_CONVOLUTION_COMP_TYPE).word() == CUDNN_DATA_FLOAT &&
              how.at(CUDNN_ATTR_CONVOLUTION_CONV_MODE).word() == CUDNN_CROSS_CORRELATION &&
              how.at(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS).integer() == 2 &&
              !memcmp(op.at(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA).bytes.data(), &one, 4) &&
              !memcmp(op.at(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA).bytes.data(), &zero, 4);
    for (int i = 0; i < 3; i++) {
        p.t[i] = view_of(op.other(names[i]));
        p.valid = p.valid && p.t[i].stride[1] == 1 && aligned_rows(p.t[i]) && p.t[i].shape[1] % 8 == 0;
    }
    p.valid = p.valid && p.t[1].type == p.t[2].type &&
              (p.t[0].type == p.t[1].type || p.t[0].type == CUDNN_DATA_FLOAT) &&
              (p.t[1].type != CUDNN_DATA_BFLOAT16 || fake_cuda_sm() >= 80) && p.t[0].shape[1] == p.t[2].shape[0] &&
              p.t[1].shape[1] == p.t[2].shape[1];
    for (int i = 0; i < 2; i++) {
        int64_t after = how.at(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS).integer(i);
        p.pad[i] = how.at(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS).integer(i);
        p.stride[i] = how.at(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES).integer(i);
        int64_t free = p.t[1].shape[2 + i] + p.pad[i] + after - p.t[2].shape[2 + i];
        p.valid = p.valid && how.at(CUDNN_ATTR_CONVOLUTION_DILATIONS).integer(i) == 1 &&
                  p.t[0].shape[2 + i] == free / p.stride[i] + 1;
    }
    return p;
}

/* --- engines ------------------------------------------------------------------------------------------------ */
std::vector<cudnnBackendNumericalNote_t> notes_of(int64_t engine, const problem &p)
{
    if (engine == WINOGRAD)
        return { CUDNN_NUMERICAL_NOTE_WINOGRAD };
    if (engine == NONDETERMINISTIC)
        return { CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC };
    if (engine == TENSOR_CORE || p.t[1].type != CUDNN_DATA_FLOAT)
        return { CUDNN_NUMERICAL_NOTE_TENSOR_CORE };
    return {};
}

bool takes(int64_t engine, const problem &p)
{
    if (!p.valid || p.sdpa != (engine < WINOGRAD))
        return false;
    return engine != REFUSES_PIECES || p.t[0].shape[2] == p.t[1].shape[2];
}

struct choice { int64_t engine; cudnnBackendKnobType_t knob; int64_t value; };

std::vector<choice> proposals(const problem &p, cudnnBackendHeurMode_t mode)
{
    std::vector<choice> list;
    int64_t tile = p.t[0].shape[2] >= 64 ? 128 : 64;
    bool bare = getenv("FAKE_CUDNN_BARE");
    if (!p.valid)
        return list;
    if (p.sdpa) {
        if (mode == CUDNN_HEUR_MODE_A)
            list = { { NONDETERMINISTIC, CUDNN_KNOB_TYPE_TILE_SIZE, tile },
                     { REFUSES_PIECES, CUDNN_KNOB_TYPE_TILE_SIZE, tile } };
        else if (!bare)
            list = { { BLOCKS, CUDNN_KNOB_TYPE_TILE_SIZE, tile } };
        return list;
    }
    if (mode == CUDNN_HEUR_MODE_FALLBACK)
        return list;
    list = { { WINOGRAD, CUDNN_KNOB_TYPE_TILE_SIZE, tile }, { COMPILED, CUDNN_KNOB_TYPE_TILE_SIZE, tile },
             { SPLIT, CUDNN_KNOB_TYPE_SPLIT_K, 2 } };
    if (p.t[1].type == CUDNN_DATA_FLOAT)
        list.push_back({ TENSOR_CORE, CUDNN_KNOB_TYPE_TILE_SIZE, tile });
    if (!bare)
        list.push_back({ ROWS, CUDNN_KNOB_TYPE_TILE_SIZE, tile });
    return list;
}

/* --- arithmetic ---------------------------------------------------------------------------------------------- */
float load(const void *from, int type, int64_t i)
{
    return type == CUDNN_DATA_FLOAT     ? static_cast<const float *>(from)[i]
           : type == CUDNN_DATA_BFLOAT16 ? f32_from_bf16(static_cast<const uint16_t *>(from)[i])
                                         : f32_from_f16(static_cast<const uint16_t *>(from)[i]);
}

void store(void *to, int type, int64_t i, float v)
{
    if (type == CUDNN_DATA_FLOAT)
        static_cast<float *>(to)[i] = v;
    else
        static_cast<uint16_t *>(to)[i] = type == CUDNN_DATA_BFLOAT16 ? bf16_from_f32(v) : f16_from_f32(v);
}

/* The i-th of n, as the knob has it. */
int64_t nth(int64_t i, int64_t n, int64_t tile) { return tile == 128 ? n - 1 - i : i; }

void attend(const problem &p, int64_t tile, const std::map<int64_t, void *> &data, float scale)
{
    const view &q = p.t[0], &k = p.t[1], &v = p.t[2], &o = p.t[3];
    int64_t lk = k.shape[2], dim = q.shape[3];
    std::vector<float> weight(lk), keys(lk * dim), values(lk * dim);
    for (int64_t h = 0; h < q.shape[1]; h++) {
        for (int64_t j = 0; j < lk; j++)
            for (int64_t c = 0; c < dim; c++) {
                keys[j * dim + c] = load(data.at(k.id), k.type, h * k.stride[1] + j * k.stride[2] + c);
                values[j * dim + c] = load(data.at(v.id), v.type, h * v.stride[1] + j * v.stride[2] + c);
            }
        for (int64_t i = 0; i < q.shape[2]; i++) {
            float most = -INFINITY, total = 0;
            for (int64_t j = 0; j < lk; j++) {
                float dot = 0;
                for (int64_t c = 0; c < dim; c++)
                    dot += load(data.at(q.id), q.type, h * q.stride[1] + i * q.stride[2] + c) * keys[j * dim + c];
                weight[j] = dot * scale;
                most = fmaxf(most, weight[j]);
            }
            std::vector<float> sum(dim, 0.0f);
            for (int64_t at = 0; at < lk; at++) {
                int64_t j = nth(at, lk, tile);
                float w = expf(weight[j] - most);
                total += w;
                for (int64_t c = 0; c < dim; c++)
                    sum[c] += w * values[j * dim + c];
            }
            for (int64_t c = 0; c < dim; c++)
                store(data.at(o.id), o.type, h * o.stride[1] + i * o.stride[2] + c, sum[c] / total);
        }
    }
}

void convolve(const problem &p, int64_t tile, const std::map<int64_t, void *> &data)
{
    const view &y = p.t[0], &x = p.t[1], &w = p.t[2];
    int64_t in = x.shape[1], kh = w.shape[2], kw = w.shape[3], taps = kh * kw;
    std::vector<float> sum(y.shape[1]), kernel(taps * in * y.shape[1]);
    for (int64_t o = 0; o < y.shape[1]; o++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < in; c++)
                kernel[(t * in + c) * y.shape[1] + o] =
                    load(data.at(w.id), w.type, o * w.stride[0] + t / kw * w.stride[2] + t % kw * w.stride[3] + c);
    for (int64_t r = 0; r < y.shape[2]; r++)
        for (int64_t s = 0; s < y.shape[3]; s++) {
            std::fill(sum.begin(), sum.end(), 0.0f);
            for (int64_t at = 0; at < taps; at++) {
                int64_t t = nth(at, taps, tile);
                int64_t row = r * p.stride[0] - p.pad[0] + t / kw, col = s * p.stride[1] - p.pad[1] + t % kw;
                if (row < 0 || row >= x.shape[2] || col < 0 || col >= x.shape[3])
                    continue;
                for (int64_t c = 0; c < in; c++) {
                    float v = load(data.at(x.id), x.type, row * x.stride[2] + col * x.stride[3] + c);
                    const float *k = &kernel[(t * in + c) * y.shape[1]];
                    for (int64_t o = 0; o < y.shape[1]; o++)
                        sum[o] += v * k[o];
                }
            }
            for (int64_t o = 0; o < y.shape[1]; o++)
                store(data.at(y.id), y.type, r * y.stride[2] + s * y.stride[3] + o, sum[o]);
        }
}

/* --- descriptors ------------------------------------------------------------------------------------------------ */
shared &of(cudnnBackendDescriptor_t d) { return static_cast<box *>(d)->d; }

bool complete(const descriptor &d)
{
    for (const rule &r : rules)
        if (r.of == d.type && !optional(r.name) && !d.find(r.name))
            return false;
    return true;
}

void put(descriptor *d, int name, cudnnBackendAttributeType_t type, int64_t v)
{
    value made = { type, std::vector<char>(size_of(type)), {}, 1 };
    memcpy(made.bytes.data(), &v, size_of(type));
    d->values[name] = made;
}

void refer(descriptor *d, int name, std::vector<shared> others)
{
    int64_t count = (int64_t)others.size();
    d->values[name] = { CUDNN_TYPE_BACKEND_DESCRIPTOR, {}, std::move(others), count };
}

shared made(cudnnBackendDescriptorType_t type)
{
    shared d = std::make_shared<descriptor>();
    d->type = type;
    d->finalized = true;
    return d;
}

shared configuration(const shared &graph, const choice &c)
{
    shared engine = made(CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob = made(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    refer(engine.get(), CUDNN_ATTR_ENGINE_OPERATION_GRAPH, { graph });
    put(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, c.engine);
    put(knob.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, c.knob);
    put(knob.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, c.value);
    shared config = made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    refer(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE, { engine });
    refer(config.get(), CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, { knob });
    return config;
}

cudnnStatus_t finalize(descriptor *d)
{
    switch (d->type) {
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        if (d->at(CUDNN_ATTR_OPERATIONGRAPH_OPS).count != 1)
            return CUDNN_STATUS_NOT_SUPPORTED;
        break;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        if (!takes(d->at(CUDNN_ATTR_ENGINE_GLOBAL_INDEX).integer(),
                   problem_of(d->other(CUDNN_ATTR_ENGINE_OPERATION_GRAPH))))
            return CUDNN_STATUS_NOT_SUPPORTED;
        break;
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: {
        /* No knobs are the engine's own choice. */
        const descriptor &engine = d->other(CUDNN_ATTR_ENGINECFG_ENGINE);
        if (!d->find(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES)) {
            problem p = problem_of(engine.other(CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
            choice c = { 0, CUDNN_KNOB_TYPE_TILE_SIZE, p.t[0].shape[2] >= 64 ? 128 : 64 };
            refer(d, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                  { configuration(nullptr, c)->at(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES).others[0] });
        }
        break;
    }
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        put(d, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, WORKSPACE);
        break;
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        if (d->at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).count != d->at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).count)
            return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
        break;
    default: break;
    }
    return CUDNN_STATUS_SUCCESS;
}

struct handle { cudaStream_t stream; };

std::atomic<long> plans;

} // namespace

/* --- the interface ------------------------------------------------------------------------------------------------ */
/* The module's own dlopen: it finds this library in the module itself. */
extern "C" void *dlopen(const char *name, int flags)
{
    typedef void *(*function)(const char *, int);
    static function real = reinterpret_cast<function>(dlsym(RTLD_NEXT, "dlopen"));
    Dl_info self;
    if (!name || strcmp(name, "libcudnn.so.9"))
        return real(name, flags);
    if (getenv("FAKE_CUDNN_MISSING") || !dladdr(reinterpret_cast<void *>(&cudnnCreate), &self))
        return nullptr;
    return real(self.dli_fname, flags | RTLD_NOLOAD);
}

EXPORT size_t cudnnGetVersion(void)
{
    const char *v = getenv("FAKE_CUDNN_VERSION");
    return v ? strtoull(v, nullptr, 10) : 91900;
}

EXPORT const char *cudnnGetErrorString(cudnnStatus_t s)
{
    return s / 1000 == 2   ? "a bad parameter"
           : s / 1000 == 3 ? "not supported"
           : s / 1000 == 4 ? "an internal error"
           : s / 1000 == 5 ? "it failed to run"
                           : "no success";
}

EXPORT cudnnStatus_t cudnnCreate(cudnnHandle_t *h)
{
    if (fake_cuda_call("cudnnCreate") != cudaSuccess)
        return CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    *h = reinterpret_cast<cudnnHandle_t>(new handle());
    fake_cuda_object(FAKE_CUDA_DNN, 1);
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    delete reinterpret_cast<handle *>(h);
    fake_cuda_object(FAKE_CUDA_DNN, -1);
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream)
{
    reinterpret_cast<handle *>(h)->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *d)
{
    if (!d)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    box *b = new box{ std::make_shared<descriptor>() };
    b->d->type = type;
    *d = b;
    fake_cuda_object(FAKE_CUDA_DNN, 1);
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    delete static_cast<box *>(d);
    fake_cuda_object(FAKE_CUDA_DNN, -1);
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d)
{
    if (fake_cuda_call("cudnnBackendFinalize") != cudaSuccess)
        return CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    if (of(d)->finalized || !complete(*of(d)))
        return CUDNN_STATUS_BAD_PARAM;
    cudnnStatus_t rc = finalize(of(d).get());
    of(d)->finalized = rc == CUDNN_STATUS_SUCCESS;
    return rc;
}

EXPORT cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t to, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (!to || !values)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    descriptor *d = of(to).get();
    const rule *found = nullptr;
    for (const rule &r : rules)
        if (r.of == d->type && r.name == (int)name)
            found = &r;
    if (!found || d->finalized)
        return CUDNN_STATUS_BAD_PARAM;
    if (found->type != type || count <= 0 || (found->count && found->count != count))
        return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    value v = { type, {}, {}, count };
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
        for (int64_t i = 0; i < count; i++) {
            shared other = of(static_cast<const cudnnBackendDescriptor_t *>(values)[i]);
            if (!other->finalized)
                return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
            v.others.push_back(other);
        }
    } else {
        v.bytes.assign(static_cast<const char *>(values), static_cast<const char *>(values) + count * size_of(type));
    }
    d->values[name] = v;
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const from, cudnnBackendAttributeName_t name,
                                              cudnnBackendAttributeType_t type, int64_t requested, int64_t *count,
                                              void *values)
{
    shared d = of(from);
    std::vector<shared> others;
    std::vector<char> bytes;
    if (!d->finalized)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (d->type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        const shared &graph = d->at(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH).others[0];
        auto mode = (cudnnBackendHeurMode_t)d->at(CUDNN_ATTR_ENGINEHEUR_MODE).word();
        for (const choice &c : proposals(problem_of(*graph), mode))
            others.push_back(configuration(graph, c));
    } else if (d->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR && name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        auto notes = notes_of(d->at(CUDNN_ATTR_ENGINE_GLOBAL_INDEX).integer(),
                              problem_of(d->other(CUDNN_ATTR_ENGINE_OPERATION_GRAPH)));
        bytes.assign((const char *)notes.data(), (const char *)(notes.data() + notes.size()));
    } else if (d->type == CUDNN_BACKEND_ENGINE_DESCRIPTOR && name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) {
        int note = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
        if (d->at(CUDNN_ATTR_ENGINE_GLOBAL_INDEX).integer() == COMPILED)
            bytes.assign((const char *)&note, (const char *)(&note + 1));
    } else if (const value *v = d->find(name)) {
        if (v->type != type)
            return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
        others = v->others;
        bytes = v->bytes;
    } else {
        return CUDNN_STATUS_BAD_PARAM;
    }
    int64_t there = others.empty() ? (int64_t)(bytes.size() / size_of(type)) : (int64_t)others.size();
    *count = there;
    for (int64_t i = 0; i < (int64_t)others.size() && i < requested; i++) {
        shared &to = of(static_cast<cudnnBackendDescriptor_t *>(values)[i]);
        if (to->type != others[i]->type)
            return CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
        *to = *others[i];
    }
    if (!bytes.empty() && requested)
        memcpy(values, bytes.data(), std::min(bytes.size(), requested * size_of(type)));
    return CUDNN_STATUS_SUCCESS;
}

EXPORT cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (fake_cuda_call("cudnnBackendExecute") != cudaSuccess)
        return CUDNN_STATUS_EXECUTION_FAILED;
    if (!of(plan)->finalized || !of(pack)->finalized)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    const descriptor &config = of(plan)->other(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const descriptor &engine = config.other(CUDNN_ATTR_ENGINECFG_ENGINE);
    const descriptor &knob = config.other(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
    int64_t index = engine.at(CUDNN_ATTR_ENGINE_GLOBAL_INDEX).integer();
    if (index != BLOCKS && index != ROWS) {
        fprintf(stderr, "fake cuDNN: engine %d does not keep what sluice promises\n", (int)index);
        abort();
    }
    problem p = problem_of(engine.other(CUDNN_ATTR_ENGINE_OPERATION_GRAPH));
    int64_t tile = knob.at(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE).integer();
    const value &ids = of(pack)->at(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const value &pointers = of(pack)->at(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    void *workspace = (void *)of(pack)->at(CUDNN_ATTR_VARIANT_PACK_WORKSPACE).integer();
    std::map<int64_t, void *> data;
    for (int64_t i = 0; i < ids.count; i++)
        data[ids.integer(i)] = (void *)pointers.integer(i);
    float scale = 0;
    for (int i = 0; i < p.tensors; i++) {
        auto at = data.find(p.t[i].id);
        if (at == data.end() || !at->second)
            return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if ((uintptr_t)at->second % p.t[i].align)
            return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
        if (p.t[i].by_value)
            scale = *static_cast<float *>(at->second);
    }
    if (!workspace)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    plans++;
    auto work = [=] {
        memset(workspace, 0xee, WORKSPACE);
        if (p.sdpa)
            attend(p, tile, data, scale);
        else
            convolve(p, tile, data);
    };
    return fake_cuda_enqueue(reinterpret_cast<handle *>(h)->stream, work) == cudaSuccess ? CUDNN_STATUS_SUCCESS
                                                                                        : CUDNN_STATUS_EXECUTION_FAILED;
}

EXPORT long fake_cudnn_plans(void) { return plans; }
