// The CUDA rendering for compute capability 7.5: the same four steps, in the same order and words, as
// `src/reference/scalar.rs` and `shaders/tq4_dequant.wgsl`. `tq4_dequant_sm80.cu` is for later devices.
//
// Floor. Per element a launch must move b/8 bytes of codes, 2/n of scale and 2 (BF16) or 4 (f32) of
// output; signs and centroids stay in cache. For 4 bits, n = 128, BF16 that is 2.516 bytes, so no
// kernel decodes more than bandwidth / 2.516 elements a second. What this one does to get near it:
//
// - A thread decodes a block of 32 consecutive elements: its codes are one 16-byte load (8-byte for
//   2 bits), and strides 1 to 16 stay in its registers.
// - The four lanes of a quad then transpose their blocks by shuffles (32 for each thread). From there
//   on a lane holds the same columns of all four blocks: strides 32 and 64 are in registers again, and
//   each store instruction of a quad writes 64 contiguous bytes, 16 a lane. Only stride 128 (n = 256)
//   takes shuffles of its own.
// - Shared memory is the table of 16 centroids and no more: one bank an entry, hence no conflicts.
//   With the shuffles that makes 2 operations of the shared memory pipe an element (3 for n = 256).
//
// None of this has been measured on a GPU; it is counted from the compiler's output. The result is the
// reference's in every bit where the codebook's smallest centroid is at least 2^-50, see docs/kernels.md. It
// must be compiled with contraction off (--fmad=false).
//
// Interface. Grid in x only, 256 threads a block, one thread for each 32 elements; `blocks` (their
// number, at most 2^31) is rows * cols / 32, and `row_blocks` is cols / 32. All pointers are aligned
// to 16 bytes.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

enum : u32 { FULL_WARP = 0xFFFFFFFFu, SIGN = 0x80000000u };

// f16 to f32 by integer operations, exact: subnormals are normalised, never flushed. There is no
// infinity and no NaN among scales.
__device__ __forceinline__ float decode_f16(u16 half) {
    u32 magnitude = half & 0x7FFFu;
    u32 exponent = 112;
    if (magnitude < 0x0400u) {
        if (magnitude == 0) return __uint_as_float((u32)half << 16);
        const u32 shift = (u32)__clz((int)magnitude) - 21;
        magnitude <<= shift;
        exponent -= shift;
    }
    return __uint_as_float(((half & 0x8000u) << 16) | ((magnitude << 13) + (exponent << 23)));
}

// The upper half of the result is the value as BF16, nearest, ties to even. No NaN comes here:
// centroids and scales are finite, and small enough for no sum to overflow.
__device__ __forceinline__ u32 round_bf16(float value) {
    const u32 bits = __float_as_uint(value);
    return bits + 0x7FFFu + ((bits >> 16) & 1u);
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

// x / sqrt(N), rounded once, for every f32 of at least 2^-100 and for zeros: the error of HIGH is made good
// before the only rounding that matters.
template <int N> __device__ __forceinline__ float divide_by_root(float x) {
    if constexpr (InverseRoot<N>::LOW == 0.0f) return x * InverseRoot<N>::HIGH;
    return __fmaf_rn(x, InverseRoot<N>::HIGH, x * InverseRoot<N>::LOW);
}

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

// One load of 16, 8 or 4 bytes.
__device__ __forceinline__ void load(const void *from, u32 (&words)[4]) {
    const uint4 v = *(const uint4 *)from;
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}

__device__ __forceinline__ void load(const void *from, u32 (&words)[2]) {
    const uint2 v = *(const uint2 *)from;
    words[0] = v.x, words[1] = v.y;
}

__device__ __forceinline__ void load(const void *from, u32 (&words)[1]) {
    words[0] = *(const u32 *)from;
}

template <int BITS, int N, int OUT_SIZE>
__device__ __forceinline__ void dequantize(const u8 *packed, const u16 *scales,
                                           const signed char *signs, const float *centroids,
                                           u8 *out, u32 blocks, u32 row_blocks, float *table) {
    // Elements in 16 bytes of output: the piece that lanes exchange and store.
    constexpr int PIECE = 16 / OUT_SIZE;
    constexpr int CODES_PER_WORD = 32 / BITS;

    if (threadIdx.x < 16) table[threadIdx.x] = centroids[threadIdx.x];
    __syncthreads();

    // A thread past the end takes part in every shuffle with the last block, and stores nothing.
    const u32 thread = blockIdx.x * blockDim.x + threadIdx.x;
    const u32 lane = threadIdx.x & 31u;
    const u32 block = thread < blocks ? thread : blocks - 1;

    // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
    const float scale = decode_f16(scales[block / (N / 32)]);
    u32 words[BITS];
    load(packed + (u64)block * (4 * BITS), words);
    float x[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) {
        const u32 code =
            words[k / CODES_PER_WORD] >> (k % CODES_PER_WORD * BITS) & ((1u << BITS) - 1u);
        x[k] = table[code] * scale;
    }

    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
    butterflies<1>(x);
    butterflies<2>(x);
    butterflies<4>(x);
    butterflies<8>(x);
    butterflies<16>(x);
    // From here on register h * 4 * PIECE + i * PIECE + e of lane q of a quad is element
    // h * 4 * PIECE + q * PIECE + e of the quad's block i.
    transpose<1, PIECE>(x, lane);
    transpose<2, 2 * PIECE>(x, lane);
    if constexpr (N >= 64) butterflies<PIECE>(x);
    if constexpr (N >= 128) butterflies<2 * PIECE>(x);
    if constexpr (N >= 256) {
        const u32 upper = (lane & 4u) != 0 ? SIGN : 0;
#pragma unroll
        for (int k = 0; k < 32; ++k) {
            const float other = __shfl_xor_sync(FULL_WARP, x[k], 4);
            x[k] = other + __uint_as_float(__float_as_uint(x[k]) ^ upper);
        }
    }

    // The division, the sign as a flip of the sign bit; then the rounding.
    const u32 first = thread & ~3u;
    const u32 within = (lane & 3u) * PIECE;
    u32 column = first % row_blocks;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int h = 0; h < 8 / PIECE; ++h) {
            const u32 start = h * 4 * PIECE + within;
            u32 sign_words[PIECE / 4];
            load(signs + (u64)column * 32 + start, sign_words);
            u32 y[PIECE];
#pragma unroll
            for (int e = 0; e < PIECE; ++e) {
                const float value = divide_by_root<N>(x[h * 4 * PIECE + i * PIECE + e]);
                const u32 sign = sign_words[e / 4] << (24 - e % 4 * 8) & SIGN;
                y[e] = __float_as_uint(value) ^ sign;
            }
            uint4 piece;
            if constexpr (OUT_SIZE == 2) {
                u32 pairs[4];
#pragma unroll
                for (int p = 0; p < 4; ++p) {
                    const u32 low = round_bf16(__uint_as_float(y[2 * p]));
                    const u32 high = round_bf16(__uint_as_float(y[2 * p + 1]));
                    pairs[p] = low >> 16 | (high & 0xFFFF0000u);
                }
                piece.x = pairs[0], piece.y = pairs[1], piece.z = pairs[2], piece.w = pairs[3];
            } else {
                piece.x = y[0], piece.y = y[1], piece.z = y[2], piece.w = y[3];
            }
            if (first + i < blocks) {
                *(uint4 *)(out + ((u64)(first + i) * 32 + start) * OUT_SIZE) = piece;
            }
        }
        column = column + 1 == row_blocks ? 0 : column + 1;
    }
}

#define ENTRY(BITS, N, OUT, OUT_SIZE)                                                              \
    extern "C" __global__ void __launch_bounds__(256) tq4_dequant_sm75_b##BITS##_g##N##_##OUT(          \
        const u8 *__restrict__ packed, const u16 *__restrict__ scales,                             \
        const signed char *__restrict__ signs, const float *__restrict__ centroids,                \
        u8 *__restrict__ out, u32 blocks, u32 row_blocks) {                                        \
        __shared__ float table[16];                                                                \
        dequantize<BITS, N, OUT_SIZE>(packed, scales, signs, centroids, out, blocks, row_blocks,   \
                                      table);                                                      \
    }

#define ENTRIES(BITS, N)                                                                           \
    ENTRY(BITS, N, bf16, 2)                                                                        \
    ENTRY(BITS, N, f32, 4)

ENTRIES(2, 32)
ENTRIES(2, 64)
ENTRIES(2, 128)
ENTRIES(2, 256)
ENTRIES(4, 32)
ENTRIES(4, 64)
ENTRIES(4, 128)
ENTRIES(4, 256)
