"""The published TurboQuant decoder's arithmetic in NumPy, and a comparison of a plain model with it.

Usage: python decoder.py TQ_MODEL PLAIN_MODEL
Opens every shard of PLAIN_MODEL with the safetensors package, decodes every weight of TQ_MODEL and
compares them bit for bit. Test equipment only.
"""

import json
import pathlib
import sys

import numpy as np
import safetensors


def tensors(model):
    out = {}
    for path in sorted(model.glob("*.safetensors")):
        for name, tensor in safetensors.deserialize(path.read_bytes()):
            out[name] = (tensor["dtype"], tensor["shape"], bytes(tensor["data"]))
    return out


def decode(base, tq, config):
    group = config["group_size"]
    packed = np.frombuffer(tq[f"{base}.tq_packed"][2], np.uint8).reshape(tq[f"{base}.tq_packed"][1])
    signs = np.frombuffer(tq[f"{base}.tq_signs"][2], np.int8).astype(np.float32)
    scales = np.frombuffer(tq[f"{base}.tq_scales"][2], np.float16).astype(np.float32)
    shifts = [0, 2, 4, 6] if config["bits"] == 2 else [0, 4]
    mask = 3 if config["bits"] == 2 else 15
    codes = np.stack([packed >> s & mask for s in shifts], axis=-1).reshape(packed.shape[0], -1)
    centroids = np.array(config["centroids"], np.float32)
    x = centroids[codes].reshape(-1, group) * scales.reshape(-1, 1)
    stride = 1
    while stride < group:
        y = x.reshape(-1, group // (2 * stride), 2, stride)
        x = np.stack([y[:, :, 0] + y[:, :, 1], y[:, :, 0] - y[:, :, 1]], axis=2).reshape(-1, group)
        stride *= 2
    x = (x.astype(np.float64) / np.sqrt(np.float64(group))).astype(np.float32)
    x = x.reshape(codes.shape) * signs
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def main(tq_dir, plain_dir):
    config = json.loads((tq_dir / "turboquant_config.json").read_text())
    tq, plain = tensors(tq_dir), tensors(plain_dir)
    weights = 0
    for name in tq:
        base = name.removesuffix(".tq_packed")
        if base == name:
            continue
        dtype, shape, data = plain.pop(f"{base}.weight")
        expected = decode(base, tq, config)
        assert dtype == "BF16" and list(shape) == list(expected.shape), (base, dtype, shape)
        assert data == expected.tobytes(), f"{base} differs"
        weights += 1
    for name, tensor in plain.items():
        assert tq[name] == tensor, f"{name} differs"
    for path in plain_dir.glob("*.safetensors"):
        with safetensors.safe_open(path, "np") as f:
            # Hugging Face loaders insist on it.
            assert f.metadata() == {"format": "pt"}, path.name
    index = plain_dir / "model.safetensors.index.json"
    if index.exists():
        index = json.loads(index.read_text())
        for name, file in index["weight_map"].items():
            with safetensors.safe_open(plain_dir / file, "np") as f:
                assert name in f.keys(), name
        size = sum(len(t[2]) for t in tensors(plain_dir).values())
        assert index["metadata"]["total_size"] == size
    print(f"{weights} weights equal, {len(plain)} copied")


main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
