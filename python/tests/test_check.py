import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import tq4
from decode import decode

BASE = "fixture.tail_rows"


def sign_bug(values, n=128):
    """The upper lane of each butterfly has the other sign."""
    odd = np.array([bin(i % n).count("1") % 2 for i in range(values.shape[1])], bool)
    return np.where(odd, -values, values)


def test_the_reference_passes_in_each_type(model):
    for dtype in ("float32", "float16", "bfloat16"):
        verdict = tq4.check(model[BASE].reference(dtype), model, BASE + ".weight")
        assert verdict and verdict.passed and verdict.verdict == "identical"
        assert (verdict.dtype, verdict.name, verdict.shape) == (dtype, BASE, (67, 256))
        assert (verdict.elements, verdict.mismatched, verdict.unequal) == (67 * 256, 0, 0)
        assert verdict.fault is None and verdict.diagnosis is None and verdict.worst is None
        assert verdict.arithmetic == "identical"
        assert verdict.cosine == pytest.approx(1, abs=1e-5)
        assert "identical" in repr(verdict) and "all 17152 elements equal" in str(verdict)


def test_another_correct_arithmetic_is_allowed_and_named(model):
    values = decode(model, BASE, norm=1 / np.sqrt(np.float32(128)))
    verdict = tq4.check(values, model, BASE)
    assert verdict and verdict.verdict == "allowed" and verdict.arithmetic == "multiply"
    assert 0 < verdict.unequal < verdict.elements and verdict.mismatched == 0
    tq4.assert_decodes(values, model, BASE)


def test_a_fault_is_named(model):
    verdict = tq4.check(sign_bug(model[BASE].reference()), model, BASE)
    assert not verdict and verdict.verdict == "differs"
    assert verdict.fault == "fwht_upper_lane_sign" and "lower - upper" in verdict.advice
    assert verdict.mismatched == verdict.unequal > 8000
    assert verdict.rmse_ratio == pytest.approx(1.41, abs=0.05) and verdict.max_abs > 0
    assert "fwht_upper_lane_sign" in repr(verdict)


def test_one_wrong_element_is_shown(model):
    values = model[BASE].reference("float32")
    values[20, 41] = 1.5
    worst = tq4.check(values, model, BASE).worst
    assert worst.index == (20, 41) and worst.got == 1.5
    assert worst.expected == model[BASE].reference()[20, 41]
    assert worst.allowed[0] <= worst.expected <= worst.allowed[1] < 1.5
    # The same element of some rows counts from their first.
    verdict = tq4.check(values[18:25], model, BASE, rows=slice(18, 25))
    assert verdict.rows == (18, 25) and verdict.shape == (7, 256)
    assert verdict.worst.index == (2, 41) and verdict.worst.expected == worst.expected


def test_nan_is_shown(model):
    values = model[BASE].reference("float16")
    values[1, 2] = np.nan
    verdict = tq4.check(values, model, BASE)
    assert not verdict and verdict.worst.index == (1, 2) and np.isnan(verdict.worst.got)
    assert "at index (1, 2): got NaN or infinity, expected" in str(verdict)
    assert "Mismatched elements: 1 / 17152 (under 0.1%)" in str(verdict)


def write_model(directory, centroids, group_size, codes):
    """A model of one tensor, `a`, whose scales and signs are 1, as a safetensors file has it."""
    rows, columns = codes.shape
    parts = {
        "a.tq_packed": ("U8", codes[:, ::2] | codes[:, 1::2] << 4),
        "a.tq_scales": ("F16", np.ones((rows, columns // group_size), np.float16)),
        "a.tq_signs": ("I8", np.ones(columns, np.int8)),
    }
    header, data = {}, b""
    for name, (dtype, part) in parts.items():
        ends = [len(data), len(data) + part.nbytes]
        header[name] = {"dtype": dtype, "shape": part.shape, "data_offsets": ends}
        data += part.tobytes()
    header = json.dumps(header).encode()
    directory.mkdir()
    file = len(header).to_bytes(8, "little") + header + data
    (directory / "model.safetensors").write_bytes(file)
    config = {"quant_type": "turboquant", "bits": 4, "group_size": group_size, "rotation": "hadamard"}
    config["centroids"] = centroids
    (directory / "turboquant_config.json").write_text(json.dumps(config))
    return tq4.open(directory)


def test_rounding_ties_away_from_zero_is_a_fault_without_a_mismatch(tmp_path):
    # Integers, whose sums are exact and now and then in the middle of two values of bfloat16.
    codes = np.random.default_rng(2).integers(0, 16, (32, 256), np.uint8)
    model = write_model(tmp_path / "model", [329.0 * k for k in range(-8, 8)], 64, codes)
    single = model["a"].reference()
    assert np.array_equal(single, decode(model, "a"))
    bits = ((single.view(np.uint32) + 0x8000) >> 16).astype(np.uint16)
    verdict = tq4.check(bits, model, "a")
    assert not verdict and verdict.mismatched == 0 < verdict.unequal
    assert verdict.fault == "bf16_round_half_up" and "each of which" in str(verdict)
    assert verdict.worst.allowed is None


def test_what_an_assertion_says(model):
    name = BASE + ".weight"
    tq4.assert_decodes(model[BASE].reference(), model, name)
    with pytest.raises(AssertionError) as raised:
        tq4.assert_decodes(sign_bug(model[BASE].reference()), model, name)
    lines = str(raised.value).splitlines()
    assert lines[0] == "float32 of fixture.tail_rows, rows 0..67: these are not the values that TQ4 stands for."
    assert lines[1] == ""
    starts = [
        r"Mismatched elements: \d+ / 17152 \(\d+\.\d%\)$",
        r"Greatest absolute difference: [\d.e-]+ at index \(\d+, \d+\): got -?[\d.]+, expected -?[\d.]+$",
        r"Furthest outside what is allowed: index \(\d+, \d+\): got .*, expected .*, allowed .* to .*$",
        r"RMSE over RMS of the reference: 1\.4\d*; cosine: ",
        r"Fault: fwht_upper_lane_sign: the upper lane",
    ]
    assert len(lines) == 2 + len(starts)
    for line, start in zip(lines[2:], starts):
        assert re.match(start, line), line


def test_an_unknown_fault_is_told_by_what_is_known_of_it(model):
    rng = np.random.default_rng(1)
    values = rng.standard_normal((67, 256)).astype(np.float32)
    verdict = tq4.check(values, model, BASE)
    assert not verdict and verdict.fault is None and verdict.advice is None
    assert "not in the catalogue" in verdict.diagnosis and "Fault: not in the catalogue" in str(verdict)


@pytest.mark.parametrize("tolerance", ["rmse=0.01", {"rmse": 0.01}, {"atol": 0.1, "rtol": np.float64(0.0)}])
def test_a_tolerance_is_text_or_a_dictionary(model, tolerance):
    values = model[BASE].reference() * np.float32(1.001)
    assert not tq4.check(values, model, BASE)
    verdict = tq4.check(values, model, BASE, tolerance=tolerance)
    assert verdict and verdict.verdict == "within tolerance" and verdict.mismatched > 0
    assert verdict.beyond_tolerance == 0
    tq4.assert_decodes(values, model, BASE, tolerance=tolerance)


def test_beyond_a_tolerance(model):
    values = model[BASE].reference() * np.float32(1.1)
    with pytest.raises(AssertionError, match="Tolerance: beyond the tolerance atol=0.00001: "):
        tq4.assert_decodes(values, model, BASE, tolerance={"atol": 1e-5})
    verdict = tq4.check(values, model, BASE, tolerance={"atol": 1e-5})
    assert verdict.beyond_tolerance > 0
    with pytest.raises(ValueError, match="rmse=0.01, or atol"):
        tq4.check(values, model, BASE, tolerance="abs=3")


def test_the_record_is_the_reports(model):
    verdict = tq4.check(model[BASE].reference("bfloat16", (1, 4)), model, BASE, rows=(1, 4))
    record = verdict.to_dict()
    assert record == json.loads(verdict.to_json())
    assert (record["tensor_base"], record["row_start"], record["row_count"]) == (BASE, 1, 3)
    assert (record["bits"], record["group_size"], record["bytes"]) == (4, 128, 3 * (128 + 4) + 256)
    decision = next(d for d in record["decisions"] if d["lane"] == "actual")
    assert decision["verdict"] == "identical" and decision["exactness"]["output"] == "bf16"


def test_threads_run_beside_a_check(model):
    """The interpreter is free while a check works, and two checks at once are right."""
    verdicts = []
    values = model[BASE].reference()

    def work():
        verdicts.extend(bool(tq4.check(values, model, BASE)) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [True] * 15


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(model):
    values = model[BASE].reference()
    assert tq4.check(values, model, BASE)
    child = os.fork()
    if child == 0:
        os._exit(0 if tq4.check(values, model, BASE) else 1)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0
            return
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child waits for threads that it does not have")


def test_the_command_does_without_numpy(command):
    code = "import sys, tq4._command; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
