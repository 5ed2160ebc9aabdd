"""The published TurboQuant encoder's arithmetic in NumPy, and a comparison of files with it.

Usage: PYTHONHASHSEED=0 python encoder.py SOURCE_MODEL TQ_MODEL
Quantises every weight that TQ_MODEL holds codes of, with signs from hash(name), and compares each
shard of TQ_MODEL byte for byte with what the safetensors package writes. Test equipment only.
"""

import json
import pathlib
import struct
import sys

import numpy as np
import safetensors


KINDS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


def read(path):
    """Name to (dtype, shape, bytes), and the metadata: NumPy has no BF16, so by hand."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    start = 8 + length
    tensors = {}
    for name, info in header.items():
        a, b = info["data_offsets"]
        tensors[name] = (info["dtype"], info["shape"], data[start + a : start + b])
    return tensors, metadata


def serialised(tensors, metadata):
    """The file as the safetensors package writes it; its raw interface changed with version 0.8."""
    if not hasattr(safetensors, "TensorSpec"):
        return safetensors.serialize(tensors, metadata)
    buffers = {name: np.frombuffer(t["data"], np.uint8) for name, t in tensors.items()}
    specs = {
        name: safetensors.TensorSpec(
            dtype=t["dtype"], shape=t["shape"], data_ptr=buffers[name].ctypes.data, data_len=len(t["data"])
        )
        for name, t in tensors.items()
    }
    return bytes(safetensors.serialize(specs, metadata=metadata))


def to_f32(dtype, shape, data):
    if dtype == "BF16":
        bits = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    return np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[dtype]).astype(np.float32).reshape(shape)


def fwht(x):
    n = x.shape[-1]
    stride = 1
    while stride < n:
        y = x.reshape(*x.shape[:-1], n // (2 * stride), 2, stride)
        a, b = y[..., 0, :], y[..., 1, :]
        x = np.stack([a + b, a - b], axis=-2).reshape(x.shape)
        stride *= 2
    return x / np.float32(np.sqrt(np.float32(n)))


def codebook(bits, dim):
    """Centroids and boundaries of Lloyd-Max for (1-x^2)^((dim-3)/2), f64 to the end."""
    nodes, weights = np.polynomial.legendre.leggauss(96)
    levels = 2**bits
    centroids = -1 + (2 * np.arange(levels) + 1) / levels
    for _ in range(200):
        # The boundaries written are those before the last update.
        boundaries = np.concatenate([[-1.0], (centroids[:-1] + centroids[1:]) / 2, [1.0]])
        low, high = boundaries[:-1, None], boundaries[1:, None]
        x = (high - low) / 2 * nodes + (high + low) / 2
        density = weights * (1 - x * x) ** ((dim - 3) / 2)
        mass = (high - low)[:, 0] / 2 * density.sum(axis=1)
        mean = (density * x).sum(axis=1) / np.maximum(density.sum(axis=1), 1e-300)
        # A cell of next to no mass keeps its centroid.
        centroids = np.where(mass > 1e-30, mean, centroids)
        # The density is even; the quadrature is so only up to rounding.
        centroids = (centroids - centroids[::-1]) / 2
    return centroids.astype(np.float32), boundaries.astype(np.float32)


def encode(name, weight, config):
    bits, group = config["bits"], config["group_size"]
    rows, cols = weight.shape
    signs = np.random.RandomState(hash(name) & 0xFFFFFFFF).choice([-1, 1], cols)
    x = fwht((weight * signs.astype(np.float32)).reshape(rows, cols // group, group))
    assert x.dtype == np.float32
    norm = np.maximum(np.sqrt(np.sum(x * x, axis=-1, keepdims=True)), np.float32(1e-10))
    unit = x / norm
    interior = codebook(bits, group)[1][1:-1]
    codes = np.searchsorted(interior, unit.ravel(), side="left").astype(np.uint8).reshape(rows, cols)
    if bits == 2:
        packed = codes[:, 0::4] | codes[:, 1::4] << 2 | codes[:, 2::4] << 4 | codes[:, 3::4] << 6
    else:
        packed = codes[:, 0::2] | codes[:, 1::2] << 4
    return {
        "tq_packed": packed,
        "tq_scales": norm[..., 0].astype(np.float16),
        "tq_signs": signs.astype(np.int8),
    }


def main(source, tq):
    config = json.loads((tq / "turboquant_config.json").read_text())
    for key, values in zip(("centroids", "boundaries"), codebook(config["bits"], config["group_size"])):
        assert np.array_equal(np.array(config[key], np.float32), values), key
    weights = 0
    for path in sorted(source.glob("*.safetensors")):
        tensors, metadata = read(path)
        written, _ = read(tq / path.name)
        out = {}
        for name, (dtype, shape, data) in tensors.items():
            base = name.removesuffix(".weight")
            if f"{base}.tq_packed" not in written:
                out[name] = {"dtype": KINDS[dtype], "shape": shape, "data": data}
                continue
            for part, v in encode(name, to_f32(dtype, shape, data), config).items():
                out[f"{base}.{part}"] = {"dtype": str(v.dtype), "shape": v.shape, "data": v.tobytes()}
            weights += 1
        for name, tensor in out.items():
            assert written[name][2] == tensor["data"], f"{name} differs"
        assert (tq / path.name).read_bytes() == serialised(out, metadata), path.name
    print(f"{weights} weights equal")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
