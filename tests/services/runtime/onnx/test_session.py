"""Engines: one ONNX Runtime, OpenVINO where it is installed, threads shared out among processes, no silent change."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from models.catalog.card import Card, Engine
from services.errors import Problem
from services.runtime.onnx import cores, opening
from services.runtime.onnx.embedded import Embedded
from services.runtime.onnx.onnxruntime import check_onnxruntime_install
from services.runtime.onnx.session import Session, open_session
from services.runtime.served import NoObserver
from services.settings import Settings
from tests.support import tiny_models

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the openvino extra is not installed"
)


def _opened(settings: Settings, model: bytes, **engine: object) -> Session:
    card = tiny_models.card("m", model, engine=Engine(**engine))
    folder = tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    return open_session(folder, Card.read(folder), settings)


def _install(folder: Path, *names: str) -> Path:
    for name in names:
        info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    return folder


def test_one_build_of_onnxruntime_passes(tmp_path: Path) -> None:
    assert check_onnxruntime_install([str(_install(tmp_path, "onnxruntime-gpu", "numpy"))]) == "onnxruntime-gpu"


def test_two_builds_are_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Problem) as caught:
        check_onnxruntime_install([str(_install(tmp_path, "onnxruntime", "onnxruntime-gpu"))])
    assert caught.value.code == "onnxruntime-conflict"
    assert caught.value.remedy is not None
    assert caught.value.remedy.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_no_build_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="not installed") as caught:
        check_onnxruntime_install([str(_install(tmp_path, "numpy"))])
    assert "sightline[cpu]" in str(caught.value.remedy)


def test_backend_does_not_start_over_two_builds(tmp_path: Path) -> None:
    """In an interpreter of its own, where the second build really is on the path."""
    code = (
        "import asyncio\n"
        "from services.runtime.onnx.backend import OnnxBackend\n"
        "from services.settings import Settings\n"
        "asyncio.run(OnnxBackend(Settings()).start())\n"
    )
    path = os.pathsep.join([str(_install(tmp_path / "site", "onnxruntime-gpu")), str(Path(__file__).parents[4])])
    environment = {**os.environ, "PYTHONPATH": path, "SIGHTLINE_DATA_DIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "onnxruntime and onnxruntime-gpu overwrite" in ran.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "c"}, "'c' is not in model.onnx"),
        ({"datatype": "INT64"}, "'a' is INT64, in the file FP32"),
        ({"shape": (-1, 5)}, "'a' is [-1, 5], in the file [-1, 4]"),
        ({"shape": (-1,)}, "'a' is [-1], in the file [-1, 4]"),
    ],
)
def test_card_that_does_not_fit_its_file_is_refused(settings: Settings, change: dict[str, object], named: str) -> None:
    model = tiny_models.adder()
    a, b = tiny_models.specs(model)[0]
    card = tiny_models.card("m", model, inputs=(a.model_copy(update=change), b))
    folder = tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    with pytest.raises(Problem) as caught:
        open_session(folder, card, settings)
    assert caught.value.code == "model-invalid"
    assert f"m/1/card.json: inputs: {named}" in caught.value.detail


def test_input_that_the_card_forgets_is_refused(settings: Settings) -> None:
    model = tiny_models.adder()
    card = tiny_models.card("m", model, inputs=tiny_models.specs(model)[0][:1])
    folder = tiny_models.write(settings.models_dir, card, {"model.onnx": model})
    with pytest.raises(Problem, match=r"'b' of model\.onnx is not there"):
        open_session(folder, card, settings)


@needs_openvino
def test_openvino_answers_as_onnxruntime_does(settings: Settings) -> None:
    model = tiny_models.classifier(layers=3)
    image = np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)
    ort = _opened(settings.model_copy(update={"data_dir": settings.data_dir / "a"}), model)
    openvino = _opened(
        settings.model_copy(update={"data_dir": settings.data_dir / "b"}), model, name="openvino", intra_op_threads=1
    )
    assert openvino.engine.startswith("openvino ")
    assert openvino.providers == ("OpenVINO-CPU-f32",)
    assert openvino.reason == ""
    wanted = ort.infer({"image": image}, ["features", "logits"])
    found = openvino.infer({"image": image}, ["features", "logits"])
    assert list(found) == ["features", "logits"]
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)
    again = openvino.infer({"image": image[:1] * 2}, ["logits"])
    assert not np.shares_memory(again["logits"], found["logits"])
    np.testing.assert_allclose(found["logits"], wanted["logits"], rtol=1e-4, atol=1e-5)


@needs_openvino
def test_openvino_in_bfloat16_stays_close_and_says_what_it_runs(settings: Settings) -> None:
    model = tiny_models.classifier(layers=3)
    session = _opened(settings, model, name="openvino", precision="bf16", intra_op_threads=1)
    assert session.providers[0] in ("OpenVINO-CPU-bf16", "OpenVINO-CPU-f32")
    assert (session.reason == "") == session.providers[0].endswith("bf16")
    image = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    exact = (
        open_session(settings.models_dir / "m" / "1", tiny_models.card("m", model), settings)
        .infer({"image": image}, ["features"])["features"]
        .ravel()
    )
    close = session.infer({"image": image}, ["features"])["features"].ravel()
    assert exact @ close / np.linalg.norm(exact) / np.linalg.norm(close) > 0.999


@needs_openvino
def test_openvino_refuses_a_file_that_is_no_model(settings: Settings) -> None:
    card = tiny_models.card("m", tiny_models.adder(), engine=Engine(name="openvino"))
    folder = tiny_models.write(settings.models_dir, card, {"model.onnx": b"nothing"})
    with pytest.raises(Problem) as caught:
        open_session(folder, card, settings)
    assert caught.value.code == "model-invalid"
    assert str(settings.data_dir) not in caught.value.detail


def test_missing_openvino_is_replaced_and_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    session = _opened(settings, tiny_models.adder(), name="openvino")
    assert session.engine.startswith("onnxruntime")
    assert "OpenVINO is not installed" in session.reason
    assert any(record.levelname == "WARNING" for record in caplog.records)


def _topology(root: Path, siblings: dict[int, str]) -> Path:
    for cpu, text in siblings.items():
        folder = root / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(text + "\n")
    return root


def test_hyper_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    cpus = _topology(tmp_path, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"})
    assert cores.physical_cores(cpus, tmp_path / "no-quota") == 2
    assert cores.physical_cores(tmp_path / "unknown", tmp_path / "no-quota") == 4


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", 4), ("150000 100000", 2), ("50000 100000", 1)])
def test_quota_of_a_container_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    (tmp_path / "cpu.max").write_text(quota)
    assert cores.physical_cores(tmp_path / "unknown", tmp_path / "cpu.max") == expected


def test_threads_are_shared_out_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "physical_cores", lambda: 8)
    assert cores.threads_for(0, 1) == 8
    assert cores.threads_for(0, 3) == 2
    assert cores.threads_for(0, 64) == 1
    assert cores.threads_for(5, 4) == 5


@pytest.mark.parametrize(
    ("times", "asked", "chosen"),
    [
        ({1: 0.001, 4: 0.0001}, 0, [1]),  # small: not even tried
        ({1: 0.010, 4: 0.004}, 0, [1, 4]),
        ({1: 0.010, 4: 0.009}, 0, [1, 4, 1]),
        ({3: 0.010}, 3, [3]),  # the card says so
    ],
)
def test_more_threads_are_taken_only_where_they_win(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, times: dict[int, float], asked: int, chosen: list[int]
) -> None:
    """``chosen``: the thread counts opened, and at the end the first again when it was the better one."""
    opened: list[int] = []

    def recording(folder: Path, card: Card, settings: Settings, threads: int) -> Session:
        opened.append(threads)
        return open_session(folder, card, settings, threads)

    def measured(served: Embedded) -> None:
        served.row_seconds = times[opened[-1]]

    monkeypatch.setattr(opening, "open_session", recording)
    monkeypatch.setattr(Embedded, "warm_up", measured)
    monkeypatch.setattr(opening, "threads_for", lambda asked, workers: asked or 4)
    card = tiny_models.card("m", tiny_models.adder(), engine=Engine(intra_op_threads=asked))
    folder = tiny_models.write(settings.models_dir, card, {"model.onnx": tiny_models.adder()})
    with ThreadPoolExecutor(1) as executor:
        served = opening.open_served(folder, card, settings, executor, NoObserver())
    assert served.row_seconds == times[chosen[-1]]
    assert opened == chosen[:2]
