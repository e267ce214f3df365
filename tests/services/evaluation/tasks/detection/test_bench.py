"""Detectors are measured zero-shot by the names of classes and after training on draws; detections can be submitted."""

from __future__ import annotations

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from services.datasets.opening import dataset_store
from services.errors import Problem
from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.tasks.detection.submission import Detections
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import upgrade
from tests.support import cat_photos, tiny_models
from tests.support.jobs import kinds, run_job

OWNER = "key_a"


@pytest.fixture
def services(tmp_path, default_models):
    settings = Settings(data_dir=tmp_path / "data", job_heartbeat=0.2, job_lease=5.0, log_level="warning")
    upgrade(settings.database)
    tiny_models.add_all(settings.models_dir)
    shutil.copytree(default_models / "nanodet-coco", settings.models_dir / "nanodet-coco")
    opened = JobServices.open(settings)
    cat_photos.write(tmp_path / "upload.zip", "cat", train=2)
    dataset_store(settings, opened.engine, opened.artifacts).import_(OWNER, "cats", tmp_path / "upload.zip")
    yield opened
    opened.close()


def submit(services, **fields):
    defaults = {"suite": "dataset:cats", "models": ["nanodet-coco"], "protocols": ["zero-shot", "linear-probe"]}
    parameters = BenchmarkParameters(**(defaults | {"shots": [1], "seeds": [0, 1], "predictions": True} | fields))
    kind = kinds(services)["benchmark"]
    kind.check(services, OWNER, parameters)
    order = Order("benchmark", kind.queue, parameters.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=100)[0]


@pytest.mark.weights
def test_zero_shot_and_draws_are_scored_by_coco_and_can_be_submitted(services) -> None:
    job = submit(services)
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded" and ended.result["failed"] == 0, ended.result
    cells = {(cell["protocol"], cell["shots"]): cell for cell in ended.result["cells"]}
    assert set(cells) == {("zero-shot", 0), ("linear-probe", 1)}
    assert cells["zero-shot", 0]["metric"] == "coco_ap" and cells["zero-shot", 0]["mean"] > 0.5
    assert cells["linear-probe", 1]["seeds"] == [0, 1] and cells["linear-probe", 1]["trainable"] == 177

    made = {one.name: b"".join(services.artifacts.read(one)) for one in services.artifacts.of_job(ended.id)}
    notes = json.loads(made["results.json"])["units"][0]["notes"]
    assert notes["AP50"] >= cells["zero-shot", 0]["mean"]
    with zipfile.ZipFile(io.BytesIO(made["submission-nanodet-coco-linear-probe-1.zip"])) as bundle:
        whole = json.loads(bundle.read("all_predictions.json"))
    assert set(whole["cats"]) == {"0", "1"}
    first = whole["cats"]["0"][0]
    assert set(first) == {"image_id", "category_id", "bbox", "score", "file_name"} and first["category_id"] == 1
    assert {one["image_id"] for one in whole["cats"]["0"]} <= {1, 2}


@pytest.mark.weights
@pytest.mark.parametrize(
    ("fields", "code"),
    [({"models": ["tiny-classifier"]}, "model-does-not-detect"), ({"suite": "pocket"}, "model-does-not-classify")],
)
def test_a_model_of_another_task_is_refused_at_once(services, fields, code) -> None:
    with pytest.raises(Problem) as refused:
        submit(services, **fields)
    assert refused.value.code == code and refused.value.pointer == "/parameters/models/0"


def test_detections_of_images_that_are_drawn_twice_come_twice() -> None:
    found = Detections.of([(0, 1, 0.5, (1, 2, 4, 6)), (2, 0, 0.9, (0, 0, 1, 1))])
    results = found.results([2, 0, 2, 1, 7])
    assert [(one["image_id"], one["category_id"]) for one in results] == [(1, 1), (2, 2), (3, 1)]
    assert results[1]["bbox"] == [1, 2, 3, 4]
    again, files = Detections.read(found.arrays(["a.png", "b.png", "c.png"]))
    assert files == ["a.png", "b.png", "c.png"] and np.array_equal(again.boxes, found.boxes)
    assert Detections.of([]).results(range(3)) == []
