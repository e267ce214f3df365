"""Pictures through a model whose tensors are of many sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.catalog.card import Batching
from models.catalog.geometry import ImagePreprocess, Native, VideoClip
from services.encoding.images import run_images
from services.errors import Problem
from services.media.image import Picture
from services.runtime.protocol import Inference, Options, Tensor
from services.stages import Stages
from tests.support import tiny_models

SIZES = [(20, 30), (30, 20), (20, 30), (16, 16), (20, 30), (30, 20)]


class Seen:
    """A model that tells each picture's mean, and gives the picture back; it keeps the shapes of its batches."""

    def __init__(self, **fields: Any) -> None:
        self.card = tiny_models.card("seen", **fields)
        self.shapes: list[tuple[int, ...]] = []

    async def infer(self, inputs: Mapping[str, Tensor], outputs: Sequence[str], options: Options) -> Inference:
        pixels = inputs["image"]
        self.shapes.append(pixels.shape)
        found = {"mean": pixels.mean(axis=(1, 2, 3))[:, None], "map": pixels[:, 0]}
        named = {name: found[name] for name in outputs}
        return Inference(named, "1", queue_seconds=0, infer_seconds=0, batch_size=len(pixels))


def pictures() -> list[Picture]:
    made = [Image.new("RGB", size, (40 * index,) * 3) for index, size in enumerate(SIZES)]
    return [Picture(image, *image.size, "PNG") for image in made]


async def run(model: Seen, *outputs: str) -> Mapping[str, Tensor]:
    options = Options.within(10)
    return await run_images(model, pictures(), outputs, options, Stages())  # type: ignore[arg-type]


def plain(**about: Any) -> Native:
    return Native(mean=(0, 0, 0), std=(1, 1, 1), **about)


async def test_pictures_of_one_size_run_together_and_answers_keep_their_order() -> None:
    model = Seen(image=plain(), batching=Batching(max_batch_size=2))
    means = (await run(model, "mean"))["mean"]
    np.testing.assert_allclose(means[:, 0], [40 * index / 255 for index in range(6)], rtol=1e-5)
    assert model.shapes == [(2, 3, 30, 20), (1, 3, 30, 20), (2, 3, 20, 30), (1, 3, 16, 16)]


async def test_a_batch_holds_no_more_elements_than_the_card_says() -> None:
    model = Seen(image=plain(), batching=Batching(max_batch_size=8, max_elements=2 * 3 * 20 * 30))
    await run(model, "mean")
    assert model.shapes == [(2, 3, 30, 20), (1, 3, 30, 20), (2, 3, 20, 30), (1, 3, 16, 16)]


async def test_maps_of_different_sizes_come_one_a_picture() -> None:
    maps = (await run(Seen(image=plain()), "map"))["map"]
    assert [one.shape for one in maps] == [(height, width) for width, height in SIZES]
    assert [round(float(one[0, 0]) * 255) for one in maps] == [40 * index for index in range(6)]


async def test_pictures_of_a_fixed_square_run_in_their_order() -> None:
    model = Seen(image=ImagePreprocess(size=16, mode="squash"), batching=Batching(max_batch_size=4))
    assert (await run(model, "map"))["map"].shape == (6, 16, 16)
    assert model.shapes == [(4, 3, 16, 16), (2, 3, 16, 16)]


async def test_a_model_of_films_takes_no_picture() -> None:
    with pytest.raises(Problem) as caught:
        await run(Seen(video=VideoClip(frames=4, frame=ImagePreprocess(size=16))), "mean")
    assert caught.value.code == "model-takes-no-image"
