"""A caption as a short sequence of texts: nouns, what stands before them, and what stands between phrases.

It is how captions are said to ``glip-pocket``: a noun with what belongs to it is one token, a colour or a count before
it is a token of its own, and so is the relation between two phrases. Articles say nothing, and words that no relation
is made of become ``and``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.detection.protocol import Caption

COLOURS = frozenset(("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey"))
COUNTS = frozenset(("two", "three", "four", "five"))
_ALIKE = {"gray": "grey", "violet": "purple", "2": "two", "3": "three", "4": "four", "5": "five"}
_SILENT = frozenset(("a", "an", "the", "this", "that", "these", "those", "some", "one", "1"))
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")

_RELATIONS = (
    ("left of", re.compile(r"\bleft\s+(?:of|from)\b")),
    ("right of", re.compile(r"\bright\s+(?:of|from)\b")),
    ("above", re.compile(r"\b(?:above|over|atop|on\s+top\s+of|higher\s+than)\b")),
    ("below", re.compile(r"\b(?:below|under|underneath|beneath|lower\s+than)\b")),
)
"""Said of the thing before the words, relative to the thing after them."""
_JOIN = "and"


@dataclass(frozen=True, slots=True)
class Said:
    """Tokens ``first`` to ``last`` (exclusive) say one phrase; the last of them is its noun."""

    first: int
    last: int

    def moved(self, by: int) -> Said:
        """The same among tokens of which the first ``-by`` are left out."""
        return Said(self.first + by, self.last + by)


@dataclass(frozen=True, slots=True)
class Relation:
    """The phrase of number ``subject`` is ``kind`` (left of, right of, above, below) that of number ``anchor``."""

    subject: int
    kind: str
    anchor: int


@dataclass(frozen=True, slots=True)
class TokenisedCaption:
    """``tokens`` in order, where each phrase of the caption is among them, and the relations between phrases."""

    tokens: tuple[str, ...]
    phrases: tuple[Said, ...]
    relations: tuple[Relation, ...]


def phrase_tokens(phrase: str) -> list[str]:
    """Colours and counts at the beginning of a phrase, one by one, then the rest of it.

    >>> phrase_tokens("the two red police cars")
    ['two', 'red', 'police cars']
    >>> phrase_tokens("Red")
    ['red']
    """
    words = [_ALIKE.get(word, word) for word in _WORD.findall(phrase.lower())]
    while len(words) > 1 and words[0] in _SILENT:
        words = words[1:]
    before: list[str] = []
    while len(words) > 1 and words[0] in COLOURS | COUNTS:
        before.append(words[0])
        words = words[1:]
    return [*before, " ".join(words) if words else phrase.strip().lower() or phrase]


def tokenise(caption: Caption) -> TokenisedCaption:
    """See :class:`TokenisedCaption`; phrases keep the order of ``caption.spans``.

    >>> said = tokenise(Caption("the owl to the left of a red car", ((0, 7), (23, 32))))
    >>> said.tokens, said.relations[0].kind
    (('owl', 'left of', 'red', 'car'), 'left of')
    """
    order = sorted(range(len(caption.spans)), key=lambda number: caption.spans[number])
    tokens: list[str] = []
    phrases = [Said(0, 0)] * len(order)
    relations: list[Relation] = []
    before: int | None = None
    for number in order:
        begin, end = caption.spans[number]
        if before is not None:
            between = caption.text[caption.spans[before][1] : begin].lower()
            kind = _relation(between)
            tokens.append(kind or _JOIN)
            if kind is not None:
                relations.append(Relation(before, kind, number))
        own = phrase_tokens(caption.text[begin:end])
        phrases[number] = Said(len(tokens), len(tokens) + len(own))
        tokens += own
        before = number
    return TokenisedCaption(tuple(tokens), tuple(phrases), tuple(relations))


def _relation(between: str) -> str | None:
    """The relation that words between two phrases say, if they say one and no sentence ends there."""
    if re.search(r"[.;!?]|,|\band\b", between):
        return None
    for kind, pattern in _RELATIONS:
        if pattern.search(between):
            return kind
    return None
