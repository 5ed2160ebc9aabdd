import numpy as np
import pytest

import tq4
from decode import decode

BASE = "fixture.tail_rows"


def test_a_model_is_a_collection_of_names(model):
    assert len(model) == 6
    assert list(model) == model.names == sorted(model.names)
    assert BASE in model and BASE + ".weight" in model and "fixture.none" not in model
    assert (model.bits, model.group_size) == (4, 128)
    assert model.centroids.dtype == np.float32 and model.centroids.shape == (16,)
    assert np.all(np.diff(model.centroids) > 0)
    assert "b4_g128" in repr(model) and str(model.path).endswith("b4_g128")
    assert tq4.open(str(model.path)).names == model.names


def test_an_unknown_name_is_told_the_nearest(model):
    with pytest.raises(KeyError, match="no TQ4 tensor .*nearest names: fixture.tail_rows"):
        model["fixture.tail_row"]
    with pytest.raises(KeyError, match="nearest names"):
        tq4.check(np.zeros((1, 1), np.float32), model, "fixture.tail_row.weight")


def test_what_is_no_model_is_refused(tmp_path, fixtures):
    with pytest.raises(FileNotFoundError, match="no such model directory"):
        tq4.open(tmp_path / "none")
    with pytest.raises(ValueError, match="safetensors"):
        tq4.open(tmp_path)


def test_a_tensor_has_its_stored_parts(model):
    tensor = model[BASE + ".weight"]
    assert tensor.name == BASE and tensor.shape == (67, 256) and BASE in repr(tensor)
    assert tensor.packed.dtype == np.uint8 and tensor.packed.shape == (67, 128)
    assert tensor.scales.dtype == np.float16 and tensor.scales.shape == (67, 2)
    assert tensor.signs.dtype == np.int8 and set(tensor.signs) == {-1, 1}
    # The caller's own copy.
    tensor.signs[:] = 0
    assert set(tensor.signs) == {-1, 1}


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("group_size", [32, 64, 128, 256])
def test_the_reference_is_what_numpy_decodes(fixtures, bits, group_size):
    model = tq4.open(fixtures / f"b{bits}_g{group_size}")
    for name in model:
        expected = decode(model, name)
        got = model[name].reference()
        assert got.dtype == np.float32 and got.shape == model[name].shape
        assert np.array_equal(got, expected)
        assert np.array_equal(model[name].reference("float16"), expected.astype(np.float16))
        assert tq4.check(expected, model, name).verdict == "identical"


def test_bfloat16_is_that_of_ml_dtypes_or_bits(model, monkeypatch):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    single = model[BASE].reference()
    with_package = model[BASE].reference("bfloat16")
    assert with_package.dtype == ml_dtypes.bfloat16
    assert np.array_equal(with_package, single.astype(ml_dtypes.bfloat16))
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    bits = model[BASE].reference("bfloat16")
    assert bits.dtype == np.uint16
    assert np.array_equal(bits, with_package.view(np.uint16))


@pytest.mark.parametrize("rows", [slice(3, 10), range(3, 10), (3, 10), slice(3, -57), slice(3, 10, 1)])
def test_rows_are_named_in_any_way(model, rows):
    whole = model[BASE].reference()
    assert np.array_equal(model[BASE].reference(rows=rows), whole[3:10])


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ((3, 68), ValueError, r"the tensor has rows 0\.\.67"),
        ((5, 5), ValueError, r"the tensor has rows 0\.\.67"),
        ((-3, 5), ValueError, "-3 found"),
        (slice(-99, 5), ValueError, "-99 found"),
        (slice(0, 9, 2), ValueError, "step 2"),
        (7, TypeError, "expected a slice, a range or"),
        ((1, 2, 3), TypeError, "expected a slice, a range or"),
    ],
)
def test_other_rows_are_refused(model, rows, error, said):
    with pytest.raises(error, match=said):
        model[BASE].reference(rows=rows)


def test_other_types_are_refused(model):
    with pytest.raises(ValueError, match='"float64" found, expected "float32"'):
        model[BASE].reference("float64")


@pytest.mark.parametrize("path", ["tq4_1s.gguf", "tq3_4s.gguf", "native_b3_g64", "native_mixed"])
def test_models_of_other_formats(fixtures, path):
    model = tq4.open(fixtures / path)
    for name in model:
        tensor = model[name]
        values = tensor.reference()
        assert values.shape == tensor.shape
        assert tq4.check(values, model, name).verdict == "identical"
        assert tensor.codec["stored_bits"] == tensor.bits
        before = tensor.codec["signs_before"]
        assert before is None or before.shape == (tensor.group_size,)
