"""Texts to the ids that a UniCL text tower takes: ended by the end-of-text token, padded with zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from models.errors import ModelError
from models.text.clip_transformer import PAD_ID

Tokenise = Callable[[Sequence[str]], Tensor]


class TokenizerError(ModelError):
    """A tokenizer whose ids a UniCL text tower cannot pool."""


def from_file(file: Path, context_length: int, vocab_size: int) -> Tokenise:
    """A function from texts to ``(B, L) int64``, L the longest of them and at most ``context_length``.

    ``file`` is a ``tokenizer.json`` whose post-processor adds the end-of-text token, the largest id of all: the tower
    takes the state at the largest id. Raises :class:`TokenizerError` when it is not so.
    """
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises this very class
        raise TokenizerError(f"{file} is no tokenizer: {error}", "Give a tokenizer.json of the library.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    end = tokenizer.encode("").ids[-1:]
    if end != [tokenizer.get_vocab_size() - 1] or end[0] >= vocab_size:
        raise TokenizerError(
            f"{file.name} ends a text with id {end} of {tokenizer.get_vocab_size()}; the tower knows {vocab_size}",
            "Give the end-of-text token the largest id and let the post-processor add it.",
        )

    def tokenise(texts: Sequence[str]) -> Tensor:
        rows = [_cut(encoding.ids, context_length) for encoding in tokenizer.encode_batch(list(texts))]
        length = max(len(row) for row in rows)
        return torch.tensor([row + [PAD_ID] * (length - len(row)) for row in rows])

    return tokenise


def _cut(ids: list[int], length: int) -> list[int]:
    """At most ``length`` ids, the last of them the end of text however long the text was."""
    return ids if len(ids) <= length else [*ids[: length - 1], ids[-1]]
