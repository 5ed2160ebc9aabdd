// Test equipment: a stand-in for the CUDA driver's library, libcuda.so.1, with the functions that the
// lane calls. It runs the kernel compiled for the CPU in place of the PTX. Its results are emulated.
//
// TQ4_STANDIN_FAIL=SYMBOL:CODE[:NTH] makes the NTH call (from 1; every call without it) of a function
//   return CODE. "cuDeviceGetCount:0" reports no device.
// TQ4_STANDIN_FREE=BYTES is the memory of the device; allocations count against it.
// TQ4_STANDIN_LOG=FILE gets the name of each function that is called, a line each.
// TQ4_STANDIN_PTX=MAJOR.MINOR is the newest PTX it reads; 8.0 otherwise.
// TQ4_STANDIN_ELAPSED=MILLISECONDS is what every pair of events is apart, in place of the time that went by.
// TQ4_STANDIN_CAPABILITY=MAJOR.MINOR is the device's compute capability; 9.0 otherwise.
//
// Built with -DSYMBOL=OTHER it has no function SYMBOL.
//
// Work runs when it is queued, except downloads: these wait for the stream to be synchronised, so that a
// host that does not wait sees what was there before. Host memory of an asynchronous copy must be
// page-locked, device memory must be allocated: anything else is CUDA_ERROR_INVALID_VALUE. What is not
// freed when the process exits is reported on standard error as "stand-in: leaked".

#include "launch.h"

#include <chrono>
#include <map>
#include <mutex>

namespace {

enum Code {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_PTX = 218,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_CONTEXT = 201,
    NOT_FOUND = 500,
    LAUNCH_FAILED = 719,
};

struct Described { int code; const char *name, *text; };
const Described described[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
};

struct Download { void *to; const void *from; size_t size; };
struct Stream { std::vector<Download> downloads; };
struct Event { bool recorded = false; std::chrono::steady_clock::time_point at; };
struct Module { std::vector<std::string> entries; };

std::recursive_mutex lock;
std::map<std::string, int> calls;
std::map<uintptr_t, size_t> device_memory, pinned_memory;
size_t used = 0;
int objects = 0, retained = 0;
bool initialized = false;
thread_local bool current = false;

size_t capacity() {
    const char *free_bytes = getenv("TQ4_STANDIN_FREE");
    return free_bytes ? strtoull(free_bytes, nullptr, 10) : (size_t)1 << 30;
}

void version(const char *variable, int &major, int &minor) {
    if (const char *text = getenv(variable)) sscanf(text, "%d.%d", &major, &minor);
}

// Counts the call; the code that it shall fail with, or -1.
int injected(const char *symbol) {
    const int nth = ++calls[symbol];
    if (const char *path = getenv("TQ4_STANDIN_LOG")) {
        if (FILE *file = fopen(path, "a")) {
            fprintf(file, "%s\n", symbol);
            fclose(file);
        }
    }
    const char *fail = getenv("TQ4_STANDIN_FAIL");
    if (!fail) return -1;
    const size_t length = strlen(symbol);
    if (strncmp(fail, symbol, length) != 0 || fail[length] != ':') return -1;
    int code = 0, wanted = 0;
    const int fields = sscanf(fail + length, ":%d:%d", &code, &wanted);
    return fields == 2 && wanted != nth ? -1 : code;
}

bool inside(const std::map<uintptr_t, size_t> &memory, uintptr_t at, size_t size) {
    auto it = memory.upper_bound(at);
    if (it == memory.begin()) return false;
    --it;
    return at + size <= it->first + it->second;
}

int elapsed(float *out, const Event *start, const Event *end) {
    if (!start->recorded || !end->recorded) return INVALID_VALUE;
    *out = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    if (const char *elapsed = getenv("TQ4_STANDIN_ELAPSED")) *out = strtof(elapsed, nullptr);
    return SUCCESS;
}

struct Leaks {
    ~Leaks() {
        if (!device_memory.empty() || !pinned_memory.empty() || objects != 0 || retained != 0) {
            fprintf(stderr, "stand-in: leaked: %zu device, %zu pinned, %d objects, %d contexts\n",
                    device_memory.size(), pinned_memory.size(), objects, retained);
        }
    }
} leaks;

} // namespace

// Every function: counted, maybe made to fail, one at a time.
#define ENTER(symbol)                                                                              \
    std::lock_guard<std::recursive_mutex> guard(lock);                                             \
    if (const int code = injected(#symbol); code > 0) return code

#define ENTER_CURRENT(symbol)                                                                      \
    ENTER(symbol);                                                                                 \
    if (!current) return INVALID_CONTEXT

extern "C" {

int cuInit(unsigned) {
    ENTER(cuInit);
    initialized = true;
    return SUCCESS;
}

int cuDriverGetVersion(int *out) {
    ENTER(cuDriverGetVersion);
    *out = 12000;
    return SUCCESS;
}

int cuGetErrorName(int code, const char **out) {
    for (const auto &d : described) {
        if (d.code == code) return *out = d.name, SUCCESS;
    }
    return INVALID_VALUE;
}

int cuGetErrorString(int code, const char **out) {
    for (const auto &d : described) {
        if (d.code == code) return *out = d.text, SUCCESS;
    }
    return INVALID_VALUE;
}

int cuDeviceGetCount(int *out) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    const int code = injected("cuDeviceGetCount");
    if (code > 0) return code;
    if (!initialized) return NOT_INITIALIZED;
    *out = code == 0 ? 0 : 1;
    return SUCCESS;
}

int cuDeviceGet(int *out, int ordinal) {
    ENTER(cuDeviceGet);
    if (ordinal != 0) return INVALID_DEVICE;
    *out = 0;
    return SUCCESS;
}

int cuDeviceGetName(char *out, int size, int) {
    ENTER(cuDeviceGetName);
    snprintf(out, (size_t)size, "tq4 stand-in (emulated)");
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *out, int) {
    ENTER(cuDeviceTotalMem_v2);
    *out = capacity();
    return SUCCESS;
}

int cuDeviceGetAttribute(int *out, int attribute, int) {
    ENTER(cuDeviceGetAttribute);
    int major = 9, minor = 0;
    version("TQ4_STANDIN_CAPABILITY", major, minor);
    if (attribute != 75 && attribute != 76) return INVALID_VALUE;
    *out = attribute == 75 ? major : minor;
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **out, int) {
    ENTER(cuDevicePrimaryCtxRetain);
    static int context;
    *out = &context;
    ++retained;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) {
    ENTER(cuDevicePrimaryCtxRelease_v2);
    --retained;
    return SUCCESS;
}

int cuCtxSetCurrent(void *context) {
    ENTER(cuCtxSetCurrent);
    current = context != nullptr;
    return SUCCESS;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    ENTER_CURRENT(cuMemGetInfo_v2);
    *total = capacity();
    *free_bytes = capacity() - used;
    return SUCCESS;
}

int cuMemAlloc_v2(u64 *out, size_t size) {
    ENTER_CURRENT(cuMemAlloc_v2);
    if (size == 0) return INVALID_VALUE;
    if (used + size > capacity()) return OUT_OF_MEMORY;
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, size) != 0) return OUT_OF_MEMORY;
    memset(memory, 0xA5, size);
    used += size;
    device_memory[(uintptr_t)memory] = size;
    *out = (u64)(uintptr_t)memory;
    return SUCCESS;
}

int cuMemFree_v2(u64 at) {
    ENTER_CURRENT(cuMemFree_v2);
    const auto it = device_memory.find((uintptr_t)at);
    if (it == device_memory.end()) return INVALID_VALUE;
    used -= it->second;
    free((void *)it->first);
    device_memory.erase(it);
    return SUCCESS;
}

int cuMemHostAlloc(void **out, size_t size, unsigned) {
    ENTER_CURRENT(cuMemHostAlloc);
    void *memory = nullptr;
    if (posix_memalign(&memory, 4096, size) != 0) return OUT_OF_MEMORY;
    memset(memory, 0xA5, size);
    pinned_memory[(uintptr_t)memory] = size;
    *out = memory;
    return SUCCESS;
}

int cuMemFreeHost(void *at) {
    ENTER_CURRENT(cuMemFreeHost);
    if (pinned_memory.erase((uintptr_t)at) == 0) return INVALID_VALUE;
    free(at);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(u64 to, const void *from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyHtoDAsync_v2);
    if (!stream || !inside(device_memory, (uintptr_t)to, size)) return INVALID_VALUE;
    if (!inside(pinned_memory, (uintptr_t)from, size)) return INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, from, size);
    return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *to, u64 from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyDtoHAsync_v2);
    if (!stream || !inside(device_memory, (uintptr_t)from, size)) return INVALID_VALUE;
    if (!inside(pinned_memory, (uintptr_t)to, size)) return INVALID_VALUE;
    stream->downloads.push_back({to, (const void *)(uintptr_t)from, size});
    return SUCCESS;
}

int cuMemcpyDtoDAsync_v2(u64 to, u64 from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyDtoDAsync_v2);
    if (!stream || !inside(device_memory, (uintptr_t)to, size)) return INVALID_VALUE;
    if (!inside(device_memory, (uintptr_t)from, size)) return INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, size);
    return SUCCESS;
}

int cuMemsetD32Async(u64 at, unsigned value, size_t count, Stream *stream) {
    ENTER_CURRENT(cuMemsetD32Async);
    if (!stream || !inside(device_memory, (uintptr_t)at, count * 4)) return INVALID_VALUE;
    unsigned *memory = (unsigned *)(uintptr_t)at;
    for (size_t i = 0; i < count; ++i) memory[i] = value;
    return SUCCESS;
}

int cuStreamCreate(Stream **out, unsigned) {
    ENTER_CURRENT(cuStreamCreate);
    *out = new Stream;
    ++objects;
    return SUCCESS;
}

int cuStreamSynchronize(Stream *stream) {
    ENTER_CURRENT(cuStreamSynchronize);
    for (const Download &d : stream->downloads) {
        if (!inside(pinned_memory, (uintptr_t)d.to, d.size) ||
            !inside(device_memory, (uintptr_t)d.from, d.size)) {
            fprintf(stderr, "stand-in: memory freed under a copy\n");
            abort();
        }
        memcpy(d.to, d.from, d.size);
    }
    stream->downloads.clear();
    return SUCCESS;
}

int cuStreamDestroy_v2(Stream *stream) {
    ENTER_CURRENT(cuStreamDestroy_v2);
    delete stream;
    --objects;
    return SUCCESS;
}

int cuEventCreate(Event **out, unsigned) {
    ENTER_CURRENT(cuEventCreate);
    *out = new Event;
    ++objects;
    return SUCCESS;
}

int cuEventRecord(Event *event, Stream *stream) {
    ENTER_CURRENT(cuEventRecord);
    if (!stream) return INVALID_VALUE;
    event->recorded = true;
    event->at = std::chrono::steady_clock::now();
    return SUCCESS;
}

int cuEventElapsedTime(float *out, Event *start, Event *end) {
    ENTER_CURRENT(cuEventElapsedTime);
    return elapsed(out, start, end);
}

int cuEventElapsedTime_v2(float *out, Event *start, Event *end) {
    ENTER_CURRENT(cuEventElapsedTime_v2);
    return elapsed(out, start, end);
}

int cuEventDestroy_v2(Event *event) {
    ENTER_CURRENT(cuEventDestroy_v2);
    delete event;
    --objects;
    return SUCCESS;
}

int cuModuleLoadDataEx(Module **out, const void *image, unsigned count, const int *options,
                       void **values) {
    ENTER_CURRENT(cuModuleLoadDataEx);
    int major = 0, minor = 0, newest_major = 8, newest_minor = 0;
    version("TQ4_STANDIN_PTX", newest_major, newest_minor);
    const char *ptx = (const char *)image;
    const char *line = strstr(ptx, ".version ");
    if (!line || sscanf(line, ".version %d.%d", &major, &minor) != 2) {
        // Options 5 and 6 are the error log and its size.
        if (count == 2 && options[0] == 5 && options[1] == 6) {
            snprintf((char *)values[0], (size_t)values[1], "ptxas fatal : no .version directive");
        }
        return INVALID_PTX;
    }
    if (major > newest_major || (major == newest_major && minor > newest_minor)) {
        return UNSUPPORTED_PTX_VERSION;
    }
    Module *module = new Module;
    for (const char *at = ptx; (at = strstr(at, ".entry ")); ) {
        at += 7;
        module->entries.emplace_back(at, strcspn(at, "( \n"));
    }
    *out = module;
    ++objects;
    return SUCCESS;
}

int cuModuleUnload(Module *module) {
    ENTER_CURRENT(cuModuleUnload);
    delete module;
    --objects;
    return SUCCESS;
}

int cuModuleGetFunction(const emulation::Named **out, Module *module, const char *name) {
    ENTER_CURRENT(cuModuleGetFunction);
    for (const auto &entry : module->entries) {
        if (entry != name) continue;
        for (const auto &named : emulation::entries) {
            if (entry == named.name) return *out = &named, SUCCESS;
        }
    }
    return NOT_FOUND;
}

int cuLaunchKernel(const emulation::Named *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    ENTER_CURRENT(cuLaunchKernel);
    if (!stream || grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || shared != 0 || extra) {
        return INVALID_VALUE;
    }
    u64 at[5];
    u32 blocks, row_blocks;
    for (int i = 0; i < 5; ++i) memcpy(&at[i], parameters[i], 8);
    memcpy(&blocks, parameters[5], 4);
    memcpy(&row_blocks, parameters[6], 4);
    const size_t sizes[5] = {(size_t)blocks * 4 * kernel->bits, (size_t)blocks * 64 / kernel->group,
                             (size_t)row_blocks * 32, 64, (size_t)blocks * 32 * kernel->out_size};
    for (int i = 0; i < 5; ++i) {
        if (!inside(device_memory, (uintptr_t)at[i], sizes[i]) || at[i] % 16 != 0) return LAUNCH_FAILED;
    }
    const std::string error = emulation::launch_entry(*kernel, grid_x, block_x, parameters);
    if (error.empty()) return SUCCESS;
    fprintf(stderr, "stand-in: %s\n", error.c_str());
    return LAUNCH_FAILED;
}

} // extern "C"
