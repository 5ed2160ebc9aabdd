"""Writes a source model into DIR/source/model.safetensors, and into DIR/negated another with every weight negated."""

import pathlib
import sys

import numpy
from safetensors.numpy import save_file

random = numpy.random.default_rng(1)
tensors = {f"layers.{i}.gate_proj.weight": random.normal(size=(48, 512)) for i in range(16)}
tensors |= {f"layers.{i}.norm.weight": random.normal(size=512) for i in range(8)}
for name, sign in ("source", 1), ("negated", -1):
    directory = pathlib.Path(sys.argv[1]) / name
    directory.mkdir()
    weights = {name: (sign * tensor).astype(numpy.float16) for name, tensor in tensors.items()}
    save_file(weights, directory / "model.safetensors")
