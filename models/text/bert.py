"""BERT's encoder (Devlin et al. 2018, arXiv 1810.04805) under the published names: one vector a token.

:mod:`models.text.minilm` pools it to one vector a text; GLIP reads its tokens, and has the same layers in its head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BertConfig:
    """Sizes of the encoder, by default those of ``bert-base-uncased``; ``positions`` bounds the number of tokens.

    ``limit`` is the largest magnitude of attention scores and of what a layer hands on; ``None`` for no limit, as in
    BERT itself.
    """

    vocabulary: int = 30522
    positions: int = 512
    segments: int = 2
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int = 3072
    eps: float = 1e-12
    limit: float | None = None

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")


class Embeddings(nn.Module):
    """Word, position and segment embeddings; every token is in segment 0, as in a single sentence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocabulary, config.width, padding_idx=0)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.segments, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, input_ids: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(input_ids) + positions + self.token_type_embeddings.weight[0])


class SelfAttention(nn.Module):
    """Multi-head attention; ``bias (B, 1, 1, L)`` is added to the scores."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.limit = config.limit
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D)
            for projection in (self.query, self.key, self.value)
        )
        scores = limited(query @ key.transpose(-1, -2) * self.scale, self.limit) + bias  # (B, H, L, L)
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)  # (B, L, width)


class Residual(nn.Module):
    """Projection, then post-norm over the residual sum."""

    def __init__(self, inner: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):
    """One post-norm transformer layer with the published nesting of names; ``bias`` as :func:`mask_bias` gives it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.limit = config.limit
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Residual(config.width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Residual(config.hidden, config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """``(B, L, width)`` and ``(B, 1, 1, L)`` to the shape of the first."""
        x = self.attention["output"](self.attention["self"](x, bias), x)
        hidden = limited(F.gelu(self.intermediate["dense"](x)), self.limit)
        return limited(self.output(hidden, x), self.limit)


class Bert(nn.Module):
    """``input_ids`` and ``attention_mask``, both ``(B, L) int64``, to one vector a token, ``(B, L, width) float32``."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.layers))})

    def tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden state of every token, those outside the mask included."""
        return self.hidden(input_ids, attention_mask)[-1]

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Return what each layer gives, ``(B, L, width)``."""
        x = self.embeddings(input_ids)
        bias = mask_bias(attention_mask, x.dtype)
        layers = []
        for layer in self.encoder.get_submodule("layer").children():
            x = layer(x, bias)
            layers.append(x)
        return layers

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.tokens(input_ids, attention_mask)


def mask_bias(attention_mask: Tensor, dtype: torch.dtype) -> Tensor:
    """``(B, L)`` of ones and zeros to what is added to attention scores, ``(B, 1, 1, L)``.

    Finite, so that a row without any token gives a number and not NaN.
    """
    return ((1.0 - attention_mask.to(dtype)) * torch.finfo(dtype).min)[:, None, None, :]


def limited(x: Tensor, limit: float | None) -> Tensor:
    """``x`` inside ``-limit`` to ``limit``, or as it is."""
    return x if limit is None else x.clamp(-limit, limit)
