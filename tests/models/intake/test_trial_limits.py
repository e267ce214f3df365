"""A trial run ends: a file of a few kilobytes can ask for any time and any memory."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest
from onnx import parser

from models.errors import ModelError
from models.intake.importing import About, import_onnx
from models.repository.reading import installed


def take(folder: Path, model: onnx.ModelProto, about: About) -> None:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    import_onnx(folder / "m.onnx", "mine", "tensor", folder / "r", about=about)


def refused(folder: Path, model: onnx.ModelProto, about: About) -> ModelError:
    with pytest.raises(ModelError) as refusal:
        take(folder, model, about)
    assert not installed(folder / "r") and not list((folder / "r").glob(".*.writing"))
    return refusal.value


def doubling(times: int) -> onnx.ModelProto:
    """``times`` functions that each call the one before twice: two to that power operators when written out."""
    functions = "\n".join(
        f'<domain: "own", opset_import: ["" : 17, "own" : 1]> F{n + 1} (x) => (y) {{ a = own.F{n}(x) y = own.F{n}(a) }}'
        for n in range(times)
    )
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17, "own" : 1]> g (float[N,2] x) => (float[N,2] y) '
        f'{{ y = own.F{times}(x) }} <domain: "own", opset_import: ["" : 17]> F0 (x) => (y) {{ y = Neg(x) }} {functions}'
    )


def test_functions_that_double_are_ended_in_time_and_said(tmp_path: Path) -> None:
    begin = time.monotonic()
    refusal = refused(tmp_path, doubling(41), About(trial_seconds=1.5))
    assert "was ended after 1.5 s" in str(refusal) and "--trial-seconds" in refusal.remedy
    assert time.monotonic() - begin < 60
    take(tmp_path, doubling(3), About())


def test_memory_beyond_the_limit_is_refused_and_more_is_allowed_as_the_remedy_says(tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] y) '
        "<int64[1] many = {90000000}> { z = ConstantOfShape(many) m = ReduceMax<keepdims = 0>(z) y = Add(x, m) }"
    )
    refusal = refused(tmp_path, model, About(trial_gib=0.3))
    assert "0.3 GiB" in str(refusal) and "--trial-memory" in refusal.remedy
    take(tmp_path, model, About(trial_gib=3))


def test_an_engine_that_dies_takes_nothing_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    refusal = refused(tmp_path, doubling(1), About())
    assert "died of the trial run (exit code 1)" in str(refusal) and refusal.remedy
