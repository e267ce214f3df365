"""GLIP as three ONNX graphs: text, picture, and the head that joins them; any batch, size and number of tokens.

Text and picture are computed apart so that a text that was read before is not read again. The head's outputs have all
levels one after the other, finest first, so that what reads them needs the levels' sizes and no names.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.export.onnx import Axis, Signature, trace, verify
from models.glip.network import Glip

MAX_BATCH = 16
MAX_SIDE = 2048
MAX_TOKENS = 256
STRIDE = 32
"""Height and width of a picture are multiples of it."""

TOLERANCE = 1e-3
"""Largest error of an output, relative to its largest value, that a written file may have: a sample that a rounding
moves over the edge of a pixel is another one."""

LEVELS = ("p3", "p4", "p5", "p6", "p7")

_TEXT_AXES = {0: Axis("batch", 1, MAX_BATCH), 1: Axis("length", 1, MAX_TOKENS)}
TEXT = Signature(("input_ids", "attention_mask"), ("tokens",), {"input_ids": _TEXT_AXES, "attention_mask": _TEXT_AXES})
IMAGE = Signature(
    ("image",),
    LEVELS,
    {
        "image": {
            0: Axis("batch", 1, MAX_BATCH),
            2: Axis("height", STRIDE, MAX_SIDE),
            3: Axis("width", STRIDE, MAX_SIDE),
        }
    },
)


def _level(number: int) -> dict[int, Axis]:
    most = MAX_SIDE >> (number + 2)
    return {
        0: Axis("batch", 1, MAX_BATCH),
        2: Axis(f"rows{number}", 1, most),
        3: Axis(f"columns{number}", 1, most),
    }


HEAD = Signature(
    (*LEVELS, "tokens", "attention_mask"),
    ("logits", "deltas", "centerness"),
    {
        **{name: _level(number) for number, name in enumerate(LEVELS, 1)},
        "tokens": _TEXT_AXES,
        "attention_mask": _TEXT_AXES,
    },
)


class TextPart(nn.Module):
    """``input_ids`` and ``attention_mask`` ``(B, T) int64`` to what the head reads of them, ``(B, T, D) float32``."""

    def __init__(self, network: Glip) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.network.tokens(input_ids, attention_mask)


class ImagePart(nn.Module):
    """``image (B, 3, H, W) float32`` to the five levels, ``(B, C, h, w)`` each."""

    def __init__(self, network: Glip) -> None:
        super().__init__()
        self.backbone = network.backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(image))


class HeadPart(nn.Module):
    """Levels, tokens and their mask to logits ``(B, A, T)``, deltas ``(B, A, 4)`` and centerness ``(B, A)``."""

    def __init__(self, network: Glip) -> None:
        super().__init__()
        self.head = network.head

    def forward(
        self, p3: Tensor, p4: Tensor, p5: Tensor, p6: Tensor, p7: Tensor, tokens: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        output = self.head((p3, p4, p5, p6, p7), tokens, attention_mask)
        return (
            torch.cat(output.logits, dim=1),
            torch.cat([level.flatten(2).transpose(1, 2) for level in output.deltas], dim=1),
            torch.cat([level.flatten(1) for level in output.centerness], dim=1),
        )


def export_text(network: Glip, path: Path) -> dict[str, float]:
    """Write the text part and return the largest relative error of its output.

    This and the others check at sizes that were not traced; raise :class:`models.export.onnx.ExportError` beyond
    :data:`TOLERANCE`.
    """
    part = TextPart(network)
    vocabulary = network.config.bert.vocabulary
    trace(part, texts(vocabulary, 2, 9), TEXT, path)
    examples = [texts(vocabulary, batch, length) for batch, length in ((1, 1), (1, 40), (3, 12))]
    return verify(part, examples, TEXT, path, tolerance=TOLERANCE)


def export_image(network: Glip, path: Path) -> dict[str, float]:
    """Write the picture part; see :func:`export_text`."""
    part = ImagePart(network)
    trace(part, (pictures(2, 96, 128),), IMAGE, path)
    examples = [(pictures(*shape),) for shape in ((1, 64, 64), (1, 96, 160), (3, 160, 32))]
    return verify(part, examples, IMAGE, path, tolerance=TOLERANCE)


def export_head(network: Glip, path: Path) -> dict[str, float]:
    """Write the head; see :func:`export_text`."""
    part = HeadPart(network)
    trace(part, head_inputs(network, 2, (320, 448), 9), HEAD, path)
    examples = [head_inputs(network, *shape) for shape in ((1, (128, 192), 5), (3, (64, 96), 12), (1, (160, 64), 1))]
    return verify(part, examples, HEAD, path, tolerance=TOLERANCE)


def texts(vocabulary: int, batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Random ids ``(batch, length)``, the second half of every second text padding."""
    generator = torch.Generator().manual_seed(batch * 100 + length)
    ids = torch.randint(0, vocabulary, (batch, length), generator=generator)
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[1::2, (length + 1) // 2 :] = 0
    return ids, mask


def pictures(batch: int, height: int, width: int) -> Tensor:
    """Normal noise ``(batch, 3, height, width)``, the same at every call."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch * height + width))


def head_inputs(network: Glip, batch: int, size: tuple[int, int], length: int) -> tuple[Tensor, ...]:
    """What the other two parts give of noise and random ids."""
    with torch.no_grad():
        ids, mask = texts(network.config.bert.vocabulary, batch, length)
        levels = ImagePart(network)(pictures(batch, *size))
        return (*levels, network.tokens(ids, mask), mask)
