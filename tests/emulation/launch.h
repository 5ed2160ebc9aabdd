// Test equipment: the kernels of TQ4_SM75, TQ4_SM80 and TQ4_PLAIN, those that are given, compiled for the CPU,
// with their entry points by name.

#pragma once

#include "cuda_host.h"
#if defined(TQ4_SM75)
namespace sm75 {
#include TQ4_SM75
}
#endif
#if defined(TQ4_SM80)
namespace sm80 {
#include TQ4_SM80
}
#endif
#if defined(TQ4_PLAIN)
namespace plain {
#include TQ4_PLAIN
}
#endif

#include <type_traits>

namespace emulation {

// What the driver was given for the kernel that runs.
static void **arguments;

template <auto KERNEL> struct Call;
template <typename... A, void (*KERNEL)(A...)> struct Call<KERNEL> {
    template <size_t... I> static void with(std::index_sequence<I...>) {
        KERNEL(*static_cast<A *>(arguments[I])...);
    }
    // Runs one thread.
    static void run() { with(std::index_sequence_for<A...>()); }
    // Which arguments are addresses.
    static std::vector<bool> pointers() { return {std::is_pointer_v<A>...}; }
};

struct Named {
    const char *name;
    void (*run)();
    std::vector<bool> pointers;
    // Of this project's kernels: the compute capability; 0 of others.
    int capability, bits, group, out_size;
};

#define ENTRY_NAMED(SM, BITS, N, OUT, OUT_SIZE)                                                    \
    {"tq4_dequant_sm" #SM "_b" #BITS "_g" #N "_" #OUT,                                             \
     Call<sm##SM::tq4_dequant_sm##SM##_b##BITS##_g##N##_##OUT>::run,                               \
     Call<sm##SM::tq4_dequant_sm##SM##_b##BITS##_g##N##_##OUT>::pointers(),                        \
     SM, BITS, N, OUT_SIZE}
#define NAMED(SM, BITS, N) ENTRY_NAMED(SM, BITS, N, bf16, 2), ENTRY_NAMED(SM, BITS, N, f32, 4)
#define ALL_NAMED(SM)                                                                              \
    NAMED(SM, 2, 32), NAMED(SM, 2, 64), NAMED(SM, 2, 128), NAMED(SM, 2, 256), NAMED(SM, 4, 32),    \
        NAMED(SM, 4, 64), NAMED(SM, 4, 128), NAMED(SM, 4, 256)

static const Named entries[] = {
#if defined(TQ4_PLAIN)
    {"plain_dequant", Call<plain::plain_dequant>::run, Call<plain::plain_dequant>::pointers(), 0, 0, 0, 0},
#endif
#if defined(TQ4_SM75)
    ALL_NAMED(75),
#endif
#if defined(TQ4_SM80)
    ALL_NAMED(80),
    ENTRY_NAMED(80, 4, 32, bf16_pairs, 2), ENTRY_NAMED(80, 4, 64, bf16_pairs, 2),
    ENTRY_NAMED(80, 4, 128, bf16_pairs, 2), ENTRY_NAMED(80, 4, 256, bf16_pairs, 2),
#endif
};

// `parameters` as cuLaunchKernel has them. Empty when it went well, else what went wrong.
static std::string launch_entry(const Named &named, dim3_host grid, dim3_host block,
                                void **parameters) {
    arguments = parameters;
    return launch(grid, block, named.run);
}

} // namespace emulation

// Returns 0, or 1 with what went wrong in `error`. Not for use from several threads at once.
extern "C" int tq4_emulate(const char *name, unsigned grid, unsigned threads, void **parameters,
                           char *error, size_t error_size) {
    std::string what = std::string("no entry point ") + name;
    for (const auto &named : emulation::entries) {
        if (strcmp(named.name, name) == 0) {
            what = emulation::launch_entry(named, {grid, 1, 1}, {threads, 1, 1}, parameters);
            break;
        }
    }
    snprintf(error, error_size, "%s", what.c_str());
    return what.empty() ? 0 : 1;
}
