"""Real images with their real annotations are the same after every layout that can say what they say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dataset_layouts import CLASSIFIED, DETECTED, Writer
from tests.support.real_sets import difference, main, read_real

EXCERPTS = Path(__file__).parent / "excerpts"
FORMS = [*(("eurosat", *form) for form in CLASSIFIED), *(("fork_scissors", *form) for form in DETECTED)]


@pytest.mark.parametrize(("name", "layout", "write", "variant"), FORMS)
def test_a_real_set_is_the_same_in_every_form(name: str, layout: str, write: Writer, variant: str) -> None:
    truth = read_real(EXCERPTS / name)
    assert len(truth.rows) > 3
    assert difference(truth, write(truth, variant), layout) == ""


def test_a_difference_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    truth = read_real(EXCERPTS / "fork_scissors")
    entries = next(write(truth, variant) for layout, write, variant in DETECTED if (layout, variant) == ("voc", "main"))
    for name, (split, labels, boxes) in list(truth.rows.items())[:1]:
        ((label, (x0, y0, x1, y1)),) = boxes
        for changed in (("test" if split == "train" else "train", labels, boxes), (split, ("spoon",), boxes),
                        (split, labels, ((label, (x0 + 1, y0, x1, y1)),))):  # fmt: skip
            truth.rows[name] = changed
            assert name in difference(truth, entries, "voc")
    assert main([str(EXCERPTS / "eurosat"), "--most", "1"]) == 0
    assert "| eurosat | " in capsys.readouterr().out
