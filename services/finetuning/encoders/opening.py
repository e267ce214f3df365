"""The PyTorch encoder behind a served model: from its folder, from the catalog, or from what it was adapted from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file

from models.catalog.card import Card
from models.catalog.catalog import Catalog
from models.encoders import DESCRIPTION, ImageEncoder, read_encoder
from models.errors import ModelError
from models.export.precision import LEAST
from models.families import builder
from models.intake.sources.fetch import fetch
from models.repository.reading import MODEL, RepositoryError, read_card
from services.errors import Kind, Problem
from services.finetuning.encoders.adapted import apply, load_adapter
from services.finetuning.strategies.base import merged

TOLERANCE = 1e-3
"""Of the largest feature, between PyTorch and a served file that is exact; of others the cosine says it."""


def open_encoder(folder: Path, card: Card, repository: Path, cache: Path) -> ImageEncoder:
    """The encoder that gives what ``card``'s embedding output gives, in eval mode on the CPU.

    Raises :class:`Problem`: ``encoder-not-trainable`` for a model that exists as an ONNX file only,
    ``encoder-damaged`` where the files do not fit or compute something else than the served file.
    """
    try:
        encoder = _find(folder, card, repository, cache)
    except (OSError, ValueError, KeyError, SafetensorError, ModelError) as error:
        raise _damaged(card, str(error)) from error
    if encoder is None:
        raise not_trainable(card)
    _compare(encoder, folder, card)
    return encoder


def describe_adapted(base: Card, method: str, options: dict[str, Any], adapter: str) -> bytes:
    """``encoder.json`` of a version that is ``base`` with an adapter: kilobytes in place of another copy."""
    content = {
        "base": {"model": base.name, "version": base.version, "sha256": base.files[MODEL]},
        "method": method,
        "options": options,
        "adapter": adapter,
    }
    return json.dumps(content, indent=1).encode()


def not_trainable(card: Card) -> Problem:
    """The refusal of a model whose network is not known, only its ONNX file."""
    return Problem(
        Kind.INVALID,
        "encoder-not-trainable",
        "The encoder cannot be trained",
        f"Model {card.name!r} is an ONNX file without the network and weights that it was made from.",
        pointer="/parameters/model",
        remedy='Use the method "linear_probe", which needs none, or pull or convert a model of the catalog.',
    )


def _find(folder: Path, card: Card, repository: Path, cache: Path) -> ImageEncoder | None:
    if DESCRIPTION in card.files:
        content = json.loads((folder / DESCRIPTION).read_bytes())
        return _adapted(content, folder, repository, cache) if "base" in content else read_encoder(folder)
    return _from_catalog(card, cache)


def _from_catalog(card: Card, cache: Path) -> ImageEncoder | None:
    """The network that the catalog's entry is exported from; its sources are in the cache since the pull."""
    catalog = Catalog.read()
    entry = catalog.entries.get(card.name)
    if entry is None or entry.card.provenance != card.provenance:
        return None

    encoder = builder(entry).encoder
    if encoder is None:
        return None
    sources = {source: fetch(source, cache, lock=dict(catalog.sources)) for source in entry.sources}
    return encoder(entry.options, sources)


def _adapted(content: dict[str, Any], folder: Path, repository: Path, cache: Path) -> ImageEncoder | None:
    """The base with the adapter merged into it; ``None`` where the base has no encoder or the adapter stays apart."""
    base = repository / content["base"]["model"] / content["base"]["version"]
    try:
        card = read_card(base)
    except RepositoryError:
        card = None

    if card is None or card.files.get(MODEL) != content["base"]["sha256"]:
        raise ValueError(f"it was adapted from {base.parent.name} version {base.name}, which is no longer there")

    encoder = _find(base, card, repository, cache)
    if encoder is None:
        return None

    prepared = apply(encoder, content["method"], content["options"])
    load_adapter(prepared, load_file(folder / content["adapter"]))
    plain, whole = merged(prepared)
    if not whole:
        raise ValueError(
            f"the adapters of {content['method']} stay beside its weights; adapt {base.parent.name} again instead"
        )

    return plain.requires_grad_(True)


def _compare(encoder: ImageEncoder, folder: Path, card: Card) -> None:
    """Refuse an encoder that gives other features than the served file."""
    assert card.square is not None and card.embedding is not None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / MODEL, options, providers=["CPUExecutionProvider"])
    side = card.square.size
    images = np.random.default_rng(0).standard_normal((2, 3, side, side)).astype(np.float32)
    (expected,) = session.run([card.embedding], {card.square.input: images})
    with torch.no_grad():
        found = encoder(torch.from_numpy(images)).numpy()
    if found.shape != expected.shape or not _alike(found, expected, LEAST.get(card.engine.precision)):
        raise _damaged(card, "its network gives other features than the served file")


def _alike(found: NDArray[np.float32], expected: NDArray[np.float32], cosine: float | None) -> bool:
    if cosine is None:
        return bool(np.abs(found - expected).max() <= TOLERANCE * max(1e-6, float(np.abs(expected).max())))
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return bool(((found * expected).sum(axis=1) >= cosine * lengths).all())


def _damaged(card: Card, why: str) -> Problem:
    return Problem(
        Kind.INVALID,
        "encoder-damaged",
        "The encoder cannot be opened",
        f"Model {card.name!r}: {why}.",
        pointer="/parameters/model",
        remedy=f"Pull or convert {card.name!r} again.",
    )
