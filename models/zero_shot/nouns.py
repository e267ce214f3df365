"""The nouns that can be photographed, as data: lemmas, their senses, what is a kind of what, what each means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

FOLDER = Path(__file__).parent / "data"
NOUNS = FOLDER / "nouns.safetensors"
SYNSETS = FOLDER / "imagenet-1k.synsets.txt"
LICENCE = FOLDER / "LICENSE.WordNet.txt"


@dataclass(frozen=True)
class Nouns:
    """``S`` synsets and ``L`` lemmas, in arrays whose rows belong together.

    ``lemmas`` sorted; the senses of lemma ``i`` are ``sense_synset[sense_start[i] : sense_start[i + 1]]`` with their
    places in WordNet's order in ``sense_rank``. Parents of synset ``s`` likewise. ``vectors (S, V) int8`` times
    ``scale (V,)`` is the sentence embedding of lemma, hypernyms and definition, on its principal axes.
    """

    lemmas: tuple[str, ...]
    sense_start: NDArray[np.uint32]
    sense_synset: NDArray[np.uint16]
    sense_rank: NDArray[np.uint8]
    parent_start: NDArray[np.uint32]
    parent: NDArray[np.uint16]
    vectors: NDArray[np.int8]
    scale: NDArray[np.float32]
    imagenet: NDArray[np.uint16]
    """The synset of every class of ImageNet-1K, in the order of the classifier's outputs."""

    @staticmethod
    def read(path: Path = NOUNS) -> Nouns:
        data = load_file(path)
        return Nouns(lemmas=tuple(data.pop("lemmas").tobytes().decode().split("\n")), **data)

    def parents(self, synset: int) -> list[int]:
        return [int(p) for p in self.parent[self.parent_start[synset] : self.parent_start[synset + 1]]]

    def unit_vectors(self) -> NDArray[np.float32]:
        rows = self.vectors.astype(np.float32) * self.scale
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12), np.float32)


class Hierarchy:
    """Ancestors and information content over the synsets of :class:`Nouns`."""

    def __init__(self, nouns: Nouns) -> None:
        self._nouns = nouns
        self._ancestors: dict[int, frozenset[int]] = {}
        self.size = len(nouns.vectors)
        under = np.zeros(self.size)
        for synset in range(self.size):
            under[list(self.ancestors(synset))] += 1
        self.content: NDArray[np.float64] = -np.log(under / self.size)
        """Nats: the rarer a synset's descendants, the more it says (Resnik 1995, arXiv cmp-lg/9511007)."""

    def ancestors(self, synset: int) -> frozenset[int]:
        """The synset itself and all of its hypernyms."""
        known = self._ancestors.get(synset)
        if known is None:
            known = frozenset({synset}).union(*(self.ancestors(parent) for parent in self._nouns.parents(synset)))
            self._ancestors[synset] = known
        return known

    def classes_below(self, classes: NDArray[np.uint16]) -> dict[int, list[int]]:
        """For each synset that is or subsumes one of ``classes``: their positions in ``classes``."""
        found: dict[int, list[int]] = {}
        for position, synset in enumerate(classes.tolist()):
            for ancestor in self.ancestors(synset):
                found.setdefault(ancestor, []).append(position)
        return found

    def nearness(self, classes: NDArray[np.uint16]) -> NDArray[np.float32]:
        """``(S,)``, 0 to 1: how much of what a synset says is said of one of ``classes`` too.

        The content of the most telling ancestor that it shares with a class, over its own; 1 for what is or subsumes
        a class.
        """
        shared = set(self.classes_below(classes))
        values = np.zeros(self.size, np.float32)
        for synset in range(self.size):
            common = [self.content[a] for a in self.ancestors(synset) if a in shared]
            values[synset] = max(common, default=0.0) / max(self.content[synset], 1e-9)
        return values
