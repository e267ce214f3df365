"""MiniLM: published names, padding that does not matter, and sentences that are close when their meanings are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.text.minilm import MiniLM, MiniLMConfig

SMALL = MiniLMConfig(vocabulary=50, positions=16, width=32, layers=2, heads=4, hidden=64)


@pytest.fixture(scope="module")
def network() -> MiniLM:
    torch.manual_seed(0)
    return MiniLM(SMALL).eval()


def test_keys_and_shapes_are_those_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        network = MiniLM(MiniLMConfig())
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert len(shapes) == 5 + 6 * 16 and sum(p.numel() for p in network.parameters()) == 22_565_376
    assert shapes["embeddings.word_embeddings.weight"] == (30522, 384)
    assert shapes["encoder.layer.5.attention.self.query.weight"] == (384, 384)
    assert shapes["encoder.layer.0.intermediate.dense.weight"] == (1536, 384)
    assert shapes["encoder.layer.0.attention.output.LayerNorm.bias"] == (384,)


def test_embedding_has_unit_length(network: MiniLM) -> None:
    out = network(torch.randint(1, 50, (3, 8)), torch.ones(3, 8, dtype=torch.long))
    assert out.shape == (3, 32)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_padding_changes_nothing(network: MiniLM) -> None:
    ids = torch.randint(1, 50, (2, 5))
    alone = network(ids, torch.ones_like(ids))
    padded = torch.cat([ids, torch.randint(0, 50, (2, 7))], 1)
    mask = torch.cat([torch.ones_like(ids), torch.zeros(2, 7, dtype=torch.long)], 1)
    torch.testing.assert_close(network(padded, mask), alone, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_order_of_words_matters(network: MiniLM) -> None:
    ids = torch.tensor([[3, 4, 5], [5, 4, 3]])
    first, second = network(ids, torch.ones_like(ids))
    assert not torch.allclose(first, second, atol=1e-3)


@torch.no_grad()
def test_row_without_tokens_is_finite_and_disturbs_no_other(network: MiniLM) -> None:
    ids = torch.randint(1, 50, (2, 5))
    mask = torch.ones_like(ids)
    mask[1] = 0
    out = network(ids, mask)
    assert torch.isfinite(out).all()
    torch.testing.assert_close(out[:1], network(ids[:1], mask[:1]))


def test_attention_follows_the_textbook(network: MiniLM) -> None:
    attention = network.encoder["layer"][0].attention["self"]
    x = torch.randn(2, 6, 32)
    bias = torch.zeros(2, 1, 1, 6)
    bias[1, ..., 4:] = torch.finfo(torch.float32).min
    q, k, v = (
        projection(x).view(2, 6, 4, 8).transpose(1, 2)
        for projection in (attention.query, attention.key, attention.value)
    )
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(attention(x, bias), expected.transpose(1, 2).reshape(2, 6, 32))


def test_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="not divisible"):
        MiniLMConfig(width=30, heads=4)


@pytest.mark.weights
def test_pulled_encoder_puts_like_meanings_together(default_models: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    from tokenizers import Tokenizer

    folder = default_models / "minilm-l6" / "1"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(
        ["a photo of a cat", "a picture of a kitten", "the stock market fell today", "shares lost value on Monday"]
    )
    feeds = {
        "input_ids": np.array([each.ids for each in encoded], np.int64),
        "attention_mask": np.array([each.attention_mask for each in encoded], np.int64),
    }
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(["embedding"], feeds)
    cosines = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert cosines[0, 1] > 0.6 and cosines[2, 3] > 0.5 and cosines[:2, 2:].max() < 0.2
