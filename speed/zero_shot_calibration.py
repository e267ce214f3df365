"""What scores mean: the temperature, ``none_of_these`` and single-label probabilities, fitted and then measured.

Pictures of which some show one of the labels and some show none, with 2 to 100 labels; half of the trials with labels
that the method knows as classes, half with labels that it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.zero_shot.nouns import Hierarchy, Nouns
from services.encoding.meanings import Evidence
from speed.zero_shot_data import Pictures
from speed.zero_shot_methods import Indices, Served
from speed.zero_shot_tasks import EVERY, KindTask, splits
from speed.zero_shot_unicl import Trained

Array = NDArray[np.float64]

SIZES = (2, 3, 5, 10, 20, 50, 100)
PICTURES = 25
BINS = 15


@dataclass(frozen=True)
class Trial:
    """``truth``: the place of each picture's label, or -1 where none fits. ``novel``: the labels were unknown."""

    evidence: Evidence
    truth: Indices
    novel: bool


def trials(
    served: Served | Trained, imagenet: Pictures, half: Indices, kinds: Sequence[KindTask], below: Kinds, seed: int
) -> Iterator[Trial]:
    """Trials with the classes and pictures of ``half``."""
    random = np.random.RandomState(seed)
    for hidden, known in splits(half, seed, 4):
        for size in SIZES * 2:
            chosen = random.permutation(hidden)[:size]
            yield _trial(served, imagenet, known, chosen, np.setdiff1d(half, chosen), random, novel=True)
    for size in SIZES * 6:
        chosen = random.permutation(half)[:size]
        yield _trial(served, imagenet, EVERY, chosen, np.setdiff1d(half, chosen), random, novel=False)
    for task in kinds:
        shown = random.permutation(len(task.classes))[:PICTURES]
        covered = {c for label in task.labels for c in below.of(label)}
        rest = random.permutation([c for c in half if c not in covered])[:PICTURES]
        pictures = imagenet.only(np.concatenate([task.classes[shown], rest]).astype(int))
        truth = np.concatenate([task.truth[shown], np.full(len(rest), -1)])
        yield Trial(_evidence(served, EVERY, task.labels, pictures), truth, False)


class Kinds:
    """The classes below a label that names a kind of thing."""

    def __init__(self, nouns: Nouns, hierarchy: Hierarchy, served: Served | Trained) -> None:
        self._lexicon = served.predictor(EVERY).lexicon
        self._below = hierarchy.classes_below(nouns.imagenet)

    def of(self, label: str) -> list[int]:
        meaning = self._lexicon.find(label)
        return [] if meaning is None else self._below.get(meaning.synset, [])


def _trial(
    served: Served | Trained,
    imagenet: Pictures,
    known: Indices,
    chosen: Indices,
    rest: Indices,
    random: object,
    *,
    novel: bool,
) -> Trial:
    assert isinstance(random, np.random.RandomState)
    places = random.permutation(len(chosen))[:PICTURES]
    others = random.permutation(rest)[: max(len(places), PICTURES // 2)]
    labels = [imagenet.labels[c] for c in chosen]
    pictures = imagenet.only(np.concatenate([chosen[places], others]))
    truth = np.concatenate([places, np.full(len(others), -1)])
    return Trial(_evidence(served, known, labels, pictures), truth, novel)


def _evidence(served: Served | Trained, known: Indices, labels: Sequence[str], pictures: Pictures) -> Evidence:
    rows = served.rows(known, labels)
    return served.predictor(known).evidence(pictures.features, pictures.logits[:, known], rows, pictures.sides)


def fit_parameters(done: Sequence[Trial]) -> dict[str, float | list[float]]:
    """The card's ``scale``, ``none`` and ``alone``."""
    scales = np.exp(np.linspace(np.log(4), np.log(60), 60))
    losses = [np.mean([_loss(trial, scale) for trial in done if (trial.truth >= 0).any()]) for scale in scales]
    none_x, none_y, none_w = (np.concatenate(c) for c in zip(*map(_none_table, done), strict=True))
    alone_x, alone_y, alone_w = (np.concatenate(c) for c in zip(*map(_alone_table, done), strict=True))
    return {
        "scale": round(float(scales[int(np.argmin(losses))]), 2),
        "none": [round(float(v), 3) for v in logistic(none_x, none_y, none_w)],
        "alone": [round(float(v), 3) for v in logistic(alone_x, alone_y, alone_w)],
    }


def measure(done: Sequence[Trial], scale: float, none: Sequence[float], alone: Sequence[float]) -> dict[str, float]:
    """Areas under the ROC curve and expected calibration errors (percent)."""
    confidence, right = [], []
    for trial in done:
        shown = trial.truth >= 0
        scores = _softmax(scale * trial.evidence.cosines[shown].astype(np.float64))
        confidence.append(scores.max(axis=1))
        right.append(scores.argmax(axis=1) == trial.truth[shown])
    none_x, none_y, none_w = (np.concatenate(c) for c in zip(*map(_none_table, done), strict=True))
    alone_x, alone_y, alone_w = (np.concatenate(c) for c in zip(*map(_alone_table, done), strict=True))
    doubt = _sigmoid(none_x @ np.array(none))
    single = _sigmoid(alone_x @ np.array(alone))
    return {
        "softmax ECE": 100 * ece(np.concatenate(confidence), np.concatenate(right), np.ones(sum(map(len, right)))),
        "none AUROC": 100 * auroc(doubt, none_y),
        "none ECE": 100 * ece(doubt, none_y, none_w),
        "single-label AUROC": 100 * auroc(single, alone_y),
        "single-label ECE": 100 * ece(single, alone_y, alone_w),
    }


def _loss(trial: Trial, scale: float) -> float:
    shown = trial.truth >= 0
    scores = _softmax(scale * trial.evidence.cosines[shown].astype(np.float64))
    return float(-np.log(scores[np.arange(len(scores)), trial.truth[shown]]).mean())


def _none_table(trial: Trial) -> tuple[Array, NDArray[np.bool_], Array]:
    """Rows of the regression, whether no label fits, weights that make both equally likely in a trial."""
    evidence, missing = trial.evidence, trial.truth < 0
    best = evidence.cosines.max(axis=1)
    count = np.full(len(best), np.log(evidence.cosines.shape[1]))
    table = np.stack([np.ones(len(best)), best, evidence.others, count], axis=1)
    return table, missing, _even(missing)


def _alone_table(trial: Trial) -> tuple[Array, NDArray[np.bool_], Array]:
    """As above for every picture and label."""
    evidence = trial.evidence
    fits = trial.truth[:, None] == np.arange(evidence.cosines.shape[1])
    nearest = np.broadcast_to(evidence.nearest[:, None], fits.shape)
    table = np.stack([np.ones(fits.size), evidence.cosines.ravel(), nearest.ravel()], axis=1)
    return table, fits.ravel(), _even(fits.ravel())


def _even(positive: NDArray[np.bool_]) -> Array:
    share = positive.mean()
    return np.where(positive, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9)) / len(positive)


def logistic(table: Array, positive: NDArray[np.bool_], weights: Array, ridge: float = 1e-4) -> Array:
    """Newton's method."""
    beta = np.zeros(table.shape[1])
    for _ in range(30):
        p = _sigmoid(table @ beta)
        gradient = table.T @ (weights * (p - positive)) + ridge * beta
        curve = (table * (weights * p * (1 - p))[:, None]).T @ table + ridge * np.eye(len(beta))
        beta -= np.linalg.solve(curve, gradient)
    return beta


def auroc(scores: Array, positive: NDArray[np.bool_]) -> float:
    """The chance that a positive scores higher than a negative."""
    order = np.sort(scores[~positive])
    higher = np.searchsorted(order, scores[positive], "left") + np.searchsorted(order, scores[positive], "right")
    return float(higher.mean() / 2 / len(order))


def ece(scores: Array, positive: NDArray[np.bool_], weights: Array) -> float:
    """Expected calibration error over equally filled bins (Naeini et al. 2015)."""
    order = np.argsort(scores)
    error = 0.0
    for part in np.array_split(order, BINS):
        w = weights[part] / weights.sum()
        error += abs(float((w * (scores[part] - positive[part])).sum()))
    return error


def _softmax(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def _sigmoid(values: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * values))
