"""What a fit is told, what it gives, and how a job follows it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.encoders import ImageEncoder
from services.finetuning.data.pictures import Pictures
from services.finetuning.encoders.adapted import Adapted
from services.finetuning.search.grid import Trial
from services.finetuning.training.head import Epoch, Head, HeadConfig, Inputs, Optimizer, probabilities

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


@dataclass(slots=True)
class Hooks:
    """How a job follows the fit. Any may raise to stop it; trials whose score is stored are not run again.

    ``keep`` gets the state of a phase after every epoch, as a function that copies it; ``kept`` gives back the last
    one that was stored, from which the phase goes on.
    """

    on_trial: Callable[[Trial, float], None] = lambda trial, score: None
    on_trial_epoch: Callable[[Trial, Epoch], None] = lambda trial, epoch: None
    on_epoch: Callable[[Epoch], None] = lambda epoch: None
    stored: Callable[[Trial], float | None] = lambda trial: None
    between: Callable[[], None] = lambda: None
    log: Callable[[str], None] = lambda message: None
    keep: Callable[[str, int, Callable[[], dict[str, Tensor]]], None] = lambda phase, epoch, state: None
    kept: Callable[[str], tuple[int, dict[str, Tensor]] | None] = lambda phase: None
    spent: float = 0.0
    """Seconds that earlier attempts at the same fit took."""


def device() -> torch.device:
    """The first accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_of(model: nn.Module) -> torch.device:
    """Return where a model lives."""
    return next(model.parameters()).device


def placed(inputs: Inputs | NDArray[np.float32], where: torch.device) -> Inputs:
    """Features or pictures whose rows come on a device."""
    if isinstance(inputs, Pictures):
        return inputs.to(where)
    if isinstance(inputs, np.ndarray):
        return torch.from_numpy(inputs).to(where)
    return inputs


@torch.no_grad()
def features_of(
    encoder: ImageEncoder, pictures: Pictures, batch_size: int, between: Callable[[], None] = lambda: None
) -> NDArray[np.float32]:
    """``(N, D)`` of a frozen encoder, computed on the best device by a copy where that is another."""
    where = device()
    if device_of(encoder) != where:
        encoder = copy.deepcopy(encoder).to(where)
    rows = []
    for batch in torch.arange(len(pictures)).split(batch_size):
        between()
        rows.append(encoder(pictures.to(where)[batch]).cpu().numpy())
    return np.concatenate(rows) if rows else np.empty((0, encoder.dim_out), np.float32)
