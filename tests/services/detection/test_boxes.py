"""Overlaps and suppression, against hand-made cases and a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from services.detection.boxes import MOST_CANDIDATES, candidates, nms, overlaps


def plain_nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, one: int) -> list[int]:
    """Greedy suppression as textbooks write it."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda place: -scores[place]):
        for other in kept:
            if labels[index] != labels[other]:
                continue
            (a, b, c, d), (e, f, g, h) = boxes[index].tolist(), boxes[other].tolist()
            common = max(0.0, min(c, g) - max(a, e) + one) * max(0.0, min(d, h) - max(b, f) + one)
            union = (c - a + one) * (d - b + one) + (g - e + one) * (h - f + one) - common
            if common / union > iou:
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize("inclusive", [False, True])
def test_suppression_is_the_textbooks(inclusive: bool) -> None:
    rng = np.random.default_rng(5)
    corners = rng.uniform(0, 60, (80, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], axis=1).astype(np.float32)
    scores, labels = rng.uniform(size=80).astype(np.float32), rng.integers(0, 3, 80)
    kept = nms(boxes, scores, labels, 0.4, inclusive=inclusive)
    assert kept.tolist() == plain_nms(boxes, scores, labels, 0.4, int(inclusive))
    assert nms(boxes, scores, labels, 0.4, most=3, inclusive=inclusive).tolist() == kept[:3].tolist()


def test_an_inclusive_edge_counts_one_pixel_more() -> None:
    box, other = np.array([0, 0, 9, 9], np.float32), np.array([[0, 0, 9, 4], [10, 0, 19, 9]], np.float32)
    assert overlaps(box, other) == pytest.approx([4 / 9, 0])
    assert overlaps(box, other, inclusive=True) == pytest.approx([0.5, 0])


def test_boxes_without_area_and_no_boxes_at_all() -> None:
    flat = np.array([[3, 3, 3, 3], [3, 3, 3, 3]], np.float32)
    assert nms(flat, np.array([0.2, 0.5], np.float32), np.zeros(2, np.int64), 0.5).tolist() == [1, 0]
    assert nms(flat[:0], np.empty(0, np.float32), np.empty(0, np.int64), 0.5).tolist() == []


def test_an_overlap_of_exactly_the_limit_is_kept() -> None:
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1]], np.float32)  # a third
    third = float(overlaps(boxes[0], boxes[1:])[0])
    assert nms(boxes, np.array([1, 0.9], np.float32), np.zeros(2, np.int64), third).tolist() == [0, 1]


def test_candidates_are_the_best_pairs() -> None:
    scores = np.array([[0.1, 0.9], [0.5, 0.5]], np.float32)
    boxes, labels = candidates(scores, 0.5)
    assert list(zip(boxes.tolist(), labels.tolist(), strict=True)) == [(0, 1), (1, 0), (1, 1)]
    many = np.random.default_rng(0).uniform(size=(200, 100)).astype(np.float32)
    boxes, labels = candidates(many, 0)
    assert len(boxes) == MOST_CANDIDATES
    assert many[boxes, labels].tolist() == sorted(many.ravel().tolist(), reverse=True)[:MOST_CANDIDATES]
