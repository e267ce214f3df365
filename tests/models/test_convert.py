"""Published checkpoints to served models: every release is a known variant, and a file becomes models with cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tokenizers import Tokenizer

from models.backbones.focalnet import FocalNet, FocalNetConfig, modulation_map
from models.backbones.swin import SwinConfig
from models.catalog.card import Engine
from models.catalog.geometry import ImagePreprocess
from models.catalog.releases import ReleaseError, release, releases
from models.convert import convert, main
from models.errors import ModelError
from models.export import onnx
from models.export.accuracy import Labelled
from models.export.precision import Chosen, has_openvino
from models.families import FAMILIES, family
from models.focalnet import variants as focalnet_variants
from models.glip import variants as glip_variants
from models.intake.checkpoint import CheckpointError
from models.regionclip import variants as regionclip_variants
from models.repository.hashing import sha256, verify_version
from models.text.clip_transformer import ClipTextConfig
from models.unicl import variants as unicl_variants
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.tokens import from_file

FOCAL = FocalNetConfig(
    embed_dim=4, depths=(1, 1), focal_levels=(1, 2), focal_windows=(3, 3),
    conv_embed=True, layerscale=True, postln_in_modulation=True, normalize_modulator=True, drop_path=0.5,
)  # fmt: skip
PICTURES = Labelled(
    "fish", ("goldfish", "tench"), (0, 1, 0),
    lambda spec: iter(np.random.default_rng(0).normal(size=(3, 3, spec.size, spec.size)).astype(np.float32)),
)  # fmt: skip
UNICL = UniCLConfig(SwinConfig(embed_dim=4, depths=(2,), heads=(1,)), ClipTextConfig(width=8, heads=1, layers=1), dim=6)


def test_every_release_is_of_a_known_family_and_variant() -> None:
    known = {
        "focalnet": focalnet_variants.VARIANTS,
        "glip": glip_variants.VARIANTS,
        "regionclip": regionclip_variants.VARIANTS,
        "unicl": unicl_variants.VARIANTS,
    }
    assert known.keys() == {name for name in FAMILIES if family(name).converter is not None}
    for name, entry in releases().items():
        assert entry.variant in known[entry.family], name
        assert entry.licence.spdx == ("Apache-2.0" if entry.family == "regionclip" else "MIT")
        assert entry.remedy, name


def test_releases_of_the_papers_are_all_there() -> None:
    lines = (focalnet_variants, glip_variants, regionclip_variants, unicl_variants)
    assert {entry.variant for entry in releases().values()} == {name for line in lines for name in line.VARIANTS}
    assert sum(name.startswith("glip-") for name in releases()) == 5
    assert sum(name.startswith("regionclip-") for name in releases()) == 6
    assert sum(name.startswith("unicl-") for name in releases()) == 16
    assert sum(name.startswith("klite-") for name in releases()) == 5


def test_flags_that_no_weight_shows_are_those_of_the_variant_or_said_to_differ() -> None:
    for name, entry in releases().items():
        if entry.family != "focalnet":
            continue
        config = focalnet_variants.VARIANTS[entry.variant]
        stated = {flag: entry.flags.get(flag, getattr(config, flag)) for flag in ("postln", "normalize_modulator")}
        assert stated == {flag: getattr(config, flag) for flag in stated} or entry.note, name


def test_lost_file_says_what_to_do() -> None:
    assert "jw2yang/focalnet-modulators" in release("focalnet-base-iso").remedy
    assert "No copy is known" in release("focalnet-tiny-iso").remedy
    with pytest.raises(ReleaseError, match="no published checkpoint") as caught:
        release("focalnet-giant")
    assert "focalnet-tiny-srf" in caught.value.remedy


def saved(network: torch.nn.Module, file: Path) -> Path:
    torch.save({"model": network.state_dict()}, file)
    return file


@pytest.mark.slow
def test_focalnet_file_becomes_a_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(focalnet_variants.VARIANTS, "focalnet_tiny_srf", FOCAL)
    torch.manual_seed(0)
    network = FocalNet(FOCAL).eval()
    file = saved(network, tmp_path / "focalnet_tiny_srf.pth")
    (card,) = convert("focalnet-tiny-srf", file, tmp_path / "models", pictures=PICTURES)
    accuracy = card.measured[-1]
    assert (accuracy.dataset, accuracy.metric, accuracy.n) == ("fish", f"top-1 accuracy in {card.engine.precision}", 3)
    assert (card.task, card.label_set, card.logits) == ("classify", "imagenet-1k", "logits")
    assert card.provenance[0].sha256 == sha256(file)
    assert "No host states this hash" in card.provenance[0].note
    assert card.measured[0].value == 0.821 and card.measured[0].by == "publisher"
    assert card.engine.name == ("openvino" if has_openvino() else "onnxruntime")
    if has_openvino():
        assert card.engine.precision == "bf16" and card.measured[-2].value > 0.999
    folder = tmp_path / "models" / card.name / card.version
    assert verify_version(folder) == card
    images = torch.randn(4, 3, 64, 96)  # another batch and another size than were traced
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["logits", "embedding", "modulation"], {"image": images.numpy()})
    with torch.no_grad():
        expected = (network(images), network.pooled(images), modulation_map(network.features(images).modulator))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not list((tmp_path / "models").glob(".*.writing"))


@pytest.mark.slow
def test_22k_head_is_cut_to_1k_or_kept_with_its_own_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(focalnet_variants.VARIANTS, "focalnet_huge_fl3", replace(FOCAL, num_classes=1200))
    file = saved(FocalNet(replace(FOCAL, num_classes=1200, postln=True)), tmp_path / "a.pth")
    monkeypatch.setattr(onnx, "MOST_INLINE", 0)  # as if it were as large as the real one
    (cut,) = convert("focalnet-huge-fl3", file, tmp_path / "models")
    assert cut.files.keys() == {"model.onnx", "model.onnx.data", "encoder.json", "encoder.safetensors"}
    served = tmp_path / "models" / cut.name / cut.version / "model.onnx"
    assert onnxruntime.InferenceSession(served, providers=["CPUExecutionProvider"]).get_inputs()
    assert cut.outputs[0].shape == (-1, 1000)
    assert any("teddy" in limit for limit in cut.limits)
    for count, remedy in ((1000, "Leave the labels out"), (1100, "one label for every output")):
        (tmp_path / "labels").write_text("\n".join(f"label {number}" for number in range(count)))
        with pytest.raises(CheckpointError, match="has 1,200 classes") as caught:
            convert("focalnet-huge-fl3", file, tmp_path / "models", labels=tmp_path / "labels")
        assert remedy in caught.value.remedy
    (tmp_path / "labels").write_text("\n".join(f"label {number}" for number in range(1200)))
    # That the export is right is shown above; this is about the labels.
    monkeypatch.setattr(
        "models.focalnet.convert.serve_classifier",
        lambda network, path, size, precision: path.touch() or Chosen(path, Engine(), ()),
    )
    (whole,) = convert("focalnet-huge-fl3", file, tmp_path / "models", labels=tmp_path / "labels")
    assert (whole.outputs[0].shape, whole.label_set) == ((-1, 1200), "labels.txt")


@pytest.mark.slow
def test_unicl_file_becomes_two_towers_and_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(unicl_variants.VARIANTS, "unicl_swin_tiny", UNICL)
    torch.manual_seed(0)
    model = UniCL(UNICL).eval()
    file = saved(model, tmp_path / "a.pth")
    image, text, both = convert("unicl-swin-t-yfcc14m", file, tmp_path / "models", pictures=PICTURES)
    assert (both.measured[-1].dataset, both.measured[-1].n) == ("fish", 3)
    features = model.encode_image(torch.from_numpy(np.stack(list(PICTURES.tensors(ImagePreprocess(size=224))))))
    templates = both.pipeline.parameters["templates"] if both.pipeline else []
    tokenise = from_file(tmp_path / "models" / text.name / "1" / "tokenizer.json", 77, 49_408)
    rows = [model.encode_text(tokenise([each.replace("{}", label) for each in templates])) for label in PICTURES.labels]
    said = (features @ torch.stack([row.mean(dim=0) / row.mean(dim=0).norm() for row in rows]).T).argmax(dim=1)
    right = float((said == torch.tensor(PICTURES.truth)).float().mean())
    assert both.measured[-1].value == pytest.approx(right, abs=1e-4)
    assert both.pipeline is not None
    assert both.pipeline.parts == {"image": (image.name, image.version), "text": (text.name, text.version)}
    assert both.pipeline.parameters["scale"] == pytest.approx(np.e)
    assert both.pipeline.parameters["templates"][0] == "itap of a {}."
    pictures = torch.randn(5, 3, 224, 224)
    session = onnxruntime.InferenceSession(
        tmp_path / "models" / image.name / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(None, {"image": pictures.numpy()})[0], model.encode_image(pictures), atol=1e-5
        )
    folder = tmp_path / "models" / text.name / "1"
    assert text.text is not None
    ids = np.array([Tokenizer.from_file(str(folder / text.text.tokenizer)).encode("a photo of a dog.").ids])
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        np.testing.assert_allclose(
            session.run(None, {"input_ids": ids})[0], model.encode_text(torch.tensor(ids)), atol=1e-5
        )


def test_file_of_another_variant_leaves_the_repository_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved(FocalNet(FOCAL), tmp_path / "a.pth")
    assert main(["focalnet-tiny-srf", str(file), "--repository", str(tmp_path / "models")]) == 1
    assert "does not fit" in capsys.readouterr().err
    torch.save(FocalNet(focalnet_variants.VARIANTS["focalnet_tiny_iso"]).state_dict(), file)
    for wrong in ("focalnet-tiny-srf", "unicl-swin-t-yfcc14m"):  # of its own family, and of the other
        assert main([wrong, str(file), "--repository", str(tmp_path / "models")]) == 1
        said = "It is focalnet_tiny_iso with 1000 classes: convert it as focalnet-tiny-iso."
        assert said in capsys.readouterr().err
    assert [path for path in (tmp_path / "models").iterdir() if not path.name.startswith(".")] == []


def test_absent_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there") as caught:
        convert("focalnet-tiny-srf", tmp_path / "absent.pth", tmp_path / "models")
    assert "Download https://github.com/microsoft/FocalNet/releases" in caught.value.remedy


def test_list_names_every_release_and_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    listed = capsys.readouterr().out
    assert all(f"{name}: " in listed for name in releases())
