"""What a precision costs on labelled pictures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from models.catalog.geometry import ImagePreprocess
from models.errors import ModelError
from models.export.accuracy import BATCH, Labelled, cost, first_outputs

COUNT = BATCH + 3


def tensors(spec: ImagePreprocess) -> Iterator[NDArray[np.float32]]:
    for number in range(COUNT):
        yield np.full((3, spec.size, spec.size), number, np.float32)


PICTURES = Labelled("sweets", ("mint", "plum"), tuple(number % 2 for number in range(COUNT)), tensors)


def test_every_picture_is_answered_once_by_every_file_in_batches() -> None:
    batches: list[int] = []

    def answer(feeds: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        batches.append(len(feeds["image"]))
        return [feeds["image"][:, :1, 0, 0], np.zeros(1, np.float32)]

    one, other = first_outputs([answer, answer], PICTURES, ImagePreprocess(size=32))
    assert one[:, 0].tolist() == other[:, 0].tolist() == list(range(COUNT))
    assert batches == [BATCH, BATCH, 3, 3]


def test_accuracy_as_served_stands_beside_the_exact_one() -> None:
    exact = np.array([[2, 1], [1, 2], [2, 1], [1, 2]], np.float32)
    served = np.array([[2, 1], [1, 2], [1, 2], [1, 2]], np.float32)
    (measured,) = cost("int8", exact, served, np.array([0, 1, 0, 0]), PICTURES)
    assert (measured.dataset, measured.metric, measured.value, measured.n) == (
        "sweets",
        "top-1 accuracy in int8",
        0.5,
        4,
    )
    assert measured.error == 0.25
    assert measured.note == "0.7500 in float32; the same first label for 75.0% of the pictures"


def test_labels_are_found_among_those_of_a_classifier_or_named() -> None:
    assert PICTURES.truth_in(["plum", "fig", "mint"]).tolist()[:3] == [2, 0, 2]
    with pytest.raises(ModelError, match="does not know: mint") as caught:
        PICTURES.truth_in(["plum", "fig"])
    assert "one of its 2 labels, such as 'plum'" in caught.value.remedy
