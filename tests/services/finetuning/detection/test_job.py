"""A set with boxes becomes a detector that serves; what cannot work is refused at once."""

from __future__ import annotations

import shutil

import pytest

from models.repository.hashing import verify_version
from models.repository.reading import read_card
from services.datasets.opening import dataset_store
from services.errors import Problem
from services.finetuning.kind import FinetuneParameters
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
    shutil.copytree(default_models / "nanodet-coco", settings.models_dir / "nanodet-coco")
    tiny_models.add_all(settings.models_dir)
    opened = JobServices.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def dataset(services, tmp_path):
    cat_photos.write(tmp_path / "upload.zip")
    store = dataset_store(services.settings, services.engine, services.artifacts)
    return store.import_(OWNER, "cats", tmp_path / "upload.zip")


def submit(services, **fields):
    parameters = FinetuneParameters(**({"dataset": "cats", "model": "nanodet-coco", "name": "my-cats"} | fields))
    kind = kinds(services)["finetune"]
    kind.check(services, OWNER, parameters)
    order = Order("finetune", kind.queue, parameters.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=100)[0]


@pytest.mark.weights
def test_a_probe_of_three_photos_serves_and_its_card_has_its_measure(services, dataset) -> None:
    job = submit(services, shots=3)
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    assert ended.result["scores"]["test AP50"] > 0.8

    folder = services.settings.models_dir / "my-cats" / "1"
    card = read_card(folder)
    verify_version(folder)
    assert card.task == "detect" and card.detection is not None and card.detection.decode is not None
    assert (folder / "labels.txt").read_text() == "my cat"
    assert {one.metric for one in card.measured} == {"AP", "AP50"}
    assert {spec.name: spec.shape for spec in card.outputs}["scores"] == (-1, -1, 1)
    with pytest.raises(Problem, match="keeps no network"):
        submit(services, model="my-cats", name="further")


@pytest.mark.weights
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "tiny-classifier"}, "model-unsuitable"),
        ({"model": "nothing"}, "model-not-found"),
        ({"method": "kadaptation"}, "method-unsuitable"),
        ({"options": {"rank": 4}}, "unknown-option"),
        ({"name": "nanodet-coco"}, "model-name-taken"),
    ],
)
def test_what_cannot_work_is_refused_at_once(services, dataset, fields, code) -> None:
    with pytest.raises(Problem) as refused:
        submit(services, **fields)
    assert refused.value.code == code and refused.value.remedy
