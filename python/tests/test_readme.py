"""The README's Python runs as it is written."""

import pathlib
import re

import pytest

import tq4

README = pathlib.Path(__file__).parents[2] / "README.md"


def test_the_readme(model, monkeypatch):
    [block] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    [name] = set(re.findall(r'"(model\.[\w.]+)"', block))
    monkeypatch.setattr(tq4, "open", lambda path: model)
    block = block.replace(name, "fixture.tail_rows")
    right = {"my_kernel": lambda tensor: tensor.reference("bfloat16")}
    exec(block, right)
    wrong = {"my_kernel": lambda tensor: -tensor.reference("float32")}
    with pytest.raises(AssertionError, match="Mismatched elements"):
        exec(block, wrong)
