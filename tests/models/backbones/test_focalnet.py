"""FocalNet beyond parity: free sizes, no state, the modulation map, training."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from models.backbones.focalnet import FocalNet, FocalNetConfig, FocalNetPyramid, modulation_map

TINY = FocalNetConfig(embed_dim=8, depths=(1, 2), focal_levels=(2, 3), focal_windows=(3, 3), num_classes=5)


def network(**changes: Any) -> FocalNet:
    """A tiny network whose weights are as large as trained ones, so that every part of it shows in the answer."""
    torch.manual_seed(0)
    model = FocalNet(replace(TINY, **changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return model


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (33, 50), (9, 200)])
def test_pictures_of_any_size_are_classified(height: int, width: int) -> None:
    with torch.no_grad():
        assert network()(torch.randn(2, 3, height, width)).shape == (2, 5)


def test_pictures_of_a_batch_do_not_touch_each_other() -> None:
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        together, alone = network()(images), network()(images[2:3])
    torch.testing.assert_close(together[2:3], alone)


def test_a_call_leaves_nothing_on_the_modules() -> None:
    model = network()

    def held(module: nn.Module) -> dict[str, set[str]]:
        return {name: set(vars(child)) for name, child in module.named_modules()}

    before = held(model)
    model(torch.randn(1, 3, 32, 32))
    assert held(model) == before


def test_one_network_serves_many_threads_at_once() -> None:
    model = network()
    batches = [torch.randn(1 + index % 3, 3, 32 + 32 * (index % 2), 32) for index in range(24)]
    with torch.no_grad():
        alone = [model(batch) for batch in batches]

    def run(batch: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return model(batch)

    with ThreadPoolExecutor(4) as pool:
        for ours, expected in zip(pool.map(run, batches), alone, strict=True):
            torch.testing.assert_close(ours, expected)


def test_padding_makes_room_for_a_last_patch_and_cutting_drops_it() -> None:
    images = torch.randn(1, 3, 34, 47)
    with torch.no_grad():
        assert network(pad_input=True).features(images).tokens.shape[1:3] == (5, 6)
        assert network(pad_input=False).features(images).tokens.shape[1:3] == (4, 5)


@pytest.mark.parametrize("flag", ["postln", "normalize_modulator"])
def test_flag_changes_the_answer_but_no_name(flag: str) -> None:
    plain, flagged = network(), network(**{flag: True})
    flagged.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(plain(images), flagged(images), atol=1e-5)


def test_stem_padding_changes_the_answer_but_no_name() -> None:
    two, three = network(conv_embed=True), network(conv_embed=True, stem_padding=3)
    three.load_state_dict(two.state_dict())
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(two(images), three(images), atol=1e-5)


def test_modulation_map_is_the_length_of_the_modulator_at_every_place() -> None:
    model = network()
    modulator = model.features(torch.randn(2, 3, 64, 32)).modulator
    found = modulation_map(modulator)
    assert found.shape == (2, 8, 4)
    torch.testing.assert_close(found[1, 3, 2], modulator[1, :, 3, 2].square().sum().sqrt())


def test_modulation_map_follows_the_object() -> None:
    model = network()
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 8:24, 8:24] = 3.0
    with torch.no_grad():
        blank = modulation_map(model.features(torch.zeros(1, 3, 64, 64)).modulator)[0]
        change = (modulation_map(model.features(image).modulator)[0] - blank).abs()
    assert change[1:3, 1:3].mean() > 2 * change[5:, 5:].mean()


def test_pyramid_gives_one_map_a_stage() -> None:
    model = FocalNetPyramid(replace(TINY, num_classes=0, pad_input=True)).eval()
    with torch.no_grad():
        maps = model(torch.randn(2, 3, 66, 64))
    assert [tuple(feature.shape) for feature in maps] == [(2, 8, 17, 16), (2, 16, 9, 8)]


def test_every_parameter_learns() -> None:
    model = network(layerscale=True, postln_in_modulation=True).train()
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_dropped_paths_are_a_matter_of_training_alone() -> None:
    model = network(drop_path=0.9)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), model(images))
        model.train()
        torch.manual_seed(1)
        assert not torch.equal(model(images), model(images))


def test_network_without_head_says_so() -> None:
    with pytest.raises(RuntimeError, match="no head"):
        network(num_classes=0)(torch.randn(1, 3, 32, 32))


def test_stages_must_agree_in_number() -> None:
    with pytest.raises(ValueError, match="one entry for every stage"):
        FocalNetConfig(depths=(2, 2))
