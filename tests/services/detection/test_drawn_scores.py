"""Scores of boxes in drawings, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from services.detection.caption_tokens import Relation, Said
from services.detection.drawn_scores import STRIDES, Weights, named, proposals, related, told
from services.errors import Problem

WEIGHTS = Weights(scale=10.0, none=0.2, tokens=1.0, step=2.0)
PLACES = sum((64 // stride) ** 2 for stride in STRIDES)


def test_a_name_competes_with_the_others_and_with_none_but_not_with_itself() -> None:
    names = np.eye(3, dtype=np.float32)[[0, 1, 0]]
    seen = np.array([[0.9, 0.1, 0.0]], np.float32)
    scores = named(np.array([0.5], np.float32), seen, names, WEIGHTS)
    shares = np.exp([9.0, 1.0, 2.0])  # two names and none
    np.testing.assert_allclose(scores[0], 0.5 * shares[[0, 1, 0]] / shares.sum(), rtol=1e-5)
    nothing = named(np.array([0.5], np.float32), np.array([[0, 0, 1]], np.float32), names[:1], WEIGHTS)
    assert nothing[0, 0] == pytest.approx(0.5 / (1 + np.exp(2.0)))


def test_tokens_count_beside_the_box_that_they_fit_best() -> None:
    tokens = np.array([[0.2, 0.4], [0.1, 0.2]], np.float32)
    np.testing.assert_allclose(told(tokens, [Said(0, 2), Said(1, 2)], WEIGHTS), [[1, 1], [0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize(("kind", "best"), [("left of", 0), ("right of", 1), ("above", 1), ("below", 0)])
def test_a_relation_chooses_the_one_that_lies_as_it_says(kind: str, best: int) -> None:
    boxes = np.array([[0, 60, 20, 80], [60, 0, 80, 20], [30, 30, 50, 50]], np.float32)  # two owls and the car
    scores = np.array([[0.5, 0.0], [0.5, 0.0], [0.0, 0.8]], np.float32)
    chosen = related(scores, boxes, [Relation(0, kind, 1)], WEIGHTS)
    assert chosen[:, 0].argmax() == best and chosen[1 - best, 0] < 0.01
    np.testing.assert_array_equal(chosen[:, 1], scores[:, 1])


def test_a_relation_to_what_is_nowhere_leaves_nothing_sure() -> None:
    boxes = np.array([[0, 0, 20, 20]], np.float32)
    chosen = related(np.array([[0.5, 0.5]], np.float32), boxes, [Relation(0, "above", 1)], WEIGHTS)
    assert chosen[0, 0] == 0  # a thing is not above itself


def test_places_become_boxes_inside_the_picture_and_duplicates_go() -> None:
    deltas = np.zeros((PLACES, 4), np.float32)
    objectness = np.full(PLACES, -20.0, np.float32)
    objectness[[9, 10]] = [4.0, 2.0]  # neighbours of the finest level: anchors of 32 pixels at a distance of 8
    centerness = np.full(PLACES, 20.0, np.float32)
    found = proposals(deltas, centerness, objectness, 64, most=5, iou=0.5)
    assert found.places.tolist() == [9]
    np.testing.assert_allclose(found.boxes, [[0, 0, 28, 28]])
    assert found.sure[0] == pytest.approx((1 / (1 + np.exp(-4.0))) ** 0.5, rel=1e-5)
    assert len(proposals(deltas, centerness, objectness, 64, most=5, iou=0.7).boxes) == 2


def test_nothing_sure_is_no_box() -> None:
    low = np.full(PLACES, -20.0, np.float32)
    found = proposals(np.zeros((PLACES, 4), np.float32), low, low, 64, most=5, iou=0.5)
    assert found.boxes.shape == (0, 4) and found.sure.shape == (0,)


def test_a_card_whose_parameter_is_no_number_is_refused() -> None:
    with pytest.raises(Problem, match="could not convert"):
        Weights.of("a-model", {"scale": "large"})
