"""A configuration on disk: every field comes back, and a wrong one is named."""

from __future__ import annotations

import json

import pytest

from models.backbones.focalnet import FocalNetConfig
from models.backbones.resnet import ResNetConfig
from models.backbones.swin import SwinConfig
from models.text.clip_transformer import ClipTextConfig
from models.unicl.config_file import ConfigError, from_json, to_json
from models.unicl.network import ImageConfig, UniCLConfig


@pytest.mark.parametrize(
    "image",
    [FocalNetConfig(num_classes=0, postln=True, focal_windows=(9, 9, 7, 5)), SwinConfig(), ResNetConfig(num_classes=0)],
)
def test_configuration_comes_back_whole(image: ImageConfig) -> None:
    config = UniCLConfig(image, ClipTextConfig(causal=False, width=64), dim=32)
    assert from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "no UniCL configuration"),
        ("[]", "no UniCL configuration"),
        ("{}", "image"),
        ('{"image": {"backbone": "vit"}}', "unknown"),
        ('{"image": {"backbone": "swin", "colour": 3}}', "colour"),
        ('{"image": {"backbone": "focalnet", "num_classes": 10}}', "num_classes"),
        ('{"image": {"backbone": "focalnet", "depths": [2]}}', "one entry for every stage"),
    ],
)
def test_wrong_configuration_is_named(content: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        from_json(content)


def test_fields_left_out_take_their_defaults() -> None:
    assert from_json(json.dumps({"image": {"backbone": "swin"}})).text == ClipTextConfig()
