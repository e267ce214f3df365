"""FocalNet classifiers to ONNX: any batch, any picture size, with the modulation map as an output of its own."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.focalnet import FocalNet, modulation_map
from models.export.onnx import Axis, Signature, export, verify
from models.export.precision import Chosen, Precision, choose

MAX_BATCH = 256
MAX_SIDE = 4096
TOLERANCE = 1e-4
"""Largest error of an output, relative to its largest value, that a written file may have."""

CLASSIFIER = Signature(
    inputs=("image",),
    outputs=("logits", "embedding", "modulation"),
    free={"image": {0: Axis("batch", 1, MAX_BATCH), 2: Axis("height", 32, MAX_SIDE), 3: Axis("width", 32, MAX_SIDE)}},
)


class Classifier(nn.Module):
    """A FocalNet as it is served."""

    def __init__(self, network: FocalNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` to logits ``(B, classes)``, pooled features ``(B, C)`` and modulation map ``(B, h, w)``."""
        features = self.network.features(image)
        pooled = features.tokens.mean(dim=(1, 2))
        return self.network.classify(pooled), pooled, modulation_map(features.modulator)


def serve_classifier(network: FocalNet, path: Path, size: int, precision: Precision | None) -> Chosen:
    """:func:`export_classifier`, then the file in ``precision``: see :func:`models.export.precision.choose`."""
    errors = export_classifier(network, path, size)
    return choose(Classifier(network), examples(size), CLASSIFIER, path, errors["logits"], precision)


def export_classifier(network: FocalNet, path: Path, size: int = 224) -> dict[str, float]:
    """Write ``network``, traced at ``size``, and return each output's largest relative error.

    Checked at batch 1, 2 and 5 and at another picture size, none of them the traced one. Raises
    :class:`models.export.onnx.ExportError` beyond :data:`TOLERANCE`.
    """
    served = Classifier(network)
    export(served, (pictures(3, size, size),), CLASSIFIER, path)
    return verify(served, examples(size), CLASSIFIER, path, tolerance=TOLERANCE)


def examples(size: int) -> list[tuple[Tensor]]:
    """Pictures at batch 1, 2 and 5 and of another shape."""
    sizes = ((1, size, size), (2, size, size), (5, size, size), (2, size + 32, size))
    return [(pictures(*shape),) for shape in sizes]


def pictures(batch: int, height: int, width: int) -> Tensor:
    """Normal noise ``(batch, 3, height, width)``, the same at every call."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch * height + width))
