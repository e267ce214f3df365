"""Embeddings are unit vectors in the order asked, of texts and of pictures, cut only as far as they go."""

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Pipeline
from services.embedding import Embedding
from services.embedding.service import _cut
from services.errors import Problem
from services.media.image import Picture
from services.runtime.onnx.backend import OnnxBackend
from services.runtime.protocol import Options
from services.stages import Stages
from tests.support import tiny_models


def picture(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    return Picture(Image.fromarray(pixels), 48, 40, "PNG")


@pytest.fixture
async def service(settings, repository):
    backend = OnnxBackend(settings)
    await backend.start()
    yield Embedding(), backend
    await backend.close()


async def texts(service, some, dimensions=None, model="tiny-text"):
    embedding, backend = service
    return await embedding.texts(await backend.resolve(model), some, dimensions, Options.within(30), Stages())


async def images(service, some, model="tiny-classifier"):
    embedding, backend = service
    return await embedding.images(await backend.resolve(model), some, None, Options.within(30), Stages())


async def test_texts_are_unit_rows_in_order_with_their_tokens(service):
    together = await texts(service, ["a red cat", "the car", "a red cat"])
    alone = await texts(service, ["the car"])
    assert (together.model, together.version) == ("tiny-text", "1")
    np.testing.assert_allclose(np.linalg.norm(together.vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together.vectors[1], alone.vectors[0], atol=1e-5)
    np.testing.assert_array_equal(together.vectors[0], together.vectors[2])
    assert together.tokens > alone.tokens > 0


async def test_fewer_dimensions_are_the_first_ones_made_unit_again(service):
    whole, cut = await texts(service, ["a cat"]), await texts(service, ["a cat"], dimensions=4)
    expected = whole.vectors[0, :4] / np.linalg.norm(whole.vectors[0, :4])
    np.testing.assert_allclose(cut.vectors[0], expected, rtol=1e-5)
    with pytest.raises(Problem) as caught:
        await texts(service, ["a cat"], dimensions=1000)
    assert (caught.value.code, caught.value.pointer) == ("dimensions-too-many", "/dimensions")


async def test_pictures_are_embedded_in_order_beyond_one_batch(service):
    many = await images(service, [picture(seed) for seed in range(40)])
    alone = await images(service, [picture(33)])
    np.testing.assert_allclose(many.vectors[33], alone.vectors[0], atol=1e-5)


async def test_a_model_without_pictures_or_texts_is_refused(service):
    with pytest.raises(Problem) as caught:
        await images(service, [picture()], model="tiny-text")
    assert caught.value.code == "model-embeds-no-image"
    with pytest.raises(Problem) as caught:
        await texts(service, ["a cat"], model="tiny-classifier")
    assert caught.value.code == "model-embeds-no-text"


def test_a_vector_that_is_no_number_is_not_given_out():
    with pytest.raises(Problem) as caught:
        _cut(np.array([[1.0, np.nan]], np.float32), None)
    assert caught.value.code == "model-not-finite"


async def test_texts_of_a_pair_of_towers_are_those_of_its_text_tower(settings, repository):
    pair = Pipeline(kind="dual-encoder", image_model="tiny-classifier", text_model="tiny-text")
    apart = pair.model_copy(update={"kind": "weight-prediction"})
    for name, pipeline in (("pair", pair), ("apart", apart)):
        tiny_models.write(repository, tiny_models.card(name, task="zero-shot-classify", pipeline=pipeline), {})
    backend = OnnxBackend(settings)
    await backend.start()
    service = Embedding(), backend
    of_pair, of_tower = await texts(service, ["a cat"], model="pair"), await texts(service, ["a cat"])
    np.testing.assert_array_equal(of_pair.vectors, of_tower.vectors)
    assert of_pair.model == "pair" and of_pair.tokens == of_tower.tokens
    with pytest.raises(Problem) as caught:  # its texts and pictures are not of one space
        await texts(service, ["a cat"], model="apart")
    assert caught.value.code == "model-embeds-no-text"
    await backend.close()
