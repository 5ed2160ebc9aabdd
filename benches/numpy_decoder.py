"""A NumPy decoder of the TQ4 format, and the NumPy side of benches/versus_numpy.rs.

Every step works on all groups at once. For the values to be the reference's, bit for bit, the
butterflies and the scale stay in f32, and the division is by an f64: NumPy 2 then divides in f64, and
the quotient is rounded once.
"""

import sys
import time
from pathlib import Path

import numpy as np


def decode(packed, scales, signs, centroids, group_size):
    """f32 `[rows, cols]` from u8 `[rows, cols * width / 8]`, f16 `[rows, cols / group_size]`, i8 `[cols]`."""
    rows, cols = packed.shape[0], signs.shape[0]
    per_byte = cols // packed.shape[1]
    width = 8 // per_byte
    # 1. unpack
    codes = np.empty((rows, cols), np.uint8)
    for k in range(per_byte):
        codes[:, k::per_byte] = packed >> (width * k) & ((1 << width) - 1)
    # 2. centroid lookup
    x = centroids[codes].reshape(-1, group_size)
    # 3. scale
    x *= scales.astype(np.float32).reshape(-1, 1)
    # 4. inverse FWHT: butterflies, division by sqrt(n), sign
    stride = 1
    while stride < group_size:
        pairs = x.reshape(-1, 2, stride)
        lower = pairs[:, 0] + pairs[:, 1]
        pairs[:, 1] = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] = lower
        stride *= 2
    x = (x / np.sqrt(np.float64(group_size))).astype(np.float32).reshape(rows, cols)
    x *= signs
    return x


def decode_in_blocks(packed, scales, signs, centroids, group_size, out):
    """The same into `out`, a few rows at a time, so that the steps find their input in the cache."""
    rows = max(1, (1 << 16) // signs.shape[0])
    for start in range(0, packed.shape[0], rows):
        part = slice(start, start + rows)
        out[part] = decode(packed[part], scales[part], signs, centroids, group_size)


def main():
    """Reads the tensor that the benchmark wrote, then answers each line of stdin.

    `values` writes the decoded values to values.f32; `whole` and `blocks` decode once and print the
    seconds that it took.
    """
    folder = Path(sys.argv[1])
    rows, cols, group_size = (int(arg) for arg in sys.argv[2:5])
    read = lambda name, kind: np.fromfile(folder / name, kind)  # noqa: E731
    packed = read("packed.u8", np.uint8).reshape(rows, -1)
    scales = read("scales.f16", "<f2").reshape(rows, -1)
    signs = read("signs.i8", np.int8)
    centroids = read("centroids.f32", "<f4")
    tensor = (packed, scales, signs, centroids, group_size)
    out = np.zeros((rows, cols), np.float32)
    print(f"NumPy {np.__version__}", flush=True)
    for line in sys.stdin:
        command = line.strip()
        start = time.perf_counter()
        if command == "blocks":
            decode_in_blocks(*tensor, out)
        else:
            values = decode(*tensor)
        seconds = time.perf_counter() - start
        if command == "values":
            values.astype("<f4").tofile(folder / "values.f32")
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
