"""The published EfficientNet-Lite checkpoints as ONNX: logits and pooled features in one graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from models.backbones.efficientnet_lite import CONFIGS, EfficientNetLite
from models.encoders import ImageEncoder, encoder_of
from models.export.onnx import Axis, Signature, export, verify
from models.family import Build, Files, Options
from models.intake.checkpoint import fitting, load, read_state

SIGNATURE = Signature(("image",), ("logits", "features"), {"image": {0: Axis("batch", 1, 4096)}})


def read(options: Options, sources: Mapping[str, Path]) -> EfficientNetLite:
    """The published network of an entry's options and sources, in eval mode. Raises ``CheckpointError``."""
    network = EfficientNetLite(CONFIGS[str(options["network"])])
    (folder,) = sources.values()
    variants = {name: lambda size=size: EfficientNetLite(size) for name, size in CONFIGS.items()}
    load(network, read_state(folder / "weights.pth"), lambda shapes: fitting(shapes, variants))
    return network.eval()


def encoder(options: Options, sources: Mapping[str, Path]) -> ImageEncoder:
    """Return what the exported graph computes as ``features``, to be trained further."""
    return encoder_of(read(options, sources))


def build(job: Build) -> Files:
    """``options``: ``network`` is a name in :data:`CONFIGS`; the source holds ``weights.pth``."""
    job.progress("read weights", 0, 3)
    network = read(job.options, job.sources)
    config = network.config
    job.progress("export", 1, 3)
    generator = torch.Generator().manual_seed(0)
    target = job.scratch / "model.onnx"

    def pictures(batch: int) -> list[torch.Tensor]:
        return [torch.randn(batch, 3, config.image_size, config.image_size, generator=generator)]

    export(network, pictures(3), SIGNATURE, target)
    job.progress("verify", 2, 3)
    verify(network, [pictures(batch) for batch in (1, 2, 5)], SIGNATURE, target)
    job.progress("verify", 3, 3)
    return {"model.onnx": target}
