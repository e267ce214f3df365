"""What a fit is told: which method, which head, how long, and how its settings are found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.finetuning.heads.head import HeadConfig, Optimizer

SEARCH_EPOCHS = 10
FINAL_EPOCHS = 50
PATIENCE = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train and how. With ``learning_rate`` and ``weight_decay`` given there is no search.

    ``encoder_rate`` is the encoder's learning rate as a share of the head's, the strategy's own when absent. The
    toolkit has one rate for both (1.0), which is too much for methods that move every weight far.
    ``by`` is the metric that chooses settings, the usual one of the task when absent.
    ``trials`` and ``seconds`` bound the search and the whole fit; a search that is cut short gives its best so far.
    """

    classes: int
    multilabel: bool = False
    head: HeadConfig = field(default_factory=HeadConfig)
    learning_rate: float | None = None
    weight_decay: float | None = None
    seed: int = 0
    epochs: int = FINAL_EPOCHS
    method: str = "linear_probe"
    options: Mapping[str, Any] = field(default_factory=dict)
    search: str = "reference"
    trials: int | None = None
    seconds: float | None = None
    search_epochs: int = SEARCH_EPOCHS
    patience: int = PATIENCE
    batch_size: int = 64
    optimizer: Optimizer = "sgd"
    encoder_rate: float | None = None
    by: str | None = None

    @property
    def metric(self) -> str:
        return self.by or ("11point_mAP" if self.multilabel else "accuracy")
