"""The small RegionCLIP as two ONNX graphs: pictures to features and proposals, and features with boxes to vectors."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.backbones.focalnet import FocalNet
from models.backbones.roi_align import with_image_numbers
from models.errors import ModelError
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files
from models.glip.pocket.export import deform_operator
from models.glip.pocket.network import PocketConfig, PocketGlip
from models.glip.pocket.scenes import SIDE
from models.regionclip.pocket.network import STRIDE, PocketRegionClip, RegionHead
from models.repository.hashing import sha256
from models.unicl.pocket.network import IMAGE

WEIGHTS = Path(__file__).parent / "weights" / "regionclip-pocket.safetensors"
"""Half precision; they are computed with in single precision."""
LICENCE = Path(__file__).parent / "weights" / "ATTRIBUTION.md"

TOLERANCE = 1e-3
_BATCH = {0: Axis("batch", 1, 16)}
PROPOSALS = Signature(("image",), ("features", "deltas", "centerness", "objectness"), {"image": _BATCH})
REGIONS = Signature(
    ("features", "boxes"), ("region_features",), {"features": _BATCH, "boxes": {**_BATCH, 1: Axis("regions", 1, 1000)}}
)


class ProposalGraph(nn.Module):
    """``(B, 3, SIDE, SIDE)`` normalised to what :meth:`PocketRegionClip.features` gives."""

    def __init__(self, model: PocketRegionClip) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.model.features(image)


class RegionGraph(nn.Module):
    """Features ``(B, 96, h, w)`` and boxes ``(B, N, 4)`` in pixels, edges outside, to unit vectors ``(B, N, 256)``."""

    def __init__(self, model: PocketRegionClip) -> None:
        super().__init__()
        self.regions = model.regions

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        found: Tensor = self.regions(features, with_image_numbers(boxes))
        return found.reshape(boxes.shape[0], boxes.shape[1], found.shape[1])


def load(weights: Path) -> PocketRegionClip:
    """The network of a file that training wrote, for measuring and export."""
    model = PocketRegionClip(PocketGlip(PocketConfig(fused=False)), RegionHead(FocalNet(IMAGE)))
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(weights).items()})
    return model.eval()


def read(expected: str) -> PocketRegionClip:
    """The shipped network; raises :class:`ModelError` for other bytes than the catalog's."""
    if not WEIGHTS.is_file() or sha256(WEIGHTS) != expected:
        raise ModelError(f"{WEIGHTS} is not the file that the catalog means", "reinstall the package")
    return load(WEIGHTS)


def build_proposals(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the weights."""
    graph = ProposalGraph(read(str(job.options["weights"]))).eval()
    target = job.scratch / "model.onnx"
    job.progress("export", 0, 2)
    with deform_operator():
        export(graph, (_noise(2, 3, SIDE, SIDE),), PROPOSALS, target)
    job.progress("verify", 1, 2)
    verify(graph, [(_noise(batch, 3, SIDE, SIDE),) for batch in (1, 3)], PROPOSALS, target, tolerance=TOLERANCE)
    return {"model.onnx": target, LICENCE.name: LICENCE}


def build_regions(job: Build) -> Files:
    """``options`` as above."""
    graph = RegionGraph(read(str(job.options["weights"]))).eval()
    target = job.scratch / "model.onnx"
    job.progress("export", 0, 2)
    export(graph, region_inputs(2, 3), REGIONS, target)
    job.progress("verify", 1, 2)
    verify(graph, [region_inputs(1, 1), region_inputs(3, 5)], REGIONS, target, tolerance=TOLERANCE)
    return {"model.onnx": target, LICENCE.name: LICENCE}


def build_pipeline(job: Build) -> Files:
    """The pipeline has no tensors of its own, only whose drawings it learned from."""
    return {LICENCE.name: LICENCE}


def region_inputs(batch: int, count: int) -> tuple[Tensor, Tensor]:
    """Noise and boxes of any size."""
    cells = SIDE // STRIDE
    corner = SIDE * torch.rand(batch, count, 4, generator=torch.Generator().manual_seed(batch + count))
    low, high = torch.minimum(corner[..., :2], corner[..., 2:]), torch.maximum(corner[..., :2], corner[..., 2:])
    boxes = torch.cat([low, high + 8], dim=-1)
    return _noise(batch, IMAGE.dims[1], cells, cells), boxes


def pack(trained: Path, into: Path) -> None:
    """Write the weights of a run in half precision, for the repository."""
    into.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(trained).items()}, into)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0] * shape[-1]))
