/* fake_runtime.cpp - the CUDA runtime on the processor: see fake.h for what it does and
 * include/cuda_runtime_api.h for how much of CUDA it knows.
 *
 * One lock is held during every call, and while queued work runs, in whichever thread
 * waits for it. A stream is a queue of steps. An event counts its records: how many are
 * queued, how many are done; a step that waits for it waits for the number that was queued
 * when it was queued itself. So everything that is waited for is in some queue already,
 * and waiting is running heads of queues until the count is reached. */
#include "fake_internal.h"
#include "shim.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <sys/mman.h>
#include <thread>
#include <vector>

constexpr int max_cards = 8;
constexpr size_t page = 4096;
constexpr size_t guard_bytes = 256;           /* also how device memory is aligned: no better than a card's */
constexpr size_t fill_max = (size_t)256 << 20; /* beyond, memory is zero: filling it would take memory for nothing */
constexpr unsigned char nan_byte = 0xff, guard_byte = 0xfd;
constexpr size_t default_shared = 48 * 1024;

struct times { /* of an event */
    uint64_t queued = 0, done = 0;
    double ms = 0;
};

struct step {
    std::function<void()> run; /* or */
    std::shared_ptr<times> record, wait;
    uint64_t count = 0; /* of the record, or the one waited for */
};

struct node {
    std::function<void()> run;
    const void *kernel; /* NULL: no kernel */
};
typedef std::vector<node> nodes;

struct CUgraph_st { nodes list; };
struct CUgraphExec_st { std::shared_ptr<nodes> list; };

struct CUstream_st {
    int card = 0;
    bool blocking = true;
    std::deque<step> queue;
    std::unique_ptr<CUgraph_st> capture;
    bool capture_invalid = false;
    cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
    std::thread::id capture_thread;
};

struct CUevent_st {
    int card;
    bool timing;
    std::shared_ptr<times> at = std::make_shared<times>();
    cudaStream_t captured = nullptr; /* the last record was in a capture of this stream */
};

struct device_block { char *map; size_t map_bytes, bytes; int card; };
struct host_block { size_t bytes; bool registered; };

static std::recursive_mutex lock;
static std::map<char *, device_block> device_blocks;
static std::map<char *, host_block> host_blocks;
static std::set<cudaStream_t> streams;
static std::set<cudaEvent_t> events;
static std::set<cudaGraph_t> graphs;
static std::set<cudaGraphExec_t> execs;
static std::map<const void *, size_t> kernel_shared; /* what cudaFuncSetAttribute allowed */
static int live[FAKE_CUDA_KINDS];
static CUstream_st default_streams[max_cards];
static bool working; /* device memory can be touched */

static struct {
    int cards, sm;
    size_t total, others, pinned_limit;
    size_t used[max_cards], used_all, peak, pinned;
    long fail_in;
    int fail_error;
    const char *failed;
    long calls;
    bool immediate, closed;
    shim::random dice;
    struct fake_cuda_counts counts;
} fake;

static thread_local int current_card;
static thread_local cudaError_t last_error;

#define HOLD std::lock_guard<std::recursive_mutex> hold(lock)

/* --- errors ----------------------------------------------------------------------------------- */
static cudaError_t done(cudaError_t rc)
{
    if (rc != cudaSuccess && rc != cudaErrorNotReady)
        last_error = rc;
    return rc;
}

static bool has(const char *name, const char *part) { return strstr(name, part) != nullptr; }

static cudaError_t usual_error(const char *name)
{
    if (has(name, "Alloc") || has(name, "Malloc") || has(name, "Create") || has(name, "Register") ||
        has(name, "Instantiate"))
        return cudaErrorMemoryAllocation;
    if (strcmp(name, "cudaGetDeviceCount") == 0)
        return cudaErrorNoDevice;
    if (has(name, "cudaGraphExecUpdate"))
        return cudaErrorGraphExecUpdateFailure;
    return cudaErrorLaunchFailure;
}

cudaError_t fake_cuda_call(const char *name)
{
    HOLD;
    fake.calls++;
    if (fake.fail_in == 0 || --fake.fail_in > 0)
        return cudaSuccess;
    fake.failed = name;
    return fake.fail_error ? (cudaError_t)fake.fail_error : usual_error(name);
}

static cudaError_t begin(const char *name)
{
    cudaError_t rc = fake_cuda_call(name);
    if (rc == cudaSuccess && fake.cards <= 0)
        rc = fake.cards < 0 ? cudaErrorInsufficientDriver : cudaErrorNoDevice;
    return done(rc);
}

/* How every call begins that has nothing to release. */
#define BEGIN \
    HOLD; \
    if (cudaError_t rc_ = begin(__func__)) \
        return rc_

#define NAME(error) { error, #error }
static const struct { cudaError_t error; const char *name; } error_names[] = {
    NAME(cudaSuccess), NAME(cudaErrorInvalidValue), NAME(cudaErrorMemoryAllocation),
    NAME(cudaErrorInitializationError), NAME(cudaErrorInvalidConfiguration), NAME(cudaErrorInvalidPitchValue),
    NAME(cudaErrorInvalidMemcpyDirection), NAME(cudaErrorInsufficientDriver), NAME(cudaErrorInvalidDeviceFunction),
    NAME(cudaErrorNoDevice), NAME(cudaErrorInvalidDevice), NAME(cudaErrorInvalidKernelImage),
    NAME(cudaErrorNoKernelImageForDevice), NAME(cudaErrorECCUncorrectable), NAME(cudaErrorOperatingSystem),
    NAME(cudaErrorInvalidResourceHandle), NAME(cudaErrorIllegalState), NAME(cudaErrorNotReady),
    NAME(cudaErrorIllegalAddress), NAME(cudaErrorLaunchOutOfResources), NAME(cudaErrorLaunchTimeout),
    NAME(cudaErrorHostMemoryAlreadyRegistered), NAME(cudaErrorHostMemoryNotRegistered),
    NAME(cudaErrorMisalignedAddress), NAME(cudaErrorLaunchFailure), NAME(cudaErrorNotPermitted),
    NAME(cudaErrorNotSupported), NAME(cudaErrorSystemDriverMismatch), NAME(cudaErrorStreamCaptureUnsupported),
    NAME(cudaErrorStreamCaptureInvalidated), NAME(cudaErrorStreamCaptureUnmatched),
    NAME(cudaErrorStreamCaptureUnjoined), NAME(cudaErrorStreamCaptureIsolation),
    NAME(cudaErrorStreamCaptureImplicit), NAME(cudaErrorCapturedEvent), NAME(cudaErrorStreamCaptureWrongThread),
    NAME(cudaErrorGraphExecUpdateFailure), NAME(cudaErrorUnknown),
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (auto &n : error_names)
        if (n.error == error)
            return n.name;
    return "unrecognized error code";
}

/* The card's texts are others; that they are no names is what matters. */
const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "fake failure";
    }
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

cudaError_t cudaGetLastError(void)
{
    cudaError_t rc = last_error;
    last_error = cudaSuccess;
    return rc;
}

/* --- memory that is the card's ---------------------------------------------------------------- */
static void protect(const device_block &b, int protection)
{
    if (mprotect(b.map + page, b.map_bytes - 2 * page, protection) != 0)
        shim::die("device memory cannot be opened or closed");
}

static void protect_all(int protection)
{
    if (fake.closed)
        for (auto &b : device_blocks)
            protect(b.second, protection);
}

/* Device memory can be touched while one of these lives. */
struct open_memory {
    bool outer = !working;
    open_memory()
    {
        if (outer)
            protect_all(PROT_READ | PROT_WRITE);
        working = true;
    }
    ~open_memory()
    {
        if (outer)
            protect_all(PROT_NONE);
        working = !outer;
    }
};

enum place { ON_CARD, PINNED, PAGEABLE, NOWHERE };

/* The block that p lies in, or end. */
template <class Map> static typename Map::iterator block_of(Map &blocks, const void *p)
{
    auto after = blocks.upper_bound((char *)p);
    if (after == blocks.begin())
        return blocks.end();
    auto b = std::prev(after);
    return (const char *)p < b->first + b->second.bytes ? b : blocks.end();
}

/* NOWHERE: beyond the end of device memory. */
static place place_of(const void *p, size_t bytes)
{
    auto d = block_of(device_blocks, p);
    if (d != device_blocks.end())
        return (const char *)p + bytes <= d->first + d->second.bytes ? ON_CARD : NOWHERE;
    auto h = block_of(host_blocks, p);
    return h != host_blocks.end() && (const char *)p + bytes <= h->first + h->second.bytes ? PINNED : PAGEABLE;
}

/* --- streams ---------------------------------------------------------------------------------- */
static cudaStream_t stream_of(cudaStream_t s)
{
    if (s == nullptr || s == cudaStreamLegacy)
        return &default_streams[current_card];
    if (!streams.count(s))
        shim::die("a stream is used that was destroyed or never made");
    return s;
}

static bool is_default(cudaStream_t s) { return s >= default_streams && s < default_streams + max_cards; }

static bool can_run(cudaStream_t s)
{
    return !s->queue.empty() && !(s->queue.front().wait && s->queue.front().wait->done < s->queue.front().count);
}

static void run_head(cudaStream_t s)
{
    step now = std::move(s->queue.front());
    s->queue.pop_front();
    if (now.record) {
        auto since = std::chrono::steady_clock::now().time_since_epoch();
        now.record->done = now.count;
        now.record->ms = std::chrono::duration<double, std::milli>(since).count();
    }
    if (now.run)
        now.run();
}

/* Runs the head of one queue: mostly of the same as before. False: all are empty. */
static bool run_one()
{
    static cudaStream_t last;
    std::vector<cudaStream_t> can;
    bool any = false;
    for (cudaStream_t s : streams) {
        any |= !s->queue.empty();
        if (can_run(s))
            can.push_back(s);
    }
    if (can.empty()) {
        if (any)
            shim::die("streams wait for each other");
        return false;
    }
    if (!streams.count(last) || !can_run(last) || fake.dice.below(4) == 0)
        last = can[fake.dice.below(can.size())];
    run_head(last);
    return true;
}

template <class Reached> static void run_until(Reached reached)
{
    if (reached())
        return;
    open_memory open;
    while (!reached() && run_one())
        ;
}

static void drain(cudaStream_t s)
{
    run_until([s] { return s->queue.empty(); });
}

static void drain_card(int card, bool only_blocking)
{
    run_until([card, only_blocking] {
        for (cudaStream_t s : streams)
            if (s->card == card && (s->blocking || !only_blocking) && !s->queue.empty())
                return false;
        return true;
    });
}

static void invalidate(cudaStream_t s) { s->capture_invalid = true; }

/* Calls that could disturb a capture are forbidden to its thread, and to all while a global one goes on. */
static cudaError_t forbidden()
{
    for (cudaStream_t s : streams)
        if (s->capture && (s->capture_mode == cudaStreamCaptureModeGlobal ||
                           (s->capture_mode == cudaStreamCaptureModeThreadLocal &&
                            s->capture_thread == std::this_thread::get_id()))) {
            invalidate(s);
            return done(cudaErrorStreamCaptureUnsupported);
        }
    return cudaSuccess;
}

#define BEGIN_OUTSIDE_CAPTURE \
    BEGIN; \
    if (cudaError_t rc_ = forbidden()) \
        return rc_

/* The default stream waits for all blocking ones, and they for it: it is never left with work. */
static cudaError_t before_default(int card)
{
    for (cudaStream_t s : streams)
        if (s->card == card && s->blocking && s->capture) {
            invalidate(s);
            return cudaErrorStreamCaptureImplicit;
        }
    drain_card(card, true);
    return cudaSuccess;
}

static cudaError_t enqueue(cudaStream_t s, std::function<void()> run, const void *kernel)
{
    if (s->capture) {
        if (s->capture_invalid)
            return cudaErrorStreamCaptureInvalidated;
        s->capture->list.push_back({ std::move(run), kernel });
        return cudaSuccess;
    }
    if (is_default(s)) {
        if (cudaError_t rc = before_default(s->card))
            return rc;
        open_memory open;
        run();
        return cudaSuccess;
    }
    step next;
    next.run = std::move(run);
    s->queue.push_back(std::move(next));
    if (fake.immediate)
        drain(s);
    return cudaSuccess;
}

cudaError_t fake_cuda_enqueue(cudaStream_t stream, std::function<void()> work)
{
    HOLD;
    return enqueue(stream_of(stream), std::move(work), nullptr);
}

static cudaError_t stream_new(cudaStream_t *stream, unsigned flags)
{
    *stream = nullptr;
    if (flags & ~(unsigned)cudaStreamNonBlocking)
        return done(cudaErrorInvalidValue);
    cudaStream_t s = new CUstream_st;
    s->card = current_card;
    s->blocking = !(flags & cudaStreamNonBlocking);
    streams.insert(s);
    live[FAKE_CUDA_STREAM]++;
    *stream = s;
    return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    BEGIN;
    return stream_new(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    BEGIN;
    return stream_new(stream, flags);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    BEGIN;
    return stream_new(stream, flags);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    HOLD;
    cudaError_t rc = begin(__func__);
    if (stream == nullptr || stream == cudaStreamLegacy)
        return done(cudaErrorInvalidResourceHandle);
    cudaStream_t s = stream_of(stream);
    drain(s);
    streams.erase(s);
    live[FAKE_CUDA_STREAM]--;
    delete s;
    return rc;
}

/* A capture cannot be waited for. */
static cudaError_t not_capturing(cudaStream_t s)
{
    if (!s->capture)
        return forbidden();
    invalidate(s);
    return done(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    BEGIN;
    cudaStream_t s = stream_of(stream);
    if (cudaError_t rc = not_capturing(s))
        return rc;
    if (is_default(s))
        return done(before_default(s->card));
    drain(s);
    return cudaSuccess;
}

/* Time passes between queries: something or nothing gets done. */
template <class Reached> static cudaError_t query(Reached reached)
{
    uint64_t left = fake.dice.below(4);
    run_until([&] { return reached() || left-- == 0; });
    return reached() ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    BEGIN;
    cudaStream_t s = stream_of(stream);
    if (cudaError_t rc = not_capturing(s))
        return rc;
    return query([s] { return s->queue.empty(); });
}

cudaError_t cudaDeviceSynchronize(void)
{
    BEGIN_OUTSIDE_CAPTURE;
    drain_card(current_card, false);
    return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t f, void *user)
{
    BEGIN;
    return done(enqueue(stream_of(stream), [f, user] { f(user); }, nullptr));
}

/* --- events ----------------------------------------------------------------------------------- */
static cudaEvent_t event_of(cudaEvent_t e)
{
    if (!events.count(e))
        shim::die("an event is used that was destroyed or never made");
    return e;
}

static cudaError_t event_new(cudaEvent_t *event, unsigned flags)
{
    cudaEvent_t e = new CUevent_st;
    e->card = current_card;
    e->timing = !(flags & cudaEventDisableTiming);
    events.insert(e);
    live[FAKE_CUDA_EVENT]++;
    *event = e;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = nullptr;
    BEGIN;
    return event_new(event, cudaEventDefault);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    *event = nullptr;
    BEGIN;
    return event_new(event, flags);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    HOLD;
    cudaError_t rc = begin(__func__);
    if (event == nullptr)
        return done(cudaErrorInvalidResourceHandle);
    events.erase(event_of(event)); /* steps that record it or wait for it have its times */
    live[FAKE_CUDA_EVENT]--;
    delete event;
    return rc;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    BEGIN;
    if (event == nullptr)
        return done(cudaErrorInvalidResourceHandle);
    cudaEvent_t e = event_of(event);
    cudaStream_t s = stream_of(stream);
    if (e->card != s->card)
        return done(cudaErrorInvalidResourceHandle);
    e->captured = s->capture ? s : nullptr;
    if (s->capture)
        return done(s->capture_invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    if (is_default(s))
        if (cudaError_t rc = before_default(s->card))
            return done(rc);
    step next;
    next.record = e->at;
    next.count = ++e->at->queued;
    s->queue.push_back(std::move(next));
    if (is_default(s))
        run_head(s);
    else if (fake.immediate)
        drain(s);
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    BEGIN;
    if (event == nullptr)
        return done(cudaErrorInvalidResourceHandle);
    cudaEvent_t e = event_of(event);
    cudaStream_t s = stream_of(stream);
    if (e->captured && s != e->captured)
        return done(cudaErrorStreamCaptureUnsupported);
    if (s->capture && !e->captured && e->at->queued > 0) {
        invalidate(s);
        return done(cudaErrorStreamCaptureIsolation);
    }
    if (s->capture)
        return done(s->capture_invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
    std::shared_ptr<times> at = e->at;
    uint64_t count = at->queued;
    if (is_default(s)) {
        run_until([at, count] { return at->done >= count; });
        return cudaSuccess;
    }
    step next;
    next.wait = at;
    next.count = count;
    s->queue.push_back(std::move(next));
    return cudaSuccess;
}

static cudaError_t event_can_be_waited_for(cudaEvent_t event)
{
    if (event == nullptr)
        return done(cudaErrorInvalidResourceHandle);
    if (event_of(event)->captured) {
        if (streams.count(event->captured) && event->captured->capture)
            invalidate(event->captured);
        return done(cudaErrorCapturedEvent);
    }
    return forbidden();
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    BEGIN;
    if (cudaError_t rc = event_can_be_waited_for(event))
        return rc;
    times *at = event->at.get();
    return query([at] { return at->done >= at->queued; });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    BEGIN;
    if (cudaError_t rc = event_can_be_waited_for(event))
        return rc;
    times *at = event->at.get();
    run_until([at] { return at->done >= at->queued; });
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    BEGIN;
    for (cudaEvent_t e : { start, end }) {
        if (e == nullptr || !event_of(e)->timing || e->at->queued == 0)
            return done(cudaErrorInvalidResourceHandle);
        if (e->at->done < e->at->queued)
            return cudaErrorNotReady;
    }
    *ms = (float)(end->at->ms - start->at->ms);
    return cudaSuccess;
}

/* --- cards ------------------------------------------------------------------------------------ */
static size_t shared_optin()
{
    switch (fake.sm) {
    case 75: return 64 * 1024;
    case 80: return 163 * 1024;
    case 90: case 100: return 227 * 1024;
    default: return 99 * 1024;
    }
}
constexpr int processors = 5;      /* few, so that loops over a grid do loop */
constexpr int first_bus = 0x65;

int fake_cuda_sm(void) { return fake.sm; }

cudaError_t cudaDriverGetVersion(int *version)
{
    HOLD;
    *version = fake.cards < 0 ? 0 : CUDART_VERSION;
    return done(fake_cuda_call(__func__));
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    HOLD;
    *version = CUDART_VERSION;
    return done(fake_cuda_call(__func__));
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 0;
    BEGIN;
    *count = fake.cards;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    BEGIN;
    if (device < 0 || device >= fake.cards)
        return done(cudaErrorInvalidDevice);
    current_card = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    BEGIN;
    *device = current_card;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    BEGIN;
    if (device < 0 || device >= fake.cards)
        return done(cudaErrorInvalidDevice);
    cudaDeviceProp p = {};
    snprintf(p.name, sizeof p.name, "Fake card %d", device);
    for (int i = 0; i < 16; i++)
        p.uuid.bytes[i] = (char)(0xf0 + i + device);
    p.totalGlobalMem = fake.total;
    p.sharedMemPerBlock = default_shared;
    p.sharedMemPerBlockOptin = shared_optin();
    p.sharedMemPerMultiprocessor = shared_optin() + 1024;
    p.regsPerBlock = 65536;
    p.warpSize = 32;
    p.maxThreadsPerBlock = 1024;
    p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024;
    p.maxThreadsDim[2] = 64;
    p.maxGridSize[0] = INT32_MAX;
    p.maxGridSize[1] = p.maxGridSize[2] = 65535;
    p.major = fake.sm / 10;
    p.minor = fake.sm % 10;
    p.multiProcessorCount = processors;
    p.canMapHostMemory = p.concurrentKernels = p.unifiedAddressing = 1;
    p.hostRegisterSupported = p.hostRegisterReadOnlySupported = 1;
    p.asyncEngineCount = 2;
    p.l2CacheSize = 2 << 20;
    p.pciBusID = first_bus + device;
    *prop = p;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    BEGIN;
    if (device < 0 || device >= fake.cards)
        return done(cudaErrorInvalidDevice);
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)default_shared; break;
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = processors; break;
    case cudaDevAttrIntegrated: *value = 0; break;
    case cudaDevAttrL2CacheSize: *value = 2 << 20; break;
    case cudaDevAttrAsyncEngineCount: *value = 2; break;
    case cudaDevAttrComputeCapabilityMajor: *value = fake.sm / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = fake.sm % 10; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)shared_optin() + 1024; break;
    case cudaDevAttrPageableMemoryAccess: *value = 0; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)shared_optin(); break;
    case cudaDevAttrHostRegisterSupported: *value = 1; break;
    case cudaDevAttrHostRegisterReadOnlySupported: *value = 1; break;
    default: return done(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int len, int device)
{
    BEGIN;
    if (device < 0 || device >= fake.cards)
        return done(cudaErrorInvalidDevice);
    snprintf(id, (size_t)len, "0000:%02X:00.0", (unsigned)(first_bus + device));
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    BEGIN;
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total)
{
    BEGIN;
    size_t taken = fake.used[current_card] + fake.others;
    *free = taken < fake.total ? fake.total - taken : 0;
    *total = fake.total;
    return cudaSuccess;
}

/* --- allocation ------------------------------------------------------------------------------- */
cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    BEGIN_OUTSIDE_CAPTURE;
    *memory = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    size_t taken = fake.used[current_card] + fake.others;
    if (taken > fake.total || bytes > fake.total - taken)
        return done(cudaErrorMemoryAllocation);
    size_t inside = (bytes + 2 * guard_bytes + page - 1) / page * page;
    char *map = (char *)mmap(nullptr, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return done(cudaErrorMemoryAllocation);
    device_block b = { map, inside + 2 * page, bytes, current_card };
    char *first = map + page + guard_bytes;
    protect(b, PROT_READ | PROT_WRITE);
    memset(map + page, guard_byte, guard_bytes);
    memset(first + bytes, guard_byte, inside - guard_bytes - bytes);
    if (bytes <= fill_max)
        memset(first, nan_byte, bytes);
    if (fake.closed)
        protect(b, PROT_NONE);
    device_blocks[first] = b;
    fake.used[current_card] += bytes;
    fake.used_all += bytes;
    if (fake.used_all > fake.peak)
        fake.peak = fake.used_all;
    live[FAKE_CUDA_MEMORY]++;
    *memory = first;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    HOLD;
    cudaError_t rc = begin(__func__);
    if (memory == nullptr)
        return rc;
    if (cudaError_t in_capture = forbidden())
        return in_capture;
    auto at = device_blocks.find((char *)memory);
    if (at == device_blocks.end())
        return done(cudaErrorInvalidValue);
    device_block b = at->second;
    drain_card(b.card, false);
    protect(b, PROT_READ);
    for (const char *p = b.map + page; p < b.map + b.map_bytes - page; p++) {
        if (p == at->first)
            p += b.bytes;
        if ((unsigned char)*p != guard_byte)
            shim::die("device memory of %zu bytes was written to at byte %td", b.bytes, p - at->first);
    }
    munmap(b.map, b.map_bytes);
    device_blocks.erase(at);
    fake.used[b.card] -= b.bytes;
    fake.used_all -= b.bytes;
    live[FAKE_CUDA_MEMORY]--;
    return rc;
}

static cudaError_t pin(void *memory, size_t bytes, bool registered)
{
    fake.pinned += bytes;
    host_blocks[(char *)memory] = { bytes, registered };
    live[registered ? FAKE_CUDA_REGISTERED : FAKE_CUDA_PINNED]++;
    return cudaSuccess;
}

static cudaError_t host_new(void **memory, size_t bytes)
{
    *memory = nullptr;
    if (bytes == 0)
        return cudaSuccess;
    if (bytes > fake.pinned_limit || fake.pinned > fake.pinned_limit - bytes)
        return done(cudaErrorMemoryAllocation);
    void *p = aligned_alloc(page, (bytes + page - 1) / page * page);
    if (!p)
        return done(cudaErrorMemoryAllocation);
    if (bytes <= fill_max)
        memset(p, nan_byte, bytes);
    *memory = p;
    return pin(p, bytes, false);
}

cudaError_t cudaMallocHost(void **memory, size_t bytes)
{
    BEGIN_OUTSIDE_CAPTURE;
    return host_new(memory, bytes);
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned)
{
    BEGIN_OUTSIDE_CAPTURE;
    return host_new(memory, bytes);
}

cudaError_t cudaHostRegister(void *memory, size_t bytes, unsigned)
{
    BEGIN_OUTSIDE_CAPTURE;
    char *from = (char *)memory;
    if (memory == nullptr || bytes == 0)
        return done(cudaErrorInvalidValue);
    auto next = host_blocks.lower_bound(from);
    if (block_of(host_blocks, from) != host_blocks.end() || (next != host_blocks.end() && next->first < from + bytes))
        return done(cudaErrorHostMemoryAlreadyRegistered);
    if (bytes > fake.pinned_limit || fake.pinned > fake.pinned_limit - bytes)
        return done(cudaErrorMemoryAllocation);
    return pin(memory, bytes, true);
}

/* As the driver does: it waits for all that may use it. */
static cudaError_t unpin(const char *name, void *memory, bool registered)
{
    HOLD;
    cudaError_t rc = begin(name);
    if (memory == nullptr && !registered)
        return rc;
    if (cudaError_t in_capture = forbidden())
        return in_capture;
    auto at = host_blocks.find((char *)memory);
    if (at == host_blocks.end() || at->second.registered != registered)
        return done(registered ? cudaErrorHostMemoryNotRegistered : cudaErrorInvalidValue);
    for (int card = 0; card < max_cards; card++)
        drain_card(card, false);
    fake.pinned -= at->second.bytes;
    host_blocks.erase(at);
    live[registered ? FAKE_CUDA_REGISTERED : FAKE_CUDA_PINNED]--;
    if (!registered)
        free(memory);
    return rc;
}

cudaError_t cudaFreeHost(void *memory) { return unpin(__func__, memory, false); }
cudaError_t cudaHostUnregister(void *memory) { return unpin(__func__, memory, true); }

/* --- copies ----------------------------------------------------------------------------------- */
struct copy { char *to; const char *from; size_t to_pitch, from_pitch, width, height; bool to_card, from_card; };

static void copy_run(const copy &c)
{
    for (size_t y = 0; y < c.height; y++)
        memcpy(c.to + y * c.to_pitch, c.from + y * c.from_pitch, c.width);
    uint64_t bytes = c.width * c.height;
    if (c.to_card && c.from_card)
        fake.counts.bytes_inside += bytes;
    else if (c.to_card)
        fake.counts.bytes_in += bytes;
    else if (c.from_card)
        fake.counts.bytes_out += bytes;
}

static cudaError_t copy_queue(copy c, enum cudaMemcpyKind kind, cudaStream_t stream, bool wait)
{
    if (c.width == 0 || c.height == 0)
        return cudaSuccess;
    if (c.width > c.to_pitch || c.width > c.from_pitch)
        return done(cudaErrorInvalidPitchValue);
    place to = place_of(c.to, (c.height - 1) * c.to_pitch + c.width);
    place from = place_of(c.from, (c.height - 1) * c.from_pitch + c.width);
    c.to_card = to == ON_CARD;
    c.from_card = from == ON_CARD;
    enum cudaMemcpyKind found = c.to_card ? c.from_card ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice :
                                            c.from_card ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost;
    if (to == NOWHERE || from == NOWHERE || (kind != cudaMemcpyDefault && kind != found))
        return done(cudaErrorInvalidValue);
    cudaStream_t s = stream_of(stream);
    if (!s->capture && from == PAGEABLE && to != PAGEABLE && !wait) { /* staged */
        auto staged = std::make_shared<std::vector<char>>(c.width * c.height);
        for (size_t y = 0; y < c.height; y++)
            memcpy(staged->data() + y * c.width, c.from + y * c.from_pitch, c.width);
        c.from = staged->data();
        c.from_pitch = c.width;
        return done(enqueue(s, [c, staged] { copy_run(c); }, nullptr));
    }
    cudaError_t rc = enqueue(s, [c] { copy_run(c); }, nullptr);
    if (rc == cudaSuccess && !s->capture && (wait || to == PAGEABLE))
        drain(s);
    return done(rc);
}

static copy flat(void *to, const void *from, size_t bytes)
{
    return { (char *)to, (const char *)from, bytes, bytes, bytes, 1, false, false };
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    BEGIN_OUTSIDE_CAPTURE;
    return copy_queue(flat(to, from, bytes), kind, nullptr, true);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    BEGIN;
    return copy_queue(flat(to, from, bytes), kind, stream, false);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    BEGIN;
    copy c = { (char *)to, (const char *)from, to_pitch, from_pitch, width, height, false, false };
    return copy_queue(c, kind, stream, false);
}

static cudaError_t set_queue(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (place_of(memory, bytes) != ON_CARD)
        return done(cudaErrorInvalidValue);
    return done(enqueue(stream_of(stream), [memory, value, bytes] { memset(memory, value, bytes); }, nullptr));
}

cudaError_t cudaMemset(void *memory, int value, size_t bytes)
{
    BEGIN_OUTSIDE_CAPTURE;
    return set_queue(memory, value, bytes, nullptr);
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    BEGIN;
    return set_queue(memory, value, bytes, stream);
}

/* --- kernels ---------------------------------------------------------------------------------- */
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attr, int value)
{
    BEGIN;
    if (attr == cudaFuncAttributeMaxDynamicSharedMemorySize) {
        if (value < 0 || (size_t)value > shared_optin())
            return done(cudaErrorInvalidValue);
        kernel_shared[kernel] = (size_t)value;
    }
    return cudaSuccess;
}

static cudaError_t launch_checked(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                                  cudaStream_t stream, std::function<void()> thread)
{
    if (cudaError_t rc = begin(name))
        return rc;
    uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads == 0 || threads > shim::max_threads || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
        grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535)
        return cudaErrorInvalidConfiguration;
    auto found = kernel_shared.find(kernel);
    size_t allowed = found == kernel_shared.end() ? default_shared : found->second;
    if (shared_bytes > allowed || shared_bytes > shared_optin())
        return cudaErrorInvalidValue;
    cudaStream_t s = stream_of(stream);
    if (s->card != current_card)
        return cudaErrorInvalidResourceHandle;
    shim::work w = { name, grid, block, shared_bytes, std::move(thread) };
    return enqueue(s, [w] {
        fake.counts.launches++;
        shim::run(w, fake.dice);
    }, kernel);
}

cudaError_t shim::launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                         cudaStream_t stream, std::function<void()> thread)
{
    HOLD;
    done(launch_checked(name, kernel, grid, block, shared_bytes, stream, std::move(thread)));
    return cudaGetLastError();
}

/* --- graphs ----------------------------------------------------------------------------------- */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    BEGIN;
    cudaStream_t s = stream_of(stream);
    if (is_default(s))
        return done(cudaErrorStreamCaptureUnsupported);
    if (s->capture)
        return done(cudaErrorIllegalState);
    s->capture.reset(new CUgraph_st);
    s->capture_invalid = false;
    s->capture_mode = mode;
    s->capture_thread = std::this_thread::get_id();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    HOLD;
    cudaError_t rc = begin(__func__); /* ends it all the same */
    cudaStream_t s = stream_of(stream);
    *graph = nullptr;
    if (!s->capture)
        return done(cudaErrorIllegalState);
    if (s->capture_mode != cudaStreamCaptureModeRelaxed && s->capture_thread != std::this_thread::get_id())
        return done(cudaErrorStreamCaptureWrongThread);
    std::unique_ptr<CUgraph_st> captured = std::move(s->capture);
    if (rc != cudaSuccess || s->capture_invalid)
        return done(rc ? rc : cudaErrorStreamCaptureInvalidated);
    *graph = captured.release();
    graphs.insert(*graph);
    live[FAKE_CUDA_GRAPH]++;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    BEGIN;
    cudaStream_t s = stream_of(stream);
    *status = !s->capture ? cudaStreamCaptureStatusNone :
              s->capture_invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = nullptr;
    BEGIN;
    if (!graphs.count(graph))
        return done(cudaErrorInvalidValue);
    *exec = new CUgraphExec_st{ std::make_shared<nodes>(graph->list) };
    execs.insert(*exec);
    live[FAKE_CUDA_GRAPH_EXEC]++;
    return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
    *info = { cudaGraphExecUpdateError, nullptr, nullptr };
    BEGIN;
    if (!execs.count(exec) || !graphs.count(graph))
        return done(cudaErrorInvalidValue);
    const nodes &old = *exec->list, &now = graph->list;
    bool same = old.size() == now.size();
    for (size_t i = 0; same && i < now.size(); i++)
        same = !old[i].kernel == !now[i].kernel;
    if (!same) {
        info->result = cudaGraphExecUpdateErrorTopologyChanged;
        return done(cudaErrorGraphExecUpdateFailure);
    }
    exec->list = std::make_shared<nodes>(now); /* launches that are queued keep what they had */
    info->result = cudaGraphExecUpdateSuccess;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    BEGIN;
    if (!execs.count(exec))
        return done(cudaErrorInvalidValue);
    cudaStream_t s = stream_of(stream);
    if (s->capture) {
        invalidate(s);
        return done(cudaErrorStreamCaptureUnsupported);
    }
    std::shared_ptr<nodes> list = exec->list;
    return done(enqueue(s, [list] {
        fake.counts.graph_launches++;
        for (const node &n : *list)
            n.run();
    }, nullptr));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    HOLD;
    cudaError_t rc = begin(__func__);
    if (graphs.erase(graph) == 0)
        return done(cudaErrorInvalidValue);
    live[FAKE_CUDA_GRAPH]--;
    delete graph;
    return rc;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    HOLD;
    cudaError_t rc = begin(__func__);
    if (execs.erase(exec) == 0)
        return done(cudaErrorInvalidValue);
    live[FAKE_CUDA_GRAPH_EXEC]--;
    delete exec;
    return rc;
}

/* --- what tests ask --------------------------------------------------------------------------- */
static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *v = getenv(name);
    return v && *v ? strtoull(v, nullptr, 10) : otherwise;
}

void fake_cuda_reset(void)
{
    HOLD;
    const char *fail = getenv("FAKE_CUDA_FAIL"), *colon = fail ? strchr(fail, ':') : nullptr;
    fake.cards = (int)setting("FAKE_CUDA_CARDS", 1);
    fake.sm = (int)setting("FAKE_CUDA_SM", 86);
    fake.total = setting("FAKE_CUDA_MEMORY", (uint64_t)8 << 30);
    fake.others = 0;
    fake.pinned_limit = SIZE_MAX;
    fake.peak = fake.used_all;
    fake.fail_in = fail ? atol(fail) : 0;
    fake.fail_error = colon ? atoi(colon + 1) : 0;
    fake.failed = nullptr;
    fake.calls = 0;
    fake.immediate = fake.closed = false;
    fake.dice.state = setting("FAKE_CUDA_SEED", 1);
    fake.counts = {};
}

__attribute__((constructor)) static void start()
{
    for (int i = 0; i < max_cards; i++)
        default_streams[i].card = i;
    fake_cuda_reset();
}

void fake_cuda_set_cards(int count) { HOLD; fake.cards = count < max_cards ? count : max_cards; }
void fake_cuda_set_sm(int sm) { HOLD; fake.sm = sm; }
void fake_cuda_set_memory(size_t bytes) { HOLD; fake.total = bytes; }
void fake_cuda_set_others(size_t bytes) { HOLD; fake.others = bytes; }
void fake_cuda_set_pinned_limit(size_t bytes) { HOLD; fake.pinned_limit = bytes; }
size_t fake_cuda_peak(void) { HOLD; return fake.peak; }
void fake_cuda_fail(long n, int error) { HOLD; fake.fail_in = n; fake.fail_error = error; fake.failed = nullptr; }
const char *fake_cuda_failed(void) { HOLD; return fake.failed; }
long fake_cuda_calls(void) { HOLD; return fake.calls; }
int fake_cuda_live(enum fake_cuda_kind kind) { HOLD; return live[kind]; }
void fake_cuda_seed(uint64_t seed) { HOLD; fake.dice.state = seed; }

void fake_cuda_close_memory(bool on)
{
    HOLD;
    fake.closed = true;
    protect_all(on ? PROT_NONE : PROT_READ | PROT_WRITE);
    fake.closed = on;
}

void fake_cuda_immediate(bool on) { HOLD; fake.immediate = on; }
struct fake_cuda_counts fake_cuda_counts(void) { HOLD; return fake.counts; }

void fake_cuda_object(enum fake_cuda_kind kind, int change) { HOLD; live[kind] += change; }
