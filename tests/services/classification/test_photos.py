"""The default model names what real photos show: the licence-free samples of scikit-image."""

from pathlib import Path

import pytest
import skimage

from services.classification import Classification, ClassifyRequest
from services.media.image import read_picture
from services.media.intake import Limits
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.settings import Settings
from services.stages import Stages

PHOTOS = Path(skimage.__file__).parent / "data"
LABELS = ["a cat", "a dog", "a cup of coffee", "a rocket", "a motorcycle", "a bus", "coins"]
MODELS = ("efficientnet-lite2", "minilm-l6", "photo-zero-shot")

pytestmark = pytest.mark.weights


@pytest.fixture
async def service(default_models):
    settings = Settings(data_dir=default_models.parent, preload=MODELS)
    engine = OnnxBackend(settings)
    await engine.start()
    yield Classification(engine, settings)
    await engine.close()


async def ask(service, name, labels):
    photo = read_picture((PHOTOS / name).read_bytes(), Limits.of(Settings()))
    model = await service._backend.resolve("photo-zero-shot")
    answer = await service.classify(model, ClassifyRequest([photo], labels=labels), Options.within(60), Stages())
    assert answer.model == "photo-zero-shot"
    return answer.results[0]


async def test_photos_are_named(service):
    for name, label in (("chelsea.png", "a cat"), ("coffee.png", "a cup of coffee"), ("rocket.jpg", "a rocket")):
        best = (await ask(service, name, LABELS)).predictions[0]
        assert best.label == label
        assert best.score > 0.8


async def test_it_says_when_no_label_fits(service):
    fitting = await ask(service, "chelsea.png", ["a cat", "a pizza"])
    missing = await ask(service, "chelsea.png", ["a car", "a pizza"])
    assert fitting.none_of_these < 0.2 < 0.8 < missing.none_of_these
