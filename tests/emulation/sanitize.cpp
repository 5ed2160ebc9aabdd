// Test equipment: runs every entry point on memory of exactly the right size, for the sanitizers.

#include "launch.h"

template <typename T> static T *exactly(size_t count, unsigned &seed, T mask) {
    void *raw = nullptr;
    if (posix_memalign(&raw, 16, count * sizeof(T)) != 0) abort();
    T *memory = (T *)raw;
    for (size_t i = 0; i < count; ++i) {
        seed = seed * 1664525u + 1013904223u;
        memory[i] = (T)(seed >> 8) & mask;
    }
    return memory;
}

int main() {
    unsigned seed = 1;
    for (const auto &e : emulation::entries) {
        for (unsigned rows : {1u, 3u, 33u}) {
            const u32 row_blocks = (u32)e.group / 32 * (rows == 3 ? 3 : 1);
            u32 blocks = rows * row_blocks;
            u8 *packed = exactly<u8>((size_t)blocks * 4 * e.bits, seed, 0xFF);
            u16 *scales = exactly<u16>((size_t)blocks * 32 / e.group, seed, 0x3FFF);
            u8 *signs = exactly<u8>((size_t)row_blocks * 32, seed, 0xFF);
            for (u32 i = 0; i < row_blocks * 32; ++i) signs[i] = signs[i] & 1 ? 1 : 0xFF;
            u32 *centroids = exactly<u32>(16, seed, 0x3FFFFFFF);
            u8 *out = exactly<u8>((size_t)blocks * 32 * e.out_size, seed, 0xFF);
            u32 row_blocks_argument = row_blocks;
            void *parameters[] = {&packed, &scales, &signs, &centroids, &out, &blocks,
                                  &row_blocks_argument};
            const std::string error =
                emulation::launch_entry(e, {(blocks + 255) / 256, 1, 1}, {256, 1, 1}, parameters);
            if (!error.empty()) {
                fprintf(stderr, "%s: %s\n", e.name, error.c_str());
                return 1;
            }
            free(packed), free(scales), free(signs), free(centroids), free(out);
        }
    }
    puts("clean");
}
