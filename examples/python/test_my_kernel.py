"""Tests a decoder of TQ4 weights with pytest: put your kernel in the place of `my_kernel`.

    pip install . pytest
    pytest examples/python/test_my_kernel.py

It decodes the small models of the first format that `tq4 fixture` writes, or the model that TQ4_MODEL names.
"""

import os
import subprocess
import sysconfig

import numpy as np
import pytest

import tq4


def my_kernel(packed, scales, signs, centroids, bits):
    """Decodes a tensor: uint8 [N, K*b/8], float16 [N, K/group_size], int8 [K], float32 [2**bits]."""
    rows, groups = scales.shape
    # Codes lie low bits first; three bits take four.
    shifts = (0, 2, 4, 6) if bits == 2 else (0, 4)
    mask = (1 << 8 // len(shifts)) - 1
    codes = np.stack([packed >> shift & mask for shift in shifts], axis=-1)
    x = centroids[codes].reshape(rows, groups, -1) * scales[:, :, None].astype(np.float32)
    n = x.shape[-1]
    # The inverse transform: the lower lane gets the sum, the upper lane lower - upper.
    stride = 1
    while stride < n:
        pairs = x.reshape(rows, groups, -1, 2, stride)
        lower, upper = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([lower + upper, lower - upper], axis=-2)
        stride *= 2
    x = x.reshape(rows, -1) * np.float32(1 / np.sqrt(n))
    return x * signs


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    if "TQ4_MODEL" in os.environ:
        return [tq4.open(os.environ["TQ4_MODEL"])]
    directory = tmp_path_factory.mktemp("tq4") / "fixture"
    program = os.path.join(sysconfig.get_path("scripts"), "tq4")
    subprocess.run([program, "fixture", directory], check=True)
    return [tq4.open(path) for path in sorted(directory.glob("b*"))]


def test_my_kernel(models):
    for model in models:
        for name in model:
            tensor = model[name]
            weight = my_kernel(tensor.packed, tensor.scales, tensor.signs, model.centroids, model.bits)
            tq4.assert_decodes(weight, model, name)
