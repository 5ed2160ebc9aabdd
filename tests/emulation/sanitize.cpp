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

// Runs one entry point on a shape, whose groups of other codecs are of 32 << group_log.
static bool clean(const emulation::Named &e, unsigned rows, uint32_t group_log, unsigned &seed) {
    const bool codecs = e.capability == 0;
    uint32_t group = codecs ? 32u << group_log : (uint32_t)e.group;
    uint32_t per_row = rows == 3 ? 3 : 1;
    uint32_t groups = rows * per_row;
    const uint32_t columns = per_row * group;
    const uint32_t elements = rows * columns;
    const uint32_t shared = e.shared != 0 ? (uint32_t)e.shared : group;
    uint8_t *packed = exactly<uint8_t>((size_t)elements * e.bits / 8, seed, 0xFF);
    uint8_t *scales = exactly<uint8_t>((size_t)elements / shared * e.scale_size, seed, 0x3F);
    uint32_t *before = exactly<uint32_t>(8, seed, 0xFFFFFFFF);
    uint32_t *centroids = exactly<uint32_t>(16, seed, 0x3FFFFFFF);
    uint8_t *out = exactly<uint8_t>((size_t)elements * e.out_size, seed, 0xFF);
    void *signs;
    std::vector<void *> parameters = {&packed, &scales, &signs, &centroids, &out};
    if (codecs) parameters.insert(parameters.begin() + 3, &before);
    uint32_t scalars[3], grid;
    if (e.capability == 80) {
        signs = exactly<uint32_t>(columns / 2, seed, 0x80008000);
        const uint32_t unit = group < 128 ? 128 / group : 1;
        // Whole rows and whole units; one turn, and of 33 rows several.
        const uint32_t step = per_row * unit * (rows == 33 ? 2 : 1);
        scalars[0] = groups, scalars[1] = per_row, scalars[2] = step;
        const uint32_t block = strstr(e.name, "_pairs") ? 16384 : 8192;
        grid = (step * group + block - 1) / block;
    } else {
        uint8_t *bytes = exactly<uint8_t>(columns, seed, 0xFF);
        for (uint32_t i = 0; i < columns; ++i) bytes[i] = bytes[i] & 1 ? 1 : 0xFF;
        signs = bytes;
        scalars[0] = elements / 32, scalars[1] = columns / 32, scalars[2] = group_log;
        grid = (elements / 32 + 255) / 256;
    }
    for (uint32_t &scalar : scalars) parameters.push_back(&scalar);
    const std::string error =
        emulation::launch_entry(e, {grid, 1, 1}, {256, 1, 1}, parameters.data());
    if (!error.empty()) fprintf(stderr, "%s: %s\n", e.name, error.c_str());
    free(packed), free(scales), free(signs), free(before), free(centroids), free(out);
    return error.empty();
}

int main() {
    unsigned seed = 1;
    for (const auto &e : emulation::entries) {
        for (unsigned rows : {1u, 3u, 33u}) {
            const uint32_t largest = e.capability == 0 && e.shared == 0 ? 3 : 0;
            for (uint32_t group_log = 0; group_log <= largest; ++group_log) {
                if (!clean(e, rows, group_log, seed)) return 1;
            }
        }
    }
    puts("clean");
}
