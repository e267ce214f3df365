"""How a job follows a fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from services.finetuning.heads.head import Epoch
from services.finetuning.search.grid import Trial


@dataclass(slots=True)
class Hooks:
    """How a job follows the fit. Any may raise to stop it; trials whose score is stored are not run again.

    ``keep`` gets the state of a phase after every epoch, as a function that copies it; ``kept`` gives back the last
    one that was stored, from which the phase goes on.
    """

    on_trial: Callable[[Trial, float], None] = lambda trial, score: None
    on_trial_epoch: Callable[[Trial, Epoch], None] = lambda trial, epoch: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    stored: Callable[[Trial], float | None] = lambda trial: None
    between: Callable[[], None] = lambda: None
    log: Callable[[str], None] = lambda message: None
    keep: Callable[[str, int, Callable[[], dict[str, Tensor]]], None] = lambda phase, epoch, state: None
    kept: Callable[[str], tuple[int, dict[str, Tensor]] | None] = lambda phase: None
    spent: float = 0.0
    """Seconds that earlier attempts at the same fit took."""
