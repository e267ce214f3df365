"""NanoDet-Plus-m as ONNX: RGB pictures of any size to boxes, class probabilities and what each cell saw."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files
from models.nanodet.weights import LICENCE, published

COARSEST = 32
"""Sides of pictures are multiples of it."""
SIGNATURE = Signature(
    ("image",),
    ("boxes", "scores", "features"),
    {"image": {0: Axis("batch", 1, 256), 2: Axis("height", COARSEST, 4096), 3: Axis("width", COARSEST, 4096)}},
)


class FromRGB(nn.Module):
    """A network that was trained on blue, green, red, for pictures in red, green, blue."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = self.network(image.flip(1))
        return found


def build(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the file with the weights in this repository."""
    job.progress("read weights", 0, 3)
    network = published(str(job.options["weights"]))
    job.progress("export", 1, 3)
    target = job.scratch / "model.onnx"
    write(network, target)
    job.progress("verify", 3, 3)
    return {"model.onnx": target, LICENCE.name: LICENCE}


def write(network: nn.Module, target: Path) -> None:
    """Export a ``NanoDet``, or what has the same outputs, and prove the file at other sizes; raises ``ExportError``."""
    wrapped = FromRGB(network).eval()
    generator = torch.Generator().manual_seed(0)

    def pictures(batch: int, height: int, width: int) -> list[Tensor]:
        return [torch.randn(batch, 3, height, width, generator=generator)]

    export(wrapped, pictures(2, 96, 128), SIGNATURE, target)
    verify(wrapped, [pictures(1, 32, 32), pictures(3, 160, 96), pictures(2, 416, 320)], SIGNATURE, target)
