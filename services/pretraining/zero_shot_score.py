"""How well a trained UniCL names pictures that it was not trained on, and finds their captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.unicl.network import class_embeddings
from models.unicl.tokens import Tokenise
from services.datasets.package import Package, Stored
from services.encoding.templates import fill
from services.media.image import read_picture
from services.media.intake import Limits
from services.media.preprocess import Preprocessor
from services.pretraining.pairs import captions_of

BATCH = 64
MOST_CAPTIONS = 1000
"""Pictures with captions that are told apart: more make the figure smaller, not better known."""


@dataclass(frozen=True, slots=True)
class Score:
    """One figure, 0 to 1, over ``n`` pictures; ``chance`` is what guessing gives."""

    metric: str
    value: float
    n: int
    chance: float


class Towers(Protocol):
    """Two towers of one space: the network, or the files that are served."""

    def encode_image(self, images: Tensor, /) -> Tensor: ...

    def encode_text(self, input_ids: Tensor, /) -> Tensor: ...


@torch.no_grad()
def scores(
    model: Towers,
    tokenise: Tokenise,
    package: Package,
    samples: Sequence[Stored],
    templates: Sequence[str],
    prepare: Preprocessor,
    limits: Limits,
    device: torch.device,
    between: Callable[[], None],
) -> list[Score]:
    """Top-1 accuracy where there are labels (any label of a picture is right), recall of its caption where not.

    ``between`` is called after each batch and may raise to stop.
    """
    labelled = [stored for stored in samples if stored.sample.labels]
    captioned = [stored for stored in samples if captions_of(stored)][:MOST_CAPTIONS]
    found: list[Score] = []

    def pictures(chosen: Sequence[Stored]) -> Tensor:
        rows = []
        for start in range(0, len(chosen), BATCH):
            part = [read_picture(package.read(stored), limits) for stored in chosen[start : start + BATCH]]
            rows.append(model.encode_image(torch.from_numpy(prepare.batch(part)).to(device)).cpu())
            between()
        return torch.cat(rows)

    def texts(chosen: Sequence[str]) -> Tensor:
        rows = []
        for start in range(0, len(chosen), BATCH):
            rows.append(model.encode_text(tokenise(chosen[start : start + BATCH]).to(device)).cpu())
            between()
        return torch.cat(rows)

    if labelled and len(package.classes) > 1:
        named = fill(package.classes, templates)
        rows = texts([text for own in named for text in own])
        classes = class_embeddings(rows.unflatten(0, (len(named), len(templates))))
        best = (pictures(labelled) @ classes.T).argmax(dim=1).tolist()
        right = [guess in stored.sample.labels for guess, stored in zip(best, labelled, strict=True)]
        found.append(Score("zero-shot top-1 accuracy", float(np.mean(right)), len(right), 1 / len(package.classes)))
    if len(captioned) > 1:
        own = texts([captions_of(stored)[0] for stored in captioned])
        nearest = (pictures(captioned) @ own.T).argmax(dim=1)
        share = float((nearest == torch.arange(len(captioned))).float().mean())
        found.append(Score("image to caption recall at 1", share, len(captioned), 1 / len(captioned)))
    return found
