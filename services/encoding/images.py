"""Pictures through an image model: preprocessed in pieces of a batch, so that memory stays bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Batching
from models.catalog.geometry import ImageGeometry
from services.errors import Kind, Problem
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

INLINE_PIXELS = 600_000
"""Pictures of more pixels together are resized in a thread: below, the hand-over costs more than it frees."""


@lru_cache(maxsize=64)
def preprocessor(spec: ImageGeometry) -> Preprocessor:
    """One for every specification: it holds tables and no state."""
    return Preprocessor(spec)


async def run_images(
    model: ModelHandle, pictures: Sequence[Picture], outputs: Sequence[str], options: Options, stages: Stages
) -> Mapping[str, Tensor]:
    """Outputs ``(B, ...)`` of ``model``. Raises ``model-takes-no-image`` and what the backend raises.

    Pictures whose tensors are of different sizes run in one batch a size; an output whose rows then differ in shape is
    an array of ``B`` objects, the rows.
    """
    card = model.card
    if card.image is None:
        raise Problem(
            Kind.INVALID,
            "model-takes-no-image",
            "The model takes no image",
            f"The card of {card.name!r} names no image preprocessing.",
            pointer="/model",
        )

    prepare = preprocessor(card.image)
    parts: list[Mapping[str, Tensor]] = []
    batches = _batches(prepare, pictures, card.batching)
    for batch in batches:
        part = [pictures[index] for index in batch]
        begin = time.perf_counter()
        if sum(picture.width * picture.height for picture in part) <= INLINE_PIXELS:
            pixels = prepare.batch(part)
        else:
            pixels = await asyncio.to_thread(prepare.batch, part)
        stages.decode += time.perf_counter() - begin
        answer = await model.infer({card.image.input: pixels}, outputs, options)
        stages.ran(answer)
        parts.append(answer.outputs)

    if len(parts) == 1:
        return parts[0]

    order = np.argsort(np.concatenate(batches), kind="stable")
    return {name: _stacked([part[name] for part in parts])[order] for name in outputs}


def _batches(prepare: Preprocessor, pictures: Sequence[Picture], limits: Batching) -> list[list[int]]:
    """Positions of pictures that run together: tensors of one size, as many as one batch of the model holds."""
    same_size: dict[tuple[int, int], list[int]] = {}
    for index, picture in enumerate(pictures):
        shape = prepare.placement(picture.image.width, picture.image.height).shape
        same_size.setdefault(shape, []).append(index)

    batches: list[list[int]] = []
    for (height, width), group in same_size.items():
        most = limits.max_batch_size
        if limits.max_elements is not None:
            most = min(most, max(limits.max_elements // (3 * height * width), 1))
        batches += [group[start : start + most] for start in range(0, len(group), most)]
    return batches


def _stacked(parts: Sequence[Tensor]) -> Tensor:
    """Rows of all ``parts``: one tensor where they have one shape, else one object a row."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    rows = [row for part in parts for row in part]
    stacked = np.empty(len(rows), object)
    for index, row in enumerate(rows):  # at once, NumPy would try to broadcast them
        stacked[index] = row
    return stacked


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows brought to length one; a row of zeros stays."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12), np.float32)
