"""UniCLs to train from nothing: FocalNets with a text tower that fits them, for pictures of 32 to 384 pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from models.backbones.focalnet import FocalNetConfig
from models.focalnet.variants import VARIANTS
from models.text.clip_transformer import ClipTextConfig
from models.unicl.network import UniCLConfig


@dataclass(frozen=True, slots=True)
class Size:
    """One network but for its vocabulary; ``about`` is for people who choose."""

    image: FocalNetConfig
    text: ClipTextConfig
    dim: int
    about: str

    def config(self, vocabulary: int) -> UniCLConfig:
        """The network with a vocabulary of so many ids."""
        return UniCLConfig(self.image, replace(self.text, vocab_size=vocabulary), self.dim)


def _focal(dim: int, *depths: int, drop_path: float) -> FocalNetConfig:
    levels, windows = (2,) * len(depths), (3,) * len(depths)
    return FocalNetConfig(
        embed_dim=dim, depths=depths, focal_levels=levels, focal_windows=windows, drop_path=drop_path, num_classes=0
    )


SIZES: dict[str, Size] = {
    "nano": Size(
        _focal(16, 1, 1, drop_path=0.0),
        ClipTextConfig(context_length=32, width=64, heads=2, layers=2),
        64,
        "a trial, seconds on two cores",
    ),
    "tiny": Size(
        _focal(48, 2, 2, 2, drop_path=0.05),
        ClipTextConfig(context_length=32, width=192, heads=3, layers=3),
        192,
        "thousands of small pictures, an hour on two cores",
    ),
    "small": Size(
        _focal(64, 2, 2, 4, drop_path=0.1),
        ClipTextConfig(context_length=48, width=256, heads=4, layers=4),
        256,
        "tens of thousands of pictures, a GPU",
    ),
    "base": Size(
        replace(VARIANTS["focalnet_tiny_srf"], num_classes=0, drop_path=0.2),
        ClipTextConfig(width=512, heads=8, layers=12),
        512,
        "the image tower of FocalNet-T and the paper's text tower: hundreds of thousands of pictures, a GPU",
    ),
}
