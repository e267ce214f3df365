"""Noun phrases of an English caption, with the characters that they span.

Parts of speech are those of ``denckring-en-pos``: an averaged perceptron in plain Python, of one megabyte, that works
without a network and is loaded by the first caption. A phrase is the grammar of GLIP's demonstration (a determiner,
adjectives, nouns), with what captions have besides: numbers, participles and joined adjectives before a noun.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

Span = tuple[int, int]
"""Characters of the caption: the first, and the one after the last."""


class Tagger(Protocol):
    def tag(self, words: Sequence[str]) -> list[str]:
        """``UPOS|VerbForm`` of each word of a sentence."""
        ...


@dataclass(frozen=True, slots=True)
class _Word:
    """A word where it stands in the caption, and the letter of its part of speech in ``_PHRASE``."""

    begin: int
    end: int
    text: str


_WORD = re.compile(r"[^\W_](?:[\w\u0300-\u036f]|['’\-\u2010\u2011](?=\w))*")
"""Letters and digits with their accents, joined by hyphens and apostrophes."""

_LETTERS = {"DET": "D", "ADJ": "A", "NUM": "M", "NOUN": "N", "PROPN": "N", "ADV": "B", "CCONJ": "C"}
_POSSESSIVE = frozenset(("my", "your", "his", "her", "its", "our", "their"))
_ODD_BEGINNINGS = frozenset(("VERB", "INTJ", "X"))
_JOINS = frozenset(("and", "or"))
_DIGITS = re.compile(r"\d[\d.,]*")

_PHRASE = re.compile(
    r"D?M?(?:B*A(?:K?C?B*A)*)?(?:(?<=[DMA])P)?[AMN]*N"  # the two small red and white parked cars
    r"|D(?:B*A)+"  # the owl, where the tagger does not know the word
)
"""Over one letter a word: determiner, number, adverb, adjective, comma, conjunction, participle, noun; ``x`` is all
else."""

_PREPOSITIONS = tuple(
    tuple(text.split())
    for text in (
        "in front of",
        "in back of",
        "on top of",
        "in the middle of",
        "in the center of",
        "in the centre of",
        "next to",
        "to the left of",
        "to the right of",
        "on the left of",
        "on the right of",
        "at the left of",
        "at the right of",
        "left of",
        "right of",
        "on the left side of",
        "on the right side of",
    )
)
"""Relations whose nouns name no thing."""

_SIDES = tuple((word, "the", side) for word in ("to", "on", "at") for side in ("left", "right"))
"""Others, unless a noun follows: ``to the left lion`` names a lion."""


@cache
def tagger() -> Tagger:
    """The tagger, read when it is first asked for: about a second."""
    from denckring_en_pos import tagger as read

    model: Tagger = read()
    return model


def noun_phrases(caption: str, tagger: Tagger) -> list[Span]:
    """Where the noun phrases of ``caption`` are, in order; repeated ones each in its place.

    >>> noun_phrases("A man in a red hat holds TWO apples", tagger())
    [(0, 5), (9, 18), (25, 35)]
    """
    words = [_Word(*match.span(), match.group()) for match in _WORD.finditer(caption)]
    if not words:
        return []
    letters, of_letter = _letters(caption, words, tagger)
    spans = []
    for match in _PHRASE.finditer(letters):
        first, last = of_letter[match.start()], of_letter[match.end() - 1]
        spans.append((words[first].begin, words[last].end))
    return spans


def _letters(caption: str, words: Sequence[_Word], tagger: Tagger) -> tuple[str, list[int]]:
    """One letter a word, and one for what divides two words; with the word that each letter belongs to."""
    # Of a word with hyphens the last part says what it is; letters are those that the tagger was trained on.
    plain = [unicodedata.normalize("NFC", word.text).replace("’", "'").lower() for word in words]
    heads = [re.split(r"[-\u2010\u2011]", text)[-1] for text in plain]
    tags = tagger.tag(heads)
    if tags[0].partition("|")[0] in _ODD_BEGINNINGS and tags[0] != "VERB|Ger":
        # Half a sentence, such as "red car": with an article before it the tagger reads it as what it is.
        tags = tagger.tag(["the", *heads])[1:]
    letters = [_letter(text, tag) for text, tag in zip(plain, tags, strict=True)]
    for place, length in list(_relations(plain, letters)):
        letters[place : place + length] = "x" * length

    written, of_letter = [], []
    for index, letter in enumerate(letters):
        if index:
            between = caption[words[index - 1].end : words[index].begin].strip()
            if between:
                written.append("K" if between == "," else "x")
                of_letter.append(index - 1)
        written.append(letter)
        of_letter.append(index)
    return "".join(written), of_letter


def _letter(word: str, tag: str) -> str:
    upos, _, form = tag.partition("|")
    if word in _POSSESSIVE:
        return "D"
    if _DIGITS.fullmatch(word):
        return "M"
    if upos == "CCONJ" and word not in _JOINS:
        return "x"
    if upos == "VERB" and form in ("Part", "Ger"):
        return "A" if "-" in word else "P"
    return _LETTERS.get(upos, "x")


def _relations(words: Sequence[str], letters: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where relations begin, and of how many words they are."""
    place = 0
    while place < len(words):
        known = [one for one in _PREPOSITIONS if tuple(words[place : place + len(one)]) == one]
        if tuple(words[place : place + 3]) in _SIDES and letters[place + 3 : place + 4] not in (["A"], ["N"]):
            known.append(_SIDES[0])
        length = max(map(len, known), default=0)
        if length:
            yield place, length
        place += max(length, 1)
