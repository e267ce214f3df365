"""MiniLM sentence encoder: a small BERT with mean pooling and unit length inside the graph.

BERT is Devlin et al. 2018 (arXiv 1810.04805); the distillation is MiniLM, Wang et al. 2020 (arXiv 2002.10957); the
pooling is Sentence-BERT, Reimers & Gurevych 2019 (arXiv 1908.10084). Parameter names are those of the published
``model.safetensors`` of all-MiniLM-L6-v2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class MiniLMConfig:
    """Sizes of the encoder; ``positions`` bounds the number of tokens."""

    vocabulary: int = 30522
    positions: int = 512
    segments: int = 2
    width: int = 384
    layers: int = 6
    heads: int = 12
    hidden: int = 1536
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by heads {self.heads}")


class Embeddings(nn.Module):
    """Word, position and segment embeddings; every token is in segment 0, as in a single sentence."""

    def __init__(self, config: MiniLMConfig) -> None:
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

    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.scale = (config.width // config.heads) ** -0.5
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, L, D)
            for projection in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) * self.scale + bias  # (B, H, L, L)
        return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)  # (B, L, width)


class Residual(nn.Module):
    """Projection, then post-norm over the residual sum."""

    def __init__(self, inner: int, config: MiniLMConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.eps)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class Layer(nn.Module):
    """One post-norm transformer layer with the published nesting of names."""

    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": SelfAttention(config), "output": Residual(config.width, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, config.hidden)})
        self.output = Residual(config.hidden, config)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.attention["output"](self.attention["self"](x, bias), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class MiniLM(nn.Module):
    """``input_ids`` and ``attention_mask``, both ``(B, L) int64``, to ``(B, width) float32`` of unit length."""

    def __init__(self, config: MiniLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer(config) for _ in range(config.layers))})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.pooled(self.hidden(input_ids, attention_mask)[-1], attention_mask)

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """Return what each layer gives, ``(B, L, width) float32``."""
        mask = attention_mask.to(self.embeddings.word_embeddings.weight.dtype)  # (B, L)
        # Finite, so that a row without any token gives a number and not NaN.
        bias = ((1.0 - mask) * torch.finfo(mask.dtype).min)[:, None, None, :]
        layers = []
        x = self.embeddings(input_ids)
        for layer in self.encoder.get_submodule("layer").children():
            x = layer(x, bias)
            layers.append(x)
        return layers

    def pooled(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean of the last layer over the tokens that count, at unit length, ``(B, width)``."""
        mask = attention_mask.to(x.dtype)
        weights = mask / mask.sum(1, keepdim=True).clamp(min=1.0)
        return F.normalize((x * weights[..., None]).sum(1), dim=-1)
