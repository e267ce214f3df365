"""What a precision costs on labelled pictures: the served file's accuracy beside the exact one's, for the card."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.catalog.card import Measurement
from models.catalog.geometry import ImagePreprocess
from models.errors import ModelError
from models.export.onnx import Answer

Array = NDArray[np.float32]

BATCH = 16


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures with their labels: ``truth`` is a place in ``labels`` for each, ``tensors`` reads them one by one.

    ``name`` says on the card which pictures they were. How pictures become tensors is the business of who serves them.
    """

    name: str
    labels: tuple[str, ...]
    truth: tuple[int, ...]
    tensors: Callable[[ImagePreprocess], Iterator[Array]]

    def truth_in(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """``truth`` as places in a classifier's own ``labels``. Raises :class:`ModelError` for labels it lacks."""
        places = {label: place for place, label in enumerate(labels)}
        strangers = [label for label in self.labels if label not in places]
        if strangers:
            raise ModelError(
                f"{self.name} has labels that the classifier does not know: {', '.join(strangers[:5])}",
                f"Call each folder by one of its {len(labels):,} labels, such as {labels[0]!r}.",
            )
        return np.array([places[self.labels[place]] for place in self.truth])


def first_outputs(answers: Sequence[Answer], pictures: Labelled, spec: ImagePreprocess) -> list[Array]:
    """Each file's first output ``(N, K)`` for every picture; a picture is read once for all of them."""
    rows: list[list[Array]] = [[] for _ in answers]
    for batch in _batches(pictures.tensors(spec)):
        for own, answer in zip(rows, answers, strict=True):
            own.append(answer({"image": batch})[0])
    return [np.concatenate(own) for own in rows]


def cost(
    precision: str, exact: Array, served: Array, truth: NDArray[np.int64], pictures: Labelled
) -> tuple[Measurement, ...]:
    """Top-1 accuracy of ``served`` scores ``(N, labels)``, and how it compares with that of the ``exact`` ones."""
    said = served.argmax(axis=1)
    right, before = float((said == truth).mean()), float((exact.argmax(axis=1) == truth).mean())
    same = float((said == exact.argmax(axis=1)).mean())
    told = f"{before:.4f} in float32; the same first label for {same:.1%} of the pictures"

    return (
        Measurement(
            dataset=pictures.name,
            metric=f"top-1 accuracy in {precision}",
            value=round(right, 4),
            n=len(truth),
            error=round(math.sqrt(right * (1 - right) / len(truth)), 4),
            source="sightline models convert --pictures",
            note="" if precision == "fp32" else told,
        ),
    )


def _batches(tensors: Iterator[Array]) -> Iterator[Array]:
    held: list[Array] = []
    for tensor in tensors:
        held.append(tensor)
        if len(held) == BATCH:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)
