"""The small GLIP as two ONNX graphs: pictures to levels, and levels with rows of a text to what every place says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.errors import ModelError
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files
from models.glip import dyconv
from models.glip.deform import deform_conv
from models.glip.pocket.network import CHANNELS, STRIDES, PocketConfig, PocketGlip
from models.glip.pocket.scenes import SIDE
from models.repository.hashing import sha256
from models.unicl.pocket.network import DIM

WEIGHTS = Path(__file__).parent / "weights" / "glip-pocket.safetensors"
"""Half precision; they are computed with in single precision."""
LICENCE = Path(__file__).parent / "weights" / "ATTRIBUTION.md"

MAX_BATCH = 16
TOLERANCE = 1e-3
LEVELS = ("p3", "p4", "p5")
_BATCH = {0: Axis("batch", 1, MAX_BATCH)}
IMAGE = Signature(("image",), LEVELS, {"image": _BATCH})
HEAD = Signature(
    (*LEVELS, "rows", "mask"),
    ("token_logits", "deltas", "centerness", "objectness"),
    {
        **dict.fromkeys(LEVELS, _BATCH),
        "rows": {**_BATCH, 1: Axis("tokens", 1, 32)},
        "mask": {**_BATCH, 1: Axis("tokens", 1, 32)},
    },
)


class ImageGraph(nn.Module):
    """``(B, 3, SIDE, SIDE)`` normalised to the pyramid's levels ``(B, C, h, w)``."""

    def __init__(self, model: PocketGlip) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.fpn(self.model.maps(image)))


class HeadGraph(nn.Module):
    """Levels, ``rows (B, L, 256)`` and ``mask (B, L) int64`` to token logits ``(B, N, L)``, deltas ``(B, N, 4)``,
    centerness ``(B, N)`` and objectness ``(B, N)``."""

    def __init__(self, model: PocketGlip) -> None:
        super().__init__()
        self.model = model

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor, rows: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        found = self.model.outputs([p3, p4, p5], rows, mask)
        return found.tokens, found.deltas, found.centerness, found.objectness


def read(weights: Path, expected: str) -> PocketGlip:
    """The network of the shipped file; raises :class:`ModelError` for other bytes than the catalog's."""
    if not weights.is_file() or sha256(weights) != expected:
        raise ModelError(f"{weights} is not the file that the catalog means", "reinstall the package")
    return load(weights)


def load(weights: Path) -> PocketGlip:
    """The network of a file that training wrote, for measuring and export."""
    tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
    model = PocketGlip(PocketConfig(fused="order" in tensors))
    model.load_state_dict(tensors)
    return model.eval()


def build_image(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the weights."""
    graph = ImageGraph(read(WEIGHTS, str(job.options["weights"]))).eval()
    target = job.scratch / "model.onnx"
    job.progress("export", 0, 2)
    export(graph, (_noise(2, 3, SIDE, SIDE),), IMAGE, target)
    job.progress("verify", 1, 2)
    verify(graph, [(_noise(batch, 3, SIDE, SIDE),) for batch in (1, 3)], IMAGE, target, tolerance=TOLERANCE)
    return {"model.onnx": target, LICENCE.name: LICENCE}


def build_head(job: Build) -> Files:
    """``options`` as above."""
    graph = HeadGraph(read(WEIGHTS, str(job.options["weights"]))).eval()
    target = job.scratch / "model.onnx"
    job.progress("export", 0, 2)
    with deform_operator():
        export(graph, head_inputs(2, 7), HEAD, target)
    job.progress("verify", 1, 2)
    verify(graph, [head_inputs(1, 1), head_inputs(3, 20)], HEAD, target, tolerance=TOLERANCE)
    return {"model.onnx": target, LICENCE.name: LICENCE}


def build_pipeline(job: Build) -> Files:
    """The pipeline has no tensors of its own, only whose drawings it learned from."""
    return {LICENCE.name: LICENCE}


def head_inputs(batch: int, tokens: int) -> tuple[Tensor, ...]:
    """Noise in the shapes of the head's inputs; the last token of all texts but one is padding."""
    levels = [_noise(batch, CHANNELS, SIDE // stride, SIDE // stride) for stride in STRIDES]
    mask = torch.ones(batch, tokens, dtype=torch.int64)
    mask[1:, -1] = 0
    return (*levels, torch.nn.functional.normalize(_noise(batch, tokens, DIM), dim=-1), mask)


@contextmanager
def deform_operator() -> Iterator[None]:
    """Export deformable convolutions as the standard operator: written out they are a thousand nodes, which the
    exporter takes a minute for, and folds wrongly where sizes are fixed."""
    names = vars(dyconv)
    names["deform_conv"] = _as_operator
    try:
        yield
    finally:
        names["deform_conv"] = deform_conv


def _as_operator(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, stride: int = 1) -> Tensor:
    found: Tensor = torch.onnx.ops.symbolic(
        "DeformConv",
        (x, weight, offset, bias, mask),
        attrs={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]},
        dtype=x.dtype,
        shape=(x.shape[0], weight.shape[0], *offset.shape[2:]),
    )
    return found


def pack(trained: Path, into: Path) -> None:
    """Write the averaged weights of a run in half precision, for the repository."""
    into.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(trained).items()}, into)


def _noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(shape[0] * shape[-1]))
