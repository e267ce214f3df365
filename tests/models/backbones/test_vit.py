"""CLIP's image tower has the published names and computes what the reference tower computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models.backbones.vit import Vit, VitConfig
from models.kadaptation.reference import EncoderConfig, VisionTransformer

FIXTURE = Path(__file__).parents[2] / "parity" / "kadaptation" / "vit_tiny.safetensors"
TINY = VitConfig(image_size=32, patch_size=8, width=64, layers=2, heads=4, output_dim=32)


def test_names_and_shapes_of_vit_b32_are_the_published_ones() -> None:
    with torch.device("meta"):
        tower = Vit(VitConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in tower.state_dict().items()}
    assert len(shapes) == 152
    assert shapes["conv1.weight"] == (768, 3, 32, 32)
    assert shapes["positional_embedding"] == (50, 768)
    assert shapes["transformer.resblocks.11.attn.in_proj_weight"] == (2304, 768)
    assert shapes["transformer.resblocks.0.mlp.c_proj.weight"] == (768, 3072)
    assert shapes["proj"] == (768, 512)
    assert sum(parameter.numel() for parameter in tower.parameters()) == 87_849_216


def test_without_its_updates_the_reference_tower_is_this_one() -> None:
    tensors = load_file(FIXTURE)
    weights = {name.removeprefix("weights/"): t for name, t in tensors.items() if name.startswith("weights/")}
    reference = VisionTransformer(EncoderConfig(64, 2, 4, "kadaptation", 32, 8, 32)).eval()
    added = ("adapter", "phm_rule", "attn.b")
    reference.load_state_dict(
        {n: torch.zeros_like(t) if any(a in n for a in added) else t for n, t in weights.items()}, strict=True
    )
    tower = Vit(TINY).eval()
    tower.load_state_dict({name: t for name, t in weights.items() if not any(a in name for a in added)}, strict=True)
    torch.testing.assert_close(tower(tensors["input"]), reference(tensors["input"]), atol=2e-5, rtol=1e-4)


def test_picture_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 32 x 32"):
        Vit(TINY).pooled(torch.zeros(1, 3, 40, 40))
