"""The text tower: short batches, pads, and which token speaks for a text."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.text.clip_transformer import ClipTextConfig, ClipTextTransformer, LayerNorm, pool

EOT = 39
CONTEXT = 12


def tower(causal: bool) -> ClipTextTransformer:
    torch.manual_seed(0)
    return ClipTextTransformer(
        ClipTextConfig(vocab_size=40, context_length=CONTEXT, width=16, heads=4, layers=2, causal=causal)
    ).eval()


def padded(text: list[int], length: int, pad: int = 0) -> list[int]:
    return text + [pad] * (length - len(text))


TEXTS = [[38, 5, 6, EOT], [38, 7, EOT], [38, 9, 9, 9, 1, EOT]]


def pooled(model: ClipTextTransformer, rows: list[list[int]]) -> Tensor:
    ids = torch.tensor(rows)
    with torch.no_grad():
        return pool(model(ids), ids, model.config)


@pytest.mark.parametrize("causal", [True, False])
def test_batch_padded_to_its_longest_text_answers_as_the_full_context(causal: bool) -> None:
    model = tower(causal)
    full = pooled(model, [padded(text, CONTEXT) for text in TEXTS])
    short = pooled(model, [padded(text, 6) for text in TEXTS])
    torch.testing.assert_close(short, full)


def test_causal_tower_may_be_padded_with_the_end_of_text_token() -> None:
    model = tower(causal=True)
    zeros = pooled(model, [padded(text, CONTEXT) for text in TEXTS])
    ends = pooled(model, [padded(text, CONTEXT, EOT) for text in TEXTS])
    torch.testing.assert_close(zeros, ends)


def test_causal_token_sees_what_stands_before_it_alone() -> None:
    model = tower(causal=True)
    with torch.no_grad():
        one, other = model(torch.tensor([[38, 5, 6, 7]])), model(torch.tensor([[38, 5, 6, 20]]))
    torch.testing.assert_close(one[:, :3], other[:, :3])
    assert not torch.allclose(one[:, 3], other[:, 3])


def test_bidirectional_token_sees_what_stands_behind_it() -> None:
    model = tower(causal=False)
    with torch.no_grad():
        one, other = model(torch.tensor([[38, 5, 6, 7]])), model(torch.tensor([[38, 5, 6, 20]]))
    assert not torch.allclose(one[:, 0], other[:, 0])


def test_first_end_of_text_token_speaks_for_the_text() -> None:
    hidden = torch.arange(2 * 5 * 3, dtype=torch.float32).reshape(2, 5, 3)
    ids = torch.tensor([[38, 1, EOT, EOT, EOT], [38, 1, 2, EOT, 0]])
    assert torch.equal(pool(hidden, ids, ClipTextConfig()), torch.stack([hidden[0, 2], hidden[1, 3]]))


def test_norm_is_computed_in_float32() -> None:
    norm = LayerNorm(64)
    x = torch.randn(3, 64).half() + 300
    torch.testing.assert_close(norm(x), norm(x.float()).half())
    assert norm.eps == 1e-12


def test_width_must_divide_by_heads() -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        ClipTextConfig(width=30, heads=4)
