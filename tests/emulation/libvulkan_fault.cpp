// Stands before the Vulkan loader: hands every call on, counts some, and has one of them fail.
//
// TQ4_FAULT_LOADER  the loader's file
// TQ4_FAULT         FUNCTION:N:RESULT, the call that fails, from 1; FUNCTION:N+:RESULT for each from there
// TQ4_FAULT_LOG     a file that gets a line `FUNCTION CALLS FAILED` for each function at the end
//
// To be linked with -z nodelete: a program that closes the loader and opens it again must find the same counts.
#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

using Any = void (*)();
// Integers and pointers alone, six at most: more arguments than a function has do no harm in registers.
using Call = int (*)(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);
using GetProc = Any (*)(void *, const char *);

constexpr int DEVICE_LOST = -4;

struct Function {
    const char *name;
    Call real = nullptr;
    std::atomic<int> calls{0}, failed{0};
    Function(const char *name) : name(name) {}
};

// Without vkCreateSemaphore: wgpu-hal destroys one twice where the second of a queue is not made.
static Function functions[] = {
    "vkCreateInstance", "vkEnumeratePhysicalDevices", "vkEnumerateDeviceExtensionProperties",
    "vkCreateDevice", "vkAllocateMemory", "vkMapMemory", "vkCreateBuffer", "vkBindBufferMemory",
    "vkCreateShaderModule", "vkCreateQueryPool", "vkCreateComputePipelines", "vkCreateDescriptorSetLayout",
    "vkCreatePipelineLayout", "vkCreateDescriptorPool", "vkAllocateDescriptorSets", "vkCreateCommandPool",
    "vkAllocateCommandBuffers", "vkBeginCommandBuffer", "vkEndCommandBuffer", "vkCreateFence",
    "vkQueueSubmit", "vkWaitForFences", "vkWaitSemaphores", "vkGetFenceStatus", "vkGetSemaphoreCounterValue",
    "vkQueueWaitIdle", "vkDeviceWaitIdle",
};
constexpr size_t COUNT = sizeof(functions) / sizeof(functions[0]);

static struct Fault {
    char function[64] = "";
    int at = 0, result = 0;
    bool onwards = false;
    Fault() {
        const char *text = getenv("TQ4_FAULT");
        char plus = 0;
        if (!text) return;
        if (sscanf(text, "%63[^:]:%d:%d", function, &at, &result) == 3) return;
        if (sscanf(text, "%63[^:]:%d%c:%d", function, &at, &plus, &result) != 4 || plus != '+') abort();
        onwards = true;
    }
} fault;

// Until the next device: what is lost stays so.
static std::atomic<bool> lost;

static bool starts(const char *name, const char *with) { return !strncmp(name, with, strlen(with)); }

template <size_t I>
static int call(uintptr_t a, uintptr_t b, uintptr_t c, uintptr_t d, uintptr_t e, uintptr_t f) {
    Function &fn = functions[I];
    int n = ++fn.calls;
    bool fails = !strcmp(fn.name, fault.function) && (n == fault.at || (fault.onwards && n > fault.at));
    bool idle = strstr(fn.name, "WaitIdle") != nullptr;
    bool waits = idle || starts(fn.name, "vkWait");
    bool told = waits || starts(fn.name, "vkQueue") || starts(fn.name, "vkGet");
    if (fails) {
        ++fn.failed;
        // What runs must end before its memory goes: a device that is really lost runs nothing.
        if (waits) fn.real(a, b, c, d, e, f);
        if (fault.result == DEVICE_LOST) lost = true;
        return fault.result;
    }
    if (lost && told) {
        if (idle) fn.real(a, b, c, d, e, f);
        return DEVICE_LOST;
    }
    int result = fn.real(a, b, c, d, e, f);
    if (!strcmp(fn.name, "vkCreateDevice") && result == 0) lost = false;
    return result;
}

template <size_t... I>
static Call standing(size_t at, std::index_sequence<I...>) {
    static const Call all[] = {call<I>...};
    return all[at];
}

static Any hook(const char *name, Any real) {
    if (!real) return real;
    for (size_t i = 0; i < COUNT; i++) {
        size_t length = strlen(functions[i].name);
        const char *rest = name + length;
        if (starts(name, functions[i].name) && (!*rest || !strcmp(rest, "KHR"))) {
            functions[i].real = reinterpret_cast<Call>(real);
            return reinterpret_cast<Any>(standing(i, std::make_index_sequence<COUNT>()));
        }
    }
    return real;
}

static GetProc loader(const char *name) {
    static void *library = dlopen(getenv("TQ4_FAULT_LOADER"), RTLD_NOW | RTLD_LOCAL);
    if (!library) abort();
    return reinterpret_cast<GetProc>(dlsym(library, name));
}

extern "C" Any vkGetDeviceProcAddr(void *device, const char *name) {
    static GetProc real = loader("vkGetDeviceProcAddr");
    return hook(name, real(device, name));
}

extern "C" Any vkGetInstanceProcAddr(void *instance, const char *name) {
    static GetProc real = loader("vkGetInstanceProcAddr");
    if (!strcmp(name, "vkGetInstanceProcAddr")) return reinterpret_cast<Any>(vkGetInstanceProcAddr);
    if (!strcmp(name, "vkGetDeviceProcAddr")) return reinterpret_cast<Any>(vkGetDeviceProcAddr);
    return hook(name, real(instance, name));
}

__attribute__((destructor)) static void tell() {
    const char *path = getenv("TQ4_FAULT_LOG");
    FILE *file = path ? fopen(path, "w") : nullptr;
    if (!file) return;
    for (Function &fn : functions) fprintf(file, "%s %d %d\n", fn.name, fn.calls.load(), fn.failed.load());
    fclose(file);
}
