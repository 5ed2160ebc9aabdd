"""Checks that a kernel decodes TurboQuant 4-bit (TQ4) weights correctly.

>>> import tq4
>>> model = tq4.open("Qwen3.5-9B-TQ4")
>>> weight = my_kernel(...)          # [N, K], as your kernel writes it
>>> tq4.assert_decodes(weight, model, "model.layers.1.mlp.gate_proj")

An element is right when it is one that correct arithmetic in float32 can give, rounded to the array's type;
no threshold is tuned. A wrong array gets the name of the fault that explains it, where one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._tq4 import Element, Model, Tensor, Verdict, __version__, _check, open

if TYPE_CHECKING:
    from collections.abc import Mapping

    _Rows = slice | range | tuple[int, int]

__all__ = [
    "Element",
    "Model",
    "Tensor",
    "Verdict",
    "__version__",
    "assert_decodes",
    "check",
    "open",
]


def check(
    actual: Any,
    model: Model,
    name: str,
    rows: _Rows | None = None,
    tolerance: str | Mapping[str, float] | None = None,
) -> Verdict:
    """Holds the output of a kernel to a tensor of a model.

    ``actual`` is what the kernel wrote, ``[rows, K]`` or as many values in one dimension: float32, float16 or
    bfloat16, in the type that it wrote, for a verdict is of the rounding as well. It is an array of NumPy (uint16
    holds the bits of bfloat16), or of torch, JAX, CuPy or whatever else has ``__array__`` or ``__dlpack__``; what
    is on a device, or not contiguous, is copied.

    ``name`` is the tensor's, with or without ``.weight``. ``rows`` says which rows of it ``actual`` holds: a slice,
    a range or ``(start, stop)``; all when left out. ``tolerance`` is for kernels that are lossy by intent:
    ``"rmse=0.01"``, ``"atol=1e-3,rtol=1e-2"``, or a dictionary of the same.

    Raises ``KeyError`` for a name that the model does not have, ``TypeError`` for what is no array of such a type,
    ``ValueError`` for another shape.
    """
    # NumPy is imported when an array comes: the command does without.
    from ._arrays import on_host

    if not isinstance(model, Model):
        raise TypeError(f"model: {type(model).__name__} found, expected what tq4.open returns")
    values, dtype = on_host(actual)
    if tolerance is not None and not isinstance(tolerance, str):
        if not hasattr(tolerance, "items"):
            raise TypeError(f'tolerance: {tolerance!r} found, expected "rmse=R", "atol=A,rtol=R" or a dictionary')
        tolerance = ",".join(f"{key}={float(limit)!r}" for key, limit in tolerance.items())
    return _check(values, dtype, model, name, rows, tolerance)


def assert_decodes(
    actual: Any,
    model: Model,
    name: str,
    rows: _Rows | None = None,
    tolerance: str | Mapping[str, float] | None = None,
) -> None:
    """Raises ``AssertionError`` with the figures and the fault unless ``check`` of the same passes."""
    __tracebackhide__ = True
    verdict = check(actual, model, name, rows, tolerance)
    if not verdict:
        raise AssertionError(str(verdict))
