"""ELEVATER's automatic hyper-parameter search: learning rate by grid, weight decay by a grid that halves its step.

Reference: ``hyperparameter_sweep`` and ``hyperparameter_sweep_lr`` of ``full_model_finetune.py``. The search is a
generator of trials that takes scores back, so that a job can run each trial where it likes, store its score, and
after a crash replay the stored ones without running them.
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
    """One setting to be scored; ``lr_index`` and ``wd_index`` are places in the grids."""

    number: int
    lr_index: int
    wd_index: int

    @property
    def learning_rate(self) -> float:
        return LEARNING_RATES[self.lr_index]

    @property
    def weight_decay(self) -> float:
        return WEIGHT_DECAYS[self.wd_index]


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
    weight decay while the peak still moved to the right index.
    """
    number = 0
    best = Best(0.0, 0.0, 0.0, 0)
    for lr_index, learning_rate in enumerate(LEARNING_RATES):
        peak, peak_score, peak_decay = -1, 0.0, 0.0
        for index in COARSE:
            score = yield Trial(number, lr_index, index)
            number += 1
            if score > peak_score:
                peak, peak_score, peak_decay = index, score, WEIGHT_DECAYS[index]
        for step in STEPS:
            left, right, centre = max(peak - step, 0), min(peak + step, len(WEIGHT_DECAYS) - 1), peak
            for index in (left, right):
                if index == centre:
                    continue
                tried = left if search_left else index
                score = yield Trial(number, lr_index, tried)
                number += 1
                if score > peak_score:
                    peak, peak_score, peak_decay = index, score, WEIGHT_DECAYS[tried]
        if peak_score > best.score:
            best = Best(learning_rate, peak_decay, peak_score, number)
    return Best(best.learning_rate, best.weight_decay, best.score, number)


def run(search: Search, score: Callable[[Trial], float]) -> Best:
    """Drive ``search`` to its end with ``score``."""
    try:
        trial = next(search)
        while True:
            trial = search.send(score(trial))
    except StopIteration as end:
        best: Best = end.value
        return best
