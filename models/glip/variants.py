"""The published GLIPs: what their yaml files in ``configs/pretrain`` of microsoft/GLIP build."""

from __future__ import annotations

from models.backbones.swin_pyramid import SwinPyramidConfig
from models.glip.head import HeadConfig
from models.glip.network import GlipConfig

VARIANTS = {
    "glip_t_a": GlipConfig(swin=SwinPyramidConfig(drop_path=0.2), head=HeadConfig(fused=False)),
    "glip_t": GlipConfig(swin=SwinPyramidConfig(drop_path=0.2)),
    "glip_l": GlipConfig(
        swin=SwinPyramidConfig(192, (2, 2, 18, 2), (6, 12, 24, 48), window=12, drop_path=0.4),
        head=HeadConfig(convs=8),
    ),
}
"""``glip_t`` is GLIP-T (B), (C) and GLIP-T itself, which differ in what they were trained on."""

MANIFESTS = {"glip_t_a": "glip_t_a", "glip_t_b": "glip_t", "glip_t_c": "glip_t", "glip_l": "glip_l"}
"""The variant of each list of published names."""
