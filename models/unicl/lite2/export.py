"""The two towers of ``unicl-lite2`` as ONNX and the arrays that join them, from the weights in this repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save
from torch import Tensor, nn

from models.backbones.efficientnet_lite import EfficientNetLite
from models.catalog.catalog import FOLDER as CATALOG
from models.catalog.labels import label_set
from models.efficientnet_lite.export import read as read_classifier
from models.errors import ModelError
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files
from models.minilm.export import HEADED_SIGNATURE, HeadedMiniLM, read_minilm, tokens
from models.repository.hashing import sha256
from models.text.minilm import MiniLMConfig
from models.unicl.lite2.network import PhotoUniCL
from models.unicl.lite2.network import load as load_photos
from models.unicl.lite2.space import unit
from models.zero_shot.build import read_shifts
from models.zero_shot.fit import Array, Classifier, meaning_arrays
from models.zero_shot.nouns import LICENCE, Hierarchy, Nouns

WEIGHTS = Path(__file__).parent / "weights" / "unicl-lite2.safetensors"
"""Half precision; they are computed with in single precision."""
ATTRIBUTION = Path(__file__).parent / "weights" / "ATTRIBUTION.md"
APACHE = CATALOG / "licences" / "Apache-2.0.txt"

IMAGE = Signature(("image",), ("image_embedding",), {"image": {0: Axis("batch", 1, 4096)}})
TOLERANCE = 1e-3


class ImageTower(nn.Module):
    """Pictures ``(B, 3, S, S)`` to the space ``(B, D)``. Not of unit length: what blur adds can still be taken off."""

    def __init__(self, network: EfficientNetLite, see: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("see", see)

    see: Tensor

    def forward(self, image: Tensor) -> Tensor:
        return self.network.features(image) @ self.see


def read_weights(weights: Path, expected: str) -> PhotoUniCL:
    """The network of the shipped file; raises :class:`ModelError` for other bytes than the catalog's."""
    if not weights.is_file() or sha256(weights) != expected:
        raise ModelError(f"{weights} is not the file that the catalog means", "reinstall the package")
    return load_photos(weights)


def build_image(job: Build) -> Files:
    """``options``: ``weights`` is the sha256 of the weights, ``network`` as for ``efficientnet-lite``."""
    model = read_weights(WEIGHTS, str(job.options["weights"]))
    network = read_classifier(job.options, job.sources)
    tower = ImageTower(network, model.see.detach()).eval()
    generator = torch.Generator().manual_seed(0)
    side = network.config.image_size

    def pictures(batch: int) -> list[Tensor]:
        return [torch.randn(batch, 3, side, side, generator=generator)]

    job.progress("export", 0, 2)
    target = job.scratch / "model.onnx"
    export(tower, pictures(3), IMAGE, target)
    job.progress("verify", 1, 2)
    verify(tower, [pictures(batch) for batch in (1, 2, 5)], IMAGE, target, tolerance=TOLERANCE)
    job.progress("verify", 2, 2)
    return {"model.onnx": target, ATTRIBUTION.name: ATTRIBUTION}


def build_text(job: Build) -> Files:
    """``options``: ``weights`` as above; the source is MiniLM and its tokenizer."""
    model = read_weights(WEIGHTS, str(job.options["weights"]))
    (folder,) = job.sources.values()
    config = MiniLMConfig()
    tower = HeadedMiniLM(read_minilm(folder), model.text).eval()
    job.progress("export", 0, 2)
    target = job.scratch / "model.onnx"
    export(tower, tokens(config, 3, 7), HEADED_SIGNATURE, target)
    job.progress("verify", 1, 2)
    verify(
        tower,
        [tokens(config, *shape) for shape in ((1, 1), (2, 9), (5, 64))],
        HEADED_SIGNATURE,
        target,
        tolerance=TOLERANCE,
    )
    job.progress("verify", 2, 2)

    return {
        "model.onnx": target,
        "tokenizer.json": folder / "tokenizer.json",
        LICENCE.name: LICENCE,
        f"LICENSE.{APACHE.name}": APACHE,
        ATTRIBUTION.name: ATTRIBUTION,
    }


def build_pair(job: Build) -> Files:
    """``options`` as for the image tower, whose source this reads too: the classes are points of the space."""
    pipeline = job.card.pipeline
    assert pipeline is not None and pipeline.data is not None
    model = read_weights(WEIGHTS, str(job.options["weights"]))
    layer = read_classifier(job.options, job.sources)._fc
    names, nouns = label_set("imagenet-1k"), Nouns.read()
    weight, bias = (tensor.detach().numpy() for tensor in (layer.weight, layer.bias))
    classifier = Classifier(weight, bias, names, np.zeros((len(names), 0), np.float32), np.arange(len(names)))
    data = arrays(model, classifier, nouns, Hierarchy(nouns), *read_shifts())

    return {
        pipeline.data: save(data),
        LICENCE.name: LICENCE,
        f"LICENSE.{APACHE.name}": APACHE,
        ATTRIBUTION.name: ATTRIBUTION,
    }


def arrays(
    model: PhotoUniCL, classifier: Classifier, nouns: Nouns, hierarchy: Hierarchy, sides: Array, shifts: Array
) -> dict[str, NDArray[Any]]:
    """What ``services.encoding.shared_space.SharedSpace`` reads; ``shifts (K, F)`` as ``photo-zero-shot`` has."""
    see, head = model.see.detach().numpy(), model.meaning
    rows = classifier.weight - classifier.weight.mean(axis=0)
    scales = torch.stack([head.width, model.share]).exp()

    return {
        "meaning_metric": head.metric.detach().numpy(),
        "meaning_anchors": head.anchors.numpy().astype(np.float16),
        "meaning_coefficients": head.coefficients.numpy().astype(np.float32),
        "meaning_scales": scales.detach().numpy(),
        "classes": unit(rows @ see).astype(np.float16),
        **meaning_arrays(classifier, nouns, hierarchy, sides, np.asarray(shifts @ see, np.float32)),
    }
