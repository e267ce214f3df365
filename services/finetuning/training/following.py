"""How a fine-tuning job follows a fit: progress by trial and epoch, and checkpoints that a killed job goes on from.

A checkpoint is one safetensors file: the state of the phase that runs, and in its metadata the score of every trial,
the epoch of each phase, and the seconds spent. It is written after every trial, and between epochs every
:data:`PACE` seconds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from services.finetuning.heads.head import Epoch
from services.finetuning.kind import FinetuneParameters
from services.finetuning.search.grid import Trial
from services.finetuning.training.hooks import Hooks
from services.jobs.context import JobContext

PACE = 15.0
"""Seconds between checkpoints inside a phase."""

TELL = 1.0
"""Seconds between reports inside a trial."""


class Follower:
    """The hooks of one attempt at a job. ``trials`` is the most that its search makes."""

    def __init__(self, ctx: JobContext[FinetuneParameters], trials: int) -> None:
        self._ctx = ctx
        self._trials = trials
        self._begun = self._saved = self._told = time.monotonic()
        self._scores: dict[str, float] = {}
        self._phases: dict[str, int] = {}
        self._tensors: dict[str, Tensor] = {}
        self._spent = 0.0
        self._load()

    def hooks(self) -> Hooks:
        """For :func:`services.finetuning.training.fitting.fit`."""
        return Hooks(
            on_trial=self._on_trial,
            on_trial_epoch=self._on_trial_epoch,
            on_epoch=self._on_epoch,
            stored=lambda trial: self._scores.get(str(trial.number)),
            between=lambda: self._ctx.step(),
            log=lambda message: self._ctx.log(message, "warning"),
            keep=self._keep,
            kept=self._kept,
            spent=self._spent,
        )

    def _on_trial(self, trial: Trial, score: float) -> None:
        self._scores[str(trial.number)] = score
        setting = {"learning_rate": trial.learning_rate, "weight_decay": trial.weight_decay}
        self._ctx.step(trial.number + 1, self._trials, message="searching", metrics={"trial_score": score, **setting})
        self._save()

    def _on_trial_epoch(self, trial: Trial, epoch: Epoch) -> None:
        """Of trials that take a while; those of a head are over before anybody could look."""
        now = time.monotonic()
        if now - self._told < TELL:
            return
        self._told = now
        self._ctx.step(
            trial.number,
            self._trials,
            message=f"searching: trial {trial.number + 1}, epoch {epoch.number}",
            metrics={"epoch": epoch.number, "loss": epoch.loss, "validation_score": epoch.metric},
        )

    def _on_epoch(self, epoch: Epoch) -> None:
        metrics: dict[str, float] = {"epoch": epoch.number, "loss": epoch.loss}
        watched = not math.isnan(epoch.metric)
        if watched:
            metrics["validation_score"] = epoch.metric
        message = "looking for the best epoch" if watched else "training on all images"
        self._ctx.step(epoch.number, self._ctx.parameters.epochs, message=message, metrics=metrics)

    def _keep(self, phase: str, epoch: int, state: Callable[[], dict[str, Tensor]]) -> None:
        if phase not in ("parts", "watched") and time.monotonic() - self._saved < PACE:
            return
        over = (f"{phase}/", "watch/") if phase == "watched" else (f"{phase}/",)
        self._tensors = {name: t for name, t in self._tensors.items() if not name.startswith(over)}
        self._tensors |= {f"{phase}/{name}": tensor for name, tensor in state().items()}
        self._phases[phase] = epoch
        self._save()

    def _kept(self, phase: str) -> tuple[int, dict[str, Tensor]] | None:
        if phase not in self._phases:
            return None
        prefix = f"{phase}/"
        own = {name.removeprefix(prefix): t for name, t in self._tensors.items() if name.startswith(prefix)}
        return self._phases[phase], own

    def _save(self) -> None:
        now = time.monotonic()
        state = {"scores": self._scores, "phases": self._phases, "spent": self._spent + now - self._begun}
        self._ctx.checkpoint(save(self._tensors, {"state": json.dumps(state)}))
        self._saved = now

    def _load(self) -> None:
        saved = self._ctx.load_checkpoint()
        if saved is None:
            return
        try:
            with safe_open(saved, framework="pt") as file:
                state: dict[str, Any] = json.loads((file.metadata() or {})["state"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (SafetensorError, ValueError, KeyError):
            self._ctx.log("the checkpoint is of another version of the platform: starting over", "warning")
            return
        self._scores, self._phases, self._spent = state["scores"], state["phases"], float(state["spent"])
        self._tensors = tensors
