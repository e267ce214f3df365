"""Inputs with their labels, as a fit takes them: features of a frozen encoder, or pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from services.datasets.splits import SplitError, validation_split
from services.finetuning.data.pictures import Pictures
from services.finetuning.heads.head import Inputs
from services.finetuning.heads.recipe import Recipe
from services.metrics.classification import METRICS


@dataclass(frozen=True, slots=True)
class Examples:
    """Features ``(N, D) float32`` or :class:`Pictures`, and for every row its class indices."""

    inputs: NDArray[np.float32] | Pictures
    labels: Sequence[Sequence[int]]

    def rows(self, positions: Sequence[int]) -> Examples:
        """Some of them, in that order."""
        labels = [self.labels[position] for position in positions]
        if isinstance(self.inputs, Pictures):
            return Examples(self.inputs.rows(positions), labels)
        return Examples(self.inputs[list(positions)], labels)

    def joined(self, other: Examples) -> Examples:
        """These and then the others; both of features or both of pictures."""
        labels = [*self.labels, *other.labels]
        if isinstance(self.inputs, Pictures):
            assert isinstance(other.inputs, Pictures)
            return Examples(self.inputs.joined(other.inputs), labels)
        assert not isinstance(other.inputs, Pictures)
        return Examples(np.concatenate([self.inputs, other.inputs]), labels)

    @property
    def features(self) -> NDArray[np.float32]:
        """The inputs where they are features; raises ``TypeError`` for pictures."""
        if isinstance(self.inputs, Pictures):
            raise TypeError("these examples are pictures, not features")
        return self.inputs

    def __len__(self) -> int:
        return len(self.labels)


def tensors(examples: Examples, recipe: Recipe) -> tuple[Inputs, Tensor]:
    """Inputs by row, and labels ``(N,)`` int64 or, for several labels, ``(N, C)`` float of 0 and 1."""
    inputs = examples.inputs if isinstance(examples.inputs, Pictures) else torch.from_numpy(examples.inputs)
    if recipe.multilabel:
        return inputs, torch.from_numpy(one_hot(examples, recipe.classes)).float()
    return inputs, torch.tensor([own[0] for own in examples.labels])


def scorer(examples: Examples, recipe: Recipe) -> Callable[[Tensor], float]:
    """Softmax probabilities of ``examples`` to the recipe's metric."""
    metric = METRICS[recipe.metric]
    several = recipe.multilabel
    targets = one_hot(examples, recipe.classes) if several else np.array([own[0] for own in examples.labels])
    return lambda scores: metric(targets, scores.double().numpy())


def one_hot(examples: Examples, classes: int) -> NDArray[np.int64]:
    """``(N, C)``: 1 where a row has a class."""
    table = np.zeros((len(examples), classes), np.int64)
    for row, own in enumerate(examples.labels):
        table[row, list(own)] = 1
    return table


def divided(train: Examples, validation: Examples | None, recipe: Recipe) -> tuple[Examples, Examples, Examples | None]:
    """Everything there is to learn from; while settings are chosen, what of it trains and what validates.

    Raises :class:`SplitError` where there is too little.
    """
    if recipe.multilabel and validation is not None and not any(validation.labels):
        validation = None  # nothing to score on, and nothing to learn from but what is absent

    everything = train if validation is None else train.joined(validation)
    if len(everything) < 2:
        raise SplitError("one image is not enough to train on; use at least two")
    if not any(train.labels):
        raise SplitError("no training image has a label")
    if validation is not None:
        return everything, train, validation

    try:
        fit_rows, val_rows = validation_split(train.labels, recipe.classes)
        part = train.rows(fit_rows)
        if len(part) < 2 or not any(part.labels):
            raise SplitError("too few images are left to train on beside those for validation")
    except SplitError:
        if recipe.learning_rate is None or recipe.weight_decay is None:
            raise
        return everything, train, None

    return everything, part, train.rows(val_rows)
