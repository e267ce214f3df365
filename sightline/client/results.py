"""What calls return: plain values with types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """``png``: the bytes of a heat map over the image; ``method``: how the model made it."""

    png: bytes
    method: str


@dataclass(frozen=True, slots=True)
class ClassifiedImage:
    """One image's labels, best first. ``none_of_these`` is how likely no label fits, where the model can say it.

    ``explanation`` is there when it was asked for.
    """

    index: int
    width: int
    height: int
    predictions: tuple[Prediction, ...]
    none_of_these: float | None = None
    explanation: Explanation | None = None

    @property
    def best(self) -> Prediction | None:
        """The first prediction; ``None`` when all were below the threshold."""
        return self.predictions[0] if self.predictions else None


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer of ``classify``: a sequence of one :class:`ClassifiedImage` an image, in the order sent.

    ``timings`` are milliseconds by stage, as the platform measured them.
    """

    model: str
    version: str
    results: tuple[ClassifiedImage, ...]
    request_id: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[ClassifiedImage]:
        return iter(self.results)

    @overload
    def __getitem__(self, index: int) -> ClassifiedImage: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[ClassifiedImage, ...]: ...
    def __getitem__(self, index: int | slice) -> ClassifiedImage | tuple[ClassifiedImage, ...]:
        return self.results[index]


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """The answer of ``embed``: ``vectors`` is ``(N, D) float32``, one row an input in the order sent."""

    model: str
    vectors: NDArray[np.float32]
    request_id: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True, slots=True)
class Model:
    """One model that the platform has. ``card`` is everything known about it, as the platform sent it."""

    name: str
    task: str
    version: str
    state: str
    runtime: str
    card: Json
