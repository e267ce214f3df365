"""The CLIP-style text tower of UniCL: tokens to hidden states, causal or looking both ways.

Parameter names are the published ones (``resblocks.N.attn.in_proj_weight``, ``ln_1``, ``mlp.c_fc``, ...). The mask is
computed from the length of the input, so a batch may be padded to its longest text instead of the whole context:
neither a causal nor a padding-masked tower lets a real token see what stands behind the end of its text.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.drop_path import DropPath, linear_rates
from models.backbones.mlp import QuickGELU

PAD_ID = 0
LAYER_NORM_EPS = 1e-12
"""The releases were trained with the epsilon of TensorFlow's BERT; 1e-5 gives other numbers."""


@dataclass(frozen=True, slots=True)
class ClipTextConfig:
    """One text tower. ``causal`` false: every token sees all but the pads, whose id is 0.

    ``pool_first``: a text's feature is the state of its first token, as the reference has it for every tokenizer but
    CLIP's, not that of its end. It changes no name or shape, nor does ``eps`` of the norms.
    """

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    heads: int = 8
    layers: int = 12
    causal: bool = True
    pool_first: bool = False
    drop_path: float = 0.0
    eps: float = LAYER_NORM_EPS

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} cannot be shared by {self.heads} heads")


class LayerNorm(nn.LayerNorm):
    """Layer norm in float32 whatever the input, as in training."""

    def __init__(self, width: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(width, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with the packed parameters of ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, L, W)`` to the same; ``mask`` bool, broadcast to ``(B, heads, L, L)``, true where a key is seen."""
        length, width = x.shape[1:]
        qkv = F.linear(x, self.in_proj_weight, self.in_proj_bias).reshape(
            -1, length, 3, self.heads, width // self.heads
        )
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, L, W / heads)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).reshape(-1, length, width))


class ResidualAttentionBlock(nn.Module):
    """Attention and MLP on residual branches, norms before them."""

    def __init__(self, config: ClipTextConfig, drop_path: float) -> None:
        super().__init__()
        width = config.width
        self.attn = Attention(width, config.heads)
        self.ln_1 = LayerNorm(width, config.eps)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = LayerNorm(width, config.eps)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``(B, L, W)`` to the same."""
        x = x + self.drop_path(self.attn(self.ln_1(x), mask))
        return x + self.drop_path(self.mlp(self.ln_2(x)))


class ClipTextTransformer(nn.Module):
    """Token ids to hidden states; pooling and projection belong to the model around it."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.config = config
        self.dim_out = config.width
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, config.width))
        rates = linear_rates(config.drop_path, (config.layers,))[0]
        self.resblocks = nn.ModuleList(ResidualAttentionBlock(config, rate) for rate in rates)
        self.ln_final = LayerNorm(config.width, config.eps)
        nn.init.trunc_normal_(self.positional_embedding, std=0.02)
        self.apply(_initialise)

    def forward(self, input_ids: Tensor) -> Tensor:
        """``(B, L) int64``, L at most the context length, to hidden states ``(B, L, W)``."""
        length = input_ids.shape[1]
        if self.config.causal:
            place = torch.arange(length, device=input_ids.device)
            mask = (place[:, None] >= place[None, :])[None, None]  # (1, 1, L, L)
        else:
            mask = (input_ids != PAD_ID)[:, None, None, :]  # (B, 1, 1, L)
        x = self.token_embedding(input_ids) + self.positional_embedding[:length]
        for block in self.resblocks:
            x = block(x, mask)
        return self.ln_final(x)


def pool(hidden: Tensor, input_ids: Tensor, config: ClipTextConfig) -> Tensor:
    """``(B, L, W)`` to ``(B, W)``: the state at the first largest id, which is the end-of-text token's.

    Or at the first token, where ``config`` says so.
    """
    if config.pool_first:
        return hidden[:, 0]
    place = input_ids.argmax(dim=-1)[:, None, None].expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, place).squeeze(1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.trunc_normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
