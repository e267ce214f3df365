"""Where models, features and pictures are computed on."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.encoders import ImageEncoder
from services.finetuning.data.pictures import Pictures
from services.finetuning.heads.head import Inputs


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
