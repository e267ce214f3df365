"""The released KAdaptation code, number for number, with its baselines: the encoder of CLIP with four adapters.

Reference: ``vision_benchmark/evaluation/{model,model_lora,model_adapter,model_compacter}.py`` of eric-ai-lab/PEViT at
be6fb43f. Parameter names are the reference's. It keeps what makes the released method differ from the paper: the
value update reuses the query's fast factors, the query is scaled before its update is added, and the update is
reshaped to heads without the transpose that queries get, so that it cannot be merged into the weights. The form to
use is :mod:`models.kadaptation.deltas`; this one is for comparison.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.kadaptation.deltas import (
    KADAPTATION_SCALE,
    KRONECKER_FACTORS,
    LORA_RANK,
    LORA_SCALE,
    kronecker_sum,
)

Method = Literal["kadaptation", "lora", "adapter", "compacter"]
BOTTLENECK = 64
COMPACTER_FACTORS = 4


@dataclass(frozen=True)
class EncoderConfig:
    """A CLIP transformer; with ``patch`` a whole vision transformer for square images of ``resolution``."""

    width: int
    layers: int
    heads: int
    method: Method
    resolution: int = 0
    patch: int = 0
    output_dim: int = 0


VIT_B32 = {"width": 768, "layers": 12, "heads": 12, "resolution": 224, "patch": 32, "output_dim": 512}


def kronecker_products(slow: Tensor, fast: Tensor) -> Tensor:
    """``kron(slow[i], fast[i])`` one by one, ``(n, a * b, a * c)``: summed afterwards, as the released code does.

    Gradients of a sum depend on its order in their last digits, so :func:`kronecker_sum`, which is faster, will not do.
    """
    n, a, _ = slow.shape
    _, b, c = fast.shape
    return torch.einsum("iac,ibd->iabcd", slow, fast).reshape(n, a * b, a * c)


class SlowRules(nn.Module):
    """Holder of the shared factors: ``phm_rule1_*`` for queries, ``phm_rule2_*`` for values."""

    def __init__(self) -> None:
        super().__init__()
        n = KRONECKER_FACTORS
        self.phm_rule1_left = nn.Parameter(torch.empty(n, n, 1).uniform_(-0.01, 0.01))
        self.phm_rule1_right = nn.Parameter(torch.empty(n, 1, n).uniform_(-0.01, 0.01))
        self.phm_rule2_left = nn.Parameter(torch.empty(n, n, 1).uniform_(-0.01, 0.01))
        self.phm_rule2_right = nn.Parameter(torch.empty(n, 1, n).uniform_(-0.01, 0.01))

    def share_with(self, module: nn.Module) -> None:
        """Register these very parameters on ``module`` under the same names."""
        for name, parameter in self.named_parameters():
            module.register_parameter(name, parameter)


class Attention(nn.Module):
    """Multi-head self-attention ``(L, N, C)`` to ``(L, N, C)`` whose query and value get an update."""

    q_proj_adapter1_left: nn.Parameter
    q_proj_adapter1_right: nn.Parameter
    q_proj_adapter1: nn.Linear
    q_proj_adapter2: nn.Linear
    v_proj_adapter1: nn.Linear
    v_proj_adapter2: nn.Linear

    def __init__(self, width: int, heads: int, method: Method, rules: SlowRules | None = None) -> None:
        super().__init__()
        self.heads, self.method = heads, method
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        nn.init.xavier_uniform_(self.in_proj_weight)
        self.out_proj = nn.Linear(width, width)

        if method == "kadaptation":
            n = KRONECKER_FACTORS
            if width % n:
                raise ValueError(f"width {width} is not a multiple of the {n} Kronecker factors")
            for kind in ("q", "v"):  # the value's are counted and stored, but the released code never reads them
                self.register_parameter(f"{kind}_proj_adapter1_left", nn.Parameter(torch.zeros(n, width // n, 1)))
                self.register_parameter(f"{kind}_proj_adapter1_right", nn.Parameter(torch.zeros(n, 1, width // n)))
            self.b = nn.Parameter(torch.zeros(width))
            (rules or SlowRules()).share_with(self)
        elif method == "lora":
            for kind in ("q", "v"):
                setattr(self, f"{kind}_proj_adapter1", nn.Linear(width, LORA_RANK, bias=False))
                setattr(self, f"{kind}_proj_adapter2", nn.Linear(LORA_RANK, width, bias=False))
                nn.init.zeros_(getattr(self, f"{kind}_proj_adapter2").weight)

    def deltas(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Updates of query and value, ``(L, N, C)`` each, or none for the methods outside of the attention."""
        if self.method == "kadaptation":
            fast = self.q_proj_adapter1_left @ self.q_proj_adapter1_right
            query, value = (self._kronecker(x, kind, fast) for kind in (1, 2))
            return query, value
        if self.method == "lora":
            return (
                self.q_proj_adapter2(self.q_proj_adapter1(x)) * LORA_SCALE,
                self.v_proj_adapter2(self.v_proj_adapter1(x)) * LORA_SCALE,
            )
        return None

    def _kronecker(self, x: Tensor, kind: int, fast: Tensor) -> Tensor:
        slow = getattr(self, f"phm_rule{kind}_left") @ getattr(self, f"phm_rule{kind}_right")
        update = functional.dropout(kronecker_products(slow, fast).sum(0), 0.5, self.training)
        return (x @ update) * KADAPTATION_SCALE + self.b

    def forward(self, x: Tensor) -> Tensor:
        length, batch, width = x.shape
        head = width // self.heads
        query, key, value = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        query = query * head**-0.5
        query, key, value = (
            part.reshape(length, batch * self.heads, head).transpose(0, 1) for part in (query, key, value)
        )  # (N * heads, L, C / heads)
        updates = self.deltas(x)
        if updates is not None:  # the released reshape: no transpose, so positions and heads are mixed
            query = query + updates[0].reshape(batch * self.heads, length, head)
            value = value + updates[1].reshape(batch * self.heads, length, head)

        mixed = (query @ key.transpose(1, 2)).softmax(dim=-1) @ value
        out: Tensor = self.out_proj(mixed.transpose(0, 1).reshape(length, batch, width))
        return out


class PhmLinear(nn.Module):
    """Linear layer whose weight is ``sum_i kron(rule_i, W_left_i @ W_right_i)``; the rule is shared and frozen."""

    def __init__(self, dim_in: int, dim_out: int, rule: nn.Parameter) -> None:
        super().__init__()
        n = COMPACTER_FACTORS
        self.phm_rule = rule
        self.W_left = nn.Parameter(torch.empty(n, dim_in // n, 1))
        self.W_right = nn.Parameter(torch.empty(n, 1, dim_out // n))
        self.b = nn.Parameter(torch.zeros(dim_out))
        nn.init.xavier_uniform_(self.W_left)
        nn.init.xavier_uniform_(self.W_right)

    def forward(self, x: Tensor) -> Tensor:
        return x @ kronecker_sum(self.phm_rule, self.W_left @ self.W_right) + self.b


class Bottleneck(nn.Module):
    """Norm, down to 64, activation, up: the adapter (ReLU, linear) or Compacter (tanh-GELU, PHM) after the MLP."""

    def __init__(self, width: int, rule: nn.Parameter | None) -> None:
        super().__init__()
        self.adapter_norm_before = nn.LayerNorm(width)
        down = nn.Linear(width, BOTTLENECK) if rule is None else PhmLinear(width, BOTTLENECK, rule)
        activation = nn.ReLU() if rule is None else nn.GELU(approximate="tanh")
        # The norm appears twice in the reference's names: as itself and as the first step of the sequence.
        self.adapter_down = nn.Sequential(self.adapter_norm_before, down, activation)
        self.adapter_up = nn.Linear(BOTTLENECK, width) if rule is None else PhmLinear(BOTTLENECK, width, rule)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.adapter_up(self.adapter_down(x)) + x
        return out


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, config: EncoderConfig, rules: SlowRules | None, rule: nn.Parameter | None) -> None:
        super().__init__()
        width = config.width
        self.attn = Attention(width, config.heads, config.method, rules)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGELU(), c_proj=nn.Linear(4 * width, width))
        )
        if config.method in ("adapter", "compacter"):
            self.add_module(config.method, Bottleneck(width, rule))
        self.method = config.method

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        inner: Tensor = self.mlp(self.ln_2(x))
        if self.method in ("adapter", "compacter"):
            inner = getattr(self, self.method)(inner)
        return x + inner


class Transformer(nn.Module):
    """``(L, N, C)`` to ``(L, N, C)``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        rules = SlowRules() if config.method == "kadaptation" else None
        if rules is not None:
            rules.share_with(self)
        rule = None
        if config.method == "compacter":
            self.phm_rule = rule = nn.Parameter(torch.empty(*[COMPACTER_FACTORS] * 3), requires_grad=False)
            nn.init.normal_(rule, std=0.01)
        self.resblocks = nn.Sequential(*[Block(config, rules, rule) for _ in range(config.layers)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resblocks(x)
        return out


class VisionTransformer(nn.Module):
    """CLIP's image tower: ``(B, 3, S, S)`` to ``(B, output_dim)``."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.class_embedding = nn.Parameter(width**-0.5 * torch.randn(width))
        tokens = (config.resolution // config.patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(tokens, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Transformer(config)
        self.proj = nn.Parameter(width**-0.5 * torch.randn(width, config.output_dim))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, L, C)
        start = self.class_embedding.expand(len(images), 1, -1)
        x = self.ln_pre(torch.cat([start, patches], dim=1) + self.positional_embedding)
        x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
        out: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return out


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the released code trains in the encoder: adapters, shared factors and their biases; nothing of CLIP."""
    marks = ("adapter", "compacter", "phm_rule1", "phm_rule2", "attn.b")
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if any(mark in name for mark in marks) and not name.endswith(".phm_rule")
    }
