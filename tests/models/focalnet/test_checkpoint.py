"""FocalNet's published files: three namings, the variant that a file fits, and 22K heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.backbones.focalnet import FocalNet, FocalNetConfig
from models.focalnet.checkpoint import NEVER_TRAINED, canonical, first_thousand, fits, read
from models.focalnet.variants import DETECTION_VARIANTS, VARIANTS
from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint
from models.parity import Fixture

PARITY = Path(__file__).parents[2] / "parity"
TINY = FocalNetConfig(embed_dim=4, depths=(1, 1), focal_levels=(2, 2), focal_windows=(3, 3), num_classes=6)
PORT = FocalNetConfig(
    embed_dim=4,
    depths=(1, 1, 2, 1),
    focal_levels=(3, 3, 3, 3),
    conv_embed=True,
    layerscale=True,
    postln=True,
    postln_in_modulation=True,
    num_classes=6,
)


def saved(network: FocalNet, file: Path) -> Path:
    torch.save({"model": network.state_dict()}, file)
    return file


def test_release_gives_back_the_network(tmp_path: Path) -> None:
    network = FocalNet(TINY).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(read(saved(network, tmp_path / "a.pth"), TINY)(images), network(images))


@pytest.mark.parametrize(
    ("port", "scheme", "normalize"), [("focalnet_timm", "timm", False), ("focalnet_huggingface", "huggingface", True)]
)
def test_ports_answer_as_in_their_own_library(port: str, scheme: str, normalize: bool) -> None:
    fixture = Fixture.read(PARITY / port)
    assert canonical(fixture.weights).scheme == scheme
    network = read(PARITY / port / "weights.safetensors", replace(PORT, normalize_modulator=normalize))
    with torch.no_grad():
        torch.testing.assert_close(network(fixture.inputs["image"]), fixture.expected["logits"], rtol=1e-4, atol=2e-5)


def test_norms_that_stand_elsewhere_than_asked_are_refused() -> None:
    with pytest.raises(CheckpointError, match="after the branches") as caught:
        read(PARITY / "focalnet_timm" / "weights.safetensors", replace(PORT, postln=False))
    assert "postln=True" in caught.value.remedy


def test_file_that_mixes_two_namings_is_refused(tmp_path: Path) -> None:
    weights = load_file(PARITY / "focalnet_timm" / "weights.safetensors")
    weights["patch_embed.proj.weight"] = weights["stem.proj.weight"].clone()
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="mixes namings"):
        read(tmp_path / "a.safetensors", PORT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_fits_itself_and_its_likes_alone(variant: str) -> None:
    shapes = shapes_of(VARIANTS[variant])
    assert fits(shapes) == [f"{variant} with {VARIANTS[variant].num_classes} classes"]


def shapes_of(config: FocalNetConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in FocalNet(config).state_dict().items()}


def test_wrong_variant_says_which_one_fits(tmp_path: Path) -> None:
    with torch.device("meta"):
        lrf = FocalNet(VARIANTS["focalnet_tiny_lrf"])
    file = tmp_path / "a.safetensors"
    save_file(
        {name: torch.zeros(1).expand(tensor.shape).contiguous() for name, tensor in lrf.state_dict().items()}, file
    )
    with pytest.raises(MismatchedCheckpoint) as caught:
        read(file, VARIANTS["focalnet_tiny_srf"])
    assert caught.value.fits == ("focalnet_tiny_lrf with 1000 classes",)
    assert "layers.0.blocks.0.modulation.focal_layers.2.0.weight" in caught.value.unexpected
    assert not caught.value.missing


def test_head_of_another_size_says_how_many_classes_the_file_has() -> None:
    shapes = shapes_of(replace(VARIANTS["focalnet_base_lrf"], num_classes=21842))
    assert fits(shapes) == ["focalnet_base_lrf with 21842 classes"]


def test_detection_backbones_are_known_by_their_kernels() -> None:
    from models.backbones.focalnet import FocalNetPyramid

    with torch.device("meta"):
        network = FocalNetPyramid(DETECTION_VARIANTS["focalnet_det_backbone_small_srf"])
    assert fits({name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}) == [
        "focalnet_det_backbone_small_srf"
    ]


def test_22k_head_is_cut_to_the_first_thousand_and_never_says_the_untrained_class() -> None:
    torch.manual_seed(0)
    network = FocalNet(replace(TINY, num_classes=1200)).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = network(images)
        after = first_thousand(network)(images)
    others = [index for index in range(1000) if index != NEVER_TRAINED]
    assert after.shape == (2, 1000)
    torch.testing.assert_close(after[:, others], before[:, others])
    assert bool((after[:, NEVER_TRAINED] < after.min() + 1).all())
    assert float(after.softmax(dim=-1)[:, NEVER_TRAINED].max()) == 0.0


def test_head_of_a_thousand_classes_is_not_cut() -> None:
    with pytest.raises(CheckpointError, match="no ImageNet-22K head"):
        first_thousand(FocalNet(replace(TINY, num_classes=1000)))
