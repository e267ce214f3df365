"""Features brought to mean 0 and deviation 1 by the training images, exactly and before the first batch.

The head's batch norm does the same while it trains, but what it keeps for later use lags behind: after one batch its
running statistics are nine tenths of what they began with. Few-shot trainings that validation ends early would be
scored, and served, with channels that are hardly normalised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
LEAST = 1e-6
"""Deviation of a channel that never changes."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Of every channel ``(D,)``: the mean, and one over the deviation."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, features: Array) -> Moments:
        """Those of ``features`` ``(N, D)``."""
        return cls(features.mean(axis=0), np.asarray(1 / np.maximum(features.std(axis=0), LEAST), np.float32))


def fitted_rows(rows: Array, features: Array) -> Array:
    """Class rows for raw features, made fit for normalised channels and brought to unit length.

    A head divides every channel by its deviation; a row that is to give the same score must be multiplied by it.
    """
    scaled = rows * features.std(axis=0)
    return np.asarray(scaled / np.linalg.norm(scaled, axis=1, keepdims=True).clip(1e-12), np.float32)
