"""ELEVATER's automatic hyper-parameter search: learning rate by grid, weight decay by a grid that halves its step.

Reference: ``hyperparameter_sweep`` and ``hyperparameter_sweep_lr`` of ``full_model_finetune.py``. The search is a
generator of trials that takes scores back, so that a job can run each trial where it likes, store its score, and
after a crash replay the stored ones without running them. :mod:`services.finetuning.search.tpe` is a search of the
same form that needs far fewer trials.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

LEARNING_RATES: tuple[float, ...] = tuple(float(x) for x in np.logspace(-6, -1, 6))
WEIGHT_DECAYS: tuple[float, ...] = tuple(float(x) for x in np.logspace(-6, 6, 97))
COARSE = (0, 16, 32, 48, 64, 80, 96)
STEPS = (8, 4, 2, 1)


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting to be scored."""

    number: int
    learning_rate: float
    weight_decay: float


@dataclass(frozen=True, slots=True)
class GridTrial(Trial):
    """A trial of the reference; ``lr_index`` and ``wd_index`` are places in the grids."""

    lr_index: int
    wd_index: int


@dataclass(frozen=True, slots=True)
class Best:
    """The winner. When every trial scored 0 there is none: both values are 0, as in the reference."""

    learning_rate: float
    weight_decay: float
    score: float
    trials: int


Search = Generator[Trial, float, Best]


def reference_search(*, search_left: bool = False) -> Search:
    """Yields trials in the reference's order; send each one's score (0 for a failed trial) to get the next.

    ``search_left`` reproduces the first release, in which both neighbours of a peak were scored at the left
    weight decay while the peak still moved to the right index, whose weight decay is then the result.
    """
    number = 0
    best = Best(0.0, 0.0, 0.0, 0)

    def trial(lr_index: int, wd_index: int) -> GridTrial:
        return GridTrial(number, LEARNING_RATES[lr_index], WEIGHT_DECAYS[wd_index], lr_index, wd_index)

    for lr_index, learning_rate in enumerate(LEARNING_RATES):
        peak, peak_score = -1, 0.0
        for index in COARSE:
            score = yield trial(lr_index, index)
            number += 1
            if score > peak_score:
                peak, peak_score = index, score
        for step in STEPS:
            left, right, centre = max(peak - step, 0), min(peak + step, len(WEIGHT_DECAYS) - 1), peak
            for index in (left, right):
                if index == centre:
                    continue
                score = yield trial(lr_index, left if search_left else index)
                number += 1
                if score > peak_score:
                    peak, peak_score = index, score
        if peak_score > best.score:
            best = Best(learning_rate, WEIGHT_DECAYS[peak], peak_score, number)
    return Best(best.learning_rate, best.weight_decay, best.score, number)


def run(search: Search, score: Callable[[Trial], float], more: Callable[[int], bool] = lambda done: True) -> Best:
    """Drive ``search`` to its end with ``score``, or until ``more`` says of the number done that it was enough.

    A search that is cut short gives the best trial so far, the first of equals; one trial is always made.
    """
    best = Best(0.0, 0.0, 0.0, 0)
    try:
        trial = next(search)
        while True:
            reached = score(trial)
            done = best.trials + 1
            best = Best(best.learning_rate, best.weight_decay, best.score, done)
            if reached > best.score:
                best = Best(trial.learning_rate, trial.weight_decay, reached, done)
            following = search.send(reached)
            if not more(done):
                search.close()
                return best
            trial = following
    except StopIteration as end:
        whole: Best = end.value
        return whole


REFERENCE_TRIALS = len(LEARNING_RATES) * (len(COARSE) + 2 * len(STEPS))
"""The reference tries at most this many settings."""
