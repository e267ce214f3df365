"""The two towers of the pocket UniCL as ONNX, from the weights that are in this repository."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.focalnet import modulation_map
from models.encoders import encoder_files, encoder_of
from models.errors import ModelError
from models.export.onnx import Axis, Signature, agreement, export, verify
from models.export.quantise import dynamic_int8
from models.family import Build, Files
from models.focalnet.export import MAX_BATCH, pictures
from models.minilm.export import HEADED_SIGNATURE, HeadedMiniLM, read_minilm, tokens
from models.repository.hashing import sha256
from models.text.minilm import MiniLMConfig
from models.unicl.pocket.network import SIZE, PocketUniCL
from models.unicl.pocket.network import load as load_pocket

WEIGHTS = Path(__file__).parent / "weights" / "unicl-pocket.safetensors"
"""Half precision; they are computed with in single precision."""
LICENCE = Path(__file__).parent / "weights" / "ATTRIBUTION.md"

_SIDES = {2: Axis("height", 32, 512), 3: Axis("width", 32, 512)}
IMAGE = Signature(("image",), ("image_embedding", "modulation"), {"image": {0: Axis("batch", 1, MAX_BATCH), **_SIDES}})
TOLERANCE = 1e-3
LEAST_COSINE = 0.95
"""What the int8 text tower must reach on every row of random tokens, which are harder for it than sentences."""


class ImageTower(nn.Module):
    """Pictures ``(B, 3, H, W)`` to unit features ``(B, D)`` and the modulation map ``(B, h, w)``."""

    def __init__(self, model: PocketUniCL) -> None:
        super().__init__()
        self.image = model.image

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.image.features(image)
        embedding = F.normalize(self.image.classify(features.tokens.mean(dim=(1, 2))), dim=-1)
        return embedding, modulation_map(features.modulator)


def read_pocket(weights: Path, expected: str) -> PocketUniCL:
    """The network of the shipped file; raises :class:`ModelError` for other bytes than the catalog's."""
    if not weights.is_file() or sha256(weights) != expected:
        raise ModelError(f"{weights} is not the file that the catalog means", "reinstall the package")
    return load_pocket(weights)


def build_image(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the weights. The tower goes along as a network, for training."""
    model = read_pocket(WEIGHTS, str(job.options["weights"]))
    job.progress("export", 0, 2)
    target = job.scratch / "model.onnx"
    tower = ImageTower(model).eval()
    export(tower, (pictures(3, SIZE, SIZE),), IMAGE, target)
    job.progress("verify", 1, 2)
    shapes = [(1, SIZE, SIZE), (2, SIZE, SIZE), (5, SIZE, SIZE), (2, SIZE + 32, SIZE)]
    verify(tower, [(pictures(*shape),) for shape in shapes], IMAGE, target, tolerance=TOLERANCE)
    job.progress("verify", 2, 2)
    encoder = encoder_of(model.image, with_head=True, unit=True)
    return {"model.onnx": target, **encoder_files(encoder, job.scratch), LICENCE.name: LICENCE}


def build_text(job: Build) -> Files:
    """``options``: ``weights`` as above, ``precision`` ``fp32`` or ``int8``; the source is MiniLM and its tokenizer."""
    model = read_pocket(WEIGHTS, str(job.options["weights"]))
    (folder,) = job.sources.values()
    config = MiniLMConfig()
    tower = HeadedMiniLM(read_minilm(folder), model.text).eval()
    job.progress("export", 0, 2)
    target = job.scratch / "model.onnx"
    export(tower, tokens(config, 3, 7), HEADED_SIGNATURE, target)
    job.progress("verify", 1, 2)
    examples = [tokens(config, batch, length) for batch, length in ((1, 1), (2, 9), (5, 64))]
    verify(tower, examples, HEADED_SIGNATURE, target, tolerance=TOLERANCE)
    if job.options.get("precision", "fp32") == "int8":
        exact, target = target, job.scratch / "int8.onnx"
        dynamic_int8(exact, target, ("MatMul", "Gather"))
        agreement(tower, examples, HEADED_SIGNATURE, target, least=LEAST_COSINE)

    job.progress("verify", 2, 2)
    return {"model.onnx": target, "tokenizer.json": folder / "tokenizer.json", LICENCE.name: LICENCE}


def build_pair(job: Build) -> Files:
    """The pipeline has no tensors of its own, only whose drawings its towers learned from."""
    return {LICENCE.name: LICENCE}


def pack(trained: Path, into: Path) -> None:
    """Write the averaged weights of a run in half precision, for the repository."""
    from safetensors.torch import load_file, save_file

    into.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.to(torch.float16) for name, tensor in load_file(trained).items()}, into)
