"""Where a model looked: its modulation map as a heat map over the picture.

A FocalNet multiplies every place of the picture by a modulator; the modulator's length there says how much that place
adds to the answer (arXiv 2203.11926, section 5). Exports of FocalNets have it, of the last block, as the output with
the role ``modulation`` ``(B, h, w)``.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.catalog.card import Card
from models.repository.ownership import ownership_of
from services.classification.answers import Explanation
from services.encoding.images import preprocessor
from services.errors import Kind, Problem
from services.media.image import Picture
from services.runtime.protocol import Backend, ModelHandle, Tensor

METHOD = "focal-modulation"
LONGEST, SHORTEST_LONG_SIDE = 512, 256
"""The longer side of a heat map in pixels: larger pictures are scaled down to the first, smaller up to the second."""

Array = NDArray[np.float32]

_COLOURS = np.array(
    [(13, 8, 135), (126, 3, 168), (204, 71, 120), (248, 149, 64), (240, 249, 33)], np.float32
)  # from least to most; lightness grows all the way, so that it reads in print and by the colour-blind
_LEAST_COVER, _MOST_COVER = 0.3, 0.65
_UNSEEN = 0.35
"""Brightness of what the crop cut off: the network never saw it."""


def explaining(backend: Backend, model: ModelHandle) -> None:
    """Refuse a model without such a map. Raises ``explain-unsupported``."""
    image = model.parts.get("image")
    if _looks(model.card, None if image is None else image.card):
        return

    cards = {found.name: found.card for found in backend.index() if found.state == "READY" and found.card is not None}
    able = sorted(name for name, card in cards.items() if _looks(card, cards.get(_image_part(card))))
    root = model.folder.parents[1]
    able = [name for name in able if ownership_of(root, name) is None]  # what keys have made is not told to others
    raise Problem(
        Kind.INVALID,
        "explain-unsupported",
        "The model cannot explain its answer",
        f"{model.card.name!r} gives no map of what decided: no output of its card has the role 'modulation'.",
        pointer="/explain",
        remedy=f"Leave explain out, or use one of {', '.join(able[:20])}."
        if able
        else "Leave explain out: none of the models here gives such a map. FocalNets do.",
    )


def _image_part(card: Card) -> str:
    return "" if card.pipeline is None else card.pipeline.part("image")


def _looks(card: Card, image: Card | None) -> bool:
    """Return whether a classifier gives a map, or the ``image`` model of a pipeline does."""
    if card.pipeline is None:
        return card.logits is not None and card.modulation is not None
    return image is not None and image.modulation is not None


def explanations(card: Card, pictures: Sequence[Picture], maps: Sequence[Tensor] | Tensor) -> list[Explanation]:
    """One heat map a picture; ``maps`` are those ``(h, w)`` of the image model of ``card``. Slow: call it in a thread.

    Raises ``model-not-finite``.
    """
    if not all(np.isfinite(one).all() for one in maps):
        raise Problem(
            Kind.INTERNAL, "model-not-finite", "The model's answer is not a number", f"{card.name} gave a map of NaN."
        )

    assert card.image is not None
    windows = [preprocessor(card.image).placement(picture.width, picture.height).window() for picture in pictures]
    return [
        Explanation(_heat_map(picture, np.asarray(one, np.float32), window), METHOD)
        for picture, one, window in zip(pictures, maps, windows, strict=True)
    ]


def _heat_map(picture: Picture, looked: Array, window: tuple[float, float, float, float]) -> bytes:
    """PNG of ``picture`` under ``looked`` ``(h, w)``, which covers ``window``; what lies outside is darkened."""
    longer = max(picture.width, picture.height)
    scale = min(LONGEST, max(SHORTEST_LONG_SIDE, longer)) / longer
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    ground = np.asarray(picture.image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0), np.float32)
    left, top, right, bottom = (round(edge * scale) for edge in window)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    seen = (slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width)))
    heat = _enlarged(_stretched(looked), right - left, bottom - top)
    heat = heat[seen[0].start - top : seen[0].stop - top, seen[1].start - left : seen[1].stop - left, None]
    cover = _LEAST_COVER + (_MOST_COVER - _LEAST_COVER) * heat  # (H, W, 1)
    painted = ground * _UNSEEN
    painted[seen] = (1 - cover) * ground[seen] + cover * _coloured(heat[..., 0])
    sink = io.BytesIO()
    Image.fromarray(np.rint(painted).clip(0, 255).astype(np.uint8)).save(sink, "PNG", compress_level=6)

    return sink.getvalue()


def _stretched(looked: Array) -> Array:
    """From 0 where it looked least to 1 where most; all 0 where every place is alike."""
    low, high = float(looked.min()), float(looked.max())
    return np.asarray((looked - low) / max(high - low, 1e-12), np.float32)


def _enlarged(heat: Array, width: int, height: int) -> Array:
    image = Image.fromarray(heat).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32).clip(0, 1)


def _coloured(heat: Array) -> Array:
    """``(H, W)`` of 0 to 1 to colours ``(H, W, 3)`` of 0 to 255."""
    stops = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(heat, stops, channel) for channel in _COLOURS.T], axis=-1).astype(np.float32)
