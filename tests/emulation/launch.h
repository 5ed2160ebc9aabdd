// Test equipment: the kernels of TQ4_SM75, TQ4_SM80, TQ4_CODECS and TQ4_PLAIN, those that are given, compiled for
// the CPU, with their entry points by name.

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
#if defined(TQ4_CODECS)
namespace codecs {
#include TQ4_CODECS
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
    // Of this project's kernels: the compute capability, 0 of that for other codecs, whose groups are of any size.
    // Bits are 0 of others' kernels.
    int capability, bits, group, out_size;
    // Of that for other codecs: elements that share a scale, 0 where a group does, and a scale's bytes.
    int shared = 0, scale_size = 2;
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

#define CODEC_NAMED(NAME, BITS, OUT_SIZE, SHARED, SCALE_SIZE)                                      \
    {"tq4_dequant_codecs_" #NAME, Call<codecs::tq4_dequant_codecs_##NAME>::run,                    \
     Call<codecs::tq4_dequant_codecs_##NAME>::pointers(), 0, BITS, 0, OUT_SIZE, SHARED, SCALE_SIZE}
#define CODECS_NAMED(NAME, BITS, SHARED, SCALE_SIZE)                                               \
    CODEC_NAMED(NAME##_bf16, BITS, 2, SHARED, SCALE_SIZE),                                         \
        CODEC_NAMED(NAME##_f16, BITS, 2, SHARED, SCALE_SIZE),                                      \
        CODEC_NAMED(NAME##_f32, BITS, 4, SHARED, SCALE_SIZE)

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
#if defined(TQ4_CODECS)
    CODECS_NAMED(b4_f16by16, 4, 16, 2), CODECS_NAMED(b3_f16by16, 3, 16, 2),
    CODECS_NAMED(b3_e3m5by8, 3, 8, 1), CODECS_NAMED(b2_f32last, 2, 0, 4),
    CODECS_NAMED(b3_f32last, 3, 0, 4), CODECS_NAMED(b4_f32last, 4, 0, 4),
    CODEC_NAMED(b2_plain_f16, 2, 2, 0, 2), CODEC_NAMED(b4_plain_f16, 4, 2, 0, 2),
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
