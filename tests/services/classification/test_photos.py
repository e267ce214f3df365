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


async def ask(service, name, labels, **fields):
    photo = read_picture((PHOTOS / name).read_bytes(), Limits.of(Settings()))
    model = await service._backend.resolve("photo-zero-shot")
    answer = await service.classify(
        model, ClassifyRequest([photo], labels=labels, **fields), Options.within(60), Stages()
    )
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


SPACED = ["golden retriever", "tabby cat", "coffee mug", "space shuttle", "motor scooter", "mountain bike", "ice cream"]
"""Two words each, none of which is a word when they are written together."""


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"])
async def test_a_label_in_camel_case_means_what_its_words_mean(service, name):
    """``MotorScooter`` is a motor scooter: the scores are those of the label with spaces, under the name as sent."""
    plain = {one.label: one.score for one in (await ask(service, name, SPACED, top_k=len(SPACED))).predictions}
    for written in (
        {label: label.title().replace(" ", "") for label in SPACED},
        {label: label[0] + label.title().replace(" ", "")[1:] for label in SPACED},
        {label: label.replace(" ", "_") for label in SPACED},
    ):
        found = (await ask(service, name, list(written.values()), top_k=len(SPACED))).predictions
        scores = {one.label: one.score for one in found}
        assert set(scores) == set(written.values())
        if "_" in found[0].label:  # its sign is a token of its own to the text tower: nearly the same
            assert max(scores, key=scores.get) == written[max(plain, key=plain.get)]
        else:
            assert {label: scores[written[label]] for label in SPACED} == pytest.approx(plain, abs=1e-3)
