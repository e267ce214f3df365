"""A fine-tuning job that trains the encoder: what it makes serves, is small to keep, and survives a kill."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from models.repository.hashing import verify_version
from models.repository.reading import read_card
from services.classification import Classification, ClassifyRequest
from services.datasets.opening import dataset_store
from services.errors import Kind, Problem
from services.finetuning.encoders.opening import open_encoder
from services.finetuning.kind import FinetuneParameters
from services.jobs import events as job_events
from services.jobs.records import Order
from services.jobs.services import JobServices
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages
from services.storage.database import upgrade
from tests.support import tiny_encoders, tiny_models
from tests.support.jobs import kinds, run_job
from tests.support.tiny_encoders import SIDE

OWNER = "key_a"
FIXED = {"learning_rate": 0.02, "weight_decay": 1e-4, "epochs": 4, "batch_size": 8, "init": "random"}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def services(tmp_path):
    settings = Settings(data_dir=tmp_path / "data", job_heartbeat=0.2, job_lease=2.0, log_level="warning")
    upgrade(settings.database)
    tiny_models.add_all(settings.models_dir)
    tiny_encoders.install(settings.models_dir, "vit", "tiny-vit")
    opened = JobServices.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def dataset(services, tmp_path):
    """Stripes that stand or lie: 20 to train on and 6 to test on, of each; and one lone picture of a third class."""
    rng = np.random.default_rng(0)
    archive = tmp_path / "upload.zip"
    wave = 60 * np.sign(np.sin(np.arange(SIDE)))
    with zipfile.ZipFile(archive, "w") as bundle:
        for split, name, count in (
            ("train", "lying", 20),
            ("train", "standing", 20),
            ("train", "none", 1),
            ("test", "lying", 6),
            ("test", "standing", 6),
        ):
            for number in range(count):
                pixels = rng.normal(128, 20, (SIDE, SIDE, 3))
                pixels += {"lying": wave[:, None, None], "standing": wave[None, :, None], "none": 0}[name]
                sink = io.BytesIO()
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(sink, "PNG")
                bundle.writestr(f"{split}/{name}/{number}.png", sink.getvalue())
    store = dataset_store(services.settings, services.engine, services.artifacts)
    return store.import_(OWNER, "stripes", archive)


def submit(services, **fields):
    parameters = FinetuneParameters(**({"dataset": "stripes", "model": "tiny-vit", "name": "mine"} | FIXED | fields))
    kind = kinds(services)["finetune"]
    kind.check(services, OWNER, parameters)
    return services.jobs.submit(
        OWNER, Order("finetune", kind.queue, parameters.model_dump(mode="json")), max_queued=100
    )[0]


def finish(services, job):
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    return ended


def events(services, job, name):
    return [event.data for event in job_events.after(services.engine, job.id, 0) if event.event == name]


async def test_a_merged_adapter_serves_and_is_kilobytes_to_keep(services, dataset):
    ended = await asyncio.to_thread(finish, services, submit(services, method="lora", options={"rank": 2}, epochs=12))
    assert ended.result["scores"]["test accuracy"] > 0.7
    fit = ended.result["fit"]
    assert (fit["method"], fit["trainable_parameters"], fit["head_parameters"]) == ("lora", 2 * 2 * 2 * 64 * 2, 99)
    root = services.settings.models_dir
    folder = root / "mine" / "1"
    card = verify_version(folder)
    assert "1,024 parameters of the encoder" in card.description and "rank 2" in card.description
    [adapter] = [made for made in services.artifacts.of_job(ended.id) if made.name == "adapter.safetensors"]
    assert adapter.size < 10_000
    with safe_open(folder / "adapter.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["options"]) == {"rank": 2}
    # The encoder of the result can be opened, trained and served again: base and adapter give the exported features.
    encoder = open_encoder(folder, card, root, services.settings.cache_dir)
    images = np.random.default_rng(0).standard_normal((4, 3, SIDE, SIDE)).astype(np.float32)
    backend = OnnxBackend(services.settings.model_copy(update={"preload": ("mine",)}))
    await backend.start()
    try:
        served = (await backend.infer("mine", {"image": images})).outputs["features"]
    finally:
        await backend.close()
    with torch.no_grad():
        np.testing.assert_allclose(encoder(torch.from_numpy(images)).numpy(), served, atol=1e-4)


@pytest.mark.parametrize("method", ["linear_probe", "bitfit"])
def test_a_focalnet_still_tells_where_it_looked(services, dataset, method):
    tiny_encoders.install(services.settings.models_dir, "focalnet", "tiny-focal", looking=True)
    finish(services, submit(services, model="tiny-focal", method=method))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
    picture = Picture(Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)), 80, 60, "PNG")

    async def ask():
        backend = OnnxBackend(services.settings.model_copy(update={"preload": ("tiny-focal", "mine")}))
        await backend.start()
        try:
            maps = [
                (await backend.infer(name, {"image": images}, outputs=["modulation"])).outputs["modulation"]
                for name in ("tiny-focal", "mine")
            ]
            request, model = ClassifyRequest([picture], explain=True), await backend.resolve("mine")
            service = Classification(backend, services.settings)
            answer = await service.classify(model, request, Options.within(30), Stages())
            return maps, answer.results[0]
        finally:
            await backend.close()

    (before, after), result = asyncio.run(ask())
    assert after.shape == before.shape and np.array_equal(before, after) == (method == "linear_probe")
    assert Image.open(io.BytesIO(result.explanation.png)).size == (256, 192)
    assert {one.label for one in result.predictions} == {"lying", "standing", "none"}


def test_an_adapter_that_stays_apart_is_exported_with_the_encoder(services, dataset):
    finish(services, submit(services, method="compacter"))
    folder = services.settings.models_dir / "mine" / "1"
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 4):
        images = np.zeros((count, 3, SIDE, SIDE), np.float32)
        assert session.run(["logits"], {"image": images})[0].shape == (count, 3)
    with pytest.raises(Problem) as caught:
        open_encoder(folder, read_card(folder), services.settings.models_dir, services.settings.cache_dir)
    assert caught.value.code == "encoder-damaged" and "adapt tiny-vit again" in caught.value.detail


def test_a_search_that_is_killed_loses_at_most_the_trial_it_was_in(services, dataset, monkeypatch):
    from services.finetuning import publishing
    from services.finetuning.training import fitting

    real, tried = fitting._Fit._best_epoch, []

    def dies_once_in_the_third(self, trial):
        tried.append(trial.number)
        if tried.count(2) == 1 and trial.number == 2 and len(tried) == 3:
            raise Problem(Kind.UNAVAILABLE, "died", "The worker died", retry_after=0.1)
        return real(self, trial)

    monkeypatch.setattr(fitting._Fit, "_best_epoch", dies_once_in_the_third)
    monkeypatch.setattr(publishing, "_export", lambda model, base, target: target.write_bytes(b"not exported here"))
    monkeypatch.setattr(OnnxBackend, "load", lambda self, name: asyncio.sleep(0))
    searched = {"learning_rate": None, "weight_decay": None, "trials": 4, "search_epochs": 1, "epochs": 2}
    ended = finish(services, submit(services, method="bitfit", **searched))
    assert tried == [0, 1, 2, 2, 3]
    assert ended.result["fit"]["trials"] == 4


def test_small_classes_are_named_in_the_log(services, dataset, monkeypatch):
    job = submit(services, method="linear_probe")
    finish(services, job)
    lines = [event["message"] for event in events(services, job, "log")]
    assert any(line.startswith("none: one training image") for line in lines)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model": "tiny-classifier", "method": "lora"}, "encoder-not-trainable"),
        ({"method": "lora", "options": {"rang": 2}}, "unknown-option"),
        ({"method": "kadaptation", "options": {"parts": "project"}}, "method-unsuitable"),
        ({"method": "full", "learning_rate": 10.0, "weight_decay": 1e6, "epochs": 30}, "training-diverged"),
        ({"method": "lora", "shots": 2}, "too-few-images"),
    ],
)
def test_what_cannot_work_fails_the_job_with_its_reason(services, dataset, fields, code):
    job = submit(services, **fields)
    assert run_job(services, job.id) == "failed"
    error = services.jobs.get(OWNER, job.id).error
    assert error["code"] == code, error
    assert error["pointer"].startswith("/parameters/")


def test_an_unknown_method_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match="adapter, bitfit, compacter"):
        FinetuneParameters(dataset="d", name="mine", method="prompting")


def test_an_encoder_is_trained_under_a_head_that_starts_from_the_class_names(services, dataset, monkeypatch):
    from services.finetuning import publishing
    from services.finetuning import run as finetune

    async def rows(backend, encoder, classes, templates):
        return np.eye(len(classes), 32, dtype=np.float32)

    seen = []
    monkeypatch.setattr(finetune, "class_rows", rows)
    real = finetune.fit
    monkeypatch.setattr(finetune, "fit", lambda *args, **named: seen.append(args[3]) or real(*args, **named))
    monkeypatch.setattr(publishing, "_export", lambda model, base, target: target.write_bytes(b"not exported here"))
    monkeypatch.setattr(OnnxBackend, "load", lambda self, name: asyncio.sleep(0))
    ended = finish(services, submit(services, method="bitfit", init="language"))
    assert "language initialisation" in ended.result["note"]
    torch.testing.assert_close(seen[0], torch.eye(3, 32))
