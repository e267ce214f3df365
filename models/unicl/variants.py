"""The published UniCL configurations (configs/unicl_swin_*.yaml of the reference)."""

from __future__ import annotations

from models.backbones.swin import SwinConfig
from models.text.clip_transformer import ClipTextConfig
from models.unicl.network import UniCLConfig

# The reference's config.py has a text width of 1024; both yamls of the releases say 512, the default here.
_TEXT = ClipTextConfig()

VARIANTS: dict[str, UniCLConfig] = {
    "unicl_swin_tiny": UniCLConfig(SwinConfig(), _TEXT),
    "unicl_swin_base": UniCLConfig(SwinConfig(embed_dim=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32)), _TEXT),
}
