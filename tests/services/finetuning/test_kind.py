"""A fine-tuning job turns a data set into a model version that serves, once, whatever happens on the way."""

import asyncio
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline, TextPreprocess
from models.repository.hashing import verify_version
from models.repository.reading import installed
from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.finetuning.kind import FinetuneParameters
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.onnx.backend import OnnxBackend
from services.settings import Settings
from services.storage.database import upgrade
from tests.support import tiny_models
from tests.support.jobs import kinds, run_job

OWNER = "key_a"
COLOURS = {"red cat": (220, 40, 40), "green car": (40, 200, 60), "old dog": (70, 70, 210)}


@pytest.fixture
def services(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", job_heartbeat=0.2, job_lease=2.0, log_level="warning")
    upgrade(settings.database)
    tiny_models.add_all(settings.models_dir)
    opened = JobServices.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def dataset(services, tmp_path):
    """Noisy squares of three colours: 12 to train on, 6 to test on, of each."""
    rng = np.random.default_rng(0)
    archive = tmp_path / "upload.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for split, count in (("train", 12), ("test", 6)):
            for name, colour in COLOURS.items():
                for number in range(count):
                    pixels = np.clip(np.array(colour) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
                    sink = io.BytesIO()
                    Image.fromarray(pixels).save(sink, "PNG")
                    bundle.writestr(f"{split}/{name}/{number}.png", sink.getvalue())
    store = dataset_store(services.settings, services.engine, services.artifacts)
    return store.import_(OWNER, "colours", archive)


def add_language(services):
    """An open-vocabulary model over the tiny classifier, so that class names mean something to it."""
    root = services.settings.models_dir
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=32), "roles": {"embedding": "embedding"}}
    files = {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()}
    tiny_models.write(root, tiny_models.card("tiny-tower", tower, **text), files)
    pipeline = Pipeline(kind="dual-encoder", image_model="tiny-classifier", text_model="tiny-tower")
    tiny_models.write(root, tiny_models.card("tiny-open", task="zero-shot-classify", pipeline=pipeline), {})


def submit(services, **fields):
    defaults = {"dataset": "colours", "model": "tiny-classifier", "name": "my-colours", "init": "random"}
    parameters = FinetuneParameters(**(defaults | fields))
    kind = kinds(services)["finetune"]
    kind.check(services, OWNER, parameters)
    order = Order("finetune", kind.queue, parameters.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=100)[0]


def finish(services, job):
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    return ended


async def serve(services, name, pixels):
    backend = OnnxBackend(services.settings.model_copy(update={"preload": (name,)}))
    await backend.start()
    try:
        return (await backend.infer(name, {"image": pixels})).outputs["logits"], (await backend.resolve(name)).card
    finally:
        await backend.close()


FIXED = {"learning_rate": 0.1, "weight_decay": 1e-4, "epochs": 20}


async def test_the_model_serves_and_knows_the_classes(services, dataset):
    ended = await asyncio.to_thread(finish, services, submit(services, **FIXED))
    assert (ended.result["model"], ended.result["version"]) == ("my-colours", "1")
    assert ended.result["scores"]["test accuracy"] > 0.9
    pictures = [Picture(Image.new("RGB", (32, 32), colour), 32, 32, "PNG") for colour in COLOURS.values()]
    card = next(found.card for found in installed(services.settings.models_dir) if found.name == "my-colours")
    logits, served = await serve(services, "my-colours", Preprocessor(card.image).batch(pictures))
    names = (services.settings.models_dir / "my-colours" / "1" / "labels.txt").read_text().splitlines()
    assert [names[index] for index in logits.argmax(axis=1)] == list(COLOURS)
    assert served.measured[-1].dataset == "colours test"


def test_the_card_says_what_was_done_and_the_version_is_whole(services, dataset):
    ended = finish(services, submit(services, **FIXED, shots=5, seed=3))
    card = verify_version(services.settings.models_dir / "my-colours" / "1")
    assert "15 images of 'colours' in 3 classes" in card.description and "seed 3" in card.description
    assert card.provenance[0].source == f"dataset:{dataset.id}"
    [report] = [made for made in services.artifacts.of_job(ended.id) if made.name == "report.json"]
    assert json.loads(b"".join(services.artifacts.read(report)))["parameters"]["shots"] == 5


def test_the_search_reports_every_trial(services, dataset):
    ended = finish(services, submit(services))
    assert "trials" in ended.result["note"] and ended.result["scores"]["test accuracy"] > 0.9


def test_language_initialisation_needs_an_open_model_over_the_encoder(services, dataset):
    job = submit(services, init="language", **FIXED)
    assert run_job(services, job.id) == "failed"
    assert services.jobs.get(OWNER, job.id).error["code"] == "no-language-model"
    add_language(services)
    ended = finish(services, submit(services, init="language", **FIXED))
    assert "language initialisation" in ended.result["note"]


def test_the_same_job_run_again_makes_no_second_version(services, dataset, monkeypatch):
    """As when a worker dies after writing the version and before the result was published."""
    from services.finetuning import run as finetune

    job = submit(services, **FIXED)
    calls = []

    def die(self, card, data):
        calls.append(card.version)
        if len(calls) == 1:
            raise Problem(Kind.UNAVAILABLE, "died", "The worker died", retry_after=0.1)
        return {"model": card.name, "version": card.version}

    monkeypatch.setattr(finetune._Finetune, "_result", die)
    assert run_job(services, job.id) == "succeeded"
    assert calls == ["1", "1"]
    assert [found.version for found in installed(services.settings.models_dir) if found.name == "my-colours"] == ["1"]


def test_a_second_fine_tuning_of_the_name_is_its_next_version(services, dataset):
    finish(services, submit(services, **FIXED))
    assert finish(services, submit(services, **FIXED, seed=1)).result["version"] == "2"


def test_a_name_that_another_took_meanwhile_gets_no_version_of_ours(services, dataset):
    job = submit(services, **FIXED)
    theirs = services.settings.models_dir / "my-colours" / "1"
    finish(services, submit(services, **FIXED))
    card = json.loads((theirs / "card.json").read_text())
    card["provenance"][0]["note"] = "made by job job_1 for key_b"
    (theirs / "card.json").write_text(json.dumps(card))
    (theirs.parent / "ownership.json").unlink()  # as the release before has written it
    assert run_job(services, job.id) == "failed"
    assert services.jobs.get(OWNER, job.id).error["code"] == "model-name-taken"
    assert [found.version for found in installed(services.settings.models_dir) if found.name == "my-colours"] == ["1"]


def test_a_report_that_a_dead_attempt_did_not_write_is_written_by_the_next(services, dataset, monkeypatch):
    from services.finetuning import run as finetune

    real, tries = finetune._Finetune._report, []

    def die_once(self, card):
        tries.append(card.version)
        if len(tries) == 1:
            raise Problem(Kind.UNAVAILABLE, "died", "The worker died", retry_after=0.1)
        real(self, card)

    monkeypatch.setattr(finetune._Finetune, "_report", die_once)
    ended = finish(services, submit(services, **FIXED))
    assert tries == ["1", "1"]
    assert [made.name for made in services.artifacts.of_job(ended.id)] == ["adapter.safetensors", "report.json"]


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"dataset": "no-such"}, "dataset-not-found", "/parameters/dataset"),
        ({"name": "tiny-classifier"}, "model-name-taken", "/parameters/name"),
        ({"learning_rate": 0.1}, "hyper-parameters", "/parameters/learning_rate"),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_submitted(services, dataset, fields, code, pointer):
    with pytest.raises(Problem) as caught:
        submit(services, **fields)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"shots": 13}, "too-few-images"),
        ({"model": "tiny-text"}, "model-embeds-no-image"),
        ({"shots": 1, "learning_rate": None, "weight_decay": None}, "too-few-images"),
        ({"learning_rate": 10.0, "weight_decay": 1e6}, "training-diverged"),
    ],
)
def test_what_shows_only_at_work_fails_the_job_with_its_reason(services, dataset, fields, code):
    job = submit(services, **(FIXED | fields))
    assert run_job(services, job.id) == "failed"
    assert services.jobs.get(OWNER, job.id).error["code"] == code


def test_a_set_of_another_key_is_not_found(services, dataset):
    parameters = FinetuneParameters(dataset=dataset.id, name="theirs")
    with pytest.raises(Problem) as caught:
        kinds(services)["finetune"].check(services, "key_b", parameters)
    assert caught.value.code == "dataset-not-found"
