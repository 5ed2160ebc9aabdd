"""A TQ4 kernel in NumPy for `tq4 validate --exec`: each line of stdin is a strip to decode."""

import json
import sys
import time

import numpy as np

DTYPES = {"U8": np.uint8, "I8": np.int8, "F16": "<f2", "F32": "<f4"}


def parts(path):
    """The tensors of a safetensors file: eight bytes of length, a JSON header, the data."""
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    for name, part in json.loads(data[8:start]).items():
        first, last = (start + at for at in part["data_offsets"])
        yield name, np.frombuffer(data[first:last], DTYPES[part["dtype"]]).reshape(part["shape"])


def decode(packed, scales, signs, centroids, group_size):
    """The values as f32, `[rows, cols]`; every operation rounds once."""
    per_byte = signs.size // packed.shape[1]
    width = 8 // per_byte
    # 1. unpack, low bits first
    codes = packed[:, :, None] >> (width * np.arange(per_byte, dtype=np.uint8)) & ((1 << width) - 1)
    # 2. centroid lookup, 3. scale
    x = centroids[codes].reshape(-1, group_size) * scales.astype(np.float32).reshape(-1, 1)
    # 4. inverse FWHT, division by sqrt(n), signs
    stride = 1
    while stride < group_size:
        pairs = x.reshape(-1, 2, stride)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1)
        stride *= 2
    x = (x.astype(np.float64) / np.sqrt(np.float64(group_size))).astype(np.float32)
    return x.reshape(packed.shape[0], -1) * signs


def bf16(x):
    """Rounded to the nearest BF16, ties to even, as its bits."""
    bits = x.view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


ROUND = {"bf16": bf16, "f16": lambda x: x.astype("<f2"), "f32": lambda x: x.astype("<f4")}

for line in sys.stdin:
    strip = json.loads(line)
    tensors = dict(parts(strip["input"]))
    start = time.perf_counter()
    values = ROUND[strip["dtype"]](decode(**tensors, group_size=strip["group_size"]))
    seconds = time.perf_counter() - start
    values.tofile(strip["output"])
    print(json.dumps({"ok": True, "seconds": seconds}), flush=True)
