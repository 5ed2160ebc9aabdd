// Test equipment: a stand-in for the CUDA driver's library, libcuda.so.1, with the functions that the
// lane calls. It runs kernels compiled for the CPU in place of the PTX or the cubin, found by the names of their
// entry points. Its results are emulated.
//
// TQ4_STANDIN_FAIL=SYMBOL:CODE[:NTH] makes the NTH call (from 1; every call without it) of a function
//   return CODE. "cuDeviceGetCount:0" reports no device. A code that ends a context on a device (700, 719, ...)
//   is returned by every later call on that device as well.
// TQ4_STANDIN_DEVICES=N is how many devices there are; 1 otherwise. What TQ4_STANDIN_FAIL asks for happens
//   on the device TQ4_STANDIN_FAIL_ON=INDEX alone, where that is given.
// TQ4_STANDIN_FREE=BYTES is the memory of each device; allocations count against it.
// TQ4_STANDIN_LOG=FILE gets the name of each function that is called, a line each.
// TQ4_STANDIN_CUDA=MAJOR.MINOR is the driver's CUDA version; 12.0 otherwise.
// TQ4_STANDIN_PTX=MAJOR.MINOR is the newest PTX it reads; 8.0 otherwise.
// TQ4_STANDIN_ELAPSED=MILLISECONDS is what every pair of events is apart, in place of the time that went by.
// TQ4_STANDIN_CAPABILITY=MAJOR.MINOR is the device's compute capability; 9.0 otherwise.
//
// Built with -DSYMBOL=OTHER it has no function SYMBOL.
//
// Work runs when it is queued, except downloads: these wait for the stream to be synchronised, so that a
// host that does not wait sees what was there before. Host memory of an asynchronous copy must be
// page-locked, unless that was refused, device memory and streams must be the current device's: anything else is
// CUDA_ERROR_INVALID_VALUE. What is not
// freed when the process exits is reported on standard error as "stand-in: leaked".

#include "launch.h"

#include <chrono>
#include <elf.h>
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
    ILLEGAL_ADDRESS = 700,
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
    {200, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {221, "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", "PTX JIT compiler library not found"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {802, "CUDA_ERROR_SYSTEM_NOT_READY", "system not yet initialized"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {804, "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "forward compatibility was attempted on non supported HW"},
};

struct Download { void *to; const void *from; size_t size; };
struct Stream { std::vector<Download> downloads; int device; };
struct Event { bool recorded = false; std::chrono::steady_clock::time_point at; };
struct Module { std::vector<std::string> entries; };
struct Block { size_t size; int device; };

const int MOST_DEVICES = 16;
const int ANY_DEVICE = -1;

std::recursive_mutex lock;
std::map<std::string, int> calls;
std::map<uintptr_t, Block> device_memory, pinned_memory;
size_t used[MOST_DEVICES];
char contexts[MOST_DEVICES];
int objects = 0, retained = 0;
std::map<const emulation::Named *, unsigned> shared_memory;
bool initialized = false, refused_to_lock = false;
// The code that ended a context, and the context's device.
int lost = 0, lost_on = ANY_DEVICE;
// The device whose context is this thread's.
thread_local int current = ANY_DEVICE;

int devices() {
    const char *count = getenv("TQ4_STANDIN_DEVICES");
    return count ? atoi(count) : 1;
}

size_t capacity() {
    const char *free_bytes = getenv("TQ4_STANDIN_FREE");
    return free_bytes ? strtoull(free_bytes, nullptr, 10) : (size_t)1 << 30;
}

void version(const char *variable, int &major, int &minor) {
    if (const char *text = getenv(variable)) sscanf(text, "%d.%d", &major, &minor);
}

// Counts the call, which is about a device; the code that it shall fail with, or -1.
int injected(const char *symbol, int device) {
    const int nth = ++calls[symbol];
    if (const char *path = getenv("TQ4_STANDIN_LOG")) {
        if (FILE *file = fopen(path, "a")) {
            fprintf(file, "%s\n", symbol);
            fclose(file);
        }
    }
    if (lost != 0 && device == lost_on) return lost;
    const char *fail = getenv("TQ4_STANDIN_FAIL");
    const char *on = getenv("TQ4_STANDIN_FAIL_ON");
    if (!fail || (on && atoi(on) != device)) return -1;
    const size_t length = strlen(symbol);
    if (strncmp(fail, symbol, length) != 0 || fail[length] != ':') return -1;
    int code = 0, wanted = 0;
    const int fields = sscanf(fail + length, ":%d:%d", &code, &wanted);
    if (fields == 2 && wanted != nth) return -1;
    for (int sticky : {214, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 999}) {
        if (code == sticky && device != ANY_DEVICE) lost = code, lost_on = device;
    }
    refused_to_lock |= strcmp(symbol, "cuMemHostAlloc") == 0;
    return code;
}

bool inside(const std::map<uintptr_t, Block> &memory, uintptr_t at, size_t size) {
    auto it = memory.upper_bound(at);
    if (it == memory.begin()) return false;
    --it;
    const Block &block = it->second;
    return at + size <= it->first + block.size && (block.device == ANY_DEVICE || block.device == current);
}

bool usable(const Stream *stream) { return stream && stream->device == current; }

int elapsed(float *out, const Event *start, const Event *end) {
    if (!start->recorded || !end->recorded) return INVALID_VALUE;
    *out = std::chrono::duration<float, std::milli>(end->at - start->at).count();
    if (const char *elapsed = getenv("TQ4_STANDIN_ELAPSED")) *out = strtof(elapsed, nullptr);
    return SUCCESS;
}

// The entry points of machine code: its sections .text.NAME.
std::vector<std::string> code_entries(const char *image) {
    std::vector<std::string> entries;
    const auto *header = (const Elf64_Ehdr *)image;
    const auto *sections = (const Elf64_Shdr *)(image + header->e_shoff);
    const char *names = image + sections[header->e_shstrndx].sh_offset;
    for (int i = 0; i < header->e_shnum; ++i) {
        const char *name = names + sections[i].sh_name;
        if (strncmp(name, ".text.", 6) == 0) entries.emplace_back(name + 6);
    }
    return entries;
}

// Whether a copy may go from or to there.
bool on_host(uintptr_t at, size_t size) {
    return refused_to_lock || inside(pinned_memory, at, size);
}

struct Leaks {
    ~Leaks() {
        // A lost context takes all with it.
        if (lost != 0) return;
        if (!device_memory.empty() || !pinned_memory.empty() || objects != 0 || retained != 0) {
            fprintf(stderr, "stand-in: leaked: %zu device, %zu pinned, %d objects, %d contexts\n",
                    device_memory.size(), pinned_memory.size(), objects, retained);
        }
    }
} leaks;

} // namespace

// Every function: counted, maybe made to fail, one at a time.
#define ENTER_ON(symbol, device)                                                                   \
    std::lock_guard<std::recursive_mutex> guard(lock);                                             \
    if (const int code = injected(#symbol, device); code > 0) return code

#define ENTER(symbol) ENTER_ON(symbol, ANY_DEVICE)

#define ENTER_CURRENT(symbol)                                                                      \
    ENTER_ON(symbol, current);                                                                     \
    if (current == ANY_DEVICE) return INVALID_CONTEXT

extern "C" {

int cuInit(unsigned) {
    ENTER(cuInit);
    initialized = true;
    return SUCCESS;
}

int cuDriverGetVersion(int *out) {
    ENTER(cuDriverGetVersion);
    int major = 12, minor = 0;
    version("TQ4_STANDIN_CUDA", major, minor);
    *out = major * 1000 + minor * 10;
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

// NVRTC of CUDA 13 asks the driver for a table, and crashes where it has no such function.
int cuGetExportTable(const void **out, const void *) { return *out = nullptr, NOT_FOUND; }

int cuDeviceGetCount(int *out) {
    std::lock_guard<std::recursive_mutex> guard(lock);
    const int code = injected("cuDeviceGetCount", ANY_DEVICE);
    if (code > 0) return code;
    if (!initialized) return NOT_INITIALIZED;
    *out = code == 0 ? 0 : devices();
    return SUCCESS;
}

int cuDeviceGet(int *out, int ordinal) {
    ENTER_ON(cuDeviceGet, ordinal);
    if (ordinal < 0 || ordinal >= devices()) return INVALID_DEVICE;
    *out = ordinal;
    return SUCCESS;
}

int cuDeviceGetName(char *out, int size, int device) {
    ENTER_ON(cuDeviceGetName, device);
    snprintf(out, (size_t)size, "tq4 stand-in (emulated)");
    return SUCCESS;
}

int cuDeviceTotalMem_v2(size_t *out, int device) {
    ENTER_ON(cuDeviceTotalMem_v2, device);
    *out = capacity();
    return SUCCESS;
}

int cuDeviceGetAttribute(int *out, int attribute, int device) {
    ENTER_ON(cuDeviceGetAttribute, device);
    int major = 9, minor = 0;
    version("TQ4_STANDIN_CAPABILITY", major, minor);
    switch (attribute) {
    case 16: *out = 2; break; // multiprocessors
    case 20: *out = 3; break; // exclusive process
    case 38: *out = 50 << 20; break;
    case 75: *out = major; break;
    case 76: *out = minor; break;
    default: return INVALID_VALUE;
    }
    return SUCCESS;
}

int cuDeviceGetPCIBusId(char *out, int size, int device) {
    ENTER_ON(cuDeviceGetPCIBusId, device);
    snprintf(out, (size_t)size, "0000:%02X:00.0", 0x0A + device);
    return SUCCESS;
}

// Its last digits are the device's number.
int cuDeviceGetUuid_v2(unsigned char *out, int device) {
    ENTER_ON(cuDeviceGetUuid_v2, device);
    for (int i = 0; i < 16; ++i) out[i] = (unsigned char)(i < 15 ? i * 0x11 : device);
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **out, int device) {
    ENTER_ON(cuDevicePrimaryCtxRetain, device);
    *out = &contexts[device];
    ++retained;
    return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    ENTER_ON(cuDevicePrimaryCtxRelease_v2, device);
    --retained;
    return SUCCESS;
}

int cuCtxSetCurrent(void *context) {
    const int device = context ? (int)((char *)context - contexts) : ANY_DEVICE;
    ENTER_ON(cuCtxSetCurrent, device);
    current = device;
    return SUCCESS;
}

int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    ENTER_CURRENT(cuMemGetInfo_v2);
    *total = capacity();
    *free_bytes = capacity() - used[current];
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t *out, size_t size) {
    ENTER_CURRENT(cuMemAlloc_v2);
    if (size == 0) return INVALID_VALUE;
    if (used[current] + size > capacity()) return OUT_OF_MEMORY;
    void *memory = nullptr;
    if (posix_memalign(&memory, 256, size) != 0) return OUT_OF_MEMORY;
    memset(memory, 0xA5, size);
    used[current] += size;
    device_memory[(uintptr_t)memory] = {size, current};
    *out = (uint64_t)(uintptr_t)memory;
    return SUCCESS;
}

int cuMemFree_v2(uint64_t at) {
    ENTER_CURRENT(cuMemFree_v2);
    const auto it = device_memory.find((uintptr_t)at);
    if (it == device_memory.end() || it->second.device != current) return INVALID_VALUE;
    used[current] -= it->second.size;
    free((void *)it->first);
    device_memory.erase(it);
    return SUCCESS;
}

int cuMemHostAlloc(void **out, size_t size, unsigned) {
    ENTER_CURRENT(cuMemHostAlloc);
    void *memory = nullptr;
    if (posix_memalign(&memory, 4096, size) != 0) return OUT_OF_MEMORY;
    memset(memory, 0xA5, size);
    pinned_memory[(uintptr_t)memory] = {size, ANY_DEVICE};
    *out = memory;
    return SUCCESS;
}

int cuMemFreeHost(void *at) {
    ENTER_CURRENT(cuMemFreeHost);
    if (pinned_memory.erase((uintptr_t)at) == 0) return INVALID_VALUE;
    free(at);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyHtoDAsync_v2);
    if (!usable(stream) || !inside(device_memory, (uintptr_t)to, size)) return INVALID_VALUE;
    if (!on_host((uintptr_t)from, size)) return INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, from, size);
    return SUCCESS;
}

int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyDtoHAsync_v2);
    if (!usable(stream) || !inside(device_memory, (uintptr_t)from, size)) return INVALID_VALUE;
    if (!on_host((uintptr_t)to, size)) return INVALID_VALUE;
    stream->downloads.push_back({to, (const void *)(uintptr_t)from, size});
    return SUCCESS;
}

int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, Stream *stream) {
    ENTER_CURRENT(cuMemcpyDtoDAsync_v2);
    if (!usable(stream) || !inside(device_memory, (uintptr_t)to, size)) return INVALID_VALUE;
    if (!inside(device_memory, (uintptr_t)from, size)) return INVALID_VALUE;
    memcpy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, size);
    return SUCCESS;
}

int cuMemsetD32Async(uint64_t at, unsigned value, size_t count, Stream *stream) {
    ENTER_CURRENT(cuMemsetD32Async);
    if (!usable(stream) || !inside(device_memory, (uintptr_t)at, count * 4)) return INVALID_VALUE;
    unsigned *memory = (unsigned *)(uintptr_t)at;
    for (size_t i = 0; i < count; ++i) memory[i] = value;
    return SUCCESS;
}

int cuStreamCreate(Stream **out, unsigned) {
    ENTER_CURRENT(cuStreamCreate);
    *out = new Stream{{}, current};
    ++objects;
    return SUCCESS;
}

int cuStreamSynchronize(Stream *stream) {
    ENTER_CURRENT(cuStreamSynchronize);
    if (!usable(stream)) return INVALID_VALUE;
    for (const Download &d : stream->downloads) {
        if (!on_host((uintptr_t)d.to, d.size) ||
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
    if (!usable(stream)) return INVALID_VALUE;
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
    if (memcmp(image, ELFMAG, SELFMAG) == 0) {
        *out = new Module{code_entries((const char *)image)};
        ++objects;
        return SUCCESS;
    }
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

int cuFuncSetAttribute(const emulation::Named *kernel, int attribute, int value) {
    ENTER_CURRENT(cuFuncSetAttribute);
    // The most dynamic shared memory; no device has more than 227 KiB.
    if (attribute != 8 || value > 227 << 10) return INVALID_VALUE;
    shared_memory[kernel] = (unsigned)value;
    return SUCCESS;
}

// Four hold all the registers of a multiprocessor.
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *out, const emulation::Named *, int threads, size_t shared) {
    ENTER_CURRENT(cuOccupancyMaxActiveBlocksPerMultiprocessor);
    if (threads <= 0 || threads > 1024 || shared > 48u << 10) return INVALID_VALUE;
    *out = 1024 / threads;
    return SUCCESS;
}

int cuLaunchKernel(const emulation::Named *kernel, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                   unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    ENTER_CURRENT(cuLaunchKernel);
    if (!usable(stream) || extra) return INVALID_VALUE;
    const auto allowed = shared_memory.find(kernel);
    if (shared > (allowed == shared_memory.end() ? 48u << 10 : allowed->second)) return INVALID_VALUE;
    for (size_t i = 0; i < kernel->pointers.size(); ++i) {
        uint64_t at;
        if (!kernel->pointers[i]) continue;
        memcpy(&at, parameters[i], 8);
        if (!inside(device_memory, (uintptr_t)at, 1)) {
            lost_on = current;
            return lost = ILLEGAL_ADDRESS;
        }
    }
    if (kernel->bits != 0) {
        if (grid_y != 1 || grid_z != 1 || block_y != 1 || block_z != 1 || shared != 0) {
            return INVALID_VALUE;
        }
        const bool codecs = kernel->capability == 0;
        const size_t memories = codecs ? 6 : 5;
        uint32_t of[3] = {};
        for (size_t i = memories; i < kernel->pointers.size(); ++i) memcpy(&of[i - memories], parameters[i], 4);
        // Pieces of 32 elements, those of a row and of other codecs how often a group doubles one; or groups, those of
        // a row and those of a turn.
        const size_t unit = kernel->capability == 80 ? (size_t)kernel->group : 32;
        const size_t elements = of[0] * unit, columns = of[1] * unit;
        const size_t group = codecs ? (size_t)32 << of[2] : (size_t)kernel->group;
        const size_t shared = kernel->shared != 0 ? (size_t)kernel->shared : group;
        std::vector<size_t> sizes = {elements * kernel->bits / 8, elements / shared * kernel->scale_size,
                                     kernel->capability == 80 ? columns * 2 : columns};
        if (codecs) sizes.push_back(32);
        sizes.insert(sizes.end(), {64, elements * kernel->out_size});
        for (size_t i = 0; i < memories; ++i) {
            uint64_t at;
            memcpy(&at, parameters[i], 8);
            if (!inside(device_memory, (uintptr_t)at, sizes[i]) || at % 16 != 0) return LAUNCH_FAILED;
        }
    }
    const std::string error = emulation::launch_entry(*kernel, {grid_x, grid_y, grid_z},
                                                      {block_x, block_y, block_z}, parameters);
    if (error.empty()) return SUCCESS;
    fprintf(stderr, "stand-in: %s\n", error.c_str());
    return LAUNCH_FAILED;
}

} // extern "C"
