// The CUDA rendering of the other codecs, for compute capability 7.5 and later: the same steps, in the same order and
// words, as `src/reference/scalar.rs`. Plain layouts have kernels of their own, but for outputs of F16, which are here.
//
// - A thread decodes a block of 32 consecutive elements: its codes are 8, 12 or 16 bytes, and strides 1 to 16 stay in
//   its registers.
// - The four lanes of a quad then transpose their blocks by shuffles (32 for each thread). From there on a lane holds
//   the same columns of all four blocks: strides 32 and 64 are in registers again, and each store instruction of a quad
//   writes 64 contiguous bytes, 16 a lane. Only stride 128 (groups of 256) takes shuffles of its own.
// - The size of a group is an argument: all threads take the same branches, and there is a fourth of the entry points.
// - Shared memory is the table of 16 centroids and no more: one bank an entry, hence no conflicts.
//
// The result is the reference's in every bit; where the arithmetic divides, if the codebook's smallest centroid is at
// least 2^-50, see docs/kernels.md. It must be compiled with contraction off (--fmad=false).
//
// Interface. Grid in x only, 256 threads a block, one thread for each 32 elements; `blocks` (their number, at most
// 2^31) is rows * cols / 32, `row_blocks` is cols / 32, and a group is 32 << group_log elements. Bit i of
// `signs_before` is set where the sign of element i of every group is -1 before the transform. All pointers are aligned
// to 16 bytes.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum : u32 { FULL_WARP = 0xFFFFFFFFu, SIGN = 0x80000000u };

// How a scale is stored, and what is written.
enum Stored { AS_F16, AS_F32, AS_E3M5 };
enum Output { TO_BF16, TO_F16, TO_F32 };

// The codecs: bits of a code; elements that share a scale, 0 where it is a group's only one; how it is stored, and
// whether it comes before the transform or last; whether centroids have signs; whether the transform is divided by
// sqrt(n), or multiplied by f32 1/sqrt(n); the largest group.

// Blocks of 32 with a word of scales.
template <int BITS_, int SHARED_, Stored STORED_> struct Blocks {
    static constexpr int BITS = BITS_, SHARED = SHARED_, LARGEST = 32;
    static constexpr Stored STORED = STORED_;
    static constexpr bool BEFORE = true, SIGNED = false, DIVIDES = false;
};

// Signs on both sides of the transform, and an f32 norm last.
template <int BITS_> struct Norms {
    static constexpr int BITS = BITS_, SHARED = 0, LARGEST = 256;
    static constexpr Stored STORED = AS_F32;
    static constexpr bool BEFORE = false, SIGNED = true, DIVIDES = true;
};

// What plain layouts have.
template <int BITS_> struct Plain {
    static constexpr int BITS = BITS_, SHARED = 0, LARGEST = 256;
    static constexpr Stored STORED = AS_F16;
    static constexpr bool BEFORE = true, SIGNED = false, DIVIDES = true;
};

// Instructions that CUDA C++ has no word for without its headers. Both keep subnormals.
#if defined(__CUDACC__)
__device__ __forceinline__ float decode_f16(u16 half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// The value as F16, nearest, ties to even; infinity beyond the largest.
__device__ __forceinline__ u16 round_f16(float value) {
    u16 half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}
#endif

// 0 is 0, others are (1 + (b & 31) / 32) * 2^((b >> 5) - 9).
__device__ __forceinline__ float decode_e3m5(u32 byte) {
    return byte == 0 ? 0.0f : __uint_as_float((byte << 18) + (118u << 23));
}

// The upper half of the result is the value as BF16, nearest, ties to even. No NaN comes here:
// centroids and scales are finite, and small enough for no sum to overflow.
__device__ __forceinline__ u32 round_bf16(float value) {
    const u32 bits = __float_as_uint(value);
    return bits + 0x7FFFu + ((bits >> 16) & 1u);
}

template <Output OUT> __device__ __forceinline__ u32 round_pair(u32 low, u32 high) {
    const float a = __uint_as_float(low), b = __uint_as_float(high);
    if constexpr (OUT == TO_F16) return round_f16(a) | (u32)round_f16(b) << 16;
    return round_bf16(a) >> 16 | (round_bf16(b) & 0xFFFF0000u);
}

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

// x / sqrt(n), rounded once, for every f32 of at least 2^-100 and for zeros: the error of `high` is made good before
// the only rounding that matters. Where `low` is 0 the product is exact, and nothing is added to it.
struct Root {
    float high, low;

    __device__ __forceinline__ explicit Root(u32 group_log) {
        high = group_log == 0   ? InverseRoot<32>::HIGH
               : group_log == 1 ? InverseRoot<64>::HIGH
               : group_log == 2 ? InverseRoot<128>::HIGH
                                : InverseRoot<256>::HIGH;
        low = group_log == 0 ? InverseRoot<32>::LOW : group_log == 2 ? InverseRoot<128>::LOW : 0.0f;
    }

    __device__ __forceinline__ float divide(float x) const { return __fmaf_rn(x, high, x * low); }
};

// Lower gets a + b, upper a - b: lower minus upper.
template <int STRIDE> __device__ __forceinline__ void butterflies(float (&x)[32]) {
#pragma unroll
    for (int k = 0; k < 32; ++k) {
        if ((k & STRIDE) == 0) {
            const float a = x[k], b = x[k + STRIDE];
            x[k] = a + b;
            x[k + STRIDE] = a - b;
        }
    }
}

// Swaps bit DISTANCE of the lane number with bit STRIDE of the register number.
template <int DISTANCE, int STRIDE>
__device__ __forceinline__ void transpose(float (&x)[32], u32 lane) {
    const bool high = (lane & DISTANCE) != 0;
#pragma unroll
    for (int k = 0; k < 32; ++k) {
        if ((k & STRIDE) == 0) {
            const float sent = high ? x[k] : x[k + STRIDE];
            const float received = __shfl_xor_sync(FULL_WARP, sent, DISTANCE);
            x[k] = high ? received : x[k];
            x[k + STRIDE] = high ? x[k + STRIDE] : received;
        }
    }
}

// The codes of a block, low bits first and without gaps.
template <int BITS> __device__ __forceinline__ void load_codes(const u8 *from, u32 (&words)[BITS]) {
    if constexpr (BITS == 4) {
        const uint4 v = *(const uint4 *)from;
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    } else if constexpr (BITS == 2) {
        const uint2 v = *(const uint2 *)from;
        words[0] = v.x, words[1] = v.y;
    } else {
        // Twelve bytes are aligned to four.
        const u32 *const v = (const u32 *)from;
        words[0] = v[0], words[1] = v[1], words[2] = v[2];
    }
}

template <int BITS> __device__ __forceinline__ u32 code_of(const u32 (&words)[BITS], int k) {
    const int word = k * BITS / 32, shift = k * BITS % 32;
    u32 bits = words[word] >> shift;
    // A code of 3 bits may end in the next word.
    if (shift + BITS > 32) bits |= words[word + 1] << (32 - shift);
    return bits & ((1u << BITS) - 1u);
}

// A group's only scale.
template <Stored STORED> __device__ __forceinline__ float scale_of(const u8 *scales, u32 group) {
    if constexpr (STORED == AS_F32) return ((const float *)scales)[group];
    return decode_f16(((const u16 *)scales)[group]);
}

template <typename CODEC, Output OUT>
__device__ __forceinline__ void dequantize(const u8 *packed, const u8 *scales, const signed char *signs,
                                           const u32 *signs_before, const float *centroids, u8 *out,
                                           u32 blocks, u32 row_blocks, u32 group_log, float *table) {
    constexpr int BITS = CODEC::BITS;
    constexpr int OUT_SIZE = OUT == TO_F32 ? 4 : 2;
    // Elements in 16 bytes of output: the piece that lanes exchange and store.
    constexpr int PIECE = 16 / OUT_SIZE;

    if (threadIdx.x < 16) table[threadIdx.x] = centroids[threadIdx.x];
    __syncthreads();

    // A thread past the end takes part in every shuffle with the last block, and stores nothing.
    const u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 lane = threadIdx.x & 31u;
    const u32 block = thread < blocks ? thread : blocks - 1;

    // 1. unpack, 2. centroid lookup
    u32 words[BITS];
    load_codes<BITS>(packed + (u64)block * (4 * BITS), words);
    float x[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) x[k] = table[code_of<BITS>(words, k)];

    // 3. scale (one f32 rounding), sign before the transform as a flip of the sign bit
    if constexpr (CODEC::SHARED != 0) {
        const u32 word = ((const u32 *)scales)[block];
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            const int i = k / CODEC::SHARED;
            if constexpr (CODEC::STORED == AS_E3M5) {
                x[k] *= decode_e3m5(word >> 8 * i & 0xFFu);
            } else {
                x[k] *= decode_f16((u16)(word >> 16 * i));
            }
        }
    } else if constexpr (CODEC::BEFORE) {
        const float scale = scale_of<CODEC::STORED>(scales, block >> group_log);
#pragma unroll
        for (int k = 0; k < 32; ++k) x[k] *= scale;
    }
    if constexpr (CODEC::SIGNED) {
        const u32 minus = signs_before[block & ((1u << group_log) - 1u)];
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            x[k] = __uint_as_float(__float_as_uint(x[k]) ^ (minus << (31 - k) & SIGN));
        }
    }

    // 4. inverse FWHT: butterflies, normalisation, sign
    butterflies<1>(x);
    butterflies<2>(x);
    butterflies<4>(x);
    butterflies<8>(x);
    butterflies<16>(x);
    // From here on register h * 4 * PIECE + i * PIECE + e of lane q of a quad is element
    // h * 4 * PIECE + q * PIECE + e of the quad's block i.
    transpose<1, PIECE>(x, lane);
    transpose<2, 2 * PIECE>(x, lane);
    if constexpr (CODEC::LARGEST > 32) {
        if (group_log >= 1) butterflies<PIECE>(x);
        if (group_log >= 2) butterflies<2 * PIECE>(x);
        if (group_log >= 3) {
            const u32 upper = (lane & 4u) != 0 ? SIGN : 0;
#pragma unroll
            for (int k = 0; k < 32; ++k) {
                const float other = __shfl_xor_sync(FULL_WARP, x[k], 4);
                x[k] = other + __uint_as_float(__float_as_uint(x[k]) ^ upper);
            }
        }
    }

    // The normalisation, the sign as a flip of the sign bit; 5. scale, where it comes last; then the rounding.
    const Root root(group_log);
    const u32 first = thread & ~3u;
    const u32 within = (lane & 3u) * PIECE;
    u32 column = first % row_blocks;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const u32 of = first + i < blocks ? first + i : blocks - 1;
        float scale = 1.0f;
        if constexpr (!CODEC::BEFORE) scale = scale_of<CODEC::STORED>(scales, of >> group_log);
#pragma unroll
        for (int h = 0; h < 8 / PIECE; ++h) {
            const u32 start = h * 4 * PIECE + within;
            const u32 *const sign_words = (const u32 *)(signs + (u64)column * 32 + start);
            u32 y[PIECE];
#pragma unroll
            for (int e = 0; e < PIECE; ++e) {
                const float sum = x[h * 4 * PIECE + i * PIECE + e];
                const float value = CODEC::DIVIDES ? root.divide(sum) : sum * InverseRoot<32>::HIGH;
                const u32 sign = sign_words[e / 4] << (24 - e % 4 * 8) & SIGN;
                y[e] = __float_as_uint(value) ^ sign;
                if constexpr (!CODEC::BEFORE) y[e] = __float_as_uint(__uint_as_float(y[e]) * scale);
            }
            uint4 piece;
            if constexpr (OUT == TO_F32) {
                piece.x = y[0], piece.y = y[1], piece.z = y[2], piece.w = y[3];
            } else {
                piece.x = round_pair<OUT>(y[0], y[1]), piece.y = round_pair<OUT>(y[2], y[3]);
                piece.z = round_pair<OUT>(y[4], y[5]), piece.w = round_pair<OUT>(y[6], y[7]);
            }
            if (first + i < blocks) {
                *(uint4 *)(out + ((u64)(first + i) * 32 + start) * OUT_SIZE) = piece;
            }
        }
        column = column + 1 == row_blocks ? 0 : column + 1;
    }
}

#define ENTRY(NAME, OUT, ...)                                                                      \
    extern "C" __global__ void __launch_bounds__(256) tq4_dequant_codecs_##NAME(                   \
        const u8 *__restrict__ packed, const u8 *__restrict__ scales,                              \
        const signed char *__restrict__ signs, const u32 *__restrict__ signs_before,               \
        const float *__restrict__ centroids, u8 *__restrict__ out, u32 blocks, u32 row_blocks,     \
        u32 group_log) {                                                                           \
        __shared__ float table[16];                                                                \
        dequantize<__VA_ARGS__, OUT>(packed, scales, signs, signs_before, centroids, out, blocks,  \
                                     row_blocks, group_log, table);                                \
    }

#define ENTRIES(NAME, ...)                                                                         \
    ENTRY(NAME##_bf16, TO_BF16, __VA_ARGS__)                                                       \
    ENTRY(NAME##_f16, TO_F16, __VA_ARGS__)                                                         \
    ENTRY(NAME##_f32, TO_F32, __VA_ARGS__)

ENTRIES(b4_f16by16, Blocks<4, 16, AS_F16>)
ENTRIES(b3_f16by16, Blocks<3, 16, AS_F16>)
ENTRIES(b3_e3m5by8, Blocks<3, 8, AS_E3M5>)
ENTRIES(b2_f32last, Norms<2>)
ENTRIES(b3_f32last, Norms<3>)
ENTRIES(b4_f32last, Norms<4>)
ENTRY(b2_plain_f16, TO_F16, Plain<2>)
ENTRY(b4_plain_f16, TO_F16, Plain<4>)
