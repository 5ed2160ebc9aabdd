"""Arrays of any library as C-contiguous arrays of NumPy. No such library is imported here."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# Where DLPack says that memory is the host's: its own, and pinned for CUDA or ROCm.
_HOST = (1, 3, 11)

_EXPECTED = "expected float32, float16, bfloat16, or uint16 with the bits of bfloat16"


def on_host(actual: Any) -> tuple[np.ndarray, str]:
    """The values, and the name of their type: float32 as they are, float16 and bfloat16 as bits in uint16."""
    array = actual if isinstance(actual, np.ndarray) else _as_numpy(actual)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("actual: a masked array found, expected every element: give its filled() values")
    # By name: NumPy has no bfloat16 of its own, and a package that has registers it.
    name = array.dtype.name
    if name in ("float32", "float16", "bfloat16"):
        dtype = name
    elif array.dtype.itemsize == 2 and array.dtype.kind in "uiV":
        # The bits; NumPy saves and loads bfloat16 as two bytes without a type.
        array, dtype = array.view(np.uint16), "bfloat16"
    elif name == "float64":
        raise TypeError(
            f"actual: float64 found, {_EXPECTED}: give what the kernel wrote in the type that it wrote it in"
        )
    else:
        raise TypeError(f"actual: {name} found, {_EXPECTED}")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    whole = np.require(native, requirements=["C", "A", "E"])
    return (whole if dtype == "float32" else whole.view(np.uint16)), dtype


def _as_numpy(actual: Any) -> np.ndarray:
    """An array of another library, copied from its device where it has one."""
    # Of torch: out of the graph of gradients, then to the host.
    for method in ("detach", "cpu"):
        if callable(getattr(actual, method, None)):
            actual = getattr(actual, method)()
    if hasattr(actual, "__cuda_array_interface__") and callable(getattr(actual, "get", None)):
        # CuPy refuses to copy by itself.
        actual = actual.get()
    if isinstance(actual, np.ndarray):
        return actual
    if str(getattr(actual, "dtype", "")) == "torch.bfloat16":
        # NumPy has no type for it; the bits are taken as another type of 16 bits.
        torch = sys.modules[type(actual.dtype).__module__]
        return np.asarray(actual.contiguous().view(torch.int16)).view(np.uint16)
    if hasattr(actual, "__array__"):
        return np.asarray(actual)
    if hasattr(actual, "__dlpack__"):
        return _from_dlpack(actual)
    raise TypeError(
        f"actual: {type(actual).__name__} found, expected an array: of NumPy, or with __array__ or __dlpack__"
    )


def _from_dlpack(actual: Any) -> np.ndarray:
    if not hasattr(actual, "__dlpack_device__"):
        raise TypeError(f"actual: {type(actual).__name__} has __dlpack__ without __dlpack_device__")
    on_device = actual.__dlpack_device__()[0] not in _HOST
    try:
        return np.from_dlpack(actual, device="cpu") if on_device else np.from_dlpack(actual)
    except (BufferError, RuntimeError, TypeError, ValueError) as e:
        help = (
            "copy it to the host first"
            if on_device
            else "NumPy has no bfloat16: view it as uint16 first"
        )
        raise TypeError(f"actual: {type(actual).__name__} cannot be read through DLPack ({e}); {help}") from e
