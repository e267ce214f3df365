"""GLIP's published files: both namings are read in full, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.glip import checkpoint
from models.glip.checkpoint import canonical, published_as, read
from models.glip.network import Glip
from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint, State
from tests.support.tiny_glip import CONFIG, tiny_glip


@pytest.fixture(scope="module")
def network() -> Glip:
    return tiny_glip()


@pytest.fixture(autouse=True)
def _tiny_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "VARIANTS", {"glip_t": CONFIG})


def released(network: Glip) -> State:
    """As the authors' training writes it, with what their later tools left in it."""
    extra = {
        "rpn.head.mlm_head.predictions.weight": torch.zeros(3),
        "language_backbone.body.model.embeddings.position_ids": torch.arange(256)[None],
    }
    return {f"module.{name}": tensor for name, tensor in {**network.state_dict(), **extra}.items()}


def mmdetection(network: Glip) -> State:
    """Renamed word by word, and neighbours together, as mmdetection's own converter says."""
    fpn = {f"fpn_inner{level + 2}": f"lateral_convs.{level}.conv" for level in range(3)}
    fpn |= {f"fpn_layer{level + 2}": f"fpn_convs.{level}.conv" for level in range(3)}
    fpn |= {"top_blocks.p6": "fpn_convs.3.conv", "top_blocks.p7": "fpn_convs.4.conv"}
    state = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("backbone.fpn."):
            level, _, last = name.removeprefix("backbone.fpn.").rpartition(".")
            new = f"neck.{fpn[level]}.{last}"
        elif name.startswith("backbone.body."):
            new = name.replace("backbone.body", "backbone").replace("patch_embed.proj", "patch_embed.projection")
            new = (
                new.replace("layers", "stages").replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
            )
            new = new.replace("attn", "attn.w_msa")
        elif name.startswith("language_backbone."):
            new = f"language_model.{name}"
        else:
            new = name.replace("rpn.", "bbox_head.", 1)
        if "downsample" in name:  # channel by channel, the neighbours in the order 0 2 1 3
            parts = tensor.chunk(4, dim=-1)
            tensor = torch.stack([parts[corner] for corner in (0, 2, 1, 3)], dim=-1).flatten(-2)
        state[new] = tensor
    return state


@pytest.mark.parametrize("naming", [released, mmdetection], ids=lambda naming: naming.__name__)
def test_a_published_file_gives_the_network_it_was_written_of(tmp_path: Path, network: Glip, naming) -> None:
    torch.save({"model": naming(network), "iteration": 7}, tmp_path / "glip.pth")
    found = read(tmp_path / "glip.pth", "glip_t").state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in network.state_dict().items())
    assert published_as(naming(network) if naming is mmdetection else network.state_dict()) == {"glip_t": "glip_t"}


def test_a_file_without_the_prefix_is_read_too(tmp_path: Path, network: Glip) -> None:
    torch.save(network.state_dict(), tmp_path / "glip.pth")
    assert read(tmp_path / "glip.pth", "glip_t").head.bias0.item() == -1


def test_what_is_missing_is_named(tmp_path: Path, network: Glip) -> None:
    state = mmdetection(network)
    del state["bbox_head.head.dyhead_tower.2.offset.weight"]
    torch.save(state, tmp_path / "glip.pth")
    with pytest.raises(MismatchedCheckpoint, match=r"missing: rpn\.head\.dyhead_tower\.2\.offset\.weight"):
        read(tmp_path / "glip.pth", "glip_t")


def test_a_prefix_on_some_names_is_no_published_naming(tmp_path: Path, network: Glip) -> None:
    state = released(network)
    state["rpn.head.log_scale"] = state.pop("module.rpn.head.log_scale")
    torch.save(state, tmp_path / "glip.pth")
    with pytest.raises(MismatchedCheckpoint, match="missing"):
        read(tmp_path / "glip.pth", "glip_t")


def test_two_names_of_one_weight_are_refused(network: Glip) -> None:
    state = mmdetection(network)
    with pytest.raises(CheckpointError, match="mixes namings"):
        canonical({**state, "rpn.head.log_scale": torch.zeros(1)})
