"""Arrays of every kind; stand-ins for libraries that are too large for a test."""

import sys

import numpy as np
import pytest

import tq4

BASE = "fixture.tail_rows"


@pytest.fixture
def single(model):
    return model[BASE].reference()


@pytest.fixture
def bits(model):
    return np.asarray(model[BASE].reference("bfloat16")).view(np.uint16)


def verdict(model, actual):
    return tq4.check(actual, model, BASE).verdict


def test_numpy_in_every_order(model, single, bits):
    assert verdict(model, np.asfortranarray(single)) == "identical"
    assert verdict(model, np.repeat(single, 3, axis=1)[:, ::3]) == "identical"
    assert verdict(model, single[::-1][::-1]) == "identical"
    assert verdict(model, single.astype(single.dtype.newbyteorder())) == "identical"
    assert verdict(model, single.reshape(-1)) == "identical"
    assert verdict(model, bits) == "identical"
    raw = np.empty(single.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(single.shape)
    unaligned[:] = single
    assert verdict(model, unaligned) == "identical"
    read_only = single.copy()
    read_only.flags.writeable = False
    assert verdict(model, read_only) == "identical"
    assert verdict(model, single.view(type("Sub", (np.ndarray,), {}))) == "identical"


def test_ml_dtypes(model, single):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert tq4.check(single.astype(ml_dtypes.bfloat16), model, BASE).dtype == "bfloat16"
    with pytest.raises(TypeError, match="float8_e4m3fn found, expected float32"):
        tq4.check(single.astype(ml_dtypes.float8_e4m3fn), model, BASE)


@pytest.mark.parametrize("shape", [(67, 255), (256, 67), (66, 256), (1, 67, 256), (5,), ()])
def test_another_shape_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"actual: shape \[.*\] found, expected \[67, 256\]"):
        tq4.check(np.zeros(shape, np.float32), model, BASE)


def test_a_shape_near_to_the_right_one_is_told_so(model):
    with pytest.raises(ValueError, match=r"say with rows=\(start, stop\)"):
        tq4.check(np.zeros((66, 256), np.float32), model, BASE)
    with pytest.raises(ValueError, match="its transpose"):
        tq4.check(np.zeros((256, 67), np.float32), model, BASE)


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "complex64", "bool", "object"])
def test_another_type_is_refused(model, dtype):
    with pytest.raises(TypeError, match=f"actual: {dtype} found, expected float32, float16, bfloat16"):
        tq4.check(np.zeros((67, 256), dtype), model, BASE)


def test_float64_is_told_what_to_do(model):
    with pytest.raises(TypeError, match="in the type that it wrote it in"):
        tq4.check(np.zeros((67, 256)), model, BASE)


@pytest.mark.parametrize("actual", [[[1.0]], 3, None, "text", object()])
def test_what_is_no_array_is_refused(model, actual):
    with pytest.raises(TypeError, match="found, expected an array"):
        tq4.check(actual, model, BASE)


class WithArray:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class WithDlpack:
    """What only has DLPack, as an array of another library on the host."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **options):
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class OnDevice(WithDlpack):
    """On a CUDA device, from which it copies itself when asked to."""

    def __dlpack__(self, dl_device=None, **options):
        if dl_device is None or dl_device[0] != 1:
            raise BufferError("the memory is a device's")
        return self.values.__dlpack__()

    def __dlpack_device__(self):
        return (2, 0)


class NoCopy(OnDevice):
    def __dlpack__(self, **options):
        raise BufferError("the memory is a device's")


class Cupy:
    __cuda_array_interface__ = {}

    def __init__(self, values):
        self.values = values

    def get(self):
        return self.values

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion is not allowed")


class TorchType:
    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"torch.{self.name}"


int16 = TorchType("int16")
bfloat16 = TorchType("bfloat16")
# The module of the type is where its names are.
assert sys.modules[TorchType.__module__].int16 is int16


class Torch:
    """A tensor of torch: on a device, in a graph of gradients."""

    def __init__(self, values, dtype, graph=True, device=True):
        self.values, self.dtype, self.graph, self.device = values, dtype, graph, device

    def detach(self):
        return Torch(self.values, self.dtype, False, self.device)

    def cpu(self):
        return Torch(self.values, self.dtype, self.graph, False)

    def contiguous(self):
        return self

    def view(self, dtype):
        assert dtype is int16
        return Torch(self.values.view(np.int16), dtype, self.graph, self.device)

    def __array__(self, dtype=None, copy=None):
        assert not self.graph and not self.device, "detach and copy first"
        if self.dtype is bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16")
        return self.values

    def __dlpack__(self, **options):
        raise AssertionError("__array__ is enough")


@pytest.mark.parametrize("kind", [WithArray, WithDlpack, Cupy])
def test_other_libraries(model, single, kind):
    assert verdict(model, kind(single)) == "identical"


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="NumPy copies from devices since 2.1")
def test_a_device_is_copied_from(model, single):
    assert verdict(model, OnDevice(single)) == "identical"


def test_a_device_that_does_not_copy_is_said(model, single):
    with pytest.raises(TypeError, match="copy it to the host first"):
        tq4.check(NoCopy(single), model, BASE)


def test_torch(model, single, bits):
    assert verdict(model, Torch(single, TorchType("float32"))) == "identical"
    found = tq4.check(Torch(bits, bfloat16), model, BASE)
    assert (found.verdict, found.dtype) == ("identical", "bfloat16")


@pytest.mark.parametrize("untyped", ["V2", "int16"])
def test_sixteen_bits_without_a_type_are_bfloat16(model, untyped):
    # What numpy.load makes of a saved bfloat16, and what torch's bits are viewed as.
    bits = model[BASE].reference("bfloat16").view(np.uint16)
    assert tq4.check(bits.view(untyped), model, BASE).verdict == "identical"


def test_bad_arguments_say_what_is_expected(model):
    right = model[BASE].reference()
    with pytest.raises(TypeError, match="tq4.open"):
        tq4.check(right, "a/path", BASE)
    with pytest.raises(TypeError, match="rmse=R"):
        tq4.check(right, model, BASE, tolerance=0.01)
    with pytest.raises(TypeError, match="masked"):
        tq4.check(np.ma.masked_array(right, right > 0), model, BASE)
