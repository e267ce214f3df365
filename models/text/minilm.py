"""MiniLM sentence encoder: a small BERT with mean pooling and unit length inside the graph.

The distillation is MiniLM, Wang et al. 2020 (arXiv 2002.10957); the pooling is Sentence-BERT, Reimers & Gurevych 2019
(arXiv 1908.10084). Parameter names are those of the published ``model.safetensors`` of all-MiniLM-L6-v2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from models.text.bert import Bert, BertConfig


@dataclass(frozen=True)
class MiniLMConfig(BertConfig):
    """Sizes of the encoder, by default those of all-MiniLM-L6."""

    width: int = 384
    layers: int = 6
    hidden: int = 1536


class MiniLM(Bert):
    """``input_ids`` and ``attention_mask``, both ``(B, L) int64``, to ``(B, width) float32`` of unit length."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.pooled(self.tokens(input_ids, attention_mask), attention_mask)

    def pooled(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean of the last layer over the tokens that count, at unit length, ``(B, width)``."""
        mask = attention_mask.to(x.dtype)
        weights = mask / mask.sum(1, keepdim=True).clamp(min=1.0)
        return F.normalize((x * weights[..., None]).sum(1), dim=-1)
