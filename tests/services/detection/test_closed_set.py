"""The outputs of a closed-set detector are read as its card says; what contradicts the card is said, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from models.catalog.card import Card, TensorSpec
from models.catalog.detection import Decode, Detection
from services.detection.closed_set import ClosedSet, cells
from services.errors import Problem
from tests.support import tiny_models

SIZE = (40, 80)
"""Height and width of the input."""


def reader(
    folder: Path, decode: Decode, roles: dict[str, str], shapes: dict[str, tuple[int, ...]], classes: int = 2
) -> ClosedSet:
    outputs = tuple(TensorSpec(name=name, datatype="FP32", shape=shape) for name, shape in shapes.items())
    fields: dict[str, Any] = {"outputs": outputs, "roles": roles, "detection": Detection(decode=decode)}
    card: Card = tiny_models.card("m", task="detect", **fields)
    return ClosedSet(card, folder, classes)


PAIR: dict[str, Any] = {
    "roles": {"boxes": "b", "scores": "s"},
    "shapes": {"b": (-1, 2, 4), "s": (-1, 2, 3)},
}


def test_ssds_differences_are_added_to_its_priors(tmp_path: Path) -> None:
    """Equation 2 of arXiv 1512.02325 by hand: the second box is moved by half a width and twice as high."""
    priors = np.array([[0.25, 0.5, 0.5, 0.5], [0.5, 0.5, 0.2, 0.1]], np.float32)
    save_file({"priors": priors}, tmp_path / "priors.safetensors")
    decode = Decode(box="priors", priors="priors.safetensors", unit=True, scores="softmax", background="first")
    deltas = np.array([[[0, 0, 0, 0], [5, 0, 0, np.log(2) / 0.2]]], np.float32)
    logits = np.array([[[0, 9, 0], [0, 0, 9]]], np.float32)
    boxes, scores = reader(tmp_path, decode, **PAIR).read({"b": deltas, "s": logits}, 0, SIZE)
    assert boxes == pytest.approx(np.array([[0, 10, 40, 30], [40, 16, 56, 24]]), abs=1e-4)
    assert scores.shape == (2, 2)
    assert scores.argmax(axis=1).tolist() == [0, 1] and scores.max() > 0.99

    (tmp_path / "priors.safetensors").unlink()
    with pytest.raises(Problem) as refused:
        reader(tmp_path, decode, **PAIR)
    assert refused.value.code == "model-file-unreadable"


def test_rows_that_only_fill_the_tensor_up_are_no_boxes(tmp_path: Path) -> None:
    roles = {"boxes": "b", "scores": "s", "labels": "l", "count": "n"}
    shapes: dict[str, tuple[int, ...]] = {"b": (-1, 3, 4), "s": (-1, 3), "l": (-1, 3), "n": (-1, 1)}
    outputs = {
        "b": np.array([[[0, 0, 8, 8], [1, 1, 9, 9], [0, 0, 0, 0]]], np.float32),
        "s": np.array([[0.9, 0.8, 0.7]], np.float32),
        "l": np.array([[1, -1, 0]], np.float32),
        "n": np.array([[2]], np.float32),
    }
    boxes, scores = reader(tmp_path, Decode(), roles, shapes).read(outputs, 0, SIZE)
    assert len(boxes) == 2
    assert scores == pytest.approx(np.array([[0, 0.9], [0, 0]]))


def test_objectness_multiplies_and_logits_become_probabilities(tmp_path: Path) -> None:
    decode = Decode(layout="joined", objectness=True, box="cxcywh", scores="sigmoid")
    rows = np.array([[[20, 10, 8, 4, 0, 0, 50]]], np.float32)
    boxes, scores = reader(tmp_path, decode, {"detections": "o"}, {"o": (-1, -1, 7)}).read({"o": rows}, 0, SIZE)
    assert boxes.tolist() == [[16, 8, 24, 12]]
    assert scores == pytest.approx(np.array([[0.25, 0.5]]))


def test_cells_lie_level_by_level_and_row_by_row() -> None:
    corners, strides = cells((16, 32), 32, 64)
    assert corners[:5].tolist() == [[0, 0], [1, 0], [2, 0], [3, 0], [0, 1]]
    assert strides.ravel().tolist() == [16] * 8 + [32] * 2


@pytest.mark.parametrize(
    "outputs",
    [
        {"b": np.zeros((1, 2, 4)), "s": np.zeros((1, 2, 5))},
        {"b": np.zeros((1, 2, 4)), "s": np.zeros((1, 3, 3))},
        {"b": np.zeros((1, 2, 3)), "s": np.zeros((1, 2, 3))},
        {"b": np.zeros((1, 2, 4))},
    ],
    ids=["classes", "rows", "edges", "missing"],
)
def test_outputs_that_contradict_the_card_are_told(tmp_path: Path, outputs: dict[str, Any]) -> None:
    decode = Decode(background="first")
    with pytest.raises(Problem) as refused:
        reader(tmp_path, decode, **PAIR).read(outputs, 0, SIZE)
    assert refused.value.code == "model-outputs-differ"
