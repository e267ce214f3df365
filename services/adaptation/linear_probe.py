"""Fit a linear probe on cached features: tune on a validation split, stop early, then train on everything.

The clean form of ELEVATER's protocol: learning rate, weight decay and number of epochs are chosen on validation
images only; the test split, where there is one, is looked at once, at the end. (The toolkit itself reports the best
epoch on the test set.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.adaptation.head import Epoch, Head, HeadConfig, Probe, probabilities, train_probe
from services.adaptation.search import Best, Trial, reference_search, run
from services.benchmark.metrics import METRICS
from services.datasets.splits import SplitError, validation_split

SEARCH_EPOCHS = 10
FINAL_EPOCHS = 50
PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Examples:
    """Features ``(N, D) float32`` and for every row its class indices."""

    features: NDArray[np.float32]
    labels: Sequence[Sequence[int]]

    def rows(self, positions: Sequence[int]) -> Examples:
        return Examples(self.features[list(positions)], [self.labels[position] for position in positions])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train. With ``learning_rate`` and ``weight_decay`` given there is no search."""

    classes: int
    multilabel: bool = False
    head: HeadConfig = field(default_factory=HeadConfig)
    learning_rate: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    epochs: int = FINAL_EPOCHS

    @property
    def metric(self) -> str:
        return "11point_mAP" if self.multilabel else "accuracy"


@dataclass(slots=True)
class Fitted:
    """The trained head and how it came about; scores are 0 to 1, ``nan`` where there was nothing to score on."""

    head: Head
    learning_rate: float
    weight_decay: float
    epochs: int
    trials: int
    validation_score: float


@dataclass(slots=True)
class Hooks:
    """How a job follows the fit. Any may raise to stop it; trials whose score is stored are not run again."""

    on_trial: Callable[[Trial, float], None] = lambda trial, score: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    stored: Callable[[Trial], float | None] = lambda trial: None
    between: Callable[[], None] = lambda: None


def fit(train: Examples, validation: Examples | None, recipe: Recipe, text: Tensor | None, hooks: Hooks) -> Fitted:
    """Fit a head on ``train``; without ``validation`` a fifth of every class of ``train`` takes its place.

    ``text`` ``(C, D)``: rows that the head starts from (language-aware initialisation). Raises
    :class:`SplitError` when there is too little to split and nothing fixed, ``FloatingPointError`` when the loss is
    not finite.
    """
    if recipe.multilabel and validation is not None and not any(validation.labels):
        validation = None  # nothing to score on, and nothing to learn from but what is absent
    everything = train if validation is None else _joined(train, validation)
    if len(everything) < 2:
        raise SplitError("one image is not enough to train on; use at least two")
    if not any(train.labels):
        raise SplitError("no training image has a label")
    if validation is None:
        try:
            fit_rows, val_rows = validation_split(train.labels, recipe.classes)
            part, validation = train.rows(fit_rows), train.rows(val_rows)
            if len(part) < 2 or not any(part.labels):
                raise SplitError("too few images are left to train on beside those for validation")
        except SplitError:
            if recipe.learning_rate is None or recipe.weight_decay is None:
                raise
            part, validation = train, None
    else:
        part = train
    best = _tune(part, validation, recipe, text, hooks)
    epochs, score = recipe.epochs, math.nan
    if validation is not None:
        epochs, score = _epochs_until_best(part, validation, recipe, best, text, hooks)
    head = _new_head(everything, recipe, text)
    probe = Probe(best.learning_rate, best.weight_decay, epochs, seed=recipe.seed)
    for _ in train_probe(head, *_tensors(everything, recipe), probe):
        hooks.between()
    return Fitted(head.eval(), best.learning_rate, best.weight_decay, epochs, best.trials, score)


def evaluate(head: Head, examples: Examples, recipe: Recipe) -> float:
    """The recipe's metric of ``head`` on ``examples``, 0 to 1; ``nan`` when none of them has a label."""
    if not any(examples.labels):
        return math.nan
    return _scorer(examples, recipe)(probabilities(head, torch.from_numpy(examples.features)))


def _tune(part: Examples, validation: Examples | None, recipe: Recipe, text: Tensor | None, hooks: Hooks) -> Best:
    if recipe.learning_rate is not None and recipe.weight_decay is not None:
        return Best(recipe.learning_rate, recipe.weight_decay, math.nan, 0)
    assert validation is not None
    features, labels = _tensors(part, recipe)
    held_out, score_of = torch.from_numpy(validation.features), _scorer(validation, recipe)

    def score(trial: Trial) -> float:
        hooks.between()
        known = hooks.stored(trial)
        if known is not None:
            return known
        probe = Probe(trial.learning_rate, trial.weight_decay, SEARCH_EPOCHS, seed=recipe.seed)
        head = _new_head(part, recipe, text)
        try:
            reached = max(epoch.metric for epoch in train_probe(head, features, labels, probe, score_of, held_out))
        except FloatingPointError:
            reached = 0.0  # a diverged trial loses, the search goes on
        hooks.on_trial(trial, reached)
        return reached

    best = run(reference_search(), score)
    if best.learning_rate == 0.0:  # every trial scored 0: any setting is as good, so take a gentle one
        return Best(0.01, 1e-4, 0.0, best.trials)
    return best


def _epochs_until_best(
    part: Examples, validation: Examples, recipe: Recipe, best: Best, text: Tensor | None, hooks: Hooks
) -> tuple[int, float]:
    """Train with an eye on validation; stop when :data:`PATIENCE` epochs brought nothing. Best epoch and score."""
    head = _new_head(part, recipe, text)
    probe = Probe(best.learning_rate, best.weight_decay, recipe.epochs, seed=recipe.seed)
    reached, epochs = -1.0, 1
    score_of = _scorer(validation, recipe)
    for epoch in train_probe(head, *_tensors(part, recipe), probe, score_of, torch.from_numpy(validation.features)):
        hooks.between()
        hooks.on_epoch(epoch)
        if epoch.metric > reached:
            reached, epochs = epoch.metric, epoch.number
        elif epoch.number - epochs >= PATIENCE:
            break
    return epochs, reached


def _new_head(examples: Examples, recipe: Recipe, text: Tensor | None) -> Head:
    torch.manual_seed(recipe.seed)
    return Head(examples.features.shape[1], recipe.classes, recipe.head, text)


def _tensors(examples: Examples, recipe: Recipe) -> tuple[Tensor, Tensor]:
    features = torch.from_numpy(examples.features)
    if recipe.multilabel:
        return features, torch.from_numpy(_one_hot(examples, recipe.classes)).float()
    return features, torch.tensor([own[0] for own in examples.labels])


def _one_hot(examples: Examples, classes: int) -> NDArray[np.int64]:
    table = np.zeros((len(examples), classes), np.int64)
    for row, own in enumerate(examples.labels):
        table[row, list(own)] = 1
    return table


def _scorer(examples: Examples, recipe: Recipe) -> Callable[[Tensor], float]:
    metric = METRICS[recipe.metric]
    targets = _one_hot(examples, recipe.classes) if recipe.multilabel else np.array([own[0] for own in examples.labels])
    return lambda scores: metric(targets, scores.double().numpy())


def _joined(first: Examples, second: Examples) -> Examples:
    return Examples(np.concatenate([first.features, second.features]), [*first.labels, *second.labels])
