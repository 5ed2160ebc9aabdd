// Test equipment: the kernel of TQ4_SOURCE, compiled for the CPU, with its entry points by name.

#pragma once

#include "cuda_host.h"
#include TQ4_SOURCE

namespace emulation {

using Entry = void (*)(const u8 *, const u16 *, const signed char *, const float *, u8 *, u32, u32);
struct Named { const char *name; Entry entry; int bits, group, out_size; };

#define NAMED(BITS, N)                                                                             \
    {"tq4_dequant_b" #BITS "_g" #N "_bf16", tq4_dequant_b##BITS##_g##N##_bf16, BITS, N, 2},        \
    {"tq4_dequant_b" #BITS "_g" #N "_f32", tq4_dequant_b##BITS##_g##N##_f32, BITS, N, 4}

static const Named entries[] = {NAMED(2, 32), NAMED(2, 64), NAMED(2, 128), NAMED(2, 256),
                                NAMED(4, 32), NAMED(4, 64), NAMED(4, 128), NAMED(4, 256)};

struct Arguments {
    const u8 *packed;
    const u16 *scales;
    const signed char *signs;
    const float *centroids;
    u8 *out;
    u32 blocks, row_blocks;
};

static Entry entry;
static Arguments arguments;

static void call_entry() {
    const Arguments &a = arguments;
    entry(a.packed, a.scales, a.signs, a.centroids, a.out, a.blocks, a.row_blocks);
}

// `parameters` as cuLaunchKernel has them. Empty when it went well, else what went wrong.
static std::string launch_entry(const Named &named, unsigned grid, unsigned threads,
                                void **parameters) {
    memcpy(&arguments.packed, parameters[0], 8);
    memcpy(&arguments.scales, parameters[1], 8);
    memcpy(&arguments.signs, parameters[2], 8);
    memcpy(&arguments.centroids, parameters[3], 8);
    memcpy(&arguments.out, parameters[4], 8);
    memcpy(&arguments.blocks, parameters[5], 4);
    memcpy(&arguments.row_blocks, parameters[6], 4);
    entry = named.entry;
    return launch(grid, threads, call_entry);
}

} // namespace emulation

// Returns 0, or 1 with what went wrong in `error`. Not for use from several threads at once.
extern "C" int tq4_emulate(const char *name, unsigned grid, unsigned threads, void **parameters,
                           char *error, size_t error_size) {
    std::string what = std::string("no entry point ") + name;
    for (const auto &named : emulation::entries) {
        if (strcmp(named.name, name) == 0) {
            what = emulation::launch_entry(named, grid, threads, parameters);
            break;
        }
    }
    snprintf(error, error_size, "%s", what.c_str());
    return what.empty() ? 0 : 1;
}
