"""UniCL's published files: one network under three namings, taken in full or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.backbones.swin import SwinConfig
from models.intake.checkpoint import CheckpointError, MismatchedCheckpoint
from models.text.clip_transformer import ClipTextConfig
from models.unicl.checkpoint import fits, read, scheme_of
from models.unicl.network import UniCL, UniCLConfig
from models.unicl.variants import VARIANTS

TINY = UniCLConfig(
    SwinConfig(image_size=32, embed_dim=8, depths=(2, 2), heads=(2, 2), window=4),
    ClipTextConfig(vocab_size=40, context_length=8, width=16, heads=2, layers=2),
    dim=12,
)
Renaming = Callable[[str], str]


def as_b(name: str) -> str:
    """K-LITE's names."""
    name = name.replace("image_projection", "vision_projection")
    return name.replace("image_encoder.", "visual.").replace("text_encoder.", "text.")


def as_c(name: str) -> str:
    """The ELEVATER toolkit's names."""
    return name.replace("text_encoder.", "lang_encoder.").replace("text_projection", "lang_projection")


@pytest.fixture
def model() -> UniCL:
    torch.manual_seed(0)
    return UniCL(TINY).eval()


def answers(model: UniCL) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    ids = torch.randint(1, 40, (3, 8), generator=generator)
    with torch.no_grad():
        return model.encode_image(images), model.encode_text(ids)


@pytest.mark.parametrize(("scheme", "rename"), [("A", str), ("B", as_b), ("C", as_c)], ids=["A", "B", "C"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_naming_gives_the_same_network(
    tmp_path: Path, model: UniCL, scheme: str, rename: Renaming, prefix: str
) -> None:
    state = {prefix + rename(name): tensor for name, tensor in model.state_dict().items()}
    torch.save({"model": state}, tmp_path / "a.pth")
    if not prefix:
        assert scheme_of(state) == scheme
    again = read(tmp_path / "a.pth", TINY)
    for ours, theirs in zip(answers(model), answers(again), strict=True):
        assert torch.equal(ours, theirs)


def test_text_tower_of_naming_b_is_not_lost(tmp_path: Path, model: UniCL) -> None:
    state = {as_b(name): tensor for name, tensor in model.state_dict().items()}
    for name in [name for name in state if name.startswith("text.")]:
        del state[name]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(MismatchedCheckpoint) as caught:
        read(tmp_path / "a.pth", TINY)
    assert "text_encoder.token_embedding.weight" in caught.value.missing


def test_mixed_namings_are_refused(tmp_path: Path, model: UniCL) -> None:
    state = {as_c(as_b(name)): tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="mixes"):
        read(tmp_path / "a.pth", TINY)


def test_buffers_may_be_absent_or_of_another_resolution(tmp_path: Path, model: UniCL) -> None:
    state = {
        name: torch.zeros(9, 9) if name.endswith("attn_mask") else tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith("relative_position_index")
    }
    torch.save(state, tmp_path / "a.pth")
    for ours, theirs in zip(answers(model), answers(read(tmp_path / "a.pth", TINY)), strict=True):
        assert torch.equal(ours, theirs)


def test_buffer_of_another_window_layout_is_refused(tmp_path: Path, model: UniCL) -> None:
    state = {
        name: tensor.flip(0) if name.endswith("relative_position_index") else tensor
        for name, tensor in model.state_dict().items()
    }
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="relative_position_index"):
        read(tmp_path / "a.pth", TINY)


def test_other_size_of_the_space_is_refused_by_shape(tmp_path: Path, model: UniCL) -> None:
    torch.save(model.state_dict(), tmp_path / "a.pth")
    with pytest.raises(MismatchedCheckpoint) as caught:
        read(tmp_path / "a.pth", replace(TINY, dim=16))
    assert caught.value.reshaped == {
        "image_projection": ((16, 12), (16, 16)),
        "text_projection": ((16, 12), (16, 16)),
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_variant_fits_itself_alone(variant: str) -> None:
    with torch.device("meta"):
        state = UniCL(VARIANTS[variant]).state_dict()
    shapes = {name: tuple(t.shape) for name, t in state.items() if "attn_mask" not in name and "index" not in name}
    assert fits(shapes) == [variant]
