"""One adaptation and its test probabilities, in the clean way and in the published toolkit's.

``strict``: everything is chosen on validation images, and the test images are looked at once (see
:mod:`services.finetuning.training.fitting`). ``reference``: as ``full_model_finetune.py`` of Elevater_Toolkit_IC does
it. There official validation images are not used, the last training is scored on the test images after each epoch and
its best epoch counts, rows for class names are taken as they are, and nothing but the draw of shots depends on the
seed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.encoders import ImageEncoder
from services.datasets.splits import validation_split
from services.finetuning.data.examples import Examples, scorer, tensors
from services.finetuning.encoders import adapted
from services.finetuning.encoders.adapted import Adapted
from services.finetuning.encoders.placing import device_of, placed
from services.finetuning.heads.head import Epoch, Head, Probe, probabilities, train_probe
from services.finetuning.heads.recipe import Recipe
from services.finetuning.search.grid import Best, Trial, reference_search, run
from services.finetuning.training.building import new_model
from services.finetuning.training.fitting import SEARCH_SHARE, fit
from services.finetuning.training.hooks import Hooks
from services.finetuning.training.memory import is_out_of_memory
from services.metrics.classification import MetricError

Array = NDArray[np.float32]
Model = Head | Adapted
SEED = 0
"""Of everything but the draw of shots, in the reference's way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an adaptation came to: test probabilities ``(N, C)``, and the settings that won.

    ``trainable`` counts what was trained, in the encoder and in the head.
    """

    probabilities: Array
    learning_rate: float
    weight_decay: float
    epochs: int
    trainable: int
    validation_score: float | None = None
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Data:
    """What an adaptation is done on; ``encoder`` where its strategy trains one, and inputs are pictures then.

    ``rows`` ``(C, D)``: unit rows for class names, where the head starts from them.
    """

    train: Examples
    validation: Examples | None
    test: Examples
    rows: Array | None = None
    encoder: ImageEncoder | None = None

    @property
    def text(self) -> Tensor | None:
        return None if self.rows is None else torch.from_numpy(self.rows)


def strict(data: Data, recipe: Recipe, hooks: Hooks) -> Outcome:
    """Raises what :func:`services.finetuning.training.fitting.fit` raises."""
    fitted = fit(data.train, data.validation, recipe, data.text, hooks=hooks, encoder=data.encoder)
    score = None if np.isnan(fitted.validation_score) else fitted.validation_score
    return Outcome(
        fitted.probabilities(data.test.inputs),
        fitted.learning_rate,
        fitted.weight_decay,
        fitted.epochs,
        fitted.trainable + fitted.head_parameters,
        score,
    )


def reference(data: Data, recipe: Recipe, hooks: Hooks, *, merge: bool = True) -> Outcome:
    """``merge`` false: the last training leaves out the validation images too, as the toolkit does for one shot.

    Raises :class:`SplitError`, and ``FloatingPointError`` when the last training diverges.
    """
    recipe = replace(recipe, seed=SEED)
    fit_rows, val_rows = validation_split(data.train.labels, recipe.classes)
    part, held_out = data.train.rows(fit_rows), data.train.rows(val_rows)
    best = _search(data, part, held_out, recipe, hooks)
    whole = data.train if merge else part
    model = new_model(whole, recipe, data.text, data.encoder)
    reached, epochs, last = -1.0, 0, 0.0
    probs = _probabilities(model, data.test, recipe)
    for epoch in _epochs(model, whole, data.test, recipe, best.learning_rate, best.weight_decay, recipe.epochs, hooks):
        hooks.on_epoch(epoch)
        last = epoch.metric
        if epoch.metric > reached:
            reached, epochs, probs = epoch.metric, epoch.number, _probabilities(model, data.test, recipe)

    trainable = adapted.count(model.encoder) if isinstance(model, Adapted) else 0
    head = model.head if isinstance(model, Adapted) else model
    trainable += sum(parameter.numel() for parameter in head.parameters())
    score = best.score if best.trials else None
    return Outcome(probs, best.learning_rate, best.weight_decay, epochs, trainable, score, {"last_epoch": last})


def _search(data: Data, part: Examples, held_out: Examples, recipe: Recipe, hooks: Hooks) -> Best:
    if recipe.learning_rate is not None and recipe.weight_decay is not None:
        return Best(recipe.learning_rate, recipe.weight_decay, 0.0, 0)
    most = recipe.trials
    end = math.inf if recipe.seconds is None else time.monotonic() + SEARCH_SHARE * recipe.seconds - hooks.spent

    def score(trial: Trial) -> float:
        hooks.between()
        known = hooks.stored(trial)
        if known is not None:
            return known

        model = new_model(part, recipe, data.text, data.encoder)
        settings = trial.learning_rate, trial.weight_decay
        try:
            reached = 0.0
            for epoch in _epochs(model, part, held_out, recipe, *settings, recipe.search_epochs, hooks):
                hooks.on_trial_epoch(trial, epoch)
                reached = max(reached, epoch.metric)
        except (FloatingPointError, MemoryError, RuntimeError) as error:
            if not isinstance(error, FloatingPointError) and not is_out_of_memory(error):
                raise
            hooks.log(f"trial {trial.number + 1} failed and counts as 0: {error}")
            reached = 0.0  # the toolkit skips a trial that raises

        hooks.on_trial(trial, reached)
        return reached

    return run(reference_search(), score, lambda done: (most is None or done < most) and time.monotonic() < end)


def _epochs(
    model: Model,
    examples: Examples,
    watched: Examples,
    recipe: Recipe,
    learning_rate: float,
    weight_decay: float,
    epochs: int,
    hooks: Hooks,
) -> Iterator[Epoch]:
    """The epochs of a training that is scored on ``watched`` after each."""
    where = device_of(model)
    inputs, labels = tensors(examples, recipe)
    probe = Probe(learning_rate, weight_decay, epochs, recipe.batch_size, SEED, recipe.optimizer)

    return train_probe(
        model,
        placed(inputs, where),
        labels.to(where),
        probe,
        score=_lenient(scorer(watched, recipe)),
        validation=placed(watched.inputs, where),
        between=hooks.between,
    )


def _lenient(score: Callable[[Tensor], float]) -> Callable[[Tensor], float]:
    """A metric that cannot be computed counts as 0, as in the toolkit's loops."""

    def value_of(probs: Tensor) -> float:
        try:
            value = score(probs)
        except MetricError:
            return 0.0
        return 0.0 if np.isnan(value) else value

    return value_of


def _probabilities(model: Model, examples: Examples, recipe: Recipe) -> Array:
    found: Array = probabilities(model, placed(examples.inputs, device_of(model)), recipe.batch_size).numpy()
    return found
