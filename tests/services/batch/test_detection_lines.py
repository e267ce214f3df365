"""Lines of a batch may ask for boxes and phrases, and are answered by the gateway as any request is."""

from __future__ import annotations

import base64
from pathlib import Path

import orjson

from services.batch import kind as batch
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import connect
from tests.support import tiny_detectors, tiny_models
from tests.support.jobs import run_job
from tests.support.server import serving
from tests.support.tiny_detectors import png, quarters

WITH_KIND = """
from services.detection import kinds
from tests.support.tiny_detectors import KIND
kinds.KINDS["quarters"] = KIND
"""
IMAGE = base64.b64encode(png(quarters((255, 0, 0), "black", (0, 0, 255), "black"))).decode()


def test_detect_and_ground_are_lines_like_any_other(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", log_level="warning", default_detector="tiny-open")
    settings.models_dir.mkdir(parents=True)
    tiny_models.add_text_encoder(settings.models_dir)
    tiny_detectors.add_open(settings.models_dir)
    lines = [
        {"custom_id": "a", "url": "/v1/detect", "body": {"image": IMAGE, "labels": ["red"]}},
        {"custom_id": "b", "url": "/v1/ground", "body": {"image": IMAGE, "caption": "a blue hat"}},
        {"custom_id": "c", "body": {"image": IMAGE, "labels": ["blue"]}},
        {"custom_id": "d", "body": {"image": IMAGE, "labels": []}},
    ]
    with serving(settings, tmp_path, wrapper=WITH_KIND) as server:
        calling = settings.model_copy(update={"gateway_url": server.url})
        services = JobServices.over(calling, connect(settings.database))
        checked = batch.BatchParameters.model_validate({"input": lines, "endpoint": "/v1/detect"})
        batch.check(services, "anonymous", checked)
        order = Order("batch", "batch", checked.model_dump(mode="json"))
        job, _ = services.jobs.submit("anonymous", order, max_queued=10)
        assert run_job(services, job.id) == "succeeded"
        (made,) = services.artifacts.of_job(job.id)
        rows = [orjson.loads(line) for line in b"".join(services.artifacts.read(made)).splitlines()]
        services.engine.dispose()

    assert [row["custom_id"] for row in rows] == ["a", "b", "c", "d"]
    bodies = [row["response"]["body"] for row in rows]
    assert [one["label"] for one in bodies[0]["results"][0]["detections"]] == ["red"]
    assert [phrase["span"] for phrase in bodies[1]["results"][0]["phrases"]] == [[0, 10]]
    assert [one["label"] for one in bodies[2]["results"][0]["detections"]] == ["blue"]
    assert (rows[3]["response"]["status_code"], bodies[3]["pointer"]) == (422, "/labels")
