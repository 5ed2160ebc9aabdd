"""A decoder in NumPy, as a user would write it from the description of the format."""

import numpy as np


def decode(model, name, norm=None):
    """The float32 values of a tensor, each operation as the published decoder does it."""
    tensor = model[name]
    rows, columns = tensor.shape
    n = model.group_size
    packed = tensor.packed
    if model.bits == 2:
        codes = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=-1)
    else:
        codes = np.stack([packed & 15, packed >> 4], axis=-1)
    codes = codes.reshape(rows, columns // n, n)
    x = model.centroids[codes] * tensor.scales.astype(np.float32)[:, :, None]
    stride = 1
    while stride < n:
        pairs = x.reshape(rows, columns // n, n // (2 * stride), 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack([low + high, low - high], axis=-2)
        stride *= 2
    x = x.reshape(rows, columns // n, n)
    if norm is None:
        x = (x.astype(np.float64) / np.sqrt(float(n))).astype(np.float32)
    else:
        x = x * np.float32(norm)
    return x.reshape(rows, columns) * tensor.signs.astype(np.float32)
