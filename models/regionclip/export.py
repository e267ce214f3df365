"""RegionCLIP to four ONNX graphs: maps of a picture, anchors of a picture, regions against classes, texts.

The map is apart from the regions, so that hundreds of boxes are done in parts that fit into memory, and example boxes
and asked ones share it. Class rows are an input: the vocabulary is what a request says, and no graph depends on it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbones.modified_resnet import STRIDE
from models.backbones.roi_align import with_image_numbers
from models.export.onnx import Axis, Signature, export, verify
from models.regionclip.language import LanguageEncoder
from models.regionclip.localization import PIXEL_MEAN, anchor_boxes, decode
from models.regionclip.network import RegionCLIP
from models.regionclip.recognition import class_logits, crop

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue from 0 to 1, as CLIP was trained."""

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""What box corrections are divided by."""

TOLERANCE = 1e-4
MAX_BATCH, MAX_SIDE, MAX_BOXES, MAX_CLASSES = 64, 4096, 1000, 20_000

_BATCH = Axis("batch", 1, MAX_BATCH)
_PICTURE = {0: _BATCH, 2: Axis("height", 32, MAX_SIDE), 3: Axis("width", 32, MAX_SIDE)}
MAPS = Signature(("image",), ("features",), {"image": _PICTURE})
ANCHORS = Signature(("image",), ("anchor_boxes", "objectness", "level"), {"image": _PICTURE})
REGIONS = Signature(
    ("features", "boxes", "classes"),
    ("logits", "region_features", "detected_boxes"),
    {
        "features": {
            0: _BATCH,
            2: Axis("rows", 2, MAX_SIDE // STRIDE),
            3: Axis("columns", 2, MAX_SIDE // STRIDE),
        },
        "boxes": {0: _BATCH, 1: Axis("boxes", 1, MAX_BOXES)},
        "classes": {0: _BATCH, 1: Axis("classes", 1, MAX_CLASSES)},
    },
)


class Maps(nn.Module):
    """Pictures to what regions are cut out of."""

    def __init__(self, network: RegionCLIP) -> None:
        super().__init__()
        self.backbone = network.backbone

    def forward(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)``, normalised as CLIP's, to ``(B, C, H / 16, W / 16)``."""
        return self.backbone.res4(image)


class Anchors(nn.Module):
    """Pictures, normalised as those of :class:`Maps`, to a box at every anchor."""

    def __init__(self, network: RegionCLIP) -> None:
        super().__init__()
        assert network.offline_backbone is not None and network.offline_proposal_generator is not None
        self.backbone, self.generator = network.offline_backbone, network.offline_proposal_generator

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, 3, H, W)`` to boxes ``(B, A, 4)``, objectness logits ``(B, A)`` and levels ``(B, A) int64``."""
        scale = torch.tensor(STD, dtype=image.dtype)[:, None, None] * 255
        shift = torch.tensor(MEAN, dtype=image.dtype)[:, None, None] * 255
        blue_first = (image * scale + shift).flip(1) - torch.tensor(PIXEL_MEAN, dtype=image.dtype)[:, None, None]
        return anchor_boxes(self.backbone, self.generator, blue_first)


class Regions(nn.Module):
    """Boxes of a picture's map against class rows."""

    def __init__(self, network: RegionCLIP) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.correct = network.roi_heads.box_predictor.bbox_pred if network.roi_heads else None

    def forward(self, features: Tensor, boxes: Tensor, classes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``(B, C, h, w)``, boxes ``(B, N, 4)`` in pixels of the tensor, class rows ``(B, K, D)``.

        Logits ``(B, N, K + 1)``, background last; vectors of the regions ``(B, N, D)``, not brought to length one; and
        the boxes, corrected where the network was trained to, ``(B, N, 4)``, not clipped.
        """
        regions = self.backbone.pooled(crop(self.backbone, features, with_image_numbers(boxes)))
        regions = regions.reshape(boxes.shape[0], boxes.shape[1], self.backbone.config.dim)
        found = boxes + 0.0 if self.correct is None else decode(boxes, self.correct(regions), BOX_WEIGHTS)
        return class_logits(regions, classes), regions, found


def export_maps(network: RegionCLIP, path: Path) -> dict[str, float]:
    """Write the map of pictures; checked at sizes that were not traced. Raises :class:`ExportError`."""
    export(Maps(network), (_pictures(2, 96, 128),), MAPS, path)
    return verify(Maps(network), _picture_examples(), MAPS, path, tolerance=TOLERANCE)


def export_anchors(network: RegionCLIP, path: Path) -> dict[str, float]:
    """Write the anchors of pictures; checked at sizes that were not traced. Raises :class:`ExportError`."""
    export(Anchors(network), (_pictures(2, 96, 128),), ANCHORS, path)
    return verify(Anchors(network), _picture_examples(), ANCHORS, path, tolerance=TOLERANCE)


def export_regions(network: RegionCLIP, path: Path) -> dict[str, float]:
    """Write regions against classes; checked at numbers of boxes and classes, and sizes, that were not traced.

    RoIAlign is ONNX's own operator there. Raises :class:`ExportError`.
    """
    module = Regions(network)
    export(module, _region_example(network, 2, 7, 9, 3, 4), REGIONS, path)
    others = ((1, 5, 8, 1, 1), (3, 9, 6, 5, 2), (2, 12, 17, 2, 11))
    examples = [_region_example(network, *sizes) for sizes in others]
    return verify(module, examples, REGIONS, path, tolerance=TOLERANCE)


def text_signature(encoder: LanguageEncoder) -> Signature:
    """Names and free axes of the exported language encoder."""
    length = Axis("length", 2, encoder.config.context_length)
    return Signature(("input_ids",), ("text_embedding",), {"input_ids": {0: Axis("texts", 1, 256), 1: length}})


def export_text(encoder: LanguageEncoder, path: Path) -> dict[str, float]:
    """Write the language encoder; texts may be padded to the longest alone. Raises :class:`ExportError`."""
    signature, context = text_signature(encoder), encoder.config.context_length
    export(encoder, (_texts(encoder, 3, context - 1),), signature, path)
    examples = [(_texts(encoder, *sizes),) for sizes in ((1, 4), (2, context // 2), (5, context))]
    return verify(encoder, examples, signature, path, tolerance=TOLERANCE)


def _pictures(batch: int, height: int, width: int) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch * height + width))


def _picture_examples() -> list[tuple[Tensor]]:
    return [(_pictures(*sizes),) for sizes in ((1, 64, 160), (3, 81, 70), (2, 128, 96))]


def _region_example(
    network: RegionCLIP, batch: int, rows: int, columns: int, boxes: int, classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A map as of a picture, boxes in and a little beyond it, and class rows."""
    generator = torch.Generator().manual_seed(rows * columns + boxes)
    width = network.config.image.width * 16
    features = torch.rand(batch, width, rows, columns, generator=generator)
    corners = torch.rand(batch, boxes, 2, 2, generator=generator) * torch.tensor([columns, rows]) * STRIDE * 1.1
    edges = corners.sort(dim=2).values.flatten(2)
    return features, edges, torch.randn(batch, classes, network.config.image.dim, generator=generator)


def _texts(encoder: LanguageEncoder, batch: int, length: int) -> Tensor:
    """Random texts ``(batch, length) int64``, each ended by the largest id and padded with 0."""
    generator = torch.Generator().manual_seed(batch * length)
    ids = torch.randint(1, encoder.config.vocab_size - 1, (batch, length), generator=generator)
    for row in range(batch):
        end = max(1, length - 1 - row)
        ids[row, end], ids[row, end + 1 :] = encoder.config.vocab_size - 1, 0
    return ids
