"""An independent reader of every format that tq4 writes, in NumPy, from docs/formats.md alone.

Usage: python reader.py MODEL VALUES [TYPE]
Decodes every weight of MODEL (a directory or a GGUF file) and compares it bit for bit with the f32 tensor of its
name in VALUES, a safetensors file, in which no other may be; TYPE is that of the weights of a GGUF file. Test
equipment only.
"""

import json
import pathlib
import statistics
import struct
import sys

import numpy as np

F32 = np.float32


def safetensors(path):
    """Name to (dtype, shape, bytes)."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    out = {}
    for name, info in header.items():
        a, b = info["data_offsets"]
        out[name] = (info["dtype"], info["shape"], data[8 + length + a : 8 + length + b])
    return out


def unpack(packed, bits):
    """Codes without gaps, low bits first, of u8 `[groups, bytes]`."""
    stream = np.unpackbits(packed, axis=1, bitorder="little")
    codes = stream.reshape(packed.shape[0], -1, bits)
    return (codes * (1 << np.arange(bits))).sum(axis=2)


def transform(x):
    """Walsh-Hadamard transform of each row, not normalised."""
    n, stride = x.shape[1], 1
    while stride < n:
        y = x.reshape(x.shape[0], n // (2 * stride), 2, stride)
        x = np.stack([y[:, :, 0] + y[:, :, 1], y[:, :, 0] - y[:, :, 1]], axis=2).reshape(-1, n)
        stride *= 2
    return x


def divided(x):
    """Over the root of the group size, rounded once."""
    return (x.astype(np.float64) / np.sqrt(np.float64(x.shape[1]))).astype(F32)


class Twister:
    """MT19937."""

    def __init__(self, seed):
        self.state = [seed]
        for i in range(1, 624):
            last = self.state[-1]
            self.state.append((1812433253 * (last ^ last >> 30) + i) & 0xFFFFFFFF)
        self.at = 624

    def next(self):
        if self.at == 624:
            s = self.state
            for i in range(624):
                y = s[i] & 0x80000000 | s[(i + 1) % 624] & 0x7FFFFFFF
                s[i] = s[(i + 397) % 624] ^ y >> 1 ^ (0x9908B0DF if y & 1 else 0)
            self.at = 0
        y = self.state[self.at]
        self.at += 1
        y ^= y >> 11
        y ^= y << 7 & 0x9D2C5680
        y ^= y << 15 & 0xEFC60000
        return y ^ y >> 18


def normal_codebook(bits, group):
    """100 Lloyd updates for N(0, 1 / group) from its quantiles; 2 bits are written out."""
    if bits == 2:
        half = [0.453, 1.51]
    else:
        levels, unit = 1 << bits, statistics.NormalDist()
        edges = [unit.inv_cdf(i / levels) for i in range(levels // 2, levels)]
        for _ in range(100):
            half = []
            for i, low in enumerate(edges):
                last = i + 1 == len(edges)
                high = None if last else edges[i + 1]
                mass = (1.0 if last else unit.cdf(high)) - unit.cdf(low)
                half.append((unit.pdf(low) - (0.0 if last else unit.pdf(high))) / mass)
            edges = edges[:1] + [(a + b) / 2 for a, b in zip(half, half[1:])]
    root = np.sqrt(np.float64(group))
    positive = [c / root for c in half]
    return np.array([-c for c in positive[::-1]] + positive, np.float64).astype(F32)


def turboquant(model):
    config = json.loads((model / "turboquant_config.json").read_text())
    group, bits = config["group_size"], config["bits"]
    width = 2 if bits == 2 else 4
    parts = {}
    for path in model.glob("*.safetensors"):
        parts |= safetensors(path)
    for name in parts:
        base = name.removesuffix(".tq_packed")
        if base == name:
            continue
        _, (rows, _), data = parts[name]
        codes = unpack(np.frombuffer(data, np.uint8).reshape(rows, -1), width).reshape(-1, group)
        scales = np.frombuffer(parts[f"{base}.tq_scales"][2], np.float16).astype(F32)
        signs = np.frombuffer(parts[f"{base}.tq_signs"][2], np.int8).astype(F32)
        x = np.array(config["centroids"], F32)[codes] * scales.reshape(-1, 1)
        yield base, divided(transform(x)).reshape(rows, -1) * signs


def true_width(name, padded, group, config):
    """The width that config.json gives for the layers of the tests, where it fits."""
    layer = name.removesuffix(".weight").rsplit(".", 1)[-1]
    key = "intermediate_size" if layer == "down_proj" else "hidden_size"
    width = config.get(key)
    return width if width and -(-width // group) * group == padded else padded


def tq3_native(model):
    config = json.loads((model / "tq_config.json").read_text())
    path = model / "config.json"
    widths = json.loads(path.read_text()) if path.exists() else {}
    group = config["group_size"]
    twister = Twister(config.get("quantizer_seed", 42))
    after, before = ([2 * (twister.next() & 1) - 1 for _ in range(group)] for _ in range(2))
    parts = {}
    for path in model.glob("*.safetensors"):
        parts |= safetensors(path)
    for name, (_, shape, data) in parts.items():
        stem = name.removesuffix(".tq_packed")
        if stem == name:
            continue
        bits = config["bits"]
        if any(p in stem for p in config.get("sensitive_patterns", ["o_proj", "down_proj"])):
            bits = config.get("sensitive_bits", bits)
        _, (rows, groups), norms = parts[f"{stem}.tq_norms"]
        codes = unpack(np.frombuffer(data, np.uint8).reshape(shape), bits)
        x = normal_codebook(bits, group)[codes] * np.array(before, F32)
        x = divided(transform(x)) * np.array(after, F32)
        x *= np.frombuffer(norms, F32).reshape(-1, 1)
        padded = groups * group
        yield stem.removesuffix(".weight"), x.reshape(rows, padded)[:, : true_width(stem, padded, group, widths)]


class Gguf:
    """One file."""

    FIXED = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def __init__(self, path):
        self.data, self.at = path.read_bytes(), 0
        assert self.take("4s") == b"GGUF"
        assert self.take("I") == 3
        tensors, keys = self.take("Q"), self.take("Q")
        self.metadata = {self.text(): self.value(self.take("I")) for _ in range(keys)}
        entries = []
        for _ in range(tensors):
            name = self.text()
            dims = [self.take("Q") for _ in range(self.take("I"))]
            entries.append((name, dims, self.take("I"), self.take("Q")))
        unit = self.metadata.get("general.alignment", 32)
        start = -(-self.at // unit) * unit
        self.tensors = {}
        for name, dims, kind, offset in entries:
            assert offset % unit == 0
            self.tensors[name] = (dims, kind, self.data[start + offset :])

    def take(self, form):
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def text(self):
        return self.take(f"{self.take('Q')}s").decode()

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            of, count = self.take("I"), self.take("Q")
            return [self.value(of) for _ in range(count)]
        return self.take(self.FIXED[kind])


POSITIVE = [0.128395, 0.388048, 0.656759, 0.942340, 1.256231, 1.618046, 2.069017, 2.732590]
BOOKS = {
    4: np.array([-c for c in POSITIVE[::-1]] + POSITIVE, F32),
    3: np.array([-1.996684, -1.291398, -0.740341, -0.247508, 0.230106, 0.725222, 1.277503, 1.988943], F32),
}


def e3m5(b):
    b = b.astype(np.int64)
    return np.where(b == 0, 0, (1 + (b & 31) / 32) * 2.0 ** ((b >> 5) - 9)).astype(F32)


def gguf(path, kind):
    """Every weight of type `kind`: the number alone does not tell."""
    prefix, of, count = path.name[:-5].rpartition("-of-")
    paths = [path]
    if of:
        paths = sorted(path.parent.glob(prefix[:-5] + "*-of-" + count + ".gguf"))
        assert len(paths) == int(count)
    number = {"TQ4_1S": 46, "TQ3_1S": 45, "TQ3_4S": 46}[kind]
    bits, scale_bytes = (4 if kind == "TQ4_1S" else 3), 4
    size = scale_bytes + 4 * bits
    signs = np.array([-1 if (i * 0x9E3779B9 & 0xFFFFFFFF) >> 31 else 1 for i in range(32)], F32)
    for file in map(Gguf, paths):
        for name, (dims, of, data) in file.tensors.items():
            if of != number:
                continue
            count = int(np.prod(dims)) // 32
            blocks = np.frombuffer(data[: count * size], np.uint8).reshape(count, size)
            head = np.ascontiguousarray(blocks[:, :scale_bytes])
            scales = e3m5(head) if kind == "TQ3_4S" else head.view(np.float16).astype(F32)
            codes = unpack(np.ascontiguousarray(blocks[:, scale_bytes:]), bits)
            x = BOOKS[bits][codes] * np.repeat(scales, 32 // scales.shape[1], axis=1)
            x = transform(x) * F32(1 / np.sqrt(np.float64(32))) * signs
            yield name.removesuffix(".weight"), x.reshape(-1, dims[0])


def main(model, values):
    expected = safetensors(values)
    if model.is_file():
        decoded = gguf(model, sys.argv[3])
    elif (model / "tq_config.json").exists():
        decoded = tq3_native(model)
    else:
        decoded = turboquant(model)
    count = 0
    for name, found in decoded:
        dtype, shape, data = expected.pop(name)
        assert dtype == "F32" and list(found.shape) == shape, (name, found.shape, shape)
        want = np.frombuffer(data, np.uint32).reshape(shape)
        wrong = np.argwhere(found.astype(F32).view(np.uint32) != want)
        assert not len(wrong), (name, len(wrong), wrong[0], found[tuple(wrong[0])], want.view(F32)[tuple(wrong[0])])
        count += 1
    assert not expected, list(expected)
    print(f"{count} weights equal")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
