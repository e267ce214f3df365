"""A GLIP small enough for a test, that reads real words."""

from __future__ import annotations

import torch

from models.backbones.swin_pyramid import SwinPyramidConfig
from models.glip.head import HeadConfig
from models.glip.network import Glip, GlipConfig
from models.text.bert import BertConfig

CONFIG = GlipConfig(
    SwinPyramidConfig(8, (2, 1, 1, 1), (2, 2, 4, 4), window=7),
    BertConfig(width=16, layers=1, heads=2, hidden=16, positions=256),
    HeadConfig(
        channels=16,
        text_width=16,
        convs=1,
        fusion_width=32,
        fusion_heads=2,
        text_heads=2,
        text_hidden=16,
        norm_groups=4,
        classes=3,
    ),
)


def tiny_glip(seed: int = 0) -> Glip:
    """Random weights, large enough that every part of the network shows in its answer."""
    torch.manual_seed(seed)
    network = Glip(CONFIG).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim > 1 and "embeddings" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.5 / parameter[0].numel() ** 0.5))
            elif name.endswith("offset.bias"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        network.head.bias0.fill_(-1.0)
        network.head.log_scale.fill_(-0.5)
    return network
