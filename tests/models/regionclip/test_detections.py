"""Scores with objectness: the reference drops proposals without a word, the mode that is served drops none."""

from __future__ import annotations

import numpy as np

from models.regionclip.detections import Objectness, Rule, detections, nms, ranking

PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1], [0.1, 0.7, 0.2]], np.float32)
OBJECTNESS = np.array([4.0, -1.0, 0.5], np.float32)
BOXES = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 10, 10]], np.float32)


def found(objectness: Objectness) -> set[int]:
    rule = Rule(objectness, threshold=0.0, overlap=0.5)
    return set(detections(PROBABILITIES, OBJECTNESS, BOXES, rule).proposals.tolist())


def test_the_reference_loses_the_proposal_of_a_negative_logit() -> None:
    assert found("raw") == {0, 2}
    assert np.isnan(ranking(PROBABILITIES, OBJECTNESS, "raw")[1]).all()


def test_squashed_objectness_loses_none_and_stays_below_one() -> None:
    assert found("squash") == {0, 1, 2}
    scores = ranking(PROBABILITIES, np.array([-800.0, 0.0, 800.0], np.float32), "squash")
    assert np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
    np.testing.assert_allclose(scores[1], np.sqrt(PROBABILITIES[1] / 2), rtol=1e-6)
    np.testing.assert_allclose(scores[2], np.sqrt(PROBABILITIES[2]), rtol=1e-6)


def test_background_is_no_class() -> None:
    rows = np.array([[0.0, 0.0, 1.0]], np.float32)
    assert not len(detections(rows, OBJECTNESS[:1], BOXES[:1], Rule("ignore", threshold=0.0)).classes)


def test_detections_may_be_ranked_by_one_score_and_show_the_other() -> None:
    answer = detections(PROBABILITIES, OBJECTNESS, BOXES, Rule("squash", threshold=0.3, shown="probability"))
    assert answer.ranks.tolist() == sorted(answer.ranks.tolist(), reverse=True)
    np.testing.assert_allclose(answer.scores, PROBABILITIES[answer.proposals, answer.classes])


def test_no_more_than_asked_are_given() -> None:
    assert len(detections(PROBABILITIES, OBJECTNESS, BOXES, Rule(threshold=0.0, most=2)).classes) == 2


def test_an_overlap_of_exactly_the_limit_is_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [0, 0, 10, 5.1]], np.float32)
    scores = np.array([0.9, 0.5, 0.4], np.float32)
    assert nms(boxes[:2], scores[:2], 0.5).tolist() == [0, 1]
    assert nms(boxes[[0, 2]], scores[[0, 2]], 0.5).tolist() == [0]


def test_boxes_without_area_suppress_nothing() -> None:
    boxes = np.array([[5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert nms(boxes, np.array([0.2, 0.9], np.float32), 0.5).tolist() == [1, 0]
