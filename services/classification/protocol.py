"""What an open-vocabulary model can do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from services.encoding.texts import TextEncoder
from services.runtime.protocol import ModelHandle, Options, Tensor
from services.stages import Stages

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scored:
    """``logits`` ``(B, C)`` whose softmax is calibrated; ``none`` ``(B,)``: how likely no label fits, if known.

    ``independent`` ``(B, C)``: logits whose sigmoid scores a label by itself; ``logits`` where it is absent.
    """

    logits: Array
    none: Array | None = None
    independent: Array | None = None


class ZeroShot(Protocol):
    """One open-vocabulary model: ``text`` reads labels, ``image`` runs pictures, ``image_outputs`` are scored."""

    text: TextEncoder
    image: ModelHandle
    image_outputs: tuple[str, ...]
    templates: tuple[str, ...]

    async def rows(self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages) -> Array:
        """One row of float32 a label, ``(C, K)``."""
        ...

    def score(self, outputs: Mapping[str, Tensor], rows: Array, sides: Array) -> Scored:
        """Image outputs ``(B, ...)`` against rows ``(C, K)``. Pure NumPy, may run in a thread.

        ``sides (B,)``: the pixels of each picture's shorter side as it was sent.
        """
        ...


@runtime_checkable
class FeatureRows(Protocol):
    """A kind whose labels become directions in the image model's feature space: what a classifier may start from."""

    async def feature_rows(
        self, labels: Sequence[str], templates: Sequence[str], options: Options, stages: Stages
    ) -> Array:
        """``(C, D)`` unit rows: a picture of label c has a large product with row c."""
        ...
