"""What labels mean by WordNet, and what follows from it: which known classes a label subsumes, and how these vote.

The arrays are made by ``models/zero_shot/fit.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from models.catalog.card import Card
from services.encoding.images import unit
from services.encoding.lexicon import Lexicon
from services.runtime.problems import model_file_unreadable

Array = NDArray[np.float32]

_GATHERED_AT_ONCE = 2_000_000
"""Elements that the maximum over subsumed classes is taken of at once."""


def read_arrays(card: Card, folder: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a pipeline's ``data`` file; raises ``model-file-unreadable``."""
    assert card.pipeline is not None and card.pipeline.data is not None
    try:
        arrays: dict[str, NDArray[Any]] = load_file(folder / card.pipeline.data)
    except (OSError, SafetensorError) as error:
        raise model_file_unreadable(card.name, card.pipeline.data, getattr(error, "strerror", None)) from error
    return arrays


@dataclass(frozen=True, slots=True)
class Evidence:
    """``cosines (B, C)`` of pictures and labels; of each picture ``(B,)`` the highest cosine of all known classes,
    ``nearest``, and of those that no label covers, ``others`` (0 where there is none)."""

    cosines: Array
    others: Array
    nearest: Array


class Meanings:
    """A lexicon of S synsets with a vector each, and the N known classes below them.

    ``penalty`` of unusual senses: see :class:`Lexicon`.
    """

    def __init__(self, data: Mapping[str, NDArray[Any]], penalty: float) -> None:
        self._vectors: NDArray[np.int8] = data["vectors"]  # (S, V)
        self._steps: Array = data["scale"]  # (V,)
        self._below_start: NDArray[np.int64] = data["below_start"].astype(np.int64)  # (S + 1,)
        self._below: NDArray[np.int64] = data["below"].astype(np.int64)
        self._sides: Array = np.log2(data["shift_sides"].astype(np.float32))  # (K,)
        self.class_names = data["class_names"].tobytes().decode().split("\n")
        self.lexicon = Lexicon(
            data["lemmas"].tobytes().decode().split("\n"),
            data["sense_start"],
            data["sense_synset"],
            data["sense_rank"],
            data["nearness"].astype(np.float32),
            dict(zip(self.class_names, data["class_synsets"].tolist(), strict=True)),
            penalty,
        )

    def find(self, labels: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """``(C,)`` each: the synset that is meant, and the one whose classes vote for the label; -1 where none is."""
        meant = np.full(len(labels), -1, np.int64)
        voting = np.full(len(labels), -1, np.int64)
        for index, label in enumerate(labels):
            meaning = self.lexicon.find(label)
            if meaning is None:
                continue
            meant[index] = meaning.synset
            if meaning.exact and self._below_start[meaning.synset] < self._below_start[meaning.synset + 1]:
                voting[index] = meaning.synset
        return meant, voting

    def vectors(self, synsets: NDArray[np.int64]) -> Array:
        """``(C, V)``, unit: sentence embeddings of the definitions, on their principal axes."""
        return unit(self._vectors[synsets] * self._steps)

    def vote(self, cosines: Array, classes: Array, voting: NDArray[np.int64], share: float) -> Evidence:
        """Mix ``share`` of the best class that a label subsumes into its column of ``cosines (B, C)``, in place.

        ``classes (B, N)`` are the cosines of pictures and known classes.
        """
        held = np.flatnonzero(voting >= 0)
        covered = np.zeros(classes.shape[1], bool)
        if len(held):
            members, starts = self.members(voting[held])
            covered[members] = True
            cosines[:, held] *= np.float32(1 - share)
            cosines[:, held] += np.float32(share) * _maxima(classes, members, starts)
        others = np.where(covered, np.float32(0), classes).max(axis=1, initial=0)
        return Evidence(cosines, others, classes.max(axis=1))

    def side_weights(self, sides: Array) -> Array:
        """How much of each measured shift a picture gets: linear in the logarithm of its shorter side, 0 at the last.

        Small pictures are blurred when they are enlarged, which moves all their features one way.
        """
        known = self._sides
        at = np.interp(np.log2(np.maximum(sides, 1)), known, np.arange(len(known), dtype=np.float32))
        distance = np.abs(at[:, None] - np.arange(len(known)))
        weights: Array = np.maximum(0, 1 - distance).astype(np.float32)
        return weights

    def members(self, synsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The classes below each of ``synsets``, end to end, and where each synset's begin."""
        begin = self._below_start[synsets]
        count = self._below_start[synsets + 1] - begin
        starts = np.cumsum(count) - count
        return self._below[np.repeat(begin - starts, count) + np.arange(int(count.sum()))], starts


def _maxima(classes: Array, members: NDArray[np.int64], starts: NDArray[np.int64]) -> Array:
    """``(B, len(starts))``: the highest of ``classes[:, members]`` in each stretch."""
    step = max(1, _GATHERED_AT_ONCE // max(1, len(members)))
    parts = [
        np.maximum.reduceat(classes[begin : begin + step][:, members], starts, axis=1)
        for begin in range(0, len(classes), step)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
