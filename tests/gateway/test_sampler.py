"""What the sampler tells of models: served, missing, or unloaded because somebody wanted that."""

from __future__ import annotations

import asyncio
import contextlib
import math
import shutil
from pathlib import Path

import pytest

from gateway.request.admission import Admission
from gateway.sampler import Sampler, run
from gateway.telemetry import Telemetry
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import WorkerStatus
from services.settings import Settings
from tests.support import tiny_models


async def test_a_model_that_fails_to_load_is_not_ready_from_the_start(settings: Settings, repository: Path) -> None:
    with (repository / "tiny-classifier" / "1" / "model.onnx").open("ab") as file:
        file.write(b"damage")
    wanted = ("tiny-classifier", "tiny-text")
    backend, telemetry = OnnxBackend(settings.model_copy(update={"preload": wanted})), Telemetry()
    await backend.start()
    try:
        Sampler(backend, telemetry).sample()
        value = telemetry.registry.get_sample_value
        ready = {
            name: value("sightline_model_ready", {"model": name, "version": "1"}) for name in (*wanted, "tiny-adder")
        }
        assert ready == {"tiny-classifier": 0, "tiny-text": 1, "tiny-adder": None}
    finally:
        await backend.close()


async def test_a_model_that_was_unloaded_on_request_is_no_model_that_is_not_ready(
    settings: Settings, repository: Path
) -> None:
    backend, telemetry = OnnxBackend(settings), Telemetry()
    sampler = Sampler(backend, telemetry)

    def ready(name: str, version: str = "1") -> float:
        sampler.sample()
        value = telemetry.registry.get_sample_value("sightline_model_ready", {"model": name, "version": version})
        assert value is not None
        return value

    await backend.start()
    try:
        assert ready("tiny-adder") == 1
        await backend.unload("tiny-adder")
        assert math.isnan(ready("tiny-adder"))
        await backend.load("tiny-adder")
        assert ready("tiny-adder") == 1
        tiny_models.add_adder(settings.models_dir, version="2", offset=1)
        await backend.load("tiny-adder")
        assert (ready("tiny-adder", "1"), ready("tiny-adder", "2")) == (0, 1)
        shutil.rmtree(repository / "tiny-text")
        assert ready("tiny-text") == 1
        await backend.unload("tiny-text")
        assert math.isnan(ready("tiny-text"))
    finally:
        await backend.close()


async def test_the_torch_worker_is_told_of_while_a_model_needs_it(
    settings: Settings, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[WorkerStatus | None] = [None]
    monkeypatch.setattr(OnnxBackend, "torch_worker", property(lambda backend: said[-1]))
    backend, telemetry = OnnxBackend(settings), Telemetry()
    sampler = Sampler(backend, telemetry)

    def told(status: WorkerStatus | None) -> tuple[float | None, ...]:
        said.append(status)
        sampler.sample()
        value = telemetry.registry.get_sample_value
        names = ("up", "start_time_seconds", "resident_memory_bytes", "memory_limit_bytes")
        runs = [value("sightline_torch_worker_runs", {"state": state}) for state in ("running", "waiting")]
        return (*(value(f"sightline_torch_worker_{name}") for name in names), *runs)

    up, *rest = told(None)
    assert up is not None and math.isnan(up) and rest == [0, 0, 0, 0, 0]
    assert told(WorkerStatus(up=False)) == (0, 0, 0, 0, 0, 0)
    at_work = WorkerStatus(up=True, started=7.5, resident=300, memory_limit=400, running=2, waiting=1)
    assert told(at_work) == (1, 7.5, 300, 400, 2, 1)
    assert told(WorkerStatus(up=False)) == (0, 7.5, 0, 0, 0, 0)  # a new one has a new time: that is counted
    await backend.close()


async def test_admitted_work_is_told_by_what_it_costs(settings: Settings, repository: Path) -> None:
    backend, telemetry, admission = OnnxBackend(settings), Telemetry(), Admission(16)
    with admission.admit(), admission.admit() as large:
        large.grow(5)
        sampling = asyncio.create_task(run(backend, telemetry, admission))
        await asyncio.sleep(0)
        assert telemetry.registry.get_sample_value("sightline_inflight_units") == 6
        sampling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sampling
    await backend.close()
