"""A detector's results are scored by file, and a file that is not right is refused with its place."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.errors import ModelError
from services.evaluation.tasks.detection.files import score_boxes
from sightline.cli.main import app

CASE = json.loads((Path(__file__).parents[4] / "parity" / "elevater_metrics.json").read_text())["coco_ap"]


def files(folder, truth, found):
    paths = folder / "annotations.json", folder / "detections.json"
    for path, content in zip(paths, (truth, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_the_score_is_the_references_though_ids_begin_at_0_and_sizes_are_left_out(tmp_path):
    lacking = [
        {"id": one["id"] - 1, **{n: one[n] for n in ("image_id", "category_id", "bbox")}}
        for one in CASE["gt"]["annotations"]
    ]
    scores = score_boxes(*files(tmp_path, {**CASE["gt"], "annotations": lacking}, CASE["dt"]))
    assert list(scores.statistics.values()) == pytest.approx(CASE["stats"], abs=1e-9)
    assert scores.categories == pytest.approx(CASE["per_class_AP"], abs=1e-9)


def test_the_command_prints_and_writes_them(tmp_path):
    truth, found = files(tmp_path, CASE["gt"], CASE["dt"])
    told = CliRunner().invoke(app, ["benchmark", "boxes", str(truth), str(found)])
    assert told.exit_code == 0 and "AP50" in told.output and "28.6" in told.output and "jellyfish" in told.output
    told = CliRunner().invoke(app, ["benchmark", "boxes", str(truth), str(found), "--json"])
    assert json.loads(told.output)["statistics"]["AP"] == pytest.approx(CASE["stats"][0], abs=1e-9)


@pytest.mark.parametrize(
    ("truth", "found", "words"),
    [
        ([], [], "no images"),
        ({"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": []}, [], r"categories\[0\]"),
        ({"images": [{"id": 1}], "categories": [{"id": 1, "name": "fish"}], "annotations": []}, [], "no annotations"),
        (CASE["gt"], {}, "holds no list"),
        (CASE["gt"], [{"image_id": 1}], "entry 0 lacks"),
        (CASE["gt"], [{**CASE["dt"][0], "bbox": [1, 2, 3]}], "entry 0 has the bbox"),
        (CASE["gt"], [{**CASE["dt"][0], "bbox": [1, 2, -3, 4]}], "entry 0 has the bbox"),
        (CASE["gt"], [{**CASE["dt"][0], "score": None}], "entry 0 has no number"),
        (CASE["gt"], [CASE["dt"][0], {**CASE["dt"][0], "category_id": 99}], "detection 1 is of image"),
    ],
)
def test_a_file_that_is_not_right_is_refused_with_its_place(tmp_path, truth, found, words):
    with pytest.raises(ModelError, match=words):
        score_boxes(*files(tmp_path, truth, found))


def test_no_detection_scores_nothing(tmp_path):
    assert score_boxes(*files(tmp_path, CASE["gt"], [])).ap == 0.0


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="cannot be read"):
        score_boxes(tmp_path / "none.json", tmp_path / "none.json")
    (tmp_path / "none.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        score_boxes(tmp_path / "none.json", tmp_path / "none.json")
