"""How far a benchmark job is: what its checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import orjson

from services.evaluation.reports.results import Record
from services.finetuning.search.grid import Trial


def trial_key(trial: Trial) -> str:
    """The setting of a trial: the same setting scores the same."""
    return f"{trial.learning_rate:.12g},{trial.weight_decay:.12g}"


@dataclass(slots=True)
class State:
    """``done`` by unit; ``trials`` and ``unit_seconds`` are of the unit at work, ``seconds`` of the whole job.

    ``hashes`` are of the data sets' packages, by name.
    """

    done: dict[str, Record] = field(default_factory=dict)
    unit: str = ""
    trials: dict[str, float] = field(default_factory=dict)
    unit_seconds: float = 0.0
    seconds: float = 0.0
    hashes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: bytes) -> Self:
        content = orjson.loads(data)
        done = {key: Record.of(record) for key, record in content.pop("done").items()}
        return cls(done=done, **content)

    def dumps(self) -> bytes:
        return orjson.dumps(
            {
                "done": {key: record.document() for key, record in self.done.items()},
                "unit": self.unit,
                "trials": self.trials,
                "unit_seconds": self.unit_seconds,
                "seconds": self.seconds,
                "hashes": self.hashes,
            }
        )

    def begin(self, unit: str) -> None:
        """Go on with ``unit``: its trials are kept where it is the one that was at work."""
        if self.unit != unit:
            self.unit, self.trials, self.unit_seconds = unit, {}, 0.0

    def end(self, record: Record) -> None:
        self.done[record.key] = record
        self.unit, self.trials, self.unit_seconds = "", {}, 0.0
