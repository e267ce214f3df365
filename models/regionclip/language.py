"""RegionCLIP's language encoder: OpenAI CLIP's text tower, which its pretraining leaves as it was.

Parameter names are those of ``lang_encoder.`` in the published files; OpenAI's lack the prefix alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.text.clip_transformer import ClipTextConfig, LayerNorm, ResidualAttentionBlock, pool

OPENAI_EPS = 1e-5
"""What OpenAI's norms add to the variance; UniCL's, in the same architecture, add another."""


class Transformer(nn.Module):
    """The blocks, in a module of their own as the published names have them."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(config, 0.0) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, W)`` to the same; a token sees itself and what stands before it."""
        place = torch.arange(x.shape[1], device=x.device)
        mask = (place[:, None] >= place[None, :])[None, None]  # (1, 1, L, L)
        for block in self.resblocks:
            x = block(x, mask)
        return x


class LanguageEncoder(nn.Module):
    """Token ids to the space of regions. Nothing here is brought to length one."""

    def __init__(self, config: ClipTextConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.randn(config.context_length, config.width) * 0.01)
        self.transformer = Transformer(config)
        self.ln_final = LayerNorm(config.width, config.eps)
        self.text_projection = nn.Parameter(torch.randn(config.width, dim) * config.width**-0.5)

    def hidden(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64`` to the states before the projection, ``(B, L, W)``."""
        x = self.token_embedding(input_ids) + self.positional_embedding[: input_ids.shape[1]]
        return self.ln_final(self.transformer(x))

    def tokens(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64`` to one vector a token, ``(B, L, D)``: what pretraining may match regions with."""
        return self.hidden(input_ids) @ self.text_projection

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64`` to one vector a text, ``(B, D)``: that of its end-of-text token, the largest id."""
        return pool(self.hidden(input_ids), input_ids, self.config) @ self.text_projection


def concept_embedding(texts: Tensor) -> Tensor:
    """Vectors ``(..., T, D)`` of a concept in T templates to the concept's, ``(..., D)``: their mean as they are.

    Their lengths differ, so this is not the mean of the directions that CLIP's zero-shot classifier takes.
    """
    return texts.mean(dim=-2)
