"""What GLIP makes of its outputs: candidates, and texts cut into tokens."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.glip.postprocess import HeadArrays, Rule, candidates, detections, label_probabilities
from models.glip.prompts import Wording, positive_map, prompt_of
from models.text.bert_wordpiece import bert_tokenizer
from models.verify import verify_fixture

PARITY = Path(__file__).parents[2] / "parity"


def head(logit: float, centerness: float = 20.0) -> HeadArrays:
    """One place of the finest level whose token 1 has ``logit``; nothing anywhere else."""
    shapes = [(4, 4), (2, 2), (1, 1), (1, 1), (1, 1)]
    logits = [np.full((h * w, 3), -20, np.float32) for h, w in shapes]
    logits[0][5, 1] = logit
    return HeadArrays(
        logits,
        [np.zeros((4, h, w), np.float32) for h, w in shapes],
        [np.full((1, h, w), centerness, np.float32) for h, w in shapes],
    )


def test_threshold_holds_before_centerness_and_the_score_is_the_geometric_mean() -> None:
    found = detections(candidates(head(2.0, -3.0), [[1]], (32, 32)))
    p, c = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(3.0))
    assert p * c < 0.05
    assert found.scores.tolist() == pytest.approx([np.sqrt(p * c)], abs=1e-6)
    assert found.boxes.tolist() == [[0, 0, 31, 31]]  # clipped to the picture


def test_an_unlikely_label_has_no_box_however_central() -> None:
    assert len(detections(candidates(head(-3.0), [[1]], (32, 32))).scores) == 0


def test_a_label_without_tokens_is_nowhere() -> None:
    probabilities = label_probabilities(np.full((2, 3), 9, np.float32), [[], [0, 2]])
    assert probabilities[:, 0].tolist() == [0, 0] and (probabilities[:, 1] > 0.9).all()


def test_a_level_gives_no_more_pairs_than_the_rule_says() -> None:
    everywhere = head(2.0)
    everywhere.logits[0][:, 1] = np.linspace(1, 3, 16)
    found = candidates(everywhere, [[1]], (32, 32), Rule(per_level=3))
    assert (found.scores > 0).sum() == 3
    assert found.scores.min() > np.sqrt(0.93)


def test_more_than_eighty_labels_have_their_tokens() -> None:
    prompt = prompt_of([f"thing {number}" for number in range(90)])
    encoding = bert_tokenizer().encode(prompt.text)
    tokens = positive_map([[span] for span in prompt.spans], encoding.char_to_token)
    assert [encoding.tokens[own[0]] for own in tokens] == ["thing"] * 90
    assert len({token for own in tokens for token in own}) == sum(len(own) for own in tokens)


def test_only_the_name_of_a_wording_is_looked_for() -> None:
    prompt = prompt_of([Wording("hand", suffix=" of a person"), "cat"], closing=True)
    assert prompt.text == "hand of a person. cat. "
    assert [prompt.text[begin:end] for begin, end in prompt.spans] == ["hand", "cat"]


def test_a_detection_that_is_moved_is_noticed(tmp_path: Path) -> None:
    fixture = Path(shutil.copytree(PARITY / "glip_postprocess", tmp_path / "glip_postprocess"))
    expected = json.loads((fixture / "expected_detections.json").read_bytes())
    expected["max"][1]["detections"][40]["box_resized"][2] += 0.1
    (fixture / "expected_detections.json").write_text(json.dumps(expected))
    report = verify_fixture(fixture)
    assert [one.name for one in report.comparisons if not one.ok] == ["max.1.boxes"]


def test_a_token_that_is_another_is_noticed(tmp_path: Path) -> None:
    fixture = Path(shutil.copytree(PARITY / "glip_positive_map", tmp_path / "glip_positive_map"))
    cases = json.loads((fixture / "cases.json").read_bytes())
    cases[2]["label_to_tokens"]["3"] = [11]
    (fixture / "cases.json").write_text(json.dumps(cases))
    assert [one.name for one in verify_fixture(fixture).comparisons if not one.ok] == ["case2.label_to_tokens"]
