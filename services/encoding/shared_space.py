"""Labels as directions of a space of pictures, joined with the definitions of what they name.

Knowledge beside the label text is K-LITE's idea (arXiv 2204.09222); here it is looked up in WordNet, as an embedding
that was made beforehand, and goes through a head of its own. The classes that the image model was trained on are points
of the space as well: they vote for labels that subsume them, and say when a picture shows something else. The arrays
are made by ``models/unicl/lite2/export.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.encoding.images import unit
from services.encoding.meanings import Evidence, Meanings

Array = NDArray[np.float32]

_LABELS_AT_ONCE = 1024
"""Labels whose kernel is held at once."""


class SharedSpace:
    """The arithmetic: D dimensions, A anchors of meanings (V numbers each, M in their metric), N classes.

    ``parameters``: ``class_share`` (how much the best subsumed class counts) and ``rank_penalty`` (see
    :class:`~services.encoding.lexicon.Lexicon`).
    """

    def __init__(self, data: Mapping[str, NDArray[Any]], parameters: Mapping[str, Any]) -> None:
        self._metric: Array = data["meaning_metric"].astype(np.float32)  # (V, M)
        self._anchors: Array = data["meaning_anchors"].astype(np.float32)  # (A, M), unit
        self._coefficients: Array = data["meaning_coefficients"].astype(np.float32)  # (A, D)
        self._width, self._share = (np.float32(value) for value in data["meaning_scales"])
        self._classes: Array = data["classes"].astype(np.float32)  # (N, D), unit
        self._shifts: Array = data["shifts"].astype(np.float32)  # (K, D)
        self._class_share = float(parameters["class_share"])
        self._meanings = Meanings(data, float(parameters["rank_penalty"]))
        self.lexicon = self._meanings.lexicon
        self.dimensions = self._classes.shape[1]

    def rows(self, labels: Sequence[str], texts: Array) -> Array:
        """``texts (C, D)``, unit, to ``(C, D + 1)``: the unit row, and the synset whose classes count too, or -1."""
        meant, voting = self._meanings.find(labels)
        joined = texts.copy()
        known = np.flatnonzero(meant >= 0)
        for begin in range(0, len(known), _LABELS_AT_ONCE):
            part = known[begin : begin + _LABELS_AT_ONCE]
            joined[part] += self._share * self._placed(self._meanings.vectors(meant[part]))
        return np.concatenate([unit(joined), voting[:, None].astype(np.float32)], axis=1)

    def _placed(self, meanings: Array) -> Array:
        """``(C, V)`` to unit rows ``(C, D)``: kernel regression."""
        cosines = unit(meanings @ self._metric) @ self._anchors.T
        return unit(np.exp(self._width * (cosines - 1)) @ self._coefficients)

    def evidence(self, embeddings: Array, rows: Array, sides: Array) -> Evidence:
        """Of pictures ``(B, D)`` whose shorter sides had ``sides (B,)`` pixels."""
        seen = unit(embeddings - self._meanings.side_weights(sides) @ self._shifts)
        voting = rows[:, -1].astype(np.int64)
        return self._meanings.vote(seen @ rows[:, :-1].T, seen @ self._classes.T, voting, self._class_share)

    def nearest(self, places: Array) -> Array:
        """The highest cosine ``(B,)`` of unit ``places (B, D)`` with any known class."""
        highest: Array = (places @ self._classes.T).max(axis=1)
        return highest
