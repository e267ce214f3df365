"""ELEVATER's submission: ``all_predictions.zip`` with one entry a data set, seeds joined.

Reference: ``commands/prepare_submit.py`` of Elevater_Toolkit_IC. Probabilities are rounded to six decimals; seeds and
predictions are concatenated, the number of trained parameters is averaged over seeds.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.evaluation.bench import Predictions
from services.evaluation.named import Names, newest
from services.evaluation.reports.results import Record

ENTRY = "all_predictions.json"
PROBABILITIES = "probabilities"
"""What the predictions of a unit are called: ``(N, C) float32``."""
DECIMALS = 6
FULL_SHOT = -1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of the model that was adapted: its image encoder, and the encoder with what reads texts."""

    visual: int
    backbone: int
    features: int


def pack(models_dir: Path, names: Names, runs: Sequence[tuple[Record, Predictions]]) -> bytes:
    """Make the zip of one model, protocol and number of shots; ``runs`` are its records with their probabilities."""
    probabilities = [(record, predictions[PROBABILITIES]) for record, predictions in runs]
    classes = fmean(probs.shape[1] for _, probs in probabilities)
    sizes = _sizes(models_dir, names)
    entries = [_entry(names.name, sizes, classes, own) for own in _by_dataset(probabilities)]

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr(zipfile.ZipInfo(ENTRY, (1980, 1, 1, 0, 0, 0)), orjson.dumps({"data": entries}))
    return out.getvalue()


def _by_dataset(
    runs: Sequence[tuple[Record, NDArray[np.float32]]],
) -> Iterator[list[tuple[Record, NDArray[np.float32]]]]:
    for dataset in dict.fromkeys(record.dataset for record, _ in runs):
        yield sorted((own for own in runs if own[0].dataset == dataset), key=lambda own: own[0].seed)


def _entry(model: str, sizes: Sizes, classes: float, own: list[tuple[Record, NDArray[np.float32]]]) -> dict[str, Any]:
    first = own[0][0]
    return {
        "model_name": f"CLIP-{model}" if first.method is None else model,
        "dataset_name": first.dataset,
        "num_trainable_params": fmean(record.trainable for record, _ in own),
        "num_params": sizes.backbone + round(sizes.features * classes),
        "num_visual_params": sizes.visual,
        "num_backbone_params": sizes.backbone,
        "n_shot": FULL_SHOT if first.shots is None else first.shots,
        "rnd_seeds": [record.seed for record, _ in own],
        "predictions": [np.round(probs.astype(np.float64), DECIMALS).tolist() for _, probs in own],
    }


def _sizes(models_dir: Path, names: Names) -> Sizes:
    encoder, folder = newest(models_dir, names.encoder)
    visual, texts = parameters_of(folder / "model.onnx"), 0
    if names.language is not None:
        pipeline = newest(models_dir, names.language)[0].pipeline
        if pipeline is not None and pipeline.part("text"):
            texts = parameters_of(newest(models_dir, pipeline.part("text"))[1] / "model.onnx")
    features = next(spec.shape[-1] for spec in encoder.outputs if spec.name == encoder.embedding)
    return Sizes(visual, visual + texts, features)


def parameters_of(onnx_file: Path) -> int:
    """Numbers in the floating-point and integer weights of a graph."""
    import onnx

    graph = onnx.load(onnx_file, load_external_data=False).graph
    return sum(int(np.prod(weight.dims, dtype=np.int64)) for weight in graph.initializer if len(weight.dims) > 0)
