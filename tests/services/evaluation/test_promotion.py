"""A promoted model is the one that its benchmark measured: the same answers to the same pictures."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load

from models.catalog.card import Pipeline, TextPreprocess
from models.repository.hashing import verify_version
from services.datasets.opening import dataset_store
from services.evaluation.promotion_kind import PromoteParameters
from services.evaluation.tasks.classification.zero_shot import softmax
from services.jobs.records import Order
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.runtime.onnx.backend import OnnxBackend
from tests.services.evaluation.conftest import OWNER
from tests.support import tiny_encoders, tiny_models
from tests.support.jobs import kinds, run_job

SIDE = 32


@pytest.fixture
def patterns(services, tmp_path):
    """Four classes that are easy to confuse, 7 to learn from, 3 to validate on and 9 to test on, of each."""
    rng = np.random.default_rng(0)
    archive = tmp_path / "upload.zip"
    wave = 25 * np.sign(np.sin(np.arange(SIDE)))
    shapes = {"car": wave[:, None], "cat": wave[None, :], "dog": wave[:, None] * wave / 25, "fish": np.zeros((1, 1))}
    with zipfile.ZipFile(archive, "w") as bundle:
        for split, count in (("train", 7), ("val", 3), ("test", 9)):
            for name, shape in shapes.items():
                for number in range(count):
                    pixels = rng.normal(128, 40, (SIDE, SIDE, 3)) + shape[:, :, None]
                    sink = io.BytesIO()
                    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(sink, "PNG")
                    bundle.writestr(f"{split}/{name}/{number}.png", sink.getvalue())
    dataset_store(services.settings, services.engine, services.artifacts).import_(OWNER, "patterns", archive)
    return "dataset:patterns"


def add_language(root, encoder, dim):
    """An open-vocabulary model over ``encoder``."""
    tower = tiny_models.text_encoder(dim=dim)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=32), "roles": {"embedding": "embedding"}}
    files = {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()}
    tiny_models.write(root, tiny_models.card(f"{encoder}-words", tower, **text), files)
    pipeline = Pipeline(kind="dual-encoder", image_model=encoder, text_model=f"{encoder}-words")
    tiny_models.write(root, tiny_models.card(f"{encoder}-open", task="zero-shot-classify", pipeline=pipeline), {})


def finish(services, job):
    outcome = run_job(services, job.id)
    ended = services.jobs.get(OWNER, job.id)
    assert outcome == "succeeded", ended.error
    return ended


def promote(services, benchmark, name):
    parameters = PromoteParameters(benchmark=benchmark.id, name=name)
    kind = kinds(services)["promote"]
    kind.check(services, OWNER, parameters)
    order = Order(kind.name, kind.queue, parameters.model_dump())
    return finish(services, services.jobs.submit(OWNER, order, max_queued=10)[0])


def served(services, name):
    """Probabilities of the live model for the test pictures, and their labels."""
    settings = services.settings
    store = dataset_store(settings, services.engine, services.artifacts)
    with store.open(store.get(OWNER, "patterns"), settings.cache_dir / "datasets") as package:
        samples = package.split("test")
        pictures = [read_picture(package.read(stored), Limits.of(settings)) for stored in samples]
    labels = np.array([stored.sample.labels[0] for stored in samples])

    async def ask():
        backend = OnnxBackend(settings.model_copy(update={"preload": (name,)}))
        await backend.start()
        try:
            card = (await backend.resolve(name)).card
            pixels = Preprocessor(card.image).batch(pictures)
            return (await backend.infer(name, {card.image.input: pixels})).outputs[card.logits]
        finally:
            await backend.close()

    return softmax(asyncio.run(ask())), labels


def measured(services, benchmark):
    """Probabilities that the benchmark kept of its only adapted unit."""
    [made] = [made for made in services.artifacts.of_job(benchmark.id) if made.name.endswith(".safetensors")]
    return load(b"".join(services.artifacts.read(made)))["probabilities"]


@pytest.mark.parametrize("knowledge", [False, True])
def test_a_few_shot_probe_answers_as_its_benchmark_did(services, patterns, submit, knowledge):
    """One epoch of one batch: without exact normalisation the running statistics would be nearly unset."""
    add_language(services.settings.models_dir, "tiny-classifier", tiny_models.FEATURES)
    fixed = {"learning_rate": 0.01, "weight_decay": 1e-4, "epochs": 1, "metric": "mean-per-class"}
    protocol = {"name": "mine", "method": "linear_probe", "init": "language"}
    if knowledge:  # what is said of the classes is in the rows that the head starts from
        protocol["knowledge"] = "gpt3"
        said = {name: f"a {name} that is old" for name in ("car", "cat", "dog", "fish")}
        with services.artifacts.draft() as draft:
            draft.write(json.dumps(said).encode())
            stored = services.artifacts.add(draft, OWNER, "said.json", "application/json")
        fixed["knowledge"] = f"artifact:{stored.id}"
    benchmark = finish(
        services,
        submit(suite=patterns, models=["tiny-classifier-open"], protocols=[protocol], shots=[5],
               predictions=True, **fixed),
    )  # fmt: skip
    [cell] = benchmark.result["cells"]
    made = promote(services, benchmark, "mine")
    found, labels = served(services, "mine")
    np.testing.assert_allclose(found, measured(services, benchmark), atol=1e-4)
    assert np.mean(found.argmax(axis=1) == labels) == pytest.approx(cell["mean"])
    assert made.result["scores"]["test mean-per-class"] == pytest.approx(cell["mean"], abs=1e-4)
    assert made.result["benchmark_draw"] == cell["mean"]


@pytest.mark.parametrize("method", ["full", "bitfit", "adapter", "lora", "kadaptation"])
def test_a_strategy_that_trains_the_encoder_is_promoted_as_it_was_measured(services, patterns, submit, method):
    root = services.settings.models_dir
    tiny_encoders.install(root, "vit", "tiny-vit")
    add_language(root, "tiny-vit", 32)
    fixed = {"learning_rate": 0.02, "weight_decay": 1e-4, "epochs": 2}
    protocol = {"name": method, "method": method, "init": "language"}
    benchmark = finish(
        services,
        submit(suite=patterns, models=["tiny-vit-open"], protocols=[protocol], shots=[5], predictions=True, **fixed),
    )
    made = promote(services, benchmark, "mine")
    found, labels = served(services, "mine")
    np.testing.assert_allclose(found, measured(services, benchmark), atol=1e-3)
    card = verify_version(root / "mine" / "1")
    [test] = [one for one in card.measured if one.dataset == "patterns test"]
    assert test.value == pytest.approx(np.mean(found.argmax(axis=1) == labels), abs=1e-4)
    assert card.description.startswith(method) and made.result["fit"]["trainable_parameters"] > 0
    trained = made.result["fit"]["trainable_parameters"] + made.result["fit"]["head_parameters"]
    assert trained == benchmark.result["cells"][0]["trainable"]
