"""Pictures through an image model: preprocessed in pieces of a batch, so that memory stays bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import ImagePreprocess
from services.errors import Kind, Problem
from services.media.image import Picture
from services.media.preprocess import Preprocessor
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

INLINE_PIXELS = 600_000
"""Pictures of more pixels together are resized in a thread: below, the hand-over costs more than it frees."""


@lru_cache(maxsize=64)
def preprocessor(spec: ImagePreprocess) -> Preprocessor:
    """One for every specification: it holds tables and no state."""
    return Preprocessor(spec)


async def run_images(
    model: ModelHandle, pictures: Sequence[Picture], outputs: Sequence[str], options: Options, stages: Stages
) -> Mapping[str, Tensor]:
    """Outputs ``(B, ...)`` of ``model``. Raises ``model-takes-no-image`` and what the backend raises."""
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
    step = card.batching.max_batch_size
    parts: list[Mapping[str, Tensor]] = []
    for start in range(0, len(pictures), step):
        part = pictures[start : start + step]
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
    return {name: np.concatenate([part[name] for part in parts]) for name in outputs}


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows brought to length one; a row of zeros stays."""
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12), np.float32)
