"""A server follows what commands do to the models on its data directory."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import httpx
from PIL import Image

from services.runtime.desired_state import DesiredStates
from services.runtime.version_policy import VersionPolicy
from services.settings import Settings
from sightline.cli import running
from tests.support import tiny_models
from tests.support.serving import ROOT, eventually, serving


def sightline(data: Path, *arguments: str) -> None:
    """One command, as a person would run it."""
    argv = [sys.executable, "-m", "sightline", *arguments, "--data-dir", str(data)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_imported_model_is_served_at_once_and_a_removed_one_no_more(tmp_path: Path) -> None:
    data, file, labels = tmp_path / "data", tmp_path / "own.onnx", tmp_path / "labels.txt"
    file.write_bytes(tiny_models.classifier(size=32))
    labels.write_text("\n".join(tiny_models.LABELS))
    bring = ["models", "import", str(file), "--name", "own", "--task", "classify", "--labels", str(labels)]
    bring += ["--preprocess", "imagenet-32", "--output", "logits"]
    sink = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(sink, "PNG")

    with serving(data, "--port", "0", "--workers", "2") as server:

        def classify(version: str | None = None) -> int:
            """A connection a request: each worker is asked now and then."""
            address = f"{server.info.url}/v1/classify?model=own" + (f"&version={version}" if version else "")
            return httpx.post(address, content=sink.getvalue(), headers={"content-type": "image/png"}).status_code

        assert classify() == 404
        sightline(data, *bring)
        eventually(lambda: [classify() for _ in range(8)] == [200] * 8)
        sightline(data, *bring)
        eventually(lambda: [classify("2") for _ in range(8)] == [200] * 8)
        sightline(data, "models", "remove", "own", "--version", "2", "--yes")
        eventually(lambda: [classify("1") for _ in range(8)] == [200] * 8)
        sightline(data, "models", "remove", "own", "--yes")
        assert [classify() for _ in range(8)] == [404] * 8
        sightline(data, *bring)
        eventually(lambda: [classify() for _ in range(8)] == [200] * 8)


def test_without_a_server_nothing_is_asked_for_that_preload_would_not_load(settings: Settings) -> None:
    running.came(settings, "own")
    running.changed(settings, "own")
    running.goes(settings, "own")
    assert not (settings.data_dir / "control.json").exists()


def test_what_was_taken_out_of_service_stays_out_when_it_is_pulled_anew_and_not_when_it_is_brought(
    settings: Settings,
) -> None:
    control = DesiredStates.of(settings)
    out = control.write("own", loaded=False)
    running.changed(settings, "own")
    control.refresh()
    assert control.states["own"] == out
    running.came(settings, "own")
    control.refresh()
    assert control.states["own"].loaded


def test_versions_that_were_asked_for_stay_those(settings: Settings) -> None:
    settings.run_dir.mkdir(parents=True)
    (settings.run_dir / "server.json").write_text('{"pid": 1, "url": "http://x", "workers": 1, "started_at": 0}')
    control = DesiredStates.of(settings)
    control.write("own", loaded=True, policy=VersionPolicy("all"))
    running.changed(settings, "own")
    control.refresh()
    assert control.states["own"].policy == VersionPolicy("all")
