"""Texts to ids, with the tokenizer file of a model's version folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from models.catalog.card import TextPreprocess
from services.errors import Kind, Problem
from services.text.cleaning import clean_clip

Ids = NDArray[np.int64]

_BATCH = 32
"""From here on the library's own threads are worth waking."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """``ids`` of each text as the model sees it, special tokens included.

    ``cut`` tells of those that were longer than the model reads: how many tokens the whole text is, by its index.
    ``unread`` are indices of texts of which the model reads nothing: no part of them is in its vocabulary.
    """

    ids: list[list[int]]
    cut: dict[int, int]
    unread: tuple[int, ...]

    @property
    def count(self) -> int:
        """Tokens that the model sees, special ones included, padding not."""
        return sum(map(len, self.ids))


class Tokenizer:
    """One model's tokenizer, as its card's ``text`` asks: cut to ``max_length``, padded here and not by the file.

    Threads may share it. Raises ``tokenizer-unreadable`` when the file is missing or is not a tokenizer.
    """

    def __init__(self, folder: Path, spec: TextPreprocess) -> None:
        self.spec = spec
        try:
            if Path(spec.tokenizer).name != spec.tokenizer:
                raise ValueError("it is not a file of the version folder")
            self._tokenizer = tokenizers.Tokenizer.from_buffer((folder / spec.tokenizer).read_bytes())
        except Exception as error:  # the library raises bare Exception on a file that it cannot read
            raise Problem(
                Kind.UNAVAILABLE,
                "tokenizer-unreadable",
                "Tokenizer cannot be read",
                f"{spec.tokenizer} of {folder.parent.name}: {getattr(error, 'strerror', None) or error}",
                remedy="Pull or import the model again.",
                retry_after=10.0,
            ) from error

        self._tokenizer.no_padding()
        # The file's own post-processor adds the special tokens after the cut: a long text still ends with its end.
        self._tokenizer.enable_truncation(spec.max_length)
        self._added = len(self._tokenizer.encode("").ids)
        self._unknown = self._unknown_id()

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The ids of each text, at most ``max_length``, and which were cut. Raises ``text-not-unicode``."""
        prepared = [self._prepare(text) for text in texts]
        try:
            if len(prepared) < _BATCH:
                encodings = [self._tokenizer.encode(text) for text in prepared]
            else:
                encodings = self._tokenizer.encode_batch_fast(prepared)
        except (UnicodeEncodeError, TypeError):  # which of them depends on the library's version
            raise not_unicode() from None

        ids = [encoding.ids for encoding in encodings]
        cut: dict[int, int] = {}
        for index, encoding in enumerate(encodings):
            if len(ids[index]) == self.spec.max_length and (rest := encoding.overflowing):
                # Each piece of the rest got special tokens of its own.
                cut[index] = len(ids[index]) + sum(len(piece.ids) - self._added for piece in rest)
        return Tokens(ids, cut, tuple(index for index, row in enumerate(ids) if self._reads_nothing(row)))

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, special tokens included, at most ``max_length``. Raises ``text-not-unicode``."""
        return self.tokenize(texts).ids

    def aligned(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """The ids of each text as :meth:`ids` gives them, and which characters of it each stands for (special ones for
        none: ``(0, 0)``). Raises ``text-not-unicode``; ``ValueError`` for a card whose ``clean`` moves characters."""
        if self.spec.clean != "none" or self.spec.lowercase:
            raise ValueError(f"clean {self.spec.clean!r} or lowercase change a text before it is split")
        try:
            encodings = self._tokenizer.encode_batch(list(texts))
        except (UnicodeEncodeError, TypeError):
            raise not_unicode() from None
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    @cached_property
    def _uncut(self) -> tokenizers.Tokenizer:
        copy = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        copy.no_truncation()
        return copy

    def encoding(self, text: str) -> tokenizers.Encoding:
        """The whole of ``text``, however long, with the place of every token in it. Raises ``text-not-unicode``.

        Characters are those of the text as it is given, where the card asks for no other cleaning than lower case.
        """
        try:
            return self._uncut.encode(self._prepare(text))
        except (UnicodeEncodeError, TypeError):
            raise not_unicode() from None

    def pack(self, rows: Sequence[Sequence[int]]) -> dict[str, Ids]:
        """Ids to the model's inputs by name, ``(B, L) int64`` each: padded ids and, if the card has one, the mask.

        L is the longest row, or ``max_length`` with ``padding: max``.
        """
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        longest = self.spec.max_length if self.spec.padding == "max" else int(lengths.max(initial=1))
        ids = np.full((len(rows), longest), self.spec.pad_id, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        inputs = {self.spec.ids_input: ids}
        if self.spec.mask_input is not None:
            inputs[self.spec.mask_input] = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        return inputs

    def encode(self, texts: Sequence[str]) -> dict[str, Ids]:
        """The inputs of one batch of texts; see :meth:`pack`."""
        return self.pack(self.ids(texts))

    def never_cut(self, text: str) -> bool:
        """Return whether ``text`` is surely not cut, without tokenising it.

        No token is shorter than a character, but for one that some tokenizers put in front.
        """
        return text.isascii() and len(text) + 1 + self._added <= self.spec.max_length

    def _reads_nothing(self, row: list[int]) -> bool:
        content = len(row) - self._added
        return content <= 0 or (self._unknown is not None and row.count(self._unknown) == content)

    def _unknown_id(self) -> int | None:
        """The id that stands for what is not in the vocabulary; ``None`` where every byte has an id."""
        name = getattr(self._tokenizer.model, "unk_token", None)
        unknown = None if name is None else self._tokenizer.token_to_id(name)
        # CLIP names its end as the unknown token too, and needs none.
        return None if unknown in self._tokenizer.encode("").ids else unknown

    def _prepare(self, text: str) -> str:
        if self.spec.clean == "clip":
            text = clean_clip(text)
        return text.lower() if self.spec.lowercase else text


def not_unicode() -> Problem:
    """A text with half a surrogate pair: JSON can spell it, UTF-8 cannot."""
    return Problem(
        Kind.INVALID,
        "text-not-unicode",
        "Text is not Unicode",
        "The text holds half of a surrogate pair.",
        remedy="Send text that can be written as UTF-8.",
    )
