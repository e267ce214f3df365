"""``explain`` draws where the model looked over the picture, where it looked and nowhere else."""

import io

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline, TextPreprocess
from models.catalog.geometry import ImagePreprocess, Native
from services.classification import Classification, ClassifyRequest
from services.classification.explain import METHOD
from services.errors import Problem
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.stages import Stages
from tests.support import tiny_models

SIZE = 32


def add_looking(root, name="tiny-looking", form=None, **image):
    """A classifier whose map is the brightness of each 8 x 8 patch, and an open-vocabulary model over it."""
    model = tiny_models.looking()
    card = tiny_models.card(
        name,
        model,
        task="classify",
        image=form or ImagePreprocess(size=SIZE, **image),
        label_set="labels.txt",
        roles={"logits": "logits", "embedding": "features", "modulation": "modulation"},
    )
    tiny_models.write(root, card, {"model.onnx": model, "labels.txt": "\n".join(tiny_models.LABELS).encode()})


@pytest.fixture
async def service(settings, repository):
    add_looking(repository)
    add_looking(repository, "tiny-squashed", mode="squash")
    add_looking(repository, "tiny-whole", Native(multiple=8))
    tower = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    text = {"task": "embed-text", "text": TextPreprocess(max_length=32), "roles": {"embedding": "embedding"}}
    files = {"model.onnx": tower, "tokenizer.json": tiny_models.tokenizer()}
    tiny_models.write(repository, tiny_models.card("tiny-tower", tower, **text), files)
    pipeline = Pipeline(kind="dual-encoder", image_model="tiny-looking", text_model="tiny-tower")
    tiny_models.write(repository, tiny_models.card("tiny-open", task="zero-shot-classify", pipeline=pipeline), {})
    backend = OnnxBackend(settings)
    await backend.start()
    yield Classification(backend, settings)
    await backend.close()


def spot(size=(400, 300), at=(0.5, 0.5), radius=20):
    """A black picture with a white square at ``at`` (shares of width and height)."""
    image = Image.new("RGB", size)
    x, y = int(at[0] * size[0]), int(at[1] * size[1])
    image.paste((255, 255, 255), (x - radius, y - radius, x + radius, y + radius))
    return Picture(image, *size, "PNG")


async def ask(service, pictures, model, **fields):
    with await service._backend.resolve(model) as handle:
        return await service.classify(handle, ClassifyRequest(pictures, **fields), Options.within(30), Stages())


async def explained(service, picture, model="tiny-looking", **fields):
    (result,) = (await ask(service, [picture], model, explain=True, **fields)).results
    assert result.explanation.method == METHOD
    assert len(result.predictions) > 1
    image = Image.open(io.BytesIO(result.explanation.png))
    assert image.format == "PNG"
    return np.asarray(image.convert("RGB"), np.float32)


def warmest(pixels):
    """Where the map is yellow on black ground: most red and green."""
    heat = pixels[..., 0] + pixels[..., 1] - pixels[..., 2]
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    return x / pixels.shape[1], y / pixels.shape[0]


@pytest.mark.parametrize("at", [(0.3, 0.3), (0.6, 0.7), (0.5, 0.5)])
@pytest.mark.parametrize("model", ["tiny-looking", "tiny-squashed"])
async def test_the_map_is_brightest_where_the_model_looked(service, at, model):
    pixels = await explained(service, spot(at=at), model)
    assert pixels.shape == (300, 400, 3)
    assert warmest(pixels) == pytest.approx(at, abs=0.12)


async def test_pictures_of_any_size_are_explained_together(service):
    places = [(0.3, 0.3), (0.6, 0.7), (0.5, 0.5)]
    pictures = [spot(size, at) for size, at in zip([(400, 300), (301, 203), (400, 300)], places, strict=True)]
    whole = await ask(service, pictures, "tiny-whole", explain=True)
    for result, picture, at in zip(whole.results, pictures, places, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(result.explanation.png)).convert("RGB"), np.float32)
        assert pixels.shape == (picture.height, picture.width, 3)
        assert warmest(pixels) == pytest.approx(at, abs=0.12)
        (alone,) = (await ask(service, [picture], "tiny-whole")).results
        scores = [one.score for one in alone.predictions]
        assert [one.score for one in result.predictions] == pytest.approx(scores, abs=1e-5)


async def test_what_the_crop_cut_off_is_dark_and_not_painted(service):
    white = Picture(Image.new("RGB", (400, 100), (200, 200, 200)), 400, 100, "PNG")
    pixels = await explained(service, white)
    left, _, right, _ = Preprocessor(ImagePreprocess(size=SIZE)).placement(400, 100).window()
    assert (round(left), round(right)) == (156, 244)
    outside = np.concatenate([pixels[:, : int(left) - 2], pixels[:, int(right) + 3 :]], axis=1)
    assert np.ptp(outside) == 0 and outside.max() < 100
    inside = pixels[10:90, int(left) + 2 : int(right) - 2]
    assert inside.min() > outside.max() and np.ptp(inside, axis=-1).min() > 0  # coloured


@pytest.mark.parametrize(
    ("size", "drawn"),
    [((3000, 1500), (512, 256)), ((3, 3), (256, 256)), ((2, 200), (3, 256)), ((300, 200), (300, 200))],
)
async def test_maps_are_of_bounded_size(service, size, drawn):
    pixels = await explained(service, spot(size, radius=1))
    assert (pixels.shape[1], pixels.shape[0]) == drawn


async def test_a_model_over_a_model_that_looks_explains_too(service):
    pixels = await explained(service, spot(), "tiny-open", labels=["red cat", "old car"])
    assert warmest(pixels) == pytest.approx((0.5, 0.5), abs=0.12)


async def test_pictures_get_their_own_maps_in_order(service):
    pictures = [spot(at=(0.3, 0.5)), spot(at=(0.7, 0.5))]
    answer = await ask(service, pictures, "tiny-looking", explain=True)
    maps = [np.asarray(Image.open(io.BytesIO(one.explanation.png)), np.float32) for one in answer.results]
    assert [warmest(one)[0] for one in maps] == pytest.approx([0.3, 0.7], abs=0.12)


async def test_no_map_is_drawn_unless_it_was_asked_for(service):
    answer = await ask(service, [spot()], "tiny-looking")
    assert answer.results[0].explanation is None


async def test_a_model_without_a_map_names_those_that_have_one(service):
    with pytest.raises(Problem) as caught:
        await explained(service, spot(), "tiny-classifier")
    assert (caught.value.code, caught.value.pointer) == ("explain-unsupported", "/explain")
    assert caught.value.remedy == "Leave explain out, or use one of tiny-looking, tiny-open, tiny-squashed, tiny-whole."
