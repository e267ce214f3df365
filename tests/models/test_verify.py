"""Parity with the reference implementations, tensor by tensor, and the tool that shows it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from models.families import families
from models.intake.checkpoint import MismatchedCheckpoint
from models.parity import UnknownFixture
from models.verify import main, verify_fixture

PARITY = Path(__file__).parents[1] / "parity"
NETWORKS = sorted(
    [folder for line in ("unicl", "focalnet", "resnet") for folder in PARITY.glob(f"{line}_*") if folder.is_dir()]
)
MANIFESTS = sorted([file for line in ("unicl", "focalnet") for file in (PARITY / "manifests").glob(f"{line}_*.json")])


@pytest.mark.parametrize("fixture", NETWORKS, ids=lambda path: path.name)
def test_network_computes_what_the_reference_computes(fixture: Path) -> None:
    report = verify_fixture(fixture)
    assert report.ok, report.text()


def test_every_published_kind_of_network_has_a_fixture() -> None:
    assert len(NETWORKS) == 11
    assert len(MANIFESTS) == 19


def test_loss_and_its_gradients_are_those_of_the_paper() -> None:
    report = verify_fixture(PARITY / "unicl_loss.json")
    assert report.ok, report.text()
    assert len(report.comparisons) == 6 * 5


def test_every_text_of_the_tokenizer_fixture_has_the_ids_of_the_reference() -> None:
    report = verify_fixture(PARITY / "clip_tokenizer.json")
    assert report.ok, report.text()
    assert len(report.comparisons) == 34


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_names_and_shapes_are_the_published_ones(manifest: Path) -> None:
    report = verify_fixture(manifest)
    assert report.ok, report.text()


def copied(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(PARITY / name, folder / name))


def test_changed_weight_is_beyond_tolerance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixture = copied(tmp_path, "focalnet_huggingface")
    weights = load_file(fixture / "weights.safetensors")
    weights["focalnet.encoder.stages.3.layers.0.modulation.focal_layers.2.0.weight"] += 0.05
    save_file(weights, fixture / "weights.safetensors")
    assert main([str(fixture)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_flag_that_changes_no_name_still_shows(tmp_path: Path) -> None:
    fixture = copied(tmp_path, "focalnet_huggingface")
    config = json.loads((fixture / "config.json").read_text())
    config["constructor"]["normalize_modulator"] = False
    (fixture / "config.json").write_text(json.dumps(config))
    assert not verify_fixture(fixture).ok


def test_expected_tensor_that_nobody_computes_fails(tmp_path: Path) -> None:
    fixture = copied(tmp_path, "focalnet_timm")
    io = load_file(fixture / "io.safetensors")
    save_file({**io, "attention": io["logits"].clone()}, fixture / "io.safetensors")
    report = verify_fixture(fixture)
    assert not report.ok
    assert [comparison.note for comparison in report.comparisons if not comparison.ok] == ["not computed"]


def test_not_a_number_is_within_no_tolerance(tmp_path: Path) -> None:
    fixture = copied(tmp_path, "focalnet_timm")
    io = load_file(fixture / "io.safetensors")
    io["logits"][0, 0] = float("nan")
    save_file(io, fixture / "io.safetensors")
    assert not verify_fixture(fixture).ok


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    fixture = copied(tmp_path, "focalnet_timm")
    weights = load_file(fixture / "weights.safetensors")
    del weights["head.fc.bias"]
    save_file(weights, fixture / "weights.safetensors")
    with pytest.raises(MismatchedCheckpoint, match=r"missing: head\.bias"):
        verify_fixture(fixture)


def test_unknown_fixture_is_named_and_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"fixture": "something else"}')
    with pytest.raises(UnknownFixture, match="no fixture of a known kind"):
        verify_fixture(tmp_path)
    assert main([str(tmp_path), str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err


def test_input_that_does_not_fit_the_network_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixture = copied(tmp_path, "focalnet_timm")
    io = load_file(fixture / "io.safetensors")
    save_file({**io, "input.image": io["input.image"][:, :2].clone()}, fixture / "io.safetensors")
    assert main([str(fixture)]) == 2
    assert "focalnet_timm looks like focalnet, but cannot be computed" in capsys.readouterr().err


def test_damaged_fixture_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixture = copied(tmp_path, "focalnet_timm")
    config = json.loads((fixture / "config.json").read_text())
    del config["constructor"]["depths"]
    (fixture / "config.json").write_text(json.dumps(config))
    assert main([str(fixture)]) == 2
    (fixture / "io.safetensors").write_bytes(b"cut off")
    assert main([str(fixture)]) == 2
    (fixture / "config.json").write_text("[]")
    assert main([str(fixture)]) == 2
    said = capsys.readouterr().err
    assert "'depths'" in said and "io.safetensors is damaged" in said and "no object" in said


def test_one_bad_fixture_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "absent"), str(PARITY / "focalnet_timm")]) == 2
    assert "focalnet_timm (focalnet): ok" in capsys.readouterr().out


def test_each_fixture_is_recognised_by_one_row_alone() -> None:
    for path in (
        [folder / "config.json" for folder in NETWORKS]
        + MANIFESTS
        + [PARITY / "unicl_loss.json", PARITY / "clip_tokenizer.json"]
    ):
        config = json.loads(path.read_bytes())
        assert sum(kind.recognises(config) for line in families() for kind in line.fixtures) == 1, path


def test_every_case_of_the_kadaptation_fixture_is_within_its_tolerance() -> None:
    report = verify_fixture(PARITY / "kadaptation")
    assert report.ok, report.text()
    cases = json.loads((PARITY / "kadaptation" / "meta.json").read_text())["cases"]
    compared = {comparison.name.partition("/")[0] for comparison in report.comparisons}
    assert compared >= {case["name"] for case in cases}


def test_changed_adapter_weight_of_one_case_is_beyond_tolerance(tmp_path: Path) -> None:
    fixture = copied(tmp_path, "kadaptation")
    weights = load_file(fixture / "baseline_lora.safetensors")
    weights["weights/resblocks.1.attn.v_proj_adapter2.weight"] += 0.05
    save_file(weights, fixture / "baseline_lora.safetensors")
    failed = [comparison.name for comparison in verify_fixture(fixture).comparisons if not comparison.ok]
    assert failed == ["baseline_lora/output"]


def test_a_case_that_cannot_be_computed_fails_and_the_others_are_compared(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PARITY / "kadaptation", tmp_path / "kadaptation"))
    meta = json.loads((folder / "meta.json").read_text())
    meta["cases"][1]["num_heads"] = 7
    (folder / "meta.json").write_text(json.dumps(meta))
    (folder / meta["cases"][0]["file"]).unlink()
    report = verify_fixture(folder)
    failed = {one.name: one.note for one in report.comparisons if not one.ok}
    assert set(failed) == {f"{case['name']}/case" for case in meta["cases"][:2]}
    assert all("cannot be computed" in note for note in failed.values()) and len(report.comparisons) > 30
