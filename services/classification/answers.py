"""What classification is asked and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.encoding.reading import WHOLE, Reading
from services.media.image import Picture


@dataclass(frozen=True, slots=True)
class ClassifyRequest:
    """Pictures and what to call them. ``labels`` or ``label_set`` for open-vocabulary models, neither for closed ones.

    ``template_set`` names templates of the catalog instead of sending them. ``multi_label`` scores every label by
    itself; ``threshold`` leaves out lower scores; ``explain`` asks for a map of what decided. Without ``truncate``
    labels that are longer than the model reads are refused.
    """

    pictures: Sequence[Picture]
    labels: Sequence[str] | None = None
    label_set: str | None = None
    templates: Sequence[str] | None = None
    template_set: str | None = None
    top_k: int = 5
    multi_label: bool = False
    threshold: float | None = None
    explain: bool = False
    truncate: bool = True


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label and its score, 0 to 1."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """``png``: a heat map over the picture; ``method`` how it was made."""

    png: bytes
    method: str


@dataclass(frozen=True, slots=True)
class ClassifiedImage:
    """The answer for one picture. ``none_of_these``: how likely no label fits, where the model can say."""

    index: int
    width: int
    height: int
    predictions: list[Prediction]
    none_of_these: float | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class ClassifyAnswer:
    """Answers in the order of the pictures, who gave them, and what of the labels was read."""

    model: str
    version: str
    results: list[ClassifiedImage]
    reading: Reading = WHOLE
