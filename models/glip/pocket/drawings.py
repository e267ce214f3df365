"""The rendered pictographs in memory, with the rows of their names: what scenes are made of."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.glip.pocket.rows import COLOURS, ROWS, WORDS
from models.unicl.pocket.build import STYLES, TRAIN_STYLES
from models.unicl.pocket.dataset import NO_MIRROR


class Drawings:
    """What ``sightline datasets build pictographs`` and :mod:`models.glip.pocket.rows` wrote into a folder."""

    def __init__(self, folder: Path) -> None:
        arrays = load_file(folder / "pictographs.safetensors")
        rows = load_file(folder / ROWS)
        meta: dict[str, Any] = json.loads((folder / "pictographs.json").read_text("utf-8"))
        self.images = arrays["images"]
        """``(N, 64, 64, 4) uint8``, RGBA."""
        self.photos = {True: arrays["photos"], False: arrays["test_photos"]}
        """``(P, 3, 192, 192) uint8``: for training, and for measures alone."""
        self.concepts: list[dict[str, Any]] = meta["concepts"]
        self.names = [str(concept["name"]) for concept in self.concepts]

        self._owner, self._style = arrays["concept"], arrays["style"]
        self.of = {style: self._drawn(style) for style in STYLES}
        """Rows of ``images`` by style and concept."""
        self.mirror = np.array([concept["category"] not in NO_MIRROR for concept in self.concepts])
        self.coloured = np.array([bool(set(name.split()) & set(COLOURS)) for name in self.names])
        """Names that say a colour themselves."""

        self.texts, self.text_start = rows["concepts"], rows["start"]
        self.name_rows, self.plural_rows = rows["names"], rows["plurals"]
        self.word_rows = dict(zip(WORDS, rows["words"], strict=True))

    def _drawn(self, style: str) -> list[NDArray[np.intp]]:
        own = np.flatnonzero((self._style == STYLES.index(style)) & (self._owner >= 0))
        own = own[np.argsort(self._owner[own], kind="stable")]
        bounds = np.searchsorted(self._owner[own], np.arange(len(self.concepts) + 1))
        return [own[start:stop] for start, stop in itertools.pairwise(bounds)]

    def drawn(self, styles: Sequence[str], concept: int) -> NDArray[np.intp]:
        """Rows of ``images`` that show a concept in any of some styles."""
        return np.concatenate([self.of[style][concept] for style in styles])

    def concepts_in(self, styles: Sequence[str], *, unseen: bool | None) -> NDArray[np.intp]:
        """Concepts with a drawing in one of the styles; ``unseen`` asks for core concepts kept from training or not."""
        found = [
            index for index, concept in enumerate(self.concepts)
            if any(len(self.of[style][index]) for style in styles)
            and (unseen is None or (concept["core"] and bool(concept["unseen"]) == unseen))
        ]  # fmt: skip
        return np.array(found)

    @property
    def trained(self) -> NDArray[np.intp]:
        """Concepts that training may draw and name."""
        drawn = self.concepts_in(TRAIN_STYLES, unseen=None)
        return drawn[[not self.concepts[index]["unseen"] for index in drawn]]

    def any_row(self, concept: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """One way to say a concept: as served half of the time, else one of its wordings, ``(256,)``."""
        if rng.random() < 0.5:
            row: NDArray[np.float32] = self.name_rows[concept]
            return row
        chosen: NDArray[np.float32] = self.texts[rng.integers(self.text_start[concept], self.text_start[concept + 1])]
        return chosen
