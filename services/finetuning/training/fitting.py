"""Fit a strategy: tune on a validation split, stop early, then train on everything.

The clean form of ELEVATER's protocol: learning rate, weight decay and number of epochs are chosen on validation
images only; the test split, where there is one, is looked at once, at the end. (The toolkit itself reports the best
epoch on the test set.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar, get_args

import torch
from torch import Tensor

from models.encoders import ImageEncoder
from services.datasets.splits import SplitError
from services.finetuning.data.examples import Examples, divided, scorer, tensors
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders import adapted
from services.finetuning.encoders.adapted import Adapted
from services.finetuning.encoders.placing import device_of, features_of, placed
from services.finetuning.heads.head import Epoch, Head, Probe, train_probe
from services.finetuning.heads.normalisation import Moments
from services.finetuning.heads.recipe import Recipe
from services.finetuning.search.choosing import open_search
from services.finetuning.search.grid import Best, Trial, run
from services.finetuning.search.intrinsic import Intrinsic, measure, select
from services.finetuning.strategies.base import checked, strategy
from services.finetuning.strategies.sites import Part
from services.finetuning.training.building import new_model
from services.finetuning.training.fitted import Fitted
from services.finetuning.training.hooks import Hooks
from services.finetuning.training.memory import halving

__all__ = ["Examples", "Fitted", "Hooks", "Recipe", "evaluate", "fit", "tensors"]

T = TypeVar("T")

SEARCH_SHARE, STOP_SHARE = 0.5, 0.7
"""Of the seconds there are: when the search ends, and when looking for the best epoch does."""


def fit(
    train: Examples,
    validation: Examples | None,
    recipe: Recipe,
    text: Tensor | None,
    *,
    hooks: Hooks,
    encoder: ImageEncoder | None = None,
) -> Fitted:
    """Fit on ``train``; without ``validation`` a fifth of every class of ``train`` takes its place.

    ``text`` ``(C, D)``: rows that the head starts from (language-aware initialisation). ``encoder`` is needed for
    every method that trains it, is not changed, and takes pictures for inputs. Raises :class:`SplitError` when there
    is too little to split and nothing fixed, ``FloatingPointError`` when the loss is not finite, and
    :class:`~services.errors.Problem` when method and encoder do not fit.
    """
    chosen = strategy(recipe.method)
    if not chosen.trains_encoder:
        checked(recipe.method, chosen, recipe.options)
        if encoder is None or not isinstance(train.inputs, Pictures):
            return _Fit(train, validation, recipe, text, hooks=hooks).run()
        features, held_out = (_features(encoder, part, recipe, hooks) for part in (train, validation))
        assert features is not None
        return replace(_Fit(features, held_out, recipe, text, hooks=hooks).run(), encoder=encoder)

    if encoder is None:
        raise ValueError(f"{recipe.method} trains the encoder, and none was given")
    return _Fit(train, validation, recipe, text, hooks=hooks, encoder=encoder).run()


def evaluate(fitted: Fitted, examples: Examples, recipe: Recipe) -> float:
    """Score ``examples`` by the recipe's metric, 0 to 1; ``nan`` when none of them has a label."""
    if not any(examples.labels):
        return math.nan
    return scorer(examples, recipe)(torch.from_numpy(fitted.probabilities(examples.inputs)))


class _Fit:
    """One fit: what its phases share."""

    def __init__(
        self,
        train: Examples,
        validation: Examples | None,
        recipe: Recipe,
        text: Tensor | None,
        *,
        hooks: Hooks,
        encoder: ImageEncoder | None = None,
    ) -> None:
        self._recipe, self._text, self._hooks, self._encoder = recipe, text, hooks, encoder

        self._begun = time.monotonic() - hooks.spent
        self._batch_size = recipe.batch_size
        self._train = train
        self._everything, self._part, self._validation = divided(train, validation, recipe)
        self._moments: Moments | None = None

    def run(self) -> Fitted:
        if self._recipe.head.channel_bn:
            self._moments = self._halving(self._moments_of_train)

        if self._recipe.options.get("parts") == "auto" and self._encoder is not None:
            chosen = dict(self._recipe.options) | {"parts": self._parts(self._encoder)}
            self._recipe = replace(self._recipe, options=chosen)

        recipe = self._recipe
        best = self._tune()
        epochs, score = recipe.epochs, math.nan
        if self._validation is not None:
            epochs, score = self._halving(partial(self._watch, best))

        model, epochs = self._halving(partial(self._train_all, best, epochs))
        trained = adapted.count(model.encoder) if isinstance(model, Adapted) else 0
        return Fitted(
            model.eval(),
            best.learning_rate,
            best.weight_decay,
            epochs,
            best.trials,
            score,
            trained,
            self._batch_size,
            recipe.options,
        )

    def _moments_of_train(self) -> Moments:
        """Measure the features of the training images as they were given, whichever of them validate."""
        inputs = self._train.inputs
        if isinstance(inputs, Pictures):
            assert self._encoder is not None
            return Moments.of(features_of(self._encoder, inputs, self._batch_size, self._hooks.between))
        return Moments.of(inputs)

    def _parts(self, encoder: ImageEncoder) -> str:
        """Choose the parts of the smallest intrinsic dimension; the strategy's own where training none gains."""
        every, hooks = get_args(Part), self._hooks
        kept = hooks.kept("parts")
        if kept is not None:
            return " ".join(every[index] for index in kept[1]["chosen"].tolist())

        if self._validation is None:
            raise SplitError('there are no images to validate "parts": "auto" on; name the parts instead')
        validation = self._validation

        def measured_now() -> list[Intrinsic]:
            recipe = replace(self._recipe, batch_size=self._batch_size)
            return measure(encoder, self._part, validation, recipe, between=hooks.between)

        measured = self._halving(measured_now)
        for one in measured:
            hooks.log(f"{one.part}: intrinsic dimension {one.dimension:,} of {one.parameters:,}, score {one.score:.3f}")

        parts = select(measured)
        if not parts:
            parts = str(strategy(self._recipe.method).options["parts"])
            hooks.log(f"no part of the encoder gains on a linear probe: {parts} are trained, as without auto")
        hooks.keep("parts", 0, lambda: {"chosen": torch.tensor([every.index(part) for part in parts.split()])})
        return parts

    def _tune(self) -> Best:
        recipe = self._recipe
        if recipe.learning_rate is not None and recipe.weight_decay is not None:
            return Best(recipe.learning_rate, recipe.weight_decay, math.nan, 0)
        start = strategy(recipe.method)
        search, most = open_search(recipe.search, recipe.seed, recipe.trials, (start.learning_rate, start.weight_decay))
        best = run(search, self._score, lambda done: done < most and self._time_left(SEARCH_SHARE))
        if best.learning_rate == 0.0:  # every trial scored 0: any setting is as good, so take a gentle one
            return Best(start.learning_rate, start.weight_decay, 0.0, best.trials)
        return best

    def _score(self, trial: Trial) -> float:
        hooks = self._hooks
        hooks.between()
        known = hooks.stored(trial)
        if known is not None:
            return known

        try:
            reached = self._halving(lambda: self._best_epoch(trial))
        except FloatingPointError as error:
            hooks.log(f"trial {trial.number + 1} failed and counts as 0: {error}")
            reached = 0.0  # a diverged trial loses, the search goes on

        hooks.on_trial(trial, reached)
        return reached

    def _best_epoch(self, trial: Trial) -> float:
        best = Best(trial.learning_rate, trial.weight_decay, 0.0, 0)
        reached = 0.0
        for epoch in self._epochs(self._part, best, self._recipe.search_epochs)[1]:
            self._hooks.on_trial_epoch(trial, epoch)
            reached = max(reached, float(epoch.metric))
        return reached

    def _watch(self, best: Best) -> tuple[int, float]:
        """Train with an eye on validation; stop when as many epochs as the patience brought nothing.

        Returns the best epoch and its score.
        """
        hooks, recipe = self._hooks, self._recipe
        over = hooks.kept("watched")
        if over is not None:
            return over[0], float(over[1]["score"])

        kept = hooks.kept("watch")
        reached, epochs = -1.0, 1
        if kept is not None:
            reached, epochs = float(kept[1]["best"][0]), int(kept[1]["best"][1])

        for epoch in self._epochs(self._part, best, recipe.epochs, kept)[1]:
            hooks.on_epoch(epoch)
            if epoch.metric > reached:
                reached, epochs = epoch.metric, epoch.number
            if epoch.number - epochs >= recipe.patience or not self._time_left(STOP_SHARE):
                break
            hooks.keep("watch", epoch.number, partial(_with_best, epoch, reached, epochs))

        score = torch.tensor(reached, dtype=torch.float64)
        hooks.keep("watched", epochs, lambda: {"score": score})
        return epochs, reached

    def _train_all(self, best: Best, epochs: int) -> tuple[Head | Adapted, int]:
        hooks = self._hooks
        kept = hooks.kept("final")
        model, stream = self._epochs(self._everything, best, epochs, kept, watch=False)
        reached = kept[0] if kept is not None else 0

        for epoch in stream:
            reached = epoch.number
            hooks.on_epoch(replace(epoch, metric=math.nan))
            hooks.keep("final", epoch.number, epoch.snapshot)
            if not self._time_left(1.0) and reached < epochs:
                hooks.log(f"the time is up: training ends after {reached} of {epochs} epochs")
                break
        return model, reached

    def _epochs(
        self,
        examples: Examples,
        best: Best,
        epochs: int,
        kept: tuple[int, dict[str, Tensor]] | None = None,
        *,
        watch: bool = True,
    ) -> tuple[Head | Adapted, Iterator[Epoch]]:
        """Make a new model, and the epochs of its training."""
        recipe = self._recipe
        model = new_model(examples, recipe, self._text, self._encoder, moments=self._moments)
        where = device_of(model)
        inputs, labels = tensors(examples, recipe)
        validation, score_of = None, None
        if watch and self._validation is not None:
            validation, score_of = placed(self._validation.inputs, where), scorer(self._validation, recipe)

        share = strategy(recipe.method).encoder_rate if recipe.encoder_rate is None else recipe.encoder_rate
        probe = Probe(
            best.learning_rate, best.weight_decay, epochs, self._batch_size, recipe.seed, recipe.optimizer, share
        )
        stream = train_probe(
            model,
            placed(inputs, where),
            labels.to(where),
            probe,
            score=score_of,
            validation=validation,
            after=kept,
            between=self._hooks.between,
        )
        return model, stream

    def _halving(self, work: Callable[[], T]) -> T:
        """Do ``work``; where memory runs out, again with half the batch, which then stays halved."""

        def smaller(size: int) -> None:
            self._batch_size = size

        return halving(work, self._batch_size, smaller, self._hooks.log)

    def _time_left(self, share: float) -> bool:
        return self._recipe.seconds is None or time.monotonic() - self._begun < share * self._recipe.seconds


def _with_best(epoch: Epoch, score: float, number: int) -> dict[str, Tensor]:
    """The state after an epoch, with the best score so far and its epoch."""
    return {**epoch.snapshot(), "best": torch.tensor([score, float(number)], dtype=torch.float64)}


def _features(encoder: ImageEncoder, part: Examples | None, recipe: Recipe, hooks: Hooks) -> Examples | None:
    if part is None or not isinstance(part.inputs, Pictures):
        return part
    return Examples(features_of(encoder, part.inputs, recipe.batch_size, hooks.between), part.labels)
