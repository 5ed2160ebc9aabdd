// TQ4 dequantisation, plainly: one thread decodes one group, by the very loops of src/reference/scalar.rs.
// `tq4 validate --kernel examples/kernels/plain_cuda.toml` runs it beside tq4's own kernel: where both are
// wrong, look at the driver; where only that one is, at its optimisations.

// f16 to f32, exact. There is no infinity and no NaN among scales.
__device__ float decode_f16(unsigned half) {
    const int exponent = half >> 10 & 31, mantissa = half & 1023;
    const float value = exponent == 0 ? ldexpf((float)mantissa, -24)
                                      : ldexpf((float)(1024 + mantissa), exponent - 25);
    return half & 0x8000u ? -value : value;
}

// To nearest, ties to even; there is no NaN.
__device__ unsigned short round_bf16(float value) {
    const unsigned bits = __float_as_uint(value);
    return (unsigned short)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

extern "C" __global__ void plain_dequant(const unsigned char *packed, const unsigned short *scales,
                                         const signed char *signs, const float *centroids,
                                         unsigned short *out, unsigned groups,
                                         unsigned groups_per_row, int n, int stored_bits) {
    const unsigned group = blockIdx.x * blockDim.x + threadIdx.x;
    if (group >= groups) return;
    const int codes_per_byte = 8 / stored_bits, mask = (1 << stored_bits) - 1;
    float x[256];

    // 1. unpack, 2. centroid lookup, 3. scale (one f32 rounding)
    const float scale = decode_f16(scales[group]);
    for (int k = 0; k < n; ++k) {
        const int byte = packed[(unsigned long long)group * (n / codes_per_byte) + k / codes_per_byte];
        x[k] = centroids[byte >> k % codes_per_byte * stored_bits & mask] * scale;
    }

    // 4. inverse FWHT: butterflies, division by sqrt(n), sign
    for (int stride = 1; stride < n; stride *= 2) {
        for (int k = 0; k < n; ++k) {
            if (k & stride) continue;
            const float a = x[k], b = x[k + stride];
            x[k] = a + b;
            x[k + stride] = a - b;
        }
    }
    const double sqrt_n = sqrt((double)n);
    for (int k = 0; k < n; ++k) {
        const float value = (float)((double)x[k] / sqrt_n) * signs[group % groups_per_row * n + k];
        out[(unsigned long long)group * n + k] = round_bf16(value);
    }
}
