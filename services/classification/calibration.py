"""From cosines of pictures and labels to probabilities: what a card's ``scale``, ``none`` and ``alone`` are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from services.classification.protocol import Scored
from services.classification.scores import sigmoid
from services.encoding.meanings import Evidence


@dataclass(frozen=True, slots=True)
class Calibration:
    """``none`` weighs 1, the best label, the best class that no label covers, and log C; ``alone`` weighs 1, a label,
    and the best class: logits of a logistic regression. ``scale`` is the inverse temperature of the softmax."""

    scale: float
    none: tuple[float, float, float, float]
    alone: tuple[float, float, float]

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """From the parameters of a card's pipeline."""
        none, alone = parameters["none"], parameters["alone"]
        return cls(
            float(parameters["scale"]),
            (float(none[0]), float(none[1]), float(none[2]), float(none[3])),
            (float(alone[0]), float(alone[1]), float(alone[2])),
        )

    def scored(self, evidence: Evidence) -> Scored:
        cosines = evidence.cosines
        doubt = self.none[0] + self.none[1] * cosines.max(axis=1) + self.none[2] * evidence.others
        doubt += self.none[3] * np.log(cosines.shape[1])
        alone = self.alone[0] + self.alone[1] * cosines + self.alone[2] * evidence.nearest[:, None]
        logits = np.asarray(self.scale * cosines, np.float32)
        return Scored(logits, sigmoid(np.asarray(doubt, np.float32)), np.asarray(alone, np.float32))
