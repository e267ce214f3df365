"""What GLIP is asked: labels in sentences that it can read at once, a caption as it stands, and the tokens of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.glip.prompts import SEPARATION, Prompt, prompt_of, span_tokens
from services.detection.protocol import Caption
from services.errors import Kind, Problem
from services.text.tokenizer import Tokenizer

MOST_LABELS = 80
"""Of one sentence: as many as the network was trained with, and as its authors ask at most."""

SPECIAL = 2
"""Tokens at the beginning and the end of every text."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One run of the network: the text, its ids, and the tokens of each of the columns from ``first`` on."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    first: int


def asked_of_labels(tokenizer: Tokenizer, labels: Sequence[str]) -> list[Asked]:
    """Labels in order, as few runs as their tokens allow. Raises ``label-too-long`` and ``text-not-unicode``."""
    room = tokenizer.spec.max_length - SPECIAL
    separation = len(tokenizer.encoding(SEPARATION.strip()).ids) - SPECIAL
    lengths = [len(tokenizer.encoding(label).ids) - SPECIAL for label in labels]
    for index, length in enumerate(lengths):
        if length > room:
            raise _too_long("label-too-long", f"/labels/{index}", f"The label has {length:,} tokens", room)

    runs, start, used = [], 0, 0
    for index, length in enumerate(lengths):
        if index > start and (used + separation + length > room or index - start == MOST_LABELS):
            runs.append(_asked(tokenizer, prompt_of(labels[start:index]), start))
            start, used = index, 0
        used += length + (separation if index > start else 0)
    return [*runs, _asked(tokenizer, prompt_of(labels[start:]), start)]


def asked_of_caption(tokenizer: Tokenizer, caption: Caption) -> Asked:
    """The whole caption, and the tokens of its spans. Raises ``caption-too-long`` and ``text-not-unicode``."""
    asked = _asked(tokenizer, Prompt(caption.text, caption.spans), 0)
    if len(asked.ids) > tokenizer.spec.max_length:
        count, room = len(asked.ids) - SPECIAL, tokenizer.spec.max_length - SPECIAL
        raise _too_long("caption-too-long", "/caption", f"The caption has {count:,} tokens", room)
    return asked


def _asked(tokenizer: Tokenizer, prompt: Prompt, first: int) -> Asked:
    encoding = tokenizer.encoding(prompt.text)
    tokens = tuple(tuple(span_tokens(span, encoding.char_to_token)) for span in prompt.spans)
    return Asked(prompt.text, tuple(encoding.ids), tokens, first)


def _too_long(code: str, where: str, what: str, room: int) -> Problem:
    return Problem(
        Kind.INVALID,
        code,
        "The text is too long for the model",
        f"{what}; the model reads {room:,}.",
        pointer=where,
        remedy="Say it in fewer words.",
    )
