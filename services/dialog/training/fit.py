"""Heads fitted to examples: a few epochs over features that are already there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from services.dialog.examples import Example
from services.dialog.training.features import Features
from services.dialog.understanding.heads import Heads, pooled
from services.dialog.understanding.space import Space

_IGNORED = -100


@dataclass(frozen=True, slots=True)
class Settings:
    """How heads are fitted. ``width`` is that of the hidden layers; the rate falls to nothing by a cosine."""

    epochs: int = 12
    batch: int = 64
    width: int = 256
    rate: float = 2e-3
    weight_decay: float = 0.01
    dropout: float = 0.3
    seed: int = 0


class _Network(nn.Module):
    """The two heads with the names that :class:`Heads` reads."""

    def __init__(self, features: int, space: Space, settings: Settings) -> None:
        super().__init__()
        self.tags = nn.Sequential(
            nn.Linear(features + space.context_size, settings.width), nn.Linear(settings.width, space.tags)
        )
        self.turn = nn.Sequential(
            nn.Linear(2 * features + space.context_size, settings.width), nn.Linear(settings.width, space.turns)
        )
        self.dropout = nn.Dropout(settings.dropout)

    def head(self, layers: nn.Sequential, x: Tensor) -> Tensor:
        hidden = F.gelu(layers[0](self.dropout(x)), approximate="tanh")
        scores: Tensor = layers[1](self.dropout(hidden))
        return scores


def fit(
    space: Space,
    examples: Sequence[Example],
    features: Sequence[Features],
    settings: Settings,
    step: Callable[[int, int, Mapping[str, float]], None] = lambda done, total, metrics: None,
) -> Heads:
    """Fit heads to ``examples`` whose texts have ``features``; ``step`` is told after every epoch.

    The same examples, settings and machine give the same heads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the matrices are small: more threads wait for each other
    try:
        return _fit(space, examples, features, settings, step)
    finally:
        torch.set_num_threads(threads)


def _fit(
    space: Space,
    examples: Sequence[Example],
    features: Sequence[Features],
    settings: Settings,
    step: Callable[[int, int, Mapping[str, float]], None],
) -> Heads:
    generator = torch.Generator().manual_seed(settings.seed)
    torch.manual_seed(settings.seed)
    data = _tensors(space, examples, features)
    network = _Network(features[0].tokens.shape[1], space, settings)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=settings.weight_decay)
    batches = -(-len(examples) // settings.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * batches)

    for epoch in range(settings.epochs):
        total = 0.0
        order = torch.randperm(len(examples), generator=generator)
        for begin in range(0, len(examples), settings.batch):
            loss = _loss(network, data, order[begin : begin + settings.batch])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
        step(epoch + 1, settings.epochs, {"loss": total / batches})

    weights = {name: np.asarray(value.detach(), np.float32) for name, value in network.state_dict().items()}
    return Heads(weights)


@dataclass(frozen=True, slots=True)
class _Data:
    tokens: list[Tensor]  # (L, F) each
    tags: list[Tensor]  # (L,) each
    sentences: Tensor  # (N, 2 F)
    contexts: Tensor  # (N, C)
    turns: Tensor  # (N, T)
    weights: Tensor  # (N,)


def _tensors(space: Space, examples: Sequence[Example], features: Sequence[Features]) -> _Data:
    tags = []
    for example, feature in zip(examples, features, strict=True):
        labels = space.token_labels(example.spans, feature.offsets)
        special = np.array([end <= start for start, end in feature.offsets])
        tags.append(torch.from_numpy(np.where(special, _IGNORED, labels)))
    return _Data(
        tokens=[torch.from_numpy(feature.tokens) for feature in features],
        tags=tags,
        sentences=torch.from_numpy(np.stack([pooled(feature.tokens) for feature in features])),
        contexts=torch.from_numpy(np.stack([space.context(example.system) for example in examples])),
        turns=torch.from_numpy(np.stack([space.turn_labels(example.acts) for example in examples])),
        weights=torch.tensor([example.weight for example in examples], dtype=torch.float32),
    )


def _loss(network: _Network, data: _Data, rows: Tensor) -> Tensor:
    """Cross-entropy of the tags and of each question, every turn by its weight."""
    numbers = rows.tolist()
    lengths = torch.tensor([len(data.tokens[row]) for row in numbers])
    tokens = torch.cat([data.tokens[row] for row in numbers])
    context = data.contexts[rows].repeat_interleave(lengths, 0)
    weight = data.weights[rows]

    scores = network.head(network.tags, torch.cat([tokens, context], 1))
    wanted = torch.cat([data.tags[row] for row in numbers])
    tagging = F.cross_entropy(scores, wanted, reduction="none", ignore_index=_IGNORED)
    spread = weight.repeat_interleave(lengths)
    tag_loss = (tagging * spread).sum() / (spread * (wanted != _IGNORED)).sum().clamp(min=1e-6)

    answers = network.head(network.turn, torch.cat([data.sentences[rows], data.contexts[rows]], 1))
    asking = F.binary_cross_entropy_with_logits(answers, data.turns[rows], reduction="none").sum(1)
    return tag_loss + 0.2 * (asking * weight).sum() / weight.sum().clamp(min=1e-6)
