"""UniCL's towers to ONNX, each a file of its own: any batch, any length of text, any picture size where it allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.focalnet import FocalNet, modulation_map
from models.export.onnx import Axis, Signature, export, verify
from models.focalnet.export import MAX_BATCH, MAX_SIDE, TOLERANCE, pictures
from models.unicl.network import UniCL, unit

_BATCH = Axis("batch", 1, MAX_BATCH)
_SIDES = {2: Axis("height", 32, MAX_SIDE), 3: Axis("width", 32, MAX_SIDE)}
IMAGE = Signature(("image",), ("image_embedding",), {"image": {0: _BATCH}})
FOCAL_IMAGE = Signature(("image",), ("image_embedding", "modulation"), {"image": {0: _BATCH, **_SIDES}})


class ImageTower(nn.Module):
    """Pictures to unit features; a FocalNet also tells where it looked."""

    def __init__(self, model: UniCL) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` to unit features ``(B, D)`` and, from a FocalNet, the modulation map ``(B, h, w)``."""
        tower = self.model.image_encoder
        if not isinstance(tower, FocalNet):
            return self.model.encode_image(image)
        features = tower.features(image)
        embedding = unit(self.model.project_image(features.tokens.mean(dim=(1, 2))))
        return embedding, modulation_map(features.modulator)


class TextTower(nn.Module):
    """Token ids to unit features."""

    def __init__(self, model: UniCL) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64`` to unit features ``(B, D)``."""
        return self.model.encode_text(input_ids)


def export_image(model: UniCL, path: Path, size: int) -> dict[str, float]:
    """Write the image tower, traced at ``size``, and return each output's largest relative error.

    Checked at batch 1, 2 and 5, none of them traced. Raises :class:`models.export.onnx.ExportError` beyond tolerance.
    """
    tower = ImageTower(model)
    focal = isinstance(model.image_encoder, FocalNet)
    signature = FOCAL_IMAGE if focal else IMAGE
    export(tower, (pictures(3, size, size),), signature, path)
    shapes = [(batch, size, size) for batch in (1, 2, 5)] + ([(2, size + 32, size)] if focal else [])
    return verify(tower, [(pictures(*shape),) for shape in shapes], signature, path, TOLERANCE)


def export_text(model: UniCL, path: Path) -> dict[str, float]:
    """Write the text tower and return its output's largest relative error.

    Batch and length are free: a batch padded to its longest text gives the features of the full context. Checked at
    batch 1, 2 and 5 with three lengths, none of them traced. Raises :class:`models.export.onnx.ExportError`.
    """
    tower = TextTower(model)
    context = model.config.text.context_length
    signature = Signature(
        ("input_ids",), ("text_embedding",), {"input_ids": {0: _BATCH, 1: Axis("length", 2, context)}}
    )
    export(tower, (_texts(model, 3, context - 1),), signature, path)
    shapes = ((1, 4), (2, context // 2), (5, context))
    return verify(tower, [(_texts(model, *shape),) for shape in shapes], signature, path, TOLERANCE)


def _texts(model: UniCL, batch: int, length: int) -> Tensor:
    """Random texts ``(batch, length) int64`` of different lengths, each ended by the largest id and padded with 0."""
    return torch.stack(list(_rows(model.config.text.vocab_size, batch, length)))


def _rows(vocabulary: int, batch: int, length: int) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(batch * length)
    for row in range(batch):
        ids = torch.randint(1, vocabulary - 1, (length,), generator=generator)
        end = max(1, length - 1 - row)
        ids[end] = vocabulary - 1
        ids[end + 1 :] = 0
        yield ids
