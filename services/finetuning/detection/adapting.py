"""One detector adapted to photos with boxes, by any of the methods: what jobs of fine-tuning and benchmarks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.catalog.card import Card
from models.catalog.labels import label_set
from models.nanodet.network import NanoDet
from models.progress import silent
from models.repository.reading import latest
from models.zero_shot.texts import embed
from services.finetuning.detection.network import Probe, base_network, likeness, with_classes
from services.finetuning.detection.photos import Photos
from services.finetuning.detection.probing import probe
from services.finetuning.detection.training import Hooks, Settings, train, trainable

SEEN = 1500
"""Photos that training sees, about: a small set is seen as often as that takes, within the epochs that are allowed."""
RATES: Mapping[str, float] = {"full": 1e-3, "lora": 2e-3}
DECAY = 0.05
BATCH = 8
TEXT = "minilm-l6"
"""Embeds the names of classes, where it is pulled."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """``passes`` over the photos were made."""

    detector: NanoDet | Probe
    passes: int
    trainable: int


def passes_of(photos: int, epochs: int) -> int:
    """How often so many photos are seen in training."""
    return max(1, min(epochs, math.ceil(SEEN / photos)))


def adapt(
    folder: Path,
    card: Card,
    classes: Sequence[str],
    photos: Photos,
    *,
    method: str,
    models_dir: Path,
    language: bool = True,
    epochs: int = 50,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
    over: Callable[[], bool] = lambda: False,
    told: Callable[[int], None] = lambda done: None,
    hooks: Hooks | None = None,
) -> Adapted:
    """Adapt the detector in ``folder`` to ``classes``; ``told`` hears of photos that were looked at.

    ``language``: class rows begin as mixtures of those that the detector knows, by the likeness of their names.
    ``hooks`` in place of ``over`` and ``told`` where a training is to be followed and kept.
    """
    network = base_network(folder, card)
    mix = _mix(folder, card, classes, network, models_dir if language else None)
    if method == "linear_probe":
        made = probe(network, photos, mix, told)
        return Adapted(made, 1, sum(parameter.numel() for parameter in made.head.parameters()))

    detector = with_classes(network, mix)
    settings = Settings(
        method=method,
        learning_rate=learning_rate or RATES[method],
        weight_decay=DECAY if weight_decay is None else weight_decay,
        batch_size=min(batch_size, BATCH),
        passes=passes_of(len(photos), epochs),
        seed=seed,
    )
    assert card.image is not None
    ground = [-mean / std for mean, std in zip(card.image.mean, card.image.std, strict=True)]
    followed = hooks or Hooks(lambda number, share, loss: told(len(photos)), lambda done, state: None, None, over)
    passes = train(detector, photos, settings, torch.tensor(ground), followed)
    return Adapted(detector, passes, trainable(detector, method))


def _mix(folder: Path, card: Card, classes: Sequence[str], network: NanoDet, models_dir: Path | None) -> Tensor:
    """``(K, C)``: which known classes each new one begins as; evenly where nothing is to be assumed."""
    count = network.config.num_classes
    even = torch.full((len(classes), count), 1 / count)
    encoder = None if models_dir is None else latest(models_dir, TEXT)
    if encoder is None or card.label_set is None:
        return even
    file = folder / card.label_set
    known = file.read_text("utf-8").splitlines() if file.is_file() else label_set(card.label_set)
    names = [name.replace("-", " ").replace("_", " ") for name in [*classes, *known]]
    texts = torch.from_numpy(embed(encoder, names, silent))
    return likeness(texts[: len(classes)], texts[len(classes) :])
