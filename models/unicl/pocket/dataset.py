"""The rendered set in memory, with the text embeddings of all that training and measures may say."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.unicl.pocket.build import STYLES, TITLED, TRAIN_STYLES

NO_MIRROR = ("Symbols", "Flags")
"""Arrows, letters and flags mean something else when flipped."""


class Pictographs:
    """What ``build`` and ``texts`` wrote into a folder."""

    def __init__(self, folder: Path) -> None:
        arrays = load_file(folder / "pictographs.safetensors")
        texts = load_file(folder / "texts.safetensors")
        meta: dict[str, Any] = json.loads((folder / "pictographs.json").read_text("utf-8"))
        self.images = arrays["images"]  # (N, 64, 64, 4) uint8
        self.photos = arrays["photos"].float() / 255  # (P, 3, 192, 192)
        self.test_photos = arrays["test_photos"].float() / 255
        self.concepts: list[dict[str, Any]] = meta["concepts"]
        owner, style = arrays["concept"].numpy(), arrays["style"].numpy()
        self.title = arrays["title"]
        self.titled = np.flatnonzero(style == TITLED)
        self.row: dict[tuple[int, str], int] = {}
        for index in np.flatnonzero(owner >= 0)[::-1]:  # the first of several drawings of one style
            self.row[int(owner[index]), STYLES[style[index]]] = int(index)

        trained = style < len(TRAIN_STYLES)
        order = np.argsort(owner[trained], kind="stable")
        rows, owners = np.flatnonzero(trained)[order], owner[trained][order]
        bounds = np.searchsorted(owners, np.arange(len(self.concepts) + 1))
        self.drawings = [rows[start:stop] for start, stop in itertools.pairwise(bounds)]
        self.trained = np.array([index for index, concept in enumerate(self.concepts) if not concept["unseen"]])
        subcategories = sorted({concept["subcategory"] for concept in self.concepts})
        self.subcategory = torch.tensor([subcategories.index(concept["subcategory"]) for concept in self.concepts])
        self.mirror = torch.tensor([concept["category"] not in NO_MIRROR for concept in self.concepts])
        self.said: list[list[str]] = meta["texts"]
        self.texts = texts["concepts"]
        self.text_start = texts["concept_start"].numpy()
        self.title_texts = texts["titles"]
        self.subcategory_texts = texts["subcategories"]

    @property
    def core(self) -> list[int]:
        """Concepts that are drawn in every style."""
        return [index for index, concept in enumerate(self.concepts) if concept["core"]]

    def texts_of(self, concept: int) -> Tensor:
        """Embeddings of the ways to say it, ``(n, 384)``, the templates first."""
        return self.texts[self.text_start[concept] : self.text_start[concept + 1]]

    def trained_texts(self) -> Tensor:
        """Every text that training may say."""
        return torch.cat([*(self.texts_of(int(index)) for index in self.trained), self.title_texts])

    def any_text(self, concepts: np.ndarray[Any, Any], rng: np.random.Generator) -> Tensor:
        """One way to say each, ``(n, 384)``; the plain name a third of the time."""
        start, stop = self.text_start[concepts], self.text_start[concepts + 1]
        picked = start + (rng.random(len(concepts)) * (stop - start)).astype(np.int64)
        return self.texts[np.where(rng.random(len(concepts)) < 1 / 3, start, picked)]
