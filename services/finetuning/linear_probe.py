"""The linear probe on features that are there already: :mod:`services.finetuning.fitting` without an encoder."""

from __future__ import annotations

import math

import torch

from services.finetuning.data.examples import Examples, scorer
from services.finetuning.fitting import fit
from services.finetuning.head import Head, probabilities
from services.finetuning.recipe import Fitted, Hooks, Recipe

__all__ = ["Examples", "Fitted", "Hooks", "Recipe", "evaluate", "fit"]


def evaluate(head: Head, examples: Examples, recipe: Recipe) -> float:
    """The recipe's metric of ``head`` on ``examples``, 0 to 1; ``nan`` when none of them has a label."""
    if not any(examples.labels):
        return math.nan
    return scorer(examples, recipe)(probabilities(head, torch.from_numpy(examples.features)))
