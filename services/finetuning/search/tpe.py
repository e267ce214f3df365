"""Optuna's search (tree-structured Parzen estimator): continuous values, a quarter of the reference's trials.

The same generator as :mod:`services.finetuning.search.grid`: equal scores give equal trials, so stored ones can be
replayed.
"""

from __future__ import annotations

import optuna

from services.finetuning.search.grid import Best, Search, Trial

TRIALS = 24
AT_RANDOM = 6
"""Trials before the estimator begins to choose."""

LEARNING_RATE = (1e-6, 1e-1)
WEIGHT_DECAY = (1e-6, 1e2)
"""Of the reference's 1e6, what is above 1e2 only shrinks every weight to zero."""


def tpe_search(seed: int, trials: int = TRIALS, first: tuple[float, float] | None = None) -> Search:
    """Yields ``trials`` trials, the first of them ``first`` (learning rate, weight decay) where it is given."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=AT_RANDOM)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    if first is not None:
        study.enqueue_trial({"learning_rate": first[0], "weight_decay": first[1]})

    best = Best(0.0, 0.0, 0.0, 0)
    for number in range(trials):
        asked = study.ask()
        learning_rate = asked.suggest_float("learning_rate", *LEARNING_RATE, log=True)
        weight_decay = asked.suggest_float("weight_decay", *WEIGHT_DECAY, log=True)
        score = yield Trial(number, learning_rate, weight_decay)
        study.tell(asked, score)
        if score > best.score:
            best = Best(learning_rate, weight_decay, score, number + 1)

    return Best(best.learning_rate, best.weight_decay, best.score, trials)
