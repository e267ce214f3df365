"""What boxes of a drawing are called: evidence of the head and of the image tower to a score each, in NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.glip.anchors import anchors
from models.glip.boxes import decode
from services.detection.boxes import nms
from services.detection.caption_tokens import Relation, Said
from services.detection.protocol import Array
from services.runtime.problems import model_invalid

STRIDES, SIZES = (8, 16, 32), (32, 64, 128)
"""Of the levels of the pocket models, and the side of each level's anchor."""
_USUAL = {"scale": 27.23, "none": 0.2, "tokens": 1.0, "step": 4.0}
LEAST_SURE = 0.02
"""Objectness from which on a place is a proposal."""
SMALLEST = 4.0
"""Pixels a side of the tensor that a proposal has at least."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of a card's ``pipeline.parameters``.

    ``scale`` is the temperature of ``unicl-pocket``; ``none`` the cosine that a name must beat to be more likely than
    that no name fits; ``tokens`` how much the head's tokens count beside the name; ``step`` the pixels of the tensor
    over which a relation begins to hold.
    """

    scale: float
    none: float
    tokens: float
    step: float

    @staticmethod
    def of(model: str, parameters: Mapping[str, object]) -> Weights:
        """Raises ``model-invalid`` where the card of ``model`` has one that is no number."""
        try:
            told = [float(str(parameters.get(name, usual))) for name, usual in _USUAL.items()]
        except ValueError as error:
            raise model_invalid(f"{model}: pipeline: parameters: {error}.", "Pull it again.") from error
        return Weights(*told)


@dataclass(frozen=True, slots=True)
class Proposals:
    """Of one picture, the surest first: ``boxes (N, 4)`` of the tensor, edges outside; how sure it is that each shows
    a thing ``(N,)``; and the number of its place among all places ``(N,)``."""

    boxes: Array
    sure: Array
    places: np.ndarray[tuple[int], np.dtype[np.int64]]


def proposals(deltas: Array, centerness: Array, objectness: Array, side: int, *, most: int, iou: float) -> Proposals:
    """The best boxes of all places, ``(M, 4)``, ``(M,)`` and ``(M,)`` as the head gives them, without duplicates."""
    shapes = [(side // stride, side // stride) for stride in STRIDES]
    sure = np.sqrt(sigmoid(objectness) * sigmoid(centerness))
    likely = np.flatnonzero(sure >= LEAST_SURE)
    boxes = decode(deltas[likely], np.concatenate(anchors(shapes, SIZES, STRIDES))[likely])
    boxes = (boxes + np.array([0, 0, 1, 1], np.float32)).clip(0, side)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= SMALLEST).all(axis=1)
    likely, boxes = likely[large], boxes[large]
    kept = nms(boxes, sure[likely], np.zeros(len(likely), np.int64), iou, most=most)
    return Proposals(boxes[kept], sure[likely[kept]].astype(np.float32), likely[kept].astype(np.int64))


def named(sure: Array, seen: Array, names: Array, weights: Weights) -> Array:
    """``(N, T)``: how likely a box shows a thing and each of ``T`` names fits it better than the others and than none.

    ``sure (N,)``, unit rows ``seen (N, D)`` of what is in the boxes and ``names (T, D)``. A name that is there twice
    does not compete with itself.
    """
    distinct, back = np.unique(names, axis=0, return_inverse=True)
    cosines = seen @ distinct.T
    logits = weights.scale * np.concatenate([cosines, np.full((len(cosines), 1), weights.none)], axis=1)
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(sure[:, None] * share[:, back.reshape(-1)], np.float32)


def told(tokens: Array, phrases: Sequence[Said], weights: Weights) -> Array:
    """``(N, P)``: how well the head's tokens of each phrase fit a box, beside the box that they fit best.

    ``tokens (N, L)`` are probabilities; a phrase has the mean of its tokens, as in GLIP.
    """
    means = np.stack([tokens[:, said.first : said.last].mean(axis=1) for said in phrases], axis=1)
    best = means.max(axis=0, keepdims=True, initial=1e-6)
    return np.asarray((means / best) ** weights.tokens, np.float32)


def related(scores: Array, boxes: Array, relations: Sequence[Relation], weights: Weights) -> Array:
    """``scores (N, P)`` of phrases, those of a relation's subject less where no likely anchor lies as it says."""
    out = scores.copy()
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    apart = middles[None] - middles[:, None]  # (N, N, 2): of the second, seen from the first
    for relation in relations:
        axis = 0 if relation.kind in ("left of", "right of") else 1
        sign = 1 if relation.kind in ("left of", "above") else -1
        lies = sigmoid(np.asarray(sign * apart[..., axis] / weights.step, np.float32))
        np.fill_diagonal(lies, 0)
        anchor = scores[:, relation.anchor]
        likely = anchor / max(float(anchor.max(initial=0)), 1e-6)
        out[:, relation.subject] *= (lies * likely[None]).max(axis=1, initial=0)
    return out


def sigmoid(logits: Array) -> Array:
    """Without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
