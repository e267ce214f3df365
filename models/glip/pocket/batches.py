"""Batches of scenes with their texts, as tensors; a batch depends on the seed and its number alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.glip.anchors import anchors
from models.glip.assignment import assign
from models.glip.boxes import decode
from models.glip.pocket.captions import TOKENS, Composer, Sample
from models.glip.pocket.loss import Targets
from models.glip.pocket.network import SIZES, STRIDES
from models.glip.pocket.scenes import SIDE
from models.unicl.pocket.network import DIM, normalised


class Batches:
    """Draws batches; ``teacher (N, 256)`` holds what the image tower says of every drawing."""

    def __init__(self, composer: Composer, teacher: NDArray[np.float32], size: int, seed: int) -> None:
        self._composer, self._teacher = composer, teacher
        self._size, self._seed = size, seed
        self._levels = levels(SIDE)
        self.anchors = torch.cat(self._levels)

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Targets]:
        """Pictures ``(B, 3, SIDE, SIDE)`` normalised, rows ``(B, TOKENS, 256)`` and what there is to learn."""
        rng = np.random.default_rng([self._seed, step])
        samples = [self._composer.sample(rng) for _ in range(self._size)]
        return pictures([sample.scene.picture for sample in samples]), rows(samples), self._targets(samples)

    def _targets(self, samples: Sequence[Sample]) -> Targets:
        places = len(self.anchors)
        boxes = np.zeros((len(samples), places, 4), np.float32)
        owner = np.full((len(samples), places), -1, np.int64)
        tokens = np.zeros((len(samples), places, TOKENS), np.float32)
        teacher = np.zeros((len(samples), places, DIM), np.float32)
        mask = np.zeros((len(samples), TOKENS), np.int64)
        for place, sample in enumerate(samples):
            things = sample.scene.things
            mask[place, : len(sample.rows)] = 1
            if not things:
                continue
            own = np.array([thing.box for thing in things], np.float32) - np.array([0, 0, 1, 1], np.float32)
            owner[place] = assign(self._levels, torch.from_numpy(own)).numpy()
            taken = owner[place] >= 0
            of = owner[place][taken]
            boxes[place, taken] = own[of]
            tokens[place, taken, : len(sample.rows)] = sample.positive_map()[of]
            teacher[place, taken] = self._teacher[[things[thing].drawing for thing in of]]
        return Targets(*(torch.from_numpy(array) for array in (boxes, owner >= 0, tokens, mask, teacher)))


def levels(side: int) -> list[Tensor]:
    """The anchors of each level of a square picture, ``(N_l, 4)``."""
    return [torch.from_numpy(own) for own in anchors([(side // stride,) * 2 for stride in STRIDES], SIZES, STRIDES)]


def boxes_of(deltas: Tensor) -> NDArray[np.float64]:
    """What all places say of boxes, ``(B, N, 4)``, as edges in pixels of the picture, cut there."""
    own = decode(deltas.float().numpy(), np.concatenate([level.numpy() for level in levels(SIDE)]))
    edges: NDArray[np.float64] = (own + np.array([0.0, 0.0, 1.0, 1.0])).clip(0, SIDE)
    return edges


def pictures(scenes: Sequence[NDArray[np.uint8]]) -> Tensor:
    """``(SIDE, SIDE, 3) uint8`` each to ``(B, 3, SIDE, SIDE)``, normalised."""
    return normalised(torch.from_numpy(np.stack(scenes)).permute(0, 3, 1, 2).float() / 255)


def rows(samples: Sequence[Sample]) -> Tensor:
    """The texts' rows, padded with zeros: ``(B, TOKENS, 256)``."""
    padded = np.zeros((len(samples), TOKENS, DIM), np.float32)
    for place, sample in enumerate(samples):
        padded[place, : len(sample.rows)] = sample.rows
    return torch.from_numpy(padded)
