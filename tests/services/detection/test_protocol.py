"""What kinds share: negative labels take boxes away, presence is calibrated."""

from __future__ import annotations

import numpy as np
import pytest

from models.catalog.detection import Presence
from services.detection.protocol import Caption, Vocabulary, present, suppressed


def test_a_box_that_shows_a_negative_label_better_scores_nothing() -> None:
    vocabulary = Vocabulary(("lion", "part"), named=1, negative_labels=("cat", "dog"))
    scores = np.array([[0.9, 0.2, 0.5, 0.1], [0.4, 0.6, 0.5, 0.1]], np.float32)
    assert vocabulary.texts == ("lion", "cat", "dog")
    assert suppressed(scores, vocabulary) == pytest.approx(np.array([[0.9, 0], [0, 0.6]], np.float32))
    assert suppressed(scores[:, :2], Vocabulary.of(["lion", "part"])) == pytest.approx(scores[:, :2])


def test_presence_is_the_best_box_through_the_calibration() -> None:
    scores = np.array([[0.5, 0.0], [0.2, 1.0]], np.float32)
    assert present(scores, None) == pytest.approx([0.5, 1.0])
    calibrated = present(scores, Presence(slope=2.0, offset=1.0))
    assert calibrated[0] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert np.isfinite(calibrated).all() and calibrated[1] == pytest.approx(1.0)
    assert present(np.empty((0, 3), np.float32), Presence(slope=1.0)) == pytest.approx([0, 0, 0], abs=1e-8)


def test_a_caption_says_its_phrases_as_they_were_sent() -> None:
    assert Caption("A Red hat on É", ((0, 9), (13, 14))).phrases == ("A Red hat", "É")
