"""GLIP's networks compute what the reference computes, tensor by tensor, and a fault in any of them shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from models.verify import verify_fixture

PARITY = Path(__file__).parents[2] / "parity"
NETWORKS = {
    "glip_mdcn": ("glip-deform-conv", 4),
    "glip_dyconv": ("glip-dyconv", 5),
    "glip_vlfuse": ("glip-fusion", 10),
    "glip_vldyhead": ("glip-head", 26),
    "glip_vldyhead_nofuse": ("glip-head", 26),
    "glip_e2e_tiny": ("glip", 19),
    "glip_postprocess": ("glip-postprocess", 39),
    "glip_positive_map": ("glip-positive-map", 56),
}
MANIFESTS = sorted((PARITY / "glip_manifests").glob("*.json"))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tensor_of_the_reference_is_computed(name: str) -> None:
    report = verify_fixture(PARITY / name)
    assert report.ok, report.text()
    assert (report.kind, len(report.comparisons)) == NETWORKS[name]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_names_and_shapes_are_the_published_ones(manifest: Path) -> None:
    report = verify_fixture(manifest)
    assert report.ok, report.text()
    assert len(MANIFESTS) == 3


@pytest.mark.parametrize(
    ("fixture", "weight"),
    [
        ("glip_dyconv", "DyConv.0.conv.weight"),
        ("glip_dyconv", "offset.weight"),
        ("glip_dyconv", "relu.fc.2.weight"),
        ("glip_vlfuse", "b_attn.attn.values_v_proj.bias"),
        ("glip_vlfuse", "b_attn.gamma_l"),
        ("glip_vldyhead", "bias_lang"),
        ("glip_e2e_tiny", "backbone.fpn.top_blocks.p7.weight"),
        ("glip_e2e_tiny", "rpn.head.bbox_pred.weight"),
        ("glip_vldyhead", "dyhead_tower.4.output.LayerNorm.weight"),
    ],
)
def test_another_weight_is_noticed(tmp_path: Path, fixture: str, weight: str) -> None:
    shutil.copytree(PARITY / fixture, tmp_path / fixture)
    weights = load_file(PARITY / fixture / "weights.safetensors")
    save_file({**weights, weight: weights[weight] + 0.05}, tmp_path / fixture / "weights.safetensors")
    assert not verify_fixture(tmp_path / fixture).ok
