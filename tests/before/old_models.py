"""Writes the tiny models of a data directory, with the modules of the version before: run it inside its checkout.

``python old_models.py models FOLDER`` writes what anybody may use; ``python old_models.py pair FOLDER OWNER JOB`` the
two towers and the pair that a pre-training job writes, too small here for a real job to have made them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from safetensors.numpy import save

from models.catalog.card import Pipeline, Provenance, TextPreprocess  # type: ignore[attr-defined]
from tests.support import tiny_encoders, tiny_models, tiny_nouns

TEMPLATES = ["a photo of a {}.", "the {}"]


def write_models(root: Path) -> None:
    """A closed set, a text encoder, a tensor model, an encoder to train, and two open-vocabulary pipelines."""
    root.mkdir(parents=True)
    tiny_models.add_classifier(root)
    tiny_models.add_text_encoder(root)
    tiny_models.add_adder(root)
    tiny_models.add_adder(root, version="2", offset=10)
    tiny_encoders.install(root, "efficientnet-lite", "tiny-encoder")
    tower(root, "tiny-tower")
    pair(root, "tiny-open", "tiny-classifier", "tiny-tower", none_logit=1.5)
    predicted(root)


def write_pair(root: Path, owner: str, job: str) -> None:
    """``my-pair`` of ``owner``, in the form and with the note of a pre-training ``job``."""
    note = f"made by job {job} for {owner}"
    source = Provenance(source="dataset:ds_01J", sha256="0" * 64, note=note)
    about = {"family": "pretrained", "provenance": (source,)}
    tiny_models.add_classifier(root, "my-pair-image", seed=3, task="embed-image", label_set=None, logits=None, **about)
    tower(root, "my-pair-text", **about)
    pair(root, "my-pair", "my-pair-image", "my-pair-text", **about)


def tower(root: Path, name: str, **about: object) -> None:
    network = tiny_models.text_encoder(dim=tiny_models.FEATURES)
    text = TextPreprocess(max_length=32)
    card = tiny_models.card(name, network, task="embed-text", text=text, embedding="embedding", **about)
    tiny_models.write(root, card, {"model.onnx": network, "tokenizer.json": tiny_models.tokenizer()})


def pair(root: Path, name: str, image: str, text: str, none_logit: float | None = None, **about: object) -> None:
    parameters: dict[str, object] = {"scale": 20.0, "templates": TEMPLATES}
    if none_logit is not None:
        parameters["none_logit"] = none_logit
    pipeline = Pipeline(kind="dual-encoder", image_model=image, text_model=text, parameters=parameters)
    tiny_models.write(root, tiny_models.card(name, task="zero-shot-classify", pipeline=pipeline, **about), {})


def predicted(root: Path) -> None:
    """``tiny-predicted``, of the kind of ``photo-zero-shot``: weight rows predicted from texts and definitions."""
    graph = onnx.load_from_string(tiny_models.classifier()).graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rows = save(tiny_nouns.fitted(held["fc"], class_texts()))
    pipeline = Pipeline(
        kind="weight-prediction",
        image_model="tiny-classifier",
        text_model="tiny-text",
        data="prediction.safetensors",
        parameters=tiny_nouns.FITTED,
    )
    card = tiny_models.card("tiny-predicted", task="zero-shot-classify", pipeline=pipeline)
    tiny_models.write(root, card, {"prediction.safetensors": rows})


def class_texts() -> np.ndarray:
    """What ``tiny-text`` makes of the names of the classes, as unit rows ``(C, D) float32``."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tiny_models.tokenizer().decode())
    session = onnxruntime.InferenceSession(tiny_models.text_encoder(), providers=["CPUExecutionProvider"])
    rows = []
    for name in tiny_nouns.CLASSES:
        ids = np.array([tokenizer.encode(name).ids], np.int64)
        rows.append(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0][0])
    made = np.stack(rows)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    if what == "models":
        write_models(Path(folder))
    else:
        write_pair(Path(folder), *rest)
