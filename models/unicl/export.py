"""UniCL's towers to ONNX, each a file of its own: any batch, any length of text, any picture size where it allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.focalnet import FocalNet, modulation_map
from models.export.onnx import Axis, Signature, export, verify
from models.export.precision import Chosen, Precision, choose
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
    tower, signature = ImageTower(model), image_signature(model)
    export(tower, (pictures(3, size, size),), signature, path)
    return verify(tower, _image_examples(model, size), signature, path, tolerance=TOLERANCE)


def serve_image(model: UniCL, path: Path, size: int, precision: Precision | None) -> Chosen:
    """:func:`export_image`, then the file in ``precision``: see :func:`models.export.precision.choose`."""
    error = export_image(model, path, size)["image_embedding"]
    return choose(ImageTower(model), _image_examples(model, size), image_signature(model), path, error, precision)


def image_signature(model: UniCL) -> Signature:
    """Names and free axes of the exported image tower; a FocalNet has its modulation map beside the features."""
    return FOCAL_IMAGE if isinstance(model.image_encoder, FocalNet) else IMAGE


def _image_examples(model: UniCL, size: int) -> list[tuple[Tensor]]:
    shapes = [(batch, size, size) for batch in (1, 2, 5)]
    if isinstance(model.image_encoder, FocalNet):
        shapes.append((2, size + 32, size))
    return [(pictures(*shape),) for shape in shapes]


def export_text(model: UniCL, path: Path) -> dict[str, float]:
    """Write the text tower and return its output's largest relative error.

    Batch and length are free: a batch padded to its longest text gives the features of the full context. Checked at
    batch 1, 2 and 5 with three lengths, none of them traced. Raises :class:`models.export.onnx.ExportError`.
    """
    tower, signature = TextTower(model), text_signature(model)
    export(tower, (_texts(model, 3, model.config.text.context_length - 1),), signature, path)
    return verify(tower, _text_examples(model), signature, path, tolerance=TOLERANCE)


def serve_text(model: UniCL, path: Path, precision: Precision | None) -> Chosen:
    """:func:`export_text`, then the file in ``precision``: see :func:`models.export.precision.choose`.

    Absent, it is float32 by ONNX Runtime: OpenVINO prepares itself for every new length, and texts have many.
    """
    error = export_text(model, path)["text_embedding"]
    return choose(TextTower(model), _text_examples(model), text_signature(model), path, error, precision or "fp32")


def text_signature(model: UniCL) -> Signature:
    """Names and free axes of the exported text tower."""
    length = Axis("length", 2, model.config.text.context_length)
    return Signature(("input_ids",), ("text_embedding",), {"input_ids": {0: _BATCH, 1: length}})


def _text_examples(model: UniCL) -> list[tuple[Tensor]]:
    context = model.config.text.context_length
    return [(_texts(model, *shape),) for shape in ((1, 4), (2, context // 2), (5, context))]


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
