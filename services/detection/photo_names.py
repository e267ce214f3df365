"""Which of a closed-set detector's classes a label names: its column, or none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.encoding.lexicon import Lexicon, plain


class Columns:
    """Labels to the columns of a detector's ``classes``, by their spelling or by what WordNet says both mean.

    Only what means the same counts: ``sofa`` is a couch and ``automobile`` a car, but a ``puppy`` is not a dog, for it
    would be found in every dog.

    >>> Columns(["couch", "dog"], lexicon).of(["a sofa", "puppy"]).tolist()  # doctest: +SKIP
    [0, -1]
    """

    def __init__(self, classes: Sequence[str], lexicon: Lexicon) -> None:
        self._lexicon = lexicon
        self._by_name = {plain(name): column for column, name in enumerate(classes)}
        self._by_synset: dict[int, int] = {}
        for column, name in enumerate(classes):
            synset = self._synset(name)
            if synset is not None:
                self._by_synset.setdefault(synset, column)

    def of(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """``(L,)``: a column, or -1."""
        return np.array([self._column(label) for label in labels], np.int64)

    def _column(self, label: str) -> int:
        own = self._by_name.get(plain(label))
        if own is not None:
            return own
        synset = self._synset(label)
        return -1 if synset is None else self._by_synset.get(synset, -1)

    def _synset(self, label: str) -> int | None:
        meaning = self._lexicon.find(label)
        return meaning.synset if meaning is not None and meaning.exact else None
