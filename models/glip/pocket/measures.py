"""What a detector of drawings scores on composed scenes: boxes with and without names, relations, presence.

The scenes are drawn from styles and concepts that training never saw, over photos that it never saw, by a fixed seed;
:data:`VALIDATION` is what exponents and thresholds are chosen on, and is not reported as a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.glip.pocket.captions import Composer, Sample
from models.glip.pocket.drawings import Drawings

Array = NDArray[np.float64]
IOU = 0.5
POINTS = np.linspace(0, 1, 101)
BINS = 10


@dataclass(frozen=True, slots=True)
class Suite:
    """Drawings of one style; ``unseen`` concepts or those that training named."""

    title: str
    style: str
    unseen: bool


VALIDATION = Suite("FxEmoji, seen concepts", "fxemoji", unseen=False)
SUITES = (
    Suite("Noto (trained style), seen concepts", "noto", unseen=False),
    Suite("Fluent-3D, seen concepts", "fluent-3d", unseen=False),
    Suite("Fluent-3D, unseen concepts", "fluent-3d", unseen=True),
    Suite("OpenMoji, seen concepts", "openmoji", unseen=False),
    Suite("OpenMoji, unseen concepts", "openmoji", unseen=True),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a detector said of one scene: ``boxes (N, 4)``, ``scores (N, L)`` of its names, and how likely each name is
    there at all, ``(L,)``."""

    boxes: Array
    scores: Array
    presence: Array


def composer(drawings: Drawings, suite: Suite) -> Composer:
    """Scenes of a suite, twenty names each, nothing tinted or distorted."""
    concepts = drawings.concepts_in([suite.style], unseen=suite.unseen)
    return Composer(drawings, concepts, [suite.style], training=False, tinted=0)


def named_scenes(drawings: Drawings, suite: Suite, count: int) -> Iterator[Sample]:
    """Scenes with a list of names, those of the scene among them."""
    own = composer(drawings, suite)
    for number in range(count):
        rng = np.random.default_rng([7, number])
        yield own.named(own.scene(rng), rng)


def relation_scenes(drawings: Drawings, suite: Suite, count: int) -> Iterator[Sample]:
    """Two of a kind beside something else, and a caption that means one of them."""
    own = composer(drawings, suite)
    for number in range(count):
        rng = np.random.default_rng([8, number])
        while (found := own.related(rng)) is None:
            pass
        yield own.relation(*found, rng)


def colour_scenes(drawings: Drawings, suite: Suite, count: int) -> Iterator[Sample]:
    """Two of a kind in two colours, and a caption that names both."""
    own = composer(drawings, suite)
    for number in range(count):
        rng = np.random.default_rng([9, number])
        while True:
            scene = own.two_colours(rng)
            two = scene.things[:2]
            if len(two) == 2 and two[0].concept == two[1].concept and two[0].colour:
                break
        yield own.colours(scene, rng)


def truth(sample: Sample) -> tuple[Array, NDArray[np.int64]]:
    """Boxes of a scene ``(n, 4)`` and the number of each one's name in the text."""
    boxes = np.array([thing.box for thing in sample.scene.things], np.float64).reshape(-1, 4)
    names = np.full(len(boxes), -1, np.int64)
    for number, phrase in enumerate(sample.phrases):
        names[phrase.things] = number
    return boxes, names


def overlaps(boxes: Array, others: Array) -> Array:
    """Intersection over union of every pair, edges outside, ``(n, N)``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    both = (high - low).clip(min=0).prod(axis=2)
    areas = [(each[:, 2:] - each[:, :2]).prod(axis=1) for each in (boxes, others)]
    return np.asarray(both / np.maximum(areas[0][:, None] + areas[1][None] - both, 1e-9))


def average_precision(found: Sequence[tuple[Array, Array, Array]]) -> float:
    """AP at an overlap of one half, in percent, of all scenes and names in one ranking.

    Each entry is one scene and name: boxes ``(N, 4)``, scores ``(N,)`` and true boxes ``(n, 4)``. Precision is read at
    101 recalls, as COCO does.
    """
    scores: list[Array] = []
    right: list[NDArray[np.bool_]] = []
    total = 0
    for boxes, score, true in found:
        total += len(true)
        scores.append(score)
        right.append(_hits(boxes, score, true) if len(true) else np.zeros(len(score), np.bool_))
    if not total:
        return 0.0
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hits = np.cumsum(np.concatenate(right)[order])
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(recall, POINTS, side="left")
    return float(100 * np.append(precision, 0)[places.clip(max=len(precision))].mean())


def _hits(boxes: Array, scores: Array, true: Array) -> NDArray[np.bool_]:
    """Which boxes find a true box that no surer one found, ``(N,)``."""
    shared = overlaps(boxes, true)
    hits = np.zeros(len(boxes), np.bool_)
    for place in np.argsort(-scores, kind="stable"):
        best = int(shared[place].argmax())
        if shared[place, best] >= IOU:
            hits[place] = True
            shared[:, best] = 0
    return hits


def suppressed(boxes: Array, scores: Array, iou: float = 0.6, most: int = 100, least: float = 1e-4) -> NDArray[np.intp]:
    """Which boxes are left of those that show the same, best first."""
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= least][:400]
    kept: list[int] = []
    while len(order) and len(kept) < most:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[overlaps(boxes[best : best + 1], boxes[order])[0] <= iou]
    return np.array(kept, np.intp)


def pointed(answer: Answer, phrase: int, box: Array) -> bool:
    """Whether the best box of a phrase has its middle in ``box`` and overlaps it by one half."""
    if not len(answer.boxes):
        return False
    best = answer.boxes[int(answer.scores[:, phrase].argmax())]
    return bool(overlaps(best[None], box[None])[0, 0] >= IOU)


def auroc(scores: Array, positive: NDArray[np.bool_]) -> float:
    """The chance that a name that is there scores higher than one that is not."""
    order = np.sort(scores[~positive])
    higher = np.searchsorted(order, scores[positive], "left") + np.searchsorted(order, scores[positive], "right")
    return float(higher.mean() / 2 / len(order))


def calibration_error(scores: Array, positive: NDArray[np.bool_]) -> float:
    """Expected calibration error over equally filled bins (Naeini et al. 2015), in percent."""
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, BINS)
    return float(100 * sum(abs((scores[part] - positive[part]).sum()) for part in parts) / len(scores))
