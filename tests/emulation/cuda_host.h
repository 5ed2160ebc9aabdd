// Test equipment: lets unmodified CUDA kernels compile as C++ and run on the CPU.
//
// Every thread of a block is a fiber. A fiber runs until it reaches a barrier or a shuffle, and goes on
// once the whole block, or its warp, has reached the same one. Fibers start from the last thread to the
// first, and shared memory is filled with NaN before each block, so that a missing barrier reads NaN. A
// block that cannot go on (a barrier or shuffle that some thread never reaches) and lanes that disagree on
// a shuffle are errors; a misaligned vector access is one under UBSan.

#pragma once

#include <algorithm>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(threads)
#define __shared__ static __attribute__((section("tq4_shared")))

// The linker names both ends of the section that holds all shared memory.
extern "C" char __start_tq4_shared[], __stop_tq4_shared[];

struct alignas(8) float2 { float x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct dim3_host { unsigned x, y, z; };

static dim3_host threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr size_t STACK = 64 * 1024;
enum class State { ready, barrier, shuffle, done };

struct Fiber {
    ucontext_t context;
    jmp_buf resume;
    bool started = false;
    State state = State::ready;
    uint32_t value = 0, mask = 0, distance = 0;
    std::unique_ptr<char[]> stack{new char[STACK]};
    void *fake_stack = nullptr;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static jmp_buf scheduler_resume;
static unsigned current;
static void (*body)();
static const void *scheduler_stack;
static size_t scheduler_stack_size;

// Plain switches between contexts are system calls; setjmp and longjmp do the same without. Under
// AddressSanitizer, which must be told of each switch, speed does not matter.
static void to_scheduler(bool last) {
    Fiber &f = fibers[current];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &f.fake_stack, scheduler_stack,
                                   scheduler_stack_size);
    swapcontext(&f.context, &scheduler);
    __sanitizer_finish_switch_fiber(f.fake_stack, &scheduler_stack, &scheduler_stack_size);
#else
    (void)last;
    if (_setjmp(f.resume) == 0) _longjmp(scheduler_resume, 1);
#endif
}

static void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    body();
    fibers[current].state = State::done;
    to_scheduler(true);
}

// Makes it this thread's turn.
static void enter(unsigned thread) {
    current = thread;
    threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                 thread / blockDim.x / blockDim.y};
}

static void to_fiber(unsigned thread) {
    Fiber &f = fibers[thread];
    enter(thread);
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, f.stack.get(), STACK);
    swapcontext(&scheduler, &f.context);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    if (_setjmp(scheduler_resume) == 0) {
        if (f.started) _longjmp(f.resume, 1);
        f.started = true;
        setcontext(&f.context);
    }
#endif
}

static void wait(State state) {
    fibers[current].state = state;
    to_scheduler(false);
}

static uint32_t shuffle(uint32_t mask, uint32_t value, uint32_t distance) {
    Fiber &f = fibers[current];
    f.value = value;
    f.mask = mask;
    f.distance = distance;
    wait(State::shuffle);
    return fibers[current].value;
}

// Lets a warp go on when all its lanes wait at a shuffle. False when lanes disagree.
static bool release_warp(unsigned first, bool &progress, std::string &error) {
    for (unsigned lane = 0; lane < 32; ++lane) {
        if (fibers[first + lane].state != State::shuffle) return true;
    }
    uint32_t values[32];
    for (unsigned lane = 0; lane < 32; ++lane) {
        const Fiber &f = fibers[first + lane];
        if (f.mask != 0xFFFFFFFFu || f.distance != fibers[first].distance || f.distance > 31) {
            error = "lanes of a warp disagree on a shuffle";
            return false;
        }
        values[lane] = f.value;
    }
    for (unsigned lane = 0; lane < 32; ++lane) {
        Fiber &f = fibers[first + lane];
        f.value = values[lane ^ f.distance];
        f.state = State::ready;
    }
    progress = true;
    return true;
}

static bool run_block(unsigned threads, std::string &error) {
    // A NaN that neither arithmetic nor the rounding to BF16 turns into a number.
    const uint32_t poison = 0x7FC07FC0u;
    for (char *at = __start_tq4_shared; at + 4 <= __stop_tq4_shared; at += 4) memcpy(at, &poison, 4);
    for (Fiber &f : fibers) {
        f.started = false;
        f.state = State::ready;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, fiber_main, 0);
    }
    for (;;) {
        bool progress = false;
        unsigned done = 0, at_barrier = 0;
        for (unsigned t = threads; t-- > 0;) {
            if (fibers[t].state == State::ready) {
                to_fiber(t);
                progress = true;
            }
            done += fibers[t].state == State::done;
            at_barrier += fibers[t].state == State::barrier;
        }
        if (done == threads) return true;
        if (at_barrier == threads) {
            for (Fiber &f : fibers) f.state = State::ready;
            continue;
        }
        for (unsigned first = 0; first < threads; first += 32) {
            if (!release_warp(first, progress, error)) return false;
        }
        if (!progress) {
            error = "some threads never reach a barrier or shuffle that others wait at";
            return false;
        }
    }
}

// Runs `kernel` for every thread of the grid. Empty when it went well, else what went wrong.
static std::string launch(dim3_host grid, dim3_host block, void (*kernel)()) {
    const unsigned threads = block.x * block.y * block.z;
    if (threads == 0 || threads % 32 != 0 || threads > 1024) return "bad block size";
    body = kernel;
    blockDim = block;
    gridDim = grid;
    if (fibers.size() != threads) {
        fibers.clear();
        fibers.resize(threads);
    }
    std::string error;
    for (unsigned z = 0; z < grid.z; ++z) {
        for (unsigned y = 0; y < grid.y; ++y) {
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = {x, y, z};
                if (!run_block(threads, error)) return error;
            }
        }
    }
    return "";
}

} // namespace emulation

static inline void __syncthreads() { emulation::wait(emulation::State::barrier); }

static inline float __uint_as_float(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t __float_as_uint(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline float __shfl_xor_sync(uint32_t mask, float value, int distance) {
    return __uint_as_float(emulation::shuffle(mask, __float_as_uint(value), (uint32_t)distance));
}

static inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }

static inline int __clz(int v) { return v == 0 ? 32 : __builtin_clz((unsigned)v); }

static inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) {
        result |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
    }
    return result;
}

// What kernels/tq4_dequant_sm80.cu and tq4_dequant_codecs.cu have in PTX: cvt.f32.f16, cvt.rn.bf16x2.f32 and
// cvt.rn.f16.f32.
static inline float decode_f16(uint16_t half) {
    const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
    const float magnitude = exponent == 0 ? std::ldexp((float)fraction, -24)
                                          : std::ldexp((float)(fraction + 1024), (int)exponent - 25);
    return half & 0x8000 ? -magnitude : magnitude;
}

static inline uint32_t round_bf16_pair(float low, float high) {
    const auto rounded = [](float value) {
        const uint32_t bits = __float_as_uint(value);
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    };
    return rounded(low) | rounded(high) << 16;
}

static inline uint16_t round_f16(float value) {
    const uint16_t sign = __float_as_uint(value) >> 16 & 0x8000;
    const float magnitude = std::fabs(value);
    if (!(magnitude > 0)) return magnitude == 0 ? sign : 0x7E00;
    // The place of the last bit, and the value in steps of it.
    int exponent;
    std::frexp(magnitude, &exponent);
    const int last = std::max(exponent - 1, -14) - 10;
    const auto steps = (int)std::nearbyint(std::ldexp((double)magnitude, -last));
    return sign | (uint16_t)std::min((last + 24) * 1024 + steps, 0x7C00);
}
