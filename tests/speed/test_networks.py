"""The benchmark of networks compares like with like, and puts its rows where the page expects them."""

from pathlib import Path

import numpy as np
import torch

from models.backbones.focalnet import FocalNet, FocalNetConfig
from models.export.onnx import Signature
from models.focalnet.checkpoint import canonical, to_huggingface
from speed.network_engines import Contender, Network
from speed.networks import table

PAGE = Path(__file__).parents[2] / "docs" / "models" / "unicl.md"


def network(name="n"):
    return Network(
        name,
        torch.nn.Identity(),
        Path(),
        Signature((), (), {}),
        "y",
        lambda batch: {"x": np.ones((batch, 3), np.float32)},
    )


def test_every_contender_is_compared_with_the_first():
    exact = Contender("exact", lambda feed: feed["x"])
    skewed = Contender("skewed", lambda feed: feed["x"] * np.array([1, 1, 0], np.float32))
    first, second = table(network(), [exact, skewed], [1, 4], rounds=2)
    assert first.startswith("| n | exact | ") and first.endswith("| 1.00 / 1.00 | 1.00000 |")
    assert second.endswith("| 0.81650 |")


def test_weights_go_to_hugging_faces_names_and_back():
    config = FocalNetConfig(
        embed_dim=4,
        depths=(1, 1),
        focal_levels=(1, 2),
        focal_windows=(3, 3),
        layerscale=True,
        postln_in_modulation=True,
    )
    state = FocalNet(config).state_dict()
    there = to_huggingface(state)
    assert "focalnet.encoder.stages.0.layers.0.modulation.projection_in.weight" in there and "classifier.bias" in there
    back = canonical(there)
    assert back.scheme == "huggingface" and back.state.keys() == state.keys()
    assert all(torch.equal(back.state[name], tensor) for name, tensor in state.items())


def test_the_page_has_room_for_every_table():
    page = PAGE.read_text("utf-8")
    for name in ("speed", "label-sets"):
        assert page.count(f"<!-- table: {name} -->") == page.count(f"<!-- end: {name} -->") == 1
