"""What a fit gives: the trained model, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.encoders import ImageEncoder
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.adapted import Adapted
from services.finetuning.encoders.placing import device_of, features_of, placed
from services.finetuning.heads.head import Head, Inputs, probabilities


@dataclass(slots=True)
class Fitted:
    """The trained model and how it came about; scores are 0 to 1, ``nan`` where there was nothing to score on."""

    model: Head | Adapted
    learning_rate: float
    weight_decay: float
    epochs: int
    trials: int
    validation_score: float
    trainable: int = 0
    """Parameters of the encoder that were trained; the head's are counted by :attr:`head_parameters`."""
    batch_size: int = 64
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the strategy: those given, with what ``parts`` = ``auto`` was found to be."""
    encoder: ImageEncoder | None = None
    """For a head that was trained on this encoder's features from pictures."""

    @property
    def head(self) -> Head:
        return self.model.head if isinstance(self.model, Adapted) else self.model

    @property
    def head_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.head.parameters())

    def probabilities(self, inputs: Inputs | NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax ``(N, C)`` of features or pictures, whichever the model was fitted on."""
        if self.encoder is not None and isinstance(inputs, Pictures):
            inputs = features_of(self.encoder, inputs, self.batch_size)
        return probabilities(self.model, placed(inputs, device_of(self.model)), self.batch_size).numpy()
