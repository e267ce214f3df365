"""The image-text-label space that ``unicl-lite2`` is trained in, as arrays.

Labels are the classes of ImageNet, everything that WordNet puts above them, and things of which there are pictures with
a free licence. A class has no pictures here: its row in the classifier's last layer stands for them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Space:
    """``L`` synsets, ``C`` further concepts with ``N`` pictures; texts are unit sentence embeddings.

    ``pictures`` are unit features of the image model, less the mean of their source, so that what all emoji have in
    common is not taken for what one of them shows.
    """

    synsets: NDArray[np.int32]
    """``(L,)`` places in :class:`models.zero_shot.nouns.Nouns`, sorted: what is or subsumes a class of ImageNet."""
    names: Array
    """``(L, D)``: the class's name, or the synset's usual lemma."""
    descriptions: Array
    """``(L, D)``: lemma, hypernyms and definition."""
    concepts: Array
    """``(C, D)``: names of the concepts."""
    concept_synsets: NDArray[np.int32]
    """``(C,)``: what the name usually means; -1 where WordNet does not have it."""
    pictures: Array
    """``(N, F)``."""
    owners: NDArray[np.int32]
    """``(N,)``: the concept of each picture."""

    @staticmethod
    def read(path: Path) -> Space:
        return Space(**load_file(path))

    def write(self, path: Path) -> None:
        save_file({field.name: getattr(self, field.name) for field in fields(self)}, path)

    def without(self, concepts: NDArray[np.bool_]) -> Space:
        """The same without some concepts and their pictures: what is measured as hidden must not be drawn either."""
        kept = ~concepts[self.owners]
        fresh = np.cumsum(~concepts) - 1
        return replace(
            self,
            concepts=self.concepts[~concepts],
            concept_synsets=self.concept_synsets[~concepts],
            pictures=self.pictures[kept],
            owners=fresh[self.owners[kept]].astype(np.int32),
        )

    def places(self, synsets: NDArray[np.int32]) -> NDArray[np.intp]:
        """Return where ``synsets`` stand in ``self.synsets``."""
        return np.searchsorted(self.synsets, synsets)


def unit(rows: Array) -> Array:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True).clip(1e-12), np.float32)
