"""A pre-training job turns pictures with labels and captions into a model that names what it has seen."""

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from models.catalog.card import Card, Engine
from models.export.onnx import ExportError
from models.export.precision import Chosen
from models.repository.hashing import verify_version
from models.repository.reading import installed
from models.unicl import train
from services.classification import Classification, ClassifyRequest
from services.datasets.opening import dataset_store
from services.embedding import Embedding
from services.errors import Problem
from services.finetuning.encoders.opening import open_encoder
from services.jobs.reaper import Reaper
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.media.image import read_picture
from services.media.intake import Limits
from services.pretraining import run as pretrain
from services.pretraining.export import borne
from services.pretraining.kind import PretrainParameters
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages
from services.storage.database import upgrade
from tests.support import tiny_models
from tests.support.jobs import kinds, run_job

ROOT = Path(__file__).parents[3]
OWNER = "key_a"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 40, 220), "white": (235, 235, 235)}
FAST = {"network": "nano", "image_size": 32, "vocabulary": 512, "steps": 100, "batch_size": 16, "learning_rate": 5e-3}


def opened(folder):
    settings = Settings(data_dir=folder, job_heartbeat=0.2, job_lease=2.0, log_level="warning")
    upgrade(settings.database)
    tiny_models.add_all(settings.models_dir)
    return JobServices.open(settings)


@pytest.fixture
def services(tmp_path):
    found = opened(tmp_path / "data")
    yield found
    found.close()


def upload(services, folder, rows, name="colours"):
    """Noisy pictures in the colours of ``rows``: dicts of colour, split, and a label or a caption or both."""
    rng = np.random.default_rng(0)
    archive = folder / f"{name}.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        lines = []
        for number, (colour, fields) in enumerate(rows):
            pixels = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 25, (36, 40, 3)), 0, 255).astype(np.uint8)
            sink = io.BytesIO()
            Image.fromarray(pixels).save(sink, "PNG")
            bundle.writestr(f"{number}.png", sink.getvalue())
            lines.append(json.dumps({"image": f"{number}.png", **fields}))
        bundle.writestr("labels.jsonl", "\n".join(lines))
    store = dataset_store(services.settings, services.engine, services.artifacts)
    return store.import_(OWNER, name, archive)


def mixed():
    """Of every colour eight pictures with the label, four with a caption, and two of each held out."""
    for colour in COLOURS:
        label, caption = {"label": colour}, {"caption": f"a {colour} square"}
        yield from ((colour, text) for text in [label] * 8 + [caption] * 4)
        yield from ((colour, {**text, "split": "test"}) for text in [label, caption] * 2)


def submit(services, **fields):
    parameters = PretrainParameters(**({"dataset": "colours", "name": "my-colours"} | FAST | fields))
    kind = kinds(services)["pretrain"]
    kind.check(services, OWNER, parameters)
    order = Order("pretrain", kind.queue, parameters.model_dump(mode="json"))
    return services.jobs.submit(OWNER, order, max_queued=100)[0]


def kill_at_a_checkpoint(services, job):
    """Start the job in a process of its own and kill that once something is committed; the steps it had done."""
    command = [sys.executable, "-m", "tests.support.pretrain_worker", str(services.settings.data_dir), job.id]
    worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not services.artifacts.of_job(job.id, "checkpoint"):
            assert worker.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    reaper = Reaper(services.engine, lease=2.0, max_deaths=3)
    while not reaper.sweep():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def log_of(services, job):
    (log,) = [made for made in services.artifacts.of_job(job.id) if made.name == "log.jsonl"]
    return [json.loads(line) for line in b"".join(services.artifacts.read(log)).splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The platform after a real job whose first worker was killed, and the ended job."""
    folder = tmp_path_factory.mktemp("pretrain")
    services = opened(folder / "data")
    upload(services, folder, mixed())
    job = submit(services, precision="int8")
    kill_at_a_checkpoint(services, job)
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    yield services, ended
    services.close()


def test_a_killed_run_goes_on_and_gives_what_it_would_have_given(trained, services, tmp_path, monkeypatch):
    killed_services, job = trained
    assert job.attempt == 2
    upload(services, tmp_path, mixed())
    whole = submit(services)
    monkeypatch.setattr(pretrain._Pretrain, "_publish", lambda self, *about, **named: stand_in(services))
    monkeypatch.setattr(pretrain.announce, "serve", lambda settings, *names: None)
    assert run_job(services, whole.id) == "succeeded"
    ours, theirs = log_of(killed_services, job), log_of(services, whole)
    assert [step["step"] for step in ours] == list(range(100))
    assert [step["loss"] for step in ours] == pytest.approx([step["loss"] for step in theirs], rel=1e-5)


def stand_in(services):
    """A card for a run whose export is not what the test is about."""
    return next(found.card for found in installed(services.settings.models_dir) if found.name == "tiny-classifier")


def test_the_result_names_the_model_and_how_well_it_does(trained):
    services, job = trained
    assert (job.result["model"], job.result["version"]) == ("my-colours", "1")
    assert job.result["scores"]["test zero-shot top-1 accuracy"] == 1.0
    assert job.result["scores"]["test image to caption recall at 1"] > 0
    assert job.result["scores"]["test zero-shot top-1 accuracy in int8"] == 1.0
    folder = services.settings.models_dir
    for name, task in (
        ("my-colours-image", "embed-image"),
        ("my-colours-text", "embed-text"),
        ("my-colours", "zero-shot-classify"),
    ):
        card = verify_version(folder / name / "1")
        assert (card.task, card.family) == (task, "pretrained")
        if task != "zero-shot-classify":
            assert card.engine.precision == "int8" and card.measured[0].source == "pre-training"
    image = folder / "my-colours-image" / "1"  # what is served may be fine-tuned
    encoder = open_encoder(image, Card.read(image), folder, services.settings.cache_dir)
    assert encoder.architecture == "focalnet"
    assert "100 batches of 16" in card.description and "seed 0" in card.description
    assert card.measured[0].n == 8 and "guessing gives 0.25" in card.measured[0].note
    assert {made.name for made in services.artifacts.of_job(job.id)} == {"log.jsonl", "report.json"}


def picture(colour, mode="RGB", size=(48, 40)):
    """As it comes in: encoded in ``mode``, then decoded."""
    sink = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).convert(mode).save(sink, "PNG")
    return read_picture(sink.getvalue(), Limits.of(Settings()))


async def test_it_classifies_explains_and_embeds(trained):
    services, _ = trained
    backend = OnnxBackend(services.settings.model_copy(update={"preload": ("my-colours",)}))
    await backend.start()
    try:
        service, embedding = Classification(backend, services.settings), Embedding()
        model = await backend.resolve("my-colours")
        pictures = [picture(colour) for colour in COLOURS]
        asked = ClassifyRequest(pictures, labels=list(COLOURS), explain=True)
        answer = await service.classify(model, asked, Options.within(30), Stages())
        assert [one.predictions[0].label for one in answer.results] == list(COLOURS)
        assert Image.open(io.BytesIO(answer.results[0].explanation.png)).size == (256, 213)
        images = await embedding.images(model, pictures, None, Options.within(30), Stages())
        texts = await embedding.texts(
            model, [f"a photo of a {colour}." for colour in COLOURS], None, Options.within(30), Stages()
        )
        assert (images.model, texts.model) == ("my-colours", "my-colours")
        assert (images.vectors @ texts.vectors.T).argmax(axis=1).tolist() == [0, 1, 2, 3]
        await check_odd_input(service, model)
    finally:
        await backend.close()


async def check_odd_input(service, model):
    """A label of 500 tokens, a picture of three pixels, gray and transparent pictures: answered like any other."""
    long = " ".join(["square"] * 500)
    for one in (picture("red", size=(3, 1)), picture("red", "L"), picture("red", "RGBA"), picture("red", "LA")):
        asked = ClassifyRequest([one], labels=["red", long], explain=True)
        (result,) = (await service.classify(model, asked, Options.within(30), Stages())).results
        assert {guess.label for guess in result.predictions} == {"red", long}
        assert sum(guess.score for guess in result.predictions) == pytest.approx(1, abs=1e-4)
        assert result.explanation.png.startswith(b"\x89PNG")
    with pytest.raises(Problem) as caught:
        await service.classify(
            model, ClassifyRequest([picture("red")], labels=["red", " "]), Options.within(30), Stages()
        )
    assert (caught.value.code, caught.value.pointer) == ("label-empty", "/labels/1")


def test_the_same_job_run_again_makes_no_second_version(trained):
    """As when a worker dies after writing the version and before the result was published."""
    services, job = trained
    made = [(found.name, found.version) for found in installed(services.settings.models_dir)]
    again = pretrain._Pretrain(_Context(services, job))
    assert again.go()["version"] == "1"
    assert [(found.name, found.version) for found in installed(services.settings.models_dir)] == made


class _Context:
    """What the last lines of a job need of its context."""

    def __init__(self, services, job):
        self.services, self.settings, self.owner, self.job_id = services, services.settings, OWNER, job.id
        self.parameters = PretrainParameters(**job.parameters)
        self.scratch = services.settings.scratch_dir / "again"

    def artifact(self, name, media_type):
        return io.BytesIO()


@pytest.mark.parametrize(
    ("fields", "code", "pointer"),
    [
        ({"dataset": "no-such"}, "dataset-not-found", "/parameters/dataset"),
        ({"name": "tiny-classifier"}, "model-name-taken", "/parameters/name"),
        ({"batch_size": 64}, "too-few-images", "/parameters/batch_size"),
        ({"templates": ["{}", "no place"]}, "template-invalid", "/parameters/templates/1"),
        ({"dataset": "one-class"}, "dataset-classes", "/parameters/dataset"),
        ({"dataset": "boxes"}, "dataset-task", "/parameters/dataset"),
    ],
)
def test_what_can_never_work_is_refused_when_it_is_submitted(services, tmp_path, fields, code, pointer):
    upload(services, tmp_path, mixed())
    upload(services, tmp_path, [("red", {"label": "red"})] * 20, "one-class")
    boxes(services, tmp_path)
    with pytest.raises(Problem) as caught:
        submit(services, **fields)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert caught.value.remedy


def boxes(services, folder):
    """A detection set."""
    sink = io.BytesIO()
    Image.new("RGB", (20, 20)).save(sink, "PNG")
    note = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    with zipfile.ZipFile(folder / "boxes.zip", "w") as bundle:
        bundle.writestr("a.png", sink.getvalue())
        bundle.writestr("annotations.json", json.dumps(note))
    dataset_store(services.settings, services.engine, services.artifacts).import_(OWNER, "boxes", folder / "boxes.zip")


@pytest.mark.parametrize(
    "fields", [{"method": "clip"}, {"name": "x" * 60}, {"image_size": 50}, {"network": "huge"}, {"epochs": 3}]
)
def test_parameters_of_another_form_are_refused(fields):
    with pytest.raises(ValidationError):
        PretrainParameters(**({"dataset": "d", "name": "n"} | fields))


@pytest.mark.parametrize(
    "rows",
    [
        [("red", {"label": "red"})] * 20 + [("blue", {"label": "blue", "split": "test"})] * 4,
        [("red", {"caption": "a square"})] * 20,
    ],
    ids=["one class to train on", "one caption"],
)
def test_a_training_split_that_says_one_thing_is_refused(services, tmp_path, rows):
    upload(services, tmp_path, rows)
    job = submit(services)
    assert run_job(services, job.id) == "failed"
    error = services.jobs.get(OWNER, job.id).error
    assert (error["code"], error["pointer"]) == ("dataset-classes", "/parameters/dataset")


def test_a_precision_that_a_tower_does_not_bear_costs_no_training():
    def serve(asked):
        if asked != "fp32":
            raise ExportError("output 'image_embedding' has cosine 0.5")
        return Chosen(Path("model.onnx"), Engine(reason="Exact"), ())

    made = borne(serve, "int8")
    assert made.engine == Engine(reason="Exact; not int8, since output 'image_embedding' has cosine 0.5")
    assert borne(serve, "fp32").engine.reason == "Exact"


def test_a_run_that_diverges_fails_with_its_reason(services, tmp_path, monkeypatch):
    upload(services, tmp_path, mixed())
    job = submit(services)
    loss = train.unicl_loss
    monkeypatch.setattr(train, "unicl_loss", lambda *features: loss(*features) * float("nan"))
    assert run_job(services, job.id) == "failed"
    error = services.jobs.get(OWNER, job.id).error
    assert (error["code"], error["pointer"]) == ("training-diverged", "/parameters/learning_rate")


def test_a_cancelled_run_stops_at_its_next_step(services, tmp_path):
    upload(services, tmp_path, mixed())
    job = submit(services, steps=1_000_000)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run_job, services, job.id)
        deadline = time.monotonic() + 60
        while not services.jobs.get(OWNER, job.id).progress.get("step") and time.monotonic() < deadline:
            time.sleep(0.05)
        services.jobs.cancel(OWNER, job.id)
        assert running.result(60) == "cancelled"
    assert [found.name for found in installed(services.settings.models_dir) if "colours" in found.name] == []
