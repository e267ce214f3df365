"""Builds ``photo-zero-shot`` from the pulled image classifier and text encoder. Needs no training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from models.catalog.card import PartName
from models.catalog.catalog import FOLDER as CATALOG
from models.catalog.labels import label_set
from models.errors import ModelError
from models.family import Build, Files
from models.progress import Progress
from models.repository.reading import latest, read_card
from models.zero_shot.fit import Array, Classifier, fit
from models.zero_shot.nouns import FOLDER, LICENCE, Hierarchy, Nouns
from models.zero_shot.texts import embed

SHIFTS = FOLDER / "shifts.safetensors"
APACHE = CATALOG / "licences" / "Apache-2.0.txt"


def build(job: Build) -> Files:
    """The data file that the card's pipeline names, and WordNet's licence beside it."""
    pipeline = job.card.pipeline
    assert pipeline is not None and pipeline.data is not None
    image, text = (str(pipeline.parts[role]) for role in ("image", "text"))
    classifier = read_classifier(job.repository, image, text, job.progress)
    nouns = Nouns.read()
    job.progress("fit", 0, 1)
    sides, shifts = read_shifts()
    parameters = {name: value for name, value in pipeline.parameters.items() if isinstance(value, float)}
    data = fit(classifier, nouns, Hierarchy(nouns), sides, shifts, parameters)
    job.progress("fit", 1, 1)
    # Fitted from the weights of both models and from WordNet: each licence goes with it.
    return {pipeline.data: save(data), LICENCE.name: LICENCE, f"LICENSE.{APACHE.name}": APACHE}


def read_classifier(repository: Path, image_model: str, text_model: str, progress: Progress) -> Classifier:
    """The last layer of ``image_model`` and its class names, embedded by ``text_model``; both must be pulled.

    Each is a name, or ``name@version``.
    """
    folder, encoder = _folder(repository, image_model), _folder(repository, text_model)
    card = read_card(folder)
    if card.label_set is None or card.logits is None:
        raise ModelError(f"{card.name} is not a classifier", "build on a model with logits and a label set")
    names = label_set(card.label_set)
    weight, bias = last_layer(folder / "model.onnx", card.logits)
    texts = embed(encoder, names, progress)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return Classifier(weight, bias, names, texts, np.arange(len(names)))


def read_shifts() -> tuple[Array, Array]:
    """Sides ``(K,)`` in pixels and the shift ``(K, F)`` of features at each."""
    data = load_file(SHIFTS)
    return data["sides"].astype(np.float32), data["shifts"].astype(np.float32)


def last_layer(file: Path, output: str) -> tuple[Array, Array]:
    """``weight (N, F)`` and ``bias (N,)`` of the fully connected layer that gives ``output`` of an ONNX file."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(file)).graph
    layer = next((node for node in graph.node if output in node.output), None)
    if layer is None or layer.op_type != "Gemm" or len(layer.input) != 3:
        raise ModelError(f"{output!r} of {file} is not put out by a fully connected layer", "pull the model again")
    held = {tensor.name: tensor for tensor in graph.initializer}
    weight, bias = (numpy_helper.to_array(held[name]).astype(np.float32) for name in layer.input[1:])
    transposed = any(attribute.name == "transB" and attribute.i for attribute in layer.attribute)
    return (weight if transposed else np.ascontiguousarray(weight.T)), bias


def _folder(repository: Path, model: str) -> Path:
    part = PartName.parse(model)
    folder = latest(repository, part.name) if part.version is None else repository / part.name / part.version
    if folder is None or not folder.is_dir():
        raise ModelError(f"{part} is not in {repository}", f"`sightline models pull {part.name}`")
    return folder
