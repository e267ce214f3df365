"""Which concepts no training may see: drawn by families, so that no near duplicate of an unseen one is trained on.

Two core concepts are of one family when their names say the same thing but for colour, size, direction and the like,
or when their Noto drawings are nearly the same pixels; families of families are joined. A drawing with a title is
left out of training when the title names an unseen concept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from models.unicl.pocket.concepts import Concept

UNSEEN_SHARE = 0.2
UNSEEN_SEED = 1234
ALIKE = 0.965
"""Cosine of centred 16 x 16 pixels, transparency included, from which two drawings count as one."""

MODIFIERS = frozenset(
    """
    a an and at of in on the with for to red orange yellow green blue purple brown black white grey gray
    light pink large medium small big little left right up down upper lower facing pointing face button
    symbol sign mark new full half first last quarter waxing waning crescent heavy double open closed empty
    thirty o'clock oclock one two three four five six seven eight nine ten eleven twelve 1 2 3 1st 2nd 3rd
    place japanese not back
    """.split()  # noqa: SIM905
)


def content_words(text: str) -> frozenset[str]:
    """Return what a name says once colour, size, direction and number are gone; everything if nothing else is left."""
    words = [re.sub(r"(?<=\w\w)s$", "", word) for word in re.findall(r"[\w']+", text.lower())]
    said = frozenset(word for word in words if word not in MODIFIERS)
    return said or frozenset(words)


def families(concepts: Sequence[Concept], drawings: NDArray[np.float32]) -> list[list[int]]:
    """The core concepts' indices by family, in order; ``drawings (N, D)`` are unit rows, one a concept."""
    core = [index for index, concept in enumerate(concepts) if concept.core]
    parent = {index: index for index in core}

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    named: dict[frozenset[str], int] = {}
    for index in core:
        key = content_words(concepts[index].name)
        parent[root(index)] = root(named.setdefault(key, index))
    alike = drawings[core] @ drawings[core].T
    for row, column in np.argwhere(np.triu(alike > ALIKE, 1)):
        parent[root(core[row])] = root(core[column])
    grouped: dict[int, list[int]] = defaultdict(list)
    for index in core:
        grouped[root(index)].append(index)
    return list(grouped.values())


def draw_unseen(grouped: Sequence[Sequence[int]]) -> set[int]:
    """A fifth of all concepts in whole families, by a fixed generator; the largest families stay in training."""
    wanted = int(UNSEEN_SHARE * sum(len(family) for family in grouped))
    unseen: set[int] = set()
    for place in np.random.default_rng(UNSEEN_SEED).permutation(len(grouped)):
        family = grouped[place]
        if len(family) <= max(1, wanted // 25) and len(unseen) + len(family) <= wanted:
            unseen.update(family)
    return unseen


class Names:
    """Recognises titles that name one of some concepts."""

    def __init__(self, concepts: Iterable[Concept]) -> None:
        names = {content_words(name) for concept in concepts for name in (concept.name, *concept.short_names)}
        self._names = [name for name in names if name]

    def named_in(self, title: str) -> bool:
        """Return whether the title has all the words of a name."""
        words = content_words(title) | frozenset(re.findall(r"[\w']+", title.lower()))
        return any(name <= words for name in self._names)
