"""Texts for GLIP: labels as one sentence, and which tokens of a sentence stand for what is looked for.

Reference: ``create_queries_and_maps`` and ``create_positive_map`` in ``maskrcnn_benchmark/engine`` of microsoft/GLIP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""Characters from the first to before the second."""

TokenAt = Callable[[int], int | None]
"""The token that a character belongs to; none for white space and what lies outside of the text."""

SEPARATION = ". "


@dataclass(frozen=True, slots=True)
class Wording:
    """How one label stands in a prompt: only the characters of ``name`` are looked for (ODinW's caption prompts)."""

    name: str
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence, and where each label stands in it."""

    text: str
    spans: tuple[Span, ...]


def clean_name(name: str) -> str:
    """A label as the sets name it to how it is said: nothing in brackets, no underscores.

    >>> clean_name("aerosol_can"), clean_name("baseball (ball)")
    ('aerosol can', 'baseball ')
    """
    without = re.sub(r"\(.*\)", "", name)
    return without.replace("_", " ").replace("  ", " ")


def prompt_of(labels: Sequence[str | Wording], separation: str = SEPARATION, *, closing: bool = False) -> Prompt:
    """Labels in one sentence, with ``separation`` between them and, with ``closing``, after the last.

    >>> prompt_of(["person", "fire hydrant"])
    Prompt(text='person. fire hydrant', spans=((0, 6), (8, 20)))
    """
    text, spans = "", []
    for index, label in enumerate(labels):
        wording = Wording(label) if isinstance(label, str) else label
        text += (separation if index else "") + wording.prefix
        spans.append((len(text), len(text) + len(wording.name)))
        text += wording.name + wording.suffix
    return Prompt(text + (separation if closing else ""), tuple(spans))


def phrase_spans(caption: str, phrases: Sequence[str]) -> list[Span]:
    """Every place of every phrase, phrase by phrase: a phrase that is named twice has all its places twice.

    So the reference counts what it looks for in a caption; its labels are then the numbers of these places.
    """
    lower = caption.lower()
    return [match.span() for phrase in phrases for match in re.finditer(re.escape(phrase.lower()), lower)]


def span_tokens(span: Span, token_at: TokenAt) -> range:
    """The tokens of a span; where it begins or ends beside a token, up to two characters further in are tried.

    Empty where there is none.
    """
    begin, end = span
    first = _first(token_at(place) for place in (begin, begin + 1, begin + 2))
    last = _first(token_at(place) for place in (end - 1, end - 2, end - 3))
    return range(0) if first is None or last is None else range(first, last + 1)


def positive_map(spans: Sequence[Sequence[Span]], token_at: TokenAt) -> list[list[int]]:
    """The tokens that stand for each label, whose spans may be several; in order, each once."""
    return [sorted({token for span in label for token in span_tokens(span, token_at)}) for label in spans]


def _first(tokens: Iterable[int | None]) -> int | None:
    return next((token for token in tokens if token is not None), None)
