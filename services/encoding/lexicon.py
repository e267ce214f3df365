"""From a label as people write it to what it means: one synset of WordNet, or none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.text.camel_case import split_camel_case

_BRACKETED = re.compile(r"\([^)]*\)")
_NOT_WORD = re.compile(r"[^a-z0-9' .-]+")
_ALTERNATIVES = re.compile(r"/|,|;| or ")
_RELATION = re.compile(r" (?:with|in|on|at|from|for|near|under|behind|and) ")
_LEADING = frozenset(("a", "an", "the", "some", "photo", "picture", "image", "of"))
_PLURALS = (("ies", "y"), ("ves", "f"), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"))
_LONGEST = 200
"""Characters; no name is longer."""
_MOST_WORDS = 4
"""A longer text is a caption: one of its nouns would stand for all that it says."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """``exact``: the whole label is a name of ``synset``; otherwise only its head is (``red car``: a car)."""

    synset: int
    exact: bool


class Lexicon:
    """``lemmas`` and their senses; see :class:`models.zero_shot.nouns.Nouns` for the arrays.

    Of several senses the one with the highest ``nearness (S,)`` less ``penalty`` times the logarithm of its place
    is meant. ``names`` are labels whose synset is known beforehand.
    """

    def __init__(
        self,
        lemmas: Sequence[str],
        sense_start: NDArray[np.uint32],
        sense_synset: NDArray[np.uint16],
        sense_rank: NDArray[np.uint8],
        nearness: NDArray[np.float32],
        names: Mapping[str, int],
        penalty: float,
    ) -> None:
        self._places = {lemma: index for index, lemma in enumerate(lemmas)}
        self._start = sense_start
        self._synset = sense_synset
        worth = nearness[sense_synset.astype(np.int64)] - penalty * np.log1p(sense_rank.astype(np.float32))
        self._worth: NDArray[np.float32] = worth.astype(np.float32)
        self._names = {plain(name): synset for name, synset in names.items()}

    def find(self, label: str) -> Meaning | None:
        """Return what ``label`` names; ``None`` if neither it nor its last words are in the lexicon."""
        if len(label) > _LONGEST:
            return None

        label = split_camel_case(label.strip())
        text = plain(label)
        for part in dict.fromkeys((text, *(plain(part) for part in _ALTERNATIVES.split(label.lower())))):
            known = self._names.get(part)
            synset = known if known is not None else self._best(part)
            if synset is not None:
                return Meaning(synset, True)

        if text.count(" ") >= _MOST_WORDS:
            return None

        words = _RELATION.split(text)[0].split()
        for begin in range(len(words)):
            synset = self._best(" ".join(words[begin:]))
            if synset is not None:
                return Meaning(synset, False)

        return None

    def _best(self, phrase: str) -> int | None:
        """The synset of the worthiest sense of ``phrase`` in any of its spellings."""
        best, worth = None, -np.inf
        for spelling in _spellings(phrase):
            place = self._places.get(spelling)
            if place is None:
                continue
            for sense in range(int(self._start[place]), int(self._start[place + 1])):
                if self._worth[sense] > worth:
                    best, worth = int(self._synset[sense]), float(self._worth[sense])
        return best


def plain(label: str) -> str:
    """Lower case, without brackets, punctuation, leading articles and ``a photo of``."""
    words = _NOT_WORD.sub(" ", _BRACKETED.sub(" ", label.lower())).strip(" .").split()
    while len(words) > 1 and words[0] in _LEADING:
        del words[0]
    return " ".join(words)


def _spellings(phrase: str) -> Iterator[str]:
    """The phrase and what it may be the plural of, with spaces, hyphens or neither between its words."""
    for form in _singulars(phrase):
        yield form
        if " " in form:
            yield form.replace(" ", "-")
            yield form.replace(" ", "")
        if "-" in form:
            yield form.replace("-", " ")
            yield form.replace("-", "")


def _singulars(phrase: str) -> Iterator[str]:
    yield phrase
    for ending, singular in _PLURALS:
        if phrase.endswith(ending) and len(phrase) > len(ending) + 1:
            yield phrase[: -len(ending)] + singular
    if phrase.endswith("men"):
        yield phrase[:-3] + "man"
    if phrase.endswith("s") and len(phrase) > 2:
        yield phrase[:-1]
