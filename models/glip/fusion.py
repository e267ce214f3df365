"""Deep fusion: picture and text attend to each other at every block of the head (arXiv 2112.03857, equation 4).

Reference: ``BiMultiHeadAttention`` and ``BiAttentionBlockForCheckpoint`` in ``maskrcnn_benchmark/utils/fuse_helper.py``
of microsoft/GLIP, whose names the parameters bear. The arithmetic is arranged for few tokens: a projection of every
place of the picture that is only multiplied with something of the text is folded into the text.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LIMIT = 50_000.0
"""Largest magnitude of a logit, as in the reference."""

NOT_A_TOKEN = -9e15
"""Added to the logits of padding."""


class BiAttention(nn.Module):
    """One set of logits between places and tokens, read in both directions."""

    def __init__(self, channels: int, text_width: int, embed_dim: int, heads: int, dropout: float = 0.1) -> None:
        super().__init__()
        if embed_dim % heads:
            raise ValueError(f"width {embed_dim} is not divisible by heads {heads}")
        self.heads = heads
        self.scale = (embed_dim // heads) ** -0.5
        self.dropout = dropout
        self.v_proj = nn.Linear(channels, embed_dim)
        self.l_proj = nn.Linear(text_width, embed_dim)
        self.values_v_proj = nn.Linear(channels, embed_dim)
        self.values_l_proj = nn.Linear(text_width, embed_dim)
        self.out_v_proj = nn.Linear(embed_dim, channels)
        self.out_l_proj = nn.Linear(embed_dim, text_width)
        for module in self.children():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, places: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, N, C)``, ``(B, T, D)`` and ``(B, T)`` of ones and zeros to what is added to the first two."""
        logits = self._logits(places, tokens)  # (B, N, H, T)
        return self._to_places(logits, tokens, mask), self._to_tokens(logits, places)

    def _logits(self, places: Tensor, tokens: Tensor) -> Tensor:
        """``v_proj(places) . l_proj(tokens)`` a head, with the weights of ``v_proj`` multiplied into the tokens."""
        key = self.l_proj(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, d)
        weight = torch.unflatten(self.v_proj.weight, 0, (self.heads, -1))  # (H, d, C)
        bias = torch.unflatten(self.v_proj.bias, 0, (self.heads, -1))  # (H, d)
        folded = (key @ weight * self.scale).flatten(1, 2)  # (B, H * T, C)
        constant = (key @ bias[..., None] * self.scale).flatten(1)[:, None]  # (B, 1, H * T)
        logits = places @ folded.transpose(1, 2) + constant  # (B, N, H * T)
        return torch.unflatten(logits, 2, (self.heads, -1)).clamp(-LIMIT, LIMIT)

    def _to_places(self, logits: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Values of the tokens for every place; ``out_v_proj`` is multiplied into the values."""
        padding = (mask == 0).to(logits.dtype) * NOT_A_TOKEN
        shares = F.dropout((logits + padding[:, None, None]).softmax(-1), self.dropout, self.training)
        value = self.values_l_proj(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, d)
        weight = torch.unflatten(self.out_v_proj.weight.T, 0, (self.heads, -1))  # (H, d, C)
        folded: Tensor = (value @ weight).flatten(1, 2)  # (B, H * T, C)
        return shares.flatten(2) @ folded + self.out_v_proj.bias

    def _to_tokens(self, logits: Tensor, places: Tensor) -> Tensor:
        """Values of all places for every token, the places averaged before ``values_v_proj`` and not after."""
        logits = (logits - logits.amax(1, keepdim=True)).clamp(min=-LIMIT)
        exponents = logits.exp()  # (B, N, H, T)
        total = exponents.sum(1)  # (B, H, T)
        exponents = F.dropout(exponents, self.dropout, self.training)
        mean = exponents.flatten(2).transpose(1, 2) @ places  # (B, H * T, C)
        mean = torch.unflatten(mean, 1, (self.heads, -1))  # (B, H, T, C)

        weight = torch.unflatten(self.values_v_proj.weight, 0, (self.heads, -1))  # (H, d, C)
        bias = torch.unflatten(self.values_v_proj.bias, 0, (self.heads, -1))[:, None]  # (H, 1, d)
        weighted = mean @ weight.transpose(1, 2) + exponents.sum(1)[..., None] * bias  # (B, H, T, d)
        out: Tensor = self.out_l_proj((weighted / total[..., None]).transpose(1, 2).flatten(2))
        return out


class BiAttentionBlock(nn.Module):
    """Attention with norms and learned shares; what is added is added to the normalised streams."""

    def __init__(
        self, channels: int, text_width: int, embed_dim: int, heads: int, *, share: float, dropout: float
    ) -> None:
        super().__init__()
        self.layer_norm_v = nn.LayerNorm(channels)
        self.layer_norm_l = nn.LayerNorm(text_width)
        self.attn = BiAttention(channels, text_width, embed_dim, heads, dropout)
        self.gamma_v = nn.Parameter(share * torch.ones(channels))
        self.gamma_l = nn.Parameter(share * torch.ones(text_width))

    def forward(self, places: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, N, C)``, ``(B, T, D)`` and ``(B, T)`` to the first two."""
        places, tokens = self.layer_norm_v(places), self.layer_norm_l(tokens)
        to_places, to_tokens = self.attn(places, tokens, mask)
        return places + self.gamma_v * to_places, tokens + self.gamma_l * to_tokens


class Fusion(nn.Module):
    """``VLFuse``: all levels as one sequence of places, and one update of the text."""

    def __init__(
        self, channels: int, text_width: int, embed_dim: int, heads: int, *, share: float, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.b_attn = BiAttentionBlock(channels, text_width, embed_dim, heads, share=share, dropout=dropout)

    def forward(self, levels: Sequence[Tensor], tokens: Tensor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
        """``(B, C, h, w)`` a level, ``(B, T, D)`` and ``(B, T)`` to the first two."""
        flat = [level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels]  # (B, h * w, C)
        places, tokens = self.b_attn(torch.cat(flat, dim=1), tokens, mask)
        parts = places.split([part.shape[1] for part in flat], dim=1)
        fused = [
            part.reshape(-1, *level.shape[2:], level.shape[1]).permute(0, 3, 1, 2)
            for part, level in zip(parts, levels, strict=True)
        ]
        return fused, tokens
