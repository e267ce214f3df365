"""Encoders that can be trained go to files and come back; a UniCL tower is taken with its projection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.encoders import EncoderError, encoder_files, encoder_of, read_encoder
from models.text.clip_transformer import ClipTextConfig
from models.unicl.network import UniCL, UniCLConfig
from tests.support import tiny_encoders
from tests.support.tiny_encoders import BACKBONES, SIDE


def put(encoder, folder: Path) -> Path:
    for name, content in encoder_files(encoder, folder).items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("architecture", BACKBONES)
def test_an_encoder_comes_back_from_its_files(architecture: str, tmp_path: Path) -> None:
    encoder = tiny_encoders.build(architecture)
    again = read_encoder(put(encoder, tmp_path))
    pictures = torch.randn(2, 3, SIDE, SIDE)
    assert again.architecture == architecture
    with torch.no_grad():
        torch.testing.assert_close(again(pictures), encoder(pictures), atol=0, rtol=0)


def test_the_tower_of_a_unicl_gives_its_unit_features(tmp_path: Path) -> None:
    torch.manual_seed(0)
    text = ClipTextConfig(vocab_size=32, context_length=8, width=16, heads=2, layers=1)
    model = UniCL(UniCLConfig(BACKBONES["swin"], text, dim=12)).eval()
    again = read_encoder(put(encoder_of(model.image_encoder, model.image_projection, unit=True), tmp_path))
    pictures = torch.randn(2, 3, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(again(pictures), model.encode_image(pictures))
    assert again.dim_out == 12


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "perceptron"}, "perceptron"),
        ({"config": {"depth": 3}}, "no depth"),
        ({"projection": 5}, "projection"),
    ],
)
def test_a_description_that_does_not_fit_says_why(change: dict, named: str, tmp_path: Path) -> None:
    put(tiny_encoders.build("resnet"), tmp_path)
    content = json.loads((tmp_path / "encoder.json").read_text()) | change
    (tmp_path / "encoder.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=named):
        read_encoder(tmp_path)
