"""A platform with tiny models, an open-vocabulary one among them, and data sets that take a second."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline, TextPreprocess
from services.datasets.opening import dataset_store
from services.evaluation.parameters import BenchmarkParameters
from services.jobs.records import Job, Order
from services.jobs.services import JobServices
from services.settings import Settings
from services.storage.database import upgrade
from tests.support import tiny_models
from tests.support.jobs import kinds

OWNER = "key_a"
COLOURS = {"red cat": (220, 40, 40), "green car": (40, 200, 60), "old dog": (70, 70, 210)}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[JobServices]:
    settings = Settings(data_dir=tmp_path / "data", job_heartbeat=0.2, job_lease=5.0, log_level="warning")
    upgrade(settings.database)
    root = settings.models_dir
    root.mkdir(parents=True)
    tiny_models.add_classifier(root)
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=64), "roles": {"embedding": "embedding"}}
    files = {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()}
    tiny_models.write(root, tiny_models.card("tiny-tower", tower, **text), files)
    pipeline = Pipeline(kind="dual-encoder", image_model="tiny-classifier", text_model="tiny-tower")
    tiny_models.write(root, tiny_models.card("tiny-open", task="zero-shot-classify", pipeline=pipeline), {})
    opened = JobServices.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def colours(services: JobServices, tmp_path: Path) -> str:
    """Noisy squares of three colours: 12 to train on, 8 to test on, of each; a name for jobs."""
    rng = np.random.default_rng(0)
    archive = tmp_path / "upload.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for split, count in (("train", 12), ("test", 8)):
            for name, colour in COLOURS.items():
                for number in range(count):
                    pixels = np.clip(np.array(colour) + rng.normal(0, 25, (32, 32, 3)), 0, 255).astype(np.uint8)
                    sink = io.BytesIO()
                    Image.fromarray(pixels).save(sink, "PNG")
                    bundle.writestr(f"{split}/{name}/{number}.png", sink.getvalue())
    store = dataset_store(services.settings, services.engine, services.artifacts)
    store.import_(OWNER, "colours", archive)
    return "dataset:colours"


Submit = Callable[..., Job]


@pytest.fixture
def submit(services: JobServices) -> Submit:
    """Submit a benchmark as the gateway does; fields over small defaults."""

    def submitted(**fields: Any) -> Job:
        defaults: dict[str, Any] = {"suite": "dataset:colours", "models": ["tiny-open"], "shots": [4], "seeds": [0]}
        parameters = BenchmarkParameters.model_validate(defaults | fields)
        kind = kinds(services)["benchmark"]
        kind.check(services, OWNER, parameters)
        order = Order(kind.name, kind.queue, parameters.model_dump(mode="json"))
        return services.jobs.submit(OWNER, order, max_queued=100)[0]

    return submitted
