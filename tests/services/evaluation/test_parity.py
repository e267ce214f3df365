"""Every case of the reference fixtures holds, and one that does not is found and named."""

import json
import math
from pathlib import Path

import pytest

from models.errors import ModelError
from services.evaluation.parity import FILES, verify

FIXTURES = Path(__file__).parents[2] / "parity"


def test_every_case_of_the_fixtures_equals_the_reference():
    cases = verify(FIXTURES)
    assert {case.file for case in cases} == set(FILES)
    assert len(cases) == 98 and [case for case in cases if not case.ok] == []


def spoil_metric(document):
    document["cases"][0]["expected"] += 1e-6


def spoil_probe(document):
    document["linear_probe"]["runs"][0]["final_weight"][0][0] += 1e-3


def spoil_epoch(document):
    document["linear_probe"]["runs"][1]["epochs_log"][4]["bias"][0] += 1e-3


def spoil_norm(document):
    document["linear_probe"]["runs"][2]["bn_running_var"][0] += 1e-3


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
        (spoil_epoch, "linear_probe/1 lr 0.01 wd 1.0", "bias of epoch 5"),
        (spoil_norm, "linear_probe/2 lr 0.001 wd 0.01", "running_var"),
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


@pytest.mark.parametrize(("name", "content"), [(FILES[1], {}), (FILES[0], []), (FILES[2], {"runs": [1]})])
def test_a_file_of_another_form_fails_and_says_so(tmp_path, name, content):
    (tmp_path / name).write_text(json.dumps(content))
    [case] = verify(tmp_path)
    assert case.file == name and "is not of the form" in case.difference


@pytest.mark.parametrize("name", FILES)
def test_a_file_without_a_case_does_not_pass(tmp_path, name):
    (tmp_path / name).write_text(json.dumps({"cases": [], "rows": [], "runs": []}))
    [case] = verify(tmp_path)
    assert "holds no case" in case.difference


def test_the_winner_and_the_count_of_a_search_are_compared(tmp_path):
    for field, words in (("n_trials", "counts 90 trials"), ("final_wd_index", "has place 20")):
        search = json.loads((FIXTURES / FILES[2]).read_text())
        search["runs"][0][field] += 1
        (tmp_path / FILES[2]).write_text(json.dumps(search))
        [failed] = [case for case in verify(tmp_path) if not case.ok]
        assert failed.name == "search/smooth_peak" and words in failed.difference


def test_scores_that_are_no_numbers_are_compared_as_the_toolkit_takes_them(tmp_path):
    case = {"id": "masked", "metric": "accuracy", "labels": [0, 1], "scores": [[1, -math.inf], [math.nan, 2]]}
    (tmp_path / FILES[0]).write_text(json.dumps({"cases": [case | {"expected": 0.5, "expected_error": None}]}))
    assert [case.difference for case in verify(tmp_path)] == [""]


def test_a_folder_without_fixtures_is_refused(tmp_path):
    with pytest.raises(ModelError, match="holds none of"):
        verify(tmp_path)
