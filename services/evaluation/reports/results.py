"""What a benchmark came to: one record a unit, summed up over seeds. Pure Python: the gateway reads it too."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

PARAMETERS_OF_A_HEAVY_MODEL = 1e8
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""Two-sided 95 % quantiles of Student's t for 1 to 10 degrees of freedom; 1.96 beyond about 30."""


@dataclass(frozen=True, slots=True)
class Record:
    """One unit that was run, or why it could not be.

    ``score`` is 0 to 1; ``shots`` 0 is zero-shot, ``None`` all images. ``error_test`` is the standard
    error that the number of test images leaves.
    """

    key: str
    model: str
    dataset: str
    protocol: str
    shots: int | None
    seed: int
    metric: str
    method: str | None = None
    init: str | None = None
    score: float | None = None
    error_test: float | None = None
    test_images: int = 0
    trained_on: int = 0
    trainable: int = 0
    learning_rate: float | None = None
    weight_decay: float | None = None
    epochs: int | None = None
    trials: int = 0
    validation_score: float | None = None
    seconds: float = 0.0
    notes: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: dict[str, Any] | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Record:
        """From its JSON form."""
        return cls(**{**content, "warnings": tuple(content.get("warnings", ()))})

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Cell:
    """One model, data set, protocol and number of shots, over its seeds.

    ``stderr`` joins what the draws and what the test images leave open; ``low`` and ``high`` are a 95 % interval over
    draws (Student's t), absent for one draw.
    """

    model: str
    dataset: str
    protocol: str
    method: str | None
    init: str | None
    shots: int | None
    metric: str
    mean: float
    stderr: float
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    trainable: float
    test_images: int
    seconds: float
    low: float | None = None
    high: float | None = None


def cells(records: Iterable[Record]) -> list[Cell]:
    """Records that have a score, summed up over seeds, in the order of their first seeds."""
    groups: dict[tuple[str, str, str, int | None], list[Record]] = {}
    for record in records:
        if record.score is not None:
            groups.setdefault((record.model, record.dataset, record.protocol, record.shots), []).append(record)
    return [_cell(own) for own in groups.values()]


def _cell(own: Sequence[Record]) -> Cell:
    first, scores = own[0], [record.score or 0.0 for record in own]
    mean, draws = fmean(scores), 0.0
    low = high = None
    if len(scores) > 1:
        draws = stdev(scores) / math.sqrt(len(scores))
        reach = t_quantile(len(scores) - 1) * draws
        low, high = mean - reach, mean + reach

    images = fmean(record.error_test or 0.0 for record in own)
    return Cell(
        model=first.model,
        dataset=first.dataset,
        protocol=first.protocol,
        method=first.method,
        init=first.init,
        shots=first.shots,
        metric=first.metric,
        mean=mean,
        stderr=math.hypot(draws, images),
        seeds=tuple(record.seed for record in own),
        scores=tuple(scores),
        trainable=fmean(record.trainable for record in own),
        test_images=first.test_images,
        seconds=sum(record.seconds for record in own),
        low=low,
        high=high,
    )


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond ten degrees of freedom by Cornish and Fisher's expansion."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def parameter_efficiency(score: float, trainable: float) -> float:
    """ELEVATER's score that counts trained parameters: ``score * exp(-log10(trainable / 1e8 + 1))``."""
    return score * math.exp(-math.log10(trainable / PARAMETERS_OF_A_HEAVY_MODEL + 1))


COLUMNS = (
    "model", "dataset", "protocol", "method", "init", "shots", "seed", "metric", "score", "error_test", "test_images",
    "trained_on", "trainable", "learning_rate", "weight_decay", "epochs", "trials", "validation_score", "seconds",
)  # fmt: skip


def as_csv(records: Iterable[Record]) -> str:
    """One line a unit; a unit that failed has its problem's code in the last column."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, "error"])
    for record in records:
        own = record.document()
        own["shots"] = "full" if record.shots is None else record.shots
        writer.writerow([*(own[name] for name in COLUMNS), (record.error or {}).get("code", "")])
    return out.getvalue()
