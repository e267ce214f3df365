"""RegionCLIP against its reference, tensor by tensor and detection by detection; each check can fail."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from models.families import families
from models.verify import verify_fixture

PARITY = Path(__file__).parents[2] / "parity"
FOLDERS = ("roi_align", "regionclip_c4", "regionclip_lang_encoder")
MANIFESTS = ("regionclip_rn50", "regionclip_rn50x4")


@pytest.mark.parametrize("name", FOLDERS)
def test_what_the_reference_computed_is_computed(name: str) -> None:
    report = verify_fixture(PARITY / name)
    assert report.ok, report.text()


@pytest.mark.parametrize("name", MANIFESTS)
def test_names_shapes_and_parameters_are_the_published_ones(name: str) -> None:
    report = verify_fixture(PARITY / "manifests" / f"{name}.json")
    assert report.ok, report.text()


def test_detections_of_every_setting_and_picture_are_compared() -> None:
    compared = {one.name for one in verify_fixture(PARITY / "regionclip_c4").comparisons}
    settings = ("gt_boxes", "rpn_multiply", "custom_img_vis")
    wanted = {f"{setting}.{image}.{what}" for setting in settings for image in (0, 1) for what in ("which", "box")}
    assert wanted <= compared


def test_each_is_recognised_by_one_row_alone() -> None:
    paths = [PARITY / name / "config.json" for name in FOLDERS]
    for path in [*paths, *(PARITY / "manifests" / f"{name}.json" for name in MANIFESTS)]:
        config = json.loads(path.read_bytes())
        assert sum(kind.recognises(config) for line in families() for kind in line.fixtures) == 1, path


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("regionclip_c4", "backbone.attnpool.positional_embedding"),
        ("regionclip_c4", "roi_heads.box_predictor.bbox_pred.bias"),
        ("regionclip_lang_encoder", "lang_encoder.ln_final.bias"),
    ],
)
def test_another_weight_is_noticed(tmp_path: Path, name: str, weight: str) -> None:
    folder = Path(shutil.copytree(PARITY / name, tmp_path / name))
    weights = load_file(folder / "weights.safetensors")
    weights[weight] = weights[weight].flip(0).contiguous()
    save_file(weights, folder / "weights.safetensors")
    assert not verify_fixture(folder).ok


def test_another_expected_detection_is_noticed(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PARITY / "regionclip_c4", tmp_path / "regionclip_c4"))
    file = folder / "expected_detections.json"
    settings = json.loads(file.read_bytes())
    settings["rpn_multiply"]["images"][1][0]["proposal"] = 1
    file.write_text(json.dumps(settings))
    failed = [one.name for one in verify_fixture(folder).comparisons if not one.ok]
    assert failed == ["rpn_multiply.1.which"]


def test_a_name_that_the_publisher_has_and_we_have_not_is_noticed(tmp_path: Path) -> None:
    config = json.loads((PARITY / "manifests" / "regionclip_rn50.json").read_bytes())
    config["tensors"]["backbone.layer5.weight"] = {"shape": [1], "dtype": "float32"}
    (tmp_path / "rn50.json").write_text(json.dumps(config))
    report = verify_fixture(tmp_path / "rn50.json")
    assert [one.name for one in report.comparisons if not one.ok] == ["keys"]
    assert "backbone.layer5.weight" in report.comparisons[0].note
