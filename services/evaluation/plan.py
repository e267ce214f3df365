"""A benchmark taken apart: one unit is one model on one data set by one protocol with one draw of shots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.evaluation.parameters import BenchmarkParameters
from services.evaluation.protocols import Protocol
from services.finetuning.search.grid import REFERENCE_TRIALS

FullShot = "full"
TRIALS_OF_ENCODERS = 8
"""Of a search that trains the encoder each time, unless the job says otherwise."""


@dataclass(frozen=True, slots=True)
class Unit:
    """``shots`` is 0 for zero-shot and ``None`` for all images."""

    model: str
    dataset: str
    protocol: Protocol
    shots: int | None
    seed: int

    @property
    def key(self) -> str:
        return f"{self.model}|{self.dataset}|{self.protocol.name}|{shots_name(self.shots)}|{self.seed}"

    @property
    def title(self) -> str:
        """For people who watch."""
        draw = "" if self.shots == 0 else f", {shots_name(self.shots)}-shot, seed {self.seed}"
        return f"{self.dataset}: {self.model}, {self.protocol.name}{draw}"


def search_of(parameters: BenchmarkParameters, trains_encoder: bool) -> tuple[str, int | None]:
    """Return which search a unit makes, and at most how many trials (``None``: all of them).

    The reference's own in its mode and for heads alone; else one that needs far fewer trials, since each trains an
    encoder. So it is too where fewer are allowed than the reference makes: it climbs from the smallest learning rate,
    and cut short it has seen no other.
    """
    most = parameters.max_trials
    if parameters.mode == "reference" or parameters.search == "reference":
        return "reference", most
    if parameters.search or trains_encoder:
        return "optuna", most or (TRIALS_OF_ENCODERS if trains_encoder else None)
    return ("reference" if most is None or most >= REFERENCE_TRIALS else "optuna"), most


def shots_name(shots: int | None) -> str:
    return FullShot if shots is None else str(shots)


def units(parameters: BenchmarkParameters, datasets: tuple[str, ...]) -> Iterator[Unit]:
    """Every unit; those of one model and data set follow each other. Draws matter only where shots are drawn."""
    seeds = tuple(dict.fromkeys(parameters.seeds))
    for model in dict.fromkeys(parameters.models):
        for dataset in datasets:
            for protocol in parameters.resolved():
                if protocol.zero_shot:
                    yield Unit(model, dataset, protocol, 0, 0)
                    continue
                for shots in dict.fromkeys(parameters.shots):
                    if shots == FullShot:
                        yield Unit(model, dataset, protocol, None, seeds[0])
                    else:
                        yield from (Unit(model, dataset, protocol, int(shots), seed) for seed in seeds)
