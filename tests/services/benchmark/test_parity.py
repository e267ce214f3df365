"""Every case of the reference fixtures holds, and one that does not is found and named."""

import json
from pathlib import Path

import pytest

from models.errors import ModelError
from services.benchmark.parity import FILES, verify

FIXTURES = Path(__file__).parents[2] / "parity"


def test_every_case_of_the_fixtures_equals_the_reference():
    cases = verify(FIXTURES)
    assert {case.file for case in cases} == set(FILES)
    assert len(cases) == 95 and [case for case in cases if not case.ok] == []


def spoil_metric(document):
    document["cases"][0]["expected"] += 1e-6


def spoil_probe(document):
    document["linear_probe"]["runs"][0]["final_weight"][0][0] += 1e-3


def spoil_box(document):
    document["coco_ap"]["stats"][0] += 1e-6


def spoil_refusal(document):
    document["cases"][-1]["labels"] = [0, 1]
    document["cases"][-1]["scores"] = [[0.9, 0.1], [0.1, 0.9]]


@pytest.mark.parametrize(
    ("spoil", "name", "words"),
    [
        (spoil_metric, "accuracy/balanced", "value is 0.625"),
        (spoil_probe, "linear_probe/0 lr 0.1 wd 1e-06", "weight is"),
        (spoil_box, "coco_ap", "AP is 0.28"),
        (spoil_refusal, "roc_auc/multiclass_raises", "reference refuses"),
    ],
)
def test_a_metric_case_that_differs_is_named(tmp_path, spoil, name, words):
    document = json.loads((FIXTURES / FILES[0]).read_text())
    spoil(document)
    (tmp_path / FILES[0]).write_text(json.dumps(document))
    [failed] = [case for case in verify(tmp_path) if not case.ok]
    assert failed.name == name and words in failed.difference


def test_a_split_and_a_trial_that_differ_are_named(tmp_path):
    splits, search = (json.loads((FIXTURES / name).read_text()) for name in FILES[1:])
    row = next(row for row in splits["rows"] if row["val_positions"])
    row["val_positions"] = row["val_positions"][1:]
    search["runs"][0]["tried"][9][1] += 1
    (tmp_path / FILES[1]).write_text(json.dumps(splits))
    (tmp_path / FILES[2]).write_text(json.dumps(search))
    first, second = [case for case in verify(tmp_path) if not case.ok]
    assert "validation" in first.difference
    assert second.name == "search/smooth_peak" and "trial 9" in second.difference


def test_a_case_without_its_numbers_fails_instead_of_passing(tmp_path):
    (tmp_path / FILES[0]).write_text(json.dumps({"cases": [{"id": "broken", "metric": "accuracy"}]}))
    [case] = verify(tmp_path)
    assert not case.ok and "cannot be run" in case.difference


def test_a_folder_without_fixtures_is_refused(tmp_path):
    with pytest.raises(ModelError, match="holds none of"):
        verify(tmp_path)
