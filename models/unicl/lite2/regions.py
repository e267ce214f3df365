"""The region tower of ``unicl-lite2``: a photo of any size and boxes in it to one place a box in the space of labels.

The image tower sees one object that fills its picture. Pooling a box out of the map of a whole photo is not the same:
the object is smaller, and what surrounds it leaks in. RegionCLIP (arXiv 2112.09106) therefore trains regions to be
named as their crops are by the image-level model; ``align.py`` does that to the one matrix here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.efficientnet_lite.export import read as read_classifier
from models.efficientnet_lite.feature_map import STRIDE, FeatureMap
from models.errors import ModelError
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files
from models.repository.hashing import sha256
from models.unicl.lite2.export import ATTRIBUTION, TOLERANCE

WEIGHTS = Path(__file__).parent / "weights" / "unicl-lite2-regions.safetensors"
"""``see (F, D)`` and ``bias (D,)``, half precision."""
NARROWEST = 1e-2
"""Cells. A box that is narrower is as wide as this."""
_BATCH = Axis("batch", 1, 256)
SIGNATURE = Signature(
    ("image", "boxes"),
    ("region_features",),
    {
        "image": {0: _BATCH, 2: Axis("height", STRIDE, 4096), 3: Axis("width", STRIDE, 4096)},
        "boxes": {0: _BATCH, 1: Axis("regions", 1, 4096)},
    },
)


class RegionTower(nn.Module):
    """``(B, 3, H, W)``, sides multiples of 32, and boxes ``(B, N, 4)`` in its pixels to ``(B, N, D)``, not unit."""

    see: Tensor
    bias: Tensor

    def __init__(self, network: FeatureMap, see: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("see", see)
        self.register_buffer("bias", bias)

    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        # The mean over a box and the matrix are both linear: the narrower map is pooled.
        return pooled(self.network(image) @ self.see, boxes) + self.bias


def pooled(features: Tensor, boxes: Tensor) -> Tensor:
    """The mean of the map ``(B, h, w, D)``, interpolated between its cells, over each of ``boxes (B, N, 4)``.

    Exact, where ROIAlign samples points: the integral of bilinear interpolation over a box is a weighted mean of cells,
    and its weights are products of those across and down.
    """
    height, width = features.shape[1:3]
    across = _shares(boxes[..., 0], boxes[..., 2], width)  # (B, N, w)
    down = _shares(boxes[..., 1], boxes[..., 3], height)  # (B, N, h)
    rows = torch.einsum("bnw,bhwd->bnhd", across, features)
    return torch.einsum("bnh,bnhd->bnd", down, rows)


def _shares(low: Tensor, high: Tensor, count: int) -> Tensor:
    """How much each of ``count`` cells, centred on pixels ``32 i``, counts between ``low`` and ``high (B, N)``."""
    cells = torch.arange(count, dtype=low.dtype, device=low.device)
    last = count - 1
    begin, end = (((edge - 0.5) / STRIDE).clamp(0, last) for edge in (low, high))
    middle, half = (begin + end) / 2, ((end - begin) / 2).clamp(min=NARROWEST / 2)

    def area(to: Tensor) -> Tensor:
        """Under each cell's hat, up to a place."""
        reach = (to[..., None] - cells).clamp(-1, 1)
        rest = 1 - reach.abs()
        return torch.where(reach < 0, rest**2 / 2, 1 - rest**2 / 2)

    share = area(middle + half) - area(middle - half)
    return share / share.sum(-1, keepdim=True)


def build_regions(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the matrix, ``network`` as for ``efficientnet-lite``."""
    if not WEIGHTS.is_file() or sha256(WEIGHTS) != job.options["weights"]:
        raise ModelError(f"{WEIGHTS} is not the file that the catalog means", "reinstall the package")
    state = {name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}
    job.progress("export", 0, 2)
    tower = RegionTower(FeatureMap(read_classifier(job.options, job.sources)), state["see"], state["bias"]).eval()
    target = job.scratch / "model.onnx"
    export(tower, _example(2, 96, 128, 3), SIGNATURE, target)
    job.progress("verify", 1, 2)
    sizes = ((1, 64, 64, 1), (3, 160, 96, 7), (2, 320, 256, 5))
    verify(tower, [_example(*size) for size in sizes], SIGNATURE, target, tolerance=TOLERANCE)
    job.progress("verify", 2, 2)
    return {"model.onnx": target, ATTRIBUTION.name: ATTRIBUTION}


def _example(batch: int, height: int, width: int, count: int) -> list[Tensor]:
    """Random pictures, and boxes that reach beyond them here and there."""
    generator = torch.Generator().manual_seed(height)
    corners = torch.rand(batch, count, 2, 2, generator=generator).sort(dim=2).values * 1.2 - 0.1
    boxes = corners.flatten(2) * torch.tensor([width, height, width, height])
    return [torch.randn(batch, 3, height, width, generator=generator), boxes]
