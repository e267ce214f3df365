"""A linear probe on cached features, in the clean way and in the published toolkit's.

``strict``: everything is chosen on validation images, the test images are looked at once (see
:mod:`services.adaptation.linear_probe`). ``reference``: as ``full_model_finetune.py`` of Elevater_Toolkit_IC does it:
official validation images are not used, the last training is scored on the test images after each epoch and its
best epoch counts, rows for class names are taken as they are, and nothing but the draw of shots depends on the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.adaptation.examples import Examples
from services.adaptation.fitting import fit
from services.adaptation.head import Head, Probe, probabilities, train_probe
from services.adaptation.recipe import SEARCH_EPOCHS, Hooks, Recipe
from services.adaptation.search import Best, Trial, reference_search, run
from services.benchmark.metrics import METRICS, MetricError
from services.datasets.splits import validation_split

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ProbeRecipe(Recipe):
    """A recipe whose settings are chosen by the data set's own metric."""

    by: str = "accuracy"

    @property
    def metric(self) -> str:
        return self.by


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an adaptation came to: test probabilities ``(N, C)`` and the settings that won."""

    probabilities: Array
    learning_rate: float
    weight_decay: float
    epochs: int
    trainable: int
    validation_score: float | None = None
    notes: dict[str, float] = field(default_factory=dict)


def strict_probe(
    train: Examples, validation: Examples | None, test: Examples, recipe: ProbeRecipe, rows: Array | None, hooks: Hooks
) -> Outcome:
    """Raises what :func:`services.adaptation.linear_probe.fit` raises."""
    text = None if rows is None else torch.from_numpy(fitted_rows(rows, train.features))
    fitted = fit(train, validation, recipe, text, hooks)
    probs = probabilities(fitted.head, torch.from_numpy(test.features)).numpy()
    score = None if np.isnan(fitted.validation_score) else fitted.validation_score
    return Outcome(
        probs, fitted.learning_rate, fitted.weight_decay, fitted.epochs, _size(fitted.head), validation_score=score
    )


def reference_probe(
    train: Examples, test: Examples, recipe: ProbeRecipe, rows: Array | None, hooks: Hooks, *, merge: bool = True
) -> Outcome:
    """``merge`` false: the last training leaves out the validation images too, as the toolkit does for one shot.

    Raises :class:`SplitError`, and ``FloatingPointError`` when the last training diverges.
    """
    text = None if rows is None else torch.from_numpy(rows)
    fit_rows, val_rows = validation_split(train.labels, recipe.classes)
    part, held_out = train.rows(fit_rows), train.rows(val_rows)
    best = _search(part, held_out, recipe, text, hooks)
    whole = train.rows([*fit_rows, *val_rows]) if merge else part
    head = _head(whole, recipe, text)
    probe = Probe(best.learning_rate, best.weight_decay, recipe.epochs, seed=0)
    score_of, pictures = _scorer(test, recipe), torch.from_numpy(test.features)
    reached, epochs, last = -1.0, 0, 0.0
    probs = probabilities(head, pictures)
    for epoch in train_probe(head, *_tensors(whole, recipe), probe, score_of, pictures):
        hooks.between()
        hooks.on_epoch(epoch)
        last = epoch.metric
        if epoch.metric > reached:
            reached, epochs, probs = epoch.metric, epoch.number, probabilities(head, pictures)
    notes = {"last_epoch": last}
    return Outcome(probs.numpy(), best.learning_rate, best.weight_decay, epochs, _size(head), best.score or None, notes)


def fitted_rows(rows: Array, features: Array) -> Array:
    """Class rows for raw features, made fit for the head's normalised channels and brought to unit length.

    The head divides every channel by its deviation; a row that is to give the same score must be multiplied by it.
    """
    scaled = rows * features.std(axis=0)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-12), np.float32)


def _search(part: Examples, held_out: Examples, recipe: ProbeRecipe, text: Tensor | None, hooks: Hooks) -> Best:
    if recipe.learning_rate is not None and recipe.weight_decay is not None:
        return Best(recipe.learning_rate, recipe.weight_decay, 0.0, 0)
    features, labels = _tensors(part, recipe)
    score_of, pictures = _scorer(held_out, recipe), torch.from_numpy(held_out.features)

    def score(trial: Trial) -> float:
        hooks.between()
        known = hooks.stored(trial)
        if known is not None:
            return known
        probe = Probe(trial.learning_rate, trial.weight_decay, SEARCH_EPOCHS, seed=0)
        head = _head(part, recipe, text)
        try:
            reached = max(epoch.metric for epoch in train_probe(head, features, labels, probe, score_of, pictures))
        except FloatingPointError:
            reached = 0.0  # the toolkit skips a trial that raises
        hooks.on_trial(trial, reached)
        return reached

    return run(reference_search(), score)


def _head(examples: Examples, recipe: ProbeRecipe, text: Tensor | None) -> Head:
    torch.manual_seed(0)
    return Head(examples.features.shape[1], recipe.classes, recipe.head, text)


def targets(examples: Examples, classes: int, *, multilabel: bool) -> NDArray[np.int64]:
    """``(N,)`` class indices, or ``(N, C)`` of 0 and 1 where an image may have several."""
    if not multilabel:
        return np.array([own[0] for own in examples.labels], np.int64)
    table = np.zeros((len(examples), classes), np.int64)
    for row, own in enumerate(examples.labels):
        table[row, list(own)] = 1
    return table


def _tensors(examples: Examples, recipe: ProbeRecipe) -> tuple[Tensor, Tensor]:
    labels = torch.from_numpy(targets(examples, recipe.classes, multilabel=recipe.multilabel))
    return torch.from_numpy(examples.features), labels.float() if recipe.multilabel else labels


def _scorer(examples: Examples, recipe: ProbeRecipe) -> Callable[[Tensor], float]:
    truth, metric = targets(examples, recipe.classes, multilabel=recipe.multilabel), METRICS[recipe.metric]

    def score(scores: Tensor) -> float:
        try:
            value = metric(truth, scores.double().numpy())
        except MetricError:
            return 0.0  # as the toolkit's loops do
        return 0.0 if np.isnan(value) else value

    return score


def _size(head: Head) -> int:
    return sum(parameter.numel() for parameter in head.parameters() if parameter.requires_grad)
