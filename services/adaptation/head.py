"""The classification head of ELEVATER and its training on fixed features.

Reference: ``Classifier`` and ``train_task`` of ``vision_benchmark/evaluation/full_model_finetune.py``. Features are
normalised per channel by a batch norm without parameters, scaled, and multiplied by a linear layer whose rows may
start as the classes' text embeddings (language-aware initialisation, ELEVATER section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

LogitScale = Literal["none", "clip", "ln_cls", "pretrained"]
CLIP_LOG_SCALE = math.log(1 / 0.07)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """``TRAIN.*`` of the toolkit: USE_CHANNEL_BN, NORMALIZE_VISUAL_FEATURE, LOGIT_SCALE_INIT."""

    channel_bn: bool = True
    normalize: bool = False
    logit_scale: LogitScale = "none"
    pretrained_log_scale: float = CLIP_LOG_SCALE


class Head(nn.Module):
    """``(B, D) float32`` features to ``(B, C)`` logits."""

    logit_scale: Tensor

    def __init__(self, dim: int, classes: int, config: HeadConfig, text: Tensor | None = None) -> None:
        """``text`` ``(C, D)``: unit rows that the linear layer starts from, with bias 0."""
        super().__init__()
        self.config = config
        self.channel_bn = nn.BatchNorm1d(dim, affine=False) if config.channel_bn else nn.Identity()
        self.linear = nn.Linear(dim, classes)
        start = {"none": 0.0, "clip": CLIP_LOG_SCALE, "pretrained": config.pretrained_log_scale}
        log_scale = math.log(math.log(classes)) if config.logit_scale == "ln_cls" else start[config.logit_scale]
        self.register_buffer("logit_scale", torch.tensor(log_scale, dtype=torch.float32))
        if text is not None:
            with torch.no_grad():
                self.linear.weight.copy_(text)
                self.linear.bias.zero_()

    def forward(self, features: Tensor) -> Tensor:
        features = self.channel_bn(features)
        if self.config.normalize:
            features = functional.normalize(features, dim=-1)
        logits: Tensor = self.logit_scale.exp() * self.linear(features)
        return logits

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight ``(C, D)`` and bias ``(C,)`` of the one linear layer that equals this head in evaluation.

        Raises ``ValueError`` with ``normalize``, which is not linear.
        """
        if self.config.normalize:
            raise ValueError("a head that normalises its features cannot be folded into a linear layer")
        scale = self.logit_scale.exp()
        weight: Tensor = self.linear.weight
        bias: Tensor = self.linear.bias
        if isinstance(self.channel_bn, nn.BatchNorm1d):
            mean, var = self.channel_bn.running_mean, self.channel_bn.running_var
            assert mean is not None and var is not None
            weight = weight * (var + self.channel_bn.eps).rsqrt()
            bias = bias - weight @ mean
        return (scale * weight).detach(), (scale * bias).detach()


@dataclass(frozen=True, slots=True)
class Probe:
    """Optimisation of a head: SGD, momentum 0.9, weight decay on weight and bias, constant learning rate."""

    learning_rate: float
    weight_decay: float
    epochs: int = 10
    batch_size: int = 64
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch ended with; ``loss`` is the mean over its batches."""

    number: int
    loss: float
    metric: float


def train_probe(
    head: Head,
    features: Tensor,
    labels: Tensor,
    probe: Probe,
    score: Callable[[Tensor], float] | None = None,
    validation: Tensor | None = None,
) -> Iterator[Epoch]:
    """Train ``head`` on ``features`` ``(N, D)`` and ``labels`` ``(N,)`` int64 or ``(N, C)`` 0/1, an epoch at a time.

    ``score`` turns softmax probabilities ``(M, C)`` of ``validation`` ``(M, D)`` into the epoch's metric. Batches
    are shuffled by a generator seeded with ``probe.seed``; a batch of one image is skipped, since a batch norm has
    no variance there. The caller may stop early by closing the iterator, and may read the head between epochs.
    Raises ``FloatingPointError`` when the loss is not finite.
    """
    optimizer = torch.optim.SGD(
        head.parameters(), lr=probe.learning_rate, momentum=0.9, weight_decay=probe.weight_decay
    )
    generator = torch.Generator().manual_seed(probe.seed)
    loss_of = functional.cross_entropy if labels.ndim == 1 else functional.binary_cross_entropy_with_logits
    for number in range(1, probe.epochs + 1):
        head.train()
        losses: list[float] = []
        for batch in torch.randperm(len(features), generator=generator).split(probe.batch_size):
            if len(batch) == 1:
                continue
            loss = loss_of(head(features[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        mean = sum(losses) / max(1, len(losses))
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss is {mean} in epoch {number} at learning rate {probe.learning_rate:g}; use a smaller one"
            )
        metric = score(probabilities(head, validation)) if score is not None and validation is not None else math.nan
        yield Epoch(number, mean, metric)


@torch.no_grad()
def probabilities(head: Head, features: Tensor) -> Tensor:
    """Softmax over classes ``(N, C)`` in evaluation mode; also for several labels, as the toolkit does."""
    head.eval()
    scores: Tensor = head(features).softmax(dim=-1)
    return scores
