"""A kernel in NumPy for `tq4 validate --exec`: each line of stdin is a strip to decode."""

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


def unpack(packed, width):
    """Codes of `width` bits, low bits first and without gaps."""
    bits = np.unpackbits(packed, axis=1, bitorder="little")
    return bits.reshape(len(packed), -1, width) @ (1 << np.arange(width))


def single(scales, stored):
    """Scales as f32."""
    if stored != "e3m5":
        return scales.astype(np.float32)
    mantissa, exponent = 1 + (scales & 31) / 32, (scales >> 5).astype(int) - 9
    return np.where(scales == 0, 0, np.ldexp(mantissa, exponent)).astype(np.float32)


def decode(tensors, codec, n):
    """The values as f32, `[rows, cols]`; every operation rounds once."""
    # 1. unpack, 2. centroid lookup
    x = tensors["centroids"][unpack(tensors["packed"], codec["stored_bits"])]
    rows, cols = x.shape
    # 3. scale, signs before the transform
    scales = single(tensors["scales"], codec["scale_type"])[:, :, None]
    by_scale = (rows, -1, codec["scale_elements"])
    if not codec["scale_last"]:
        x = x.reshape(by_scale) * scales
    x = x.reshape(-1, n)
    if codec["signs_before"]:
        x = x * tensors["signs_before"]
    # 4. inverse FWHT, normalisation, signs
    stride = 1
    while stride < n:
        pairs = x.reshape(-1, 2, stride)
        x = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1)
        stride *= 2
    root = np.sqrt(np.float64(n))
    if codec["multiply"]:
        x = x.astype(np.float32) * np.float32(1 / root)
    else:
        x = (x.astype(np.float64) / root).astype(np.float32)
    x = x.reshape(rows, cols) * tensors["signs"]
    # 5. the scale, where it comes last
    return (x.reshape(by_scale) * scales).reshape(rows, cols) if codec["scale_last"] else x


def bf16(x):
    """Rounded to the nearest BF16, ties to even, as its bits."""
    bits = x.view(np.uint32)
    return (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")


ROUND = {"bf16": bf16, "f16": lambda x: x.astype("<f2"), "f32": lambda x: x.astype("<f4")}

for line in sys.stdin:
    strip = json.loads(line)
    tensors = dict(parts(strip["input"]))
    start = time.perf_counter()
    values = ROUND[strip["dtype"]](decode(tensors, strip["codec"], strip["group_size"]))
    seconds = time.perf_counter() - start
    values.tofile(strip["output"])
    print(json.dumps({"ok": True, "seconds": seconds}), flush=True)
