// The CUDA rendering for compute capability 8.0 and later: the same four steps, in the same order and words,
// as `src/reference/scalar.rs` and `shaders/tq4_dequant.wgsl`. `tq4_dequant_sm75.cu` is for devices before.
//
// Floor. Per element a launch must move b/8 bytes of codes, 2/n of scale and 2 (BF16) or 4 (f32) of
// output; signs and centroids stay in cache. For 4 bits, n = 128, BF16 that is 2.516 bytes, so no
// kernel decodes more than bandwidth / 2.516 elements a second. What this one does to get near it:
//
// - A team of four lanes (eight for n = 256) decodes a unit of 128 (256) elements in a turn: one group of 128
//   or 256, two of 64, four of 32. A lane holds 32 of them, in pieces of 16 bytes of output; the pieces of the
//   lanes lie side by side, so that each store of a team writes 64 (128) contiguous bytes.
// - Strides within a piece and beyond the team's pieces are between registers of one lane. The two (three) in
//   between are between lanes: a shuffle, and an add that takes its own value times 1 or -1, which is exact.
// - A lane keeps its columns from turn to turn, since the teams of the grid advance by whole rows. The signs of
//   its columns then stay in registers, as the host has packed them: two to a word, to flip two BF16 values.
// - The next turn's codes and scales are loaded while this turn is computed.
// - Shared memory is the table of 16 centroids, or of 16 pairs of them for 2 bits, and no more: one bank an
//   entry, hence no conflicts.
// - For devices whose memory is so fast that instructions bind, the entry points `_pairs` have 64 elements in a
//   lane, half the lanes in a team, and look two codes of 4 bits up at once, in a table of 256 pairs, 16 times
//   over, so that the lanes of half a warp meet no conflict: 32 KB. That is 14 instructions an element in place
//   of 17, for half the warps.
//
// docs/kernels.md counts the instructions that ptxas makes of it, and what they cost on which device. The
// result is the reference's in every bit where the codebook's smallest centroid is at least 2^-50, see there.
// It must be compiled with contraction off (--fmad=false).
//
// Interface. Grid in x only, 256 threads a block. `step`, in groups, is what the grid's teams decode in a
// turn: a multiple of `groups_per_row` and of the groups in a unit; the grid has just the blocks for it.
// `groups` and `step` are below 2^31. `sign_pairs` has a word for two columns: bit 15 is set where the sign of
// the even one is -1, bit 31 where that of the odd one is. All pointers are aligned to 16 bytes.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum : u32 { FULL_WARP = 0xFFFFFFFFu, SIGN = 0x80000000u, BLOCK = 256 };

// Instructions that CUDA C++ has no word for without its headers. Both keep subnormals.
#if defined(__CUDACC__)
__device__ __forceinline__ float decode_f16(u16 half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// Two values as BF16, nearest, ties to even.
__device__ __forceinline__ u32 round_bf16_pair(float low, float high) {
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}
#endif

// 1/sqrt(N) as the sum of two f32 values. HIGH alone is exact where the root is a power of two.
template <int N> struct InverseRoot;
template <> struct InverseRoot<32> {
    static constexpr float HIGH = 0.17677669f, LOW = 3.0254044e-09f;
};
template <> struct InverseRoot<64> { static constexpr float HIGH = 0.125f, LOW = 0.0f; };
template <> struct InverseRoot<128> {
    static constexpr float HIGH = 0.088388346f, LOW = 1.5127022e-09f;
};
template <> struct InverseRoot<256> { static constexpr float HIGH = 0.0625f, LOW = 0.0f; };

// x / sqrt(N), rounded once, for every f32 of at least 2^-100 and for zeros: the error of HIGH is made good
// before the only rounding that matters.
template <int N> __device__ __forceinline__ float divide_by_root(float x) {
    if constexpr (InverseRoot<N>::LOW == 0.0f) return x * InverseRoot<N>::HIGH;
    return __fmaf_rn(x, InverseRoot<N>::HIGH, x * InverseRoot<N>::LOW);
}

// Which element a register is, of the HELD of a lane: register j * PIECE + k of lane q is element
// (j * TEAM + q) * PIECE + k of the team's unit.
template <int N, int OUT_SIZE, int HELD> struct Layout {
    static constexpr int UNIT = N < 128 ? 128 : N;
    static constexpr int TEAM = UNIT / HELD;
    static constexpr int GROUPS = UNIT / N;
    static constexpr int PIECE = 16 / OUT_SIZE;
    static constexpr int PIECES = HELD / PIECE;
    // The group of piece j, of the unit's, and the piece's first element there.
    static __device__ constexpr int group(int j) { return j * TEAM * PIECE / N; }
    static __device__ constexpr int element(int j) { return j * TEAM * PIECE % N; }
};

// An unsigned integer of SIZE bytes.
template <int SIZE> struct Unsigned;
template <> struct Unsigned<1> { typedef u8 type; };
template <> struct Unsigned<2> { typedef u16 type; };
template <> struct Unsigned<4> { typedef u32 type; };

// The centroids: singly for 4 bits, and pairs, those that four bits name, for 2. A block fills it.
template <int BITS, int HELD> struct Table;

template <> struct Table<4, 32> {
    float entries[16];

    __device__ __forceinline__ void fill(const float *centroids) {
        if (threadIdx.x < 16) entries[threadIdx.x] = centroids[threadIdx.x];
    }

    // Offsets of entries, a byte each: codes times four.
    template <int PIECE> __device__ __forceinline__ void lookup(u32 codes, float *x) const {
        const u32 offsets[2] = {codes << 2 & 0x3C3C3C3Cu, codes >> 2 & 0x3C3C3C3Cu};
#pragma unroll
        for (int k = 0; k < PIECE; ++k) {
            const u32 offset = __byte_perm(offsets[k % 2], 0, 0x4440 | k / 2);
            x[k] = *(const float *)((const u8 *)entries + offset);
        }
    }
};

template <> struct Table<2, 32> {
    float2 entries[16];

    __device__ __forceinline__ void fill(const float *centroids) {
        const u32 i = threadIdx.x;
        if (i < 16) entries[i].x = centroids[i & 3u], entries[i].y = centroids[i >> 2];
    }

    template <int PIECE> __device__ __forceinline__ void lookup(u32 codes, float *x) const {
#pragma unroll
        for (int k = 0; k < PIECE / 2; ++k) {
            const float2 pair = entries[codes >> 4 * k & 15u];
            x[2 * k] = pair.x, x[2 * k + 1] = pair.y;
        }
    }
};

// A pair for each byte of codes, and of each a copy for 16 lanes.
template <> struct Table<4, 64> {
    float2 entries[256 * 16];

    // Thread t fills every 16th byte's copy t % 16, that of the codes t / 16 and k.
    __device__ __forceinline__ void fill(const float *centroids) {
        const float low = centroids[threadIdx.x / 16];
#pragma unroll
        for (u32 k = 0; k < 16; ++k) {
            float2 &entry = entries[k * BLOCK + threadIdx.x];
            entry.x = low, entry.y = centroids[k];
        }
    }

    template <int PIECE> __device__ __forceinline__ void lookup(u32 codes, float *x) const {
        const u8 *const own = (const u8 *)(entries + threadIdx.x % 16);
#pragma unroll
        for (int k = 0; k < PIECE / 2; ++k) {
            const u32 offset = __byte_perm(codes, 0, 0x4440 | k) * (16 * sizeof(float2));
            const float2 pair = *(const float2 *)(own + offset);
            x[2 * k] = pair.x, x[2 * k + 1] = pair.y;
        }
    }
};

// Lower gets a + b, upper a - b: lower minus upper.
template <int HELD> __device__ __forceinline__ void butterflies(float (&x)[HELD], int stride) {
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        if ((k & stride) == 0) {
            const float a = x[k], b = x[k + stride];
            x[k] = a + b;
            x[k + stride] = a - b;
        }
    }
}

// The same between lanes, where `upper` lanes have b.
template <int HELD>
__device__ __forceinline__ void butterflies_between(float (&x)[HELD], int distance, bool upper) {
    const float direction = upper ? -1.0f : 1.0f;
#pragma unroll
    for (int k = 0; k < HELD; ++k) {
        x[k] = __fmaf_rn(x[k], direction, __shfl_xor_sync(FULL_WARP, x[k], distance));
    }
}

template <int BITS, int N, int OUT_SIZE, int HELD>
__device__ __forceinline__ void dequantize(const u8 *packed, const u16 *scales,
                                           const u32 *sign_pairs, const float *centroids, u8 *out,
                                           u32 groups, u32 groups_per_row, u32 step,
                                           Table<BITS, HELD> &table) {
    typedef Layout<N, OUT_SIZE, HELD> L;
    typedef typename Unsigned<L::PIECE * BITS / 8>::type Codes;
    constexpr u32 PER_BLOCK = BLOCK / L::TEAM * L::GROUPS;

    const u32 lane = threadIdx.x % L::TEAM;
    // Teams of the last block may lie beyond the step: they decode what others do a turn later, to the same
    // bytes.
    u32 group = blockIdx.x * PER_BLOCK + threadIdx.x / L::TEAM * L::GROUPS;

    // Of a group past the end the last values stay: any will do, for its sums are not stored.
    Codes next_codes[L::PIECES] = {};
    u16 next_scales[L::GROUPS] = {};
    const auto fetch = [&](u32 first) {
        const u8 *const from = packed + ((u64)first * N + lane * L::PIECE) * BITS / 8;
#pragma unroll
        for (int g = 0; g < L::GROUPS; ++g) {
            if (first + g < groups) {
                next_scales[g] = scales[first + g];
#pragma unroll
                for (int j = g * L::PIECES / L::GROUPS; j < (g + 1) * L::PIECES / L::GROUPS; ++j) {
                    next_codes[j] = *(const Codes *)(from + j * L::TEAM * L::PIECE * BITS / 8);
                }
            }
        }
    };
    fetch(group);

    table.fill(centroids);
    u32 flips[HELD / 2];
#pragma unroll
    for (int j = 0; j < L::PIECES; ++j) {
        const u32 column = (group + L::group(j)) % groups_per_row * N + L::element(j) + lane * L::PIECE;
#pragma unroll
        for (int p = 0; p < L::PIECE / 2; ++p) {
            flips[j * L::PIECE / 2 + p] = sign_pairs[column / 2 + p];
        }
    }
    __syncthreads();

    // The same number of turns for every team of a block.
    for (u32 turn = blockIdx.x * PER_BLOCK; turn < groups; turn += step, group += step) {
        // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
        float x[HELD];
#pragma unroll
        for (int j = 0; j < L::PIECES; ++j) {
            const float scale = decode_f16(next_scales[L::group(j)]);
            table.template lookup<L::PIECE>(next_codes[j], x + j * L::PIECE);
#pragma unroll
            for (int k = 0; k < L::PIECE; ++k) x[j * L::PIECE + k] *= scale;
        }
        fetch(group + step);

        // 4. inverse FWHT: butterflies, division by sqrt(n), sign
#pragma unroll
        for (int stride = 1; stride < N; stride *= 2) {
            if (stride < L::PIECE) {
                butterflies(x, stride);
            } else if (stride < L::PIECE * L::TEAM) {
                const int distance = stride / L::PIECE;
                butterflies_between(x, distance, (lane & distance) != 0);
            } else {
                butterflies(x, stride / L::TEAM);
            }
        }

        // The division, the rounding, and the sign as a flip of the sign bit, which rounding does not see.
        uint4 pieces[L::PIECES];
#pragma unroll
        for (int j = 0; j < L::PIECES; ++j) {
            u32 words[4];
#pragma unroll
            for (int w = 0; w < 4; ++w) {
                if constexpr (OUT_SIZE == 2) {
                    const float low = divide_by_root<N>(x[j * 8 + w * 2]);
                    const float high = divide_by_root<N>(x[j * 8 + w * 2 + 1]);
                    words[w] = round_bf16_pair(low, high) ^ flips[j * 4 + w];
                } else {
                    const u32 flip = flips[j * 2 + w / 2] << (w % 2 == 0 ? 16 : 0) & SIGN;
                    words[w] = __float_as_uint(divide_by_root<N>(x[j * 4 + w])) ^ flip;
                }
            }
            pieces[j] = {words[0], words[1], words[2], words[3]};
        }
        u8 *const to = out + ((u64)group * N + lane * L::PIECE) * OUT_SIZE;
#pragma unroll
        for (int g = 0; g < L::GROUPS; ++g) {
            if (group + g < groups) {
#pragma unroll
                for (int j = g * L::PIECES / L::GROUPS; j < (g + 1) * L::PIECES / L::GROUPS; ++j) {
                    *(uint4 *)(to + j * L::TEAM * 16) = pieces[j];
                }
            }
        }
    }
}

#define ENTRY(NAME, BITS, N, OUT_SIZE, HELD)                                                       \
    extern "C" __global__ void __launch_bounds__(256) tq4_dequant_sm80_##NAME(                     \
        const u8 *__restrict__ packed, const u16 *__restrict__ scales,                             \
        const u32 *__restrict__ sign_pairs, const float *__restrict__ centroids,                   \
        u8 *__restrict__ out, u32 groups, u32 groups_per_row, u32 step) {                          \
        __shared__ Table<BITS, HELD> table;                                                        \
        dequantize<BITS, N, OUT_SIZE, HELD>(packed, scales, sign_pairs, centroids, out, groups,    \
                                            groups_per_row, step, table);                          \
    }

#define ENTRIES(BITS, N)                                                                           \
    ENTRY(b##BITS##_g##N##_bf16, BITS, N, 2, 32)                                                   \
    ENTRY(b##BITS##_g##N##_f32, BITS, N, 4, 32)

ENTRIES(2, 32)
ENTRIES(2, 64)
ENTRIES(2, 128)
ENTRIES(2, 256)
ENTRIES(4, 32)
ENTRIES(4, 64)
ENTRIES(4, 128)
ENTRIES(4, 256)
ENTRY(b4_g32_bf16_pairs, 4, 32, 2, 64)
ENTRY(b4_g64_bf16_pairs, 4, 64, 2, 64)
ENTRY(b4_g128_bf16_pairs, 4, 128, 2, 64)
ENTRY(b4_g256_bf16_pairs, 4, 256, 2, 64)
