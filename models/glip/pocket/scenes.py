"""Scenes: one to five pictographs over procedural or photographed backgrounds, with their boxes.

A scene is planned first (which drawings, how large, what colour, where), then painted: drawings are turned, scaled,
recoloured and lit, and laid over the background with their own transparency. NumPy and Pillow; more than 200 a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.glip.pocket.drawings import Drawings
from models.glip.pocket.rows import COLOURS

SIDE = 160
SMALLEST, LARGEST = 24, 84
"""Sides of a drawing in a scene, in pixels."""
OVERLAP = 0.3
"""Largest share of the smaller of two boxes that may be covered by the other."""

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Thing:
    """One drawing of a scene: its concept, its row of the drawings, its colour if it was tinted, and its box."""

    concept: int
    drawing: int
    side: float
    colour: str | None = None
    centre: tuple[float, float] = (0.0, 0.0)
    box: Box = (0.0, 0.0, 0.0, 0.0)


@dataclass(slots=True)
class Scene:
    """``picture (SIDE, SIDE, 3) uint8`` and what is in it."""

    picture: NDArray[np.uint8]
    things: list[Thing] = field(default_factory=list)


class Painter:
    """Paints planned scenes. ``training`` chooses the photos and how much is distorted."""

    def __init__(self, drawings: Drawings, *, training: bool) -> None:
        self._drawings = drawings
        self._photos = np.ascontiguousarray(drawings.photos[training].transpose(0, 2, 3, 1))
        self._training = training

    def paint(self, things: list[Thing], rng: np.random.Generator) -> Scene:
        """Lay ``things`` over a background, in order, at their centres; fills their boxes.

        A thing that nothing is left of, or nearly nothing, is dropped.
        """
        canvas = background(rng, self._photos)
        shown = []
        for thing in things:
            cut = self._cut(thing, rng)
            if place(cut, thing, canvas):
                shown.append(thing)
        picture = self._degrade(canvas, rng) if self._training else canvas
        return Scene(picture.clip(0, 255).astype(np.uint8), shown)

    def _cut(self, thing: Thing, rng: np.random.Generator) -> NDArray[np.float32]:
        """The drawing as it is laid on: ``(h, w, 4) float32``, colours 0..255, transparency 0..1."""
        base = self._drawings.images[thing.drawing]
        rgba = recoloured(base.astype(np.float32), thing.colour, rng if self._training else None)
        side = max(8, round(thing.side * 1.35 if self._training else thing.side))  # room to turn in
        strength = 1.0 if self._training else 0.0
        angle = math.radians(rng.uniform(-20, 20)) * strength
        flip = -1 if self._training and self._drawings.mirror[thing.concept] and rng.random() < 0.25 else 1
        stretch = 1 + strength * rng.uniform(-0.12, 0.12)
        step = 64 / thing.side
        rgba[..., :3] *= rgba[..., 3:] / 255  # premultiplied, so that edges stay clean
        if thing.side < 44:  # halve first, so that nothing is skipped
            rgba = rgba.reshape(32, 2, 32, 2, 4).mean(axis=(1, 3))
            step /= 2
        cos, sin, half = math.cos(angle), math.sin(angle), side / 2
        a, b = flip * step * stretch * cos, -flip * step * stretch * sin
        d, e = step / stretch * sin, step / stretch * cos
        middle = rgba.shape[0] / 2
        pose = (a, b, middle - a * half - b * half, d, e, middle - d * half - e * half)
        layers = Image.fromarray(rgba.clip(0, 255).astype(np.uint8), "RGBA").transform(
            (side, side), Image.Transform.AFFINE, pose, Image.Resampling.BILINEAR
        )
        cut = np.asarray(layers).astype(np.float32)
        cut[..., 3] /= 255
        return cut

    def _degrade(self, canvas: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Blur a fifth of the scenes, and put noise on half of them."""
        if rng.random() < 0.2:
            small = canvas.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3)).clip(0, 255).astype(np.uint8)
            canvas = np.asarray(Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.float32)
        if rng.random() < 0.5:
            canvas = canvas + rng.uniform(2, 9) * rng.standard_normal(canvas.shape, np.float32)
        return canvas


def place(cut: NDArray[np.float32], thing: Thing, canvas: NDArray[np.float32]) -> bool:
    """Lay a cut over the canvas and say where it lies; False when less than 12 pixels a side are left of it."""
    solid = cut[..., 3] > 0.35
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if not len(rows):
        return False
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    x, y = round(thing.centre[0] - (left + right) / 2), round(thing.centre[1] - (top + bottom) / 2)

    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + cut.shape[1], SIDE), min(y + cut.shape[0], SIDE)
    box = (max(x + left, 0), max(y + top, 0), min(x + right, SIDE), min(y + bottom, SIDE))
    if box[2] - box[0] < 12 or box[3] - box[1] < 12:
        return False
    seen = cut[y0 - y : y1 - y, x0 - x : x1 - x]
    under = canvas[y0:y1, x0:x1]
    under *= 1 - seen[..., 3:]
    under += seen[..., :3]
    thing.box = tuple(float(edge) for edge in box)  # type: ignore[assignment]
    thing.centre = ((thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2)
    return True


def recoloured(rgba: NDArray[np.float32], colour: str | None, rng: np.random.Generator | None) -> NDArray[np.float32]:
    """A drawing in another colour, its light and shade kept; with ``rng``, channels mixed and softly lit."""
    tone: NDArray[Any] = rgba[..., :3]
    if colour is not None:
        light = tone @ np.array([0.299, 0.587, 0.114], np.float32) / 255
        solid = rgba[..., 3] > 90
        light = (light - (light[solid].mean() if solid.any() else 0)).astype(np.float32)
        tone = np.array(COLOURS[colour], np.float32) * (1 + 0.7 * light)[..., None]
        tone = tone + (60 * light)[..., None]  # so that black keeps its drawing
    if rng is not None:
        spread = 0.05 if colour is not None else 0.12
        mix = np.eye(3, dtype=np.float32) + spread * rng.standard_normal((3, 3), np.float32)
        field = Image.fromarray(rng.standard_normal((3, 3)).astype(np.float32)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
        tone = tone @ mix * (1 + 0.18 * np.asarray(field))[..., None] + rng.uniform(-20, 20)
    return np.concatenate([tone.clip(0, 255).astype(np.float32), rgba[..., 3:]], axis=2)


def background(rng: np.random.Generator, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
    """White, plain, shaded, cloudy, striped or a cut of a photo, ``(SIDE, SIDE, 3) float32``."""
    kind = rng.random()
    if kind < 0.15:
        return np.full((SIDE, SIDE, 3), 255, np.float32)
    if kind < 0.3:
        return np.broadcast_to(rng.uniform(0, 255, 3).astype(np.float32), (SIDE, SIDE, 3)).copy()
    if kind < 0.45:
        return _enlarged(rng.uniform(0, 255, (2, 2, 3)))
    if kind < 0.6:
        clouds = rng.uniform(0, 255, 3) + 40 * rng.standard_normal((int(rng.integers(4, 24)),) * 2 + (3,))
        return _enlarged(clouds)
    if kind < 0.7:
        return _stripes(rng)
    photo = photos[rng.integers(len(photos))]
    side = int(rng.integers(64, 192))
    top, left = rng.integers(0, 193 - side, 2)
    return _enlarged(photo[top : top + side, left : left + side])


def _enlarged(small: NDArray[np.float64] | NDArray[np.uint8]) -> NDArray[np.float32]:
    picture = Image.fromarray(small.clip(0, 255).astype(np.uint8))
    return np.array(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)


def _stripes(rng: np.random.Generator) -> NDArray[np.float32]:
    """Stripes or checks of two colours, at any angle."""
    angle, width = rng.uniform(0, math.pi), rng.uniform(5, 30)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    along = (np.cos(angle) * columns + np.sin(angle) * rows) // width
    if rng.random() < 0.5:
        along = along + (np.cos(angle) * rows - np.sin(angle) * columns) // width
    first, second = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    striped: NDArray[np.float32] = np.where((along % 2 == 0)[..., None], first, second)
    return striped


def scattered(things: list[Thing], rng: np.random.Generator, fixed: int = 0) -> list[Thing]:
    """Give each thing after the first ``fixed`` a place where it covers little of the others; drops those without."""
    kept = things[:fixed]
    for thing in things[fixed:]:
        for _ in range(12):
            low, high = thing.side * 0.42, SIDE - thing.side * 0.42
            thing.centre = (rng.uniform(low, high), rng.uniform(low, high))
            if all(covered(thing, other) < OVERLAP for other in kept):
                kept.append(thing)
                break
    return kept


def covered(one: Thing, other: Thing) -> float:
    """Share of the smaller square that the other's covers, by planned sides."""
    reach = (one.side + other.side) / 2
    wide = min(reach - abs(one.centre[0] - other.centre[0]), one.side, other.side)
    high = min(reach - abs(one.centre[1] - other.centre[1]), one.side, other.side)
    return max(wide, 0) * max(high, 0) / min(one.side, other.side) ** 2


def drawn_side(rng: np.random.Generator, count: int) -> float:
    """Side of one of ``count`` things: evenly in its logarithm, smaller where there are many."""
    largest = LARGEST if count <= 3 else 64
    return float(math.exp(rng.uniform(math.log(SMALLEST), math.log(largest))))
