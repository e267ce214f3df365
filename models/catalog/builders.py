"""The table of what an entry's ``build`` may name: nothing else in a YAML file can choose code to run."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from models.catalog.card import Card
from models.errors import ModelError
from models.progress import Progress

Files = Mapping[str, Path | bytes]
"""Paths inside the version folder, and where their content is now."""


@dataclass(frozen=True)
class Build:
    """What a builder works with: the card to be fulfilled, the entry's options, the folders of verified source files by
    id, the repository with the models that the entry requires, and an empty scratch folder."""

    card: Card
    options: Mapping[str, str | int | float | bool]
    sources: Mapping[str, Path]
    repository: Path
    scratch: Path
    progress: Progress


@dataclass(frozen=True)
class Builder:
    """``function`` is ``module:name`` of a ``Callable[[Build], Files]``; ``packages`` are what it needs installed.

    ``encoder`` is ``module:name`` of a function ``(options, sources)`` that gives the model's image encoder in
    PyTorch, for training; a model without one may keep an encoder in its folder (:mod:`models.encoders`).
    """

    function: str
    packages: tuple[str, ...] = ()
    encoder: str = ""

    def load(self) -> Callable[[Build], Files]:
        """Import the function; raises :class:`ModelError` where a package is missing."""
        missing = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if missing:
            raise ModelError(
                f"exporting this model needs {', '.join(missing)}, which is not installed; serving does not",
                "run `make setup`, or `pip install torch==2.13.0 'sightline[train]'`",
            )
        module, _, name = self.function.partition(":")
        return cast("Callable[[Build], Files]", getattr(importlib.import_module(module), name))


EXPORT = ("torch", "onnx", "onnxscript", "onnxruntime")

BUILDERS = {
    "efficientnet-lite": Builder(
        "models.export.efficientnet_lite:build", EXPORT, encoder="models.export.efficientnet_lite:encoder"
    ),
    "minilm": Builder("models.export.minilm:build", EXPORT),
    "unicl-pocket": Builder("models.unicl.pocket.export:build_pair", EXPORT),
    "unicl-pocket-image": Builder("models.unicl.pocket.export:build_image", EXPORT),
    "unicl-pocket-text": Builder("models.unicl.pocket.export:build_text", EXPORT),
    "unicl-lite2": Builder("models.unicl.lite2.export:build_pair", EXPORT),
    "unicl-lite2-image": Builder("models.unicl.lite2.export:build_image", EXPORT),
    "unicl-lite2-text": Builder("models.unicl.lite2.export:build_text", EXPORT),
    "photo-zero-shot": Builder("models.zero_shot.build:build", ("onnx", "onnxruntime")),
}
